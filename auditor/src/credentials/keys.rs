//! Keys of token issuers: JSON Web Key Sets (RFC 7517), and checking a signature with one of them. A key that cannot be used is
//! left out: only a key that works may call a signature bad.

use std::{borrow::Cow, fmt, str::FromStr};

use base64::Engine;
use ring::{
    agreement::{self, EphemeralPrivateKey},
    digest, hmac,
    rand::SystemRandom,
    signature::{self, RsaPublicKeyComponents, UnparsedPublicKey},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::jwt::BASE64URL;

/// Most keys of a set; those after are left out.
const KEYS: usize = 64;
/// Longest identifier of a key, bytes. Identifiers of tokens are cut where they are longer.
pub(super) const KEY_ID_BYTES: usize = 120;
/// Sizes of RSA keys that are used: shorter ones must not be (RFC 7518 section 3.3).
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Algorithms of signatures that are known here (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names are those of the standards")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
    HS256,
    HS384,
    HS512,
}

impl Algorithm {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 12] = [
        ("RS256", Self::RS256),
        ("RS384", Self::RS384),
        ("RS512", Self::RS512),
        ("PS256", Self::PS256),
        ("PS384", Self::PS384),
        ("PS512", Self::PS512),
        ("ES256", Self::ES256),
        ("ES384", Self::ES384),
        ("EdDSA", Self::EdDSA),
        ("HS256", Self::HS256),
        ("HS384", Self::HS384),
        ("HS512", Self::HS512),
    ];

    /// The name that tokens carry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    /// A secret that both sides know, instead of a key pair.
    #[must_use]
    pub fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }
}

impl FromStr for Algorithm {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        // RFC 9864 section 2.2: `Ed25519` says more exactly what `EdDSA` means here.
        let name = if name == "Ed25519" { "EdDSA" } else { name };
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, algorithm)| algorithm).ok_or(())
    }
}

/// The keys of an issuer. Public ones, unless they came from a file and are secrets; `Debug` shows none.
pub struct KeySet {
    keys: Vec<Key>,
}

/// One key.
pub(super) struct Key {
    kid: Option<Box<str>>,
    algorithm: Option<Algorithm>,
    material: Material,
}

enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
    Secret(Zeroizing<Vec<u8>>),
}

/// Where a set came from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A file of the node: secrets in it are used.
    File,
    /// Another host: a secret that is published is none.
    Url,
}

#[derive(Deserialize)]
struct RawSet<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawKey<'a> {
    #[serde(borrow)]
    kty: Cow<'a, str>,
    #[serde(borrow, rename = "use")]
    usage: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key_ops: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow)]
    kid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    alg: Option<Cow<'a, str>>,
    #[serde(borrow)]
    crv: Option<Cow<'a, str>>,
    #[serde(borrow)]
    n: Option<Cow<'a, str>>,
    #[serde(borrow)]
    e: Option<Cow<'a, str>>,
    #[serde(borrow)]
    x: Option<Cow<'a, str>>,
    #[serde(borrow)]
    y: Option<Cow<'a, str>>,
    #[serde(borrow)]
    k: Option<Cow<'a, str>>,
}

impl KeySet {
    /// Reads a set. Keys that are not for signatures, of another kind, or too short are left out.
    ///
    /// # Errors
    /// What is wrong with it, and what to do; nothing of the text.
    pub(super) fn read(text: &[u8], origin: Origin) -> Result<Self, &'static str> {
        const NO_SET: &str = "is no JSON Web Key Set; it has to be an object with a list `keys` (RFC 7517 section 5)";
        let raw: RawSet<'_> = serde_json::from_slice(text).map_err(|_| NO_SET)?;
        let keys = raw.keys.into_iter().filter_map(|raw| serde_json::from_str::<RawKey<'_>>(raw.get()).ok());
        let keys: Vec<_> = keys.filter_map(|raw| raw.key(origin)).take(KEYS).collect();
        if keys.is_empty() {
            return Err(
                "holds no key that signatures can be checked with; RSA from 2048 bits, P-256, P-384, Ed25519, and \
                        secrets in files alone are used",
            );
        }
        Ok(Self { keys })
    }

    /// How many keys are used.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Never: a set without a key that can be used cannot be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether any key can make signatures of this algorithm.
    pub(super) fn signs(&self, algorithm: Algorithm) -> bool {
        self.keys.iter().any(|key| key.fits(algorithm))
    }

