//! Credentials: a secret on the wire becomes its kind, where it was, a keyed fingerprint and the claims that are safe to
//! show. The value itself goes no further than this module.

use std::sync::Arc;

use serde::Serialize;

/// One proof of identity that came with a call. Holds no secret.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Credential {
    /// What it is.
    pub kind: CredentialKind,
    /// Where it was: `header:authorization`, `cookie:sid`, `query:api_key`, `userinfo`.
    pub carrier: Arc<str>,
    /// Keyed hash of the value, 16 hexadecimal digits: equal values have equal fingerprints within one installation.
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
}
