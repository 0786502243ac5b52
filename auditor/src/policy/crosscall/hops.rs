//! The same call before and behind a workload that sends it on, known by the id that travels with it.
//!
//! Two calls are the same where a request or trace id is the same, and method and path are. A service that makes calls of its
//! own within a trace makes them to other paths.

use auditor_wire::exchange::Head;

use super::{
    HOP, Held,
    workloads::{WorkloadId, within},
};
use crate::{cache::Cache, hash::BuildMix};

/// Calls that wait for the other side.
const LIMIT: usize = 8192;
/// Ids that are looked at of one call.
const IDS: usize = 3;
/// Shorter ones are not unique; bytes.
const SHORTEST: usize = 8;
const LONGEST: usize = 256;

/// Which side of the workload in between a call is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// To it, with a credential.
    In,
    /// From it, without.
    Out,
}

#[derive(Debug)]
struct Waiting {
    side: Side,
    /// Who is at the other end.
    other: Option<WorkloadId>,
    time: u32,
}

/// Calls whose other side has not been seen.
#[derive(Debug)]
pub(super) struct Hops {
    /// By the keyed hash of the workload in between, the id, the method and the path.
    waiting: Cache<u64, Waiting, BuildMix>,
}

impl Hops {
    pub(super) fn new() -> Self {
        Self { waiting: Cache::new(LIMIT) }
    }

    pub(super) fn held(&self) -> Held {
        let waiting = &self.waiting;
        Held { kind: "hops", count: waiting.len(), limit: waiting.limit(), evicted: waiting.evicted() }
    }

    /// Notes one side of a call. When the other side was seen: who was at its end, if that is known.
    pub(super) fn pass(
        &mut self,
        key: u64,
        side: Side,
        other: Option<WorkloadId>,
        now: u32,
    ) -> Option<Option<WorkloadId>> {
        match self.waiting.get(&key) {
            Some(waiting) if waiting.side != side && within(waiting.time, now, HOP) => Some(waiting.other),
            Some(waiting) => {
                *waiting = Waiting { side, other, time: now };
                None
            }
            None => {
                self.waiting.insert(key, Waiting { side, other, time: now });
                None
            }
        }
    }

    pub(super) fn sweep(&mut self, now: u32, steps: usize) {
        self.waiting.sweep(steps, |_, waiting| !within(waiting.time, now, HOP));
    }
}

/// The ids that travel with a request: `x-request-id`, `x-correlation-id`, the trace id of `traceparent` (W3C Trace Context
/// section 3.2), of Zipkin's `b3` and `x-b3-traceid`, and of `x-amzn-trace-id`.
pub(super) fn ids(head: &Head) -> impl Iterator<Item = &[u8]> {
    head.headers().filter_map(|(name, value)| id(name, value)).take(IDS)
}

fn id<'a>(name: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    let part = |separator: u8, at: usize| value.split(move |byte| *byte == separator).nth(at);
    let id = match name.len() {
        2 if is("b3") => part(b'-', 0),
        11 if is("traceparent") => part(b'-', 1),
        12 if is("x-request-id") || is("x-b3-traceid") => Some(value),
        15 if is("x-amzn-trace-id") => {
            value.split(|byte| *byte == b';').find_map(|field| field.trim_ascii().strip_prefix(b"Root="))
        }
        16 if is("x-correlation-id") => Some(value),
        _ => None,
    }?;
    let (first, rest) = id.split_first()?;
    let varies = rest.iter().any(|byte| byte != first);
    ((SHORTEST..=LONGEST).contains(&id.len()) && varies).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::id;

    #[test]
    fn ids_are_read_as_their_standards_have_them() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (name, value, expected) in [
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some(trace)),
            ("Traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", None),
            ("traceparent", "00", None),
            ("X-Request-Id", "a1b2c3d4-0001", Some("a1b2c3d4-0001")),
            ("x-request-id", "1", None),
            ("x-request-id", "11111111111", None),
            ("x-correlation-id", "order-4711-x", Some("order-4711-x")),
            ("b3", "4bf92f3577b34da6a3ce929d0e0e4736-05e3ac9a4f6e3b90-1", Some(trace)),
            ("b3", "0", None),
            ("x-b3-traceid", trace, Some(trace)),
            (
                "x-amzn-trace-id",
                "Self=1-x; Root=1-67891233-abcdef012345678912345678",
                Some("1-67891233-abcdef012345678912345678"),
            ),
            ("x-request-ix", "a1b2c3d4-0001", None),
            ("", "", None),
        ] {
            assert_eq!(id(name.as_bytes(), value.as_bytes()), expected.map(str::as_bytes), "{name}: {value}");
        }
        assert_eq!(id(b"x-request-id", &[b'a', b'b'].repeat(200)), None);
    }
}
