//! Signatures over a message: what they cover and when they were made. Whether they hold is not checked: the keys are the
//! parties' own. Nothing here is kept of the signature itself, nor of the name of its key.

use sfv::{Dictionary, InnerList, ListEntry, Parser};

use super::{
    authorization::{parameter, percent_decoded},
    proof::{Component, MessageSignature, SignatureScheme},
    shape::is_token,
};

/// Most signatures of one message that are looked at.
const SIGNATURES: usize = 8;
/// Most components of a signature that are looked at.
const COMPONENTS: usize = 64;
/// Longest `Signature-Input` that is read, bytes.
const INPUT_BYTES: usize = 16 * 1024;

/// Longest word that is shown of a signature, bytes.
const WORD_BYTES: usize = 20;

/// Timestamps that are signed along with an HMAC, by the header that carries it.
const STAMPS: [(&str, &str); 5] = [
    ("header:x-slack-signature", "x-slack-request-timestamp"),
    ("header:x-zm-signature", "x-zm-request-timestamp"),
    ("header:x-signature-ed25519", "x-signature-timestamp"),
    ("header:svix-signature", "svix-timestamp"),
    ("header:webhook-signature", "webhook-timestamp"),
];

/// What is asked of a request besides its signature.
#[derive(Clone, Copy)]
pub(super) struct Signed<'a> {
    /// It has a query.
    pub(super) has_query: bool,
    /// Its `Date`.
    pub(super) date: Option<&'a [u8]>,
}

/// HTTP Message Signatures (RFC 9421 section 4.1): of several signatures the one that covers the most. `None` when the
/// `Signature-Input` values cannot be read.
pub(super) fn rfc9421<'a>(inputs: impl Iterator<Item = &'a [u8]>, signed: Signed<'_>) -> Option<MessageSignature> {
    let mut joined = Vec::new();
    for input in inputs {
        if joined.len() + input.len() > INPUT_BYTES {
            return None;
        }
        if !joined.is_empty() {
            joined.extend_from_slice(b", ");
        }
        joined.extend_from_slice(input);
    }
    let members: Dictionary = Parser::new(&joined).parse().ok()?;
    let lists = members.values().filter_map(|member| match member {
        ListEntry::InnerList(list) => Some(list),
        ListEntry::Item(_) => None,
    });
    lists.take(SIGNATURES).map(|list| signature(list, signed)).max_by_key(|found| found.covers.len())
}

fn signature(list: &InnerList, signed: Signed<'_>) -> MessageSignature {
    let names = || list.items.iter().take(COMPONENTS).filter_map(|item| Some(item.bare_item.as_string()?.as_str()));
    let has = |name: &str| names().any(|known| known == name);
    let text = |name: &str| {
        let value = list.params.get(name)?;
        let text = value.as_string().map(|text| text.as_str()).or_else(|| Some(value.as_token()?.as_str()))?;
        word(text.as_bytes())
    };
    let time = |name: &str| list.params.get(name).and_then(|value| value.as_integer()).map(i64::from);
    let whole_target = has("@target-uri") || has("@request-target");
    let parts_of_target = has("@path") && (has("@query") || !signed.has_query);
    let covers = [
        (Component::Method, has("@method")),
        (Component::Target, whole_target || parts_of_target),
        (Component::Authority, has("@authority") || has("@target-uri") || has("host")),
        (Component::Digest, has("content-digest") || has("repr-digest") || has("digest")),
    ];
    MessageSignature {
        scheme: SignatureScheme::Rfc9421,
        covers: covered(covers),
        created: time("created").or_else(|| signed.date.filter(|_| has("date")).and_then(http_date)),
        expires: time("expires"),
        alg: text("alg"),
        nonce: list.params.contains_key("nonce"),
        scope: text("tag"),
    }
}

