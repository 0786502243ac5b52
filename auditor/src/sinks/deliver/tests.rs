//! Events for the tests of the sinks, a receiver that answers as it is told, and what webhook and Alertmanager make of it.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use zeroize::Zeroizing;

use super::*;
use crate::{
    evidence::Ledger,
    judgement::{Judgement, Severity},
    sinks::{golden::assert_golden, sample},
};

/// The event that a call causes.
fn event_of(judgement: &Judgement) -> Event {
    let mut found = None;
    Ledger::new(10, SignedDuration::from_hours(1)).judgement(judgement, |event| found = Some(event));
    found.expect("an event")
}

fn call() -> Judgement {
    let mut judgement = sample::unauthenticated();
    judgement.source = sample::party("10.0.0.3", 40000, Some("shop/cart"));
    if let Some(request) = &mut judgement.request {
        request.header_names = Some("host,user-agent,accept".into());
    }
    judgement
}

/// `shop/cart` called `inventory` without proof.
pub(super) fn event() -> Event {
    event_of(&call())
}

pub(super) fn events(number: usize) -> Vec<Event> {
    vec![event(); number]
}

/// An event whose every text tries to get out of its place.
pub(super) fn hostile() -> Event {
    let nasty = "x\nINJECTED=1\r\n\u{1b}[31m\"]\\\u{202e}\u{9b}2J";
    let long = nasty.repeat(200);
    let mut judgement = call();
    judgement.source = sample::party("10.0.0.3", 40000, Some(&long));
    judgement.destination.workload = Some(format!("~other/{nasty}").into());
    judgement.request = Some(sample::request(nasty, &long, &long));
    judgement.findings = vec![sample::finding("unauthenticated-call", Severity::High, &long)];
    event_of(&judgement)
}

/// How the receiver answers.
#[derive(Clone, Debug)]
enum Answer {
    /// With this status and these header lines.
    Status(u16, &'static str),
    /// It closes the connection without a word.
    Close,
    /// It says nothing for as long as the client waits.
    Nothing,
    /// A head without end.
    EndlessHead,
    /// A body without end.
    EndlessBody,
}

/// A request as it came: its head and its body.
#[derive(Clone, Debug)]
struct Request {
    head: String,
    body: Vec<u8>,
}

struct Receiver {
    endpoint: Endpoint,
    requests: Arc<Mutex<Vec<Request>>>,
    /// How long clients wait for an answer: not long where none will come.
    patience: Duration,
}

impl Receiver {
    /// Answers one request after the other; the last answer goes on.
    fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::parse(&format!("http://{}/hook", listener.local_addr().unwrap())).unwrap();
        let silent = answers.iter().any(|answer| matches!(answer, Answer::Nothing));
        let patience = if silent { Duration::from_millis(200) } else { Duration::from_secs(60) };
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        thread::spawn(move || {
            let mut at = 0;
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { break };
                while let Some(request) = read_request(&mut stream) {
                    kept.lock().unwrap().push(request);
                    let answer = answers[at.min(answers.len() - 1)].clone();
                    at += 1;
                    if !give(&mut stream, &answer) {
                        break;
                    }
                }
            }
        });
        Self { endpoint, requests, patience }
    }

    fn client(&self) -> Client {
        Client::new(self.endpoint.clone(), self.patience, None).unwrap()
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).ok()?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Request { head, body })
}

/// Whether the connection goes on.
fn give(stream: &mut TcpStream, answer: &Answer) -> bool {
    match answer {
        Answer::Status(status, headers) => {
            write!(stream, "HTTP/1.1 {status} X\r\n{headers}Content-Length: 2\r\n\r\nok").is_ok()
        }
        Answer::Close => false,
        // Until the client has had enough.
        Answer::Nothing => stream.read(&mut [0]).is_ok_and(|read| read > 0),
        Answer::EndlessHead => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
            while stream.write_all(b"X-More: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n").is_ok() {}
            false
        }
        Answer::EndlessBody => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n");
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
            false
        }
    }
}

fn webhook(receiver: &Receiver, secret: Option<&[u8]>) -> Webhook {
    let token = ("authorization".to_owned(), Zeroizing::new("Bearer receivers-token".to_owned()));
    Webhook::new(receiver.client(), vec![token], secret, "node-1".to_owned())
}

