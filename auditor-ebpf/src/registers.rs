//! The registers of the process at a probe or a system call (`struct pt_regs`, arch/x86/include/asm/ptrace.h), and its memory.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::generated::bpf_probe_read_user;

/// `struct pt_regs` of x86_64.
#[repr(C)]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub bp: u64,
    pub bx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub ax: u64,
    pub cx: u64,
    pub dx: u64,
    pub si: u64,
    pub di: u64,
    pub orig_ax: u64,
    pub ip: u64,
    pub cs: u64,
    pub flags: u64,
    pub sp: u64,
    pub ss: u64,
}

/// The context of a uprobe.
///
/// # Safety
/// `context` must be what the kernel gave the program.
#[inline(always)]
pub unsafe fn registers<'a>(context: *mut c_void) -> &'a Registers {
    // SAFETY: the caller's promise; the verifier checks each load.
    unsafe { &*context.cast::<Registers>() }
}

/// Reads a `T`, an integer or an array of them, from the process' memory.
#[inline(always)]
pub fn user<T: Copy>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the address and fills the value or fails; any bytes make one.
    unsafe {
        if bpf_probe_read_user(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const c_void) != 0 {
            return None;
        }
        Some(value.assume_init())
    }
}
