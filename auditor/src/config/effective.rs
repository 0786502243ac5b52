//! The configuration that is in force, as the YAML that would give it: what `auditor check` prints.

use std::fmt::{self, Write as _};

use clap::ValueEnum;

use super::{
    Config,
    value::{show_duration, show_size},
};
use crate::credentials::verify::{IssuerSettings, KeySource};
use crate::policy::Template;

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.internal_networks {
            Some(networks) => list(f, "", "internal_networks", networks)?,
            None => {
                writeln!(f, "# internal_networks: loopback, private and link-local ranges, the node's own addresses")?
            }
        }
        writeln!(f, "listen: \"{}\"", self.listen)?;
        writeln!(f, "tls_plaintext: {}", self.tls_plaintext)?;
        writeln!(f, "unix_sockets: {}", self.unix_sockets)?;
        list(f, "", "sensitive_sockets", &self.sensitive_sockets)?;
        writeln!(f, "capture:\n  hook: {}", self.capture.hook.as_str())?;
        writeln!(f, "  ring_bytes: {}", show_size(self.capture.ring_bytes.into()))?;
        writeln!(f, "  request_head_bytes: {}", show_size(self.capture.request_head_bytes.into()))?;
        writeln!(f, "  response_head_bytes: {}", show_size(self.capture.response_head_bytes.into()))?;
        writeln!(f, "  poll_interval: {}", show_duration(self.capture.poll_interval))?;
        writeln!(f, "limits:")?;
        writeln!(f, "  connections: {}", self.limits.connections)?;
        writeln!(f, "  buffered_bytes: {}", show_size(self.limits.buffered_bytes as u64))?;
        writeln!(f, "  series: {}", self.limits.series)?;
        writeln!(f, "  edges: {}", self.limits.edges)?;
        writeln!(f, "  credentials: {}", self.limits.credentials)?;
        writeln!(f, "  findings: {}", self.limits.findings)?;
        self.write_credentials(f)?;
        if let Some(policy) = &self.policy {
            writeln!(f, "policy: {}", quoted(&policy.to_string_lossy()))?;
        }
        self.write_rules(f)?;
        writeln!(f, "cross_call:\n  window: {}", show_duration(self.cross_call.window))?;
        writeln!(f, "  learning_window: {}", show_duration(self.cross_call.learning_window))?;
        let templates: Vec<&str> = self.route_templates.iter().map(Template::as_str).collect();
        list(f, "", "route_templates", &templates)?;
        match self.cpu_share {
            Some(share) => writeln!(f, "governor:\n  cpu_share: {share}")?,
            None => writeln!(f, "governor: {{}}  # cpu_share: every call is judged")?,
        }
        self.write_jwt(f)?;
        writeln!(f, "record:")?;
        list(f, "  ", "claims", &self.record_claims)?;
        self.write_trust(f)?;
        write!(f, "{}", self.sinks)?;
        match &self.state_dir {
            Some(directory) => writeln!(f, "state_dir: {}", quoted(&directory.to_string_lossy()))?,
            None => writeln!(f, "# state_dir: nothing outlives a run")?,
        }
        writeln!(f, "log:\n  level: {}\n  format: {}", name(self.log.level), name(self.log.format))
    }
}

impl Config {
    fn write_credentials(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = &self.credentials;
        let lists = [
            ("api_key_headers", &from.api_key_headers),
            ("signature_headers", &from.signature_headers),
            ("session_cookies", &from.session_cookies),
            ("query_parameters", &from.query_parameters),
        ];
        let named = lists.iter().any(|(_, names)| !names.is_empty()) || !from.trusted_proxies.is_empty();
        if !named && from.fingerprint_key_file.is_none() {
            return writeln!(f, "# credentials: the built-in names, a random fingerprint key for each run");
        }
        writeln!(f, "credentials:")?;
        for (key, names) in lists {
            if !names.is_empty() {
                list(f, "  ", key, names)?;
            }
        }
        if !from.trusted_proxies.is_empty() {
            list(f, "  ", "trusted_proxies", &from.trusted_proxies)?;
        }
        match &from.fingerprint_key_file {
            Some(file) => writeln!(f, "  fingerprint_key_file: {}", quoted(&file.to_string_lossy())),
            None => Ok(()),
        }
    }

    fn write_jwt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "jwt:\n  max_lifetime: {}", show_duration(self.jwt.max_lifetime))?;
        if self.jwt.issuers.is_empty() {
            return writeln!(f, "  issuers: []");
        }
        writeln!(f, "  issuers:")?;
        for IssuerSettings { issuer, source, algorithms } in &self.jwt.issuers {
            writeln!(f, "    - issuer: {}", quoted(issuer))?;
            match source {
                KeySource::File(file) => writeln!(f, "      jwks_file: {}", quoted(&file.to_string_lossy()))?,
                KeySource::Url { url, trust } => {
                    writeln!(f, "      jwks_url: {}", quoted(url))?;
                    if let Some(bundle) = trust {
                        writeln!(f, "      ca_file: {}", quoted(&bundle.file.to_string_lossy()))?;
                    }
                }
            }
            if let Some(algorithms) = algorithms {
                let names: Vec<_> = algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
                list(f, "      ", "algorithms", &names)?;
            }
        }
        Ok(())
    }

    fn write_trust(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "trust:")?;
        let bundles: Vec<_> = self.trust.bundles.iter().map(|bundle| bundle.file.to_string_lossy()).collect();
        for (bundle, file) in self.trust.bundles.iter().zip(&bundles) {
            writeln!(f, "  # {}: {} certificates", quoted(file), bundle.len())?;
        }
        list(f, "  ", "bundles", &bundles)?;
        list(f, "  ", "domains", &self.trust.domains)?;
        writeln!(f, "  expiry_warning: {}", show_duration(self.trust.expiry_warning))
    }

    fn write_rules(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rules.is_empty() {
            return writeln!(f, "# rules: all as they come");
        }
        writeln!(f, "rules:")?;
        for (id, rule) in &self.rules {
            writeln!(f, "  {id}:")?;
            if let Some(severity) = rule.severity {
                writeln!(f, "    severity: {severity}")?;
            }
            if let Some(enabled) = rule.enabled {
                writeln!(f, "    enabled: {enabled}")?;
            }
        }
        Ok(())
    }
}

fn list(f: &mut fmt::Formatter<'_>, indent: &str, key: &str, items: &[impl ToString]) -> fmt::Result {
    if items.is_empty() {
        return writeln!(f, "{indent}{key}: []");
    }
    writeln!(f, "{indent}{key}:")?;
    items.iter().try_for_each(|item| writeln!(f, "{indent}  - {}", quoted(&item.to_string())))
}

/// A double-quoted YAML scalar.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control.is_control() => {
                write!(out, "\\u{:04x}", u32::from(control)).expect("writing to a String does not fail");
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
