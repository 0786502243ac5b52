use std::{
    io::Cursor,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use auditor_wire::{
    exchange::{Deviations, End, Protocol, Reporter, UnknownReason, Version},
    http1::head,
    segment::{Endpoints, SocketId, Timestamp},
    tls,
};

use super::*;
use crate::{
    certificates::sample::{Authority, Wanted},
    credentials::{
        Extractor, Settings,
        sample::{TestKey, jwks},
        verify::{IssuerSettings, KeySource, Verifier},
    },
    judgement::{Container, Judgement, Party, Process},
    policy::{self, Judge},
};

const SECRET: &str = "s3cr3t-canary-value-0123456789";

/// What is written while the test looks on.
#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn party(address: SocketAddr) -> Party {
    Party {
        address: address.ip().into(),
        port: address.port(),
        unix_path: None,
        internal: true,
        process: Some(Arc::new(Process {
            pid: 42,
            command: "curl".into(),
            executable: Some("/usr/bin/curl".into()),
            arguments: Some("curl -H ***".into()),
            user: Some(1000),
        })),
        container: Some(Arc::new(Container { id: "abc".into() })),
        workload: Some("shop".into()),
    }
}

fn end(address: SocketAddr, socket: Option<u64>) -> End {
    End { address, socket: socket.map(SocketId), owner: None, cgroup: None, netns: None }
}

fn addresses() -> (SocketAddr, SocketAddr) {
    ("10.0.0.1:50000".parse().expect("an address"), "[fd00::2]:80".parse().expect("an address"))
}

fn call(request: Option<&str>, response: Option<&str>, unknown: Option<UnknownReason>) -> Attributed<Exchange> {
    let (client, server) = addresses();
    let read = |text: &str| head::request(text.into(), 1000).expect("a request").request;
    let answer = |text: &str| head::response(text.into(), 2000).expect("a response").response;
    Attributed {
        observed: Exchange {
            reporter: Reporter::Destination,
            source: end(client, None),
            destination: end(server, Some(7)),
            wire: Endpoints { local: client, remote: server },
            time: Timestamp(1_700_000_000_123_456_789),
            request: request.map(read),
            response: response.map(answer),
            duration: response.map(|_| Duration::from_micros(2100)),
            unknown,
            deviations: Deviations { leading_garbage: true, ..Deviations::default() },
            tls: None,
            passed_over: 0,
            repeatable: None,
        },
        source: party(client),
        destination: party(server),
    }
}

fn calls() -> Vec<Attributed<Exchange>> {
    let bearer = format!(
        "POST /admin/items?page=2&api_key={SECRET} HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {SECRET}\r\n\r\n"
    );
    let basic =
        format!("GET /x HTTP/1.0\r\nHost: shop\r\nAuthorization: Basic {SECRET}=\r\nCookie: sid={SECRET}; a=b\r\n\r\n");
    // {"alg":"none"} . {"sub":"me"} . a signature that is secret
    let token = format!(
        "GET /t HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJtZSJ9.{SECRET}\r\n\r\n"
    );
    let cut = format!("GET /cut HTTP/1.1\r\nHost: shop\r\nX-Api-Key: {SECRET}");
    let ok = "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 2\r\n\r\n";
    vec![
        call(Some("GET /plain HTTP/1.1\r\nHost: shop\r\n\r\n"), Some(ok), None),
        call(Some(&bearer), Some(ok), None),
        call(Some(&basic), Some("HTTP/1.1 401 Unauthorized\r\n\r\n"), None),
        call(Some(&token), Some(ok), None),
        call(Some(&cut), None, Some(UnknownReason::HeadTruncated)),
        call(None, Some(ok), Some(UnknownReason::MidStream)),
    ]
}

/// Everything that a recording keeps of a TLS connection.
fn facts() -> tls::Facts {
    let authority = Authority::new("CA");
    tls::Facts {
        version: Some(tls::Version(0x0303)),
        suite: Some(0xc02b),
        sni: Some("shop".into()),
        alpn: vec!["h2".into()],
        resumed: Some(false),
        requested: Some(true),
        client: tls::ClientAuth {
            certificate: tls::ClientCertificate::Presented,
            accepted: tls::Accepted::Yes,
            evidence: tls::Evidence::Proven,
            inherited: Some(true),
        },
        client_chain: vec![authority.issue(&Wanted::default()), authority.der()],
        server_chain: vec![authority.issue(&Wanted { name: "shop", ..Wanted::default() })],
        refused: Some(tls::ClientCertificate::Empty),
        verified: Some(true),
        chain_cut: true,
        client_random: Some([7; 32]),
    }
}

