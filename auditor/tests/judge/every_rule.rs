//! Every rule in one table: a call that fires it, and the nearest call that does not. What else each rule looks at is tested
//! beside its neighbours, in the other files of this folder.

use auditor::{judgement::Judgement, policy::rules::RULES};
use auditor_wire::tls::{Accepted, ClientCertificate, Facts, Version};

use crate::{
    across,
    calls::{NOW, call},
    certificates::{Authority, DAY, Wanted},
    judged, policy_file,
    proofs::{self, proof},
    rules::{OK, REFUSED, bearer, get, local, timed},
    tls, unix,
};

/// A rule, and two calls that differ in what the rule is about.
struct Entry {
    rule: &'static str,
    /// Fires it, at the severity of the table of rules.
    fires: fn() -> Judgement,
    /// Other rules that the same call fires.
    besides: &'static [&'static str],
    /// What is different about the call that does not fire it.
    unless: &'static str,
    harmless: fn() -> Judgement,
}

const NONE: &[&str] = &[];
const HOUR: u64 = 3600;

const TABLE: &[Entry] = &[
    Entry {
        rule: "unauthenticated-call",
        fires: || judged(&get(""), OK),
        besides: NONE,
        unless: "the service refuses it",
        harmless: || judged(&get(""), REFUSED),
    },
    Entry {
        rule: "plaintext-credential",
        fires: || judged(&get("Authorization: Bearer abc\r\n"), OK),
        besides: NONE,
        unless: "it stays on the node",
        harmless: || local(&get("Authorization: Bearer abc\r\n"), OK),
    },
    Entry {
        rule: "basic-credential",
        fires: || local(&get("Authorization: Basic dTpw\r\n"), OK),
        besides: NONE,
        unless: "the same text is a token",
        harmless: || local(&get("Authorization: Bearer dTpw\r\n"), OK),
    },
    Entry {
        rule: "static-api-key",
        fires: || local(&get("X-API-Key: abc\r\n"), OK),
        besides: NONE,
        unless: "the same text is a token",
        harmless: || local(&get("Authorization: Bearer abc\r\n"), OK),
    },
    Entry {
        rule: "credential-in-url",
        fires: || local(&get("").replace("/items/42", "/items/42?access_token=abc"), OK),
        besides: NONE,
        unless: "the token is in the header",
        harmless: || local(&get("Authorization: Bearer abc\r\n"), OK),
    },
    Entry {
        rule: "cors-on-internal",
        fires: || with_answer("Access-Control-Allow-Origin: *\r\n"),
        besides: NONE,
        unless: "the answer names no origin",
        harmless: || with_answer("Access-Control-Allow-Methods: GET\r\n"),
    },
    Entry {
        rule: "jwt-unsigned",
        fires: || local(&bearer("none", &expiring(60)), OK),
        besides: NONE,
        unless: "it is signed",
        harmless: || local(&bearer("HS256", &expiring(60)), OK),
    },
    Entry {
        rule: "jwt-expired-accepted",
        fires: || local(&bearer("RS256", &expiring(-61)), OK),
        besides: NONE,
        unless: "it expired within the leeway",
        harmless: || local(&bearer("RS256", &expiring(-60)), OK),
    },
    Entry {
        rule: "jwt-not-yet-valid",
        fires: || local(&valid_from(61), OK),
        besides: NONE,
        unless: "it becomes valid within the leeway",
        harmless: || local(&valid_from(60), OK),
    },
    Entry {
        rule: "jwt-no-expiry",
        fires: || local(&bearer("RS256", r#"{"sub":"cart"}"#), OK),
        besides: NONE,
        unless: "it has one",
        harmless: || local(&bearer("RS256", &format!(r#"{{"sub":"cart","exp":{}}}"#, NOW + 60)), OK),
    },
    Entry {
        rule: "jwt-long-lived",
        fires: || local(&timed(2 * 3600), OK),
        besides: NONE,
        unless: "it lives as long as the limit",
        harmless: || local(&timed(3600), OK),
    },
    Entry {
        rule: "jwt-bad-signature",
        fires: || proofs::signed_by_issuer(false),
        besides: NONE,
        unless: "the issuer's key made the signature",
        harmless: || proofs::signed_by_issuer(true),
    },
    Entry {
        rule: "weak-signature",
        fires: || judged(&proofs::signed(&format!("(\"@method\");created={NOW}")), OK),
        besides: NONE,
        unless: "it covers the target, too",
        harmless: || judged(&proofs::signed(&format!("(\"@method\" \"@path\");created={NOW}")), OK),
    },
    Entry {
        rule: "dpop-mismatch",
        fires: || with_proof("POST"),
        besides: NONE,
        unless: "the proof is of this method",
        harmless: || with_proof("GET"),
    },
    Entry {
        rule: "untrusted-forwarded-certificate",
        fires: || forwarded_by("10.0.0.2/32"),
        besides: &["unauthenticated-call"],
        unless: "the caller is a trusted proxy",
        harmless: || forwarded_by("10.0.0.1/32"),
    },
    Entry {
        rule: "jwt-issuer",
        fires: || with_claims(&CLAIMS.replace("https://login", "https://other")),
        besides: NONE,
        unless: "it is the route's issuer",
        harmless: || with_claims(CLAIMS),
    },
    Entry {
        rule: "jwt-audience",
        fires: || with_claims(&CLAIMS.replace("orders", "cart")),
        besides: NONE,
        unless: "it is made for the service",
        harmless: || with_claims(CLAIMS),
    },
    Entry {
        rule: "jwt-scope",
        fires: || with_claims(&CLAIMS.replace("read", "write")),
        besides: NONE,
        unless: "it has the route's scope",
        harmless: || with_claims(CLAIMS),
    },
    Entry {
        rule: "policy-violation",
        fires: || with_claims(&CLAIMS.replace("acme", "other")),
        besides: NONE,
        unless: "the token's tenant is the one in the path",
        harmless: || with_claims(CLAIMS),
    },
    Entry {
        rule: "untrusted-client-certificate",
        fires: || tls::judged(tls::presented(&[Wanted::default().self_signed()])),
        besides: NONE,
        unless: "an authority signed it",
        harmless: || tls::judged(tls::presented(&[Authority::new("CA").issue(&Wanted::default())])),
    },
    Entry {
        rule: "no-client-identity",
        fires: || tls::judged(tls::inferred(ClientCertificate::Empty, Accepted::Yes, Some(true))),
        besides: NONE,
        unless: "the server ends the handshake",
        harmless: || tls::judged(tls::inferred(ClientCertificate::Empty, Accepted::No, Some(true))),
    },
    Entry {
        rule: "tls-outdated",
        fires: || of_version(0x0302),
        besides: NONE,
        unless: "it is one version newer",
        harmless: || of_version(0x0303),
    },
    Entry {
        rule: "certificate-expires-soon",
        fires: || with_days_left(6),
        besides: NONE,
        unless: "it ends after the warning time",
        harmless: || with_days_left(8),
    },
    Entry {
        rule: "shared-credential",
        fires: || across::last(&[("a", "s", 0, OPAQUE), ("b", "s", 9, OPAQUE)]),
        besides: NONE,
        unless: "each workload has its own",
        harmless: || across::last(&[("a", "s", 0, OPAQUE), ("b", "s", 9, "Authorization: Bearer 4712\r\n")]),
    },
    Entry {
        rule: "credential-replayed",
        fires: || across::last(&[("a", "s", 0, OPAQUE), ("a", "t", 9, OPAQUE)]),
        besides: NONE,
        unless: "each service gets its own",
        harmless: || across::last(&[("a", "s", 0, OPAQUE), ("a", "t", 9, "Authorization: Bearer 4712\r\n")]),
    },
    Entry {
        rule: "credential-stripped",
        fires: || passed_on(""),
        besides: NONE,
        unless: "it was exchanged for another one",
        harmless: || passed_on("Authorization: Bearer other\r\n"),
    },
    Entry {
        rule: "new-unauthenticated-edge",
        fires: || across::last(&[("a", "s", 0, ""), ("b", "s", 25 * HOUR, "")]),
        besides: &["unauthenticated-call"],
        unless: "the edge was learned",
        harmless: || across::last(&[("a", "s", 0, ""), ("a", "s", 25 * HOUR, "")]),
    },
    Entry {
        rule: "unix-socket-exposed",
        fires: || unix::judged("/run/redis/redis.sock", true, unix::PLAIN, OK),
        besides: NONE,
        unless: "the caller is not in a container",
        harmless: || unix::judged("/run/redis/redis.sock", false, unix::PLAIN, OK),
    },
];

const OPAQUE: &str = "Authorization: Bearer 4711\r\n";
/// Claims that meet [`POLICY`].
const CLAIMS: &str = r#""iss":"https://login","aud":"orders","scope":"read","tenant":"acme""#;
const POLICY: &str = r#"
version: 1
routes:
  - name: orders
    match: {path: "/tenants/{tenant}/**"}
    require: {proof: jwt, issuers: ["https://login"], audiences: [orders], scopes: [read]}
    when: claims.tenant == path.tenant
"#;

fn expiring(seconds: i64) -> String {
    format!(r#"{{"exp":{}}}"#, NOW + seconds)
}

fn valid_from(seconds: i64) -> String {
    bearer("RS256", &format!(r#"{{"nbf":{},"exp":{}}}"#, NOW + seconds, NOW + 600))
}

fn with_answer(headers: &str) -> Judgement {
    let request = get("Origin: https://page\r\nAuthorization: Negotiate YII\r\n");
    judged(&request, &format!("HTTP/1.1 200 OK\r\n{headers}\r\n"))
}

fn with_proof(method: &str) -> Judgement {
    let proof = proof(method, "https://inventory/items/42", NOW, Some("abc"));
    judged(&get(&format!("Authorization: DPoP abc\r\nDPoP: {proof}\r\n")), OK)
}

/// A call of 10.0.0.1.
fn forwarded_by(trusted: &str) -> Judgement {
    let request = get("X-Forwarded-Client-Cert: Hash=468ed33be74eee65;URI=spiffe://prod/ns/shop/sa/cart\r\n");
    proofs::trusting(trusted).exchange(call(&request, OK)).expect("internal")
}

fn with_claims(claims: &str) -> Judgement {
    let request = policy_file::with_token("GET /tenants/acme/orders/7", claims);
    policy_file::judged(&mut policy_file::judge_by(POLICY), &request, OK)
}

fn of_version(version: u16) -> Judgement {
    let facts = tls::inferred(ClientCertificate::Presented, Accepted::Yes, Some(true));
    tls::judged(Facts { version: Some(Version(version)), suite: Some(0xc013), ..facts })
}

fn with_days_left(days: i64) -> Judgement {
    let wanted = Wanted { from: -300 * DAY, until: days * DAY, ..Wanted::default() };
    tls::judged(tls::presented(&[Authority::new("CA").issue(&wanted)]))
}

/// A call of `a` to `p` with a token, which `p` sent on to `s` with these headers.
fn passed_on(headers: &str) -> Judgement {
    let id = "X-Request-Id: 3f2a9c11-77\r\n";
    let (inner, outer) = (format!("{headers}{id}"), format!("{OPAQUE}{id}"));
    across::last(&[("p", "s", 0, &inner), ("a", "p", 0, &outer)])
}

fn fired(judgement: &Judgement) -> Vec<&'static str> {
    let mut rules: Vec<_> = judgement.findings.iter().map(|finding| finding.rule).collect();
    rules.sort_unstable();
    rules
}

#[test]
fn every_rule_has_one_entry() {
    let (rules, entries): (Vec<_>, Vec<_>) =
        (RULES.iter().map(|rule| rule.id).collect(), TABLE.iter().map(|entry| entry.rule).collect());
    assert_eq!(entries, rules, "the table has the rules of `auditor rules`, in their order");
}

#[test]
fn every_rule_fires() {
    for entry in TABLE {
        let judgement = (entry.fires)();
        let mut expected = [&[entry.rule], entry.besides].concat();
        expected.sort_unstable();
        assert_eq!(fired(&judgement), expected, "{}: {:?}", entry.rule, judgement.findings);
        let finding = judgement.findings.iter().find(|finding| finding.rule == entry.rule);
        let rule = RULES.iter().find(|rule| rule.id == entry.rule);
        assert_eq!(finding.map(|finding| finding.severity), rule.map(|rule| rule.severity), "{}", entry.rule);
        assert!(finding.is_some_and(|finding| !finding.detail.is_empty()), "{} says nothing", entry.rule);
    }
}

#[test]
fn no_rule_fires_on_the_nearest_harmless_call() {
    for entry in TABLE {
        let found = fired(&(entry.harmless)());
        // Nothing new either: the two calls differ in what this rule is about, and in nothing else.
        let new = found.iter().find(|rule| !entry.besides.contains(rule));
        assert_eq!(new, None, "{} unless {}: {found:?}", entry.rule, entry.unless);
    }
}
