//! How text for people looks: width and colours.

use std::fmt;

use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::Posture;
use crate::judgement::{Outcome, Severity, Verdict};

/// Width and colours of text for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Columns to stay within where that is possible; nothing is cut to reach it.
    pub width: usize,
    /// Whether to use colours.
    pub color: bool,
    /// Whether it is read on a terminal: then a line that is too long is broken in a place that reads well. Otherwise each
    /// call is one line, for `grep`.
    pub terminal: bool,
}

impl Look {
    /// Plain text of 80 columns, as for a file.
    pub const PLAIN: Self = Self { width: 80, color: false, terminal: false };

    /// As suits standard output: colours and the terminal's width when it is one, and `NO_COLOR`, `CLICOLOR` and
    /// `CLICOLOR_FORCE` are respected.
    #[must_use]
    pub fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        let color = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
        match rustix::termios::tcgetwinsize(&stdout) {
            Ok(size) if size.ws_col >= 20 => Self { width: usize::from(size.ws_col), color, terminal: true },
            Ok(_) => Self { color, terminal: true, ..Self::PLAIN },
            Err(_) => Self { color, ..Self::PLAIN },
        }
    }

    /// The same without colours.
    #[must_use]
    pub fn without_color(self) -> Self {
        Self { color: false, ..self }
    }

    /// Text broken to lines of this width, each indented; its own line breaks stay, and it ends with one. A word that is longer
    /// than a line is broken, too: nothing a peer chose makes a line longer.
    #[must_use]
    pub fn wrap(self, text: &str, indent: usize) -> String {
        let width = self.width.clamp(40, 100);
        let mut wrapped = String::new();
        for line in text.lines() {
            let mut column = 0;
            for word in line.split_whitespace() {
                for (at, piece) in pieces(word, width.saturating_sub(indent)).enumerate() {
                    let length = columns(piece);
                    if column > 0 && (at > 0 || column + 1 + length > width) {
                        wrapped.push('\n');
                        column = 0;
                    }
                    let gap = if column == 0 { indent } else { 1 };
                    wrapped.extend(std::iter::repeat_n(' ', gap));
                    wrapped.push_str(piece);
                    column += gap + length;
                }
            }
            wrapped.push('\n');
        }
        wrapped
    }

    /// `text` in `style`, if there are colours.
    pub(super) fn paint<T: fmt::Display>(self, style: Style, text: T) -> Painted<T> {
        Painted { style: if self.color { style } else { Style::new() }, text }
    }
}

/// Columns that text takes on a terminal: characters of East Asian scripts and emoji take two.
pub(super) fn columns(text: &str) -> usize {
    text.width()
}

/// A word in pieces of at most `room` columns, broken where a path or a list of names has a seam if there is one in the second half.
fn pieces(word: &str, room: usize) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let end = if columns(rest) <= room { rest.len() } else { break_in(rest, room) };
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Where to break text that takes more than `room` columns: after at least one character.
fn break_in(text: &str, room: usize) -> usize {
    let (mut column, mut end, mut seam) = (0, 0, 0);
    for (at, character) in text.char_indices() {
        column += character.width().unwrap_or_default();
        if column > room && at > 0 {
            break;
        }
        end = at + character.len_utf8();
        if column > room / 2 && matches!(character, '/' | ',' | ';' | '&' | '-' | '.' | ':') {
            seam = end;
        }
    }
    if seam > 0 { seam } else { end }
}

/// Text in a style; padding applies to the text.
pub(super) struct Painted<T> {
    style: Style,
    text: T,
}

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.style)?;
        self.text.fmt(f)?;
        write!(f, "{:#}", self.style)
    }
}

pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const DOUBTFUL: Style = AnsiColor::Yellow.on_default();

/// The style of a verdict: a call without proof that was refused is a boundary that holds.
pub(super) fn of_verdict(verdict: Verdict, outcome: Outcome) -> Style {
    match (verdict, outcome) {
        (Verdict::Authenticated, _) | (Verdict::Unauthenticated, Outcome::Refused) => GOOD,
        (Verdict::Unauthenticated, Outcome::Accepted) => BAD,
        (Verdict::Unauthenticated | Verdict::Weak, _) => DOUBTFUL,
        (Verdict::Exempt | Verdict::Unknown, _) => DIM,
    }
}

/// The style of what a TLS server makes of clients without certificate.
pub(super) fn of_posture(posture: Posture) -> Style {
    match posture {
        Posture::NotRequested | Posture::Optional => DOUBTFUL,
        Posture::Unknown => DIM,
        Posture::Enforced => GOOD,
    }
}

/// The style of a severity.
pub(super) fn of_severity(severity: Severity) -> Style {
    match severity {
        Severity::Critical | Severity::High => BAD,
        Severity::Medium => DOUBTFUL,
        Severity::Low | Severity::Info => DIM,
    }
}
