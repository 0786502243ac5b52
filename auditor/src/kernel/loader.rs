//! Loads and attaches the kernel programs. The only module that uses aya; it decides nothing.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    ops::Deref,
    os::fd::AsFd,
    time::Duration,
};

use auditor_abi::{counters, names, record::SocketRow};
use auditor_wire::segment::SocketId;
use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, MapData, PerCpuArray, ProgramArray, RingBuf},
    programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, Iter, ProgramError},
    sys::Stats,
};
use zerocopy::FromBytes;

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
    losses: PerCpuArray<MapData, u64>,
    spared: HashMap<MapData, u64, u8>,
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

/// Loads the object's maps and the capture programs; nothing is attached yet.
///
/// # Errors
/// When the kernel refuses: no privilege, no such program type, verifier.
pub fn load(object: &[u8], options: &Options) -> Result<(Programs, Ring), LoadError> {
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries(names::MAP_RECORDS, options.ring_bytes)
        .override_global(names::GLOBAL_REQUEST_BUDGET, &options.request_head_bytes, true)
        .override_global(names::GLOBAL_RESPONSE_BUDGET, &options.response_head_bytes, true);
    for (name, offset) in &options.offsets {
        loader.override_global(name, offset, true);
    }
    let mut ebpf = loader.load(object).map_err(object_error)?;
    for program in PROGRAMS {
        cgroup_program(&mut ebpf, program)?.load().map_err(|error| program_error(program, error))?;
    }
    let tail_calls = vec![
        tail_call(&mut ebpf, names::MAP_TLS_EGRESS, names::PROGRAM_TLS_EGRESS)?,
        tail_call(&mut ebpf, names::MAP_TLS_INGRESS, names::PROGRAM_TLS_INGRESS)?,
        tail_call(&mut ebpf, names::MAP_HTTP2_EGRESS, names::PROGRAM_HTTP2_EGRESS)?,
        tail_call(&mut ebpf, names::MAP_HTTP2_INGRESS, names::PROGRAM_HTTP2_INGRESS)?,
    ];
    let ring = take_map(&mut ebpf, names::MAP_RECORDS)?;
    let ring = RingBuf::try_from(ring).map_err(map_error)?;
    let losses = PerCpuArray::try_from(take_map(&mut ebpf, names::MAP_COUNTERS)?).map_err(map_error)?;
    let spared = HashMap::try_from(take_map(&mut ebpf, names::MAP_SPARED)?).map_err(map_error)?;
    Ok((Programs { ebpf, losses, spared, _tail_calls: tail_calls, statistics: None }, Ring(ring)))
}

impl Programs {
    /// Attaches the capture programs to a cgroup2 directory: from then on records come.
    ///
    /// # Errors
    /// When the kernel refuses; then nothing stays attached once `self` is dropped.
    pub fn attach(&mut self, cgroup: &File) -> Result<(), LoadError> {
        for (program, kind) in [
            (names::PROGRAM_INGRESS, CgroupSkbAttachType::Ingress),
            (names::PROGRAM_EGRESS, CgroupSkbAttachType::Egress),
        ] {
            // Links are shared with other programs whatever the mode says, and refuse the flag that asks for it.
            cgroup_program(&mut self.ebpf, program)?
                .attach(cgroup.as_fd(), kind, CgroupAttachMode::Single)
                .map_err(|error| program_error(program, error))?;
        }
        Ok(())
    }

    /// Nothing more is wanted of a client's socket. It hears of it some requests later and says so; one that cannot be told goes on.
    pub fn spare(&mut self, socket: SocketId) {
        if let Err(error) = self.spared.insert(socket.0, 0, 0) {
            tracing::debug!(%error, "a socket cannot be spared");
        }
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
        [names::PROGRAM_EGRESS, names::PROGRAM_INGRESS]
            .into_iter()
            .filter_map(|name| {
                let info = self.ebpf.program(name)?.info().ok()?;
                Some(RunTime { program: name, total: info.run_time(), runs: info.run_count() })
            })
            .collect()
    }

    /// Instructions the verifier walked through for each capture program; `None` before kernel 5.16.
    #[must_use]
    pub fn verified_instructions(&self) -> Vec<(&'static str, Option<u32>)> {
        PROGRAMS
            .into_iter()
            .filter_map(|name| Some((name, self.ebpf.program(name)?.info().ok()?.verified_instruction_count())))
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
        loader.map_max_entries(names::MAP_RECORDS, SMALLEST_RING).map_max_entries(names::MAP_SPARED, 1);
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

/// The capture programs: those that are attached, and those they call.
const PROGRAMS: [&str; 6] = [
    names::PROGRAM_EGRESS,
    names::PROGRAM_INGRESS,
    names::PROGRAM_TLS_EGRESS,
    names::PROGRAM_TLS_INGRESS,
    names::PROGRAM_HTTP2_EGRESS,
    names::PROGRAM_HTTP2_INGRESS,
];

/// Bytes of a ring nobody writes to: the smallest the kernel makes, one page.
const SMALLEST_RING: u32 = 4096;

fn cgroup_program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut CgroupSkb, LoadError> {
    ebpf.program_mut(name)
        .ok_or_else(|| missing(name))?
        .try_into()
        .map_err(|error: ProgramError| program_error(name, error))
}

/// Makes `program` the one that `map` calls.
fn tail_call(ebpf: &mut Ebpf, map: &str, program: &'static str) -> Result<ProgramArray<MapData>, LoadError> {
    let mut array = ProgramArray::try_from(take_map(ebpf, map)?).map_err(map_error)?;
    let failed = |error: ProgramError| program_error(program, error);
    let fd = cgroup_program(ebpf, program)?.fd().map_err(failed)?;
    array.set(0, fd, 0).map_err(map_error)?;
    Ok(array)
}

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

pub(super) fn map_error(error: aya::maps::MapError) -> LoadError {
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
