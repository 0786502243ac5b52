//! gRPC by real stacks: every client calls every server, and all of it is held against what the auditor says.

use std::{
    env,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use auditor_tests::{
    auditor::{Auditor, port},
    grpc::{
        Client, Server, Stack,
        judge::{Comparison, compare},
        plan::{Leg, Planned, Planner},
    },
    oracle::AMPLE,
    process::PATIENCE,
    servers::{Place, nginx},
};
use serde_json::Value;

/// Rounds of twenty calls by each client to each server.
const ROUNDS: usize = 20;
/// Those once the connections are old.
const LATER: usize = 3;
/// How long connections stay open before they are used again, where [`LONGER`] does not say; clients ask for a sign of life every ten
/// seconds.
const IDLE: Duration = Duration::from_secs(21);
/// The environment variable with the seconds for a run by hand that waits for longer.
const LONGER: &str = "AUDITOR_TESTS_IDLE_SECONDS";
/// One call among so many may end in another way than was planned: of grpc-go, one in 32,000 of two megabytes ended early.
const STRAYS: usize = 1000;

/// Who can be called, each with what it passes calls on to.
type Routes = Vec<Vec<(String, u16)>>;

fn idle() -> Duration {
    let longer = env::var(LONGER).ok();
    longer.map_or(IDLE, |seconds| Duration::from_secs(seconds.parse().expect("a number of seconds")))
}

fn plan(planner: &mut Planner, routes: &Routes, rounds: usize) -> Vec<Planned> {
    for client in Stack::ALL {
        for route in routes {
            let clients = [client.to_string()].into_iter().chain(route.iter().map(|(name, _)| name.clone()));
            let legs =
                clients.zip(route).map(|(client, (server, port))| Leg { client, server: server.clone(), port: *port });
            planner.rounds(&legs.collect::<Vec<_>>(), rounds);
        }
    }
    planner.take()
}

fn make(clients: &mut [Client], planned: &mut [Planned]) {
    for client in clients {
        client.make(planned).expect("the client makes its calls");
    }
    let strayed = planned.iter().filter(|call| call.strayed).count();
    assert!(strayed * STRAYS <= planned.len(), "{strayed} of {} calls did not end as planned", planned.len());
}

/// Whether as many calls as were made were told of; looks at each record once.
fn enough(planned: &[Planned]) -> impl FnMut(&[Value]) -> bool {
    let legs: Vec<u16> = planned.iter().flat_map(|call| call.legs.iter().map(|leg| leg.port)).collect();
    let (mut looked_at, mut told) = (0, 0);
    move |records| {
        let to_us = |record: &&Value| port(record, "destination").is_some_and(|port| legs.contains(&port));
        told += records[looked_at..].iter().filter(to_us).count();
        looked_at = records.len();
        told >= legs.len()
    }
}

fn show(title: &str, comparison: &Comparison, log: &str) {
    eprintln!("{title}: {} streams\n{comparison}\n{log}", comparison.made);
    assert!(comparison.differences.is_empty(), "there are differences, printed above");
}

#[test]
fn every_call_of_every_stack_is_judged_once_and_right() {
    let directory = tempfile::tempdir().unwrap();
    let servers = Stack::ALL.map(|stack| Server::start(stack, directory.path()).unwrap());
    let mut routes: Routes =
        Stack::ALL.iter().zip(&servers).map(|(stack, server)| vec![(stack.to_string(), server.port)]).collect();
    let behind = routes[2][0].clone();
    let place = Place {
        addresses: &["127.0.0.1".parse().unwrap()],
        namespace: None,
        directory: directory.path(),
        backend: Some(SocketAddr::from(([127, 0, 0, 1], behind.1))),
    };
    let (_nginx, sockets) = nginx("servers/grpc.conf", place).unwrap();
    routes.push(vec![("nginx".to_owned(), sockets[0].port()), behind]);
    let mut clients = Stack::ALL.map(|stack| Client::start(stack, directory.path()).unwrap());
    let mut planner = Planner::default();

    let mut auditor = Auditor::watch(directory.path(), &["--ring-bytes", AMPLE]).unwrap();
    let mut first = plan(&mut planner, &routes, ROUNDS);
    make(&mut clients, &mut first);
    let since = Instant::now();
    let mut later = plan(&mut planner, &routes, LATER);
    thread::sleep(idle().saturating_sub(since.elapsed()));
    make(&mut clients, &mut later);
    let planned = [first, later].concat();
    let waited = auditor.wait_until(PATIENCE, enough(&planned));
    let finished = auditor.stop().unwrap();
    let comparison = compare(&planned, &finished.records, false);
    show("connections that were seen from their beginning", &comparison, &finished.log);
    waited.unwrap();
    for stack in Stack::ALL {
        let made: usize =
            ["client", "server"].map(|role| comparison.rows[&(stack.to_string(), role)].made).iter().sum();
        assert!(made >= 5000, "{made} streams of {stack} are too few");
    }
    for (name, row) in &comparison.rows {
        let unknown: usize = row.unknown.values().sum();
        assert!(unknown * 100 <= row.made, "{unknown} of {} streams of {name:?} are unknown", row.made);
    }

    // The same connections, whose compression tables are full of what a new auditor did not see.
    let mut auditor = Auditor::watch(directory.path(), &["--ring-bytes", AMPLE]).unwrap();
    let mut older = plan(&mut planner, &routes, ROUNDS / 2);
    make(&mut clients, &mut older);
    let waited = auditor.wait_until(PATIENCE, enough(&older));
    let finished = auditor.stop().unwrap();
    let comparison = compare(&older, &finished.records, true);
    show("connections that are older than the auditor", &comparison, &finished.log);
    waited.unwrap();
    let judged: usize = comparison.rows.values().map(|row| row.judged).sum();
    assert!(judged > 0, "nothing was judged on older connections");
}
