//! The bytes both sides of the kernel boundary agree on: record layouts, names of maps, programs and globals, counters.
//!
//! Nothing here decides anything. Every field is a plain integer or byte array: no Rust enum or bool may cross the
//! boundary, because a value outside its range would be undefined behaviour.
#![no_std]
#![forbid(unsafe_code)]

pub mod counters;
pub mod layout;
pub mod names;
pub mod plaintext;
pub mod probes;
pub mod record;
pub mod repeat;
pub mod syscalls;
