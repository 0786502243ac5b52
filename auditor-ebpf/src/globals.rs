//! What the loader tells the packet programs.

#[path = "constant.rs"]
mod constant;

use auditor_abi::layout::ABSENT;
use constant::globals;
pub use constant::load;

globals! {
    /// Bytes of a request head that are copied at most.
    REQUEST_BUDGET = 16 * 1024;
    /// Bytes of a response head that are copied at most.
    RESPONSE_BUDGET = 4 * 1024;
    /// Whether calls may ever be passed over. A constant to the verifier, which leaves out what it makes impossible.
    SAMPLES = 0;
    REPEAT_KEY_0 = 0;
    REPEAT_KEY_1 = 0;
    REPEAT_KEY_2 = 0;
    REPEAT_KEY_3 = 0;
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
