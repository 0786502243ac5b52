//! A map that forgets: bounded, and what is not used for long is gone.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::segment::Timestamp;

/// Two generations: what is used moves to the young one, and the old one is dropped whole when the young one is full or aged.
/// So each step costs the same, whatever is asked for.
#[derive(Debug)]
pub(super) struct Memory<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// When the young generation began.
    began: Timestamp,
    /// Most entries of a generation.
    most: usize,
    /// Longest life of a generation.
    age: Duration,
}

impl<K: Eq + Hash + Copy, V> Memory<K, V> {
    /// A memory of at most `most` entries, each forgotten between half of `idle` and `idle` after its last use.
    pub(super) fn new(most: usize, idle: Duration) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), began: Timestamp(0), most: (most / 2).max(1), age: idle / 2 }
    }

    /// An entry, as used now.
    pub(super) fn get(&mut self, key: K, now: Timestamp) -> Option<&mut V> {
        self.turn(now);
        if let Some(value) = self.old.remove(&key) {
            self.insert(key, value, now);
        }
        self.young.get_mut(&key)
    }

    /// Adds an entry, or replaces it.
    pub(super) fn insert(&mut self, key: K, value: V, now: Timestamp) {
        self.turn(now);
        if self.young.len() >= self.most && !self.young.contains_key(&key) {
            self.age(now);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Entries held.
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Lets generations pass.
    fn turn(&mut self, now: Timestamp) {
        let age = u64::try_from(self.age.as_nanos()).unwrap_or(u64::MAX);
        let passed = now.0.saturating_sub(self.began.0);
        if passed >= age {
            self.age(now);
            if passed / 2 >= age {
                self.old = HashMap::new();
            }
        }
    }

    fn age(&mut self, now: Timestamp) {
        self.old = std::mem::take(&mut self.young);
        self.began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn forgets_what_is_not_used() {
        let mut memory = Memory::new(100, Duration::from_secs(10));
        let at = |seconds: u64| Timestamp(100 * SECOND + seconds * SECOND);
        memory.insert(1, 'a', at(0));
        memory.insert(2, 'b', at(0));
        for seconds in [4, 8, 12, 16, 20] {
            assert_eq!(memory.get(1, at(seconds)), Some(&mut 'a'), "used after {seconds} s");
        }
        assert_eq!(memory.get(2, at(20)), None);
        assert_eq!(memory.get(1, at(31)), None, "two generations passed");
        assert_eq!(memory.len(), 0);
        assert_eq!(memory.get(1, at(0)), None, "time that goes back changes nothing");
    }

    #[test]
    fn holds_no_more_than_it_may() {
        let mut memory = Memory::new(10, Duration::from_secs(10));
        for key in 0..1000 {
            memory.insert(key, (), Timestamp(SECOND));
            assert!(memory.len() <= 10, "{}", memory.len());
            assert!(memory.get(key, Timestamp(SECOND)).is_some(), "the last is there");
        }
    }
}
