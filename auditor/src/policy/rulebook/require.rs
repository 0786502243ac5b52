//! What a route requires of the proof that comes with a call, and what is against a call that has another.
//!
//! What was cut, masked or not seen is never against a call: it leaves the requirement undecided.

use std::time::Duration;

use crate::{
    credentials::{Claims, Credential, CredentialKind, SignatureStatus, shape::shown_within},
    policy::rules::{JWT_AUDIENCE, JWT_ISSUER, JWT_SCOPE, POLICY_VIOLATION},
};

/// Texts of claims are cut at so many bytes.
const CLAIM_BYTES: usize = 128;
/// Lists of claims are cut at so many entries.
const LIST_LIMIT: usize = 16;

/// A kind of proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProofKind {
    /// A client certificate that was accepted at the TLS layer.
    Mtls,
    /// A JWT, wherever it travels.
    Jwt,
    /// A signature over the message.
    Signature,
    /// Any credential.
    Any,
}

/// Names of the kinds of proof.
pub(super) const PROOFS: [(&str, ProofKind); 4] =
    [("mtls", ProofKind::Mtls), ("jwt", ProofKind::Jwt), ("signature", ProofKind::Signature), ("any", ProofKind::Any)];

impl ProofKind {
    pub(super) fn is(self, credential: &Credential) -> bool {
        match self {
            Self::Any => true,
            Self::Mtls => credential.kind == CredentialKind::Mtls,
            Self::Jwt => credential.claims.is_some(),
            Self::Signature => matches!(credential.kind, CredentialKind::HttpSignature | CredentialKind::AwsSigv4),
        }
    }

    pub(super) fn name(self) -> &'static str {
        PROOFS.iter().find(|(_, kind)| *kind == self).map_or("any", |(name, _)| name)
    }
}

/// What a route requires.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Require {
    /// One of these; empty: any.
    pub(super) proof: Vec<ProofKind>,
    /// One of these; empty: any.
    pub(super) issuers: Vec<Box<str>>,
    /// One of these; empty: any.
    pub(super) audiences: Vec<Box<str>>,
    /// All of these.
    pub(super) scopes: Vec<Box<str>>,
    /// Longest lifetime of a token that is not `jwt-long-lived`.
    pub(super) max_lifetime: Option<Duration>,
    /// The auditor must have verified the signature.
    pub(super) verified: bool,
}

/// Something against a call, by the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unmet {
    pub(super) rule: &'static str,
    pub(super) detail: String,
}

/// What came of measuring credentials.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) unmet: Vec<Unmet>,
    pub(super) undecided: Option<&'static str>,
}

/// Whether a claim is as the token has it: not cut, nothing in it replaced.
pub(super) fn is_whole(claim: &str) -> bool {
    claim.len() < CLAIM_BYTES && (claim.is_ascii() || !claim.contains('\u{fffd}'))
}

/// What is known of a token's signature.
pub(super) fn signature(credential: &Credential) -> SignatureStatus {
    credential.signature.map_or(SignatureStatus::NotVerified, |signature| signature.status)
}

impl Require {
    /// Whether it asks for claims of a token.
    pub(super) fn asks_for_token(&self) -> bool {
        !(self.issuers.is_empty() && self.audiences.is_empty() && self.scopes.is_empty()) || self.verified
    }

    /// Whether a client certificate suffices.
    pub(super) fn takes_mtls(&self) -> bool {
        self.proof.contains(&ProofKind::Mtls)
    }

    /// Whether a client certificate is all that suffices.
    pub(super) fn is_mtls_alone(&self) -> bool {
        self.proof == [ProofKind::Mtls]
    }

