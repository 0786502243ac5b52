//! Attribution: from sockets, pids and cgroups to processes, containers and workloads.
//!
//! The kernel tells the owner of a socket with its records; procfs adds the executable, the command line and the user
//! ([`process`]). Where the kernel did not tell, a snapshot of the node's sockets may ([`listener`]). What is not known stays
//! unknown; a guess is worse. Nothing here judges.

pub mod arguments;
pub mod container;
pub mod listener;
pub mod network;
pub mod process;
pub mod sock_diag;
mod unix;
mod workload;

use std::{fs, net::SocketAddr, os::unix::fs::MetadataExt as _, path::PathBuf, sync::Arc};

use auditor_abi::record::SocketRow;
use auditor_wire::{
    exchange::{Connection, End, Exchange, Reporter},
    segment::{Endpoints, Owner, SocketId, Timestamp},
};

use self::{
    container::Containers,
    listener::{SocketSource, Sockets, Wanted},
    network::InternalNetworks,
    process::{Facts, ProcSource, Processes, Procfs, StartClock},
    sock_diag::SockDiag,
    unix::UnixSockets,
};
use crate::{
    capture::syscalls::UnixSocket,
    judgement::{Address, Container, Party},
};

/// Something observed, with both ends named as far as they are known.
#[derive(Clone, Debug)]
pub struct Attributed<T> {
    /// What was observed.
    pub observed: T,
    /// Who called.
    pub source: Party,
    /// Who was called.
    pub destination: Party,
}

/// Where the facts of a live node come from.
#[derive(Debug)]
pub struct Sources {
    /// Facts of processes.
    pub processes: Box<dyn ProcSource>,
    /// How `processes` counts start times.
    pub clock: StartClock,
    /// The kernel's pids are those of `processes`: both are in the initial pid namespace.
    pub same_pid_namespace: bool,
    /// The sockets of the node.
    pub sockets: Box<dyn SocketSource>,
    /// The cgroup2 root, for as long as the attributor lives.
    pub cgroup2: Option<PathBuf>,
    /// Inode of the network namespace that has the node's own addresses.
    pub netns: Option<u32>,
}

/// Names the ends of what was observed. Its clock is that of the traffic.
#[derive(Debug)]
pub struct Attributor {
    networks: InternalNetworks,
    processes: Processes,
    containers: Containers,
    sockets: Sockets,
    unix: UnixSockets,
    netns: Option<u32>,
}

/// One thing the attributor remembers, for `auditor_tracked` and `auditor_tracked_limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// What.
    pub kind: &'static str,
    /// How many now.
    pub count: usize,
    /// How many at most.
    pub limit: usize,
}

impl Sources {
    /// procfs and sock_diag of the running system. `sockets` may be replaced by the kernel iterator, which sees every network
    /// namespace.
    #[must_use]
    pub fn of_system(cgroup2: Option<PathBuf>, same_pid_namespace: bool) -> Self {
        Self {
            processes: Box::new(Procfs::new("/proc")),
            clock: StartClock::of_system(),
            same_pid_namespace,
            sockets: Box::new(SockDiag::new("/proc")),
            cgroup2,
            netns: fs::metadata("/proc/self/ns/net").ok().and_then(|metadata| metadata.ino().try_into().ok()),
        }
    }
}

impl Attributor {
    /// An attributor of a live node.
    #[must_use]
    pub fn new(networks: InternalNetworks, sources: Sources) -> Self {
        Self {
            networks,
            processes: Processes::new(Some(sources.processes), sources.clock, sources.same_pid_namespace),
            containers: Containers::new(sources.cgroup2),
            sockets: Sockets::new(Some(sources.sockets)),
            unix: UnixSockets::default(),
            netns: sources.netns,
        }
    }

    /// An attributor of traffic from elsewhere: it looks nothing up. Processes are named where the records do it themselves.
    #[must_use]
    pub fn offline(networks: InternalNetworks) -> Self {
        Self {
            networks,
            processes: Processes::new(None, StartClock { tick_ns: 1, offset_ns: 0 }, false),
            containers: Containers::new(None),
            sockets: Sockets::new(None),
            unix: UnixSockets::default(),
            netns: None,
        }
    }

    /// Takes over the sockets that exist, as the kernel iterator lists them. A later snapshot of [`Sources::sockets`] replaces
    /// what they say of addresses, so the same iterator should be that source too.
    pub fn existing(&mut self, rows: &[SocketRow], now: Timestamp) {
        self.sockets.replace(rows, now.0);
    }

    /// Looks up a process as soon as one of its segments is seen: a short-lived client is gone when its call is complete.
    /// Costs little for a process that is known.
    pub fn notice(&mut self, owner: &Owner, now: Timestamp) {
        if owner.tgid != 0 {
            self.processes.facts(owner, now.0);
        }
    }

    /// Takes what is known of an `AF_UNIX` socket. Who connected is looked up at once: it may be gone when its call is complete.
    pub fn unix_socket(&mut self, socket: SocketId, known: UnixSocket, now: Timestamp) {
        if let Some(peer) = &known.peer {
            self.processes.facts(peer, now.0);
        }
        self.unix.insert(socket, known);
    }

