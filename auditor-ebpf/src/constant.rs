//! Read-only globals that a loader fills in before the programs are loaded. The kernel freezes them, so the verifier sees constants and
//! removes what they switch off. Each object declares its own.

macro_rules! globals {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)+) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub static $name: u32 = $value;
    )+};
}

pub(crate) use globals;

/// The value the loader gave; volatile, or the compiler would fold the initialiser in.
#[inline(always)]
pub fn load(global: &'static u32) -> u32 {
    // SAFETY: a reference to a static is valid and aligned.
    unsafe { core::ptr::read_volatile(global) }
}
