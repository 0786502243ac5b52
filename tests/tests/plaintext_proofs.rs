//! What TLS libraries prove of client certificates, with plaintext on: a good one is proven, none and bad ones never are, and a
//! server that refuses inside TLS has refused.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};
use auditor_tests::{
    auditor::Auditor,
    oneshot::curl,
    process::{PATIENCE, Running, until},
    tls::{
        certificates::{AUTHORITY, ClientCertificate, create},
        clients::{ClientKind, Seen},
        made::{Made, Ports, ports},
        plan::{Outcome, Planned, matrix},
        rig::Rig,
        servers::{Mode, ServerKind, Version},
    },
    tools::program,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const ARGUMENTS: [&str; 3] = ["--tls-plaintext", "--log-level", "debug"];

/// What must be said of the call inside a connection whose server's library is read: pointers and values.
fn expected(planned: &Planned) -> Vec<(&'static str, Value)> {
    let certificate = planned.certificate;
    // Go is not asked about a session that it resumes, nor about clients that it asks for nothing.
    let told = planned.server != ServerKind::Go || (planned.endpoint.mode != Mode::Off && !planned.resumes);
    let (security, verdict) = match planned.outcome() {
        Outcome::Presented if !certificate.is_good() => ("mtls", "weak"),
        Outcome::Presented => ("mtls", "authenticated"),
        Outcome::Resumed if planned.was_mutual() => ("mtls", "authenticated"),
        Outcome::Resumed if !told => ("tls", "unknown"),
        _ => ("tls", "unauthenticated"),
    };
    let outcome = if planned.status() == Some(400) { "refused" } else { "accepted" };
    let mut fields = vec![
        ("/reporter", json!("destination")),
        ("/transport/security", json!(security)),
        ("/verdict", json!(verdict)),
        ("/outcome", json!(outcome)),
        ("/transport/client_certificate/outcome", json!(planned.outcome().as_str())),
        ("/transport/client_certificate/accepted", json!("yes")),
    ];
    if told {
        fields.push(("/transport/client_certificate/evidence", json!("proven")));
        let verified = planned.was_mutual().then_some(certificate.is_good());
        fields.push(("/transport/client_certificate/verified", json!(verified)));
    }
    if planned.resumes && told {
        fields.push(("/transport/client_certificate/inherited", json!(planned.was_mutual())));
    }
    fields
}

fn mismatches(record: &Value, expected: &[(&str, Value)]) -> Vec<String> {
    let wrong = expected.iter().filter(|(pointer, value)| record.pointer(pointer) != Some(value));
    wrong.map(|(pointer, value)| format!("{pointer} is {:?}, not {value}", record.pointer(pointer))).collect()
}

/// The records of a kind by the connection that each is of.
fn by_connection<'a, C: Eq + Hash>(
    records: &'a [Value],
    kind: &str,
    connection: impl Fn(&Value) -> Option<C>,
) -> HashMap<C, Vec<&'a Value>> {
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    for record in records.iter().filter(|record| record["kind"] == kind) {
        if let Some(connection) = connection(record) {
            found.entry(connection).or_default().push(record);
        }
    }
    found
}

/// The same by the ports of their connection.
fn by_ports<'a>(records: &'a [Value], kind: &str) -> HashMap<Ports, Vec<&'a Value>> {
    by_connection(records, kind, ports)
}