    /// Names both ends of a call.
    pub fn exchange(&mut self, exchange: Exchange) -> Attributed<Exchange> {
        let Exchange { reporter, source, destination, wire, time, .. } = &exchange;
        let (source, destination) = self.parties(*reporter, source, destination, *wire, *time);
        Attributed { observed: exchange, source, destination }
    }

    /// Names both ends of a connection.
    pub fn connection(&mut self, connection: Connection) -> Attributed<Connection> {
        let Connection { reporter, source, destination, wire, time, .. } = &connection;
        let (source, destination) = self.parties(*reporter, source, destination, *wire, *time);
        Attributed { observed: connection, source, destination }
    }

    /// What is remembered, and how much at most.
    #[must_use]
    pub fn remembered(&self) -> [Remembered; 4] {
        [
            Remembered { kind: "processes", count: self.processes.len(), limit: Processes::LIMIT },
            Remembered { kind: "cgroups", count: self.containers.len(), limit: Containers::LIMIT },
            Remembered { kind: "sockets", count: self.sockets.len(), limit: Sockets::LIMIT },
            Remembered { kind: "unix-sockets", count: self.unix.len(), limit: UnixSockets::LIMIT },
        ]
    }

    fn parties(
        &mut self,
        reporter: Reporter,
        source: &End,
        destination: &End,
        wire: Endpoints,
        time: Timestamp,
    ) -> (Party, Party) {
        if let Some(socket) = [source, destination].into_iter().find_map(|end| end.socket.filter(|id| id.is_unix())) {
            return self.unix_parties(socket, destination, time.0);
        }
        // The reporter's socket has both addresses as given; the other end's socket has them as they were on the wire.
        let seen_by = |reported: bool| {
            if reported { Endpoints { local: source.address, remote: destination.address } } else { wire }
        };
        let of_source = seen_by(reporter == Reporter::Source);
        let of_destination = seen_by(reporter == Reporter::Destination).reversed();
        let caller = Seen { end: source, other: destination, endpoints: of_source, accepted: false };
        let callee = Seen { end: destination, other: source, endpoints: of_destination, accepted: true };
        (self.party(&caller, time.0), self.party(&callee, time.0))
    }

    fn party(&mut self, seen: &Seen<'_>, now: u64) -> Party {
        let address = seen.end.address.ip().to_canonical();
        let facts = self.owner(seen, now).map(|owner| self.processes.facts(&owner, now));
        let container = self.container(facts.as_ref(), seen.end.cgroup, now);
        let (process, workload) = facts.map(|facts| (facts.process, facts.workload)).unzip();
        Party {
            address: address.into(),
            port: seen.end.address.port(),
            unix_path: None,
            internal: self.networks.contains(address),
            process,
            container,
            workload: workload.filter(|name| !name.is_empty()),
        }
    }

    /// Both ends of an `AF_UNIX` connection, which the server's socket showed: who connected is who the kernel noted then.
    fn unix_parties(&mut self, socket: SocketId, server: &End, now: u64) -> (Party, Party) {
        let known = self.unix.get(socket).unwrap_or_default();
        let caller = self.unix_party(known.peer.as_ref(), known.peer_cgroup, now);
        let callee = self.unix_party(server.owner.as_ref(), server.cgroup, now);
        (caller, Party { unix_path: known.path, ..callee })
    }

    fn unix_party(&mut self, owner: Option<&Owner>, cgroup: Option<u64>, now: u64) -> Party {
        let facts = owner.filter(|owner| owner.tgid != 0).map(|owner| self.processes.facts(owner, now));
        let container = self.container(facts.as_ref(), cgroup, now);
        let (process, workload) = facts.map(|facts| (facts.process, facts.workload)).unzip();
        Party {
            address: Address::Unix,
            port: 0,
            unix_path: None,
            internal: true,
            process,
            container,
            workload: workload.filter(|name| !name.is_empty()),
        }
    }

    fn owner(&mut self, seen: &Seen<'_>, now: u64) -> Option<Owner> {
        if let Some(owner) = seen.end.owner.filter(|owner| owner.tgid != 0) {
            return Some(owner);
        }
        let local = canonical(seen.endpoints.local);
        let netns = match seen.end.socket {
            Some(_) => seen.end.netns,
            // The peer of a loopback connection is in the same namespace; the node's own addresses are in the node's.
            None if local.ip().is_loopback() => Some(seen.other.netns?),
            None if self.networks.is_node(local.ip()) => Some(self.netns?),
            None => return None,
        };
        let remote = canonical(seen.endpoints.remote);
        let cookie = seen.end.socket.map(|socket| socket.0);
        self.sockets.owner(&Wanted { cookie, netns, local, remote, accepted: seen.accepted }, now)
    }

    /// The container the process is in, else the one its socket's cgroup belongs to: a socket may have been opened by another
    /// process, such as init, and handed over.
    fn container(&mut self, facts: Option<&Facts>, cgroup: Option<u64>, now: u64) -> Option<Arc<Container>> {
        match facts.and_then(|facts| facts.container.as_ref()) {
            Some(of_process) => of_process.clone(),
            None => self.containers.of_cgroup(cgroup?, now),
        }
    }
}

/// One end as it was seen.
struct Seen<'a> {
    end: &'a End,
    other: &'a End,
    /// Its addresses as its own socket has them.
    endpoints: Endpoints,
    accepted: bool,
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
