//! One entry: a call or connection as it was before judging, as JSON, with every secret masked.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use auditor_wire::{
    exchange::{Connection, Deviations, End, Exchange, Protocol, Reporter, Request, UnknownReason, Version},
    http1::head,
    segment::{Endpoints, SocketId, Timestamp},
    tls::Facts,
};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::{Recorded, tls_facts};
use crate::{
    attribution::Attributed,
    credentials::{Checked, FingerprintKey, redact::redact_head},
    judgement::{Address, Container, Party, Process},
};

/// What stands in an entry.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    Exchange(Box<ExchangeEntry>),
    Connection(Box<ConnectionEntry>),
}

#[derive(Debug, Serialize, Deserialize)]
struct ExchangeEntry {
    #[serde(flatten)]
    ends: Ends,
    request: Option<HeadEntry>,
    response: Option<HeadEntry>,
    duration_ns: Option<u64>,
    #[serde(with = "unknown_reason")]
    unknown: Option<UnknownReason>,
    #[serde(with = "DeviationsEntry")]
    deviations: Deviations,
    /// It was HTTP/2; its heads have the form of HTTP/1.1.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    http2: bool,
    #[serde(default, with = "tls_facts::optional", skip_serializing_if = "Option::is_none")]
    tls: Option<Box<Facts>>,
    /// What was found out about the credentials before they were masked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    checked: Vec<Checked>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ConnectionEntry {
    #[serde(flatten)]
    ends: Ends,
    #[serde(with = "ProtocolEntry")]
    protocol: Protocol,
}

/// What calls and connections have in common.
#[derive(Debug, Serialize, Deserialize)]
struct Ends {
    time_ns: u64,
    #[serde(with = "ReporterEntry")]
    reporter: Reporter,
    wire: (SocketAddr, SocketAddr),
    source: EndEntry,
    destination: EndEntry,
}

/// One end: where it is and who it is.
#[derive(Debug, Serialize, Deserialize)]
struct EndEntry {
    address: SocketAddr,
    /// The socket, when this end was observed.
    socket: Option<u64>,
    party: PartyEntry,
}

