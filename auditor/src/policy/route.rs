//! Paths as they are shown: [`route`] with the variable parts replaced, for aggregation, and [`shown_path`] with only what
//! may be a secret replaced.

use std::borrow::Cow;

use crate::credentials::shape::{is_token, is_uuid, shown_within};

/// Segments that a route keeps; what follows is `{rest}`.
const SEGMENTS: usize = 12;
/// Longest segment that a route keeps as it is, bytes.
const SEGMENT_BYTES: usize = 48;
/// Longest path that is shown, bytes.
const PATH_BYTES: usize = 1024;
/// Shortest text that may be a token, bytes.
const TOKEN_BYTES: usize = 20;

/// The low-cardinality template of a path: `/items/42` is `/items/{id}`.
///
/// Numbers, UUIDs, hexadecimal hashes and numbered names become `{id}`, dates `{date}`, e-mail addresses `{email}`, random
/// tokens `{token}`, percent-encoded and very long text `{text}`. A file's ending stays. Path parameters (`;name=value`) are
/// left out. At most 12 segments are kept.
#[must_use]
pub fn route(path: &str) -> Box<str> {
    // A placeholder is longer than the number it stands for.
    let mut out = String::with_capacity(path.len().min(256) + "{token}".len());
    push_route(&mut out, path);
    out.into_boxed_str()
}

/// Writes the [`route`] of a path.
pub(super) fn push_route(out: &mut String, path: &str) {
    for (number, segment) in segments(path).enumerate() {
        if number > 0 {
            out.push('/');
        }
        if number > SEGMENTS {
            out.push_str("{rest}");
            break;
        }
        push_segment(out, segment);
    }
}

/// What stands between the slashes of a path. Paths are short: looking at each byte is cheaper than what looks at many at once.
pub(super) fn segments(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(path);
    std::iter::from_fn(move || {
        let path = rest?;
        match path.bytes().position(|byte| byte == b'/') {
            Some(at) => {
                rest = Some(&path[at + 1..]);
                Some(&path[..at])
            }
            None => rest.take(),
        }
    })
}

/// The route of a gRPC call: its service and method as they are, being names of a definition; anything else is a path.
pub fn method(path: &str) -> Box<str> {
    let name = |part: &str| {
        (1..=SEGMENT_BYTES).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_'))
            && part.bytes().any(|byte| byte.is_ascii_alphabetic())
    };
    match path.strip_prefix('/').and_then(|path| path.split_once('/')) {
        Some((service, method)) if name(service) && name(method) => path.into(),
        _ => route(path),
    }
}

fn push_segment(out: &mut String, segment: &str) {
    if is_short_word(segment.as_bytes()) {
        return out.push_str(segment);
    }
    let end = segment.bytes().position(|byte| byte == b';').unwrap_or(segment.len());
    let segment = &segment[..end];
    // `42.json`, `42:cancel`: the part behind is of a small set.
    if let Some(at) = segment.bytes().rposition(|byte| matches!(byte, b'.' | b':'))
        && let (stem, ending) = segment.split_at(at)
        && let Some(placeholder @ ("{id}" | "{date}")) = variable(stem)
        && (2..=12).contains(&ending.len())
        && ending[1..].bytes().all(|byte| byte.is_ascii_lowercase())
    {
        out.push_str(placeholder);
        out.push_str(ending);
    } else if let Some(placeholder) = variable(segment) {
        out.push_str(placeholder);
    } else if segment.len() > SEGMENT_BYTES {
        out.push_str("{text}");
    } else {
        out.push_str(segment);
    }
}

/// The placeholder of a segment that varies from call to call.
fn variable(segment: &str) -> Option<&'static str> {
    let bytes = segment.as_bytes();
    if is_short_word(bytes) {
        return None;
    }
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    if is_date(bytes) {
        Some("{date}")
    } else if digits == bytes.len() || is_uuid(bytes) || is_hash(bytes, digits) {
        Some("{id}")
    } else if segment.find('@').is_some_and(|at| at > 0) || segment.contains("%40") {
        Some("{email}")
    } else if segment.contains('%') {
        Some("{text}")
    } else if is_token(bytes) {
        Some("{token}")
    } else if digits >= 4
        || is_numbered(segment)
        || (digits > 0 && bytes.iter().all(|b| b.is_ascii_digit() || *b == b'.'))
    {
        Some("{id}")
    } else {
        None
    }
}

/// A word as most segments are: it varies in none of the ways that are looked for.
fn is_short_word(bytes: &[u8]) -> bool {
    bytes.len() < 16 && bytes.iter().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_'))
}

