//! Where a message's body ends (RFC 9112 section 6.3). Where parties may differ over it, nobody is followed: [`Framing::Unknown`].

use crate::exchange::Deviations;

/// What a head says of the length of its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyLength {
    /// Nothing.
    #[default]
    Absent,
    /// Different parties may read it differently.
    Ambiguous,
    /// The chunked transfer coding.
    Chunked,
    /// So many bytes.
    Fixed(u64),
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By the chunked transfer coding.
    Chunked,
    /// So many bytes.
    Fixed(u64),
    /// There are no messages any more: the connection is a tunnel.
    Tunnel,
    /// The response tells whether messages follow (CONNECT).
    Undecided,
    /// By the end of the connection.
    UntilClose,
    /// It cannot be told where the next message begins.
    Unknown,
}

/// What must be known of a request to frame its response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The method was HEAD.
    pub head: bool,
    /// The method was CONNECT.
    pub connect: bool,
    /// Another protocol was offered (RFC 9110 section 7.8): what follows may be no message.
    pub upgrade: bool,
}

impl Asked {
    /// What matters of a request's method, compared by case (RFC 9110 section 9.1).
    #[must_use]
    pub fn by(method: &str) -> Self {
        Self { head: method == "HEAD", connect: method == "CONNECT", upgrade: false }
    }
}

/// Gathers `Content-Length` and `Transfer-Encoding` of one head.
#[derive(Debug, Default)]
pub struct Lengths {
    fixed: Option<u64>,
    conflict: bool,
    codings: bool,
    last_is_chunked: bool,
    odd: bool,
}

impl Lengths {
    /// Takes a `Content-Length` value: one number, or the same one in a list (RFC 9110 section 8.6).
    pub fn content_length(&mut self, value: &[u8]) {
        for element in value.split(|byte| *byte == b',') {
            let digits = element.trim_ascii();
            let number = std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
            match (number.and_then(|number| number.parse::<u64>().ok()), self.fixed) {
                (Some(number), None) => self.fixed = Some(number),
                (Some(number), Some(before)) if number == before => {}
                _ => self.conflict = true,
            }
        }
    }

    /// Takes a `Transfer-Encoding` value. Names other than those registered are taken for an attempt to hide one.
    pub fn transfer_encoding(&mut self, value: &[u8]) {
        for element in value.split(|byte| *byte == b',') {
            let coding = element.trim_ascii();
            // A second `chunked`, or anything behind it.
            self.odd |= self.last_is_chunked;
            self.codings = true;
            self.last_is_chunked = coding.eq_ignore_ascii_case(b"chunked");
            let known: [&[u8]; 5] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"];
            self.odd |= !self.last_is_chunked && !known.iter().any(|name| coding.eq_ignore_ascii_case(name));
        }
    }

    /// What the head says, all in all; notes how it bends the rules.
    pub fn conclude(&self, minor_version: u8, deviations: &mut Deviations) -> BodyLength {
        let old = self.codings && minor_version == 0;
        deviations.conflicting_length = self.conflict;
        deviations.length_and_chunked = self.codings && (self.fixed.is_some() || self.conflict);
        deviations.odd_transfer_encoding = self.codings && (self.odd || !self.last_is_chunked || old);
        if deviations.conflicting_length || deviations.length_and_chunked || deviations.odd_transfer_encoding {
            BodyLength::Ambiguous
        } else if self.codings {
            BodyLength::Chunked
        } else {
            self.fixed.map_or(BodyLength::Absent, BodyLength::Fixed)
        }
    }
}

/// How a request's body is delimited.
#[must_use]
pub fn request(asked: Asked, length: BodyLength) -> Framing {
    match length {
        _ if asked.connect => Framing::Undecided,
        BodyLength::Absent => Framing::Fixed(0),
        BodyLength::Ambiguous => Framing::Unknown,
        BodyLength::Chunked => Framing::Chunked,
        BodyLength::Fixed(length) => Framing::Fixed(length),
    }
}

