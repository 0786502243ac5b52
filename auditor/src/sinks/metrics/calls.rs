//! The series that speak of calls: bounded tables of plain numbers, turned into metric families at a scrape.
//!
//! The tables are keyed by the labels themselves and not by `prometheus::IntCounterVec`: that one hashes label values
//! without anything between them, so that the callers `ab` of `c` and `a` of `bc` would share one series.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
};

use super::{
    super::{credential_word, posture::Posture},
    Settings, families,
    histogram::Histogram,
    names::{NameId, Names},
    postures::Postures,
};
use crate::{
    hash::BuildMix,
    judgement::{Judgement, Kind, Outcome, Reporter, Security, Severity, Verdict},
};

/// Upper bounds of `auditor_exchange_duration_seconds`.
const DURATION_BOUNDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Upper bounds of `auditor_credential_lifetime_seconds`: a minute to a year.
const LIFETIME_BOUNDS: [f64; 10] =
    [60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0, 604_800.0, 2_592_000.0, 31_536_000.0];

pub(super) type Durations = Histogram<13>;
pub(super) type Lifetimes = Histogram<10>;

/// What tells one series of `auditor_exchanges_total` from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExchangeKey {
    pub(super) edge: Edge,
    pub(super) reporter: Reporter,
    pub(super) protocol: &'static str,
    pub(super) security: Security,
    pub(super) credential: &'static str,
    pub(super) verdict: Verdict,
    pub(super) outcome: Outcome,
}

/// What tells one series of `auditor_connections_total` from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionKey {
    pub(super) edge: Edge,
    pub(super) reporter: Reporter,
    pub(super) protocol: &'static str,
    pub(super) security: Security,
    /// What the client did about a certificate; empty where there is no TLS.
    pub(super) client_certificate: &'static str,
    pub(super) verdict: Verdict,
    pub(super) outcome: Outcome,
}

/// What tells one series of `auditor_findings_total` from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FindingKey {
    pub(super) edge: Edge,
    pub(super) rule: &'static str,
    pub(super) severity: Severity,
}

/// Who calls whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) source: NameId,
    pub(super) destination: NameId,
}

// Hashed by hand, in two words: of the words only their lengths, which differ mostly; equality compares them whole.

impl Hash for ExchangeKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.edge.hash(state);
        let enums = [self.reporter as u8, self.security as u8, self.verdict as u8, self.outcome as u8];
        let lengths = [short(self.protocol), short(self.credential)];
        state.write_u64(u64::from_le_bytes([enums[0], enums[1], enums[2], enums[3], lengths[0], lengths[1], 0, 0]));
    }
}

impl Hash for ConnectionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.edge.hash(state);
        let enums = [self.reporter as u8, self.security as u8, self.verdict as u8, self.outcome as u8];
        let lengths = [short(self.protocol), short(self.client_certificate)];
        state.write_u64(u64::from_le_bytes([enums[0], enums[1], enums[2], enums[3], lengths[0], lengths[1], 0, 0]));
    }
}

impl Hash for FindingKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.edge.hash(state);
        state.write_u64(u64::from_le_bytes([self.severity as u8, short(self.rule), 0, 0, 0, 0, 0, 0]));
    }
}

impl Hash for Edge {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.source.number()) << 32 | u64::from(self.destination.number()));
    }
}

fn short(word: &str) -> u8 {
    u8::try_from(word.len()).unwrap_or(u8::MAX)
}

/// A key that can be folded into one of few.
trait Fold: Copy + Eq + Hash {
    /// The same with its unbounded labels replaced by `~other`. What is left are words that the code knows.
    fn folded(self) -> Self;
}

const OTHERS: Edge = Edge { source: NameId::OTHER, destination: NameId::OTHER };

impl Fold for ExchangeKey {
    fn folded(self) -> Self {
        Self { edge: OTHERS, ..self }
    }
}

impl Fold for ConnectionKey {
    fn folded(self) -> Self {
        Self { edge: OTHERS, ..self }
    }
}

impl Fold for FindingKey {
    fn folded(self) -> Self {
        Self { edge: OTHERS, ..self }
    }
}

impl Fold for NameId {
    fn folded(self) -> Self {
        Self::OTHER
    }
}

/// The series of one family.
#[derive(Debug)]
struct Table<K, V> {
    series: HashMap<K, (V, u32), BuildMix>,
    limit: usize,
    folded: u64,
}

impl<K: Fold, V: Default> Table<K, V> {
    fn new(limit: usize) -> Self {
        Self { series: HashMap::default(), limit, folded: 0 }
    }

    /// The series of `key`, used now. Past the limit a key without a series gets the folded one.
    fn at(&mut self, key: K, is_folded: bool, now: u32) -> &mut V {
        let full = self.series.len() >= self.limit;
        let fold = is_folded || full && !self.series.contains_key(&key);
        if fold {
            self.folded += 1;
        }
        let (value, used) = self.series.entry(if fold { key.folded() } else { key }).or_default();
        *used = now;
        value
    }

    fn expire(&mut self, oldest: u32) {
        self.series.retain(|_, (_, used)| *used >= oldest);
    }

    fn snapshot<T>(&self, copy: impl Fn(&V) -> T) -> Vec<(K, T)> {
        self.series.iter().map(|(key, (value, _))| (*key, copy(value))).collect()
    }
}

