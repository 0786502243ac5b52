#![no_main]
//! See `auditor_wire::fuzz::reassembly`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| auditor_wire::fuzz::reassembly(data));
