//! Calls gathered by edge: who calls whom, on which port, which method and route. Bounded in number.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::Arc,
};

use jiff::Timestamp;

use super::{super::credential_word, tls::Handshakes};
use crate::judgement::{Address, Finding, Judgement, Kind, Outcome, Party, RequestFacts, Severity, Verdict};

/// Longest route, method or detail that is kept; bytes.
const TEXT_LIMIT: usize = 256;
/// A path with a longer segment is shown as its route: such a segment may be a token.
const SEGMENT_LIMIT: usize = 40;

/// One end of an edge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Workload(Arc<str>),
    /// Where nothing but the address is known.
    Address(Address),
}

/// What is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    Request {
        route: Box<str>,
        method: Box<str>,
    },
    /// An exchange whose request was not seen.
    Unseen,
    /// A connection without readable calls.
    Connection {
        protocol: &'static str,
    },
}

/// Who calls whom, and what.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    pub(super) source: Who,
    pub(super) destination: Who,
    pub(super) port: u16,
    pub(super) call: Call,
    pub(super) cells: Vec<Cell>,
    pub(super) findings: Vec<Found>,
    /// What its TLS connections showed.
    pub(super) handshakes: Option<Box<Handshakes>>,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
}

/// Calls of one edge with the same verdict and outcome.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) verdict: Verdict,
    pub(super) outcome: Outcome,
    pub(super) count: u64,
    /// Proofs of identity that came with them, sorted.
    pub(super) credentials: Vec<&'static str>,
}

/// What one rule found on one edge.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) rule: &'static str,
    /// The worst.
    pub(super) severity: Severity,
    pub(super) count: u64,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    /// The earliest of the worst.
    pub(super) example: Example,
}

/// One call as evidence. Holds no secret.
#[derive(Clone, Debug)]
pub(super) struct Example {
    pub(super) time: Timestamp,
    pub(super) request: Option<(Box<str>, Box<str>)>,
    pub(super) status: Option<u16>,
    pub(super) caller: Option<(Box<str>, u32)>,
    pub(super) detail: Box<str>,
}

/// The edges.
#[derive(Debug)]
pub(super) struct Edges {
    all: Vec<Edge>,
    /// From a keyed hash of what identifies an edge to where it is in `all`; on a collision, the next number is taken.
    index: HashMap<u64, usize>,
    hasher: RandomState,
    limit: usize,
}

impl Edges {
    pub(super) fn new(limit: usize) -> Self {
        Self { all: Vec::new(), index: HashMap::new(), hasher: RandomState::new(), limit }
    }

    /// The edge of a judgement; `None` when it is new and the limit is reached.
    pub(super) fn of(&mut self, judgement: &Judgement) -> Option<&mut Edge> {
        let mut hash = self.hash(judgement);
        while let Some(at) = self.index.get(&hash).copied() {
            if self.all[at].is_of(judgement) {
                return self.all.get_mut(at);
            }
            hash = hash.wrapping_add(1);
        }
        if self.all.len() >= self.limit {
            return None;
        }
        self.index.insert(hash, self.all.len());
        self.all.push(Edge::of(judgement));
        self.all.last_mut()
    }

    pub(super) fn all(&self) -> &[Edge] {
        &self.all
    }

    fn hash(&self, judgement: &Judgement) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for party in [&judgement.source, &judgement.destination] {
            match &party.workload {
                Some(workload) => workload.hash(&mut hasher),
                None => party.address.hash(&mut hasher),
            }
        }
        judgement.destination.port.hash(&mut hasher);
        match &judgement.request {
            Some(request) => (cut(&request.method), cut(&request.route)).hash(&mut hasher),
            None => judgement.protocol.hash(&mut hasher),
        }
        hasher.finish()
    }
}

impl Edge {
    fn of(judgement: &Judgement) -> Self {
        Self {
            source: Who::of(&judgement.source),
            destination: Who::of(&judgement.destination),
            port: judgement.destination.port,
            call: Call::of(judgement),
            cells: Vec::new(),
            findings: Vec::new(),
            handshakes: None,
            first: judgement.time,
            last: judgement.time,
        }
    }

