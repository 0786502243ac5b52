//! What outlives a run, and findings on their way to a real Alertmanager.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use auditor_tests::{
    auditor::{self, Daemon},
    clients::ClientKind,
    oneshot::curl,
    process::{Running, until},
    rig::Rig,
    servers::ServerKind,
    tools::program,
};
use serde_json::Value;
use tempfile::TempDir;

const LOOPBACK: [std::net::IpAddr; 1] = [std::net::IpAddr::V4(Ipv4Addr::LOCALHOST)];

fn rig() -> Rig {
    Rig::start(
        &[ServerKind::Python],
        &[ClientKind::Curl],
        &LOOPBACK,
        None,
        Path::new(env!("CARGO_BIN_EXE_oracle-client")),
    )
    .expect("the server starts")
}

/// Makes a call without proof.
fn call(server: SocketAddr) {
    let answer = curl(&["--disable", "--silent", &format!("http://{server}/open/1"), "--config", "-"], "", None);
    answer.expect("curl runs");
}

/// Calls from curl to the server in the saved state, by its group.
fn saved(directory: &Path) -> Result<u64> {
    let text = fs::read_to_string(directory.join("state.jsonl"))?;
    let groups: Value = serde_json::from_str(text.lines().nth(1).context("a section")?)?;
    let groups = groups.as_array().context("a list")?.iter();
    let ours = groups.filter(|group| {
        let server = group["destination"]["workload"].as_str().is_some_and(|name| name.contains("server.py"));
        server && group["source"]["workload"] == "curl" && group["rule"] == "unauthenticated-call"
    });
    Ok(ours.map(|group| group["seen"]["count"].as_u64().unwrap_or(0)).sum())
}

/// Findings that the daemon has counted of calls by curl.
fn counted(daemon: &Daemon) -> Result<u64> {
    let page = daemon.get("/metrics")?;
    let labels = ["source_workload=\"curl\"", "server.py\"", "rule=\"unauthenticated-call\""];
    let ours =
        |line: &&str| line.starts_with("auditor_findings_total{") && labels.iter().all(|label| line.contains(label));
    let counts = page.lines().filter(ours);
    Ok(counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

/// Makes so many calls and waits until they are counted.
fn calls(daemon: &Daemon, server: SocketAddr, number: u64) {
    let before = counted(daemon).expect("the daemon answers");
    (0..number).for_each(|_| call(server));
    until("the calls are counted", || Ok((counted(daemon)? >= before + number).then_some(())))
        .expect("the daemon answers");
}

#[test]
fn counts_go_on_over_restarts_and_a_kill_leaves_what_was_saved() {
    let rig = rig();
    let server = rig.servers()[0].sockets()[0];
    let directory = TempDir::new().unwrap();
    let state = directory.path().join("state");
    let arguments = ["--state-dir", state.to_str().unwrap()];
    for run in 1..=2 {
        let daemon = Daemon::start(directory.path(), &arguments).unwrap();
        calls(&daemon, server, 3);
        let (status, log) = daemon.stop().unwrap();
        assert_eq!(status.code(), Some(0), "{log}");
        assert_eq!(saved(&state).unwrap(), 3 * run, "{log}");
    }
    let key = fs::read(state.join("fingerprint.key")).unwrap();

    let daemon = Daemon::start(directory.path(), &arguments).unwrap();
    calls(&daemon, server, 2);
    let mut second = auditor::command(["run", "--listen", "127.0.0.1:0", "--state-dir"]).unwrap();
    second.arg(&state);
    let elsewhere = TempDir::new().unwrap();
    let (code, _, log) = auditor::run_to_end(second, elsewhere.path()).unwrap();
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains(&format!("another auditor uses it (pid {})", daemon.pid())), "{log}");
    daemon.kill().unwrap();
    assert_eq!(saved(&state).unwrap(), 6, "what was saved is whole");

    let daemon = Daemon::start(directory.path(), &arguments).unwrap();
    calls(&daemon, server, 1);
    let (status, log) = daemon.stop().unwrap();
    assert!(status.success() && log.contains("evidence is restored") && !log.contains("not used"), "{log}");
    assert_eq!(saved(&state).unwrap(), 7, "{log}");
    assert_eq!(fs::read(state.join("fingerprint.key")).unwrap(), key, "fingerprints stay comparable");
}

#[test]
fn an_alertmanager_shows_what_was_found() {
    let rig = rig();
    let server = rig.servers()[0].sockets()[0];
    let directory = TempDir::new().unwrap();
    let (address, _alertmanager) = alertmanager(directory.path()).unwrap();
    let config = directory.path().join("auditor.yaml");
    let text = format!("sinks: {{alertmanager: {{url: 'http://{address}', labels: {{cluster: test}}}}}}\n");
    fs::write(&config, text).unwrap();
    let daemon = Daemon::start(directory.path(), &["--config", config.to_str().unwrap()]).unwrap();
    call(server);
    let alert = until("the alert is there", || {
        // The calls of this test to the Alertmanager itself are found, too.
        let ours = |alert: &&Value| {
            let server = alert["labels"]["destination_workload"].as_str();
            server.is_some_and(|name| name.contains("server.py"))
                && alert["labels"]["source_workload"] == "curl"
                && alert["status"]["state"] == "active"
        };
        Ok(alerts(address)?.iter().find(ours).cloned())
    });
    let alert = alert.unwrap();
    let labels = &alert["labels"];
    assert_eq!(labels["alertname"], "unauthenticated-call", "{alert}");
    assert_eq!((&labels["method"], &labels["cluster"]), (&"GET".into(), &"test".into()), "{alert}");
    assert!(alert["annotations"]["remedy"].as_str().is_some_and(|text| text.contains("401")), "{alert}");
    let page = daemon.get("/metrics").unwrap();
    assert!(page.contains("auditor_sink_errors_total{sink=\"alertmanager\"} 0"), "{page}");
    let (status, log) = daemon.stop().unwrap();
    assert!(status.success(), "{log}");
}

fn alertmanager(directory: &Path) -> Result<(SocketAddr, Running)> {
    let config = directory.join("alertmanager.yml");
    fs::write(&config, "route: {receiver: none}\nreceivers: [{name: none}]\n")?;
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let mut command = Command::new(program("prometheus-alertmanager")?);
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.path={}", directory.join("data").display()));
    command.arg(format!("--web.listen-address={address}")).arg("--cluster.listen-address=");
    let running = Running::start("alertmanager", command)?;
    until("the Alertmanager answers", || Ok(alerts(address).ok()))?;
    Ok((address, running))
}

fn alerts(address: SocketAddr) -> Result<Vec<Value>> {
    let url = format!("http://{address}/api/v2/alerts");
    let answer = curl(&["--disable", "--silent", "--fail", &url, "--config", "-"], "", None)?;
    ensure!(!answer.output.is_empty(), "no answer");
    Ok(serde_json::from_str(&answer.output)?)
}