#[derive(Debug, Serialize, Deserialize)]
struct PartyEntry {
    /// `null` where it is an end of an `AF_UNIX` socket.
    address: Address,
    port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unix_path: Option<Arc<str>>,
    internal: bool,
    process: Option<ProcessEntry>,
    container: Option<Box<str>>,
    workload: Option<Arc<str>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProcessEntry {
    pid: u32,
    command: Box<str>,
    executable: Option<Box<str>>,
    arguments: Option<Box<str>>,
    user: Option<u32>,
}

/// A head: its bytes with the secrets masked, and its TCP sequence number.
#[derive(Debug, Serialize, Deserialize)]
struct HeadEntry {
    sequence: u32,
    bytes: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Reporter", rename_all = "snake_case")]
enum ReporterEntry {
    Source,
    Destination,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Protocol", rename_all = "snake_case")]
enum ProtocolEntry {
    Tls(#[serde(with = "tls_facts")] Box<Facts>),
    Http2,
    Upgraded,
    Other,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Deviations")]
struct DeviationsEntry {
    bare_lf: bool,
    length_and_chunked: bool,
    conflicting_length: bool,
    odd_transfer_encoding: bool,
    folded_header: bool,
    space_before_colon: bool,
    leading_garbage: bool,
}

/// The reason by its name.
mod unknown_reason {
    use auditor_wire::exchange::UnknownReason;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) const ALL: [UnknownReason; 13] = [
        UnknownReason::Capacity,
        UnknownReason::ConnectionAuthenticated,
        UnknownReason::Encrypted,
        UnknownReason::Gap,
        UnknownReason::HeadTruncated,
        UnknownReason::HpackLost,
        UnknownReason::Http2,
        UnknownReason::Malformed,
        UnknownReason::MidStream,
        UnknownReason::PeerCredentials,
        UnknownReason::ResumedTls,
        UnknownReason::UndeterminedTls,
        UnknownReason::UnreadProtocol,
    ];

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(reason: &Option<UnknownReason>, serializer: S) -> Result<S::Ok, S::Error> {
        reason.map(UnknownReason::as_str).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UnknownReason>, D::Error> {
        let Some(name) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let known = ALL.into_iter().find(|reason| reason.as_str() == name);
        known.map(Some).ok_or_else(|| D::Error::custom("unknown reason"))
    }
}

/// A call with its secrets masked, before it is known what was found out about them.
#[derive(Debug)]
pub(super) struct Masked(Box<ExchangeEntry>);

impl Masked {
    /// The bytes of the entry.
    pub(super) fn finish(mut self, checked: Vec<Checked>) -> serde_json::Result<Vec<u8>> {
        self.0.checked = checked;
        serde_json::to_vec(&Entry::Exchange(self.0))
    }
}

/// Masks a call.
pub(super) fn exchange(call: &Attributed<Exchange>, key: &FingerprintKey) -> Masked {
    let Attributed { observed, source, destination } = call;
    let ends = Ends {
        time_ns: observed.time.0,
        reporter: observed.reporter,
        wire: (observed.wire.local, observed.wire.remote),
        source: EndEntry::new(&observed.source, source),
        destination: EndEntry::new(&observed.destination, destination),
    };
    let request = observed.request.as_ref();
    let response = observed.response.as_ref();
    Masked(Box::new(ExchangeEntry {
        ends,
        request: request.map(|request| HeadEntry::new(request.head.bytes(), request.sequence, key)),
        response: response.map(|response| HeadEntry::new(response.head.bytes(), response.sequence, key)),
        duration_ns: observed.duration.and_then(|duration| u64::try_from(duration.as_nanos()).ok()),
        unknown: observed.unknown,
        deviations: observed.deviations,
        http2: request.is_some_and(|request| request.version == Version::Http2),
        tls: observed.tls.clone(),
        checked: Vec::new(),
    }))
}

/// The bytes of an entry for a connection.
pub(super) fn connection(connection: &Attributed<Connection>) -> serde_json::Result<Vec<u8>> {
    let Attributed { observed, source, destination } = connection;
    let ends = Ends {
        time_ns: observed.time.0,
        reporter: observed.reporter,
        wire: (observed.wire.local, observed.wire.remote),
        source: EndEntry::new(&observed.source, source),
        destination: EndEntry::new(&observed.destination, destination),
    };
    let entry = ConnectionEntry { ends, protocol: observed.protocol.clone() };
    serde_json::to_vec(&Entry::Connection(Box::new(entry)))
}

/// What an entry says; the reason when it says nothing that makes sense.
pub(super) fn read(bytes: &[u8]) -> Result<Recorded, &'static str> {
    match serde_json::from_slice(bytes).map_err(|_| "is not an entry of this version")? {
        Entry::Exchange(entry) => entry.restore(),
        Entry::Connection(entry) => {
            let (wire, source, destination) = entry.ends.restore();
            let observed = Connection {
                reporter: entry.ends.reporter,
                source: source.0,
                destination: destination.0,
                wire,
                time: Timestamp(entry.ends.time_ns),
                protocol: entry.protocol,
            };
            let attributed = Attributed { observed, source: source.1, destination: destination.1 };
            Ok(Recorded::Connection(Box::new(attributed)))
        }
    }
}

impl ExchangeEntry {
    /// Heads are read anew from their bytes, by the parser that reads them live.
    fn restore(self) -> Result<Recorded, &'static str> {
        let (wire, source, destination) = self.ends.restore();
        let request = match self.request {
            Some(entry) => {
                let sequence = entry.sequence;
                let head = head::request(entry.decode()?, sequence).ok_or("has a request that cannot be read")?;
                let version = if self.http2 { Version::Http2 } else { head.request.version };
                Some(Request { version, ..head.request })
            }
            None => None,
        };
        let response = match self.response {
            Some(entry) => {
                let sequence = entry.sequence;
                let head = head::response(entry.decode()?, sequence).ok_or("has a response that cannot be read")?;
                Some(head.response)
            }
            None => None,
        };
        let observed = Exchange {
            reporter: self.ends.reporter,
            source: source.0,
            destination: destination.0,
            wire,
            time: Timestamp(self.ends.time_ns),
            request,
            response,
            duration: self.duration_ns.map(Duration::from_nanos),
            unknown: self.unknown,
            deviations: self.deviations,
            tls: self.tls,
            passed_over: 0,
            repeatable: None,
        };
        let attributed = Attributed { observed, source: source.1, destination: destination.1 };
        Ok(Recorded::Exchange(Box::new(attributed), self.checked))
    }
}

impl HeadEntry {
    fn new(head: &[u8], sequence: u32, key: &FingerprintKey) -> Self {
        let mut masked = head.to_vec();
        redact_head(&mut masked, key);
        let bytes = STANDARD_NO_PAD.encode(&masked);
        masked.zeroize();
        Self { sequence, bytes }
    }

    fn decode(self) -> Result<Vec<u8>, &'static str> {
        STANDARD_NO_PAD.decode(self.bytes).map_err(|_| "has a head that is not base64")
    }
}

impl Ends {
    fn restore(&self) -> (Endpoints, (End, Party), (End, Party)) {
        let wire = Endpoints { local: self.wire.0, remote: self.wire.1 };
        (wire, self.source.restore(), self.destination.restore())
    }
}

impl EndEntry {
    fn new(end: &End, party: &Party) -> Self {
        let process = party.process.as_deref().map(|process| ProcessEntry {
            pid: process.pid,
            command: process.command.clone(),
            executable: process.executable.clone(),
            arguments: process.arguments.clone(),
            user: process.user,
        });
        let party = PartyEntry {
            address: party.address,
            port: party.port,
            unix_path: party.unix_path.clone(),
            internal: party.internal,
            process,
            container: party.container.as_deref().map(|container| container.id.clone()),
            workload: party.workload.clone(),
        };
        Self { address: end.address, socket: end.socket.map(|socket| socket.0), party }
    }

    fn restore(&self) -> (End, Party) {
        let end =
            End { address: self.address, socket: self.socket.map(SocketId), owner: None, cgroup: None, netns: None };
        let process = self.party.process.as_ref().map(|process| {
            Arc::new(Process {
                pid: process.pid,
                command: process.command.clone(),
                executable: process.executable.clone(),
                arguments: process.arguments.clone(),
                user: process.user,
            })
        });
        let party = Party {
            address: self.party.address,
            port: self.party.port,
            unix_path: self.party.unix_path.clone(),
            internal: self.party.internal,
            process,
            container: self.party.container.clone().map(|id| Arc::new(Container { id })),
            workload: self.party.workload.clone(),
        };
        (end, party)
    }
}
