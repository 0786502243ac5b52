//! Finds the cgroup2 root, to which the programs are attached: it stands above every process of the node, also where the
//! controllers are mounted as cgroup v1. Where no cgroup2 is mounted, one is mounted that only this process sees.

use std::{
    ffi::OsString,
    fs,
    io::Read as _,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags},
};

/// `CGROUP2_SUPER_MAGIC` of `include/uapi/linux/magic.h`.
const CGROUP2_MAGIC: u64 = 0x6367_7270;
/// Most of mountinfo that is read, bytes: a node with thousands of containers has some MiB.
const MOUNTINFO_MAX: u64 = 32 << 20;
/// A file every cgroup has but the root (`Documentation/admin-guide/cgroup-v2.rst`, since 4.14).
const NOT_IN_ROOT: &str = "cgroup.type";

/// A cgroup2 mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Which cgroup of the tree is mounted there, seen from this process's cgroup namespace.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
}

/// How much of the node a cgroup directory covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The root of the tree: every process of the node.
    Node,
    /// A cgroup below the root: the processes in it alone.
    SubTree,
}

/// Where a cgroup directory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was mounted.
    Mounted,
    /// Mounted by this process for itself; gone when it ends.
    Private,
}

/// An open cgroup2 directory. Closing it takes a private mount away.
#[derive(Debug)]
pub struct CgroupRoot {
    path: PathBuf,
    directory: OwnedFd,
    view: View,
    origin: Origin,
}

/// Why there is no cgroup2 directory.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The directory given is of another file system.
    #[error("{path}: not a cgroup2 directory; look for `cgroup2` in /proc/self/mountinfo")]
    NotCgroup2 {
        /// The directory.
        path: PathBuf,
    },
    /// The directory cannot be opened.
    #[error("{path}: {reason}")]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: Errno,
    },
    /// None is mounted, and none can be.
    #[error(
        "no cgroup2 file system is mounted and mounting one failed: {reason}; as root: mkdir -p /sys/fs/cgroup/unified && \
         mount -t cgroup2 none /sys/fs/cgroup/unified"
    )]
    NoMount {
        /// Why the mount failed.
        reason: Errno,
    },
}

/// The widest cgroup2 directory there is: the node's root where it can be had.
///
/// # Errors
/// When no cgroup2 is mounted and none can be.
pub fn find() -> Result<CgroupRoot, CgroupError> {
    let mut text = Vec::new();
    // Unreadable: no procfs. A private mount may still work.
    let _ = fs::File::open("/proc/self/mountinfo").and_then(|file| file.take(MOUNTINFO_MAX).read_to_end(&mut text));
    let mut sub_tree = None;
    for mount in mounts(&text) {
        match CgroupRoot::open(&mount.point) {
            Ok(root) if root.view == View::Node => return Ok(root),
            Ok(root) => sub_tree = sub_tree.or(Some(root)),
            // Hidden below another mount, or not permitted: the next one.
            Err(_) => {}
        }
    }
    match (CgroupRoot::mount(), sub_tree) {
        (Ok(private), None) => Ok(private),
        (Ok(private), _) if private.view == View::Node => Ok(private),
        (_, Some(sub_tree)) => Ok(sub_tree),
        (Err(error), None) => Err(error),
    }
}

/// The cgroup2 mounts of a mountinfo text (proc_pid_mountinfo(5)), widest first: whole trees, then by the depth of what is
/// mounted. Lines that do not fit the format are passed over.
#[must_use]
pub fn mounts(mountinfo: &[u8]) -> Vec<Mount> {
    let mut mounts: Vec<_> = mountinfo.split(|byte| *byte == b'\n').filter_map(mount).collect();
    mounts.sort_by_cached_key(|mount| mount.root.components().filter(|part| part.as_os_str() != "..").count());
    mounts
}

fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let root = fields.nth(3)?;
    let point = fields.next()?;
    // Optional fields end in a lone hyphen; the file system's type follows.
    fields.find(|field| *field == b"-")?;
    (fields.next()? == b"cgroup2").then(|| Mount { root: unescape(root), point: unescape(point) })
}

/// Undoes the kernel's octal escapes: space, tab, line feed, backslash, `#`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.first_chunk::<3>().filter(|_| *first == b'\\');
        let value = octal.and_then(|digits| {
            digits.iter().try_fold(0_u32, |sum, digit| Some(sum * 8 + char::from(*digit).to_digit(8)?))
        });
        match value.and_then(|value| u8::try_from(value).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(out).into()
}

impl CgroupRoot {
    /// Opens a cgroup2 directory.
    ///
    /// # Errors
    /// When it cannot be opened or is of another file system.
    pub fn open(path: &Path) -> Result<Self, CgroupError> {
        let open = |reason| CgroupError::Open { path: path.to_owned(), reason };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(open)?;
        Self::new(path.to_owned(), directory, Origin::Mounted)
    }

