//! gRPC by the stacks that services are written with, each a program of its own in `grpc/`, client and server.
//!
//! All of them understand the same: `serve` prints a port and answers every call until standard input ends; `call CONNECTIONS
//! CONCURRENT` reads calls, one a line, their words separated by tabs, carries them out at an empty line, so many at a time on each
//! of so many connections to a port, which stay open, and then says `done`. A call that ended otherwise than it says is a line
//! before that.
//!
//! A call: `NUMBER PORT SHAPE MESSAGES SIZE ENDING STATUS NAME=VALUE...`. Its path is `/oracle.Calls/NUMBER`; shapes are `unary`,
//! `client`, `server` and `bidi`; so many messages of so many bytes are sent. Endings are `whole`, `first` (cancelled when the first
//! answer has come) and `silent` (cancelled when the next call of the list, which is sent after it, has ended). The status is what
//! the client is to find, 1 for what it cancels.
//!
//! What a server answers stands in `x-answer`, `MODE STATUS COUNT SIZE`. It reads all messages, then sends COUNT answers and the
//! status (`after`); answers each message (`echo`); sends the status without reading (`early`); or sends COUNT answers and then
//! nothing more (`hang`).

use std::{collections::BTreeMap, fmt, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    process::{PATIENCE, Running},
    servers::{interpreter, java_on},
    tools::{build_crate, build_go_with, workspace},
};

pub mod judge;
pub mod plan;

/// Connections of a client to each server.
pub const CONNECTIONS: usize = 2;
/// Calls that a client has open on each connection.
pub const CONCURRENT: usize = 100;

/// The libraries of `Grpc.java`, as Debian names them.
const JARS: &[&str] = &[
    "grpc-api",
    "grpc-context",
    "grpc-core",
    "grpc-netty",
    "netty-buffer",
    "netty-codec",
    "netty-codec-http",
    "netty-codec-http2",
    "netty-common",
    "netty-handler",
    "netty-handler-proxy",
    "netty-resolver",
    "netty-transport",
    "netty-transport-native-unix-common",
    "guava",
    "perfmark-api",
];

/// What a client or a server is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stack {
    /// Python: grpcio.
    Grpcio,
    /// Node: `@grpc/grpc-js`.
    Js,
    /// Go: grpc-go.
    Go,
    /// Java: grpc-java on Netty.
    Java,
    /// Rust: tonic.
    Tonic,
}

impl Stack {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Grpcio, Self::Js, Self::Go, Self::Java, Self::Tonic];

    /// Its program, built where it has to be.
    fn command(self, directory: &Path) -> Result<Command> {
        let tools = workspace().join("target/tools");
        Ok(match self {
            Self::Grpcio => {
                let mut command = interpreter("python3", "grpc/grpcio.py")?;
                command.env("PYTHONPATH", tools.join("python"));
                command
            }
            Self::Js => {
                let mut command = interpreter("node", "grpc/grpc-js.mjs")?;
                command.env("NODE_PATH", tools.join("node/node_modules"));
                command
            }
            // Where Debian puts Go's libraries.
            Self::Go => Command::new(build_go_with("grpc/go", directory, "/usr/share/gocode")?),
            Self::Java => java_on(JARS, "grpc/Grpc.java")?,
            Self::Tonic => Command::new(build_crate("grpc/tonic", "oracle-tonic")?),
        })
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Grpcio => "grpcio",
            Self::Js => "grpc-js",
            Self::Go => "grpc-go",
            Self::Java => "grpc-java",
            Self::Tonic => "tonic",
        })
    }
}

/// A server.
#[derive(Debug)]
pub struct Server {
    /// Held for as long as it is to answer.
    _process: Running,
    /// Where it listens on loopback.
    pub port: u16,
}

impl Server {
    /// Starts it.
    ///
    /// # Errors
    /// When its program is missing or it does not come up.
    pub fn start(stack: Stack, directory: &Path) -> Result<Self> {
        let mut command = stack.command(directory)?;
        command.arg("serve");
        let mut process = Running::start(format!("{stack} server"), command)?;
        let line = process.expect_line()?;
        let port = line.parse().with_context(|| format!("{stack} server: no port: {line:?}"))?;
        Ok(Self { _process: process, port })
    }
}

/// A client, whose connections stay open.
#[derive(Debug)]
pub struct Client {
    stack: Stack,
    process: Running,
}

impl Client {
    /// Starts it.
    ///
    /// # Errors
    /// When its program is missing.
    pub fn start(stack: Stack, directory: &Path) -> Result<Self> {
        let mut command = stack.command(directory)?;
        command.args(["call", &CONNECTIONS.to_string(), &CONCURRENT.to_string()]);
        Ok(Self { stack, process: Running::start(format!("{stack} client"), command)? })
    }

    /// Which it is.
    #[must_use]
    pub fn stack(&self) -> Stack {
        self.stack
    }

    /// Carries out its calls among these, and marks those that do not end as planned.
    ///
    /// # Errors
    /// When it ends, or they take too long.
    pub fn make(&mut self, planned: &mut [plan::Planned]) -> Result<()> {
        let name = self.stack.to_string();
        let mut own: BTreeMap<usize, &mut plan::Planned> =
            planned.iter_mut().filter(|call| call.legs[0].client == name).map(|call| (call.number, call)).collect();
        let mut text: String = own.values().map(|call| call.line()).collect();
        text.push('\n');
        self.process.write(&text)?;
        loop {
            let line = self.process.line(PATIENCE)?.with_context(|| format!("{name} client: it ended"))?;
            if line == "done" {
                return Ok(());
            }
            let number = line.split_once(" ended with ").and_then(|(number, _)| number.parse().ok());
            let call = number.and_then(|number: usize| own.get_mut(&number));
            call.with_context(|| format!("{name} client: {line:?}"))?.strayed = true;
            eprintln!("{name} client: {line}");
        }
    }
}
