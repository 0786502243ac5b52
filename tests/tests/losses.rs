//! A network that loses packets: what is sent again comes late, out of order, or cut in another way. No call may be missed for that, and
//! nothing false be said.

use std::{net::IpAddr, path::Path};

use auditor_tests::{
    clients::ClientKind,
    namespace::{enter_lossy, resent},
    oracle::{AMPLE, judge},
    plan::Planner,
    rig::{BACKEND, Rig},
    servers::ServerKind,
    tls,
};

/// Of so many packets one is lost.
const LOST_OF: u32 = 40;
/// Of a hundred calls or connections so many may be left open.
const OPEN_PERCENT: usize = 2;

#[test]
fn nothing_false_is_said_of_calls_where_packets_are_lost() {
    let _lossy = enter_lossy(LOST_OF).unwrap();
    let addresses: [IpAddr; 2] = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    let client = Path::new(env!("CARGO_BIN_EXE_oracle-client"));
    let mut rig = Rig::start(&ServerKind::ALL, &ClientKind::ALL, &addresses, None, client).unwrap();
    let mut planner = Planner::new(BACKEND);
    for server in rig.servers() {
        for client in ClientKind::ALL {
            for target in server.sockets() {
                planner.mix(client, server.kind(), *target, 2, 18);
            }
        }
        planner.splits(ClientKind::Rust, server.kind(), server.sockets()[0]);
    }
    // Of heads beyond what is copied the kernel may have had its fill before what was lost comes again.
    planner.tolerate_losses();
    let planned = planner.planned();
    let comparison = judge(&mut rig, &[], &planned, AMPLE).unwrap();
    assert!(comparison.holds(), "{} differences, printed above", comparison.differences.len());
    let open = comparison.counts.values().fold(0, |open, count| {
        let unknown = count.unknown.iter().filter(|(reason, _)| **reason != "head-truncated");
        open + count.missing + unknown.map(|(_, count)| count).sum::<usize>()
    });
    assert!(open * 100 <= planned.len() * OPEN_PERCENT, "{open} of {} calls were left open", planned.len());
    assert!(resent().unwrap() > 0, "nothing was lost: the test tests nothing");
}

#[test]
fn nothing_false_is_said_of_tls_connections_where_packets_are_lost() {
    use tls::{
        clients::ClientKind,
        oracle::{self, Lost},
        plan::matrix,
        rig::Rig,
        servers::ServerKind,
    };

    let _lossy = enter_lossy(LOST_OF).unwrap();
    let planned = matrix(&ClientKind::ALL, &ServerKind::ALL);
    let rust = Path::new(env!("CARGO_BIN_EXE_oracle-tls"));
    let mut rig = Rig::start(&ServerKind::ALL, &ClientKind::ALL, rust).unwrap();
    let observed = oracle::observe(&mut rig, &planned, Lost::Packets).unwrap();
    let comparison = oracle::judge(&rig, &planned, &observed).unwrap();
    assert!(comparison.holds(), "{} differences, printed above", comparison.differences.len());
    let open = comparison.left_open();
    assert!(open * 100 <= planned.len() * OPEN_PERCENT, "{open} of {} connections were left open", planned.len());
    assert!(resent().unwrap() > 0, "nothing was lost: the test tests nothing");
}
