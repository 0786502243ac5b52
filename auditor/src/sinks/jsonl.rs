//! JSON Lines: one record a line, for programs.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use super::{Sink, buffered::Lines, escape::is_plain};
use crate::judgement::Judgement;

/// Writes each judgement as one line of JSON.
///
/// Records hold what peers sent; characters that act on a terminal are written as `\u` escapes, which every JSON reader
/// turns back.
#[derive(Debug)]
pub struct JsonLines<W> {
    lines: Lines<W>,
}

impl<W: Write> JsonLines<W> {
    /// Writes to `writer`, which needs no buffer of its own.
    pub fn new(writer: W) -> Self {
        Self { lines: Lines::new(writer) }
    }

    /// Records that could not be written.
    pub fn dropped(&self) -> u64 {
        self.lines.dropped()
    }

    /// The writer; what is not flushed has not reached it.
    pub fn get_ref(&self) -> &W {
        self.lines.get_ref()
    }
}

impl<W: Write> Sink for JsonLines<W> {
    fn judgement(&mut self, judgement: &Judgement) {
        self.lines.line(|out| {
            judgement.serialize(&mut Serializer::with_formatter(&mut *out, Printable))?;
            out.push(b'\n');
            Ok(())
        });
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.flush()
    }
}

/// JSON without white space, printable throughout. serde_json escapes the control characters that JSON demands; this adds
/// DEL, C1 (some terminals take U+009B for `ESC [`), and invisible and direction-turning characters.
struct Printable;

impl Formatter for Printable {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let bytes = fragment.as_bytes();
        if bytes.iter().all(|byte| (0x20..0x7f).contains(byte)) {
            return writer.write_all(bytes);
        }
        let mut plain = 0;
        for (at, character) in fragment.char_indices() {
            if is_plain(character) || character == '\\' {
                continue;
            }
            writer.write_all(&bytes[plain..at])?;
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            plain = at + character.len_utf8();
        }
        CompactFormatter.write_string_fragment(writer, &fragment[plain..])
    }
}
