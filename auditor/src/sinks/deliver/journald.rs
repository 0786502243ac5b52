//! systemd's journal, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram of fields for each event.

use std::{
    fmt::Write as _,
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Post, Refusal, payload::Words, syslog::level};
use crate::{config::reason_of, evidence::Event};

/// Where the journal listens.
pub const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";
/// Longest value of one field, bytes; all together stay far below what a datagram holds.
const VALUE_BYTES: usize = 2048;
/// How long writing may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Finds all findings in the journal: `journalctl MESSAGE_ID=...`.
const MESSAGE_ID: &str = "5f2c1a6be1f84d0c9a47b6f3d1e0a92b";

/// Writes one entry for each event.
#[derive(Debug)]
pub struct Journald {
    socket: PathBuf,
    connection: Option<UnixDatagram>,
}

impl Journald {
    /// Writes to the journal that listens at `socket`. Connects with the first entry.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), connection: None }
    }

    fn send(&mut self, event: &Event) -> io::Result<()> {
        let entry = entry(event);
        if self.connection.is_none() {
            let socket = UnixDatagram::unbound()?;
            socket.connect(&self.socket)?;
            socket.set_write_timeout(Some(TIMEOUT))?;
            self.connection = Some(socket);
        }
        self.connection.as_ref().map_or(Ok(()), |socket| socket.send(entry.as_bytes()).map(drop))
    }
}

impl Post for Journald {
    /// Batches are of one, so that nothing is written twice.
    fn post(&mut self, events: &[Event], _batch: u64) -> Result<(), Refusal> {
        for event in events {
            if let Err(error) = self.send(event) {
                self.connection = None;
                let (socket, reason) = (self.socket.display(), reason_of(&error));
                return Err(Refusal::later(format!("the journal at {socket} ({reason})")));
            }
        }
        Ok(())
    }
}

/// The fields of an entry. Values hold no line breaks, so the simple form of a field serves for all.
fn entry(event: &Event) -> String {
    let words = Words::of(&event.group);
    let seen = &event.group.seen;
    let occasion = serde_json::to_value(event.occasion).ok();
    let fields = [
        ("MESSAGE", words.summary()),
        ("PRIORITY", level(words.severity).to_string()),
        ("SYSLOG_IDENTIFIER", "auditor".to_owned()),
        ("MESSAGE_ID", MESSAGE_ID.to_owned()),
        ("AUDITOR_RULE", words.rule.to_owned()),
        ("AUDITOR_SEVERITY", words.severity.to_string()),
        ("AUDITOR_EVENT", occasion.as_ref().and_then(|word| word.as_str()).unwrap_or_default().to_owned()),
        ("AUDITOR_SOURCE", words.source.name()),
        ("AUDITOR_DESTINATION", words.destination.name()),
        ("AUDITOR_METHOD", words.method.clone()),
        ("AUDITOR_ROUTE", words.route.clone()),
        ("AUDITOR_PROTOCOL", words.protocol.clone()),
        ("AUDITOR_FIRST_SEEN", format!("{:.6}", seen.first)),
        ("AUDITOR_LAST_SEEN", format!("{:.6}", seen.last)),
        ("AUDITOR_COUNT", seen.count.to_string()),
        ("AUDITOR_CALLS", event.calls.to_string()),
        ("AUDITOR_EXAMPLE", words.example.clone()),
        ("AUDITOR_REMEDY", words.text.map_or("", |rule| rule.remedy).to_owned()),
    ];
    let mut out = String::new();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        let value = &value[..value.floor_char_boundary(VALUE_BYTES)];
        debug_assert!(!value.contains('\n'), "{name}={value:?}");
        let _ = writeln!(out, "{name}={value}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{event, hostile},
        *,
    };
    use crate::sinks::golden::assert_golden;

    #[test]
    fn entries_are_those_of_the_documentation_and_arrive_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut journald = Journald::new(&path);
        journald.post(&[event(), hostile()], 0).unwrap();
        let mut buffer = vec![0; 1 << 17];
        let length = journal.recv(&mut buffer).unwrap();
        assert_golden("finding.journal", std::str::from_utf8(&buffer[..length]).unwrap());
        let length = journal.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        for line in text.lines() {
            let (name, value) = line.split_once('=').expect("a field on every line");
            assert!(name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{line:?}");
            assert!(value.len() <= VALUE_BYTES && value.chars().all(|c| !c.is_control()), "{line:?}");
        }
        assert!(!text.lines().any(|line| line.starts_with("INJECTED")), "{text}");
    }

    #[test]
    fn a_journal_that_is_gone_is_told_and_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let mut journald = Journald::new(&path);
        let refusal = journald.post(&[event()], 0).unwrap_err();
        assert!(refusal.retry && refusal.reason.ends_with("(no such file or directory)"), "{refusal:?}");
        let journal = UnixDatagram::bind(&path).unwrap();
        journald.post(&[event()], 0).unwrap();
        drop(journal);
        std::fs::remove_file(&path).unwrap();
        assert!(journald.post(&[event()], 1).is_err());
        let _journal = UnixDatagram::bind(&path).unwrap();
        journald.post(&[event()], 1).unwrap();
    }
}
