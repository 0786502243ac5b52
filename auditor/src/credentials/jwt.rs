//! JSON Web Tokens: finding them in text and reading the claims that are safe to show. Signatures are checked in `verify`.

use std::{borrow::Cow, ops::Range};

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use super::{Claims, Profile, shape::shown};

/// Longest header part that is decoded, characters.
const HEADER_LIMIT: usize = 4096;
/// Longest payload part that is decoded, characters.
pub(super) const PAYLOAD_LIMIT: usize = 16 * 1024;
/// Entries of a list claim that are kept.
const LIST_LIMIT: usize = 16;

/// base64url as in RFC 7515 section 2, lenient in what decoders are lenient in: left-over bits.
pub(super) const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// Where the JWTs in a text are: runs of three base64url parts (JWS, RFC 7515 section 7.1) or five (JWE, RFC 7516
/// section 7.1) of which the first is a JSON object with `alg`. Anything may stand before and after, as long as it cannot
/// belong to the token.
pub(super) fn find(text: &[u8]) -> impl Iterator<Item = (Range<usize>, Claims)> {
    candidates(text).filter_map(|run| read(&text[run.clone()]).map(|claims| (run, claims)))
}

/// The runs of characters of a token that begin like one.
pub(super) fn candidates(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = next_start(text, at)?;
        at = start + text[start..].iter().take_while(|byte| is_part(**byte)).count();
        Some(start..at)
    })
}

/// Whether a token can be in the text at all; much cheaper than [`find`].
pub(super) fn possible(text: &[u8]) -> bool {
    if text.len() < 16 {
        return false;
    }
    // Most texts have no such pair. A loop without a way out looks at many bytes at once.
    let pair = |found, (first, second): (&u8, &u8)| found | (*first == b'e') & matches!(*second, b'y' | b'w');
    text.iter().zip(&text[1..]).fold(false, pair) && next_start(text, 0).is_some()
}

