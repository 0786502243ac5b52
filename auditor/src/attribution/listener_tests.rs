use std::sync::{Arc, Mutex};

use super::*;

const SECOND: u64 = 1_000_000_000;

fn row(tgid: u32, netns: u32, local: &str, peer: &str, cookie: u64) -> SocketRow {
    let parse = |text: &str| -> SocketAddr { text.parse().unwrap() };
    let (local, peer, state) =
        if peer.is_empty() { (parse(local), parse("[::]:0"), LISTEN) } else { (parse(local), parse(peer), 1) };
    let bytes = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    SocketRow {
        cookie,
        start_ns: u64::from(tgid) * 100,
        tgid,
        netns,
        local: bytes(local.ip()),
        peer: bytes(peer.ip()),
        local_port: local.port(),
        peer_port: peer.port(),
        state,
        padding: [0; 3],
        comm: [0; 16],
    }
}

fn wanted(local: &str, remote: &str) -> Wanted {
    Wanted {
        cookie: None,
        netns: None,
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
        accepted: false,
    }
}

/// Gives these rows and counts how often it is asked.
#[derive(Clone, Debug, Default)]
struct FakeSource {
    rows: Arc<Mutex<Vec<SocketRow>>>,
    asked: Arc<Mutex<u32>>,
    fails: bool,
}

impl SocketSource for FakeSource {
    fn sockets(&mut self) -> io::Result<Vec<SocketRow>> {
        *self.asked.lock().unwrap() += 1;
        if self.fails { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(self.rows.lock().unwrap().clone()) }
    }
}

fn sockets(rows: &[SocketRow]) -> Sockets {
    let mut sockets = Sockets::new(None);
    sockets.replace(rows, 0);
    sockets
}

fn tgid(owner: Option<Owner>) -> Option<u32> {
    owner.map(|owner| owner.tgid)
}

const A: &str = "10.0.0.1:40000";
const B: &str = "10.0.0.2:80";

#[test]
fn a_cookie_is_exact_and_never_outdated() {
    let mut sockets = sockets(&[row(7, 1, A, B, 77)]);
    let mut known = Wanted { cookie: Some(77), ..wanted("1.1.1.1:1", "1.1.1.1:2") };
    assert_eq!(tgid(sockets.owner(&known, 900 * SECOND)), Some(7));
    // The same addresses under another cookie: a later connection.
    known = Wanted { cookie: Some(78), ..wanted(A, B) };
    assert_eq!(tgid(sockets.owner(&known, 0)), None);
    assert_eq!(tgid(sockets.owner(&wanted(A, B), 0)), Some(7), "a peer is told by its addresses");
}

#[test]
fn a_row_without_cookie_is_told_by_its_addresses() {
    let mut sockets = sockets(&[row(7, 1, A, B, 0)]);
    assert_eq!(tgid(sockets.owner(&Wanted { cookie: Some(78), ..wanted(A, B) }, 0)), Some(7));
    assert_eq!(tgid(sockets.owner(&wanted(B, A), 0)), None);
}

#[test]
fn namespaces_tell_equal_addresses_apart() {
    let mut sockets = sockets(&[row(7, 1, A, B, 0), row(8, 2, A, B, 0)]);
    let one = |netns| Wanted { netns, ..wanted(A, B) };
    assert_eq!(tgid(sockets.owner(&one(Some(1)), 0)), Some(7));
    assert_eq!(tgid(sockets.owner(&one(Some(2)), 0)), Some(8));
    assert_eq!(tgid(sockets.owner(&one(Some(3)), 0)), None);
    assert_eq!(tgid(sockets.owner(&one(None), 0)), None, "either would be a guess");
}

#[test]
fn listeners_stand_for_what_they_accept() {
    let rows = [
        row(1, 1, "0.0.0.0:80", "", 1),
        row(7, 1, "10.0.0.2:80", "", 2),
        row(8, 1, "[::]:81", "", 3),
        row(9, 1, "0.0.0.0:81", "", 4),
        row(10, 1, "[::]:82", "", 5),
        row(11, 1, "[::ffff:10.0.0.2]:83", "", 6),
    ];
    let mut sockets = sockets(&rows);
    let mut at = |local: &str| tgid(sockets.owner(&Wanted { accepted: true, ..wanted(local, "10.0.0.9:4000") }, 0));
    assert_eq!(at("10.0.0.2:80"), Some(7), "the exact address");
    assert_eq!(at("10.0.0.3:80"), Some(1), "the wildcard");
    assert_eq!(at("10.0.0.3:81"), Some(9), "its own family first");
    assert_eq!(at("10.0.0.3:82"), Some(10), "the IPv6 wildcard accepts IPv4");
    assert_eq!(at("10.0.0.2:83"), Some(11), "v4-mapped");
    assert_eq!(at("[fd00::1]:81"), Some(8));
    assert_eq!(at("[fd00::1]:80"), None, "IPv4 wildcards do not accept IPv6");
    assert_eq!(at("10.0.0.3:84"), None);
    assert_eq!(tgid(sockets.owner(&wanted("10.0.0.3:80", "10.0.0.9:4000"), 0)), None, "clients accept nothing");
}

