//! Frames of a capture file to TCP segments. It knows link types and headers; it keeps nothing.

use std::net::{IpAddr, SocketAddr};

use etherparse::{EtherType, LaxNetSlice, LaxSlicedPacket, TransportSlice};

/// How the frames of a capture begin (the registry is at <https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkType {
    /// Ethernet (1), with any VLAN tags.
    Ethernet,
    /// Linux "cooked" (113).
    LinuxSll,
    /// Linux "cooked" version 2 (276).
    LinuxSll2,
    /// BSD loopback: the address family in the byte order of the machine that captured, or in network order (0, 108).
    Loopback,
    /// No link header: IPv4 or IPv6 (12, 14, 101, 228, 229).
    Raw,
}

impl LinkType {
    /// The link type of a number in a pcap or pcapng file, where it is one that is read.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        match number {
            0 | 108 => Some(Self::Loopback),
            1 => Some(Self::Ethernet),
            12 | 14 | 101 | 228 | 229 => Some(Self::Raw),
            113 => Some(Self::LinuxSll),
            276 => Some(Self::LinuxSll2),
            _ => None,
        }
    }
}

/// One TCP segment in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpPacket<'a> {
    /// Who sent it. v4-mapped IPv6 is IPv4.
    pub source: SocketAddr,
    /// Who it is for.
    pub destination: SocketAddr,
    /// Sequence number of the first payload byte: a SYN's own number is added already (RFC 9293 section 3.4).
    pub sequence: u32,
    /// SYN flag.
    pub syn: bool,
    /// ACK flag. SYN without ACK is sent by who connects.
    pub ack: bool,
    /// FIN flag.
    pub fin: bool,
    /// RST flag.
    pub rst: bool,
    /// Payload bytes the segment carried.
    pub length: u32,
    /// The captured prefix of the payload, at most `length` bytes.
    pub payload: &'a [u8],
}

/// Why a frame yields no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// A part of a fragmented IP packet.
    Fragment,
    /// Headers that contradict themselves.
    Malformed,
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// IP, but not TCP.
    NotTcp,
    /// The capture cut the frame within its headers.
    Truncated,
}

impl Ignored {
    /// All reasons.
    pub const ALL: [Self; 5] = [Self::Fragment, Self::Malformed, Self::NotIp, Self::NotTcp, Self::Truncated];

    /// The reason as counters carry it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fragment => "fragment",
            Self::Malformed => "malformed",
            Self::NotIp => "not-ip",
            Self::NotTcp => "not-tcp",
            Self::Truncated => "truncated",
        }
    }
}

/// Reads one frame.
///
/// `wire_len` is the frame's length before the capture cut it, as the file states it; what is less than `frame` is taken as not cut.
///
/// # Errors
/// Why the frame holds no TCP segment: an [`Ignored`], to be counted.
pub fn parse(link: LinkType, frame: &[u8], wire_len: usize) -> Result<TcpPacket<'_>, Ignored> {
    let cut = wire_len > frame.len();
    let short = if cut { Ignored::Truncated } else { Ignored::Malformed };
    let packet = network_layer(link, frame, short)?;
    let Some(net) = &packet.net else {
        return Err(if packet.stop_err.is_some() { short } else { Ignored::NotIp });
    };
    let (source, destination, ip_payload) = addresses(net).ok_or(Ignored::NotIp)?;
    if ip_payload.fragmented {
        return Err(Ignored::Fragment);
    }
    if ip_payload.ip_number != etherparse::ip_number::TCP {
        return Err(Ignored::NotTcp);
    }
    let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { return Err(short) };

    // What the IP header says, not what was captured: trailing Ethernet padding is left out, what a short capture length cut
    // is counted. A total length of 0 is a segment that the network card was to cut up (TSO): then the frame tells.
    let before_tcp = ip_payload.payload.as_ptr().addr() - frame.as_ptr().addr();
    let on_wire = ip_payload_length(net).unwrap_or_else(|| wire_len.max(frame.len()).saturating_sub(before_tcp));
    let length = on_wire.checked_sub(tcp.header_len()).ok_or(Ignored::Malformed)?;
    let payload = tcp.payload();
    let payload = &payload[..payload.len().min(length)];
    Ok(TcpPacket {
        source: SocketAddr::new(source.to_canonical(), tcp.source_port()),
        destination: SocketAddr::new(destination.to_canonical(), tcp.destination_port()),
        sequence: tcp.sequence_number().wrapping_add(u32::from(tcp.syn())),
        syn: tcp.syn(),
        ack: tcp.ack(),
        fin: tcp.fin(),
        rst: tcp.rst(),
        length: u32::try_from(length).map_err(|_| Ignored::Malformed)?,
        payload,
    })
}

