//! A connection that turned out to be HTTP/2: its bytes go to parsers of frames, and calls are paired by stream.
//!
//! A call comes out with its response's head, like one of HTTP/1. One of gRPC comes out with its status, which stands behind the
//! body; a stream that stays open for long comes out without.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::exchange::{Deviations, Request, UnknownReason};
use crate::http1::stream::Chunk;
use crate::http2::frame;
use crate::http2::head::{Fields, Kind};
use crate::http2::stream::{Event, Parser, What};
use crate::reassembly::{Hole, Missing, Need, Part};
use crate::segment::{Direction, Owner, Timestamp};
use crate::tracker::connection::index;
use crate::tracker::pairing::ExchangeView;
use crate::tracker::view::View;

/// Calls of one connection that wait for their response. Servers allow some hundreds at once.
const MOST_WAITING: usize = 1024;

/// A gRPC call whose response began so long ago is told of without its status.
const LONGEST_OPEN: Duration = Duration::from_secs(60);

/// A response to a request that was not seen is told of after so long: longer than a segment waits for an earlier one, so that the
/// request does not come any more.
const LONGEST_EARLY: Duration = Duration::from_secs(5);

/// An HTTP/2 connection.
pub(crate) struct Multiplex {
    parsers: [Parser; 2],
    /// Which way the client's bytes go, once the preface or a head told.
    client: Option<Direction>,
    waiting: BTreeMap<u32, Waiting>,
    /// How many of them are early.
    early: usize,
    bytes: usize,
    /// Gone since the begin: the highest stream with a request.
    highest: u32,
    /// Streams whose requests may have been missed, from the first to the one before the second, and why.
    missed: Option<(u32, u32, UnknownReason)>,
    /// When it showed last that responses may have been missed.
    responses_missed: Option<Timestamp>,
    /// A head was seen.
    certain: bool,
    /// Frames may have been missed.
    pub(crate) lost: bool,
    /// A call was told of, or waits.
    pub(crate) calls: bool,
    /// When it began.
    pub(crate) time: Timestamp,
}

/// A call that waits for its response, or for what follows its body.
struct Waiting {
    view: Box<ExchangeView>,
    grpc: bool,
    /// A gRPC call's response, whose status is still to come.
    response: Option<Box<(Fields, Timestamp, u32)>>,
    /// Its response may be among what was missed.
    missed: bool,
    /// Its response came, and its request did not: the request's segment waits for an earlier one, or was missed. Streams are begun
    /// in the order of their numbers (RFC 9113 section 5.1.1), so a request with a higher one tells.
    early: bool,
    /// An early response is over: with this status of gRPC, or why it is not known.
    over: Option<(Option<u16>, Option<UnknownReason>)>,
    /// Bytes it was counted with.
    counted: usize,
}

/// Where events go, and what is known beside them.
pub(crate) struct Around<'a> {
    /// Longest head that is read.
    pub(crate) head_bytes: usize,
    /// Who sends what goes out.
    pub(crate) owner: Option<Owner>,
    /// Beginnings are told, for the other end.
    pub(crate) begins: bool,
    pub(crate) views: &'a mut Vec<View>,
}

impl Multiplex {
    /// A connection from its first byte; whose bytes are the client's.
    pub(crate) fn new(client: Direction, time: Timestamp) -> Self {
        let mut parsers = [Parser::server(), Parser::server()];
        parsers[index(client)] = Parser::client();
        Self {
            parsers,
            client: Some(client),
            waiting: BTreeMap::new(),
            early: 0,
            bytes: 0,
            highest: 0,
            missed: None,
            responses_missed: None,
            certain: false,
            lost: false,
            calls: false,
            time,
        }
    }

    /// A connection in its middle.
    pub(crate) fn astray(time: Timestamp) -> Self {
        Self {
            parsers: [Parser::astray(), Parser::astray()],
            client: None,
            missed: Some((0, u32::MAX, UnknownReason::MidStream)),
            lost: true,
            ..Self::new(Direction::Egress, time)
        }
    }

    /// A connection that HTTP/1 was left for: the call that asked for it is stream 1 (RFC 7540 section 3.2).
    pub(crate) fn upgraded(client: Direction, mut asked: Box<ExchangeView>) -> Self {
        let mut multiplex = Self::new(client, asked.time);
        (asked.response, asked.duration, asked.response_sequence) = (None, None, None);
        asked.stream = Some(1);
        multiplex.certain = true;
        multiplex.wait(1, Waiting::new(asked, false));
        multiplex
    }

