//! Messages that different parties read differently: flagged, and what follows them is unknown.

use auditor_wire::exchange::{Deviations, Observation};

use crate::talk::{Talk, lines, observe, told};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// The first exchange's line and deviations.
fn first(request: &str) -> (String, Deviations) {
    let mut talk = Talk::captured();
    let seen = observe(&[talk.by_client(request), talk.by_server(OK)].concat());
    let Some(Observation::Exchange(exchange)) = seen.first() else { panic!("no exchange for {request:?}: {seen:?}") };
    (lines(&seen).remove(0), exchange.deviations)
}

#[test]
fn ambiguous_lengths_are_flagged_and_taint_what_follows() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let shapes = [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 5",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Content-Length: +4",
    ];
    for shape in shapes {
        let mut talk = Talk::captured();
        let packets = [
            talk.by_client(format!("POST /f HTTP/1.1\r\nHost: h\r\n{shape}\r\n\r\n0\r\n\r\n{smuggled}")),
            talk.by_server(OK),
            talk.by_server(OK),
            talk.by_client(smuggled),
            talk.by_server(OK),
        ];
        let told = told(&packets.concat());
        assert_eq!(told[0], "Destination POST h /f -> 200", "{shape}");
        assert!(told[1..].iter().all(|line| line.ends_with("(malformed)")), "{shape}: {told:?}");
    }
    let flags = |request: &str| first(request).1;
    assert!(flags("POST /f HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n").length_and_chunked);
    assert!(flags("POST /f HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n").conflicting_length);
    assert!(flags("POST /f HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n") == Deviations::default());
    assert!(flags("POST /f HTTP/1.1\r\nTransfer-Encoding: x, chunked\r\n\r\n0\r\n\r\n").odd_transfer_encoding);
}

#[test]
fn heads_that_servers_read_differently_are_malformed() {
    let malformed = [
        "GET /f HTTP/1.1\r\nAuthorization : Bearer x\r\n\r\n",
        "GET /f HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        "GET /f HTTP/1.1\r\n A: b\r\n\r\n",
        "GET /f HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /f HTTP/1.1\r\nA: b\0c\r\n\r\n",
        "GET /f HTTP/1.1\r\nA: b\rC: d\r\n\r\n",
        "GET /f HTTP/1.1\r\nA\x01: b\r\n\r\n",
        "GET /f HTTP/1.1\r\n: b\r\n\r\n",
        "GET  /f HTTP/1.1\r\n\r\n",
        "GET\t/f HTTP/1.1\r\n\r\n",
        "GET /f HTTP/1.1 \r\n\r\n",
        "GET /f HTTP/3.0\r\n\r\n",
    ];
    for request in malformed {
        assert_eq!(first(request).0, "Destination GET - /f -> 200 (malformed)", "{request:?}");
    }
    assert!(first(malformed[0]).1.space_before_colon);
    assert!(first(malformed[1]).1.folded_header);
    assert_eq!(first("GET /f HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").0, "Destination GET - /f -> 200 (malformed)");
}

#[test]
fn tolerated_deviations_are_read() {
    let (line, deviations) = first("\r\n\r\nGET /f HTTP/1.1\nHost: h\n\n");
    assert_eq!(line, "Destination GET h /f -> 200");
    assert_eq!(deviations, Deviations { bare_lf: true, ..Deviations::default() });
    assert_eq!(first("GET /f HTTP/1.1\r\nHost: h\r\nhost: H\r\n\r\n").0, "Destination GET h /f -> 200");
}

#[test]
fn garbage_between_requests_is_unknown() {
    let mut talk = Talk::captured();
    let request = "GET /f HTTP/1.1\r\n\r\n";
    let packets = [
        talk.by_client(request),
        talk.by_server(OK),
        talk.by_client("garbage\r\n\r\n"),
        talk.by_server("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n"),
        talk.by_client(request),
        talk.by_server(OK),
    ];
    let expected =
        ["Destination GET - /f -> 200", "Destination ? -> 400 (malformed)", "Destination GET - /f -> 200 (malformed)"];
    assert_eq!(told(&packets.concat()), expected);
}

#[test]
fn a_response_in_a_body_answers_nothing() {
    let mut talk = Talk::captured();
    let packets = [
        talk.by_client("GET /f HTTP/1.1\r\n\r\n"),
        talk.by_server(format!("HTTP/1.1 403 No\r\nContent-Length: {}\r\n\r\n", OK.len())),
        talk.by_server(OK),
        talk.by_client("GET /g HTTP/1.1\r\n\r\n"),
        talk.by_server(OK),
    ];
    assert_eq!(told(&packets.concat()), ["Destination GET - /f -> 403", "Destination GET - /g -> 200"]);
}
