//! Policy: from an attributed call to a [`Judgement`].
//!
//! The verdict is about the proof of identity, the outcome about what the callee did; neither is derived from the other:
//! - `unauthenticated` only where the whole head was seen and nothing in it counts as a proof.
//! - A credential that was seen is seen, also in a head that was cut: the verdict is then `authenticated` or `weak`. A
//!   malformed head is the exception, since servers may read it differently: `unknown`.
//! - `weak` as soon as one credential of the call has something against it, even if another has not: which of them the
//!   callee went by is not visible. A reusable secret in clear between nodes is something against it, too.

mod checks;
pub mod examples;
pub mod route;
pub mod rules;
mod settings;
mod tls;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use auditor_wire::{
    exchange::{self, Connection, Deviations, Exchange, Protocol, Request, Response, UnknownReason, Version},
    segment::Timestamp,
    tls::Facts,
};

use self::{checks::Call, tls::Handshake};
use crate::{
    attribution::Attributed,
    certificates::Reader,
    credentials::{Credential, Extractor, shape::shown_within},
    judgement::{
        Finding, Judgement, Kind, Outcome, Reporter, RequestFacts, ResponseFacts, Security, Transport, Verdict,
    },
};

pub use self::settings::{RuleSettings, Settings, TrustSettings};

/// Longest authority and server name that is shown, bytes.
const NAME_BYTES: usize = 255;

/// Judges calls and connections, each on its own.
#[derive(Debug)]
pub struct Judge {
    settings: Settings,
    extractor: Extractor,
    certificates: Reader,
    external_exchanges: AtomicU64,
    external_connections: AtomicU64,
}

impl Judge {
    /// A judge.
    #[must_use]
    pub fn new(settings: Settings, extractor: Extractor) -> Self {
        let certificates = Reader::new(&settings.trust.bundles);
        let (external_exchanges, external_connections) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { settings, extractor, certificates, external_exchanges, external_connections }
    }

    /// Calls and connections that were not judged because a party is outside the internal networks.
    #[must_use]
    pub fn external(&self) -> u64 {
        self.external_exchanges().saturating_add(self.external_connections())
    }

    /// Calls among [`Self::external`].
    #[must_use]
    pub fn external_exchanges(&self) -> u64 {
        self.external_exchanges.load(Ordering::Relaxed)
    }

    /// Connections among [`Self::external`].
    #[must_use]
    pub fn external_connections(&self) -> u64 {
        self.external_connections.load(Ordering::Relaxed)
    }

    /// Judges a call; `None` when a party is external, which is counted.
    #[must_use]
    pub fn exchange(&self, call: Attributed<Exchange>) -> Option<Judgement> {
        if !(call.source.internal && call.destination.internal) {
            self.external_exchanges.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let on_node = checks::on_node(&call);
        let Attributed { observed: exchange, source, destination } = call;
        let outcome = outcome(&exchange);
        let handshake = exchange.tls.as_deref().map(|facts| self.handshake(facts, exchange.time));
        let Proven { mut credentials, proof, unknown, mut findings } =
            self.proven(&exchange, on_node, outcome, handshake.as_ref());
        credentials.extend(handshake.as_ref().and_then(Handshake::credential).cloned());
        findings.extend(checks::cors(exchange.request.as_ref(), exchange.response.as_ref(), outcome));
        self.weigh(&mut findings);
        let (verdict, unknown_reason) = verdict(proof, unknown, exchange.request.is_some());
        Some(Judgement {
            kind: Kind::Exchange,
            time: time(exchange.time),
            reporter: reporter(exchange.reporter),
            source,
            destination,
            protocol: exchange.request.as_ref().map_or("unknown", protocol),
            request: exchange.request.map(request_facts),
            response: exchange.response.map(|response| ResponseFacts {
                status: response.status,
                grpc_status: response.grpc_status(),
                duration_seconds: exchange.duration.map(|duration| duration.as_secs_f64()),
            }),
            transport: handshake.map_or(bare(Security::Plaintext), Handshake::into_transport),
            credentials,
            verdict,
            unknown_reason: unknown_reason.map(UnknownReason::as_str),
            outcome,
            findings,
            deviations: deviations(exchange.deviations),
        })
    }

    /// What a call proves, by what is in its request and by the TLS connection that carried it.
    fn proven(
        &self,
        exchange: &Exchange,
        on_node: bool,
        outcome: Outcome,
        handshake: Option<&Handshake<'_>>,
    ) -> Proven {
        let mut proven =
            Proven { credentials: Vec::new(), proof: Proof::None, unknown: exchange.unknown, findings: Vec::new() };
        if let Some(handshake) = handshake.filter(|handshake| handshake.credential().is_some()) {
            let defects = handshake.defects();
            proven.proof = if self.weakens(&defects) { Proof::Weak } else { Proof::Sound };
            proven.findings = tls::inside(defects, outcome);
        }
        let Some(request) = &exchange.request else { return proven };
        let credentials = self.extractor.extract(request);
        let call = Call {
            settings: &self.settings,
            request,
            response: exchange.response.as_ref(),
            credentials: &credentials,
            outcome,
            in_clear: handshake.is_none() && !on_node,
            now: unix_seconds(exchange.time),
        };
        let defects = checks::credentials(&call);
        if credentials.iter().any(|credential| checks::counts(credential, request)) {
            proven.proof = if defects.weak || proven.proof == Proof::Weak { Proof::Weak } else { Proof::Sound };
        }
        proven.findings.extend(defects.findings);
        if proven.proof == Proof::None {
            if !self.extractor.looks_at_all(request, &credentials) {
                proven.unknown = proven.unknown.or(Some(UnknownReason::HeadTruncated));
            }
            proven.unknown = proven.unknown.or_else(|| handshake.and_then(Handshake::unknown));
            if proven.unknown.is_none() {
                proven.findings.extend(checks::unauthenticated(&call));
            }
        }
        proven.credentials = credentials;
        proven
    }

    fn handshake(&self, facts: &Facts, time: Timestamp) -> Handshake<'_> {
        Handshake::new(facts, &self.settings, &self.certificates, &self.extractor, unix_seconds(time))
    }

