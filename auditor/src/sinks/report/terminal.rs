//! The report as text for a terminal. Nothing is cut to fit: what is too long for its column gets lines of its own.

use std::fmt::Write;

use super::{
    super::{
        escape::{Escaped, shortened},
        look::{self, Look},
    },
    Report, VERDICTS,
    edges::{Call, Edge, Example, Who},
    tls,
    view::{RuleFindings, View, meaning, number, occurrences, percent, plural, sorted_cells},
    waivers,
};
use crate::judgement::{Outcome, Verdict};

/// Longest route that is shown whole; characters.
const ROUTE_LIMIT: usize = 160;
/// Longest workload name that is shown whole; characters.
const NAME_LIMIT: usize = 60;
/// Columns for the call in the table of edges.
const CALL_WIDTH: usize = 27;
/// Columns before a call's credentials in the table of edges.
const BEFORE_CREDENTIALS: usize = 2 + CALL_WIDTH + 1 + 7 + 1 + 15 + 1 + 10 + 1;
/// Columns for the caller in the table of TLS clients.
const CALLER_WIDTH: usize = 22;
/// Pairs of workloads shown; Markdown has all.
const PAIRS_SHOWN: usize = 50;
/// Calls shown of a pair.
const EDGES_SHOWN: usize = 20;
/// Edges shown as evidence of a finding.
const EVIDENCE_SHOWN: usize = 6;
/// Endpoints shown that refuse.
const ENFORCED_SHOWN: usize = 12;

/// Writing to a `String` does not fail: hence the ignored results below.
pub(super) fn render(report: &Report, view: &View<'_>, look: Look) -> String {
    let mut page = Page { text: String::new(), look };
    page.headline(report, view);
    if report.total() > 0 {
        page.edges(report, view);
        page.tls(view);
        page.findings(view);
        page.good(view);
    }
    page.waivers(report);
    page.coverage(report);
    page.text
}

struct Page {
    text: String,
    look: Look,
}

impl Page {
    fn headline(&mut self, report: &Report, view: &View<'_>) {
        let _ = writeln!(self.text, "{}", self.look.paint(look::BOLD, "Zero trust report"));
        let Some((first, last)) = report.span else {
            self.text.push_str("No internal calls were seen.\n");
            return;
        };
        let _ = writeln!(
            self.text,
            "{} to {} UTC: {} on {}",
            first.strftime("%Y-%m-%d %H:%M:%S"),
            last.strftime("%H:%M:%S"),
            plural(report.total(), "internal call", "internal calls"),
            plural(report.edges.all().len() as u64, "edge", "edges"),
        );
        let endpoints = &view.endpoints;
        if endpoints.all > 0 {
            let text = format!(
                "{}{} of {} accept calls without proof of identity.",
                if report.folded > 0 { "At least " } else { "" },
                number(endpoints.soft as u64),
                plural(endpoints.all as u64, "endpoint", "endpoints")
            );
            let style = if endpoints.soft > 0 {
                look::of_verdict(Verdict::Unauthenticated, Outcome::Accepted)
            } else {
                look::GOOD
            };
            let _ = writeln!(self.text, "\n  {}", self.look.paint(style, text));
        }
        self.text.push('\n');
        for verdict in VERDICTS {
            let count = report.count(verdict);
            if count > 0 {
                let word = self.look.paint(look::of_verdict(verdict, Outcome::Accepted), verdict);
                let (shown, share) = (number(count), percent(count, report.total()));
                let _ = writeln!(self.text, "  {word:<15} {shown:>12} {share:>9}");
            }
        }
    }

    fn edges(&mut self, report: &Report, view: &View<'_>) {
        self.heading("Who calls whom");
        for pair in view.pairs.iter().take(PAIRS_SHOWN) {
            let Some(edge) = pair.edges.first() else { continue };
            self.bold(&ends(edge));
            for edge in pair.edges.iter().take(EDGES_SHOWN) {
                self.edge(edge);
            }
            self.more(pair.edges.len(), EDGES_SHOWN, "  ", "routes");
        }
        self.more(view.pairs.len(), PAIRS_SHOWN, "", "pairs");
        if report.folded > 0 {
            let calls = plural(report.folded, "call", "calls");
            self.paragraph(
                &format!("{calls} on further edges are counted above and not listed: the limit is reached."),
                0,
            );
        }
    }

