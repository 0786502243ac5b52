//! Hashing of the hot path. [`Mix`] is for keys that hold nothing a peer chose: numbers given out here and words of the code. What
//! peers choose is looked up with [`Keyed`].

use std::hash::{BuildHasherDefault, Hasher};

/// For tables whose keys peers choose: keyed at random, so that nobody can choose keys that collide, and several times faster than
/// the standard library's.
pub(crate) type Keyed = ahash::RandomState;

/// Builds [`Mix`].
pub(crate) type BuildMix = BuildHasherDefault<Mix>;

/// Multiplies and folds, a word at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mix(u64);

impl Hasher for Mix {
    fn write_u64(&mut self, word: u64) {
        // The golden ratio's bits: odd, and without a pattern.
        let product = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xd1b5_4a32_d192_ed03;
        #[expect(clippy::cast_possible_truncation, reason = "the halves of the product")]
        let (low, high) = (product as u64, (product >> 64) as u64);
        self.0 = low ^ high;
    }

    fn write_u128(&mut self, word: u128) {
        #[expect(clippy::cast_possible_truncation, reason = "the halves of a hash")]
        self.write_u64(word as u64 ^ (word >> 64) as u64);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64((*byte).into());
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, hash::Hasher};

    use super::Mix;

    #[test]
    fn small_numbers_spread_over_high_and_low_bits() {
        let hash = |at: u64| {
            let mut mix = Mix::default();
            mix.write_u64(at);
            mix.finish()
        };
        // The table takes 7 bits from the top and the place from the bottom.
        let low: HashSet<u64> = (0..4096).map(|at| hash(at) & 0xffff).collect();
        let high: HashSet<u64> = (0..4096).map(|at| hash(at) >> 57).collect();
        assert!(low.len() > 3500 && high.len() == 128, "{} {}", low.len(), high.len());
    }
}
