//! Records of the ring buffer and rows of the socket iterator.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What precedes the payload of every ring record. All integers are in the machine's byte order; ports are numbers, not
/// network order; IPv4 addresses are v4-mapped (`::ffff:a.b.c.d`), in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
pub struct RecordHeader {
    /// `CLOCK_MONOTONIC` when the program ran, nanoseconds.
    pub time_ns: u64,
    /// Socket cookie: identifies the socket for as long as the machine runs.
    pub cookie: u64,
    /// Inode of the cgroup2 directory the socket belongs to; 0 unknown.
    pub cgroup_id: u64,
    /// Start of the owning process (its thread-group leader) since boot, nanoseconds; 0 unknown.
    pub owner_start_ns: u64,
    /// Thread group that owns the socket, in the initial pid namespace; 0 unknown.
    pub owner_tgid: u32,
    /// TCP sequence number of the first payload byte (of the segment itself when it has none).
    pub sequence: u32,
    /// Payload bytes the segment carried.
    pub length: u32,
    /// Payload bytes that follow this header; more than `length` only where they are [`TlsHeader`]s.
    pub captured: u32,
    /// Inode of the socket's network namespace; 0 unknown.
    pub netns: u32,
    /// Local port on the wire, in this packet.
    pub wire_local_port: u16,
    /// Remote port on the wire, in this packet.
    pub wire_remote_port: u16,
    /// Local port as the socket has it.
    pub socket_local_port: u16,
    /// Remote port as the socket has it: what the application connected to, before any DNAT.
    pub socket_remote_port: u16,
    /// Local address on the wire.
    pub wire_local: [u8; 16],
    /// Remote address on the wire.
    pub wire_remote: [u8; 16],
    /// Local address as the socket has it.
    pub socket_local: [u8; 16],
    /// Remote address as the socket has it.
    pub socket_remote: [u8; 16],
    /// Name of the owning process, zero-terminated.
    pub owner_comm: [u8; 16],
    /// [`EGRESS`] or [`INGRESS`].
    pub direction: u8,
    /// One of the `CLASS_*` constants.
    pub class: u8,
    /// TCP flags byte (RFC 9293 section 3.1): FIN 1, SYN 2, RST 4, ...
    pub tcp_flags: u8,
    /// `MARK_*` bits.
    pub marks: u8,
}

/// [`RecordHeader::direction`]: the socket's process sent it.
pub const EGRESS: u8 = 0;
/// [`RecordHeader::direction`]: the socket received it.
pub const INGRESS: u8 = 1;

/// [`RecordHeader::class`]: follows an earlier record within its head's byte budget.
pub const CLASS_CONTINUATION: u8 = 0;
/// Begins like an HTTP/1 request head.
pub const CLASS_REQUEST: u8 = 1;
/// Begins like an HTTP/1 response head.
pub const CLASS_RESPONSE: u8 = 2;
/// Too short to tell.
pub const CLASS_SHORT: u8 = 3;
/// Bytes of a TLS connection, of the first [`TLS_COPIED`] of its direction; a socket that was met in the middle of one is muted
/// at once.
pub const CLASS_TLS: u8 = 4;
/// Bytes of an HTTP/2 connection: all but the payloads of larger DATA frames (RFC 9113 section 6.1).
pub const CLASS_HTTP2: u8 = 5;
/// No payload: FIN or RST.
pub const CLASS_END: u8 = 6;
/// First bytes of a connection in no known protocol; the socket is muted after them.
pub const CLASS_OTHER: u8 = 7;
/// Headers of TLS records beyond the bytes that are copied: the payload is [`TlsHeader`]s, in order; there may be none, when the
/// record is there for its marks.
pub const CLASS_TLS_HEADERS: u8 = 8;
/// Bytes behind the first one of a direction, which has not come: what stands before them was lost on the way, and is sent again. Only
/// where the connection was seen from its begin ([`MARK_FRESH`]).
pub const CLASS_AHEAD: u8 = 9;

