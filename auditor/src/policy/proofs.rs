//! What is wrong with proofs that are made for one message: signatures of tokens, signatures over the message, proofs of
//! possession, and certificates that a proxy vouches for. The facts were found out when the bytes were there.

use auditor_wire::exchange::Request;

use super::{
    checks::{Call, Defects, must_not_be_accepted},
    rules::{DPOP_MISMATCH, JWT_BAD_SIGNATURE, UNTRUSTED_FORWARDED_CERTIFICATE, WEAK_SIGNATURE, severity},
    seconds,
};
use crate::{
    credentials::{
        Component, Credential, CredentialKind, DpopProof, Match, MessageSignature, Proof, SignatureReason,
        SignatureScheme, SignatureStatus,
    },
    judgement::{Finding, Outcome, Severity},
};

/// For how long services take a SigV4 signature in a header, seconds (AWS IAM User Guide, elements of a request signature).
const SIGV4_AGE: i64 = 900;

/// What weighs against one credential.
pub(super) fn credential(call: &Call<'_>, credential: &Credential, defects: &mut Defects<'_>) {
    bad_signature(call, credential, defects);
    match credential.proof.as_deref() {
        Some(Proof::MessageSignature(signature)) => message_signature(call, signature, &credential.carrier, defects),
        Some(Proof::Dpop(proof)) => dpop(call, *proof, defects),
        Some(Proof::ClientCertificate(_)) | None => {}
    }
}

/// A token that its issuer did not sign. One without a signature has a rule of its own.
fn bad_signature(call: &Call<'_>, credential: &Credential, defects: &mut Defects<'_>) {
    let Some(signature) = credential.signature.filter(|signature| signature.status == SignatureStatus::Bad) else {
        return;
    };
    let why = match signature.reason {
        Some(SignatureReason::Unsigned) => return,
        Some(SignatureReason::AlgorithmNotAllowed) => "its algorithm is not one the issuer signs with",
        _ => "the key it names did not make it",
    };
    defects.weaken(JWT_BAD_SIGNATURE);
    let carrier = &credential.carrier;
    must_not_be_accepted(call, JWT_BAD_SIGNATURE, defects, || format!("signature of the token in {carrier}: {why}"));
}

/// A signature that can be put under another message, or used for long. What an HMAC in a header of its own covers is not
/// visible: only its time is looked at, where it has one.
fn message_signature(call: &Call<'_>, signature: &MessageSignature, carrier: &str, defects: &mut Defects<'_>) {
    let missing = uncovered(signature, call.request);
    if !missing.is_empty() {
        defects.add(WEAK_SIGNATURE, severity(WEAK_SIGNATURE), || {
            format!("signature in {carrier} does not cover {}", missing.join(", "))
        });
    }
    let Some(created) = signature.created else {
        defects.add(WEAK_SIGNATURE, severity(WEAK_SIGNATURE), || {
            format!("signature in {carrier} does not say when it was made")
        });
        return;
    };
    let leeway = seconds(call.settings.clock_leeway);
    let limit = match signature.scheme {
        SignatureScheme::Sigv4 => seconds(call.settings.signature_age).max(SIGV4_AGE),
        _ => seconds(call.settings.signature_age),
    };
    let age = call.now.saturating_sub(created);
    let past = signature.expires.map(|expires| call.now.saturating_sub(expires)).filter(|past| *past > leeway);
    // What has an end of its own may be older than the limit.
    let stale = match past {
        Some(past) => Some(format!("ended {past} s before")),
        None if signature.expires.is_none() && age > limit.saturating_add(leeway) => {
            Some(format!("was made {age} s before, the limit is {limit} s"))
        }
        None if age < -leeway => Some(format!("was made {} s later, by its own word", age.saturating_neg())),
        None => None,
    };
    if let Some(stale) = stale {
        not_accepted(call, WEAK_SIGNATURE, defects, || format!("signature in {carrier} {stale}"));
    }
}

