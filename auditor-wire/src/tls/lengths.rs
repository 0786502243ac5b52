//! What the length of an encrypted record of TLS 1.3 can be (RFC 8446 section 5.2): messages have known lengths, and ciphers add
//! a type and a tag.

/// How many zero bytes Java's implementation pads every record with.
const JAVA_PADDING: u16 = 16;

/// Lengths of records under one cipher suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lengths {
    hash: u16,
    tag: u16,
}

/// How a side pads its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    None,
    /// As Java does.
    Sixteen,
    /// Up to a multiple of so many bytes.
    Blocks(u16),
}

impl Lengths {
    /// Of a suite (IANA TLS Cipher Suites); nothing of one that is not known.
    pub(super) fn of(suite: u16) -> Option<Self> {
        let (hash, tag) = match suite {
            0x1302 => (48, 16),
            0x1301 | 0x1303 | 0x1304 | 0x00c6 | 0x00c7 => (32, 16),
            0x1305 => (32, 8),
            _ => return None,
        };
        Some(Self { hash, tag })
    }

    /// What a record has beside its content: the content's type, and the tag.
    pub(super) fn overhead(self) -> u16 {
        1 + self.tag
    }

    /// A record that holds one message of `body` bytes.
    fn message(self, body: u16) -> u16 {
        4 + body + self.overhead()
    }

    /// A record of this length, or of the same content as Java pads it.
    fn is(length: u16, expected: u16) -> bool {
        length == expected || length == expected + JAVA_PADDING
    }

    /// A Finished message alone.
    pub(super) fn is_finished(self, length: u16) -> bool {
        Self::is(length, self.message(self.hash))
    }

    /// An empty Certificate message alone, in answer to a request with `context` bytes of context.
    pub(super) fn is_empty_certificate(self, length: u16, context: u16) -> bool {
        Self::is(length, self.message(4 + context))
    }

    /// An empty Certificate message and a Finished message.
    pub(super) fn is_empty_flight(self, length: u16) -> bool {
        Self::is(length, self.message(self.hash) + 8)
    }

    /// An alert, given how the side pads, where that is known.
    pub(super) fn may_be_alert(self, length: u16, padding: Option<Padding>) -> bool {
        let alert = 2 + self.overhead();
        match padding {
            None => Self::is(length, alert),
            Some(Padding::None) => length == alert,
            Some(Padding::Sixteen) => length == alert + JAVA_PADDING,
            Some(Padding::Blocks(block)) => length <= block.saturating_add(self.overhead()),
        }
    }

    /// Certainly an alert, given how the side pads.
    pub(super) fn is_alert(self, length: u16, padding: Option<Padding>) -> bool {
        match padding {
            None | Some(Padding::None) => length == 2 + self.overhead(),
            Some(Padding::Sixteen) => self.may_be_alert(length, padding),
            Some(Padding::Blocks(_)) => false,
        }
    }

    /// A CertificateVerify message alone: 8 bytes and a signature.
    pub(super) fn is_certificate_verify(self, length: u16) -> bool {
        let signed = |length: u16| {
            length.checked_sub(8 + self.overhead()).is_some_and(|signature| match signature {
                // ECDSA (DER) and EdDSA on the curves of 256, 384, 448 and 521 bits.
                64..=72 | 96..=104 | 114 | 130..=139 => true,
                // RSA of 1024 to 8192 bits.
                128..=1024 => signature % 8 == 0,
                // ML-DSA-44, -65 and -87.
                2420 | 3309 | 4627 => true,
                _ => false,
            })
        };
        signed(length) || length.checked_sub(JAVA_PADDING).is_some_and(signed)
    }

    /// Messages long enough to be a certificate, its CertificateVerify and Finished in one record: the smallest certificates have
    /// some 200 bytes, the smallest signatures 64.
    pub(super) fn is_certificate_flight(self, length: u16) -> bool {
        length >= self.message(self.hash) + 233
    }

    /// How a side pads that sends this record, where it is a Finished message alone or behind an empty certificate.
    pub(super) fn padding_of_finished(self, length: u16) -> Option<Padding> {
        let finished = self.message(self.hash);
        match length.checked_sub(finished)? {
            0 | 8 => Some(Padding::None),
            JAVA_PADDING | 24 => Some(Padding::Sixteen),
            _ => None,
        }
    }

    /// Too short for a Finished message, and for a Certificate message with as much as a bare key.
    pub(super) fn is_too_short(self, length: u16) -> bool {
        length < self.message(self.hash.min(53))
    }

    /// The block to whose multiples all these records may be padded: the length of the shortest, or the largest power of two
    /// from 32. One record says nothing about a block of its own length.
    pub(super) fn block(self, records: &[u16]) -> Option<u16> {
        let contents = || records.iter().map(|length| length.saturating_sub(self.tag));
        let shortest = contents().min().filter(|block| *block >= 31)?;
        if shortest > 31 && records.len() > 1 && contents().all(|content| content % shortest == 0) {
            return Some(shortest);
        }
        // Some pad to one byte less, and the longest records have one byte more.
        (5..=14).rev().map(|power| 1 << power).find(|block| contents().all(|content| (content + 1) % block <= 2))
    }

    /// What a record must be longer than so that a record without padding would have held more than Finished and an empty
    /// certificate, when it may be padded to a multiple of `block`.
    pub(super) fn most_without_certificate(self, block: u16) -> u16 {
        12_u16.saturating_add(self.hash).saturating_add(self.tag).saturating_add(block)
    }
}
