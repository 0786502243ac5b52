//! What a stream's first bytes begin. It looks at a prefix and keeps nothing; it is biased towards [`Guess::Other`]: what it calls
//! HTTP has a whole start line with an HTTP version in it.

use crate::http2;

/// Longest method that is believed (the longest registered one, `UPDATEREDIRECTREF`, has 17).
const LONGEST_METHOD: usize = 32;

/// Longest TLS record (RFC 5246 section 6.2.3), bytes behind its header.
const LONGEST_RECORD: u16 = (1 << 14) + 2048;

/// What bytes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// HTTP/2: the client's connection preface, or the SETTINGS frame that a server may send before it (RFC 9113 section 3.4).
    Http2,
    /// Too few bytes to tell.
    More,
    /// Nothing that is known.
    Other,
    /// An HTTP/1 request.
    Request,
    /// An HTTP/1 response.
    Response,
    /// A TLS record (RFC 8446 section 5.1).
    Tls,
}

/// Says what `bytes` begin.
#[must_use]
pub fn guess(bytes: &[u8]) -> Guess {
    match bytes {
        [] => Guess::More,
        [0, ..] => match http2::frame::begins_settings(bytes) {
            None => Guess::More,
            Some(true) => Guess::Http2,
            Some(false) => Guess::Other,
        },
        [0x16, rest @ ..] => match rest {
            [] | [3] => Guess::More,
            [3, 0..=4, ..] => Guess::Tls,
            _ => Guess::Other,
        },
        // Other records: a connection in its middle.
        [0x14 | 0x15 | 0x17, rest @ ..] => match rest {
            [] | [3] | [3, 0..=4] | [3, 0..=4, _] => Guess::More,
            [3, 0..=4, high, low, ..] if (1..=LONGEST_RECORD).contains(&u16::from_be_bytes([*high, *low])) => {
                Guess::Tls
            }
            _ => Guess::Other,
        },
        _ if begins(bytes, b"HTTP/") => response(bytes),
        _ if begins(bytes, b"PRI * HTTP/2.0") => {
            if bytes.len() < 14 {
                Guess::More
            } else {
                Guess::Http2
            }
        }
        _ => request(bytes),
    }
}

/// Whether one of the two is a prefix of the other.
fn begins(bytes: &[u8], what: &[u8]) -> bool {
    let shorter = bytes.len().min(what.len());
    bytes[..shorter] == what[..shorter]
}

fn response(bytes: &[u8]) -> Guess {
    match bytes.get(5..) {
        None | Some([] | [b'1'] | [b'1', b'.']) => Guess::More,
        Some([b'1', b'.', b'0'..=b'9', ..]) => Guess::Response,
        Some(_) => Guess::Other,
    }
}

fn request(bytes: &[u8]) -> Guess {
    let method = bytes.iter().take(LONGEST_METHOD + 1).take_while(|byte| is_token(**byte)).count();
    if method == 0 || method > LONGEST_METHOD {
        return Guess::Other;
    }
    match bytes.get(method) {
        None => return Guess::More,
        Some(b' ' | b'\t') => {}
        Some(_) => return Guess::Other,
    }
    let Some(end) = memchr::memchr(b'\n', bytes) else { return Guess::More };
    if ends_with_version(&bytes[..end]) { Guess::Request } else { Guess::Other }
}

/// Whether the start of a request line, cut before its end, is one in all likelihood: a method in capitals and a target.
#[must_use]
pub fn cut_request(bytes: &[u8]) -> bool {
    let method = bytes.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-').count();
    (3..=LONGEST_METHOD).contains(&method)
        && bytes.get(method) == Some(&b' ')
        && bytes.get(method + 1).is_some_and(|byte| *byte == b'/' || bytes[method + 1..].starts_with(b"http"))
}

