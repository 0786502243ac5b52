//! Running other programs: every one is announced before it runs and named when it fails.

use std::{
    env,
    ffi::OsStr,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Root of the workspace.
pub(crate) fn root() -> PathBuf {
    // The binary knows where it was built; `cargo xtask` always runs the one of this tree.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_path_buf()
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Says something to the person at the terminal. Results go to stdout, this goes to stderr.
pub(crate) fn say(text: impl AsRef<str>) {
    eprintln!("{}", text.as_ref());
}

/// Prints a result.
///
/// # Errors
/// When stdout is closed.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Runs a command, its output going where ours goes.
///
/// # Errors
/// When it cannot be started or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = describe(command);
    say(format!("+ {line}"));
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Runs a command and returns what it printed to stdout.
///
/// # Errors
/// When it cannot be started or fails; says what it wrote to stderr.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output = finish(command, &line)?;
    if !output.status.success() {
        bail!("`{line}` failed: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn finish(command: &mut Command, line: &str) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{line}`"))
}

/// Where a program is found on `PATH`, in our own tools, or where Debian keeps system programs.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    [tools().join("bin")]
        .into_iter()
        .chain(env::split_paths(&path))
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Programs that are installed for this tree only.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}

/// `PATH` with our own tools first.
pub(crate) fn path_with_tools() -> std::ffi::OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = [tools().join("bin")].into_iter().chain(env::split_paths(&path));
    env::join_paths(folders).unwrap_or(path)
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn describe(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    [name].into_iter().chain(command.get_args()).map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
