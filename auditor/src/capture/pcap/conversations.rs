//! Which connection a packet of a capture file belongs to, and which of its ends is taken as the observed one: the server.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

use auditor_wire::{
    packet::TcpPacket,
    segment::{Direction, Endpoints, SocketId},
};

/// Conversations of a file, at most a fixed number of them.
#[derive(Debug)]
pub(super) struct Conversations {
    by_ends: HashMap<Ends, Conversation>,
    /// Keys in the order they will be considered for eviction.
    order: VecDeque<Ends>,
    capacity: usize,
    latest: u64,
    /// Conversations forgotten to stay within the capacity.
    pub(super) evicted: u64,
}

/// Both ends, the lower first: the same for both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ends(SocketAddr, SocketAddr);

#[derive(Clone, Copy, Debug)]
struct Conversation {
    socket: SocketId,
    server: SocketAddr,
    /// Sequence number behind the client's SYN, where it was seen: tells a new connection on the same ports.
    opened: Option<u32>,
    fresh: bool,
    /// Used since it was last considered for eviction.
    used: bool,
}

/// What is known of a packet's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) socket: SocketId,
    pub(super) direction: Direction,
    pub(super) endpoints: Endpoints,
    pub(super) fresh: bool,
}

impl Conversations {
    pub(super) fn new(capacity: usize) -> Self {
        Self { by_ends: HashMap::new(), order: VecDeque::new(), capacity: capacity.max(1), latest: 0, evicted: 0 }
    }

    /// Where `packet` belongs. `None` for what says nothing of a connection that is not known: an acknowledgement, or the
    /// end of something whose beginning was not seen.
    pub(super) fn place(&mut self, packet: &TcpPacket<'_>) -> Option<Place> {
        let ends = Ends(packet.source.min(packet.destination), packet.source.max(packet.destination));
        let opens = packet.syn && !packet.ack;
        let known = self.by_ends.get_mut(&ends).filter(|known| !(opens && known.is_another(packet)));
        let conversation = match known {
            Some(known) => {
                known.used = !(packet.fin || packet.rst);
                if opens {
                    known.server = packet.destination;
                    known.opened = Some(packet.sequence);
                }
                known.fresh |= packet.syn;
                *known
            }
            None if packet.syn || packet.length > 0 => self.begin(ends, packet),
            None => return None,
        };
        let client = if ends.0 == conversation.server { ends.1 } else { ends.0 };
        let from_server = packet.source == conversation.server;
        Some(Place {
            socket: conversation.socket,
            direction: if from_server { Direction::Egress } else { Direction::Ingress },
            endpoints: Endpoints { local: conversation.server, remote: client },
            fresh: conversation.fresh,
        })
    }

    fn begin(&mut self, ends: Ends, packet: &TcpPacket<'_>) -> Conversation {
        self.latest += 1;
        let opened = (packet.syn && !packet.ack).then_some(packet.sequence);
        let conversation = Conversation {
            socket: SocketId(self.latest),
            server: server_of(packet),
            opened,
            fresh: packet.syn,
            used: false,
        };
        if !self.by_ends.contains_key(&ends) {
            if self.by_ends.len() >= self.capacity {
                self.evict();
            }
            self.order.push_back(ends);
        }
        self.by_ends.insert(ends, conversation);
        conversation
    }

    /// Second chance: what was used since it was last at the front goes to the back. Each packet sets one mark, so the work
    /// is constant for each packet on average.
    fn evict(&mut self) {
        while let Some(ends) = self.order.pop_front() {
            match self.by_ends.get_mut(&ends) {
                Some(conversation) if conversation.used => {
                    conversation.used = false;
                    self.order.push_back(ends);
                }
                _ => {
                    self.by_ends.remove(&ends);
                    self.evicted += 1;
                    return;
                }
            }
        }
    }
}

