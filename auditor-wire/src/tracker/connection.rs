//! One connection as one socket sees it: segments in, views out.

use crate::exchange::{Protocol, UnknownReason};
use crate::http1::framing::Framing;
use crate::http1::stream::{Chunk, Event, Kind, Parser, What};
use crate::limits::Limits;
use crate::reassembly::{Arrival, Copies, Need, Part, Reassembly, Room};
use crate::segment::{Direction, Endpoints, Owner, Segment, SocketId, Timestamp};
use crate::tls;
use crate::tracker::pairing::{ExchangeView, Pairing};

/// A body longer than this may take sequence numbers round: only its exact end is believed.
const LONG_BODY: u64 = 1 << 30;

/// What a connection yields.
#[derive(Debug)]
pub(crate) enum View {
    /// Something began: the first byte's sequence number and the way it went. Both ends of a connection see the same.
    Began(u32, Direction),
    Exchange(Box<ExchangeView>),
    Connection(Box<ConnectionView>),
}

/// A connection without readable exchanges, as one socket saw it.
#[derive(Debug)]
pub(crate) struct ConnectionView {
    pub(crate) protocol: Protocol,
    pub(crate) time: Timestamp,
    /// Which way the client's bytes go.
    pub(crate) client: Direction,
}

/// What is done with a segment's connection afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Both directions have ended, or it was reset.
    pub(crate) closed: bool,
    /// A segment began to wait in a direction.
    pub(crate) waits: bool,
}

pub(crate) struct Connection {
    pub(crate) id: SocketId,
    pub(crate) endpoints: Endpoints,
    wire: [Option<Endpoints>; 2],
    pub(crate) owner: Option<Owner>,
    pub(crate) cgroup: Option<u64>,
    pub(crate) netns: Option<u32>,
    pub(crate) complete: bool,
    fresh: bool,
    /// Which way the client's bytes go, once requests, a hello or a SYN told.
    client: Option<Direction>,
    opener: Option<Direction>,
    streams: [Stream; 2],
    pairing: Pairing,
    /// A fresh connection in no known protocol began then; reported when it ends.
    other: Option<Timestamp>,
    began: bool,
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

fn index(direction: Direction) -> usize {
    match direction {
        Direction::Egress => 0,
        Direction::Ingress => 1,
    }
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Egress => Direction::Ingress,
        Direction::Ingress => Direction::Egress,
    }
}

impl Connection {
    pub(crate) fn new(segment: &Segment<'_>) -> Self {
        let mut streams = [Stream::default(), Stream::default()];
        let fresh = segment.fresh || segment.syn;
        if !fresh {
            streams.iter_mut().for_each(|stream| stream.parser.stray());
        }
        Self {
            id: segment.socket,
            endpoints: segment.endpoints,
            wire: [None, None],
            owner: None,
            cgroup: None,
            netns: None,
            complete: segment.complete_source,
            fresh,
            client: None,
            opener: None,
            streams,
            pairing: Pairing::default(),
            other: None,
            began: false,
        }
    }

    /// Takes one segment.
    pub(crate) fn segment(&mut self, segment: &Segment<'_>, limits: &Limits, views: &mut Vec<View>) -> Outcome {
        self.learn(segment);
        let direction = segment.direction;
        let stream = &mut self.streams[index(direction)];
        let mut waits = false;
        if segment.syn {
            stream.reassembly.begin(segment.sequence);
        }
        if segment.length > 0 || segment.fin {
            waits = self.arrive(Part::of(segment), direction, Copies::of(segment), limits, views);
        }
        if segment.rst {
            self.give_up_waiting(limits, views);
        }
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
        Outcome { closed, waits }
    }

