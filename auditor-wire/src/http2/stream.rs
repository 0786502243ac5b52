//! One direction of a connection: bytes in order, and holes, to header blocks and the ends of streams.
//!
//! [`Parser::data`] stops behind every event. Payloads that are not wanted are skipped by arithmetic: sources need not copy them.

use crate::buffer::SecretBuffer;
use crate::exchange::UnknownReason;
use crate::http1::stream::Chunk;
use crate::http2::frame::{self, Header};
use crate::http2::head::Fields;
use crate::http2::hpack::Decoder;
use crate::reassembly::{Hole, Missing, Need};
use crate::segment::Timestamp;

/// What was found, where it began, and when.
#[derive(Debug)]
pub struct Event {
    /// First byte's time.
    pub time: Timestamp,
    /// First byte's sequence number.
    pub sequence: u32,
    /// The stream; 0 is the connection.
    pub stream: u32,
    /// What it is.
    pub what: What,
}

/// What was found.
#[derive(Debug)]
pub enum What {
    /// A header block; whether it ends its direction of the stream.
    Block(Box<Fields>, bool),
    /// The direction of the stream ends.
    End,
    /// The stream is ended at once, in both directions.
    Reset,
    /// Frames may have been missed here.
    Lost,
}

/// Parser of one direction.
pub struct Parser {
    state: State,
    decoder: Decoder,
    /// The header block under way.
    block: Option<Box<Block>>,
    /// The position in the stream was never in doubt: what is not plausible is the peer's doing.
    certain: bool,
    /// The client's preface was seen.
    greeted: bool,
}

enum State {
    /// In the client's preface, so many bytes of it passed.
    Preface(usize),
    /// In a frame's header.
    Header { bytes: [u8; frame::HEADER], held: usize, time: Timestamp, sequence: u32 },
    /// In a payload of which nothing is wanted.
    Skip(u32),
    /// In a payload that is wanted.
    Payload(Box<Partial>),
    /// Somewhere: a segment that begins with a plausible frame is believed.
    Astray,
}

/// A frame whose payload is gathered.
struct Partial {
    header: Header,
    buffer: SecretBuffer,
    time: Timestamp,
    sequence: u32,
}

/// A header block that goes on in further frames.
struct Block {
    stream: u32,
    promised: bool,
    ends: bool,
    time: Timestamp,
    sequence: u32,
    buffer: SecretBuffer,
    /// It cannot be read any more, and why.
    unread: Option<UnknownReason>,
}

const BETWEEN: State = State::Header { bytes: [0; frame::HEADER], held: 0, time: Timestamp(0), sequence: 0 };

impl Parser {
    /// A client's direction from its first byte, the preface.
    #[must_use]
    pub fn client() -> Self {
        Self { state: State::Preface(0), ..Self::server() }
    }

    /// A server's direction from its first byte.
    #[must_use]
    pub fn server() -> Self {
        Self { state: BETWEEN, decoder: Decoder::default(), block: None, certain: true, greeted: false }
    }

    /// A direction from somewhere in its middle.
    #[must_use]
    pub fn astray() -> Self {
        let mut decoder = Decoder::default();
        decoder.lose();
        Self { state: State::Astray, decoder, block: None, certain: false, greeted: false }
    }

    /// What is needed next.
    #[must_use]
    pub fn need(&self) -> Need {
        match &self.state {
            State::Skip(left) => Need::Body(u64::from(*left)),
            State::Astray => Need::Unframed,
            State::Preface(_) | State::Header { .. } | State::Payload(_) => Need::Bytes,
        }
    }

    /// Whether the position in the stream is not known.
    #[must_use]
    pub fn is_astray(&self) -> bool {
        matches!(self.state, State::Astray)
    }

