//! What a TLS server makes of clients without certificate, gathered from the handshakes that were seen.

use auditor_wire::tls::{Accepted, ClientCertificate};

use crate::judgement::ClientProof;

/// What a TLS server makes of clients without certificate, at the TLS layer. The weakest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Posture {
    /// It does not ask for one.
    NotRequested,
    /// It asks, and goes on without.
    Optional,
    /// No handshake that was seen shows it.
    Unknown,
    /// It turned away one without, and goes on with those who have one.
    Enforced,
}

impl Posture {
    /// The word that metric labels and reports carry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotRequested => "not-requested",
            Self::Optional => "optional",
            Self::Unknown => "unknown",
            Self::Enforced => "enforced",
        }
    }
}

/// What handshakes with one server showed, each with when that was last seen: servers are reconfigured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    did_not_ask: Option<u32>,
    went_on_without: Option<u32>,
    turned_away_without: Option<u32>,
    went_on_with: Option<u32>,
}

impl Evidence {
    /// Adds what a handshake shows, seen at `now`. A resumed session shows nothing: servers ask in full handshakes.
    pub(super) fn add(&mut self, proof: &ClientProof, now: u32) {
        let asked = proof.outcome == ClientCertificate::Empty || proof.requested == Some(true);
        let shown = match (proof.outcome, proof.accepted) {
            (ClientCertificate::None, _) if proof.requested == Some(false) => &mut self.did_not_ask,
            (ClientCertificate::None | ClientCertificate::Empty, Accepted::Yes) if asked => &mut self.went_on_without,
            (ClientCertificate::Presented, Accepted::Yes) => &mut self.went_on_with,
            _ if proof.turned_away_without() => &mut self.turned_away_without,
            _ => return,
        };
        *shown = (*shown).max(Some(now));
    }

    /// Adds what others showed.
    pub(super) fn merge(&mut self, other: &Self) {
        self.did_not_ask = self.did_not_ask.max(other.did_not_ask);
        self.went_on_without = self.went_on_without.max(other.went_on_without);
        self.turned_away_without = self.turned_away_without.max(other.turned_away_without);
        self.went_on_with = self.went_on_with.max(other.went_on_with);
    }

    /// The posture by what was seen since `oldest`. One handshake that went on without a certificate outweighs all that did
    /// not; that certificates are enforced takes both, one turned away without and one that went on with.
    pub(super) fn posture(&self, oldest: u32) -> Posture {
        let fresh = |seen: Option<u32>| seen.is_some_and(|time| time >= oldest);
        if fresh(self.did_not_ask) {
            Posture::NotRequested
        } else if fresh(self.went_on_without) {
            Posture::Optional
        } else if fresh(self.turned_away_without) && fresh(self.went_on_with) {
            Posture::Enforced
        } else {
            Posture::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use auditor_wire::tls;

    use super::{Accepted::*, ClientCertificate::*, *};

    fn proof(outcome: ClientCertificate, accepted: Accepted, requested: Option<bool>) -> ClientProof {
        let evidence = tls::Evidence::Inferred;
        ClientProof {
            outcome,
            presented: Option::None,
            requested,
            accepted,
            evidence,
            inherited: Option::None,
            refused: Option::None,
            verified: Option::None,
        }
    }

    fn posture(proofs: &[ClientProof]) -> Posture {
        let mut evidence = Evidence::default();
        proofs.iter().for_each(|proof| evidence.add(proof, 5));
        evidence.posture(0)
    }

    #[test]
    fn enforced_takes_one_turned_away_and_one_let_in() {
        let away = proof(Empty, No, Some(true));
        let with = proof(Presented, Yes, Some(true));
        assert_eq!(posture(&[away]), Posture::Unknown);
        assert_eq!(posture(&[with]), Posture::Unknown);
        assert_eq!(posture(&[with, away]), Posture::Enforced);
        assert_eq!(posture(&[with, proof(None, No, Some(true))]), Posture::Enforced);
        let refused = |refused| ClientProof { refused, ..proof(Rejected, No, Some(true)) };
        assert_eq!(posture(&[with, refused(Some(Empty))]), Posture::Enforced);
        for given in [Option::None, Some(None), Some(Presented), Some(Undetermined)] {
            assert_eq!(posture(&[with, refused(given)]), Posture::Unknown, "{given:?}");
        }
        assert_eq!(posture(&[with, away, proof(Empty, Yes, Some(true))]), Posture::Optional);
    }

    #[test]
    fn what_is_not_clear_shows_nothing() {
        let with = proof(Presented, Yes, Some(true));
        for unclear in [
            proof(None, No, Option::None),
            proof(None, Yes, Option::None),
            proof(Rejected, No, Some(true)),
            proof(Resumed, Yes, Some(false)),
            proof(Undetermined, Yes, Some(false)),
            proof(Presented, Unknown, Some(true)),
            proof(Empty, Unknown, Some(true)),
        ] {
            assert_eq!(posture(&[with, unclear]), Posture::Unknown, "{unclear:?}");
        }
    }

    #[test]
    fn one_without_a_certificate_is_enough_to_be_open() {
        assert_eq!(posture(&[proof(None, Yes, Some(false))]), Posture::NotRequested);
        assert_eq!(posture(&[proof(None, Yes, Some(true))]), Posture::Optional);
        assert_eq!(posture(&[proof(Empty, Yes, Option::None)]), Posture::Optional);
    }

    #[test]
    fn what_was_seen_long_ago_does_not_count() {
        let mut evidence = Evidence::default();
        evidence.add(&proof(Empty, Yes, Some(true)), 10);
        evidence.add(&proof(Empty, No, Some(true)), 100);
        evidence.add(&proof(Presented, Yes, Some(true)), 100);
        assert_eq!(
            [0, 10, 11, 100, 101].map(|oldest| evidence.posture(oldest)),
            [Posture::Optional, Posture::Optional, Posture::Enforced, Posture::Enforced, Posture::Unknown]
        );
        let mut other = Evidence::default();
        other.merge(&evidence);
        assert_eq!(other, evidence);
    }
}
