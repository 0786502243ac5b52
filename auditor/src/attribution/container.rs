//! From cgroups to containers. A container's id stands in the path of its cgroup; the path is found from the cgroup's inode,
//! which the kernel tells with every record, or from `/proc/PID/cgroup`.

use std::{
    fs,
    os::unix::fs::{DirEntryExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{cache::Cache, judgement::Container};

/// Cgroups that are remembered.
const REMEMBERED: usize = 65_536;
/// Cgroups looked at in one scan of the tree.
const SCANNED_MAX: usize = 65_536;
/// A tree is scanned again for an unknown inode at most this often, nanoseconds.
const RESCAN_AFTER: u64 = 100_000_000;

/// What runtimes put before the id.
const PREFIXES: [&str; 7] = ["docker-", "cri-containerd-", "crio-", "libpod-", "nerdctl-", "containerd-", "podman-"];
/// Parents below which lxc puts the container's name.
const LXC_PARENTS: [&str; 2] = ["lxc", "lxc.payload"];

/// The id of the container a cgroup belongs to, from the cgroup's path. In nested containers the innermost one.
///
/// Docker, containerd, CRI-O and Podman give 64 hexadecimal digits; AWS Fargate 32 digits, a hyphen and a number; LXC and
/// systemd-nspawn the container's name.
#[must_use]
pub fn id_in_path(path: &str) -> Option<&str> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    (0..parts.len()).rev().find_map(|at| {
        let part = parts[at];
        let parent = at.checked_sub(1).map_or("", |at| parts[at]);
        runtime_id(part).or_else(|| named(part, parent))
    })
}

/// The id of the container a process is in, from its `/proc/PID/cgroup`: lines `hierarchy:controllers:path`, version 2 with
/// hierarchy 0 (cgroups(7)). Where several lines name one, that of version 2 wins.
#[must_use]
pub fn id_of_process(cgroup: &str) -> Option<&str> {
    let mut found = None;
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(hierarchy), Some(_), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let id = id_in_path(path);
        if hierarchy == "0" && id.is_some() {
            return id;
        }
        found = found.or(id);
    }
    found
}

fn runtime_id(part: &str) -> Option<&str> {
    let part = part.strip_suffix(".scope").or_else(|| part.strip_suffix(".service")).unwrap_or(part);
    // `SLICE:PREFIX:ID`: containerd told to use systemd's names without systemd.
    let part = part.rsplit(':').next().unwrap_or(part);
    let id = PREFIXES.iter().find_map(|prefix| part.strip_prefix(prefix)).unwrap_or(part);
    let hexadecimal = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let fargate = id.split_once('-').is_some_and(|(task, number)| {
        task.len() == 32 && hexadecimal(task) && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    ((id.len() == 64 && hexadecimal(id)) || fargate).then_some(id)
}

fn named<'a>(part: &'a str, parent: &str) -> Option<&'a str> {
    if LXC_PARENTS.contains(&parent) {
        return Some(part);
    }
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return Some(name);
    }
    if let Some(name) = part.strip_prefix("systemd-nspawn@").and_then(|name| name.strip_suffix(".service")) {
        return Some(name);
    }
    // Virtual machines are registered there too; they are no containers.
    let machine = part.strip_prefix("machine-").and_then(|name| name.strip_suffix(".scope"));
    machine.filter(|name| parent == "machine.slice" && !name.starts_with("qemu") && !name.starts_with("libvirt"))
}

/// Which container a cgroup2 inode belongs to.
#[derive(Debug)]
pub(super) struct Containers {
    root: Option<PathBuf>,
    known: Cache<u64, Option<Arc<Container>>>,
    scanned: Option<u64>,
}

impl Containers {
    /// `root` is the cgroup2 root; without it nothing is known.
    pub(super) fn new(root: Option<PathBuf>) -> Self {
        Self { root, known: Cache::new(REMEMBERED), scanned: None }
    }

