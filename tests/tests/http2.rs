//! HTTP/2 and gRPC in clear: thousands of streams by real clients to real servers, against what the auditor says of them.

use std::{
    collections::HashMap,
    fs,
    net::{TcpListener, TcpStream},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use auditor_tests::{
    auditor::{Auditor, port},
    oracle::AMPLE,
    process::{PATIENCE, Running, output, until},
    tools,
};
use serde_json::{Value, json};

/// Connections of the client.
const CONNECTIONS: usize = 4;

/// What a record must say of a call.
type Said = (&'static str, &'static str, &'static str, Value, Value, usize);

/// The headers and the body of a call, and what must be said of it: protocol, verdict, outcome, status, status of gRPC, credentials.
fn call(number: usize) -> (Value, Said) {
    let path = format!("/call/{number}");
    let mut headers = json!({":path": path, ":method": "GET", "x-padding": "v".repeat(number % 50)});
    let mut set = |name: &str, value: &str| headers[name] = Value::from(value);
    let bearer = format!("Bearer secret-{}", number % 7);
    let mut body = 0;
    let (unauthenticated, authenticated, null) = ("unauthenticated", "authenticated", Value::Null);
    let said = match number % 10 {
        0 => ("http/2", unauthenticated, "accepted", json!(200), null, 0),
        1 => {
            set("authorization", &bearer);
            ("http/2", authenticated, "accepted", json!(200), null, 1)
        }
        2 => {
            set("x-status", "401");
            ("http/2", unauthenticated, "refused", json!(401), null, 0)
        }
        3 => {
            set(":method", "POST");
            set("authorization", &bearer);
            body = 60_000;
            ("http/2", authenticated, "accepted", json!(200), null, 1)
        }
        4 => {
            // Longer than a frame: it goes on in CONTINUATION.
            set("x-long", &"h".repeat(40_000));
            set("authorization", &bearer);
            ("http/2", authenticated, "accepted", json!(200), null, 1)
        }
        5 => {
            set("x-length", "50000");
            set("x-status", "503");
            ("http/2", unauthenticated, "failed", json!(503), null, 0)
        }
        6 => {
            // The client gives it up.
            set("x-silent", "1");
            set("authorization", &bearer);
            ("http/2", authenticated, "unanswered", null.clone(), null, 1)
        }
        kind => {
            let (code, outcome) = [(0, "accepted"), (7, "refused"), (16, "refused"), (5, "failed")][number / 10 % 4];
            set(":method", "POST");
            set("content-type", "application/grpc");
            set("x-grpc-status", &code.to_string());
            body = 300;
            if kind == 8 {
                set("x-trailers-only", "1");
            }
            if kind == 9 {
                set("x-length", "40000");
                set("authorization", &bearer);
            }
            let verdict = if kind == 9 { authenticated } else { unauthenticated };
            ("grpc", verdict, outcome, json!(200), json!(code), usize::from(kind == 9))
        }
    };
    (json!({"headers": headers, "body": body}), said)
}

/// The calls of a range, as the client takes them.
fn calls(range: std::ops::Range<usize>) -> String {
    Value::from_iter(range.map(|number| call(number).0)).to_string()
}

/// The servers, and the ports of the two.
fn servers() -> Result<(Running, u16, u16)> {
    let mut command = Command::new(tools::program("node")?);
    command.arg(tools::source("servers/http2.mjs"));
    let mut server = Running::start("http2.mjs", command)?;
    let line = server.line(PATIENCE)?.context("the server ended")?;
    let mut ports = line.split(' ').map(str::parse);
    let (plain, upgrading) = (ports.next().context("two ports")??, ports.next().context("two ports")??);
    Ok((server, plain, upgrading))
}

fn client(port: u16) -> Result<Running> {
    let mut command = Command::new(tools::program("node")?);
    command.arg(tools::source("clients/http2.mjs")).args([port.to_string(), CONNECTIONS.to_string()]);
    Running::start("http2.mjs", command)
}

fn make(client: &mut Running, calls: &str) -> Result<()> {
    client.write(&format!("{calls}\n"))?;
    ensure!(client.line(PATIENCE)?.as_deref() == Some("done"), "the calls were not made");
    Ok(())
}

/// Whether as many calls to a port were judged; looks at each record once.
fn enough(to: u16, calls: usize) -> impl FnMut(&[Value]) -> bool {
    let (mut looked_at, mut judged) = (0, 0);
    move |records| {
        judged += records[looked_at..].iter().filter(|record| port(record, "destination") == Some(to)).count();
        looked_at = records.len();
        judged >= calls
    }
}

/// What a record says of a call.
fn said(record: &Value) -> (String, String, String, Value, Value, usize) {
    let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
    let credentials = record["credentials"].as_array().map_or(0, Vec::len);
    let response = &record["response"];
    let (status, code) = (response["status"].clone(), response["grpc_status"].clone());
    (text("protocol"), text("verdict"), text("outcome"), status, code, credentials)
}

/// The calls among records that went to a port, by their path; and those without.
fn by_path(records: &[Value], to: u16) -> (HashMap<&str, Vec<&Value>>, Vec<&Value>) {
    let (mut paths, mut others) = (HashMap::<&str, Vec<&Value>>::new(), Vec::new());
    for record in records.iter().filter(|record| port(record, "destination") == Some(to)) {
        match record["request"]["path"].as_str() {
            Some(path) => paths.entry(path).or_default().push(record),
            None => others.push(record),
        }
    }
    (paths, others)
}

#[test]
fn every_stream_is_judged_once_and_right() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, plain, _) = servers().unwrap();
    let mut auditor = Auditor::watch(directory.path(), &["--ring-bytes", AMPLE]).unwrap();
    let mut client = client(plain).unwrap();
    let made = 6000;
    for from in (0..made).step_by(1000) {
        make(&mut client, &calls(from..from + 1000)).unwrap();
    }
    let waited = auditor.wait_until(PATIENCE, enough(plain, made));
    let finished = auditor.stop().unwrap();
    let (paths, others) = by_path(&finished.records, plain);
    assert_eq!(others, Vec::<&Value>::new(), "calls without a path");
    for number in 0..made {
        let (_, expected) = call(number);
        let (protocol, verdict, outcome, status, code, credentials) = expected;
        let expected = (protocol.to_owned(), verdict.to_owned(), outcome.to_owned(), status, code, credentials);
        let came = paths.get(format!("/call/{number}").as_str()).map_or(&[][..], Vec::as_slice);
        assert_eq!(came.len(), 1, "call {number} was told of {} times: {came:?}\n{}", came.len(), finished.log);
        assert_eq!(said(came[0]), expected, "{}", came[0]);
        assert_eq!(came[0]["reporter"], "destination", "{}", came[0]);
    }
    waited.unwrap();
}

