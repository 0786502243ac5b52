//! TLS plaintext of libraries that Debian's programs do not bring: BoringSSL and OpenSSL 1.1, which keep a session's random behind a
//! pointer, and OpenSSL 3.5, whose functions ask first whether a session is one of QUIC.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use auditor_tests::{
    auditor::Auditor,
    credential::canary,
    process::{PATIENCE, Running},
    servers::interpreter,
    tls::certificates::{AUTHORITY, ClientCertificate, create},
    tools::workspace,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const SCRIPT: &str = "servers/plaintext/library.py";
const BORINGSSL: &str = "/usr/lib/x86_64-linux-gnu/android/libssl.so.0";
const CALLS: usize = 3;

/// The OpenSSL of a package of PyPI, whose name has a hash.
fn openssl(version: &str) -> Result<PathBuf> {
    let folder = workspace().join(format!("target/tools/openssl-{version}/psycopg2_binary.libs"));
    let entries =
        fs::read_dir(&folder).with_context(|| format!("{}: run `cargo xtask setup --tests`", folder.display()))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_ssl = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("libssl-"))
    };
    paths.find(is_ssl).with_context(|| format!("{}: no libssl", folder.display()))
}

fn start(library: &Path, folder: &Path, version: &str, words: &[&str]) -> Result<Running> {
    let mut command = interpreter("python3", SCRIPT)?;
    // The libcrypto beside it.
    command.env("LD_LIBRARY_PATH", library.parent().context("the library is in a folder")?);
    command.arg(library).arg(folder).arg(version).args(words);
    Running::start(format!("{} {words:?}", library.display()), command)
}

/// A connection whose calls were made.
struct Made {
    paths: Vec<String>,
    version: &'static str,
    certificate: ClientCertificate,
    ports: (u16, u16),
}

/// Calls a server of `library` with the same library, and with and without a certificate; records of all that was judged.
fn calls(library: &Path, name: &str) -> Result<(Vec<Made>, Vec<Value>, String)> {
    let directory = TempDir::new()?;
    create(directory.path())?;
    let mut auditor = Auditor::watch(directory.path(), &["--tls-plaintext", "--log-level", "debug"])?;
    let (mut made, mut servers) = (Vec::new(), Vec::new());
    for version in ["1.2", "1.3"] {
        let mut server = start(library, directory.path(), version, &["serve", AUTHORITY])?;
        let port: u16 = server.expect_line()?.parse()?;
        auditor.wait_covered(&[name])?;
        for certificate in [ClientCertificate::P256, ClientCertificate::None] {
            let words = ["call", &port.to_string(), certificate.name()];
            let mut client = start(library, directory.path(), version, &words)?;
            let paths: Vec<String> = (0..CALLS).map(|_| format!("/library/{}", &canary()[..8])).collect();
            let mut own = 0;
            for path in &paths {
                client.write(&format!("{path}\n"))?;
                let line = client.expect_line()?;
                let (status, port) = line.split_once(' ').context("a status and a port")?;
                ensure!(status == "200", "{line}");
                own = port.parse()?;
            }
            client.close_input();
            client.wait(PATIENCE)?;
            made.push(Made { paths, version, certificate, ports: (own, port) });
        }
        servers.push(server);
    }
    let paths: Vec<&String> = made.iter().flat_map(|made| &made.paths).collect();
    let waited = auditor.wait_until(PATIENCE, |records| {
        let told = |path: &&String| records.iter().any(|record| record["request"]["path"] == path.as_str());
        let ended = records.iter().filter(|record| record["kind"] == "connection").count();
        paths.iter().all(told) && ended >= made.len()
    });
    let finished = auditor.stop()?;
    waited.with_context(|| format!("{:#?}\n{}", finished.records, finished.log))?;
    Ok((made, finished.records, finished.log))
}

/// What is wrong with what was said. `proven`: the library's server shows what it knows of a certificate.
fn complaints(made: &[Made], records: &[Value], proven: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for Made { paths, version, certificate, ports } in made {
        let good = certificate.is_good();
        let mut expected = vec![
            ("/reporter", json!("destination")),
            ("/source/port", json!(ports.0)),
            ("/destination/port", json!(ports.1)),
            ("/response/status", json!(200)),
            ("/outcome", json!("accepted")),
            ("/verdict", json!(if good { "authenticated" } else { "unauthenticated" })),
            ("/transport/security", json!(if good { "mtls" } else { "tls" })),
            ("/transport/version", json!(format!("TLS {version}"))),
            ("/transport/client_certificate/outcome", json!(if good { "presented" } else { "empty" })),
            ("/transport/client_certificate/accepted", json!("yes")),
        ];
        // Only a library says that it verified a certificate.
        expected.push(("/transport/client_certificate/verified", json!((good && proven).then_some(true))));
        if proven {
            expected.push(("/transport/client_certificate/evidence", json!("proven")));
        }
        for path in paths {
            let told: Vec<&Value> =
                records.iter().filter(|record| record["request"]["path"] == path.as_str()).collect();
            let [record] = told[..] else {
                wrong.push(format!("{certificate} {version} {path}: told of {} times", told.len()));
                continue;
            };
            for (pointer, value) in &expected {
                let found = record.pointer(pointer);
                if found != Some(value) {
                    wrong
                        .push(format!("{certificate} {version} {path}: {pointer} is {found:?}, not {value}: {record}"));
                }
            }
        }
    }
    wrong
}

fn check(library: &Path, kind: &str, proven: bool) {
    let name = library.file_name().expect("a file").to_str().expect("a name");
    let (made, records, log) = calls(library, &format!("/{name}")).expect("the calls are made and told of");
    let mut wrong = complaints(&made, &records, proven);
    let covered = |line: &str| line.contains(&format!("/{name}")) && line.contains(&format!("library=\"{kind}\""));
    if !log.lines().any(covered) {
        wrong.push(format!("{name} is not covered as {kind}"));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}\n{log}", wrong.len(), wrong.join("\n"));
}

#[test]
fn calls_inside_boringssl_are_judged() {
    check(Path::new(BORINGSSL), "boringssl", false);
}

#[test]
fn calls_inside_openssl_1_1_are_judged_and_certificates_proven() {
    check(&openssl("1.1").unwrap(), "openssl", true);
}

#[test]
fn calls_inside_openssl_3_5_are_judged_and_certificates_proven() {
    check(&openssl("3.5").unwrap(), "openssl", true);
}
