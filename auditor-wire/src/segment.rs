//! A [`Segment`]: one TCP segment as one socket saw it. Every capture source ends here.

use std::net::SocketAddr;

/// Nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// Identity of a socket for as long as the capture runs: the kernel's socket cookie, or a number a file source gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u64);

impl SocketId {
    /// Set in the identity of what a socket carries inside TLS. The kernel counts cookies up from 1 (`__sock_gen_cookie`,
    /// net/core/sock_diag.c): no socket has it.
    const PLAINTEXT: u64 = 1 << 63;

    /// The identity of what this socket carries inside TLS: a connection of its own, with sequence numbers of its own.
    #[must_use]
    pub fn plaintext(self) -> Self {
        Self(self.0 | Self::PLAINTEXT)
    }

    /// Whether this is what a socket carries inside TLS.
    #[must_use]
    pub fn is_plaintext(self) -> bool {
        self.0 & Self::PLAINTEXT != 0
    }

    /// Set in the identity of an `AF_UNIX` socket, which has no cookie that is told.
    const UNIX: u64 = 1 << 62;

    /// The identity of the `AF_UNIX` socket with this inode. The kernel counts inodes of sockets up in 32 bits.
    #[must_use]
    pub fn unix(inode: u64) -> Self {
        Self((inode | Self::UNIX) & !Self::PLAINTEXT)
    }

    /// Whether this is an `AF_UNIX` socket.
    #[must_use]
    pub fn is_unix(self) -> bool {
        self.0 & Self::UNIX != 0
    }

    /// The socket itself: the other way of [`SocketId::plaintext`], and no change for any other.
    #[must_use]
    pub fn carrier(self) -> Self {
        Self(self.0 & !Self::PLAINTEXT)
    }
}

/// Which way a segment went, seen from the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The socket's process sent it.
    Egress,
    /// The socket received it.
    Ingress,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Egress => Self::Ingress,
            Self::Ingress => Self::Egress,
        }
    }
}

/// The two ends of a connection, seen from one of them. Addresses are canonical: v4-mapped IPv6 is IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoints {
    /// The end that was observed.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
}

impl Endpoints {
    /// The same connection seen from the other end.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { local: self.remote, remote: self.local }
    }
}

/// What the sender of a segment looked at first bytes for (in the kernel, or in a file source).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    /// Nothing is claimed: the payload may be anything. What a capture file gives.
    #[default]
    Unclassified,
    /// Follows the previous copied segment within a head's byte budget.
    Continuation,
    /// Begins like an HTTP/1 request head.
    Request,
    /// Begins like an HTTP/1 response head.
    Response,
    /// Too short to tell.
    Short,
    /// Bytes of a TLS connection, from the first of its direction on.
    Tls,
    /// The header of a TLS record whose body is not copied; no payload when the segment is there for what it says of the
    /// connection.
    TlsHeader,
    /// Bytes of an HTTP/2 connection; larger bodies are not copied.
    Http2,
    /// First bytes of a connection in no known protocol.
    Other,
    /// Bytes of a direction whose first byte was not seen: what stands before them is still to come.
    Ahead,
}

/// The process that owns a socket, as the kernel told it with the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Thread group in the initial pid namespace.
    pub tgid: u32,
    /// Start of the process since boot, nanoseconds; 0 unknown. Tells a reused pid.
    pub start_ns: u64,
    /// The kernel's name of the process, zero-terminated.
    pub comm: [u8; 16],
}

/// Calls that a source passed over: each a request and its response, whole, like one that was copied. Neither direction had any
/// other bytes since the last segment that was copied of it; both go on at the begin of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// Calls of the socket that were ever passed over, modulo 2^32.
    pub calls: u32,
    /// Where the other direction than the segment's goes on; its own does at the segment.
    pub next_other: u32,
    /// Requests and responses did not follow each other: where messages begin is not known after all.
    pub doubtful: bool,
    /// Of one call more the request was passed over. The segment begins its response.
    pub request: bool,
}

/// One TCP segment as one socket saw it. `payload` may be shorter than `length`: bodies are not copied.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// When it passed.
    pub time: Timestamp,
    /// The observing socket.
    pub socket: SocketId,
    /// Which way it went.
    pub direction: Direction,
    /// Addresses in this packet: after DNAT where it was translated. Both ends of one connection on one node have equal,
    /// reversed wire endpoints.
    pub wire: Endpoints,
    /// Addresses as the socket has them: what the application connected to.
    pub endpoints: Endpoints,
    /// TCP sequence number of the first payload byte.
    pub sequence: u32,
    /// SYN: the sequence number before the first payload byte is consumed by it.
    pub syn: bool,
    /// FIN: nothing follows in this direction.
    pub fin: bool,
    /// RST: the connection is gone.
    pub rst: bool,
    /// Payload bytes the segment carried.
    pub length: u32,
    /// The captured prefix of the payload.
    pub payload: &'a [u8],
    /// What the first bytes were taken for.
    pub class: Class,
    /// The connection was seen from its first byte, in both directions.
    pub fresh: bool,
    /// Segments of this socket and direction that were meant to be copied were lost before this one.
    pub gap: bool,
    /// The source copies every byte it sees, so a hole in the sequence is a loss. The kernel source skips bodies: there a
    /// hole without `gap` is a skipped body.
    pub complete_source: bool,
    /// Nothing more is copied of this socket.
    pub muted: bool,
    /// Calls of this connection that the source passed over before this segment, where it did so since it last said.
    pub passed_over: Option<PassedOver>,
    /// What tells its bytes from those of all others of its socket, where the source may pass over requests that repeat them.
    pub repeat: Option<u64>,
    /// Owner of the observing socket, where known.
    pub owner: Option<Owner>,
    /// Inode of the socket's cgroup2 directory, where known.
    pub cgroup: Option<u64>,
    /// Inode of the socket's network namespace, where known.
    pub netns: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_and_its_carrier_lead_to_each_other() {
        let socket = SocketId(4711);
        assert!(socket.plaintext().is_plaintext() && !socket.is_plaintext());
        assert_ne!(socket.plaintext(), socket);
        assert_eq!(socket.plaintext().carrier(), socket);
        assert_eq!(socket.plaintext().plaintext(), socket.plaintext());
        assert_eq!(socket.carrier(), socket);
        let unix = SocketId::unix(4711);
        assert!(unix.is_unix() && !unix.is_plaintext() && !socket.is_unix() && unix.carrier().is_unix());
    }
}
