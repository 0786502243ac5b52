//! What the policy says of one call or connection: findings of its route, severities, waivers.

use std::time::Duration;

use auditor_wire::exchange::{Request, UnknownReason};

use super::{
    Fit, Route, Rulebook, Segments, Waived,
    condition::{Facts, Held},
    pattern,
    require::{Measured, Unmet},
};
use crate::{
    credentials::Credential,
    judgement::{Finding, Outcome, Party, Policed, Severity, Tls},
    policy::{
        Settings, checks, rules,
        rules::{POLICY_VIOLATION, severity},
    },
};

const WORKLOAD_UNKNOWN: &str = "a workload is not known";

/// One call as the policy looks at it.
pub(in crate::policy) struct Call<'a> {
    pub(in crate::policy) source: &'a Party,
    pub(in crate::policy) destination: &'a Party,
    pub(in crate::policy) request: &'a Request,
    pub(in crate::policy) method: &'a str,
    pub(super) segments: Segments<'a>,
    /// Those of the request and of the connection.
    pub(in crate::policy) credentials: &'a [Credential],
    pub(in crate::policy) tls: Option<&'a Tls>,
    /// Why more may have come than was seen.
    pub(in crate::policy) unknown: Option<UnknownReason>,
    /// It is not known whether the connection has a client certificate.
    pub(in crate::policy) tls_unknown: bool,
    /// The caller is a proxy that is believed about client certificates.
    pub(in crate::policy) trusted_proxy: bool,
    pub(in crate::policy) outcome: Outcome,
}

impl<'a> Call<'a> {
    /// A call of the parties, of which nothing else is said yet.
    pub(in crate::policy) fn new(source: &'a Party, destination: &'a Party, request: &'a Request) -> Self {
        Self {
            source,
            destination,
            request,
            method: &request.method,
            segments: Segments::of(&request.path),
            credentials: &[],
            tls: None,
            unknown: None,
            tls_unknown: false,
            trusted_proxy: false,
            outcome: Outcome::Unanswered,
        }
    }
}

/// What the policy adds to a judgement.
#[derive(Default)]
pub(in crate::policy) struct Findings {
    /// With their default severities; [`RouteUsed::weigh`] comes after.
    pub(in crate::policy) findings: Vec<Finding>,
    /// Something is against the proof that came, though it may be no finding.
    pub(in crate::policy) weak: bool,
    pub(in crate::policy) policed: Policed,
}

/// The route that a call takes.
#[derive(Clone, Copy)]
pub(in crate::policy) struct RouteUsed<'a> {
    route: Option<&'a Route>,
    /// It may be another, since a workload is not known.
    unknown: bool,
}

impl Rulebook {
    /// The route that a call takes.
    pub(in crate::policy) fn route_of(&self, call: &Call<'_>) -> RouteUsed<'_> {
        let (route, unknown) = self.route(call);
        RouteUsed { route, unknown }
    }
}

impl RouteUsed<'_> {
    /// None.
    pub(in crate::policy) const NONE: Self = Self { route: None, unknown: false };

    /// The longest lifetime of tokens on the route, where it has a limit of its own.
    pub(in crate::policy) fn max_lifetime(self) -> Option<Duration> {
        self.route?.require.max_lifetime
    }

    /// Measures a call by its route.
    pub(in crate::policy) fn measure(self, call: &Call<'_>, settings: &Settings) -> Findings {
        let mut found = Findings::default();
        if self.unknown {
            found.policed.undecided = Some(WORKLOAD_UNKNOWN);
        }
        let Some(route) = self.route else { return found };
        found.policed.route = Some(route.name.clone());
        let mut unmet = route.callers(call.source, &mut found.policed);
        unmet.extend(route.proof(call, &mut found.policed));
        unmet.extend(route.condition(call, &mut found.policed));
        found.add(unmet, route, call.outcome, settings);
        found
    }

    /// Measures a connection whose calls cannot be read: who calls, and whether the client has a certificate, where that is all
    /// that suffices. `anonymous`: it is known that the client gave none.
    pub(in crate::policy) fn measure_connection(
        self,
        source: &Party,
        anonymous: bool,
        outcome: Outcome,
        settings: &Settings,
    ) -> Findings {
        let mut found = Findings::default();
        let Some(route) = self.route else { return found };
        found.policed.route = Some(route.name.clone());
        let mut unmet = route.callers(source, &mut found.policed);
        if anonymous && route.require.is_mtls_alone() {
            let detail = "mtls is required; the client gave no certificate".to_owned();
            unmet.push(Unmet { rule: POLICY_VIOLATION, detail });
        }
        found.add(unmet, route, outcome, settings);
        found
    }

    /// Gives findings the severities of the settings and of the route, and drops those of rules that are not looked at.
    pub(in crate::policy) fn weigh(self, findings: &mut Vec<Finding>, settings: &Settings) {
        findings.retain_mut(|finding| {
            let builtin = self.route.is_some_and(|route| route.name.starts_with("builtin:"));
            let own = self.route.and_then(|route| route.severity(finding.rule));
            // The settings know better than what is built in; the policy knows better than the settings.
            let lowered = own.filter(|_| builtin).map_or(finding.severity, |own| own.min(finding.severity));
            let Some(level) = settings.severity(finding.rule, lowered) else { return false };
            finding.severity = own.filter(|_| !builtin).unwrap_or(level);
            true
        });
    }
}

impl Findings {
    /// Adds what is against a call. Rules that are not looked at are against nobody.
    fn add(&mut self, mut unmet: Vec<Unmet>, route: &Route, outcome: Outcome, settings: &Settings) {
        unmet.retain(|unmet| settings.severity(unmet.rule, Severity::Info).is_some());
        self.weak = !unmet.is_empty();
        self.findings = gathered(unmet, route, outcome);
    }
}

