use super::{
    super::{Look, Sink, escape::Escaped, golden::assert_golden, sample},
    Report, RuleText, Settings,
};
use crate::{
    credentials::CredentialKind,
    judgement::{Judgement, Outcome, ResponseFacts, Severity, Verdict, WaiverNote},
    policy::rulebook::{WaiverState, WaiverStatus},
};

const RULES: [RuleText; 2] = [
    RuleText {
        id: "unauthenticated-call",
        title: "A call without proof of identity was accepted",
        explanation: "Whoever reaches this endpoint may use it. One compromised process inside is enough to read or change \
                      what it guards.",
        remedy: "Let the service demand a short-lived identity of its callers: a token for this audience or mutual TLS.\n\
                 Then refuse what comes without it.",
        link: Some("https://example.org/rules#unauthenticated-call"),
    },
    RuleText {
        id: "basic-credential",
        title: "A password is sent with every call",
        explanation: "It never expires and whoever sees it once can use it.",
        remedy: "Use a short-lived token.",
        link: None,
    },
];

fn calls() -> Vec<Judgement> {
    let soft = sample::unauthenticated();
    let mut critical = sample::unauthenticated();
    critical.time = sample::time(90_000);
    critical.request = Some(sample::request("DELETE", "/admin/users/7", "/admin/users/{id}"));
    critical.findings =
        vec![sample::finding("unauthenticated-call", Severity::Critical, "no proof of identity, answered 200")];
    let mut refused = sample::unauthenticated();
    refused.source = sample::party("10.0.0.7", 40001, None);
    refused.request = Some(sample::request("GET", "/orders/1", "/orders/{id}"));
    refused.response = Some(ResponseFacts { status: 401, grpc_status: None, duration_seconds: None });
    (refused.outcome, refused.findings) = (Outcome::Refused, Vec::new());
    let mut weak = sample::unauthenticated();
    weak.verdict = Verdict::Weak;
    weak.credentials = vec![sample::credential(CredentialKind::Basic, "header:authorization")];
    weak.findings = vec![sample::finding("basic-credential", Severity::Medium, "Basic in header:authorization")];
    let mut unseen = sample::unauthenticated();
    (unseen.request, unseen.verdict, unseen.unknown_reason) = (None, Verdict::Unknown, Some("mid-stream"));
    unseen.findings = Vec::new();
    let mut long = sample::authenticated();
    long.request = Some(sample::request(
        "POST",
        "/api/v1/warehouses/7/shelves/12/items",
        "/api/v1/warehouses/{id}/shelves/{id}/items",
    ));
    let mut calls =
        vec![critical, refused.clone(), refused, weak, unseen, sample::authenticated(), long, sample::connection()];
    let mut enforced = [sample::mutual_tls(), sample::refused_tls()];
    enforced.iter_mut().for_each(|connection| connection.destination.port = 8443);
    calls.extend(enforced);
    calls.extend([sample::mutual_tls(), sample::anonymous_tls(), sample::anonymous_tls()]);
    let later = Judgement { time: sample::time(60_000), ..soft.clone() };
    calls.extend(std::iter::repeat_n(soft, 1199));
    calls.push(later);
    calls
}

fn report(calls: &[Judgement], settings: Settings) -> Report {
    let mut report = Report::new(settings);
    for call in calls {
        report.judgement(call);
    }
    report
}

fn full() -> Report {
    let mut report = report(&calls(), Settings::default());
    report.set_external(17);
    report.set_losses([("ring-full", 0), ("payload-unreadable", 3)]);
    report.set_waivers(vec![
        waiver("legacy-cron", 31, 1200, WaiverState::Active),
        waiver("never-needed", 31, 0, WaiverState::Unused),
        waiver("forgotten", 21, 7, WaiverState::Expired),
    ]);
    report
}

