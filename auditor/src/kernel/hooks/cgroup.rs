//! `cgroup_skb` on a cgroup2 directory, and the programs it calls.

use std::{fs::File, os::fd::AsFd as _};

use auditor_abi::names;
use aya::{
    Ebpf,
    maps::{MapData, ProgramArray},
    programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, ProgramError},
};

use crate::kernel::loader::{LoadError, map_error, missing, program_error, take_map};

/// Every program; those that are attached come first.
pub(in crate::kernel) const PROGRAMS: [&str; 10] = [
    names::PROGRAM_EGRESS,
    names::PROGRAM_INGRESS,
    names::PROGRAM_TLS_EGRESS,
    names::PROGRAM_TLS_INGRESS,
    names::PROGRAM_HTTP2_EGRESS,
    names::PROGRAM_HTTP2_INGRESS,
    names::PROGRAM_THIN_EGRESS,
    names::PROGRAM_THIN_INGRESS,
    names::PROGRAM_COPY_EGRESS,
    names::PROGRAM_COPY_INGRESS,
];
/// How many of them are attached.
pub(in crate::kernel) const ATTACHED: usize = 2;

/// Loads every program and makes them reach each other. The kernel empties a program array once nobody has it open.
pub(in crate::kernel) fn load(ebpf: &mut Ebpf) -> Result<Vec<ProgramArray<MapData>>, LoadError> {
    for name in PROGRAMS {
        program(ebpf, name)?.load().map_err(|error| program_error(name, error))?;
    }
    Ok(vec![
        tail_calls(ebpf, names::MAP_TLS_EGRESS, &[names::PROGRAM_TLS_EGRESS])?,
        tail_calls(ebpf, names::MAP_TLS_INGRESS, &[names::PROGRAM_TLS_INGRESS])?,
        tail_calls(ebpf, names::MAP_HTTP2_EGRESS, &[names::PROGRAM_HTTP2_EGRESS])?,
        tail_calls(ebpf, names::MAP_HTTP2_INGRESS, &[names::PROGRAM_HTTP2_INGRESS])?,
        tail_calls(ebpf, names::MAP_THIN_EGRESS, &[names::PROGRAM_THIN_EGRESS, names::PROGRAM_COPY_EGRESS])?,
        tail_calls(ebpf, names::MAP_THIN_INGRESS, &[names::PROGRAM_THIN_INGRESS, names::PROGRAM_COPY_INGRESS])?,
    ])
}

/// Attaches to a cgroup2 directory.
pub(in crate::kernel) fn attach(ebpf: &mut Ebpf, cgroup: &File) -> Result<(), LoadError> {
    for (name, kind) in
        [(names::PROGRAM_INGRESS, CgroupSkbAttachType::Ingress), (names::PROGRAM_EGRESS, CgroupSkbAttachType::Egress)]
    {
        // Links are shared with other programs whatever the mode says, and refuse the flag that asks for it.
        program(ebpf, name)?
            .attach(cgroup.as_fd(), kind, CgroupAttachMode::Single)
            .map_err(|error| program_error(name, error))?;
    }
    Ok(())
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut CgroupSkb, LoadError> {
    ebpf.program_mut(name)
        .ok_or_else(|| missing(name))?
        .try_into()
        .map_err(|error: ProgramError| program_error(name, error))
}

/// Makes `programs` those that `map` calls, by their index.
fn tail_calls(ebpf: &mut Ebpf, map: &str, programs: &[&'static str]) -> Result<ProgramArray<MapData>, LoadError> {
    let mut array = ProgramArray::try_from(take_map(ebpf, map)?).map_err(map_error)?;
    for (index, name) in (0..).zip(programs) {
        let failed = |error: ProgramError| program_error(name, error);
        let fd = program(ebpf, name)?.fd().map_err(failed)?;
        array.set(index, fd, 0).map_err(map_error)?;
    }
    Ok(array)
}
