//! What routes and waivers match: paths by pattern, workloads by selector, methods by name.

use std::{borrow::Cow, net::IpAddr};

use ipnet::IpNet;

use crate::{config::value, judgement::Party, policy::route};

/// Segments of a path that are looked at; what follows can only be the rest of a pattern that ends in `**`.
const SEGMENTS: usize = 32;
/// Longest pattern, bytes.
const PATTERN_BYTES: usize = 1024;

/// A path cut into segments as servers read it: empty segments and `.` left out, `..` applied, path parameters removed,
/// percent-encoded characters decoded.
#[derive(Debug)]
pub(super) struct Segments<'a> {
    all: Vec<Cow<'a, str>>,
    /// There were more.
    cut: bool,
}

impl<'a> Segments<'a> {
    pub(super) fn of(path: &'a str) -> Self {
        let mut all: Vec<Cow<'a, str>> = Vec::with_capacity(8);
        let mut cut = false;
        for segment in route::segments(path) {
            let end = segment.bytes().position(|byte| byte == b';').unwrap_or(segment.len());
            let segment = &segment[..end];
            match segment {
                "" | "." => {}
                ".." => drop(all.pop()),
                _ if all.len() == SEGMENTS => {
                    cut = true;
                    break;
                }
                _ => all.push(decoded(segment)),
            }
        }
        Self { all, cut }
    }

    pub(super) fn first(&self) -> Option<&str> {
        self.all.first().map(AsRef::as_ref)
    }

    pub(super) fn get(&self, at: usize) -> Option<&str> {
        self.all.get(at).map(AsRef::as_ref)
    }
}

/// A segment with percent-encoded characters decoded; as it is where that gives no text.
fn decoded(segment: &str) -> Cow<'_, str> {
    let bytes = segment.as_bytes();
    if !bytes.contains(&b'%') {
        return Cow::Borrowed(segment);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).map_or(Cow::Borrowed(segment), Cow::Owned)
}

/// A path pattern: `/tenants/{tenant}/orders/**`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathPattern {
    parts: Box<[Part]>,
    /// Ends in `**`: any number of further segments.
    rest: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    Any,
    Captured(Box<str>),
}

impl PathPattern {
    /// Reads a pattern; what is wrong with it, and what would be right.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let shown = value::shown(text);
        let Some(inner) = text.strip_prefix('/').filter(|_| text.len() <= PATTERN_BYTES) else {
            return Err(format!("`{shown}` is not a path; write one that begins with `/`, such as /orders/**"));
        };
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        let segments: Vec<&str> = if inner.is_empty() { Vec::new() } else { inner.split('/').collect() };
        let (segments, rest) = match segments.as_slice() {
            [before @ .., "**"] => (before, true),
            all => (all, false),
        };
        if segments.len() > SEGMENTS {
            return Err(format!("`{shown}` has more than {SEGMENTS} segments; end it in `**` earlier"));
        }
        let mut parts: Vec<Part> = Vec::with_capacity(segments.len());
        for segment in segments {
            let part = Part::parse(segment).map_err(|problem| format!("`{shown}`: {problem}"))?;
            if parts.contains(&part) && matches!(part, Part::Captured(_)) {
                return Err(format!("`{shown}` captures `{segment}` twice; give each capture a name of its own"));
            }
            parts.push(part);
        }
        Ok(Self { parts: parts.into(), rest })
    }

    /// Names of what it captures.
    pub(super) fn captures(&self) -> impl Iterator<Item = (usize, &str)> {
        self.parts.iter().enumerate().filter_map(|(at, part)| match part {
            Part::Captured(name) => Some((at, &**name)),
            _ => None,
        })
    }

    /// The first segment, where only one text can stand there.
    pub(super) fn first_literal(&self) -> Option<&str> {
        match self.parts.first() {
            Some(Part::Literal(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether every path fits.
    pub(super) fn is_everything(&self) -> bool {
        self.rest && self.parts.is_empty()
    }

    pub(super) fn matches(&self, path: &Segments<'_>) -> bool {
        let long_enough =
            path.all.len() == self.parts.len() && !path.cut || self.rest && path.all.len() >= self.parts.len();
        long_enough
            && self.parts.iter().zip(&path.all).all(|(part, segment)| match part {
                Part::Literal(text) => **text == **segment,
                Part::Any | Part::Captured(_) => true,
            })
    }
}

impl Part {
    fn parse(segment: &str) -> Result<Self, String> {
        match segment {
            "" => Err("there is an empty segment; remove the second `/`".to_owned()),
            "*" => Ok(Self::Any),
            "**" => Err("`**` stands for the rest and can only come last; use `*` for one segment".to_owned()),
            "." | ".." => Err("`.` and `..` never reach a service; write the path they lead to".to_owned()),
            _ => match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(name) if is_name(name) => Ok(Self::Captured(name.into())),
                Some(_) => {
                    Err(format!("`{segment}` is no capture; write a name in letters, digits and `_`: {{tenant}}"))
                }
                None if segment.contains(['*', '{', '}', '?', '#', ';']) => Err(format!(
                    "`{segment}` mixes text and pattern; a segment is text, `*`, `{{name}}` or, at the end, `**`"
                )),
                None => Ok(Self::Literal(decoded(segment).into())),
            },
        }
    }
}

/// A name that CEL takes for an identifier.
fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && text.len() <= 64
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether something fits; where a workload is not known, nobody can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Yes,
    No,
    Unknown,
}

/// A workload selector: a name in which `*` stands for any characters (`shop/orders`, `shop/*`, `ci-*`), or a network
/// (`10.0.0.0/8`, `10.0.0.2`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selector {
    Name(Box<str>),
    Pattern(Box<str>),
    Everything,
    Network(IpNet),
}