    fn edge(&mut self, edge: &Edge) {
        let mut call = call(&edge.call);
        if look::columns(&call) > CALL_WIDTH {
            self.paragraph(&call, 2);
            call.clear();
        }
        let gap = |call: &str| " ".repeat(CALL_WIDTH.saturating_sub(look::columns(call)));
        for cell in sorted_cells(edge) {
            let verdict = self.look.paint(look::of_verdict(cell.verdict, cell.outcome), cell.verdict);
            let credentials: Vec<_> =
                cell.credentials.iter().filter(|word| !matches!(**word, "none" | "unknown")).copied().collect();
            let credentials = credentials.join(" ");
            let fits = BEFORE_CREDENTIALS + credentials.len() <= Look::PLAIN.width;
            let line = format!(
                "  {call}{} {:>7} {verdict:<15} {:<10} {}",
                gap(&call),
                number(cell.count),
                cell.outcome,
                if fits { &*credentials } else { "" },
            );
            let _ = writeln!(self.text, "{}", line.trim_end());
            if !fits {
                self.paragraph(&credentials, CALL_WIDTH + 11);
            }
            call.clear();
        }
    }

    fn waivers(&mut self, report: &Report) {
        if report.waivers.is_empty() {
            return;
        }
        self.heading("Waivers");
        for waiver in waivers::sorted(&report.waivers) {
            let line = waivers::line(waiver);
            self.paragraph(&line, 2);
        }
    }

    fn tls(&mut self, view: &View<'_>) {
        if view.tls.is_empty() {
            return;
        }
        self.heading("What TLS clients proved");
        for endpoint in view.tls.iter().take(PAIRS_SHOWN) {
            let (name, meaning) = (service(endpoint.server), tls::meaning(endpoint.posture));
            let posture = endpoint.posture.as_str();
            let fits = look::columns(&name) + 4 + posture.len() + meaning.len() <= Look::PLAIN.width;
            let posture = self.look.paint(look::of_posture(endpoint.posture), posture);
            if fits {
                let _ = writeln!(self.text, "{}  {posture}: {meaning}", self.look.paint(look::BOLD, name));
            } else {
                self.bold(&name);
                let _ = writeln!(self.text, "  {posture}: {meaning}");
            }
            for (edge, handshakes) in endpoint.callers.iter().take(EDGES_SHOWN) {
                self.caller(edge, handshakes);
            }
            self.more(endpoint.callers.len(), EDGES_SHOWN, "  ", "callers");
            if let Some(fix) = tls::fix(endpoint.posture) {
                self.paragraph(&format!("Fix: {fix}"), 2);
            }
        }
        self.more(view.tls.len(), PAIRS_SHOWN, "", "endpoints");
    }

    fn caller(&mut self, edge: &Edge, handshakes: &tls::Handshakes) {
        let mut name = who(&edge.source);
        if look::columns(&name) > CALLER_WIDTH {
            self.paragraph(&name, 2);
            name.clear();
        }
        for proof in handshakes.proofs() {
            let (count, gap) = (number(proof.count), CALLER_WIDTH.saturating_sub(look::columns(&name)));
            let _ = writeln!(self.text, "  {name}{:gap$} {count:>7} {} ({})", "", proof.said, proof.evidence);
            name.clear();
        }
    }

    fn findings(&mut self, view: &View<'_>) {
        self.heading("What was found");
        if view.findings.is_empty() {
            self.text.push_str("Nothing.\n");
        }
        for (at, finding) in view.findings.iter().enumerate() {
            if at > 0 {
                self.text.push('\n');
            }
            self.finding(finding);
        }
    }

    fn finding(&mut self, finding: &RuleFindings<'_>) {
        let severity = finding.severity.as_str().to_uppercase();
        let severity = self.look.paint(look::of_severity(finding.severity), severity);
        let _ = writeln!(self.text, "{severity} {} ({})", finding.rule, plural(finding.count, "call", "calls"));
        if let Some(text) = finding.text {
            self.paragraph(text.title, 2);
            self.paragraph(text.explanation, 2);
        }
        for (edge, found) in finding.evidence.iter().take(EVIDENCE_SHOWN) {
            let line = format!("{} {}: {}", ends(edge), call(&edge.call), occurrences(found, "%H:%M:%S"));
            let item = self.item(&line, 2);
            self.text.push_str(&item);
            self.paragraph(&evidence(&found.example), 4);
        }
        self.more(finding.evidence.len(), EVIDENCE_SHOWN, "  ", "edges");
        if let Some(text) = finding.text {
            self.paragraph(&format!("Fix: {}", text.remedy), 2);
            if let Some(link) = text.link {
                let _ = writeln!(self.text, "  More: {link}");
            }
        }
    }

