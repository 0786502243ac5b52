use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Write},
    net::TcpListener,
    os::unix::net::UnixDatagram,
    path::Path,
    sync::{Arc, Mutex, atomic::AtomicBool, mpsc},
};

use auditor_wire::{limits::Limits, segment::Timestamp};

use super::*;
use crate::{
    capture::pcap::PcapFile,
    credentials::{Extractor, FingerprintKey, Settings},
    evidence::{self, Ledger},
    policy,
    sinks::{
        Sink,
        deliver::{
            self, Alertmanager, Batches, Client, Deliver, Endpoint, Facility, Item, Journald, Pace, Post, Syslog,
            SyslogAddress, Webhook,
        },
        metrics, report,
        steady::Steady,
    },
    state::StateDir,
};

const CAPTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/captures");
static NEVER: AtomicBool = AtomicBool::new(false);

/// Records as JSON without fingerprints: they belong to a key.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<serde_json::Value>>>);

impl Sink for Collected {
    fn judgement(&mut self, judgement: &Judgement) {
        let mut record = serde_json::to_value(judgement).expect("JSON");
        for credential in record["credentials"].as_array_mut().expect("a list") {
            credential["fingerprint"] = "".into();
        }
        self.0.lock().expect("not poisoned").push(record);
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A writer that nobody reads.
struct Closed;

impl Sink for Closed {
    fn judgement(&mut self, _: &Judgement) {}

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

/// A live source without traffic.
struct Silent;

impl Capture for Silent {
    fn drain(&mut self, _: &mut dyn FnMut(&Segment<'_>)) -> Result<Status, CaptureError> {
        Ok(Status::Idle)
    }

    fn counts(&mut self) -> Counts {
        Counts { delivered: 3, ignored: vec![("not-tcp", 2)], lost: vec![("ring-full", 1)], passed_over: 4 }
    }
}

fn capture(name: &str) -> Source {
    let file = File::open(Path::new(CAPTURES).join(name)).expect("there");
    Source::Segments("pcap", Box::new(PcapFile::new(name, Box::new(BufReader::new(file))).expect("a capture")))
}

fn joined(outputs: Outputs) -> Pipeline {
    let extractor = Extractor::new(Settings::default(), FingerprintKey::from_bytes([1; 32]));
    let judge = Judge::new(policy::Settings::default(), extractor);
    Pipeline::new(Tracker::new(Limits::default()), Attributor::offline(InternalNetworks::default()), judge, outputs)
}

fn control(stop: &AtomicBool) -> Control<'_> {
    Control { stop, duration: None, poll_interval: Duration::from_millis(1), health: None, metrics: None }
}

#[test]
fn a_recording_replays_to_the_same_records() {
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["nginx-curl.pcapng", "python-split.pcap", "tls.pcapng", "http2.pcapng", "snaplen.pcapng"] {
        let path = directory.path().join(name);
        let direct = Collected::default();
        let outputs = Outputs::new().with_writer(direct.clone(), WhenFull::Wait).expect("a thread");
        let mut live = joined(outputs);
        let recorder = Recorder::new(FingerprintKey::from_bytes([2; 32]));
        live.record(recorder, RecordingFile::create(&path).expect("made")).expect("a thread");
        let mut source = capture(name);
        live.run(&mut source, &control(&NEVER)).expect("whole");
        let finished = live.finish(&mut source);
        assert_eq!((finished.unrecorded, finished.dropped), (0, 0));
        assert!(finished.recording_error.is_none() && finished.output_error.is_none());

        let again = Collected::default();
        let mut replayed = joined(Outputs::new().with_writer(again.clone(), WhenFull::Wait).expect("a thread"));
        let recording = Recording::new(name, Box::new(File::open(&path).expect("there"))).expect("a recording");
        let mut source = Source::Recording(recording, None);
        replayed.run(&mut source, &control(&NEVER)).expect("whole");
        assert!(replayed.finish(&mut source).output_error.is_none());

        let (direct, again) = (direct.0.lock().expect("not poisoned"), again.0.lock().expect("not poisoned"));
        assert!(!direct.is_empty(), "{name}");
        assert_eq!(direct.len(), again.len(), "{name}");
        for (direct, again) in direct.iter().zip(again.iter()) {
            assert_eq!(direct, again, "{name}\ndirect   {direct}\nreplayed {again}");
        }
    }
}

#[test]
fn networks_given_at_replay_decide_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("recording");
    let mut live = joined(Outputs::new());
    let recorder = Recorder::new(FingerprintKey::from_bytes([2; 32]));
    live.record(recorder, RecordingFile::create(&path).expect("made")).expect("a thread");
    let mut source = capture("nginx-curl.pcapng");
    live.run(&mut source, &control(&NEVER)).expect("whole");
    assert!(live.finish(&mut source).recording_error.is_none());

    let networks = InternalNetworks::new(vec!["192.168.0.0/16".parse().expect("a network")], Vec::new());
    let mut replayed = joined(Outputs::new().with_report(Report::new(report::Settings::default())));
    let recording = Recording::new("file", Box::new(File::open(&path).expect("there"))).expect("a recording");
    let mut source = Source::Recording(recording, Some(networks));
    replayed.run(&mut source, &control(&NEVER)).expect("whole");
    let report = replayed.finish(&mut source).report.expect("gathered");
    assert_eq!(report.total(), 0, "loopback is not in 192.168.0.0/16");
}

#[test]
fn only_findings_are_written_and_everything_is_counted() {
    let written = Collected::default();
    let outputs = Outputs::new().with_report(Report::new(report::Settings::default()));
    let outputs = outputs.with_writer(written.clone(), WhenFull::Wait).expect("a thread").only_findings();
    let mut pipeline = joined(outputs);
    let mut source = capture("nginx-curl.pcapng");
    pipeline.run(&mut source, &control(&NEVER)).expect("whole");
    let report = pipeline.finish(&mut source).report.expect("gathered");
    let written = written.0.lock().expect("not poisoned");
    assert!(!written.is_empty() && (written.len() as u64) < report.total(), "{} of {}", written.len(), report.total());
    assert!(written.iter().all(|record| record["findings"].as_array().is_some_and(|findings| !findings.is_empty())));
}

#[test]
fn ends_when_told_or_when_time_is_up_or_nobody_listens() {
    let stop = AtomicBool::new(true);
    let mut source = Source::Segments("ring", Box::new(Silent));
    joined(Outputs::new()).run(&mut source, &control(&stop)).expect("told to stop");
    let brief = Control { duration: Some(Duration::from_millis(5)), ..control(&NEVER) };
    joined(Outputs::new()).run(&mut source, &brief).expect("time is up");
    let outputs = Outputs::new().with_writer(Closed, WhenFull::Drop).expect("a thread");
    let mut unheard = joined(outputs);
    unheard.run(&mut source, &control(&NEVER)).expect("nobody listens");
    let error = unheard.finish(&mut source).output_error.expect("told why");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn figures_reach_the_metrics() {
    let metrics = Metrics::new(metrics::Settings::default());
    let health = Health::default();
    let stop = AtomicBool::new(true);
    let control = Control { metrics: Some(&metrics), health: Some(&health), ..control(&stop) };
    let mut source = Source::Segments("ring", Box::new(Silent));
    joined(Outputs::new().with_metrics(metrics.sink())).run(&mut source, &control).expect("told to stop");
    let page = metrics.render();
    for line in [
        "auditor_capture_records_total{source=\"ring\"} 3",
        "auditor_capture_ignored_total{reason=\"not-tcp\"} 2",
        "auditor_capture_lost_total{reason=\"ring-full\"} 1",
        "auditor_tracked{kind=\"connections\"} 0",
        "auditor_tracked_limit{kind=\"connections\"} 65536",
        "auditor_tracked_limit{kind=\"credentials\"} 65536",
        "auditor_evicted_total{kind=\"credentials\"} 0",
        "auditor_external_total{kind=\"exchange\"} 0",
        "auditor_sink_dropped_total{sink=\"output\"} 0",
    ] {
        assert!(page.lines().any(|found| found == line), "no {line} in\n{page}");
    }
}

#[test]
fn the_clock_of_the_traffic_goes_on_without_traffic() {
    let mut clock = TrafficClock { latest: 1000, quiet_since: None };
    let first = clock.now();
    assert!(first >= Timestamp(1000));
    thread::sleep(Duration::from_millis(2));
    assert!(clock.now() >= Timestamp(first.0 + 2_000_000));
}

/// A source beside which the wall clock has been set.
struct Set {
    packets: PcapFile,
    correction: i64,
}

const HOUR: i64 = 3_600_000_000_000;

impl Capture for Set {
    fn drain(&mut self, deliver: &mut dyn FnMut(&Segment<'_>)) -> Result<Status, CaptureError> {
        self.packets.drain(deliver)
    }

    fn clock_correction(&mut self) -> i64 {
        self.correction
    }

    fn counts(&mut self) -> Counts {
        self.packets.counts()
    }
}

#[test]
fn a_clock_that_is_set_moves_the_times_of_records_and_no_call_is_lost_by_it() {
    let name = "nginx-curl.pcapng";
    let records = |correction| {
        let collected = Collected::default();
        let mut pipeline = joined(Outputs::new().with_writer(collected.clone(), WhenFull::Wait).expect("a thread"));
        let file = File::open(Path::new(CAPTURES).join(name)).expect("there");
        let packets = PcapFile::new(name, Box::new(BufReader::new(file))).expect("a capture");
        let mut source = Source::Segments("pcap", Box::new(Set { packets, correction }));
        pipeline.run(&mut source, &control(&NEVER)).expect("whole");
        assert!(pipeline.finish(&mut source).output_error.is_none());
        std::mem::take(&mut *collected.0.lock().expect("not poisoned"))
    };
    let right = records(0);
    assert!(!right.is_empty());
    for correction in [-HOUR, 2 * HOUR] {
        let set = records(correction);
        assert_eq!(set.len(), right.len());
        for (set, right) in set.iter().zip(&right) {
            let time = |record: &serde_json::Value| {
                record["time"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok()).expect("a time")
            };
            let moved = time(set).as_nanosecond() - time(right).as_nanosecond();
            assert_eq!(moved, i128::from(correction));
            // Tokens are judged by the wall clock, and may have expired by it.
            for field in ["reporter", "source", "destination", "request", "response", "outcome"] {
                assert_eq!(set[field], right[field], "{field}");
            }
        }
    }
}

/// A sink whose receiver never answers: it is stuck with the first item it is given.
struct Stuck(mpsc::Receiver<()>);

impl Deliver for Stuck {
    fn take(&mut self, _: Item) {
        let _ = self.0.recv();
    }

    fn work(&mut self, _: Instant) {}

    fn close(&mut self) {}
}

/// What a sink was given.
#[derive(Clone, Default)]
struct Given(Arc<Mutex<Vec<Item>>>);

impl Deliver for Given {
    fn take(&mut self, item: Item) {
        self.0.lock().expect("not poisoned").push(item);
    }

    fn work(&mut self, _: Instant) {}

    fn close(&mut self) {}
}

fn ledger() -> Ledger {
    Ledger::new(100, jiff::SignedDuration::from_hours(1))
}

#[test]
fn a_dead_sink_for_findings_slows_nothing_and_the_others_get_theirs() {
    let (release, stuck) = mpsc::channel();
    let given = Given::default();
    let counts = || Arc::new(deliver::Counts::default());
    let evidence = Evidence::new(ledger()).with_sink("dead", Stuck(stuck), counts()).expect("a thread");
    let evidence = evidence.with_sink("given", given.clone(), counts()).expect("a thread");
    let evidence = evidence.with_lists(Duration::ZERO, jiff::SignedDuration::from_hours(1_000_000));
    let metrics = Metrics::new(metrics::Settings::default());
    let outputs = Outputs::new().with_report(Report::new(report::Settings::default())).with_evidence(evidence);
    let mut outputs = outputs.with_metrics(metrics.sink());
    let mut judgement = crate::sinks::sample::unauthenticated();
    // More groups than any queue holds, so that the dead sink's is full for long.
    for number in 0..20_000 {
        judgement.destination.workload = Some(format!("service-{number}").into());
        outputs.judgement(judgement.clone());
    }
    outputs.tick(|snapshot| snapshot);
    outputs.figures(&metrics);
    let page = metrics.render();
    let value = |line: &str| {
        let found = page.lines().find_map(|found| found.strip_prefix(line)).unwrap_or_else(|| panic!("{line}: {page}"));
        found.trim().parse::<u64>().expect("a number")
    };
    assert!(value("auditor_sink_dropped_total{sink=\"dead\"}") > 10_000);
    assert_eq!(value("auditor_tracked{kind=\"finding-groups\"}"), 100);
    assert_eq!(value("auditor_evicted_total{kind=\"finding-groups\"}"), 19_900);
    let dropped = value("auditor_sink_dropped_total{sink=\"given\"}");
    drop(release);
    let (report, ..) = outputs.finish(|snapshot| snapshot);
    assert_eq!(report.expect("gathered").total(), 20_000, "everything was judged");
    let given = given.0.lock().expect("not poisoned");
    let (events, lists): (Vec<_>, Vec<_>) = given.iter().partition(|item| matches!(item, Item::Event(_)));
    assert!(events.len() as u64 + lists.len() as u64 + dropped == 20_001, "{} {} {dropped}", events.len(), lists.len());
}

/// A file that hangs, such as one on a network that is gone.
struct Hanging(mpsc::Receiver<()>);

impl Write for Hanging {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn with_batches(evidence: Evidence, name: &'static str, post: impl Post + 'static) -> (Evidence, Arc<deliver::Counts>) {
    let (counts, pace) = (Arc::new(deliver::Counts::default()), Pace { batch: 1, interval: Duration::ZERO });
    let sink = Batches::new(name, post, pace, Arc::clone(&counts));
    (evidence.with_sink(name, sink, Arc::clone(&counts)).expect("a thread"), counts)
}

#[test]
fn every_sink_that_is_dead_slows_nothing_and_its_losses_are_counted() {
    const CALLS: u64 = 40_000;
    // Connections are taken, nothing that comes on them is.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("bound").to_string();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("journal");
    let journal = UnixDatagram::bind(&path).expect("a socket");
    let client = || {
        let endpoint = Endpoint::parse(&format!("http://{address}/")).expect("a URL");
        Client::new(endpoint, Duration::from_secs(3600), None).expect("a client")
    };
    let evidence = Evidence::new(ledger());
    let (evidence, webhook) = with_batches(evidence, "webhook", Webhook::new(client(), vec![], None, "node".into()));
    let tcp = SyslogAddress::Tcp(address.clone());
    let (evidence, _) = with_batches(
        evidence,
        "syslog",
        Syslog::new(tcp, Facility::parse("daemon").expect("a facility"), "node".into()),
    );
    let (evidence, _) = with_batches(evidence, "journald", Journald::new(&path));
    let counts = Arc::new(deliver::Counts::default());
    let resolve_after = jiff::SignedDuration::from_hours(1_000_000);
    let alertmanager = Alertmanager::new(client(), resolve_after, 100, BTreeMap::new(), Arc::clone(&counts));
    let evidence = evidence.with_sink("alertmanager", alertmanager, counts).expect("a thread");
    let (release, hanging) = mpsc::channel();
    let counts = Arc::new(deliver::Counts::default());
    let file = Steady::new(Hanging(hanging), Arc::clone(&counts));
    let metrics = Metrics::new(metrics::Settings::default());
    let outputs = Outputs::new().with_report(Report::new(report::Settings::default())).with_evidence(evidence);
    let outputs = outputs.with_writer(file, WhenFull::Drop).expect("a thread").with_writer_counts(counts);
    let mut outputs = outputs.with_metrics(metrics.sink());
    let mut judgement = crate::sinks::sample::unauthenticated();
    for number in 0..CALLS {
        judgement.destination.workload = Some(format!("service-{number}").into());
        outputs.judgement(judgement.clone());
    }
    // What the webhook counts by itself may grow while it is read.
    let (page, own) = loop {
        let before = webhook.dropped();
        outputs.figures(&metrics);
        let page = metrics.render();
        if webhook.dropped() == before {
            break (page, before);
        }
    };
    let dropped = |sink: &str| {
        let line = format!("auditor_sink_dropped_total{{sink=\"{sink}\"}}");
        let found =
            page.lines().find_map(|found| found.strip_prefix(&line)).unwrap_or_else(|| panic!("{line}: {page}"));
        found.trim().parse::<u64>().expect("a number")
    };
    for sink in ["webhook", "alertmanager", "syslog", "journald", "output"] {
        assert!(dropped(sink) > 0 && dropped(sink) < CALLS, "{sink}: {}", dropped(sink));
    }
    let at_the_queue = dropped("webhook") - own;
    drop((listener, journal, release));
    let (report, ..) = outputs.finish(|snapshot| snapshot);
    assert_eq!(report.expect("gathered").total(), CALLS, "everything was judged");
    assert_eq!(at_the_queue + webhook.dropped(), CALLS, "nothing was delivered, so everything is counted");
}

#[test]
fn the_state_is_saved_at_the_end_and_restored() {
    let directory = tempfile::tempdir().expect("a directory");
    let run = |path: &Path| {
        let state = StateDir::open(path).expect("a directory");
        let mut ledger = ledger();
        if let Some(restored) = state.restore().take::<evidence::Restored>(evidence::SECTION, evidence::SECTION_VERSION)
        {
            restored.into_ledger(&mut ledger);
        }
        let count = ledger.groups().map(|group| group.seen.count).sum::<u64>();
        let evidence = Evidence::new(ledger).with_saver(state.saver()).expect("a thread");
        let mut pipeline = joined(Outputs::new().with_evidence(evidence));
        let mut source = capture("nginx-curl.pcapng");
        pipeline.run(&mut source, &control(&NEVER)).expect("whole");
        let finished = pipeline.finish(&mut source);
        assert!(finished.output_error.is_none());
        count
    };
    let path = directory.path().join("state");
    let counts = [run(&path), run(&path), run(&path)];
    assert!(counts[0] == 0 && counts[1] > 0 && counts[2] == 2 * counts[1], "{counts:?}");
}
