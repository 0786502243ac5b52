//! What this kernel and this user can do, as facts that `doctor` prints and plans are made from. Reading changes nothing on the
//! system. A question that cannot be answered is unknown, with the reason; it is never taken for a no.

use std::{fmt, fs, io::Read as _, path::Path};

use super::cgroup::{self, View};
use super::layout::{self, KERNEL_BTF};

/// Inode of the initial pid namespace (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
/// Inode of the initial cgroup namespace (`PROC_CGROUP_INIT_INO`).
const INITIAL_CGROUP_NAMESPACE: u64 = 0xEFFF_FFFB;
/// No file read here is longer, bytes.
const FILE_MAX: u64 = 64 << 10;

/// The answer to a question about the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is so.
    Yes,
    /// It is not so, and why.
    No(String),
    /// It could not be found out, and why.
    Unknown(String),
}

/// Capabilities that matter here, with their bit in `CapEff` (`include/uapi/linux/capability.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Load programs and create maps (since 5.8).
    Bpf,
    /// Attach programs to cgroups.
    NetAdmin,
    /// Read kernel memory from programs, and iterators (since 5.8).
    Perfmon,
    /// All of the above.
    SysAdmin,
    /// Read the executables of other users' processes.
    SysPtrace,
    /// Lift the locked-memory limit.
    SysResource,
}

/// How far the kernel is locked down (kernel_lockdown(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// Not at all.
    Off,
    /// User space may not change the running kernel.
    Integrity,
    /// User space may not read kernel memory either.
    Confidentiality,
    /// It could not be found out, and why.
    Unknown(String),
}

/// What this kernel and this user can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Instruction set, as Rust names it.
    pub architecture: &'static str,
    /// Kernel release, as `uname -r` has it.
    pub kernel: String,
    /// Effective user id.
    pub user: u32,
    /// `CapEff` of this process, a bit for each capability; `None` when it cannot be read.
    pub effective: Option<u64>,
    /// The kernel's BTF is there, readable, and holds every struct member wanted.
    pub btf: Answer,
    /// A cgroup2 directory that covers the whole node can be had.
    pub cgroup2: Answer,
    /// What was found of cgroup2, as a sentence.
    pub cgroup2_note: String,
    /// One that covers a part of the node can be had.
    pub cgroup2_part: bool,
    /// The kernel's BTF holds what the probes on the kernel's functions cannot do without.
    pub probe_layout: Answer,
    /// Likewise of what the programs of system calls cannot do without.
    pub call_layout: Answer,
    /// The programs of [`super::plan::Hook::Cgroup`] load; unknown until it was tried.
    pub cgroup_skb: Answer,
    /// Those of [`super::plan::Hook::Fentry`].
    pub fentry: Answer,
    /// Those of [`super::plan::Hook::Kprobe`], and the kernel has kprobe events.
    pub kprobe: Answer,
    /// Those of [`super::plan::Hook::Syscall`].
    pub syscall: Answer,
    /// This process is in the initial pid namespace, so that the kernel's pids are those of its procfs.
    pub initial_pid_namespace: Answer,
    /// This process is in the initial cgroup namespace.
    pub initial_cgroup_namespace: Answer,
    /// How far the kernel is locked down.
    pub lockdown: Lockdown,
    /// `kernel.unprivileged_bpf_disabled`; `None` when there is no such setting.
    pub unprivileged_bpf_disabled: Option<u8>,
    /// Locked-memory limit, bytes; `None` unlimited.
    pub memlock: Option<u64>,
    /// `kernel.bpf_stats_enabled`: the kernel measures how long programs run.
    pub bpf_stats: Answer,
}

/// One line of `doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What was asked.
    pub name: &'static str,
    /// The answer.
    pub answer: Answer,
    /// What was found, e.g. `6.1.0-53-amd64`; empty where the answer says it all.
    pub value: String,
    /// What follows if the answer is not yes.
    pub consequence: &'static str,
    /// How to mend it; empty where nothing can be done.
    pub remedy: &'static str,
}

impl Capability {
    /// Every capability that matters here.
    pub const ALL: [Self; 6] =
        [Self::Bpf, Self::NetAdmin, Self::Perfmon, Self::SysAdmin, Self::SysPtrace, Self::SysResource];

