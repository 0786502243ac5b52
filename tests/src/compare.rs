//! What was done against what the auditor said.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    auditor::port,
    clients::{Answer, ClientKind},
    plan::{Caller, Expected, Planned},
    rig::Rig,
    servers::{Server, ServerKind},
};

/// The processes that may have answered, and their program.
#[derive(Debug)]
struct Workers {
    pids: Vec<u32>,
    executable: String,
}

/// How the records of one client's calls to one server came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Exchanges made.
    pub made: usize,
    /// Judged once, and right in every field.
    pub right: usize,
    /// Judged once, as unknown for a reason that is allowed.
    pub unknown: BTreeMap<String, usize>,
    /// Judged once, and wrong in some field.
    pub wrong: usize,
    /// Not judged.
    pub missing: usize,
    /// Judged more than once.
    pub duplicated: usize,
}

/// The outcome of a run.
#[derive(Debug, Default)]
pub struct Comparison {
    /// By client and server; nginx's own calls to its backend are those of the client that made it do so.
    pub counts: BTreeMap<(ClientKind, ServerKind), Count>,
    /// Everything that is not as it should be, with what was expected and what came.
    pub differences: Vec<String>,
    /// Exchanges reported on the servers' ports that nobody made.
    pub invented: usize,
}

impl Comparison {
    /// Holds records against the calls of a run.
    ///
    /// # Errors
    /// When a server ended or a call has no answer.
    pub fn new(rig: &Rig, planned: &[Planned], answers: &HashMap<String, Answer>, records: &[Value]) -> Result<Self> {
        let workers = rig
            .servers()
            .iter()
            .map(|server| {
                let executable = server.executable()?.display().to_string();
                Ok((server.kind(), Workers { pids: server.pids(), executable }))
            })
            .collect::<Result<HashMap<_, _>>>()?;
        let ours = Ours::new(rig, planned);
        let mut by_path: HashMap<&str, Vec<&Value>> = HashMap::new();
        let mut comparison = Self::default();
        for record in records.iter().filter(|record| record["kind"] == "exchange") {
            if let Some(path) = ours.path(record) {
                by_path.entry(path).or_default().push(record);
            } else if ours.server(record) {
                comparison.invented += 1;
                comparison.differences.push(format!("nobody made this call:\n  came     {record}"));
            }
        }
        for planned in planned {
            let answer = answers.get(&planned.call.id).with_context(|| format!("{} was not made", planned.call.id))?;
            for expected in &planned.expected {
                let came = by_path.get(expected.path.as_str()).map_or(&[][..], Vec::as_slice);
                comparison.one(planned, expected, answer, came, &workers);
            }
        }
        Ok(comparison)
    }

    fn one(
        &mut self,
        planned: &Planned,
        expected: &Expected,
        answer: &Answer,
        came: &[&Value],
        workers: &HashMap<ServerKind, Workers>,
    ) {
        let count = self.counts.entry((planned.client, planned.server)).or_default();
        count.made += 1;
        let complaint = match came {
            [] => {
                count.missing += 1;
                "no record".to_owned()
            }
            [record] => {
                let wrong = mismatches(planned, expected, answer, record, workers);
                if !wrong.is_empty() {
                    count.wrong += 1;
                    wrong.join("; ")
                } else if let Some(reason) = unknown(record) {
                    *count.unknown.entry(reason.to_owned()).or_default() += 1;
                    return;
                } else {
                    count.right += 1;
                    return;
                }
            }
            several => {
                count.duplicated += 1;
                format!("{} records", several.len())
            }
        };
        let (client, server, mode) = (planned.client, planned.server, planned.call.mode);
        let came: String = came.iter().map(|record| format!("\n  came     {record}")).collect();
        self.differences.push(format!(
            "{client} -> {server} ({mode}, {}): {complaint}\n  expected {expected:?} by process {}{came}",
            planned.call.address, answer.pid
        ));
    }

    /// Whether every call was judged exactly once, and right or allowed to be unknown.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Tells the records of a run from those of everything else on the machine.
#[derive(Debug)]
pub struct Ours<'a> {
    paths: HashSet<&'a str>,
    sockets: HashSet<SocketAddr>,
}

impl<'a> Ours<'a> {
    /// The records of these calls and servers.
    #[must_use]
    pub fn new(rig: &Rig, planned: &'a [Planned]) -> Self {
        let paths =
            planned.iter().flat_map(|planned| &planned.expected).map(|expected| expected.path.as_str()).collect();
        let sockets = rig.servers().iter().flat_map(Server::sockets).copied().collect();
        Self { paths, sockets }
    }

