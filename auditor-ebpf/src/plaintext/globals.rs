//! Read-only globals the loader fills in before the programs are loaded.

use auditor_abi::layout::ABSENT;

macro_rules! globals {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)+) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub static $name: u32 = $value;
    )+};
}

globals! {
    /// Bytes of a request head that are copied at most.
    REQUEST_BUDGET = 16 * 1024;
    /// Bytes of a response head that are copied at most.
    RESPONSE_BUDGET = 4 * 1024;
    OFF_TASK_LEADER = ABSENT;
    OFF_TASK_START = ABSENT;
    OFF_TASK_COMM = ABSENT;
    OFF_TASK_FILES = ABSENT;
    OFF_FILES_TABLE = ABSENT;
    OFF_TABLE_FILES = ABSENT;
    OFF_TABLE_SIZE = ABSENT;
    OFF_FILE_PRIVATE = ABSENT;
    OFF_SOCKET_FILE = ABSENT;
    OFF_SOCKET_SK = ABSENT;
    OFF_SK_COOKIE = ABSENT;
}

/// The value the loader gave; volatile, or the compiler would fold the initialiser in.
#[inline(always)]
pub fn load(global: &'static u32) -> u32 {
    // SAFETY: a reference to a static is valid and aligned.
    unsafe { core::ptr::read_volatile(global) }
}
