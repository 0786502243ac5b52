//! Read-only globals the loader fills in before the program is loaded.

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
    OFF_TASK_TGID = ABSENT;
    OFF_TASK_LEADER = ABSENT;
    OFF_TASK_START = ABSENT;
    OFF_TASK_COMM = ABSENT;
    OFF_TASK_STATUS = ABSENT;
    OFF_TASK_LINKS = ABSENT;
    OFF_TASK_CGROUPS = ABSENT;
    OFF_TASK_FILES = ABSENT;
    OFF_FILES_TABLE = ABSENT;
    OFF_TABLE_FILES = ABSENT;
    OFF_TABLE_SIZE = ABSENT;
    OFF_FILE_PRIVATE = ABSENT;
    OFF_FILE_INODE = ABSENT;
    OFF_INODE_NUMBER = ABSENT;
    OFF_SOCKET_FILE = ABSENT;
    OFF_SOCKET_SK = ABSENT;
    OFF_SK_FAMILY = ABSENT;
    OFF_SK_TYPE = ABSENT;
    OFF_SK_PEER_PID = ABSENT;
    OFF_CSS_CGROUP = ABSENT;
    OFF_CGROUP_NODE = ABSENT;
    OFF_NODE_ID = ABSENT;
    OFF_PID_NUMBERS = ABSENT;
    OFF_PID_TASKS = ABSENT;
    OFF_UNIX_ADDRESS = ABSENT;
    OFF_ADDRESS_LEN = ABSENT;
    OFF_ADDRESS_NAME = ABSENT;
}

/// The value the loader gave; volatile, or the compiler would fold the initialiser in.
#[inline(always)]
pub fn load(global: &'static u32) -> u32 {
    // SAFETY: a reference to a static is valid and aligned.
    unsafe { core::ptr::read_volatile(global) }
}
