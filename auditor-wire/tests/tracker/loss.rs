//! Lost bytes make calls unknown, and only as long as it must be.

use auditor_wire::limits::Limits;
use auditor_wire::segment::Timestamp;
use auditor_wire::tracker::Tracker;

use crate::talk::{Packet, Talk, lines, observe_open, told};

const GET: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn get(path: u32) -> String {
    format!("GET /{path} HTTP/1.1\r\n\r\n")
}

#[test]
fn a_lost_part_of_a_request_head_is_a_gap() {
    let mut talk = Talk::captured();
    let mut packets = talk.by_client("GET /a HTTP/1.1\r\nHost: h\r\n");
    talk.by_client("Authorization: Bearer x\r\n");
    packets.extend(talk.by_client("Accept: */*\r\n\r\n"));
    packets.extend(talk.by_server(OK));
    packets.extend(talk.by_client(get(2)));
    packets.extend(talk.by_server(OK));
    // Whole messages may be gone with the lost part: the response may be to another request.
    let expected = ["Destination GET h /a -> none (gap)", "Destination ? -> 200 (gap)", "Destination GET - /2 -> 200"];
    assert_eq!(told(&packets), expected);
}

#[test]
fn a_lost_request_leaves_its_response_unknown_and_the_next_in_doubt() {
    let mut talk = Talk::captured();
    let mut packets = [talk.by_client(get(1)), talk.by_server(OK)].concat();
    talk.by_client(get(2));
    packets.extend(talk.by_server(OK));
    // With the second request the head of a third may be gone, and this may be its body.
    packets.extend(talk.by_client(get(3)));
    packets.extend([talk.by_server(OK), talk.by_client(get(4)), talk.by_server(OK)].concat());
    let expected = [
        "Destination GET - /1 -> 200",
        "Destination ? -> 200 (gap)",
        "Destination GET - /3 -> 200 (gap)",
        "Destination GET - /4 -> 200",
    ];
    assert_eq!(told(&packets), expected);
}

#[test]
fn a_request_that_was_being_sent_when_its_response_was_lost_gets_no_other() {
    let mut talk = Talk::live(None, Some(22));
    let no = "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n";
    let mut packets = [talk.by_client(get(1)), talk.by_server(OK)].concat();
    // Of a long head only the begin was copied.
    packets.extend(talk.by_client("GET /2 HTTP/1.1\r\nAuthorization: Bearer x\r\n"));
    talk.by_client("Accept: */*\r\n\r\n");
    talk.by_server(OK);
    talk.by_client(get(3));
    packets.extend(talk.by_server(no).into_iter().map(Packet::lost_before));
    packets.extend(talk.by_client(get(4)).into_iter().map(Packet::lost_before));
    packets.extend(talk.by_server(OK));
    let expected = [
        "Destination GET - /1 -> 200",
        "Destination GET - /2 -> none (head-truncated)",
        "Destination GET - /4 -> 200 (gap)",
    ];
    assert_eq!(told(&packets), expected);
}

