//! Maps, and what is remembered of a socket.

use core::{arch::asm, ffi::c_void};

use auditor_abi::{
    counters,
    record::{SPARED_MAX, TLS_HEADERS_OF_PACKET, TlsHeader},
    repeat::{self, APPROVED_MAX, Approval},
};
use aya_ebpf::{
    bindings::{__sk_buff, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    btf_maps::SkStorage,
    helpers::generated::bpf_sk_storage_get,
    macros::{btf_map, map},
    maps::{Array, LruHashMap, PerCpuArray, ProgramArray, RingBuf},
};

use crate::{frames::Frames, packet, thin::Repeats};

/// Carries records to the auditor. The loader sets its size.
#[map]
pub static RECORDS: RingBuf = RingBuf::with_byte_size(8 * 1024 * 1024, 0);

/// Losses, see [`auditor_abi::counters`].
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(counters::COUNT, 0);

/// The program that follows TLS connections on the way out. It is one of its own for the sake of its stack: that of the egress
/// program is full.
#[map]
pub static TLS_EGRESS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The same on the way in.
#[map]
pub static TLS_INGRESS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The program that follows HTTP/2 connections on the way out.
#[map]
pub static HTTP2_EGRESS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The same on the way in.
#[map]
pub static HTTP2_INGRESS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Cookies of client sockets that need not be captured, written by the auditor; taken out once heard. What is never heard, of
/// sockets that are gone, is forgotten for others.
#[map]
static SPARED: LruHashMap<u64, u8> = LruHashMap::with_max_entries(SPARED_MAX, 0);

/// The programs for connections whose calls may be passed over, on the way out: [`crate::thin`] decides, then all else is copied.
#[map]
pub static THIN_EGRESS: ProgramArray = ProgramArray::with_max_entries(2, 0);

/// The same on the way in.
#[map]
pub static THIN_INGRESS: ProgramArray = ProgramArray::with_max_entries(2, 0);

/// How deep calls are sampled, written by the auditor: see [`repeat::sampling`].
#[map]
static SAMPLING: Array<u64> = Array::with_max_entries(1, 0);

/// Approvals of requests by the cookies of their sockets, written by the auditor.
#[map]
static APPROVED: LruHashMap<u64, Approval> = LruHashMap::with_max_entries(APPROVED_MAX, 0);

/// Calls that were passed over.
#[map]
static PASSED_OVER: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// [`Socket::followed`]: TLS.
pub const TLS: u32 = 1;
/// HTTP/2.
pub const HTTP2: u32 = 2;
/// HTTP/1, while calls may be passed over.
pub const THIN: u32 = 3;

/// What is remembered of a socket; freed with it by the kernel.
#[btf_map]
static SOCKETS: SkStorage<Socket> = SkStorage::new();

/// What is known of calls that repeat; of sockets only whose calls may be passed over.
#[btf_map]
static REPEATED: SkStorage<Repeats> = SkStorage::new();

/// What is remembered of a socket. Egress and ingress may run at once on two CPUs, and on loopback always run on different ones:
/// what is written with each head lies in cache lines of its own for each direction, and the rest is written only where it changes. Its
/// first line holds 56 bytes: it shares that line with what the kernel reads to find it (`struct bpf_local_storage_elem`).
#[repr(C)]
pub struct Socket {
    /// 1 when nothing more is wanted of a direction; when it is 1 for both the socket is muted. First, because for most packets it
    /// is all that is read.
    pub quiet: [u32; 2],
    /// [`TLS`] or [`HTTP2`] once that has been recognised; [`THIN`].
    pub followed: u32,
    /// 1 once a head has been seen; 2 while the last of a response was of status 101.
    pub http: u32,
    /// The socket's cookie.
    pub cookie: u64,
    /// Inode of its cgroup2 directory, which it keeps for life.
    pub cgroup_id: u64,
    /// Start of the owner's process since boot, nanoseconds.
    pub owner_start_ns: u64,
    /// Owner's thread group; 0 unknown.
    pub owner_tgid: u32,
    /// Network namespace inode.
    pub netns: u32,
    /// 1 once the first packet has been seen, and what is kept of the socket for life is there: written last.
    pub seen: u32,
    /// 1 when it was seen from its first byte.
    pub fresh: u32,
    /// Owner's name, zero-terminated; words, because bytes would be copied one by one.
    pub owner_comm: [u64; 2],
    /// The kernel's `struct sock`, kept only to read it back as a number the probe helpers take.
    pub kernel_sock: u64,
    /// Room to the end of the line.
    pub unused: [u64; 5],
    /// What is remembered of each direction.
    pub halves: [Half; 2],
}

/// What is remembered of one direction of a socket, and written by it alone.
#[repr(C)]
pub struct Half {
    /// Bytes that may still be copied of the head under way.
    pub budget: u32,
    /// 1 when records were lost since the last one.
    pub gap: u32,
    /// Segments that were no head, until the first head.
    pub misses: u32,
    /// Heads of requests that went out.
    pub requests: u32,
    /// Sequence number of the first byte, where it is known before that comes.
    pub first: u32,
    /// Bytes that may still be copied of what comes before it; 0 where it is not known.
    pub ahead: u32,
    /// 1 once it has come.
    pub begun: u32,
    /// How far the TLS records have been followed.
    pub walk: Walk,
    /// How far the HTTP/2 frames have been followed.
    pub frames: Frames,
    /// Packets that follow them at this moment: one, or some that find that they are not alone.
    followers: u64,
    /// Packets in a row that were not alone.
    refused: u64,
    /// Room to the end of the line.
    pub unused: [u64; 3],
}

/// Bytes of a cache line.
const LINE: usize = 64;
const _: () = assert!((size_of::<u64>() + core::mem::offset_of!(Socket, halves)) % LINE == 0);
const _: () = assert!(size_of::<Half>() % LINE == 0);

/// How far the TLS records of one direction have been followed.
#[repr(C)]
pub struct Walk {
    /// 1 once the first TLS byte has been seen.
    pub begun: u32,
    /// Sequence number of that byte.
    pub first: u32,
    /// Sequence number of the next byte of a record header.
    pub next: u32,
    /// Bytes of that header that came in earlier segments.
    pub held: u32,
    /// Those bytes, and room for what the verifier takes for possible: seven bytes read behind seven that are held.
    pub header: [u32; 4],
    /// Bytes copied.
    pub copied: u32,
    /// Headers seen.
    pub headers: u32,
    /// Segments since the last header that were not where one was looked for.
    pub astray: u32,
    /// 1 for the direction of the ServerHello.
    pub server: u32,
    /// Packets since it went quiet, while the other direction is not.
    pub lingered: u32,
    /// What was found in the packet at hand.
    pub found: Found,
}

/// What was found in the packet at hand: kept here and not on the stack, because the verifier follows every value there, and each
/// way through a packet would be another state of it.
#[repr(C)]
pub struct Found {
    /// 1 when there is more in the packet.
    pub more: u32,
    /// Headers found.
    pub count: u32,
    /// Those headers, as words, which are copied as such.
    pub headers: [u64; TLS_HEADERS_OF_PACKET * size_of::<TlsHeader>() / 8],
}

/// Packets in a row that find another one at work, after which that one is taken for gone: a tail call of it failed.
const REFUSALS: u64 = 64;

impl Half {
    /// Begins to follow the frames, for one packet; whether no other packet does. On loopback two of one direction may be here at
    /// once, where their sender has moved to another CPU. Kernels before 5.12 have no atomic operation that tells the value before;
    /// two that come at the same moment may both be refused.
    #[inline(always)]
    pub fn enter(&mut self) -> bool {
        self.count(1);
        // SAFETY: a field. Volatile: another CPU may have written it.
        if unsafe { (&raw const self.followers).read_volatile() } == 1 {
            self.refused = 0;
            return true;
        }
        self.refused += 1;
        if self.refused < REFUSALS {
            self.count(u64::MAX);
        } else {
            self.followers = 0;
            self.refused = 0;
        }
        false
    }

    /// Ends what [`Half::enter`] began.
    #[inline(always)]
    pub fn leave(&mut self) {
        self.count(u64::MAX);
    }

    #[inline(always)]
    fn count(&mut self, by: u64) {
        // SAFETY: a field, aligned.
        unsafe { asm!("lock *(u64 *)({at} + 0) += {by}", at = in(reg) &raw mut self.followers, by = in(reg) by) };
    }
}

impl Socket {
    /// Nothing more is wanted of it.
    #[inline(always)]
    pub fn mute(&mut self) {
        self.quiet = [1, 1];
    }
}

/// The socket's memory, if there is one yet; `sk` need not be a full socket.
#[inline(always)]
pub fn socket(sk: *mut bpf_sock) -> Option<&'static mut Socket> {
    storage(sk, 0)
}

