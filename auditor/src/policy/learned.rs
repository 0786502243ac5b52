//! Routes that are learned: where a position of a path has had many different words, the words stand for something that varies,
//! and the position becomes `{var}`.
//!
//! A tree of words for each called workload. Only answers that show that there is something at the path teach: who asks for
//! whatever comes to mind gets 404, and is given a few words of each position that are not learned from. A service that answers
//! anything with 200 cannot be told from one with many names; then words keep their own route as long as a fair share of the
//! calls at their position goes to them, and the others get it back an hour after the flood ended. Everything is bounded.

use super::{
    crosscall::{Held, WorkloadId},
    route::segments,
};
use crate::{
    cache::Cache,
    hash::{BuildMix, Keyed},
};

/// Different words at one position of a path, until they are taken for something that varies.
const FAN_OUT: u16 = 50;
/// Words at one position below which they are words again.
const FEW: u16 = 25;
/// Words at one position that were asked for in vain.
const STRANGERS: u16 = 16;
/// A word keeps its place among many when at least one of so many calls goes to it.
const SHARE: u32 = 20;
/// Words of one workload.
const OF_ONE: u32 = 1024;
/// Words of all workloads.
const LIMIT: usize = 16_384;
/// A word that was not asked for is forgotten after this, seconds.
const REMEMBERED: u32 = 3600;
const SWEPT: usize = 1024;
/// What a route has in place of words. Anything else in braces came with the path.
const PLACEHOLDERS: [&str; 7] = ["", "{id}", "{date}", "{email}", "{token}", "{text}", "{rest}"];

/// What is known of a word at one place, and how many words follow it there.
#[derive(Debug)]
struct Word {
    parent: u64,
    root: u64,
    seen: u32,
    /// Calls that taught it.
    hits: u32,
    /// Words behind it that were learned.
    learned: u16,
    /// Words behind it that were asked for in vain.
    strangers: u16,
    /// Words of the whole workload, at its root.
    size: u32,
    kind: WordKind,
    /// What follows varies.
    varies: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WordKind {
    /// A root, or a placeholder: counted by nobody.
    Place,
    Learned,
    Stranger,
}

#[derive(Debug)]
pub(super) struct Learned {
    keys: Keyed,
    words: Cache<u64, Word, BuildMix>,
    now: u32,
}

impl Learned {
    pub(super) fn new() -> Self {
        Self { keys: Keyed::new(), words: Cache::new(LIMIT), now: 0 }
    }

    pub(super) fn held(&self) -> Held {
        let words = &self.words;
        Held { kind: "route-words", count: words.len(), limit: words.limit(), evicted: words.evicted() }
    }

    /// The route with positions that vary replaced. `teaches`: the answer shows that there is something at the path.
    pub(super) fn route(&mut self, workload: WorkloadId, route: &str, teaches: bool, now: u32) -> Box<str> {
        self.advance(now);
        if !route.starts_with('/') || route.len() == 1 {
            return route.into();
        }
        let root = self.keys.hash_one(workload);
        if !self.ensure(root, 0, root) {
            return route.into();
        }
        let mut at = root;
        let mut changed: Option<String> = None;
        let mut passed = 0;
        for word in segments(&route[1..]) {
            passed += 1;
            let (next, varies) = self.step(at, root, word, teaches);
            if varies {
                let out = changed.get_or_insert_with(|| route[..passed].to_owned());
                out.push_str("{var}");
            } else if let Some(out) = &mut changed {
                out.push_str(word);
            }
            passed += word.len();
            let Some(next) = next else {
                // No room for what follows.
                if passed < route.len() {
                    let out = changed.get_or_insert_with(|| route[..passed].to_owned());
                    out.push_str("/{rest}");
                }
                break;
            };
            at = next;
            if passed < route.len()
                && let Some(out) = &mut changed
            {
                out.push('/');
            }
        }
        changed.map_or_else(|| route.into(), String::into_boxed_str)
    }

