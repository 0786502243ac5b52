//! Calls that were read inside TLS: proven by a credential or by the client's certificate.

use auditor::judgement::{Judgement, Outcome, Security, Severity, Verdict};
use auditor_wire::tls::{Accepted, ClientCertificate, Evidence, Facts};

use crate::{
    calls,
    certificates::Wanted,
    judge,
    tls::{expect, findings, inferred, presented},
};

const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";

fn call(facts: Facts, request: &str) -> Judgement {
    let mut call = calls::call(request, OK);
    call.observed.tls = Some(Box::new(facts));
    judge().exchange(call).expect("internal")
}

#[test]
fn a_call_inside_tls_is_proven_by_either() {
    let get = "GET /items HTTP/1.1\r\nHost: inventory\r\n\r\n";
    let bearer = "GET /items HTTP/1.1\r\nHost: inventory\r\nAuthorization: Bearer 2YotnFZFEjr1zCsicMWpAA\r\n\r\n";
    let anonymous = || inferred(ClientCertificate::None, Accepted::Yes, Some(false));
    let mutual = || inferred(ClientCertificate::Presented, Accepted::Yes, Some(true));

    let judgement = call(mutual(), get);
    expect(&judgement, Security::Mtls, Verdict::Authenticated, None, Outcome::Accepted);
    let kinds = |judgement: &Judgement| {
        let record = serde_json::to_value(&judgement.credentials).expect("JSON");
        record.as_array().expect("a list").iter().map(|credential| credential["kind"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&judgement), ["mtls"]);

    let judgement = call(anonymous(), bearer);
    expect(&judgement, Security::Tls, Verdict::Authenticated, None, Outcome::Accepted);
    assert_eq!(
        (kinds(&judgement), findings(&judgement)),
        (vec!["bearer-opaque".into()], vec![]),
        "nothing is in clear"
    );

    let judgement = call(mutual(), bearer);
    expect(&judgement, Security::Mtls, Verdict::Authenticated, None, Outcome::Accepted);
    assert_eq!(kinds(&judgement), ["bearer-opaque", "mtls"]);

    let judgement = call(anonymous(), get);
    expect(&judgement, Security::Tls, Verdict::Unauthenticated, None, Outcome::Accepted);
    assert_eq!(findings(&judgement), [("unauthenticated-call", Severity::High)]);
}

#[test]
fn a_call_whose_tls_tells_nothing_is_not_called_unauthenticated() {
    let get = "GET /items HTTP/1.1\r\nHost: inventory\r\n\r\n";
    for (certificate, accepted, reason) in [
        (ClientCertificate::Undetermined, Accepted::Yes, "undetermined-tls"),
        (ClientCertificate::Presented, Accepted::Unknown, "undetermined-tls"),
        (ClientCertificate::Rejected, Accepted::No, "undetermined-tls"),
        (ClientCertificate::Resumed, Accepted::Yes, "resumed-tls"),
    ] {
        let judgement = call(inferred(certificate, accepted, Some(true)), get);
        expect(&judgement, Security::Tls, Verdict::Unknown, Some(reason), Outcome::Accepted);
        assert_eq!(findings(&judgement), []);
    }
}

#[test]
fn a_resumed_session_that_the_library_knows_to_be_without_certificate_is_no_proof() {
    let get = "GET /items HTTP/1.1\r\nHost: inventory\r\n\r\n";
    let resumed = |inherited, evidence| {
        let mut facts = inferred(ClientCertificate::Resumed, Accepted::Yes, None);
        (facts.client.inherited, facts.client.evidence, facts.resumed) = (Some(inherited), evidence, Some(true));
        call(facts, get)
    };
    let judgement = resumed(false, Evidence::Proven);
    expect(&judgement, Security::Tls, Verdict::Unauthenticated, None, Outcome::Accepted);
    let judgement = resumed(false, Evidence::Inherited);
    expect(&judgement, Security::Tls, Verdict::Unknown, Some("resumed-tls"), Outcome::Accepted);
    let judgement = resumed(true, Evidence::Proven);
    expect(&judgement, Security::Mtls, Verdict::Authenticated, None, Outcome::Accepted);
}

#[test]
fn what_is_against_the_certificate_is_against_the_call() {
    let get = "GET /items HTTP/1.1\r\nHost: inventory\r\n\r\n";
    let judgement = call(presented(&[Wanted::default().self_signed()]), get);
    expect(&judgement, Security::Mtls, Verdict::Weak, None, Outcome::Accepted);
    assert_eq!(findings(&judgement), [("untrusted-client-certificate", Severity::High)]);
    let inside = |response: &str| {
        let mut call = calls::call(get, response);
        call.observed.tls = Some(Box::new(presented(&[Wanted::default().self_signed()])));
        judge().exchange(call).expect("internal")
    };
    // nginx verifies, and answers inside.
    let failed = inside("HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_eq!(findings(&failed), [("untrusted-client-certificate", Severity::Medium)]);
    let refused = inside("HTTP/1.1 403 Forbidden\r\n\r\n");
    assert_eq!((refused.verdict, findings(&refused)), (Verdict::Weak, vec![]), "the boundary holds");
    let basic = "GET /items HTTP/1.1\r\nHost: inventory\r\nAuthorization: Basic YTpi\r\n\r\n";
    let judgement = call(inferred(ClientCertificate::Presented, Accepted::Yes, Some(true)), basic);
    expect(&judgement, Security::Mtls, Verdict::Weak, None, Outcome::Accepted);
    assert_eq!(findings(&judgement), [("basic-credential", Severity::Medium)]);
}

#[test]
fn a_400_refuses_those_who_lack_the_certificate_that_was_asked_for() {
    use ClientCertificate as C;
    let facts =
        |certificate, requested, verified| Some(Facts { verified, ..inferred(certificate, Accepted::Yes, requested) });
    let resumed = Facts { resumed: Some(true), ..inferred(C::Resumed, Accepted::Yes, None) };
    let cases = [
        ("none was given", facts(C::Empty, Some(true), None), Outcome::Refused),
        ("the library found fault with it", facts(C::Presented, Some(true), Some(false)), Outcome::Refused),
        ("it is good", facts(C::Presented, Some(true), Some(true)), Outcome::Failed),
        ("it may be good", facts(C::Presented, Some(true), None), Outcome::Failed),
        ("none was asked for", facts(C::None, Some(false), None), Outcome::Failed),
        ("that is not known", facts(C::None, None, None), Outcome::Failed),
        ("nothing is known", facts(C::Undetermined, Some(true), None), Outcome::Failed),
        ("what the session began with is not known", Some(resumed), Outcome::Failed),
        ("not in TLS", None, Outcome::Failed),
    ];
    let said = |facts: &Option<Facts>, status: u16| {
        let mut call = calls::call("GET / HTTP/1.1\r\n\r\n", &format!("HTTP/1.1 {status} X\r\n\r\n"));
        call.observed.tls = facts.clone().map(Box::new);
        judge().exchange(call).expect("internal")
    };
    for (name, facts, outcome) in &cases {
        for status in [400, 495, 496] {
            let judgement = said(facts, status);
            assert_eq!(judgement.outcome, *outcome, "{name}: {status}");
            let finding = judgement.findings.iter().find(|finding| finding.rule == "unauthenticated-call");
            assert!(*outcome != Outcome::Refused || finding.is_none(), "{name}: {finding:?}");
        }
        assert_eq!(said(facts, 404).outcome, Outcome::Failed, "{name}");
        assert_eq!(said(facts, 200).outcome, Outcome::Accepted, "{name}");
    }
    let (_, lacking, _) = &cases[0];
    let judgement = said(lacking, 400);
    assert_eq!((judgement.verdict, findings(&judgement)), (Verdict::Unauthenticated, vec![]));
}
