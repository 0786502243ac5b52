//! Hard bounds of everything that is kept between segments.

use std::time::Duration;

/// Hard bounds of the [`Tracker`](crate::tracker::Tracker). What exceeds them is given up and said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections tracked at once; beyond it the one that was quiet longest is given up.
    pub connections: usize,
    /// Bytes of heads and of waiting segments over all connections.
    pub buffered_bytes: usize,
    /// Longest head that is read, bytes.
    pub head_bytes: usize,
    /// Bytes of segments that wait for an earlier one, per direction.
    pub reorder_bytes: usize,
    /// Segments that wait for an earlier one, per direction.
    pub reorder_segments: usize,
    /// How long segments of a capture file wait for an earlier one, in traffic time. Longer than TCP's first retransmission
    /// timeouts.
    pub reorder_wait: Duration,
    /// How long segments from the kernel wait for an earlier one, in traffic time: longer than TCP takes to send a segment for the
    /// fourth time, 200, 400 and 800 ms after the one before (RFC 6298 section 5.5; `TCP_RTO_MIN`, include/net/tcp.h). What the
    /// kernel programs lost themselves is not waited for.
    pub live_reorder_wait: Duration,
    /// Requests without response on one connection.
    pub pipelined: usize,
    /// A connection without a segment for this long is given up.
    pub idle: Duration,
    /// How long a view that is not whole waits for that of the other end, in traffic time.
    pub twin_wait: Duration,
    /// Views that wait for that of the other end.
    pub held: usize,
    /// What is said of a TLS connection is kept for as long as it lasts, for calls that are read inside it.
    pub tls_plaintext: bool,
    /// TLS servers that are remembered.
    pub tls_endpoints: usize,
    /// A TLS server that nobody called for this long is forgotten.
    pub tls_endpoint_idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 65_536,
            buffered_bytes: 64 << 20,
            head_bytes: 64 << 10,
            reorder_bytes: 256 << 10,
            reorder_segments: 256,
            reorder_wait: Duration::from_secs(3),
            live_reorder_wait: Duration::from_millis(1500),
            pipelined: 1024,
            idle: Duration::from_secs(15 * 60),
            twin_wait: Duration::from_millis(200),
            held: 4096,
            tls_plaintext: false,
            tls_endpoints: 4096,
            tls_endpoint_idle: Duration::from_secs(24 * 3600),
        }
    }
}
