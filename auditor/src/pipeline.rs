//! The only file that joins stages:
//!
//! ```text
//! Capture -> Tracker -> Attributor -> (Recorder) -> Judge -> sinks
//! ```
//!
//! One thread takes segments and carries each through to its judgement: no locks between stages, no wake-up for each record.
//! What writes (stream, records, recording) sits behind a bounded queue on a thread of its own and cannot stall the drain.

mod evidence;
pub mod governor;
mod outputs;
mod policy;
mod queue;
mod repeats;
mod sampling;

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use auditor_wire::{
    exchange::Observation,
    segment::{Segment, Timestamp},
    tracker::Tracker,
};

pub use self::{evidence::Evidence, outputs::Outputs, policy::tell_policy, queue::WhenFull};
use self::{
    outputs::Recordings,
    policy::{PolicyKeeper, tell_waivers},
    queue::Queue,
    repeats::{Repeatable, Repeats},
    sampling::Sampler,
};
use crate::{
    attribution::{Attributed, Attributor, network::InternalNetworks},
    capture::{
        Capture, CaptureError, Counts, Status,
        clock::corrected,
        recording::{Recorded, Recorder, Recording, RecordingFile},
    },
    judgement::{Judgement, Party},
    policy::{
        CROSS_CALLS, CROSS_CALLS_VERSION, Judge,
        rulebook::follow::{Follower, today},
    },
    server::Health,
    sinks::{metrics::Metrics, report::Report},
    state::Snapshot,
};

/// The sleep grows to so many times the interval while nothing comes: what comes then has all the ring for itself.
const QUIET_POLLS: u32 = 4;
/// How often figures about the auditor itself are brought up to date.
const FIGURES_EVERY: Duration = Duration::from_secs(1);
/// A wall clock that is kept by slowing it down or up moves by less than this between two rounds.
const CLOCK_WAS_SET_NS: u64 = 500_000_000;
/// What is still in the ring at the end is taken in so many rounds at most: on a busy machine it never runs empty.
const LAST_ROUNDS: usize = 64;

/// Where the pipeline takes from.
pub enum Source {
    /// Segments, live or from a capture file; the name is the `source` label of `auditor_capture_records_total`.
    Segments(&'static str, Box<dyn Capture>),
    /// Calls and connections that were recorded behind the tracker and the attributor. With networks given, what is internal is
    /// decided anew.
    Recording(Recording, Option<InternalNetworks>),
}

/// The stages, joined.
pub struct Pipeline {
    tracker: Tracker,
    behind: BehindTracker,
    clock: TrafficClock,
    /// Segments taken.
    taken: u64,
    /// `None`: every call is judged.
    sampler: Option<Sampler>,
}

/// The stages from the attributor on.
struct BehindTracker {
    attributor: Attributor,
    /// The auditor's own process, whose traffic is left out.
    own_pid: Option<u32>,
    /// What is added to the times of segments in what is said of them: see [`Capture::clock_correction`].
    clock_correction: i64,
    recorder: Option<(Recorder, Queue<Vec<u8>>)>,
    judge: Judge,
    policy: Option<PolicyKeeper>,
    outputs: Outputs,
    repeats: Repeats,
}

/// When to stop, and who is told how it goes.
pub struct Control<'a> {
    /// Set from outside: stop.
    pub stop: &'a AtomicBool,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// Sleep of the reader when there is nothing; longer while nothing comes.
    pub poll_interval: Duration,
    /// Told that the pipeline comes round.
    pub health: Option<&'a Health>,
    /// Gets the figures.
    pub metrics: Option<&'a Metrics>,
}

/// What a run left.
pub struct Finished {
    /// The report, if one was gathered.
    pub report: Option<Report>,
    /// What the source counted.
    pub counts: Counts,
    /// Judgements that were not written because the writer was too slow.
    pub dropped: u64,
    /// Calls and connections missing in the recording.
    pub unrecorded: u64,
    /// Why output ended early, if it did.
    pub output_error: Option<io::Error>,
    /// Why the recording ended early, if it did.
    pub recording_error: Option<io::Error>,
}

impl Pipeline {
    /// Joins the stages.
    #[must_use]
    pub fn new(tracker: Tracker, attributor: Attributor, judge: Judge, outputs: Outputs) -> Self {
        let behind = BehindTracker {
            attributor,
            own_pid: None,
            clock_correction: 0,
            recorder: None,
            judge,
            policy: None,
            outputs,
            repeats: Repeats::default(),
        };
        Self { tracker, behind, clock: TrafficClock::default(), taken: 0, sampler: None }
    }

