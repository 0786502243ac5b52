//! What procfs adds to the pid and name the kernel told: executable, command line, user, container. A pid that is gone or was
//! given to another process is recognised by its start time; then the kernel's word alone stands.

use std::{
    fmt, fs,
    io::{self, Read as _},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
    sync::Arc,
};

use auditor_wire::segment::Owner;

use super::{arguments::redact_arguments, container, workload};
use crate::{
    cache::Cache,
    judgement::{Container, Process},
};

/// Processes that are remembered.
const REMEMBERED: usize = 8192;
/// Facts are read again after this, nanoseconds: a process may become another program under the same name.
const FRESH: u64 = 60_000_000_000;
/// The same where the start time is not known, so that a reused pid cannot be told.
const FRESH_UNTOLD: u64 = 2_000_000_000;
/// A process that changes its name is read again at once, but only so often within [`SECOND`].
const RENAMES_MAX: u8 = 4;
const SECOND: u64 = 1_000_000_000;
/// Longest path of an executable that is kept, bytes.
const EXECUTABLE_MAX: usize = 512;
/// Bytes read of a command line: Java's class paths are long.
const COMMAND_LINE_MAX: u64 = 32 << 10;
/// Bytes read of any other file.
const FILE_MAX: u64 = 16 << 10;

/// Where the facts of processes come from.
pub trait ProcSource: Send + fmt::Debug {
    /// Reads at most `limit` bytes of a file in a process's directory.
    ///
    /// # Errors
    /// When there is no such process, or it may not be read.
    fn read(&self, pid: u32, file: &str, limit: u64) -> io::Result<Vec<u8>>;

    /// Path of a process's executable, as the kernel has it.
    ///
    /// # Errors
    /// When there is no such process, it has no executable, or it may not be read.
    fn executable(&self, pid: u32) -> io::Result<PathBuf>;
}

/// procfs itself.
#[derive(Clone, Debug)]
pub struct Procfs {
    root: PathBuf,
}

impl Procfs {
    /// procfs mounted at `root`, normally `/proc`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

impl ProcSource for Procfs {
    fn read(&self, pid: u32, file: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(self.root.join(format!("{pid}/{file}")))?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn executable(&self, pid: u32) -> io::Result<PathBuf> {
        fs::read_link(self.root.join(format!("{pid}/exe")))
    }
}

/// How procfs counts start times: the kernel's nanoseconds since boot, plus the time namespace's offset, in clock ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartClock {
    /// Nanoseconds of one tick.
    pub tick_ns: u64,
    /// What this process's time namespace adds to the time since boot, nanoseconds (time_namespaces(7)).
    pub offset_ns: i64,
}

impl StartClock {
    /// The clock of this process.
    #[must_use]
    pub fn of_system() -> Self {
        let offsets = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
        let tick_ns = SECOND / rustix::param::clock_ticks_per_second().max(1);
        Self { tick_ns, offset_ns: boot_offset(&offsets).unwrap_or(0) }
    }

    /// The tick in which a process began that the kernel says began at `start_ns`.
    fn ticks(self, start_ns: u64) -> u64 {
        start_ns.saturating_add_signed(self.offset_ns) / self.tick_ns.max(1)
    }

    /// The beginning of a tick in the kernel's nanoseconds since boot.
    pub(super) fn start_ns(self, ticks: u64) -> u64 {
        ticks.saturating_mul(self.tick_ns).saturating_sub_signed(self.offset_ns)
    }
}

/// The `boottime SECONDS NANOSECONDS` line of `timens_offsets`.
fn boot_offset(offsets: &str) -> Option<i64> {
    let line = offsets.lines().find_map(|line| line.strip_prefix("boottime"))?;
    let mut fields = line.split_ascii_whitespace();
    let seconds: i64 = fields.next()?.parse().ok()?;
    let nanoseconds: i64 = fields.next()?.parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// All that is known of a process. Cloning copies no text.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) process: Arc<Process>,
    pub(super) workload: Arc<str>,
    /// The container by the process's own cgroup; the outer `None` when that could not be read.
    pub(super) container: Option<Option<Arc<Container>>>,
}

/// Facts and when they were read.
#[derive(Debug)]
struct Entry {
    facts: Facts,
    comm: [u8; 16],
    read: u64,
    renames: u8,
}

/// The processes seen lately.
#[derive(Debug)]
pub(super) struct Processes {
    source: Option<Box<dyn ProcSource>>,
    clock: StartClock,
    /// Pids from the kernel are those of the source even where no start time confirms it.
    same_namespace: bool,
    known: Cache<(u32, u64), Entry>,
}

impl Processes {
    pub(super) const LIMIT: usize = REMEMBERED;

