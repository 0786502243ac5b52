//! Kernel TLS: a process that has made the handshake gives the kernel its keys (`setsockopt` of level `SOL_TLS`), each direction for
//! itself, and from then on its system calls move plaintext. They are looked at when they end. A session is the socket's, whichever
//! process uses it, and is followed from the keys on: by their record number the kernel is told whether any went before.
//!
//! Of the keys nothing is read but the version and that number.
//!
//! Where the process moves its bytes with a library that is probed, the library's calls tell, which also show a direction that the
//! kernel does not encrypt.

use core::ffi::c_void;

use auditor_abi::{
    plaintext::{
        CLEAR, KERNEL, LATE, LINK_KERNEL, LOST_CALL, LOST_MEMORY, LOST_RING_FULL, LOST_SESSION, PRESENTED_UNKNOWN,
        PlaintextHeader, ROLE_UNKNOWN, WHAT_DATA,
    },
    record::{CLASS_HTTP2, CLASS_OTHER, MARK_GAP, MARK_MUTED, PAYLOAD_MAX},
};
use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::generated::{
        bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_ringbuf_output,
    },
};

use crate::{
    carry::{decide, header},
    clamp::clamp,
    descriptor, globals,
    maps::{CALLS, CallKey, KERNEL_SCRATCH, KERNEL_USED, PLAINTEXT, SESSIONS, Session, SessionKey, count_loss},
    memory::{
        KIND_BYTES, KIND_LOST, KIND_NOTHING, KIND_PASSED, MOST, SNIFFED, Scratch, UNTOLD, Work, classify, clear,
        gather, get, set, set_long,
    },
    numbers::{
        COMPAT, MESSAGE_PIECES, MOVES, MSG_OOB, MSG_PEEK, READ, READV, RECVFROM, RECVMMSG, RECVMSG, SENDFILE, SENDMMSG,
        SENDMSG, SENDTO, SPLICE, WRITE, WRITEV,
    },
    read,
    registers::{Registers, user},
    sniff,
};

/// Numbers of calls beside those that move bytes in both places (arch/x86/entry/syscalls/syscall_64.tbl).
const SETSOCKOPT: u64 = 54;
const PREADV2: u64 = 327;
const PWRITEV2: u64 = 328;

/// The wanted ones below 64, a bit each.
const SMALL: u64 = MOVES | 1 << SETSOCKOPT;

/// `MSG_TRUNC` (include/linux/socket.h).
const MSG_TRUNC: u64 = 0x20;

/// `SOL_TLS` (include/linux/socket.h), and of include/uapi/linux/tls.h the options with keys and the types of control messages.
const SOL_TLS: u64 = 282;
const TLS_TX: u64 = 1;
const TLS_RX: u64 = 2;
const TLS_SET_RECORD_TYPE: u32 = 1;
const TLS_GET_RECORD_TYPE: u32 = 2;
/// Versions as those keys have them. In TLS 1.2 the first record under them was the Finished message.
const TLS_1_2: u16 = 0x0303;
const TLS_1_3: u16 = 0x0304;
/// `application_data`, a record's type (RFC 8446 section 5.1).
const APPLICATION_DATA: u8 = 23;
/// Bytes of the shortest and the longest `struct tls12_crypto_info_*`. The record number ends each of them.
const SHORTEST_KEYS: u64 = 40;
const LONGEST_KEYS: u64 = 64;
const NUMBER: u64 = 8;

/// Where `struct user_msghdr` (include/linux/socket.h) keeps the address and length of control messages.
const MESSAGE_CONTROL: u64 = 32;
/// Bytes of `struct cmsghdr`.
const CONTROL: u64 = 16;

/// What a tracepoint gives a program: its arguments, a word each (include/trace/events/syscalls.h).
#[repr(C)]
struct Context {
    registers: *const Registers,
    result: i64,
}

