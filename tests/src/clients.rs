//! The clients, each a separate process: Python, Node, Go, Java, curl and this crate's own Rust client.
//!
//! All but curl speak one small protocol. The client prints `ready`. It then reads rows, their fields separated by tabs:
//!
//!     id group address port mode method target body-length [Name: value]...
//!
//! On `run` it performs the rows since the last `run`: those of one group one after the other on one connection, which it
//! keeps for later rows of the group, the groups at the same time. For each row it prints `id status`, or `id error text`,
//! and `done` after the last.

use std::{collections::HashMap, fmt, net::SocketAddr, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    namespace::Namespace,
    oneshot,
    process::Running,
    servers::{interpreter, java},
    tools::build_go,
};

/// Which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientKind {
    /// `http.client`, and raw sockets for what it cannot do.
    Python,
    /// `node:http` with a keep-alive agent.
    Node,
    /// `net/http`.
    Go,
    /// `java.net.http.HttpClient`.
    Java,
    /// curl, one process per group.
    Curl,
    /// This crate's own: sockets, io_uring, sendfile, splice.
    Rust,
}

impl ClientKind {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Python, Self::Node, Self::Go, Self::Java, Self::Curl, Self::Rust];
}

impl fmt::Display for ClientKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Python => "python",
            Self::Node => "node",
            Self::Go => "go",
            Self::Java => "java",
            Self::Curl => "curl",
            Self::Rust => "rust",
        })
    }
}

/// How a call goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// As the client does it by itself.
    Plain,
    /// With a chunked body.
    Chunked,
    /// With `Expect: 100-continue`.
    Expect,
    /// As HTTP/1.0 with `Connection: keep-alive`.
    Http10,
    /// The head in two writes, split at this offset modulo its length.
    Split(usize),
    /// Every byte in a write of its own.
    Bytes,
    /// Written together with its neighbours of this mode before any answer is read.
    Pipeline,
    /// With lines that end in LF alone.
    BareLf,
    /// With an absolute-form target.
    Absolute,
    /// With `Upgrade`, and other bytes on the connection afterwards.
    Upgrade,
    /// Both `Content-Length` and a chunked body.
    LengthAndChunked,
    /// Sent and received through io_uring.
    Uring,
    /// Sent by sendfile(2).
    Sendfile,
    /// Sent by splice(2).
    Splice,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.pad("plain"),
            Self::Chunked => f.pad("chunked"),
            Self::Expect => f.pad("expect"),
            Self::Http10 => f.pad("http10"),
            Self::Split(at) => write!(f, "split:{at}"),
            Self::Bytes => f.pad("bytes"),
            Self::Pipeline => f.pad("pipeline"),
            Self::BareLf => f.pad("bare-lf"),
            Self::Absolute => f.pad("absolute"),
            Self::Upgrade => f.pad("upgrade"),
            Self::LengthAndChunked => f.pad("length-and-chunked"),
            Self::Uring => f.pad("uring"),
            Self::Sendfile => f.pad("sendfile"),
            Self::Splice => f.pad("splice"),
        }
    }
}

/// One call to make.
#[derive(Clone, Debug)]
pub struct Call {
    /// Unique in the run; the last segment of the path.
    pub id: String,
    /// Calls of one group share one connection, in order.
    pub group: String,
    /// Where to.
    pub address: SocketAddr,
    /// How.
    pub mode: Mode,
    /// Method.
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    /// Bytes of the body.
    pub body: usize,
    /// Headers besides those the client sends by itself.
    pub headers: Vec<(String, String)>,
}

impl Call {
    /// The row a client reads.
    #[must_use]
    pub fn row(&self) -> String {
        let Self { id, group, address, mode, method, target, body, headers } = self;
        let headers: String = headers.iter().map(|(name, value)| format!("\t{name}: {value}")).collect();
        format!("{id}\t{group}\t{}\t{}\t{mode}\t{method}\t{target}\t{body}{headers}\n", address.ip(), address.port())
    }
}

/// What became of a call.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status, or what went wrong.
    pub status: Result<u16, String>,
    /// The process that made the call.
    pub pid: u32,
    /// Its program.
    pub executable: String,
}

/// A running client.
#[derive(Debug)]
pub enum Client {
    /// One process that serves the protocol of this module.
    Process(Running),
    /// A new curl for each group.
    Curl {
        /// Where it runs.
        namespace: Option<Namespace>,
    },
}

impl Client {
    /// Starts a client and waits until it is ready. `rust` is the path of this crate's `oracle-client`.
    ///
    /// # Errors
    /// When its program is missing or it does not come up.
    pub fn start(kind: ClientKind, rust: &Path, directory: &Path, namespace: Option<&Namespace>) -> Result<Self> {
        let mut command = match kind {
            ClientKind::Curl => return Ok(Self::Curl { namespace: namespace.cloned() }),
            ClientKind::Python => interpreter("python3", "clients/client.py")?,
            ClientKind::Node => interpreter("node", "clients/client.mjs")?,
            ClientKind::Go => Command::new(build_go("clients/go", directory)?),
            ClientKind::Java => java("clients/Client.java")?,
            ClientKind::Rust => Command::new(rust),
        };
        if let Some(namespace) = namespace {
            namespace.enter(&mut command);
        }
        let mut process = Running::start(format!("{kind} client"), command)?;
        let ready = process.expect_line()?;
        anyhow::ensure!(ready == "ready", "{kind} client: printed {ready:?} instead of ready");
        Ok(Self::Process(process))
    }

    /// Performs calls and says what became of each, by id.
    ///
    /// # Errors
    /// When the client itself fails; that a call failed is in its answer.
    pub fn run(&mut self, calls: &[&Call]) -> Result<HashMap<String, Answer>> {
        match self {
            Self::Process(process) => run_process(process, calls),
            Self::Curl { namespace } => oneshot::run_curl(calls, namespace.as_ref()),
        }
    }
}

fn run_process(process: &mut Running, calls: &[&Call]) -> Result<HashMap<String, Answer>> {
    let pid = process.pid();
    let executable = process.executable()?.display().to_string();
    let rows: String = calls.iter().map(|call| call.row()).collect();
    process.write(&rows)?;
    process.write("run\n")?;
    let mut answers = HashMap::new();
    loop {
        let line = process.expect_line().with_context(|| outstanding(calls, &answers))?;
        if line == "done" {
            return Ok(answers);
        }
        let (id, rest) = line.split_once('\t').with_context(|| format!("not an answer: {line:?}"))?;
        let status = rest.parse().map_err(|_| rest.trim_start_matches("error\t").to_owned());
        answers.insert(id.to_owned(), Answer { status, pid, executable: executable.clone() });
    }
}

fn outstanding(calls: &[&Call], answers: &HashMap<String, Answer>) -> String {
    let rows: Vec<String> =
        calls.iter().filter(|call| !answers.contains_key(&call.id)).map(|call| call.row()).collect();
    format!(
        "{} of {} calls have no answer, the first:\n{}",
        rows.len(),
        calls.len(),
        rows.first().map_or("", String::as_str)
    )
}
