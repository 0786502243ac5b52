//! The table of connections: segments of all sockets in, [`Observation`]s out.

use crate::exchange::Observation;
use crate::limits::Limits;
use crate::segment::{Segment, Timestamp};

/// What the tracker holds and how much it may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracked {
    /// Connections in the table.
    pub connections: usize,
    /// Most connections the table may hold.
    pub connections_limit: usize,
    /// Bytes of heads and waiting segments.
    pub buffered_bytes: usize,
    /// Most bytes of heads and waiting segments.
    pub buffered_bytes_limit: usize,
    /// Connections given up for one of the two limits, ever.
    pub evicted_total: u64,
    /// Views of an exchange that were left out because the other end's was reported, ever.
    pub twins_total: u64,
    /// Views that wait for that of the other end.
    pub held: usize,
}

/// Turns segments into exchanges and connections.
pub struct Tracker {
    limits: Limits,
}

impl Tracker {
    /// An empty tracker.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits }
    }

    /// Takes one segment. Segments come in the order they were captured.
    pub fn segment(&mut self, segment: &Segment<'_>, deliver: &mut dyn FnMut(Observation)) {
        self.advance(segment.time, deliver);
    }

    /// Time went on without a segment: what waited long enough comes out. Call it every few milliseconds of traffic time.
    pub fn advance(&mut self, _now: Timestamp, _deliver: &mut dyn FnMut(Observation)) {}

    /// End of the input: all that is pending comes out.
    pub fn finish(&mut self, _deliver: &mut dyn FnMut(Observation)) {}

    /// What is held now.
    #[must_use]
    pub fn tracked(&self) -> Tracked {
        Tracked {
            connections_limit: self.limits.connections,
            buffered_bytes_limit: self.limits.buffered_bytes,
            ..Tracked::default()
        }
    }
}