/// A system call and its arguments.
struct Call {
    number: u64,
    first: u64,
    second: u64,
    third: u64,
    fourth: u64,
    result: u64,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/sys_exit")]
extern "C" fn kernel_tls(context: *const Context) -> i32 {
    // SAFETY: the context the kernel gives; the verifier knows its layout, and that of the registers. Volatile, or the compiler would
    // make loads of its choice of them, which verifiers refuse.
    unsafe {
        let registers = (*context).registers;
        let result = (*context).result;
        let number = core::ptr::read_volatile(&raw const (*registers).orig_ax);
        if !is_wanted(number, result) {
            return 0;
        }
        let first = core::ptr::read_volatile(&raw const (*registers).di);
        let second = core::ptr::read_volatile(&raw const (*registers).si);
        let third = core::ptr::read_volatile(&raw const (*registers).dx);
        let fourth = core::ptr::read_volatile(&raw const (*registers).r10);
        if number == SETSOCKOPT {
            let length = core::ptr::read_volatile(&raw const (*registers).r8);
            if second == SOL_TLS && (third == TLS_TX || third == TLS_RX) {
                keys_given(first, usize::from(third == TLS_RX), fourth, length);
            }
        } else if KERNEL_USED.get(0).is_some_and(|used| *used != 0) {
            ended(&Call { number, first, second, third, fourth, result: result as u64 });
        }
    }
    0
}

/// Whether a call may have given keys or moved bytes. All that most calls cost.
#[inline(always)]
fn is_wanted(number: u64, result: i64) -> bool {
    if result < 0 {
        return false;
    }
    if number < 64 {
        return SMALL >> number & 1 != 0;
    }
    matches!(number, SPLICE | RECVMMSG | SENDMMSG | PREADV2 | PWRITEV2)
}

/// Whether the current call came through the 32-bit entry.
#[inline(always)]
fn is_compat() -> bool {
    // SAFETY: no arguments.
    let status: u32 = read::member(unsafe { bpf_get_current_task() }, &globals::OFF_TASK_STATUS);
    status & COMPAT != 0
}

/// A process has given the keys of a direction.
#[inline(always)]
fn keys_given(fd: u64, half: usize, keys: u64, length: u64) {
    if is_compat() {
        return;
    }
    let Some(descriptor) = descriptor::socket(fd & 0xffff_ffff) else { return };
    let cookie: u64 = read::member(descriptor.sk, &globals::OFF_SK_COOKIE);
    if cookie == 0 {
        return count_loss(LOST_SESSION);
    }
    if let Some(used) = KERNEL_USED.get_ptr_mut(0) {
        // SAFETY: it is one word, and all write the same.
        unsafe { *used = 1 };
    }
    let key = SessionKey { object: descriptor.sk, tgid: 0 };
    if session(&key, cookie).is_none() {
        // SAFETY: no arguments.
        let born_ns = unsafe { bpf_ktime_get_ns() };
        let link = [cookie, 0, 0, 0];
        let (offset, budget, gap) = ([0; 2], [0; 2], [0; 2]);
        let new = Session { link, born_ns, offset, budget, gap, http: 0, muted: 0, library: KERNEL, padding: 0 };
        let _ = SESSIONS.insert(&key, &new, 0);
    }
    let Some(session) = session(&key, cookie) else { return count_loss(LOST_SESSION) };
    let clear = CLEAR << half;
    // New keys for a direction that has some change nothing here.
    if session.link[1] & clear != 0 {
        return;
    }
    session.link[1] |= clear;
    if !is_beginning(keys, length) {
        session.link[1] |= LATE << half;
    }
    if session.offset[1 - (half & 1)] != 0 {
        session.gap[half & 1] = 1;
    }
}

/// Whether no record has gone under these keys but the handshake's own.
#[inline(always)]
fn is_beginning(keys: u64, length: u64) -> bool {
    let length = length & 0xffff_ffff;
    if !(SHORTEST_KEYS..=LONGEST_KEYS).contains(&length) {
        return false;
    }
    let Some(version) = user::<u16>(keys) else { return false };
    let Some(number) = user::<u64>(keys.wrapping_add(length - NUMBER)) else { return false };
    match u64::from_be(number) {
        0 => version == TLS_1_3,
        1 => version == TLS_1_2,
        _ => false,
    }
}

/// The session of a socket; none when that at the address is another one.
#[inline(always)]
fn session(key: &SessionKey, cookie: u64) -> Option<&'static mut Session> {
    // SAFETY: the value lives as long as the program runs; plain integers, for which torn writes are harmless.
    let session = SESSIONS.get_ptr_mut(key).map(|session| unsafe { &mut *session })?;
    (session.link[0] == cookie).then_some(session)
}

