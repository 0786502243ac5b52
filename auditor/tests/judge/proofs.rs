//! Rules about proofs that are made for one message, or by someone else's word.

use std::sync::Arc;

use auditor::{
    credentials::{
        Extractor, FingerprintKey, Settings,
        verify::{IssuerSettings, KeySource, Verifier},
    },
    judgement::{Judgement, Severity, Verdict},
    policy::{self, Judge},
};
use auditor_wire::{exchange::UnknownReason, segment::SocketId};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};

use crate::{
    calls::{NOW, call},
    judge, judged,
    rules::{NOT_FOUND, OK, REFUSED, expect, get, local},
    tokens::{TestKey, jwks},
};

fn hash(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

fn proof_with(key: &TestKey, htm: &str, htu: &str, iat: i64, token: Option<&str>) -> String {
    let mut claims = serde_json::json!({"jti": "1", "htm": htm, "htu": htu, "iat": iat});
    if let Some(token) = token {
        claims["ath"] = hash(token).into();
    }
    key.token(&serde_json::json!({"typ": "dpop+jwt", "jwk": key.jwk()}), &claims.to_string())
}

/// A DPoP proof for `token`, if there is one.
pub(crate) fn proof(htm: &str, htu: &str, iat: i64, token: Option<&str>) -> String {
    proof_with(&TestKey::p256("k"), htm, htu, iat, token)
}

/// The thumbprint of a key (RFC 7638).
fn thumbprint(key: &TestKey) -> String {
    let jwk = key.jwk();
    hash(&format!(r#"{{"crv":{},"kty":"EC","x":{},"y":{}}}"#, jwk["crv"], jwk["x"], jwk["y"]))
}

fn with_token_of(key: &TestKey, kid: &str, payload: &str) -> String {
    get(&format!("Authorization: Bearer {}\r\n", key.token(&serde_json::json!({ "kid": kid }), payload)))
}

/// A judge that knows the key of `https://issuer`, and the directory that it reads it from.
fn knowing(key: TestKey) -> (Judge, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("keys.json");
    std::fs::write(&path, jwks(&[key])).expect("written");
    let issuer = IssuerSettings { issuer: "https://issuer".into(), source: KeySource::File(path), algorithms: None };
    let verifier = Arc::new(Verifier::start(vec![issuer]).expect("started"));
    let extractor = Extractor::new(Settings::default(), FingerprintKey::from_bytes([7; 32])).with_verifier(verifier);
    (Judge::new(policy::Settings::default(), extractor), directory)
}

/// A call with a token that names a known key of its issuer, which signed it or did not.
pub(crate) fn signed_by_issuer(rightly: bool) -> Judgement {
    let (key, forger) = (TestKey::p256("a"), TestKey::p256("a"));
    let payload = format!(r#"{{"iss":"https://issuer","exp":{}}}"#, NOW + 60);
    let request = with_token_of(if rightly { &key } else { &forger }, "a", &payload);
    let mut call = call(&request, OK);
    call.observed.source.socket = Some(SocketId(8));
    knowing(key).0.exchange(call).expect("internal")
}

/// A judge that trusts the proxies of a network.
pub(crate) fn trusting(network: &str) -> Judge {
    let trusted_proxies = vec![network.parse().expect("a network")];
    let settings = policy::Settings { trusted_proxies, ..policy::Settings::default() };
    Judge::new(settings, Extractor::new(Settings::default(), FingerprintKey::from_bytes([7; 32])))
}

#[test]
fn jwt_bad_signature() {
    let (key, forger, other) = (TestKey::p256("a"), TestKey::p256("a"), TestKey::p256("b"));
    let payload = format!(r#"{{"iss":"https://issuer","exp":{}}}"#, NOW + 60);
    let request = |key: &TestKey, kid: &str| with_token_of(key, kid, &payload);
    let (good, forged, rotated) = (request(&key, "a"), request(&forger, "a"), request(&other, "b"));
    let unsigned = get(&format!(
        "Authorization: Bearer {}.{}.\r\n",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
        URL_SAFE_NO_PAD.encode(&payload)
    ));
    let (mut judge, _directory) = knowing(key);
    let mut local = |request: &str, response: &str| {
        let mut call = call(request, response);
        call.observed.source.socket = Some(SocketId(8));
        judge.exchange(call).expect("an internal call")
    };
    let rule = "jwt-bad-signature";
    expect(&local(&forged, OK), Verdict::Weak, &[(rule, Severity::Critical)]);
    expect(&local(&forged, NOT_FOUND), Verdict::Weak, &[(rule, Severity::Medium)]);
    expect(&local(&forged, REFUSED), Verdict::Weak, &[]);
    expect(&local(&good, OK), Verdict::Authenticated, &[]);
    expect(&local(&rotated, OK), Verdict::Authenticated, &[]);
    expect(&local(&unsigned, OK), Verdict::Weak, &[("jwt-unsigned", Severity::Critical)]);
    let said = |judgement: &Judgement| {
        let record = serde_json::to_value(judgement).expect("JSON");
        let credential = &record["credentials"][0];
        (credential["signature"].clone(), credential.get("signature_reason").cloned())
    };
    assert_eq!(said(&local(&good, OK)), ("verified".into(), None));
    assert_eq!(said(&local(&forged, OK)), ("bad".into(), Some("does-not-fit".into())));
    assert_eq!(said(&local(&rotated, OK)), ("not-verified".into(), Some("unknown-key".into())));
    // Without keys nothing is said of signatures.
    let record = serde_json::to_value(crate::rules::local(&forged, OK)).expect("JSON");
    assert!(record["credentials"][0].get("signature").is_none());
}

pub(crate) fn signed(input: &str) -> String {
    get(&format!("Signature-Input: sig1={input};keyid=\"k\"\r\nSignature: sig1=:YWJj:\r\n"))
}

#[test]
fn weak_signature_by_what_it_covers() {
    let fired = [("weak-signature", Severity::Medium)];
    let full = format!("(\"@method\" \"@target-uri\" \"content-digest\");created={NOW}");
    let bare = format!("(\"@method\" \"@path\");created={NOW}");
    expect(&judged(&signed(&full), OK), Verdict::Authenticated, &[]);
    expect(&judged(&signed(&bare), OK), Verdict::Authenticated, &[]);
    // The query is part of the target, and the body of the message.
    expect(&judged(&signed(&bare).replace("/items/42", "/items/42?a=1"), OK), Verdict::Weak, &fired);
    for framing in ["Content-Length: 7", "Transfer-Encoding: chunked"] {
        let with_body =
            |input: &str| signed(input).replace("Host: inventory", &format!("Host: inventory\r\n{framing}"));
        expect(&judged(&with_body(&bare), OK), Verdict::Weak, &fired);
        expect(&judged(&with_body(&full), OK), Verdict::Authenticated, &[]);
    }
    let empty = signed(&bare).replace("Host: inventory", "Host: inventory\r\nContent-Length: 0");
    expect(&judged(&empty, OK), Verdict::Authenticated, &[]);
    let judgement = judged(&signed(&format!("(\"host\");created={NOW}")), OK);
    expect(&judgement, Verdict::Weak, &fired);
    assert_eq!(&*judgement.findings[0].detail, "signature in header:signature does not cover the method, the target");
    expect(&judged(&signed("(\"@method\" \"@path\")"), OK), Verdict::Weak, &fired);
    // draft-cavage
    let cavage = |headers: &str| {
        get(&format!("Authorization: Signature keyId=\"k\",created={NOW},headers=\"{headers}\",signature=\"c2ln\"\r\n"))
    };
    expect(&judged(&cavage("(request-target) (created) host"), OK), Verdict::Authenticated, &[]);
    expect(&judged(&cavage("(created) host"), OK), Verdict::Weak, &fired);
    expect(&judged(&get("Authorization: Signature keyId=\"k\",signature=\"c2ln\"\r\n"), OK), Verdict::Weak, &fired);
    // What an HMAC covers is not visible, and neither is a signature that cannot be read.
    expect(&judged(&get("X-Hub-Signature-256: sha256=00ff\r\n"), OK), Verdict::Authenticated, &[]);
    expect(&judged(&get("Signature-Input: ???\r\nSignature: sig1=:YWJj:\r\n"), OK), Verdict::Authenticated, &[]);
}

#[test]
fn weak_signature_by_its_age() {
    let fired = [("weak-signature", Severity::Medium)];
    let at = |parameters: String| signed(&format!("(\"@method\" \"@path\");{parameters}"));
    for (parameters, fires) in [
        (format!("created={}", NOW - 360), false),
        (format!("created={}", NOW - 361), true),
        (format!("created={}", NOW + 60), false),
        (format!("created={}", NOW + 61), true),
        (format!("created={};expires={}", NOW - 3600, NOW - 60), false),
        (format!("created={};expires={}", NOW - 3600, NOW - 61), true),
    ] {
        let verdict = if fires { Verdict::Weak } else { Verdict::Authenticated };
        expect(&judged(&at(parameters.clone()), OK), verdict, if fires { &fired } else { &[] });
        expect(&judged(&at(parameters), REFUSED), verdict, &[]);
    }
    let aws = |stamp: &str, names: &str| {
        get(&format!(
            "Authorization: AWS4-HMAC-SHA256 Credential=A/20261122/r/s/aws4_request, SignedHeaders={names}, Signature=0\r\nX-Amz-Date: {stamp}\r\n"
        ))
    };
    expect(&judged(&aws("20261121T234500Z", "host;x-amz-date"), OK), Verdict::Authenticated, &[]);
    expect(&judged(&aws("20261121T234000Z", "host;x-amz-date"), OK), Verdict::Weak, &fired);
    expect(&judged(&aws("20261121T234000Z", "host;x-amz-date"), REFUSED), Verdict::Weak, &[]);
    expect(&judged(&aws("20261122T000000Z", "x-amz-date"), OK), Verdict::Weak, &fired);
    let presigned = |expires: u32| {
        get("").replace("/items/42", &format!("/o?X-Amz-Credential=A%2F20261121%2Fr%2Fs3%2Faws4_request&X-Amz-Date=20261121T230000Z&X-Amz-Expires={expires}&X-Amz-SignedHeaders=host&X-Amz-Signature=00"))
    };
    expect(&judged(&presigned(3600), OK), Verdict::Authenticated, &[]);
    expect(&judged(&presigned(3000), OK), Verdict::Weak, &fired);
    let slack = |stamp: i64| get(&format!("X-Slack-Signature: v0=00\r\nX-Slack-Request-Timestamp: {stamp}\r\n"));
    expect(&judged(&slack(NOW - 30), OK), Verdict::Authenticated, &[]);
    expect(&judged(&slack(NOW - 900), OK), Verdict::Weak, &fired);
}

#[test]
fn dpop_mismatch() {
    let fired = [("dpop-mismatch", Severity::High)];
    let with = |proof: String| get(&format!("Authorization: DPoP abc\r\nDPoP: {proof}\r\n"));
    let here = "https://public.example/items/42";
    expect(&judged(&with(proof("GET", here, NOW, Some("abc"))), OK), Verdict::Authenticated, &[]);
    for (wrong, why) in [
        (proof("POST", here, NOW, Some("abc")), "htm is another method"),
        (proof("GET", "https://public.example/orders", NOW, Some("abc")), "htu is another target"),
        (proof("GET", here, NOW, Some("other")), "ath is of another token"),
        (proof("GET", here, NOW, None), "has no ath"),
        (proof("GET", here, NOW - 361, Some("abc")), "was made 361 s before"),
        (proof("GET", here, NOW + 361, Some("abc")), "was made 361 s later, by its own word"),
        ("opaque".to_owned(), "has no htm, has no htu, has no ath, has no iat"),
    ] {
        let judgement = judged(&with(wrong.clone()), OK);
        expect(&judgement, Verdict::Weak, &fired);
        assert_eq!(&*judgement.findings[0].detail, format!("DPoP proof: {why}"));
        expect(&judged(&with(wrong), REFUSED), Verdict::Weak, &[]);
    }
    let request = get("Authorization: DPoP abc\r\n");
    expect(&judged(&request, OK), Verdict::Weak, &fired);
    // A head that was cut may have held the proof.
    let mut cut = call(&request, OK);
    cut.observed.unknown = Some(UnknownReason::HeadTruncated);
    expect(&judge().exchange(cut).expect("internal"), Verdict::Authenticated, &[]);
}

#[test]
fn dpop_mismatch_of_the_key() {
    let fired = [("dpop-mismatch", Severity::High)];
    let (own, other) = (TestKey::p256("a"), TestKey::p256("b"));
    let token = |cnf: serde_json::Value| {
        let payload = serde_json::json!({"exp": NOW + 60, "cnf": cnf}).to_string();
        other.token(&serde_json::json!({}), &payload)
    };
    let bound = token(serde_json::json!({"jkt": thumbprint(&own)}));
    let with = |key: &TestKey, token: &str| {
        let proof = proof_with(key, "GET", "https://inventory/items/42", NOW, Some(token));
        get(&format!("Authorization: DPoP {token}\r\nDPoP: {proof}\r\n"))
    };
    expect(&judged(&with(&own, &bound), OK), Verdict::Authenticated, &[]);
    expect(&judged(&with(&other, &bound), OK), Verdict::Weak, &fired);
    expect(&judged(&with(&own, &token(serde_json::json!({}))), OK), Verdict::Weak, &fired);
    // Taken for a bearer token, it works for whoever holds it.
    expect(&local(&get(&format!("Authorization: Bearer {bound}\r\n")), OK), Verdict::Weak, &fired);
    let certificate = token(serde_json::json!({"x5t#S256": "x"}));
    expect(&local(&get(&format!("Authorization: Bearer {certificate}\r\n")), OK), Verdict::Authenticated, &[]);
}

#[test]
fn untrusted_forwarded_certificate() {
    let rule = "untrusted-forwarded-certificate";
    let header = "X-Forwarded-Client-Cert: Hash=468ed33be74eee65;URI=spiffe://prod/ns/shop/sa/cart\r\n";
    let nothing = ("unauthenticated-call", Severity::High);
    expect(&judged(&get(header), OK), Verdict::Unauthenticated, &[(rule, Severity::High), nothing]);
    expect(&judged(&get(header), REFUSED), Verdict::Unauthenticated, &[]);
    let besides = get(&format!("Authorization: Negotiate YII\r\n{header}"));
    expect(&judged(&besides, OK), Verdict::Authenticated, &[(rule, Severity::Low)]);
    let judgement = trusting("10.0.0.1/32").exchange(call(&get(header), OK)).expect("internal");
    expect(&judgement, Verdict::Authenticated, &[]);
    let record = serde_json::to_value(&judgement).expect("JSON");
    assert_eq!(record["credentials"][0]["kind"], "forwarded-client-cert");
    assert_eq!(record["credentials"][0]["proof"]["client_certificate"]["uri"][0], "spiffe://prod/ns/shop/sa/cart");
    let judgement = trusting("10.0.0.2/32").exchange(call(&get(header), OK)).expect("internal");
    expect(&judgement, Verdict::Unauthenticated, &[(rule, Severity::High), nothing]);
    // It names no certificate: nothing is claimed.
    let empty = judged(&get("X-Forwarded-Client-Cert: By=spiffe://prod/proxy\r\n"), OK);
    expect(&empty, Verdict::Unauthenticated, &[nothing]);
}

#[test]
fn calls_on_a_connection_that_ntlm_authenticated_are_unknown() {
    let mut judge = judge();
    let mut on = |socket: u64, headers: &str, response: &str| {
        let mut call = call(&get(headers), response);
        call.observed.destination.socket = Some(SocketId(socket));
        judge.exchange(call).expect("internal")
    };
    const ASKED: &str =
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=a\r\nWWW-Authenticate: NTLM\r\n\r\n";
    let unauthenticated = [("unauthenticated-call", Severity::High)];
    let (first, last) = ("Authorization: NTLM TlRMTVNTUAABAAAA\r\n", "Authorization: NTLM TlRMTVNTUAADAAAA\r\n");
    expect(&on(7, first, ASKED), Verdict::Unauthenticated, &[]);
    expect(&on(7, last, REFUSED), Verdict::Authenticated, &[]);
    expect(&on(7, "", OK), Verdict::Unauthenticated, &unauthenticated);
    expect(&on(7, last, OK), Verdict::Authenticated, &[]);
    let later = on(7, "", OK);
    expect(&later, Verdict::Unknown, &[]);
    assert_eq!(later.unknown_reason, Some("connection-authenticated"));
    expect(&on(9, "", OK), Verdict::Unauthenticated, &unauthenticated);
    expect(
        &on(7, "Authorization: Basic dTpw\r\n", REFUSED).clone(),
        Verdict::Weak,
        &[("plaintext-credential", Severity::High), ("basic-credential", Severity::Medium)],
    );
    // It asks anew: nobody is known on it any more.
    expect(&on(7, "", ASKED), Verdict::Unauthenticated, &[]);
    expect(&on(7, "", OK), Verdict::Unauthenticated, &unauthenticated);
    // A server that does not negotiate does not look at the header.
    expect(&on(8, last, OK), Verdict::Authenticated, &[]);
    expect(&on(8, "", OK), Verdict::Unauthenticated, &unauthenticated);
    // Kerberos without having been asked: the server answers it.
    let kerberos = "HTTP/1.1 200 OK\r\nWWW-Authenticate: Negotiate oRQ=\r\n\r\n";
    expect(&on(6, "Authorization: Negotiate YIIabc\r\n", kerberos), Verdict::Authenticated, &[]);
    expect(&on(6, "", OK), Verdict::Unknown, &[]);
    assert_eq!(judge.authenticated_connections().0, 2);
}
