//! What the uprobes on TLS libraries and user space agree on. They are an object of their own, loaded only when asked for.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout::{Field, field};

/// Map: the ring buffer that carries records of plaintext.
pub const MAP_RECORDS: &str = "PLAINTEXT";
/// Map: per-CPU array of losses, by the `LOST_*` indices.
pub const MAP_LOSSES: &str = "LOSSES";
/// Map: array of [`Library`], indexed by the lower half of an attachment's cookie.
pub const MAP_LIBRARIES: &str = "LIBRARIES";

/// Program: uprobe at the entry of a library's read, write or handshake function.
pub const PROGRAM_ENTER: &str = "tls_enter";
/// Program: uretprobe at their return. For C alone: a return probe breaks a Go program when its stack moves.
pub const PROGRAM_RETURN: &str = "tls_return";
/// Program: uprobe at the entry of the function that frees a session.
pub const PROGRAM_FREE: &str = "tls_free";
/// Program: uprobe at the entry of Go's `(*Conn).Write`.
pub const PROGRAM_GO_WRITE: &str = "go_write";
/// Program: uprobe at the entry of the Go functions whose result counts.
pub const PROGRAM_GO_ENTER: &str = "go_enter";
/// Program: uprobe at each of their return instructions.
pub const PROGRAM_GO_RETURN: &str = "go_return";
/// Program: uprobe at the entry of Go's `(*Conn).Close`.
pub const PROGRAM_GO_CLOSE: &str = "go_close";

/// Program: follows a session that carries HTTP/2; tail-called by those that see reads and writes, and by itself.
pub const PROGRAM_HTTP2: &str = "tls_http2";
/// Map: program array whose only entry is [`PROGRAM_HTTP2`].
pub const MAP_HTTP2: &str = "HTTP2_PROGRAM";

/// Every program.
pub const PROGRAMS: [&str; 8] = [
    PROGRAM_ENTER,
    PROGRAM_RETURN,
    PROGRAM_FREE,
    PROGRAM_GO_WRITE,
    PROGRAM_GO_ENTER,
    PROGRAM_GO_RETURN,
    PROGRAM_GO_CLOSE,
    PROGRAM_HTTP2,
];

/// Program: `tp_btf/sys_exit`, what system calls move where the kernel does the TLS. Loaded only where it does.
pub const PROGRAM_KERNEL: &str = "kernel_tls";
/// Its tracepoint.
pub const TRACEPOINT_KERNEL: &str = "sys_exit";
/// Map: where it puts a record together; an entry for each processor.
pub const MAP_SCRATCH: &str = "KERNEL_SCRATCH";
/// [`PlaintextHeader::library`]: none, the kernel.
pub const KERNEL: u32 = u32::MAX;

/// Kind of a call, upper half of an attachment's cookie: returns how many bytes it wrote, as an `int`.
pub const CALL_WRITE: u32 = 0;
/// Returns how many bytes it read, as an `int`.
pub const CALL_READ: u32 = 1;
/// Returns 1 and stores how many bytes it wrote where its fourth argument says.
pub const CALL_WRITE_EX: u32 = 2;
/// Returns 1 and stores how many bytes it read where its fourth argument says.
pub const CALL_READ_EX: u32 = 3;
/// Returns 0 when the handshake is done.
pub const CALL_HANDSHAKE: u32 = 4;
/// Verifies the certificates of a client: returns no error when they are good.
pub const CALL_VERIFY: u32 = 5;
/// Verifies the certificates of the peer and stores what is wrong with them where its fourth argument says.
pub const CALL_PEERS: u32 = 6;
/// Verifies one chain, for whatever purpose: within [`CALL_VERIFY`] it tells that the client's was looked at.
pub const CALL_CHAIN: u32 = 7;

/// What the programs must know of a library or executable. Offsets are [`crate::layout::ABSENT`] where not known.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout)]
pub struct Library {
    /// Where the random of the session's ClientHello is kept: in the session, or in what `state` leads to.
    pub random: u32,
    /// Where a session keeps the pointer to what holds the random; [`crate::layout::ABSENT`] where that is the session itself.
    pub state: u32,
    /// Where a session keeps, as an `int` or in bits of one, whether it is the server's.
    pub server: u32,
    /// Those bits.
    pub server_mask: u32,
    /// Where a session keeps, as a `long`, the result of verifying the peer's certificate.
    pub verify: u32,
    /// Where a session keeps the pointer to what can be resumed of it.
    pub resumable: u32,
    /// Where that keeps the pointer to the peer's certificate, null when there is none.
    pub peer: u32,
    /// Zero.
    pub padding: u32,
    /// Go: distance of `(*TCPConn).Close` from where `(*Conn).Write` is probed, which tells a connection that is a TCP socket
    /// itself; 0 unknown.
    pub tcp_close: [u64; 2],
    /// Go: distance of where each function is probed from where `(*Conn).Write` is, by `CALL_*`; 0 for that itself.
    pub functions: [u64; 6],
}

