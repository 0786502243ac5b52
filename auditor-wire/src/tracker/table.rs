//! The table of connections: by socket, in order of last use to the second, bounded.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::segment::{SocketId, Timestamp};

const NONE: u32 = u32::MAX;

/// A connection takes its place in the order anew when it has not for so long, nanoseconds: each time its neighbours in the order, which
/// are nowhere near it in memory, are written.
const ORDER_NS: u64 = 1_000_000_000;

/// Connections by socket, least recently used first, to the second.
pub(crate) struct Table<T> {
    places: HashMap<SocketId, u32, BuildHasherDefault<SocketHasher>>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
}

struct Slot<T> {
    id: SocketId,
    used: Timestamp,
    /// When it took its place in the order.
    ordered: Timestamp,
    newer: u32,
    older: u32,
    value: Option<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { places: HashMap::default(), slots: Vec::new(), free: Vec::new(), newest: NONE, oldest: NONE }
    }
}

impl<T> Table<T> {
    /// Bytes of one place.
    #[cfg(test)]
    pub(crate) const SLOT: usize = size_of::<Slot<T>>();

    pub(crate) fn insert(&mut self, id: SocketId, now: Timestamp, value: T) {
        self.remove(id);
        let slot = Slot { id, used: now, ordered: now, newer: NONE, older: NONE, value: Some(value) };
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = slot;
                place
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("the table holds fewer than 2^32 connections")
            }
        };
        self.places.insert(id, place);
        self.link(place);
    }

    pub(crate) fn remove(&mut self, id: SocketId) -> Option<T> {
        let place = self.places.remove(&id)?;
        self.unlink(place);
        self.free.push(place);
        self.slots[place as usize].value.take()
    }

    /// The connection of a socket, which counts as used now.
    pub(crate) fn touch(&mut self, id: SocketId, now: Timestamp) -> Option<&mut T> {
        let place = *self.places.get(&id)?;
        let slot = &mut self.slots[place as usize];
        slot.used = now;
        if now.0.saturating_sub(slot.ordered.0) >= ORDER_NS {
            self.order(place, now);
        }
        self.slots[place as usize].value.as_mut()
    }

    /// A socket counts as used at `time`, and is the last in the order.
    pub(crate) fn renew(&mut self, id: SocketId, time: Timestamp) {
        if let Some(place) = self.places.get(&id).copied() {
            self.slots[place as usize].used = time;
            self.order(place, time);
        }
    }

    pub(crate) fn get(&self, id: SocketId) -> Option<&T> {
        self.slots[*self.places.get(&id)? as usize].value.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: SocketId) -> Option<&mut T> {
        self.slots[*self.places.get(&id)? as usize].value.as_mut()
    }

    /// When a socket was used last.
    pub(crate) fn used(&self, id: SocketId) -> Option<Timestamp> {
        Some(self.slots[*self.places.get(&id)? as usize].used)
    }

    /// The socket that was not used for longest, and when it was.
    pub(crate) fn oldest(&self) -> Option<(SocketId, Timestamp)> {
        let slot = self.slots.get(self.oldest as usize)?;
        Some((slot.id, slot.used))
    }

    /// Calls `each` with all sockets, least recently used first.
    pub(crate) fn for_each(&self, mut each: impl FnMut(SocketId)) {
        let mut place = self.oldest;
        while let Some(slot) = self.slots.get(place as usize) {
            each(slot.id);
            place = slot.newer;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    fn order(&mut self, place: u32, now: Timestamp) {
        self.slots[place as usize].ordered = now;
        if self.newest != place {
            self.unlink(place);
            self.link(place);
        }
    }

    fn link(&mut self, place: u32) {
        let before = std::mem::replace(&mut self.newest, place);
        self.slots[place as usize].older = before;
        self.slots[place as usize].newer = NONE;
        match self.slots.get_mut(before as usize) {
            Some(slot) => slot.newer = place,
            None => self.oldest = place,
        }
    }

    fn unlink(&mut self, place: u32) {
        let Slot { newer, older, .. } = self.slots[place as usize];
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
    }
}

/// Socket cookies are counters that nobody outside the kernel chooses: one multiplication spreads them.
#[derive(Default)]
pub(crate) struct SocketHasher(u64);

impl Hasher for SocketHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let product = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order_of_last_use() {
        let mut table = Table::default();
        for id in 0..4 {
            table.insert(SocketId(id), Timestamp(id * ORDER_NS), id);
        }
        table.touch(SocketId(0), Timestamp(4 * ORDER_NS));
        // Too soon to matter.
        table.touch(SocketId(3), Timestamp(4 * ORDER_NS - 1));
        assert_eq!(table.used(SocketId(3)), Some(Timestamp(4 * ORDER_NS - 1)));
        assert_eq!(table.remove(SocketId(2)), Some(2));
        let mut order = Vec::new();
        while let Some((id, _)) = table.oldest() {
            order.push(id.0);
            table.remove(id);
        }
        assert_eq!(order, [1, 3, 0]);
        assert_eq!(table.len(), 0);
        table.insert(SocketId(7), Timestamp(1), 7);
        assert_eq!(table.get(SocketId(7)), Some(&7));
        assert_eq!(table.oldest(), Some((SocketId(7), Timestamp(1))));
        table.insert(SocketId(8), Timestamp(2), 8);
        table.renew(SocketId(7), Timestamp(3));
        assert_eq!(table.oldest(), Some((SocketId(8), Timestamp(2))));
    }
}
