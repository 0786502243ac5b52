//! Set-up, builds, tests and benches: people and CI run the same verbs. No product code.

mod apt;
mod bench;
mod checks;
mod demo;
mod ebpf;
mod fuzz;
mod process;
mod setup;
mod test;
mod trained;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Set-up, builds, tests and benches of the Zero Trust Auditor.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Installs what builds the eBPF object; what is there is left alone
    Setup {
        /// Also what the tests, the demo and the bench run
        #[arg(long)]
        tests: bool,
    },
    /// Builds the eBPF object into target/bpf, when its sources changed
    BuildEbpf,
    /// Builds the eBPF object, then the workspace with it inside
    Build {
        /// The auditor that people get, into target/release: optimised by what is common in the captures of the tests
        #[arg(long)]
        release: bool,
    },
    /// Checks format, house rules and lints
    Lint,
    /// Runs all tests, cheapest first, or the tiers that are named
    Test {
        /// What to run; everything when absent
        tiers: Vec<test::Tier>,
    },
    /// Runs fuzz targets from their committed corpora
    Fuzz {
        /// The target; all of them when absent
        target: Option<String>,
        /// How long each runs
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Judges recorded TLS connections and prints what was right; AUDITOR_TLS_CORPUS names the file
    TlsCorpus,
    /// Boots the auditor on stock kernels under QEMU and checks what it says of real calls there
    Vm {
        /// Series of a kernel, such as 6.1; all of them when absent
        #[arg(long = "kernel")]
        kernels: Vec<String>,
        /// Write docs/kernels.md and the golden instruction counts from what was seen
        #[arg(long)]
        write: bool,
    },
    /// Starts a small soft interior, audits it live and prints the report
    Demo {
        /// Also judge by the demo's policy, tests/demo/policy.yaml
        #[arg(long)]
        policy: bool,
    },
    /// Measures what the auditor costs, prints a table and keeps it in docs/performance.md
    Bench {
        #[command(flatten)]
        options: bench::Options,
    },
    /// Runs calls over connections that come and go for long, and says whether what the auditor holds stays flat
    Soak {
        #[command(flatten)]
        options: bench::soak::Options,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::say(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Setup { tests } => setup::run_setup(tests),
        Verb::BuildEbpf => ebpf::build(),
        Verb::Build { release: false } => build(),
        Verb::Build { release: true } => trained::build(),
        Verb::Demo { policy } => demo::run_demo(policy),
        Verb::Bench { options } => bench::run_bench(options),
        Verb::Soak { options } => bench::soak::run_soak(options),
        Verb::Lint => test::lint(),
        Verb::Test { tiers } => test::run_tiers(&tiers),
        Verb::Fuzz { target, seconds } => fuzz::run_targets(target.as_deref(), seconds),
        Verb::TlsCorpus => test::tls_corpus(),
        Verb::Vm { kernels, write } => vm::run_matrix(&kernels, test::auditor_or_build()?, write),
    }
}

/// Builds everything.
fn build() -> Result<()> {
    ebpf::build()?;
    process::run(process::cargo().args(["build", "--workspace", "--locked"]))
}
