//! What only several calls together show: one credential of several workloads, one credential for several services, a
//! credential that was lost on the way, and callers without proof of identity that were not there before.
//!
//! State is keyed by fingerprints and keyed hashes of names, bounded, and expires by the time of the traffic, so that a replay
//! says the same again. A call is reported when it is answered: of a chain of calls the innermost comes first. What is said
//! here does not depend on that order, at the price of a few seconds where a workload may be passing on what it was sent:
//!
//! - A workload that was sent a credential and sends it on is no user of a secret of its own: it does not make the credential
//!   `shared-credential`. A workload that is called at all counts as a user of a credential only [`SETTLED`] after it first
//!   sent it: by then the call that brought it would have been seen.
//! - A workload that sends a call on as it came (same credential, method and last segment of the path) is a gateway. It is
//!   neither one of the users of credentials nor one of the services they were sent to.
//! - Unknown workloads never count, and a workload is its name: instances of one are one.

mod credentials;
mod edges;
mod hops;
mod state;
mod workloads;

use std::{sync::Arc, time::Duration};

use auditor_wire::exchange::Request;

use self::{
    credentials::{Credentials, Peer},
    edges::Edges,
    hops::Hops,
    workloads::Workloads,
};
use super::{
    checks,
    rules::{CREDENTIAL_REPLAYED, CREDENTIAL_STRIPPED, NEW_UNAUTHENTICATED_EDGE, SHARED_CREDENTIAL, severity},
};
use crate::{
    credentials::{Credential, CredentialKind, Profile},
    hash::Keyed,
    judgement::{Finding, Outcome, Verdict},
};

pub use self::state::{CredentialState, EdgeState, PeerState, SECTION, SECTION_VERSION, State, WorkloadState};
pub(super) use self::workloads::WorkloadId;

/// How long a workload that may be passing on what it was sent is given until it counts as a user of a credential of its own;
/// whole seconds, of which the first may be part of one.
const SETTLED: u32 = 3;
/// A call that is sent on is sent on within this, seconds.
const HOP: u32 = 30;
/// Workloads and edges that were not seen for so long are forgotten, seconds: what runs once a month is known.
const REMEMBERED: u32 = 35 * 24 * 3600;
/// Entries of each table that are looked at for expiry in a second of traffic.
const SWEPT: usize = 1024;

/// What can be set of the rules across calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Uses of a credential that are further apart do not belong together.
    pub window: Duration,
    /// How long edges without authentication are learned before a new one is a finding.
    pub learning_window: Duration,
    /// Credentials that are remembered.
    pub credentials: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { window: day, learning_window: day, credentials: 65_536 }
    }
}

/// One table of the judge: what it holds, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Of what.
    pub kind: &'static str,
    /// How many now.
    pub count: usize,
    /// How many at most.
    pub limit: usize,
    /// How many were forgotten for others since the start.
    pub evicted: u64,
}

/// How far an unauthenticated call that was served goes: an edge that only read and now changes state is a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// It reads.
    Reads,
    /// It changes state, or the route is an administrative one.
    Changes,
}

/// One call as the rules look at it.
pub(super) struct Seen<'a> {
    pub(super) source: Option<&'a Arc<str>>,
    pub(super) destination: Option<&'a Arc<str>>,
    pub(super) request: Option<&'a Request>,
    /// Those in the request.
    pub(super) credentials: &'a [Credential],
    pub(super) verdict: Verdict,
    pub(super) outcome: Outcome,
    /// Set when it was served without proof of identity.
    pub(super) served: Option<Reach>,
    /// When it was answered, seconds since the Unix epoch.
    pub(super) now: u32,
}

/// What a call shows together with those before it.
pub(super) struct Across {
    pub(super) findings: Vec<Finding>,
    /// How many of the findings, the first, speak against the credentials of the call.
    pub(super) against: usize,
    /// The number of the workload that was called.
    pub(super) destination: Option<WorkloadId>,
}

/// Both ends of a call by their numbers.
#[derive(Clone, Copy)]
struct Ends {
    source: Option<WorkloadId>,
    destination: Option<WorkloadId>,
}

/// What calls together show. Its clock is that of the traffic.
#[derive(Debug)]
pub(super) struct CrossCall {
    keys: Keyed,
    workloads: Workloads,
    credentials: Credentials,
    hops: Hops,
    edges: Edges,
    window: u32,
    /// The latest time seen, seconds since the Unix epoch.
    now: u32,
}

