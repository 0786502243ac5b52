//! How the bytes travelled, and what was proven at the TLS layer.

use std::{net::IpAddr, sync::Arc};

use auditor_wire::tls::{Accepted, ClientCertificate, Evidence};
use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::certificates::{Chain, Trust};

/// How the bytes travelled.
#[derive(Clone, Debug)]
pub struct Transport {
    /// Protection on the wire.
    pub security: Security,
    /// What is known of the TLS connection; `None` where there is none.
    pub tls: Option<Box<Tls>>,
}

/// Protection on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// None.
    Plaintext,
    /// TLS, server authenticated at most.
    Tls,
    /// TLS with a client certificate that was accepted at the TLS layer.
    Mtls,
    /// Not known.
    Unknown,
}

/// What is known of a TLS connection. What is not known is `null` in records.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Version the server chose: `TLS 1.3`.
    pub version: Option<Box<str>>,
    /// Cipher suite the server chose, by its IANA name, or its number in hexadecimal digits where it has none.
    pub cipher_suite: Option<Box<str>>,
    /// Server name.
    pub sni: Option<Box<str>>,
    /// Protocols the client offered; empty where it offered none or that was not seen.
    pub alpn: Vec<Box<str>>,
    /// The session was resumed.
    pub resumed: Option<bool>,
    /// What the client did to prove who it is.
    pub client: ClientProof,
    /// The client's certificate, where it was visible.
    pub client_chain: Option<Arc<Chain>>,
    /// The server's certificate, where it was visible.
    pub server_chain: Option<Arc<Chain>>,
}

/// What the client did to prove who it is, and what the server made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientProof {
    /// What the client did.
    pub outcome: ClientCertificate,
    /// Whether it sent a certificate in this handshake.
    pub presented: Option<bool>,
    /// Whether the server asked for one.
    pub requested: Option<bool>,
    /// Whether the server went on, at the TLS layer.
    pub accepted: Accepted,
    /// How sure that is.
    pub evidence: Evidence,
    /// For a resumed session: whether the client had given a certificate when it began.
    pub inherited: Option<bool>,
    /// For a handshake that the server ended: what the client had given.
    pub refused: Option<ClientCertificate>,
    /// Whether the server's library found the certificate good; `None` where no library told.
    pub verified: Option<bool>,
}

impl ClientProof {
    /// The client is known at the TLS layer: it gave a certificate and the server went on, in this handshake or in the one
    /// in which the session began.
    #[must_use]
    pub fn identifies(&self) -> bool {
        self.accepted == Accepted::Yes
            && match self.outcome {
                ClientCertificate::Presented => true,
                ClientCertificate::Resumed => {
                    self.inherited == Some(true) && matches!(self.evidence, Evidence::Inherited | Evidence::Proven)
                }
                _ => false,
            }
    }

    /// The handshake shows that the client gave no certificate.
    #[must_use]
    pub fn gave_none(&self) -> bool {
        matches!(self.outcome, ClientCertificate::None | ClientCertificate::Empty)
    }

    /// The server asked for a certificate, got none and ended the handshake: it serves nobody without.
    #[must_use]
    pub fn turned_away_without(&self) -> bool {
        match self.outcome {
            ClientCertificate::Rejected => self.refused == Some(ClientCertificate::Empty),
            ClientCertificate::Empty => self.accepted == Accepted::No,
            ClientCertificate::None => self.accepted == Accepted::No && self.requested == Some(true),
            _ => false,
        }
    }
}

