//! Loads and attaches the kernel programs of a hook. This module and those of `kernel::hooks` alone use aya; they decide nothing.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    ops::Deref,
    time::Duration,
};

use auditor_abi::{counters, names, probes, record::SocketRow};
use auditor_wire::segment::{Segment, SocketId};
use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, MapData, MapError, PerCpuArray, ProgramArray, RingBuf},
    programs::{Iter, ProgramError},
    sys::Stats,
};
use zerocopy::FromBytes;

use super::{
    hooks,
    plan::Hook,
    sampling::{Loaded, Sampling},
};
use crate::attribution::listener::SocketSource;

/// What the programs are loaded with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of the ring buffer, bytes: a power of two, a multiple of the page size.
    pub ring_bytes: u32,
    /// Bytes of a request head that are copied at most.
    pub request_head_bytes: u32,
    /// Bytes of a response head that are copied at most.
    pub response_head_bytes: u32,
    /// Struct offsets by the name of their global ([`auditor_abi::layout`]).
    pub offsets: Vec<(&'static str, u32)>,
    /// Calls that repeat may be passed over, should that be asked for.
    pub samples: bool,
}

/// Why the programs could not be brought to work.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel or the object does not have what is needed.
    #[error("eBPF object: {message}")]
    Object {
        /// What aya says.
        message: String,
    },
    /// The kernel did not let us.
    #[error("{what}: {source}; run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    Permission {
        /// The step that failed.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The verifier refused a program.
    #[error("program {program}: the kernel refused it: {source}\n{log}")]
    Verifier {
        /// The program.
        program: &'static str,
        /// The kernel's answer.
        source: io::Error,
        /// The end of the verifier's log.
        log: String,
    },
    /// A program could not be loaded or attached for another reason.
    #[error("program {program}: {message}")]
    Program {
        /// The program.
        program: &'static str,
        /// What went wrong.
        message: String,
    },
}

impl LoadError {
    /// Whether the remedy is a privilege.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::Permission { .. })
    }
}

/// The loaded programs. Dropping them detaches everything.
pub struct Programs {
    ebpf: Ebpf,
    hook: Hook,
    losses: PerCpuArray<MapData, u64>,
    /// `None` where the programs spare nobody.
    spared: Option<HashMap<MapData, u64, u8>>,
    /// `None` where no calls are ever passed over.
    sampling: Option<Sampling>,
    /// The kernel empties a program array once nobody has it open.
    _tail_calls: Vec<ProgramArray<MapData>>,
    /// Keeps the kernel's run-time statistics on while it lives.
    statistics: Option<std::os::fd::OwnedFd>,
}

/// Run time of one program since it was loaded, while statistics are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunTime {
    /// The program.
    pub program: &'static str,
    /// Time spent in it; includes some 50 ns of clock reading a run.
    pub total: Duration,
    /// How often it ran.
    pub runs: u64,
}

/// The ring buffer, to be read by one thread.
pub struct Ring(pub(super) RingBuf<MapData>);

impl Ring {
    /// The next record, if there is one; its memory is given back to the kernel when it is dropped.
    pub fn next_record(&mut self) -> Option<impl Deref<Target = [u8]>> {
        self.0.next()
    }
}

/// Loads the maps and every program of a hook from its object; nothing is attached yet.
///
/// # Errors
/// When the kernel refuses: no privilege, no such program type, verifier.
pub fn load(object: &[u8], hook: Hook, options: &Options) -> Result<(Programs, Ring), LoadError> {
    if hook != Hook::Fentry {
        return load_with(object, hook, options, &[]);
    }
    // Whether programs may ask for a socket's cookie is found out by asking.
    let asks = [(probes::GLOBAL_COOKIE_HELPER, 1)];
    match load_with(object, hook, options, &asks) {
        Err(LoadError::Verifier { log, .. }) if log.contains(COOKIE_HELPER) => load_with(object, hook, options, &[]),
        loaded => loaded,
    }
}

/// How the verifier names `bpf_get_socket_cookie` (include/uapi/linux/bpf.h) when it refuses it.
const COOKIE_HELPER: &str = "#46";

