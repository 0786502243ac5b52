//! A readable line per call, for a terminal or `grep`.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, Write},
};

use super::{
    Sink,
    buffered::Lines,
    credential_word,
    escape::shortened,
    look::{self, Look},
};
use crate::{
    certificates::SpiffeId,
    judgement::{Address, Judgement, Kind, Outcome, Party, Tls, Verdict},
};

/// Longest workload name that is shown whole; characters.
const NAME_LIMIT: usize = 40;
/// Longest path that is shown whole; characters.
const PATH_LIMIT: usize = 160;
/// Longest name of a certificate that is shown whole; characters.
const IDENTITY_LIMIT: usize = 34;
/// Columns before the call itself: time, status, verdict.
const CALL_COLUMN: usize = 30;

/// Writes a line for each call: time (UTC), status, verdict, who called whom, method and path, the proof of identity and the
/// worst finding. On a terminal the last two go to a second line where one does not suffice.
#[derive(Debug)]
pub struct Stream<W> {
    lines: Lines<W>,
    look: Look,
    text: String,
}

impl<W: Write> Stream<W> {
    /// Writes to `writer`, which needs no buffer of its own.
    pub fn new(writer: W, look: Look) -> Self {
        Self { lines: Lines::new(writer), look, text: String::new() }
    }

    /// Calls that could not be written.
    pub fn dropped(&self) -> u64 {
        self.lines.dropped()
    }

    /// The writer; what is not flushed has not reached it.
    pub fn get_ref(&self) -> &W {
        self.lines.get_ref()
    }
}

impl<W: Write> Sink for Stream<W> {
    fn judgement(&mut self, judgement: &Judgement) {
        self.text.clear();
        line(&mut self.text, judgement, self.look);
        let text = self.text.as_bytes();
        self.lines.line(|out| out.write_all(text));
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.flush()
    }
}

/// Appends the line, or two lines, of one judgement. Writing to a `String` does not fail.
fn line(text: &mut String, judgement: &Judgement, look: Look) {
    let verdict = look.paint(look::of_verdict(judgement.verdict, judgement.outcome), judgement.verdict);
    let _ = write!(text, "{} {:>3} {verdict:<15} ", judgement.time.strftime("%H:%M:%S"), status(judgement));
    let call = call(judgement);
    let remark = remark(judgement);
    text.push_str(&call);
    let length = CALL_COLUMN + call.chars().count() + 2 + remark.chars().count();
    let style = judgement.findings.iter().map(|finding| finding.severity).max().map_or(look::DIM, look::of_severity);
    let remark = look.paint(style, remark);
    if look.terminal && length > look.width {
        let _ = write!(text, "\n{:CALL_COLUMN$}{remark}", "");
    } else {
        let _ = write!(text, "  {remark}");
    }
    text.push('\n');
}

fn status(judgement: &Judgement) -> Cow<'static, str> {
    judgement.response.map_or(Cow::Borrowed("-"), |response| response.status.to_string().into())
}

fn call(judgement: &Judgement) -> String {
    let (source, destination) = (who(&judgement.source), who(&judgement.destination));
    let what = match (&judgement.request, judgement.kind) {
        (Some(request), _) => format!("{} {}", shortened(&request.method, 16), shortened(&request.path, PATH_LIMIT)),
        (None, Kind::Exchange) => "(request not seen)".to_owned(),
        (None, Kind::Connection) => {
            let tls = judgement.transport.tls.as_deref();
            let version = tls.and_then(|tls| tls.version.as_deref()).unwrap_or(judgement.protocol);
            match tls.and_then(|tls| tls.sni.as_deref()) {
                Some(name) => format!("({version} to {})", shortened(name, NAME_LIMIT)),
                None => format!("({version})"),
            }
        }
    };
    match (&judgement.destination.unix_path, judgement.destination.address) {
        (Some(path), _) => format!("{source} -> {destination} ({}) {what}", shortened(path, PATH_LIMIT)),
        (None, Address::Unix) => format!("{source} -> {destination} {what}"),
        (None, Address::Ip(_)) => format!("{source} -> {destination}:{} {what}", judgement.destination.port),
    }
}

/// The workload, or the address where nothing is known of it.
fn who(party: &Party) -> String {
    match &party.workload {
        Some(workload) => shortened(workload, NAME_LIMIT),
        None if party.address.ip().is_some_and(|address| address.is_ipv6()) => format!("[{}]", party.address),
        None => party.address.to_string(),
    }
}

