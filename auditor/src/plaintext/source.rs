//! The live source with TLS plaintext: packets as before, and between them what libraries read and write.
//!
//! Records of plaintext wait until the packets that passed before them have been taken: the socket of a session is known by its
//! ClientHello. What waits is secret: it is wiped.

use std::{collections::HashMap, time::Duration};

use auditor_wire::{
    segment::{Segment, SocketId, Timestamp},
    tls::Proof,
};
use zeroize::Zeroizing;

use super::{
    finder::{Covered, Finder},
    record::decode,
    sessions::Sessions,
};
use crate::{
    capture::{Capture, CaptureError, Counts, Status, clock, ring::RingSource},
    kernel::{loader::Ring, plaintext::Losses},
};

/// Records taken at once.
const BATCH: usize = 1024;
/// Bytes of a record but its payload.
const HEADER: usize = size_of::<auditor_abi::plaintext::PlaintextHeader>();

/// The live source with TLS plaintext. Dropping it detaches the programs and probes.
pub struct PlaintextSource {
    packets: RingSource,
    ring: Ring,
    losses: Losses,
    finder: Finder,
    sessions: Sessions,
    /// When each library was attached to, `CLOCK_MONOTONIC`, nanoseconds.
    attached: HashMap<u32, u64>,
    waiting: Vec<Zeroizing<Vec<u8>>>,
    /// The packets that passed before what waits have been taken.
    ready: bool,
    proofs: Vec<(SocketId, Proof)>,
    /// All that was read or written before has been taken.
    settled: Timestamp,
    delivered: u64,
    undecodable: u64,
}

impl PlaintextSource {
    /// A source over the packets' source and loaded probes; remembers up to `connections` connections.
    #[must_use]
    pub fn new(packets: RingSource, ring: Ring, losses: Losses, finder: Finder, connections: usize) -> Self {
        Self {
            packets,
            ring,
            losses,
            finder,
            sessions: Sessions::new(connections),
            attached: HashMap::new(),
            waiting: Vec::new(),
            ready: false,
            proofs: Vec::new(),
            settled: Timestamp::default(),
            delivered: 0,
            undecodable: 0,
        }
    }

    /// Takes what is in the ring.
    fn take(&mut self) {
        let now = clock::steady_now();
        while self.waiting.len() < BATCH {
            let Some(record) = self.ring.next_record() else {
                self.settled = now;
                return;
            };
            // The ring's memory is larger than what was captured.
            let used = record.get(..HEADER).and_then(captured).map_or(0, |captured| HEADER + captured);
            match record.get(..used).filter(|bytes| !bytes.is_empty()) {
                Some(bytes) => self.waiting.push(Zeroizing::new(bytes.to_vec())),
                None => self.undecodable += 1,
            }
        }
    }

    /// Delivers what waited.
    fn deliver(&mut self, deliver: &mut dyn FnMut(&Segment<'_>)) -> Status {
        let more = self.waiting.len() == BATCH;
        let offset_ns = self.packets.epoch_offset_ns();
        let Self { sessions, attached, waiting, delivered, .. } = self;
        let mut deliver = |segment: &Segment<'_>| {
            *delivered += 1;
            deliver(segment);
        };
        for record in waiting.drain(..) {
            if let Ok(record) = decode(&record) {
                let attached = attached.get(&record.library).map(|since| Timestamp(since.wrapping_add(offset_ns)));
                sessions.record(&record, attached, offset_ns, &mut deliver);
            }
        }
        // Not by now: where the ring holds more than was taken, the last of a session may be still in there.
        sessions.advance(self.settled, &mut deliver);
        self.ready = false;
        if more { Status::More } else { Status::Idle }
    }
}

/// Payload bytes by a record's header.
fn captured(header: &[u8]) -> Option<usize> {
    use zerocopy::FromBytes as _;
    let header = auditor_abi::plaintext::PlaintextHeader::ref_from_bytes(header).ok()?;
    usize::try_from(header.captured).ok()
}

impl Capture for PlaintextSource {
    fn within(&mut self) -> Option<&mut dyn Capture> {
        Some(&mut self.packets)
    }

    fn drain(&mut self, deliver: &mut dyn FnMut(&Segment<'_>)) -> Result<Status, CaptureError> {
        if self.ready {
            return Ok(self.deliver(deliver));
        }
        self.take();
        let Self { sessions, packets, .. } = self;
        let status = packets.drain(&mut |segment| {
            sessions.packet(segment);
            deliver(segment);
        })?;
        if status == Status::More {
            return Ok(status);
        }
        for Covered { index, since_ns } in self.finder.covered() {
            self.attached.insert(index, since_ns);
        }
        let Self { sessions, waiting, proofs, undecodable, .. } = self;
        for record in waiting.iter() {
            match decode(record) {
                Ok(record) => proofs.extend(sessions.proof(&record)),
                Err(_) => *undecodable += 1,
            }
        }
        // What is waiting comes with the next call, behind its proofs.
        self.ready = true;
        Ok(if self.waiting.is_empty() { self.deliver(deliver) } else { Status::More })
    }

    fn proofs(&mut self) -> Vec<(SocketId, Proof)> {
        std::mem::take(&mut self.proofs)
    }

    fn tls_libraries(&mut self) -> Vec<(&'static str, bool, u64)> {
        let counted = self.finder.counted();
        counted.into_iter().map(|((library, covered), files)| (library.as_str(), covered, files)).collect()
    }

    fn counts(&mut self) -> Counts {
        let mut counts = self.packets.counts();
        counts.delivered += self.delivered;
        counts.ignored.extend(self.sessions.left_out());
        // A map that cannot be read any more means the counts end here, not the capture.
        counts.lost.extend(self.losses.read().unwrap_or_default());
        counts.lost.push(("plaintext-undecodable", self.undecodable));
        counts
    }

    fn program_times(&mut self) -> Vec<(&'static str, Duration)> {
        let mut times = self.packets.program_times();
        times.extend(self.finder.run_times().into_iter().map(|run| (run.program, run.total)));
        times
    }
}
