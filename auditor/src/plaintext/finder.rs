//! Finds the files with TLS libraries that processes map, and attaches to each once, however many processes and mount namespaces
//! show it. It runs on a thread of its own: reading other people's files takes time.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use auditor_abi::plaintext::PROGRAM_KERNEL;

use super::{
    elf::{self, Found, Library, Plan},
    mappings::{self, FileId, Mapping},
};
use crate::{
    capture::clock::monotonic_ns,
    kernel::{
        loader::RunTime,
        plaintext::{Attached, Probes},
    },
};

/// How often new processes are looked for.
const TICK: Duration = Duration::from_millis(250);
/// How long a process is new: it may still load libraries.
const YOUNG: Duration = Duration::from_secs(3);
/// How often the mappings of the other processes are read again: libraries may be loaded at any time.
const OLD_AGAIN: Duration = Duration::from_secs(15);
/// How long a file may be without a process before it is let go of: programs that run now and then are covered from their begin.
const UNUSED: Duration = Duration::from_secs(300);
/// The same for a file that the node's own mount namespace does not show: its container is gone, most likely, and what is attached
/// to a file keeps its file system from going, too. Longer than [`OLD_AGAIN`], or files in use would be let go of.
const UNUSED_ELSEWHERE: Duration = Duration::from_secs(30);
/// Most processes whose mappings are read in one tick.
const MOST_A_TICK: usize = 256;
/// Most bytes of one process' list of mappings.
const LONGEST_LIST: u64 = 4 << 20;
/// Most files that are remembered.
const MOST_FILES: usize = 16 * 1024;

/// Shows that the kernel does TLS (Documentation/networking/tls.rst).
const KERNEL_TLS: &str = "/proc/net/tls_stat";

/// A file with a TLS library, as `doctor` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The library.
    pub library: Library,
    /// Where it was found, in its process' mount namespace.
    pub path: String,
    /// Why it cannot be attached to; `None` when it can.
    pub uncovered: Option<String>,
}

/// Files by library and whether they are covered. What was there once stays, with none.
pub type Counted = BTreeMap<(Library, bool), u64>;

/// What the thread that looks shows of itself.
#[derive(Default)]
struct Shown {
    counted: Counted,
    run_times: Vec<RunTime>,
}

/// A library that was attached to: what comes from it began after this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    /// Its number.
    pub index: u32,
    /// `CLOCK_MONOTONIC` when the last probe was in place, nanoseconds.
    pub since_ns: u64,
}

/// The running finder. Dropping it ends its thread and detaches the probes.
pub struct Finder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    shown: Arc<Mutex<Shown>>,
    covered: Receiver<Covered>,
}

impl Finder {
    /// Starts the thread that looks. What is there already is attached to one file after the other.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(probes: Probes) -> io::Result<Self> {
        let (sender, covered) = channel();
        let shown = Arc::new(Mutex::new(Shown::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let mut search = Search::new(Some((probes, sender)));
        let thread = thread::Builder::new().name("tls-libraries".into()).spawn({
            let (stop, shown) = (Arc::clone(&stop), Arc::clone(&shown));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    search.round(Instant::now());
                    publish(&shown, &search);
                    thread::park_timeout(TICK);
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread), shown, covered })
    }

    /// Libraries that were attached to since the last call.
    pub fn covered(&self) -> impl Iterator<Item = Covered> {
        self.covered.try_iter()
    }

    /// Files by library, as they are now.
    #[must_use]
    pub fn counted(&self) -> Counted {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).counted.clone()
    }

    /// Run time of the programs, a moment ago.
    #[must_use]
    pub fn run_times(&self) -> Vec<RunTime> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).run_times.clone()
    }
}

impl Drop for Finder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It does not panic; if it did, there would be nothing left to do.
            let _ = thread.join();
        }
    }
}

