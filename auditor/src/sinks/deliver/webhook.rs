//! Webhook: batches of events as JSON, signed with HMAC-SHA256 where a secret is given.

use std::fmt;

use ring::hmac;
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    Client, Post, Refusal,
    payload::{EventJson, json},
};
use crate::evidence::Event;

/// Version of the body; raised when it changes in a way that receivers cannot read.
const VERSION: u32 = 1;
const SIGNATURE: &str = "x-auditor-signature";

/// A header that goes with every batch. Its value may be a secret.
type Header = (String, Zeroizing<String>);

/// Sends batches to one URL.
pub struct Webhook {
    client: Client,
    headers: Vec<Header>,
    key: Option<hmac::Key>,
    /// Where the findings were seen: the host's name.
    node: String,
    /// Tells batches of this run from those of others.
    run: u64,
}

#[derive(Serialize)]
struct Body<'a> {
    version: u32,
    id: &'a str,
    node: &'a str,
    events: Vec<EventJson<'a>>,
}

impl Webhook {
    /// Sends through `client` with these headers; signs with `secret`.
    #[must_use]
    pub fn new(client: Client, headers: Vec<Header>, secret: Option<&[u8]>, node: String) -> Self {
        let key = secret.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret));
        Self { client, headers, key, node, run: getrandom::u64().unwrap_or_default() }
    }
}

impl Post for Webhook {
    fn post(&mut self, events: &[Event], batch: u64) -> Result<(), Refusal> {
        let id = format!("{:016x}-{batch}", self.run);
        let events = events.iter().map(EventJson::of).collect();
        let body = json(&Body { version: VERSION, id: &id, node: &self.node, events });
        let signature = self.key.as_ref().map(|key| signature(key, jiff::Timestamp::now().as_second(), &body));
        let mut headers = vec![("content-type", "application/json"), ("x-auditor-batch", &id)];
        headers.extend(signature.as_deref().map(|signature| (SIGNATURE, signature)));
        headers.extend(self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        self.client.post(&body, &headers)
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Webhook").field("client", &self.client).field("headers", &names).finish_non_exhaustive()
    }
}

/// `t=1795310625,v1=<hex>`: HMAC-SHA256 over the time in seconds, a point, and the body. The time inside lets the receiver refuse what
/// is played back later.
fn signature(key: &hmac::Key, seconds: i64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{seconds}.").as_bytes());
    context.update(body);
    let tag = context.sign();
    let mut text = format!("t={seconds},v1=");
    for byte in tag.as_ref() {
        use fmt::Write as _;
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_hmac_sha256_over_time_and_body() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        // printf '1795310625.{"version":1}' | openssl dgst -sha256 -hmac key
        let expected = "t=1795310625,v1=68deeaf927e3d430da928e02517295a4d94d01a58917472d0ebb5a3277b231ec";
        assert_eq!(signature(&key, 1_795_310_625, br#"{"version":1}"#), expected);
    }
}
