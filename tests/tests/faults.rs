//! What goes wrong around the auditor: it is killed, suspended, overrun, held to one processor; cgroups and network namespaces come
//! and go. Then it may say less. It may not say anything false, it leaves nothing behind, and it is right again afterwards.

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, id},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::Result;
use auditor_tests::{
    auditor::{Auditor, Daemon},
    clients::{Answer, ClientKind},
    compare::Comparison,
    credential::canary,
    kernel::{Held, pins},
    loopback::call_inside,
    node::Cgroup,
    oneshot::{curl, feed},
    oracle::{AMPLE, compare, judge_beside},
    plan::{Planned, Planner},
    process::{PATIENCE, until},
    rig::{BACKEND, Rig, require_answers},
    servers::ServerKind,
    tools::program,
};
use serde_json::Value;
use tempfile::TempDir;

const LOOPBACK: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
/// The smallest ring there is.
const TINY: &str = "256KiB";
const SERVERS: [ServerKind; 3] = [ServerKind::Nginx, ServerKind::Python, BACKEND];
const CLIENTS: [ClientKind; 4] = [ClientKind::Python, ClientKind::Go, ClientKind::Curl, ClientKind::Rust];

fn rig(servers: &[ServerKind], clients: &[ClientKind]) -> Result<Rig> {
    let rust = Path::new(env!("CARGO_BIN_EXE_oracle-client"));
    Rig::start(servers, clients, &LOOPBACK, None, rust)
}

/// Mixed calls of every client to every server. Those of two plans are on the same connections, one after the other.
fn mixed(rig: &Rig, connections: usize, calls: usize) -> Planner {
    let mut planner = Planner::new(BACKEND);
    for server in rig.servers() {
        for client in CLIENTS {
            planner.mix(client, server.kind(), server.sockets()[0], connections, calls);
        }
    }
    planner
}

fn lossy(rig: &Rig, connections: usize, calls: usize) -> Vec<Planned> {
    let mut planner = mixed(rig, connections, calls);
    planner.tolerate_losses();
    planner.planned()
}

/// Makes calls a few at a time, so that the smallest ring holds what comes of them.
fn run_slowly(
    rig: &mut Rig,
    auditor: &mut Auditor,
    planned: &[Planned],
    answers: &mut HashMap<String, Answer>,
) -> Result<()> {
    for calls in planned.chunks(8) {
        let came = rig.run(calls)?;
        require_answers(calls, &came)?;
        answers.extend(came);
        auditor.wait_judging()?;
    }
    Ok(())
}

/// Calls that were not judged, or as unknown.
fn unseen(comparison: &Comparison) -> usize {
    comparison.counts.values().map(|count| count.missing + count.unknown.values().sum::<usize>()).sum()
}

/// Waits until a process is stopped (proc_pid_stat(5): the state is the field behind the name in brackets).
fn wait_stopped(pid: u32) -> Result<()> {
    until("the process is stopped", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Ok(stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')).then_some(()))
    })
}

fn suspend(auditor: &Auditor, daemon: &Daemon) -> Result<()> {
    auditor.signal(libc::SIGSTOP);
    daemon.signal(libc::SIGSTOP);
    wait_stopped(auditor.pid())?;
    wait_stopped(daemon.pid())
}

fn resume(auditor: &Auditor, daemon: &Daemon) {
    auditor.signal(libc::SIGCONT);
    daemon.signal(libc::SIGCONT);
}

/// Waits until each of these paths has a record.
fn wait_for<'a>(auditor: &mut Auditor, paths: impl IntoIterator<Item = &'a String>) {
    let paths: Vec<&String> = paths.into_iter().collect();
    let waited = auditor.wait_until(PATIENCE, |records| paths.iter().all(|path| record(records, path).is_some()));
    waited.unwrap_or_else(|error| {
        let missing = paths.iter().filter(|path| record(auditor.records(), path).is_none());
        let missing: Vec<_> = missing.collect();
        panic!("{error:#}: {} of {} calls: {missing:?}\n{}", missing.len(), paths.len(), auditor.log())
    });
}

