use proptest::prelude::*;

use super::*;

/// Bytes from hexadecimal digits; white space is passed over.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("hexadecimal");
    digits.chunks(2).map(pair).collect()
}

type Pair = (Option<String>, Option<String>);

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Pair>, Broken> {
    let mut fields = Vec::new();
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    decoder.decode(block, &mut |field| fields.push((text(field.name), text(field.value))))?;
    Ok(fields)
}

fn known(pairs: &[(&str, &str)]) -> Vec<Pair> {
    pairs.iter().map(|(name, value)| (Some((*name).to_owned()), Some((*value).to_owned()))).collect()
}

const FIRST: &[(&str, &str)] =
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];

/// RFC 7541 appendices C.3 and C.4: requests, without and with the Huffman code.
#[test]
fn requests_of_the_rfc() {
    let mut second = FIRST.to_vec();
    second.push(("cache-control", "no-cache"));
    let third = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ];
    for blocks in [
        [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ],
        [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ],
    ] {
        let mut decoder = Decoder::default();
        let expected = [known(FIRST), known(&second), known(&third)];
        for (block, expected) in blocks.into_iter().zip(expected) {
            assert_eq!(decode(&mut decoder, &hex(block)), Ok(expected), "{block}");
        }
    }
}

/// RFC 7541 appendices C.5 and C.6: responses with a table of 256 bytes, so that entries are put out.
#[test]
fn responses_of_the_rfc() {
    let first = [
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ];
    let second = [(":status", "307"), first[1], first[2], first[3]];
    let third = [
        (":status", "200"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        ("location", "https://www.example.com"),
        ("content-encoding", "gzip"),
        ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
    ];
    for blocks in [
        [
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d \
             546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f \
             6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b \
             2076 6572 7369 6f6e 3d31",
        ],
        [
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 \
             8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 \
             dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ],
    ] {
        let mut decoder = Decoder::default();
        let mut size = Vec::new();
        encode_size(&mut size, 256);
        assert_eq!(decode(&mut decoder, &size), Ok(Vec::new()));
        for (block, expected) in blocks.into_iter().zip([known(&first), known(&second), known(&third)]) {
            assert_eq!(decode(&mut decoder, &hex(block)), Ok(expected), "{block}");
        }
        assert_eq!(decode(&mut decoder, &[0xc2]), Err(Broken), "the fourth entry was put out");
    }
}

/// RFC 7541 appendices C.1 and C.2.
#[test]
fn integers_and_literals_of_the_rfc() {
    let mut block = Vec::new();
    integer(&mut block, 0, 5, 10);
    integer(&mut block, 0, 5, 1337);
    integer(&mut block, 0, 8 - 1, 42);
    assert_eq!(block, [10, 31, 154, 10, 42]);
    let mut input = Input { bytes: &block };
    assert_eq!((input.integer(5), input.integer(5), input.integer(7)), (Ok(10), Ok(1337), Ok(42)));
    let mut decoder = Decoder::default();
    for (block, expected) in [
        ("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", ("custom-key", "custom-header")),
        ("040c 2f73 616d 706c 652f 7061 7468", (":path", "/sample/path")),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", ("password", "secret")),
        ("82", (":method", "GET")),
        ("be", ("custom-key", "custom-header")),
    ] {
        assert_eq!(decode(&mut decoder, &hex(block)), Ok(known(&[expected])), "{block}");
    }
}

#[test]
fn what_is_no_block_is_refused() {
    for block in
        ["80", "be", "ff ff ff ff ff 7f", "40 05 61", "00", "7f 80", "41 81", "41 ff ff ff ff 0f", "3f ff ff ff ff ff"]
    {
        assert_eq!(decode(&mut Decoder::default(), &hex(block)), Err(Broken), "{block}");
    }
}

/// After a loss only what needs no table is known, until the encoder states a size: then what is added from there on.
#[test]
fn a_lost_table_says_so_and_is_known_again() {
    let mut decoder = Decoder::default();
    decode(&mut decoder, &hex("4001 6101 62")).expect("a block");
    decoder.lose();
    let unknown: Pair = (None, None);
    let mut expected = known(&[(":method", "GET"), ("x", "y")]);
    expected.extend([unknown.clone(), (None, Some("v".to_owned()))]);
    assert_eq!(decode(&mut decoder, &hex("82 4001 7801 79 be 7e 01 76")), Ok(expected));
    // Emptied: all that follows is known, and an index too high is no index.
    let mut block = Vec::new();
    encode_size(&mut block, 0);
    encode_size(&mut block, 4096);
    block.extend(hex("4001 6101 62 be"));
    assert_eq!(decode(&mut decoder, &block), Ok(known(&[("a", "b"), ("a", "b")])));
    assert_eq!(decode(&mut decoder, &hex("bf")), Err(Broken));
    // Of a stated size: what is added is known, what is behind it is not, until it must be gone.
    let mut block = Vec::new();
    encode_size(&mut block, 100);
    block.extend(hex("4001 6101 62 be bf"));
    let mut expected = known(&[("a", "b"), ("a", "b")]);
    expected.push(unknown);
    assert_eq!(decode(&mut decoder, &block), Ok(expected));
    decode(&mut decoder, &hex("4001 6101 63 4001 6101 64")).expect("a block");
    assert_eq!(decode(&mut decoder, &hex("be bf")), Ok(known(&[("a", "d"), ("a", "c")])));
    assert_eq!(decode(&mut decoder, &hex("c0")), Err(Broken));
}

/// One byte for a field of 4,000: the decoder copies none of them, whatever is put.
#[test]
fn a_bomb_costs_no_memory() {
    let mut decoder = Decoder::default();
    let mut block = Vec::new();
    encode(&mut block, Put::Entry(0), b"a", &[b'x'; 4000], false);
    block.extend(vec![0xbe; 60_000]);
    let mut fields = 0;
    decoder.decode(&block, &mut |_| fields += 1).expect("a block");
    assert_eq!(fields, 60_001);
    assert!(decoder.buffered() < 8192, "{}", decoder.buffered());
}

#[test]
fn a_table_is_never_larger_than_the_largest() {
    let mut decoder = Decoder::default();
    let mut block = Vec::new();
    encode_size(&mut block, 1 << 27);
    for index in 0..100_000_u32 {
        encode(&mut block, Put::Entry(0), &index.to_be_bytes(), b"", false);
    }
    decode(&mut decoder, &block).expect("a block");
    assert!(decoder.buffered() <= 4 * table::LARGEST_SIZE, "{}", decoder.buffered());
    // The peer may still know the first.
    let mut block = Vec::new();
    encode(&mut block, Put::Index(61 + 90_000), b"", b"", false);
    assert_eq!(decode(&mut decoder, &block), Ok(vec![(None, None)]));
}

/// An encoder that uses tables as it likes: what the decoder says must be what was put.
#[derive(Default)]
struct Encoder {
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    limit: Option<usize>,
}

impl Encoder {
    fn add(&mut self, name: &[u8], value: &[u8]) {
        self.entries.insert(0, (name.to_vec(), value.to_vec()));
        self.fit();
    }

    fn fit(&mut self) {
        let size = |entries: &[(Vec<u8>, Vec<u8>)]| entries.iter().map(|(n, v)| n.len() + v.len() + 32).sum::<usize>();
        while size(&self.entries) > self.limit.unwrap_or(4096) {
            self.entries.pop();
        }
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        fields in proptest::collection::vec((0..6_u8, "[a-z]{1,9}", "[ -~]{0,40}", any::<bool>(), 0..700_usize), 1..60)
    ) {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        for (kind, name, value, huffman, size) in fields {
            let mut block = Vec::new();
            let (name, value) = (name.as_bytes(), value.as_bytes());
            let mut expected = vec![(Some(name.to_vec()), Some(value.to_vec()))];
            let at = encoder.entries.iter().position(|entry| entry.0 == name);
            match (kind, encoder.entries.get(size % 20).cloned()) {
                (0, _) => {
                    encoder.limit = Some(size);
                    encoder.fit();
                    encode_size(&mut block, size);
                    expected.clear();
                }
                (1, Some((name, value))) => {
                    encode(&mut block, Put::Index(62 + size % 20), b"", b"", huffman);
                    expected = vec![(Some(name), Some(value))];
                }
                (2, _) => encode(&mut block, Put::Literal(at.map_or(0, |at| at + 62)), name, value, huffman),
                _ => {
                    encode(&mut block, Put::Entry(at.map_or(0, |at| at + 62)), name, value, huffman);
                    encoder.add(name, value);
                }
            }
            let mut decoded = Vec::new();
            decoder.decode(&block, &mut |field| decoded.push((field.name.map(<[u8]>::to_vec), field.value.map(<[u8]>::to_vec))))
                .expect("a block");
            prop_assert_eq!(decoded, expected);
        }
    }

    /// A decoder that joins in the middle says nothing that one from the start does not say.
    #[test]
    fn a_decoder_that_joins_late_is_never_wrong(
        fields in proptest::collection::vec((0..8_u8, "[a-c]", "[a-z]{0,30}", 0..300_usize), 1..80), join in 0..40_usize
    ) {
        let (mut whole, mut late) = (Decoder::default(), Decoder::default());
        late.lose();
        let mut entries = 0;
        for (at, (kind, name, value, size)) in fields.into_iter().enumerate() {
            let mut block = Vec::new();
            match kind {
                0 => encode_size(&mut block, size),
                1..4 if entries > 0 => encode(&mut block, Put::Index(62 + size % entries), b"", b"", false),
                _ => {
                    encode(&mut block, Put::Entry(0), name.as_bytes(), value.as_bytes(), false);
                    entries = (entries + 1).min(20);
                }
            }
            let Ok(right) = decode(&mut whole, &block) else { break };
            if at < join {
                continue;
            }
            let said = decode(&mut late, &block).expect("what the other decodes");
            for (said, right) in said.iter().zip(&right) {
                prop_assert!(said.0.is_none() || said.0 == right.0, "{said:?} {right:?}");
                prop_assert!(said.1.is_none() || said.1 == right.1, "{said:?} {right:?}");
            }
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20)) {
        let mut decoder = Decoder::default();
        for block in blocks {
            let _: Result<(), Broken> = decoder.decode(&block, &mut |_| {});
            prop_assert!(decoder.buffered() <= 4 * table::LARGEST_SIZE);
        }
    }
}
