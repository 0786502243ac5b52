//! Child processes that end with the test, however it ends.

use std::{
    cell::RefCell,
    ffi::OsString,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// How long a process gets for anything that is asked of it. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running child: its standard output as lines, its standard input to write to. Ended when dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Running {
    /// Starts a command with piped standard input and output; what it writes to standard error is passed on.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: impl Into<String>, mut command: Command) -> Result<Self> {
        let name = name.into();
        // Not inherited: Node makes it non-blocking, for all who share it.
        let mut running = Self::spawn(name.clone(), command.stderr(Stdio::piped()))?;
        let stderr = running.child.stderr.take().context("standard error is piped")?;
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                eprintln!("{name}: {line}");
            }
        });
        Ok(running)
    }

    /// The same with standard error going to a file.
    ///
    /// # Errors
    /// When the file cannot be made or the command not be started.
    pub fn start_logged(name: impl Into<String>, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
        Self::spawn(name.into(), command.stderr(file))
    }

    fn spawn(name: String, command: &mut Command) -> Result<Self> {
        end_with_parent(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child =
            spawn(command).with_context(|| format!("{name}: cannot start {}", command.get_program().display()))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("standard output is piped")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { name, child, stdin, lines })
    }

    /// The process's id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Path of the program the process runs now.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn executable(&self) -> Result<PathBuf> {
        executable(self.pid())
    }

    /// The next line of standard output; `None` at its end.
    ///
    /// # Errors
    /// When none comes in time.
    pub fn line(&mut self, patience: Duration) -> Result<Option<String>> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => bail!("{}: printed nothing for {patience:?}", self.name),
        }
    }

    /// The next line, which must come.
    ///
    /// # Errors
    /// When none comes, with the exit status of a process that ended.
    pub fn expect_line(&mut self) -> Result<String> {
        match self.line(PATIENCE)? {
            Some(line) => Ok(line),
            None => {
                let status = self.wait(PATIENCE)?;
                bail!("{}: ended without an answer: {status}", self.name)
            }
        }
    }

    /// Writes to standard input.
    ///
    /// # Errors
    /// When the process does not read any more.
    pub fn write(&mut self, text: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().with_context(|| format!("{}: standard input is closed", self.name))?;
        stdin
            .write_all(text.as_bytes())
            .and_then(|()| stdin.flush())
            .with_context(|| format!("{}: does not read", self.name))
    }

    /// Closes standard input.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        send_signal(self.pid(), signal);
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) =
                self.child.try_wait().with_context(|| format!("{}: cannot be waited for", self.name))?
            {
                return Ok(status);
            }
            if start.elapsed() > patience {
                bail!("{}: still runs after {patience:?}", self.name);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stdin = None;
        if self.wait(Duration::ZERO).is_ok() {
            return;
        }
        self.signal(libc::SIGTERM);
        if self.wait(Duration::from_secs(3)).is_err() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

thread_local! {
    /// The process id namespace that [`Running`] starts processes in, and the thread's own.
    static NAMESPACE: RefCell<Option<[Arc<File>; 2]>> = const { RefCell::new(None) };
}

/// Does something whose [`Running`] processes are to be in the process id namespace `children`; `own` is the thread's.
pub fn with_children_in<T>(children: &Arc<File>, own: &Arc<File>, task: impl FnOnce() -> T) -> T {
    NAMESPACE.set(Some([Arc::clone(children), Arc::clone(own)]));
    let result = task();
    NAMESPACE.set(None);
    result
}

/// Spawns a command in the namespace that children are to be in. While that is set no thread can be started.
fn spawn(command: &mut Command) -> io::Result<Child> {
    let Some([children, own]) = NAMESPACE.with_borrow(Clone::clone) else { return command.spawn() };
    // SAFETY: it concerns children of this thread alone, and touches no memory.
    let enter = |namespace: &File| match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWPID) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    enter(&children)?;
    let spawned = command.spawn();
    enter(&own)?;
    spawned
}

/// Asks again until there is an answer.
///
/// # Errors
/// When there is none in time, or asking fails.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(answer) = ask().with_context(|| what.to_owned())? {
            return Ok(answer);
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("{what}: not within {PATIENCE:?}")
}

/// Lets the child get SIGTERM when the thread that starts it ends, so that a killed test leaves nothing behind.
pub fn end_with_parent(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        });
    }
}

/// Path of the program a process runs.
///
/// # Errors
/// When the process is gone.
pub fn executable(pid: u32) -> Result<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).with_context(|| format!("process {pid} is gone"))
}

/// Resident memory of a process.
///
/// # Errors
/// When the process is gone.
pub fn resident_kibibytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} is gone"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Sends a signal to one process.
pub fn send_signal(pid: u32, signal: i32) {
    let pid = libc::pid_t::try_from(pid).expect("the kernel's process ids fit");
    // SAFETY: kill touches no memory.
    unsafe { libc::kill(pid, signal) };
}

/// Ids of the processes whose parent is `pid`.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let is_child = |child: &u32| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // The name in brackets may hold anything; the parent is the second field after it.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parent == Some(pid)
    };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(is_child).collect()
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// When it cannot be started or fails; standard error is in the message.
pub fn output(command: &mut Command) -> Result<String> {
    let words: Vec<OsString> = command.get_args().map(OsString::from).collect();
    let name = format!("{} {}", command.get_program().display(), words.join(" ".as_ref()).display());
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name}: printed something other than text"))
}
