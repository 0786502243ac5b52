//! IP and TCP headers of a packet at the cgroup hook, where `data` begins with the IP header
//! (`__cgroup_bpf_run_filter_skb`, kernel/bpf/cgroup.c).

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{bpf_sk_fullsock, bpf_skb_load_bytes},
};

/// What is needed of the headers.
pub struct Headers {
    /// Source address, v4-mapped.
    pub source: [u32; 4],
    /// Destination address, v4-mapped.
    pub destination: [u32; 4],
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// TCP flags byte.
    pub flags: u8,
    /// Where the payload begins.
    pub payload_offset: u32,
    /// Payload bytes.
    pub payload_length: u32,
}

/// FIN (RFC 9293 section 3.1).
pub const FIN: u8 = 0x01;
/// RST.
pub const RST: u8 = 0x04;

/// `IPPROTO_TCP`.
const TCP: u8 = 6;
const HOP_BY_HOP: u8 = 0;
/// Second half of a v4-mapped prefix, `::ffff:`, as it lies in memory.
pub const V4_MAPPED: u32 = 0xffff_u32.to_be();

/// The packet's socket, of whatever kind.
#[inline(always)]
pub fn socket(skb: *mut __sk_buff) -> Option<*mut bpf_sock> {
    // SAFETY: context field; the verifier makes us check it for null.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() { None } else { Some(sk) }
}

/// The packet's TCP socket. Request and time-wait sockets have no storage and no data of interest.
#[inline(always)]
pub fn tcp_socket(skb: *mut __sk_buff) -> Option<*mut bpf_sock> {
    let sk = socket(skb)?;
    // SAFETY: not null.
    let sk = unsafe { bpf_sk_fullsock(sk) };
    // SAFETY: not null: a full socket.
    if sk.is_null() || unsafe { (*sk).protocol } != u32::from(TCP) {
        return None;
    }
    Some(sk)
}

/// Reads a `T`, bytes or arrays of them, at `offset`.
#[inline(always)]
pub fn load<T: Copy>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the packet's bounds and fills the value or fails; any bytes make one.
    unsafe {
        if bpf_skb_load_bytes(skb.cast(), offset, value.as_mut_ptr().cast(), size_of::<T>() as u32) != 0 {
            return None;
        }
        Some(value.assume_init())
    }
}

/// Reads the headers; `Ok(None)` when it is not TCP, `Err` when they cannot be read.
#[inline(always)]
pub fn headers(skb: *mut __sk_buff) -> Result<Option<Headers>, ()> {
    // The smallest TCP/IPv4 packet has 40 bytes, which is also the whole IPv6 header.
    let ip = load::<[u8; 40]>(skb, 0).ok_or(())?;
    let word = |at: usize| u32::from_ne_bytes([ip[at], ip[at + 1], ip[at + 2], ip[at + 3]]);
    let (source, destination, tcp_offset) = match ip[0] >> 4 {
        4 if ip[9] == TCP => {
            let length = u32::from(ip[0] & 0x0f) * 4;
            ([0, 0, V4_MAPPED, word(12)], [0, 0, V4_MAPPED, word(16)], length)
        }
        6 => {
            let offset = match ip[6] {
                TCP => 40,
                // BIG TCP (net/ipv6/ip6_output.c) and router alerts.
                HOP_BY_HOP => {
                    let extension = load::<[u8; 2]>(skb, 40).ok_or(())?;
                    if extension[0] != TCP {
                        return Ok(None);
                    }
                    48 + u32::from(extension[1]) * 8
                }
                _ => return Ok(None),
            };
            ([word(8), word(12), word(16), word(20)], [word(24), word(28), word(32), word(36)], offset)
        }
        _ => return Ok(None),
    };
    let tcp = load::<[u8; 14]>(skb, tcp_offset).ok_or(())?;
    let payload_offset = tcp_offset + u32::from(tcp[12] >> 4) * 4;
    // Not the IP length: it is 0 for packets above 64 KiB.
    // SAFETY: a context field.
    let length = unsafe { (*skb).len };
    Ok(Some(Headers {
        source,
        destination,
        source_port: u16::from_be_bytes([tcp[0], tcp[1]]),
        destination_port: u16::from_be_bytes([tcp[2], tcp[3]]),
        sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
        flags: tcp[13],
        payload_offset,
        payload_length: length.saturating_sub(payload_offset),
    }))
}