/// Connections that are older than the auditor: what of a head stands in the table that was not seen is not known, and nothing that
/// is said is wrong.
#[test]
fn streams_of_older_connections_are_right_or_explicitly_unknown() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, plain, _) = servers().unwrap();
    let mut client = client(plain).unwrap();
    make(&mut client, &calls(0..200)).unwrap();
    let auditor = Auditor::watch(directory.path(), &["--ring-bytes", AMPLE]).unwrap();
    make(&mut client, &calls(200..2200)).unwrap();
    drop(client);
    let finished = auditor.stop().unwrap();
    let (paths, others) = by_path(&finished.records, plain);
    let mut judged = 0;
    for number in 200..2200 {
        let (_, (_, verdict, outcome, status, code, credentials)) = call(number);
        let Some(came) = paths.get(format!("/call/{number}").as_str()) else { continue };
        assert_eq!(came.len(), 1, "call {number} was told of {} times: {came:?}", came.len());
        let (_, said_verdict, said_outcome, said_status, said_code, said_credentials) = said(came[0]);
        judged += 1;
        if said_verdict == "unknown" {
            let reason = came[0]["unknown_reason"].as_str().unwrap_or_default();
            assert!(["hpack-lost", "mid-stream", "gap"].contains(&reason), "{}", came[0]);
        } else {
            assert_eq!((said_verdict.as_str(), said_credentials), (verdict, credentials), "{}", came[0]);
        }
        if said_outcome != "unanswered" {
            assert_eq!((said_status, said_outcome.as_str()), (status, outcome), "{}", came[0]);
            assert!(said_code.is_null() || said_code == code, "{}", came[0]);
        }
    }
    assert!(others.iter().all(|record| record["verdict"] == "unknown"), "{others:?}");
    assert!(judged + others.len() >= 1900, "{judged} with a path and {} without", others.len());
}

