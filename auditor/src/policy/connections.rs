//! Connections that one call authenticated for those after it. NTLM authenticates the connection and not the request
//! ([MS-NTHT] section 1.3; RFC 4559 section 6 of what follows from it), and servers do the same with Kerberos: later requests on
//! it carry nothing, and who made them is known to the server alone.

use std::sync::{Mutex, PoisonError};

use auditor_wire::exchange::{Exchange, UnknownReason};

use super::checks::Call;
use crate::{cache::Cache, credentials::CredentialKind, judgement::Outcome};

/// Most connections that are remembered; of more, those that were quiet longest are forgotten.
const CONNECTIONS: usize = 16_384;

/// The sockets on which servers negotiate.
#[derive(Debug)]
pub(super) struct Authenticated {
    sockets: Mutex<Cache<u64, Stage>>,
}

/// How far the negotiation on a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The server asked for one.
    Asked,
    /// The server accepted one.
    Accepted,
}

impl Default for Authenticated {
    fn default() -> Self {
        Self { sockets: Mutex::new(Cache::new(CONNECTIONS)) }
    }
}

impl Authenticated {
    /// Remembers the connection of a call that was asked to negotiate, or whose negotiation was accepted by a server that asked
    /// for it or answers it: to any other server the header means nothing, and sending it once must hide nothing.
    pub(super) fn note(&self, exchange: &Exchange, call: &Call<'_>) {
        let Some(response) = call.response else { return };
        let asks = response.head.values("www-authenticate").any(negotiates);
        let negotiated = call.credentials.iter().any(|credential| {
            credential.kind == CredentialKind::Negotiate && &*credential.carrier == "header:authorization"
        });
        if !asks && !negotiated {
            return;
        }
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        for socket in own_sockets(exchange) {
            let asked = asks || sockets.get(&socket).is_some();
            if negotiated && asked && call.outcome == Outcome::Accepted {
                sockets.insert(socket, Stage::Accepted);
            } else if asks {
                sockets.insert(socket, Stage::Asked);
            }
        }
    }

    /// Why it is not known who made a call that carried nothing: its connection is authenticated.
    pub(super) fn unknown(&self, exchange: &Exchange) -> Option<UnknownReason> {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            own_sockets(exchange).any(|socket| sockets.get(&socket).is_some_and(|stage| *stage == Stage::Accepted));
        known.then_some(UnknownReason::ConnectionAuthenticated)
    }

    pub(super) fn remembered(&self) -> (usize, usize) {
        (self.sockets.lock().unwrap_or_else(PoisonError::into_inner).len(), CONNECTIONS)
    }
}

/// Whether a challenge is for a scheme that authenticates connections.
fn negotiates(challenge: &[u8]) -> bool {
    let scheme = challenge.trim_ascii().split(|byte| matches!(byte, b' ' | b',')).next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"negotiate") || scheme.eq_ignore_ascii_case(b"ntlm")
}

/// The sockets of a connection that are on this node. The kernel gives no number twice.
fn own_sockets(exchange: &Exchange) -> impl Iterator<Item = u64> {
    [exchange.source.socket, exchange.destination.socket].into_iter().flatten().map(|socket| socket.0)
}
