//! What the probes on `tcp_sendmsg`, `tcp_recvmsg` and `tcp_close`, or on system calls, and user space agree on. They are an object of their own, for
//! nodes where the packets cannot be seen; their records are those of [`crate::record`].

use crate::layout::{Field, field};

/// Program: fentry of `tcp_sendmsg`.
pub const PROGRAM_SEND_FENTRY: &str = "send_fentry";
/// Program: fentry of `tcp_recvmsg`: the buffers, before they are filled.
pub const PROGRAM_RECEIVE_FENTRY: &str = "recv_fentry";
/// Program: fexit of `tcp_recvmsg`.
pub const PROGRAM_RECEIVE_FEXIT: &str = "recv_fexit";
/// Program: fentry of `tcp_close`.
pub const PROGRAM_CLOSE_FENTRY: &str = "close_fentry";
/// Program: kprobe of `tcp_sendmsg`.
pub const PROGRAM_SEND_KPROBE: &str = "send_kprobe";
/// Program: kprobe of `tcp_recvmsg`.
pub const PROGRAM_RECEIVE_KPROBE: &str = "recv_kprobe";
/// Program: kretprobe of `tcp_recvmsg`.
pub const PROGRAM_RECEIVE_RETURN: &str = "recv_kretprobe";
/// Program: kprobe of `tcp_close`.
pub const PROGRAM_CLOSE_KPROBE: &str = "close_kprobe";

/// Program: tracepoint at the entry of system calls.
pub const PROGRAM_CALL_ENTER: &str = "call_enter";
/// Program: tracepoint at their exit.
pub const PROGRAM_CALL_EXIT: &str = "call_exit";
/// Program: tracepoint where the kernel is done with a TCP socket.
pub const PROGRAM_CALL_DESTROY: &str = "call_destroy";

/// Tracepoint: a system call begins.
pub const TRACEPOINT_ENTER: &str = "sys_enter";
/// Tracepoint: it ends.
pub const TRACEPOINT_EXIT: &str = "sys_exit";
/// Tracepoint: a TCP socket goes.
pub const TRACEPOINT_DESTROY: &str = "tcp_destroy_sock";

/// Kernel function: a process sends.
pub const FUNCTION_SEND: &str = "tcp_sendmsg";
/// Kernel function: a process reads.
pub const FUNCTION_RECEIVE: &str = "tcp_recvmsg";
/// Kernel function: the last holder of a socket closes it.
pub const FUNCTION_CLOSE: &str = "tcp_close";

/// Global: `u32`, number of parameters of [`FUNCTION_RECEIVE`]: six, five or four.
pub const GLOBAL_RECEIVE_ARITY: &str = "RECEIVE_ARITY";
/// Global: `u32`, 1 where programs may ask for a socket's cookie (fentry from 5.12 on).
pub const GLOBAL_COOKIE_HELPER: &str = "COOKIE_HELPER";
/// Global: `u32`, 1 for the programs of system calls: the arrays of scattered transfers lie in the process' memory.
pub const GLOBAL_ARRAYS_OF_PROCESS: &str = "ARRAYS_OF_PROCESS";
/// Global: `u32`, the bits of an iterator's type that tell its kind.
pub const GLOBAL_ITERATOR_MASK: &str = "ITER_MASK";

/// [`GLOBAL_ITERATOR_MASK`] where the type is a byte of its own (`iter_type`, since 5.14).
pub const ITERATOR_MASK_BYTE: u32 = 0xff;
/// [`GLOBAL_ITERATOR_MASK`] where the lowest bit of the type is the direction (`type`, before 5.14).
pub const ITERATOR_MASK_OLD: u32 = !1;
/// Global that carries where an iterator's type is.
pub const GLOBAL_ITERATOR_TYPE: &str = "OFF_ITER_TYPE";

/// Values of `enum iter_type` and the globals that carry them; [`crate::layout::ABSENT`] where the kernel has no such kind.
pub const ENUMERATORS: [(&str, &str); 2] = [("KIND_IOVEC", "ITER_IOVEC"), ("KIND_UBUF", "ITER_UBUF")];