    /// Whether one of the findings is of a rule that is looked at.
    fn weakens(&self, findings: &[Finding]) -> bool {
        findings.iter().any(|finding| self.settings.severity(finding.rule, finding.severity).is_some())
    }

    /// Gives findings the severities of the settings and drops those of rules that are not looked at.
    fn weigh(&self, findings: &mut Vec<Finding>) {
        findings.retain_mut(|finding| match self.settings.severity(finding.rule, finding.severity) {
            Some(severity) => {
                finding.severity = severity;
                true
            }
            None => false,
        });
    }

    /// Judges a connection without readable calls. Of TLS it says what the client proved and whether the server went on; of
    /// any other its verdict is `unknown` and its outcome `unanswered`: what a callee did with what cannot be read is not known.
    ///
    /// `None` when a party is external, which is counted, and for an upgraded connection: its call is judged as an exchange.
    #[must_use]
    pub fn connection(&self, connection: Attributed<Connection>) -> Option<Judgement> {
        let Attributed { observed: connection, source, destination } = connection;
        if connection.protocol == Protocol::Upgraded {
            return None;
        }
        if !(source.internal && destination.internal) {
            self.external_connections.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let mut judgement = Judgement {
            kind: Kind::Connection,
            time: time(connection.time),
            reporter: reporter(connection.reporter),
            source,
            destination,
            protocol: "unknown",
            request: None,
            response: None,
            transport: bare(Security::Unknown),
            credentials: Vec::new(),
            verdict: Verdict::Unknown,
            unknown_reason: Some(UnknownReason::UnreadProtocol.as_str()),
            outcome: Outcome::Unanswered,
            findings: Vec::new(),
            deviations: Vec::new(),
        };
        match &connection.protocol {
            Protocol::Tls(facts) => self.tls(&mut judgement, self.handshake(facts, connection.time)),
            Protocol::Http2 => {
                (judgement.protocol, judgement.transport) = ("http/2", bare(Security::Plaintext));
                judgement.unknown_reason = Some(UnknownReason::Http2.as_str());
            }
            Protocol::Other | Protocol::Upgraded => {}
        }
        Some(judgement)
    }

    fn tls(&self, judgement: &mut Judgement, handshake: Handshake<'_>) {
        let weak = self.weakens(&handshake.defects());
        let (verdict, reason) = handshake.verdict(weak);
        judgement.protocol = "tls";
        (judgement.verdict, judgement.unknown_reason) = (verdict, reason.map(UnknownReason::as_str));
        judgement.outcome = handshake.outcome();
        judgement.findings = handshake.findings();
        self.weigh(&mut judgement.findings);
        judgement.credentials.extend(handshake.credential().cloned());
        judgement.transport = handshake.into_transport();
    }
}

/// What a call proves.
struct Proven {
    /// Those in its request.
    credentials: Vec<Credential>,
    proof: Proof,
    /// Why it may prove more than was seen.
    unknown: Option<UnknownReason>,
    findings: Vec<Finding>,
}

/// What the credentials of a call prove together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// None counts as a proof to the callee.
    None,
    /// One counts, and something is against one of them.
    Weak,
    /// One counts, and nothing is against any.
    Sound,
}