    /// Which way the client's bytes go, where known.
    pub(crate) fn client(&self) -> Option<Direction> {
        self.client
    }

    /// Whether it is known to be HTTP/2.
    pub(crate) fn is_certain(&self) -> bool {
        self.certain || self.parsers.iter().any(Parser::is_greeted)
    }

    /// What is needed next of a direction.
    pub(crate) fn need(&self, direction: Direction) -> Need {
        self.parsers[index(direction)].need()
    }

    /// Bytes that are kept.
    pub(crate) fn buffered(&self) -> usize {
        self.bytes + self.parsers.iter().map(Parser::buffered).sum::<usize>()
    }

    /// Reads a part that is next in its direction.
    pub(crate) fn read(&mut self, part: &Part<'_>, direction: Direction, around: &mut Around<'_>) {
        if let Some(hole) = part.hole {
            let event = self.parsers[index(direction)].hole(hole, part.sequence, part.time);
            self.happens(event, direction, around);
        }
        // The server may have spoken first: what the client begins with is what the other end knows it by.
        if around.begins && !part.payload.is_empty() && self.parsers[index(direction)].is_at_preface() {
            around.views.push(View::Began(part.sequence, direction));
        }
        let mut chunk = Chunk { bytes: part.payload, sequence: part.sequence, time: part.time, begins: part.begins };
        while let Some(event) = self.parsers[index(direction)].data(&mut chunk, around.head_bytes) {
            self.happens(Some(event), direction, around);
        }
        let copied = u32::try_from(part.payload.len()).unwrap_or(u32::MAX);
        if copied < part.length {
            let hole = Hole { length: part.length - copied, missing: Missing::NotCopied };
            let event = self.parsers[index(direction)].hole(hole, part.sequence.wrapping_add(copied), part.time);
            self.happens(event, direction, around);
        }
        if part.fin && self.client == Some(direction.opposite()) {
            // No response comes any more.
            self.flush(None, around.views);
        }
    }

    /// Frames of a direction may have been missed, as showed at `time`.
    pub(crate) fn miss(&mut self, direction: Direction, time: Timestamp) {
        self.lost = true;
        if self.client != Some(direction.opposite()) {
            // Where no request was seen since the last time, what was missed then was missed first.
            let open = self.missed.filter(|(_, to, _)| *to == u32::MAX);
            self.missed = open.or(Some((self.highest + 1, u32::MAX, UnknownReason::Gap)));
        }
        if self.client != Some(direction) {
            self.waiting.values_mut().for_each(|waiting| waiting.missed = true);
            self.responses_missed = self.responses_missed.max(Some(time));
        }
    }

    fn happens(&mut self, event: Option<Event>, direction: Direction, around: &mut Around<'_>) {
        let Some(Event { time, sequence, stream, what }) = event else { return };
        match what {
            What::Block(fields, ends) => {
                let kind = fields.kind();
                self.client = self.client.or(match kind {
                    Kind::Request => Some(direction),
                    Kind::Response(_) => Some(direction.opposite()),
                    Kind::Other => None,
                });
                self.certain |= kind != Kind::Other;
                // Streams with even numbers are the server's: nobody asked for what it pushes.
                if stream % 2 == 0 {
                    return;
                }
                if around.begins {
                    around.views.push(View::Began(sequence, direction));
                }
                match self.client {
                    Some(client) if client == direction => self.request(*fields, stream, (time, sequence), around),
                    Some(_) => self.response(*fields, ends, stream, (time, sequence), around.views),
                    None => {}
                }
            }
            What::End if self.client == Some(direction.opposite()) => {
                if self.waiting.get(&stream).is_some_and(|waiting| waiting.response.is_some()) {
                    self.finish(stream, None, None, around.views);
                }
            }
            What::Reset => self.finish(stream, None, None, around.views),
            What::Lost => self.miss(direction, time),
            What::End => {}
        }
    }