/// The session of the socket behind a descriptor, where the kernel has its keys.
#[inline(always)]
fn session_of(fd: u64) -> Option<&'static mut Session> {
    let descriptor = descriptor::socket(fd & 0xffff_ffff)?;
    let key = SessionKey { object: descriptor.sk, tgid: 0 };
    SESSIONS.get_ptr(&key)?;
    session(&key, read::member(descriptor.sk, &globals::OFF_SK_COOKIE))
}

/// Looks at a call that may have moved bytes.
#[inline(always)]
fn ended(call: &Call) {
    if call.result == 0 {
        return;
    }
    let mut half = u32::from(matches!(call.number, READ | READV | RECVFROM | RECVMSG | RECVMMSG | PREADV2));
    let mut found = session_of(if call.number == SPLICE { call.third } else { call.first });
    if call.number == SPLICE && found.is_none() {
        found = session_of(call.first);
        half = 1;
    }
    let Some(session) = found else { return };
    if session.muted != 0 || session.link[1] & CLEAR << half == 0 || is_compat() {
        return;
    }
    let begins = session.offset[0] == 0 && session.offset[1] == 0;
    if begins && is_in_library() {
        session.muted = 1;
        return;
    }
    // SAFETY: no arguments.
    let Some(scratch) = KERNEL_SCRATCH.get_ptr_mut(unsafe { bpf_get_smp_processor_id() }) else {
        return count_loss(LOST_SESSION);
    };
    // SAFETY: the scratch is this processor's.
    let work = unsafe { &mut (*scratch).work };
    clear(work);
    set(&mut work.half, half);
    describe(call, work);
    match get(&work.kind) {
        KIND_NOTHING => {}
        KIND_LOST => {
            count_loss(LOST_CALL);
            let half = (get(&work.half) & 1) as usize;
            session.offset[half] = session.offset[half].wrapping_add(UNTOLD);
            session.gap[half] = 1;
        }
        _ => carry(session, scratch),
    }
}

/// Whether the thread is within a call of a library that is probed.
#[inline(always)]
fn is_in_library() -> bool {
    // SAFETY: no arguments.
    let key = CallKey { caller: unsafe { bpf_get_current_pid_tgid() }, tgid: 0 };
    CALLS.get_ptr(&key).is_some()
}

/// Notes what a call did with the socket.
#[inline(always)]
fn describe(call: &Call, work: &mut Work) {
    let flags = match call.number {
        SENDTO | RECVFROM => call.fourth,
        SENDMSG | RECVMSG => call.third,
        _ => 0,
    };
    set(&mut work.length, call.result as u32);
    set(&mut work.kind, KIND_BYTES);
    match call.number {
        READ | WRITE | SENDTO | RECVFROM => set_long(&mut work.address, call.second),
        READV | WRITEV | PREADV2 | PWRITEV2 => {
            set_long(&mut work.address, call.second);
            set_long(&mut work.pieces, call.third);
        }
        SENDMSG | RECVMSG => {
            let kind = if call.number == SENDMSG { TLS_SET_RECORD_TYPE } else { TLS_GET_RECORD_TYPE };
            message(call.second, kind, work);
        }
        SENDFILE | SPLICE => set(&mut work.kind, KIND_PASSED),
        _ => set(&mut work.kind, KIND_LOST),
    }
    if flags & (MSG_OOB | MSG_TRUNC) != 0 {
        set(&mut work.kind, KIND_LOST);
    }
    if flags & MSG_PEEK != 0 {
        set(&mut work.kind, KIND_NOTHING);
    }
}

