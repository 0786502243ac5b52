//! Bounded reading of a file whose every length field may lie.

use std::io::{self, BufRead, Read};

/// The largest record that is held in memory. The largest snapshot length of libpcap for networks is 256 KiB.
pub(super) const LARGEST_RECORD: u32 = 1024 * 1024;

/// What is wrong with a file, and where.
#[derive(Debug)]
pub(super) struct Damage {
    /// Byte offset of the record it is in.
    pub(super) offset: u64,
    /// What is wrong, and what to do.
    pub(super) message: String,
}

/// The bytes of a file in order, one record at a time.
pub(super) struct Input {
    reader: Box<dyn BufRead + Send>,
    offset: u64,
    record: u64,
    buffer: Vec<u8>,
}

impl Input {
    pub(super) fn new(reader: Box<dyn BufRead + Send>) -> Self {
        Self { reader, offset: 0, record: 0, buffer: Vec::new() }
    }

    /// Begins a record: reads its first `length` bytes. `None` at the clean end of the file.
    pub(super) fn begin(&mut self, length: usize) -> Result<Option<&[u8]>, Damage> {
        self.record = self.offset;
        self.buffer.clear();
        let read = self.append(length)?;
        if read == 0 {
            return Ok(None);
        }
        if read < length {
            return Err(self.cut(length as u64));
        }
        Ok(Some(&self.buffer))
    }

    /// Reads on until the record is `length` bytes long, and returns all of it.
    pub(super) fn extend(&mut self, length: usize) -> Result<&[u8], Damage> {
        let missing = length.saturating_sub(self.buffer.len());
        if self.append(missing)? < missing {
            return Err(self.cut(length as u64));
        }
        Ok(&self.buffer)
    }

    /// Passes over the rest of a record that is `length` bytes long.
    pub(super) fn skip(&mut self, length: u64) -> Result<(), Damage> {
        let rest = length.saturating_sub(self.buffer.len() as u64);
        let mut part = Read::take(&mut self.reader, rest);
        let skipped = io::copy(&mut part, &mut io::sink()).map_err(|error| self.unreadable(&error))?;
        self.offset += skipped;
        if skipped < rest { Err(self.cut(length)) } else { Ok(()) }
    }

    /// The record read last.
    pub(super) fn record(&self) -> &[u8] {
        &self.buffer
    }

    /// Something is wrong with the record read last.
    pub(super) fn damage(&self, message: impl Into<String>) -> Damage {
        Damage { offset: self.record, message: message.into() }
    }

    fn append(&mut self, length: usize) -> Result<usize, Damage> {
        let mut part = Read::take(&mut self.reader, length as u64);
        let read = part.read_to_end(&mut self.buffer).map_err(|error| self.unreadable(&error))?;
        self.offset += read as u64;
        Ok(read)
    }

    fn cut(&self, length: u64) -> Damage {
        self.damage(format!(
            "the file ends {} bytes into a record of {length} bytes; it was cut short, what precedes this was read",
            self.offset - self.record
        ))
    }

    fn unreadable(&self, error: &io::Error) -> Damage {
        self.damage(format!("cannot be read any further ({}); copy it anew", crate::config::reason_of(error)))
    }
}

/// The byte order of a file or section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

impl Endian {
    /// The `u16` at `at`; 0 past the end.
    pub(super) fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let field = bytes.get(at..at + 2).and_then(|field| field.try_into().ok()).unwrap_or_default();
        match self {
            Self::Little => u16::from_le_bytes(field),
            Self::Big => u16::from_be_bytes(field),
        }
    }

    /// The `u32` at `at`; 0 past the end.
    pub(super) fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let field = bytes.get(at..at + 4).and_then(|field| field.try_into().ok()).unwrap_or_default();
        match self {
            Self::Little => u32::from_le_bytes(field),
            Self::Big => u32::from_be_bytes(field),
        }
    }

    /// The `i64` at `at`; 0 past the end.
    pub(super) fn i64(self, bytes: &[u8], at: usize) -> i64 {
        let field = bytes.get(at..at + 8).and_then(|field| field.try_into().ok()).unwrap_or_default();
        match self {
            Self::Little => i64::from_le_bytes(field),
            Self::Big => i64::from_be_bytes(field),
        }
    }
}

/// Where one packet stands in the record read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Link type number, as the file gives it.
    pub(super) link: u32,
    /// Nanoseconds since the epoch.
    pub(super) time: u64,
    /// First byte in the record.
    pub(super) start: usize,
    /// Captured bytes.
    pub(super) captured: usize,
    /// Bytes on the wire.
    pub(super) wire: usize,
}
