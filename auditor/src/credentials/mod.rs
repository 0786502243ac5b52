//! Credentials: a secret on the wire becomes its kind, where it was, a keyed fingerprint and the claims that are safe to
//! show. The value itself goes no further than this module.
//!
//! What counts as a credential, and what does not:
//! - A blank value, a scheme without a token (`Authorization: Bearer`) and the placeholders that broken clients send
//!   (`Bearer undefined`, `null`, `${TOKEN}`, ...) prove nothing: they are no credential.
//! - `Authorization` without a scheme is a bearer token: JWT or opaque by its shape.
//! - A first NTLM message (negotiate) only opens a handshake: no credential.
//! - CSRF tokens are no credential; neither are headers that only name a user, such as `x-forwarded-user`.

mod authorization;
pub mod custom;
pub mod extract;
pub mod fingerprint;
pub mod jwt;
mod mask;
mod names;
pub mod redact;
pub mod shape;

use std::sync::Arc;

use serde::Serialize;

pub use self::{
    custom::{CustomClaims, CustomValue},
    extract::{Extractor, Limits, Settings},
    fingerprint::{FingerprintKey, KeyError},
};

/// One proof of identity that came with a call. Holds no secret.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Credential {
    /// What it is.
    pub kind: CredentialKind,
    /// Where it was: `header:authorization`, `cookie:sid`, `query:api_key`, `path:jsessionid`, `userinfo`,
    /// `tls:client-certificate`.
    pub carrier: Arc<str>,
    /// Keyed hash of the value, 16 hexadecimal digits: equal values have equal fingerprints within one installation. Where
    /// every call carries a fresh proof (Digest, signatures), of the name of the key or user, if it is there. Left out of records where there is nothing to hash: a client certificate
    /// that TLS 1.3 encrypts.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub fingerprint: Box<str>,
    /// Claims of a JWT that are safe to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<Box<Claims>>,
    /// Further claims of a JWT that a policy asks for. Private: not shown, and gone once the call is judged.
    #[serde(skip)]
    pub custom: Option<Box<CustomClaims>>,
}

/// Kinds of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialKind {
    /// A static key in a header or query parameter.
    ApiKey,
    /// AWS Signature Version 4.
    AwsSigv4,
    /// HTTP Basic (RFC 7617).
    Basic,
    /// A bearer token that is a JWT (RFC 6750, RFC 7519).
    BearerJwt,
    /// A bearer token of no known shape.
    BearerOpaque,
    /// HTTP Digest (RFC 7616).
    Digest,
    /// DPoP-bound token or proof (RFC 9449).
    Dpop,
    /// HTTP Message Signature (RFC 9421), draft-cavage, or a common HMAC header.
    HttpSignature,
    /// A JWT in a header other than `Authorization`.
    InternalJwt,
    /// A client certificate that TLS accepted.
    Mtls,
    /// SPNEGO: Kerberos or NTLM (RFC 4559).
    Negotiate,
    /// Another `Authorization` scheme.
    Other,
    /// A session cookie.
    SessionCookie,
}

impl CredentialKind {
    /// The word that records and metric labels carry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "api-key",
            Self::AwsSigv4 => "aws-sigv4",
            Self::Basic => "basic",
            Self::BearerJwt => "bearer-jwt",
            Self::BearerOpaque => "bearer-opaque",
            Self::Digest => "digest",
            Self::Dpop => "dpop",
            Self::HttpSignature => "http-signature",
            Self::InternalJwt => "internal-jwt",
            Self::Mtls => "mtls",
            Self::Negotiate => "negotiate",
            Self::Other => "other",
            Self::SessionCookie => "session-cookie",
        }
    }
}

/// Kinds of token that say by themselves who issued them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// A Kubernetes service account's: the subject is `system:serviceaccount:NAMESPACE:NAME`.
    KubernetesServiceAccount,
    /// A SPIFFE JWT-SVID: the subject is a SPIFFE ID.
    SpiffeJwtSvid,
}

/// JWT claims that are safe to show. Strings are cut at 128 bytes, lists at 16 entries.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Claims {
    /// Header `alg`.
    pub alg: Option<Box<str>>,
    /// Header `enc`: the token is encrypted (RFC 7516 section 4.1.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enc: Option<Box<str>>,
    /// Header `kid`: which key signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<Box<str>>,
    /// Issuer.
    pub iss: Option<Box<str>>,
    /// Audiences.
    pub aud: Vec<Box<str>>,
    /// Subject.
    pub sub: Option<Box<str>>,
    /// Scopes, from `scope` or `scp`.
    pub scope: Vec<Box<str>>,
    /// Roles and permissions, from `roles` or `permissions`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Box<str>>,
    /// The client it was issued to: `azp` (OpenID Connect Core section 2) or `client_id` (RFC 8693 section 4.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Box<str>>,
    /// Who acts on the subject's behalf: `sub` of `act` (RFC 8693 section 4.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<str>>,
    /// How it is bound to a key, such as `jkt` or `x5t#S256`: the first member of `cnf` (RFC 7800 section 3.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Box<str>>,
    /// Whose kind of token it is, where it can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// `exp` minus `iat`, seconds; `None` when either is absent.
    pub lifetime_seconds: Option<i64>,
    /// Expiry, seconds since the Unix epoch (RFC 7519 section 4.1.4).
    pub exp: Option<i64>,
    /// Not valid before, seconds since the Unix epoch.
    pub nbf: Option<i64>,
    /// Issued at, seconds since the Unix epoch.
    pub iat: Option<i64>,
    /// The payload was read. When it was not (encrypted, too long, no JSON), absent claims are unknown, not missing.
    #[serde(skip)]
    pub readable: bool,
}
