//! What the loader tells the probes on the kernel's functions.

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
    /// Parameters of `tcp_recvmsg`.
    RECEIVE_ARITY = 5;
    /// 1 where the kernel lets these programs ask for a socket's cookie.
    COOKIE_HELPER = 0;
    /// The bits of an iterator's type that tell its kind.
    ITER_MASK = 0xff;
    /// `ITER_IOVEC` of `enum iter_type`.
    KIND_IOVEC = ABSENT;
    /// `ITER_UBUF`, since 6.0.
    KIND_UBUF = ABSENT;
    /// 1 where the arrays of scattered transfers lie in the process' memory: system calls.
    ARRAYS_OF_PROCESS = 0;
    OFF_SK_NET = ABSENT;
    OFF_SK_NUM = ABSENT;
    OFF_SK_DPORT = ABSENT;
    OFF_SK_FAMILY = ABSENT;
    OFF_SK_STATE = ABSENT;
    OFF_SK_V4_LOCAL = ABSENT;
    OFF_SK_V4_PEER = ABSENT;
    OFF_SK_V6_LOCAL = ABSENT;
    OFF_SK_V6_PEER = ABSENT;
    OFF_SK_COOKIE = ABSENT;
    OFF_SK_CGROUP = ABSENT;
    OFF_CGROUP_NODE = ABSENT;
    OFF_NODE_ID = ABSENT;
    OFF_NET_INUM = ABSENT;
    OFF_TASK_LEADER = ABSENT;
    OFF_TASK_START = ABSENT;
    OFF_TASK_COMM = ABSENT;
    OFF_TCP_WRITTEN = ABSENT;
    OFF_TCP_READ = ABSENT;
    OFF_TCP_NEXT = ABSENT;
    OFF_TCP_UNACKED = ABSENT;
    OFF_TCP_RECEIVED = ABSENT;
    OFF_TCP_ACKED = ABSENT;
    OFF_MSG_ITER = ABSENT;
    OFF_ITER_TYPE = ABSENT;
    OFF_ITER_SKIP = ABSENT;
    OFF_ITER_COUNT = ABSENT;
    OFF_ITER_IOV = ABSENT;
    OFF_ITER_SEGS = ABSENT;
    OFF_ITER_UBUF = ABSENT;
    OFF_TASK_STATUS = ABSENT;
    OFF_TASK_FILES = ABSENT;
    OFF_FILES_TABLE = ABSENT;
    OFF_TABLE_FILES = ABSENT;
    OFF_TABLE_SIZE = ABSENT;
    OFF_FILE_PRIVATE = ABSENT;
    OFF_SOCKET_FILE = ABSENT;
    OFF_SOCKET_SK = ABSENT;
    OFF_SK_PROTOCOL = ABSENT;
    OFF_SK_PROT = ABSENT;
    OFF_SK_CREATOR = ABSENT;
    OFF_PROTO_SEND = ABSENT;
    OFF_PROTO_RECEIVE = ABSENT;
}
