//! One TLS transfer without a pause, while the auditor's programs are put on its sockets' cgroup and taken off again some fifteen times a
//! second. A neighbour that slows the machine does so for longer than that, so each short window with the programs is held
//! against the one without them beside it; whole seconds, or whole downloads, differ by a sixth with nothing else changed.

use std::{
    ffi::CStr,
    fs,
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Bench,
    rig::{Observer, Running, Server},
    tls::download,
};
use crate::process::say;

/// Pairs of windows for each round that was asked for.
const PAIRS: u32 = 100;
/// Length of a window.
const WINDOW: Duration = Duration::from_millis(30);
/// Time for what a switch changes to settle.
const SETTLE: Duration = Duration::from_millis(3);
/// Time for the connection's handshake and its first records to pass, so that its sockets are muted.
const WARM_UP: Duration = Duration::from_secs(1);

/// What a transfer reached.
pub(super) struct Bulk {
    /// MiB per second of the windows without the programs.
    pub(super) without: Vec<f64>,
    /// Those with them, in parts of those beside them.
    pub(super) ratios: Vec<f64>,
    /// The same where nothing was switched: what the method itself gives.
    pub(super) control: Vec<f64>,
    /// Records lost.
    pub(super) lost: f64,
    /// What the auditor itself took of a processor meanwhile, with and without its programs there.
    pub(super) auditor_share: f64,
}

impl Bench {
    /// Measures a transfer.
    ///
    /// # Errors
    /// When a part of the rig fails.
    pub(super) fn bulk(&self) -> Result<Bulk> {
        let (traffic, aside) = (Cgroup::make("auditor-bench-traffic")?, Cgroup::make("auditor-bench-aside")?);
        let folder = self.folder.join("transfer");
        let server = Server::start_in(&folder, &traffic.procs())?;
        let observer = Observer::start_below(&self.auditor, &self.folder, &aside.folder, &aside.mount)?;
        let switch = Switch::new(&observer, &traffic.folder)?;
        switch.on()?;
        let transfer = &mut Running::start(&mut inside(&traffic.procs(), &download(server.tls_port)))?;
        thread::sleep(WARM_UP);
        switch.off()?;
        let mut bulk =
            Bulk { without: Vec::new(), ratios: Vec::new(), control: Vec::new(), lost: 0.0, auditor_share: 0.0 };
        let (before, start) = (observer.counters()?, Instant::now());
        for round in 1..=self.options.rounds {
            say(format!("bulk over TLS: {round} of {}", self.options.rounds));
            for pair in 0..PAIRS {
                let with = || {
                    switch.on()?;
                    let rate = window(&server);
                    switch.off()?;
                    rate
                };
                let (with, without) = pair_of(pair, with, || window(&server))?;
                bulk.ratios.push(with / without);
                bulk.without.push(without);
                // Half as many will do.
                if pair % 2 == 0 {
                    let (one, other) = pair_of(pair / 2, || window(&server), || window(&server))?;
                    bulk.control.push(one / other);
                }
            }
            ensure!(!transfer.ended(), "the transfer was over too soon");
        }
        // A window in which nothing at all was sent, on either side.
        bulk.ratios.retain(|ratio| !ratio.is_nan());
        bulk.control.retain(|ratio| !ratio.is_nan());
        let counters = observer.counters()?;
        ensure!(counters.records > 0.0, "the auditor saw nothing of the transfer's handshake");
        bulk.lost = counters.lost;
        bulk.auditor_share = counters.since(before).cpu_seconds / start.elapsed().as_secs_f64();
        Ok(bulk)
    }
}

/// Two figures; which of them is taken first takes turns.
fn pair_of(number: u32, first: impl Fn() -> Result<f64>, second: impl Fn() -> Result<f64>) -> Result<(f64, f64)> {
    if number.is_multiple_of(2) {
        Ok((first()?, second()?))
    } else {
        let second = second()?;
        Ok((first()?, second))
    }
}

/// MiB per second over a window of the transfer.
fn window(server: &Server) -> Result<f64> {
    thread::sleep(SETTLE);
    let (before, start) = (server.mebibytes_read()?, Instant::now());
    thread::sleep(WINDOW);
    Ok((server.mebibytes_read()? - before) / start.elapsed().as_secs_f64())
}

/// A command whose process moves itself into a cgroup first.
pub(super) fn inside(procs: &Path, command: &Command) -> Command {
    let mut moved = Command::new("sh");
    moved.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(procs).arg(command.get_program());
    moved.args(command.get_args());
    moved
}

