//! Extraction and judgement of one exchange, from parsed heads to a judgement.

use std::{
    cell::{LazyCell, RefCell},
    hint::black_box,
    path::Path,
};

use auditor::{
    credentials::{Extractor, FingerprintKey, Settings},
    policy::{self, Judge, rulebook::Rulebook},
};
use auditor_wire::segment::SocketId;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

#[path = "../tests/judge/calls.rs"]
mod calls;

/// Calls that are made before they are judged: few, since a call is judged right after it was put together, from the processor's
/// cache.
const AT_HAND: BatchSize = BatchSize::NumIterations(32);

const CURL: &str = "GET /items/42 HTTP/1.1\r\nHost: inventory:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n";
const BROWSER: &str = "GET /api/v1/items/42?page=2&size=50 HTTP/1.1\r\nHost: inventory:8080\r\nConnection: keep-alive\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Encoding: gzip, deflate\r\nAccept-Language: en-US,en;q=0.9\r\nX-Request-Id: 123e4567-e89b-12d3-a456-426614174000\r\n\
    Cookie: theme=dark; sessionid=38afes7a8sd9f6a7s6df8a7sdf; _ga=GA1.2.1234567.7654321\r\n";
const RESPONSE: &str =
    "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n";
const JWT: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lzc3VlciIsInN1YiI6ImNhcnQiLCJhdWQiOiJpbnZlbnRvcnkiLC\
    JzY29wZSI6InJlYWQgd3JpdGUiLCJpYXQiOjE3OTUzMDU1NDAsImV4cCI6MTc5NTMwNTg0MH0.c2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJl";

fn judging(criterion: &mut Criterion) {
    let extractor = Extractor::new(Settings::default(), FingerprintKey::from_bytes([7; 32]));
    let mut judge = Judge::new(policy::Settings::default(), extractor);
    let jwt = JWT.replace(' ', "");
    let cases = [
        ("curl without credential", format!("{CURL}\r\n")),
        ("curl with an opaque token", format!("{CURL}Authorization: Bearer 2YotnFZFEjr1zCsicMWpAA\r\n\r\n")),
        ("curl with a JWT", format!("{CURL}Authorization: Bearer {jwt}\r\n\r\n")),
        ("browser with a session cookie", format!("{BROWSER}\r\n")),
    ];
    for (name, head) in cases {
        criterion.bench_function(name, |bencher| {
            let call = || calls::call(&head, RESPONSE);
            bencher.iter_batched(call, |call| black_box(judge.exchange(call)), AT_HAND);
        });
    }
}

/// A judge that remembers `credentials` at most, and has judged calls of as many and of a thousand edges.
fn warm(credentials: usize) -> Judge {
    let extractor = Extractor::new(Settings::default(), FingerprintKey::from_bytes([7; 32]));
    let cross_call = policy::CrossCallSettings { credentials, ..policy::CrossCallSettings::default() };
    let mut judge = Judge::new(policy::Settings { cross_call, ..policy::Settings::default() }, extractor);
    for number in 0..credentials {
        let ends = (format!("shop/caller-{}", number % 100), format!("shop/service-{}", number % 10));
        let head = format!("{CURL}Authorization: Bearer credential-{number}\r\n\r\n");
        black_box(judge.exchange(calls::between((&ends.0, &ends.1), 0, &head, RESPONSE)));
    }
    for number in 0..1000 {
        let ends = (format!("shop/caller-{}", number % 100), format!("shop/service-{}", number / 100));
        black_box(judge.exchange(calls::between((&ends.0, &ends.1), 0, &format!("{CURL}\r\n"), RESPONSE)));
    }
    judge
}

/// The same calls between known workloads, with what is remembered across calls.
fn judging_across(criterion: &mut Criterion) {
    let cases = [
        ("edge without credential", String::new()),
        ("known opaque token", "Authorization: Bearer credential-4200\r\n".to_owned()),
        (
            "request id and known token",
            "X-Request-Id: 123e4567-e89b-12d3\r\nAuthorization: Bearer credential-4200\r\n".to_owned(),
        ),
    ];
    for credentials in [65_536, 1_000_000] {
        // Only where one of them is asked for: a million calls take a while.
        let judge = LazyCell::new(|| RefCell::new(warm(credentials)));
        for (name, headers) in &cases {
            let head = format!("{CURL}{headers}\r\n");
            criterion.bench_function(&format!("{name}, {credentials} credentials known"), |bencher| {
                let mut judge = judge.borrow_mut();
                let call = || calls::between(("shop/caller-0", "shop/service-0"), 0, &head, RESPONSE);
                bencher.iter_batched(call, |call| black_box(judge.exchange(call)), AT_HAND);
            });
        }
        let mut number = credentials;
        criterion.bench_function(&format!("token not seen before, {credentials} credentials known"), |bencher| {
            let mut judge = judge.borrow_mut();
            let call = || {
                number += 1;
                let head = format!("{CURL}Authorization: Bearer credential-{number}\r\n\r\n");
                calls::between(("shop/caller-0", "shop/service-0"), 0, &head, RESPONSE)
            };
            bencher.iter_batched(call, |call| black_box(judge.exchange(call)), AT_HAND);
        });
    }
}

/// What a policy adds to a call with which nothing is wrong: a hundred routes below one first segment, of which the last fits; the same with a condition.
fn policies(criterion: &mut Criterion) {
    let routes = |when: &str| {
        let route = |n: usize| {
            format!(
                "  - name: r{n}\n    match: {{destination: shop/s{n}, methods: [GET], path: \"/items/{{id}}\"}}\n    require: {{proof: jwt, audiences: [inventory]}}\n{when}"
            )
        };
        format!("version: 1\nroutes:\n{}", (0..100).map(route).collect::<String>())
    };
    let head = format!("{CURL}Authorization: Bearer {JWT}\r\n\r\n");
    let condition = "    when: claims.sub == \"cart\" && path.id != \"0\"\n";
    let cases = [
        ("JWT, no policy", None),
        ("JWT, 100 routes", Some(routes(""))),
        ("JWT, 100 routes with a condition", Some(routes(condition))),
    ];
    for (name, policy) in cases {
        let extractor = Extractor::new(Settings::default(), FingerprintKey::from_bytes([7; 32]));
        let mut judge = Judge::new(policy::Settings::default(), extractor);
        if let Some(text) = policy {
            let day = jiff::civil::date(2026, 11, 22);
            judge.set_policy(Rulebook::parse(Path::new("policy.yaml"), &text, day).expect("a policy"));
        }
        criterion.bench_function(name, |bencher| {
            let call = || {
                let mut call = calls::call(&head, RESPONSE);
                call.destination.workload = Some("shop/s99".into());
                // Both ends are on this node: nothing is against the token.
                call.observed.source.socket = Some(SocketId(6));
                call
            };
            assert!(judge.exchange(call()).is_some_and(|judgement| judgement.findings.is_empty()), "{name}");
            bencher.iter_batched(call, |call| black_box(judge.exchange(call)), AT_HAND);
        });
    }
}

criterion_group!(benches, judging, judging_across, policies);
criterion_main!(benches);
