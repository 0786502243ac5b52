//! TLS: what a client proved, verdicts of connections, and the rules about them.

use std::time::Duration;

use auditor::{
    certificates::Bundle,
    credentials::{Extractor, FingerprintKey, Settings},
    judgement::{Judgement, Outcome, Security, Severity, Verdict},
    policy::{self, Judge, TrustSettings},
};
use auditor_wire::{
    exchange::Protocol,
    tls::{Accepted, ClientAuth, ClientCertificate, Evidence, Facts, Version},
};

use crate::{
    calls,
    certificates::{Authority, DAY, NOW, Wanted},
    connections::connection,
    judge,
};

const SVID: &str = "spiffe://prod.example/ns/shop/sa/cart";

fn client(certificate: ClientCertificate, accepted: Accepted, evidence: Evidence) -> ClientAuth {
    ClientAuth { certificate, accepted, evidence, inherited: None }
}

/// TLS 1.2 with a certificate that was accepted.
pub(crate) fn presented(chain: &[Box<[u8]>]) -> Facts {
    Facts {
        version: Some(Version(0x0303)),
        suite: Some(0xc02b),
        resumed: Some(false),
        requested: Some(true),
        client: client(ClientCertificate::Presented, Accepted::Yes, Evidence::Proven),
        client_chain: chain.to_vec(),
        ..Facts::default()
    }
}

/// TLS 1.3, of which only lengths are seen.
pub(crate) fn inferred(certificate: ClientCertificate, accepted: Accepted, requested: Option<bool>) -> Facts {
    let client = client(certificate, accepted, Evidence::Inferred);
    Facts { version: Some(Version(0x0304)), suite: Some(0x1301), requested, client, ..Facts::default() }
}

fn with(trust: TrustSettings) -> Judge {
    let settings = policy::Settings { trust, ..policy::Settings::default() };
    Judge::new(settings, Extractor::new(Settings::default(), FingerprintKey::from_bytes([7; 32])))
}

fn trusting(authority: &Authority) -> TrustSettings {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, authority.pem()).expect("written");
    TrustSettings { bundles: vec![Bundle::read(file).expect("a bundle")], ..TrustSettings::default() }
}

fn by(judge: &mut Judge, facts: Facts) -> Judgement {
    judge.connection(connection(Protocol::Tls(Box::new(facts)))).expect("internal")
}

pub(crate) fn judged(facts: Facts) -> Judgement {
    by(&mut judge(), facts)
}

pub(crate) fn findings(judgement: &Judgement) -> Vec<(&str, Severity)> {
    judgement.findings.iter().map(|finding| (finding.rule, finding.severity)).collect()
}

fn detail<'a>(judgement: &'a Judgement, rule: &str) -> &'a str {
    judgement.findings.iter().find(|finding| finding.rule == rule).map_or("", |finding| &finding.detail)
}

#[track_caller]
pub(crate) fn expect(
    judgement: &Judgement,
    security: Security,
    verdict: Verdict,
    reason: Option<&str>,
    outcome: Outcome,
) {
    let said = (judgement.transport.security, judgement.verdict, judgement.unknown_reason, judgement.outcome);
    assert_eq!(said, (security, verdict, reason, outcome), "{judgement:?}");
}

#[test]
fn a_certificate_that_was_accepted_is_mutual_tls() {
    let authority = Authority::new("CA");
    let judgement = judged(presented(&[authority.issue(&Wanted { uris: &[SVID], ..Wanted::default() })]));
    expect(&judgement, Security::Mtls, Verdict::Authenticated, None, Outcome::Accepted);
    assert_eq!(findings(&judgement), []);
    let record = serde_json::to_value(&judgement).expect("JSON");
    assert_eq!(record["credentials"][0]["kind"], "mtls");
    assert_eq!(record["credentials"][0]["carrier"], "tls:client-certificate");
    assert_eq!(record["credentials"][0]["fingerprint"].as_str().map(str::len), Some(16));
    let expected = serde_json::json!({
        "security": "mtls", "version": "TLS 1.2", "cipher_suite": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "sni": null, "alpn": null, "resumed": false,
        "client_certificate": {
            "outcome": "presented", "presented": true, "requested": true, "accepted": "yes", "evidence": "proven",
            "inherited": null, "refused": null, "verified": null, "subject": "CN=cart", "issuer": "CN=CA", "spiffe_id": SVID,
            "not_before": "2026-11-21T00:00:00Z", "not_after": "2027-02-20T00:00:00Z",
            "names": {"dns": ["cart.internal"], "uris": [SVID], "addresses": ["10.0.0.1"]},
            "key": {"kind": "ecdsa", "bits": 256}, "self_signed": false, "trusted": null,
        },
        "server_certificate": null,
    });
    assert_eq!(record["transport"], expected);
}

