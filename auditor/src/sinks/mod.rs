//! Where judgements go: JSON Lines, a readable stream, metrics, a report. Each is a [`Sink`] and one file or folder here.
//!
//! Everything a sink shows may come from a hostile peer: what can change a terminal, a Markdown page or a label set is
//! escaped and bounded here. Sinks hold no policy: they say what the judge said.

mod buffered;
pub mod deliver;
mod escape;
pub mod jsonl;
mod look;
pub mod metrics;
mod posture;
pub mod report;
pub mod rotate;
pub mod steady;
pub mod stream;

#[cfg(test)]
mod golden;
#[cfg(test)]
pub(crate) mod sample;

use std::io;

use crate::{
    credentials::CredentialKind,
    judgement::{Judgement, Security, Verdict},
};

pub use escape::Escaped;
pub(crate) use escape::shortened;
pub use look::Look;
pub use posture::Posture;

/// Takes judgements.
///
/// Taking one never fails and never blocks for long: a sink that cannot write remembers the error, drops what comes after
/// it, and tells at the next [`Sink::flush`].
pub trait Sink {
    /// Takes one judgement.
    fn judgement(&mut self, judgement: &Judgement);

    /// Hands on what is buffered and lets go of what has expired. The pipeline calls it about once a second and at the end.
    ///
    /// # Errors
    /// The first error since the last call, e.g. a closed pipe or a full disk.
    fn flush(&mut self) -> io::Result<()>;
}

/// The word for the proof of identity that came with a call, as metrics, stream and report carry it: the strongest
/// credential, `mtls`, `none`, or `unknown` when it was not seen whether there was one.
#[must_use]
pub fn credential_word(judgement: &Judgement) -> &'static str {
    let strongest = judgement.credentials.iter().map(|credential| credential.kind).min_by_key(|kind| rank(*kind));
    match strongest {
        Some(kind) => kind.as_str(),
        None if judgement.transport.security == Security::Mtls => "mtls",
        None if judgement.verdict == Verdict::Unknown => "unknown",
        None => "none",
    }
}

/// Namespace and name of a workload: `shop/cart` is workload `cart` in namespace `shop`; a name without a namespace has an empty
/// one. `node:cart/server.js` is a script and its folder: a namespace's name has no colon (RFC 1123 label).
fn workload_parts(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((namespace, workload)) if !namespace.is_empty() && !workload.is_empty() && !namespace.contains(':') => {
            (namespace, workload)
        }
        _ => ("", name),
    }
}

/// Lower is stronger: first what proves possession of a key, then short-lived tokens, then shared secrets.
fn rank(kind: CredentialKind) -> u8 {
    match kind {
        CredentialKind::Mtls => 0,
        CredentialKind::Dpop => 1,
        CredentialKind::HttpSignature => 2,
        CredentialKind::AwsSigv4 => 3,
        CredentialKind::Negotiate => 4,
        CredentialKind::BearerJwt => 5,
        CredentialKind::InternalJwt => 6,
        CredentialKind::BearerOpaque => 7,
        CredentialKind::Digest => 8,
        CredentialKind::ApiKey => 9,
        CredentialKind::Basic => 10,
        CredentialKind::SessionCookie => 11,
        CredentialKind::Other => 12,
        // A proof only from a proxy that is trusted.
        CredentialKind::ForwardedClientCert => 13,
    }
}

#[cfg(test)]
mod tests {
    use super::{credential_word, rank, sample};
    use crate::{
        credentials::CredentialKind,
        judgement::{Security, Verdict},
    };

    const KINDS: [CredentialKind; 14] = [
        CredentialKind::ApiKey,
        CredentialKind::AwsSigv4,
        CredentialKind::Basic,
        CredentialKind::BearerJwt,
        CredentialKind::BearerOpaque,
        CredentialKind::Digest,
        CredentialKind::Dpop,
        CredentialKind::ForwardedClientCert,
        CredentialKind::HttpSignature,
        CredentialKind::InternalJwt,
        CredentialKind::Mtls,
        CredentialKind::Negotiate,
        CredentialKind::Other,
        CredentialKind::SessionCookie,
    ];

    #[test]
    fn words_are_the_ones_of_the_records_and_ranks_differ() {
        let mut ranks = Vec::new();
        for kind in KINDS {
            let record = serde_json::to_value(kind).unwrap();
            assert_eq!(record, kind.as_str());
            ranks.push(rank(kind));
        }
        ranks.sort_unstable();
        ranks.dedup();
        assert_eq!(ranks.len(), KINDS.len(), "every kind has its own rank");
    }

    #[test]
    fn no_credential_is_none_only_when_the_head_was_seen() {
        let mut judgement = sample::unauthenticated();
        assert_eq!(credential_word(&judgement), "none");
        judgement.verdict = Verdict::Unknown;
        assert_eq!(credential_word(&judgement), "unknown");
        judgement.transport.security = Security::Mtls;
        assert_eq!(credential_word(&judgement), "mtls");
    }

    #[test]
    fn of_several_credentials_the_strongest_names_the_call() {
        let mut judgement = sample::authenticated();
        let weaker = sample::credential(CredentialKind::SessionCookie, "cookie:sid");
        judgement.credentials.insert(0, weaker);
        assert_eq!(credential_word(&judgement), "bearer-jwt");
    }
}
