//! Where judgements go: what only counts is told at once, what writes stands behind a queue.

use std::{io, sync::Arc};

use super::{
    evidence::Evidence,
    queue::{Consumer, Queue, WhenFull},
};
use crate::{
    capture::recording::RecordingFile,
    judgement::Judgement,
    sinks::{
        Sink,
        deliver::Counts,
        metrics::{Metrics, MetricsSink},
        report::Report,
    },
    state::Snapshot,
};

/// The sinks of a pipeline.
#[derive(Default)]
pub struct Outputs {
    metrics: Option<MetricsSink>,
    report: Option<Report>,
    writer: Option<Queue<Judgement>>,
    /// What the writer counts itself.
    writer_counts: Option<Arc<Counts>>,
    only_findings: bool,
    evidence: Option<Evidence>,
}

impl Outputs {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Also counts.
    #[must_use]
    pub fn with_metrics(mut self, metrics: MetricsSink) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Also gathers a report.
    #[must_use]
    pub fn with_report(mut self, report: Report) -> Self {
        self.report = Some(report);
        self
    }

    /// Also writes every judgement to `sink`, on a thread of its own.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn with_writer(mut self, sink: impl Sink + Send + 'static, when_full: WhenFull) -> io::Result<Self> {
        self.writer = Some(Queue::start("output", when_full, Writing(sink))?);
        Ok(self)
    }

    /// `counts` are those that the writer counts into.
    #[must_use]
    pub fn with_writer_counts(mut self, counts: Arc<Counts>) -> Self {
        self.writer_counts = Some(counts);
        self
    }

    /// Also gathers findings and tells of them.
    #[must_use]
    pub fn with_evidence(mut self, evidence: Evidence) -> Self {
        self.evidence = Some(evidence);
        self
    }

    /// Writes only judgements with findings. Everything is counted and reported all the same.
    #[must_use]
    pub fn only_findings(mut self) -> Self {
        self.only_findings = true;
        self
    }

    /// Hands a judgement to every sink.
    pub(super) fn judgement(&mut self, judgement: Judgement) {
        if let Some(metrics) = &mut self.metrics {
            metrics.judgement(&judgement);
        }
        if let Some(report) = &mut self.report {
            report.judgement(&judgement);
        }
        if let Some(evidence) = &mut self.evidence {
            evidence.judgement(&judgement);
        }
        if let Some(writer) = &mut self.writer
            && !(self.only_findings && judgement.findings.is_empty())
        {
            writer.push(judgement);
        }
    }

    /// About once a second: lets go of what has expired. `more` adds what else is to be saved to a snapshot.
    pub(super) fn tick(&mut self, more: impl FnOnce(Snapshot) -> Snapshot) {
        // Neither writes anything, so neither can fail.
        if let Some(metrics) = &mut self.metrics {
            let _ = metrics.flush();
        }
        if let Some(report) = &mut self.report {
            let _ = report.flush();
        }
        if let Some(evidence) = &mut self.evidence {
            evidence.tick(more);
        }
    }

    pub(super) fn figures(&self, metrics: &Metrics) {
        let counted = self.writer_counts.as_deref();
        metrics.set_sink_dropped("output", self.dropped() + counted.map_or(0, Counts::dropped));
        if let Some(counts) = counted {
            metrics.set_sink_errors("output", counts.errors());
        }
        if let Some(evidence) = &self.evidence {
            evidence.figures(metrics);
        }
    }

    pub(super) fn failed(&self) -> bool {
        self.writer.as_ref().is_some_and(Queue::failed)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.writer.as_ref().map_or(0, Queue::dropped)
    }

    /// Writes what there is, and saves it together with what `more` adds. The report, how many judgements were dropped, and why writing ended early.
    pub(super) fn finish(self, more: impl FnOnce(Snapshot) -> Snapshot) -> (Option<Report>, u64, Option<io::Error>) {
        let dropped = self.dropped();
        if let Some(evidence) = self.evidence {
            evidence.finish(more);
        }
        (self.report, dropped, self.writer.and_then(|writer| writer.finish().err()))
    }
}

/// A sink on the writing thread.
struct Writing<S>(S);

impl<S: Sink> Consumer<Judgement> for Writing<S> {
    fn take(&mut self, judgement: Judgement) {
        self.0.judgement(&judgement);
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A recording on the writing thread. An error is kept until the next flush.
pub(super) struct Recordings {
    file: RecordingFile,
    error: Option<io::Error>,
}

impl Recordings {
    pub(super) fn new(file: RecordingFile) -> Self {
        Self { file, error: None }
    }
}

impl Consumer<Vec<u8>> for Recordings {
    fn take(&mut self, entry: Vec<u8>) {
        if self.error.is_none() {
            self.error = self.file.write(&entry).err();
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.error.take() {
            Some(error) => Err(error),
            None => self.file.flush(),
        }
    }

    fn close(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.end()
    }
}
