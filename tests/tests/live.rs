//! What users see: calls judged as they happen, the daemon's endpoint, a clean end, clear refusals, and no secret anywhere.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
};

use anyhow::Result;
use auditor_tests::{
    auditor::{self, Auditor, Daemon},
    clients::ClientKind,
    compare::{Comparison, Ours},
    credential::{Proof, canary, leaks},
    kernel::Held,
    oneshot::curl,
    plan::Planner,
    process::{PATIENCE, until},
    rig::{BACKEND, Rig, require_answers},
    servers::ServerKind,
    tools::{self, program},
};
use tempfile::TempDir;

const LOOPBACK: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::LOCALHOST)];

fn rig(servers: &[ServerKind]) -> Result<Rig> {
    let rust = Path::new(env!("CARGO_BIN_EXE_oracle-client"));
    Rig::start(servers, &[ClientKind::Curl], &LOOPBACK, None, rust)
}

#[test]
fn curl_is_judged_as_it_happens_against_every_server() {
    let mut rig = rig(&ServerKind::ALL).unwrap();
    let mut planner = Planner::new(BACKEND);
    for server in rig.servers() {
        planner.mix(ClientKind::Curl, server.kind(), server.sockets()[0], 1, 2);
        planner.proofs(ClientKind::Curl, server.kind(), server.sockets()[0]);
    }
    let planned = planner.planned();
    let servers = rig.answering().unwrap();
    let mut auditor = Auditor::watch(rig.directory(), &[]).unwrap();
    let mut answers = std::collections::HashMap::new();
    for call in &planned {
        let call = std::slice::from_ref(call);
        let answer = rig.run(call).unwrap();
        require_answers(call, &answer).unwrap();
        answers.extend(answer);
        let ours = Ours::new(&servers, call);
        let judged = auditor.wait_until(PATIENCE, |records| records.iter().any(|record| ours.path(record).is_some()));
        judged.unwrap_or_else(|error| panic!("{call:?}: {error:#}\n{}", auditor.log()));
    }
    let finished = auditor.stop().unwrap();
    assert!(finished.status.success(), "{}: {}", finished.status, finished.log);
    let comparison = Comparison::new(&servers, &planned, &answers, &finished.records).unwrap();
    assert!(comparison.holds(), "{comparison}");
}

#[test]
fn the_daemon_serves_metrics_and_leaves_nothing_behind() {
    let directory = TempDir::new().unwrap();
    let rig = rig(&[ServerKind::Python]).unwrap();
    let daemon = Daemon::start(directory.path(), &[]).unwrap();
    assert!(daemon.get("/healthz").unwrap().starts_with("HTTP/1.1 200"));
    // What reading the kernel's types took for a moment is given back: some 30 MiB.
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok());
    assert!(own.is_some_and(|kibibytes: u32| kibibytes < 16 * 1024), "{status}");
    let server = rig.servers()[0].sockets()[0];
    curl(&["--disable", "--silent", &format!("http://{server}/open/1"), "--config", "-"], "", None).unwrap();
    let mut last = String::new();
    let metrics = until("the call is counted", || {
        let metrics = daemon.get("/metrics")?;
        last.clone_from(&metrics);
        let counted = metrics.lines().any(|line| {
            let labels = ["server.py\"", "verdict=\"unauthenticated\"", "outcome=\"accepted\""];
            line.starts_with("auditor_exchanges_total{") && labels.iter().all(|label| line.contains(label))
        });
        Ok(counted.then_some(metrics))
    });
    let metrics = metrics.unwrap_or_else(|error| panic!("{error:#}\n{last}"));
    let sample = |name: &str| {
        let line = metrics
            .lines()
            .find(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in\n{metrics}"))
    };
    let label_names = |line: &str| {
        let labels = line.split_once('{').map_or("", |(_, rest)| rest.split_once('}').map_or("", |(labels, _)| labels));
        let mut names: Vec<String> =
            labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned())).collect();
        names.sort();
        names
    };
    let workloads = ["destination_namespace", "destination_workload", "source_namespace", "source_workload"];
    let with = |more: &[&str]| {
        let mut names: Vec<String> = workloads.iter().chain(more).map(|name| (*name).to_owned()).collect();
        names.sort();
        names
    };
    let exchange = with(&["reporter", "protocol", "security", "credential", "verdict", "outcome"]);
    assert_eq!(label_names(sample("auditor_exchanges_total")), exchange);
    assert_eq!(label_names(sample("auditor_findings_total")), with(&["rule", "severity"]));
    for name in ["auditor_build_info", "auditor_capture_records_total", "auditor_capture_lost_total", "auditor_tracked"]
    {
        sample(name);
    }
    for name in ["auditor_tracked_limit", "auditor_exchange_duration_seconds_bucket"] {
        sample(name);
    }
    let held = Held::by(daemon.pid()).unwrap();
    assert!(held.programs.len() >= 2 && held.existing().unwrap() == held, "{held:?}");
    let (status, log) = daemon.stop().unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    // The kernel frees programs a moment after the last reference is gone.
    until("everything is detached", || Ok(held.existing()?.is_empty().then_some(()))).unwrap();
}

