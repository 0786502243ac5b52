//! Connections as short sequences, and what is said of them. A word is what the named side sends next: a number is an encrypted
//! record of TLS 1.3 of that length.

use proptest::prelude::*;

use super::{Accepted, Endpoint, Endpoints, Facts, Session, Side};
use crate::segment::Timestamp;

/// Something that happens on a connection.
#[derive(Clone, Debug)]
enum Step {
    /// Bytes, and how many follow that were not copied.
    Data(Side, Vec<u8>, u64),
    End(Side, bool),
    Lost(Side),
}

fn sized(bytes: &[u8], width: usize) -> Vec<u8> {
    [&bytes.len().to_be_bytes()[8 - width..], bytes].concat()
}

fn record(content: u8, body: &[u8]) -> Vec<u8> {
    [&[content, 3, 3][..], &sized(body, 2)].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &sized(body, 3)].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized(body, 2)].concat()
}

/// A ClientHello with `psk_key_exchange_modes` and what its name says: `hello`, `hello+early`, `hello+late`, `hello+raw`,
/// `hello+mute` (takes no tickets), `hello+psk:LENGTH`, `hello+ticket:BYTE`, `hello+session:BYTE`.
fn client_hello(name: &str) -> Vec<u8> {
    let mut extensions = extension(45, &[1, 1]);
    let mut session = Vec::new();
    for offer in name.split('+').skip(1) {
        match offer.split_once(':') {
            None if offer == "early" => extensions.extend(extension(42, &[])),
            None if offer == "late" => extensions.extend(extension(49, &[])),
            None if offer == "raw" => extensions.extend(extension(19, &[1, 2])),
            None if offer == "mute" => extensions.clear(),
            Some(("psk", length)) => {
                let identity = sized(&vec![6; length.parse().expect("a length")], 2);
                extensions.extend(extension(41, &sized(&[identity, vec![0; 4]].concat(), 2)));
            }
            Some(("ticket", byte)) => extensions.extend(extension(35, &[byte.parse().expect("a byte"); 100])),
            Some(("session", byte)) => session = vec![byte.parse().expect("a byte"); 32],
            _ => panic!("{name}"),
        }
    }
    let body =
        [&[3, 3][..], &[7; 32], &sized(&session, 1), &sized(&[0x13, 1], 2), &sized(&[0], 1), &sized(&extensions, 2)]
            .concat();
    record(22, &message(1, &body))
}

/// A ServerHello of TLS 1.3 with this suite, or of an older version for `12` and `10`; `+psk` goes on with the client's key,
/// `+session:BYTE` names the session.
fn server_hello(name: &str) -> Vec<u8> {
    let (suite, more) = name.split_once('+').unwrap_or((name, ""));
    let session = more.strip_prefix("session:").map_or(Vec::new(), |byte| vec![byte.parse().expect("a byte"); 32]);
    let retry = suite == "retry";
    let number = if retry { 0x1301 } else { u16::from_str_radix(suite, 16).expect("a suite") };
    let old = number < 0x100;
    let version = if old { [3, u8::try_from(number - 0x0f).expect("10 to 13")] } else { [3, 3] };
    let random = if retry { super::hello::RETRY } else { [5; 32] };
    let mut extensions = if old { Vec::new() } else { extension(43, &[3, 4]) };
    if more == "psk" {
        extensions.extend(extension(41, &[0, 0]));
    }
    let suite = if old { 0xc02b_u16 } else { number }.to_be_bytes();
    record(
        22,
        &message(2, &[&version[..], &random, &sized(&session, 1), &suite, &[0], &sized(&extensions, 2)].concat()),
    )
}

