//! A credential as the rest of the auditor knows it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Claims, CustomClaims, Proof, Signature};

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
    pub fingerprint: Arc<str>,
    /// Claims of a JWT that are safe to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<Arc<Claims>>,
    /// Of a JWT: whether its signature holds. `None` where no keys are configured: it was not looked at.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// What the proof itself says: a signature over the message, a DPoP proof, a forwarded certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<Box<Proof>>,
    /// Further claims of a JWT that a policy or a recording asks for. Private: not shown, and gone once the call is judged and
    /// recorded.
    #[serde(skip)]
    pub custom: Option<Box<CustomClaims>>,
}

/// Kinds of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// A client certificate that a proxy says it saw: `X-Forwarded-Client-Cert`. A proof only from a proxy that is trusted.
    ForwardedClientCert,
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
            Self::ForwardedClientCert => "forwarded-client-cert",
            Self::HttpSignature => "http-signature",
            Self::InternalJwt => "internal-jwt",
            Self::Mtls => "mtls",
            Self::Negotiate => "negotiate",
            Self::Other => "other",
            Self::SessionCookie => "session-cookie",
        }
    }
}
