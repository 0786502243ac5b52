//! HTTP/2: streams of one connection, judged each on its own; what is lost is said.

use auditor_wire::exchange::{Exchange, Observation, Version};
use auditor_wire::http2::frame::PREFACE;
use auditor_wire::http2::{frame, hpack};
use auditor_wire::limits::Limits;
use auditor_wire::segment::{SocketId, Timestamp};
use auditor_wire::tracker::Tracker;

use crate::talk::{Packet, Talk, lines, observe, observe_open, told};

const SETTINGS: u8 = 4;
const END: u8 = frame::END_STREAM | frame::END_HEADERS;

/// A header block of literals.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        hpack::encode(&mut block, hpack::Put::Literal(0), name.as_bytes(), value.as_bytes(), true);
    }
    block
}

fn request(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    block(&[&[(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "h")], more].concat())
}

pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(frame::HEADERS, END, stream, &request(path, &[]))
}

pub(crate) fn status(stream: u32, status: &str) -> Vec<u8> {
    frame(frame::HEADERS, frame::END_HEADERS, stream, &block(&[(":status", status)]))
}

pub(crate) fn data(stream: u32, length: usize, flags: u8) -> Vec<u8> {
    frame(frame::DATA, flags, stream, &vec![b'.'; length])
}

pub(crate) fn preface() -> Vec<u8> {
    [PREFACE.as_slice(), &frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])].concat()
}

pub(crate) fn grpc(stream: u32) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/shop.Cart/Add"),
        (":authority", "h"),
        ("content-type", "application/grpc+proto"),
    ];
    frame(frame::HEADERS, frame::END_HEADERS, stream, &block(&fields))
}

pub(crate) fn exchange(observation: &Observation) -> &Exchange {
    match observation {
        Observation::Exchange(exchange) => exchange,
        Observation::Connection(connection) => panic!("expected an exchange, got {connection:?}"),
    }
}

/// An entry that both sides' tables hold, then a reference to it.
pub(crate) fn indexed(stream: u32, entry: bool) -> Vec<u8> {
    let mut block = block(&[(":method", "GET"), (":scheme", "http"), (":path", "/i"), (":authority", "h")]);
    let put = if entry { hpack::Put::Entry(23) } else { hpack::Put::Index(62) };
    hpack::encode(&mut block, put, b"authorization", b"Bearer abc", true);
    frame(frame::HEADERS, END, stream, &block)
}

#[test]
fn streams_that_interleave_are_told_apart() {
    for talk in [Talk::captured(), Talk::live(Some(1), Some(2)), Talk::live(Some(1), None), Talk::live(None, Some(2))] {
        let mut talk = talk;
        let mut packets = talk.connect();
        packets.extend(talk.by_client([preface(), get(1, "/a?b=c"), get(3, "/b")].concat()));
        packets.extend(talk.by_server([frame(SETTINGS, 0, 0, b""), status(3, "404"), status(1, "200")].concat()));
        packets.extend(talk.by_server([data(1, 30, 0), data(3, 5, 1), data(1, 0, 1)].concat()));
        packets.extend(talk.by_client(get(5, "/c")));
        packets.extend(talk.by_server([status(5, "103"), status(5, "401")].concat()));
        packets.extend(talk.close());
        let seen = observe(&packets);
        let end = if talk.sockets.1.is_some() { "Destination" } else { "Source" };
        let expected = ["GET h /b -> 404", "GET h /a -> 200", "GET h /c -> 401"].map(|line| format!("{end} {line}"));
        assert_eq!(lines(&seen), expected);
        let request = exchange(&seen[1]).request.as_ref().expect("a request");
        assert_eq!(
            (request.version, request.query.as_ref().map(|query| query.as_str())),
            (Version::Http2, Some("b=c"))
        );
    }
}

