//! The TLS clients: curl (OpenSSL), GnuTLS, Go, this crate's own with rustls, Node, Java's HttpClient, Python.
//!
//! All but curl are one process that is started with the folder of certificates and prints `ready`. It reads rows, their fields
//! separated by tabs, and makes one connection with one request for each, one after the other:
//!
//!     id group port certificate
//!
//! `certificate` names files in the folder, or is `-`. Connections of one group share TLS sessions. For each row it prints one
//! of
//!
//!     id own-port status resumed answer
//!     id own-port error text
//!
//! with what the server answered ([`super::servers`]), and `resumed` as yes, no, or `-` where the client cannot tell. Where
//! `SSLKEYLOGFILE` is set, all but Java add the keys of their connections to that file.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    oneshot,
    process::Running,
    servers::interpreter,
    tls::plan::Planned,
    tools::{build_go, program, source},
};

/// Which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientKind {
    /// curl on OpenSSL, one process per connection.
    Curl,
    /// GnuTLS's library.
    Gnutls,
    /// `crypto/tls`.
    Go,
    /// This crate's own, on rustls.
    Rust,
    /// `node:tls`, on OpenSSL.
    Node,
    /// `java.net.http.HttpClient`, on JSSE.
    Java,
    /// `ssl`, on OpenSSL.
    Python,
}

impl ClientKind {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Curl, Self::Gnutls, Self::Go, Self::Rust, Self::Node, Self::Java, Self::Python];

    /// Whether it can resume the session of an earlier connection: curl keeps none from one process to the next.
    #[must_use]
    pub fn resumes(self) -> bool {
        self != Self::Curl
    }
}

impl fmt::Display for ClientKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Curl => "curl",
            Self::Gnutls => "gnutls",
            Self::Go => "go",
            Self::Rust => "rust",
            Self::Node => "node",
            Self::Java => "java",
            Self::Python => "python",
        })
    }
}

/// What a client says of a connection.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The client's process.
    pub pid: u32,
    /// Its program.
    pub executable: String,
    /// The port it connected from. Once a connection was reset its port may be used again.
    pub port: u16,
    /// When it was told to connect.
    pub began: SystemTime,
    /// Whether the session was resumed, where the client can tell.
    pub resumed: Option<bool>,
    /// The answer, or what went wrong.
    pub answer: Result<Answer, String>,
}

/// What a server says of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// The client's port.
    pub port: u16,
    /// TLS version, as 1.2.
    pub version: String,
    /// Whether the session was resumed.
    pub resumed: bool,
    /// Common name of the client's certificate, or `-`.
    pub subject: String,
}

/// A running client.
#[derive(Debug)]
pub enum Client {
    /// One process that serves the protocol of this module.
    Process(Running),
    /// A new curl for each connection.
    Curl {
        /// The folder of certificates.
        directory: PathBuf,
    },
}

impl Client {
    /// Starts a client and waits until it is ready. `directory` has the certificates; `rust` is the path of this crate's
    /// `oracle-tls`.
    ///
    /// # Errors
    /// When its program is missing or it does not come up.
    pub fn start(kind: ClientKind, directory: &Path, rust: &Path) -> Result<Self> {
        let mut command = match kind {
            ClientKind::Curl => return Ok(Self::Curl { directory: directory.to_owned() }),
            ClientKind::Gnutls => interpreter("python3", "clients/tls/gnutls.py")?,
            ClientKind::Python => interpreter("python3", "clients/tls/client.py")?,
            ClientKind::Node => node(&key_log(directory))?,
            ClientKind::Go => Command::new(build_go("clients/tls/go", directory)?),
            ClientKind::Java => java()?,
            ClientKind::Rust => {
                let mut command = Command::new(rust);
                command.arg("client");
                command
            }
        };
        command.arg(directory).env("SSLKEYLOGFILE", key_log(directory));
        let mut process = Running::start(format!("{kind} TLS client"), command)?;
        let ready = process.expect_line()?;
        ensure!(ready == "ready", "{kind} TLS client: printed {ready:?} instead of ready");
        Ok(Self::Process(process))
    }

