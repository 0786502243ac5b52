//! What is wanted of a read or write, and the record of it.

use core::{ffi::c_void, mem::MaybeUninit};

use auditor_abi::{
    plaintext::{
        LINK_COOKIE, LOST_COUNT, LOST_MEMORY, LOST_RING_FULL, LOST_SESSION, PlaintextHeader, WHAT_DATA, WHAT_END,
    },
    record::{
        CLASS_CONTINUATION, CLASS_END, CLASS_HTTP2, CLASS_OTHER, CLASS_REQUEST, CLASS_RESPONSE, CLASS_SHORT, EGRESS,
        MARK_GAP, MARK_MUTED, PAYLOAD_CLASSES,
    },
};
use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_NOEXIST, BPF_RB_NO_WAKEUP},
    helpers::generated::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_ns, bpf_probe_read_user},
};

use crate::{
    clamp::clamp,
    globals, http2,
    maps::{HTTP1, HTTP2, PLAINTEXT, SESSIONS, STREAMS, Session, SessionKey, count_loss},
    read,
    registers::user,
    sniff,
};

/// A read or write that moved bytes.
pub struct Carried {
    pub object: u64,
    pub library: u32,
    pub link: [u64; 4],
    pub link_kind: u8,
    pub role: u8,
    pub direction: u8,
    pub buffer: u64,
    pub length: u32,
    /// Result of verifying the peer's certificate, where the library keeps it.
    pub verified: Option<u64>,
    /// Whether the session has a certificate of its peer, one of the `PRESENTED_*` constants.
    pub presented: u8,
}

impl Carried {
    /// It is on no socket that is known: never followed then, because what went before is not known either.
    #[inline(always)]
    fn is_unlinked(&self) -> bool {
        self.link_kind == LINK_COOKIE && self.link[0] == 0
    }
}

/// What a library told of a handshake.
pub struct Told {
    pub what: u8,
    pub result: Option<u32>,
    pub presented: u8,
    pub role: u8,
}

/// A record of one capacity.
#[repr(C)]
struct Record<const CAPACITY: usize> {
    header: PlaintextHeader,
    payload: [u8; CAPACITY],
}

/// Bytes that were emitted when they were about to be written have been written.
#[inline(always)]
pub fn settle(carried: &Carried) {
    // SAFETY: no arguments.
    let tgid = unsafe { bpf_get_current_pid_tgid() } >> 32;
    let key = SessionKey { object: carried.object, tgid };
    let Some(session) = session(&key, carried) else { return };
    if session.library == carried.library {
        session.offset[0] = session.offset[0].wrapping_add(carried.length);
    }
}

/// Emits bytes of a session when they are wanted, and remembers that they went through it, unless that is not certain yet. The last
/// thing that a program does: of HTTP/2 another program takes over.
#[inline(always)]
pub fn carry(context: &impl EbpfContext, carried: &Carried, certain: bool) {
    // SAFETY: no arguments.
    let tgid = unsafe { bpf_get_current_pid_tgid() } >> 32;
    let key = SessionKey { object: carried.object, tgid };
    let Some(session) = session(&key, carried) else { return count_loss(LOST_SESSION) };
    // One file may be attached to by two names, on file systems that stack: one of them counts.
    if session.library != carried.library {
        return;
    }
    let half = usize::from(carried.direction != EGRESS);
    let offset = session.offset[half];
    if certain {
        session.offset[half] = offset.wrapping_add(carried.length);
    }
    if session.muted != 0 {
        return;
    }
    if session.http == HTTP2 {
        return http2::follow(context, carried, offset, session);
    }
    let (class, wanted) = if carried.is_unlinked() {
        session.muted = 1;
        (CLASS_OTHER, 0)
    } else {
        let class = sniffed(carried.buffer, carried.length);
        // A server may begin before its client's first bytes have come.
        let first = offset == 0 && session.offset[1 - half] == 0;
        if session.http == 0 && (class == CLASS_HTTP2 || (class == sniff::SETTINGS && first)) {
            http2::begin(&key, session);
            return http2::follow(context, carried, offset, session);
        }
        decide(session, half, class, carried.length)
    };
    if class == sniff::NOTHING {
        return;
    }
    let mut place = MaybeUninit::<PlaintextHeader>::zeroed();
    // SAFETY: integers and byte arrays: zeroes make one.
    let place = unsafe { place.assume_init_mut() };
    let header = header(place, carried.object, carried.library, &carried.link, carried.link_kind);
    header.born_ns = session.born_ns;
    header.offset = offset;
    header.length = carried.length;
    header.direction = carried.direction;
    header.class = class;
    // The flags are 0 or 1 each.
    header.marks = session.gap[half] as u8 * MARK_GAP | session.muted as u8 * MARK_MUTED;
    header.what = WHAT_DATA;
    header.role = carried.role;
    if let Some(result) = carried.verified {
        header.result = result as u32;
        header.has_result = 1;
    }
    header.presented = carried.presented;
    let status = emit(header, carried.buffer, wanted);
    session.gap[half] = u32::from(status != WRITTEN);
    if status != WRITTEN {
        count_loss(status);
    }
}

