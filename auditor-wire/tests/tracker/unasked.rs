//! Answers to requests that were not seen, or not yet: streams are begun in the order of their numbers, and each is told of once.

use auditor_wire::exchange::Response;
use auditor_wire::http2::frame;
use auditor_wire::limits::Limits;
use auditor_wire::segment::Timestamp;
use auditor_wire::tracker::Tracker;

use crate::http2::{block, data, exchange, get, grpc, preface, status};
use crate::talk::{Packet, Talk, lines, observe, observe_open, told};

fn only_server() -> Talk {
    Talk::live(None, Some(2))
}

/// Bytes of the client that come behind what the server sends next.
fn late(talk: &mut Talk, bytes: &[u8], meanwhile: &[u8]) -> Vec<Packet> {
    let late = talk.by_client(bytes);
    let mut packets = talk.by_server(meanwhile);
    packets.extend(late.into_iter().map(|packet| Packet { time: talk.time + 1, ..packet }));
    packets
}

#[test]
fn an_answer_to_what_was_not_asked_is_unknown_once_the_next_asks() {
    let mut talk = only_server();
    let mut packets = talk.by_client([preface(), get(1, "/a")].concat());
    packets.extend(talk.by_server([status(1, "200"), status(3, "401"), data(3, 9, 1)].concat()));
    let before = observe_open(&packets).0;
    assert_eq!(lines(&before), ["Destination GET h /a -> 200"]);
    packets.extend(talk.by_client(get(5, "/c")));
    packets.extend(talk.by_server(status(5, "200")));
    packets.extend(talk.close());
    let mut told = told(&packets);
    told.sort();
    assert_eq!(
        told,
        ["? -> 401 (gap)", "GET h /a -> 200", "GET h /c -> 200"].map(|line| format!("Destination {line}"))
    );
}

#[test]
fn an_answer_that_overtakes_its_request_is_the_answer_to_it() {
    let mut talk = only_server();
    let mut packets = talk.by_client(preface());
    packets.extend(late(
        &mut talk,
        &[get(1, "/a"), get(3, "/b")].concat(),
        &[status(3, "200"), status(1, "404")].concat(),
    ));
    packets.extend(talk.close());
    assert_eq!(told(&packets), ["Destination GET h /a -> 404", "Destination GET h /b -> 200"]);
}

/// What was lost may have held requests, so long as none came since; this one only waits behind it.
#[test]
fn behind_a_loss_an_answer_that_overtakes_its_request_is_the_answer_to_it() {
    let mut talk = only_server();
    let mut packets = talk.by_client([preface(), get(1, "/a")].concat());
    packets.extend(talk.by_server(status(1, "200")));
    talk.skip(true, 50);
    packets.extend(talk.by_client(frame(6, 0, 0, &[0; 8])).into_iter().map(Packet::lost_before));
    let whole = |stream, code| frame(frame::HEADERS, 5, stream, &block(&[(":status", code)]));
    packets.extend(late(&mut talk, &get(5, "/c"), &[whole(3, "401"), whole(5, "200")].concat()));
    packets.extend(talk.close());
    let mut told = told(&packets);
    told.sort();
    assert_eq!(
        told,
        ["? -> 401 (gap)", "GET h /a -> 200", "GET h /c -> 200"].map(|line| format!("Destination {line}"))
    );
}

/// It waited behind a loss while the response was lost, too: that it is not there does not say that none came.
#[test]
fn a_request_that_is_read_late_may_have_been_answered() {
    let mut talk = only_server();
    let mut packets = talk.by_client([preface(), get(1, "/a")].concat());
    packets.extend(talk.by_server(status(1, "200")));
    talk.skip(true, 50);
    packets.extend(talk.by_client(get(3, "/b")));
    talk.skip(false, 30);
    packets.extend(talk.by_server(frame(6, 1, 0, &[0; 8])).into_iter().map(Packet::lost_before));
    let limits = Limits::default();
    talk.time += u64::try_from(limits.live_reorder_wait.as_nanos()).expect("a short time");
    packets.extend(talk.by_client(get(5, "/c")));
    packets.extend(talk.close());
    let told = told(&packets);
    assert_eq!(
        told,
        ["GET h /a -> 200", "GET h /b -> none (gap)", "GET h /c -> none"].map(|line| format!("Destination {line}"))
    );
}

/// The status of gRPC may have come with it, or comes behind.
#[test]
fn a_grpc_call_keeps_the_status_that_came_early() {
    let trailers = |stream, code| frame(frame::HEADERS, 5, stream, &block(&[("grpc-status", code)]));
    let mut talk = only_server();
    let mut packets = talk.by_client(preface());
    let early = [status(1, "200"), data(1, 5, 0), trailers(1, "7"), status(3, "200"), data(3, 5, 0)].concat();
    packets.extend(late(&mut talk, &[grpc(1), grpc(3)].concat(), &early));
    packets.extend(talk.by_server(trailers(3, "0")));
    packets.extend(talk.close());
    let seen = observe(&packets);
    let codes: Vec<_> = seen.iter().map(|it| exchange(it).response.as_ref().and_then(Response::grpc_status)).collect();
    assert_eq!(codes, [Some(7), Some(0)]);
    assert_eq!(lines(&seen), ["Destination POST h /shop.Cart/Add -> 200"; 2]);
}

/// Where no request follows time tells, or the connection's end.
#[test]
fn what_is_not_asked_for_long_was_missed() {
    let mut talk = only_server();
    let packets = [talk.by_client(preface()), talk.by_server(status(1, "200"))].concat();
    let (mut seen, mut tracker) = observe_open(&packets);
    assert_eq!(lines(&seen), [""; 0]);
    for _ in 0..10 {
        talk.time += 1_000_000_000;
        tracker.advance(Timestamp(talk.time), &mut |it| seen.push(it));
    }
    assert_eq!(lines(&seen), ["Destination ? -> 200 (gap)"]);
    assert_eq!(told(&[packets, talk.close()].concat()), ["Destination ? -> 200 (gap)"]);
}

/// A server that answers what nobody asks keeps no more than any other, and each answer is told of.
#[test]
fn answers_that_nobody_asked_for_are_bounded() {
    let mut talk = only_server();
    let mut tracker = Tracker::new(Limits::default());
    let mut seen = 0;
    let mut packets = talk.by_client(preface());
    for stream in 0..20_000_u32 {
        packets.extend(talk.by_server(status(2 * stream + 1, "200")));
    }
    let mut most = 0;
    for packet in &packets {
        tracker.segment(&packet.segment(), &mut |_| seen += 1);
        most = most.max(tracker.tracked().buffered_bytes);
    }
    assert!(most < 4 << 20, "{most} bytes");
    tracker.finish(&mut |_| seen += 1);
    assert_eq!(seen, 20_000, "calls");
    let tracked = tracker.tracked();
    assert_eq!((tracked.connections, tracked.buffered_bytes, tracked.held), (0, 0, 0));
}