#[test]
fn a_batch_is_one_signed_request_with_the_documented_body() {
    let receiver = Receiver::start(vec![Answer::Status(202, "")]);
    let mut webhook = webhook(&receiver, Some(b"hmac-secret"));
    webhook.post(&events(2), 7).unwrap();
    let requests = receiver.requests();
    let [request] = &requests[..] else { panic!("{requests:?}") };
    assert!(request.head.starts_with("post /hook http/1.1\r\n"), "{}", request.head);
    for line in ["content-type: application/json", "authorization: bearer receivers-token"] {
        assert!(request.head.lines().any(|found| found == line), "no {line} in {}", request.head);
    }
    let header = |name: &str| {
        let lines = request.head.lines();
        lines.filter_map(|line| line.split_once(": ")).find(|(found, _)| *found == name).expect(name).1.to_owned()
    };
    let mut body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["id"], header("x-auditor-batch"));
    let signature = header("x-auditor-signature");
    let (seconds, tag) = signature.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")).unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"hmac-secret");
    let tag: Vec<u8> = (0..tag.len()).step_by(2).map(|at| u8::from_str_radix(&tag[at..at + 2], 16).unwrap()).collect();
    let signed = [seconds.as_bytes(), b".", &request.body].concat();
    ring::hmac::verify(&key, &signed, &tag).expect("the signature holds");
    body["id"] = "RUN-7".into();
    body["events"].as_array_mut().unwrap().truncate(1);
    assert_golden("finding.webhook.json", &format!("{}\n", serde_json::to_string_pretty(&body).unwrap()));
    let shown = format!("{webhook:?}");
    assert!(!shown.contains("receivers-token") && !shown.contains("hmac-secret"), "{shown}");
}

#[test]
fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
    for (answer, retry, after) in [
        (Answer::Status(500, ""), true, None),
        (Answer::Status(503, "Retry-After: 120\r\n"), true, Some(120)),
        (Answer::Status(429, "Retry-After: 7\r\n"), true, Some(7)),
        (Answer::Status(429, "Retry-After: soon\r\n"), true, None),
        (Answer::Status(400, ""), false, None),
        (Answer::Status(401, "Retry-After: 7\r\n"), false, None),
        (Answer::Close, true, None),
        (Answer::Nothing, true, None),
        (Answer::EndlessHead, true, None),
    ] {
        let receiver = Receiver::start(vec![answer.clone()]);
        let refusal = webhook(&receiver, None).post(&[event()], 0).expect_err("refused");
        assert_eq!((refusal.retry, refusal.after), (retry, after.map(Duration::from_secs)), "{answer:?}: {refusal:?}");
        assert!(!refusal.reason.contains("receivers-token") && refusal.reason.len() < 200, "{refusal:?}");
    }
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    let receiver = Receiver::start(vec![Answer::EndlessBody]);
    webhook(&receiver, None).post(&[event()], 0).expect("the status is what counts");
}

#[test]
fn no_redirect_is_followed() {
    let elsewhere = Receiver::start(vec![Answer::Status(200, "")]);
    let location: &'static str = format!("Location: {}\r\n", elsewhere.endpoint).leak();
    for status in [301, 302, 307, 308] {
        let receiver = Receiver::start(vec![Answer::Status(status, location)]);
        let refusal = webhook(&receiver, Some(b"secret")).post(&[event()], 0).expect_err("refused");
        assert!(!refusal.retry && refusal.reason.contains("redirects are not followed"), "{refusal:?}");
    }
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn nobody_there_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let client = Client::new(endpoint, Duration::from_secs(60), None).unwrap();
    let refusal = Webhook::new(client, Vec::new(), None, String::new()).post(&[event()], 0).expect_err("refused");
    assert!(refusal.retry, "{refusal:?}");
}

#[test]
fn urls_that_hold_secrets_are_refused_without_showing_them() {
    for text in ["http://alerts:9093", "https://alerts.example/hook/", "http://[::1]:80/a/b"] {
        assert_eq!(Endpoint::parse(text).unwrap().as_str(), text.trim_end_matches('/'));
    }
    for text in [
        "",
        "/hook",
        "alerts.example",
        "ftp://alerts.example/",
        "http://me:s3cr3t@alerts.example/",
        "https://alerts.example/hook?token=s3cr3t",
        "https://alerts.example/hook#s3cr3t",
        "http:///x",
        "http://a b/",
    ] {
        let problem = Endpoint::parse(text).expect_err(text);
        assert!(!problem.contains("s3cr3t") && problem.contains([';', ',']), "{text}: {problem}");
    }
}