    /// Its name, as capabilities(7) has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bpf => "CAP_BPF",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::Perfmon => "CAP_PERFMON",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysResource => "CAP_SYS_RESOURCE",
        }
    }

    fn bit(self) -> u32 {
        match self {
            Self::Bpf => 39,
            Self::NetAdmin => 12,
            Self::Perfmon => 38,
            Self::SysAdmin => 21,
            Self::SysPtrace => 19,
            Self::SysResource => 24,
        }
    }

    fn consequence(self) -> &'static str {
        match self {
            Self::Bpf => "Programs cannot be loaded: no live capture.",
            Self::NetAdmin => "Programs cannot be attached to the cgroup: no live capture.",
            Self::Perfmon => "Programs cannot read kernel memory: no live capture with process names.",
            Self::SysAdmin => {
                "None while CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are there and the kernel is 5.8 or newer."
            }
            Self::SysPtrace => "Executables of other users' processes stay unknown; their names are shown instead.",
            Self::SysResource => "On kernels before 5.11 the ring buffer may not fit the locked-memory limit.",
        }
    }
}

impl Capabilities {
    /// Asks the running system. Mounts cgroup2 for a moment where none is mounted.
    #[must_use]
    pub fn read() -> Self {
        let (cgroup2, cgroup2_part, cgroup2_note) = cgroup2();
        let [btf, probe_layout, call_layout] = btf(Path::new(KERNEL_BTF));
        Self {
            architecture: std::env::consts::ARCH,
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            user: rustix::process::geteuid().as_raw(),
            effective: read_text("/proc/self/status").ok().and_then(|text| effective(&text)),
            btf,
            cgroup2,
            cgroup2_note,
            cgroup2_part,
            probe_layout,
            call_layout,
            cgroup_skb: not_tried(),
            fentry: not_tried(),
            kprobe: kprobe_events(Path::new("/sys/bus/event_source/devices")),
            syscall: not_tried(),
            initial_pid_namespace: initial_pid_namespace(),
            initial_cgroup_namespace: namespace("/proc/self/ns/cgroup", INITIAL_CGROUP_NAMESPACE),
            lockdown: lockdown(Path::new("/sys/kernel/security")),
            unprivileged_bpf_disabled: read_text("/proc/sys/kernel/unprivileged_bpf_disabled")
                .ok()
                .and_then(|text| text.trim().parse().ok()),
            memlock: rustix::process::getrlimit(rustix::process::Resource::Memlock).current,
            bpf_stats: switch("/proc/sys/kernel/bpf_stats_enabled"),
        }
    }

    /// Whether this process has a capability.
    #[must_use]
    pub fn has(&self, capability: Capability) -> Answer {
        match self.effective {
            Some(bits) if bits >> capability.bit() & 1 == 1 => Answer::Yes,
            // Before 5.8 CAP_SYS_ADMIN stood for CAP_BPF and CAP_PERFMON, and it still implies them.
            Some(bits)
                if matches!(capability, Capability::Bpf | Capability::Perfmon)
                    && bits >> Capability::SysAdmin.bit() & 1 == 1 =>
            {
                Answer::Yes
            }
            Some(_) => Answer::No(format!("this process does not have {}", capability.as_str())),
            None => Answer::Unknown("CapEff of /proc/self/status cannot be read".into()),
        }
    }

    /// Everything asked, in the order `doctor` prints it.
    #[must_use]
    pub fn facts(&self) -> Vec<Fact> {
        let mut facts = self.machine_facts();
        facts.extend(Capability::ALL.map(|capability| Fact {
            name: capability.as_str(),
            answer: self.has(capability),
            value: String::new(),
            consequence: capability.consequence(),
            remedy: "Run as root, or grant it: AmbientCapabilities= in a systemd unit, securityContext.capabilities in a pod.",
        }));
        facts.extend(self.kernel_facts());
        facts
    }

    fn machine_facts(&self) -> Vec<Fact> {
        let supported = matches!(self.architecture, "x86_64" | "aarch64");
        vec![
            Fact {
                name: "architecture",
                answer: if supported { Answer::Yes } else { Answer::Unknown("not tested on it".into()) },
                value: self.architecture.into(),
                consequence: "Live capture was never tried on this architecture.",
                remedy: "Use x86_64 or aarch64.",
            },
            Fact {
                name: "kernel",
                answer: kernel_answer(&self.kernel),
                value: self.kernel.clone(),
                consequence: "Before 5.8 there is no ring buffer: no live capture, unless a distribution brought it back.",
                remedy: "Run a kernel of 5.10 or newer; capture files can be replayed everywhere.",
            },
            Fact {
                name: "user",
                answer: if self.user == 0 { Answer::Yes } else { Answer::No("not root".into()) },
                value: format!("uid {}", self.user),
                consequence: "None when the capabilities below are there.",
                remedy: "Run as root, or grant the capabilities.",
            },
        ]
    }