fn waiver(name: &str, day: i8, used: u64, state: WaiverState) -> WaiverStatus {
    let expires = jiff::civil::date(2026, if day > 30 { 12 } else { 11 }, day);
    let note = WaiverNote { name: name.into(), owner: "team-billing@example.com".into(), expires };
    WaiverStatus { note: note.into(), reason: "moves to tokens | SHOP-123".into(), used, state }
}

#[test]
fn a_terminal_shows_what_matters_in_80_columns() {
    let text = full().render_terminal(&RULES, Look::PLAIN);
    let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > 80).collect();
    assert_eq!(wide, [""; 0], "lines of more than 80 columns");
    assert_golden("report.txt", &text);
}

/// A call whose every text of a peer's choice is as long as it may be, made of one character.
fn long_call(of: char) -> Judgement {
    let name = |length: usize| String::from(of).repeat(length);
    let mut call = sample::unauthenticated();
    (call.source.workload, call.destination.workload) = (Some(name(300).into()), Some(name(301).into()));
    call.source.process = None;
    call.request = Some(sample::request(&name(40), &format!("/{}", name(4000)), &format!("/{}/{{id}}", name(4000))));
    let header = format!("token in header:x-{}, unencrypted between nodes", name(256));
    call.credentials = [CredentialKind::BearerJwt, CredentialKind::ForwardedClientCert, CredentialKind::SessionCookie]
        .map(|kind| sample::credential(kind, &format!("header:x-{}", name(256))))
        .into();
    call.verdict = Verdict::Weak;
    call.findings = vec![sample::finding("unauthenticated-call", Severity::High, &header)];
    call
}

/// Columns of a terminal, which the tests count by themselves.
fn columns(line: &str) -> usize {
    line.chars()
        .map(|character| if ('\u{1100}'..'\u{20000}').contains(&character) && character != '…' { 2 } else { 1 })
        .sum()
}

#[test]
fn evidence_stays_within_80_columns_whatever_peers_call_themselves() {
    // A letter; a wide one; one that is escaped, and so becomes six; an emoji.
    for of in ['a', '界', '\u{7f}', '😀'] {
        let mut calls = vec![long_call(of)];
        let mut refused = long_call(of);
        (refused.outcome, refused.destination.port) = (Outcome::Refused, 81);
        (refused.verdict, refused.credentials, refused.findings) = (Verdict::Unauthenticated, vec![], vec![]);
        calls.push(refused);
        for (port, connection) in [(8443, sample::anonymous_tls()), (8444, sample::refused_tls())] {
            let ends = long_call(of);
            let mut connection = Judgement { source: ends.source, destination: ends.destination, ..connection };
            connection.destination.port = port;
            calls.push(connection);
        }
        let unknown = |reason| Judgement {
            verdict: Verdict::Unknown,
            unknown_reason: Some(reason),
            findings: vec![],
            ..sample::unauthenticated()
        };
        calls.extend(["hpack-lost", "peer-credentials", "connection-authenticated"].map(unknown));
        let report = report(&calls, Settings::default());
        let text = report.render_terminal(&RULES, Look::PLAIN);
        let wide: Vec<_> = text.lines().filter(|line| columns(line) > 80).collect();
        assert!(wide.is_empty(), "{of:?}: lines of more than 80 columns: {wide:#?}");
        let colored = report.render_terminal(&RULES, Look { color: true, ..Look::PLAIN });
        assert_eq!(anstream::adapter::strip_str(&colored).to_string(), text, "{of:?}");
        // Broken, not cut, beyond what is kept of it.
        let joined: String = text.split_whitespace().collect();
        let header = Escaped(&String::from(of).repeat(60)).to_string();
        assert!(joined.contains(&header) && joined.contains("bearer-jwt"), "{of:?}: {text}");
    }
}

#[test]
fn markdown_says_the_same() {
    assert_golden("report.md", &full().render_markdown(&RULES));
}

