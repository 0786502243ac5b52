//! All TLS servers and clients of a run, and whether what they say agrees with the plan.

use std::{collections::HashMap, path::Path, thread};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::tls::{
    certificates,
    clients::{Client, ClientKind, Seen},
    plan::{Outcome, Planned},
    servers::{Server, ServerKind},
};

/// Running servers and clients.
#[derive(Debug)]
pub struct Rig {
    servers: Vec<Server>,
    clients: Vec<(ClientKind, Client)>,
    directory: TempDir,
}

impl Rig {
    /// Makes certificates, and starts servers and clients. `rust` is the path of this crate's `oracle-tls`.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn start(servers: &[ServerKind], clients: &[ClientKind], rust: &Path) -> Result<Self> {
        let directory = TempDir::with_prefix("auditor-tls-")?;
        certificates::create(directory.path())?;
        let servers = servers.iter().map(|kind| Server::start(*kind, directory.path(), rust));
        let servers = servers.collect::<Result<_>>()?;
        let start = |kind: &ClientKind| Ok((*kind, Client::start(*kind, directory.path(), rust)?));
        let clients = clients.iter().map(start).collect::<Result<_>>()?;
        Ok(Self { servers, clients, directory })
    }

    /// The servers.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// A folder that goes with the rig; the certificates are in it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The server of a connection.
    ///
    /// # Errors
    /// When it was not started.
    pub fn server(&self, kind: ServerKind) -> Result<&Server> {
        self.servers.iter().find(|server| server.kind() == kind).with_context(|| format!("{kind} was not started"))
    }

    /// Makes all connections, the clients at the same time, and gives what the clients say of each, by id.
    ///
    /// # Errors
    /// When a client fails, or its server was not started.
    pub fn run(&mut self, planned: &[Planned]) -> Result<HashMap<String, Seen>> {
        let with_port = |planned| self.server_port(planned).map(|port| (planned, port));
        let ports: Vec<(&Planned, u16)> = planned.iter().map(with_port).collect::<Result<_>>()?;
        thread::scope(|scope| {
            let threads: Vec<_> = self
                .clients
                .iter_mut()
                .map(|(kind, client)| {
                    let mine: Vec<_> = ports.iter().copied().filter(|(planned, _)| planned.client == *kind).collect();
                    scope.spawn(move || client.run(&mine))
                })
                .collect();
            let mut seen = HashMap::new();
            for thread in threads {
                seen.extend(thread.join().expect("clients do not panic")?);
            }
            Ok(seen)
        })
    }

    /// The port a connection goes to.
    ///
    /// # Errors
    /// When its server was not started.
    pub fn server_port(&self, planned: &Planned) -> Result<u16> {
        Ok(self.server(planned.server)?.port(planned.endpoint))
    }

    /// Fails where a client or a server says something else than the plan: then it is the rig that is wrong, and nothing can be
    /// said of the auditor.
    ///
    /// # Errors
    /// With every connection of which that is so.
    pub fn vouch(&mut self, planned: &[Planned], seen: &HashMap<String, Seen>) -> Result<()> {
        let mut wrong = Vec::new();
        for planned in planned {
            let complaints = match seen.get(&planned.id) {
                Some(seen) => self.complaints(planned, seen),
                None => vec!["the client said nothing".to_owned()],
            };
            if !complaints.is_empty() {
                wrong.push(format!("{planned}: {}", complaints.join("; ")));
            }
        }
        ensure!(
            wrong.is_empty(),
            "{} of {} connections were not as planned:\n{}",
            wrong.len(),
            planned.len(),
            wrong.join("\n")
        );
        Ok(())
    }

    fn complaints(&mut self, planned: &Planned, seen: &Seen) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |what: &str, expected: String, came: String| {
            if expected != came {
                wrong.push(format!("{what} is {came}, not {expected}"));
            }
        };
        match (&seen.answer, planned.status()) {
            (Ok(answer), Some(status)) => {
                let resumed = planned.outcome() == Outcome::Resumed;
                check("the status", status.to_string(), answer.status.to_string());
                check("the client's port", answer.port.to_string(), seen.port.to_string());
                check("the version", planned.endpoint.version.number().to_owned(), answer.version.clone());
                check("resumed, says the server,", resumed.to_string(), answer.resumed.to_string());
                check("resumed, says the client,", resumed.to_string(), seen.resumed.unwrap_or(resumed).to_string());
                check("the subject", planned.subject().to_owned(), answer.subject.clone());
            }
            (Err(_), None) => {
                let server = self.servers.iter_mut().find(|server| server.kind() == planned.server);
                if let Some(Err(error)) = server.map(|server| server.refusal(seen.port)) {
                    wrong.push(format!("{error:#}"));
                }
            }
            (Ok(answer), None) => wrong.push(format!("not refused: {answer:?}")),
            (Err(error), Some(status)) => wrong.push(format!("{error}, instead of status {status}")),
        }
        wrong
    }
}
