//! The rules' conditions. Each check looks at one call and says what is wrong with it; details name places, never values.

use std::{net::IpAddr, time::Duration};

use auditor_wire::exchange::{Exchange, Request, Response};

use super::{
    Settings, proofs,
    rules::{
        BASIC_CREDENTIAL, CORS_ON_INTERNAL, CREDENTIAL_IN_URL, JWT_EXPIRED_ACCEPTED, JWT_LONG_LIVED, JWT_NO_EXPIRY,
        JWT_NOT_YET_VALID, JWT_UNSIGNED, PLAINTEXT_CREDENTIAL, STATIC_API_KEY, UNAUTHENTICATED_CALL, severity,
    },
    seconds,
};
use crate::{
    attribution::Attributed,
    credentials::{Claims, Credential, CredentialKind, names::Names},
    judgement::{Address, Finding, Outcome, Severity},
};

/// Methods that change nothing by definition: RFC 9110 section 9.2.1, RFC 4918, RFC 3253, RFC 5323 and QUERY.
const SAFE_METHODS: [&str; 8] = ["GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"];

/// One call as the rules look at it.
pub(super) struct Call<'a> {
    pub(super) settings: &'a Settings,
    /// Words that administration goes by.
    pub(super) admin_words: &'a Names<()>,
    /// Longest lifetime of a token that is not `jwt-long-lived`.
    pub(super) jwt_lifetime: Duration,
    pub(super) request: &'a Request,
    pub(super) response: Option<&'a Response>,
    pub(super) credentials: &'a [Credential],
    pub(super) outcome: Outcome,
    /// The bytes left the node, and not within TLS.
    pub(super) in_clear: bool,
    /// The whole head was seen: what is not in it was not sent.
    pub(super) whole: bool,
    /// The caller is a proxy that may be believed about client certificates.
    pub(super) trusted_proxy: bool,
    /// Seconds since the Unix epoch.
    pub(super) now: i64,
}

/// What is wrong with the credentials of a call.
pub(super) struct Defects<'a> {
    settings: &'a Settings,
    /// One finding for each rule that fired.
    pub(super) findings: Vec<Finding>,
    /// Some credential does not suffice. A token that must not be accepted does not suffice even where it was refused, which
    /// is no finding.
    pub(super) weak: bool,
}

impl Defects<'_> {
    /// Something is against a credential, though it may be no finding. Not so for a rule that is not looked at.
    pub(super) fn weaken(&mut self, rule: &'static str) {
        self.weak |= self.settings.severity(rule, Severity::Info).is_some();
    }

    pub(super) fn add(&mut self, rule: &'static str, severity: Severity, detail: impl FnOnce() -> String) {
        self.weaken(rule);
        if !self.findings.iter().any(|known| known.rule == rule) {
            self.findings.push(Finding { rule, severity, detail: detail().into_boxed_str() });
        }
    }
}

/// Whether a credential is a proof to the party that is called.
///
/// `Proxy-Authorization` is a proof to the proxy, so it counts only where the request is addressed to one (CONNECT or
/// absolute-form); an origin has no use for it. A `DPoP` header proves that the caller has the key it made itself: without a
/// token bound to it, that is nobody's identity. A forwarded certificate is the word of who sent it: it counts from a proxy
/// that is trusted alone.
pub(super) fn counts(credential: &Credential, request: &Request, trusted_proxy: bool) -> bool {
    match &*credential.carrier {
        "header:proxy-authorization" => is_to_proxy(request),
        "header:dpop" => false,
        _ => credential.kind != CredentialKind::ForwardedClientCert || trusted_proxy,
    }
}

/// CONNECT, or a target in absolute-form (RFC 9112 sections 3.2.2 and 3.2.3).
fn is_to_proxy(request: &Request) -> bool {
    let target = request.head.bytes().trim_ascii_start().split(|byte| *byte == b' ').nth(1);
    &*request.method == "CONNECT" || target.is_some_and(|target| !matches!(target, [] | [b'/' | b'*', ..]))
}