fn lost(daemon: &Daemon) -> Result<f64> {
    daemon.sample("auditor_capture_lost_total", "reason=\"ring-full\"")
}

/// A path of its own. What is longer looks like a secret, and is not shown.
fn unique(route: &str) -> String {
    format!("{route}/{}", &canary()[..8])
}

/// The record of the call of a path.
fn record<'a>(records: &'a [Value], path: &str) -> Option<&'a Value> {
    records.iter().find(|record| record["request"]["path"] == path)
}

#[test]
fn killed_it_leaves_no_program_link_map_or_pin() {
    let directory = TempDir::new().unwrap();
    let before = pins().unwrap();
    // All that it ever attaches.
    let daemon = Daemon::start(directory.path(), &["--tls-plaintext", "--unix-sockets"]).unwrap();
    let held = Held::by(daemon.pid()).unwrap();
    assert!(held.programs.len() >= 2 && held.links.len() >= 2 && held.maps.len() >= 3, "{held:?}");
    assert_eq!(held.existing().unwrap(), held);
    assert_eq!(pins().unwrap(), before, "it pinned something");
    daemon.kill().unwrap();
    // The kernel frees them a moment after the last reference is gone.
    let mut left = held.clone();
    let freed = until("everything is gone", || {
        left = held.existing()?;
        Ok(left.is_empty().then_some(()))
    });
    freed.unwrap_or_else(|error| panic!("{error:#}: {left:?}"));
    assert_eq!(pins().unwrap(), before);
    // Nothing of it is in the way of the next one, which is stopped in good order.
    let rig = rig(&[ServerKind::Python], &[]).unwrap();
    let mut auditor = Auditor::watch(directory.path(), &[]).unwrap();
    let path = unique("/open");
    curl(&["--disable", "--silent", &format!("http://{}{path}", rig.servers()[0].sockets()[0])], "", None).unwrap();
    wait_for(&mut auditor, [&path]);
    assert_eq!(record(auditor.records(), &path).unwrap()["verdict"], "unauthenticated");
    assert!(auditor.stop().unwrap().status.success());
}

#[test]
fn suspended_it_counts_what_overruns_the_ring_and_judges_again_afterwards() {
    let mut rig = rig(&SERVERS, &CLIENTS).unwrap();
    let mut auditor = Auditor::watch(rig.directory(), &["--ring-bytes", TINY]).unwrap();
    let daemon = Daemon::start(rig.directory(), &["--ring-bytes", TINY]).unwrap();
    let mut answers = HashMap::new();
    let first = lossy(&rig, 2, 6);
    run_slowly(&mut rig, &mut auditor, &first, &mut answers).unwrap();
    let records = || daemon.sample("auditor_capture_records_total", "ring").unwrap();
    let (read_before, lost_before) = (records(), lost(&daemon).unwrap());

    suspend(&auditor, &daemon).unwrap();
    let overrun = lossy(&rig, 2, 80);
    let came = rig.run(&overrun).unwrap();
    require_answers(&overrun, &came).unwrap();
    answers.extend(came);
    resume(&auditor, &daemon);

    auditor.wait_judging().unwrap();
    // Figures are brought up to date once a second.
    let lost_then = until("the losses are told", || Ok(Some(lost(&daemon)? - lost_before).filter(|lost| *lost > 0.0)));
    let (lost_then, read) = (lost_then.unwrap(), records() - read_before);
    eprintln!("{} calls while suspended: {read} records held, {lost_then} lost", overrun.len());
    assert!(lost_then >= 9.0 * read, "{lost_then} records were lost and {read} held: less than ten rings full");
    // The ring is as small as before, and others on the machine may call: again nothing false, if not all.
    let last = lossy(&rig, 4, 6);
    run_slowly(&mut rig, &mut auditor, &last, &mut answers).unwrap();
    let planned = [first, overrun, last].concat();
    let comparison = compare(auditor, &rig, &planned, &answers).unwrap();
    assert!(comparison.holds(), "{} differences, printed above", comparison.differences.len());
    assert!(unseen(&comparison) > 0, "nothing was lost: the test tests nothing");
    let (status, log) = daemon.stop().unwrap();
    assert!(status.success() && log.contains("ring-full"), "{status}: {log}");
}

