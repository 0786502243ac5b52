//! What was found out about a proof of identity while its bytes were there: facts that hold no secret. They go into records
//! and recordings, so that a replay says what was said live: in a recording the bytes are masked.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Credential, CredentialKind, RecordedClaims};

/// Whether the signature of a JWT holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Whether it does.
    #[serde(rename = "signature")]
    pub status: SignatureStatus,
    /// Why, unless it does.
    #[serde(rename = "signature_reason", default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<SignatureReason>,
}

/// Whether a signature holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureStatus {
    /// A key of the issuer made it.
    Verified,
    /// The key it names did not make it, or it is of a kind that must not be taken.
    Bad,
    /// It could not be told.
    NotVerified,
}

impl SignatureStatus {
    /// The word that records carry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Bad => "bad",
            Self::NotVerified => "not-verified",
        }
    }
}

/// Why a signature is not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureReason {
    /// Bad: its algorithm is not one the issuer signs with.
    AlgorithmNotAllowed,
    /// Bad: the key that it names did not make it.
    DoesNotFit,
    /// Bad: there is none, `alg` is `none`.
    Unsigned,
    /// The token is encrypted: what is signed is inside.
    Encrypted,
    /// The issuer's keys could not be had.
    FetchFailed,
    /// The issuer's keys have not been had yet.
    KeysPending,
    /// The token wraps another one: its own signer is not named.
    Nested,
    /// No keys are configured for its issuer, or it names none.
    NoKeys,
    /// None of the issuer's keys is the one it was signed with; they may have been changed.
    UnknownKey,
    /// Its algorithm is not known here.
    UnsupportedAlgorithm,
}

impl Signature {
    /// It holds.
    pub const VERIFIED: Self = Self { status: SignatureStatus::Verified, reason: None };

    /// It does not hold.
    #[must_use]
    pub fn bad(reason: SignatureReason) -> Self {
        Self { status: SignatureStatus::Bad, reason: Some(reason) }
    }

    /// It is not known whether it holds.
    #[must_use]
    pub fn not_verified(reason: SignatureReason) -> Self {
        Self { status: SignatureStatus::NotVerified, reason: Some(reason) }
    }
}

/// What a proof says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// A signature over the message.
    MessageSignature(MessageSignature),
    /// A proof of possession of a key.
    Dpop(DpopProof),
    /// A certificate that a proxy forwarded.
    ClientCertificate(ForwardedCertificate),
}

/// What a signature over a message covers, and when it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageSignature {
    /// Whose rules it follows.
    pub scheme: SignatureScheme,
    /// Parts of the request it covers, as far as they matter here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub covers: Vec<Component>,
    /// When it was made, seconds since the Unix epoch.
    pub created: Option<i64>,
    /// When it ends, seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
    /// Its algorithm, where it is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alg: Option<Box<str>>,
    /// It has a nonce (RFC 9421 section 2.3).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nonce: bool,
    /// What it is for: `tag` (RFC 9421 section 2.3), or date, region and service of a SigV4 scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Box<str>>,
}

/// Rules that a signature over a message follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureScheme {
    /// HTTP Message Signatures, RFC 9421.
    Rfc9421,
    /// draft-cavage-http-signatures.
    Cavage,
    /// AWS Signature Version 4.
    Sigv4,
    /// An HMAC in a header of its own. What it covers is agreed elsewhere.
    Hmac,
}

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// The method.
    Method,
    /// Path and query.
    Target,
    /// The host that is called.
    Authority,
    /// The body, by its digest.
    Digest,
}

/// How a DPoP proof fits the request that it came with (RFC 9449 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DpopProof {
    /// `iat`: when it was made, seconds since the Unix epoch.
    pub iat: Option<i64>,
    /// `htm` against the method.
    pub method: Match,
    /// The path of `htu` against the path.
    pub target: Match,
    /// `ath` against the access token.
    pub token: Match,
    /// The key of the proof against the one that the access token is bound to.
    pub key: Match,
}

/// How a claim fits what it speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Match {
    /// It does.
    Matches,
    /// It does not.
    Differs,
    /// There is no such claim.
    Missing,
    /// It cannot be told: the token is opaque, or there is none.
    Unknown,
}

/// The client certificate that the proxy in front says it saw: the last element of `X-Forwarded-Client-Cert`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardedCertificate {
    /// Of whom the proxy's own certificate speaks: `By`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Box<str>>,
    /// Its subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Box<str>>,
    /// Its URIs, such as a SPIFFE ID.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uri: Vec<Box<str>>,
    /// Its DNS names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Box<str>>,
}

/// What was found out about one credential while its bytes were there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Kind of the credential.
    pub kind: CredentialKind,
    /// Where it was.
    pub carrier: Arc<str>,
    /// Whether its signature holds.
    #[serde(flatten)]
    pub signature: Option<Signature>,
    /// What it says of itself.
    pub proof: Option<Box<Proof>>,
    /// Of a token: the claims that are to be recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<RecordedClaims>,
}

impl Checked {
    /// What was found out about the credentials of a call, with the claims `names` of its tokens. Credentials of which nothing was
    /// are left out, unless another one of the same kind in the same place would then be taken for them.
    #[must_use]
    pub fn of(credentials: &[Credential], names: &[Arc<str>]) -> Vec<Self> {
        let all: Vec<_> = credentials.iter().map(|credential| Self::of_one(credential, names)).collect();
        let said = |one: &&Self| {
            let same = |other: &&Self| other.kind == one.kind && other.carrier == one.carrier;
            all.iter().filter(same).any(|one| one.signature.is_some() || one.proof.is_some() || one.claims.is_some())
        };
        all.iter().filter(said).cloned().collect()
    }

    fn of_one(credential: &Credential, names: &[Arc<str>]) -> Self {
        let Credential { kind, carrier, signature, proof, custom, .. } = credential;
        let custom = custom.as_deref().filter(|_| !names.is_empty());
        let claims = custom.map(|custom| custom.recorded(names));
        Self { kind: *kind, carrier: carrier.clone(), signature: *signature, proof: proof.clone(), claims }
    }
}
