//! All servers and clients of a run.

use std::{collections::HashMap, net::IpAddr, path::Path, thread};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::{
    clients::{Answer, Call, Client, ClientKind},
    compare::Answering,
    namespace::Pair,
    plan::Planned,
    servers::{Place, Server, ServerKind},
};

/// The server nginx passes calls on to.
pub const BACKEND: ServerKind = ServerKind::Go;

/// Running servers and clients.
#[derive(Debug)]
pub struct Rig {
    servers: Vec<Server>,
    clients: Vec<(ClientKind, Client)>,
    directory: TempDir,
}

impl Rig {
    /// Starts the servers on these addresses, and the clients; in the namespaces of `pair` if there is one. `rust` is the path
    /// of this crate's `oracle-client`.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn start(
        servers: &[ServerKind],
        clients: &[ClientKind],
        addresses: &[IpAddr],
        pair: Option<&Pair>,
        rust: &Path,
    ) -> Result<Self> {
        let directory = TempDir::with_prefix("auditor-oracle-")?;
        let mut place =
            Place { addresses, namespace: pair.map(|pair| &pair.server), directory: directory.path(), backend: None };
        let mut running: Vec<Server> = Vec::new();
        // nginx last: it has to know where its backend is.
        let mut servers = servers.to_vec();
        servers.sort_by_key(|kind| *kind == ServerKind::Nginx);
        for kind in servers {
            let server = Server::start(kind, place)?;
            if kind == BACKEND {
                place.backend = server.sockets().first().copied();
            }
            running.push(server);
        }
        let namespace = pair.map(|pair| &pair.client);
        let start = |kind: &ClientKind| Ok((*kind, Client::start(*kind, rust, directory.path(), namespace)?));
        let clients = clients.iter().map(start).collect::<Result<_>>()?;
        Ok(Self { servers: running, clients, directory })
    }

    /// The servers.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The servers as records show them.
    ///
    /// # Errors
    /// When one ended.
    pub fn answering(&self) -> Result<Vec<Answering>> {
        let answering = |server: &Server| {
            let executable = server.executable()?.display().to_string();
            let (pids, listener) = (server.pids(), server.listener());
            Ok(Answering { kind: server.kind(), sockets: server.sockets().to_vec(), pids, listener, executable })
        };
        self.servers.iter().map(answering).collect()
    }

    /// A folder that goes with the rig.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Makes all calls, the clients at the same time, and says what became of each, by id.
    ///
    /// # Errors
    /// When a client fails.
    pub fn run(&mut self, planned: &[Planned]) -> Result<HashMap<String, Answer>> {
        thread::scope(|scope| {
            let threads: Vec<_> = self
                .clients
                .iter_mut()
                .map(|(kind, client)| {
                    let mine = planned.iter().filter(|planned| planned.client == *kind);
                    let calls: Vec<&Call> = mine.map(|planned| &planned.call).collect();
                    scope.spawn(move || client.run(&calls))
                })
                .collect();
            let mut answers = HashMap::new();
            for thread in threads {
                answers.extend(thread.join().expect("clients do not panic")?);
            }
            Ok(answers)
        })
    }
}

/// Fails when a call did not end as planned: then it is the generator that is wrong, and nothing can be said of the auditor.
///
/// # Errors
/// With every call that did not.
pub fn require_answers(planned: &[Planned], answers: &HashMap<String, Answer>) -> Result<()> {
    let wrong: Vec<String> = planned
        .iter()
        .filter_map(|planned| {
            let got = answers.get(&planned.call.id).map_or(Err("no answer".to_owned()), |answer| answer.status.clone());
            let Planned { call, client, server, status, .. } = planned;
            (got != Ok(*status)).then(|| {
                format!(
                    "{client} -> {server}: {} {} ({}): {status} expected, got {got:?}",
                    call.method, call.target, call.mode
                )
            })
        })
        .collect();
    ensure!(
        wrong.is_empty(),
        "{} of {} calls did not end as planned:\n{}",
        wrong.len(),
        planned.len(),
        wrong.join("\n")
    );
    Ok(())
}
