//! One TLS transfer without a pause, while the auditor's programs are put on its sockets' cgroup and taken off again some fifteen times a
//! second. A neighbour that slows the machine does so for longer than that, so each short window with the programs is held
//! against the one without them beside it; whole seconds, or whole downloads, differ by a sixth with nothing else changed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Bench,
    programs::{Program, Switch},
    rig::{Observer, Running},
    server::Server,
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
#[derive(Default)]
pub(super) struct Bulk {
    /// MiB per second of the windows without the programs.
    pub(super) without: Vec<f64>,
    /// Those with them, in parts of those beside them.
    pub(super) ratios: Vec<f64>,
    /// Those with programs there that do nothing: what it costs that there are any.
    pub(super) empty: Vec<f64>,
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
        let switch = Switch::new(&traffic.folder, of_auditor(&observer)?)?;
        let nothing = Switch::new(&traffic.folder, Program::empty()?)?;
        switch.on()?;
        let transfer = &mut Running::start(&mut inside(&traffic.procs(), &download(server.tls_port)))?;
        thread::sleep(WARM_UP);
        switch.off();
        let mut bulk = Bulk::default();
        let (before, start) = (observer.counters()?, Instant::now());
        for round in 1..=self.options.rounds {
            say(format!("bulk over TLS: {round} of {}", self.options.rounds));
            for pair in 0..PAIRS {
                let with = |switch: &Switch| {
                    switch.on()?;
                    let rate = window(&server);
                    switch.off();
                    rate
                };
                let without = || window(&server);
                let (one, other) = pair_of(pair, || with(&switch), without)?;
                bulk.ratios.push(one / other);
                bulk.without.push(other);
                let (one, other) = pair_of(pair, || with(&nothing), without)?;
                bulk.empty.push(one / other);
                // Half as many will do.
                if pair % 2 == 0 {
                    let (one, other) = pair_of(pair / 2, without, without)?;
                    bulk.control.push(one / other);
                }
            }
            ensure!(!transfer.ended(), "the transfer was over too soon");
        }
        // A window in which nothing at all was sent, on either side.
        for ratios in [&mut bulk.ratios, &mut bulk.empty, &mut bulk.control] {
            ratios.retain(|ratio| !ratio.is_nan());
        }
        let counters = observer.counters()?;
        ensure!(counters.records > 0.0, "the auditor saw nothing of the transfer's handshake");
        bulk.lost = counters.lost;
        bulk.auditor_share = counters.since(before).cpu_seconds / start.elapsed().as_secs_f64();
        Ok(bulk)
    }
}

/// The programs of the auditor that see packets.
fn of_auditor(observer: &Observer) -> Result<Vec<Program>> {
    let all = observer.programs()?.into_iter().map(Program::open).collect::<Result<Vec<_>>>()?;
    let programs: Vec<Program> = all.into_iter().flatten().collect();
    ensure!(programs.len() == 2, "the auditor does not capture at the cgroup: see auditor.log");
    Ok(programs)
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
        let mount = cgroup2_root()?;
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

/// Where cgroup2 is mounted.
///
/// # Errors
/// When it is not.
pub(super) fn cgroup2_root() -> Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    cgroup2(&text).context("no cgroup2 file system is mounted")
}

/// Where cgroup2 is mounted (proc_pid_mountinfo(5): the mount point is the fifth field, the file system's type the first behind the
/// dash).
fn cgroup2(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (before, behind) = line.split_once(" - ")?;
        behind.starts_with("cgroup2 ").then(|| before.split(' ').nth(4).map(PathBuf::from))?
    })
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