impl CrossCall {
    pub(super) fn new(settings: Settings) -> Self {
        let seconds = |span: Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
        let window = seconds(settings.window);
        Self {
            keys: Keyed::new(),
            workloads: Workloads::new(),
            credentials: Credentials::new(settings.credentials, window),
            hops: Hops::new(),
            edges: Edges::new(seconds(settings.learning_window)),
            window,
            now: 0,
        }
    }

    /// Tables and how full they are.
    pub(super) fn held(&self) -> [Held; 4] {
        [self.credentials.held(), self.workloads.held(), self.hops.held(), self.edges.held()]
    }

    /// A workload was called, in whatever way. Its number.
    pub(super) fn called(&mut self, destination: Option<&Arc<str>>, now: u32) -> Option<WorkloadId> {
        self.advance(now);
        Some(self.workloads.called(destination?, self.now))
    }

    /// Takes a call in, and says what it shows together with those before it.
    pub(super) fn exchange(&mut self, seen: &Seen<'_>) -> Across {
        let mut findings = Vec::new();
        let destination = self.called(seen.destination, seen.now);
        let source = seen.source.map(|name| self.workloads.note(name, self.now));
        let ends = Ends { source, destination };
        let Some(request) = seen.request else { return Across { findings, against: 0, destination } };
        if !seen.credentials.is_empty() {
            self.credentials_of(seen, request, ends, &mut findings);
        }
        let against = findings.len();
        findings.extend(self.stripped(seen, request, ends));
        if let (Some(reach), Some(source), Some(destination)) = (seen.served, ends.source, ends.destination)
            && self.edges.is_new((source, destination, reach), self.now)
        {
            findings.push(new_edge(reach));
        }
        Across { findings, against, destination }
    }

    fn advance(&mut self, now: u32) {
        // 0 is never.
        let now = now.max(1);
        if now <= self.now {
            return;
        }
        self.now = now;
        self.credentials.sweep(now, SWEPT);
        self.workloads.sweep(now, SWEPT);
        self.hops.sweep(now, SWEPT);
        self.edges.advance(now, SWEPT);
    }

    /// At most one finding of each rule.
    fn credentials_of(&mut self, seen: &Seen<'_>, request: &Request, ends: Ends, findings: &mut Vec<Finding>) {
        // Who is refused did not show that the credential is one.
        let teaches = matches!(seen.outcome, Outcome::Accepted | Outcome::Failed);
        let call = self.hash((&*request.method, last_segment(&request.path)));
        let (mut shared, mut replayed) = (None, None);
        for credential in seen.credentials.iter().filter(|credential| checks::is_reusable(credential)) {
            let Some(key) = fingerprint(&credential.fingerprint) else { continue };
            let known = match teaches {
                true => self.credentials.used(key, ends, call, self.now, &mut self.workloads),
                false => self.credentials.known(key),
            };
            let Some(known) = known.filter(|known| known.len() > 1) else { continue };
            let (workloads, now, window) = (&self.workloads, self.now, self.window);
            if shared.is_none() && is_of_a_workload(credential) {
                let users = several(known, |peer| peer.is_user(workloads, now, window));
                shared = users.map(|users| finding(SHARED_CREDENTIAL, credential, "used by", &users, workloads));
            }
            if replayed.is_none() {
                let services = several(known, |peer| peer.is_service(workloads, ends.destination, now, window));
                replayed = services.map(|found| finding(CREDENTIAL_REPLAYED, credential, "sent to", &found, workloads));
            }
        }
        findings.extend(shared);
        findings.extend(replayed);
    }

