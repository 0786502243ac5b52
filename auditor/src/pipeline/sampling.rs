//! The governor at work: what it is told, and what becomes of what it says.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::governor::Governor;
use crate::{capture::Capture, sinks::metrics::Metrics};

/// Keeps a pipeline within its share.
pub(super) struct Sampler {
    governor: Governor,
    /// The source cannot sample, which has been said.
    unable: bool,
}

impl Sampler {
    pub(super) fn new(share: f64) -> Self {
        Self { governor: Governor::new(share), unable: false }
    }

    /// Takes what the process has used by the steady time `now`; returns of how many calls that repeat one is judged from now on,
    /// where that changes.
    pub(super) fn keep(&mut self, now: Duration, capture: &mut dyn Capture) -> Option<u32> {
        if self.unable {
            return None;
        }
        let change = self.governor.observe(now, used())?;
        let one_of = self.governor.one_of();
        if !capture.sample(one_of) {
            self.unable = true;
            tracing::warn!("this hook cannot sample: every call is judged, and governor.cpu_share has no effect");
            return None;
        }
        let (share, limit) = (self.governor.used(), self.governor.limit());
        if change.to > change.from {
            tracing::warn!(
                step = change.to,
                one_of,
                share,
                limit,
                "above its share of a core: calls that repeat are sampled deeper"
            );
        } else {
            tracing::info!(
                step = change.to,
                one_of,
                share,
                limit,
                "below its share of a core: calls that repeat are sampled less"
            );
        }
        Some(one_of)
    }

    /// Brings the figures up to date.
    pub(super) fn figures(&self, metrics: &Metrics) {
        let step = if self.unable { 0 } else { self.governor.step() };
        metrics.set_sampling(step, self.governor.used(), self.governor.limit());
    }
}

/// Processor time of all threads of this process since it began.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}
