//! Follows a session that carries HTTP/2 read by read and write by write: copies what [`crate::frames`] wants of them.
//!
//! A program of its own, reached by a tail call. One run emits at most one record; when there is more, the program calls itself for
//! the rest. What was read or written is remembered for the thread, which does nothing else until the probe is through.

use auditor_abi::{
    plaintext::{LOST_SESSION, LOST_TAIL_CALL, PlaintextHeader, WHAT_DATA},
    record::{CLASS_HTTP2, EGRESS, MARK_GAP, PAYLOAD_MAX},
};
use aya_ebpf::{
    EbpfContext,
    bindings::BPF_NOEXIST,
    helpers::generated::{bpf_get_current_pid_tgid, bpf_probe_read_user},
    macros::uprobe,
    programs::ProbeContext,
};

use crate::{
    carry::{Carried, WRITTEN, emit, header},
    frames::{Bytes, Found, Frames, Place},
    maps::{HTTP2, MOVES, Move, SESSIONS, STREAMS, Session, SessionKey, Streams, count_loss},
    registers::user,
};

/// Bytes of one record.
const MOST: u32 = PAYLOAD_MAX as u32 - 1;

/// Nothing is known of a direction.
const UNKNOWN: Frames = Frames {
    begun: 0,
    next: 0,
    wanted: 0,
    held: 0,
    header: [0; 8],
    from: 0,
    to: 0,
    open: 0,
    hole: 0,
    behind_hole: 0,
    astray: 0,
};
/// A session that begins. In the object's read-only memory, and not on the stack, of which there are 512 bytes.
static BEGINNING: Streams = Streams([UNKNOWN, UNKNOWN]);
/// A read or write of which nothing is known.
static NOTHING: Move = Move {
    object: 0,
    buffer: 0,
    verified: 0,
    offset: 0,
    length: 0,
    library: 0,
    step: 0,
    direction: 0,
    role: 0,
    link_kind: 0,
    has_verified: 0,
    presented: 0,
    padding: [0; 3],
};

/// What was read or written, in the process' memory.
struct Memory {
    buffer: u64,
}

impl Bytes for Memory {
    #[inline(always)]
    fn first(&self) -> Option<[u8; 8]> {
        user::<[u8; 8]>(self.buffer)
    }

    #[inline(always)]
    unsafe fn copy(&self, at: u32, to: *mut u8, length: u32) -> bool {
        let from = self.buffer.wrapping_add(u64::from(at)) as *const core::ffi::c_void;
        // SAFETY: the caller's promise; the helper checks the process' memory.
        unsafe { bpf_probe_read_user(to.cast(), length, from) == 0 }
    }
}

/// The session carries HTTP/2 from here on. Where another thread has begun to follow it, that stays.
#[inline(always)]
pub fn begin(key: &SessionKey, session: &mut Session) {
    session.http = HTTP2;
    let _ = STREAMS.insert(key, &BEGINNING, u64::from(BPF_NOEXIST));
}

/// Goes on with what was read or written in the program for HTTP/2; comes back only when that cannot be called. `offset`: bytes that
/// went the same way before.
#[inline(always)]
pub fn follow(context: &impl EbpfContext, carried: &Carried, offset: u32, session: &mut Session) {
    let thread = thread();
    if MOVES.insert(&thread, &NOTHING, 0).is_ok()
        && let Some(moved) = MOVES.get_ptr_mut(&thread)
    {
        // SAFETY: the value lives as long as the program runs; only this thread writes it.
        let moved = unsafe { &mut *moved };
        moved.object = carried.object;
        moved.buffer = carried.buffer;
        moved.offset = offset;
        moved.length = carried.length;
        moved.library = carried.library;
        moved.direction = carried.direction;
        moved.role = carried.role;
        moved.link_kind = carried.link_kind;
        moved.presented = carried.presented;
        if let Some(result) = carried.verified {
            moved.verified = result as u32;
            moved.has_verified = 1;
        }
        call(context);
    } else {
        count_loss(LOST_SESSION);
    }
    session.gap[usize::from(carried.direction != EGRESS)] = 1;
}

/// Calls the program.
#[inline(always)]
fn call(context: &impl EbpfContext) {
    // SAFETY: no value of the caller needs to be dropped.
    unsafe { crate::maps::HTTP2_PROGRAM.tail_call(context, 0) };
    count_loss(LOST_TAIL_CALL);
}

/// Goes on with what a thread read or wrote.
#[uprobe]
pub fn tls_http2(context: ProbeContext) -> u32 {
    if let Some((session, half)) = step() {
        call(&context);
        // What is left is lost: the next record says so.
        session.gap[half] = 1;
    }
    0
}

/// Takes one step; the session and the direction when another is to be taken.
#[inline(always)]
fn step() -> Option<(&'static mut Session, usize)> {
    let thread = thread();
    let Some(moved) = MOVES.get_ptr_mut(&thread) else {
        count_loss(LOST_SESSION);
        return None;
    };
    // SAFETY: the value lives as long as the program runs; only this thread writes it.
    let moved = unsafe { &mut *moved };
    let key = SessionKey { object: moved.object, tgid: thread >> 32 };
    let session = SESSIONS.get_ptr_mut(&key)?;
    // SAFETY: the value lives as long as the program runs; plain integers, for which torn writes are harmless.
    let session = unsafe { &mut *session };
    let half = usize::from(moved.direction != EGRESS);
    let Some(streams) = STREAMS.get_ptr_mut(&key) else {
        // There were too many others: what comes next is looked at as in the middle of a stream.
        let _ = STREAMS.insert(&key, &BEGINNING, 0);
        session.gap[half] = 1;
        count_loss(LOST_SESSION);
        return None;
    };
    // SAFETY: as above; a direction is read or written by one thread at a time.
    let frames = unsafe { &mut (*streams).0[half] };
    let place = Place { sequence: moved.offset, length: moved.length, fresh: moved.offset == 0, step: moved.step };
    let Found { from, length, more } = frames.step(&Memory { buffer: moved.buffer }, &place, MOST);
    moved.step += 1;
    if length > 0 {
        let mut place = core::mem::MaybeUninit::<PlaintextHeader>::zeroed();
        // SAFETY: integers and byte arrays: zeroes make one.
        let header =
            header(unsafe { place.assume_init_mut() }, moved.object, moved.library, &session.link, moved.link_kind);
        header.born_ns = session.born_ns;
        header.offset = moved.offset.wrapping_add(from);
        header.length = length;
        header.direction = moved.direction;
        header.class = CLASS_HTTP2;
        // The flag is 0 or 1.
        header.marks = session.gap[half] as u8 * MARK_GAP;
        header.what = WHAT_DATA;
        header.role = moved.role;
        header.result = moved.verified;
        header.has_result = moved.has_verified;
        header.presented = moved.presented;
        let status = emit(header, moved.buffer.wrapping_add(u64::from(from)), length);
        session.gap[half] = u32::from(status != WRITTEN);
        if status != WRITTEN {
            count_loss(status);
        }
    }
    more.then_some((session, half))
}

#[inline(always)]
fn thread() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_get_current_pid_tgid() }
}