    /// Whether the call was sent on by the one that got it, without the credential that it came with.
    fn stripped(&mut self, seen: &Seen<'_>, request: &Request, ends: Ends) -> Option<Finding> {
        if !matches!(seen.outcome, Outcome::Accepted | Outcome::Failed) {
            return None;
        }
        // To a proxy alone, and not to be sent on (RFC 9110 section 11.7.1); a proxy's word about who called it neither.
        let travels = |credential: &&Credential| {
            checks::counts(credential, request, false) && &*credential.carrier != "header:proxy-authorization"
        };
        let carried = seen.credentials.iter().find(travels);
        let (hop, other, proxy) = match carried {
            Some(_) => (hops::Side::In, ends.source, ends.destination?),
            None if seen.verdict == Verdict::Unauthenticated => (hops::Side::Out, ends.destination, ends.source?),
            None => return None,
        };
        let mut met = None;
        let mut call = None;
        for id in hops::ids(&request.head) {
            let call = *call.get_or_insert_with(|| self.hash((&*request.method, &*request.path)));
            let key = self.keys.hash_one((proxy, id, call));
            met = met.or(self.hops.pass(key, hop, other, self.now));
        }
        let met = met?;
        let other = met.and_then(|id| Some(&self.workloads.peek(id)?.name));
        let detail = match (carried, other) {
            (Some(credential), Some(other)) => {
                format!("{} in {} was not passed on to {other}", checks::word(credential), credential.carrier)
            }
            (Some(credential), None) => {
                format!("{} in {} was not passed on", checks::word(credential), credential.carrier)
            }
            (None, Some(other)) => format!("came with a credential from {other} and was passed on without"),
            (None, None) => "came with a credential and was passed on without".to_owned(),
        };
        let detail = detail.into_boxed_str();
        Some(Finding { rule: CREDENTIAL_STRIPPED, severity: severity(CREDENTIAL_STRIPPED), detail })
    }

    fn hash(&self, (method, path): (&str, &str)) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "32 bits are enough to tell calls of a few seconds apart")]
        let hash = self.keys.hash_one((method, path)) as u32;
        hash
    }
}

/// What gateways leave of a path: they put prefixes before it and take them away (`/api/orders` is `/orders` to the service).
fn last_segment(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.bytes().rposition(|byte| byte == b'/').map_or(path, |slash| &path[slash + 1..])
}

/// The workloads of which something holds, when they are more than one.
fn several(peers: &[Peer], holds: impl Fn(&Peer) -> bool) -> Option<Vec<WorkloadId>> {
    let found = || peers.iter().filter(|peer| holds(peer));
    found().nth(1).is_some().then(|| found().map(|peer| peer.workload).collect())
}

/// `key in header:x-api-key used by 3 workloads: a, b, c`; of more than four the first by name.
fn finding(
    rule: &'static str,
    credential: &Credential,
    what: &str,
    ids: &[WorkloadId],
    workloads: &Workloads,
) -> Finding {
    const SHOWN: usize = 4;
    let mut names: Vec<&str> = ids.iter().filter_map(|id| Some(&*workloads.peek(*id)?.name)).collect();
    names.sort_unstable();
    names.truncate(SHOWN);
    let more = if ids.len() == credentials::PEERS { " or more" } else { "" };
    let rest = if ids.len() > SHOWN { ", ..." } else { "" };
    let (word, carrier, count, names) = (checks::word(credential), &credential.carrier, ids.len(), names.join(", "));
    let detail = format!("{word} in {carrier} {what} {count}{more} workloads: {names}{rest}").into_boxed_str();
    Finding { rule, severity: severity(rule), detail }
}

fn new_edge(reach: Reach) -> Finding {
    let detail = match reach {
        Reach::Reads => "not seen before: served without proof of identity",
        Reach::Changes => "not seen before: changes state or administers, without proof of identity",
    };
    let rule = NEW_UNAUTHENTICATED_EDGE;
    Finding { rule, severity: severity(rule), detail: detail.into() }
}

/// A fingerprint as a number; `None` for one that is empty: there was nothing to hash.
fn fingerprint(text: &str) -> Option<u64> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits: &[u8; 16] = text.as_bytes().try_into().ok()?;
    digits.iter().try_fold(0, |number, byte| Some(number << 4 | u64::from(digit(*byte)?)))
}

/// Whether a credential stands for a workload, so that two workloads must not have it. Sessions and tokens stand for whoever
/// signed in, and services rightly pass them on; a token counts where its subject is a workload: of Kubernetes, of SPIFFE, or
/// of the client credentials grant, where the subject is the client itself (RFC 9068 section 2.2).
fn is_of_a_workload(credential: &Credential) -> bool {
    match credential.kind {
        CredentialKind::ApiKey | CredentialKind::Basic | CredentialKind::BearerOpaque => true,
        CredentialKind::BearerJwt | CredentialKind::InternalJwt => credential.claims.as_deref().is_some_and(|claims| {
            matches!(claims.profile, Some(Profile::KubernetesServiceAccount | Profile::SpiffeJwtSvid))
                || (claims.sub.is_some() && claims.sub == claims.client_id)
        }),
        _ => false,
    }
}
