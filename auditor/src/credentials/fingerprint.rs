//! Fingerprints: a keyed hash stands for a secret, so that equal secrets can be recognised and none can be read or guessed.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use zeroize::{Zeroize, Zeroizing};

/// Length of a key, bytes.
const KEY_BYTES: usize = 32;

/// The key of an installation's fingerprints. Without it a fingerprint cannot be tried against guessed secrets.
#[derive(Clone)]
pub struct FingerprintKey(Zeroizing<[u8; KEY_BYTES]>);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file can be read or written by others, or is another user's.
    #[error(
        "fingerprint key {path}: {reason}; make it a regular file of the auditor's user with mode 0600, or delete it"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// The file cannot be read or created.
    #[error("fingerprint key {path}: cannot {action}: {error}; give a path in a directory the auditor can write")]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        error: io::Error,
    },
    /// The system has no randomness.
    #[error("no random bytes for the fingerprint key: {0}; see getrandom(2)")]
    Random(getrandom::Error),
    /// The file is not a key.
    #[error("fingerprint key {path}: is not {KEY_BYTES} bytes long; delete it and a new one is made")]
    Size {
        /// The file.
        path: PathBuf,
    },
}

impl FingerprintKey {
    /// A new random key: fingerprints are comparable within this run only.
    ///
    /// # Errors
    /// When the kernel gives no randomness.
    pub fn random() -> Result<Self, KeyError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(key.as_mut()).map_err(KeyError::Random)?;
        Ok(Self(key))
    }

    /// A given key.
    #[must_use]
    pub fn from_bytes(mut bytes: [u8; KEY_BYTES]) -> Self {
        let key = Self(Zeroizing::new(bytes));
        bytes.zeroize();
        key
    }

    /// The key in the file at `path`, which is created with mode 0600 when it is not there. Of several processes that create
    /// it at once all get the same key: the file appears whole or not at all.
    ///
    /// # Errors
    /// When the file is exposed to other users, is no key, or can neither be read nor created.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        if let Some(key) = Self::load(path)? {
            return Ok(key);
        }
        let key = Self::random()?;
        match key.create(path) {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::load(path)?.ok_or_else(|| KeyError::File { path: path.into(), action: "create", error })
            }
            Err(error) => Err(KeyError::File { path: path.into(), action: "create", error }),
        }
    }

    fn load(path: &Path) -> Result<Option<Self>, KeyError> {
        let fail = |action| move |error| KeyError::File { path: path.into(), action, error };
        // NONBLOCK: a fifo planted at the path must not hang the start.
        let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
        let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail("open")(error)),
        };
        let metadata = file.metadata().map_err(fail("stat"))?;
        let user = rustix::process::geteuid().as_raw();
        let exposed = |reason| Err(KeyError::Exposed { path: path.into(), reason });
        if !metadata.is_file() {
            return exposed("is not a regular file");
        }
        if metadata.mode() & 0o077 != 0 {
            return exposed("is open to other users");
        }
        if metadata.uid() != user && metadata.uid() != 0 {
            return exposed("belongs to another user");
        }
        if metadata.len() != KEY_BYTES as u64 {
            return Err(KeyError::Size { path: path.into() });
        }
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        file.read_exact(key.as_mut()).map_err(fail("read"))?;
        Ok(Some(Self(key)))
    }

    /// Writes a temporary file beside `path` and links it there: link(2) neither overwrites nor shows a half-written file.
    fn create(&self, path: &Path) -> io::Result<()> {
        let mut suffix = [0; 8];
        getrandom::fill(&mut suffix).map_err(io::Error::other)?;
        let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(format!(".{:016x}", u64::from_ne_bytes(suffix)));
        let temporary = path.with_file_name(name);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file: File| file.write_all(self.0.as_ref()).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::hard_link(&temporary, path));
        // The link has the content; a left-over temporary file would be a second copy of the key.
        let removed = std::fs::remove_file(&temporary);
        written.and(removed)
    }

    /// The fingerprint of a secret: BLAKE3 keyed hash, the first 8 bytes as 16 hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self, secret: &[u8]) -> Arc<str> {
        text(&self.hash(secret))
    }

    /// The whole hash whose beginning is the fingerprint.
    pub(super) fn hash(&self, secret: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, secret).as_bytes()
    }

    /// A stream of bytes that depends on the key and the secret only and tells nothing of the secret. It is not the stream
    /// that [`Self::fingerprint`] takes its digits from.
    pub(super) fn stream(&self, secret: &[u8]) -> blake3::OutputReader {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"filler\0").update(secret);
        hasher.finalize_xof()
    }
}

/// The fingerprint that a hash begins with.
pub(super) fn text(hash: &[u8; 32]) -> Arc<str> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 16];
    for (pair, byte) in text.chunks_exact_mut(2).zip(hash) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    Arc::from(std::str::from_utf8(&text).unwrap_or_default())
}

impl std::fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FingerprintKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn equal_secrets_have_equal_fingerprints_under_one_key_only() {
        let (one, two) = (FingerprintKey::from_bytes([1; 32]), FingerprintKey::from_bytes([2; 32]));
        assert_eq!(one.fingerprint(b"secret"), one.fingerprint(b"secret"));
        assert_ne!(one.fingerprint(b"secret"), one.fingerprint(b"secret2"));
        assert_ne!(one.fingerprint(b"secret"), two.fingerprint(b"secret"));
        assert_eq!(one.fingerprint(b"").len(), 16);
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", FingerprintKey::from_bytes([0x41; 32])), "FingerprintKey(..)");
    }

    #[test]
    fn the_file_is_made_once_with_mode_0600_and_read_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let first = FingerprintKey::load_or_create(&path).unwrap();
        let second = FingerprintKey::load_or_create(&path).unwrap();
        assert_eq!(first.fingerprint(b"x"), second.fingerprint(b"x"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn concurrent_creation_gives_one_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let prints: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| FingerprintKey::load_or_create(&path).unwrap().fingerprint(b"x")))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(prints.iter().all(|print| print == &prints[0]), "{prints:?}");
    }

    #[test]
    fn exposed_short_linked_and_unreachable_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, [7; 32]).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(FingerprintKey::load_or_create(&path), Err(KeyError::Exposed { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(FingerprintKey::load_or_create(&path).is_ok());
        std::fs::write(&path, [7; 31]).unwrap();
        assert!(matches!(FingerprintKey::load_or_create(&path), Err(KeyError::Size { .. })));
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(FingerprintKey::load_or_create(&link), Err(KeyError::File { action: "open", .. })));
        let missing = directory.path().join("no/key");
        assert!(matches!(FingerprintKey::load_or_create(&missing), Err(KeyError::File { action: "create", .. })));
    }
}
