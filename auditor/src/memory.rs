//! Memory that is not needed any more.

/// Gives freed memory back to the system. Reading the kernel's type information takes some 30 MiB for a moment; one small allocation
/// behind it is enough for glibc to keep all of it as long as the process lives.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes a number and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
