//! Both ends of what was observed, named.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
};

use auditor_wire::{exchange::Protocol, segment::SocketId};

use super::*;

/// Knows no process; sockets as given.
#[derive(Debug, Default)]
struct Nothing(Vec<SocketRow>);

impl ProcSource for Nothing {
    fn read(&self, _pid: u32, _file: &str, _limit: u64) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn executable(&self, _pid: u32) -> io::Result<PathBuf> {
        Err(io::ErrorKind::NotFound.into())
    }
}

impl SocketSource for Nothing {
    fn sockets(&mut self) -> io::Result<Vec<SocketRow>> {
        Ok(self.0.clone())
    }
}

const NODE_NETNS: u32 = 100;
const POD_NETNS: u32 = 200;

fn attributor(rows: Vec<SocketRow>) -> Attributor {
    let networks = vec!["10.0.0.0/8".parse().unwrap(), "127.0.0.0/8".parse().unwrap()];
    let networks = InternalNetworks::new(networks, vec!["192.0.2.1".parse().unwrap()]);
    let sources = Sources {
        processes: Box::new(Nothing::default()),
        clock: StartClock { tick_ns: 10_000_000, offset_ns: 0 },
        same_pid_namespace: true,
        sockets: Box::new(Nothing(rows)),
        cgroup2: None,
        netns: Some(NODE_NETNS),
    };
    Attributor::new(networks, sources)
}

fn comm(name: &str) -> [u8; 16] {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    comm
}

fn end(address: &str) -> End {
    End { address: address.parse().unwrap(), socket: None, owner: None, cgroup: None, netns: None }
}

fn owned(address: &str, tgid: u32, name: &str) -> End {
    let owner = Owner { tgid, start_ns: 1, comm: comm(name) };
    End { owner: Some(owner), ..observed(address, u64::from(tgid)) }
}

fn observed(address: &str, cookie: u64) -> End {
    End { socket: Some(SocketId(cookie)), netns: Some(NODE_NETNS), ..end(address) }
}

fn connection(reporter: Reporter, source: End, destination: End) -> Connection {
    let wire = Endpoints { local: source.address, remote: destination.address };
    let protocol = Protocol::Other;
    Connection { reporter, source, destination, wire, time: Timestamp(1), protocol }
}

fn listener(tgid: u32, netns: u32, address: &str, name: &str) -> SocketRow {
    let address: SocketAddr = address.parse().unwrap();
    let IpAddr::V4(ip) = address.ip() else { panic!("IPv4") };
    SocketRow {
        cookie: u64::from(tgid) + 1000,
        start_ns: 1,
        tgid,
        netns,
        local: ip.to_ipv6_mapped().octets(),
        peer: [0; 16],
        local_port: address.port(),
        peer_port: 0,
        state: 10,
        padding: [0; 3],
        comm: comm(name),
    }
}

fn name(party: &Party) -> Option<&str> {
    party.workload.as_deref()
}

#[test]
fn owners_told_by_the_kernel_are_named() {
    let call = connection(Reporter::Destination, owned("10.0.0.1:4000", 7, "curl"), owned("10.0.0.2:80", 8, "nginx"));
    let attributed = attributor(vec![]).connection(call);
    assert_eq!((name(&attributed.source), name(&attributed.destination)), (Some("curl"), Some("nginx")));
    let source = attributed.source;
    assert_eq!((source.address.to_string().as_str(), source.port, source.internal), ("10.0.0.1", 4000, true));
    assert_eq!(source.process.unwrap().pid, 7);
}

#[test]
fn addresses_are_canonical_and_classified() {
    let call = connection(Reporter::Source, end("[::ffff:10.0.0.1]:4000"), end("8.8.8.8:443"));
    let attributed = attributor(vec![]).connection(call);
    assert_eq!(attributed.source.address.to_string(), "10.0.0.1");
    assert_eq!((attributed.source.internal, attributed.destination.internal), (true, false));
    assert_eq!((name(&attributed.source), name(&attributed.destination)), (None, None));
    let node = attributor(vec![]).connection(connection(Reporter::Source, end("192.0.2.1:1"), end("192.0.2.2:2")));
    assert_eq!((node.source.internal, node.destination.internal), (true, false));
}

#[test]
fn ends_of_unix_sockets_are_named_by_what_the_server_knows_of_its_peer() {
    let socket = SocketId::unix(77);
    let server = End { socket: Some(socket), ..owned("[::]:0", 8, "dockerd") };
    let call = connection(Reporter::Destination, end("[::]:0"), server);
    let mut attributor = attributor(vec![]);
    let peer = Owner { tgid: 7, start_ns: 1, comm: comm("curl") };
    let known = UnixSocket { path: Some("/run/docker.sock".into()), peer: Some(peer), peer_cgroup: None };
    attributor.unix_socket(socket, known, Timestamp(1));
    let Attributed { source, destination, .. } = attributor.connection(call.clone());
    assert_eq!((name(&source), name(&destination)), (Some("curl"), Some("dockerd")));
    assert_eq!((source.unix_path.as_deref(), destination.unix_path.as_deref()), (None, Some("/run/docker.sock")));
    for party in [source, destination] {
        assert_eq!((party.address, party.port, party.internal), (Address::Unix, 0, true));
    }
    // Of a socket that was forgotten the server is known.
    let Attributed { source, destination, .. } = self::attributor(vec![]).connection(call);
    assert_eq!((name(&source), name(&destination)), (None, Some("dockerd")));
    assert_eq!((source.address, destination.unix_path), (Address::Unix, None));
}

