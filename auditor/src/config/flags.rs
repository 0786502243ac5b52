//! The same values as flags and environment variables. Which command takes which group is `cli`'s business.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum, ValueHint};
use ipnet::IpNet;

use super::value;
use crate::{certificates::Bundle, kernel::plan::Choice, policy::Template};

/// Flags of every command that judges.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Configuration")]
pub struct CommonFlags {
    /// Configuration file (YAML)
    #[arg(long, short, value_name = "FILE", env = "AUDITOR_CONFIG")]
    pub config: Option<PathBuf>,
    /// Policy file (YAML): what may call what, with which proof, and what is waived until when
    #[arg(long, value_name = "FILE", env = "AUDITOR_POLICY", value_hint = ValueHint::FilePath)]
    pub policy: Option<PathBuf>,
    /// Judge calls within this network; repeatable, replaces the default list
    ///
    /// Default: loopback, RFC 1918, CGNAT 100.64.0.0/10, link-local, unique local addresses and the node's own addresses.
    /// 0.0.0.0/0 and ::/0 judge everything.
    #[arg(
        long = "internal-network",
        value_name = "CIDR",
        env = "AUDITOR_INTERNAL_NETWORKS",
        value_delimiter = ',',
        value_parser = value::network
    )]
    pub internal_networks: Option<Vec<IpNet>>,
    /// Header that carries an API key, besides the built-in ones; repeatable
    #[arg(
        long = "api-key-header",
        value_name = "NAME",
        env = "AUDITOR_API_KEY_HEADERS",
        value_delimiter = ',',
        value_parser = value::header_name,
        hide_short_help = true
    )]
    pub api_key_headers: Option<Vec<String>>,
    /// Header that carries a signature over the message, besides the built-in ones; repeatable
    #[arg(
        long = "signature-header",
        value_name = "NAME",
        env = "AUDITOR_SIGNATURE_HEADERS",
        value_delimiter = ',',
        value_parser = value::header_name,
        hide_short_help = true
    )]
    pub signature_headers: Option<Vec<String>>,
    /// Cookie that carries a session, besides the built-in ones; repeatable
    #[arg(
        long = "session-cookie",
        value_name = "NAME",
        env = "AUDITOR_SESSION_COOKIES",
        value_delimiter = ',',
        value_parser = value::parameter_name,
        hide_short_help = true
    )]
    pub session_cookies: Option<Vec<String>>,
    /// Query parameter that carries a secret, besides the built-in ones; repeatable
    #[arg(
        long = "query-parameter",
        value_name = "NAME",
        env = "AUDITOR_QUERY_PARAMETERS",
        value_delimiter = ',',
        value_parser = value::parameter_name,
        hide_short_help = true
    )]
    pub query_parameters: Option<Vec<String>>,
    /// Network of proxies that are believed about client certificates in X-Forwarded-Client-Cert; repeatable
    ///
    /// Without one none is believed.
    #[arg(
        long = "trusted-proxy",
        value_name = "CIDR",
        env = "AUDITOR_TRUSTED_PROXIES",
        value_delimiter = ',',
        value_parser = value::network,
        hide_short_help = true
    )]
    pub trusted_proxies: Option<Vec<IpNet>>,
    /// File with the key of credential fingerprints; made when it does not exist
    ///
    /// Without it every run has a random key, and fingerprints of two runs cannot be compared.
    #[arg(long, value_name = "FILE", env = "AUDITOR_FINGERPRINT_KEY_FILE", hide_short_help = true)]
    pub fingerprint_key_file: Option<PathBuf>,
    /// Longest lifetime of a JWT that is not found fault with, such as 15m
    #[arg(
        long,
        value_name = "DURATION",
        env = "AUDITOR_JWT_MAX_LIFETIME",
        value_parser = value::lifetime,
        hide_short_help = true
    )]
    pub jwt_max_lifetime: Option<Duration>,
    /// PEM file with the certificates of issuers that certificates must lead to; repeatable
    ///
    /// Without one, nothing is said of where a certificate leads.
    #[arg(
        long = "trust-bundle",
        value_name = "FILE",
        env = "AUDITOR_TRUST_BUNDLES",
        value_delimiter = ',',
        value_parser = value::bundle,
        hide_short_help = true
    )]
    pub trust_bundles: Option<Vec<Bundle>>,
    /// SPIFFE trust domain that workloads may be of; repeatable
    #[arg(
        long = "trust-domain",
        value_name = "NAME",
        env = "AUDITOR_TRUST_DOMAINS",
        value_delimiter = ',',
        value_parser = value::trust_domain,
        hide_short_help = true
    )]
    pub trust_domains: Option<Vec<String>>,
    /// How long before its end a certificate is found to expire soon, such as 7d
    #[arg(
        long,
        value_name = "DURATION",
        env = "AUDITOR_EXPIRY_WARNING",
        value_parser = value::duration,
        hide_short_help = true
    )]
    pub expiry_warning: Option<Duration>,
    /// Connections tracked at once
    #[arg(
        long,
        value_name = "COUNT",
        env = "AUDITOR_MAX_CONNECTIONS",
        value_parser = value::count,
        hide_short_help = true
    )]
    pub max_connections: Option<usize>,
    /// Bytes kept for reassembly, all connections together
    #[arg(
        long,
        value_name = "SIZE",
        env = "AUDITOR_MAX_BUFFERED_BYTES",
        value_parser = value::buffered_bytes,
        hide_short_help = true
    )]
    pub max_buffered_bytes: Option<usize>,
    /// Series of each metric before labels fold into ~other
    #[arg(long, value_name = "COUNT", env = "AUDITOR_MAX_SERIES", value_parser = value::count, hide_short_help = true)]
    pub max_series: Option<usize>,
    /// Edges kept for a report
    #[arg(long, value_name = "COUNT", env = "AUDITOR_MAX_EDGES", value_parser = value::count, hide_short_help = true)]
    pub max_edges: Option<usize>,
    /// Credentials remembered from call to call
    #[arg(
        long,
        value_name = "COUNT",
        env = "AUDITOR_MAX_CREDENTIALS",
        value_parser = value::count,
        hide_short_help = true
    )]
    pub max_credentials: Option<usize>,
    /// How far apart uses of a credential may be that belong together, such as 1d
    #[arg(
        long,
        value_name = "DURATION",
        env = "AUDITOR_CROSS_CALL_WINDOW",
        value_parser = value::window,
        hide_short_help = true
    )]
    pub cross_call_window: Option<Duration>,
    /// How long callers without proof of identity are learned before a new one is found, such as 1d; 0s learns nothing
    #[arg(
        long,
        value_name = "DURATION",
        env = "AUDITOR_LEARNING_WINDOW",
        value_parser = value::duration,
        hide_short_help = true
    )]
    pub learning_window: Option<Duration>,
    /// Template of paths, such as /tenants/{tenant}/orders/{id}; repeatable, the first that fits is the route
    #[arg(
        long = "route-template",
        value_name = "TEMPLATE",
        env = "AUDITOR_ROUTE_TEMPLATES",
        value_delimiter = ',',
        value_parser = value::route_template,
        hide_short_help = true
    )]
    pub route_templates: Option<Vec<Template>>,
    /// Groups of findings kept as evidence
    #[arg(long, value_name = "COUNT", env = "AUDITOR_MAX_FINDINGS", value_parser = value::count, hide_short_help = true)]
    pub max_findings: Option<usize>,
    /// Least important log level that is written to stderr
    #[arg(long, value_name = "LEVEL", env = "AUDITOR_LOG_LEVEL")]
    pub log_level: Option<LogLevel>,
    /// How log lines look
    #[arg(long, value_name = "FORMAT", env = "AUDITOR_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// Flags of the commands that capture live.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Capture")]