fn step(side: Side, word: &str) -> Step {
    let chain = sized(&sized(&[0x30; 300], 3), 3);
    let bytes = match word {
        "fin" | "rst" => return Step::End(side, word == "rst"),
        "lost" => return Step::Lost(side),
        "retry" => server_hello(word),
        "ccs" => record(20, &[1]),
        "fatal" => record(21, &[2, 40]),
        "warning" => record(21, &[1, 112]),
        "goodbye" => record(21, &[1, 0]),
        "enc" => record(22, &[9; 40]),
        "data" => record(23, &[9; 100]),
        "certificate" => record(22, &message(11, &chain)),
        "empty" => record(22, &message(11, &[0; 3])),
        "request" => record(22, &message(13, &[4; 60])),
        "done" => record(22, &message(14, &[])),
        "exchange" => record(22, &message(16, &[4; 33])),
        "verify" => record(22, &message(15, &[4; 75])),
        "flight" => record(22, &[message(11, &chain), message(16, &[4; 33]), message(15, &[4; 75])].concat()),
        _ if word.starts_with("hello") => client_hello(word),
        _ if word.starts_with("ticket:") => {
            let ticket = [word[7..].parse().expect("a byte"); 100];
            record(22, &message(4, &[&[0; 4][..], &sized(&ticket, 2)].concat()))
        }
        _ if word.len() > 1 && word.starts_with('v') => server_hello(&word[1..]),
        _ => {
            let length: u16 = word.parse().unwrap_or_else(|_| panic!("{word}"));
            let [high, low] = length.to_be_bytes();
            return Step::Data(side, vec![23, 3, 3, high, low], length.into());
        }
    };
    Step::Data(side, bytes, 0)
}

/// Reads a sequence: `c:` and `s:` name the side that speaks.
fn steps(sequence: &str) -> Vec<Step> {
    let mut side = Side::Client;
    let mut steps = Vec::new();
    for word in sequence.split_whitespace() {
        match word {
            "c:" => side = Side::Client,
            "s:" => side = Side::Server,
            _ => steps.push(step(side, word)),
        }
    }
    steps
}

fn take(session: &mut Session, step: &Step) {
    match step {
        Step::Data(side, bytes, skipped) => {
            session.data(*side, bytes);
            session.skip(*side, *skipped);
        }
        Step::End(side, reset) => session.end(*side, *reset),
        Step::Lost(side) => session.lost(*side),
    }
}

fn session(sequence: &str) -> Session {
    let mut session = Session::new();
    steps(sequence).iter().for_each(|step| take(&mut session, step));
    session
}

fn said(facts: &Facts) -> String {
    let client = facts.client;
    let inherited = client.inherited.map_or("", |given| if given { " given" } else { " not given" });
    format!("{} {} {}{inherited}", client.certificate.as_str(), client.accepted.as_str(), client.evidence.as_str())
}

fn hold(cases: &[(&str, &str)]) {
    for (sequence, expected) in cases {
        let mut session = session(sequence);
        session.finish();
        assert_eq!(said(&session.facts()), *expected, "{sequence}");
    }
}

const NOT_ASKED: &str = "c: hello s: v1302 ccs 23 916 96 69 c: ccs";
const ASKED: &str = "c: hello s: v1302 ccs 23 105 916 96 69 c: ccs";

