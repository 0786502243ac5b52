//! What is known across calls, in a form that can be saved and restored. It holds fingerprints and names of workloads, no
//! secret. Fingerprints mean something only under the key they were made with: a restored state is of use only with the same
//! `credentials.fingerprint_key_file`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    CrossCall, Reach,
    credentials::{PEERS, Peer},
    edges::Use,
    workloads::{WorkloadId, within},
};

/// Longest name of a workload that is taken, bytes.
const NAME_BYTES: usize = 256;

/// Name of its section in the saved state.
pub const SECTION: &str = "cross-calls";
/// Version of that section.
pub const SECTION_VERSION: u32 = 1;

/// All of it. Times are seconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// When edges were first learned.
    pub learning_since: u32,
    /// Workloads that are known to pass calls on, or to be called.
    pub workloads: Vec<WorkloadState>,
    /// Credentials, and who had them.
    pub credentials: Vec<CredentialState>,
    /// Who is served by whom without proof of identity.
    pub edges: Vec<EdgeState>,
}

/// One workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadState {
    /// Its name.
    pub name: Arc<str>,
    /// When it was last called; 0 is never.
    pub called: u32,
    /// When it last sent a call on as it came; 0 is never.
    pub gateway: u32,
}

/// One credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialState {
    /// Its fingerprint, 16 hexadecimal digits.
    pub fingerprint: Box<str>,
    /// Who had it.
    pub peers: Vec<PeerState>,
}

/// A workload's part in the travels of one credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerState {
    /// Its name.
    pub workload: Arc<str>,
    /// When it first sent it; 0 is never.
    pub sent_first: u32,
    /// When it last sent it; 0 is never.
    pub sent: u32,
    /// When it was last sent it; 0 is never.
    pub received: u32,
}

/// One edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeState {
    /// Who calls.
    pub source: Arc<str>,
    /// Who is called.
    pub destination: Arc<str>,
    /// How far the calls go.
    pub reach: Reach,
    /// When it was first seen.
    pub first: u32,
    /// When it was last seen.
    pub last: u32,
    /// It appeared after the learning.
    pub is_new: bool,
}

impl CrossCall {
    /// What is known, without what has expired.
    pub(in crate::policy) fn snapshot(&self) -> State {
        let name = |id: WorkloadId| self.workloads.peek(id).map(|workload| Arc::clone(&workload.name));
        let workloads = self.workloads.iter().map(|known| WorkloadState {
            name: Arc::clone(&known.name),
            called: known.called,
            gateway: known.gateway,
        });
        let peer = |peer: &Peer| {
            let Peer { sent_first, sent, received, .. } = *peer;
            let live = within(sent.max(received), self.now, self.window);
            live.then(|| name(peer.workload).map(|workload| PeerState { workload, sent_first, sent, received }))?
        };
        let credentials = self.credentials.iter().map(|(key, peers)| CredentialState {
            fingerprint: format!("{key:016x}").into(),
            peers: peers.iter().filter_map(peer).collect(),
        });
        let edges = self.edges.iter().filter_map(|((source, destination, reach), seen)| {
            let (source, destination) = (name(*source)?, name(*destination)?);
            let Use { first, last, is_new } = *seen;
            Some(EdgeState { source, destination, reach: *reach, first, last, is_new })
        });
        State {
            learning_since: self.edges.learning_since,
            workloads: workloads.collect(),
            credentials: credentials.filter(|known| !known.peers.is_empty()).collect(),
            edges: edges.collect(),
        }
    }

    /// Takes over what was known. What makes no sense (names that are empty or too long, times that are to come, fingerprints
    /// that are none) and what is past the limits is left out.
    pub(in crate::policy) fn restore(&mut self, state: State, now: u32) {
        self.now = self.now.max(now).max(1);
        let past = |time: u32| if time <= now { time } else { 0 };
        self.edges.learning_since = match past(state.learning_since) {
            0 => self.now,
            since => since,
        };
        for known in state.workloads {
            if let Some(id) = self.named(&known.name) {
                self.workloads.restore(id, past(known.called), past(known.gateway));
            }
        }
        for known in state.credentials {
            let Some(key) = super::fingerprint(&known.fingerprint).filter(|_| !self.credentials.is_full()) else {
                continue;
            };
            let mut peers = Vec::with_capacity(known.peers.len().min(PEERS));
            for peer in known.peers.into_iter().take(PEERS) {
                let Some(workload) = self.named(&peer.workload) else { continue };
                let (sent_first, sent) = (past(peer.sent_first), past(peer.sent));
                peers.push(Peer::new(workload).with_times(sent_first, sent, past(peer.received)));
            }
            self.credentials.restore(key, peers);
        }
        for edge in state.edges.into_iter().filter(|edge| edge.first <= edge.last && past(edge.last) != 0) {
            if let (Some(source), Some(destination)) = (self.named(&edge.source), self.named(&edge.destination)) {
                let EdgeState { first, last, is_new, reach, .. } = edge;
                self.edges.restore((source, destination, reach), Use { first, last, is_new });
            }
        }
    }

    fn named(&mut self, name: &Arc<str>) -> Option<WorkloadId> {
        let fits = (1..=NAME_BYTES).contains(&name.len());
        fits.then(|| self.workloads.note(name, self.now))
    }
}