pub struct LiveFlags {
    /// Also read what processes read and write inside TLS, in their libraries
    ///
    /// Heads of HTTP/1 messages inside OpenSSL, GnuTLS and Go's crypto/tls are read with uprobes. Off unless asked for; docs/plaintext.md
    /// says what is read and where it is kept.
    #[arg(
        long,
        value_name = "BOOL",
        env = "AUDITOR_TLS_PLAINTEXT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub tls_plaintext: Option<bool>,
    /// Also read what servers read and write on `AF_UNIX` sockets
    ///
    /// A tracepoint at the exit of system calls, on x86_64. It slows every system call of the node a little: off unless asked for;
    /// docs/unix-sockets.md says what is read and what it costs.
    #[arg(
        long,
        value_name = "BOOL",
        env = "AUDITOR_UNIX_SOCKETS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub unix_sockets: Option<bool>,
    /// Which hook captures: auto, cgroup, fentry, kprobe or syscall
    ///
    /// auto takes the first that works. `auditor doctor` says which that is, and what each does not see.
    #[arg(long, value_name = "HOOK", env = "AUDITOR_CAPTURE", value_parser = value::hook)]
    pub capture: Option<Choice>,
    /// Size of the kernel ring, such as 8MiB: a power of two, 256KiB to 1GiB
    #[arg(long, value_name = "SIZE", env = "AUDITOR_RING_BYTES", value_parser = value::ring_bytes)]
    pub ring_bytes: Option<u32>,
    /// How much of a request's head is copied at most, such as 16KiB
    #[arg(
        long,
        value_name = "SIZE",
        env = "AUDITOR_REQUEST_HEAD_BYTES",
        value_parser = value::head_bytes,
        hide_short_help = true
    )]
    pub request_head_bytes: Option<u32>,
    /// How much of a response's head is copied at most, such as 4KiB
    #[arg(
        long,
        value_name = "SIZE",
        env = "AUDITOR_RESPONSE_HEAD_BYTES",
        value_parser = value::head_bytes,
        hide_short_help = true
    )]
    pub response_head_bytes: Option<u32>,
    /// How long the reader sleeps when the ring is empty, such as 5ms
    #[arg(
        long,
        value_name = "DURATION",
        env = "AUDITOR_POLL_INTERVAL",
        value_parser = value::poll_interval,
        hide_short_help = true
    )]
    pub poll_interval: Option<Duration>,
}