/// Sequences of TLS 1.3 and what is said of them.
const ENCRYPTED: &[(&str, &str)] = &[
    // The client's flight: each message in its record, or all in one, padded as Java does.
    ("c: hello s: v1302 23 916 96 69 c: 69 115 s: 250", "none yes inferred"),
    ("c: hello s: v1301 659 c: 53 s: 195", "none yes inferred"),
    ("c: hello s: v1302 65 533 112 85 c: 85 s: 1675", "none yes inferred"),
    ("c: hello s: v1305 c: 45 s: 250", "none yes inferred"),
    ("c: hello s: v1305 c: 53 s: 250", "empty yes inferred"),
    ("c: hello s: v1302 23 105 916 96 69 c: 25 69 s: 250", "empty yes inferred"),
    ("c: hello s: v1301 733 c: 61 s: 195", "empty yes inferred"),
    // What may be an alert in records of 179 bytes.
    ("c: hello s: v1301 732 c: 61 s: 195", "empty unknown inferred"),
    ("c: hello s: v1302 65 159 533 112 85 c: 93 s: 1675", "empty yes inferred"),
    ("c: hello s: v1302 23 105 916 96 69 c: 899 96 69 s: 730", "presented yes inferred"),
    ("c: hello s: v1301 733 c: 615 71 s: 195", "presented yes inferred"),
    ("c: hello s: v1302 65 159 533 112 85 c: 647 s: 1675", "presented yes inferred"),
    ("c: hello s: v1302 23 105 916 96 69 c: 16401 5797 71 s: 5000", "presented yes inferred"),
    ("c: hello+raw s: v1302 34 66 517 97 69 c: 74 89 69 s: 348", "presented yes inferred"),
    ("c: hello s: retry c: ccs hello s: v1301 23 105 916 96 53 c: 500 96 53 s: 730", "presented yes inferred"),
    // Lengths that say nothing, and flights whose rest is missing.
    ("c: hello s: v1302 23 105 916 96 69 c: 74 89 69 s: 348", "undetermined unknown unknown"),
    ("c: hello s: v1302 c: 100 200 300 s: 730", "undetermined unknown unknown"),
    ("c: hello s: v1302 c: 25 s: 730", "undetermined unknown unknown"),
    ("c: hello s: v1302 c: 25 90 s: 730", "undetermined unknown unknown"),
    ("c: hello s: v1302 c: 528 528 528 s: 730", "undetermined unknown unknown"),
    ("c: hello s: v1302 23 105 916 96 69 c: 48 80 48 s: 250", "empty yes inferred"),
    ("c: hello s: v1302 23 916 96 69 c: 528 528 s: 250", "none yes inferred"),
    ("c: hello s: v1302 c: 1104 304 80 48 s: 922", "presented yes inferred"),
    ("c: hello s: v13ff 23 c: 69 s: 250", "undetermined unknown unknown"),
    ("c: hello s: 23 916 96 69 c: 69 s: 250", "undetermined unknown unknown"),
    // What was not asked for is not given, and what was asked for is answered.
    ("c: hello s: v1302 23 916 96 69 c: 899 96 69 s: 250", "undetermined unknown unknown"),
    ("c: hello s: v1302 23 105 916 96 69 c: 69 s: 250", "undetermined unknown unknown"),
    // The server's answer.
    ("c: hello s: v1302 23 105 916 96 69 c: 899 96 69", "presented unknown inferred"),
    ("c: hello s: v1302 23 105 916 96 69 c: 899 96 69 s: 19 fin", "rejected no inferred"),
    ("c: hello s: v1302 23 105 916 96 69 c: 899 s: 19 c: 96 69 s: rst", "rejected no inferred"),
    ("c: hello s: v1302 23 105 916 96 69 c: 25 s: 19 fin c: 69", "rejected no inferred"),
    ("c: hello s: v1302 23 105 916 96 69 c: 25 69 115 s: 19 19 fin", "rejected no inferred"),
    ("c: hello s: v1302 65 159 533 112 85 c: 25 69 s: 35 fin", "rejected no inferred"),
    ("c: hello s: v1302 23 105 916 96 69 c: 25 69 s: 35 fin", "empty yes inferred"),
    ("c: hello s: v1302 23 105 916 96 69 c: 899 96 69 s: fin", "rejected no inferred"),
    ("c: hello s: v1302 23 105 916 96 69 c: 899 96 69 s: 19 19 19 fin", "presented unknown inferred"),
    ("c: hello s: v1302 23 105 916 96 69 c: 899 96 69 19 s: 19 fin", "presented unknown inferred"),
    ("c: hello s: v1302 23 105 916 96 69 c: 899 96 69 fin s: fin", "presented unknown inferred"),
    ("c: hello s: v1302 23 105 916 96 69 c: 899 96 69 fin s: 730", "presented yes inferred"),
    ("c: hello s: v1302 23 105 916 96 69 200 c: 899 96 69 s: 730", "presented unknown inferred"),
    ("c: hello s: v1302 23 916 96 69 c: 69 s: 19 fin", "none yes inferred"),
    ("c: hello s: v1302 23 916 96 69 c: 69 fin s: 19 fin", "none unknown inferred"),
    ("c: hello s: v1302 48 944 112 80 c: 615 71 s: 48 fin", "presented unknown inferred"),
    // The client gives up.
    ("c: hello s: v1302 23 504 95 69 c: fatal fin s: fin", "rejected no inferred"),
    ("c: hello s: v1302 23 504 95 69 c: ccs 19 rst", "rejected no inferred"),
    ("c: hello s: v1302 23 504 95 69 c: fin s: 19 fin", "rejected no inferred"),
    ("c: hello s: v1302 23 504 95 69 fin", "rejected no inferred"),
    ("c: hello s: v1302 23 504 95 69", "undetermined unknown unknown"),
    // Nobody says hello.
    ("c: hello s: fatal", "rejected no proven"),
    ("c: hello s: fin", "rejected no proven"),
    ("c: hello fin s: v1302 23 916 96 69", "rejected no inferred"),
    ("c: hello s: warning v1302 23 916 96 69 c: 69 s: 250", "none yes inferred"),
    ("c: hello", "undetermined unknown unknown"),
    ("s: fin", "undetermined unknown unknown"),
    // Going on with a session, with early data and without.
    ("c: hello+psk:208 s: v1302+psk 23 69 c: 69 115 s: 250", "resumed yes unknown"),
    ("c: hello+psk:208 s: v1302+psk 23 69 c: 69 115 s: 19 fin", "resumed yes unknown"),
    ("c: hello+psk:208 s: v1302+psk 23 69 c: 69 s: fin", "resumed unknown unknown"),
    ("c: hello+early+psk:208 640 s: v1302+psk 27 69 c: 640 21 69 s: 258", "resumed yes unknown"),
    ("c: hello+early+psk:208 640 s: v1302 23 916 96 69 c: 640 69 s: 258", "none yes inferred"),
    ("c: hello+early+psk:208 35 s: v1302 23 105 916 96 69 c: 40 25 69 s: 258", "empty yes inferred"),
    ("c: hello+early+psk:208 s: v1302 23 105 916 96 69 c: 899 899 96 69 s: 738", "presented yes inferred"),
    ("c: hello+early+psk:208 s: v1302 1300 c: 899 96 69 s: 738", "undetermined unknown unknown"),
    ("c: hello+early s: retry c: hello s: v1302 c: 25 69 s: 258", "empty yes inferred"),
    // A certificate that is given late.
    ("c: hello+late s: v1302 23 916 96 69 c: 69 115 s: 250 94 c: 931 96 69 s: 730", "presented yes inferred"),
    ("c: hello+late s: v1302 23 916 96 69 c: 69 115 s: 250 94 c: 57 69 s: 250", "empty yes inferred"),
    ("c: hello+late s: v1302 23 916 96 69 c: 69 115 s: 250 94 c: 57 s: 19 c: 69 s: rst", "rejected no inferred"),
    ("c: hello+late s: v1302 23 916 96 69 c: 69 115 931 96 69 s: 730", "none yes inferred"),
    ("c: hello s: v1302 23 916 96 69 c: 69 115 s: 250 94 c: 931 96 69 s: 730", "none yes inferred"),
    // Losses.
    ("c: hello s: v1302 lost c: 899 96 69", "presented unknown inferred"),
    ("c: hello s: v1302 c: 899 lost s: 730", "undetermined unknown unknown"),
    ("c: hello s: v1302 c: 899 96 lost s: 730", "presented yes inferred"),
    ("c: hello s: v1302 c: 899 96 lost s: 19 fin", "presented unknown inferred"),
    // The first record may be padded as all others: it takes a second.
    ("c: hello s: v1302 c: 899 s: 730 c: 899 899", "undetermined unknown unknown"),
    ("c: hello s: v1302 c: 899 s: 730 c: 115", "presented yes inferred"),
    ("c: hello s: v1302 c: 899 s: 730 fin", "presented yes inferred"),
    ("c: hello s: v1302 c: lost 69 s: 730", "undetermined unknown unknown"),
    ("c: hello lost s: v1302 23 916 96 69 730", "undetermined unknown unknown"),
    ("c: lost s: v1302 23 916 96 69 c: 69 s: 730", "undetermined unknown unknown"),
];

