//! HTTP/2 in clear by upgrade: Java's client through nghttpx to nghttpd, thousands of streams.

use std::{
    collections::HashMap,
    fs,
    net::{TcpListener, TcpStream},
    process::Command,
};

use anyhow::Result;
use auditor_tests::{
    auditor::{Auditor, port},
    oracle::AMPLE,
    process::{PATIENCE, Running, output, until},
    servers::java,
    tools,
};
use serde_json::Value;

/// Starts a server on a port that was free a moment ago, and waits until it listens.
fn listening(name: &str, command: impl FnOnce(&mut Command, u16)) -> Result<(Running, u16)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut started = Command::new(tools::program(name)?);
    command(&mut started, port);
    let running = Running::start(name, started)?;
    until("the server listens", || Ok(TcpStream::connect(("127.0.0.1", port)).ok()))?;
    Ok((running, port))
}

/// The calls to a port.
fn calls(records: &[Value], to: u16) -> impl Iterator<Item = &Value> {
    records.iter().filter(move |record| record["kind"] == "exchange" && port(record, "destination") == Some(to))
}

/// What was said of the calls to a port: protocol, verdict, outcome and status, each with how many calls it was said of.
fn said(records: &[Value], to: u16) -> HashMap<(String, String, String, u64), usize> {
    let mut said = HashMap::new();
    for record in calls(records, to) {
        let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        let status = record["response"]["status"].as_u64().unwrap_or_default();
        *said.entry((text("protocol"), text("verdict"), text("outcome"), status)).or_default() += 1;
    }
    said
}

/// The paths of the calls to a port, each with how many calls it was said of.
fn paths(records: &[Value], to: u16) -> HashMap<&str, usize> {
    calls(records, to).fold(HashMap::new(), |mut paths, record| {
        *paths.entry(record["request"]["path"].as_str().unwrap_or_default()).or_default() += 1;
        paths
    })
}

fn enough(auditor: &mut Auditor, to: &[u16], calls: usize) -> Result<()> {
    let (mut looked_at, mut told) = (0, 0);
    auditor.wait_until(PATIENCE, |records| {
        let ours = |record: &&Value| port(record, "destination").is_some_and(|port| to.contains(&port));
        told += records[looked_at..].iter().filter(ours).count();
        looked_at = records.len();
        told >= calls
    })
}

fn of(protocol: &str, verdict: &str, outcome: &str, status: u64) -> (String, String, String, u64) {
    (protocol.into(), verdict.into(), outcome.into(), status)
}

/// Java asks for the upgrade; behind nghttpx each call goes on in HTTP/2 that was agreed on beforehand.
#[test]
fn java_with_an_upgrade_is_judged_at_a_proxy_and_behind_it() {
    const CALLS: usize = 2500;
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("index.html"), "hello").unwrap();
    let (_server, behind) = listening("nghttpd", |command, port| {
        command.args(["--no-tls", "--address=127.0.0.1", "-d"]).arg(directory.path()).arg(port.to_string());
    })
    .unwrap();
    let (_proxy, front) = listening("nghttpx", |command, port| {
        command.arg("--conf=/dev/null").arg(format!("--frontend=127.0.0.1,{port};no-tls"));
        command
            .arg(format!("--backend=127.0.0.1,{behind};;proto=h2"))
            .args(["--accesslog-file=/dev/null", "--workers=1"]);
    })
    .unwrap();
    let mut auditor = Auditor::watch(directory.path(), &["--ring-bytes", AMPLE]).unwrap();
    let mut client = java("clients/Upgrade.java").unwrap();
    output(client.arg(format!("http://127.0.0.1:{front}/calls")).arg(CALLS.to_string())).unwrap();
    let waited = enough(&mut auditor, &[front, behind], 2 * CALLS);
    let finished = auditor.stop().unwrap();
    for (to, first) in [(front, "http/1.1"), (behind, "http/2")] {
        let paths = paths(&finished.records, to);
        let missing = (0..CALLS).find(|number| paths.get(format!("/calls/{number}").as_str()) != Some(&1));
        let others: Vec<&&str> = paths.keys().filter(|path| !path.starts_with("/calls/")).collect();
        let pathless: Vec<&Value> =
            calls(&finished.records, to).filter(|record| record["request"]["path"].is_null()).collect();
        assert_eq!((missing, others), (None, Vec::new()), "{pathless:#?}\n{}", finished.log);
        let mut expected = HashMap::from([(of("http/2", "authenticated", "failed", 404), CALLS)]);
        if first == "http/1.1" {
            expected = HashMap::from([
                (of("http/2", "authenticated", "failed", 404), CALLS - 1),
                (of(first, "authenticated", "failed", 404), 1),
            ]);
        }
        assert_eq!(said(&finished.records, to), expected);
    }
    waited.unwrap();
}
