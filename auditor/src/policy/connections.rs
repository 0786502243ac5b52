//! Connections that one call authenticated for those after it. NTLM authenticates the connection and not the request
//! ([MS-NTHT] section 1.3; RFC 4559 section 6 of what follows from it), and servers do the same with Kerberos: later requests on
//! it carry nothing, and who made them is known to the server alone.

use std::sync::{Mutex, PoisonError};

use auditor_wire::exchange::{Exchange, UnknownReason};

use super::checks::Call;
use crate::{cache::Cache, credentials::CredentialKind, judgement::Outcome};

/// Most connections that are remembered; of more, those that were quiet longest are forgotten.
const CONNECTIONS: usize = 16_384;

/// The sockets on which a negotiation was accepted.
#[derive(Debug)]
pub(super) struct Authenticated {
    sockets: Mutex<Cache<u64, ()>>,
}

impl Default for Authenticated {
    fn default() -> Self {
        Self { sockets: Mutex::new(Cache::new(CONNECTIONS)) }
    }
}

impl Authenticated {
    /// Remembers the connection of a call whose negotiation was accepted.
    pub(super) fn note(&self, exchange: &Exchange, call: &Call<'_>) {
        let negotiated = call.credentials.iter().any(|credential| {
            credential.kind == CredentialKind::Negotiate && &*credential.carrier == "header:authorization"
        });
        if negotiated && call.outcome == Outcome::Accepted {
            let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
            own_sockets(exchange).for_each(|socket| *sockets.insert(socket, ()) = ());
        }
    }

    /// Why it is not known who made a call that carried nothing: its connection is authenticated.
    pub(super) fn unknown(&self, exchange: &Exchange) -> Option<UnknownReason> {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let known = own_sockets(exchange).any(|socket| sockets.get(&socket).is_some());
        known.then_some(UnknownReason::ConnectionAuthenticated)
    }

    pub(super) fn remembered(&self) -> (usize, usize) {
        (self.sockets.lock().unwrap_or_else(PoisonError::into_inner).len(), CONNECTIONS)
    }
}

/// The sockets of a connection that are on this node. The kernel gives no number twice.
fn own_sockets(exchange: &Exchange) -> impl Iterator<Item = u64> {
    [exchange.source.socket, exchange.destination.socket].into_iter().flatten().map(|socket| socket.0)
}
