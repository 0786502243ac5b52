//! One connection as one socket sees it: segments in, views out.

mod becomes;
mod closing;
mod repeats;

use crate::exchange::{Protocol, UnknownReason};
use crate::http1::framing::Framing;
use crate::http1::stream::{Chunk, Event, Kind, Parser, What};
use crate::http2::frame::{self, PREFACE};
use crate::limits::Limits;
use crate::reassembly::{Arrival, Copies, Need, Part, Reassembly, Room};
use crate::segment::{Class, Direction, Owner, Segment, Timestamp};
use crate::tracker::identity::Identity;
use crate::tracker::multiplex::Multiplex;
use crate::tracker::pairing::{ExchangeView, Pairing};
use crate::tracker::secure::Secure;
use crate::tracker::view::{ConnectionView, Outcome, Spoken, View};

/// A body longer than this may take sequence numbers round: only its exact end is believed.
const LONG_BODY: u64 = 1 << 30;

pub(crate) struct Connection {
    pub(crate) who: Identity,
    pub(crate) complete: bool,
    fresh: bool,
    opener: Option<Direction>,
    streams: [Stream; 2],
    pairing: Pairing,
    /// A fresh connection in no known protocol began then; reported when it ends.
    other: Option<Timestamp>,
    /// It is TLS and has not been told of.
    secure: Option<Box<Secure>>,
    /// It is HTTP/2.
    multiplex: Option<Box<Multiplex>>,
    began: bool,
    /// Calls that the source said it passed over, ever.
    told_over: u32,
    /// Those of them that no request has been given yet.
    passed_over: u32,
}

#[derive(Default)]
struct Stream {
    reassembly: Reassembly,
    parser: Parser,
    /// When what was read last was captured.
    read: Timestamp,
    /// When bytes were last passed over because the stream's position was not known: a head may have been among them.
    passed: Timestamp,
    ended: bool,
    /// The stream's position was not known since the last head: one may have been missed.
    astray: bool,
}

pub(crate) fn index(direction: Direction) -> usize {
    match direction {
        Direction::Egress => 0,
        Direction::Ingress => 1,
    }
}

impl Connection {
    pub(crate) fn new(segment: &Segment<'_>) -> Self {
        let mut streams = [Stream::default(), Stream::default()];
        let fresh = (segment.fresh || segment.syn) && !is_middle(segment);
        if !fresh {
            streams.iter_mut().for_each(|stream| stream.parser.stray());
        }
        Self {
            who: Identity::new(segment),
            complete: segment.complete_source,
            fresh,
            opener: None,
            streams,
            pairing: Pairing::default(),
            other: None,
            secure: None,
            multiplex: None,
            began: false,
            // What was passed over before it was known is told by nobody.
            told_over: segment.passed_over.map_or(0, |passed| passed.calls),
            passed_over: 0,
        }
    }

    /// Takes one segment.
    pub(crate) fn segment(&mut self, segment: &Segment<'_>, limits: &Limits, views: &mut Vec<View>) -> Outcome {
        self.who.learn(segment);
        if segment.syn && self.opener.is_none() {
            self.opener = Some(segment.direction);
        }
        let direction = segment.direction;
        let mut waits = false;
        let plain = self.secure.is_none() && self.multiplex.is_none();
        if segment.syn {
            self.streams[index(direction)].reassembly.begin(segment.sequence);
        }
        self.resume(segment, views);
        let alone = self.begins_alone(segment);
        if segment.length > 0 || segment.fin {
            waits = self.arrive(Part::of(segment), direction, Copies::of(segment), limits, views);
        }
        if alone.is_some()
            && self.pairing.waiting() == 1
            && self.streams[index(direction)].parser.is_idle()
            && let Some(view) = self.pairing.last()
        {
            view.lone = alone;
        }
        if segment.rst {
            self.give_up_waiting(limits, views);
            match &mut self.secure {
                Some(secure) => {
                    if segment.gap {
                        secure.lost(direction);
                    }
                    secure.end(direction, true);
                }
                // The answer may be among what was lost.
                None if segment.gap => self.lost(UnknownReason::Gap, direction, views),
                None => {}
            }
        }
        self.tell_if_settled(views);
        let settles = plain && (self.secure.is_some() || self.multiplex.is_some());
        let closed = segment.rst || self.streams.iter().all(|stream| stream.ended);
        if segment.muted {
            self.mute(views);
        }
        if closed {
            self.close(None, views);
        } else if self.pairing.waiting() > limits.pipelined {
            self.close(Some(UnknownReason::Capacity), views);
            self.pairing.lost((UnknownReason::Capacity, segment.time), true, &mut |_| {});
        }
        Outcome { closed, waits, settles }
    }