/// Sequences of TLS 1.2 and older and what is said of them.
const CLEAR: &[(&str, &str)] = &[
    ("c: hello s: v12 certificate done c: exchange ccs enc s: ccs enc", "none yes proven"),
    ("c: hello s: v12 certificate request done c: empty exchange ccs enc s: ccs enc", "empty yes proven"),
    (
        "c: hello s: v12 certificate request done c: certificate exchange verify ccs enc s: ccs enc",
        "presented yes proven",
    ),
    ("c: hello s: v10 certificate request done c: flight ccs enc s: ticket:1 ccs enc", "presented yes proven"),
    (
        "c: hello s: v12 certificate request done c: certificate exchange ccs enc s: ccs enc",
        "undetermined unknown unknown",
    ),
    ("c: hello s: v12 certificate request done c: certificate exchange verify ccs enc", "presented unknown proven"),
    ("c: hello s: v12 certificate request done c: certificate exchange", "undetermined unknown unknown"),
    // The end of the handshake.
    ("c: hello s: v12 certificate request done c: flight ccs enc s: fatal fin", "rejected no proven"),
    ("c: hello s: v12 certificate request done c: empty s: fatal fin c: exchange ccs", "rejected no proven"),
    ("c: hello s: v12 certificate request done c: flight ccs enc s: rst", "rejected no proven"),
    ("c: hello s: v12 certificate done c: fatal", "rejected no proven"),
    ("c: hello s: v12 certificate done c: fin s: fatal", "rejected no proven"),
    ("c: hello s: v12 certificate request done c: flight ccs enc fin s: ccs enc", "presented yes proven"),
    ("c: hello s: warning v12 certificate done c: exchange ccs enc s: ccs enc", "none yes proven"),
    // Going on with a session.
    ("c: hello s: v12 ccs enc c: ccs enc", "resumed yes unknown"),
    ("c: hello+ticket:1 s: v12 ticket:2 ccs enc c: ccs enc", "resumed yes unknown"),
    // Another handshake, within the first.
    ("c: hello s: v12 certificate done c: exchange ccs enc s: ccs enc enc c: enc", "undetermined unknown unknown"),
    ("c: hello s: v12 certificate done c: exchange ccs enc s: ccs enc enc c: data s: data", "none yes proven"),
    ("c: hello s: v12 certificate request done c: flight ccs enc s: ccs enc enc c: enc", "presented yes proven"),
    // Losses.
    ("c: hello s: v12 certificate request done c: lost s: ccs enc", "undetermined unknown unknown"),
    ("c: hello s: v12 c: lost s: ccs enc", "undetermined unknown unknown"),
    ("c: hello s: v12 lost c: flight ccs enc s: fin", "presented unknown proven"),
    ("c: hello s: v12 certificate request lost c: flight ccs enc", "presented unknown proven"),
];

