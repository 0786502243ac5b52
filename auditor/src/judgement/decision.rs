//! The decision trail of a record: who, which resource, by which route of the policy, and why the verdict.

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::{Finding, Judgement, Kind, Verdict};
use crate::credentials::{Credential, CredentialKind, SignatureStatus};

/// Rules named in a reason.
const RULES_NAMED: usize = 3;

/// What the policy had to say of a call or connection.
#[derive(Clone, Debug, Default)]
pub struct Policed {
    /// Name of the route that applied.
    pub route: Option<Arc<str>>,
    /// Why something that the policy asks for could not be decided. That is no finding.
    pub undecided: Option<&'static str>,
    /// Findings that are waived; they are not among those of the judgement.
    pub waived: Vec<Waived>,
}

/// A finding that is waived.
#[derive(Clone, Debug, Serialize)]
pub struct Waived {
    /// The finding.
    #[serde(flatten)]
    pub finding: Finding,
    /// What waives it.
    pub waiver: Arc<WaiverNote>,
}

/// Who waived, until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaiverNote {
    /// Name of the waiver.
    pub name: Box<str>,
    /// Who answers for it.
    pub owner: Box<str>,
    /// The last day on which it holds, UTC.
    pub expires: jiff::civil::Date,
}

impl Judgement {
    /// Who called, by the proof that came with the call: a SPIFFE ID, a certificate's subject, or `SUBJECT@ISSUER` of a token.
    /// `None` where nothing proves it: the name in a password, and what a token claims that is unsigned or whose signature is
    /// wrong, are nobody's identity.
    #[must_use]
    pub fn principal(&self) -> Option<String> {
        if matches!(self.verdict, Verdict::Unauthenticated | Verdict::Unknown) {
            return None;
        }
        if self.credentials.iter().any(|credential| credential.kind == CredentialKind::Mtls) {
            let leaf = self.transport.tls.as_deref().and_then(|tls| Some(&tls.client_chain.as_deref()?.leaf));
            let named = leaf.and_then(|leaf| match &leaf.spiffe_id {
                Some(id) => Some(id.as_str().to_owned()),
                None => leaf.subject.as_deref().map(str::to_owned),
            });
            if named.is_some() {
                return named;
            }
        }
        self.credentials.iter().find_map(token_subject)
    }

    /// Why the verdict, in a few words.
    #[must_use]
    pub fn reason(&self) -> Reason<'_> {
        Reason(self)
    }
}

fn token_subject(credential: &Credential) -> Option<String> {
    let claims = credential.claims.as_deref()?;
    if credential.signature.is_some_and(|signature| signature.status == SignatureStatus::Bad) {
        return None;
    }
    let unsigned = claims.alg.as_deref().is_some_and(|alg| alg.eq_ignore_ascii_case("none"));
    let subject = claims.sub.as_deref().filter(|_| !unsigned)?;
    Some(match claims.iss.as_deref() {
        Some(issuer) => format!("{subject}@{issuer}"),
        None => subject.to_owned(),
    })
}

/// See [`Judgement::reason`].
#[derive(Clone, Copy, Debug)]
pub struct Reason<'a>(&'a Judgement);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let judgement = self.0;
        match judgement.verdict {
            Verdict::Authenticated => write!(f, "proved by {}", Proof(judgement))?,
            Verdict::Weak if judgement.findings.is_empty() => {
                write!(f, "{} does not suffice, and was not accepted", Proof(judgement))?;
            }
            Verdict::Weak => {
                write!(f, "{} does not suffice: ", Proof(judgement))?;
                rules(f, &judgement.findings)?;
            }
            Verdict::Unauthenticated if judgement.kind == Kind::Connection => {
                f.write_str("the server ended the handshake of a client without certificate")?;
            }
            Verdict::Unauthenticated => f.write_str("the whole head was seen and held no credential")?,
            Verdict::Unknown => write!(f, "not known: {}", judgement.unknown_reason.unwrap_or("unknown"))?,
            Verdict::Exempt => {
                f.write_str("waived")?;
                if let Some(Waived { waiver, .. }) = judgement.policy.waived.first() {
                    write!(f, " by {}, owner {}, until {}", waiver.name, waiver.owner, waiver.expires)?;
                }
            }
        }
        match judgement.policy.undecided {
            Some(why) => write!(f, "; the policy is not decided: {why}"),
            None => Ok(()),
        }
    }
}

/// The proof that counts most: a certificate, else the first credential.
struct Proof<'a>(&'a Judgement);

impl fmt::Display for Proof<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credentials = &self.0.credentials;
        let certificate = credentials.iter().find(|credential| credential.kind == CredentialKind::Mtls);
        match certificate.or(credentials.first()) {
            Some(credential) if credential.kind == CredentialKind::Mtls => f.write_str("a client certificate"),
            Some(credential) => write!(f, "{} in {}", credential.kind.as_str(), credential.carrier),
            None => f.write_str("a credential"),
        }
    }
}

fn rules(f: &mut fmt::Formatter<'_>, findings: &[Finding]) -> fmt::Result {
    for (at, finding) in findings.iter().take(RULES_NAMED).enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        f.write_str(finding.rule)?;
    }
    if findings.len() > RULES_NAMED { f.write_str(", ...") } else { Ok(()) }
}

/// `decision` of a record.
pub(super) struct DecisionRecord<'a>(pub(super) &'a Judgement);

impl Serialize for DecisionRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut record = serializer.serialize_struct("Decision", 4)?;
        record.serialize_field("principal", &self.0.principal())?;
        record.serialize_field("resource", &Resource(self.0))?;
        record.serialize_field("route", &self.0.policy.route)?;
        record.serialize_field("reason", &Text(self.0.reason()))?;
        record.end()
    }
}

/// `METHOD WORKLOAD ROUTE`, with the address where no workload is known; `null` where the request was not seen.
struct Resource<'a>(&'a Judgement);

impl Serialize for Resource<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Judgement { request, destination, .. } = self.0;
        let Some(request) = request else { return serializer.serialize_none() };
        match &destination.workload {
            Some(name) => serializer.collect_str(&format_args!("{} {name} {}", request.method, request.route)),
            None => {
                serializer.collect_str(&format_args!("{} {} {}", request.method, destination.address, request.route))
            }
        }
    }
}

struct Text<T>(T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
