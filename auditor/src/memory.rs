//! Memory that is not needed any more, and whether there is enough of it.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

/// What the auditor needs beside its ring, bytes: reading the kernel's type information and loading the programs at start.
const NEEDED: u64 = 64 << 20;
/// No file read here is longer, bytes.
const FILE_MAX: u64 = 64 << 10;
/// Limits above this are none: cgroup v1 writes the largest multiple of the page size for "no limit".
const UNLIMITED: u64 = 1 << 60;

/// The memory limit of the cgroup this process is in that is too low for a ring of this size, and what is needed. The kernel ends who
/// passes the limit without a word: this is the only time to say so.
pub(crate) fn too_little(ring_bytes: u32) -> Option<(u64, u64)> {
    let needed = NEEDED + u64::from(ring_bytes);
    let limit = limit(&read(Path::new("/proc/self/cgroup"))?, Path::new("/sys/fs/cgroup"))?;
    (limit < needed).then_some((limit, needed))
}

/// The lowest memory limit of a cgroup and those above it. `cgroups` is `/proc/self/cgroup` (cgroups(7)), `mounts` where cgroups are
/// mounted; in a cgroup namespace of its own the process's cgroup is what is mounted there.
fn limit(cgroups: &str, mounts: &Path) -> Option<u64> {
    let places = cgroups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        match controllers {
            "" => Some((mounts.to_owned(), "memory.max", path)),
            names if names.split(',').any(|name| name == "memory") => {
                Some((mounts.join("memory"), "memory.limit_in_bytes", path))
            }
            _ => None,
        }
    });
    let limits = places.flat_map(|(mount, file, path)| {
        // A cgroup outside of the namespace is shown by a way up that the mount does not have.
        let within = PathBuf::from(if path.split('/').any(|part| part == "..") { "" } else { path });
        let directories: Vec<PathBuf> = within.ancestors().map(|part| mount.join(part).join(file)).collect();
        directories.into_iter().filter_map(|file| read(&file)?.trim().parse::<u64>().ok())
    });
    limits.filter(|limit| *limit < UNLIMITED).min()
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(FILE_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Gives freed memory back to the system. Reading the kernel's type information takes some 30 MiB for a moment; one small allocation
/// behind it is enough for glibc to keep all of it as long as the process lives.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes a number and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_lowest_limit_counts_of_the_cgroup_and_those_above() {
        let mounts = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = mounts.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("memory.max", "max\n");
        write("pods/one/memory.max", "50331648\n");
        write("pods/one/auditor/memory.max", "max\n");
        assert_eq!(limit("0::/pods/one/auditor\n", mounts.path()), Some(50_331_648));
        assert_eq!(limit("0::/\n", mounts.path()), None);
        assert_eq!(limit("0::/not/there\n", mounts.path()), None);
        // In a cgroup namespace the own cgroup is what is mounted.
        write("memory.max", "1048576\n");
        assert_eq!(limit("0::/\n", mounts.path()), Some(1_048_576));
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/held/memory.limit_in_bytes", "4194304\n");
        assert_eq!(limit("7:cpu,cpuacct:/held\n3:memory:/held\n", mounts.path()), Some(4_194_304));
        assert_eq!(limit("3:memory:/\n", mounts.path()), None);
        assert_eq!(limit("nonsense\n:\n", mounts.path()), None);
    }

    #[test]
    fn nothing_above_the_mount_is_read() {
        let mounts = tempfile::tempdir().unwrap();
        let inner = mounts.path().join("inner");
        fs::write(mounts.path().join("memory.max"), "4096").unwrap();
        fs::create_dir(&inner).unwrap();
        assert_eq!(limit("0::/..", &inner), None);
        assert_eq!(limit("0::/a/../..", &inner), None);
        fs::write(inner.join("memory.max"), "8192").unwrap();
        assert_eq!(limit("0::/..", &inner), Some(8192));
    }
}
