//! What a call or connection proves by itself, and what is against it: by the rules, by its route of the policy, by waivers.

use std::{sync::Arc, time::Duration};

use auditor_wire::{
    exchange::{Exchange, UnknownReason},
    segment::Timestamp,
    tls::Facts,
};

use super::{
    Settings,
    checks::{self, Call},
    connections::Authenticated,
    crosscall::Across,
    proofs,
    rulebook::{self, RouteUsed, Rulebook},
    tls::{self, Handshake},
    unix, unix_seconds,
};
use crate::{
    certificates::Reader,
    credentials::{Checked, Credential, Extractor, names::Names},
    judgement::{Finding, Judgement, Outcome, Party, Policed, Verdict},
};

/// What calls are measured against. It remembers nothing of them but which connections are authenticated.
#[derive(Debug)]
pub(super) struct Measure {
    pub(super) settings: Settings,
    pub(super) extractor: Extractor,
    pub(super) certificates: Reader,
    /// Words that administration goes by.
    admin_words: Names<()>,
    pub(super) authenticated: Authenticated,
    pub(super) rulebook: Rulebook,
    /// A recording keeps these of the claims that records do not show.
    pub(super) recorded_claims: Arc<[Arc<str>]>,
}

/// What a call is judged by besides its messages.
#[derive(Clone, Copy)]
pub(super) struct Circumstances<'a> {
    pub(super) source: &'a Party,
    pub(super) destination: &'a Party,
    /// The bytes stayed on the node.
    pub(super) on_node: bool,
    pub(super) outcome: Outcome,
    /// What was found out before about secrets that are masked now.
    pub(super) checked: Option<&'a [Checked]>,
}

/// What a call proves and what is against it.
pub(super) struct Weighed {
    pub(super) verdict: Verdict,
    pub(super) unknown_reason: Option<UnknownReason>,
    pub(super) credentials: Vec<Credential>,
    pub(super) findings: Vec<Finding>,
    pub(super) policed: Policed,
}

/// What a call proves.
struct Proven {
    /// Those in its request.
    credentials: Vec<Credential>,
    proof: Proof,
    /// Why it may prove more than was seen.
    unknown: Option<UnknownReason>,
    /// All that was seen of its request was looked at.
    all: bool,
    findings: Vec<Finding>,
}

/// What the credentials of a call prove together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// None counts as a proof to the callee.
    None,
    /// One counts, and something is against one of them.
    Weak,
    /// One counts, and nothing is against any.
    Sound,
}

impl Measure {
    /// A measure without a policy.
    pub(super) fn new(settings: Settings, extractor: Extractor) -> Self {
        let certificates = Reader::new(&settings.trust.bundles);
        let mut admin_words = Names::new();
        settings.admin_words.iter().for_each(|word| admin_words.add(word, ()));
        let (authenticated, rulebook, recorded_claims) = <(Authenticated, Rulebook, Arc<_>)>::default();
        Self { settings, extractor, certificates, admin_words, authenticated, rulebook, recorded_claims }
    }

