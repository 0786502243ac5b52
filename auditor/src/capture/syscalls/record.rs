//! Decodes records of system calls ([`auditor_abi::syscalls`]). Nothing is believed that is not checked.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use auditor_abi::{
    record::{MARK_FRESH, MARK_GAP, MARK_MUTED},
    syscalls::{PATH_MAX, SyscallHeader},
};
use auditor_wire::segment::{Class, Direction, Endpoints, Owner, Segment, SocketId, Timestamp};
use zerocopy::FromBytes as _;

use super::UnixSocket;
use crate::capture::record::{RecordError, class, direction};

/// An `AF_UNIX` socket has no address of IP: this one stands for none, in segments alone.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// One record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The bytes that were moved.
    pub segment: Segment<'a>,
    header: SyscallHeader,
}

/// Decodes one record. `epoch_offset_ns` is what brings its monotonic clock to the Unix epoch.
///
/// # Errors
/// When the bytes are no record.
pub fn decode(bytes: &[u8], epoch_offset_ns: u64) -> Result<Record<'_>, RecordError> {
    let (header, rest) = SyscallHeader::read_from_prefix(bytes).map_err(|_| RecordError::Short)?;
    let captured = usize::try_from(header.captured).map_err(|_| RecordError::Short)?;
    let payload = rest.get(..captured).ok_or(RecordError::Short)?;
    if header.captured > header.length {
        return Err(RecordError::Value("length"));
    }
    if usize::try_from(header.path_length).is_ok_and(|length| length > PATH_MAX) {
        return Err(RecordError::Value("path"));
    }
    let direction = direction(header.direction)?;
    let class = class(header.class)?;
    if matches!(class, Class::Tls | Class::TlsHeader) {
        return Err(RecordError::Value("class"));
    }
    let nowhere = Endpoints { local: NOWHERE, remote: NOWHERE };
    let segment = Segment {
        time: Timestamp(header.time_ns.wrapping_add(epoch_offset_ns)),
        socket: SocketId::unix(header.inode),
        direction,
        wire: nowhere,
        endpoints: nowhere,
        sequence: header.offset,
        syn: false,
        // The end of what comes in; when the server closes is not seen.
        fin: class == Class::Unclassified,
        rst: false,
        length: header.length,
        payload,
        class,
        fresh: header.marks & MARK_FRESH != 0,
        gap: header.marks & MARK_GAP != 0,
        complete_source: false,
        passed_over: None,
        repeat: None,
        muted: header.marks & MARK_MUTED != 0,
        owner: owner(header.owner_tgid, header.owner_start_ns, header.owner_comm),
        cgroup: known(header.owner_cgroup_id),
        netns: None,
    };
    Ok(Record { segment, header })
}

/// The bytes of the ring's memory that are the record: the rest means nothing.
#[must_use]
pub fn used(memory: &[u8]) -> Option<&[u8]> {
    let (header, _) = SyscallHeader::ref_from_prefix(memory).ok()?;
    memory.get(..size_of::<SyscallHeader>() + usize::try_from(header.captured).ok()?)
}

impl Record<'_> {
    /// What the record tells of its socket.
    #[must_use]
    pub fn socket(&self) -> UnixSocket {
        let header = &self.header;
        let length = usize::try_from(header.path_length).unwrap_or(PATH_MAX);
        UnixSocket {
            path: path(header.path.get(..length).unwrap_or_default()),
            peer: owner(header.peer_tgid, header.peer_start_ns, header.peer_comm),
            peer_cgroup: known(header.peer_cgroup_id),
        }
    }

    /// The segment with which the connection began, to say who opened it. For the first of a connection that is known from its
    /// beginning.
    #[must_use]
    pub fn opening(&self) -> Option<Segment<'static>> {
        (self.segment.fresh && self.segment.sequence == 0).then_some(Segment {
            direction: Direction::Ingress,
            sequence: 0,
            syn: true,
            fin: false,
            length: 0,
            payload: &[],
            class: Class::Unclassified,
            gap: false,
            muted: false,
            ..self.segment_without_payload()
        })
    }

    fn segment_without_payload(&self) -> Segment<'static> {
        Segment { payload: &[], ..self.segment }
    }
}

fn owner(tgid: u32, start_ns: u64, comm: [u8; 16]) -> Option<Owner> {
    (tgid != 0).then_some(Owner { tgid, start_ns, comm })
}

fn known(id: u64) -> Option<u64> {
    (id != 0).then_some(id)
}

