//! What may precede TLS on a connection: a proxy's note of who its client is, or a database protocol's way to ask for TLS.

/// The begin of a version 2 header of the PROXY protocol (its specification, section 2.2).
const PROXY_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The begin of a version 1 header (section 2.1).
const PROXY_1: &[u8] = b"PROXY ";
/// Longest header of version 1, bytes, with its line end.
const LONGEST_PROXY_1: usize = 107;
/// Longest header of version 2 that is believed, bytes: addresses and what proxies add to them.
const LONGEST_PROXY_2: usize = 4096;
/// PostgreSQL's SSLRequest (its documentation, section "Message Formats").
const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// PostgreSQL's GSSENCRequest: a client that is refused it asks for TLS next.
const GSS_REQUEST: &[u8] = &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
/// The flag of a MySQL client that goes on with TLS: `CLIENT_SSL`.
const MYSQL_TLS: u8 = 0x08;
/// Longest greeting of a MySQL server that is believed, bytes.
const LONGEST_GREETING: usize = 512;

/// What one direction of a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prelude {
    /// Nothing that is known to precede TLS.
    None,
    /// More bytes are needed to tell.
    More,
    /// This many bytes are to be passed over; what follows may be TLS, or another prelude.
    Pass(usize),
}

/// Says what the first bytes of a direction are. It knows PROXY protocol headers, PostgreSQL's SSLRequest and the byte that
/// answers it, MySQL's greeting and SSLRequest. A direction may have several.
#[must_use]
pub fn prelude(bytes: &[u8]) -> Prelude {
    let Some(first) = bytes.first() else { return Prelude::More };
    match first {
        b'P' => proxy_1(bytes),
        b'\r' => proxy_2(bytes),
        0 => postgres(bytes),
        b'S' | b'N' => postgres_answer(bytes),
        _ => mysql(bytes),
    }
}

/// How bytes compare with what they might begin with: `None` when they differ.
fn begins(bytes: &[u8], with: &[u8]) -> Option<bool> {
    let shorter = bytes.len().min(with.len());
    (bytes[..shorter] == with[..shorter]).then_some(bytes.len() >= with.len())
}

fn proxy_1(bytes: &[u8]) -> Prelude {
    match begins(bytes, PROXY_1) {
        None => Prelude::None,
        Some(false) => Prelude::More,
        Some(true) => match memchr::memchr(b'\n', &bytes[..bytes.len().min(LONGEST_PROXY_1)]) {
            Some(end) if bytes[end - 1] == b'\r' => Prelude::Pass(end + 1),
            None if bytes.len() < LONGEST_PROXY_1 => Prelude::More,
            _ => Prelude::None,
        },
    }
}

fn proxy_2(bytes: &[u8]) -> Prelude {
    match begins(bytes, PROXY_2) {
        None => Prelude::None,
        Some(false) => Prelude::More,
        Some(true) => match bytes.get(PROXY_2.len()..PROXY_2.len() + 4) {
            None => Prelude::More,
            Some([0x20 | 0x21, _, high, low]) => {
                let length = PROXY_2.len() + 4 + usize::from(u16::from_be_bytes([*high, *low]));
                if length > LONGEST_PROXY_2 { Prelude::None } else { whole(bytes, length) }
            }
            Some(_) => Prelude::None,
        },
    }
}

fn postgres(bytes: &[u8]) -> Prelude {
    match begins(bytes, SSL_REQUEST).or(begins(bytes, GSS_REQUEST)) {
        None => Prelude::None,
        Some(_) => whole(bytes, SSL_REQUEST.len()),
    }
}

/// A server of PostgreSQL takes TLS with one byte, and may have refused GSS encryption with one before. Words begin with these
/// bytes too: what follows must be TLS.
fn postgres_answer(bytes: &[u8]) -> Prelude {
    match bytes {
        [b'S'] | [b'N'] | [b'N', b'S'] => Prelude::More,
        [b'S', 0x16, ..] => Prelude::Pass(1),
        [b'N', b'S', 0x16, ..] => Prelude::Pass(2),
        _ => Prelude::None,
    }
}

