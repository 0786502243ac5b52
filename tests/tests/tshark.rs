//! Replayed captures against what tshark extracts of them: method, target, host and status of every call.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use auditor_tests::{
    auditor,
    clients::ClientKind,
    plan::{Planned, Planner},
    process::output,
    rig::{BACKEND, Rig, require_answers},
    servers::ServerKind,
    tools::{self, source},
    tshark::{Ports, capture, reading},
};
use serde_json::Value;
use tempfile::TempDir;

/// Port of the server in `http2.pcapng`.
const HTTP2_PORT: u16 = 20416;

/// Captures in which the two differ, and why the auditor is right.
const DIFFERENCES: &[(&str, &str)] = &[
    // tshark looks for HTTP on a port it does not know in the first segment alone, and that one holds a single byte.
    ("python-split.pcap", "tshark misses the request that was sent byte by byte"),
    // Packets are cut at 110 bytes. tshark shows what is left of a cut host as if it were all of it, and does not show a request
    // line whose packet was cut after it.
    (
        "snaplen.pcapng",
        "the auditor shows the request tshark leaves out, and no host where only a part of it was captured",
    ),
];

/// What happened on each connection, in order of the calls.
#[derive(Debug, Default, PartialEq, Eq)]
struct Calls {
    /// Method, path without query, host.
    requests: BTreeMap<Ports, Vec<(String, String, String)>>,
    /// Final statuses.
    statuses: BTreeMap<Ports, Vec<u16>>,
}

impl Calls {
    fn request(&mut self, ports: Ports, method: &str, target: &str, host: &str) {
        // Absolute-form names the host itself; records show the path alone.
        let target = target.strip_prefix("http://").map_or(target, |rest| rest.find('/').map_or("/", |at| &rest[at..]));
        let path = target.split(['?', '#']).next().unwrap_or_default();
        self.requests.entry(ports).or_default().push((method.to_owned(), path.to_owned(), host.to_owned()));
    }

    fn status(&mut self, ports: Ports, status: u16) {
        // Interim responses belong to the call whose final response follows.
        if !(100..200).contains(&status) || status == 101 {
            self.statuses.entry(ports).or_default().push(status);
        }
    }

    /// Order among connections and of records is not what is compared.
    fn sorted(mut self) -> Self {
        self.requests.values_mut().for_each(|calls| calls.sort());
        self.statuses.values_mut().for_each(|statuses| statuses.sort_unstable());
        self
    }
}

/// What tshark says. It separates several messages in one packet by a character no head holds.
fn by_tshark(file: &Path, ports: &[u16]) -> Result<Calls> {
    let mut command = reading(file)?;
    let heads = "http.request or http.response or http2.headers.method or http2.headers.status";
    command.args(["-Y", heads, "-T", "fields"]);
    command.args(["-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=\u{1}"]);
    // Ports it does not know it looks at only while they look like what it knows.
    command.args(ports.iter().flat_map(|port| ["-d".to_owned(), format!("tcp.port=={port},http")]));
    command.args(["-d", &format!("tcp.port=={HTTP2_PORT},http2")]);
    let fields = [
        "tcp.srcport",
        "tcp.dstport",
        "http.request.method",
        "http.request.uri",
        "http.host",
        "http.response.code",
        "http2.headers.method",
        "http2.headers.path",
        "http2.headers.authority",
        "http2.headers.status",
    ];
    command.args(fields.iter().flat_map(|field| ["-e", field]));
    let mut calls = Calls::default();
    for line in output(&mut command)?.lines() {
        let cells: Vec<Vec<&str>> = line.split('\t').map(|cell| cell.split('\u{1}').collect()).collect();
        ensure!(cells.len() == fields.len(), "tshark printed {line:?}");
        let port = |cell: usize| cells[cell][0].parse::<u16>().with_context(|| format!("no port in {line:?}"));
        let (source, destination) = (port(0)?, port(1)?);
        let filled = |cell: usize| cells[cell].iter().copied().filter(|text| !text.is_empty());
        for first in [2, 6] {
            for (number, (method, target)) in filled(first).zip(filled(first + 1)).enumerate() {
                let host = cells[first + 2].get(number).copied().unwrap_or_default();
                calls.request((source, destination), method, target, host);
            }
            for status in filled(first + 3) {
                calls.status((destination, source), status.parse()?);
            }
        }
    }
    Ok(calls.sorted())
}

