//! The table of connections: segments of all sockets in, [`Observation`]s out.
//!
//! Who is client and who is server is told by who sends requests, not by ports. When both ends of a connection are on this
//! node, their two views of an exchange become one, reported by the destination unless only the source saw it whole.

mod connection;
mod identity;
mod multiplex;
mod pairing;
mod report;
mod secure;
mod spare;
mod table;
mod twins;
mod view;

use std::collections::VecDeque;
use std::time::Duration;

use crate::exchange::{Observation, Reporter, UnknownReason};
use crate::limits::Limits;
use crate::segment::{Direction, Segment, SocketId, Timestamp};
use crate::tls;
use crate::tracker::connection::Connection;
use crate::tracker::identity::Identity;
use crate::tracker::pairing::ExchangeView;
use crate::tracker::secure::Secure;
use crate::tracker::spare::AGREED;
use crate::tracker::table::Table;
use crate::tracker::twins::{Held, Link, Twins, addresses_fit};
use crate::tracker::view::{ConnectionView, View};

/// How long an ended connection is remembered: its last segments may be sent again, its other end may report late.
const LINGER: Duration = Duration::from_secs(2);

/// The tracker's clock goes no further (the year 2262), whatever a recording says. Were it to reach the end of what a
/// [`Timestamp`] holds, nothing could be due later than now any more, and what asks to be looked at again later would be
/// looked at for ever.
const LATEST: Timestamp = Timestamp(u64::MAX / 2);

/// What the tracker holds and how much it may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracked {
    /// Connections in the table.
    pub connections: usize,
    /// Most connections the table may hold.
    pub connections_limit: usize,
    /// Bytes of heads and waiting segments.
    pub buffered_bytes: usize,
    /// Most bytes of heads and waiting segments.
    pub buffered_bytes_limit: usize,
    /// Connections given up for one of the two limits, ever.
    pub evicted_total: u64,
    /// Views of an exchange that were left out because the other end's was reported, ever.
    pub twins_total: u64,
    /// Views that wait for that of the other end.
    pub held: usize,
}

/// Turns segments into exchanges and connections.
pub struct Tracker {
    limits: Limits,
    now: Timestamp,
    table: Table<Entry>,
    twins: Twins,
    /// Directions in which segments wait for an earlier one: when to look at them.
    waiting: VecDeque<(Timestamp, SocketId)>,
    /// TLS connections that have not been told of: when to look at them.
    settling: VecDeque<(Timestamp, SocketId)>,
    /// What is remembered of TLS servers.
    endpoints: tls::Endpoints,
    /// Connections that have ended: when to forget them.
    ended: VecDeque<(Timestamp, SocketId)>,
    buffered: usize,
    evicted: u64,
    /// Sockets that need not be captured any more and were not asked for yet.
    spared: Vec<SocketId>,
    /// Reused between calls.
    views: Vec<View>,
}

/// A connection's place in the table.
struct Entry {
    state: State,
    link: Option<Box<Link>>,
    /// What began and was noted to find the other end: first, and last.
    noted: [Option<u32>; 2],
    /// What a TLS library told of the connection.
    proof: Option<tls::Proof>,
    /// What was said of the TLS connection, where calls inside it are read too.
    facts: Option<Box<tls::Facts>>,
    /// Calls in a row of which this end told the same as the other, which was reported.
    agreed: u8,
}

enum State {
    Live(Box<Connection>),
    /// The client's end of a connection that the server's end tells all of: it is not captured any more.
    Spared(Box<Identity>),
    /// It has ended then; who it was stays known for a while.
    Ended(Timestamp, Box<Identity>),
}