#[test]
fn the_order_of_calls_does_not_matter() {
    let mut calls = calls();
    let forward = report(&calls, Settings::default());
    calls.reverse();
    let backward = report(&calls, Settings::default());
    assert_eq!(forward.render_terminal(&RULES, Look::PLAIN), backward.render_terminal(&RULES, Look::PLAIN));
    assert_eq!(forward.render_markdown(&RULES), backward.render_markdown(&RULES));
}

#[test]
fn nothing_seen_is_said_so() {
    let mut report = Report::new(Settings::default());
    report.set_losses([]);
    let text = report.render_terminal(&RULES, Look::PLAIN);
    assert_eq!(text, "Zero trust report\nNo internal calls were seen.\n\nWhat was not seen\nNo records were lost.\n");
    assert_eq!((report.total(), report.worst()), (0, None));
    assert!(report.render_markdown(&RULES).contains("No internal calls were seen."));
}

#[test]
fn past_the_limit_calls_and_findings_still_count() {
    let calls: Vec<_> = (0..100)
        .map(|at| {
            let mut call = sample::unauthenticated();
            call.request = Some(sample::request("GET", "/", &format!("/{at}")));
            call
        })
        .collect();
    let report = report(&calls, Settings { edge_limit: 10 });
    assert_eq!((report.total(), report.worst()), (100, Some(Severity::High)));
    let text = report.render_terminal(&RULES, Look::PLAIN);
    assert!(text.contains("90 calls on further edges"), "{text}");
    assert!(text.contains("(100 calls)"), "{text}");
}

#[test]
fn an_endpoint_that_accepts_from_one_caller_is_no_boundary() {
    let mut refused = sample::unauthenticated();
    refused.source.workload = Some("other".into());
    (refused.outcome, refused.findings) = (Outcome::Refused, Vec::new());
    let text = report(&[refused.clone()], Settings::default()).render_terminal(&RULES, Look::PLAIN);
    assert!(text.contains("refused 1 call without proof") && text.contains("0 of 1 endpoint accept"), "{text}");
    let text = report(&[refused, sample::unauthenticated()], Settings::default()).render_terminal(&RULES, Look::PLAIN);
    assert!(!text.contains("without proof\n") && text.contains("1 of 1 endpoint accept"), "{text}");
}

#[test]
fn colours_only_where_asked_for() {
    let report = full();
    let plain = report.render_terminal(&RULES, Look::PLAIN);
    let colored = report.render_terminal(&RULES, Look { color: true, ..Look::PLAIN });
    assert!(!plain.contains('\u{1b}') && colored.contains('\u{1b}'));
    assert_eq!(anstream::adapter::strip_str(&colored).to_string(), plain);
}

#[test]
fn hostile_text_has_no_force() {
    let evil = "x\u{1b}[2J\n# h `|` <img src=x onerror=alert(1)> [l](u)\u{202e}";
    let mut call = sample::unauthenticated();
    call.source.workload = Some(evil.into());
    call.request = Some(sample::request(evil, evil, evil));
    call.findings = vec![sample::finding("unauthenticated-call", Severity::High, evil)];
    let report = report(&[call], Settings::default());
    let (terminal, page) = (report.render_terminal(&RULES, Look::PLAIN), report.render_markdown(&RULES));
    for text in [&terminal, &page] {
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("# h")), "{text}");
    }
    let outside: String = page.split('`').step_by(2).collect();
    assert!(!outside.contains("<img") || outside.contains("\\<img"), "{page}");
    for row in page.lines().filter(|line| line.starts_with("| `x")) {
        assert_eq!(row.matches('|').count(), 8, "{row}");
    }
}

#[test]
fn a_path_that_may_hold_a_token_is_shown_as_its_route() {
    let token = "t0ken".repeat(12);
    let mut call = sample::unauthenticated();
    call.request = Some(sample::request("GET", &format!("/reset/{token}"), "/reset/{token}"));
    let report = report(&[call], Settings::default());
    assert!(!report.render_terminal(&RULES, Look::PLAIN).contains(&token));
    assert!(!report.render_markdown(&RULES).contains(&token));
}
