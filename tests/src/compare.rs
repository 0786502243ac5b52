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
    clients::{Answer, Call, ClientKind},
    plan::{Caller, Expected, Planned, Tolerance},
    servers::ServerKind,
};

/// A server as records show it.
#[derive(Clone, Debug)]
pub struct Answering {
    /// Which server.
    pub kind: ServerKind,
    /// Where it listens.
    pub sockets: Vec<SocketAddr>,
    /// The processes that may have answered.
    pub pids: Vec<u32>,
    /// The process that listens. It stands for a call whose accepted socket was never seen to send.
    pub listener: u32,
    /// Their program.
    pub executable: String,
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
    /// Exchanges reported as unknown, without their request, that may be calls that are missing.
    hidden: Vec<Value>,
    /// Calls whose response may be hidden or lost, and that were reported without one.
    unanswered: usize,
}

impl Comparison {
    /// Holds records against the calls of a run.
    ///
    /// # Errors
    /// When a call has no answer.
    pub fn new(
        servers: &[Answering],
        planned: &[Planned],
        answers: &HashMap<String, Answer>,
        records: &[Value],
    ) -> Result<Self> {
        let ours = Ours::new(servers, planned);
        let mut by_path: HashMap<&str, Vec<&Value>> = HashMap::new();
        let mut comparison = Self::default();
        for record in records.iter().filter(|record| record["kind"] == "exchange") {
            if let Some(path) = ours.path(record) {
                by_path.entry(path).or_default().push(record);
            } else if ours.server(record) {
                comparison.hidden.push(record.clone());
            }
        }
        let mut before: HashMap<&str, &Planned> = HashMap::new();
        for planned in planned {
            let previous = before.insert(&planned.call.group, planned);
            let answer = answers.get(&planned.call.id).with_context(|| format!("{} was not made", planned.call.id))?;
            for expected in &planned.expected {
                let came = by_path.get(expected.path.as_str()).map_or(&[][..], Vec::as_slice);
                if let Some(complaint) = comparison.one(planned, expected, answer, came, servers) {
                    comparison.differences.push(difference(planned, expected, answer, came, previous, &complaint));
                }
            }
        }
        for record in std::mem::take(&mut comparison.hidden) {
            // The response to a call that was reported without one.
            if unknown(&record).is_some() && record["request"].is_null() && comparison.unanswered > 0 {
                comparison.unanswered -= 1;
                continue;
            }
            comparison.invented += 1;
            comparison.differences.push(format!("nobody made this call:\n  came     {record}"));
        }
        Ok(comparison)
    }

    /// Takes an exchange without its request that may be this one.
    fn take_hidden(&mut self, expected: &Expected, servers: &[Answering]) -> Option<Value> {
        let server = servers.iter().find(|server| server.kind == expected.destination)?;
        let may_be = |record: &Value| {
            let status = &record["response"]["status"];
            unknown(record).is_some()
                && record["request"].is_null()
                && (*status == expected.status || status.is_null())
                && server.sockets.iter().any(|socket| port(record, "destination") == Some(socket.port()))
        };
        let at = self.hidden.iter().position(may_be)?;
        Some(self.hidden.swap_remove(at))
    }

