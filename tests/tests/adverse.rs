//! What is said where not everything can be seen: it may be less, it may not be false.

use std::{net::IpAddr, path::Path};

use auditor_tests::{
    clients::ClientKind,
    oracle::{AMPLE, judge},
    plan::Planner,
    rig::{BACKEND, Rig},
    servers::ServerKind,
};

fn rust_client() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_oracle-client"))
}

#[test]
fn heads_behind_the_end_of_a_body_are_right_or_explicitly_unknown() {
    let addresses: [IpAddr; 1] = ["127.0.0.1".parse().unwrap()];
    let clients = [ClientKind::Python, ClientKind::Rust];
    let mut rig = Rig::start(&ServerKind::ALL, &clients, &addresses, None, rust_client()).unwrap();
    let mut planner = Planner::new(BACKEND);
    for server in rig.servers() {
        for client in clients {
            planner.hidden(client, server.kind(), server.sockets()[0], 20);
        }
    }
    let comparison = judge(&mut rig, &[], &planner.planned(), AMPLE).unwrap();
    assert!(comparison.holds(), "{} differences, printed above", comparison.differences.len());
}

#[test]
fn nothing_false_is_said_while_records_are_lost() {
    let addresses: [IpAddr; 2] = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    let mut rig = Rig::start(&ServerKind::ALL, &ClientKind::ALL, &addresses, None, rust_client()).unwrap();
    let mut planner = Planner::new(BACKEND);
    for server in rig.servers() {
        for client in ClientKind::ALL {
            for target in server.sockets() {
                planner.mix(client, server.kind(), *target, 2, 18);
            }
        }
    }
    planner.tolerate_losses();
    let comparison = judge(&mut rig, &[], &planner.planned(), "256KiB").unwrap();
    assert!(comparison.holds(), "{} differences, printed above", comparison.differences.len());
    let (missing, unknown) = comparison.counts.values().fold((0, 0), |(missing, unknown), count| {
        (missing + count.missing, unknown + count.unknown.values().sum::<usize>())
    });
    assert!(missing + unknown > 0, "nothing was lost with the smallest ring: the test tests nothing");
}