#[test]
fn a_load_generator_is_judged_to_the_last_call() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("small"), "hello").unwrap();
    fs::write(directory.path().join("large"), vec![b'x'; 200_000]).unwrap();
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new(tools::program("nghttpd").unwrap());
    command.args(["--no-tls", "--address=127.0.0.1", "-d"]).arg(directory.path()).arg(reserved.to_string());
    let _server = Running::start("nghttpd", command).unwrap();
    until("nghttpd listens", || Ok(TcpStream::connect(("127.0.0.1", reserved)).ok())).unwrap();
    let mut auditor = Auditor::watch(directory.path(), &["--ring-bytes", AMPLE]).unwrap();
    let at = |file: &str| format!("http://127.0.0.1:{reserved}/{file}");
    for (file, calls) in [("small", "5000"), ("large", "300")] {
        let mut load = Command::new(tools::program("h2load").unwrap());
        load.args(["-n", calls, "-c", "3", "-m", "100", "-H", "x-api-key: k-0123456789"]).arg(at(file));
        let text = output(&mut load).unwrap();
        assert!(text.contains(&format!("{calls} succeeded")), "{text}");
    }
    let waited = auditor.wait_until(PATIENCE, enough(reserved, 5300));
    let finished = auditor.stop().unwrap();
    let (paths, others) = by_path(&finished.records, reserved);
    assert_eq!(others, Vec::<&Value>::new());
    assert_eq!((paths["/small"].len(), paths["/large"].len()), (5000, 300), "{}", finished.log);
    for record in paths.into_values().flatten() {
        let expected = ("http/2".into(), "weak".into(), "accepted".into(), json!(200), Value::Null, 1);
        assert_eq!(said(record), expected, "{record}");
    }
    waited.unwrap();
}

#[test]
fn what_leaves_http1_goes_on_in_http2() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, _, upgrading) = servers().unwrap();
    let mut auditor = Auditor::watch(directory.path(), &["--ring-bytes", AMPLE]).unwrap();
    let mut curl = Command::new(tools::program("curl").unwrap());
    curl.args(["--silent", "--show-error", "--http2", "--header", "Authorization: Bearer s"]);
    curl.args(["one", "two", "three"].map(|path| format!("http://127.0.0.1:{upgrading}/{path}")));
    output(&mut curl).unwrap();
    let waited = auditor.wait_until(PATIENCE, enough(upgrading, 3));
    let finished = auditor.stop().unwrap();
    let (paths, others) = by_path(&finished.records, upgrading);
    assert_eq!(others, Vec::<&Value>::new(), "{}", finished.log);
    for (path, protocol) in [("/one", "http/1.1"), ("/two", "http/2"), ("/three", "http/2")] {
        let came = paths.get(path).map_or(&[][..], Vec::as_slice);
        assert_eq!(came.len(), 1, "{path}: {came:?}");
        let expected = (protocol.into(), "authenticated".into(), "accepted".into(), json!(200), Value::Null, 1);
        assert_eq!(said(came[0]), expected, "{}", came[0]);
    }
    waited.unwrap();
}
