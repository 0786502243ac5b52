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
pub mod custom;
mod dpop;
pub mod extract;
pub mod fingerprint;
mod found;
pub mod jwt;
pub mod keys;
mod kind;
mod mask;
mod message;
pub(crate) mod names;
mod proof;
mod recall;
pub mod redact;
#[cfg(test)]
pub(crate) mod sample;
pub mod shape;
mod source;
pub mod verify;

pub use self::{
    claims::{Claims, Profile},
    custom::{CustomClaims, CustomValue, RecordedClaims},
    extract::{Extractor, Limits, Settings},
    fingerprint::{FingerprintKey, KeyError},
    kind::{Credential, CredentialKind},
    proof::{
        Checked, Component, DpopProof, ForwardedCertificate, Match, MessageSignature, Proof, Signature,
        SignatureReason, SignatureScheme, SignatureStatus,
    },
};
