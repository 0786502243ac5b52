//! The file around the entries: magic, version, then for each entry its length, a checksum and its bytes, and an end mark that
//! tells a whole file from a cut one. `docs/recording.md` has it in words.

use std::io::{self, Read, Write};

/// What the file begins with.
pub(super) const MAGIC: [u8; 8] = *b"AUDITREC";
/// The version written; no other is read.
pub(super) const VERSION: u32 = 1;
/// The longest entry: two heads at their longest and everything around them.
pub(super) const LONGEST_ENTRY: u32 = 512 * 1024;
const END: u32 = 0;
const CHECKSUM: usize = 8;

/// What is wrong with a file, and where.
#[derive(Debug)]
pub(super) struct Damage {
    /// Byte offset of the entry it is in.
    pub(super) offset: u64,
    /// What is wrong, and what to do.
    pub(super) message: String,
}

/// Writes entries.
#[derive(Debug)]
pub(super) struct Writer<W> {
    writer: W,
    entries: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(mut writer: W) -> io::Result<Self> {
        writer.write_all(&MAGIC)?;
        writer.write_all(&VERSION.to_le_bytes())?;
        Ok(Self { writer, entries: 0 })
    }

    pub(super) fn entry(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).ok().filter(|length| (1..=LONGEST_ENTRY).contains(length));
        let length = length.ok_or_else(|| io::Error::other("an entry is longer than the format allows"))?;
        self.frame(length, bytes)?;
        self.entries += 1;
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    pub(super) fn end(&mut self) -> io::Result<()> {
        let entries = self.entries.to_le_bytes();
        self.frame(END, &entries)?;
        self.writer.flush()
    }

    fn frame(&mut self, length: u32, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(&length.to_le_bytes())?;
        self.writer.write_all(&checksum(bytes))?;
        self.writer.write_all(bytes)
    }
}

/// Reads entries.
pub(super) struct Reader {
    reader: Box<dyn Read + Send>,
    offset: u64,
    pub(super) entries: u64,
    buffer: Vec<u8>,
}

impl Reader {
    pub(super) fn new(reader: Box<dyn Read + Send>) -> Result<Self, Damage> {
        let mut reader = Self { reader, offset: 0, entries: 0, buffer: Vec::new() };
        reader.fill(0, 12)?;
        let version = reader.buffer[8..].first_chunk().map_or(0, |version| u32::from_le_bytes(*version));
        if !reader.buffer.starts_with(&MAGIC) {
            return Err(reader.damage(0, "this is no recording; name one that `auditor watch --record` wrote"));
        }
        if version != VERSION {
            let message = format!(
                "the recording is of version {version} and this auditor reads version {VERSION}; replay it with the auditor \
                 that wrote it"
            );
            return Err(reader.damage(0, message));
        }
        Ok(reader)
    }

    /// Where the next entry begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next entry; `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Damage> {
        let start = self.offset;
        self.fill(start, 4 + CHECKSUM)?;
        let length = self.buffer.first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
        let expected: [u8; CHECKSUM] = self.buffer[4..].first_chunk().copied().unwrap_or_default();
        if length > LONGEST_ENTRY {
            let message =
                format!("an entry of {length} bytes is claimed, and {LONGEST_ENTRY} is the most there can be; {REST}");
            return Err(self.damage(start, message));
        }
        self.fill(start, if length == END { 8 } else { length as usize })?;
        if checksum(&self.buffer) != expected {
            return Err(self.damage(start, format!("an entry's checksum does not fit its bytes; {REST}")));
        }
        if length == END {
            let entries = self.buffer.first_chunk().map_or(0, |entries| u64::from_le_bytes(*entries));
            if entries != self.entries {
                let message =
                    format!("{} entries were read and {entries} were written; some are missing", self.entries);
                return Err(self.damage(start, message));
            }
            return Ok(None);
        }
        self.entries += 1;
        Ok(Some(&self.buffer))
    }

    fn fill(&mut self, start: u64, length: usize) -> Result<(), Damage> {
        self.buffer.clear();
        let read = Read::take(&mut self.reader, length as u64).read_to_end(&mut self.buffer);
        let read = read.map_err(|error| {
            self.damage(
                start,
                format!("cannot be read any further ({}); copy it anew", crate::config::reason_of(&error)),
            )
        })?;
        self.offset += read as u64;
        if read < length {
            let message =
                "the file ends without its end mark; the recorder did not come to its end, what precedes this was read";
            return Err(self.damage(start, message));
        }
        Ok(())
    }

    pub(super) fn damage(&self, offset: u64, message: impl Into<String>) -> Damage {
        Damage { offset, message: message.into() }
    }
}

const REST: &str = "the file is damaged from here on, what precedes this was read";

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    blake3::hash(bytes).as_bytes().first_chunk().copied().unwrap_or_default()
}
