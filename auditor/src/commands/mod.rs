//! What each command does: from flags to a pipeline and its outputs, and from what went wrong to an exit code.

mod check;
mod doctor;
mod findings;
mod generate;
mod live;
mod logging;
mod preview;
mod replay;
mod rules;
mod run;
mod stages;
mod watch;

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use crate::{
    capture::{CaptureError, recording::RecordingError},
    cli::{Cli, Command},
    config::{ConfigError, reason_of},
    credentials::KeyError,
    policy::rules::RULES,
    server::ServerError,
    sinks::deliver::ClientError,
    state::StateError,
};

/// Why a command did not do what was asked. What it says names the object, the reason and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The command line asks for what does not go together.
    #[error("{0}")]
    Usage(String),
    /// A capture cannot be read, or not to its end.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The recording cannot be made.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The key of fingerprints cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A secret of a sink cannot be had.
    #[error(transparent)]
    Secret(#[from] findings::SecretError),
    /// A sink cannot be reached the way it is configured.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Metrics cannot be served.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Something cannot be written.
    #[error("cannot write {object}: {}; {remedy}", reason_of(source))]
    Write {
        /// What.
        object: String,
        /// Why.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// A thread cannot be started or a signal not be caught.
    #[error("cannot {action}: {}; check the limits on processes and memory", reason_of(source))]
    System {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// This machine or user cannot capture live.
    #[error("{0}")]
    Unsupported(String),
    /// This machine or user cannot capture live, and that was the question: all is said.
    #[error("live capture does not work here; see what is not `yes` above")]
    Doctor,
}

impl Failure {
    /// The exit code: 2 bad usage, configuration or input, 3 not permitted or not supported.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Unsupported(_) | Self::Doctor => 3,
            _ => 2,
        }
    }

    /// The style of the word `error:`, as that of usage errors.
    #[must_use]
    pub fn style(&self) -> Style {
        AnsiColor::Red.on_default().bold()
    }
}

/// Does what the command line says.
///
/// # Errors
/// When it cannot be done; see [`Failure::code`].
pub fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Watch(arguments) => watch::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Rules(arguments) => rules::run(&arguments),
        Command::Completions(arguments) => print(&generate::completions(arguments.shell)),
        Command::Man => print(&generate::man().map_err(stdout_failed)?),
    }
}

/// Ids of the rules that exist.
fn rule_ids() -> Vec<&'static str> {
    RULES.iter().map(|rule| rule.id).collect()
}

/// Prints a result. A reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    quiet_when_closed(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// What came of writing to standard output. A closed pipe is a reader that has seen enough.
fn quiet_when_closed(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(stdout_failed),
    }
}

fn stdout_failed(source: io::Error) -> Failure {
    Failure::Write {
        object: "to standard output".to_owned(),
        source,
        remedy: "check what it is redirected to, and the space there",
    }
}
