//! One direction of a connection: bytes in order, and holes, to messages' heads.
//!
//! [`Parser::data`] stops behind every event, so that the caller can say how the body is framed ([`Parser::frame`]) before the
//! bytes that follow are read: a response's framing depends on its request. Bodies are skipped by arithmetic.

use crate::buffer::SecretBuffer;
use crate::detect::{self, Guess};
use crate::exchange::UnknownReason;
use crate::http1::chunked::{Chunks, Progress};
use crate::http1::framing::Framing;
use crate::http1::head::{self, RequestHead, ResponseHead};
use crate::reassembly::{Hole, Missing, Need};
use crate::segment::Timestamp;
use crate::tls::{self, Prelude};

/// Head bytes that the kernel source copies at least; behind them a hole is the end of its budget.
const LEAST_BUDGET: usize = 4096;

/// So many bytes of TLS tell which end sent them: a record's header and a message's type.
const TLS_BEGIN: usize = 6;

/// Behind so many bytes only the end of the first line changes what a stream is taken for.
const LONGEST_GUESS: usize = 64;

/// Which messages a direction carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Requests.
    Requests,
    /// Responses.
    Responses,
}

/// Bytes of the stream, not read yet.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// Sequence number of the first.
    pub sequence: u32,
    /// When they were captured.
    pub time: Timestamp,
    /// A segment begins here that may begin with a head.
    pub begins: bool,
}

/// What was found, where it began, and when.
#[derive(Debug)]
pub struct Event {
    /// First byte's time.
    pub time: Timestamp,
    /// First byte's sequence number.
    pub sequence: u32,
    /// What it is.
    pub what: What,
}

/// What was found in a stream.
#[derive(Debug)]
pub enum What {
    /// A request; its reason when its head was not read whole. [`Parser::frame`] must follow.
    Request(Option<RequestHead>, Option<UnknownReason>),
    /// A response; the reason when its head was not read whole. [`Parser::frame`] must follow.
    Response(ResponseHead, Option<UnknownReason>),
    /// TLS began, with these bytes and what is left of the chunk.
    Tls(Vec<u8>),
    /// HTTP/2 began, with these bytes and what is left of the chunk.
    Http2(Vec<u8>),
    /// What may precede TLS, or messages: it was passed over.
    Prelude,
    /// No known protocol.
    Other,
    /// Messages may have been missed here, for this reason.
    Lost(UnknownReason),
}

impl What {
    fn request(head: RequestHead) -> Self {
        let unknown = head.malformed.then_some(UnknownReason::Malformed);
        Self::Request(Some(head), unknown)
    }

    fn response(head: ResponseHead) -> Self {
        Self::Response(head, None)
    }

    /// Bytes of the head, where one was read.
    fn length(&self) -> Option<usize> {
        match self {
            Self::Request(head, _) => head.as_ref().map(|head| head.request.head.bytes().len()),
            Self::Response(head, _) => Some(head.response.head.bytes().len()),
            _ => None,
        }
    }
}

/// Parser of one direction.
#[derive(Default)]
pub struct Parser {
    state: State,
    kind: Option<Kind>,
    /// The request waits for leave to send its body, and none was given: a head may come in its place.
    body_optional: bool,
    /// The last request offered another protocol and was not answered: what follows may be no request.
    may_leave: bool,
}

#[derive(Default)]
enum State {
    /// At the begin of a message.
    #[default]
    Idle,
    /// In a head, or in what may be one.
    Head(Box<Partial>),
    Fixed(u64),
    Chunked(Chunks),
    UntilClose,
    /// A CONNECT request was sent; whether anything followed it.
    Undecided(bool),
    /// Somewhere: the next segment that begins with a whole head is believed.
    Astray,
    /// Nothing is read any more.
    Deaf,
}

/// A head's bytes so far.
struct Partial {
    buffer: SecretBuffer,
    time: Timestamp,
    sequence: u32,
    /// Where the line begins that has no end yet.
    line: usize,
    /// It was believed though the stream's position was not known: a failure is silent.
    found: bool,
    /// It is the begin of what may precede TLS: its length decides, not its lines.
    prelude: bool,
}