    /// The container of a cgroup. An inode that is not known has the tree scanned, now and then.
    pub(super) fn of_cgroup(&mut self, inode: u64, now: u64) -> Option<Arc<Container>> {
        if let Some(known) = self.known.get(&inode) {
            return known.clone();
        }
        let root = self.root.as_deref()?;
        // A clock that went back must not keep the tree from being scanned.
        if self.scanned.is_some_and(|at| at <= now && now - at < RESCAN_AFTER) {
            return None;
        }
        self.scanned = Some(now);
        scan(root, &mut |inode, path| {
            let id = id_in_path(path);
            self.known.insert(inode, id.map(|id| Arc::new(Container { id: id.into() })));
        });
        if let Some(known) = self.known.get(&inode) {
            return known.clone();
        }
        // Gone already; inodes of cgroups are never given twice.
        self.known.insert(inode, None);
        None
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) const LIMIT: usize = REMEMBERED;
}

/// Tells inode and path below `root` of every directory. What cannot be read is passed over: cgroups come and go.
fn scan(root: &Path, tell: &mut dyn FnMut(u64, &str)) {
    if let Ok(metadata) = fs::metadata(root) {
        tell(metadata.ino(), "/");
    }
    let mut pending = vec![String::new()];
    let mut told = 1;
    while let Some(path) = pending.pop() {
        let Ok(entries) = fs::read_dir(root.join(path.trim_start_matches('/'))) else { continue };
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if told >= SCANNED_MAX {
                return;
            }
            told += 1;
            let child = format!("{path}/{}", entry.file_name().to_string_lossy());
            tell(entry.ino(), &child);
            pending.push(child);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4a51b6c1f6e4f6d5a1b0c9d8e7f60718293a4b5c6d7e8f90a1b2c3d4e5f60718";
    const OUTER: &str = "0000b6c1f6e4f6d5a1b0c9d8e7f60718293a4b5c6d7e8f90a1b2c3d4e5f60718";

    /// `#` stands for the id.
    #[test]
    fn paths_of_runtimes() {
        let with_id = [
            "/docker/#",
            "/system.slice/docker-#.scope",
            "/docker/#/system.slice/nginx.service",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-#.scope",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1f2e3d4c_5b6a_7988_8796_a5b4c3d2e1f0.slice/cri-containerd-#.scope",
            "/kubepods/besteffort/pod1f2e3d4c-5b6a-7988-8796-a5b4c3d2e1f0/#",
            "/kubepods.slice/kubepods-pod1f2e3d4c_5b6a.slice/crio-#.scope",
            "/kubepods.slice/kubepods-pod1f2e3d4c_5b6a.slice/crio-#.scope/container",
            "/system.slice/containerd.service/kubepods-burstable-pod1f2e3d4c_5b6a.slice:cri-containerd:#",
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod1f2e.slice/cri-containerd-#.scope",
            "/machine.slice/libpod-#.scope",
            "/machine.slice/libpod-#.scope/container",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-#.scope",
            "/libpod_parent/libpod-#",
            "/system.slice/nerdctl-#.scope",
            "/default/#",
            "/ecs/0123456789abcdef0123456789abcdef/#",
            "/../../docker/#",
            "/docker/OUTER/kubelet/kubepods/besteffort/pod1f2e/#",
            "/actions_job/#",
        ];
        for template in with_id {
            let path = template.replace('#', ID).replace("OUTER", OUTER);
            assert_eq!(id_in_path(&path), Some(ID), "{template}");
        }
    }

    #[test]
    fn paths_with_names() {
        let cases = [
            ("/lxc/web", "web"),
            ("/lxc.payload.web/system.slice/nginx.service", "web"),
            ("/lxc.payload/web", "web"),
            ("/machine.slice/machine-web.scope/payload", "web"),
            ("/machine.slice/systemd-nspawn@web.service/payload/init.scope", "web"),
            ("/ecs/t/0123456789abcdef0123456789abcdef-1234567890", "0123456789abcdef0123456789abcdef-1234567890"),
        ];
        for (path, expected) in cases {
            assert_eq!(id_in_path(path), Some(expected), "{path}");
        }
    }

    #[test]
    fn paths_of_no_container() {
        let paths = [
            "",
            "/",
            "/init.scope",
            "/system.slice/ssh.service",
            "/user.slice/user-1000.slice/session-3.scope",
            "/system.slice/docker.service",
            "/lxc.monitor.web",
            "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope",
            "/kubepods.slice/kubepods-burstable.slice",
            "/machine.slice/libpod-conmon-4a51b6c1f6e4f6d5a1b0c9d8e7f60718293a4b5c6d7e8f90a1b2c3d4e5f60718.scope",
            "/docker/4a51b6c1f6e4",
            "/docker/4A51B6C1F6E4F6D5A1B0C9D8E7F60718293A4B5C6D7E8F90A1B2C3D4E5F60718",
        ];
        for path in paths {
            assert_eq!(id_in_path(path), None, "{path}");
        }
    }

    #[test]
    fn cgroups_of_processes() {
        let v1 = format!("12:pids:/docker/{ID}\n2:cpu,cpuacct:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/\n");
        let v2 = format!("0::/system.slice/docker-{ID}.scope\n");
        let both = format!("4:memory:/docker/{OUTER}\n0::/docker/{ID}\n");
        assert_eq!(id_of_process(&v1), Some(ID));
        assert_eq!(id_of_process(&v2), Some(ID));
        assert_eq!(id_of_process(&both), Some(ID));
        for text in ["0::/\n", "", "nonsense\n:::\n", "9:name=systemd:/\n8:pids:/\n0::/user.slice\n"] {
            assert_eq!(id_of_process(text), None, "{text}");
        }
    }

    fn inode(path: &Path) -> u64 {
        fs::metadata(path).unwrap().ino()
    }

    #[test]
    fn a_tree_is_scanned_for_an_unknown_inode() {
        let tree = tempfile::tempdir().unwrap();
        let first = tree.path().join(format!("docker/{ID}"));
        fs::create_dir_all(&first).unwrap();
        fs::create_dir_all(tree.path().join("system.slice/ssh.service")).unwrap();
        let mut containers = Containers::new(Some(tree.path().to_owned()));
        let id = |found: Option<Arc<Container>>| found.map(|container| container.id.to_string());

        assert_eq!(id(containers.of_cgroup(inode(&first), 0)).as_deref(), Some(ID));
        assert_eq!(id(containers.of_cgroup(inode(&tree.path().join("system.slice")), 0)), None);
        // Known ones live on after their cgroup is gone.
        let number = inode(&first);
        let second = tree.path().join(format!("docker/{OUTER}"));
        fs::create_dir(&second).unwrap();
        fs::remove_dir(&first).unwrap();
        assert_eq!(id(containers.of_cgroup(inode(&second), RESCAN_AFTER - 1)), None, "scanned too soon");
        assert_eq!(id(containers.of_cgroup(inode(&second), RESCAN_AFTER)).as_deref(), Some(OUTER));
        assert_eq!(id(containers.of_cgroup(number, RESCAN_AFTER)).as_deref(), Some(ID));
        // An inode that is nowhere is looked for once.
        assert_eq!(id(containers.of_cgroup(u64::MAX, 5 * RESCAN_AFTER)), None);
        assert_eq!(containers.known.get(&u64::MAX), Some(&mut None));
    }

    #[test]
    fn nothing_is_known_without_a_root() {
        assert_eq!(Containers::new(None).of_cgroup(1, 0), None);
        assert_eq!(Containers::new(Some("/nonexistent".into())).of_cgroup(1, 0), None);
    }

    /// The kernel's inode numbers in directory listings are those of the directories: the scan relies on it.
    #[test]
    fn directory_listings_of_cgroup2_give_the_cgroups_inode() {
        match crate::kernel::cgroup::find() {
            Ok(root) => {
                for entry in fs::read_dir(root.path()).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
                    assert_eq!(entry.ino(), inode(&entry.path()), "{:?}", entry.path());
                }
            }
            Err(error) => assert!(matches!(error, crate::kernel::cgroup::CgroupError::NoMount { .. }), "{error}"),
        }
    }
}
