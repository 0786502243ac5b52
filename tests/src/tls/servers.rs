//! The TLS servers, each a separate process with a port for each [`Endpoint`]: nginx, Go, this crate's own with rustls, Node.
//!
//! All but nginx are started with the folder of certificates and the endpoints, print their ports on one line, and later
//! `refused PORT REASON` for each client whose connection ended without a request, with the client's port. To a request they
//! answer one line, its fields separated by tabs, and close the connection:
//!
//!     port-of-the-client version resumed subject
//!
//! `version` is 1.2 or 1.3, `resumed` yes or no, `subject` the common name of the client's certificate, or `-`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    process::{Running, children, until},
    servers::{Place, interpreter, nginx},
    tools::build_go,
};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerKind {
    /// nginx with two workers, on OpenSSL.
    Nginx,
    /// `crypto/tls`.
    Go,
    /// This crate's own, on rustls.
    Rust,
    /// `node:https`.
    Node,
}

impl ServerKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Nginx, Self::Go, Self::Rust, Self::Node];

    /// Whether it looks at the certificates that it asks for. Node does so only when told to refuse bad ones, and then also
    /// refuses those who have none.
    #[must_use]
    pub fn looks(self, mode: Mode) -> bool {
        mode == Mode::Required || (mode == Mode::Optional && self != Self::Node)
    }
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nginx => "nginx",
            Self::Go => "go",
            Self::Rust => "rust",
            Self::Node => "node",
        })
    }
}

/// Whether a server asks for client certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// It does not.
    Off,
    /// It asks, and serves those who have none.
    Optional,
    /// It asks, and serves only those who have a good one.
    Required,
}

/// TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl Version {
    /// The number alone.
    #[must_use]
    pub fn number(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

/// A port of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Whether it asks for client certificates.
    pub mode: Mode,
    /// The only version it speaks.
    pub version: Version,
}

impl Endpoint {
    /// All of them, in the order of a server's ports.
    pub const ALL: [Self; 6] = [
        Self { mode: Mode::Off, version: Version::Tls12 },
        Self { mode: Mode::Off, version: Version::Tls13 },
        Self { mode: Mode::Optional, version: Version::Tls12 },
        Self { mode: Mode::Optional, version: Version::Tls13 },
        Self { mode: Mode::Required, version: Version::Tls12 },
        Self { mode: Mode::Required, version: Version::Tls13 },
    ];
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Mode::Off => "off",
            Mode::Optional => "optional",
            Mode::Required => "required",
        };
        write!(f, "{mode}:{}", self.version.number())
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    kind: ServerKind,
    process: Running,
    ports: Vec<u16>,
    /// The lines it printed after its ports.
    lines: Vec<String>,
}

impl Server {
    /// Starts a server and waits until it listens. `directory` has the certificates; `rust` is the path of this crate's
    /// `oracle-tls`.
    ///
    /// # Errors
    /// When its program is missing or it does not come up.
    pub fn start(kind: ServerKind, directory: &Path, rust: &Path) -> Result<Self> {
        let mut command = match kind {
            ServerKind::Nginx => return start_nginx(directory),
            ServerKind::Node => interpreter("node", "servers/tls/server.mjs")?,
            ServerKind::Go => Command::new(build_go("servers/tls/go", directory)?),
            ServerKind::Rust => {
                let mut command = Command::new(rust);
                command.arg("server");
                command
            }
        };
        command.arg(directory).args(Endpoint::ALL.map(|endpoint| endpoint.to_string()));
        let mut process = Running::start(format!("{kind} TLS server"), command)?;
        let line = process.expect_line()?;
        let ports: Vec<u16> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>().context(line)?;
        ensure!(ports.len() == Endpoint::ALL.len(), "{kind} TLS server: printed {ports:?}");
        Ok(Self { kind, process, ports, lines: Vec::new() })
    }

    /// Which server it is.
    #[must_use]
    pub fn kind(&self) -> ServerKind {
        self.kind
    }

    /// The port of an endpoint.
    ///
    /// # Panics
    /// Never: a server has a port for each.
    #[must_use]
    pub fn port(&self, endpoint: Endpoint) -> u16 {
        let at = Endpoint::ALL.iter().position(|each| *each == endpoint);
        self.ports[at.expect("all endpoints are listed")]
    }

    /// The processes that may answer: the server's own, for nginx also its workers.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let own = self.process.pid();
        if self.kind == ServerKind::Nginx { children(own) } else { vec![own] }
    }

    /// Its program.
    ///
    /// # Errors
    /// When the server ended.
    pub fn executable(&self) -> Result<PathBuf> {
        self.process.executable()
    }

    /// Waits until it has said that it refused the client on this port; what it said is taken.
    ///
    /// # Errors
    /// When it does not say so in time.
    pub fn refusal(&mut self, client_port: u16) -> Result<String> {
        let start = format!("refused {client_port} ");
        until(&format!("{} says it refused port {client_port}", self.kind), || {
            while let Ok(Some(line)) = self.process.line(std::time::Duration::ZERO) {
                self.lines.push(line);
            }
            // The port may be used again by a client that is refused, too.
            let at = self.lines.iter().position(|line| line.starts_with(&start));
            Ok(at.map(|at| self.lines.swap_remove(at)))
        })
    }
}

fn start_nginx(directory: &Path) -> Result<Server> {
    let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST); Endpoint::ALL.len()];
    let place = Place { addresses: &addresses, namespace: None, directory, backend: None };
    let (process, sockets) = nginx("servers/tls/nginx.conf", place)?;
    let ports = sockets.iter().map(SocketAddr::port).collect();
    Ok(Server { kind: ServerKind::Nginx, process, ports, lines: Vec::new() })
}
