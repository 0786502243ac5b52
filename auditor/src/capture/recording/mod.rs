//! Recordings: what was seen live, kept in a file that replays to the same judgements and holds no secret.
//!
//! A recording is made of calls and connections as they stand before judging, with both ends named, and not of ring records:
//! processes are gone when it is replayed, and only in a whole head can every secret be found. Heads keep their bytes, with
//! secrets masked by filler of the same length and shape, and are read by the same parser again.

mod entry;
mod format;
#[cfg(test)]
mod tests;
mod tls_facts;

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use auditor_wire::exchange::{Connection, Exchange};

use self::format::{Damage, Reader, Writer};
use super::{CaptureError, Counts, Status};
use crate::{
    attribution::Attributed,
    config::reason_of,
    credentials::{Checked, Credential, FingerprintKey},
};

/// Entries delivered in one call.
const BATCH: usize = 1024;

/// What stands in a recording.
#[derive(Debug)]
pub enum Recorded {
    /// A call, and what was found out about its credentials before they were masked.
    Exchange(Box<Attributed<Exchange>>, Vec<Checked>),
    /// A connection without readable calls.
    Connection(Box<Attributed<Connection>>),
}

/// Why there is no recording.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be made ({}); {remedy}", file.display(), reason_of(source))]
pub struct RecordingError {
    /// The file.
    pub file: PathBuf,
    /// Why.
    pub source: io::Error,
    /// What to do.
    pub remedy: &'static str,
}

/// Makes entries of what it is shown. Where they go is the other half, [`RecordingFile`]: it may be slow.
#[derive(Debug)]
pub struct Recorder {
    /// Of this run alone: filler of two recordings has nothing in common.
    key: FingerprintKey,
    /// Claims that are kept in clear, by name.
    claims: Arc<[Arc<str>]>,
}

/// A call whose secrets are masked. It becomes an entry when it is judged: what was found out about its credentials goes into
/// the entry, since nothing can be found out about filler.
#[derive(Debug)]
pub struct MaskedCall {
    masked: entry::Masked,
    claims: Arc<[Arc<str>]>,
}

impl MaskedCall {
    /// The entry of the call, judged to have these credentials.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn entry(self, credentials: &[Credential]) -> io::Result<Vec<u8>> {
        Ok(self.masked.finish(Checked::of(credentials, &self.claims))?)
    }
}

/// The file that entries are written to.
#[derive(Debug)]
pub struct RecordingFile<W = BufWriter<File>> {
    writer: Writer<W>,
}

/// A recording that is read.
pub struct Recording {
    name: String,
    reader: Reader,
    ended: bool,
}

impl Recorder {
    /// A recorder that masks secrets under `key`.
    #[must_use]
    pub fn new(key: FingerprintKey) -> Self {
        Self { key, claims: Arc::default() }
    }

    /// The same, which keeps these claims of tokens in clear, by name.
    #[must_use]
    pub fn keeping(self, claims: Arc<[Arc<str>]>) -> Self {
        Self { claims, ..self }
    }

    /// Claims that it keeps in clear, where the judge leaves them with the credentials.
    #[must_use]
    pub fn claims(&self) -> Arc<[Arc<str>]> {
        Arc::clone(&self.claims)
    }

    /// Masks a call that is about to be judged.
    #[must_use]
    pub fn exchange(&self, call: &Attributed<Exchange>) -> MaskedCall {
        MaskedCall { masked: entry::exchange(call, &self.key), claims: self.claims() }
    }

    /// The entry of a connection.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn connection(&self, connection: &Attributed<Connection>) -> io::Result<Vec<u8>> {
        Ok(entry::connection(connection)?)
    }
}

impl RecordingFile {
    /// A new file, readable by its owner alone. One that exists is left as it is.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(file: &Path) -> Result<Self, RecordingError> {
        let fail = |source: io::Error| {
            let remedy = match source.kind() {
                io::ErrorKind::AlreadyExists => "name one that does not exist yet",
                _ => "name a file in a directory that can be written",
            };
            RecordingError { file: file.to_owned(), source, remedy }
        };
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(fail)?;
        Self::new(BufWriter::new(opened)).map_err(fail)
    }
}

impl<W: Write> RecordingFile<W> {
    /// Begins a recording in `writer`.
    ///
    /// # Errors
    /// When it cannot be written to.
    pub fn new(writer: W) -> io::Result<Self> {
        Ok(Self { writer: Writer::new(writer)? })
    }

    /// Writes what [`Recorder`] made.
    ///
    /// # Errors
    /// When it cannot be written, e.g. the disk is full.
    pub fn write(&mut self, entry: &[u8]) -> io::Result<()> {
        self.writer.entry(entry)
    }

    /// Hands on what is buffered.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    /// Marks the end. A recording without it reads as one that was cut.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end(&mut self) -> io::Result<()> {
        self.writer.end()
    }
}

/// Whether a file that begins so is a recording.
#[must_use]
pub fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(&format::MAGIC)
}

impl Recording {
    /// Begins reading; `name` is what messages call it.
    ///
    /// # Errors
    /// When it is no recording, or one of another version.
    pub fn new(name: impl Into<String>, reader: Box<dyn Read + Send>) -> Result<Self, CaptureError> {
        let name = name.into();
        let reader = Reader::new(reader).map_err(|damage| error(&name, 0, &damage))?;
        Ok(Self { name, reader, ended: false })
    }

    /// Delivers what was recorded, a bounded number of entries, in the order it was recorded.
    ///
    /// # Errors
    /// When the file is damaged; what was delivered before stands.
    pub fn drain(&mut self, deliver: &mut dyn FnMut(Recorded)) -> Result<Status, CaptureError> {
        if self.ended {
            return Ok(Status::End);
        }
        for _ in 0..BATCH {
            match self.next() {
                Ok(Some(recorded)) => deliver(recorded),
                Ok(None) => {
                    self.ended = true;
                    return Ok(Status::End);
                }
                Err(damage) => {
                    self.ended = true;
                    return Err(error(&self.name, self.reader.entries, &damage));
                }
            }
        }
        Ok(Status::More)
    }

    /// What was read since the beginning.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { delivered: self.reader.entries, ..Counts::default() }
    }

    fn next(&mut self) -> Result<Option<Recorded>, Damage> {
        let offset = self.reader.offset();
        let Some(bytes) = self.reader.next()? else { return Ok(None) };
        match entry::read(bytes) {
            Ok(recorded) => Ok(Some(recorded)),
            Err(reason) => {
                let message = format!("an entry {reason}; what precedes this was read");
                Err(Damage { offset, message })
            }
        }
    }
}

fn error(name: &str, entries: u64, damage: &Damage) -> CaptureError {
    let message = format!("at byte {}, after {entries} entries: {}", damage.offset, damage.message);
    CaptureError { source_name: name.to_owned(), message }
}
