//! Evidence on its way: the ledger on the pipeline's thread, behind it one queue for each sink and one for the state. None of them can
//! stall it: what does not fit is dropped and counted.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

use super::queue::{Consumer, Queue, WhenFull};
use crate::{
    evidence::{Event, Ledger, SECTION, SECTION_VERSION, Saved},
    judgement::Judgement,
    sinks::{
        deliver::{Counts, Deliver, Item},
        metrics::Metrics,
    },
    state::{Saver, Snapshot},
};

/// How often the state is saved.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// Items that wait for a sink at most.
const WAITING: usize = 4096;
/// Snapshots that wait at most: one that is older than the next is of no use.
const SNAPSHOTS: usize = 1;

/// Gathers findings and tells sinks of them.
pub struct Evidence {
    ledger: Ledger,
    sinks: Vec<FindingSink>,
    saver: Option<(Queue<Snapshot>, Arc<Counts>)>,
    saved: Instant,
}

struct FindingSink {
    name: &'static str,
    queue: Queue<Item>,
    counts: Arc<Counts>,
    lists: Option<Lists>,
}

/// A sink that wants lists of the groups seen lately.
struct Lists {
    every: Duration,
    within: SignedDuration,
    due: Instant,
}

impl Evidence {
    /// Gathers into `ledger`.
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger, sinks: Vec::new(), saver: None, saved: Instant::now() }
    }

    /// Also tells `sink` of events. `counts` are those that it counts into.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn with_sink(
        mut self,
        name: &'static str,
        sink: impl Deliver + 'static,
        counts: Arc<Counts>,
    ) -> io::Result<Self> {
        let queue = Queue::bounded(name, WhenFull::Drop, WAITING, Delivering(sink))?;
        self.sinks.push(FindingSink { name, queue, counts, lists: None });
        Ok(self)
    }

    /// The sink that was added last also gets, at these intervals, the groups that were seen within this time.
    #[must_use]
    pub fn with_lists(mut self, every: Duration, within: SignedDuration) -> Self {
        if let Some(sink) = self.sinks.last_mut() {
            sink.lists = Some(Lists { every, within, due: Instant::now() });
        }
        self
    }

    /// Also saves, every minute and at the end.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn with_saver(mut self, saver: Saver) -> io::Result<Self> {
        let counts = Arc::new(Counts::default());
        let saving = Saving { saver, counts: Arc::clone(&counts), failing: false };
        self.saver = Some((Queue::bounded("state", WhenFull::Drop, SNAPSHOTS, saving)?, counts));
        Ok(self)
    }

    pub(super) fn judgement(&mut self, judgement: &Judgement) {
        let Self { ledger, sinks, .. } = self;
        ledger.judgement(judgement, |event| tell(sinks, &event));
    }

    /// About once a second. `more` adds what else is to be saved to a snapshot.
    pub(super) fn tick(&mut self, more: impl FnOnce(Snapshot) -> Snapshot) {
        let now = Instant::now();
        for sink in &mut self.sinks {
            if let Some(lists) = sink.lists.as_mut().filter(|lists| now >= lists.due) {
                lists.due = now + lists.every;
                let since = Timestamp::now().saturating_sub(lists.within).unwrap_or(Timestamp::MIN);
                sink.queue.push(Item::Active(self.ledger.seen_since(since)));
            }
        }
        if now.duration_since(self.saved) >= SAVE_EVERY {
            self.saved = now;
            self.save(more);
        }
    }

    fn save(&mut self, more: impl FnOnce(Snapshot) -> Snapshot) {
        if let Some((queue, _)) = &mut self.saver {
            queue.push(more(Snapshot::new().with(SECTION, SECTION_VERSION, Saved::of(&self.ledger))));
        }
    }

    pub(super) fn figures(&self, metrics: &Metrics) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        metrics.set_tracked("finding-groups", number(self.ledger.len()), number(self.ledger.limit()));
        metrics.set_evicted("finding-groups", self.ledger.evicted());
        for sink in &self.sinks {
            metrics.set_sink_dropped(sink.name, sink.queue.dropped() + sink.counts.dropped());
            metrics.set_sink_errors(sink.name, sink.counts.errors());
        }
        if let Some((queue, counts)) = &self.saver {
            metrics.set_sink_dropped("state", queue.dropped());
            metrics.set_sink_errors("state", counts.errors());
        }
    }

    /// Saves and delivers what there is. Those that are stuck are waited for together, not one after the other.
    pub(super) fn finish(mut self, more: impl FnOnce(Snapshot) -> Snapshot) {
        self.save(more);
        let saver = self.saver.map(|(queue, _)| ("state", queue.end()));
        let sinks = self.sinks.into_iter().map(|sink| (sink.name, sink.queue.end()));
        for (sink, ending) in saver.into_iter().chain(sinks.collect::<Vec<_>>()) {
            if let Err(error) = ending.wait() {
                tracing::warn!(sink, %error, "not everything was delivered");
            }
        }
    }
}

fn tell(sinks: &mut [FindingSink], event: &Event) {
    for sink in sinks {
        sink.queue.push(Item::Event(Box::new(event.clone())));
    }
}

/// A sink on its thread.
struct Delivering<D>(D);

impl<D: Deliver> Consumer<Item> for Delivering<D> {
    fn take(&mut self, item: Item) {
        self.0.take(item);
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.work(Instant::now());
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        self.0.close();
        Ok(())
    }
}

/// The state on its thread. That it cannot be saved now is no reason to end: it may be possible later.
struct Saving {
    saver: Saver,
    counts: Arc<Counts>,
    failing: bool,
}

impl Consumer<Snapshot> for Saving {
    fn take(&mut self, snapshot: Snapshot) {
        match self.saver.save(snapshot) {
            Ok(()) if std::mem::take(&mut self.failing) => tracing::info!("the state is saved again"),
            Ok(()) => {}
            Err(error) => {
                self.counts.fail();
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "the state cannot be saved; check the state directory and the space there");
                }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
