//! A bounded queue to a thread that writes. What is slow behind it never stalls the stages before it: live, what does not fit
//! is dropped and counted; from a file, the source waits.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// Items that wait at most.
const CAPACITY: usize = 8192;
/// How long what was taken may wait to be written.
const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// How long the end waits for a writer that is stuck, such as a pipe nobody reads.
const STUCK: Duration = Duration::from_secs(5);

/// Takes items on the writing thread.
pub(super) trait Consumer<T> {
    /// Takes one.
    fn take(&mut self, item: T);

    /// Writes what is buffered.
    fn flush(&mut self) -> io::Result<()>;

    /// No more comes: writes what there is.
    fn close(&mut self) -> io::Result<()> {
        self.flush()
    }
}

/// What to do when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Drop the item and count it.
    Drop,
    /// Wait.
    Wait,
}

/// The sending side.
pub(super) struct Queue<T> {
    sender: SyncSender<T>,
    ended: Receiver<io::Result<()>>,
    failed: Arc<AtomicBool>,
    when_full: WhenFull,
    dropped: u64,
}

impl<T: Send + 'static> Queue<T> {
    pub(super) fn start(
        name: &str,
        when_full: WhenFull,
        consumer: impl Consumer<T> + Send + 'static,
    ) -> io::Result<Self> {
        Self::bounded(name, when_full, CAPACITY, consumer)
    }

    /// As [`Self::start`], with another number of items that wait at most.
    pub(super) fn bounded(
        name: &str,
        when_full: WhenFull,
        capacity: usize,
        mut consumer: impl Consumer<T> + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(capacity);
        let (end, ended) = sync_channel(1);
        let failed = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&failed);
        thread::Builder::new().name(format!("auditor-{name}")).spawn(move || {
            let result = consume(&receiver, &mut consumer);
            told.store(result.is_err(), Ordering::Release);
            // Nobody waits any more: then nobody wants to know.
            let _ = end.send(result);
        })?;
        Ok(Self { sender, ended, failed, when_full, dropped: 0 })
    }

    pub(super) fn push(&mut self, item: T) {
        let sent = match self.when_full {
            WhenFull::Wait => self.sender.send(item).is_ok(),
            WhenFull::Drop => match self.sender.try_send(item) {
                Ok(()) => true,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
            },
        };
        self.dropped += u64::from(!sent);
    }

    /// Items that were not taken.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The writer has given up; [`Self::finish`] says why.
    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Waits until everything is written.
    pub(super) fn finish(self) -> io::Result<()> {
        self.end().wait()
    }

    /// Says that no more comes. [`Ending::wait`] waits; that of several queues can run at the same time.
    pub(super) fn end(self) -> Ending {
        let until = (self.when_full == WhenFull::Drop).then(|| Instant::now() + STUCK);
        Ending { ended: self.ended, until }
    }
}

/// A queue that writes what it still has.
pub(super) struct Ending {
    ended: Receiver<io::Result<()>>,
    /// Not waited for any longer.
    until: Option<Instant>,
}

impl Ending {
    /// Waits until everything is written.
    pub(super) fn wait(self) -> io::Result<()> {
        let result = match self.until {
            None => self.ended.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => self.ended.recv_timeout(until.saturating_duration_since(Instant::now())),
        };
        match result {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "nobody takes what is written"))
            }
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the writing thread had panicked")),
        }
    }
}

fn consume<T>(receiver: &Receiver<T>, consumer: &mut impl Consumer<T>) -> io::Result<()> {
    let mut flushed = Instant::now();
    loop {
        match receiver.recv_timeout(FLUSH_EVERY) {
            Ok(item) => consumer.take(item),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return consumer.close(),
        }
        if flushed.elapsed() >= FLUSH_EVERY {
            consumer.flush()?;
            flushed = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    #[derive(Clone, Default)]
    struct Collected(Arc<Mutex<Vec<u32>>>);

    impl Consumer<u32> for Collected {
        fn take(&mut self, item: u32) {
            self.0.lock().expect("not poisoned").push(item);
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Blocked(Receiver<()>);

    impl Consumer<u32> for Blocked {
        fn take(&mut self, _: u32) {
            let _ = self.0.recv();
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken;

    impl Consumer<u32> for Broken {
        fn take(&mut self, _: u32) {}

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn everything_arrives_in_order() {
        let collected = Collected::default();
        let mut queue = Queue::start("test", WhenFull::Wait, collected.clone()).expect("a thread");
        (0..50_000).for_each(|item| queue.push(item));
        assert_eq!(queue.dropped(), 0);
        queue.finish().expect("written");
        assert!(collected.0.lock().expect("not poisoned").iter().copied().eq(0..50_000));
    }

    #[test]
    fn a_stuck_writer_stalls_nobody_and_what_is_dropped_is_counted() {
        let (release, blocked) = mpsc::channel();
        let mut queue = Queue::start("test", WhenFull::Drop, Blocked(blocked)).expect("a thread");
        let pushed = 3 * CAPACITY;
        (0..pushed).for_each(|_| queue.push(0));
        let dropped = usize::try_from(queue.dropped()).expect("small");
        assert!((pushed - CAPACITY - 1..=pushed - CAPACITY).contains(&dropped), "{dropped} of {pushed}");
        drop(release);
        queue.finish().expect("written");
    }

    #[test]
    fn an_error_is_told() {
        let mut queue = Queue::start("test", WhenFull::Drop, Broken).expect("a thread");
        queue.push(0);
        while !queue.failed() {
            thread::sleep(Duration::from_millis(1));
        }
        queue.push(1);
        assert_eq!(queue.dropped(), 1);
        assert_eq!(queue.finish().expect_err("broken").kind(), io::ErrorKind::BrokenPipe);
    }
}
