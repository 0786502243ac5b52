//! tshark, as the one that captures and as a second opinion.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    process::{PATIENCE, Running, output, until},
    tools::program,
};

/// Lets tshark capture these ports' traffic on loopback while `work` is done.
///
/// # Errors
/// When tshark is missing or fails, or the work does.
pub fn capture(file: &Path, ports: &[u16], work: impl FnOnce() -> Result<()>) -> Result<()> {
    let markers = [TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?];
    let marked = [markers[0].local_addr()?, markers[1].local_addr()?];
    let wanted = ports.iter().copied().chain(marked.iter().map(SocketAddr::port));
    let filter: Vec<String> = wanted.map(|port| format!("tcp port {port}")).collect();
    let mut command = Command::new(program("tshark")?);
    command.args(["-l", "-q", "-i", "lo", "-B", "256", "-f", &filter.join(" or ")]);
    // Printing the port of each packet shows how far it is: packets are in order.
    command.args(["-P", "-T", "fields", "-e", "tcp.dstport", "-w"]).arg(file);
    let mut tshark = Running::start("tshark", command)?;
    let mut reach = |marker: SocketAddr| {
        until("tshark shows a packet to the marker", || {
            drop(TcpStream::connect(marker)?);
            while let Ok(line) = tshark.line(Duration::from_millis(50)) {
                if line.context("tshark ended")? == marker.port().to_string() {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })
    };
    reach(marked[0])?;
    work()?;
    reach(marked[1])?;
    tshark.signal(libc::SIGINT);
    tshark.wait(PATIENCE)?;
    Ok(())
}

/// tshark on a capture. Segments that loopback took out of turn it reads in turn: by itself it leaves out a message whose body
/// has such.
///
/// # Errors
/// When tshark is missing.
pub fn reading(file: &Path) -> Result<Command> {
    let mut command = Command::new(program("tshark")?);
    command.arg("-r").arg(file).args(["-o", "tcp.reassemble_out_of_order:TRUE"]);
    Ok(command)
}

/// Ports of a connection, the client's first.
pub type Ports = (u16, u16);

/// Lengths in bytes of the certificate lists that clients sent to these servers, 0 for an empty one, as tshark reads them with
/// the keys of the connections. Connections in which the client sent no Certificate message are not in it.
///
/// # Errors
/// When tshark is missing or fails.
pub fn client_certificates(file: &Path, keys: &Path, servers: &[u16]) -> Result<BTreeMap<Ports, Vec<usize>>> {
    let mut command = reading(file)?;
    command.arg("-o").arg(format!("tls.keylog_file:{}", keys.display()));
    command.args(servers.iter().flat_map(|port| ["-d".to_owned(), format!("tcp.port=={port},tls")]));
    command.args(["-Y", "tls.handshake.type == 11", "-T", "fields", "-E", "separator=/t"]);
    command.args(["-e", "tcp.srcport", "-e", "tcp.dstport", "-e", "tls.handshake.certificates_length"]);
    let mut lengths: BTreeMap<Ports, Vec<usize>> = BTreeMap::new();
    for line in output(&mut command)?.lines() {
        let cells: Vec<&str> = line.split('\t').collect();
        let [source, destination, length] = cells[..] else { anyhow::bail!("tshark printed {line:?}") };
        let ports: Ports = (source.parse()?, destination.parse()?);
        if servers.contains(&ports.1) {
            let length = length.parse().with_context(|| format!("tshark printed {line:?}"))?;
            lengths.entry(ports).or_default().push(length);
        }
    }
    Ok(lengths)
}
