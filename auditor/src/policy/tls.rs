//! TLS: from [`Facts`] to the transport of a record, the client's proof of identity, and what is wrong with it.
//!
//! What the wire shows is that a certificate was presented and that the server went on. Whether the server verified it is
//! told by the evidence alone, and no text here says more than that.

use auditor_wire::{
    exchange::UnknownReason,
    tls::{Accepted, ClientCertificate, Evidence, Facts, Version},
};
use tls_parser::{TlsCipherEnc, TlsCipherSuite};

use super::{
    NAME_BYTES, Settings,
    rules::{CERTIFICATE_EXPIRES_SOON, NO_CLIENT_IDENTITY, TLS_OUTDATED, UNTRUSTED_CLIENT_CERTIFICATE, severity},
    seconds,
};
use crate::{
    certificates::{Chain, Purpose, Reader, Trust},
    credentials::{Credential, Extractor, shape::shown_within},
    judgement::{ClientProof, Finding, Outcome, Security, Severity, Tls, Transport, Verdict},
};

/// Most protocols that are shown of a client's offer.
const PROTOCOLS: usize = 16;

/// One TLS connection as the rules look at it.
pub(super) struct Handshake<'a> {
    settings: &'a Settings,
    /// Seconds since the Unix epoch.
    now: i64,
    version: Option<Version>,
    suite: Option<&'static TlsCipherSuite>,
    tls: Box<Tls>,
    /// The client's proof of identity, where there is one.
    credential: Option<Credential>,
}

impl<'a> Handshake<'a> {
    pub(super) fn new(facts: &Facts, settings: &'a Settings, reader: &Reader, extractor: &Extractor, now: i64) -> Self {
        let Facts { version, suite, sni, alpn, resumed, requested, client, client_chain, server_chain, .. } = facts;
        let read = |chain: &[Box<[u8]>], purpose| reader.read(chain, !facts.chain_cut, purpose, now);
        let presented = match client.certificate {
            ClientCertificate::None | ClientCertificate::Empty => Some(false),
            ClientCertificate::Presented => Some(true),
            // A refused handshake may have begun with one; a resumed session has none of its own.
            _ if *resumed == Some(true) => None,
            _ if !client_chain.is_empty() => Some(true),
            _ => match facts.refused {
                Some(ClientCertificate::None | ClientCertificate::Empty) => Some(false),
                Some(ClientCertificate::Presented) => Some(true),
                _ => None,
            },
        };
        let proof = ClientProof {
            outcome: client.certificate,
            presented,
            requested: *requested,
            accepted: client.accepted,
            evidence: client.evidence,
            inherited: client.inherited,
            refused: facts.refused,
            verified: facts.verified,
        };
        let leaf = client_chain.first().map(AsRef::as_ref);
        let known_suite = suite.and_then(TlsCipherSuite::from_id);
        let suite_name = |id| known_suite.map_or_else(|| format!("0x{id:04x}").into(), |suite| suite.name.into());
        let tls = Tls {
            version: version.map(|version| version.to_string().into()),
            cipher_suite: suite.map(suite_name),
            sni: sni.as_ref().map(|name| shown_within(name, NAME_BYTES)),
            alpn: alpn.iter().take(PROTOCOLS).map(|name| shown_within(name, NAME_BYTES)).collect(),
            resumed: *resumed,
            client: proof,
            client_chain: read(client_chain, Purpose::Client),
            server_chain: read(server_chain, Purpose::Server),
        };
        let credential = proof.identifies().then(|| extractor.client_certificate(leaf));
        Self { settings, now, version: *version, suite: known_suite, tls: Box::new(tls), credential }
    }