/// All series that speak of calls.
#[derive(Debug)]
pub(super) struct Calls {
    names: Names,
    exchanges: Table<ExchangeKey, u64>,
    connections: Table<ConnectionKey, u64>,
    findings: Table<FindingKey, u64>,
    durations: Table<NameId, Durations>,
    postures: Postures,
    lifetimes: Lifetimes,
    unknown: Vec<(&'static str, u64)>,
    /// Seconds since the start.
    now: u32,
    expired: u32,
    expire_after: u32,
}

/// The series at one moment, without anything of the hot path's structure.
pub(super) struct Snapshot {
    pub(super) names: super::names::AllLabels,
    pub(super) exchanges: Vec<(ExchangeKey, u64)>,
    pub(super) connections: Vec<(ConnectionKey, u64)>,
    pub(super) findings: Vec<(FindingKey, u64)>,
    pub(super) durations: Vec<(NameId, Durations)>,
    pub(super) postures: Vec<(NameId, Posture)>,
    pub(super) lifetimes: Lifetimes,
    pub(super) unknown: Vec<(&'static str, u64)>,
    pub(super) folded: [(&'static str, u64); 5],
    pub(super) series: usize,
}

impl Calls {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            // Each series names at most two workloads.
            names: Names::new(settings.series_limit.saturating_mul(2)),
            exchanges: Table::new(settings.series_limit),
            connections: Table::new(settings.series_limit),
            findings: Table::new(settings.series_limit),
            durations: Table::new(settings.histogram_limit),
            postures: Postures::new(settings.series_limit),
            lifetimes: Lifetimes::default(),
            unknown: Vec::new(),
            now: 0,
            expired: 0,
            expire_after: u32::try_from(settings.expire_after.as_secs()).unwrap_or(u32::MAX),
        }
    }

    /// Counts one judgement. This is the hot path: it allocates only when a series is new.
    pub(super) fn count(&mut self, judgement: &Judgement) {
        let edge = Edge {
            source: self.names.id(judgement.source.workload.as_ref(), self.now),
            destination: self.names.id(judgement.destination.workload.as_ref(), self.now),
        };
        let folded = edge.source == NameId::OTHER || edge.destination == NameId::OTHER;
        let &Judgement { reporter, protocol, verdict, outcome, .. } = judgement;
        let security = judgement.transport.security;
        match judgement.kind {
            Kind::Exchange => {
                let credential = credential_word(judgement);
                let key = ExchangeKey { edge, reporter, protocol, security, credential, verdict, outcome };
                *self.exchanges.at(key, folded, self.now) += 1;
            }
            Kind::Connection => {
                let tls = judgement.transport.tls.as_deref();
                let client_certificate = tls.map_or("", |tls| tls.client.outcome.as_str());
                let key = ConnectionKey { edge, reporter, protocol, security, client_certificate, verdict, outcome };
                *self.connections.at(key, folded, self.now) += 1;
                if let Some(tls) = tls {
                    self.postures.count(tls, &judgement.destination, edge.destination, self.now);
                }
            }
        }
        for finding in &judgement.findings {
            let key = FindingKey { edge, rule: finding.rule, severity: finding.severity };
            *self.findings.at(key, folded, self.now) += 1;
        }
        if let Some(seconds) = judgement.response.and_then(|response| response.duration_seconds) {
            let is_folded = edge.destination == NameId::OTHER;
            self.durations.at(edge.destination, is_folded, self.now).observe(&DURATION_BOUNDS, seconds);
        }
        let claims = judgement.credentials.iter().filter_map(|credential| credential.claims.as_ref());
        for seconds in claims.filter_map(|claims| claims.lifetime_seconds) {
            #[expect(clippy::cast_precision_loss, reason = "lifetimes of more than 2^53 seconds are all alike")]
            self.lifetimes.observe(&LIFETIME_BOUNDS, seconds as f64);
        }
        if let Some(reason) = judgement.unknown_reason {
            match self.unknown.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, count)) => *count += 1,
                None => self.unknown.push((reason, 1)),
            }
        }
    }

    /// Sets the time, seconds since the start, and lets go of what was not used for long.
    pub(super) fn advance(&mut self, now: u32) {
        self.now = self.now.max(now);
        // Looking through all series costs; being late by an eighth does not matter.
        if self.now - self.expired < (self.expire_after / 8).max(1) {
            return;
        }
        self.expired = self.now;
        let oldest = self.now.saturating_sub(self.expire_after);
        self.exchanges.expire(oldest);
        self.connections.expire(oldest);
        self.findings.expire(oldest);
        self.durations.expire(oldest);
        self.postures.expire(oldest);
        // Last, and a name is used whenever one of its series is: no series is left that holds an expired name.
        self.names.expire(oldest);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            names: self.names.labels(),
            exchanges: self.exchanges.snapshot(|count| *count),
            connections: self.connections.snapshot(|count| *count),
            findings: self.findings.snapshot(|count| *count),
            durations: self.durations.snapshot(Durations::clone),
            postures: self.postures.snapshot(self.now.saturating_sub(self.expire_after)),
            lifetimes: self.lifetimes.clone(),
            unknown: self.unknown.clone(),
            folded: [
                (families::EXCHANGES, self.exchanges.folded),
                (families::CONNECTIONS, self.connections.folded),
                (families::FINDINGS, self.findings.folded),
                (families::DURATION, self.durations.folded),
                (families::POSTURE, self.postures.folded),
            ],
            series: self.exchanges.series.len()
                + self.connections.series.len()
                + self.findings.series.len()
                + self.durations.series.len()
                + self.postures.len(),
        }
    }

    /// Workloads that have a number.
    #[cfg(test)]
    pub(super) fn workloads(&self) -> usize {
        self.names.len()
    }
}

impl Durations {
    pub(super) fn bounds() -> &'static [f64] {
        &DURATION_BOUNDS
    }
}

impl Lifetimes {
    pub(super) fn bounds() -> &'static [f64] {
        &LIFETIME_BOUNDS
    }
}
