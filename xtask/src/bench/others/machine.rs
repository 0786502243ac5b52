//! The machine's own kernel: rounds with and without each watcher in turn.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    super::{
        Options, each, micros,
        rig::{
            Load, Observer, Running, cpu_seconds_of, family, fixed_rate, flat_out, flat_out_tls, resident_mebibytes,
        },
        server::Server,
        table::quartiles,
    },
    absent, markdown,
    watchers::{Kind, Said, Watcher, all, reason},
};
use crate::{
    process::{find, root, say},
    vm::initramfs::libraries,
};

/// What compiles takes seconds to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// What has fallen behind may take longer than the round to catch up.
const CATCH_UP: Duration = Duration::from_mins(1);
const HEAD: [&str; 11] = [
    "watcher",
    "says of a call",
    "exchanges/s, with / without (quartiles)",
    "its CPU per exchange, flat out, us",
    "seen, flat out",
    "lost, flat out",
    "its CPU per exchange, fixed rate, us",
    "server CPU per exchange, fixed rate, with / without",
    "resident, MiB",
    "ready after, s",
    "program and libraries, MiB",
];

/// A round beside a watcher.
struct Watched {
    load: Load,
    server_cpu: f64,
    cpu: f64,
    said: Said,
    resident: f64,
    start: f64,
}

/// A round without, and one with.
type Pair = ((Load, f64), Watched);

/// The table of all watchers.
///
/// # Errors
/// When a part of the rig fails.
pub(super) fn measure(options: Options, auditor: &Path) -> Result<String> {
    let folder = root().join("target/bench");
    let rig = Rig { options, auditor: auditor.to_path_buf(), server: Server::start(&folder)?, folder };
    // Warms the server and the processors' clocks.
    flat_out(rig.server.port, 1)?;
    let rows = all().iter().map(|watcher| rig.row(watcher)).collect::<Result<Vec<_>>>()?;
    Ok(markdown(&HEAD, &rows))
}

struct Rig {
    options: Options,
    auditor: PathBuf,
    folder: PathBuf,
    server: Server,
}

impl Rig {
    fn row(&self, watcher: &Watcher) -> Result<Vec<String>> {
        if let Err(error) = self.start(watcher) {
            say(format!("{} does not start", watcher.name));
            return Ok(absent(&watcher.name, &reason(&format!("{error:#}")), HEAD.len()));
        }
        let seconds = self.options.seconds;
        let tls = watcher.kind == Kind::Sslsniff;
        let most =
            || if tls { flat_out_tls(self.server.tls_port, seconds) } else { flat_out(self.server.port, seconds) };
        let flat = self.pairs(watcher, "flat out", &most)?;
        // h2load makes calls in clear only; what looks into TLS is asked under wrk's load.
        let fixed = match tls {
            true => Vec::new(),
            false => self.pairs(watcher, "fixed rate", &|| fixed_rate(self.server.port, self.options.rate, seconds))?,
        };
        let mut row = cells(watcher, &flat, &fixed);
        let program = if watcher.kind == Kind::Auditor { Some(self.auditor.clone()) } else { find(watcher.program) };
        row.push(format!("{:.0}", size_mebibytes(&program.context("it has just run")?)?));
        Ok(row)
    }

