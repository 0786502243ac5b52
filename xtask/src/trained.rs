//! The auditor that people get: compiled with counters, run over the captures of the tests, and compiled again with what was counted,
//! so that what is done for each call lies together and what is not is out of the way (profile-guided optimisation,
//! <https://doc.rust-lang.org/rustc/profile-guided-optimization.html>).
//!
//! What was counted is kept: it only says which ways through the code are common. Functions that have changed since are compiled as if
//! nothing were known of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use anyhow::{Context as _, Result};

use crate::{
    ebpf,
    process::{cargo, read, root, run, say},
    setup,
};

/// What the counts depend on, besides the code itself.
const DEPENDS_ON: [&str; 3] = ["Cargo.lock", "rust-toolchain.toml", CAPTURES];
const CAPTURES: &str = "tests/captures";
/// What it is made to write of the captures: a judgement is read and written in other ways, too, but most of what it takes is in these.
const OUTPUTS: [&str; 3] = ["text", "jsonl", "report"];

/// Where it is.
pub(crate) fn auditor() -> PathBuf {
    root().join("target/release/auditor")
}

/// Builds it.
///
/// # Errors
/// When it does not build, or cannot be run over the captures.
pub(crate) fn build() -> Result<()> {
    ebpf::build()?;
    let folder = root().join("target/trained");
    let profile = folder.join("profile");
    let depends_on = DEPENDS_ON.map(|name| root().join(name));
    if !is_newer(&profile, &depends_on)? {
        count(&folder, &profile)?;
    }
    // Of what has changed since, the compiler would say so for each function.
    let flags = format!("-Cprofile-use={}\u{1f}-Cllvm-args=-no-pgo-warn-mismatch", profile.display());
    let built = compile(&folder, &flags)?;
    put(&built, &auditor())
}

/// Compiles the auditor with counters and runs it over the captures.
fn count(folder: &Path, profile: &Path) -> Result<()> {
    let merge = setup::profile_tool()?;
    say("building the auditor with counters, to learn what is common: some minutes, once");
    let counting = folder.join("counting");
    let counts = counting.join("counts");
    let flags = format!("-Cprofile-generate={}", counts.display());
    let auditor = compile(&counting, &flags)?;
    for entry in fs::read_dir(root().join(CAPTURES)).context(CAPTURES)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension != "md") {
            OUTPUTS.into_iter().try_for_each(|output| replay(&auditor, &file, output))?;
        }
    }
    run(Command::new(merge).args(["merge", "--output"]).arg(profile).arg(&counts))?;
    // A gigabyte that is not needed again.
    fs::remove_dir_all(&counting).with_context(|| format!("removing {}", counting.display()))
}

fn replay(auditor: &Path, file: &Path, output: &str) -> Result<()> {
    run(Command::new(auditor).args(["replay", "--output", output]).arg(file).stdout(Stdio::null()))
}

/// Builds the auditor below `folder`, with flags for the compiler; where it is then. The target is named so that build scripts are
/// spared the flags.
fn compile(folder: &Path, flags: &str) -> Result<PathBuf> {
    let version = read(Command::new("rustc").current_dir(root()).args(["--version", "--verbose"]))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not say what it builds for")?;
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--package", "auditor", "--target", host, "--target-dir"]);
    run(command.arg(folder).env("CARGO_ENCODED_RUSTFLAGS", flags))?;
    Ok(folder.join(host).join("release/auditor"))
}

/// Whether a file is newer than others, and than what lies in them where they are folders.
fn is_newer(file: &Path, others: &[PathBuf]) -> Result<bool> {
    let Ok(made) = changed(file) else { return Ok(false) };
    for other in others {
        if changed(other)? > made {
            return Ok(false);
        }
        for entry in fs::read_dir(other).into_iter().flatten() {
            if changed(&entry?.path())? > made {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn changed(path: &Path) -> Result<SystemTime> {
    fs::metadata(path).and_then(|found| found.modified()).with_context(|| path.display().to_string())
}

/// Puts a program where another may be running.
fn put(built: &Path, at: &Path) -> Result<()> {
    if let Some(folder) = at.parent() {
        fs::create_dir_all(folder)?;
    }
    if at.exists() {
        fs::remove_file(at)?;
    }
    fs::hard_link(built, at).with_context(|| format!("cannot put the auditor at {}", at.display()))?;
    say(format!("built {}", at.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn counts_are_made_again_when_what_they_depend_on_has_changed() {
        let folder = std::env::temp_dir().join(format!("trained-{}", std::process::id()));
        let captures = folder.join("captures");
        fs::create_dir_all(&captures).expect("a folder");
        let (profile, lock, capture) = (folder.join("profile"), folder.join("lock"), captures.join("one.pcap"));
        let depends_on = [lock.clone(), captures.clone()];
        for file in [&lock, &capture] {
            fs::write(file, "").expect("a file");
        }
        assert!(!is_newer(&profile, &depends_on).expect("files"), "there are no counts");
        fs::write(&profile, "").expect("a file");
        let later = SystemTime::now() + Duration::from_secs(60);
        let set =
            |file: &Path, time| fs::File::options().write(true).open(file).and_then(|file| file.set_modified(time));
        set(&profile, later).expect("a time");
        assert!(is_newer(&profile, &depends_on).expect("files"), "nothing has changed");
        set(&capture, later + Duration::from_secs(1)).expect("a time");
        assert!(!is_newer(&profile, &depends_on).expect("files"), "a capture has changed");
        fs::remove_dir_all(&folder).expect("the folder is ours");
    }
}
