//! Probes on `tcp_sendmsg`, `tcp_recvmsg` and `tcp_close`: by fentry and fexit, or by kprobe and kretprobe.

use auditor_abi::probes as abi;
use aya::{
    Btf, Ebpf,
    programs::{FEntry, FExit, KProbe, ProgramError},
};

use crate::kernel::loader::{LoadError, missing, program_error};

/// The programs of fentry and fexit.
pub(in crate::kernel) const FENTRY: [&str; 4] =
    [abi::PROGRAM_SEND_FENTRY, abi::PROGRAM_RECEIVE_FENTRY, abi::PROGRAM_RECEIVE_FEXIT, abi::PROGRAM_CLOSE_FENTRY];
/// The programs of kprobe and kretprobe.
pub(in crate::kernel) const KPROBE: [&str; 4] =
    [abi::PROGRAM_SEND_KPROBE, abi::PROGRAM_RECEIVE_KPROBE, abi::PROGRAM_RECEIVE_RETURN, abi::PROGRAM_CLOSE_KPROBE];

/// The kernel function a program is for.
fn function(program: &'static str) -> &'static str {
    match program {
        abi::PROGRAM_SEND_FENTRY | abi::PROGRAM_SEND_KPROBE => abi::FUNCTION_SEND,
        abi::PROGRAM_CLOSE_FENTRY | abi::PROGRAM_CLOSE_KPROBE => abi::FUNCTION_CLOSE,
        _ => abi::FUNCTION_RECEIVE,
    }
}

/// Loads the programs of fentry and fexit.
pub(in crate::kernel) fn load_fentry(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    let btf = Btf::from_sys_fs()
        .map_err(|error| LoadError::Program { program: abi::PROGRAM_SEND_FENTRY, message: error.to_string() })?;
    for name in FENTRY {
        let loaded = if name == abi::PROGRAM_RECEIVE_FEXIT {
            program::<FExit>(ebpf, name)?.load(function(name), &btf)
        } else {
            program::<FEntry>(ebpf, name)?.load(function(name), &btf)
        };
        loaded.map_err(|error| program_error(name, error))?;
    }
    Ok(())
}

/// Attaches them.
pub(in crate::kernel) fn attach_fentry(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    for name in FENTRY {
        let failed = |error: ProgramError| program_error(name, error);
        if name == abi::PROGRAM_RECEIVE_FEXIT {
            program::<FExit>(ebpf, name)?.attach().map(drop).map_err(failed)?;
        } else {
            program::<FEntry>(ebpf, name)?.attach().map(drop).map_err(failed)?;
        }
    }
    Ok(())
}

/// Loads the programs of kprobe and kretprobe.
pub(in crate::kernel) fn load_kprobe(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    for name in KPROBE {
        program::<KProbe>(ebpf, name)?.load().map_err(|error| program_error(name, error))?;
    }
    Ok(())
}

/// Attaches them.
pub(in crate::kernel) fn attach_kprobe(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    for name in KPROBE {
        program::<KProbe>(ebpf, name)?
            .attach(function(name), 0)
            .map(drop)
            .map_err(|error| program_error(name, error))?;
    }
    Ok(())
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, LoadError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    ebpf.program_mut(name)
        .ok_or_else(|| missing(name))?
        .try_into()
        .map_err(|error: ProgramError| program_error(name, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_its_function() {
        for programs in [FENTRY, KPROBE] {
            let functions: Vec<&str> = programs.into_iter().map(function).collect();
            assert_eq!(functions, ["tcp_sendmsg", "tcp_recvmsg", "tcp_recvmsg", "tcp_close"]);
        }
    }
}
