//! Certificates as peers sent them: of whom they speak, how long they hold, whether they lead to an issuer that is trusted.
//!
//! They come from strangers: they are bounded in number and size, and what cannot be read is `None` and never an error. Nothing
//! is decided here, that is `policy`'s work. ASN.1 is read by x509-parser, chains are checked by rustls-webpki.

mod cache;
mod outgoing;
mod read;
mod spiffe;
mod trust;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use self::{cache::Cache, trust::Anchors};

pub(crate) use self::outgoing::client_tls;
pub use self::{
    outgoing::NoIssuers,
    spiffe::{SpiffeId, is_trust_domain},
    trust::{Bundle, Purpose, Trust},
};

/// Largest certificate that is read, bytes.
const CERTIFICATE_BYTES: usize = 32 << 10;
/// Most issuers' certificates of a chain that are looked at.
const ISSUERS: usize = 8;
/// Most chains that are remembered.
const REMEMBERED: usize = 1024;
/// For how long what was said of a chain holds, seconds: an issuer's certificate may expire meanwhile.
const HOLDS: i64 = 3600;

/// What a certificate says. It holds names and no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Of whom it speaks, such as `CN=cart, O=shop`; `None` where that is empty.
    pub subject: Option<Box<str>>,
    /// Who issued it; `None` where that is empty.
    pub issuer: Option<Box<str>>,
    /// DNS names (RFC 5280 section 4.2.1.6).
    pub dns_names: Vec<Box<str>>,
    /// URIs.
    pub uris: Vec<Box<str>>,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
    /// The workload's identity (X509-SVID section 2).
    pub spiffe_id: Option<SpiffeId>,
    /// Kind of its key: `rsa`, `ecdsa`, `ed25519`, `ed448`, `dsa`, `other`.
    pub key_kind: &'static str,
    /// Size of its key, bits; `None` where that is not known.
    pub key_bits: Option<u32>,
    /// First moment at which it holds, seconds since the Unix epoch.
    pub not_before: i64,
    /// Last moment at which it holds, seconds since the Unix epoch.
    pub not_after: i64,
    /// Its own key signed it; `None` where it says so and the signature cannot be checked.
    pub self_signed: Option<bool>,
}

/// A certificate, and what its chain shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The certificate of the peer itself.
    pub leaf: Certificate,
    /// Whether it leads to an issuer that is trusted.
    pub trust: Trust,
}

/// Reads chains, and remembers them: a storm of handshakes with one certificate costs one reading.
#[derive(Debug)]
pub struct Reader {
    anchors: Anchors,
    cache: Mutex<Cache>,
}

impl Reader {
    /// A reader that trusts the certificates of these bundles; without any nothing is said of trust.
    #[must_use]
    pub fn new(bundles: &[Bundle]) -> Self {
        Self { anchors: Anchors::new(bundles), cache: Mutex::new(Cache::new(REMEMBERED)) }
    }

    /// What a chain says, leaf first, at `now`, seconds since the Unix epoch. `whole`: no certificate of it is missing at its
    /// end; of one that was cut nothing is said but good. `None` where there is none, or none that can be read.
    #[must_use]
    pub fn read(&self, chain: &[Box<[u8]>], whole: bool, purpose: Purpose, now: i64) -> Option<Arc<Chain>> {
        let (leaf, issuers) = chain.split_first()?;
        let issuers = &issuers[..issuers.len().min(ISSUERS)];
        if chain.iter().take(ISSUERS + 1).any(|certificate| certificate.len() > CERTIFICATE_BYTES) {
            return None;
        }
        let whole = whole && issuers.len() + 1 == chain.len();
        // The whole chain makes the key: the same leaf with other issuers is another chain.
        let key = cache::key(leaf, issuers, whole, purpose);
        if let Some(known) = self.cache().get(&key, now) {
            return known;
        }
        let read = read::certificate(leaf).map(|leaf_facts| {
            let trust = self.anchors.check(leaf, issuers, whole, purpose, &leaf_facts, now);
            Arc::new(Chain { leaf: leaf_facts, trust })
        });
        self.cache().insert(key, read.clone(), now);
        read
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        // Every statement leaves the cache valid: a panic elsewhere is no reason to stop.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
