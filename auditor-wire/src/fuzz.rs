//! Entry points of the fuzz targets: bytes in, invariants checked. The corpora are replayed through them by a unit test.

use std::net::SocketAddr;
use std::time::Duration;

use crate::exchange::Observation;
use crate::http1::framing::{self, Framing};
use crate::http1::stream::{Chunk, Kind, Parser, What};
use crate::http2::{self, head::Kind as Message};
use crate::limits::Limits;
use crate::packet::{self, LinkType};
use crate::segment::{Class, Direction, Endpoints, PassedOver, Segment, SocketId, Timestamp};
use crate::tls::{self, Accepted, ClientCertificate, Session, Side};
use crate::tracker::Tracker;

/// Bytes of a client after which a made-up connection of target `tls` ends.
const MOST_SENT: usize = 1 << 20;

/// Target `packet`: the first byte chooses a link type, the second what the capture cut, the rest is the frame.
///
/// # Panics
/// When a packet is longer than it says.
pub fn packet(data: &[u8]) {
    let [link, cut, frame @ ..] = data else { return };
    let links = [0, 1, 101, 113, 276];
    let link = LinkType::from_number(links[usize::from(*link) % links.len()]).expect("the numbers are known ones");
    if let Ok(packet) = packet::parse(link, frame, frame.len() + usize::from(*cut)) {
        assert!(packet.payload.len() <= packet.length as usize, "{packet:?}");
    }
}

/// Target `reassembly`: the input is a list of segments for a tracker with small limits, 8 bytes and a payload each.
///
/// # Panics
/// When a limit is exceeded or something is held at the end.
pub fn reassembly(mut data: &[u8]) {
    let limits = Limits {
        connections: 4,
        buffered_bytes: 16 * 1024,
        head_bytes: 4096,
        reorder_bytes: 1024,
        reorder_segments: 8,
        pipelined: 8,
        held: 4,
        ..Limits::default()
    };
    let mut tracker = Tracker::new(limits);
    let mut time = 0;
    while let Some(([flags, who, sequence, high, length, class, wait, captured], rest)) = data.split_first_chunk::<8>()
    {
        let captured = usize::from(*captured).min(rest.len());
        let (payload, rest) = rest.split_at(captured);
        data = rest;
        time += u64::from(*wait) * 10_000_000;
        let segment = fuzzed_segment(*flags, *who, u16::from_be_bytes([*high, *sequence]), *length, *class, payload);
        tracker.segment(&Segment { time: Timestamp(time), ..segment }, &mut check);
        let tracked = tracker.tracked();
        assert!(tracked.connections <= limits.connections, "{tracked:?}");
        assert!(tracked.buffered_bytes <= limits.buffered_bytes, "{tracked:?}");
    }
    tracker.finish(&mut check);
    let tracked = tracker.tracked();
    assert_eq!((tracked.connections, tracked.buffered_bytes, tracked.held), (0, 0, 0), "{tracked:?}");
}

/// Target `http1`: the first byte is how many bytes each part has, the second which messages, the rest is the stream. Up to the
/// first thing that cannot be read, any split yields the same events.
///
/// # Panics
/// When the events differ.
pub fn http1(data: &[u8]) {
    let [part, kind, stream @ ..] = data else { return };
    let kind = [None, Some(Kind::Requests), Some(Kind::Responses)][usize::from(*kind) % 3];
    let whole = events(kind, stream, stream.len().max(1));
    let split = events(kind, stream, usize::from(*part).max(1));
    assert_eq!(whole, split, "parts of {part} bytes");
}

/// Target `http2`: the first byte is how many bytes each part has, the second whose stream it is and from where, the rest is the
/// stream. Any split yields the same events, and no more is held than may be.
///
/// # Panics
/// When the events differ, or more is held.
pub fn http2(data: &[u8]) {
    let [part, kind, stream @ ..] = data else { return };
    let parts = usize::from(*part).max(1);
    let whole = frames(*kind, stream, stream.len().max(1));
    // Where the position is not known it is found at the begin of a part.
    if kind % 3 != 2 && whole.iter().all(|event| !event.ends_with("Lost")) {
        assert_eq!(whole, frames(*kind, stream, parts), "parts of {part} bytes");
    } else {
        frames(*kind, stream, parts);
    }
}