    /// Stays below `share` of a core by judging less of the calls that repeat.
    pub fn govern(&mut self, share: f64) {
        self.sampler = Some(Sampler::new(share));
    }

    /// Leaves out what a process calls and is called: the auditor itself.
    pub fn leave_out(&mut self, pid: u32) {
        self.behind.own_pid = Some(pid);
    }

    /// Also follows the policy file: see [`Follower`].
    pub fn follow(&mut self, follower: Follower) {
        self.behind.policy = Some(PolicyKeeper::new(follower));
    }

    /// Also records what passes to `file`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn record(&mut self, recorder: Recorder, file: RecordingFile) -> io::Result<()> {
        let queue = Queue::start("recording", WhenFull::Drop, Recordings::new(file))?;
        self.behind.judge.leave_claims(recorder.claims());
        self.behind.recorder = Some((recorder, queue));
        Ok(())
    }

    /// Runs until the source ends, it is told to stop, or nobody takes the output any more. What is pending comes out either
    /// way; call [`Pipeline::finish`] then.
    ///
    /// # Errors
    /// When the source cannot be read any further. What was read before is judged.
    pub fn run(&mut self, source: &mut Source, control: &Control<'_>) -> Result<(), CaptureError> {
        let started = Instant::now();
        let mut figures_due = started;
        let mut pause = control.poll_interval;
        let result = loop {
            let before = self.taken;
            let over = control.duration.is_some_and(|duration| started.elapsed() >= duration);
            if over || control.stop.load(Ordering::Relaxed) || self.behind.outputs.failed() {
                break self.last_rounds(source);
            }
            match self.round(source, control) {
                Ok(Status::More) => {}
                Ok(Status::Idle) => {
                    let behind = &mut self.behind;
                    self.tracker.advance(self.clock.now(), &mut |observation| behind.observation(observation));
                    let quiet = self.taken == before;
                    let longest = control.poll_interval * QUIET_POLLS;
                    pause = if quiet { (pause * 2).min(longest) } else { control.poll_interval };
                    thread::sleep(pause);
                }
                Ok(Status::End) => break Ok(()),
                Err(error) => break Err(error),
            }
            if let Some(health) = control.health {
                health.round();
            }
            if figures_due <= Instant::now() {
                self.behind.keep_policy();
                self.keep_within_share(source, started.elapsed());
                self.figures(source, control);
                figures_due = Instant::now() + FIGURES_EVERY;
            }
        };
        let behind = &mut self.behind;
        self.tracker.finish(&mut |observation| behind.observation(observation));
        self.figures(source, control);
        result
    }

    /// Goes deeper into sampling, or back, by the processor time used. What another policy takes back is taken back here, before its
    /// figures say that it applies.
    fn keep_within_share(&mut self, source: &mut Source, now: Duration) {
        let (Some(sampler), Source::Segments(_, capture)) = (&mut self.sampler, source) else { return };
        if let Some(one_of) = sampler.keep(now, &mut **capture) {
            self.behind.repeats.sample(one_of);
        }
        self.behind.repeats.tell(&mut **capture);
    }

    /// Lets the writers write what they have, and gives what was gathered.
    #[must_use]
    pub fn finish(self, source: &mut Source) -> Finished {
        let BehindTracker { recorder, judge, policy, outputs, .. } = self.behind;
        if policy.is_some() {
            tell_waivers(judge.policy(), today());
        }
        let counts = source.counts();
        let (unrecorded, recording_error) = match recorder {
            Some((_, queue)) => (queue.dropped(), queue.finish().err()),
            None => (0, None),
        };
        let (mut report, dropped, output_error) = outputs.finish(|snapshot| with_memory(snapshot, &judge));
        if let Some(report) = &mut report {
            report.set_external(judge.external());
            report.set_waivers(judge.policy().waivers(today()));
            report.set_losses(counts.lost.iter().copied());
        }
        Finished { report, counts, dropped, unrecorded, output_error, recording_error }
    }

    /// What came in before the end was asked for is still judged.
    fn last_rounds(&mut self, source: &mut Source) -> Result<(), CaptureError> {
        if let Source::Segments(_, capture) = source {
            for _ in 0..LAST_ROUNDS {
                if self.segments(&mut **capture)? != Status::More {
                    break;
                }
            }
        }
        Ok(())
    }

    fn round(&mut self, source: &mut Source, control: &Control<'_>) -> Result<Status, CaptureError> {
        let began = Instant::now();
        let before = self.taken;
        let status = match source {
            Source::Segments(_, capture) => self.segments(&mut **capture)?,
            Source::Recording(recording, networks) => {
                let behind = &mut self.behind;
                recording.drain(&mut |recorded| behind.recorded(recorded, networks.as_ref()))?
            }
        };
        if let Some(metrics) = control.metrics.filter(|_| self.taken > before) {
            metrics.observe_pipeline(began.elapsed());
        }
        Ok(status)
    }

    fn segments(&mut self, capture: &mut dyn Capture) -> Result<Status, CaptureError> {
        let Self { tracker, behind, clock, taken, .. } = self;
        behind.correct_clock(capture.clock_correction());
        behind.repeats.tell(capture);
        let status = capture.drain(&mut |segment| {
            *taken += 1;
            clock.segment(segment);
            if let Some(owner) = &segment.owner {
                behind.attributor.notice(owner, segment.time);
            }
            tracker.segment(segment, &mut |observation| behind.observation(observation));
        });
        for (socket, proof) in capture.proofs() {
            tracker.proof(socket, proof);
        }
        tracker.spared().for_each(|socket| capture.spare(socket));
        behind.repeats.tell(capture);
        for (socket, known) in capture.unix_sockets() {
            behind.attributor.unix_socket(socket, known, clock.latest());
        }
        status
    }

    fn figures(&mut self, source: &mut Source, control: &Control<'_>) {
        let Some(metrics) = control.metrics else { return };
        let counts = source.counts();
        metrics.set_records(source.name(), counts.delivered);
        for (reason, total) in counts.ignored {
            metrics.set_ignored(reason, total);
        }
        for (reason, total) in counts.lost {
            metrics.set_lost(reason, total);
        }
        metrics.set_sampled_out(counts.passed_over);
        if let Some(sampler) = &self.sampler {
            sampler.figures(metrics);
        }
        if let Source::Segments(_, capture) = source {
            for (program, total) in capture.program_times() {
                metrics.set_program_run(program, total);
            }
            for (library, covered, files) in capture.tls_libraries() {
                metrics.set_tls_libraries(library, covered, files);
            }
        }
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let tracked = self.tracker.tracked();
        metrics.set_tracked("connections", number(tracked.connections), number(tracked.connections_limit));
        metrics.set_tracked("buffered-bytes", number(tracked.buffered_bytes), number(tracked.buffered_bytes_limit));
        metrics.set_lost("tracker-evicted", tracked.evicted_total);
        self.behind.figures(metrics);
    }
}

