//! Who a socket is.

use crate::segment::{Direction, Endpoints, Owner, Segment, SocketId};
use crate::tracker::connection::index;

/// Who a socket is, as far as its segments told.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) id: SocketId,
    pub(crate) endpoints: Endpoints,
    /// Addresses on the wire by the way bytes go; `None` as long as they are the socket's own, as they are where nothing is translated.
    wire: Option<Box<[Option<Endpoints>; 2]>>,
    /// Which ways bytes went.
    seen: [bool; 2],
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
            wire: None,
            seen: [false; 2],
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
        self.pass(segment);
        self.owner = segment.owner.or(self.owner);
        self.cgroup = segment.cgroup.or(self.cgroup);
        self.netns = segment.netns.or(self.netns);
    }

    fn pass(&mut self, segment: &Segment<'_>) {
        let at = index(segment.direction);
        let before = self.seen.map(|seen| seen.then_some(self.endpoints));
        self.seen[at] = true;
        if self.wire.is_none() && segment.wire == self.endpoints {
            return;
        }
        self.wire.get_or_insert_with(|| Box::new(before))[at] = Some(segment.wire);
    }

    /// Addresses on the wire of bytes that go this way, from this socket's side.
    pub(crate) fn wire(&self, direction: Direction) -> Endpoints {
        let at = index(direction);
        let Some(wire) = &self.wire else { return self.endpoints };
        wire[at].or(wire[1 - at]).unwrap_or(self.endpoints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{Class, Timestamp};

    fn endpoints(local: u16, remote: u16) -> Endpoints {
        let address = |port| ([10, 0, 0, 1], port).into();
        Endpoints { local: address(local), remote: address(remote) }
    }

    fn segment(direction: Direction, wire: Endpoints) -> Segment<'static> {
        Segment {
            time: Timestamp(0),
            socket: SocketId(1),
            direction,
            wire,
            endpoints: endpoints(1, 2),
            sequence: 0,
            syn: false,
            fin: false,
            rst: false,
            length: 0,
            payload: b"",
            class: Class::Unclassified,
            fresh: true,
            gap: false,
            complete_source: false,
            passed_over: None,
            repeat: None,
            muted: false,
            owner: None,
            cgroup: None,
            netns: None,
        }
    }

    #[test]
    fn each_way_keeps_its_addresses_on_the_wire() {
        let (own, other) = (endpoints(1, 2), endpoints(1, 3));
        let cases = [
            (vec![], [own, own]),
            (vec![(Direction::Egress, own)], [own, own]),
            (vec![(Direction::Egress, other)], [other, other]),
            (vec![(Direction::Egress, own), (Direction::Ingress, other)], [own, other]),
            (vec![(Direction::Ingress, other), (Direction::Egress, own)], [own, other]),
            (vec![(Direction::Egress, other), (Direction::Egress, own)], [own, own]),
        ];
        for (segments, expected) in cases {
            let mut identity = Identity::new(&segment(Direction::Egress, own));
            segments.iter().for_each(|(direction, wire)| identity.learn(&segment(*direction, *wire)));
            let wire = [Direction::Egress, Direction::Ingress].map(|direction| identity.wire(direction));
            assert_eq!(wire, expected, "{segments:?}");
        }
    }
}
