//! `auditor check`: reads a configuration or a policy as every other command would, and prints what would be in force; shows
//! what a policy says of recorded traffic.

use std::path::Path;

use super::{Failure, logging, preview, print, rule_ids};
use crate::{
    cli::CheckArgs,
    config::{CommonFlags, Config, resolve},
    policy::rulebook::{Rulebook, WaiverState, follow::today},
};

pub(super) fn run(arguments: &CheckArgs) -> Result<(), Failure> {
    let mut common: CommonFlags = arguments.common.clone();
    if let Some(file) = &arguments.file {
        let is_policy = Rulebook::is_in(file);
        let (place, flag) = if is_policy { (&mut common.policy, "--policy") } else { (&mut common.config, "--config") };
        if arguments.names_another(is_policy) {
            let what = if is_policy { "policy" } else { "configuration" };
            return Err(Failure::Usage(format!("{} is a {what}, and {flag} names another; name one", file.display())));
        }
        *place = Some(file.clone());
    }
    let config = resolve(&common, &arguments.live, &arguments.serve, &rule_ids())?;
    let rulebook = config.policy.as_deref().map(|file| Rulebook::load(file, today())).transpose()?;
    let Some(traffic) = &arguments.replay else {
        return print(&shown(&config, rulebook.as_ref()));
    };
    let (Some(rulebook), Some(policy)) = (rulebook, &config.policy) else {
        return Err(Failure::Usage("there is no policy to replay with; name a policy file".to_owned()));
    };
    logging::start(config.log);
    // Without another one named, the policy of the configuration is the one that is in force.
    let against = match &arguments.against {
        Some(file) => Some(file.clone()),
        None => {
            resolve(&CommonFlags { policy: None, ..common.clone() }, &arguments.live, &arguments.serve, &rule_ids())?
                .policy
                .filter(|file| file != policy)
        }
    };
    let old = against.as_deref().map(|file| Rulebook::load(file, today())).transpose()?;
    print(&preview::compare(&config, traffic, rulebook, old.zip(against))?)
}

/// What would be in force.
fn shown(config: &Config, rulebook: Option<&Rulebook>) -> String {
    let lines = match config.policy.as_deref().zip(rulebook) {
        Some((file, rulebook)) => policy_shown(file, rulebook),
        None => ["no policy; routes:".to_owned()].into_iter().chain(builtin_shown()).collect(),
    };
    // As comments before the configuration, so that all of it is a configuration.
    let comments: String = lines.iter().map(|line| format!("# {line}\n")).collect();
    format!("{comments}\n{config}")
}

fn builtin_shown() -> impl Iterator<Item = String> {
    Rulebook::builtin_routes()
        .map(|(name, methods, paths)| format!("  {name}: {} {}", methods.join(", "), paths.join(" ")))
}

fn policy_shown(file: &Path, rulebook: &Rulebook) -> Vec<String> {
    let mut lines = vec![format!("{} is valid; its digest is {}", file.display(), rulebook.digest())];
    lines.push("routes, the first that fits applies:".to_owned());
    lines.extend(rulebook.route_names().map(|name| format!("  {name}")));
    lines.extend(builtin_shown());
    let waivers = rulebook.waivers(today());
    if !waivers.is_empty() {
        lines.push("waivers:".to_owned());
    }
    lines.extend(waivers.iter().map(|waiver| {
        let note = &waiver.note;
        let held = if waiver.state == WaiverState::Expired { "expired on" } else { "until" };
        format!("  {} ({}), {held} {}: {}", note.name, note.owner, note.expires, waiver.reason)
    }));
    lines
}
