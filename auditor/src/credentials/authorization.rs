//! The value of `Authorization` and `Proxy-Authorization` (RFC 9110 section 11.4): `scheme SP credentials`.

use std::borrow::Cow;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use super::{Claims, CredentialKind, jwt, shape::is_placeholder};

/// Longest Basic credential that is decoded, characters.
const BASIC_LIMIT: usize = 8 * 1024;

/// How a first NTLM message begins: `NTLMSSP\0`, type 1, in base64 ([MS-NLMP] section 2.2.1.1).
pub(super) const NTLM_NEGOTIATE: &[u8] = b"TlRMTVNTUAAB";

/// base64 as in RFC 4648 section 4, with or without padding.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Schemes that are known: their name alone is no credential.
const SCHEMES: [(&str, Scheme); 22] = [
    ("bearer", Scheme::Bearer),
    ("basic", Scheme::Basic),
    ("token", Scheme::Bearer),
    ("jwt", Scheme::Bearer),
    ("digest", Scheme::Digest),
    ("negotiate", Scheme::Negotiate),
    ("ntlm", Scheme::Negotiate),
    ("kerberos", Scheme::Negotiate),
    ("dpop", Scheme::Dpop),
    ("signature", Scheme::Signature),
    ("apikey", Scheme::ApiKey),
    ("api-key", Scheme::ApiKey),
    ("key", Scheme::ApiKey),
    ("aws4-hmac-sha256", Scheme::Sigv4),
    ("aws4-ecdsa-p256-sha256", Scheme::Sigv4),
    ("hawk", Scheme::Other),
    ("hoba", Scheme::Other),
    ("mutual", Scheme::Other),
    ("vapid", Scheme::Other),
    ("scram-sha-1", Scheme::Other),
    ("scram-sha-256", Scheme::Other),
    ("oauth", Scheme::Other),
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    ApiKey,
    Basic,
    Bearer,
    Digest,
    Dpop,
    Negotiate,
    Other,
    Signature,
    Sigv4,
}

/// A secret, in the head or decoded into a buffer that is wiped.
pub(super) enum Secret<'a> {
    Borrowed(&'a [u8]),
    Decoded(Zeroizing<Vec<u8>>),
}

impl Secret<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Decoded(bytes) => bytes,
        }
    }
}

/// What an authorization value proves.
pub(super) struct Proof<'a> {
    pub(super) kind: CredentialKind,
    pub(super) secret: Secret<'a>,
    pub(super) claims: Option<Claims>,
}

/// The known scheme of a name.
pub(super) fn scheme(name: &[u8]) -> Option<Scheme> {
    SCHEMES.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name)).map(|(_, scheme)| *scheme)
}

/// A value's first word and the rest of it.
pub(super) fn split(value: &[u8]) -> (&[u8], &[u8]) {
    let value = value.trim_ascii();
    let end = value.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(value.len());
    (&value[..end], value[end..].trim_ascii())
}

/// Reads a value; `None` when it proves nothing.
pub(super) fn read(value: &[u8]) -> Option<Proof<'_>> {
    let (word, rest) = split(value);
    let known = scheme(word);
    if rest.is_empty() {
        let bare = known.is_none() && !is_placeholder(word);
        return bare.then(|| bearer(word, CredentialKind::BearerOpaque));
    }
    if is_placeholder(rest) {
        return None;
    }
    let plain = |kind, secret| Some(Proof { kind, secret: Secret::Borrowed(secret), claims: None });
    match known {
        Some(Scheme::Bearer) => Some(bearer(rest, CredentialKind::BearerOpaque)),
        Some(Scheme::Basic) => basic(rest),
        Some(Scheme::Dpop) => Some(Proof { kind: CredentialKind::Dpop, ..bearer(rest, CredentialKind::Dpop) }),
        Some(Scheme::ApiKey) => Some(bearer(rest, CredentialKind::ApiKey)),
        Some(Scheme::Digest) => plain(CredentialKind::Digest, parameter(rest, b"username").unwrap_or(rest)),
        Some(Scheme::Signature) => plain(CredentialKind::HttpSignature, parameter(rest, b"keyid").unwrap_or(rest)),
        Some(Scheme::Sigv4) => {
            plain(CredentialKind::AwsSigv4, access_key(parameter(rest, b"credential").unwrap_or(rest)))
        }
        Some(Scheme::Negotiate) if rest.starts_with(NTLM_NEGOTIATE) => None,
        Some(Scheme::Negotiate) => plain(CredentialKind::Negotiate, rest),
        Some(Scheme::Other) | None => Some(bearer(rest, CredentialKind::Other)),
    }
}

/// A bearer token: a JWT where one is in it, else of the given kind.
fn bearer(token: &[u8], otherwise: CredentialKind) -> Proof<'_> {
    match jwt::find(token).next() {
        Some((range, claims)) => {
            Proof { kind: CredentialKind::BearerJwt, secret: Secret::Borrowed(&token[range]), claims: Some(claims) }
        }
        None => Proof { kind: otherwise, secret: Secret::Borrowed(token), claims: None },
    }
}

/// RFC 7617 section 2. Neither user nor password: nothing is proved. What is no base64 is kept as it is.
fn basic(encoded: &[u8]) -> Option<Proof<'_>> {
    let secret = decode_basic(encoded).map_or(Secret::Borrowed(encoded), Secret::Decoded);
    (secret.bytes() != b":").then_some(Proof { kind: CredentialKind::Basic, secret, claims: None })
}