/// Slices from the IP header on.
fn network_layer(link: LinkType, frame: &[u8], short: Ignored) -> Result<LaxSlicedPacket<'_>, Ignored> {
    match link {
        LinkType::Ethernet => LaxSlicedPacket::from_ethernet(frame).map_err(|_| short),
        LinkType::LinuxSll => cooked(frame, 14, 16, short),
        LinkType::LinuxSll2 => cooked(frame, 0, 20, short),
        LinkType::Raw => raw(frame, short),
        LinkType::Loopback => {
            let family: [u8; 4] = frame.get(..4).and_then(|f| f.try_into().ok()).ok_or(short)?;
            // 2 is IPv4 everywhere; IPv6 is 24 (NetBSD, OpenBSD), 28 (FreeBSD), 30 (Darwin), 10 (Linux).
            match u32::from_le_bytes(family).min(u32::from_be_bytes(family)) {
                2 | 10 | 24 | 28 | 30 => raw(&frame[4..], short),
                _ => Err(Ignored::NotIp),
            }
        }
    }
}

/// Linux "cooked" frames: an EtherType at `protocol_at`, the packet after `header` bytes.
fn cooked(frame: &[u8], protocol_at: usize, header: usize, short: Ignored) -> Result<LaxSlicedPacket<'_>, Ignored> {
    if frame.len() < header {
        return Err(short);
    }
    let protocol = u16::from_be_bytes([frame[protocol_at], frame[protocol_at + 1]]);
    Ok(LaxSlicedPacket::from_ether_type(EtherType(protocol), &frame[header..]))
}

fn raw(packet: &[u8], short: Ignored) -> Result<LaxSlicedPacket<'_>, Ignored> {
    match packet.first().map(|first| first >> 4) {
        None => Err(short),
        Some(4 | 6) => LaxSlicedPacket::from_ip(packet).map_err(|_| short),
        Some(_) => Err(Ignored::NotIp),
    }
}

fn addresses<'n, 'a>(net: &'n LaxNetSlice<'a>) -> Option<(IpAddr, IpAddr, &'n etherparse::LaxIpPayloadSlice<'a>)> {
    match net {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            Some((header.source_addr().into(), header.destination_addr().into(), ip.payload()))
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            Some((header.source_addr().into(), header.destination_addr().into(), ip.payload()))
        }
        LaxNetSlice::Arp(_) => None,
    }
}