#[test]
fn a_port_in_use_is_said_and_is_bad_usage() {
    let directory = TempDir::new().unwrap();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let command = auditor::command(["run", "--listen", &address]).unwrap();
    let (code, output, log) = auditor::run_to_end(command, directory.path()).unwrap();
    assert_eq!((code, output.as_str()), (Some(2), ""), "{log}");
    assert!(log.contains(&address) && log.contains("--listen"), "{log}");
}

#[test]
fn without_privileges_live_capture_says_what_is_missing() {
    let directory = TempDir::new().unwrap();
    // Nobody has to be able to reach the binary.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = directory.path().join("auditor");
    fs::copy(tools::auditor().unwrap(), &binary).unwrap();
    for verb in ["watch", "run"] {
        let mut command = Command::new(program("setpriv").unwrap());
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]).arg(&binary).arg(verb);
        if verb == "run" {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let (code, output, log) = auditor::run_to_end(command, directory.path()).unwrap();
        assert_eq!((code, output.as_str()), (Some(3), ""), "{verb}: {log}");
        assert!(log.contains("root") || log.contains("CAP_BPF"), "{verb}: {log}");
    }
}

#[test]
fn no_secret_appears_anywhere() {
    let rig = rig(&[ServerKind::Python, ServerKind::Nginx, BACKEND]).unwrap();
    let directory = rig.directory().to_owned();
    let (recording, findings) = (directory.join("recording"), directory.join("findings.jsonl"));
    let trace = ["--log-level", "trace"];
    let arguments = [&trace[..], &["--findings", findings.to_str().unwrap()]].concat();
    let daemon = Daemon::start(&directory, &arguments).unwrap();
    let arguments = [&trace[..], &["--record", recording.to_str().unwrap()]].concat();
    let mut auditor = Auditor::watch(&directory, &arguments).unwrap();
    let mut secrets = Vec::new();
    let mut paths = Vec::new();
    for server in rig.servers() {
        for (number, proof) in Proof::ALL.into_iter().enumerate() {
            let secret = canary();
            let path = format!("/guarded/{}-{number}", &canary()[..8]);
            let sent = proof.send(&secret, "GET", &path);
            let query = sent.query.map(|query| format!("?{query}")).unwrap_or_default();
            // On the command line, too, where the auditor could pick it up.
            let mut arguments =
                vec!["--disable".to_owned(), "--silent".into(), format!("http://{}{path}{query}", server.sockets()[0])];
            arguments
                .extend(sent.headers.iter().flat_map(|(name, value)| ["--header".into(), format!("{name}: {value}")]));
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["--config", "-"]).collect();
            curl(&arguments, "", None).unwrap();
            paths.push(path);
            secrets.extend(sent.secrets.iter().map(|secret| (proof, secret.clone())));
            if proof != Proof::None {
                // Parts of it are secret, too.
                secrets.extend([(proof, secret[..16].to_owned()), (proof, secret[24..].to_owned())]);
            }
        }
    }
    let arrived = auditor.wait_until(PATIENCE, |records| {
        paths.iter().all(|path| records.iter().any(|record| record["request"]["path"] == path.as_str()))
    });
    arrived.unwrap_or_else(|error| panic!("{error:#}\n{}", auditor.log()));
    let metrics = daemon.get("/metrics").unwrap();
    let finished = auditor.stop().unwrap();
    let (_, daemon_log) = daemon.stop().unwrap();
    let mut places = vec![
        ("records".to_owned(), finished.lines.join("\n").into_bytes()),
        ("log of watch".to_owned(), finished.log.into_bytes()),
        ("metrics".to_owned(), metrics.into_bytes()),
        ("log of run".to_owned(), daemon_log.into_bytes()),
        ("findings".to_owned(), fs::read(&findings).unwrap()),
        ("recording".to_owned(), fs::read(&recording).unwrap()),
    ];
    for format in ["text", "jsonl", "report", "markdown"] {
        let arguments = ["replay", "--log-level", "trace", "--output", format, recording.to_str().unwrap()];
        let (code, output, log) = auditor::run_to_end(auditor::command(arguments).unwrap(), &directory).unwrap();
        assert_eq!(code, Some(0), "{log}");
        assert!(!output.is_empty(), "replay --output {format} printed nothing: {log}");
        places.push((format!("replay --output {format}"), (output + &log).into_bytes()));
    }
    let mut found = Vec::new();
    for (place, text) in &places {
        let text = String::from_utf8_lossy(text);
        assert!(!text.is_empty(), "there is nothing in the {place} to search");
        for (proof, secret) in &secrets {
            if leaks(&text, secret) {
                found.push(format!("{proof:?} in the {place}"));
            }
        }
    }
    found.dedup();
    assert!(found.is_empty(), "secrets leaked:\n{}", found.join("\n"));
    // What was recorded is enough to judge the same calls again.
    let replayed =
        String::from_utf8_lossy(&places.iter().find(|(place, _)| place.ends_with("jsonl")).unwrap().1).into_owned();
    let missing: Vec<&String> = paths.iter().filter(|path| !replayed.contains(path.as_str())).collect();
    assert!(missing.is_empty(), "not in the recording: {missing:?}");
}
