//! Any bytes as a Go table of functions and as machine code: no panic, bounded work, and nothing outside of what was given.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The readers' own files: the crate they are part of would bring the whole daemon with it.
#[path = "../../auditor/src/plaintext/code.rs"]
mod code;
#[path = "../../auditor/src/plaintext/gopclntab.rs"]
mod gopclntab;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(table) = gopclntab::Table::parse(bytes) {
        let _ = table.text_start();
        let found = table.find(["crypto/tls.(*Conn).Write", "crypto/tls.(*Conn).Read"]);
        assert!(found.into_iter().flatten().all(|function| function.start < function.end));
    }
    let in_session = |place: code::Place| place.pointer.into_iter().chain([place.field]).all(|field| field < 1 << 16);
    assert!(code::argument_address(bytes).is_none_or(in_session));
    assert!(code::first_argument_address(bytes).is_none_or(in_session));
    assert!(code::argument_value(bytes).is_none_or(|field| field < 1 << 16));
    assert!(code::argument_flag(bytes).is_none_or(|flag| flag.field < 1 << 16 && flag.mask != 0));
    if let Some(returns) = code::returns(bytes) {
        assert!(returns.iter().all(|at| *at < bytes.len() as u64));
    }
    let _ = code::behind_stack_check(bytes);
});
