use std::{sync::Arc, thread};

use super::{
    super::{Sink, sample},
    Metrics, Settings,
};
use crate::judgement::{Judgement, Outcome, Severity, Verdict};

fn small(series_limit: usize) -> Metrics {
    Metrics::new(Settings { series_limit, histogram_limit: series_limit, ..Settings::default() })
}

/// The lines of one metric that are not comments, in the order of the page.
fn lines(page: &str, metric: &str) -> Vec<String> {
    let of = |line: &&str| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' ']));
    page.lines().filter(of).map(str::to_owned).collect()
}

fn between(source: &str, destination: &str) -> Judgement {
    let mut judgement = sample::unauthenticated();
    judgement.source.workload = Some(source.into());
    judgement.destination.workload = Some(destination.into());
    judgement
}

#[test]
fn a_call_is_counted_in_every_family_it_belongs_to() {
    let metrics = small(10);
    let mut sink = metrics.sink();
    sink.judgement(&sample::unauthenticated());
    sink.judgement(&sample::unauthenticated());
    sink.judgement(&sample::authenticated());
    sink.judgement(&sample::connection());
    let page = metrics.render();
    assert_eq!(
        lines(&page, "auditor_exchanges_total"),
        [
            "auditor_exchanges_total{reporter=\"destination\",source_workload=\"cart\",source_namespace=\"shop\",\
             destination_workload=\"inventory\",destination_namespace=\"shop\",protocol=\"http/1.1\",\
             security=\"plaintext\",credential=\"bearer-jwt\",verdict=\"authenticated\",outcome=\"accepted\"} 1",
            "auditor_exchanges_total{reporter=\"destination\",source_workload=\"curl\",source_namespace=\"\",\
             destination_workload=\"inventory\",destination_namespace=\"\",protocol=\"http/1.1\",\
             security=\"plaintext\",credential=\"none\",verdict=\"unauthenticated\",outcome=\"accepted\"} 2",
        ],
        "{page}"
    );
    assert_eq!(
        lines(&page, "auditor_findings_total"),
        ["auditor_findings_total{rule=\"unauthenticated-call\",severity=\"high\",source_workload=\"curl\",\
          source_namespace=\"\",destination_workload=\"inventory\",destination_namespace=\"\"} 2"],
        "{page}"
    );
    assert_eq!(
        lines(&page, "auditor_connections_total"),
        ["auditor_connections_total{reporter=\"source\",source_workload=\"curl\",source_namespace=\"\",\
          destination_workload=\"~unknown\",destination_namespace=\"\",protocol=\"tls\",security=\"tls\",\
          client_certificate=\"undetermined\",verdict=\"unknown\",outcome=\"unanswered\"} 1"],
        "{page}"
    );
    assert_eq!(lines(&page, "auditor_unknown_total"), ["auditor_unknown_total{reason=\"undetermined-tls\"} 1"]);
    assert_eq!(
        lines(&page, "auditor_credential_lifetime_seconds_sum"),
        ["auditor_credential_lifetime_seconds_sum 300"]
    );
    let durations = lines(&page, "auditor_exchange_duration_seconds_count");
    assert_eq!(
        durations,
        [
            "auditor_exchange_duration_seconds_count{destination_workload=\"inventory\",destination_namespace=\"\"} 2",
            "auditor_exchange_duration_seconds_count{destination_workload=\"inventory\",destination_namespace=\"shop\"} 1",
        ]
    );
}

/// Values of the label `posture`, of the workload `ledger`.
fn postures(metrics: &Metrics) -> Vec<String> {
    let lines = lines(&metrics.render(), "auditor_tls_endpoint_posture");
    assert!(lines.iter().all(|line| line.ends_with(" 1")), "{lines:?}");
    let of = |line: &String| {
        let rest = line.split_once("{destination_workload=\"ledger\",destination_namespace=\"\",posture=\"")?.1;
        rest.split('"').next().map(str::to_owned)
    };
    lines.iter().filter_map(of).collect()
}

