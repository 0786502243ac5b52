//! Names of a request's headers as evidence shows them. A peer chooses them: they are bounded, and what may be a secret in the
//! wrong place is not shown.

use std::sync::Arc;

use auditor_wire::exchange::Head;

use crate::credentials::shape::is_token;

/// Most names that are shown.
const NAMES: usize = 32;
/// Longest name that is shown, bytes.
const NAME_BYTES: usize = 40;
/// Longest part of a name between hyphens that is shown, bytes: words are shorter, and keys are longer.
const WORD_BYTES: usize = 16;

/// Lists of names that are remembered.
const LISTS: usize = 64;
/// Longest list that is remembered, bytes.
const LIST_BYTES: usize = 1024;

/// Shows the names of headers, and remembers what it showed: most requests name the headers that one before them did.
#[derive(Debug)]
pub(super) struct HeaderNames {
    lists: Vec<Option<List>>,
}

/// Names that are all shown as they are, but for their case.
#[derive(Debug)]
struct List {
    /// As they came, each with LF behind it.
    names: Box<[u8]>,
    count: usize,
    shown: Arc<str>,
}

impl HeaderNames {
    pub(super) fn new() -> Self {
        Self { lists: std::iter::repeat_with(|| None).take(LISTS).collect() }
    }

    /// See [`header_names`].
    pub(super) fn of(&mut self, head: &Head) -> Arc<str> {
        let names = || head.headers().map(|(name, _)| name);
        let (count, bytes) =
            names().fold((0_usize, 0_usize), |(count, bytes), name| (count + 1, bytes + name.len() + 1));
        let place = &mut self.lists[(count * 7 + bytes) % LISTS];
        if let Some(list) = place.as_ref().filter(|list| list.is(count, names())) {
            return Arc::clone(&list.shown);
        }
        let shown: Arc<str> = header_names(head).into();
        // What is not shown is not kept either.
        if bytes <= LIST_BYTES && count <= NAMES && names().all(is_shown) {
            let names: Vec<u8> = names().flat_map(|name| name.iter().chain(b"\n")).copied().collect();
            *place = Some(List { names: names.into(), count, shown: Arc::clone(&shown) });
        }
        shown
    }
}

impl List {
    /// No name that is remembered holds LF: of as many names those with one are no match.
    fn is<'a>(&self, count: usize, mut names: impl Iterator<Item = &'a [u8]>) -> bool {
        let mut rest = &*self.names;
        let mut goes_on = |name: &[u8]| {
            rest.strip_prefix(name).and_then(|behind| behind.strip_prefix(b"\n")).map(|behind| rest = behind).is_some()
        };
        self.count == count && names.all(&mut goes_on) && rest.is_empty()
    }
}

/// The names in their order, in lower case, with commas between; `~` for each that is not shown, `...` for those past the 32nd.
fn header_names(head: &Head) -> Box<str> {
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
        header_names(&head(names))
    }

    fn head(names: &[&str]) -> Head {
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
        Head::new(bytes, ranges)
    }

    #[test]
    fn what_was_shown_before_is_shown_again_and_nothing_else() {
        let lists: &[&[&str]] = &[
            &["Host", "Accept"],
            &["Accept", "Host"],
            &["host", "accept"],
            &["Host", "Accept", "X"],
            &["Ho", "stAccept"],
            &["Host\nA", "ccept"],
            &["Ho", "st\nAccept"],
            &["sk_live_4eC39HqLyjWDarjtT1zdp7dc"],
            &["a"; 40],
            &[],
        ];
        let mut shown = HeaderNames::new();
        for _ in 0..2 {
            for list in lists {
                assert_eq!(*shown.of(&head(list)), *names(list), "{list:?}");
            }
        }
        assert!(Arc::ptr_eq(&shown.of(&head(lists[3])), &shown.of(&head(lists[3]))));
        assert!(!format!("{shown:?}").contains("sk_live"));
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