#[test]
fn a_response_sent_before_a_request_does_not_answer_it() {
    let mut talk = Talk::captured();
    talk.by_client(get(1));
    let before = talk.by_server("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
    let request = talk.by_client(get(2));
    let packets = [request, before, talk.by_server(OK)].concat();
    assert_eq!(told(&packets), ["Destination ? -> 401 (gap)", "Destination GET - /2 -> 200"]);
}

#[test]
fn what_follows_an_upgrade_whose_answer_was_lost_is_no_call() {
    let upgrade = "GET /1 HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n";
    for words in ["not http any more\r\n\r\n", "GET is not a request here\r\n\r\n", "GET /hidden HTTP/1.1\t\r\n\r\n"] {
        let mut talk = Talk::live(None, Some(22));
        let packets = [talk.by_client(upgrade), talk.by_client(words)].concat();
        assert_eq!(told(&packets), ["Destination GET - /1 -> none"], "{words}");
        // Refused, messages go on, and what is none is one too many.
        let mut talk = Talk::live(None, Some(22));
        let packets = [talk.by_client(upgrade), talk.by_server(OK), talk.by_client(words)].concat();
        let told = told(&packets);
        assert_eq!(told[0], "Destination GET - /1 -> 200");
        assert!(told[1].ends_with("-> none (malformed)") && told.len() == 2, "{told:?}");
    }
}

#[test]
fn a_reset_with_a_loss_before_it_does_not_say_that_nothing_was_answered() {
    let mut talk = Talk::live(None, Some(22));
    let mut packets = talk.by_client(get(1));
    talk.by_server(OK);
    let reset = talk.server_ends().into_iter().map(|packet| Packet { fin: false, rst: true, gap: true, ..packet });
    packets.extend(reset);
    assert_eq!(told(&packets), ["Destination GET - /1 -> none (gap)"]);
}

#[test]
fn a_lost_response_never_gives_its_request_another() {
    let mut talk = Talk::live(None, Some(22));
    let mut packets = talk.by_client(get(1));
    talk.by_server("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
    packets.extend(talk.by_client(get(2)));
    packets.extend(talk.by_server(OK).into_iter().map(Packet::lost_before));
    packets.extend(talk.by_client(get(3)));
    packets.extend(talk.by_server(OK));
    let expected =
        ["Destination GET - /1 -> none (gap)", "Destination GET - /2 -> none (gap)", "Destination GET - /3 -> 200"];
    assert_eq!(told(&packets), expected);
}

#[test]
fn a_pipelining_connection_that_lost_a_message_stays_unknown() {
    let mut talk = Talk::live(None, Some(22));
    let mut packets = [talk.by_client(get(1) + &get(2)), talk.by_server([OK, OK].concat())].concat();
    packets.extend(talk.by_client(get(3) + &get(4)));
    talk.by_server(OK);
    packets.extend(talk.by_server(OK).into_iter().map(Packet::lost_before));
    packets.extend(talk.by_client(get(5)));
    packets.extend(talk.by_server(OK));
    let expected = [
        "Destination GET - /1 -> 200",
        "Destination GET - /2 -> 200",
        "Destination GET - /3 -> none (gap)",
        "Destination GET - /4 -> none (gap)",
        "Destination GET - /5 -> none (gap)",
    ];
    assert_eq!(told(&packets), expected);
}

#[test]
fn a_loss_within_a_body_of_known_length_loses_nothing() {
    let mut talk = Talk::live(None, Some(22));
    let mut packets = talk.by_client("POST /1 HTTP/1.1\r\nContent-Length: 500\r\n\r\n");
    talk.skip(true, 300);
    packets.extend(talk.by_client([b'x'; 200]).into_iter().map(Packet::lost_before));
    packets.extend([talk.by_server(OK), talk.by_client(GET), talk.by_server(OK)].concat());
    assert_eq!(told(&packets), ["Destination POST - /1 -> 200", "Destination GET h /a -> 200"]);
}

#[test]
fn a_hole_in_a_capture_is_waited_for() {
    let mut talk = Talk::captured();
    let parts = [talk.by_client(&GET[..18]), talk.by_client(&GET[18..24]), talk.by_client(&GET[24..])].concat();
    let answer = talk.by_server("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n");
    let late = [&parts[..1], &parts[2..], &parts[1..2], &answer].concat();
    assert_eq!(told(&late), ["Destination GET h /a -> 500"]);
    // The wait ends by traffic time.
    let (mut seen, mut tracker) = observe_open(&[&parts[..1], &parts[2..]].concat());
    assert!(tracker.tracked().buffered_bytes > 0);
    tracker.advance(Timestamp(talk.time + 4_000_000_000), &mut |observation| seen.push(observation));
    for packet in &answer {
        tracker.segment(&packet.segment(), &mut |observation| seen.push(observation));
    }
    assert_eq!(lines(&seen), ["Destination GET - /a -> none (gap)", "Destination ? -> 500 (gap)"]);
}

#[test]
fn memory_and_connections_stay_within_their_limits() {
    let limits = Limits { connections: 50, buffered_bytes: 100_000, ..Limits::default() };
    let mut tracker = Tracker::new(limits);
    let mut seen = Vec::new();
    for socket in 0..500 {
        let mut talk = Talk::live(None, Some(socket));
        for packet in
            [talk.by_client(GET), talk.by_server(OK), talk.by_client(format!("GET /{} HTTP/1.1\r\n", "l".repeat(5000)))]
                .concat()
        {
            tracker.segment(&packet.segment(), &mut |observation| seen.push(observation));
            let tracked = tracker.tracked();
            assert!(tracked.connections <= 50, "{tracked:?}");
            assert!(tracked.buffered_bytes <= 100_000, "{tracked:?}");
        }
    }
    assert!(tracker.tracked().evicted_total >= 450);
    tracker.finish(&mut |observation| seen.push(observation));
    let whole = lines(&seen).iter().filter(|line| *line == "Destination GET h /a -> 200").count();
    assert_eq!(whole, 500);
    let tracked = tracker.tracked();
    assert_eq!((tracked.connections, tracked.buffered_bytes, tracked.held), (0, 0, 0));
}

#[test]
fn idle_connections_are_forgotten() {
    let mut talk = Talk::captured();
    let (mut seen, mut tracker) = observe_open(&talk.by_client(GET));
    tracker.advance(Timestamp(talk.time + 3_600_000_000_000), &mut |observation| seen.push(observation));
    assert_eq!(lines(&seen), ["Destination GET h /a -> none"]);
    assert_eq!(tracker.tracked().connections, 0);
}

#[test]
fn segments_after_the_end_are_not_read_again() {
    let mut talk = Talk::captured();
    let packets = [talk.by_client(GET), talk.by_server(OK), talk.close()].concat();
    let again = [packets.clone(), packets].concat();
    assert_eq!(told(&again), ["Destination GET h /a -> 200"]);
}

#[test]
fn a_syn_on_an_ended_connection_begins_another() {
    let mut talk = Talk::captured();
    let first = [talk.by_client(GET), talk.by_server(OK), talk.close()].concat();
    let mut talk = Talk { client_next: 777, server_next: 888, ..talk };
    let mut syn = talk.by_client("");
    syn[0].syn = true;
    let second = [syn, talk.by_client(GET), talk.by_server(OK)].concat();
    assert_eq!(told(&[first, second].concat()), ["Destination GET h /a -> 200"; 2]);
}
