//! Random secrets through every kind and carrier: none comes out of extraction, judgement, serialisation, `Debug` or
//! redaction, and a redacted head is judged as the head was.

use std::{collections::HashSet, io::Cursor};

use auditor::{
    attribution::arguments::redact_arguments,
    capture::{
        Status,
        recording::{Recorded, Recorder, Recording, RecordingFile},
    },
    credentials::{FingerprintKey, redact::redact_head},
    judgement::Judgement,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};

use crate::{calls, judged};

/// Bytes of a secret in a row that count as a leak.
const LEAK: usize = 6;

pub(crate) fn config() -> Config {
    Config { cases: 16, failure_persistence: None, rng_seed: RngSeed::Fixed(20_261_122), ..Config::default() }
}

pub(crate) fn secret() -> impl Strategy<Value = String> {
    "[A-Za-z0-9]{24,48}"
}

/// Every place in which a secret may stand in a head: request target and headers.
pub(crate) fn places(secret: &str) -> Vec<(String, String)> {
    let header = |headers: String| ("/items/42".to_owned(), headers);
    let target = |target: String| (target, String::new());
    let jwt = format!(
        "{}.{}.{secret}",
        URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"RS256","kid":"key-1"}"#),
        URL_SAFE_NO_PAD.encode(format!(
            r#"{{"iss":"issuer","aud":"cart","scope":"read write","azp":"web","roles":["reader"],"act":{{"sub":"gate","x":"{secret}"}},"cnf":{{"jwk":{{"k":"{secret}"}}}},"exp":{},"iat":{},"jti":"{secret}","n":{{"x":"{secret}"}}}}"#,
            calls::NOW + 200,
            calls::NOW - 100,
        )),
    );
    let jwe =
        format!("{}.{secret}.{secret}.{secret}.{secret}", URL_SAFE_NO_PAD.encode(r#"{"alg":"dir","enc":"A128GCM"}"#));
    let mut all = vec![
        header(format!("Authorization: Bearer {secret}\r\n")),
        header(format!("AUTHORIZATION: bearer {jwt}\r\n")),
        header(format!("Authorization: {secret}\r\n")),
        header(format!("Authorization: {secret} {secret}\r\n")),
        header(format!("Authorization: Bearer {jwe}\r\n")),
        header(format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("user:{secret}")))),
        header(format!("Authorization: Basic {}\r\n", STANDARD.encode(secret))),
        header(format!(
            "Authorization: Digest username=\"{secret}\", realm=\"r\", nonce=\"n\", response=\"{secret}\"\r\n"
        )),
        header(format!("Authorization: Negotiate {secret}\r\n")),
        header(format!("Authorization: NTLM {secret}\r\n")),
        header(format!("Authorization: DPoP {jwt}\r\nDPoP: {jwt}\r\n")),
        header(format!("Authorization: Signature keyId=\"{secret}\",signature=\"{secret}\"\r\n")),
        header(format!(
            "Authorization: AWS4-HMAC-SHA256 Credential={secret}/2026/r/s/aws4_request, SignedHeaders=host, Signature={secret}\r\n"
        )),
        header(format!("Authorization: Hawk id=\"{secret}\", mac=\"{secret}\"\r\n")),
        header(format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(format!("u:{secret}")))),
        header(format!("Signature-Input: sig1=();keyid=\"{secret}\"\r\nSignature: sig1=:{secret}:\r\n")),
        header(format!(
            "Signature-Input: {secret}=(\"@method\" \"x-{secret}\";key=\"{secret}\");created=1;nonce=\"{secret}\";tag=\"{secret}\";keyid=\"{secret}\"\r\nSignature: sig1=:{secret}:\r\n"
        )),
        header(format!(
            "Signature: keyId=\"{secret}\",headers=\"(request-target) {secret}\",signature=\"{secret}\"\r\n"
        )),
        header(format!("X-Forwarded-Client-Cert: Hash={secret};Cert=\"{secret}\";Chain={secret};URI=spiffe://a/b\r\n")),
        header(format!("Stripe-Signature: t=1795305600,v1={secret}\r\n")),
        header(format!("X-Slack-Signature: v0={secret}\r\nX-Slack-Request-Timestamp: {secret}\r\n")),
        header(format!("Authorization: DPoP {secret}\r\nDPoP: {jwt}\r\n")),
        header(format!("X-Unheard-Of: {jwt}\r\n")),
        header(format!("X-Unheard-Of: {secret}\r\n")),
        header(format!("User-Agent: agent {jwt}\r\n")),
        header(format!("Cookie: theme=dark; sid={secret}; other={secret}; t={jwt}\r\n")),
        header(format!("Referer: http://u:{secret}@h/{secret}?q={secret}\r\n")),
        header(format!("Authorization: Bearer {secret}\r\nAuthorization: Bearer {secret}x\r\n")),
        target(format!("/reset/{secret}/now")),
        target(format!("/x;jsessionid={secret}")),
        target(format!("/x?state={jwt}")),
        target(format!("/x?X-Amz-Credential={secret}%2F2026&X-Amz-Signature={secret}")),
        target(format!("http://me:{secret}@inventory/x")),
    ];
    all.extend(
        ["X-Api-Key", "Private-Token", "X-Hub-Signature-256", "X-Amz-Security-Token", "DPoP"]
            .map(|name| header(format!("{name}: {secret}\r\n"))),
    );
    all.extend(
        ["access_token", "api_key", "password", "sig", "key", "q"]
            .map(|name| target(format!("/x?{name}={secret}&page=2"))),
    );
    all
}

