//! Workload names as small numbers: looking one up allocates nothing, and how many there are is bounded.

use std::{collections::HashMap, sync::Arc};

use super::super::{escape::Escaped, workload_parts};
use crate::hash::Keyed;

/// Label values longer than this are cut; bytes.
const LABEL_LIMIT: usize = 128;

/// A workload in [`Names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NameId(u32);

impl NameId {
    /// Nothing is known of the workload.
    pub(super) const UNKNOWN: Self = Self(0);
    /// One of the workloads past the limit.
    pub(super) const OTHER: Self = Self(1);

    pub(super) fn number(self) -> u32 {
        self.0
    }
}

/// The values of a `*_workload` and a `*_namespace` label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Labels {
    pub(super) workload: Arc<str>,
    pub(super) namespace: Arc<str>,
}

/// The workloads that series speak of.
#[derive(Debug)]
pub(super) struct Names {
    ids: HashMap<Arc<str>, NameId, Keyed>,
    slots: Vec<Slot>,
    free: Vec<NameId>,
    limit: usize,
}

#[derive(Debug)]
struct Slot {
    labels: Labels,
    used: u32,
}

impl Names {
    pub(super) fn new(limit: usize) -> Self {
        let fixed = |name: &str| Slot { labels: Labels { workload: name.into(), namespace: "".into() }, used: 0 };
        Self { ids: HashMap::default(), slots: vec![fixed("~unknown"), fixed("~other")], free: Vec::new(), limit }
    }

    /// The number of a workload, used now; [`NameId::OTHER`] past the limit.
    pub(super) fn id(&mut self, name: Option<&Arc<str>>, now: u32) -> NameId {
        let Some(name) = name else { return NameId::UNKNOWN };
        if let Some(id) = self.ids.get(name) {
            self.slots[id.0 as usize].used = now;
            return *id;
        }
        if self.ids.len() >= self.limit {
            return NameId::OTHER;
        }
        let slot = Slot { labels: Labels::of(name), used: now };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id.0 as usize] = slot;
                id
            }
            None => {
                let Ok(id) = u32::try_from(self.slots.len()) else { return NameId::OTHER };
                self.slots.push(slot);
                NameId(id)
            }
        };
        self.ids.insert(Arc::clone(name), id);
        id
    }

    /// Lets go of what was last used before `oldest`. Its numbers are given out again: series that hold them must be gone.
    pub(super) fn expire(&mut self, oldest: u32) {
        let (slots, free) = (&self.slots, &mut self.free);
        self.ids.retain(|_, id| {
            let keep = slots[id.0 as usize].used >= oldest;
            if !keep {
                free.push(*id);
            }
            keep
        });
    }

    /// Label values by [`NameId`].
    pub(super) fn labels(&self) -> AllLabels {
        AllLabels(self.slots.iter().map(|slot| slot.labels.clone()).collect())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}

/// Label values of all workloads at one moment.
pub(super) struct AllLabels(Vec<Labels>);

impl AllLabels {
    pub(super) fn of(&self, id: NameId) -> &Labels {
        &self.0[id.0 as usize]
    }
}

impl Labels {
    fn of(name: &str) -> Self {
        let (namespace, workload) = workload_parts(name);
        let namespace = if namespace.is_empty() { "".into() } else { value(namespace) };
        Self { workload: value(workload), namespace }
    }
}

/// A label value that is printable, of bounded length, not to be taken for `~other`, and different for different names.
fn value(name: &str) -> Arc<str> {
    let escaped = Escaped(name).to_string();
    if escaped.len() > LABEL_LIMIT {
        let digest = blake3::hash(name.as_bytes()).to_hex();
        let (digest, room) = (&digest[..16], LABEL_LIMIT - 17);
        let kept = &escaped[..escaped.floor_char_boundary(room)];
        return format!("{kept}~{digest}").into();
    }
    if escaped.starts_with('~') { format!("\\{escaped}").into() } else { escaped.into() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{LABEL_LIMIT, Labels, NameId, Names};

    fn labels(name: &str) -> (String, String) {
        let labels = Labels::of(name);
        (labels.namespace.to_string(), labels.workload.to_string())
    }

    #[test]
    fn a_name_becomes_safe_label_values() {
        let cases = [
            ("curl", ("", "curl")),
            ("shop/cart", ("shop", "cart")),
            ("node:cart/server.js", ("", "node:cart/server.js")),
            ("shop/cart/v2", ("shop", "cart/v2")),
            ("/cart", ("", "/cart")),
            ("shop/", ("", "shop/")),
            ("~other", ("", "\\~other")),
            ("a\n\u{1b}[0m", ("", "a\\n\\u{1b}[0m")),
        ];
        for (name, (namespace, workload)) in cases {
            assert_eq!(labels(name), (namespace.into(), workload.into()), "of {name:?}");
        }
    }

    #[test]
    fn long_names_are_cut_and_stay_distinct() {
        let (one, two) = (labels(&("é".repeat(500) + "1")).1, labels(&("é".repeat(500) + "2")).1);
        assert!(one.len() <= LABEL_LIMIT && two.len() <= LABEL_LIMIT, "{} {}", one.len(), two.len());
        assert_ne!(one, two);
    }

    #[test]
    fn past_the_limit_names_are_other_until_some_expire() {
        let mut names = Names::new(2);
        let (a, b, c): (Arc<str>, Arc<str>, Arc<str>) = ("a".into(), "b".into(), "c".into());
        let first = names.id(Some(&a), 1);
        names.id(Some(&b), 5);
        assert_eq!(names.id(Some(&c), 5), NameId::OTHER);
        assert_eq!(names.id(None, 5), NameId::UNKNOWN);
        names.expire(5);
        assert_eq!(names.id(Some(&c), 6), first, "the number of a is given out again");
        assert_eq!(&*names.labels().of(first).workload, "c");
        assert_eq!(names.len(), 2);
    }
}