/// Methods in common use, with the space that follows them.
const COMMON_METHODS: [&[u8]; 18] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"CONNECT ",
    b"OPTIONS ",
    b"TRACE ",
    b"PATCH ",
    b"PROPFIND ",
    b"PROPPATCH ",
    b"MKCOL ",
    b"COPY ",
    b"MOVE ",
    b"SEARCH ",
    b"REPORT ",
    b"QUERY ",
    b"PURGE ",
];

/// Whether bytes begin with a method in common use. Where a stream's position is not known, another word may be the end of one.
#[must_use]
pub fn is_common_method(bytes: &[u8]) -> bool {
    COMMON_METHODS.iter().any(|method| bytes.starts_with(method))
}

/// Whether all there is of a segment is the begin of a method in common use.
#[must_use]
pub fn begins_common_method(bytes: &[u8]) -> bool {
    COMMON_METHODS.iter().any(|method| method.starts_with(bytes))
}

/// Whether a request line ends with an HTTP version other than 2.0, which only the preface may have.
fn ends_with_version(line: &[u8]) -> bool {
    let line = line.trim_ascii_end();
    line.len().checked_sub(9).is_some_and(|at| {
        matches!(line[at..], [b' ' | b'\t', b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'])
    })
}

/// A byte of a token (RFC 9110 section 5.6.2).
#[must_use]
pub(crate) fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    let extra = b"!#$%&'*+-.^_`|~";
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < extra.len() {
        table[extra[index] as usize] = true;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_bytes_begin() {
        let cases: [(&[u8], Guess); 31] = [
            (&[0x17, 3, 3, 0], Guess::More),
            (&[0x17, 3, 3, 0, 19], Guess::Tls),
            (&[0x15, 3, 3, 0x48, 1], Guess::Other),
            (b"", Guess::More),
            (b"GET", Guess::More),
            (b"GET /", Guess::More),
            (b"GET / HTTP/1.1\r\n", Guess::Request),
            (b"GET / HTTP/1.1\n", Guess::Request),
            (b"get / HTTP/1.0\r\n", Guess::Request),
            (b"GET  /a b  HTTP/1.1 \r\n", Guess::Request),
            (b"PROPFIND /dav HTTP/1.1\r\n", Guess::Request),
            (b"X-Y!Z * HTTP/1.1\r\n", Guess::Request),
            (b"CONNECT a:443 HTTP/1.1\r\n", Guess::Request),
            (b"GET / HTTP/9.9\r\n", Guess::Request),
            (b"GET /\r\n", Guess::Other),
            (b"HELO example.com\r\n", Guess::Other),
            (b"OPTIONS rtsp://a/b RTSP/1.0\r\n", Guess::Other),
            (b"*1\r\n$4\r\nPING\r\n", Guess::Other),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Guess::Other),
            (b"HTT", Guess::More),
            (b"HTTP/1", Guess::More),
            (b"HTTP/1.1 200 OK\r\n", Guess::Response),
            (b"HTTP/2.0 200", Guess::Other),
            (b"PRI * HTTP/2", Guess::More),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Guess::Http2),
            (&[0x16, 3], Guess::More),
            (&[0x16, 3, 1, 2, 0], Guess::Tls),
            (&[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f], Guess::Other),
            (&[0, 0, 12, 4, 0, 0, 0, 0], Guess::More),
            (&[0, 0, 12, 4, 0, 0, 0, 0, 0, 0, 3], Guess::Http2),
            (&[0, 0, 12, 4, 0, 0, 0, 0, 1, 0, 3], Guess::Other),
        ];
        for (bytes, expected) in cases {
            assert_eq!(guess(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_long_word_is_no_method() {
        assert_eq!(guess(&[b'A'; 40]), Guess::Other);
    }

    #[test]
    fn a_cut_request_line_needs_a_method_and_a_target() {
        assert!(cut_request(b"GET /long"));
        assert!(cut_request(b"POST http://a/"));
        assert!(!cut_request(b"HELO example"));
        assert!(!cut_request(b"ge /"));
    }
}
