//! Expected output kept in files beside the code. `BLESS=1` writes what came out instead of comparing.

use std::{fs, path::Path};

/// Compares `text` with the file `name` in the folder `golden`.
#[track_caller]
pub(crate) fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sinks/golden").join(name);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, text).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == text,
        "{name} is not as expected; BLESS=1 rewrites it.\n== expected\n{expected}\n== actual\n{text}"
    );
}
