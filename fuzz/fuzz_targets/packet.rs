#![no_main]
//! See `auditor_wire::fuzz::packet`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| auditor_wire::fuzz::packet(data));
