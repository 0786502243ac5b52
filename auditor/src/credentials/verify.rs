//! Whether tokens were signed by the issuers they name. Keys come from files and URLs that are configured; a thread of its own
//! reads them anew, so that the hot path waits for nobody. What was found out about a token is remembered.
//!
//! `bad` is said only where it is certain: the issuer has a key of the name the token gives, and that key did not make the
//! signature; or the algorithm is one that the issuer does not sign with. Whatever else goes wrong is `not-verified`.

use std::{
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use super::{
    Claims, Signature, SignatureReason as Reason,
    jwt::{self},
    keys::{Algorithm, KEY_ID_BYTES, KeySet, version},
    source::{FILE_PACE, Pace, URL_PACE},
};
use crate::cache::Cache;

pub use super::source::{KeySource, read_file};

/// Tokens whose signatures are remembered.
const REMEMBERED: usize = 16_384;
/// Most keys that are tried where a token does not say which.
const TRIED: usize = 16;
/// Longest signature that is decoded, characters: RSA of 8192 bits takes 1366.
const SIGNATURE_CHARACTERS: usize = 2048;
/// Longest name of an issuer, bytes: claims that are longer are cut.
pub const ISSUER_BYTES: usize = 120;

/// An issuer of tokens whose keys are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerSettings {
    /// The claim `iss` of its tokens, at most [`ISSUER_BYTES`].
    pub issuer: Box<str>,
    /// Where its keys are.
    pub source: KeySource,
    /// What it signs with; `None`: what its keys are made for.
    pub algorithms: Option<Vec<Algorithm>>,
}

/// What came of reading an issuer's keys so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reads {
    /// The issuer.
    pub issuer: Box<str>,
    /// How often they were read.
    pub read: u64,
    /// How often they could not be.
    pub failed: u64,
}

/// Checks signatures of tokens. Dropped, its thread ends by itself.
pub struct Verifier {
    shared: Arc<Shared>,
    remembered: Mutex<Cache<[u8; 32], Known>>,
    thread: Option<Thread>,
}

/// What was found out about a token.
#[derive(Clone, Copy)]
struct Known {
    /// With which state of the issuer's keys.
    generation: u64,
    signature: Signature,
}

struct Shared {
    issuers: Vec<Issuer>,
    stop: AtomicBool,
    /// How many issuers' keys were asked for at least once.
    asked: Mutex<usize>,
    all_asked: Condvar,
}

struct Issuer {
    settings: IssuerSettings,
    pace: Pace,
    state: Mutex<State>,
    wanted: AtomicBool,
    read: AtomicU64,
    failed: AtomicU64,
}

/// What is known of an issuer's keys.
#[derive(Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// Raised whenever `keys` change.
    generation: u64,
    /// The last try failed.
    failing: bool,
    tried: Option<Instant>,
    version: Option<[u8; 32]>,
}