/// A cgroup that is removed with its owner; by then its processes have ended.
struct Cgroup {
    mount: PathBuf,
    folder: PathBuf,
}

impl Cgroup {
    fn make(name: &str) -> Result<Self> {
        let text = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
        let mount = cgroup2(&text).context("no cgroup2 file system is mounted")?;
        let folder = mount.join(name);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self { mount, folder })
    }

    fn procs(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.folder) {
            say(format!("{} stays: {error}", self.folder.display()));
        }
    }
}

/// Where cgroup2 is mounted (proc_pid_mountinfo(5): the mount point is the fifth field, the file system's type the first behind the
/// dash).
fn cgroup2(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (before, behind) = line.split_once(" - ")?;
        behind.starts_with("cgroup2 ").then(|| before.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// `BPF_PROG_ATTACH`, `BPF_PROG_DETACH`, `BPF_PROG_GET_FD_BY_ID` and `BPF_OBJ_GET_INFO_BY_FD` of `enum bpf_cmd`.
const ATTACH: libc::c_long = 8;
const DETACH: libc::c_long = 9;
const GET_PROGRAM: libc::c_long = 13;
const GET_INFO: libc::c_long = 15;
/// `BPF_F_ALLOW_MULTI`.
const ALLOW_MULTI: u32 = 2;
/// The programs and where they belong: `BPF_CGROUP_INET_INGRESS` and `BPF_CGROUP_INET_EGRESS` of `enum bpf_attach_type`.
const PROGRAMS: [(&str, u32); 2] = [("observe_ingress", 0), ("observe_egress", 1)];

/// Puts the auditor's programs on a cgroup and takes them off.
struct Switch {
    cgroup: File,
    programs: Vec<(OwnedFd, u32)>,
}

impl Switch {
    fn new(observer: &Observer, cgroup: &Path) -> Result<Self> {
        let mut programs = Vec::new();
        for id in observer.programs()? {
            let program = open(id)?;
            let name = name(&program)?;
            if let Some((_, place)) = PROGRAMS.iter().find(|(known, _)| *known == name) {
                programs.push((program, *place));
            }
        }
        ensure!(programs.len() == PROGRAMS.len(), "the auditor does not capture at the cgroup: see auditor.log");
        Ok(Self { cgroup: File::open(cgroup)?, programs })
    }

    fn on(&self) -> Result<()> {
        self.each(ATTACH, ALLOW_MULTI).context("attaching a program")
    }

    fn off(&self) -> Result<()> {
        self.each(DETACH, 0).context("detaching a program")
    }

    fn each(&self, command: libc::c_long, flags: u32) -> Result<()> {
        for (program, place) in &self.programs {
            // The part of `union bpf_attr` the command reads: target, program, type, flags.
            let descriptor = |fd: i32| u32::try_from(fd);
            let mut attributes =
                [descriptor(self.cgroup.as_raw_fd())?, descriptor(program.as_raw_fd())?, *place, flags];
            bpf(command, &mut attributes)?;
        }
        Ok(())
    }
}

fn open(id: u32) -> Result<OwnedFd> {
    // Id, next id, flags.
    let descriptor = bpf(GET_PROGRAM, &mut [id, 0, 0]).context("opening a program")?;
    // SAFETY: the kernel gave a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(descriptor)?) })
}

/// A program's name: `name` of `struct bpf_prog_info`, 16 bytes behind 64 of others.
fn name(program: &OwnedFd) -> Result<String> {
    let mut info = [0_u8; 80];
    let address = info.as_mut_ptr() as u64;
    let length = u64::try_from(info.len())?;
    // Descriptor and length of the information, its address.
    bpf(GET_INFO, &mut [u64::try_from(program.as_raw_fd())? | length << 32, address])
        .context("looking at a program")?;
    Ok(CStr::from_bytes_until_nul(&info[64..])?.to_str()?.to_owned())
}

fn bpf<T, const COUNT: usize>(command: libc::c_long, attributes: &mut [T; COUNT]) -> Result<libc::c_long> {
    // SAFETY: the kernel reads and writes no more than the size that is passed, and what the attributes point at outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes)) };
    if result < 0 { Err(io::Error::last_os_error()).context("bpf(2)") } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_beside_older_ones() {
        let text = "30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n31 23 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2(text), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(cgroup2("30 23 0:26 / /a rw - tmpfs cgroup2 rw\n"), None);
    }
}
