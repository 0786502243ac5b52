//! What outlives a run: a directory that belongs to one auditor at a time, with the file of its state and the key of its
//! fingerprints.
//!
//! The state is saved whole and replaced whole. A file that cannot be read is set aside and said, and the start goes on without:
//! an auditor that does not watch is worse than one that has forgotten.

mod file;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

pub use self::file::{Sections, Snapshot};
use crate::config::reason_of;

/// The state, in the directory.
const STATE: &str = "state.jsonl";
/// Written, then renamed to [`STATE`].
const TEMPORARY: &str = "state.jsonl.tmp";
/// The state that could not be read; the latest such replaces the one before.
const SET_ASIDE: &str = "state.jsonl.unreadable";
/// The key of the fingerprints, unless the configuration names another file.
const KEY: &str = "fingerprint.key";
/// Locked for as long as the auditor runs; holds its process id.
const LOCK: &str = "lock";
/// A larger file is none that was saved here.
const LARGEST: u64 = 1 << 30;

/// The directory, locked until this is dropped.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another auditor uses it.
    #[error("state directory {}: another auditor uses it{holder}; stop that one, or name another directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// ` (pid 812)`, if known.
        holder: String,
    },
    /// It cannot be made, opened or locked.
    #[error(
        "state directory {}: cannot {action}: {}; name a directory that the auditor's user can write",
        path.display(),
        reason_of(source)
    )]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl StateDir {
    /// Takes the directory, which is made with mode 0700 when it is not there.
    ///
    /// # Errors
    /// When another auditor has it, or it cannot be written.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let fail = |action| move |source| StateError::Unusable { path: path.into(), action, source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail("make it"))?;
        let metadata = fs::metadata(path).map_err(fail("look at it"))?;
        if metadata.permissions().mode() & 0o022 != 0 {
            tracing::warn!(directory = %path.display(), "other users can write the state directory; take that away with chmod go-w");
        }
        let mut lock = options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .map_err(fail("open its file `lock`"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(StateError::InUse { path: path.into(), holder: holder(&mut lock) });
            }
            Err(error) => return Err(fail("lock it")(error.into())),
        }
        let written =
            lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id()));
        written.map_err(fail("write its file `lock`"))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where the key of the fingerprints is, unless the configuration names another file.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.path.join(KEY)
    }

    /// What was saved. A file that cannot be read is set aside with a warning, and then there is nothing.
    #[must_use]
    pub fn restore(&self) -> Sections {
        let path = self.path.join(STATE);
        let reason = match self.read(&path) {
            Ok(None) => return Sections::default(),
            Ok(Some(bytes)) => match Sections::parse(&bytes) {
                Ok(sections) => return sections,
                Err(reason) => reason,
            },
            Err(error) => format!("cannot be read ({})", reason_of(&error)),
        };
        let aside = self.path.join(SET_ASIDE);
        match fs::rename(&path, &aside) {
            Ok(()) => tracing::warn!(
                file = %path.display(), reason, set_aside = %aside.display(), "the saved state is not used; starting without"
            ),
            Err(error) => tracing::warn!(
                file = %path.display(), reason, %error, "the saved state is not used and cannot be set aside; it will be replaced"
            ),
        }
        Sections::default()
    }

    /// A writer for another thread.
    #[must_use]
    pub fn saver(&self) -> Saver {
        Saver { directory: self.path.clone() }
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let file = match options().read(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let user = rustix::process::geteuid().as_raw();
        if !metadata.is_file() || metadata.mode() & 0o022 != 0 || (metadata.uid() != user && metadata.uid() != 0) {
            return Err(io::Error::other("it is not a file that only the auditor's user can write"));
        }
        let mut bytes = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LARGEST {
            return Err(io::Error::other("it is larger than 1GiB"));
        }
        Ok(Some(bytes))
    }
}

/// Saves snapshots. Only one auditor has the directory, so the temporary file's name may be the same each time.
#[derive(Debug)]
pub struct Saver {
    directory: PathBuf,
}

impl Saver {
    /// Replaces the state by `snapshot`: after a crash at any moment there is the old state or the new one, whole.
    ///
    /// # Errors
    /// When it cannot be written; the old state is then still there.
    pub fn save(&self, snapshot: Snapshot) -> io::Result<()> {
        let bytes = snapshot.into_bytes()?;
        let temporary = self.directory.join(TEMPORARY);
        // What a crash left, or a link that somebody put there: never written through.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = options().write(true).create_new(true).open(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, self.directory.join(STATE))?;
        // The rename lasts when the directory is on the disk.
        File::open(&self.directory)?.sync_all()
    }
}

/// Readable by the auditor's user alone. NOFOLLOW and NONBLOCK: a link or a fifo put there neither leads elsewhere nor hangs the
/// start.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK);
    options
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.take(16).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!(" (pid {pid})"),
        _ => String::new(),
    }
}
