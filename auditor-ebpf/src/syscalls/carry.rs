//! What is wanted of the bytes a call moved, and the record of it.

use core::ffi::c_void;

use auditor_abi::{
    record::{
        CLASS_CONTINUATION, CLASS_END, CLASS_HTTP2, CLASS_OTHER, CLASS_REQUEST, CLASS_RESPONSE, CLASS_SHORT,
        MARK_FRESH, MARK_GAP, MARK_MUTED, PAYLOAD_MAX,
    },
    syscalls::{LOST_MEMORY, LOST_RING_FULL, PATH_MAX, SyscallHeader},
};
use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::generated::{
        bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_ns,
        bpf_probe_read_kernel, bpf_ringbuf_output,
    },
};

use crate::{
    clamp::clamp,
    globals,
    maps::{SYSCALL_RECORDS, Scratch, Socket, count_loss},
    memory::{KIND_BYTES, KIND_END, MOST, SNIFFED, UNTOLD, Work, classify, gather, get, set},
    read, sniff,
};

/// [`Socket::protocol`]: nothing is known yet.
pub const PROTOCOL_UNKNOWN: u32 = 0;
/// Heads of HTTP/1 have been seen.
const PROTOCOL_HTTP1: u32 = 1;
/// The server agreed to another protocol with status 101.
const PROTOCOL_SWITCHED: u32 = 2;
/// HTTP/2: all of it is copied, up to what one record holds.
const PROTOCOL_HTTP2: u32 = 3;

/// Emits bytes of a socket when they are wanted, and remembers that they went through it.
#[inline(always)]
pub fn carry(socket: &mut Socket, scratch: *mut Scratch) {
    // SAFETY: the scratch is this processor's.
    let work = unsafe { &mut (*scratch).work };
    let half = (get(&work.half) & 1) as usize;
    let (length, offset) = (get(&work.length), socket.offset[half]);
    socket.offset[half] = offset.wrapping_add(length);
    set(&mut work.offset, offset);
    if get(&work.kind) == KIND_BYTES {
        set(&mut work.wanted, length.min(SNIFFED));
        if !gather(scratch) {
            return lost(socket, half, LOST_MEMORY);
        }
        classify(scratch);
        decide(socket, work);
        if get(&work.class) == u32::from(sniff::NOTHING) {
            return;
        }
        let wanted = get(&work.wanted);
        if wanted <= get(&work.copied) {
            set(&mut work.copied, wanted);
        } else {
            set(&mut work.wanted, wanted.min(MOST));
            if !gather(scratch) {
                return lost(socket, half, LOST_MEMORY);
            }
        }
    } else {
        if socket.protocol == PROTOCOL_UNKNOWN {
            return;
        }
        let ends = get(&work.kind) == KIND_END;
        set(&mut work.class, u32::from(if ends { CLASS_END } else { CLASS_CONTINUATION }));
    }
    emit(scratch, socket);
}

/// Bytes have gone that are not known.
#[inline(always)]
pub fn lose(socket: &mut Socket, half: u32) {
    let half = (half & 1) as usize;
    socket.offset[half] = socket.offset[half].wrapping_add(UNTOLD);
    socket.gap[half] = 1;
}

/// Notes the address the server bound.
#[inline(always)]
pub fn note_path(address: u64, socket: &mut Socket) {
    /// The address family before the path.
    const FAMILY: u32 = 2;
    let length: u32 = read::member(address, &globals::OFF_ADDRESS_LEN);
    let length = length.saturating_sub(FAMILY).min(PATH_MAX as u32);
    if length == 0 {
        return;
    }
    socket.path_length = length;
    let name = u64::from(globals::load(&globals::OFF_ADDRESS_NAME) + FAMILY);
    let count = clamp::<128>(length).min(PATH_MAX as u64);
    // SAFETY: at most as many bytes as there is room for; the helper checks the address.
    unsafe {
        let from = address.wrapping_add(name) as *const c_void;
        bpf_probe_read_kernel((&raw mut socket.path).cast(), count as u32, from);
    }
}

/// A record was lost.
#[inline(always)]
fn lost(socket: &mut Socket, half: usize, status: u32) {
    socket.gap[half] = 1;
    count_loss(status);
}

/// Decides on the class of what a call moved and how much of it is wanted; class `NOTHING` when none of it.
#[inline(always)]
fn decide(socket: &mut Socket, work: &mut Work) {
    let (class, wanted) = decided(socket, work);
    set(&mut work.class, u32::from(class));
    set(&mut work.wanted, wanted);
}