/// Parts of the request that a signature has to cover and does not.
fn uncovered(signature: &MessageSignature, request: &Request) -> Vec<&'static str> {
    let covers = |component| signature.covers.contains(&component);
    let required = match signature.scheme {
        SignatureScheme::Hmac => return Vec::new(),
        // It always covers method and target; of the body its own rules allow to sign nothing.
        SignatureScheme::Sigv4 => return if covers(Component::Authority) { Vec::new() } else { vec!["the host"] },
        SignatureScheme::Rfc9421 | SignatureScheme::Cavage => [
            (Component::Method, "the method", true),
            (Component::Target, "the target", true),
            (Component::Digest, "the body", has_body(request)),
        ],
    };
    let missing =
        |(component, name, needed): (Component, &'static str, bool)| (needed && !covers(component)).then_some(name);
    required.into_iter().filter_map(missing).collect()
}

/// Whether a request announces a body that is not empty.
fn has_body(request: &Request) -> bool {
    let zero = |length: &[u8]| length.iter().all(|byte| *byte == b'0');
    request.head.values("content-length").any(|length| !zero(length))
        || request.head.values("transfer-encoding").next().is_some()
}

/// A proof of possession that does not fit the request or the token (RFC 9449 section 4.3).
fn dpop(call: &Call<'_>, proof: DpopProof, defects: &mut Defects<'_>) {
    let claims = [
        (proof.method, "htm is another method", "has no htm"),
        (proof.target, "htu is another target", "has no htu"),
        (proof.token, "ath is of another token", "has no ath"),
        (proof.key, "the token is bound to another key", "the token is bound to no key"),
    ];
    let mut wrong: Vec<String> = claims
        .into_iter()
        .filter_map(|(found, differs, missing)| match found {
            Match::Differs => Some(differs.to_owned()),
            Match::Missing => Some(missing.to_owned()),
            Match::Matches | Match::Unknown => None,
        })
        .collect();
    let limit = seconds(call.settings.signature_age).saturating_add(seconds(call.settings.clock_leeway));
    match proof.iat.map(|iat| call.now.saturating_sub(iat)) {
        None => wrong.push("has no iat".to_owned()),
        Some(age) if age > limit => wrong.push(format!("was made {age} s before")),
        Some(age) if age < -limit => wrong.push(format!("was made {} s later, by its own word", age.saturating_neg())),
        Some(_) => {}
    }
    if !wrong.is_empty() {
        defects.weaken(DPOP_MISMATCH);
        not_accepted(call, DPOP_MISMATCH, defects, || format!("DPoP proof: {}", wrong.join(", ")));
    }
}

/// A token that is bound to a key, and came without the proof that its sender has that key (RFC 9449 section 7.2).
pub(super) fn possession(call: &Call<'_>, defects: &mut Defects<'_>) {
    if !call.whole || call.credentials.iter().any(|credential| &*credential.carrier == "header:dpop") {
        return;
    }
    // In other headers a token may only tell of the caller's caller.
    let bound = |credential: &&Credential| match credential.kind {
        CredentialKind::Dpop => true,
        CredentialKind::BearerJwt if &*credential.carrier == "header:authorization" => {
            credential.claims.as_ref().is_some_and(|claims| claims.cnf.as_deref() == Some("jkt"))
        }
        _ => false,
    };
    if let Some(credential) = call.credentials.iter().find(bound) {
        let detail = || format!("the token in {} is bound to a key and came without a DPoP proof", credential.carrier);
        not_accepted(call, DPOP_MISMATCH, defects, detail);
    }
}

/// Weakens in any case; a finding only where the call was accepted.
fn not_accepted(call: &Call<'_>, rule: &'static str, defects: &mut Defects<'_>, detail: impl FnOnce() -> String) {
    defects.weaken(rule);
    if call.outcome == Outcome::Accepted {
        defects.add(rule, severity(rule), detail);
    }
}

/// A forwarded certificate from someone who may not be believed. Low where the caller proved itself in another way, too:
/// then it is not visible whether the service looks at the header.
pub(super) fn forwarded(call: &Call<'_>, proven: bool) -> Option<Finding> {
    let mut claimed = call.credentials.iter().filter(|one| one.kind == CredentialKind::ForwardedClientCert);
    let credential = claimed.next().filter(|_| !call.trusted_proxy && call.outcome == Outcome::Accepted)?;
    let level = if proven { Severity::Low } else { severity(UNTRUSTED_FORWARDED_CERTIFICATE) };
    let detail = format!("client certificate in {}, and the caller is no trusted proxy", credential.carrier);
    Some(Finding { rule: UNTRUSTED_FORWARDED_CERTIFICATE, severity: level, detail: detail.into() })
}
