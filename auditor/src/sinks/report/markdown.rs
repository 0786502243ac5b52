//! The report as Markdown. It lists every edge. What peers sent stands in code spans, where Markdown and HTML have no force.

use std::fmt::Write;

use super::{
    super::escape::{code_span, markdown},
    Report, VERDICTS,
    edges::{Call, Edge, Example, Who},
    view::{RuleFindings, View, meaning, number, occurrences, percent, plural, sorted_cells},
};
use crate::judgement::Verdict;

/// Edges listed as evidence of a finding.
const EVIDENCE_SHOWN: usize = 20;

/// Writing to a `String` does not fail: hence the ignored results below.
pub(super) fn render(report: &Report, view: &View<'_>) -> String {
    let mut text = String::from("# Zero trust report\n\n");
    headline(&mut text, report, view);
    if report.total() > 0 {
        edges(&mut text, report, view);
        tls(&mut text, view);
        text.push_str("\n## What was found\n\n");
        if view.findings.is_empty() {
            text.push_str("Nothing.\n");
        }
        for finding in &view.findings {
            self::finding(&mut text, finding);
        }
        good(&mut text, view);
    }
    super::waivers::render_markdown(&mut text, &report.waivers);
    coverage(&mut text, report);
    text
}

fn headline(text: &mut String, report: &Report, view: &View<'_>) {
    let Some((first, last)) = report.span else {
        text.push_str("No internal calls were seen.\n");
        return;
    };
    let _ = writeln!(
        text,
        "{} to {} UTC: {} on {}.\n",
        first.strftime("%Y-%m-%d %H:%M:%S"),
        last.strftime("%Y-%m-%d %H:%M:%S"),
        plural(report.total(), "internal call", "internal calls"),
        plural(report.edges.all().len() as u64, "edge", "edges"),
    );
    if view.endpoints.all > 0 {
        let all = plural(view.endpoints.all as u64, "endpoint", "endpoints");
        let least = if report.folded > 0 { "At least " } else { "" };
        let soft = number(view.endpoints.soft as u64);
        let _ = writeln!(text, "**{least}{soft} of {all} accept calls without proof of identity.**\n");
    }
    text.push_str("| Verdict | Calls | Share |\n|---|---:|---:|\n");
    for verdict in VERDICTS {
        let count = report.count(verdict);
        let _ = writeln!(text, "| {verdict} | {} | {} |", number(count), percent(count, report.total()));
    }
}

fn edges(text: &mut String, report: &Report, view: &View<'_>) {
    text.push_str("\n## Who calls whom\n\n");
    text.push_str("| Caller | Service | Call | Calls | Verdict | Outcome | Proof |\n|---|---|---|---:|---|---|---|\n");
    for edge in view.pairs.iter().flat_map(|pair| &pair.edges) {
        for cell in sorted_cells(edge) {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} |",
                who(&edge.source),
                service(edge),
                call(&edge.call),
                number(cell.count),
                cell.verdict,
                cell.outcome,
                cell.credentials.join(", "),
            );
        }
    }
    if report.folded > 0 {
        let calls = plural(report.folded, "call", "calls");
        let _ = writeln!(text, "\n{calls} on further edges are counted above and not listed: the limit is reached.");
    }
}

fn tls(text: &mut String, view: &View<'_>) {
    if view.tls.is_empty() {
        return;
    }
    text.push_str("\n## What TLS clients proved\n\n");
    text.push_str("| Service | Posture | Caller | Client | Evidence | Connections |\n|---|---|---|---|---|---:|\n");
    for endpoint in &view.tls {
        let (service, posture) = (service(endpoint.server), endpoint.posture.as_str());
        for (edge, handshakes) in &endpoint.callers {
            for proof in handshakes.proofs() {
                let (caller, count) = (who(&edge.source), number(proof.count));
                let _ = writeln!(
                    text,
                    "| {service} | {posture} | {caller} | {} | {} | {count} |",
                    proof.said, proof.evidence
                );
            }
        }
    }
    let mut postures: Vec<_> = view.tls.iter().map(|endpoint| endpoint.posture).collect();
    postures.dedup();
    text.push('\n');
    for posture in postures {
        let fix = super::tls::fix(posture).map_or(String::new(), |fix| format!(" **Fix:** {fix}"));
        let _ = writeln!(text, "- `{}`: {}.{fix}", posture.as_str(), super::tls::meaning(posture));
    }
}

