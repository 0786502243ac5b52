//! A connection that turned out to be TLS: its bytes go to a [`Session`] instead of the parsers.

use std::time::Duration;

use crate::reassembly::{Missing, Part};
use crate::segment::{Direction, Timestamp};
use crate::tls::{Accepted, ClientCertificate, Session, Side};

/// A handshake in which nothing more has happened for this long is told of as it stands, once the client's part is decided.
const QUIET: Duration = Duration::from_secs(1);

/// A handshake that is not decided after this long is told of as it stands: a peer may take its time to look a key up.
const LONGEST: Duration = Duration::from_secs(10);

/// A TLS connection that has not been told of yet.
pub(crate) struct Secure {
    pub(crate) session: Session,
    /// Which way the client's bytes go.
    pub(crate) client: Direction,
    /// When it began.
    pub(crate) time: Timestamp,
    /// When something was last read.
    last: Timestamp,
}

impl Secure {
    /// How long after its begin, and then again, to ask whether it [is due](Self::is_due).
    pub(crate) const LOOK_AFTER: Duration = QUIET;

    pub(crate) fn new(client: Direction, time: Timestamp) -> Self {
        Self { session: Session::new(), client, time, last: time }
    }

    fn side(&self, direction: Direction) -> Side {
        if direction == self.client { Side::Client } else { Side::Server }
    }

    /// Reads a part that is next in its direction.
    pub(crate) fn read(&mut self, part: &Part<'_>, direction: Direction) {
        let side = self.side(direction);
        self.last = self.last.max(part.time);
        match part.hole {
            Some(hole) if hole.missing == Missing::Lost => self.session.lost(side),
            Some(hole) => self.session.skip(side, hole.length.into()),
            None => {}
        }
        self.bytes(direction, part.payload, part.length);
        if part.fin {
            self.session.end(side, false);
        }
    }

    /// Reads bytes, the first of `length`.
    pub(crate) fn bytes(&mut self, direction: Direction, bytes: &[u8], length: u32) {
        let side = self.side(direction);
        self.session.data(side, bytes);
        let copied = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if copied < length {
            self.session.skip(side, u64::from(length - copied));
        }
    }

    /// Bytes of a direction were lost.
    pub(crate) fn lost(&mut self, direction: Direction) {
        self.session.lost(self.side(direction));
    }

    /// The end of a direction, where it was not a part's.
    pub(crate) fn end(&mut self, direction: Direction, reset: bool) {
        self.session.end(self.side(direction), reset);
    }

    /// Whether what can be said by `now` is to be said, though more may come.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        let since = |time: Timestamp| Duration::from_nanos(now.0.saturating_sub(time.0));
        let client = self.session.facts().client;
        let decided = client.certificate != ClientCertificate::Undetermined && client.accepted != Accepted::Unknown;
        (decided && since(self.last) >= QUIET) || since(self.time) >= LONGEST
    }
}
