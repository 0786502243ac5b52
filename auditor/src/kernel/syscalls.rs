//! Loads the program at the exit of system calls and attaches it. It decides nothing.

use std::io;

use auditor_abi::{layout::ABSENT, names, syscalls as abi};
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{MapData, PerCpuArray, RingBuf},
    programs::{BtfTracePoint, ProgramError, RawTracePoint},
    util::nr_cpus,
};

use super::loader::{LoadError, Options, Ring, RunTime, map_error, missing, object_error, program_error, take_map};

/// The instruction set whose registers and numbers of calls the program knows.
pub const ARCHITECTURE: &str = "x86_64";

/// The loaded program. Dropping it detaches it.
pub struct ExitProgram {
    ebpf: Ebpf,
    program: &'static str,
    losses: PerCpuArray<MapData, u64>,
}

/// Loads the program; nothing is attached yet. Where the kernel has BTF of its tracepoints the verifier checks what is read of the
/// registers; elsewhere it is read through a helper.
///
/// # Errors
/// When the kernel refuses, the instruction set is not [`ARCHITECTURE`], or the kernel does not tell where what is needed stands.
pub fn load(object: &[u8], options: &Options) -> Result<(ExitProgram, Ring), LoadError> {
    load_one(object, options, abi::PROGRAM_EXIT).or_else(|error| {
        tracing::info!(%error, "the program without types stands in");
        load_one(object, options, abi::PROGRAM_EXIT_RAW)
    })
}

/// Loads one of the two programs, [`abi::PROGRAM_EXIT`] or [`abi::PROGRAM_EXIT_RAW`].
///
/// # Errors
/// As [`load`].
pub fn load_one(object: &[u8], options: &Options, program: &'static str) -> Result<(ExitProgram, Ring), LoadError> {
    check(options)?;
    let mut ebpf = open(object, options)?;
    let failed = |error: ProgramError| program_error(program, error);
    if program == abi::PROGRAM_EXIT {
        let btf = Btf::from_sys_fs().map_err(|error| LoadError::Program { program, message: error.to_string() })?;
        typed(&mut ebpf)?.load(abi::TRACEPOINT, &btf).map_err(failed)?;
    } else {
        raw(&mut ebpf)?.load().map_err(failed)?;
    }
    let ring = RingBuf::try_from(take_map(&mut ebpf, abi::MAP_RECORDS)?).map_err(map_error)?;
    let losses = PerCpuArray::try_from(take_map(&mut ebpf, abi::MAP_LOSSES)?).map_err(map_error)?;
    Ok((ExitProgram { ebpf, program, losses }, Ring(ring)))
}

/// Whether this machine and its kernel have what the program builds on.
fn check(options: &Options) -> Result<(), LoadError> {
    if std::env::consts::ARCH != ARCHITECTURE {
        return Err(LoadError::Object {
            message: format!("system calls are read on {ARCHITECTURE} alone, and this is {}", std::env::consts::ARCH),
        });
    }
    let absent = |(name, offset): &&(&'static str, u32)| *offset == ABSENT && abi::NEEDED_FIELDS.contains(name);
    match options.offsets.iter().find(absent) {
        None => Ok(()),
        Some((name, _)) => Err(LoadError::Object {
            message: format!(
                "the kernel's BTF does not tell where {} stands; use a kernel built with CONFIG_DEBUG_INFO_BTF=y and \
                 CONFIG_UNIX=y",
                member(name)
            ),
        }),
    }
}

impl ExitProgram {
    /// Attaches the program: from then on records come, and every system call of the node takes longer.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach(&mut self) -> Result<(), LoadError> {
        let name = self.program;
        let failed = |error: ProgramError| program_error(name, error);
        if name == abi::PROGRAM_EXIT {
            typed(&mut self.ebpf)?.attach().map_err(failed)?;
        } else {
            raw(&mut self.ebpf)?.attach(abi::TRACEPOINT).map_err(failed)?;
        }
        Ok(())
    }

    /// Name of the program that was loaded, one of [`auditor_abi::syscalls`].
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.program
    }

    /// Losses the program has counted, by reason.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn losses(&self) -> io::Result<Vec<(&'static str, u64)>> {
        abi::LOSSES
            .iter()
            .map(|(index, reason)| {
                let values = self.losses.get(index, 0).map_err(io::Error::other)?;
                Ok((*reason, values.iter().sum()))
            })
            .collect()
    }

    /// Run time of the program; zero while statistics are off.
    #[must_use]
    pub fn run_time(&self) -> Option<RunTime> {
        let info = self.ebpf.program(self.program)?.info().ok()?;
        Some(RunTime { program: self.program, total: info.run_time(), runs: info.run_count() })
    }
}

fn open(object: &[u8], options: &Options) -> Result<Ebpf, LoadError> {
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
    loader.load(object).map_err(object_error)
}

fn typed(ebpf: &mut Ebpf) -> Result<&mut BtfTracePoint, LoadError> {
    let name = abi::PROGRAM_EXIT;
    let program = ebpf.program_mut(name).ok_or_else(|| missing(name))?;
    program.try_into().map_err(|error: ProgramError| program_error(name, error))
}

fn raw(ebpf: &mut Ebpf) -> Result<&mut RawTracePoint, LoadError> {
    let name = abi::PROGRAM_EXIT_RAW;
    let program = ebpf.program_mut(name).ok_or_else(|| missing(name))?;
    program.try_into().map_err(|error: ProgramError| program_error(name, error))
}

/// The struct member behind a global, in words.
fn member(global: &str) -> String {
    let fields = auditor_abi::layout::FIELDS.iter().chain(&auditor_abi::layout::ITERATOR_FIELDS);
    let mut fields = fields.chain(&auditor_abi::plaintext::FIELDS).chain(&abi::FIELDS);
    fields
        .find(|field| field.global == global)
        .map_or_else(|| global.to_owned(), |field| format!("{}.{}", field.structure, field.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_does_not_tell_where_things_stand_is_refused_by_name() {
        let offsets = abi::SHARED_FIELDS.iter().copied().chain(abi::FIELDS.iter().map(|field| field.global));
        let options = |absent: &str| Options {
            ring_bytes: 4096,
            request_head_bytes: 256,
            response_head_bytes: 256,
            offsets: offsets.clone().map(|name| (name, if name == absent { ABSENT } else { 8 })).collect(),
            samples: false,
        };
        for name in abi::NEEDED_FIELDS {
            let error = check(&options(name)).expect_err(name).to_string();
            let told = if std::env::consts::ARCH == ARCHITECTURE { member(name) } else { ARCHITECTURE.to_owned() };
            assert!(error.contains(&told) && !error.contains("OFF_"), "{error}");
        }
        // What only names processes may be absent.
        assert_eq!(check(&options("OFF_SK_PEER_PID")).is_ok(), std::env::consts::ARCH == ARCHITECTURE);
    }
}
