//! What a bench run puts beside its [`server`](super::server): a load generator bound to another processor, and the auditor.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{bulk, kernel, server::PAGE};
use crate::process::read;

/// Processor of the load generator; nginx binds its worker to the other, 0.
pub(crate) const LOAD_CPU: &str = "1";
/// How long is waited for anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// A child that ends with its owner.
pub(crate) struct Running(Child);

impl Running {
    /// Starts `command` with nothing to read, its output dropped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        Self::spawn(command.stdout(Stdio::null()))
    }

    /// Starts `command` with nothing to read.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).spawn();
        Ok(Self(child.with_context(|| format!("cannot start {name}"))?))
    }

    /// Interrupts it as a person would, so that it says what it has to say, and waits until it ends.
    pub(crate) fn interrupt(&mut self, patience: Duration) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            // SAFETY: the child is ours and not yet waited for, so the id is its own.
            unsafe { libc::kill(pid, libc::SIGINT) };
        }
        let end = Instant::now() + patience;
        while Instant::now() < end && !self.ended() {
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended by itself.
    pub(crate) fn ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            // SAFETY: the child is ours and not yet waited for, so the id is its own.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end && matches!(self.0.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(20));
        }
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A port that was free a moment ago.
///
/// # Errors
/// When there is none.
pub(crate) fn free_port() -> Result<u16> {
    free_ports().map(|[port]| port)
}

/// As many, each another one.
pub(super) fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT]> {
    let listeners: Vec<TcpListener> =
        (0..COUNT).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let mut ports = [0; COUNT];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// What a load generator did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Load {
    /// Requests answered.
    pub(crate) requests: f64,
    /// Requests per second.
    pub(crate) rate: f64,
}

/// As many requests as the server answers, over 32 connections.
///
/// # Errors
/// When wrk is missing or fails.
pub(crate) fn flat_out(port: u16, seconds: u32) -> Result<Load> {
    wrk(&[], &format!("http://127.0.0.1:{port}/items/42"), seconds)
}

/// As many pages, each compressed when it is asked for: the server has work, and the load generator next to none.
///
/// # Errors
/// As [`flat_out`].
pub(crate) fn flat_out_pages(port: u16, seconds: u32) -> Result<Load> {
    wrk(&["-H", "Accept-Encoding: gzip"], &format!("http://127.0.0.1:{port}/{PAGE}"), seconds)
}

/// As many requests, each with the same token: calls that may be passed over when they repeat.
///
/// # Errors
/// As [`flat_out`].
pub(crate) fn flat_out_proven(port: u16, seconds: u32) -> Result<Load> {
    wrk(
        &["-H", "Authorization: Bearer 7f3a91c25a0b4f6e9d1c2b8e4d6f0a13"],
        &format!("http://127.0.0.1:{port}/items/42"),
        seconds,
    )
}

/// The same inside TLS.
///
/// # Errors
/// As [`flat_out`].
pub(crate) fn flat_out_tls(port: u16, seconds: u32) -> Result<Load> {
    wrk(&[], &format!("https://127.0.0.1:{port}/items/42"), seconds)
}

fn wrk(arguments: &[&str], url: &str, seconds: u32) -> Result<Load> {
    let duration = format!("-d{seconds}s");
    let mut command = Command::new("taskset");
    command.args(["-c", LOAD_CPU, "wrk", "-t1", "-c32", &duration]).args(arguments).arg(url);
    let text = read(&mut command)?;
    parse_wrk(&text).with_context(|| format!("wrk said {text:?}"))
}

/// `rate` requests per second over 16 connections.
///
/// # Errors
/// When h2load is missing or fails.
pub(crate) fn fixed_rate(port: u16, rate: u32, seconds: u32) -> Result<Load> {
    let url = format!("http://127.0.0.1:{port}/items/42");
    let each = (rate / 16).to_string();
    let duration = seconds.to_string();
    let text = read(
        Command::new("taskset")
            .args(["-c", LOAD_CPU, "h2load", "--h1", "-c16", "-t1", "--rps", &each, "-D", &duration, &url]),
    )?;
    parse_h2load(&text).with_context(|| format!("h2load said {text:?}"))
}

fn parse_wrk(text: &str) -> Option<Load> {
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())?;
    let rate = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:")?.trim().parse().ok())?;
    Some(Load { requests, rate })
}

pub(super) fn parse_h2load(text: &str) -> Option<Load> {
    let line = text.lines().find(|line| line.starts_with("requests:"))?;
    let requests = line.split(',').find_map(|part| part.trim().strip_suffix(" succeeded")?.parse().ok())?;
    let line = text.lines().find(|line| line.starts_with("finished in"))?;
    let rate = line.split(',').find_map(|part| part.trim().strip_suffix(" req/s")?.parse().ok())?;
    Some(Load { requests, rate })
}

/// `auditor run`, beside the load.
pub(crate) struct Observer {
    process: Running,
    metrics: SocketAddr,
}

impl Observer {
    /// Starts it and waits until it captures.
    ///
    /// # Errors
    /// When it does not come up; its log is in `folder`.
    pub(crate) fn start(auditor: &Path, folder: &Path) -> Result<Self> {
        Self::start_with(auditor, folder, &[])
    }