    fn good(&mut self, view: &View<'_>) {
        if view.enforced.is_empty() && view.authenticated_edges == 0 {
            return;
        }
        self.heading("What is already good");
        if view.authenticated_edges > 0 {
            let edges = plural(view.authenticated_edges as u64, "edge", "edges");
            let calls = plural(view.authenticated_calls, "call", "calls");
            self.paragraph(&format!("On {edges} every caller proved who it is, with nothing against it ({calls})."), 0);
        }
        for enforced in view.enforced.iter().take(ENFORCED_SHOWN) {
            let edge = enforced.edge;
            let calls = plural(enforced.refused, "call", "calls");
            let line = format!("{} {} refused {calls} without proof", service(edge), call(&edge.call));
            let item = self.item(&line, 0);
            for line in item.lines() {
                let _ = writeln!(self.text, "{}", self.look.paint(look::GOOD, line));
            }
        }
        self.more(view.enforced.len(), ENFORCED_SHOWN, "", "endpoints");
    }

    fn coverage(&mut self, report: &Report) {
        self.heading("What was not seen");
        let (total, unknown) = (report.total(), report.count(Verdict::Unknown));
        if total > 0 {
            let (judged, share) = (number(total - unknown), percent(total - unknown, total));
            self.paragraph(&format!("{judged} of {} were judged ({share}).", plural(total, "call", "calls")), 0);
        }
        for (reason, count) in report.unknown_reasons() {
            let count = format!("  {:>7} ", number(count));
            let mut text = self.look.wrap(&format!("{reason}: {}", meaning(reason)), count.len());
            text.replace_range(..count.len(), &count);
            self.text.push_str(&text);
        }
        match report.losses.as_deref() {
            Some([]) => self.text.push_str("No records were lost.\n"),
            Some(losses) => {
                let all: u64 = losses.iter().map(|(_, count)| count).sum();
                let reasons: Vec<_> =
                    losses.iter().map(|(reason, count)| format!("{} {reason}", number(*count))).collect();
                let records = plural(all, "record was", "records were");
                let text =
                    format!("{records} lost ({}): there were more calls than are counted here.", reasons.join(", "));
                self.paragraph(&text, 0);
            }
            None => {}
        }
        if report.external > 0 {
            let calls = plural(report.external, "external call was", "external calls were");
            self.paragraph(&format!("{calls} left alone: only calls between internal networks are judged."), 0);
        }
    }

    /// Bold text, wrapped to the width.
    fn bold(&mut self, text: &str) {
        for line in self.look.wrap(text, 0).lines() {
            let _ = writeln!(self.text, "{}", self.look.paint(look::BOLD, line));
        }
    }

    fn heading(&mut self, text: &str) {
        let _ = writeln!(self.text, "\n{}", self.look.paint(look::BOLD, text));
    }

    fn more(&mut self, all: usize, shown: usize, indent: &str, what: &str) {
        if all > shown {
            let _ = writeln!(self.text, "{indent}... and {} more {what}", number((all - shown) as u64));
        }
    }

    /// An item of a list, wrapped to the width: further lines stand below its first word.
    fn item(&self, text: &str, indent: usize) -> String {
        let mut item = self.look.wrap(text, indent + 2);
        item.replace_range(indent..=indent, "-");
        item
    }

    /// Text wrapped to the width; its line breaks stay.
    fn paragraph(&mut self, text: &str, indent: usize) {
        self.text.push_str(&self.look.wrap(text, indent));
    }
}

/// What was seen of one call. The peer's words are escaped, so that they hold no line breaks.
fn evidence(example: &Example) -> String {
    let mut text = format!("e.g. {} ", example.time.strftime("%H:%M:%S"));
    if let Some((method, path)) = &example.request {
        let _ = write!(text, "{} {}", Escaped(method), shortened(path, ROUTE_LIMIT));
    }
    if let Some(status) = example.status {
        let _ = write!(text, " -> {status}");
    }
    if let Some((command, pid)) = &example.caller {
        let _ = write!(text, ", by {} (pid {pid})", shortened(command, NAME_LIMIT));
    }
    if !example.detail.is_empty() {
        let _ = write!(text, ": {}", Escaped(&example.detail));
    }
    text
}

/// `cart -> inventory:8080`.
pub(super) fn ends(edge: &Edge) -> String {
    format!("{} -> {}", who(&edge.source), service(edge))
}

/// `inventory:8080`.
pub(super) fn service(edge: &Edge) -> String {
    let name = who(&edge.destination);
    // An AF_UNIX socket has no port.
    if edge.port == 0 { name } else { format!("{name}:{}", edge.port) }
}

fn who(who: &Who) -> String {
    match who {
        Who::Workload(name) => shortened(name, NAME_LIMIT),
        Who::Address(address) if address.ip().is_some_and(|address| address.is_ipv6()) => format!("[{address}]"),
        Who::Address(address) => address.to_string(),
    }
}

/// `GET /items/{id}`.
pub(super) fn call(call: &Call) -> String {
    match call {
        Call::Request { method, route } => format!("{} {}", shortened(method, 16), shortened(route, ROUTE_LIMIT)),
        Call::Unseen => "(request not seen)".to_owned(),
        Call::Connection { protocol } => format!("({protocol})"),
    }
}