#[test]
fn of_processes_that_share_a_socket_the_oldest_but_init_stands_for_it() {
    let listen = "0.0.0.0:80";
    let shared = [row(30, 1, listen, "", 5), row(1, 1, listen, "", 5), row(20, 1, listen, "", 5)];
    let mut sockets = sockets(&shared);
    assert_eq!(tgid(sockets.owner(&Wanted { accepted: true, ..wanted(B, A) }, 0)), Some(20));
    assert_eq!(tgid(sockets.owner(&Wanted { cookie: Some(5), ..wanted(B, A) }, 0)), Some(20));
}

#[test]
fn an_unknown_socket_has_a_snapshot_taken_now_and_then() {
    let source = FakeSource::default();
    let mut sockets = Sockets::new(Some(Box::new(source.clone())));
    let asked = || *source.asked.lock().unwrap();
    let now = 100 * SECOND;

    assert_eq!(tgid(sockets.owner(&wanted(A, B), now)), None);
    assert_eq!(asked(), 1);
    // Another unknown one within the second waits, and so does the first one while it is remembered as unknown.
    assert_eq!(tgid(sockets.owner(&wanted(B, A), now + SECOND / 2)), None);
    source.rows.lock().unwrap().push(row(7, 1, A, B, 0));
    assert_eq!(tgid(sockets.owner(&wanted(A, B), now + 3 * SECOND)), None);
    assert_eq!(asked(), 1);
    assert_eq!(tgid(sockets.owner(&wanted(A, B), now + UNKNOWN_FOR)), Some(7));
    assert_eq!(asked(), 2);
    // Known and fresh: no snapshot. Known and old: another one.
    assert_eq!(tgid(sockets.owner(&wanted(A, B), now + UNKNOWN_FOR + FRESH - 1)), Some(7));
    assert_eq!(asked(), 2);
    source.rows.lock().unwrap().clear();
    assert_eq!(tgid(sockets.owner(&wanted(A, B), now + UNKNOWN_FOR + FRESH)), None);
    assert_eq!(asked(), 3);
}

#[test]
fn a_clock_that_goes_back_does_not_stop_snapshots() {
    let source = FakeSource::default();
    let mut sockets = Sockets::new(Some(Box::new(source.clone())));
    sockets.owner(&wanted(A, B), 1000 * SECOND);
    source.rows.lock().unwrap().push(row(7, 1, A, B, 0));
    assert_eq!(tgid(sockets.owner(&wanted(A, B), 10 * SECOND)), Some(7));
}

#[test]
fn a_source_that_fails_is_asked_again_later() {
    let source = FakeSource { fails: true, ..FakeSource::default() };
    let mut sockets = Sockets::new(Some(Box::new(source.clone())));
    for at in 0..10 {
        assert_eq!(tgid(sockets.owner(&wanted(A, B), 100 * SECOND + at)), None);
        assert_eq!(tgid(sockets.owner(&wanted(B, A), 100 * SECOND + at)), None);
    }
    assert_eq!(*source.asked.lock().unwrap(), 1);
}

#[test]
fn memory_is_bounded() {
    let many: Vec<_> = (0..u32::try_from(SOCKETS_MAX).unwrap() + 10)
        .map(|i| {
            let [a, b, c, d] = i.to_be_bytes();
            row(7, 1, &format!("10.{b}.{c}.{d}:{}", 1000 + u16::from(a)), B, u64::from(i) + 1)
        })
        .collect();
    let sockets = sockets(&many);
    assert_eq!((sockets.len(), sockets.by_cookie.len()), (Sockets::LIMIT, Sockets::LIMIT));
}

#[test]
fn nothing_is_asked_of_an_empty_table_without_source() {
    assert_eq!(tgid(Sockets::new(None).owner(&wanted(A, B), 0)), None);
}