/// The packet's socket and its memory, in programs that go on with what [`crate::observe`] began: only TCP sockets have any.
#[inline(always)]
pub fn known(skb: *mut __sk_buff) -> Option<(*mut bpf_sock, &'static mut Socket)> {
    let sk = packet::socket(skb)?;
    Some((sk, socket(sk)?))
}

/// The socket's memory, made when there is none; `None` when the kernel has no memory.
#[inline(always)]
pub fn socket_or_new(sk: *mut bpf_sock) -> Option<&'static mut Socket> {
    match storage(sk, u64::from(BPF_SK_STORAGE_GET_F_CREATE)) {
        // Where both ends speak first, another CPU may make it at the same time: this one is then refused
        // (`bpf_local_storage_alloc` in kernel/bpf/bpf_local_storage.c), and the other's is there.
        None => socket(sk),
        made => made,
    }
}

#[inline(always)]
fn storage(sk: *mut bpf_sock, flags: u64) -> Option<&'static mut Socket> {
    let map = (&raw const SOCKETS).cast_mut().cast::<c_void>();
    // SAFETY: `sk` is a socket (the verifier sees to that; the helper refuses those that are not full ones); the value lives as long as the program
    // runs, and all its fields are plain integers for which torn or concurrent writes are harmless.
    unsafe { bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), flags).cast::<Socket>().as_mut() }
}

