//! What the loader tells the uprobes.

#[path = "../constant.rs"]
mod constant;

use auditor_abi::layout::ABSENT;
use constant::globals;
pub use constant::load;

globals! {
    /// Bytes of a request head that are copied at most.
    REQUEST_BUDGET = 16 * 1024;
    /// Bytes of a response head that are copied at most.
    RESPONSE_BUDGET = 4 * 1024;
    OFF_TASK_LEADER = ABSENT;
    OFF_TASK_START = ABSENT;
    OFF_TASK_COMM = ABSENT;
    OFF_TASK_STATUS = ABSENT;
    OFF_TASK_FILES = ABSENT;
    OFF_FILES_TABLE = ABSENT;
    OFF_TABLE_FILES = ABSENT;
    OFF_TABLE_SIZE = ABSENT;
    OFF_FILE_PRIVATE = ABSENT;
    OFF_SOCKET_FILE = ABSENT;
    OFF_SOCKET_SK = ABSENT;
    OFF_SK_COOKIE = ABSENT;
}
