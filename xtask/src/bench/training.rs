//! What a build is trained with: the auditor beside calls of each kind that is common, so that the compiler learns which ways through
//! it are taken.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use super::{
    http2,
    rig::{LOAD_CPU, Observer, Server, flat_out, flat_out_pages},
    tls,
};
use crate::process::{read, root, run, say};

/// How long each kind of call is made.
const SECONDS: u32 = 2;
/// What services call each other by.
const PATHS: [&str; 8] = [
    "items/42",
    "items/7f3a91c2-5a0b-4f6e-9d1c-2b8e4d6f0a13/reserve",
    "api/orders?customer=817&limit=20",
    "healthz",
    "users/1093/carts/2026-11-22",
    "admin/cache",
    "v1/search?q=lamp",
    "static/app.3c9d41e07b.js",
];
/// A token of nobody: who signed it is not asked.
const TOKEN: &str = "authorization: Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6ImsxIiwidHlwIjoiSldUIn0.eyJpc3Mi\
    OiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwiYXVkIjpbInNob3AiXSwic3ViIjoiY2FydCIsImlhdCI6MTc2NDAwMDAwMCwiZXhwIjoxNzY0MD\
    AwMzAwLCJzY29wZSI6InJlYWQgd3JpdGUifQ.c2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJlc\
    2lnbmF0dXJlc2lnbmF0dXJl";
/// Headers of a call, by what proves who makes it.
const HEADERS: [&[&str]; 4] = [
    &[],
    &[TOKEN, "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "x-request-id: 5f1c9a"],
    &["authorization: Basic Y2FydDpub2JvZHk=", "cookie: theme=dark; lang=en", "accept-encoding: gzip"],
    &["x-api-key: 5a1bnobody", "accept-language: en", "cache-control: no-cache", "x-forwarded-for: 10.0.0.7"],
];

/// Runs the auditor beside calls, with the demo's policy, and over the captures of the tests.
///
/// # Errors
/// When a part of the rig is missing or fails.
pub(crate) fn train(auditor: &Path) -> Result<()> {
    let folder = root().join("target/bench");
    let server = Server::start(&folder)?;
    let policy = root().join("tests/demo/policy.yaml");
    let policy = policy.to_str().context("the path of the tree is not UTF-8")?;
    let observer = Observer::start_with(auditor, &folder, &["--policy", policy])?;
    say("calls beside it");
    for headers in HEADERS {
        calls(server.port, headers)?;
    }
    flat_out(server.port, SECONDS)?;
    flat_out_pages(server.port, SECONDS)?;
    http2::flat_out(&folder, &server, SECONDS)?;
    tls::handshakes(server.tls_port, SECONDS)?;
    if observer.settled()?.exchanges < 1.0 {
        bail!("the auditor judged no call");
    }
    drop(observer);
    for capture in ["http2.pcapng", "nginx-curl.pcapng", "python-split.pcap", "tls.pcapng", "demo.auditor"] {
        let file = root().join("tests/captures").join(capture);
        let mut command = Command::new(auditor);
        run(command.args(["replay", "--output", "report"]).arg(file).stdout(std::process::Stdio::null()))?;
    }
    Ok(())
}

/// Calls over HTTP/1, over 32 connections at a time.
fn calls(port: u16, headers: &[&str]) -> Result<()> {
    let mut command = Command::new("taskset");
    command.args(["-c", LOAD_CPU, "h2load", "--h1", "-t1", "-c32", "-D", &SECONDS.to_string()]);
    headers.iter().for_each(|header| {
        command.args(["-H", header]);
    });
    read(command.args(PATHS.map(|path| format!("http://127.0.0.1:{port}/{path}")))).map(drop)
}
