//! The programs the tests run: where they are, and how those written in Go are built.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// The workspace's directory.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is a folder of the workspace")
}

/// A file of this crate.
#[must_use]
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A program by name: from `target/tools/bin`, else from the search path and the folders of system programs.
///
/// # Errors
/// When there is none; says what installs it.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from);
    let folders = [workspace().join("target/tools/bin")].into_iter().chain(env::split_paths(&path)).chain(system);
    match folders.map(|folder| folder.join(name)).find(|file| file.is_file()) {
        Some(file) => Ok(file),
        None => bail!("the tests need `{name}`, which is not installed; run `cargo xtask setup`"),
    }
}

/// Builds a Go program of this crate (a folder with `main.go`) into `directory`.
///
/// # Errors
/// When Go is missing or the program does not compile.
pub fn build_go(folder: &str, directory: &Path) -> Result<PathBuf> {
    build_go_with(folder, directory, "")
}

/// The same with libraries from a `GOPATH`.
///
/// # Errors
/// As [`build_go`].
pub fn build_go_with(folder: &str, directory: &Path, libraries: &str) -> Result<PathBuf> {
    let output = directory.join(folder.replace('/', "-"));
    let cache = workspace().join("target/tools/go-build");
    let mut command = Command::new(program("go")?);
    command.args(["build", "-o"]).arg(&output).arg("main.go").current_dir(source(folder));
    command.env("GOCACHE", cache).env("GO111MODULE", "off").env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0");
    if !libraries.is_empty() {
        command.env("GOPATH", libraries);
    }
    process::output(&mut command)?;
    Ok(output)
}

/// Builds a program of a crate of its own, a folder of this crate, into `target/tools`; again only when it changed.
///
/// # Errors
/// When it does not compile.
pub fn build_crate(folder: &str, program: &str) -> Result<PathBuf> {
    let target = workspace().join("target/tools").join(program);
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--locked"]).current_dir(source(folder)).env("CARGO_TARGET_DIR", &target);
    process::output(&mut command)?;
    Ok(target.join("debug").join(program))
}

/// The auditor's binary: `AUDITOR_BIN`, else the newer of what was built in this workspace.
///
/// # Errors
/// When there is none.
pub fn auditor() -> Result<PathBuf> {
    if let Some(path) = env::var_os("AUDITOR_BIN") {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("AUDITOR_BIN is {}, which is no file", path.display());
        }
        return path.canonicalize().with_context(|| format!("cannot resolve {}", path.display()));
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let built = ["release", "debug"].map(|profile| target.join(profile).join("auditor"));
    let newest = built.into_iter().filter_map(|file| Some((fs::metadata(&file).ok()?.modified().ok()?, file))).max();
    newest.map(|(_, file)| file).context("there is no auditor binary; run `cargo xtask build`, or set AUDITOR_BIN")
}

/// Fails unless the test runs as root, which live capture needs.
///
/// # Errors
/// When it does not.
pub fn require_root() -> Result<()> {
    // SAFETY: geteuid touches no memory.
    if unsafe { libc::geteuid() } != 0 {
        bail!("live capture needs root: run this test as root");
    }
    Ok(())
}
