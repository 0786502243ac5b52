//! Heads of HTTP/1 messages (RFC 9112 sections 2 to 5): start line and header lines, in one pass, copied nowhere.
//!
//! Where servers are known to read a line differently (folded lines, white space before the colon, control characters, no
//! colon) the line's header is left out and the head is `malformed`: what it says cannot be judged.

use zeroize::Zeroizing;

use crate::buffer::SecretBuffer;
use crate::detect::is_token;
use crate::exchange::{Deviations, Field, Head, Request, Response, Version};
use crate::http1::framing::{Asked, BodyLength, Lengths};
use crate::http1::words;

/// Most heads have fewer header lines: room is made for so many.
const FEW_LINES: usize = 16;

/// A request's head, read.
#[derive(Debug)]
pub struct RequestHead {
    /// What it says.
    pub request: Request,
    /// Not all servers read it the same.
    pub malformed: bool,
    /// Ways in which it bends the rules.
    pub deviations: Deviations,
    /// What it says of its body.
    pub length: BodyLength,
    /// What its response's framing depends on.
    pub asked: Asked,
    /// It waits for `100 Continue` before its body (RFC 9110 section 10.1.1).
    pub expects_continue: bool,
}

/// A response's head, read.
#[derive(Debug)]
pub struct ResponseHead {
    /// What it says.
    pub response: Response,
    /// Ways in which it bends the rules.
    pub deviations: Deviations,
    /// What it says of its body.
    pub length: BodyLength,
}

/// Where a head ends in `bytes`, behind its empty line, searched from `from`, which stands at or before the last line's begin.
/// `Err` says where to search from when more bytes have come.
pub(crate) fn end(bytes: &[u8], from: usize) -> Result<usize, usize> {
    let mut line = from;
    while let Some(length) = memchr::memchr(b'\n', &bytes[line..]) {
        match bytes[line..line + length] {
            [] | [b'\r'] => return Ok(line + length + 1),
            _ => line += length + 1,
        }
    }
    Err(line)
}

/// Reads a request's head from all its bytes, or from what there is of them: a line without end is left out.
///
/// `None` when not even the request line can be read.
pub fn request(bytes: Vec<u8>, sequence: u32) -> Option<RequestHead> {
    let bytes = SecretBuffer::from(bytes);
    let (mut head, lines) = read_request(&bytes, sequence)?;
    head.request.head = Head::with_fields(bytes, lines.fields);
    Some(head)
}

/// Reads a request's head that `bytes` begin with, and copies that far. `None` when it is not there whole, or cannot be read.
pub(crate) fn whole_request(bytes: &[u8], sequence: u32) -> Option<RequestHead> {
    let (mut head, lines) = read_request(bytes, sequence)?;
    head.request.head = Head::with_fields(bytes[..lines.end?].to_vec().into(), lines.fields);
    Some(head)
}

/// Reads all but the bytes themselves.
fn read_request(bytes: &[u8], sequence: u32) -> Option<(RequestHead, Lines)> {
    let first = LineEnd::find(bytes, 0)?;
    let line = RequestLine::read(&bytes[..first.text])?;
    let mut lines = Lines { malformed: line.malformed, ..Lines::default() };
    lines.deviations.bare_lf = first.bare_lf;
    lines.read(bytes, first.next, false);
    let length = match lines.lengths.conclude(line.minor_version, &mut lines.deviations) {
        _ if lines.malformed => BodyLength::Ambiguous,
        length => length,
    };
    let asked = Asked { upgrade: lines.upgrade, ..Asked::by(line.method) };
    let target = Target::read(line.target, asked.connect);
    let malformed = lines.malformed || target.malformed || lines.hosts_differ;
    let host = lines.host.and_then(|(from, to)| authority(&bytes[from..to]));
    let request = Request {
        method: line.method.into(),
        authority: target.authority.or(if lines.hosts_differ { None } else { host }),
        path: target.path,
        query: target.query,
        userinfo: target.userinfo,
        version: Version::Http1(line.minor_version),
        head: Head::default(),
        sequence,
    };
    let (deviations, expects_continue) = (lines.deviations, lines.expects_continue);
    Some((RequestHead { malformed, deviations, length, asked, expects_continue, request }, lines))
}

