//! The Huffman code of RFC 7541 appendix B. It is canonical: its lengths say all of it.

/// Length of each symbol's code, bits.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26,
];

/// Longest code, bits. The last of that length is the end-of-string symbol, which must not appear.
const LONGEST: usize = 30;

/// The code by length.
struct Code {
    /// Symbols by length, then value.
    symbols: [u8; 256],
    /// Of each length: the place of its first symbol in `symbols`.
    first: [u16; LONGEST + 2],
    /// Of each length: its first code.
    base: [u32; LONGEST + 2],
}

static CODE: Code = {
    let mut code = Code { symbols: [0; 256], first: [0; LONGEST + 2], base: [0; LONGEST + 2] };
    let (mut place, mut next, mut length) = (0_u16, 0_u32, 1);
    while length <= LONGEST + 1 {
        code.first[length] = place;
        code.base[length] = next;
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                #[expect(clippy::cast_possible_truncation, reason = "below 256")]
                let value = symbol as u8;
                code.symbols[place as usize] = value;
                place += 1;
                next += 1;
            }
            symbol += 1;
        }
        next <<= 1;
        length += 1;
    }
    code
};

/// Decodes a string, byte by byte, to `put`; `None` when it is not one (RFC 7541 section 5.2: padding is at most seven bits, all
/// of them set).
pub(super) fn decode(bytes: &[u8], mut put: impl FnMut(u8)) -> Option<()> {
    // At most 29 bits are left over from before.
    let (mut bits, mut count) = (0_u64, 0_usize);
    for &byte in bytes {
        bits = bits << 8 | u64::from(byte);
        count += 8;
        while let Some((symbol, used)) = next(bits, count)? {
            put(symbol);
            count -= used;
        }
        bits &= (1 << count) - 1;
    }
    (count < 8 && bits == (1 << count) - 1).then_some(())
}

/// The symbol that begins the lowest `count` bits of `bits`, and its length; `Some(None)` when it is not whole, `None` when no
/// symbol begins there.
fn next(bits: u64, count: usize) -> Option<Option<(u8, usize)>> {
    for length in 5..=LONGEST {
        if length > count {
            return Some(None);
        }
        #[expect(clippy::cast_possible_truncation, reason = "masked to 30 bits")]
        let value = (bits >> (count - length) & ((1 << length) - 1)) as u32;
        let at = u32::from(CODE.first[length]) + value.wrapping_sub(CODE.base[length]);
        if value >= CODE.base[length] && at < u32::from(CODE.first[length + 1]) {
            return Some(Some((CODE.symbols[at as usize], length)));
        }
    }
    None
}

/// Encodes a string: what tests and the fuzz target make their input with.
pub(crate) fn encode(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(bytes.len());
    let (mut bits, mut count) = (0_u64, 0_usize);
    for &byte in bytes {
        let length = usize::from(LENGTHS[usize::from(byte)]);
        let place = CODE.symbols[usize::from(CODE.first[length])..].iter().position(|symbol| *symbol == byte);
        let code = CODE.base[length] + u32::try_from(place.unwrap_or(0)).unwrap_or(0);
        bits = bits << length | u64::from(code);
        count += length;
        while count >= 8 {
            count -= 8;
            encoded.push((bits >> count & 0xff) as u8);
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        encoded.push((bits << (8 - count) & 0xff) as u8 | 0xff_u8 >> count);
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        decode(bytes, |byte| text.push(byte)).map(|()| text)
    }

    /// RFC 7541 appendix C.4 and C.6.
    #[test]
    fn the_examples_of_the_rfc_are_decoded() {
        for (code, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("6402", "302"),
            ("640eff", "307"),
            ("aec3771a4b", "private"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"),
        ] {
            let bytes = super::super::tests::hex(code);
            assert_eq!(decoded(&bytes).as_deref(), Some(text.as_bytes()), "{text}");
            assert_eq!(encode(text.as_bytes()), bytes, "{text}");
        }
    }

    #[test]
    fn padding_is_short_and_of_ones() {
        assert_eq!(decoded(&[0xff]), None);
        assert_eq!(decoded(&[0x1f, 0xff]), None);
        assert_eq!(decoded(&[0b0001_1000]), None);
        assert_eq!(decoded(&[0b0001_1111]).as_deref(), Some(&b"a"[..]));
        // The end-of-string symbol.
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(decoded(&[]).as_deref(), Some(&b""[..]));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decoded(&encode(&text)), Some(text));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(text) = decoded(&bytes) {
                prop_assert!(text.len() <= bytes.len() * 8 / 5);
            }
        }
    }
}
