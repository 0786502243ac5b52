//! Calls that the source passed over: what follows them is read as if they had been seen, and where it cannot be it is unknown.

use auditor_wire::exchange::{Exchange, Observation};
use auditor_wire::segment::PassedOver;

use crate::talk::{Packet, Talk, lines, observe, observe_open, told};

const GET: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const HEAD: &str = "HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n";
const OTHER: &str = "GET /b HTTP/1.1\r\nHost: h\r\n\r\n";
const POST: &str = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 40\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const REFUSED: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

/// A server's end.
fn server() -> Talk {
    Talk::live(None, Some(22))
}

fn call(talk: &mut Talk, request: &str, response: &str) -> Vec<Packet> {
    [talk.by_client(request), talk.by_server(response)].concat()
}

/// So many bytes of calls that nobody copies.
fn pass_over(talk: &mut Talk, calls: u32) {
    talk.skip(true, calls * u32::try_from(GET.len()).expect("short"));
    talk.skip(false, calls * u32::try_from(OK.len()).expect("short"));
}

/// Says of a packet what was passed over before it.
fn telling(mut packets: Vec<Packet>, calls: u32, next_other: u32) -> Vec<Packet> {
    packets[0].passed_over = Some(PassedOver { calls, next_other, doubtful: false, request: false });
    packets
}

fn doubtful(mut packets: Vec<Packet>) -> Vec<Packet> {
    packets[0].passed_over = packets[0].passed_over.map(|passed| PassedOver { doubtful: true, ..passed });
    packets
}

/// Of one call more the request was passed over.
fn answering(mut packets: Vec<Packet>) -> Vec<Packet> {
    packets[0].passed_over = packets[0].passed_over.map(|passed| PassedOver { request: true, ..passed });
    packets
}

fn exchanges(observations: &[Observation]) -> Vec<&Exchange> {
    fn exchange(observation: &Observation) -> &Exchange {
        match observation {
            Observation::Exchange(exchange) => exchange,
            Observation::Connection(connection) => panic!("expected an exchange, got {connection:?}"),
        }
    }
    observations.iter().map(exchange).collect()
}

#[test]
fn what_follows_calls_that_were_passed_over_is_judged_as_ever() {
    for response in [OK, CHUNKED] {
        let mut talk = server();
        let mut packets = call(&mut talk, GET, response);
        pass_over(&mut talk, 7);
        let next = talk.server_next;
        packets.extend(telling(talk.by_client(OTHER), 7, next));
        packets.extend(talk.by_server(REFUSED));
        packets.extend(call(&mut talk, GET, response));
        pass_over(&mut talk, 3);
        let next = talk.server_next;
        packets.extend(telling(talk.by_client(GET), 10, next));
        packets.extend(talk.by_server(response));
        packets.extend(talk.close());
        let seen = observe(&packets);
        let get = "Destination GET h /a -> 200";
        assert_eq!(lines(&seen), [get, "Destination GET h /b -> 403", get, get]);
        let passed: Vec<u32> = exchanges(&seen).iter().map(|exchange| exchange.passed_over).collect();
        assert_eq!(passed, [0, 7, 0, 3]);
    }
}

#[test]
fn the_end_of_a_connection_may_tell_of_what_was_passed_over() {
    let ended = |calls: u32| {
        let mut talk = server();
        let mut packets = call(&mut talk, GET, OK);
        pass_over(&mut talk, calls);
        let next = talk.server_next;
        packets.extend(telling(talk.client_ends(), calls, next));
        packets.extend(talk.server_ends());
        let (seen, tracker) = observe_open(&packets);
        assert_eq!(lines(&seen), ["Destination GET h /a -> 200"], "{calls} calls");
        tracker.tracked()
    };
    assert_eq!(ended(5).connections, ended(0).connections);
    assert_eq!(ended(5).buffered_bytes, 0);
}

