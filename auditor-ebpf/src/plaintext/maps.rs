//! Maps, and what is remembered of a session and of a call under way.

use auditor_abi::plaintext::{LOST_COUNT, Library, PlaintextHeader};
use aya_ebpf::{
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray, ProgramArray, RingBuf},
};

use crate::{frames::Frames, memory::Scratch};

/// Carries records to the auditor. The loader sets its size.
#[map]
pub static PLAINTEXT: RingBuf = RingBuf::with_byte_size(4 * 1024 * 1024, 0);

/// What was lost, see [`auditor_abi::plaintext`].
#[map]
static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(LOST_COUNT, 0);

/// The libraries probes are attached to.
#[map]
pub static LIBRARIES: Array<LibraryRow> = Array::with_max_entries(1024, 0);

/// Sessions, by process and address; those of kernel TLS by their socket's. The least recently used go when there are too many: what comes after is left out.
#[map]
pub static SESSIONS: LruHashMap<SessionKey, Session> = LruHashMap::with_max_entries(16 * 1024, 0);

/// Calls under way, by thread or goroutine.
#[map]
pub static CALLS: LruHashMap<CallKey, Call> = LruHashMap::with_max_entries(16 * 1024, 0);

/// Sessions that carry HTTP/2. Fewer than there are sessions: of one that goes for another the position is found anew.
#[map]
pub static STREAMS: LruHashMap<SessionKey, Streams> = LruHashMap::with_max_entries(8 * 1024, 0);

/// What is being read or written in HTTP/2, by thread.
#[map]
pub static MOVES: LruHashMap<u64, Move> = LruHashMap::with_max_entries(8 * 1024, 0);

/// The program that follows HTTP/2.
#[map]
pub static HTTP2_PROGRAM: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Where a record of kernel TLS is put together: an entry for each processor, set by the loader. Its program runs in a process' context with
/// preemption off, so that nothing interferes.
#[map]
pub static KERNEL_SCRATCH: Array<Scratch<PlaintextHeader>> = Array::with_max_entries(1, 0);

/// 1 from the first time on that the kernel was given keys of TLS.
#[map]
pub static KERNEL_USED: Array<u32> = Array::with_max_entries(1, 0);

/// [`Session::http`]: heads of HTTP/1 have been seen.
pub const HTTP1: u32 = 1;
/// It is HTTP/2.
pub const HTTP2: u32 = 2;

/// A [`Library`] as a map's value.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct LibraryRow(pub Library);

/// A session of a process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SessionKey {
    pub object: u64,
    pub tgid: u64,
}

/// What is remembered of a session.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Session {
    /// What ties it to its socket: another one at the same address is another session.
    pub link: [u64; 4],
    /// When it was first seen.
    pub born_ns: u64,
    /// Bytes so far, by direction.
    pub offset: [u32; 2],
    /// Bytes that may still be copied of the head under way, by direction.
    pub budget: [u32; 2],
    /// 1 when records were lost since the last one, by direction.
    pub gap: [u32; 2],
    /// [`HTTP1`] or [`HTTP2`] once that has been recognised.
    pub http: u32,
    /// 1 when nothing more is wanted of it.
    pub muted: u32,
    /// Index of the library whose probes saw it first.
    pub library: u32,
    /// Zero.
    pub padding: u32,
}

/// How far the HTTP/2 frames of each direction have been followed. Places in the stream are counted in bytes of plaintext.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Streams(pub [Frames; 2]);

/// Bytes of an HTTP/2 session that are being read or written.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Move {
    pub object: u64,
    pub buffer: u64,
    /// Result of verifying the peer's certificate.
    pub verified: u32,
    /// Bytes that went the same way before.
    pub offset: u32,
    pub length: u32,
    pub library: u32,
    /// Steps that were taken so far.
    pub step: u32,
    pub direction: u8,
    pub role: u8,
    pub link_kind: u8,
    /// 1 when `verified` is known.
    pub has_verified: u8,
    pub presented: u8,
    /// Zero.
    pub padding: [u8; 3],
}

/// Who calls: a thread (pid and thread group), or a goroutine of a thread group.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CallKey {
    pub caller: u64,
    pub tgid: u64,
}

/// A call under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Call {
    pub object: u64,
    pub buffer: u64,
    /// Where the number of bytes is stored, for the calls that store it.
    pub count: u64,
    /// The stack pointer at the entry: tells the return of another call.
    pub stack: u64,
    /// The attachment's cookie.
    pub site: u64,
    /// The first word of what ties the session to its socket, as it was at the entry.
    pub link: u64,
}

/// Counts one loss.
#[inline(always)]
pub fn count_loss(counter: u32) {
    if let Some(count) = LOSSES.get_ptr_mut(counter) {
        // SAFETY: the pointer is into this CPU's slot; who interrupts may at worst lose one increment.
        unsafe { *count += 1 };
    }
}
