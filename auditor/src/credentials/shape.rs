//! Shapes of values: placeholders that prove nothing, random tokens, text that is safe to show.

/// Longest string that is shown of a claim, bytes.
pub(super) const SHOWN_BYTES: usize = 128;

/// What broken clients send in place of a token.
const PLACEHOLDERS: [&str; 14] = [
    "undefined",
    "null",
    "none",
    "nil",
    "(null)",
    "<nil>",
    "nan",
    "false",
    "true",
    "[object object]",
    "{}",
    "[]",
    "bearer",
    "deleted",
];

/// Whether a value is blank or stands in for a token that is not there: `undefined`, `null`, `${TOKEN}`, `{{token}}`,
/// `<token>`, `deleted` (what PHP sets a removed cookie to).
#[must_use]
pub fn is_placeholder(value: &[u8]) -> bool {
    let value = unquoted(value);
    let template = |open: &[u8], close: &[u8]| {
        value.len() >= open.len() + close.len() && value.starts_with(open) && value.ends_with(close)
    };
    value.is_empty()
        || PLACEHOLDERS.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(value))
        || template(b"${", b"}")
        || template(b"{{", b"}}")
        || template(b"<", b">")
}

/// A value without surrounding white space and one pair of double quotes.
pub(super) fn unquoted(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    match value {
        [b'"', inner @ .., b'"'] => inner.trim_ascii(),
        _ => value,
    }
}

/// Whether text looks like a random token: at least 20 letters, digits, `-`, `_`, `.`, `~`, `+`, `=` whose letter case and
/// digits change as they do in random text and not as they do in words, slugs and camel case. A UUID is an identifier and
/// no token.
#[must_use]
pub fn is_token(text: &[u8]) -> bool {
    if text.len() < 20 || is_uuid(text) {
        return false;
    }
    let (mut letters, mut digits, mut changes, mut digit_changes, mut run, mut longest_run) = (0, 0, 0, 0, 0_usize, 0);
    let mut previous = None;
    for byte in text {
        let class = match byte {
            b'a'..=b'z' => Some(0),
            b'A'..=b'Z' => Some(1),
            b'0'..=b'9' => Some(2),
            b'-' | b'_' | b'.' | b'~' | b'+' | b'=' => None,
            _ => return false,
        };
        match class {
            Some(2) => digits += 1,
            Some(_) => letters += 1,
            None => {}
        }
        run = if class.is_some() { run + 1 } else { 0 };
        longest_run = longest_run.max(run);
        if let (Some(now), Some(before)) = (class, previous)
            && now != before
        {
            changes += 1;
            digit_changes += usize::from(now == 2 || before == 2);
        }
        previous = class;
    }
    let signs = letters + digits;
    if signs < 16 {
        return false;
    }
    longest_run >= 40
        || (letters == 0 && longest_run >= 20)
        || digit_changes >= 4
        || (digits > 0 && changes * 100 >= signs * 35)
        || changes * 100 >= signs * 42
}

/// Whether text is a UUID (RFC 9562 section 4).
#[must_use]
pub fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Text that is safe to show in a terminal and a record: at most `SHOWN_BYTES` bytes, control and direction characters
/// replaced.
#[must_use]
pub fn shown(text: &str) -> Box<str> {
    shown_within(text, SHOWN_BYTES)
}

/// As [`shown`], with another length.
#[must_use]
pub fn shown_within(text: &str, bytes: usize) -> Box<str> {
    let mut out = String::with_capacity(text.len().min(bytes));
    for character in text.chars() {
        let character = if is_hidden(character) { char::REPLACEMENT_CHARACTER } else { character };
        if out.len() + character.len_utf8() > bytes {
            break;
        }
        out.push(character);
    }
    out.into_boxed_str()
}

/// Characters that change how the text around them is shown.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_prove_nothing() {
        for value in
            ["", " ", "\"\"", "undefined", "NULL", "[object Object]", "${TOKEN}", "{{ token }}", "<your-token>"]
        {
            assert!(is_placeholder(value.as_bytes()), "{value:?}");
        }
        for value in ["x", "nullable", "undefined1", "0", "$TOKEN}", "{\"a\":1}"] {
            assert!(!is_placeholder(value.as_bytes()), "{value:?}");
        }
    }

    #[test]
    fn tokens_are_told_from_words() {
        for token in [
            "9f86d081884c7d659a2feaa0c55ad015",
            "sk_live_51H8fK2eZvKYlo2C9qT4",
            "dGhpcyBpcyBhIHNlY3JldA==",
            "xoxb-1234567890-AbCdEfGhIjKl",
            "V1StGXR8_Z5jdHi6B-myT",
            "12345678901234567890",
        ] {
            assert!(is_token(token.as_bytes()), "{token}");
        }
        for word in [
            "inventory",
            "getUserAccountSettingsById",
            "some-long-readable-slug-2024-edition",
            "iphone-15-pro-max-256gb-2024",
            "123e4567-e89b-12d3-a456-426614174000",
            "application.properties.backup",
            "a long text with spaces 1 2 3 4 5",
            "java-17-openjdk-amd64-headless",
        ] {
            assert!(!is_token(word.as_bytes()), "{word}");
        }
    }

    #[test]
    fn shown_text_is_short_and_has_no_hidden_characters() {
        assert_eq!(&*shown("a\u{1b}[31m\u{202e}b"), "a\u{fffd}[31m\u{fffd}b");
        assert_eq!(shown(&"é".repeat(100)).len(), 128);
    }
}