#[test]
fn a_certificate_that_was_not_visible_has_no_name_and_no_fingerprint() {
    let judgement = judged(inferred(ClientCertificate::Presented, Accepted::Yes, Some(true)));
    expect(&judgement, Security::Mtls, Verdict::Authenticated, None, Outcome::Accepted);
    let record = serde_json::to_value(&judgement).expect("JSON");
    let credential = serde_json::json!({"kind": "mtls", "carrier": "tls:client-certificate"});
    assert_eq!(record["credentials"], serde_json::json!([credential]));
    let certificate = &record["transport"]["client_certificate"];
    assert_eq!((&certificate["presented"], &certificate["evidence"]), (&true.into(), &"inferred".into()));
    let unknown =
        ["subject", "issuer", "spiffe_id", "not_before", "not_after", "names", "key", "self_signed", "trusted"];
    for field in unknown.into_iter().chain(["inherited"]) {
        assert_eq!(certificate.get(field), Some(&serde_json::Value::Null), "{field}");
    }
    assert_eq!(certificate["verified"], serde_json::Value::Null, "no library told");
}

#[test]
fn what_was_proven_and_what_came_of_it_makes_the_verdict() {
    use Accepted::{No, Unknown, Yes};
    use ClientCertificate::{Empty, None, Presented, Rejected, Resumed, Undetermined};
    const ENCRYPTED: Option<&str> = Some("encrypted");
    const UNDETERMINED: Option<&str> = Some("undetermined-tls");
    const RESUMED: Option<&str> = Some("resumed-tls");
    for (certificate, accepted, verdict, reason, outcome) in [
        (None, Yes, Verdict::Unknown, ENCRYPTED, Outcome::Accepted),
        (None, Unknown, Verdict::Unknown, ENCRYPTED, Outcome::Unanswered),
        (None, No, Verdict::Unauthenticated, Option::None, Outcome::Refused),
        (Empty, Yes, Verdict::Unknown, ENCRYPTED, Outcome::Accepted),
        (Empty, Unknown, Verdict::Unknown, ENCRYPTED, Outcome::Unanswered),
        (Empty, No, Verdict::Unauthenticated, Option::None, Outcome::Refused),
        (Presented, Unknown, Verdict::Unknown, UNDETERMINED, Outcome::Unanswered),
        (Presented, No, Verdict::Unknown, UNDETERMINED, Outcome::Refused),
        (Resumed, Yes, Verdict::Unknown, RESUMED, Outcome::Accepted),
        (Resumed, Unknown, Verdict::Unknown, RESUMED, Outcome::Unanswered),
        (Resumed, No, Verdict::Unknown, RESUMED, Outcome::Refused),
        (Rejected, No, Verdict::Unknown, UNDETERMINED, Outcome::Refused),
        (Rejected, Unknown, Verdict::Unknown, UNDETERMINED, Outcome::Refused),
        (Undetermined, Yes, Verdict::Unknown, UNDETERMINED, Outcome::Accepted),
        (Undetermined, Unknown, Verdict::Unknown, UNDETERMINED, Outcome::Unanswered),
    ] {
        let judgement = judged(inferred(certificate, accepted, Some(true)));
        expect(&judgement, Security::Tls, verdict, reason, outcome);
        assert!(judgement.credentials.is_empty(), "{judgement:?}");
    }
}

