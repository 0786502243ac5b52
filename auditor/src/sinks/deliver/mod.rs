//! Findings delivered to other systems: webhook, Alertmanager, syslog, journald. `docs/sinks.md` is the contract of what they send.
//!
//! They get [`Event`]s and lists of groups, not calls: a storm of calls is few deliveries. Each runs on a thread of its own behind a
//! bounded queue, never fails, and counts what it could not deliver. What waits is kept within a bound and tried again, ever more
//! seldom.

mod alertmanager;
mod backoff;
mod batches;
mod http;
mod journald;
mod payload;
mod syslog;
#[cfg(test)]
mod tests;
mod webhook;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

pub use self::{
    alertmanager::Alertmanager,
    batches::{Batches, Pace},
    http::{Client, ClientError, Endpoint},
    journald::{JOURNAL_SOCKET, Journald},
    syslog::{Facility, Syslog, SyslogAddress},
    webhook::Webhook,
};
use crate::evidence::{Event, Group};

/// What a sink for findings is given.
#[derive(Debug)]
pub enum Item {
    /// A group is worth telling about.
    Event(Box<Event>),
    /// The groups that were seen lately, all of them. Only sinks that ask for it get it.
    Active(Vec<Group>),
}

/// Takes findings and delivers them. It never fails: what cannot be delivered is counted.
pub trait Deliver: Send {
    /// Takes one item. Does not wait.
    fn take(&mut self, item: Item);

    /// Delivers what is due. May wait as long as one delivery's time limit; called several times a second.
    fn work(&mut self, now: Instant);

    /// No more comes: tries once what is left.
    fn close(&mut self);
}

/// What a sink could not do, since the start. Shared with whom it is shown to.
#[derive(Debug, Default)]
pub struct Counts {
    dropped: AtomicU64,
    errors: AtomicU64,
}

impl Counts {
    /// Findings that were given up.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Deliveries that failed; most are tried again.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Some were given up.
    pub fn give_up(&self, number: usize) {
        self.dropped.fetch_add(u64::try_from(number).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A delivery failed.
    pub fn fail(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }
}

/// Delivers a few events at once.
pub trait Post: Send {
    /// Delivers them all. `batch` is the same number when the same events are tried again.
    ///
    /// # Errors
    /// When they were not taken.
    fn post(&mut self, events: &[Event], batch: u64) -> Result<(), Refusal>;
}

/// Why a delivery failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whether it may succeed later.
    pub retry: bool,
    /// Not before this time has passed, by the receiver's own word.
    pub after: Option<Duration>,
    /// For the log: no secret, no address that may hold one.
    pub reason: String,
}

impl Refusal {
    /// It may succeed later.
    fn later(reason: impl Into<String>) -> Self {
        Self { retry: true, after: None, reason: reason.into() }
    }
}

/// Says that deliveries fail and that they work again, without filling the log.
#[derive(Debug)]
struct Complaint {
    sink: &'static str,
    said: Option<Instant>,
    failing: bool,
}

impl Complaint {
    const EVERY: Duration = Duration::from_secs(60);

    fn new(sink: &'static str) -> Self {
        Self { sink, said: None, failing: false }
    }

    fn failed(&mut self, refusal: &Refusal, now: Instant) {
        self.failing = true;
        if self.said.is_none_or(|said| now.duration_since(said) >= Self::EVERY) {
            self.said = Some(now);
            tracing::warn!(
                sink = self.sink,
                reason = refusal.reason,
                retried = refusal.retry,
                "findings cannot be delivered"
            );
        }
    }

    fn succeeded(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!(sink = self.sink, "findings are delivered again");
        }
    }
}

/// Figures that several threads share.
pub type SharedCounts = Arc<Counts>;
