//! What a process holds in the kernel: its eBPF programs and links, and the ports it listens on.

use std::{collections::HashSet, fs, io};

use anyhow::{Context as _, Result};

/// `BPF_PROG_GET_FD_BY_ID` and `BPF_LINK_GET_FD_BY_ID` of `enum bpf_cmd`.
const GET_PROGRAM: libc::c_long = 13;
const GET_LINK: libc::c_long = 30;

/// eBPF objects by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Programs.
    pub programs: HashSet<u32>,
    /// Links.
    pub links: HashSet<u32>,
}

impl Held {
    /// What a process holds file descriptors of.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn by(pid: u32) -> Result<Self> {
        let folder = format!("/proc/{pid}/fdinfo");
        let mut held = Self::default();
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
            // A descriptor may be closed meanwhile.
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            let ids = |name: &str| {
                let lines = text.lines().filter_map(|line| line.split_once(':'));
                let value = lines.filter(|(found, _)| *found == name).map(|(_, value)| value.trim().parse().ok());
                value.flatten().collect::<Vec<u32>>()
            };
            held.programs.extend(ids("prog_id"));
            held.links.extend(ids("link_id"));
        }
        Ok(held)
    }

    /// Those of them that still exist.
    ///
    /// # Errors
    /// When the kernel does not let us ask.
    pub fn existing(&self) -> Result<Self> {
        let existing = |command, ids: &HashSet<u32>| {
            let mut found = HashSet::new();
            for id in ids {
                if exists(command, *id)? {
                    found.insert(*id);
                }
            }
            anyhow::Ok(found)
        };
        Ok(Self { programs: existing(GET_PROGRAM, &self.programs)?, links: existing(GET_LINK, &self.links)? })
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.links.is_empty()
    }
}

fn exists(command: libc::c_long, id: u32) -> Result<bool> {
    // The part of `union bpf_attr` these commands read: id, next id, open flags.
    let attributes = [id, 0, 0];
    // SAFETY: the kernel reads `size` bytes of `attributes`, which is that long.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(&attributes)) };
    if fd >= 0 {
        // SAFETY: the descriptor is new, and nobody else knows it.
        unsafe { libc::close(i32::try_from(fd)?) };
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENOENT) { Ok(false) } else { Err(error).context("bpf(2)") }
}

/// The TCP ports over IPv4 that a process listens on.
///
/// # Errors
/// When the process is gone.
pub fn listening_ports(pid: u32) -> Result<Vec<u16>> {
    let folder = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let inodes: HashSet<String> =
        links.filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    let port = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Local address, state (0A is LISTEN) and inode; Documentation/networking/proc_net_tcp.rst.
        let listening = *fields.get(3)? == "0A" && inodes.contains(*fields.get(9)?);
        listening.then(|| u16::from_str_radix(fields[1].split_once(':')?.1, 16).ok()).flatten()
    };
    Ok(table.lines().filter_map(port).collect())
}
