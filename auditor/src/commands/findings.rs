//! Where findings go and what outlives a run, as the configuration wants it.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::SignedDuration;
use zeroize::Zeroizing;

use super::Failure;
use crate::{
    config::{AlertmanagerConfig, Config, FileConfig, WebhookConfig, reason_of, value},
    evidence::{Ledger, Restored, SECTION, SECTION_VERSION},
    pipeline::{Evidence, Outputs, WhenFull},
    sinks::{
        deliver::{
            Alertmanager, Batches, Client, Counts, Deliver, JOURNAL_SOCKET, Journald, Pace, Post, Syslog, Webhook,
        },
        jsonl::JsonLines,
        rotate::RotatingFile,
        steady::Steady,
    },
    state::{Sections, StateDir},
};

/// A file with a secret or with headers is small.
const SECRET_BYTES: u64 = 64 * 1024;
/// One event at a time, at once.
const SINGLY: Pace = Pace { batch: 1, interval: std::time::Duration::ZERO };

/// A file with a secret that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {}: {problem}", file.display())]
pub struct SecretError {
    key: &'static str,
    file: PathBuf,
    problem: String,
}

/// Adds what the configuration says of findings to `outputs`. Evidence that was `saved` is restored, and goes on being saved in
/// `state`.
pub(super) fn add(
    config: &Config,
    outputs: Outputs,
    state: Option<&StateDir>,
    saved: &mut Sections,
) -> Result<Outputs, Failure> {
    let outputs = match &config.sinks.file {
        Some(file) => records(outputs, file)?.only_findings(),
        None => outputs,
    };
    let mut evidence = sinks(config, Evidence::new(ledger(config, saved)))?;
    if let Some(state) = state {
        evidence = evidence.with_saver(state.saver()).map_err(no_thread)?;
    }
    Ok(outputs.with_evidence(evidence))
}

fn no_thread(source: io::Error) -> Failure {
    Failure::System { action: "start a thread", source }
}

fn ledger(config: &Config, saved: &mut Sections) -> Ledger {
    let repeat = SignedDuration::try_from(config.sinks.repeat).unwrap_or(SignedDuration::MAX);
    let mut ledger = Ledger::new(config.limits.findings, repeat);
    if let Some(restored) = saved.take::<Restored>(SECTION, SECTION_VERSION) {
        let (groups, left_out) = restored.into_ledger(&mut ledger);
        tracing::info!(groups, left_out, "evidence is restored");
    }
    ledger
}

fn records(outputs: Outputs, file: &FileConfig) -> Result<Outputs, Failure> {
    if file.is_stdout() {
        return outputs.with_writer(JsonLines::new(io::stdout()), WhenFull::Drop).map_err(no_thread);
    }
    let opened = RotatingFile::open(&file.path, file.rotation).map_err(|source| Failure::Write {
        object: file.path.display().to_string(),
        source,
        remedy: "name a file in a directory that the auditor can write",
    })?;
    let counts = Arc::new(Counts::default());
    let sink = Steady::new(opened, Arc::clone(&counts));
    Ok(outputs.with_writer(sink, WhenFull::Drop).map_err(no_thread)?.with_writer_counts(counts))
}

fn sinks(config: &Config, mut evidence: Evidence) -> Result<Evidence, Failure> {
    let sinks = &config.sinks;
    if let Some(webhook) = &sinks.webhook {
        evidence = added(evidence, "webhook", self::webhook(webhook)?, webhook.pace)?;
    }
    if let Some(alertmanager) = &sinks.alertmanager {
        let counts = Arc::new(Counts::default());
        let sink = self::alertmanager(alertmanager, config.limits.findings, &counts)?;
        let within = SignedDuration::try_from(alertmanager.resolve_after).unwrap_or(SignedDuration::MAX);
        evidence = with_sink(evidence, "alertmanager", sink, counts)?.with_lists(alertmanager.interval, within);
    }
    if let Some(syslog) = &sinks.syslog {
        let sink = Syslog::new(syslog.address.clone(), syslog.facility, host());
        evidence = added(evidence, "syslog", sink, SINGLY)?;
    }
    if sinks.journald {
        evidence = added(evidence, "journald", Journald::new(Path::new(JOURNAL_SOCKET)), SINGLY)?;
    }
    Ok(evidence)
}

