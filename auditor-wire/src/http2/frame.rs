//! Frame headers (RFC 9113 section 4.1).

/// The client's connection preface (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's header.
pub const HEADER: usize = 9;

/// Types of frames (RFC 9113 section 6).
pub const DATA: u8 = 0;
/// Begins a header block.
pub const HEADERS: u8 = 1;
/// Ends a stream.
pub const RST_STREAM: u8 = 3;
/// Begins a header block: that of a request the server answers unasked.
pub const PUSH_PROMISE: u8 = 5;
/// Goes on with a header block.
pub const CONTINUATION: u8 = 9;

const PRIORITY: u8 = 2;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
/// RFC 9218 section 7.1.
const PRIORITY_UPDATE: u8 = 16;

/// Flag: the stream's last frame of this direction.
pub const END_STREAM: u8 = 0x1;
/// Flag: the header block ends.
pub const END_HEADERS: u8 = 0x4;
/// Flag: a length and padding surround the payload.
pub const PADDED: u8 = 0x8;
/// Flag of HEADERS: five bytes of priority precede the block.
pub const PRIORITIZED: u8 = 0x20;

/// Largest payload that nobody has to allow first (RFC 9113 section 6.5.2).
const COMMON_LENGTH: u32 = 16_384;
/// Largest payload of frames that hold no body, where peers allow more: gRPC's C core and nginx do.
const LONGEST_HEAD: u32 = 0xffff;

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Payload bytes.
    pub length: u32,
    /// Type.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// Stream; 0 is the connection.
    pub stream: u32,
}

impl Header {
    /// Reads a header; the reserved bit is passed over.
    #[must_use]
    pub fn read(bytes: &[u8; HEADER]) -> Self {
        let [a, b, c, kind, flags, d, e, f, g] = *bytes;
        let stream = u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff;
        Self { length: u32::from_be_bytes([0, a, b, c]), kind, flags, stream }
    }

    /// Whether an endpoint that keeps to the rules may send this: what bytes are held against where the position in the stream is
    /// not known.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        self.length <= COMMON_LENGTH && self.may_follow()
    }

    /// Whether an endpoint that keeps to the rules may send this behind a frame that was seen: its peer may have allowed longer
    /// payloads before.
    #[must_use]
    pub fn may_follow(&self) -> bool {
        let Self { length, kind, flags, stream } = *self;
        let only = |allowed: u8| flags & !allowed == 0;
        match kind {
            DATA => stream != 0 && only(END_STREAM | PADDED),
            HEADERS => {
                stream != 0
                    && (1..=LONGEST_HEAD).contains(&length)
                    && only(END_STREAM | END_HEADERS | PADDED | PRIORITIZED)
            }
            PRIORITY => stream != 0 && length == 5 && flags == 0,
            RST_STREAM => stream != 0 && length == 4 && flags == 0,
            SETTINGS => {
                stream == 0 && length.is_multiple_of(6) && length <= 600 && (flags == 0 || (flags == 1 && length == 0))
            }
            PUSH_PROMISE => stream != 0 && (5..=LONGEST_HEAD).contains(&length) && only(END_HEADERS | PADDED),
            PING => stream == 0 && length == 8 && only(1),
            GOAWAY => stream == 0 && (8..=COMMON_LENGTH).contains(&length) && flags == 0,
            WINDOW_UPDATE => length == 4 && flags == 0,
            CONTINUATION => stream != 0 && length <= LONGEST_HEAD && only(END_HEADERS),
            PRIORITY_UPDATE => stream == 0 && (4..=COMMON_LENGTH).contains(&length) && flags == 0,
            _ => false,
        }
    }
}

/// The header that `bytes` begin with, when they have one that is plausible.
#[must_use]
pub fn plausible(bytes: &[u8]) -> Option<Header> {
    unreserved(bytes).filter(Header::is_plausible)
}

/// The header that `bytes` begin with, when the reserved bit is not set.
fn unreserved(bytes: &[u8]) -> Option<Header> {
    let header = Header::read(bytes.first_chunk()?);
    let reserved = bytes.get(5).is_some_and(|byte| byte & 0x80 != 0);
    (!reserved).then_some(header)
}

