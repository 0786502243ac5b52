use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
};

use super::*;
use crate::credentials::sample::{TestKey, jwks};

const ISSUER: &str = "https://issuer.example";

fn settings(source: KeySource) -> IssuerSettings {
    IssuerSettings { issuer: ISSUER.into(), source, algorithms: None }
}

/// A verifier with these keys, read from a file; nothing reads them again.
fn verifier(directory: &Path, keys: &[TestKey], algorithms: Option<Vec<Algorithm>>) -> Verifier {
    let file = directory.join("keys.json");
    std::fs::write(&file, jwks(keys)).expect("written");
    let verifier = Verifier::without_thread(vec![IssuerSettings { algorithms, ..settings(KeySource::File(file)) }]);
    verifier.shared.step(Instant::now(), |_| true);
    verifier
}

fn payload() -> String {
    format!(r#"{{"iss":"{ISSUER}","sub":"cart"}}"#)
}

fn check(verifier: &Verifier, token: &str) -> Signature {
    let claims = jwt::read(token.as_bytes()).expect("a token");
    verifier.check(token.as_bytes(), blake3::hash(token.as_bytes()).as_bytes(), &claims)
}

fn named(kid: &str) -> serde_json::Value {
    serde_json::json!({ "kid": kid })
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[test]
fn a_token_of_the_issuer_is_verified() {
    let directory = directory();
    let keys = TestKey::all();
    let verifier = verifier(directory.path(), &keys, None);
    for key in &keys {
        for header in [named(key.kid), serde_json::json!({})] {
            let token = key.token(&header, &payload());
            assert_eq!(check(&verifier, &token), Signature::VERIFIED, "{}", key.kid);
            assert_eq!(check(&verifier, &token), Signature::VERIFIED, "remembered");
        }
    }
}

#[test]
fn bad_is_said_only_where_the_named_key_did_not_make_it() {
    let directory = directory();
    let verifier = verifier(directory.path(), &[TestKey::p256("a"), TestKey::ed25519("b")], None);
    let forger = TestKey::p256("a");
    let bad = Signature::bad(Reason::DoesNotFit);
    let unknown = Signature::not_verified(Reason::UnknownKey);
    assert_eq!(check(&verifier, &forger.token(&named("a"), &payload())), bad);
    let mut cut = forger.token(&named("a"), &payload());
    cut.truncate(cut.rfind('.').expect("a dot") + 1);
    assert_eq!(check(&verifier, &cut), bad, "an empty signature");
    // The right key may not be here yet.
    assert_eq!(check(&verifier, &forger.token(&named("c"), &payload())), unknown);
    assert_eq!(check(&verifier, &forger.token(&serde_json::json!({}), &payload())), unknown);
    assert_eq!(check(&verifier, &forger.token(&named(&"a".repeat(300)), &payload())), unknown);
    // A key of another kind.
    let other = Signature::bad(Reason::AlgorithmNotAllowed);
    assert_eq!(check(&verifier, &forger.token(&named("b"), &payload())), other);
}

#[test]
fn algorithms_that_are_not_the_issuers_are_bad() {
    let directory = directory();
    let public = TestKey::p256("a");
    let confused = TestKey::secret("a", b"the public key as text");
    let not_allowed = Signature::bad(Reason::AlgorithmNotAllowed);
    let open = verifier(directory.path(), &[public], None);
    assert_eq!(check(&open, &confused.token(&named("a"), &payload())), not_allowed);
    let unsigned = jwt::tests::token(r#"{"alg":"none"}"#, &payload(), "");
    assert_eq!(check(&open, &unsigned), Signature::bad(Reason::Unsigned));
    let exotic = jwt::tests::token(r#"{"alg":"ES512","kid":"a"}"#, &payload(), "c2ln");
    assert_eq!(check(&open, &exotic), Signature::not_verified(Reason::UnsupportedAlgorithm));
    let (one, two) = (TestKey::p256("a"), TestKey::ed25519("b"));
    let (good, other) = (one.token(&named("a"), &payload()), two.token(&named("b"), &payload()));
    let narrow = verifier(directory.path(), &[one, two], Some(vec![Algorithm::ES256]));
    assert_eq!(check(&narrow, &good), Signature::VERIFIED);
    assert_eq!(check(&narrow, &other), not_allowed);
    assert_eq!(check(&narrow, &exotic), not_allowed);
}

#[test]
fn what_cannot_be_told_is_not_verified() {
    let directory = directory();
    let key = TestKey::p256("a");
    let token = |payload: &str| key.token(&named("a"), payload);
    let (foreign, nobody, opaque) = (token(r#"{"iss":"https://other"}"#), token("{}"), token("not json"));
    let nested = key.token(&serde_json::json!({"kid": "a", "cty": "JWT"}), &token(&payload()));
    let good = token(&payload());
    let verifier = verifier(directory.path(), &[key], None);
    for token in [foreign, nobody, opaque] {
        assert_eq!(check(&verifier, &token), Signature::not_verified(Reason::NoKeys));
    }
    assert_eq!(check(&verifier, &nested), Signature::not_verified(Reason::Nested));
    let encrypted = "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..aaaa.bbbb.cccc";
    assert_eq!(check(&verifier, encrypted), Signature::not_verified(Reason::Encrypted));
    let missing = Verifier::without_thread(vec![settings(KeySource::File(directory.path().join("none")))]);
    assert_eq!(check(&missing, &good), Signature::not_verified(Reason::KeysPending));
    missing.shared.step(Instant::now(), |_| true);
    assert_eq!(check(&missing, &good), Signature::not_verified(Reason::FetchFailed));
    assert_eq!((missing.reads()[0].read, missing.reads()[0].failed), (0, 1));
}

#[test]
fn a_changed_file_is_read_again_and_what_was_said_is_said_anew() {
    let directory = directory();
    let (old, new) = (TestKey::p256("old"), TestKey::p256("new"));
    let (before, after) = (old.token(&named("old"), &payload()), new.token(&named("new"), &payload()));
    let verifier = verifier(directory.path(), &[old], None);
    let unknown = Signature::not_verified(Reason::UnknownKey);
    assert_eq!((check(&verifier, &before), check(&verifier, &after)), (Signature::VERIFIED, unknown));
    std::fs::write(directory.path().join("keys.json"), jwks(&[new])).expect("written");
    let start = Instant::now();
    verifier.shared.step(start, |_| true);
    assert_eq!(check(&verifier, &after), unknown, "not before the pace allows it");
    verifier.shared.step(start + FILE_PACE.least * 2, |_| true);
    assert_eq!((check(&verifier, &before), check(&verifier, &after)), (unknown, Signature::VERIFIED));
    // A file that breaks leaves the keys as they are.
    std::fs::write(directory.path().join("keys.json"), "{").expect("written");
    verifier.shared.step(start + FILE_PACE.usual * 3, |_| true);
    assert_eq!(check(&verifier, &after), Signature::VERIFIED);
    assert_eq!(check(&verifier, &before), Signature::not_verified(Reason::FetchFailed));
}

#[test]
fn tries_keep_their_distance() {
    let directory = directory();
    let verifier = verifier(directory.path(), &[TestKey::p256("a")], None);
    let issuer = &verifier.shared.issuers[0];
    let now = Instant::now();
    assert!(issuer.due_in(now) > FILE_PACE.least);
    verifier.want(issuer);
    assert!(issuer.due_in(now) <= FILE_PACE.least && !issuer.due_in(now).is_zero());
    assert!(issuer.due_in(now + FILE_PACE.usual).is_zero());
}

#[test]
fn what_is_remembered_is_bounded() {
    let directory = directory();
    let key = TestKey::secret("a", b"secret");
    let token = key.token(&named("a"), &payload());
    let verifier = verifier(directory.path(), &[key], None);
    let claims = jwt::read(token.as_bytes()).expect("a token");
    for number in 0..REMEMBERED + 100 {
        let identity = blake3::hash(&number.to_le_bytes());
        verifier.check(token.as_bytes(), identity.as_bytes(), &claims);
    }
    assert_eq!(verifier.remembered(), (REMEMBERED, REMEMBERED));
}

/// Answers every request on `listener` with the next of these.
fn serve(listener: TcpListener, answers: Vec<String>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = [0; 4096];
            let read = stream.read(&mut request).expect("a request");
            assert!(request[..read].starts_with(b"GET /jwks.json HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).expect("answered");
        }
    })
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}", body.len())
}

#[test]
fn keys_are_fetched_and_a_failure_takes_nothing_away() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/jwks.json", listener.local_addr().expect("an address"));
    let (old, new) = (TestKey::p256("old"), TestKey::p256("new"));
    let (before, after) = (old.token(&named("old"), &payload()), new.token(&named("new"), &payload()));
    let answers = vec![
        answer("503 Service Unavailable", "", ""),
        answer("200 OK", "", &jwks(&[old])),
        answer("302 Found", "Location: http://127.0.0.1:1/\r\n", ""),
        answer("200 OK", "", &"x".repeat(600 << 10)),
        answer("200 OK", "", &jwks(&[new])),
    ];
    let server = serve(listener, answers);
    let source = KeySource::url(&url, None).expect("a URL");
    let verifier = Verifier::without_thread(vec![settings(source)]);
    let mut now = Instant::now();
    let mut step = || {
        verifier.shared.step(now, |_| true);
        now += URL_PACE.usual * 2;
    };
    let failed = Signature::not_verified(Reason::FetchFailed);
    step();
    assert_eq!(check(&verifier, &before), failed);
    step();
    assert_eq!(
        (check(&verifier, &before), check(&verifier, &after)),
        (Signature::VERIFIED, Signature::not_verified(Reason::UnknownKey))
    );
    for _ in ["a redirect", "too much"] {
        step();
        assert_eq!((check(&verifier, &before), check(&verifier, &after)), (Signature::VERIFIED, failed));
    }
    step();
    assert_eq!(check(&verifier, &after), Signature::VERIFIED);
    server.join().expect("served");
    assert_eq!((verifier.reads()[0].read, verifier.reads()[0].failed), (2, 3));
}

#[test]
fn the_thread_fetches_and_a_replay_waits_for_it() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/jwks.json", listener.local_addr().expect("an address"));
    let key = TestKey::ed25519("a");
    let token = key.token(&named("a"), &payload());
    let server = serve(listener, vec![answer("200 OK", "", &jwks(&[key]))]);
    let verifier = Verifier::start(vec![settings(KeySource::url(&url, None).expect("a URL"))]).expect("started");
    verifier.wait(Duration::from_secs(60));
    assert_eq!(check(&verifier, &token), Signature::VERIFIED);
    server.join().expect("served");
}
