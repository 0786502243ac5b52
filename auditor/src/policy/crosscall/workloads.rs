//! The workloads that calls spoke of: a number each, and what is known of their part in calls.

use std::sync::Arc;

use super::{Held, REMEMBERED};
use crate::{
    cache::Cache,
    hash::{BuildMix, Keyed},
};

/// Workloads that are remembered. Their names may come from hostile processes.
const LIMIT: usize = 16_384;

/// A workload: the keyed hash of its name, so that a name that was forgotten has the same number again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::policy) struct WorkloadId(pub(in crate::policy) u64);

/// Times are seconds since the Unix epoch; 0 is never.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) name: Arc<str>,
    /// When a call of it or to it was last seen.
    seen: u32,
    /// When it was last called.
    pub(super) called: u32,
    /// When it last sent a call on as it came.
    pub(super) gateway: u32,
}

#[derive(Debug)]
pub(super) struct Workloads {
    keys: Keyed,
    known: Cache<WorkloadId, Workload, BuildMix>,
}

impl Workloads {
    pub(super) fn new() -> Self {
        Self { keys: Keyed::new(), known: Cache::new(LIMIT) }
    }

    pub(super) fn held(&self) -> Held {
        let known = &self.known;
        Held { kind: "workloads", count: known.len(), limit: known.limit(), evicted: known.evicted() }
    }

    /// A call of it or to it was seen.
    pub(super) fn note(&mut self, name: &Arc<str>, now: u32) -> WorkloadId {
        self.noted(name, now).0
    }

    /// It was called.
    pub(super) fn called(&mut self, name: &Arc<str>, now: u32) -> WorkloadId {
        let (id, workload) = self.noted(name, now);
        workload.called = now;
        id
    }

    fn noted(&mut self, name: &Arc<str>, now: u32) -> (WorkloadId, &mut Workload) {
        let id = WorkloadId(self.keys.hash_one(&**name));
        let new = || Workload { name: Arc::clone(name), seen: now, called: 0, gateway: 0 };
        let workload = self.known.get_or_insert_with(id, new);
        workload.seen = now;
        (id, workload)
    }

    /// It has these times from before.
    pub(super) fn restore(&mut self, id: WorkloadId, called: u32, gateway: u32) {
        if let Some(known) = self.known.get(&id) {
            (known.called, known.gateway) = (called, gateway);
        }
    }

    /// It sent a call on as it came.
    pub(super) fn gateway(&mut self, id: WorkloadId, now: u32) {
        if let Some(known) = self.known.get(&id) {
            known.gateway = now;
        }
    }

    pub(super) fn peek(&self, id: WorkloadId) -> Option<&Workload> {
        self.known.peek(&id)
    }

    pub(super) fn sweep(&mut self, now: u32, steps: usize) {
        self.known.sweep(steps, |_, workload| !within(workload.seen, now, REMEMBERED));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Workload> {
        self.known.iter().map(|(_, workload)| workload)
    }
}

impl Workload {
    pub(super) fn is_called(&self, now: u32, window: u32) -> bool {
        within(self.called, now, window)
    }

    pub(super) fn is_gateway(&self, now: u32, window: u32) -> bool {
        within(self.gateway, now, window)
    }
}

/// Whether a time, 0 being never, is at most `window` before `now`.
pub(super) fn within(time: u32, now: u32, window: u32) -> bool {
    time != 0 && now.saturating_sub(time) <= window
}
