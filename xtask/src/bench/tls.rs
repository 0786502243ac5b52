//! What the auditor costs TLS connections: handshakes, bulk, and a packet of a connection it no longer looks at.

use std::{
    fs::File,
    hint::black_box,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Bench, Statistics, bulk, each,
    programs::{Program, Switch},
    rig::{LOAD_CPU, Load, Observer, Running},
    table::Row,
};
use crate::process::{find, read, run, say};

/// The server's certificate and key, made for each bench.
pub(crate) const CERTIFICATE: &str = "certificate.pem";
pub(crate) const KEY: &str = "key.pem";
/// A file of zeros, read over and over on one connection.
pub(crate) const BULK: &str = "bulk";
const BULK_BYTES: u64 = 64 << 20;
/// More than any run reads; the client is ended.
const BULK_TIMES: u32 = 1_000_000;
/// Time for a connection's handshake and first records to pass.
const WARM_UP: Duration = Duration::from_millis(300);

/// Makes a certificate that nobody else trusts, and the file for bulk.
///
/// # Errors
/// When openssl is missing or fails.
pub(crate) fn certificate(folder: &Path) -> Result<()> {
    let openssl = find("openssl").context("openssl is missing: run `cargo xtask setup --tests`")?;
    let mut command = Command::new(openssl);
    command.args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=bench", "-newkey", "ec"]);
    command.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", KEY, "-out", CERTIFICATE]);
    // It draws its progress.
    run(command.current_dir(folder).stderr(File::create(folder.join("openssl.log"))?))?;
    Ok(File::create(folder.join(BULK))?.set_len(BULK_BYTES)?)
}

impl Bench {
    /// The rows over TLS.
    ///
    /// # Errors
    /// When a part of the rig fails.
    pub(super) fn tls_rows(&self) -> Result<Vec<Row>> {
        let port = self.server.tls_port;
        let handshakes = self.pairs("TLS handshakes", &|| handshakes(port, self.options.seconds))?;
        let bulk = self.bulk()?;
        let lost = bulk.lost + handshakes.iter().map(|(_, with)| with.counted.lost).sum::<f64>();
        let mut rows = vec![
            Row::spread("TLS handshakes, without the auditor", "/s", 0, &each(&handshakes, |pair| pair.0.0.rate)),
            Row::spread(
                "TLS handshakes, with / without",
                "ratio",
                3,
                &each(&handshakes, |(without, with)| with.load.rate / without.0.rate),
            ),
            Row::spread("bulk over TLS, without the auditor", "MiB/s", 0, &bulk.without),
            Row::spread("bulk over TLS, with / without", "ratio", 3, &bulk.ratios).at_least(0.98),
            Row::interval("bulk over TLS, with / without: the median lies within", "ratio", 3, &bulk.ratios),
            Row::interval(
                "bulk over TLS, with empty programs / without: the median lies within",
                "ratio",
                3,
                &bulk.empty,
            ),
            Row::interval("bulk over TLS, without / without: the median lies within", "ratio", 3, &bulk.control),
            Row::value("auditor CPU beside the transfer", "% of a processor", 2, bulk.auditor_share * 100.0),
            Row::value("records lost, TLS", "records", 0, lost).at_most(0.0),
        ];
        rows.extend(self.muted_rows()?);
        Ok(rows)
    }