/// A packet of MySQL: three bytes of length, least first, and a number. A server greets with packet 0 and protocol version 10
/// (`Protocol::HandshakeV10`); a client that wants TLS answers with packet 1, 32 bytes with flags (`Protocol::SSLRequest`).
fn mysql(bytes: &[u8]) -> Prelude {
    let Some([low, middle, high, number]) = bytes.first_chunk() else {
        return match bytes {
            [_, 0 | 1] | [_] | [_, 0 | 1, 0] => Prelude::More,
            _ => Prelude::None,
        };
    };
    let length = usize::from(*low) | usize::from(*middle) << 8 | usize::from(*high) << 16;
    match (number, bytes.get(4)) {
        (0, None) if length <= LONGEST_GREETING => Prelude::More,
        (0, Some(10)) if length <= LONGEST_GREETING => whole(bytes, 4 + length),
        (1, None) if length == 32 => Prelude::More,
        (1, Some(_)) if length == 32 => match bytes.get(5) {
            None => Prelude::More,
            Some(flags) if flags & MYSQL_TLS != 0 => whole(bytes, 4 + length),
            Some(_) => Prelude::None,
        },
        _ => Prelude::None,
    }
}

fn whole(bytes: &[u8], length: usize) -> Prelude {
    if bytes.len() >= length { Prelude::Pass(length) } else { Prelude::More }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting() -> Vec<u8> {
        let body = [&[10][..], b"8.0.36\0", &[1, 0, 0, 0], &[7; 40]].concat();
        [&[u8::try_from(body.len()).expect("a short body"), 0, 0, 0][..], &body].concat()
    }

    fn tls_request() -> Vec<u8> {
        [&[32, 0, 0, 1, 0x8d, 0xae, 0xff, 0x19, 0, 0, 0, 1, 0xff][..], &[0; 23]].concat()
    }

    fn proxy_2() -> Vec<u8> {
        [PROXY_2, &[0x21, 0x11, 0, 12], &[10, 0, 0, 1, 10, 0, 0, 2, 0xc0, 0, 1, 0xbb]].concat()
    }

    #[test]
    fn passes_over_what_precedes_tls_at_any_cut() {
        let preludes: [Vec<u8>; 7] = [
            b"PROXY TCP4 10.0.0.1 10.0.0.2 49152 443\r\n".to_vec(),
            b"PROXY UNKNOWN\r\n".to_vec(),
            proxy_2(),
            SSL_REQUEST.to_vec(),
            GSS_REQUEST.to_vec(),
            greeting(),
            tls_request(),
        ];
        for bytes in preludes {
            for cut in 0..bytes.len() {
                assert_eq!(prelude(&bytes[..cut]), Prelude::More, "{cut} of {bytes:x?}");
            }
            assert_eq!(prelude(&bytes), Prelude::Pass(bytes.len()));
            let with_tls = [&bytes[..], &[0x16, 3, 1, 2, 0]].concat();
            assert_eq!(prelude(&with_tls), Prelude::Pass(bytes.len()));
        }
        for cut in [&b"S"[..], b"N", b"NS"] {
            assert_eq!(prelude(cut), Prelude::More);
        }
        assert_eq!(prelude(b"S\x16\x03\x03"), Prelude::Pass(1));
        assert_eq!(prelude(b"NS\x16\x03\x03"), Prelude::Pass(2));
    }

    #[test]
    fn knows_what_precedes_nothing() {
        let mut plain = tls_request();
        plain[5] &= !MYSQL_TLS;
        let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 100]].concat();
        let streams: [&[u8]; 16] = [
            b"POST / HTTP/1.1\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"NOTIFY * HTTP/1.1\r\n",
            b"NS1",
            b"HTTP/1.1 200 OK\r\n",
            b"GET / HTTP/1.1\r\n",
            b"PROXY TCP4\n",
            &long,
            &[0x16, 3, 1, 2, 0],
            &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2e],
            &[0, 0, 0, 40, 0, 3, 0, 0],
            &plain,
            &[32, 0, 0, 2, 0xff],
            &[74, 0, 0, 0, 9],
            b"\r\n\r\n\0\r\nQUIT\n\x31\0\0\0",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        ];
        for bytes in streams {
            assert_eq!(prelude(bytes), Prelude::None, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
