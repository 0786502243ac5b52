//! A bounded cache that forgets what has not been used for long.

use std::{collections::HashMap, hash::Hash};

/// Holds at most `limit` entries. When it is full, a hand goes round the entries: one used since the hand last passed is spared
/// once, another is forgotten ("second chance"). Every operation takes constant time on average.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    /// Where each key's entry is in `slots`.
    places: HashMap<K, usize>,
    slots: Vec<Slot<K, V>>,
    hand: usize,
    limit: usize,
}

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    used: bool,
}

impl<K: Copy + Eq + Hash, V> Cache<K, V> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { places: HashMap::new(), slots: Vec::new(), hand: 0, limit: limit.max(1) }
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if let Some(known) = self.get(&key) {
            *known = value;
            return;
        }
        let slot = Slot { key, value, used: false };
        let place = if self.slots.len() < self.limit {
            self.slots.push(slot);
            self.slots.len() - 1
        } else {
            let place = self.forgettable();
            self.places.remove(&self.slots[place].key);
            self.slots[place] = slot;
            place
        };
        self.places.insert(key, place);
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<&mut V> {
        let slot = &mut self.slots[*self.places.get(key)?];
        slot.used = true;
        Some(&mut slot.value)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The next entry that was not used lately. The hand clears what it passes, so it ends after one round at most.
    fn forgettable(&mut self) -> usize {
        loop {
            let place = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            if !std::mem::take(&mut self.slots[place].used) {
                return place;
            }
        }
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
    }
}
