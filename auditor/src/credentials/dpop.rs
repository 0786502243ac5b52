//! DPoP proofs (RFC 9449): whether a proof fits the request and the access token that it came with. Its signature is not
//! checked: the key is in the proof itself, and what matters is whether the token is bound to that key.

use std::borrow::Cow;

use base64::Engine;
use ring::digest::{SHA256, digest};
use serde::Deserialize;

use super::{
    authorization::percent_decoded,
    jwt::{self, BASE64URL},
    proof::{DpopProof, Match},
};

/// Longest part of a proof or token that is decoded, characters.
const PART_BYTES: usize = 16 * 1024;

/// The header of a proof, as far as it matters.
#[derive(Default, Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    jwk: Option<Jwk<'a>>,
}

/// The members of a public key that make its thumbprint (RFC 7638 section 3.2).
#[derive(Deserialize)]
struct Jwk<'a> {
    #[serde(borrow)]
    kty: Cow<'a, str>,
    #[serde(borrow)]
    crv: Option<Cow<'a, str>>,
    #[serde(borrow)]
    x: Option<Cow<'a, str>>,
    #[serde(borrow)]
    y: Option<Cow<'a, str>>,
    #[serde(borrow)]
    n: Option<Cow<'a, str>>,
    #[serde(borrow)]
    e: Option<Cow<'a, str>>,
}

/// The claims of a proof (RFC 9449 section 4.2).
#[derive(Default, Deserialize)]
struct Claims<'a> {
    #[serde(borrow)]
    htm: Option<Cow<'a, str>>,
    #[serde(borrow)]
    htu: Option<Cow<'a, str>>,
    #[serde(borrow)]
    ath: Option<Cow<'a, str>>,
    iat: Option<f64>,
}

/// What binds an access token to a key (RFC 9449 section 6.1).
#[derive(Deserialize)]
struct Bound<'a> {
    #[serde(borrow)]
    cnf: Option<Confirmation<'a>>,
}

#[derive(Deserialize)]
struct Confirmation<'a> {
    #[serde(borrow)]
    jkt: Option<Cow<'a, str>>,
}

/// How a proof fits a request to `path` with `method`, and `token`, if there is one. What is no proof has no claims.
pub(super) fn read(proof: &[u8], method: &str, path: &str, token: Option<&[u8]>) -> DpopProof {
    let mut parts = proof.trim_ascii().split(|byte| *byte == b'.');
    let mut part = || parts.next().and_then(|part| jwt::decode(part, PART_BYTES));
    let (header, payload) = (part(), part());
    let header: Header<'_> = header.as_deref().and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default();
    let claims: Claims<'_> = payload.as_deref().and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default();
    let token_hash = token.map(|token| BASE64URL.encode(digest(&SHA256, token)));
    #[expect(clippy::cast_possible_truncation, reason = "NumericDate may have a fraction; the cast saturates")]
    let iat = claims.iat.map(|iat| iat as i64);
    DpopProof {
        iat,
        method: matches(claims.htm.as_deref(), |htm| htm == method),
        target: matches(claims.htu.as_deref(), |htu| same_path(htu, path)),
        token: token_hash.map_or(Match::Unknown, |hash| matches(claims.ath.as_deref(), |ath| ath == hash)),
        key: token.map_or(Match::Unknown, |token| key(header.jwk.as_ref(), token)),
    }
}

fn matches(claim: Option<&str>, fits: impl FnOnce(&str) -> bool) -> Match {
    match claim {
        None => Match::Missing,
        Some(claim) if fits(claim) => Match::Matches,
        Some(_) => Match::Differs,
    }
}

/// The key of a proof against the one a token is bound to. An opaque token does not say which.
fn key(jwk: Option<&Jwk<'_>>, token: &[u8]) -> Match {
    let mut parts = token.split(|byte| *byte == b'.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Match::Unknown;
    };
    let payload = jwt::decode(payload, PART_BYTES);
    let Some(bound) = payload.as_deref().and_then(|json| serde_json::from_slice::<Bound<'_>>(json).ok()) else {
        return Match::Unknown;
    };
    let bound = bound.cnf.as_ref().and_then(|confirmation| confirmation.jkt.as_deref());
    let Some(thumbprint) = jwk.and_then(thumbprint) else { return Match::Unknown };
    matches(bound, |bound| bound == thumbprint)
}

