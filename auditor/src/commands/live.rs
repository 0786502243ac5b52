//! Opening live capture: what the kernel lets us have, and what is told when it does not.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    os::fd::AsFd,
    path::Path,
    process,
};

use auditor_abi::record::SocketRow;
use auditor_wire::segment::Timestamp;

use super::{Failure, stages};
use crate::{
    attribution::{Attributor, Sources, listener::SocketSource},
    capture::{Capture, ring::RingSource, syscalls::SyscallSource},
    config::Config,
    kernel::{
        cgroup::{self, CgroupError, CgroupRoot},
        layout::{self, KERNEL_BTF, Layout},
        loader::{self, LoadError, Options, Programs, Ring, SocketLister},
        object,
        plaintext::{self as probes, Losses, Probes},
        plan::{Choice, Hook, HookPlan, NoPlan},
        probe::{Answer, Capabilities, initial_pid_namespace},
        syscalls::{self, ExitProgram},
    },
    memory,
    plaintext::{finder::Finder, source::PlaintextSource},
    policy::unix::sensitive,
};

/// Live capture, attached.
pub(super) struct Live {
    /// The source.
    pub(super) source: Box<dyn Capture>,
    /// It knows the sockets that exist already.
    pub(super) attributor: Attributor,
    /// Containers are looked up in it for as long as capture goes on; `None` where there is no cgroup2.
    pub(super) root: Option<CgroupRoot>,
    /// What captures.
    pub(super) hook: Hook,
    /// The auditor's own process, in the initial pid namespace.
    pub(super) own_pid: u32,
    /// The kernel listed the sockets that exist already.
    pub(super) iterator: bool,
}

const DOCTOR: &str = "`auditor doctor` says what is missing; `auditor replay` works without";

/// Loads and attaches the programs.
pub(super) fn open(config: &Config) -> Result<Live, Failure> {
    let Some(object) = object::object() else {
        return Err(Failure::Unsupported(
            "this auditor was built without its eBPF object and cannot capture live; build it with `cargo xtask build`, \
             or replay a capture file"
                .to_owned(),
        ));
    };
    if let Some((limit, needed)) = memory::too_little(config.capture.ring_bytes) {
        tracing::warn!(
            limit,
            needed,
            "the memory limit of this process's cgroup is below what the auditor needs, and the kernel ends who passes it; raise it \
             (memory.max, MemoryMax= of a systemd unit, resources.limits.memory of a pod) or lower capture.ring_bytes"
        );
    }
    let plan = HookPlan::of(&Capabilities::read(), config.capture.hook)
        .map_err(|error| Failure::Unsupported(format!("{error}; {DOCTOR}")))?;
    for (hook, reason) in &plan.passed_over {
        tracing::info!(%hook, %reason, "not tried");
    }
    let root = cgroup::find();
    match &root {
        Ok(root) => tracing::info!("{}", root.note()),
        Err(error) => tracing::warn!(%error, "containers stay unnamed"),
    }
    let layout = layout(Path::new(KERNEL_BTF));
    // Loading takes a while, in which nobody reads the ring: it comes before anything is attached.
    let exit = if config.unix_sockets { Some(load_syscalls(config)?) } else { None };
    let (programs, ring) = attach(&plan, config, root.as_ref(), &layout)?;
    let (hook, root) = (programs.hook(), root.ok());
    tracing::info!(%hook, "capturing by {}; does not see {}", hook.attaches_to(), hook.misses());
    let path = root.as_ref().map(|root| root.path().to_owned());
    let mut sources = Sources::of_system(path, initial_pid_namespace().is_yes());
    let lister = SocketLister::load(object, layout.offsets());
    let iterator = lister.is_ok();
    match lister {
        Ok(lister) => sources.sockets = Box::new(lister),
        Err(error) => tracing::warn!(%error, "sockets that exist already are looked up with sock_diag instead"),
    }
    let (rows, own_pid) = listed(&mut *sources.sockets);
    let own_pid = own_pid.unwrap_or_else(process::id);
    let mut attributor = Attributor::new(stages::node_networks(config), sources);
    attributor.existing(&rows, now());
    let source = RingSource::new(programs, ring);
    let source = if config.tls_plaintext { plaintext(config, source)? } else { Box::new(source) };
    let source = match exit {
        Some(loaded) => unix_sockets(config, source, loaded),
        None => source,
    };
    memory::give_back();
    Ok(Live { source, attributor, root, hook, own_pid, iterator })
}

/// Loads and attaches the programs of the first hook of the plan that the kernel lets us have. What one that fails had attached is
/// detached before the next is tried.
fn attach(
    plan: &HookPlan,
    config: &Config,
    root: Result<&CgroupRoot, &CgroupError>,
    layout: &Layout,
) -> Result<(Programs, Ring), Failure> {
    let mut failures = Vec::new();
    for hook in &plan.steps {
        match attach_hook(*hook, config, root, layout) {
            Ok(attached) => return Ok(attached),
            Err(error) => {
                if plan.steps.len() > 1 {
                    tracing::warn!(%hook, error, "this hook cannot be used");
                }
                failures.push(format!("{hook}: {error}"));
            }
        }
    }
    Err(Failure::Unsupported(format!("{}; {DOCTOR}", failures.join("\n"))))
}