/// `user:password` of a Basic credential.
pub(super) fn decode_basic(encoded: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if encoded.len() > BASIC_LIMIT {
        return None;
    }
    let mut decoded = Zeroizing::new(vec![0; encoded.len() / 4 * 3 + 3]);
    let length = BASE64.decode_slice(encoded, &mut decoded).ok()?;
    decoded.truncate(length);
    Some(decoded)
}

/// The access key of a SigV4 scope `key/date/region/service/aws4_request`.
pub(super) fn access_key(scope: &[u8]) -> &[u8] {
    scope.split(|byte| *byte == b'/').next().filter(|key| !key.is_empty()).unwrap_or(scope)
}

/// The value of one `name=value` or `name="value"` of a list separated by commas or white space; never empty.
pub(super) fn parameter<'a>(list: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    list.split(|byte| matches!(byte, b',' | b' ' | b';'))
        .filter_map(|item| {
            let item = item.trim_ascii();
            let equals = item.iter().position(|byte| *byte == b'=')?;
            item[..equals].eq_ignore_ascii_case(name).then(|| item[equals + 1..].trim_ascii())
        })
        .map(|value| value.strip_prefix(b"\"").unwrap_or(value))
        .map(|value| value.strip_suffix(b"\"").unwrap_or(value))
        .find(|value| !value.is_empty())
}

/// A text's percent-encoded characters decoded into a buffer that is wiped; borrowed when there are none.
pub(super) fn percent_decoded(text: &[u8]) -> Secret<'_> {
    if !text.contains(&b'%') {
        return Secret::Borrowed(text);
    }
    let digit =
        |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (*byte, digit(text.get(at + 1)), digit(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high << 4 | low);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    Secret::Decoded(decoded)
}

/// A name as text that is safe to show; cut at 64 bytes.
pub(super) fn name_shown(name: &[u8]) -> Cow<'static, str> {
    let name = &name[..name.len().min(64)];
    if super::shape::is_token(name) {
        return Cow::Borrowed("{token}");
    }
    let shown = |byte: &u8| if byte.is_ascii_graphic() { char::from(byte.to_ascii_lowercase()) } else { '_' };
    Cow::Owned(name.iter().map(shown).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use CredentialKind as K;

    fn kind(value: &str) -> Option<CredentialKind> {
        read(value.as_bytes()).map(|proof| proof.kind)
    }

    #[test]
    fn every_scheme_is_known_in_any_case() {
        let token = jwt::tests::token(r#"{"alg":"RS256"}"#, "{}", "c2ln");
        for (value, expected) in [
            ("Bearer abc".to_owned(), K::BearerOpaque),
            ("bEaReR  abc".to_owned(), K::BearerOpaque),
            (format!("BEARER {token}"), K::BearerJwt),
            (format!("JWT {token}"), K::BearerJwt),
            (format!("Bearer Bearer {token}"), K::BearerJwt),
            (format!("Custom {token}"), K::BearerJwt),
            (token.clone(), K::BearerJwt),
            ("abcdef".to_owned(), K::BearerOpaque),
            ("token abc".to_owned(), K::BearerOpaque),
            ("basic dTpw".to_owned(), K::Basic),
            ("Basic !!!".to_owned(), K::Basic),
            ("Digest username=\"u\", response=\"r\"".to_owned(), K::Digest),
            ("Negotiate YIIabc".to_owned(), K::Negotiate),
            ("NTLM TlRMTVNTUAADAAAA".to_owned(), K::Negotiate),
            (format!("DPoP {token}"), K::Dpop),
            ("DPoP abc".to_owned(), K::Dpop),
            ("Signature keyId=\"k\",signature=\"s\"".to_owned(), K::HttpSignature),
            ("AWS4-HMAC-SHA256 Credential=AKIA/2026/x, Signature=0".to_owned(), K::AwsSigv4),
            ("ApiKey abc".to_owned(), K::ApiKey),
            ("Hawk id=\"x\"".to_owned(), K::Other),
            ("Unheard of".to_owned(), K::Other),
        ] {
            assert_eq!(kind(&value), Some(expected), "{value}");
        }
    }

    #[test]
    fn what_proves_nothing_is_no_credential() {
        for value in [
            "",
            "  ",
            "Bearer",
            "bearer ",
            "Basic",
            "Digest",
            "Bearer undefined",
            "Bearer null",
            "Bearer \"\"",
            "null",
            "Bearer ${TOKEN}",
            "Basic Og==",
            "Basic Og",
            "NTLM TlRMTVNTUAABAAAA",
            "Negotiate TlRMTVNTUAABAAAA",
        ] {
            assert_eq!(kind(value), None, "{value:?}");
        }
    }

    #[test]
    fn schemes_with_fresh_proofs_are_known_by_their_key() {
        let secret = |value: &str| {
            read(value.as_bytes()).map(|proof| String::from_utf8_lossy(proof.secret.bytes()).into_owned())
        };
        assert_eq!(secret("Digest response=\"1\", username=\"me\"").as_deref(), Some("me"));
        assert_eq!(secret("Signature algorithm=\"x\",keyId=\"k1\",signature=\"s\"").as_deref(), Some("k1"));
        assert_eq!(
            secret("AWS4-HMAC-SHA256 Credential=AKIA1/2026/eu/s3/aws4_request,Signature=1").as_deref(),
            Some("AKIA1")
        );
        assert_eq!(secret("Basic dTpw").as_deref(), Some("u:p"));
    }

    #[test]
    fn percent_encoding_is_undone_once() {
        for (text, expected) in [("a%41%2fb", "aA/b"), ("%", "%"), ("%4", "%4"), ("%zz", "%zz"), ("%2541", "%41")] {
            assert_eq!(percent_decoded(text.as_bytes()).bytes(), expected.as_bytes(), "{text}");
        }
    }
}
