//! The servers, each a separate process on ephemeral ports: nginx, Python, Node, Go and Java with the routes of
//! `tests/servers/*`.

use std::{
    fmt, fs,
    net::{IpAddr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    namespace::Namespace,
    process::{Running, children, executable},
    tools::{build_go, program, source},
};

/// Body length of nginx's `/small/`, sent by sendfile(2).
pub const SMALL: usize = 13_000;
/// Body length of nginx's `/large/`, sent by sendfile(2).
pub const LARGE: usize = 1_300_000;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerKind {
    /// nginx with two workers.
    Nginx,
    /// `http.server`.
    Python,
    /// `node:http`.
    Node,
    /// `net/http`.
    Go,
    /// `com.sun.net.httpserver`.
    Java,
}

impl ServerKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Nginx, Self::Python, Self::Node, Self::Go, Self::Java];
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nginx => "nginx",
            Self::Python => "python",
            Self::Node => "node",
            Self::Go => "go",
            Self::Java => "java",
        })
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    kind: ServerKind,
    process: Running,
    sockets: Vec<SocketAddr>,
}

/// Where a server runs.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Addresses it listens on, each with a port of its own.
    pub addresses: &'a [IpAddr],
    /// Network namespace; the test's own when absent.
    pub namespace: Option<&'a Namespace>,
    /// A folder for its files.
    pub directory: &'a Path,
    /// What nginx passes calls on to.
    pub backend: Option<SocketAddr>,
}

impl Server {
    /// Starts a server and waits until it listens.
    ///
    /// # Errors
    /// When its program is missing or it does not come up.
    pub fn start(kind: ServerKind, place: Place<'_>) -> Result<Self> {
        match kind {
            ServerKind::Nginx => start_nginx(place),
            ServerKind::Python => Self::script(kind, interpreter("python3", "servers/server.py")?, place),
            ServerKind::Node => Self::script(kind, interpreter("node", "servers/server.mjs")?, place),
            ServerKind::Go => Self::script(kind, Command::new(build_go("servers/go", place.directory)?), place),
            ServerKind::Java => Self::script(kind, java("servers/Server.java")?, place),
        }
    }

    fn script(kind: ServerKind, mut command: Command, place: Place<'_>) -> Result<Self> {
        command.args(place.addresses.iter().map(ToString::to_string));
        if let Some(namespace) = place.namespace {
            namespace.enter(&mut command);
        }
        let mut process = Running::start(format!("{kind} server"), command)?;
        let ports = process.expect_line()?;
        let ports: Vec<u16> = ports.split_whitespace().map(str::parse).collect::<Result<_, _>>().context(ports)?;
        ensure!(ports.len() == place.addresses.len(), "{kind} server: {} ports for {:?}", ports.len(), place.addresses);
        let sockets = place.addresses.iter().zip(ports).map(|(address, port)| (*address, port).into()).collect();
        Ok(Self { kind, process, sockets })
    }

    /// Which server it is.
    #[must_use]
    pub fn kind(&self) -> ServerKind {
        self.kind
    }

    /// Where it listens, in the order of [`Place::addresses`].
    #[must_use]
    pub fn sockets(&self) -> &[SocketAddr] {
        &self.sockets
    }

    /// The processes that answer calls: the server's own, for nginx its workers.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        match self.kind {
            ServerKind::Nginx => children(self.process.pid()),
            _ => vec![self.process.pid()],
        }
    }

    /// The process that listens.
    #[must_use]
    pub fn listener(&self) -> u32 {
        self.process.pid()
    }

    /// The program that answers calls.
    ///
    /// # Errors
    /// When the server ended.
    pub fn executable(&self) -> Result<PathBuf> {
        executable(self.process.pid())
    }
}

/// An interpreter with a script of this crate.
///
/// # Errors
/// When the interpreter is missing.
pub fn interpreter(name: &str, script: &str) -> Result<Command> {
    let mut command = Command::new(program(name)?);
    command.arg(source(script));
    Ok(command)
}