/// Reads a response's head from all its bytes, or from what there is of them.
pub fn response(bytes: Vec<u8>, sequence: u32) -> Option<ResponseHead> {
    let bytes = SecretBuffer::from(bytes);
    let (mut head, lines) = read_response(&bytes, sequence)?;
    head.response.head = Head::with_fields(bytes, lines.fields);
    Some(head)
}

/// Reads a response's head that `bytes` begin with, and copies that far. `None` when it is not there whole, or cannot be read.
pub(crate) fn whole_response(bytes: &[u8], sequence: u32) -> Option<ResponseHead> {
    let (mut head, lines) = read_response(bytes, sequence)?;
    head.response.head = Head::with_fields(bytes[..lines.end?].to_vec().into(), lines.fields);
    Some(head)
}

/// Reads all but the bytes themselves.
fn read_response(bytes: &[u8], sequence: u32) -> Option<(ResponseHead, Lines)> {
    let first = LineEnd::find(bytes, 0)?;
    let (minor_version, status) = status_line(&bytes[..first.text])?;
    let mut lines = Lines::default();
    lines.deviations.bare_lf = first.bare_lf;
    lines.read(bytes, first.next, true);
    let length = match lines.lengths.conclude(minor_version, &mut lines.deviations) {
        _ if lines.malformed => BodyLength::Ambiguous,
        length => length,
    };
    let response = Response { status, head: Head::default(), sequence };
    Some((ResponseHead { response, deviations: lines.deviations, length }, lines))
}

/// `HTTP/1.1 200 OK` (RFC 9112 section 4); the reason may be missing, with its space.
fn status_line(line: &[u8]) -> Option<(u8, u16)> {
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'9', b' ', rest @ ..] = line else { return None };
    let [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', reason @ ..] = rest else { return None };
    let digit = |byte: &u8| u16::from(byte - b'0');
    matches!(reason, [] | [b' ', ..]).then(|| (minor - b'0', digit(a) * 100 + digit(b) * 10 + digit(c)))
}

/// Where a line ends.
struct LineEnd {
    /// Its text ends before this.
    text: usize,
    /// The next line begins here.
    next: usize,
    /// It ends in LF alone.
    bare_lf: bool,
    /// A control character other than the tab stands in it.
    control: bool,
}

impl LineEnd {
    /// The end of the line that begins at `from`, which lies inside `bytes` or at their end.
    #[inline]
    fn find(bytes: &[u8], from: usize) -> Option<Self> {
        let (mut at, mut control) = (from, false);
        loop {
            at += words::before_control(&bytes[at..]);
            match bytes[at..] {
                [] => return None,
                [b'\n', ..] => return Some(Self { text: at, next: at + 1, bare_lf: true, control }),
                [b'\r', b'\n', ..] => return Some(Self { text: at, next: at + 2, bare_lf: false, control }),
                [b'\t', ..] => {}
                [..] => control = true,
            }
            at += 1;
        }
    }
}

/// A request line, split.
struct RequestLine<'a> {
    method: &'a str,
    target: &'a [u8],
    minor_version: u8,
    malformed: bool,
}

impl<'a> RequestLine<'a> {
    /// Single spaces as RFC 9112 section 3 has it; else any white space, as some servers do, and malformed. A line that does
    /// not end with a protocol version is none: its words may be anything, a secret too.
    fn read(line: &'a [u8]) -> Option<Self> {
        let first = line.iter().position(|byte| !is_token(*byte))?;
        let strict = match line {
            [before @ .., b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9'] if line[first] == b' ' => {
                before.get(first + 1..).filter(|target| !target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f))
            }
            _ => None,
        };
        let Some(target) = strict.filter(|target| first > 0 && !target.is_empty()) else { return Self::odd(line) };
        let method = std::str::from_utf8(&line[..first]).ok()?;
        Some(Self { method, target, minor_version: line[line.len() - 1] - b'0', malformed: false })
    }

    #[cold]
    fn odd(line: &'a [u8]) -> Option<Self> {
        let first = memchr::memchr(b' ', line)?;
        let last = memchr::memrchr(b' ', line)?;
        let strict = first < last && !line[first + 1..last].iter().any(|byte| *byte <= b' ' || *byte == 0x7f);
        let (method, target, version) = if strict {
            (&line[..first], &line[first + 1..last], &line[last + 1..])
        } else {
            let line = line.trim_ascii();
            let first = line.iter().position(u8::is_ascii_whitespace)?;
            let last = line.iter().rposition(u8::is_ascii_whitespace)?;
            (&line[..first], line.get(first + 1..last)?.trim_ascii(), &line[last + 1..])
        };
        let method = std::str::from_utf8(method).ok().filter(|m| !m.is_empty() && m.bytes().all(is_token))?;
        if !version.starts_with(b"HTTP/") {
            return None;
        }
        let minor = match version {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'9'] => Some(minor - b'0'),
            _ => None,
        };
        let malformed = !strict || minor.is_none() || target.is_empty();
        Some(Self { method, target, minor_version: minor.unwrap_or(0), malformed })
    }
}

