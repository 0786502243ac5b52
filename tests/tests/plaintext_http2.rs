//! HTTP/2 inside TLS, where plaintext is asked for: calls made by real clients to real servers, against what the auditor says of
//! each.
//!
//! The third position of a path says what the call is: `open` has no credential and is refused, `guarded` has one, `large` is answered
//! with 50,000 bytes, `post` sends 60,000, `long` has a header that goes on in CONTINUATION, `grpc` is answered with the status that
//! follows in the path, and `certificate` is one by which a client certificate alone speaks.

use std::{
    collections::HashMap,
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use auditor_tests::{
    auditor::{Auditor, Finished, port},
    credential::{canary, leaks},
    oneshot::curl,
    oracle::AMPLE,
    process::{PATIENCE, Running, until},
    servers::interpreter,
    tls::certificates::{AUTHORITY, create},
    tools::{build_go, program, source},
};
use serde_json::{Value, json};
use tempfile::TempDir;

const ARGUMENTS: [&str; 5] = ["--tls-plaintext", "--log-level", "debug", "--ring-bytes", AMPLE];
/// Calls of each client to each server.
const CALLS: usize = 90;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Curl,
    Go,
    Node,
}

const CLIENTS: [Client; 3] = [Client::Curl, Client::Go, Client::Node];
const SERVERS: [&str; 3] = ["nginx", "go", "node"];

/// A call, and what must be said of it.
struct Call {
    path: String,
    credential: Option<String>,
    port: u16,
    protocol: &'static str,
    verdict: &'static str,
    outcome: &'static str,
    security: &'static str,
    status: u16,
    code: Option<u16>,
}

impl Call {
    /// As clients take it.
    fn line(&self) -> String {
        self.credential.as_ref().map_or_else(|| self.path.clone(), |credential| format!("{} {credential}", self.path))
    }

    fn kind(&self) -> &str {
        self.path.split('/').nth(3).unwrap_or_default()
    }

    /// What is wrong with what was said.
    fn wrong(&self, records: &[&Value]) -> Option<String> {
        let [record] = records else { return Some(format!("{}: {} records {records:?}", self.path, records.len())) };
        let proven = record["transport"]["client_certificate"]["evidence"] == "proven";
        // Where a session is resumed it may not show what the client proved in the one before.
        let open = record["transport"]["resumed"] == true && !proven && self.verdict == "unauthenticated";
        let verdict = if open { "unknown" } else { self.verdict };
        let credentials = record["credentials"].as_array().map_or(0, Vec::len);
        let said = json!([
            record["protocol"],
            record["verdict"],
            record["outcome"],
            record["transport"]["security"],
            record["response"]["status"],
            record["response"]["grpc_status"],
            credentials,
            port(record, "destination"),
        ]);
        let bearer = usize::from(self.credential.is_some() || self.security == "mtls");
        let expected =
            json!([self.protocol, verdict, self.outcome, self.security, self.status, self.code, bearer, self.port]);
        (said != expected).then(|| format!("{}: {said}, not {expected}: {record}", self.path))
    }
}

/// The calls of a client to a server.
fn plan(server: &str, client: Client, port: u16, secret: &str) -> Vec<Call> {
    let kinds = ["open", "guarded", "large", "post", "long", "grpc"];
    (0..CALLS)
        .map(|number| {
            // nginx has no gRPC of its own.
            let kind = kinds[number % if server == "nginx" { 5 } else { 6 }];
            let (verdict, outcome, status) = match kind {
                "open" => ("unauthenticated", "refused", 401),
                "large" | "grpc" => ("unauthenticated", "accepted", 200),
                _ => ("authenticated", "accepted", 200),
            };
            let (code, outcome) = match kind {
                "grpc" => [(0, "accepted"), (7, "refused"), (16, "refused"), (5, "failed")].map(|(c, o)| (Some(c), o))
                    [number / 6 % 4],
                _ => (None, outcome),
            };
            let middle = code.map_or_else(String::new, |code| format!("{code}/"));
            Call {
                path: format!("/{server}/{client:?}/{kind}/{middle}{number}"),
                credential: (verdict == "authenticated").then(|| format!("Bearer {secret}")),
                port,
                protocol: if kind == "grpc" { "grpc" } else { "http/2" },
                verdict,
                outcome,
                security: "tls",
                status,
                code,
            }
        })
        .collect()
}

