//! Any bytes as a state file, and as list of sections and body of one whose checksum fits: no panic, all of it or nothing, and what was
//! read is read again when it is saved.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;

// The reader's own file: the crate it is part of would bring the whole daemon with it.
#[path = "../../auditor/src/state/file.rs"]
mod file;

use file::{Sections, Snapshot};

/// The first byte says what the others are.
fn check(bytes: &[u8]) {
    let Some((how, bytes)) = bytes.split_first() else { return };
    let parsed = if how % 2 == 0 { Sections::parse(bytes) } else { Sections::parse(&with_checksum(bytes)) };
    let Ok(mut sections) = parsed else { return };
    let names: Vec<String> = sections.names().map(str::to_owned).collect();
    let values: Vec<Option<Value>> = names.iter().map(|name| sections.take(name, 1)).collect();
    assert_eq!(sections.names().count(), 0, "each is taken once");
    if let Some(value) = values.into_iter().flatten().next() {
        let saved = Snapshot::new().with("one", 1, value).into_bytes().expect("a value of JSON");
        let mut again = Sections::parse(&saved).expect("what is saved can be read");
        // Not compared: numbers with a fraction may come back as their neighbours.
        assert!(again.take::<Value>("one", 1).is_some());
    }
}

/// A file whose list of sections is the first line, and whose body is the rest.
fn with_checksum(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (sections, body) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    let header = format!(
        r#"{{"format":"zero-trust-auditor-state","version":1,"saved":"2026-11-22T01:23:45Z","blake3":"{}","sections":"#,
        blake3::hash(body)
    );
    [header.as_bytes(), sections, b"}\n", body].concat()
}

fuzz_target!(|bytes: &[u8]| check(bytes));
