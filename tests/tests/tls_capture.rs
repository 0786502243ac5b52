//! What the kernel programs capture of TLS connections, against what was sent.

use std::process::Command;

use auditor_tests::{process::output, tools::require_root};

#[test]
fn every_record_header_of_a_tls_connection_is_captured_as_it_was_sent() {
    require_root().unwrap();
    let said = output(Command::new(env!("CARGO_BIN_EXE_tls-case")).args(["1", "60"])).unwrap();
    assert!(said.starts_with("tls-case: 60 connections, "), "{said}");
}
