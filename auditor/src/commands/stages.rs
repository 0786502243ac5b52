//! The stages as a configuration wants them.

use std::{
    io,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use auditor_wire::{limits::Limits, segment::Timestamp, tracker::Tracker};

use super::Failure;
use crate::{
    attribution::network::{DEFAULT_NETWORKS, InternalNetworks, node_addresses},
    config::Config,
    credentials::{self, Extractor, FingerprintKey, verify::Verifier},
    policy::{
        self, Judge, RuleSettings,
        rulebook::{
            Rulebook,
            follow::{Follower, Watched, today},
        },
        rules::RULES,
    },
    sinks::report::{self, Report, RuleText},
};

/// How long a replay waits for the keys of token issuers.
const KEYS_WITHIN: Duration = Duration::from_secs(15);

pub(super) fn tracker(config: &Config) -> Tracker {
    Tracker::new(Limits {
        connections: config.limits.connections,
        buffered_bytes: config.limits.buffered_bytes,
        tls_plaintext: config.tls_plaintext,
        ..Limits::default()
    })
}

/// What is internal to this node: the networks given, else the default ones and the node's own addresses.
pub(super) fn node_networks(config: &Config) -> InternalNetworks {
    let addresses = node_addresses().unwrap_or_else(|error| {
        tracing::warn!(%error, "the node's own addresses are not known; those in private ranges are internal all the same");
        Vec::new()
    });
    match &config.internal_networks {
        Some(networks) => InternalNetworks::new(networks.clone(), Vec::new()).with_node(addresses),
        None => {
            let networks = DEFAULT_NETWORKS.iter().filter_map(|network| network.parse().ok()).collect();
            InternalNetworks::new(networks, addresses)
        }
    }
}

/// The wall clock, as the kernel's records are set by.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// What is internal to traffic from elsewhere.
pub(super) fn file_networks(config: &Config) -> InternalNetworks {
    config
        .internal_networks
        .clone()
        .map_or_else(InternalNetworks::default, |networks| InternalNetworks::new(networks, Vec::new()))
}

/// Gives the judge the policy that the configuration names, and says what its file was like then.
pub(super) fn set_policy(judge: &mut Judge, config: &Config) -> Result<Option<Watched>, Failure> {
    let Some(file) = &config.policy else { return Ok(None) };
    let watched = Watched::new(file);
    judge.set_policy(Rulebook::load(file, today())?);
    Ok(Some(watched))
}

/// Follows the policy file; SIGHUP has it read at once.
pub(super) fn follower(watched: Watched) -> Result<Follower, Failure> {
    let asked = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&asked))
        .map_err(|source| Failure::System { action: "catch signals", source })?;
    Follower::start(watched, asked).map_err(|source| Failure::System { action: "start a thread", source })
}

/// A judge without a policy. `state_key` is where the key of the fingerprints is unless the configuration names another file.
pub(super) fn judge(config: &Config, state_key: Option<&Path>) -> Result<Judge, Failure> {
    let key = match config.credentials.fingerprint_key_file.as_deref().or(state_key) {
        Some(file) => FingerprintKey::load_or_create(file)?,
        None => FingerprintKey::random()?,
    };
    let mut names = credentials::Settings::default();
    names.api_key_headers.extend(config.credentials.api_key_headers.iter().cloned());
    names.signature_headers.extend(config.credentials.signature_headers.iter().cloned());
    names.session_cookies.extend(config.credentials.session_cookies.iter().cloned());
    names.query_parameters.extend(config.credentials.query_parameters.iter().cloned());
    let rules = config
        .rules
        .iter()
        .map(|(id, rule)| (*id, RuleSettings { severity: rule.severity, enabled: rule.enabled.unwrap_or(true) }));
    let settings = policy::Settings {
        jwt_lifetime: config.jwt.max_lifetime,
        trusted_proxies: config.credentials.trusted_proxies.clone(),
        cross_call: policy::CrossCallSettings {
            window: config.cross_call.window,
            learning_window: config.cross_call.learning_window,
            credentials: config.limits.credentials,
        },
        templates: config.route_templates.clone(),
        rules: rules.collect(),
        trust: config.trust.clone(),
        sensitive_sockets: config.sensitive_sockets.clone(),
        ..policy::Settings::default()
    };
    let extractor = Extractor::new(names, key);
    if config.jwt.issuers.is_empty() {
        return Ok(Judge::new(settings, extractor));
    }
    let verifier = Verifier::start(config.jwt.issuers.clone())
        .map_err(|source| Failure::System { action: "start a thread", source })?;
    Ok(Judge::new(settings, extractor.with_verifier(Arc::new(verifier))))
}

/// The same, with the keys of token issuers if they can be had in time: what is read from a file does not wait for them.
pub(super) fn judge_of_file(config: &Config) -> Result<Judge, Failure> {
    let judge = judge(config, None)?;
    if let Some(verifier) = judge.extractor().verifier() {
        verifier.wait(KEYS_WITHIN);
    }
    Ok(judge)
}

pub(super) fn report(config: &Config) -> Report {
    Report::new(report::Settings { edge_limit: config.limits.edges })
}

/// What reports say of rules.
pub(super) fn rule_texts() -> Vec<RuleText> {
    let text = |rule: &policy::rules::Rule| RuleText {
        id: rule.id,
        title: rule.title,
        explanation: rule.explanation,
        remedy: rule.remedy,
        link: Some(rule.link),
    };
    RULES.iter().map(text).collect()
}

/// A flag that SIGTERM and SIGINT set. The second signal ends the process at once.
pub(super) fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let register = |signal| -> io::Result<()> {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
        Ok(())
    };
    [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT]
        .into_iter()
        .try_for_each(register)
        .map_err(|source| Failure::System { action: "catch signals", source })?;
    Ok(stop)
}