impl Tracker {
    /// An empty tracker.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            now: Timestamp::default(),
            table: Table::default(),
            twins: Twins::default(),
            waiting: VecDeque::new(),
            settling: VecDeque::new(),
            endpoints: tls::Endpoints::new(limits.tls_endpoints, limits.tls_endpoint_idle),
            ended: VecDeque::new(),
            buffered: 0,
            evicted: 0,
            spared: Vec::new(),
            views: Vec::new(),
        }
    }

    /// Takes one segment. Segments come in the order they were captured.
    pub fn segment(&mut self, segment: &Segment<'_>, deliver: &mut dyn FnMut(Observation)) {
        self.advance(segment.time, deliver);
        let id = segment.socket;
        if id.is_plaintext() {
            // Behind its handshake the packets of a TLS connection are not captured: it lasts for as long as what it carries.
            self.table.touch(id.carrier(), self.now);
        }
        let known = match self.table.touch(id, self.now).map(|entry| (&entry.state, entry.agreed)) {
            Some((State::Live(_), AGREED)) if segment.muted => return self.spare(id),
            Some((State::Live(_), _)) => true,
            Some((State::Spared(_), _)) => return,
            // What comes after the end was sent again, unless it is the begin of another connection.
            Some((State::Ended(..), _)) if !segment.syn || segment.rst => return,
            Some((State::Ended(..), _)) => {
                self.forget(id);
                false
            }
            None => false,
        };
        if !known {
            if (segment.length == 0 && !segment.syn) || segment.rst {
                return;
            }
            let state = State::Live(Box::new(Connection::new(segment)));
            let entry = Entry { state, link: None, noted: [None; 2], proof: None, facts: None, agreed: 0 };
            self.table.insert(id, self.now, entry);
        }
        let mut views = std::mem::take(&mut self.views);
        let Some(Entry { state: State::Live(connection), .. }) = self.table.get_mut(id) else { return };
        let before = connection.buffered();
        let outcome = connection.segment(segment, &self.limits, &mut views);
        let after = connection.buffered();
        self.buffered = self.buffered - before + after;
        if outcome.waits {
            self.waiting.push_back((later(self.now, self.reorder_wait(segment.complete_source)), id));
        }
        if outcome.settles {
            self.settling.push_back((later(self.now, Secure::LOOK_AFTER), id));
        }
        self.handle(id, &mut views, deliver);
        self.views = views;
        if outcome.closed {
            self.end(id, deliver);
        }
        self.keep_within_limits(deliver);
    }

    /// Takes what a TLS library told of a connection that is known by its packets.
    pub fn proof(&mut self, socket: SocketId, proof: tls::Proof) {
        if let Some(entry) = self.table.get_mut(socket) {
            entry.proof = Some(proof);
        }
    }

    /// Time went on without a segment: what waited long enough comes out. Call it every few milliseconds of traffic time.
    pub fn advance(&mut self, now: Timestamp, deliver: &mut dyn FnMut(Observation)) {
        self.now = self.now.max(now.min(LATEST));
        let now = self.now;
        while let Some(id) = self.twins.next_due(now) {
            self.release(id, now, deliver);
        }
        while self.waiting.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, id)) = self.waiting.pop_front() else { break };
            self.expire(id, deliver);
        }
        while self.settling.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, id)) = self.settling.pop_front() else { break };
            self.settle(id, deliver);
        }
        while self.ended.front().is_some_and(|(due, _)| *due <= now) {
            let Some((due, id)) = self.ended.pop_front() else { break };
            if matches!(self.table.get(id), Some(Entry { state: State::Ended(at, _), .. }) if later(*at, LINGER) <= due)
            {
                if self.carries_more(id) {
                    self.ended.push_back((later(now, LINGER), id));
                } else {
                    self.forget(id);
                }
            }
        }
        while let Some((id, used)) = self.table.oldest()
            && later(used, self.limits.idle) <= now
        {
            if !self.follows_twin(id) {
                self.give_up(id, None, deliver);
            }
        }
    }

    /// End of the input: all that is pending comes out.
    pub fn finish(&mut self, deliver: &mut dyn FnMut(Observation)) {
        let mut connections = Vec::with_capacity(self.table.len());
        self.table.for_each(|id| connections.push(id));
        for id in &connections {
            self.close(*id, None, deliver);
        }
        while let Some(due) = self.twins.first_due() {
            while let Some(id) = self.twins.next_due(due) {
                self.release(id, Timestamp(u64::MAX), deliver);
            }
        }
        for id in connections {
            self.forget(id);
        }
    }

    /// What is held now.
    #[must_use]
    pub fn tracked(&self) -> Tracked {
        Tracked {
            connections: self.table.len(),
            connections_limit: self.limits.connections,
            buffered_bytes: self.buffered + self.twins.held_bytes,
            buffered_bytes_limit: self.limits.buffered_bytes,
            evicted_total: self.evicted,
            twins_total: self.twins.left_out,
            held: self.twins.held,
        }
    }

    fn reorder_wait(&self, complete: bool) -> Duration {
        if complete { self.limits.reorder_wait } else { self.limits.live_reorder_wait }
    }

    /// Gives up holes of one connection that are due.
    fn expire(&mut self, id: SocketId, deliver: &mut dyn FnMut(Observation)) {
        let waits = (self.reorder_wait(true), self.reorder_wait(false));
        let now = self.now;
        let Some(Entry { state: State::Live(connection), .. }) = self.table.get_mut(id) else { return };
        let wait = if connection.complete { waits.0 } else { waits.1 };
        let before = connection.buffered();
        let mut views = std::mem::take(&mut self.views);
        let next = connection.expire(earlier(now, wait), &self.limits, &mut views);
        self.buffered = self.buffered - before + connection.buffered();
        if let Some(next) = next {
            self.waiting.push_back((later(next, wait), id));
        }
        self.handle(id, &mut views, deliver);
        self.views = views;
    }

    /// Tells of a TLS connection that has been quiet for long, or looks again later.
    fn settle(&mut self, id: SocketId, deliver: &mut dyn FnMut(Observation)) {
        let now = self.now;
        let Some(Entry { state: State::Live(connection), .. }) = self.table.get_mut(id) else { return };
        let before = connection.buffered();
        let mut views = std::mem::take(&mut self.views);
        if connection.settle(now, &mut views) {
            self.settling.push_back((later(now, Secure::LOOK_AFTER), id));
        }
        self.buffered = self.buffered - before + connection.buffered();
        self.handle(id, &mut views, deliver);
        self.views = views;
    }

    fn keep_within_limits(&mut self, deliver: &mut dyn FnMut(Observation)) {
        while self.twins.held > self.limits.held || self.buffered + self.twins.held_bytes > self.limits.buffered_bytes {
            let Some(due) = self.twins.first_due() else { break };
            let Some(id) = self.twins.next_due(due) else { break };
            self.release(id, due, deliver);
        }
        while self.table.len() > self.limits.connections || self.buffered > self.limits.buffered_bytes {
            let Some((id, _)) = self.table.oldest() else { break };
            if self.follows_twin(id) {
                continue;
            }
            if matches!(self.table.get(id), Some(Entry { state: State::Live(_), .. })) {
                self.evicted += 1;
            }
            self.give_up(id, Some(UnknownReason::Capacity), deliver);
        }
    }

    /// Ends a connection and forgets it.
    fn give_up(&mut self, id: SocketId, reason: Option<UnknownReason>, deliver: &mut dyn FnMut(Observation)) {
        self.close(id, reason, deliver);
        self.release(id, Timestamp(u64::MAX), deliver);
        self.forget(id);
    }

    /// All that is pending of a connection comes out; then it has ended.
    fn close(&mut self, id: SocketId, reason: Option<UnknownReason>, deliver: &mut dyn FnMut(Observation)) {
        let Some(Entry { state: State::Live(connection), .. }) = self.table.get_mut(id) else { return };
        let before = connection.buffered();
        let mut views = std::mem::take(&mut self.views);
        connection.finish(reason, &self.limits, &mut views);
        self.buffered = self.buffered - before + connection.buffered();
        self.handle(id, &mut views, deliver);
        self.views = views;
        self.end(id, deliver);
    }

    /// A connection has ended: only who it was is kept. What its other end holds need not wait any more.
    fn end(&mut self, id: SocketId, deliver: &mut dyn FnMut(Observation)) {
        let twin = self.twin_of(id);
        if let Some(twin) = twin
            && let Some(Entry { state, .. }) = self.table.get_mut(twin)
            && let State::Spared(identity) = state
        {
            *state = State::Ended(self.now, identity.clone());
            self.ended.push_back((later(self.now, LINGER), twin));
        }
        let Some(entry) = self.table.get_mut(id) else { return };
        let State::Live(connection) = &entry.state else { return };
        self.buffered -= connection.buffered();
        entry.state = State::Ended(self.now, Box::new(connection.who.clone()));
        self.ended.push_back((later(self.now, LINGER), id));
        // What libraries tell of a connection may still come.
        if let Some(twin) = twin.filter(|twin| !self.limits.tls_plaintext || twin.is_plaintext()) {
            self.release(twin, Timestamp(u64::MAX), deliver);
        }
    }

    fn forget(&mut self, id: SocketId) {
        let Some(mut entry) = self.table.remove(id) else { return };
        self.twins.forget(id, entry.noted);
        if let State::Live(connection) = &entry.state {
            self.buffered -= connection.buffered();
        }
        if let Some(link) = &mut entry.link {
            self.part(link.twin);
            while let Some(held) = link.take_due(Timestamp(u64::MAX)) {
                self.twins.released(held.cost());
            }
        }
    }

    fn handle(&mut self, id: SocketId, views: &mut Vec<View>, deliver: &mut dyn FnMut(Observation)) {
        for view in views.drain(..) {
            match view {
                View::Began(sequence, direction) => self.began(id, sequence, direction),
                View::Exchange(view) => self.exchange(id, view, deliver),
                View::Connection(view) => self.connection(id, view, deliver),
            }
        }
    }

    /// Finds the other end by what began.
    fn began(&mut self, id: SocketId, sequence: u32, direction: Direction) {
        // An AF_UNIX connection is seen at one end.
        if id.is_unix() || self.twin_of(id).is_some() {
            return;
        }
        let inside = self.inside_twin(id).filter(|other| self.table.get(*other).is_some());
        let candidate = self.twins.candidate(id, sequence, direction).filter(|other| {
            let facts = |id, direction| {
                let identity = self.identity(id)?;
                Some((identity.wire(direction), identity.netns))
            };
            let (sender, receiver) = if direction == Direction::Egress { (id, *other) } else { (*other, id) };
            match (facts(sender, Direction::Egress), facts(receiver, Direction::Ingress)) {
                (Some(sent), Some(received)) => addresses_fit(sent, received),
                _ => false,
            }
        });
        let Some(entry) = self.table.get_mut(id) else { return };
        match inside.or(candidate) {
            Some(other) => self.pair([id, other]),
            None => {
                // The first as well as the last: what one end sent at once the other may have read, and answered, piece by piece.
                let before = match &mut entry.noted {
                    [first @ None, _] => first.replace(sequence),
                    [Some(first), _] if *first == sequence => None,
                    [_, last] => last.replace(sequence),
                };
                self.twins.note(id, sequence, direction, before);
            }
        }
    }

    /// One end's view of an exchange: the better of two is reported, the destination's when they are as good.
    fn exchange(&mut self, id: SocketId, view: Box<ExchangeView>, deliver: &mut dyn FnMut(Observation)) {
        let destination = self.reporter(id) == Reporter::Destination;
        // The other end may have told of it and be forgotten since: an end that sees nothing more of its connection, as one does
        // whose process closed it, ends long after.
        if self.link(id).is_some_and(|link| link.take_mark(view.key())) {
            self.twins.left_out += 1;
            return self.agree(id, !destination && view.worth() == ExchangeView::WHOLE);
        }
        let Some(twin) = self.twin_of(id) else {
            // A call may be over in the segment that its connection becomes known by, before the other end has seen that; so may
            // the first one of a server that has no socket yet when it comes.
            let first = view.request.is_none() && view.unknown == Some(UnknownReason::MidStream);
            let early = self.is_multiplexed(id) || first && self.is_live(id);
            // What libraries tell comes in bursts, one end after the other.
            let soon = view.worth() < ExchangeView::WHOLE && early || self.inside_twin(id).is_some();
            return if soon { self.hold(id, Held::Exchange(view)) } else { self.emit(id, view, deliver) };
        };
        if let Some(other) = self.link(twin).and_then(|link| link.take_same(view.key())) {
            let (here, there) = (view.key(), other.key());
            let other = Held::Exchange(other);
            self.leave_out(&other);
            for (end, rest) in [(id, there.beyond(here)), (twin, here.beyond(there))] {
                if let Some(held) = self.link(end).and_then(|link| link.leave_out(rest)) {
                    self.leave_out(&held);
                }
            }
            let Held::Exchange(other) = other else { return };
            let mine = (view.worth(), destination) > (other.worth(), !destination);
            let client = if destination { twin } else { id };
            self.agree(client, view.worth().min(other.worth()) == ExchangeView::WHOLE);
            return if mine { self.emit(id, view, deliver) } else { self.emit(twin, other, deliver) };
        }
        let live = matches!(self.table.get(twin), Some(Entry { state: State::Live(_), .. }));
        if live && !(destination && view.worth() == ExchangeView::WHOLE) {
            return self.hold(id, Held::Exchange(view));
        }
        if let Some(link) = self.link(twin).filter(|_| live) {
            link.mark(view.key());
        }
        self.emit(id, view, deliver);
    }

    /// One end's view of a connection. The source's always waits: it is there before the destination's can be.
    fn connection(&mut self, id: SocketId, mut view: Box<ConnectionView>, deliver: &mut dyn FnMut(Observation)) {
        if self.link(id).is_some_and(|link| link.connection_reported) {
            self.twins.left_out += 1;
            return;
        }
        let complete = matches!(self.table.get(id), Some(Entry { state: State::Live(c), .. }) if c.complete);
        if self.limits.tls_plaintext {
            self.conclude_early(id, &mut view);
        }
        // With what libraries tell, the destination's waits for that.
        if (view.client == Direction::Egress || self.limits.tls_plaintext) && !complete {
            return self.hold(id, Held::Connection(view));
        }
        self.conclude(id, *view, deliver);
    }

    /// Reports a connection whose view was held: the destination's where both were.
    fn conclude_better(&mut self, id: SocketId, view: ConnectionView, deliver: &mut dyn FnMut(Observation)) {
        let twin = self.twin_of(id).filter(|_| view.client == Direction::Egress);
        if let Some(twin) = twin
            && let Some(held) = self.link(twin).and_then(Link::take_connection)
        {
            self.leave_out(&held);
            let Held::Connection(other) = held else { return };
            return self.conclude(twin, *other, deliver);
        }
        self.conclude(id, view, deliver);
    }

    /// Reports a connection in the place of both ends.
    fn conclude(&mut self, id: SocketId, view: ConnectionView, deliver: &mut dyn FnMut(Observation)) {
        if let Some(link) = self.twin_of(id).and_then(|twin| self.link(twin)) {
            link.connection_reported = true;
            if let Some(held) = link.take_connection() {
                self.leave_out(&held);
            }
        }
        self.emit_connection(id, view, deliver);
    }

    /// A view that was held is left out.
    fn leave_out(&mut self, held: &Held) {
        self.twins.released(held.cost());
        self.twins.left_out += 1;
    }

    fn hold(&mut self, id: SocketId, held: Held) {
        let due = later(self.now, self.limits.twin_wait);
        let cost = held.cost();
        if let Some(entry) = self.table.get_mut(id) {
            entry.link.get_or_insert_default().hold(due, held);
            self.twins.held(due, id, cost);
        }
    }

    /// Reports the held views of one end that are due by `now`.
    fn release(&mut self, id: SocketId, now: Timestamp, deliver: &mut dyn FnMut(Observation)) {
        while let Some(held) = self.link(id).and_then(|link| link.take_due(now)) {
            self.twins.released(held.cost());
            match held {
                Held::Connection(view) => self.conclude_better(id, *view, deliver),
                Held::Exchange(view) => {
                    if let Some(link) = self.twin_of(id).and_then(|twin| self.link(twin)) {
                        link.mark(view.key());
                    }
                    self.emit(id, view, deliver);
                }
            }
        }
    }

    /// Whether a socket's connection is HTTP/2, and its other end may be on this node.
    fn is_multiplexed(&self, id: SocketId) -> bool {
        matches!(self.table.get(id), Some(Entry { state: State::Live(connection), .. }) if connection.is_multiplexed())
    }

    /// Whether a socket's other end may be on this node, seen by itself.
    fn is_live(&self, id: SocketId) -> bool {
        matches!(self.table.get(id), Some(Entry { state: State::Live(connection), .. }) if !connection.complete)
    }

    fn link(&mut self, id: SocketId) -> Option<&mut Link> {
        self.table.get_mut(id)?.link.as_deref_mut()
    }

    /// The other end, as long as it is in the table: the two name each other, always.
    fn twin_of(&self, id: SocketId) -> Option<SocketId> {
        self.table.get(id)?.link.as_ref()?.twin
    }

    /// Two sockets are the ends of one connection.
    fn pair(&mut self, ends: [SocketId; 2]) {
        for (id, other) in [(ends[0], ends[1]), (ends[1], ends[0])] {
            let Some(entry) = self.table.get_mut(id) else { continue };
            let before = entry.link.get_or_insert_default().twin.replace(other);
            self.twins.forget(id, std::mem::take(&mut entry.noted));
            self.part(before.filter(|before| *before != other));
        }
    }

    /// The other end of a socket is not what it was taken for, or gone.
    fn part(&mut self, id: Option<SocketId>) {
        if let Some(link) = id.and_then(|id| self.link(id)) {
            link.twin = None;
        }
    }

    /// What the other end of a TLS connection carries, for what one end carries: their packets have told that they are two ends.
    fn inside_twin(&self, id: SocketId) -> Option<SocketId> {
        id.is_plaintext().then(|| self.twin_of(id.carrier()))?.map(SocketId::plaintext)
    }

    /// Whether calls are still to come that were read inside a TLS connection whose packets have told its end.
    fn carries_more(&self, id: SocketId) -> bool {
        let is_live =
            |id: SocketId| matches!(self.table.get(id.plaintext()), Some(Entry { state: State::Live(_), .. }));
        self.limits.tls_plaintext && (is_live(id) || self.twin_of(id).is_some_and(is_live))
    }

    fn identity(&self, id: SocketId) -> Option<&Identity> {
        Some(match &self.table.get(id)?.state {
            State::Live(connection) => &connection.who,
            State::Spared(identity) | State::Ended(_, identity) => identity,
        })
    }
}

fn later(time: Timestamp, wait: Duration) -> Timestamp {
    Timestamp(time.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
}

fn earlier(time: Timestamp, wait: Duration) -> Timestamp {
    Timestamp(time.0.saturating_sub(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10,000 idle connections are to take at most 16 MiB: what each one has in the table, its map entry counted twice for
    /// growth.
    #[test]
    fn an_idle_connection_is_small() {
        let link = size_of::<Link>() + 4 * 16;
        let pending = pairing::IDLE;
        let table = 2 * (Table::<Entry>::SLOT + size_of::<(SocketId, u32)>());
        let each = size_of::<Connection>() + link + pending + table;
        assert!(each * 10_000 <= 16 << 20, "{each} bytes for each");
    }
}
