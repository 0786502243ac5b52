//! Events gathered into batches and delivered one after the other, each tried until it is taken or given up.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{Complaint, Deliver, Item, Post, SharedCounts, backoff::Backoff};
use crate::evidence::Event;

/// Events that wait at most; what comes then is dropped and counted.
const WAITING: usize = 10_000;
/// Batches that are tried one after the other as long as they are taken; then what came in the meantime is looked at.
const IN_A_ROW: usize = 100;
/// Attempts for one batch. With the waits between them that is more than half an hour.
const ATTEMPTS: u32 = 12;

/// How many go at once, and how long they wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Most events in a batch.
    pub batch: usize,
    /// How long an event waits for others.
    pub interval: Duration,
}

/// Delivers batches through a [`Post`].
#[derive(Debug)]
pub struct Batches<P> {
    post: P,
    pace: Pace,
    waiting: VecDeque<Event>,
    /// When the first of those that wait came, or was last looked at.
    since: Option<Instant>,
    backoff: Backoff,
    /// Size and number of the batch that is being tried.
    current: Option<usize>,
    number: u64,
    counts: SharedCounts,
    complaint: Complaint,
}

impl<P: Post> Batches<P> {
    /// Nothing waits. `sink` names it in the log.
    pub fn new(sink: &'static str, post: P, pace: Pace, counts: SharedCounts) -> Self {
        Self {
            post,
            pace,
            waiting: VecDeque::new(),
            since: None,
            backoff: Backoff::default(),
            current: None,
            number: 0,
            counts,
            complaint: Complaint::new(sink),
        }
    }

    /// One attempt with the first batch. Whether it was taken.
    fn attempt(&mut self, now: Instant) -> bool {
        let size = self.current.unwrap_or(self.waiting.len().min(self.pace.batch.max(1)));
        self.current = Some(size);
        let events = &self.waiting.make_contiguous()[..size];
        match self.post.post(events, self.number) {
            Ok(()) => {
                self.backoff.succeeded();
                self.complaint.succeeded();
                self.next(size);
                true
            }
            Err(refusal) => {
                self.counts.fail();
                self.complaint.failed(&refusal, now);
                self.backoff.failed(now, refusal.after);
                if !refusal.retry || self.backoff.attempts() >= ATTEMPTS {
                    // The waits stay long: the receiver is no better for the next batch.
                    self.counts.give_up(size);
                    self.next(size);
                }
                false
            }
        }
    }

    fn next(&mut self, size: usize) {
        self.waiting.drain(..size);
        self.current = None;
        self.number += 1;
        if self.waiting.is_empty() {
            self.since = None;
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        let waited = self.since.is_some_and(|since| now.duration_since(since) >= self.pace.interval);
        self.current.is_some() || self.waiting.len() >= self.pace.batch || waited
    }
}

impl<P: Post> Deliver for Batches<P> {
    fn take(&mut self, item: Item) {
        match item {
            Item::Event(_) if self.waiting.len() >= WAITING => self.counts.give_up(1),
            Item::Event(event) => self.waiting.push_back(*event),
            Item::Active(_) => {}
        }
    }

    fn work(&mut self, now: Instant) {
        for _ in 0..IN_A_ROW {
            if self.waiting.is_empty() {
                return;
            }
            self.since.get_or_insert(now);
            if !self.backoff.is_over(now) || !self.is_due(now) || !self.attempt(now) {
                return;
            }
        }
    }

