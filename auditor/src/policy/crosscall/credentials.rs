//! Who sent a credential, and who was sent it.

use super::{
    Ends, HOP, Held, SETTLED,
    workloads::{WorkloadId, Workloads, within},
};
use crate::{cache::Cache, hash::BuildMix};

/// Workloads that are remembered of one credential.
pub(super) const PEERS: usize = 16;

/// A workload's part in the travels of one credential. Times are seconds since the Unix epoch; 0 is never.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) workload: WorkloadId,
    pub(super) sent_first: u32,
    pub(super) sent: u32,
    pub(super) received: u32,
    /// Hash of method and last path segment of the call it last sent it with.
    sent_call: u32,
    /// The same of the call it was last sent it with.
    received_call: u32,
}

#[derive(Debug)]
pub(super) struct Credentials {
    /// By fingerprint.
    known: Cache<u64, Vec<Peer>, BuildMix>,
    window: u32,
}

impl Peer {
    pub(super) fn new(workload: WorkloadId) -> Self {
        Self { workload, sent_first: 0, sent: 0, received: 0, sent_call: 0, received_call: 0 }
    }

    /// The same with what is known of earlier.
    pub(super) fn with_times(self, sent_first: u32, sent: u32, received: u32) -> Self {
        Self { sent_first, sent, received, ..self }
    }

    fn last(&self) -> u32 {
        self.sent.max(self.received)
    }

    /// It sends a credential that nobody sent it.
    pub(super) fn is_user(&self, workloads: &Workloads, now: u32, window: u32) -> bool {
        let alone = within(self.sent, now, window) && !within(self.received, now, window);
        alone
            && workloads.peek(self.workload).is_some_and(|workload| {
                !workload.is_gateway(now, window) && (!workload.is_called(now, window) || self.has_settled(now))
            })
    }

    /// It was sent the credential for itself. Of a workload that began to send it on just now that is known only at the calls
    /// it gets, of which `called` is the destination.
    pub(super) fn is_service(&self, workloads: &Workloads, called: Option<WorkloadId>, now: u32, window: u32) -> bool {
        within(self.received, now, window)
            && (self.sent == 0 || called == Some(self.workload) || self.has_settled(now))
            && workloads.peek(self.workload).is_some_and(|workload| !workload.is_gateway(now, window))
    }

    fn has_settled(&self, now: u32) -> bool {
        now.saturating_sub(self.sent_first) >= SETTLED
    }
}

impl Credentials {
    pub(super) fn new(limit: usize, window: u32) -> Self {
        Self { known: Cache::new(limit), window }
    }

    pub(super) fn held(&self) -> Held {
        let known = &self.known;
        Held { kind: "credentials", count: known.len(), limit: known.limit(), evicted: known.evicted() }
    }

    pub(super) fn known(&self, key: u64) -> Option<&[Peer]> {
        self.known.peek(&key).map(Vec::as_slice)
    }

    /// A credential went from one end to the other with the call of this hash. Who sends a call on as it came is noted as a
    /// gateway, whichever of the two calls is seen first. What a workload sends to itself goes nowhere. Gives who is known to have had it.
    pub(super) fn used(
        &mut self,
        key: u64,
        ends: Ends,
        call: u32,
        now: u32,
        workloads: &mut Workloads,
    ) -> Option<&[Peer]> {
        // Also where neither is known.
        if ends.source == ends.destination {
            return self.known(key);
        }
        let peers = self.known.get_or_insert_with(key, || Vec::with_capacity(2));
        if let Some(source) = ends.source {
            let peer = part(peers, source);
            if !within(peer.sent, now, self.window) {
                peer.sent_first = now;
            }
            (peer.sent, peer.sent_call) = (now, call);
            if within(peer.received, now, HOP) && peer.received_call == call {
                workloads.gateway(source, now);
            }
        }
        if let Some(destination) = ends.destination {
            let peer = part(peers, destination);
            (peer.received, peer.received_call) = (now, call);
            if within(peer.sent, now, HOP) && peer.sent_call == call {
                workloads.gateway(destination, now);
            }
        }
        Some(peers)
    }

    pub(super) fn sweep(&mut self, now: u32, steps: usize) {
        let window = self.window;
        self.known.sweep(steps, |_, peers| !peers.iter().any(|peer| within(peer.last(), now, window)));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &[Peer])> {
        self.known.iter().map(|(key, peers)| (*key, peers.as_slice()))
    }

    pub(super) fn is_full(&self) -> bool {
        self.known.len() >= self.known.limit()
    }

    pub(super) fn restore(&mut self, key: u64, peers: Vec<Peer>) {
        self.known.insert(key, peers);
    }
}

/// A workload's part; when there are too many, in place of the one that was not seen longest.
fn part(peers: &mut Vec<Peer>, workload: WorkloadId) -> &mut Peer {
    let known = peers.iter().position(|peer| peer.workload == workload);
    let at = known.unwrap_or_else(|| {
        if peers.len() < PEERS {
            peers.push(Peer::new(workload));
            return peers.len() - 1;
        }
        let oldest = peers.iter().enumerate().min_by_key(|(_, peer)| peer.last()).map_or(0, |(at, _)| at);
        peers[oldest] = Peer::new(workload);
        oldest
    });
    &mut peers[at]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LIMIT: usize = 65_536;

    #[test]
    fn a_million_credentials_take_no_more_than_the_limit_and_those_in_use_stay() {
        let mut workloads = Workloads::new();
        let names: [Arc<str>; 3] = ["a".into(), "b".into(), "s".into()];
        let [a, b, service] = names.map(|name| workloads.note(&name, 1));
        let ends = |source| Ends { source: Some(source), destination: Some(service) };
        let mut credentials = Credentials::new(LIMIT, 3600);
        let shared = u64::MAX;
        credentials.used(shared, ends(a), 0, 1, &mut workloads);
        for key in 0..1_000_000 {
            credentials.used(key, ends(a), 0, 1, &mut workloads);
            if key % 30_000 == 0 {
                credentials.used(shared, ends(b), 0, 1, &mut workloads);
            }
        }
        let held = credentials.held();
        assert_eq!((held.count, held.limit, held.evicted), (LIMIT, LIMIT, 1_000_001 - LIMIT as u64));
        let peers = credentials.known(shared).expect("used within each round");
        let users = peers.iter().filter(|peer| peer.is_user(&workloads, 1, 3600)).count();
        assert_eq!((peers.len(), users), (3, 2));
        let bytes: usize = credentials.iter().map(|(_, peers)| size_of_val(peers)).sum();
        let each = bytes / LIMIT + size_of::<(u64, Vec<Peer>, bool)>() + 2 * size_of::<(u64, usize)>();
        assert!(each <= 200, "{each} bytes for each");
    }

    #[test]
    fn of_many_workloads_with_one_credential_the_latest_are_known() {
        let mut workloads = Workloads::new();
        let mut credentials = Credentials::new(LIMIT, 3600);
        for number in 0..100 {
            let name: Arc<str> = format!("w{number}").into();
            let source = Some(workloads.note(&name, 1));
            credentials.used(7, Ends { source, destination: None }, 0, 1 + number, &mut workloads);
        }
        let peers = credentials.known(7).expect("known");
        assert!(peers.len() == PEERS && peers.iter().all(|peer| peer.sent > 100 - 17), "{peers:?}");
        credentials.used(8, Ends { source: None, destination: None }, 0, 1, &mut workloads);
        assert!(credentials.known(8).is_none(), "nobody had it");
        credentials.sweep(101 + 3600, 10);
        assert!(credentials.known(7).is_none(), "expired");
    }
}
