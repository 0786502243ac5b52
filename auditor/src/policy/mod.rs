//! Policy: from an attributed call to a [`Judgement`].
//!
//! The verdict is about the proof of identity, the outcome about what the callee did; neither is derived from the other:
//! - `unauthenticated` only where the whole head was seen and nothing in it counts as a proof.
//! - A credential that was seen is seen, also in a head that was cut: the verdict is then `authenticated` or `weak`. A
//!   malformed head is the exception, since servers may read it differently: `unknown`.
//! - `weak` as soon as one credential of the call has something against it, even if another has not: which of them the
//!   callee went by is not visible. A reusable secret in clear between nodes is something against it, too.

mod checks;
pub mod route;
pub mod rules;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use auditor_wire::{
    exchange::{self, Connection, Deviations, Exchange, Protocol, Request, Response, UnknownReason},
    segment::Timestamp,
    tls,
};

use self::checks::Call;
use crate::{
    attribution::Attributed,
    credentials::{Extractor, shape::shown_within},
    judgement::{
        Judgement, Kind, Outcome, Reporter, RequestFacts, ResponseFacts, Security, Severity, Transport, Verdict,
    },
};

/// Longest authority and server name that is shown, bytes.
const NAME_BYTES: usize = 255;

/// What the rules measure calls against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Longest lifetime of a token that is not `jwt-long-lived`.
    pub jwt_lifetime: Duration,
    /// How far clocks may be apart.
    pub clock_leeway: Duration,
    /// Words in a path that administration goes by; compared without case with the words between a path's punctuation.
    pub admin_words: Vec<String>,
    /// Rules that differ from their defaults, by id.
    pub rules: BTreeMap<&'static str, RuleSettings>,
}

/// How a rule differs from its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleSettings {
    /// Severity of each of its findings; `None`: as the rule says.
    pub severity: Option<Severity>,
    /// Whether it is looked at. A rule that is not weakens no credential either.
    pub enabled: bool,
}

impl Default for RuleSettings {
    fn default() -> Self {
        Self { severity: None, enabled: true }
    }
}

impl Settings {
    /// The severity of a finding of `rule` that would be of severity `level` by default; `None` where the rule is not looked
    /// at.
    fn severity(&self, rule: &str, level: Severity) -> Option<Severity> {
        let settings = self.rules.get(rule).copied().unwrap_or_default();
        settings.enabled.then(|| settings.severity.unwrap_or(level))
    }
}

impl Default for Settings {
    fn default() -> Self {
        let words = "admin administration administrator actuator console debug heapdump threaddump jolokia manage management \
                     phpmyadmin pprof shutdown superuser sysadmin sudo";
        Self {
            jwt_lifetime: Duration::from_secs(3600),
            clock_leeway: Duration::from_secs(60),
            admin_words: words.split_ascii_whitespace().map(str::to_owned).collect(),
            rules: BTreeMap::new(),
        }
    }
}

/// Judges calls and connections, each on its own.
#[derive(Debug)]
pub struct Judge {
    settings: Settings,
    extractor: Extractor,
    external_exchanges: AtomicU64,
    external_connections: AtomicU64,
}