#[test]
fn hostile_text_is_printable_json() {
    let receiver = Receiver::start(vec![Answer::Status(200, "")]);
    webhook(&receiver, None).post(&[hostile()], 0).unwrap();
    let body = String::from_utf8(receiver.requests()[0].body.clone()).unwrap();
    assert!(body.chars().all(|character| !character.is_control() && character != '\u{202e}'), "{body:?}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert!(body["events"][0]["route"].as_str().unwrap().len() <= 256);
}

fn alertmanager(receiver: &Receiver, limit: usize) -> (Alertmanager, SharedCounts) {
    let counts = SharedCounts::default();
    let labels = BTreeMap::from([("cluster".to_owned(), "eu-1".to_owned()), ("rule".to_owned(), "mine".to_owned())]);
    let resolve_after = SignedDuration::from_mins(15);
    (Alertmanager::new(receiver.client(), resolve_after, limit, labels, Arc::clone(&counts)), counts)
}

/// The group of [`event`], seen `ago` before now.
fn seen(ago: SignedDuration) -> Group {
    let mut group = event().group;
    group.seen.last = Timestamp::now() - ago;
    group.seen.first = group.seen.last - SignedDuration::from_mins(1);
    group
}

fn alerts(request: &Request) -> Vec<Value> {
    serde_json::from_slice(&request.body).unwrap()
}

/// Works until what waits has had its time.
fn worked(sink: &mut Alertmanager) {
    let now = Instant::now();
    sink.work(now);
    sink.work(now + Duration::from_secs(2000));
}

#[test]
fn an_alert_is_what_the_documentation_says() {
    let receiver = Receiver::start(vec![Answer::Status(200, "")]);
    let (mut sink, counts) = alertmanager(&receiver, 10);
    let mut event = event();
    event.group = seen(SignedDuration::ZERO);
    let last = event.group.seen.last;
    sink.take(Item::Event(Box::new(event)));
    worked(&mut sink);
    let requests = receiver.requests();
    let mut alerts = alerts(&requests[0]);
    let time = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    assert_eq!(time(&alerts[0]["endsAt"]), last + SignedDuration::from_mins(15));
    assert_eq!(time(&alerts[0]["startsAt"]), last - SignedDuration::from_mins(1));
    alerts[0]["startsAt"] = "2026-11-22T01:22:45.678901Z".into();
    alerts[0]["endsAt"] = "2026-11-22T01:38:45.678901Z".into();
    assert_golden("finding.alerts.json", &format!("{}\n", serde_json::to_string_pretty(&alerts).unwrap()));
    assert_eq!((counts.errors(), counts.dropped()), (0, 0));
}

#[test]
fn an_alert_is_sent_again_and_its_end_once() {
    let receiver = Receiver::start(vec![Answer::Status(200, "")]);
    let (mut sink, _) = alertmanager(&receiver, 10);
    sink.take(Item::Active(vec![seen(SignedDuration::ZERO)]));
    worked(&mut sink);
    sink.take(Item::Active(vec![seen(SignedDuration::ZERO)]));
    worked(&mut sink);
    // A little before its end, so that it is over at the next list.
    sink.take(Item::Active(vec![seen(SignedDuration::from_mins(15) - SignedDuration::from_millis(300))]));
    worked(&mut sink);
    assert_eq!(receiver.requests().len(), 3);
    while Timestamp::now() < time_of(&receiver.requests()[2], "endsAt") {
        thread::sleep(Duration::from_millis(5));
    }
    for _ in 0..3 {
        sink.take(Item::Active(vec![seen(SignedDuration::from_hours(2))]));
        worked(&mut sink);
    }
    let requests = receiver.requests();
    assert_eq!(requests.len(), 4, "the end is told once, and what is over is not begun");
    assert!(time_of(&requests[3], "endsAt") <= Timestamp::now());
    assert_eq!(alerts(&requests[3])[0]["labels"], alerts(&requests[0])[0]["labels"]);
}

fn time_of(request: &Request, field: &str) -> Timestamp {
    alerts(request)[0][field].as_str().unwrap().parse().unwrap()
}

#[test]
fn alerts_that_were_not_taken_are_sent_again_until_they_are() {
    let answers = vec![Answer::Status(500, ""), Answer::Close, Answer::Status(200, "")];
    let receiver = Receiver::start(answers);
    let (mut sink, counts) = alertmanager(&receiver, 10);
    sink.take(Item::Event(Box::new(Event { group: seen(SignedDuration::ZERO), ..event() })));
    let mut now = Instant::now();
    for _ in 0..10 {
        now += Duration::from_secs(400);
        sink.work(now);
        sink.work(now + Duration::from_secs(200));
    }
    assert_eq!(receiver.requests().len(), 3);
    assert_eq!((counts.errors(), counts.dropped()), (2, 0));
}

#[test]
fn many_alerts_go_in_parts_and_no_more_than_the_limit_are_kept() {
    let receiver = Receiver::start(vec![Answer::Status(200, "")]);
    let (mut sink, counts) = alertmanager(&receiver, 450);
    let mut ledger = Ledger::new(1000, SignedDuration::from_hours(1));
    for number in 0..500 {
        let mut judgement = call();
        judgement.time = Timestamp::now();
        judgement.destination.workload = Some(format!("service-{number}").into());
        ledger.judgement(&judgement, drop);
    }
    sink.take(Item::Active(ledger.seen_since(Timestamp::UNIX_EPOCH)));
    worked(&mut sink);
    let sizes: Vec<_> = receiver.requests().iter().map(|request| alerts(request).len()).collect();
    assert_eq!((sizes, counts.dropped()), (vec![200, 200, 50], 50));
}

#[test]
fn the_documentation_shows_what_is_sent() {
    let read =
        |path: &str| std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let documentation = read("../docs/sinks.md");
    for name in ["webhook.json", "alerts.json", "syslog", "journal"] {
        let sent = read(&format!("src/sinks/golden/finding.{name}"));
        assert!(documentation.contains(&format!("\n{}\n```", sent.trim_end())), "docs/sinks.md does not show {sent}");
    }
}