    /// From one place by a word to the next, and whether the word is one of many; no next when there is no room.
    fn step(&mut self, at: u64, root: u64, word: &str, teaches: bool) -> (Option<u64>, bool) {
        let key = self.keys.hash_one((at, word));
        if (word.is_empty() || word.starts_with('{')) && PLACEHOLDERS.contains(&word) {
            return (self.ensure(key, at, root).then_some(key), false);
        }
        let now = self.now;
        let known = self.words.get(&key).map(|known| {
            known.seen = now;
            known.hits = known.hits.saturating_add(u32::from(teaches));
            (known.kind, known.hits)
        });
        let varies = match known {
            None => self.meet(key, at, root, teaches),
            Some((kind, hits)) => {
                let Some(place) = self.words.get(&at) else { return (None, true) };
                place.hits = place.hits.saturating_add(u32::from(teaches));
                if kind == WordKind::Stranger && teaches && place.learned <= FAN_OUT {
                    place.strangers = place.strangers.saturating_sub(1);
                    let varies = place.learn();
                    if let Some(word) = self.words.get(&key) {
                        word.kind = WordKind::Learned;
                    }
                    varies
                } else {
                    place.varies && (kind == WordKind::Stranger || hits.saturating_mul(SHARE) < place.hits)
                }
            }
        };
        if !varies {
            return (Some(key), false);
        }
        let any = self.keys.hash_one((at, "{var}"));
        (self.ensure(any, at, root).then_some(any), true)
    }

    /// A word that is not known at a place; whether it is one of many.
    fn meet(&mut self, key: u64, at: u64, root: u64, teaches: bool) -> bool {
        let full = self.is_full(root);
        let Some(place) = self.words.get(&at).filter(|place| !full && !place.varies) else { return true };
        let (kind, varies) = if teaches {
            place.hits = place.hits.saturating_add(1);
            (WordKind::Learned, place.learn())
        } else if place.strangers < STRANGERS {
            place.strangers += 1;
            (WordKind::Stranger, false)
        } else {
            return true;
        };
        self.add(key, at, root, kind);
        varies
    }

    /// There is no room for another word of a workload.
    fn is_full(&self, root: u64) -> bool {
        self.words.len() >= LIMIT || self.words.peek(&root).is_some_and(|root| root.size >= OF_ONE)
    }

    /// Makes a place where there is none; false when there is no room.
    fn ensure(&mut self, key: u64, parent: u64, root: u64) -> bool {
        if let Some(known) = self.words.get(&key) {
            known.seen = self.now;
            return true;
        }
        if self.is_full(root) {
            return false;
        }
        self.add(key, parent, root, WordKind::Place);
        true
    }

    fn add(&mut self, key: u64, parent: u64, root: u64, kind: WordKind) {
        let hits = u32::from(kind == WordKind::Learned);
        let (learned, strangers, size, varies) = (0, 0, 0, false);
        self.words.insert(key, Word { parent, root, seen: self.now, hits, learned, strangers, size, kind, varies });
        if let Some(root) = self.words.get(&root) {
            root.size += 1;
        }
    }

    /// Once a second of traffic, lets go of words that nobody asked for.
    fn advance(&mut self, now: u32) {
        if now <= self.now {
            return;
        }
        self.now = now;
        let mut gone = Vec::new();
        self.words.sweep(SWEPT, |_, word| {
            let expired = now.saturating_sub(word.seen) > REMEMBERED;
            if expired {
                gone.push((word.parent, word.root, word.kind));
            }
            expired
        });
        for (parent, root, kind) in gone {
            if let Some(root) = self.words.get(&root) {
                root.size = root.size.saturating_sub(1);
            }
            if let Some(place) = self.words.get(&parent) {
                place.forget(kind);
            }
        }
    }
}

impl Word {
    /// One more word follows; whether they are too many now.
    fn learn(&mut self) -> bool {
        self.learned = self.learned.saturating_add(1);
        self.varies |= self.learned > FAN_OUT;
        self.varies
    }