/// Emits what a library told of a handshake.
#[inline(always)]
pub fn tell(object: u64, library: u32, link: &[u64; 4], link_kind: u8, told: &Told) {
    let mut place = MaybeUninit::<PlaintextHeader>::zeroed();
    // SAFETY: integers and byte arrays: zeroes make one.
    let header = header(unsafe { place.assume_init_mut() }, object, library, link, link_kind);
    header.class = CLASS_END;
    header.what = told.what;
    header.role = told.role;
    if let Some(result) = told.result {
        header.result = result;
        header.has_result = 1;
    }
    header.presented = told.presented;
    let status = write::<8>(header, 0, 0);
    if status != WRITTEN {
        count_loss(status);
    }
}

/// Forgets a session, and says so if something was emitted of it.
#[inline(always)]
pub fn end(object: u64, library: u32, link_kind: u8) {
    // SAFETY: no arguments.
    let tgid = unsafe { bpf_get_current_pid_tgid() } >> 32;
    let key = SessionKey { object, tgid };
    let Some(session) = SESSIONS.get_ptr(&key) else { return };
    // SAFETY: the value lives as long as the program runs.
    let Session { link, born_ns, http, offset, .. } = unsafe { *session };
    let _ = SESSIONS.remove(&key);
    if http == 0 {
        return;
    }
    if http == HTTP2 {
        let _ = STREAMS.remove(&key);
    }
    let mut place = MaybeUninit::<PlaintextHeader>::zeroed();
    // SAFETY: integers and byte arrays: zeroes make one.
    let header = header(unsafe { place.assume_init_mut() }, object, library, &link, link_kind);
    header.born_ns = born_ns;
    header.class = CLASS_END;
    header.what = WHAT_END;
    header.offset = offset[0];
    header.length = offset[1];
    let status = write::<8>(header, 0, 0);
    if status != WRITTEN {
        count_loss(status);
    }
}

/// The session's memory, made when there is none; made anew when the session at that address is another one.
#[inline(always)]
fn session(key: &SessionKey, carried: &Carried) -> Option<&'static mut Session> {
    if let Some(session) = known(key, carried) {
        return Some(session);
    }
    // What was followed of a session that had this place before.
    let _ = STREAMS.remove(key);
    // SAFETY: no arguments.
    let born_ns = unsafe { bpf_ktime_get_ns() };
    let new = Session {
        link: carried.link,
        born_ns,
        offset: [0; 2],
        budget: [0; 2],
        gap: [0; 2],
        http: 0,
        muted: 0,
        library: carried.library,
        padding: 0,
    };
    // Another thread may begin it at the same time: one reads and one writes.
    if SESSIONS.insert(key, &new, u64::from(BPF_NOEXIST)).is_err() && known(key, carried).is_none() {
        SESSIONS.insert(key, &new, 0).ok()?;
    }
    known(key, carried)
}

/// The session, where there is one, and not another of before.
#[inline(always)]
fn known(key: &SessionKey, carried: &Carried) -> Option<&'static mut Session> {
    let link = &carried.link;
    let session = SESSIONS.get_ptr_mut(key)?;
    // SAFETY: the value lives as long as the program runs; plain integers, for which torn writes are harmless.
    let session = unsafe { &mut *session };
    let same = session.link[0] == link[0]
        && session.link[1] == link[1]
        && session.link[2] == link[2]
        && session.link[3] == link[3];
    // One that began without a socket stays so.
    (same || (carried.link_kind == LINK_COOKIE && session.link[0] == 0)).then_some(session)
}

/// The class of the first bytes.
#[inline(always)]
fn sniffed(buffer: u64, length: u32) -> u8 {
    let word = u64::from_le;
    if length >= 24 {
        if let Some([a, b, c]) = user::<[u64; 3]>(buffer) {
            return sniff::classify([word(a), word(b), word(c)], 24);
        }
    } else if length >= 8 {
        if let Some(a) = user::<u64>(buffer) {
            return sniff::classify([word(a), 0, 0], 8);
        }
    } else if length >= 4 {
        if let Some(a) = user::<u32>(buffer) {
            return sniff::classify([u64::from(u32::from_le(a)), 0, 0], 4);
        }
    } else if let Some(a) = user::<u8>(buffer) {
        return sniff::classify([u64::from(a), 0, 0], 1);
    }
    sniff::NOTHING
}

