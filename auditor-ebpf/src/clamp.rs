//! A length that verifiers see the bounds of.

/// `wanted` brought into 1..CAPACITY, a power of two, in a way that verifiers from 5.10 on follow: the compiler merges or
/// hoists the same checks written in Rust, after which 5.10 and 6.1 lose the bound.
#[inline(always)]
pub fn clamp<const CAPACITY: usize>(wanted: u32) -> u64 {
    let mut length = u64::from(wanted);
    // SAFETY: arithmetic on one register.
    unsafe {
        core::arch::asm!(
            "if {length} <= {max} goto +1",
            "{length} = {max}",
            "{length} &= {max}",
            "if {length} > 0 goto +1",
            "{length} = 1",
            length = inout(reg) length,
            max = const CAPACITY - 1,
        );
    }
    length
}
