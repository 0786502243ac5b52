//! Debian packages: asks what is missing, installs only that.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

use crate::process::{find, is_root, run, say};

/// `ID` and `VERSION_ID` of `/etc/os-release`.
pub(crate) fn distribution() -> (String, String) {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value.trim_matches('"').to_owned())
            .unwrap_or_default()
    };
    (field("ID"), field("VERSION_ID"))
}

/// Whether packages come by apt here.
pub(crate) fn present() -> bool {
    find("apt-get").is_some() && find("dpkg-query").is_some()
}

/// Those of `packages` that are not installed.
pub(crate) fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Package} ${db:Status-Abbrev}\n"])
        .args(packages)
        .stderr(Stdio::null())
        .output();
    let listed = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let installed: Vec<&str> = listed.lines().filter_map(|line| line.split_once(" ii")).map(|(name, _)| name).collect();
    packages.iter().copied().filter(|package| !installed.contains(package)).collect()
}

/// Installs what is missing of `packages`; asks for fresh package lists only when the ones at hand do not suffice.
///
/// # Errors
/// When we are not root and there is no sudo, or apt fails.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    say(format!("installing by apt: {}", missing.join(" ")));
    if install_once(&missing).is_err() {
        say("the package lists may be old; fetching new ones");
        run(apt_get()?.arg("update"))?;
        install_once(&missing)?;
    }
    Ok(())
}

fn install_once(packages: &[&str]) -> Result<()> {
    run(apt_get()?.args(["install", "--yes", "--no-install-recommends"]).args(packages))
}

fn apt_get() -> Result<Command> {
    // Services of installed packages must not start: nginx would take port 80 of this machine.
    let settings = ["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"];
    let mut command = Command::new("env");
    if !is_root() {
        if find("sudo").is_none() {
            bail!("apt needs root, and there is no sudo: run `cargo xtask setup` as root");
        }
        command = Command::new("sudo");
        command.arg("env");
    }
    command.args(settings).arg("apt-get").arg("--quiet");
    Ok(command)
}