#[test]
fn lengths_tell_what_the_client_did() {
    hold(ENCRYPTED);
}

#[test]
fn messages_in_clear_tell_what_the_client_did() {
    hold(CLEAR);
}

#[test]
fn what_was_refused_and_asked_for_is_told() {
    use super::ClientCertificate::{Empty, None as Nothing, Presented, Undetermined};
    for (sequence, refused, requested) in [
        (format!("{ASKED} 25 69 s: 19 fin"), Some(Empty), Some(true)),
        (format!("{ASKED} 899 96 69 s: 19 fin"), Some(Presented), Some(true)),
        (format!("{ASKED} 25 s: 19 fin"), Some(Undetermined), Some(true)),
        (format!("{ASKED} fin s: fin"), None, Some(true)),
        (format!("{NOT_ASKED} 69 s: 250"), None, Some(false)),
        ("c: hello s: v1302 1139 c: 25 69 s: 250".to_owned(), None, Some(true)),
        ("c: hello s: v1302 1139".to_owned(), None, None),
        ("c: hello s: v12 certificate request done c: empty s: fatal".to_owned(), Some(Empty), Some(true)),
        ("c: hello s: v12 certificate done c: exchange ccs enc s: fatal".to_owned(), Some(Nothing), Some(false)),
        ("c: hello s: v12 certificate request done c: fatal".to_owned(), None, Some(true)),
        ("c: hello s: v12 ccs enc c: ccs enc".to_owned(), None, None),
    ] {
        let facts = session(&sequence).facts();
        assert_eq!((facts.refused, facts.requested), (refused, requested), "{sequence}");
    }
}

#[test]
fn no_bytes_of_messages_are_shown() {
    let mut session = session("c: hello+ticket:171 s: v12 certificate");
    let Step::Data(side, bytes, _) = step(Side::Server, "ticket:171") else { panic!("a message") };
    session.data(side, &bytes[..50]);
    let shown = format!("{session:?}");
    assert!(shown.contains("Undetermined") && !shown.contains("171, 171"), "{shown}");
}

