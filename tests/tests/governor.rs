//! The governor: calls that repeat are passed over, every other call is judged, and all are counted.
//!
//! Nothing here depends on how fast a build is: what the governor makes of a load is tested beside it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use auditor_tests::auditor::Daemon;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const REFUSED: &[u8] = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
const WITH_TOKEN: &[u8] =
    b"GET /items HTTP/1.1\r\nHost: inventory\r\nAuthorization: Bearer an-opaque-token-of-a-workload\r\n\r\n";
/// As long, and without it.
const WITHOUT: &[u8] =
    b"GET /items HTTP/1.1\r\nHost: inventory\r\nX-As-Longgg: Bearer an-opaque-token-of-a-workload\r\n\r\n";
/// With a token of another kind, so that it can be told apart: `{"alg":"ES256"}`, `{"sub":"cart"}`.
const WITH_JWT: &[u8] =
    b"GET /items HTTP/1.1\r\nHost: inventory\r\nAuthorization: Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJjYXJ0In0.c2ln\r\n\r\n";
/// What the server refuses.
const PRIVATE: &[u8] =
    b"GET /private HTTP/1.1\r\nHost: inventory\r\nX-As-Longgg: Bearer an-opaque-token-of-workload\r\n\r\n";
/// Of so many calls one comes without a credential, and one with another, on the same connection.
const ONE_OTHER: u64 = 200;
/// The smallest share: whatever the auditor does exceeds it.
const TINY: &str = "0.001";
/// Load, and what is left of it when it is over, may take long beside other work.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server that answers each request of every connection, by its empty line; `refuses` everything while that is set.
fn serve(refuses: &Arc<AtomicBool>) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let refuses = Arc::clone(refuses);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let refuses = Arc::clone(&refuses);
            thread::spawn(move || answer(stream, &refuses));
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream, refuses: &AtomicBool) {
    let _ = stream.set_nodelay(true);
    let (mut buffer, mut held) = ([0; 4096], Vec::new());
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        held.extend_from_slice(&buffer[..read]);
        while let Some(end) = held.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let refused = refuses.load(Ordering::SeqCst) || held.starts_with(b"GET /private");
            held.drain(..end + 4);
            if stream.write_all(if refused { REFUSED } else { OK }).is_err() {
                return;
            }
        }
    }
}

fn connect(server: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn call(stream: &mut TcpStream, request: &[u8], expected: &[u8]) -> Result<()> {
    stream.write_all(request)?;
    answered(stream, expected)
}

fn answered(stream: &mut TcpStream, expected: &[u8]) -> Result<()> {
    let mut response = vec![0; expected.len()];
    stream.read_exact(&mut response)?;
    ensure!(response == expected, "another answer: {}", String::from_utf8_lossy(&response));
    Ok(())
}

/// What was made, and what the auditor said of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Calls {
    /// With the token that repeats.
    with_token: u64,
    with_jwt: u64,
    without: u64,
    unknown: u64,
    /// Of all of them.
    refused: u64,
    sampled_out: u64,
}

impl Calls {
    fn said(daemon: &Daemon) -> Result<Self> {
        let page = daemon.get("/metrics")?;
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
        let own = std::env::current_exe()?;
        let own = own.file_name().and_then(|name| name.to_str()).context("a name")?.to_owned();
        let judged = |labels: &str| {
            let lines = page.lines().filter(|line| {
                line.starts_with("auditor_exchanges_total{") && line.contains(&own) && line.contains(labels)
            });
            lines.map(value).sum()
        };
        let out = page.lines().find(|line| line.starts_with("auditor_exchanges_sampled_out_total "));
        Ok(Self {
            with_token: judged("credential=\"bearer-opaque\""),
            with_jwt: judged("credential=\"bearer-jwt\""),
            without: judged("verdict=\"unauthenticated\""),
            unknown: judged("verdict=\"unknown\""),
            refused: judged("outcome=\"refused\""),
            sampled_out: out.map_or(0, value),
        })
    }

    fn all(self) -> u64 {
        self.with_token + self.with_jwt + self.without + self.unknown + self.sampled_out
    }
}