    /// Without a source only the kernel's word is known.
    pub(super) fn new(source: Option<Box<dyn ProcSource>>, clock: StartClock, same_namespace: bool) -> Self {
        Self { source, clock, same_namespace, known: Cache::new(REMEMBERED) }
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// What is known of a socket's owner. Reads procfs for a process not met lately.
    pub(super) fn facts(&mut self, owner: &Owner, now: u64) -> Facts {
        let key = (owner.tgid, owner.start_ns);
        let fresh_for = if owner.start_ns == 0 { FRESH_UNTOLD } else { FRESH };
        let mut known = None;
        let mut renames = 0;
        if let Some(entry) = self.known.get(&key) {
            let age = now.checked_sub(entry.read).unwrap_or(fresh_for);
            let renamed = entry.comm != owner.comm;
            if age < fresh_for && (!renamed || (age < SECOND && entry.renames >= RENAMES_MAX)) {
                return entry.facts.clone();
            }
            renames = if renamed && age < SECOND { entry.renames + 1 } else { 0 };
            // What was read of this very process stays true after its end, unless it has become another program since.
            known = (!renamed && owner.start_ns != 0).then(|| entry.facts.clone());
        }
        let facts = self.read(owner).or(known).unwrap_or_else(|| told_by_kernel(owner));
        self.known.insert(key, Entry { facts: facts.clone(), comm: owner.comm, read: now, renames });
        facts
    }

    /// Reads procfs; `None` when the process is gone or the pid belongs to another one by now.
    fn read(&self, owner: &Owner) -> Option<Facts> {
        let source = self.source.as_deref()?;
        if owner.start_ns == 0 && !self.same_namespace {
            return None;
        }
        let stat = Stat::read(source, owner.tgid)?;
        if stat.ended || (owner.start_ns != 0 && stat.start_ticks != self.clock.ticks(owner.start_ns)) {
            return None;
        }
        let text = |file, limit| {
            source.read(owner.tgid, file, limit).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let executable = source.executable(owner.tgid).ok().map(|path| {
            let path = path.as_os_str().as_bytes();
            printable(path.strip_suffix(b" (deleted)").unwrap_or(path), EXECUTABLE_MAX)
        });
        let line = text("cmdline", COMMAND_LINE_MAX).unwrap_or_default();
        let user = text("status", FILE_MAX).and_then(|status| effective_user(&status));
        let cgroup = text("cgroup", FILE_MAX);
        // The pid may have been given to another process between these reads.
        if Stat::read(source, owner.tgid)?.start_ticks != stat.start_ticks {
            return None;
        }
        let told = command(&owner.comm);
        let command = if told.is_empty() { printable(&stat.comm, 64) } else { told };
        let shown = redact_arguments(&line);
        Some(Facts {
            workload: workload::name(executable.as_deref(), &line, &command).into(),
            container: cgroup
                .map(|text| container::id_of_process(&text).map(|id| Arc::new(Container { id: id.into() }))),
            process: Arc::new(Process {
                pid: owner.tgid,
                command: command.into(),
                executable: executable.map(Into::into),
                arguments: (!shown.is_empty()).then(|| shown.into()),
                user,
            }),
        })
    }
}

fn told_by_kernel(owner: &Owner) -> Facts {
    let command = command(&owner.comm);
    let workload = workload::name(None, "", &command).into();
    let process = Process { pid: owner.tgid, command: command.into(), executable: None, arguments: None, user: None };
    Facts { process: Arc::new(process), workload, container: None }
}

/// What `/proc/PID/stat` says (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) comm: Vec<u8>,
    /// Ended and not yet waited for.
    ended: bool,
    /// Start since boot, clock ticks.
    pub(super) start_ticks: u64,
}

impl Stat {
    pub(super) fn read(source: &dyn ProcSource, pid: u32) -> Option<Self> {
        Self::parse(&source.read(pid, "stat", FILE_MAX).ok()?)
    }

    /// The name stands in brackets and may itself hold brackets and blanks.
    fn parse(stat: &[u8]) -> Option<Self> {
        let open = stat.iter().position(|byte| *byte == b'(')?;
        let close = stat.iter().rposition(|byte| *byte == b')')?;
        let comm = stat.get(open + 1..close)?.to_vec();
        let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        // The state is field 3, the start time field 22.
        let start_ticks = fields.nth(18)?.parse().ok()?;
        Some(Self { comm, ended: matches!(state, "Z" | "X" | "x"), start_ticks })
    }
}

/// The kernel's name of a process, up to the zero that ends it.
fn command(comm: &[u8; 16]) -> String {
    let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
    printable(&comm[..end], comm.len() * 3)
}

/// Text without control characters, so that no process can write escape sequences to a terminal through its name.
fn printable(bytes: &[u8], limit: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut text: String = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    text.truncate(text.floor_char_boundary(limit));
    text
}

/// The effective user id of `/proc/PID/status`: `Uid:` real, effective, saved, file system.
fn effective_user(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
