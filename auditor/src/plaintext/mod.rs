//! TLS plaintext, read with uprobes where it is asked for: which files hold a TLS library ([`elf`], [`gopclntab`], [`code`]),
//! which processes map them ([`mappings`], [`finder`]), which socket a session is on ([`sessions`]). Bytes become ordinary
//! segments of a socket of their own; nothing here reads HTTP or knows credentials.

pub mod code;
pub mod elf;
pub mod finder;
pub mod gopclntab;
pub mod mappings;
pub mod record;
pub mod sessions;
pub mod source;

#[cfg(test)]
mod sessions_tests;
