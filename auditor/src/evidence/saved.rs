//! A ledger as it is saved and restored. Ids of rules are checked against those that exist: a rule that is gone takes its groups
//! with it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Call, Example, Group, Identity, Ledger, Seen, TEXT_LIMIT, Who};
use crate::policy::rules::rule;

/// Name of the section in the state file.
pub const SECTION: &str = "findings";
/// Version of the section; raised when it changes in a way that older auditors cannot read.
pub const SECTION_VERSION: u32 = 1;

/// Groups, the oldest first. Making one copies references and figures; turning it into text can be done on another thread.
#[derive(Debug)]
pub struct Saved(Vec<Group>);

impl Saved {
    /// What there is now.
    #[must_use]
    pub fn of(ledger: &Ledger) -> Self {
        let mut groups: Vec<_> = ledger.groups().cloned().collect();
        groups.reverse();
        Self(groups)
    }
}

/// What is read back.
#[derive(Debug, Deserialize)]
pub struct Restored(Vec<Entry>);

impl Restored {
    /// Puts everything into `ledger`; how many groups were put, and how many were not because their rule does not exist or their
    /// text is longer than what is ever saved.
    pub fn into_ledger(self, ledger: &mut Ledger) -> (usize, usize) {
        let all = self.0.len();
        let mut put = 0;
        for group in self.0.into_iter().filter_map(Entry::into_group) {
            ledger.restore(group);
            put += 1;
        }
        (put, all - put)
    }
}

#[derive(Debug, Deserialize)]
struct Entry {
    rule: String,
    source: Who,
    destination: Who,
    call: Call,
    seen: Seen,
    example: Example,
}

#[derive(Serialize)]
struct Shown<'a> {
    rule: &'a str,
    source: &'a Who,
    destination: &'a Who,
    call: &'a Call,
    seen: &'a Seen,
    example: &'a Example,
}

impl Entry {
    fn into_group(self) -> Option<Group> {
        let rule = rule(&self.rule)?.id;
        let Self { source, destination, call, seen, example, .. } = self;
        let fits = |text: &str| text.len() <= 2 * TEXT_LIMIT;
        let who = |who: &Who| matches!(who, Who::Address(_)) || matches!(who, Who::Workload(name) if fits(name));
        let call_fits = match &call {
            Call::Request { method, route } => fits(method) && fits(route),
            Call::Connection { protocol } => fits(protocol),
            Call::Unseen => true,
        };
        let optional = |text: &Option<Box<str>>| text.as_deref().is_none_or(|text| text.len() <= 8 * TEXT_LIMIT);
        let example_fits = [&*example.source, &*example.destination, &*example.detail].into_iter().all(fits)
            && example.caller.as_ref().is_none_or(|(name, _)| fits(name))
            && optional(&example.authority)
            && optional(&example.header_names);
        (who(&source) && who(&destination) && call_fits && example_fits).then(|| Group {
            identity: Arc::new(Identity { rule, source, destination, call }),
            example: Arc::new(example),
            seen,
        })
    }
}

impl Serialize for Saved {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|group| Shown {
            rule: group.identity.rule,
            source: &group.identity.source,
            destination: &group.identity.destination,
            call: &group.identity.call,
            seen: &group.seen,
            example: &group.example,
        }))
    }
}