    /// Reads a part and whatever waited for it; whether parts began to wait.
    fn arrive(
        &mut self,
        part: Part<'_>,
        direction: Direction,
        copies: Copies,
        limits: &Limits,
        views: &mut Vec<View>,
    ) -> bool {
        let room = Room { bytes: limits.reorder_bytes, segments: limits.reorder_segments };
        let stream = &mut self.streams[index(direction)];
        if stream.parser.is_deaf() && self.secure.is_none() && self.multiplex.is_none() {
            stream.reassembly.clear();
            stream.ended |= part.fin;
            return false;
        }
        let need = self.need(direction);
        let stream = &mut self.streams[index(direction)];
        if let (Need::Body(left), false) = (need, copies == Copies::Everything)
            && left >= LONG_BODY
            && let Some(next) = stream.reassembly.next()
        {
            #[expect(clippy::cast_possible_truncation, reason = "sequence numbers are modulo 2^32")]
            let end = next.wrapping_add(left as u32);
            if part.sequence != end && !part.fin {
                return false;
            }
            stream.reassembly.jump(part.sequence);
            stream.parser.skip_body();
        }
        // The kernel follows TLS to its end, too.
        let followed = part.followed || (self.secure.is_some() && part.length == 0);
        match stream.reassembly.arrive(Part { followed, ..part }, copies, need, room) {
            Arrival::Old => false,
            Arrival::BeforeFirst => {
                if self.fresh {
                    self.lost(UnknownReason::Gap, direction, views);
                }
                false
            }
            Arrival::Now(part) => {
                self.read(part, direction, limits, views);
                self.read_ready(direction, copies, limits, views);
                false
            }
            Arrival::Waits { full: true, .. } => {
                self.give_up_hole(direction, limits, views);
                false
            }
            Arrival::Waits { first, .. } => first,
        }
    }

    fn read_ready(&mut self, direction: Direction, copies: Copies, limits: &Limits, views: &mut Vec<View>) {
        loop {
            let need = self.need(direction);
            let Some(stored) = self.streams[index(direction)].reassembly.ready(copies, need) else { return };
            self.read(stored.part(), direction, limits, views);
        }
    }

    fn need(&self, direction: Direction) -> Need {
        match (&self.secure, &self.multiplex) {
            // What is not copied of TLS is passed over by those that follow it.
            (Some(_), _) => Need::Bytes,
            (None, Some(multiplex)) => multiplex.need(direction),
            (None, None) => self.streams[index(direction)].parser.need(),
        }
    }

    /// Gives up the bytes that the first waiting part of a direction waits for.
    fn give_up_hole(&mut self, direction: Direction, limits: &Limits, views: &mut Vec<View>) {
        if let Some(stored) = self.streams[index(direction)].reassembly.give_up() {
            self.read(stored.part(), direction, limits, views);
        }
        self.read_ready(direction, self.copies(direction), limits, views);
    }

    fn give_up_waiting(&mut self, limits: &Limits, views: &mut Vec<View>) {
        for direction in [Direction::Egress, Direction::Ingress] {
            while self.streams[index(direction)].reassembly.is_waiting() {
                self.give_up_hole(direction, limits, views);
            }
        }
    }

    fn copies(&self, direction: Direction) -> Copies {
        match direction {
            _ if self.complete => Copies::Everything,
            Direction::Egress => Copies::HeadsInOrder,
            Direction::Ingress => Copies::HeadsAnyOrder,
        }
    }

    /// Gives up holes that waited for longer than `since`; returns when the next is due.
    pub(crate) fn expire(&mut self, since: Timestamp, limits: &Limits, views: &mut Vec<View>) -> Option<Timestamp> {
        for direction in [Direction::Egress, Direction::Ingress] {
            while self.streams[index(direction)].reassembly.waiting_since().is_some_and(|time| time <= since) {
                self.give_up_hole(direction, limits, views);
            }
        }
        self.streams.iter().filter_map(|stream| stream.reassembly.waiting_since()).min()
    }

