//! From packets to exchanges, sans-IO: every function takes bytes and the caller's timestamps and returns values. No clock, no
//! file, no socket, no thread; all input is hostile, all memory is bounded by [`Limits`](limits::Limits).
#![forbid(unsafe_code)]

pub mod exchange;
pub mod limits;
pub mod packet;
pub mod segment;
pub mod tracker;
