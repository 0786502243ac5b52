//! Streams per second of one core: heads of calls as gRPC stacks and browsers send them, whole and in parts, and whole calls with
//! their frames of data.

use std::hint::black_box;
use std::net::SocketAddr;

use auditor_wire::http1::stream::Chunk;
use auditor_wire::http2::frame;
use auditor_wire::http2::stream::{Parser, What};
use auditor_wire::limits::Limits;
use auditor_wire::segment::{Class, Direction, Endpoints, Segment, SocketId, Timestamp};
use auditor_wire::tracker::Tracker;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Calls of one iteration.
const CALLS: u32 = 100;
/// Longer heads are not read.
const LIMIT: usize = 65_536;

const REQUEST: &[(&str, &str)] = &[
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/inventory.Inventory/Reserve"),
    (":authority", "inventory.shop.svc:8080"),
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-go/1.80.0"),
    ("te", "trailers"),
    (
        "authorization",
        "Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcCJ9.c2lnbmF0dXJlLXNpZ25hdHVyZS1zaWduYXR1cmU",
    ),
];
const RESPONSE: &[(&str, &str)] = &[(":status", "200"), ("content-type", "application/grpc")];
const TRAILERS: &[(&str, &str)] = &[("grpc-status", "0"), ("grpc-message", "")];

/// An encoder that puts every field into the table once and then refers to it (RFC 7541 section 6), as all that is sent is known.
#[derive(Default)]
struct Encoder {
    table: Vec<(&'static str, &'static str)>,
}

impl Encoder {
    fn block(&mut self, fields: &[(&'static str, &'static str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for field in fields {
            if let Some(place) = self.table.iter().rev().position(|known| known == field) {
                // Behind the 61 places of the fixed table; all of them fit a prefix of seven bits.
                block.push(0x80 | u8::try_from(62 + place).expect("few fields"));
            } else {
                block.push(0x40);
                for text in [field.0, field.1] {
                    block.push(u8::try_from(text.len()).expect("short texts"));
                    block.extend_from_slice(text.as_bytes());
                }
                self.table.push(*field);
            }
        }
        block
    }
}

/// A frame (RFC 9113 section 4.1).
fn framed(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(kind, flags, stream, payload)
}

/// What a client and a server say in a call after the other: the first of a connection, and one of those that follow it.
struct Conversation {
    requests: Encoder,
    responses: Encoder,
    stream: u32,
}

impl Conversation {
    fn new() -> Self {
        Self { requests: Encoder::default(), responses: Encoder::default(), stream: 1 }
    }

    /// A unary call of 100 bytes each way.
    fn call(&mut self) -> [Vec<u8>; 2] {
        let stream = self.stream;
        self.stream += 2;
        let whole = frame::END_HEADERS;
        let request = [
            framed(frame::HEADERS, whole, stream, &self.requests.block(REQUEST)),
            framed(frame::DATA, frame::END_STREAM, stream, &[0; 100]),
        ];
        let response = [
            framed(frame::HEADERS, whole, stream, &self.responses.block(RESPONSE)),
            framed(frame::DATA, 0, stream, &[0; 100]),
            framed(frame::HEADERS, whole | frame::END_STREAM, stream, &self.responses.block(TRAILERS)),
        ];
        [request.concat(), response.concat()]
    }
}

/// Header blocks in parts of a stream.
fn blocks(parser: &mut Parser, stream: &[u8], part: usize) -> usize {
    let mut found = 0;
    for bytes in stream.chunks(part) {
        let mut chunk = Chunk { bytes, sequence: 0, time: Timestamp(0), begins: true };
        while let Some(event) = parser.data(&mut chunk, LIMIT) {
            found += usize::from(matches!(event.what, What::Block(..)));
            drop(black_box(event));
        }
    }
    found
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http2");
    group.throughput(Throughput::Elements(u64::from(CALLS)));
    let mut conversation = Conversation::new();
    let opened = conversation.call();
    let calls: Vec<[Vec<u8>; 2]> = (0..CALLS).map(|_| conversation.call()).collect();
    for (name, side, heads) in [("requests", 0, 1), ("responses with trailers", 1, 2)] {
        let mut parser = Parser::server();
        blocks(&mut parser, &opened[side], usize::MAX);
        let stream = calls.iter().map(|call| call[side].as_slice()).collect::<Vec<_>>().concat();
        for (name, part) in [(name.to_owned(), stream.len()), (format!("{name} in parts of 100 bytes"), 100)] {
            assert_eq!(blocks(&mut parser, &stream, part), CALLS as usize * heads, "{name}");
            group.bench_function(name, |bencher| bencher.iter(|| blocks(&mut parser, black_box(&stream), part)));
        }
    }
    group.finish();
}

/// A connection that makes one call after the other, seen at the server.
struct Connection {
    tracker: Tracker,
    conversation: Conversation,
    sequences: [u32; 2],
    time: u64,
    told: u32,
}

impl Connection {
    fn new() -> Self {
        let mut connection = Self {
            tracker: Tracker::new(Limits::default()),
            conversation: Conversation::new(),
            sequences: [0; 2],
            time: 0,
            told: 0,
        };
        let preface = [frame::PREFACE, &framed(4, 0, 0, &[])[..]].concat();
        connection.send(0, &preface);
        connection.send(1, &framed(4, 0, 0, &[]));
        connection
    }

    fn send(&mut self, side: usize, payload: &[u8]) {
        let (client, server) = (SocketAddr::from(([10, 0, 0, 1], 1024)), SocketAddr::from(([10, 0, 0, 2], 80)));
        let endpoints = Endpoints { local: server, remote: client };
        let length = u32::try_from(payload.len()).expect("a short payload");
        self.time += 1000;
        let segment = Segment {
            time: Timestamp(self.time),
            socket: SocketId(1),
            direction: [Direction::Ingress, Direction::Egress][side],
            wire: endpoints,
            endpoints,
            sequence: self.sequences[side],
            syn: false,
            fin: false,
            rst: false,
            length,
            payload,
            class: Class::Http2,
            fresh: true,
            gap: false,
            complete_source: false,
            passed_over: None,
            repeat: None,
            muted: false,
            owner: None,
            cgroup: Some(1),
            netns: Some(1),
        };
        self.sequences[side] = self.sequences[side].wrapping_add(length);
        self.tracker.segment(black_box(&segment), &mut |observation| {
            self.told += 1;
            drop(black_box(observation));
        });
    }

    fn call(&mut self) {
        let call = self.conversation.call();
        self.send(0, &call[0]);
        self.send(1, &call[1]);
    }
}

fn track(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http2 tracker");
    group.throughput(Throughput::Elements(1));
    let mut connection = Connection::new();
    connection.call();
    assert_eq!(connection.told, 1, "a call is told of once");
    group.bench_function("unary gRPC call, one end", |bencher| bencher.iter(|| connection.call()));
    group.finish();
}

criterion_group!(benches, parse, track);
criterion_main!(benches);