/// The SHA-256 thumbprint of a key (RFC 7638).
fn thumbprint(jwk: &Jwk<'_>) -> Option<String> {
    let safe = |text: &Option<Cow<'_, str>>| {
        let text = text.as_deref()?;
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)).then(|| text.to_owned())
    };
    let json = match &*jwk.kty {
        "EC" => {
            let (crv, x, y) = (safe(&jwk.crv)?, safe(&jwk.x)?, safe(&jwk.y)?);
            format!(r#"{{"crv":"{crv}","kty":"EC","x":"{x}","y":"{y}"}}"#)
        }
        "OKP" => format!(r#"{{"crv":"{}","kty":"OKP","x":"{}"}}"#, safe(&jwk.crv)?, safe(&jwk.x)?),
        "RSA" => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, safe(&jwk.e)?, safe(&jwk.n)?),
        _ => return None,
    };
    Some(BASE64URL.encode(digest(&SHA256, json.as_bytes())))
}

/// Whether `htu` speaks of `path`. Its authority is not compared: proxies rewrite that. Neither is a prefix that a gateway
/// adds or takes off: one path may be the end of the other.
fn same_path(htu: &str, path: &str) -> bool {
    let after_scheme = htu.split_once("://").map_or(htu, |(_, rest)| rest);
    let target = after_scheme.find('/').map_or("/", |at| &after_scheme[at..]);
    let target = target.split(['?', '#']).next().unwrap_or_default();
    let (target, path) = (percent_decoded(target.as_bytes()), percent_decoded(path.as_bytes()));
    let (target, path) = (normal(target.bytes()), normal(path.bytes()));
    let end_of = |long: &[u8], short: &[u8]| short.len() > 1 && long.ends_with(short);
    target == path || end_of(target, path) || end_of(path, target)
}

fn normal(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"/" } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Match::{Differs, Matches, Missing, Unknown};

    /// The proof and token of RFC 9449 section 7.1.
    const PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
    const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
    /// The thumbprint of its key, section 6.1.
    const THUMBPRINT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

    fn bound(jkt: &str) -> String {
        jwt::tests::token(r#"{"alg":"ES256"}"#, &format!(r#"{{"cnf":{{"jkt":"{jkt}"}}}}"#), "c2ln")
    }

    #[test]
    fn the_proof_of_the_standard_fits() {
        let proof = read(PROOF.as_bytes(), "GET", "/protectedresource", Some(TOKEN.as_bytes()));
        let expected =
            DpopProof { iat: Some(1_562_262_618), method: Matches, target: Matches, token: Matches, key: Unknown };
        assert_eq!(proof, expected);
        let key = |token: &str| read(PROOF.as_bytes(), "GET", "/", Some(token.as_bytes())).key;
        assert_eq!(key(&bound(THUMBPRINT)), Matches);
        assert_eq!(key(&bound("other")), Differs);
        assert_eq!(key(&jwt::tests::token(r#"{"alg":"ES256"}"#, "{}", "c2ln")), Missing);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let proof = read(PROOF.as_bytes(), "POST", "/other", Some(b"other"));
        assert_eq!((proof.method, proof.target, proof.token), (Differs, Differs, Differs));
        let proof = read(PROOF.as_bytes(), "GET", "/protectedresource", None);
        assert_eq!((proof.token, proof.key), (Unknown, Unknown));
        let none = DpopProof { iat: None, method: Missing, target: Missing, token: Missing, key: Unknown };
        for proof in ["", "x", "e30.e30.", "eyJhIjox.x.y"] {
            assert_eq!(read(proof.as_bytes(), "GET", "/", Some(b"t")), none, "{proof}");
        }
    }

    #[test]
    fn paths_are_compared_without_authority_and_prefix() {
        for (htu, path) in [
            ("https://a/items/42", "/items/42"),
            ("https://a", "/"),
            ("https://a/", ""),
            ("https://a/api/items", "/items"),
            ("https://a/items", "/v1/items"),
            ("https://a/%69tems?x=1#y", "/items"),
        ] {
            assert!(same_path(htu, path), "{htu} {path}");
        }
        for (htu, path) in
            [("https://a/items", "/"), ("https://a/", "/items"), ("https://a/items", "/orders"), ("", "/x")]
        {
            assert!(!same_path(htu, path), "{htu} {path}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_bytes_are_taken(proof: Vec<u8>, header: String, payload: String, path: String) {
            let _ = read(&proof, "GET", &path, Some(&proof));
            let token = jwt::tests::token(&header, &payload, "");
            let _ = read(token.as_bytes(), "GET", &path, Some(token.as_bytes()));
        }
    }
}