    fn learn(&mut self, segment: &Segment<'_>) {
        self.endpoints = segment.endpoints;
        self.wire[index(segment.direction)] = Some(segment.wire);
        self.owner = segment.owner.or(self.owner);
        self.cgroup = segment.cgroup.or(self.cgroup);
        self.netns = segment.netns.or(self.netns);
        if segment.syn && self.opener.is_none() {
            self.opener = Some(segment.direction);
        }
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
        if stream.parser.is_deaf() {
            stream.reassembly.clear();
            stream.ended |= part.fin;
            return false;
        }
        let need = stream.parser.need();
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
        match stream.reassembly.arrive(part, copies, need, room) {
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
            let stream = &mut self.streams[index(direction)];
            let need = stream.parser.need();
            let Some(stored) = stream.reassembly.ready(copies, need) else { return };
            self.read(stored.part(), direction, limits, views);
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
        if let Some(hole) = part.hole {
            let event = self.streams[at].parser.hole(hole, part.sequence, part.time);
            self.happens(event, direction, limits, views);
        }
        if part.begins
            && self.client == Some(opposite(direction))
            && self.streams[at].parser.is_response_found(part.payload)
        {
            self.hurry_request(direction, limits, views);
        }
        let mut chunk = Chunk { bytes: part.payload, sequence: part.sequence, time: part.time, begins: part.begins };
        loop {
            let fits = self.fits(direction);
            self.streams[at].astray |= self.streams[at].parser.is_astray();
            let Some(event) = self.streams[at].parser.data(&mut chunk, limits.head_bytes, fits) else { break };
            self.happens(Some(event), direction, limits, views);
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
        match self.client {
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
        if self.client == Some(opposite(direction)) {
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
                let sender = self.owner.filter(|_| direction == Direction::Egress);
                let facts = (time, sequence, sender);
                let leaves = head.as_ref().is_some_and(|head| head.asked.upgrade);
                let framing = self.pairing.request(head.map(|head| *head), unknown, facts, &mut exchanges(views));
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
                let answer = self.pairing.response(*head, cut.is_none(), time, self.fresh);
                self.streams[index(direction)].parser.frame(answer.framing);
                let requests = &mut self.streams[index(opposite(direction))].parser;
                if answer.refused_tunnel {
                    requests.refuse();
                }
                if answer.body_optional {
                    requests.may_skip_body();
                }
                views.extend(answer.view.map(View::Exchange));
                self.doubt_after(cut, direction, views);
                if answer.framing == Framing::Tunnel {
                    self.report(Protocol::Upgraded, time, opposite(direction), views);
                }
            }
            What::Tls(hello) => {
                self.began(sequence, direction, views);
                let facts = tls::Facts { sni: hello.sni, alpn: hello.alpn, ..tls::Facts::default() };
                self.report(Protocol::Tls(Box::new(facts)), time, direction, views);
            }
            What::Http2 => {
                self.began(sequence, direction, views);
                self.report(Protocol::Http2, time, direction, views);
            }
            What::Other => self.unread(time, sequence, direction, views),
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
        self.streams[index(direction)].astray = true;
        let requests = self.client != Some(opposite(direction));
        self.pairing.lost((reason, self.streams[index(direction)].read), requests, &mut exchanges(views));
    }

    /// A response came: when no request is known, the request's bytes that are there will not become more.
    fn hurry_request(&mut self, response: Direction, limits: &Limits, views: &mut Vec<View>) {
        let requests = opposite(response);
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
        if self.client.is_some() {
            self.lost(UnknownReason::Malformed, direction, views);
            self.streams[index(direction)].parser.stray();
            return;
        }
        self.streams.iter_mut().for_each(|stream| stream.parser.deafen());
        if self.fresh && self.other.is_none() {
            self.began(sequence, direction, views);
            self.other = Some(time);
        }
    }

    fn take_role(&mut self, direction: Direction, kind: Kind) {
        if self.client.is_some() {
            return;
        }
        let (other_kind, client) = match kind {
            Kind::Requests => (Kind::Responses, direction),
            Kind::Responses => (Kind::Requests, opposite(direction)),
        };
        self.client = Some(client);
        self.streams[index(direction)].parser.expect(kind);
        self.streams[index(opposite(direction))].parser.expect(other_kind);
    }

    fn began(&mut self, sequence: u32, direction: Direction, views: &mut Vec<View>) {
        if !self.complete {
            views.push(View::Began(sequence, direction));
        }
    }

    /// Reports a connection whose exchanges are not read, once, and stops reading it.
    fn report(&mut self, protocol: Protocol, time: Timestamp, client: Direction, views: &mut Vec<View>) {
        self.client = Some(client);
        self.streams.iter_mut().for_each(|stream| stream.parser.deafen());
        self.other = None;
        if !std::mem::replace(&mut self.began, true) {
            views.push(View::Connection(Box::new(ConnectionView { protocol, time, client })));
        }
    }

    fn mute(&mut self, views: &mut Vec<View>) {
        if self.pairing.is_waiting() {
            self.pairing.flush(Some(UnknownReason::UnreadProtocol), &mut exchanges(views));
        }
        self.streams.iter_mut().for_each(|stream| stream.parser.deafen());
        self.report_other(views);
    }

    /// Reports a connection in no known protocol. Who connected: who sent the SYN; else the end with the higher port.
    fn report_other(&mut self, views: &mut Vec<View>) {
        let Some(time) = self.other.take() else { return };
        let by_port = if self.endpoints.local.port() >= self.endpoints.remote.port() {
            Direction::Egress
        } else {
            Direction::Ingress
        };
        let client = self.opener.unwrap_or(by_port);
        self.report(Protocol::Other, time, client, views);
    }

    fn flush(&mut self, reason: Option<UnknownReason>, views: &mut Vec<View>) {
        // In what was not copied of a body's segments the next response may have begun.
        let hidden = !self.complete
            && self.client.is_some_and(|client| self.streams[index(opposite(client))].parser.need() != Need::Bytes);
        let reason = reason.or(hidden.then_some(UnknownReason::Gap));
        self.pairing.flush(reason, &mut exchanges(views));
    }

    /// Ends all that is pending: `None` when the connection has ended, else why it is given up.
    pub(crate) fn close(&mut self, reason: Option<UnknownReason>, views: &mut Vec<View>) {
        self.flush(reason, views);
        self.report_other(views);
    }

    /// Gives up what waits, then ends all that is pending.
    pub(crate) fn finish(&mut self, reason: Option<UnknownReason>, limits: &Limits, views: &mut Vec<View>) {
        self.give_up_waiting(limits, views);
        for direction in [Direction::Egress, Direction::Ingress] {
            let event = self.streams[index(direction)].parser.give_up(UnknownReason::HeadTruncated);
            self.happens(event, direction, limits, views);
        }
        self.close(reason, views);
    }

    /// Which way the client's bytes go, where known.
    pub(crate) fn client(&self) -> Option<Direction> {
        self.client
    }

    /// Who sent the pending request that begins there.
    pub(crate) fn sender_of(&self, sequence: Option<u32>) -> Option<Owner> {
        self.pairing.sender_of(sequence).or(self.owner)
    }

    /// Addresses on the wire as the client's bytes have them, from this socket's side.
    pub(crate) fn wire(&self, direction: Direction) -> Endpoints {
        let at = index(direction);
        self.wire[at].or(self.wire[1 - at]).unwrap_or(self.endpoints)
    }

    /// Bytes of heads and waiting segments.
    pub(crate) fn buffered(&self) -> usize {
        let streams = self.streams.iter().map(|stream| stream.reassembly.buffered() + stream.parser.buffered());
        streams.sum::<usize>() + self.pairing.buffered()
    }
}

/// Puts exchanges among the views.
fn exchanges(views: &mut Vec<View>) -> impl FnMut(Box<ExchangeView>) {
    |view| views.push(View::Exchange(view))
}
