//! Replayed captures against what tshark extracts of them: method, target, host and status of every call.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use auditor_tests::{
    auditor,
    process::output,
    tools::{program, source},
};
use serde_json::Value;
use tempfile::TempDir;

/// Captures in which the two differ, and why the auditor is right.
const DIFFERENCES: &[(&str, &str)] = &[];

/// The ports of a connection, client first.
type Ports = (u16, u16);

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
fn by_tshark(file: &Path) -> Result<Calls> {
    let mut command = Command::new(program("tshark")?);
    command.arg("-r").arg(file).args(["-Y", "http.request or http.response", "-T", "fields"]);
    command.args(["-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=\u{1}"]);
    let fields =
        ["tcp.srcport", "tcp.dstport", "http.request.method", "http.request.uri", "http.host", "http.response.code"];
    command.args(fields.iter().flat_map(|field| ["-e", field]));
    let mut calls = Calls::default();
    for line in output(&mut command)?.lines() {
        let cells: Vec<Vec<&str>> = line.split('\t').map(|cell| cell.split('\u{1}').collect()).collect();
        ensure!(cells.len() == fields.len(), "tshark printed {line:?}");
        let port = |cell: usize| cells[cell][0].parse::<u16>().with_context(|| format!("no port in {line:?}"));
        let (source, destination) = (port(0)?, port(1)?);
        let filled = |cell: usize| cells[cell].iter().copied().filter(|text| !text.is_empty());
        for (number, (method, target)) in filled(2).zip(filled(3)).enumerate() {
            let host = cells[4].get(number).copied().unwrap_or_default();
            calls.request((source, destination), method, target, host);
        }
        for status in filled(5) {
            calls.status((destination, source), status.parse()?);
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
        let (theirs, ours) = (by_tshark(file).unwrap(), by_auditor(file, directory.path()).unwrap());
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
