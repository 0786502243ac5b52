//! Exchange views per second of one core: one end of a connection, both ends, and over many connections.

use std::cell::{LazyCell, RefCell};
use std::hint::black_box;
use std::net::SocketAddr;

use auditor_wire::limits::Limits;
use auditor_wire::segment::{Class, Direction, Endpoints, Segment, SocketId, Timestamp};
use auditor_wire::tracker::Tracker;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const REQUEST: &[u8] = b"GET /items/42?expand=stock HTTP/1.1\r\nHost: inventory.shop.svc:8080\r\nUser-Agent: python-requests/2.31\r\n\
Accept: application/json\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nX-Request-Id: 5f2b6c1e-8a77\r\n\
Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcCJ9.c2lnbmF0dXJlLXNpZ25hdHVyZS1zaWduYXR1cmU\r\n\r\n";
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sun, 22 Nov 2026 01:23:45 GMT\r\nContent-Type: application/json\r\n\
Content-Length: 2\r\nConnection: keep-alive\r\n\r\n{}";

/// A load of keep-alive connections that take turns.
struct Load {
    tracker: Tracker,
    connections: u16,
    both_ends: bool,
    turn: u32,
    told: usize,
}

impl Load {
    fn new(connections: u16, both_ends: bool) -> Self {
        Self { tracker: Tracker::new(Limits::default()), connections, both_ends, turn: 0, told: 0 }
    }

    /// One exchange: a request and a response, seen at one end or both.
    fn exchange(&mut self) {
        let connection = u16::try_from(self.turn % u32::from(self.connections)).expect("a remainder");
        let round = self.turn / u32::from(self.connections);
        self.turn = self.turn.wrapping_add(1);
        for (from_client, payload) in [(true, REQUEST), (false, RESPONSE)] {
            let length = u32::try_from(payload.len()).expect("a short payload");
            let sequence = round.wrapping_mul(length).wrapping_add(u32::from(connection) * 7919);
            let ends = if self.both_ends { &[true, false][..] } else { &[false] };
            let client_first = ends.iter().filter(|end| **end == from_client);
            for at_client in client_first.chain(ends.iter().filter(|end| **end != from_client)) {
                let segment =
                    segment(connection, *at_client, from_client, sequence, payload, u64::from(self.turn) * 1000);
                self.tracker.segment(black_box(&segment), &mut |observation| {
                    self.told += 1;
                    drop(black_box(observation));
                });
            }
        }
    }
}

fn segment(
    connection: u16,
    at_client: bool,
    from_client: bool,
    sequence: u32,
    payload: &[u8],
    time: u64,
) -> Segment<'_> {
    let client = SocketAddr::from(([10, 0, 0, 1], 1024 + connection));
    let server = SocketAddr::from(([10, 0, 0, 2], 80));
    let seen = Endpoints { local: client, remote: server };
    let endpoints = if at_client { seen } else { seen.reversed() };
    Segment {
        time: Timestamp(time),
        socket: SocketId(u64::from(connection) * 2 + u64::from(at_client)),
        direction: if at_client == from_client { Direction::Egress } else { Direction::Ingress },
        wire: endpoints,
        endpoints,
        sequence,
        syn: false,
        fin: false,
        rst: false,
        length: u32::try_from(payload.len()).expect("a short payload"),
        payload,
        class: if from_client { Class::Request } else { Class::Response },
        fresh: true,
        gap: false,
        complete_source: false,
        passed_over: None,
        repeat: None,
        muted: false,
        owner: None,
        cgroup: Some(1),
        netns: Some(1),
    }
}

fn track(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tracker");
    for (name, connections, both_ends) in
        [("one end", 100, false), ("both ends", 100, true), ("both ends of 10,000 connections", 10_000, true)]
    {
        // Only where it is asked for: ten thousand connections take a while.
        let warm = LazyCell::new(|| {
            let mut load = Load::new(connections, both_ends);
            for _ in 0..u32::from(connections) * 2 {
                load.exchange();
            }
            assert_eq!(load.told, usize::from(connections) * 2, "one exchange is told for each");
            RefCell::new(load)
        });
        group.throughput(Throughput::Elements(if both_ends { 2 } else { 1 }));
        group.bench_function(name, |bencher| {
            let mut load = warm.borrow_mut();
            bencher.iter(|| load.exchange());
        });
    }
    group.finish();
}

criterion_group!(benches, track);
criterion_main!(benches);
