//! Metrics for Prometheus. `docs/metrics.md` is the contract; a test holds this to it.
//!
//! No label holds a pod, an address, a port or a path. What peers and processes can name (workloads) is escaped, bounded in
//! number and forgotten when it is not seen any more. What comes past the limit is counted all the same, as `~other`, and
//! how often that happens is counted too.

mod calls;
#[cfg(test)]
mod contract;
mod families;
mod histogram;
mod names;
mod own;
mod postures;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus::{Registry, TextEncoder};

use self::{
    calls::Calls,
    families::CallsCollector,
    own::{Own, raise, raise_seconds},
};
use super::Sink;
use crate::judgement::Judgement;

/// Value of the `Content-Type` header to serve [`Metrics::render`] with.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Bounds of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most series of each counter that speaks of calls.
    pub series_limit: usize,
    /// Most destinations that have a histogram; each is some 15 series.
    pub histogram_limit: usize,
    /// A series that did not change for so long is dropped. Takes effect up to an eighth later.
    pub expire_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { series_limit: 5_000, histogram_limit: 500, expire_after: Duration::from_secs(3600) }
    }
}

/// The registry: one for the process. Share it as `Arc<Metrics>` or borrow it; everything takes `&self` and may be called
/// from any thread.
pub struct Metrics {
    registry: Registry,
    own: Own,
    shared: Arc<Shared>,
}

/// What the writing and the scraping thread share.
#[derive(Debug)]
struct Shared {
    calls: Mutex<Calls>,
    started: Instant,
}

impl Shared {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        // Counts are valid after every statement: a panic elsewhere is no reason to stop counting.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts judgements into [`Metrics`].
#[derive(Clone, Debug)]
pub struct MetricsSink {
    shared: Arc<Shared>,
}

impl Metrics {
    /// An empty registry.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let shared = Arc::new(Shared { calls: Mutex::new(Calls::new(&settings)), started: Instant::now() });
        let registry = Registry::new();
        let register = || {
            registry.register(Box::new(CallsCollector::new(Arc::clone(&shared))?))?;
            Own::register(&registry)
        };
        let own = register().expect("the families are constants with valid and different names");
        let metrics = Self { registry, own, shared };
        // Alerts need the zero before the first loss.
        for (_, reason) in auditor_abi::counters::LOSSES {
            metrics.set_lost(reason, 0);
        }
        metrics
    }

    /// A sink that counts into this registry.
    #[must_use]
    pub fn sink(&self) -> MetricsSink {
        MetricsSink { shared: Arc::clone(&self.shared) }
    }

    /// The page for Prometheus, in the text format; see [`CONTENT_TYPE`].
    #[must_use]
    pub fn render(&self) -> String {
        let encoded = TextEncoder::new().encode_to_string(&self.registry.gather());
        encoded.unwrap_or_else(|error| format!("# metrics could not be encoded: {error}\n"))
    }

    /// Records taken from the capture source `source` (`ring`, `pcap`, `recording`) since the start.
    pub fn set_records(&self, source: &str, total: u64) {
        raise(&self.own.records.with_label_values(&[source]), total);
    }

    /// Packets that were captured and are not TCP over IP, for one reason, since the start.
    pub fn set_ignored(&self, reason: &str, total: u64) {
        raise(&self.own.ignored.with_label_values(&[reason]), total);
    }

    /// Records lost for one reason since the start.
    pub fn set_lost(&self, reason: &str, total: u64) {
        raise(&self.own.lost.with_label_values(&[reason]), total);
    }

    /// Files with a TLS library that processes map now.
    pub fn set_tls_libraries(&self, library: &str, covered: bool, files: u64) {
        let covered = if covered { "true" } else { "false" };
        let files = i64::try_from(files).unwrap_or(i64::MAX);
        self.own.tls_libraries.with_label_values(&[library, covered]).set(files);
    }

    /// Time the kernel spent in one program since the start.
    pub fn set_program_run(&self, program: &str, total: Duration) {
        raise_seconds(&self.own.program_run.with_label_values(&[program]), total.as_secs_f64());
    }

    /// Calls that were passed over since the start.
    pub fn set_sampled_out(&self, total: u64) {
        raise(&self.own.sampled_out, total);
    }

    /// The governor's step, and the share of a core that was used and may be.
    pub fn set_sampling(&self, step: u32, share: f64, limit: f64) {
        self.own.sampling_step.set(i64::from(step));
        self.own.cpu_share.set(share);
        self.own.cpu_share_limit.set(limit);
    }

    /// How much of `kind` (`connections`, `buffered-bytes`, ...) the auditor holds now, and the most it will hold.
    pub fn set_tracked(&self, kind: &str, now: u64, limit: u64) {
        let gauge = |value| i64::try_from(value).unwrap_or(i64::MAX);
        self.own.tracked.with_label_values(&[kind]).set(gauge(now));
        self.own.tracked_limit.with_label_values(&[kind]).set(gauge(limit));
    }

    /// How much of `kind` was forgotten for the sake of its limit since the start.
    pub fn set_evicted(&self, kind: &str, total: u64) {
        raise(&self.own.evicted.with_label_values(&[kind]), total);
    }

    /// Calls or connections (`kind`: `exchange`, `connection`) left alone because an end is not internal, since the start.
    pub fn set_external(&self, kind: &str, total: u64) {
        raise(&self.own.external.with_label_values(&[kind]), total);
    }

    /// How often the keys of a token issuer were read, and how often they could not be, since the start.
    pub fn set_issuer_keys(&self, issuer: &str, read: u64, failed: u64) {
        raise(&self.own.issuer_keys.with_label_values(&[issuer, "read"]), read);
        raise(&self.own.issuer_keys.with_label_values(&[issuer, "failed"]), failed);
    }

    /// The policy that is in force: the digest of its file, when it was taken (seconds since the Unix epoch), and the state of
    /// each waiver by name.
    pub fn set_policy<'a>(&self, digest: &str, loaded: i64, waivers: impl Iterator<Item = (&'a str, &'static str)>) {
        let own = &self.own;
        own.policy_loaded.set(loaded);
        own.policy_info.reset();
        own.policy_info.with_label_values(&[digest]).set(1);
        own.waivers.reset();
        waivers.for_each(|labels| own.waivers.with_label_values(&[labels.0, labels.1]).set(1));
    }

    /// Times the policy file was read again with `result` (`ok`, `error`), since the start.
    pub fn set_policy_reloads(&self, result: &str, total: u64) {
        raise(&self.own.policy_reloads.with_label_values(&[result]), total);
    }

    /// Judgements that the sink `sink` could not write, since the start.
    pub fn set_sink_dropped(&self, sink: &str, total: u64) {
        raise(&self.own.sink_dropped.with_label_values(&[sink]), total);
    }

    /// Deliveries that the sink `sink` failed at, since the start.
    pub fn set_sink_errors(&self, sink: &str, total: u64) {
        raise(&self.own.sink_errors.with_label_values(&[sink]), total);
    }

    /// Time one batch of records took from being taken to its judgements having been handed on.
    pub fn observe_pipeline(&self, duration: Duration) {
        self.own.pipeline.observe(duration.as_secs_f64());
    }
}

impl Sink for MetricsSink {
    fn judgement(&mut self, judgement: &Judgement) {
        self.shared.calls().count(judgement);
    }

    fn flush(&mut self) -> io::Result<()> {
        let now = u32::try_from(self.shared.started.elapsed().as_secs()).unwrap_or(u32::MAX);
        self.shared.calls().advance(now);
        Ok(())
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("own", &self.own).finish_non_exhaustive()
    }
}