#[test]
fn chains_in_clear_are_kept() {
    let facts = session("c: hello s: v12 certificate request done c: flight ccs enc s: ccs").facts();
    let expected = vec![Box::from([0x30; 300])];
    assert_eq!((&facts.client_chain, &facts.server_chain), (&expected, &expected));
    assert_eq!((facts.client_random, facts.resumed), (Some([7; 32]), Some(false)));
}

#[test]
fn a_session_says_when_it_has_seen_enough() {
    for (sequence, settled) in [
        (format!("{NOT_ASKED} 69 115 s: 250"), true),
        (format!("{NOT_ASKED} 69 115"), false),
        (format!("{ASKED} 899 96 69 s: 19"), false),
        (format!("{ASKED} 899 96 69 s: 19 fin"), true),
        (format!("{ASKED} 899 96 69 s: 730"), true),
        ("c: hello+late s: v1302 c: 69 115 s: 250".to_owned(), false),
        ("c: hello+late s: v1302 c: 69 1 2 3 4 s: 250 251 252 253".to_owned(), true),
        ("c: hello+late s: v1302 c: 69 1 2 3 4 s: 250 251 252 c: 931".to_owned(), false),
        ("c: hello s: v12 certificate request done c: flight ccs enc s: ccs".to_owned(), true),
        ("c: hello s: v12 certificate done c: exchange ccs enc s: ccs enc".to_owned(), false),
        ("c: 100".to_owned(), true),
    ] {
        assert_eq!(session(&sequence).is_settled(), settled, "{sequence}");
    }
    let long = format!("c: hello s: v1302 c: {}", "100 200 ".repeat(100));
    assert!(session(&long).is_settled(), "no more is remembered than may be");
}

/// What a memory says of the last of some connections to one server.
fn last(sequences: &[&str]) -> String {
    let mut endpoints = Endpoints::new(10, std::time::Duration::from_secs(60));
    let endpoint = Endpoint { address: ([127, 0, 0, 1], 443).into(), netns: Some(1) };
    let mut facts = Facts::default();
    for (sequence, second) in sequences.iter().zip(100..) {
        let mut session = session(sequence);
        session.finish();
        let now = Timestamp(second * 1_000_000_000);
        let elsewhere = Endpoint { netns: Some(2), ..endpoint };
        assert_eq!(said(&endpoints.conclude(elsewhere, &Session::new(), now)), "undetermined unknown unknown");
        facts = endpoints.conclude(endpoint, &session, now);
    }
    said(&facts)
}

#[test]
fn a_server_that_always_speaks_first_refuses_by_silence() {
    let accepted = "c: hello s: v1302 23 105 916 96 69 c: 899 96 69 s: 730";
    let silent = "c: hello s: v1302 23 105 916 96 69 c: 899 96 69 19 s: 19 fin";
    let mute = "c: hello+mute s: v1302 23 105 916 96 69 c: 899 96 69 19 s: 19 fin";
    let late = "c: hello s: v1302 23 105 916 96 69 c: 899 96 69 115 s: 730";
    assert_eq!(last(&[silent]), "presented unknown inferred");
    assert_eq!(last(&[accepted, silent]), "presented unknown inferred");
    assert_eq!(last(&[accepted, accepted, silent]), "rejected no inferred");
    assert_eq!(last(&[accepted, accepted, mute]), "presented unknown inferred");
    assert_eq!(last(&[late, late, silent]), "presented unknown inferred");
}

#[test]
fn a_session_inherits_what_its_first_connection_showed() {
    let given = "c: hello s: v1302 23 105 916 96 69 c: 899 96 69 s: 730";
    let none = "c: hello s: v1302 23 916 96 69 c: 69 s: 250";
    let again = "c: hello+psk:688 s: v1302+psk 23 69 c: 69 s: 730";
    let bare = "c: hello+psk:208 s: v1302+psk 23 69 c: 69 s: 250";
    let small = "c: hello+psk:32 s: v1302+psk 23 69 c: 69 s: 195";
    assert_eq!(last(&[given, again]), "resumed yes inherited given");
    assert_eq!(last(&[none, bare]), "resumed yes inherited not given");
    assert_eq!(last(&[none, again]), "resumed yes inherited given", "so much longer than those without");
    assert_eq!(last(&[given, bare]), "resumed yes unknown");
    assert_eq!(last(&[given, none, small]), "resumed yes unknown");
    let java = "c: hello s: v1302 65 533 112 85 c: 85 s: 730";
    assert_eq!(last(&[given, java, again]), "resumed yes unknown", "the same length with a certificate and without");
}

