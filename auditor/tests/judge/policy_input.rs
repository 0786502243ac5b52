//! Any bytes as a policy file, and as the condition of a route with any claims in the token it is asked of.

use std::path::Path;

use auditor::{
    attribution::Attributed,
    credentials::{Extractor, FingerprintKey, Settings},
    policy::{self, Judge, rulebook::Rulebook},
};
use auditor_wire::exchange::{Exchange, UnknownReason};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::calls;

const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";
/// Longest claims that make a token: a head has room for no more.
const CLAIMS_BYTES: usize = 6000;

/// The first byte says what the others are.
pub(crate) fn check(bytes: &[u8]) {
    let Some((how, bytes)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    if how % 2 == 0 {
        judge_by(&text, r#""sub":"cart","tenant":"acme","scope":"read""#);
    } else {
        let (condition, claims) = text.split_once('\n').unwrap_or((&text, ""));
        // A JSON string is a YAML string, so that the whole line is the condition, whatever it holds.
        let condition = serde_json::Value::from(condition);
        let path = "path: \"/tenants/{tenant}/orders/**\"";
        judge_by(&format!("version: 1\nroutes:\n  - name: r\n    match: {{{path}}}\n    when: {condition}\n"), claims);
    }
}

/// Reads a policy, and judges calls by it: with a token of these claims, with none, and with a head that was cut.
fn judge_by(policy: &str, claims: &str) {
    let rulebook = match Rulebook::parse(Path::new("policy.yaml"), policy, jiff::civil::date(2026, 11, 22)) {
        Ok(rulebook) => rulebook,
        Err(error) => {
            let said = error.to_string();
            assert!(said.lines().count() == 1 && said.len() < 2000, "{said:?}");
            return;
        }
    };
    let extractor = Extractor::new(Settings::default(), FingerprintKey::from_bytes([7; 32]));
    let mut judge = Judge::new(policy::Settings::default(), extractor);
    judge.set_policy(rulebook);
    let bare = "GET /tenants/acme/orders/7 HTTP/1.1\r\nHost: orders\r\n\r\n";
    let mut cut = call(bare);
    cut.observed.unknown = Some(UnknownReason::HeadTruncated);
    for call in [call(&with_token(claims)), call(bare), cut] {
        let judgement = judge.exchange(call).expect("the call is internal");
        assert!(
            judgement.credentials.iter().all(|credential| credential.custom.is_none()),
            "claims are gone once judged"
        );
        serde_json::to_vec(&judgement).expect("a record");
    }
}

fn call(head: &str) -> Attributed<Exchange> {
    calls::between(("shop/web", "shop/orders"), 0, head, OK)
}

fn with_token(claims: &str) -> String {
    let claims = claims.get(..CLAIMS_BYTES).unwrap_or(claims);
    let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
    let payload = format!(r#"{{"exp":{},{claims}}}"#, calls::NOW + 300);
    let token = format!("{}.{}.c2lnbmF0dXJl", part(r#"{"alg":"RS256"}"#), part(&payload));
    format!("GET /tenants/acme/orders/7 HTTP/1.1\r\nHost: orders\r\nAuthorization: Bearer {token}\r\n\r\n")
}
