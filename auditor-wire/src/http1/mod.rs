//! HTTP/1.0 and 1.1 (RFC 9112): heads, the framing of bodies, and the stream of one direction.

mod chunked;
pub mod framing;
pub mod head;
pub mod stream;
mod words;
