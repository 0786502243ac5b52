//! The file as it is written: every value still text, each with its place. Turning it into a [`super::Config`] is
//! [`super::resolve`]'s work.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_saphyr::Spanned;

use super::sinks::RawSinks;

/// A value with its place.
pub(super) type Text = Option<Spanned<String>>;
/// A list of values with their places.
pub(super) type List = Option<Vec<Spanned<String>>>;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    pub(super) internal_networks: List,
    pub(super) listen: Text,
    pub(super) tls_plaintext: Option<Spanned<bool>>,
    pub(super) unix_sockets: Option<Spanned<bool>>,
    pub(super) sensitive_sockets: List,
    pub(super) capture: Option<RawCapture>,
    pub(super) limits: Option<RawLimits>,
    pub(super) credentials: Option<RawCredentials>,
    pub(super) policy: Text,
    pub(super) rules: Option<RawRules>,
    pub(super) cross_call: Option<RawCrossCall>,
    pub(super) route_templates: List,
    pub(super) governor: Option<RawGovernor>,
    pub(super) jwt: Option<RawJwt>,
    pub(super) record: Option<RawRecord>,
    pub(super) trust: Option<RawTrust>,
    pub(super) sinks: Option<RawSinks>,
    pub(super) state_dir: Text,
    pub(super) log: Option<RawLog>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCapture {
    pub(super) hook: Text,
    pub(super) ring_bytes: Text,
    pub(super) request_head_bytes: Text,
    pub(super) response_head_bytes: Text,
    pub(super) poll_interval: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawGovernor {
    pub(super) cpu_share: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    pub(super) connections: Text,
    pub(super) buffered_bytes: Text,
    pub(super) series: Text,
    pub(super) edges: Text,
    pub(super) credentials: Text,
    pub(super) findings: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCredentials {
    pub(super) api_key_headers: List,
    pub(super) signature_headers: List,
    pub(super) session_cookies: List,
    pub(super) query_parameters: List,
    pub(super) fingerprint_key_file: Text,
    pub(super) trusted_proxies: List,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRule {
    pub(super) severity: Text,
    pub(super) enabled: Option<Spanned<bool>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCrossCall {
    pub(super) window: Text,
    pub(super) learning_window: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawJwt {
    pub(super) max_lifetime: Text,
    pub(super) issuers: Option<Vec<Spanned<RawIssuer>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawIssuer {
    pub(super) issuer: Text,
    pub(super) jwks_file: Text,
    pub(super) jwks_url: Text,
    pub(super) ca_file: Text,
    pub(super) algorithms: List,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRecord {
    pub(super) claims: List,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTrust {
    pub(super) bundles: List,
    pub(super) domains: List,
    pub(super) expiry_warning: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    pub(super) level: Text,
    pub(super) format: Text,
}

/// Rules by id, in the order they stand; a map would lose where each id stands.
#[derive(Debug, Default)]
pub(super) struct RawRules(pub(super) Vec<(Spanned<String>, Option<RawRule>)>);

impl<'de> Deserialize<'de> for RawRules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = RawRules;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping from rule ids to their settings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawRules, A::Error> {
                let mut rules = Vec::new();
                while let Some(rule) = map.next_entry()? {
                    rules.push(rule);
                }
                Ok(RawRules(rules))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}