    /// Whether the client's preface was seen.
    #[must_use]
    pub fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// Whether the client's preface is what comes next, whole.
    #[must_use]
    pub fn is_at_preface(&self) -> bool {
        matches!(self.state, State::Preface(0))
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn buffered(&self) -> usize {
        let partial = match &self.state {
            State::Payload(partial) => size_of::<Partial>() + partial.buffer.len(),
            _ => 0,
        };
        let block = self.block.as_ref().map_or(0, |block| size_of::<Block>() + block.buffer.len());
        partial + block + self.decoder.buffered()
    }

    /// Reads on; stops behind an event, else at the end of `chunk`. Blocks and heads above `limit` bytes are not read.
    pub fn data(&mut self, chunk: &mut Chunk<'_>, limit: usize) -> Option<Event> {
        while !chunk.bytes.is_empty() {
            let event = match &mut self.state {
                State::Preface(passed) => {
                    let here = chunk.bytes.len().min(frame::PREFACE.len() - *passed);
                    let fits = chunk.bytes[..here] == frame::PREFACE[*passed..*passed + here];
                    *passed += here;
                    let whole = *passed == frame::PREFACE.len();
                    chunk.take(here);
                    if !fits {
                        self.stray(chunk)
                    } else {
                        if whole {
                            (self.state, self.greeted) = (BETWEEN, true);
                        }
                        None
                    }
                }
                State::Header { bytes, held, time, sequence } => {
                    if *held == 0 {
                        (*time, *sequence) = (chunk.time, chunk.sequence);
                    }
                    let here = chunk.bytes.len().min(frame::HEADER - *held);
                    bytes[*held..*held + here].copy_from_slice(chunk.take(here));
                    *held += here;
                    if *held < frame::HEADER {
                        return None;
                    }
                    let (header, time, sequence) = (Header::read(bytes), *time, *sequence);
                    self.begin(header, time, sequence, chunk, limit)
                }
                State::Skip(left) => {
                    let here = chunk.bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    chunk.take(here);
                    self.skipped(here);
                    None
                }
                State::Payload(partial) => {
                    let left = partial.left().min(chunk.bytes.len());
                    partial.buffer.push(chunk.take(left));
                    if partial.left() > 0 {
                        return None;
                    }
                    let State::Payload(partial) = std::mem::replace(&mut self.state, BETWEEN) else { return None };
                    let Partial { header, buffer, time, sequence } = *partial;
                    self.payload(header, buffer.as_slice(), (time, sequence), limit)
                }
                State::Astray => {
                    if chunk.begins && frame::plausible(chunk.bytes).is_some() {
                        self.state = BETWEEN;
                    } else {
                        chunk.take_all();
                    }
                    None
                }
            };
            if event.is_some() {
                return event;
            }
        }
        None
    }

    /// Passes over bytes that were not seen.
    pub fn hole(&mut self, hole: Hole, sequence: u32, time: Timestamp) -> Option<Event> {
        let missed = if hole.missing == Missing::Lost { UnknownReason::Gap } else { UnknownReason::HeadTruncated };
        match &self.state {
            State::Skip(left) if hole.length <= *left => {
                self.skipped(usize::try_from(hole.length).unwrap_or(usize::MAX));
                None
            }
            State::Payload(partial) if hole.length as usize <= partial.left() => {
                let State::Payload(partial) = std::mem::replace(&mut self.state, BETWEEN) else { return None };
                // At most a frame's length, which has 24 bits.
                self.state = State::Skip(u32::try_from(partial.left()).unwrap_or(u32::MAX));
                self.skipped(usize::try_from(hole.length).unwrap_or(usize::MAX));
                self.unread(partial.header, missed, (partial.time, partial.sequence))
            }
            State::Astray => {
                Some(Event { time, sequence, stream: 0, what: What::Lost }).filter(|_| hole.missing == Missing::Lost)
            }
            _ => Some(self.give_up(sequence, time)),
        }
    }

    /// The position in the stream is not known any more.
    fn give_up(&mut self, sequence: u32, time: Timestamp) -> Event {
        *self = Self { greeted: self.greeted, ..Self::astray() };
        Event { time, sequence, stream: 0, what: What::Lost }
    }

    /// What stands here cannot be: so neither is what follows known.
    fn stray(&mut self, chunk: &mut Chunk<'_>) -> Option<Event> {
        let event = self.give_up(chunk.sequence, chunk.time);
        chunk.take_all();
        Some(event)
    }

    fn skipped(&mut self, count: usize) {
        let State::Skip(left) = &mut self.state else { return };
        *left = left.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        if *left == 0 {
            self.state = BETWEEN;
        }
    }

    /// A frame begins: what is done with its payload.
    fn begin(
        &mut self,
        header: Header,
        time: Timestamp,
        sequence: u32,
        chunk: &mut Chunk<'_>,
        limit: usize,
    ) -> Option<Event> {
        if !self.certain && !header.may_follow() {
            return self.stray(chunk);
        }
        let Header { length, kind, flags, stream } = header;
        let event = |what| Some(Event { time, sequence, stream, what });
        self.state = if length == 0 { BETWEEN } else { State::Skip(length) };
        let goes_on = Some(stream).filter(|_| kind == frame::CONTINUATION);
        if self.block.as_ref().map(|block| block.stream) != goes_on {
            // The peer ends the connection (RFC 9113 section 6.2); what it would have made of the block is not known.
            self.block = None;
            self.decoder.lose();
        }
        match kind {
            frame::HEADERS | frame::PUSH_PROMISE | frame::CONTINUATION => {}
            frame::DATA if flags & frame::END_STREAM != 0 => return event(What::End),
            frame::RST_STREAM => return event(What::Reset),
            _ => return None,
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > limit {
            return self.unread(header, UnknownReason::HeadTruncated, (time, sequence));
        }
        if chunk.bytes.len() >= length {
            self.state = BETWEEN;
            let payload = chunk.take(length);
            return self.payload(header, payload, (time, sequence), limit);
        }
        let buffer = SecretBuffer::with_capacity(length);
        self.state = State::Payload(Box::new(Partial { header, buffer, time, sequence }));
        None
    }

    /// A payload that is wanted is there.
    fn payload(
        &mut self,
        header: Header,
        payload: &[u8],
        (time, sequence): (Timestamp, u32),
        limit: usize,
    ) -> Option<Event> {
        let Some(fragment) = fragment(header, payload) else {
            return self.unread(header, UnknownReason::Malformed, (time, sequence));
        };
        let whole = header.flags & frame::END_HEADERS != 0;
        if header.kind != frame::CONTINUATION {
            let mut block = Block::new(header, (time, sequence), None);
            if whole {
                return self.decode(&block, fragment, limit);
            }
            block.buffer.push(fragment);
            self.block = Some(Box::new(block));
            return None;
        }
        let block = self.block.as_mut()?;
        if block.buffer.len() + fragment.len() > limit {
            block.unread = Some(UnknownReason::HeadTruncated);
            block.buffer = SecretBuffer::default();
        }
        if block.unread.is_none() {
            block.buffer.push(fragment);
        }
        if !whole {
            return None;
        }
        let block = self.block.take()?;
        self.decode(&block, block.buffer.as_slice(), limit)
    }

    /// A frame of a header block that cannot be read.
    fn unread(&mut self, header: Header, reason: UnknownReason, at: (Timestamp, u32)) -> Option<Event> {
        self.decoder.lose();
        let mut block = match self.block.take() {
            Some(block) if header.kind == frame::CONTINUATION => block,
            _ => Box::new(Block::new(header, at, None)),
        };
        block.unread = block.unread.or(Some(reason));
        block.buffer = SecretBuffer::default();
        if header.flags & frame::END_HEADERS != 0 {
            return self.decode(&block, &[], 0);
        }
        self.block = Some(block);
        None
    }

    /// A header block is there whole.
    fn decode(&mut self, block: &Block, bytes: &[u8], limit: usize) -> Option<Event> {
        let mut fields = match block.unread {
            Some(reason) => Fields::unread(reason),
            None => Fields::default(),
        };
        if block.unread.is_some() {
            self.decoder.lose();
        } else if self.decoder.decode(bytes, &mut |field| fields.put(field.name, field.value, limit)).is_err() {
            fields = Fields::unread(UnknownReason::Malformed);
        }
        // What a server pushes nobody asked for; its block counts for the table alone.
        (!block.promised).then(|| Event {
            time: block.time,
            sequence: block.sequence,
            stream: block.stream,
            what: What::Block(Box::new(fields), block.ends),
        })
    }
}

impl Partial {
    /// Bytes that are still to come.
    fn left(&self) -> usize {
        usize::try_from(self.header.length).unwrap_or(usize::MAX).saturating_sub(self.buffer.len())
    }
}

impl Block {
    fn new(header: Header, (time, sequence): (Timestamp, u32), unread: Option<UnknownReason>) -> Self {
        Self {
            stream: header.stream,
            promised: header.kind == frame::PUSH_PROMISE,
            ends: header.kind == frame::HEADERS && header.flags & frame::END_STREAM != 0,
            time,
            sequence,
            buffer: SecretBuffer::default(),
            unread,
        }
    }
}

/// The part of a header block that a payload holds (RFC 9113 sections 6.2, 6.6 and 6.10).
fn fragment(header: Header, payload: &[u8]) -> Option<&[u8]> {
    let (mut rest, mut padding) = (payload, 0);
    if header.kind != frame::CONTINUATION && header.flags & frame::PADDED != 0 {
        let (length, behind) = rest.split_first()?;
        (rest, padding) = (behind, usize::from(*length));
    }
    let before = match header.kind {
        frame::HEADERS if header.flags & frame::PRIORITIZED != 0 => 5,
        frame::PUSH_PROMISE => 4,
        _ => 0,
    };
    let rest = rest.get(before..)?;
    rest.get(..rest.len().checked_sub(padding)?)
}