/// A request target (RFC 9112 section 3.2), taken apart.
struct Target {
    authority: Option<Box<str>>,
    path: Box<str>,
    query: Option<Zeroizing<String>>,
    userinfo: Option<Zeroizing<String>>,
    malformed: bool,
}

impl Target {
    fn read(target: &[u8], connect: bool) -> Self {
        let mut found = Self { authority: None, path: "".into(), query: None, userinfo: None, malformed: false };
        if connect {
            found.authority = authority(target);
            found.malformed = found.authority.is_none();
            return found;
        }
        let mut local = target;
        if !target.starts_with(b"/")
            && let Some(scheme) = target.windows(3).position(|part| part == b"://")
        {
            let rest = &target[scheme + 3..];
            let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
            let host = match memchr::memrchr(b'@', &rest[..end]) {
                Some(at) => {
                    found.userinfo = Some(printable(&rest[..at]));
                    &rest[at + 1..end]
                }
                None => &rest[..end],
            };
            found.authority = authority(host);
            local = &rest[end..];
            if !local.starts_with(b"/") {
                found.path = "/".into();
            }
        } else {
            found.malformed = !target.starts_with(b"/") && target != b"*";
        }
        let (path, rest) = local.split_at(find(local, |byte| matches!(byte, b'?' | b'#')));
        let query = rest.strip_prefix(b"?").map(|query| &query[..find(query, |byte| byte == b'#')]);
        if !path.is_empty() {
            found.path = match graphic(path) {
                Some(path) => path.into(),
                None => printable(path).as_str().into(),
            };
        }
        found.query = query.map(printable);
        found
    }
}

/// An authority without userinfo; `None` when empty or not printable.
fn authority(value: &[u8]) -> Option<Box<str>> {
    let value = value.iter().rposition(|byte| *byte == b'@').map_or(value, |at| &value[at + 1..]);
    graphic(value).filter(|text| !text.is_empty()).map(Into::into)
}

/// Where the first byte of a kind stands, or the end: for what is so short that looking at each byte is the quickest way.
fn find(bytes: &[u8], kind: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| kind(*byte)).unwrap_or(bytes.len())
}

/// Text all of which is printable ASCII without white space.
fn graphic(bytes: &[u8]) -> Option<&str> {
    (words::before_not_graphic(bytes) == bytes.len()).then(|| std::str::from_utf8(bytes).ok()).flatten()
}

/// Text in which all but printable ASCII is percent-encoded. It is allocated once, so that no copy is left behind.
fn printable(bytes: &[u8]) -> Zeroizing<String> {
    if let Some(text) = graphic(bytes) {
        return Zeroizing::new(text.to_owned());
    }
    let odd = bytes.iter().filter(|byte| !byte.is_ascii_graphic()).count();
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() + 2 * odd));
    for &byte in bytes {
        if byte.is_ascii_graphic() {
            text.push(char::from(byte));
        } else {
            let digit = |value: u8| char::from(b"0123456789ABCDEF"[usize::from(value & 15)]);
            text.extend(['%', digit(byte >> 4), digit(byte)]);
        }
    }
    text
}

/// What the header lines of a head say.
#[derive(Default)]
struct Lines {
    fields: Vec<Field>,
    lengths: Lengths,
    deviations: Deviations,
    malformed: bool,
    host: Option<(usize, usize)>,
    hosts_differ: bool,
    expects_continue: bool,
    upgrade: bool,
    /// Behind the empty line.
    end: Option<usize>,
}

impl Lines {
    /// Reads lines up to the empty one, or to the last that has an end.
    ///
    /// `lenient` is for responses: what a client does with white space before a colon is not what is judged.
    fn read(&mut self, bytes: &[u8], from: usize, lenient: bool) {
        self.fields.reserve_exact(FEW_LINES);
        let mut line = from;
        while let Some(end) = LineEnd::find(bytes, line) {
            self.deviations.bare_lf |= end.bare_lf;
            if end.text == line {
                self.end = Some(end.next);
                return;
            }
            self.line(bytes, line, &end, lenient);
            line = end.next;
        }
    }

