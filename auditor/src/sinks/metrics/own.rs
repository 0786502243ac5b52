//! The series in which the auditor speaks of itself.

use prometheus::{
    Counter, CounterVec, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Collector,
};

/// Upper bounds of `auditor_pipeline_seconds`.
const PIPELINE_BOUNDS: [f64; 12] =
    [0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5];

#[derive(Debug)]
pub(super) struct Own {
    pub(super) records: IntCounterVec,
    pub(super) ignored: IntCounterVec,
    pub(super) lost: IntCounterVec,
    pub(super) program_run: CounterVec,
    pub(super) tls_libraries: IntGaugeVec,
    pub(super) sampled_out: IntCounter,
    pub(super) sampling_step: IntGauge,
    pub(super) cpu_share: Gauge,
    pub(super) cpu_share_limit: Gauge,
    pub(super) tracked: IntGaugeVec,
    pub(super) tracked_limit: IntGaugeVec,
    pub(super) evicted: IntCounterVec,
    pub(super) external: IntCounterVec,
    pub(super) issuer_keys: IntCounterVec,
    pub(super) sink_dropped: IntCounterVec,
    pub(super) sink_errors: IntCounterVec,
    pub(super) policy_info: IntGaugeVec,
    pub(super) policy_loaded: IntGauge,
    pub(super) policy_reloads: IntCounterVec,
    pub(super) waivers: IntGaugeVec,
    pub(super) pipeline: Histogram,
}

impl Own {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let int = |name, help, label| {
            let family = IntCounterVec::new(Opts::new(name, help), &[label])?;
            add(registry, family)
        };
        let gauge = |name, help| add(registry, IntGaugeVec::new(Opts::new(name, help), &["kind"])?);
        let build = IntGaugeVec::new(
            Opts::new("auditor_build_info", "Always 1; the labels say which build runs."),
            &["version"],
        )?;
        add(registry, build)?.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let issuer_keys = Opts::new(
            "auditor_issuer_key_reads_total",
            "Times the keys of a token issuer were asked for, by what came of it.",
        );
        let pipeline = HistogramOpts::new(
            "auditor_pipeline_seconds",
            "Time from taking a batch of records to having handed on its judgements, seconds.",
        );
        let program_run = Opts::new(
            "auditor_capture_program_run_seconds_total",
            "Time the kernel spent in the auditor's programs, seconds; stays 0 unless the kernel keeps BPF statistics.",
        );
        let tls_libraries = Opts::new(
            "auditor_tls_libraries",
            "Files with a TLS library that processes map, by library and whether plaintext is read from it.",
        );
        let policy_info = Opts::new("auditor_policy_info", "Always 1; the label says which policy file is in force.");
        let policy_loaded = IntGauge::new(
            "auditor_policy_loaded_timestamp_seconds",
            "When the policy in force was taken, seconds since the Unix epoch; 0 without a policy.",
        )?;
        let waivers = Opts::new("auditor_waivers", "Always 1; waivers of the policy by name and state.");
        Ok(Self {
            policy_info: add(registry, IntGaugeVec::new(policy_info, &["digest"])?)?,
            policy_loaded: add(registry, policy_loaded)?,
            policy_reloads: int(
                "auditor_policy_reloads_total",
                "Times the policy file was read again, by result; with an error the policy before it stays in force.",
                "result",
            )?,
            waivers: add(registry, IntGaugeVec::new(waivers, &["name", "state"])?)?,
            records: int("auditor_capture_records_total", "Records taken from a capture source.", "source")?,
            ignored: int(
                "auditor_capture_ignored_total",
                "Packets of a capture source that are not TCP over IP, and TLS plaintext that is not followed, by reason. Not a loss.",
                "reason",
            )?,
            lost: int("auditor_capture_lost_total", "Records lost before they were read, by reason.", "reason")?,
            program_run: add(registry, CounterVec::new(program_run, &["program"])?)?,
            tls_libraries: add(registry, IntGaugeVec::new(tls_libraries, &["library", "covered"])?)?,
            sampled_out: add(
                registry,
                IntCounter::new(
                    "auditor_exchanges_sampled_out_total",
                    "Calls that were passed over because they repeat ones that were judged, counted in the kernel.",
                )?,
            )?,
            sampling_step: add(
                registry,
                IntGauge::new(
                    "auditor_sampling_step",
                    "Step of the governor: of 2^step calls that repeat one is judged; 0 judges all.",
                )?,
            )?,
            cpu_share: add(
                registry,
                Gauge::new("auditor_cpu_share", "Share of a core the auditor used in the governor's last second.")?,
            )?,
            cpu_share_limit: add(
                registry,
                Gauge::new("auditor_cpu_share_limit", "Share of a core the governor keeps below; 0 without one.")?,
            )?,
            tracked: gauge("auditor_tracked", "What the auditor holds in memory now, by kind.")?,
            tracked_limit: gauge("auditor_tracked_limit", "Most that the auditor holds in memory, by kind.")?,
            evicted: int("auditor_evicted_total", "What the auditor forgot to stay within a limit, by kind.", "kind")?,
            external: int(
                "auditor_external_total",
                "Calls and connections left alone because one end is not internal, by kind.",
                "kind",
            )?,
            issuer_keys: add(registry, IntCounterVec::new(issuer_keys, &["issuer", "result"])?)?,
            sink_dropped: int("auditor_sink_dropped_total", "Judgements a sink could not write.", "sink")?,
            sink_errors: int(
                "auditor_sink_errors_total",
                "Deliveries of findings, and savings of the state, that failed; most are tried again.",
                "sink",
            )?,
            pipeline: add(registry, Histogram::with_opts(pipeline.buckets(PIPELINE_BOUNDS.to_vec()))?)?,
        })
    }
}

/// Raises a counter to a total that is kept elsewhere. A smaller total changes nothing: counters never fall.
pub(super) fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// [`raise`] for seconds.
pub(super) fn raise_seconds(counter: &Counter, total: f64) {
    let more = total - counter.get();
    if more > 0.0 {
        counter.inc_by(more);
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
