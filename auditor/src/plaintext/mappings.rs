//! What a process has mapped to be executed (`/proc/PID/maps`, proc_pid_maps(5)).

/// A file that is mapped executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping<'a> {
    /// The range of addresses as it is written: the name of the link in `map_files`.
    pub range: &'a str,
    /// Device and inode of the file.
    pub file: FileId,
    /// Its path, as the process' mount namespace had it.
    pub path: &'a str,
}

/// A file by device (major and minor number) and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Major and minor number of the device.
    pub device: (u32, u32),
    /// The inode.
    pub inode: u64,
}

/// The executable mapping of a line; `None` for any other.
#[must_use]
pub fn executable(line: &str) -> Option<Mapping<'_>> {
    // range, permissions, offset, device, inode, and the path behind blanks; a path may hold blanks itself.
    let mut rest = line;
    let mut next = || {
        let (word, more) = rest.split_once(' ')?;
        rest = more;
        Some(word)
    };
    let (range, permissions, _offset, device, inode) = (next()?, next()?, next()?, next()?, next()?);
    if permissions.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let path = rest.trim_start();
    let (major, minor) = device.split_once(':')?;
    let device = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
    let inode: u64 = inode.parse().ok()?;
    (inode != 0 && path.starts_with('/')).then_some(Mapping { range, file: FileId { device, inode }, path })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn executable_files_are_found() {
        let line = "7f5b1a200000-7f5b1a25c000 r-xp 0001f000 fe:01 1056   /usr/lib/a dir/libssl.so.3 (deleted)";
        let mapping = executable(line).unwrap();
        assert_eq!(mapping.range, "7f5b1a200000-7f5b1a25c000");
        assert_eq!(mapping.file, FileId { device: (0xfe, 1), inode: 1056 });
        assert_eq!(mapping.path, "/usr/lib/a dir/libssl.so.3 (deleted)");
        for other in [
            "7f5b1a200000-7f5b1a25c000 r--p 0001f000 fe:01 1056   /usr/lib/libssl.so.3",
            "7ffd1c5f3000-7ffd1c5f5000 r-xp 00000000 00:00 0                          [vdso]",
            "7f5b1a200000-7f5b1a25c000 r-xp 00000000 00:00 0 ",
            "7f5b1a200000-7f5b1a25c000 rwxp 00000000 00:01 3 anon_inode:x",
            "",
            "x",
        ] {
            assert_eq!(executable(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(line in ".{0,80}") {
            let _ = executable(&line);
        }
    }
}
