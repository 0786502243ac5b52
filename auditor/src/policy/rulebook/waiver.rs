//! Waivers: findings that somebody answers for, until a day.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use jiff::civil::Date;

use super::Target;
use crate::judgement::WaiverNote;

/// Longest time a waiver may be given for, days.
pub(super) const LONGEST_DAYS: i32 = 366;

/// A waiver of the policy.
#[derive(Debug)]
pub(super) struct Waiver {
    pub(super) note: Arc<WaiverNote>,
    /// Why.
    pub(super) reason: Box<str>,
    pub(super) target: Target,
    /// Rules it is for; empty: all.
    pub(super) rules: Vec<&'static str>,
    /// Findings it has waived.
    pub(super) used: AtomicU64,
}

impl Waiver {
    pub(super) fn is_for(&self, rule: &str) -> bool {
        self.rules.is_empty() || self.rules.contains(&rule)
    }

    /// It holds until the end of its last day, UTC.
    pub(super) fn holds_on(&self, day: Date) -> bool {
        day <= self.note.expires
    }

    pub(super) fn count(&self) {
        self.used.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn status(&self, day: Date) -> WaiverStatus {
        let used = self.used.load(Ordering::Relaxed);
        let state = match () {
            () if !self.holds_on(day) => WaiverState::Expired,
            () if used == 0 => WaiverState::Unused,
            () => WaiverState::Active,
        };
        WaiverStatus { note: Arc::clone(&self.note), reason: self.reason.clone(), used, state }
    }
}

/// How a waiver does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaiverStatus {
    /// Name, owner and last day.
    pub note: Arc<WaiverNote>,
    /// Why it was given.
    pub reason: Box<str>,
    /// Findings it has waived since it was read first.
    pub used: u64,
    /// Whether it holds, and whether anybody needs it.
    pub state: WaiverState,
}

/// State of a waiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WaiverState {
    /// It holds and has waived something.
    Active,
    /// Its last day is over.
    Expired,
    /// It holds and has waived nothing so far.
    Unused,
}

impl WaiverState {
    /// The word that metrics and reports carry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Unused => "unused",
        }
    }
}