/// Loads and attaches every program of a hook, or says why not.
fn attach_hook(
    hook: Hook,
    config: &Config,
    root: Result<&CgroupRoot, &CgroupError>,
    layout: &Layout,
) -> Result<(Programs, Ring), String> {
    let (mut programs, ring) = load_hook(hook, config, layout)?;
    let directory = match (hook, root) {
        (Hook::Cgroup, Ok(root)) => {
            let directory = root.as_fd().try_clone_to_owned().map(File::from);
            Some(directory.map_err(|error| format!("the cgroup cannot be opened again: {error}"))?)
        }
        (Hook::Cgroup, Err(error)) => return Err(format!("no cgroup2: {error}")),
        (Hook::Fentry | Hook::Kprobe | Hook::Syscall, _) => None,
    };
    programs.attach(directory.as_ref()).map_err(|error| error.to_string())?;
    for (program, instructions) in programs.verified_instructions() {
        tracing::debug!(%hook, program, instructions, "verified");
    }
    Ok((programs, ring))
}

/// Loads every program of a hook, or says why not.
fn load_hook(hook: Hook, config: &Config, layout: &Layout) -> Result<(Programs, Ring), String> {
    let object = object::of_hook(hook).ok_or("this auditor was built without its eBPF object")?;
    let btf = Path::new(KERNEL_BTF);
    let offsets = match hook {
        Hook::Cgroup => Ok(layout.clone()),
        Hook::Fentry | Hook::Kprobe => layout::for_probes(btf),
        Hook::Syscall => layout::for_calls(btf),
    };
    let offsets = offsets.map_err(|error| error.to_string())?.offsets().to_vec();
    let options = Options {
        ring_bytes: config.capture.ring_bytes,
        request_head_bytes: config.capture.request_head_bytes,
        response_head_bytes: config.capture.response_head_bytes,
        offsets,
        samples: config.cpu_share.is_some(),
    };
    loader::load(object, hook, &options).map_err(|error| error.to_string())
}

/// Whether the programs of a hook load, as far as the kernel can tell before they are attached; they are loaded for a moment.
pub(super) fn try_hook(hook: Hook) -> Answer {
    if let Err(NoPlan(reasons)) = HookPlan::of(&Capabilities::read(), Choice::Only(hook)) {
        return Answer::No(reasons.into_iter().map(|(_, reason)| reason).collect());
    }
    let layout = layout::from_file(Path::new(KERNEL_BTF)).unwrap_or_else(|_| Layout::absent());
    match load_hook(hook, &Config::default(), &layout) {
        Ok(_) => Answer::Yes,
        Err(reason) => Answer::No(reason),
    }
}

/// The source with TLS plaintext besides, where the kernel has what it needs; else what the wire shows stands.
fn plaintext(config: &Config, packets: RingSource) -> Result<Box<dyn Capture>, Failure> {
    let (probes, losses, ring) = match load_plaintext(config)? {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::warn!(%error, "TLS plaintext is not read, and what the wire shows of TLS connections stands; `auditor doctor` says more");
            return Ok(Box::new(packets));
        }
    };
    let started = |source| Failure::System { action: "start a thread", source };
    let finder = Finder::start(probes).map_err(started)?;
    tracing::info!("reading TLS plaintext in the libraries that processes map");
    Ok(Box::new(PlaintextSource::new(packets, ring, losses, finder, config.limits.connections)))
}

/// The source with `AF_UNIX` sockets besides, where the kernel has what it needs; else they are not seen.
fn unix_sockets(
    config: &Config,
    packets: Box<dyn Capture>,
    loaded: Result<(ExitProgram, Ring), LoadError>,
) -> Box<dyn Capture> {
    let attached = loaded.and_then(|(mut program, ring)| program.attach().map(|()| (program, ring)));
    let (program, ring) = match attached {
        Ok(attached) => attached,
        Err(error) => {
            tracing::warn!(%error, "calls over AF_UNIX sockets are not seen; `auditor doctor` says more");
            return packets;
        }
    };
    tracing::info!(
        program = program.name(),
        "reading AF_UNIX sockets; every system call of the node takes a little longer"
    );
    let configured = config.sensitive_sockets.clone();
    let told = Box::new(move |path: &str| sensitive(path, &configured).is_some());
    Box::new(SyscallSource::new(packets, ring, program, told))
}

/// Whether this kernel runs the program at the exit of system calls; it is loaded for a moment, and not attached.
///
/// # Errors
/// Why not.
pub(super) fn reads_unix_sockets() -> Result<(), String> {
    let loaded = load_syscalls(&Config::default()).map_err(|failure| failure.to_string())?;
    loaded.map(drop).map_err(|error| error.to_string())
}

