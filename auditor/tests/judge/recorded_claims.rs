//! Claims that only a policy asks for, in recordings: those that were named decide conditions on replay as they did live; all others
//! leave them undecided, and are nowhere in the file.

use std::{io::Cursor, sync::Arc};

use auditor::{
    attribution::Attributed,
    capture::{
        Status,
        recording::{Recorded, Recorder, Recording, RecordingFile},
    },
    credentials::FingerprintKey,
    judgement::{Judgement, Verdict},
};
use auditor_wire::exchange::Exchange;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;

use crate::{
    calls::call,
    canary::{assert_no_leak, config, secret},
    judge,
    policy_file::{judge_by, token},
};

const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";
const NOT_HELD: Option<&str> = Some("the recording does not hold a claim that it asks for");

fn policy(condition: &str) -> String {
    format!(
        "version: 1\nroutes:\n  - name: tenants\n    match: {{path: \"/{{tenant}}/**\"}}\n    when: '{condition}'\n"
    )
}

fn observed(headers: &str) -> Attributed<Exchange> {
    let mut call = call(&format!("GET /acme/orders HTTP/1.1\r\nHost: shop\r\n{headers}\r\n"), OK);
    call.observed.wire.local = "127.0.0.1:50000".parse().expect("an address");
    call
}

fn bearer(claims: &str) -> String {
    format!("Authorization: Bearer {}\r\n", token(claims))
}

/// The file of a recording that keeps the claims `names`; the recording auditor has no policy.
fn recorded(headers: &str, names: &[&str]) -> Vec<u8> {
    let names: Arc<[Arc<str>]> = names.iter().copied().map(Arc::from).collect();
    let recorder = Recorder::new(FingerprintKey::from_bytes([9; 32])).keeping(Arc::clone(&names));
    let mut judge = judge();
    judge.leave_claims(names);
    let masked = recorder.exchange(&observed(headers));
    let judgement = judge.exchange(observed(headers)).expect("internal");
    let mut bytes = Vec::new();
    let mut file = RecordingFile::new(&mut bytes).expect("begins");
    file.write(&masked.entry(&judgement.credentials).expect("an entry")).expect("written");
    file.end().expect("written");
    bytes
}

/// What a policy with this condition says of a recording.
fn replayed(bytes: Vec<u8>, condition: &str) -> Judgement {
    let mut judge = judge_by(&policy(condition));
    let mut recording = Recording::new("file", Box::new(Cursor::new(bytes))).expect("opens");
    let mut judgement = None;
    let status = recording.drain(&mut |recorded| {
        let Recorded::Exchange(call, checked) = recorded else { panic!("a call") };
        judgement = judge.recorded(*call, &checked);
    });
    assert_eq!(status.expect("whole"), Status::End);
    judgement.expect("internal")
}

fn said(judgement: &Judgement) -> (Verdict, Vec<String>, Option<&'static str>) {
    let findings = judgement.findings.iter().map(|finding| format!("{}: {}", finding.rule, finding.detail));
    (judgement.verdict, findings.collect(), judgement.policy.undecided)
}

#[test]
fn claims_that_are_kept_decide_a_condition_as_they_did_live() {
    let conditions = [
        "claims.tenant == path.tenant",
        "has(claims.tenant) && claims.tenant == \"acme\"",
        "claims.level >= 3",
        "claims.vip == true",
        "\"eu\" in claims.regions",
        "claims[\"https://shop.example/tenant\"] == \"acme\"",
    ];
    let names = ["tenant", "level", "vip", "regions", "https://shop.example/tenant"];
    let mut held = 0;
    for claims in [
        r#""tenant":"acme","level":3,"vip":true,"regions":["eu","us"],"https://shop.example/tenant":"acme""#,
        r#""tenant":"other","level":2,"vip":false,"regions":["us"],"https://shop.example/tenant":"x""#,
        r#""tenant":7,"level":"3","regions":[]"#,
        r#""tenant":null"#,
        r#""sub":"someone""#,
    ] {
        let headers = bearer(claims);
        for condition in conditions {
            let live = judge_by(&policy(condition)).exchange(observed(&headers)).expect("internal");
            let again = replayed(recorded(&headers, &names), condition);
            assert_eq!(said(&again), said(&live), "{condition} of {claims}");
            assert_eq!(again.policy.undecided, None, "{condition} of {claims}");
            held += usize::from(live.findings.is_empty());
            // Not asked for: not known.
            let unasked = replayed(recorded(&headers, &["another"]), condition);
            assert_eq!((unasked.findings.len(), unasked.policy.undecided), (0, NOT_HELD), "{condition} of {claims}");
        }
    }
    assert_eq!(held, conditions.len(), "the first token meets all, the others none");
}

#[test]
fn what_is_long_of_another_kind_or_looks_like_a_token_is_not_kept() {
    let key = "dGhpcyBpcyBh1k3Y9XbQ2mZ7LwPq0RtVsU8";
    let inner = token(r#""sub":"someone""#);
    let values = [
        format!("{:?}", "north ".repeat(22)),
        format!("{key:?}"),
        format!("{:?}", format!("key {inner}")),
        format!("[\"eu\",{key:?}]"),
        "{\"name\":\"acme\"}".to_owned(),
        "1.5".to_owned(),
    ];
    for value in values {
        let bytes = recorded(&bearer(&format!(r#""tenant":{value}"#)), &["tenant"]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains(key) && !text.contains(&inner) && !text.contains("north "), "{text}");
        assert_eq!(
            said(&replayed(bytes, "claims.tenant == \"a\"")),
            (Verdict::Authenticated, vec![], NOT_HELD),
            "{value}"
        );
    }
    // As long as texts may be.
    let bytes = recorded(&bearer(&format!(r#""tenant":"{}xx""#, "north ".repeat(21))), &["tenant"]);
    assert_eq!(replayed(bytes, "claims.tenant == \"a\"").policy.undecided, None);
}

#[test]
fn a_token_is_not_taken_for_another_in_the_same_place() {
    let outer = |payload: &str| {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2lnbmF0dXJl", part(r#"{"alg":"RS256","cty":"JWT"}"#), part(payload))
    };
    // Of a token that wraps another its own claims cannot be read; the second token's are not those of the first.
    let wrapping = outer(&token(r#""sub":"someone""#));
    let headers = format!("X-Tokens: {wrapping}, {}\r\n", token(r#""tenant":"acme""#));
    let condition = "claims.tenant == \"other\"";
    let live = judge_by(&policy(condition)).exchange(observed(&headers)).expect("internal");
    let again = replayed(recorded(&headers, &["tenant"]), condition);
    assert_eq!(live.credentials.len(), 2);
    assert_eq!(live.findings, again.findings);
    assert_eq!(live.policy.undecided.is_some(), again.policy.undecided.is_some());
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn claims_that_were_not_named_are_nowhere(secret in secret()) {
        let headers = bearer(&format!(r#""tenant":"acme","pin":"{secret}","pins":["{secret}"],"n":{{"tenant":"{secret}"}}"#));
        let bytes = recorded(&headers, &["tenant", "level"]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        prop_assert!(text.contains(r#""claims":{"tenant":"acme","level":null}"#), "{text}");
        assert_no_leak(&text, &secret, &headers)?;
        let mut recording = Recording::new("file", Box::new(Cursor::new(bytes))).expect("opens");
        let mut shown = String::new();
        recording.drain(&mut |recorded| shown = format!("{recorded:?}")).expect("whole");
        prop_assert!(!shown.contains("acme\""), "{shown}");
        assert_no_leak(&shown, &secret, &headers)?;
    }
}