#[test]
fn a_ticket_in_clear_names_its_session() {
    let given = "c: hello s: v12 certificate request done c: flight ccs enc s: ticket:1 ccs enc";
    let none = "c: hello s: v12 certificate done c: exchange ccs enc s: ticket:2 ccs enc";
    let resumed = |ticket: u8, next: u8| format!("c: hello+ticket:{ticket} s: v12 ticket:{next} ccs enc c: ccs enc");
    assert_eq!(last(&[given, none, &resumed(1, 3)]), "resumed yes inherited given");
    assert_eq!(last(&[given, none, &resumed(2, 3)]), "resumed yes inherited not given");
    assert_eq!(last(&[given, none, &resumed(3, 4)]), "resumed yes unknown");
    assert_eq!(last(&[given, &resumed(1, 3), &resumed(3, 4)]), "resumed yes inherited given", "the next ticket too");
    let refused = "c: hello s: v12 certificate request done c: flight ccs enc s: ticket:1 fatal";
    assert_eq!(last(&[refused, &resumed(1, 3)]), "resumed yes unknown");
}

#[test]
fn a_session_id_names_its_session_where_there_is_no_ticket() {
    let given = "c: hello s: v12+session:1 certificate request done c: flight ccs enc s: ccs enc";
    let again = "c: hello+session:1 s: v12+session:1 ccs enc c: ccs enc";
    let other = "c: hello+session:2 s: v12+session:2 ccs enc c: ccs enc";
    let made_up = "c: hello+ticket:9+session:1 s: v12+session:1 ccs enc c: ccs enc";
    assert_eq!(last(&[given, again]), "resumed yes inherited given");
    assert_eq!(last(&[given, other]), "resumed yes unknown");
    assert_eq!(last(&[given, made_up]), "resumed yes unknown", "the id beside a ticket is the client's own");
}

/// Whether more may be said after `before` than was.
fn follows(before: &Facts, after: &Facts) -> bool {
    use super::ClientCertificate::{Empty, None as Nothing, Rejected, Undetermined};
    let (was, is) = (before.client, after.client);
    match (was.certificate, is.certificate) {
        (was_given, given) if was_given == given => was.accepted == is.accepted || was.accepted == Accepted::Unknown,
        // A certificate that comes late, or another handshake.
        (Undetermined | Nothing, _) | (Empty, Undetermined) => true,
        (_, Rejected) => was.accepted == Accepted::Unknown,
        _ => false,
    }
}

proptest! {
    #[test]
    fn any_split_says_the_same(
        (sequence, expected) in prop::sample::select([ENCRYPTED, CLEAR].concat()),
        lengths in proptest::collection::vec(1..60_usize, 1..8),
    ) {
        let mut session = Session::new();
        let mut lengths = lengths.iter().cycle();
        for step in steps(sequence) {
            let Step::Data(side, bytes, skipped) = &step else {
                take(&mut session, &step);
                continue;
            };
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (part, after) = rest.split_at(rest.len().min(*lengths.next().expect("an endless iterator")));
                session.data(*side, part);
                rest = after;
            }
            let half = skipped / 2;
            session.skip(*side, half);
            session.skip(*side, skipped - half);
        }
        session.finish();
        prop_assert_eq!(said(&session.facts()), expected, "{}", sequence);
    }

    #[test]
    fn nothing_that_was_said_is_taken_back(
        (first, _) in prop::sample::select([ENCRYPTED, CLEAR].concat()),
        (second, _) in prop::sample::select([ENCRYPTED, CLEAR].concat()),
        cut in any::<prop::sample::Index>(),
    ) {
        let (first, second) = (steps(first), steps(second));
        let mut session = Session::new();
        let mut before = session.facts();
        for step in first.iter().chain(&second[cut.index(second.len() + 1).min(second.len())..]) {
            let settled = session.is_settled();
            take(&mut session, step);
            let after = session.facts();
            prop_assert!(follows(&before, &after), "{:?} then {:?}", before, after);
            prop_assert!(!settled || before == after, "{:?} was settled, then {:?}", before, after);
            before = after;
        }
    }
}
