//! One thin wrapper per hook on the kernel's functions, and what those and system calls have in common.

use auditor_abi::{
    counters,
    record::{EGRESS, INGRESS},
};
use aya_ebpf::{
    EbpfContext,
    helpers::generated::bpf_get_current_pid_tgid,
    macros::{fentry, fexit, kprobe, kretprobe},
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};

use crate::{
    buffers::Buffers,
    emit::{Transfer, end},
    globals,
    maps::{self, CALLS, Call, SOCKETS, WALKS, count_loss},
    read, socket,
    transfer::{known, transfer},
};

/// Flags of `recv(2)` with which the bytes stay where they are, or are none of the stream (include/linux/socket.h): MSG_OOB,
/// MSG_PEEK, MSG_ERRQUEUE.
const NOT_READ: u32 = 0x1 | 0x2 | 0x2000;
/// With which TCP throws the bytes away: MSG_TRUNC.
const THROWN_AWAY: u32 = 0x20;

#[fentry(function = "tcp_sendmsg")]
pub fn send_fentry(context: FEntryContext) {
    let message = context.arg(1);
    send(context.arg(0), || Buffers::of_message(message));
}

#[kprobe]
pub fn send_kprobe(context: ProbeContext) {
    if let (Some(sk), Some(message)) = (context.arg(0), context.arg(1)) {
        send(sk, || Buffers::of_message(message));
    }
}

#[fentry(function = "tcp_recvmsg")]
pub fn recv_fentry(context: FEntryContext) {
    // Before 5.19 a parameter comes before the flags.
    let flags = if globals::load(&globals::RECEIVE_ARITY) == 6 { slot::<4>(&context) } else { slot::<3>(&context) };
    let message = context.arg(1);
    begin(context.arg(0), flags as u32, || Buffers::of_message(message));
}

#[kprobe]
pub fn recv_kprobe(context: ProbeContext) {
    let (fourth, fifth): (Option<u64>, Option<u64>) = (context.arg(3), context.arg(4));
    let flags = if globals::load(&globals::RECEIVE_ARITY) == 6 { fifth } else { fourth };
    if let (Some(sk), Some(message), Some(flags)) = (context.arg(0), context.arg(1), flags) {
        begin(sk, flags as u32, || Buffers::of_message(message));
    }
}

#[fexit(function = "tcp_recvmsg")]
pub fn recv_fexit(context: FExitContext) {
    // The result follows the parameters.
    let result = match globals::load(&globals::RECEIVE_ARITY) {
        6 => slot::<6>(&context),
        5 => slot::<5>(&context),
        _ => slot::<4>(&context),
    };
    finish(Some(context.arg(0)), result as i32);
}

#[kretprobe]
pub fn recv_kretprobe(context: RetProbeContext) {
    finish(None, context.ret::<u64>() as i32);
}

#[fentry(function = "tcp_close")]
pub fn close_fentry(context: FEntryContext) {
    close(context.arg(0));
}

#[kprobe]
pub fn close_kprobe(context: ProbeContext) {
    if let Some(sk) = context.arg(0) {
        close(sk);
    }
}

/// A parameter, or behind the last of them the result, of a function that is traced. Not read in Rust: the compiler would make one
/// load at an offset of its choice of several, which verifiers refuse, and not all of them exist in every kernel.
#[inline(always)]
fn slot<const INDEX: usize>(context: &impl EbpfContext) -> u64 {
    let value: u64;
    // SAFETY: one load from the context; the verifier checks that there is such a parameter.
    unsafe {
        core::arch::asm!(
            "{value} = *(u64 *)({context} + {offset})",
            value = out(reg) value,
            context = in(reg) context.as_ptr(),
            offset = const INDEX * 8,
        );
    }
    value
}

