//! Keeps the auditor below a share of a core: how many of the calls that repeat are copied, by the processor time it uses.
//!
//! A pure state machine: it is told what was used, and says what step to take. What a step does is the source's.

use std::time::Duration;

/// The deepest step: one of `2^DEEPEST` calls that repeat is copied.
pub const DEEPEST: u32 = 6;
/// How long the share is measured for one decision.
const WINDOW: Duration = Duration::from_secs(1);
/// A step back at most doubles the work: it is taken from below this part of the share, or it would be taken back at once.
const CALM_BELOW: f64 = 0.5;
/// Windows in a row that have to be calm before a step back.
const CALM_WINDOWS: u32 = 5;

/// The state machine.
#[derive(Debug)]
pub struct Governor {
    limit: f64,
    step: u32,
    calm: u32,
    /// When the window began, and what had been used then.
    began: Option<(Duration, Duration)>,
    used: f64,
}

/// A step that was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The step it was.
    pub from: u32,
    /// The step it is.
    pub to: u32,
}

impl Governor {
    /// One that keeps below `limit`, a share of one core.
    #[must_use]
    pub fn new(limit: f64) -> Self {
        Self { limit, step: 0, calm: 0, began: None, used: 0.0 }
    }

    /// The step: 0 copies all.
    #[must_use]
    pub fn step(&self) -> u32 {
        self.step
    }

    /// Of how many calls that repeat one is copied.
    #[must_use]
    pub fn one_of(&self) -> u32 {
        1 << self.step
    }

    /// The share of a core that was used in the last window.
    #[must_use]
    pub fn used(&self) -> f64 {
        self.used
    }

    /// The share of a core that is not to be exceeded.
    #[must_use]
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// Takes the processor time that the auditor has used by the steady time `now`; returns the step it takes, if any. It goes one
    /// step deeper after each window above the limit, and one back after some windows in a row well below it.
    pub fn observe(&mut self, now: Duration, cpu: Duration) -> Option<Change> {
        let Some((began, before)) = self.began else {
            self.began = Some((now, cpu));
            return None;
        };
        let window = now.saturating_sub(began);
        if window < WINDOW {
            return None;
        }
        self.began = Some((now, cpu));
        self.used = cpu.saturating_sub(before).as_secs_f64() / window.as_secs_f64();
        let from = self.step;
        if self.used > self.limit {
            self.calm = 0;
            self.step = (self.step + 1).min(DEEPEST);
        } else if self.used < self.limit * CALM_BELOW {
            self.calm = (self.calm + 1).min(CALM_WINDOWS);
            if self.calm == CALM_WINDOWS && self.step > 0 {
                self.calm = 0;
                self.step -= 1;
            }
        } else {
            self.calm = 0;
        }
        (self.step != from).then_some(Change { from, to: self.step })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps after each second in which so many milliseconds were used.
    fn steps(limit: f64, used: &[u64]) -> Vec<u32> {
        let mut governor = Governor::new(limit);
        let mut cpu = Duration::ZERO;
        governor.observe(Duration::ZERO, cpu);
        let second = |(second, used): (u64, &u64)| {
            cpu += Duration::from_millis(*used);
            let before = governor.step();
            let change = governor.observe(Duration::from_secs(second), cpu);
            let after = governor.step();
            assert_eq!(change, (before != after).then_some(Change { from: before, to: after }));
            after
        };
        (1..).zip(used).map(second).collect()
    }

    #[test]
    fn steps_follow_the_load() {
        for (name, used, expected) in [
            ("below the limit nothing is done", &[90, 99, 100, 40, 10][..], &[0, 0, 0, 0, 0][..]),
            ("above it, a step a second", &[101, 500, 101], &[1, 2, 3]),
            ("no deeper than the deepest", &[500, 500, 500, 500, 500, 500, 500, 500], &[1, 2, 3, 4, 5, 6, 6, 6]),
            ("a step back after five calm seconds", &[500, 500, 40, 40, 40, 40, 40], &[1, 2, 2, 2, 2, 2, 1]),
            ("each step back takes five more", &[500, 0, 0, 0, 0, 0, 0], &[1, 1, 1, 1, 1, 0, 0]),
            (
                "near the limit it stays, and calm begins anew",
                &[500, 40, 40, 40, 40, 60, 40, 40, 40, 40, 40],
                &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0],
            ),
            ("a step back that was too early is taken back", &[500, 0, 0, 0, 0, 0, 500], &[1, 1, 1, 1, 1, 0, 1]),
        ] {
            assert_eq!(steps(0.1, used), expected, "{name}");
        }
    }

    #[test]
    fn one_of_two_to_the_step_is_copied() {
        let mut governor = Governor::new(0.1);
        assert_eq!((governor.step(), governor.one_of()), (0, 1));
        governor.observe(Duration::ZERO, Duration::ZERO);
        for second in 1..=10 {
            governor.observe(Duration::from_secs(second), Duration::from_secs(second));
        }
        assert_eq!((governor.step(), governor.one_of()), (DEEPEST, 1 << DEEPEST));
        assert!((governor.used() - 1.0).abs() < 1e-9 && (governor.limit() - 0.1).abs() < 1e-9);
    }

    #[test]
    fn a_window_is_not_cut_short_and_time_that_stands_still_divides_nothing() {
        let mut governor = Governor::new(0.1);
        governor.observe(Duration::from_secs(5), Duration::ZERO);
        assert_eq!(governor.observe(Duration::from_secs(5), Duration::from_secs(1)), None);
        assert_eq!(governor.observe(Duration::from_millis(5999), Duration::from_secs(1)), None);
        let change = governor.observe(Duration::from_secs(15), Duration::from_millis(1001));
        assert_eq!(change, Some(Change { from: 0, to: 1 }));
        // Clocks that go back: nothing was used.
        assert_eq!(governor.observe(Duration::from_secs(3), Duration::ZERO), None);
    }
}
