//! What the kernel programs count: losses only, so that the usual path counts nothing. Each constant is an index into the
//! per-CPU array [`crate::names::MAP_COUNTERS`].

/// The ring was full.
pub const LOST_RING_FULL: u32 = 0;
/// No memory for a socket's storage.
pub const LOST_SOCKET_STORAGE: u32 = 1;
/// The packet's headers could not be read.
pub const LOST_HEADERS: u32 = 2;
/// Payload could not be copied out of the packet.
pub const LOST_PAYLOAD: u32 = 3;
/// The program that follows TLS connections could not be called.
pub const LOST_TAIL_CALL: u32 = 4;
/// The end of a read was not seen (kretprobe: all its instances were in use).
pub const LOST_RETURN: u32 = 5;
/// No room to remember a read under way, or a call that is not followed (`sendmmsg` and `recvmmsg`, where system calls are read).
pub const LOST_CALL: u32 = 6;
/// Number of counters.
pub const COUNT: u32 = 7;

/// Every loss with the `reason` label it carries in `auditor_capture_lost_total`.
pub const LOSSES: [(u32, &str); COUNT as usize] = [
    (LOST_RING_FULL, "ring-full"),
    (LOST_SOCKET_STORAGE, "socket-storage"),
    (LOST_HEADERS, "headers-unreadable"),
    (LOST_PAYLOAD, "payload-unreadable"),
    (LOST_TAIL_CALL, "tail-call"),
    (LOST_RETURN, "return-missed"),
    (LOST_CALL, "call-untracked"),
];
