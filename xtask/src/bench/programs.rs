//! Kernel programs on a cgroup: the auditor's, and such that do nothing, to tell what it costs that there are any.

use std::{
    cell::RefCell,
    ffi::CStr,
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

use anyhow::{Context as _, Result};

/// `BPF_PROG_LOAD`, `BPF_PROG_GET_FD_BY_ID`, `BPF_OBJ_GET_INFO_BY_FD` and `BPF_LINK_CREATE` of `enum bpf_cmd`.
const LOAD: libc::c_long = 5;
const GET_PROGRAM: libc::c_long = 13;
const GET_INFO: libc::c_long = 15;
const LINK: libc::c_long = 28;
/// `BPF_PROG_TYPE_CGROUP_SKB` of `enum bpf_prog_type`.
const CGROUP_SKB: u32 = 8;
/// The auditor's programs that see packets, and where they belong: `BPF_CGROUP_INET_INGRESS` and `BPF_CGROUP_INET_EGRESS` of `enum
/// bpf_attach_type`.
const PROGRAMS: [(&str, u32); 2] = [("observe_ingress", 0), ("observe_egress", 1)];
/// Where `struct bpf_prog_info` has the name, of 16 bytes, and the time and the number of runs, of 8 each.
const NAME: usize = 64;
const RUN_TIME: usize = 192;
const INFO_BYTES: usize = RUN_TIME + 16;

/// A program in the kernel and where it belongs.
pub(super) struct Program {
    descriptor: OwnedFd,
    place: u32,
}

impl Program {
    /// The program of an id; `None` when it is none of the auditor's that see packets.
    ///
    /// # Errors
    /// When it is gone, or this process may not look at it.
    pub(super) fn open(id: u32) -> Result<Option<Self>> {
        // Id, next id, flags.
        let descriptor = bpf(GET_PROGRAM, &mut [id, 0, 0]).context("opening a program")?;
        let program = Self { descriptor: owned(descriptor)?, place: 0 };
        let info = program.info()?;
        let name = CStr::from_bytes_until_nul(&info[NAME..])?.to_str()?;
        let known = PROGRAMS.iter().find(|(known, _)| *known == name);
        Ok(known.map(|(_, place)| Self { place: *place, ..program }))
    }

    /// A program for each place that lets all pass.
    ///
    /// # Errors
    /// When the kernel does not load it.
    pub(super) fn empty() -> Result<Vec<Self>> {
        // `r0 = 1; exit`.
        let instructions: [u64; 2] = [0x0001_0000_00b7, 0x95];
        let load = |place: u32| {
            // The begin of the part of `union bpf_attr` that the command reads: type and number of instructions, their address, the
            // license's, four words of a log that is not wanted, kernel version and flags, a name, an interface and the place.
            let count = u64::try_from(instructions.len())?;
            let mut attributes = [0_u64; 9];
            attributes[0] = u64::from(CGROUP_SKB) | count << 32;
            attributes[1] = instructions.as_ptr() as u64;
            attributes[2] = c"GPL".as_ptr() as u64;
            attributes[8] = u64::from(place) << 32;
            let descriptor = bpf(LOAD, &mut attributes).context("loading an empty program")?;
            Ok(Self { descriptor: owned(descriptor)?, place })
        };
        PROGRAMS.iter().map(|(_, place)| load(*place)).collect()
    }

    /// Seconds that it ran, and how often, while the kernel kept statistics.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(super) fn runs(&self) -> Result<(f64, f64)> {
        let info = self.info()?;
        let number = |at: usize| Ok::<_, anyhow::Error>(u64::from_ne_bytes(info[at..at + 8].try_into()?) as f64);
        Ok((number(RUN_TIME)? / 1e9, number(RUN_TIME + 8)?))
    }

    fn info(&self) -> Result<[u8; INFO_BYTES]> {
        let mut info = [0_u8; INFO_BYTES];
        let address = info.as_mut_ptr() as u64;
        let length = u64::try_from(info.len())?;
        // Descriptor and length of the information, its address.
        bpf(GET_INFO, &mut [u64::try_from(self.descriptor.as_raw_fd())? | length << 32, address])
            .context("looking at a program")?;
        Ok(info)
    }
}

/// Puts programs on a cgroup and takes them off; by links, which end with this process whatever happens.
pub(super) struct Switch {
    cgroup: File,
    pub(super) programs: Vec<Program>,
    links: RefCell<Vec<OwnedFd>>,
}

impl Switch {
    /// A switch, which is off.
    ///
    /// # Errors
    /// When the cgroup's folder cannot be opened.
    pub(super) fn new(cgroup: &Path, programs: Vec<Program>) -> Result<Self> {
        let cgroup = File::open(cgroup).with_context(|| cgroup.display().to_string())?;
        Ok(Self { cgroup, programs, links: RefCell::default() })
    }

    /// Puts the programs there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn on(&self) -> Result<()> {
        for Program { descriptor, place } in &self.programs {
            // Program, target, type, flags.
            let number = |fd: i32| u32::try_from(fd);
            let mut attributes = [number(descriptor.as_raw_fd())?, number(self.cgroup.as_raw_fd())?, *place, 0];
            let link = bpf(LINK, &mut attributes).context("attaching a program")?;
            self.links.borrow_mut().push(owned(link)?);
        }
        Ok(())
    }

    /// Takes them off.
    pub(super) fn off(&self) {
        self.links.borrow_mut().clear();
    }
}

fn owned(descriptor: libc::c_long) -> Result<OwnedFd> {
    // SAFETY: the kernel gave a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(descriptor)?) })
}

fn bpf<T, const COUNT: usize>(command: libc::c_long, attributes: &mut [T; COUNT]) -> Result<libc::c_long> {
    // SAFETY: the kernel reads and writes no more than the size that is passed, and what the attributes point at outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes)) };
    if result < 0 { Err(io::Error::last_os_error()).context("bpf(2)") } else { Ok(result) }
}
