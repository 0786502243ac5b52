//! Judgements for the tests of the sinks.

use std::{net::IpAddr, sync::Arc};

use crate::{
    credentials::{Claims, Credential, CredentialKind},
    judgement::{
        Finding, Judgement, Kind, Outcome, Party, Process, Reporter, RequestFacts, ResponseFacts, Security, Severity,
        Transport, Verdict,
    },
};

/// 2026-11-22T01:23:45.678901Z plus `milliseconds`.
pub(crate) fn time(milliseconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(1_795_310_625_678_901 + milliseconds * 1000).unwrap()
}

pub(crate) fn party(address: &str, port: u16, workload: Option<&str>) -> Party {
    let process = workload.map(|name| {
        let name = name.rsplit('/').next().unwrap_or(name);
        Arc::new(Process {
            pid: 812,
            command: name.into(),
            executable: Some(format!("/usr/bin/{name}").into()),
            arguments: None,
            user: Some(1000),
        })
    });
    let address: IpAddr = address.parse().unwrap();
    Party { address, port, internal: true, process, container: None, workload: workload.map(Arc::from) }
}

pub(crate) fn credential(kind: CredentialKind, carrier: &str) -> Credential {
    Credential { kind, carrier: carrier.into(), fingerprint: "9f2c6d41a8b03e57".into(), claims: None }
}

pub(crate) fn finding(rule: &'static str, severity: Severity, detail: &str) -> Finding {
    Finding { rule, severity, detail: detail.into() }
}

/// `curl` calls `inventory`, which answers 200 to a call without credential.
pub(crate) fn unauthenticated() -> Judgement {
    Judgement {
        kind: Kind::Exchange,
        time: time(0),
        reporter: Reporter::Destination,
        source: party("10.0.0.1", 51234, Some("curl")),
        destination: party("10.0.0.2", 8080, Some("inventory")),
        protocol: "http/1.1",
        request: Some(request("GET", "/items/42", "/items/{id}")),
        response: Some(ResponseFacts { status: 200, duration_seconds: Some(0.0021) }),
        transport: Transport { security: Security::Plaintext, sni: None, alpn: None },
        credentials: Vec::new(),
        verdict: Verdict::Unauthenticated,
        unknown_reason: None,
        outcome: Outcome::Accepted,
        findings: vec![finding("unauthenticated-call", Severity::High, "no proof of identity, answered 200")],
        deviations: Vec::new(),
    }
}

pub(crate) fn request(method: &str, path: &str, route: &str) -> RequestFacts {
    RequestFacts { method: method.into(), authority: Some("inventory".into()), path: path.into(), route: route.into() }
}

/// `cart` calls `inventory` with a token that has nothing against it.
pub(crate) fn authenticated() -> Judgement {
    let mut token = credential(CredentialKind::BearerJwt, "header:authorization");
    let mut claims: Box<Claims> = Box::default();
    claims.alg = Some("RS256".into());
    claims.iss = Some("https://issuer".into());
    claims.aud = vec!["inventory".into()];
    claims.sub = Some("cart".into());
    claims.scope = vec!["items:read".into()];
    claims.lifetime_seconds = Some(300);
    token.claims = Some(claims);
    Judgement {
        source: party("10.0.0.3", 40000, Some("shop/cart")),
        destination: party("10.0.0.2", 8080, Some("shop/inventory")),
        credentials: vec![token],
        verdict: Verdict::Authenticated,
        findings: Vec::new(),
        ..unauthenticated()
    }
}

/// A TLS connection from a process to an address that is not on the node.
pub(crate) fn connection() -> Judgement {
    Judgement {
        kind: Kind::Connection,
        reporter: Reporter::Source,
        destination: party("10.0.9.9", 5432, None),
        protocol: "tls",
        request: None,
        response: None,
        transport: Transport {
            security: Security::Tls,
            sni: Some("ledger.internal".into()),
            alpn: Some(vec!["h2".into(), "http/1.1".into()]),
        },
        verdict: Verdict::Unknown,
        unknown_reason: Some("encrypted"),
        outcome: Outcome::Unanswered,
        findings: Vec::new(),
        ..unauthenticated()
    }
}
