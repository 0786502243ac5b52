//! The rules across calls: each fires and does not, whatever the order in which calls come, and memory stays bounded.

use std::time::Duration;

use auditor::{
    credentials::{Extractor, FingerprintKey, Settings},
    judgement::{Judgement, Process, Verdict},
    policy::{self, CrossCallSettings, CrossCallState, Judge},
};
use auditor_wire::segment::Timestamp;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    calls::{NOW, between},
    judge,
};

const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";
const REFUSED: &str = "HTTP/1.1 401 Unauthorized\r\n\r\n";
const HOUR: u64 = 3600;
const KEY: &str = "X-API-Key: 4711\r\n";
const OPAQUE: &str = "Authorization: Bearer 4711\r\n";
const SHARED: &str = "shared-credential";
const REPLAYED: &str = "credential-replayed";
const STRIPPED: &str = "credential-stripped";
const NEW_EDGE: &str = "new-unauthenticated-edge";

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: inventory\r\n{headers}\r\n")
}

fn with(cross_call: CrossCallSettings) -> Judge {
    let settings = policy::Settings { cross_call, ..policy::Settings::default() };
    Judge::new(settings, Extractor::new(Settings::default(), FingerprintKey::from_bytes([7; 32])))
}

fn make(judge: &mut Judge, ends: (&str, &str), seconds: u64, path: &str, headers: &str) -> Judgement {
    judge.exchange(between(ends, seconds, &get(path, headers), OK)).expect("internal")
}

/// What the last of some calls shows: caller, callee, seconds, headers.
pub(crate) fn last(calls: &[(&str, &str, u64, &str)]) -> Judgement {
    let mut judge = judge();
    let calls = calls
        .iter()
        .map(|(source, destination, at, headers)| make(&mut judge, (source, destination), *at, "/x", headers));
    calls.last().expect("a call")
}

/// Findings of the rules across calls.
fn across(judgement: &Judgement) -> Vec<&'static str> {
    let rules = judgement.findings.iter().map(|finding| finding.rule);
    rules.filter(|rule| [SHARED, REPLAYED, STRIPPED, NEW_EDGE].contains(rule)).collect()
}

/// What each of some calls with the same headers shows: caller, callee, seconds, path.
fn shown(headers: &str, calls: &[(&str, &str, u64, &str)]) -> Vec<Vec<&'static str>> {
    let mut judge = judge();
    let calls = calls
        .iter()
        .map(|(source, destination, at, path)| across(&make(&mut judge, (source, destination), *at, path, headers)));
    calls.collect()
}

fn detail<'a>(judgement: &'a Judgement, rule: &str) -> &'a str {
    &judgement.findings.iter().find(|finding| finding.rule == rule).expect(rule).detail
}

