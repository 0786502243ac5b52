//! Two network namespaces joined by a veth pair; gone when dropped.

use std::{
    fs::{self, File},
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::Path,
    process::{Command, Stdio, id},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context as _, Result, bail};

use crate::{process::output, tools::program};

/// A service's address, which only a DNAT rule of the client's namespace leads anywhere. No link has 10.236 or above.
pub const SERVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 250, 0, 10));

/// Bytes of the longest packet without payload: an IPv6 header, and TCP's with all options.
const LONGEST_BARE: u32 = 40 + 60;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A network namespace to start processes in.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
    file: Arc<File>,
    /// `cgroup.procs` of the cgroup its processes go to, where they go to one.
    cgroup: Option<Arc<File>>,
}

/// Namespaces `client` and `server`, joined by a veth pair. Removed when dropped.
#[derive(Debug)]
pub struct Pair {
    /// Where clients run.
    pub client: Namespace,
    /// Where servers run.
    pub server: Namespace,
    /// The servers' addresses, IPv4 and IPv6; other runs have others.
    pub addresses: [IpAddr; 2],
    _guard: Guard,
}

/// Deletes the namespaces it knows; with a namespace its end of the veth pair goes.
#[derive(Debug, Default)]
struct Guard(Vec<String>);

impl Drop for Guard {
    fn drop(&mut self) {
        for name in &self.0 {
            if let Err(error) = ip(&["netns", "delete", name]) {
                eprintln!("{error:#}");
            }
        }
    }
}

impl Namespace {
    fn create(name: String, guard: &mut Guard) -> Result<Self> {
        ip(&["netns", "add", &name])?;
        guard.0.push(name.clone());
        let path = Path::new("/run/netns").join(&name);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let namespace = Self { name, file: Arc::new(file), cgroup: None };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    fn ip(&self, words: &[&str]) -> Result<String> {
        ip(&[&["-netns", &self.name], words].concat())
    }

    /// The same namespace for processes of a cgroup, told by its file `cgroup.procs`.
    #[must_use]
    pub fn in_cgroup(&self, processes: File) -> Self {
        Self { cgroup: Some(Arc::new(processes)), ..self.clone() }
    }

    /// Lets a command run in this namespace.
    pub fn enter(&self, command: &mut Command) {
        let (file, cgroup) = (Arc::clone(&self.file), self.cgroup.clone());
        // SAFETY: setns and write are async-signal-safe; the descriptors stay open as long as the closure.
        unsafe {
            command.pre_exec(move || {
                if let Some(cgroup) = &cgroup {
                    // 0 is the process that writes.
                    (&**cgroup).write_all(b"0")?;
                }
                match libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
    }

    /// Moves the calling thread into this namespace; sockets that it makes belong there.
    ///
    /// # Errors
    /// When that is not permitted.
    pub fn enter_thread(&self) -> Result<()> {
        // SAFETY: the descriptor is open.
        let status = unsafe { libc::setns(self.file.as_raw_fd(), libc::CLONE_NEWNET) };
        if status != 0 {
            bail!("cannot enter the namespace {}: {}", self.name, std::io::Error::last_os_error());
        }
        Ok(())
    }

    /// Loses one of so many packets that come in, at random; not those of connections that begin or end, or only acknowledge.
    ///
    /// # Errors
    /// When nft refuses that.
    pub fn lose(&self, one_of: u32) -> Result<()> {
        let chain = "type filter hook input priority 0; policy accept;";
        let rule = format!("meta length > {LONGEST_BARE} numgen random mod {one_of} 0 drop");
        self.nft(&format!("table inet losses {{\nchain input {{\n{chain}\n{rule}\n}}\n}}"))
    }

    /// Loads nftables rules in this namespace.
    ///
    /// # Errors
    /// When nft refuses them.
    pub fn nft(&self, rules: &str) -> Result<()> {
        let mut command = Command::new(program("nft")?);
        command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        self.enter(&mut command);
        let mut child = command.spawn().context("cannot start nft")?;
        child.stdin.take().context("standard input is piped")?.write_all(rules.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("nft: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

impl Pair {
    /// Makes both namespaces and joins them.
    ///
    /// # Errors
    /// When a step fails; what was made is removed.
    pub fn create() -> Result<Self> {
        let prefix = format!("auditor-{}-{}", id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut guard = Guard::default();
        let client = Namespace::create(format!("{prefix}-client"), &mut guard)?;
        let server = Namespace::create(format!("{prefix}-server"), &mut guard)?;
        client.ip(&["link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns", &server.name])?;
        let number = u16::try_from(id() % 60_000)?;
        let [high, low] = number.to_be_bytes();
        for (namespace, last) in [(&client, 1), (&server, 2)] {
            let (v4, v6) = (format!("10.{high}.{low}.{last}/24"), format!("fd00:{number:x}::{last}/64"));
            namespace.ip(&["address", "add", &v4, "dev", "veth0"])?;
            namespace.ip(&["address", "add", &v6, "dev", "veth0", "nodad"])?;
            namespace.ip(&["link", "set", "veth0", "up"])?;
        }
        let v4 = Ipv4Addr::new(10, high, low, 2);
        let v6 = Ipv6Addr::new(0xfd00, number, 0, 0, 0, 0, 0, 2);
        // The service's address is nowhere on a link: the route only has to lead out for DNAT to be asked.
        client.ip(&["route", "add", &SERVICE.to_string(), "via", &v4.to_string()])?;
        Ok(Self { client, server, addresses: [v4.into(), v6.into()], _guard: guard })
    }
}

/// Moves the calling thread, and what it starts, to a namespace whose loopback carries packets as a network does, and loses one of so
/// many.
///
/// # Errors
/// When that is not permitted.
pub fn enter_lossy(one_of: u32) -> Result<Pair> {
    let pair = Pair::create()?;
    // What a socket sends goes as one packet of up to 64 KiB else.
    pair.client.ip(&["link", "set", "lo", "mtu", "1500", "gso_max_segs", "1"])?;
    pair.client.lose(one_of)?;
    pair.client.enter_thread()?;
    Ok(pair)
}

/// How many TCP segments were sent again by whoever is in the calling thread's namespace.
///
/// # Errors
/// When `/proc` does not tell.
pub fn resent() -> Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/net/snmp").context("cannot read the namespace's counters")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = lines.next().zip(lines.next()).context("no counters of TCP")?;
    let found = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "RetransSegs");
    Ok(found.context("no RetransSegs")?.1.parse()?)
}

fn ip(words: &[&str]) -> Result<String> {
    output(Command::new(program("ip")?).args(words))
}