#[test]
fn all_that_is_known_of_tls_survives_but_the_random() {
    let recorder = Recorder::new(FingerprintKey::from_bytes([2; 32]));
    let facts = facts();
    let mut call = call(Some("GET / HTTP/1.1\r\nHost: shop\r\n\r\n"), None, None);
    call.observed.tls = Some(Box::new(facts.clone()));
    let mut connection = connections().remove(0);
    connection.observed.protocol = Protocol::Tls(Box::new(facts.clone()));
    let expected = tls::Facts { client_random: None, ..facts };
    let read = |bytes: Vec<u8>| entry::read(&bytes).expect("an entry");
    match read(recorder.exchange(&call).entry(&[]).expect("an entry")) {
        Recorded::Exchange(call, _) => assert_eq!(call.observed.tls.as_deref(), Some(&expected)),
        Recorded::Connection(_) => panic!("a call came back as a connection"),
    }
    match read(recorder.connection(&connection).expect("an entry")) {
        Recorded::Connection(connection) => {
            assert_eq!(connection.observed.protocol, Protocol::Tls(Box::new(expected)));
        }
        Recorded::Exchange(..) => panic!("a connection came back as a call"),
    }
}

#[test]
fn the_version_of_a_call_survives() {
    let recorder = Recorder::new(FingerprintKey::from_bytes([2; 32]));
    for version in [Version::Http2, Version::Http1(1)] {
        let mut call = call(Some("GET / HTTP/1.1\r\nHost: shop\r\n\r\n"), None, None);
        call.observed.request.as_mut().expect("a request").version = version;
        match entry::read(&recorder.exchange(&call).entry(&[]).expect("an entry")).expect("an entry") {
            Recorded::Exchange(call, _) => {
                assert_eq!(call.observed.request.map(|request| request.version), Some(version))
            }
            Recorded::Connection(_) => panic!("a call came back as a connection"),
        }
    }
}

#[test]
fn recordings_of_before_are_read() {
    let recorder = Recorder::new(FingerprintKey::from_bytes([2; 32]));
    let entry = recorder.connection(&connections().remove(0)).expect("an entry");
    let mut entry: serde_json::Value = serde_json::from_slice(&entry).expect("JSON");
    entry["connection"]["protocol"]["tls"] = serde_json::json!({"sni": "shop", "alpn": ["h2", "http/1.1"]});
    match entry::read(entry.to_string().as_bytes()).expect("an entry") {
        Recorded::Connection(connection) => {
            assert_eq!(connection.observed.protocol, connections()[0].observed.protocol)
        }
        Recorded::Exchange(..) => panic!("a connection came back as a call"),
    }
}

fn connections() -> Vec<Attributed<Connection>> {
    let (client, server) = addresses();
    let protocols = [
        Protocol::Tls(Box::new(tls::Facts {
            sni: Some("shop".into()),
            alpn: vec!["h2".into(), "http/1.1".into()],
            ..tls::Facts::default()
        })),
        Protocol::Tls(Box::new(facts())),
        Protocol::Http2,
        Protocol::Other,
    ];
    let connection = |protocol| Attributed {
        observed: Connection {
            reporter: Reporter::Source,
            source: end(client, Some(3)),
            destination: end(server, None),
            wire: Endpoints { local: client, remote: server },
            time: Timestamp(5),
            protocol,
        },
        source: party(client),
        destination: party(server),
    };
    protocols.map(connection).into()
}

/// Judgements as JSON, fingerprints left out: they belong to a key.
fn judged(judgement: Option<Judgement>) -> serde_json::Value {
    let mut record = serde_json::to_value(judgement.expect("internal")).expect("JSON");
    for credential in record["credentials"].as_array_mut().expect("a list") {
        credential["fingerprint"] = "".into();
    }
    record
}

fn judge() -> Judge {
    let key = FingerprintKey::from_bytes([1; 32]);
    Judge::new(policy::Settings::default(), Extractor::new(Settings::default(), key))
}

