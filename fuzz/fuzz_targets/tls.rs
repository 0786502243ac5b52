#![no_main]
//! See `auditor_wire::fuzz::tls`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| auditor_wire::fuzz::tls(data));