    /// A header block of the client.
    fn request(&mut self, fields: Fields, stream: u32, (time, sequence): (Timestamp, u32), around: &mut Around<'_>) {
        // What follows a request's body, or what no client sends.
        if stream <= self.highest || matches!(fields.kind(), Kind::Response(_)) {
            return;
        }
        if fields.kind() == Kind::Other && fields.unknown().is_none() && self.missed.is_some() {
            // What follows the body of a request that was missed.
            return;
        }
        if let Some((_, to, _)) = self.missed.as_mut().filter(|(_, to, _)| *to == u32::MAX) {
            *to = stream;
        }
        self.highest = stream;
        let (request, unknown) = fields.request(sequence);
        // Where the type is not known it may be gRPC.
        let untyped = |request: &Request| request.head.values("content-type").next().is_none();
        let grpc = match &request {
            Some(request) => request.is_grpc() || (unknown.is_some() && untyped(request)),
            None => true,
        };
        let view = Box::new(ExchangeView {
            request,
            response: None,
            time,
            duration: None,
            unknown,
            deviations: Deviations::default(),
            sender: around.owner,
            request_sequence: Some(sequence),
            response_sequence: None,
            stream: Some(stream),
            passed_over: 0,
            lone: None,
        });
        self.give_up_early(stream, around.views);
        let early = self.remove(stream);
        self.make_room(around.views);
        // It may have waited for an earlier segment while its response was missed.
        let missed = self.responses_missed.is_some_and(|since| time <= since);
        self.wait(stream, Waiting { missed, ..Waiting::new(view, grpc) });
        if let Some(early) = early {
            self.answer(stream, early, around.views);
        }
    }

    /// Tells of the oldest call where there is no room for another.
    fn make_room(&mut self, views: &mut Vec<View>) {
        if self.waiting.len() >= MOST_WAITING
            && let Some(oldest) = self.waiting.keys().next().copied()
        {
            self.tell(oldest, None, Some(UnknownReason::Capacity), views);
        }
    }

    /// The response that came before its request.
    fn answer(&mut self, stream: u32, early: Waiting, views: &mut Vec<View>) {
        let Some(waiting) = self.waiting.get_mut(&stream) else { return };
        let grpc = waiting.grpc;
        waiting.response = early.response;
        waiting.missed = early.missed;
        self.bytes += waiting.count_response();
        match early.over {
            Some((code, unknown)) => self.tell(stream, code, unknown, views),
            None if !grpc => self.tell(stream, None, None, views),
            None => {}
        }
    }

    /// Requests with lower numbers than a stream's that did not come were missed.
    fn give_up_early(&mut self, stream: u32, views: &mut Vec<View>) {
        if self.early > 0 {
            let missed: Vec<u32> = self.waiting.range(..stream).filter(|(_, it)| it.early).map(|(at, _)| *at).collect();
            for stream in missed {
                self.tell(stream, None, None, views);
            }
        }
    }

    /// A header block of the server.
    fn response(
        &mut self,
        fields: Fields,
        ends: bool,
        stream: u32,
        (time, sequence): (Timestamp, u32),
        views: &mut Vec<View>,
    ) {
        let status = match fields.kind() {
            Kind::Response(100..=199) => return,
            Kind::Response(status) => Some(status),
            Kind::Request | Kind::Other => None,
        };
        let Some(waiting) = self.waiting.get_mut(&stream) else {
            if status.is_some() && self.unasked(stream, time, views) {
                self.response(fields, ends, stream, (time, sequence), views);
            }
            return;
        };
        if waiting.response.is_some() {
            // What follows the body. Of fields that are not known the status may be one.
            let (code, unknown) = (fields.grpc_status(), fields.unknown());
            if code.is_none() && unknown.is_some() {
                waiting.response = None;
                return self.finish(stream, None, unknown, views);
            }
            return self.finish(stream, code, None, views);
        }
        let unknown = fields.unknown();
        if status.is_none() {
            return self.finish(stream, None, unknown.or(Some(UnknownReason::Malformed)), views);
        }
        let statusless = waiting.grpc && fields.grpc_status().is_none();
        if statusless && ends && unknown.is_some() {
            // Of fields that are not known the status may be one.
            return self.finish(stream, None, unknown, views);
        }
        let open = statusless && !ends;
        waiting.missed = false;
        waiting.response = Some(Box::new((fields, time, sequence)));
        if open || waiting.early {
            self.bytes += waiting.count_response();
        }
        if !open {
            self.finish(stream, None, None, views);
        }
    }

