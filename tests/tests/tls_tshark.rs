//! Replayed captures of TLS connections against the plan, and against what tshark sees in them with their keys: whether the
//! client sent a certificate.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, ensure};
use auditor_tests::{
    auditor,
    tls::{
        certificates::AUTHORITY,
        clients::{ClientKind, key_log},
        expected::Expected,
        plan::{Outcome, Planned, matrix},
        rig::Rig,
        servers::ServerKind,
    },
    tools,
    tshark::{Ports, capture, client_certificates},
};
use serde_json::Value;

/// Clients that log their keys: all but Java.
const CLIENTS: [ClientKind; 6] =
    [ClientKind::Curl, ClientKind::Gnutls, ClientKind::Go, ClientKind::Rust, ClientKind::Node, ClientKind::Python];

/// What the replay says of each connection to these servers.
fn replayed(file: &Path, directory: &Path, servers: &[u16]) -> Result<BTreeMap<Ports, Vec<Value>>> {
    let mut command = auditor::command(["replay", "--output", "jsonl", "--trust-bundle"])?;
    command.arg(directory.join(AUTHORITY)).arg(file);
    let (code, records, log) = auditor::run_to_end(command, directory)?;
    ensure!(code == Some(0), "{}: exit code {code:?}: {log}", file.display());
    let mut found: BTreeMap<Ports, Vec<Value>> = BTreeMap::new();
    for line in records.lines() {
        let record: Value = serde_json::from_str(line).with_context(|| format!("not a record: {line}"))?;
        let ports = auditor::port(&record, "source").zip(auditor::port(&record, "destination"));
        let ports = ports.with_context(|| format!("no ports in {line}"))?;
        if servers.contains(&ports.1) {
            found.entry(ports).or_default().push(record);
        }
    }
    Ok(found)
}

#[test]
fn what_a_replay_says_of_client_certificates_is_what_tshark_decrypts() {
    tools::require_root().unwrap();
    let mut rig = Rig::start(&ServerKind::ALL, &CLIENTS, Path::new(env!("CARGO_BIN_EXE_oracle-tls"))).unwrap();
    let planned = matrix(&CLIENTS, &ServerKind::ALL);
    let mut servers: Vec<u16> = planned.iter().map(|planned| rig.server_port(planned).unwrap()).collect();
    servers.dedup();
    let file = rig.directory().join("capture.pcapng");
    let mut seen = None;
    capture(&file, &servers, || {
        seen = Some(rig.run(&planned)?);
        Ok(())
    })
    .unwrap();
    let seen = seen.expect("the work was done");
    rig.vouch(&planned, &seen).unwrap();

    let lengths = client_certificates(&file, &key_log(rig.directory()), &servers).unwrap();
    let replayed = replayed(&file, rig.directory(), &servers).unwrap();
    let ports = |planned: &Planned| (seen[&planned.id].port, rig.server_port(planned).unwrap());
    let mut users: BTreeMap<Ports, usize> = BTreeMap::new();
    planned.iter().for_each(|planned| *users.entry(ports(planned)).or_default() += 1);
    // After a reset a port may be used again at once. By ports those connections cannot be told apart.
    let alone = |planned: &&Planned| users[&ports(planned)] == 1;
    assert!(planned.iter().filter(alone).count() * 10 >= planned.len() * 9, "most cannot be told apart: {users:?}");
    let mut differences = Vec::new();
    for planned in planned.iter().filter(alone) {
        let length = match lengths.get(&ports(planned)).map_or(&[][..], Vec::as_slice) {
            [] => None,
            [length] => Some(*length),
            several => panic!("{planned}: tshark sees Certificate messages of lengths {several:?}"),
        };
        // First the two that do not depend on the auditor.
        let given = planned.certificate.is_given();
        let sent = match planned.outcome() {
            Outcome::None | Outcome::Resumed => length.is_none(),
            _ => length.is_some_and(|length| (length > 0) == given),
        };
        assert!(sent, "{planned}: tshark says {length:?}, which is not as planned");
        let [record] = replayed.get(&ports(planned)).map_or(&[][..], Vec::as_slice) else {
            differences.push(format!("{planned}: {:?}", replayed.get(&ports(planned))));
            continue;
        };
        let certificate = &record["transport"]["client_certificate"];
        let outcome = match (length, planned.accepted()) {
            (None, _) => planned.outcome().as_str(),
            (Some(_), false) => "rejected",
            (Some(0), true) => "empty",
            (Some(_), true) => "presented",
        };
        let presented = length.is_some_and(|length| length > 0);
        // Where nothing came of it, and in a resumed session, it may be left open.
        let open = certificate["presented"].is_null() && matches!(outcome, "rejected" | "resumed");
        let mut wrong = Expected::of(planned, record).mismatches(record);
        if certificate["outcome"] != outcome || !(open || certificate["presented"] == presented) {
            wrong.push(format!("tshark says {length:?}"));
        }
        if !wrong.is_empty() {
            differences.push(format!("{planned}: {}\n  came     {record}", wrong.join("; ")));
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {} connections differ:\n{}",
        differences.len(),
        planned.len(),
        differences.join("\n")
    );
}
