//! Go's `crypto/tls`: arguments and results are in registers (ABIInternal, since Go 1.17: ax, bx, cx, di, ...; r14 is the
//! goroutine). A goroutine may change threads in a call, so calls are remembered by goroutine. There are no return probes: they
//! change the stack, which Go walks and moves. The probes at entries lie behind the check of the stack, which is passed once in a call:
//! a function whose stack has to grow, or whose goroutine has to give way, begins anew.

use auditor_abi::{
    plaintext::{
        CALL_CHAIN, CALL_READ, CALL_VERIFY, LINK_COOKIE, LOST_MEMORY, Library, PRESENTED_NONE, PRESENTED_UNKNOWN,
        PRESENTED_YES, ROLE_CLIENT, ROLE_SERVER, WHAT_REFUSED, WHAT_VERIFIED,
    },
    record::{EGRESS, INGRESS},
};
use aya_ebpf::{EbpfContext, helpers::generated::bpf_get_current_pid_tgid, macros::uprobe, programs::ProbeContext};

use crate::{
    carry::{Carried, Told, carry, end, tell},
    descriptor, globals,
    libraries::site,
    maps::{CALLS, Call, CallKey, LIBRARIES, count_loss},
    read,
    registers::{Registers, registers, user},
};

/// `tls.Conn.isClient`, behind the interface `conn` (crypto/tls/conn.go).
const IS_CLIENT: u64 = 16;
/// `itab.fun`, behind three words (runtime/runtime2.go, internal/abi/iface.go); methods are in the order of their names.
const FIRST_METHOD: u64 = 24;
/// More certificates than any chain has: what is read then is something else.
const MOST_CERTIFICATES: u64 = 1024;
/// `poll.FD.Sysfd`, behind `fdMutex` (internal/poll/fd_unix.go).
const SYSFD: u64 = 16;

/// `(*Conn).Write`, at the entry: another goroutine may read the answer before it returns.
#[uprobe]
pub fn go_write(context: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe.
    let registers = unsafe { registers(context.as_ptr()) };
    let site = site(context.as_ptr());
    let Some(library) = LIBRARIES.get(site as u32) else { return 0 };
    moved(&context, &library.0, (site, registers.ip), registers.ax, (EGRESS, registers.bx, registers.cx));
    0
}

/// The number of certificates of a client: the second word of the slice that begins the `tls.Certificate`, which is too large for
/// registers and lies behind the return address.
const CERTIFICATES: u64 = 16;

/// `(*Conn).Read`, `(*Conn).processCertsFromClient` and `(*x509.Certificate).Verify`, at the entry.
#[uprobe]
pub fn go_enter(context: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe.
    let registers = unsafe { registers(context.as_ptr()) };
    let site = site(context.as_ptr());
    let kind = (site >> 32) as u32;
    let key = goroutine(registers, kind);
    if kind == CALL_CHAIN {
        if let Some(call) = CALLS.get_ptr_mut(&key) {
            // SAFETY: the value lives as long as the program runs; only this goroutine writes it.
            let call = unsafe { &mut *call };
            call.link = 1;
        }
        return 0;
    }
    let mut count = u64::from(u32::MAX);
    if kind == CALL_VERIFY {
        count = user::<u64>(registers.sp.wrapping_add(CERTIFICATES)).unwrap_or(count);
    }
    let call = Call { object: registers.ax, buffer: registers.bx, count, stack: registers.ip, site, link: 0 };
    let _ = CALLS.insert(&key, &call, 0);
    0
}

/// One of their return instructions.
#[uprobe]
pub fn go_return(context: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe.
    returned(&context, unsafe { registers(context.as_ptr()) }, site(context.as_ptr()));
    0
}

/// `(*Conn).Close`, at the entry.
#[uprobe]
pub fn go_close(context: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe.
    let registers = unsafe { registers(context.as_ptr()) };
    end(registers.ax, site(context.as_ptr()) as u32, LINK_COOKIE);
    0
}

