//! Who owns a socket the kernel said nothing of: one opened before the start that only receives, one seen mid-stream, a peer on
//! the same node. A snapshot of the node's sockets answers, taken again when an unknown one is met.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use auditor_abi::record::SocketRow;
use auditor_wire::segment::Owner;

use crate::cache::Cache;

/// Sockets kept of a snapshot.
const SOCKETS_MAX: usize = 65_536;
/// Network namespaces that may have a socket of the same addresses.
const NAMESPACES_MAX: usize = 1024;
/// Unknown sockets that are remembered as such.
const UNKNOWN_MAX: usize = 4096;
/// An unknown socket is looked for again after this, nanoseconds.
const UNKNOWN_FOR: u64 = 10_000_000_000;
/// What a snapshot says of addresses may be outdated after this, nanoseconds; what it says of cookies stays true.
const FRESH: u64 = 5_000_000_000;
/// A snapshot is taken at most this often, nanoseconds, and takes at most one twentieth of the time.
const SNAPSHOT_AFTER: u64 = 1_000_000_000;
const SHARE: u64 = 20;

/// `TCP_LISTEN` of `include/net/tcp_states.h`.
const LISTEN: u8 = 10;

/// Lists the node's TCP sockets and who has them open.
pub trait SocketSource: Send + fmt::Debug {
    /// The sockets that exist now. A socket that several processes have open comes once for each.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn sockets(&mut self) -> io::Result<Vec<SocketRow>>;
}

/// The socket that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    /// Its cookie, when it was observed itself.
    pub(super) cookie: Option<u64>,
    /// Its network namespace, where known.
    pub(super) netns: Option<u32>,
    /// Its address and port.
    pub(super) local: SocketAddr,
    /// Its peer's.
    pub(super) remote: SocketAddr,
    /// It accepted the connection, so whoever listens there stands for it.
    pub(super) accepted: bool,
}

/// Who owns a socket of some addresses in one network namespace.
#[derive(Clone, Copy, Debug)]
struct Place {
    netns: u32,
    owner: Owner,
    /// The kernel had given the socket no cookie yet, so only its addresses can tell it.
    without_cookie: bool,
}

/// The sockets of the node as last seen.
#[derive(Debug)]
pub(super) struct Sockets {
    source: Option<Box<dyn SocketSource>>,
    by_cookie: HashMap<u64, Owner>,
    connected: HashMap<(SocketAddr, SocketAddr), Vec<Place>>,
    listening: HashMap<SocketAddr, Vec<Place>>,
    count: usize,
    taken: Option<u64>,
    next: u64,
    unknown: Cache<Wanted, u64>,
}

impl Sockets {
    pub(super) const LIMIT: usize = SOCKETS_MAX;

