//! The process' memory: how the bytes of a call are gathered.

use core::ffi::c_void;

use auditor_abi::record::PAYLOAD_MAX;
use aya_ebpf::helpers::generated::bpf_probe_read_user;

use crate::{
    clamp::clamp,
    maps::{Scratch, Work},
    registers::user,
};

/// Pieces of a call that are looked at: what lies behind them counts as not copied.
const PIECES: u64 = 8;

/// Copies as many bytes as are wanted, below [`PAYLOAD_MAX`], from the beginning on; whether memory could be read.
#[inline(always)]
pub fn gather(scratch: *mut Scratch) -> bool {
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
fn copy(scratch: *mut Scratch, from: u64, wanted: u32) -> bool {
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