fn token(payload: &str) -> String {
    let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
    format!("Authorization: Bearer {}.{}.c2ln\r\n", part(r#"{"alg":"RS256"}"#), part(payload))
}

#[test]
fn shared_credential() {
    for headers in [KEY, OPAQUE, "Authorization: Basic dTpw\r\n"] {
        let found =
            shown(headers, &[("a", "s", 0, "/x"), ("a", "s", 1, "/x"), ("b", "s", 2, "/x"), ("a", "s", 3, "/x")]);
        assert_eq!(found, [vec![], vec![], vec![SHARED], vec![SHARED]], "{headers}");
    }
    let mut judge = judge();
    for (at, source) in ["e", "d", "c", "b"].into_iter().enumerate() {
        make(&mut judge, (source, "s"), at as u64, "/x", OPAQUE);
    }
    let judgement = make(&mut judge, ("a", "s"), 9, "/x", OPAQUE);
    assert_eq!(judgement.verdict, Verdict::Weak);
    assert_eq!(detail(&judgement, SHARED), "token in header:authorization used by 5 workloads: a, b, c, d, ...");
    // Another one of the same workloads.
    assert_eq!(across(&make(&mut judge, ("a", "s"), 9, "/x", "Authorization: Bearer 4712\r\n")), [""; 0]);
}

#[test]
fn not_a_shared_credential() {
    // One workload; unknown ones; too far apart.
    assert_eq!(shown(KEY, &[("a", "s", 0, "/x"), ("a", "s", 9, "/y")]), [[""; 0]; 2]);
    assert_eq!(shown(KEY, &[("a", "s", 0, "/x"), ("", "s", 9, "/x")]), [[""; 0]; 2]);
    assert_eq!(shown(KEY, &[("a", "s", 0, "/x"), ("b", "s", 25 * HOUR, "/x")]), [[""; 0]; 2]);
    // Sessions and tokens of people are passed on rightly.
    let user = token(r#"{"sub":"alice","azp":"web","exp":1795305900}"#);
    for headers in ["Cookie: sid=4711\r\n", &user] {
        assert_eq!(shown(headers, &[("a", "s", 0, "/x"), ("b", "s", 9, "/x")]), [[""; 0]; 2], "{headers}");
    }
    let services = [
        r#"{"sub":"cart","client_id":"cart","exp":1795305900}"#,
        r#"{"sub":"spiffe://prod/cart","aud":["s"],"exp":1795305900}"#,
        r#"{"iss":"kubernetes/serviceaccount","sub":"system:serviceaccount:shop:cart","exp":1795305900}"#,
    ];
    for payload in services {
        let found = shown(&token(payload), &[("a", "s", 0, "/x"), ("b", "s", 9, "/x")]);
        assert_eq!(found, [vec![], vec![SHARED]], "{payload}");
    }
}

#[test]
fn a_process_that_was_gone_before_it_was_looked_at_is_no_workload() {
    let process = |executable: Option<&str>, arguments: Option<&str>| Process {
        pid: 7,
        command: "python3".into(),
        executable: executable.map(Into::into),
        arguments: arguments.map(Into::into),
        user: None,
    };
    let mut judge = judge();
    make(&mut judge, ("python3:cart.py", "s"), 0, "/x", KEY);
    let gone = [process(None, None), process(Some("/usr/bin/python3"), None)];
    for (gone, rules) in gone
        .into_iter()
        .map(|gone| (gone, vec![]))
        .chain([(process(Some("/usr/bin/python3"), Some("python3 other.py")), vec![SHARED])])
    {
        let mut call = between(("python3", "s"), 9, &get("/x", KEY), OK);
        call.source.process = Some(gone.into());
        assert_eq!(across(&judge.exchange(call).expect("internal")), rules);
    }
}

#[test]
fn what_is_refused_does_not_make_a_credential_shared_but_who_tries_a_shared_one_is_found() {
    let mut judge = judge();
    make(&mut judge, ("a", "s"), 0, "/x", KEY);
    let mut refused = |source: &str, at| {
        let call = between((source, "s"), at, &get("/x", KEY), REFUSED);
        across(&judge.exchange(call).expect("internal"))
    };
    assert_eq!(refused("b", 9), [""; 0]);
    assert_eq!(across(&make(&mut judge, ("c", "s"), 10, "/x", KEY)), [SHARED]);
    let call = between(("b", "s"), 11, &get("/x", KEY), REFUSED);
    assert_eq!(across(&judge.exchange(call).expect("internal")), [SHARED]);
}

#[test]
fn who_passes_a_credential_on_does_not_share_it() {
    // The inner call of a chain is answered, and seen, first; a service that sends it on to its own routes.
    let chain = [("b", "s", 0, "/pay"), ("a", "b", 0, "/buy"), ("b", "s", 60, "/pay"), ("a", "b", 60, "/buy")];
    let found = shown(OPAQUE, &chain);
    assert!(found.iter().flatten().all(|rule| *rule == REPLAYED), "{found:?}");
    // Fan-out: `a` sends it on to `s` and `q`, which sends it on to `t`.
    let fan = [("x", "q", 0, "/z"), ("a", "s", 9, "/1"), ("q", "t", 9, "/2"), ("a", "q", 9, "/3"), ("u", "a", 9, "/4")];
    let mut judge = judge();
    make(&mut judge, ("x", "q"), 0, "/z", "Authorization: Bearer another\r\n");
    for (source, destination, at, path) in &fan[1..] {
        let found = across(&make(&mut judge, (source, destination), *at, path, OPAQUE));
        assert!(!found.contains(&SHARED), "{source} {destination}: {found:?}");
    }
    // A service that is called and uses the key of another as its own counts a few seconds later.
    let own = [("x", "b", 0, "/y"), ("a", "s", 9, "/x")];
    let mut judge = crate::judge();
    make(&mut judge, (own[0].0, own[0].1), 0, "/y", "");
    make(&mut judge, ("a", "s"), 9, "/x", KEY);
    assert_eq!(across(&make(&mut judge, ("b", "s"), 9, "/x", KEY)), [""; 0]);
    assert_eq!(across(&make(&mut judge, ("b", "s"), 13, "/x", KEY)), [SHARED]);
}

#[test]
fn credential_replayed() {
    let user = token(r#"{"sub":"alice","exp":1795305900}"#);
    for headers in [KEY, OPAQUE, "Cookie: sid=4711\r\n", &user] {
        let found = shown(headers, &[("a", "s", 0, "/x"), ("a", "t", 1, "/x"), ("a", "s", 2, "/x")]);
        assert_eq!(found, [vec![], vec![REPLAYED], vec![REPLAYED]], "{headers}");
    }
    let mut judge = judge();
    make(&mut judge, ("a", "s"), 0, "/x", OPAQUE);
    let judgement = make(&mut judge, ("a", "t"), 0, "/x", OPAQUE);
    assert_eq!(judgement.verdict, Verdict::Weak);
    assert_eq!(detail(&judgement, REPLAYED), "token in header:authorization sent to 2 workloads: s, t");
    // A service that sends its caller's token on to another service.
    let found = shown(OPAQUE, &[("b", "s", 0, "/pay"), ("a", "b", 0, "/buy"), ("b", "s", 60, "/pay")]);
    assert_eq!(found, [vec![], vec![REPLAYED], vec![REPLAYED]]);
}

#[test]
fn not_a_replayed_credential() {
    assert_eq!(shown(KEY, &[("a", "s", 0, "/x"), ("a", "", 9, "/x")]), [[""; 0]; 2]);
    assert_eq!(shown(KEY, &[("a", "s", 0, "/x"), ("a", "t", 25 * HOUR, "/x")]), [[""; 0]; 2]);
    // Signatures are made anew for each service.
    let signed = "Authorization: AWS4-HMAC-SHA256 Credential=A/b, Signature=0\r\n";
    assert_eq!(shown(signed, &[("a", "s", 0, "/x"), ("b", "t", 9, "/x")]), [[""; 0]; 2]);
    // A gateway, whichever call is seen first, and whatever else was asked of it before.
    let cookie = "Cookie: sid=4711\r\n";
    for calls in [
        &[("g", "s", 0, "/x"), ("a", "g", 0, "/x"), ("g", "s", 60, "/y"), ("a", "g", 60, "/y")][..],
        &[("a", "g", 0, "/x"), ("g", "s", 0, "/x"), ("a", "g", 60, "/y"), ("g", "s", 60, "/y")],
        // It takes a prefix away.
        &[("g", "s", 0, "/x/7"), ("a", "g", 0, "/api/x/7"), ("g", "s", 60, "/x"), ("a", "g", 60, "/api/x/")],
        &[("a", "g", 0, "/static"), ("g", "s", 1, "/x"), ("a", "g", 1, "/x"), ("a", "g", 9, "/static")],
    ] {
        assert_eq!(shown(cookie, calls), vec![[""; 0]; calls.len()], "{calls:?}");
    }
}

#[test]
fn credential_stripped() {
    let id = "X-Request-Id: 3f2a9c11-77\r\n";
    let trace = |span: &str| format!("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-{span}-01\r\n");
    let spans = [trace("00f067aa0ba902b7"), trace("b7ad6b7169203331")];
    for (inside, outside) in [(id, id), (spans[0].as_str(), spans[1].as_str())] {
        // As they are answered: first the call behind the proxy.
        let mut first = judge();
        assert_eq!(across(&make(&mut first, ("p", "s"), 0, "/x", inside)), [""; 0]);
        let judgement = make(&mut first, ("a", "p"), 0, "/x", &format!("{OPAQUE}{outside}"));
        assert_eq!((across(&judgement), judgement.verdict), (vec![STRIPPED], Verdict::Authenticated));
        assert_eq!(detail(&judgement, STRIPPED), "token in header:authorization was not passed on to s");
        // And the other way round.
        let mut second = judge();
        make(&mut second, ("a", "p"), 0, "/x", &format!("{OPAQUE}{outside}"));
        let judgement = make(&mut second, ("p", "s"), 1, "/x", inside);
        assert_eq!((across(&judgement), judgement.verdict), (vec![STRIPPED], Verdict::Unauthenticated));
        assert_eq!(detail(&judgement, STRIPPED), "came with a credential from a and was passed on without");
    }
}

#[test]
fn not_a_stripped_credential() {
    let id = "X-Request-Id: 3f2a9c11-77\r\n";
    let outer = format!("{OPAQUE}{id}");
    let quiet = |inner: &str, path: &str, seconds: u64, outer: &str, answer: &str| {
        let mut judge = judge();
        let call = between(("p", "s"), 0, &get("/x", inner), answer);
        let first = across(&judge.exchange(call).expect("internal"));
        let second = across(&make(&mut judge, ("a", "p"), seconds, path, outer));
        assert_eq!((first, second), (vec![], vec![]), "{inner} {path} {seconds} {outer}");
    };
    quiet(id, "/y", 0, &outer, OK); // a call of its own
    quiet("X-Request-Id: 3f2a9c11-78\r\n", "/x", 0, &outer, OK); // another call
    quiet("", "/x", 0, &outer, OK); // nothing says that it is the same
    quiet("X-Request-Id: 1\r\n", "/x", 0, &format!("{OPAQUE}X-Request-Id: 1\r\n"), OK); // not unique
    quiet(id, "/x", 31, &outer, OK); // too late
    quiet(id, "/x", 0, id, OK); // there was none
    quiet(id, "/x", 0, &format!("Proxy-Authorization: Negotiate YII\r\n{id}"), OK); // made for the proxy
    quiet(id, "/x", 0, &outer, REFUSED); // the service asked for one
    quiet(&format!("Authorization: Bearer other\r\n{id}"), "/x", 0, &outer, OK); // exchanged for another one
    // A head that was cut shows nothing missing.
    let mut judge = judge();
    let mut cut = between(("p", "s"), 0, &get("/x", id), OK);
    cut.observed.unknown = Some(auditor_wire::exchange::UnknownReason::HeadTruncated);
    assert!(judge.exchange(cut).is_some());
    assert_eq!(across(&make(&mut judge, ("a", "p"), 0, "/x", &outer)), [""; 0]);
}

#[test]
fn new_unauthenticated_edge() {
    let mut judge = judge();
    let mut at = |ends, seconds, head: &str| {
        let judgement = judge.exchange(between(ends, seconds, head, OK)).expect("internal");
        across(&judgement)
    };
    let read = get("/x", "");
    let change = read.replace("GET", "POST");
    let none: [&str; 0] = [];
    assert_eq!(at(("a", "s"), 0, &read), none);
    assert_eq!(at(("b", "s"), 23 * HOUR, &read), none, "learning");
    assert_eq!(at(("a", "s"), 25 * HOUR, &read), none, "known");
    assert_eq!(at(("c", "s"), 25 * HOUR, &read), [NEW_EDGE]);
    assert_eq!(at(("c", "s"), 25 * HOUR + 3599, &read), [NEW_EDGE]);
    assert_eq!(at(("c", "s"), 26 * HOUR, &read), none, "an hour later");
    assert_eq!(at(("a", "s"), 26 * HOUR, &change), [NEW_EDGE], "it only read");
    assert_eq!(at(("a", "s"), 26 * HOUR, &get("/admin", "")), [NEW_EDGE]);
    assert_eq!(at(("", "s"), 26 * HOUR, &read), none, "who it is is not known");
    let later = 26 * HOUR + 36 * 24 * HOUR;
    assert_eq!(at(("a", "s"), later, &read), [NEW_EDGE], "forgotten");
    // Last: what follows on its connection is not known to be anyone's.
    assert_eq!(at(("d", "s"), later, &get("/x", "Authorization: Negotiate YII\r\n")), none);
}

#[test]
fn what_is_not_served_is_no_edge() {
    let learning_window = Duration::ZERO;
    let mut judge = with(CrossCallSettings { learning_window, ..CrossCallSettings::default() });
    for response in [REFUSED, "HTTP/1.1 404 x\r\n\r\n", "HTTP/1.1 302 x\r\nLocation: /login\r\n\r\n", ""] {
        let call = between(("a", "s"), 0, &get("/x", ""), response);
        assert_eq!(across(&judge.exchange(call).expect("internal")), [""; 0], "{response}");
    }
    assert_eq!(across(&make(&mut judge, ("a", "s"), 0, "/x", "")), [NEW_EDGE], "nothing is learned");
}

#[test]
fn a_rule_that_is_off_weakens_nothing() {
    let off = policy::RuleSettings { severity: None, enabled: false };
    let rules = [(SHARED, off), (REPLAYED, off)].into();
    let settings = policy::Settings { rules, ..policy::Settings::default() };
    let mut judge = Judge::new(settings, Extractor::new(Settings::default(), FingerprintKey::from_bytes([7; 32])));
    for (source, destination) in [("a", "s"), ("b", "s"), ("a", "t")] {
        let judgement = make(&mut judge, (source, destination), 9, "/x", OPAQUE);
        assert_eq!((across(&judgement), judgement.verdict), (vec![], Verdict::Authenticated));
    }
}

#[test]
fn credentials_stay_within_the_limit_and_shared_ones_are_still_found() {
    let limit = 500;
    let mut judge = with(CrossCallSettings { credentials: limit, ..CrossCallSettings::default() });
    for (source, at) in [("a", 0), ("b", 9)] {
        make(&mut judge, (source, "s"), at, "/x", KEY);
    }
    for number in 0..5_000_u64 {
        let headers = format!("Authorization: Bearer credential-{number}\r\n");
        make(&mut judge, ("c", "s"), 10 + number, "/x", &headers);
        // Seen now and then, it is kept among all that are seen once.
        if number % 250 == 0 {
            assert_eq!(across(&make(&mut judge, ("a", "s"), 10 + number, "/x", KEY)), [SHARED], "{number}");
        }
    }
    let held = judge.held();
    let credentials = held.iter().find(|held| held.kind == "credentials").expect("held");
    assert_eq!((credentials.count, credentials.limit, credentials.evicted), (limit, limit, 5_001 - limit as u64));
    assert!(held.iter().all(|held| held.count <= held.limit), "{held:?}");
}

#[test]
fn what_has_expired_is_let_go_of() {
    let mut judge = judge();
    for number in 0..1000 {
        let headers = format!("Authorization: Bearer credential-{number}\r\nX-Request-Id: request-{number}\r\n");
        make(&mut judge, ("c", "s"), 0, "/x", &headers);
    }
    let count = |judge: &Judge, kind| judge.held().into_iter().find(|held| held.kind == kind).map(|held| held.count);
    assert_eq!((count(&judge, "credentials"), count(&judge, "hops")), (Some(1000), Some(1000)));
    for second in 0..10 {
        make(&mut judge, ("c", "s"), 25 * HOUR + second, "/x", "");
    }
    assert_eq!((count(&judge, "credentials"), count(&judge, "hops")), (Some(0), Some(0)));
}

fn saved(judge: &Judge) -> String {
    serde_json::to_string(&judge.cross_calls()).expect("JSON")
}

fn now(seconds: u64) -> Timestamp {
    Timestamp((NOW.unsigned_abs() + seconds) * 1_000_000_000)
}

#[test]
fn what_is_known_survives_a_restart() {
    let mut before = judge();
    make(&mut before, ("a", "s"), 0, "/x", KEY);
    make(&mut before, ("a", "s"), 0, "/x", "");
    make(&mut before, ("g", "s"), 1, "/y", OPAQUE);
    make(&mut before, ("a", "g"), 1, "/y", OPAQUE);
    let state = saved(&before);
    assert!(!state.contains("4711"), "{state}");
    let mut after = judge();
    after.restore_cross_calls(serde_json::from_str(&state).expect("read"), now(25 * HOUR));
    let mut restored: CrossCallState = serde_json::from_str(&saved(&after)).expect("read");
    assert_eq!(restored.credentials.len(), 0, "expired by then");
    after = judge();
    after.restore_cross_calls(serde_json::from_str(&state).expect("read"), now(HOUR));
    restored = serde_json::from_str(&saved(&after)).expect("read");
    let mut original: CrossCallState = serde_json::from_str(&state).expect("read");
    for state in [&mut restored, &mut original] {
        state.workloads.sort_by(|a, b| a.name.cmp(&b.name));
        state.credentials.sort_by(|a, b| a.fingerprint.cmp(&b.fingerprint));
        state.edges.sort_by(|a, b| a.source.cmp(&b.source));
    }
    assert_eq!(restored, original);
    assert_eq!(across(&make(&mut after, ("b", "s"), HOUR, "/x", KEY)), [SHARED]);
    assert_eq!(across(&make(&mut after, ("g", "t"), HOUR, "/z", "Cookie: sid=1\r\n")), [""; 0]);
    assert_eq!(across(&make(&mut after, ("b", "s"), 24 * HOUR, "/x", "")), [NEW_EDGE], "learning went on");
    assert_eq!(across(&make(&mut after, ("a", "s"), 24 * HOUR, "/x", "")), [""; 0]);
}

#[test]
fn a_state_that_makes_no_sense_is_left_out() {
    let long = "n".repeat(300);
    let far = u32::MAX;
    let state = serde_json::json!({
        "learning_since": far,
        "workloads": [{"name": "", "called": 1, "gateway": 1}, {"name": long, "called": 1, "gateway": far}],
        "credentials": [
            {"fingerprint": "short", "peers": []},
            {"fingerprint": "zzzzzzzzzzzzzzzz", "peers": []},
            {"fingerprint": "00112233445566ff", "peers": [
                {"workload": "a", "sent_first": far, "sent": far, "received": far},
                {"workload": "", "sent_first": 1, "sent": 1, "received": 1},
            ]},
        ],
        "edges": [
            {"source": "a", "destination": "s", "reach": "reads", "first": 9, "last": 1, "is_new": true},
            {"source": "a", "destination": "s", "reach": "reads", "first": 9, "last": far, "is_new": true},
            {"source": "", "destination": "s", "reach": "changes", "first": 1, "last": 2, "is_new": true},
        ],
    });
    let mut judge = judge();
    judge.restore_cross_calls(serde_json::from_value(state).expect("read"), now(0));
    let left = judge.cross_calls();
    assert_eq!((left.credentials.len(), left.edges.len()), (0, 0), "{left:?}");
    assert_eq!(across(&make(&mut judge, ("a", "s"), 0, "/x", "")), [""; 0], "learning begins");
    // More than there is room for.
    let peers = (0..40).map(|number| policy::PeerState {
        workload: format!("w{number}").into(),
        sent_first: 1,
        sent: 1_795_305_600,
        received: 0,
    });
    let peers: Vec<_> = peers.collect();
    let credentials = (0..1000_u64)
        .map(|number| policy::CredentialState { fingerprint: format!("{number:016x}").into(), peers: peers.clone() });
    let state = CrossCallState { credentials: credentials.collect(), ..CrossCallState::default() };
    let mut small = with(CrossCallSettings { credentials: 10, ..CrossCallSettings::default() });
    small.restore_cross_calls(state, now(0));
    let left = small.cross_calls();
    assert_eq!((left.credentials.len(), left.credentials[0].peers.len()), (10, 16));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, cases: 64, ..Default::default() })]

    /// The same calls in any order: afterwards the same is said of each of them.
    #[test]
    fn the_order_of_calls_does_not_matter(
        calls in proptest::collection::vec((0..4_usize, 0..4_usize, 0..3_usize), 1..12),
        gateways: bool,
        seed: u64,
    ) {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let headers = [KEY, OPAQUE, "Cookie: sid=1\r\n"];
        let mut shuffled = calls.clone();
        let mut state = seed;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(at, (state >> 33) as usize % (at + 1));
        }
        let said = |order: &[(usize, usize, usize)]| {
            let mut judge = judge();
            for (source, destination, header) in order {
                let ends = (NAMES[*source], NAMES[*destination]);
                let path = if gateways { "/x".to_owned() } else { format!("/{source}{destination}") };
                make(&mut judge, ends, 0, &path, headers[*header]);
            }
            // What is known then is asked with calls that are refused, which teach nothing.
            let mut said = Vec::new();
            for source in NAMES {
                for header in headers {
                    let ask = between((source, "e"), 60, &get("/ask", header), REFUSED);
                    let judgement = judge.exchange(ask).expect("internal");
                    let mut findings = judgement.findings;
                    findings.retain(|finding| [SHARED, REPLAYED].contains(&finding.rule));
                    said.push(findings);
                }
            }
            said
        };
        proptest::prop_assert_eq!(said(&calls), said(&shuffled));
    }
}
