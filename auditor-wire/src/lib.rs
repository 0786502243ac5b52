//! From packets to exchanges, sans-IO: every function takes bytes and the caller's timestamps and returns values. No clock, no
//! file, no socket, no thread; all input is hostile, all memory is bounded by [`Limits`](limits::Limits).
#![forbid(unsafe_code)]

mod buffer;
pub mod detect;
pub mod exchange;
#[doc(hidden)]
pub mod fuzz;
pub mod http1;
pub mod http2;
pub mod limits;
pub mod packet;
pub mod reassembly;
pub mod segment;
pub mod tls;
pub mod tracker;
