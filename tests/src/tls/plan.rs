//! The connections of the matrix and what is true of each. The same every time.

use std::fmt;

use crate::tls::{
    certificates::ClientCertificate,
    clients::ClientKind,
    servers::{Endpoint, Mode, ServerKind, Version},
};

use ServerKind as S;

/// What a client does about proving who it is; the words are those of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It is not asked.
    None,
    /// It is asked and gives nothing.
    Empty,
    /// It gives a certificate and the handshake goes on.
    Presented,
    /// It resumes a session.
    Resumed,
    /// The server ends the handshake.
    Rejected,
}

impl Outcome {
    /// The word that records carry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Empty => "empty",
            Self::Presented => "presented",
            Self::Resumed => "resumed",
            Self::Rejected => "rejected",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One connection with one request.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Unique in the run.
    pub id: String,
    /// Connections of one group share TLS sessions.
    pub group: String,
    /// Who connects.
    pub client: ClientKind,
    /// To which server.
    pub server: ServerKind,
    /// To which port of it.
    pub endpoint: Endpoint,
    /// What the client has.
    pub certificate: ClientCertificate,
    /// The group has a session of an earlier connection.
    pub resumes: bool,
}

impl Planned {
    /// What is true of the client's certificate.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let looks = self.server.looks(self.endpoint.mode);
        match (self.endpoint.mode, self.certificate) {
            _ if self.resumes => Outcome::Resumed,
            (Mode::Off, _) => Outcome::None,
            // nginx goes on, and answers 400 inside.
            (Mode::Required, ClientCertificate::None) if self.server != S::Nginx => Outcome::Rejected,
            (_, ClientCertificate::None) => Outcome::Empty,
            (_, certificate) if looks && !certificate.is_good() && self.server != S::Nginx => Outcome::Rejected,
            _ => Outcome::Presented,
        }
    }

    /// Whether the server lets the handshake end.
    #[must_use]
    pub fn accepted(&self) -> bool {
        self.outcome() != Outcome::Rejected
    }

    /// The status the client must see, where it gets an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        let (mode, certificate) = (self.endpoint.mode, self.certificate);
        let lacking = mode == Mode::Required && certificate == ClientCertificate::None;
        let bad = mode != Mode::Off && certificate.is_given() && !certificate.is_good();
        let refused_inside = self.server == S::Nginx && (lacking || bad);
        self.accepted().then_some(if refused_inside { 400 } else { 200 })
    }

    /// The common name of the client's certificate as the server knows it.
    #[must_use]
    pub fn subject(&self) -> &'static str {
        if self.endpoint.mode == Mode::Off { ClientCertificate::None.name() } else { self.certificate.name() }
    }

    /// Whether the client gave a certificate and the server let the handshake end, in this connection or in the one in which
    /// its session began.
    #[must_use]
    pub fn was_mutual(&self) -> bool {
        let asked = self.endpoint.mode != Mode::Off;
        asked && self.certificate.is_given() && self.accepted()
    }

    /// The row a client reads, the port filled in.
    #[must_use]
    pub fn row(&self, port: u16) -> String {
        format!("{}\t{}\t{port}\t{}\n", self.id, self.group, self.certificate)
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, client, server, endpoint, certificate, resumes, .. } = self;
        let resumes = if *resumes { ", resumed" } else { "" };
        write!(f, "{id}: {client} -> {server} {endpoint}, certificate {certificate}{resumes}")
    }
}

/// Every connection of these clients and servers: each mode and version with no certificate, a good one, an untrusted and an
/// expired one, and the resumption of a session with and without a certificate. The good ones take turns.
#[must_use]
pub fn matrix(clients: &[ClientKind], servers: &[ServerKind]) -> Vec<Planned> {
    let mut plan = Plan::default();
    for (first, server) in servers.iter().enumerate() {
        for endpoint in Endpoint::ALL {
            for (second, client) in clients.iter().enumerate() {
                let turn = first + second + plan.planned.len();
                let good = ClientCertificate::GOOD[turn % ClientCertificate::GOOD.len()];
                for certificate in certificates(endpoint, good) {
                    let resumable = match endpoint.mode {
                        Mode::Off => certificate == ClientCertificate::None,
                        Mode::Optional => false,
                        Mode::Required => certificate.is_good(),
                    };
                    plan.add(*client, *server, endpoint, certificate, resumable);
                }
            }
        }
    }
    plan.planned
}

/// One client's connections to one server: one with this certificate to each endpoint, and another that resumes its session if
/// asked for.
#[must_use]
pub fn planned(
    client: ClientKind,
    server: ServerKind,
    endpoints: &[Endpoint],
    certificate: ClientCertificate,
    resumes: bool,
) -> Vec<Planned> {
    let mut plan = Plan::default();
    for endpoint in endpoints {
        plan.add(client, server, *endpoint, certificate, resumes);
    }
    plan.planned
}

fn certificates(endpoint: Endpoint, good: ClientCertificate) -> Vec<ClientCertificate> {
    match (endpoint.mode, endpoint.version) {
        // In clear nothing is there to be seen of a certificate that nobody asks for.
        (Mode::Off, Version::Tls12) => vec![ClientCertificate::None],
        (Mode::Off, Version::Tls13) => vec![ClientCertificate::None, good],
        _ => vec![ClientCertificate::None, good, ClientCertificate::Untrusted, ClientCertificate::Expired],
    }
}

#[derive(Default)]
struct Plan {
    planned: Vec<Planned>,
}

impl Plan {
    /// A connection, and one that resumes its session if it may and the two can.
    fn add(
        &mut self,
        client: ClientKind,
        server: ServerKind,
        endpoint: Endpoint,
        certificate: ClientCertificate,
        resumable: bool,
    ) {
        let group = format!("g{}", self.planned.len());
        let twice = resumable && resume(client, server, endpoint.version);
        for resumes in [false, true].into_iter().take(1 + usize::from(twice)) {
            let id = format!("c{}", self.planned.len());
            self.planned.push(Planned { id, group: group.clone(), client, server, endpoint, certificate, resumes });
        }
    }
}

/// Whether these two resume sessions with each other.
fn resume(client: ClientKind, server: ServerKind, version: Version) -> bool {
    match (client, server, version) {
        // JSSE keeps none of Go's tickets.
        (ClientKind::Java, S::Go, Version::Tls12) => false,
        // rustls gives session IDs where Go takes tickets alone.
        (ClientKind::Go, S::Rust, Version::Tls12) => false,
        _ => client.resumes(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_matrix_is_bounded_and_has_every_outcome_of_every_client() {
        let planned = matrix(&ClientKind::ALL, &ServerKind::ALL);
        assert!((500..=650).contains(&planned.len()), "{}", planned.len());
        let mut counts: BTreeMap<(ClientKind, Outcome), usize> = BTreeMap::new();
        for planned in &planned {
            *counts.entry((planned.client, planned.outcome())).or_default() += 1;
        }
        for client in ClientKind::ALL {
            for outcome in [Outcome::None, Outcome::Empty, Outcome::Presented, Outcome::Rejected] {
                assert!(counts.contains_key(&(client, outcome)), "{client}: {outcome}");
            }
            assert_eq!(counts.contains_key(&(client, Outcome::Resumed)), client.resumes(), "{client}");
        }
        for good in ClientCertificate::GOOD {
            assert!(planned.iter().any(|planned| planned.certificate == good), "{good}");
        }
    }
}