fn publish(shown: &Mutex<Shown>, search: &Search) {
    let run_times = search.probes.as_ref().map(|(probes, _)| probes.run_times()).unwrap_or_default();
    let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
    shown.counted.values_mut().for_each(|files| *files = 0);
    shown.counted.extend(search.counted());
    shown.run_times = run_times;
}

/// Whether the kernel does TLS: where that is a module it is loaded by the first program that asks for it.
#[must_use]
pub fn kernel_does_tls() -> bool {
    Path::new(KERNEL_TLS).exists()
}

/// The TLS libraries that processes map now. Attaches to nothing.
#[must_use]
pub fn survey() -> Vec<Seen> {
    let mut search = Search::new(None);
    search.most_a_round = usize::MAX;
    search.round(Instant::now());
    let mut seen: Vec<_> = search.files.into_values().filter_map(|file| file.seen).collect();
    seen.sort_by(|a, b| (a.library, &a.path).cmp(&(b.library, &b.path)));
    seen.dedup();
    seen
}

/// What is remembered of a file.
struct Known {
    /// What it holds; `None`: no TLS library.
    seen: Option<Seen>,
    /// The file by another name, which holds the probes: the same file may be shown with several device numbers.
    real: (u64, u64),
    used: Instant,
    /// How long it may be without a process.
    unused: Duration,
}

/// Probes of one file.
struct Probed {
    index: u32,
    /// Where it was found first.
    path: String,
    attached: Vec<Attached>,
}

struct Process {
    start: u64,
    since: Instant,
    read: Instant,
}

struct Search {
    probes: Option<(Probes, Sender<Covered>)>,
    /// The program that reads kernel TLS was attached, or refused.
    kernel_tls: bool,
    processes: HashMap<u32, Process>,
    files: HashMap<FileId, Known>,
    probed: HashMap<(u64, u64), Probed>,
    free: Vec<u32>,
    next: u32,
    most_a_round: usize,
}

impl Search {
    fn new(probes: Option<(Probes, Sender<Covered>)>) -> Self {
        Self {
            probes,
            kernel_tls: false,
            processes: HashMap::new(),
            files: HashMap::new(),
            probed: HashMap::new(),
            free: Vec::new(),
            next: 0,
            most_a_round: MOST_A_TICK,
        }
    }

    /// Looks at the kernel and at the processes that are due, but for the auditor itself.
    fn round(&mut self, now: Instant) {
        self.kernel_tls();
        let Ok(entries) = fs::read_dir("/proc") else { return };
        let mut running: HashSet<u32> =
            entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        // The auditor speaks no TLS.
        if let Some(own) = fs::read_link("/proc/self").ok().and_then(|own| own.to_str()?.parse().ok()) {
            running.remove(&own);
        }
        self.processes.retain(|pid, _| running.contains(pid));
        let mut due: Vec<(Instant, u32)> = running
            .into_iter()
            .filter_map(|pid| match self.processes.get(&pid) {
                None => Some((now.checked_sub(OLD_AGAIN).unwrap_or(now), pid)),
                Some(process) => {
                    let young = now.duration_since(process.since) < YOUNG;
                    (young || now.duration_since(process.read) >= OLD_AGAIN).then_some((process.read, pid))
                }
            })
            .collect();
        due.sort_unstable();
        for (_, pid) in due.into_iter().take(self.most_a_round) {
            self.process(pid, now);
        }
        self.let_go(now);
    }

    /// Attaches to system calls where the kernel has come to do TLS: not before, because every call of the node pays for it.
    fn kernel_tls(&mut self) {
        let Some((probes, _)) = &mut self.probes else { return };
        if self.kernel_tls || !kernel_does_tls() {
            return;
        }
        self.kernel_tls = true;
        match probes.load_kernel_tls().and_then(|()| probes.attach_kernel_tls()) {
            Ok(()) => {
                tracing::info!("reading kernel TLS; every system call of the node takes a little longer");
                let instructions = probes.verified_kernel_tls();
                tracing::debug!(program = PROGRAM_KERNEL, instructions, "verified");
            }
            Err(error) => tracing::warn!(%error, "kernel TLS is not read, and what the wire shows of it stands"),
        }
    }

