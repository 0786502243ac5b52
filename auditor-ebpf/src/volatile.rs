//! Values in memory that outlives a run. Volatile: what the compiler keeps in registers from one step to the next the verifier
//! follows through all of them, instead of seeing that each step begins like the one before.

/// Reads a value.
#[inline(always)]
pub fn get(place: &u32) -> u32 {
    // SAFETY: a reference is valid and aligned.
    unsafe { core::ptr::read_volatile(place) }
}

/// Writes a value.
#[inline(always)]
pub fn set(place: &mut u32, value: u32) {
    // SAFETY: a reference is valid and aligned.
    unsafe { core::ptr::write_volatile(place, value) };
}