/// Whether a segment of a connection of which nothing is known is one of HTTP/2: it begins with two frames at least, or with one
/// that is all of it.
#[must_use]
pub fn begins(segment: &[u8]) -> bool {
    let Some(first) = plausible(segment) else { return false };
    let length = usize::try_from(first.length).unwrap_or(usize::MAX);
    match segment[HEADER..].get(length..) {
        // One empty frame is too little to go by.
        Some([]) => length > 0,
        Some(rest) => unreserved(rest).is_some_and(|header| header.may_follow()),
        None => false,
    }
}

/// Whether `bytes` begin with the SETTINGS frame that a server may send first; `None` when there are too few of them to tell.
#[must_use]
pub fn begins_settings(bytes: &[u8]) -> Option<bool> {
    let expected = |at: usize, byte: u8| match at {
        2 => byte.is_multiple_of(6),
        3 => byte == SETTINGS,
        _ => byte == 0,
    };
    if !bytes.iter().take(HEADER).enumerate().all(|(at, byte)| expected(at, *byte)) {
        return Some(false);
    }
    (bytes.len() >= HEADER).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame.
    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        super::super::frame(kind, flags, stream, payload)
    }

    #[test]
    fn headers_are_read_and_weighed() {
        let bytes = frame(HEADERS, END_HEADERS, 0x8000_0003, b"abc");
        let header = Header::read(bytes.first_chunk().expect("nine bytes"));
        assert_eq!(header, Header { length: 3, kind: HEADERS, flags: END_HEADERS, stream: 3 });
        assert!(plausible(&bytes).is_none(), "the reserved bit");
        for (kind, flags, stream, length, fits) in [
            (DATA, 1, 1, 0, true),
            (DATA, 0, 0, 1, false),
            (HEADERS, 0x25, 1, 10, true),
            (HEADERS, 0x2, 1, 10, false),
            (HEADERS, 4, 1, 0, false),
            (RST_STREAM, 0, 1, 4, true),
            (RST_STREAM, 0, 1, 5, false),
            (SETTINGS, 0, 0, 12, true),
            (SETTINGS, 1, 0, 0, true),
            (SETTINGS, 0, 1, 12, false),
            (WINDOW_UPDATE, 0, 0, 4, true),
            (PING, 1, 0, 8, true),
            (GOAWAY, 0, 0, 8, true),
            (CONTINUATION, 4, 1, 0, true),
            (11, 0, 0, 8, false),
        ] {
            let payload = vec![0; length];
            assert_eq!(plausible(&frame(kind, flags, stream, &payload)).is_some(), fits, "{kind} {flags} {stream}");
        }
    }

    #[test]
    fn a_segment_needs_two_frames_or_one_that_is_all_of_it() {
        let ping = frame(PING, 0, 0, &[0; 8]);
        let data = frame(DATA, 0, 1, &[0; 100]);
        assert!(begins(&ping));
        assert!(begins(&[ping.clone(), data.clone()].concat()));
        assert!(begins(&[ping.clone(), data[..50].to_vec()].concat()));
        // Peers may have allowed longer ones, but nothing is begun with them.
        let long = frame(HEADERS, END_HEADERS, 1, &vec![0; 40_000]);
        assert!(begins(&[ping.clone(), long.clone()].concat()));
        assert!(!begins(&long));
        assert!(!begins(&data[..50]));
        assert!(!begins(&[ping, b"something else".to_vec()].concat()));
        assert!(!begins(b"GET / HTTP/1.1\r\n\r\n"));
        assert!(!begins(&[0; 9]));
    }

    #[test]
    fn settings_may_come_in_parts() {
        let bytes = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
        for length in 0..HEADER {
            assert_eq!(begins_settings(&bytes[..length]), None);
        }
        assert_eq!(begins_settings(&bytes), Some(true));
        assert_eq!(begins_settings(&[0, 0, 1]), Some(false));
    }
}