impl BehindTracker {
    fn observation(&mut self, observation: Observation) {
        match observation {
            Observation::Exchange(exchange) => {
                let repeatable = Repeatable::of(&exchange);
                let passed_over = exchange.passed_over;
                let mut call = self.attributor.exchange(exchange);
                call.observed.time = corrected(call.observed.time, self.clock_correction);
                if self.is_own(&call) {
                    return;
                }
                let masked = self.recorder.as_ref().map(|(recorder, _)| recorder.exchange(&call));
                let mut judgement = self.judge.exchange(call);
                if let Some(repeatable) = repeatable {
                    self.repeats.judged(repeatable, judgement.as_ref(), self.clock_correction);
                }
                if let Some(judgement) = &mut judgement {
                    judgement.sampling = self.repeats.sampling(passed_over);
                }
                if let Some(masked) = masked {
                    let credentials = judgement.as_ref().map_or(&[][..], |judgement| &judgement.credentials);
                    self.record(|_| masked.entry(credentials));
                    if let Some(judgement) = &mut judgement {
                        judgement.forget_claims();
                    }
                }
                self.put_out(judgement);
            }
            Observation::Connection(connection) => {
                let mut connection = self.attributor.connection(*connection);
                connection.observed.time = corrected(connection.observed.time, self.clock_correction);
                if self.is_own(&connection) {
                    return;
                }
                self.record(|recorder| recorder.connection(&connection));
                let judgement = self.judge.connection(connection);
                self.put_out(judgement);
            }
        }
    }

    fn is_own<T>(&self, observed: &Attributed<T>) -> bool {
        self.own_pid.is_some_and(|own| {
            let is_own = |party: &Party| party.process.as_ref().is_some_and(|process| process.pid == own);
            is_own(&observed.source) || is_own(&observed.destination)
        })
    }