pub(crate) fn head((target, headers): &(String, String)) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: inventory\r\n{headers}Accept: */*\r\n\r\n")
}

/// Fails when a part of the secret, plain or in base64, is in the text.
pub(crate) fn assert_no_leak(text: &str, secret: &str, of: &str) -> Result<(), TestCaseError> {
    let seen: HashSet<&[u8]> = text.as_bytes().windows(LEAK).collect();
    let in_base64 = ["", "x", "xx"].map(|before| STANDARD.encode(format!("{before}{secret}")));
    for encoded in [secret.to_owned()].into_iter().chain(in_base64) {
        // The first characters depend on what stands before.
        let leak = encoded.as_bytes().windows(LEAK).skip(4).find(|part| seen.contains(part));
        prop_assert!(leak.is_none(), "{:?} of the secret is in {text}\nof {of}", leak.map(String::from_utf8_lossy));
    }
    Ok(())
}

/// What a judgement says, without the fingerprints.
fn said(judgement: &Judgement) -> serde_json::Value {
    let mut record = serde_json::to_value(judgement).expect("JSON");
    for credential in record["credentials"].as_array_mut().expect("a list") {
        credential.as_object_mut().expect("an object").remove("fingerprint");
    }
    record
}

/// The judgement of a call that was recorded and replayed, and the bytes of the recording.
fn replayed(head: &str) -> (Judgement, Vec<u8>) {
    let response = "HTTP/1.1 200 OK\r\n\r\n";
    let masked = Recorder::new(FingerprintKey::from_bytes([9; 32])).exchange(&calls::call(head, response));
    let entry = masked.entry(&judged(head, response).credentials).expect("an entry");
    let mut bytes = Vec::new();
    let mut file = RecordingFile::new(&mut bytes).expect("begins");
    file.write(&entry).expect("written");
    file.end().expect("written");
    let mut recording = Recording::new("file", Box::new(Cursor::new(bytes.clone()))).expect("opens");
    let mut judgement = None;
    let status = recording.drain(&mut |recorded| {
        if let Recorded::Exchange(call, checked) = recorded {
            judgement = crate::judge().recorded(*call, &checked);
        }
    });
    assert_eq!(status.expect("whole"), Status::End);
    (judgement.expect("an internal call"), bytes)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_secret_comes_out_and_a_redacted_head_is_judged_alike(secret in secret()) {
        let key = FingerprintKey::from_bytes([9; 32]);
        for place in places(&secret) {
            let head = head(&place);
            let judgement = judged(&head, "HTTP/1.1 200 OK\r\n\r\n");
            let record = serde_json::to_string(&judgement).expect("JSON");
            assert_no_leak(&record, &secret, &head)?;
            assert_no_leak(&format!("{judgement:?}"), &secret, &head)?;
            let mut redacted = head.clone().into_bytes();
            redact_head(&mut redacted, &key);
            prop_assert_eq!(redacted.len(), head.len());
            let redacted = String::from_utf8(redacted).expect("text stays text");
            assert_no_leak(&redacted, &secret, &head)?;
            let (again, bytes) = replayed(&head);
            assert_no_leak(&String::from_utf8_lossy(&bytes), &secret, &head)?;
            prop_assert_eq!(said(&again), said(&judgement), "{}\n{}", head, redacted);
        }
    }

    #[test]
    fn no_secret_stays_in_any_piece_of_a_head(secret in secret(), at in 0_usize..400, length in 0_usize..400) {
        let key = FingerprintKey::from_bytes([9; 32]);
        for place in places(&secret) {
            let head = format!("{}trailing {secret}", head(&place));
            let start = at.min(head.len());
            let mut piece = head.as_bytes()[start..(start + length).min(head.len())].to_vec();
            redact_head(&mut piece, &key);
            assert_no_leak(&String::from_utf8_lossy(&piece), &secret, &head)?;
        }
    }

    #[test]
    fn any_bytes_are_redacted_in_place(mut bytes: Vec<u8>, text in "(GET |HTTP/1.1 200|[a-z]{1,9}: |\r\n|ey|%|[=;,:/?@\"]|[A-Za-z0-9.]{1,8}){0,40}") {
        let key = FingerprintKey::from_bytes([9; 32]);
        let length = bytes.len();
        redact_head(&mut bytes, &key);
        prop_assert_eq!(bytes.len(), length);
        let mut text = text.into_bytes();
        redact_head(&mut text, &key);
    }

    #[test]
    fn no_secret_stays_in_a_command_line(secret in secret()) {
        for line in [
            format!("curl -H \"Authorization: Bearer {secret}\" http://h/"),
            format!("app --password={secret} --token {secret} -u me:{secret} API_KEY={secret}"),
            format!("psql postgres://u:{secret}@h/db?password={secret}"),
        ] {
            assert_no_leak(&redact_arguments(&line), &secret, &line)?;
        }
    }
}
