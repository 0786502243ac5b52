//! What stays of a long run: calls at a fixed rate over connections that come and go, and every few seconds what the auditor holds.

use std::{
    fs,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    rig::{LOAD_CPU, Load, Observer, parse_h2load},
    server::Server,
    table,
};
use crate::{
    process::{is_root, print, read, root, say},
    setup, test,
};

/// How long, and how much.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Options {
    /// Length of the run
    #[arg(long, default_value_t = 60)]
    minutes: u32,
    /// Requests per second
    #[arg(long, default_value_t = 20_000)]
    rate: u32,
    /// Do not write the figures into docs/performance.md
    #[arg(long)]
    no_write: bool,
}

/// Requests on each connection.
const EACH: u32 = 100;
/// Seconds of one run of the load generator; the next begins at once.
const STRETCH: u32 = 10;
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// What stands between these in `docs/performance.md` is written by this.
const MARKERS: [&str; 2] = ["<!-- soak: begin (written by `cargo xtask soak`) -->", "<!-- soak: end -->"];

/// What was seen at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    seconds: f64,
    /// Requests that the load generator has made; it says so at the end of each stretch.
    made: f64,
    judged: f64,
    /// Of those, with the verdict `unknown`: what was lost was theirs.
    unknown: f64,
    /// Of those, with another verdict than that and the only right one.
    wrong: f64,
    lost: f64,
    cpu_seconds: f64,
    resident: f64,
    /// Connections the auditor holds.
    connections: f64,
    /// Entries of the kernel's hash tables that are its own.
    entries: f64,
    /// Those of tables that fill up and then forget what was used least lately: they are shown, and no trend.
    forgetting: f64,
}

/// A figure that must not grow: its name, what it is of a sample, and how much of growth is no trend.
type Held = (&'static str, fn(&Sample) -> f64, f64);

/// Growth within a figure's slack or a twentieth is noise: connections are sampled in the middle of coming and going.
const HELD: [Held; 3] = [
    ("resident memory, MiB", |sample| sample.resident, 1.0),
    ("connections held", |sample| sample.connections, 500.0),
    ("entries of kernel maps", |sample| sample.entries, 500.0),
];

/// Runs the load beside the auditor and says what became of memory, maps, losses and verdicts.
///
/// # Errors
/// When a part of the rig is missing or fails, a call was lost or judged wrong, or what is held has grown.
pub(crate) fn run_soak(options: Options) -> Result<()> {
    ensure!(is_root(), "live capture needs root: run `sudo -E cargo xtask soak`");
    ensure!(options.rate >= EACH && options.minutes > 0, "at least {EACH} requests a second and one minute");
    setup::test_programs()?;
    let auditor = test::auditor_or_build()?;
    let folder = root().join("target/bench");
    let server = Server::start(&folder)?;
    let observer = Observer::start(&auditor, &folder)?;
    let (samples, last) = drive(options, server.port, &observer)?;
    let (table, complaints) = (rows(&samples), complaints(&samples, &last));
    let verdict =
        if complaints.is_empty() { "flat; nothing lost, nothing wrong".to_owned() } else { complaints.join("; ") };
    print(&format!("\n{table}\n{}\n{verdict}", totals(&last)))?;
    if !options.no_write {
        let section = format!(
            "\n{}; {} minutes at {} requests/s, {EACH} on each connection.\n\n{table}\n{}\n\nResult: {verdict}.\n",
            table::machine()?,
            options.minutes,
            options.rate,
            totals(&last)
        );
        let file = root().join("docs/performance.md");
        let document = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let document = table::replace_section(&document, MARKERS, &section)
            .with_context(|| format!("{} lacks the markers {MARKERS:?}", file.display()))?;
        fs::write(&file, document)?;
        say(format!("written into {}", file.display()));
    }
    ensure!(complaints.is_empty(), "{verdict}");
    Ok(())
}

/// Load and samples at once; behind the samples what there was once nothing moved any more.
fn drive(options: Options, port: u16, observer: &Observer) -> Result<(Vec<Sample>, Sample)> {
    let (made, over) = (Mutex::new(0.0), AtomicBool::new(false));
    let start = Instant::now();
    let before = sample(observer, start, 0.0)?;
    let length = Duration::from_secs(60) * options.minutes;
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let result = (|| {
                while start.elapsed() < length {
                    let load = churning(port, options.rate)?;
                    *made.lock().map_err(|_| anyhow::anyhow!("the sampler panicked"))? += load.requests;
                }
                anyhow::Ok(())
            })();
            over.store(true, Ordering::Relaxed);
            result
        });
        let mut samples = Vec::new();
        let mut due = SAMPLE_EVERY;
        while !over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(100));
            if start.elapsed() < due {
                continue;
            }
            due += SAMPLE_EVERY;
            let so_far = made.lock().map_or(0.0, |made| *made);
            let now = sample(observer, start, so_far)?.since(&before);
            say(format!(
                "{:5.0} s  {:5.1} MiB  {:6.0} connections  {:4.0} + {:5.0} entries  {:9.0} judged  {:9.0} made  {:3.0} lost  {:3.0} unknown  {:3.0} wrong",
                now.seconds,
                now.resident,
                now.connections,
                now.entries,
                now.forgetting,
                now.judged,
                now.made,
                now.lost,
                now.unknown,
                now.wrong
            ));
            samples.push(now);
        }
        match load.join() {
            Ok(result) => result?,
            Err(_) => bail!("the load panicked"),
        }
        observer.settled()?;
        let made = made.lock().map_or(0.0, |made| *made);
        Ok((samples, sample(observer, start, made)?.since(&before)))
    })
}

