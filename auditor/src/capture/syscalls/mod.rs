//! The live source with `AF_UNIX` sockets: packets as before, and between them what servers read from and write to such sockets.
//!
//! What is known of a socket goes ahead of its segments: calls are attributed by it. What waits for that is secret: it is wiped.

pub mod record;

use std::{collections::HashSet, sync::Arc, time::Duration};

use auditor_wire::segment::{Class, Owner, Segment, SocketId};
use zeroize::Zeroizing;

use self::record::{Record, decode, used};
use super::{Capture, CaptureError, Counts, Status, clock::steady_offset_ns};
use crate::{
    cache::Cache,
    kernel::{loader::Ring, syscalls::ExitProgram},
};

/// Records taken at once.
const BATCH: usize = 1024;
/// Sockets that are remembered: as many as the program remembers.
const SOCKETS: usize = 16_384;

/// Whether connections to the socket of a path are told of though their protocol is not read.
pub type Told = Box<dyn Fn(&str) -> bool + Send>;

/// What is known of an `AF_UNIX` socket that was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnixSocket {
    /// The address its server bound; one in the abstract name space begins with `@`.
    pub path: Option<Arc<str>>,
    /// Who connected.
    pub peer: Option<Owner>,
    /// Inode of the cgroup2 directory of who connected.
    pub peer_cgroup: Option<u64>,
}

/// The live source with `AF_UNIX` sockets. Dropping it detaches the programs.
pub struct SyscallSource {
    packets: Box<dyn Capture>,
    ring: Ring,
    program: ExitProgram,
    /// By its path: whether a connection in a protocol that is not read is told of.
    told: Told,
    /// The sockets of which a record has been delivered.
    begun: Cache<SocketId, ()>,
    waiting: Vec<Zeroizing<Vec<u8>>>,
    /// What is known of the sockets of what waits.
    known: Vec<(SocketId, UnixSocket)>,
    /// That has been told.
    ready: bool,
    delivered: u64,
    /// Connections in a protocol that is not read, to sockets of no interest.
    unread: u64,
    undecodable: u64,
}

impl SyscallSource {
    /// A source over the packets' source and a loaded and attached program.
    #[must_use]
    pub fn new(packets: Box<dyn Capture>, ring: Ring, program: ExitProgram, told: Told) -> Self {
        Self {
            packets,
            ring,
            program,
            told,
            begun: Cache::new(SOCKETS),
            waiting: Vec::new(),
            known: Vec::new(),
            ready: false,
            delivered: 0,
            unread: 0,
            undecodable: 0,
        }
    }

    /// Takes what is in the ring, and notes what it tells of sockets.
    fn take(&mut self) {
        let mut noted = HashSet::new();
        while self.waiting.len() < BATCH {
            let Some(memory) = self.ring.next_record() else { return };
            let Some(bytes) = used(&memory) else {
                self.undecodable += 1;
                continue;
            };
            let Ok(record) = decode(bytes, 0) else {
                self.undecodable += 1;
                continue;
            };
            let socket = record.segment.socket;
            if noted.insert(socket) {
                let known = record.socket();
                self.known.push((socket, known));
            }
            self.waiting.push(Zeroizing::new(bytes.to_vec()));
        }
    }

    /// Delivers what waited. What came meanwhile has not been looked for: there may be more.
    fn deliver(&mut self, deliver: &mut dyn FnMut(&Segment<'_>)) -> Status {
        let offset_ns = steady_offset_ns();
        for bytes in std::mem::take(&mut self.waiting) {
            if let Ok(record) = decode(&bytes, offset_ns) {
                self.record(&record, deliver);
            }
        }
        self.ready = false;
        Status::More
    }

    fn record(&mut self, record: &Record<'_>, deliver: &mut dyn FnMut(&Segment<'_>)) {
        let segment = &record.segment;
        // Buses, desktops and loggers talk over such sockets all day.
        if segment.class == Class::Other && !record.socket().path.is_some_and(|path| (self.told)(&path)) {
            self.unread += 1;
            return;
        }
        if self.begun.get(&segment.socket).is_none() {
            self.begun.insert(segment.socket, ());
            if let Some(opening) = record.opening() {
                deliver(&opening);
            }
        }
        self.delivered += 1;
        deliver(segment);
    }
}

impl Capture for SyscallSource {
    fn within(&mut self) -> Option<&mut dyn Capture> {
        Some(&mut *self.packets)
    }

    fn drain(&mut self, deliver: &mut dyn FnMut(&Segment<'_>)) -> Result<Status, CaptureError> {
        if self.ready {
            return Ok(self.deliver(deliver));
        }
        self.take();
        let status = self.packets.drain(deliver)?;
        if self.waiting.is_empty() {
            return Ok(status);
        }
        // What is waiting comes with the next call, behind what is known of its sockets.
        self.ready = true;
        Ok(Status::More)
    }

    fn unix_sockets(&mut self) -> Vec<(SocketId, UnixSocket)> {
        std::mem::take(&mut self.known)
    }

    fn counts(&mut self) -> Counts {
        let mut counts = self.packets.counts();
        counts.delivered += self.delivered;
        counts.ignored.push(("unix-unread-protocol", self.unread));
        // A map that cannot be read any more means the counts end here, not the capture.
        counts.lost.extend(self.program.losses().unwrap_or_default());
        counts.lost.push(("syscall-undecodable", self.undecodable));
        counts
    }

    fn program_times(&mut self) -> Vec<(&'static str, Duration)> {
        let mut times = self.packets.program_times();
        times.extend(self.program.run_time().map(|run| (run.program, run.total)));
        times
    }
}
