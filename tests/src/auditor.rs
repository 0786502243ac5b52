//! The product as a child process.

use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{
    kernel::listening_ports,
    process::{PATIENCE, Running, until},
    tools,
};

/// A running `auditor watch --output jsonl`.
#[derive(Debug)]
pub struct Auditor {
    process: Running,
    /// Standard error, as it comes.
    log: PathBuf,
    /// Lines of standard output so far.
    lines: Vec<String>,
    records: Vec<Value>,
}

/// What an auditor left.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// All lines of standard output.
    pub lines: Vec<String>,
    /// Those lines as records.
    pub records: Vec<Value>,
    /// All of standard error.
    pub log: String,
}

/// A command line of the auditor, with `RUST_LOG` and its own environment variables out of the way.
///
/// # Errors
/// When there is no binary.
pub fn command<I: IntoIterator<Item: AsRef<OsStr>>>(arguments: I) -> Result<Command> {
    let mut command = Command::new(tools::auditor()?);
    command.args(arguments).env_remove("RUST_LOG");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AUDITOR_")) {
        command.env_remove(name);
    }
    Ok(command)
}

impl Auditor {
    /// Starts `auditor watch --output jsonl` with further arguments and waits until it judges calls.
    ///
    /// # Errors
    /// When it does not come up; with what it wrote to standard error.
    pub fn watch(directory: &Path, arguments: &[&str]) -> Result<Self> {
        Self::watch_with(Self::command(arguments)?, directory)
    }

    /// The same with a command line that was made before.
    ///
    /// # Errors
    /// As [`Self::watch`].
    pub fn watch_with(command: Command, directory: &Path) -> Result<Self> {
        let probe = Probe::start()?;
        Self::start(command, directory, probe.address.port(), || probe.call())
    }

    /// The command line of `auditor watch --output jsonl` with further arguments.
    ///
    /// # Errors
    /// When there is no binary.
    pub fn command(arguments: &[&str]) -> Result<Command> {
        command(["watch", "--output", "jsonl"].iter().chain(arguments))
    }

    /// Starts such a command and waits until it judges calls: `call` makes one to `port`, where the auditor sees it.
    ///
    /// # Errors
    /// When it does not come up; with what it wrote to standard error.
    pub fn start(command: Command, directory: &Path, port: u16, call: impl Fn() -> Result<()>) -> Result<Self> {
        tools::require_root()?;
        let log = directory.join("auditor.log");
        let process = Running::start_logged("auditor watch", command, &log)?;
        let mut auditor = Self { process, log, lines: Vec::new(), records: Vec::new() };
        let attached = auditor.wait_attached(port, call);
        attached.with_context(|| format!("standard error:\n{}", auditor.log()))?;
        Ok(auditor)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    /// What it wrote to standard error so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Takes what it printed, until `done` says that it is enough.
    ///
    /// # Errors
    /// When that is not so in time, or the auditor ends, or prints something else than records.
    pub fn wait_until(&mut self, patience: Duration, mut done: impl FnMut(&[Value]) -> bool) -> Result<()> {
        let start = Instant::now();
        while !done(&self.records) {
            let left = patience.checked_sub(start.elapsed()).context("the records did not come in time")?;
            match self.process.line(left)? {
                Some(line) => self.take(line)?,
                None => bail!("the auditor ended: {}", self.process.wait(PATIENCE)?),
            }
        }
        Ok(())
    }

    /// Waits until it judges a call that is made now; until then calls are made again.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_judging(&mut self) -> Result<()> {
        let probe = Probe::start()?;
        self.wait_attached(probe.address.port(), || probe.call())
    }

    /// Waits until it says that it reads the TLS libraries in these files, each told by a part of its path; it must log at level
    /// `debug`.
    ///
    /// # Errors
    /// When it does not say so in time; with what it wrote to standard error.
    pub fn wait_covered(&self, files: &[&str]) -> Result<()> {
        let said = until("the libraries are covered", || {
            let log = self.log();
            let covered =
                |file: &&str| log.lines().any(|line| line.contains("library is covered") && line.contains(*file));
            Ok(files.iter().all(covered).then_some(()))
        });
        said.with_context(|| self.log())
    }

    /// The records that came so far.
    #[must_use]
    pub fn records(&self) -> &[Value] {
        &self.records
    }