fn load_with(
    object: &[u8],
    hook: Hook,
    options: &Options,
    more: &[(&'static str, u32)],
) -> Result<(Programs, Ring), LoadError> {
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries(names::MAP_RECORDS, options.ring_bytes)
        .override_global(names::GLOBAL_REQUEST_BUDGET, &options.request_head_bytes, true)
        .override_global(names::GLOBAL_RESPONSE_BUDGET, &options.response_head_bytes, true);
    let sampling = Loaded::new(options.samples)?;
    if hook == Hook::Cgroup {
        sampling.tell(&mut loader);
    }
    for (name, value) in options.offsets.iter().chain(more) {
        loader.override_global(name, value, true);
    }
    let mut ebpf = loader.load(object).map_err(object_error)?;
    let mut tail_calls = Vec::new();
    match hook {
        Hook::Cgroup => tail_calls = hooks::cgroup::load(&mut ebpf)?,
        Hook::Fentry => hooks::probes::load_fentry(&mut ebpf)?,
        Hook::Kprobe => hooks::probes::load_kprobe(&mut ebpf)?,
        Hook::Syscall => hooks::calls::load(&mut ebpf)?,
    }
    let ring = take_map(&mut ebpf, names::MAP_RECORDS)?;
    let ring = RingBuf::try_from(ring).map_err(map_error)?;
    let losses = PerCpuArray::try_from(take_map(&mut ebpf, names::MAP_COUNTERS)?).map_err(map_error)?;
    let sampling = match hook {
        Hook::Cgroup => sampling.maps(&mut ebpf)?,
        Hook::Fentry | Hook::Kprobe | Hook::Syscall => None,
    };
    let spared = match hook {
        Hook::Cgroup => Some(HashMap::try_from(take_map(&mut ebpf, names::MAP_SPARED)?).map_err(map_error)?),
        Hook::Fentry | Hook::Kprobe | Hook::Syscall => None,
    };
    Ok((Programs { ebpf, hook, losses, spared, sampling, _tail_calls: tail_calls, statistics: None }, Ring(ring)))
}

impl Programs {
    /// The hook they are of.
    #[must_use]
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// Attaches the programs: from then on records come. [`Hook::Cgroup`] takes a cgroup2 directory, the others none.
    ///
    /// # Errors
    /// When the kernel refuses; then nothing stays attached once `self` is dropped.
    pub fn attach(&mut self, cgroup: Option<&File>) -> Result<(), LoadError> {
        match (self.hook, cgroup) {
            (Hook::Cgroup, Some(cgroup)) => hooks::cgroup::attach(&mut self.ebpf, cgroup),
            (Hook::Cgroup, None) => {
                Err(LoadError::Program { program: names::PROGRAM_EGRESS, message: "no cgroup2 directory".into() })
            }
            (Hook::Fentry, _) => hooks::probes::attach_fentry(&mut self.ebpf),
            (Hook::Kprobe, _) => hooks::probes::attach_kprobe(&mut self.ebpf),
            (Hook::Syscall, _) => hooks::calls::attach(&mut self.ebpf),
        }
    }

    /// Nothing more is wanted of a client's socket. It hears of it some requests later and says so; one that cannot be told goes on.
    pub fn spare(&mut self, socket: SocketId) {
        if let Some(spared) = &mut self.spared
            && let Err(error) = spared.insert(socket.0, 0, 0)
        {
            tracing::debug!(%error, "a socket cannot be spared");
        }
    }

    /// Of calls that repeat, one of so many is copied from now on. Whether the programs can do that: they were loaded for it.
    pub fn sample(&mut self, one_of: u32) -> bool {
        self.sampling.as_mut().is_some_and(|sampling| sampling.sample(one_of))
    }

    /// What the programs know a request by that a segment carries alone, while calls are sampled.
    #[must_use]
    pub fn repeat(&self, segment: &Segment<'_>) -> Option<u64> {
        self.sampling.as_ref()?.repeat(segment)
    }

    /// Requests of a socket that are this one may be passed over until then on the programs' clock, nanoseconds, where they are
    /// answered with this status.
    pub fn approve(&mut self, socket: SocketId, request: u64, status: u16, until_ns: u64) {
        if let Some(sampling) = &mut self.sampling {
            sampling.approve(socket, request, status, until_ns);
        }
    }

    /// None of a socket's calls may be passed over any more.
    pub fn forbid(&mut self, socket: SocketId) {
        if let Some(sampling) = &mut self.sampling {
            sampling.forbid(socket);
        }
    }

    /// No calls may be passed over any more but those that are approved from now on.
    pub fn withdraw(&mut self) {
        if let Some(sampling) = &mut self.sampling {
            sampling.withdraw();
        }
    }

    /// Calls that were passed over since the programs were loaded.
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.sampling.as_ref().map_or(0, Sampling::passed_over)
    }

    /// Losses the programs have counted, by reason.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn losses(&self) -> Result<Vec<(&'static str, u64)>, LoadError> {
        counters::LOSSES
            .iter()
            .map(|(index, reason)| {
                let values = self.losses.get(index, 0).map_err(map_error)?;
                Ok((*reason, values.iter().sum()))
            })
            .collect()
    }

    /// Switches the kernel's run-time statistics on (they cost some 50 ns a run); they go off with `self`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enable_statistics(&mut self) -> Result<(), LoadError> {
        let fd = aya::sys::enable_stats(Stats::RunTime)
            .map_err(|error| LoadError::Permission { what: "run-time statistics".into(), source: error.io_error })?;
        self.statistics = Some(fd);
        Ok(())
    }

    /// Run time of each capture program, with those it calls; zero while statistics are off.
    #[must_use]
    pub fn run_times(&self) -> Vec<RunTime> {
        hooks::attached(self.hook)
            .iter()
            .filter_map(|name| {
                let info = self.ebpf.program(name)?.info().ok()?;
                Some(RunTime { program: name, total: info.run_time(), runs: info.run_count() })
            })
            .collect()
    }

    /// Instructions the verifier walked through for each capture program; `None` before kernel 5.16.
    #[must_use]
    pub fn verified_instructions(&self) -> Vec<(&'static str, Option<u32>)> {
        hooks::programs(self.hook)
            .iter()
            .filter_map(|name| Some((*name, self.ebpf.program(name)?.info().ok()?.verified_instruction_count())))
            .collect()
    }
}