/// Whether the bytes stayed on the node: over loopback, between two sockets that were both observed, or from an address to
/// itself.
pub(super) fn on_node(call: &Attributed<Exchange>) -> bool {
    let exchange = &call.observed;
    if call.destination.address == Address::Unix {
        return true;
    }
    let ends = [exchange.source.address, exchange.destination.address, exchange.wire.local, exchange.wire.remote];
    ends.iter().any(|end| is_loopback(end.ip()))
        || (exchange.source.socket.is_some() && exchange.destination.socket.is_some())
        || (call.source.process.is_some() && call.destination.process.is_some())
        || exchange.wire.local.ip() == exchange.wire.remote.ip()
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// What is wrong with the credentials.
pub(super) fn credentials<'a>(call: &Call<'a>) -> Defects<'a> {
    let mut defects = Defects { settings: call.settings, findings: Vec::new(), weak: false };
    for credential in call.credentials {
        let carrier = &credential.carrier;
        let in_url = ["query:", "path:", "userinfo"].iter().any(|place| carrier.starts_with(place));
        if is_reusable(credential) {
            if in_url {
                defects.add(CREDENTIAL_IN_URL, severity(CREDENTIAL_IN_URL), || {
                    format!("{} in {carrier}", word(credential))
                });
            }
            if call.in_clear {
                let detail = || [word(credential), " in ", carrier, ", unencrypted between nodes"].concat();
                defects.add(PLAINTEXT_CREDENTIAL, severity(PLAINTEXT_CREDENTIAL), detail);
            }
        }
        match credential.kind {
            CredentialKind::Basic => {
                defects.add(BASIC_CREDENTIAL, severity(BASIC_CREDENTIAL), || format!("user and password in {carrier}"));
            }
            CredentialKind::ApiKey => {
                defects.add(STATIC_API_KEY, severity(STATIC_API_KEY), || format!("static key in {carrier}"));
            }
            _ => {}
        }
        if let Some(claims) = &credential.claims {
            token(call, claims, carrier, &mut defects);
        }
        proofs::credential(call, credential, &mut defects);
    }
    proofs::possession(call, &mut defects);
    defects
}

/// What people call it.
pub(super) fn word(credential: &Credential) -> &'static str {
    match credential.kind {
        CredentialKind::Basic => "password",
        CredentialKind::SessionCookie => "session",
        CredentialKind::ApiKey => "key",
        _ => "token",
    }
}

/// Whether who reads the credential can use it as it is. Signatures, Digest, Negotiate and DPoP are bound to a message, a
/// connection or a key; of other schemes it is not known.
pub(super) fn is_reusable(credential: &Credential) -> bool {
    match credential.kind {
        CredentialKind::ApiKey
        | CredentialKind::Basic
        | CredentialKind::BearerJwt
        | CredentialKind::BearerOpaque
        | CredentialKind::InternalJwt
        | CredentialKind::SessionCookie => true,
        CredentialKind::AwsSigv4
        | CredentialKind::Digest
        | CredentialKind::Dpop
        | CredentialKind::ForwardedClientCert
        | CredentialKind::HttpSignature
        | CredentialKind::Mtls
        | CredentialKind::Negotiate
        | CredentialKind::Other => false,
    }
}

/// The claims of a token that need neither a key nor configuration.
fn token(call: &Call<'_>, claims: &Claims, carrier: &str, defects: &mut Defects<'_>) {
    let leeway = seconds(call.settings.clock_leeway);
    if claims.alg.as_deref().is_some_and(|alg| alg.eq_ignore_ascii_case("none")) {
        defects.weaken(JWT_UNSIGNED);
        must_not_be_accepted(call, JWT_UNSIGNED, defects, || format!("alg none in {carrier}"));
    }
    if !claims.readable {
        return;
    }
    if let Some(early) = claims.nbf.map(|nbf| nbf.saturating_sub(call.now)).filter(|early| *early > leeway) {
        defects.weaken(JWT_NOT_YET_VALID);
        must_not_be_accepted(call, JWT_NOT_YET_VALID, defects, || format!("valid only {early} s later, in {carrier}"));
    }
    let Some(exp) = claims.exp else {
        defects.add(JWT_NO_EXPIRY, severity(JWT_NO_EXPIRY), || format!("no exp in {carrier}"));
        return;
    };
    let left = exp.saturating_sub(call.now);
    if left < -leeway {
        defects.weaken(JWT_EXPIRED_ACCEPTED);
        if call.outcome == Outcome::Accepted {
            let detail = || format!("expired {} s before, in {carrier}", left.saturating_neg());
            defects.add(JWT_EXPIRED_ACCEPTED, severity(JWT_EXPIRED_ACCEPTED), detail);
        }
    }
    // Without iat, what is left of the lifetime is its lower bound.
    let lifetime = claims.lifetime_seconds.unwrap_or(left);
    let limit = seconds(call.jwt_lifetime);
    if lifetime > limit.saturating_add(leeway) {
        let detail = || format!("valid for {lifetime} s, the limit is {limit} s, in {carrier}");
        defects.add(JWT_LONG_LIVED, severity(JWT_LONG_LIVED), detail);
    }
}

/// A token that a service must refuse: as bad as the rule says when it was accepted; medium when the call failed for another
/// reason, since who gets that far mostly passed the check; nothing when it was refused or not answered.
pub(super) fn must_not_be_accepted(
    call: &Call<'_>,
    rule: &'static str,
    defects: &mut Defects<'_>,
    detail: impl FnOnce() -> String,
) {
    match call.outcome {
        Outcome::Accepted => defects.add(rule, severity(rule), detail),
        Outcome::Failed => defects.add(rule, Severity::Medium, detail),
        Outcome::Refused | Outcome::Unanswered => {}
    }
}

