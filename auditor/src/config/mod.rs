//! Configuration: a YAML file, flags and environment become one checked [`Config`]. A flag wins over the environment, the
//! environment over the file, the file over the default. Everything past this module works on values that are in range.

mod effective;
mod error;
mod file;
mod flags;
mod issuers;
mod raw;
mod resolve;
mod sinks;
pub mod value;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

pub use error::{ConfigError, Place, nearest};
pub(crate) use file::{Kind, document, reason_of, text};
pub use flags::{CommonFlags, LiveFlags, LogFormat, LogLevel, ServeFlags};
use ipnet::IpNet;
pub use resolve::resolve;
pub(crate) use resolve::severity;
pub use sinks::{AlertmanagerConfig, FileConfig, SinksConfig, SyslogConfig, WebhookConfig};

use crate::{
    credentials::verify::IssuerSettings,
    judgement::Severity,
    kernel::plan::Choice,
    policy::{Template, TrustSettings},
};

/// Everything that can be set, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Networks whose calls are judged; `None`: the built-in list and the node's own addresses.
    pub internal_networks: Option<Vec<IpNet>>,
    /// Where metrics and health are served.
    pub listen: SocketAddr,
    /// Whether what processes read and write inside TLS is read.
    pub tls_plaintext: bool,
    /// Whether what servers read and write on `AF_UNIX` sockets is read.
    pub unix_sockets: bool,
    /// `AF_UNIX` sockets, beyond those that are known, that no container should reach: file names or whole paths.
    pub sensitive_sockets: Vec<String>,
    /// The kernel side.
    pub capture: CaptureConfig,
    /// Bounds on memory.
    pub limits: Limits,
    /// What counts as a credential.
    pub credentials: CredentialConfig,
    /// The policy file, if there is one.
    pub policy: Option<PathBuf>,
    /// Changed rules, by id.
    pub rules: BTreeMap<&'static str, RuleConfig>,
    /// What is remembered from call to call.
    pub cross_call: CrossCallConfig,
    /// Path templates that routes are taken from first.
    pub route_templates: Vec<Template>,
    /// Share of a core that `run` stays below by judging less of the calls that repeat; `None`: every call is judged.
    pub cpu_share: Option<f64>,
    /// Limits on tokens.
    pub jwt: JwtConfig,
    /// Claims of tokens that recordings keep in clear, by name.
    pub record_claims: Vec<String>,
    /// What certificates are measured against.
    pub trust: TrustSettings,
    /// Where findings go besides metrics.
    pub sinks: SinksConfig,
    /// What outlives a run is kept here; `None`: nothing does.
    pub state_dir: Option<PathBuf>,
    /// The auditor's own log.
    pub log: LogConfig,
}

/// The kernel side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureConfig {
    /// Which hook captures.
    pub hook: Choice,
    /// Size of the ring, bytes: a power of two, 256 KiB to 1 GiB.
    pub ring_bytes: u32,
    /// How much of a request's head is copied at most, bytes.
    pub request_head_bytes: u32,
    /// How much of a response's head is copied at most, bytes.
    pub response_head_bytes: u32,
    /// How long the reader sleeps when the ring is empty.
    pub poll_interval: Duration,
}

/// Bounds on memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections tracked at once.
    pub connections: usize,
    /// Bytes kept for reassembly, all connections together.
    pub buffered_bytes: usize,
    /// Series of each metric before labels fold into `~other`.
    pub series: usize,
    /// Edges in a report.
    pub edges: usize,
    /// Credentials remembered from call to call.
    pub credentials: usize,
    /// Groups of findings that are kept as evidence.
    pub findings: usize,
}

/// What counts as a credential, besides the built-in names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialConfig {
    /// More headers that carry an API key, lower case.
    pub api_key_headers: Vec<String>,
    /// More headers that carry a signature over the message, lower case.
    pub signature_headers: Vec<String>,
    /// More cookies that carry a session.
    pub session_cookies: Vec<String>,
    /// More query parameters that carry a secret.
    pub query_parameters: Vec<String>,
    /// File with the key of the fingerprints; `None`: a random key for each run.
    pub fingerprint_key_file: Option<PathBuf>,
    /// Networks of proxies that are believed about client certificates.
    pub trusted_proxies: Vec<IpNet>,
}

/// How one rule differs from its default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleConfig {
    /// Severity instead of the rule's own.
    pub severity: Option<Severity>,
    /// Whether it is looked at; `None`: yes.
    pub enabled: Option<bool>,
}

/// What is remembered from call to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossCallConfig {
    /// Uses of a credential that are further apart do not belong together.
    pub window: Duration,
    /// How long edges without authentication are learned before a new one is a finding.
    pub learning_window: Duration,
}

/// Limits on tokens, and whose signatures are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtConfig {
    /// Longest lifetime that is not found fault with.
    pub max_lifetime: Duration,
    /// Issuers whose keys are known.
    pub issuers: Vec<IssuerSettings>,
}

/// The auditor's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The least important level that is written.
    pub level: LogLevel,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            internal_networks: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9477)),
            tls_plaintext: false,
            unix_sockets: false,
            sensitive_sockets: Vec::new(),
            capture: CaptureConfig {
                hook: Choice::Auto,
                ring_bytes: 8 << 20,
                request_head_bytes: 16 << 10,
                response_head_bytes: 4 << 10,
                poll_interval: Duration::from_millis(5),
            },
            limits: Limits {
                connections: 65_536,
                buffered_bytes: 64 << 20,
                series: 5_000,
                edges: 2_000,
                credentials: 65_536,
                findings: 10_000,
            },
            credentials: CredentialConfig::default(),
            policy: None,
            rules: BTreeMap::new(),
            cross_call: CrossCallConfig {
                window: Duration::from_secs(24 * 3600),
                learning_window: Duration::from_secs(24 * 3600),
            },
            route_templates: Vec::new(),
            cpu_share: None,
            jwt: JwtConfig { max_lifetime: Duration::from_secs(3600), issuers: Vec::new() },
            record_claims: Vec::new(),
            trust: TrustSettings::default(),
            sinks: SinksConfig::default(),
            state_dir: None,
            log: LogConfig { level: LogLevel::Info, format: LogFormat::Text },
        }
    }
}

#[cfg(test)]
mod tests;