#[test]
fn any_split_yields_the_same() {
    let mut client = preface();
    for stream in [1, 3, 5] {
        client.extend(indexed(stream, stream == 1));
    }
    let block = request("/long", &[("x-long", &"v".repeat(300))]);
    let (first, rest) = block.split_at(100);
    client.extend(frame(
        frame::HEADERS,
        frame::PADDED | frame::PRIORITIZED,
        7,
        &[&[3, 0, 0, 0, 0, 7], first, &[0; 3]].concat(),
    ));
    client.extend(frame(frame::CONTINUATION, 0, 7, b""));
    client.extend(frame(frame::CONTINUATION, frame::END_HEADERS, 7, rest));
    client.extend(data(7, 70, 1));
    let server = [1, 3, 5, 7].map(|stream| [status(stream, "200"), data(stream, 20, 1)].concat()).concat();
    let mut whole = Vec::new();
    for length in [client.len(), 1, 2, 7, 24, 100] {
        let mut talk = Talk::live(Some(1), Some(2));
        let mut packets: Vec<Packet> = client.chunks(length).flat_map(|part| talk.by_client(part)).collect();
        packets.extend(server.chunks(length).flat_map(|part| talk.by_server(part)));
        let lines = told(&packets);
        if whole.is_empty() {
            assert_eq!(lines.len(), 4, "{lines:?}");
            assert_eq!(lines[3], "Destination GET h /long -> 200");
            whole.clone_from(&lines);
        }
        assert_eq!(lines, whole, "parts of {length} bytes");
    }
}

/// Bodies that no source copies: the frame's header tells how much is missing.
#[test]
fn bodies_are_passed_over() {
    let mut talk = Talk::live(Some(1), Some(2));
    let mut packets = talk.by_client([preface(), get(1, "/a")].concat());
    for _ in 0..3 {
        packets.extend(talk.by_server([status(1, "200"), data(1, 16_000, 0)[..9].to_vec()].concat()));
        talk.skip(false, 16_000);
    }
    packets.extend(talk.by_client(get(3, "/b")));
    let last = talk.by_server(data(1, 100, 1));
    packets.extend(last.into_iter().map(|packet| packet.cut(9)));
    packets.extend(talk.by_server(status(3, "200")));
    assert_eq!(told(&packets), ["Destination GET h /a -> 200", "Destination GET h /b -> 200"]);
}

#[test]
fn a_grpc_call_has_the_status_behind_its_body() {
    let mut talk = Talk::live(Some(1), Some(2));
    let trailers = |stream, code| frame(frame::HEADERS, END, stream, &block(&[("grpc-status", code)]));
    let mut packets = talk.by_client([preface(), grpc(1), grpc(3), grpc(5), grpc(7)].concat());
    packets.extend(talk.by_server([status(1, "200"), data(1, 10, 0), status(5, "200"), status(7, "200")].concat()));
    // Trailers only.
    let only = block(&[(":status", "200"), ("grpc-status", "16")]);
    packets.extend(talk.by_server([frame(frame::HEADERS, END, 3, &only), trailers(1, "7")].concat()));
    packets.extend(talk.by_server(frame(frame::RST_STREAM, 0, 5, &[0; 4])));
    let (seen, mut tracker) = observe_open(&packets);
    let codes = |seen: &[Observation]| {
        let code = |seen| exchange(seen).response.as_ref().and_then(auditor_wire::exchange::Response::grpc_status);
        seen.iter().map(code).collect::<Vec<_>>()
    };
    assert_eq!(codes(&seen), [Some(16), Some(7), None]);
    assert!(exchange(&seen[0]).request.as_ref().is_some_and(auditor_wire::exchange::Request::is_grpc));
    // One that stays open is told of without, once.
    let mut late = Vec::new();
    for seconds in 1..120 {
        tracker.advance(Timestamp(talk.time + seconds * 1_000_000_000), &mut |seen| late.push(seen));
    }
    assert_eq!((lines(&late), codes(&late)), (vec!["Destination POST h /shop.Cart/Add -> 200".to_owned()], vec![None]));
    late.clear();
    talk.time += 200_000_000_000;
    for packet in talk.by_server(trailers(7, "0")) {
        tracker.segment(&packet.segment(), &mut |seen| late.push(seen));
    }
    tracker.finish(&mut |seen| late.push(seen));
    assert_eq!(lines(&late), Vec::<String>::new());
}

