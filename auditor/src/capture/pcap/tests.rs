//! Files are built here byte by byte, so that each test shows what it is about.

use std::io::{BufReader, Cursor, Read};

use super::*;

const GET: &[u8] = b"GET /x HTTP/1.1\r\n\r\n";

/// A raw IPv4 packet with a TCP segment.
fn ipv4(from: u16, to: u16, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(40 + payload.len()).expect("short");
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(from.to_be_bytes());
    packet.extend(to.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend([0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
    packet.extend(payload);
    packet
}

struct Order(Endian);

use input::Endian;

impl Order {
    fn u16(&self, value: u16) -> [u8; 2] {
        if self.0 == Endian::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }

    fn u32(&self, value: u32) -> [u8; 4] {
        if self.0 == Endian::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }

    fn pcap(&self, magic: u32, link: u32) -> Vec<u8> {
        let mut file = self.u32(magic).to_vec();
        file.extend(self.u16(2));
        file.extend(self.u16(4));
        file.extend([0; 8]);
        file.extend(self.u32(65535));
        file.extend(self.u32(link));
        file
    }

    fn record(&self, file: &mut Vec<u8>, seconds: u32, fraction: u32, packet: &[u8], wire: usize) {
        for value in
            [seconds, fraction, u32::try_from(packet.len()).expect("short"), u32::try_from(wire).expect("short")]
        {
            file.extend(self.u32(value));
        }
        file.extend(packet);
    }

    fn block(&self, file: &mut Vec<u8>, kind: u32, body: &[u8]) {
        let padded = body.len().next_multiple_of(4);
        let length = self.u32(u32::try_from(padded + 12).expect("short"));
        file.extend(self.u32(kind));
        file.extend(length);
        file.extend(body);
        file.resize(file.len() + padded - body.len(), 0);
        file.extend(length);
    }

    fn section(&self, file: &mut Vec<u8>) {
        let body = [&self.u32(0x1a2b_3c4d)[..], &self.u16(1), &self.u16(0), &[0xff; 8]].concat();
        self.block(file, 0x0a0d_0d0a, &body);
    }

    fn interface(&self, file: &mut Vec<u8>, link: u16, snapshot: u32, options: &[(u16, &[u8])]) {
        let mut body = [&self.u16(link)[..], &[0, 0], &self.u32(snapshot)].concat();
        for (code, value) in options {
            body.extend(self.u16(*code));
            body.extend(self.u16(u16::try_from(value.len()).expect("short")));
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        self.block(file, 1, &body);
    }

    fn enhanced(&self, file: &mut Vec<u8>, interface: u32, ticks: u64, packet: &[u8]) {
        let length = self.u32(u32::try_from(packet.len()).expect("short"));
        let high = u32::try_from(ticks >> 32).expect("32 bits");
        let low = u32::try_from(ticks & 0xffff_ffff).expect("32 bits");
        let body = [&self.u32(interface)[..], &self.u32(high), &self.u32(low), &length, &length, packet].concat();
        self.block(file, 6, &body);
    }
}

const LITTLE: Order = Order(Endian::Little);
const BIG: Order = Order(Endian::Big);

/// Time, payload and socket of a segment.
type Seen = (u64, Vec<u8>, u64);

/// What was delivered, and the message it ended with.
fn read(file: impl Read + Send + 'static) -> (Vec<Seen>, Option<String>) {
    let mut seen = Vec::new();
    let opened = PcapFile::new("capture", Box::new(BufReader::new(file)));
    let mut file = match opened {
        Ok(file) => file,
        Err(error) => return (seen, Some(error.to_string())),
    };
    loop {
        let status = file.drain(&mut |segment| {
            seen.push((segment.time.0, segment.payload.to_vec(), segment.socket.0));
        });
        match status {
            Ok(Status::End) => return (seen, None),
            Ok(_) => {}
            Err(error) => {
                assert_eq!(file.drain(&mut |_| panic!("after the end")).expect("ended"), Status::End);
                return (seen, Some(error.to_string()));
            }
        }
    }
}

fn bytes(file: &[u8]) -> (Vec<Seen>, Option<String>) {
    read(Cursor::new(file.to_vec()))
}

#[test]
fn classic_in_every_byte_order_and_resolution() {
    for order in [LITTLE, BIG] {
        for (magic, unit) in [(0xa1b2_c3d4, 1000), (0xa1b2_3c4d, 1)] {
            let mut file = order.pcap(magic, 101);
            order.record(&mut file, 10, 7, &ipv4(50000, 80, 1, 0x18, GET), 59);
            assert_eq!(bytes(&file), (vec![(10_000_000_000 + 7 * unit, GET.to_vec(), 1)], None), "{magic:x}");
        }
    }
}

#[test]
fn classic_with_longer_record_headers() {
    let mut file = LITTLE.pcap(0xa1b2_cd34, 101);
    let packet = ipv4(50000, 80, 1, 0x18, GET);
    let mut record = Vec::new();
    LITTLE.record(&mut record, 1, 0, &packet, packet.len());
    file.extend(&record[..16]);
    file.extend([9; 8]);
    file.extend(packet);
    assert_eq!(bytes(&file), (vec![(1_000_000_000, GET.to_vec(), 1)], None));
}

#[test]
fn pcapng_with_sections_interfaces_and_clocks() {
    let packet = ipv4(50000, 80, 1, 0x18, GET);
    let mut file = Vec::new();
    for order in [LITTLE, BIG] {
        order.section(&mut file);
        order.interface(&mut file, 101, 0, &[]);
        order.block(&mut file, 0x8000_0001, &[1, 2, 3]);
        order.interface(&mut file, 101, 0, &[(9, &[9]), (2, b"eth0"), (0, &[])]);
        order.interface(&mut file, 101, 0, &[(9, &[0x80 | 30])]);
        let offset = if order.0 == Endian::Little { 100_i64.to_le_bytes() } else { 100_i64.to_be_bytes() };
        order.interface(&mut file, 101, 0, &[(14, &offset), (9, &[3])]);
        order.enhanced(&mut file, 0, 5_000_001, &packet);
        order.enhanced(&mut file, 1, 5_000_000_001, &packet);
        order.enhanced(&mut file, 2, 5 << 30, &packet);
        order.enhanced(&mut file, 3, 5_001, &packet);
    }
    let (seen, end) = bytes(&file);
    assert_eq!(end, None);
    let times: Vec<u64> = seen.iter().map(|(time, ..)| *time).collect();
    let once = [5_000_001_000, 5_000_000_001, 5_000_000_000, 105_001_000_000];
    assert_eq!(times, [once, once].concat());
    assert!(seen.iter().all(|(_, payload, socket)| payload == GET && *socket == 1), "{seen:?}");
}

#[test]
fn pcapng_simple_and_obsolete_packets() {
    let packet = ipv4(50000, 80, 1, 0x18, GET);
    let length = LITTLE.u32(u32::try_from(packet.len()).expect("short"));
    let mut file = Vec::new();
    LITTLE.section(&mut file);
    LITTLE.interface(&mut file, 101, 50, &[]);
    let obsolete = [&[0, 0, 0xff, 0xff][..], &[0; 4], &7_u32.to_le_bytes(), &length, &length, &packet].concat();
    LITTLE.block(&mut file, 2, &obsolete);
    LITTLE.block(&mut file, 3, &[&length[..], &packet[..50]].concat());
    let (seen, end) = bytes(&file);
    assert_eq!(end, None);
    assert_eq!(seen, vec![(7000, GET.to_vec(), 1), (7000, GET[..10].to_vec(), 1)]);
}

#[test]
fn snapshots_keep_the_length_on_the_wire() {
    let packet = ipv4(50000, 80, 1, 0x18, GET);
    let mut file = LITTLE.pcap(0xa1b2_c3d4, 101);
    LITTLE.record(&mut file, 0, 1, &packet[..48], packet.len());
    let mut lengths = Vec::new();
    let mut source = PcapFile::new("capture", Box::new(Cursor::new(file))).expect("opens");
    let status = source.drain(&mut |segment| lengths.push((segment.length as usize, segment.payload.len())));
    assert_eq!(status.expect("whole"), Status::End);
    assert_eq!(lengths, [(GET.len(), 8)]);
}

#[test]
fn what_is_not_tcp_is_counted() {
    let mut udp = ipv4(50000, 80, 1, 0x18, GET);
    udp[9] = 17;
    let mut file = LITTLE.pcap(0xa1b2_c3d4, 101);
    LITTLE.record(&mut file, 0, 1, &udp, udp.len());
    LITTLE.record(&mut file, 0, 1, &[0x45, 0, 0], 3);
    LITTLE.record(&mut file, 0, 1, &[], 0);
    let mut source = PcapFile::new("capture", Box::new(Cursor::new(file))).expect("opens");
    assert_eq!(source.drain(&mut |_| panic!("nothing to deliver")).expect("whole"), Status::End);
    let counts = source.counts();
    assert_eq!(counts.delivered, 0);
    assert_eq!(counts.ignored.iter().map(|(_, count)| count).sum::<u64>(), 3, "{:?}", counts.ignored);
    assert!(counts.lost.is_empty());
}

#[test]
fn damage_is_said_with_its_place_and_what_precedes_it_is_delivered() {
    let packet = ipv4(50000, 80, 1, 0x18, GET);
    let mut good = LITTLE.pcap(0xa1b2_c3d4, 101);
    LITTLE.record(&mut good, 0, 1, &packet, packet.len());
    let whole = good.len();
    for (tail, expected) in [
        (vec![1; 7], "at byte 99, after 1 packets: the file ends 7 bytes into a record of 16 bytes; "),
        (vec![0; 64], "at byte 99, after 1 packets: there are zeros where a packet's header should be; "),
        (vec![0xff; 64], "at byte 99, after 1 packets: a packet of 4294967295 bytes is claimed, "),
        (
            good[24..whole - 1].to_vec(),
            "at byte 99, after 1 packets: the file ends 74 bytes into a record of 75 bytes; ",
        ),
    ] {
        let (seen, end) = bytes(&[&good[..], &tail].concat());
        assert_eq!(seen.len(), 1);
        let end = end.expect("an error");
        assert!(end.strip_prefix("capture: ").is_some_and(|end| end.starts_with(expected)), "{expected}\n{end}");
    }
}

#[test]
fn damaged_pcapng() {
    let packet = ipv4(50000, 80, 1, 0x18, GET);
    let mut good = Vec::new();
    LITTLE.section(&mut good);
    LITTLE.interface(&mut good, 101, 0, &[]);
    LITTLE.enhanced(&mut good, 0, 1, &packet);
    let mut liar = Vec::new();
    LITTLE.enhanced(&mut liar, 0, 1, &packet);
    let last = liar.len() - 4;
    liar[last] ^= 4;
    let mut stranger = Vec::new();
    LITTLE.enhanced(&mut stranger, 7, 1, &packet);
    let mut overlong = Vec::new();
    LITTLE.block(&mut overlong, 6, &[&[0; 12][..], &[0xff; 4], &[0; 8]].concat());
    let mut clock = Vec::new();
    LITTLE.interface(&mut clock, 101, 0, &[(9, &[99])]);
    let huge = |kind: u32| [kind.to_le_bytes(), 0x7fff_fffc_u32.to_le_bytes(), [0; 4]].concat();
    for (tail, expected) in [
        (vec![0; 64], "a block of type 0x0 claims to be 0 bytes long"),
        (vec![6, 0, 0, 0, 33, 0, 0, 0], "claims to be 33 bytes long"),
        (liar, "the block's length is"),
        (stranger, "a packet of interface 7, and the section describes 1"),
        (overlong, "a packet of 4294967295 bytes in a block of"),
        (clock, "a time resolution of 0x63"),
        (huge(6), "a block of 2147483644 bytes is claimed"),
        (huge(0xbad), "the file ends 12 bytes into a record of 2147483644 bytes"),
        (good[..20].to_vec(), "the file ends 20 bytes into a record of 28 bytes"),
        (vec![0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 1, 2, 3, 4], "a section header without byte-order magic"),
    ] {
        let (seen, end) = bytes(&[&good[..], &tail].concat());
        assert_eq!(seen.len(), 1, "{expected}");
        let end = end.expect("an error");
        assert!(
            end.contains(&format!("at byte {}, after 1 packets: ", good.len())) && end.contains(expected),
            "{expected}\n{end}"
        );
    }
}

#[test]
fn what_is_no_capture_is_refused() {
    for (file, expected) in [
        (&b""[..], "this is no pcap file"),
        (b"GET / HTTP/1.1\r\nHost: example\r\n\r\n", "this is no pcap file"),
        (&[0; 100], "this is no pcap file"),
        (&[0xd4, 0xc3, 0xb2, 0xa1], "the file ends 4 bytes into a record of 24 bytes"),
    ] {
        let (_, end) = bytes(file);
        assert!(end.as_deref().is_some_and(|end| end.contains(expected)), "{expected}\n{end:?}");
    }
    let mut future = LITTLE.pcap(0xa1b2_c3d4, 1);
    future[4] = 3;
    assert!(bytes(&future).1.is_some_and(|end| end.contains("pcap version 3.4 is not known")));
}

#[test]
fn link_types_that_are_not_read() {
    let (_, end) = bytes(&LITTLE.pcap(0xa1b2_c3d4, 147));
    assert!(end.is_some_and(|end| end.contains("packets of link type 147 are not read; capture Ethernet")));

    let packet = ipv4(50000, 80, 1, 0x18, GET);
    let mut file = Vec::new();
    LITTLE.section(&mut file);
    LITTLE.interface(&mut file, 147, 0, &[]);
    LITTLE.interface(&mut file, 101, 0, &[]);
    LITTLE.enhanced(&mut file, 0, 1, &packet);
    assert!(bytes(&file).1.is_some_and(|end| end.contains("link type 147")), "nothing else was in it");
    LITTLE.enhanced(&mut file, 1, 1, &packet);
    let (seen, end) = bytes(&file);
    assert_eq!((seen.len(), end), (1, None), "one interface that is read suffices");
}

#[test]
fn ten_gigabytes_of_zeros_end_at_once() {
    let (_, end) = read(std::io::repeat(0).take(10 << 30));
    assert!(end.is_some_and(|end| end.contains("this is no pcap file")));
    let header = LITTLE.pcap(0xa1b2_c3d4, 1);
    let (_, end) = read(Cursor::new(header).chain(std::io::repeat(0).take(10 << 30)));
    assert!(end.is_some_and(|end| end.contains("there are zeros")));
    let mut section = Vec::new();
    LITTLE.section(&mut section);
    let (_, end) = read(Cursor::new(section).chain(std::io::repeat(0).take(10 << 30)));
    assert!(end.is_some_and(|end| end.contains("claims to be 0 bytes long")));
}

#[test]
fn no_bytes_make_it_panic() {
    // A fixed generator: the same bytes in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let packet = ipv4(50000, 80, 1, 0x18, GET);
    let mut classic = LITTLE.pcap(0xa1b2_c3d4, 101);
    let mut ng = Vec::new();
    BIG.section(&mut ng);
    BIG.interface(&mut ng, 101, 0, &[(9, &[9])]);
    for _ in 0..4 {
        LITTLE.record(&mut classic, 1, 1, &packet, packet.len());
        BIG.enhanced(&mut ng, 0, 1, &packet);
    }
    for _ in 0..4000 {
        for file in [&classic, &ng] {
            let mut file = file.clone();
            for _ in 0..=random() % 4 {
                let at = usize::try_from(random() % file.len() as u64).expect("small");
                file[at] = random().to_le_bytes()[0];
            }
            file.truncate(usize::try_from(random() % (2 * file.len() as u64)).expect("small"));
            bytes(&file);
        }
    }
}
