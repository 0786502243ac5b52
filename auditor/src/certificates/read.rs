//! From the bytes of one certificate to what it says.

use std::net::IpAddr;

use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    oid_registry::{
        OID_KEY_TYPE_DSA, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED448, OID_SIG_ED25519,
    },
    prelude::FromDer,
    public_key::PublicKey,
    x509::{SubjectPublicKeyInfo, X509Name},
};

use super::{Certificate, SpiffeId};
use crate::credentials::shape::shown_within;

/// Longest name that is kept, bytes.
const NAME_BYTES: usize = 255;
/// Most names of each kind that are kept.
const NAMES: usize = 16;

/// What a certificate says; `None` where it cannot be read, or bytes follow it.
pub(super) fn certificate(der: &[u8]) -> Option<Certificate> {
    let (rest, parsed) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let (key_kind, key_bits) = key(parsed.public_key());
    let mut certificate = Certificate {
        subject: name(parsed.subject()),
        issuer: name(parsed.issuer()),
        dns_names: Vec::new(),
        uris: Vec::new(),
        addresses: Vec::new(),
        spiffe_id: None,
        key_kind,
        key_bits,
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
        self_signed: self_signed(&parsed),
    };
    if let Ok(Some(names)) = parsed.subject_alternative_name() {
        add_names(&mut certificate, &names.value.general_names);
    }
    Some(certificate)
}

fn add_names(certificate: &mut Certificate, names: &[GeneralName<'_>]) {
    let mut uris = 0;
    for name in names {
        match name {
            GeneralName::DNSName(name) if certificate.dns_names.len() < NAMES => {
                certificate.dns_names.push(shown_within(name, NAME_BYTES));
            }
            GeneralName::URI(uri) => {
                uris += 1;
                // An X509-SVID has exactly one URI (X509-SVID section 2).
                certificate.spiffe_id = if uris == 1 { SpiffeId::parse(uri) } else { None };
                if certificate.uris.len() < NAMES {
                    certificate.uris.push(shown_within(uri, NAME_BYTES));
                }
            }
            GeneralName::IPAddress(bytes) if certificate.addresses.len() < NAMES => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let v6 = || <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
                certificate.addresses.extend(v4.or_else(|_| v6()).ok());
            }
            GeneralName::Invalid(tag, _) if tag.0 == 6 => {
                uris += 1;
                certificate.spiffe_id = None;
            }
            _ => {}
        }
    }
}

fn name(name: &X509Name<'_>) -> Option<Box<str>> {
    name.iter_attributes().next()?;
    Some(shown_within(&name.to_string(), NAME_BYTES))
}

fn key(key: &SubjectPublicKeyInfo<'_>) -> (&'static str, Option<u32>) {
    let algorithm = &key.algorithm.algorithm;
    let bits = |bits: usize| u32::try_from(bits).ok().filter(|bits| *bits > 0);
    if *algorithm == OID_PKCS1_RSAENCRYPTION {
        return ("rsa", rsa_bits(key));
    }
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        return ("ecdsa", key.parsed().ok().and_then(|key| bits(key.key_size())));
    }
    if *algorithm == OID_SIG_ED25519 {
        return ("ed25519", Some(256));
    }
    if *algorithm == OID_SIG_ED448 {
        return ("ed448", Some(456));
    }
    (if *algorithm == OID_KEY_TYPE_DSA { "dsa" } else { "other" }, None)
}

/// The length of an RSA key's modulus; `None` for other keys.
fn rsa_bits(key: &SubjectPublicKeyInfo<'_>) -> Option<u32> {
    let PublicKey::RSA(key) = key.parsed().ok()? else { return None };
    let zeros = key.modulus.iter().take_while(|byte| **byte == 0).count();
    let first = key.modulus.get(zeros)?;
    u32::try_from((key.modulus.len() - zeros) * 8).ok()?.checked_sub(first.leading_zeros())
}

/// Whether a certificate has an RSA key too short for rustls-webpki to check signatures with.
pub(super) fn has_short_rsa_key(der: &[u8]) -> bool {
    let parsed = X509Certificate::from_der(der).ok();
    parsed.and_then(|(_, parsed)| rsa_bits(parsed.public_key())).is_some_and(|bits| bits < 2048)
}

/// One that names itself as its issuer and whose key is not known to have signed it may be either.
fn self_signed(certificate: &X509Certificate<'_>) -> Option<bool> {
    if certificate.subject().as_raw() != certificate.issuer().as_raw() {
        return Some(false);
    }
    certificate.verify_signature(None).is_ok().then_some(true)
}