/// How a response's body is delimited; `asked` is `None` when its request is not known.
#[must_use]
pub fn response(status: u16, asked: Option<Asked>, length: BodyLength) -> Framing {
    match (status, asked) {
        (101, _) => Framing::Tunnel,
        (100..=199 | 204 | 304, _) => Framing::Fixed(0),
        // Whether it answers HEAD or CONNECT is not known: only an empty body ends at the same place in any case.
        (_, None) if length == BodyLength::Fixed(0) => Framing::Fixed(0),
        (_, None) => Framing::Unknown,
        (_, Some(Asked { head: true, .. })) => Framing::Fixed(0),
        (200..=299, Some(Asked { connect: true, .. })) => Framing::Tunnel,
        _ => match length {
            BodyLength::Absent => Framing::UntilClose,
            BodyLength::Ambiguous => Framing::Unknown,
            BodyLength::Chunked => Framing::Chunked,
            BodyLength::Fixed(length) => Framing::Fixed(length),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conclude(lengths: &[&str], encodings: &[&str], minor: u8) -> (BodyLength, Deviations) {
        let mut gathered = Lengths::default();
        lengths.iter().for_each(|value| gathered.content_length(value.as_bytes()));
        encodings.iter().for_each(|value| gathered.transfer_encoding(value.as_bytes()));
        let mut deviations = Deviations::default();
        (gathered.conclude(minor, &mut deviations), deviations)
    }

    #[test]
    fn plain_lengths_are_followed() {
        let none = Deviations::default();
        assert_eq!(conclude(&[], &[], 1), (BodyLength::Absent, none));
        assert_eq!(conclude(&["5"], &[], 1), (BodyLength::Fixed(5), none));
        assert_eq!(conclude(&["5, 5", "5"], &[], 1), (BodyLength::Fixed(5), none));
        assert_eq!(conclude(&[], &["chunked"], 1), (BodyLength::Chunked, none));
        assert_eq!(conclude(&[], &["gzip, Chunked"], 1), (BodyLength::Chunked, none));
        assert_eq!(conclude(&[], &["gzip", "chunked"], 1), (BodyLength::Chunked, none));
    }

    #[test]
    fn smuggling_shapes_are_flagged_and_not_followed() {
        for lengths in
            [&["5", "6"][..], &["5,6"], &["+5"], &["-1"], &["0x5"], &[""], &["5 5"], &["99999999999999999999"]]
        {
            let (length, deviations) = conclude(lengths, &[], 1);
            assert_eq!(length, BodyLength::Ambiguous, "{lengths:?}");
            assert!(deviations.conflicting_length, "{lengths:?}");
        }
        let (length, deviations) = conclude(&["5"], &["chunked"], 1);
        assert_eq!(length, BodyLength::Ambiguous);
        assert!(deviations.length_and_chunked && !deviations.odd_transfer_encoding);
        for encodings in [
            &["xchunked"][..],
            &["chunked, identity"],
            &["identity, chunked"],
            &["chunked", "chunked"],
            &["chunked", "x"],
            &["gzip"],
            &["\x0bchunked"],
            &["chunked;a=b"],
            &[""],
        ] {
            let (length, deviations) = conclude(&[], encodings, 1);
            assert_eq!(length, BodyLength::Ambiguous, "{encodings:?}");
            assert!(deviations.odd_transfer_encoding, "{encodings:?}");
        }
        let (length, deviations) = conclude(&[], &["chunked"], 0);
        assert_eq!(length, BodyLength::Ambiguous);
        assert!(deviations.odd_transfer_encoding);
    }

    #[test]
    fn responses_are_framed_by_status_and_request() {
        let get = Some(Asked::by("GET"));
        let cases = [
            (200, get, BodyLength::Fixed(7), Framing::Fixed(7)),
            (200, get, BodyLength::Chunked, Framing::Chunked),
            (200, get, BodyLength::Absent, Framing::UntilClose),
            (200, get, BodyLength::Ambiguous, Framing::Unknown),
            (200, Some(Asked::by("HEAD")), BodyLength::Fixed(7), Framing::Fixed(0)),
            (204, get, BodyLength::Fixed(7), Framing::Fixed(0)),
            (304, get, BodyLength::Fixed(7), Framing::Fixed(0)),
            (100, get, BodyLength::Absent, Framing::Fixed(0)),
            (101, get, BodyLength::Absent, Framing::Tunnel),
            (200, Some(Asked::by("CONNECT")), BodyLength::Absent, Framing::Tunnel),
            (407, Some(Asked::by("CONNECT")), BodyLength::Fixed(7), Framing::Fixed(7)),
            (200, None, BodyLength::Fixed(7), Framing::Unknown),
            (200, None, BodyLength::Fixed(0), Framing::Fixed(0)),
            (204, None, BodyLength::Fixed(7), Framing::Fixed(0)),
        ];
        for (status, asked, length, expected) in cases {
            assert_eq!(response(status, asked, length), expected, "{status} {asked:?} {length:?}");
        }
    }
}