/// Waits until all calls that were made are counted.
fn settled(daemon: &Daemon, made: Calls) -> Result<Calls> {
    let start = Instant::now();
    loop {
        let said = Calls::said(daemon)?;
        if said.all() >= made.all() || start.elapsed() > PATIENCE {
            return Ok(said);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Makes calls with a token on one connection, some others between them, and some without a credential on another.
fn load(connections: &mut [TcpStream; 2], calls: u64, made: &mut Calls) -> Result<()> {
    let [mixed, bare] = connections;
    for number in 1..=calls {
        if number % ONE_OTHER == 0 {
            call(mixed, WITHOUT, OK)?;
            call(mixed, WITH_JWT, OK)?;
            call(bare, WITHOUT, OK)?;
            made.without += 2;
            made.with_jwt += 1;
        } else {
            call(mixed, WITH_TOKEN, OK)?;
            made.with_token += 1;
        }
    }
    Ok(())
}

/// Makes calls until some of the last were passed over.
fn until_sampled(daemon: &Daemon, connections: &mut [TcpStream; 2], made: &mut Calls) -> Result<()> {
    let (start, before) = (Instant::now(), Calls::said(daemon)?.sampled_out);
    while Calls::said(daemon)?.sampled_out < before + 200 {
        ensure!(start.elapsed() < PATIENCE, "no sampling: {made:?} {:?}", Calls::said(daemon)?);
        load(connections, ONE_OTHER - 1, made)?;
    }
    Ok(())
}

#[test]
fn what_repeats_is_passed_over_and_nothing_else_and_all_is_counted() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let daemon = Daemon::start(directory.path(), &["--cpu-share", TINY, "--ring-bytes", "128MiB"])?;
    let refuses = Arc::new(AtomicBool::new(false));
    let server = serve(&refuses)?;
    let mut connections = [connect(server)?, connect(server)?];
    let mut made = Calls::default();
    until_sampled(&daemon, &mut connections, &mut made)?;
    load(&mut connections, 20 * ONE_OTHER, &mut made)?;
    until_sampled(&daemon, &mut connections, &mut made)?;
    let said = settled(&daemon, made)?;
    assert_eq!(
        (said.without, said.with_jwt),
        (made.without, made.with_jwt),
        "each of them is judged: {said:?} {made:?}"
    );
    assert_eq!((said.unknown, said.refused), (0, 0), "{said:?}");
    assert_eq!(said.with_token + said.sampled_out, made.with_token, "all are counted: {said:?} {made:?}");

    // What is answered otherwise is seen, from the first such call on.
    until_sampled(&daemon, &mut connections, &mut made)?;
    let before = settled(&daemon, made)?;
    refuses.store(true, Ordering::SeqCst);
    for _ in 0..100 {
        call(&mut connections[0], WITH_TOKEN, REFUSED)?;
        made.with_token += 1;
    }
    drop(connections);
    let said = settled(&daemon, made)?;
    assert_eq!(said.refused, 100, "each refusal is seen: {said:?}");
    assert_eq!(said.sampled_out, before.sampled_out, "none is passed over");
    assert!(said.unknown <= 1, "of one the request was passed over: {said:?}");
    assert_eq!(said.all(), made.all(), "all are counted: {said:?} {made:?}");
    let (status, log) = daemon.stop()?;
    assert!(status.success());
    assert!(log.contains("sampled deeper"), "each step is said: {log}");
    Ok(())
}

#[test]
fn a_client_that_does_not_wait_gets_no_wrong_answers_judged() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let daemon = Daemon::start(directory.path(), &["--cpu-share", TINY, "--ring-bytes", "128MiB"])?;
    let server = serve(&Arc::default())?;
    let mut sampled = [connect(server)?, connect(server)?];
    let mut made = Calls::default();
    until_sampled(&daemon, &mut sampled, &mut made)?;
    for _ in 0..20 {
        let mut connection = connect(server)?;
        for _ in 0..2000 {
            call(&mut connection, WITH_TOKEN, OK)?;
        }
        for _ in 0..20 {
            // Each in a segment of its own, before the first is answered.
            connection.write_all(WITH_TOKEN)?;
            connection.write_all(PRIVATE)?;
            connection.write_all(WITH_TOKEN)?;
            for expected in [OK, REFUSED, OK] {
                answered(&mut connection, expected)?;
            }
        }
    }
    drop(sampled);
    made.with_token += 20 * 2000;
    settled(&daemon, made)?;
    let page = daemon.get("/metrics")?;
    let accepted = "verdict=\"unauthenticated\",outcome=\"accepted\"";
    let wrong: f64 = if page.contains(accepted) { daemon.sample("auditor_exchanges_total", accepted)? } else { 0.0 };
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let right = made.without as f64;
    assert!(wrong <= right, "{wrong} calls to what is refused were judged accepted or were none, not {right}:\n{page}");
    assert!(daemon.stop()?.0.success());
    Ok(())
}

/// Between two looks at an auditor at rest: telling its metrics takes it longer than all else then.
const ASKED: Duration = Duration::from_secs(1);

/// A share that this build exceeds under load, and is well below half of when it is idle.
fn share_between(server: SocketAddr) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let daemon = Daemon::start(directory.path(), &["--cpu-share", "1"])?;
    let measured = |seconds: u64, mut each: Box<dyn FnMut() -> Result<()> + '_>| -> Result<f64> {
        let start = Instant::now();
        // What was measured before this began does not count.
        while start.elapsed() < Duration::from_secs(seconds) {
            each()?;
        }
        daemon.sample("auditor_cpu_share", "")
    };
    let rest = || {
        let _ = daemon.get("/metrics");
        thread::sleep(ASKED);
        Ok(())
    };
    let idle = measured(5, Box::new(rest))?;
    let mut connections = [connect(server)?, connect(server)?];
    let busy = measured(5, Box::new(|| load(&mut connections, ONE_OTHER, &mut Calls::default())))?;
    ensure!(busy > 8.0 * idle, "the load takes {busy} of a core, and nothing takes {idle}");
    assert!(daemon.stop()?.0.success());
    Ok(format!("{:.4}", (busy / 3.0).clamp(0.001, 1.0)))
}

