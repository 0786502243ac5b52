//! A system call that ended: on which socket, and where its bytes are.

use auditor_abi::syscalls::{LOST_CALL, LOST_SOCKET};
use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::generated::{bpf_get_current_task, bpf_get_smp_processor_id},
};

use crate::{
    carry,
    descriptor::{self, Descriptor},
    globals,
    maps::{SCRATCH, Socket, UNIX_SOCKETS, count_loss},
    memory::{KIND_BYTES, KIND_END, KIND_LOST, KIND_NOTHING, KIND_PASSED, Work, clear, get, set, set_long},
    numbers::{
        COMPAT, MESSAGE_PIECES, MOVES, MSG_OOB, MSG_PEEK, READ, READV, RECVFROM, RECVMMSG, RECVMSG, SENDFILE, SENDMMSG,
        SENDMSG, SENDTO, SPLICE, WRITE, WRITEV,
    },
    peer, read,
    registers::user,
};

/// Numbers of calls beside those that move bytes in both places (arch/x86/entry/syscalls/syscall_64.tbl).
const ACCEPT: u64 = 43;
const ACCEPT4: u64 = 288;

/// The wanted ones below 64, a bit each.
const SMALL: u64 = MOVES | 1 << ACCEPT;

/// `AF_UNIX` and `SOCK_STREAM`.
const AF_UNIX: u16 = 1;
const SOCK_STREAM: u16 = 1;

/// A system call and its arguments.
pub struct Call {
    pub number: u64,
    pub first: u64,
    pub second: u64,
    pub third: u64,
    pub fourth: u64,
    /// Not negative.
    pub result: u64,
}

/// Whether a call may have moved bytes, or accepted a connection. All that most calls cost.
#[inline(always)]
pub fn is_wanted(number: u64, result: i64) -> bool {
    if result < 0 {
        return false;
    }
    if number < 64 {
        return SMALL >> number & 1 != 0;
    }
    matches!(number, SPLICE | ACCEPT4 | RECVMMSG | SENDMMSG)
}

/// Looks at a wanted call.
#[inline(always)]
pub fn ended(call: &Call) {
    // SAFETY: no arguments.
    let task = unsafe { bpf_get_current_task() };
    let status: u32 = read::member(task, &globals::OFF_TASK_STATUS);
    if status & COMPAT != 0 {
        return;
    }
    let ingress = matches!(call.number, READ | READV | RECVFROM | RECVMSG | RECVMMSG);
    let fd = match call.number {
        ACCEPT | ACCEPT4 => call.result,
        SPLICE => call.third,
        _ => call.first,
    };
    let mut half = u32::from(ingress);
    let mut found = server_socket(fd);
    if call.number == SPLICE && found.is_none() {
        found = server_socket(call.first);
        half = 1;
    }
    let Some(found) = found else { return };
    // SAFETY: no arguments.
    let Some(scratch) = SCRATCH.get_ptr_mut(unsafe { bpf_get_smp_processor_id() }) else {
        return count_loss(LOST_SOCKET);
    };
    // SAFETY: the scratch is this processor's.
    let work = unsafe { &mut (*scratch).work };
    clear(work);
    set(&mut work.half, half);
    let accepts = matches!(call.number, ACCEPT | ACCEPT4);
    let Some(socket) = remembered(&found, accepts) else { return count_loss(LOST_SOCKET) };
    if accepts || socket.muted != 0 {
        return;
    }
    describe(call, work);
    match get(&work.kind) {
        KIND_NOTHING => {}
        KIND_LOST => {
            count_loss(LOST_CALL);
            carry::lose(socket, get(&work.half));
        }
        _ => carry::carry(socket, scratch),
    }
}