/// The proof of identity and the worst finding, or why the verdict is unknown.
fn remark(judgement: &Judgement) -> String {
    let mut remark = match judgement.verdict {
        Verdict::Unknown => format!("why: {}", judgement.unknown_reason.unwrap_or("unknown")),
        _ => credential_word(judgement).to_owned(),
    };
    if let (Kind::Connection, Some(tls)) = (judgement.kind, &judgement.transport.tls) {
        handshake(&mut remark, judgement, tls);
    }
    // Of equally bad findings the first: `max_by_key` would take the last.
    if let Some(worst) = judgement.findings.iter().rev().max_by_key(|finding| finding.severity) {
        let _ = write!(remark, ", {}: {}", worst.severity, worst.rule);
        let more = judgement.findings.len() - 1;
        if more > 0 {
            let _ = write!(remark, " +{more}");
        }
    }
    remark
}

/// What came of a TLS client's proof: how sure it is and by which name, unless a finding needs the room.
fn handshake(remark: &mut String, judgement: &Judgement, tls: &Tls) {
    if judgement.outcome == Outcome::Refused {
        remark.push_str(", refused");
    } else if tls.client.identifies() && judgement.findings.is_empty() {
        let verified = tls.client.verified == Some(true);
        let _ = write!(remark, " ({})", if verified { "verified" } else { tls.client.evidence.as_str() });
        if let Some(leaf) = tls.client_chain.as_deref().map(|chain| &chain.leaf) {
            let id = leaf.spiffe_id.as_ref().map(SpiffeId::as_str);
            let _ = write!(remark, " {}", shortened(id.or(leaf.subject.as_deref()).unwrap_or("?"), IDENTITY_LIMIT));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sample, Look, Stream};
    use crate::{
        credentials::CredentialKind,
        judgement::{Judgement, Outcome, ResponseFacts, Severity, Verdict},
        sinks::{Sink, golden::assert_golden},
    };

    const TERMINAL: Look = Look { terminal: true, ..Look::PLAIN };

    fn shown(judgements: &[Judgement], look: Look) -> String {
        let mut stream = Stream::new(Vec::new(), look);
        for judgement in judgements {
            stream.judgement(judgement);
        }
        stream.flush().unwrap();
        String::from_utf8(stream.get_ref().clone()).unwrap()
    }

    fn calls() -> Vec<Judgement> {
        let mut refused = sample::unauthenticated();
        refused.response = Some(ResponseFacts { status: 401, grpc_status: None, duration_seconds: None });
        (refused.outcome, refused.findings) = (Outcome::Refused, Vec::new());
        let mut weak = sample::unauthenticated();
        weak.verdict = Verdict::Weak;
        weak.credentials = vec![sample::credential(CredentialKind::Basic, "header:authorization")];
        weak.findings = vec![
            sample::finding("basic-credential", Severity::Medium, ""),
            sample::finding("plaintext-credential", Severity::High, ""),
        ];
        let mut unseen = sample::unauthenticated();
        (unseen.request, unseen.verdict, unseen.unknown_reason) = (None, Verdict::Unknown, Some("mid-stream"));
        unseen.findings = Vec::new();
        unseen.source = sample::party("fd00::1", 1, None);
        let mut long = sample::unauthenticated();
        long.request = Some(sample::request("DELETE", &format!("/{}/end", "segment/".repeat(40)), "/"));
        let mut untrusted = sample::mutual_tls();
        untrusted.verdict = Verdict::Weak;
        untrusted.findings = vec![sample::finding("untrusted-client-certificate", Severity::High, "")];
        let connections =
            [sample::connection(), sample::mutual_tls(), untrusted, sample::anonymous_tls(), sample::refused_tls()];
        let mut calls = vec![sample::unauthenticated(), sample::authenticated(), refused, weak, unseen];
        calls.extend(connections);
        calls.push(long);
        calls
    }

    #[test]
    fn a_pipe_gets_one_line_a_call() {
        let text = shown(&calls(), Look::PLAIN);
        assert_eq!(text.lines().count(), calls().len(), "{text}");
        assert_golden("stream.txt", &text);
    }

    #[test]
    fn a_terminal_gets_lines_that_fit() {
        let text = shown(&calls(), TERMINAL);
        let long = text.lines().filter(|line| line.chars().count() > 80).count();
        assert_eq!(long, 1, "only the path of 300 characters: {text}");
        assert_golden("stream-terminal.txt", &text);
    }

    #[test]
    fn colours_only_where_asked_for() {
        let plain = shown(&calls(), TERMINAL);
        let colored = shown(&calls(), Look { color: true, ..TERMINAL });
        assert!(!plain.contains('\u{1b}') && colored.contains('\u{1b}'));
        assert_eq!(anstream::adapter::strip_str(&colored).to_string(), plain);
    }

    #[test]
    fn hostile_paths_and_names_do_not_reach_the_terminal() {
        let mut judgement = sample::unauthenticated();
        judgement.source.workload = Some("evil\u{1b}]0;title\u{7}\r".into());
        judgement.request = Some(sample::request("GET\u{9b}2J", "/a\nb\u{1b}[31m", "/"));
        let text = shown(&[judgement], Look::PLAIN);
        assert_eq!(text.chars().filter(|c| c.is_control()).collect::<String>(), "\n", "{text:?}");
    }
}