    /// Reads a part that is next in its direction.
    fn read(&mut self, part: Part<'_>, direction: Direction, limits: &Limits, views: &mut Vec<View>) {
        let at = index(direction);
        self.streams[at].reassembly.read(&part);
        self.streams[at].read = part.time;
        if let Some(secure) = &mut self.secure {
            self.streams[at].ended |= part.fin;
            return secure.read(&part, direction);
        }
        if self.multiplex.is_some() {
            return self.read_frames(&part, direction, limits, views);
        }
        if !self.fresh && self.who.client.is_none() && self.streams[at].parser.is_astray() && Multiplex::begins(&part) {
            return self.becomes_multiplexed(Multiplex::astray(part.time), &part, direction, limits, views);
        }
        if let Some(hole) = part.hole {
            let event = self.streams[at].parser.hole(hole, part.sequence, part.time);
            self.happens(event, direction, limits, views);
        }
        if part.begins
            && self.who.client == Some(direction.opposite())
            && self.streams[at].parser.is_response_found(part.payload)
        {
            self.hurry_request(direction, limits, views);
        }
        let mut chunk = Chunk { bytes: part.payload, sequence: part.sequence, time: part.time, begins: part.begins };
        loop {
            let fits = self.fits(direction);
            self.streams[at].astray |= self.streams[at].parser.is_astray();
            let Some(event) = self.streams[at].parser.data(&mut chunk, limits.head_bytes, fits) else { break };
            match event.what {
                What::Tls(begun) => {
                    self.streams[at].ended |= part.fin;
                    self.began(event.sequence, direction, views);
                    return self.becomes_secure(event.time, direction, &begun, &rest(&part, &chunk));
                }
                What::Http2(begun) => {
                    self.began(event.sequence, direction, views);
                    let first = begun.first().or(chunk.bytes.first());
                    let client = if first == Some(&b'P') { direction } else { direction.opposite() };
                    let multiplex = Multiplex::new(client, event.time);
                    let before = u32::try_from(begun.len()).unwrap_or(u32::MAX);
                    let begun = Part { payload: &begun, length: before, sequence: event.sequence, fin: false, ..part };
                    self.becomes_multiplexed(multiplex, &begun, direction, limits, views);
                    return self.read_frames(&rest(&part, &chunk), direction, limits, views);
                }
                _ => self.happens(Some(event), direction, limits, views),
            }
            if self.multiplex.is_some() {
                return self.read_frames(&rest(&part, &chunk), direction, limits, views);
            }
        }
        if self.streams[at].parser.is_astray() {
            self.streams[at].passed = part.time;
        }
        let copied = u32::try_from(part.payload.len()).unwrap_or(u32::MAX);
        if copied < part.length {
            let hole = crate::reassembly::Hole {
                length: part.length - copied,
                missing: crate::reassembly::Missing::NotCopied,
            };
            let event = self.streams[at].parser.hole(hole, part.sequence.wrapping_add(copied), part.time);
            self.happens(event, direction, limits, views);
        }
        if part.fin {
            self.end(direction, limits, views);
        }
    }

    /// Whether a message may begin in this direction, by what is known of the other.
    fn fits(&self, direction: Direction) -> bool {
        match self.who.client {
            Some(client) if client == direction => !self.pairing.is_waiting(),
            Some(client) => self.pairing.is_waiting() || self.streams[index(client)].parser.is_astray(),
            None => true,
        }
    }

    /// Nothing follows in this direction.
    fn end(&mut self, direction: Direction, limits: &Limits, views: &mut Vec<View>) {
        let event = self.streams[index(direction)].parser.give_up(UnknownReason::HeadTruncated);
        self.happens(event, direction, limits, views);
        self.streams[index(direction)].ended = true;
        if self.who.client == Some(direction.opposite()) {
            // No response comes any more. A request that still waits for its bytes was not answered either.
            self.flush(None, views);
        }
    }