    fn process(&mut self, pid: u32, now: Instant) {
        let start = start_of(pid).unwrap_or(0);
        let process = self.processes.entry(pid).or_insert(Process { start, since: now, read: now });
        if process.start != start {
            *process = Process { start, since: now, read: now };
        }
        process.read = now;
        let Ok(list) = read_list(pid) else { return };
        let mut last = None;
        for mapping in list.lines().filter_map(mappings::executable) {
            if last == Some(mapping.file) {
                continue;
            }
            last = Some(mapping.file);
            if let Some(known) = self.files.get_mut(&mapping.file) {
                known.used = now;
            } else if self.files.len() < MOST_FILES {
                self.file(pid, &mapping, now);
            }
        }
    }

    /// Looks at a file that was not seen before.
    fn file(&mut self, pid: u32, mapping: &Mapping<'_>, now: Instant) {
        let Some((file, real)) = open(pid, mapping) else { return };
        let name = mapping.path.trim_end_matches(" (deleted)");
        let name = Path::new(name).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let unused = if is_shown_by_node(mapping.path, real) { UNUSED } else { UNUSED_ELSEWHERE };
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let found = file.try_clone().and_then(|file| elf::inspect(file, name)).ok().flatten();
        let seen = found.map(|Found { library, plan }| {
            let covered = plan.map_err(str::to_owned).and_then(|plan| self.cover(&path, mapping.path, real, &plan));
            if let Err(why) = &covered {
                tracing::debug!(library = library.as_str(), path = mapping.path, why, "a TLS library is not covered");
            } else {
                tracing::debug!(library = library.as_str(), path = mapping.path, "a TLS library is covered");
            }
            Seen { library, path: mapping.path.to_owned(), uncovered: covered.err() }
        });
        self.files.insert(mapping.file, Known { seen, real, used: now, unused });
    }

    /// Attaches to a file that its process knows by the path `shown`, all probes or none.
    fn cover(&mut self, path: &Path, shown: &str, real: (u64, u64), plan: &Plan) -> Result<(), String> {
        let Some((probes, sender)) = &mut self.probes else { return Ok(()) };
        if self.probed.contains_key(&real) {
            return Ok(());
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.next < probes.capacity() => {
                self.next += 1;
                self.next - 1
            }
            None => return Err("there are more files with TLS libraries than can be attached to".to_owned()),
        };
        let mut attached = Vec::new();
        let mut result = probes.describe(index, &plan.description);
        for site in &plan.sites {
            result = result.and_then(|()| probes.attach(path, *site, index).map(|probe| attached.push(probe)));
        }
        if let Err(error) = result {
            detach(probes, attached);
            self.free.push(index);
            return Err(error.to_string());
        }
        self.probed.insert(real, Probed { index, path: shown.to_owned(), attached });
        // A receiver that is gone means that the end is near.
        let _ = sender.send(Covered { index, since_ns: monotonic_ns() });
        Ok(())
    }

    /// Lets go of files that no process has mapped for a while.
    fn let_go(&mut self, now: Instant) {
        self.files.retain(|_, known| now.duration_since(known.used) < known.unused);
        let used: HashSet<_> = self.files.values().map(|known| known.real).collect();
        let Some((probes, _)) = &mut self.probes else { return };
        let gone: Vec<_> = self.probed.keys().filter(|real| !used.contains(real)).copied().collect();
        for real in gone {
            if let Some(Probed { index, path, attached }) = self.probed.remove(&real) {
                detach(probes, attached);
                self.free.push(index);
                tracing::debug!(path, "a TLS library that no process uses any more is let go of");
            }
        }
    }

