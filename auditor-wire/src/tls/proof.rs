//! What a TLS library tells of a handshake, and what follows from it.

use super::{Accepted, ClientCertificate, Evidence, Facts};

/// What the server's TLS library knows of the client's certificate. It comes apart from the connection's segments, as soon as the
/// library knows; it comes again when more is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Whether the session has a certificate of the client, which a resumed one keeps from where it began; `None` where the library
    /// does not tell.
    pub presented: Option<bool>,
    /// Whether the library found the certificate good; `None` where it did not look, or does not tell. It is good also where
    /// there is none.
    pub good: Option<bool>,
    /// How far the handshake is.
    pub progress: Progress,
}

/// How far a handshake is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// It goes on: that the client holds the certificate's key is not shown yet.
    #[default]
    UnderWay,
    /// It is done, and the server went on.
    Done,
    /// The server ended it.
    Refused,
}

impl Facts {
    /// Takes in what the server's library knows. What the wire alone made likely becomes proven by it. Of what was presented the
    /// library is believed, where it tells: nothing against a certificate says nothing while it is not known that there is one.
    pub fn prove(&mut self, proof: Proof) {
        let Proof { presented, good, progress } = proof;
        // What is at fault is there.
        let presented = presented.or((good == Some(false)).then_some(true));
        let given = presented.map(|presented| match presented {
            true => ClientCertificate::Presented,
            false => ClientCertificate::Empty,
        });
        if presented == Some(true) {
            self.verified = good;
        }
        if progress == Progress::Refused {
            self.refused = given.or(self.refused);
            self.client.certificate = ClientCertificate::Rejected;
            self.client.accepted = Accepted::No;
            self.client.evidence = Evidence::Proven;
            return;
        }
        match (self.client.certificate, given) {
            (ClientCertificate::Rejected, _) => return self.refused = given.or(self.refused),
            (_, None) => {}
            (ClientCertificate::Resumed | ClientCertificate::Undetermined, _) if self.resumed == Some(true) => {
                self.client.certificate = ClientCertificate::Resumed;
                self.client.inherited = presented;
                self.client.evidence = Evidence::Proven;
            }
            (_, Some(ClientCertificate::Presented)) => self.gave(ClientCertificate::Presented),
            (ClientCertificate::None, _) => self.gave(ClientCertificate::None),
            (ClientCertificate::Undetermined, _) if self.requested != Some(true) => self.gave(ClientCertificate::None),
            _ => self.gave(ClientCertificate::Empty),
        }
        let determined = self.client.certificate != ClientCertificate::Undetermined;
        if progress == Progress::Done && determined && self.client.accepted == Accepted::Unknown {
            self.client.accepted = Accepted::Yes;
        }
    }

    fn gave(&mut self, certificate: ClientCertificate) {
        self.client.certificate = certificate;
        self.client.evidence = Evidence::Proven;
        if matches!(certificate, ClientCertificate::Presented | ClientCertificate::Empty) {
            self.requested = Some(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use ClientCertificate as C;

    use super::*;
    use crate::tls::ClientAuth;

    const GOOD: Proof = Proof { presented: Some(true), good: Some(true), progress: Progress::Done };
    const NONE: Proof = Proof { presented: Some(false), ..GOOD };

    fn facts(certificate: C) -> Facts {
        let client = ClientAuth { certificate, evidence: Evidence::Inferred, ..ClientAuth::default() };
        let resumed = Some(certificate == C::Resumed);
        Facts { client, resumed, ..Facts::default() }
    }

    fn proven(certificate: C, proof: Proof) -> Facts {
        let mut facts = facts(certificate);
        facts.prove(proof);
        facts
    }

    fn said(facts: &Facts) -> (C, Evidence, Accepted, Option<bool>) {
        (facts.client.certificate, facts.client.evidence, facts.client.accepted, facts.verified)
    }

    #[test]
    fn a_certificate_the_wire_made_likely_is_proven() {
        let good = proven(C::Presented, GOOD);
        assert_eq!(said(&good), (C::Presented, Evidence::Proven, Accepted::Yes, Some(true)));
        assert_eq!(good.requested, Some(true));
        // Accepted at the TLS layer, and yet bad: nginx goes on and answers 400.
        let bad = proven(C::Presented, Proof { good: Some(false), ..GOOD });
        assert_eq!(said(&bad), (C::Presented, Evidence::Proven, Accepted::Yes, Some(false)));
        let fault = proven(C::Presented, Proof { presented: None, good: Some(false), ..GOOD });
        assert_eq!(said(&fault), said(&bad));
        // It was not looked at.
        let unseen = proven(C::Undetermined, Proof { good: None, ..GOOD });
        assert_eq!(said(&unseen), (C::Presented, Evidence::Proven, Accepted::Yes, None));
    }

    #[test]
    fn nothing_against_a_certificate_proves_nothing_unless_there_is_one() {
        let good = Proof { presented: None, ..GOOD };
        for certificate in [C::None, C::Empty, C::Presented, C::Resumed] {
            let facts = proven(certificate, good);
            assert_eq!(said(&facts), (certificate, Evidence::Inferred, Accepted::Yes, None));
        }
        assert_eq!(said(&proven(C::Undetermined, good)).2, Accepted::Unknown);
    }

    #[test]
    fn a_session_without_certificate_is_no_mutual_tls_whatever_lengths_say() {
        for (wire, certificate) in
            [(C::None, C::None), (C::Empty, C::Empty), (C::Presented, C::Empty), (C::Undetermined, C::None)]
        {
            let facts = proven(wire, NONE);
            assert_eq!(said(&facts), (certificate, Evidence::Proven, Accepted::Yes, None), "{wire:?}");
        }
        let mut asked = Facts { requested: Some(true), ..facts(C::Undetermined) };
        asked.prove(NONE);
        assert_eq!(asked.client.certificate, C::Empty);
    }

    #[test]
    fn a_certificate_is_no_proof_before_the_handshake_is_done() {
        let under_way = Proof { progress: Progress::UnderWay, ..GOOD };
        assert_eq!(proven(C::Presented, under_way).client.accepted, Accepted::Unknown);
        let mut ended = facts(C::Rejected);
        ended.client.accepted = Accepted::No;
        ended.prove(under_way);
        assert_eq!(said(&ended), (C::Rejected, Evidence::Inferred, Accepted::No, Some(true)));
        assert_eq!(ended.refused, Some(C::Presented));
    }

    #[test]
    fn a_resumed_session_inherits_what_it_keeps() {
        for (proof, verified) in [(GOOD, Some(true)), (NONE, None)] {
            let facts = proven(C::Resumed, proof);
            assert_eq!(said(&facts), (C::Resumed, Evidence::Proven, Accepted::Yes, verified));
            assert_eq!(facts.client.inherited, proof.presented);
        }
        let mut unread = Facts { resumed: Some(true), ..facts(C::Undetermined) };
        unread.prove(GOOD);
        assert_eq!((said(&unread).0, unread.client.inherited), (C::Resumed, Some(true)));
    }

    #[test]
    fn the_library_says_what_it_refused() {
        let refused = Proof { good: Some(false), progress: Progress::Refused, ..GOOD };
        for wire in [C::Undetermined, C::Presented, C::Rejected] {
            let facts = proven(wire, refused);
            assert_eq!(said(&facts), (C::Rejected, Evidence::Proven, Accepted::No, Some(false)));
            assert_eq!(facts.refused, Some(C::Presented));
        }
        let none = proven(C::Empty, Proof { progress: Progress::Refused, ..NONE });
        assert_eq!((none.refused, none.verified), (Some(C::Empty), None));
    }
}
