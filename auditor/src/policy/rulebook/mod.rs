//! The policy file, ready to be asked: which route a call takes, what the route requires, which findings are waived.
//!
//! The first route that fits applies, in the order of the file; the built-in ones come last. Where nobody can say whether a
//! route fits, because a workload is not known, none of the file applies.

mod builtin;
mod condition;
pub mod follow;
mod index;
mod pattern;
mod place;
mod raw;
mod read;
mod require;
mod ruled;
mod waiver;

use std::{path::Path, sync::Arc};

use jiff::civil::Date;

pub(in crate::policy) use self::ruled::{Call, RouteUsed};
pub use self::waiver::{WaiverState, WaiverStatus};
use self::{
    condition::Condition,
    index::Index,
    pattern::{Fit, Methods, PathPattern, Segments, Selector},
    require::Require,
    waiver::Waiver,
};
use crate::{
    config::ConfigError,
    judgement::{Party, Severity, Waived},
    policy::rules::{NEW_UNAUTHENTICATED_EDGE, UNAUTHENTICATED_CALL},
};

/// A policy, checked. Without a file it has the built-in routes only.
#[derive(Debug)]
pub struct Rulebook {
    /// In the order in which they are tried.
    routes: Vec<Route>,
    /// Where the built-in ones begin.
    builtin: usize,
    index: Index,
    waivers: Vec<Waiver>,
    /// Claims that conditions ask for beyond those that are shown.
    custom_claims: Arc<[Arc<str>]>,
    /// First half of the BLAKE3 hash of the file, in hexadecimal digits; empty without a file.
    digest: String,
}

/// One route.
#[derive(Debug)]
struct Route {
    name: Arc<str>,
    target: Target,
    /// Who may call; empty: everybody.
    callers: Vec<Selector>,
    require: Require,
    when: Option<Condition>,
    /// What its path captures: segment and name.
    captures: Box<[(usize, Box<str>)]>,
    /// Of its `policy-violation` findings.
    severity: Option<Severity>,
    severities: Vec<(&'static str, Severity)>,
}

/// What a route or waiver is for.
#[derive(Clone, Debug, Default)]
struct Target {
    /// Empty: any.
    source: Vec<Selector>,
    /// Empty: any.
    destination: Vec<Selector>,
    methods: Methods,
    /// `None`: any.
    path: Option<PathPattern>,
}

impl Target {
    /// Whether a call fits; the cheap questions first.
    fn fits(&self, call: &Call<'_>) -> Fit {
        if !self.methods.contain(call.method) || self.path.as_ref().is_some_and(|path| !path.matches(&call.segments)) {
            return Fit::No;
        }
        self.fits_parties(call.source, call.destination)
    }

    fn fits_parties(&self, source: &Party, destination: &Party) -> Fit {
        let fit = |selectors: &[Selector], party| {
            if selectors.is_empty() { Fit::Yes } else { pattern::any(selectors, party) }
        };
        match (fit(&self.destination, destination), fit(&self.source, source)) {
            (Fit::No, _) | (_, Fit::No) => Fit::No,
            (Fit::Yes, Fit::Yes) => Fit::Yes,
            _ => Fit::Unknown,
        }
    }

    /// Whether it is for whatever is called.
    fn is_for_all_calls(&self) -> bool {
        self.methods.are_all() && self.path.as_ref().is_none_or(PathPattern::is_everything)
    }
}

impl Default for Rulebook {
    fn default() -> Self {
        Self::new(Vec::new(), Vec::new(), String::new())
    }
}

impl Rulebook {
    /// Reads a policy file; `today` is the day waivers are measured by, UTC.
    ///
    /// # Errors
    /// When the file cannot be read or something in it is wrong: the first thing, with its line.
    pub fn load(file: &Path, today: Date) -> Result<Self, ConfigError> {
        read::load(file, today)
    }

    /// Reads the text of a policy file; `file` is only named in messages.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(file: &Path, text: &str, today: Date) -> Result<Self, ConfigError> {
        read::parse(file, text, today)
    }

