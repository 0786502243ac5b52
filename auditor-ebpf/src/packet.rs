//! IP and TCP headers of a packet at the cgroup hook, where `data` begins with the IP header
//! (`__cgroup_bpf_run_filter_skb`, kernel/bpf/cgroup.c).

use core::arch::asm;

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

impl Headers {
    /// Neither payload nor an end: an acknowledgement, or the begin of a connection.
    #[inline(always)]
    pub fn are_bare(&self) -> bool {
        self.payload_length == 0 && self.flags & (FIN | RST) == 0
    }
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

/// Whether a socket is a full one of TCP: request and time-wait sockets have no storage and no data of interest.
#[inline(always)]
pub fn is_tcp_socket(sk: *mut bpf_sock) -> bool {
    // SAFETY: a socket, not null.
    let sk = unsafe { bpf_sk_fullsock(sk) };
    // SAFETY: not null: a full socket.
    !sk.is_null() && unsafe { (*sk).protocol } == u32::from(TCP)
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

/// Bytes of an IPv4 header without options, of an IPv6 header, and of a TCP header.
const IPV4: usize = 20;
const IPV6: usize = 40;
const TCP_HEADER: usize = 20;

/// Reads the headers; `Ok(None)` when it is not TCP, `Err` when they cannot be read.
#[inline(always)]
pub fn headers(skb: *mut __sk_buff) -> Result<Option<Headers>, ()> {
    match in_place(skb) {
        Some(headers) => Ok(Some(headers)),
        None => loaded(skb),
    }
}

/// Whether a packet has [bare](Headers::are_bare) headers, as far as that can be told without a helper.
#[inline(always)]
pub fn is_bare(skb: *mut __sk_buff) -> bool {
    in_place(skb).is_some_and(|headers| headers.are_bare())
}

/// The headers as nearly all packets have them: without IPv4 options and IPv6 extensions, in the packet's first part. They are read
/// where they stand: a helper takes longer than all else that is done here.
#[inline(always)]
fn in_place(skb: *mut __sk_buff) -> Option<Headers> {
    // SAFETY: context fields, which the verifier knows as the bounds of the first part. Volatile, or they would be read again
    // after the check, and be of no known length.
    let (data, end) = unsafe {
        let (data, end) = (&raw const (*skb).data, &raw const (*skb).data_end);
        (data.read_volatile() as usize, end.read_volatile() as usize)
    };
    if data + IPV4 + TCP_HEADER > end {
        return None;
    }
    // SAFETY: so many bytes are there.
    unsafe {
        if byte::<0>(data) == 0x45 && byte::<9>(data) == TCP {
            let (source, destination) = (word::<12>(data), word::<16>(data));
            let addresses = ([0, 0, V4_MAPPED, source], [0, 0, V4_MAPPED, destination]);
            return Some(tcp(skb, data, IPV4, addresses));
        }
    }
    if data + IPV6 + TCP_HEADER > end {
        return None;
    }
    // SAFETY: so many bytes are there.
    unsafe {
        if byte::<0>(data) >> 4 != 6 || byte::<6>(data) != TCP {
            return None;
        }
        let source = [word::<8>(data), word::<12>(data), word::<16>(data), word::<20>(data)];
        let destination = [word::<24>(data), word::<28>(data), word::<32>(data), word::<36>(data)];
        Some(tcp(skb, data, IPV6, (source, destination)))
    }
}

/// With the TCP header that begins `offset` bytes behind `data`.
///
/// # Safety
/// The verifier must know that it is there.
#[inline(always)]
unsafe fn tcp(skb: *mut __sk_buff, data: usize, offset: usize, (source, destination): ([u32; 4], [u32; 4])) -> Headers {
    let at = data + offset;
    // SAFETY: the caller's promise.
    unsafe {
        let ports = word::<0>(at).to_ne_bytes();
        let payload_offset = offset as u32 + (u32::from(byte::<12>(at)) >> 4) * 4;
        Headers {
            source,
            destination,
            source_port: u16::from_be_bytes([ports[0], ports[1]]),
            destination_port: u16::from_be_bytes([ports[2], ports[3]]),
            sequence: u32::from_be(word::<4>(at)),
            flags: byte::<13>(at),
            payload_offset,
            payload_length: length(skb).saturating_sub(payload_offset),
        }
    }
}

/// Bytes of the packet. Not the IP length: that is 0 for packets above 64 KiB.
#[inline(always)]
fn length(skb: *mut __sk_buff) -> u32 {
    // SAFETY: a context field.
    unsafe { (*skb).len }
}

/// The byte `AT` bytes behind an address in the packet's first part.
///
/// # Safety
/// The verifier must know that it is there.
#[inline(always)]
unsafe fn byte<const AT: i16>(data: usize) -> u8 {
    let value: u64;
    // SAFETY: the caller's promise. In assembler, because the compiler would read words byte by byte, and before they are checked.
    unsafe {
        asm!("{value} = *(u8 *)({data} + {at})", value = out(reg) value, data = in(reg) data, at = const AT, options(readonly));
    }
    value as u8
}

/// The four bytes `AT` bytes behind an address, as they lie in memory.
///
/// # Safety
/// The verifier must know that they are there.
#[inline(always)]
unsafe fn word<const AT: i16>(data: usize) -> u32 {
    let value: u64;
    // SAFETY: as in `byte`.
    unsafe {
        asm!("{value} = *(u32 *)({data} + {at})", value = out(reg) value, data = in(reg) data, at = const AT, options(readonly));
    }
    value as u32
}

/// The headers of any packet.
#[inline(always)]
fn loaded(skb: *mut __sk_buff) -> Result<Option<Headers>, ()> {
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
    Ok(Some(Headers {
        source,
        destination,
        source_port: u16::from_be_bytes([tcp[0], tcp[1]]),
        destination_port: u16::from_be_bytes([tcp[2], tcp[3]]),
        sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
        flags: tcp[13],
        payload_offset,
        payload_length: length(skb).saturating_sub(payload_offset),
    }))
}