/// Whether the auditor wants no more of a socket.
#[inline(always)]
pub fn is_spared(socket: &Socket) -> bool {
    // SAFETY: the value is not looked at.
    if unsafe { SPARED.get(&socket.cookie) }.is_none() {
        return false;
    }
    // It stays where another CPU has taken it out, or not: it is heard once.
    let _ = SPARED.remove(&socket.cookie);
    true
}

/// One of how many calls that repeat is copied, and how often all approvals were withdrawn.
#[inline(always)]
pub fn sampling() -> (u32, u32) {
    repeat::sampling(SAMPLING.get(0).copied().unwrap_or(0))
}

/// The approval of a socket; zeros where there is none.
#[inline(always)]
pub fn approval(socket: &Socket) -> Approval {
    // SAFETY: two words, which are copied. What they say is checked as a whole.
    unsafe { APPROVED.get(&socket.cookie) }.copied().unwrap_or([0, 0])
}

/// What is known of a socket's calls that repeat; made where it is not there.
#[inline(always)]
pub fn repeats(sk: *mut bpf_sock) -> Option<*mut Repeats> {
    let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
    // SAFETY: a socket; the helper refuses those that are not full ones.
    let value = unsafe {
        let map = (&raw const REPEATED).cast_mut().cast::<c_void>();
        bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), flags)
    };
    if value.is_null() { None } else { Some(value.cast()) }
}

/// Counts a call that is passed over.
#[inline(always)]
pub fn count_passed_over() {
    if let Some(count) = PASSED_OVER.get_ptr_mut(0) {
        // SAFETY: a pointer into this CPU's slot, aligned. Atomic, because a softirq may interrupt, and the count is exact.
        unsafe { asm!("lock *(u64 *)({count} + 0) += {one}", count = in(reg) count, one = in(reg) 1_u64) };
    }
}

/// Counts one loss.
#[inline(always)]
pub fn count_loss(counter: u32) {
    if let Some(count) = COUNTERS.get_ptr_mut(counter) {
        // SAFETY: the pointer is into this CPU's slot; a softirq that interrupts may at worst lose one increment.
        unsafe { *count += 1 };
    }
}