    /// The keys of this name.
    pub(super) fn named(&self, kid: &str) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| key.kid.as_deref() == Some(kid))
    }

    /// The keys without a name, or all of them.
    pub(super) fn unnamed(&self, all: bool) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| all || key.kid.is_none())
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({} keys)", self.keys.len())
    }
}

impl RawKey<'_> {
    fn key(self, origin: Origin) -> Option<Key> {
        let for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig");
        let verifies = self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !(for_signatures && verifies) || self.kid.as_ref().is_some_and(|kid| kid.len() > KEY_ID_BYTES) {
            return None;
        }
        let algorithm = match self.alg.as_deref() {
            None => None,
            Some(name) => Some(name.parse().ok()?),
        };
        let material = match (&*self.kty, self.crv.as_deref()) {
            ("RSA", _) => rsa(decoded(self.n.as_deref()?)?, decoded(self.e.as_deref()?)?)?,
            ("EC", Some("P-256")) => Material::P256(point(&self, 32, &agreement::ECDH_P256)?),
            ("EC", Some("P-384")) => Material::P384(point(&self, 48, &agreement::ECDH_P384)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(decoded(self.x.as_deref()?).filter(|key| key.len() == 32)?),
            ("oct", _) if origin == Origin::File => {
                Material::Secret(decoded(self.k.as_deref()?).filter(|secret| !secret.is_empty()).map(Zeroizing::new)?)
            }
            _ => return None,
        };
        Some(Key { kid: self.kid.map(|kid| kid.into()), algorithm, material })
    }
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    BASE64URL.decode(text.trim_end_matches('=')).ok()
}

fn rsa(n: Vec<u8>, e: Vec<u8>) -> Option<Material> {
    let strip = |mut number: Vec<u8>| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        number.drain(..zeros);
        number
    };
    let (n, e) = (strip(n), strip(e));
    let long_enough = RSA_BYTES.contains(&n.len()) && (n.len() > 256 || n.first()? & 0x80 != 0);
    // ring takes odd exponents of 3 to 33 bits.
    let usable = e.len() <= 4 && e.last()? % 2 == 1 && e != [1] && n.last()? % 2 == 1;
    (long_enough && usable).then_some(Material::Rsa { n, e })
}

/// A point of a curve, uncompressed (SEC 1 section 2.3.3). That it is on the curve is found out by agreeing on a key with it.
fn point(raw: &RawKey<'_>, length: usize, curve: &'static agreement::Algorithm) -> Option<Vec<u8>> {
    let (x, y) = (decoded(raw.x.as_deref()?)?, decoded(raw.y.as_deref()?)?);
    if x.len() != length || y.len() != length {
        return None;
    }
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    let own = EphemeralPrivateKey::generate(curve, &SystemRandom::new()).ok()?;
    agreement::agree_ephemeral(own, &agreement::UnparsedPublicKey::new(curve, &point), |_| ()).ok()?;
    Some(point)
}

impl Key {
    /// Whether signatures of this algorithm are made with keys of this kind.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
        let kind = match self.material {
            Material::Rsa { .. } => matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512),
            Material::P256(_) => algorithm == ES256,
            Material::P384(_) => algorithm == ES384,
            Material::Ed25519(_) => algorithm == EdDSA,
            Material::Secret(_) => matches!(algorithm, HS256 | HS384 | HS512),
        };
        kind && self.algorithm.is_none_or(|own| own == algorithm)
    }

    /// Whether this key made a signature. Only asked of keys that fit the algorithm.
    pub(super) fn made(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let checked = match &self.material {
            Material::Rsa { n, e } => {
                let parameters = match algorithm {
                    Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                    Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                    Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
                    Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
                    Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => &signature::RSA_PKCS1_2048_8192_SHA256,
                };
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            Material::P256(key) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key).verify(message, signature)
            }
            Material::P384(key) => {
                UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, key).verify(message, signature)
            }
            Material::Ed25519(key) => UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature),
            Material::Secret(secret) => {
                let algorithm = match algorithm {
                    Algorithm::HS384 => hmac::HMAC_SHA384,
                    Algorithm::HS512 => hmac::HMAC_SHA512,
                    _ => hmac::HMAC_SHA256,
                };
                hmac::verify(&hmac::Key::new(algorithm, secret), message, signature)
            }
        };
        checked.is_ok()
    }
}

/// A hash of a set's text: whether it changed.
pub(super) fn version(text: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, text);
    let mut version = [0; 32];
    version.copy_from_slice(digest.as_ref());
    version
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
