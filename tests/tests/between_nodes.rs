//! `plaintext-credential` on real calls: an auditor on a node of its own sees one end of those that come from elsewhere.

use std::net::SocketAddr;

use anyhow::Result;
use auditor_tests::{
    auditor::{Auditor, port},
    credential::{canary, leaks},
    namespace::Namespace,
    node::Node,
    oneshot::curl,
    process::{PATIENCE, Running},
    servers::{Place, Server, ServerKind, interpreter},
    tls::certificates::create,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;
use tempfile::TempDir;

/// A call with this header; answers do not matter.
fn call(url: &str, header: &str, from: &Namespace) -> Result<()> {
    let config = format!("url = \"{url}\"\nheader = \"{header}\"\n");
    let arguments =
        ["--disable", "--silent", "--insecure", "--max-time", "20", "--output", "/dev/null", "--config", "-"];
    curl(&arguments, &config, Some(from)).map(drop)
}

fn found<'a>(records: &'a [Value], path: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["request"]["path"] == path).collect()
}

/// What the rule says of a record.
fn said(record: &Value) -> Option<&str> {
    let findings = record["findings"].as_array().into_iter().flatten();
    let mut of_rule = findings.filter(|finding| finding["rule"] == "plaintext-credential");
    of_rule.next().and_then(|finding| finding["detail"].as_str())
}

/// Headers, and what is said of one that leaves the node in clear.
fn headers(secret: &str) -> [(&'static str, String, Option<&'static str>); 7] {
    let basic = BASE64_STANDARD.encode(format!("cart:{secret}"));
    [
        (
            "basic",
            format!("Authorization: Basic {basic}"),
            Some("password in header:authorization, unencrypted between nodes"),
        ),
        (
            "bearer",
            format!("Authorization: Bearer {secret}"),
            Some("token in header:authorization, unencrypted between nodes"),
        ),
        ("key", format!("X-API-Key: {secret}"), Some("key in header:x-api-key, unencrypted between nodes")),
        ("cookie", format!("Cookie: sid={secret}"), Some("session in cookie:sid, unencrypted between nodes")),
        // Bound to the message: of no use to who reads it.
        ("digest", format!("Authorization: Digest username=\\\"cart\\\", response=\\\"{secret}\\\""), None),
        ("signature", format!("X-Hub-Signature-256: sha256={secret}"), None),
        ("none", "Accept: text/plain".to_owned(), None),
    ]
}

#[test]
fn a_reusable_secret_is_found_where_it_leaves_the_node_in_clear_alone() {
    let node = Node::create().unwrap();
    let directory = TempDir::new().unwrap();
    let folder = directory.path();
    create(folder).unwrap();
    let (inside, address) = (node.inside(), node.address());
    let addresses = [address, [127, 0, 0, 1].into()];
    let place = Place { addresses: &addresses, namespace: Some(&inside), directory: folder, backend: None };
    let server = node.within(|| Server::start(ServerKind::Python, place)).unwrap();
    let mut command = interpreter("python3", "servers/plaintext/server.py").unwrap();
    command.arg(folder).arg("thread").arg(address.to_string());
    inside.enter(&mut command);
    let mut tls = node.within(|| Running::start("TLS server", command)).unwrap();
    let tls_port: u16 = tls.expect_line().unwrap().parse().unwrap();
    let clear: SocketAddr = server.sockets()[0];
    let loopback: SocketAddr = server.sockets()[1];
    let encrypted = SocketAddr::new(address, tls_port);

    let mut command = Auditor::command(&["--tls-plaintext", "--log-level", "debug"]).unwrap();
    node.confine(&mut command).unwrap();
    let probe = || call(&format!("http://{clear}/probe"), "Accept: text/plain", node.outside());
    let auditor = node.within(|| Auditor::start(command, folder, clear.port(), probe));
    let mut auditor = auditor.unwrap();
    assert!(auditor.log().contains("Only the cgroup"), "{}", auditor.log());
    auditor.wait_covered(&["libssl.so"]).unwrap();

    let secret = canary();
    for (name, header, _) in headers(&secret) {
        call(&format!("http://{clear}/from-outside/{name}"), &header, node.outside()).unwrap();
        call(&format!("https://{encrypted}/inside-tls/{name}"), &header, node.outside()).unwrap();
        // On the wire's address and over loopback: both ends are here.
        for to in [clear, loopback] {
            call(&format!("http://{to}/on-the-node/{name}"), &header, &inside).unwrap();
        }
    }
    let expected = |name: &str| {
        [("/from-outside/", 1), ("/on-the-node/", 2), ("/inside-tls/", 1)]
            .map(|(place, count)| (format!("{place}{name}"), count))
    };
    let all_there = |records: &[Value]| {
        headers("")
            .iter()
            .flat_map(|(name, ..)| expected(name))
            .all(|(path, count)| found(records, &path).len() >= count)
    };
    let arrived = auditor.wait_until(PATIENCE, all_there);
    arrived.unwrap_or_else(|error| panic!("{error:#}\n{}\n{:#?}", auditor.log(), auditor.records()));
    let finished = auditor.stop().unwrap();
    for (name, _, in_clear) in headers(&secret) {
        for (path, count) in expected(name) {
            let records = found(&finished.records, &path);
            assert_eq!(records.len(), count, "{path}: {records:#?}");
            for record in records {
                let from_outside = path.starts_with("/from-outside");
                assert_eq!(said(record), in_clear.filter(|_| from_outside), "{record:#}");
                assert!(!from_outside || record["source"]["process"].is_null(), "{record:#}");
                assert_eq!(record["reporter"], "destination", "{record:#}");
            }
        }
    }
    let tls_records = finished.records.iter().filter(|record| port(record, "destination") == Some(encrypted.port()));
    assert!(tls_records.into_iter().all(|record| record["transport"]["security"] == "tls"), "{:#?}", finished.records);
    let printed = finished.lines.join("\n") + &finished.log;
    assert!(!leaks(&printed, &secret), "a secret leaked");
    drop((server, tls));
}
