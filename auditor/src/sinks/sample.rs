//! Judgements for the tests of the sinks.

use std::{net::IpAddr, sync::Arc};

use auditor_wire::tls::{Accepted, ClientCertificate, Evidence};

use crate::{
    certificates::{Certificate, Chain, SpiffeId, Trust},
    credentials::{Claims, Credential, CredentialKind},
    judgement::{
        ClientProof, Finding, Judgement, Kind, Outcome, Party, Policed, Process, Reporter, RequestFacts, ResponseFacts,
        Security, Severity, Tls, Transport, Verdict,
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
    Party {
        address: address.into(),
        port,
        unix_path: None,
        internal: true,
        process,
        container: None,
        workload: workload.map(Arc::from),
    }
}

pub(crate) fn credential(kind: CredentialKind, carrier: &str) -> Credential {
    Credential {
        kind,
        carrier: carrier.into(),
        fingerprint: "9f2c6d41a8b03e57".into(),
        claims: None,
        signature: None,
        proof: None,
        custom: None,
    }
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
        response: Some(ResponseFacts { status: 200, grpc_status: None, duration_seconds: Some(0.0021) }),
        transport: Transport { security: Security::Plaintext, tls: None },
        credentials: Vec::new(),
        verdict: Verdict::Unauthenticated,
        unknown_reason: None,
        outcome: Outcome::Accepted,
        findings: vec![finding("unauthenticated-call", Severity::High, "no proof of identity, answered 200")],
        deviations: Vec::new(),
        policy: Policed::default(),
        sampling: None,
    }
}

pub(crate) fn request(method: &str, path: &str, route: &str) -> RequestFacts {
    RequestFacts {
        method: method.into(),
        authority: Some("inventory".into()),
        path: path.into(),
        route: route.into(),
        header_names: None,
    }
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
    token.claims = Some(claims.into());
    Judgement {
        source: party("10.0.0.3", 40000, Some("shop/cart")),
        destination: party("10.0.0.2", 8080, Some("shop/inventory")),
        credentials: vec![token],
        verdict: Verdict::Authenticated,
        findings: Vec::new(),
        ..unauthenticated()
    }
}

/// A TLS connection from a process to an address that is not on the node, of which only the hello was seen.
pub(crate) fn connection() -> Judgement {
    let mut connection = mutual_tls();
    connection.destination = party("10.0.9.9", 5432, None);
    connection.reporter = Reporter::Source;
    (connection.verdict, connection.outcome) = (Verdict::Unknown, Outcome::Unanswered);
    connection.unknown_reason = Some("undetermined-tls");
    connection.credentials.clear();
    connection.transport.security = Security::Tls;
    let tls = connection.transport.tls.as_mut().unwrap();
    (tls.version, tls.cipher_suite, tls.client_chain, tls.server_chain) = (None, None, None, None);
    tls.resumed = None;
    tls.client = proof(ClientCertificate::Undetermined, Accepted::Unknown, Evidence::Unknown);
    connection
}

/// What a client did of which nothing else is known.
pub(crate) fn proof(outcome: ClientCertificate, accepted: Accepted, evidence: Evidence) -> ClientProof {
    let (presented, requested, inherited, refused, verified) = (None, None, None, None, None);
    ClientProof { outcome, presented, requested, accepted, evidence, inherited, refused, verified }
}

/// `curl` connects to the ledger with mutual TLS 1.2: both certificates were visible.
pub(crate) fn mutual_tls() -> Judgement {
    let proof = ClientProof {
        presented: Some(true),
        requested: Some(true),
        ..proof(ClientCertificate::Presented, Accepted::Yes, Evidence::Proven)
    };
    let tls = Tls {
        version: Some("TLS 1.2".into()),
        cipher_suite: Some("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".into()),
        sni: Some("ledger.internal".into()),
        alpn: vec!["h2".into(), "http/1.1".into()],
        resumed: Some(false),
        client: proof,
        client_chain: Some(chain("curl", "spiffe://prod.example/ns/shop/sa/curl")),
        server_chain: Some(chain("ledger", "spiffe://prod.example/ns/shop/sa/ledger")),
    };
    Judgement {
        kind: Kind::Connection,
        destination: party("10.0.9.9", 5432, Some("ledger")),
        protocol: "tls",
        request: None,
        response: None,
        transport: Transport { security: Security::Mtls, tls: Some(Box::new(tls)) },
        credentials: vec![credential(CredentialKind::Mtls, "tls:client-certificate")],
        verdict: Verdict::Authenticated,
        findings: Vec::new(),
        ..unauthenticated()
    }
}

/// `curl` connects to the ledger with TLS 1.3 and without certificate, which the server asked for and went on without.
pub(crate) fn anonymous_tls() -> Judgement {
    let mut connection = mutual_tls();
    let proof = ClientProof {
        presented: Some(false),
        requested: Some(true),
        ..proof(ClientCertificate::Empty, Accepted::Yes, Evidence::Inferred)
    };
    let tls = connection.transport.tls.as_mut().unwrap();
    (tls.version, tls.cipher_suite) = (Some("TLS 1.3".into()), Some("TLS_AES_256_GCM_SHA384".into()));
    (tls.client, tls.client_chain, tls.server_chain) = (proof, None, None);
    connection.transport.security = Security::Tls;
    connection.credentials.clear();
    (connection.verdict, connection.unknown_reason) = (Verdict::Unknown, Some("encrypted"));
    connection.findings = vec![finding("no-client-identity", Severity::Medium, "the client gave none")];
    connection
}

/// `curl` was turned away by the ledger, to which it gave no certificate.
pub(crate) fn refused_tls() -> Judgement {
    let mut connection = anonymous_tls();
    connection.transport.tls.as_mut().unwrap().client.accepted = Accepted::No;
    (connection.verdict, connection.unknown_reason) = (Verdict::Unauthenticated, None);
    (connection.outcome, connection.findings) = (Outcome::Refused, Vec::new());
    connection
}

fn chain(name: &str, id: &str) -> Arc<Chain> {
    let leaf = Certificate {
        subject: Some(format!("CN={name}, O=shop").into()),
        issuer: Some("CN=Shop CA, O=shop".into()),
        dns_names: vec![format!("{name}.internal").into()],
        uris: vec![id.into()],
        addresses: Vec::new(),
        spiffe_id: SpiffeId::parse(id),
        key_kind: "ecdsa",
        key_bits: Some(256),
        not_before: 1_795_219_200,
        not_after: 1_797_811_200,
        self_signed: Some(false),
    };
    Arc::new(Chain { leaf, trust: Trust::Trusted })
}
