//! What the auditor costs: rounds with and without it in turn, so that a busy machine slows both alike; then the criterion
//! benches of its parts. Figures are ratios and costs per exchange of one run, never compared with another machine's.

mod bulk;
mod criterion;
mod governed;
mod http2;
#[expect(dead_code, unreachable_pub, reason = "the tests' own: here only what a process holds is asked for")]
#[path = "../../../tests/src/kernel.rs"]
mod kernel;
mod others;
mod programs;
mod rig;
mod server;
pub(crate) mod soak;
mod table;
mod tls;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use self::{
    rig::{Counters, Load, Observer, fixed_rate, flat_out, flat_out_pages},
    server::Server,
    table::Row,
    tls::clock_nanoseconds,
};
use crate::{
    process::{is_root, print, root, say},
    setup, test, trained,
};

/// What to measure.
#[derive(Clone, Copy, clap::Args)]
pub(crate) struct Options {
    /// Pairs of rounds, one with the auditor and one without
    #[arg(long, default_value_t = 6)]
    rounds: u32,
    /// Length of a round
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Requests per second of the fixed-rate rounds
    #[arg(long, default_value_t = 4000)]
    rate: u32,
    /// Only the rounds over TLS
    #[arg(long)]
    tls: bool,
    /// Only the rounds of HTTP/2 and gRPC
    #[arg(long, conflicts_with = "tls")]
    http2: bool,
    /// What tcpdump, tshark and others cost beside the auditor by each of its hooks, here and in a guest
    #[arg(long, conflicts_with_all = ["tls", "http2"])]
    others: bool,
    /// Leave out the criterion benches
    #[arg(long)]
    no_parts: bool,
    /// Do not write the figures into docs/performance.md
    #[arg(long)]
    no_write: bool,
}

/// Connections held open for the measure of memory.
const CONNECTIONS: usize = 10_000;

/// Measures, prints a table and writes it into `docs/performance.md`.
///
/// # Errors
/// When a part of the rig is missing or fails.
pub(crate) fn run_bench(options: Options) -> Result<()> {
    if !is_root() {
        bail!("live capture needs root: run `sudo -E cargo xtask bench`");
    }
    setup::test_programs()?;
    if options.others {
        return others::run_others(options, &test::auditor_or_build()?);
    }
    trained::build()?;
    let rows = Bench::new(options)?.run()?;
    let parts = if options.no_parts { Vec::new() } else { criterion::measure()? };
    print(&table::text(&rows, &parts))?;
    if !options.no_write {
        let file = root().join("docs/performance.md");
        table::write(&file, &rows, &parts, options)?;
        say(format!("written into {}", file.display()));
    }
    Ok(())
}

struct Bench {
    options: Options,
    folder: PathBuf,
    auditor: PathBuf,
    server: Server,
}

/// One round beside the auditor.
struct Watched {
    load: Load,
    server_cpu: f64,
    counted: Counters,
}

impl Bench {
    fn new(options: Options) -> Result<Self> {
        let folder = root().join("target/bench");
        let server = Server::start(&folder)?;
        Ok(Self { options, auditor: trained::auditor(), folder, server })
    }

    fn run(&self) -> Result<Vec<Row>> {
        // Warms the server and the processors' clocks.
        flat_out(self.server.port, 1)?;
        if self.options.tls {
            return self.tls_rows();
        }
        if self.options.http2 {
            return self.http2_rows();
        }
        let mut rows = self.flat_out_rows()?;
        rows.extend(self.governed_rows()?);
        rows.extend(self.pages_rows()?);
        rows.extend(self.fixed_rate_rows()?);
        rows.extend(self.program_rows()?);
        rows.extend(self.http2_rows()?);
        rows.extend(self.tls_rows()?);
        rows.push(self.memory_row()?);
        Ok(rows)
    }

