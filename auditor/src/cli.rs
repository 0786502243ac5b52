//! The command line: what can be typed and what help says of it. It decides nothing.

use std::{path::PathBuf, time::Duration};

use clap::{
    Args, Parser, Subcommand, ValueEnum, ValueHint,
    builder::{PossibleValuesParser, TypedValueParser},
};

use crate::{
    config::{CommonFlags, LiveFlags, ServeFlags, value},
    policy::rules::{RULES, Rule, rule},
};

/// Says of every internal call who made it, with what proof, and whether that is acceptable
///
/// The auditor watches the sockets' own traffic from the kernel. It never stands in the traffic, never changes it, and needs
/// no change to the applications.
#[derive(Debug, Parser)]
#[command(
    name = "auditor",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    subcommand_required = true,
    max_term_width = 110,
    after_help = EXIT_CODES,
    after_long_help = TOP_EXAMPLES
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 fine, 1 findings at or above the gate, 2 bad usage, configuration or input, 3 not permitted or not supported.
Results go to stdout, everything else to stderr.";

const TOP_EXAMPLES: &str = "\
Examples:
  auditor doctor                           what this machine allows, and what would be missed
  auditor watch                            live, one line for each call
  auditor watch --for 30s --output report  listen for half a minute, then explain
  auditor replay capture.pcapng            judge what tcpdump or Wireshark captured; needs no privilege
  auditor run --config auditor.yaml        the daemon, with metrics at 127.0.0.1:9477

Exit codes: 0 fine, 1 findings at or above the gate, 2 bad usage, configuration or input, 3 not permitted or not supported.
Results go to stdout, everything else to stderr.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon: capture, judge, serve metrics
    #[command(after_help = "\
Examples:
  auditor run
  auditor run --config /etc/auditor/auditor.yaml --findings /var/log/auditor/findings.jsonl
  auditor run --state-dir /var/lib/auditor
  AUDITOR_LISTEN=0.0.0.0:9477 auditor run")]
    Run(RunArgs),
    /// Show calls and verdicts as they happen
    #[command(after_help = "\
Examples:
  auditor watch
  auditor watch --output jsonl | jq 'select(.verdict == \"unauthenticated\")'
  auditor watch --for 1m --record calls.auditor --output report")]
    Watch(WatchArgs),
    /// Judge a capture file: pcap, pcapng, or what `watch --record` wrote
    #[command(after_help = "\
Examples:
  auditor replay capture.pcapng
  auditor replay --output jsonl calls.auditor
  tcpdump -i any -w - tcp | auditor replay --output report -")]
    Replay(ReplayArgs),
    /// Say what this kernel and user can do, what will be missed, and how to mend it
    #[command(after_help = "Exit code 0 when live capture works, 3 when it does not.")]
    Doctor(DoctorArgs),
    /// Check a configuration or policy file and print what would be in force
    #[command(after_help = "\
Examples:
  auditor check auditor.yaml
  auditor check policy.yaml
  auditor check policy.yaml --replay calls.auditor --against policy-in-force.yaml
  AUDITOR_RING_BYTES=16MiB auditor check auditor.yaml")]
    Check(CheckArgs),
    /// List the rules: id, severity, what each finds; or explain one
    #[command(after_help = "\
Examples:
  auditor rules
  auditor rules explain unauthenticated-call
  auditor rules explain jwt-no-expiry --stack spring")]
    Rules(RulesArgs),
    /// Print completions for a shell
    #[command(after_help = "\
Examples:
  auditor completions bash > /etc/bash_completion.d/auditor
  auditor completions zsh > \"${fpath[1]}/_auditor\"")]
    Completions(CompletionsArgs),
    /// Print the manual page
    #[command(after_help = "\
Examples:
  auditor man | man -l -")]
    Man,
}

