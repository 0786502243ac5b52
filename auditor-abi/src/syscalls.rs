//! What the program at the exit of system calls and user space agree on. It is an object of its own, loaded only when asked for.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout::{Field, field};

/// Map: the ring buffer that carries records.
pub const MAP_RECORDS: &str = "SYSCALL_RECORDS";
/// Map: per-CPU array of losses, by the `LOST_*` indices.
pub const MAP_LOSSES: &str = "SYSCALL_LOSSES";
/// Map: where a record is put together, an entry for each processor.
pub const MAP_SCRATCH: &str = "SCRATCH";

/// Program: `tp_btf/sys_exit`.
pub const PROGRAM_EXIT: &str = "sys_exit";
/// Program: `raw_tp/sys_exit`, the same for kernels without BTF of their tracepoints.
pub const PROGRAM_EXIT_RAW: &str = "sys_exit_raw";
/// The tracepoint.
pub const TRACEPOINT: &str = "sys_exit";

/// Longest address of an `AF_UNIX` socket (`sun_path`, unix(7)), bytes.
pub const PATH_MAX: usize = 108;

/// What precedes the payload of every record. All integers are in the machine's byte order. A record is of an `AF_UNIX` socket that
/// was accepted: its owner is the server, its peer is who connected.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
pub struct SyscallHeader {
    /// `CLOCK_MONOTONIC` when the program ran, nanoseconds.
    pub time_ns: u64,
    /// Inode of the socket, which `/proc/PID/fd` shows as `socket:[INODE]`.
    pub inode: u64,
    /// Start of the calling process since boot, nanoseconds; 0 unknown.
    pub owner_start_ns: u64,
    /// Inode of the calling process's cgroup2 directory; 0 unknown.
    pub owner_cgroup_id: u64,
    /// Start of the process that connected, since boot, nanoseconds; 0 unknown.
    pub peer_start_ns: u64,
    /// Inode of its cgroup2 directory; 0 unknown.
    pub peer_cgroup_id: u64,
    /// Name of the calling process, zero-terminated.
    pub owner_comm: [u8; 16],
    /// Name of the process that connected, zero-terminated; zeroes when not known.
    pub peer_comm: [u8; 16],
    /// Thread group of the calling process, in the initial pid namespace.
    pub owner_tgid: u32,
    /// Thread group that connected, as `SO_PEERCRED` has it but in the initial pid namespace; 0 unknown.
    pub peer_tgid: u32,
    /// Bytes that went the same way before, modulo 2^32, since the socket is known.
    pub offset: u32,
    /// Bytes the call moved.
    pub length: u32,
    /// Bytes that follow this header.
    pub captured: u32,
    /// Bytes of `path` that count.
    pub path_length: u32,
    /// [`crate::record::EGRESS`] or [`crate::record::INGRESS`].
    pub direction: u8,
    /// One of [`crate::record`]'s `CLASS_*` constants; [`crate::record::CLASS_END`] for the end of what comes in.
    pub class: u8,
    /// [`crate::record::MARK_FRESH`], [`crate::record::MARK_GAP`], [`crate::record::MARK_MUTED`].
    pub marks: u8,
    /// Zero.
    pub padding: u8,
    /// Address the server bound, as it gave it; one in the abstract name space begins with a zero byte.
    pub path: [u8; PATH_MAX],
}

/// Loss: the ring was full.
pub const LOST_RING_FULL: u32 = 0;
/// Loss: the process' memory could not be read.
pub const LOST_MEMORY: u32 = 1;
/// Loss: no room to remember a socket, or to put a record together.
pub const LOST_SOCKET: u32 = 2;
/// Loss: a call that moves bytes in a way that is not followed (`sendmmsg`, `recvmmsg`, out-of-band data).
pub const LOST_CALL: u32 = 3;
/// Number of losses.
pub const LOST_COUNT: u32 = 4;

/// Every loss with the `reason` label it carries in `auditor_capture_lost_total`.
pub const LOSSES: [(u32, &str); LOST_COUNT as usize] = [
    (LOST_RING_FULL, "syscall-ring-full"),
    (LOST_MEMORY, "syscall-unreadable"),
    (LOST_SOCKET, "syscall-socket"),
    (LOST_CALL, "syscall-not-followed"),
];

/// Struct members this program needs beside those that the other programs need.
pub const FIELDS: [Field; 15] = [
    field("OFF_TASK_STATUS", "task_struct", "thread_info.status"),
    field("OFF_TASK_LINKS", "task_struct", "pid_links"),
    field("OFF_TASK_CGROUPS", "task_struct", "cgroups"),
    field("OFF_CSS_CGROUP", "css_set", "dfl_cgrp"),
    field("OFF_CGROUP_NODE", "cgroup", "kn"),
    field("OFF_NODE_ID", "kernfs_node", "id"),
    field("OFF_FILE_INODE", "file", "f_inode"),
    field("OFF_INODE_NUMBER", "inode", "i_ino"),
    field("OFF_SK_TYPE", "sock", "sk_type"),
    field("OFF_SK_PEER_PID", "sock", "sk_peer_pid"),
    field("OFF_PID_NUMBERS", "pid", "numbers"),
    field("OFF_PID_TASKS", "pid", "tasks"),
    field("OFF_UNIX_ADDRESS", "unix_sock", "addr"),
    field("OFF_ADDRESS_NAME", "unix_address", "name"),
    field("OFF_ADDRESS_LEN", "unix_address", "len"),
];

/// Globals of members that the other programs need as well.
pub const SHARED_FIELDS: [&str; 12] = [
    "OFF_TASK_TGID",
    "OFF_TASK_LEADER",
    "OFF_TASK_START",
    "OFF_TASK_COMM",
    "OFF_TASK_FILES",
    "OFF_FILES_TABLE",
    "OFF_TABLE_FILES",
    "OFF_TABLE_SIZE",
    "OFF_FILE_PRIVATE",
    "OFF_SOCKET_FILE",
    "OFF_SOCKET_SK",
    "OFF_SK_FAMILY",
];

/// Globals without which no byte can be copied: the others only name processes.
pub const NEEDED_FIELDS: [&str; 15] = [
    "OFF_TASK_STATUS",
    "OFF_TASK_FILES",
    "OFF_FILES_TABLE",
    "OFF_TABLE_FILES",
    "OFF_TABLE_SIZE",
    "OFF_FILE_PRIVATE",
    "OFF_FILE_INODE",
    "OFF_INODE_NUMBER",
    "OFF_SOCKET_FILE",
    "OFF_SOCKET_SK",
    "OFF_SK_FAMILY",
    "OFF_SK_TYPE",
    "OFF_UNIX_ADDRESS",
    "OFF_ADDRESS_NAME",
    "OFF_ADDRESS_LEN",
];