/// `2026-11-22`, also with a time behind.
fn is_date(bytes: &[u8]) -> bool {
    let Some((date, rest)) = bytes.split_at_checked(10) else { return false };
    let shape = date.iter().enumerate().all(|(at, byte)| match at {
        4 | 7 => *byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    shape && rest.first().is_none_or(|byte| matches!(byte, b'T' | b't' | b'_'))
}

/// At least 8 hexadecimal digits; short ones need a number in them, or `/feedface/` were a hash.
fn is_hash(bytes: &[u8], digits: usize) -> bool {
    bytes.len() >= 8 && (digits > 0 || bytes.len() >= 16) && bytes.iter().all(u8::is_ascii_hexdigit)
}

/// `item-42`: a name, a separator and a number of two digits or more. `step-1` and `utf-8` are names.
fn is_numbered(segment: &str) -> bool {
    let number = segment.rsplit(['-', '_', '.', '~', '=']).next().unwrap_or_default();
    number.len() >= 2 && number.len() < segment.len() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// A path as records show it: whole, except that what may be a secret is replaced. That is segments that look like random
/// tokens (`/reset/{token}`; UUIDs stay, they are identifiers), and the values of path parameters (`;jsessionid={token}`).
/// Cut at 1,024 bytes.
#[must_use]
pub fn shown_path(path: Box<str>) -> Box<str> {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b';';
    let may_have_token = path.len() >= TOKEN_BYTES;
    if path.len() <= PATH_BYTES && path.bytes().all(plain) && !(may_have_token && segments(&path).any(has_token)) {
        return path;
    }
    let mut out = String::with_capacity(path.len().min(PATH_BYTES));
    for (number, segment) in path.split('/').enumerate() {
        if number > 0 {
            out.push('/');
        }
        if out.len() > PATH_BYTES {
            break;
        }
        for (place, piece) in segment.split(';').enumerate() {
            match (place, piece.split_once('=')) {
                (0, _) => out.push_str(&without_token(piece)),
                (_, Some((name, _))) => out.extend([";", &without_token(name), "={token}"]),
                (_, None) => out.extend([";", &without_token(piece)]),
            }
        }
    }
    shown_within(&out, PATH_BYTES)
}

fn has_token(text: &str) -> bool {
    text.len() >= TOKEN_BYTES
        && (is_token(text.as_bytes()) || text.split(is_delimiter).any(|part| is_token(part.as_bytes())))
}

fn without_token(text: &str) -> Cow<'_, str> {
    if has_token(text) { Cow::Borrowed("{token}") } else { Cow::Borrowed(text) }
}

/// What stands between a token and other text within a segment.
fn is_delimiter(character: char) -> bool {
    !(character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.' | '~' | '+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_parts_are_replaced() {
        for (path, expected) in [
            ("/", "/"),
            ("", ""),
            ("*", "*"),
            ("/items/42", "/items/{id}"),
            ("/items/42/", "/items/{id}/"),
            ("/api/v2/users", "/api/v2/users"),
            ("/users/123e4567-e89b-12d3-a456-426614174000/orders", "/users/{id}/orders"),
            ("/blobs/9f86d081884c7d65", "/blobs/{id}"),
            ("/commit/deadbeef1", "/commit/{id}"),
            ("/feedface/decade", "/feedface/decade"),
            ("/reports/2026-11-22", "/reports/{date}"),
            ("/reports/2026-11-22T10:00:00Z", "/reports/{date}"),
            ("/users/me@example.com", "/users/{email}"),
            ("/users/me%40example.com", "/users/{email}"),
            ("/@scope/package", "/@scope/package"),
            ("/search/%D0%B0%D0%B1", "/search/{text}"),
            ("/reset/V1StGXR8_Z5jdHi6B-myT", "/reset/{token}"),
            ("/orders/ORD12345", "/orders/{id}"),
            ("/orders/item-42", "/orders/{id}"),
            ("/oauth2/utf-8/step-1/s3", "/oauth2/utf-8/step-1/s3"),
            ("/img/12345.png", "/img/{id}.png"),
            ("/operations/17:cancel", "/operations/{id}:cancel"),
            ("/hosts/10.0.0.1", "/hosts/{id}"),
            ("/index.html;jsessionid=ABC", "/index.html"),
            ("/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/pods"),
        ] {
            assert_eq!(&*route(path), expected, "{path}");
        }
    }

    #[test]
    fn services_and_methods_keep_their_names() {
        for (path, expected) in [
            ("/shop.v1.Cart2/Add10", "/shop.v1.Cart2/Add10"),
            ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Check"),
            ("/42/17", "/{id}/{id}"),
            ("/a/b/42", "/a/b/{id}"),
            ("/a-b/42", "/a-b/{id}"),
        ] {
            assert_eq!(&*method(path), expected, "{path}");
        }
    }

    #[test]
    fn routes_are_bounded() {
        assert_eq!(&*route(&"/a".repeat(1000)), format!("{}/{{rest}}", "/a".repeat(12)));
        assert_eq!(&*route(&format!("/{}", "ab ".repeat(100))), "/{text}");
    }

    #[test]
    fn only_what_may_be_a_secret_is_taken_from_a_path() {
        for (path, expected) in [
            ("/items/42", "/items/42"),
            ("/users/123e4567-e89b-12d3-a456-426614174000", "/users/123e4567-e89b-12d3-a456-426614174000"),
            ("/reset/9f86d081884c7d659a2feaa0c55ad015", "/reset/{token}"),
            ("/bot123456789:AAF8xk29dkPqz8Ns0dkL2mnQ/send", "/{token}/send"),
            ("/x;jsessionid=0A1B2C", "/x;jsessionid={token}"),
            ("/x;v=1;w/y", "/x;v={token};w/y"),
            ("/a\u{1b}b", "/a\u{fffd}b"),
        ] {
            assert_eq!(&*shown_path(path.into()), expected, "{path}");
        }
        assert_eq!(shown_path("/a".repeat(5000).into()).len(), 1024);
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_path_is_taken(path: String) {
            proptest::prop_assert!(route(&path).split('/').count() <= 14);
            proptest::prop_assert!(shown_path(path.into()).len() <= 1024);
        }
    }
}
