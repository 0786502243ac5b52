//! Evidence: findings gathered into groups that a service owner can believe. A group keeps when it was first and last seen, how
//! often, what came of the calls, and one call as an example. It holds no secret.
//!
//! The [`Ledger`] is bounded and costs no allocation for a finding whose group is known. It decides when a group is worth telling
//! about ([`Event`]); who is told is the business of `sinks`.

mod ledger;
mod saved;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::{
    ledger::Ledger,
    saved::{Restored, SECTION, SECTION_VERSION, Saved},
};
use crate::judgement::{Address, Finding, Judgement, Kind, Outcome, Party, Severity};

/// Longest text that is kept of anything a peer chose, bytes.
const TEXT_LIMIT: usize = 256;

/// Findings that belong together: one rule, one caller, one callee, one call. Cloning it copies figures and two references.
#[derive(Clone, Debug)]
pub struct Group {
    /// What makes it one.
    pub identity: Arc<Identity>,
    /// One of its calls.
    pub example: Arc<Example>,
    /// Its figures.
    pub seen: Seen,
}

/// What makes findings one group.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    /// Id of the rule.
    pub rule: &'static str,
    /// Who called.
    pub source: Who,
    /// Who was called.
    pub destination: Who,
    /// What was called.
    pub call: Call,
}

/// One end of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// Its workload, `namespace/name` or a name.
    Workload(Arc<str>),
    /// Where nothing but the address is known.
    Address(Address),
}

/// What was called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Call {
    /// A request.
    Request {
        /// Its method.
        method: Box<str>,
        /// Its path with the variable parts replaced.
        route: Box<str>,
    },
    /// An exchange whose request was not seen.
    Unseen,
    /// A connection without readable calls.
    Connection {
        /// `tls`, ...
        protocol: Box<str>,
    },
}

/// Figures of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The worst since the group was last told of as new or returned.
    pub severity: Severity,
    /// Time of the first call.
    pub first: Timestamp,
    /// Time of the latest call.
    pub last: Timestamp,
    /// Calls.
    pub count: u64,
    /// Calls by what came of them.
    pub outcomes: Outcomes,
    /// When the group was last told of.
    pub told: Timestamp,
    /// Calls when it was last told of, that one included.
    pub told_count: u64,
}

/// Calls by what the callee did with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// 1xx to 3xx, or the TLS handshake went on.
    pub accepted: u64,
    /// 401, 403, 407, or the TLS handshake was ended.
    pub refused: u64,
    /// Any other 4xx or 5xx.
    pub failed: u64,
    /// No answer was seen.
    pub unanswered: u64,
}

/// One call as evidence: when, from where to where, what stood in it. Names of headers, never their values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// When.
    pub time: Timestamp,
    /// Address and port it came from.
    pub source: String,
    /// Address and port it went to.
    pub destination: String,
    /// Name and pid of the calling process, when on this node.
    pub caller: Option<(Box<str>, u32)>,
    /// Host the request was sent to, by its own word.
    pub authority: Option<Box<str>>,
    /// Names of the request's headers, in their order, with commas between.
    pub header_names: Option<Box<str>>,
    /// Status of the answer.
    pub status: Option<u16>,
    /// What was seen.
    pub detail: Box<str>,
}

/// A group is worth telling about.
#[derive(Clone, Debug)]
pub struct Event {
    /// Why.
    pub occasion: Occasion,
    /// Calls since the last event of the group, the one that caused this event included.
    pub calls: u64,
    /// The group as it is now.
    pub group: Group,
}

/// Why a group is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Occasion {
    /// It was not known before.
    New,
    /// It is worse than it was.
    Raised,
    /// It goes on, and was last told of some time ago.
    Ongoing,
    /// It had been quiet for some time.
    Returned,
}

impl Group {
    fn new(judgement: &Judgement, finding: &Finding, severity: Severity) -> Self {
        let mut seen = Seen {
            severity,
            first: judgement.time,
            last: judgement.time,
            count: 0,
            outcomes: Outcomes::default(),
            told: judgement.time,
            told_count: 1,
        };
        seen.add(judgement);
        let identity = Identity {
            rule: finding.rule,
            source: Who::of(&judgement.source),
            destination: Who::of(&judgement.destination),
            call: Call::of(judgement),
        };
        Self { identity: Arc::new(identity), example: Arc::new(Example::of(judgement, finding)), seen }
    }

