//! Connections whose ends speak at the same time: the server greets in the moment the client's first bytes arrive, so that both
//! directions of its socket meet the kernel programs at once, on two processors.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use anyhow::Result;
use auditor_tests::{
    auditor::{Auditor, port},
    http2::{GET, HTTP, OK, SETTINGS, request},
    oracle::AMPLE,
    process::PATIENCE,
};
use auditor_wire::http2::{
    frame,
    frame::{END_HEADERS, END_STREAM, HEADERS, PREFACE},
};
use serde_json::Value;

/// Connections, each with one call: of as many, some tens were once not seen whole.
const CONNECTIONS: usize = 10_000;
/// Bytes of a frame's header.
const HEADER: usize = 9;

/// The head of a call without a credential.
fn head(call: usize) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &request(GET, HTTP, &path(call), None))
}

fn path(call: usize) -> String {
    format!("/greeting/{call:05}")
}

/// What a client sends at once.
fn opening(call: usize) -> Vec<u8> {
    [&PREFACE[..], &frame(SETTINGS, 0, 0, &[]), &head(call)].concat()
}

/// Greets before it reads, and answers each connection's call with a 200.
fn server() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let serve = |mut stream: TcpStream| -> std::io::Result<()> {
        stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
        stream.read_exact(&mut vec![0; opening(0).len()])?;
        stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &[OK]))?;
        // Until the client ends it.
        stream.read_exact(&mut [0]).or(Ok(()))
    };
    // The thread ends with the test's process. One connection at a time: another thread would greet later.
    thread::spawn(move || listener.incoming().flatten().try_for_each(serve));
    Ok(port)
}

fn make(to: u16, call: usize) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", to))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&opening(call))?;
    Ok(stream.read_exact(&mut [0; 2 * HEADER + 1])?)
}

fn is_right(record: &Value) -> bool {
    record["reporter"] == "destination"
        && record["verdict"] == "unauthenticated"
        && record["outcome"] == "accepted"
        && record["response"]["status"] == 200
}

#[test]
fn both_ends_are_seen_from_their_first_byte_where_they_speak_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let to = server().unwrap();
    let mut auditor = Auditor::watch(directory.path(), &["--ring-bytes", AMPLE]).unwrap();
    for call in 0..CONNECTIONS {
        make(to, call).unwrap();
    }
    let mut told = 0;
    let mut looked_at = 0;
    let waited = auditor.wait_until(PATIENCE, |records| {
        let ours = |record: &&Value| port(record, "destination") == Some(to);
        told += records[looked_at..].iter().filter(ours).count();
        looked_at = records.len();
        told >= CONNECTIONS
    });
    let finished = auditor.stop().unwrap();
    let mut records: Vec<&Value> =
        finished.records.iter().filter(|record| port(record, "destination") == Some(to)).collect();
    records.sort_by_key(|record| record["request"]["path"].as_str());
    let wrong: Vec<_> = records.iter().filter(|record| !is_right(record)).take(3).collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", finished.log);
    let paths = records.iter().map(|record| record["request"]["path"].as_str().unwrap_or_default());
    assert!(
        paths.eq((0..CONNECTIONS).map(path)),
        "{} of {CONNECTIONS} calls, or others\n{}",
        records.len(),
        finished.log
    );
    assert!(!finished.log.contains("records were lost"), "{}", finished.log);
    waited.unwrap();
}
