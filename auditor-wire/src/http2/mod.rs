//! HTTP/2 (RFC 9113): frames of one direction, header blocks, and heads in the form that HTTP/1.1 has them.

pub mod hpack;
