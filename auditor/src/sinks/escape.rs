//! Text from peers, made safe for terminals: nothing that moves a cursor, changes a colour or turns the reading direction
//! gets through.

use std::fmt::{self, Write};

/// Shows text with everything that is not printable escaped: control characters (C0, DEL, C1), line and paragraph
/// separators, direction marks and other invisible characters become `\n`, `\u{1b}`, `\u{202e}`; a backslash is doubled, so
/// that what is shown is unambiguous.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut plain = 0;
        for (at, character) in self.0.char_indices() {
            if is_plain(character) {
                continue;
            }
            f.write_str(&self.0[plain..at])?;
            // `escape_debug` escapes what `char::is_control` and Unicode's format categories hold.
            write!(f, "{}", character.escape_debug())?;
            plain = at + character.len_utf8();
        }
        f.write_str(&self.0[plain..])
    }
}

/// Escaped text of at most `limit` characters; what is longer is cut in the middle, where paths say least, and shows `…`.
pub(crate) fn shortened(text: &str, limit: usize) -> String {
    // Escaping makes text longer, never shorter, so more than this cannot be shown whole, and need not be escaped whole.
    if text.chars().nth(limit).is_none() {
        let escaped = Escaped(text).to_string();
        if escaped.chars().nth(limit).is_none() {
            return escaped;
        }
    }
    let kept = limit.saturating_sub(1);
    let tail_length = kept / 2;
    let mut shown = String::new();
    fill(&mut shown, text.chars(), kept - tail_length);
    shown.push('…');
    let mut tail = Vec::new();
    let mut length = 0;
    for character in text.chars().rev() {
        let escaped = escaped_character(character);
        length += escaped.chars().count();
        if length > tail_length {
            break;
        }
        tail.push(escaped);
    }
    shown.extend(tail.into_iter().rev());
    shown
}

/// Escaped text for a Markdown code span, in a table or outside of one.
pub(super) fn code_span(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 2);
    shown.push('`');
    for character in text.chars() {
        match character {
            // A code span knows no escapes: a backtick would end it; a bar would end the table's cell.
            '`' | '|' => {
                let _ = write!(shown, "{}", character.escape_unicode());
            }
            _ => shown.push_str(&escaped_character(character)),
        }
    }
    // A code span may not be empty.
    if text.is_empty() {
        shown.push(' ');
    }
    shown.push('`');
    shown
}

/// Escaped text for running Markdown: what Markdown or HTML would act on is preceded by a backslash.
pub(super) fn markdown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '&' | '~' | '!' | '@' | ':')
        {
            shown.push('\\');
            shown.push(character);
        } else {
            shown.push_str(&escaped_character(character));
        }
    }
    shown
}

/// Whether a character may be shown as it is.
pub(super) fn is_plain(character: char) -> bool {
    match character {
        '\\' => false,
        ' '..='~' => true,
        '\0'..='\u{9f}' => false,
        // `escape_debug` leaves alone what is printable; quotes, which it would escape too, are ASCII and handled above.
        _ => character.escape_debug().eq([character]),
    }
}

fn escaped_character(character: char) -> String {
    if is_plain(character) { character.to_string() } else { character.escape_debug().to_string() }
}

fn fill(shown: &mut String, characters: impl Iterator<Item = char>, limit: usize) {
    let mut length = 0;
    for character in characters {
        let escaped = escaped_character(character);
        length += escaped.chars().count();
        if length > limit {
            break;
        }
        shown.push_str(&escaped);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Escaped, code_span, is_plain, markdown, shortened};

    #[test]
    fn what_acts_on_a_terminal_is_escaped() {
        let cases = [
            ("/items/42", "/items/42"),
            ("it's \"quoted\"", "it's \"quoted\""),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\r\nb\tc\0", "a\\r\\nb\\tc\\0"),
            ("\u{7f}", "\\u{7f}"),
            ("exe\u{202e}gnp", "exe\\u{202e}gnp"),
            ("zero\u{200b}width", "zero\\u{200b}width"),
            ("\u{2028}", "\\u{2028}"),
            ("back\\slash", "back\\\\slash"),
            ("grüße 北京", "grüße 北京"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(Escaped(text).to_string(), expected, "of {text:?}");
        }
    }

    #[test]
    fn long_text_is_cut_in_the_middle() {
        assert_eq!(shortened("abcdefghij", 10), "abcdefghij");
        assert_eq!(shortened("abcdefghijk", 10), "abcde…hijk");
        assert_eq!(shortened("\u{1b}\u{1b}\u{1b}", 8), "…", "an escape is never cut in two");
        assert_eq!(shortened("abc", 0), "…");
    }

    #[test]
    fn markdown_sees_no_markup() {
        assert_eq!(code_span("a`b|c\n"), "`a\\u{60}b\\u{7c}c\\n`");
        assert_eq!(code_span(""), "` `");
        assert_eq!(markdown("<img src=x> *b* [l](u) |"), "\\<img src=x\\> \\*b\\* \\[l\\](u) \\|");
    }

    proptest! {
        #[test]
        fn any_text_comes_out_printable(text in any::<String>(), limit in 1usize..40) {
            let plain = |shown: &str| shown.chars().all(|c| c == '\\' || is_plain(c));
            prop_assert!(plain(&Escaped(&text).to_string()));
            prop_assert!(plain(&code_span(&text)));
            prop_assert!(plain(&markdown(&text)));
            let short = shortened(&text, limit);
            prop_assert!(plain(&short) && short.chars().count() <= limit, "{short:?}");
        }
    }
}