    /// Time in the kernel programs while one connection carries bulk: nearly every packet of the machine is one of a muted socket.
    fn muted_rows(&self) -> Result<Vec<Row>> {
        say("packets of muted connections");
        let _statistics = Statistics::on()?;
        let observer = Observer::start(&self.auditor, &self.folder)?;
        let mut costs = Vec::new();
        for _ in 0..self.options.rounds {
            let mut transfer = Running::start(&mut download(self.server.tls_port))?;
            thread::sleep(WARM_UP);
            let (before, runs_before) = observer.program_runs()?;
            thread::sleep(WARM_UP);
            let (after, runs_after) = observer.program_runs()?;
            ensure!(!transfer.ended(), "the transfer was over too soon");
            costs.push((after - before) / (runs_after - runs_before));
        }
        drop(observer);
        let clock = clock_nanoseconds();
        let net: Vec<f64> = costs.iter().map(|cost| cost - clock).collect();
        Ok(vec![
            Row::spread("kernel program time per muted packet, with the kernel's clock", "ns", 0, &costs),
            Row::spread("the same of an empty program", "ns", 0, &self.empty_runs()?),
            Row::value("reading the clock", "ns", 0, clock),
            Row::spread("kernel program time per muted packet, less one reading of the clock", "ns", 0, &net)
                .at_most(60.0),
        ])
    }

    /// Nanoseconds of a run of programs that do nothing, in the place of the auditor's and beside the same transfer.
    fn empty_runs(&self) -> Result<Vec<f64>> {
        let nothing = Switch::new(&bulk::cgroup2_root()?, Program::empty()?)?;
        let runs = || {
            let each = nothing.programs.iter().map(Program::runs).collect::<Result<Vec<_>>>()?;
            Ok::<_, anyhow::Error>(each.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1)))
        };
        let measured = || {
            let mut transfer = Running::start(&mut download(self.server.tls_port))?;
            thread::sleep(WARM_UP);
            let before = runs()?;
            thread::sleep(WARM_UP);
            let after = runs()?;
            ensure!(!transfer.ended(), "the transfer was over too soon");
            Ok((after.0 - before.0) * 1e9 / (after.1 - before.1))
        };
        nothing.on()?;
        let costs = (0..self.options.rounds).map(|_| measured()).collect();
        nothing.off();
        costs
    }
}

/// What reading the clock costs here: the kernel reads it before and after a program, so that one reading is part of the time. The
/// least of many short runs: on a busy machine a longer one is interrupted, and what is subtracted must not be too much.
pub(super) fn clock_nanoseconds() -> f64 {
    const RUNS: u32 = 1000;
    const READINGS: u32 = 200;
    let run = |_| {
        let start = Instant::now();
        for _ in 0..READINGS {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: the kernel fills the structure that is passed.
            unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
            black_box(time);
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(READINGS)
    };
    (0..RUNS).map(run).fold(f64::INFINITY, f64::min)
}

/// As many handshakes as one client makes one after the other, none resumed.
fn handshakes(port: u16, seconds: u32) -> Result<Load> {
    let (address, seconds) = (format!("127.0.0.1:{port}"), seconds.to_string());
    let mut command = Command::new("taskset");
    command.args(["-c", LOAD_CPU, "openssl", "s_time", "-connect", &address, "-new", "-time", &seconds]);
    let start = Instant::now();
    let text = read(&mut command)?;
    let requests = parse_s_time(&text).with_context(|| format!("openssl s_time said {text:?}"))?;
    // It tells whole seconds only.
    Ok(Load { requests, rate: requests / start.elapsed().as_secs_f64() })
}

/// The number of connections.
fn parse_s_time(text: &str) -> Option<f64> {
    text.lines().find(|line| line.contains("real seconds"))?.split(' ').next()?.parse().ok()
}

/// Reads without end over one connection.
pub(super) fn download(port: u16) -> Command {
    let url = format!("https://127.0.0.1:{port}/{BULK}?[1-{BULK_TIMES}]");
    let mut command = Command::new("taskset");
    command.args(["-c", LOAD_CPU, "curl", "--silent", "--fail", "--insecure", "--output", "/dev/null", &url]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_time_is_understood() {
        let text = "Collecting connection statistics for 2 seconds\n****\n\n1044 connections in 0.42s; 2485.71 connections/user sec, bytes \
                    read 0\n1044 connections in 3 real seconds, 0 bytes read per connection\n";
        assert_eq!(parse_s_time(text), Some(1044.0));
        assert_eq!(parse_s_time("connect: Connection refused"), None);
    }
}