#[test]
fn a_server_that_never_answers_is_named_by_its_listener() {
    let rows = vec![listener(8, NODE_NETNS, "0.0.0.0:80", "nginx"), listener(9, POD_NETNS, "0.0.0.0:80", "other")];
    let silent = || connection(Reporter::Destination, end("10.0.0.1:4000"), observed("10.0.0.2:80", 55));
    assert_eq!(name(&attributor(rows.clone()).connection(silent()).destination), Some("nginx"));
    // The same with rows the kernel listed, and no further source.
    let mut listed = Attributor::offline(InternalNetworks::default());
    listed.existing(&rows, Timestamp(0));
    assert_eq!(name(&listed.connection(silent()).destination), Some("nginx"));
    // In a namespace that is not known, two listeners are one too many.
    let mut unknown = silent();
    unknown.destination.netns = None;
    assert_eq!(name(&attributor(rows).connection(unknown).destination), None);
}

#[test]
fn a_peer_on_the_node_is_looked_up_in_the_right_namespace() {
    let rows = vec![listener(8, NODE_NETNS, "0.0.0.0:80", "nginx"), listener(9, POD_NETNS, "0.0.0.0:80", "other")];
    let to = |address: &str, netns| {
        let source = End { netns, ..owned("10.0.0.1:4000", 7, "curl") };
        let attributed = attributor(rows.clone()).connection(connection(Reporter::Source, source, end(address)));
        attributed.destination.workload.map(|workload| workload.to_string())
    };
    assert_eq!(to("127.0.0.1:80", Some(NODE_NETNS)).as_deref(), Some("nginx"));
    assert_eq!(to("127.0.0.1:80", Some(POD_NETNS)).as_deref(), Some("other"));
    assert_eq!(to("127.0.0.1:80", None), None);
    assert_eq!(to("192.0.2.1:80", Some(POD_NETNS)).as_deref(), Some("nginx"), "the node's own address");
    assert_eq!(to("10.0.0.2:80", Some(NODE_NETNS)), None, "another node, for all that is known");
}

/// A call to a service address that was translated: the callee's socket is found by the address on the wire.
#[test]
fn a_translated_peer_is_looked_up_by_its_address_on_the_wire() {
    let rows = vec![listener(8, NODE_NETNS, "192.0.2.1:8080", "nginx")];
    let mut call = connection(Reporter::Source, owned("10.0.0.1:4000", 7, "curl"), end("10.96.0.10:80"));
    call.wire.remote = "192.0.2.1:8080".parse().unwrap();
    let attributed = attributor(rows).connection(call);
    assert_eq!(name(&attributed.destination), Some("nginx"));
    assert_eq!(attributed.destination.address.to_string(), "10.96.0.10", "as the caller had it");
}

#[test]
fn an_owner_of_pid_zero_is_no_owner() {
    let call = connection(Reporter::Source, owned("10.0.0.1:4000", 0, "swapper"), end("10.0.0.2:80"));
    assert!(attributor(vec![]).connection(call).source.process.is_none());
}

#[test]
fn offline_nothing_is_looked_up() {
    let source = owned("127.0.0.1:4000", std::process::id(), "curl");
    let call = connection(Reporter::Source, End { cgroup: Some(1), ..source }, end("127.0.0.1:80"));
    let attributed = Attributor::offline(InternalNetworks::default()).connection(call);
    let process = attributed.source.process.unwrap();
    assert_eq!((&*process.command, &process.executable), ("curl", &None));
    assert_eq!((attributed.source.container, name(&attributed.destination)), (None, None));
    assert!(attributed.destination.internal);
}

#[test]
fn what_is_remembered_is_told_with_its_limit() {
    let mut attributor = attributor(vec![listener(8, NODE_NETNS, "0.0.0.0:80", "nginx")]);
    attributor.notice(&Owner { tgid: 7, start_ns: 1, comm: comm("curl") }, Timestamp(0));
    attributor.notice(&Owner { tgid: 0, start_ns: 0, comm: comm("") }, Timestamp(0));
    attributor.connection(connection(Reporter::Destination, end("10.0.0.1:1"), observed("10.0.0.2:80", 55)));
    let counts = attributor.remembered().map(|remembered| (remembered.kind, remembered.count));
    assert_eq!(counts, [("processes", 2), ("cgroups", 0), ("sockets", 1), ("unix-sockets", 0)]);
    assert!(attributor.remembered().iter().all(|remembered| remembered.limit >= 8192));
}

/// A real connection within this process, of which the kernel told no owner: both ends are this process.
#[test]
fn live_sockets_are_found_on_this_machine() {
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listening.local_addr().unwrap()).unwrap();
    let mut server = listening.accept().unwrap().0;
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();

    let sources = Sources::of_system(None, true);
    let netns = sources.netns;
    let mut attributor = Attributor::new(InternalNetworks::default(), sources);
    let seen = |stream: &TcpStream| End {
        socket: Some(SocketId(rustix::net::sockopt::socket_cookie(stream.as_fd()).unwrap())),
        netns,
        ..end(&stream.local_addr().unwrap().to_string())
    };
    let executable = std::env::current_exe().unwrap();
    let both = attributor.connection(connection(Reporter::Source, seen(&client), seen(&server)));
    for party in [&both.source, &both.destination] {
        let process = party.process.as_ref().unwrap();
        assert_eq!((process.pid, process.executable.as_deref()), (std::process::id(), executable.to_str()));
        assert_eq!(party.workload.as_deref(), executable.file_name().and_then(|name| name.to_str()));
    }
    // The callee's end was not observed at all.
    let peer = end(&server.local_addr().unwrap().to_string());
    let one = attributor.connection(connection(Reporter::Source, seen(&client), peer));
    assert_eq!(one.destination.process.as_ref().unwrap().pid, std::process::id());
}
