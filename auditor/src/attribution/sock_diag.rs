//! The TCP sockets of this network namespace and the processes that have them open, from sock_diag(7) and procfs: what stands in
//! where the kernel iterator cannot be loaded. Other network namespaces are not seen.

use std::{
    collections::HashMap,
    fs, io,
    net::IpAddr,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::PathBuf,
};

use auditor_abi::record::SocketRow;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};

use super::{
    listener::SocketSource,
    process::{Procfs, StartClock, Stat},
};

/// Sockets taken from one dump.
const SOCKETS_MAX: usize = 65_536;
/// Open files looked at in one listing.
const FILES_MAX: usize = 1_000_000;
/// Large enough for any datagram the kernel sends in a dump.
const BUFFER: usize = 64 << 10;

/// sock_diag and procfs as a [`SocketSource`].
#[derive(Debug)]
pub struct SockDiag {
    procfs: PathBuf,
    clock: StartClock,
}

impl SockDiag {
    /// Uses procfs mounted at `procfs`, normally `/proc`.
    #[must_use]
    pub fn new(procfs: impl Into<PathBuf>) -> Self {
        Self { procfs: procfs.into(), clock: StartClock::of_system() }
    }

    /// Adds a row for every process that has one of the sockets open.
    fn owners(&self, sockets: &HashMap<u32, SocketRow>) -> io::Result<Vec<SocketRow>> {
        let source = Procfs::new(&self.procfs);
        let mut rows = Vec::with_capacity(sockets.len());
        let mut files = 0;
        for process in fs::read_dir(&self.procfs)?.flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // Gone by now, or another user's.
            let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
            let mut stat = None;
            for descriptor in descriptors.flatten() {
                files += 1;
                if files > FILES_MAX {
                    return Ok(rows);
                }
                let Ok(link) = fs::read_link(descriptor.path()) else { continue };
                let Some(row) = socket_inode(link.as_os_str().as_bytes()).and_then(|inode| sockets.get(&inode)) else {
                    continue;
                };
                let stat: &Option<Stat> = stat.get_or_insert_with(|| Stat::read(&source, pid));
                let Some(stat) = stat else { break };
                let mut comm = [0; 16];
                let length = stat.comm.len().min(comm.len() - 1);
                comm[..length].copy_from_slice(&stat.comm[..length]);
                rows.push(SocketRow { tgid: pid, start_ns: self.clock.start_ns(stat.start_ticks), comm, ..*row });
            }
        }
        Ok(rows)
    }
}

impl SocketSource for SockDiag {
    fn sockets(&mut self) -> io::Result<Vec<SocketRow>> {
        // A namespace inode that does not fit is not one of this kernel; 0 means unknown.
        let netns = fs::metadata(self.procfs.join("self/ns/net"))?.ino().try_into().unwrap_or_default();
        let mut sockets = HashMap::new();
        for family in [AF_INET, AF_INET6] {
            dump(family, &mut |response| {
                // Sockets without inode are waiting for their last packets; no process has them.
                if response.header.inode != 0 && sockets.len() < SOCKETS_MAX {
                    sockets.insert(response.header.inode, row(response, netns));
                }
            })?;
        }
        self.owners(&sockets)
    }
}

/// Asks the kernel for all TCP sockets of an address family.
fn dump(family: u8, tell: &mut dyn FnMut(&InetResponse)) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() },
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut buffer = vec![0; BUFFER];
    loop {
        let received = socket.recv(&mut buffer.as_mut_slice(), 0)?;
        let mut rest = buffer.get(..received).unwrap_or_default();
        if rest.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => tell(&response),
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
            // Messages are aligned to four bytes; a length of zero would not end.
            let length = (message.header.length as usize).max(1).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

fn row(response: &InetResponse, netns: u32) -> SocketRow {
    let id = &response.header.socket_id;
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    SocketRow {
        cookie: u64::from_ne_bytes(id.cookie),
        start_ns: 0,
        tgid: 0,
        netns,
        local: address(id.source_address),
        peer: address(id.destination_address),
        local_port: id.source_port,
        peer_port: id.destination_port,
        state: response.header.state,
        padding: [0; 3],
        comm: [0; 16],
    }
}

/// The inode in `socket:[INODE]`, what a socket's descriptor links to.
fn socket_inode(link: &[u8]) -> Option<u32> {
    let digits = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::AsFd as _,
    };

    use super::*;

    #[test]
    fn links_of_descriptors() {
        assert_eq!(socket_inode(b"socket:[4711]"), Some(4711));
        for link in ["socket:[]", "socket:[x]", "socket:[1", "pipe:[1]", "/dev/null", "socket:[99999999999]"] {
            assert_eq!(socket_inode(link.as_bytes()), None, "{link}");
        }
    }

    /// A listener and both ends of a connection to it, each with its cookie, address and this process as its owner.
    fn found_with(address: &str) {
        let listener = TcpListener::bind(address).unwrap();
        let server = listener.local_addr().unwrap();
        let client = TcpStream::connect(server).unwrap();
        let accepted = listener.accept().unwrap().0;
        let rows = SockDiag::new("/proc").sockets().unwrap();
        let mapped = |address: IpAddr| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        let cookie = |fd| rustix::net::sockopt::socket_cookie(fd).unwrap();
        let expected = [
            (cookie(listener.as_fd()), server.port(), 0, 10),
            (cookie(client.as_fd()), client.local_addr().unwrap().port(), server.port(), 1),
            (cookie(accepted.as_fd()), server.port(), client.local_addr().unwrap().port(), 1),
        ];
        let clock = StartClock::of_system();
        let own = Stat::read(&Procfs::new("/proc"), std::process::id()).unwrap();
        for (cookie, local, peer, state) in expected {
            let row = rows.iter().find(|row| row.cookie == cookie).unwrap_or_else(|| panic!("{local} is not listed"));
            assert_eq!((row.local_port, row.peer_port, row.state, row.tgid), (local, peer, state, std::process::id()));
            assert_eq!((row.local, row.start_ns), (mapped(server.ip()), clock.start_ns(own.start_ticks)));
            assert_eq!(u64::from(row.netns), fs::metadata("/proc/self/ns/net").unwrap().ino());
            assert!(row.comm.starts_with(&own.comm[..own.comm.len().min(15)]));
        }
    }

    #[test]
    fn sockets_of_this_process_are_found() {
        found_with("127.0.0.1:0");
        found_with("[::1]:0");
    }
}
