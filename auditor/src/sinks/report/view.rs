//! What a report says, worked out once for all of its forms: figures, sorted edges, findings by rule, boundaries that hold.

use std::collections::BTreeMap;

use super::{
    Report, RuleText,
    edges::{Call, Cell, Edge, Found, Who},
    tls,
};
use crate::judgement::{Outcome, Severity, Verdict};

/// What a report says.
pub(super) struct View<'a> {
    pub(super) endpoints: Endpoints,
    pub(super) pairs: Vec<Pair<'a>>,
    pub(super) findings: Vec<RuleFindings<'a>>,
    pub(super) tls: Vec<tls::Endpoint<'a>>,
    pub(super) enforced: Vec<Enforced<'a>>,
    /// Edges on which every call proved itself and nothing is against it.
    pub(super) authenticated_edges: usize,
    pub(super) authenticated_calls: u64,
}

/// Counts of what can be called.
pub(super) struct Endpoints {
    pub(super) all: usize,
    /// Accept calls without proof of identity.
    pub(super) soft: usize,
}

/// All edges between two workloads.
pub(super) struct Pair<'a> {
    pub(super) edges: Vec<&'a Edge>,
}

/// What one rule found.
pub(super) struct RuleFindings<'a> {
    pub(super) rule: &'static str,
    pub(super) severity: Severity,
    pub(super) text: Option<&'a RuleText>,
    /// Calls, those on edges that were not kept included.
    pub(super) count: u64,
    /// Worst and most frequent first.
    pub(super) evidence: Vec<(&'a Edge, &'a Found)>,
}

/// An endpoint that refused every call without proof of identity.
pub(super) struct Enforced<'a> {
    pub(super) edge: &'a Edge,
    pub(super) refused: u64,
}

type EndpointKey<'a> = (&'a Who, u16, &'a Call);

impl<'a> View<'a> {
    pub(super) fn of(report: &'a Report, rules: &'a [RuleText]) -> Self {
        let edges = report.edges.all();
        let mut endpoints: BTreeMap<EndpointKey<'_>, (&Edge, u64, u64)> = BTreeMap::new();
        for edge in edges.iter().filter(|edge| matches!(edge.call, Call::Request { .. })) {
            let (_, accepted, refused) =
                endpoints.entry((&edge.destination, edge.port, &edge.call)).or_insert((edge, 0, 0));
            *accepted += edge.count(Verdict::Unauthenticated, Outcome::Accepted);
            *refused += edge.count(Verdict::Unauthenticated, Outcome::Refused);
        }
        let soft = endpoints.values().filter(|(_, accepted, _)| *accepted > 0).count();
        let holds = |(edge, accepted, refused): &(&'a Edge, u64, u64)| {
            (*accepted == 0 && *refused > 0).then_some(Enforced { edge, refused: *refused })
        };
        let proven = |edge: &&Edge| edge.cells.iter().all(|cell| cell.verdict == Verdict::Authenticated);
        let clean = edges.iter().filter(proven).filter(|edge| edge.findings.is_empty());
        let clean: Vec<u64> = clean.map(|edge| edge.cells.iter().map(|cell| cell.count).sum()).collect();
        Self {
            enforced: endpoints.values().filter_map(holds).collect(),
            endpoints: Endpoints { all: endpoints.len(), soft },
            pairs: pairs(edges),
            tls: tls::endpoints(edges),
            findings: findings(report, rules),
            authenticated_edges: clean.len(),
            authenticated_calls: clean.iter().sum(),
        }
    }
}

/// Edges by who calls whom, the worst first.
fn pairs(edges: &[Edge]) -> Vec<Pair<'_>> {
    let mut by_pair: BTreeMap<_, Vec<&Edge>> = BTreeMap::new();
    for edge in edges {
        by_pair.entry((&edge.source, &edge.destination, edge.port)).or_default().push(edge);
    }
    let mut pairs: Vec<_> = by_pair.into_values().map(|edges| Pair { edges }).collect();
    for pair in &mut pairs {
        pair.edges.sort_by_key(|edge| (badness(edge), &edge.call));
    }
    // Stable, so that equally bad ones stay sorted by name.
    pairs.sort_by_key(|pair| pair.edges.iter().map(|edge| badness(edge)).min());
    pairs
}

/// The cells of an edge, the worst first.
pub(super) fn sorted_cells(edge: &Edge) -> Vec<&Cell> {
    let mut cells: Vec<_> = edge.cells.iter().collect();
    cells.sort_by_key(|cell| (rank(cell.verdict, cell.outcome), cell.verdict, cell.outcome.as_str()));
    cells
}

fn badness(edge: &Edge) -> u8 {
    edge.cells.iter().map(|cell| rank(cell.verdict, cell.outcome)).min().unwrap_or(u8::MAX)
}