/// What precedes the payload of every record of plaintext. All integers are in the machine's byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
pub struct PlaintextHeader {
    /// `CLOCK_MONOTONIC` when the program ran, nanoseconds.
    pub time_ns: u64,
    /// What ties the session to its socket, see [`PlaintextHeader::link_kind`].
    pub link: [u8; 32],
    /// The session's address in its process.
    pub object: u64,
    /// `CLOCK_MONOTONIC` when the session was first seen, nanoseconds.
    pub born_ns: u64,
    /// Start of the process since boot, nanoseconds; 0 unknown.
    pub owner_start_ns: u64,
    /// Name of the process, zero-terminated.
    pub owner_comm: [u8; 16],
    /// Thread group, in the initial pid namespace.
    pub owner_tgid: u32,
    /// Index of the [`Library`], or [`KERNEL`].
    pub library: u32,
    /// Bytes of plaintext that went the same way before, modulo 2^32. [`WHAT_END`]: bytes that were written in all.
    pub offset: u32,
    /// Bytes of plaintext of this read or write. [`WHAT_END`]: bytes that were read in all, modulo 2^32.
    pub length: u32,
    /// Bytes that follow this header.
    pub captured: u32,
    /// Result of verifying the peer's certificate (`X509_V_*`, 0 is good) or of the handshake, as the library has it.
    pub result: u32,
    /// [`crate::record::EGRESS`] or [`crate::record::INGRESS`].
    pub direction: u8,
    /// One of [`crate::record`]'s `CLASS_*` constants.
    pub class: u8,
    /// [`crate::record::MARK_GAP`], [`crate::record::MARK_MUTED`].
    pub marks: u8,
    /// One of the `WHAT_*` constants.
    pub what: u8,
    /// One of the `ROLE_*` constants.
    pub role: u8,
    /// One of the `LINK_*` constants.
    pub link_kind: u8,
    /// 1 when `result` is known.
    pub has_result: u8,
    /// Whether the session has a certificate of its peer: one of the `PRESENTED_*` constants.
    pub presented: u8,
}

/// [`PlaintextHeader::what`]: bytes were read or written.
pub const WHAT_DATA: u8 = 0;
/// The session is gone.
pub const WHAT_END: u8 = 1;
/// A handshake function returned; the result is the library's.
pub const WHAT_HANDSHAKE: u8 = 2;
/// The client's certificates were looked at; the result, where it is known, is 0 when they are good.
pub const WHAT_VERIFIED: u8 = 3;
/// The same, and the handshake ends with it.
pub const WHAT_REFUSED: u8 = 4;

/// [`PlaintextHeader::presented`]: not known.
pub const PRESENTED_UNKNOWN: u8 = 0;
/// There is none.
pub const PRESENTED_NONE: u8 = 1;
/// There is one.
pub const PRESENTED_YES: u8 = 2;

/// [`PlaintextHeader::role`]: the library's layout does not tell.
pub const ROLE_UNKNOWN: u8 = 0;
/// The session is the client's.
pub const ROLE_CLIENT: u8 = 1;
/// The session is the server's.
pub const ROLE_SERVER: u8 = 2;

/// [`PlaintextHeader::link_kind`]: the link is the random of the ClientHello.
pub const LINK_RANDOM: u8 = 0;
/// The first eight bytes of the link are the socket's cookie; 0 not known.
pub const LINK_COOKIE: u8 = 1;
/// The first eight bytes of the link are the cookie of a socket whose keys the kernel has, the next eight are bits: [`CLEAR`] and
/// [`LATE`], shifted by [`crate::record::EGRESS`] or [`crate::record::INGRESS`].
pub const LINK_KERNEL: u8 = 2;

/// What the process' system calls move this way is plaintext.
pub const CLEAR: u64 = 1;
/// Records went this way before the kernel had the keys.
pub const LATE: u64 = 4;

/// Loss: the ring was full.
pub const LOST_RING_FULL: u32 = 0;
/// Loss: the process' memory could not be read.
pub const LOST_MEMORY: u32 = 1;
/// Loss: no room to remember a session.
pub const LOST_SESSION: u32 = 2;
/// Loss: the program that follows HTTP/2 could not be called.
pub const LOST_TAIL_CALL: u32 = 3;
/// Loss: a system call moved bytes of kernel TLS in a way that is not followed.
pub const LOST_CALL: u32 = 4;
/// Number of losses.
pub const LOST_COUNT: u32 = 5;

/// Every loss with the `reason` label it carries in `auditor_capture_lost_total`.
pub const LOSSES: [(u32, &str); LOST_COUNT as usize] = [
    (LOST_RING_FULL, "plaintext-ring-full"),
    (LOST_MEMORY, "plaintext-unreadable"),
    (LOST_SESSION, "plaintext-session"),
    (LOST_TAIL_CALL, "plaintext-tail-call"),
    (LOST_CALL, "plaintext-not-followed"),
];

/// Struct members these programs need beside those that the capture programs need.
pub const FIELDS: [Field; 5] = [
    field("OFF_TASK_STATUS", "task_struct", "thread_info.status"),
    field("OFF_TASK_FILES", "task_struct", "files"),
    field("OFF_FILES_TABLE", "files_struct", "fdt"),
    field("OFF_TABLE_FILES", "fdtable", "fd"),
    field("OFF_TABLE_SIZE", "fdtable", "max_fds"),
];

/// Globals of members that the capture programs need as well.
pub const SHARED_FIELDS: [&str; 7] = [
    "OFF_TASK_LEADER",
    "OFF_TASK_START",
    "OFF_TASK_COMM",
    "OFF_FILE_PRIVATE",
    "OFF_SOCKET_FILE",
    "OFF_SOCKET_SK",
    "OFF_SK_COOKIE",
];
