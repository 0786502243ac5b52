//! Redaction of heads for the recorder: same length, in place, fit to be judged again, of no use to who reads it.

use super::{FingerprintKey, mask::Masker, shape::is_token};

/// Headers that say nothing about who calls; their values stay, but for tokens of JWT shape.
const HARMLESS: [&str; 40] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "access-control-request-headers",
    "access-control-request-method",
    "age",
    "allow",
    "cache-control",
    "connection",
    "content-encoding",
    "content-language",
    "content-length",
    "content-type",
    "date",
    "dnt",
    "expect",
    "expires",
    "host",
    "keep-alive",
    "last-modified",
    "origin",
    "pragma",
    "proxy-connection",
    "sec-websocket-version",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
];

/// Masks a recorded piece of a connection, in place: request or response heads, whole or cut, or any part of one.
///
/// Every value that may be a secret is replaced by filler of the same length and shape. Judged again, the result gives the
/// same kinds of credential and the same safe claims; fingerprints differ, but equal secrets still have equal ones. What can
/// be found out from the secrets alone, such as whether a signature holds, is gone: recordings keep it beside the head. Values
/// stay only of headers that are known to be harmless. What follows a head is overwritten, except that further heads are masked
/// as heads where lengths and shape show that they are heads. A piece that does not begin with a start line is taken for the
/// rest of a cut one: what stands before its first line break is masked.
pub fn redact_head(bytes: &mut [u8], key: &FingerprintKey) {
    let masker = Masker { key };
    let mut rest = bytes;
    while !rest.is_empty() {
        let (used, body) = head(masker, rest);
        rest = &mut rest[used..];
        let skipped = match body {
            Body::None => 0,
            Body::Length(length) => length.min(rest.len()),
            Body::Unknown => rest.len(),
        };
        rest[..skipped].fill(b'.');
        rest = &mut rest[skipped..];
        if !rest.is_empty() && !begins_with_start_line(rest) {
            rest.fill(b'.');
            return;
        }
    }
}

/// What follows a head, as far as its masking goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    None,
    Length(usize),
    /// Chunked, delimited by close, or not to be told: everything that follows may be part of it.
    Unknown,
}

/// Masks one head; gives its length and what follows it.
fn head(masker: Masker<'_>, bytes: &mut [u8]) -> (usize, Body) {
    let mut at = 0;
    let mut first = true;
    let mut body = Body::None;
    while at < bytes.len() {
        let end = bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |lf| at + lf + 1);
        let line = content(&mut bytes[at..end]);
        at = end;
        if line.is_empty() && !first {
            return (at, body);
        }
        if !first {
            body = framing(line, body);
            header(masker, line);
        } else if !line.is_empty() {
            first = false;
            body = start_line(masker, line);
        }
    }
    (at, body)
}

/// A line without its end.
fn content(line: &mut [u8]) -> &mut [u8] {
    let length = match line {
        [.., b'\r', b'\n'] => line.len() - 2,
        [.., b'\n'] => line.len() - 1,
        _ => line.len(),
    };
    &mut line[..length]
}

/// The body a header announces.
fn framing(line: &[u8], before: Body) -> Body {
    let Some((name, value)) = split_header(line) else { return before };
    if name.eq_ignore_ascii_case(b"content-length") {
        let length = std::str::from_utf8(value).ok().and_then(|value| value.trim().parse().ok());
        match (before, length) {
            (Body::None, Some(length)) => Body::Length(length),
            _ => Body::Unknown,
        }
    } else if name.eq_ignore_ascii_case(b"transfer-encoding") || name.eq_ignore_ascii_case(b"upgrade") {
        Body::Unknown
    } else {
        before
    }
}

fn split_header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((&line[..colon], &line[colon + 1..]))
}

/// Whether bytes begin with a request line or a status line.
fn begins_with_start_line(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    is_status_line(line) || request_target(line).is_some()
}

fn is_status_line(line: &[u8]) -> bool {
    line.starts_with(b"HTTP/1.") && line.len() >= 12 && line[9..12].iter().all(u8::is_ascii_digit)
}

/// Where the target of a request line is. A line that is cut before its version is one if its method is a common one.
fn request_target(line: &[u8]) -> Option<std::ops::Range<usize>> {
    const METHODS: [&[u8]; 9] =
        [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE"];
    let method = line.iter().position(|byte| *byte == b' ').filter(|at| (1..=24).contains(at))?;
    if !line[..method].iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-') {
        return None;
    }
    let version = line.iter().rposition(|byte| *byte == b' ')?;
    if version > method && line[version..].starts_with(b" HTTP/1.") {
        Some(method + 1..version)
    } else {
        METHODS.contains(&&line[..method]).then_some(method + 1..line.len())
    }
}