impl Rulebook {
    /// The route that every call on a connection takes, whatever is called.
    pub(in crate::policy) fn connection_route_of(&self, source: &Party, destination: &Party) -> RouteUsed<'_> {
        RouteUsed { route: self.connection_route(source, destination), unknown: false }
    }

    /// Takes out the findings that are waived on the day of the call.
    pub(in crate::policy) fn waive(
        &self,
        findings: &mut Vec<Finding>,
        call: Option<&Call<'_>>,
        (source, destination): (&Party, &Party),
        now: i64,
    ) -> Vec<Waived> {
        if findings.is_empty() || self.waivers.is_empty() {
            return Vec::new();
        }
        let Ok(time) = jiff::Timestamp::from_second(now) else { return Vec::new() };
        let day = time.to_zoned(jiff::tz::TimeZone::UTC).date();
        let fits = |waiver: &&super::Waiver| {
            let fit = match call {
                Some(call) => waiver.target.fits(call),
                None if waiver.target.is_for_all_calls() => waiver.target.fits_parties(source, destination),
                None => Fit::No,
            };
            fit == Fit::Yes
        };
        let waivers: Vec<_> = self.waivers.iter().filter(|waiver| waiver.holds_on(day)).filter(fits).collect();
        let mut waived = Vec::new();
        findings.retain(|finding| match waivers.iter().find(|waiver| waiver.is_for(finding.rule)) {
            Some(waiver) => {
                waiver.count();
                waived.push(Waived { finding: finding.clone(), waiver: waiver.note.clone() });
                false
            }
            None => true,
        });
        waived
    }
}

/// Credentials that are a proof to the callee.
fn counting<'c>(call: &Call<'c>) -> impl Iterator<Item = &'c Credential> + Clone {
    let (request, trusted_proxy) = (call.request, call.trusted_proxy);
    call.credentials.iter().filter(move |credential| checks::counts(credential, request, trusted_proxy))
}

impl Route {
    fn callers(&self, source: &Party, policed: &mut Policed) -> Vec<Unmet> {
        if self.callers.is_empty() {
            return Vec::new();
        }
        match pattern::any(&self.callers, source) {
            Fit::Yes => Vec::new(),
            Fit::Unknown => {
                policed.undecided = Some(WORKLOAD_UNKNOWN);
                Vec::new()
            }
            Fit::No => {
                vec![Unmet { rule: POLICY_VIOLATION, detail: "the caller is not among those that may call".to_owned() }]
            }
        }
    }

    /// A call without any credential is what `unauthenticated-call` is about, and nothing more is said of it here.
    fn proof(&self, call: &Call<'_>, policed: &mut Policed) -> Vec<Unmet> {
        let credentials = counting(call);
        if credentials.clone().next().is_none() {
            return Vec::new();
        }
        let complete = call.unknown.is_none() && !(call.tls_unknown && self.require.takes_mtls());
        let Measured { unmet, undecided } = self.require.measure(credentials, complete);
        policed.undecided = policed.undecided.or(undecided);
        unmet
    }

    /// The condition; it holds where it holds for one of the tokens.
    fn condition(&self, call: &Call<'_>, policed: &mut Policed) -> Option<Unmet> {
        /// Tokens for which it is evaluated.
        const TOKENS: usize = 4;
        let condition = self.when.as_ref()?;
        let first = counting(call).next();
        if first.is_none() && call.unknown.is_none() && condition.asks_for_credential() {
            return None;
        }
        let mut tokens = counting(call).filter(|credential| credential.claims.is_some()).take(TOKENS).peekable();
        let without = tokens.peek().is_none().then_some(first);
        let mut why = None;
        let mut undecided = None;
        for credential in tokens.map(Some).chain(without) {
            let facts = Facts {
                source: call.source,
                destination: call.destination,
                request: call.request,
                unknown: call.unknown,
                path: &call.segments,
                captures: &self.captures,
                tls: call.tls,
                credential,
            };
            match condition.holds(&facts) {
                Held::Yes => return None,
                Held::No(reason) => why = why.or(Some(reason)),
                Held::Undecided(reason) => undecided = Some(reason),
            }
        }
        // Another credential may stand in what was not seen.
        if why.is_some() && call.unknown.is_some() && condition.asks_for_credential() {
            undecided = undecided.or(Some("not everything that proves was seen"));
        }
        if undecided.is_some() {
            policed.undecided = policed.undecided.or(undecided);
            return None;
        }
        why.map(|why| Unmet { rule: POLICY_VIOLATION, detail: format!("the route's condition: {why}") })
    }
}

/// One finding for each rule. Nothing where the call was refused or not answered, a lesser one where it failed for whatever
/// reason.
fn gathered(unmet: Vec<Unmet>, route: &Route, outcome: Outcome) -> Vec<Finding> {
    if matches!(outcome, Outcome::Refused | Outcome::Unanswered) {
        return Vec::new();
    }
    let mut findings: Vec<Finding> = Vec::new();
    for Unmet { rule, detail } in unmet {
        if findings.iter().any(|known| known.rule == rule) {
            continue;
        }
        let level = if outcome == Outcome::Failed { severity(rule).min(Severity::Medium) } else { severity(rule) };
        let detail = format!("route {}: {detail}", route.name).into_boxed_str();
        debug_assert!(rules::rule(rule).is_some(), "{rule} is a rule");
        findings.push(Finding { rule, severity: level, detail });
    }
    findings
}