/// Flags of the daemon.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeFlags {
    /// Address of /metrics, /healthz and /readyz
    #[arg(long, value_name = "ADDRESS:PORT", env = "AUDITOR_LISTEN", value_parser = value::listen)]
    pub listen: Option<SocketAddr>,
    /// Stay below this share of a core, such as 0.05, by judging less of the calls that repeat
    ///
    /// Without it every call is judged. Calls without proof of identity are never left out; docs/sampling.md says which are.
    #[arg(long, value_name = "SHARE", env = "AUDITOR_CPU_SHARE", value_parser = value::cpu_share)]
    pub cpu_share: Option<f64>,
    /// Append the records of calls with findings to this file, as JSON Lines; - for stdout
    #[arg(long, value_name = "FILE", env = "AUDITOR_FINDINGS", value_hint = ValueHint::FilePath)]
    pub findings: Option<PathBuf>,
    /// Keep evidence and the key of fingerprints in this directory, so that a restart goes on with them
    #[arg(long, value_name = "DIRECTORY", env = "AUDITOR_STATE_DIR", value_hint = ValueHint::DirPath)]
    pub state_dir: Option<PathBuf>,
}

/// How much the auditor says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What stops it.
    Error,
    /// What degrades it.
    Warn,
    /// Start, stop, and what was chosen.
    Info,
    /// Decisions.
    Debug,
    /// Everything.
    Trace,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
