//! OpenSSL, BoringSSL and GnuTLS: the session is the first argument, the buffer the second, its length the third. What is read is
//! known at the return. What is written is taken at the entry, before the other end can read it; it counts at the return, as far
//! as the library took it: what is written again has the same offset, like a segment that is sent again.

use core::ffi::c_void;

use auditor_abi::{
    layout::ABSENT,
    plaintext::{
        CALL_HANDSHAKE, CALL_PEERS, CALL_READ, CALL_READ_EX, CALL_WRITE, CALL_WRITE_EX, LINK_RANDOM, LOST_MEMORY,
        Library, PRESENTED_NONE, PRESENTED_UNKNOWN, PRESENTED_YES, ROLE_CLIENT, ROLE_SERVER, ROLE_UNKNOWN,
        WHAT_HANDSHAKE, WHAT_VERIFIED,
    },
    record::{EGRESS, INGRESS},
};
use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_get_attach_cookie, bpf_get_current_pid_tgid},
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};

use crate::{
    carry::{Carried, Told, carry, end, settle, tell},
    maps::{CALLS, Call, CallKey, LIBRARIES, count_loss},
    registers::{Registers, registers, user},
};

/// `GNUTLS_E_AGAIN` and `GNUTLS_E_INTERRUPTED` (gnutls/gnutls.h): the handshake goes on.
const AGAIN: i32 = -28;
const INTERRUPTED: i32 = -52;
/// `GNUTLS_E_NO_CERTIFICATE_FOUND`: the peer gave none.
const NO_CERTIFICATE: i32 = -49;

/// The entry of a read, write or handshake function.
#[uprobe]
pub fn tls_enter(context: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe.
    let registers = unsafe { registers(context.as_ptr()) };
    let site = site(context.as_ptr());
    let link = written(registers, site);
    let (object, buffer) = (registers.di, registers.si);
    let call = Call { object, buffer, count: registers.cx, stack: registers.sp, site, link: link[0] };
    // A call inside of another takes its place: the outer one's bytes are not on the wire as they are.
    let _ = CALLS.insert(&thread(site), &call, 0);
    let length = registers.dx;
    // GnuTLS is told to go on with what it has by writing nothing.
    if link[0] != 0
        && buffer != 0
        && length > 0
        && length <= i32::MAX as u64
        && let Some(library) = LIBRARIES.get(site as u32)
    {
        carry(&context, &carried(&library.0, object, site, link, (EGRESS, buffer, length as u32)), false);
    }
    0
}

/// The return of one of them.
#[uretprobe]
pub fn tls_return(context: RetProbeContext) -> u32 {
    // SAFETY: the context of a uretprobe.
    returned(&context, unsafe { registers(context.as_ptr()) }, site(context.as_ptr()));
    0
}

/// The entry of `SSL_free` or `gnutls_deinit`.
#[uprobe]
pub fn tls_free(context: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe.
    let registers = unsafe { registers(context.as_ptr()) };
    end(registers.di, site(context.as_ptr()) as u32, LINK_RANDOM);
    0
}

/// The session's random when something is about to be written and it is known, else zeroes.
#[inline(always)]
fn written(registers: &Registers, site: u64) -> [u64; 4] {
    if !matches!((site >> 32) as u32, CALL_WRITE | CALL_WRITE_EX) {
        return [0; 4];
    }
    match LIBRARIES.get(site as u32) {
        Some(library) => random(&library.0, registers.di).unwrap_or([0; 4]),
        None => [0; 4],
    }
}

#[inline(always)]
fn returned(context: &RetProbeContext, registers: &Registers, site: u64) {
    let key = thread(site);
    let Some(call) = CALLS.get_ptr(&key) else { return };
    // SAFETY: the value lives as long as the program runs; only this thread writes it.
    let call = unsafe { *call };
    // The return address was on the stack at the entry.
    if call.stack.wrapping_add(8) != registers.sp || call.site != site {
        return;
    }
    let _ = CALLS.remove(&key);
    let kind = (site >> 32) as u32;
    let result = registers.ax as i32;
    let Some(library) = LIBRARIES.get(site as u32) else { return };
    let library = &library.0;
    if kind == CALL_HANDSHAKE {
        if result != AGAIN && result != INTERRUPTED {
            let Some(link) = random(library, call.object) else { return count_loss(LOST_MEMORY) };
            let told = Told {
                what: WHAT_HANDSHAKE,
                result: Some(result as u32),
                presented: PRESENTED_UNKNOWN,
                role: role(library, call.object),
            };
            tell(call.object, site as u32, &link, LINK_RANDOM, &told);
        }
        return;
    }
    if kind == CALL_PEERS {
        return verified(library, &call, site, result);
    }
    let length = match kind {
        CALL_READ | CALL_WRITE if result > 0 => result as u32,
        CALL_READ_EX | CALL_WRITE_EX if result == 1 => match user::<u64>(call.count) {
            Some(count) => count.min(u64::from(u32::MAX)) as u32,
            None => return count_loss(LOST_MEMORY),
        },
        _ => return,
    };
    if length == 0 {
        return;
    }
    let Some(link) = random(library, call.object) else { return count_loss(LOST_MEMORY) };
    let direction = if matches!(kind, CALL_WRITE | CALL_WRITE_EX) { EGRESS } else { INGRESS };
    let carried = carried(library, call.object, site, link, (direction, call.buffer, length));
    if direction == EGRESS && call.link == link[0] {
        settle(&carried);
    } else {
        // What was written, where the handshake was made within the call: only now is it known whose bytes they are.
        carry(context, &carried, true);
    }
}