    /// The same with more arguments.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn start_with(auditor: &Path, folder: &Path, arguments: &[&str]) -> Result<Self> {
        Self::start_as(Command::new(auditor), folder, arguments)
    }

    /// Starts it where it sees a cgroup and what is below as if nothing else were there: `cgroup`, below cgroup2's `mount`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn start_below(auditor: &Path, folder: &Path, cgroup: &Path, mount: &Path) -> Result<Self> {
        let mut command = Command::new("unshare");
        let view = "umount \"$0\" && mount -t cgroup2 none \"$0\" && exec \"$@\"";
        command.args(["--mount", "--cgroup", "sh", "-c", view]).arg(mount).arg(auditor);
        Self::start_as(bulk::inside(&cgroup.join("cgroup.procs"), &command), folder, &[])
    }

    fn start_as(mut command: Command, folder: &Path, arguments: &[&str]) -> Result<Self> {
        let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let log = folder.join("auditor.log");
        command.args(["run", "--listen", &metrics.to_string()]).args(arguments).stderr(fs::File::create(&log)?);
        let mut observer = Self { process: Running::start(&mut command)?, metrics };
        let end = Instant::now() + PATIENCE;
        while !observer.get("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            if observer.process.ended() || Instant::now() > end {
                bail!("the auditor did not become ready: {}", fs::read_to_string(&log).unwrap_or_default().trim());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(observer)
    }

    /// What its counters say.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn counters(&self) -> Result<Counters> {
        self.counters_of(&self.get("/metrics")?)
    }

    fn counters_of(&self, metrics: &str) -> Result<Counters> {
        let (run_nanoseconds, runs) = program_runs(self.process.pid())?;
        Ok(Counters {
            exchanges: ["nginx", "nghttpd"]
                .map(|server| format!("destination_workload=\"{server}\""))
                .map(|server| sum_where(metrics, "auditor_exchanges_total", &server))
                .iter()
                .sum(),
            passed_over: sum(metrics, "auditor_exchanges_sampled_out_total"),
            lost: sum(metrics, "auditor_capture_lost_total"),
            records: sum(metrics, "auditor_capture_records_total"),
            cpu_seconds: cpu_seconds(self.process.pid())?,
            run_nanoseconds,
            runs,
        })
    }

    /// The sum of a family of its metrics.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn figure(&self, family: &str) -> Result<f64> {
        Ok(sum(&self.get("/metrics")?, family))
    }

    /// What it has judged and what it holds.
    ///
    /// # Errors
    /// When it does not answer or the kernel does not let us look.
    pub(crate) fn held(&self) -> Result<Held> {
        let text = self.get("/metrics")?;
        let entries = kernel::Held::by(self.process.pid())?.entries()?;
        let count = |forgets| {
            let tables = entries.values().filter(|table| table.forgets == forgets);
            tables
                .filter_map(|table| u32::try_from(table.count).ok())
                .map(f64::from)
                .fold(0.0, |sum, count| sum + count)
        };
        let of = |verdict: &str| {
            // Others on the machine may call an nginx, too.
            let ends = ["source_workload=\"h2load\"", "destination_workload=\"nginx\"", verdict];
            let lines = text.lines().filter(|line| ends.iter().all(|label| line.contains(label)));
            sum(&lines.collect::<Vec<_>>().join("\n"), "auditor_exchanges_total")
        };
        Ok(Held {
            counters: self.counters_of(&text)?,
            judged: of(""),
            unauthenticated: of("verdict=\"unauthenticated\""),
            connections: sum_where(&text, "auditor_tracked", "kind=\"connections\""),
            unknown: of("verdict=\"unknown\""),
            entries: count(false),
            forgetting: count(true),
        })
    }

    /// Ids of its kernel programs.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn programs(&self) -> Result<Vec<u32>> {
        Ok(kernel::Held::by(self.process.pid())?.programs.into_iter().collect())
    }

    /// Run time of its kernel programs, nanoseconds, and how often they ran; while the kernel's statistics are on.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn program_runs(&self) -> Result<(f64, f64)> {
        program_runs(self.process.pid())
    }

    /// Counters once they no longer move: records are read some milliseconds after the load's end.
    ///
    /// # Errors
    /// As [`Self::counters`].
    pub(crate) fn settled(&self) -> Result<Counters> {
        let end = Instant::now() + PATIENCE;
        let mut last = self.counters()?;
        loop {
            thread::sleep(Duration::from_millis(400));
            let now = self.counters()?;
            let still = now.exchanges - last.exchanges < 0.5 && now.records - last.records < 0.5;
            if still || Instant::now() > end {
                return Ok(now);
            }
            last = now;
        }
    }

    /// Resident memory, MiB.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn resident_mebibytes(&self) -> Result<f64> {
        resident_mebibytes(self.process.pid())
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.metrics, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.metrics)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// What was judged and what is held at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    /// What is counted.
    pub(crate) counters: Counters,
    /// Exchanges of h2load with nginx.
    pub(crate) judged: f64,
    /// Those of them that are `unauthenticated`, as all of the load are.
    pub(crate) unauthenticated: f64,
    /// Connections in memory.
    pub(crate) connections: f64,
    /// Those that are `unknown`: something of them was lost.
    pub(crate) unknown: f64,
    /// Entries of the auditor's hash tables in the kernel.
    pub(crate) entries: f64,
    /// Those of its tables that fill up and then forget.
    pub(crate) forgetting: f64,
}

