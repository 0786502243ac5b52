//! Opening a file of one of the kinds that can be replayed, told by how it begins.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::Path,
};

use super::{
    Capture, CaptureError,
    pcap::{self, PcapFile},
    recording::{self, Recording},
};
use crate::config::reason_of;

/// A file that can be replayed.
pub enum Replayable {
    /// pcap or pcapng: packets.
    Packets(Box<dyn Capture + Send>),
    /// A recording: calls and connections.
    Recording(Recording),
}

/// The bytes that tell every kind.
const MAGIC: usize = 8;

/// Opens `file`; `-` is standard input.
///
/// # Errors
/// When it cannot be read, or is of no kind that can be replayed: then what it seems to be.
pub fn open(file: &Path) -> Result<Replayable, CaptureError> {
    let name = file.display().to_string();
    if name == "-" {
        return begin("standard input", Box::new(io::stdin()));
    }
    let fail = |message: String| CaptureError { source_name: name.clone(), message };
    let unreadable = |error: io::Error| fail(format!("cannot be read ({}); check the path", reason_of(&error)));
    let opened = File::open(file).map_err(unreadable)?;
    if opened.metadata().map_err(unreadable)?.is_dir() {
        return Err(fail("is a directory; name a capture file in it".to_owned()));
    }
    begin(&name, Box::new(opened))
}

fn begin(name: &str, mut reader: Box<dyn Read + Send>) -> Result<Replayable, CaptureError> {
    let fail = |message: String| CaptureError { source_name: name.to_owned(), message };
    let mut magic = Vec::new();
    let read = Read::take(&mut reader, MAGIC as u64).read_to_end(&mut magic);
    read.map_err(|error| fail(format!("cannot be read ({}); check the path", reason_of(&error))))?;
    let whole: Box<dyn BufRead + Send> =
        Box::new(BufReader::with_capacity(64 * 1024, Cursor::new(magic.clone()).chain(reader)));
    if recording::begins(&magic) {
        return Recording::new(name, whole).map(Replayable::Recording);
    }
    if magic.first_chunk().is_some_and(|magic| pcap::begins(*magic)) {
        return PcapFile::new(name, whole).map(|file| Replayable::Packets(Box::new(file)));
    }
    Err(fail(format!("{}; name a pcap or pcapng file, or what `auditor watch --record` wrote", seems(&magic))))
}

/// What a file that cannot be replayed seems to be.
fn seems(magic: &[u8]) -> String {
    let known: [(&[u8], &str); 6] = [
        (b"\x1f\x8b", "is compressed with gzip: unpack it with gunzip first"),
        (b"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it with unzstd first"),
        (b"\xfd7zXZ", "is compressed with xz: unpack it with unxz first"),
        (b"snoop\0", "is a snoop file: convert it with `editcap -F pcapng` first"),
        (b"PK", "is a zip archive: unpack it first"),
        (b"\x7fELF", "is a program"),
    ];
    match known.into_iter().find(|(begin, _)| magic.starts_with(begin)) {
        Some((_, what)) => what.to_owned(),
        None if magic.is_empty() => "is empty".to_owned(),
        None => "is no capture file".to_owned(),
    }
}
