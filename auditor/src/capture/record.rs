//! Decodes ring records ([`auditor_abi::record`]) into segments. The kernel wrote them, a recording may have been written by
//! anyone: nothing is believed that is not checked.

use std::{
    mem::offset_of,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use auditor_abi::record::{
    self, CLASS_AHEAD, CLASS_CONTINUATION, CLASS_END, CLASS_HTTP2, CLASS_OTHER, CLASS_REQUEST, CLASS_RESPONSE,
    CLASS_SHORT, CLASS_TLS, CLASS_TLS_HEADERS, EGRESS, INGRESS, MARK_FRESH, MARK_GAP, MARK_MUTED, MARK_SAMPLED,
    PASSED_DOUBTFUL, PASSED_REQUEST, RecordHeader, TLS_HEADERS_MAX, TlsHeader,
};
use auditor_wire::segment::{Class, Direction, Endpoints, Owner, PassedOver, Segment, SocketId, Timestamp};
use zerocopy::FromBytes as _;

/// FIN, SYN and RST in the TCP flags byte (RFC 9293 section 3.1).
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;

/// Bytes of TLS record headers in one record at most.
const HEADERS_MAX: usize = TLS_HEADERS_MAX * size_of::<TlsHeader>();

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Shorter than a header, or than the payload it announces.
    #[error("record cut short")]
    Short,
    /// A field has a value that no program writes.
    #[error("record with an impossible {0}")]
    Value(&'static str),
}

/// Decodes one record into the segments it stands for: one, or one for each TLS record header in it. `epoch_offset_ns` is what
/// brings the record's monotonic clock to the Unix epoch.
///
/// # Errors
/// When the bytes are no record.
pub fn decode(bytes: &[u8], epoch_offset_ns: u64) -> Result<Segments<'_>, RecordError> {
    let (header, rest) = RecordHeader::read_from_prefix(bytes).map_err(|_| RecordError::Short)?;
    let captured = usize::try_from(header.captured).map_err(|_| RecordError::Short)?;
    let payload = rest.get(..captured).ok_or(RecordError::Short)?;
    let headers = header.class == CLASS_TLS_HEADERS;
    if headers && (payload.len() % size_of::<TlsHeader>() != 0 || payload.len() > HEADERS_MAX) {
        return Err(RecordError::Value("number of TLS headers"));
    }
    if header.captured > header.length && !headers {
        return Err(RecordError::Value("length"));
    }
    let direction = direction(header.direction)?;
    let class = class(header.class)?;
    let owner = (header.owner_tgid != 0 && header.marks & MARK_SAMPLED == 0).then_some(Owner {
        tgid: header.owner_tgid,
        start_ns: header.owner_start_ns,
        comm: header.owner_comm,
    });
    let segment = Segment {
        time: Timestamp(header.time_ns.wrapping_add(epoch_offset_ns)),
        socket: SocketId(header.cookie),
        direction,
        wire: Endpoints {
            local: address(header.wire_local, header.wire_local_port),
            remote: address(header.wire_remote, header.wire_remote_port),
        },
        endpoints: Endpoints {
            local: address(header.socket_local, header.socket_local_port),
            remote: address(header.socket_remote, header.socket_remote_port),
        },
        sequence: header.sequence,
        syn: header.tcp_flags & SYN != 0,
        fin: header.tcp_flags & FIN != 0,
        rst: header.tcp_flags & RST != 0,
        length: header.length,
        payload,
        class,
        fresh: header.marks & MARK_FRESH != 0,
        gap: header.marks & MARK_GAP != 0,
        complete_source: false,
        passed_over: passed_over(&header),
        repeat: None,
        muted: header.marks & MARK_MUTED != 0,
        owner,
        cgroup: (header.cgroup_id != 0).then_some(header.cgroup_id),
        netns: (header.netns != 0).then_some(header.netns),
    };
    Ok(Segments::of(segment))
}

/// The segments of one record, in order of their sequence numbers.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    record: Segment<'a>,
    /// TLS record headers that are left, [`TlsHeader`]s.
    headers: &'a [u8],
    done: bool,
}

