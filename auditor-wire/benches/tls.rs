//! TLS handshakes per second of one core: from the first byte to the verdict, cut as the kernel cuts them.

use std::hint::black_box;

use auditor_wire::tls::{Accepted, ClientCertificate, Session, Side, sample_hello};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// What one side sends.
type Sent = (Side, Vec<u8>, u64);

fn record(side: Side, content: u8, length: u16) -> Sent {
    let [high, low] = length.to_be_bytes();
    (side, vec![content, 3, 3, high, low], u64::from(length))
}

fn message(side: Side, kind: u8, body: &[u8]) -> Sent {
    let [.., high, middle, low] = body.len().to_be_bytes();
    let message = [&[kind, high, middle, low], body].concat();
    let [.., high, low] = message.len().to_be_bytes();
    (side, [&[22, 3, 3, high, low][..], &message].concat(), 0)
}

fn server_hello(suite: [u8; 2], extensions: &[u8]) -> Vec<u8> {
    let [.., high, low] = extensions.len().to_be_bytes();
    [&[3, 3][..], &[5; 32], &[0], &suite, &[0, high, low], extensions].concat()
}

/// TLS 1.3 with a client certificate, as OpenSSL and Go send it.
fn encrypted() -> Vec<Sent> {
    use Side::{Client, Server};
    let hello = (Client, sample_hello("inventory.shop.svc", &["h2", "http/1.1"]), 0);
    let answer = message(Server, 2, &server_hello([0x13, 1], &[0, 43, 0, 2, 3, 4]));
    let flights = [(Server, &[23, 105, 916, 96, 53][..]), (Client, &[899, 96, 53, 115]), (Server, &[730, 730, 4096])];
    let records =
        flights.into_iter().flat_map(|(side, lengths)| lengths.iter().map(move |length| record(side, 23, *length)));
    [hello, answer].into_iter().chain(records).collect()
}

/// TLS 1.2 with certificates of 900 bytes on both sides.
fn clear() -> Vec<Sent> {
    use Side::{Client, Server};
    let chain = [&[0, 3, 0x87, 0, 3, 0x84][..], &[0x30; 900]].concat();
    vec![
        (Client, sample_hello("inventory.shop.svc", &["h2", "http/1.1"]), 0),
        message(Server, 2, &server_hello([0xc0, 0x2b], &[])),
        message(Server, 11, &chain),
        message(Server, 12, &[4; 110]),
        message(Server, 13, &[4; 80]),
        message(Server, 14, &[]),
        message(Client, 11, &chain),
        message(Client, 16, &[4; 33]),
        message(Client, 15, &[4; 75]),
        (Client, vec![20, 3, 3, 0, 1, 1], 0),
        record(Client, 22, 40),
        message(Server, 4, &[4; 200]),
        (Server, vec![20, 3, 3, 0, 1, 1], 0),
        record(Server, 22, 40),
    ]
}

fn judge(sent: &[Sent]) -> Session {
    let mut session = Session::new();
    for (side, bytes, skipped) in sent {
        session.data(*side, bytes);
        session.skip(*side, *skipped);
        if session.is_settled() {
            break;
        }
    }
    session
}

fn handshakes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tls");
    group.throughput(Throughput::Elements(1));
    for (name, sent) in [("TLS 1.3 handshake", encrypted()), ("TLS 1.2 handshake", clear())] {
        let auth = judge(&sent).facts().client;
        assert_eq!((auth.certificate, auth.accepted), (ClientCertificate::Presented, Accepted::Yes), "{name}");
        group.bench_function(name, |bencher| bencher.iter(|| judge(black_box(&sent)).facts()));
    }
    group.finish();
}

criterion_group!(benches, handshakes);
criterion_main!(benches);
