//! Heads per second of one core: requests and responses as browsers and services send them, whole and in parts.

use std::hint::black_box;

use auditor_wire::http1::framing;
use auditor_wire::http1::stream::{Chunk, Kind, Parser, What};
use auditor_wire::segment::Timestamp;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const REQUEST: &str = "GET /items/42?expand=stock HTTP/1.1\r\nHost: inventory.shop.svc:8080\r\nUser-Agent: python-requests/2.31\r\n\
Accept: application/json\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nX-Request-Id: 5f2b6c1e-8a77\r\n\
Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcCJ9.c2lnbmF0dXJlLXNpZ25hdHVyZS1zaWduYXR1cmU\r\n\r\n";
const RESPONSE: &str = "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sun, 22 Nov 2026 01:23:45 GMT\r\nContent-Type: application/json\r\n\
Content-Length: 24\r\nConnection: keep-alive\r\n\r\n{\"id\":42,\"stock\":true}  ";

fn messages(kind: Kind, stream: &[u8], part: usize) -> usize {
    let mut parser = Parser::default();
    parser.expect(kind);
    let mut found = 0;
    for bytes in stream.chunks(part) {
        let mut chunk = Chunk { bytes, sequence: 0, time: Timestamp(0), begins: true };
        while let Some(event) = parser.data(&mut chunk, 65_536, true) {
            found += 1;
            match event.what {
                What::Request(Some(head), None) => parser.frame(framing::request(head.asked, head.length)),
                What::Response(head, None) => {
                    parser.frame(framing::response(head.response.status, Some(framing::Asked::default()), head.length));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    found
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http1");
    for (name, kind, message) in [("request", Kind::Requests, REQUEST), ("response", Kind::Responses, RESPONSE)] {
        let stream = message.repeat(100).into_bytes();
        assert_eq!(messages(kind, &stream, message.len()), 100);
        group.throughput(Throughput::Elements(100));
        group.bench_function(name, |bencher| bencher.iter(|| messages(kind, black_box(&stream), message.len())));
        group.bench_function(format!("{name} in parts of 100 bytes"), |bencher| {
            bencher.iter(|| messages(kind, black_box(&stream), 100));
        });
    }
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
