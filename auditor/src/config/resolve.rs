//! From text with places and flags to a [`Config`]: what is out of range ends here, with its place.

use std::path::Path;

use clap::ValueEnum;
use serde_saphyr::Spanned;

use super::{
    CommonFlags, Config, ConfigError, FileConfig, LiveFlags, Place, RuleConfig, ServeFlags,
    error::nearest,
    file,
    raw::{List, Raw, RawCrossCall, RawRule, RawTrust, Text},
    sinks, value,
};
use crate::{credentials::custom::WANTED_LIMIT, judgement::Severity, policy::TrustSettings};

/// The configuration from the file `common` names, the flags and the environment. `rules` are the ids of the rules that
/// exist.
///
/// # Errors
/// When the file cannot be read or something in it is wrong: the first thing, with its line.
pub fn resolve(
    common: &CommonFlags,
    live: &LiveFlags,
    serve: &ServeFlags,
    rules: &[&'static str],
) -> Result<Config, ConfigError> {
    let mut config = match &common.config {
        Some(path) => from_raw(path, file::read(path)?, rules)?,
        None => Config::default(),
    };
    apply_common(&mut config, common);
    overlay(&mut config.tls_plaintext, live.tls_plaintext);
    overlay(&mut config.unix_sockets, live.unix_sockets);
    overlay(&mut config.capture.hook, live.capture);
    overlay(&mut config.capture.ring_bytes, live.ring_bytes);
    overlay(&mut config.capture.request_head_bytes, live.request_head_bytes);
    overlay(&mut config.capture.response_head_bytes, live.response_head_bytes);
    overlay(&mut config.capture.poll_interval, live.poll_interval);
    overlay(&mut config.listen, serve.listen);
    config.cpu_share = serve.cpu_share.or(config.cpu_share);
    if serve.state_dir.is_some() {
        config.state_dir.clone_from(&serve.state_dir);
    }
    if let Some(path) = &serve.findings {
        config.sinks.file.get_or_insert_with(|| FileConfig::new(path.clone())).path.clone_from(path);
    }
    Ok(config)
}

fn overlay<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

fn apply_common(config: &mut Config, flags: &CommonFlags) {
    if flags.internal_networks.is_some() {
        config.internal_networks.clone_from(&flags.internal_networks);
    }
    overlay(&mut config.credentials.api_key_headers, flags.api_key_headers.clone());
    overlay(&mut config.credentials.signature_headers, flags.signature_headers.clone());
    overlay(&mut config.credentials.session_cookies, flags.session_cookies.clone());
    overlay(&mut config.credentials.query_parameters, flags.query_parameters.clone());
    overlay(&mut config.credentials.trusted_proxies, flags.trusted_proxies.clone());
    if flags.fingerprint_key_file.is_some() {
        config.credentials.fingerprint_key_file.clone_from(&flags.fingerprint_key_file);
    }
    if flags.policy.is_some() {
        config.policy.clone_from(&flags.policy);
    }
    overlay(&mut config.jwt.max_lifetime, flags.jwt_max_lifetime);
    overlay(&mut config.trust.bundles, flags.trust_bundles.clone());
    overlay(&mut config.trust.domains, flags.trust_domains.clone());
    overlay(&mut config.trust.expiry_warning, flags.expiry_warning);
    overlay(&mut config.limits.connections, flags.max_connections);
    overlay(&mut config.limits.buffered_bytes, flags.max_buffered_bytes);
    overlay(&mut config.limits.series, flags.max_series);
    overlay(&mut config.limits.edges, flags.max_edges);
    overlay(&mut config.limits.credentials, flags.max_credentials);
    overlay(&mut config.cross_call.window, flags.cross_call_window);
    overlay(&mut config.cross_call.learning_window, flags.learning_window);
    overlay(&mut config.route_templates, flags.route_templates.clone());
    overlay(&mut config.limits.findings, flags.max_findings);
    overlay(&mut config.log.level, flags.log_level);
    overlay(&mut config.log.format, flags.log_format);
}

/// Values of one file, read with the file's name at hand for messages.
pub(super) struct Reader<'a> {
    file: &'a Path,
}