/// A socket's address as people write it: with `@` for the zero byte that begins one in the abstract name space (unix(7)).
fn path(bytes: &[u8]) -> Option<Arc<str>> {
    let (mark, bytes) = match bytes {
        [] => return None,
        [0, name @ ..] => ("@", name),
        path => ("", path.split(|byte| *byte == 0).next().unwrap_or_default()),
    };
    let printable = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let text: String = mark.chars().chain(String::from_utf8_lossy(bytes).chars().map(printable)).collect();
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use auditor_abi::record::{CLASS_END, CLASS_REQUEST, CLASS_TLS};
    use proptest::prelude::*;
    use zerocopy::{FromZeros as _, IntoBytes as _};

    use super::*;

    fn header() -> SyscallHeader {
        let mut header = SyscallHeader::new_zeroed();
        (header.time_ns, header.inode, header.length, header.captured) = (5, 7, 4, 3);
        (header.class, header.direction, header.marks) = (CLASS_REQUEST, 1, MARK_FRESH | MARK_GAP);
        (header.owner_tgid, header.peer_tgid, header.peer_cgroup_id) = (9, 10, 11);
        header.path[..17].copy_from_slice(b"/run/docker.sock\0");
        header.path_length = 17;
        header
    }

    #[test]
    fn a_record_is_decoded() {
        // The ring's memory is longer than what was captured; the rest means nothing.
        let memory = [header().as_bytes(), b"GETxxxx"].concat();
        let record = decode(used(&memory).expect("a header"), 10).expect("a record");
        let segment = record.segment;
        assert_eq!((segment.time, segment.payload, segment.length), (Timestamp(15), b"GET".as_slice(), 4));
        assert!(segment.socket.is_unix() && segment.fresh && segment.gap && !segment.fin);
        assert_eq!(segment.owner.map(|owner| owner.tgid), Some(9));
        let socket = record.socket();
        assert_eq!(socket.path.as_deref(), Some("/run/docker.sock"));
        assert_eq!((socket.peer.map(|peer| peer.tgid), socket.peer_cgroup), (Some(10), Some(11)));
        let opening = record.opening().expect("it is the first");
        assert!(opening.syn && opening.length == 0 && opening.direction == Direction::Ingress);
    }

    #[test]
    fn the_end_of_what_comes_in_is_told() {
        let mut end = header();
        (end.class, end.length, end.captured, end.offset) = (CLASS_END, 0, 0, 4);
        let bytes = end.as_bytes().to_vec();
        let record = decode(&bytes, 0).expect("a record");
        assert!(record.segment.fin && record.opening().is_none());
    }

    #[test]
    fn paths_are_shown_as_people_write_them() {
        let shown = |bytes: &[u8]| path(bytes).map(|path| path.to_string());
        assert_eq!(shown(b""), None);
        assert_eq!(shown(b"docker.sock\0").as_deref(), Some("docker.sock"));
        assert_eq!(shown(b"\0name").as_deref(), Some("@name"));
        assert_eq!(shown(b"\0").as_deref(), Some("@"));
        assert_eq!(shown(b"/a\x1b[0m\xff").as_deref(), Some("/a\u{fffd}[0m\u{fffd}"));
    }

    #[test]
    fn what_the_program_does_not_write_is_refused() {
        type Change = fn(&mut SyscallHeader);
        let changes: [(&str, Change); 5] = [
            ("class", |h| h.class = 99),
            ("class", |h| h.class = CLASS_TLS),
            ("direction", |h| h.direction = 2),
            ("length", |h| h.length = 2),
            ("path", |h| h.path_length = 109),
        ];
        for (name, change) in changes {
            let mut header = header();
            change(&mut header);
            let bytes = [header.as_bytes(), b"GET"].concat();
            assert_eq!(decode(&bytes, 0).map(|_| ()), Err(RecordError::Value(name)));
        }
        assert_eq!(decode(&[0; 10], 0).map(|_| ()), Err(RecordError::Short));
        assert_eq!(decode(&[header().as_bytes(), b"GE"].concat(), 0).map(|_| ()), Err(RecordError::Short));
        assert_eq!(used(&[0; 10]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(0_u8..9, 0..400)) {
            if let Ok(record) = decode(&bytes, 0) {
                prop_assert!(record.segment.payload.len() <= record.segment.length as usize);
                let _ = (record.socket(), record.opening());
            }
        }
    }
}
