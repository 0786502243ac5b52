//! Clients in one network namespace call a service's address that is translated to servers in another.

use std::{net::SocketAddr, path::Path};

use anyhow::Result;

use crate::{
    clients::ClientKind,
    namespace::{Pair, SERVICE},
    plan::{Planned, Planner},
    rig::{BACKEND, Rig},
    servers::ServerKind,
};

/// Everything set up, and the calls to make.
#[derive(Debug)]
pub struct Dnat {
    /// Servers and clients; before the namespaces, so that they end first.
    pub rig: Rig,
    /// Calls to the service's address over IPv4, and directly over IPv6.
    pub planned: Vec<Planned>,
    _namespaces: Pair,
}

impl Dnat {
    /// Sets namespaces, servers, clients and rules up. `rust` is the path of this crate's `oracle-client`.
    ///
    /// # Errors
    /// When a step fails; what was set up is removed.
    pub fn start(rust: &Path) -> Result<Self> {
        let pair = Pair::create()?;
        let rig = Rig::start(&ServerKind::ALL, &ClientKind::ALL, &pair.addresses, Some(&pair), rust)?;
        let mut planner = Planner::new(BACKEND);
        let mut rules = String::new();
        // Each server has a port of its own on the service's address.
        for (port, server) in (8000_u16..).zip(rig.servers()) {
            let service: SocketAddr = (SERVICE, port).into();
            rules += &format!("ip daddr {SERVICE} tcp dport {port} dnat to {}\n", server.sockets()[0]);
            for client in ClientKind::ALL {
                planner.mix(client, server.kind(), service, 1, 10);
                planner.mix(client, server.kind(), server.sockets()[1], 1, 4);
            }
        }
        let chain = "type nat hook output priority -100;";
        pair.client.nft(&format!("table ip oracle {{\nchain output {{ {chain}\n{rules}}}\n}}"))?;
        Ok(Self { rig, planned: planner.planned(), _namespaces: pair })
    }
}