impl Verifier {
    /// Begins reading the keys of these issuers; files are read before this returns.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(issuers: Vec<IssuerSettings>) -> std::io::Result<Self> {
        let mut verifier = Self::without_thread(issuers);
        verifier.shared.step(Instant::now(), |source| !source.is_slow());
        let shared = Arc::clone(&verifier.shared);
        let thread = thread::Builder::new().name("issuer-keys".to_owned()).spawn(move || shared.work())?;
        verifier.thread = Some(thread.thread().clone());
        Ok(verifier)
    }

    fn without_thread(issuers: Vec<IssuerSettings>) -> Self {
        let issuers = issuers.into_iter().map(Issuer::new).collect();
        let shared =
            Arc::new(Shared { issuers, stop: AtomicBool::new(false), asked: Mutex::new(0), all_asked: Condvar::new() });
        Self { shared, remembered: Mutex::new(Cache::new(REMEMBERED)), thread: None }
    }

    /// Waits until all keys were asked for once, whatever came of it, at most for `limit`: what is read from a file would be
    /// judged before they are there.
    pub fn wait(&self, limit: Duration) {
        let all = self.shared.issuers.len();
        let asked = locked(&self.shared.asked);
        drop(self.shared.all_asked.wait_timeout_while(asked, limit, |asked| *asked < all));
    }

    /// Whether the signature of a token holds. `token` is the whole of it, `claims` what was read of it, and `identity` a hash
    /// that stands for its bytes.
    pub(super) fn check(&self, token: &[u8], identity: &[u8; 32], claims: &Claims) -> Signature {
        if claims.enc.is_some() {
            return Signature::not_verified(Reason::Encrypted);
        }
        let Some(alg) = claims.alg.as_deref() else { return Signature::not_verified(Reason::UnsupportedAlgorithm) };
        if alg.eq_ignore_ascii_case("none") {
            return Signature::bad(Reason::Unsigned);
        }
        if claims.cty.as_deref().is_some_and(|cty| cty.eq_ignore_ascii_case("JWT")) {
            return Signature::not_verified(Reason::Nested);
        }
        let named = |issuer: &&Issuer| claims.iss.as_deref() == Some(&*issuer.settings.issuer);
        let Some(issuer) = self.shared.issuers.iter().find(named) else {
            return Signature::not_verified(Reason::NoKeys);
        };
        let (keys, generation, failing) = {
            let state = locked(&issuer.state);
            (state.keys.clone(), state.generation, state.failing)
        };
        let Some(keys) = keys else {
            let reason = if failing { Reason::FetchFailed } else { Reason::KeysPending };
            return Signature::not_verified(reason);
        };
        let known = locked(&self.remembered).get(identity).copied();
        let signature = match known.filter(|known| known.generation == generation) {
            Some(known) => known.signature,
            None => {
                let signature = checked(token, claims, alg, &keys, issuer.settings.algorithms.as_deref());
                locked(&self.remembered).insert(*identity, Known { generation, signature });
                signature
            }
        };
        // The keys may have been changed meanwhile.
        if let Some(Reason::UnknownKey | Reason::DoesNotFit) = signature.reason {
            self.want(issuer);
        }
        match signature.reason {
            Some(Reason::UnknownKey) if failing => Signature::not_verified(Reason::FetchFailed),
            _ => signature,
        }
    }

    /// Has the keys read anew, as soon as the pace allows it.
    fn want(&self, issuer: &Issuer) {
        if !issuer.wanted.swap(true, Ordering::Relaxed)
            && let Some(thread) = &self.thread
        {
            thread.unpark();
        }
    }

    /// Tokens that are remembered, and how many at most.
    #[must_use]
    pub fn remembered(&self) -> (usize, usize) {
        (locked(&self.remembered).len(), REMEMBERED)
    }

    /// What came of reading keys.
    #[must_use]
    pub fn reads(&self) -> Vec<Reads> {
        let reads = |issuer: &Issuer| Reads {
            issuer: issuer.settings.issuer.clone(),
            read: issuer.read.load(Ordering::Relaxed),
            failed: issuer.failed.load(Ordering::Relaxed),
        };
        self.shared.issuers.iter().map(reads).collect()
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.shared.issuers.iter().map(|issuer| &issuer.settings)).finish()
    }
}