/// Masks a start line; what is none is masked whole.
fn start_line(masker: Masker<'_>, line: &mut [u8]) -> Body {
    if is_status_line(line) {
        // The reason phrase is any text the server likes.
        let bodiless = line[9] == b'1' || matches!(&line[9..12], b"204" | b"304");
        masker.value(&mut line[12..]);
        if bodiless { Body::None } else { Body::Unknown }
    } else if let Some(range) = request_target(line) {
        target(masker, &mut line[range]);
        Body::None
    } else {
        masker.value(line);
        Body::Unknown
    }
}

/// Masks a request target or a URL: userinfo, query, fragment, path parameters and segments that look like tokens.
fn target(masker: Masker<'_>, target: &mut [u8]) {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(target.len());
    let (path, query) = target.split_at_mut(end);
    if let [_, query @ ..] = query {
        masker.pairs(query, b"&;#");
    }
    let authority = path.windows(3).position(|part| part == b"://").map_or(0, |at| at + 3);
    let authority_end = path[authority..].iter().position(|byte| *byte == b'/').map_or(path.len(), |at| authority + at);
    if let Some(at) = path[authority..authority_end].iter().rposition(|byte| *byte == b'@') {
        let (user, password) = split_userinfo(&mut path[authority..authority + at]);
        masker.fill(user);
        masker.fill(password);
    }
    let start = if path.starts_with(b"/") { 0 } else { authority_end };
    for segment in path[start..].split_mut(|byte| *byte == b'/') {
        let mut pieces = segment.split_mut(|byte| *byte == b';');
        if let Some(name) = pieces.next() {
            for part in name.split_mut(|byte| !(byte.is_ascii_alphanumeric() || b"-_.~+".contains(byte))) {
                if is_token(part) {
                    masker.value(part);
                }
            }
        }
        pieces.for_each(|pair| masker.pairs(pair, b""));
    }
}

fn split_userinfo(userinfo: &mut [u8]) -> (&mut [u8], &mut [u8]) {
    match userinfo.iter().position(|byte| *byte == b':') {
        Some(colon) => {
            let (user, password) = userinfo.split_at_mut(colon);
            (user, &mut password[1..])
        }
        None => (userinfo, &mut []),
    }
}

/// Masks a header line. A line that is no header, such as the continuation of a folded one, is masked whole.
fn header(masker: Masker<'_>, line: &mut [u8]) {
    let colon = line.iter().position(|byte| *byte == b':');
    let named = colon.filter(|_| !matches!(line.first(), None | Some(b' ' | b'\t')));
    let Some(colon) = named.filter(|colon| (1..=64).contains(colon)) else { return masker.value(line) };
    let (name, value) = line.split_at_mut(colon);
    let value = value[1..].trim_ascii_mut();
    let is = |known: &str| name.trim_ascii_end().eq_ignore_ascii_case(known.as_bytes());
    if is("authorization") || is("proxy-authorization") {
        masker.authorization(value);
    } else if is("cookie") {
        masker.pairs(value, b";");
    } else if is("set-cookie") {
        let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
        let (cookie, attributes) = value.split_at_mut(end);
        masker.pairs(cookie, b"");
        masker.value(attributes);
    } else if is("www-authenticate") || is("proxy-authenticate") {
        let (scheme, _) = super::authorization::split(value);
        let length = scheme.len();
        masker.parameters(&mut value[length..]);
    } else if is("signature-input") || is("signature") {
        masker.parameters(value);
    } else if is("location") || is("content-location") || is("referer") {
        target(masker, value);
    } else if !HARMLESS.iter().any(|known| is(known)) {
        // Some put a scheme in front of keys, too.
        masker.authorization(value);
    } else if value.len() >= 16 {
        masker.tokens(value);
    }
}

trait TrimMut {
    fn trim_ascii_mut(&mut self) -> &mut [u8];
}

