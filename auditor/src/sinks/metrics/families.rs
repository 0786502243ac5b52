//! Names, help texts and labels of the families that speak of calls, and how a [`Snapshot`] becomes them.

use prometheus::{
    core::{Collector, Desc},
    proto::{self, MetricType},
};

use super::{
    Shared,
    calls::{Durations, Edge, Lifetimes, Snapshot},
    names::AllLabels,
};
use std::{collections::HashMap, sync::Arc};

pub(super) const EXCHANGES: &str = "auditor_exchanges_total";
pub(super) const CONNECTIONS: &str = "auditor_connections_total";
pub(super) const FINDINGS: &str = "auditor_findings_total";
pub(super) const DURATION: &str = "auditor_exchange_duration_seconds";
pub(super) const POSTURE: &str = "auditor_tls_endpoint_posture";
const LIFETIME: &str = "auditor_credential_lifetime_seconds";
const UNKNOWN: &str = "auditor_unknown_total";
const FOLDED: &str = "auditor_series_folded_total";
const SERIES: &str = "auditor_series";

/// Labels of an [`Edge`].
const EDGE: [&str; 4] = ["source_workload", "source_namespace", "destination_workload", "destination_namespace"];

/// Name, help, type, labels.
type Description = (&'static str, &'static str, MetricType, &'static [&'static str]);

const DESCRIPTIONS: [Description; 9] = [
    (
        EXCHANGES,
        "Internal calls judged, by who called whom, how, with what proof, and what came of it.",
        MetricType::COUNTER,
        &["reporter", EDGE[0], EDGE[1], EDGE[2], EDGE[3], "protocol", "security", "credential", "verdict", "outcome"],
    ),
    (
        CONNECTIONS,
        "Internal connections without readable calls, by who connected to whom and how.",
        MetricType::COUNTER,
        &[
            "reporter",
            EDGE[0],
            EDGE[1],
            EDGE[2],
            EDGE[3],
            "protocol",
            "security",
            "client_certificate",
            "verdict",
            "outcome",
        ],
    ),
    (
        POSTURE,
        "Always 1; the labels say what TLS endpoints of a workload make of clients without certificate.",
        MetricType::GAUGE,
        &[EDGE[2], EDGE[3], "posture"],
    ),
    (
        FINDINGS,
        "Findings on internal calls, by rule, severity and who called whom.",
        MetricType::COUNTER,
        &["rule", "severity", EDGE[0], EDGE[1], EDGE[2], EDGE[3]],
    ),
    (
        DURATION,
        "First byte of a request to first byte of its response, seconds, by destination.",
        MetricType::HISTOGRAM,
        &[EDGE[2], EDGE[3]],
    ),
    (
        LIFETIME,
        "Lifetime of the tokens that came with calls, expiry minus issue, seconds; a token counts with each call.",
        MetricType::HISTOGRAM,
        &[],
    ),
    (UNKNOWN, "Calls and connections with the verdict unknown, by reason.", MetricType::COUNTER, &["reason"]),
    (
        FOLDED,
        "Calls counted in a series with the labels ~other because the family was at its limit of series.",
        MetricType::COUNTER,
        &["metric"],
    ),
    (SERIES, "Series that speak of calls, as they are now.", MetricType::GAUGE, &[]),
];

/// Gives the registry the series that speak of calls.
pub(super) struct CallsCollector {
    shared: Arc<Shared>,
    descriptions: Vec<Desc>,
}

impl CallsCollector {
    pub(super) fn new(shared: Arc<Shared>) -> prometheus::Result<Self> {
        let describe = |(name, help, _, labels): &Description| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new((*name).to_owned(), (*help).to_owned(), labels, HashMap::new())
        };
        let descriptions = DESCRIPTIONS.iter().map(describe).collect::<prometheus::Result<_>>()?;
        Ok(Self { shared, descriptions })
    }
}

impl Collector for CallsCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        // The pipeline waits for this lock: what takes long is done after it.
        let snapshot = self.shared.calls().snapshot();
        DESCRIPTIONS.iter().map(|description| family(description, &snapshot)).collect()
    }
}

