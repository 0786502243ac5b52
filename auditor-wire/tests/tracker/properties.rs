//! Whatever the network does to the segments, the calls are the same; whatever the bytes are, nothing breaks.

use auditor_wire::limits::Limits;
use auditor_wire::segment::Timestamp;
use auditor_wire::tracker::Tracker;
use proptest::prelude::*;

use crate::talk::{Packet, Talk, told};

/// A body and how it is framed.
fn body() -> impl Strategy<Value = (String, Vec<u8>)> {
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60),
        Just(b"GET /smuggled HTTP/1.1\r\n\r\n".to_vec()),
        Just(b"HTTP/1.1 500 No\r\n\r\n".to_vec()),
    ];
    (bytes, 0..3_usize, 1..30_usize).prop_map(|(bytes, framing, chunk)| match framing {
        0 => ("Content-Length: 0\r\n".to_owned(), Vec::new()),
        1 => (format!("Content-Length: {}\r\n", bytes.len()), bytes),
        _ => {
            let mut chunked = Vec::new();
            for part in bytes.chunks(chunk) {
                chunked.extend_from_slice(format!("{:x};e=1\r\n", part.len()).as_bytes());
                chunked.extend_from_slice(part);
                chunked.extend_from_slice(b"\r\n");
            }
            chunked.extend_from_slice(b"0\r\nTrailer: t\r\n\r\n");
            ("Transfer-Encoding: chunked\r\n".to_owned(), chunked)
        }
    })
}