    /// Measures credentials that count as a proof; there is at least one. One that meets everything suffices: what is
    /// against the call is what is against the best.
    pub(super) fn measure<'a>(
        &self,
        credentials: impl Iterator<Item = &'a Credential> + Clone,
        complete: bool,
    ) -> Measured {
        let of_kind =
            |credential: &&Credential| self.proof.is_empty() || self.proof.iter().any(|kind| kind.is(credential));
        let fitting = credentials.clone().filter(of_kind);
        let measured = fitting.map(|credential| self.credential(credential));
        let best = measured.min_by_key(|measured| (measured.unmet.len(), measured.undecided.is_some()));
        let Some(best) = best else {
            if !complete {
                return Measured { unmet: Vec::new(), undecided: Some("not everything that proves was seen") };
            }
            let wanted: Vec<_> = self.proof.iter().map(|kind| kind.name()).collect();
            let had = { credentials }.next().map_or("none", |credential| credential.kind.as_str());
            let detail = format!("{} is required; the call has {had}", wanted.join(" or "));
            return Measured { unmet: vec![Unmet { rule: POLICY_VIOLATION, detail }], undecided: None };
        };
        if !best.unmet.is_empty() && !complete {
            return Measured { unmet: Vec::new(), undecided: Some("not everything that proves was seen") };
        }
        best
    }

    fn credential(&self, credential: &Credential) -> Measured {
        let mut measured = Measured::default();
        let carrier = &credential.carrier;
        let Some(claims) = credential.claims.as_deref() else {
            // Only a token has claims. Where other proofs are allowed too, nothing is asked of them.
            let token_wanted = self.asks_for_token() && self.proof.is_empty();
            if token_wanted {
                let detail = format!("a token is required; the call has {}", credential.kind.as_str());
                measured.unmet.push(Unmet { rule: POLICY_VIOLATION, detail });
            }
            return measured;
        };
        match signature(credential) {
            SignatureStatus::Bad if self.verified => {
                let detail = format!("the signature of the token in {carrier} is wrong");
                measured.unmet.push(Unmet { rule: POLICY_VIOLATION, detail });
            }
            SignatureStatus::NotVerified if self.verified => {
                measured.undecided = Some("the token's signature was not verified");
            }
            _ => {}
        }
        if !claims.readable {
            if self.asks_for_token() {
                measured.undecided = Some("the token's claims cannot be read");
            }
            return measured;
        }
        self.claims(claims, carrier, &mut measured);
        measured
    }

    fn claims(&self, claims: &Claims, carrier: &str, measured: &mut Measured) {
        let issuer = claims.iss.as_slice();
        let checks =
            [(JWT_ISSUER, "issuer", &self.issuers, issuer), (JWT_AUDIENCE, "audience", &self.audiences, &claims.aud)];
        for (rule, what, wanted, had) in checks {
            match one_of(wanted, had) {
                Some(true) => {}
                None => measured.undecided = Some("a claim was not read whole"),
                Some(false) if had.is_empty() => {
                    measured
                        .unmet
                        .push(Unmet { rule, detail: format!("no {what} in {carrier}, {} required", listed(wanted)) });
                }
                Some(false) => {
                    let detail = format!("another {what} in {carrier}, {} required", listed(wanted));
                    measured.unmet.push(Unmet { rule, detail });
                }
            }
        }
        let of_scope = |scope| (scope, one_of(std::slice::from_ref(scope), &claims.scope));
        let scopes: Vec<_> = self.scopes.iter().map(of_scope).collect();
        let missing: Vec<Box<str>> =
            scopes.iter().filter(|(_, there)| *there == Some(false)).map(|(scope, _)| (*scope).clone()).collect();
        if !missing.is_empty() {
            let detail = format!("no scope {} in {carrier}", listed(&missing));
            measured.unmet.push(Unmet { rule: JWT_SCOPE, detail });
        } else if scopes.iter().any(|(_, there)| there.is_none()) {
            measured.undecided = Some("a claim was not read whole");
        }
    }
}

/// Whether one of `wanted` is among `had`; true where nothing is wanted. `None` where a claim was cut and may be one of them.
fn one_of(wanted: &[Box<str>], had: &[Box<str>]) -> Option<bool> {
    if wanted.is_empty() {
        return Some(true);
    }
    if had.iter().any(|had| wanted.contains(had) && is_whole(had)) {
        return Some(true);
    }
    let is_cut = |had: &str| wanted.iter().any(|wanted| *shown_within(wanted, CLAIM_BYTES) == *had);
    let may_be = had.len() >= LIST_LIMIT || had.iter().any(|had| !is_whole(had) && is_cut(had));
    if may_be { None } else { Some(false) }
}