/// What is wrong with what was said of a connection.
fn complaints(planned: &Planned, calls: &[&Value], connections: &[&Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mutual = |record: &&&Value| record["transport"]["security"] == "mtls" || record["verdict"] == "authenticated";
    if !planned.was_mutual() {
        wrong.extend(calls.iter().chain(connections).filter(mutual).map(|record| format!("not mutual TLS: {record}")));
    }
    let [connection] = connections else { return vec![format!("{} connections: {connections:#?}", connections.len())] };
    if planned.status().is_none() {
        let refused = [("/outcome", json!("refused")), ("/transport/client_certificate/accepted", json!("no"))];
        wrong.extend(mismatches(connection, &refused));
        return wrong;
    }
    match calls {
        [call] => wrong.extend(mismatches(call, &expected(planned))),
        calls => wrong.push(format!("{} calls: {calls:#?}", calls.len())),
    }
    // The same is known of the connection, but what is inside it.
    let of_connection: Vec<_> =
        expected(planned).into_iter().filter(|(pointer, _)| pointer.starts_with("/transport")).collect();
    wrong.extend(mismatches(connection, &of_connection).into_iter().map(|wrong| format!("the connection: {wrong}")));
    if !wrong.is_empty() {
        wrong.extend(calls.iter().chain(connections).map(|record| format!("\n    {record}")));
    }
    wrong
}

#[test]
fn libraries_prove_good_certificates_and_none_other() {
    let servers = [ServerKind::Nginx, ServerKind::Go, ServerKind::Node];
    let clients = [ClientKind::Curl, ClientKind::Go, ClientKind::Python];
    let mut rig = Rig::start(&servers, &clients, Path::new(env!("CARGO_BIN_EXE_oracle-tls"))).unwrap();
    let planned = matrix(&clients, &servers);
    let mut auditor = Auditor::watch(rig.directory(), &ARGUMENTS).unwrap();
    auditor.wait_covered(&["libssl.so", "/node", "servers-tls-go"]).unwrap();
    let seen: HashMap<String, Seen> = rig.run(&planned).unwrap();
    rig.vouch(&planned, &seen).unwrap();
    let made = Made::new(&rig, &planned, &seen).unwrap();
    let id = |record: &Value| made.of(record);
    let waited = auditor.wait_until(PATIENCE, |records| {
        let (calls, connections) = (by_connection(records, "exchange", id), by_connection(records, "connection", id));
        planned.iter().all(|planned| {
            let id = planned.id.as_str();
            connections.contains_key(id) && (planned.status().is_none() || calls.contains_key(id))
        })
    });
    let finished = auditor.stop().unwrap();
    let (calls, connections) =
        (by_connection(&finished.records, "exchange", id), by_connection(&finished.records, "connection", id));
    let mut wrong: Vec<String> = waited.err().map(|error| error.to_string()).into_iter().collect();
    for planned in &planned {
        let none = Vec::new();
        let (calls, connections) =
            (calls.get(&*planned.id).unwrap_or(&none), connections.get(&*planned.id).unwrap_or(&none));
        let complaints = complaints(planned, calls, connections);
        if !complaints.is_empty() {
            wrong.push(format!("{planned}: {}", complaints.join("; ")));
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), planned.len(), wrong.join("\n"));
}

#[test]
fn the_400_of_nginx_inside_tls_is_a_refusal_where_it_is_read() {
    let mut rig =
        Rig::start(&[ServerKind::Nginx], &[ClientKind::Curl], Path::new(env!("CARGO_BIN_EXE_oracle-tls"))).unwrap();
    let required = |planned: &Planned| {
        planned.endpoint.mode == Mode::Required && planned.certificate == ClientCertificate::None && !planned.resumes
    };
    let planned: Vec<_> = matrix(&[ClientKind::Curl], &[ServerKind::Nginx]).into_iter().filter(required).collect();
    assert_eq!(planned.len(), 2, "one for each version");
    for arguments in [&ARGUMENTS[1..], &ARGUMENTS] {
        let plaintext = arguments.len() == ARGUMENTS.len();
        let mut auditor = Auditor::watch(rig.directory(), arguments).unwrap();
        if plaintext {
            auditor.wait_covered(&["libssl.so"]).unwrap();
        }
        let seen = rig.run(&planned).unwrap();
        let ports: Vec<_> =
            planned.iter().map(|planned| (seen[&planned.id].port, rig.server_port(planned).unwrap())).collect();
        let wanted: &[&str] = if plaintext { &["connection", "exchange"] } else { &["connection"] };
        let waited = auditor.wait_until(PATIENCE, |records| {
            wanted.iter().all(|kind| {
                let found = by_ports(records, kind);
                ports.iter().all(|ports| found.contains_key(ports))
            })
        });
        let finished = auditor.stop().unwrap();
        waited.unwrap_or_else(|error| panic!("{error}: {:#?}\n{}", finished.records, finished.log));
        let (calls, connections) = (by_ports(&finished.records, "exchange"), by_ports(&finished.records, "connection"));
        for ports in &ports {
            let [connection] = connections[ports][..] else { panic!("{:#?}", connections[ports]) };
            let said = (&connection["verdict"], &connection["unknown_reason"], &connection["findings"][0]["rule"]);
            assert_eq!(said, (&json!("unknown"), &json!("encrypted"), &json!("no-client-identity")), "{connection}");
            if !plaintext {
                assert!(!calls.contains_key(ports), "{calls:#?}");
                continue;
            }
            let [call] = calls[ports][..] else { panic!("{:#?}", calls[ports]) };
            let said = (&call["outcome"], &call["response"]["status"], &call["findings"]);
            assert_eq!(said, (&json!("refused"), &json!(400), &json!([])), "{call}");
        }
    }
}

/// `gnutls-serv` at a free port.
fn gnutls(folder: &Path, version: Version, words: &[&str]) -> Result<(u16, Running)> {
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let mut command = Command::new(program("gnutls-serv")?);
    command.args(["--http", "--quiet", "--port", &port.to_string()]).args(words);
    command.arg(format!("--priority=NORMAL:-VERS-ALL:+VERS-TLS{}", version.number()));
    for (option, file) in
        [("--x509certfile", "server.pem"), ("--x509keyfile", "server.key"), ("--x509cafile", AUTHORITY)]
    {
        command.arg(option).arg(folder.join(file));
    }
    let running = Running::start("gnutls server", command)?;
    until("the server listens", || Ok(TcpStream::connect(("127.0.0.1", port)).ok().map(drop)))?;
    Ok((port, running))
}

/// Makes one call with curl; its port and the status, 000 where there was no answer.
fn call(folder: &Path, port: u16, certificate: ClientCertificate) -> Result<(u16, String)> {
    let file = |name: &str| folder.join(name).display().to_string();
    let mut config = format!(
        "url = \"https://127.0.0.1:{port}/\"\ncacert = \"{}\"\nsilent\nmax-time = 20\noutput = /dev/null\n\
         write-out = \"%{{local_port}} %{{http_code}}\"\n",
        file(AUTHORITY)
    );
    if certificate.is_given() {
        let name = certificate.name();
        config += &format!("cert = \"{}\"\nkey = \"{}\"\n", file(&format!("{name}.pem")), file(&format!("{name}.key")));
    }
    let done = curl(&["--disable", "--config", "-"], &config, None)?;
    let (own, status) = done.output.split_once(' ').with_context(|| done.output.clone())?;
    Ok((own.parse()?, status.to_owned()))
}

#[test]
fn gnutls_proves_what_it_verified_and_refused() {
    use ClientCertificate as C;
    let directory = TempDir::new().unwrap();
    create(directory.path()).unwrap();
    let mut auditor = Auditor::watch(directory.path(), &ARGUMENTS).unwrap();
    let mut calls = Vec::new();
    let mut servers = Vec::new();
    for version in [Version::Tls12, Version::Tls13] {
        for words in [&["--require-client-cert", "--verify-client-cert"][..], &["--verify-client-cert"]] {
            let (port, server) = gnutls(directory.path(), version, words).unwrap();
            servers.push(server);
            auditor.wait_covered(&["libgnutls.so"]).unwrap();
            for certificate in [C::P256, C::None, C::Untrusted, C::Expired] {
                let (own, status) = call(directory.path(), port, certificate).unwrap();
                calls.push(((own, port), version, words.len() == 2, certificate, status));
            }
        }
    }
    let waited = auditor.wait_until(PATIENCE, |records| {
        let found = by_ports(records, "connection");
        calls.iter().all(|(ports, ..)| found.contains_key(ports))
    });
    let finished = auditor.stop().unwrap();
    let (exchanges, connections) = (by_ports(&finished.records, "exchange"), by_ports(&finished.records, "connection"));
    let mut wrong: Vec<String> = waited.err().map(|error| error.to_string()).into_iter().collect();
    for (ports, version, required, certificate, status) in &calls {
        let [connection] = connections[ports][..] else { panic!("{:#?}", connections[ports]) };
        let served = certificate.is_good() || (!required && *certificate == C::None);
        assert_eq!(status, if served { "200" } else { "000" }, "the rig: {certificate} {version:?}");
        let pointer = |name: &'static str| match name {
            "security" => "/transport/security",
            "outcome" => "/transport/client_certificate/outcome",
            "evidence" => "/transport/client_certificate/evidence",
            "accepted" => "/transport/client_certificate/accepted",
            _ => "/transport/client_certificate/verified",
        };
        let (security, outcome, accepted, verified) = match (certificate, served) {
            (C::None, true) => ("tls", "empty", "yes", None),
            (C::None, false) => ("tls", "rejected", "no", None),
            (_, true) => ("mtls", "presented", "yes", Some(true)),
            (_, false) => ("tls", "rejected", "no", Some(false)),
        };
        let expected = [
            (pointer("security"), json!(security)),
            (pointer("outcome"), json!(outcome)),
            (pointer("accepted"), json!(accepted)),
            (pointer("verified"), json!(verified)),
            (pointer("evidence"), json!("proven")),
        ];
        // Nobody verifies what was not given, and then nothing is proven that the wire does not prove.
        let proven = *certificate != C::None || *required || *version == Version::Tls12;
        let expected = &expected[..expected.len() - usize::from(!proven)];
        // With TLS 1.3 a client sends its call before it knows that it is refused: of that its own end alone tells.
        let answered = exchanges.get(ports).filter(|_| served);
        let said = answered.into_iter().flatten().copied().chain([connection]);
        for record in said {
            let mismatches = mismatches(record, expected);
            if !mismatches.is_empty() {
                wrong.push(format!("{certificate} {version:?} {required}: {}\n   {record}", mismatches.join("; ")));
            }
        }
        if served && exchanges.get(ports).is_none_or(|records| records.len() != 1) {
            wrong.push(format!("{certificate} {version:?} {required}: {:?}", exchanges.get(ports)));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}\n{}", wrong.len(), wrong.join("\n"), finished.log);
}