/// The peer's certificates were looked at: what is wrong with them is a set of bits, none when they are good.
#[inline(always)]
fn verified(library: &Library, call: &Call, site: u64, returned: i32) {
    let (presented, result) = match returned {
        0 => match user::<u32>(call.count) {
            Some(faults) => (PRESENTED_YES, Some(faults)),
            None => return count_loss(LOST_MEMORY),
        },
        NO_CERTIFICATE => (PRESENTED_NONE, None),
        _ => return,
    };
    let Some(link) = random(library, call.object) else { return count_loss(LOST_MEMORY) };
    let told = Told { what: WHAT_VERIFIED, result, presented, role: role(library, call.object) };
    tell(call.object, site as u32, &link, LINK_RANDOM, &told);
}

#[inline(always)]
fn carried(
    library: &Library,
    object: u64,
    site: u64,
    link: [u64; 4],
    (direction, buffer, length): (u8, u64, u32),
) -> Carried {
    let role = role(library, object);
    // What a client makes of its server is not asked for.
    let (verified, presented) = if role == ROLE_SERVER { proof(library, object) } else { (None, PRESENTED_UNKNOWN) };
    Carried {
        object,
        library: site as u32,
        link,
        link_kind: LINK_RANDOM,
        role,
        direction,
        buffer,
        length,
        verified,
        presented,
    }
}

/// What a session keeps of its peer's certificate: the result of verifying it, and whether there is one.
#[inline(always)]
fn proof(library: &Library, object: u64) -> (Option<u64>, u8) {
    if library.verify == ABSENT {
        return (None, PRESENTED_UNKNOWN);
    }
    let result = user::<u64>(object.wrapping_add(u64::from(library.verify)));
    if library.resumable == ABSENT || library.peer == ABSENT {
        return (result, PRESENTED_UNKNOWN);
    }
    let presented = match user::<u64>(object.wrapping_add(u64::from(library.resumable))) {
        None | Some(0) => PRESENTED_UNKNOWN,
        Some(resumable) => match user::<u64>(resumable.wrapping_add(u64::from(library.peer))) {
            None => PRESENTED_UNKNOWN,
            Some(0) => PRESENTED_NONE,
            Some(_) => PRESENTED_YES,
        },
    };
    (result, presented)
}

/// The random of the session's ClientHello.
#[inline(always)]
fn random(library: &Library, object: u64) -> Option<[u64; 4]> {
    if library.random == ABSENT {
        return None;
    }
    let holder = if library.state == ABSENT {
        object
    } else {
        user::<u64>(object.wrapping_add(u64::from(library.state))).filter(|state| *state != 0)?
    };
    user(holder.wrapping_add(u64::from(library.random)))
}

#[inline(always)]
fn role(library: &Library, object: u64) -> u8 {
    if library.server == ABSENT {
        return ROLE_UNKNOWN;
    }
    match user::<u32>(object.wrapping_add(u64::from(library.server))) {
        None => ROLE_UNKNOWN,
        Some(bits) if bits & library.server_mask == 0 => ROLE_CLIENT,
        Some(_) => ROLE_SERVER,
    }
}

#[inline(always)]
pub fn site(context: *mut c_void) -> u64 {
    // SAFETY: the context the kernel gave.
    unsafe { bpf_get_attach_cookie(context) }
}

/// Certificates are verified within a handshake, which goes on: they have a place of their own.
#[inline(always)]
fn thread(site: u64) -> CallKey {
    // SAFETY: no arguments.
    CallKey { caller: unsafe { bpf_get_current_pid_tgid() }, tgid: u64::from((site >> 32) as u32 == CALL_PEERS) }
}
