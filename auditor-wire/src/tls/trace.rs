//! What happened on a connection of TLS 1.3 after the last ServerHello, as far as it is visible: lengths of encrypted records and
//! how the two sides ended, in order.

use super::Side;

/// Most records that are remembered. A client's chain of 21 KB in records of 512 bytes has 43.
pub(super) const MOST_RECORDS: usize = 128;

/// One encrypted record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Its place among all that happened.
    pub(super) at: u16,
    /// Length of its body, bytes.
    pub(super) length: u16,
}

/// What one side did.
#[derive(Clone, Debug, Default)]
pub(super) struct Track {
    /// Its encrypted records.
    pub(super) records: Vec<Mark>,
    /// When it sent an alert in clear that ends the connection.
    pub(super) alert: Option<u16>,
    /// When it ended its direction.
    pub(super) end: Option<u16>,
    /// When bytes of it were lost: what it did since is not known.
    pub(super) lost: Option<u16>,
}

/// What both sides did.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    pub(super) client: Track,
    pub(super) server: Track,
    next: u16,
    /// Nothing more will come.
    pub(super) over: bool,
    reset: bool,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    Record(u16),
    Alert,
    /// Its direction, or with `reset` both.
    End {
        reset: bool,
    },
    Lost,
}

impl Trace {
    /// Adds what happened next.
    pub(super) fn push(&mut self, side: Side, happened: Happened) {
        let at = self.next;
        self.next = at.saturating_add(1);
        let track = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        match happened {
            Happened::Record(length) => track.records.push(Mark { at, length }),
            Happened::Alert => _ = track.alert.get_or_insert(at),
            Happened::End { reset } => {
                track.end.get_or_insert(at);
                self.reset |= reset;
            }
            Happened::Lost => _ = track.lost.get_or_insert(at),
        }
    }

    /// As much is remembered as may be.
    pub(super) fn is_full(&self) -> bool {
        self.client.records.len() + self.server.records.len() >= MOST_RECORDS
    }

    /// The server will say nothing more: a client that only ended its own direction may still be answered.
    pub(super) fn ended(&self) -> bool {
        self.over || self.reset || self.server.end.is_some()
    }

    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        (self.client.records.len() + self.server.records.len()) * size_of::<Mark>()
    }
}

impl Track {
    /// Its records after something that happened.
    pub(super) fn after(&self, at: u16) -> impl Iterator<Item = Mark> + '_ {
        self.records.iter().copied().filter(move |mark| mark.at > at)
    }
}
