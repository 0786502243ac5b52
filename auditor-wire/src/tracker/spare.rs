//! Of a connection whose both ends are on this node one end is enough, once both have told the same.

use crate::segment::SocketId;
use crate::tracker::{Entry, State, Tracker};

/// Calls of one connection that both ends tell the same of until the client's end is not needed any more: connections of a call or
/// two are not worth it.
pub(super) const AGREED: u8 = 8;

impl Tracker {
    /// Sockets that need not be captured any more, each told once: clients on this node whose servers' ends, on this node as well,
    /// tell the same of every call. A capture that spares such a socket says so by a segment of it that is `muted`; until then,
    /// and where none ever comes, both ends are listened to.
    pub fn spared(&mut self) -> impl Iterator<Item = SocketId> + '_ {
        self.spared.drain(..)
    }

    /// A call was reported by the server's end and left out of what the client's end tells, which is `id`. `same`: both saw it whole.
    pub(super) fn agree(&mut self, id: SocketId, same: bool) {
        let reads_all = self.twin_of(id).is_some_and(|server| self.reads_all(server));
        let Some(entry) = self.table.get_mut(id) else { return };
        let State::Live(connection) = &entry.state else { return };
        if id.is_plaintext() || connection.complete || entry.agreed == AGREED {
            return;
        }
        entry.agreed = if same && reads_all { entry.agreed + 1 } else { 0 };
        if entry.agreed == AGREED {
            self.spared.push(id);
        }
    }

    /// Whether what a socket saw so far is enough to read what it will see.
    fn reads_all(&self, id: SocketId) -> bool {
        matches!(self.table.get(id), Some(Entry { state: State::Live(connection), .. }) if connection.reads_all())
    }

    /// Nothing more comes of a client's end: what is under way there, the server's end tells.
    pub(super) fn spare(&mut self, id: SocketId) {
        let Some(entry) = self.table.get_mut(id) else { return };
        let State::Live(connection) = &entry.state else { return };
        self.buffered -= connection.buffered();
        entry.state = State::Spared(Box::new(connection.who.clone()));
    }

    /// Keeps a client's end that is not captured any more for as long as the server's; whether that was so.
    pub(super) fn follows_twin(&mut self, id: SocketId) -> bool {
        let spared = matches!(self.table.get(id), Some(Entry { state: State::Spared(_), .. }));
        let twin = self.twin_of(id).filter(|_| spared).and_then(|twin| self.table.used(twin));
        let Some(used) = twin.filter(|twin| self.table.used(id).is_some_and(|used| used < *twin)) else { return false };
        self.table.renew(id, used);
        true
    }
}