    fn flat_out_rows(&self) -> Result<Vec<Row>> {
        let load = || flat_out(self.server.port, self.options.seconds);
        let pairs = self.pairs("flat out", &load)?;
        let judged: f64 = pairs.iter().map(|(_, with)| with.counted.exchanges).sum();
        let requests: f64 = pairs.iter().map(|(_, with)| with.load.requests).sum();
        let lost: f64 = pairs.iter().map(|(_, with)| with.counted.lost).sum();
        Ok(vec![
            Row::spread(
                "throughput flat out, without the auditor",
                "requests/s",
                0,
                &each(&pairs, |pair| pair.0.0.rate),
            ),
            Row::spread(
                "throughput flat out, with / without",
                "ratio",
                3,
                &each(&pairs, |(without, with)| with.load.rate / without.0.rate),
            )
            .at_least(0.95),
            Row::spread(
                "auditor CPU per exchange, flat out",
                "us",
                2,
                &each(&pairs, |(_, with)| micros(with.counted.cpu_seconds, with.load.requests)),
            )
            .at_most(2.0),
            Row::value("exchanges judged / requests made, flat out", "ratio", 4, judged / requests),
            Row::value("records lost, flat out", "records", 0, lost).at_most(0.0),
        ])
    }

    /// The worker alone is saturated: the load generator's processor has time to spare, as another of a larger machine has.
    fn pages_rows(&self) -> Result<Vec<Row>> {
        let pairs = self.pairs("pages", &|| flat_out_pages(self.server.port, self.options.seconds))?;
        let judged: f64 = pairs.iter().map(|(_, with)| with.counted.exchanges).sum();
        let requests: f64 = pairs.iter().map(|(_, with)| with.load.requests).sum();
        Ok(vec![
            Row::spread("compressed pages, without the auditor", "requests/s", 0, &each(&pairs, |pair| pair.0.0.rate)),
            Row::spread(
                "compressed pages, with / without",
                "ratio",
                3,
                &each(&pairs, |(without, with)| with.load.rate / without.0.rate),
            )
            .at_least(0.95),
            Row::value("exchanges judged / requests made, compressed pages", "ratio", 4, judged / requests),
        ])
    }

    fn fixed_rate_rows(&self) -> Result<Vec<Row>> {
        let rate = self.options.rate;
        let load = || fixed_rate(self.server.port, rate, self.options.seconds);
        let pairs = self.pairs("fixed rate", &load)?;
        let ratio = |(without, with): &((Load, f64), Watched)| {
            (with.server_cpu / with.load.requests) / (without.1 / without.0.requests)
        };
        Ok(vec![
            Row::spread(
                &format!("auditor CPU per exchange at {rate}/s"),
                "us",
                2,
                &each(&pairs, |(_, with)| micros(with.counted.cpu_seconds, with.load.requests)),
            ),
            Row::spread(
                &format!("server CPU per request at {rate}/s, with / without"),
                "ratio",
                3,
                &each(&pairs, ratio),
            ),
            Row::value(
                &format!("exchanges judged / requests made at {rate}/s"),
                "ratio",
                4,
                pairs.iter().map(|(_, with)| with.counted.exchanges).sum::<f64>()
                    / pairs.iter().map(|(_, with)| with.load.requests).sum::<f64>(),
            ),
        ])
    }

    /// Rounds without and with the auditor; which comes first alternates.
    fn pairs(&self, name: &str, load: &dyn Fn() -> Result<Load>) -> Result<Vec<((Load, f64), Watched)>> {
        self.pairs_with(name, load, &|| self.observer())
    }

    /// The same beside another auditor than the usual.
    fn pairs_with(
        &self,
        name: &str,
        load: &dyn Fn() -> Result<Load>,
        observer: &dyn Fn() -> Result<Observer>,
    ) -> Result<Vec<((Load, f64), Watched)>> {
        let mut pairs = Vec::new();
        for round in 0..self.options.rounds {
            say(format!("{name}: pair {} of {}", round + 1, self.options.rounds));
            pairs.push(if round % 2 == 0 {
                let without = self.bare(load)?;
                (without, self.watched(load, &observer()?)?)
            } else {
                let with = self.watched(load, &observer()?)?;
                (self.bare(load)?, with)
            });
        }
        Ok(pairs)
    }

