//! The kernel as the auditor finds it, and the programs it runs there.

pub mod loader;
