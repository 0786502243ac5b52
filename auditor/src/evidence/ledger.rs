//! The table of groups: found by what makes a call part of one, bounded, the least recently seen given up first.

use std::hash::{BuildHasher, Hash, Hasher};

use hashbrown::HashTable;
use jiff::{SignedDuration, Timestamp};

use super::{Event, Group, Identity, Occasion, Who, cut};
use crate::{
    hash::Keyed,
    judgement::{Finding, Judgement, Kind, Party, Severity},
};

/// No slot.
const NONE: u32 = u32::MAX;

/// Groups of findings, by what makes them one.
#[derive(Debug)]
pub struct Ledger {
    slots: Vec<Slot>,
    /// Where in `slots` a group is. The hash is keyed: peers choose what goes into it.
    table: HashTable<u32>,
    hasher: Keyed,
    /// The slots form a list, from the one seen last to the one not seen for longest.
    newest: u32,
    oldest: u32,
    limit: usize,
    evicted: u64,
    repeat: SignedDuration,
}

#[derive(Debug)]
struct Slot {
    group: Group,
    hash: u64,
    newer: u32,
    older: u32,
}

impl Ledger {
    /// An empty ledger for at most `limit` groups, each told of again after `repeat` at the earliest.
    #[must_use]
    pub fn new(limit: usize, repeat: SignedDuration) -> Self {
        Self {
            slots: Vec::new(),
            table: HashTable::new(),
            hasher: Keyed::new(),
            newest: NONE,
            oldest: NONE,
            limit: limit.clamp(1, NONE as usize),
            evicted: 0,
            repeat,
        }
    }

    /// Adds what was found of a call. `tell` is given the events it causes. Findings of one rule on one call count once, with
    /// the worst severity.
    pub fn judgement(&mut self, judgement: &Judgement, mut tell: impl FnMut(Event)) {
        for (at, finding) in judgement.findings.iter().enumerate() {
            let same = |other: &&Finding| other.rule == finding.rule;
            if judgement.findings[..at].iter().any(|other| same(&other)) {
                continue;
            }
            let worst = judgement.findings[at..].iter().filter(same).map(|other| other.severity).max();
            if let Some(event) = self.add(judgement, finding, worst.unwrap_or(finding.severity)) {
                tell(event);
            }
        }
    }

    /// Groups there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The most groups there will be.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Groups given up for others since the start.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The groups, those seen last first.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        let mut at = self.newest;
        std::iter::from_fn(move || {
            let slot = self.slots.get(at as usize)?;
            at = slot.older;
            Some(&slot.group)
        })
    }

    /// A copy of the groups seen at or after `since`. Times of calls come out of order by little: the search goes on for a while
    /// past the first older one.
    #[must_use]
    pub fn seen_since(&self, since: Timestamp) -> Vec<Group> {
        let slack = SignedDuration::from_secs(60);
        self.groups()
            .take_while(|group| group.seen.last.duration_since(since) >= -slack)
            .filter(|group| group.seen.last >= since)
            .cloned()
            .collect()
    }

    /// Puts back a group that was saved, as the one seen last; call it with the oldest first. A group that is there already, and
    /// those past the limit, replace nothing: the oldest is given up.
    pub(super) fn restore(&mut self, group: Group) {
        let hash = self.hash_of(&group.identity);
        if self.table.find(hash, |&at| self.slots[at as usize].group.identity == group.identity).is_none() {
            self.insert(group, hash);
        }
    }

    fn add(&mut self, judgement: &Judgement, finding: &Finding, severity: Severity) -> Option<Event> {
        let hash = self.hash(judgement, finding.rule);
        let slots = &self.slots;
        let found = self.table.find(hash, |&at| slots[at as usize].group.identity.is_of(judgement, finding.rule));
        if let Some(at) = found.copied() {
            self.touch(at);
            return self.slots[at as usize].group.add(judgement, finding, severity, self.repeat);
        }
        let group = Group::new(judgement, finding, severity);
        self.insert(group.clone(), hash);
        Some(Event { occasion: Occasion::New, calls: 1, group })
    }

    fn insert(&mut self, group: Group, hash: u64) {
        let slot = Slot { group, hash, newer: NONE, older: NONE };
        let at = if self.slots.len() < self.limit {
            self.slots.push(slot);
            // The limit fits.
            u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
        } else {
            let at = self.oldest;
            self.unlink(at);
            if let Ok(entry) = self.table.find_entry(self.slots[at as usize].hash, |&other| other == at) {
                entry.remove();
            }
            self.slots[at as usize] = slot;
            self.evicted += 1;
            at
        };
        self.link(at);
        let slots = &self.slots;
        self.table.insert_unique(hash, at, |&other| slots[other as usize].hash);
    }

    fn touch(&mut self, at: u32) {
        if self.newest != at {
            self.unlink(at);
            self.link(at);
        }
    }

    fn link(&mut self, at: u32) {
        let before = std::mem::replace(&mut self.newest, at);
        (self.slots[at as usize].newer, self.slots[at as usize].older) = (NONE, before);
        match self.slots.get_mut(before as usize) {
            Some(slot) => slot.newer = at,
            None => self.oldest = at,
        }
    }

    fn unlink(&mut self, at: u32) {
        let Slot { newer, older, .. } = self.slots[at as usize];
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn hash(&self, judgement: &Judgement, rule: &str) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        rule.hash(&mut hasher);
        for party in [&judgement.source, &judgement.destination] {
            hash_party(party, &mut hasher);
        }
        match (&judgement.request, judgement.kind) {
            (Some(request), _) => (cut(&request.method), cut(&request.route)).hash(&mut hasher),
            (None, Kind::Exchange) => {}
            (None, Kind::Connection) => judgement.protocol.hash(&mut hasher),
        }
        hasher.finish()
    }

    /// [`Self::hash`] of what is kept.
    fn hash_of(&self, identity: &Identity) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        identity.rule.hash(&mut hasher);
        for who in [&identity.source, &identity.destination] {
            match who {
                Who::Workload(name) => name.hash(&mut hasher),
                Who::Address(address) => address.hash(&mut hasher),
            }
        }
        match &identity.call {
            super::Call::Request { method, route } => (method, route).hash(&mut hasher),
            super::Call::Unseen => {}
            super::Call::Connection { protocol } => protocol.hash(&mut hasher),
        }
        hasher.finish()
    }
}

fn hash_party(party: &Party, hasher: &mut impl Hasher) {
    match &party.workload {
        Some(workload) => cut(workload).hash(hasher),
        None => party.address.hash(hasher),
    }
}