    /// The client's proof of identity, where there is one.
    pub(super) fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref()
    }

    /// What is known of the connection.
    pub(super) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// It is known that the client gave no certificate, and the server went on.
    pub(super) fn is_anonymous(&self) -> bool {
        self.credential.is_none() && self.tls.client.gave_none() && self.tls.client.accepted == Accepted::Yes
    }

    pub(super) fn into_transport(self) -> Transport {
        let security = if self.credential.is_some() { Security::Mtls } else { Security::Tls };
        Transport { security, tls: Some(self.tls) }
    }

    /// What the server did with the connection, at the TLS layer.
    pub(super) fn outcome(&self) -> Outcome {
        let proof = &self.tls.client;
        match proof.accepted {
            _ if proof.outcome == ClientCertificate::Rejected => Outcome::Refused,
            Accepted::Yes => Outcome::Accepted,
            Accepted::No => Outcome::Refused,
            Accepted::Unknown => Outcome::Unanswered,
        }
    }

    /// Whether a status inside is how the server refuses the client for its certificate, after a handshake that it let go on: nginx
    /// answers 400 to one that gave none or a bad one where it must, 495 and 496 as its pages for errors have them. So it is only
    /// where a certificate was asked for and none was given, or the server's library found fault with it; any other 400 is about
    /// the request.
    pub(super) fn refuses_inside(&self, status: u16) -> bool {
        let proof = &self.tls.client;
        let asked = proof.requested == Some(true) || proof.outcome == ClientCertificate::Empty;
        let lacking = asked && proof.gave_none();
        matches!(status, 400 | 495 | 496) && (lacking || proof.verified == Some(false))
    }

    /// The verdict on the connection itself; `weak`: a rule weighs against the client's proof.
    pub(super) fn verdict(&self, weak: bool) -> (Verdict, Option<UnknownReason>) {
        let proof = &self.tls.client;
        match self.unknown() {
            _ if proof.identifies() => (if weak { Verdict::Weak } else { Verdict::Authenticated }, None),
            // It ended before a call could be made: nothing inside can have proven anything either.
            _ if proof.turned_away_without() => (Verdict::Unauthenticated, None),
            None if proof.accepted == Accepted::No => (Verdict::Unauthenticated, None),
            None => (Verdict::Unknown, Some(UnknownReason::Encrypted)),
            reason => (Verdict::Unknown, reason),
        }
    }

    /// Why it is not known whether the client proved who it is at the TLS layer; `None` where it is known.
    pub(super) fn unknown(&self) -> Option<UnknownReason> {
        let proof = &self.tls.client;
        match proof.outcome {
            _ if proof.identifies() => None,
            ClientCertificate::None | ClientCertificate::Empty => None,
            // The library keeps what the client gave when the session began.
            ClientCertificate::Resumed if proof.inherited == Some(false) && proof.evidence == Evidence::Proven => None,
            ClientCertificate::Resumed => Some(UnknownReason::ResumedTls),
            ClientCertificate::Presented | ClientCertificate::Rejected | ClientCertificate::Undetermined => {
                Some(UnknownReason::UndeterminedTls)
            }
        }
    }

    /// What weighs against the client's proof of identity.
    pub(super) fn defects(&self) -> Vec<Finding> {
        if self.credential.is_none() {
            Vec::new()
        } else {
            self.untrusted().into_iter().chain(self.outdated()).collect()
        }
    }

    /// What is wrong with the connection, [`Self::defects`] included.
    pub(super) fn findings(&self) -> Vec<Finding> {
        if self.outcome() == Outcome::Refused {
            return Vec::new();
        }
        let mut findings: Vec<_> = self.untrusted().into_iter().chain(self.outdated()).collect();
        findings.extend(self.no_client_identity());
        findings.extend(self.expires_soon());
        findings
    }

    /// A client certificate that must not be accepted, and was.
    fn untrusted(&self) -> Option<Finding> {
        self.credential.as_ref()?;
        let mut reasons = self.tls.client_chain.as_deref().map(|chain| self.reasons(chain)).unwrap_or_default();
        if self.tls.client.verified == Some(false) {
            reasons.push("the server's library found fault with it".to_owned());
        }
        let detail = format!("client certificate accepted at the TLS layer: {}", reasons.join(", "));
        (!reasons.is_empty()).then(|| finding(UNTRUSTED_CLIENT_CERTIFICATE, detail))
    }

    /// Why a client certificate must not be accepted.
    fn reasons(&self, Chain { leaf, trust }: &Chain) -> Vec<String> {
        let leeway = seconds(self.settings.clock_leeway);
        let mut reasons = Vec::new();
        let (late, early) = (self.now.saturating_sub(leaf.not_after), leaf.not_before.saturating_sub(self.now));
        if late > leeway {
            reasons.push(format!("it expired {} before", span(late)));
        }
        if early > leeway {
            reasons.push(format!("it is not valid before {} later", span(early)));
        }
        if leaf.self_signed == Some(true) && *trust != Trust::Trusted {
            reasons.push("it is signed by its own key".to_owned());
        }
        let domains = &self.settings.trust.domains;
        if let Some(id) = &leaf.spiffe_id
            && !domains.is_empty()
            && !domains.iter().any(|domain| domain == id.trust_domain())
        {
            reasons.push(format!("it is of the trust domain {}", shown_within(id.trust_domain(), 64)));
        }
        if let Trust::Untrusted(reason) = trust
            && leaf.self_signed != Some(true)
        {
            reasons.push(format!("it {reason}"));
        }
        reasons
    }

    /// Versions before 1.2 (RFC 8996) and suites that do not encrypt, or not well (RFC 9325 section 4.1).
    fn outdated(&self) -> Option<Finding> {
        let version = self.version.filter(|version| version.0 < 0x0303).map(|version| version.to_string());
        let suite = self.suite.filter(|suite| is_weak(suite)).map(|suite| suite.name.to_owned());
        let chosen: Vec<_> = version.into_iter().chain(suite).collect();
        (!chosen.is_empty()).then(|| finding(TLS_OUTDATED, format!("the server chose {}", chosen.join(" with "))))
    }

    /// A handshake that went on without a certificate of the client.
    fn no_client_identity(&self) -> Option<Finding> {
        let proof = &self.tls.client;
        if !proof.gave_none() || proof.accepted != Accepted::Yes {
            return None;
        }
        let how = match (proof.outcome, proof.requested) {
            (_, Some(false)) => "the server did not ask for a certificate",
            (ClientCertificate::Empty, _) => "asked for a certificate the client gave none, and the server went on",
            _ => "the client gave no certificate, and the server went on",
        };
        Some(finding(NO_CLIENT_IDENTITY, format!("{how}; calls inside may carry a credential that is not visible")))
    }

    /// A certificate that will soon not hold, or a server's that does not any more.
    fn expires_soon(&self) -> Option<Finding> {
        let client = self.tls.client_chain.as_deref().filter(|_| self.credential.is_some());
        let server = self.tls.server_chain.as_deref().filter(|_| self.tls.client.accepted == Accepted::Yes);
        let mut worst: Option<(Severity, Vec<String>)> = None;
        for (whose, chain) in [("client", client), ("server", server)] {
            let Some(Chain { leaf, .. }) = chain else { continue };
            let left = leaf.not_after.saturating_sub(self.now);
            let lifetime = leaf.not_after.saturating_sub(leaf.not_before);
            // Certificates that live for hours are renewed in time to live on: what remains is measured by that, too.
            let limit = seconds(self.settings.trust.expiry_warning).min(lifetime / 4);
            let (level, how) = match left {
                // Of an accepted client certificate another rule says so.
                ..0 if whose == "client" => continue,
                ..0 => (Severity::Medium, format!("expired {} before", span(left.saturating_neg()))),
                _ if left >= limit => continue,
                _ if left < limit / 4 => (Severity::Medium, format!("expires in {}", span(left))),
                _ => (severity(CERTIFICATE_EXPIRES_SOON), format!("expires in {}", span(left))),
            };
            let (known, details) = worst.get_or_insert_with(|| (level, Vec::new()));
            *known = level.max(*known);
            details.push(format!("the {whose}'s certificate {how}"));
        }
        let (severity, details) = worst?;
        Some(Finding { rule: CERTIFICATE_EXPIRES_SOON, severity, detail: details.join(", ").into() })
    }
}