    fn new(mut routes: Vec<Route>, waivers: Vec<Waiver>, digest: String) -> Self {
        let builtin = routes.len();
        routes.extend(builtin_routes());
        let index = Index::of(routes.iter().map(|route| &route.target));
        let mut custom: Vec<&str> =
            routes.iter().filter_map(|route| route.when.as_ref()).flat_map(Condition::custom_claims).collect();
        custom.sort_unstable();
        custom.dedup();
        let custom_claims = custom.into_iter().map(Arc::from).collect();
        Self { routes, builtin, index, waivers, custom_claims, digest }
    }

    /// Whether a file holds a policy, by its keys. What cannot be read holds none: who reads it says why.
    #[must_use]
    pub fn is_in(file: &Path) -> bool {
        read::is_policy(file)
    }

    /// Names of the routes of the file, in order.
    pub fn route_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.routes[..self.builtin].iter().map(|route| &route.name)
    }

    /// Names of the routes that are there without a file, and the methods and paths that they match.
    pub fn builtin_routes() -> impl Iterator<Item = (&'static str, &'static [&'static str], &'static [&'static str])> {
        builtin::BUILTIN.into_iter()
    }

    /// How many waivers there are.
    #[must_use]
    pub fn waiver_count(&self) -> usize {
        self.waivers.len()
    }

    /// First half of the BLAKE3 hash of the file, in hexadecimal digits; empty without a file.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Claims that conditions ask for beyond those that are shown: the extractor has to keep them.
    #[must_use]
    pub fn custom_claims(&self) -> Arc<[Arc<str>]> {
        Arc::clone(&self.custom_claims)
    }

    /// How each waiver does on a day, UTC.
    #[must_use]
    pub fn waivers(&self, day: Date) -> Vec<WaiverStatus> {
        self.waivers.iter().map(|waiver| waiver.status(day)).collect()
    }

    /// Goes on counting where the policy before it left off, for waivers of the same name.
    pub(in crate::policy) fn take_counts_of(&mut self, before: &Self) {
        for waiver in &mut self.waivers {
            if let Some(known) = before.waivers.iter().find(|known| known.note.name == waiver.note.name) {
                *waiver.used.get_mut() = known.used.load(std::sync::atomic::Ordering::Relaxed);
            }
        }
    }

    /// The route a call takes, and whether it is not known because a workload is not.
    fn route(&self, call: &Call<'_>) -> (Option<&Route>, bool) {
        let mut unknown = false;
        for at in self.index.candidates(call.segments.first(), call.destination.workload.as_deref()) {
            let Some(route) = self.routes.get(*at as usize) else { continue };
            // A built-in route knows no workloads, and only lowers a severity.
            if unknown && (*at as usize) < self.builtin {
                continue;
            }
            match route.target.fits(call) {
                Fit::Yes => return (Some(route), unknown),
                Fit::Unknown => unknown = true,
                Fit::No => {}
            }
        }
        (None, unknown)
    }

    /// The route that every call on a connection takes, whatever is called; `None` where that depends on the call.
    fn connection_route(&self, source: &Party, destination: &Party) -> Option<&Route> {
        let mut routes = self.routes[..self.builtin].iter();
        let first = routes.find(|route| route.target.fits_parties(source, destination) != Fit::No)?;
        let sure = first.target.fits_parties(source, destination) == Fit::Yes && first.target.is_for_all_calls();
        sure.then_some(first)
    }
}

impl Route {
    /// The severity of a finding of `rule` on this route; `None`: as everywhere.
    fn severity(&self, rule: &str) -> Option<Severity> {
        let own = self.severities.iter().find(|(id, _)| *id == rule).map(|(_, severity)| *severity);
        own.or_else(|| self.severity.filter(|_| rule == crate::policy::rules::POLICY_VIOLATION))
    }
}

fn builtin_routes() -> impl Iterator<Item = Route> {
    builtin::BUILTIN.into_iter().flat_map(|(name, methods, paths)| {
        let name: Arc<str> = name.into();
        paths.iter().map(move |path| Route {
            name: Arc::clone(&name),
            target: Target {
                methods: Methods::new(methods.iter().copied().map(Box::from).collect()),
                path: Some(PathPattern::parse(path).expect("the built-in patterns are constants and tested")),
                ..Target::default()
            },
            callers: Vec::new(),
            require: Require::default(),
            when: None,
            captures: Box::default(),
            severity: None,
            severities: vec![(UNAUTHENTICATED_CALL, Severity::Low), (NEW_UNAUTHENTICATED_EDGE, Severity::Low)],
        })
    })
}
