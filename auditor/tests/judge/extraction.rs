//! Which credentials a head holds, where, and within which bounds.

use std::fmt::Write;

use auditor::credentials::{Credential, Extractor, FingerprintKey, Limits, Settings};
use auditor_wire::exchange::{Head, Request};
use proptest::prelude::*;

use crate::calls::request;

fn extractor(settings: Settings) -> Extractor {
    Extractor::new(settings, FingerprintKey::from_bytes([7; 32]))
}

fn found(target: &str, headers: &str) -> Vec<Credential> {
    extractor(Settings::default()).extract(&request(&format!("GET {target} HTTP/1.1\r\n{headers}\r\n")))
}

fn carriers(credentials: &[Credential]) -> Vec<&str> {
    credentials.iter().map(|credential| &*credential.carrier).collect()
}

#[test]
fn carriers_name_the_place() {
    let token = "eyJhbGciOiJSUzI1NiJ9.e30.c2ln";
    let credentials = found(
        "http://u:p@h/x;jsessionid=abc?access%5Ftoken=abc",
        &format!(
            "authorization: Bearer abc\r\nX-Api-Key: abc\r\nCookie: SID=abc; __Host-sid=abc; x={token}\r\nX-Internal: v1 {token}\r\n"
        ),
    );
    let expected = [
        "userinfo",
        "query:access_token",
        "path:jsessionid",
        "header:authorization",
        "header:x-api-key",
        "cookie:SID",
        "cookie:__Host-sid",
        "cookie:x",
        "header:x-internal",
    ];
    assert_eq!(carriers(&credentials), expected);
    let prints: Vec<_> = credentials[1..7].iter().map(|credential| &credential.fingerprint).collect();
    assert!(prints.iter().all(|print| *print == prints[0]), "equal values, equal fingerprints: {prints:?}");
}

#[test]
fn repeated_headers_are_each_looked_at_and_equal_ones_are_one() {
    let credentials =
        found("/", "Authorization: Bearer a1\r\nAuthorization: Bearer a2\r\nAuthorization: Bearer a1\r\n");
    assert_eq!(credentials.len(), 2, "{credentials:?}");
    assert_ne!(credentials[0].fingerprint, credentials[1].fingerprint);
}

#[test]
fn names_can_be_configured() {
    let settings = Settings {
        api_key_headers: vec!["X-Own-Key".into()],
        signature_headers: vec!["X-Own-Signature".into()],
        session_cookies: vec!["own".into(), "*_own".into()],
        query_parameters: vec!["own_secret".into()],
        limits: Limits::default(),
    };
    let head = "GET /?own_secret=a&token=a HTTP/1.1\r\nx-own-key: a\r\nx-own-signature: a\r\nx-api-key: a\r\n\
                Cookie: own=a1; my_own=a2; sid=a3\r\n\r\n";
    let credentials = extractor(settings).extract(&request(head));
    let expected = ["query:own_secret", "header:x-own-key", "header:x-own-signature", "cookie:own", "cookie:my_own"];
    assert_eq!(carriers(&credentials), expected);
}

#[test]
fn the_number_of_credentials_is_bounded() {
    let mut headers = String::new();
    for number in 0..1000 {
        write!(headers, "X-Api-Key: key{number}\r\n").expect("text");
    }
    assert_eq!(found("/", &headers).len(), 16);
    let settings = Settings { limits: Limits { credentials: 2, ..Limits::default() }, ..Settings::default() };
    assert_eq!(extractor(settings).extract(&request(&format!("GET / HTTP/1.1\r\n{headers}\r\n"))).len(), 2);
}

#[test]
fn only_so_much_of_a_value_is_searched() {
    let settings = Settings { limits: Limits { searched_bytes: 100, ..Limits::default() }, ..Settings::default() };
    let at = |padding: usize| {
        let head = format!("GET / HTTP/1.1\r\nCookie: pad={}; sid=abc\r\n\r\n", "x".repeat(padding));
        extractor(settings.clone()).extract(&request(&head)).len()
    };
    assert_eq!((at(10), at(200)), (1, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_head_is_taken(name in "(authorization|cookie|signature|dpop|x-api-key|[a-z-]{0,70})", value: Vec<u8>, query: String, path: String) {
        let mut bytes = name.clone().into_bytes();
        bytes.extend_from_slice(&value);
        let ranges = [((0, name.len()), (name.len(), bytes.len()))];
        let request = Request {
            query: Some(zeroize::Zeroizing::new(query.clone())),
            userinfo: Some(zeroize::Zeroizing::new(query)),
            path: path.into(),
            head: Head::new(bytes, ranges),
            ..request("GET / HTTP/1.1\r\n\r\n")
        };
        prop_assert!(extractor(Settings::default()).extract(&request).len() <= 16);
    }
}
