use std::{
    collections::HashMap,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::*;

/// One process of a fake procfs.
#[derive(Clone, Debug, Default)]
struct Fake {
    start_ticks: u64,
    state: char,
    comm: &'static str,
    executable: Option<&'static str>,
    cmdline: &'static str,
    cgroup: &'static str,
}

#[derive(Clone, Debug, Default)]
struct FakeProc(Arc<FakeState>);

#[derive(Debug, Default)]
struct FakeState {
    processes: Mutex<HashMap<u32, Fake>>,
    stats_read: AtomicUsize,
    /// The process is replaced once the executable has been read.
    replaced_by: Mutex<Option<Fake>>,
}

impl FakeProc {
    fn with(pid: u32, fake: Fake) -> Self {
        let proc = Self::default();
        proc.set(pid, fake);
        proc
    }

    fn set(&self, pid: u32, fake: Fake) {
        self.0.processes.lock().unwrap().insert(pid, fake);
    }

    fn end(&self, pid: u32) {
        self.0.processes.lock().unwrap().remove(&pid);
    }

    fn reads(&self) -> usize {
        self.0.stats_read.load(Ordering::Relaxed) / 2
    }

    fn fake(&self, pid: u32) -> io::Result<Fake> {
        self.0.processes.lock().unwrap().get(&pid).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl ProcSource for FakeProc {
    fn read(&self, pid: u32, file: &str, _limit: u64) -> io::Result<Vec<u8>> {
        let fake = self.fake(pid)?;
        Ok(match file {
            "stat" => {
                self.0.stats_read.fetch_add(1, Ordering::Relaxed);
                let zeros = "0 ".repeat(18);
                format!("{pid} ({}) {} {zeros}{} 0\n", fake.comm, fake.state, fake.start_ticks)
            }
            "cmdline" => fake.cmdline.into(),
            "status" => "Name:\tx\nUid:\t1000\t33\t1000\t1000\n".into(),
            "cgroup" => fake.cgroup.into(),
            other => panic!("{other} is not read"),
        }
        .into_bytes())
    }

    fn executable(&self, pid: u32) -> io::Result<PathBuf> {
        let fake = self.fake(pid)?;
        if let Some(other) = self.0.replaced_by.lock().unwrap().take() {
            self.set(pid, other);
        }
        fake.executable.map(PathBuf::from).ok_or_else(|| io::ErrorKind::PermissionDenied.into())
    }
}

const CLOCK: StartClock = StartClock { tick_ns: 10_000_000, offset_ns: 0 };
/// 5.007 s after boot: tick 500.
const START: u64 = 5_007_000_000;

fn nginx() -> Fake {
    Fake {
        start_ticks: 500,
        state: 'S',
        comm: "nginx",
        executable: Some("/usr/sbin/nginx (deleted)"),
        cmdline: "nginx\0--api-key=hunter2\0",
        cgroup: "0::/docker/4a51b6c1f6e4f6d5a1b0c9d8e7f60718293a4b5c6d7e8f90a1b2c3d4e5f60718\n",
    }
}

fn owner(comm: &str, start_ns: u64) -> Owner {
    let mut name = [0; 16];
    name[..comm.len()].copy_from_slice(comm.as_bytes());
    Owner { tgid: 812, start_ns, comm: name }
}

fn processes(proc: &FakeProc) -> Processes {
    Processes::new(Some(Box::new(proc.clone())), CLOCK, true)
}

#[test]
fn procfs_adds_what_the_kernel_does_not_tell() {
    let facts = processes(&FakeProc::with(812, nginx())).facts(&owner("nginx", START), 0);
    let expected = Process {
        pid: 812,
        command: "nginx".into(),
        executable: Some("/usr/sbin/nginx".into()),
        arguments: Some("nginx --api-key=[redacted]".into()),
        user: Some(33),
    };
    assert_eq!(*facts.process, expected);
    assert_eq!(&*facts.workload, "nginx");
    assert!(facts.container.flatten().unwrap().id.starts_with("4a51"));
}

#[test]
fn a_reused_gone_or_ended_pid_leaves_the_kernels_word() {
    let reused = FakeProc::with(812, Fake { start_ticks: 501, ..nginx() });
    let ended = FakeProc::with(812, Fake { state: 'Z', ..nginx() });
    for proc in [reused, ended, FakeProc::default()] {
        let facts = processes(&proc).facts(&owner("curl", START), 0);
        assert_eq!((&*facts.process.command, facts.process.pid, &*facts.workload), ("curl", 812, "curl"));
        assert_eq!((&facts.process.executable, &facts.process.arguments, facts.process.user), (&None, &None, None));
        assert!(facts.container.is_none());
    }
}

#[test]
fn a_pid_reused_while_it_is_read_is_noticed() {
    let proc = FakeProc::with(812, nginx());
    *proc.0.replaced_by.lock().unwrap() = Some(Fake { start_ticks: 900, comm: "ssh", ..nginx() });
    let facts = processes(&proc).facts(&owner("nginx", START), 0);
    assert_eq!(facts.process.executable, None);
}

#[test]
fn the_time_namespaces_offset_counts() {
    let proc = FakeProc::with(812, Fake { start_ticks: 600, ..nginx() });
    let clock = StartClock { offset_ns: 1_000_000_000, ..CLOCK };
    let mut moved = Processes::new(Some(Box::new(proc)), clock, true);
    assert!(moved.facts(&owner("nginx", START), 0).process.executable.is_some());
    assert_eq!(clock.start_ns(600), 5_000_000_000);
    assert_eq!(
        boot_offset("monotonic           0         0\nboottime      -7200       500\n"),
        Some(-7_199_999_999_500)
    );
    assert_eq!(boot_offset("monotonic 0 0\n"), None);
    assert_eq!(boot_offset("boottime 99999999999999 0\n"), None);
}

#[test]
fn without_start_time_the_pid_namespace_decides() {
    let proc = FakeProc::with(812, nginx());
    assert!(processes(&proc).facts(&owner("nginx", 0), 0).process.executable.is_some());
    let mut foreign = Processes::new(Some(Box::new(proc.clone())), CLOCK, false);
    assert_eq!(foreign.facts(&owner("nginx", 0), 0).process.executable, None);
    // A start time that fits is proof enough.
    assert!(foreign.facts(&owner("nginx", START), 0).process.executable.is_some());
}

#[test]
fn facts_are_read_once_and_outlive_the_process() {
    let proc = FakeProc::with(812, nginx());
    let mut processes = processes(&proc);
    let first = processes.facts(&owner("nginx", START), 0);
    let second = processes.facts(&owner("nginx", START), FRESH - 1);
    assert!(Arc::ptr_eq(&first.process, &second.process) && Arc::ptr_eq(&first.workload, &second.workload));
    assert_eq!(proc.reads(), 1);
    proc.end(812);
    let third = processes.facts(&owner("nginx", START), 2 * FRESH);
    assert!(Arc::ptr_eq(&first.process, &third.process), "known facts stay");
    // An unconfirmed pid is another matter.
    processes.facts(&owner("nginx", 0), 0);
    assert_eq!(processes.facts(&owner("nginx", 0), FRESH_UNTOLD).process.executable, None);
}

#[test]
fn a_process_that_becomes_another_program_is_read_again() {
    let proc = FakeProc::with(812, Fake { comm: "sh", executable: Some("/bin/dash"), cmdline: "sh\0-c\0x", ..nginx() });
    let mut processes = processes(&proc);
    assert_eq!(&*processes.facts(&owner("sh", START), 0).workload, "dash");
    proc.set(812, nginx());
    assert_eq!(&*processes.facts(&owner("nginx", START), 1).workload, "nginx");
    // Gone under a new name: what was read of the old program no longer holds.
    proc.end(812);
    let facts = processes.facts(&owner("curl", START), 2);
    assert_eq!((&*facts.process.command, &facts.process.executable), ("curl", &None));
}

#[test]
fn a_process_that_keeps_renaming_itself_is_not_read_each_time() {
    let proc = FakeProc::with(812, nginx());
    let mut processes = processes(&proc);
    for i in 0..100 {
        processes.facts(&owner(if i % 2 == 0 { "a" } else { "b" }, START), i);
    }
    assert_eq!(proc.reads(), 1 + usize::from(RENAMES_MAX));
    processes.facts(&owner("c", START), 2 * SECOND);
    assert_eq!(proc.reads(), 2 + usize::from(RENAMES_MAX));
}

#[test]
fn memory_is_bounded() {
    let mut processes = Processes::new(None, CLOCK, true);
    for tgid in 0..3 * u32::try_from(REMEMBERED).unwrap() {
        processes.facts(&Owner { tgid, ..owner("x", START) }, 0);
    }
    assert!(processes.len() <= Processes::LIMIT, "{}", processes.len());
}

#[test]
fn stat_lines() {
    let parse = |text: &str| Stat::parse(text.as_bytes());
    let fields = "0 ".repeat(18);
    let stat = parse(&format!("7 (a) b) (c)) R {fields}42 0")).unwrap();
    assert_eq!((stat.comm.as_slice(), stat.start_ticks, stat.ended), (b"a) b) (c)".as_slice(), 42, false));
    assert!(parse(&format!("7 (a) Z {fields}42")).unwrap().ended);
    for text in ["", "7 (a", "7 a) R", ")(", "7 (a) R 1 2 3", &format!("7 (a) R {fields}x")] {
        assert_eq!(parse(text), None, "{text}");
    }
}

#[test]
fn names_cannot_carry_escape_sequences() {
    let facts = processes(&FakeProc::default()).facts(&owner("\x1b[31mx", START), 0);
    assert_eq!(&*facts.process.command, "\u{fffd}[31mx");
    let mut invalid = owner("x", START);
    invalid.comm = [0xff; 16];
    assert_eq!(&*processes(&FakeProc::default()).facts(&invalid, 0).process.command, "\u{fffd}".repeat(16));
}

/// The start time of a live process in the kernel's terms, at the resolution procfs has.
fn live_owner(pid: u32, comm: &str) -> Owner {
    let clock = StartClock::of_system();
    let stat = Stat::read(&Procfs::new("/proc"), pid).unwrap();
    Owner { tgid: pid, start_ns: clock.start_ns(stat.start_ticks), ..owner(comm, 0) }
}

fn live() -> Processes {
    Processes::new(Some(Box::new(Procfs::new("/proc"))), StartClock::of_system(), true)
}

#[test]
fn this_process_is_known() {
    let owner = live_owner(std::process::id(), "test");
    let facts = live().facts(&owner, 0);
    let executable = std::env::current_exe().unwrap();
    assert_eq!(facts.process.executable.as_deref(), executable.to_str());
    assert_eq!(facts.process.user, Some(rustix::process::geteuid().as_raw()));
    assert!(facts.container.is_some(), "the cgroup is readable");
    // The same pid with another start is another process.
    let other = Owner { start_ns: owner.start_ns + 20_000_000, ..owner };
    assert_eq!(live().facts(&other, 0).process.executable, None);
}

#[test]
fn a_child_that_has_ended_is_recognised_as_gone() {
    let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
    let owner = live_owner(child.id(), "sleep");
    assert!(live().facts(&owner, 0).process.executable.is_some());
    child.kill().unwrap();
    // A zombie until it is waited for, then no process at all.
    let ended = || while !Stat::read(&Procfs::new("/proc"), owner.tgid).is_none_or(|stat| stat.ended) {};
    ended();
    assert_eq!(live().facts(&owner, 0).process.executable, None);
    child.wait().unwrap();
    let facts = live().facts(&owner, 0);
    assert_eq!((&*facts.process.command, &facts.process.executable), ("sleep", &None));
}