/// Whether one of an issuer's keys made the signature of a token.
fn checked(token: &[u8], claims: &Claims, alg: &str, keys: &KeySet, allowed: Option<&[Algorithm]>) -> Signature {
    let algorithm = match alg.parse::<Algorithm>() {
        Ok(algorithm) if allowed.is_none_or(|allowed| allowed.contains(&algorithm)) => algorithm,
        Err(()) if allowed.is_none() => return Signature::not_verified(Reason::UnsupportedAlgorithm),
        _ => return Signature::bad(Reason::AlgorithmNotAllowed),
    };
    // An HMAC made with a public key as its secret: who takes it takes anything (RFC 8725 section 2.1).
    if algorithm.is_symmetric() && !keys.signs(algorithm) {
        return Signature::bad(Reason::AlgorithmNotAllowed);
    }
    let Some(dot) = token.iter().rposition(|byte| *byte == b'.') else {
        return Signature::not_verified(Reason::UnknownKey);
    };
    let (message, signature) = (&token[..dot], jwt::decode(&token[dot + 1..], SIGNATURE_CHARACTERS));
    // What is no base64url cannot be a signature.
    let made = |key: &super::keys::Key| {
        key.fits(algorithm) && signature.as_deref().is_some_and(|signature| key.made(algorithm, message, signature))
    };
    let verified = |found: bool| if found { Some(Signature::VERIFIED) } else { None };
    let unknown = Signature::not_verified(Reason::UnknownKey);
    let Some(kid) = claims.kid.as_deref().filter(|kid| kid.len() <= KEY_ID_BYTES) else {
        // No failure of a key that was not named says anything: the right one may be missing.
        return verified(keys.unnamed(true).take(TRIED).any(made)).unwrap_or(unknown);
    };
    let mut named = keys.named(kid).take(TRIED).peekable();
    if named.peek().is_none() {
        return verified(keys.unnamed(false).take(TRIED).any(made)).unwrap_or(unknown);
    }
    let fits = keys.named(kid).any(|key| key.fits(algorithm));
    match named.any(made) {
        true => Signature::VERIFIED,
        false if fits => Signature::bad(Reason::DoesNotFit),
        false => Signature::bad(Reason::AlgorithmNotAllowed),
    }
}

impl Shared {
    /// The thread: reads keys when they are due, until it is told to stop.
    fn work(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.step(Instant::now(), |_| true);
            let now = Instant::now();
            let next = self.issuers.iter().map(|issuer| issuer.due_in(now)).min().unwrap_or(Duration::from_secs(60));
            if !next.is_zero() {
                thread::park_timeout(next);
            }
        }
    }

    /// Reads the keys that are due of the sources that are asked for.
    fn step(&self, now: Instant, asked_for: impl Fn(&KeySource) -> bool) {
        for issuer in self.issuers.iter().filter(|issuer| asked_for(&issuer.settings.source)) {
            if issuer.due_in(now).is_zero() && !self.stop.load(Ordering::Relaxed) && issuer.refresh(now) {
                *locked(&self.asked) += 1;
                self.all_asked.notify_all();
            }
        }
    }
}

impl Issuer {
    fn new(settings: IssuerSettings) -> Self {
        let pace = if settings.source.is_slow() { URL_PACE } else { FILE_PACE };
        Self {
            settings,
            pace,
            state: Mutex::default(),
            wanted: AtomicBool::new(false),
            read: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// How long until the keys are to be read.
    fn due_in(&self, now: Instant) -> Duration {
        let state = locked(&self.state);
        let Some(tried) = state.tried else { return Duration::ZERO };
        let early = state.failing || self.wanted.load(Ordering::Relaxed);
        let interval = if early { self.pace.least } else { self.pace.usual };
        interval.saturating_sub(now.saturating_duration_since(tried))
    }

    /// Reads the keys; those that are there stay where that fails. True for the first time.
    fn refresh(&self, now: Instant) -> bool {
        // Asked for while they are being read, they are read once more.
        self.wanted.store(false, Ordering::Relaxed);
        let got = self.settings.source.get();
        let mut state = locked(&self.state);
        let first = state.tried.replace(now).is_none();
        let issuer = &*self.settings.issuer;
        match got.and_then(|text| {
            let version = version(&text);
            if state.version == Some(version) {
                return Ok(None);
            }
            let keys = KeySet::read(&text, self.settings.source.origin()).map_err(str::to_owned)?;
            Ok(Some((keys, version)))
        }) {
            Ok(changed) => {
                if let Some((keys, version)) = changed {
                    tracing::info!(issuer, keys = keys.len(), "read the keys of a token issuer");
                    state.keys = Some(Arc::new(keys));
                    state.version = Some(version);
                    state.generation += 1;
                }
                state.failing = false;
                self.read.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                if !state.failing {
                    let keys = &self.settings.source;
                    tracing::warn!(issuer, %keys, error, "the keys of a token issuer cannot be had; what they would tell is not verified");
                }
                state.failing = true;
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        first
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every statement leaves what is locked valid: a panic elsewhere is no reason to stop.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