impl Parser {
    /// States what kind of messages come.
    pub fn expect(&mut self, kind: Kind) {
        self.kind = Some(kind);
    }

    /// What kind of messages come, where known.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// Says how the body behind the last head is delimited.
    pub fn frame(&mut self, framing: Framing) {
        self.body_optional = false;
        self.may_leave = false;
        self.state = match framing {
            Framing::Fixed(0) => State::Idle,
            Framing::Fixed(length) => State::Fixed(length),
            Framing::Chunked => State::Chunked(Chunks::START),
            Framing::UntilClose => State::UntilClose,
            Framing::Undecided => State::Undecided(false),
            Framing::Unknown => State::Astray,
            Framing::Tunnel => State::Deaf,
        };
    }

    /// The last request offered another protocol: what follows may be no request, should its answer not be seen.
    pub fn may_leave(&mut self) {
        self.may_leave = true;
    }

    /// The CONNECT request, or another protocol, was refused: messages go on.
    pub fn refuse(&mut self) {
        self.may_leave = false;
        match self.state {
            State::Undecided(false) => self.state = State::Idle,
            State::Undecided(true) => self.state = State::Astray,
            _ => {}
        }
    }

    /// The request was answered without leave to send its body: another head may come in its place.
    pub fn may_skip_body(&mut self) {
        self.body_optional = matches!(self.state, State::Fixed(_) | State::Chunked(Chunks::START));
    }

    /// Reads nothing any more.
    pub fn deafen(&mut self) {
        self.state = State::Deaf;
    }

    /// The stream's position is not known any more.
    pub fn stray(&mut self) {
        self.state = State::Astray;
    }

    /// Whether the next byte begins a message.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// A message begins at the next byte: all before it was passed over whole.
    pub fn resume(&mut self) {
        if !self.is_deaf() {
            self.frame(Framing::Fixed(0));
        }
    }

    /// Passes over the rest of a body of a stated length.
    pub fn skip_body(&mut self) {
        if matches!(self.state, State::Fixed(_)) {
            self.state = State::Idle;
        }
    }

    /// Whether nothing is read any more.
    #[must_use]
    pub fn is_deaf(&self) -> bool {
        matches!(self.state, State::Deaf)
    }

    /// Whether the stream's position is not known.
    #[must_use]
    pub fn is_astray(&self) -> bool {
        matches!(self.state, State::Astray)
    }

    /// Whether a response's head may begin here in a stream whose position is not known.
    #[must_use]
    pub fn is_response_found(&self, bytes: &[u8]) -> bool {
        self.is_astray() && self.looks_like_head(bytes)
    }

