//! Chains that were read, by a hash of their bytes: bounded, the older half goes when it is full.

use std::{collections::HashMap, sync::Arc};

use super::{Chain, HOLDS, Purpose};

/// A hash of a chain's bytes.
pub(super) type Key = [u8; 32];

/// Two generations: what is used moves to the young one, and the old one is let go of when the young one is full. Both
/// together hold at most the limit.
#[derive(Debug)]
pub(super) struct Cache {
    young: HashMap<Key, Entry>,
    old: HashMap<Key, Entry>,
    limit: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    /// `None`: the leaf cannot be read.
    chain: Option<Arc<Chain>>,
    /// When it was read, seconds.
    time: i64,
}

impl Entry {
    fn holds(&self, now: i64) -> bool {
        self.time.abs_diff(now) <= HOLDS.unsigned_abs()
    }
}

/// The hash of a chain and of what is asked of it.
pub(super) fn key(leaf: &[u8], issuers: &[Box<[u8]>], whole: bool, purpose: Purpose) -> Key {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[u8::from(whole), purpose as u8]);
    for certificate in std::iter::once(leaf).chain(issuers.iter().map(AsRef::as_ref)) {
        hasher.update(&(certificate.len() as u64).to_le_bytes());
        hasher.update(certificate);
    }
    *hasher.finalize().as_bytes()
}

impl Cache {
    pub(super) fn new(limit: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), limit }
    }

    /// What is known of a chain; `None` when that is nothing, or too old.
    pub(super) fn get(&mut self, key: &Key, now: i64) -> Option<Option<Arc<Chain>>> {
        if let Some(entry) = self.young.get(key) {
            return entry.holds(now).then(|| entry.chain.clone());
        }
        let entry = self.old.remove(key).filter(|entry| entry.holds(now))?;
        let chain = entry.chain.clone();
        self.keep(*key, entry);
        Some(chain)
    }

    pub(super) fn insert(&mut self, key: Key, chain: Option<Arc<Chain>>, time: i64) {
        self.old.remove(&key);
        self.keep(key, Entry { chain, time });
    }

    fn keep(&mut self, key: Key, entry: Entry) {
        if self.young.len() >= self.limit / 2 && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(at: u32) -> Key {
        *blake3::hash(&at.to_le_bytes()).as_bytes()
    }

    #[test]
    fn what_is_used_stays_and_no_more_than_the_limit_is_held() {
        let mut cache = Cache::new(100);
        for at in 0..10_000 {
            cache.insert(number(at), None, 0);
            assert!(cache.get(&number(0), 0).is_some(), "the one in use, after {at}");
            assert!(cache.young.len() + cache.old.len() <= 100);
        }
        assert!(cache.get(&number(9_999), 0).is_some());
        assert!(cache.get(&number(5_000), 0).is_none());
    }

    #[test]
    fn what_was_said_is_said_anew_after_an_hour() {
        let mut cache = Cache::new(100);
        cache.insert(number(1), None, 1000);
        assert!(cache.get(&number(1), 1000 + HOLDS).is_some());
        assert!(cache.get(&number(1), 1001 + HOLDS).is_none());
        assert!(cache.get(&number(1), 999 - HOLDS).is_none(), "a replay may go back in time");
        cache.insert(number(1), None, 1001 + HOLDS);
        assert!(cache.get(&number(1), 1001 + HOLDS).is_some());
    }

    #[test]
    fn chains_that_join_to_the_same_bytes_differ() {
        let issuers = |parts: &[&[u8]]| parts.iter().map(|part| Box::from(*part)).collect::<Vec<_>>();
        let one = key(b"ab", &issuers(&[b"c"]), true, Purpose::Client);
        assert_ne!(one, key(b"a", &issuers(&[b"bc"]), true, Purpose::Client));
        assert_ne!(one, key(b"ab", &issuers(&[b"c"]), false, Purpose::Client));
        assert_ne!(one, key(b"ab", &issuers(&[b"c"]), true, Purpose::Server));
    }
}