#[test]
fn what_is_pushed_counts_for_the_table_only() {
    let mut talk = Talk::captured();
    let mut packets = talk.connect();
    packets.extend(talk.by_client([preface(), get(1, "/a")].concat()));
    let mut pushed = vec![0, 0, 0, 2];
    hpack::encode(&mut pushed, hpack::Put::Entry(0), b"x", b"y", false);
    let mut answer = Vec::new();
    hpack::encode(&mut answer, hpack::Put::Index(8), b"", b"", false);
    hpack::encode(&mut answer, hpack::Put::Index(62), b"", b"", false);
    let promise = frame(frame::PUSH_PROMISE, frame::END_HEADERS, 1, &pushed);
    let answer = frame(frame::HEADERS, END, 1, &answer);
    packets.extend(talk.by_server([promise, answer, status(2, "200")].concat()));
    packets.extend(talk.close());
    let seen = observe(&packets);
    assert_eq!(lines(&seen), ["Destination GET h /a -> 200"]);
    let response = exchange(&seen[0]).response.as_ref().expect("a response");
    assert_eq!(response.head.values("x").collect::<Vec<_>>(), [b"y"]);
}

#[test]
fn a_reset_stream_is_unanswered_and_the_next_goes_on() {
    let mut talk = Talk::live(Some(1), Some(2));
    let mut packets = talk.by_client([preface(), get(1, "/a"), frame(frame::RST_STREAM, 0, 1, &[0; 4])].concat());
    packets.extend(talk.by_client(get(3, "/b")));
    // In flight when the stream was ended.
    packets.extend(talk.by_server([status(1, "200"), status(3, "200")].concat()));
    let mut told = told(&packets);
    told.sort();
    assert_eq!(told, ["Destination GET h /a -> none", "Destination GET h /b -> 200"]);
}

#[test]
fn an_upgrade_is_answered_on_stream_one() {
    let asked = "GET /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    let granted = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    for together in [true, false] {
        let mut talk = Talk::live(Some(1), Some(2));
        let mut packets = talk.by_client(asked);
        let answer = [frame(SETTINGS, 0, 0, b""), status(1, "403")].concat();
        if together {
            packets.extend(talk.by_server([granted.as_bytes(), &answer].concat()));
        } else {
            packets.extend(talk.by_server(granted));
            packets.extend(talk.by_server(&answer));
        }
        packets.extend(talk.by_client([preface(), get(3, "/next")].concat()));
        packets.extend(talk.by_server(status(3, "200")));
        packets.extend(talk.close());
        assert_eq!(told(&packets), ["Destination GET h /up -> 403", "Destination GET h /next -> 200"]);
    }
    // Offered and not taken.
    let mut talk = Talk::live(Some(1), Some(2));
    let mut packets = talk.by_client(asked);
    packets.extend(talk.by_server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    packets.extend(talk.by_client("GET /b HTTP/1.1\r\nHost: h\r\n\r\n"));
    packets.extend(talk.by_server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(told(&packets), ["Destination GET h /up -> 200", "Destination GET h /b -> 200"]);
}

/// A server that is woken by the first bytes has no socket yet when they come: its end misses what asked for the upgrade.
#[test]
fn an_upgrade_that_one_end_saw_the_answer_of_is_told_of_once() {
    let asked = "GET /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    let granted = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let mut talk = Talk::live(Some(1), Some(2));
    let mut packets = talk.by_client(asked);
    packets.retain(|packet| packet.socket == 1);
    let answer = [granted.as_bytes(), &frame(SETTINGS, 0, 0, b""), &status(1, "403")].concat();
    packets.extend(talk.by_server(answer));
    packets.extend(talk.by_client([preface(), get(3, "/next")].concat()));
    packets.extend(talk.by_server(status(3, "200")));
    packets.extend(talk.close());
    packets.iter_mut().filter(|packet| packet.socket == 2).for_each(|packet| packet.fresh = false);
    assert_eq!(told(&packets), ["Source GET h /up -> 403", "Destination GET h /next -> 200"]);
}

#[test]
fn a_server_may_speak_first() {
    for talk in [Talk::captured(), Talk::live(Some(1), Some(2))] {
        let mut talk = talk;
        let mut packets = talk.connect();
        packets.extend(talk.by_server(frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])));
        packets.extend(talk.by_client([preface(), get(1, "/a")].concat()));
        packets.extend(talk.by_server(status(1, "200")));
        packets.extend(talk.close());
        assert_eq!(told(&packets), ["Destination GET h /a -> 200"]);
    }
}