/// Struct members these programs need beside those that the packet programs need. Where a global stands more than once, the
/// first member that exists counts: they were renamed.
pub const FIELDS: [Field; 24] = [
    field("OFF_SK_CGROUP", "sock", "sk_cgrp_data.cgroup"),
    field("OFF_SK_CGROUP", "sock", "sk_cgrp_data.val"),
    field("OFF_CGROUP_NODE", "cgroup", "kn"),
    field("OFF_NODE_ID", "kernfs_node", "id"),
    field("OFF_TCP_WRITTEN", "tcp_sock", "write_seq"),
    field("OFF_TCP_READ", "tcp_sock", "copied_seq"),
    field("OFF_TCP_NEXT", "tcp_sock", "rcv_nxt"),
    field("OFF_TCP_UNACKED", "tcp_sock", "snd_una"),
    field("OFF_TCP_RECEIVED", "tcp_sock", "bytes_received"),
    field("OFF_TCP_ACKED", "tcp_sock", "bytes_acked"),
    field("OFF_MSG_ITER", "msghdr", "msg_iter"),
    field("OFF_ITER_TYPE", "iov_iter", "iter_type"),
    field("OFF_ITER_TYPE", "iov_iter", "type"),
    field("OFF_ITER_SKIP", "iov_iter", "iov_offset"),
    field("OFF_ITER_COUNT", "iov_iter", "count"),
    field("OFF_ITER_IOV", "iov_iter", "iov"),
    field("OFF_ITER_IOV", "iov_iter", "__iov"),
    field("OFF_ITER_SEGS", "iov_iter", "nr_segs"),
    field("OFF_ITER_UBUF", "iov_iter", "ubuf"),
    field("OFF_TASK_STATUS", "task_struct", "thread_info.status"),
    field("OFF_SK_PROT", "sock", "__sk_common.skc_prot"),
    field("OFF_SK_CREATOR", "sock", "sk_prot_creator"),
    field("OFF_PROTO_SEND", "proto", "sendmsg"),
    field("OFF_PROTO_RECEIVE", "proto", "recvmsg"),
];

/// Globals of members that the packet programs need as well.
pub const SHARED_FIELDS: [&str; 22] = [
    "OFF_SK_NET",
    "OFF_SK_DPORT",
    "OFF_SK_STATE",
    "OFF_SK_COOKIE",
    "OFF_SK_NUM",
    "OFF_SK_FAMILY",
    "OFF_SK_V4_LOCAL",
    "OFF_SK_V4_PEER",
    "OFF_SK_V6_LOCAL",
    "OFF_SK_V6_PEER",
    "OFF_NET_INUM",
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
    "OFF_SK_PROTOCOL",
];

/// Globals without which the programs of system calls capture nothing.
pub const ESSENTIAL_FOR_CALLS: [&str; 19] = [
    "OFF_SK_NUM",
    "OFF_SK_FAMILY",
    "OFF_SK_DPORT",
    "OFF_SK_STATE",
    "OFF_SK_PROTOCOL",
    "OFF_SK_PROT",
    "OFF_SK_CREATOR",
    "OFF_PROTO_SEND",
    "OFF_PROTO_RECEIVE",
    "OFF_TCP_WRITTEN",
    "OFF_TCP_READ",
    "OFF_TASK_STATUS",
    "OFF_TASK_FILES",
    "OFF_FILES_TABLE",
    "OFF_TABLE_FILES",
    "OFF_TABLE_SIZE",
    "OFF_FILE_PRIVATE",
    "OFF_SOCKET_FILE",
    "OFF_SOCKET_SK",
];

/// Globals without which the probes on the kernel's functions capture nothing.
pub const ESSENTIAL: [&str; 12] = [
    "OFF_SK_NUM",
    "OFF_SK_FAMILY",
    "OFF_SK_DPORT",
    "OFF_SK_STATE",
    "OFF_TCP_WRITTEN",
    "OFF_TCP_READ",
    "OFF_MSG_ITER",
    "OFF_ITER_TYPE",
    "OFF_ITER_SKIP",
    "OFF_ITER_COUNT",
    "OFF_ITER_IOV",
    "OFF_ITER_SEGS",
];
