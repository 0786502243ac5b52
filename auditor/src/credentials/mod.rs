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
mod certificate;
mod claims;
mod dpop;
pub mod extract;
pub mod fingerprint;
mod found;
pub mod jwt;
pub mod keys;
mod mask;
mod message;
mod names;
mod proof;
pub mod redact;
#[cfg(test)]
pub(crate) mod sample;
pub mod shape;
mod source;
pub mod verify;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::{
    claims::{Claims, Profile},
    extract::{Extractor, Limits, Settings},
    fingerprint::{FingerprintKey, KeyError},
    proof::{
        Checked, Component, DpopProof, ForwardedCertificate, Match, MessageSignature, Proof, Signature, SignatureReason,
        SignatureScheme, SignatureStatus,
    },
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
    /// Of a JWT: whether its signature holds. `None` where no keys are configured: it was not looked at.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// What the proof itself says: a signature over the message, a DPoP proof, a forwarded certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<Box<Proof>>,
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
