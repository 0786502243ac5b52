//! Everything that is tested, cheapest first. CI runs all of it; people run all of it, or the tiers they name.

use std::{
    env,
    fmt::Write as _,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::{
    checks, ebpf, fuzz,
    process::{cargo, find, is_root, path_with_tools, root, run, say},
    setup, trained, vm,
};

/// Seconds each fuzz target runs as part of the tests; `cargo xtask fuzz` runs longer.
const FUZZ_SECONDS: u32 = 10;

/// A group of tests that need the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// Installs what is missing, builds the eBPF object
    Setup,
    /// rustfmt
    Format,
    /// House rules, licences
    Checks,
    /// Clippy, warnings are errors
    Clippy,
    /// Unit, property and golden tests
    Unit,
    /// Documentation builds without a warning
    Docs,
    /// Prometheus rules: syntax, and their own tests
    Dashboards,
    /// Every fuzz target for some seconds
    Fuzz,
    /// The auditor that people get, with the eBPF objects inside
    Build,
    /// The built auditor on this machine's kernel, between real clients and servers; needs root
    Live,
    /// The same binary on stock Debian kernels in QEMU
    Vm,
}

impl Tier {
    fn run(self) -> Result<()> {
        match self {
            Self::Setup => prepare(),
            Self::Format => format(),
            Self::Checks => checks::run_checks(),
            Self::Clippy => clippy(),
            Self::Unit => unit(),
            Self::Docs => docs(),
            Self::Dashboards => dashboards(),
            Self::Fuzz => fuzz::run_targets(None, FUZZ_SECONDS),
            Self::Build => trained::build(),
            Self::Live => live(),
            Self::Vm => vm::run_matrix(&[], trained::auditor(), false),
        }
    }