#[test]
fn who_was_turned_away_without_a_certificate_is_known_not_to_have_proven_anything() {
    let rejected =
        |refused| judged(Facts { refused, ..inferred(ClientCertificate::Rejected, Accepted::No, Some(true)) });
    let judgement = rejected(Some(ClientCertificate::Empty));
    expect(&judgement, Security::Tls, Verdict::Unauthenticated, None, Outcome::Refused);
    assert_eq!(findings(&judgement), []);
    let presented = |judgement: &Judgement| judgement.transport.tls.as_ref().expect("TLS").client.presented;
    assert_eq!(presented(&judgement), Some(false));
    for (given, shown) in [
        (Some(ClientCertificate::Presented), Some(true)),
        (Some(ClientCertificate::None), Some(false)),
        (Some(ClientCertificate::Undetermined), None),
        (None, None),
    ] {
        let judgement = rejected(given);
        expect(&judgement, Security::Tls, Verdict::Unknown, Some("undetermined-tls"), Outcome::Refused);
        assert_eq!(presented(&judgement), shown);
    }
}

#[test]
fn a_certificate_that_the_servers_library_found_bad_is_weak() {
    let facts = |verified| Facts { verified, ..inferred(ClientCertificate::Presented, Accepted::Yes, Some(true)) };
    let judgement = judged(facts(Some(false)));
    expect(&judgement, Security::Mtls, Verdict::Weak, None, Outcome::Accepted);
    assert_eq!(
        detail(&judgement, "untrusted-client-certificate"),
        "client certificate accepted at the TLS layer: the server's library found fault with it"
    );
    let judgement = judged(facts(Some(true)));
    expect(&judgement, Security::Mtls, Verdict::Authenticated, None, Outcome::Accepted);
    let record = serde_json::to_value(&judgement).expect("JSON");
    assert_eq!(record["transport"]["client_certificate"]["verified"], true);
}

#[test]
fn a_resumed_session_proves_what_it_inherited_and_nothing_else() {
    let resumed = |inherited, evidence, accepted| {
        let client = ClientAuth { inherited, ..client(ClientCertificate::Resumed, accepted, evidence) };
        judged(Facts { version: Some(Version(0x0304)), resumed: Some(true), client, ..Facts::default() })
    };
    let judgement = resumed(Some(true), Evidence::Inherited, Accepted::Yes);
    expect(&judgement, Security::Mtls, Verdict::Authenticated, None, Outcome::Accepted);
    let record = serde_json::to_value(&judgement).expect("JSON");
    let certificate = &record["transport"]["client_certificate"];
    assert_eq!(certificate["evidence"], "inherited");
    assert_eq!((&certificate["presented"], &certificate["inherited"]), (&serde_json::Value::Null, &true.into()));
    for (inherited, evidence, accepted) in [
        (Some(true), Evidence::Inferred, Accepted::Yes),
        (Some(true), Evidence::Inherited, Accepted::Unknown),
        (Some(false), Evidence::Inherited, Accepted::Yes),
        (None, Evidence::Inherited, Accepted::Yes),
        (None, Evidence::Unknown, Accepted::Yes),
    ] {
        let judgement = resumed(inherited, evidence, accepted);
        assert_eq!((judgement.transport.security, judgement.verdict), (Security::Tls, Verdict::Unknown));
        assert_eq!((judgement.unknown_reason, findings(&judgement)), (Some("resumed-tls"), vec![]));
    }
}

#[test]
fn no_client_identity() {
    let fired = [("no-client-identity", Severity::Medium)];
    for (certificate, requested, how) in [
        (ClientCertificate::None, Some(false), "the server did not ask for a certificate; "),
        (ClientCertificate::None, Some(true), "the client gave no certificate, and the server went on; "),
        (ClientCertificate::None, None, "the client gave no certificate, and the server went on; "),
        (
            ClientCertificate::Empty,
            Some(true),
            "asked for a certificate the client gave none, and the server went on; ",
        ),
    ] {
        let judgement = judged(inferred(certificate, Accepted::Yes, requested));
        assert_eq!(findings(&judgement), fired);
        let detail = detail(&judgement, "no-client-identity");
        assert!(detail.starts_with(how) && detail.ends_with("a credential that is not visible"), "{detail}");
    }
    for facts in [
        inferred(ClientCertificate::None, Accepted::Unknown, Some(true)),
        inferred(ClientCertificate::Empty, Accepted::No, Some(true)),
        inferred(ClientCertificate::Presented, Accepted::Yes, Some(true)),
        inferred(ClientCertificate::Resumed, Accepted::Yes, None),
        inferred(ClientCertificate::Rejected, Accepted::No, Some(true)),
        inferred(ClientCertificate::Undetermined, Accepted::Yes, None),
    ] {
        assert_eq!(findings(&judged(facts)), []);
    }
}

