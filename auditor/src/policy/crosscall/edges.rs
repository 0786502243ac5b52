//! Who is served by whom without proof of identity, and since when.

use super::{
    Held, REMEMBERED, Reach,
    workloads::{WorkloadId, within},
};
use crate::{cache::Cache, hash::BuildMix};

/// Edges that are remembered. Past that no edge is new: it cannot be told from one that was forgotten.
const LIMIT: usize = 16_384;
/// How long the calls of a new edge are findings, seconds.
const NEW: u32 = 3600;

/// Caller, callee, and how far the call goes.
pub(super) type Edge = (WorkloadId, WorkloadId, Reach);

/// Times are seconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    pub(super) first: u32,
    pub(super) last: u32,
    /// It appeared after the learning.
    pub(super) is_new: bool,
}

#[derive(Debug)]
pub(super) struct Edges {
    known: Cache<Edge, Use, BuildMix>,
    learning_window: u32,
    /// When learning began; 0 before the first call.
    pub(super) learning_since: u32,
}

impl Edges {
    pub(super) fn new(learning_window: u32) -> Self {
        Self { known: Cache::new(LIMIT), learning_window, learning_since: 0 }
    }

    pub(super) fn held(&self) -> Held {
        let known = &self.known;
        Held { kind: "unauthenticated-edges", count: known.len(), limit: known.limit(), evicted: known.evicted() }
    }

    /// Time goes on. Learning begins with the first traffic.
    pub(super) fn advance(&mut self, now: u32, steps: usize) {
        if self.learning_since == 0 {
            self.learning_since = now;
        }
        self.known.sweep(steps, |_, edge| !within(edge.last, now, REMEMBERED));
    }

    /// Notes a call, and says whether its edge is new.
    pub(super) fn is_new(&mut self, edge: Edge, now: u32) -> bool {
        if let Some(known) = self.known.get(&edge) {
            known.last = now;
            return known.is_new && now.saturating_sub(known.first) < NEW;
        }
        let is_new = now.saturating_sub(self.learning_since) >= self.learning_window;
        !self.is_full() && {
            self.known.insert(edge, Use { first: now, last: now, is_new });
            is_new
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.known.len() >= self.known.limit()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Edge, &Use)> {
        self.known.iter()
    }

    pub(super) fn restore(&mut self, edge: Edge, seen: Use) {
        if !self.is_full() {
            self.known.insert(edge, seen);
        }
    }
}
