//! Any bytes as signatures over a message, DPoP proofs and forwarded certificates: no panic, and only what is short is kept.
#![no_main]
#![expect(dead_code, reason = "finding credentials uses the rest of these files")]

use libfuzzer_sys::fuzz_target;

// The readers' own files: the crate they are part of would bring the whole daemon with it.
#[path = "../../auditor/src/credentials/authorization.rs"]
mod authorization;
#[path = "../../auditor/src/credentials/certificate.rs"]
mod certificate;
#[path = "../../auditor/src/credentials/claims.rs"]
mod claims;
#[path = "../../auditor/src/credentials/custom.rs"]
mod custom;
#[path = "../../auditor/src/credentials/dpop.rs"]
mod dpop;
#[path = "../../auditor/src/credentials/jwt.rs"]
mod jwt;
#[path = "../../auditor/src/credentials/kind.rs"]
mod kind;
#[path = "../../auditor/src/credentials/message.rs"]
mod message;
#[path = "../../auditor/src/credentials/proof.rs"]
mod proof;
#[path = "../../auditor/src/credentials/shape.rs"]
mod shape;

use claims::{Claims, Profile};
use custom::{CustomClaims, RecordedClaims};
use kind::{Credential, CredentialKind};
use proof::{Proof, Signature};

/// The first byte says what the others are.
fn check(bytes: &[u8]) {
    let Some((what, bytes)) = bytes.split_first() else { return };
    let signed = message::Signed { has_query: what & 16 != 0, date: Some(bytes) };
    let found = match what & 7 {
        0 => message::rfc9421(bytes.split(|byte| *byte == b'\n'), signed),
        1 => Some(message::cavage(bytes, signed)),
        2 => Some(message::sigv4(bytes, Some(bytes), None, signed)),
        3 => Some(message::presigned(bytes)),
        4 => message::hmac("header:stripe-signature", bytes, |_| None),
        5 => {
            if let Some((certificate, known_by)) = certificate::read(bytes) {
                assert!(!known_by.is_empty() && certificate.uri.len() <= 8 && certificate.dns.len() <= 8);
                assert!(certificate.uri.iter().chain(&certificate.dns).all(|name| name.len() <= 128));
            }
            None
        }
        6 => {
            let (proof, token) = bytes.split_at(bytes.len() / 2);
            let _ = dpop::read(proof, "GET", &String::from_utf8_lossy(token), Some(token));
            None
        }
        _ => {
            let _ = authorization::read(bytes).map(|proof| (proof.kind, proof.secret.bytes().len()));
            None
        }
    };
    if let Some(found) = found {
        assert!(found.covers.len() <= 4);
        assert!([found.alg, found.scope].into_iter().flatten().all(|text| text.len() <= 64));
    }
}

fuzz_target!(|bytes: &[u8]| check(bytes));