/// Servers and certificates in a folder.
struct Rig {
    directory: TempDir,
    go: PathBuf,
    servers: Vec<(&'static str, u16, Running)>,
}

impl Rig {
    fn start(wanted: &[&'static str]) -> Result<Self> {
        let directory = TempDir::new()?;
        create(directory.path())?;
        fs::write(directory.path().join("large"), vec![b'x'; 50_000])?;
        let go = build_go("servers/plaintext/http2", directory.path())?;
        let mut rig = Self { directory, go, servers: Vec::new() };
        for name in wanted {
            let (port, server) = rig.server(name).with_context(|| format!("{name} server"))?;
            rig.servers.push((name, port, server));
        }
        Ok(rig)
    }

    fn folder(&self) -> &Path {
        self.directory.path()
    }

    fn server(&self, name: &str) -> Result<(u16, Running)> {
        if name == "nginx" {
            return self.nginx();
        }
        let mut command = self.command(name, "serve", "servers/plaintext/http2.mjs")?;
        command.arg(self.folder());
        let mut running = Running::start(format!("{name} server"), command)?;
        Ok((running.expect_line()?.parse()?, running))
    }

    fn command(&self, name: &str, verb: &str, script: &str) -> Result<Command> {
        if name != "go" {
            return interpreter("node", script);
        }
        let mut command = Command::new(&self.go);
        command.arg(verb);
        Ok(command)
    }

    fn nginx(&self) -> Result<(u16, Running)> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let text = fs::read_to_string(source("servers/plaintext/http2.conf"))?;
        let (file, folder) = (self.folder().join("nginx.conf"), self.folder().display().to_string());
        fs::write(&file, text.replace("{port}", &port.to_string()).replace("{directory}", &folder))?;
        let mut command = Command::new(program("nginx")?);
        command.arg("-c").arg(file).arg("-e").arg(self.folder().join("error.log"));
        let running = Running::start("nginx server", command)?;
        until("nginx listens", || Ok(TcpStream::connect(("127.0.0.1", port)).ok().map(drop)))?;
        Ok((port, running))
    }

    /// A client that waits for calls.
    fn client(&self, client: Client, port: u16, certificate: &str) -> Result<Running> {
        let name = if client == Client::Go { "go" } else { "node" };
        let mut command = self.command(name, "call", "clients/plaintext/http2.mjs")?;
        command.arg(self.folder()).args([&port.to_string(), certificate]);
        Running::start(format!("{client:?} client"), command)
    }

    /// Makes calls on one connection.
    fn call(&self, client: Client, port: u16, certificate: &str, calls: &[Call]) -> Result<()> {
        if client == Client::Curl {
            return self.curl(port, certificate, calls);
        }
        let mut running = self.client(client, port, certificate)?;
        make(&mut running, calls, true)
    }

