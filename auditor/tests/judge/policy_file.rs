//! The policy: routes, requirements, conditions and waivers, from a file to judgements.

use std::{path::Path, sync::Arc};

use auditor::{
    judgement::{Judgement, Severity, Verdict},
    policy::{
        Judge,
        rulebook::{Rulebook, WaiverState},
    },
};
use auditor_wire::exchange::UnknownReason;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    calls::{NOW, call},
    judge,
};

const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";
const REFUSED: &str = "HTTP/1.1 403 Forbidden\r\n\r\n";
const ERROR: &str = "HTTP/1.1 500 Internal Server Error\r\n\r\n";

fn today() -> jiff::civil::Date {
    jiff::civil::date(2026, 11, 22)
}

pub(crate) fn judge_by(policy: &str) -> Judge {
    let mut judge = judge();
    judge.set_policy(Rulebook::parse(Path::new("policy.yaml"), policy, today()).expect(policy));
    judge
}

/// A token of these claims, which is good for five minutes.
pub(crate) fn token(claims: &str) -> String {
    let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
    let payload = format!(r#"{{"iat":{NOW},"exp":{},{claims}}}"#, NOW + 300);
    format!("{}.{}.c2lnbmF0dXJl", part(r#"{"alg":"RS256"}"#), part(&payload))
}

/// A request with such a token.
pub(crate) fn with_token(line: &str, claims: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: orders\r\nAuthorization: Bearer {}\r\n\r\n", token(claims))
}

fn bare(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: orders\r\n\r\n")
}

/// A call on the node from `shop/web` to `shop/orders`.
fn judged_between(
    judge: &mut Judge,
    request: &str,
    response: &str,
    source: Option<&str>,
    destination: Option<&str>,
) -> Judgement {
    let mut call = call(request, response);
    call.observed.wire.local = "127.0.0.1:50000".parse().expect("an address");
    call.source.workload = source.map(Arc::from);
    call.destination.workload = destination.map(Arc::from);
    judge.exchange(call).expect("internal")
}

pub(crate) fn judged(judge: &mut Judge, request: &str, response: &str) -> Judgement {
    judged_between(judge, request, response, Some("shop/web"), Some("shop/orders"))
}

fn rules(judgement: &Judgement) -> Vec<(&'static str, Severity)> {
    judgement.findings.iter().map(|finding| (finding.rule, finding.severity)).collect()
}

pub(crate) const ORDERS: &str = r#"
version: 1
routes:
  - name: orders
    match: {destination: shop/orders, methods: [GET, POST], path: "/tenants/{tenant}/orders/**"}
    callers: [shop/web, "ci-*"]
    require: {proof: jwt, issuers: ["https://login"], audiences: [orders], scopes: [read], max_lifetime: 10m}
    when: claims.tenant == path.tenant
    severity: critical
    severities: {jwt-audience: low}
"#;

const GOOD: &str = r#""iss":"https://login","aud":"orders","scope":"read write","tenant":"acme""#;

#[test]
fn a_call_that_meets_everything_is_authenticated() {
    let mut judge = judge_by(ORDERS);
    let judgement = judged(&mut judge, &with_token("GET /tenants/acme/orders/7", GOOD), OK);
    assert_eq!((judgement.verdict, rules(&judgement)), (Verdict::Authenticated, vec![]), "{judgement:?}");
    assert_eq!(judgement.policy.route.as_deref(), Some("orders"));
    assert_eq!(judgement.principal(), None, "the token has no subject");
    let record = serde_json::to_string(&judgement).expect("JSON");
    assert!(!record.contains("acme\"") && !format!("{judgement:?}").contains("tenant\": \"acme"), "{record}");
    assert!(record.contains(r#""resource":"GET shop/orders /tenants/acme/orders/{id}","route":"orders""#), "{record}");
}

#[test]
fn what_is_not_met_is_found_and_weakens() {
    let mut judge = judge_by(ORDERS);
    let line = "GET /tenants/acme/orders/7";
    let medium = Severity::Medium;
    for (claims, expected) in [
        (GOOD.replace("login", "other"), vec![("jwt-issuer", Severity::High)]),
        (GOOD.replace(r#""aud":"orders""#, r#""aud":"cart""#), vec![("jwt-audience", Severity::Low)]),
        (GOOD.replace("read write", "write"), vec![("jwt-scope", medium)]),
        (GOOD.replace("acme", "other"), vec![("policy-violation", Severity::Critical)]),
        (GOOD.replace(r#","tenant":"acme""#, ""), vec![("policy-violation", Severity::Critical)]),
        (format!(r#"{GOOD},"exp":{}"#, NOW + 700), vec![("jwt-long-lived", medium)]),
    ] {
        let request = with_token(line, &claims);
        let judgement = judged(&mut judge, &request, OK);
        assert_eq!((judgement.verdict, rules(&judgement)), (Verdict::Weak, expected.clone()), "{claims}");
        let refused = judged(&mut judge, &request, REFUSED);
        let still = expected.iter().filter(|(rule, _)| *rule == "jwt-long-lived").count();
        assert_eq!(refused.findings.len(), still, "refused: {claims}");
        let failed = judged(&mut judge, &request, ERROR);
        assert!(failed.findings.iter().all(|finding| finding.rule == "policy-violation" || finding.severity <= medium));
    }
    let judgement = judged(&mut judge, &with_token(line, &GOOD.replace(r#","tenant":"acme""#, "")), OK);
    assert_eq!(&*judgement.findings[0].detail, "route orders: the route's condition: there is no `claims.tenant`");
}

#[test]
fn another_caller_or_kind_of_proof_is_a_violation() {
    let mut judge = judge_by(ORDERS);
    let request = with_token("GET /tenants/acme/orders/7", GOOD);
    for (source, expected) in [(Some("ci-runner"), 0), (Some("shop/cart"), 1), (None, 0)] {
        let judgement = judged_between(&mut judge, &request, OK, source, Some("shop/orders"));
        assert_eq!(judgement.findings.len(), expected, "{source:?}: {:?}", judgement.findings);
        assert_eq!(judgement.policy.undecided.is_some(), source.is_none());
    }
    let basic = "GET /tenants/acme/orders/7 HTTP/1.1\r\nAuthorization: Basic YWxpY2U6aHVudGVyMg==\r\n\r\n";
    let judgement = judged(&mut judge, basic, OK);
    assert!(rules(&judgement).contains(&("policy-violation", Severity::Critical)), "{:?}", judgement.findings);
    assert!(judgement.findings.iter().any(|finding| finding.detail.contains("jwt is required; the call has basic")));
    let nobody = judged(&mut judge, &bare("GET /tenants/acme/orders/7"), OK);
    assert_eq!(
        (nobody.verdict, rules(&nobody)),
        (Verdict::Unauthenticated, vec![("unauthenticated-call", Severity::High)])
    );
}

#[test]
fn what_was_not_seen_is_never_found() {
    let mut judge = judge_by(ORDERS);
    let mut cut = call("GET /tenants/acme/orders/7 HTTP/1.1\r\nAuthorization: Basic YWxpY2U6aHVudGVyMg==\r\n\r\n", OK);
    (cut.source.workload, cut.destination.workload) = (Some("shop/web".into()), Some("shop/orders".into()));
    cut.observed.unknown = Some(UnknownReason::HeadTruncated);
    let judgement = judge.exchange(cut).expect("internal");
    assert!(!rules(&judgement).iter().any(|(rule, _)| *rule == "policy-violation"), "{:?}", judgement.findings);
    assert!(judgement.policy.undecided.is_some());
    let unknown = judged_between(&mut judge, &with_token("GET /tenants/acme/orders/7", r#""iss":"x""#), OK, None, None);
    assert_eq!((rules(&unknown), unknown.policy.route), (vec![], None));
    assert_eq!(unknown.policy.undecided, Some("a workload is not known"));
}

#[test]
fn without_a_route_nothing_is_said_of_claims() {
    for mut judge in [judge(), judge_by(ORDERS)] {
        let judgement = judged(&mut judge, &with_token("GET /elsewhere", r#""iss":"x","aud":"y""#), OK);
        assert_eq!((judgement.verdict, rules(&judgement)), (Verdict::Authenticated, vec![]));
        assert_eq!(judgement.policy.route, None);
    }
}

#[test]
fn the_first_route_that_fits_applies() {
    let mut judge = judge_by(
        "version: 1\nroutes:\n  - {name: public, match: {path: /orders/public}, severities: {unauthenticated-call: info}}\n  \
         - {name: writes, match: {methods: [POST], path: /orders/**}}\n  - {name: rest}\n",
    );
    let mut route = |line: &str| judged(&mut judge, &bare(line), OK).policy.route.map(|name| name.to_string());
    assert_eq!(route("GET /orders/public").as_deref(), Some("public"));
    assert_eq!(route("POST /orders/7").as_deref(), Some("writes"));
    assert_eq!(route("GET /orders/7").as_deref(), Some("rest"));
    assert_eq!(rules(&judged(&mut judge, &bare("GET /orders/public"), OK)), [("unauthenticated-call", Severity::Info)]);
}

#[test]
fn probes_and_scrapes_are_lesser_findings_unless_a_route_says_otherwise() {
    for line in [
        "GET /healthz",
        "HEAD /readyz",
        "GET /metrics",
        "GET /actuator/health/liveness",
        "POST /grpc.health.v1.Health/Check",
        "POST /grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ] {
        let judgement = judged(&mut judge(), &bare(line), OK);
        assert_eq!(rules(&judgement), [("unauthenticated-call", Severity::Low)], "{line}");
        assert!(judgement.policy.route.is_some_and(|name| name.starts_with("builtin:")));
    }
    assert_eq!(
        rules(&judged(&mut judge(), &bare("POST /healthz"), OK)),
        [("unauthenticated-call", Severity::Critical)]
    );
    assert_eq!(
        rules(&judged(&mut judge(), &bare("POST /grpc.health.v2.Health/Check"), OK)),
        [("unauthenticated-call", Severity::Critical)]
    );
    let policy = "version: 1\nroutes:\n  - {name: metrics, match: {path: /metrics}}\n  \
                  - {name: health, match: {path: /grpc.health.v1.Health/Check}}\n";
    let mut strict = judge_by(policy);
    let checked = judged(&mut strict, &bare("POST /grpc.health.v1.Health/Check"), OK);
    assert_eq!(rules(&checked), [("unauthenticated-call", Severity::Critical)]);
    assert_eq!(rules(&judged(&mut strict, &bare("GET /metrics"), OK)), [("unauthenticated-call", Severity::High)]);
    assert_eq!(rules(&judged(&mut strict, &bare("GET /healthz"), OK)), [("unauthenticated-call", Severity::Low)]);
}

const WAIVED: &str = r#"
version: 1
waivers:
  - name: legacy-cron
    match: {destination: shop/orders, path: /jobs/**}
    rules: [unauthenticated-call]
    owner: team-billing@example.com
    reason: migrating to JWT
    expires: EXPIRES
"#;

#[test]
fn a_waiver_exempts_until_the_end_of_its_day() {
    // The calls are made on 2026-11-22.
    for (expires, verdict, findings, state) in [
        ("2026-11-22", Verdict::Exempt, 0, WaiverState::Active),
        ("2026-11-21", Verdict::Unauthenticated, 1, WaiverState::Expired),
    ] {
        let mut judge = judge_by(&WAIVED.replace("EXPIRES", expires));
        let judgement = judged(&mut judge, &bare("POST /jobs/run"), OK);
        assert_eq!((judgement.verdict, judgement.findings.len()), (verdict, findings), "{expires}");
        assert_eq!(judge.policy().waivers(today())[0].state, state);
        let record = serde_json::to_value(&judgement).expect("JSON");
        assert_eq!(
            record["waived"][0]["waiver"]["owner"].as_str(),
            (findings == 0).then_some("team-billing@example.com")
        );
    }
    let mut judge = judge_by(&WAIVED.replace("EXPIRES", "2027-01-31"));
    assert_eq!(judge.policy().waivers(today())[0].state, WaiverState::Unused);
    let judgement = judged(&mut judge, &bare("POST /jobs/run"), OK);
    let expected = "waived by legacy-cron, owner team-billing@example.com, until 2027-01-31";
    assert_eq!(judgement.reason().to_string(), expected);
    for (line, destination) in
        [("POST /other", Some("shop/orders")), ("POST /jobs/run", Some("shop/cart")), ("POST /jobs/run", None)]
    {
        let judgement = judged_between(&mut judge, &bare(line), OK, Some("shop/web"), destination);
        assert_eq!(judgement.verdict, Verdict::Unauthenticated, "{line} {destination:?}");
    }
}

#[test]
fn a_waiver_of_one_rule_leaves_the_others() {
    let mut judge =
        judge_by(&WAIVED.replace("EXPIRES", "2027-01-31").replace("unauthenticated-call", "basic-credential"));
    let request = "GET /jobs/x HTTP/1.1\r\nAuthorization: Basic YWxpY2U6aHVudGVyMg==\r\nX-Api-Key: 2YotnFZFEjr1zCsicMWpAA\r\n\r\n";
    let judgement = judged(&mut judge, request, OK);
    assert_eq!((judgement.verdict, rules(&judgement)), (Verdict::Weak, vec![("static-api-key", Severity::Medium)]));
    assert_eq!(judgement.policy.waived.len(), 1);
}

#[test]
fn a_policy_that_is_read_again_goes_on_counting() {
    let text = WAIVED.replace("EXPIRES", "2027-01-31");
    let mut judge = judge_by(&text);
    judged(&mut judge, &bare("POST /jobs/run"), OK);
    judge.set_policy(Rulebook::parse(Path::new("p"), &format!("{text}\n# changed\n"), today()).expect("valid"));
    assert_eq!(judge.policy().waivers(today())[0].used, 1);
}

#[test]
fn private_claims_come_out_nowhere() {
    for when in [
        "claims.vault == \"x\"",
        "claims.vault != \"x\"",
        "claims.vault > 3",
        "claims.vault.size() == 1 || claims.none",
    ] {
        let when = when.replace("|| claims.none", "|| claims.none == 1");
        let mut judge = judge_by(&format!("version: 1\nroutes:\n  - name: all\n    when: '{when}'\n"));
        let judgement = judged(&mut judge, &with_token("GET /a", r#""vault":"c4nary-c4nary""#), OK);
        let told = format!("{judgement:?} {} {}", serde_json::to_string(&judgement).expect("JSON"), judgement.reason());
        assert!(!told.contains("c4nary"), "{when}: {told}");
        assert!(judgement.credentials.iter().all(|credential| credential.custom.is_none()), "gone once judged");
    }
}

#[test]
fn conditions_see_what_a_call_has() {
    for (when, request, holds) in [
        ("request.method != \"DELETE\"", bare("GET /a"), true),
        ("request.method != \"DELETE\"", bare("DELETE /a"), false),
        ("source.namespace == destination.namespace", bare("GET /a"), true),
        ("\"orders\" in claims.aud", with_token("GET /a", GOOD), true),
        ("claims.scope.exists(scope, scope.startsWith(\"read\"))", with_token("GET /a", GOOD), true),
        ("claims.scope.all(scope, scope == \"read\")", with_token("GET /a", GOOD), false),
        ("has(claims.vip) && claims.vip == true", with_token("GET /a", r#""vip":true"#), true),
        ("has(claims.vip)", with_token("GET /a", GOOD), false),
        ("claims[\"level\"] > 2", with_token("GET /a", r#""level":3"#), true),
        ("claims.level == 3 || request.path.endsWith(\"/b\")", with_token("GET /a/b", GOOD), true),
        ("\"g1\" in claims.groups", with_token("GET /a", r#""groups":["g1","g2"]"#), true),
        ("claims.exp - claims.iat <= 300", with_token("GET /a", GOOD), true),
        (
            "credential.kind == \"bearer-jwt\" && credential.carrier == \"header:authorization\"",
            with_token("GET /a", GOOD),
            true,
        ),
        ("transport.security == \"plaintext\" && !has(transport.client_certificate.spiffe_id)", bare("GET /a"), true),
        ("size(claims.aud.filter(a, a != \"x\")) == 1", with_token("GET /a", GOOD), true),
        ("destination.port == 8080 && request.route == \"/items/{id}\"", bare("GET /items/42"), true),
        ("claims.tenant in [\"acme\", \"other\"]", with_token("GET /a", GOOD), true),
        (
            "[claims.tenant, request.method].exists(a, a == claims.tenant && a != \"GET\")",
            with_token("GET /a", GOOD),
            true,
        ),
        ("claims.aud.exists(claims, claims == \"orders\")", with_token("GET /a", GOOD), true),
        ("[claims].all(c, c.tenant == \"acme\")", with_token("GET /a", GOOD), true),
    ] {
        let policy = format!("version: 1\nroutes:\n  - name: all\n    when: '{when}'\n");
        let judgement = judged(&mut judge_by(&policy), &request, OK);
        let violated = rules(&judgement).iter().any(|(rule, _)| *rule == "policy-violation");
        assert_eq!(violated, !holds, "{when}: {:?} {:?}", judgement.findings, judgement.policy);
    }
}