#[test]
fn what_was_found_out_about_signatures_is_replayed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("keys.json");
    let (key, forger) = (TestKey::p256("a"), TestKey::p256("a"));
    let payload = r#"{"iss":"i","exp":1700000100,"iat":1700000000}"#;
    let token = |key: &TestKey| key.token(&serde_json::json!({"kid": "a"}), payload);
    let (good, bad) = (token(&key), token(&forger));
    std::fs::write(&path, jwks(&[key])).expect("written");
    let issuer = IssuerSettings { issuer: "i".into(), source: KeySource::File(path), algorithms: None };
    let verifier = Arc::new(Verifier::start(vec![issuer]).expect("started"));
    let extractor = || Extractor::new(Settings::default(), FingerprintKey::from_bytes([1; 32]));
    let mut live = Judge::new(policy::Settings::default(), extractor().with_verifier(Arc::clone(&verifier)));
    let mut other_keys = Judge::new(policy::Settings::default(), extractor().with_verifier(verifier));
    let recorder = Recorder::new(FingerprintKey::from_bytes([2; 32]));
    for (token, expected, verdict) in [(good, "verified", "weak"), (bad, "bad", "weak")] {
        let head = format!(
            "GET /x HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {token}\r\nX-Forwarded-Client-Cert: Hash=0123456789abcdef;URI=spiffe://a/b\r\n\
             Signature-Input: s=(\"@method\");created=1700000000\r\nSignature: s=:YWJj:\r\nDPoP: {token}\r\n\r\n"
        );
        let observed = || call(Some(&head), Some("HTTP/1.1 200 OK\r\n\r\n"), None);
        let judgement = live.exchange(observed()).expect("internal");
        let entry = recorder.exchange(&observed()).entry(&judgement.credentials).expect("an entry");
        let said = judged(Some(judgement));
        assert_eq!(said["credentials"][0]["signature"], expected);
        assert_eq!(said["verdict"], verdict);
        let kinds: Vec<_> = said["credentials"].as_array().expect("a list").iter().map(|one| &one["kind"]).collect();
        assert_eq!(kinds, ["bearer-jwt", "forwarded-client-cert", "http-signature", "dpop"]);
        // With keys or without, what is masked is not checked again.
        for judge in [&mut judge(), &mut other_keys] {
            let Recorded::Exchange(call, checked) = entry::read(&entry).expect("an entry") else { panic!("a call") };
            assert_eq!(judged(judge.recorded(*call, &checked)), said);
        }
        // An entry of before has no such facts: nothing is said of them.
        let mut before: serde_json::Value = serde_json::from_slice(&entry).expect("JSON");
        before["exchange"].as_object_mut().expect("an object").remove("checked");
        let Recorded::Exchange(call, checked) = entry::read(before.to_string().as_bytes()).expect("an entry") else {
            panic!("a call")
        };
        let said = judged(other_keys.recorded(*call, &checked));
        assert!(said["credentials"][0].get("signature").is_none(), "{said}");
    }
}

fn recorded() -> Vec<u8> {
    let recorder = Recorder::new(FingerprintKey::from_bytes([2; 32]));
    let written = Shared::default();
    let mut file = RecordingFile::new(written.clone()).expect("begins");
    for call in calls() {
        let masked = recorder.exchange(&call);
        let credentials = judge().exchange(call).expect("internal").credentials;
        file.write(&masked.entry(&credentials).expect("an entry")).expect("written");
    }
    for connection in connections() {
        file.write(&recorder.connection(&connection).expect("an entry")).expect("written");
    }
    file.end().expect("written");
    let bytes = written.0.lock().expect("not poisoned");
    bytes.clone()
}

/// Judgements of a recording, and the message it ended with.
fn replay(bytes: Vec<u8>) -> (Vec<serde_json::Value>, Option<String>) {
    let mut judge = judge();
    let mut records = Vec::new();
    let mut recording = match Recording::new("file", Box::new(Cursor::new(bytes))) {
        Ok(recording) => recording,
        Err(error) => return (records, Some(error.to_string())),
    };
    loop {
        let status = recording.drain(&mut |recorded| {
            records.push(judged(match recorded {
                Recorded::Exchange(call, checked) => judge.recorded(*call, &checked),
                Recorded::Connection(connection) => judge.connection(*connection),
            }));
        });
        match status {
            Ok(Status::End) => return (records, None),
            Ok(_) => {}
            Err(error) => {
                assert_eq!(recording.drain(&mut |_| panic!("after the end")).expect("ended"), Status::End);
                return (records, Some(error.to_string()));
            }
        }
    }
}

#[test]
fn replays_to_the_same_judgements() {
    let mut judge = judge();
    let mut expected: Vec<_> = calls().into_iter().map(|call| judged(judge.exchange(call))).collect();
    expected.extend(connections().into_iter().map(|connection| judged(judge.connection(connection))));
    let (actual, end) = replay(recorded());
    assert_eq!(end, None);
    assert_eq!(actual.len(), expected.len());
    for (actual, expected) in actual.iter().zip(&expected) {
        assert_eq!(actual, expected, "\nactual   {actual}\nexpected {expected}");
    }
    let verdicts: Vec<_> = expected.iter().map(|record| record["verdict"].as_str().expect("a word")).collect();
    let all =
        ["unauthenticated", "weak", "weak", "weak", "unknown", "unknown", "unknown", "weak", "unknown", "unknown"];
    assert_eq!(verdicts, all, "the calls here are of every kind");
}

