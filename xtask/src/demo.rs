//! The demo: a few small services that call each other with and without credentials, the auditor beside them, its report at the
//! end. Where live capture is impossible, the same from a capture that was taken of it.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    ebpf,
    process::{cargo, is_root, path_with_tools, root, run, say},
    setup, trained,
};

/// How long the services call each other.
const CALLS_SECONDS: u32 = 12;
/// How long the auditor listens.
const LISTEN_SECONDS: u32 = CALLS_SECONDS + 1;
/// What the auditor recorded of them once; secrets are masked in it.
const CAPTURE: &str = "tests/captures/demo.auditor";
/// What may call what in the demo.
const POLICY: &str = "tests/demo/policy.yaml";
/// The auditor's exit code for what the machine or the user does not permit.
const NOT_PERMITTED: i32 = 3;

/// Sets up, builds, runs the services and the auditor, prints the report. With `policy` the demo's policy is applied.
///
/// # Errors
/// When something does not build or run. That live capture is impossible is no error.
pub(crate) fn run_demo(policy: bool) -> Result<()> {
    if let Some(reason) = obstacle()? {
        return replayed(&reason, policy);
    }
    live(policy)
}

/// Why live capture cannot be shown here. Builds the auditor either way.
fn obstacle() -> Result<Option<String>> {
    let prepared = if is_root() {
        setup::programs(&["nginx", "python3", "node", "curl"]).and_then(|()| ebpf::build())
    } else {
        Err(anyhow::anyhow!("live capture needs root: run `sudo -E cargo xtask demo`"))
    };
    run(cargo().args(["build", "--release", "--locked", "--package", "auditor"]))?;
    if let Err(error) = prepared {
        return Ok(Some(format!("{error:#}")));
    }
    let doctor = Command::new(trained::auditor()).arg("doctor").output().context("cannot run the auditor")?;
    let text = || String::from_utf8_lossy(&doctor.stdout).trim().to_owned();
    Ok((doctor.status.code() == Some(NOT_PERMITTED)).then(text))
}

fn live(policy: bool) -> Result<()> {
    run(cargo().args(["build", "--locked", "--package", "auditor-tests", "--bin", "soft-interior"]))?;
    let mut interior = Command::new(root().join("target/debug/soft-interior"))
        .args(["--seconds", &CALLS_SECONDS.to_string()])
        .env("PATH", path_with_tools())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start soft-interior")?;
    let mut output = BufReader::new(interior.stdout.take().context("soft-interior has no output")?);
    let mut first = String::new();
    output.read_line(&mut first)?;
    if first.trim() != "ready" {
        bail!("the services of the demo did not start: {}", interior.wait()?);
    }
    say(format!("\nnginx, Python and Node services call each other on loopback; auditing for {LISTEN_SECONDS} s\n"));
    let listen = format!("{LISTEN_SECONDS}s");
    let watched = run(Command::new(trained::auditor())
        .args(["watch", "--output", "report", "--for", &listen])
        .args(policy_flag(policy)));
    if watched.is_err() {
        terminate(&interior);
    }
    let mut rest = String::new();
    output.read_to_string(&mut rest)?;
    let calls = interior.wait().context("soft-interior cannot be waited for")?;
    watched?;
    if !calls.success() {
        bail!("a call of the demo was not answered as it should be: {calls}");
    }
    Ok(())
}

/// Asks it to end its services and itself.
fn terminate(child: &Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // SAFETY: the child is ours and not yet waited for, so the id is its own.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
}

/// The flag that names the demo's policy.
fn policy_flag(policy: bool) -> Vec<PathBuf> {
    if policy { vec!["--policy".into(), root().join(POLICY)] } else { Vec::new() }
}

fn replayed(reason: &str, policy: bool) -> Result<()> {
    let capture = root().join(CAPTURE);
    say(format!("\nlive capture is not possible here:\n{reason}\n\nthe same from a recording, {CAPTURE}:\n"));
    run(Command::new(trained::auditor()).args(["replay", "--output", "report"]).args(policy_flag(policy)).arg(capture))
}
