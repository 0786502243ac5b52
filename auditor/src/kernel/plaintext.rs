//! Loads the uprobes on TLS libraries and attaches them where it is told. It decides nothing.

use std::{io, path::Path};

use auditor_abi::{layout::ABSENT, names, plaintext as abi};
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, MapData, PerCpuArray, ProgramArray, RingBuf},
    programs::{
        BtfTracePoint, ProgramError, UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLinkId, UProbeScope},
    },
    util::nr_cpus,
};
use zerocopy::IntoBytes as _;

use super::loader::{LoadError, Options, Ring, RunTime, map_error, missing, object_error, program_error, take_map};

/// The instruction set whose registers the programs read.
pub const ARCHITECTURE: &str = "x86_64";

type LibraryRow = [u8; size_of::<abi::Library>()];

/// How the verifier names `bpf_get_attach_cookie` (include/uapi/linux/bpf.h) when it refuses it: `unknown` where the kernel has never
/// heard of it.
const COOKIE_HELPER: [&str; 4] = [
    "func unknown#174",
    "unknown func bpf_get_attach_cookie#174",
    "cannot use helper bpf_get_attach_cookie#174",
    "func bpf_get_attach_cookie#174 not supported",
];

/// The loaded programs. Dropping them detaches everything.
pub struct Probes {
    ebpf: Ebpf,
    /// A struct member that kernel TLS cannot be read without and that the kernel's BTF does not tell.
    absent: Option<&'static str>,
    libraries: Array<MapData, LibraryRow>,
    /// The kernel empties it when nobody holds it any more.
    _tail_call: ProgramArray<MapData>,
}

/// What the programs have lost.
pub struct Losses(PerCpuArray<MapData, u64>);

/// One probe, attached.
pub struct Attached {
    program: &'static str,
    link: UProbeLinkId,
}

/// Where a probe goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// The program.
    pub program: &'static str,
    /// Offset in the file, bytes.
    pub offset: u64,
    /// What the program is told ([`auditor_abi::plaintext`]): the kind of call.
    pub call: u32,
}

/// Loads the programs; nothing is attached yet.
///
/// # Errors
/// When the kernel refuses, as all do before 5.15, or the instruction set is not [`ARCHITECTURE`].
pub fn load(object: &[u8], options: &Options) -> Result<(Probes, Losses, Ring), LoadError> {
    if std::env::consts::ARCH != ARCHITECTURE {
        return Err(LoadError::Object {
            message: format!("TLS plaintext is read on {ARCHITECTURE} alone, and this is {}", std::env::consts::ARCH),
        });
    }
    let processors = nr_cpus().map_err(|(file, source)| LoadError::Object { message: format!("{file}: {source}") })?;
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries(abi::MAP_RECORDS, options.ring_bytes)
        .map_max_entries(abi::MAP_SCRATCH, u32::try_from(processors).unwrap_or(u32::MAX))
        .override_global(names::GLOBAL_REQUEST_BUDGET, &options.request_head_bytes, true)
        .override_global(names::GLOBAL_RESPONSE_BUDGET, &options.response_head_bytes, true);
    for (name, offset) in &options.offsets {
        loader.override_global(name, offset, true);
    }
    let mut ebpf = loader.load(object).map_err(object_error)?;
    for program in abi::PROGRAMS {
        probe(&mut ebpf, program)?.load().map_err(|error| without_cookie(program_error(program, error)))?;
    }
    let mut tail_call = ProgramArray::try_from(take_map(&mut ebpf, abi::MAP_HTTP2)?).map_err(map_error)?;
    let failed = |error: ProgramError| program_error(abi::PROGRAM_HTTP2, error);
    let follows = probe(&mut ebpf, abi::PROGRAM_HTTP2)?.fd().map_err(failed)?;
    tail_call.set(0, follows, 0).map_err(map_error)?;
    let ring = RingBuf::try_from(take_map(&mut ebpf, abi::MAP_RECORDS)?).map_err(map_error)?;
    let losses = PerCpuArray::try_from(take_map(&mut ebpf, abi::MAP_LOSSES)?).map_err(map_error)?;
    let libraries = Array::try_from(take_map(&mut ebpf, abi::MAP_LIBRARIES)?).map_err(map_error)?;
    let absent = options.offsets.iter().find(|(_, offset)| *offset == ABSENT).map(|(name, _)| *name);
    Ok((Probes { ebpf, absent, libraries, _tail_call: tail_call }, Losses(losses), Ring(ring)))
}