/// What the auditor and the kernel count.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// Exchanges judged.
    pub(crate) exchanges: f64,
    /// Exchanges passed over, because they repeat.
    pub(crate) passed_over: f64,
    /// Records lost.
    pub(crate) lost: f64,
    /// Records read.
    pub(crate) records: f64,
    /// CPU seconds of the auditor.
    pub(crate) cpu_seconds: f64,
    /// Nanoseconds in its kernel programs; counted while the kernel's statistics are on.
    pub(crate) run_nanoseconds: f64,
    /// Runs of its kernel programs, likewise.
    pub(crate) runs: f64,
}

impl Counters {
    /// What was counted since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            exchanges: self.exchanges - earlier.exchanges,
            passed_over: self.passed_over - earlier.passed_over,
            lost: self.lost - earlier.lost,
            records: self.records - earlier.records,
            cpu_seconds: self.cpu_seconds - earlier.cpu_seconds,
            run_nanoseconds: self.run_nanoseconds - earlier.run_nanoseconds,
            runs: self.runs - earlier.runs,
        }
    }
}

/// Sum of a family's samples in the Prometheus text format.
fn sum(text: &str, family: &str) -> f64 {
    sum_where(text, family, "")
}

/// Sum of those that have a label: other traffic of the machine is judged too.
fn sum_where(text: &str, family: &str, label: &str) -> f64 {
    text.lines()
        .filter_map(|line| line.strip_prefix(family))
        .filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// Run time and runs of every cgroup program a process holds: the kernel shows them in `/proc/PID/fdinfo`
/// (`bpf_prog_show_fdinfo`).
fn program_runs(pid: u32) -> Result<(f64, f64)> {
    const CGROUP_SKB: &str = "8";
    let mut programs = std::collections::BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let field = |name: &str| text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()));
        if field("prog_type") == Some(CGROUP_SKB)
            && let (Some(id), Some(time), Some(runs)) = (field("prog_id"), field("run_time_ns"), field("run_cnt"))
        {
            programs.insert(id.to_owned(), (time.parse::<f64>()?, runs.parse::<f64>()?));
        }
    }
    Ok(programs.values().fold((0.0, 0.0), |(time, runs), (more, also)| (time + more, runs + also)))
}

/// Resident memory of a process, MiB.
///
/// # Errors
/// When it is gone.
pub(crate) fn resident_mebibytes(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes / 1024.0)
}

/// A process and the living ones it started, and so on: tshark leaves capturing to another.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        // Each thread has its own; what has ended meanwhile has none.
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        next += 1;
    }
    found
}

/// CPU seconds that some processes have used.
///
/// # Errors
/// When one is gone.
pub(crate) fn cpu_seconds_of(pids: &[u32]) -> Result<f64> {
    pids.iter().map(|pid| cpu_seconds(*pid)).sum()
}

/// CPU seconds a process has used, from `/proc/PID/stat` (proc_pid_stat(5): fields 14 and 15).
pub(super) fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = text.rsplit_once(") ").context("/proc/PID/stat has no name")?;
    let ticks: f64 = rest.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    // SAFETY: sysconf reads a constant of the system.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok(ticks / f64::from(i32::try_from(per_second).unwrap_or(100)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_generators_are_understood() {
        let wrk =
            "Running 2s test @ http://127.0.0.1:1/\n  20394 requests in 2.00s, 3.75MB read\nRequests/sec:  10185.34\n";
        assert_eq!(parse_wrk(wrk), Some(Load { requests: 20_394.0, rate: 10_185.34 }));
        let h2load = "finished in 3.01s, 3990.33 req/s, 600KB/s\nrequests: 12000 total, 12000 started, 12000 done, 11971 succeeded, 29 failed\n";
        assert_eq!(parse_h2load(h2load), Some(Load { requests: 11_971.0, rate: 3_990.33 }));
        assert_eq!(parse_wrk("unable to connect"), None);
    }

    #[test]
    fn a_process_and_its_children_are_one_family() {
        let child = Running::start(Command::new("sleep").arg("60")).expect("there is a sleep");
        let family = family(std::process::id());
        assert_eq!(family[0], std::process::id());
        assert!(family.contains(&child.pid()), "{family:?}");
        assert!(cpu_seconds_of(&[child.pid()]).is_ok());
    }

    #[test]
    fn a_family_is_summed_and_not_another_with_a_longer_name() {
        let text = "# HELP a_total x\na_total{x=\"1\"} 2\na_total{x=\"2 3\"} 5\na_total_more 9\n";
        assert!((sum(text, "a_total") - 7.0).abs() < 1e-9);
        assert!((sum_where(text, "a_total", "x=\"1\"") - 2.0).abs() < 1e-9);
    }
}