    /// The path of a call of the run.
    #[must_use]
    pub fn path<'r>(&self, record: &'r Value) -> Option<&'r str> {
        record["request"]["path"].as_str().filter(|path| self.paths.contains(path))
    }

    /// Whether one of the run's servers was called.
    fn server(&self, record: &Value) -> bool {
        let address = record["destination"]["address"].as_str().and_then(|address| address.parse::<IpAddr>().ok());
        address.zip(port(record, "destination")).is_some_and(|socket| self.sockets.contains(&socket.into()))
    }
}

fn unknown(record: &Value) -> Option<&str> {
    (record["verdict"] == "unknown").then(|| record["unknown_reason"].as_str().unwrap_or("null"))
}

/// What in a record is not as expected.
fn mismatches(
    planned: &Planned,
    expected: &Expected,
    answer: &Answer,
    record: &Value,
    workers: &HashMap<ServerKind, Workers>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |name: &str, expected: &dyn fmt::Debug, came: &dyn fmt::Debug, fine: bool| {
        if !fine {
            wrong.push(format!("{name} is {came:?}, not {expected:?}"));
        }
    };
    let texts = |list: &Value, field: &str| {
        let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut texts: Vec<String> = items.iter().filter_map(|item| Some(item[field].as_str()?.to_owned())).collect();
        texts.sort();
        texts
    };
    let (method, status) = (&record["request"]["method"], &record["response"]["status"]);
    check("method", &expected.method, method, method == expected.method);
    check("status", &expected.status, status, *status == expected.status);
    check("outcome", &expected.outcome, &record["outcome"], record["outcome"] == expected.outcome);
    match unknown(record) {
        Some(reason) => {
            check("unknown_reason", &expected.may_be_unknown, &reason, expected.may_be_unknown.contains(&reason));
        }
        None => {
            check("verdict", &expected.verdict, &record["verdict"], record["verdict"] == expected.verdict);
            let kinds = texts(&record["credentials"], "kind");
            let distinct: HashSet<&str> = kinds.iter().map(String::as_str).collect();
            let credentials: HashSet<&str> = expected.credentials.iter().copied().collect();
            check("credentials", &expected.credentials, &kinds, distinct == credentials);
            let findings = texts(&record["findings"], "rule");
            check("findings", &expected.findings, &findings, findings == expected.findings);
        }
    }
    let (callers, program) = match expected.caller {
        Caller::Client => (vec![answer.pid], answer.executable.as_str()),
        Caller::Proxy => {
            workers.get(&planned.server).map_or((Vec::new(), ""), |w| (w.pids.clone(), w.executable.as_str()))
        }
    };
    let answering = workers.get(&expected.destination);
    let (answerers, answerer) = answering.map_or((Vec::new(), ""), |w| (w.pids.clone(), w.executable.as_str()));
    for (end, pids, program) in [("source", callers, program), ("destination", answerers, answerer)] {
        let process = &record[end]["process"];
        let pid = process["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        check(&format!("{end} pid"), &pids, &pid, pid.is_some_and(|pid| pids.contains(&pid)));
        check(&format!("{end} executable"), &program, &process["executable"], process["executable"] == program);
    }
    wrong
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "client  server   made  right  wrong  missing  duplicated  unknown")?;
        let mut total = Count::default();
        let row = |f: &mut fmt::Formatter<'_>, client: &dyn fmt::Display, server: &dyn fmt::Display, count: &Count| {
            let Count { made, right, unknown, wrong, missing, duplicated } = count;
            let unknown: Vec<String> = unknown.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            let unknown = if unknown.is_empty() { "-".to_owned() } else { unknown.join(", ") };
            writeln!(
                f,
                "{client:<7} {server:<7} {made:>5} {right:>6} {wrong:>6} {missing:>8} {duplicated:>11}  {unknown}"
            )
        };
        for ((client, server), count) in &self.counts {
            row(f, client, server, count)?;
            total.made += count.made;
            total.right += count.right;
            total.wrong += count.wrong;
            total.missing += count.missing;
            total.duplicated += count.duplicated;
            for (reason, count) in &count.unknown {
                *total.unknown.entry(reason.clone()).or_default() += count;
            }
        }
        row(f, &"all", &"", &total)?;
        writeln!(f, "{} exchanges were reported that nobody made", self.invented)?;
        for difference in &self.differences {
            writeln!(f, "{difference}")?;
        }
        Ok(())
    }
}
