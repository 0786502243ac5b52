//! What the kernel programs count. Each constant is an index into the per-CPU array [`crate::names::MAP_COUNTERS`].

/// Records handed to the ring.
pub const RECORDS: u32 = 0;
/// Payload bytes copied into records.
pub const BYTES: u32 = 1;
/// TCP segments with payload that were looked at and not copied (bodies).
pub const SKIPPED: u32 = 2;
/// Segments of muted sockets.
pub const MUTED: u32 = 3;
/// Lost: the ring was full.
pub const LOST_RING_FULL: u32 = 4;
/// Lost: no memory for a socket's storage.
pub const LOST_SOCKET_STORAGE: u32 = 5;
/// Lost: the packet's headers could not be read.
pub const LOST_HEADERS: u32 = 6;
/// Lost: payload could not be copied out of the packet.
pub const LOST_PAYLOAD: u32 = 7;
/// Number of counters.
pub const COUNT: u32 = 8;

/// The counters that count losses, with the `reason` label they carry in `auditor_capture_lost_total`.
pub const LOSSES: [(u32, &str); 4] = [
    (LOST_RING_FULL, "ring-full"),
    (LOST_SOCKET_STORAGE, "socket-storage"),
    (LOST_HEADERS, "headers-unreadable"),
    (LOST_PAYLOAD, "payload-unreadable"),
];