/// Java with a one-file program of this crate.
///
/// # Errors
/// When Java is missing.
pub fn java(file: &str) -> Result<Command> {
    java_on(&[], file)
}

/// The same with libraries, each by its name among Debian's.
///
/// # Errors
/// When Java is missing.
pub fn java_on(libraries: &[&str], file: &str) -> Result<Command> {
    let mut command = Command::new(program("java")?);
    // Short programs on few cores: a small heap, one collector thread, the quick compiler.
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"]);
    let libraries: Vec<String> = libraries.iter().map(|name| format!("/usr/share/java/{name}.jar")).collect();
    if let Some(missing) = libraries.iter().find(|file| !Path::new(file).exists()) {
        bail!("the tests need {missing}, which is not installed; run `cargo xtask setup --tests`");
    }
    if !libraries.is_empty() {
        command.arg("-cp").arg(libraries.join(":"));
    }
    command.arg(source(file));
    Ok(command)
}

fn start_nginx(place: Place<'_>) -> Result<Server> {
    let directory = place.directory.join("nginx");
    fs::create_dir_all(directory.join("files"))?;
    fs::write(directory.join("files/small.bin"), vec![b's'; SMALL])?;
    fs::write(directory.join("files/large.bin"), vec![b'l'; LARGE])?;
    // Without a backend `/via/` is not called; the name must still lead somewhere.
    let backend = place.backend.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9)));
    let place = Place { directory: &directory, backend: Some(backend), ..place };
    let (process, sockets) = nginx("servers/nginx.conf", place)?;
    Ok(Server { kind: ServerKind::Nginx, process, sockets })
}

/// nginx with a configuration of this crate, in which `{listen}`, `{backend}` and `{directory}` stand for what is known only
/// now, and `{socket N}` for one of its addresses. nginx cannot choose a port itself: a free one is looked for, and another one if somebody was faster.
///
/// # Errors
/// When nginx is missing or does not come up.
pub fn nginx(configuration: &str, place: Place<'_>) -> Result<(Running, Vec<SocketAddr>)> {
    for _ in 0..5 {
        if let Some(running) = try_nginx(configuration, place)? {
            return Ok(running);
        }
    }
    bail!("nginx: does not start; see {}", place.directory.join("error.log").display())
}

fn try_nginx(configuration: &str, place: Place<'_>) -> Result<Option<(Running, Vec<SocketAddr>)>> {
    let directory = place.directory;
    let sockets: Vec<SocketAddr> = match place.namespace {
        // Nobody else is in there.
        Some(_) => place.addresses.iter().map(|address| (*address, 8080).into()).collect(),
        None => place.addresses.iter().map(|address| free_port(*address)).collect::<Result<_>>()?,
    };
    let listen: String = sockets.iter().map(|socket| format!("listen {socket}; ")).collect();
    let numbered = |text: String, (number, socket): (usize, &SocketAddr)| {
        text.replace(&format!("{{socket {number}}}"), &socket.to_string())
    };
    let configuration = sockets
        .iter()
        .enumerate()
        .fold(fs::read_to_string(source(configuration))?, numbered)
        .replace("{listen}", listen.trim_end())
        .replace("{backend}", &place.backend.map(|backend| backend.to_string()).unwrap_or_default())
        .replace("{directory}", &directory.display().to_string());
    let file = directory.join("nginx.conf");
    fs::write(&file, configuration)?;
    let mut command = Command::new(program("nginx")?);
    command.arg("-c").arg(&file).arg("-e").arg(directory.join("error.log"));
    if let Some(namespace) = place.namespace {
        namespace.enter(&mut command);
    }
    let mut process = Running::start("nginx server", command)?;
    // The workers are there once it listens on everything.
    while children(process.pid()).len() < 2 {
        if process.wait(Duration::from_millis(10)).is_ok() {
            return Ok(None);
        }
    }
    Ok(Some((process, sockets)))
}

fn free_port(address: IpAddr) -> Result<SocketAddr> {
    Ok(TcpListener::bind((address, 0)).with_context(|| format!("cannot listen on {address}"))?.local_addr()?)
}