    fn kernel_facts(&self) -> Vec<Fact> {
        let fact = |name, answer, value: String, consequence, remedy| Fact { name, answer, value, consequence, remedy };
        vec![
            fact(
                "BTF",
                self.btf.clone(),
                KERNEL_BTF.into(),
                "Calls are captured and judged, but the programs cannot tell who sends; sock_diag and procfs stand in.",
                "Use a kernel built with CONFIG_DEBUG_INFO_BTF=y, and mount sysfs.",
            ),
            fact(
                "cgroup2",
                self.cgroup2.clone(),
                self.cgroup2_note.clone(),
                "Only processes below the visible cgroup are seen; with none at all there is no live capture.",
                "Run in the host's cgroup namespace or mount the host's /sys/fs/cgroup; mount -t cgroup2 none DIRECTORY.",
            ),
            fact(
                "initial pid namespace",
                self.initial_pid_namespace.clone(),
                String::new(),
                "The kernel's pids are not those of this procfs: processes carry the kernel's name and no executable.",
                "Run with the host's pid namespace: hostPID: true, docker run --pid=host.",
            ),
            fact(
                "initial cgroup namespace",
                self.initial_cgroup_namespace.clone(),
                String::new(),
                "None when a cgroup2 directory that covers the node is mounted.",
                "docker run --cgroupns=host.",
            ),
            fact(
                "lockdown",
                self.lockdown_answer(),
                String::new(),
                "In confidentiality mode programs may not read kernel memory: calls are judged, senders stay unnamed.",
                "Boot with lockdown=integrity or lockdown=none.",
            ),
            fact(
                "unprivileged BPF off",
                match self.unprivileged_bpf_disabled {
                    Some(0) => Answer::No("any user may load BPF programs".into()),
                    Some(_) => Answer::Yes,
                    None => Answer::Unknown("no kernel.unprivileged_bpf_disabled".into()),
                },
                self.unprivileged_bpf_disabled.map(|value| value.to_string()).unwrap_or_default(),
                "None for the auditor; it is a weakness of the node.",
                "sysctl kernel.unprivileged_bpf_disabled=1",
            ),
            fact(
                "locked memory",
                self.memlock_answer(),
                self.memlock.map_or_else(|| "unlimited".into(), |bytes| format!("{bytes} bytes")),
                "On kernels before 5.11 the ring buffer counts as locked memory and may not be created.",
                "ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit.",
            ),
            fact(
                "BPF statistics",
                self.bpf_stats.clone(),
                String::new(),
                "auditor_capture_program_run_seconds_total stays at zero.",
                "sysctl kernel.bpf_stats_enabled=1; it costs some 50 ns for each run of a program.",
            ),
        ]
    }

    fn lockdown_answer(&self) -> Answer {
        match &self.lockdown {
            Lockdown::Off | Lockdown::Integrity => Answer::Yes,
            Lockdown::Confidentiality => Answer::No("the kernel is locked down in confidentiality mode".into()),
            Lockdown::Unknown(reason) => Answer::Unknown(reason.clone()),
        }
    }

    /// Whether maps can be as large as they need to be.
    fn memlock_answer(&self) -> Answer {
        let uncounted = version(&self.kernel).is_some_and(|version| version >= (5, 11));
        match self.memlock {
            None => Answer::Yes,
            Some(_) if uncounted || self.has(Capability::SysResource) == Answer::Yes => Answer::Yes,
            Some(bytes) if bytes >= 64 << 20 => Answer::Yes,
            Some(bytes) => Answer::No(format!("the limit is {bytes} bytes and cannot be lifted")),
        }
    }
}

impl Answer {
    /// It is so.
    #[must_use]
    pub fn is_yes(&self) -> bool {
        *self == Self::Yes
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => f.write_str("yes"),
            Self::No(reason) => write!(f, "no: {reason}"),
            Self::Unknown(reason) => write!(f, "unknown: {reason}"),
        }
    }
}

fn cgroup2() -> (Answer, bool, String) {
    match cgroup::find() {
        Ok(root) if root.view() == View::Node => (Answer::Yes, false, root.note()),
        Ok(root) => (Answer::No("only a part of the tree is visible".into()), true, root.note()),
        Err(error) => (Answer::No(error.to_string()), false, String::new()),
    }
}

fn not_tried() -> Answer {
    Answer::Unknown("it was not tried".into())
}

/// Whether the kernel can have kprobes, by the sources of perf events in sysfs.
fn kprobe_events(sources: &Path) -> Answer {
    match (sources.join("kprobe").exists(), sources.exists()) {
        (true, _) => not_tried(),
        (false, true) => Answer::No("the kernel has no kprobe events (CONFIG_KPROBE_EVENTS)".into()),
        (false, false) => Answer::Unknown(format!("{} is not there; mount sysfs", sources.display())),
    }
}

