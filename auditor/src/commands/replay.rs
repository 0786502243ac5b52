//! `auditor replay`: the pipeline over a file, without any privilege.

use std::{io, time::Duration};

use super::{Failure, logging, print, quiet_when_closed, rule_ids, stages, watch::rendered};
use crate::{
    attribution::Attributor,
    capture::open::{Replayable, open},
    cli::{Output, ReplayArgs},
    config::{LiveFlags, ServeFlags, resolve},
    pipeline::{Control, Outputs, Pipeline, Source, WhenFull},
    sinks::{Look, jsonl::JsonLines, stream::Stream},
};

pub(super) fn run(arguments: &ReplayArgs) -> Result<(), Failure> {
    let config = resolve(&arguments.common, &LiveFlags::default(), &ServeFlags::default(), &rule_ids())?;
    logging::start(config.log);
    let mut source = match open(&arguments.file)? {
        Replayable::Packets(capture) => Source::Segments("pcap", capture),
        Replayable::Recording(recording) => {
            // What is internal was decided on the node that recorded; networks given now decide anew.
            let networks = config.internal_networks.is_some().then(|| stages::file_networks(&config));
            Source::Recording(recording, networks)
        }
    };
    let outputs = Outputs::new();
    let look = Look::of_stdout();
    let outputs = match arguments.output {
        Output::Text => outputs.with_writer(Stream::new(io::stdout(), look), WhenFull::Wait),
        Output::Jsonl => outputs.with_writer(JsonLines::new(io::stdout()), WhenFull::Wait),
        Output::Report | Output::Markdown => Ok(outputs.with_report(stages::report(&config))),
    };
    let outputs = outputs.map_err(|source| Failure::System { action: "start a thread", source })?;
    let mut judge = stages::judge_of_file(&config)?;
    stages::set_policy(&mut judge, &config)?;
    let attributor = Attributor::offline(stages::file_networks(&config));
    let mut pipeline = Pipeline::new(stages::tracker(&config), attributor, judge, outputs);
    let stop = stages::stop_flag()?;
    let control =
        Control { stop: &stop, duration: None, poll_interval: Duration::from_millis(1), health: None, metrics: None };
    let read = pipeline.run(&mut source, &control);
    let finished = pipeline.finish(&mut source);
    quiet_when_closed(finished.output_error.map_or(Ok(()), Err))?;
    if let Some(report) = finished.report {
        print(&rendered(&report, arguments.output, look))?;
    }
    for (reason, count) in finished.counts.lost {
        tracing::warn!(reason, count, "not everything in the file could be followed");
    }
    Ok(read?)
}
