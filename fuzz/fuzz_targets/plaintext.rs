//! Any bytes as records of plaintext on the sockets of one TLS connection: no panic, segments of plaintext alone, and a tracker that
//! takes them.
#![no_main]

use auditor_wire::{
    limits::Limits,
    segment::{Class, Direction, Endpoints, Segment, SocketId, Timestamp},
    tracker::Tracker,
};
use libfuzzer_sys::fuzz_target;

// The decoder's own files: the crate they are part of would bring the whole daemon with it.
#[expect(dead_code, reason = "records of plaintext share only the names of directions and classes with it")]
#[path = "../../auditor/src/capture/record.rs"]
mod packets;
mod capture {
    pub(crate) use super::packets as record;
}
#[expect(dead_code, reason = "the library of a record is for the metrics of the daemon")]
#[path = "../../auditor/src/plaintext/record.rs"]
mod record;
#[path = "../../auditor/src/plaintext/sessions.rs"]
mod sessions;

/// Bytes of one record: the header and a short payload.
const RECORD: usize = size_of::<auditor_abi::plaintext::PlaintextHeader>() + 64;

fuzz_target!(|bytes: &[u8]| {
    let mut tracker = Tracker::new(Limits::default());
    let mut sessions = sessions::Sessions::new(4);
    // A ClientHello with a random of zeroes, at both ends.
    let hello = [&[0x16, 3, 1, 0, 60, 1, 0, 0, 56, 3, 3][..], &[0; 32]].concat();
    for (socket, direction) in [(1, Direction::Egress), (2, Direction::Ingress)] {
        sessions.packet(&packet(SocketId(socket), direction, &hello));
    }
    for bytes in bytes.chunks(RECORD) {
        if let Ok(record) = record::decode(bytes) {
            let _ = sessions.proof(&record);
            sessions.record(&record, Some(Timestamp(0)), 0, &mut |segment| {
                assert!(segment.socket.is_plaintext() && segment.payload.len() <= segment.length as usize);
                tracker.segment(segment, &mut |_| {});
            });
        }
    }
    sessions.advance(Timestamp(u64::MAX), &mut |segment| tracker.segment(segment, &mut |_| {}));
    assert!(sessions.left_out().count() > 0);
    tracker.finish(&mut |_| {});
    assert_eq!(tracker.tracked().buffered_bytes, 0);
});

fn packet(socket: SocketId, direction: Direction, payload: &[u8]) -> Segment<'_> {
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let endpoints = Endpoints { local, remote: local };
    Segment {
        time: Timestamp(1),
        socket,
        direction,
        wire: endpoints,
        endpoints,
        sequence: 1,
        syn: false,
        fin: false,
        rst: false,
        length: 43,
        payload,
        class: Class::Tls,
        fresh: true,
        gap: false,
        complete_source: false,
        passed_over: None,
        repeat: None,
        muted: true,
        owner: None,
        cgroup: None,
        netns: None,
    }
}
