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
    extract::{Extractor, Limits, Settings},
    fingerprint::{FingerprintKey, KeyError},
};

/// One proof of identity that came with a call. Holds no secret.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Credential {
    /// What it is.
    pub kind: CredentialKind,
    /// Where it was: `header:authorization`, `cookie:sid`, `query:api_key`, `path:jsessionid`, `userinfo`.
    pub carrier: Arc<str>,
    /// Keyed hash of the value, 16 hexadecimal digits: equal values have equal fingerprints within one installation. Where
    /// every call carries a fresh proof (Digest, signatures), of the name of the key or user, if it is there.
    pub fingerprint: Box<str>,
    /// Claims of a JWT that are safe to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<Box<Claims>>,
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
    /// SPNEGO: Kerberos or NTLM (RFC 4559).
    Negotiate,
    /// Another `Authorization` scheme.
    Other,
    /// A session cookie.
    SessionCookie,
}

/// JWT claims that are safe to show. Strings are cut at 128 bytes, lists at 16 entries.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Claims {
    /// Header `alg`.
    pub alg: Option<Box<str>>,
    /// Issuer.
    pub iss: Option<Box<str>>,
    /// Audiences.
    pub aud: Vec<Box<str>>,
    /// Subject.
    pub sub: Option<Box<str>>,
    /// Scopes, from `scope` or `scp`.
    pub scope: Vec<Box<str>>,
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