fn sample(observer: &Observer, start: Instant, made: f64) -> Result<Sample> {
    let held = observer.held()?;
    Ok(Sample {
        seconds: start.elapsed().as_secs_f64(),
        made,
        judged: held.judged,
        unknown: held.unknown,
        wrong: held.judged - held.unauthenticated - held.unknown,
        lost: held.counters.lost,
        cpu_seconds: held.counters.cpu_seconds,
        resident: observer.resident_mebibytes()?,
        connections: held.connections,
        entries: held.entries,
        forgetting: held.forgetting,
    })
}

impl Sample {
    /// What was counted since; what is held is as it is.
    fn since(self, before: &Self) -> Self {
        Self {
            judged: self.judged - before.judged,
            unknown: self.unknown - before.unknown,
            wrong: self.wrong - before.wrong,
            lost: self.lost - before.lost,
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            ..self
        }
    }
}

/// `rate` requests per second over connections that are made all the time, each for so many requests.
fn churning(port: u16, rate: u32) -> Result<Load> {
    let url = format!("http://127.0.0.1:{port}/items/42");
    let connections = rate / EACH;
    let (all, requests) = (connections * STRETCH, connections * STRETCH * EACH);
    let mut command = Command::new("taskset");
    command.args(["-c", LOAD_CPU, "h2load", "--h1", "-t1"]);
    command.args(["-c", &all.to_string(), "-r", &connections.to_string(), "-n", &requests.to_string()]);
    let text = read(command.arg(&url))?;
    let load = parse_h2load(&text).with_context(|| format!("h2load said {text:?}"))?;
    ensure!((load.requests - f64::from(requests)).abs() < 0.5, "requests failed: h2load said {text:?}");
    Ok(load)
}

/// Ten samples of the run, as a table.
fn rows(samples: &[Sample]) -> String {
    let mut text = "| after | resident memory | connections held | entries of hash tables | of those that forget | judged | records lost | unknown | wrong |\n\
                    |---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    let step = samples.len().div_ceil(10).max(1);
    for sample in samples.iter().skip(step - 1).step_by(step) {
        text += &format!(
            "| {:.0} s | {:.1} MiB | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |\n",
            sample.seconds,
            sample.resident,
            sample.connections,
            sample.entries,
            sample.forgetting,
            sample.judged,
            sample.lost,
            sample.unknown,
            sample.wrong
        );
    }
    text
}

fn totals(last: &Sample) -> String {
    format!(
        "{:.0} requests made ({:.0} a second), {:.0} judged, {:.0} of them `unknown` and {:.0} wrong, {:.0} records lost; auditor CPU {:.1} us for each, {:.0} % of a core.",
        last.made,
        last.made / last.seconds,
        last.judged,
        last.unknown,
        last.wrong,
        last.lost,
        last.cpu_seconds * 1e6 / last.made,
        last.cpu_seconds * 100.0 / last.seconds
    )
}

/// All that is not as it should be.
fn complaints(samples: &[Sample], last: &Sample) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, value, slack) in HELD {
        let values: Vec<f64> = samples.iter().map(value).collect();
        if let Some((early, late)) = growth(&values, slack) {
            complaints.push(format!("{name} has grown from {early:.1} to {late:.1}"));
        }
    }
    if last.lost > 0.5 {
        complaints.push(format!("{:.0} records were lost", last.lost));
    }
    if last.wrong > 0.5 {
        complaints.push(format!("{:.0} verdicts are wrong", last.wrong));
    }
    if (last.judged - last.made).abs() > 0.5 {
        complaints.push(format!("{:.0} calls were made and {:.0} judged", last.made, last.judged));
    }
    complaints
}

/// The medians of the second quarter, in which all is warm, and of the last, when the last is more by more than `slack` and a
/// twentieth.
fn growth(values: &[f64], slack: f64) -> Option<(f64, f64)> {
    let quarter = values.len() / 4;
    let median = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    };
    let (early, late) = (median(&values[quarter..quarter * 2]), median(&values[values.len() - quarter..]));
    (late > early + slack.max(early / 20.0)).then_some((early, late))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(judged: f64) -> Sample {
        Sample { seconds: 1.0, made: 100.0, judged, resident: 20.0, ..Sample::default() }
    }

    #[test]
    fn a_trend_is_growth_and_warming_up_is_not() {
        let warming: Vec<f64> = (0..40).map(|index| f64::from(index.min(9))).collect();
        assert_eq!(growth(&warming, 1.0), None);
        let leaking: Vec<f64> = (0..40).map(f64::from).collect();
        assert_eq!(growth(&leaking, 1.0), Some((15.0, 35.0)));
        assert_eq!(growth(&leaking, 30.0), None);
        assert_eq!(growth(&[], 1.0), None);
        assert_eq!(growth(&[1.0, 100.0, 3.0], 1.0), None);
    }

    #[test]
    fn every_fault_is_named() {
        let steady = [sample(100.0); 8];
        assert!(complaints(&steady, &sample(100.0)).is_empty());
        assert_eq!(complaints(&steady, &sample(99.0)), ["100 calls were made and 99 judged"]);
        let lossy = Sample { lost: 3.0, wrong: 2.0, ..sample(100.0) };
        assert_eq!(complaints(&steady, &lossy), ["3 records were lost", "2 verdicts are wrong"]);
        let mut grown = steady;
        grown[6].resident = 40.0;
        grown[7].resident = 40.0;
        assert_eq!(complaints(&grown, &sample(100.0)), ["resident memory, MiB has grown from 20.0 to 40.0"]);
    }
}
