//! What was found in values of `Authorization` lately: a token comes with every call of its holder for minutes, and is the same each
//! time. The value itself is not kept, only a keyed hash of it.

use std::{
    fmt,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::{Claims, CredentialKind};
use crate::{cache::Cache, hash::BuildMix};

/// Values that are remembered.
const REMEMBERED: usize = 4096;

/// What was found in one value.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) kind: CredentialKind,
    /// Keyed hash of the secret.
    pub(super) hash: [u8; 32],
    /// How that begins, as text.
    pub(super) fingerprint: Arc<str>,
    pub(super) claims: Option<Arc<Claims>>,
    /// Where the secret stands in the value, where it stands there as it is.
    pub(super) at: Option<Range<usize>>,
}

/// Values by their keyed hash. 128 bits of a keyed hash whose key nobody knows: two values that are taken for one are not to be
/// found, neither by chance nor by a peer that tries.
pub(super) struct Recall {
    key: (u64, u64),
    known: Mutex<Cache<u128, Arc<Found>, BuildMix>>,
}

impl Recall {
    /// An empty one, with a random key.
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        Self { key: (random.hash_one(0), random.hash_one(1)), known: Mutex::new(Cache::new(REMEMBERED)) }
    }

    /// What was found in a value, or is found in it by `read` now.
    pub(super) fn of(&self, value: &[u8], read: impl FnOnce() -> Option<Found>) -> Option<Arc<Found>> {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write(value);
        let hash = hasher.finish128().as_u128();
        // Every statement leaves what is locked valid: a panic elsewhere is no reason to stop.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&hash) {
            return Some(Arc::clone(found));
        }
        let found = Arc::new(read()?);
        if recurs(found.kind) {
            known.insert(hash, Arc::clone(&found));
        }
        Some(found)
    }
}

/// Whether the value is the same in the calls that follow: others are made for one message.
fn recurs(kind: CredentialKind) -> bool {
    matches!(
        kind,
        CredentialKind::ApiKey
            | CredentialKind::Basic
            | CredentialKind::BearerJwt
            | CredentialKind::BearerOpaque
            | CredentialKind::Dpop
    )
}

impl fmt::Debug for Recall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recall(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(kind: CredentialKind) -> Found {
        Found { kind, hash: [7; 32], fingerprint: "07".into(), claims: None, at: None }
    }

    #[test]
    fn a_value_is_read_once_and_another_anew() {
        let recall = Recall::new();
        let mut reads = 0;
        for value in ["Bearer a", "Bearer a", "Bearer b", "Bearer a", "Bearer b"] {
            let read = || {
                reads += 1;
                Some(found(CredentialKind::BearerOpaque))
            };
            assert!(recall.of(value.as_bytes(), read).is_some());
        }
        assert_eq!(reads, 2);
        assert_eq!(format!("{recall:?}"), "Recall(..)");
    }

    #[test]
    fn what_is_made_for_one_message_and_what_is_none_is_not_kept() {
        let recall = Recall::new();
        for _ in 0..2 {
            assert!(recall.of(b"Digest x", || Some(found(CredentialKind::Digest))).is_some());
            assert!(recall.of(b"nothing", || None).is_none());
        }
        assert_eq!(recall.known.lock().expect("not poisoned").len(), 0);
    }

    #[test]
    fn no_more_than_the_limit_is_kept() {
        let recall = Recall::new();
        for number in 0..3 * REMEMBERED {
            recall.of(&number.to_le_bytes(), || Some(found(CredentialKind::Basic)));
        }
        assert_eq!(recall.known.lock().expect("not poisoned").len(), REMEMBERED);
    }
}
