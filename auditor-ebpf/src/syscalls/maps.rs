//! Maps, and what is remembered of a socket.

use auditor_abi::syscalls::{LOST_COUNT, PATH_MAX, SyscallHeader};
use aya_ebpf::{
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray, RingBuf},
};

/// Carries records to the auditor. The loader sets its size.
#[map]
pub static SYSCALL_RECORDS: RingBuf = RingBuf::with_byte_size(4 * 1024 * 1024, 0);

/// What was lost, see [`auditor_abi::syscalls`].
#[map]
static SYSCALL_LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(LOST_COUNT, 0);

/// Where a record is put together: an entry for each processor, set by the loader. The program runs in a process' context with
/// preemption off, so that nothing interferes. No per-CPU map: the values of those are too small.
#[map]
pub static SCRATCH: Array<Scratch> = Array::with_max_entries(1, 0);

/// Servers' sockets, by their address in the kernel. The least recently used go when there are too many: they are met anew, in
/// their middle.
#[map]
pub static UNIX_SOCKETS: LruHashMap<u64, Socket> = LruHashMap::with_max_entries(16 * 1024, 0);

/// A record in the making.
pub type Scratch = crate::memory::Scratch<SyscallHeader>;

/// What is remembered of a socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Socket {
    /// Its inode: another one at the same address is another socket.
    pub inode: u64,
    pub peer_start_ns: u64,
    pub peer_cgroup_id: u64,
    pub peer_comm: [u64; 2],
    /// Bytes so far, by direction.
    pub offset: [u32; 2],
    /// Bytes that may still be copied of the head under way, by direction.
    pub budget: [u32; 2],
    /// 1 when records were lost since the last one, by direction.
    pub gap: [u32; 2],
    pub peer_tgid: u32,
    pub path_length: u32,
    /// One of the `carry` module's `PROTOCOL_*` constants.
    pub protocol: u32,
    /// 1 when nothing more is wanted of it.
    pub muted: u32,
    /// 1 when it is known since it was accepted.
    pub fresh: u32,
    /// Zero.
    pub padding: u32,
    /// The address its server bound, and four bytes of padding.
    pub path: [u64; PATH_MAX.div_ceil(8)],
}

/// Counts one loss.
#[inline(always)]
pub fn count_loss(counter: u32) {
    if let Some(count) = SYSCALL_LOSSES.get_ptr_mut(counter) {
        // SAFETY: the pointer is into this CPU's slot; who interrupts may at worst lose one increment.
        unsafe { *count += 1 };
    }
}
