//! What can be set of the rules.

use std::{collections::BTreeMap, time::Duration};

use ipnet::IpNet;

use super::{crosscall, routes::Template};
use crate::{certificates::Bundle, judgement::Severity};

/// What the rules measure calls against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Longest lifetime of a token that is not `jwt-long-lived`.
    pub jwt_lifetime: Duration,
    /// Oldest signature over a message, and proof of possession, that is not found fault with.
    pub signature_age: Duration,
    /// Networks of proxies that are believed about client certificates; without any none is.
    pub trusted_proxies: Vec<IpNet>,
    /// How far clocks may be apart.
    pub clock_leeway: Duration,
    /// Words in a path that administration goes by; compared without case with the words between a path's punctuation.
    /// One of more than 64 bytes is none.
    pub admin_words: Vec<String>,
    /// What certificates are measured against.
    pub trust: TrustSettings,
    /// What is remembered from call to call.
    pub cross_call: crosscall::Settings,
    /// Path templates that routes are taken from first, in this order.
    pub templates: Vec<Template>,
    /// `AF_UNIX` sockets, beyond those that are known, that no container should reach: file names or whole paths.
    pub sensitive_sockets: Vec<String>,
    /// Rules that differ from their defaults, by id.
    pub rules: BTreeMap<&'static str, RuleSettings>,
}

/// What certificates are measured against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustSettings {
    /// Issuers that are trusted; without any nothing is said of where a certificate leads.
    pub bundles: Vec<Bundle>,
    /// SPIFFE trust domains that workloads may be of; without any all are fine.
    pub domains: Vec<String>,
    /// How long before its end a certificate is found to expire soon, at most a quarter of its lifetime.
    pub expiry_warning: Duration,
}

/// How a rule differs from its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleSettings {
    /// Severity of each of its findings; `None`: as the rule says.
    pub severity: Option<Severity>,
    /// Whether it is looked at. A rule that is not weakens no credential either.
    pub enabled: bool,
}

impl Default for RuleSettings {
    fn default() -> Self {
        Self { severity: None, enabled: true }
    }
}

impl Settings {
    /// The severity of a finding of `rule` that would be of severity `level` by default; `None` where the rule is not looked
    /// at.
    pub(super) fn severity(&self, rule: &str, level: Severity) -> Option<Severity> {
        let settings = self.rules.get(rule).copied().unwrap_or_default();
        settings.enabled.then(|| settings.severity.unwrap_or(level))
    }
}

impl Default for TrustSettings {
    fn default() -> Self {
        Self { bundles: Vec::new(), domains: Vec::new(), expiry_warning: Duration::from_secs(7 * 24 * 3600) }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let words = "admin administration administrator actuator console debug heapdump threaddump jolokia manage management \
                     phpmyadmin pprof shutdown superuser sysadmin sudo";
        Self {
            jwt_lifetime: Duration::from_secs(3600),
            signature_age: Duration::from_secs(300),
            trusted_proxies: Vec::new(),
            clock_leeway: Duration::from_secs(60),
            admin_words: words.split_ascii_whitespace().map(str::to_owned).collect(),
            trust: TrustSettings::default(),
            cross_call: crosscall::Settings::default(),
            templates: Vec::new(),
            sensitive_sockets: Vec::new(),
            rules: BTreeMap::new(),
        }
    }
}
