//! Kernel struct members whose offsets the programs need. They are read from the kernel's BTF at start and passed as
//! read-only globals; there is no relocation, so one object serves every kernel.

/// Value of an offset global when the member does not exist or BTF is missing: the programs then leave out what needs it.
pub const ABSENT: u32 = u32::MAX;

/// One kernel struct member and the global that carries its byte offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name of the `u32` global in the eBPF object.
    pub global: &'static str,
    /// Struct name in BTF.
    pub structure: &'static str,
    /// Member path with dots; anonymous structs and unions are looked through.
    pub path: &'static str,
}

pub(crate) const fn field(global: &'static str, structure: &'static str, path: &'static str) -> Field {
    Field { global, structure, path }
}

/// Every offset the object wants.
pub const FIELDS: [Field; 15] = [
    field("OFF_SK_LOCK_OWNED", "sock", "sk_lock.owned"),
    field("OFF_SK_NET", "sock", "__sk_common.skc_net.net"),
    field("OFF_SK_NUM", "sock", "__sk_common.skc_num"),
    field("OFF_SK_DPORT", "sock", "__sk_common.skc_dport"),
    field("OFF_SK_FAMILY", "sock", "__sk_common.skc_family"),
    field("OFF_SK_STATE", "sock", "__sk_common.skc_state"),
    field("OFF_SK_V4_LOCAL", "sock", "__sk_common.skc_rcv_saddr"),
    field("OFF_SK_V4_PEER", "sock", "__sk_common.skc_daddr"),
    field("OFF_SK_V6_LOCAL", "sock", "__sk_common.skc_v6_rcv_saddr"),
    field("OFF_SK_V6_PEER", "sock", "__sk_common.skc_v6_daddr"),
    field("OFF_NET_INUM", "net", "ns.inum"),
    field("OFF_TASK_TGID", "task_struct", "tgid"),
    field("OFF_TASK_LEADER", "task_struct", "group_leader"),
    field("OFF_TASK_START", "task_struct", "start_boottime"),
    field("OFF_TASK_COMM", "task_struct", "comm"),
];

/// Members that only `iter/task_file` needs.
pub const ITERATOR_FIELDS: [Field; 5] = [
    field("OFF_FILE_PRIVATE", "file", "private_data"),
    field("OFF_SOCKET_FILE", "socket", "file"),
    field("OFF_SOCKET_SK", "socket", "sk"),
    field("OFF_SK_PROTOCOL", "sock", "sk_protocol"),
    field("OFF_SK_COOKIE", "sock", "__sk_common.skc_cookie"),
];
