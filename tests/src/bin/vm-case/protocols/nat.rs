//! An address that leads nowhere but through a rule that translates it.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// The service's address: no other machine is asked for it.
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 10);
/// The service's first port; each server has one of its own.
const FIRST: u16 = 8000;

/// Where clients find the servers: each address is translated to one of `servers`.
pub(super) fn translate(servers: &[SocketAddr]) -> Result<Vec<SocketAddr>> {
    let service: Vec<SocketAddr> = (FIRST..).zip(servers).map(|(port, _)| (SERVICE, port).into()).collect();
    let rule =
        |(from, to): (&SocketAddr, &SocketAddr)| format!("ip daddr {SERVICE} tcp dport {} dnat to {to}\n", from.port());
    let rules: String = service.iter().zip(servers).map(rule).collect();
    let table = format!(
        "flush ruleset\ntable ip service {{\nchain output {{ type nat hook output priority -100;\n{rules}}}\n}}\n"
    );
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().context("nft")?;
    nft.stdin.take().context("standard input is piped")?.write_all(table.as_bytes())?;
    ensure!(nft.wait()?.success(), "nft refuses the rules");
    Ok(service)
}
