//! HTTP/2 (RFC 9113): frames of one direction, header blocks, and heads in the form that HTTP/1.1 has them.

pub mod frame;
pub mod head;
pub mod hpack;
pub mod stream;

/// A frame: what tests make their streams of.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[a, b, c, kind, flags], &stream.to_be_bytes()[..], payload].concat()
}
