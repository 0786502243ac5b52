//! Fuzzing with libFuzzer, without cargo-fuzz or a nightly compiler: the pinned compiler instruments the targets when it is told
//! to accept unstable flags.

use std::{ffi::OsString, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process::{cargo, read, root, run, say};

/// What cargo-fuzz passes too: coverage of every edge, comparisons traced, debug assertions on, AddressSanitizer.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Zsanitizer=address",
    "-Cdebug-assertions=on",
    "-Coverflow-checks=on",
    "-Ccodegen-units=1",
];

/// With a sanitizer the target must be named, or build scripts and macros would be instrumented too.
const TARGET: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

/// An input may not take longer; a slow input is a finding.
const SECONDS_PER_INPUT: u32 = 10;
/// Nor more memory, in MiB.
const MEMORY: u32 = 1024;

/// Runs one target, or all, for `seconds` each, starting from its committed corpus.
///
/// # Errors
/// When a target does not build, or an input makes it crash, hang or take too much memory.
pub(crate) fn run_targets(only: Option<&str>, seconds: u32) -> Result<()> {
    let targets = targets()?;
    let chosen: Vec<&String> = targets.iter().filter(|target| only.is_none_or(|only| only == *target)).collect();
    if chosen.is_empty() {
        bail!("no fuzz target {}; there are: {}", only.unwrap_or_default(), targets.join(", "));
    }
    let built = root().join("target/fuzz/build");
    let flags = FLAGS.join("\u{1f}");
    run(cargo()
        .current_dir(folder())
        .args(["build", "--release", "--locked", "--bins", "--target", TARGET])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env("CARGO_TARGET_DIR", &built))?;
    for target in chosen {
        fuzz(target, &built.join(TARGET).join("release").join(target), seconds)?;
    }
    Ok(())
}

fn fuzz(target: &str, program: &PathBuf, seconds: u32) -> Result<()> {
    let found = root().join("target/fuzz/corpus").join(target);
    let crashes = root().join("target/fuzz/artifacts").join(target);
    fs::create_dir_all(&found)?;
    fs::create_dir_all(&crashes)?;
    let committed = folder().join("corpus").join(target);
    if !committed.is_dir() {
        bail!("{target} has no corpus: put inputs into fuzz/corpus/{target}");
    }
    let mut prefix = OsString::from("-artifact_prefix=");
    prefix.push(crashes.join(""));
    // New inputs go into the first folder, so that the committed one stays as it is.
    let mut command = Command::new(program);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={SECONDS_PER_INPUT}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .args(["-print_final_stats=1", "-verbosity=0"])
        .arg(prefix)
        .args([found, committed]);
    run(&mut command).with_context(|| {
        format!(
            "fuzz target {target}: the input is in target/fuzz/artifacts/{target}; give its path to {}",
            program.display()
        )
    })?;
    say(format!("fuzz target {target}: nothing found in {seconds} s"));
    Ok(())
}

/// The targets are the fuzz crate's programs.
fn targets() -> Result<Vec<String>> {
    let mut command = cargo();
    command.current_dir(folder()).args(["metadata", "--format-version=1", "--no-deps", "--locked"]);
    let metadata: Value = serde_json::from_str(&read(&mut command)?)?;
    let targets = metadata["packages"][0]["targets"].as_array().context("the fuzz crate has no targets")?;
    let programs = targets.iter().filter(|target| target["kind"][0] == "bin");
    Ok(programs.filter_map(|target| target["name"].as_str().map(str::to_owned)).collect())
}

fn folder() -> PathBuf {
    root().join("fuzz")
}
