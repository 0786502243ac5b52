use super::*;
use crate::credentials::sample::{TestKey, jwks};

#[test]
fn keys_of_every_kind_check_their_own_signatures_and_no_others() {
    let keys = TestKey::all();
    let set = KeySet::read(jwks(&keys).as_bytes(), Origin::File).expect("a set");
    assert_eq!(set.len(), keys.len());
    for key in &keys {
        let signature = key.sign(b"message");
        let own = |kid: &str| set.named(kid).next().expect("the key");
        assert!(own(key.kid).fits(key.algorithm) && own(key.kid).made(key.algorithm, b"message", &signature), "{}", key.kid);
        assert!(!own(key.kid).made(key.algorithm, b"massage", &signature), "{}", key.kid);
        assert!(!own(key.kid).made(key.algorithm, b"message", &[]), "{}", key.kid);
        for other in keys.iter().filter(|other| other.kid != key.kid) {
            let other = own(other.kid);
            assert!(!other.fits(key.algorithm) || !other.made(key.algorithm, b"message", &signature), "{}", key.kid);
        }
    }
}

#[test]
fn what_cannot_or_must_not_be_used_is_left_out() {
    let key = TestKey::p256("a");
    let jwk = key.jwk();
    let with = |member: &str, value: serde_json::Value| {
        let mut jwk = jwk.clone();
        jwk[member] = value;
        serde_json::json!({ "keys": [jwk] }).to_string()
    };
    let read = |text: &str, origin| KeySet::read(text.as_bytes(), origin).map(|set| set.len());
    assert_eq!(read(&with("use", "sig".into()), Origin::Url), Ok(1));
    assert_eq!(read(&with("key_ops", serde_json::json!(["verify"])), Origin::Url), Ok(1));
    for text in [
        with("use", "enc".into()),
        with("key_ops", serde_json::json!(["encrypt"])),
        with("alg", "ECDH-ES".into()),
        with("crv", "P-521".into()),
        with("x", "AAAA".into()),
        // Not on the curve.
        with("x", BASE64URL.encode([1; 32]).into()),
        with("kid", "k".repeat(200).into()),
        with("kty", 7.into()),
    ] {
        assert!(read(&text, Origin::Url).is_err(), "{text}");
    }
    let short = serde_json::json!({"keys": [{"kty": "RSA", "n": BASE64URL.encode([0xff; 128]), "e": "AQAB"}]}).to_string();
    assert!(read(&short, Origin::File).is_err());
    let secret = r#"{"keys":[{"kty":"oct","k":"c2VjcmV0LXNlY3JldA"}]}"#;
    assert_eq!(read(secret, Origin::File), Ok(1));
    assert!(read(secret, Origin::Url).is_err(), "a secret that is published is none");
    let many = serde_json::json!({ "keys": vec![jwk.clone(); 1000] }).to_string();
    assert_eq!(read(&many, Origin::Url), Ok(KEYS));
    let set = KeySet::read(secret.as_bytes(), Origin::File).expect("a set");
    assert_eq!(format!("{set:?}"), "KeySet(1 keys)");
}

#[test]
fn algorithms_have_the_names_of_tokens() {
    for (name, algorithm) in Algorithm::ALL {
        assert_eq!((name.parse(), algorithm.as_str()), (Ok(algorithm), name));
    }
    assert_eq!("Ed25519".parse(), Ok(Algorithm::EdDSA));
    for name in ["none", "rs256", "ES512", "ES256K", ""] {
        assert_eq!(name.parse::<Algorithm>(), Err(()), "{name}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, cases: 64, ..Default::default() })]

    #[test]
    fn any_text_is_taken(text: Vec<u8>, n: Vec<u8>, e: Vec<u8>) {
        let _ = KeySet::read(&text, Origin::Url);
        let rsa = serde_json::json!({"keys": [{"kty": "RSA", "n": BASE64URL.encode(&n), "e": BASE64URL.encode(&e)}]});
        let _ = KeySet::read(rsa.to_string().as_bytes(), Origin::Url);
    }
}