/// A socket that its process closed sees nothing of what still comes: its end of the connection lasts for the auditor until it is idle.
/// A server that speaks before it reads, and answers each call before it reads the next, of those that the client sent at once.
#[test]
fn calls_sent_at_once_and_read_one_by_one_are_told_of_once() {
    let mut client = Talk::live(Some(1), None);
    let mut packets = client.by_client(preface());
    packets.extend(client.by_client([get(1, "/a"), get(3, "/b"), get(5, "/c")].concat()));
    let mut server = Talk { time: client.time, ..Talk::live(None, Some(2)) };
    packets.extend(server.by_server(frame(SETTINGS, 0, 0, b"")));
    packets.extend(server.by_client(preface()));
    client.time = server.time;
    packets.extend(client.by_server(frame(SETTINGS, 0, 0, b"")));
    for (stream, path) in [(1, "/a"), (3, "/b"), (5, "/c")] {
        server.time = client.time;
        packets.extend(server.by_client(get(stream, path)));
        packets.extend(server.by_server(status(stream, "200")));
        client.time = server.time;
        packets.extend(client.by_server(status(stream, "200")));
    }
    let expected = ["/a", "/b", "/c"].map(|path| format!("Destination GET h {path} -> 200"));
    assert_eq!(told(&packets), expected);
}

#[test]
fn what_is_cut_off_with_its_connection_is_told_of_once() {
    for (ends, rst) in [("client", false), ("client", true), ("both", false)] {
        let mut talk = Talk::live(Some(1), Some(2));
        let mut packets = talk.by_client([preface(), grpc(1), grpc(3)].concat());
        packets.extend(talk.by_server([frame(SETTINGS, 0, 0, b""), status(1, "200"), data(1, 10, 0)].concat()));
        let mut last = talk.client_ends();
        last.iter_mut().for_each(|packet| (packet.rst, packet.fin) = (rst, !rst));
        packets.extend(last);
        if !rst {
            let mut last = talk.server_ends();
            last.retain(|packet| ends == "both" || packet.socket == 2);
            packets.extend(last);
        }
        let (mut seen, mut tracker) = observe_open(&packets);
        for milliseconds in (0..5000).step_by(5) {
            let now = Timestamp(talk.time + milliseconds * 1_000_000);
            tracker.advance(now, &mut |observation| seen.push(observation));
        }
        tracker.finish(&mut |observation| seen.push(observation));
        let mut lines = lines(&seen);
        lines.sort();
        let expected = ["Destination POST h /shop.Cart/Add -> 200", "Destination POST h /shop.Cart/Add -> none"];
        assert_eq!(lines, expected, "{ends} {rst}");
    }
}

/// Where the table is not known, a field that stands in it may be a credential: never is it said that there was none.
#[test]
fn a_connection_in_its_middle_is_read_as_far_as_it_is_certain() {
    for talk in [Talk::captured(), Talk::live(Some(1), Some(2))] {
        let mut talk = Talk { fresh: false, ..talk };
        let mut packets = talk.by_server([status(7, "200"), data(7, 3, 1)].concat());
        packets.extend(talk.by_client([indexed(9, false), get(11, "/b")].concat()));
        packets.extend(talk.by_server([status(9, "200"), status(11, "200")].concat()));
        packets.extend(talk.close());
        let mut told = told(&packets);
        told.sort();
        assert_eq!(
            told,
            [
                "Destination ? -> 200 (mid-stream)",
                "Destination GET h /b -> 200",
                "Destination GET h /i -> 200 (hpack-lost)"
            ]
        );
    }
}

/// Peers may have agreed on longer frames before the auditor was there.
#[test]
fn frames_of_an_older_connection_may_be_long() {
    let mut talk = Talk { fresh: false, ..Talk::live(Some(1), Some(2)) };
    let long = "x".repeat(40_000);
    let mut packets = talk.by_client([frame(6, 0, 0, &[0; 8]), get(9, "/a")].concat());
    packets.extend(talk.by_client(frame(frame::HEADERS, END, 11, &request("/long", &[("x-long", &long)]))));
    packets.extend(talk.by_client([get(13, "/b"), data(15, 100_000, 1), get(17, "/c")].concat()));
    packets.extend(talk.by_server([9, 11, 13, 17].map(|stream| status(stream, "200")).concat()));
    packets.extend(talk.close());
    let expected = ["/a", "/long", "/b", "/c"].map(|path| format!("Destination GET h {path} -> 200"));
    assert_eq!(told(&packets), expected);
}