#[inline(always)]
fn decided(socket: &mut Socket, work: &Work) -> (u8, u32) {
    let (half, length, sniffed) = ((get(&work.half) & 1) as usize, get(&work.length), get(&work.class) as u8);
    let egress = half == 0;
    if socket.protocol == PROTOCOL_HTTP2 {
        return (CLASS_HTTP2, length);
    }
    // What a server's socket sends is no request. Where it is the first that is known, the socket is the client's, and has an
    // address because the client bound one.
    let client = (sniffed == CLASS_REQUEST && egress) || (sniffed == CLASS_RESPONSE && !egress);
    if client && socket.protocol == PROTOCOL_UNKNOWN {
        socket.muted = 1;
        return (sniff::NOTHING, 0);
    }
    match sniffed {
        CLASS_REQUEST | CLASS_RESPONSE | CLASS_SHORT if !client => {
            if sniffed == CLASS_SHORT {
                if socket.budget[half] > 0 {
                    return continuation(socket, half, length);
                }
            } else {
                let switches = egress && get(&work.behind) == sniff::SWITCHES;
                socket.protocol = if switches { PROTOCOL_SWITCHED } else { PROTOCOL_HTTP1 };
            }
            let budget =
                if egress { globals::load(&globals::RESPONSE_BUDGET) } else { globals::load(&globals::REQUEST_BUDGET) };
            socket.budget[half] = budget.saturating_sub(length);
            (sniffed, length.min(budget))
        }
        // A body may begin like this, too: between requests of HTTP/1 it is believed only where the server agreed to it.
        CLASS_HTTP2 if socket.protocol != PROTOCOL_HTTP1 => follow(socket, length),
        sniff::SETTINGS if socket.protocol == PROTOCOL_UNKNOWN => follow(socket, length),
        sniff::FRAMES if socket.protocol == PROTOCOL_UNKNOWN && socket.fresh == 0 => follow(socket, length),
        _ if socket.budget[half] > 0 => continuation(socket, half, length),
        _ if socket.protocol != PROTOCOL_UNKNOWN || socket.fresh == 0 => (sniff::NOTHING, 0),
        _ => {
            // User space looks at the first bytes to tell that it is none it knows.
            socket.muted = 1;
            (CLASS_OTHER, length.min(SNIFFED))
        }
    }
}

/// The connection is HTTP/2 from here on.
#[inline(always)]
fn follow(socket: &mut Socket, length: u32) -> (u8, u32) {
    socket.protocol = PROTOCOL_HTTP2;
    (CLASS_HTTP2, length)
}

#[inline(always)]
fn continuation(socket: &mut Socket, half: usize, length: u32) -> (u8, u32) {
    let budget = socket.budget[half];
    socket.budget[half] = budget.saturating_sub(length);
    (CLASS_CONTINUATION, length.min(budget))
}

/// Puts the header before the payload and the record into the ring.
#[inline(always)]
fn emit(scratch: *mut Scratch, socket: &mut Socket) {
    // SAFETY: the scratch is this processor's.
    let work = unsafe { &(*scratch).work };
    let half = (get(&work.half) & 1) as usize;
    // The flags are 0 or 1 each.
    let marks = socket.fresh as u8 * MARK_FRESH | socket.gap[half] as u8 * MARK_GAP | socket.muted as u8 * MARK_MUTED;
    // SAFETY: no arguments.
    let (now, task, pid_tgid, cgroup) = unsafe {
        (bpf_ktime_get_ns(), bpf_get_current_task(), bpf_get_current_pid_tgid(), bpf_get_current_cgroup_id())
    };
    let leader: u64 = read::member(task, &globals::OFF_TASK_LEADER);
    let comm: [u64; 2] = read::member(leader, &globals::OFF_TASK_COMM);
    // SAFETY: as above; it is aligned to 8, and so are the header's arrays but the path, to 4. The payload begins where the header
    // ends.
    let status = unsafe {
        let header = &raw mut (*scratch).header;
        (*header).time_ns = now;
        (*header).inode = socket.inode;
        (*header).owner_start_ns = read::member(leader, &globals::OFF_TASK_START);
        (*header).owner_cgroup_id = cgroup;
        (*header).peer_start_ns = socket.peer_start_ns;
        (*header).peer_cgroup_id = socket.peer_cgroup_id;
        (&raw mut (*header).owner_comm).cast::<[u64; 2]>().write(comm);
        (&raw mut (*header).peer_comm).cast::<[u64; 2]>().write(socket.peer_comm);
        (*header).owner_tgid = (pid_tgid >> 32) as u32;
        (*header).peer_tgid = socket.peer_tgid;
        (*header).offset = get(&work.offset);
        (*header).length = get(&work.length);
        (*header).captured = get(&work.copied);
        (*header).path_length = socket.path_length;
        (*header).direction = half as u8;
        (*header).class = get(&work.class) as u8;
        (*header).marks = marks;
        (*header).padding = 0;
        copy_path(socket, header);
        let size = size_of::<SyscallHeader>() as u64 + clamp::<PAYLOAD_MAX>(get(&work.copied).wrapping_add(1)) - 1;
        let ring = (&raw const SYSCALL_RECORDS).cast_mut().cast::<c_void>();
        bpf_ringbuf_output(ring, header.cast(), size, u64::from(BPF_RB_NO_WAKEUP))
    };
    socket.gap[half] = u32::from(status != 0);
    if status != 0 {
        count_loss(LOST_RING_FULL);
    }
}

/// Copies the path word by word.
///
/// # Safety
/// `header` must be writable.
#[inline(always)]
unsafe fn copy_path(socket: &Socket, header: *mut SyscallHeader) {
    let path = (&raw const socket.path).cast::<[u32; PATH_MAX / 4]>();
    // SAFETY: both have PATH_MAX bytes, aligned to 4.
    unsafe { (&raw mut (*header).path).cast::<[u32; PATH_MAX / 4]>().write(path.read()) };
}
