//! Capture sources: the live ring, a capture file, a recorded ring. All deliver [`Segment`]s.

pub mod clock;
pub mod open;
pub mod pcap;
pub mod record;
pub mod recording;
pub mod ring;
pub mod syscalls;

use std::time::Duration;

use auditor_wire::{
    segment::{Segment, SocketId, Timestamp},
    tls::Proof,
};

use self::syscalls::UnixSocket;

/// Where segments come from.
pub trait Capture {
    /// Delivers the segments that are there now, a bounded number of them, in the order they were captured.
    ///
    /// # Errors
    /// When the source cannot be read any further; what was delivered before stands.
    fn drain(&mut self, deliver: &mut dyn FnMut(&Segment<'_>)) -> Result<Status, CaptureError>;

    /// The capture that this one adds to, where it adds to one: what this one does not answer for is asked of that.
    fn within(&mut self) -> Option<&mut dyn Capture> {
        None
    }

    /// What TLS libraries told of handshakes since the last call, by the socket of the packets; nothing where no library is read.
    fn proofs(&mut self) -> Vec<(SocketId, Proof)> {
        self.within().map_or_else(Vec::new, Capture::proofs)
    }

    /// What is known of the `AF_UNIX` sockets whose segments come with the next [`Capture::drain`].
    fn unix_sockets(&mut self) -> Vec<(SocketId, UnixSocket)> {
        self.within().map_or_else(Vec::new, Capture::unix_sockets)
    }

    /// Files with TLS libraries that processes map, by library and whether plaintext is read from it, and how many there are.
    fn tls_libraries(&mut self) -> Vec<(&'static str, bool, u64)> {
        self.within().map_or_else(Vec::new, Capture::tls_libraries)
    }

    /// Nothing more is wanted of a socket: what it would tell, another tells. A source may go on; one that does not says so by a
    /// segment that is `muted`.
    fn spare(&mut self, socket: SocketId) {
        if let Some(within) = self.within() {
            within.spare(socket);
        }
    }

    /// Of calls that repeat, byte for byte, on a socket that may be sampled, one of so many is copied from now on, a power of two; 1:
    /// all. Whether the source can do that.
    fn sample(&mut self, one_of: u32) -> bool {
        self.within().is_some_and(|within| within.sample(one_of))
    }

    /// Calls that repeat one that was judged may be passed over.
    fn approve(&mut self, approval: Approval) {
        if let Some(within) = self.within() {
            within.approve(approval);
        }
    }

    /// None of this socket's calls may be passed over any more.
    fn forbid(&mut self, socket: SocketId) {
        if let Some(within) = self.within() {
            within.forbid(socket);
        }
    }

    /// No calls may be passed over any more but those that are approved from now on.
    fn withdraw(&mut self) {
        if let Some(within) = self.within() {
            within.withdraw();
        }
    }

    /// What has to be added to the times of segments, nanoseconds, to get what the wall clock says: it may have been set since the
    /// source began, and they do not follow it. 0 where they are those of a file.
    fn clock_correction(&mut self) -> i64 {
        self.within().map_or(0, Capture::clock_correction)
    }

    /// What the source has counted since it began.
    fn counts(&mut self) -> Counts;

    /// Time the kernel spent in the source's programs since they were loaded, by program; empty where there are none.
    fn program_times(&mut self) -> Vec<(&'static str, Duration)> {
        Vec::new()
    }
}

/// What a source has after a [`Capture::drain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// More is there: call again at once.
    More,
    /// Nothing now: call again in a few milliseconds.
    Idle,
    /// Nothing will come any more.
    End,
}

/// A call that was found in order: those on its socket that repeat it, byte for byte, need not be seen for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Where it came.
    pub socket: SocketId,
    /// What its request is known by: [`Segment::repeat`].
    pub request: u64,
    /// The status it was answered with, and they have to be.
    pub status: u16,
    /// Until when, in the time of segments.
    pub until: Timestamp,
}

/// What a source has counted since it began.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Segments or packets delivered.
    pub delivered: u64,
    /// Captured but not delivered because they are not TCP over IP, per reason (not a loss).
    pub ignored: Vec<(&'static str, u64)>,
    /// Lost, by reason.
    pub lost: Vec<(&'static str, u64)>,
    /// Calls that were passed over because they repeat, exactly.
    pub passed_over: u64,
}

/// Why a source cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{source_name}: {message}")]
pub struct CaptureError {
    /// The file or device.
    pub source_name: String,
    /// What is wrong, and what to do.
    pub message: String,
}