#[inline(always)]
fn returned(context: &ProbeContext, registers: &Registers, site: u64) {
    let kind = (site >> 32) as u32;
    let key = goroutine(registers, kind);
    let Some(call) = CALLS.get_ptr(&key) else { return };
    // SAFETY: the value lives as long as the program runs; only this goroutine writes it.
    let call = unsafe { *call };
    if call.site != site {
        return;
    }
    let _ = CALLS.remove(&key);
    let Some(library) = LIBRARIES.get(site as u32) else { return };
    let library = &library.0;
    match kind {
        CALL_READ => {
            let length = registers.ax as i64;
            if length > 0 && length <= i64::from(i32::MAX) {
                moved(context, library, (site, call.stack), call.object, (INGRESS, call.buffer, length as u64));
            }
        }
        CALL_VERIFY => {
            let cookie = cookie(library, call.object, write_address(library, CALL_VERIFY, call.stack));
            // The error is an interface: no type, no error.
            let refused = registers.ax != 0;
            let told = Told {
                what: if refused { WHAT_REFUSED } else { WHAT_VERIFIED },
                // A program may ask for certificates and not look at them.
                result: if call.link == 1 { Some(u32::from(refused)) } else { None },
                presented: presented(call.count),
                role: ROLE_SERVER,
            };
            tell(call.object, site as u32, &[cookie, 0, 0, 0], LINK_COOKIE, &told);
        }
        _ => {}
    }
}

/// Bytes went through a connection; `entry` is where the function's entry is probed in this process.
#[inline(always)]
fn moved(
    context: &ProbeContext,
    library: &Library,
    (site, entry): (u64, u64),
    object: u64,
    (direction, buffer, length): (u8, u64, u64),
) {
    if length == 0 || length > i32::MAX as u64 {
        return;
    }
    let Some(is_client) = user::<u8>(object.wrapping_add(IS_CLIENT)) else { return count_loss(LOST_MEMORY) };
    let write = write_address(library, (site >> 32) as u32, entry);
    let carried = Carried {
        object,
        library: site as u32,
        link: [cookie(library, object, write), 0, 0, 0],
        link_kind: LINK_COOKIE,
        role: if is_client == 0 { ROLE_SERVER } else { ROLE_CLIENT },
        direction,
        buffer,
        length: length as u32,
        verified: None,
        presented: PRESENTED_UNKNOWN,
    };
    carry(context, &carried, true);
}

/// Whether there are certificates; their number is not known where the stack could not be read.
#[inline(always)]
fn presented(count: u64) -> u8 {
    match count {
        0 => PRESENTED_NONE,
        1..=MOST_CERTIFICATES => PRESENTED_YES,
        _ => PRESENTED_UNKNOWN,
    }
}

/// Where `(*Conn).Write` is probed in this process, by where another function is.
#[inline(always)]
fn write_address(library: &Library, kind: u32, entry: u64) -> u64 {
    let distance = if kind == CALL_READ {
        library.functions[CALL_READ as usize]
    } else if kind == CALL_VERIFY {
        library.functions[CALL_VERIFY as usize]
    } else {
        0
    };
    entry.wrapping_sub(distance)
}

/// The cookie of the socket under a connection: `Conn.conn` is a `*net.TCPConn`, whose first word is a `*netFD`, which begins with
/// a `poll.FD`. 0 when it is anything else, which the interface's method table tells.
#[inline(always)]
fn cookie(library: &Library, object: u64, write: u64) -> u64 {
    let Some([table, connection]) = user::<[u64; 2]>(object) else { return 0 };
    let Some(close) = user::<u64>(table.wrapping_add(FIRST_METHOD)) else { return 0 };
    let distance = close.wrapping_sub(write);
    if distance != library.tcp_close[0] && distance != library.tcp_close[1] {
        return 0;
    }
    let Some(net_fd) = user::<u64>(connection) else { return 0 };
    match user::<u64>(net_fd.wrapping_add(SYSFD)) {
        Some(fd) => socket_cookie(fd),
        None => 0,
    }
}

/// The cookie of the socket behind a descriptor; 0 when it is no socket, or when nobody has asked for its cookie yet: the packet
/// hooks ask with the first payload.
#[inline(always)]
fn socket_cookie(fd: u64) -> u64 {
    descriptor::socket(fd).map_or(0, |descriptor| read::member(descriptor.sk, &globals::OFF_SK_COOKIE))
}

/// Certificates are verified within the read that begins the handshake, maybe: they have a place of their own.
#[inline(always)]
fn goroutine(registers: &Registers, kind: u32) -> CallKey {
    // SAFETY: no arguments.
    let tgid = unsafe { bpf_get_current_pid_tgid() } >> 32;
    let verifies = u64::from(kind == CALL_VERIFY || kind == CALL_CHAIN);
    CallKey { caller: registers.r14, tgid: verifies << 32 | tgid }
}