/// One end missed the request, the other one the response: it is one call all the same.
#[test]
fn ends_that_saw_parts_of_a_call_know_it_by_its_stream() {
    let mut talk = Talk { fresh: false, ..Talk::live(Some(1), Some(2)) };
    let mut packets = talk.by_client(get(1, "/a"));
    packets.extend(talk.by_server(status(1, "200")));
    packets.extend(talk.by_client(get(3, "/b")).into_iter().filter(|packet| packet.socket == 1));
    packets.extend(talk.by_client(get(5, "/c")).into_iter().map(|packet| match packet.socket {
        2 => packet.lost_before(),
        _ => packet,
    }));
    packets.extend(talk.by_server(status(3, "401")).into_iter().filter(|packet| packet.socket == 2));
    packets.extend(talk.by_server(status(5, "200")).into_iter().map(|packet| match packet.socket {
        1 => packet.lost_before(),
        _ => packet,
    }));
    packets.extend(talk.close());
    let told = told(&packets);
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told.iter().filter(|line| line.contains("/b") || line.contains("401")).count(), 1, "{told:?}");
}

/// Of a connection with many streams one end is enough, too; what was under way at the client's is told by the server's.
#[test]
fn a_client_with_many_streams_need_not_be_captured() {
    let mut talk = Talk::live(Some(11), Some(22));
    let mut packets = talk.by_client([preface(), get(1, "/slow")].concat());
    for stream in (3..19).step_by(2) {
        packets.extend(talk.by_client(get(stream, "/a")));
        packets.extend(talk.by_server(status(stream, "200")));
    }
    let (mut seen, mut tracker) = observe_open(&packets);
    assert_eq!(tracker.spared().collect::<Vec<_>>(), [SocketId(11)]);
    let mut last = talk.by_client(get(19, "/last"));
    last[0] = last[0].clone().cut(0).muting();
    talk.sockets.0 = None;
    last.extend(talk.by_server([status(19, "200"), status(1, "200")].concat()));
    last.extend([talk.by_client(get(21, "/behind")), talk.by_server(status(21, "401")), talk.close()].concat());
    last.iter().for_each(|packet| tracker.segment(&packet.segment(), &mut |told| seen.push(told)));
    tracker.finish(&mut |told| seen.push(told));
    let mut expected = vec!["Destination GET h /a -> 200"; 8];
    expected.extend([
        "Destination GET h /last -> 200",
        "Destination GET h /slow -> 200",
        "Destination GET h /behind -> 401",
    ]);
    assert_eq!(lines(&seen), expected);
    assert!(seen.iter().all(|told| exchange(told).source.socket == Some(SocketId(11))), "{seen:?}");
}

/// A server that has no socket yet when the first bytes come misses what later heads refer to: the client's end tells.
#[test]
fn a_client_whose_server_missed_the_beginning_is_not_spared() {
    let mut talk = Talk::live(Some(11), Some(22));
    let mut packets = talk
        .by_client([preface(), indexed(1, true)].concat())
        .into_iter()
        .filter(|it| it.socket == 11)
        .collect::<Vec<_>>();
    packets.extend(talk.by_server(status(1, "200")));
    for stream in (3..43).step_by(2) {
        packets.extend(talk.by_client(get(stream, "/a")));
        packets.extend(talk.by_server(status(stream, "200")));
    }
    let (mut seen, mut tracker) = observe_open(&packets);
    assert_eq!(tracker.spared().count(), 0);
    let rest = [talk.by_client(indexed(43, false)), talk.by_server(status(43, "200")), talk.close()].concat();
    rest.iter().for_each(|packet| tracker.segment(&packet.segment(), &mut |told| seen.push(told)));
    tracker.finish(&mut |told| seen.push(told));
    let lines = lines(&seen);
    assert_eq!(lines.iter().filter(|line| line.ends_with("GET h /i -> 200")).count(), 2, "{lines:?}");
    assert_eq!(lines.len(), 22, "{lines:?}");
}