/// Bytes behind the IP headers by the IP header's own length field; `None` when it says nothing (TSO, jumbograms).
fn ip_payload_length(net: &LaxNetSlice<'_>) -> Option<usize> {
    match net {
        LaxNetSlice::Ipv4(ip) => {
            let total = usize::from(ip.header().total_len());
            let headers =
                ip.header().slice().len() + ip.extensions().auth.as_ref().map_or(0, |auth| auth.slice().len());
            (total != 0).then(|| total.saturating_sub(headers))
        }
        LaxNetSlice::Ipv6(ip) => {
            let stated = usize::from(ip.header().payload_length());
            (stated != 0).then(|| stated.saturating_sub(ip.extensions().slice().len()))
        }
        LaxNetSlice::Arp(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const PAYLOAD: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
    const ETHERNET: usize = 14;

    fn ipv4() -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
        let mut frame = Vec::new();
        builder.tcp(51234, 80, 1000, 9).ack(7).write(&mut frame, PAYLOAD).expect("a frame");
        frame
    }

    fn ipv6() -> Vec<u8> {
        let mut mapped = [0; 16];
        mapped[10..12].fill(0xff);
        mapped[12..].copy_from_slice(&[10, 0, 0, 1]);
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv6(mapped, [0xfd; 16], 64);
        builder.tcp(51234, 80, 1000, 9).syn().write(&mut frame, PAYLOAD).expect("a frame");
        frame
    }

    fn read(number: u32, frame: &[u8]) -> Result<TcpPacket<'_>, Ignored> {
        parse(LinkType::from_number(number).expect("a known link type"), frame, frame.len())
    }

    fn expected() -> TcpPacket<'static> {
        TcpPacket {
            source: "10.0.0.1:51234".parse().expect("an address"),
            destination: "10.0.0.2:80".parse().expect("an address"),
            sequence: 1000,
            syn: false,
            ack: true,
            fin: false,
            rst: false,
            length: 18,
            payload: PAYLOAD,
        }
    }

    #[test]
    fn every_link_type_leads_to_the_packet() {
        let frame = ipv4();
        let packet = &frame[ETHERNET..];
        let cooked = |zeros: usize| [&vec![0; zeros][..], &[8, 0], packet].concat();
        let cooked2 = [&[8, 0][..], &[0; 18], packet].concat();
        let vlan = [&frame[..12], &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 8, 0], packet].concat();
        let cases = [
            (1, frame.clone()),
            (1, vlan),
            (101, packet.to_vec()),
            (12, packet.to_vec()),
            (14, packet.to_vec()),
            (228, packet.to_vec()),
            (113, cooked(14)),
            (276, cooked2),
            (0, [&[2, 0, 0, 0][..], packet].concat()),
            (0, [&[0, 0, 0, 2][..], packet].concat()),
            (108, [&[0, 0, 0, 2][..], packet].concat()),
        ];
        for (number, bytes) in cases {
            assert_eq!(read(number, &bytes), Ok(expected()), "link type {number}");
        }
        assert_eq!(LinkType::from_number(127), None);
    }

    #[test]
    fn a_syn_counts_and_mapped_addresses_are_ipv4() {
        let frame = ipv6();
        let packet = read(1, &frame).expect("a packet");
        assert_eq!((packet.sequence, packet.syn, packet.ack), (1001, true, false));
        assert_eq!(packet.source.to_string(), "10.0.0.1:51234");
        assert_eq!(packet.payload, PAYLOAD);
    }

    #[test]
    fn extension_headers_are_passed_over() {
        let frame = ipv6();
        let mut packet = frame[ETHERNET..].to_vec();
        packet.splice(40..40, [6, 0, 1, 4, 0, 0, 0, 0]);
        packet[6] = 0;
        packet[5] += 8;
        let packet = read(101, &packet).expect("a packet").payload;
        assert_eq!(packet, PAYLOAD);
    }

    #[test]
    fn the_ip_header_tells_the_length() {
        let mut padded = ipv4();
        padded.extend([0; 9]);
        assert_eq!(read(1, &padded), Ok(expected()));
        // A network card was to cut it up.
        let mut whole = ipv4();
        whole[ETHERNET + 2..ETHERNET + 4].fill(0);
        assert_eq!(read(1, &whole), Ok(expected()));
        let cut = parse(LinkType::Ethernet, &whole[..whole.len() - 8], whole.len());
        assert_eq!(cut, Ok(TcpPacket { payload: &PAYLOAD[..10], ..expected() }));
        let frame = ipv4();
        let cut = parse(LinkType::Ethernet, &frame[..frame.len() - 8], frame.len());
        assert_eq!(cut, Ok(TcpPacket { payload: &PAYLOAD[..10], ..expected() }));
    }

    #[test]
    fn what_holds_no_segment_is_named() {
        let frame = ipv4();
        let with = |at: usize, byte: u8| {
            let mut frame = frame.clone();
            frame[at] = byte;
            frame
        };
        let reason = |bytes: &[u8], wire: usize| parse(LinkType::Ethernet, bytes, wire).err().map(Ignored::as_str);
        assert_eq!(reason(&with(ETHERNET + 6, 0x20), 0), Some("fragment"));
        assert_eq!(reason(&with(ETHERNET + 7, 0x01), 0), Some("fragment"));
        assert_eq!(reason(&with(ETHERNET + 9, 17), 0), Some("not-tcp"));
        assert_eq!(reason(&with(13, 6), 0), Some("not-ip"));
        assert_eq!(reason(&frame[..40], frame.len()), Some("truncated"));
        assert_eq!(reason(&frame[..40], 40), Some("malformed"));
        assert_eq!(read(101, &[0x50; 40]), Err(Ignored::NotIp));
        assert_eq!(read(0, &[9; 40]), Err(Ignored::NotIp));
    }
}
