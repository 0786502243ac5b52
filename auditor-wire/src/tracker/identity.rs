//! Who a socket is.

use crate::segment::{Direction, Endpoints, Owner, Segment, SocketId};
use crate::tracker::connection::index;

/// Who a socket is, as far as its segments told.
#[derive(Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) id: SocketId,
    pub(crate) endpoints: Endpoints,
    /// By the way bytes go.
    wire: [Option<Endpoints>; 2],
    pub(crate) owner: Option<Owner>,
    pub(crate) cgroup: Option<u64>,
    pub(crate) netns: Option<u32>,
    /// Which way the client's bytes go, once requests, a hello or a SYN told.
    pub(crate) client: Option<Direction>,
}

impl Identity {
    pub(crate) fn new(segment: &Segment<'_>) -> Self {
        Self {
            id: segment.socket,
            endpoints: segment.endpoints,
            wire: [None, None],
            owner: None,
            cgroup: None,
            netns: None,
            client: None,
        }
    }

    /// Takes what a segment tells.
    pub(crate) fn learn(&mut self, segment: &Segment<'_>) {
        // A socket that was closed has given its port back: what it still sends, a reset, comes without one.
        if segment.endpoints.local.port() != 0 {
            self.endpoints = segment.endpoints;
        }
        self.wire[index(segment.direction)] = Some(segment.wire);
        self.owner = segment.owner.or(self.owner);
        self.cgroup = segment.cgroup.or(self.cgroup);
        self.netns = segment.netns.or(self.netns);
    }

    /// Addresses on the wire of bytes that go this way, from this socket's side.
    pub(crate) fn wire(&self, direction: Direction) -> Endpoints {
        let at = index(direction);
        self.wire[at].or(self.wire[1 - at]).unwrap_or(self.endpoints)
    }
}