#[test]
fn nothing_false_is_said_by_one_that_is_suspended_again_and_again() {
    let mut rig = rig(&SERVERS, &CLIENTS).unwrap();
    let auditor = Auditor::watch(rig.directory(), &["--ring-bytes", TINY]).unwrap();
    let daemon = Daemon::start(rig.directory(), &["--ring-bytes", TINY]).unwrap();
    let planned = lossy(&rig, 2, 40);
    let done = AtomicBool::new(false);
    let answers = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let answers = rig.run(&planned);
            done.store(true, Ordering::Relaxed);
            answers
        });
        // It reads a little now and then, so that gaps are everywhere in the connections.
        while !done.load(Ordering::Relaxed) {
            suspend(&auditor, &daemon).unwrap();
            thread::sleep(Duration::from_millis(150));
            resume(&auditor, &daemon);
            thread::sleep(Duration::from_millis(20));
        }
        load.join().expect("no client panics")
    });
    let answers = answers.unwrap();
    require_answers(&planned, &answers).unwrap();
    let comparison = compare(auditor, &rig, &planned, &answers).unwrap();
    assert!(comparison.holds(), "{} differences, printed above", comparison.differences.len());
    assert!(unseen(&comparison) > 0, "nothing was lost: the test tests nothing");
    // Figures are brought up to date once a second.
    until("the losses are told", || Ok((lost(&daemon)? > 0.0).then_some(()))).unwrap();
}

#[test]
fn suspended_with_room_for_all_that_comes_it_judges_every_call_once_it_goes_on() {
    let mut rig = rig(&SERVERS, &CLIENTS).unwrap();
    let auditor = Auditor::watch(rig.directory(), &["--ring-bytes", AMPLE]).unwrap();
    auditor.signal(libc::SIGSTOP);
    wait_stopped(auditor.pid()).unwrap();
    let mut planned = mixed(&rig, 2, 12).planned();
    let mut answers = rig.run(&planned).unwrap();
    auditor.signal(libc::SIGCONT);
    // The same connections go on, and new ones come, while it catches up.
    let more = mixed(&rig, 2, 12).planned();
    answers.extend(rig.run(&more).unwrap());
    planned.extend(more);
    require_answers(&planned, &answers).unwrap();
    let comparison = compare(auditor, &rig, &planned, &answers).unwrap();
    assert!(comparison.holds(), "{} differences, printed above", comparison.differences.len());
    assert_eq!(unseen(&comparison), 0);
}

