//! Conversations as segments: what a test says, as one or both ends see it.

use std::net::SocketAddr;

use auditor_wire::exchange::{Exchange, Observation, Protocol};
use auditor_wire::http2::frame;
use auditor_wire::limits::Limits;
use auditor_wire::segment::{Class, Direction, Endpoints, Owner, PassedOver, Segment, SocketId, Timestamp};
use auditor_wire::tracker::Tracker;

/// A segment that owns its payload.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) time: u64,
    pub(crate) socket: u64,
    pub(crate) direction: Direction,
    pub(crate) wire: Endpoints,
    pub(crate) endpoints: Endpoints,
    pub(crate) sequence: u32,
    pub(crate) syn: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    pub(crate) length: u32,
    pub(crate) payload: Vec<u8>,
    pub(crate) class: Class,
    pub(crate) fresh: bool,
    pub(crate) gap: bool,
    pub(crate) complete: bool,
    pub(crate) muted: bool,
    pub(crate) owner: Option<Owner>,
    pub(crate) netns: Option<u32>,
    pub(crate) passed_over: Option<PassedOver>,
    pub(crate) repeat: Option<u64>,
}

impl Packet {
    pub(crate) fn segment(&self) -> Segment<'_> {
        Segment {
            time: Timestamp(self.time),
            socket: SocketId(self.socket),
            direction: self.direction,
            wire: self.wire,
            endpoints: self.endpoints,
            sequence: self.sequence,
            syn: self.syn,
            fin: self.fin,
            rst: self.rst,
            length: self.length,
            payload: &self.payload,
            class: self.class,
            fresh: self.fresh,
            gap: self.gap,
            complete_source: self.complete,
            passed_over: self.passed_over,
            repeat: self.repeat,
            muted: self.muted,
            owner: self.owner,
            cgroup: None,
            netns: self.netns,
        }
    }

    /// Only the first bytes were copied.
    pub(crate) fn cut(mut self, captured: usize) -> Self {
        self.payload.truncate(captured);
        self
    }

    pub(crate) fn lost_before(mut self) -> Self {
        self.gap = true;
        self
    }

    pub(crate) fn muting(mut self) -> Self {
        self.muted = true;
        self
    }
}

/// A connection between a client and a server.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) client_next: u32,
    pub(crate) server_next: u32,
    pub(crate) time: u64,
    /// Sockets of the two ends, where they are on this node.
    pub(crate) sockets: (Option<u64>, Option<u64>),
    pub(crate) complete: bool,
    pub(crate) fresh: bool,
}

pub(crate) const CLIENT: &str = "10.0.0.1:51234";
pub(crate) const SERVER: &str = "10.0.0.2:8080";

pub(crate) fn owner(tgid: u32) -> Owner {
    Owner { tgid, start_ns: u64::from(tgid) * 1000, comm: *b"process\0\0\0\0\0\0\0\0\0" }
}

impl Talk {
    /// As a capture file has it.
    pub(crate) fn captured() -> Self {
        Self {
            client: CLIENT.parse().expect("an address"),
            server: SERVER.parse().expect("an address"),
            // Close to where sequence numbers wrap.
            client_next: u32::MAX - 20,
            server_next: 1000,
            time: 1_000_000_000,
            sockets: (None, Some(2)),
            complete: true,
            fresh: true,
        }
    }

    /// As the kernel tells it, of one or both ends.
    pub(crate) fn live(client: Option<u64>, server: Option<u64>) -> Self {
        Self { sockets: (client, server), complete: false, ..Self::captured() }
    }

    pub(crate) fn by_client(&mut self, bytes: impl AsRef<[u8]>) -> Vec<Packet> {
        self.send(true, bytes.as_ref(), false)
    }

    pub(crate) fn by_server(&mut self, bytes: impl AsRef<[u8]>) -> Vec<Packet> {
        self.send(false, bytes.as_ref(), false)
    }

    pub(crate) fn client_ends(&mut self) -> Vec<Packet> {
        self.send(true, b"", true)
    }

    pub(crate) fn server_ends(&mut self) -> Vec<Packet> {
        self.send(false, b"", true)
    }

    /// Both ends close.
    pub(crate) fn close(&mut self) -> Vec<Packet> {
        [self.client_ends(), self.server_ends()].concat()
    }

    /// Both ends connect. The kernel does not tell of it.
    pub(crate) fn connect(&mut self) -> Vec<Packet> {
        let mut packets = if self.complete { [self.by_client(""), self.by_server("")].concat() } else { Vec::new() };
        packets.iter_mut().for_each(|packet| packet.syn = true);
        packets
    }

