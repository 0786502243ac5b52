//! `iter/task_file`: the TCP sockets that are open when the auditor starts, and whose they are.

use auditor_abi::record::SocketRow;
use aya_ebpf::{bindings::seq_file, helpers::generated::bpf_seq_write};

use crate::{globals, packet::V4_MAPPED, read};

/// `struct bpf_iter__task_file` (kernel/bpf/task_iter.c).
#[repr(C)]
struct TaskFile {
    meta: *const Meta,
    task: u64,
    fd: u32,
    padding: u32,
    file: u64,
}

/// `struct bpf_iter_meta` (include/linux/bpf.h).
#[repr(C)]
struct Meta {
    seq: *mut seq_file,
}

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const TCP: u16 = 6;

/// Writes a [`SocketRow`] for each file that is a TCP socket.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn list_sockets(context: *const TaskFile) -> i32 {
    // SAFETY: the context the kernel gives; the verifier knows its layout.
    let (meta, task, file) = unsafe { ((*context).meta, (*context).task, (*context).file) };
    if task == 0 || file == 0 {
        return 0;
    }
    if let Some(row) = row(task, file) {
        // SAFETY: `meta` is never null; the row has no padding bytes.
        unsafe { bpf_seq_write((*meta).seq, (&raw const row).cast(), size_of::<SocketRow>() as u32) };
    }
    0
}

#[inline(always)]
fn row(task: u64, file: u64) -> Option<SocketRow> {
    // Any file has private data; only a socket's points back at the file.
    let socket: u64 = read::member(file, &globals::OFF_FILE_PRIVATE);
    let back: u64 = read::member(socket, &globals::OFF_SOCKET_FILE);
    let sk: u64 = read::member(socket, &globals::OFF_SOCKET_SK);
    if back != file || sk == 0 {
        return None;
    }
    let family: u16 = read::member(sk, &globals::OFF_SK_FAMILY);
    let protocol: u16 = read::member(sk, &globals::OFF_SK_PROTOCOL);
    if protocol != TCP || (family != AF_INET && family != AF_INET6) {
        return None;
    }
    let leader: u64 = read::member(task, &globals::OFF_TASK_LEADER);
    let net: u64 = read::member(sk, &globals::OFF_SK_NET);
    let (local, peer) = if family == AF_INET {
        (mapped(read::member(sk, &globals::OFF_SK_V4_LOCAL)), mapped(read::member(sk, &globals::OFF_SK_V4_PEER)))
    } else {
        (read::member(sk, &globals::OFF_SK_V6_LOCAL), read::member(sk, &globals::OFF_SK_V6_PEER))
    };
    Some(SocketRow {
        cookie: read::member(sk, &globals::OFF_SK_COOKIE),
        start_ns: read::member(leader, &globals::OFF_TASK_START),
        tgid: read::member(task, &globals::OFF_TASK_TGID),
        netns: read::member(net, &globals::OFF_NET_INUM),
        local,
        peer,
        local_port: read::member(sk, &globals::OFF_SK_NUM),
        peer_port: u16::from_be(read::member(sk, &globals::OFF_SK_DPORT)),
        state: read::member(sk, &globals::OFF_SK_STATE),
        padding: [0; 3],
        comm: read::member(leader, &globals::OFF_TASK_COMM),
    })
}

#[inline(always)]
fn mapped(address: [u8; 4]) -> [u8; 16] {
    let [e, f, g, h] = V4_MAPPED.to_ne_bytes();
    let [a, b, c, d] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, e, f, g, h, a, b, c, d]
}
