//! Random secrets in calls with findings: none is in what any sink for findings sends, in the files of records, or in the state.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use auditor::{
    credentials::FingerprintKey,
    evidence::{Event, Ledger, SECTION, SECTION_VERSION, Saved},
    judgement::{Finding, Judgement, Severity},
    sinks::{
        Sink,
        deliver::{
            Alertmanager, Client, Counts, Deliver, Endpoint, Facility, Item, Journald, Post, Syslog, SyslogAddress,
            Webhook,
        },
        rotate::{RotatingFile, Rotation},
        steady::Steady,
    },
    state::{Snapshot, StateDir},
};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use crate::{
    canary::{assert_no_leak, config, head, places, secret},
    judged,
};

type Bytes = Arc<Mutex<Vec<u8>>>;

/// Takes requests and keeps everything that comes.
fn http_receiver() -> (Endpoint, Bytes) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = Endpoint::parse(&format!("http://{}", listener.local_addr().expect("bound"))).expect("a URL");
    let received = Bytes::default();
    let kept = Arc::clone(&received);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(stream, &kept);
        }
    });
    (endpoint, received)
}

fn serve(mut stream: TcpStream, kept: &Bytes) {
    let mut head = Vec::new();
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let mut kept = kept.lock().expect("not poisoned");
        kept.append(&mut head);
        kept.append(&mut body);
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

/// Everything that the sinks make of these calls.
fn everything(judgements: &[Judgement], directory: &Path) -> String {
    let mut ledger = Ledger::new(10_000, SignedDuration::from_hours(1));
    let mut events: Vec<Event> = Vec::new();
    for judgement in judgements {
        ledger.judgement(judgement, |event| events.push(event));
    }
    assert!(events.len() > 10, "{}", events.len());
    let mut all = format!("{ledger:?}");

    let (endpoint, received) = http_receiver();
    let client = || Client::new(endpoint.clone(), Duration::from_secs(10), None).expect("a client");
    Webhook::new(client(), Vec::new(), Some(b"key"), "node".to_owned()).post(&events, 0).expect("taken");
    let counts = Arc::new(Counts::default());
    let mut alertmanager = Alertmanager::new(
        client(),
        SignedDuration::from_hours(1_000_000),
        10_000,
        BTreeMap::new(),
        Arc::clone(&counts),
    );
    alertmanager.take(Item::Active(ledger.seen_since(Timestamp::UNIX_EPOCH)));
    alertmanager.close();
    assert_eq!((counts.errors(), counts.dropped()), (0, 0));
    let received = received.lock().expect("not poisoned");
    assert_eq!(received.windows(4).filter(|bytes| bytes == b"POST").count(), 2);
    all.push_str(&String::from_utf8_lossy(&received));

    all.push_str(&logs(&events, directory));
    all.push_str(&files(judgements, &ledger, directory));
    all
}

fn logs(events: &[Event], directory: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = SyslogAddress::Tcp(listener.local_addr().expect("bound").to_string());
    let reader = thread::spawn(move || {
        let mut text = String::new();
        listener.accept().expect("a connection").0.read_to_string(&mut text).expect("text");
        text
    });
    Syslog::new(address, Facility::DAEMON, "node".to_owned()).post(events, 0).expect("taken");
    let mut text = reader.join().expect("read");
    let socket = directory.join("journal");
    let journal = UnixDatagram::bind(&socket).expect("a socket");
    let mut journald = Journald::new(&socket);
    let mut buffer = vec![0; 1 << 17];
    for event in events {
        journald.post(std::slice::from_ref(event), 0).expect("taken");
        let length = journal.recv(&mut buffer).expect("an entry");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    fs::remove_file(socket).expect("removed");
    text
}

/// The state file, and records over several rotated files.
fn files(judgements: &[Judgement], ledger: &Ledger, directory: &Path) -> String {
    let state = StateDir::open(&directory.join("state")).expect("a directory");
    FingerprintKey::load_or_create(&state.key_file()).expect("a key");
    state.saver().save(Snapshot::new().with(SECTION, SECTION_VERSION, Saved::of(ledger))).expect("saved");
    let path = directory.join("findings.jsonl");
    let file = RotatingFile::open(&path, Rotation { max_bytes: 64 << 10, keep: 1000 }).expect("a file");
    let mut sink = Steady::new(file, Arc::new(Counts::default()));
    for judgement in judgements {
        sink.judgement(judgement);
        sink.flush().expect("written");
    }
    let mut text = String::new();
    for directory in [directory.to_owned(), directory.join("state")] {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                text.push_str(&String::from_utf8_lossy(&fs::read(path).expect("read")));
            }
        }
    }
    text
}

/// Without what a hash of a secret is allowed to be: its fingerprint.
fn call(head: &str) -> Judgement {
    let mut judgement = judged(head, "HTTP/1.1 200 OK\r\n\r\n");
    let detail = "no proof of identity".into();
    judgement.findings.push(Finding { rule: "unauthenticated-call", severity: Severity::High, detail });
    judgement
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..config() })]

    #[test]
    fn no_secret_comes_out_of_any_sink_or_stays_in_any_file(secret in secret()) {
        let mut judgements: Vec<_> = places(&secret).iter().map(|place| call(&head(place))).collect();
        judgements.push(call(&head(&("/named".to_owned(), format!("X-{secret}: 1\r\n{secret}: {secret}\r\n")))));
        for (number, judgement) in judgements.iter_mut().enumerate() {
            judgement.destination.workload = Some(format!("service-{number}").into());
        }
        let directory = tempfile::tempdir().expect("a directory");
        let all = everything(&judgements, directory.path());
        assert_no_leak(&all, &secret, "all sinks and files")?;
        assert_no_leak(&all.to_ascii_lowercase(), &secret.to_ascii_lowercase(), "all sinks and files, in lower case")?;
    }
}
