//! Bytes of heads. They hold secrets: they are wiped when they are dropped, and growing leaves no copy behind.

use std::{fmt, hint::black_box, ops::Deref};

/// A run of bytes that is wiped, with all the room it has, when it is dropped and whenever it moves. The `zeroize` crate writes each
/// byte by itself, and twice, which for the heads of a call was as dear as reading them.
#[derive(Default)]
pub(crate) struct SecretBuffer {
    bytes: Vec<u8>,
}

impl SecretBuffer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    pub(crate) fn push(&mut self, more: &[u8]) {
        let needed = self.bytes.len() + more.len();
        if needed > self.bytes.capacity() {
            // A plain `Vec` would free the old allocation with the secrets still in it.
            let mut grown = Vec::with_capacity(needed.next_power_of_two().max(512));
            grown.extend_from_slice(&self.bytes);
            wipe(&mut self.bytes);
            self.bytes = grown;
        }
        self.bytes.extend_from_slice(more);
    }

    /// Leaves out, and wipes, what is behind `length`.
    pub(crate) fn truncate(&mut self, length: usize) {
        if let Some(rest) = self.bytes.get_mut(length..) {
            rest.fill(0);
            black_box(rest);
        }
        self.bytes.truncate(length);
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes themselves. Whoever takes them must wipe them.
    pub(crate) fn into_vec(mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

/// Writes zeros over all the room that `bytes` has.
fn wipe(bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.resize(bytes.capacity(), 0);
    // Or the compiler would leave out what nobody reads any more.
    black_box(bytes.as_mut_slice());
}

impl Drop for SecretBuffer {
    fn drop(&mut self) {
        wipe(&mut self.bytes);
    }
}

impl From<Vec<u8>> for SecretBuffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }
}

impl Deref for SecretBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for SecretBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBuffer({} bytes)", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_pushed_across_growth() {
        let mut buffer = SecretBuffer::default();
        let expected: Vec<u8> = (0..5000_u32).map(|i| (i % 251) as u8).collect();
        for part in expected.chunks(7) {
            buffer.push(part);
        }
        assert_eq!(buffer.as_slice(), expected);
        assert_eq!(buffer.len(), 5000);
        assert_eq!(buffer.into_vec(), expected);
    }

    #[test]
    fn all_the_room_is_wiped() {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(b"hunter2");
        let (place, capacity) = (bytes.as_ptr(), bytes.capacity());
        wipe(&mut bytes);
        assert_eq!((bytes.as_ptr(), bytes.len(), bytes.capacity()), (place, capacity, capacity), "it does not move");
        assert!(bytes.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn debug_shows_nothing_and_what_is_cut_is_gone() {
        let mut secret = SecretBuffer::from(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "SecretBuffer(7 bytes)");
        secret.truncate(3);
        secret.truncate(9);
        assert_eq!(secret.into_vec(), b"hun");
    }
}
