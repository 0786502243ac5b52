//! Names of programs, maps and globals in the eBPF object. At most 15 bytes: the kernel cuts longer ones in listings.

/// Map: the ring buffer that carries records ([`crate::record`]).
pub const MAP_RECORDS: &str = "RECORDS";
/// Map: per-CPU array of counters ([`crate::counters`]).
pub const MAP_COUNTERS: &str = "COUNTERS";
/// Map: what the programs remember of a socket (`BPF_MAP_TYPE_SK_STORAGE`).
pub const MAP_SOCKETS: &str = "SOCKETS";

/// Program: `cgroup_skb/egress` on the cgroup2 root.
pub const PROGRAM_EGRESS: &str = "observe_egress";
/// Program: `cgroup_skb/ingress` on the cgroup2 root.
pub const PROGRAM_INGRESS: &str = "observe_ingress";
/// Program: `iter/task_file`, lists the sockets that exist at start.
pub const PROGRAM_SOCKETS: &str = "list_sockets";

/// Global: `u32`, bytes of a request head that are copied at most.
pub const GLOBAL_REQUEST_BUDGET: &str = "REQUEST_BUDGET";
/// Global: `u32`, bytes of a response head that are copied at most.
pub const GLOBAL_RESPONSE_BUDGET: &str = "RESPONSE_BUDGET";
/// Prefix of the globals that hold struct offsets, see [`crate::layout`].
pub const GLOBAL_OFFSET_PREFIX: &str = "OFF_";