/// Lower is worse.
fn rank(verdict: Verdict, outcome: Outcome) -> u8 {
    match (verdict, outcome) {
        (Verdict::Unauthenticated, Outcome::Accepted) => 0,
        (Verdict::Weak, Outcome::Accepted) => 1,
        (Verdict::Unauthenticated, Outcome::Failed | Outcome::Unanswered) => 2,
        (Verdict::Unknown, _) => 3,
        (Verdict::Weak, _) => 4,
        (Verdict::Exempt, _) => 5,
        (Verdict::Unauthenticated, Outcome::Refused) => 6,
        (Verdict::Authenticated, _) => 7,
    }
}

fn findings<'a>(report: &'a Report, rules: &'a [RuleText]) -> Vec<RuleFindings<'a>> {
    let of_rule = |&(rule, severity, count): &(&'static str, Severity, u64)| {
        let on = |edge: &'a Edge| edge.findings.iter().find(|found| found.rule == rule).map(|found| (edge, found));
        let mut evidence: Vec<_> = report.edges.all().iter().filter_map(on).collect();
        evidence.sort_by(|(one_edge, one), (other_edge, other)| {
            let worse = (other.severity, other.count).cmp(&(one.severity, one.count));
            worse.then_with(|| identity(one_edge).cmp(&identity(other_edge)))
        });
        let text = rules.iter().find(|text| text.id == rule);
        RuleFindings { rule, severity, text, count, evidence }
    };
    let mut findings: Vec<_> = report.found.iter().map(of_rule).collect();
    findings.sort_by(|one, other| {
        (other.severity, other.count).cmp(&(one.severity, one.count)).then_with(|| one.rule.cmp(other.rule))
    });
    findings
}

fn identity(edge: &Edge) -> (&Who, &Who, u16, &Call) {
    (&edge.source, &edge.destination, edge.port, &edge.call)
}

/// What a reason of `unknown` means.
pub(super) fn meaning(reason: &str) -> &'static str {
    match reason {
        "capacity" => "the auditor was at its memory limit",
        "connection-authenticated" => "an earlier call authenticated the connection (NTLM, Kerberos)",
        "encrypted" => "the connection is encrypted; what is inside was not read",
        "gap" => "bytes were lost between the kernel and the auditor",
        "head-truncated" => "the request's head was longer than what is copied of it",
        "hpack-lost" => "header fields stand in a part of HTTP/2's compression table that was not seen",
        "http2" => "HTTP/2 whose frames could not be followed",
        "malformed" => "not HTTP, or not in a way that all servers read the same",
        "mid-stream" => "the request was sent before the observation began",
        "peer-credentials" => {
            "an AF_UNIX call without credential: the kernel told the server who connects; whether it looks is not seen"
        }
        "resumed-tls" => "the session was resumed; its beginning was not seen",
        "undetermined-tls" => "TLS does not show what the client proved",
        "unread-protocol" => "a protocol that is not read",
        _ => "",
    }
}

/// How often something was found, and when: `1 call`, `2 calls, 01:23:45 to 01:24:00`. The times are formatted with `format`.
pub(super) fn occurrences(found: &Found, format: &str) -> String {
    let mut text = plural(found.count, "call", "calls");
    let (first, last) = (found.first.strftime(format).to_string(), found.last.strftime(format).to_string());
    if first != last {
        text.push_str(&format!(", {first} to {last}"));
    }
    text
}

/// `12345` as `12,345`.
pub(super) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A share in percent with one digit, rounded down: what is not all is never shown as 100 %, what is not nothing never as 0 %.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let Some(permille) = (u128::from(part) * 1000).checked_div(u128::from(whole)) else { return "-".to_owned() };
    if permille == 0 && part > 0 {
        return "<0.1 %".to_owned();
    }
    format!("{}.{} %", permille / 10, permille % 10)
}

/// A count and the word for it: `1 call`, `2 calls`.
pub(super) fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::{number, percent, plural};

    #[test]
    fn figures_read_well() {
        let numbers: Vec<_> = [0, 999, 1000, 1_234_567].map(number).into();
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
        let shares: Vec<_> = [(0, 0), (0, 9), (1, 9_999), (1, 3), (9_999, 10_000), (7, 7), (u64::MAX, u64::MAX)]
            .map(|(part, whole)| percent(part, whole))
            .into();
        assert_eq!(shares, ["-", "0.0 %", "<0.1 %", "33.3 %", "99.9 %", "100.0 %", "100.0 %"]);
        assert_eq!(plural(1, "call", "calls"), "1 call");
        assert_eq!(plural(0, "call", "calls"), "0 calls");
    }
}