impl Probes {
    /// How many libraries the programs can tell apart.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.libraries.len()
    }

    /// Says what the programs must know of library number `index`.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn describe(&mut self, index: u32, library: &abi::Library) -> Result<(), LoadError> {
        let mut row = [0; size_of::<abi::Library>()];
        row.copy_from_slice(library.as_bytes());
        self.libraries.set(index, row, 0).map_err(map_error)
    }

    /// Attaches one program to one place of a file, for every process that maps it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach(&mut self, file: &Path, site: Site, index: u32) -> Result<Attached, LoadError> {
        let Site { program, offset, call } = site;
        let point = UProbeAttachPoint {
            location: UProbeAttachLocation::AbsoluteOffset(offset),
            cookie: Some(u64::from(call) << 32 | u64::from(index)),
        };
        let link = probe(&mut self.ebpf, program)?
            .attach(point, file, UProbeScope::AllProcesses)
            .map_err(|error| program_error(program, error))?;
        Ok(Attached { program, link })
    }

    /// Loads the program that reads kernel TLS; it is not attached yet.
    ///
    /// # Errors
    /// When the kernel refuses, or does not tell where what is needed stands.
    pub fn load_kernel_tls(&mut self) -> Result<(), LoadError> {
        let program = abi::PROGRAM_KERNEL;
        if let Some(field) = self.absent {
            let message = format!("the kernel's BTF does not tell where {field} stands");
            return Err(LoadError::Program { program, message });
        }
        let btf = Btf::from_sys_fs().map_err(|error| LoadError::Program { program, message: error.to_string() })?;
        exit(&mut self.ebpf)?.load(abi::TRACEPOINT_KERNEL, &btf).map_err(|error| program_error(program, error))
    }

    /// Attaches it: from then on every system call of the node takes longer.
    ///
    /// # Errors
    /// When it was not loaded or the kernel refuses.
    pub fn attach_kernel_tls(&mut self) -> Result<(), LoadError> {
        exit(&mut self.ebpf)?.attach().map_err(|error| program_error(abi::PROGRAM_KERNEL, error)).map(drop)
    }

    /// Instructions the verifier walked through for the program that reads kernel TLS, where the kernel tells.
    #[must_use]
    pub fn verified_kernel_tls(&self) -> Option<u32> {
        self.ebpf.program(abi::PROGRAM_KERNEL)?.info().ok()?.verified_instruction_count()
    }

    /// Run time of each program; zero while statistics are off.
    #[must_use]
    pub fn run_times(&self) -> Vec<RunTime> {
        let time = |name| {
            let info = self.ebpf.program(name)?.info().ok()?;
            Some(RunTime { program: name, total: info.run_time(), runs: info.run_count() })
        };
        abi::PROGRAMS.into_iter().chain([abi::PROGRAM_KERNEL]).filter_map(time).collect()
    }

    /// Detaches a probe.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn detach(&mut self, attached: Attached) -> Result<(), LoadError> {
        let Attached { program, link } = attached;
        probe(&mut self.ebpf, program)?.detach(link).map_err(|error| program_error(program, error))
    }
}

impl Losses {
    /// Losses by reason.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn read(&self) -> io::Result<Vec<(&'static str, u64)>> {
        abi::LOSSES
            .iter()
            .map(|(index, reason)| {
                let values = self.0.get(index, 0).map_err(io::Error::other)?;
                Ok((*reason, values.iter().sum()))
            })
            .collect()
    }
}

/// Says of a kernel that is too old what it lacks, instead of the verifier's log.
fn without_cookie(error: LoadError) -> LoadError {
    match error {
        LoadError::Verifier { program, log, .. } if COOKIE_HELPER.iter().any(|refused| log.contains(refused)) => {
            LoadError::Program {
                program,
                message: "this kernel has no bpf_get_attach_cookie for uprobes, which Linux has since 5.15".to_owned(),
            }
        }
        other => other,
    }
}

fn probe<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut UProbe, LoadError> {
    ebpf.program_mut(name)
        .ok_or_else(|| missing(name))?
        .try_into()
        .map_err(|error: ProgramError| program_error(name, error))
}

fn exit(ebpf: &mut Ebpf) -> Result<&mut BtfTracePoint, LoadError> {
    let name = abi::PROGRAM_KERNEL;
    let program = ebpf.program_mut(name).ok_or_else(|| missing(name))?;
    program.try_into().map_err(|error: ProgramError| program_error(name, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_is_too_old_says_what_it_lacks() {
        let refused = |log: &str| {
            let source = io::Error::from_raw_os_error(22);
            without_cookie(LoadError::Verifier { program: "tls_enter", source, log: log.to_owned() }).to_string()
        };
        assert!(refused("3: (85) call unknown#174\ninvalid func unknown#174\n").contains("since 5.15"));
        assert!(refused("3: (85) call unknown#174\nunknown func bpf_get_attach_cookie#174\n").contains("since 5.15"));
        assert!(refused("3: (85) call bpf_get_attach_cookie#174\nR1 type=ctx\n").contains("the kernel refused it"));
        assert!(refused("R1 type=ctx expected=fp\n").contains("the kernel refused it"));
    }
}
