//! The entry and the exit of system calls, where the kernel's functions cannot be probed either: which socket a call is on, and where
//! its bytes lie. A send is looked at when it is asked for and a read when it has happened, like in the other hooks.
//!
//! Registers and numbers of calls are those of x86_64; the loader refuses to run it elsewhere.

use auditor_abi::counters;
use aya_ebpf::helpers::generated::bpf_get_current_task;

use crate::{
    buffers::{Buffers, user},
    descriptor, globals,
    hooks::{begin, close, finish, send},
    maps::count_loss,
    read,
    registers::Registers,
};

/// Numbers of the calls (arch/x86/entry/syscalls/syscall_64.tbl).
const READ: u64 = 0;
const WRITE: u64 = 1;
const READV: u64 = 19;
const WRITEV: u64 = 20;
const SENDTO: u64 = 44;
const RECVFROM: u64 = 45;
const SENDMSG: u64 = 46;
const RECVMSG: u64 = 47;
const RECVMMSG: u64 = 299;
const SENDMMSG: u64 = 307;
const PREADV2: u64 = 327;
const PWRITEV2: u64 = 328;

/// The wanted ones below 64, a bit each.
const SENDS: u64 = 1 << WRITE | 1 << WRITEV | 1 << SENDTO | 1 << SENDMSG;
const READS: u64 = 1 << READ | 1 << READV | 1 << RECVFROM | 1 << RECVMSG;

/// Where `struct user_msghdr` (include/linux/socket.h) keeps the address and number of its pieces.
const MESSAGE_PIECES: u64 = 16;
/// `AF_INET`, `AF_INET6` and `IPPROTO_TCP`.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const TCP: u16 = 6;
/// `TS_COMPAT` (arch/x86/include/asm/thread_info.h): the call came through the 32-bit entry, which numbers calls differently.
const COMPAT: u32 = 2;

/// What a tracepoint gives a program: its arguments, a word each (include/trace/events/syscalls.h).
#[repr(C)]
struct Entry {
    registers: *const Registers,
    number: u64,
}

/// Likewise.
#[repr(C)]
struct Exit {
    registers: *const Registers,
    result: i64,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/sys_enter")]
extern "C" fn call_enter(context: *const Entry) -> i32 {
    // SAFETY: the context the kernel gives; the verifier knows its layout, and that of the registers. Volatile, or the compiler would
    // make loads of its choice of them, which verifiers refuse.
    unsafe {
        let number = core::ptr::read_volatile(&raw const (*context).number);
        let (sends, reads) = kind(number);
        if !sends && !reads {
            return 0;
        }
        let registers = (*context).registers;
        let first = core::ptr::read_volatile(&raw const (*registers).di);
        let Some(sk) = tcp_socket(first) else { return 0 };
        if matches!(number, SENDMMSG | RECVMMSG) {
            count_loss(counters::LOST_CALL);
            return 0;
        }
        let second = core::ptr::read_volatile(&raw const (*registers).si);
        let third = core::ptr::read_volatile(&raw const (*registers).dx);
        let fourth = core::ptr::read_volatile(&raw const (*registers).r10);
        if sends {
            if is_plain(sk, &globals::OFF_PROTO_SEND) {
                send(sk, || buffers(number, second, third, true));
            }
        } else if is_plain(sk, &globals::OFF_PROTO_RECEIVE) {
            let flags = match number {
                RECVFROM => fourth,
                RECVMSG => third,
                _ => 0,
            };
            begin(sk, flags as u32, || buffers(number, second, third, false));
        }
    }
    0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/sys_exit")]
extern "C" fn call_exit(context: *const Exit) -> i32 {
    // SAFETY: as above.
    unsafe {
        let registers = (*context).registers;
        let number = core::ptr::read_volatile(&raw const (*registers).orig_ax);
        if kind(number).1 {
            let result = core::ptr::read_volatile(&raw const (*context).result);
            finish(None, result.min(i64::from(i32::MAX)) as i32);
        }
    }
    0
}

/// The kernel is done with a TCP socket: its memory will be another's.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/tcp_destroy_sock")]
extern "C" fn call_destroy(context: *const u64) -> i32 {
    // SAFETY: the only argument is the socket.
    close(unsafe { *context });
    0
}

/// Whether a call sends, and whether it reads. All that most calls cost.
#[inline(always)]
fn kind(number: u64) -> (bool, bool) {
    if number < 64 {
        return (SENDS >> number & 1 != 0, READS >> number & 1 != 0);
    }
    (matches!(number, SENDMMSG | PWRITEV2), matches!(number, RECVMMSG | PREADV2))
}

/// The TCP socket behind a descriptor.
#[inline(always)]
fn tcp_socket(fd: u64) -> Option<u64> {
    // SAFETY: no arguments.
    let task = unsafe { bpf_get_current_task() };
    let status: u32 = read::member(task, &globals::OFF_TASK_STATUS);
    if status & COMPAT != 0 {
        return None;
    }
    let sk = descriptor::socket(fd & 0xffff_ffff)?.sk;
    let family: u16 = read::member(sk, &globals::OFF_SK_FAMILY);
    let protocol: u16 = read::member(sk, &globals::OFF_SK_PROTOCOL);
    let is_tcp = (family == AF_INET || family == AF_INET6) && protocol == TCP;
    is_tcp.then_some(sk)
}

/// Whether what passes through the call is what TCP carries. Kernel TLS and socket maps put functions of theirs in the place of
/// TCP's (`struct proto`): their bytes are others, and more or fewer.
#[inline(always)]
fn is_plain(sk: u64, function: &'static u32) -> bool {
    let now: u64 = read::member(sk, &globals::OFF_SK_PROT);
    let created: u64 = read::member(sk, &globals::OFF_SK_CREATOR);
    if now == created {
        return true;
    }
    let now: u64 = read::member(now, function);
    let created: u64 = read::member(created, function);
    now == created
}

/// Where the bytes of a call lie; none where the process' memory cannot be read, as the kernel will say to it.
#[inline(always)]
fn buffers(number: u64, second: u64, third: u64, sends: bool) -> Buffers {
    if matches!(number, READ | WRITE | SENDTO | RECVFROM) {
        return Buffers::one(second, third);
    }
    let (mut address, mut pieces) = (second, third);
    if matches!(number, SENDMSG | RECVMSG) {
        [address, pieces] = user::<[u64; 2]>(second.wrapping_add(MESSAGE_PIECES)).unwrap_or([0; 2]);
    }
    let mut buffers = Buffers::array(address, pieces);
    if sends {
        buffers.measure();
    }
    buffers
}
