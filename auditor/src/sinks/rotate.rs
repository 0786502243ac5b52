//! A file that is appended to and kept within bounds: full, it is renamed to `file.1`, `file.1` to `file.2`, and so on. One that
//! somebody else moved away, such as logrotate, is made anew.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Bounds of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Rotated before it would be larger; bytes.
    pub max_bytes: u64,
    /// Files kept beside the current one.
    pub keep: u32,
}

/// Appends to a file, readable by its owner alone: it says where a node is soft. What is not a regular file, such as a pipe, is written
/// to and left alone.
///
/// Every write must be whole lines. One that fails half way is taken back, so that no half line stays.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    /// Bytes in the file; `None` when it is not a regular one.
    size: Option<u64>,
}

impl RotatingFile {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When it can be neither.
    pub fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let (file, size) = opened(path)?;
        Ok(Self { path: path.to_owned(), rotation, file, size })
    }

    /// Opens the file again when another one, or none, is at its place.
    fn follow(&mut self) -> io::Result<()> {
        if self.size.is_none() {
            return Ok(());
        }
        let own = self.file.metadata()?;
        let same = match fs::metadata(&self.path) {
            Ok(there) => (there.dev(), there.ino()) == (own.dev(), own.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if same {
            // Somebody may have emptied it (copytruncate).
            self.size = Some(own.len());
            return Ok(());
        }
        (self.file, self.size) = opened(&self.path)?;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.rotation.keep).rev() {
            moved(&self.numbered(number), &self.numbered(number + 1))?;
        }
        if self.rotation.keep > 0 {
            moved(&self.path, &self.numbered(1))?;
        } else {
            fs::remove_file(&self.path)?;
        }
        (self.file, self.size) = opened(&self.path)?;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

impl Write for RotatingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.follow()?;
        let length = bytes.len() as u64;
        if self.size.is_some_and(|size| size > 0 && size.saturating_add(length) > self.rotation.max_bytes) {
            self.rotate()?;
        }
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.size = self.size.map(|size| size + length);
                Ok(bytes.len())
            }
            Err(error) => {
                if let Some(size) = self.size {
                    self.file.set_len(size)?;
                }
                Err(error)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.follow()
    }
}

fn opened(path: &Path) -> io::Result<(File, Option<u64>)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let metadata = file.metadata()?;
    let size = metadata.is_file().then_some(metadata.len());
    Ok((file, size))
}

/// rename(2); what is not there need not be moved.
fn moved(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn read(directory: &Path) -> Vec<(String, String)> {
        let entry = |entry: io::Result<fs::DirEntry>| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).unwrap())
        };
        let mut all: Vec<_> = fs::read_dir(directory).unwrap().map(entry).collect();
        all.sort();
        all
    }

    fn files(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_full_file_is_renamed_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let mut file = RotatingFile::open(&path, Rotation { max_bytes: 10, keep: 2 }).unwrap();
        for line in ["1111\n", "2222\n", "3333\n", "4444\n", "5555\n", "6666\n", "7777\n", "8888\n", "9999\n"] {
            file.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(read(directory.path()), files(&[("f", "9999\n"), ("f.1", "7777\n8888\n"), ("f.2", "5555\n6666\n")]));
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_line_larger_than_the_file_is_written_whole_and_none_need_be_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let mut file = RotatingFile::open(&path, Rotation { max_bytes: 3, keep: 0 }).unwrap();
        for line in ["long line 1\n", "long line 2\n"] {
            file.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(read(directory.path()), files(&[("f", "long line 2\n")]));
    }

    #[test]
    fn what_was_there_counts_and_is_appended_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "before\n").unwrap();
        let mut file = RotatingFile::open(&path, Rotation { max_bytes: 12, keep: 1 }).unwrap();
        file.write_all(b"one\n").unwrap();
        file.write_all(b"two\n").unwrap();
        assert_eq!(read(directory.path()), files(&[("f", "two\n"), ("f.1", "before\none\n")]));
    }

    #[test]
    fn a_file_moved_away_removed_or_emptied_by_others_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let mut file = RotatingFile::open(&path, Rotation { max_bytes: 12, keep: 1 }).unwrap();
        file.write_all(b"one\n").unwrap();
        fs::rename(&path, directory.path().join("moved")).unwrap();
        file.write_all(b"two\n").unwrap();
        assert_eq!(read(directory.path()), files(&[("f", "two\n"), ("moved", "one\n")]));
        fs::remove_file(&path).unwrap();
        file.flush().unwrap();
        assert!(path.exists(), "made anew before anything is written");
        file.write_all(b"three\n").unwrap();
        fs::write(&path, "").unwrap();
        file.write_all(b"longer line\n").unwrap();
        assert_eq!(read(directory.path()), files(&[("f", "longer line\n"), ("moved", "one\n")]));
    }

    #[test]
    fn devices_are_left_alone_and_errors_told() {
        let rotation = Rotation { max_bytes: 1, keep: 1 };
        let mut null = RotatingFile::open(Path::new("/dev/null"), rotation).unwrap();
        null.write_all(b"some\n").unwrap();
        null.write_all(b"more\n").unwrap();
        let mut full = RotatingFile::open(Path::new("/dev/full"), rotation).unwrap();
        assert_eq!(full.write_all(b"some\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
