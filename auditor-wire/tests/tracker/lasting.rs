//! Calls that last: WebSockets over HTTP/1.1 and over HTTP/2 (RFC 8441), events that a server sends. The request that asks for them
//! is the call, told of with the head of its answer; what follows leaves nothing behind.

use auditor_wire::exchange::Observation;
use auditor_wire::http2::frame::PREFACE;
use auditor_wire::http2::{frame, hpack};
use auditor_wire::tracker::Tracker;

use crate::talk::{Packet, Talk, lines, observe_open};

/// Segments of each direction that follow.
const ROUNDS: usize = 20_000;
/// Bytes that may be kept for a connection while they come.
const KEPT: usize = 4096;

/// Takes what follows a call's answer; nothing more is told of, and little is kept.
fn goes_on(tracker: &mut Tracker, talk: &mut Talk, (asks, answers): (&[u8], &[u8])) {
    let mut most = 0;
    for _ in 0..ROUNDS {
        for packet in [talk.by_client(asks), talk.by_server(answers)].concat() {
            tracker.segment(&packet.segment(), &mut |observation| panic!("{observation:?}"));
            most = most.max(tracker.tracked().buffered_bytes);
        }
    }
    assert!(most <= KEPT, "{most} bytes");
    assert_eq!(tracker.tracked().connections, 1);
}

/// Closes; the connection is forgotten, and nothing is left.
fn ends(tracker: &mut Tracker, talk: &mut Talk) {
    let mut told = Vec::new();
    for packet in talk.close() {
        tracker.segment(&packet.segment(), &mut |observation| told.push(observation));
    }
    tracker.finish(&mut |observation| told.push(observation));
    // HTTP/1.1 that was left for something else is a connection, too.
    assert!(told.iter().all(|it| matches!(it, Observation::Connection(_))), "{told:?}");
    let tracked = tracker.tracked();
    assert_eq!((tracked.connections, tracked.buffered_bytes, tracked.held), (0, 0, 0));
}

fn calls(packets: &[Packet]) -> (Vec<String>, Tracker) {
    let (seen, tracker) = observe_open(packets);
    let calls = lines(&seen).into_iter().filter(|line| line.contains(" -> ") && line.contains("GET")).collect();
    (calls, tracker)
}

#[test]
fn a_websocket_over_http_1_is_the_call_that_asks_for_it() {
    let mut talk = Talk::live(None, Some(2));
    let asks = "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let grants = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let (told, mut tracker) = calls(&[talk.by_client(asks), talk.by_server(grants)].concat());
    assert_eq!(told, ["Destination GET h /chat -> 101"]);
    // Text that looks like a request is none.
    goes_on(&mut tracker, &mut talk, (b"\x81\x85\x01\x02\x03\x04GET /", b"\x81\x05hello"));
    ends(&mut tracker, &mut talk);
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        hpack::encode(&mut block, hpack::Put::Literal(0), name.as_bytes(), value.as_bytes(), true);
    }
    block
}

#[test]
fn a_websocket_over_http_2_is_the_call_that_asks_for_it() {
    let mut talk = Talk::live(None, Some(2));
    let asks = block(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/chat"),
        (":authority", "h"),
    ]);
    let asks = frame(frame::HEADERS, frame::END_HEADERS, 1, &asks);
    let grants = frame(frame::HEADERS, frame::END_HEADERS, 1, &block(&[(":status", "200")]));
    let (told, mut tracker) =
        calls(&[talk.by_client([PREFACE.as_slice(), &asks].concat()), talk.by_server(grants)].concat());
    assert_eq!(told, ["Destination GET h /chat -> 200"]);
    let text = |bytes: &[u8]| frame(frame::DATA, 0, 1, bytes);
    goes_on(&mut tracker, &mut talk, (&text(b"\x81\x85\x01\x02\x03\x04abcde"), &text(b"\x81\x05hello")));
    ends(&mut tracker, &mut talk);
}

#[test]
fn events_of_a_server_are_one_call() {
    let mut talk = Talk::live(None, Some(2));
    let asks = "GET /events HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n";
    let begins = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (told, mut tracker) = calls(&[talk.by_client(asks), talk.by_server(begins)].concat());
    assert_eq!(told, ["Destination GET h /events -> 200"]);
    goes_on(&mut tracker, &mut talk, (b"", b"c\r\ndata: hello\n\r\n"));
    ends(&mut tracker, &mut talk);
}