/// Events of a direction of HTTP/2 in parts, as text without values.
fn frames(kind: u8, stream: &[u8], part: usize) -> Vec<String> {
    const LIMIT: usize = 2048;
    // A table, a frame, a block and the fields of one.
    const MOST: usize = 4 * (64 << 10) + 4 * LIMIT;
    let mut parser = match kind % 3 {
        0 => http2::stream::Parser::client(),
        1 => http2::stream::Parser::server(),
        _ => http2::stream::Parser::astray(),
    };
    let mut found = Vec::new();
    let mut sequence = u32::MAX - 100;
    for bytes in stream.chunks(part) {
        let mut chunk = Chunk { bytes, sequence, time: Timestamp(0), begins: true };
        while let Some(event) = parser.data(&mut chunk, LIMIT) {
            assert!(parser.buffered() <= MOST, "{} bytes held", parser.buffered());
            found.push(format!("{} {} {:?}", event.sequence, event.stream, event.what));
            if let http2::stream::What::Block(fields, _) = event.what {
                let status = fields.grpc_status();
                match fields.kind() {
                    Message::Response(_) => assert!(fields.response(event.sequence, status).is_some()),
                    Message::Request | Message::Other => {
                        let (request, unknown) = fields.request(event.sequence);
                        assert!(request.is_some() || unknown.is_some());
                        // gRPC is of HTTP/2 alone, and needs no method.
                        let procedure = request.as_ref().and_then(|request| request.procedure());
                        assert!(procedure.is_none() || request.is_some_and(|request| !request.method.is_empty()));
                    }
                }
            }
        }
        assert!(parser.buffered() <= MOST, "{} bytes held", parser.buffered());
        sequence = sequence.wrapping_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    }
    found
}

/// Target `tls`: the input is a list of things that happen on a connection, 4 bytes each: what and on which side, a content type,
/// a number. Bytes are taken from the input, records and passed-over bodies are made up.
///
/// # Panics
/// When more is held than may be, facts contradict themselves, or a certificate is accepted that the client cannot have sent.
pub fn tls(mut data: &[u8]) {
    let mut session = Session::new();
    let mut sent = Vec::new();
    while let Some(([what, content, high, low], rest)) = data.split_first_chunk::<4>() {
        data = rest;
        let side = if what & 1 == 0 { Side::Client } else { Side::Server };
        let number = u16::from_be_bytes([*high, *low]);
        let (mut bytes, mut skipped) = (Vec::new(), 0);
        match what >> 1 & 7 {
            0 | 1 => {
                let (taken, rest) = data.split_at(data.len().min(usize::from(number)));
                bytes.extend(taken);
                data = rest;
            }
            2 | 3 => {
                bytes.extend([*content, 3, 3, *high, *low]);
                skipped = number;
            }
            4 => skipped = number,
            5 => session.lost(side),
            6 => session.end(side, content & 1 != 0),
            _ => session.finish(),
        }
        session.data(side, &bytes);
        session.skip(side, u64::from(skipped));
        if side == Side::Client {
            sent.extend(bytes);
            sent.extend(std::iter::repeat_n(0, usize::from(skipped)));
        }
        check_session(&session, &sent);
        if sent.len() > MOST_SENT {
            break;
        }
    }
    session.finish();
    check_session(&session, &sent);
    let endpoint = tls::Endpoint { address: SocketAddr::from(([10, 0, 0, 2], 443)), netns: None };
    let mut endpoints = tls::Endpoints::new(2, Duration::from_secs(1));
    for second in 0..3 {
        endpoints.conclude(endpoint, &session, Timestamp(second * 400_000_000));
    }
    assert_eq!(endpoints.len(), 1);
}

/// Events of a stream in parts, as text without header values, up to the first that leaves the position unknown.
fn events(kind: Option<Kind>, stream: &[u8], part: usize) -> Vec<String> {
    let mut parser = Parser::default();
    if let Some(kind) = kind {
        parser.expect(kind);
    }
    let mut found = Vec::new();
    let mut sequence = u32::MAX - 100;
    for bytes in stream.chunks(part) {
        let mut chunk = Chunk { bytes, sequence, time: Timestamp(0), begins: true };
        while let Some(event) = parser.data(&mut chunk, 2048, true) {
            // Where a body stops being one is only known to lie in the part at hand.
            let at = if matches!(event.what, What::Lost(_)) { 0 } else { event.sequence };
            found.push(match event.what {
                // Its first bytes are in what is told or in what is left of the part.
                What::Tls(_) => format!("{at} Tls"),
                What::Http2(_) => format!("{at} Http2"),
                _ => format!("{at} {:?}", event.what),
            });
            let framing = match &event.what {
                What::Request(Some(head), None) => framing::request(head.asked, head.length),
                What::Response(head, None) => {
                    framing::response(head.response.status, Some(framing::Asked::default()), head.length)
                }
                _ => return found,
            };
            if matches!(framing, Framing::Unknown) {
                return found;
            }
            parser.frame(framing);
        }
        sequence = sequence.wrapping_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    }
    found
}