    fn forget(&mut self, kind: WordKind) {
        match kind {
            WordKind::Place => {}
            WordKind::Stranger => self.strangers = self.strangers.saturating_sub(1),
            WordKind::Learned => {
                self.learned = self.learned.saturating_sub(1);
                self.varies &= self.learned >= FEW;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: WorkloadId = WorkloadId(1);

    fn routed(learned: &mut Learned, path: &str, teaches: bool) -> String {
        let now = learned.now.max(1);
        learned.route(SHOP, path, teaches, now).into()
    }

    #[test]
    fn many_words_at_one_position_become_one() {
        let mut learned = Learned::new();
        for _ in 0..100 {
            assert_eq!(routed(&mut learned, "/users/me", true), "/users/me");
            assert_eq!(routed(&mut learned, "/health", true), "/health");
        }
        let mut routes = std::collections::BTreeSet::new();
        for number in 0..1000 {
            routes.insert(routed(&mut learned, &format!("/users/name{number:x}y/orders/{{id}}"), true));
        }
        assert!(routes.contains("/users/{var}/orders/{id}") && routes.len() <= 51, "{} {routes:?}", routes.len());
        assert_eq!(routed(&mut learned, "/users/another", true), "/users/{var}");
        assert_eq!(routed(&mut learned, "/users/me", true), "/users/me", "a tenth of the calls goes there");
        assert_eq!(routed(&mut learned, "/health", true), "/health");
        assert_eq!(&*learned.route(WorkloadId(2), "/users/another", true, 1), "/users/another");
    }

    #[test]
    fn who_asks_in_vain_teaches_nothing() {
        let mut learned = Learned::new();
        let mut routes = std::collections::BTreeSet::new();
        for number in 0..10_000 {
            routes.insert(routed(&mut learned, &format!("/try{number:x}z/deep{number:x}z"), false));
        }
        assert!(routes.len() <= usize::from(STRANGERS) * 2 + 2, "{routes:?}");
        for word in ["cart", "orders", "health"] {
            assert_eq!(routed(&mut learned, &format!("/{word}/list"), true), format!("/{word}/list"));
        }
    }

    #[test]
    fn a_flood_that_is_answered_passes() {
        let mut learned = Learned::new();
        for number in 0..10_000 {
            routed(&mut learned, &format!("/try{number:x}z"), true);
        }
        assert_eq!(routed(&mut learned, "/cart", true), "/{var}");
        for second in 0..100 {
            learned.advance(2 + REMEMBERED + second);
        }
        assert_eq!(routed(&mut learned, "/cart", true), "/cart");
        assert!(learned.words.len() < 10, "{}", learned.words.len());
    }

    #[test]
    fn words_are_bounded_for_each_workload_and_over_all() {
        let mut learned = Learned::new();
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % 40
        };
        let mut routes = std::collections::HashSet::new();
        for _ in 0..20_000 {
            let path: String = (0..6).map(|_| format!("/w{}x", random())).collect();
            routes.insert(routed(&mut learned, &path, true));
        }
        assert!(learned.words.len() <= OF_ONE as usize, "{}", learned.words.len());
        assert!(routes.len() <= 2 * OF_ONE as usize, "{}", routes.len());
        for workload in 2..200 {
            for number in 0..30 {
                for more in 0..30 {
                    let path = format!("/a{number}x/b{more}y");
                    learned.route(WorkloadId(workload), &path, true, 1);
                }
            }
        }
        assert_eq!((learned.words.len(), learned.words.evicted()), (LIMIT, 0));
        assert_eq!(&*learned.route(WorkloadId(1000), "/x/y", true, 1), "/x/y");
    }

    #[test]
    fn words_in_braces_are_words() {
        let mut learned = Learned::new();
        let mut routes = std::collections::BTreeSet::new();
        for number in 0..10_000 {
            routes.insert(routed(&mut learned, &format!("/{{n{number:x}q}}/{{id}}.{number:x}"), true));
        }
        assert!(routes.len() <= 110, "{}", routes.len());
    }

    #[test]
    fn a_route_keeps_its_shape() {
        let mut learned = Learned::new();
        for path in ["/", "", "*", "/a/", "//", "/{id}/{rest}", "/a//b", "/a/{token}.json"] {
            assert_eq!(routed(&mut learned, path, true), path);
        }
        for number in 0..100 {
            routed(&mut learned, &format!("/k/n{number:x}q/z/"), true);
        }
        assert_eq!(routed(&mut learned, "/k/new/z/", true), "/k/{var}/z/");
    }
}
