//! `X-Forwarded-Client-Cert`: what Envoy, and what follows it, says of the client certificate that it accepted.
//!
//! The value is a list of elements, one for each proxy that added one; the last is that of the proxy in front. An element is
//! a list of `Key=Value` pairs. Whoever can send a header can send this one: who may be believed is `policy`'s work.

use super::{proof::ForwardedCertificate, shape::shown};

/// URIs and names that are kept of a certificate.
const NAMES: usize = 8;
/// Longest part that is shown, bytes as sent.
const PART_BYTES: usize = 1024;

/// The last element of a value: what is safe to show of it, and the bytes that the certificate is known by. `None` when it
/// names no certificate.
pub(super) fn read(value: &[u8]) -> Option<(ForwardedCertificate, &[u8])> {
    let element = split(value, b',').last()?.trim_ascii();
    let mut certificate = ForwardedCertificate::default();
    let mut known_by = None;
    for pair in split(element, b';') {
        let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { continue };
        let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        if value.is_empty() {
            continue;
        }
        let text = || shown(&String::from_utf8_lossy(&value[..value.len().min(PART_BYTES)]).replace('\\', ""));
        match name.to_ascii_lowercase().as_slice() {
            b"by" => certificate.by = Some(text()),
            b"subject" => {
                certificate.subject = Some(text());
                known_by = known_by.or(Some(element));
            }
            b"uri" => {
                known_by = known_by.or(Some(element));
                keep(&mut certificate.uri, text);
            }
            b"dns" => {
                known_by = known_by.or(Some(element));
                keep(&mut certificate.dns, text);
            }
            b"hash" => known_by = Some(value),
            b"cert" | b"chain" => known_by = known_by.or(Some(value)),
            _ => {}
        }
    }
    known_by.map(|known_by| (certificate, known_by))
}

fn keep(names: &mut Vec<Box<str>>, name: impl FnOnce() -> Box<str>) {
    if names.len() < NAMES {
        names.push(name());
    }
}

/// The parts of a list, whose separator may stand in double quotes, and a double quote behind a backslash.
fn split(list: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    list.split(move |byte| {
        match *byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            _ => return *byte == separator && !quoted,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<Box<str>> {
        names.iter().map(|name| Box::from(*name)).collect()
    }

    #[test]
    fn an_element_is_read() {
        let value = br#"By=spiffe://a/ns/x/sa/b;Hash=468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688;Subject="/C=US/CN=\"x, y;z\"";URI=spiffe://a/ns/shop/sa/cart;URI=urn:2;DNS=cart;Cert="-----BEGIN%20""#;
        let (certificate, known_by) = read(value).expect("a certificate");
        assert_eq!(known_by.len(), 64);
        assert_eq!(certificate.by.as_deref(), Some("spiffe://a/ns/x/sa/b"));
        assert_eq!(certificate.subject.as_deref(), Some("/C=US/CN=\"x, y;z\""));
        assert_eq!(certificate.uri, names(&["spiffe://a/ns/shop/sa/cart", "urn:2"]));
        assert_eq!(certificate.dns, names(&["cart"]));
    }

    #[test]
    fn the_proxy_in_front_wrote_the_last_element() {
        let (certificate, _) = read(b"Hash=1;URI=spiffe://a/forged,Hash=2;URI=spiffe://a/true").expect("a certificate");
        assert_eq!(certificate.uri, names(&["spiffe://a/true"]));
        let (certificate, _) = read(br#"Hash=1;Subject="a,Hash=2;URI=x",Hash=3"#).expect("a certificate");
        assert!(certificate.uri.is_empty() && certificate.subject.is_none(), "{certificate:?}");
    }

    #[test]
    fn what_names_no_certificate_is_none() {
        for value in ["", ",", "By=spiffe://a/b", "Hash=", "Subject=\"\"", "x", "=;=;=", "Hash=1,", "URI=a,By=b"] {
            assert_eq!(read(value.as_bytes()), None, "{value}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_bytes_are_taken(value: Vec<u8>, text in "(Hash|URI|DNS|By|Subject|=|;|,|\"|\\\\|[a-z]{1,4}){0,40}") {
            let _ = read(&value);
            if let Some((certificate, known_by)) = read(text.as_bytes()) {
                proptest::prop_assert!(!known_by.is_empty());
                proptest::prop_assert!(certificate.uri.len() <= NAMES && certificate.dns.len() <= NAMES);
            }
        }
    }
}