fn fuzzed_segment(flags: u8, who: u8, sequence: u16, length: u8, class: u8, payload: &[u8]) -> Segment<'_> {
    let classes = [
        Class::Unclassified,
        Class::Continuation,
        Class::Request,
        Class::Response,
        Class::Short,
        Class::Tls,
        Class::TlsHeader,
        Class::Http2,
        Class::Other,
        Class::Ahead,
    ];
    let client = SocketAddr::from(([10, 0, 0, 1], 40_000));
    let server = SocketAddr::from(([10, 0, 0, 2], 80));
    let at_client = who & 1 == 0;
    let egress = who & 2 == 0;
    let seen_by_client = Endpoints { local: client, remote: server };
    let endpoints = if at_client { seen_by_client } else { seen_by_client.reversed() };
    Segment {
        time: Timestamp(0),
        socket: SocketId(u64::from(who & 0b1101)),
        direction: if egress { Direction::Egress } else { Direction::Ingress },
        wire: endpoints,
        endpoints,
        sequence: u32::from(sequence).wrapping_sub(0x8000),
        syn: flags & 1 != 0,
        fin: flags & 2 != 0,
        rst: flags & 0x0c == 0x0c,
        length: u32::try_from(payload.len()).unwrap_or(u32::MAX).saturating_add(u32::from(length)),
        payload,
        class: classes[usize::from(class) % classes.len()],
        fresh: flags & 0x10 != 0,
        gap: flags & 0x20 != 0,
        complete_source: who & 0x10 != 0,
        passed_over: (who & 0x20 != 0).then_some(PassedOver {
            calls: u32::from(length),
            next_other: u32::from(sequence ^ u16::from(class) << 4).wrapping_sub(0x8000),
            doubtful: who & 0x40 != 0,
            request: who & 0x80 != 0,
        }),
        repeat: (who & 0xc0 != 0).then_some(u64::from(who)),
        muted: flags & 0xc0 == 0xc0,
        owner: None,
        cgroup: None,
        netns: None,
    }
}

/// Nothing that is observed contradicts itself.
fn check(observation: Observation) {
    if let Observation::Exchange(exchange) = &observation {
        assert!(exchange.request.is_some() || exchange.unknown.is_some(), "{exchange:?}");
        assert!(exchange.response.is_some() || exchange.duration.is_none(), "{exchange:?}");
        assert!(exchange.request.is_some() || exchange.duration.is_none(), "{exchange:?}");
        assert!(exchange.request.is_some() || exchange.repeatable.is_none(), "{exchange:?}");
    }
}

/// What is said of a connection does not contradict itself, nor what the client sent.
fn check_session(session: &Session, sent: &[u8]) {
    assert!(session.buffered() <= Session::MOST_BUFFERED, "{} bytes held", session.buffered());
    let facts = session.facts();
    let auth = facts.client;
    let rejected = auth.certificate == ClientCertificate::Rejected;
    assert_eq!(rejected, auth.accepted == Accepted::No, "{facts:?}");
    assert!(rejected || facts.refused.is_none(), "{facts:?}");
    assert!(auth.certificate != ClientCertificate::Undetermined || auth.accepted == Accepted::Unknown, "{facts:?}");
    if auth.certificate == ClientCertificate::Presented && auth.accepted == Accepted::Yes {
        assert!(sends_a_certificate(sent), "{facts:?}");
    }
}

/// Whether one of the records at the begin of a client's stream is long enough for a certificate.
fn sends_a_certificate(mut stream: &[u8]) -> bool {
    while let [content, 3, _, high, low, rest @ ..] = stream {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        match content {
            // In clear, in parts of any length.
            22 if rest.len() >= 11 => return true,
            23 if length >= 74 => return true,
            _ => stream = rest.get(length..).unwrap_or_default(),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    /// The files of a target's committed corpus.
    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut paths: Vec<_> = files.map(|file| file.expect("a directory entry").path()).collect();
        paths.sort();
        assert!(paths.len() >= 5, "{} files in {}", paths.len(), folder.display());
        paths.iter().map(|path| std::fs::read(path).expect("a readable file")).collect()
    }

    /// Two files of a corpus joined at any place, with some bytes changed.
    fn mutated(target: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
        let file = prop::sample::select(corpus(target));
        let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
        (file.clone(), file, any::<prop::sample::Index>(), changes).prop_map(|(mut first, second, at, changes)| {
            first.truncate(at.index(first.len() + 1).max(2));
            first.extend(second);
            for (place, byte) in changes {
                let place = place.index(first.len());
                first[place] = byte;
            }
            first
        })
    }

    #[test]
    fn the_corpora_hold_the_invariants() {
        corpus("packet").iter().for_each(|input| super::packet(input));
        corpus("reassembly").iter().for_each(|input| super::reassembly(input));
        corpus("http1").iter().for_each(|input| super::http1(input));
        corpus("http2").iter().for_each(|input| super::http2(input));
        corpus("tls").iter().for_each(|input| super::tls(input));
    }

    proptest! {
        #[test]
        fn packets_near_the_corpus_hold_the_invariants(input in mutated("packet")) {
            super::packet(&input);
        }

        #[test]
        fn segments_near_the_corpus_hold_the_invariants(input in mutated("reassembly")) {
            super::reassembly(&input);
        }

        #[test]
        fn sessions_near_the_corpus_hold_the_invariants(input in mutated("tls")) {
            super::tls(&input);
        }

        #[test]
        fn frames_near_the_corpus_hold_the_invariants(input in mutated("http2")) {
            super::http2(&input);
        }

        #[test]
        fn streams_near_the_corpus_hold_the_invariants(input in mutated("http1")) {
            super::http1(&input);
        }
    }
}