/// Notes what a message was: a control message tells the type of a record that is no data, `kind` is its type.
#[inline(always)]
fn message(address: u64, kind: u32, work: &mut Work) {
    set(&mut work.kind, KIND_LOST);
    let Some([list, count]) = user::<[u64; 2]>(address.wrapping_add(MESSAGE_PIECES)) else { return };
    let Some([control, length]) = user::<[u64; 2]>(address.wrapping_add(MESSAGE_CONTROL)) else { return };
    set_long(&mut work.address, list);
    set_long(&mut work.pieces, count);
    if control == 0 || length < CONTROL {
        return set(&mut work.kind, KIND_BYTES);
    }
    let Some([_, _, level, told]) = user::<[u32; 4]>(control) else { return };
    if u64::from(level) != SOL_TLS || told != kind {
        return;
    }
    let Some(kind) = user::<u8>(control.wrapping_add(CONTROL)) else { return };
    set(&mut work.kind, if kind == APPLICATION_DATA { KIND_BYTES } else { KIND_NOTHING });
}

/// Emits bytes of a socket when they are wanted, and remembers that they went through it.
#[inline(always)]
fn carry(session: &mut Session, scratch: *mut Scratch<PlaintextHeader>) {
    // SAFETY: the scratch is this processor's.
    let work = unsafe { &mut (*scratch).work };
    let half = (get(&work.half) & 1) as usize;
    let (length, offset) = (get(&work.length), session.offset[half]);
    session.offset[half] = offset.wrapping_add(length);
    set(&mut work.offset, offset);
    if get(&work.kind) == KIND_PASSED {
        // Of what was not seen it is not known that it is a body.
        if session.http == 0 {
            session.gap[half] = 1;
        }
        return;
    }
    set(&mut work.wanted, length.min(SNIFFED));
    if !gather(scratch) {
        return lost(session, half, LOST_MEMORY);
    }
    classify(scratch);
    let (class, wanted) = match get(&work.class) as u8 {
        // Frames are not followed here.
        CLASS_HTTP2 if session.http == 0 => {
            session.muted = 1;
            (CLASS_OTHER, 0)
        }
        class => decide(session, half, class, length),
    };
    set(&mut work.class, u32::from(class));
    set(&mut work.wanted, wanted);
    if get(&work.class) == u32::from(sniff::NOTHING) {
        return;
    }
    let wanted = get(&work.wanted);
    if wanted <= get(&work.copied) {
        set(&mut work.copied, wanted);
    } else {
        set(&mut work.wanted, wanted.min(MOST));
        if !gather(scratch) {
            return lost(session, half, LOST_MEMORY);
        }
    }
    write(session, scratch);
}

/// A record was lost.
#[inline(always)]
fn lost(session: &mut Session, half: usize, status: u32) {
    session.gap[half] = 1;
    count_loss(status);
}

/// Puts the header before the payload and the record into the ring.
#[inline(always)]
fn write(session: &mut Session, scratch: *mut Scratch<PlaintextHeader>) {
    // SAFETY: the scratch is this processor's; the payload begins where the header ends.
    let status = unsafe {
        let work = &(*scratch).work;
        let half = (get(&work.half) & 1) as usize;
        let header = header(&mut (*scratch).header, 0, KERNEL, &session.link, LINK_KERNEL);
        header.born_ns = session.born_ns;
        header.offset = get(&work.offset);
        header.length = get(&work.length);
        header.captured = get(&work.copied);
        header.result = 0;
        header.direction = half as u8;
        header.class = get(&work.class) as u8;
        // The flags are 0 or 1 each.
        header.marks = session.gap[half] as u8 * MARK_GAP | session.muted as u8 * MARK_MUTED;
        header.what = WHAT_DATA;
        header.role = ROLE_UNKNOWN;
        header.has_result = 0;
        header.presented = PRESENTED_UNKNOWN;
        let size = size_of::<PlaintextHeader>() as u64 + clamp::<PAYLOAD_MAX>(get(&work.copied).wrapping_add(1)) - 1;
        let ring = (&raw const PLAINTEXT).cast_mut().cast::<c_void>();
        let status = bpf_ringbuf_output(ring, (&raw mut *header).cast(), size, u64::from(BPF_RB_NO_WAKEUP));
        session.gap[half] = u32::from(status != 0);
        status
    };
    if status != 0 {
        count_loss(LOST_RING_FULL);
    }
}
