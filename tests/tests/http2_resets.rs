//! Rapid resets: streams that a client opens and gives up at once, by the hundred thousand. Each is judged, none is kept.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use anyhow::{Context as _, Result};
use auditor_tests::{
    auditor::Daemon,
    http2::{GET, HTTP, SETTINGS, request},
    process::{resident_kibibytes, until},
};
use auditor_wire::http2::{
    frame,
    frame::{END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM},
};

/// Streams that are opened and reset.
const STREAMS: u32 = 200_000;
/// Those before memory is looked at: what is allocated once is there by then.
const WARM_UP: u32 = 20_000;
/// Those at a time, so that the ring loses none.
const BATCH: u32 = 4_000;
/// What resident memory may grow by: less than a hundred bytes for each stream.
const GROWTH_KIBIBYTES: u64 = 16 * 1024;

/// A server that greets and then only takes.
fn server() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    // The thread ends with the test's process.
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || -> std::io::Result<()> {
                stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
                let mut taken = [0; 65_536];
                while stream.read(&mut taken)? > 0 {}
                Ok(())
            });
        }
    });
    Ok(port)
}

/// Opens streams and resets them.
fn reset(connection: &mut TcpStream, next: &mut u32, streams: u32) -> Result<()> {
    let block = request(GET, HTTP, "/reset", None);
    let mut bytes = Vec::new();
    for _ in 0..streams {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, *next, &block));
        bytes.extend(frame(RST_STREAM, 0, *next, &[0, 0, 0, 8]));
        *next += 2;
    }
    Ok(connection.write_all(&bytes)?)
}

/// How many calls without an answer were judged.
fn judged(auditor: &Daemon) -> Result<u64> {
    let metrics = auditor.get("/metrics")?;
    let ours = |line: &&str| line.starts_with("auditor_exchanges_total{") && line.contains("protocol=\"http/2\"");
    let right = |line: &&str| line.contains("verdict=\"unauthenticated\"") && line.contains("outcome=\"unanswered\"");
    let counts = metrics.lines().filter(|line| ours(line) && right(line)).filter_map(|line| line.rsplit(' ').next());
    counts.map(|count| count.parse::<u64>().with_context(|| format!("no count: {count}"))).sum()
}

#[test]
fn memory_is_flat_over_rapid_resets() {
    let directory = tempfile::tempdir().unwrap();
    let port = server().unwrap();
    let auditor = Daemon::start(directory.path(), &[]).unwrap();
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    connection.write_all(&[&PREFACE[..], &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
    let (mut next, mut made, mut before) = (1, 0, 0);
    while made < STREAMS {
        reset(&mut connection, &mut next, BATCH).unwrap();
        made += BATCH;
        until("all of them are judged", || Ok((judged(&auditor)? == u64::from(made)).then_some(()))).unwrap();
        if made == WARM_UP {
            before = resident_kibibytes(auditor.pid()).unwrap();
        }
    }
    let after = resident_kibibytes(auditor.pid()).unwrap();
    eprintln!("resident after {WARM_UP} resets: {before} KiB; after {made}: {after} KiB");
    assert!(after <= before + GROWTH_KIBIBYTES, "it grew by {} KiB", after - before);
    let lost = auditor.get("/metrics").unwrap();
    let lost = lost.lines().filter(|line| line.starts_with("auditor_capture_lost_total") && !line.ends_with(" 0"));
    assert_eq!(lost.collect::<Vec<_>>(), Vec::<&str>::new());
    auditor.stop().unwrap();
}
