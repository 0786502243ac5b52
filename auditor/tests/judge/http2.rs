//! HTTP/2 and gRPC: the same rules, and the outcome that gRPC tells.

use auditor::judgement::{Outcome, Verdict};
use auditor_wire::exchange::{UnknownReason, Version};

use crate::{calls::call, judge};

const REQUEST: &str = "POST /shop.v1.Cart2/Add10 HTTP/1.1\r\nhost: h\r\n";

fn judged(headers: &str, response: &str, unknown: Option<UnknownReason>) -> auditor::judgement::Judgement {
    let mut call = call(&format!("{REQUEST}{headers}\r\n"), response);
    call.observed.unknown = unknown;
    call.observed.request.as_mut().expect("a request").version = Version::Http2;
    judge().exchange(call).expect("an internal call")
}

fn answer(status: u16, code: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{code}\r\n")
}

#[test]
fn the_status_of_grpc_is_the_outcome() {
    for (status, code, outcome) in [
        (200, "grpc-status: 0\r\n", Outcome::Accepted),
        (200, "grpc-status: 7\r\n", Outcome::Refused),
        (200, "grpc-status: 16\r\n", Outcome::Refused),
        (200, "grpc-status: 5\r\n", Outcome::Failed),
        (200, "", Outcome::Accepted),
        (401, "", Outcome::Refused),
        (503, "grpc-status: 0\r\n", Outcome::Failed),
    ] {
        let judgement = judged("content-type: application/grpc+proto\r\n", &answer(status, code), None);
        assert_eq!((judgement.outcome, judgement.protocol), (outcome, "grpc"), "{status} {code}");
        assert_eq!(&*judgement.request.expect("a request").route, "/shop.v1.Cart2/Add10");
        let code = code.strip_prefix("grpc-status: ").and_then(|code| code.trim().parse().ok());
        assert_eq!(judgement.response.expect("a response").grpc_status, code);
    }
}

#[test]
fn what_is_not_grpc_has_the_outcome_of_http() {
    for kind in ["", "content-type: application/grpcx\r\n", "content-type: application/connectx\r\n"] {
        let judgement = judged(kind, &answer(200, "grpc-status: 7\r\n"), None);
        assert_eq!((judgement.outcome, judgement.protocol), (Outcome::Accepted, "http/2"), "{kind}");
    }
}

/// What stands in the body is not read: where the outcome does, HTTP's 200 says nothing of it.
#[test]
fn grpc_web_and_connect_have_the_outcome_that_heads_tell() {
    let (web, text) = ("content-type: application/grpc-web+proto\r\n", "content-type: application/grpc-web-text\r\n");
    let stream = "content-type: application/connect+json\r\n";
    let unary = "content-type: application/json\r\nconnect-protocol-version: 1\r\n";
    for (kind, protocol, status, code, outcome) in [
        (web, "grpc-web", 200, "", Outcome::Unanswered),
        (text, "grpc-web", 200, "", Outcome::Unanswered),
        (web, "grpc-web", 200, "grpc-status: 0\r\n", Outcome::Accepted),
        (text, "grpc-web", 200, "grpc-status: 16\r\n", Outcome::Refused),
        (web, "grpc-web", 200, "grpc-status: 13\r\n", Outcome::Failed),
        (web, "grpc-web", 401, "", Outcome::Refused),
        (web, "grpc-web", 503, "", Outcome::Failed),
        (stream, "connect", 200, "", Outcome::Unanswered),
        (stream, "connect", 403, "", Outcome::Refused),
        (stream, "connect", 415, "", Outcome::Failed),
        (unary, "connect", 200, "", Outcome::Accepted),
        (unary, "connect", 401, "", Outcome::Refused),
        (unary, "connect", 403, "", Outcome::Refused),
        (unary, "connect", 404, "", Outcome::Failed),
    ] {
        for version in [Version::Http1(1), Version::Http2] {
            let mut call = call(&format!("{REQUEST}{kind}grpc-timeout: 10S\r\n\r\n"), &answer(status, code));
            call.observed.request.as_mut().expect("a request").version = version;
            let judgement = judge().exchange(call).expect("an internal call");
            assert_eq!((judgement.outcome, judgement.protocol), (outcome, protocol), "{kind} {status} {code}");
            assert_eq!(judgement.verdict, Verdict::Unauthenticated);
            assert_eq!(&*judgement.request.expect("a request").route, "/shop.v1.Cart2/Add10");
            assert_eq!(judgement.response.expect("a response").status, status);
        }
    }
}

#[test]
fn connect_asks_with_get_by_a_parameter() {
    for (line, protocol) in [
        ("GET /shop.v1.Cart2/Show?encoding=json&connect=v1", "connect"),
        ("GET /shop.v1.Cart2/Show?disconnect=v1", "http/1.1"),
        ("POST /shop.v1.Cart2/Show?connect=v1", "http/1.1"),
    ] {
        let call = call(&format!("{line} HTTP/1.1\r\nhost: h\r\n\r\n"), &answer(200, ""));
        let judgement = judge().exchange(call).expect("an internal call");
        assert_eq!((judgement.outcome, judgement.protocol), (Outcome::Accepted, protocol), "{line}");
    }
}

#[test]
fn a_head_with_fields_that_are_not_known_is_never_unauthenticated() {
    let lost = Some(UnknownReason::HpackLost);
    let judgement = judged("", &answer(200, "grpc-status: 16\r\n"), lost);
    assert_eq!((judgement.verdict, judgement.unknown_reason), (Verdict::Unknown, Some("hpack-lost")));
    assert_eq!(judgement.outcome, Outcome::Refused, "the type may be among what is not known");
    let judgement = judged("authorization: Negotiate YII\r\n", &answer(200, ""), lost);
    assert_eq!((judgement.verdict, judgement.unknown_reason), (Verdict::Authenticated, None));
}