fn from_raw(path: &Path, raw: Raw, known_rules: &[&'static str]) -> Result<Config, ConfigError> {
    let reader = Reader { file: path };
    let internal_networks = reader.list("internal_networks", &raw.internal_networks, value::network)?;
    let mut config = Config { internal_networks, ..Config::default() };
    reader.set(&mut config.listen, "listen", &raw.listen, value::listen)?;
    overlay(&mut config.tls_plaintext, raw.tls_plaintext.map(|value| value.value));
    overlay(&mut config.unix_sockets, raw.unix_sockets.map(|value| value.value));
    let sockets = reader.list("sensitive_sockets", &raw.sensitive_sockets, value::unix_socket)?;
    overlay(&mut config.sensitive_sockets, sockets);

    let capture = raw.capture.unwrap_or_default();
    let to = &mut config.capture;
    reader.set(&mut to.hook, "capture.hook", &capture.hook, value::hook)?;
    reader.set(&mut to.ring_bytes, "capture.ring_bytes", &capture.ring_bytes, value::ring_bytes)?;
    let key = "capture.request_head_bytes";
    reader.set(&mut to.request_head_bytes, key, &capture.request_head_bytes, value::head_bytes)?;
    let key = "capture.response_head_bytes";
    reader.set(&mut to.response_head_bytes, key, &capture.response_head_bytes, value::head_bytes)?;
    reader.set(&mut to.poll_interval, "capture.poll_interval", &capture.poll_interval, value::poll_interval)?;

    let limits = raw.limits.unwrap_or_default();
    let to = &mut config.limits;
    reader.set(&mut to.connections, "limits.connections", &limits.connections, value::count)?;
    reader.set(&mut to.buffered_bytes, "limits.buffered_bytes", &limits.buffered_bytes, value::buffered_bytes)?;
    reader.set(&mut to.series, "limits.series", &limits.series, value::count)?;
    reader.set(&mut to.edges, "limits.edges", &limits.edges, value::count)?;
    reader.set(&mut to.credentials, "limits.credentials", &limits.credentials, value::count)?;
    reader.set(&mut to.findings, "limits.findings", &limits.findings, value::count)?;

    let credentials = raw.credentials.unwrap_or_default();
    let to = &mut config.credentials;
    let lists = [
        (&mut to.api_key_headers, "credentials.api_key_headers", &credentials.api_key_headers, true),
        (&mut to.signature_headers, "credentials.signature_headers", &credentials.signature_headers, true),
        (&mut to.session_cookies, "credentials.session_cookies", &credentials.session_cookies, false),
        (&mut to.query_parameters, "credentials.query_parameters", &credentials.query_parameters, false),
    ];
    for (target, key, names, headers) in lists {
        let parse = if headers { value::header_name } else { value::parameter_name };
        *target = reader.list(key, names, parse)?.unwrap_or_default();
    }
    to.fingerprint_key_file = credentials.fingerprint_key_file.map(|text| text.value.into());
    let key = "credentials.trusted_proxies";
    to.trusted_proxies = reader.list(key, &credentials.trusted_proxies, value::network)?.unwrap_or_default();

    config.policy = raw.policy.map(|text| text.value.into());
    for rule in raw.rules.unwrap_or_default().0 {
        let (id, settings) = reader.rule(rule, known_rules)?;
        config.rules.insert(id, settings);
    }
    reader.across(&mut config, &raw.cross_call.unwrap_or_default(), &raw.route_templates)?;
    let share = raw.governor.unwrap_or_default().cpu_share;
    reader.set(&mut config.cpu_share, "governor.cpu_share", &share, |text| value::cpu_share(text).map(Some))?;
    let jwt = raw.jwt.unwrap_or_default();
    reader.set(&mut config.jwt.max_lifetime, "jwt.max_lifetime", &jwt.max_lifetime, value::lifetime)?;
    config.jwt.issuers = reader.issuers(jwt.issuers.unwrap_or_default())?;
    let claims = raw.record.unwrap_or_default().claims;
    config.record_claims = reader.list("record.claims", &claims, value::claim_name)?.unwrap_or_default();
    if let Some(one_more) = claims.as_ref().and_then(|claims| claims.get(WANTED_LIMIT)) {
        let problem = format!("there are more than {WANTED_LIMIT}; name those that a policy asks for");
        return Err(reader.wrong("record.claims", one_more, problem));
    }
    reader.trust(&mut config.trust, raw.trust.unwrap_or_default())?;
    config.sinks = sinks::resolve(&reader, raw.sinks.unwrap_or_default())?;
    config.state_dir = raw.state_dir.map(|text| text.value.into());
    let log = raw.log.unwrap_or_default();
    reader.set(&mut config.log.level, "log.level", &log.level, one_of)?;
    reader.set(&mut config.log.format, "log.format", &log.format, one_of)?;
    Ok(config)
}

impl Reader<'_> {
    pub(super) fn set<T>(
        &self,
        target: &mut T,
        key: &str,
        text: &Text,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<(), ConfigError> {
        if let Some(text) = text {
            *target = parse(&text.value).map_err(|problem| self.wrong(key, text, problem))?;
        }
        Ok(())
    }

    /// A value that must be there, and is.
    pub(super) fn required<T>(
        &self,
        key: &str,
        text: &Spanned<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        parse(&text.value).map_err(|problem| self.wrong(key, text, problem))
    }

    pub(super) fn list<T>(
        &self,
        key: &str,
        list: &List,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<Vec<T>>, ConfigError> {
        let Some(list) = list else { return Ok(None) };
        let parse = |text: &Spanned<String>| parse(&text.value).map_err(|problem| self.wrong(key, text, problem));
        list.iter().map(parse).collect::<Result<_, _>>().map(Some)
    }

    fn trust(&self, to: &mut TrustSettings, trust: RawTrust) -> Result<(), ConfigError> {
        to.bundles = self.list("trust.bundles", &trust.bundles, value::bundle)?.unwrap_or_default();
        to.domains = self.list("trust.domains", &trust.domains, value::trust_domain)?.unwrap_or_default();
        self.set(&mut to.expiry_warning, "trust.expiry_warning", &trust.expiry_warning, value::duration)
    }

    fn across(&self, to: &mut Config, calls: &RawCrossCall, templates: &List) -> Result<(), ConfigError> {
        self.set(&mut to.cross_call.window, "cross_call.window", &calls.window, value::window)?;
        let key = "cross_call.learning_window";
        self.set(&mut to.cross_call.learning_window, key, &calls.learning_window, value::duration)?;
        let templates = self.list("route_templates", templates, value::route_template)?;
        overlay(&mut to.route_templates, templates);
        Ok(())
    }

    fn rule(
        &self,
        (id, rule): (Spanned<String>, Option<RawRule>),
        known: &[&'static str],
    ) -> Result<(&'static str, RuleConfig), ConfigError> {
        let Some(&known_id) = known.iter().find(|known| **known == id.value) else {
            let remedy = match nearest(&id.value, known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("rules are {}", known.join(", ")),
            };
            return Err(ConfigError::Content {
                place: self.place(&id),
                reason: format!("unknown rule `{}`", value::shown(&id.value)),
                remedy,
            });
        };
        let rule = rule.unwrap_or_default();
        let mut settings = RuleConfig { severity: None, enabled: rule.enabled.map(|enabled| enabled.value) };
        let key = format!("rules.{known_id}.severity");
        self.set(&mut settings.severity, &key, &rule.severity, |text| severity(text).map(Some))?;
        Ok((known_id, settings))
    }

    pub(super) fn wrong<T>(&self, key: &str, at: &Spanned<T>, problem: String) -> ConfigError {
        ConfigError::Value { place: self.place(at), key: key.to_owned(), problem }
    }

    fn place<T>(&self, at: &Spanned<T>) -> Place {
        Place { file: self.file.to_owned(), line: at.referenced.line(), column: at.referenced.column() }
    }
}

fn one_of<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, false).map_err(|_| {
        let names: Vec<String> = T::value_variants()
            .iter()
            .filter_map(T::to_possible_value)
            .map(|value| value.get_name().to_owned())
            .collect();
        format!("`{}` is none of {}", value::shown(text), names.join(", "))
    })
}

/// A severity by its name.
pub(crate) fn severity(text: &str) -> Result<Severity, String> {
    const ALL: [Severity; 5] = [Severity::Info, Severity::Low, Severity::Medium, Severity::High, Severity::Critical];
    ALL.into_iter()
        .find(|severity| severity.as_str() == text)
        .ok_or_else(|| format!("`{}` is none of {}", value::shown(text), ALL.map(Severity::as_str).join(", ")))
}
