//! The `auditor` command.

use std::process::ExitCode;

use auditor::{cli::Cli, commands};
use clap::Parser;

fn main() -> ExitCode {
    match commands::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            anstream::eprintln!("{}error:{} {failure}", failure.style(), failure.style().render_reset());
            failure.code().into()
        }
    }
}