#[test]
fn holds_no_secret() {
    let bytes = recorded();
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains(SECRET));
    // Heads are base64: look into them, too.
    let mut recording = Recording::new("file", Box::new(Cursor::new(bytes))).expect("opens");
    let mut heads = 0;
    let status = recording.drain(&mut |recorded| {
        if let Recorded::Exchange(call, _) = recorded {
            let head = call.observed.request.as_ref().map(|request| request.head.bytes().to_vec()).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&head).contains(&SECRET[..8]));
            heads += usize::from(!head.is_empty());
        }
    });
    assert_eq!(status.expect("whole"), Status::End);
    assert_eq!(heads, 5);
}

#[test]
fn is_made_for_its_owner_alone_and_overwrites_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("calls.auditor");
    let mut file = RecordingFile::create(&path).expect("made");
    file.end().expect("written");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    let error = RecordingFile::create(&path).expect_err("exists").to_string();
    assert!(
        error.ends_with("calls.auditor: cannot be made (file exists); name one that does not exist yet"),
        "{error}"
    );
    let (records, end) = replay(std::fs::read(&path).expect("there"));
    assert_eq!((records.len(), end), (0, None), "an empty recording is whole");
}

#[test]
fn damage_is_said_with_its_place() {
    let whole = recorded();
    let first = 12;
    let length = |at: usize| u32::from_le_bytes(whole[at..at + 4].try_into().expect("4 bytes")) as usize;
    let second = first + 12 + length(first);
    let mut flipped = whole.clone();
    flipped[second + 20] ^= 1;
    let mut overlong = whole.clone();
    overlong[second..second + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut missing = whole.clone();
    missing.drain(first..second);
    let mut future = whole.clone();
    future[8] = 9;
    let at_second = format!("file: at byte {second}, after 1 entries: ");
    for (bytes, records, expected) in [
        (flipped, 1, format!("{at_second}an entry's checksum does not fit its bytes; ")),
        (overlong, 1, format!("{at_second}an entry of 4294967295 bytes is claimed, ")),
        (whole[..second + 5].to_vec(), 1, format!("{at_second}the file ends without its end mark; ")),
        (whole[..second].to_vec(), 1, format!("{at_second}the file ends without its end mark; ")),
        (missing, 9, "9 entries were read and 10 were written; some are missing".to_owned()),
        (future, 0, "the recording is of version 9 and this auditor reads version 1; ".to_owned()),
        (b"AUDITREC".to_vec(), 0, "the file ends without its end mark".to_owned()),
        (b"something else".to_vec(), 0, "this is no recording; ".to_owned()),
    ] {
        let (actual, end) = replay(bytes);
        assert_eq!(actual.len(), records, "{expected}");
        let end = end.expect("an error");
        assert!(end.contains(&expected), "expected {expected}\nactual   {end}");
    }
}

#[test]
fn entries_that_make_no_sense_are_refused() {
    for entry in [
        &b"not json"[..],
        b"{}",
        br#"{"exchange":{}}"#,
        br#"{"connection":{"time_ns":1,"reporter":"nobody"}}"#,
        &[b'['; 100_000],
        &[0xff; 64],
    ] {
        let written = Shared::default();
        let mut file = RecordingFile::new(written.clone()).expect("begins");
        file.write(entry).expect("written");
        file.end().expect("written");
        let bytes = written.0.lock().expect("not poisoned").clone();
        let (records, end) = replay(bytes);
        assert_eq!(records.len(), 0);
        assert!(end.is_some_and(|end| end.contains("at byte 12, after 1 entries: an entry is not an entry of this version")));
    }
    assert!(RecordingFile::new(Vec::new()).expect("begins").write(&vec![0; 1 << 20]).is_err());
}

#[test]
fn no_bytes_make_it_panic() {
    let whole = recorded();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..2000 {
        let mut bytes = whole.clone();
        for _ in 0..=random() % 4 {
            let at = usize::try_from(random() % bytes.len() as u64).expect("small");
            bytes[at] = random().to_le_bytes()[0];
        }
        bytes.truncate(usize::try_from(random() % (2 * bytes.len() as u64)).expect("small"));
        replay(bytes);
    }
}
