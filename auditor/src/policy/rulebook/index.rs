//! Which routes a call may take at all, so that of hundreds only a few are tried.

use std::collections::HashMap;

use super::{
    Target,
    pattern::{PathPattern, Selector},
};
use crate::hash::Keyed;

/// Routes by the first segment of their path and the name of the workload they are for.
#[derive(Debug)]
pub(super) struct Index {
    by_segment: HashMap<Box<str>, Routes, Keyed>,
    /// Routes whose path may begin with anything.
    other: Routes,
}

/// Numbers of routes, each list in the order in which they are tried.
#[derive(Clone, Debug, Default)]
struct Routes {
    all: Vec<u32>,
    /// For one workload by name, with those of `unnamed` among them.
    by_destination: HashMap<Box<str>, Vec<u32>, Keyed>,
    /// For any workload, or for such as no name tells.
    unnamed: Vec<u32>,
}

impl Index {
    /// The index of routes, numbered in their order.
    pub(super) fn of<'a>(targets: impl Iterator<Item = &'a Target>) -> Self {
        let (mut by_segment, mut other) = (HashMap::<Box<str>, Routes, Keyed>::default(), Routes::default());
        for (at, target) in (0..).zip(targets) {
            match target.path.as_ref().and_then(PathPattern::first_literal) {
                Some(first) => by_segment.entry(first.into()).or_insert_with(|| other.clone()).add(at, target),
                None => {
                    other.add(at, target);
                    by_segment.values_mut().for_each(|routes| routes.add(at, target));
                }
            }
        }
        Self { by_segment, other }
    }

    /// Numbers of the routes that a call may take, in order: all others are not for it. `destination`: what is called, where that is
    /// known.
    pub(super) fn candidates(&self, first_segment: Option<&str>, destination: Option<&str>) -> &[u32] {
        let routes = first_segment.and_then(|first| self.by_segment.get(first)).unwrap_or(&self.other);
        match destination {
            Some(name) => routes.by_destination.get(name).unwrap_or(&routes.unnamed),
            None => &routes.all,
        }
    }
}

impl Routes {
    fn add(&mut self, at: u32, target: &Target) {
        self.all.push(at);
        let name = |selector: &Selector| match selector {
            Selector::Name(name) => Some(name.clone()),
            _ => None,
        };
        let names: Option<Vec<Box<str>>> = target.destination.iter().map(name).collect();
        match names.filter(|names| !names.is_empty()) {
            Some(mut names) => {
                names.sort_unstable();
                names.dedup();
                for name in names {
                    self.by_destination.entry(name).or_insert_with(|| self.unnamed.clone()).push(at);
                }
            }
            None => {
                self.unnamed.push(at);
                self.by_destination.values_mut().for_each(|routes| routes.push(at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: Option<&str>, destination: &[&str]) -> Target {
        Target {
            path: path.map(|path| PathPattern::parse(path).expect(path)),
            destination: destination.iter().map(|text| Selector::parse(text).expect(text)).collect(),
            ..Target::default()
        }
    }

    #[test]
    fn routes_that_cannot_be_taken_are_left_out_and_the_others_stay_in_order() {
        let targets = [
            target(Some("/a/**"), &["shop/x"]),
            target(Some("/a/b"), &["shop/*"]),
            target(None, &["shop/y", "shop/x", "shop/x"]),
            target(Some("/{any}"), &[]),
            target(Some("/c"), &["shop/y", "10.0.0.0/8"]),
            target(Some("/a"), &["shop/y"]),
        ];
        let index = Index::of(targets.iter());
        for (segment, destination, expected) in [
            (Some("a"), Some("shop/x"), &[0, 1, 2, 3][..]),
            (Some("a"), Some("shop/y"), &[1, 2, 3, 5]),
            (Some("a"), Some("other"), &[1, 3]),
            (Some("a"), None, &[0, 1, 2, 3, 5]),
            (Some("c"), Some("shop/y"), &[2, 3, 4]),
            (Some("c"), Some("shop/x"), &[2, 3, 4]),
            (Some("z"), Some("shop/x"), &[2, 3]),
            (Some("z"), Some("other"), &[3]),
            (None, None, &[2, 3]),
        ] {
            assert_eq!(index.candidates(segment, destination), expected, "{segment:?} {destination:?}");
        }
    }
}
