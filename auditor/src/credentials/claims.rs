//! What is shown of a JSON Web Token.

use serde::Serialize;

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
    /// Header `cty`: `JWT` where a token is wrapped in this one (RFC 7519 section 5.2). The claims are then the inner one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cty: Option<Box<str>>,
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