/// draft-cavage-http-signatures-12 section 2.1: the parameters of `Signature` or `Authorization: Signature`.
pub(super) fn cavage(parameters: &[u8], signed: Signed<'_>) -> MessageSignature {
    let list = quoted(parameters, b"headers").unwrap_or_default();
    let has = |name: &str| {
        let mut names = list.split(u8::is_ascii_whitespace).take(COMPONENTS);
        names.any(|known| known.eq_ignore_ascii_case(name.as_bytes()))
    };
    let covers = [
        (Component::Method, has("(request-target)")),
        (Component::Target, has("(request-target)")),
        (Component::Authority, has("host")),
        (Component::Digest, has("digest") || has("content-digest")),
    ];
    let created = parameter(parameters, b"created").filter(|_| has("(created)")).and_then(number);
    // Without a list only the date is signed, as in all versions before the last.
    let dated = list.is_empty() || has("date");
    MessageSignature {
        scheme: SignatureScheme::Cavage,
        covers: covered(covers),
        created: created.or_else(|| signed.date.filter(|_| dated).and_then(http_date)),
        expires: parameter(parameters, b"expires").and_then(number),
        alg: parameter(parameters, b"algorithm").and_then(word),
        nonce: false,
        scope: None,
    }
}

/// AWS Signature Version 4 in `Authorization`; `stamp` is `X-Amz-Date`, `payload` is `X-Amz-Content-Sha256`.
pub(super) fn sigv4(
    parameters: &[u8],
    stamp: Option<&[u8]>,
    payload: Option<&[u8]>,
    signed: Signed<'_>,
) -> MessageSignature {
    let names = listed(parameters, b"signedheaders").unwrap_or_default();
    let unsigned = payload.is_some_and(|payload| payload.starts_with(b"UNSIGNED-PAYLOAD"));
    MessageSignature {
        created: stamp.and_then(basic_date).or_else(|| signed.date.and_then(http_date)),
        ..sigv4_of(names, parameter(parameters, b"credential").unwrap_or_default(), unsigned)
    }
}

/// AWS Signature Version 4 in the query: a presigned URL.
pub(super) fn presigned(query: &[u8]) -> MessageSignature {
    let get = |name: &[u8]| query.split(|byte| *byte == b'&').find_map(|pair| parameter(pair, name));
    let names = percent_decoded(get(b"x-amz-signedheaders").unwrap_or_default());
    let scope = percent_decoded(get(b"x-amz-credential").unwrap_or_default());
    let created = get(b"x-amz-date").and_then(basic_date);
    let lifetime = get(b"x-amz-expires").and_then(number);
    MessageSignature {
        created,
        expires: created.zip(lifetime).map(|(created, lifetime)| created.saturating_add(lifetime)),
        // The body of a presigned request is not known to who signs it.
        ..sigv4_of(names.bytes(), scope.bytes(), true)
    }
}

/// The canonical request always has method, path and query (AWS General Reference, Signature Version 4).
fn sigv4_of(names: &[u8], scope: &[u8], unsigned_payload: bool) -> MessageSignature {
    let host = names.split(|byte| *byte == b';').take(COMPONENTS).any(|name| {
        let name = name.trim_ascii();
        name.eq_ignore_ascii_case(b"host") || name.eq_ignore_ascii_case(b":authority")
    });
    let covers = [
        (Component::Method, true),
        (Component::Target, true),
        (Component::Authority, host),
        (Component::Digest, !unsigned_payload),
    ];
    let parts: Vec<_> = scope.split(|byte| *byte == b'/').skip(1).take(3).filter_map(word).collect();
    MessageSignature {
        scheme: SignatureScheme::Sigv4,
        covers: covered(covers),
        created: None,
        expires: None,
        alg: None,
        nonce: false,
        scope: (parts.len() == 3).then(|| parts.join("/").into_boxed_str()),
    }
}

/// An HMAC in a header of its own: what it covers is agreed elsewhere. `None` when it does not even say when it was made.
pub(super) fn hmac<'a>(
    carrier: &str,
    value: &[u8],
    header: impl FnOnce(&'static str) -> Option<&'a [u8]>,
) -> Option<MessageSignature> {
    let stamp = if carrier == "header:stripe-signature" {
        parameter(value, b"t")
    } else {
        let (_, stamp) = STAMPS.into_iter().find(|(known, _)| *known == carrier)?;
        header(stamp)
    };
    Some(MessageSignature {
        scheme: SignatureScheme::Hmac,
        covers: Vec::new(),
        created: Some(stamp.and_then(number)?),
        expires: None,
        alg: None,
        nonce: false,
        scope: None,
    })
}