    fn close(&mut self) {
        let now = Instant::now();
        while !self.waiting.is_empty() {
            if !self.attempt(now) {
                self.counts.give_up(self.waiting.len());
                self.waiting.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::{
        super::{Counts, Refusal, tests::events},
        *,
    };

    /// What was tried: the batch's number and its size.
    type Tried = Arc<Mutex<Vec<(u64, usize)>>>;

    /// Answers as it is told, the last answer over and over.
    struct Scripted(Tried, Vec<Result<(), Refusal>>);

    impl Post for Scripted {
        fn post(&mut self, events: &[Event], batch: u64) -> Result<(), Refusal> {
            self.0.lock().unwrap().push((batch, events.len()));
            if self.1.len() > 1 { self.1.remove(0) } else { self.1[0].clone() }
        }
    }

    fn batches(answers: Vec<Result<(), Refusal>>) -> (Batches<Scripted>, Tried, Arc<Counts>) {
        let (tried, counts) = (Tried::default(), Arc::new(Counts::default()));
        let pace = Pace { batch: 10, interval: Duration::from_secs(5) };
        (Batches::new("test", Scripted(Arc::clone(&tried), answers), pace, Arc::clone(&counts)), tried, counts)
    }

    fn give(batches: &mut Batches<Scripted>, number: usize) {
        events(number).into_iter().for_each(|event| batches.take(Item::Event(Box::new(event))));
    }

    fn refused(retry: bool) -> Result<(), Refusal> {
        Err(Refusal { retry, ..Refusal::later("no") })
    }

    #[test]
    fn a_full_batch_goes_at_once_and_the_rest_when_its_time_is_up() {
        let (mut batches, tried, counts) = batches(vec![Ok(())]);
        let now = Instant::now();
        give(&mut batches, 25);
        for _ in 0..5 {
            batches.work(now);
        }
        assert_eq!(*tried.lock().unwrap(), [(0, 10), (1, 10)]);
        batches.work(now + Duration::from_secs(4));
        assert_eq!(tried.lock().unwrap().len(), 2, "five wait for others");
        batches.work(now + Duration::from_secs(5));
        assert_eq!(*tried.lock().unwrap(), [(0, 10), (1, 10), (2, 5)]);
        assert_eq!((counts.dropped(), counts.errors()), (0, 0));
    }

    #[test]
    fn a_burst_goes_in_a_row_until_one_is_not_taken() {
        let (mut burst, tried, _) = batches(vec![Ok(())]);
        burst.pace = Pace { batch: 1, interval: Duration::ZERO };
        give(&mut burst, IN_A_ROW + 1);
        burst.work(Instant::now());
        assert_eq!((tried.lock().unwrap().len(), burst.waiting.len()), (IN_A_ROW, 1));
        let (mut burst, tried, _) = batches(vec![Ok(()), Ok(()), refused(true)]);
        burst.pace = Pace { batch: 1, interval: Duration::ZERO };
        give(&mut burst, 10);
        burst.work(Instant::now());
        assert_eq!((tried.lock().unwrap().len(), burst.waiting.len()), (3, 8));
    }

    #[test]
    fn a_batch_is_tried_again_as_it_was_and_given_up_in_the_end() {
        let (mut batches, tried, counts) = batches(vec![refused(true)]);
        give(&mut batches, 3);
        let mut now = Instant::now();
        batches.work(now);
        for _ in 0..100_000 {
            now += Duration::from_secs(1);
            batches.work(now);
            if counts.dropped() > 0 {
                break;
            }
            if tried.lock().unwrap().len() == 2 {
                give(&mut batches, 1);
            }
        }
        let tried = tried.lock().unwrap();
        assert_eq!(tried.len(), ATTEMPTS as usize);
        assert!(tried.iter().all(|attempt| *attempt == (0, 3)), "the batch did not grow: {tried:?}");
        assert_eq!((counts.dropped(), counts.errors()), (3, u64::from(ATTEMPTS)));
    }

    #[test]
    fn what_will_never_be_taken_is_given_up_at_once_and_slows_the_next() {
        let (mut batches, tried, counts) = batches(vec![refused(false), Ok(())]);
        give(&mut batches, 20);
        let now = Instant::now();
        batches.work(now);
        batches.work(now);
        assert_eq!((tried.lock().unwrap().len(), counts.dropped()), (1, 10));
        batches.work(now + Duration::from_secs(2));
        assert_eq!(*tried.lock().unwrap(), [(0, 10), (1, 10)]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let (mut batches, _, counts) = batches(vec![refused(true)]);
        give(&mut batches, WAITING + 7);
        assert_eq!((batches.waiting.len(), counts.dropped()), (WAITING, 7));
    }

    #[test]
    fn the_end_tries_once_what_is_left() {
        let (mut whole, tried, counts) = batches(vec![Ok(())]);
        give(&mut whole, 12);
        whole.close();
        assert_eq!((tried.lock().unwrap().clone(), counts.dropped()), (vec![(0, 10), (1, 2)], 0));
        let (mut dead, tried, counts) = batches(vec![refused(true)]);
        give(&mut dead, 12);
        dead.close();
        assert_eq!((tried.lock().unwrap().len(), counts.dropped()), (1, 12));
    }
}