    /// What this machine or user lacks for it.
    fn obstacle(self) -> Option<&'static str> {
        match self {
            Self::Live if !is_root() => Some("live capture needs root: run `sudo -E cargo xtask test live`"),
            Self::Dashboards if find("promtool").is_none() => {
                Some("promtool is missing: run `cargo xtask setup --tests`")
            }
            Self::Vm if find("qemu-system-x86_64").is_none() => {
                Some("QEMU is missing: run `cargo xtask setup --tests`")
            }
            _ => None,
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Runs the tiers, all of them when none is named. Every tier is run, whatever fails before it.
///
/// # Errors
/// When a tier fails; in CI also when one cannot be run.
pub(crate) fn run_tiers(tiers: &[Tier]) -> Result<()> {
    let tiers = with_setup(if tiers.is_empty() { Tier::value_variants() } else { tiers });
    let must_run = env::var_os("CI").is_some_and(|value| value != "false");
    let start = Instant::now();
    let mut outcomes = Vec::new();
    for (number, tier) in tiers.iter().enumerate() {
        say(format!("\n== {} ({} of {})", tier.name(), number + 1, tiers.len()));
        let began = Instant::now();
        let outcome = match tier.obstacle() {
            Some(obstacle) if must_run => Outcome::Failed(obstacle.to_owned()),
            Some(obstacle) => Outcome::NotRun(obstacle),
            None => tier.run().map_or_else(|error| Outcome::Failed(format!("{error:#}")), |()| Outcome::Passed),
        };
        say(line(*tier, &outcome, began.elapsed()));
        outcomes.push((*tier, outcome, began.elapsed()));
    }
    say(format!("\n{}total {:.0} s", summary(&outcomes), start.elapsed().as_secs_f64()));
    let failed: Vec<String> = outcomes
        .iter()
        .filter(|(_, outcome, _)| matches!(outcome, Outcome::Failed(_)))
        .map(|(tier, ..)| tier.name())
        .collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// The tiers, behind the set-up when one of them needs what it installs.
fn with_setup(tiers: &[Tier]) -> Vec<Tier> {
    let needs = |tier: &Tier| matches!(tier, Tier::Dashboards | Tier::Build | Tier::Live | Tier::Vm);
    let setup = tiers.iter().any(needs) && !tiers.contains(&Tier::Setup);
    setup.then_some(Tier::Setup).into_iter().chain(tiers.iter().copied()).collect()
}

enum Outcome {
    Passed,
    Failed(String),
    NotRun(&'static str),
}

fn line(tier: Tier, outcome: &Outcome, time: Duration) -> String {
    let name = tier.name();
    let seconds = time.as_secs_f64();
    match outcome {
        Outcome::Passed => format!("{name:<10} passed   {seconds:6.1} s"),
        Outcome::Failed(reason) => format!("{name:<10} FAILED   {seconds:6.1} s  {reason}"),
        Outcome::NotRun(reason) => format!("{name:<10} NOT RUN            {reason}"),
    }
}

fn summary(outcomes: &[(Tier, Outcome, Duration)]) -> String {
    outcomes.iter().fold(String::new(), |mut text, (tier, outcome, time)| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line(*tier, outcome, *time));
        text
    })
}

/// The quick checks a person wants before every commit.
///
/// # Errors
/// When one of them fails.
pub(crate) fn lint() -> Result<()> {
    run_tiers(&[Tier::Format, Tier::Checks, Tier::Clippy])
}

/// The auditor that `AUDITOR_BIN` names, as for the live tests, or else the one people get, built.
///
/// # Errors
/// When it does not build.
pub(crate) fn auditor_or_build() -> Result<std::path::PathBuf> {
    if let Some(auditor) = env::var_os("AUDITOR_BIN") {
        return Ok(auditor.into());
    }
    trained::build()?;
    Ok(trained::auditor())
}

fn prepare() -> Result<()> {
    setup::test_programs()?;
    ebpf::build()
}

/// Crates outside the workspace are formatted and documented like all others.
const OUTSIDE: &[&str] = &["auditor-ebpf", "fuzz", "tests/grpc/tonic"];

fn format() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    for folder in OUTSIDE {
        run(cargo().current_dir(root().join(folder)).args(["fmt", "--check"]))?;
    }
    Ok(())
}

fn clippy() -> Result<()> {
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"]))?;
    // The fuzz targets are a workspace of their own and take files of the daemon by path: without this a moved item would show only
    // when they are built to run.
    run(cargo()
        .current_dir(root().join("fuzz"))
        .args(["clippy", "--all-targets", "--locked", "--", "--deny", "warnings"])
        .env("CARGO_TARGET_DIR", root().join("target/fuzz/check")))?;
    // Where the live tests build it, too: what it depends on is there.
    run(cargo()
        .current_dir(root().join("tests/grpc/tonic"))
        .args(["clippy", "--all-targets", "--locked", "--", "--deny", "warnings"])
        .env("CARGO_TARGET_DIR", root().join("target/tools/oracle-tonic")))
}

fn unit() -> Result<()> {
    let mut command = cargo();
    if find("cargo-nextest").is_some() {
        command.args(["nextest", "run"]);
    } else {
        command.arg("test");
    }
    run(command.args(["--workspace", "--exclude", "auditor-tests", "--locked"]).env("PATH", path_with_tools()))?;
    // nextest does not run the examples in the documentation.
    run(cargo().args(["test", "--doc", "--workspace", "--exclude", "auditor-tests", "--locked"]))
}

/// Holds the TLS reader against recorded connections, as the unit tests do, and shows the confusion matrix.
///
/// # Errors
/// When there is no corpus, or what is decided differs too much from the truth.
pub(crate) fn tls_corpus() -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--package", "auditor-wire", "--test", "tls_corpus", "--locked"]);
    run(command.args(["--", "--nocapture", "--test-threads", "1"]))
}

fn docs() -> Result<()> {
    run(cargo().args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "--deny warnings"))
}

fn dashboards() -> Result<()> {
    for (verb, file) in [("check", "dashboards/rules.yml"), ("test", "dashboards/rules_test.yml")] {
        run(Command::new("promtool").current_dir(root()).args([verb, "rules", file]))?;
    }
    Ok(())
}

fn live() -> Result<()> {
    let mut command = cargo();
    // One at a time: every auditor sees the whole machine's traffic.
    if find("cargo-nextest").is_some() {
        command.args(["nextest", "run", "--test-threads", "1"]);
    } else {
        command.env("RUST_TEST_THREADS", "1").arg("test");
    }
    command.args(["--package", "auditor-tests", "--locked"]);
    run(command.env("AUDITOR_BIN", trained::auditor()).env("PATH", path_with_tools()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_that_need_programs_come_behind_the_set_up() {
        assert_eq!(with_setup(&[Tier::Live]), [Tier::Setup, Tier::Live]);
        assert_eq!(with_setup(&[Tier::Format, Tier::Clippy]), [Tier::Format, Tier::Clippy]);
        assert_eq!(with_setup(Tier::value_variants()), Tier::value_variants());
    }
}