    /// Acts on what a parser found.
    fn happens(&mut self, event: Option<Event>, direction: Direction, limits: &Limits, views: &mut Vec<View>) {
        let Some(Event { time, sequence, what }) = event else { return };
        match what {
            What::Request(head, unknown) => {
                self.began(sequence, direction, views);
                self.take_role(direction, Kind::Requests);
                let sender = self.who.owner.filter(|_| direction == Direction::Egress);
                let facts = (time, sequence, sender);
                let leaves = head.as_ref().is_some_and(|head| head.asked.upgrade);
                let framing = self.pairing.request(head, unknown, facts, &mut exchanges(views));
                if let Some(view) = self.pairing.last() {
                    view.passed_over = std::mem::take(&mut self.passed_over);
                }
                let requests = &mut self.streams[index(direction)].parser;
                requests.frame(framing);
                if leaves {
                    requests.may_leave();
                }
                self.doubt_after(unknown, direction, views);
            }
            What::Response(head, cut) => {
                self.began(sequence, direction, views);
                self.take_role(direction, Kind::Responses);
                self.hurry_request(direction, limits, views);
                let Stream { passed, .. } = self.streams[index(direction)];
                if std::mem::take(&mut self.streams[index(direction)].astray)
                    && (self.pairing.waiting() > 1 || self.pairing.waits_since().is_some_and(|since| since < passed))
                {
                    // The response to the first of them may not have been found.
                    self.pairing.lost(
                        (UnknownReason::Gap, self.streams[index(direction)].read),
                        false,
                        &mut exchanges(views),
                    );
                }
                let answer = self.pairing.response(head, cut.is_none(), time, self.fresh);
                self.streams[index(direction)].parser.frame(answer.framing);
                let requests = &mut self.streams[index(direction.opposite())].parser;
                if answer.refused_tunnel {
                    requests.refuse();
                }
                if answer.body_optional {
                    requests.may_skip_body();
                }
                if answer.framing == Framing::Tunnel && answer.view.as_ref().is_some_and(|view| view.leaves_for_http2())
                {
                    let client = direction.opposite();
                    self.streams.iter_mut().for_each(|stream| stream.parser.deafen());
                    self.multiplex = answer.view.map(|view| Box::new(Multiplex::upgraded(client, view)));
                    return;
                }
                views.extend(answer.view.map(View::Exchange));
                self.doubt_after(cut, direction, views);
                if answer.framing == Framing::Tunnel {
                    self.report(Spoken::Plain(Protocol::Upgraded), time, direction.opposite(), views);
                }
            }
            // Should nothing follow that is known, it is a connection all the same.
            What::Prelude => {
                self.began(sequence, direction, views);
                self.other = self.other.or(Some(time).filter(|_| self.fresh));
            }
            // TLS and HTTP/2 are begun where their bytes are at hand.
            What::Other | What::Tls(_) | What::Http2(_) => self.unread(time, sequence, direction, views),
            What::Lost(reason) => self.lost(reason, direction, views),
        }
    }

    /// Where a head was cut by a loss, whole messages may be gone with its end.
    fn doubt_after(&mut self, cut: Option<UnknownReason>, direction: Direction, views: &mut Vec<View>) {
        if cut == Some(UnknownReason::Gap) {
            self.lost(UnknownReason::Gap, direction, views);
        }
    }

    fn lost(&mut self, reason: UnknownReason, direction: Direction, views: &mut Vec<View>) {
        let time = self.streams[index(direction)].read;
        if let Some(multiplex) = &mut self.multiplex {
            return multiplex.miss(direction, time);
        }
        self.streams[index(direction)].astray = true;
        let requests = self.who.client != Some(direction.opposite());
        self.pairing.lost((reason, time), requests, &mut exchanges(views));
    }

    /// A response came: when no request is known, the request's bytes that are there will not become more.
    fn hurry_request(&mut self, response: Direction, limits: &Limits, views: &mut Vec<View>) {
        let requests = response.opposite();
        while self.streams[index(requests)].reassembly.is_waiting() && !self.pairing.is_waiting() {
            self.give_up_hole(requests, limits, views);
        }
        if !self.pairing.is_waiting() {
            let event = self.streams[index(requests)].parser.give_up(UnknownReason::HeadTruncated);
            self.happens(event, requests, limits, views);
        }
    }

    /// Bytes in no known protocol.
    fn unread(&mut self, time: Timestamp, sequence: u32, direction: Direction, views: &mut Vec<View>) {
        if self.who.client.is_some() {
            self.lost(UnknownReason::Malformed, direction, views);
            self.streams[index(direction)].parser.stray();
            return;
        }
        self.streams.iter_mut().for_each(|stream| stream.parser.deafen());
        if self.fresh {
            self.began(sequence, direction, views);
            self.other = self.other.or(Some(time));
        }
    }