/// [`RecordHeader::marks`]: both directions of the connection were seen from their first byte.
pub const MARK_FRESH: u8 = 1;
/// Records of this socket and direction were lost before this one.
pub const MARK_GAP: u8 = 2;
/// Nothing more will come of this socket, apart from its end.
pub const MARK_MUTED: u8 = 4;

/// [`RecordHeader::marks`]: calls of this socket were passed over, not copied. The record has no owner
/// ([`RecordHeader::owner_tgid`] is 0); in the place of its name is a [`PassedOver`].
pub const MARK_SAMPLED: u8 = 8;

/// What was passed over of a socket before a record, in the place of [`RecordHeader::owner_comm`]: both directions go on behind it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout)]
pub struct PassedOver {
    /// Calls of this socket that were ever passed over with their answers, modulo 2^32.
    pub calls: u32,
    /// Sequence number behind the last byte that was seen of the other direction than the record's.
    pub next_other: u32,
    /// `PASSED_*` bits.
    pub how: u32,
    /// Zero.
    pub padding: u32,
}

/// [`PassedOver::how`]: requests and answers did not follow each other one by one. Nothing of this socket is passed over any more.
pub const PASSED_DOUBTFUL: u32 = 1;
/// [`PassedOver::how`]: the record begins the answer to a request that was passed over; it is not like those before it.
pub const PASSED_REQUEST: u32 = 2;

/// Largest payload of one record.
pub const PAYLOAD_MAX: usize = 16 * 1024;
/// Payload capacities a record may reserve in the ring: the smallest that is larger than the payload is taken (a record
/// holds one byte less than its capacity, because the length is masked for the verifier).
pub const PAYLOAD_CLASSES: [usize; 4] = [256, 1024, 4096, PAYLOAD_MAX];

/// Bytes copied of each direction of a TLS connection, from its first TLS byte on: a whole hello, whose last extension tells of a
/// resumption.
pub const TLS_COPIED: u32 = 4095;
/// Headers of TLS records in one direction after which no more of it is wanted: a server's flight is up to seven records, and
/// eight that follow the client's show whether it went on.
pub const TLS_HEADERS_WANTED: u32 = 24;
/// Client sockets that are asked to be spared and have not heard of it yet, at most. One that has heard says so by a
/// [`CLASS_CONTINUATION`] record without payload and with [`MARK_MUTED`].
pub const SPARED_MAX: u32 = 16_384;
/// Headers that one [`CLASS_TLS_HEADERS`] record holds at most: a power of two.
pub const TLS_HEADERS_MAX: usize = 16;
/// Those that the packet programs put into one.
pub const TLS_HEADERS_OF_PACKET: usize = 4;

/// A TLS record's header (RFC 8446 section 5.1). Its bytes may have come in more than one segment.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout)]
pub struct TlsHeader {
    /// TCP sequence number of its first byte.
    pub sequence: u32,
    /// Content type, version, length.
    pub header: [u8; 5],
    /// Zero.
    pub padding: [u8; 3],
}

/// A row of `iter/task_file`: one TCP socket and the process that has it open.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
pub struct SocketRow {
    /// Socket cookie, 0 while nobody has asked for it.
    pub cookie: u64,
    /// Start of the process since boot, nanoseconds.
    pub start_ns: u64,
    /// Thread group, initial pid namespace.
    pub tgid: u32,
    /// Network namespace inode.
    pub netns: u32,
    /// Local address, v4-mapped when IPv4.
    pub local: [u8; 16],
    /// Peer address, zero when listening.
    pub peer: [u8; 16],
    /// Local port number.
    pub local_port: u16,
    /// Peer port number.
    pub peer_port: u16,
    /// Kernel TCP state (`include/net/tcp_states.h`): 1 established, 10 listening.
    pub state: u8,
    /// Zero.
    pub padding: [u8; 3],
    /// Name of the process, zero-terminated.
    pub comm: [u8; 16],
}