impl Conversation {
    /// Whether a SYN opens another connection than this one: a repeated SYN has the same number.
    fn is_another(&self, packet: &TcpPacket<'_>) -> bool {
        self.opened.map_or(!self.fresh, |opened| opened != packet.sequence)
    }
}

/// Who answers: told by the handshake, else by what is said, else the end with the better known port.
fn server_of(packet: &TcpPacket<'_>) -> SocketAddr {
    let says = |word: &[u8]| packet.payload.starts_with(word);
    match (packet.syn, packet.ack) {
        (true, false) => packet.destination,
        (true, true) => packet.source,
        _ if says(b"HTTP/1.") => packet.source,
        _ if [&b"GET "[..], b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"PATCH ", b"OPTIONS "].into_iter().any(says) => {
            packet.destination
        }
        _ if packet.source.port() < packet.destination.port() => packet.source,
        _ => packet.destination,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn packet(from: u16, to: u16, payload: &[u8]) -> TcpPacket<'_> {
        TcpPacket {
            source: address(from),
            destination: address(to),
            sequence: 100,
            syn: false,
            ack: true,
            fin: false,
            rst: false,
            length: u32::try_from(payload.len()).expect("short"),
            payload,
        }
    }

    #[test]
    fn the_server_is_who_was_called() {
        let mut known = Conversations::new(10);
        let open = TcpPacket { syn: true, ack: false, ..packet(80, 50000, b"") };
        let first = known.place(&open).expect("opens");
        assert_eq!(first.endpoints.local, address(50000), "the SYN tells, though the port is high");
        assert_eq!(first.direction, Direction::Ingress);
        assert!(first.fresh);
        let answer = known.place(&packet(50000, 80, b"x")).expect("known");
        assert_eq!((answer.socket, answer.direction), (first.socket, Direction::Egress));
    }

    #[test]
    fn without_a_handshake_the_words_tell_then_the_ports() {
        for (from, to, payload, server) in [
            (50000, 8080, &b"GET / HTTP/1.1"[..], 8080),
            (8080, 50000, b"GET / HTTP/1.1", 50000),
            (50000, 8080, b"HTTP/1.1 200 OK", 50000),
            (50000, 8080, b"\x16\x03\x01", 8080),
            (443, 50000, b"\x16\x03\x01", 443),
        ] {
            let place = Conversations::new(10).place(&packet(from, to, payload)).expect("has payload");
            assert_eq!(place.endpoints.local, address(server), "{from} -> {to}");
            assert!(!place.fresh);
        }
    }

    #[test]
    fn what_says_nothing_makes_no_conversation() {
        let mut known = Conversations::new(10);
        assert_eq!(known.place(&packet(1, 2, b"")), None);
        assert_eq!(known.place(&TcpPacket { fin: true, ..packet(1, 2, b"") }), None);
        assert!(known.by_ends.is_empty());
    }

    #[test]
    fn ports_used_again_are_another_socket() {
        let mut known = Conversations::new(10);
        let open = TcpPacket { syn: true, ack: false, ..packet(50000, 80, b"") };
        let first = known.place(&open).expect("opens").socket;
        assert_eq!(known.place(&open).expect("repeated").socket, first);
        let second = known.place(&TcpPacket { sequence: 7, ..open }).expect("opens again").socket;
        assert_ne!(first, second);
        assert_eq!(known.by_ends.len(), known.order.len());
    }

    #[test]
    fn forgets_idle_ones_first_and_counts_them() {
        let mut known = Conversations::new(100);
        let kept = known.place(&packet(1, 2, b"GET ")).expect("has payload").socket;
        for port in 1000..2000 {
            known.place(&packet(port, 80, b"GET "));
            assert_eq!(known.place(&packet(1, 2, b"x")).expect("known").socket, kept);
            assert!(known.by_ends.len() <= 100);
        }
        assert_eq!(known.evicted, 901);
        assert_eq!(known.by_ends.len(), known.order.len());
    }
}
