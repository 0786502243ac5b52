//! Any bytes as ring records, one after the other as the ring would give them: no panic, and a tracker that takes whatever
//! decodes.
#![no_main]

use auditor_wire::{limits::Limits, tracker::Tracker};
use libfuzzer_sys::fuzz_target;

// The decoder's own file: the crate it is part of would bring the whole daemon with it.
#[path = "../../auditor/src/capture/record.rs"]
mod record;

/// Bytes of one record: the header and a short payload.
const RECORD: usize = size_of::<auditor_abi::record::RecordHeader>() + 64;

fuzz_target!(|bytes: &[u8]| {
    let mut tracker = Tracker::new(Limits::default());
    for bytes in bytes.chunks(RECORD) {
        for segment in record::decode(bytes, 0).into_iter().flatten() {
            assert!(segment.payload.len() <= segment.length as usize);
            tracker.segment(&segment, &mut |_| {});
        }
    }
    tracker.finish(&mut |_| {});
    assert_eq!(tracker.tracked().buffered_bytes, 0);
});