/// Lists the node's TCP sockets, of every network namespace, through `iter/task_file`.
pub struct SocketLister(Ebpf);

impl SocketLister {
    /// Loads the iterator.
    ///
    /// # Errors
    /// When the kernel has no such iterator, no BTF, or does not allow it; sock_diag and procfs stand in.
    pub fn load(object: &[u8], offsets: &[(&'static str, u32)]) -> Result<Self, LoadError> {
        let name = names::PROGRAM_SOCKETS;
        let failed = |error: ProgramError| program_error(name, error);
        let btf = aya::Btf::from_sys_fs()
            .map_err(|error| LoadError::Program { program: name, message: error.to_string() })?;
        let mut loader = EbpfLoader::new();
        // The object's ring and what it is told of sockets are not used here.
        loader
            .map_max_entries(names::MAP_RECORDS, SMALLEST_RING)
            .map_max_entries(names::MAP_SPARED, 1)
            .map_max_entries(names::MAP_APPROVED, 1);
        for (name, offset) in offsets {
            loader.override_global(name, offset, true);
        }
        let mut ebpf = loader.load(object).map_err(object_error)?;
        let program: &mut Iter = ebpf.program_mut(name).ok_or_else(|| missing(name))?.try_into().map_err(failed)?;
        program.load("task_file", &btf).map_err(failed)?;
        Ok(Self(ebpf))
    }

    /// The sockets that are open now, once for each process that has them open.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn list(&mut self) -> Result<Vec<SocketRow>, LoadError> {
        let name = names::PROGRAM_SOCKETS;
        let failed = |error: ProgramError| program_error(name, error);
        let said = |message: String| LoadError::Program { program: name, message };
        let program: &mut Iter = self.0.program_mut(name).ok_or_else(|| missing(name))?.try_into().map_err(failed)?;
        let link = program.attach().map_err(failed)?;
        let link = program.take_link(link).map_err(failed)?;
        let mut file = link.into_file().map_err(|error| said(error.to_string()))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| said(error.to_string()))?;
        let rows = bytes.chunks_exact(size_of::<SocketRow>());
        Ok(rows.filter_map(|row| SocketRow::read_from_bytes(row).ok()).collect())
    }
}

impl fmt::Debug for SocketLister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SocketLister")
    }
}

impl SocketSource for SocketLister {
    fn sockets(&mut self) -> io::Result<Vec<SocketRow>> {
        self.list().map_err(io::Error::other)
    }
}

/// Bytes of a ring nobody writes to: the smallest the kernel makes, one page.
const SMALLEST_RING: u32 = 4096;

pub(super) fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map, LoadError> {
    ebpf.take_map(name).ok_or_else(|| LoadError::Object { message: format!("map {name} is not in it") })
}

pub(super) fn missing(program: &'static str) -> LoadError {
    LoadError::Program { program, message: "it is not in the eBPF object; rebuild it".into() }
}

pub(super) fn object_error(error: aya::EbpfError) -> LoadError {
    if let Some(source) = permission(&error) {
        return LoadError::Permission { what: "creating the maps".into(), source };
    }
    LoadError::Object { message: chain(&error) }
}

pub(super) fn map_error(error: MapError) -> LoadError {
    LoadError::Object { message: chain(&error) }
}

/// Bytes of the verifier's log that are shown: its end says what is wrong.
const LOG_TAIL: usize = 2000;

pub(super) fn program_error(program: &'static str, error: ProgramError) -> LoadError {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            // Without the privilege the verifier never runs.
            if io_error.kind() == io::ErrorKind::PermissionDenied && log.trim().is_empty() {
                return LoadError::Permission { what: format!("loading program {program}"), source: io_error };
            }
            let mut start = log.len().saturating_sub(LOG_TAIL);
            while !log.is_char_boundary(start) {
                start += 1;
            }
            LoadError::Verifier { program, source: io_error, log: log[start..].to_owned() }
        }
        other => match permission(&other) {
            Some(source) => LoadError::Permission { what: format!("program {program}"), source },
            None => LoadError::Program { program, message: chain(&other) },
        },
    }
}

/// The permission error at the bottom of an error, if that is what it is.
fn permission(error: &(dyn std::error::Error + 'static)) -> Option<io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io_error) = error.downcast_ref::<io::Error>()
            && io_error.kind() == io::ErrorKind::PermissionDenied
        {
            return Some(io_error.raw_os_error().map_or_else(|| io_error.kind().into(), io::Error::from_raw_os_error));
        }
        cause = error.source();
    }
    None
}

/// An error with its causes, which aya leaves out of the messages.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}
