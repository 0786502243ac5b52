//! Calls over `AF_UNIX` sockets: what the kernel's word on who connects counts for, and which sockets no container should reach.

use auditor_wire::exchange::UnknownReason;

use super::{
    Settings,
    rules::{UNIX_SOCKET_EXPOSED, severity},
};
use crate::judgement::{Address, Finding, Outcome, Party, Severity};

/// Sockets of container runtimes, by file name: who reaches one is root on the node.
const RUNTIMES: [&str; 8] = [
    "buildkitd.sock",
    "containerd.sock",
    "cri-dockerd.sock",
    "crio.sock",
    "docker.sock",
    "dockershim.sock",
    "podman.sock",
    "lxd.socket",
];
/// How the abstract sockets begin that containerd's shims had before 1.3.9 (CVE-2020-15257).
const SHIM: &str = "@/containerd-shim/";

/// Sockets of data stores, by file name.
const STORES: [&str; 8] = [
    "memcached.sock",
    "mongodb-27017.sock",
    "mysql.sock",
    "mysqld.sock",
    "mysqlx.sock",
    "redis-server.sock",
    "redis.sock",
    "valkey.sock",
];
/// How the file name of PostgreSQL's socket begins; its port follows.
const POSTGRESQL: &str = ".s.PGSQL.";

/// What a socket gives who reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sensitive {
    /// The node, by way of a container runtime.
    Runtime,
    /// A data store.
    Store,
    /// What the configuration says.
    Configured,
}

/// What a socket gives who reaches it; `None` for one of which nothing is known. By its file name, because servers bind theirs in
/// mount namespaces of their own; `configured` are file names, or whole paths.
#[must_use]
pub fn sensitive(path: &str, configured: &[String]) -> Option<Sensitive> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if RUNTIMES.contains(&name) || path.starts_with(SHIM) {
        return Some(Sensitive::Runtime);
    }
    if STORES.contains(&name) || name.starts_with(POSTGRESQL) {
        return Some(Sensitive::Store);
    }
    let is_named = |wanted: &String| if wanted.contains('/') { wanted == path } else { wanted == name };
    configured.iter().any(is_named).then_some(Sensitive::Configured)
}

/// Why a call without credential over such a socket says nothing of who called: the kernel does.
pub(super) fn unknown(destination: &Party) -> Option<UnknownReason> {
    (destination.address == Address::Unix).then_some(UnknownReason::PeerCredentials)
}

/// A container that reaches a sensitive socket outside itself. A call that was refused is an enforced boundary.
pub(super) fn exposed(source: &Party, destination: &Party, outcome: Outcome, settings: &Settings) -> Option<Finding> {
    let path = destination.unix_path.as_deref().filter(|_| outcome != Outcome::Refused)?;
    let kind = sensitive(path, &settings.sensitive_sockets)?;
    let container = source.container.as_deref()?;
    if destination.container.as_deref() == Some(container) {
        return None;
    }
    let (level, whose) = match kind {
        Sensitive::Runtime => (Severity::Critical, "a container runtime"),
        Sensitive::Store => (severity(UNIX_SOCKET_EXPOSED), "a data store"),
        Sensitive::Configured => (severity(UNIX_SOCKET_EXPOSED), "a service"),
    };
    let id: String = container.id.chars().take(12).collect();
    let detail = format!("container {id} reached {path}, the socket of {whose}").into_boxed_str();
    Some(Finding { rule: UNIX_SOCKET_EXPOSED, severity: level, detail })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{judgement::Container, sinks::sample};

    fn end(path: Option<&str>, container: Option<&str>) -> Party {
        let mut party = sample::party("10.0.0.1", 0, Some("x"));
        party.address = Address::Unix;
        party.unix_path = path.map(Arc::from);
        party.container = container.map(|id| Arc::new(Container { id: id.into() }));
        party
    }

    #[test]
    fn sockets_are_known_by_their_names() {
        let configured = ["admin.sock".to_owned(), "/run/vault/api.sock".to_owned()];
        let cases = [
            ("/run/docker.sock", Some(Sensitive::Runtime)),
            ("docker.sock", Some(Sensitive::Runtime)),
            ("/run/containerd/containerd.sock", Some(Sensitive::Runtime)),
            ("@/containerd-shim/abc.sock", Some(Sensitive::Runtime)),
            ("/var/run/postgresql/.s.PGSQL.5432", Some(Sensitive::Store)),
            ("/run/mysqld/mysqld.sock", Some(Sensitive::Store)),
            ("/srv/admin.sock", Some(Sensitive::Configured)),
            ("/run/vault/api.sock", Some(Sensitive::Configured)),
            ("/tmp/api.sock", None),
            ("/run/docker.sock.d/x.sock", None),
            ("/run/notdocker.sock", None),
            ("", None),
        ];
        for (path, expected) in cases {
            assert_eq!(sensitive(path, &configured), expected, "{path}");
        }
    }

    #[test]
    fn a_container_that_reaches_a_socket_outside_itself_is_found() {
        let settings = Settings::default();
        let found = |source: &Party, path, outcome| {
            exposed(source, &end(Some(path), None), outcome, &settings).map(|finding| finding.severity)
        };
        let inside = end(None, Some("0123456789abcdef"));
        assert_eq!(found(&inside, "/run/docker.sock", Outcome::Accepted), Some(Severity::Critical));
        assert_eq!(found(&inside, "/run/docker.sock", Outcome::Unanswered), Some(Severity::Critical));
        assert_eq!(found(&inside, "/run/redis.sock", Outcome::Failed), Some(Severity::High));
        // Refused, harmless, from the host, and within the container itself.
        assert_eq!(found(&inside, "/run/docker.sock", Outcome::Refused), None);
        assert_eq!(found(&inside, "/run/app.sock", Outcome::Accepted), None);
        assert_eq!(found(&end(None, None), "/run/docker.sock", Outcome::Accepted), None);
        let own = end(Some("/run/redis.sock"), Some("0123456789abcdef"));
        assert_eq!(exposed(&inside, &own, Outcome::Accepted, &settings), None);
        // An address of IP is no socket of this kind.
        assert_eq!(found(&inside, "", Outcome::Accepted), None);
        assert_eq!(exposed(&inside, &end(None, None), Outcome::Accepted, &settings), None);
    }

    #[test]
    fn the_kernels_word_on_who_connects_is_no_proof_and_no_lack_of_one() {
        assert_eq!(unknown(&end(Some("/run/app.sock"), None)), Some(UnknownReason::PeerCredentials));
        assert_eq!(unknown(&sample::party("10.0.0.1", 80, None)), None);
    }
}
