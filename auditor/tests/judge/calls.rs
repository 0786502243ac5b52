//! Calls made of the text of their heads.

use std::{net::SocketAddr, time::Duration};

use auditor::{attribution::Attributed, judgement::Party};
use auditor_wire::{
    exchange::{Deviations, End, Exchange, Head, Reporter, Request, Response, Version},
    segment::{Endpoints, SocketId, Timestamp},
};
use zeroize::Zeroizing;

/// When the calls are made: 2026-11-22T00:00:00Z.
pub(crate) const NOW: i64 = 1_795_305_600;

/// The request of a head. Only well-formed heads are given to this.
pub(crate) fn request(head: &str) -> Request {
    let line = head.lines().next().expect("a request line");
    let mut words = line.split(' ');
    let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
    let (origin, userinfo) = match target.split_once("://") {
        None => (target, None),
        Some((_, rest)) => {
            let slash = rest.find('/').unwrap_or(rest.len());
            (&rest[slash..], rest[..slash].rsplit_once('@').map(|(userinfo, _)| userinfo))
        }
    };
    let (path, query) = origin.split_once('?').map_or((origin, None), |(path, query)| (path, Some(query)));
    Request {
        method: method.into(),
        authority: Some("inventory".into()),
        path: if method == "CONNECT" { "".into() } else { path.into() },
        query: query.map(|query| Zeroizing::new(query.to_owned())),
        userinfo: userinfo.map(|userinfo| Zeroizing::new(userinfo.to_owned())),
        version: Version::Http1(1),
        head: fields(head),
        sequence: 1,
    }
}

/// The head of a text whose lines end in CRLF.
fn fields(text: &str) -> Head {
    let mut at = text.find("\r\n").map_or(text.len(), |end| end + 2);
    let mut ranges = Vec::new();
    for line in text[at..].split("\r\n") {
        if let Some(colon) = line.find(':') {
            let value = line[colon + 1..].trim();
            let start = at + (value.as_ptr().addr() - line.as_ptr().addr());
            ranges.push(((at, at + colon), (start, start + value.len())));
        }
        at += line.len() + 2;
    }
    Head::new(text.as_bytes().to_vec(), ranges)
}

/// A call from another node that was seen whole. An empty response head is no response.
pub(crate) fn call(request_head: &str, response_head: &str) -> Attributed<Exchange> {
    let source: SocketAddr = "10.0.0.1:51234".parse().expect("an address");
    let destination: SocketAddr = "10.0.0.2:8080".parse().expect("an address");
    let end = |address| End { address, socket: None, owner: None, cgroup: None, netns: None };
    let party = |address: SocketAddr| Party {
        address: address.ip().into(),
        port: address.port(),
        unix_path: None,
        internal: true,
        process: None,
        container: None,
        workload: None,
    };
    let response = (!response_head.is_empty()).then(|| Response {
        status: response_head[9..12].parse().expect("a status"),
        head: fields(response_head),
        sequence: 0,
    });
    let exchange = Exchange {
        reporter: Reporter::Destination,
        source: end(source),
        destination: End { socket: Some(SocketId(7)), ..end(destination) },
        wire: Endpoints { local: source, remote: destination },
        time: Timestamp(NOW.unsigned_abs() * 1_000_000_000),
        request: Some(request(request_head)),
        duration: response.is_some().then(|| Duration::from_millis(2)),
        response,
        unknown: None,
        deviations: Deviations::default(),
        tls: None,
        passed_over: 0,
        repeatable: None,
    };
    Attributed { observed: exchange, source: party(source), destination: party(destination) }
}

/// The same between two workloads, `seconds` after [`NOW`]; an empty name is an unknown workload.
pub(crate) fn between(
    (source, destination): (&str, &str),
    seconds: u64,
    request_head: &str,
    response_head: &str,
) -> Attributed<Exchange> {
    let mut call = call(request_head, response_head);
    let named = |name: &str| (!name.is_empty()).then(|| name.into());
    (call.source.workload, call.destination.workload) = (named(source), named(destination));
    call.observed.time.0 += seconds * 1_000_000_000;
    // On one node, so that nothing is said of plaintext.
    call.observed.source.socket = Some(SocketId(8));
    call
}
