//! Bytes of heads that arrive in parts. They hold secrets, so growing leaves no copy behind.

use zeroize::{Zeroize as _, Zeroizing};

/// A growing run of bytes that is wiped when it is dropped and whenever it moves.
#[derive(Default)]
pub(crate) struct SecretBuffer {
    bytes: Zeroizing<Vec<u8>>,
}

impl SecretBuffer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Zeroizing::new(Vec::with_capacity(capacity)) }
    }

    pub(crate) fn push(&mut self, more: &[u8]) {
        let needed = self.bytes.len() + more.len();
        if needed > self.bytes.capacity() {
            // A plain `Vec` would free the old allocation with the secrets still in it.
            let mut grown = Vec::with_capacity(needed.next_power_of_two().max(512));
            grown.extend_from_slice(&self.bytes);
            self.bytes.zeroize();
            *self.bytes = grown;
        }
        self.bytes.extend_from_slice(more);
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes themselves. Whoever takes them must wipe them.
    pub(crate) fn into_vec(mut self) -> Vec<u8> {
        std::mem::take(&mut *self.bytes)
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
}