    fn is_of(&self, judgement: &Judgement) -> bool {
        let same_call = match (&self.call, &judgement.request, judgement.kind) {
            (Call::Request { method, route }, Some(request), _) => {
                **method == *cut(&request.method) && **route == *cut(&request.route)
            }
            (Call::Unseen, None, Kind::Exchange) => true,
            (Call::Connection { protocol }, None, Kind::Connection) => *protocol == judgement.protocol,
            _ => false,
        };
        same_call
            && self.port == judgement.destination.port
            && self.source.is(&judgement.source)
            && self.destination.is(&judgement.destination)
    }

    /// Adds a judgement of this edge.
    pub(super) fn add(&mut self, judgement: &Judgement) {
        self.first = self.first.min(judgement.time);
        self.last = self.last.max(judgement.time);
        let &Judgement { verdict, outcome, .. } = judgement;
        let at = self.cells.iter().position(|cell| (cell.verdict, cell.outcome) == (verdict, outcome));
        let at = at.unwrap_or_else(|| {
            self.cells.push(Cell { verdict, outcome, count: 0, credentials: Vec::new() });
            self.cells.len() - 1
        });
        let cell = &mut self.cells[at];
        cell.count += 1;
        let credential = credential_word(judgement);
        if let Err(at) = cell.credentials.binary_search(&credential) {
            cell.credentials.insert(at, credential);
        }
        // Calls that were read inside have their connection's own record.
        if let (Kind::Connection, Some(tls)) = (judgement.kind, &judgement.transport.tls) {
            self.handshakes.get_or_insert_default().add(tls);
        }
        for finding in &judgement.findings {
            self.add_finding(judgement, finding);
        }
    }

    fn add_finding(&mut self, judgement: &Judgement, finding: &Finding) {
        match self.findings.iter_mut().find(|found| found.rule == finding.rule) {
            Some(found) => {
                found.count += 1;
                found.first = found.first.min(judgement.time);
                found.last = found.last.max(judgement.time);
                let earlier = finding.severity == found.severity && judgement.time < found.example.time;
                if finding.severity > found.severity || earlier {
                    found.severity = finding.severity;
                    found.example = Example::of(judgement, finding);
                }
            }
            None => self.findings.push(Found {
                rule: finding.rule,
                severity: finding.severity,
                count: 1,
                first: judgement.time,
                last: judgement.time,
                example: Example::of(judgement, finding),
            }),
        }
    }

    /// Calls with this verdict and outcome.
    pub(super) fn count(&self, verdict: Verdict, outcome: Outcome) -> u64 {
        let same = |cell: &&Cell| (cell.verdict, cell.outcome) == (verdict, outcome);
        self.cells.iter().find(same).map_or(0, |cell| cell.count)
    }
}

impl Who {
    fn of(party: &Party) -> Self {
        match &party.workload {
            Some(workload) => Self::Workload(Arc::clone(workload)),
            None => Self::Address(party.address),
        }
    }

    fn is(&self, party: &Party) -> bool {
        match (self, &party.workload) {
            (Self::Workload(own), Some(workload)) => own == workload,
            (Self::Address(own), None) => *own == party.address,
            _ => false,
        }
    }
}

impl Call {
    fn of(judgement: &Judgement) -> Self {
        match (&judgement.request, judgement.kind) {
            (Some(request), _) => {
                Self::Request { method: cut(&request.method).into(), route: cut(&request.route).into() }
            }
            (None, Kind::Exchange) => Self::Unseen,
            (None, Kind::Connection) => Self::Connection { protocol: judgement.protocol },
        }
    }
}

impl Example {
    fn of(judgement: &Judgement, finding: &Finding) -> Self {
        let target = |request: &RequestFacts| (cut(&request.method).into(), cut(safe_path(request)).into());
        let caller = judgement.source.process.as_ref();
        Self {
            time: judgement.time,
            request: judgement.request.as_ref().map(target),
            status: judgement.response.map(|response| response.status),
            caller: caller.map(|process| (cut(&process.command).into(), process.pid)),
            detail: cut(&finding.detail).into(),
        }
    }
}

fn safe_path(request: &RequestFacts) -> &str {
    let long = request.path.split('/').any(|segment| segment.len() > SEGMENT_LIMIT);
    if long { &request.route } else { &request.path }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_LIMIT)]
}
