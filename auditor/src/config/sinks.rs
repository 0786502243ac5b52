//! The section `sinks`: where findings go besides metrics, each with its own settings.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{
    ConfigError,
    effective::quoted,
    raw::Text,
    resolve::Reader,
    value::{self, show_duration, show_size},
};
use crate::{
    certificates::Bundle,
    sinks::{
        deliver::{Endpoint, Facility, Pace, SyslogAddress},
        rotate::Rotation,
    },
};

const DEFAULT_ROTATION: Rotation = Rotation { max_bytes: 64 << 20, keep: 5 };
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where findings go.
#[derive(Clone, Debug, PartialEq)]
pub struct SinksConfig {
    /// A group of findings is told again after this time at the earliest.
    pub repeat: Duration,
    /// Records of calls with findings, as JSON Lines.
    pub file: Option<FileConfig>,
    /// Webhook.
    pub webhook: Option<WebhookConfig>,
    /// Alertmanager.
    pub alertmanager: Option<AlertmanagerConfig>,
    /// Syslog.
    pub syslog: Option<SyslogConfig>,
    /// systemd's journal.
    pub journald: bool,
}

/// Records in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileConfig {
    /// The file; `-` for standard output.
    pub path: PathBuf,
    /// Its bounds.
    pub rotation: Rotation,
}

/// A webhook.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookConfig {
    /// Where events are sent.
    pub url: Endpoint,
    /// How many at once, and how long they wait.
    pub pace: Pace,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// File with the key of the signature.
    pub secret_file: Option<PathBuf>,
    /// File with further headers, `Name: value` on each line.
    pub headers_file: Option<PathBuf>,
    /// Issuers of the receiver's certificate; `None`: those of the operating system.
    pub ca_file: Option<Bundle>,
}

/// An Alertmanager.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertmanagerConfig {
    /// Its base URL.
    pub url: Endpoint,
    /// How often active alerts are sent again.
    pub interval: Duration,
    /// An alert ends this long after its group was last seen.
    pub resolve_after: Duration,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Issuers of its certificate; `None`: those of the operating system.
    pub ca_file: Option<Bundle>,
    /// Labels of every alert.
    pub labels: BTreeMap<String, String>,
}

/// Syslog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogConfig {
    /// Where messages go.
    pub address: SyslogAddress,
    /// Their facility.
    pub facility: Facility,
}

impl Default for SinksConfig {
    fn default() -> Self {
        Self {
            repeat: Duration::from_secs(3600),
            file: None,
            webhook: None,
            alertmanager: None,
            syslog: None,
            journald: false,
        }
    }
}