    /// Bytes that no source copies.
    pub(crate) fn skip(&mut self, client: bool, bytes: u32) {
        let next = if client { &mut self.client_next } else { &mut self.server_next };
        *next = next.wrapping_add(bytes);
    }

    fn send(&mut self, from_client: bool, bytes: &[u8], fin: bool) -> Vec<Packet> {
        self.time += 1_000_000;
        let length = u32::try_from(bytes.len()).expect("a short payload");
        let next = if from_client { &mut self.client_next } else { &mut self.server_next };
        let sequence = *next;
        *next = next.wrapping_add(length + u32::from(fin));
        let class = match bytes {
            _ if self.complete => Class::Unclassified,
            _ if bytes.starts_with(b"HTTP/") => Class::Response,
            _ if bytes.starts_with(b"PRI ") || frame::begins(bytes) => Class::Http2,
            [0x16, ..] => Class::Tls,
            [b'A'..=b'Z', b'A'..=b'Z', ..] => Class::Request,
            _ => Class::Continuation,
        };
        let from_client_end = Endpoints { local: self.client, remote: self.server };
        let mut seen = Vec::new();
        for (at_client, socket) in [(true, self.sockets.0), (false, self.sockets.1)] {
            let Some(socket) = socket else { continue };
            let endpoints = if at_client { from_client_end } else { from_client_end.reversed() };
            let egress = at_client == from_client;
            seen.push(Packet {
                time: self.time + u64::from(!egress) * 1000,
                socket,
                direction: if egress { Direction::Egress } else { Direction::Ingress },
                wire: endpoints,
                endpoints,
                sequence,
                syn: false,
                fin,
                rst: false,
                length,
                payload: bytes.to_vec(),
                class,
                fresh: self.fresh,
                gap: false,
                complete: self.complete,
                muted: false,
                // The kernel tells the owner on the way out.
                owner: (egress && !self.complete).then(|| owner(u32::try_from(socket).expect("a small number"))),
                netns: None,
                passed_over: None,
                repeat: None,
            });
        }
        seen.sort_by_key(|packet| packet.time);
        seen
    }
}

/// What a tracker makes of packets, up to the end of the input.
pub(crate) fn observe(packets: &[Packet]) -> Vec<Observation> {
    let (mut seen, mut tracker) = observe_open(packets);
    tracker.finish(&mut |observation| seen.push(observation));
    seen
}

/// What a tracker makes of packets so far, and the tracker.
pub(crate) fn observe_open(packets: &[Packet]) -> (Vec<Observation>, Tracker) {
    let mut tracker = Tracker::new(Limits::default());
    let mut seen = Vec::new();
    for packet in packets {
        tracker.segment(&packet.segment(), &mut |observation| seen.push(observation));
    }
    (seen, tracker)
}

/// One line for each observation: what a test compares.
pub(crate) fn lines(observations: &[Observation]) -> Vec<String> {
    observations.iter().map(line).collect()
}

/// Lines of what a tracker makes of packets.
pub(crate) fn told(packets: &[Packet]) -> Vec<String> {
    lines(&observe(packets))
}

fn line(observation: &Observation) -> String {
    match observation {
        Observation::Exchange(exchange) => exchange_line(exchange),
        Observation::Connection(connection) => {
            let protocol = match &connection.protocol {
                Protocol::Tls(facts) => {
                    let (sni, client) = (facts.sni.as_deref().unwrap_or("-"), facts.client);
                    let (certificate, accepted) = (client.certificate.as_str(), client.accepted.as_str());
                    format!("Tls {sni} {:?} {certificate} {accepted}", facts.alpn)
                }
                other => format!("{other:?}"),
            };
            let (source, destination) = (connection.source.address, connection.destination.address);
            format!("{:?} {source} -> {destination}: {protocol}", connection.reporter)
        }
    }
}

fn exchange_line(exchange: &Exchange) -> String {
    let request = exchange.request.as_ref().map_or("?".to_owned(), |request| {
        let host = request.authority.as_deref().unwrap_or("-");
        format!("{} {host} {}", request.method, request.path)
    });
    let status = exchange.response.as_ref().map_or("none".to_owned(), |response| response.status.to_string());
    let unknown = exchange.unknown.map_or(String::new(), |reason| format!(" ({})", reason.as_str()));
    format!("{:?} {request} -> {status}{unknown}", exchange.reporter)
}
