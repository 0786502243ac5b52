//! TLS plaintext of processes that start later and see other files: a library that only a mount namespace of its own shows is
//! attached to once, for all who map it, and let go of when they are gone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use auditor_tests::{
    auditor::{Auditor, port},
    kernel::Held,
    oneshot::curl,
    process::{PATIENCE, Running, until},
    servers::interpreter,
    tls::certificates::{AUTHORITY, create},
    tools::program,
};
use serde_json::json;
use tempfile::TempDir;

/// Where the namespace's own file system is mounted, in the test's folder.
const PRIVATE: &str = "private";

/// The server of the plaintext tests; `kind` is how it reads.
fn server(folder: &Path, kind: &str) -> Result<Command> {
    let mut command = interpreter("python3", "servers/plaintext/server.py")?;
    command.arg(folder).arg(kind);
    Ok(command)
}

/// `command` behind the words of another program.
fn behind(words: &[&str], command: &Command) -> Result<Command> {
    let mut outer = Command::new(program(words[0])?);
    outer.args(&words[1..]).arg(command.get_program()).args(command.get_args());
    Ok(outer)
}

/// The files of OpenSSL that a process maps.
fn openssl(pid: u32) -> Result<Vec<PathBuf>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let is_openssl = |path: &&str| path.contains("/libssl.so") || path.contains("/libcrypto.so");
    let mut files: Vec<_> = maps.lines().filter_map(|line| line.split(' ').next_back()).filter(is_openssl).collect();
    files.sort_unstable();
    files.dedup();
    Ok(files.into_iter().map(PathBuf::from).collect())
}

fn start(name: &str, command: Command) -> Result<(u16, Running)> {
    let mut running = Running::start(name, command)?;
    let port = running.expect_line()?.parse().context("a port")?;
    Ok((port, running))
}

/// One call, over a connection of its own.
fn call(folder: &Path, port: u16, path: &str) -> Result<()> {
    let authority = folder.join(AUTHORITY).display().to_string();
    let config = format!("url = \"https://127.0.0.1:{port}{path}\"\ncacert = \"{authority}\"\nsilent\nmax-time = 20\n");
    curl(&["--disable", "--config", "-"], &config, None)?;
    Ok(())
}

/// Waits for the call to `path` and holds what was said of it.
fn judged(auditor: &mut Auditor, path: &str, server: (u16, u32)) {
    let is_it = |record: &serde_json::Value| record["request"]["path"] == path;
    let waited = auditor.wait_until(PATIENCE, |records| records.iter().any(is_it));
    waited.unwrap_or_else(|error| panic!("{path}: {error}\n{}", auditor.log()));
    let record = auditor.records().iter().find(|record| is_it(record)).expect("it came");
    assert_eq!(port(record, "destination"), Some(server.0), "{record}");
    assert_eq!(record["destination"]["process"]["pid"], json!(server.1), "{record}");
    // The destination's own library was read: it speaks for both ends.
    let said = [&record["reporter"], &record["transport"]["security"], &record["verdict"], &record["outcome"]];
    assert_eq!(said, ["destination", "tls", "unauthenticated", "refused"], "{record}");
}

#[test]
fn a_library_of_another_mount_namespace_is_read_by_all_who_map_it_and_let_go_of() {
    let directory = TempDir::new().unwrap();
    let folder = directory.path();
    create(folder).unwrap();
    let private = folder.join(PRIVATE);
    fs::create_dir(&private).unwrap();
    let (_, plain) = start("server on the node's library", server(folder, "thread").unwrap()).unwrap();
    let files = openssl(plain.pid()).unwrap();
    assert!(files.len() >= 2, "{files:?}");
    let mut auditor = Auditor::watch(folder, &["--tls-plaintext", "--log-level", "debug"]).unwrap();
    auditor.wait_covered(&["libssl.so"]).unwrap();

    // Later, and where the node shows no such file.
    let copies: Vec<_> = files.iter().map(|file| format!("'{}'", file.display())).collect();
    let shown = private.display();
    let script = format!("mount -t tmpfs private '{shown}' && cp -L {} '{shown}' && exec \"$@\"", copies.join(" "));
    let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    let mut command = behind(&words, &server(folder, "thread").unwrap()).unwrap();
    command.env("LD_LIBRARY_PATH", &private);
    let (first_port, first) = start("server in a mount namespace", command).unwrap();
    assert!(openssl(first.pid()).unwrap().iter().all(|file| file.starts_with(&private)), "it maps the copies");
    assert_eq!(fs::read_dir(&private).unwrap().count(), 0, "the node does not show them");
    auditor.wait_covered(&[&format!("{PRIVATE}/libssl.so")]).unwrap();
    call(folder, first_port, "/first").unwrap();
    judged(&mut auditor, "/first", (first_port, first.pid()));

    // Later still: the file is attached to already, and the very first connection is read.
    let namespace = format!("--mount=/proc/{}/ns/mnt", first.pid());
    let mut command = behind(&["nsenter", &namespace], &server(folder, "asyncio").unwrap()).unwrap();
    command.env("LD_LIBRARY_PATH", &private);
    let attached = Held::by(auditor.pid()).unwrap();
    let (second_port, second) = start("second server in the namespace", command).unwrap();
    call(folder, second_port, "/second").unwrap();
    judged(&mut auditor, "/second", (second_port, second.pid()));
    let covered = auditor.log().matches(&format!("{PRIVATE}/libssl.so")).count();
    assert_eq!(covered, 1, "attached to once:\n{}", auditor.log());

    // With the last process the file system goes, and so do the probes in it.
    drop((first, second));
    let let_go = || {
        let of_private = |line: &str| line.contains("is let go of") && line.contains(PRIVATE);
        Ok(auditor.log().lines().any(of_private).then_some(()))
    };
    until("the library is let go of", let_go).unwrap_or_else(|error| panic!("{error}\n{}", auditor.log()));
    let left = attached.existing().unwrap();
    assert!(left.links.len() < attached.links.len(), "no probe was detached: {attached:?}");
    assert_eq!(left.programs, attached.programs);

    let held = Held::by(auditor.pid()).unwrap();
    auditor.stop().unwrap();
    until("everything is detached", || Ok(held.existing()?.is_empty().then_some(()))).unwrap();
}