#[test]
fn the_posture_of_an_endpoint_is_what_its_handshakes_show_within_the_hour() {
    let metrics = small(10);
    let mut sink = metrics.sink();
    sink.judgement(&sample::mutual_tls());
    assert_eq!(postures(&metrics), ["unknown"]);
    sink.judgement(&sample::refused_tls());
    assert_eq!(postures(&metrics), ["enforced"]);
    sink.judgement(&sample::anonymous_tls());
    assert_eq!(postures(&metrics), ["optional"]);
    // It goes on being used, and no handshake without a certificate is seen any more.
    for now in [1800, 3500, 3601] {
        metrics.shared.calls().advance(now);
        sink.judgement(&sample::mutual_tls());
        sink.judgement(&sample::refused_tls());
    }
    assert_eq!(postures(&metrics), ["enforced"]);
    metrics.shared.calls().advance(20_000);
    assert_eq!(postures(&metrics), [""; 0]);
}

#[test]
fn endpoints_of_one_workload_are_told_apart_and_bounded() {
    let metrics = small(3);
    let mut sink = metrics.sink();
    let mut open = sample::anonymous_tls();
    open.destination.port = 8443;
    for judgement in [sample::mutual_tls(), sample::refused_tls(), open] {
        sink.judgement(&judgement);
    }
    assert_eq!(postures(&metrics), ["enforced", "optional"]);
    for port in 0..100 {
        let mut other = sample::anonymous_tls();
        other.destination.port = port;
        sink.judgement(&other);
    }
    let page = metrics.render();
    let folded = "auditor_series_folded_total{metric=\"auditor_tls_endpoint_posture\"} 99";
    assert!(page.lines().any(|line| line == folded), "{page}");
}

#[test]
fn unknown_servers_do_not_share_a_posture() {
    let metrics = small(10);
    let mut sink = metrics.sink();
    let at = |address: &str, mut judgement: Judgement| {
        judgement.destination = sample::party(address, 443, None);
        judgement
    };
    sink.judgement(&at("10.0.0.1", sample::mutual_tls()));
    sink.judgement(&at("10.0.0.2", sample::refused_tls()));
    let series = lines(&metrics.render(), "auditor_tls_endpoint_posture").concat();
    assert!(series.contains("posture=\"unknown\"") && !series.contains("enforced"), "{series}");
}

#[test]
fn names_that_join_to_the_same_text_are_different_series() {
    let metrics = small(10);
    let mut sink = metrics.sink();
    sink.judgement(&between("ab", "c"));
    sink.judgement(&between("a", "bc"));
    let page = metrics.render();
    assert_eq!(lines(&page, "auditor_exchanges_total").len(), 2, "{page}");
}

#[test]
fn past_the_limit_calls_fold_and_none_is_lost() {
    let metrics = small(3);
    let mut sink = metrics.sink();
    for caller in 0..1000 {
        sink.judgement(&between(&format!("caller-{caller}"), "inventory"));
    }
    sink.judgement(&between("caller-0", "inventory"));
    let page = metrics.render();
    let series = lines(&page, "auditor_exchanges_total");
    assert_eq!(series.len(), 4, "{page}");
    assert!(series.iter().any(|line| line.contains("source_workload=\"~other\"") && line.ends_with(" 997")), "{page}");
    assert!(series.iter().any(|line| line.contains("source_workload=\"caller-0\"") && line.ends_with(" 2")), "{page}");
    let folded = lines(&page, "auditor_series_folded_total");
    assert!(
        folded.contains(&"auditor_series_folded_total{metric=\"auditor_exchanges_total\"} 997".to_owned()),
        "{page}"
    );
    assert!(
        folded.contains(&"auditor_series_folded_total{metric=\"auditor_findings_total\"} 997".to_owned()),
        "{page}"
    );
}

