//! Decodes ring records ([`auditor_abi::record`]) into segments. The kernel wrote them, a recording may have been written by
//! anyone: nothing is believed that is not checked.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use auditor_abi::record::{
    CLASS_CONTINUATION, CLASS_END, CLASS_HTTP2, CLASS_OTHER, CLASS_REQUEST, CLASS_RESPONSE, CLASS_SHORT, CLASS_TLS,
    EGRESS, INGRESS, MARK_FRESH, MARK_GAP, MARK_MUTED, RecordHeader,
};
use auditor_wire::segment::{Class, Direction, Endpoints, Owner, Segment, SocketId, Timestamp};
use zerocopy::FromBytes as _;

/// FIN, SYN and RST in the TCP flags byte (RFC 9293 section 3.1).
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;

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

/// Decodes one record. `epoch_offset_ns` is what brings the record's monotonic clock to the Unix epoch.
///
/// # Errors
/// When the bytes are no record.
pub fn decode(bytes: &[u8], epoch_offset_ns: u64) -> Result<Segment<'_>, RecordError> {
    let (header, rest) = RecordHeader::read_from_prefix(bytes).map_err(|_| RecordError::Short)?;
    let captured = usize::try_from(header.captured).map_err(|_| RecordError::Short)?;
    let payload = rest.get(..captured).ok_or(RecordError::Short)?;
    if header.captured > header.length {
        return Err(RecordError::Value("length"));
    }
    let direction = match header.direction {
        EGRESS => Direction::Egress,
        INGRESS => Direction::Ingress,
        _ => return Err(RecordError::Value("direction")),
    };
    let class = match header.class {
        CLASS_CONTINUATION => Class::Continuation,
        CLASS_REQUEST => Class::Request,
        CLASS_RESPONSE => Class::Response,
        CLASS_SHORT => Class::Short,
        CLASS_TLS => Class::Tls,
        CLASS_HTTP2 => Class::Http2,
        CLASS_OTHER => Class::Other,
        CLASS_END => Class::Unclassified,
        _ => return Err(RecordError::Value("class")),
    };
    let owner = (header.owner_tgid != 0).then_some(Owner {
        tgid: header.owner_tgid,
        start_ns: header.owner_start_ns,
        comm: header.owner_comm,
    });
    Ok(Segment {
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
        muted: header.marks & MARK_MUTED != 0,
        owner,
        cgroup: (header.cgroup_id != 0).then_some(header.cgroup_id),
        netns: (header.netns != 0).then_some(header.netns),
    })
}

fn address(octets: [u8; 16], port: u16) -> SocketAddr {
    let address = Ipv6Addr::from(octets);
    let address = address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4);
    SocketAddr::new(address, port)
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

    #[test]
    fn a_record_becomes_a_segment() {
        // The ring's memory is longer than what was captured; the rest means nothing.
        let record = bytes(header(), b"GETxxxx");
        let segment = decode(&record, 10).expect("a record");
        assert_eq!(segment.time, Timestamp(15));
        assert_eq!(segment.payload, b"GET");
        assert_eq!(segment.wire.remote, "10.0.0.1:80".parse().expect("address"));
        assert!(segment.fresh && segment.gap && !segment.muted);
        assert_eq!(segment.owner, None);
    }

    #[test]
    fn what_no_program_writes_is_refused() {
        assert_eq!(decode(&[0; 10], 0).map(|_| ()), Err(RecordError::Short));
        assert_eq!(decode(&bytes(header(), b"GE"), 0).map(|_| ()), Err(RecordError::Short));
        let mut longer = header();
        longer.captured = 9;
        assert_eq!(decode(&bytes(longer, b"GETxxxxxxx"), 0).map(|_| ()), Err(RecordError::Value("length")));
        let mut odd = header();
        odd.class = 99;
        assert_eq!(decode(&bytes(odd, b"GET"), 0).map(|_| ()), Err(RecordError::Value("class")));
        let mut odd = header();
        odd.direction = 2;
        assert_eq!(decode(&bytes(odd, b"GET"), 0).map(|_| ()), Err(RecordError::Value("direction")));
    }

    #[test]
    fn the_fuzz_corpus_decodes_or_is_refused() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/record");
        let mut decoded = 0;
        for file in std::fs::read_dir(corpus).expect("there") {
            let bytes = std::fs::read(file.expect("a file").path()).expect("readable");
            for length in 0..bytes.len() {
                let _ = decode(&bytes[length..], 0);
                decoded += usize::from(decode(&bytes[..length], 0).is_ok());
            }
        }
        assert!(decoded > 0, "the corpus has records");
    }
}
