//! The hook on system calls on this kernel: the oracle once more, by what processes ask for instead of by packets.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, TcpListener, TcpStream},
    path::Path,
    thread,
};

use auditor_tests::{
    auditor::{Auditor, Daemon},
    clients::ClientKind,
    kernel::Held,
    oracle::{AMPLE, judge_beside},
    plan::Planner,
    process::{PATIENCE, until},
    rig::{BACKEND, Rig},
    servers::ServerKind,
};
use tempfile::TempDir;

#[test]
fn calls_that_are_seen_in_system_calls_are_judged_once_and_right() {
    let addresses: [IpAddr; 2] = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    let rust = Path::new(env!("CARGO_BIN_EXE_oracle-client"));
    let mut rig = Rig::start(&ServerKind::ALL, &ClientKind::ALL, &addresses, None, rust).unwrap();
    let mut planner = Planner::new(BACKEND);
    for server in rig.servers() {
        for client in ClientKind::ALL {
            for target in server.sockets() {
                planner.mix(client, server.kind(), *target, 1, 10);
            }
        }
        let first = server.sockets()[0];
        planner.splits(ClientKind::Rust, server.kind(), first);
        planner.proofs(ClientKind::Curl, server.kind(), first);
    }
    let planned = planner.planned();
    let auditor = Auditor::watch(rig.directory(), &["--capture", "syscall", "--ring-bytes", AMPLE]).unwrap();
    let comparison = judge_beside(auditor, &mut rig, &planned).unwrap();
    assert!(comparison.holds(), "{} differences, printed above", comparison.differences.len());
}

#[test]
fn killed_it_leaves_no_tracepoint() {
    let directory = TempDir::new().unwrap();
    let daemon = Daemon::start(directory.path(), &["--capture", "syscall"]).unwrap();
    let held = Held::by(daemon.pid()).unwrap();
    assert!(held.programs.len() >= 3 && held.links.len() >= 3, "{held:?}");
    daemon.kill().unwrap();
    // The kernel frees them a moment after the last reference is gone.
    until("everything is gone", || Ok(held.existing()?.is_empty().then_some(()))).unwrap();
}

#[test]
fn a_response_that_is_read_after_its_connection_has_ended_answers_its_request() {
    let directory = TempDir::new().unwrap();
    let mut auditor = Auditor::watch(directory.path(), &["--capture", "syscall", "--ring-bytes", AMPLE]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    });
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"GET /half-closed HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    // The server's end has come: the kernel has taken the socket's port back before the response is read.
    server.join().expect("the server does not panic");
    client.read_to_end(&mut Vec::new()).unwrap();
    drop(client);
    let about = |record: &&serde_json::Value| record["request"]["path"] == "/half-closed";
    auditor.wait_until(PATIENCE, |records| records.iter().any(|record| about(&record))).unwrap();
    let finished = auditor.stop().unwrap();
    let records: Vec<_> = finished.records.iter().filter(about).collect();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!((&records[0]["response"]["status"], &records[0]["verdict"]), (&200.into(), &"unauthenticated".into()));
}
