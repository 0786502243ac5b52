//! A report for people: who calls whom with what proof, what is wrong and how to mend it, what holds, what was not seen.
//!
//! It keeps edges, not calls, and a bounded number of them. What does not fit is counted and said.

mod edges;
mod markdown;
mod terminal;
#[cfg(test)]
mod tests;
mod tls;
mod view;
mod waivers;

use std::io;

use jiff::Timestamp;

use self::{edges::Edges, view::View};
use super::{Look, Sink};
use crate::{
    judgement::{Judgement, Severity, Verdict},
    policy::rulebook::WaiverStatus,
};

/// What to tell people of a rule. `policy::rules` has the texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleText {
    /// Id, as findings carry it.
    pub id: &'static str,
    /// The finding in a few words.
    pub title: &'static str,
    /// Why it matters.
    pub explanation: &'static str,
    /// How to mend it.
    pub remedy: &'static str,
    /// Where to read more.
    pub link: Option<&'static str>,
}

/// Bounds of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most edges that are told apart: source, destination, port, method and route.
    pub edge_limit: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { edge_limit: 2_000 }
    }
}

/// Gathers judgements and renders what they say.
#[derive(Debug)]
pub struct Report {
    edges: Edges,
    /// Judgements by verdict, in the order of [`VERDICTS`].
    verdicts: [u64; 5],
    /// Calls by rule with the worst severity seen.
    found: Vec<(&'static str, Severity, u64)>,
    unknown: Vec<(&'static str, u64)>,
    span: Option<(Timestamp, Timestamp)>,
    folded: u64,
    external: u64,
    losses: Option<Vec<(String, u64)>>,
    waivers: Vec<WaiverStatus>,
}

const VERDICTS: [Verdict; 5] =
    [Verdict::Authenticated, Verdict::Weak, Verdict::Unauthenticated, Verdict::Exempt, Verdict::Unknown];

impl Report {
    /// An empty report.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            edges: Edges::new(settings.edge_limit),
            verdicts: [0; 5],
            found: Vec::new(),
            unknown: Vec::new(),
            span: None,
            folded: 0,
            external: 0,
            losses: None,
            waivers: Vec::new(),
        }
    }

    /// How the waivers of the policy do.
    pub fn set_waivers(&mut self, waivers: Vec<WaiverStatus>) {
        self.waivers = waivers;
    }

    /// Calls and connections that were left alone because an end is not internal, since the start.
    pub fn set_external(&mut self, total: u64) {
        self.external = total;
    }

    /// Records lost before they were read, by reason, since the start. Without a call the report says nothing of losses.
    pub fn set_losses<'a>(&mut self, losses: impl IntoIterator<Item = (&'a str, u64)>) {
        let some = losses.into_iter().filter(|(_, count)| *count > 0);
        let mut losses: Vec<_> = some.map(|(reason, count)| (reason.to_owned(), count)).collect();
        losses.sort();
        self.losses = Some(losses);
    }

    /// Calls and connections judged, those with the verdict unknown included.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.verdicts.iter().sum()
    }

    /// The worst severity of all findings, e.g. to end with a status that says so.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.found.iter().map(|(_, severity, _)| *severity).max()
    }

    /// Text for a terminal. `rules` explains the findings; a rule that is not in it is shown by its id.
    #[must_use]
    pub fn render_terminal(&self, rules: &[RuleText], look: Look) -> String {
        terminal::render(self, &View::of(self, rules), look)
    }

    /// Markdown (GitHub's).
    #[must_use]
    pub fn render_markdown(&self, rules: &[RuleText]) -> String {
        markdown::render(self, &View::of(self, rules))
    }

    fn count(&self, verdict: Verdict) -> u64 {
        VERDICTS.iter().zip(self.verdicts).find(|(of, _)| **of == verdict).map_or(0, |(_, count)| count)
    }

    /// Reasons of `unknown`, the most frequent first.
    fn unknown_reasons(&self) -> Vec<(&'static str, u64)> {
        let mut reasons = self.unknown.clone();
        reasons.sort_by_key(|(reason, count)| (std::cmp::Reverse(*count), *reason));
        reasons
    }
}

impl Sink for Report {
    fn judgement(&mut self, judgement: &Judgement) {
        let (first, last) = self.span.unwrap_or((judgement.time, judgement.time));
        self.span = Some((first.min(judgement.time), last.max(judgement.time)));
        if let Some(at) = VERDICTS.iter().position(|verdict| *verdict == judgement.verdict) {
            self.verdicts[at] += 1;
        }
        if let Some(reason) = judgement.unknown_reason {
            match self.unknown.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, count)) => *count += 1,
                None => self.unknown.push((reason, 1)),
            }
        }
        for finding in &judgement.findings {
            match self.found.iter_mut().find(|(rule, ..)| *rule == finding.rule) {
                Some((_, severity, count)) => {
                    *severity = finding.severity.max(*severity);
                    *count += 1;
                }
                None => self.found.push((finding.rule, finding.severity, 1)),
            }
        }
        match self.edges.of(judgement) {
            Some(edge) => edge.add(judgement),
            None => self.folded += 1,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
