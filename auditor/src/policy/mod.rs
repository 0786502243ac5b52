//! Policy: from an attributed call to a [`Judgement`].
//!
//! The verdict is about the proof of identity, the outcome about what the callee did; neither is derived from the other:
//! - `unauthenticated` only where the whole head was seen and nothing in it counts as a proof.
//! - A credential that was seen is seen, also in a head that was cut: the verdict is then `authenticated` or `weak`. A
//!   malformed head is the exception, since servers may read it differently: `unknown`.
//! - `weak` as soon as one credential of the call has something against it, even if another has not: which of them the
//!   callee went by is not visible. A reusable secret in clear between nodes is something against it, too.

mod checks;
mod connections;
mod crosscall;
pub mod examples;
mod header_names;
mod learned;
mod measure;
mod proofs;
pub mod route;
mod routes;
pub mod rulebook;
pub mod rules;
mod settings;
mod tls;
pub mod unix;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use auditor_wire::{
    exchange::{
        self, Connection, Deviations, Exchange, Procedure, Protocol, Request, Response, UnknownReason, Version,
    },
    segment::Timestamp,
};

use self::{
    crosscall::{CrossCall, Seen},
    header_names::HeaderNames,
    measure::{Circumstances, Measure, Weighed},
    routes::Routes,
    rulebook::Rulebook,
    tls::Handshake,
};
use crate::{
    attribution::Attributed,
    credentials::{Checked, Credential, Extractor, shape::shown_within},
    judgement::{
        Finding, Judgement, Kind, Outcome, Party, Policed, Process, Reporter, RequestFacts, ResponseFacts, Security,
        Severity, Transport, Verdict,
    },
};

pub use self::{
    crosscall::{
        CredentialState, EdgeState, Held, PeerState, Reach, SECTION as CROSS_CALLS,
        SECTION_VERSION as CROSS_CALLS_VERSION, Settings as CrossCallSettings, State as CrossCallState, WorkloadState,
    },
    routes::Template,
    settings::{RuleSettings, Settings, TrustSettings},
};

/// Longest authority and server name that is shown, bytes.
const NAME_BYTES: usize = 255;

/// Judges calls and connections, by themselves and by those before them.
#[derive(Debug)]
pub struct Judge {
    measure: Measure,
    crosscall: CrossCall,
    routes: Routes,
    header_names: HeaderNames,
    external_exchanges: AtomicU64,
    external_connections: AtomicU64,
}

impl Judge {
    /// A judge.
    #[must_use]
    pub fn new(settings: Settings, extractor: Extractor) -> Self {
        let (external_exchanges, external_connections) = (AtomicU64::new(0), AtomicU64::new(0));
        let (crosscall, routes) = (CrossCall::new(settings.cross_call), Routes::new(&settings.templates));
        let measure = Measure::new(settings, extractor);
        let header_names = HeaderNames::new();
        Self { measure, crosscall, routes, header_names, external_exchanges, external_connections }
    }

    /// Takes another policy. What waivers of the same name have waived goes on being counted.
    pub fn set_policy(&mut self, mut rulebook: Rulebook) {
        rulebook.take_counts_of(&self.measure.rulebook);
        self.measure.rulebook = rulebook;
        self.measure.want_claims();
    }

    /// Leaves these claims of tokens, by name, with the credentials of each judgement, for a recording to keep: whoever takes a
    /// judgement has to remove them ([`Judgement::forget_claims`]) before it goes on.
    pub fn leave_claims(&mut self, names: Arc<[Arc<str>]>) {
        self.measure.recorded_claims = names;
        self.measure.want_claims();
    }

