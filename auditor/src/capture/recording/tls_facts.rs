//! What is known of a TLS connection, as an entry has it. The client's random stays out: it ties a connection to what a
//! library tells of it while both are seen, and to nothing later.

use auditor_wire::tls::{Accepted, ClientAuth, ClientCertificate, Evidence, Facts, Version};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Everything has a default: recordings of before it was there stay readable.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct FactsEntry {
    version: Option<u16>,
    suite: Option<u16>,
    sni: Option<Box<str>>,
    alpn: Vec<Box<str>>,
    resumed: Option<bool>,
    requested: Option<bool>,
    #[serde(with = "ClientCertificateEntry")]
    certificate: ClientCertificate,
    #[serde(with = "AcceptedEntry")]
    accepted: Accepted,
    #[serde(with = "EvidenceEntry")]
    evidence: Evidence,
    inherited: Option<bool>,
    refused: Option<Refused>,
    verified: Option<bool>,
    /// DER in base64, leaf first.
    client_chain: Vec<String>,
    /// DER in base64, leaf first.
    server_chain: Vec<String>,
    chain_cut: bool,
}

/// What the client had given when the server ended the handshake.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Refused(#[serde(with = "ClientCertificateEntry")] ClientCertificate);

#[derive(Serialize, Deserialize)]
#[serde(remote = "ClientCertificate", rename_all = "snake_case")]
enum ClientCertificateEntry {
    None,
    Empty,
    Presented,
    Resumed,
    Rejected,
    Undetermined,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Accepted", rename_all = "snake_case")]
enum AcceptedEntry {
    Yes,
    No,
    Unknown,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Evidence", rename_all = "snake_case")]
enum EvidenceEntry {
    Proven,
    Inferred,
    Inherited,
    Unknown,
}

impl FactsEntry {
    fn new(facts: &Facts) -> Self {
        let encoded = |chain: &[Box<[u8]>]| chain.iter().map(|der| STANDARD_NO_PAD.encode(der)).collect();
        Self {
            version: facts.version.map(|version| version.0),
            suite: facts.suite,
            sni: facts.sni.clone(),
            alpn: facts.alpn.clone(),
            resumed: facts.resumed,
            requested: facts.requested,
            certificate: facts.client.certificate,
            accepted: facts.client.accepted,
            evidence: facts.client.evidence,
            inherited: facts.client.inherited,
            refused: facts.refused.map(Refused),
            verified: facts.verified,
            client_chain: encoded(&facts.client_chain),
            server_chain: encoded(&facts.server_chain),
            chain_cut: facts.chain_cut,
        }
    }

    fn restore<E: Error>(self) -> Result<Box<Facts>, E> {
        let decoded = |chain: Vec<String>| {
            let decode = |text: String| STANDARD_NO_PAD.decode(text).map(Vec::into_boxed_slice);
            chain
                .into_iter()
                .map(decode)
                .collect::<Result<_, _>>()
                .map_err(|_| E::custom("a certificate is not base64"))
        };
        Ok(Box::new(Facts {
            version: self.version.map(Version),
            suite: self.suite,
            sni: self.sni,
            alpn: self.alpn,
            resumed: self.resumed,
            requested: self.requested,
            client: ClientAuth {
                certificate: self.certificate,
                accepted: self.accepted,
                evidence: self.evidence,
                inherited: self.inherited,
            },
            refused: self.refused.map(|Refused(given)| given),
            verified: self.verified,
            client_chain: decoded(self.client_chain)?,
            server_chain: decoded(self.server_chain)?,
            chain_cut: self.chain_cut,
            client_random: None,
        }))
    }
}

pub(super) fn serialize<S: Serializer>(facts: &Facts, serializer: S) -> Result<S::Ok, S::Error> {
    FactsEntry::new(facts).serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<Facts>, D::Error> {
    FactsEntry::deserialize(deserializer)?.restore()
}

/// The same where there may be none.
pub(super) mod optional {
    use super::{Deserialize, Deserializer, Facts, FactsEntry, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(in super::super) fn serialize<S: Serializer>(
        facts: &Option<Box<Facts>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        facts.as_deref().map(FactsEntry::new).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Box<Facts>>, D::Error> {
        Option::<FactsEntry>::deserialize(deserializer)?.map(FactsEntry::restore).transpose()
    }
}