    fn pairs(&self, watcher: &Watcher, name: &str, load: &dyn Fn() -> Result<Load>) -> Result<Vec<Pair>> {
        let mut pairs = Vec::new();
        for round in 0..self.options.rounds {
            say(format!("{}, {name}: pair {} of {}", watcher.name, round + 1, self.options.rounds));
            pairs.push(if round % 2 == 0 {
                let without = self.bare(load)?;
                (without, self.watched(watcher, load)?)
            } else {
                let with = self.watched(watcher, load)?;
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

    fn watched(&self, watcher: &Watcher, load: &dyn Fn() -> Result<Load>) -> Result<Watched> {
        let begin = Instant::now();
        let live = self.start(watcher)?;
        let start = begin.elapsed().as_secs_f64();
        let before = live.settled()?;
        let (load, server_cpu) = self.bare(load)?;
        let after = live.settled()?;
        let resident = family(live.pid()).into_iter().filter_map(|pid| resident_mebibytes(pid).ok()).sum();
        let said = live.end(watcher.kind)?;
        Ok(Watched { load, server_cpu, cpu: after - before, said, resident, start })
    }

    fn start(&self, watcher: &Watcher) -> Result<Live> {
        if watcher.kind == Kind::Auditor {
            let hook = watcher.command(0, "", "").pop().context("the auditor's command ends with its hook")?;
            let observer = Observer::start_with(&self.auditor, &self.folder, &["--capture", &hook])?;
            let before = observer.counters()?;
            return Ok(Live::Auditor {
                observer,
                before: Said { seen: Some(before.exchanges), of: None, lost: Some(before.lost) },
            });
        }
        let words = watcher.command(self.server.port, &self.server.worker()?.to_string(), "");
        Live::start(watcher.kind, &words, &self.folder)
    }
}

/// A watcher that watches.
enum Live {
    Auditor { observer: Observer, before: Said },
    Other { process: Running, output: PathBuf, log: PathBuf },
}

impl Live {
    fn start(kind: Kind, words: &[String], folder: &Path) -> Result<Self> {
        let (output, log) = (folder.join("watcher.out"), folder.join("watcher.log"));
        let program =
            find(&words[0]).with_context(|| format!("{} is not found: run `cargo xtask setup --tests`", words[0]))?;
        let mut command = Command::new(program);
        command.args(&words[1..]).stdout(File::create(&output)?).stderr(File::create(&log)?);
        let mut process = Running::spawn(&mut command)?;
        let end = Instant::now() + PATIENCE;
        loop {
            let said = [&log, &output].map(|file| text(file)).concat();
            if said.contains(kind.ready()) {
                return Ok(Self::Other { process, output, log });
            }
            if process.ended() || Instant::now() > end {
                bail!("{said}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Auditor { observer, .. } => observer.pid(),
            Self::Other { process, .. } => process.pid(),
        }
    }

    /// Its CPU seconds once it has nothing more to do.
    fn settled(&self) -> Result<f64> {
        let end = Instant::now() + CATCH_UP;
        let mut last = cpu_seconds_of(&family(self.pid()))?;
        loop {
            thread::sleep(Duration::from_millis(500));
            let now = cpu_seconds_of(&family(self.pid()))?;
            // A tick of the clock or two is what waiting costs.
            if now - last < 0.025 || Instant::now() > end {
                return Ok(now);
            }
            last = now;
        }
    }

    /// Ends it and returns what it says of itself.
    fn end(self, kind: Kind) -> Result<Said> {
        match self {
            Self::Auditor { observer, before } => {
                let now = observer.settled()?;
                let since = |now: f64, before: Option<f64>| before.map(|before| now - before);
                Ok(Said { seen: since(now.exchanges, before.seen), of: None, lost: since(now.lost, before.lost) })
            }
            Self::Other { mut process, output, log } => {
                process.interrupt(CATCH_UP);
                let output = text(&output);
                let marked = output.lines().filter(|line| line.starts_with(kind.marks())).count();
                let said = kind.said(f64::from(u32::try_from(marked)?), &format!("{}\n{output}", text(&log)));
                Ok(said)
            }
        }
    }
}

/// Size of a program and the shared libraries it loads, MiB.
fn size_mebibytes(program: &Path) -> Result<f64> {
    let files = [program.to_path_buf()].into_iter().chain(libraries(program));
    let bytes: u64 = files.map(|file| Ok(fs::metadata(file)?.len())).sum::<Result<_>>()?;
    Ok(f64::from(u32::try_from(bytes >> 10)?) / 1024.0)
}

/// What a file holds; a watcher may print bytes that are no text.
fn text(file: &Path) -> String {
    fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn cells(watcher: &Watcher, flat: &[Pair], fixed: &[Pair]) -> Vec<String> {
    let spread = |values: &[f64], digits: usize| {
        let [low, median, high] = quartiles(values);
        format!("{median:.digits$} ({low:.digits$} - {high:.digits$})")
    };
    let cpu = |pairs: &[Pair]| match pairs {
        [] => "–".to_owned(),
        pairs => spread(&each(pairs, |(_, with)| micros(with.cpu, with.load.requests)), 2),
    };
    let server = match fixed {
        [] => "–".to_owned(),
        fixed => spread(
            &each(fixed, |(without, with)| (with.server_cpu / with.load.requests) / (without.1 / without.0.requests)),
            2,
        ),
    };
    let lost: Option<f64> = flat.iter().map(|(_, with)| with.said.lost).sum();
    let middle = |value: fn(&Watched) -> f64| quartiles(&each(flat, |(_, with)| value(with)))[1];
    vec![
        watcher.name.clone(),
        watcher.gives.to_owned(),
        spread(&each(flat, |(without, with)| with.load.rate / without.0.rate), 3),
        cpu(flat),
        share(flat),
        lost.map_or_else(|| "does not say".to_owned(), |lost| format!("{lost:.0}")),
        cpu(fixed),
        server,
        format!("{:.0}", middle(|with| with.resident)),
        format!("{:.2}", middle(|with| with.start)),
    ]
}

/// What was seen of what there was: a tool that drops looks cheap.
fn share(pairs: &[Pair]) -> String {
    let seen: Option<f64> = pairs.iter().map(|(_, with)| with.said.seen).sum();
    let all: f64 = pairs.iter().map(|(_, with)| with.said.of.unwrap_or(with.load.requests)).sum();
    seen.map_or_else(|| "does not say".to_owned(), |seen| format!("{:.1} %", 100.0 * seen / all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(rate: f64, said: Said) -> Pair {
        let with = Load { requests: 1000.0, rate };
        let without = Load { requests: 2000.0, rate: 100.0 };
        ((without, 0.02), Watched { load: with, server_cpu: 0.015, cpu: 0.005, said, resident: 30.0, start: 0.25 })
    }

    #[test]
    fn a_row_has_ratio_cost_share_and_losses() {
        let said = Said { seen: Some(900.0), of: None, lost: Some(100.0) };
        let pairs = [pair(50.0, said), pair(60.0, said), pair(70.0, said)];
        let row = cells(&all()[0], &pairs, &pairs);
        assert_eq!(row.len() + 1, HEAD.len(), "the program's size comes last");
        assert_eq!(row[2], "0.600 (0.550 - 0.650)");
        assert_eq!(row[3..6], ["5.00 (5.00 - 5.00)", "90.0 %", "300"]);
        assert_eq!(row[7], "1.50 (1.50 - 1.50)");
        assert_eq!(row[8..], ["30", "0.25"]);
    }

    #[test]
    fn what_is_not_said_is_not_made_up() {
        let row = cells(&all()[0], &[pair(50.0, Said::default())], &[]);
        assert_eq!(row[4..8], ["does not say", "does not say", "–", "–"]);
        let said = Said { seen: Some(50.0), of: Some(200.0), lost: Some(150.0) };
        assert_eq!(share(&[pair(50.0, said)]), "25.0 %");
    }
}
