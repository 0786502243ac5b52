//! Following the policy file: what changes in it applies without a restart, and what is wrong in it changes nothing.
//!
//! A thread looks at the file every other second, and at once on SIGHUP. It takes a file that was replaced, as editors and
//! Kubernetes do it, for changed as well as one that was written to. The judge goes on meanwhile.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::Rulebook;
use crate::config::ConfigError;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often the thread wakes to see whether it is asked to look or to end.
const WAKE_EVERY: Duration = Duration::from_millis(100);

/// What came of reading the file again.
pub type Reread = Result<Rulebook, ConfigError>;

/// The policy file that is in force, followed by a thread. Dropping it ends the thread.
#[derive(Debug)]
pub struct Follower {
    news: Option<Receiver<Reread>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// By what a file is known to be another: device, inode, size, last change.
type Stamp = (u64, u64, u64, i64, i64);

/// One policy file, as it was when it was read last.
#[derive(Debug)]
pub struct Watched {
    file: PathBuf,
    stamp: Option<Stamp>,
}

impl Watched {
    /// A file, as it is now. Take it before the file is read for the first time: what is written meanwhile is seen then.
    #[must_use]
    pub fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), stamp: stamp(file) }
    }

    /// Reads the file if it has changed since, or if `asked`.
    pub fn reread(&mut self, asked: bool) -> Option<Reread> {
        let now = stamp(&self.file);
        if now == self.stamp && !asked {
            return None;
        }
        self.stamp = now;
        Some(Rulebook::load(&self.file, today()))
    }
}

/// Symbolic links are followed: a ConfigMap is swapped by changing one.
fn stamp(file: &Path) -> Option<Stamp> {
    let of = fs::metadata(file).ok()?;
    Some((of.dev(), of.ino(), of.size(), of.mtime(), of.mtime_nsec()))
}

/// The day it is, UTC.
#[must_use]
pub fn today() -> jiff::civil::Date {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date()
}

impl Follower {
    /// Follows a file. `asked` is set from outside, by SIGHUP, to have it read at once.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(watched: Watched, asked: Arc<AtomicBool>) -> io::Result<Self> {
        // What is not taken yet holds the thread up: the newest file is read when there is room.
        let (sender, news) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("auditor-policy".to_owned())
            .spawn(move || follow(watched, &asked, &stopped, &sender))?;
        Ok(Self { news: Some(news), stop, thread: Some(thread) })
    }

    /// What came of reading the file since this was last asked.
    #[must_use]
    pub fn news(&self) -> Option<Reread> {
        self.news.as_ref()?.try_recv().ok()
    }
}

fn follow(mut watched: Watched, asked: &AtomicBool, stopped: &AtomicBool, sender: &SyncSender<Reread>) {
    let mut due = Instant::now() + LOOK_EVERY;
    while !stopped.load(Ordering::Relaxed) {
        let at_once = asked.swap(false, Ordering::Relaxed);
        if at_once || due <= Instant::now() {
            due = Instant::now() + LOOK_EVERY;
            // The receiver is gone when the auditor ends.
            if watched.reread(at_once).is_some_and(|news| sender.send(news).is_err()) {
                return;
            }
        }
        thread::sleep(WAKE_EVERY);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A thread that waits for room to send is woken by this.
        drop(self.news.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that followed the policy file had panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "version: 1\nroutes:\n  - name: orders\n";

    #[test]
    fn a_file_is_read_again_when_it_is_another() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("policy.yaml");
        let target = directory.path().join("..data");
        fs::write(&target, GOOD).expect("written");
        std::os::unix::fs::symlink(&target, &file).expect("linked");
        let mut watched = Watched::new(&file);
        assert!(watched.reread(false).is_none(), "nothing has changed");
        assert!(watched.reread(true).expect("asked").is_ok());
        // As editors do it: another file under the same name.
        let other = directory.path().join("new");
        fs::write(&other, "version: 2\n").expect("written");
        fs::rename(&other, &target).expect("renamed");
        let error = watched.reread(false).expect("changed").expect_err("wrong").to_string();
        assert!(
            error.ends_with("policy.yaml:1:10: version `2` is not known; write `version: 1`, or take a newer auditor"),
            "{error}"
        );
        fs::remove_file(&target).expect("removed");
        assert!(watched.reread(false).expect("gone").is_err());
        assert!(watched.reread(false).is_none(), "said once");
        fs::write(&target, GOOD).expect("written");
        assert!(watched.reread(false).expect("back").is_ok());
    }

    #[test]
    fn the_thread_reads_when_it_is_asked_and_ends() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("policy.yaml");
        fs::write(&file, GOOD).expect("written");
        let asked = Arc::new(AtomicBool::new(true));
        let follower = Follower::start(Watched::new(&file), asked).expect("starts");
        let news = loop {
            match follower.news() {
                Some(news) => break news,
                None => thread::yield_now(),
            }
        };
        assert_eq!(news.expect("valid").route_names().count(), 1);
    }
}