/// [`Handshake::defects`] as findings of a call that was made inside: a certificate that must not be accepted is no finding
/// where the call was refused or not answered, and a lesser one where it failed for whatever reason.
pub(super) fn inside(mut defects: Vec<Finding>, outcome: Outcome) -> Vec<Finding> {
    defects.retain_mut(|finding| match outcome {
        _ if finding.rule != UNTRUSTED_CLIENT_CERTIFICATE => true,
        Outcome::Accepted => true,
        Outcome::Failed => {
            finding.severity = Severity::Medium;
            true
        }
        Outcome::Refused | Outcome::Unanswered => false,
    });
    defects
}

fn finding(rule: &'static str, detail: String) -> Finding {
    Finding { rule, severity: severity(rule), detail: detail.into() }
}

/// Suites without encryption, with encryption that was weakened for export, and with ciphers that are broken or too short.
fn is_weak(suite: &TlsCipherSuite) -> bool {
    use TlsCipherEnc::{Des, Null, Rc2, Rc4, TripleDes};
    matches!(suite.enc, Null | Des | TripleDes | Rc2 | Rc4) || suite.name.contains("EXPORT")
}

/// A span of time as people say it.
fn span(seconds: i64) -> String {
    match seconds {
        172_800.. => format!("{} days", seconds / 86_400),
        7200.. => format!("{} hours", seconds / 3600),
        120.. => format!("{} minutes", seconds / 60),
        _ => format!("{seconds} seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weak(id: u16) -> bool {
        is_weak(TlsCipherSuite::from_id(id).expect("a suite"))
    }

    #[test]
    fn suites_that_do_not_protect_are_told_from_those_that_do() {
        // RFC 5246 appendix A.5, RFC 4346 appendix A.5, RFC 4492 section 6, RFC 9150.
        let bad = [
            0x0000, 0x0001, 0x0002, 0x003b, 0x0003, 0x0006, 0x0008, 0x0004, 0x0005, 0x0009, 0x000a, 0xc007, 0xc012,
            0xc0b4,
        ];
        for id in bad {
            assert!(weak(id), "0x{id:04x} {:?}", TlsCipherSuite::from_id(id).map(|suite| suite.name));
        }
        // RFC 8446 appendix B.4, RFC 5289, RFC 7905, RFC 5246.
        for id in
            [0x1301, 0x1302, 0x1303, 0x1304, 0x1305, 0xc02b, 0xc02f, 0xc030, 0xcca8, 0xcca9, 0x009c, 0x002f, 0xc013]
        {
            assert!(!weak(id), "0x{id:04x} {:?}", TlsCipherSuite::from_id(id).map(|suite| suite.name));
        }
    }

    #[test]
    fn spans_read_well() {
        let spans = [5, 119, 120, 7199, 7200, 172_799, 172_800, 864_000].map(span);
        assert_eq!(
            spans,
            ["5 seconds", "119 seconds", "2 minutes", "119 minutes", "2 hours", "47 hours", "2 days", "10 days"]
        );
    }
}
