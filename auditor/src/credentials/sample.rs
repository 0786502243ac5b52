//! Keys of token issuers for tests: made when they are needed, and tokens signed with them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        Ed25519KeyPair, KeyPair,
    },
};

use super::keys::Algorithm;

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Secret(&'static [u8]),
}

/// A key with its name.
pub(crate) struct TestKey {
    pub(crate) kid: &'static str,
    pub(crate) algorithm: Algorithm,
    pair: Pair,
}

impl TestKey {
    pub(crate) fn p256(kid: &'static str) -> Self {
        Self { kid, algorithm: Algorithm::ES256, pair: ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING) }
    }

    pub(crate) fn p384(kid: &'static str) -> Self {
        Self { kid, algorithm: Algorithm::ES384, pair: ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING) }
    }

    pub(crate) fn ed25519(kid: &'static str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key");
        Self { kid, algorithm: Algorithm::EdDSA, pair: Pair::Ed25519(pair) }
    }

    pub(crate) fn secret(kid: &'static str, secret: &'static [u8]) -> Self {
        Self { kid, algorithm: Algorithm::HS256, pair: Pair::Secret(secret) }
    }

    /// One of each kind that can be made here.
    pub(crate) fn all() -> Vec<Self> {
        vec![Self::p256("p256"), Self::p384("p384"), Self::ed25519("ed25519"), Self::secret("oct", b"a secret of both")]
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&SystemRandom::new(), message).expect("signed").as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Secret(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec(),
        }
    }

    pub(crate) fn jwk(&self) -> serde_json::Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.pair {
            Pair::Ecdsa(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let crv = if x.len() == 32 { "P-256" } else { "P-384" };
                serde_json::json!({"kty": "EC", "crv": crv, "kid": self.kid, "x": text(x), "y": text(y)})
            }
            Pair::Ed25519(pair) => {
                serde_json::json!({"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": text(pair.public_key().as_ref())})
            }
            Pair::Secret(secret) => serde_json::json!({"kty": "oct", "kid": self.kid, "k": text(secret)}),
        }
    }

    /// A token with these members of its header, besides `alg`, and this payload.
    pub(crate) fn token(&self, header: &serde_json::Value, payload: &str) -> String {
        let mut header = header.clone();
        header["alg"] = self.algorithm.as_str().into();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes())))
    }
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> Pair {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
    Pair::Ecdsa(EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).expect("a key"))
}

/// A key set.
pub(crate) fn jwks(keys: &[TestKey]) -> String {
    serde_json::json!({ "keys": keys.iter().map(TestKey::jwk).collect::<Vec<_>>() }).to_string()
}
