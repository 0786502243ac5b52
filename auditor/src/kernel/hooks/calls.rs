//! Tracepoints at the entry and the exit of system calls, and where TCP sockets end.

use auditor_abi::probes as abi;
use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, ProgramError},
};

use crate::kernel::loader::{LoadError, missing, program_error};

/// Every program. A read is known by its entry: the program at the entry comes last, so that each entry has its exit.
pub(in crate::kernel) const PROGRAMS: [&str; 3] =
    [abi::PROGRAM_CALL_DESTROY, abi::PROGRAM_CALL_EXIT, abi::PROGRAM_CALL_ENTER];

/// The tracepoint a program is for.
fn tracepoint(program: &'static str) -> &'static str {
    match program {
        abi::PROGRAM_CALL_DESTROY => abi::TRACEPOINT_DESTROY,
        abi::PROGRAM_CALL_EXIT => abi::TRACEPOINT_EXIT,
        _ => abi::TRACEPOINT_ENTER,
    }
}

/// Loads the programs. They read the kernel's structures by its BTF in any case, so that no other kind of program stands in where the
/// verifier lacks that.
pub(in crate::kernel) fn load(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    let btf = Btf::from_sys_fs()
        .map_err(|error| LoadError::Program { program: abi::PROGRAM_CALL_ENTER, message: error.to_string() })?;
    for name in PROGRAMS {
        program(ebpf, name)?.load(tracepoint(name), &btf).map_err(|error| program_error(name, error))?;
    }
    Ok(())
}

/// Attaches them, in their order.
pub(in crate::kernel) fn attach(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    for name in PROGRAMS {
        program(ebpf, name)?.attach().map(drop).map_err(|error| program_error(name, error))?;
    }
    Ok(())
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut BtfTracePoint, LoadError> {
    ebpf.program_mut(name)
        .ok_or_else(|| missing(name))?
        .try_into()
        .map_err(|error: ProgramError| program_error(name, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_its_tracepoint_and_entries_come_last() {
        assert_eq!(PROGRAMS.map(tracepoint), ["tcp_destroy_sock", "sys_exit", "sys_enter"]);
    }
}