/// `auditor run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Values for everything that judges.
    #[command(flatten)]
    pub common: CommonFlags,
    /// Values for live capture.
    #[command(flatten)]
    pub live: LiveFlags,
    /// Values for the daemon.
    #[command(flatten)]
    pub serve: ServeFlags,
}

/// `auditor watch`.
#[derive(Args, Debug)]
pub struct WatchArgs {
    /// Values for everything that judges.
    #[command(flatten)]
    pub common: CommonFlags,
    /// Values for live capture.
    #[command(flatten)]
    pub live: LiveFlags,
    /// What to print
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Print the report at the end, after the stream
    #[arg(long)]
    pub report: bool,
    /// Also write what was seen to a file that `replay` reads; secrets are left out of it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub record: Option<PathBuf>,
    /// Claim of tokens that the recording keeps in clear, so that a policy can ask for it on replay; repeatable
    ///
    /// Besides those that records show. What is long or looks like a token is not kept.
    #[arg(
        long = "record-claim",
        value_name = "NAME",
        env = "AUDITOR_RECORD_CLAIMS",
        value_delimiter = ',',
        value_parser = value::claim_name,
        hide_short_help = true
    )]
    pub record_claims: Option<Vec<String>>,
    /// End after this time, such as 30s
    #[arg(long = "for", value_name = "DURATION", value_parser = value::duration)]
    pub duration: Option<Duration>,
}

/// `auditor replay`.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// pcap, pcapng or recording; - for stdin
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Values for everything that judges.
    #[command(flatten)]
    pub common: CommonFlags,
    /// What to print
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// `auditor doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// How to print it
    #[arg(long, short, value_enum, default_value_t = DoctorOutput::Text)]
    pub output: DoctorOutput,
}

/// `auditor check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// A configuration or a policy file; told by what is in it
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath, required_unless_present_any = ["config", "policy"])]
    pub file: Option<PathBuf>,
    /// Values that would win over the file.
    #[command(flatten)]
    pub common: CommonFlags,
    /// Values that would win over the file.
    #[command(flatten)]
    pub live: LiveFlags,
    /// Values that would win over the file.
    #[command(flatten)]
    pub serve: ServeFlags,
    /// Show what the policy says of this traffic, and what changes: pcap, pcapng or recording
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub replay: Option<PathBuf>,
    /// The policy to compare with; default: that of the configuration, or none
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "replay")]
    pub against: Option<PathBuf>,
}

impl CheckArgs {
    /// Whether a flag names a policy, or a configuration, besides the file.
    #[must_use]
    pub fn names_another(&self, policy: bool) -> bool {
        let flag = if policy { &self.common.policy } else { &self.common.config };
        flag.is_some() && *flag != self.file
    }
}

/// `auditor rules`.
#[derive(Args, Debug)]
pub struct RulesArgs {
    /// What to do other than listing them.
    #[command(subcommand)]
    pub command: Option<RulesCommand>,
}

/// What can be done with rules.
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// Say why a rule is one, and what to change, with code for the service that is called
    Explain(ExplainArgs),
}

/// `auditor rules explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// Id of the rule
    #[arg(value_name = "RULE", value_parser = rule_ids())]
    pub rule: &'static Rule,
    /// Code for stacks with this in their name only, such as `spring` or `nginx`
    #[arg(long, value_name = "NAME")]
    pub stack: Option<String>,
}

fn rule_ids() -> impl TypedValueParser<Value = &'static Rule> {
    PossibleValuesParser::new(RULES.iter().map(|rule| rule.id)).try_map(|id| rule(&id).ok_or("no such rule"))
}

/// `auditor completions`.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// What to print of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One readable line for each call
    Text,
    /// One JSON record for each call
    Jsonl,
    /// The report alone, at the end
    Report,
    /// The report alone, at the end, as Markdown
    Markdown,
}

/// How to print what the machine can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DoctorOutput {
    /// For people
    Text,
    /// One JSON object
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_says_what_it_is() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
        }
    }
}
