//! A node of its own on this machine: a cgroup, a process id namespace and a network namespace. An auditor in it sees what its
//! processes send and receive, and nothing of who is at the other end of the wire.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io,
    net::IpAddr,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio, id},
    sync::Arc,
};

use anyhow::{Context as _, Result};

use crate::{
    namespace::{Namespace, Pair},
    process::{until, with_children_in},
    tools::program,
};

/// The node, and a network namespace at the other end of its wire. Gone when dropped; drop what was started in it before.
#[derive(Debug)]
pub struct Node {
    pair: Pair,
    inside: Namespace,
    _cgroup: Cgroup,
    /// Where cgroup2 is mounted: hidden from the auditor, so that the node's cgroup is the root of all it sees.
    mounts: Vec<PathBuf>,
    /// Process id namespaces: of the node, and of the thread that made it.
    processes: [Arc<File>; 2],
    /// The first process of the namespace, which lives until its standard input ends.
    first: Child,
}

/// A cgroup, removed when dropped.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one of this name, which must be new, below the root of cgroup2.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(name: &str) -> Result<Self> {
        let path = cgroup_mounts()?.first().context("no cgroup2 is mounted")?.join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Its file `cgroup.procs`, to write process ids to.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn members(&self) -> Result<File> {
        let members = self.0.join("cgroup.procs");
        OpenOptions::new().write(true).open(&members).with_context(|| members.display().to_string())
    }
}

impl Node {
    /// Makes it.
    ///
    /// # Errors
    /// When a step fails; what was made is removed.
    pub fn create() -> Result<Self> {
        let mounts = cgroup_mounts()?;
        let pair = Pair::create()?;
        let cgroup = Cgroup::create(&format!("auditor-node-{}", id()))?;
        let inside = pair.server.in_cgroup(cgroup.members()?);
        let (first, processes) = first_process()?;
        Ok(Self { pair, inside, _cgroup: cgroup, mounts, processes, first })
    }

    /// Does something whose [`crate::process::Running`] processes are to be in the node's process id namespace.
    pub fn within<T>(&self, task: impl FnOnce() -> T) -> T {
        let [node, own] = &self.processes;
        with_children_in(node, own, task)
    }

    /// The namespace of programs on the node. They are in its cgroup, too.
    #[must_use]
    pub fn inside(&self) -> Namespace {
        self.inside.clone()
    }

    /// The namespace at the other end of the wire.
    #[must_use]
    pub fn outside(&self) -> &Namespace {
        &self.pair.client
    }

    /// The node's address on the wire, IPv4.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.pair.addresses[0]
    }

    /// Lets a command run on the node and see no more of the machine: its processes in `/proc`, its cgroup as the root.
    ///
    /// # Errors
    /// When a path holds a zero byte.
    pub fn confine(&self, command: &mut Command) -> Result<()> {
        self.inside.enter(command);
        let hidden = self.mounts.iter().map(|mount| CString::new(mount.as_os_str().as_encoded_bytes()));
        let hidden: Vec<CString> = hidden.collect::<Result<_, _>>()?;
        // SAFETY: unshare, mount and umount2 are async-signal-safe, and the paths are strings that end in zero.
        unsafe {
            command.pre_exec(move || {
                let checked = |result| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
                checked(libc::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP))?;
                let (none, private) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
                checked(libc::mount(none, c"/".as_ptr(), none, private, none.cast()))?;
                for mount in &hidden {
                    checked(libc::umount2(mount.as_ptr(), libc::MNT_DETACH))?;
                }
                checked(libc::mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), 0, none.cast()))
            });
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.first.stdin.take());
        drop(self.first.wait());
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Processes that were asked to end may take a moment.
        let removed = until("the cgroup is removed", || match fs::remove_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(None),
            result => Ok(Some(result?)),
        });
        if let Err(error) = removed {
            eprintln!("{}: {error:#}", self.0.display());
        }
    }
}

/// A process id namespace's first process, the namespace, and that of this thread.
fn first_process() -> Result<(Child, [Arc<File>; 2])> {
    let open = |name: &str| File::open(Path::new("/proc/thread-self/ns").join(name)).map(Arc::new);
    let own = open("pid")?;
    // SAFETY: it concerns children of this thread alone, and touches no memory.
    let made = unsafe { libc::unshare(libc::CLONE_NEWPID) } == 0;
    let failed = io::Error::last_os_error();
    anyhow::ensure!(made, "no process id namespace: {failed}");
    let first = Command::new(program("cat")?).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let node = open("pid_for_children");
    // SAFETY: as above. No thread can be started before.
    let back = unsafe { libc::setns(own.as_raw_fd(), libc::CLONE_NEWPID) } == 0;
    let failed = io::Error::last_os_error();
    anyhow::ensure!(back, "no way back to the own process id namespace: {failed}");
    Ok((first?, [node?, own]))
}

/// Where cgroup2 is mounted (proc_pid_mountinfo(5)), the whole tree first.
fn cgroup_mounts() -> Result<Vec<PathBuf>> {
    let text = fs::read("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    Ok(auditor::kernel::cgroup::mounts(&text).into_iter().map(|mount| mount.point).collect())
}