/// What the policy names, for a detail: the first few.
fn listed(names: &[Box<str>]) -> String {
    let mut text: Vec<String> = names.iter().take(3).map(|name| format!("`{}`", shown_within(name, 64))).collect();
    if names.len() > 3 {
        text.push("...".to_owned());
    }
    text.join(" or ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn token(claims: Claims) -> Credential {
        Credential {
            kind: CredentialKind::BearerJwt,
            carrier: "header:authorization".into(),
            fingerprint: "f".into(),
            claims: Some(Arc::new(Claims { readable: true, ..claims })),
            signature: None,
            proof: None,
            custom: None,
        }
    }

    fn list(words: &[&str]) -> Vec<Box<str>> {
        words.iter().copied().map(Box::from).collect()
    }

    fn rules(require: &Require, credentials: &[Credential]) -> (Vec<&'static str>, bool) {
        let measured = require.measure(credentials.iter(), true);
        (measured.unmet.iter().map(|unmet| unmet.rule).collect(), measured.undecided.is_some())
    }

    #[test]
    fn claims_are_measured_and_the_best_token_counts() {
        let require = Require {
            proof: vec![ProofKind::Jwt],
            issuers: list(&["https://login"]),
            audiences: list(&["orders", "cart"]),
            scopes: list(&["read", "write"]),
            max_lifetime: None,
            verified: false,
        };
        let good = || Claims {
            iss: Some("https://login".into()),
            aud: list(&["cart"]),
            scope: list(&["write", "read"]),
            ..Claims::default()
        };
        assert_eq!(rules(&require, &[token(good())]), (vec![], false));
        let other = |change: fn(&mut Claims)| {
            let mut claims = good();
            change(&mut claims);
            rules(&require, &[token(claims)])
        };
        assert_eq!(other(|claims| claims.iss = None), (vec![JWT_ISSUER], false));
        assert_eq!(other(|claims| claims.iss = Some("x".into())), (vec![JWT_ISSUER], false));
        assert_eq!(other(|claims| claims.aud.clear()), (vec![JWT_AUDIENCE], false));
        assert_eq!(other(|claims| claims.scope.truncate(1)), (vec![JWT_SCOPE], false));
        assert_eq!(rules(&require, &[token(Claims::default()), token(good())]), (vec![], false));
    }

    #[test]
    fn what_was_cut_is_not_against_a_call() {
        let long = "x".repeat(200);
        let require = Require { issuers: list(&[&long]), ..Require::default() };
        let cut = Claims { iss: Some(shown_within(&long, CLAIM_BYTES)), ..Claims::default() };
        assert_eq!(rules(&require, &[token(cut)]), (vec![], true));
        let require = Require { audiences: list(&["orders"]), ..Require::default() };
        let many = Claims { aud: vec!["x".into(); LIST_LIMIT], ..Claims::default() };
        assert_eq!(rules(&require, &[token(many)]), (vec![], true));
        let mut unread = token(Claims::default());
        unread.claims.as_mut().map(Arc::make_mut).expect("claims").readable = false;
        assert_eq!(rules(&require, &[unread]), (vec![], true));
        let verified = Require { verified: true, ..Require::default() };
        assert_eq!(rules(&verified, &[token(Claims::default())]), (vec![], true));
    }

    #[test]
    fn another_kind_of_proof_is_a_violation_unless_more_may_have_come() {
        let mut basic = token(Claims::default());
        (basic.kind, basic.claims) = (CredentialKind::Basic, None);
        let require = Require { proof: vec![ProofKind::Jwt, ProofKind::Mtls], ..Require::default() };
        assert_eq!(rules(&require, std::slice::from_ref(&basic)), (vec![POLICY_VIOLATION], false));
        let measured = require.measure(std::iter::once(&basic), false);
        assert!(measured.unmet.is_empty() && measured.undecided.is_some());
        let any = Require { proof: vec![ProofKind::Any], ..Require::default() };
        assert_eq!(rules(&any, &[basic]), (vec![], false));
    }
}
