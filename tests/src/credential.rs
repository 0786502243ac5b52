//! Credentials with a random canary in them: whatever the auditor prints, the canary must not be in it.

use std::{fs::File, io::Read as _};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use ring::digest::{SHA256, digest};
use time::OffsetDateTime;

/// How a call proves who makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// It does not.
    None,
    /// A bearer token of no known shape.
    BearerOpaque,
    /// A signed JWT of five minutes.
    BearerJwt,
    /// Basic.
    Basic,
    /// Digest.
    Digest,
    /// A key in `X-API-Key`.
    ApiKey,
    /// A session cookie.
    SessionCookie,
    /// An RFC 9421 signature.
    HttpSignature,
    /// AWS Signature Version 4.
    AwsSigv4,
    /// A DPoP-bound token and its proof.
    Dpop,
    /// SPNEGO.
    Negotiate,
    /// A JWT in a header of its own.
    InternalJwt,
    /// A key in the query string.
    QueryKey,
}

/// What goes on the wire for a [`Proof`].
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// Query string, without `?`.
    pub query: Option<String>,
    /// The texts that must appear nowhere.
    pub secrets: Vec<String>,
}

impl Proof {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::None,
        Self::BearerOpaque,
        Self::Basic,
        Self::ApiKey,
        Self::BearerJwt,
        Self::SessionCookie,
        Self::HttpSignature,
        Self::AwsSigv4,
        Self::Digest,
        Self::InternalJwt,
        Self::Negotiate,
        Self::Dpop,
        Self::QueryKey,
    ];

    /// The kind as records carry it; `None` for no credential.
    #[must_use]
    pub fn kind(self) -> Option<&'static str> {
        Some(match self {
            Self::None => return None,
            Self::BearerOpaque => "bearer-opaque",
            Self::BearerJwt => "bearer-jwt",
            Self::Basic => "basic",
            Self::Digest => "digest",
            Self::ApiKey | Self::QueryKey => "api-key",
            Self::SessionCookie => "session-cookie",
            Self::HttpSignature => "http-signature",
            Self::AwsSigv4 => "aws-sigv4",
            Self::Dpop => "dpop",
            Self::Negotiate => "negotiate",
            Self::InternalJwt => "internal-jwt",
        })
    }

    /// The rules that speak against it wherever it is used.
    #[must_use]
    pub fn findings(self) -> &'static [&'static str] {
        match self {
            Self::Basic => &["basic-credential"],
            Self::ApiKey => &["static-api-key"],
            Self::QueryKey => &["credential-in-url", "static-api-key"],
            _ => &[],
        }
    }

    /// Whether the servers' `/guarded` lets it in: they look at headers only.
    #[must_use]
    pub fn opens_guarded(self) -> bool {
        !matches!(self, Self::None | Self::QueryKey)
    }

    /// What goes on the wire with a request for `path`, with `canary` as the secret part. `canary` is 40 hexadecimal digits.
    #[must_use]
    pub fn send(self, canary: &str, method: &str, path: &str) -> Sent {
        let mut secrets = vec![canary.to_owned(), BASE64_STANDARD.encode(canary)];
        let mut query = None;
        let header = |name: &str, value: String| vec![(name.to_owned(), value)];
        let authorization = |value: String| header("Authorization", value);
        let headers = match self {
            Self::None => return Sent::default(),
            Self::BearerOpaque => authorization(format!("Bearer {canary}")),
            Self::BearerJwt => authorization(format!("Bearer {}", jwt(canary))),
            Self::Basic => {
                let pair = BASE64_STANDARD.encode(format!("oracle:{canary}"));
                secrets.push(pair.clone());
                authorization(format!("Basic {pair}"))
            }
            Self::Digest => authorization(format!(
                "Digest username=\"oracle\", realm=\"inside\", nonce=\"n1\", uri=\"/\", qop=auth, nc=00000001, cnonce=\"c\", \
                 response=\"{canary}\""
            )),
            Self::ApiKey => header("X-API-Key", canary.to_owned()),
            Self::SessionCookie => header("Cookie", format!("theme=dark; sessionid={canary}")),
            Self::HttpSignature => vec![
                ("Content-Digest".into(), format!("sha-256=:{}:", BASE64_STANDARD.encode([0; 32]))),
                (
                    "Signature-Input".into(),
                    format!(
                        "sig1=(\"@method\" \"@target-uri\" \"content-digest\");created={};keyid=\"oracle\"",
                        now().unix_timestamp()
                    ),
                ),
                ("Signature".into(), format!("sig1=:{}:", BASE64_STANDARD.encode(canary))),
            ],
            Self::AwsSigv4 => sigv4(canary),
            Self::Dpop => {
                vec![("Authorization".into(), format!("DPoP {canary}")), ("DPoP".into(), dpop(canary, method, path))]
            }
            Self::Negotiate => authorization(format!("Negotiate {}", BASE64_STANDARD.encode(canary))),
            Self::InternalJwt => header("X-Internal-Auth", jwt(canary)),
            Self::QueryKey => {
                query = Some(format!("page=2&api_key={canary}"));
                Vec::new()
            }
        };
        secrets.push(BASE64_URL_SAFE_NO_PAD.encode(canary));
        Sent { headers, query, secrets }
    }
}

