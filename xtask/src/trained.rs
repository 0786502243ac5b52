//! The build that is trained: compiled with counters, run beside real calls, and compiled again with what was counted, so that what
//! is done for each call lies together and what is not is out of the way (profile-guided optimisation,
//! <https://doc.rust-lang.org/rustc/profile-guided-optimization.html>).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    bench::training,
    ebpf,
    fuzz::TARGET,
    process::{cargo, find, is_root, read, root, run, say},
    setup,
};

/// Builds the auditor twice, training it in between; where it is then.
///
/// # Errors
/// Without root, and when a build or a part of the training fails.
pub(crate) fn build() -> Result<PathBuf> {
    if !is_root() {
        bail!(
            "a build is trained with live traffic, which needs root: run `sudo -E cargo xtask build --release --trained`"
        );
    }
    setup::test_programs()?;
    ebpf::build()?;
    let merge = profdata()?;
    let folder = root().join("target/trained");
    let counts = folder.join("counts");
    if counts.exists() {
        // Those of another build.
        fs::remove_dir_all(&counts).with_context(|| format!("removing {}", counts.display()))?;
    }
    // What is counted is put in before code is moved from crate to crate.
    let quick = [("CARGO_PROFILE_RELEASE_LTO", "off"), ("CARGO_PROFILE_RELEASE_DEBUG", "none")];
    let counting = compile(&folder.join("counting"), &format!("-Cprofile-generate={}", counts.display()), &quick)?;
    training::train(&counting)?;
    let profile = folder.join("profile");
    run(Command::new(merge).args(["merge", "--output"]).arg(&profile).arg(&counts))?;
    let auditor = compile(&folder, &format!("-Cprofile-use={}", profile.display()), &[])?;
    say(format!("built {}", auditor.display()));
    Ok(auditor)
}

/// Builds the auditor below `folder`, with a flag for the compiler and settings of the profile.
fn compile(folder: &Path, flag: &str, settings: &[(&str, &str)]) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--package", "auditor", "--target", TARGET, "--target-dir"]);
    run(command.arg(folder).env("CARGO_ENCODED_RUSTFLAGS", flag).envs(settings.iter().copied()))?;
    Ok(folder.join(TARGET).join("release/auditor"))
}

/// Builds it, and holds what it says of the tests' captures against what the build that is not trained says.
///
/// # Errors
/// When something fails, or they differ.
pub(crate) fn check(plain: &Path) -> Result<()> {
    let trained = build()?;
    // Made by the first that needs it.
    let key = root().join("target/trained/key");
    for capture in training::CAPTURES {
        let said = |auditor: &Path| {
            let mut command = Command::new(auditor);
            command.args(["replay", "--output", "jsonl", "--fingerprint-key-file"]).arg(&key);
            read(command.arg(root().join("tests/captures").join(capture)))
        };
        if said(&trained)? != said(plain)? {
            bail!("the trained build says something else of {capture} than the build that is not trained");
        }
    }
    Ok(())
}

fn rustc(arguments: &[&str]) -> Result<String> {
    read(Command::new("rustc").current_dir(root()).args(arguments))
}

/// What merges counts; not older than the compiler's LLVM.
fn profdata() -> Result<PathBuf> {
    let sysroot = rustc(&["--print", "sysroot"])?;
    let with_compiler = Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).join("bin/llvm-profdata");
    [with_compiler, Path::new(setup::LLVM).join("bin/llvm-profdata")]
        .into_iter()
        .find(|file| file.is_file())
        .or_else(|| find("llvm-profdata"))
        .context("llvm-profdata is missing: `rustup component add llvm-tools`, or the package llvm-22")
}