impl Judge {
    /// A judge.
    #[must_use]
    pub fn new(settings: Settings, extractor: Extractor) -> Self {
        Self { settings, extractor, external_exchanges: AtomicU64::new(0), external_connections: AtomicU64::new(0) }
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
        let outcome = outcome(exchange.response.as_ref());
        let credentials = exchange.request.as_ref().map(|request| self.extractor.extract(request)).unwrap_or_default();
        let mut findings = Vec::new();
        let mut proof = Proof::None;
        let mut unknown = exchange.unknown;
        if let Some(request) = &exchange.request {
            let response = exchange.response.as_ref();
            let now = unix_seconds(exchange.time);
            let call =
                Call { settings: &self.settings, request, response, credentials: &credentials, outcome, on_node, now };
            let defects = checks::credentials(&call);
            proof = match credentials.iter().any(|credential| checks::counts(credential, request)) {
                true if defects.weak => Proof::Weak,
                true => Proof::Sound,
                false => Proof::None,
            };
            findings = defects.findings;
            if proof == Proof::None && !self.extractor.looks_at_all(request, &credentials) {
                unknown = unknown.or(Some(UnknownReason::HeadTruncated));
            }
            if proof == Proof::None && unknown.is_none() {
                findings.extend(checks::unauthenticated(&call));
            }
        }
        findings.extend(checks::cors(exchange.request.as_ref(), exchange.response.as_ref(), outcome));
        findings.retain_mut(|finding| match self.settings.severity(finding.rule, finding.severity) {
            Some(severity) => {
                finding.severity = severity;
                true
            }
            None => false,
        });
        let (verdict, unknown_reason) = verdict(proof, unknown, exchange.request.is_some());
        Some(Judgement {
            kind: Kind::Exchange,
            time: time(exchange.time),
            reporter: reporter(exchange.reporter),
            source,
            destination,
            protocol: match exchange.request.as_ref().map(|request| request.minor_version) {
                Some(0) => "http/1.0",
                Some(_) => "http/1.1",
                None => "unknown",
            },
            request: exchange.request.map(request_facts),
            response: exchange.response.map(|response| ResponseFacts {
                status: response.status,
                duration_seconds: exchange.duration.map(|duration| duration.as_secs_f64()),
            }),
            transport: Transport { security: Security::Plaintext, sni: None, alpn: None },
            credentials,
            verdict,
            unknown_reason: unknown_reason.map(UnknownReason::as_str),
            outcome,
            findings,
            deviations: deviations(exchange.deviations),
        })
    }

    /// Judges a connection without readable calls: its verdict is `unknown`. What a callee did with what cannot be read is
    /// not known either; its outcome is `unanswered`, no response was seen.
    ///
    /// `None` when a party is external, which is counted, and for an upgraded connection: its call is judged as an exchange.
    #[must_use]
    pub fn connection(&self, connection: Attributed<Connection>) -> Option<Judgement> {
        let Attributed { observed: connection, source, destination } = connection;
        let (protocol, reason, transport) = match connection.protocol {
            Protocol::Upgraded => return None,
            Protocol::Tls(facts) => {
                let tls::Facts { sni, alpn, .. } = *facts;
                let alpn = alpn.iter().take(16).map(|name| shown_within(name, NAME_BYTES)).collect::<Vec<_>>();
                let transport = Transport {
                    security: Security::Tls,
                    sni: sni.map(|name| shown_within(&name, NAME_BYTES)),
                    alpn: (!alpn.is_empty()).then_some(alpn),
                };
                ("tls", UnknownReason::Encrypted, transport)
            }
            Protocol::Http2 => ("http/2", UnknownReason::Http2, bare(Security::Plaintext)),
            Protocol::Other => ("unknown", UnknownReason::UnreadProtocol, bare(Security::Unknown)),
        };
        if !(source.internal && destination.internal) {
            self.external_connections.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Judgement {
            kind: Kind::Connection,
            time: time(connection.time),
            reporter: reporter(connection.reporter),
            source,
            destination,
            protocol,
            request: None,
            response: None,
            transport,
            credentials: Vec::new(),
            verdict: Verdict::Unknown,
            unknown_reason: Some(reason.as_str()),
            outcome: Outcome::Unanswered,
            findings: Vec::new(),
            deviations: Vec::new(),
        })
    }
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

fn outcome(response: Option<&Response>) -> Outcome {
    match response.map(|response| response.status) {
        None => Outcome::Unanswered,
        Some(100..=399) => Outcome::Accepted,
        Some(401 | 403 | 407) => Outcome::Refused,
        Some(_) => Outcome::Failed,
    }
}

fn request_facts(request: Request) -> RequestFacts {
    let route = route::route(&request.path);
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
    Transport { security, sni: None, alpn: None }
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
