//! Names of a request's headers as evidence shows them. A peer chooses them: they are bounded, and what may be a secret in the
//! wrong place is not shown.

use auditor_wire::exchange::Head;

use crate::credentials::shape::is_token;

/// Most names that are shown.
const NAMES: usize = 32;
/// Longest name that is shown, bytes.
const NAME_BYTES: usize = 40;
/// Longest part of a name between hyphens that is shown, bytes: words are shorter, and keys are longer.
const WORD_BYTES: usize = 16;

/// The names in their order, in lower case, with commas between; `~` for each that is not shown, `...` for those past the 32nd.
pub(super) fn header_names(head: &Head) -> Box<str> {
    let names = || head.headers().map(|(name, _)| name);
    // Just as much as is needed where all are shown.
    let bytes: usize = names().take(NAMES).map(|name| name.len().min(NAME_BYTES) + 1).sum();
    let mut out = Vec::with_capacity(bytes.saturating_sub(1));
    for (number, name) in names().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        if number == NAMES {
            out.extend_from_slice(b"...");
            break;
        }
        out.extend_from_slice(if is_shown(name) { name } else { b"~" });
    }
    out.make_ascii_lowercase();
    // What is shown is ASCII.
    String::from_utf8(out).unwrap_or_default().into_boxed_str()
}

fn is_shown(name: &[u8]) -> bool {
    let separates = |byte: &u8| matches!(byte, b'-' | b'_');
    (1..=NAME_BYTES).contains(&name.len())
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || separates(byte))
        && (name.len() <= WORD_BYTES || name.split(separates).all(|word| word.len() <= WORD_BYTES))
        && !is_token(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Box<str> {
        let bytes = names.concat().into_bytes();
        let mut at = 0;
        let ranges: Vec<_> = names
            .iter()
            .map(|name| {
                let range = (at, at + name.len());
                at += name.len();
                (range, (at, at))
            })
            .collect();
        header_names(&Head::new(bytes, ranges))
    }

    #[test]
    fn words_are_shown_and_nothing_else() {
        let shown =
            names(&["Host", "Authorization", "X-Forwarded-Client-Cert", "sec-ch-ua_platform", "x-amz-content-sha256"]);
        assert_eq!(&*shown, "host,authorization,x-forwarded-client-cert,sec-ch-ua_platform,x-amz-content-sha256");
        assert_eq!(&*names(&["", "a b", "é", "a\u{1b}[31m", "a,b", "a:b"]), "~,~,~,~,~,~");
        assert_eq!(&*names(&["X-sk_live_4eC39HqLyjWDarjtT1zdp7dc", &"x-".repeat(30), &"a".repeat(17)]), "~,~,~");
    }

    #[test]
    fn many_names_are_cut() {
        let shown = names(&["a"; 1000]);
        assert_eq!(shown.matches('a').count(), NAMES);
        assert!(shown.ends_with(",..."), "{shown}");
        assert_eq!(&*names(&[]), "");
    }
}
