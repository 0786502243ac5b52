//! The generator by itself: every client makes every kind of call to every server and sees the planned status. What the oracle
//! says of the auditor stands on this.

use std::{net::IpAddr, path::Path};

use auditor_tests::{
    clients::ClientKind,
    dnat::Dnat,
    plan::Planner,
    rig::{BACKEND, Rig, require_answers},
    servers::ServerKind,
};

#[test]
fn every_client_gets_the_planned_status_from_every_server() {
    let addresses: [IpAddr; 2] = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    let rust = Path::new(env!("CARGO_BIN_EXE_oracle-client"));
    let mut rig = Rig::start(&ServerKind::ALL, &ClientKind::ALL, &addresses, None, rust).unwrap();
    let mut planner = Planner::new(BACKEND);
    for server in rig.servers() {
        for client in ClientKind::ALL {
            for target in server.sockets() {
                planner.mix(client, server.kind(), *target, 1, 30);
            }
        }
    }
    let planned = planner.planned();
    let answers = rig.run(&planned).unwrap();
    if let Err(error) = require_answers(&planned, &answers) {
        panic!("{error:#}");
    }
}

#[test]
fn calls_between_namespaces_get_through_the_translation() {
    let Dnat { rig, planned, .. } = &mut Dnat::start(Path::new(env!("CARGO_BIN_EXE_oracle-client"))).unwrap();
    let answers = rig.run(planned).unwrap();
    if let Err(error) = require_answers(planned, &answers) {
        panic!("{error:#}");
    }
}