    /// Counts one exchange; says what is wrong with what came of it.
    fn one(
        &mut self,
        planned: &Planned,
        expected: &Expected,
        answer: &Answer,
        came: &[&Value],
        servers: &[Answering],
    ) -> Option<String> {
        let tolerant = matches!(expected.tolerance, Tolerance::Hidden | Tolerance::Lossy);
        let hidden = if came.is_empty() && tolerant { self.take_hidden(expected, servers) } else { None };
        let count = self.counts.entry((planned.client, planned.server)).or_default();
        count.made += 1;
        match came {
            [] => match hidden.as_ref().and_then(unknown) {
                Some(reason) => {
                    *count.unknown.entry(format!("{reason} (no request)")).or_default() += 1;
                    None
                }
                None => {
                    count.missing += 1;
                    (expected.tolerance != Tolerance::Lossy).then(|| "no record".to_owned())
                }
            },
            [record] => {
                self.unanswered += usize::from(tolerant && record["response"].is_null());
                let wrong = mismatches(planned, expected, answer, record, servers);
                if !wrong.is_empty() {
                    count.wrong += 1;
                    Some(wrong.join("; "))
                } else if let Some(reason) = unknown(record) {
                    *count.unknown.entry(reason.to_owned()).or_default() += 1;
                    None
                } else {
                    count.right += 1;
                    None
                }
            }
            several => {
                count.duplicated += 1;
                // What would tell that the views of both ends are one may be lost.
                let wrong = |record: &&Value| !mismatches(planned, expected, answer, record, servers).is_empty();
                if expected.tolerance == Tolerance::Lossy && !several.iter().any(wrong) {
                    return None;
                }
                Some(format!("{} records", several.len()))
            }
        }
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
    pub fn new(servers: &[Answering], planned: &'a [Planned]) -> Self {
        let paths =
            planned.iter().flat_map(|planned| &planned.expected).map(|expected| expected.path.as_str()).collect();
        let sockets = servers.iter().flat_map(|server| &server.sockets).copied().collect();
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

/// What was expected, what came, and what the connection carried before.
fn difference(
    planned: &Planned,
    expected: &Expected,
    answer: &Answer,
    came: &[&Value],
    previous: Option<&Planned>,
    complaint: &str,
) -> String {
    let (client, server, call) = (planned.client, planned.server, &planned.call);
    let came: String = came.iter().map(|record| format!("\n  came     {record}")).collect();
    let after = previous.map_or("the first of its connection".to_owned(), |previous| {
        let Call { method, target, mode, body, .. } = &previous.call;
        format!("after {method} {target} ({mode}, {body} bytes) -> {}", previous.status)
    });
    format!(
        "{client} -> {server} ({}, {}): {complaint}\n  expected {expected:?} by process {}, {after}{came}",
        call.mode, call.address, answer.pid
    )
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
    servers: &[Answering],
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
    let lossy = expected.tolerance == Tolerance::Lossy;
    let hidden = expected.tolerance == Tolerance::Hidden;
    let unanswered = (lossy || hidden) && status.is_null() && record["outcome"] == "unanswered";
    if !unanswered {
        check("status", &expected.status, status, *status == expected.status);
        check("outcome", &expected.outcome, &record["outcome"], record["outcome"] == expected.outcome);
    }
    match unknown(record) {
        Some(reason) => {
            let allowed = match expected.tolerance {
                Tolerance::Exact => false,
                Tolerance::Unknown(reasons) => reasons.contains(&reason),
                Tolerance::Hidden | Tolerance::Lossy => true,
            };
            check("unknown_reason", &expected.tolerance, &reason, allowed);
        }
        None => {
            check("verdict", &expected.verdict, &record["verdict"], record["verdict"] == expected.verdict);
            let kinds = texts(&record["credentials"], "kind");
            let distinct: HashSet<&str> = kinds.iter().map(String::as_str).collect();
            let credentials: HashSet<&str> = expected.credentials.iter().copied().collect();
            check("credentials", &expected.credentials, &kinds, distinct == credentials);
            let findings = texts(&record["findings"], "rule");
            // What speaks against the answer is not known without it.
            check("findings", &expected.findings, &findings, unanswered || findings == expected.findings);
        }
    }
    let server = |kind| {
        let found = servers.iter().find(|server| server.kind == kind);
        found.map_or((&[][..], ""), |server| (server.pids.as_slice(), server.executable.as_str()))
    };
    let listener = |kind| servers.iter().find(|server| server.kind == kind).map(|server| server.listener);
    let client = [answer.pid];
    let (callers, program) = match expected.caller {
        Caller::Client => (&client[..], answer.executable.as_str()),
        Caller::Proxy => server(planned.server),
    };
    let (answerers, answerer) = server(expected.destination);
    for (end, pids, program) in [("source", callers, program), ("destination", answerers, answerer)] {
        let process = &record[end]["process"];
        if lossy && process.is_null() {
            continue;
        }
        let pid = process["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        let stands_for_it = end == "destination" && lossy && unanswered && pid == listener(expected.destination);
        let fine = stands_for_it || pid.is_some_and(|pid| pids.contains(&pid));
        check(&format!("{end} pid"), &pids, &pid, fine);
        // A process that ended before it could be looked at keeps its name, and has no program any more.
        let gone = planned.client == ClientKind::Curl && process["executable"].is_null();
        let name = program.rsplit('/').next().unwrap_or_default();
        let fine = process["executable"] == program || (gone && process["command"] == name);
        check(&format!("{end} executable"), &program, process, fine);
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::json;

    use super::*;
    use crate::{credential::Proof, plan::Planner};

    const PORT: u16 = 4711;

    /// Calls, their answers, and the records a faultless auditor gives.
    fn run() -> (Vec<Answering>, Vec<Planned>, HashMap<String, Answer>, Vec<Value>) {
        let socket = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        let server = Answering {
            kind: ServerKind::Python,
            sockets: vec![socket],
            pids: vec![7, 8],
            listener: 6,
            executable: "/usr/bin/python3".into(),
        };
        let mut planner = Planner::new(ServerKind::Go);
        planner.proofs(ClientKind::Curl, ServerKind::Python, socket);
        let planned = planner.planned();
        let answer = |planned: &Planned| {
            let answer = Answer { status: Ok(planned.status), pid: 5, executable: "/usr/bin/curl".into() };
            (planned.call.id.clone(), answer)
        };
        let record = |expected: &Expected| {
            let named = |field: &str, names: &[&str]| names.iter().map(|name| json!({field: name})).collect::<Vec<_>>();
            json!({
                "kind": "exchange",
                "source": {"process": {"pid": 5, "executable": "/usr/bin/curl"}},
                "destination": {"address": "127.0.0.1", "port": PORT, "process": {"pid": 8, "executable": "/usr/bin/python3"}},
                "request": {"method": expected.method, "path": expected.path},
                "response": {"status": expected.status},
                "credentials": named("kind", &expected.credentials),
                "findings": named("rule", &expected.findings),
                "verdict": expected.verdict, "unknown_reason": null, "outcome": expected.outcome,
            })
        };
        let answers = planned.iter().map(answer).collect();
        let records = planned.iter().flat_map(|planned| &planned.expected).map(record).collect();
        (vec![server], planned, answers, records)
    }

    /// The total of a run in which the records were changed.
    fn after(change: impl FnOnce(&mut Vec<Value>)) -> (Count, usize, usize) {
        let (servers, planned, answers, mut records) = run();
        change(&mut records);
        let comparison = Comparison::new(&servers, &planned, &answers, &records).unwrap();
        let count = comparison.counts[&(ClientKind::Curl, ServerKind::Python)].clone();
        (count, comparison.invented, comparison.differences.len())
    }

    fn count(right: usize, wrong: usize, missing: usize, duplicated: usize) -> Count {
        Count { made: Proof::ALL.len(), right, wrong, missing, duplicated, unknown: BTreeMap::new() }
    }

    #[test]
    fn every_kind_of_fault_is_told_apart() {
        let all = Proof::ALL.len();
        assert_eq!(after(|_| ()), (count(all, 0, 0, 0), 0, 0));
        let missing = after(|records| drop(records.remove(3)));
        assert_eq!(missing, (count(all - 1, 0, 1, 0), 0, 1));
        let duplicated = after(|records| records.push(records[2].clone()));
        assert_eq!(duplicated, (count(all - 1, 0, 0, 1), 0, 1));
        let invented = after(|records| {
            let mut record = records[0].clone();
            record["request"]["path"] = json!("/never");
            records.push(record);
        });
        assert_eq!(invented, (count(all, 0, 0, 0), 1, 1));
    }

    #[test]
    fn any_wrong_field_and_an_unknown_that_is_not_allowed_are_wrong() {
        let faults = [
            ("/verdict", json!("exempt")),
            ("/outcome", json!("unanswered")),
            ("/response/status", json!(418)),
            ("/request/method", json!("HEAD")),
            ("/credentials", json!([{"kind": "digest"}, {"kind": "basic"}])),
            ("/findings", json!([{"rule": "shared-credential"}])),
            ("/source/process/pid", json!(8)),
            ("/source/process", json!(null)),
            ("/destination/process/executable", json!("/usr/bin/curl")),
        ];
        for (place, value) in faults {
            let wrong = after(|records| *records[0].pointer_mut(place).unwrap() = value);
            assert_eq!(wrong, (count(Proof::ALL.len() - 1, 1, 0, 0), 0, 1), "{place}");
        }
        let unknown = after(|records| {
            records[0]["verdict"] = json!("unknown");
            records[0]["unknown_reason"] = json!("gap");
        });
        assert_eq!(unknown, (count(Proof::ALL.len() - 1, 1, 0, 0), 0, 1));
    }
}
