//! One TLS connection: bytes of both sides in, [`Facts`] out.

mod told;

use std::fmt;

pub(super) use self::told::Shown;
use super::decide13::{self, Habit, Offer};
use super::handshake::{self, MOST_HELD, Message, Messages, certificates, kind};
use super::hello::{ClientHello, MOST_NAMES, Name, ServerHello, client_hello, server_hello};
use super::lengths::Lengths;
use super::record::{ALERT, APPLICATION_DATA, HANDSHAKE, Piece, Records};
use super::trace::{Happened, MOST_RECORDS, Trace};
use super::{Facts, decide12};

/// Alerts that end nothing when they are warnings (RFC 5246 section 7.2): any but `close_notify`.
const WARNING: u8 = 1;
/// The description of an alert that closes.
const CLOSE_NOTIFY: u8 = 0;

/// Which end of a connection sent something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The end that sends the ClientHello.
    Client,
    /// The other end.
    Server,
}

/// What is read of one TLS connection. It is given what both sides sent in the order in which it was seen; it has no clock.
#[derive(Clone, Default)]
pub struct Session {
    client: Lane,
    server: Lane,
    hello: Option<ClientHello>,
    answer: Option<ServerHello>,
    /// The server asked the client to say hello again.
    retried: bool,
    phase: Phase,
    /// A ticket the server gave in clear (TLS 1.2 and older).
    issued: Option<Name>,
}

/// One side.
#[derive(Clone, Default)]
struct Lane {
    records: Records,
    /// The content type of the current record.
    content: u8,
    messages: Messages,
    /// The begin of an alert.
    alert: Option<u8>,
    chain: Vec<Box<[u8]>>,
    ended: bool,
    lost: bool,
}

#[derive(Clone, Debug, Default)]
enum Phase {
    /// Before the ServerHello that counts.
    #[default]
    Greeting,
    /// TLS 1.2 and older.
    Clear(decide12::Clear),
    /// TLS 1.3.
    Encrypted(Box<Encrypted>),
    /// The handshake ended before the server said hello.
    Refused,
    /// Nothing can be said.
    Unreadable,
}

/// A connection whose handshake is encrypted behind the hellos.
#[derive(Clone, Debug)]
struct Encrypted {
    offer: Offer,
    trace: Trace,
    verdict: decide13::Verdict,
}

impl Session {
    /// Most bytes one session holds ([`buffered`](Self::buffered)).
    pub const MOST_BUFFERED: usize = MOST_NAMES + 2 * MOST_HELD + MOST_RECORDS * size_of::<super::trace::Mark>();

    /// A connection of which nothing was seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes of one side.
    pub fn data(&mut self, side: Side, mut bytes: &[u8]) {
        while !self.is_settled() {
            let Some(piece) = self.lane(side).records.next(&mut bytes) else { break };
            self.piece(side, piece);
        }
    }

    /// The next `count` bytes of one side exist and were not copied. Only bodies of records may be passed over; where a
    /// header is, the position is lost.
    pub fn skip(&mut self, side: Side, count: u64) {
        if !self.is_settled()
            && let Some(piece) = self.lane(side).records.skip(count)
        {
            self.piece(side, piece);
        }
    }

    /// Bytes of one side were lost here: its position is not known any more.
    pub fn lost(&mut self, side: Side) {
        if !self.is_settled() {
            let piece = self.lane(side).records.lose();
            self.piece(side, piece);
        }
    }

    /// One side ended its direction: FIN, or with `reset` RST, which ends both.
    pub fn end(&mut self, side: Side, reset: bool) {
        if self.is_settled() || std::mem::replace(&mut self.lane(side).ended, true) {
            return;
        }
        match &mut self.phase {
            // A client that only closes its direction may still be answered.
            Phase::Greeting if side == Side::Server || reset => self.refuse(),
            Phase::Greeting => {}
            Phase::Clear(clear) => clear.end(side, reset),
            Phase::Encrypted(encrypted) => encrypted.push(side, Happened::End { reset }),
            Phase::Refused | Phase::Unreadable => {}
        }
    }

    /// Nothing more will come.
    pub fn finish(&mut self) {
        if self.is_settled() {
            return;
        }
        match &mut self.phase {
            Phase::Greeting if self.server.ended => self.refuse(),
            Phase::Greeting => self.phase = Phase::Unreadable,
            Phase::Clear(clear) => clear.finish(),
            Phase::Encrypted(encrypted) => {
                encrypted.trace.over = true;
                encrypted.judge();
            }
            Phase::Refused | Phase::Unreadable => {}
        }
    }

