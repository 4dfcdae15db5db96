//! A stretch of work that all workers share: who may begin another operation, how far it is, and
//! when it must end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::client::answer::Failure;
use super::plan::Limit;
use super::process::Sample;

/// That the user wants an end: Ctrl-C, once or twice.
#[derive(Debug)]
pub(crate) struct Stop {
    wanted: AtomicBool,
    times: watch::Sender<u32>,
}

impl Stop {
    pub(crate) fn new() -> Self {
        Self { wanted: AtomicBool::new(false), times: watch::Sender::new(0) }
    }

    /// The user wants it, once more.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
        self.times.send_modify(|times| *times += 1);
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Ends when the user wants it for the second time.
    pub(crate) async fn twice(&self) {
        let mut times = self.times.subscribe();
        // The sender lives as long as `self`.
        let _ = times.wait_for(|times| *times >= 2).await;
    }
}

/// One stretch: a warm-up, a measurement, the making of objects.
#[derive(Debug)]
pub(crate) struct Phase {
    pub(crate) began: Instant,
    limit: Limit,
    stop: Arc<Stop>,
    tickets: AtomicU64,
    /// Operations that succeeded.
    pub(crate) done: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// Operations that failed.
    pub(crate) failed: AtomicU64,
    /// Whether there is nothing left to do, before the limit.
    exhausted: AtomicBool,
    /// What makes going on useless: a key and why.
    fatal: Mutex<Option<(String, Failure)>>,
    marking: Marking,
    marks: Mutex<Vec<Mark>>,
}

/// How often the clock and the servers are looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marking {
    /// After so many operations; 0 for never.
    pub(crate) every: u64,
    pub(crate) pids: Vec<u32>,
}

/// A look at the clock and the servers.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) done: u64,
    pub(crate) at: Duration,
    /// In the order of `Marking::pids`; none of a process that has ended.
    pub(crate) servers: Vec<Option<Sample>>,
}

impl Mark {
    /// Operations per second since an earlier one: how many there were, and when.
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    pub(crate) fn rate(&self, before: (u64, Duration)) -> f64 {
        let seconds = self.at.saturating_sub(before.1).as_secs_f64();
        self.done.saturating_sub(before.0) as f64 / seconds.max(1e-6)
    }

    /// For whoever watches.
    pub(crate) fn text(&self, before: (u64, Duration)) -> String {
        let (done, seconds, rate) = (self.done, self.at.as_secs_f64(), self.rate(before));
        format!("{done:>9} objects after {seconds:8.1} s, the last at {rate:.0}/s")
    }
}

impl Phase {
    /// Begin now.
    pub(crate) fn new(limit: Limit, stop: &Arc<Stop>, marking: Marking) -> Self {
        Self {
            began: Instant::now(),
            limit,
            stop: Arc::clone(stop),
            tickets: AtomicU64::new(0),
            done: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            exhausted: AtomicBool::new(false),
            fatal: Mutex::new(None),
            marking,
            marks: Mutex::default(),
        }
    }

    /// Leave to begin another operation, and its number.
    pub(crate) fn ticket(&self) -> Option<u64> {
        if self.is_over() || self.limit.time.is_some_and(|time| self.began.elapsed() >= time) {
            return None;
        }
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        self.limit.operations.is_none_or(|most| ticket < most).then_some(ticket)
    }

    /// Whether it ends before its limit.
    pub(crate) fn is_over(&self) -> bool {
        self.stop.is_wanted() || self.exhausted.load(Ordering::Relaxed)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_wanted()
    }

    /// There is nothing left to do.
    pub(crate) fn exhaust(&self) {
        self.exhausted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Relaxed)
    }

    /// Going on is useless.
    pub(crate) fn give_up(&self, key: String, failure: Failure) {
        let mut fatal = self.fatal.lock().unwrap_or_else(PoisonError::into_inner);
        fatal.get_or_insert((key, failure));
        self.exhaust();
    }

    pub(crate) fn fatal(&self) -> Option<(String, Failure)> {
        self.fatal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Count an operation that succeeded.
    pub(crate) fn count(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if self.marking.every > 0 && done.is_multiple_of(self.marking.every) {
            let at = self.began.elapsed();
            let servers = self.marking.pids.iter().map(|pid| Sample::of(*pid).ok()).collect();
            let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
            marks.push(Mark { done, at, servers });
        }
    }

    /// The marks up to now.
    pub(crate) fn marks(&self) -> Vec<Mark> {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        marks.sort_by_key(|mark| mark.done);
        marks
    }

    /// How far it is, from 0 to 1, if that is known.
    #[allow(clippy::cast_precision_loss, reason = "for a progress bar")]
    pub(crate) fn share(&self) -> Option<f64> {
        let ended = self.done.load(Ordering::Relaxed) + self.failed.load(Ordering::Relaxed);
        let of_count = self.limit.operations.map(|most| ended as f64 / most.max(1) as f64);
        let elapsed = self.began.elapsed().as_secs_f64();
        let of_time = self.limit.time.map(|time| elapsed / time.as_secs_f64().max(1e-9));
        let share = of_count.unwrap_or(0.0).max(of_time.unwrap_or(0.0));
        (of_count.is_some() || of_time.is_some()).then(|| share.min(1.0))
    }
}