    fn recorded(&mut self, recorded: Recorded, networks: Option<&InternalNetworks>) {
        let judgement = match recorded {
            Recorded::Exchange(call, checked) => self.judge.recorded(placed(*call, networks), &checked),
            Recorded::Connection(connection) => self.judge.connection(placed(*connection, networks)),
        };
        self.put_out(judgement);
    }

    fn record(&mut self, entry: impl FnOnce(&Recorder) -> io::Result<Vec<u8>>) {
        if let Some((recorder, queue)) = &mut self.recorder {
            match entry(recorder) {
                Ok(entry) => queue.push(entry),
                Err(error) => tracing::error!(%error, "a call cannot be recorded"),
            }
        }
    }

    fn put_out(&mut self, judgement: Option<Judgement>) {
        if let Some(judgement) = judgement {
            self.outputs.judgement(judgement);
        }
    }

    /// Takes what changed in the policy file, and says once a day how waivers do.
    fn keep_policy(&mut self) {
        if let Some(policy) = &mut self.policy
            && policy.keep(&mut self.judge)
        {
            self.repeats.withdraw();
        }
    }

    /// Takes what is added to the times of segments. A clock that was set makes tokens expire sooner or later.
    fn correct_clock(&mut self, correction: i64) {
        if correction.abs_diff(self.clock_correction) > CLOCK_WAS_SET_NS {
            self.repeats.withdraw();
        }
        self.clock_correction = correction;
    }

    fn figures(&mut self, metrics: &Metrics) {
        if let Some(policy) = &self.policy {
            policy.figures(&self.judge, metrics);
        }
        metrics.set_external("exchange", self.judge.external_exchanges());
        metrics.set_external("connection", self.judge.external_connections());
        self.outputs.figures(metrics);
        if let Some((_, queue)) = &self.recorder {
            metrics.set_sink_dropped("recording", queue.dropped());
        }
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let (count, limit) = self.judge.authenticated_connections();
        metrics.set_tracked("authenticated-connections", number(count), number(limit));
        if let Some(verifier) = self.judge.extractor().verifier() {
            let (count, limit) = verifier.remembered();
            metrics.set_tracked("verified-tokens", number(count), number(limit));
            for reads in verifier.reads() {
                metrics.set_issuer_keys(&reads.issuer, reads.read, reads.failed);
            }
        }
        for remembered in self.attributor.remembered() {
            metrics.set_tracked(remembered.kind, number(remembered.count), number(remembered.limit));
        }
        for held in self.judge.held() {
            metrics.set_tracked(held.kind, number(held.count), number(held.limit));
            metrics.set_evicted(held.kind, held.evicted);
        }
        let Self { outputs, judge, .. } = self;
        outputs.tick(|snapshot| with_memory(snapshot, judge));
    }
}

/// What is known across calls is saved with the evidence.
fn with_memory(snapshot: Snapshot, judge: &Judge) -> Snapshot {
    snapshot.with(CROSS_CALLS, CROSS_CALLS_VERSION, judge.cross_calls())
}

impl Source {
    fn name(&self) -> &'static str {
        match self {
            Self::Segments(name, _) => name,
            Self::Recording(..) => "recording",
        }
    }

    fn counts(&mut self) -> Counts {
        match self {
            Self::Segments(_, capture) => capture.counts(),
            Self::Recording(recording, _) => recording.counts(),
        }
    }
}

/// A recorded call, with what is internal decided anew where networks are given.
fn placed<T>(mut call: Attributed<T>, networks: Option<&InternalNetworks>) -> Attributed<T> {
    if let Some(networks) = networks {
        for party in [&mut call.source, &mut call.destination] {
            party.internal = party.address.ip().is_none_or(|address| networks.contains(address));
        }
    }
    call
}

/// The time of the traffic while there is none: that of the last segment and what has passed since. The wall clock may be set
/// at any time, and would make connections look idle for hours.
#[derive(Debug, Default)]
struct TrafficClock {
    latest: u64,
    /// When `latest` was first asked about; `None` while segments come.
    quiet_since: Option<Instant>,
}

impl TrafficClock {
    fn segment(&mut self, segment: &Segment<'_>) {
        self.latest = self.latest.max(segment.time.0);
        self.quiet_since = None;
    }

    fn latest(&self) -> Timestamp {
        Timestamp(self.latest)
    }

    fn now(&mut self) -> Timestamp {
        let quiet = self.quiet_since.get_or_insert_with(Instant::now).elapsed();
        Timestamp(self.latest.saturating_add(u64::try_from(quiet.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests;
