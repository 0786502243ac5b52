//! More frames in a packet than the kernel programs walk one by one: what follows is copied, so that user space goes on; where even
//! that ends, no call is judged by what was not seen.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use anyhow::Result;
use auditor_tests::{
    auditor::{Auditor, Daemon, port},
    http2::{HTTP, OK, POST, SETTINGS, request},
    oracle::AMPLE,
    process::PATIENCE,
};
use auditor_wire::http2::{
    frame,
    frame::{DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE},
};
use serde_json::Value;

/// Calls that are made, each with a body that is sent in one go; every other one has a credential.
const CALLS: usize = 100;
/// The shortest payload of DATA that is left out.
const PIECE: usize = 256;
/// Pieces of the bodies: few enough to be walked in one packet, too many, and too many in several packets.
const PIECES: [usize; 4] = [4, 40, 220, 700];

/// The next frame: its kind, flags and stream.
fn next(stream: &mut TcpStream) -> std::io::Result<(u8, u8, u32)> {
    let mut header = [0; 9];
    stream.read_exact(&mut header)?;
    let [a, b, c, kind, flags, number @ ..] = header;
    stream.read_exact(&mut vec![0; u32::from_be_bytes([0, a, b, c]) as usize])?;
    Ok((kind, flags, u32::from_be_bytes(number)))
}

/// Answers each call with a 200 once its body has come.
fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    stream.read_exact(&mut [0; 24])?;
    loop {
        let (kind, flags, number) = next(&mut stream)?;
        if kind <= HEADERS && flags & END_STREAM != 0 {
            stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, number, &[OK]))?;
        }
    }
}

fn server() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    // The thread ends with the test's process.
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(thread::spawn(|| serve(stream)))));
    Ok(port)
}

fn path(call: usize) -> String {
    format!("/bounds/{call}")
}

fn has_credential(call: usize) -> bool {
    call % 2 == 1
}

/// A call's frames: a head, a body in pieces, and its end.
fn bytes(call: usize, pieces: usize) -> Vec<u8> {
    let block = request(POST, HTTP, &path(call), has_credential(call).then_some("Bearer of-bounds"));
    let stream = u32::try_from(2 * call + 1).expect("few calls");
    let mut bytes = frame(HEADERS, END_HEADERS, stream, &block);
    for _ in 0..pieces {
        bytes.extend(frame(DATA, 0, stream, &[b'x'; PIECE]));
    }
    bytes.extend(frame(DATA, END_STREAM, stream, &[]));
    bytes
}

fn connect(to: u16) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", to))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[&PREFACE[..], &frame(SETTINGS, 0, 0, &[])].concat())?;
    Ok(stream)
}

/// Makes two calls at once, the second one's head behind the first one's body, and waits for their answers.
fn make(stream: &mut TcpStream, first: usize, pieces: usize) -> Result<()> {
    stream.write_all(&[bytes(first, pieces), bytes(first + 1, pieces.min(4))].concat())?;
    for _ in 0..2 {
        while next(stream)?.0 != HEADERS {}
    }
    Ok(())
}

/// What the kernel programs lost, but what is 0.
fn losses(auditor: &Daemon) -> Result<Vec<String>> {
    let metrics = auditor.get("/metrics")?;
    let lost = metrics.lines().filter(|line| line.starts_with("auditor_capture_lost_total") && !line.ends_with(" 0"));
    Ok(lost.map(str::to_owned).collect())
}

/// The records of calls to a port, by path; those without a path under the empty one.
fn by_path(records: &[Value], to: u16) -> HashMap<&str, Vec<&Value>> {
    let mut told: HashMap<&str, Vec<&Value>> = HashMap::new();
    for record in records.iter().filter(|record| port(record, "destination") == Some(to)) {
        told.entry(record["request"]["path"].as_str().unwrap_or_default()).or_default().push(record);
    }
    told
}

/// Waits until a call was told of.
fn await_call(auditor: &mut Auditor, call: usize) -> Result<()> {
    let (path, mut looked_at) = (path(call), 0);
    auditor.wait_until(PATIENCE, |records| {
        let new = &records[std::mem::replace(&mut looked_at, records.len())..];
        new.iter().any(|record| record["request"]["path"] == path.as_str())
    })
}

/// Whether a record says of a call what is right.
fn is_right(record: &Value, call: usize) -> bool {
    let verdict = if has_credential(call) { "authenticated" } else { "unauthenticated" };
    record["verdict"] == verdict && record["outcome"] == "accepted" && record["response"]["status"] == 200
}

#[test]
fn frames_that_cannot_be_walked_one_by_one_are_copied_and_every_call_is_judged() {
    let directory = tempfile::tempdir().unwrap();
    let to = server().unwrap();
    let daemon = Daemon::start(directory.path(), &["--ring-bytes", AMPLE]).unwrap();
    let mut auditor = Auditor::watch(directory.path(), &["--ring-bytes", AMPLE]).unwrap();
    let mut stream = connect(to).unwrap();
    for first in (0..CALLS).step_by(2) {
        make(&mut stream, first, PIECES[first / 2 % PIECES.len()]).unwrap();
    }
    let waited = await_call(&mut auditor, CALLS - 1);
    let finished = auditor.stop().unwrap();
    let told = by_path(&finished.records, to);
    assert_eq!(told.get(""), None, "calls without a path");
    for number in 0..CALLS {
        let came = told.get(path(number).as_str()).map_or(&[][..], Vec::as_slice);
        assert!(matches!(came, [record] if is_right(record, number)), "call {number}: {came:?}\n{}", finished.log);
    }
    assert_eq!(losses(&daemon).unwrap(), Vec::<String>::new());
    daemon.stop().unwrap();
    waited.unwrap();
}

/// Behind more packets than are copied while the position is not known the calls that cannot be seen are unknown, and the first
/// packet that begins with a frame is read again.
#[test]
fn behind_a_flood_of_frames_nothing_is_judged_that_was_not_seen() {
    const FLOOD: usize = 30_000;
    let directory = tempfile::tempdir().unwrap();
    let to = server().unwrap();
    let mut auditor = Auditor::watch(directory.path(), &["--ring-bytes", AMPLE]).unwrap();
    let mut stream = connect(to).unwrap();
    for first in (0..CALLS).step_by(2) {
        make(&mut stream, first, if first == 2 { FLOOD } else { 4 }).unwrap();
    }
    let waited = await_call(&mut auditor, CALLS - 1);
    let finished = auditor.stop().unwrap();
    let mut told = by_path(&finished.records, to);
    let unseen = told.remove("").unwrap_or_default();
    eprintln!("{} without a path, {} with one", unseen.len(), told.len());
    let explained = |record: &Value| record["verdict"] == "unknown" && record["unknown_reason"].is_string();
    assert!(unseen.iter().all(|record| explained(record)), "{unseen:?}");
    assert_eq!(unseen.len() + told.len(), CALLS, "{}", finished.log);
    for number in 0..CALLS {
        let came = told.get(path(number).as_str()).map_or(&[][..], Vec::as_slice);
        // The flood is the body of one call; the head of another stands behind it.
        let may_be_unknown = matches!(number, 2 | 3);
        let fine = |record: &Value| is_right(record, number) || (may_be_unknown && explained(record));
        let right = matches!(came, [record] if fine(record)) || (came.is_empty() && may_be_unknown);
        assert!(right, "call {number}: {came:?}\n{}", finished.log);
    }
    waited.unwrap();
}