#[test]
fn untrusted_client_certificate() {
    let (authority, other) = (Authority::new("CA"), Authority::new("Other"));
    let domains = vec!["prod.example".to_owned()];
    let mut judge = with(TrustSettings { domains, ..trusting(&authority) });
    let fired = [("untrusted-client-certificate", Severity::High)];
    let expired = Wanted { from: -90 * DAY, until: -3 * DAY, ..Wanted::default() };
    for (certificate, reason) in [
        (authority.issue(&expired), "it expired 3 days before"),
        (authority.issue(&Wanted { from: 7200, ..Wanted::default() }), "it is not valid before 2 hours later"),
        (Wanted::default().self_signed(), "it is signed by its own key"),
        (
            authority.issue(&Wanted { uris: &["spiffe://dev.example/cart"], ..Wanted::default() }),
            "it is of the trust domain dev.example",
        ),
        (other.issue(&Wanted::default()), "it does not lead to a trusted issuer"),
    ] {
        let judgement = by(&mut judge, presented(std::slice::from_ref(&certificate)));
        expect(&judgement, Security::Mtls, Verdict::Weak, None, Outcome::Accepted);
        assert_eq!(findings(&judgement), fired, "{reason}");
        let detail = detail(&judgement, "untrusted-client-certificate");
        assert_eq!(detail, format!("client certificate accepted at the TLS layer: {reason}"));
        // A server that does not take it does what it should.
        let mut refused = presented(&[certificate]);
        refused.client = client(ClientCertificate::Rejected, Accepted::No, Evidence::Proven);
        let judgement = by(&mut judge, refused);
        expect(&judgement, Security::Tls, Verdict::Unknown, Some("undetermined-tls"), Outcome::Refused);
        assert_eq!(findings(&judgement), []);
    }
    for certificate in [
        authority.issue(&Wanted { uris: &[SVID], ..Wanted::default() }),
        authority.issue(&Wanted { uris: &["https://elsewhere/"], ..Wanted::default() }),
        authority.issue(&Wanted { from: 50, ..Wanted::default() }),
        authority.der(),
        vec![0x30; 9].into(),
    ] {
        let judgement = by(&mut judge, presented(&[certificate]));
        expect(&judgement, Security::Mtls, Verdict::Authenticated, None, Outcome::Accepted);
        assert_eq!(findings(&judgement), []);
    }
    let mut cut = presented(&[other.issue(&Wanted::default())]);
    cut.chain_cut = true;
    assert_eq!(findings(&by(&mut judge, cut)), [], "what was cut off may lead to the bundle");
    let without_bundle = judged(presented(&[other.issue(&Wanted::default())]));
    assert_eq!(findings(&without_bundle), [], "no bundle, nothing to lead to");
}

#[test]
fn a_rule_that_is_not_looked_at_weakens_nothing() {
    let mut settings = policy::Settings::default();
    let off = policy::RuleSettings { severity: None, enabled: false };
    settings.rules.insert("untrusted-client-certificate", off);
    let extractor = Extractor::new(Settings::default(), FingerprintKey::from_bytes([7; 32]));
    let judgement = by(&mut Judge::new(settings, extractor), presented(&[Wanted::default().self_signed()]));
    expect(&judgement, Security::Mtls, Verdict::Authenticated, None, Outcome::Accepted);
    assert_eq!(findings(&judgement), []);
}

