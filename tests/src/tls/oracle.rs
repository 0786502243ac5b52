//! One run of the matrix: the connections, and the auditor beside them.

use std::{
    collections::{HashMap, HashSet},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    auditor::Auditor,
    oracle::AMPLE,
    process::send_signal,
    tls::{
        certificates::AUTHORITY,
        clients::Seen,
        compare::Comparison,
        made::{Made, ports},
        plan::Planned,
        rig::Rig,
    },
};

/// How long records may take once all connections are made.
const SETTLE: Duration = Duration::from_secs(30);

/// What came of a run.
#[derive(Debug)]
pub struct Observed {
    seen: HashMap<String, Seen>,
    /// The auditor's records by the id of their connection.
    records: HashMap<String, Vec<Value>>,
    /// Records of connections to the rig's servers or of its clients that nobody made.
    pub invented: Vec<Value>,
    /// What the auditor wrote to standard error.
    pub log: String,
    /// What was lost.
    pub lost: Lost,
}

/// What is lost in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lost {
    /// Nothing.
    #[default]
    Nothing,
    /// Packets, in the network, which are sent again: less may be known.
    Packets,
    /// Records, too, of an auditor that is stopped most of the time, and loses what does not fit into a small ring meanwhile.
    Records,
}

impl Observed {
    /// What the client says of a connection.
    ///
    /// # Errors
    /// When it was not made.
    pub fn seen(&self, planned: &Planned) -> Result<&Seen> {
        self.seen.get(&planned.id).with_context(|| format!("{planned} was not made"))
    }

    /// The records of a connection.
    #[must_use]
    pub fn records(&self, planned: &Planned) -> &[Value] {
        self.records.get(&planned.id).map_or(&[], Vec::as_slice)
    }

    /// The record of a connection, the only one.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn record(&self, planned: &Planned) -> Result<&Value> {
        match self.records(planned) {
            [record] => Ok(record),
            records => anyhow::bail!("{planned}: {} records: {records:#?}", records.len()),
        }
    }
}

/// Makes the connections with the auditor beside them.
///
/// # Errors
/// When the rig or the auditor fails.
pub fn observe(rig: &mut Rig, planned: &[Planned], lost: Lost) -> Result<Observed> {
    let starved = lost == Lost::Records;
    let ring = if starved { "256KiB" } else { AMPLE };
    let trusted = rig.directory().join(AUTHORITY).display().to_string();
    let mut auditor = Auditor::watch(rig.directory(), &["--ring-bytes", ring, "--trust-bundle", &trusted])?;
    let seen = if starved { starving(auditor.pid(), || rig.run(planned))? } else { rig.run(planned)? };
    rig.vouch(planned, &seen)?;
    let servers: HashSet<u16> = planned.iter().map(|planned| rig.server_port(planned)).collect::<Result<_>>()?;
    let clients: HashSet<u64> = seen.values().map(|seen| seen.pid.into()).collect();
    // A record that names the wrong port is ours, too.
    let is_ours = |record: &Value| {
        let by_client = record["source"]["process"]["pid"].as_u64().is_some_and(|pid| clients.contains(&pid));
        ports(record).is_some_and(|(_, server)| by_client || servers.contains(&server))
    };
    // What is lost has no record to wait for; stopping brings out whatever is pending.
    let due = if starved { 1 } else { planned.len() };
    // Not an assertion: whatever has not come by then is missing in the comparison, which says more.
    let waited = auditor.wait_until(SETTLE, |records| records.iter().filter(|record| is_ours(record)).count() >= due);
    if let Err(error) = waited {
        eprintln!("{error:#}");
    }
    let finished = auditor.stop()?;
    ensure!(finished.status.success(), "the auditor ended with {}:\n{}", finished.status, finished.log);
    let made = Made::new(rig, planned, &seen)?;
    let mut records: HashMap<String, Vec<Value>> = HashMap::new();
    let mut invented = Vec::new();
    for record in finished.records.into_iter().filter(is_ours) {
        match made.of(&record) {
            Some(id) => records.entry(id.to_owned()).or_default().push(record),
            None => invented.push(record),
        }
    }
    Ok(Observed { seen, records, invented, log: finished.log, lost })
}

/// Does `work` while a process is stopped nine tenths of the time.
fn starving<T>(pid: u32, work: impl FnOnce() -> T) -> T {
    let (done, over) = channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut waited = Err(RecvTimeoutError::Timeout);
            while waited == Err(RecvTimeoutError::Timeout) {
                send_signal(pid, libc::SIGSTOP);
                waited = over.recv_timeout(Duration::from_millis(270));
                send_signal(pid, libc::SIGCONT);
                if waited == Err(RecvTimeoutError::Timeout) {
                    waited = over.recv_timeout(Duration::from_millis(30));
                }
            }
        });
        let result = work();
        drop::<Sender<()>>(done);
        result
    })
}

/// Holds what was said against what was done. Prints the comparison.
///
/// # Errors
/// When a connection was not made, or a server ended.
pub fn judge(rig: &Rig, planned: &[Planned], observed: &Observed) -> Result<Comparison> {
    let comparison = Comparison::new(rig, planned, observed)?;
    eprintln!("{comparison}\nstandard error of the auditor:\n{}", observed.log);
    Ok(comparison)
}
