//! The live source: the ring buffer the kernel programs write.

use std::time::Duration;

use auditor_wire::segment::{Segment, SocketId};

use super::{Approval, Capture, CaptureError, Counts, Status, clock, record::decode};
use crate::kernel::loader::{Programs, Ring};

/// Records delivered in one call at most, so that the caller gets to its other work.
const BATCH: usize = 4096;

/// The live source. Dropping it detaches the programs.
pub struct RingSource {
    ring: Ring,
    programs: Programs,
    epoch_offset_ns: u64,
    delivered: u64,
    undecodable: u64,
}

impl RingSource {
    /// A source over loaded and attached programs.
    #[must_use]
    pub fn new(programs: Programs, ring: Ring) -> Self {
        Self { ring, programs, epoch_offset_ns: clock::steady_offset_ns(), delivered: 0, undecodable: 0 }
    }

    /// What brings the programs' clock to that of segments.
    #[must_use]
    pub fn epoch_offset_ns(&self) -> u64 {
        self.epoch_offset_ns
    }

    /// The programs, for their statistics.
    pub fn programs(&mut self) -> &mut Programs {
        &mut self.programs
    }
}

impl Capture for RingSource {
    fn drain(&mut self, deliver: &mut dyn FnMut(&Segment<'_>)) -> Result<Status, CaptureError> {
        for _ in 0..BATCH {
            let Some(record) = self.ring.next_record() else { return Ok(Status::Idle) };
            match decode(&record, self.epoch_offset_ns) {
                Ok(segments) => {
                    self.delivered += 1;
                    let programs = &self.programs;
                    segments.for_each(|segment| deliver(&Segment { repeat: programs.repeat(&segment), ..segment }));
                }
                Err(_) => self.undecodable += 1,
            }
        }
        Ok(Status::More)
    }

    fn spare(&mut self, socket: SocketId) {
        self.programs.spare(socket);
    }

    fn sample(&mut self, one_of: u32) -> bool {
        self.programs.sample(one_of)
    }

    fn approve(&mut self, Approval { socket, request, status, until }: Approval) {
        self.programs.approve(socket, request, status, until.0.wrapping_sub(self.epoch_offset_ns));
    }

    fn forbid(&mut self, socket: SocketId) {
        self.programs.forbid(socket);
    }

    fn withdraw(&mut self) {
        self.programs.withdraw();
    }

    fn clock_correction(&mut self) -> i64 {
        clock::correction_ns()
    }

    fn counts(&mut self) -> Counts {
        // A map that cannot be read any more means the counts end here, not the capture.
        let mut lost = self.programs.losses().unwrap_or_default();
        lost.push(("undecodable", self.undecodable));
        Counts { delivered: self.delivered, ignored: Vec::new(), lost, passed_over: self.programs.passed_over() }
    }

    fn program_times(&mut self) -> Vec<(&'static str, Duration)> {
        self.programs.run_times().into_iter().map(|run| (run.program, run.total)).collect()
    }
}
