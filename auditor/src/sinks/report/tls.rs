//! What TLS connections showed: what each caller proved to each server, and what the server makes of those who prove nothing.

use std::collections::BTreeMap;

use auditor_wire::tls::{Accepted, ClientCertificate};

use super::{
    super::posture::{Evidence, Posture},
    edges::{Edge, Who},
};
use crate::judgement::{ClientProof, Tls};

/// What the connections of one edge showed.
#[derive(Clone, Debug, Default)]
pub(super) struct Handshakes {
    evidence: Evidence,
    proofs: Vec<Proof>,
}

/// Connections in which the client did the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    /// What it did and what came of it.
    pub(super) said: &'static str,
    /// How sure that is.
    pub(super) evidence: &'static str,
    pub(super) count: u64,
}

/// A server and who connected to it.
pub(super) struct Endpoint<'a> {
    pub(super) server: &'a Edge,
    pub(super) posture: Posture,
    /// Callers with what they proved, by name.
    pub(super) callers: Vec<(&'a Edge, &'a Handshakes)>,
}

impl Handshakes {
    pub(super) fn add(&mut self, tls: &Tls) {
        // The report speaks of all that was seen: when it was does not matter.
        self.evidence.add(&tls.client, 0);
        let (said, evidence) = (said(&tls.client), tls.client.evidence.as_str());
        match self.proofs.iter_mut().find(|proof| (proof.said, proof.evidence) == (said, evidence)) {
            Some(proof) => proof.count += 1,
            None => self.proofs.push(Proof { said, evidence, count: 1 }),
        }
    }

    /// The most frequent first.
    pub(super) fn proofs(&self) -> Vec<&Proof> {
        let mut proofs: Vec<_> = self.proofs.iter().collect();
        proofs.sort_by_key(|proof| (std::cmp::Reverse(proof.count), proof.said, proof.evidence));
        proofs
    }
}

/// What a client did. That a certificate was accepted says nothing of whether it was verified: a library may tell that.
fn said(proof: &ClientProof) -> &'static str {
    match (proof.outcome, proof.accepted) {
        (ClientCertificate::Presented, Accepted::Yes) if proof.verified == Some(true) => "certificate, verified",
        (ClientCertificate::Presented, Accepted::Yes) if proof.verified == Some(false) => {
            "bad certificate, accepted by TLS"
        }
        (ClientCertificate::Rejected, _) if proof.turned_away_without() => "asked, gave none, refused",
        (ClientCertificate::Rejected, _) if proof.presented == Some(true) => "certificate, refused",
        (ClientCertificate::Presented, Accepted::Yes) => "certificate, accepted by TLS",
        (ClientCertificate::Presented, Accepted::No) => "certificate, refused",
        (ClientCertificate::Presented, Accepted::Unknown) => "certificate, answer not seen",
        (ClientCertificate::None, Accepted::No) => "no certificate, refused",
        (ClientCertificate::None, _) => "no certificate",
        (ClientCertificate::Empty, Accepted::No) => "asked, gave none, refused",
        (ClientCertificate::Empty, _) => "asked, gave none",
        (ClientCertificate::Resumed, _) => match proof.inherited {
            Some(true) => "resumed, began with certificate",
            Some(false) => "resumed, began without one",
            None => "resumed, beginning not seen",
        },
        (ClientCertificate::Rejected, _) => "handshake ended",
        (ClientCertificate::Undetermined, _) => "not determined",
    }
}

/// The servers of all TLS connections, the weakest posture first.
pub(super) fn endpoints(edges: &[Edge]) -> Vec<Endpoint<'_>> {
    let mut by_server: BTreeMap<(&Who, u16), Vec<(&Edge, &Handshakes)>> = BTreeMap::new();
    for edge in edges {
        if let Some(handshakes) = &edge.handshakes {
            by_server.entry((&edge.destination, edge.port)).or_default().push((edge, handshakes));
        }
    }
    let mut endpoints = Vec::with_capacity(by_server.len());
    for mut callers in by_server.into_values() {
        callers.sort_by_key(|(edge, _)| &edge.source);
        let mut evidence = Evidence::default();
        callers.iter().for_each(|(_, handshakes)| evidence.merge(&handshakes.evidence));
        endpoints.push(Endpoint { server: callers[0].0, posture: evidence.posture(0), callers });
    }
    // Stable, so that equally weak ones stay sorted by name.
    endpoints.sort_by_key(|endpoint| endpoint.posture);
    endpoints
}

/// What a posture means.
pub(super) fn meaning(posture: Posture) -> &'static str {
    match posture {
        Posture::NotRequested => "asks for no client certificate",
        Posture::Optional => "goes on without a client certificate",
        Posture::Unknown => "what it does without a certificate was not seen",
        Posture::Enforced => "turns clients without certificate away",
    }
}

/// How to mend a posture; `None` where there is nothing to mend.
pub(super) fn fix(posture: Posture) -> Option<&'static str> {
    match posture {
        Posture::NotRequested => Some(
            "Make it ask for a client certificate, verify it against the issuers of its callers, and require it: nginx \
             ssl_client_certificate and ssl_verify_client on, Go tls.RequireAndVerifyClientCert, Envoy \
             require_client_certificate, Istio PeerAuthentication STRICT.",
        ),
        Posture::Optional => Some(
            "Make it require the certificate it asks for: Go tls.RequireAndVerifyClientCert instead of \
             VerifyClientCertIfGiven, Envoy require_client_certificate, Istio PeerAuthentication STRICT instead of \
             PERMISSIVE. nginx with ssl_verify_client on refuses inside, with 400, and looks the same from outside.",
        ),
        Posture::Unknown | Posture::Enforced => None,
    }
}
