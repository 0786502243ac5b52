//! What a TLS library tells of a handshake, and what follows from it.

use super::{Accepted, ClientCertificate, Evidence, Facts};

/// What the server's TLS library found when it verified the client's certificate. It comes apart from the connection's segments,
/// as soon as the library knows; it may come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Whether the client gave a certificate, where the library tells.
    pub presented: Option<bool>,
    /// Nothing is against the certificate; also when there is none.
    pub good: bool,
    /// The handshake ends with it.
    pub ends: bool,
}

impl Facts {
    /// Takes in what the server's library found. What the wire alone made likely becomes proven by it; whether a certificate was
    /// given is believed of the library where it tells, else of the wire.
    pub fn prove(&mut self, proof: Proof) {
        let client = &mut self.client;
        match proof.presented {
            Some(false) => {
                client.certificate = ClientCertificate::Empty;
                client.evidence = Evidence::Proven;
            }
            Some(true) if client.certificate != ClientCertificate::Resumed => {
                client.certificate = ClientCertificate::Presented;
            }
            _ => {}
        }
        if proof.presented != Some(false) && client.certificate == ClientCertificate::Presented {
            self.verified = Some(proof.good);
            client.evidence = Evidence::Proven;
        }
        if proof.ends {
            client.accepted = Accepted::No;
        } else if client.evidence == Evidence::Proven && client.accepted == Accepted::Unknown {
            // The library went on: it tells of a handshake that was done.
            client.accepted = Accepted::Yes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::ClientAuth;

    fn proven(certificate: ClientCertificate, proof: Proof) -> (ClientAuth, Option<bool>) {
        let client = ClientAuth { certificate, evidence: Evidence::Inferred, ..ClientAuth::default() };
        let mut facts = Facts { client, ..Facts::default() };
        facts.prove(proof);
        (facts.client, facts.verified)
    }

    #[test]
    fn a_certificate_the_wire_made_likely_is_proven() {
        let good = Proof { presented: None, good: true, ends: false };
        let (client, verified) = proven(ClientCertificate::Presented, good);
        assert_eq!((client.evidence, client.accepted, verified), (Evidence::Proven, Accepted::Yes, Some(true)));
        // Accepted at the TLS layer, and yet bad: nginx goes on and answers 400.
        let bad = Proof { good: false, ..good };
        let (client, verified) = proven(ClientCertificate::Presented, bad);
        assert_eq!((client.evidence, client.accepted, verified), (Evidence::Proven, Accepted::Yes, Some(false)));
    }

    #[test]
    fn nothing_against_no_certificate_proves_nothing() {
        let good = Proof { presented: None, good: true, ends: false };
        for certificate in [
            ClientCertificate::None,
            ClientCertificate::Empty,
            ClientCertificate::Undetermined,
            ClientCertificate::Resumed,
        ] {
            let (client, verified) = proven(certificate, good);
            assert_eq!((client.certificate, client.evidence, verified), (certificate, Evidence::Inferred, None));
            assert_eq!(client.accepted, Accepted::Unknown);
        }
    }

    #[test]
    fn the_library_is_believed_on_what_was_presented() {
        let refused = Proof { presented: Some(true), good: false, ends: true };
        let (client, verified) = proven(ClientCertificate::Undetermined, refused);
        assert_eq!(client.certificate, ClientCertificate::Presented);
        assert_eq!((client.evidence, client.accepted, verified), (Evidence::Proven, Accepted::No, Some(false)));
        let none = Proof { presented: Some(false), good: true, ends: false };
        let (client, verified) = proven(ClientCertificate::Presented, none);
        assert_eq!((client.certificate, client.evidence, verified), (ClientCertificate::Empty, Evidence::Proven, None));
    }
}