fn covered(components: [(Component, bool); 4]) -> Vec<Component> {
    components.into_iter().filter_map(|(component, covered)| covered.then_some(component)).collect()
}

/// The value of `name="value"` in a list; spaces and commas may stand in it.
fn quoted<'a>(list: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let at = list
        .windows(name.len() + 2)
        .position(|part| part[..name.len()].eq_ignore_ascii_case(name) && part.ends_with(b"=\""))?;
    let begins = at == 0 || matches!(list[at - 1], b',' | b' ' | b'\t');
    let rest = &list[at + name.len() + 2..];
    rest.iter().position(|byte| *byte == b'"').filter(|_| begins).map(|end| &rest[..end])
}

/// The value of `name=value` in a list separated by commas; semicolons may stand in it.
fn listed<'a>(list: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    list.split(|byte| matches!(byte, b',' | b' ')).find_map(|item| {
        let equals = item.iter().position(|byte| *byte == b'=')?;
        item[..equals].trim_ascii().eq_ignore_ascii_case(name).then(|| item[equals + 1..].trim_ascii())
    })
}

/// Seconds since the Unix epoch, or of a lifetime.
fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// A short word that is safe to show.
fn word(text: &[u8]) -> Option<Box<str>> {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:*".contains(byte);
    if text.is_empty() || text.len() > WORD_BYTES || is_token(text) || !text.iter().all(fits) {
        return None;
    }
    std::str::from_utf8(text).ok().map(Box::from)
}