/// A call without proof of identity.
///
/// - Refused: none, the boundary is enforced. Not answered: none, nothing shows that it would have been served.
/// - A CORS preflight never carries credentials (Fetch standard, section 4.8): low when it was answered, else none.
/// - Accepted: high; critical on admin-like routes and for methods that change state; low for a redirect to a login.
/// - Failed: the service did not ask who calls, but it may ask later. Low where servers answer before they come to that
///   (404, 405, 502, ...), medium for all other 4xx and 5xx.
pub(super) fn unauthenticated(call: &Call<'_>) -> Option<Finding> {
    let response = call.response?;
    let method = &*call.request.method;
    let admin = is_admin(&call.request.path, call.admin_words);
    let changes = !SAFE_METHODS.contains(&method);
    let (level, why) = match call.outcome {
        Outcome::Refused | Outcome::Unanswered => return None,
        Outcome::Accepted if is_preflight(call.request) => (Severity::Low, "CORS preflight"),
        Outcome::Failed if is_preflight(call.request) => return None,
        Outcome::Accepted if is_login_redirect(response) => (Severity::Low, "sent on to a login"),
        Outcome::Accepted if admin => (Severity::Critical, "administrative route"),
        Outcome::Accepted if changes => (Severity::Critical, "method that changes state"),
        Outcome::Accepted => (severity(UNAUTHENTICATED_CALL), "served"),
        Outcome::Failed if answered_before_the_check(response.status) => (Severity::Low, "not refused"),
        Outcome::Failed => (Severity::Medium, "processed, not refused"),
    };
    let mut digits = itoa::Buffer::new();
    let status = digits.format(response.status);
    let detail = [method, " without credential answered ", status, " (", why, ")"].concat().into_boxed_str();
    Some(Finding { rule: UNAUTHENTICATED_CALL, severity: level, detail })
}

/// Statuses that routers, parsers, limiters and gateways give before a handler could ask for a credential.
fn answered_before_the_check(status: u16) -> bool {
    matches!(status, 404 | 405 | 406 | 408 | 411 | 413 | 414 | 415 | 417 | 421 | 426 | 429 | 431 | 501..=505)
}

/// CORS preflight (Fetch standard, section 3.3.2).
fn is_preflight(request: &Request) -> bool {
    let has = |name| request.head.values(name).next().is_some();
    &*request.method == "OPTIONS" && has("origin") && has("access-control-request-method")
}

/// A redirect whose target speaks of signing in: the boundary is enforced by it, in its way.
fn is_login_redirect(response: &Response) -> bool {
    const WORDS: [&[u8]; 7] = [b"login", b"signin", b"sign-in", b"sign_in", b"oauth", b"/sso", b"/auth"];
    let speaks_of_login = |location: &[u8]| {
        let path = location.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
        let path = &path[..path.len().min(1024)];
        WORDS.iter().any(|word| path.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word)))
    };
    matches!(response.status, 301 | 302 | 303 | 307 | 308) && response.head.values("location").any(speaks_of_login)
}

/// Whether a word of the path is one that administration goes by.
fn is_admin(path: &str, words: &Names<()>) -> bool {
    path.as_bytes()
        .split(|byte| !byte.is_ascii_alphanumeric())
        .filter(|part| !part.is_empty())
        .take(64)
        .any(|part| words.get(part).is_some())
}

/// An answer that lets web pages read it. High when pages of any origin can make the browser send its credentials along.
pub(super) fn cors(request: Option<&Request>, response: Option<&Response>, outcome: Outcome) -> Option<Finding> {
    let response = response.filter(|_| outcome != Outcome::Refused)?;
    let allowed = response.head.values("access-control-allow-origin").find(|value| !value.is_empty())?;
    let credentials = response.head.values("access-control-allow-credentials").any(|v| v.eq_ignore_ascii_case(b"true"));
    let reflected = || request.is_some_and(|request| request.head.values("origin").any(|origin| origin == allowed));
    let (origin, open) = match allowed {
        b"*" => ("any origin", true),
        b"null" => ("the null origin", true),
        _ if reflected() => ("the origin that asked", true),
        _ => ("one origin", false),
    };
    let (level, with) =
        if open && credentials { (Severity::High, " with credentials") } else { (severity(CORS_ON_INTERNAL), "") };
    Some(Finding {
        rule: CORS_ON_INTERNAL,
        severity: level,
        detail: format!("readable by {origin}{with}").into_boxed_str(),
    })
}
