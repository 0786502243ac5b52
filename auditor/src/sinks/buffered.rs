//! Lines to a writer in few, large writes; errors are kept for the next flush.

use std::io::{self, Write};

/// Written to the writer when this many bytes are waiting.
const WRITE_AT: usize = 64 * 1024;

/// Collects lines. After an error nothing more is written until the error was told: half a line would be worse than none.
#[derive(Debug)]
pub(super) struct Lines<W> {
    writer: W,
    waiting: Vec<u8>,
    waiting_lines: u64,
    error: Option<io::Error>,
    dropped: u64,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(writer: W) -> Self {
        Self { writer, waiting: Vec::with_capacity(WRITE_AT + 4096), waiting_lines: 0, error: None, dropped: 0 }
    }

    /// Appends what `write` writes; it must be whole lines. On an error of `write` nothing is appended.
    pub(super) fn line(&mut self, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) {
        if self.error.is_some() {
            self.dropped += 1;
            return;
        }
        let before = self.waiting.len();
        match write(&mut self.waiting) {
            Ok(()) => self.waiting_lines += 1,
            Err(error) => {
                self.waiting.truncate(before);
                self.fail(error, 1);
            }
        }
        if self.waiting.len() >= WRITE_AT {
            self.write_out();
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.write_out();
        if self.error.is_none()
            && let Err(error) = self.writer.flush()
        {
            self.fail(error, 0);
        }
        self.error.take().map_or(Ok(()), Err)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn get_ref(&self) -> &W {
        &self.writer
    }

    fn write_out(&mut self) {
        let lines = std::mem::take(&mut self.waiting_lines);
        if self.error.is_none()
            && !self.waiting.is_empty()
            && let Err(error) = self.writer.write_all(&self.waiting)
        {
            self.fail(error, lines);
        }
        self.waiting.clear();
    }

    fn fail(&mut self, error: io::Error, lines: u64) {
        self.dropped += lines;
        self.error.get_or_insert(error);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use super::{Lines, WRITE_AT};

    struct Broken {
        writes: u32,
    }

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            self.writes += 1;
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn push(lines: &mut Lines<impl Write>, text: &str) {
        lines.line(|out| out.write_all(text.as_bytes()));
    }

    #[test]
    fn waits_for_a_flush_or_a_full_buffer() {
        let mut lines = Lines::new(Vec::new());
        push(&mut lines, "a\n");
        assert_eq!(lines.get_ref().len(), 0);
        lines.flush().unwrap();
        assert_eq!(lines.get_ref(), b"a\n");
        push(&mut lines, &"x".repeat(WRITE_AT));
        assert_eq!(lines.get_ref().len(), WRITE_AT + 2);
    }

    #[test]
    fn an_error_is_told_once_and_what_was_lost_is_counted() {
        let mut lines = Lines::new(Broken { writes: 0 });
        push(&mut lines, "a\n");
        push(&mut lines, &"x".repeat(WRITE_AT));
        push(&mut lines, "c\n");
        assert_eq!(lines.dropped(), 3);
        assert_eq!(lines.flush().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(lines.get_ref().writes, 1, "nothing is written after an error");
        lines.flush().unwrap();
    }
}