/// `20261122T010203Z` as seconds since the Unix epoch.
fn basic_date(text: &[u8]) -> Option<i64> {
    let fits = text.len() == 16 && text[8] == b'T' && text[15] == b'Z';
    let text = std::str::from_utf8(text).ok().filter(|_| fits)?;
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

/// An HTTP date (RFC 9110 section 5.6.7) as seconds since the Unix epoch.
fn http_date(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= 64)?;
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Component::{Authority, Digest, Method, Target};

    const PLAIN: Signed<'static> = Signed { has_query: false, date: None };
    const DATED: Signed<'static> = Signed { has_query: true, date: Some(b"Sun, 22 Nov 2026 00:00:00 GMT") };

    fn read(input: &str, signed: Signed<'_>) -> MessageSignature {
        rfc9421(std::iter::once(input.as_bytes()), signed).expect("an input")
    }

    #[test]
    fn components_and_parameters_are_read() {
        // RFC 9421 section B.2.3 and 2.3.
        let found = read(
            r#"sig-b23=("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;expires=1618884773;keyid="test-key-rsa-pss";alg="rsa-pss-sha512";nonce="x";tag="app""#,
            DATED,
        );
        assert_eq!(found.covers, [Method, Target, Authority, Digest]);
        assert_eq!((found.created, found.expires), (Some(1_618_884_473), Some(1_618_884_773)));
        assert_eq!((found.alg.as_deref(), found.scope.as_deref()), (Some("rsa-pss-sha512"), Some("app")));
        assert!(found.nonce);
    }

    #[test]
    fn a_query_has_to_be_covered_where_there_is_one() {
        let path = r#"a=("@method" "@path");created=1"#;
        assert_eq!(read(path, PLAIN).covers, [Method, Target]);
        assert_eq!(read(path, DATED).covers, [Method]);
        assert_eq!(read(r#"a=("@target-uri")"#, DATED).covers, [Target, Authority]);
        assert_eq!(read(r#"a=("@request-target" "host")"#, DATED).covers, [Target, Authority]);
        assert_eq!(read("a=()", DATED), MessageSignature { created: None, ..read("a=()", PLAIN) });
        assert_eq!(read(r#"a=("date")"#, DATED).created, Some(1_795_305_600));
        assert_eq!(read(r#"a=("host")"#, DATED).created, None);
    }

    #[test]
    fn of_several_the_one_that_covers_most_counts() {
        let found = read(r#"a=("host"), b=("@method" "@target-uri");created=5, c=("date");created=9"#, PLAIN);
        assert_eq!((found.covers.len(), found.created), (3, Some(5)));
        let lines = [&br#"a=("host")"#[..], br#"b=("@method" "@target-uri")"#];
        assert_eq!(rfc9421(lines.into_iter(), PLAIN).expect("an input").covers.len(), 3);
    }

    #[test]
    fn what_is_no_input_is_none() {
        for input in ["", "a=1", "(\"@method\")", "a=(\"@method\"", "A=()", "a=(@method)", "\u{e4}=()"] {
            assert_eq!(rfc9421(std::iter::once(input.as_bytes()), PLAIN), None, "{input}");
        }
        let long = format!("a=({})", "\"x\" ".repeat(10_000));
        assert_eq!(rfc9421(std::iter::once(long.as_bytes()), PLAIN), None);
    }

    #[test]
    fn draft_cavage_is_read() {
        let found = cavage(
            br#"keyId="k",algorithm="hs2019",created=1402170695, expires=1402170995,headers="(request-target) (created) host digest",signature="x=""#,
            PLAIN,
        );
        assert_eq!(found.covers, [Method, Target, Authority, Digest]);
        assert_eq!((found.created, found.expires), (Some(1_402_170_695), Some(1_402_170_995)));
        assert_eq!(found.alg.as_deref(), Some("hs2019"));
        let bare = cavage(br#"keyId="k",signature="x""#, DATED);
        assert_eq!((bare.covers.len(), bare.created), (0, Some(1_795_305_600)));
        assert_eq!(cavage(br#"keyId="k",headers="host",created=7,signature="x""#, DATED).created, None);
    }

    #[test]
    fn sigv4_is_read() {
        let value = b"Credential=AKIDEXAMPLE/20261122/eu-west-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=5d";
        let found = sigv4(value, Some(b"20261122T000000Z"), None, PLAIN);
        assert_eq!(found.covers, [Method, Target, Authority, Digest]);
        assert_eq!((found.created, found.scope.as_deref()), (Some(1_795_305_600), Some("20261122/eu-west-1/iam")));
        let found = sigv4(b"Credential=A/b,SignedHeaders=x-amz-date", None, Some(b"UNSIGNED-PAYLOAD"), DATED);
        assert_eq!((found.covers, found.created), (vec![Method, Target], Some(1_795_305_600)));
        let query = b"a=1&X-Amz-Credential=A%2F20261122%2Fr%2Fs3%2Faws4_request&X-Amz-Date=20261122T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host%3Brange&X-Amz-Signature=5d";
        let found = presigned(query);
        assert_eq!((found.created, found.expires), (Some(1_795_305_600), Some(1_795_305_660)));
        assert_eq!((found.covers.len(), found.scope.as_deref()), (3, Some("20261122/r/s3")));
        assert_eq!((presigned(b"").created, presigned(b"").covers.len()), (None, 2));
    }

    #[test]
    fn hmacs_say_when_at_most() {
        let none = |_: &'static str| None;
        assert_eq!(hmac("header:x-hub-signature-256", b"sha256=00", |_| panic!("not asked for")), None);
        assert_eq!(hmac("header:x-slack-signature", b"v0=00", none), None);
        let at = |found: Option<MessageSignature>| found.and_then(|found| found.created);
        assert_eq!(at(hmac("header:x-slack-signature", b"v0=00", |_| Some(b"1700000000"))), Some(1_700_000_000));
        assert_eq!(at(hmac("header:stripe-signature", b"t=1700000000,v1=00", none)), Some(1_700_000_000));
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_bytes_are_taken(value: Vec<u8>, text in "(sig1|=|\\(|\\)|\"@method\"|\"host\"|;|created|expires|[0-9]{1,20}|,| |\"|headers|Credential|/|x-amz-date|T|Z){0,40}") {
            for bytes in [value.as_slice(), text.as_bytes()] {
                let signed = Signed { has_query: true, date: Some(bytes) };
                let _ = rfc9421(std::iter::once(bytes), signed);
                let _ = cavage(bytes, signed);
                let _ = sigv4(bytes, Some(bytes), Some(bytes), signed);
                let _ = presigned(bytes);
                let _ = hmac("header:stripe-signature", bytes, |_| None);
            }
        }
    }
}