/// The class of a read or write and how much of it is wanted; class `NOTHING` when none of it.
#[inline(always)]
pub fn decide(session: &mut Session, half: usize, sniffed: u8, length: u32) -> (u8, u32) {
    match sniffed {
        CLASS_REQUEST | CLASS_RESPONSE | CLASS_SHORT => {
            let budget = if sniffed == CLASS_RESPONSE {
                globals::load(&globals::RESPONSE_BUDGET)
            } else {
                globals::load(&globals::REQUEST_BUDGET)
            };
            if sniffed != CLASS_SHORT {
                session.http = HTTP1;
            } else if session.budget[half] > 0 {
                return continuation(session, half, length);
            }
            session.budget[half] = budget.saturating_sub(length);
            (sniffed, length.min(budget))
        }
        _ if session.budget[half] > 0 => continuation(session, half, length),
        _ if session.http != 0 => (sniff::NOTHING, 0),
        _ => {
            // What is not HTTP is not read: one record says that it was begun.
            session.muted = 1;
            (CLASS_OTHER, 0)
        }
    }
}

#[inline(always)]
fn continuation(session: &mut Session, half: usize, length: u32) -> (u8, u32) {
    let budget = session.budget[half];
    session.budget[half] = budget.saturating_sub(length);
    (CLASS_CONTINUATION, length.min(budget))
}

/// A header with what every record has, in zeroed memory.
#[inline(always)]
pub fn header<'a>(
    header: &'a mut PlaintextHeader,
    object: u64,
    library: u32,
    link: &[u64; 4],
    link_kind: u8,
) -> &'a mut PlaintextHeader {
    // SAFETY: no arguments.
    let (now, task, pid_tgid) = unsafe { (bpf_ktime_get_ns(), bpf_get_current_task(), bpf_get_current_pid_tgid()) };
    let leader: u64 = read::member(task, &globals::OFF_TASK_LEADER);
    header.time_ns = now;
    // SAFETY: 32 bytes at a multiple of eight.
    unsafe { (&raw mut header.link).cast::<[u64; 4]>().write(*link) };
    header.object = object;
    header.owner_start_ns = read::member(leader, &globals::OFF_TASK_START);
    header.owner_comm = read::member(leader, &globals::OFF_TASK_COMM);
    header.owner_tgid = (pid_tgid >> 32) as u32;
    header.library = library;
    header.link_kind = link_kind;
    header
}

/// Status of [`write`]; otherwise the counter of the loss.
pub const WRITTEN: u32 = LOST_COUNT;

/// Writes a record with up to `wanted` bytes of the process' memory, in the smallest capacity that holds them.
#[inline(always)]
pub fn emit(header: &mut PlaintextHeader, buffer: u64, wanted: u32) -> u32 {
    if wanted == 0 {
        write::<8>(header, buffer, 0)
    } else if wanted < PAYLOAD_CLASSES[0] as u32 {
        write::<{ PAYLOAD_CLASSES[0] }>(header, buffer, wanted)
    } else if wanted < PAYLOAD_CLASSES[1] as u32 {
        write::<{ PAYLOAD_CLASSES[1] }>(header, buffer, wanted)
    } else if wanted < PAYLOAD_CLASSES[2] as u32 {
        write::<{ PAYLOAD_CLASSES[2] }>(header, buffer, wanted)
    } else {
        write::<{ PAYLOAD_CLASSES[3] }>(header, buffer, wanted)
    }
}

#[inline(always)]
fn write<const CAPACITY: usize>(header: &mut PlaintextHeader, buffer: u64, wanted: u32) -> u32 {
    let Some(mut entry) = PLAINTEXT.reserve::<Record<CAPACITY>>(0) else { return LOST_RING_FULL };
    let record = entry.as_mut_ptr();
    let mut captured = 0;
    if wanted > 0 {
        captured = clamp::<CAPACITY>(wanted);
        // SAFETY: `captured` is at most CAPACITY - 1, and the helper checks the process' memory.
        let status = unsafe {
            let payload = (&raw mut (*record).payload).cast();
            bpf_probe_read_user(payload, captured as u32, buffer as *const c_void)
        };
        if status != 0 {
            entry.discard(u64::from(BPF_RB_NO_WAKEUP));
            return LOST_MEMORY;
        }
    }
    header.captured = captured as u32;
    // SAFETY: the reserved memory begins with a header; both sides are aligned to 8, so words are copied.
    unsafe {
        let words = (&raw const *header).cast::<[u64; size_of::<PlaintextHeader>() / 8]>();
        record.cast::<[u64; size_of::<PlaintextHeader>() / 8]>().write(words.read());
    }
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
    WRITTEN
}