/// Requests, their responses, and what is to be told of them.
fn calls() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>, String)>> {
    let method = prop_oneof![Just("GET"), Just("POST"), Just("HEAD"), Just("PURGE")];
    let status = prop_oneof![Just(200_u16), Just(204), Just(304), Just(401), Just(500)];
    let call = (method, "/[a-z]{0,9}", status, body(), body(), any::<bool>()).prop_map(
        |(method, path, status, sent, got, interim)| {
            let request =
                [format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{}\r\n", sent.0).into_bytes(), sent.1].concat();
            let empty = method == "HEAD" || matches!(status, 204 | 304);
            let interim = if interim { "HTTP/1.1 100 Continue\r\n\r\n" } else { "" };
            let head = format!("{interim}HTTP/1.1 {status} Reason\r\n{}\r\n", got.0).into_bytes();
            let response = [head, if empty { Vec::new() } else { got.1 }].concat();
            (request, response, format!("{method} h {path} -> {status}"))
        },
    );
    proptest::collection::vec(call, 1..6)
}

/// Cuts a payload at the given places.
fn cut(payload: &[u8], places: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<usize> = places.iter().map(|place| place.index(payload.len() + 1)).collect();
    cuts.extend([0, payload.len()]);
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2).map(|pair| payload[pair[0]..pair[1]].to_vec()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_split_yields_the_same_calls(
        calls in calls(),
        places in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        pipelined in any::<bool>(),
    ) {
        let mut talk = Talk::captured();
        let mut packets = Vec::new();
        let mut exchanges: Vec<(Vec<u8>, Vec<u8>)> = calls.iter().map(|(q, a, _)| (q.clone(), a.clone())).collect();
        if pipelined {
            let (requests, responses): (Vec<_>, Vec<_>) = exchanges.into_iter().unzip();
            exchanges = vec![(requests.concat(), responses.concat())];
        }
        for (request, response) in exchanges {
            packets.extend(cut(&request, &places).into_iter().flat_map(|part| talk.by_client(part)));
            packets.extend(cut(&response, &places).into_iter().flat_map(|part| talk.by_server(part)));
        }
        let expected: Vec<String> = calls.iter().map(|(_, _, line)| format!("Destination {line}")).collect();
        prop_assert_eq!(told(&packets), expected);
    }

    #[test]
    fn any_order_and_any_duplicates_yield_the_same_calls(
        calls in calls(),
        places in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        again in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        complete in any::<bool>(),
    ) {
        let mut talk = if complete { Talk::captured() } else { Talk::live(None, Some(2)) };
        let mut packets = talk.connect();
        for (request, response, _) in &calls {
            let mut burst: Vec<Packet> = cut(request, &places).into_iter().flat_map(|part| talk.by_client(part)).collect();
            // The first segment stands: without a SYN nothing tells that others belong before it.
            if burst.len() > 2 {
                for (at, place) in order.iter().enumerate() {
                    let (a, b) = (1 + at % (burst.len() - 1), 1 + place.index(burst.len() - 1));
                    burst.swap(a, b);
                }
                for place in &again {
                    let copy = burst[place.index(burst.len())].clone();
                    burst.insert(1 + place.index(burst.len() - 1), copy);
                }
            }
            packets.extend(burst);
            packets.extend(talk.by_server(response));
        }
        let expected: Vec<String> = calls.iter().map(|(_, _, line)| format!("Destination {line}")).collect();
        let told = told(&packets);
        if complete {
            prop_assert_eq!(told, expected);
        } else {
            // Where chunks come out of order their framing is lost, and with it a head too short to be known for one.
            prop_assert_eq!(told.len(), expected.len());
            for (line, expected) in told.iter().zip(&expected) {
                prop_assert!(line == expected || line.ends_with("(gap)"), "{line} of {expected}");
            }
        }
    }

    /// Hooks see the same bytes in other pieces: one what the program sends, another each packet. By socket and sequence number they
    /// are the same.
    #[test]
    fn two_hooks_on_one_socket_yield_each_call_once(
        calls in calls(),
        places in [proptest::collection::vec(any::<prop::sample::Index>(), 0..6), proptest::collection::vec(any::<prop::sample::Index>(), 0..6)],
        turns in proptest::collection::vec(any::<bool>(), 1..16),
        ends in prop_oneof![Just((Some(1), None)), Just((None, Some(2))), Just((Some(1), Some(2)))],
    ) {
        let mut talk = Talk::live(ends.0, ends.1);
        let mut packets = talk.connect();
        for message in calls.iter().flat_map(|(request, response, _)| [(true, request), (false, response)]) {
            for whole in if message.0 { talk.by_client(message.1) } else { talk.by_server(message.1) } {
                let mut hooks = places.each_ref().map(|places| {
                    let mut sequence = whole.sequence;
                    let part = |payload: Vec<u8>| {
                        let length = u32::try_from(payload.len()).expect("messages are short");
                        let part = Packet { sequence, length, payload, ..whole.clone() };
                        sequence = sequence.wrapping_add(length);
                        part
                    };
                    cut(&whole.payload, places).into_iter().map(part).collect::<Vec<_>>().into_iter()
                });
                for turn in turns.iter().cycle() {
                    let next = hooks[usize::from(*turn)].next().or_else(|| hooks[usize::from(!*turn)].next());
                    let Some(next) = next else { break };
                    packets.push(next);
                }
            }
        }
        let reporter = if ends.1.is_some() { "Destination" } else { "Source" };
        let expected: Vec<String> = calls.iter().map(|(_, _, line)| format!("{reporter} {line}")).collect();
        prop_assert_eq!(told(&packets), expected);
    }

    #[test]
    fn both_ends_yield_each_call_once(calls in calls(), places in proptest::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let mut talk = Talk::live(Some(1), Some(2));
        let mut packets = talk.connect();
        for (request, response, _) in &calls {
            packets.extend(cut(request, &places).into_iter().flat_map(|part| talk.by_client(part)));
            packets.extend(cut(response, &places).into_iter().flat_map(|part| talk.by_server(part)));
        }
        let expected: Vec<String> = calls.iter().map(|(_, _, line)| format!("Destination {line}")).collect();
        prop_assert_eq!(told(&packets), expected);
    }

    /// Losing any segments at either end never yields a wrong call: what is told of a request and its response was so, also
    /// where the call is unknown, and nothing is told that was not said.
    #[test]
    fn lost_segments_never_yield_a_wrong_call(
        calls in calls(),
        places in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        lost in proptest::collection::vec(any::<prop::sample::Index>(), 1..8),
        source in 0..3_u8,
    ) {
        let complete = source == 0;
        let mut talk = match source {
            0 => Talk::captured(),
            1 => Talk::live(None, Some(2)),
            _ => Talk::live(Some(1), Some(2)),
        };
        let mut packets = talk.connect();
        for (request, response, _) in &calls {
            packets.extend(cut(request, &places).into_iter().flat_map(|part| talk.by_client(part)));
            packets.extend(cut(response, &places).into_iter().flat_map(|part| talk.by_server(part)));
        }
        let connecting = if complete { 2 } else { 0 };
        for lost in lost {
            if packets.len() == connecting {
                break;
            }
            let at = connecting + lost.index(packets.len() - connecting);
            let gone = packets.remove(at);
            let same = |packet: &&mut Packet| (packet.socket, packet.direction) == (gone.socket, gone.direction);
            if !complete && let Some(next) = packets[at..].iter_mut().find(same) {
                next.gap = true;
            }
        }
        let made: Vec<&str> = calls.iter().map(|(_, _, line)| line.as_str()).collect();
        // Of a connection whose begin was lost it may be that nothing is known.
        for line in told(&packets).into_iter().filter(|line| !line.ends_with(": Other")) {
            let (call, known) = line.split_once(" (").map_or((line.as_str(), true), |(call, _)| (call, false));
            let (request, status) = call.split_once(' ').and_then(|(_, call)| call.rsplit_once(' ')).expect("a call");
            // A head that was cut may lack its host.
            let request = if known { request.to_owned() } else { request.replacen(" - ", " h ", 1) };
            let fits = |made: &&str| {
                let (made_request, made_status) = made.rsplit_once(' ').expect("a status");
                (made_request == request || (!known && request == "? ->")) && (made_status == status || status == "none")
            };
            // A body that looks like a head, of a message that was lost, may be told of as what it may be: unknown.
            let body = !known && (request == "GET h /smuggled ->" || (request == "? ->" && status == "500"));
            let fine = body || (request == "? ->" && status == "none") || made.iter().any(fits);
            prop_assert!(fine, "{line} of {made:?}");
        }
    }

    #[test]
    fn random_segments_break_nothing(
        seed in proptest::collection::vec(
            (0..4_u64, any::<bool>(), any::<u16>(), 0..2000_u32, 0..300_usize, any::<u8>(), 0..8_usize),
            1..200,
        ),
    ) {
        let limits = Limits { connections: 3, buffered_bytes: 20_000, reorder_bytes: 2_000, reorder_segments: 8, pipelined: 4, held: 3, ..Limits::default() };
        let mut tracker = Tracker::new(limits);
        let texts = ["GET / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 101 S\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "\x16\x03\x01\x02", "PRI * HTTP/2.0", "CONNECT a HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n"];
        for (step, (socket, client, sequence, length, captured, flags, text)) in seed.into_iter().enumerate() {
            let mut talk = if flags & 1 == 0 { Talk::captured() } else { Talk::live(Some(socket), Some(socket ^ 1)) };
            talk.sockets.1 = Some(socket ^ 1);
            talk.time = step as u64 * 50_000_000;
            let mut packets = if client { talk.by_client(texts[text]) } else { talk.by_server(texts[text]) };
            for packet in &mut packets {
                packet.sequence = u32::from(sequence % 512).wrapping_sub(256);
                packet.syn = flags & 0x42 == 0x42;
                packet.fin = flags & 0x84 == 0x84;
                packet.rst = flags & 0xf8 == 0xf8;
                packet.gap = flags & 0x30 == 0x30;
                packet.fresh = flags & 8 == 8;
                packet.muted = flags & 0x17 == 0x17;
                packet.length = length;
                packet.payload.truncate(captured);
                tracker.segment(&packet.segment(), &mut |_| {});
                let tracked = tracker.tracked();
                prop_assert!(tracked.connections <= 3 && tracked.buffered_bytes <= 20_000, "{tracked:?}");
            }
        }
        tracker.finish(&mut |_| {});
        let tracked = tracker.tracked();
        prop_assert_eq!((tracked.connections, tracked.buffered_bytes, tracked.held), (0, 0, 0));
    }
}

/// A recording may say any time; the last one there is must not keep what is looked at again from ever being done.
#[test]
fn the_end_of_time_is_reached_and_passed() {
    for hello in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
    ] {
        let mut talk = Talk::live(Some(1), Some(2));
        let mut tracker = Tracker::new(Limits::default());
        let packets = [talk.by_client(hello), talk.by_client(b"more")].concat();
        for packet in packets.into_iter().map(|packet| Packet { time: u64::MAX, ..packet }) {
            tracker.segment(&packet.segment(), &mut |_| {});
            tracker.advance(Timestamp(u64::MAX), &mut |_| {});
        }
        tracker.finish(&mut |_| {});
        assert_eq!(tracker.tracked().connections, 0);
    }
}
