//! A bounded cache that forgets what has not been used for long.

use std::{collections::HashMap, hash::Hash};

/// Holds at most `limit` entries. Two generations: what is used moves to the young one; when that is full it becomes the old
/// one, and what was old and unused is gone. Every operation takes constant time.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Eq + Hash, V> Cache<K, V> {
    pub(super) fn new(limit: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: (limit / 2).max(1) }
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    pub(super) fn get(&mut self, key: &K) -> Option<&mut V> {
        // Entries found in the young generation first: that is the hot path, one look-up.
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.insert(key, value);
        }
        self.young.get_mut(key)
    }

    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_holds_more_than_its_limit_and_keeps_what_is_used() {
        let mut cache = Cache::new(8);
        cache.insert(0, "kept");
        for i in 1..1000 {
            cache.insert(i, "");
            assert_eq!(cache.get(&0).copied(), Some("kept"), "after {i}");
            assert!(cache.len() <= 8, "{} entries", cache.len());
        }
        assert_eq!(cache.get(&1), None);
        assert_eq!(cache.get(&999).copied(), Some(""));
    }

    #[test]
    fn inserting_again_replaces() {
        let mut cache = Cache::new(8);
        for i in 0..6 {
            cache.insert(i, 'a');
        }
        cache.insert(1, 'b');
        cache.insert(5, 'c');
        assert_eq!((cache.get(&1).copied(), cache.get(&5).copied(), cache.len()), (Some('b'), Some('c'), 6));
        cache.clear();
        assert_eq!(cache.get(&1), None);
        assert_eq!(cache.len(), 0);
    }
}