    /// Makes connections, each to its port, and gives what the client says of each, by id.
    ///
    /// # Errors
    /// When the client itself fails; that a connection failed is in what it says.
    pub fn run(&mut self, planned: &[(&Planned, u16)]) -> Result<HashMap<String, Seen>> {
        let mut all = HashMap::new();
        for (planned, port) in planned {
            let seen = match self {
                Self::Process(process) => through(process, planned, *port)?,
                Self::Curl { directory } => by_curl(directory, planned, *port)?,
            };
            all.insert(planned.id.clone(), seen);
        }
        Ok(all)
    }
}

/// Where the clients of a run log their keys.
#[must_use]
pub fn key_log(directory: &Path) -> PathBuf {
    directory.join("keys.log")
}

fn node(key_log: &Path) -> Result<Command> {
    let mut command = Command::new(program("node")?);
    // It warns of the key log.
    command
        .arg(format!("--tls-keylog={}", key_log.display()))
        .arg("--no-warnings")
        .arg(source("clients/tls/client.mjs"));
    Ok(command)
}

fn java() -> Result<Command> {
    let mut command = Command::new(program("java")?);
    // As in `servers::java`; and the kernel lists its sockets in one place.
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-Djava.net.preferIPv4Stack=true"]);
    command.arg(source("clients/tls/Client.java"));
    Ok(command)
}

fn through(process: &mut Running, planned: &Planned, port: u16) -> Result<Seen> {
    let began = SystemTime::now();
    process.write(&planned.row(port))?;
    let line = process.expect_line().with_context(|| planned.to_string())?;
    let fields: Vec<&str> = line.split('\t').collect();
    let [id, own, status, rest @ ..] = &fields[..] else { anyhow::bail!("{planned}: not an answer: {line:?}") };
    ensure!(*id == planned.id, "{planned}: an answer to another: {line:?}");
    let (resumed, answer) = match (*status, rest) {
        ("error", text) => (None, Err(text.join(" "))),
        (status, [resumed, answer @ ..]) => (flag(resumed), Ok(parse(status, answer).with_context(|| line.clone())?)),
        _ => anyhow::bail!("{planned}: not an answer: {line:?}"),
    };
    let executable = process.executable()?.display().to_string();
    Ok(Seen { pid: process.pid(), executable, port: own.parse().context(line)?, began, resumed, answer })
}

fn by_curl(directory: &Path, planned: &Planned, port: u16) -> Result<Seen> {
    let file = |name: &str| directory.join(name).display().to_string();
    let mut lines = vec![
        format!("url = \"https://localhost:{port}/\"\nresolve = \"localhost:{port}:127.0.0.1\""),
        format!("cacert = \"{}\"\nsilent\nmax-time = 20", file(crate::tls::certificates::AUTHORITY)),
        "write-out = \"%{local_port}\\t%{http_code}\\t%{errormsg}\"".to_owned(),
    ];
    if planned.certificate.is_given() {
        let name = planned.certificate.name();
        lines.push(format!("cert = \"{}\"", file(&format!("{name}.pem"))));
        lines.push(format!("key = \"{}\"", file(&format!("{name}.key"))));
    }
    let mut command = Command::new(program("curl")?);
    command.args(["--disable", "--config", "-"]).env("SSLKEYLOGFILE", key_log(directory));
    let began = SystemTime::now();
    let done = oneshot::feed(command, &lines.join("\n"))?;
    let (body, report) = done.output.rsplit_once('\n').unwrap_or(("", &done.output));
    let report: Vec<&str> = report.splitn(3, '\t').collect();
    let [own, status, error] = report[..] else { anyhow::bail!("{planned}: curl printed {:?}", done.output) };
    let answer = match status {
        "000" => Err(error.to_owned()),
        status => Ok(parse(status, &body.split('\t').collect::<Vec<_>>()).with_context(|| done.output.clone())?),
    };
    let port = own.parse().with_context(|| done.output.clone())?;
    Ok(Seen { pid: done.pid, executable: done.executable, port, began, resumed: None, answer })
}

fn parse(status: &str, fields: &[&str]) -> Result<Answer> {
    let [port, version, resumed, subject] = fields else { anyhow::bail!("not a server's answer: {fields:?}") };
    Ok(Answer {
        status: status.parse()?,
        port: port.parse()?,
        version: (*version).to_owned(),
        resumed: flag(resumed).context("neither yes nor no")?,
        subject: (*subject).to_owned(),
    })
}

fn flag(word: &str) -> Option<bool> {
    match word {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}