    #[inline]
    fn line(&mut self, bytes: &[u8], start: usize, end: &LineEnd, lenient: bool) {
        let line = &bytes[start..end.text];
        // A colon is no byte of a token: one pass finds it, and that a name stands before it.
        let name = match line.iter().position(|byte| !is_token(*byte)) {
            Some(colon @ 1..) if line[colon] == b':' => colon,
            _ => match self.odd_line(line, lenient) {
                Some(name) => name,
                None => return,
            },
        };
        let colon = name + line[name..].iter().take_while(|byte| **byte != b':').count();
        let value = line[colon + 1..].trim_ascii();
        // RFC 9110 section 5.5. What stood around the value is gone.
        if end.control && value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            self.malformed = true;
            return;
        }
        let value_start = value.as_ptr().addr() - bytes.as_ptr().addr();
        let value_range = (value_start, value_start + value.len());
        self.field(&line[..name], value, value_range, bytes);
        if let Some(field) = Field::new((start, start + name), value_range) {
            self.fields.push(field);
        }
    }

    /// A line that is no `name:`; the length of its name when that counts nevertheless.
    #[cold]
    fn odd_line(&mut self, line: &[u8], lenient: bool) -> Option<usize> {
        if matches!(line[0], b' ' | b'\t') {
            // The value of the line before goes on: with or without what stands here is for each server to say.
            self.deviations.folded_header = true;
            self.malformed = true;
            self.fields.pop();
            return None;
        }
        let Some(colon) = memchr::memchr(b':', line) else {
            self.malformed = true;
            return None;
        };
        let name = line[..colon].trim_ascii_end();
        if name.len() != colon {
            self.deviations.space_before_colon = true;
            self.malformed |= !lenient;
        }
        let counts = !name.is_empty() && name.iter().all(|byte| is_token(*byte));
        self.malformed |= !counts;
        (counts && (lenient || name.len() == colon)).then_some(name.len())
    }

    /// Headers that the stream itself needs.
    fn field(&mut self, name: &[u8], value: &[u8], range: (usize, usize), bytes: &[u8]) {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => match self.host {
                None => self.host = Some(range),
                Some((from, to)) => self.hosts_differ |= !bytes[from..to].eq_ignore_ascii_case(value),
            },
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            14 if name.eq_ignore_ascii_case(b"content-length") => self.lengths.content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.lengths.transfer_encoding(value),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> RequestHead {
        request(text.as_bytes().to_vec(), 7).unwrap_or_else(|| panic!("no request in {text:?}"))
    }

    #[test]
    fn targets_are_taken_apart() {
        let cases = [
            ("GET /a/b?x=1&y#f", Some("host"), "/a/b", Some("x=1&y"), None),
            ("GET /?", Some("host"), "/", Some(""), None),
            ("GET http://u:p@other:81/c?d", Some("other:81"), "/c", Some("d"), Some("u:p")),
            ("GET http://other", Some("other"), "/", None, None),
            ("GET http://other?q", Some("other"), "/", Some("q"), None),
            ("GET /redirect?to=http://x@y/", Some("host"), "/redirect", Some("to=http://x@y/"), None),
            ("OPTIONS *", Some("host"), "*", None, None),
            ("CONNECT db:5432", Some("db:5432"), "", None, None),
        ];
        for (line, authority, path, query, userinfo) in cases {
            let head = read(&format!("{line} HTTP/1.1\r\nHost: host\r\n\r\n"));
            let found = &head.request;
            assert_eq!(found.authority.as_deref(), authority, "{line}");
            assert_eq!(&*found.path, path, "{line}");
            assert_eq!(found.query.as_ref().map(|query| query.as_str()), query, "{line}");
            assert_eq!(found.userinfo.as_ref().map(|userinfo| userinfo.as_str()), userinfo, "{line}");
            assert!(!head.malformed, "{line}");
        }
        let head = request(b"GET /\xc3\xa4 HTTP/1.1\r\n\r\n".to_vec(), 0).expect("a request");
        assert_eq!(&*head.request.path, "/%C3%A4");
        assert!(read("GET relative HTTP/1.1\r\n\r\n").malformed);
    }

    #[test]
    fn a_cut_head_keeps_its_whole_lines() {
        let text = "GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer abc";
        let head = read(text);
        let names: Vec<_> = head.request.head.headers().map(|(name, _)| name.to_vec()).collect();
        assert_eq!(names, [b"Host".to_vec()]);
        assert!(request(b"GET /cut".to_vec(), 0).is_none());
    }

    #[test]
    fn status_lines_are_read() {
        let cases = [
            ("HTTP/1.1 200 OK", Some((1, 200))),
            ("HTTP/1.0 404", Some((0, 404))),
            ("HTTP/1.1 204 ", Some((1, 204))),
            ("HTTP/1.1 20 OK", None),
            ("HTTP/1.1 2000", None),
            ("HTTP/2.0 200 OK", None),
            ("HTTP/1.1  200 OK", None),
        ];
        for (line, expected) in cases {
            assert_eq!(status_line(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn debug_shows_no_value() {
        let head = read("GET http://u:s3cret@h/p?token=s3cret HTTP/1.1\r\nAuthorization: Bearer s3cret\r\n\r\n");
        assert!(!format!("{head:?}").contains("s3cret"));
    }

    proptest! {
        /// What httparse reads is read the same here, and nothing it reads is called malformed without a reason of ours.
        #[test]
        fn agrees_with_httparse(lines in proptest::collection::vec("[A-Za-z-]{1,12}:[ \t]{0,2}[ -~]{0,20}", 0..8), path in "/[!-~]{0,20}") {
            let text = format!("GET {path} HTTP/1.1\r\n{}\r\n", lines.iter().map(|line| format!("{line}\r\n")).collect::<String>());
            let mut headers = [httparse::EMPTY_HEADER; 16];
            let mut reference = httparse::Request::new(&mut headers);
            if reference.parse(text.as_bytes()).is_ok_and(|status| status.is_complete()) {
                let head = request(text.as_bytes().to_vec(), 0).expect("what httparse reads is read");
                let ours: Vec<(Vec<u8>, Vec<u8>)> = head.request.head.headers().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
                let theirs: Vec<(Vec<u8>, Vec<u8>)> =
                    reference.headers.iter().map(|header| (header.name.as_bytes().to_vec(), header.value.to_vec())).collect();
                prop_assert_eq!(ours, theirs);
                let hosts_differ = head.request.authority.is_none();
                prop_assert!(!head.malformed || hosts_differ);
            }
        }

        /// Lines end where they end for those that look for LF alone.
        #[test]
        fn lines_end_at_lf(bytes in "[\r\n\t\x00-\x02 ab]{0,24}") {
            let mut start = 0;
            let mut expected = Vec::new();
            for line in bytes.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                let text = line.strip_suffix("\r\n").or(line.strip_suffix('\n')).unwrap_or(line);
                let control = text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t');
                expected.push((start, start + text.len(), !line.ends_with("\r\n"), control));
                start += line.len();
            }
            let (mut found, mut start) = (Vec::new(), 0);
            while let Some(end) = LineEnd::find(bytes.as_bytes(), start) {
                found.push((start, end.text, end.bare_lf, end.control));
                start = end.next;
            }
            prop_assert_eq!(found, expected);
        }

        /// A head that is there whole is read the same with and without what follows it.
        #[test]
        fn what_follows_a_head_changes_nothing(
            lines in "([A-Za-z:\t ]{0,9}\r?\n){0,5}\r?\n", cut in 0_usize..64, body in "[a\r\n:]{0,8}",
        ) {
            let head = format!("GET / HTTP/1.1\r\n{lines}");
            let end = end(head.as_bytes(), 0).expect("it ends");
            let (whole, rest) = (&head[..end], &head[end..]);
            let shown = |head: Option<RequestHead>| head.map(|head| format!("{head:?} {:?}", head.request.head.bytes()));
            let expected = shown(request(whole.into(), 1));
            prop_assert_eq!(shown(whole_request(format!("{whole}{rest}{body}").as_bytes(), 1)), expected);
            let cut = cut.min(end - 1);
            prop_assert!(whole_request(&whole.as_bytes()[..cut], 1).is_none());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = request(bytes.clone(), 0);
            let _ = response([b"HTTP/1.1 200\n".to_vec(), bytes].concat(), 0);
        }
    }
}