    fn curl(&self, port: u16, certificate: &str, calls: &[Call]) -> Result<()> {
        let file = |name: &str| self.folder().join(name).display().to_string();
        let body = self.folder().join("sent");
        fs::write(&body, vec![b'y'; 60_000])?;
        let entry = |call: &Call| {
            let mut text = format!(
                "url = \"https://127.0.0.1:{port}{}\"\nhttp2\nsilent\ncacert = \"{}\"\nmax-time = 20\noutput = /dev/null\n\
                 write-out = \"%{{http_version}}\\n\"\n",
                call.path,
                file(AUTHORITY)
            );
            if certificate != "-" {
                let (chain, key) = (file(&format!("{certificate}.pem")), file(&format!("{certificate}.key")));
                text += &format!("cert = \"{chain}\"\nkey = \"{key}\"\n");
            }
            if let Some(credential) = &call.credential {
                text += &format!("header = \"Authorization: {credential}\"\n");
            }
            text + &match call.kind() {
                "post" => format!("data-binary = \"@{}\"\n", body.display()),
                "grpc" => "header = \"Content-Type: application/grpc\"\ndata-binary = \"zzz\"\n".to_owned(),
                "long" => format!("header = \"X-Long: {}\"\n", "h".repeat(40_000)),
                _ => String::new(),
            }
        };
        let config: Vec<String> = calls.iter().map(entry).collect();
        let done = curl(&["--disable", "--config", "-"], &config.join("next\n"), None)?;
        let made = done.output.lines().filter(|version| *version == "2").count();
        ensure!(made == calls.len(), "{made} of {} calls were made: {}", calls.len(), done.output);
        Ok(())
    }
}

/// Has a client make calls, and end when they are the last.
fn make(running: &mut Running, calls: &[Call], last: bool) -> Result<()> {
    let lines: Vec<String> = calls.iter().map(|call| call.line() + "\n").collect();
    running.write(&(lines.concat() + "\n"))?;
    if last {
        running.close_input();
    }
    let made = running.expect_line()?;
    ensure!(made == calls.len().to_string(), "{made} of {} calls were made", calls.len());
    if last {
        running.wait(PATIENCE)?;
    }
    Ok(())
}

/// Waits until all calls were told of, and holds them against what was said.
fn compare(mut auditor: Auditor, expected: &[Call]) -> Finished {
    let mut left: std::collections::HashSet<&str> = expected.iter().map(|call| call.path.as_str()).collect();
    let mut looked_at = 0;
    let waited = auditor.wait_until(PATIENCE, |records| {
        for record in &records[std::mem::replace(&mut looked_at, records.len())..] {
            left.remove(record["request"]["path"].as_str().unwrap_or_default());
        }
        left.is_empty()
    });
    let mut wrong: Vec<String> =
        waited.err().map(|error| format!("{error}: {} are missing", left.len())).into_iter().collect();
    let finished = auditor.stop().expect("the auditor ends");
    let mut by_path: HashMap<&str, Vec<&Value>> = HashMap::new();
    for record in &finished.records {
        by_path.entry(record["request"]["path"].as_str().unwrap_or_default()).or_default().push(record);
    }
    wrong.extend(
        expected.iter().filter_map(|call| call.wrong(by_path.get(call.path.as_str()).map_or(&[][..], Vec::as_slice))),
    );
    let shown = wrong.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {} wrong:\n{shown}\n{}", wrong.len(), expected.len(), finished.log);
    finished
}

#[test]
fn every_call_of_http2_inside_tls_is_judged_once_and_right() {
    let rig = Rig::start(&SERVERS).unwrap();
    let auditor = Auditor::watch(rig.folder(), &ARGUMENTS).unwrap();
    auditor.wait_covered(&["libssl.so", "/node", "plaintext-http2"]).unwrap();
    let (mut expected, mut secrets) = (Vec::new(), Vec::new());
    for (server, port, _) in &rig.servers {
        for client in CLIENTS {
            let secret = canary();
            let calls = plan(server, client, *port, &secret);
            eprintln!("{client:?} to {server}");
            rig.call(client, *port, "-", &calls).unwrap_or_else(|error| panic!("{client:?} {server}: {error:#}"));
            expected.extend(calls);
            secrets.push(secret);
        }
    }
    let finished = compare(auditor, &expected);
    let text = finished.lines.join("\n") + &finished.log;
    assert!(!secrets.iter().any(|secret| leaks(&text, secret)), "a secret leaked");
}

#[test]
fn a_client_certificate_speaks_for_every_stream() {
    let rig = Rig::start(&SERVERS).unwrap();
    let auditor = Auditor::watch(rig.folder(), &ARGUMENTS).unwrap();
    auditor.wait_covered(&["libssl.so", "/node", "plaintext-http2"]).unwrap();
    let mut expected = Vec::new();
    for (server, port, _) in &rig.servers {
        for client in CLIENTS {
            let call = |number| Call {
                path: format!("/{server}/{client:?}/certificate/{number}"),
                credential: None,
                port: *port,
                protocol: "http/2",
                verdict: "authenticated",
                outcome: "accepted",
                security: "mtls",
                status: 200,
                code: None,
            };
            let calls: Vec<Call> = (0..20).map(call).collect();
            rig.call(client, *port, "p256", &calls).unwrap_or_else(|error| panic!("{client:?} {server}: {error:#}"));
            expected.extend(calls);
        }
    }
    let finished = compare(auditor, &expected);
    for record in finished.records.iter().filter(|record| record["transport"]["security"] == "mtls") {
        let certificate = &record["transport"]["client_certificate"];
        let said = (&certificate["evidence"], &certificate["verified"]);
        assert_eq!(said, (&json!("proven"), &json!(true)), "{record}");
    }
}

/// Connections that are older than the auditor: their sessions cannot be tied to sockets, and what the wire shows of them stands.
#[test]
fn older_connections_are_never_judged_wrongly() {
    let rig = Rig::start(&["node"]).unwrap();
    let (_, server, _) = rig.servers[0];
    let mut client = rig.client(Client::Node, server, "-").unwrap();
    let secret = canary();
    let calls = plan("node", Client::Node, server, &secret);
    make(&mut client, &calls[..CALLS / 2], false).unwrap();
    let auditor = Auditor::watch(rig.folder(), &ARGUMENTS).unwrap();
    auditor.wait_covered(&["/node"]).unwrap();
    make(&mut client, &calls[CALLS / 2..], true).unwrap();
    let finished = auditor.stop().unwrap();
    let told: Vec<&Value> =
        finished.records.iter().filter(|record| port(record, "destination") == Some(server)).collect();
    assert!(told.iter().all(|record| record["verdict"] == "unknown"), "{told:#?}");
}