    /// A response to a request that was not seen; whether it may have been missed, or may still come.
    fn unasked(&mut self, stream: u32, time: Timestamp, views: &mut Vec<View>) -> bool {
        let range = self.missed.filter(|(from, to, _)| (*from..*to).contains(&stream));
        let missed = range.map(|(.., reason)| reason);
        // What is answered was asked; what is not asked any more was answered before, or given up.
        if missed.is_none() && stream <= self.highest {
            return false;
        }
        self.make_room(views);
        let view = Box::new(ExchangeView {
            request: None,
            response: None,
            time,
            duration: None,
            unknown: missed.or(Some(UnknownReason::Gap)),
            deviations: Deviations::default(),
            sender: None,
            request_sequence: None,
            response_sequence: None,
            stream: Some(stream),
            passed_over: 0,
            lone: None,
        });
        let before = self.highest;
        // Where no request came since some were missed, this one may wait behind what was missed.
        let early = range.is_none_or(|(_, to, _)| to == u32::MAX);
        self.wait(stream, Waiting { early, ..Waiting::new(view, true) });
        self.highest = before;
        self.early += usize::from(early);
        true
    }

    fn wait(&mut self, stream: u32, waiting: Waiting) {
        self.calls = true;
        self.highest = self.highest.max(stream);
        self.bytes += waiting.counted;
        self.waiting.insert(stream, waiting);
    }

    fn remove(&mut self, stream: u32) -> Option<Waiting> {
        let waiting = self.waiting.remove(&stream)?;
        self.bytes -= waiting.counted;
        self.early -= usize::from(waiting.early);
        Some(waiting)
    }

    /// A call is over: it is told of, unless its request may still come.
    fn finish(&mut self, stream: u32, code: Option<u16>, unknown: Option<UnknownReason>, views: &mut Vec<View>) {
        match self.waiting.get_mut(&stream).filter(|waiting| waiting.early) {
            Some(early) => early.over = early.over.or(Some((code, unknown))),
            None => self.tell(stream, code, unknown, views),
        }
    }

    /// Tells of a call what is known by now. `unknown`: why its response is not.
    fn tell(&mut self, stream: u32, code: Option<u16>, unknown: Option<UnknownReason>, views: &mut Vec<View>) {
        let Some(Waiting { mut view, response, missed, over, .. }) = self.remove(stream) else { return };
        let (code, unknown) = over.map_or((code, unknown), |(told, lost)| (code.or(told), unknown.or(lost)));
        // What was missed may have been the status of gRPC.
        match response.filter(|_| !missed || code.is_some()).map(|response| *response) {
            Some((fields, time, sequence)) => {
                let since = view.request_sequence.map(|_| time.0.saturating_sub(view.time.0));
                view.duration = since.map(Duration::from_nanos);
                view.response = fields.response(sequence, code);
                view.response_sequence = Some(sequence);
            }
            None => view.unknown = view.unknown.or(unknown).or(missed.then_some(UnknownReason::Gap)),
        }
        views.push(View::Exchange(view));
    }

    /// Nothing will come any more. With a reason: whether it did was not seen.
    pub(crate) fn flush(&mut self, reason: Option<UnknownReason>, views: &mut Vec<View>) {
        while let Some(stream) = self.waiting.keys().next().copied() {
            self.tell(stream, None, reason, views);
        }
    }

    /// Tells of calls whose response has been under way for long.
    pub(crate) fn settle(&mut self, now: Timestamp, views: &mut Vec<View>) {
        let due = |waiting: &Waiting| {
            let longest = if waiting.early { LONGEST_EARLY } else { LONGEST_OPEN };
            let since = |time: Timestamp| Duration::from_nanos(now.0.saturating_sub(time.0));
            waiting.response.as_ref().is_some_and(|response| since(response.1) >= longest)
        };
        let streams: Vec<u32> = self.waiting.iter().filter(|(_, waiting)| due(waiting)).map(|(at, _)| *at).collect();
        for stream in streams {
            self.tell(stream, None, None, views);
        }
    }

    /// Whether a segment of a connection of which nothing is known is one of HTTP/2.
    pub(crate) fn begins(part: &Part<'_>) -> bool {
        part.begins && frame::begins(part.payload)
    }
}

impl Waiting {
    fn new(view: Box<ExchangeView>, grpc: bool) -> Self {
        // A map's node is at least half full.
        let counted = 2 * size_of::<(u32, Self)>() + view.cost();
        Self { view, grpc, response: None, missed: false, early: false, over: None, counted }
    }

    /// Counts what is kept of the response.
    fn count_response(&mut self) -> usize {
        let fields = self.response.as_ref().map_or(0, |response| response.0.buffered());
        let more = size_of::<(Fields, Timestamp, u32)>() + fields;
        self.counted += more;
        more
    }
}
