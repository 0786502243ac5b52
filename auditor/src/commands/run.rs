//! `auditor run`: the daemon.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
};

use super::{Failure, live, logging, quiet_when_closed, rule_ids, stages, watch::tell_losses};
use crate::{
    cli::RunArgs,
    config::{Config, resolve},
    pipeline::{Control, Outputs, Pipeline, Source, WhenFull, tell_policy},
    policy::{Judge, rulebook::follow::Follower},
    server::{Health, Server},
    sinks::{
        jsonl::JsonLines,
        metrics::{self, Metrics},
    },
};

pub(super) fn run(arguments: &RunArgs) -> Result<(), Failure> {
    let config = resolve(&arguments.common, &arguments.live, &arguments.serve, &rule_ids())?;
    logging::start(config.log);
    let (judge, policy) = stages::judge_with_policy(&config)?;
    if policy.is_some() {
        tell_policy(judge.policy());
    }
    let follower = policy.map(stages::follower).transpose()?;
    let metrics = Arc::new(Metrics::new(metrics::Settings {
        series_limit: config.limits.series,
        ..metrics::Settings::default()
    }));
    let outputs = outputs(arguments, &metrics)?;
    let health = Arc::new(Health::default());
    let page = Arc::clone(&metrics);
    // Before capture: a port in use is told without touching the kernel, and scrapers see that the start is under way.
    let server = Server::start(config.listen, move || page.render(), metrics::CONTENT_TYPE, Arc::clone(&health))?;
    tracing::info!(address = %server.address(), "serving /metrics, /healthz and /readyz");
    capture(&config, (judge, follower), outputs, &metrics, &health)
}

fn capture(
    config: &Config,
    (judge, follower): (Judge, Option<Follower>),
    outputs: Outputs,
    metrics: &Metrics,
    health: &Health,
) -> Result<(), Failure> {
    let live = live::open(config)?;
    let mut pipeline = Pipeline::new(stages::tracker(config), live.attributor, judge, outputs);
    pipeline.leave_out(live.own_pid);
    if let Some(follower) = follower {
        pipeline.follow(follower);
    }
    let stop = stages::stop_flag()?;
    let control = Control {
        stop: &stop,
        duration: None,
        poll_interval: config.capture.poll_interval,
        health: Some(health),
        metrics: Some(metrics),
    };
    let mut source = Source::Segments("ring", live.source);
    health.set_ready(true);
    tracing::info!("capturing");
    let captured = pipeline.run(&mut source, &control);
    health.set_ready(false);
    let finished = pipeline.finish(&mut source);
    // Dropping the source detaches the programs.
    drop(source);
    drop(live.root);
    tell_losses(&finished);
    quiet_when_closed(finished.output_error.map_or(Ok(()), Err))?;
    tracing::info!("stopped");
    Ok(captured?)
}

fn outputs(arguments: &RunArgs, metrics: &Metrics) -> Result<Outputs, Failure> {
    let outputs = Outputs::new().with_metrics(metrics.sink());
    let Some(file) = &arguments.findings else { return Ok(outputs) };
    let with_writer = if file.as_os_str() == "-" {
        outputs.with_writer(JsonLines::new(io::stdout()), WhenFull::Drop)
    } else {
        outputs.with_writer(JsonLines::new(append(file)?), WhenFull::Drop)
    };
    let outputs = with_writer.map_err(|source| Failure::System { action: "start a thread", source })?;
    Ok(outputs.only_findings())
}

/// The file of findings: readable by its owner alone, since it says where a node is soft.
fn append(file: &Path) -> Result<File, Failure> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(file).map_err(|source| Failure::Write {
        object: file.display().to_string(),
        source,
        remedy: "name a file in a directory that the auditor can write",
    })
}