    /// Weighs a call. `across` says what it shows together with those before it, given its credentials, the verdict that it has by
    /// itself, and what was found.
    pub(super) fn call(
        &self,
        exchange: &Exchange,
        circumstances: Circumstances<'_>,
        handshake: Option<&Handshake<'_>>,
        across: impl FnOnce(&[Credential], Verdict, &[Finding]) -> Across,
    ) -> Weighed {
        let Circumstances { source, destination, outcome, .. } = circumstances;
        let request = exchange.request.as_ref();
        let mut call = request.map(|request| rulebook::Call::new(source, destination, request));
        // A malformed request may have another path to the service.
        let readable = call.as_ref().filter(|_| exchange.unknown != Some(UnknownReason::Malformed));
        let route = readable.map_or(RouteUsed::NONE, |call| self.rulebook.route_of(call));
        let Proven { mut credentials, mut proof, unknown, all, mut findings } =
            self.proven(exchange, circumstances, handshake, route.max_lifetime());
        let (alone, _) = verdict(proof, unknown, request.is_some());
        let Across { findings: found, against, .. } = across(&credentials, alone, &findings);
        if proof == Proof::Sound && self.weakens(&found[..against]) {
            proof = Proof::Weak;
        }
        findings.extend(found);
        credentials.extend(handshake.and_then(Handshake::credential).cloned());
        findings.extend(checks::cors(request, exchange.response.as_ref(), outcome));
        findings.extend(unix::exposed(source, destination, outcome, &self.settings));
        let mut policed = Policed::default();
        if let Some(call) = &mut call {
            call.unknown = unknown.or((!all).then_some(UnknownReason::HeadTruncated));
            call.tls_unknown = handshake.is_some_and(|handshake| handshake.unknown().is_some());
            (call.credentials, call.outcome) = (&credentials, outcome);
            call.trusted_proxy = self.is_trusted_proxy(source);
            call.tls = handshake.map(Handshake::tls);
            let found = route.measure(call, &self.settings);
            if found.weak && proof == Proof::Sound {
                proof = Proof::Weak;
            }
            findings.extend(found.findings);
            policed = found.policed;
        }
        route.weigh(&mut findings, &self.settings);
        let now = unix_seconds(exchange.time);
        policed.waived = self.rulebook.waive(&mut findings, call.as_ref(), (source, destination), now);
        drop(call);
        if self.recorded_claims.is_empty() {
            credentials.iter_mut().for_each(|credential| credential.custom = None);
        }
        let (verdict, unknown_reason) = verdict(proof, unknown, request.is_some());
        let verdict = exempt(verdict, &findings, &policed);
        Weighed { verdict, unknown_reason, credentials, findings, policed }
    }

    /// What a call proves, by what is in its request and by the TLS connection that carried it.
    fn proven(
        &self,
        exchange: &Exchange,
        Circumstances { source, destination, on_node, outcome, checked }: Circumstances<'_>,
        handshake: Option<&Handshake<'_>>,
        max_lifetime: Option<Duration>,
    ) -> Proven {
        let unknown = exchange.unknown;
        let mut proven =
            Proven { credentials: Vec::new(), proof: Proof::None, unknown, all: true, findings: Vec::new() };
        if let Some(handshake) = handshake.filter(|handshake| handshake.credential().is_some()) {
            let defects = handshake.defects();
            proven.proof = if self.weakens(&defects) { Proof::Weak } else { Proof::Sound };
            proven.findings = tls::inside(defects, outcome);
        }
        let Some(request) = &exchange.request else { return proven };
        let credentials = match checked {
            Some(checked) => self.extractor.extract_masked(request, checked),
            None => self.extractor.extract(request),
        };
        let trusted_proxy = self.is_trusted_proxy(source);
        proven.all = self.extractor.looks_at_all(request, &credentials);
        let call = Call {
            settings: &self.settings,
            admin_words: &self.admin_words,
            jwt_lifetime: max_lifetime.unwrap_or(self.settings.jwt_lifetime),
            request,
            response: exchange.response.as_ref(),
            credentials: &credentials,
            outcome,
            in_clear: handshake.is_none() && !on_node,
            whole: exchange.unknown.is_none() && proven.all,
            trusted_proxy,
            now: unix_seconds(exchange.time),
        };
        let defects = checks::credentials(&call);
        if credentials.iter().any(|credential| checks::counts(credential, request, trusted_proxy)) {
            proven.proof = if defects.weak || proven.proof == Proof::Weak { Proof::Weak } else { Proof::Sound };
        }
        proven.findings.extend(defects.findings);
        proven.findings.extend(proofs::forwarded(&call, proven.proof != Proof::None));
        self.authenticated.note(exchange, &call);
        if proven.proof == Proof::None {
            if !proven.all {
                proven.unknown = proven.unknown.or(Some(UnknownReason::HeadTruncated));
            }
            proven.unknown = proven.unknown.or_else(|| handshake.and_then(Handshake::unknown));
            proven.unknown = proven.unknown.or_else(|| self.authenticated.unknown(exchange));
            proven.unknown = proven.unknown.or_else(|| unix::unknown(destination));
            if proven.unknown.is_none() {
                proven.findings.extend(checks::unauthenticated(&call));
            }
        }
        proven.credentials = credentials;
        proven
    }