    fn bare(&self, load: &dyn Fn() -> Result<Load>) -> Result<(Load, f64)> {
        let before = self.server.cpu_seconds()?;
        let load = load()?;
        Ok((load, self.server.cpu_seconds()? - before))
    }

    fn observer(&self) -> Result<Observer> {
        Observer::start(&self.auditor, &self.folder)
    }

    fn watched(&self, load: &dyn Fn() -> Result<Load>, observer: &Observer) -> Result<Watched> {
        let before = observer.settled()?;
        let (load, server_cpu) = self.bare(load)?;
        Ok(Watched { load, server_cpu, counted: observer.settled()?.since(before) })
    }

    /// Time in the kernel programs; the kernel's own clock costs some 50 ns a run, so this round counts for nothing else. Of both ends of
    /// a connection one is not copied for long: runs are far more than heads that are copied.
    fn program_rows(&self) -> Result<[Row; 2]> {
        let _statistics = Statistics::on()?;
        say("kernel programs");
        let load = || flat_out(self.server.port, self.options.seconds);
        let counted = self.watched(&load, &self.observer()?)?.counted;
        let net = counted.run_nanoseconds - counted.runs * clock_nanoseconds();
        let copied = "kernel program time of all runs per head copied, less one reading of the clock a run";
        Ok([
            Row::value(
                "kernel program time per run, with the kernel's clock",
                "ns",
                0,
                counted.run_nanoseconds / counted.runs,
            ),
            Row::value(copied, "ns", 0, net / counted.records).at_most(400.0),
        ])
    }

    fn memory_row(&self) -> Result<Row> {
        say(format!("memory with {CONNECTIONS} connections open"));
        raise_open_files()?;
        let observer = self.observer()?;
        let connections: Vec<TcpStream> = (0..CONNECTIONS)
            .map(|_| one_call(self.server.port))
            .collect::<Result<_>>()
            .context("opening connections")?;
        observer.settled()?;
        let resident = observer.resident_mebibytes()?;
        drop(connections);
        Ok(Row::value(&format!("resident memory, {CONNECTIONS} connections open"), "MiB", 1, resident).at_most(64.0))
    }
}

fn each<T>(pairs: &[T], value: impl Fn(&T) -> f64) -> Vec<f64> {
    pairs.iter().map(value).collect()
}

fn micros(seconds: f64, count: f64) -> f64 {
    seconds * 1e6 / count
}

/// Makes a call and keeps the connection.
fn one_call(port: u16) -> Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(15)))?;
    stream.write_all(b"GET /kept HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let mut answer = [0; 512];
    if stream.read(&mut answer)? == 0 {
        bail!("the server closed the connection");
    }
    Ok(stream)
}

/// Both ends of every kept connection are files of some process; ours are ours.
fn raise_open_files() -> Result<()> {
    let wanted = CONNECTIONS as u64 + 1000;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the structure that is passed.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(std::io::Error::last_os_error()).context("getrlimit");
    }
    limit.rlim_cur = limit.rlim_cur.max(wanted);
    limit.rlim_max = limit.rlim_max.max(wanted);
    // SAFETY: the kernel reads the structure that is passed.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(std::io::Error::last_os_error()).context("cannot open ten thousand files");
    }
    Ok(())
}

/// The kernel's statistics on BPF programs, on while this lives.
struct Statistics {
    before: String,
}

const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

impl Statistics {
    fn on() -> Result<Self> {
        let before = fs::read_to_string(STATISTICS).context(STATISTICS)?;
        fs::write(STATISTICS, "1").context(STATISTICS)?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        if let Err(error) = fs::write(Path::new(STATISTICS), self.before.trim()) {
            say(format!("{STATISTICS} stays on: {error}"));
        }
    }
}
