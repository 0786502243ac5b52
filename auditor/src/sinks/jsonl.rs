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
pub(super) struct Printable;

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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{super::sample, JsonLines};
    use crate::{
        judgement::{Judgement, Outcome, Verdict},
        sinks::{Sink, golden::assert_golden},
    };

    fn written(judgements: &[Judgement]) -> String {
        let mut sink = JsonLines::new(Vec::new());
        for judgement in judgements {
            sink.judgement(judgement);
        }
        sink.flush().unwrap();
        String::from_utf8(sink.get_ref().clone()).unwrap()
    }

    fn unseen() -> Judgement {
        let mut judgement = sample::unauthenticated();
        (judgement.request, judgement.response) = (None, None);
        (judgement.verdict, judgement.unknown_reason) = (Verdict::Unknown, Some("head-truncated"));
        judgement.outcome = Outcome::Unanswered;
        judgement.findings = Vec::new();
        judgement.source = sample::party("fd00::1", 40000, None);
        judgement.deviations = vec!["bare-lf"];
        judgement.time = sample::time(-678).checked_sub(jiff::SignedDuration::from_micros(901)).unwrap();
        judgement
    }

    #[test]
    fn records_are_those_of_the_contract() {
        let records = [
            sample::unauthenticated(),
            sample::authenticated(),
            unseen(),
            sample::connection(),
            sample::mutual_tls(),
            sample::anonymous_tls(),
            sample::refused_tls(),
        ];
        let text = written(&records);
        assert_eq!(text.lines().count(), records.len());
        assert_golden("records.jsonl", &text);
    }

    #[test]
    fn what_is_not_known_is_null_and_times_have_six_digits() {
        let record: Value = serde_json::from_str(&written(&[unseen()])).unwrap();
        assert_eq!(record["time"], "2026-11-22T01:23:45.000000Z");
        for field in ["request", "response"] {
            assert_eq!(record.get(field), Some(&Value::Null), "{field} of an exchange is there and null");
        }
        for field in ["process", "container", "workload"] {
            assert_eq!(record["source"].get(field), Some(&Value::Null), "{field}");
        }
        let connection: Value = serde_json::from_str(&written(&[sample::connection()])).unwrap();
        assert_eq!((connection.get("request"), connection.get("response")), (None, None));
    }

    #[test]
    fn hostile_text_is_printable_and_reads_back_the_same() {
        let path = "/\\a\"b\n\u{1b}[31m\u{7f}\u{9b}2J\u{202e}\u{feff}grüße\u{e0041}\u{1f600}";
        let mut judgement = sample::unauthenticated();
        judgement.request = Some(sample::request("GET", path, path));
        let text = written(&[judgement]);
        let hidden: String = text.chars().filter(|c| !super::is_plain(*c) && *c != '\\').collect();
        assert_eq!(hidden, "\n", "{text:?}");
        let record: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(record["request"]["path"], path);
    }
}
