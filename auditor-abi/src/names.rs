//! Names of programs, maps and globals in the eBPF object. At most 15 bytes: the kernel cuts longer ones in listings.

/// Map: the ring buffer that carries records ([`crate::record`]).
pub const MAP_RECORDS: &str = "RECORDS";
/// Map: per-CPU array of counters ([`crate::counters`]).
pub const MAP_COUNTERS: &str = "COUNTERS";
/// Map: what the programs remember of a socket (`BPF_MAP_TYPE_SK_STORAGE`).
pub const MAP_SOCKETS: &str = "SOCKETS";
/// Map: program array whose only entry is [`PROGRAM_TLS_EGRESS`]. One for each direction: from 6.18 on a map holds programs of
/// one attach type.
pub const MAP_TLS_EGRESS: &str = "TLS_EGRESS";
/// Map: program array whose only entry is [`PROGRAM_TLS_INGRESS`].
pub const MAP_TLS_INGRESS: &str = "TLS_INGRESS";
/// Map: program array whose only entry is [`PROGRAM_HTTP2_EGRESS`].
pub const MAP_HTTP2_EGRESS: &str = "HTTP2_EGRESS";
/// Map: program array whose only entry is [`PROGRAM_HTTP2_INGRESS`].
pub const MAP_HTTP2_INGRESS: &str = "HTTP2_INGRESS";
/// Map: client sockets that need not be captured any more, by cookie, written by the auditor.
pub const MAP_SPARED: &str = "SPARED";
/// Map: program array of [`PROGRAM_THIN_EGRESS`] and [`PROGRAM_COPY_EGRESS`], in this order.
pub const MAP_THIN_EGRESS: &str = "THIN_EGRESS";
/// Map: program array of [`PROGRAM_THIN_INGRESS`] and [`PROGRAM_COPY_INGRESS`], in this order.
pub const MAP_THIN_INGRESS: &str = "THIN_INGRESS";
/// Map: array of one `u64`, written by the auditor: see [`crate::repeat::sampling`].
pub const MAP_SAMPLING: &str = "SAMPLING";
/// Map: sockets whose calls may be passed over, by cookie, written by the auditor: a [`crate::repeat::Approval`] of one request.
pub const MAP_APPROVED: &str = "APPROVED";
/// Map: per-CPU array of one `u64`, calls that were passed over.
pub const MAP_PASSED_OVER: &str = "PASSED_OVER";

/// Program: `cgroup_skb/egress` on the cgroup2 root.
pub const PROGRAM_EGRESS: &str = "observe_egress";
/// Program: `cgroup_skb/ingress` on the cgroup2 root.
pub const PROGRAM_INGRESS: &str = "observe_ingress";
/// Program: follows a TLS connection on the way out; tail-called by [`PROGRAM_EGRESS`] and itself.
pub const PROGRAM_TLS_EGRESS: &str = "tls_egress";
/// Program: follows a TLS connection on the way in; tail-called by [`PROGRAM_INGRESS`] and itself.
pub const PROGRAM_TLS_INGRESS: &str = "tls_ingress";
/// Program: follows an HTTP/2 connection on the way out; tail-called by [`PROGRAM_EGRESS`] and itself.
pub const PROGRAM_HTTP2_EGRESS: &str = "http2_egress";
/// Program: follows an HTTP/2 connection on the way in; tail-called by [`PROGRAM_INGRESS`] and itself.
pub const PROGRAM_HTTP2_INGRESS: &str = "http2_ingress";
/// Program: decides on the way out whether a call is passed over; tail-called by [`PROGRAM_EGRESS`].
pub const PROGRAM_THIN_EGRESS: &str = "thin_egress";
/// Program: decides on the way in whether a call is passed over; tail-called by [`PROGRAM_INGRESS`].
pub const PROGRAM_THIN_INGRESS: &str = "thin_ingress";
/// Program: copies what [`PROGRAM_THIN_EGRESS`] does not pass over; tail-called by it.
pub const PROGRAM_COPY_EGRESS: &str = "copy_egress";
/// Program: copies what [`PROGRAM_THIN_INGRESS`] does not pass over; tail-called by it.
pub const PROGRAM_COPY_INGRESS: &str = "copy_ingress";
/// Program: `iter/task_file`, lists the sockets that exist at start.
pub const PROGRAM_SOCKETS: &str = "list_sockets";

/// Global: `u32`, bytes of a request head that are copied at most.
pub const GLOBAL_REQUEST_BUDGET: &str = "REQUEST_BUDGET";
/// Global: `u32`, bytes of a response head that are copied at most.
pub const GLOBAL_RESPONSE_BUDGET: &str = "RESPONSE_BUDGET";
/// Global: `u32`, not 0 where calls may ever be passed over.
pub const GLOBAL_SAMPLES: &str = "SAMPLES";
/// Globals: `u32` each, the random key of the hash by which calls are told apart.
pub const GLOBALS_REPEAT_KEY: [&str; 4] = ["REPEAT_KEY_0", "REPEAT_KEY_1", "REPEAT_KEY_2", "REPEAT_KEY_3"];
/// Prefix of the globals that hold struct offsets, see [`crate::layout`].
pub const GLOBAL_OFFSET_PREFIX: &str = "OFF_";
