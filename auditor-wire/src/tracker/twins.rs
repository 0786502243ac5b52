//! Both ends of a connection on one node see each exchange: here the two views become one.
//!
//! The ends find each other by what they both see begin: the same sequence number, going out at one and coming in at the
//! other, with at least one address in common. That holds through DNAT and SNAT on the way, and a reused port has other
//! sequence numbers.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::segment::{Direction, Endpoints, SocketId, Timestamp};
use crate::tracker::pairing::{ExchangeView, Key};
use crate::tracker::view::{ConnectionView, Spoken};

/// Reported views that a link remembers for its other end.
const MOST_REPORTED: usize = 1024;

/// A view that waits for that of the other end.
pub(crate) enum Held {
    Connection(Box<ConnectionView>),
    Exchange(Box<ExchangeView>),
}

impl Held {
    /// Bytes it keeps, about.
    pub(crate) fn cost(&self) -> usize {
        match self {
            Self::Connection(view) => match &view.spoken {
                Spoken::Plain(_) => 256,
                Spoken::Tls(session) => 256 + session.buffered(),
            },
            Self::Exchange(view) => {
                let head = |bytes: &[u8]| bytes.len() + 512;
                view.request.as_ref().map_or(0, |request| head(request.head.bytes()))
                    + view.response.as_ref().map_or(0, |response| head(response.head.bytes()))
            }
        }
    }
}

/// What one end knows of its other end.
#[derive(Default)]
pub(crate) struct Link {
    pub(crate) twin: Option<SocketId>,
    /// What the other end has reported and this one has not seen whole yet, in order.
    reported: VecDeque<Key>,
    /// What is still to come of the last exchange that both ends saw, where this one saw it in two parts.
    rest: Option<Key>,
    pub(crate) connection_reported: bool,
    held: VecDeque<(Timestamp, Held)>,
}

impl Link {
    /// The other end has reported an exchange.
    pub(crate) fn mark(&mut self, key: Key) {
        if self.reported.len() == MOST_REPORTED {
            self.reported.pop_front();
        }
        self.reported.push_back(key);
    }

    /// Whether the other end has reported this exchange. Where responses are hidden in segments that are not copied, the ends
    /// may give exchanges up at different times: earlier ones may still come.
    pub(crate) fn take_mark(&mut self, view: Key) -> bool {
        if self.rest.take_if(|rest| rest.is_same(view)).is_some() {
            return true;
        }
        let Some(at) = self.reported.iter().position(|key| view.is_same(*key)) else { return false };
        self.rest = self.reported.remove(at).and_then(|key| key.beyond(view));
        true
    }

    /// Both ends have seen an exchange, of which this one may still tell another part: that is left out. It is taken out if it is
    /// held.
    pub(crate) fn leave_out(&mut self, rest: Option<Key>) -> Option<Held> {
        self.rest = rest;
        let held = self.take_same(rest?).map(Held::Exchange)?;
        self.rest = None;
        Some(held)
    }

    pub(crate) fn hold(&mut self, due: Timestamp, held: Held) {
        self.held.push_back((due, held));
    }

    /// Takes out the held view of the same exchange.
    pub(crate) fn take_same(&mut self, view: Key) -> Option<Box<ExchangeView>> {
        let same = |held: &Held| match held {
            Held::Exchange(other) => view.is_same(other.key()),
            Held::Connection(_) => false,
        };
        let at = self.held.iter().position(|(_, held)| same(held))?;
        match self.held.remove(at)?.1 {
            Held::Exchange(view) => Some(view),
            Held::Connection(_) => None,
        }
    }

    /// Takes out the held connection.
    pub(crate) fn take_connection(&mut self) -> Option<Held> {
        let at = self.held.iter().position(|(_, held)| matches!(held, Held::Connection(_)))?;
        self.held.remove(at).map(|(_, held)| held)
    }

    /// Takes out the first view that is due.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Option<Held> {
        let (due, _) = self.held.front()?;
        if *due > now {
            return None;
        }
        self.held.pop_front().map(|(_, held)| held)
    }
}

