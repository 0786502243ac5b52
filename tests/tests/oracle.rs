//! The oracle: thousands of calls by real clients to real servers, every one known in every detail, against what the auditor says
//! of them.

use std::{net::IpAddr, path::Path};

use auditor_tests::{
    clients::ClientKind,
    dnat::Dnat,
    oracle::{AMPLE, judge},
    plan::{Planned, Planner},
    rig::{BACKEND, Rig},
    servers::ServerKind,
};

fn rust_client() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_oracle-client"))
}

#[test]
fn every_call_of_every_client_to_every_server_is_judged_once_and_right() {
    let addresses: [IpAddr; 2] = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    let mut rig = Rig::start(&ServerKind::ALL, &ClientKind::ALL, &addresses, None, rust_client()).unwrap();
    let mut planner = Planner::new(BACKEND);
    for server in rig.servers() {
        for client in ClientKind::ALL {
            for target in server.sockets() {
                planner.mix(client, server.kind(), *target, 2, 18);
            }
        }
        let first = server.sockets()[0];
        planner.splits(ClientKind::Rust, server.kind(), first);
        planner.proofs(ClientKind::Curl, server.kind(), first);
        // An IPv6 socket that speaks IPv4.
        let IpAddr::V4(v4) = first.ip() else { panic!("the first address is IPv4") };
        let mapped = (IpAddr::from(v4.to_ipv6_mapped()), first.port()).into();
        planner.mix(ClientKind::Rust, server.kind(), mapped, 1, 10);
    }
    let planned = planner.planned();
    assert!(planned.len() >= 2000, "{} calls are too few", planned.len());
    let comparison = judge(&mut rig, &[], &planned, AMPLE).unwrap();
    assert!(comparison.holds(), "{} differences, printed above", comparison.differences.len());
}

#[test]
fn connections_older_than_the_auditor_are_judged_from_their_next_head() {
    let clients = [ClientKind::Python, ClientKind::Node, ClientKind::Go, ClientKind::Java, ClientKind::Rust];
    let addresses: [IpAddr; 2] = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    let mut rig = Rig::start(&ServerKind::ALL, &clients, &addresses, None, rust_client()).unwrap();
    let mut planner = Planner::new(BACKEND);
    for server in rig.servers() {
        for client in clients {
            for target in server.sockets() {
                planner.proofs(client, server.kind(), *target);
            }
        }
    }
    let planned = planner.planned();
    // The first call of each connection goes out before the auditor is there.
    let (before, after): (Vec<Planned>, Vec<Planned>) =
        planned.chunks(13).fold(Default::default(), |(mut a, mut b), calls| {
            a.push(calls[0].clone());
            b.extend_from_slice(&calls[1..]);
            (a, b)
        });
    let comparison = judge(&mut rig, &before, &after, AMPLE).unwrap();
    assert!(comparison.holds(), "{} differences, printed above", comparison.differences.len());
}

#[test]
fn calls_between_namespaces_through_dnat_are_one_exchange_with_both_processes() {
    let Dnat { rig, planned, .. } = &mut Dnat::start(rust_client()).unwrap();
    let comparison = judge(rig, &[], planned, AMPLE).unwrap();
    assert!(comparison.holds(), "{} differences, printed above", comparison.differences.len());
}