    /// Adds a call. The event it causes, if it does.
    fn add(
        &mut self,
        judgement: &Judgement,
        finding: &Finding,
        severity: Severity,
        repeat: SignedDuration,
    ) -> Option<Event> {
        let occasion = self.seen.occasion(judgement.time, severity, repeat);
        self.seen.add(judgement);
        let occasion = occasion?;
        self.seen.severity = if occasion == Occasion::Returned { severity } else { severity.max(self.seen.severity) };
        let calls = self.seen.count.saturating_sub(self.seen.told_count);
        (self.seen.told, self.seen.told_count) = (judgement.time, self.seen.count);
        // Only here: an example that is as old as the event it goes with costs nothing on the way of every call.
        if severity == self.seen.severity {
            self.example = Arc::new(Example::of(judgement, finding));
        }
        Some(Event { occasion, calls, group: self.clone() })
    }
}

impl Seen {
    fn add(&mut self, judgement: &Judgement) {
        self.first = self.first.min(judgement.time);
        self.last = self.last.max(judgement.time);
        self.count = self.count.saturating_add(1);
        let outcome = match judgement.outcome {
            Outcome::Accepted => &mut self.outcomes.accepted,
            Outcome::Refused => &mut self.outcomes.refused,
            Outcome::Failed => &mut self.outcomes.failed,
            Outcome::Unanswered => &mut self.outcomes.unanswered,
        };
        *outcome = outcome.saturating_add(1);
    }

    /// Whether a call at `time` is to be told, and why. A clock that was set back is no reason to be silent for hours: the
    /// distance counts, not the direction.
    fn occasion(&self, time: Timestamp, severity: Severity, repeat: SignedDuration) -> Option<Occasion> {
        let apart = |earlier: Timestamp| time.duration_since(earlier).abs();
        if apart(self.last) >= repeat {
            Some(Occasion::Returned)
        } else if severity > self.severity {
            Some(Occasion::Raised)
        } else if apart(self.told) >= repeat {
            Some(Occasion::Ongoing)
        } else {
            None
        }
    }
}

impl Identity {
    fn is_of(&self, judgement: &Judgement, rule: &str) -> bool {
        self.rule == rule
            && self.source.is(&judgement.source)
            && self.destination.is(&judgement.destination)
            && self.call.is_of(judgement)
    }
}

impl Who {
    fn of(party: &Party) -> Self {
        match &party.workload {
            Some(workload) if workload.len() > TEXT_LIMIT => Self::Workload(cut(workload).into()),
            Some(workload) => Self::Workload(Arc::clone(workload)),
            None => Self::Address(party.address),
        }
    }

    fn is(&self, party: &Party) -> bool {
        match (self, &party.workload) {
            (Self::Workload(own), Some(workload)) => **own == *cut(workload),
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
            (None, Kind::Connection) => Self::Connection { protocol: judgement.protocol.into() },
        }
    }

    fn is_of(&self, judgement: &Judgement) -> bool {
        match (self, &judgement.request, judgement.kind) {
            (Self::Request { method, route }, Some(request), _) => {
                **method == *cut(&request.method) && **route == *cut(&request.route)
            }
            (Self::Unseen, None, Kind::Exchange) => true,
            (Self::Connection { protocol }, None, Kind::Connection) => **protocol == *judgement.protocol,
            _ => false,
        }
    }
}

impl Example {
    fn of(judgement: &Judgement, finding: &Finding) -> Self {
        let caller = judgement.source.process.as_ref();
        let request = judgement.request.as_ref();
        Self {
            time: judgement.time,
            source: judgement.source.place(),
            destination: judgement.destination.place(),
            caller: caller.map(|process| (cut(&process.command).into(), process.pid)),
            authority: request.and_then(|request| request.authority.as_deref()).map(|name| cut(name).into()),
            header_names: request.and_then(|request| request.header_names.as_deref()).map(Into::into),
            status: judgement.response.map(|response| response.status),
            detail: cut(&finding.detail).into(),
        }
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_LIMIT)]
}