/// Hashes sequence numbers. Peers choose theirs, so what they hash to has a key that is made anew for each tracker; one
/// multiplication is enough where nobody who chooses sees what comes of it.
pub(crate) struct KeyedState([u64; 2]);

impl Default for KeyedState {
    fn default() -> Self {
        let random = RandomState::new();
        Self([random.hash_one(0), random.hash_one(1) | 1])
    }
}

impl BuildHasher for KeyedState {
    type Hasher = KeyedHasher;

    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher { hash: self.0[0], factor: self.0[1] }
    }
}

/// See [`KeyedState`].
pub(crate) struct KeyedHasher {
    hash: u64,
    factor: u64,
}

impl Hasher for KeyedHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, value: u32) {
        let product = u128::from(self.hash ^ u64::from(value)) * u128::from(self.factor);
        #[expect(clippy::cast_possible_truncation, reason = "the halves of the product are folded")]
        let folded = product as u64 ^ (product >> 64) as u64;
        self.hash = folded;
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

/// Beginnings that were seen at one end only, and views that wait.
#[derive(Default)]
pub(crate) struct Twins {
    /// By the sequence number of what began.
    beginnings: HashMap<u32, (SocketId, Direction), KeyedState>,
    /// When views are due, in order.
    due: VecDeque<(Timestamp, SocketId)>,
    pub(crate) held: usize,
    pub(crate) held_bytes: usize,
    /// Views left out for that of the other end.
    pub(crate) left_out: u64,
}

impl Twins {
    /// The socket that saw the same begin, going the other way.
    pub(crate) fn candidate(&self, id: SocketId, sequence: u32, direction: Direction) -> Option<SocketId> {
        let (other, other_direction) = self.beginnings.get(&sequence)?;
        (*other != id && *other_direction != direction).then_some(*other)
    }

    /// Notes a beginning; the newest of one sequence number stands. It takes the place of `before`.
    pub(crate) fn note(&mut self, id: SocketId, sequence: u32, direction: Direction, before: Option<u32>) {
        self.forget(id, [before.filter(|before| *before != sequence)]);
        self.beginnings.insert(sequence, (id, direction));
    }

    /// Forgets noted beginnings.
    pub(crate) fn forget(&mut self, id: SocketId, noted: impl IntoIterator<Item = Option<u32>>) {
        for sequence in noted.into_iter().flatten() {
            if self.beginnings.get(&sequence).is_some_and(|(socket, _)| *socket == id) {
                self.beginnings.remove(&sequence);
            }
        }
    }

    pub(crate) fn held(&mut self, due: Timestamp, id: SocketId, cost: usize) {
        self.due.push_back((due, id));
        self.held += 1;
        self.held_bytes += cost;
    }

    pub(crate) fn released(&mut self, cost: usize) {
        self.held -= 1;
        self.held_bytes -= cost;
    }

    /// The next socket whose views are due by `now`.
    pub(crate) fn next_due(&mut self, now: Timestamp) -> Option<SocketId> {
        let (due, _) = self.due.front()?;
        if *due > now {
            return None;
        }
        self.due.pop_front().map(|(_, id)| id)
    }

    /// When the view that waits longest is due.
    pub(crate) fn first_due(&self) -> Option<Timestamp> {
        self.due.front().map(|(due, _)| *due)
    }
}

/// Whether what went out with one pair of addresses may have come in with the other: either end is the same, as it is unless
/// both were translated on the way. Loopback addresses mean the same end only within one network namespace.
pub(crate) fn addresses_fit(sent: (Endpoints, Option<u32>), received: (Endpoints, Option<u32>)) -> bool {
    let ((sent, sender), (received, receiver)) = (sent, received);
    let loopback = sent.local.ip().is_loopback() || sent.remote.ip().is_loopback();
    let apart = matches!((sender, receiver), (Some(a), Some(b)) if a != b);
    (sent.local == received.remote || sent.remote == received.local) && !(loopback && apart)
}
