//! A single write inside TLS of more HTTP/2 frames than the kernel's bound on tail calls lets be walked and copied: what is lost is
//! counted, and no call is judged by what was not seen. The server is rustls, which is not read: the client's end speaks alone.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::Arc,
    thread,
};

use anyhow::{Result, ensure};
use auditor_tests::{
    auditor::{Auditor, Daemon, port},
    http2::{GET, HTTPS, SETTINGS, request},
    oracle::AMPLE,
    process::{PATIENCE, Running, until},
    servers::interpreter,
    tls::certificates::create,
};
use auditor_wire::http2::{
    frame,
    frame::{END_HEADERS, END_STREAM, HEADERS, PREFACE},
};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::Value;

/// A kind of frame (RFC 9113 section 6.7).
const PING: u8 = 6;
/// Calls that are made, two in a write; every other one has a credential.
const CALLS: usize = 40;
/// Frames between the two calls of a write: few; more than are walked, all of which is copied; more than can be copied.
const BETWEEN: [usize; 4] = [3, 2_000, 10, 40_000];
const ARGUMENTS: [&str; 3] = ["--tls-plaintext", "--ring-bytes", AMPLE];

/// Answers each call with a 200.
fn serve(plain: TcpStream, config: Arc<ServerConfig>) -> Result<()> {
    let mut stream = StreamOwned::new(ServerConnection::new(config)?, plain);
    stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    stream.read_exact(&mut [0; 24])?;
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header)?;
        let [a, b, c, kind, _, number @ ..] = header;
        stream.read_exact(&mut vec![0; u32::from_be_bytes([0, a, b, c]) as usize])?;
        if kind == HEADERS {
            stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, u32::from_be_bytes(number), &[0x88]))?;
        }
    }
}

fn server(directory: &Path) -> Result<u16> {
    create(directory)?;
    let chain = CertificateDer::pem_file_iter(directory.join("server.pem"))?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(directory.join("server.key"))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = builder.with_safe_default_protocol_versions()?.with_no_client_auth().with_single_cert(chain, key)?;
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0")?);
    let port = listener.local_addr()?.port();
    // The threads end with the test's process.
    thread::spawn(move || {
        for plain in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            thread::spawn(move || serve(plain, config));
        }
    });
    Ok(port)
}

fn has_credential(call: usize) -> bool {
    call % 2 == 1
}

/// A call's head.
fn head(call: usize) -> Vec<u8> {
    let credential = has_credential(call).then_some("Bearer of-bounds");
    let block = request(GET, HTTPS, &format!("/write/{call}"), credential);
    frame(HEADERS, END_HEADERS | END_STREAM, u32::try_from(2 * call + 1).expect("few calls"), &block)
}

/// Has the client make two calls in one write.
fn make(client: &mut Running, directory: &Path, first: usize) -> Result<()> {
    let greeting = [&PREFACE[..], &frame(SETTINGS, 0, 0, &[])].concat();
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(BETWEEN[first / 2 % BETWEEN.len()]);
    let bytes = [if first == 0 { greeting } else { Vec::new() }, head(first), pings, head(first + 1)].concat();
    let file = directory.join("write");
    fs::write(&file, bytes)?;
    client.write(&format!("{} 2\n", file.display()))?;
    let said = client.expect_line()?;
    ensure!(said == "answered", "the client said {said}");
    Ok(())
}

/// Whether a record says of a call what is right, or that it is not known.
fn fits(record: &Value, call: usize) -> bool {
    let verdict = if has_credential(call) { "authenticated" } else { "unauthenticated" };
    record["outcome"] == "accepted" && record["response"]["status"] == 200 && record["verdict"] == verdict
}

fn explained(record: &Value) -> bool {
    record["verdict"] == "unknown" && record["unknown_reason"].is_string()
}

#[test]
fn what_is_lost_of_a_long_write_is_counted_and_nothing_is_judged_by_it() {
    let directory = tempfile::tempdir().unwrap();
    let to = server(directory.path()).unwrap();
    let mut command = interpreter("python3", "clients/plaintext/http2_bounds.py").unwrap();
    command.arg(to.to_string());
    let mut client = Running::start("client", command).unwrap();
    let daemon = Daemon::start(directory.path(), &ARGUMENTS).unwrap();
    let watch = [&ARGUMENTS[..], &["--log-level", "debug"]].concat();
    let mut auditor = Auditor::watch(directory.path(), &watch).unwrap();
    auditor.wait_covered(&["libssl.so"]).unwrap();
    until("the daemon covers OpenSSL", || {
        let metrics = daemon.get("/metrics")?;
        let mut lines = metrics.lines().filter(|line| line.starts_with("auditor_tls_libraries{"));
        Ok(lines.any(|it| it.contains("\"openssl\"") && it.contains("\"true\"") && !it.ends_with(" 0")).then_some(()))
    })
    .unwrap();
    for first in (0..CALLS).step_by(2) {
        make(&mut client, directory.path(), first).unwrap();
    }
    client.close_input();
    client.wait(PATIENCE).unwrap();
    let is_call = |it: &&Value| it["kind"] == "exchange" && port(it, "destination") == Some(to);
    let waited = auditor.wait_until(PATIENCE, |records| records.iter().filter(is_call).count() >= CALLS);
    let flooded = (0..CALLS / 2).filter(|write| BETWEEN[write % BETWEEN.len()] == BETWEEN[3]).count();
    let floods = f64::from(u32::try_from(flooded).expect("few writes"));
    let counted = until("every loss is counted", || {
        let lost = daemon.sample("auditor_capture_lost_total", "reason=\"plaintext-tail-call\"")?;
        Ok((lost >= floods).then_some(lost))
    });
    let finished = auditor.stop().unwrap();
    let mut told: HashMap<&str, Vec<&Value>> = HashMap::new();
    for record in finished.records.iter().filter(is_call) {
        told.entry(record["request"]["path"].as_str().unwrap_or_default()).or_default().push(record);
    }
    let unseen = told.remove("").unwrap_or_default();
    eprintln!("{counted:?} losses; {} calls without a path, {} with one", unseen.len(), told.len());
    assert!(unseen.iter().all(|record| explained(record)), "{unseen:#?}");
    assert_eq!(unseen.len() + told.len(), CALLS, "{}", finished.log);
    for (call, path) in (0..CALLS).map(|call| (call, format!("/write/{call}"))) {
        // The head of the second call of a long write stands where nothing is copied.
        let may_be_unknown = call % 2 == 1 && BETWEEN[call / 2 % BETWEEN.len()] == BETWEEN[3];
        let came = told.get(path.as_str()).map_or(&[][..], Vec::as_slice);
        let right = matches!(came, [record] if fits(record, call));
        let unknown = came.is_empty() || matches!(came, [record] if explained(record));
        assert!(right || (may_be_unknown && unknown), "call {call}: {came:#?}\n{}", finished.log);
    }
    waited.unwrap();
    counted.unwrap();
    daemon.stop().unwrap();
}