impl FileConfig {
    /// This file within the default bounds.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, rotation: DEFAULT_ROTATION }
    }

    /// Whether it is standard output.
    #[must_use]
    pub fn is_stdout(&self) -> bool {
        self.path.as_os_str() == "-"
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSinks {
    repeat: Text,
    file: Option<RawFile>,
    webhook: Option<RawWebhook>,
    alertmanager: Option<RawAlertmanager>,
    syslog: Option<RawSyslog>,
    journald: Option<Spanned<bool>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    path: Spanned<String>,
    max_bytes: Text,
    keep: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWebhook {
    url: Spanned<String>,
    batch: Text,
    interval: Text,
    timeout: Text,
    secret_file: Text,
    headers_file: Text,
    ca_file: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAlertmanager {
    url: Spanned<String>,
    interval: Text,
    resolve_after: Text,
    timeout: Text,
    ca_file: Text,
    labels: Option<BTreeMap<String, Spanned<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSyslog {
    address: Spanned<String>,
    facility: Text,
}

pub(super) fn resolve(reader: &Reader<'_>, raw: RawSinks) -> Result<SinksConfig, ConfigError> {
    let mut sinks = SinksConfig { journald: raw.journald.is_some_and(|on| on.value), ..SinksConfig::default() };
    reader.set(&mut sinks.repeat, "sinks.repeat", &raw.repeat, |text| span(text, 1, 30 * 24 * 3600))?;
    sinks.file = raw.file.map(|raw| file(reader, raw)).transpose()?;
    sinks.webhook = raw.webhook.map(|raw| webhook(reader, &raw)).transpose()?;
    sinks.alertmanager = raw.alertmanager.map(|raw| alertmanager(reader, raw)).transpose()?;
    sinks.syslog = raw.syslog.map(|raw| syslog(reader, &raw)).transpose()?;
    Ok(sinks)
}

fn file(reader: &Reader<'_>, raw: RawFile) -> Result<FileConfig, ConfigError> {
    let mut file = FileConfig::new(raw.path.value.into());
    let to = &mut file.rotation;
    reader.set(&mut to.max_bytes, "sinks.file.max_bytes", &raw.max_bytes, |text| {
        let bytes = value::size(text)?;
        if (64 << 10..=1 << 40).contains(&bytes) {
            Ok(bytes)
        } else {
            Err(format!("{bytes} bytes is out of range; take 64KiB to 1024GiB"))
        }
    })?;
    reader.set(&mut to.keep, "sinks.file.keep", &raw.keep, |text| {
        let bad = || format!("`{}` is not a number of files; take 0 to 1000", value::shown(text));
        text.trim().parse().ok().filter(|keep| *keep <= 1000).ok_or_else(bad)
    })?;
    Ok(file)
}

fn webhook(reader: &Reader<'_>, raw: &RawWebhook) -> Result<WebhookConfig, ConfigError> {
    let url = reader.required("sinks.webhook.url", &raw.url, Endpoint::parse)?;
    let pace = Pace { batch: 100, interval: Duration::from_secs(5) };
    let path = |text: &Text| text.as_ref().map(|text| text.value.clone().into());
    let (secret_file, headers_file) = (path(&raw.secret_file), path(&raw.headers_file));
    let mut to = WebhookConfig { url, pace, timeout: DEFAULT_TIMEOUT, secret_file, headers_file, ca_file: None };
    reader.set(&mut to.pace.batch, "sinks.webhook.batch", &raw.batch, |text| {
        let count = value::count(text)?;
        if count <= 1000 {
            Ok(count)
        } else {
            Err(format!("{count} events are too many for one request; take 1 to 1000"))
        }
    })?;
    reader.set(&mut to.pace.interval, "sinks.webhook.interval", &raw.interval, |text| span(text, 0, 3600))?;
    reader.set(&mut to.timeout, "sinks.webhook.timeout", &raw.timeout, |text| span(text, 1, 300))?;
    reader.set(&mut to.ca_file, "sinks.webhook.ca_file", &raw.ca_file, |text| value::bundle(text).map(Some))?;
    Ok(to)
}

fn alertmanager(reader: &Reader<'_>, raw: RawAlertmanager) -> Result<AlertmanagerConfig, ConfigError> {
    let url = reader.required("sinks.alertmanager.url", &raw.url, Endpoint::parse)?;
    let mut to = AlertmanagerConfig {
        url,
        interval: Duration::from_secs(60),
        resolve_after: Duration::from_secs(15 * 60),
        timeout: DEFAULT_TIMEOUT,
        ca_file: None,
        labels: BTreeMap::new(),
    };
    reader.set(&mut to.interval, "sinks.alertmanager.interval", &raw.interval, |text| span(text, 5, 3600))?;
    let key = "sinks.alertmanager.resolve_after";
    reader.set(&mut to.resolve_after, key, &raw.resolve_after, |text| span(text, 60, 30 * 24 * 3600))?;
    reader.set(&mut to.timeout, "sinks.alertmanager.timeout", &raw.timeout, |text| span(text, 1, 300))?;
    reader.set(&mut to.ca_file, "sinks.alertmanager.ca_file", &raw.ca_file, |text| value::bundle(text).map(Some))?;
    for (name, text) in raw.labels.unwrap_or_default() {
        let value = reader.required("sinks.alertmanager.labels", &text, |text| label(&name, text))?;
        to.labels.insert(name, value);
    }
    Ok(to)
}

fn syslog(reader: &Reader<'_>, raw: &RawSyslog) -> Result<SyslogConfig, ConfigError> {
    let address = reader.required("sinks.syslog.address", &raw.address, SyslogAddress::parse)?;
    let mut to = SyslogConfig { address, facility: Facility::DAEMON };
    reader.set(&mut to.facility, "sinks.syslog.facility", &raw.facility, Facility::parse)?;
    Ok(to)
}

/// A duration within bounds, in seconds.
fn span(text: &str, least: u64, most: u64) -> Result<Duration, String> {
    let span = value::duration(text)?;
    let [least, most] = [least, most].map(Duration::from_secs);
    if (least..=most).contains(&span) {
        return Ok(span);
    }
    Err(format!("`{}` is out of range; take {} to {}", value::shown(text), show_duration(least), show_duration(most)))
}

/// The value of a label whose name Alertmanager takes.
fn label(name: &str, text: &str) -> Result<String, String> {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let other = |byte: u8| first(byte) || byte.is_ascii_digit();
    if name.len() > 128 || !name.bytes().next().is_some_and(first) || !name.bytes().all(other) {
        return Err(format!("`{}` is not a label; write letters, digits and `_`", value::shown(name)));
    }
    if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        return Err(format!(
            "the value of `{name}` is empty, longer than 256 bytes or not printable; write a short text"
        ));
    }
    Ok(text.to_owned())
}

impl fmt::Display for SinksConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "sinks:\n  repeat: {}\n  journald: {}", show_duration(self.repeat), self.journald)?;
        if let Some(FileConfig { path, rotation }) = &self.file {
            writeln!(f, "  file:\n    path: {}", quoted(&path.to_string_lossy()))?;
            writeln!(f, "    max_bytes: {}\n    keep: {}", show_size(rotation.max_bytes), rotation.keep)?;
        }
        if let Some(webhook) = &self.webhook {
            writeln!(f, "  webhook:\n    url: {}", quoted(webhook.url.as_str()))?;
            writeln!(f, "    batch: {}\n    interval: {}", webhook.pace.batch, show_duration(webhook.pace.interval))?;
            writeln!(f, "    timeout: {}", show_duration(webhook.timeout))?;
            let ca_file = webhook.ca_file.as_ref().map(|bundle| &bundle.file);
            let files = [
                ("secret_file", webhook.secret_file.as_ref()),
                ("headers_file", webhook.headers_file.as_ref()),
                ("ca_file", ca_file),
            ];
            for (key, file) in files {
                write_file(f, key, file)?;
            }
        }
        if let Some(alertmanager) = &self.alertmanager {
            alertmanager.write(f)?;
        }
        if let Some(SyslogConfig { address, facility }) = &self.syslog {
            writeln!(f, "  syslog:\n    address: {}\n    facility: {facility}", quoted(&address.to_string()))?;
        }
        Ok(())
    }
}

