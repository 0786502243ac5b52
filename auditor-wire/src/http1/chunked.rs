//! The chunked transfer coding (RFC 9112 section 7.1), followed without looking at the data.

/// Longest chunk extension or trailer section that is followed, bytes.
const LONGEST_LINES: u32 = 64 * 1024;

/// Where in a chunked body the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunks {
    /// In the size: its value and how many digits there were.
    Size(u64, u8),
    /// Behind the size: white space and extensions, so many bytes of them.
    Extension(u64, u32),
    /// So much data is left in the chunk.
    Data(u64),
    /// The line end behind the data; whether its CR was seen.
    DataEnd(bool),
    /// In the trailer section: bytes of it, bytes of this line.
    Trailer(u32, u32),
}

/// How far a body was followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All bytes belong to the body.
    Goes,
    /// The body ended after so many bytes.
    Ended(usize),
    /// These are no chunks.
    Broken,
}

impl Chunks {
    pub(crate) const START: Self = Self::Size(0, 0);

    pub(crate) fn follow(&mut self, bytes: &[u8]) -> Progress {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            *self = match (*self, byte) {
                (Self::Data(left), _) => {
                    let here = left.min((bytes.len() - at) as u64);
                    at += usize::try_from(here).unwrap_or(usize::MAX);
                    *self = Self::data(left - here);
                    continue;
                }
                (Self::Size(value, digits), _) if byte.is_ascii_hexdigit() => {
                    if digits == 15 {
                        return Progress::Broken;
                    }
                    let digit = (byte as char).to_digit(16).map_or(0, u64::from);
                    Self::Size(value << 4 | digit, digits + 1)
                }
                (Self::Size(_, 0), _) => return Progress::Broken,
                (Self::Size(value, _) | Self::Extension(value, _), b'\n') => match value {
                    0 => Self::Trailer(0, 0),
                    _ => Self::Data(value),
                },
                (Self::Size(value, _), b'\r' | b';' | b' ' | b'\t') => Self::Extension(value, 0),
                (Self::Size(..), _) => return Progress::Broken,
                (Self::Extension(_, LONGEST_LINES) | Self::Trailer(LONGEST_LINES, _), _) => return Progress::Broken,
                (Self::Extension(value, length), _) => Self::Extension(value, length + 1),
                (Self::DataEnd(false), b'\r') => Self::DataEnd(true),
                (Self::DataEnd(_), b'\n') => Self::START,
                (Self::DataEnd(_), _) => return Progress::Broken,
                (Self::Trailer(_, 0), b'\n') => return Progress::Ended(at + 1),
                (Self::Trailer(total, _), b'\n') => Self::Trailer(total + 1, 0),
                // A CR alone keeps the line empty, so that CRLF ends the section.
                (Self::Trailer(total, 0), b'\r') => Self::Trailer(total + 1, 0),
                (Self::Trailer(total, line), _) => Self::Trailer(total + 1, line + 1),
            };
            at += 1;
        }
        Progress::Goes
    }

    /// Passes over bytes that were not seen; false when it cannot be told where they lead.
    pub(crate) fn skip(&mut self, count: u64) -> bool {
        match *self {
            Self::Data(left) if count <= left => {
                *self = Self::data(left - count);
                true
            }
            _ => false,
        }
    }

    fn data(left: u64) -> Self {
        if left == 0 { Self::DataEnd(false) } else { Self::Data(left) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_chunks_to_their_end() {
        let cases: [(&[u8], Progress); 12] = [
            (b"0\r\n\r\nGET", Progress::Ended(5)),
            (b"5\r\nhello\r\n0\r\n\r\n", Progress::Ended(15)),
            (b"5;a=\"b\"\r\nhello\r\n0;x\r\nA: b\r\nC: d\r\n\r\nX", Progress::Ended(35)),
            (b"00a \r\n0123456789\r\n0\r\n\r\n", Progress::Ended(23)),
            (b"1\na\n0\n\n", Progress::Ended(7)),
            (b"FFFFFFFFFF\r\nabc", Progress::Goes),
            (b"1000000000000000\r\n", Progress::Broken),
            (b"\r\n", Progress::Broken),
            (b"0x5\r\n", Progress::Broken),
            (b"-1\r\n", Progress::Broken),
            (b"1\r\nab\r\n", Progress::Broken),
            (b"5", Progress::Goes),
        ];
        for (bytes, expected) in cases {
            let shown = String::from_utf8_lossy(bytes);
            let mut chunks = Chunks::START;
            assert_eq!(chunks.follow(bytes), expected, "{shown:?}");
            // One byte at a time ends at the same place.
            let mut chunks = Chunks::START;
            let mut progress = Progress::Goes;
            for (at, byte) in bytes.iter().enumerate() {
                progress = chunks.follow(&[*byte]);
                match progress {
                    Progress::Goes => {}
                    Progress::Ended(_) => {
                        progress = Progress::Ended(at + 1);
                        break;
                    }
                    Progress::Broken => break,
                }
            }
            assert_eq!(progress, expected, "{shown:?} byte by byte");
        }
    }

    #[test]
    fn passes_over_data_only() {
        let mut chunks = Chunks::START;
        assert_eq!(chunks.follow(b"a\r\n01"), Progress::Goes);
        assert!(chunks.skip(8));
        assert_eq!(chunks.follow(b"\r\n0\r\n\r\n"), Progress::Ended(7));
        let mut chunks = Chunks::START;
        assert_eq!(chunks.follow(b"a\r\n"), Progress::Goes);
        assert!(!chunks.skip(11));
    }
}
