//! What one socket saw of its connection.

use crate::exchange::Protocol;
use crate::segment::{Direction, Timestamp};
use crate::tls::Session;
use crate::tracker::pairing::ExchangeView;

/// What a connection yields.
pub(crate) enum View {
    /// Something began: the first byte's sequence number and the way it went. Both ends of a connection see the same.
    Began(u32, Direction),
    Exchange(Box<ExchangeView>),
    Connection(Box<ConnectionView>),
}

/// What a connection without readable exchanges speaks.
pub(crate) enum Spoken {
    Plain(Protocol),
    Tls(Box<Session>),
}

/// A connection without readable exchanges, as one socket saw it.
pub(crate) struct ConnectionView {
    pub(crate) spoken: Spoken,
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
    /// It turned out to be TLS: [`Connection::settle`] is to be asked in a while.
    pub(crate) settles: bool,
}