impl AlertmanagerConfig {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  alertmanager:\n    url: {}", quoted(self.url.as_str()))?;
        writeln!(f, "    interval: {}", show_duration(self.interval))?;
        writeln!(f, "    resolve_after: {}", show_duration(self.resolve_after))?;
        writeln!(f, "    timeout: {}", show_duration(self.timeout))?;
        write_file(f, "ca_file", self.ca_file.as_ref().map(|bundle| &bundle.file))?;
        if !self.labels.is_empty() {
            writeln!(f, "    labels:")?;
        }
        self.labels.iter().try_for_each(|(name, value)| writeln!(f, "      {name}: {}", quoted(value)))
    }
}

fn write_file(f: &mut fmt::Formatter<'_>, key: &str, file: Option<&PathBuf>) -> fmt::Result {
    file.map_or(Ok(()), |file| writeln!(f, "    {key}: {}", quoted(&file.to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{
        super::{CommonFlags, Config, LiveFlags, ServeFlags, resolve},
        *,
    };
    use crate::certificates::sample::Authority;

    fn load(text: &str, serve: &ServeFlags) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("auditor.yaml");
        fs::write(&file, text).unwrap();
        let common = CommonFlags { config: Some(file), ..CommonFlags::default() };
        resolve(&common, &LiveFlags::default(), serve, &[]).map_err(|error| {
            let error = error.to_string();
            error.split_once("auditor.yaml").map_or(error.clone(), |(_, tail)| tail.to_owned())
        })
    }

    #[test]
    fn reads_every_key_and_prints_it_so_that_it_can_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let bundle = directory.path().join("ca.pem");
        fs::write(&bundle, Authority::new("CA").pem()).unwrap();
        let text = r#"
state_dir: /var/lib/auditor
sinks:
  repeat: 30m
  journald: true
  file: { path: /var/log/findings.jsonl, max_bytes: 1MiB, keep: 0 }
  webhook:
    url: https://hooks.example/auditor/
    batch: 7
    interval: 0s
    timeout: 3s
    secret_file: secret
    headers_file: headers
    ca_file: BUNDLE
  alertmanager:
    url: http://alertmanager:9093/am
    interval: 30s
    resolve_after: 5m
    timeout: 2s
    ca_file: BUNDLE
    labels: { cluster: "eu \"1\"", team: core }
  syslog: { address: "tcp:logs:601", facility: local3 }
"#;
        let text = text.replace("BUNDLE", &format!("{bundle:?}"));
        let config = load(&text, &ServeFlags::default()).unwrap();
        assert_eq!(config.state_dir, Some("/var/lib/auditor".into()));
        let SinksConfig { repeat, file, webhook, alertmanager, syslog, journald } = &config.sinks;
        assert_eq!((*repeat, *journald), (Duration::from_secs(1800), true));
        let rotation = Rotation { max_bytes: 1 << 20, keep: 0 };
        assert_eq!(file.as_ref().unwrap(), &FileConfig { path: "/var/log/findings.jsonl".into(), rotation });
        let webhook = webhook.as_ref().unwrap();
        assert_eq!(webhook.url.as_str(), "https://hooks.example/auditor");
        assert_eq!(
            (webhook.pace.batch, webhook.pace.interval, webhook.timeout),
            (7, Duration::ZERO, Duration::from_secs(3))
        );
        assert_eq!(webhook.secret_file, Some("secret".into()));
        assert_eq!(webhook.headers_file, Some("headers".into()));
        assert_eq!(webhook.ca_file.as_ref().map(Bundle::len), Some(1));
        let alertmanager = alertmanager.as_ref().unwrap();
        assert_eq!(alertmanager.url.join("/api").as_str(), "http://alertmanager:9093/am/api");
        let spans = (alertmanager.interval, alertmanager.resolve_after, alertmanager.timeout);
        assert_eq!(spans, (Duration::from_secs(30), Duration::from_secs(300), Duration::from_secs(2)));
        assert_eq!(alertmanager.labels["cluster"], "eu \"1\"");
        let syslog = syslog.as_ref().unwrap();
        assert_eq!((syslog.address.to_string(), syslog.facility.to_string()), ("tcp:logs:601".into(), "local3".into()));
        assert_eq!(load(&config.to_string(), &ServeFlags::default()).unwrap(), config);
    }

    #[test]
    fn flags_are_short_for_the_keys() {
        let findings = |path: &str| ServeFlags {
            findings: Some(path.into()),
            state_dir: Some("/flag".into()),
            ..ServeFlags::default()
        };
        let config = load("", &findings("-")).unwrap();
        assert!(config.sinks.file.as_ref().is_some_and(FileConfig::is_stdout));
        assert_eq!(config.state_dir, Some("/flag".into()));
        let config = load("state_dir: /file\nsinks: {file: {path: a, keep: 9}}\n", &findings("b")).unwrap();
        let file = config.sinks.file.unwrap();
        assert_eq!((file.path, file.rotation.keep), ("b".into(), 9), "the flag names the file, its bounds stay");
        assert_eq!(config.state_dir, Some("/flag".into()));
    }

    #[test]
    fn says_where_and_what_is_wrong() {
        for (text, expected) in [
            ("{repeat: 0s}", ":1:17: sinks.repeat: `0s` is out of range; take 1s to 30d"),
            ("{webhook: {batch: 5}}", ":1:"),
            (
                "{webhook: {url: 'http://me:s3cr3t@host/'}}",
                ":1:24: sinks.webhook.url: holds a user name or password; put",
            ),
            ("{webhook: {url: 'http://host/?key=s3cr3t'}}", ":1:24: sinks.webhook.url: has a query"),
            ("{webhook: {url: 'http://host/', batch: 2000}}", ":1:47: sinks.webhook.batch: 2000 events are too many"),
            ("{webhook: {url: 'http://host/', ca_file: /nowhere}}", ":1:49: sinks.webhook.ca_file: `/nowhere` cannot"),
            ("{webhook: {uri: x}}", ":1:19: unknown key `uri`; did you mean `url`?"),
            ("{alertmanager: {url: 'http://a', interval: 1s}}", ":1:51: sinks.alertmanager.interval: `1s` is out of"),
            ("{alertmanager: {url: 'http://a', labels: {a-b: c}}}", ":1:55: sinks.alertmanager.labels: `a-b` is not a"),
            (
                "{alertmanager: {url: 'http://a', labels: {a: ''}}}",
                ":1:53: sinks.alertmanager.labels: the value of `a`",
            ),
            (
                "{file: {path: f, max_bytes: 1KiB}}",
                ":1:36: sinks.file.max_bytes: 1024 bytes is out of range; take 64KiB",
            ),
            (
                "{file: {path: f, keep: 2000}}",
                ":1:31: sinks.file.keep: `2000` is not a number of files; take 0 to 1000",
            ),
            ("{syslog: {address: /dev/log}}", ":1:27: sinks.syslog.address: `/dev/log` is not an address of syslog; "),
            ("{syslog: {address: 'unix:/dev/log', facility: x}}", ":1:54: sinks.syslog.facility: `x` is none of user"),
        ] {
            let problem = load(&format!("sinks: {text}\n"), &ServeFlags::default()).expect_err(text);
            assert!(problem.starts_with(expected), "{text}\nexpected {expected}\nactual   {problem}");
            assert!(!problem.contains("s3cr3t"), "{problem}");
        }
    }
}