/// What the auditor says.
fn by_auditor(file: &Path, directory: &Path) -> Result<Calls> {
    let everywhere = ["--internal-network", "0.0.0.0/0", "--internal-network", "::/0"];
    let mut command = auditor::command(["replay", "--output", "jsonl"].iter().chain(&everywhere))?;
    command.arg(file);
    let (code, records, log) = auditor::run_to_end(command, directory)?;
    ensure!(code == Some(0), "{}: exit code {code:?}: {log}", file.display());
    let mut calls = Calls::default();
    for line in records.lines() {
        let record: Value = serde_json::from_str(line).with_context(|| format!("not a record: {line}"))?;
        if record["kind"] != "exchange" {
            continue;
        }
        let port = |end: &str| auditor::port(&record, end).with_context(|| format!("no port in {line}"));
        let ports = (port("source")?, port("destination")?);
        let request = &record["request"];
        if let (Some(method), Some(path)) = (request["method"].as_str(), request["path"].as_str()) {
            calls.request(ports, method, path, request["authority"].as_str().unwrap_or_default());
        }
        if let Some(status) = record["response"]["status"].as_u64() {
            calls.status(ports, u16::try_from(status)?);
        }
    }
    Ok(calls.sorted())
}

impl Calls {
    /// Those of connections to one of these ports.
    fn to(mut self, ports: &[u16]) -> Self {
        self.requests.retain(|(_, server), _| ports.contains(server));
        self.statuses.retain(|(_, server), _| ports.contains(server));
        self
    }
}

#[test]
fn a_capture_of_real_traffic_agrees_with_tshark() {
    tools::require_root().unwrap();
    let addresses: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    // Not those that split heads: tshark does not read all of them.
    let clients = [ClientKind::Node, ClientKind::Go, ClientKind::Java, ClientKind::Curl];
    let rust = Path::new(env!("CARGO_BIN_EXE_oracle-client"));
    let mut rig = Rig::start(&ServerKind::ALL, &clients, &addresses, None, rust).unwrap();
    let mut planner = Planner::new(BACKEND);
    let mut ports = Vec::new();
    for server in rig.servers() {
        for target in server.sockets() {
            ports.push(target.port());
            for client in clients {
                planner.mix(client, server.kind(), *target, 1, 12);
            }
        }
    }
    let planned = planner.planned();
    let file = rig.directory().join("capture.pcapng");
    capture(&file, &ports, || require_answers(&planned, &rig.run(&planned)?)).unwrap();
    let mut ours = by_auditor(&file, rig.directory()).unwrap().to(&ports);
    let theirs = by_tshark(&file, &ports).unwrap().to(&ports);
    let seen: HashSet<&str> = ours.requests.values().flatten().map(|(_, path, _)| path.as_str()).collect();
    let missing: Vec<&Planned> =
        planned.iter().filter(|call| call.expected.iter().any(|made| !seen.contains(made.path.as_str()))).collect();
    assert!(missing.is_empty(), "not in the replay: {missing:#?}; tshark: {theirs:?}");
    // tshark reads the methods it knows.
    ours.requests.values_mut().for_each(|calls| calls.retain(|(method, ..)| method != "AUDIT-THIS"));
    for (connection, calls) in &theirs.requests {
        assert_eq!(ours.requests.get(connection), Some(calls), "requests of {connection:?}: auditor, tshark");
        let statuses = (ours.statuses.get(connection), theirs.statuses.get(connection));
        assert_eq!(statuses.0, statuses.1, "statuses of {connection:?}: auditor, tshark");
    }
    assert_eq!(ours, theirs);
}

fn captures() -> Vec<PathBuf> {
    let entries = fs::read_dir(source("captures")).expect("the crate has captures");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "pcap" || ending == "pcapng"));
    files.sort();
    files
}

#[test]
fn replayed_captures_agree_with_tshark() {
    let directory = TempDir::new().unwrap();
    let files = captures();
    assert!(!files.is_empty(), "there are no captures");
    let mut differing = Vec::new();
    let mut calls = 0;
    for file in &files {
        let (theirs, ours) = (by_tshark(file, &[]).unwrap(), by_auditor(file, directory.path()).unwrap());
        calls += theirs.requests.values().map(Vec::len).sum::<usize>();
        if theirs != ours {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            eprintln!("{name}:\n  tshark  {theirs:?}\n  auditor {ours:?}");
            differing.push(name);
        }
    }
    assert!(calls > 0, "there is no call in any capture");
    let known: Vec<String> = DIFFERENCES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(
        differing, known,
        "captures that differ from tshark, printed above, and those known to; {calls} calls compared"
    );
}
