//! `cgroup_skb` on the cgroup2 root: every packet of every socket of every container and network namespace.

use auditor_abi::record::{EGRESS, INGRESS};
use aya_ebpf::{macros::cgroup_skb, programs::SkBuffContext};

use crate::{
    http2,
    observe::{copy, observe},
    thin,
    tls::follow,
};

/// The packet passes, always.
const PASS: i32 = 1;

/// Runs in `ip_finish_output`: after DNAT and SNAT, before fragmentation and offloads.
#[cgroup_skb(egress)]
pub fn observe_egress(context: SkBuffContext) -> i32 {
    observe(context.skb.skb, EGRESS);
    PASS
}

/// Runs as the socket's filter in `tcp_v4_rcv` and `tcp_v6_rcv`, before TCP puts segments in order.
#[cgroup_skb(ingress)]
pub fn observe_ingress(context: SkBuffContext) -> i32 {
    observe(context.skb.skb, INGRESS);
    PASS
}

/// Goes on with a packet of a TLS connection.
#[cgroup_skb(egress)]
pub fn tls_egress(context: SkBuffContext) -> i32 {
    follow(context.skb.skb, EGRESS);
    PASS
}

/// Goes on with a packet of a TLS connection.
#[cgroup_skb(ingress)]
pub fn tls_ingress(context: SkBuffContext) -> i32 {
    follow(context.skb.skb, INGRESS);
    PASS
}

/// Goes on with a packet of an HTTP/2 connection.
#[cgroup_skb(egress)]
pub fn http2_egress(context: SkBuffContext) -> i32 {
    http2::follow(context.skb.skb, EGRESS);
    PASS
}

/// Goes on with a packet of an HTTP/2 connection.
#[cgroup_skb(ingress)]
pub fn http2_ingress(context: SkBuffContext) -> i32 {
    http2::follow(context.skb.skb, INGRESS);
    PASS
}

/// Decides whether a call on the way out is passed over.
#[cgroup_skb(egress)]
pub fn thin_egress(context: SkBuffContext) -> i32 {
    thin::decide(context.skb.skb, EGRESS);
    PASS
}

/// Copies what is not passed over on the way out.
#[cgroup_skb(egress)]
pub fn copy_egress(context: SkBuffContext) -> i32 {
    copy(context.skb.skb, EGRESS);
    PASS
}

/// Decides whether a call on the way in is passed over.
#[cgroup_skb(ingress)]
pub fn thin_ingress(context: SkBuffContext) -> i32 {
    thin::decide(context.skb.skb, INGRESS);
    PASS
}

/// Copies what is not passed over on the way in.
#[cgroup_skb(ingress)]
pub fn copy_ingress(context: SkBuffContext) -> i32 {
    copy(context.skb.skb, INGRESS);
    PASS
}