fn family((name, help, kind, labels): &Description, snapshot: &Snapshot) -> proto::MetricFamily {
    let mut family = proto::MetricFamily::default();
    family.set_name((*name).to_owned());
    family.set_help((*help).to_owned());
    family.set_field_type(*kind);
    family.set_metric(metrics(name, labels, snapshot));
    family
}

fn metrics(name: &str, labels: &[&str], snapshot: &Snapshot) -> Vec<proto::Metric> {
    let names = &snapshot.names;
    match name {
        EXCHANGES => map(&snapshot.exchanges, |(key, count)| {
            let [a, b, c, d] = edge(names, key.edge);
            let (security, verdict, outcome) = (key.security.as_str(), key.verdict.as_str(), key.outcome.as_str());
            let reporter = key.reporter.as_str();
            counter(labels, &[reporter, a, b, c, d, key.protocol, security, key.credential, verdict, outcome], *count)
        }),
        CONNECTIONS => map(&snapshot.connections, |(key, count)| {
            let [a, b, c, d] = edge(names, key.edge);
            let (security, verdict, outcome) = (key.security.as_str(), key.verdict.as_str(), key.outcome.as_str());
            let reporter = key.reporter.as_str();
            let values = [reporter, a, b, c, d, key.protocol, security, key.client_certificate, verdict, outcome];
            counter(labels, &values, *count)
        }),
        FINDINGS => map(&snapshot.findings, |(key, count)| {
            let [a, b, c, d] = edge(names, key.edge);
            counter(labels, &[key.rule, key.severity.as_str(), a, b, c, d], *count)
        }),
        DURATION => map(&snapshot.durations, |(destination, durations)| {
            let of = names.of(*destination);
            histogram(labels, &[&of.workload, &of.namespace], durations.to_proto(Durations::bounds()))
        }),
        LIFETIME => vec![histogram(labels, &[], snapshot.lifetimes.to_proto(Lifetimes::bounds()))],
        UNKNOWN => map(&snapshot.unknown, |(reason, count)| counter(labels, &[reason], *count)),
        FOLDED => map(&snapshot.folded, |(metric, count)| counter(labels, &[metric], *count)),
        POSTURE => map(&snapshot.postures, |(destination, posture)| {
            let of = names.of(*destination);
            gauge(labels, &[&of.workload, &of.namespace, posture.as_str()], 1)
        }),
        SERIES => vec![gauge(labels, &[], u64::try_from(snapshot.series).unwrap_or(u64::MAX))],
        _ => Vec::new(),
    }
}

fn map<T>(series: &[T], metric: impl Fn(&T) -> proto::Metric) -> Vec<proto::Metric> {
    series.iter().map(metric).collect()
}

fn edge(names: &AllLabels, edge: Edge) -> [&str; 4] {
    let (source, destination) = (names.of(edge.source), names.of(edge.destination));
    [&source.workload, &source.namespace, &destination.workload, &destination.namespace]
}

fn counter(names: &[&str], values: &[&str], count: u64) -> proto::Metric {
    let mut counter = proto::Counter::default();
    counter.set_value(float(count));
    let mut metric = proto::Metric::from_label(pairs(names, values));
    metric.set_counter(counter);
    metric
}

fn gauge(names: &[&str], values: &[&str], value: u64) -> proto::Metric {
    let mut gauge = proto::Gauge::default();
    gauge.set_value(float(value));
    let mut metric = proto::Metric::from_label(pairs(names, values));
    metric.set_gauge(gauge);
    metric
}

fn histogram(names: &[&str], values: &[&str], histogram: proto::Histogram) -> proto::Metric {
    let mut metric = proto::Metric::from_label(pairs(names, values));
    metric.set_histogram(histogram);
    metric
}

fn pairs(names: &[&str], values: &[&str]) -> Vec<proto::LabelPair> {
    debug_assert_eq!(names.len(), values.len(), "every label has a value: {names:?} {values:?}");
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    names.iter().zip(values).map(pair).collect()
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus numbers are floats; counts stay exact up to 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}
