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
    let counting = compile(&folder.join("counting"), &format!("-Cprofile-generate={}", counts.display()))?;
    training::train(&counting)?;
    let profile = folder.join("profile");
    run(Command::new(merge).args(["merge", "--output"]).arg(&profile).arg(&counts))?;
    let auditor = compile(&folder, &format!("-Cprofile-use={}", profile.display()))?;
    say(format!("built {}", auditor.display()));
    Ok(auditor)
}

/// Builds the auditor below `folder`, with a flag for the compiler. The target is named so that build scripts are spared the flag.
fn compile(folder: &Path, flag: &str) -> Result<PathBuf> {
    let target = host()?;
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--package", "auditor", "--target", &target, "--target-dir"]);
    run(command.arg(folder).env("CARGO_ENCODED_RUSTFLAGS", flag))?;
    Ok(folder.join(target).join("release/auditor"))
}

/// The compiler's name of this machine.
fn host() -> Result<String> {
    let version = rustc(&["--version", "--verbose"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say what it builds for")?.to_owned())
}

fn rustc(arguments: &[&str]) -> Result<String> {
    read(Command::new("rustc").current_dir(root()).args(arguments))
}

/// What merges counts; not older than the compiler's LLVM.
fn profdata() -> Result<PathBuf> {
    let sysroot = rustc(&["--print", "sysroot"])?;
    let with_compiler = Path::new(sysroot.trim()).join("lib/rustlib").join(host()?).join("bin/llvm-profdata");
    [with_compiler, Path::new(setup::LLVM).join("bin/llvm-profdata")]
        .into_iter()
        .find(|file| file.is_file())
        .or_else(|| find("llvm-profdata"))
        .context("llvm-profdata is missing: `rustup component add llvm-tools`, or the package llvm-22")
}