/// A process sends. What is sent is looked at before it leaves, so that its record comes before those of what it brings about.
#[inline(always)]
pub fn send(sk: u64, buffers: impl FnOnce() -> Buffers) {
    if !socket::is_open(sk) {
        return;
    }
    let buffers = buffers();
    if buffers.count == 0 {
        return;
    }
    let sequence = read::member(sk, &globals::OFF_TCP_WRITTEN);
    let length = buffers.count.min(u64::from(u32::MAX)) as u32;
    let read = read::member(sk, &globals::OFF_TCP_READ);
    transfer(&Transfer { sk, direction: EGRESS, sequence, buffers: &buffers, length }, read);
}

/// A process begins to read.
#[inline(always)]
pub fn begin(sk: u64, flags: u32, buffers: impl FnOnce() -> Buffers) {
    // SAFETY: no arguments.
    let thread = unsafe { bpf_get_current_pid_tgid() };
    if let Some(call) = CALLS.get_ptr(&thread) {
        // SAFETY: the value lives as long as the program runs.
        missed(unsafe { (*call).sk });
        let _ = CALLS.remove(&thread);
    }
    let quiet = SOCKETS.get_ptr(&sk).is_some_and(|socket| {
        // SAFETY: as above.
        let socket = unsafe { &*socket };
        let read = socket.followed == maps::TLS && socket.done[usize::from(INGRESS)] != 0;
        (socket.quiet != 0 || read) && socket.ports == socket::ports(sk)
    });
    if quiet || flags & NOT_READ != 0 {
        return;
    }
    let mut buffers = buffers();
    if buffers.count == 0 {
        return;
    }
    if flags & THROWN_AWAY != 0 {
        buffers.forget();
    }
    let call = Call { sk, buffers, sequence: read::member(sk, &globals::OFF_TCP_READ), padding: 0 };
    if CALLS.insert(&thread, &call, 0).is_err() {
        count_loss(counters::LOST_CALL);
    }
}

/// The end of a thread's last read was not seen.
#[inline(always)]
fn missed(sk: u64) {
    count_loss(counters::LOST_RETURN);
    if let Some(socket) = SOCKETS.get_ptr_mut(&sk) {
        // SAFETY: the value lives as long as the program runs; a plain integer.
        unsafe { (*socket).gap[usize::from(INGRESS)] = 1 };
    }
}

/// A process has read. `sk` is the socket where the hook knows it.
#[inline(always)]
pub fn finish(sk: Option<u64>, result: i32) {
    // SAFETY: no arguments.
    let thread = unsafe { bpf_get_current_pid_tgid() };
    let Some(call) = CALLS.get_ptr(&thread) else { return };
    // SAFETY: the value lives as long as the program runs, and nobody but this thread writes it. Not copied: the stack is full.
    let call = unsafe { &*call };
    // The end of the stream is told when the socket is closed: a record of it here would not fit the stack beside the other.
    if result > 0 {
        let sk = sk.unwrap_or(call.sk);
        let at: u32 = read::member(sk, &globals::OFF_TCP_READ);
        // The FIN, where it was read along with the last bytes, is counted as a byte.
        let length = result as u32;
        let advanced = at.wrapping_sub(call.sequence);
        let exact = advanced == length || advanced == length.wrapping_add(1);
        let sequence = if exact { call.sequence } else { at.wrapping_sub(length) };
        transfer(&Transfer { sk, direction: INGRESS, sequence, buffers: &call.buffers, length }, sequence);
    }
    let _ = CALLS.remove(&thread);
}

/// Nobody holds a socket any more.
#[inline(always)]
pub fn close(sk: u64) {
    let Some(socket) = known(sk, socket::ports(sk)) else { return };
    let read = read::member(sk, &globals::OFF_TCP_READ);
    end(sk, socket, INGRESS, read);
    let written = read::member(sk, &globals::OFF_TCP_WRITTEN);
    end(sk, socket, EGRESS, written);
    if socket.followed == maps::TLS {
        let _ = WALKS.remove(&sk);
    }
    let _ = SOCKETS.remove(&sk);
}