fn verdict(proof: Proof, unknown: Option<UnknownReason>, request_seen: bool) -> (Verdict, Option<UnknownReason>) {
    match (unknown, proof) {
        (Some(UnknownReason::Malformed), _) => (Verdict::Unknown, unknown),
        (_, Proof::Weak) => (Verdict::Weak, None),
        (_, Proof::Sound) => (Verdict::Authenticated, None),
        (Some(_), Proof::None) => (Verdict::Unknown, unknown),
        (None, Proof::None) if request_seen => (Verdict::Unauthenticated, None),
        (None, Proof::None) => (Verdict::Unknown, Some(UnknownReason::MidStream)),
    }
}

/// A call of gRPC has the outcome of its own status (<https://grpc.github.io/grpc/core/md_doc_statuscodes.html>: 7 is permission
/// denied, 16 unauthenticated), where that was seen.
fn outcome(exchange: &Exchange) -> Outcome {
    // Of a head that is not known whole the type may be what is missing.
    let grpc = exchange.unknown.is_some() || exchange.request.as_ref().is_none_or(Request::is_grpc);
    let code = exchange.response.as_ref().filter(|_| grpc).and_then(Response::grpc_status);
    match (exchange.response.as_ref().map(|response| response.status), code) {
        (None, _) => Outcome::Unanswered,
        (Some(401 | 403 | 407), _) | (_, Some(7 | 16)) => Outcome::Refused,
        (Some(100..=399), None | Some(0)) => Outcome::Accepted,
        (Some(_), _) => Outcome::Failed,
    }
}

/// The `protocol` of a call.
fn protocol(request: &Request) -> &'static str {
    match request.version {
        _ if request.is_grpc() => "grpc",
        Version::Http1(0) => "http/1.0",
        Version::Http1(_) => "http/1.1",
        Version::Http2 => "http/2",
    }
}

fn request_facts(request: Request) -> RequestFacts {
    let route = if request.is_grpc() { route::method(&request.path) } else { route::route(&request.path) };
    let plain = |name: &str| name.len() <= NAME_BYTES && name.bytes().all(|byte| byte.is_ascii_graphic());
    RequestFacts {
        method: if plain(&request.method) { request.method } else { shown_within(&request.method, NAME_BYTES) },
        authority: request.authority.map(|name| if plain(&name) { name } else { shown_within(&name, NAME_BYTES) }),
        path: route::shown_path(request.path),
        route,
    }
}

fn deviations(deviations: Deviations) -> Vec<&'static str> {
    let Deviations {
        bare_lf,
        length_and_chunked,
        conflicting_length,
        odd_transfer_encoding,
        folded_header,
        space_before_colon,
        leading_garbage,
    } = deviations;
    [
        (bare_lf, "bare-lf"),
        (length_and_chunked, "length-and-chunked"),
        (conflicting_length, "conflicting-length"),
        (odd_transfer_encoding, "odd-transfer-encoding"),
        (folded_header, "folded-header"),
        (space_before_colon, "space-before-colon"),
        (leading_garbage, "leading-garbage"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect()
}

fn reporter(reporter: exchange::Reporter) -> Reporter {
    match reporter {
        exchange::Reporter::Source => Reporter::Source,
        exchange::Reporter::Destination => Reporter::Destination,
    }
}

fn bare(security: Security) -> Transport {
    Transport { security, tls: None }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn unix_seconds(time: Timestamp) -> i64 {
    i64::try_from(time.0 / 1_000_000_000).unwrap_or(i64::MAX)
}

/// Records carry microseconds.
fn time(time: Timestamp) -> jiff::Timestamp {
    i64::try_from(time.0 / 1000)
        .ok()
        .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok())
        .unwrap_or_default()
}