/// The next place where a run begins that can be a token: `{"`, `{ ` and `{` with a line break begin with `ey` or `ew`.
fn next_start(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at + 1 < text.len() {
        if text[at] == b'e' && matches!(text[at + 1], b'y' | b'w') && begins(text, at) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Whether no part of a token stands before `at`; a percent-encoded character does not belong to it.
fn begins(text: &[u8], at: usize) -> bool {
    match text[..at] {
        [] => true,
        [.., b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => true,
        [.., before] => !is_part(before),
    }
}

fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// The claims of a token; `None` when it is no token.
pub(super) fn read(token: &[u8]) -> Option<Claims> {
    let mut parts = token.split(|byte| *byte == b'.');
    let (header, payload) = (parts.next()?, parts.next()?);
    let encrypted = match parts.count() {
        1 => false,
        3 => true,
        _ => return None,
    };
    let mut claims = Claims::default();
    read_part(header, HEADER_LIMIT, |name, value| match name {
        "alg" => claims.alg = value.text(),
        "cty" => claims.cty = value.text(),
        "enc" => claims.enc = value.text(),
        "kid" => claims.kid = value.text(),
        _ => {}
    })?;
    claims.alg.as_ref()?;
    if !encrypted {
        let mut body = Claims::default();
        let nested = claims.cty.as_deref().is_some_and(|cty| cty.eq_ignore_ascii_case("JWT"));
        let mut take =
            |payload: &[u8]| read_part(payload, PAYLOAD_LIMIT, |name, value| body.take(name, value)).is_some();
        if take(payload) || (nested && wrapped(payload).is_some_and(|inner| take(&inner))) {
            let Claims { alg, enc, kid, cty, .. } = claims;
            claims = Claims { alg, enc, kid, cty, readable: true, ..body };
            claims.profile = profile(claims.sub.as_deref());
            claims.lifetime_seconds = claims.exp.zip(claims.iat).map(|(exp, iat)| exp.saturating_sub(iat));
        }
    }
    Some(claims)
}

/// The payload part of the token that is wrapped in another one (RFC 7519 section 5.2); one wrapping is looked into.
fn wrapped(payload: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let inner = decode(payload, PAYLOAD_LIMIT)?;
    let mut parts = inner.split(|byte| *byte == b'.');
    let part = parts.nth(1).filter(|_| parts.count() == 1)?;
    Some(Zeroizing::new(part.to_vec()))
}

/// By what its subject is named.
fn profile(subject: Option<&str>) -> Option<Profile> {
    let subject = subject?;
    if subject.starts_with("spiffe://") {
        Some(Profile::SpiffeJwtSvid)
    } else if subject.starts_with("system:serviceaccount:") {
        Some(Profile::KubernetesServiceAccount)
    } else {
        None
    }
}

/// Decodes one part and hands its members out; `None` when it is no JSON object.
fn read_part(part: &[u8], limit: usize, member: impl FnMut(&str, Value<'_>)) -> Option<()> {
    let decoded = decode(part, limit)?;
    let mut json = serde_json::Deserializer::from_slice(&decoded);
    json.deserialize_map(Members(member)).ok()?;
    json.end().ok()
}

/// Decodes one part into a buffer that is wiped.
pub(super) fn decode(part: &[u8], limit: usize) -> Option<Zeroizing<Vec<u8>>> {
    if part.len() > limit {
        return None;
    }
    let mut decoded = Zeroizing::new(vec![0; part.len() / 4 * 3 + 3]);
    let length = BASE64URL.decode_slice(part, &mut decoded).ok()?;
    decoded.truncate(length);
    Some(decoded)
}

impl Claims {
    fn take(&mut self, name: &str, value: Value<'_>) {
        match name {
            "iss" => self.iss = value.text(),
            "sub" => self.sub = value.text(),
            "aud" => self.aud = value.list(false),
            "scope" | "scp" if self.scope.is_empty() => self.scope = value.list(true),
            "roles" | "permissions" if self.roles.is_empty() => self.roles = value.list(true),
            "azp" | "client_id" if self.client_id.is_none() => self.client_id = value.text(),
            "act" => self.act = value.subject(),
            "cnf" => self.cnf = value.first_member(),
            "exp" => self.exp = value.number(),
            "nbf" => self.nbf = value.number(),
            "iat" => self.iat = value.number(),
            _ => {}
        }
    }
}

/// The members of an object, each handed to the function; the last of equal names counts.
struct Members<F>(F);

impl<'de, F: FnMut(&str, Value<'de>)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Name>()? {
            match name {
                Name::Known(name) => (self.0)(name, map.next_value()?),
                Name::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Members of headers and payloads that are read.
const KNOWN: [&str; 18] = [
    "act",
    "alg",
    "aud",
    "azp",
    "client_id",
    "cnf",
    "cty",
    "enc",
    "exp",
    "iat",
    "iss",
    "kid",
    "nbf",
    "permissions",
    "roles",
    "scope",
    "scp",
    "sub",
];

/// A member's name. The values of all others are skipped without being copied.
enum Name {
    Known(&'static str),
    Other,
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = Name;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Name, E> {
                Ok(KNOWN.into_iter().find(|name| *name == text).map_or(Name::Other, Name::Known))
            }
        }
        deserializer.deserialize_identifier(NameVisitor)
    }
}

/// A claim's value as far as it is of use. Other types are no error: a token with an odd claim is still a token.
enum Value<'a> {
    Number(i64),
    Text(Cow<'a, str>),
    List(Vec<Box<str>>),
    /// An object: its first member's name, and its `sub`.
    Object(Option<Box<str>>, Option<Box<str>>),
    Other,
}

impl Value<'_> {
    fn text(self) -> Option<Box<str>> {
        match self {
            Self::Text(text) => Some(shown(&text)),
            _ => None,
        }
    }

    fn subject(self) -> Option<Box<str>> {
        match self {
            Self::Object(_, subject) => subject,
            _ => None,
        }
    }

    fn first_member(self) -> Option<Box<str>> {
        match self {
            Self::Object(first, _) => first,
            _ => None,
        }
    }

    /// Seconds. Some issuers write numbers as text.
    fn number(self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// One text, words of one text (RFC 8693 section 4.2), or a list of texts.
    fn list(self, words: bool) -> Vec<Box<str>> {
        match self {
            Self::Text(text) if words => text.split_ascii_whitespace().take(LIST_LIMIT).map(shown).collect(),
            Self::Text(text) => vec![shown(&text)],
            Self::List(list) => list,
            _ => Vec::new(),
        }
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Value::Number(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        #[expect(clippy::cast_possible_truncation, reason = "NumericDate may have a fraction; the cast saturates")]
        Ok(Value::Number(number as i64))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while list.len() < LIST_LIMIT {
            match sequence.next_element::<Value<'_>>()? {
                Some(Value::Text(text)) => list.push(shown(&text)),
                Some(_) => {}
                None => return Ok(Value::List(list)),
            }
        }
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut first, mut subject) = (None, None);
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if name == "sub" {
                subject = map.next_value::<Value<'_>>()?.text();
            } else {
                map.next_value::<IgnoredAny>()?;
            }
            first = first.or_else(|| Some(shown(&name)));
        }
        Ok(Value::Object(first, subject))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A token of a header, a payload and a signature part.
    pub(crate) fn token(header: &str, payload: &str, signature: &str) -> String {
        format!("{}.{}.{signature}", BASE64URL.encode(header), BASE64URL.encode(payload))
    }

    fn claims(payload: &str) -> Claims {
        read(token(r#"{"alg":"RS256"}"#, payload, "c2ln").as_bytes()).expect("a token")
    }

    #[test]
    fn claims_are_read() {
        let claims = claims(
            r#"{"iss":"https://issuer","sub":"cart","aud":["a","b"],"scope":"read write","exp":1000,"iat":700.5,"nbf":"600","x":{"y":["z"]}}"#,
        );
        assert_eq!(claims.alg.as_deref(), Some("RS256"));
        assert_eq!(claims.iss.as_deref(), Some("https://issuer"));
        assert_eq!(claims.sub.as_deref(), Some("cart"));
        assert_eq!(claims.aud, ["a".into(), "b".into()]);
        assert_eq!(claims.scope, ["read".into(), "write".into()]);
        assert_eq!((claims.exp, claims.iat, claims.nbf), (Some(1000), Some(700), Some(600)));
        assert_eq!(claims.lifetime_seconds, Some(300));
        assert!(claims.readable);
    }

    #[test]
    fn who_it_was_issued_to_who_acts_and_how_it_is_bound_are_read() {
        let token = token(
            r#"{"alg":"ES256","kid":"2026-11"}"#,
            r#"{"sub":"spiffe://example.org/ns/shop/sa/cart","azp":"web","client_id":"late","roles":["reader"],"permissions":["x"],"act":{"iss":"i","sub":"cart","act":{"sub":"gate"}},"cnf":{"x5t#S256":"bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}}"#,
            "c2ln",
        );
        let svid = read(token.as_bytes()).expect("a token");
        assert_eq!((svid.kid.as_deref(), svid.client_id.as_deref()), (Some("2026-11"), Some("web")));
        assert_eq!((svid.act.as_deref(), svid.cnf.as_deref()), (Some("cart"), Some("x5t#S256")));
        assert_eq!((svid.roles, svid.profile), (vec!["reader".into()], Some(Profile::SpiffeJwtSvid)));
        let account = claims(r#"{"sub":"system:serviceaccount:shop:cart","act":7,"cnf":{}}"#);
        assert_eq!(account.profile, Some(Profile::KubernetesServiceAccount));
        assert_eq!((account.act, account.cnf), (None, None));
        let encrypted = format!("{}.a.b.c.d", BASE64URL.encode(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#));
        assert_eq!(read(encrypted.as_bytes()).expect("a token").enc.as_deref(), Some("A256GCM"));
    }

    #[test]
    fn a_token_wrapped_in_another_is_read() {
        let inner = token(r#"{"alg":"ES256"}"#, r#"{"iss":"inner","exp":7}"#, "c2ln");
        let outer = read(token(r#"{"alg":"RS256","cty":"JWT"}"#, &inner, "c2ln").as_bytes()).expect("a token");
        assert_eq!((outer.alg.as_deref(), outer.cty.as_deref()), (Some("RS256"), Some("JWT")));
        assert_eq!((outer.iss.as_deref(), outer.exp, outer.readable), (Some("inner"), Some(7), true));
        let encrypted = format!("{}.a.b.c.d", BASE64URL.encode(r#"{"alg":"dir","enc":"A128GCM","cty":"JWT"}"#));
        let outer = read(token(r#"{"alg":"RS256","cty":"jwt"}"#, &encrypted, "c2ln").as_bytes()).expect("a token");
        assert!(!outer.readable && outer.iss.is_none(), "{outer:?}");
        assert_eq!(read(encrypted.as_bytes()).expect("a token").cty.as_deref(), Some("JWT"));
        let unsaid = read(token(r#"{"alg":"RS256"}"#, &inner, "c2ln").as_bytes()).expect("a token");
        assert!(!unsaid.readable);
    }

    #[test]
    fn odd_types_are_no_error() {
        let claims = claims(r#"{"iss":7,"sub":null,"aud":{"a":1},"scp":["x",1,"y"],"exp":true,"iat":1e300}"#);
        assert_eq!((claims.iss, claims.sub, claims.exp), (None, None, None));
        assert!(claims.aud.is_empty());
        assert_eq!(claims.scope, ["x".into(), "y".into()]);
        assert_eq!(claims.iat, Some(i64::MAX));
    }

    #[test]
    fn lists_and_strings_are_cut() {
        let many = (0..1000).map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(",");
        let claims = claims(&format!(r#"{{"aud":[{many}],"sub":"{}"}}"#, "s".repeat(1000)));
        assert_eq!(claims.aud.len(), 16);
        assert_eq!(claims.sub.map(|sub| sub.len()), Some(128));
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_as_missing() {
        let long = token(r#"{"alg":"RS256"}"#, &format!(r#"{{"x":"{}"}}"#, "a".repeat(20_000)), "c2ln");
        let opaque = token(r#"{"alg":"RS256"}"#, "not json", "c2ln");
        let encrypted = format!("{}.a.b.c.d", BASE64URL.encode(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#));
        for token in [long, opaque, encrypted] {
            let claims = read(token.as_bytes()).expect("a token");
            assert!(!claims.readable && claims.alg.is_some(), "{claims:?}");
        }
    }

    #[test]
    fn other_dotted_text_is_no_token() {
        let no_alg = token(r#"{"user":1}"#, "{}", "x");
        let four = format!("{}.x", token(r#"{"alg":"none"}"#, "{}", "x"));
        for text in [no_alg.as_str(), four.as_str(), "a.b.c", "eyJ.eyJ.x", "curl/8.5.0", "", "ey", "www.example.ew.com"]
        {
            assert_eq!(find(text.as_bytes()).count(), 0, "{text}");
        }
    }

    #[test]
    fn tokens_are_found_behind_prefixes() {
        let token = token("{ \"alg\" : \"none\" }", "{}", "");
        for text in [
            format!("JWT {token}"),
            format!("a=b;t={token},c"),
            format!("\"{token}\""),
            format!("s%3A{token}"),
            format!("  {token}  "),
        ] {
            let found: Vec<_> = find(text.as_bytes()).map(|(range, _)| &text[range]).collect();
            assert_eq!(found, [token.as_str()], "{text}");
        }
        assert_eq!(find(format!("{token} {token}").as_bytes()).count(), 2);
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_bytes_are_taken(text: Vec<u8>, payload: Vec<u8>) {
            find(&text).for_each(drop);
            let header = BASE64URL.encode(r#"{"alg":"x"}"#);
            let token = format!("{header}.{}.s", BASE64URL.encode(&payload));
            proptest::prop_assert!(read(token.as_bytes()).is_some());
        }
    }
}