fn finding(text: &mut String, finding: &RuleFindings<'_>) {
    let title = finding.text.map_or(String::new(), |text| format!(": {}", text.title));
    let calls = plural(finding.count, "call", "calls");
    let _ = writeln!(text, "### {} `{}`{title} ({calls})\n", finding.severity, finding.rule);
    if let Some(rule) = finding.text {
        let _ = writeln!(text, "{}\n", rule.explanation);
    }
    for (edge, found) in finding.evidence.iter().take(EVIDENCE_SHOWN) {
        let calls = occurrences(found, "%Y-%m-%d %H:%M:%S");
        let _ = writeln!(text, "- {} to {} {}: {calls}  ", who(&edge.source), service(edge), call(&edge.call));
        let _ = writeln!(text, "  {}", evidence(&found.example));
    }
    if finding.evidence.len() > EVIDENCE_SHOWN {
        let more = number((finding.evidence.len() - EVIDENCE_SHOWN) as u64);
        let _ = writeln!(text, "- ... and {more} more edges");
    }
    text.push('\n');
    if let Some(rule) = finding.text {
        let _ = writeln!(text, "**Fix:** {}\n", rule.remedy);
        if let Some(link) = rule.link {
            let _ = writeln!(text, "More: <{link}>\n");
        }
    }
}

fn good(text: &mut String, view: &View<'_>) {
    if view.enforced.is_empty() && view.authenticated_edges == 0 {
        return;
    }
    text.push_str("## What is already good\n\n");
    if view.authenticated_edges > 0 {
        let edges = plural(view.authenticated_edges as u64, "edge", "edges");
        let calls = plural(view.authenticated_calls, "call", "calls");
        let _ = writeln!(text, "- On {edges} every caller proved who it is, with nothing against it ({calls}).");
    }
    for enforced in &view.enforced {
        let calls = plural(enforced.refused, "call", "calls");
        let _ =
            writeln!(text, "- {} {} refused {calls} without proof.", service(enforced.edge), call(&enforced.edge.call));
    }
    text.push('\n');
}

fn coverage(text: &mut String, report: &Report) {
    text.push_str("## What was not seen\n\n");
    let (total, unknown) = (report.total(), report.count(Verdict::Unknown));
    if total > 0 {
        let (judged, share) = (number(total - unknown), percent(total - unknown, total));
        let _ = writeln!(text, "- {judged} of {} were judged ({share}).", plural(total, "call", "calls"));
    }
    for (reason, count) in report.unknown_reasons() {
        let _ = writeln!(text, "- {} `{reason}`: {}.", number(count), meaning(reason));
    }
    match report.losses.as_deref() {
        Some([]) => text.push_str("- No records were lost.\n"),
        Some(losses) => {
            for (reason, count) in losses {
                let records = plural(*count, "record was", "records were");
                let _ = writeln!(
                    text,
                    "- {records} lost ({}): there were more calls than are counted here.",
                    code_span(reason)
                );
            }
        }
        None => {}
    }
    if report.external > 0 {
        let calls = plural(report.external, "external call was", "external calls were");
        let _ = writeln!(text, "- {calls} left alone: only calls between internal networks are judged.");
    }
}

fn evidence(example: &Example) -> String {
    let mut text = format!("e.g. {}", example.time.strftime("%Y-%m-%d %H:%M:%S"));
    if let Some((method, path)) = &example.request {
        let _ = write!(text, " {}", code_span(&format!("{method} {path}")));
    }
    if let Some(status) = example.status {
        let _ = write!(text, " answered {status}");
    }
    if let Some((command, pid)) = &example.caller {
        let _ = write!(text, ", by {} (pid {pid})", code_span(command));
    }
    if !example.detail.is_empty() {
        let _ = write!(text, ": {}", markdown(&example.detail));
    }
    text
}

fn service(edge: &Edge) -> String {
    match &edge.destination {
        // An AF_UNIX socket has no port.
        Who::Workload(name) if edge.port == 0 => code_span(name),
        Who::Workload(name) => code_span(&format!("{name}:{}", edge.port)),
        Who::Address(address) => code_span(&address.with_port(edge.port)),
    }
}

fn who(who: &Who) -> String {
    match who {
        Who::Workload(name) => code_span(name),
        Who::Address(address) => code_span(&address.to_string()),
    }
}

fn call(call: &Call) -> String {
    match call {
        Call::Request { method, route } => code_span(&format!("{method} {route}")),
        Call::Unseen => "request not seen".to_owned(),
        Call::Connection { protocol } => (*protocol).to_owned(),
    }
}
