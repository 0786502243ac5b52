//! The time of segments, and the wall clock's.
//!
//! The kernel programs read `CLOCK_MONOTONIC`. Segments carry that, moved once to where the Unix epoch was when the auditor
//! started: it never goes back and never jumps. The wall clock does both when it is set, and whoever waits by it waits for ever,
//! or gives up at once. What it has moved since is added behind the tracker, to what is said of a call.

use std::sync::OnceLock;

use auditor_wire::segment::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// One for all sources: their segments are of one time.
static STEADY: OnceLock<u64> = OnceLock::new();

/// What is added to the programs' clock to get the time of segments; the same as long as the process lives.
pub(super) fn steady_offset_ns() -> u64 {
    *STEADY.get_or_init(epoch_offset_ns)
}

/// Now, in the time of segments.
#[must_use]
pub fn steady_now() -> Timestamp {
    Timestamp(monotonic_ns().wrapping_add(steady_offset_ns()))
}

/// `CLOCK_MONOTONIC`, which the kernel programs read, nanoseconds.
#[must_use]
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// What is added to the time of segments to get the wall clock's now.
pub(super) fn correction_ns() -> i64 {
    correction(steady_offset_ns(), epoch_offset_ns())
}

/// The way from one offset to another; an offset before the epoch is a large number that wraps.
fn correction(steady_ns: u64, wall_ns: u64) -> i64 {
    wall_ns.wrapping_sub(steady_ns).cast_signed()
}

/// A time of segments by the wall clock. It ends where what a [`Timestamp`] holds ends.
#[must_use]
pub fn corrected(time: Timestamp, correction_ns: i64) -> Timestamp {
    Timestamp(time.0.saturating_add_signed(correction_ns))
}

/// What brings `CLOCK_MONOTONIC` to the Unix epoch now.
fn epoch_offset_ns() -> u64 {
    nanoseconds(ClockId::Realtime).wrapping_sub(monotonic_ns())
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;

    #[test]
    fn a_step_of_the_wall_clock_is_added_and_the_steady_one_stays() {
        // (offset at the start, offset now, time of a segment, time that is said)
        let table = [
            (10 * HOUR, 10 * HOUR, 12 * HOUR, 12 * HOUR),
            (10 * HOUR, 11 * HOUR, 12 * HOUR, 13 * HOUR),
            (10 * HOUR, 9 * HOUR, 12 * HOUR, 11 * HOUR),
            // A machine that starts in 1970 and is up for longer than that: then it gets to know the time, or the other way round.
            (HOUR.wrapping_neg(), 500_000 * HOUR, HOUR, 500_002 * HOUR),
            (500_000 * HOUR, HOUR.wrapping_neg(), 500_002 * HOUR, HOUR),
            // Nothing is before the epoch, or behind the end of time.
            (10 * HOUR, 0, HOUR, 0),
            (0, 10 * HOUR, u64::MAX - HOUR, u64::MAX),
        ];
        for (steady, wall, time, said) in table {
            let said_then = corrected(Timestamp(time), correction(steady, wall));
            assert_eq!(said_then, Timestamp(said), "from {steady} to {wall}");
        }
    }

    #[test]
    fn the_steady_offset_is_read_once() {
        assert_eq!(steady_offset_ns(), steady_offset_ns());
        // Nobody sets the clock by an hour while tests run.
        assert!(correction_ns().unsigned_abs() < HOUR, "{}", correction_ns());
    }
}