    /// More records would not change what is said.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match &self.phase {
            Phase::Greeting => false,
            Phase::Clear(clear) => clear.judge().settled,
            Phase::Encrypted(encrypted) => encrypted.verdict.settled,
            Phase::Refused | Phase::Unreadable => true,
        }
    }

    /// What is known so far. It never says more than is certain.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.facts_of(None)
    }

    /// Bytes held, at most [`MOST_BUFFERED`](Self::MOST_BUFFERED).
    #[must_use]
    pub fn buffered(&self) -> usize {
        let trace = match &self.phase {
            Phase::Encrypted(encrypted) => encrypted.trace.held(),
            _ => 0,
        };
        let names = self.hello.as_ref().map_or(0, ClientHello::held);
        names + self.client.held() + self.server.held() + trace
    }

    fn lane(&mut self, side: Side) -> &mut Lane {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn piece(&mut self, side: Side, piece: Piece<'_>) {
        match piece {
            Piece::Header { content, length } => {
                let lane = self.lane(side);
                lane.content = content;
                lane.alert = None;
                self.record(side, content, length);
            }
            Piece::Body(bytes) => match self.lane(side).content {
                HANDSHAKE => self.messages(side, bytes),
                ALERT => self.alert(side, bytes),
                _ => {}
            },
            Piece::Skipped(count) => self.skipped(side, count),
            Piece::Lost => self.lose(side),
        }
    }

    /// Bytes of a record's body were not copied.
    fn skipped(&mut self, side: Side, count: u16) {
        if !self.reads_messages(side) || self.lane(side).content != HANDSHAKE {
            return;
        }
        let lane = self.lane(side);
        let message = lane.messages.skip(count);
        let lost = lane.messages.is_lost();
        if let Some(message) = message {
            self.message(side, message);
        }
        if lost {
            self.unread(side);
        }
    }

    /// No record of this side can be found any more.
    fn lose(&mut self, side: Side) {
        let lane = self.lane(side);
        lane.lost = true;
        lane.messages.lose();
        match &mut self.phase {
            // Neither side says who it is any more.
            Phase::Greeting if self.client.lost && self.server.lost => self.phase = Phase::Unreadable,
            Phase::Greeting => {}
            Phase::Clear(clear) => clear.lost(side),
            Phase::Encrypted(encrypted) => encrypted.push(side, Happened::Lost),
            Phase::Refused | Phase::Unreadable => {}
        }
    }

    fn record(&mut self, side: Side, content: u8, length: u16) {
        match &mut self.phase {
            // Data may come early, but behind a hello.
            Phase::Greeting if content == APPLICATION_DATA => {
                if side == Side::Server || self.hello.is_none() {
                    self.phase = Phase::Unreadable;
                }
            }
            Phase::Clear(clear) => clear.record(side, content),
            Phase::Encrypted(encrypted) => match content {
                APPLICATION_DATA => encrypted.push(side, Happened::Record(length)),
                ALERT => encrypted.push(side, Happened::Alert),
                _ => {}
            },
            Phase::Greeting | Phase::Refused | Phase::Unreadable => {}
        }
    }

    /// Handshake messages of this side are in clear and say something.
    fn reads_messages(&self, side: Side) -> bool {
        match &self.phase {
            Phase::Greeting => true,
            Phase::Clear(clear) => !clear.is_encrypted(side),
            Phase::Encrypted(_) | Phase::Refused | Phase::Unreadable => false,
        }
    }

    fn messages(&mut self, side: Side, mut bytes: &[u8]) {
        while self.reads_messages(side) {
            let lane = self.lane(side);
            let room = MOST_HELD.saturating_sub(lane.held());
            let Some(message) = lane.messages.next(&mut bytes, room) else { break };
            self.message(side, message);
        }
    }

    fn message(&mut self, side: Side, message: Message) {
        match (&mut self.phase, side, message.kind) {
            (Phase::Greeting, Side::Client, kind::CLIENT_HELLO) => {
                self.hello = Some(ClientHello { whole: message.whole, ..client_hello(&message.body) });
            }
            (Phase::Greeting, Side::Server, kind::SERVER_HELLO) => self.greet(&message.body),
            (Phase::Greeting, ..) => self.phase = Phase::Unreadable,
            (Phase::Clear(clear), ..) => {
                clear.message(side, &message);
                match message.kind {
                    kind::CERTIFICATE if message.whole => self.lane(side).chain = certificates(&message.body),
                    kind::NEW_SESSION_TICKET if side == Side::Server && message.whole => {
                        self.issued = handshake::ticket(&message.body).and_then(Name::of);
                    }
                    _ => {}
                }
            }
            (Phase::Encrypted(_) | Phase::Refused | Phase::Unreadable, ..) => {}
        }
    }

    /// Messages of a side may have been missed.
    fn unread(&mut self, side: Side) {
        match &mut self.phase {
            // The client's hello helps to read the rest, the server's is needed.
            Phase::Greeting if side == Side::Server => self.phase = Phase::Unreadable,
            Phase::Clear(clear) => clear.unread(side),
            _ => {}
        }
    }

    /// Takes the server's hello.
    fn greet(&mut self, body: &[u8]) {
        let Some(answer) = server_hello(body) else { return self.phase = Phase::Unreadable };
        if answer.retry {
            self.retried = true;
            return;
        }
        self.phase = match answer.version {
            Some(0x0300..=0x0303) => Phase::Clear(decide12::Clear::default()),
            Some(0x0304) => Lengths::of(answer.suite).map_or(Phase::Unreadable, |lengths| {
                let offer = self.offer(lengths, answer.resumed);
                Phase::Encrypted(Box::new(Encrypted::new(offer)))
            }),
            _ => Phase::Unreadable,
        };
        self.answer = Some(answer);
        for (side, lane) in [(Side::Client, &self.client), (Side::Server, &self.server)] {
            match &mut self.phase {
                Phase::Clear(clear) if lane.lost => clear.lost(side),
                Phase::Clear(clear) if lane.messages.is_lost() => clear.unread(side),
                Phase::Encrypted(encrypted) if lane.lost => encrypted.push(side, Happened::Lost),
                _ => {}
            }
            match &mut self.phase {
                Phase::Clear(clear) if lane.ended => clear.end(side, false),
                Phase::Encrypted(encrypted) if lane.ended => encrypted.push(side, Happened::End { reset: false }),
                _ => {}
            }
        }
    }

    /// What the client's hello offers; all it may have offered where it was not read to its end.
    fn offer(&self, lengths: Lengths, resumed: bool) -> Offer {
        let whole = self.hello.as_ref().is_some_and(|hello| hello.whole);
        let offers = |has: fn(&ClientHello) -> bool| !whole || self.hello.as_ref().is_some_and(has);
        Offer {
            lengths,
            resumed,
            // A client that was asked to say hello again sends no early data (RFC 8446 section 4.2.10).
            early_data: !self.retried && offers(|hello| hello.early_data),
            post_handshake_auth: offers(|hello| hello.post_handshake_auth),
            raw_keys: offers(|hello| hello.raw_keys),
            takes_tickets: self.hello.as_ref().is_some_and(|hello| hello.takes_tickets),
        }
    }

    fn alert(&mut self, side: Side, bytes: &[u8]) {
        for byte in bytes {
            let lane = self.lane(side);
            let Some(level) = lane.alert.replace(*byte) else { continue };
            let ends = level != WARNING || *byte == CLOSE_NOTIFY;
            match &mut self.phase {
                Phase::Greeting if ends => self.refuse(),
                Phase::Clear(clear) if ends && !clear.is_encrypted(side) => clear.alert(side),
                _ => {}
            }
            return;
        }
    }

    /// The handshake ended before the server said hello.
    fn refuse(&mut self) {
        let seen = self.hello.is_some() && !self.server.lost && !self.client.lost;
        self.phase = if seen { Phase::Refused } else { Phase::Unreadable };
    }
}

/// Shows no bytes of messages: there are tickets among them.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("phase", &self.phase).field("facts", &self.facts()).finish_non_exhaustive()
    }
}

impl Encrypted {
    fn new(offer: Offer) -> Self {
        Self { offer, trace: Trace::default(), verdict: decide13::Verdict::default() }
    }

    fn push(&mut self, side: Side, happened: Happened) {
        if !self.verdict.settled {
            self.trace.push(side, happened);
            self.judge();
        }
    }

    fn judge(&mut self) {
        self.verdict = self.judged(&Habit::default());
    }

    fn judged(&self, habit: &Habit) -> decide13::Verdict {
        decide13::judge(&self.trace, &self.offer, habit)
    }
}

impl Lane {
    /// Bytes held.
    fn held(&self) -> usize {
        self.messages.held() + self.chain.iter().map(|certificate| certificate.len()).sum::<usize>()
    }
}