fn added(evidence: Evidence, name: &'static str, post: impl Post + 'static, pace: Pace) -> Result<Evidence, Failure> {
    let counts = Arc::new(Counts::default());
    let sink = Batches::new(name, post, pace, Arc::clone(&counts));
    with_sink(evidence, name, sink, counts)
}

fn with_sink(
    evidence: Evidence,
    name: &'static str,
    sink: impl Deliver + 'static,
    counts: Arc<Counts>,
) -> Result<Evidence, Failure> {
    evidence.with_sink(name, sink, counts).map_err(no_thread)
}

fn webhook(config: &WebhookConfig) -> Result<Webhook, Failure> {
    let secret = config.secret_file.as_deref().map(|file| secret("sinks.webhook.secret_file", file)).transpose()?;
    let headers = match &config.headers_file {
        Some(file) => headers("sinks.webhook.headers_file", file)?,
        None => Vec::new(),
    };
    let client = Client::new(config.url.clone(), config.timeout, config.ca_file.as_ref())?;
    Ok(Webhook::new(client, headers, secret.as_ref().map(|secret| secret.trim().as_bytes()), host()))
}

fn alertmanager(config: &AlertmanagerConfig, limit: usize, counts: &Arc<Counts>) -> Result<Alertmanager, Failure> {
    let client = Client::new(config.url.join("/api/v2/alerts"), config.timeout, config.ca_file.as_ref())?;
    let resolve_after = SignedDuration::try_from(config.resolve_after).unwrap_or(SignedDuration::MAX);
    Ok(Alertmanager::new(client, resolve_after, limit, config.labels.clone(), Arc::clone(counts)))
}

/// What is in a file that holds a secret: text, without the white space around it never empty.
fn secret(key: &'static str, file: &Path) -> Result<Zeroizing<String>, SecretError> {
    let fail = |problem: &str| SecretError { key, file: file.to_owned(), problem: problem.to_owned() };
    let mut text = Zeroizing::new(String::new());
    let read = File::open(file).and_then(|opened| opened.take(SECRET_BYTES + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(fail(&format!(
            "cannot be read ({}); name a text file that the auditor's user can read",
            reason_of(&error)
        ))),
        Ok(length) if length as u64 > SECRET_BYTES => Err(fail("is larger than 64KiB; name the right file")),
        Ok(_) if text.trim().is_empty() => Err(fail("is empty; write the secret into it")),
        Ok(_) => Ok(text),
    }
}

/// Headers from a file: `Name: value` on each line.
fn headers(key: &'static str, file: &Path) -> Result<Vec<(String, Zeroizing<String>)>, SecretError> {
    let text = secret(key, file)?;
    let header = |(number, line): (usize, &str)| {
        let fail = |problem: &str| {
            let problem = format!("line {}: {problem}; write `Name: value`", number + 1);
            SecretError { key, file: file.to_owned(), problem }
        };
        let (name, value) = line.split_once(':').ok_or_else(|| fail("there is no colon"))?;
        let name = value::header_name(name.trim()).map_err(|_| fail("there is no header's name before the colon"))?;
        let value = value.trim();
        if value.is_empty() || !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return Err(fail("the value is empty or not printable ASCII"));
        }
        Ok((name, Zeroizing::new(value.to_owned())))
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(header).collect()
}

/// The host's name, as kernel and logs have it.
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn headers_are_read_and_what_is_wrong_is_said_without_values() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("headers");
        let read = |text: &str| {
            fs::write(&file, text).unwrap();
            headers("key", &file).map_err(|error| error.to_string())
        };
        let found = read("Authorization: Bearer s3cr3t\n\nX-Team:  a b \n").unwrap();
        let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, [("authorization", "Bearer s3cr3t"), ("x-team", "a b")]);
        for text in ["Authorization s3cr3t", "a b: s3cr3t", "x:\n", "x: s3cr3t\u{1}\n", " \n"] {
            let problem = read(text).expect_err(text);
            assert!(
                problem.starts_with("key: ") && problem.contains("; write ") && !problem.contains("s3cr3t"),
                "{problem}"
            );
        }
        let missing = secret("key", &directory.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("none: cannot be read (no such file or directory); name a text file"), "{missing}");
    }
}
