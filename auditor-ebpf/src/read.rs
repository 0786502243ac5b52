//! The only place that reads kernel memory: by runtime offsets, through the probe helper, so the same body serves every
//! kind of program. An absent offset reads nothing.

use core::mem::MaybeUninit;

use auditor_abi::layout::ABSENT;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

use crate::globals;

/// Reads a `T` at `base` plus the offset in `global`; zero when the member is absent or the address is bad. There is no error
/// to branch on: the helper itself clears the value, and every branch saved is half the work of the verifier.
#[inline(always)]
pub fn member<T: Copy>(base: u64, global: &'static u32) -> T {
    let mut value = MaybeUninit::<T>::zeroed();
    let offset = globals::load(global);
    if offset != ABSENT {
        let address = base.wrapping_add(u64::from(offset)) as *const core::ffi::c_void;
        // SAFETY: the helper checks the address and writes exactly `size_of::<T>()` bytes, on failure zeroes.
        unsafe { bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address) };
    }
    // SAFETY: only integers and byte arrays are read: any bytes make one.
    unsafe { value.assume_init() }
}
