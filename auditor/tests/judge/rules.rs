//! Verdicts, and every rule with calls that fire it and calls that do not.

use auditor::{
    judgement::{Judgement, Outcome, Severity, Verdict},
    policy::rules::RULES,
};
use auditor_wire::{exchange::UnknownReason, segment::SocketId};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    calls::{NOW, call},
    judge, judged,
    proofs::proof,
};

pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";
pub(crate) const REFUSED: &str = "HTTP/1.1 401 Unauthorized\r\n\r\n";
pub(crate) const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\n\r\n";
const ERROR: &str = "HTTP/1.1 500 Internal Server Error\r\n\r\n";

pub(crate) fn get(headers: &str) -> String {
    format!("GET /items/42 HTTP/1.1\r\nHost: inventory\r\n{headers}\r\n")
}

pub(crate) fn bearer(alg: &str, payload: &str) -> String {
    let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
    let token = format!("{}.{}.c2lnbmF0dXJl", part(&format!(r#"{{"alg":"{alg}","typ":"JWT"}}"#)), part(payload));
    get(&format!("Authorization: Bearer {token}\r\n"))
}

/// A token issued a minute ago for `lifetime` seconds.
pub(crate) fn timed(lifetime: i64) -> String {
    bearer("RS256", &format!(r#"{{"iat":{},"exp":{}}}"#, NOW - 60, NOW - 60 + lifetime))
}

/// Judged as a call that stayed on the node, so that nothing is said of plaintext.
pub(crate) fn local(request: &str, response: &str) -> Judgement {
    let mut call = call(request, response);
    call.observed.source.socket = Some(SocketId(8));
    judge().exchange(call).expect("an internal call")
}

#[track_caller]
pub(crate) fn expect(judgement: &Judgement, verdict: Verdict, findings: &[(&str, Severity)]) {
    let found: Vec<_> = judgement.findings.iter().map(|finding| (finding.rule, finding.severity)).collect();
    assert_eq!((judgement.verdict, found.as_slice()), (verdict, findings), "{judgement:?}");
    for (rule, _) in findings {
        assert!(RULES.iter().any(|known| known.id == *rule), "{rule} is not in the table");
    }
}

#[test]
fn unauthenticated_call() {
    let rule = "unauthenticated-call";
    for (request, response, severity) in [
        (get(""), OK, Severity::High),
        (get("Authorization:\r\n"), OK, Severity::High),
        (get("Authorization: Bearer undefined\r\n"), OK, Severity::High),
        (get("Proxy-Authorization: Negotiate YII\r\n"), OK, Severity::High),
        (get("X-Forwarded-User: root\r\nCookie: theme=dark\r\n"), OK, Severity::High),
        (get("").replace("GET", "DELETE"), OK, Severity::Critical),
        (get("").replace("/items/42", "/actuator/env"), OK, Severity::Critical),
        (get(""), ERROR, Severity::Medium),
        (get(""), NOT_FOUND, Severity::Low),
        (get("").replace("GET", "POST"), NOT_FOUND, Severity::Low),
        (get(""), "HTTP/1.1 302 Found\r\nLocation: /items\r\n\r\n", Severity::High),
        (get(""), "HTTP/1.1 302 Found\r\nLocation: https://id/Login?next=x\r\n\r\n", Severity::Low),
        (
            get("Origin: http://x\r\nAccess-Control-Request-Method: PUT\r\n").replace("GET", "OPTIONS"),
            "HTTP/1.1 204 No Content\r\n\r\n",
            Severity::Low,
        ),
    ] {
        expect(&judged(&request, response), Verdict::Unauthenticated, &[(rule, severity)]);
    }
    for response in [REFUSED, "HTTP/1.1 403 Forbidden\r\n\r\n", "HTTP/1.1 407 x\r\n\r\n", ""] {
        expect(&judged(&get(""), response), Verdict::Unauthenticated, &[]);
    }
    expect(&judged(&get("Authorization: Negotiate YII\r\n"), OK), Verdict::Authenticated, &[]);
}

#[test]
fn credentials_of_the_first_set_are_proofs() {
    for headers in [
        "authorization: Digest username=\"u\", response=\"r\"\r\n",
        "AUTHORIZATION: AWS4-HMAC-SHA256 Credential=AKIA/20261122/r/s/aws4_request, SignedHeaders=host, Signature=0\r\nX-Amz-Date: 20261122T000000Z\r\n",
        "Authorization: Hawk id=\"x\", mac=\"y\"\r\n",
        "Signature-Input: sig1=(\"@method\" \"@target-uri\");created=1795305600;keyid=\"k\"\r\nSignature: sig1=:YWJj:\r\n",
        "X-Hub-Signature-256: sha256=00ff\r\n",
    ] {
        expect(&judged(&get(headers), OK), Verdict::Authenticated, &[]);
    }
    let presigned = "/o?X-Amz-Credential=AKIA%2F2026&X-Amz-Date=20261121T233000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Signature=00";
    for target in [presigned, "/o?sv=1&sig=abc%3D"] {
        expect(&judged(&get("").replace("/items/42", target), OK), Verdict::Authenticated, &[]);
    }
    for headers in
        ["Cookie: theme=dark; sid=abcdef\r\n", "Cookie: __Host-app_session=abcdef\r\n", "Authorization: abcdef\r\n"]
    {
        expect(&local(&get(headers), OK), Verdict::Authenticated, &[]);
    }
}

#[test]
fn proofs_to_others_do_not_count() {
    let proxy = "Proxy-Authorization: Negotiate YII\r\n";
    expect(&judged(&get(proxy), REFUSED), Verdict::Unauthenticated, &[]);
    expect(&judged(&get(proxy).replace("/items/42", "http://h/x"), OK), Verdict::Authenticated, &[]);
    expect(&judged(&get(proxy).replace("GET /items/42", "CONNECT h:443"), OK), Verdict::Authenticated, &[]);
    let proof = format!("DPoP: {}\r\n", proof("GET", "https://inventory/items/42", NOW, Some("abc")));
    expect(&judged(&get(&proof), REFUSED), Verdict::Unauthenticated, &[]);
    expect(&judged(&get(&format!("Authorization: DPoP abc\r\n{proof}")), OK), Verdict::Authenticated, &[]);
}

#[test]
fn plaintext_credential() {
    let fired = [("plaintext-credential", Severity::High)];
    for headers in ["Authorization: Bearer abc\r\n", "Cookie: sid=abc\r\n"] {
        for response in [OK, REFUSED, ""] {
            expect(&judged(&get(headers), response), Verdict::Weak, &fired);
            expect(&local(&get(headers), response), Verdict::Authenticated, &[]);
        }
        let mut call = call(&get(headers), OK);
        call.observed.destination.address = "127.0.0.1:8080".parse().expect("an address");
        expect(&judge().exchange(call).expect("internal"), Verdict::Authenticated, &[]);
    }
}

#[test]
fn basic_credential() {
    let fired = [("basic-credential", Severity::Medium)];
    expect(&local(&get("Authorization: Basic dTpw\r\n"), OK), Verdict::Weak, &fired);
    expect(&local(&get("Authorization: Bearer dTpw\r\n"), OK), Verdict::Authenticated, &[]);
}

#[test]
fn static_api_key() {
    let fired = [("static-api-key", Severity::Medium)];
    for headers in
        ["X-API-Key: abc\r\n", "private-token: abc\r\n", "Authorization: ApiKey abc\r\n", "X-Amz-Security-Token: t\r\n"]
    {
        expect(&local(&get(headers), OK), Verdict::Weak, &fired);
    }
    let signed = "Authorization: AWS4-HMAC-SHA256 Credential=A/b, SignedHeaders=host, Signature=0\r\nX-Amz-Security-Token: t\r\nX-Amz-Date: 20261122T000000Z\r\n";
    expect(&local(&get(signed), OK), Verdict::Authenticated, &[]);
    expect(&local(&get("X-API-Key: null\r\n"), REFUSED), Verdict::Unauthenticated, &[]);
}

#[test]
fn credential_in_url() {
    let url = ("credential-in-url", Severity::High);
    let key = ("static-api-key", Severity::Medium);
    let at = |target: &str| local(&get("").replace("/items/42", target), OK);
    expect(&at("/x?a=1&access_token=abc"), Verdict::Weak, &[url]);
    expect(&at("/x?access%5Ftoken=abc"), Verdict::Weak, &[url]);
    expect(&at("/x;JSESSIONID=abc/y"), Verdict::Weak, &[url]);
    expect(&at("/x?api_key=abc"), Verdict::Weak, &[url, key]);
    expect(&at("/x?key=V1StGXR8_Z5jdHi6B-myT"), Verdict::Weak, &[url, key]);
    expect(&at("/x?state=eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjE3OTUzMDU2NjB9.c2ln"), Verdict::Weak, &[url]);
    expect(&at("http://me:pw@h/x"), Verdict::Weak, &[url, ("basic-credential", Severity::Medium)]);
    let none = [("unauthenticated-call", Severity::High)];
    for target in ["/x?key=colour", "/x?access_token=", "/x?q=access_token", "/x?page=2"] {
        expect(&at(target), Verdict::Unauthenticated, &none);
    }
}

#[test]
fn cors_on_internal() {
    let request = get("Origin: https://page\r\nAuthorization: Negotiate YII\r\n");
    let answer = |status: &str, headers: &str| judged(&request, &format!("HTTP/1.1 {status}\r\n{headers}\r\n"));
    let open = "Access-Control-Allow-Credentials: true\r\n";
    for (headers, severity) in [
        ("Access-Control-Allow-Origin: *\r\n".to_owned(), Severity::Medium),
        ("access-control-allow-origin: https://other\r\n".to_owned(), Severity::Medium),
        (format!("Access-Control-Allow-Origin: https://other\r\n{open}"), Severity::Medium),
        (format!("Access-Control-Allow-Origin: *\r\n{open}"), Severity::High),
        (format!("Access-Control-Allow-Origin: https://page\r\n{open}"), Severity::High),
    ] {
        expect(&answer("200 OK", &headers), Verdict::Authenticated, &[("cors-on-internal", severity)]);
        expect(&answer("401 x", &headers), Verdict::Authenticated, &[]);
    }
    expect(&answer("200 OK", open), Verdict::Authenticated, &[]);
}

#[test]
fn jwt_unsigned() {
    let payload = format!(r#"{{"exp":{}}}"#, NOW + 60);
    for alg in ["none", "NONE"] {
        let rule = "jwt-unsigned";
        expect(&local(&bearer(alg, &payload), OK), Verdict::Weak, &[(rule, Severity::Critical)]);
        expect(&local(&bearer(alg, &payload), NOT_FOUND), Verdict::Weak, &[(rule, Severity::Medium)]);
        expect(&local(&bearer(alg, &payload), REFUSED), Verdict::Weak, &[]);
    }
    expect(&local(&bearer("HS256", &payload), OK), Verdict::Authenticated, &[]);
}

#[test]
fn jwt_expired_accepted() {
    let fired = [("jwt-expired-accepted", Severity::High)];
    let expired = bearer("RS256", &format!(r#"{{"iat":{},"exp":{}}}"#, NOW - 400, NOW - 100));
    expect(&local(&expired, OK), Verdict::Weak, &fired);
    for response in [REFUSED, NOT_FOUND, ""] {
        expect(&local(&expired, response), Verdict::Weak, &[]);
    }
    let within_leeway = bearer("RS256", &format!(r#"{{"exp":{}}}"#, NOW - 59));
    expect(&local(&within_leeway, OK), Verdict::Authenticated, &[]);
}

#[test]
fn jwt_not_yet_valid() {
    let at = |nbf: i64| bearer("RS256", &format!(r#"{{"nbf":{nbf},"exp":{}}}"#, NOW + 600));
    expect(&local(&at(NOW + 100), OK), Verdict::Weak, &[("jwt-not-yet-valid", Severity::High)]);
    expect(&local(&at(NOW + 100), REFUSED), Verdict::Weak, &[]);
    expect(&local(&at(NOW + 30), OK), Verdict::Authenticated, &[]);
}

#[test]
fn jwt_no_expiry() {
    expect(&local(&bearer("RS256", r#"{"sub":"x"}"#), OK), Verdict::Weak, &[("jwt-no-expiry", Severity::Medium)]);
    // What cannot be read is not missing.
    expect(&local(&bearer("RS256", "no json"), OK), Verdict::Authenticated, &[]);
    let encrypted = get("Authorization: Bearer eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..aaaa.bbbb.cccc\r\n");
    expect(&local(&encrypted, OK), Verdict::Authenticated, &[]);
}

#[test]
fn jwt_long_lived() {
    let fired = [("jwt-long-lived", Severity::Medium)];
    expect(&local(&timed(24 * 3600), OK), Verdict::Weak, &fired);
    expect(&local(&bearer("RS256", &format!(r#"{{"exp":{}}}"#, NOW + 7200)), OK), Verdict::Weak, &fired);
    // The projected service account tokens of Kubernetes live 3607 s.
    for lifetime in [300, 3600, 3607] {
        expect(&local(&timed(lifetime), OK), Verdict::Authenticated, &[]);
    }
}

#[test]
fn a_head_that_was_not_seen_whole_is_unknown_unless_a_credential_was_seen() {
    for reason in [UnknownReason::HeadTruncated, UnknownReason::Gap, UnknownReason::Malformed] {
        let mut cut = call(&get(""), OK);
        cut.observed.unknown = Some(reason);
        let judgement = judge().exchange(cut).expect("internal");
        expect(&judgement, Verdict::Unknown, &[]);
        assert_eq!(judgement.unknown_reason, Some(reason.as_str()));
    }
    let mut cut = call(&get("Authorization: Negotiate YII\r\n"), OK);
    cut.observed.unknown = Some(UnknownReason::HeadTruncated);
    let judgement = judge().exchange(cut).expect("internal");
    expect(&judgement, Verdict::Authenticated, &[]);
    assert_eq!(judgement.unknown_reason, None);
    let mut malformed = call(&get("Authorization: Negotiate YII\r\n"), OK);
    malformed.observed.unknown = Some(UnknownReason::Malformed);
    expect(&judge().exchange(malformed).expect("internal"), Verdict::Unknown, &[]);
    let mut unseen = call(&get(""), OK);
    unseen.observed.request = None;
    unseen.observed.unknown = Some(UnknownReason::MidStream);
    let judgement = judge().exchange(unseen).expect("internal");
    expect(&judgement, Verdict::Unknown, &[]);
    assert_eq!((judgement.protocol, judgement.outcome), ("unknown", Outcome::Accepted));
}

#[test]
fn what_was_not_searched_is_unknown() {
    let headers = format!("Cookie: pad={}; sid=abc\r\n", "x".repeat(40_000));
    let judgement = judged(&get(&headers), OK);
    expect(&judgement, Verdict::Unknown, &[]);
    assert_eq!(judgement.unknown_reason, Some("head-truncated"));
}

#[test]
fn outcomes() {
    for (response, outcome) in [
        ("HTTP/1.1 101 x\r\n\r\n", Outcome::Accepted),
        (OK, Outcome::Accepted),
        ("HTTP/1.1 304 x\r\n\r\n", Outcome::Accepted),
        (REFUSED, Outcome::Refused),
        ("HTTP/1.1 403 x\r\n\r\n", Outcome::Refused),
        ("HTTP/1.1 407 x\r\n\r\n", Outcome::Refused),
        (NOT_FOUND, Outcome::Failed),
        (ERROR, Outcome::Failed),
        ("", Outcome::Unanswered),
    ] {
        assert_eq!(judged(&get(""), response).outcome, outcome, "{response:?}");
    }
}

#[test]
fn external_calls_are_counted_and_left_alone() {
    let mut judge = judge();
    let mut outgoing = call(&get(""), OK);
    outgoing.destination.internal = false;
    assert!(judge.exchange(outgoing).is_none());
    assert_eq!(judge.external(), 1);
}

#[test]
fn the_record_is_as_the_contract_says() {
    let request = get("Authorization: Bearer abc\r\n").replace("/items/42", "/items/42?page=2");
    let mut call = call(&request, OK);
    call.observed.deviations.bare_lf = true;
    let record = serde_json::to_value(judge().exchange(call).expect("internal")).expect("JSON");
    let expected = serde_json::json!({
        "kind": "exchange", "time": "2026-11-22T00:00:00.000000Z", "reporter": "destination",
        "source": {"address": "10.0.0.1", "port": 51234, "internal": true, "process": null, "container": null, "workload": null},
        "destination": {"address": "10.0.0.2", "port": 8080, "internal": true, "process": null, "container": null, "workload": null},
        "protocol": "http/1.1",
        "request": {"method": "GET", "authority": "inventory", "path": "/items/42", "route": "/items/{id}"},
        "response": {"status": 200, "duration_seconds": 0.002},
        "transport": {"security": "plaintext"},
        "credentials": [{"kind": "bearer-opaque", "carrier": "header:authorization", "fingerprint": record["credentials"][0]["fingerprint"]}],
        "verdict": "weak", "unknown_reason": null, "outcome": "accepted",
        "findings": [{"rule": "plaintext-credential", "severity": "high", "detail": "token in header:authorization, unencrypted between nodes"}],
        "decision": {
            "principal": null, "resource": "GET 10.0.0.2 /items/{id}", "route": null,
            "reason": "bearer-opaque in header:authorization does not suffice: plaintext-credential",
        },
        "deviations": ["bare-lf"],
    });
    assert_eq!(record, expected);
}
