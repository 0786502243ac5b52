//! Writes an initramfs: the `newc` archive of the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::process::read;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// An archive being built. Parent folders come by themselves.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    present: BTreeSet<PathBuf>,
}

impl Archive {
    /// An empty folder.
    pub(crate) fn folder(&mut self, path: &str) {
        self.add(Path::new(path), FOLDER, &[]);
    }

    /// A file with the given content.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) {
        self.add(Path::new(path), FILE, content);
    }

    /// A program with the given content.
    pub(crate) fn program(&mut self, path: &str, content: &[u8]) {
        self.add(Path::new(path), PROGRAM, content);
    }

    /// The program at `source` and the shared libraries it loads, those where it looks for them.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn with_libraries(&mut self, path: &str, source: &Path) -> Result<()> {
        self.program(path, &contents(source)?);
        for library in libraries(source) {
            self.program(&library.to_string_lossy().replacen('/', "", 1), &contents(&library)?);
        }
        Ok(())
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn add(&mut self, path: &Path, mode: u32, content: &[u8]) {
        if path.as_os_str().is_empty() || !self.present.insert(path.to_path_buf()) {
            return;
        }
        if let Some(parent) = path.parent() {
            self.add(parent, FOLDER, &[]);
        }
        self.entry(&path.to_string_lossy(), mode, content);
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let [inode, links, size, name_size] = [self.entries as usize, 1, content.len(), name.len() + 1];
        let mut header = String::from("070701");
        // inode, mode, uid, gid, links, mtime, size, device (2), device of a node (2), length of the name, checksum
        for field in [inode, mode as usize, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0] {
            header += &format!("{field:08x}");
        }
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The shared libraries a program loads. `ldd` fails for a static program, which needs none.
pub(crate) fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = read(Command::new("ldd").arg(program)).unwrap_or_default();
    listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

fn contents(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_its_header_name_and_content_aligned_to_four_bytes() {
        let mut archive = Archive::default();
        archive.file("etc/a", b"hello");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        let folder = text.find("etc\0").expect("the parent folder comes by itself");
        let file = text.find("etc/a\0").expect("the file is there");
        assert!(folder < file, "a folder comes before what it holds");
        let header = &text[file - 110..file];
        assert_eq!(&header[..6], "070701");
        assert_eq!(&header[14..22], "000081a4", "mode of a file");
        assert_eq!(&header[54..62], "00000005", "size");
        assert_eq!(&header[94..102], "00000006", "length of the name with its end");
        assert_eq!(text.find("hello").map(|at| at % 4), Some(0));
        assert!(text.contains("TRAILER!!!\0"));
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn what_is_there_is_not_added_twice() {
        let mut archive = Archive::default();
        archive.program("bin/sh", b"first");
        archive.program("bin/sh", b"second");
        let text = String::from_utf8(archive.finish()).expect("ASCII");
        assert_eq!(text.matches("bin/sh\0").count(), 1);
        assert!(text.contains("first") && !text.contains("second"), "{text}");
    }
}
