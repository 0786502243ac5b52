//! Mutual TLS live: real clients and servers of seven and four TLS stacks, every connection known in every detail, against what
//! the auditor says of them.

use std::path::Path;

use anyhow::Result;
use auditor_tests::tls::{
    certificates::ClientCertificate,
    clients::ClientKind,
    oracle::{Lost, judge, observe},
    plan::{Planned, matrix, planned},
    rig::Rig,
    servers::{Endpoint, Mode, ServerKind, Version},
};
use serde_json::{Value, json};

const VERSIONS: [Version; 2] = [Version::Tls12, Version::Tls13];

fn rig(servers: &[ServerKind], clients: &[ClientKind]) -> Result<Rig> {
    Rig::start(servers, clients, Path::new(env!("CARGO_BIN_EXE_oracle-tls")))
}

#[test]
fn both_ends_say_of_every_connection_what_the_plan_says() {
    let planned = matrix(&ClientKind::ALL, &ServerKind::ALL);
    let mut rig = rig(&ServerKind::ALL, &ClientKind::ALL).unwrap();
    let seen = rig.run(&planned).unwrap();
    if let Err(error) = rig.vouch(&planned, &seen) {
        panic!("{error:#}");
    }
}

#[test]
fn every_connection_is_judged_once_and_right() {
    let planned = matrix(&ClientKind::ALL, &ServerKind::ALL);
    let mut rig = rig(&ServerKind::ALL, &ClientKind::ALL).unwrap();
    let observed = observe(&mut rig, &planned, Lost::Nothing).unwrap();
    let comparison = judge(&rig, &planned, &observed).unwrap();
    assert!(comparison.false_mutual.is_empty(), "called mutual TLS and are not, printed above");
    assert!(comparison.holds(), "{} differences, printed above", comparison.differences.len());
}

#[test]
fn nothing_false_is_said_of_connections_while_records_are_lost() {
    let clients = [ClientKind::Go, ClientKind::Node, ClientKind::Java];
    let planned = matrix(&clients, &ServerKind::ALL);
    let mut rig = rig(&ServerKind::ALL, &clients).unwrap();
    let observed = observe(&mut rig, &planned, Lost::Records).unwrap();
    let comparison = judge(&rig, &planned, &observed).unwrap();
    assert!(comparison.holds(), "{} differences, printed above", comparison.differences.len());
    assert!(comparison.left_open() > 0, "nothing was lost with the smallest ring: the test tests nothing");
}

/// What is said of connections to nginx that requires certificates, one for each version.
fn said(client: ClientKind, certificate: ClientCertificate, resumes: bool) -> Result<Vec<(Planned, Value)>> {
    let mut rig = rig(&[ServerKind::Nginx], &[client])?;
    let endpoints = VERSIONS.map(|version| Endpoint { mode: Mode::Required, version });
    let planned = planned(client, ServerKind::Nginx, &endpoints, certificate, resumes);
    let observed = observe(&mut rig, &planned, Lost::Nothing)?;
    let wanted = planned.into_iter().filter(|planned| planned.resumes == resumes);
    wanted.map(|planned| Ok((planned.clone(), observed.record(&planned)?.clone()))).collect()
}

#[test]
fn curl_with_a_certificate_is_mutual_tls_and_authenticated() {
    for (planned, record) in said(ClientKind::Curl, ClientCertificate::P256, false).unwrap() {
        assert_eq!(planned.status(), Some(200));
        let verdict = (&record["transport"]["security"], &record["verdict"], &record["outcome"]);
        assert_eq!(verdict, (&json!("mtls"), &json!("authenticated"), &json!("accepted")), "{planned}: {record}");
        let certificate = &record["transport"]["client_certificate"];
        // Only what was read is proven.
        let evidence = if planned.endpoint.version == Version::Tls12 { "proven" } else { "inferred" };
        assert_eq!((&certificate["presented"], &certificate["evidence"]), (&json!(true), &json!(evidence)), "{record}");
    }
}

#[test]
fn curl_without_a_certificate_is_tls_and_the_400_inside_is_encrypted() {
    for (planned, record) in said(ClientKind::Curl, ClientCertificate::None, false).unwrap() {
        assert_eq!(planned.status(), Some(400));
        let verdict = (&record["transport"]["security"], &record["verdict"], &record["unknown_reason"]);
        assert_eq!(verdict, (&json!("tls"), &json!("unknown"), &json!("encrypted")), "{planned}: {record}");
        let certificate = &record["transport"]["client_certificate"];
        assert_eq!((&certificate["outcome"], &certificate["accepted"]), (&json!("empty"), &json!("yes")), "{record}");
        assert_eq!(record["findings"][0]["rule"], "no-client-identity", "{record}");
    }
}

#[test]
fn a_resumed_session_says_so_and_what_it_inherited() {
    for client in [ClientKind::Node, ClientKind::Java] {
        for (planned, record) in said(client, ClientCertificate::P256, true).unwrap() {
            assert_eq!(planned.status(), Some(200));
            assert_eq!(record["transport"]["resumed"], true, "{planned}: {record}");
            let certificate = &record["transport"]["client_certificate"];
            let inherited = (&certificate["outcome"], &certificate["inherited"], &certificate["evidence"]);
            assert_eq!(inherited, (&json!("resumed"), &json!(true), &json!("inherited")), "{planned}: {record}");
        }
    }
}
