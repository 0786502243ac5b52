#![no_main]
//! See `auditor_wire::fuzz::http2`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| auditor_wire::fuzz::http2(data));