    /// Asks it to stop, waits until it has, and gives all it printed.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(mut self) -> Result<Finished> {
        self.process.signal(libc::SIGTERM);
        while let Some(line) = self.process.line(PATIENCE)? {
            self.take(line)?;
        }
        let status = self.process.wait(PATIENCE)?;
        Ok(Finished { status, log: self.log(), lines: self.lines, records: self.records })
    }

    fn take(&mut self, line: String) -> Result<()> {
        self.records.push(serde_json::from_str(&line).with_context(|| format!("not a record: {line}"))?);
        self.lines.push(line);
        Ok(())
    }

    /// Makes calls until one is judged.
    fn wait_attached(&mut self, called: u16, call: impl Fn() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            call()?;
            // All that is there: on a busy machine more comes than calls are made here.
            let mut patience = Duration::from_millis(100);
            while let Ok(line) = self.process.line(patience) {
                match line {
                    Some(line) => self.take(line)?,
                    None => bail!("the auditor ended: {}", self.process.wait(PATIENCE)?),
                }
                patience = Duration::ZERO;
            }
            if self.records.iter().any(|record| port(record, "destination") == Some(called)) {
                return Ok(());
            }
        }
        bail!("no call was judged within {PATIENCE:?}")
    }
}

/// A running `auditor run`.
#[derive(Debug)]
pub struct Daemon {
    process: Running,
    endpoint: SocketAddr,
    log: PathBuf,
}

impl Daemon {
    /// Starts `auditor run` with further arguments and waits until it is ready.
    ///
    /// # Errors
    /// When it does not get there; with what it wrote to standard error.
    pub fn start(directory: &Path, arguments: &[&str]) -> Result<Self> {
        tools::require_root()?;
        let log = directory.join("daemon.log");
        let command = command(["run", "--listen", "127.0.0.1:0"].iter().chain(arguments))?;
        let mut process = Running::start_logged("auditor run", command, &log)?;
        let said = || format!("standard error:\n{}", fs::read_to_string(&log).unwrap_or_default());
        let port = until("the daemon listens", || match process.wait(Duration::ZERO) {
            Ok(status) => bail!("it ended: {status}"),
            Err(_) => Ok(listening_ports(process.pid())?.first().copied()),
        });
        let endpoint = (Ipv4Addr::LOCALHOST, port.with_context(said)?).into();
        until("the daemon is ready", || Ok(get(endpoint, "/readyz")?.starts_with("HTTP/1.1 200").then_some(())))
            .with_context(said)?;
        Ok(Self { process, endpoint, log })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What its endpoint answers, head and body.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn get(&self, path: &str) -> Result<String> {
        get(self.endpoint, path)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    /// Sum of the samples of a metric of which the line holds `label`.
    ///
    /// # Errors
    /// When the connection fails or there is no such sample.
    pub fn sample(&self, metric: &str, label: &str) -> Result<f64> {
        let text = self.get("/metrics")?;
        let samples = text
            .lines()
            .filter_map(|line| line.strip_prefix(metric))
            .filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(label));
        let values: Vec<f64> = samples.filter_map(|rest| rest.rsplit(' ').next()?.parse().ok()).collect();
        ensure!(!values.is_empty(), "no {metric} with {label} in\n{text}");
        Ok(values.iter().sum())
    }

    /// Ends it without a chance to do anything more.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(mut self) -> Result<()> {
        self.process.signal(libc::SIGKILL);
        self.process.wait(PATIENCE).map(drop)
    }

    /// Asks it to stop and waits until it has; how it ended, and all of standard error.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(mut self) -> Result<(ExitStatus, String)> {
        self.process.signal(libc::SIGTERM);
        let status = self.process.wait(PATIENCE)?;
        Ok((status, fs::read_to_string(&self.log)?))
    }
}

/// The port of one end of a record.
#[must_use]
pub fn port(record: &Value, end: &str) -> Option<u16> {
    record[end]["port"].as_u64().and_then(|port| u16::try_from(port).ok())
}

/// Runs the auditor to its end and gives its exit code, standard output and standard error.
///
/// # Errors
/// When it does not start or does not end in time.
pub fn run_to_end(command: Command, directory: &Path) -> Result<(Option<i32>, String, String)> {
    let log = directory.join("run-to-end.log");
    let mut process = Running::start_logged("auditor", command, &log)?;
    process.close_input();
    let mut output = String::new();
    while let Some(line) = process.line(PATIENCE)? {
        output.push_str(&line);
        output.push('\n');
    }
    let status = process.wait(PATIENCE)?;
    Ok((status.code(), output, fs::read_to_string(&log)?))
}

/// A server inside the test that answers single calls, to find out whether the auditor is attached.
struct Probe {
    address: SocketAddr,
}

impl Probe {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen on loopback")?;
        let address = listener.local_addr()?;
        // The thread ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                drop(answer(stream));
            }
        });
        Ok(Self { address })
    }

    fn call(&self) -> Result<()> {
        let answer = get(self.address, "/probe")?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "the probe answered {answer:?}");
        Ok(())
    }
}

/// Answers one small request with 200 and ends the connection.
///
/// # Errors
/// When the connection fails.
pub fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    // The request comes in one piece.
    if stream.read(&mut [0; 1024])? == 0 {
        return Ok(());
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// What a server answers to one GET without credentials, head and body.
///
/// # Errors
/// When the connection fails.
pub fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream =
        TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
