//! Read-only globals the loader fills in before the programs are loaded. The kernel freezes them, so the verifier sees
//! constants and removes what they switch off.

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
    OFF_SK_LOCK_OWNED = ABSENT;
    OFF_SK_NET = ABSENT;
    OFF_SK_NUM = ABSENT;
    OFF_SK_DPORT = ABSENT;
    OFF_SK_FAMILY = ABSENT;
    OFF_SK_STATE = ABSENT;
    OFF_SK_V4_LOCAL = ABSENT;
    OFF_SK_V4_PEER = ABSENT;
    OFF_SK_V6_LOCAL = ABSENT;
    OFF_SK_V6_PEER = ABSENT;
    OFF_SK_PROTOCOL = ABSENT;
    OFF_SK_COOKIE = ABSENT;
    OFF_NET_INUM = ABSENT;
    OFF_TASK_TGID = ABSENT;
    OFF_TASK_LEADER = ABSENT;
    OFF_TASK_START = ABSENT;
    OFF_TASK_COMM = ABSENT;
    OFF_FILE_PRIVATE = ABSENT;
    OFF_SOCKET_FILE = ABSENT;
    OFF_SOCKET_SK = ABSENT;
}

/// The value the loader gave; volatile, or the compiler would fold the initialiser in.
#[inline(always)]
pub fn load(global: &'static u32) -> u32 {
    // SAFETY: a reference to a static is valid and aligned.
    unsafe { core::ptr::read_volatile(global) }
}
