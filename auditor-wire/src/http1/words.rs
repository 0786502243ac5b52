//! Looking for bytes of a kind, eight at once.

const ONES: u64 = u64::MAX / 255;
const TOP_BITS: u64 = ONES * 0x80;

/// The top bit of the first byte that is a control character of ASCII, and perhaps of later ones: what is borrowed from a byte that
/// was found changes those behind it.
#[inline]
fn controls(word: u64) -> u64 {
    let delete = word ^ (ONES * 0x7f);
    ((word.wrapping_sub(ONES * 0x20) & !word) | (delete.wrapping_sub(ONES) & !delete)) & TOP_BITS
}

/// The top bit of each byte that is white space or not printable ASCII. Nothing is carried from one byte to the next: the sum of two
/// numbers below 128 is below 256.
#[inline]
fn not_graphic(word: u64) -> u64 {
    let low = word & !TOP_BITS;
    (!(low + ONES * 0x5f) | (low + ONES) | word) & TOP_BITS
}

/// How many bytes stand before the first of which `found` sets the top bit, and `is` says so.
#[inline]
fn before(bytes: &[u8], found: impl Fn(u64) -> u64, is: impl Fn(u8) -> bool) -> usize {
    let first = |found: u64| found.trailing_zeros() as usize / 8;
    let (words, rest) = bytes.as_chunks::<8>();
    let (pairs, last) = words.as_chunks::<2>();
    for (index, [one, other]) in pairs.iter().enumerate() {
        let (one, other) = (found(u64::from_le_bytes(*one)), found(u64::from_le_bytes(*other)));
        if one | other != 0 {
            return index * 16 + if one == 0 { 8 + first(other) } else { first(one) };
        }
    }
    for word in last {
        let found = found(u64::from_le_bytes(*word));
        if found != 0 {
            return pairs.len() * 16 + first(found);
        }
    }
    words.len() * 8 + rest.iter().take_while(|byte| !is(**byte)).count()
}

/// How many bytes stand before the first control character of ASCII.
#[inline]
pub(super) fn before_control(bytes: &[u8]) -> usize {
    before(bytes, controls, |byte| byte.is_ascii_control())
}

/// How many bytes stand before the first that is white space or not printable ASCII.
#[inline]
pub(super) fn before_not_graphic(bytes: &[u8]) -> usize {
    before(bytes, not_graphic, |byte| !byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_byte_is_told_wherever_it_stands() {
        for byte in 0..=255_u8 {
            for at in 0..40 {
                let mut bytes = [b'a'; 40];
                bytes[at] = byte;
                let expected = |is: bool| if is { at } else { 40 };
                assert_eq!(before_control(&bytes), expected(byte.is_ascii_control()), "{byte} at {at}");
                assert_eq!(before_not_graphic(&bytes), expected(!byte.is_ascii_graphic()), "{byte} at {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_first_is_found_among_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let first = |is: fn(&u8) -> bool| bytes.iter().position(is).unwrap_or(bytes.len());
            prop_assert_eq!(before_control(&bytes), first(u8::is_ascii_control));
            prop_assert_eq!(before_not_graphic(&bytes), first(|byte| !byte.is_ascii_graphic()));
        }
    }
}
