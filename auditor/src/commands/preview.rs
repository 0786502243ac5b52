//! What a policy would have said of recorded traffic, and what changes against another.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use super::{Failure, stages};
use crate::{
    attribution::Attributor,
    capture::open::{Replayable, open},
    config::Config,
    judgement::{Judgement, Kind, Party, Severity, Verdict},
    pipeline::{Control, Outputs, Pipeline, Source, WhenFull},
    policy::rulebook::Rulebook,
    sinks::{Look, Sink, shortened},
};

/// Edges whose findings are told apart.
const EDGES: usize = 10_000;
/// Changes that are listed, of each kind.
const LISTED: usize = 40;
const NO_ROUTE: &str = "(no route)";
const VERDICTS: [(Verdict, &str); 5] = [
    (Verdict::Authenticated, "proven"),
    (Verdict::Weak, "weak"),
    (Verdict::Unauthenticated, "none"),
    (Verdict::Exempt, "exempt"),
    (Verdict::Unknown, "unknown"),
];

/// Replays `traffic` by `new` and by `old`, or without a policy, and says what comes of it.
pub(super) fn compare(
    config: &Config,
    traffic: &Path,
    new: Rulebook,
    old: Option<(Rulebook, PathBuf)>,
) -> Result<String, Failure> {
    if traffic.as_os_str() == "-" {
        return Err(Failure::Usage(
            "--replay reads the traffic twice, and standard input only once; name a file".to_owned(),
        ));
    }
    let names: Vec<Arc<str>> = new.route_names().cloned().collect();
    let (old, named) =
        old.map_or((None, "no policy".to_owned()), |(old, file)| (Some(old), file.display().to_string()));
    let after = replayed(config, traffic, Some(new))?;
    let before = replayed(config, traffic, old)?;
    let look = Look::of_stdout();
    let mut text = routes(&after, &names, look);
    text += &changes(&before, &after, &named, look);
    Ok(text)
}

/// What is counted of judgements.
#[derive(Default)]
struct Tally {
    routes: BTreeMap<Arc<str>, OfRoute>,
    findings: BTreeMap<Found, u64>,
    /// Findings on edges past the limit.
    more: u64,
    undecided: BTreeMap<&'static str, u64>,
}

#[derive(Default)]
struct OfRoute {
    verdicts: [u64; VERDICTS.len()],
    findings: u64,
}

/// One finding on one edge; the worst come first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    severity: std::cmp::Reverse<Severity>,
    rule: &'static str,
    edge: String,
}

/// Counts on the pipeline's thread of outputs.
struct Counting(Arc<Mutex<Tally>>);