/// Whether the BTF holds what every hook wants, what probes cannot do without, and what the programs of system calls cannot.
fn btf(path: &Path) -> [Answer; 3] {
    let all = match layout::all(path) {
        Ok(layouts) => layouts,
        Err(error) => return std::array::from_fn(|_| Answer::No(error.to_string())),
    };
    let reasons: Vec<_> = all.packets.missing().iter().map(|missing| missing.reason.to_string()).collect();
    let packets = if reasons.is_empty() { Answer::Yes } else { Answer::No(reasons.join(", ")) };
    let [probes, calls] = [all.probes, all.calls]
        .map(|layout| layout.map_or_else(|error| Answer::No(error.to_string()), |_| Answer::Yes));
    [packets, probes, calls]
}

/// Distributions bring newer features back to older kernels, so an old version is no proof of absence.
fn kernel_answer(release: &str) -> Answer {
    match version(release) {
        Some(version) if version >= (5, 8) => Answer::Yes,
        Some(_) => Answer::Unknown("older than 5.8; only loading the programs will tell".into()),
        None => Answer::Unknown("the release is no version number".into()),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn effective(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(value.trim(), 16).ok()
}

/// Whether this process is in the initial pid namespace, so that the kernel's pids are those of its procfs.
#[must_use]
pub fn initial_pid_namespace() -> Answer {
    namespace("/proc/self/ns/pid", INITIAL_PID_NAMESPACE)
}

fn namespace(path: &str, initial: u64) -> Answer {
    use std::os::unix::fs::MetadataExt as _;
    match fs::metadata(path) {
        Ok(metadata) if metadata.ino() == initial => Answer::Yes,
        Ok(metadata) => Answer::No(format!("{path} is {:#x}, the initial one is {initial:#x}", metadata.ino())),
        Err(error) => Answer::Unknown(format!("{path}: {error}")),
    }
}

/// Reads `lockdown` in the security file system mounted at `securityfs`.
fn lockdown(securityfs: &Path) -> Lockdown {
    match read_text(securityfs.join("lockdown")) {
        Ok(text) => match text.split(['[', ']']).nth(1) {
            Some("none") => Lockdown::Off,
            Some("integrity") => Lockdown::Integrity,
            Some("confidentiality") => Lockdown::Confidentiality,
            _ => Lockdown::Unknown("the state is not one that is known".into()),
        },
        // With the file system mounted, no such file means no such security module.
        Err(_) if securityfs.join("lsm").exists() => Lockdown::Off,
        Err(error) => Lockdown::Unknown(format!("{}: {error}", securityfs.join("lockdown").display())),
    }
}

fn switch(path: &str) -> Answer {
    match read_text(path) {
        Ok(text) if text.trim() == "0" => Answer::No("switched off".into()),
        Ok(_) => Answer::Yes,
        Err(error) => Answer::Unknown(format!("{path}: {error}")),
    }
}

fn read_text(path: impl AsRef<Path>) -> std::io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(FILE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_kprobe_events_is_told_from_one_that_does_not_say() {
        let sources = tempfile::tempdir().unwrap();
        assert!(matches!(kprobe_events(&sources.path().join("none")), Answer::Unknown(_)));
        assert!(matches!(kprobe_events(sources.path()), Answer::No(_)));
        fs::create_dir(sources.path().join("kprobe")).unwrap();
        assert!(matches!(kprobe_events(sources.path()), Answer::Unknown(_)));
    }

    /// A kernel that can do everything, and root on it.
    pub(in crate::kernel) fn capable() -> Capabilities {
        Capabilities {
            architecture: "x86_64",
            kernel: "6.1.0-53-amd64".into(),
            user: 0,
            effective: Some(0x1ff_ffff_ffff),
            btf: Answer::Yes,
            cgroup2: Answer::Yes,
            cgroup2_note: String::new(),
            cgroup2_part: false,
            probe_layout: Answer::Yes,
            call_layout: Answer::Yes,
            cgroup_skb: not_tried(),
            fentry: not_tried(),
            kprobe: not_tried(),
            syscall: not_tried(),
            initial_pid_namespace: Answer::Yes,
            initial_cgroup_namespace: Answer::Yes,
            lockdown: Lockdown::Off,
            unprivileged_bpf_disabled: Some(2),
            memlock: Some(65536),
            bpf_stats: Answer::Yes,
        }
    }

    fn not_yes(capabilities: &Capabilities) -> Vec<&'static str> {
        capabilities.facts().into_iter().filter(|fact| !fact.answer.is_yes()).map(|fact| fact.name).collect()
    }

    #[test]
    fn a_capable_system_answers_yes_throughout() {
        assert_eq!(not_yes(&capable()), [""; 0]);
    }

    #[test]
    fn each_lack_is_one_fact() {
        type Change = fn(&mut Capabilities);
        let cases: [(&str, Change); 10] = [
            ("architecture", |c| c.architecture = "mips"),
            ("kernel", |c| c.kernel = "4.18.0-553.el8_10.x86_64".into()),
            ("user", |c| c.user = 1000),
            ("BTF", |c| c.btf = Answer::No("absent".into())),
            ("cgroup2", |c| c.cgroup2 = Answer::Unknown("?".into())),
            ("initial pid namespace", |c| c.initial_pid_namespace = Answer::No("?".into())),
            ("lockdown", |c| c.lockdown = Lockdown::Confidentiality),
            ("unprivileged BPF off", |c| c.unprivileged_bpf_disabled = Some(0)),
            ("CAP_SYS_PTRACE", |c| c.effective = Some(!(1 << 19))),
            ("BPF statistics", |c| c.bpf_stats = Answer::No("off".into())),
        ];
        for (name, change) in cases {
            let mut capabilities = capable();
            change(&mut capabilities);
            assert_eq!(not_yes(&capabilities), [name]);
        }
    }

    #[test]
    fn facts_without_yes_say_what_follows_and_what_to_do() {
        for fact in capable().facts() {
            assert!(!fact.consequence.is_empty() && !fact.remedy.is_empty(), "{fact:?}");
        }
    }

    #[test]
    fn sys_admin_stands_for_bpf_and_perfmon() {
        let capabilities = Capabilities { effective: Some(1 << 21), ..capable() };
        assert_eq!(capabilities.has(Capability::Bpf), Answer::Yes);
        assert_eq!(capabilities.has(Capability::Perfmon), Answer::Yes);
        assert!(matches!(capabilities.has(Capability::NetAdmin), Answer::No(_)));
        let unreadable = Capabilities { effective: None, ..capable() };
        assert!(matches!(unreadable.has(Capability::Bpf), Answer::Unknown(_)));
    }

    #[test]
    fn locked_memory_matters_before_5_11_alone() {
        let old = |memlock, effective| Capabilities {
            kernel: "5.10.0-32-amd64".into(),
            memlock,
            effective: Some(effective),
            ..capable()
        };
        assert_eq!(old(None, 0).memlock_answer(), Answer::Yes);
        assert_eq!(old(Some(65536), 1 << 24).memlock_answer(), Answer::Yes);
        assert!(matches!(old(Some(65536), 0).memlock_answer(), Answer::No(_)));
        assert_eq!(Capabilities { effective: Some(0), ..capable() }.memlock_answer(), Answer::Yes);
    }

    #[test]
    fn texts_of_the_kernel() {
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\nCapBnd:\t0\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective("CapEff:\tzz\n"), None);
        assert_eq!(effective(""), None);
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(version("5.10+"), Some((5, 10)));
        assert_eq!(version("linux"), None);
    }

    #[test]
    fn lockdown_states() {
        let securityfs = tempfile::tempdir().unwrap();
        assert!(matches!(lockdown(securityfs.path()), Lockdown::Unknown(_)));
        fs::write(securityfs.path().join("lsm"), "capability,yama").unwrap();
        assert_eq!(lockdown(securityfs.path()), Lockdown::Off);
        let cases = [
            ("[none] integrity confidentiality\n", Lockdown::Off),
            ("none [integrity] confidentiality\n", Lockdown::Integrity),
            ("none integrity [confidentiality]\n", Lockdown::Confidentiality),
        ];
        for (text, expected) in cases {
            fs::write(securityfs.path().join("lockdown"), text).unwrap();
            assert_eq!(lockdown(securityfs.path()), expected, "{text}");
        }
        fs::write(securityfs.path().join("lockdown"), "nonsense").unwrap();
        assert!(matches!(lockdown(securityfs.path()), Lockdown::Unknown(_)));
    }

    #[test]
    fn this_system_is_read() {
        let capabilities = Capabilities::read();
        assert!(capabilities.effective.is_some());
        assert!(version(&capabilities.kernel).is_some(), "{}", capabilities.kernel);
        assert_eq!(capabilities.btf.is_yes(), Path::new(KERNEL_BTF).exists(), "{}", capabilities.btf);
        assert_eq!(capabilities.facts().len(), 3 + Capability::ALL.len() + 8);
    }
}
