//! What the sinks cost per judgement.

use std::{hint::black_box, net::IpAddr, sync::Arc};

use auditor::{
    credentials::{Credential, CredentialKind},
    evidence::Ledger,
    judgement::{
        Finding, Judgement, Kind, Outcome, Party, Policed, Reporter, RequestFacts, ResponseFacts, Security, Severity,
        Transport, Verdict,
    },
    sinks::{
        Look, Sink,
        jsonl::JsonLines,
        metrics::{Metrics, Settings},
        report::{self, Report},
        stream::Stream,
    },
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Calls between 1,000 pairs of workloads: every other one without credential and with a finding.
fn judgements() -> Vec<Judgement> {
    let party = |name: String, port| Party {
        address: IpAddr::from([10, 0, 0, 1]).into(),
        port,
        unix_path: None,
        internal: true,
        process: None,
        container: None,
        workload: Some(Arc::from(name)),
    };
    let judgement = |at: u32| {
        let soft = at.is_multiple_of(2);
        let finding = || Finding {
            rule: "unauthenticated-call",
            severity: Severity::High,
            detail: "no proof of identity, answered 200".into(),
        };
        let credential = || Credential {
            kind: CredentialKind::BearerOpaque,
            carrier: "header:authorization".into(),
            fingerprint: "9f2c6d41a8b03e57".into(),
            claims: None,
            signature: None,
            proof: None,
            custom: None,
        };
        Judgement {
            kind: Kind::Exchange,
            time: jiff::Timestamp::UNIX_EPOCH,
            reporter: Reporter::Destination,
            source: party(format!("shop/caller-{}", at % 100), 40000),
            destination: party(format!("shop/service-{}", at / 100), 8080),
            protocol: "http/1.1",
            request: Some(RequestFacts {
                method: "GET".into(),
                authority: Some("inventory".into()),
                path: "/items/42".into(),
                route: "/items/{id}".into(),
                header_names: soft.then(|| "host,user-agent,accept".into()),
            }),
            response: Some(ResponseFacts { status: 200, grpc_status: None, duration_seconds: Some(0.002) }),
            transport: Transport { security: Security::Plaintext, tls: None },
            credentials: if soft { Vec::new() } else { vec![credential()] },
            verdict: if soft { Verdict::Unauthenticated } else { Verdict::Authenticated },
            unknown_reason: None,
            outcome: Outcome::Accepted,
            findings: if soft { vec![finding()] } else { Vec::new() },
            deviations: Vec::new(),
            policy: Policed::default(),
            sampling: None,
        }
    };
    (0..1000).map(judgement).collect()
}

fn bench(criterion: &mut Criterion, name: &str, mut sink: impl Sink) {
    let judgements = judgements();
    let mut group = criterion.benchmark_group("sinks");
    group.throughput(Throughput::Elements(judgements.len() as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            for judgement in &judgements {
                sink.judgement(black_box(judgement));
            }
        });
    });
    group.finish();
}

/// A ledger as a sink; nobody is told.
struct Gathering(Ledger);

impl Sink for Gathering {
    fn judgement(&mut self, judgement: &Judgement) {
        self.0.judgement(judgement, |event| {
            black_box(event);
        });
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn sinks(criterion: &mut Criterion) {
    bench(criterion, "metrics", Metrics::new(Settings::default()).sink());
    bench(criterion, "metrics-folded", Metrics::new(Settings { series_limit: 10, ..Settings::default() }).sink());
    bench(criterion, "report", Report::new(report::Settings::default()));
    bench(criterion, "jsonl", JsonLines::new(std::io::sink()));
    bench(criterion, "stream", Stream::new(std::io::sink(), Look::PLAIN));
    bench(criterion, "ledger", Gathering(Ledger::new(10_000, jiff::SignedDuration::from_hours(1))));
    // Every finding gives up another group: what a flood of workloads costs.
    bench(criterion, "ledger-evicting", Gathering(Ledger::new(10, jiff::SignedDuration::from_hours(1))));
    let metrics = Metrics::new(Settings::default());
    let mut sink = metrics.sink();
    judgements().iter().for_each(|judgement| sink.judgement(judgement));
    criterion.bench_function("sinks/render-1000-edges", |bencher| bencher.iter(|| metrics.render().len()));
}

criterion_group!(benches, sinks);
criterion_main!(benches);