impl<'a> Segments<'a> {
    fn of(mut record: Segment<'a>) -> Self {
        let headers = if record.class == Class::TlsHeader { std::mem::take(&mut record.payload) } else { &[] };
        // What was not copied of a TLS segment is not passed over: headers within it come by themselves.
        if matches!(record.class, Class::Tls | Class::TlsHeader) && !record.fin {
            record.length = u32::try_from(record.payload.len()).unwrap_or(record.length);
        }
        Self { record, headers, done: false }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        if self.done {
            return None;
        }
        let mut segment = self.record;
        self.done = self.headers.len() <= size_of::<TlsHeader>();
        if let Some((entry, rest)) = self.headers.split_at_checked(size_of::<TlsHeader>()) {
            let sequence = entry.first_chunk().map_or(segment.sequence, |bytes| u32::from_ne_bytes(*bytes));
            let end = segment.sequence.wrapping_add(segment.length).wrapping_sub(sequence);
            segment.sequence = sequence;
            segment.payload = &entry[offset_of!(TlsHeader, header)..offset_of!(TlsHeader, padding)];
            segment.length = u32::try_from(segment.payload.len()).unwrap_or(0);
            if self.done && segment.fin {
                segment.length = segment.length.max(end);
            }
            self.headers = rest;
        }
        // Losses were before the first, and the last ends the segment.
        self.record.gap = false;
        if !self.done {
            (segment.fin, segment.rst, segment.muted) = (false, false, false);
        }
        Some(segment)
    }
}

/// What was passed over before a record, which stands where the name of its owner does in others.
fn passed_over(header: &RecordHeader) -> Option<PassedOver> {
    if header.marks & MARK_SAMPLED == 0 {
        return None;
    }
    let said = record::PassedOver::read_from_bytes(&header.owner_comm).ok()?;
    Some(PassedOver {
        calls: said.calls,
        next_other: said.next_other,
        doubtful: said.how & PASSED_DOUBTFUL != 0,
        request: said.how & PASSED_REQUEST != 0,
    })
}

fn address(octets: [u8; 16], port: u16) -> SocketAddr {
    let address = Ipv6Addr::from(octets);
    let address = address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4);
    SocketAddr::new(address, port)
}

/// Which way a record's bytes went.
pub(crate) fn direction(byte: u8) -> Result<Direction, RecordError> {
    match byte {
        EGRESS => Ok(Direction::Egress),
        INGRESS => Ok(Direction::Ingress),
        _ => Err(RecordError::Value("direction")),
    }
}

/// What a record's first bytes were taken for.
pub(crate) fn class(byte: u8) -> Result<Class, RecordError> {
    Ok(match byte {
        CLASS_CONTINUATION => Class::Continuation,
        CLASS_REQUEST => Class::Request,
        CLASS_RESPONSE => Class::Response,
        CLASS_SHORT => Class::Short,
        CLASS_TLS => Class::Tls,
        CLASS_TLS_HEADERS => Class::TlsHeader,
        CLASS_HTTP2 => Class::Http2,
        CLASS_OTHER => Class::Other,
        CLASS_AHEAD => Class::Ahead,
        CLASS_END => Class::Unclassified,
        _ => return Err(RecordError::Value("class")),
    })
}

#[cfg(test)]
mod tests {
    use zerocopy::{FromZeros as _, IntoBytes as _};

    use super::*;

    fn header() -> RecordHeader {
        let mut header = RecordHeader::new_zeroed();
        header.time_ns = 5;
        header.cookie = 7;
        header.length = 4;
        header.captured = 3;
        header.class = CLASS_REQUEST;
        header.marks = MARK_FRESH | MARK_GAP;
        header.wire_remote = std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets();
        header.wire_remote_port = 80;
        header
    }

    fn bytes(header: RecordHeader, payload: &[u8]) -> Vec<u8> {
        [header.as_bytes(), payload].concat()
    }

