//! `auditor run`: the daemon.

use std::sync::Arc;

use super::{Failure, findings, live, logging, quiet_when_closed, rule_ids, stages, watch::tell_losses};
use crate::{
    cli::RunArgs,
    config::{Config, resolve},
    pipeline::{Control, Outputs, Pipeline, Source, tell_policy},
    policy::{CROSS_CALLS, CROSS_CALLS_VERSION, Judge, rulebook::follow::Follower},
    server::{Health, Server},
    sinks::metrics::{self, Metrics},
    state::StateDir,
};

pub(super) fn run(arguments: &RunArgs) -> Result<(), Failure> {
    let config = resolve(&arguments.common, &arguments.live, &arguments.serve, &rule_ids())?;
    logging::start(config.log);
    // Before anything else is done: two auditors with one state would take it from each other.
    let state = config.state_dir.as_deref().map(StateDir::open).transpose()?;
    let mut judge = stages::judge(&config, state.as_ref().map(StateDir::key_file).as_deref())?;
    let policy = stages::set_policy(&mut judge, &config)?;
    if policy.is_some() {
        tell_policy(judge.policy());
    }
    let follower = policy.map(stages::follower).transpose()?;
    let metrics = Arc::new(Metrics::new(metrics::Settings {
        series_limit: config.limits.series,
        ..metrics::Settings::default()
    }));
    let mut saved = state.as_ref().map(StateDir::restore).unwrap_or_default();
    if let Some(calls) = saved.take(CROSS_CALLS, CROSS_CALLS_VERSION) {
        judge.restore_cross_calls(calls, stages::now());
    }
    let outputs = findings::add(&config, Outputs::new().with_metrics(metrics.sink()), state.as_ref(), &mut saved)?;
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
    if let Some(share) = config.cpu_share {
        pipeline.govern(share);
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
