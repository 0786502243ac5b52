//! A bounded cache that forgets what has not been used for long.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash},
};

use crate::hash::Keyed;

/// Holds at most `limit` entries. When it is full, a hand goes round the entries: one used since the hand last passed is spared
/// once, another is forgotten ("second chance"). Every operation takes constant time on average.
#[derive(Debug)]
pub(crate) struct Cache<K, V, S = Keyed> {
    /// Where each key's entry is in `slots`.
    places: HashMap<K, usize, S>,
    slots: Vec<Slot<K, V>>,
    hand: usize,
    /// Where [`Self::sweep`] goes on.
    broom: usize,
    limit: usize,
    evicted: u64,
}

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    used: bool,
}

impl<K: Copy + Eq + Hash, V, S: BuildHasher + Default> Cache<K, V, S> {
    pub(crate) fn new(limit: usize) -> Self {
        let places = HashMap::default();
        Self { places, slots: Vec::new(), hand: 0, broom: 0, limit: limit.max(1), evicted: 0 }
    }

    /// Puts a value in, which does not count as use, and gives it.
    pub(crate) fn insert(&mut self, key: K, value: V) -> &mut V {
        if let Some(place) = self.places.get(&key) {
            let slot = &mut self.slots[*place];
            slot.value = value;
            return &mut slot.value;
        }
        let slot = Slot { key, value, used: false };
        let place = if self.slots.len() < self.limit {
            self.slots.push(slot);
            self.slots.len() - 1
        } else {
            let place = self.forgettable();
            self.evicted += 1;
            self.places.remove(&self.slots[place].key);
            self.slots[place] = slot;
            place
        };
        self.places.insert(key, place);
        &mut self.slots[place].value
    }

    /// What is known of a key, or what `new` makes of it.
    pub(crate) fn get_or_insert_with(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        match self.places.get(&key) {
            Some(place) => {
                let slot = &mut self.slots[*place];
                slot.used = true;
                &mut slot.value
            }
            None => self.insert(key, new()),
        }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<&mut V> {
        let slot = &mut self.slots[*self.places.get(key)?];
        slot.used = true;
        Some(&mut slot.value)
    }

    /// What is known of a key, without that counting as use.
    pub(crate) fn peek(&self, key: &K) -> Option<&V> {
        Some(&self.slots[*self.places.get(key)?].value)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// How many entries were forgotten for others.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.slots.iter().map(|slot| (&slot.key, &slot.value))
    }

    /// Looks at the next `steps` entries and lets go of those that have expired.
    pub(crate) fn sweep(&mut self, steps: usize, mut expired: impl FnMut(&K, &V) -> bool) {
        for _ in 0..steps.min(self.slots.len()) {
            if self.broom >= self.slots.len() {
                self.broom = 0;
            }
            let Some(slot) = self.slots.get(self.broom) else { return };
            if expired(&slot.key, &slot.value) {
                let gone = self.slots.swap_remove(self.broom);
                self.places.remove(&gone.key);
                if let Some(moved) = self.slots.get(self.broom) {
                    self.places.insert(moved.key, self.broom);
                }
            } else {
                self.broom += 1;
            }
        }
    }

    /// The next entry that was not used lately. The hand clears what it passes, so it ends after one round at most.
    fn forgettable(&mut self) -> usize {
        loop {
            let place = if self.hand < self.slots.len() { self.hand } else { 0 };
            self.hand = place + 1;
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
        let mut cache: Cache<i32, _> = Cache::new(8);
        cache.insert(0, "kept");
        for i in 1..1000 {
            cache.insert(i, "");
            assert_eq!(cache.get(&0).copied(), Some("kept"), "after {i}");
            assert!(cache.len() <= 8, "{} entries", cache.len());
        }
        assert_eq!(cache.get(&1), None);
        assert_eq!(cache.get(&999).copied(), Some(""));
        assert_eq!(cache.evicted(), 992);
    }

    #[test]
    fn inserting_again_replaces() {
        let mut cache: Cache<i32, _> = Cache::new(8);
        for i in 0..6 {
            cache.insert(i, 'a');
        }
        cache.insert(1, 'b');
        cache.insert(5, 'c');
        assert_eq!((cache.get(&1).copied(), cache.get(&5).copied(), cache.len()), (Some('b'), Some('c'), 6));
    }

    #[test]
    fn a_sweep_lets_go_of_what_has_expired_and_the_rest_is_found() {
        let mut cache: Cache<i32, i32> = Cache::new(100);
        for i in 0..100 {
            cache.insert(i, i);
        }
        for _ in 0..10 {
            cache.sweep(20, |_, value| value % 3 == 0);
        }
        let left: Vec<i32> = (0..100).filter(|key| cache.peek(key).is_some_and(|value| value == key)).collect();
        assert_eq!(left, (0..100).filter(|key| key % 3 != 0).collect::<Vec<_>>());
        assert_eq!((cache.len(), cache.iter().count(), cache.limit(), cache.evicted()), (66, 66, 100, 0));
        for i in 100..300 {
            cache.insert(i, i);
        }
        assert_eq!((cache.len(), cache.evicted()), (100, 166));
        cache.sweep(1000, |_, _| true);
        assert_eq!((cache.len(), cache.peek(&299)), (0, None));
    }
}
