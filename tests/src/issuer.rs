//! An issuer of tokens: its key is made for each run.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};

use crate::credential::canary;

/// The issuer's name, as `iss` has it.
pub const ISSUER: &str = "https://issuer.interior.test";
/// The id of its key.
const KEY_ID: &str = "interior-1";

/// An issuer of tokens.
#[derive(Debug)]
pub struct Issuer(KeyPair);

impl Issuer {
    /// An issuer with a new Ed25519 key.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new() -> Result<Self> {
        Ok(Self(KeyPair::generate_for(&PKCS_ED25519)?))
    }

    /// Its public key as a JWK set (RFC 7517, RFC 8037).
    #[must_use]
    pub fn key_set(&self) -> Value {
        let x = BASE64_URL_SAFE_NO_PAD.encode(self.0.der_bytes());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": KEY_ID, "alg": "EdDSA", "use": "sig", "x": x}]})
    }

    /// A token of these claims.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn token(&self, claims: &Value) -> Result<String> {
        let signed = signing_input(&json!({"alg": "EdDSA", "typ": "JWT", "kid": KEY_ID}), claims);
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.0.sign(signed.as_bytes())?);
        Ok(format!("{signed}.{signature}"))
    }
}

/// A token that nobody signed.
#[must_use]
pub fn unsigned(claims: &Value) -> String {
    signing_input(&json!({"alg": "none", "typ": "JWT"}), claims) + "."
}

/// The claims of a token for `audience` that nothing is against: of five minutes, for one caller, unlike any other token.
#[must_use]
pub fn claims(audience: &str) -> Value {
    let now = now();
    json!({
        "iss": ISSUER, "sub": "web", "aud": [audience], "scope": "items:read", "tenant": "north", "jti": canary(),
        "iat": now, "exp": now + 300,
    })
}

/// Seconds since the Unix epoch.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn signing_input(header: &Value, claims: &Value) -> String {
    [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string())).join(".")
}