#[test]
fn after_a_loss_what_stands_in_the_table_is_not_known() {
    let mut talk = Talk::live(None, Some(2));
    let mut packets = talk.by_client([preface(), indexed(1, true)].concat());
    packets.extend(talk.by_server(status(1, "200")));
    talk.skip(true, 50);
    packets.extend(talk.by_client(indexed(5, false)).into_iter().map(Packet::lost_before));
    packets.extend(talk.by_server([status(3, "401"), status(5, "200")].concat()));
    // The encoder begins anew.
    let mut size = Vec::new();
    hpack::encode_size(&mut size, 0);
    hpack::encode_size(&mut size, 4096);
    let anew = indexed(7, true);
    let anew = frame(frame::HEADERS, END, 7, &[&size, &anew[frame::HEADER..]].concat());
    packets.extend(talk.by_client([anew, indexed(9, false)].concat()));
    packets.extend(talk.by_server([status(7, "200"), status(9, "200")].concat()));
    let mut told = told(&packets);
    told.sort();
    assert_eq!(
        told,
        [
            "Destination ? -> 401 (gap)",
            "Destination GET h /i -> 200",
            "Destination GET h /i -> 200",
            "Destination GET h /i -> 200",
            "Destination GET h /i -> 200 (hpack-lost)",
        ]
    );
}

#[test]
fn a_response_that_may_have_been_missed_is_not_said_to_be_missing() {
    let mut talk = Talk::live(None, Some(2));
    let mut packets = talk.by_client([preface(), get(1, "/a"), get(3, "/b")].concat());
    talk.skip(false, 30);
    packets.extend(talk.by_server(status(3, "200")).into_iter().map(Packet::lost_before));
    packets.extend(talk.close());
    assert_eq!(told(&packets), ["Destination GET h /b -> 200", "Destination GET h /a -> none (gap)"]);
}

#[test]
fn heads_that_break_the_rules_are_malformed() {
    for (fields, line) in [
        (&[(":method", "GET"), (":path", "/a"), (":path", "/b")][..], "GET - /b -> none (malformed)"),
        (&[(":method", "GET"), ("x", "y"), (":path", "/a")], "GET - /a -> none (malformed)"),
        (&[(":method", "GET"), (":path", "/a b")], "? -> none (malformed)"),
        (&[(":method", "GET"), (":path", "http://x/")], "? -> none (malformed)"),
        (&[(":method", "GET"), (":path", "/a"), ("X", "y")], "GET - /a -> none (malformed)"),
        (&[(":method", "GET"), (":path", "/a"), ("x", "y\r\nauthorization: z")], "GET - /a -> none (malformed)"),
        (&[(":method", "GET"), (":path", "/a"), (":authority", "a"), ("host", "b")], "GET - /a -> none (malformed)"),
        (&[(":method", "GET"), (":path", "/a"), (":authority", "u:p@a")], "? -> none (malformed)"),
        (&[(":method", "GET")], "? -> none (malformed)"),
        (&[(":path", "/a")], "? -> none (malformed)"),
        (&[(":method", "CONNECT"), (":authority", "db:1")], "CONNECT db:1  -> none"),
        (
            &[(":method", "CONNECT"), (":protocol", "websocket"), (":path", "/chat"), (":authority", "a")],
            "GET a /chat -> none",
        ),
        (&[(":method", "GET"), (":path", "/a"), ("host", "b")], "GET b /a -> none"),
    ] {
        let mut talk = Talk::live(None, Some(2));
        let mut packets = talk.by_client([preface(), frame(frame::HEADERS, END, 1, &block(fields))].concat());
        packets.extend(talk.close());
        assert_eq!(told(&packets), [format!("Destination {line}")], "{fields:?}");
    }
}

#[test]
fn a_block_that_is_none_is_malformed() {
    let mut talk = Talk::live(None, Some(2));
    let mut packets = talk.by_client([preface(), frame(frame::HEADERS, END, 1, &[0xff; 20]), get(3, "/b")].concat());
    packets.extend(talk.by_server(status(3, "200")));
    packets.extend(talk.close());
    assert_eq!(told(&packets), ["Destination GET h /b -> 200", "Destination ? -> none (malformed)"]);
}

fn small() -> Limits {
    Limits { head_bytes: 4096, buffered_bytes: 1 << 20, ..Limits::default() }
}

/// What a hostile client sends over and over is held within the limits.
fn flood(part: &[u8], rounds: usize) -> (Vec<Observation>, usize) {
    let mut talk = Talk::live(None, Some(2));
    let mut tracker = Tracker::new(small());
    let (mut seen, mut most) = (Vec::new(), 0);
    let mut packets = talk.by_client(preface());
    for _ in 0..rounds {
        packets.extend(talk.by_client(part));
        for packet in packets.drain(..) {
            tracker.segment(&packet.segment(), &mut |observation| seen.push(observation));
            most = most.max(tracker.tracked().buffered_bytes);
        }
    }
    tracker.finish(&mut |observation| seen.push(observation));
    assert_eq!(tracker.tracked().buffered_bytes, 0);
    (seen, most)
}