    fn take_role(&mut self, direction: Direction, kind: Kind) {
        if self.who.client.is_some() {
            return;
        }
        self.other = None;
        let (other_kind, client) = match kind {
            Kind::Requests => (Kind::Responses, direction),
            Kind::Responses => (Kind::Requests, direction.opposite()),
        };
        self.who.client = Some(client);
        self.streams[index(direction)].parser.expect(kind);
        self.streams[index(direction.opposite())].parser.expect(other_kind);
    }

    fn began(&mut self, sequence: u32, direction: Direction, views: &mut Vec<View>) {
        if !self.complete {
            views.push(View::Began(sequence, direction));
        }
    }

    /// Reports a connection whose exchanges are not read, once, and stops reading it.
    fn report(&mut self, spoken: Spoken, time: Timestamp, client: Direction, views: &mut Vec<View>) {
        self.who.client = Some(client);
        self.streams.iter_mut().for_each(|stream| stream.parser.deafen());
        self.other = None;
        if !std::mem::replace(&mut self.began, true) {
            views.push(View::Connection(Box::new(ConnectionView { spoken, time, client })));
        }
    }

    fn mute(&mut self, views: &mut Vec<View>) {
        self.tell_secure(views);
        self.end_multiplex(Some(UnknownReason::UnreadProtocol), views);
        self.multiplex = None;
        if self.pairing.is_waiting() {
            self.pairing.flush(Some(UnknownReason::UnreadProtocol), &mut exchanges(views));
        }
        self.streams.iter_mut().for_each(|stream| stream.parser.deafen());
        self.report_other(views);
    }

    /// Reports a connection in no known protocol. Who connected: who sent the SYN; else the end with the higher port.
    fn report_other(&mut self, views: &mut Vec<View>) {
        let Some(time) = self.other.take() else { return };
        self.report(Spoken::Plain(Protocol::Other), time, self.likely_client(), views);
    }

    /// Which way the client's bytes go where no message tells.
    fn likely_client(&self) -> Direction {
        let by_port = if self.who.endpoints.local.port() >= self.who.endpoints.remote.port() {
            Direction::Egress
        } else {
            Direction::Ingress
        };
        self.opener.unwrap_or(by_port)
    }

    /// Who sent the pending request that begins there.
    pub(crate) fn sender_of(&self, sequence: Option<u32>) -> Option<Owner> {
        self.pairing.sender_of(sequence).or(self.who.owner)
    }

    /// Bytes of heads and waiting segments.
    pub(crate) fn buffered(&self) -> usize {
        let streams = self.streams.iter().map(|stream| stream.reassembly.buffered() + stream.parser.buffered());
        let secure = self.secure.as_ref().map_or(0, |secure| size_of::<Secure>() + secure.session.buffered());
        let multiplex = self.multiplex.as_ref().map_or(0, |multiplex| size_of::<Multiplex>() + multiplex.buffered());
        streams.sum::<usize>() + self.pairing.buffered() + secure + multiplex
    }
}

/// Whether the first segment that is seen of a connection shows that others went before, though its socket was seen from the first
/// byte: the connection was forgotten meanwhile, or what was captured before was lost. The kernel tells that it is HTTP/2, and it
/// begins with neither a preface nor what a server may say first.
fn is_middle(segment: &Segment<'_>) -> bool {
    let bytes = segment.payload;
    let begins = bytes.starts_with(&PREFACE[..bytes.len().min(3)]) || frame::begins_settings(bytes) != Some(false);
    segment.class == Class::Http2 && !begins
}

/// What is left of a part when a parser has stopped.
fn rest<'a>(part: &Part<'a>, chunk: &Chunk<'a>) -> Part<'a> {
    let passed = u32::try_from(part.payload.len() - chunk.bytes.len()).unwrap_or(u32::MAX);
    let length = part.length.saturating_sub(passed);
    let (payload, begins) = (chunk.bytes, part.begins && passed == 0);
    Part { payload, length, sequence: chunk.sequence, begins, hole: None, ..*part }
}

/// Puts exchanges among the views.
fn exchanges(views: &mut Vec<View>) -> impl FnMut(Box<ExchangeView>) {
    |view| views.push(View::Exchange(view))
}