    /// Has the claims kept that the policy or a recording asks for.
    pub(super) fn want_claims(&mut self) {
        let of_policy = self.rulebook.custom_claims();
        let others = self.recorded_claims.iter().filter(|name| !of_policy.contains(name)).cloned();
        self.extractor.want_claims(of_policy.iter().cloned().chain(others).collect());
    }

    /// Weighs a TLS connection without readable calls.
    pub(super) fn connection(&self, judgement: &mut Judgement, handshake: Handshake<'_>, now: i64) {
        let weak = self.weakens(&handshake.defects());
        let (verdict, reason) = handshake.verdict(weak);
        judgement.protocol = "tls";
        (judgement.verdict, judgement.unknown_reason) = (verdict, reason.map(UnknownReason::as_str));
        judgement.outcome = handshake.outcome();
        let Judgement { source, destination, findings, outcome, .. } = &mut *judgement;
        let route = self.rulebook.connection_route_of(source, destination);
        let found = route.measure_connection(source, handshake.is_anonymous(), *outcome, &self.settings);
        *findings = handshake.findings();
        findings.extend(found.findings);
        route.weigh(findings, &self.settings);
        let waived = self.rulebook.waive(findings, None, (source, destination), now);
        judgement.policy = Policed { waived, ..found.policed };
        if found.weak && judgement.verdict == Verdict::Authenticated {
            judgement.verdict = Verdict::Weak;
        }
        judgement.verdict = exempt(judgement.verdict, &judgement.findings, &judgement.policy);
        judgement.credentials.extend(handshake.credential().cloned());
        judgement.transport = handshake.into_transport();
    }

    /// Weighs a connection in a protocol that is not read.
    pub(super) fn unread(&self, judgement: &mut Judgement, now: i64) {
        let Judgement { source, destination, findings, outcome, .. } = &mut *judgement;
        findings.extend(unix::exposed(source, destination, *outcome, &self.settings));
        if findings.is_empty() {
            return;
        }
        self.rulebook.connection_route_of(source, destination).weigh(findings, &self.settings);
        judgement.policy.waived = self.rulebook.waive(findings, None, (source, destination), now);
    }

    /// What a TLS connection shows.
    pub(super) fn handshake(&self, facts: &Facts, time: Timestamp) -> Handshake<'_> {
        Handshake::new(facts, &self.settings, &self.certificates, &self.extractor, unix_seconds(time))
    }

    /// Whether the caller is a proxy that is believed about client certificates.
    fn is_trusted_proxy(&self, source: &Party) -> bool {
        let address = || source.address.ip().map(|address| address.to_canonical());
        self.settings.trusted_proxies.iter().any(|network| address().is_some_and(|address| network.contains(&address)))
    }

    /// Whether one of the findings is of a rule that is looked at.
    fn weakens(&self, findings: &[Finding]) -> bool {
        findings.iter().any(|finding| self.settings.severity(finding.rule, finding.severity).is_some())
    }
}

fn verdict(proof: Proof, unknown: Option<UnknownReason>, request_seen: bool) -> (Verdict, Option<UnknownReason>) {
    match (unknown, proof) {
        (Some(UnknownReason::Malformed), _) => (Verdict::Unknown, unknown),
        (_, Proof::Weak) => (Verdict::Weak, None),
        (_, Proof::Sound) => (Verdict::Authenticated, None),
        (Some(_), Proof::None) => (Verdict::Unknown, unknown),
        (None, Proof::None) if request_seen => (Verdict::Unauthenticated, None),
        (None, Proof::None) => (Verdict::Unknown, Some(UnknownReason::MidStream)),
    }
}

/// `exempt` where all that was against a call is waived. What is proven, and what is not known, stays what it is.
fn exempt(verdict: Verdict, findings: &[Finding], policed: &Policed) -> Verdict {
    let against = matches!(verdict, Verdict::Weak | Verdict::Unauthenticated);
    if against && findings.is_empty() && !policed.waived.is_empty() { Verdict::Exempt } else { verdict }
}