#[test]
fn hostile_names_stay_inside_their_label() {
    let metrics = small(10);
    let mut sink = metrics.sink();
    sink.judgement(&between("x\"} 1\nauditor_fake_total 9\u{1b}[2J\\", "~other"));
    let page = metrics.render();
    assert_eq!(lines(&page, "auditor_fake_total"), [""; 0], "{page}");
    assert!(!page.contains('\u{1b}'), "{page:?}");
    let series = lines(&page, "auditor_exchanges_total").concat();
    assert!(series.contains(r#"destination_workload="\\~other""#), "a name is not taken for the fold: {series}");
}

#[test]
fn series_that_are_not_seen_any_more_expire_with_their_names() {
    let metrics = small(10);
    let mut sink = metrics.sink();
    let ttl = 3600;
    for now in 0..20 {
        metrics.shared.calls().advance(now * ttl);
        sink.judgement(&between(&format!("job-{now}"), "inventory"));
    }
    let page = metrics.render();
    let callers = lines(&page, "auditor_exchanges_total");
    assert_eq!(callers.len(), 2, "the last, and the one exactly at the limit: {callers:#?}");
    assert_eq!(metrics.shared.calls().workloads(), 3);
    assert!(lines(&page, "auditor_series_folded_total").iter().all(|line| line.ends_with(" 0")), "{page}");
    assert_eq!(lines(&page, "auditor_series"), ["auditor_series 5"], "{page}");
}

#[test]
fn counters_of_totals_never_fall() {
    let metrics = small(10);
    metrics.set_records("ring", 7);
    metrics.set_records("ring", 5);
    metrics.set_records("ring", 9);
    metrics.set_lost("ring-full", 2);
    metrics.set_ignored("not-tcp", 3);
    metrics.set_program_run("egress", std::time::Duration::from_millis(1500));
    metrics.set_program_run("egress", std::time::Duration::from_millis(500));
    metrics.set_sampled_out(7);
    metrics.set_sampling(2, 0.25, 0.125);
    metrics.set_tracked("connections", 12, 100);
    metrics.set_external("exchange", 4);
    metrics.set_sink_dropped("jsonl", 1);
    metrics.observe_pipeline(std::time::Duration::from_micros(30));
    let page = metrics.render();
    for line in [
        "auditor_capture_records_total{source=\"ring\"} 9",
        "auditor_capture_lost_total{reason=\"ring-full\"} 2",
        "auditor_capture_lost_total{reason=\"socket-storage\"} 0",
        "auditor_capture_ignored_total{reason=\"not-tcp\"} 3",
        "auditor_capture_program_run_seconds_total{program=\"egress\"} 1.5",
        "auditor_exchanges_sampled_out_total 7",
        "auditor_sampling_step 2",
        "auditor_cpu_share 0.25",
        "auditor_cpu_share_limit 0.125",
        "auditor_tracked{kind=\"connections\"} 12",
        "auditor_tracked_limit{kind=\"connections\"} 100",
        "auditor_external_total{kind=\"exchange\"} 4",
        "auditor_sink_dropped_total{sink=\"jsonl\"} 1",
        "auditor_pipeline_seconds_bucket{le=\"0.00005\"} 1",
        concat!("auditor_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(page.lines().any(|got| got == line), "{line} is missing in\n{page}");
    }
}

#[test]
fn every_verdict_outcome_and_severity_is_a_series_of_its_own() {
    let metrics = small(1000);
    let mut sink = metrics.sink();
    let verdicts = [Verdict::Authenticated, Verdict::Weak, Verdict::Unauthenticated, Verdict::Exempt, Verdict::Unknown];
    let outcomes = [Outcome::Accepted, Outcome::Refused, Outcome::Failed, Outcome::Unanswered];
    for verdict in verdicts {
        for outcome in outcomes {
            let findings = vec![sample::finding("basic-credential", Severity::Medium, "")];
            sink.judgement(&Judgement { verdict, outcome, findings, ..sample::unauthenticated() });
        }
    }
    let page = metrics.render();
    assert_eq!(lines(&page, "auditor_exchanges_total").len(), 20);
    assert_eq!(lines(&page, "auditor_findings_total").len(), 1);
}

#[test]
fn scrapes_while_counting_see_totals_that_only_grow() {
    let metrics = Arc::new(small(50));
    let mut sink = metrics.sink();
    let writer = thread::spawn(move || {
        for call in 0..5000 {
            sink.judgement(&between(&format!("caller-{}", call % 70), "inventory"));
            if call % 100 == 0 {
                sink.flush().unwrap();
            }
        }
    });
    let total = || -> f64 {
        let page = metrics.render();
        let value = |line: &String| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        lines(&page, "auditor_exchanges_total").iter().map(value).sum()
    };
    let mut last = 0.0;
    while !writer.is_finished() {
        let now = total();
        assert!(now >= last, "{now} after {last}");
        last = now;
    }
    writer.join().unwrap();
    assert_eq!(total(), 5000.0);
}
