//! The [`Judgement`]: what is said of one call or connection. It is what sinks get and, serialised, the record of the JSON
//! Lines contract. It holds no secret.

mod decision;
mod party;
mod transport;

use std::sync::Arc;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::credentials::Credential;

use self::decision::DecisionRecord;
pub use self::{
    decision::{Policed, Reason, Waived, WaiverNote},
    party::{Address, Party},
    transport::{ClientProof, Security, Tls, Transport},
};

/// What is said of one call or connection.
///
/// Serialised, an exchange always has `request` and `response`, `null` when they were not seen; a connection has neither.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// Call or connection.
    pub kind: Kind,
    /// When the call began; RFC 3339 with microseconds, UTC.
    pub time: jiff::Timestamp,
    /// The end that was observed.
    pub reporter: Reporter,
    /// Who called.
    pub source: Party,
    /// Who was called.
    pub destination: Party,
    /// `http/1.0`, `http/1.1`, `http/2`, `grpc`, `grpc-web`, `connect`, `tls`, `unknown`.
    pub protocol: &'static str,
    /// The request; `None` when it was not seen, and for connections.
    pub request: Option<RequestFacts>,
    /// The response; `None` while unanswered, and for connections.
    pub response: Option<ResponseFacts>,
    /// How the bytes travelled.
    pub transport: Transport,
    /// Proofs of identity that came with the call.
    pub credentials: Vec<Credential>,
    /// Whether the caller proved who it is.
    pub verdict: Verdict,
    /// Why the verdict is `unknown`.
    pub unknown_reason: Option<&'static str>,
    /// What the callee did with it.
    pub outcome: Outcome,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
    /// Ways in which the message bent HTTP's rules, e.g. `length-and-chunked`; left out of the record when there are none.
    pub deviations: Vec<&'static str>,
    /// What the policy had to say: `decision.route`, and `waived`, which is left out of the record where nothing is.
    pub policy: Policed,
    /// How calls like it are sampled; `None` and left out of the record where all are judged.
    pub sampling: Option<Sampling>,
}

/// What is judged of calls that repeat, and what is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sampling {
    /// Of so many calls that repeat on a connection one is judged.
    pub one_of: u32,
    /// Calls before this one on its connection that were passed over since one was judged: byte for byte the same as that one.
    pub passed_over: u32,
}

impl Judgement {
    /// Wipes the private claims that were left for a recording.
    pub fn forget_claims(&mut self) {
        self.credentials.iter_mut().for_each(|credential| credential.custom = None);
    }
}

/// What a [`Judgement`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One request and its response.
    Exchange,
    /// A connection without readable exchanges.
    Connection,
}

/// The end that was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reporter {
    /// The caller's end.
    Source,
    /// The callee's end.
    Destination,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Thread group in the initial pid namespace.
    pub pid: u32,
    /// The kernel's name of it.
    pub command: Box<str>,
    /// Path of its executable, as seen in its mount namespace.
    pub executable: Option<Box<str>>,
    /// Command line with values that look like secrets redacted, cut at 256 bytes.
    pub arguments: Option<Box<str>>,
    /// Numeric user id.
    pub user: Option<u32>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Container {
    /// Id the runtime gave.
    pub id: Box<str>,
}

/// What is shown of a request.
#[derive(Clone, Debug, Serialize)]
pub struct RequestFacts {
    /// Method.
    pub method: Box<str>,
    /// Host it was sent to, by its own word.
    pub authority: Option<Box<str>>,
    /// Path without its query.
    pub path: Box<str>,
    /// Path with its variable parts replaced: low cardinality.
    pub route: Box<str>,
    /// Names of its headers with commas between, where there are findings: evidence shows them, the record does not.
    #[serde(skip)]
    pub header_names: Option<Arc<str>>,
}

/// What is shown of a response.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ResponseFacts {
    /// Status code.
    pub status: u16,
    /// Status of a gRPC call; left out of the record of any other, and where it was not seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u16>,
    /// First request byte to first response byte, seconds; `None` when the request was not seen.
    pub duration_seconds: Option<f64>,
}

/// Whether the caller proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It did.
    Authenticated,
    /// There is a credential, and a rule says why it does not suffice.
    Weak,
    /// The whole head was seen and held no credential, and the transport carries no client identity.
    Unauthenticated,
    /// A waiver matches.
    Exempt,
    /// Not known; the reason says why.
    Unknown,
}

/// What the callee did with the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// 1xx to 3xx, and of a gRPC call status 0; of a TLS connection, the server went on after the handshake.
    Accepted,
    /// 401, 403, 407, and of a gRPC call status 7 and 16; of a TLS connection, the handshake was ended.
    Refused,
    /// Any other 4xx or 5xx, and any other status of a gRPC call.
    Failed,
    /// No response was seen; of a connection, it is not known.
    Unanswered,
}

/// Something wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Id of the rule.
    pub rule: &'static str,
    /// How bad.
    pub severity: Severity,
    /// What was seen; no secret.
    pub detail: Box<str>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

impl Serialize for Judgement {
    /// Written out by hand because which fields there are depends on `kind`, and derives cannot see that.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let exchange = self.kind == Kind::Exchange;
        let waived = &self.policy.waived;
        let fields = 12
            + if exchange { 2 } else { 0 }
            + usize::from(!self.deviations.is_empty())
            + usize::from(!waived.is_empty())
            + usize::from(self.sampling.is_some());
        let mut record = serializer.serialize_struct("Judgement", fields)?;
        record.serialize_field("kind", &self.kind)?;
        record.serialize_field("time", &Microseconds(self.time))?;
        record.serialize_field("reporter", &self.reporter)?;
        record.serialize_field("source", &self.source)?;
        record.serialize_field("destination", &self.destination)?;
        record.serialize_field("protocol", self.protocol)?;
        if exchange {
            record.serialize_field("request", &self.request)?;
            record.serialize_field("response", &self.response)?;
        }
        record.serialize_field("transport", &self.transport)?;
        record.serialize_field("credentials", &self.credentials)?;
        record.serialize_field("verdict", &self.verdict)?;
        record.serialize_field("unknown_reason", &self.unknown_reason)?;
        record.serialize_field("outcome", &self.outcome)?;
        record.serialize_field("findings", &self.findings)?;
        record.serialize_field("decision", &DecisionRecord(self))?;
        if !waived.is_empty() {
            record.serialize_field("waived", waived)?;
        }
        if !self.deviations.is_empty() {
            record.serialize_field("deviations", &self.deviations)?;
        }
        if let Some(sampling) = &self.sampling {
            record.serialize_field("sampling", sampling)?;
        }
        record.end()
    }
}

/// RFC 3339 with exactly six digits after the point, so that records sort as text.
struct Microseconds(jiff::Timestamp);

impl Serialize for Microseconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.6}", self.0))
    }
}

macro_rules! names {
    ($type:ty { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $type {
            /// The word that records and metric labels carry.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

names!(Reporter { Source => "source", Destination => "destination" });
names!(Security { Plaintext => "plaintext", Tls => "tls", Mtls => "mtls", Unknown => "unknown" });
names!(Verdict {
    Authenticated => "authenticated", Weak => "weak", Unauthenticated => "unauthenticated", Exempt => "exempt",
    Unknown => "unknown",
});
names!(Outcome { Accepted => "accepted", Refused => "refused", Failed => "failed", Unanswered => "unanswered" });
names!(Severity { Info => "info", Low => "low", Medium => "medium", High => "high", Critical => "critical" });