    pub(super) fn new(source: Option<Box<dyn SocketSource>>) -> Self {
        Self {
            source,
            by_cookie: HashMap::new(),
            connected: HashMap::new(),
            listening: HashMap::new(),
            count: 0,
            taken: None,
            next: 0,
            unknown: Cache::new(UNKNOWN_MAX),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The owner of a socket. Takes a new snapshot when the last one does not know, as often as is allowed.
    pub(super) fn owner(&mut self, wanted: &Wanted, now: u64) -> Option<Owner> {
        if self.source.is_none() && self.count == 0 {
            return None;
        }
        if let Some(owner) = wanted.cookie.and_then(|cookie| self.by_cookie.get(&cookie)) {
            return Some(*owner);
        }
        let fresh = self.taken.and_then(|taken| now.checked_sub(taken)).is_some_and(|age| age < FRESH);
        let found = self.find(wanted);
        if found.is_some() && fresh {
            return found;
        }
        let unknown = self.unknown.get(wanted).and_then(|until| until.checked_sub(now));
        if found.is_none() && unknown.is_some_and(|left| left > 0 && left <= UNKNOWN_FOR) {
            return None;
        }
        let taken = self.snapshot(now);
        let found = self.find(wanted);
        if found.is_none() {
            let until = if taken { now.saturating_add(UNKNOWN_FOR) } else { self.next };
            self.unknown.insert(*wanted, until);
        }
        found
    }

    /// Replaces what is known of addresses by these rows, and adds what they say of cookies.
    pub(super) fn replace(&mut self, rows: &[SocketRow], now: u64) {
        // A cookie is never given twice, so what is known of it stays true.
        if self.by_cookie.len() + rows.len() > SOCKETS_MAX {
            self.by_cookie.clear();
        }
        self.connected.clear();
        self.listening.clear();
        self.taken = Some(now);
        self.count = rows.len().min(SOCKETS_MAX);
        for row in rows.iter().take(SOCKETS_MAX).filter(|row| row.tgid != 0) {
            self.add(row);
        }
    }

    fn add(&mut self, row: &SocketRow) {
        let owner = Owner { tgid: row.tgid, start_ns: row.start_ns, comm: row.comm };
        let address = |bytes: [u8; 16], port| SocketAddr::new(IpAddr::from(bytes).to_canonical(), port);
        let local = address(row.local, row.local_port);
        let place = Place { netns: row.netns, owner, without_cookie: row.cookie == 0 };
        if row.cookie != 0 {
            self.by_cookie.entry(row.cookie).and_modify(|known| *known = first_of(*known, owner)).or_insert(owner);
        }
        let places = if row.state == LISTEN {
            self.listening.entry(local).or_default()
        } else {
            self.connected.entry((local, address(row.peer, row.peer_port))).or_default()
        };
        if let Some(known) = places.iter_mut().find(|known| known.netns == place.netns) {
            known.owner = first_of(known.owner, owner);
        } else if places.len() < NAMESPACES_MAX {
            places.push(place);
        }
    }

    fn find(&self, wanted: &Wanted) -> Option<Owner> {
        if let Some(owner) = wanted.cookie.and_then(|cookie| self.by_cookie.get(&cookie)) {
            return Some(*owner);
        }
        // A socket whose cookie is known can only be a row that had none when the snapshot was taken.
        let fits = |place: &&Place| wanted.cookie.is_none() || place.without_cookie;
        let connected = self.connected.get(&(wanted.local, wanted.remote));
        if let Some(owner) = connected.and_then(|places| only(places.iter().filter(fits), wanted.netns)) {
            return Some(owner);
        }
        if !wanted.accepted {
            return None;
        }
        let port = wanted.local.port();
        // An IPv6 wildcard accepts IPv4 too, unless it was told not to; the more exact one goes first.
        let wildcard = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let candidates = std::iter::once(wanted.local.ip())
            .chain(wildcard.into_iter().filter(|any| any.is_ipv6() || wanted.local.is_ipv4()));
        candidates
            .filter_map(|address| self.listening.get(&SocketAddr::new(address, port)))
            .find_map(|places| only(places.iter(), wanted.netns))
    }

    /// Whether a snapshot was taken.
    fn snapshot(&mut self, now: u64) -> bool {
        // A clock that went back must not put snapshots off for long.
        let wait = self.next.saturating_sub(now);
        if wait > 0 && self.taken.is_some_and(|taken| taken <= now) {
            return false;
        }
        let Some(source) = self.source.as_mut() else { return false };
        let began = Instant::now();
        let rows = source.sockets();
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        match rows {
            Ok(rows) => self.replace(&rows, now),
            Err(error) => {
                tracing::debug!(%error, "the node's sockets cannot be listed");
                self.taken = self.taken.or(Some(now));
            }
        }
        self.next = now.saturating_add(SNAPSHOT_AFTER.max(took.saturating_mul(SHARE)));
        tracing::trace!(took = ?Duration::from_nanos(took), sockets = self.count, "listed the node's sockets");
        true
    }
}

/// The one owner in a network namespace, or in any when it is not known; none when there are several.
fn only<'a>(places: impl Iterator<Item = &'a Place>, netns: Option<u32>) -> Option<Owner> {
    let mut places = places.filter(|place| netns.is_none_or(|netns| netns == place.netns));
    let owner = places.next()?.owner;
    places.next().is_none().then_some(owner)
}

/// Which of two processes that share a socket stands for it: not init, which opens sockets for others; else the older one, the
/// parent of its workers.
fn first_of(a: Owner, b: Owner) -> Owner {
    let rank = |owner: &Owner| (owner.tgid == 1, owner.start_ns, owner.tgid);
    if rank(&b) < rank(&a) { b } else { a }
}

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
