//! What was done against what the auditor said.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use anyhow::Result;
use serde_json::Value;

use crate::tls::{
    clients::{ClientKind, Seen},
    expected::Expected,
    oracle::{Lost, Observed},
    plan::{Outcome, Planned},
    rig::Rig,
    servers::ServerKind,
};

/// What stands in the matrix for a connection without a record.
const MISSING: &str = "missing";

/// Every word that can stand in a column of the matrix.
const COLUMNS: [&str; 7] = ["none", "empty", "presented", "resumed", "rejected", "undetermined", MISSING];

/// The outcome of a run.
#[derive(Debug, Default)]
pub struct Comparison {
    /// How often which outcome was said of which, by client and server.
    pub counts: BTreeMap<(ClientKind, ServerKind), BTreeMap<(Outcome, String), usize>>,
    /// Connections that are not mutual TLS and were called so.
    pub false_mutual: Vec<String>,
    /// Everything that is not as it should be, with what was expected and what came.
    pub differences: Vec<String>,
    /// What was lost: records may say less, or be missing.
    lost: Lost,
}

impl Comparison {
    /// Holds records against the connections of a run.
    ///
    /// # Errors
    /// When a connection was not made, or a server ended.
    pub fn new(rig: &Rig, planned: &[Planned], observed: &Observed) -> Result<Self> {
        let mut comparison = Self { lost: observed.lost, ..Self::default() };
        for planned in planned {
            comparison.one(rig, planned, observed.seen(planned)?, observed.records(planned))?;
        }
        for record in &observed.invented {
            comparison.differences.push(format!("nobody made this connection:{}", shown(std::slice::from_ref(record))));
        }
        Ok(comparison)
    }

    fn one(&mut self, rig: &Rig, planned: &Planned, seen: &Seen, came: &[Value]) -> Result<()> {
        let said = |record: &Value| record["transport"]["client_certificate"]["outcome"].as_str().map(str::to_owned);
        let word = came.first().map_or(Some(MISSING.to_owned()), said).unwrap_or_else(|| "null".to_owned());
        let counts = self.counts.entry((planned.client, planned.server)).or_default();
        *counts.entry((planned.outcome(), word)).or_default() += 1;
        if !planned.was_mutual() && came.iter().any(|record| record["transport"]["security"] == "mtls") {
            self.false_mutual.push(format!("{planned}{}", shown(came)));
        }
        let expected = Expected::of(planned, came.first().unwrap_or(&Value::Null));
        let expected = if self.lost == Lost::Nothing { expected } else { expected.or_open() };
        let starved = self.lost == Lost::Records;
        let complaint = match came {
            [] if starved => String::new(),
            [] => "no record".to_owned(),
            // What names the processes may be lost, too.
            [record] if starved => expected.mismatches(record).join("; "),
            [record] => {
                let mut wrong = expected.mismatches(record);
                wrong.extend(processes(rig, planned, seen, record)?);
                wrong.join("; ")
            }
            // So may what tells that the views of both ends are one.
            several if starved => {
                several.iter().flat_map(|record| expected.mismatches(record)).collect::<Vec<_>>().join("; ")
            }
            several => format!("{} records", several.len()),
        };
        if !complaint.is_empty() {
            self.differences.push(format!("{planned}: {complaint}{}", shown(came)));
        }
        Ok(())
    }

    /// How often the outcome was left open, or a record is missing.
    #[must_use]
    pub fn left_open(&self) -> usize {
        let open = |((_, said), count): (&(Outcome, String), &usize)| {
            if matches!(said.as_str(), "undetermined" | MISSING) { *count } else { 0 }
        };
        self.counts.values().flatten().map(open).sum()
    }

    /// Whether every connection was judged exactly once, and right; after losses: whether nothing false was said.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.differences.is_empty() && self.false_mutual.is_empty()
    }
}

fn shown(records: &[Value]) -> String {
    records.iter().map(|record| format!("\n  came     {record}")).collect()
}

/// What is wrong with the processes a record names.
fn processes(rig: &Rig, planned: &Planned, seen: &Seen, record: &Value) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let server = rig.server(planned.server)?;
    let answering = server.executable()?.display().to_string();
    let ends =
        [("source", vec![seen.pid], seen.executable.as_str()), ("destination", server.pids(), answering.as_str())];
    for (end, pids, program) in ends {
        let process = &record[end]["process"];
        let pid = process["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        if pid.is_none_or(|pid| !pids.contains(&pid)) {
            wrong.push(format!("{end} pid is {pid:?}, not {pids:?}"));
        }
        // A process that ended before it could be looked at keeps its name, and has no program any more.
        let gone = planned.client == ClientKind::Curl && end == "source" && process["executable"].is_null();
        let name = program.rsplit('/').next().unwrap_or_default();
        if process["executable"] != program && !(gone && process["command"] == name) {
            wrong.push(format!("{end} executable is {process}, not {program}"));
        }
    }
    Ok(wrong)
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut total: BTreeMap<(Outcome, &str), usize> = BTreeMap::new();
        for ((truth, said), count) in self.counts.values().flatten() {
            *total.entry((*truth, said)).or_default() += count;
        }
        writeln!(f, "truth \\ said {}", COLUMNS.map(|word| format!("{word:>13}")).concat())?;
        let truths: BTreeSet<Outcome> = total.keys().map(|(truth, _)| *truth).collect();
        for truth in truths {
            let cells = COLUMNS.map(|word| total.get(&(truth, word)).copied().unwrap_or_default());
            writeln!(f, "{truth:<12} {}", cells.map(|count| format!("{count:>13}")).concat())?;
        }
        for ((client, server), counts) in &self.counts {
            let cells = counts.iter().map(|((truth, said), count)| {
                if truth.as_str() == said { format!("{truth} {count}") } else { format!("{truth} > {said} {count}") }
            });
            writeln!(f, "{client:<7} {server:<6} {}", cells.collect::<Vec<_>>().join(", "))?;
        }
        for connection in &self.false_mutual {
            writeln!(f, "not mutual TLS, and called so: {connection}")?;
        }
        for difference in &self.differences {
            writeln!(f, "{difference}")?;
        }
        Ok(())
    }
}
