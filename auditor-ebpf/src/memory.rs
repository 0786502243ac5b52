//! The bytes of a system call that ended: how they are gathered from the process' memory, and what they look like.

use core::ffi::c_void;

use auditor_abi::record::PAYLOAD_MAX;
use aya_ebpf::helpers::generated::bpf_probe_read_user;

use crate::{clamp::clamp, registers::user, sniff};

/// Pieces of a call that are looked at: what lies behind them counts as not copied.
const PIECES: u64 = 8;
/// Bytes that are looked at to tell what a call moved.
pub const SNIFFED: u32 = 24;
/// Most that is copied of one call.
pub const MOST: u32 = PAYLOAD_MAX as u32 - 2;
/// What is added to a count of bytes when it is not known how many went: any hole says that some are missing.
pub const UNTOLD: u32 = 1 << 16;

/// [`Work::kind`]: nothing happened to the socket.
pub const KIND_NOTHING: u32 = 0;
/// Bytes were read or written that lie in the process' memory.
pub const KIND_BYTES: u32 = 1;
/// Bytes were written or read that went past the process' memory.
pub const KIND_PASSED: u32 = 2;
/// Nothing more comes in.
#[allow(dead_code, reason = "the end of kernel TLS is told by the wire")]
pub const KIND_END: u32 = 3;
/// Bytes have gone that are not known.
pub const KIND_LOST: u32 = 4;

/// A record in the making: its header, and its payload behind.
#[repr(C)]
pub struct Scratch<Header> {
    pub work: Work,
    pub header: Header,
    /// Pieces are put one behind the other: each begins below [`PAYLOAD_MAX`] and is shorter than that.
    pub payload: [u8; 2 * PAYLOAD_MAX],
}

/// What is known of the call. In memory, and not in registers: the verifier follows what stands in registers through every path
/// there is, and sees that what stands in memory is the same behind each.
#[repr(C)]
pub struct Work {
    /// Where its bytes lie, or the pieces of them.
    pub address: u64,
    /// Number of pieces (`struct iovec`); 0 when the bytes lie at the address itself.
    pub pieces: u64,
    /// One of the `KIND_*` constants.
    pub kind: u32,
    /// Bytes it moved.
    pub length: u32,
    /// Bytes that went the same way before.
    pub offset: u32,
    /// 0 for what the process wrote, 1 for what it read.
    pub half: u32,
    /// Class of its first bytes.
    pub class: u32,
    /// What follows `HTTP/1.1` in its first bytes.
    pub behind: u32,
    /// Bytes that are to be copied.
    pub wanted: u32,
    /// Bytes that have been copied.
    pub copied: u32,
}

/// Copies as many bytes as are wanted, below [`PAYLOAD_MAX`], from the beginning on; whether memory could be read.
#[inline(always)]
pub fn gather<Header>(scratch: *mut Scratch<Header>) -> bool {
    // SAFETY: the scratch is this processor's.
    let work = unsafe { &mut (*scratch).work };
    set(&mut work.copied, 0);
    if get_long(&work.pieces) == 0 {
        return copy(scratch, get_long(&work.address), get(&work.wanted));
    }
    for index in 0..PIECES {
        let left = get(&work.wanted).wrapping_sub(get(&work.copied));
        if index >= get_long(&work.pieces) || left == 0 {
            break;
        }
        let piece = get_long(&work.address).wrapping_add(index * 16);
        let Some([base, length]) = user::<[u64; 2]>(piece) else { return false };
        if length != 0 && !copy(scratch, base, length.min(u64::from(left)) as u32) {
            return false;
        }
    }
    true
}

/// Puts bytes behind those that have been copied.
#[inline(always)]
fn copy<Header>(scratch: *mut Scratch<Header>, from: u64, wanted: u32) -> bool {
    // SAFETY: at most PAYLOAD_MAX - 1 bytes, from at most PAYLOAD_MAX - 2 on, in twice that; the helper checks the process' memory.
    unsafe {
        let copied = &mut (*scratch).work.copied;
        let count = clamp::<PAYLOAD_MAX>(wanted);
        let at = clamp::<PAYLOAD_MAX>(get(copied).wrapping_add(1)) - 1;
        let to = (&raw mut (*scratch).payload).cast::<u8>().add(at as usize);
        set(copied, at as u32 + count as u32);
        bpf_probe_read_user(to.cast(), count as u32, from as *const c_void) == 0
    }
}

/// The class of the first bytes that were copied. How many are known is one of few constants, as the sniff wants it.
#[inline(always)]
pub fn classify<Header>(scratch: *mut Scratch<Header>) {
    // SAFETY: the payload is aligned to 4 and longer than that.
    let (words, work) = unsafe {
        let words = (&raw const (*scratch).payload).cast::<[[u32; 2]; 3]>().read_volatile();
        (words, &mut (*scratch).work)
    };
    let word = |at: usize| u64::from(u32::from_le(words[at][0])) | u64::from(u32::from_le(words[at][1])) << 32;
    let copied = get(&work.copied);
    // What stands behind is of an earlier call.
    let (known, first, rest) = match copied {
        24.. => (24, u64::MAX, u64::MAX),
        8.. => (8, u64::MAX, 0),
        4.. => (4, 0xffff_ffff, 0),
        _ => (1, 0xff, 0),
    };
    set(&mut work.behind, if copied >= 12 { u32::from_le(words[1][0]) } else { 0 });
    let class = sniff::classify([word(0) & first, word(1) & rest, word(2) & rest], known);
    set(&mut work.class, u32::from(class));
}

/// Clears what is known of the call before.
#[inline(always)]
pub fn clear(work: &mut Work) {
    set_long(&mut work.address, 0);
    set_long(&mut work.pieces, 0);
    set(&mut work.copied, 0);
    set(&mut work.wanted, 0);
}

/// Reads a value from memory. Volatile, or the compiler would keep it in a register from where it was written.
#[inline(always)]
pub fn get(place: &u32) -> u32 {
    // SAFETY: a reference is valid and aligned.
    unsafe { core::ptr::read_volatile(place) }
}

/// Likewise.
#[inline(always)]
pub fn get_long(place: &u64) -> u64 {
    // SAFETY: a reference is valid and aligned.
    unsafe { core::ptr::read_volatile(place) }
}

/// Writes a value to memory.
#[inline(always)]
pub fn set(place: &mut u32, value: u32) {
    // SAFETY: a reference is valid and aligned.
    unsafe { core::ptr::write_volatile(place, value) };
}

/// Likewise.
#[inline(always)]
pub fn set_long(place: &mut u64, value: u64) {
    // SAFETY: a reference is valid and aligned.
    unsafe { core::ptr::write_volatile(place, value) };
}