    /// What is needed next. Behind a head's byte budget a source that copies heads only has nothing more of it.
    #[must_use]
    pub fn need(&self) -> Need {
        match &self.state {
            State::Head(partial) if partial.buffer.len() >= LEAST_BUDGET => Need::Unframed,
            State::Idle | State::Head(_) => Need::Bytes,
            State::Fixed(left) => Need::Body(*left),
            State::Chunked(_) | State::UntilClose | State::Undecided(_) | State::Astray | State::Deaf => Need::Unframed,
        }
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn buffered(&self) -> usize {
        match &self.state {
            State::Head(partial) => partial.buffer.len() + size_of::<Partial>(),
            _ => 0,
        }
    }

    /// Reads on; stops behind an event, else at the end of `chunk`. `fits` tells whether a message may begin here by what is
    /// known of the other direction; it matters only where the stream's position is not known.
    pub fn data(&mut self, chunk: &mut Chunk<'_>, head_limit: usize, fits: bool) -> Option<Event> {
        while !chunk.bytes.is_empty() {
            if self.body_optional {
                self.body_optional = false;
                if self.looks_like_head(chunk.bytes) {
                    // Or it is the body after all, whose leave to be sent was not seen: then it says nothing.
                    self.state = State::Astray;
                }
            }
            match &mut self.state {
                State::Idle => {
                    let blank = chunk.bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                    chunk.take(blank);
                    if !chunk.bytes.is_empty()
                        && let Some(event) = self.begin(chunk, head_limit, self.may_leave)
                    {
                        return Some(event);
                    }
                }
                State::Head(_) => {
                    if let Some(event) = self.go_on(chunk, head_limit) {
                        return Some(event);
                    }
                }
                State::Fixed(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(chunk.bytes.len());
                    *left -= here as u64;
                    if *left == 0 {
                        self.state = State::Idle;
                    }
                    chunk.take(here);
                }
                State::Chunked(chunks) => match chunks.follow(chunk.bytes) {
                    Progress::Goes => chunk.take_all(),
                    Progress::Ended(used) => {
                        chunk.take(used);
                        self.state = State::Idle;
                    }
                    Progress::Broken => {
                        let event = chunk.event(What::Lost(UnknownReason::Malformed));
                        chunk.take_all();
                        self.state = State::Astray;
                        return Some(event);
                    }
                },
                State::Undecided(followed) => {
                    *followed = true;
                    chunk.take_all();
                }
                State::Astray => {
                    if chunk.begins && fits && self.looks_like_head(chunk.bytes) {
                        if let Some(event) = self.begin(chunk, head_limit, true) {
                            return Some(event);
                        }
                    } else {
                        chunk.take_all();
                    }
                }
                State::UntilClose | State::Deaf => chunk.take_all(),
            }
        }
        None
    }

    /// Passes over bytes that were not seen.
    pub fn hole(&mut self, hole: Hole, sequence: u32, time: Timestamp) -> Option<Event> {
        let count = u64::from(hole.length);
        let lost = hole.missing == Missing::Lost;
        match &mut self.state {
            State::Head(_) => {
                let reason = if lost { UnknownReason::Gap } else { UnknownReason::HeadTruncated };
                let event = self.give_up(reason);
                // Whatever had begun, whole messages may be gone with its end.
                let missed = Event { time, sequence, what: What::Lost(UnknownReason::Gap) };
                return event.or((lost && !self.is_deaf()).then_some(missed));
            }
            State::Fixed(left) if count <= *left => {
                self.body_optional = false;
                *left -= count;
                if *left == 0 {
                    self.state = State::Idle;
                }
                return None;
            }
            State::Chunked(chunks) => {
                if chunks.skip(count) {
                    return None;
                }
            }
            State::UntilClose | State::Deaf => return None,
            State::Undecided(followed) => {
                *followed = true;
                return None;
            }
            State::Idle | State::Fixed(_) | State::Astray => {}
        }
        // A body whose end cannot be told: the next head tells it. Only a loss can have taken a whole message with it.
        let expected = !lost && matches!(self.state, State::Chunked(_) | State::Astray);
        self.state = State::Astray;
        if expected {
            return None;
        }
        Some(Event { time, sequence, what: What::Lost(UnknownReason::Gap) })
    }

    /// Gives up a head that has begun and will not be completed.
    pub fn give_up(&mut self, reason: UnknownReason) -> Option<Event> {
        match std::mem::replace(&mut self.state, State::Astray) {
            State::Head(partial) => self.cut(*partial, reason),
            other => {
                self.state = other;
                None
            }
        }
    }

    fn looks_like_head(&self, bytes: &[u8]) -> bool {
        match (detect::guess(bytes), self.kind) {
            (Guess::Request, None | Some(Kind::Requests)) => detect::is_common_method(bytes),
            (Guess::Response, None | Some(Kind::Responses)) => true,
            (Guess::Http2, None) => bytes.starts_with(b"PRI"),
            (Guess::Tls, None) => true,
            (Guess::More, Some(Kind::Responses)) => bytes.starts_with(b"HTTP/") || b"HTTP/".starts_with(bytes),
            (Guess::More, Some(Kind::Requests)) if detect::begins_common_method(bytes) => true,
            (Guess::More, _) => detect::is_common_method(bytes) && detect::cut_request(bytes),
            _ => false,
        }
    }

    /// A message begins here. A head that is here whole is copied once, where it stays.
    fn begin(&mut self, chunk: &mut Chunk<'_>, head_limit: usize, found: bool) -> Option<Event> {
        let (time, sequence) = (chunk.time, chunk.sequence);
        if self.kind.is_some() || matches!(detect::guess(chunk.bytes), Guess::Request | Guess::Response) {
            self.kind = self.kind.or_else(|| kind_of(detect::guess(chunk.bytes)));
            let here = &chunk.bytes[..chunk.bytes.len().min(head_limit)];
            let read = match self.kind {
                Some(Kind::Responses) => head::whole_response(here, sequence).map(What::response),
                _ => head::whole_request(here, sequence).map(What::request),
            };
            if let Some(what) = read.or_else(|| head::end(here, 0).ok().map(|_| self.unreadable())) {
                let rare = found && self.is_rare_method(here);
                let length = what.length();
                let event = self.tell(what, time, sequence, found, rare);
                // What cannot be read as a head is passed over as a whole: where it ends is not known.
                chunk.take(length.filter(|_| event.is_some()).unwrap_or(chunk.bytes.len()));
                return event;
            }
        }
        let partial = Partial { buffer: SecretBuffer::default(), time, sequence, line: 0, found, prelude: false };
        self.state = State::Head(Box::new(partial));
        self.go_on(chunk, head_limit)
    }

    /// More of a head that was not whole.
    fn go_on(&mut self, chunk: &mut Chunk<'_>, head_limit: usize) -> Option<Event> {
        let State::Head(partial) = &mut self.state else { return None };
        let before = partial.buffer.len();
        partial.buffer.push(&chunk.bytes[..chunk.bytes.len().min(head_limit.saturating_sub(before))]);
        let bytes = partial.buffer.as_slice();
        // The guess is made of the first line: it does not change before that ends. Asking at every byte would be quadratic.
        let undecided = !partial.prelude
            && before > LONGEST_GUESS
            && bytes.len() < head_limit
            && memchr::memchr(b'\n', &bytes[before..]).is_none();
        if self.kind.is_none() && !undecided {
            match detect::guess(bytes) {
                Guess::More if bytes.len() < head_limit => {
                    chunk.take_all();
                    return None;
                }
                Guess::Tls if bytes.len() < TLS_BEGIN => {
                    chunk.take_all();
                    return None;
                }
                Guess::Request => self.kind = Some(Kind::Requests),
                Guess::Response => self.kind = Some(Kind::Responses),
                guess => return self.not_http(guess, chunk, before),
            }
        }
        if self.kind.is_none() {
            chunk.take_all();
            return None;
        }
        match head::end(bytes, partial.line) {
            Ok(end) => {
                let State::Head(partial) = std::mem::take(&mut self.state) else { return None };
                chunk.take(end - before);
                let mut buffer = partial.buffer;
                buffer.truncate(end);
                let rare = partial.found && self.is_rare_method(buffer.as_slice());
                let bytes = buffer.into_vec();
                let read = match self.kind {
                    Some(Kind::Responses) => head::response(bytes, partial.sequence).map(What::response),
                    _ => head::request(bytes, partial.sequence).map(What::request),
                };
                let what = read.unwrap_or_else(|| self.unreadable());
                let is_read = what.length().is_some();
                let event = self.tell(what, partial.time, partial.sequence, partial.found, rare);
                if !is_read || event.is_none() {
                    chunk.take_all();
                }
                event
            }
            Err(line) => {
                partial.line = line;
                if bytes.len() >= head_limit {
                    chunk.take_all();
                    return self.give_up(UnknownReason::HeadTruncated);
                }
                chunk.take_all();
                None
            }
        }
    }

    /// The first bytes of a stream are not HTTP/1.
    fn not_http(&mut self, guess: Guess, chunk: &mut Chunk<'_>, before: usize) -> Option<Event> {
        let State::Head(mut partial) = std::mem::take(&mut self.state) else { return None };
        let (time, sequence) = (partial.time, partial.sequence);
        if matches!(guess, Guess::Tls | Guess::Http2) {
            let begun = partial.buffer.as_slice()[..before].to_vec();
            self.state = State::Deaf;
            let what = if guess == Guess::Tls { What::Tls(begun) } else { What::Http2(begun) };
            return Some(Event { time, sequence, what });
        }
        match prelude(partial.buffer.as_slice()) {
            Prelude::Pass(length) if length > before && !partial.found => {
                chunk.take(length - before);
                return Some(Event { time, sequence, what: What::Prelude });
            }
            Prelude::More if !partial.found => {
                chunk.take_all();
                partial.prelude = true;
                self.state = State::Head(partial);
                return None;
            }
            _ => chunk.take_all(),
        }
        if partial.found {
            self.state = State::Astray;
            return None;
        }
        self.state = State::Deaf;
        Some(Event { time, sequence, what: What::Other })
    }

    /// Whether bytes that were believed to be a request begin with a method that is hardly used.
    fn is_rare_method(&self, bytes: &[u8]) -> bool {
        self.kind != Some(Kind::Responses) && !detect::is_common_method(bytes)
    }

    /// A head with its end that cannot be read.
    fn unreadable(&self) -> What {
        match self.kind {
            Some(Kind::Responses) => What::Lost(UnknownReason::Malformed),
            _ => What::Request(None, Some(UnknownReason::Malformed)),
        }
    }

    /// Tells of a head with its end.
    fn tell(&mut self, what: What, time: Timestamp, sequence: u32, found: bool, rare: bool) -> Option<Event> {
        self.state = State::Astray;
        let silent = rare || found && !matches!(what, What::Request(Some(_), None) | What::Response(..));
        (!silent).then_some(Event { time, sequence, what })
    }

    /// A head without its end. Its lines that are whole are true; what it says of its body is not to be relied on.
    fn cut(&mut self, partial: Partial, reason: UnknownReason) -> Option<Event> {
        let (time, sequence, found) = (partial.time, partial.sequence, partial.found);
        let kind = self.kind.or_else(|| match detect::guess(partial.buffer.as_slice()) {
            Guess::More if detect::cut_request(partial.buffer.as_slice()) => Some(Kind::Requests),
            guess => kind_of(guess),
        });
        let what = match kind {
            Some(Kind::Requests) => {
                self.kind = kind;
                let rare = !detect::is_common_method(partial.buffer.as_slice());
                let head = head::request(partial.buffer.into_vec(), sequence);
                if found && (rare || head.is_none()) {
                    return None;
                }
                What::Request(head, Some(reason))
            }
            Some(Kind::Responses) => {
                self.kind = kind;
                match head::response(partial.buffer.into_vec(), sequence) {
                    Some(head) => What::Response(head, Some(reason)),
                    None if found => return None,
                    None => What::Lost(reason),
                }
            }
            None if found => return None,
            None if reason == UnknownReason::Gap => What::Lost(reason),
            None => What::Other,
        };
        Some(Event { time, sequence, what })
    }
}

/// What may precede TLS. Of a header of the PROXY protocol, version 2, the empty lines it begins with were passed over.
fn prelude(bytes: &[u8]) -> Prelude {
    const EMPTY_LINES: &[u8] = b"\r\n\r\n";
    match tls::prelude(bytes) {
        Prelude::None if bytes.first() == Some(&0) => match tls::prelude(&[EMPTY_LINES, bytes].concat()) {
            Prelude::Pass(length) => length.checked_sub(EMPTY_LINES.len()).map_or(Prelude::None, Prelude::Pass),
            other => other,
        },
        other => other,
    }
}

fn kind_of(guess: Guess) -> Option<Kind> {
    match guess {
        Guess::Request => Some(Kind::Requests),
        Guess::Response => Some(Kind::Responses),
        _ => None,
    }
}

impl<'a> Chunk<'a> {
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(count);
        self.bytes = rest;
        // Positions wrap as sequence numbers do; a chunk is shorter than 2^32.
        #[expect(clippy::cast_possible_truncation, reason = "sequence numbers are modulo 2^32")]
        let advance = count as u32;
        self.sequence = self.sequence.wrapping_add(advance);
        self.begins &= count == 0;
        taken
    }

    pub(crate) fn take_all(&mut self) {
        self.take(self.bytes.len());
    }

    fn event(&self, what: What) -> Event {
        Event { time: self.time, sequence: self.sequence, what }
    }
}
