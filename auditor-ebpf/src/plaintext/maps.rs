//! Maps, and what is remembered of a session and of a call under way.

use auditor_abi::plaintext::{LOST_COUNT, Library};
use aya_ebpf::{
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray, RingBuf},
};

/// Carries records to the auditor. The loader sets its size.
#[map]
pub static PLAINTEXT: RingBuf = RingBuf::with_byte_size(4 * 1024 * 1024, 0);

/// What was lost, see [`auditor_abi::plaintext`].
#[map]
static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(LOST_COUNT, 0);

/// The libraries probes are attached to.
#[map]
pub static LIBRARIES: Array<LibraryRow> = Array::with_max_entries(1024, 0);

/// Sessions, by process and address. The least recently used go when there are too many: what comes after is left out.
#[map]
pub static SESSIONS: LruHashMap<SessionKey, Session> = LruHashMap::with_max_entries(16 * 1024, 0);

/// Calls under way, by thread or goroutine.
#[map]
pub static CALLS: LruHashMap<CallKey, Call> = LruHashMap::with_max_entries(16 * 1024, 0);

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
    /// 1 once a head has been seen.
    pub http: u32,
    /// 1 when nothing more is wanted of it.
    pub muted: u32,
    /// Index of the library whose probes saw it first.
    pub library: u32,
    /// Zero.
    pub padding: u32,
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
