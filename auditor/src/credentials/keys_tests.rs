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
        assert!(
            own(key.kid).fits(key.algorithm) && own(key.kid).made(key.algorithm, b"message", &signature),
            "{}",
            key.kid
        );
        assert!(!own(key.kid).made(key.algorithm, b"massage", &signature), "{}", key.kid);
        assert!(!own(key.kid).made(key.algorithm, b"message", &[]), "{}", key.kid);
        for other in keys.iter().filter(|other| other.kid != key.kid) {
            let other = own(other.kid);
            assert!(!other.fits(key.algorithm) || !other.made(key.algorithm, b"message", &signature), "{}", key.kid);
        }
    }
}

#[test]
fn the_example_of_the_standard_is_verified() {
    // RFC 7515 appendix A.2.
    let jwk = r#"{"keys":[{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}]}"#;
    let message = b"eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let signature = BASE64URL.decode(signature).expect("base64url");
    let set = KeySet::read(jwk.as_bytes(), Origin::Url).expect("a set");
    let key = set.unnamed(false).next().expect("the key");
    for algorithm in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        let algorithm = algorithm.parse().expect("known");
        assert!(key.fits(algorithm));
        assert_eq!(key.made(algorithm, message, &signature), algorithm == Algorithm::RS256, "{algorithm:?}");
    }
    assert!(!key.fits(Algorithm::ES256) && !key.fits(Algorithm::HS256));
}

/// Signatures of every algorithm with key pairs, made by OpenSSL: `signatures.py` says how.
#[test]
fn signatures_of_another_implementation_are_verified_and_of_no_other_algorithm() {
    let cases: Vec<serde_json::Value> = serde_json::from_str(include_str!("signatures.json")).expect("JSON");
    let mut seen = Vec::new();
    for case in &cases {
        let text = |member: &str| case[member].as_str().expect("text");
        let signature = BASE64URL.decode(text("signature")).expect("base64url");
        let key_set = serde_json::json!({"keys": [case["key"]]}).to_string();
        let set = KeySet::read(key_set.as_bytes(), Origin::Url).expect("a set");
        let key = set.unnamed(false).next().expect("the key");
        seen.push(text("alg"));
        for (name, algorithm) in Algorithm::ALL {
            let verified = key.fits(algorithm) && key.made(algorithm, b"message", &signature);
            assert_eq!(verified, name == text("alg"), "a signature of {} as {name}", text("alg"));
        }
        let algorithm = text("alg").parse().expect("known");
        assert!(!key.made(algorithm, b"massage", &signature), "{algorithm:?}");
        for at in [0, signature.len() / 2, signature.len() - 1] {
            let mut changed = signature.clone();
            changed[at] ^= 1;
            assert!(!key.made(algorithm, b"message", &changed), "{algorithm:?} with byte {at} changed");
        }
        // A key for one algorithm alone takes no other.
        let mut bound = case["key"].clone();
        bound["alg"] = text("alg").into();
        let set =
            KeySet::read(serde_json::json!({ "keys": [bound] }).to_string().as_bytes(), Origin::Url).expect("a set");
        let key = set.unnamed(false).next().expect("the key");
        let fits: Vec<_> = Algorithm::ALL.into_iter().filter(|(_, algorithm)| key.fits(*algorithm)).collect();
        assert_eq!(fits, [(text("alg"), algorithm)]);
    }
    let pairs = Algorithm::ALL.into_iter().filter(|(_, algorithm)| !algorithm.is_symmetric());
    assert_eq!(seen, pairs.map(|(name, _)| name).collect::<Vec<_>>(), "every algorithm with key pairs");
}

#[test]
fn secrets_check_signatures_of_each_length_of_hash() {
    let set = r#"{"keys":[{"kty":"oct","k":"c2VjcmV0LXNlY3JldA"}]}"#;
    let set = KeySet::read(set.as_bytes(), Origin::File).expect("a set");
    let key = set.unnamed(false).next().expect("the key");
    let algorithms = [
        (Algorithm::HS256, hmac::HMAC_SHA256),
        (Algorithm::HS384, hmac::HMAC_SHA384),
        (Algorithm::HS512, hmac::HMAC_SHA512),
    ];
    for (made, with) in algorithms {
        let signature = hmac::sign(&hmac::Key::new(with, b"secret-secret"), b"message");
        for (algorithm, _) in algorithms {
            assert_eq!(
                key.made(algorithm, b"message", signature.as_ref()),
                algorithm == made,
                "{made:?} as {algorithm:?}"
            );
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
    let short =
        serde_json::json!({"keys": [{"kty": "RSA", "n": BASE64URL.encode([0xff; 128]), "e": "AQAB"}]}).to_string();
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