/// A JWT of five minutes whose signature is made of the canary.
fn jwt(canary: &str) -> String {
    let now = now().unix_timestamp();
    jwt_of(
        r#"{"alg":"RS256","typ":"JWT","kid":"oracle"}"#,
        &format!(
            r#"{{"iss":"https://issuer.internal","sub":"oracle","aud":["inventory"],"scope":"items:read","iat":{now},"exp":{}}}"#,
            now + 300
        ),
        canary,
    )
}

/// AWS Signature Version 4, made now.
fn sigv4(canary: &str) -> Vec<(String, String)> {
    let now = now();
    let day = format!("{:04}{:02}{:02}", now.year(), u8::from(now.month()), now.day());
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIAORACLE/{day}/eu-west-1/execute-api/aws4_request, SignedHeaders=host;x-amz-date, \
         Signature={canary}"
    );
    let date = format!("{day}T{:02}{:02}{:02}Z", now.hour(), now.minute(), now.second());
    vec![("Authorization".into(), authorization), ("X-Amz-Date".into(), date)]
}

/// A DPoP proof for the request and the token `canary` (RFC 9449 section 4.2) whose signature is made of the canary.
fn dpop(canary: &str, method: &str, path: &str) -> String {
    let token = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, canary.as_bytes()));
    jwt_of(
        r#"{"typ":"dpop+jwt","alg":"ES256","jwk":{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}}"#,
        &format!(
            r#"{{"htm":"{method}","htu":"http://inside{path}","iat":{},"jti":"{}","ath":"{token}"}}"#,
            now().unix_timestamp(),
            self::canary(),
        ),
        canary,
    )
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// A JWT of the given header and claims, signed with nothing that verifies.
#[must_use]
pub fn jwt_of(header: &str, claims: &str, signature: &str) -> String {
    let parts = [header, claims, signature].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
    parts.join(".")
}

/// Whether a secret is in text: as it is, or in Base64 (also for URLs) at any offset, alone or within more.
#[must_use]
pub fn leaks(text: &str, secret: &str) -> bool {
    let encoded = (0..3).flat_map(|offset| {
        let shifted = [&[0; 2][..offset], secret.as_bytes()].concat();
        // The digits that hold bits of the secret alone.
        let (first, last) = ((offset * 8).div_ceil(6), shifted.len() * 8 / 6);
        [BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD].map(|engine| engine.encode(&shifted)[first..last].to_owned())
    });
    text.contains(secret) || encoded.collect::<Vec<_>>().iter().any(|needle| text.contains(needle))
}

/// 40 random hexadecimal digits.
///
/// # Panics
/// When the kernel gives no random bytes.
#[must_use]
pub fn canary() -> String {
    let mut bytes = [0_u8; 20];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).expect("the kernel gives random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_as_it_is_and_in_base64_at_any_offset() {
        let secret = "0123456789abcdef";
        for before in ["", "a", "ab", "abc"] {
            let text = format!("{before}{secret} and more");
            let texts = [text.clone(), BASE64_STANDARD.encode(&text), BASE64_URL_SAFE_NO_PAD.encode(&text)];
            for text in texts {
                assert!(leaks(&text, secret), "{text}");
            }
        }
        assert!(!leaks(&BASE64_STANDARD.encode("0123456789abcxef"), secret));
    }
}