/// Notes what a call did with the socket.
#[inline(always)]
fn describe(call: &Call, work: &mut Work) {
    let flags = match call.number {
        SENDTO | RECVFROM => call.fourth,
        SENDMSG | RECVMSG => call.third,
        _ => 0,
    };
    let asked = !matches!(call.number, READ | RECVFROM) || call.third != 0;
    set(&mut work.length, call.result as u32);
    set(&mut work.kind, KIND_BYTES);
    match call.number {
        READ | WRITE | SENDTO | RECVFROM => set_long(&mut work.address, call.second),
        READV | WRITEV => {
            set_long(&mut work.address, call.second);
            set_long(&mut work.pieces, call.third);
        }
        SENDMSG | RECVMSG => {
            if let Some([address, pieces]) = user::<[u64; 2]>(call.second.wrapping_add(MESSAGE_PIECES)) {
                set_long(&mut work.address, address);
                set_long(&mut work.pieces, pieces);
            } else {
                set(&mut work.kind, KIND_LOST);
            }
        }
        SENDFILE | SPLICE => set(&mut work.kind, KIND_PASSED),
        _ => set(&mut work.kind, KIND_LOST),
    }
    if flags & MSG_OOB != 0 {
        set(&mut work.kind, KIND_LOST);
    }
    if call.result == 0 {
        // A read that asked for no bytes tells nothing, nor does a write of none.
        let ends = asked && get(&work.half) == 1 && get(&work.kind) == KIND_BYTES;
        set(&mut work.kind, if ends { KIND_END } else { KIND_NOTHING });
    }
    if flags & MSG_PEEK != 0 {
        set(&mut work.kind, KIND_NOTHING);
    }
}

/// A socket that was accepted.
struct Found {
    descriptor: Descriptor,
    inode: u64,
    /// Its address (`struct unix_address`).
    address: u64,
}

/// The `AF_UNIX` stream socket behind a descriptor, if it has an address: those that were accepted share that of the listener, who
/// connects mostly has none, and neither have pairs.
#[inline(always)]
fn server_socket(fd: u64) -> Option<Found> {
    let descriptor = descriptor::socket(fd)?;
    let family: u16 = read::member(descriptor.sk, &globals::OFF_SK_FAMILY);
    if family != AF_UNIX {
        return None;
    }
    let kind: u16 = read::member(descriptor.sk, &globals::OFF_SK_TYPE);
    let address: u64 = read::member(descriptor.sk, &globals::OFF_UNIX_ADDRESS);
    if kind != SOCK_STREAM || address == 0 {
        return None;
    }
    let inode: u64 = read::member(descriptor.file, &globals::OFF_FILE_INODE);
    let inode: u64 = read::member(inode, &globals::OFF_INODE_NUMBER);
    Some(Found { descriptor, inode, address })
}

/// The socket's memory, made when there is none; made anew when the socket at that address is another one.
#[inline(always)]
fn remembered(found: &Found, fresh: bool) -> Option<&'static mut Socket> {
    if let Some(socket) = known(found) {
        return Some(socket);
    }
    // SAFETY: integers: zeroes make one.
    let mut new: Socket = unsafe { core::mem::zeroed() };
    new.inode = found.inode;
    new.fresh = u32::from(fresh);
    carry::note_path(found.address, &mut new);
    let sk = found.descriptor.sk;
    peer::note(sk, &mut new);
    // Another thread may meet it at the same time, with what goes the other way.
    if UNIX_SOCKETS.insert(&sk, &new, u64::from(BPF_NOEXIST)).is_err() && known(found).is_none() {
        UNIX_SOCKETS.insert(&sk, &new, 0).ok()?;
    }
    known(found)
}

/// The socket's memory, where there is one, and not another socket's of before.
#[inline(always)]
fn known(found: &Found) -> Option<&'static mut Socket> {
    let socket = UNIX_SOCKETS.get_ptr_mut(&found.descriptor.sk)?;
    // SAFETY: the value lives as long as the program runs; plain integers, for which torn writes are harmless.
    let socket = unsafe { &mut *socket };
    (socket.inode == found.inode).then_some(socket)
}