impl Selector {
    /// Reads a selector; what is wrong with it, and what would be right.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > 256 || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(format!(
                "`{}` is no workload; write a name such as shop/orders, a pattern such as shop/*, or a network",
                value::shown(text)
            ));
        }
        if text.bytes().all(|byte| byte == b'*') {
            return Ok(Self::Everything);
        }
        if text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok() {
            return value::network(text).map(Self::Network);
        }
        Ok(if text.contains('*') { Self::Pattern(text.into()) } else { Self::Name(text.into()) })
    }

    fn fits(&self, party: &Party) -> Fit {
        let name = party.workload.as_deref();
        let fit = |matches: bool| if matches { Fit::Yes } else { Fit::No };
        match (self, name) {
            (Self::Everything, _) => Fit::Yes,
            (Self::Network(network), _) => {
                fit(party.address.ip().is_some_and(|address| network.contains(&address.to_canonical())))
            }
            (_, None) => Fit::Unknown,
            (Self::Name(wanted), Some(name)) => fit(**wanted == *name),
            (Self::Pattern(pattern), Some(name)) => fit(is_like(name, pattern)),
        }
    }
}

/// Whether one of the selectors fits.
pub(super) fn any(selectors: &[Selector], party: &Party) -> Fit {
    let mut best = Fit::No;
    for selector in selectors {
        match selector.fits(party) {
            Fit::Yes => return Fit::Yes,
            Fit::Unknown => best = Fit::Unknown,
            Fit::No => {}
        }
    }
    best
}

/// Whether `text` is `pattern`, where `*` stands for any characters. Takes one pass: each part is looked for behind the one
/// before, and the earliest place leaves most for the others.
fn is_like(text: &str, pattern: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return text == pattern };
    let Some(mut rest) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = tail.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Methods that a route is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Methods(Box<[Box<str>]>);

impl Methods {
    pub(super) fn new(names: Vec<Box<str>>) -> Self {
        Self(names.into())
    }

    pub(super) fn are_all(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contain(&self, method: &str) -> bool {
        self.are_all() || self.0.iter().any(|name| **name == *method)
    }
}

/// Reads a method (RFC 9110 section 9.1: case-sensitive, by custom in capital letters).
pub(super) fn method(text: &str) -> Result<Box<str>, String> {
    let fits = |byte: u8| byte.is_ascii_uppercase() || byte == b'-' || byte == b'_';
    if text.is_empty() || text.len() > 32 || !text.bytes().all(fits) {
        return Err(format!("`{}` is not a method; write it in capital letters, such as GET", value::shown(text)));
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, path: &str) -> bool {
        PathPattern::parse(pattern).expect(pattern).matches(&Segments::of(path))
    }

    #[test]
    fn paths_match_as_servers_read_them() {
        for (pattern, path, expected) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/**", "/", true),
            ("/**", "/a/b/c", true),
            ("/orders", "/orders", true),
            ("/orders", "/orders/", true),
            ("/orders", "//orders", true),
            ("/orders", "/orders/17", false),
            ("/orders/*", "/orders/17", true),
            ("/orders/*", "/orders", false),
            ("/orders/**", "/orders", true),
            ("/orders/**", "/orders/17/items", true),
            ("/orders/**", "/ordersX", false),
            ("/tenants/{tenant}/orders", "/tenants/a/orders", true),
            ("/admin/**", "/public/../admin/users", true),
            ("/admin/**", "/%61dmin/users", true),
            ("/admin", "/admin;v=1", true),
            ("/admin/**", "/public/./admin", false),
        ] {
            assert_eq!(fits(pattern, path), expected, "{pattern} {path}");
        }
        let long = "/a".repeat(1000);
        assert!(fits("/a/**", &long) && !fits("/a/*", &long) && !fits(&"/a".repeat(SEGMENTS), &long));
    }

    #[test]
    fn captures_are_read_decoded() {
        let pattern = PathPattern::parse("/tenants/{tenant}/*/{id}").expect("a pattern");
        let path = Segments::of("/tenants/a%20b/orders/7");
        assert!(pattern.matches(&path));
        let captured: Vec<_> = pattern.captures().map(|(at, name)| (name, path.get(at).unwrap_or_default())).collect();
        assert_eq!(captured, [("tenant", "a b"), ("id", "7")]);
    }

    #[test]
    fn what_is_no_pattern_is_said_with_what_would_be() {
        for (text, expected) in [
            ("orders", "begins with `/`"),
            ("/a//b", "empty segment"),
            ("/**/b", "can only come last"),
            ("/a*", "mixes text and pattern"),
            ("/{}", "is no capture"),
            ("/{a-b}", "is no capture"),
            ("/{a}/{a}", "captures `{a}` twice"),
            ("/a/../b", "never reach a service"),
        ] {
            let message = PathPattern::parse(text).expect_err(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn names_match_globs_in_one_pass() {
        for (pattern, name, expected) in [
            ("shop/*", "shop/orders", true),
            ("shop/*", "shopping/orders", false),
            ("*/web", "shop/web", true),
            ("ci-*", "ci-runner", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXcYb", false),
            ("a*a", "a", false),
            ("*x*", "axb", true),
        ] {
            assert_eq!(is_like(name, pattern), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn selectors_are_names_patterns_or_networks() {
        assert_eq!(Selector::parse("*"), Ok(Selector::Everything));
        assert!(matches!(Selector::parse("10.0.0.0/8"), Ok(Selector::Network(_))));
        assert!(matches!(Selector::parse("fd00::1"), Ok(Selector::Network(_))));
        assert!(matches!(Selector::parse("python3:inventory.py"), Ok(Selector::Name(_))));
        for text in ["", "shop orders", "10.1.2.3/8"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
        assert!(method("get").expect_err("small").contains("capital letters"));
    }
}
