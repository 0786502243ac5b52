//! Maps, and what is remembered of a socket and of a read under way.

use auditor_abi::counters;
use aya_ebpf::{
    macros::map,
    maps::{LruHashMap, PerCpuArray, RingBuf},
};

use crate::{buffers::Buffers, tls::Walk};

/// Carries records to the auditor. The loader sets its size.
#[map]
pub static RECORDS: RingBuf = RingBuf::with_byte_size(8 * 1024 * 1024, 0);

/// Losses, see [`auditor_abi::counters`].
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(counters::COUNT, 0);

/// What is remembered of sockets, by the address of their `struct sock`: storage that goes with the socket is not to be had for
/// kprobes, nor before 5.11 for fentry. The least recently used go when there are too many, and are met anew in their middle.
#[map]
pub static SOCKETS: LruHashMap<u64, Socket> = LruHashMap::with_max_entries(32 * 1024, 0);

/// How far the records of TLS connections were followed, by the address of their `struct sock` and direction.
#[map]
pub static WALKS: LruHashMap<u64, [Walk; 2]> = LruHashMap::with_max_entries(32 * 1024, 0);

/// Reads under way, by thread.
#[map]
pub static CALLS: LruHashMap<u64, Call> = LruHashMap::with_max_entries(16 * 1024, 0);

/// [`Socket::followed`]: TLS.
pub const TLS: u32 = 1;
/// HTTP/2.
pub const HTTP2: u32 = 2;

/// What is remembered of a socket. A thread may send while another reads: each writes its own half of the arrays.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Socket {
    /// 1 when nothing more is wanted of it.
    pub quiet: u32,
    /// [`TLS`] or [`HTTP2`] once that has been recognised.
    pub followed: u32,
    /// Its cookie, or what stands for it.
    pub cookie: u64,
    /// Inode of its cgroup2 directory.
    pub cgroup_id: u64,
    /// Both ports as they lie in `struct sock`: others tell another connection at the same address.
    pub ports: u32,
    /// Network namespace inode.
    pub netns: u32,
    /// 1 when it was seen from its first byte.
    pub fresh: u32,
    /// 1 once a head has been seen; 2 while the last of a response was of status 101.
    pub http: u32,
    /// 1 while bytes may still be copied of what is under way, by direction.
    pub copying: [u32; 2],
    /// Sequence number at which that ends. A number and not a count: what a full buffer did not take is sent again, and must not
    /// be charged twice.
    pub until: [u32; 2],
    /// Sequence number behind what was sent or read last, by direction.
    pub next: [u32; 2],
    /// 1 when records were lost since the last one, by direction.
    pub gap: [u32; 2],
    /// Transfers that were no head, by direction, until the first head.
    pub misses: [u32; 2],
    /// Class and number of the bytes that are wanted of the transfer at hand, by direction: kept here and not on the stack, because
    /// the verifier follows every value there, and each way to one would be another state of it.
    pub class: [u32; 2],
    pub wanted: [u32; 2],
    /// 1 once the end was told, by direction; TLS: once no more of it is wanted.
    pub done: [u32; 2],
}

/// A read under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Call {
    /// The socket's `struct sock`.
    pub sk: u64,
    /// Where the bytes go.
    pub buffers: Buffers,
    /// Sequence number of the first byte that was not read yet.
    pub sequence: u32,
    /// Zero.
    pub padding: u32,
}

/// Counts one loss.
#[inline(always)]
pub fn count_loss(counter: u32) {
    if let Some(count) = COUNTERS.get_ptr_mut(counter) {
        // SAFETY: the pointer is into this CPU's slot; who interrupts may at worst lose one increment.
        unsafe { *count += 1 };
    }
}