#[test]
fn floods_stay_within_the_limits() {
    // A block without end.
    let (_, most) = flood(&[get(1, "/a"), frame(frame::CONTINUATION, 0, 1, &[0; 1000])].concat(), 1000);
    assert!(most < 50_000, "{most}");
    let open =
        [frame(frame::HEADERS, 0, 1, &[0x82]), frame(frame::CONTINUATION, 0, 1, &[0x82; 900]).repeat(50)].concat();
    let (_, most) = flood(&open, 200);
    assert!(most < 50_000, "{most}");
    // Frames without payload.
    let (_, most) = flood(&frame(frame::DATA, 0, 1, b"").repeat(100), 200);
    assert!(most < 50_000, "{most}");
    // Frames of the longest payload there can be, each with a part of it: of a body, and of a head.
    for kind in [frame::DATA, frame::HEADERS] {
        let longest = [&[0xff; 3][..], &[kind, 0, 0, 0, 0, 1], &[0x82; 991]].concat();
        let (_, most) = flood(&longest, 2000);
        assert!(most < 50_000, "{most}");
    }
    // One byte for each field of 4,000.
    let mut bomb = request("/bomb", &[]);
    hpack::encode(&mut bomb, hpack::Put::Entry(0), b"x", &[b'x'; 3000], false);
    bomb.extend([0xbe; 150]);
    let (seen, most) = flood(&frame(frame::HEADERS, END, 1, &bomb), 2);
    assert_eq!(lines(&seen), ["Destination GET h /bomb -> none (head-truncated)"]);
    assert!(most < 50_000, "{most}");
}

#[test]
fn streams_that_are_opened_and_reset_leave_nothing() {
    let mut talk = Talk::captured();
    let (_, mut tracker) = observe_open(&[talk.connect(), talk.by_client(preface())].concat());
    let (mut calls, mut most) = (0, 0);
    let streams: Vec<u32> = (1..400_000).step_by(2).collect();
    for some in streams.chunks(50) {
        let reset = |stream: &u32| [get(*stream, "/a"), frame(frame::RST_STREAM, 0, *stream, &[0; 4])].concat();
        for packet in talk.by_client(some.iter().flat_map(reset).collect::<Vec<_>>()) {
            tracker.segment(&packet.segment(), &mut |_| calls += 1);
        }
        most = most.max(tracker.tracked().buffered_bytes);
    }
    assert_eq!(calls, 200_000);
    assert!(most < 10_000, "{most}");
}

#[test]
fn calls_that_wait_are_bounded_and_told_of() {
    let mut talk = Talk::live(None, Some(2));
    let mut packets = talk.by_client(preface());
    for stream in (1..4001).step_by(2) {
        packets.extend(talk.by_client(get(stream, "/a")));
    }
    packets
        .extend(talk.by_server((1..4001).step_by(2).map(|stream| status(stream, "200")).collect::<Vec<_>>().concat()));
    let lines = told(&packets);
    assert_eq!(lines.len(), 2000);
    assert_eq!(lines.iter().filter(|line| *line == "Destination GET h /a -> 200").count(), 1024);
    assert_eq!(lines.iter().filter(|line| *line == "Destination GET h /a -> none (capacity)").count(), 976);
}

/// What looked like HTTP/2 and was not, and HTTP/2 that cannot be followed, are told of as connections.
#[test]
fn connections_without_readable_calls_are_told_of() {
    let at = "10.0.0.1:51234 -> 10.0.0.2:8080";
    let mut talk = Talk::live(None, Some(2));
    let mut packets = talk.by_server([&[0, 0, 6, 4, 0, 0, 0, 0, 0][..], &[1; 40]].concat());
    packets.extend(talk.close());
    assert_eq!(told(&packets), [format!("Destination {at}: Other")]);
    let mut talk = Talk::live(None, Some(2));
    let mut packets = talk.by_client([PREFACE.as_slice(), &get(1, "/a")[..20]].concat());
    talk.skip(true, 500);
    packets.extend(talk.by_client(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff").into_iter().map(Packet::lost_before));
    packets.extend(talk.close());
    assert_eq!(told(&packets), [format!("Destination {at}: Http2")]);
}
