//! Who owns a socket: while a process holds the socket's lock, the current task is the sender. Only on the way out; on the way
//! in the current task is whoever was interrupted.

use aya_ebpf::{bindings::bpf_sock, helpers::generated::bpf_get_current_task};

use crate::{globals, maps::Socket, read};

/// Notes the current task as owner, if it is known to be the sender. Kept from earlier segments otherwise: segments that an
/// acknowledgement or a timer sends have no sender of their own.
#[inline(always)]
pub fn note(socket: &mut Socket) {
    // SAFETY: no arguments.
    let task = unsafe { bpf_get_current_task() };
    let tgid: u32 = read::member(task, &globals::OFF_TASK_TGID);
    // First, because it is so most often, and then nothing else needs to be read.
    if tgid == 0 || tgid == socket.owner_tgid {
        return;
    }
    let owned: u32 = read::member(kernel_sock(socket), &globals::OFF_SK_LOCK_OWNED);
    if owned == 0 {
        return;
    }
    let leader: u64 = read::member(task, &globals::OFF_TASK_LEADER);
    socket.owner_start_ns = read::member(leader, &globals::OFF_TASK_START);
    // Word by word: clearing both at once would be a call, and the caller's stack leaves no room for a second frame.
    socket.owner_comm =
        [read::member(leader, &globals::OFF_TASK_COMM), read::member(leader.wrapping_add(8), &globals::OFF_TASK_COMM)];
    socket.owner_tgid = tgid;
}

/// Notes the network namespace, once a socket.
#[inline(always)]
pub fn note_namespace(socket: &mut Socket) {
    let net: u64 = read::member(kernel_sock(socket), &globals::OFF_SK_NET);
    socket.netns = read::member(net, &globals::OFF_NET_INUM);
}

/// Keeps the socket's address, once a socket: a socket pointer may not go to the probe helper, but what was stored in a map and loaded
/// again may.
#[inline(always)]
pub fn keep(sk: *mut bpf_sock, socket: &mut Socket) {
    // SAFETY: a place in the socket's storage.
    unsafe { core::ptr::write_volatile((&raw mut socket.kernel_sock).cast::<*mut bpf_sock>(), sk) }
}

/// The address that was kept, as a number.
#[inline(always)]
fn kernel_sock(socket: &Socket) -> u64 {
    // SAFETY: a place in the socket's storage; volatile, or the compiler would forward the pointer.
    unsafe { core::ptr::read_volatile(&raw const socket.kernel_sock) }
}
