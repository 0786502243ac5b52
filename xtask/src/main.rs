//! Set-up, builds, tests and benches.
fn main() {}
