//! Whole conversations through the tracker.

use crate::talk::{Talk, told};

const GET: &str = "GET /a?x=1 HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn keep_alive_yields_each_call() {
    let mut talk = Talk::captured();
    let mut packets = Vec::new();
    for path in ["/1", "/2", "/3"] {
        packets.extend(talk.by_client(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")));
        packets.extend(talk.by_server(OK));
    }
    packets.extend(talk.close());
    assert_eq!(
        told(&packets),
        ["Destination GET h /1 -> 200", "Destination GET h /2 -> 200", "Destination GET h /3 -> 200"]
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut talk = Talk::captured();
    let requests = "POST /1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\n\r\nDELETE /3 HTTP/1.0\r\n\r\n";
    let responses = format!(
        "{OK}HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nT: v\r\n\r\nHTTP/1.1 204 Z\r\n\r\n"
    );
    let packets = [talk.by_client(requests), talk.by_server(responses)].concat();
    assert_eq!(
        told(&packets),
        ["Destination POST - /1 -> 200", "Destination GET - /2 -> 404", "Destination DELETE - /3 -> 204"]
    );
}

#[test]
fn a_head_in_many_segments_is_one_head() {
    let mut talk = Talk::captured();
    let mut packets: Vec<_> = GET.as_bytes().chunks(3).flat_map(|part| talk.by_client(part)).collect();
    packets.extend(OK.as_bytes().chunks(2).flat_map(|part| talk.by_server(part)));
    assert_eq!(told(&packets), ["Destination GET h /a -> 200"]);
}

#[test]
fn interim_responses_are_passed_over() {
    let mut talk = Talk::captured();
    let packets = [
        talk.by_client("PUT /f HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"),
        talk.by_server("HTTP/1.1 100 Continue\r\n\r\n"),
        talk.by_client("GET "),
        talk.by_server("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"),
        talk.by_client(GET),
        talk.by_server(OK),
    ];
    assert_eq!(told(&packets.concat()), ["Destination PUT - /f -> 201", "Destination GET h /a -> 200"]);
}

#[test]
fn a_body_that_was_not_asked_for_may_stay_away() {
    let mut talk = Talk::captured();
    let packets = [
        talk.by_client("PUT /f HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 400\r\n\r\n"),
        talk.by_server("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"),
        talk.by_client(GET),
        talk.by_server(OK),
    ];
    assert_eq!(told(&packets.concat()), ["Destination PUT - /f -> 417", "Destination GET h /a -> 200"]);
}

#[test]
fn an_early_answer_does_not_end_the_request_body() {
    let mut talk = Talk::captured();
    let packets = [
        talk.by_client("POST /f HTTP/1.1\r\nContent-Length: 60\r\n\r\nGET /in-the-body HTTP/1.1\r\n\r\n"),
        talk.by_server("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"),
        talk.by_client("GET /in-the-body-too HTTP/1.1\r\n\r\n"),
        talk.by_client(GET),
        talk.by_server(OK),
    ];
    assert_eq!(told(&packets.concat()), ["Destination POST - /f -> 401", "Destination GET h /a -> 200"]);
}

#[test]
fn responses_without_body_have_none() {
    let mut talk = Talk::captured();
    let packets = [
        talk.by_client("HEAD /h HTTP/1.1\r\n\r\n"),
        talk.by_server("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        talk.by_client(GET),
        talk.by_server("HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"),
        talk.by_client("OPTIONS * HTTP/1.1\r\n\r\n"),
        talk.by_server("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
        talk.by_client(GET),
        talk.by_server(OK),
    ];
    let expected = [
        "Destination HEAD - /h -> 200",
        "Destination GET h /a -> 304",
        "Destination OPTIONS - * -> 204",
        "Destination GET h /a -> 200",
    ];
    assert_eq!(told(&packets.concat()), expected);
}

#[test]
fn an_upgraded_connection_is_not_read_on() {
    let mut talk = Talk::captured();
    let packets = [
        talk.by_client("GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"),
        talk.by_server("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x01GET"),
        talk.by_client(GET),
        talk.by_server(OK),
        talk.close(),
    ];
    let expected = ["Destination GET - /ws -> 101", "Destination 10.0.0.1:51234 -> 10.0.0.2:8080: Upgraded"];
    assert_eq!(told(&packets.concat()), expected);
}

#[test]
fn connect_becomes_a_tunnel_only_when_granted() {
    let mut talk = Talk::captured();
    let packets = [
        talk.by_client("CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n"),
        talk.by_server("HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n"),
        talk.by_client("CONNECT db:5432 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic YTpi\r\n\r\n"),
        talk.by_server("HTTP/1.1 200 Established\r\n\r\n"),
        talk.by_client(GET),
        talk.by_server(OK),
    ];
    let expected = [
        "Destination CONNECT db:5432  -> 407",
        "Destination CONNECT db:5432  -> 200",
        "Destination 10.0.0.1:51234 -> 10.0.0.2:8080: Upgraded",
    ];
    assert_eq!(told(&packets.concat()), expected);
}

#[test]
fn a_body_until_close_hides_no_response() {
    let mut talk = Talk::captured();
    let packets = [
        talk.by_client("GET /old HTTP/1.0\r\n\r\n"),
        talk.by_server("HTTP/1.0 200 OK\r\n\r\nsome\r\n"),
        talk.by_server(OK),
        talk.close(),
    ];
    assert_eq!(told(&packets.concat()), ["Destination GET - /old -> 200"]);
}

#[test]
fn unanswered_requests_come_out_at_the_end() {
    let mut talk = Talk::captured();
    let mut reset = talk.clone().server_ends();
    let packets = [talk.by_client(GET), talk.close()].concat();
    assert_eq!(told(&packets), ["Destination GET h /a -> none"]);
    reset[0].rst = true;
    let mut talk = Talk::captured();
    assert_eq!(told(&[talk.by_client(GET), reset].concat()), ["Destination GET h /a -> none"]);
    let mut talk = Talk::captured();
    assert_eq!(told(&talk.by_client(GET)), ["Destination GET h /a -> none"]);
}

#[test]
fn a_response_before_the_capture_began_is_mid_stream() {
    let mut talk = Talk { fresh: false, ..Talk::captured() };
    let packets = [talk.by_server(OK), talk.by_client(GET), talk.by_server(OK)];
    assert_eq!(told(&packets.concat()), ["Destination ? -> 200 (mid-stream)", "Destination GET h /a -> 200"]);
}

#[test]
fn a_capture_that_begins_within_a_body_finds_the_next_head() {
    let mut talk = Talk { fresh: false, ..Talk::captured() };
    let packets = [talk.by_server("the rest of a body\r\n\r\n"), talk.by_client(GET), talk.by_server(OK)];
    assert_eq!(told(&packets.concat()), ["Destination GET h /a -> 200"]);
}

#[test]
fn an_unasked_408_is_no_call() {
    let mut talk = Talk::captured();
    let packets = [talk.by_server("HTTP/1.1 408 Request Time-out\r\nConnection: close\r\n\r\n"), talk.close()];
    assert_eq!(told(&packets.concat()), [""; 0]);
}

#[test]
fn other_protocols_are_connections() {
    let at = "10.0.0.1:51234 -> 10.0.0.2:8080";
    let mut talk = Talk::captured();
    let packets = [
        talk.by_client("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04"),
        talk.by_server("\0\0\0\x04\0\0\0\0\0"),
        talk.close(),
    ];
    assert_eq!(told(&packets.concat()), [""; 0], "HTTP/2, and nothing was asked");
    let mut talk = Talk::captured();
    let packets = [talk.by_server("220 mail ESMTP\r\n"), talk.by_client("EHLO me\r\n"), talk.close()];
    assert_eq!(told(&packets.concat()), [format!("Destination {at}: Other")]);
}