#[test]
fn another_answer_to_a_request_that_was_passed_over_is_told_and_does_not_answer_the_next() {
    for (request, response, line) in [
        (GET, REFUSED, "Destination ? -> 403 (gap)"),
        // By what the last request asked for: the answer to it has no body.
        (HEAD, "HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\n", "Destination ? -> 503 (gap)"),
    ] {
        let mut talk = server();
        let ok = if request == HEAD { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" } else { OK };
        let mut packets = call(&mut talk, request, ok);
        pass_over(&mut talk, 4);
        talk.skip(true, 28);
        let next = talk.client_next;
        packets.extend(answering(telling(talk.by_server(response), 4, next)));
        packets.extend(call(&mut talk, OTHER, OK));
        packets.extend(talk.close());
        let seen = observe(&packets);
        let first = lines(&observe(&packets[..2])).remove(0);
        assert_eq!(lines(&seen), [first.as_str(), line, "Destination GET h /b -> 200"]);
        let exchanges = exchanges(&seen);
        assert_eq!((exchanges[1].passed_over, exchanges[1].duration), (4, None));
        assert_eq!((exchanges[2].passed_over, exchanges[2].unknown), (0, None));
    }
}

#[test]
fn no_response_is_given_to_a_request_it_may_not_answer() {
    // The client did not wait for the answer to a request that was passed over: that answer comes behind its next requests.
    let mut talk = server();
    let mut packets = call(&mut talk, GET, OK);
    pass_over(&mut talk, 4);
    talk.skip(true, u32::try_from(GET.len()).expect("short"));
    let next = talk.server_next;
    packets.extend(doubtful(telling(talk.by_client(OTHER), 5, next)));
    packets.extend(talk.by_client(GET));
    packets.extend(talk.by_server(OK));
    packets.extend(talk.by_server(REFUSED));
    packets.extend(talk.by_server(OK));
    packets.extend(call(&mut talk, OTHER, REFUSED));
    packets.extend(talk.close());
    let lines = told(&packets);
    assert_eq!(lines[0], "Destination GET h /a -> 200");
    assert!(lines[1..].iter().all(|line| line.ends_with("(gap)")), "{lines:?}");
    assert!(!lines[1..].iter().any(|line| line.contains("/b -> 200") || line.contains("/a -> 403")), "{lines:?}");
}

#[test]
fn in_the_middle_of_a_call_nothing_that_was_passed_over_is_believed() {
    // A body that looks like requests is no request, whatever the source passed over of it.
    let mut talk = server();
    let mut packets = talk.by_client(POST);
    let next = talk.server_next;
    packets.extend(telling(talk.by_client(OTHER), 0, next));
    packets.extend(talk.by_server(OK));
    packets.extend(talk.close());
    let lines = told(&packets);
    assert!(lines.iter().all(|line| line.ends_with("(gap)")), "{lines:?}");

    // The record of an answer was lost before what was passed over.
    let mut talk = server();
    let mut packets = talk.by_client(GET);
    talk.skip(false, u32::try_from(OK.len()).expect("short"));
    pass_over(&mut talk, 2);
    let next = talk.server_next;
    packets.extend(telling(talk.by_client(OTHER), 2, next));
    packets.extend(talk.by_server(OK));
    packets.extend(call(&mut talk, GET, OK));
    assert_eq!(
        told(&packets),
        ["Destination GET h /a -> none (gap)", "Destination GET h /b -> 200 (gap)", "Destination GET h /a -> 200"]
    );
}

#[test]
fn records_lost_beside_what_was_passed_over_are_a_gap_that_ends() {
    let mut talk = server();
    let mut packets = call(&mut talk, GET, OK);
    pass_over(&mut talk, 2);
    let next = talk.server_next;
    packets.push(telling(talk.by_client(OTHER), 2, next).remove(0).lost_before());
    packets.extend(talk.by_server(REFUSED));
    packets.extend(call(&mut talk, GET, OK));
    let get = "Destination GET h /a -> 200";
    assert_eq!(told(&packets), [get, "Destination GET h /b -> 403 (gap)", get]);
}

#[test]
fn what_was_passed_over_before_a_connection_was_known_is_nobodys() {
    let mut talk = server();
    talk.fresh = false;
    pass_over(&mut talk, 9);
    let next = talk.server_next;
    let mut packets = telling(talk.by_client(GET), 9, next);
    packets.extend(talk.by_server(OK));
    packets.extend(talk.close());
    let seen = observe(&packets);
    assert_eq!(lines(&seen), ["Destination GET h /a -> 200"]);
    assert_eq!(exchanges(&seen)[0].passed_over, 0);
}

#[test]
fn only_a_request_that_its_segment_carries_alone_may_be_repeated() {
    let known = |mut packets: Vec<Packet>| {
        packets.iter_mut().for_each(|packet| packet.repeat = Some(5));
        packets
    };
    let repeatable = |packets: &[Packet]| -> Vec<Option<u64>> {
        exchanges(&observe(packets)).iter().map(|exchange| exchange.repeatable).collect()
    };
    let mut talk = server();
    let alone = [known(talk.by_client(GET)), talk.by_server(OK), known(talk.by_client(OTHER)), talk.by_server(OK)];
    assert_eq!(repeatable(&alone.concat()), [Some(5), Some(5)]);

    let mut talk = server();
    let not_known = call(&mut talk, GET, OK);
    assert_eq!(repeatable(&not_known), [None], "the source does not sample");

    let mut talk = server();
    let two = [known(talk.by_client([GET, OTHER].concat())), talk.by_server(OK), talk.by_server(OK)].concat();
    assert_eq!(repeatable(&two), [None, None], "two in a segment");

    let mut talk = server();
    let body = [known(talk.by_client(POST)), talk.by_client([b'x'; 40]), talk.by_server(OK)].concat();
    assert_eq!(repeatable(&body), [None], "its body follows");

    let mut talk = server();
    let pipelined = [known(talk.by_client(GET)), known(talk.by_client(OTHER)), talk.by_server(OK), talk.by_server(OK)];
    assert_eq!(repeatable(&pipelined.concat()), [Some(5), None], "one waits");

    let mut talk = server();
    let cut = [known(talk.by_client(GET)).remove(0).cut(20)];
    assert!(repeatable(&cut).iter().all(Option::is_none), "not all was copied");

    let mut talk = Talk::live(Some(11), Some(22));
    let both =
        [known(talk.by_client(GET)), talk.by_server(OK), known(talk.by_client(GET)), talk.by_server(OK)].concat();
    assert_eq!(repeatable(&both), [None, None], "the other end tells of it, too");
}