    fn segments(record: &[u8], epoch_offset_ns: u64) -> Vec<Segment<'_>> {
        decode(record, epoch_offset_ns).expect("a record").collect()
    }

    fn refusal(record: &[u8]) -> Option<RecordError> {
        decode(record, 0).err()
    }

    /// A record of a segment of 1000 bytes at sequence number 100, with TLS record headers.
    fn tls_headers(sequences: &[u32], tcp_flags: u8) -> Vec<u8> {
        let mut header = header();
        (header.class, header.sequence, header.length, header.tcp_flags) = (CLASS_TLS_HEADERS, 100, 1000, tcp_flags);
        header.marks |= MARK_MUTED;
        header.captured = u32::try_from(sequences.len() * size_of::<TlsHeader>()).expect("few");
        let entry = |sequence: &u32| TlsHeader { sequence: *sequence, header: [23, 3, 3, 1, 0], padding: [0; 3] };
        bytes(header, sequences.iter().map(entry).collect::<Vec<_>>().as_bytes())
    }

    #[test]
    fn tls_headers_become_a_segment_each() {
        // The first began in the segment before. The end and the mute are the last one's, the gap is before the first.
        let record = tls_headers(&[97, 500], FIN);
        let [first, last] = segments(&record, 0)[..] else { panic!("two segments") };
        assert_eq!((first.class, first.payload), (Class::TlsHeader, [23, 3, 3, 1, 0].as_slice()));
        assert_eq!((first.sequence, first.length, last.sequence, last.length), (97, 5, 500, 600));
        assert_eq!((first.fin, first.muted, first.gap), (false, false, true));
        assert_eq!((last.fin, last.muted, last.gap), (true, true, false));
        let record = tls_headers(&[97, 500], 0);
        assert_eq!(segments(&record, 0).iter().map(|segment| segment.length).collect::<Vec<_>>(), [5, 5]);
    }

    #[test]
    fn a_record_without_tls_headers_carries_its_marks() {
        let record = tls_headers(&[], 0);
        let [segment] = segments(&record, 0)[..] else { panic!("one segment") };
        assert_eq!((segment.length, segment.payload, segment.gap, segment.muted), (0, [].as_slice(), true, true));
    }

    #[test]
    fn what_is_not_copied_of_a_tls_segment_is_left_to_its_headers() {
        let mut tls = header();
        (tls.class, tls.length) = (CLASS_TLS, 9000);
        let record = bytes(tls, &[22, 3, 1]);
        assert_eq!(segments(&record, 0).first().map(|segment| segment.length), Some(3));
        tls.tcp_flags = FIN;
        let record = bytes(tls, &[22, 3, 1]);
        assert_eq!(segments(&record, 0).first().map(|segment| segment.length), Some(9000));
    }

    #[test]
    fn a_record_becomes_a_segment() {
        // The ring's memory is longer than what was captured; the rest means nothing.
        let record = bytes(header(), b"GETxxxx");
        let [segment] = segments(&record, 10)[..] else { panic!("one segment") };
        assert_eq!(segment.time, Timestamp(15));
        assert_eq!(segment.payload, b"GET");
        assert_eq!(segment.wire.remote, "10.0.0.1:80".parse().expect("address"));
        assert!(segment.fresh && segment.gap && !segment.muted);
        assert_eq!(segment.owner, None);
    }

    #[test]
    fn what_was_passed_over_stands_in_the_place_of_the_owner() {
        let mut sampled = header();
        sampled.owner_tgid = 9;
        let said = record::PassedOver { calls: 7, next_other: 1000, how: PASSED_REQUEST, padding: 0 };
        sampled.owner_comm.copy_from_slice(said.as_bytes());
        let record = bytes(sampled, b"GET");
        assert!(segments(&record, 0).iter().all(|segment| segment.passed_over.is_none() && segment.owner.is_some()));
        sampled.marks |= MARK_SAMPLED;
        let record = bytes(sampled, b"GET");
        let [segment] = segments(&record, 0)[..] else { panic!("one segment") };
        assert_eq!(
            segment.passed_over,
            Some(PassedOver { calls: 7, next_other: 1000, doubtful: false, request: true })
        );
        assert_eq!(segment.owner, None);
    }

    #[test]
    fn what_no_program_writes_is_refused() {
        assert_eq!(refusal(&[0; 10]), Some(RecordError::Short));
        assert_eq!(refusal(&bytes(header(), b"GE")), Some(RecordError::Short));
        let mut longer = header();
        longer.captured = 9;
        assert_eq!(refusal(&bytes(longer, b"GETxxxxxxx")), Some(RecordError::Value("length")));
        let headers = tls_headers(&[1; TLS_HEADERS_MAX + 1], 0);
        assert_eq!(refusal(&headers), Some(RecordError::Value("number of TLS headers")));
        let mut odd = header();
        (odd.class, odd.captured) = (CLASS_TLS_HEADERS, 3);
        assert_eq!(refusal(&bytes(odd, b"GET")), Some(RecordError::Value("number of TLS headers")));
        let mut odd = header();
        odd.class = 99;
        assert_eq!(refusal(&bytes(odd, b"GET")), Some(RecordError::Value("class")));
        let mut odd = header();
        odd.direction = 2;
        assert_eq!(refusal(&bytes(odd, b"GET")), Some(RecordError::Value("direction")));
    }

    #[test]
    fn the_fuzz_corpus_decodes_or_is_refused() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/record");
        let mut decoded = 0;
        for file in std::fs::read_dir(corpus).expect("there") {
            let bytes = std::fs::read(file.expect("a file").path()).expect("readable");
            for length in 0..bytes.len() {
                let _ = decode(&bytes[length..], 0).map(Iterator::count);
                decoded += decode(&bytes[..length], 0).map_or(0, Iterator::count);
            }
        }
        assert!(decoded > 0, "the corpus has records");
    }
}
