//! Records that go on after an error: a disk that is full may have room again.

use std::{
    io::{self, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Sink, deliver::Counts, jsonl::JsonLines};
use crate::judgement::Judgement;

/// An error is said this often at most.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Writes JSON Lines; counts errors and what is lost by them, and says so in the log now and then.
#[derive(Debug)]
pub struct Steady<W> {
    lines: JsonLines<W>,
    counts: Arc<Counts>,
    /// Of the records that `lines` dropped, those that are counted.
    counted: u64,
    said: Option<Instant>,
}

impl<W: Write> Steady<W> {
    /// Writes to `writer`, which must take whole lines or none, and counts into `counts`.
    pub fn new(writer: W, counts: Arc<Counts>) -> Self {
        Self { lines: JsonLines::new(writer), counts, counted: 0, said: None }
    }
}

impl<W: Write> Sink for Steady<W> {
    fn judgement(&mut self, judgement: &Judgement) {
        self.lines.judgement(judgement);
    }

    fn flush(&mut self) -> io::Result<()> {
        let Err(error) = self.lines.flush() else { return Ok(()) };
        self.counts.fail();
        let dropped = self.lines.dropped();
        self.counts.give_up(usize::try_from(dropped - self.counted).unwrap_or(usize::MAX));
        self.counted = dropped;
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            tracing::warn!(%error, "findings cannot be written; those of the meantime are lost");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::sinks::{
        rotate::{RotatingFile, Rotation},
        sample,
    };

    #[test]
    fn what_cannot_be_written_is_counted_and_no_half_line_is_left() {
        let counts = Arc::new(Counts::default());
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut sink = Steady::new(full, Arc::clone(&counts));
        for _ in 0..3 {
            sink.judgement(&sample::unauthenticated());
        }
        sink.flush().unwrap();
        assert_eq!((counts.dropped(), counts.errors()), (3, 1));
        sink.judgement(&sample::unauthenticated());
        sink.flush().unwrap();
        assert_eq!((counts.dropped(), counts.errors()), (4, 2), "it goes on trying");
    }

    #[test]
    fn records_go_on_over_rotated_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("findings.jsonl");
        let file = RotatingFile::open(&path, Rotation { max_bytes: 4000, keep: 100 }).unwrap();
        let counts = Arc::new(Counts::default());
        let mut sink = Steady::new(file, Arc::clone(&counts));
        for _ in 0..50 {
            sink.judgement(&sample::unauthenticated());
            sink.flush().unwrap();
        }
        let text = |path: &Path| fs::read_to_string(path).unwrap();
        let files: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| text(&entry.unwrap().path())).collect();
        assert!(files.len() > 3 && files.iter().all(|text| text.len() <= 4000 && text.ends_with('\n')));
        let lines: Vec<&str> = files.iter().flat_map(|text| text.lines()).collect();
        assert_eq!((lines.len(), counts.dropped()), (50, 0));
        assert!(lines.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    }
}