#[test]
fn tls_outdated() {
    for (version, suite, detail_expected) in [
        (0x0300, 0x002f, "the server chose SSL 3.0"),
        (0x0301, 0x002f, "the server chose TLS 1.0"),
        (0x0302, 0xc013, "the server chose TLS 1.1"),
        (0x0303, 0x0005, "the server chose TLS_RSA_WITH_RC4_128_SHA"),
        (0x0303, 0x003b, "the server chose TLS_RSA_WITH_NULL_SHA256"),
        (0x0301, 0x0003, "the server chose TLS 1.0 with TLS_RSA_EXPORT_WITH_RC4_40_MD5"),
    ] {
        let mut facts = inferred(ClientCertificate::Presented, Accepted::Yes, Some(true));
        (facts.version, facts.suite) = (Some(Version(version)), Some(suite));
        let judgement = judged(facts.clone());
        expect(&judgement, Security::Mtls, Verdict::Weak, None, Outcome::Accepted);
        assert_eq!(findings(&judgement), [("tls-outdated", Severity::Medium)]);
        assert_eq!(detail(&judgement, "tls-outdated"), detail_expected);
        facts.client = client(ClientCertificate::None, Accepted::Yes, Evidence::Proven);
        let judgement = judged(facts.clone());
        assert_eq!(findings(&judgement)[0].0, "tls-outdated");
        assert_eq!(judgement.verdict, Verdict::Unknown);
        facts.client = client(ClientCertificate::Rejected, Accepted::No, Evidence::Proven);
        assert_eq!(findings(&judged(facts)), [], "the handshake was ended");
    }
    for (version, suite) in [
        (Some(0x0303), Some(0xc02b)),
        (Some(0x0303), Some(0x002f)),
        (Some(0x0304), Some(0x1301)),
        (Some(0x0304), Some(0xfafa)),
        (None, None),
    ] {
        let mut facts = inferred(ClientCertificate::Presented, Accepted::Yes, Some(true));
        (facts.version, facts.suite) = (version.map(Version), suite);
        assert_eq!(findings(&judged(facts)), [], "{version:?} {suite:?}");
    }
}

#[test]
fn certificate_expires_soon() {
    let authority = Authority::new("CA");
    let rule = "certificate-expires-soon";
    let issued = |from, until| authority.issue(&Wanted { from, until, ..Wanted::default() });
    let year = -358 * DAY;
    for (client, server, severity, expected) in [
        (Some(issued(year, 5 * DAY)), None, Severity::Low, "the client's certificate expires in 5 days"),
        (Some(issued(year, 7200)), None, Severity::Medium, "the client's certificate expires in 2 hours"),
        (None, Some(issued(year, 5 * DAY)), Severity::Low, "the server's certificate expires in 5 days"),
        (None, Some(issued(year, -DAY)), Severity::Medium, "the server's certificate expired 24 hours before"),
        (
            Some(issued(year, 6 * DAY)),
            Some(issued(year, DAY)),
            Severity::Medium,
            "the client's certificate expires in 6 days, the server's certificate expires in 24 hours",
        ),
        // A day's certificate of which an hour is left.
        (Some(issued(3600 - DAY, 3600)), None, Severity::Medium, "the client's certificate expires in 60 minutes"),
    ] {
        let mut facts = inferred(ClientCertificate::Presented, Accepted::Yes, Some(true));
        (facts.client_chain, facts.server_chain) = (client.into_iter().collect(), server.into_iter().collect());
        let judgement = judged(facts.clone());
        assert_eq!(findings(&judgement), [(rule, severity)], "{expected}");
        assert_eq!(detail(&judgement, rule), expected);
        assert_eq!(judgement.verdict, Verdict::Authenticated, "it holds as yet");
        facts.client.accepted = Accepted::No;
        assert_eq!(findings(&judged(facts)), []);
    }
    for (client, server) in [
        (issued(year, 8 * DAY), issued(year, 8 * DAY)),
        // Half of a short life is left.
        (issued(-DAY / 2, DAY / 2), issued(-DAY / 2, DAY / 2)),
    ] {
        let mut facts = inferred(ClientCertificate::Presented, Accepted::Yes, Some(true));
        (facts.client_chain, facts.server_chain) = (vec![client], vec![server]);
        assert_eq!(findings(&judged(facts)), []);
    }
    let trust = TrustSettings { expiry_warning: Duration::from_secs(30 * 24 * 3600), ..TrustSettings::default() };
    let judgement = by(&mut with(trust), presented(&[issued(year, 20 * DAY)]));
    assert_eq!(findings(&judgement), [(rule, Severity::Low)], "the threshold is a setting");
}

#[test]
fn times_of_the_tests_agree() {
    assert_eq!(NOW, calls::NOW);
}
