//! The demo's soft interior: a gateway, two services and those who call them, all real processes on loopback.
//!
//! `soft-interior --seconds N` prints `ready`, lets them call each other for N seconds, prints how many rounds were made, and
//! ends everything; so it does on SIGINT and SIGTERM.

use std::{
    env,
    io::{Write as _, stdout},
    net::SocketAddr,
    process::{Command, ExitCode},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use auditor_tests::{
    credential::{canary, jwt_of},
    oneshot::curl,
    process::Running,
    servers::{Place, interpreter, nginx},
};
use tempfile::TempDir;

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_signal: i32) {
    STOP.store(true, Ordering::Relaxed);
}

fn main() -> ExitCode {
    match seconds().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soft-interior: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn seconds() -> Result<Duration> {
    let words: Vec<String> = env::args().skip(1).collect();
    match &words[..] {
        [flag, number] if flag == "--seconds" => {
            Ok(Duration::from_secs(number.parse().with_context(|| format!("--seconds {number}: not a number"))?))
        }
        _ => anyhow::bail!("usage: soft-interior --seconds N"),
    }
}

fn run(duration: Duration) -> Result<()> {
    let handler = stop as extern "C" fn(i32) as libc::sighandler_t;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { libc::signal(signal, handler) };
    }
    let directory = TempDir::with_prefix("soft-interior-")?;
    let interior = Interior::start(&directory)?;
    say("ready")?;
    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed() < duration && !STOP.load(Ordering::Relaxed) {
        interior.round()?;
        rounds += 1;
        thread::sleep(Duration::from_millis(200));
    }
    say(&format!("{rounds} rounds"))
}

fn say(line: &str) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// The services and the storefront that calls them all the time.
struct Interior {
    inventory: u16,
    orders: u16,
    gateway: SocketAddr,
    /// Issued for an hour, last week.
    expired: String,
    /// Signed by nobody.
    unsigned: String,
    key: String,
    link_token: String,
    _storefront: Running,
    _gateway: Running,
    _orders: Running,
    _inventory: Running,
}

impl Interior {
    fn start(directory: &TempDir) -> Result<Self> {
        let (inventory_process, inventory) = service(interpreter("python3", "demo/inventory.py")?)?;
        let mut command = interpreter("node", "demo/orders.mjs")?;
        command.arg(inventory.to_string()).env("INVENTORY_PASSWORD", canary());
        let (orders_process, orders) = service(command)?;
        let backend = Some(([127, 0, 0, 1], orders).into());
        let addresses = &[[127, 0, 0, 1].into()];
        let place = Place { addresses, namespace: None, directory: directory.path(), backend };
        let (gateway_process, sockets) = nginx("demo/gateway.conf", place)?;
        let gateway = *sockets.first().context("the gateway listens")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let token = |algorithm: &str, issued: u64, seconds: u64, signature: &str| {
            let claims = format!(
                r#"{{"iss":"https://login.shop.internal","sub":"storefront","aud":"orders","iat":{issued},"exp":{}}}"#,
                issued + seconds
            );
            jwt_of(&format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#), &claims, signature)
        };
        let mut command = interpreter("python3", "demo/storefront.py")?;
        command.arg(gateway.port().to_string()).env("STOREFRONT_TOKEN", token("RS256", now, 600, &canary()));
        let storefront = Running::start("storefront", command)?;
        Ok(Self {
            inventory,
            orders,
            gateway,
            expired: token("RS256", now - 7 * 86_400, 3600, &canary()),
            unsigned: token("none", now, 600, ""),
            key: canary(),
            link_token: canary(),
            _storefront: storefront,
            _gateway: gateway_process,
            _orders: orders_process,
            _inventory: inventory_process,
        })
    }

    /// One call each of those who call now and then.
    fn round(&self) -> Result<()> {
        let Self { inventory, orders, gateway, expired, unsigned, key, link_token, .. } = self;
        let calls = [
            (200, format!("http://{gateway}/healthz"), "GET", String::new()),
            (200, format!("http://127.0.0.1:{inventory}/admin/cache"), "DELETE", String::new()),
            (401, format!("http://127.0.0.1:{inventory}/audit-log"), "GET", String::new()),
            (200, format!("http://127.0.0.1:{inventory}/prices"), "GET", format!("Authorization: Bearer {expired}")),
            (200, format!("http://127.0.0.1:{orders}/export"), "GET", format!("Authorization: Bearer {unsigned}")),
            (200, format!("http://127.0.0.1:{orders}/sync"), "GET", format!("X-API-Key: {key}")),
            (200, format!("http://127.0.0.1:{orders}/reports?access_token={link_token}"), "GET", String::new()),
            (401, format!("http://127.0.0.1:{orders}/orders/17"), "GET", String::new()),
        ];
        for (status, url, method, header) in calls {
            let header = if header.is_empty() { header } else { format!("header = \"{header}\"\n") };
            let format = "write-out = \"%{http_code}\"\noutput = /dev/null\nsilent\nmax-time = 10\n";
            let config = format!("url = \"{url}\"\nrequest = {method}\n{header}{format}");
            let answer = curl(&["--disable", "--config", "-"], &config, None)?.output;
            ensure!(answer == status.to_string(), "{method} {url} answered {answer:?}, not {status}");
        }
        Ok(())
    }
}

/// Starts a service that prints its port.
fn service(command: Command) -> Result<(Running, u16)> {
    let mut process = Running::start(command.get_program().display().to_string(), command)?;
    let port = process.expect_line()?;
    let port = port.parse().with_context(|| format!("{port:?} is no port"))?;
    Ok((process, port))
}