    /// The policy that is in force.
    #[must_use]
    pub fn policy(&self) -> &Rulebook {
        &self.measure.rulebook
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

    /// What finds credentials.
    #[must_use]
    pub fn extractor(&self) -> &Extractor {
        &self.measure.extractor
    }

    /// Connections that are remembered because a call authenticated them, and how many at most.
    #[must_use]
    pub fn authenticated_connections(&self) -> (usize, usize) {
        self.measure.authenticated.remembered()
    }

    /// What is remembered from call to call.
    #[must_use]
    pub fn held(&self) -> [Held; 5] {
        let [credentials, workloads, hops, edges] = self.crosscall.held();
        [credentials, workloads, hops, edges, self.routes.held()]
    }

    /// What is known across calls, to be saved: fingerprints and names of workloads.
    #[must_use]
    pub fn cross_calls(&self) -> CrossCallState {
        self.crosscall.snapshot()
    }

    /// Takes over what was known across calls, before any call is judged. What makes no sense at the time `now` is left out.
    pub fn restore_cross_calls(&mut self, state: CrossCallState, now: Timestamp) {
        self.crosscall.restore(state, epoch_seconds(now));
    }

    /// Judges a call; `None` when a party is external, which is counted.
    #[must_use]
    pub fn exchange(&mut self, call: Attributed<Exchange>) -> Option<Judgement> {
        self.judged(call, None)
    }

    /// Judges a call that was recorded. Its secrets are masked; `checked` is what was found out about them before.
    #[must_use]
    pub fn recorded(&mut self, call: Attributed<Exchange>, checked: &[Checked]) -> Option<Judgement> {
        self.judged(call, Some(checked))
    }

    fn judged(&mut self, call: Attributed<Exchange>, checked: Option<&[Checked]>) -> Option<Judgement> {
        if !(call.source.internal && call.destination.internal) {
            self.external_exchanges.fetch_add(1, Ordering::Relaxed);
            self.crosscall.called(named(&call.destination), answered(&call.observed));
            return None;
        }
        let on_node = checks::on_node(&call);
        let Attributed { observed: exchange, source, destination } = call;
        let Self { measure, crosscall, routes, header_names, .. } = self;
        let handshake = exchange.tls.as_deref().map(|facts| measure.handshake(facts, exchange.time));
        let procedure = exchange.request.as_ref().and_then(Request::procedure);
        let outcome = outcome(&exchange, procedure, handshake.as_ref());
        let now = answered(&exchange);
        let mut called = None;
        let across = |credentials: &[Credential], verdict, findings: &[Finding]| {
            let across = crosscall.exchange(&Seen {
                source: named(&source),
                destination: named(&destination),
                request: exchange.request.as_ref(),
                credentials,
                verdict,
                outcome,
                served: served(findings, outcome),
                now,
            });
            called = across.destination;
            across
        };
        let circumstances = Circumstances { source: &source, destination: &destination, on_node, outcome, checked };
        let Weighed { verdict, unknown_reason, credentials, findings, policed } =
            measure.call(&exchange, circumstances, handshake.as_ref(), across);
        let status = exchange.response.as_ref().map(|response| response.status);
        Some(Judgement {
            kind: Kind::Exchange,
            time: time(exchange.time),
            reporter: reporter(exchange.reporter),
            source,
            destination,
            protocol: exchange.request.as_ref().map_or("unknown", |request| protocol(procedure, request.version)),
            request: exchange.request.map(|request| {
                let route = match procedure {
                    Some(_) => route::method(&request.path),
                    None => routes.route(called, &request.path, status, now),
                };
                let is_evidence = !findings.is_empty();
                let header_names = is_evidence.then(|| header_names.of(&request.head));
                request_facts(request, route, header_names)
            }),
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
            policy: policed,
            sampling: None,
        })
    }

    /// Judges a connection without readable calls. Of TLS it says what the client proved and whether the server went on; of
    /// any other its verdict is `unknown` and its outcome `unanswered`: what a callee did with what cannot be read is not known.
    ///
    /// `None` when a party is external, which is counted, and for an upgraded connection: its call is judged as an exchange.
    #[must_use]
    pub fn connection(&mut self, connection: Attributed<Connection>) -> Option<Judgement> {
        let Attributed { observed: connection, source, destination } = connection;
        if connection.protocol == Protocol::Upgraded {
            return None;
        }
        if !(source.internal && destination.internal) {
            self.external_connections.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.crosscall.called(named(&destination), epoch_seconds(connection.time));
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
            policy: Policed::default(),
            sampling: None,
        };
        match &connection.protocol {
            Protocol::Tls(facts) => {
                let handshake = self.measure.handshake(facts, connection.time);
                self.measure.connection(&mut judgement, handshake, unix_seconds(connection.time));
            }
            Protocol::Http2 => {
                (judgement.protocol, judgement.transport) = ("http/2", bare(Security::Plaintext));
                judgement.unknown_reason = Some(UnknownReason::Http2.as_str());
            }
            Protocol::Other | Protocol::Upgraded => {}
        }
        if !matches!(connection.protocol, Protocol::Tls(_)) {
            self.measure.unread(&mut judgement, unix_seconds(connection.time));
        }
        Some(judgement)
    }
}

/// A call of gRPC has the outcome of its own status (<https://grpc.github.io/grpc/core/md_doc_statuscodes.html>: 7 is permission
/// denied, 16 unauthenticated), where that was seen. Where it stands in the body, as that of gRPC-Web and of Connect's streams does,
/// a response that is fine by HTTP's status says nothing of what became of the call.
fn outcome(exchange: &Exchange, procedure: Option<Procedure>, handshake: Option<&Handshake<'_>>) -> Outcome {
    // Of a head that is not known whole the type may be what is missing.
    let may_be_grpc = exchange.unknown.is_some() || exchange.request.is_none();
    let coded = may_be_grpc || matches!(procedure, Some(Procedure::Grpc | Procedure::GrpcWeb));
    let code = exchange.response.as_ref().filter(|_| coded).and_then(Response::grpc_status);
    let told_in_body = matches!(procedure, Some(Procedure::GrpcWeb | Procedure::ConnectStream));
    // What libraries write behind a body is not always seen: then it is not known what became of the call.
    let unseen = told_in_body || procedure == Some(Procedure::Grpc) && handshake.is_some();
    match (exchange.response.as_ref().map(|response| response.status), code) {
        (None, _) => Outcome::Unanswered,
        (Some(401 | 403 | 407), _) | (_, Some(7 | 16)) => Outcome::Refused,
        (Some(100..=399), None) if unseen => Outcome::Unanswered,
        (Some(100..=399), None | Some(0)) => Outcome::Accepted,
        (Some(status), None) if handshake.is_some_and(|handshake| handshake.refuses_inside(status)) => Outcome::Refused,
        (Some(_), _) => Outcome::Failed,
    }
}

/// The `protocol` of a call.
fn protocol(procedure: Option<Procedure>, version: Version) -> &'static str {
    match (procedure, version) {
        (Some(Procedure::Grpc), _) => "grpc",
        (Some(Procedure::GrpcWeb), _) => "grpc-web",
        (Some(Procedure::Connect | Procedure::ConnectStream), _) => "connect",
        (None, Version::Http1(0)) => "http/1.0",
        (None, Version::Http1(_)) => "http/1.1",
        (None, Version::Http2) => "http/2",
    }
}