#[test]
fn held_to_one_processor_it_judges_every_call() {
    let mut rig = rig(&SERVERS, &CLIENTS).unwrap();
    let mut command = Auditor::command(&["--ring-bytes", AMPLE]).unwrap();
    // SAFETY: sched_setaffinity is async-signal-safe; the set is a plain value of the closure.
    unsafe {
        command.pre_exec(|| {
            let mut first: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(0, &mut first);
            match libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const first) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let auditor = Auditor::watch_with(command, rig.directory()).unwrap();
    let allowed = fs::read_to_string(format!("/proc/{}/status", auditor.pid())).unwrap();
    assert!(allowed.lines().any(|line| line == "Cpus_allowed_list:\t0"), "{allowed}");
    let planned = mixed(&rig, 2, 12).planned();
    let comparison = judge_beside(auditor, &mut rig, &planned).unwrap();
    assert!(comparison.holds(), "{} differences, printed above", comparison.differences.len());
    assert_eq!(unseen(&comparison), 0);
}

#[test]
fn callers_in_cgroups_that_come_and_go_are_named_or_left_unnamed() {
    const ROUNDS: usize = 20;
    let rig = rig(&[ServerKind::Python], &[]).unwrap();
    let server = rig.servers()[0].sockets()[0];
    let mut auditor = Auditor::watch(rig.directory(), &["--ring-bytes", AMPLE]).unwrap();
    let mut calls = Vec::new();
    for round in 0..ROUNDS {
        let container: String = format!("{:08x}{round:04x}{}", id(), "a".repeat(52));
        let cgroup = Cgroup::create(&format!("docker-{container}.scope")).unwrap();
        let path = unique("/open");
        let mut command = Command::new(program("curl").unwrap());
        command.args(["--disable", "--silent", "--config", "-", &format!("http://{server}{path}")]);
        let members = cgroup.members().unwrap();
        // SAFETY: write is async-signal-safe, and the descriptor stays open as long as the closure.
        unsafe {
            command.pre_exec(move || {
                use std::io::Write as _;
                // 0 is the process that writes.
                (&members).write_all(b"0")
            });
        }
        let caller = feed(command, "").unwrap().pid;
        // Every other one is gone before the auditor may have looked.
        let waits = round % 2 == 0;
        if waits {
            wait_for(&mut auditor, [&path]);
        }
        drop(cgroup);
        calls.push((path, container, caller, waits));
    }
    wait_for(&mut auditor, calls.iter().map(|(path, ..)| path));
    let finished = auditor.stop().unwrap();
    let mut names = 0;
    for (path, container, caller, waits) in &calls {
        let record = record(&finished.records, path).unwrap();
        assert_eq!(record["verdict"], "unauthenticated", "{record}");
        assert_eq!(record["source"]["process"]["pid"], *caller, "{record}");
        let named = &record["source"]["container"]["id"];
        // A caller ends by itself right after its call, and may do so before it is looked at.
        let gone = !waits || record["source"]["process"]["executable"].is_null();
        assert!(named == container || (gone && named.is_null()), "{container}: {record}");
        names += usize::from(named == container);
    }
    assert!(names > 0, "none was named");
}

#[test]
fn network_namespaces_that_come_and_go_leave_nothing_in_any_map() {
    const WARM_UP: usize = 10;
    const ROUNDS: usize = 60;
    let directory = TempDir::new().unwrap();
    let mut auditor = Auditor::watch(directory.path(), &["--ring-bytes", AMPLE]).unwrap();
    let daemon = Daemon::start(directory.path(), &["--tls-plaintext", "--unix-sockets"]).unwrap();
    let held = Held::by(daemon.pid()).unwrap();
    let calls = |auditor: &mut Auditor, count: usize| {
        let paths: Vec<String> = (0..count).map(|_| unique("/inside")).collect();
        for path in &paths {
            call_inside(path).unwrap();
        }
        wait_for(auditor, &paths);
        paths
    };
    let tracked = || daemon.sample("auditor_tracked", "kind=\"connections\"").unwrap();
    calls(&mut auditor, WARM_UP);
    let (before, tracked_before) = (held.entries().unwrap(), tracked());
    let paths = calls(&mut auditor, ROUNDS);
    // Ended connections are remembered for a moment; others on the machine call, too.
    let few = f64::from(u32::try_from(ROUNDS).unwrap()) / 2.0;
    until("ended connections are forgotten", || Ok((tracked() < tracked_before + few).then_some(()))).unwrap();
    let after = held.entries().unwrap();
    eprintln!("entries by map: {before:?} before, {after:?} after");
    assert!(!before.is_empty(), "no map of {held:?} is a hash table");
    for (map, entries) in &after {
        // Others on the machine use TLS libraries and sockets meanwhile; what leaks leaks with each round.
        let grown = entries.count.saturating_sub(before[map].count);
        assert!(grown < ROUNDS / 10, "map {map} has grown by {grown}");
    }
    let finished = auditor.stop().unwrap();
    for path in &paths {
        let of_path = finished.records.iter().filter(|record| record["request"]["path"] == path.as_str());
        let of_path: Vec<&Value> = of_path.collect();
        assert_eq!(of_path.len(), 1, "{path}: {of_path:?}");
        let record = of_path[0];
        assert_eq!(record["verdict"], "unauthenticated", "{record}");
        for end in ["source", "destination"] {
            assert_eq!(record[end]["process"]["pid"], id(), "{record}");
        }
    }
    // Every namespace had its own, and most had the same ports: none was taken for another.
    assert!(daemon.stop().unwrap().0.success());
}
