//! TLS plaintext where it is asked for: calls inside TLS are judged as calls, once, and no secret gets out; where it is not asked
//! for, nothing is loaded.

use std::{
    collections::HashSet,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use auditor_tests::{
    auditor::{Auditor, Daemon, command, port, run_to_end},
    credential::{canary, leaks},
    kernel::Held,
    oneshot::curl,
    process::{PATIENCE, Running, output, until},
    servers::interpreter,
    tls::{
        certificates::create,
        clients::{Client as TlsProcess, ClientKind as TlsClient},
    },
    tools::{program, source, workspace},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Who makes calls.
#[derive(Clone, Copy, Debug)]
enum Client {
    Curl,
    Python,
    Node,
    Go,
    GnuTls,
}

const CLIENTS: [Client; 5] = [Client::Curl, Client::Python, Client::Node, Client::Go, Client::GnuTls];

/// Servers, a certificate and the Go program, in one folder.
struct Rig {
    directory: TempDir,
    go: PathBuf,
    servers: Vec<(&'static str, u16, Running)>,
}

impl Rig {
    fn start(wanted: &[&'static str]) -> Result<Self> {
        let directory = TempDir::new()?;
        certificate(directory.path())?;
        let go = build_go(directory.path())?;
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
        let folder = self.folder();
        let mut command = match name {
            "nginx" => return self.nginx(),
            "gnutls" => return self.gnutls(),
            "node" => interpreter("node", "servers/plaintext/server.mjs")?,
            "go" => {
                let mut command = Command::new(&self.go);
                command.arg("serve");
                command
            }
            _ => interpreter("python3", "servers/plaintext/server.py")?,
        };
        command.arg(folder);
        if matches!(name, "thread" | "asyncio") {
            command.arg(name);
        }
        let mut running = Running::start(format!("{name} server"), command)?;
        Ok((running.expect_line()?.parse()?, running))
    }

    fn nginx(&self) -> Result<(u16, Running)> {
        let (port, folder) = (free_port()?, self.folder().display().to_string());
        let text = fs::read_to_string(source("servers/plaintext/nginx.conf"))?;
        let file = self.folder().join("nginx.conf");
        fs::write(&file, text.replace("{port}", &port.to_string()).replace("{directory}", &folder))?;
        let mut command = Command::new(program("nginx")?);
        command.arg("-c").arg(file).arg("-e").arg(self.folder().join("error.log"));
        let running = Running::start("nginx server", command)?;
        listens(port)?;
        Ok((port, running))
    }

    fn gnutls(&self) -> Result<(u16, Running)> {
        let port = free_port()?;
        let mut command = Command::new(program("gnutls-serv")?);
        command.args(["--http", "--quiet", "--disable-client-cert", "--port", &port.to_string()]);
        command.arg("--x509certfile").arg(self.folder().join("server.pem"));
        command.arg("--x509keyfile").arg(self.folder().join("server.key"));
        let running = Running::start("gnutls server", command)?;
        listens(port)?;
        Ok((port, running))
    }

    /// Makes GETs one after the other on one connection, where the client can; the status of each.
    fn call(&self, client: Client, port: u16, lines: &[String]) -> Result<Vec<String>> {
        let folder = self.folder();
        let mut command = match client {
            Client::Curl => return self.curl(port, lines),
            Client::GnuTls => return self.gnutls_cli(port, lines),
            Client::Python => interpreter("python3", "clients/plaintext/client.py")?,
            Client::Node => interpreter("node", "clients/plaintext/client.mjs")?,
            Client::Go => {
                let mut command = Command::new(&self.go);
                command.arg("call");
                command
            }
        };
        command.arg(folder).arg(port.to_string());
        let mut running = Running::start(format!("{client:?} client"), command)?;
        let mut statuses = Vec::new();
        for line in lines {
            running.write(&format!("{line}\n"))?;
            statuses.push(running.expect_line()?);
        }
        running.close_input();
        running.wait(PATIENCE)?;
        Ok(statuses)
    }

    fn curl(&self, port: u16, lines: &[String]) -> Result<Vec<String>> {
        let authority = self.folder().join("server.pem").display().to_string();
        let entry = |line: &String| {
            let (path, credential) = line.split_once(' ').unwrap_or((line, ""));
            let header = if credential.is_empty() {
                String::new()
            } else {
                format!("header = \"Authorization: {credential}\"\n")
            };
            format!(
                "url = \"https://127.0.0.1:{port}{path}\"\n{header}silent\ncacert = \"{authority}\"\nmax-time = 20\n\
                 output = /dev/null\nwrite-out = \"%{{http_code}}\\n\"\n"
            )
        };
        let config: Vec<String> = lines.iter().map(entry).collect();
        let done = curl(&["--disable", "--config", "-"], &config.join("next\n"), None)?;
        Ok(done.output.lines().map(str::to_owned).collect())
    }

    fn gnutls_cli(&self, port: u16, lines: &[String]) -> Result<Vec<String>> {
        let mut statuses = Vec::new();
        for line in lines {
            let (path, credential) = line.split_once(' ').unwrap_or((line, ""));
            let header = if credential.is_empty() { String::new() } else { format!("Authorization: {credential}\r\n") };
            let mut command = Command::new(program("gnutls-cli")?);
            command.args(["--logfile=/dev/null", "--port", &port.to_string(), "127.0.0.1"]);
            command.arg("--x509cafile").arg(self.folder().join("server.pem"));
            let mut running = Running::start("gnutls client", command)?;
            running.write(&format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}Connection: close\r\n\r\n"))?;
            let status = loop {
                let line = running.expect_line()?;
                if let Some(status) = line.trim_start_matches("- ").strip_prefix("HTTP/1.") {
                    break status.split(' ').nth(1).unwrap_or_default().to_owned();
                }
            };
            statuses.push(status);
            running.close_input();
            running.wait(PATIENCE)?;
        }
        Ok(statuses)
    }
}

fn certificate(folder: &Path) -> Result<()> {
    let mut command = Command::new(program("openssl")?);
    command.current_dir(folder).args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]);
    command.args([
        "-addext",
        "subjectAltName=IP:127.0.0.1,DNS:localhost",
        "-keyout",
        "server.key",
        "-out",
        "server.pem",
    ]);
    output(&mut command)?;
    Ok(())
}

/// The Go program, without the symbols and the debug information that people leave out, too.
fn build_go(folder: &Path) -> Result<PathBuf> {
    let file = folder.join("plaintext-go");
    let mut command = Command::new(program("go")?);
    command.args(["build", "-ldflags=-s -w", "-o"]).arg(&file).arg("main.go");
    command.current_dir(source("servers/plaintext/go")).env("GOCACHE", workspace().join("target/tools/go-build"));
    command.env("GO111MODULE", "off").env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0");
    output(&mut command)?;
    Ok(file)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn listens(port: u16) -> Result<()> {
    until("the server listens", || Ok(std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(drop)))
}

fn exchanges<'a>(records: &'a [Value], path: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["request"]["path"] == path).collect()
}

#[test]
fn calls_inside_tls_are_judged_once_and_no_secret_gets_out() {
    let rig = Rig::start(&["nginx", "thread", "asyncio", "node", "go", "gnutls"]).unwrap();
    let arguments = ["--tls-plaintext", "--log-level", "debug"];
    let mut auditor = Auditor::watch(rig.folder(), &arguments).unwrap();
    auditor.wait_covered(&["libssl.so", "/node", "plaintext-go", "libgnutls.so"]).unwrap();
    let (mut expected, mut secrets) = (Vec::new(), Vec::new());
    for (server, port, _) in &rig.servers {
        for client in CLIENTS {
            let secret = canary();
            let path = |what: &str| format!("/{server}/{client:?}/{what}");
            let lines = [path("open"), format!("{} Bearer {secret}", path("guarded")), path("again")];
            let statuses =
                rig.call(client, *port, &lines).unwrap_or_else(|error| panic!("{client:?} {server}: {error:#}"));
            // gnutls-serv answers everything with a page.
            let refused = if *server == "gnutls" { "200" } else { "401" };
            assert_eq!(statuses, [refused, "200", refused], "{client:?} to {server}");
            let refused = if refused == "200" { "accepted" } else { "refused" };
            expected.push((path("open"), "unauthenticated", refused, None, *port));
            expected.push((path("guarded"), "authenticated", "accepted", Some("bearer-opaque"), *port));
            expected.push((path("again"), "unauthenticated", refused, None, *port));
            secrets.push(secret);
        }
    }
    // Others may make calls on this machine, too: each record is looked at once.
    let (mut looked_at, mut left): (_, HashSet<&str>) = (0, expected.iter().map(|(path, ..)| path.as_str()).collect());
    let arrived = auditor.wait_until(PATIENCE, |records| {
        for record in &records[std::mem::replace(&mut looked_at, records.len())..] {
            left.remove(record["request"]["path"].as_str().unwrap_or_default());
        }
        left.is_empty()
    });
    let late = arrived.err().map(|error| format!("{error}: {left:?}"));
    let finished = auditor.stop().unwrap();
    let mut wrong: Vec<String> = late.into_iter().collect();
    for (path, verdict, outcome, credential, server) in &expected {
        let records = exchanges(&finished.records, path);
        let [record] = records[..] else {
            wrong.push(format!("{path}: {} records {records:?}", records.len()));
            continue;
        };
        // A session may have begun with a client certificate; where that cannot be told, nobody is called unauthenticated.
        let evidence = &record["transport"]["client_certificate"]["evidence"];
        let open = record["transport"]["resumed"] == true && evidence != "proven";
        let verdict = if open && *verdict == "unauthenticated" { &"unknown" } else { verdict };
        let got = (record["verdict"].as_str(), record["outcome"].as_str(), record["credentials"][0]["kind"].as_str());
        let transport = record["transport"]["security"].as_str();
        let right = got == (Some(*verdict), Some(*outcome), *credential) && transport == Some("tls");
        if !right || port(record, "destination") != Some(*server) {
            wrong.push(format!("{path}: {record}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}\n{}", wrong.len(), expected.len(), wrong.join("\n"), finished.log);
    let text = finished.lines.join("\n") + &finished.log;
    assert!(!secrets.iter().any(|secret| leaks(&text, secret)), "a secret leaked");
}

/// A Go function begins anew when its stack has to grow or its goroutine has to give way: what it writes is written once.
#[test]
fn what_go_writes_counts_once_where_its_stack_grows() {
    const CALLS: usize = 200;
    let rig = Rig::start(&["go"]).unwrap();
    let mut auditor = Auditor::watch(rig.folder(), &["--tls-plaintext", "--log-level", "debug"]).unwrap();
    auditor.wait_covered(&["plaintext-go"]).unwrap();
    let mut command = Command::new(&rig.go);
    command.arg("deep").arg(rig.folder()).args([&rig.servers[0].1.to_string(), "/deep", &CALLS.to_string()]);
    let mut client = Running::start("deep client", command).unwrap();
    assert_eq!(client.expect_line().unwrap(), CALLS.to_string());
    client.wait(PATIENCE).unwrap();
    let last = format!("/deep/{}", CALLS - 1);
    auditor.wait_until(PATIENCE, |records| !exchanges(records, &last).is_empty()).unwrap();
    let finished = auditor.stop().unwrap();
    for number in 0..CALLS {
        let told = exchanges(&finished.records, &format!("/deep/{number}"));
        let said: Vec<_> = told.iter().map(|it| (&it["verdict"], &it["outcome"], &it["response"]["status"])).collect();
        let expected = (&json!("unauthenticated"), &json!("refused"), &json!(401));
        assert_eq!(said, [expected], "call {number}\n{}", finished.log);
    }
}

#[test]
fn nothing_is_loaded_unless_it_is_asked_for() {
    // Some process has a library to find.
    let rig = Rig::start(&["thread"]).unwrap();
    let without = Daemon::start(rig.folder(), &[]).unwrap();
    let held = Held::by(without.pid()).unwrap();
    let run = |program: &str| format!("auditor_capture_program_run_seconds_total{{program=\"{program}\"}}");
    assert!(!without.get("/metrics").unwrap().contains(&run("tls_enter")));
    without.stop().unwrap();
    let with = Daemon::start(rig.folder(), &["--tls-plaintext"]).unwrap();
    let more = Held::by(with.pid()).unwrap();
    let metrics = until("libraries are counted", || {
        let metrics = with.get("/metrics")?;
        Ok(metrics.contains("auditor_tls_libraries{").then_some(metrics))
    });
    let metrics = metrics.unwrap();
    assert!(metrics.contains("reason=\"plaintext-ring-full\""), "{metrics}");
    for program in auditor_abi::plaintext::PROGRAMS {
        assert!(metrics.contains(&run(program)), "{program}: {metrics}");
    }
    with.stop().unwrap();
    assert_eq!(more.programs.len(), held.programs.len() + auditor_abi::plaintext::PROGRAMS.len(), "{held:?} {more:?}");
    until("everything is detached", || Ok(more.existing()?.is_empty().then_some(()))).unwrap();
}

#[test]
fn doctor_lists_the_libraries_that_processes_map() {
    let rig = Rig::start(&["thread", "go"]).unwrap();
    let certificates = TempDir::new().unwrap();
    create(certificates.path()).unwrap();
    let started =
        |kind| TlsProcess::start(kind, certificates.path(), Path::new(env!("CARGO_BIN_EXE_oracle-tls"))).unwrap();
    let _uncovered = [TlsClient::Rust, TlsClient::Java].map(started);
    let (code, text, log) = run_to_end(command(["doctor", "--output", "json"]).unwrap(), rig.folder()).unwrap();
    assert_eq!(code, Some(0), "{log}");
    let diagnosis: Value = serde_json::from_str(&text).unwrap();
    let libraries = diagnosis["tls_libraries"].as_array().expect("a list");
    let covered = |library: &str, file: &str| {
        let named =
            |it: &&Value| it["library"] == library && it["path"].as_str().is_some_and(|path| path.contains(file));
        libraries.iter().find(named).unwrap_or_else(|| panic!("no {file}: {text}"))["covered"].clone()
    };
    assert_eq!(covered("openssl", "libssl.so"), true);
    assert_eq!(covered("go", "plaintext-go"), true);
    assert_eq!(covered("rustls", "oracle-tls"), false);
    assert_eq!(covered("jsse", "libjvm.so"), false);
    assert_eq!(diagnosis["tls_plaintext"]["available"], true, "{text}");
}