impl Serialize for Transport {
    /// Written out by hand: which fields there are depends on whether there is TLS.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(tls) = &self.tls else {
            let mut record = serializer.serialize_struct("Transport", 1)?;
            record.serialize_field("security", &self.security)?;
            return record.end();
        };
        let mut record = serializer.serialize_struct("Transport", 8)?;
        record.serialize_field("security", &self.security)?;
        record.serialize_field("version", &tls.version)?;
        record.serialize_field("cipher_suite", &tls.cipher_suite)?;
        record.serialize_field("sni", &tls.sni)?;
        record.serialize_field("alpn", &(!tls.alpn.is_empty()).then_some(&tls.alpn))?;
        record.serialize_field("resumed", &tls.resumed)?;
        let identity = tls.client_chain.as_deref().map(CertificateRecord::of);
        record.serialize_field("client_certificate", &ClientRecord { proof: &tls.client, identity })?;
        record.serialize_field("server_certificate", &tls.server_chain.as_deref().map(CertificateRecord::of))?;
        record.end()
    }
}

/// `transport.client_certificate` of a record.
struct ClientRecord<'a> {
    proof: &'a ClientProof,
    identity: Option<CertificateRecord<'a>>,
}

impl Serialize for ClientRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let &ClientProof { outcome, presented, requested, accepted, evidence, inherited, refused, verified } =
            self.proof;
        let identity = self.identity.as_ref();
        let mut record = serializer.serialize_struct("ClientCertificate", 17)?;
        record.serialize_field("outcome", outcome.as_str())?;
        record.serialize_field("presented", &presented)?;
        record.serialize_field("requested", &requested)?;
        record.serialize_field("accepted", accepted.as_str())?;
        record.serialize_field("evidence", evidence.as_str())?;
        record.serialize_field("inherited", &inherited)?;
        record.serialize_field("refused", &refused.map(ClientCertificate::as_str))?;
        record.serialize_field("verified", &verified)?;
        match identity {
            Some(identity) => identity.fields(&mut record)?,
            None => {
                for field in CertificateRecord::FIELDS {
                    record.serialize_field(field, &None::<&str>)?;
                }
            }
        }
        record.end()
    }
}

/// What records say of a certificate.
struct CertificateRecord<'a> {
    chain: &'a Chain,
}

impl<'a> CertificateRecord<'a> {
    /// What it has; of a client all is `null` where its certificate was not visible.
    const FIELDS: [&'static str; 9] =
        ["subject", "issuer", "spiffe_id", "not_before", "not_after", "names", "key", "self_signed", "trusted"];

    fn of(chain: &'a Chain) -> Self {
        Self { chain }
    }

    fn fields<T: SerializeStruct>(&self, record: &mut T) -> Result<(), T::Error> {
        let leaf = &self.chain.leaf;
        record.serialize_field("subject", &leaf.subject)?;
        record.serialize_field("issuer", &leaf.issuer)?;
        record.serialize_field("spiffe_id", &leaf.spiffe_id.as_ref().map(crate::certificates::SpiffeId::as_str))?;
        record.serialize_field("not_before", &Second(leaf.not_before))?;
        record.serialize_field("not_after", &Second(leaf.not_after))?;
        record
            .serialize_field("names", &Names { dns: &leaf.dns_names, uris: &leaf.uris, addresses: &leaf.addresses })?;
        record.serialize_field("key", &Key { kind: leaf.key_kind, bits: leaf.key_bits })?;
        record.serialize_field("self_signed", &leaf.self_signed)?;
        let trusted = match self.chain.trust {
            Trust::Trusted => Some(true),
            Trust::Untrusted(_) => Some(false),
            Trust::Unknown => None,
        };
        record.serialize_field("trusted", &trusted)
    }
}

impl Serialize for CertificateRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut record = serializer.serialize_struct("Certificate", 9)?;
        self.fields(&mut record)?;
        record.end()
    }
}

/// Subject alternative names, by kind.
#[derive(Serialize)]
struct Names<'a> {
    dns: &'a [Box<str>],
    uris: &'a [Box<str>],
    addresses: &'a [IpAddr],
}

#[derive(Serialize)]
struct Key {
    kind: &'static str,
    bits: Option<u32>,
}

/// RFC 3339 to the second, as certificates have it; `null` for what no calendar has.
struct Second(i64);

impl Serialize for Second {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        jiff::Timestamp::from_second(self.0).ok().serialize(serializer)
    }
}
