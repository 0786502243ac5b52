//! Postures of TLS endpoints: bounded, and forgotten when they are not seen any more.

use std::collections::{BTreeSet, HashMap};

use super::{
    super::posture::{Evidence, Posture},
    names::NameId,
};
use crate::judgement::{Address, Party, Tls};

/// A server that was connected to. Hashed with the standard library's keyed hash: peers choose ports and addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Endpoint {
    workload: NameId,
    /// Where nothing is known of the workload.
    address: Option<Address>,
    port: u16,
}

/// The endpoints, each with what its handshakes showed and when the last was.
#[derive(Debug)]
pub(super) struct Postures {
    endpoints: HashMap<Endpoint, (Evidence, u32)>,
    limit: usize,
    /// Connections of endpoints past the limit: their postures cannot be told together, so nothing is said of them.
    pub(super) folded: u64,
}

impl Postures {
    pub(super) fn new(limit: usize) -> Self {
        Self { endpoints: HashMap::new(), limit, folded: 0 }
    }

    pub(super) fn count(&mut self, tls: &Tls, destination: &Party, workload: NameId, now: u32) {
        let address = (workload == NameId::UNKNOWN).then_some(destination.address);
        let endpoint = Endpoint { workload, address, port: destination.port };
        let full = self.endpoints.len() >= self.limit && !self.endpoints.contains_key(&endpoint);
        if full || workload == NameId::OTHER {
            self.folded += 1;
            return;
        }
        let (evidence, used) = self.endpoints.entry(endpoint).or_default();
        evidence.add(&tls.client, now);
        *used = now;
    }

    pub(super) fn expire(&mut self, oldest: u32) {
        self.endpoints.retain(|_, (_, used)| *used >= oldest);
    }

    pub(super) fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// The postures of each workload's endpoints by what was seen since `oldest`.
    pub(super) fn snapshot(&self, oldest: u32) -> Vec<(NameId, Posture)> {
        let each = self.endpoints.iter();
        let all: BTreeSet<_> = each.map(|(at, (evidence, _))| (at.workload, evidence.posture(oldest))).collect();
        all.into_iter().collect()
    }
}