    /// Mounts cgroup2 where nothing but the descriptor leads to it (`fsopen(2)`, since 5.2).
    fn mount() -> Result<Self, CgroupError> {
        let mounted = || -> Result<OwnedFd, Errno> {
            let context = rustix::mount::fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
            rustix::mount::fsconfig_create(context.as_fd())?;
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC
                | MountAttrFlags::MOUNT_ATTR_RDONLY;
            let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
            // The mount's own descriptor only names it; the directory must be opened to be read and attached to.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat(&mount, ".", flags, Mode::empty())
        };
        let directory = mounted().map_err(|reason| CgroupError::NoMount { reason })?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        Self::new(path, directory, Origin::Private)
    }

    fn new(path: PathBuf, directory: OwnedFd, origin: Origin) -> Result<Self, CgroupError> {
        let kind =
            rustix::fs::fstatfs(&directory).map_err(|reason| CgroupError::Open { path: path.clone(), reason })?;
        if u64::try_from(kind.f_type) != Ok(CGROUP2_MAGIC) {
            return Err(CgroupError::NotCgroup2 { path });
        }
        // The mount's root as mountinfo has it is relative to the cgroup namespace; this holds in every namespace.
        let view = match rustix::fs::statat(&directory, NOT_IN_ROOT, rustix::fs::AtFlags::empty()) {
            Err(Errno::NOENT) => View::Node,
            _ => View::SubTree,
        };
        Ok(Self { path, directory, view, origin })
    }

    /// A path that leads to it for as long as this value lives, in this process.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How much of the node it covers.
    #[must_use]
    pub fn view(&self) -> View {
        self.view
    }

    /// Where it comes from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// What a user should know of it, as a sentence.
    #[must_use]
    pub fn note(&self) -> String {
        let path = self.path.display();
        match (self.view, self.origin) {
            (View::Node, Origin::Mounted) => format!("The cgroup2 root {path} covers every process of the node."),
            (View::Node, Origin::Private) => {
                "No cgroup2 root is mounted here, so one is mounted privately; it covers every process of the node."
                    .into()
            }
            (View::SubTree, _) => format!(
                "Only the cgroup {path} and those below it are visible: processes outside of it are not seen. Run in the \
                 host's cgroup namespace, or mount the host's /sys/fs/cgroup into the container."
            ),
        }
    }
}

impl AsFd for CgroupRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mountinfo: &str) -> Vec<(String, String)> {
        let text = |path: PathBuf| path.display().to_string();
        mounts(mountinfo.as_bytes()).into_iter().map(|mount| (text(mount.root), text(mount.point))).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(root, point)| ((*root).into(), (*point).into())).collect()
    }

    #[test]
    fn mountinfo_of_several_hosts() {
        let pure =
            "35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let v1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:3 master:1 - cgroup cgroup rw,cpu\n";
        let container = "812 790 0:30 /docker/4a51 /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n\
                         815 790 0:30 / /host/sys/fs/cgroup ro,nosuid master:9 - cgroup2 cgroup rw\n";
        let outside =
            "812 790 0:30 /pod /here ro - cgroup2 cgroup rw\n815 790 0:30 /../.. /host ro - cgroup2 cgroup rw\n";
        let escaped = r"41 31 0:38 / /a\040b\134c\011\012\043\9 rw - cgroup2 none rw";
        let cases = [
            (pure, pairs(&[("/", "/sys/fs/cgroup")])),
            (hybrid, pairs(&[("/", "/sys/fs/cgroup/unified")])),
            (v1, vec![]),
            (container, pairs(&[("/", "/host/sys/fs/cgroup"), ("/docker/4a51", "/sys/fs/cgroup")])),
            (outside, pairs(&[("/../..", "/host"), ("/pod", "/here")])),
            (escaped, pairs(&[("/", "/a b\\c\t\n#\\9")])),
            ("", vec![]),
            ("1 2 3 4 5\ncgroup2 - cgroup2 cgroup2\n- - - - - - cgroup2\n41 31 0:38 / /x rw -", pairs(&[("-", "-")])),
        ];
        for (text, expected) in cases {
            assert_eq!(found(text), expected, "{text}");
        }
    }

    #[test]
    fn other_directories_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(CgroupRoot::open(directory.path()), Err(CgroupError::NotCgroup2 { .. })));
        let absent = directory.path().join("absent");
        assert!(matches!(CgroupRoot::open(&absent), Err(CgroupError::Open { reason: Errno::NOENT, .. })));
    }

    #[test]
    fn this_machine_has_one_or_says_why() {
        match find() {
            Ok(root) => {
                assert!(root.path().join("cgroup.procs").exists(), "{root:?}");
                assert!(root.note().ends_with('.'));
            }
            Err(error) => assert!(matches!(error, CgroupError::NoMount { .. }), "{error}"),
        }
    }

    #[test]
    fn a_private_mount_shows_the_tree_and_leaves_no_mount_behind() {
        let count = || mounts(&fs::read("/proc/self/mountinfo").unwrap()).len();
        let before = count();
        match CgroupRoot::mount() {
            Ok(root) => {
                assert_eq!(root.origin(), Origin::Private);
                assert!(root.path().join("cgroup.procs").exists());
                assert_eq!(count(), before);
            }
            Err(CgroupError::NoMount { reason }) => assert_eq!(reason, Errno::PERM),
            Err(error) => panic!("{error}"),
        }
    }
}