impl TrimMut for [u8] {
    fn trim_ascii_mut(&mut self) -> &mut [u8] {
        let start = self.len() - self.trim_ascii_start().len();
        let length = self.trim_ascii().len();
        &mut self[start..start + length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(head: &str) -> String {
        let mut bytes = head.as_bytes().to_vec();
        redact_head(&mut bytes, &FingerprintKey::from_bytes([7; 32]));
        assert_eq!(bytes.len(), head.len());
        String::from_utf8(bytes).expect("text stays text")
    }

    #[test]
    fn harmless_headers_stay() {
        let head = "GET /items/42 HTTP/1.1\r\nHost: inventory:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n";
        assert_eq!(redacted(head), head);
        let head = "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 0\r\nAccess-Control-Allow-Origin: *\r\n\r\n";
        assert_eq!(redacted(head), head.replace("OK", &redacted(head)[13..15]));
    }

    #[test]
    fn secrets_go_and_shape_stays() {
        let out = redacted(
            "GET http://me:hunter2@host/reset/9f86d081884c7d659a2feaa0c55ad015;v=alpha?api_key=s3cr3t&blank=&bare HTTP/1.1\r\n\
             authorization: Bearer opaque-Token-1\r\nX-Custom:  whatever \r\nCookie: sid=abcdef; theme=dark\r\n folded secret\r\n\r\n",
        );
        for secret in
            ["hunter2", "9f86d081", "alpha", "s3cr3t", "bare", "opaque", "whatever", "abcdef", "dark", "folded"]
        {
            assert!(!out.contains(secret), "{secret} in {out}");
        }
        for kept in [
            "GET http://",
            "@host/reset/",
            ";v=",
            "?api_key=",
            "&blank=&",
            "authorization: Bearer ",
            "X-Custom:  ",
            "Cookie: sid=",
            "; theme=",
        ] {
            assert!(out.contains(kept), "{kept} not in {out}");
        }
    }

    #[test]
    fn equal_secrets_stay_equal_under_one_key() {
        let (one, two) = (
            redacted("GET / HTTP/1.1\r\nX-Api-Key: abcdefgh\r\n\r\n"),
            redacted("GET / HTTP/1.1\r\nX-Api-Key: abcdefgh\r\n\r\n"),
        );
        assert_eq!(one, two);
        let mut other = b"GET / HTTP/1.1\r\nX-Api-Key: abcdefgh\r\n\r\n".to_vec();
        redact_head(&mut other, &FingerprintKey::from_bytes([8; 32]));
        assert_ne!(one.as_bytes(), other);
    }

    #[test]
    fn tokens_that_differ_in_what_is_left_out_stay_different() {
        let unsigned = |id: &str| {
            let payload = format!(r#"{{"sub":"cart","exp":1795305600,"jti":"{id}"}}"#);
            let token = super::super::jwt::tests::token(r#"{"typ":"JWT","alg":"none"}"#, &payload, "");
            redacted(&format!("GET / HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n"))
        };
        assert_eq!(unsigned("one-of-them"), unsigned("one-of-them"));
        assert_ne!(unsigned("one-of-them"), unsigned("the-other-1"));
    }

    #[test]
    fn bodies_are_overwritten_and_pipelined_heads_are_masked() {
        let out = redacted(
            "POST /a HTTP/1.1\r\nContent-Length: 6\r\n\r\nsecretGET /b HTTP/1.1\r\nX-Api-Key: hunter2\r\n\r\nGET /c HTTP/1.1\r\n\r\nleftover",
        );
        assert!(
            out.starts_with("POST /a HTTP/1.1\r\nContent-Length: 6\r\n\r\n......GET /b HTTP/1.1\r\nX-Api-Key: "),
            "{out}"
        );
        assert!(out.ends_with("\r\n\r\nGET /c HTTP/1.1\r\n\r\n........") && !out.contains("hunter2"), "{out}");
        let chunked = redacted("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsecret\r\n0\r\n\r\n");
        assert!(chunked.ends_with("\r\n\r\n................"), "{chunked}");
    }

    #[test]
    fn a_piece_of_a_head_is_masked_from_its_first_byte() {
        let out = redacted("secretvalue\r\nCookie: sid=hunter2");
        assert!(!out.contains("secretvalue") && !out.contains("hunter2") && out.contains("\r\nCookie: sid="), "{out}");
    }

    #[test]
    fn placeholders_stay_since_they_decide_the_verdict() {
        let head = "GET / HTTP/1.1\r\nAuthorization: Bearer undefined\r\nCookie: sid=deleted\r\n\r\n";
        assert_eq!(redacted(head), head);
    }
}
