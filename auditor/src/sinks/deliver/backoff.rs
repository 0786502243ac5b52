//! When to try again: ever more seldom, never all at once.

use std::time::{Duration, Instant};

/// Before the second attempt.
const FIRST: Duration = Duration::from_secs(1);
/// Between any two attempts at most, unless the receiver asks for more.
const LONGEST: Duration = Duration::from_secs(300);
/// What a receiver can ask for at most.
const ASKED: Duration = Duration::from_secs(900);

/// The waiting time between attempts: doubled with each, a random half of it added to the other half, so that many auditors do not
/// come back at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempts: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// Whether an attempt may be made.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    /// Attempts that failed in a row.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// An attempt failed. `asked` is what the receiver asked to wait for.
    pub(super) fn failed(&mut self, now: Instant, asked: Option<Duration>) {
        let span = FIRST.saturating_mul(1 << self.attempts.min(16)).min(LONGEST);
        let half = span / 2;
        let wait = half + random_part(half);
        self.attempts = self.attempts.saturating_add(1);
        self.until = now.checked_add(wait.max(asked.unwrap_or_default().min(ASKED)));
    }

    /// An attempt succeeded.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

/// Some part of `span`. Without randomness, all of it.
fn random_part(span: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    span.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_within_bounds_and_follow_the_receiver() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        assert!(backoff.is_over(now));
        let mut longest = FIRST;
        for attempt in 1..40 {
            backoff.failed(now, None);
            assert_eq!(backoff.attempts(), attempt);
            let shortest = longest / 2;
            assert!(
                !backoff.is_over(now + shortest - Duration::from_nanos(1)),
                "attempt {attempt} waits at least half"
            );
            assert!(backoff.is_over(now + longest), "attempt {attempt} waits at most {longest:?}");
            longest = (longest * 2).min(LONGEST);
        }
        backoff.succeeded();
        assert!(backoff.is_over(now) && backoff.attempts() == 0);
        backoff.failed(now, Some(Duration::from_secs(30)));
        assert!(!backoff.is_over(now + Duration::from_secs(29)) && backoff.is_over(now + Duration::from_secs(30)));
        backoff.failed(now, Some(Duration::MAX));
        assert!(backoff.is_over(now + ASKED), "nobody can silence it for good");
    }
}