/// Loads the program; the inner error is the kernel's.
fn load_syscalls(config: &Config) -> Result<Result<(ExitProgram, Ring), LoadError>, Failure> {
    let Some(object) = object::syscalls() else {
        return Err(Failure::Unsupported(
            "this auditor was built without its eBPF object for system calls; build it with `cargo xtask build`, or leave \
             unix_sockets off"
                .to_owned(),
        ));
    };
    let layout = layout::for_syscalls(Path::new(KERNEL_BTF)).unwrap_or_else(|error| {
        tracing::warn!(%error, "system calls cannot be followed to sockets");
        Layout::absent_for_syscalls()
    });
    Ok(syscalls::load(object, &options(config, &layout)))
}

/// What the programs of this configuration are loaded with.
fn options(config: &Config, layout: &Layout) -> Options {
    Options {
        ring_bytes: config.capture.ring_bytes,
        request_head_bytes: config.capture.request_head_bytes,
        response_head_bytes: config.capture.response_head_bytes,
        offsets: layout.offsets().to_vec(),
        samples: config.cpu_share.is_some(),
    }
}

/// Whether this kernel runs the programs that read TLS plaintext; they are loaded for a moment.
///
/// # Errors
/// Why not.
pub(super) fn reads_plaintext() -> Result<(), String> {
    let loaded = load_plaintext(&Config::default()).map_err(|failure| failure.to_string())?;
    loaded.map(drop).map_err(|error| error.to_string())
}

/// Whether this kernel runs the program that reads kernel TLS; it is loaded for a moment, and not attached.
///
/// # Errors
/// Says why not.
pub(super) fn reads_kernel_tls() -> Result<(), String> {
    let loaded = load_plaintext(&Config::default()).map_err(|failure| failure.to_string())?;
    // The program loads while its maps are open.
    let (mut probes, _losses, _ring) = loaded.map_err(|error| error.to_string())?;
    probes.load_kernel_tls().map_err(|error| error.to_string())
}

/// Loads the programs; the inner error is the kernel's.
fn load_plaintext(config: &Config) -> Result<Result<(Probes, Losses, Ring), LoadError>, Failure> {
    let Some(object) = object::plaintext() else {
        return Err(Failure::Unsupported(
            "this auditor was built without its eBPF object for TLS plaintext; build it with `cargo xtask build`, or leave \
             tls_plaintext off"
                .to_owned(),
        ));
    };
    let layout = layout::for_plaintext(Path::new(KERNEL_BTF)).unwrap_or_else(|error| {
        tracing::warn!(%error, "TLS plaintext of Go programs is not read");
        Layout::absent_for_plaintext()
    });
    Ok(probes::load(object, &options(config, &layout)))
}

/// The sockets there are, and how the kernel numbers this process, found by a listener of its own among them.
fn listed(source: &mut dyn SocketSource) -> (Vec<SocketRow>, Option<u32>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let port = listener.as_ref().ok().and_then(|listener| Some(listener.local_addr().ok()?.port()));
    let rows = source.sockets().unwrap_or_else(|error| {
        tracing::warn!(%error, "sockets that exist already cannot be listed: their processes are known once they send");
        Vec::new()
    });
    let own_pid = listening_pid(&rows, port);
    (rows, own_pid)
}

/// Who listens on `port` under the auditor's own name: how the kernel numbers this process, which in a pid namespace of its own
/// knows another number.
fn listening_pid(rows: &[SocketRow], port: Option<u16>) -> Option<u32> {
    /// `TCP_LISTEN` (include/net/tcp_states.h).
    const LISTEN: u8 = 10;
    let own_name = fs::read_to_string("/proc/self/comm").ok()?;
    let own_name = own_name.trim_end().as_bytes();
    rows.iter()
        .find(|row| Some(row.local_port) == port && row.state == LISTEN && row.comm.starts_with(own_name))
        .map(|row| row.tgid)
}

fn now() -> Timestamp {
    let nanoseconds = jiff::Timestamp::now().as_nanosecond();
    Timestamp(u64::try_from(nanoseconds).unwrap_or(0))
}

/// Where the kernel's struct members are. Without them capture goes on, and senders stay unnamed.
fn layout(btf: &Path) -> Layout {
    let layout = layout::from_file(btf).unwrap_or_else(|error| {
        tracing::warn!(%error, "senders cannot be named by the kernel");
        Layout::absent()
    });
    for loss in layout.losses() {
        tracing::warn!(?loss, "this kernel does not show everything");
    }
    layout
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;

    #[test]
    fn the_own_process_is_known_by_its_listener() {
        let name = fs::read("/proc/self/comm").expect("own name");
        let mut row = SocketRow::new_zeroed();
        row.tgid = 4711;
        row.local_port = 81;
        row.state = 10;
        let length = name.trim_ascii_end().len();
        row.comm[..length].copy_from_slice(&name[..length]);
        let mut connected = row;
        (connected.state, connected.tgid) = (1, 1);
        let mut other = row;
        (other.comm, other.tgid) = ([b'x'; 16], 2);
        assert_eq!(listening_pid(&[connected, other, row], Some(81)), Some(4711));
        assert_eq!(listening_pid(&[connected, other, row], Some(82)), None);
        assert_eq!(listening_pid(&[row], None), None);
    }
}
