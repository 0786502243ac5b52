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
    /// Hash of method and path of the call it last sent it with.
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
    pub(super) fn is_service(
        &self,
        workloads: &Workloads,
        called: Option<WorkloadId>,
        now: u32,
        window: u32,
    ) -> bool {
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
    /// gateway, whichever of the two calls is seen first.
    pub(super) fn used(&mut self, key: u64, ends: Ends, call: u32, now: u32, workloads: &mut Workloads) {
        if ends.source.is_none() && ends.destination.is_none() {
            return;
        }
        if self.known.get(&key).is_none() {
            self.known.insert(key, Vec::with_capacity(2));
        }
        let Some(peers) = self.known.get(&key) else { return };
        let to_itself = ends.source == ends.destination;
        if let Some(source) = ends.source {
            let peer = part(peers, source);
            if !within(peer.sent, now, self.window) {
                peer.sent_first = now;
            }
            (peer.sent, peer.sent_call) = (now, call);
            if !to_itself && within(peer.received, now, HOP) && peer.received_call == call {
                workloads.gateway(source, now);
            }
        }
        if let Some(destination) = ends.destination {
            let peer = part(peers, destination);
            (peer.received, peer.received_call) = (now, call);
            if !to_itself && within(peer.sent, now, HOP) && peer.sent_call == call {
                workloads.gateway(destination, now);
            }
        }
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