impl Sink for Counting {
    fn judgement(&mut self, judgement: &Judgement) {
        // Counts are valid after every statement.
        let mut tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = judgement.policy.route.clone().unwrap_or_else(|| NO_ROUTE.into());
        let route = tally.routes.entry(name).or_default();
        if let Some(at) = VERDICTS.iter().position(|(verdict, _)| *verdict == judgement.verdict) {
            route.verdicts[at] += 1;
        }
        route.findings += judgement.findings.len() as u64;
        if let Some(why) = judgement.policy.undecided {
            *tally.undecided.entry(why).or_default() += 1;
        }
        for finding in &judgement.findings {
            let found =
                Found { severity: std::cmp::Reverse(finding.severity), rule: finding.rule, edge: edge(judgement) };
            if tally.findings.len() >= EDGES && !tally.findings.contains_key(&found) {
                tally.more += 1;
            } else {
                *tally.findings.entry(found).or_default() += 1;
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn edge(judgement: &Judgement) -> String {
    let who = |party: &Party| party.workload.as_deref().map_or_else(|| party.address.to_string(), str::to_owned);
    let call = match (&judgement.request, judgement.kind) {
        (Some(request), _) => format!("{} {}", request.method, request.route),
        (None, Kind::Exchange) => "(request not seen)".to_owned(),
        (None, Kind::Connection) => format!("({})", judgement.protocol),
    };
    format!("{} -> {} {call}", who(&judgement.source), who(&judgement.destination))
}

fn replayed(config: &Config, traffic: &Path, policy: Option<Rulebook>) -> Result<Tally, Failure> {
    let mut judge = stages::judge_of_file(config)?;
    if let Some(policy) = policy {
        judge.set_policy(policy);
    }
    let mut source = match open(traffic)? {
        Replayable::Packets(capture) => Source::Segments("pcap", capture),
        Replayable::Recording(recording) => {
            let networks = config.internal_networks.is_some().then(|| stages::file_networks(config));
            Source::Recording(recording, networks)
        }
    };
    let tally = Arc::default();
    let outputs = Outputs::new()
        .with_writer(Counting(Arc::clone(&tally)), WhenFull::Wait)
        .map_err(|source| Failure::System { action: "start a thread", source })?;
    let attributor = Attributor::offline(stages::file_networks(config));
    let mut pipeline = Pipeline::new(stages::tracker(config), attributor, judge, outputs);
    let stop = AtomicBool::new(false);
    let control =
        Control { stop: &stop, duration: None, poll_interval: Duration::from_millis(1), health: None, metrics: None };
    let read = pipeline.run(&mut source, &control);
    drop(pipeline.finish(&mut source));
    read?;
    Ok(std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// The table of routes. Writing to a `String` does not fail: hence the ignored results below.
fn routes(tally: &Tally, names: &[Arc<str>], look: Look) -> String {
    let mut text = format!("{:<22} {:>8}", "route", "calls");
    for (_, word) in VERDICTS {
        let _ = write!(text, " {word:>7}");
    }
    let _ = writeln!(text, " {:>8}", "findings");
    let others = tally.routes.keys().filter(|name| !names.contains(name));
    for name in names.iter().chain(others) {
        let Some(route) = tally.routes.get(name) else { continue };
        let _ = write!(text, "{:<22} {:>8}", shortened(name, 22), route.verdicts.iter().sum::<u64>());
        for count in route.verdicts {
            let _ = write!(text, " {count:>7}");
        }
        let _ = writeln!(text, " {:>8}", route.findings);
    }
    let never: Vec<&str> = names.iter().filter(|name| !tally.routes.contains_key(*name)).map(|name| &**name).collect();
    if !never.is_empty() {
        let _ = write!(text, "\n{}", look.wrap(&format!("Routes that no call took: {}", never.join(", ")), 0));
    }
    for (why, count) in &tally.undecided {
        let _ = write!(text, "\n{}", look.wrap(&format!("Not decided for {count} calls: {why}."), 0));
    }
    text
}

fn changes(before: &Tally, after: &Tally, named: &str, look: Look) -> String {
    let mut text = format!("\n{}", look.wrap(&format!("What changes against {named}"), 0));
    let more_than = |one: &Tally, other: &Tally| -> Vec<(Found, u64)> {
        let more = one.findings.iter().filter_map(|(found, count)| {
            let more = count.saturating_sub(other.findings.get(found).copied().unwrap_or_default());
            (more > 0).then(|| (found.clone(), more))
        });
        more.collect()
    };
    let (added, removed) = (more_than(after, before), more_than(before, after));
    if added.is_empty() && removed.is_empty() {
        text.push_str("Nothing.\n");
    }
    for (sign, list) in [('+', &added), ('-', &removed)] {
        for (Found { severity, rule, edge }, count) in list.iter().take(LISTED) {
            let _ = writeln!(text, "{sign} {count:>7} {:<8} {rule}\n{:10}{}", severity.0, "", shortened(edge, 70));
        }
        if list.len() > LISTED {
            let _ = writeln!(text, "{sign} ... and {} more", list.len() - LISTED);
        }
    }
    if before.more + after.more > 0 {
        text.push_str("There are findings on further edges: the limit is reached.\n");
    }
    text
}
