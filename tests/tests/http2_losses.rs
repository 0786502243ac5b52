//! HTTP/2 over a network that loses packets: bodies come out of order and again, and what the kernel programs leave out of them has
//! holes. No head may be missed for that.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, TcpListener, TcpStream},
    sync::mpsc::sync_channel,
    thread,
};

use anyhow::{Context as _, Result};
use auditor_tests::{
    auditor::{Auditor, port},
    http2::{HTTP, OK, POST, SETTINGS, request},
    namespace::Pair,
    oracle::AMPLE,
    process::PATIENCE,
};
use auditor_wire::http2::{
    frame,
    frame::{DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE},
};
use serde_json::Value;

/// Calls over one connection; every other one has a credential.
const CALLS: usize = 600;
/// Payloads of DATA of a body: some frames begin where a packet does, most do not.
const PIECES: [&[usize]; 4] = [&[16_384; 12], &[500; 40], &[16_000, 300, 7000], &[16_384, 9]];
/// Of so many packets one is lost, each way.
const LOST_OF: u32 = 40;

/// A port for the server, in a namespace of its own.
const PORT: u16 = 8443;

fn path(call: usize) -> String {
    format!("/losses/{call:04}")
}

fn has_credential(call: usize) -> bool {
    call % 2 == 1
}

fn stream(call: usize) -> u32 {
    u32::try_from(2 * call + 1).expect("few calls")
}

/// A body of DATA frames, the last of which ends the stream.
fn body(call: usize) -> Vec<u8> {
    let data = PIECES[call % PIECES.len()].iter().flat_map(|length| frame(DATA, 0, stream(call), &vec![b'x'; *length]));
    data.chain(frame(DATA, END_STREAM, stream(call), &[])).collect()
}

/// A call's frames.
fn whole(call: usize) -> Vec<u8> {
    let credential = has_credential(call).then_some("Bearer of-losses");
    let block = request(POST, HTTP, &path(call), credential);
    [frame(HEADERS, END_HEADERS, stream(call), &block), body(call)].concat()
}

fn response(call: usize) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, stream(call), &[OK]), body(call + 1)].concat()
}

/// Takes calls of one connection and answers each once it is there.
fn serve(listener: &TcpListener) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    let mut taken = vec![0; PREFACE.len() + frame(SETTINGS, 0, 0, &[]).len()];
    for call in 0..CALLS {
        taken.resize(taken.len().max(whole(call).len()), 0);
        let first = if call == 0 { PREFACE.len() + 9 } else { 0 };
        stream.read_exact(&mut taken[..first])?;
        stream.read_exact(&mut taken[..whole(call).len()])?;
        stream.write_all(&response(call))?;
    }
    // Until the client has read it all.
    stream.read_exact(&mut [0]).or(Ok(()))
}

/// Makes all calls, two at a time, over one connection.
fn call(to: IpAddr) -> Result<()> {
    let mut stream = TcpStream::connect((to, PORT))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[&PREFACE[..], &frame(SETTINGS, 0, 0, &[])].concat())?;
    stream.read_exact(&mut [0; 9])?;
    let mut reader = stream.try_clone()?;
    let (answered, answers) = sync_channel(1);
    let reading = thread::spawn(move || -> Result<()> {
        for call in 0..CALLS {
            reader.read_exact(&mut vec![0; response(call).len()])?;
            answered.send(())?;
        }
        Ok(())
    });
    for call in 0..CALLS {
        stream.write_all(&whole(call))?;
        if call > 0 {
            answers.recv().context("an answer")?;
        }
    }
    answers.recv()?;
    reading.join().expect("no panic")
}

fn is_right(record: &Value) -> bool {
    let call = record["request"]["path"].as_str().and_then(|path| path.rsplit('/').next()?.parse().ok());
    let verdict = match call.map(has_credential) {
        Some(true) => "authenticated",
        Some(false) => "unauthenticated",
        None => return false,
    };
    record["reporter"] == "destination"
        && record["verdict"] == verdict
        && record["outcome"] == "accepted"
        && record["response"]["status"] == 200
}

#[test]
fn every_call_is_judged_where_packets_of_bodies_are_lost() {
    let directory = tempfile::tempdir().unwrap();
    let pair = Pair::create().unwrap();
    for namespace in [&pair.client, &pair.server] {
        namespace.lose(LOST_OF).unwrap();
    }
    let mut auditor = Auditor::watch(directory.path(), &["--ring-bytes", AMPLE]).unwrap();
    thread::scope(|scope| {
        let (listening, listens) = sync_channel(1);
        let (client, server, to) = (&pair.client, &pair.server, pair.addresses[0]);
        let served = scope.spawn(move || {
            server.enter_thread()?;
            let listener = TcpListener::bind((to, PORT))?;
            listening.send(())?;
            serve(&listener)
        });
        let called = scope.spawn(move || {
            client.enter_thread()?;
            listens.recv()?;
            call(to)
        });
        called.join().unwrap().unwrap();
        served.join().unwrap().unwrap();
    });
    let waited = auditor.wait_until(PATIENCE, |records| records.len() >= CALLS);
    let finished = auditor.stop().unwrap();
    let mut records: Vec<&Value> =
        finished.records.iter().filter(|record| port(record, "destination") == Some(PORT)).collect();
    records.sort_by_key(|record| record["request"]["path"].as_str());
    let wrong: Vec<_> = records.iter().filter(|record| !is_right(record)).collect();
    eprintln!("{} of {} are not right", wrong.len(), records.len());
    assert!(wrong.is_empty(), "{:#?}\n{}", &wrong[..wrong.len().min(3)], finished.log);
    let paths = records.iter().map(|record| record["request"]["path"].as_str().unwrap_or_default());
    assert!(paths.eq((0..CALLS).map(path)), "{} of {CALLS} calls, or others\n{}", records.len(), finished.log);
    assert!(!finished.log.contains("records were lost"), "{}", finished.log);
    waited.unwrap();
}