#[test]
fn sampling_ends_when_the_load_does() -> Result<()> {
    let server = serve(&Arc::default())?;
    let share = share_between(server)?;
    let directory = tempfile::tempdir()?;
    let daemon = Daemon::start(directory.path(), &["--cpu-share", &share, "--ring-bytes", "128MiB"])?;
    let mut connections = [connect(server)?, connect(server)?];
    let mut made = Calls::default();
    until_sampled(&daemon, &mut connections, &mut made)?;
    let said = settled(&daemon, made)?;
    let start = Instant::now();
    while daemon.sample("auditor_sampling_step", "")? > 0.0 {
        ensure!(start.elapsed() < PATIENCE, "no recovery: {}", daemon.get("/metrics")?);
        thread::sleep(ASKED);
    }
    let mut again = made;
    load(&mut connections, 300, &mut again)?;
    let after = settled(&daemon, again)?;
    assert_eq!(after.sampled_out, said.sampled_out, "every call is judged again");
    assert_eq!(
        (after.with_token, after.without),
        (said.with_token + again.with_token - made.with_token, again.without)
    );
    let (status, log) = daemon.stop()?;
    assert!(status.success());
    assert!(log.contains("sampled deeper") && log.contains("sampled less"), "each step is said: {log}");
    Ok(())
}

#[test]
fn another_policy_applies_to_what_repeats_at_once() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let policy = directory.path().join("policy.yaml");
    fs::write(&policy, "version: 1\n")?;
    let arguments = ["--cpu-share", TINY, "--ring-bytes", "128MiB", "--policy", policy.to_str().context("a path")?];
    let daemon = Daemon::start(directory.path(), &arguments)?;
    let server = serve(&Arc::default())?;
    let mut connections = [connect(server)?, connect(server)?];
    let mut made = Calls::default();
    until_sampled(&daemon, &mut connections, &mut made)?;
    // Nobody may call it now.
    let rule = "{name: items, match: {path: /items}, require: {proof: mtls}}";
    fs::write(&policy, format!("version: 1\nroutes:\n  - {rule}\n"))?;
    daemon.signal(libc::SIGHUP);
    let start = Instant::now();
    while daemon.sample("auditor_policy_reloads_total", "result=\"ok\"")? < 1.0 {
        ensure!(start.elapsed() < PATIENCE, "the policy was not read again");
        thread::sleep(Duration::from_millis(50));
    }
    let before = Calls::said(&daemon)?;
    for _ in 0..300 {
        call(&mut connections[0], WITH_TOKEN, OK)?;
        made.with_token += 1;
    }
    let said = settled(&daemon, made)?;
    assert_eq!(said.sampled_out, before.sampled_out, "what the new policy finds fault with is judged, each time");
    assert_eq!(said.all(), made.all(), "{said:?} {made:?}");
    assert!(daemon.stop()?.0.success());
    Ok(())
}

#[test]
fn without_a_governor_every_call_is_judged() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let daemon = Daemon::start(directory.path(), &[])?;
    let server = serve(&Arc::default())?;
    let mut made = Calls::default();
    load(&mut [connect(server)?, connect(server)?], 1000, &mut made)?;
    assert_eq!(settled(&daemon, made)?, made);
    assert!(daemon.stop()?.0.success());
    Ok(())
}