fn request_facts(request: Request, route: Box<str>, header_names: Option<Arc<str>>) -> RequestFacts {
    let plain = |name: &str| name.len() <= NAME_BYTES && name.bytes().all(|byte| byte.is_ascii_graphic());
    RequestFacts {
        method: if plain(&request.method) { request.method } else { shown_within(&request.method, NAME_BYTES) },
        authority: request.authority.map(|name| if plain(&name) { name } else { shown_within(&name, NAME_BYTES) }),
        path: route::shown_path(request.path),
        route,
        header_names,
    }
}

fn deviations(deviations: Deviations) -> Vec<&'static str> {
    if deviations == Deviations::default() {
        return Vec::new();
    }
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

/// Seconds since the Unix epoch, as the rules across calls count them.
fn epoch_seconds(time: Timestamp) -> u32 {
    u32::try_from(time.0 / 1_000_000_000).unwrap_or(u32::MAX)
}

/// When a call was answered: calls come in this order.
fn answered(exchange: &Exchange) -> u32 {
    let took = exchange.duration.map_or(0, |duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    epoch_seconds(Timestamp(exchange.time.0.saturating_add(took)))
}

/// The workload of an end, where its name is one that every instance of it has. Of a process that was gone before it was looked
/// at only the kernel's short name is known: that of `python3:cart.py` would be `python3`, another workload.
fn named(party: &Party) -> Option<&Arc<str>> {
    let looked_at = |process: &Arc<Process>| process.executable.is_some() && process.arguments.is_some();
    party.workload.as_ref().filter(|_| party.process.as_ref().is_none_or(looked_at))
}

/// How far a call went that was served without proof of identity; not what is low by itself: preflights and ways to a login.
fn served(findings: &[Finding], outcome: Outcome) -> Option<Reach> {
    let call = findings.iter().find(|finding| finding.rule == rules::UNAUTHENTICATED_CALL)?;
    match (outcome, call.severity) {
        (Outcome::Accepted, Severity::Critical) => Some(Reach::Changes),
        (Outcome::Accepted, Severity::High) => Some(Reach::Reads),
        _ => None,
    }
}

/// Records carry microseconds.
fn time(time: Timestamp) -> jiff::Timestamp {
    i64::try_from(time.0 / 1000)
        .ok()
        .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok())
        .unwrap_or_default()
}
