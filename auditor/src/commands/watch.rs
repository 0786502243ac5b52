//! `auditor watch`: the pipeline live, for people and for scripts.

use std::io;

use super::{Failure, live, logging, print, quiet_when_closed, rule_ids, stages};
use crate::{
    capture::recording::{Recorder, RecordingFile},
    cli::{Output, WatchArgs},
    config::{ServeFlags, resolve},
    credentials::{FingerprintKey, custom::WANTED_LIMIT},
    pipeline::{Control, Finished, Outputs, Pipeline, Source, WhenFull},
    sinks::{Look, jsonl::JsonLines, report::Report, stream::Stream},
};

pub(super) fn run(arguments: &WatchArgs) -> Result<(), Failure> {
    let config = resolve(&arguments.common, &arguments.live, &ServeFlags::default(), &rule_ids())?;
    let claims = arguments.record_claims.as_ref().unwrap_or(&config.record_claims);
    if claims.len() > WANTED_LIMIT {
        let message = format!("--record-claim: there are more than {WANTED_LIMIT}; name those that a policy asks for");
        return Err(Failure::Usage(message));
    }
    logging::start(config.log);
    let mut judge = stages::judge(&config, None)?;
    stages::set_policy(&mut judge, &config)?;
    let live = live::open(&config)?;
    // Only once capture works: a recording without anything in it would have to be removed by hand.
    let recording = arguments.record.as_deref().map(RecordingFile::create).transpose()?;
    let look = Look::of_stdout();
    let only_report = matches!(arguments.output, Output::Report | Output::Markdown);
    let outputs = Outputs::new();
    let outputs = if only_report || arguments.report { outputs.with_report(stages::report(&config)) } else { outputs };
    let outputs = match arguments.output {
        Output::Text => outputs.with_writer(Stream::new(io::stdout(), look), WhenFull::Drop),
        Output::Jsonl => outputs.with_writer(JsonLines::new(io::stdout()), WhenFull::Drop),
        Output::Report | Output::Markdown => Ok(outputs),
    };
    let thread_failed = |source| Failure::System { action: "start a thread", source };
    let outputs = outputs.map_err(thread_failed)?;
    let mut pipeline = Pipeline::new(stages::tracker(&config), live.attributor, judge, outputs);
    pipeline.leave_out(live.own_pid);
    if let Some(file) = recording {
        let claims = claims.iter().map(|name| name.as_str().into()).collect();
        let recorder = Recorder::new(FingerprintKey::random()?).keeping(claims);
        pipeline.record(recorder, file).map_err(thread_failed)?;
    }
    let stop = stages::stop_flag()?;
    let control = Control {
        stop: &stop,
        duration: arguments.duration,
        poll_interval: config.capture.poll_interval,
        health: None,
        metrics: None,
    };
    let mut source = Source::Segments("ring", live.source);
    tracing::info!("watching; end with Ctrl-C");
    let captured = pipeline.run(&mut source, &control);
    let finished = pipeline.finish(&mut source);
    // Dropping the source detaches the programs.
    drop(source);
    drop(live.root);
    end(finished, arguments, look)?;
    Ok(captured?)
}

fn end(finished: Finished, arguments: &WatchArgs, look: Look) -> Result<(), Failure> {
    tell_losses(&finished);
    if let (Some(source), Some(file)) = (finished.recording_error, &arguments.record) {
        let remedy = "what was written before can be replayed; free space, or record elsewhere";
        return Err(Failure::Write { object: file.display().to_string(), source, remedy });
    }
    quiet_when_closed(finished.output_error.map_or(Ok(()), Err))?;
    match finished.report {
        Some(report) => print(&rendered(&report, arguments.output, look)),
        None => Ok(()),
    }
}

/// Says what is missing in what was printed.
pub(super) fn tell_losses(finished: &Finished) {
    for (reason, count) in finished.counts.lost.iter().filter(|(_, count)| *count > 0) {
        tracing::warn!(reason, count, "records were lost; what they belonged to is `unknown`");
    }
    if finished.dropped > 0 {
        tracing::warn!(count = finished.dropped, "records were not written: the reader of the output is too slow");
    }
    if finished.unrecorded > 0 {
        tracing::warn!(count = finished.unrecorded, "calls are missing in the recording: the disk is too slow");
    }
}

/// The report as the output wants it.
pub(super) fn rendered(report: &Report, output: Output, look: Look) -> String {
    let rules = stages::rule_texts();
    match output {
        Output::Markdown => report.render_markdown(&rules),
        Output::Text | Output::Jsonl | Output::Report => report.render_terminal(&rules, look),
    }
}
