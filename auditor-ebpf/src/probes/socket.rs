//! What `struct sock` says of a connection.

use core::ffi::c_void;

use auditor_abi::record::RecordHeader;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_get_socket_cookie, bpf_ktime_get_ns};

use crate::{globals, maps::Socket, packet::V4_MAPPED, read};

/// `AF_INET` (include/linux/socket.h).
const AF_INET: u16 = 2;
/// TCP states (include/net/tcp_states.h) in which bytes pass, or will once the handshake is done: established, SYN sent, SYN
/// received, peer has closed.
const OPEN: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 8;
/// Set in the identity of a socket whose cookie is not to be had. The kernel counts cookies up from 1: none has it.
const NO_COOKIE: u64 = 1 << 61;

/// Whether bytes may pass.
#[inline(always)]
pub fn is_open(sk: u64) -> bool {
    let state: u8 = read::member(sk, &globals::OFF_SK_STATE);
    OPEN >> (state & 31) & 1 == 1
}

/// Both ports as they lie in memory (`skc_portpair`): the peer's in network order, then the own.
#[inline(always)]
pub fn ports(sk: u64) -> u32 {
    read::member(sk, &globals::OFF_SK_DPORT)
}

/// What is known of a socket when it is first met. `read` is the sequence number of the first byte that was not read before.
#[inline(always)]
pub fn met(sk: u64, ports: u32, read: u32) -> Socket {
    let net: u64 = read::member(sk, &globals::OFF_SK_NET);
    Socket {
        quiet: 0,
        followed: 0,
        cookie: cookie(sk),
        cgroup_id: cgroup_id(sk),
        ports,
        netns: read::member(net, &globals::OFF_NET_INUM),
        fresh: fresh(sk, read),
        http: 0,
        copying: [0; 2],
        until: [0; 2],
        next: [0, read],
        gap: [0; 2],
        misses: [0; 2],
        class: [0; 2],
        wanted: [0; 2],
        done: [0; 2],
    }
}

/// The socket's cookie, as the packet programs have it. Where the kernel does not give these programs any, it is what somebody
/// asked for before, else a number that no other socket gets.
#[inline(always)]
fn cookie(sk: u64) -> u64 {
    if globals::load(&globals::COOKIE_HELPER) != 0 {
        // SAFETY: the socket the program was called with; the verifier sees to that.
        return unsafe { bpf_get_socket_cookie(sk as *mut c_void) };
    }
    let cookie: u64 = read::member(sk, &globals::OFF_SK_COOKIE);
    if cookie != 0 {
        return cookie;
    }
    // SAFETY: no arguments.
    let (now, processor) = unsafe { (bpf_ktime_get_ns(), bpf_get_smp_processor_id()) };
    NO_COOKIE | (now << 8 & (NO_COOKIE - 1)) | u64::from(processor & 0xff)
}

/// Inode of the cgroup2 directory, as `bpf_skb_cgroup_id` has it.
#[inline(always)]
fn cgroup_id(sk: u64) -> u64 {
    let cgroup: u64 = read::member(sk, &globals::OFF_SK_CGROUP);
    // Before 5.15 the lowest bit says that this is no pointer (`struct sock_cgroup_data`).
    if cgroup & 1 != 0 {
        return 0;
    }
    let node: u64 = read::member(cgroup, &globals::OFF_CGROUP_NODE);
    read::member(node, &globals::OFF_NODE_ID)
}

/// 1 when no byte was read or sent before. What is read first is what grows with the other or before it, so that an acknowledgement
/// that comes meanwhile makes it 0.
#[inline(always)]
fn fresh(sk: u64, read: u32) -> u32 {
    let received: u64 = read::member(sk, &globals::OFF_TCP_RECEIVED);
    let next: u32 = read::member(sk, &globals::OFF_TCP_NEXT);
    let unacknowledged: u32 = read::member(sk, &globals::OFF_TCP_UNACKED);
    let acknowledged: u64 = read::member(sk, &globals::OFF_TCP_ACKED);
    let written: u32 = read::member(sk, &globals::OFF_TCP_WRITTEN);
    let read_before = (received as u32).wrapping_sub(next.wrapping_sub(read));
    // The SYN counts as a byte that was acknowledged.
    let written_before = (acknowledged as u32).wrapping_add(written.wrapping_sub(unacknowledged));
    let known = globals::load(&globals::OFF_TCP_RECEIVED) != auditor_abi::layout::ABSENT
        && globals::load(&globals::OFF_TCP_ACKED) != auditor_abi::layout::ABSENT;
    u32::from(known && read_before == 0 && written_before <= 1)
}

/// Whether ports are those that were remembered. A connection that has ended may still be read from, and has given its own port back
/// (`inet_put_port`).
#[inline(always)]
pub fn are_same(ports: u32, remembered: u32) -> bool {
    ports == remembered || ports == remembered & 0xffff
}

/// Fills in the addresses; `ports` as they lie in memory. Those on the wire are not known here: what the socket has stands for them.
#[inline(always)]
pub fn fill(header: &mut RecordHeader, sk: u64, ports: u32) {
    let family: u16 = read::member(sk, &globals::OFF_SK_FAMILY);
    let (local_port, remote_port) = ((ports >> 16) as u16, u16::from_be(ports as u16));
    let (local, remote): ([u64; 2], [u64; 2]) = if family == AF_INET {
        (mapped(read::member(sk, &globals::OFF_SK_V4_LOCAL)), mapped(read::member(sk, &globals::OFF_SK_V4_PEER)))
    } else {
        (read::member(sk, &globals::OFF_SK_V6_LOCAL), read::member(sk, &globals::OFF_SK_V6_PEER))
    };
    header.wire_local_port = local_port;
    header.wire_remote_port = remote_port;
    header.socket_local_port = local_port;
    header.socket_remote_port = remote_port;
    // SAFETY: 16 bytes each, at a multiple of eight.
    unsafe {
        (&raw mut header.wire_local).cast::<[u64; 2]>().write(local);
        (&raw mut header.wire_remote).cast::<[u64; 2]>().write(remote);
        (&raw mut header.socket_local).cast::<[u64; 2]>().write(local);
        (&raw mut header.socket_remote).cast::<[u64; 2]>().write(remote);
    }
}

#[inline(always)]
fn mapped(address: u32) -> [u64; 2] {
    [0, u64::from(address) << 32 | u64::from(V4_MAPPED)]
}
