//! What a process holds in the kernel: its eBPF programs, links and maps, what is in those, what is pinned, and the ports it
//! listens on.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::PathBuf,
};

use anyhow::{Context as _, Result};

/// `BPF_MAP_GET_NEXT_KEY`, `BPF_MAP_GET_FD_BY_ID`, and `BPF_PROG_GET_NEXT_ID`, `BPF_MAP_GET_NEXT_ID` and `BPF_LINK_GET_NEXT_ID` of
/// `enum bpf_cmd`.
const NEXT_KEY: libc::c_long = 4;
const GET_MAP: libc::c_long = 14;
const NEXT_PROGRAM: libc::c_long = 11;
const NEXT_MAP: libc::c_long = 12;
const NEXT_LINK: libc::c_long = 31;
/// `BPF_MAP_TYPE_HASH` and `_PERCPU_HASH`: the maps whose entries come and go one by one.
const HASHES: [u32; 2] = [1, 5];
/// `BPF_MAP_TYPE_LRU_HASH` and `_LRU_PERCPU_HASH`: the same, which fill up and then forget what was used least lately.
const FORGETTING: [u32; 2] = [9, 10];

/// eBPF objects by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Programs.
    pub programs: HashSet<u32>,
    /// Links.
    pub links: HashSet<u32>,
    /// Maps.
    pub maps: HashSet<u32>,
}

/// What is in a hash table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entries {
    /// How many entries.
    pub count: usize,
    /// Once it is full it forgets the one used least lately: that it fills up is no leak.
    pub forgets: bool,
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
            held.maps.extend(ids("map_id"));
        }
        Ok(held)
    }

    /// All there are, of whatever process.
    ///
    /// # Errors
    /// When the kernel does not let us ask.
    pub fn all() -> Result<Self> {
        Ok(Self { programs: all(NEXT_PROGRAM)?, links: all(NEXT_LINK)?, maps: all(NEXT_MAP)? })
    }

    /// Those of them that still exist.
    ///
    /// # Errors
    /// When the kernel does not let us ask.
    pub fn existing(&self) -> Result<Self> {
        let existing = |command, ids: &HashSet<u32>| anyhow::Ok(ids & &all(command)?);
        Ok(Self {
            programs: existing(NEXT_PROGRAM, &self.programs)?,
            links: existing(NEXT_LINK, &self.links)?,
            maps: existing(NEXT_MAP, &self.maps)?,
        })
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.links.is_empty() && self.maps.is_empty()
    }

    /// Entries of each of the maps that are hash tables, by id; only while their owner lives. A socket's own storage is in no table: it goes with the socket.
    ///
    /// # Errors
    /// When the kernel does not let us look.
    pub fn entries(&self) -> Result<BTreeMap<u32, Entries>> {
        let mut counts = BTreeMap::new();
        for id in &self.maps {
            let Some(map) = open_map(*id)? else { continue };
            let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd()))?;
            let field = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                line.and_then(|value| value.trim().parse::<u32>().ok()).with_context(|| format!("no {name} in {text}"))
            };
            let kind = field("map_type")?;
            let forgets = FORGETTING.contains(&kind);
            if forgets || HASHES.contains(&kind) {
                counts.insert(*id, Entries { count: keys(&map, field("key_size")?, field("max_entries")?)?, forgets });
            }
        }
        Ok(counts)
    }
}

/// Counts a map's keys. `limit`: another process may add as fast as we count.
fn keys(map: &OwnedFd, size: u32, limit: u32) -> Result<usize> {
    let (mut key, mut next) = (vec![0_u8; usize::try_from(size)?], vec![0_u8; usize::try_from(size)?]);
    let mut count = 0;
    while count < usize::try_from(limit)? {
        // The part of `union bpf_attr` the command reads: map, key (none for the first), next key, flags.
        let before = if count == 0 { 0 } else { key.as_ptr() as u64 };
        let attributes = [u64::try_from(map.as_raw_fd())?, before, next.as_mut_ptr() as u64, 0];
        // SAFETY: the kernel reads `size` bytes of `attributes` and of the key, and writes as many into `next`.
        let result = unsafe { libc::syscall(libc::SYS_bpf, NEXT_KEY, attributes.as_ptr(), size_of_val(&attributes)) };
        if result != 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ENOENT) { Ok(count) } else { Err(error).context("bpf(2)") };
        }
        std::mem::swap(&mut key, &mut next);
        count += 1;
    }
    Ok(count)
}

/// What is pinned in the file systems for eBPF objects that are mounted, and those mounts themselves.
///
/// # Errors
/// When they cannot be listed.
pub fn pins() -> Result<BTreeSet<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    // proc_pid_mountinfo(5): the mount point is the fifth field, the file system's type the first behind the dash.
    let mount = |line: &str| {
        let (before, behind) = line.split_once(" - ")?;
        behind.starts_with("bpf ").then(|| before.split(' ').nth(4).map(PathBuf::from))?
    };
    let mut pins = BTreeSet::new();
    let mut folders: Vec<PathBuf> = text.lines().filter_map(mount).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                pins.insert(entry.path());
            }
        }
        pins.insert(folder);
    }
    Ok(pins)
}

/// The ids of all objects of a kind. They are listed and not opened: a program array that is opened and closed in its last moments
/// is never freed, because the kernel then takes a reference for each time it is closed and gives one back for all of them
/// (`prog_array_map_clear` in kernel/bpf/arraymap.c; seen on 6.18).
fn all(command: libc::c_long) -> Result<HashSet<u32>> {
    let mut ids = HashSet::new();
    let mut last = 0;
    loop {
        // The part of `union bpf_attr` these commands read and write: start id, next id, open flags.
        let mut attributes = [last, 0_u32, 0];
        let size = size_of_val(&attributes);
        // SAFETY: the kernel reads and writes `size` bytes of `attributes`, which is that long.
        if unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size) } != 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ENOENT) { Ok(ids) } else { Err(error).context("bpf(2)") };
        }
        last = attributes[1];
        ids.insert(last);
    }
}

/// A descriptor of the map of an id; `None` when there is none.
fn open_map(id: u32) -> Result<Option<OwnedFd>> {
    // The part of `union bpf_attr` the command reads: id, next id, open flags.
    let attributes = [id, 0, 0];
    // SAFETY: the kernel reads `size` bytes of `attributes`, which is that long.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, GET_MAP, attributes.as_ptr(), size_of_val(&attributes)) };
    if fd >= 0 {
        // SAFETY: the descriptor is new, and nobody else knows it.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) }));
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENOENT) { Ok(None) } else { Err(error).context("bpf(2)") }
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