    fn counted(&self) -> Counted {
        let mut counted = Counted::new();
        let mut once = HashSet::new();
        for known in self.files.values() {
            if let Some(seen) = &known.seen
                && once.insert(known.real)
            {
                *counted.entry((seen.library, seen.uncovered.is_none())).or_default() += 1;
            }
        }
        counted
    }
}

fn detach(probes: &mut Probes, attached: Vec<Attached>) {
    for probe in attached {
        if let Err(error) = probes.detach(probe) {
            tracing::warn!(%error, "a probe stays attached until the auditor ends");
        }
    }
}

/// The file behind a mapping, and its device and inode as it has them itself: through the mapping, which leads to a deleted file
/// as well, else by its path in the process' mount namespace.
fn open(pid: u32, mapping: &Mapping<'_>) -> Option<(File, (u64, u64))> {
    let through = File::open(format!("/proc/{pid}/map_files/{}", mapping.range));
    let file = through.or_else(|_| File::open(format!("/proc/{pid}/root{}", mapping.path))).ok()?;
    let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
    // By path it may be another file by now. Where file systems are stacked device numbers differ, inodes do not.
    (metadata.ino() == mapping.file.inode).then(|| (file, (metadata.dev(), metadata.ino())))
}

/// Whether the mount namespace of the node's first process shows the file by this path.
fn is_shown_by_node(path: &str, real: (u64, u64)) -> bool {
    fs::metadata(format!("/proc/1/root{path}")).is_ok_and(|found| (found.dev(), found.ino()) == real)
}

/// When a process started, clock ticks since boot (proc_pid_stat(5), field 22).
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn read_list(pid: u32) -> io::Result<String> {
    let mut list = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(File::open(format!("/proc/{pid}/maps"))?, LONGEST_LIST), &mut list)?;
    Ok(String::from_utf8_lossy(&list).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_executable_is_mapped_and_opened_once() {
        let pid = std::process::id();
        let list = read_list(pid).unwrap();
        let own = std::env::current_exe().unwrap().metadata().unwrap();
        let found = list.lines().filter_map(mappings::executable).filter_map(|mapping| open(pid, &mapping));
        let real: HashSet<_> = found.map(|(_, real)| real).collect();
        assert!(real.contains(&(own.dev(), own.ino())), "{list}");
    }

    #[test]
    fn a_process_is_told_by_its_start() {
        let own = start_of(std::process::id());
        assert!(own.is_some_and(|start| start > 0));
        assert_eq!(start_of(u32::MAX), None);
    }

    #[test]
    fn files_without_a_process_are_let_go_of() {
        let mut search = Search::new(None);
        let now = Instant::now();
        let seen = Seen { library: Library::OpenSsl, path: "/libssl.so.3".to_owned(), uncovered: None };
        for (inode, unused) in [(2, UNUSED), (3, UNUSED_ELSEWHERE)] {
            let known = Known { seen: Some(seen.clone()), real: (1, inode), used: now, unused };
            search.files.insert(FileId { device: (0, 1), inode }, known);
        }
        let shown = Mutex::new(Shown::default());
        for (later, left) in [(Duration::ZERO, 2), (UNUSED_ELSEWHERE, 1), (UNUSED, 0)] {
            search.let_go(now + later);
            publish(&shown, &search);
            let counted = shown.lock().unwrap().counted.clone();
            assert_eq!(counted, Counted::from([((Library::OpenSsl, true), left)]), "after {later:?}");
        }
    }

    #[test]
    fn a_file_elsewhere_is_told_from_that_of_the_same_path_here() {
        let own = Path::new("/proc/self/exe").canonicalize().unwrap();
        let metadata = own.metadata().unwrap();
        let path = own.to_str().unwrap();
        assert_eq!(is_shown_by_node(path, (metadata.dev(), metadata.ino())), Path::new("/proc/1/root/proc").exists());
        assert!(!is_shown_by_node(path, (metadata.dev(), metadata.ino() + 1)));
    }
}
