//! Scrubbing: a store reads all its chunks within a period, verifies each block, and asks the range about
//! each blob, so that rot is found before it meets other damage, and nothing dead is kept for ever.
//!
//! One chunk at a time, in the order of their ids, at a pace at which a pass takes most of the period, and
//! not while gateways have the disk's budget in use. How far a pass has come is written down now and
//! then: after a restart it goes on there.

use super::reclaim::Reclaim;
use super::repair::Repair;
use super::serving::Host;
use crate::effects::{Effects, Now};
use crate::ids::{BlobId, ChunkId};
use crate::message::ChunkError;
use crate::rows::Miss;
use crate::storage::{Look, Looked, ScrubMark};
use crate::time::{Deadline, Duration, Instant, WallTime};

/// The one storage operation of scrubbing.
pub(super) const SCRUB_OP: u64 = 1 << 61;
/// Of a period so many hundredths are what a pass should take.
const SHARE: u64 = 80;
/// Most bytes per second.
const RATE_MAX: u64 = 64 << 20;
/// Until something that was busy is tried again.
const BUSY: Duration = Duration::from_millis(50);
/// How often progress is written down.
const MARK_EVERY: Duration = Duration::from_secs(60);

/// How far scrubbing has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// When the present pass began, or the last one if none is under way; 0 if none ever did.
    pub began: WallTime,
    /// The next chunk to be read; `None` while no pass is under way.
    pub at: Option<ChunkId>,
    /// Bytes read in this life.
    pub bytes: u64,
    /// Bytes read in the present pass, or the last one, in this life.
    pub pass_bytes: u64,
    /// Passes that ended in this life.
    pub passes: u64,
    /// Copies that did not verify, in this life.
    pub damaged: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The next pass begins then.
    Resting,
    /// The next chunk is looked up.
    Seeking,
    /// A block of the index is missing.
    Fetching(Miss),
    /// This chunk is being read.
    Reading(ChunkId),
}

/// The scrubber of a store.
#[derive(Debug)]
pub(super) struct Scrub {
    state: State,
    mark: ScrubMark,
    /// Nothing is done before this.
    next: Instant,
    /// When the present pass began, or was gone on with in this life.
    pass_began: Instant,
    /// When progress was last written down.
    marked: Instant,
    /// The range was asked about this blob.
    asked: Option<BlobId>,
    held: Option<Miss>,
    report: ScrubReport,
}

impl Scrub {
    /// It goes on where the last life stopped.
    pub(super) fn new(now: Now, mark: ScrubMark, period: Duration) -> Self {
        let state = if mark.at.is_some() { State::Seeking } else { State::Resting };
        let report = ScrubReport { began: mark.began, ..ScrubReport::default() };
        // By the wall clock only what lies between two lives is measured. If it was set back, or nothing was
        // ever scrubbed, there is no telling.
        let since = now.wall.as_millis().checked_sub(mark.began.as_millis());
        let left = millis(period).saturating_sub(since.unwrap_or(0));
        let rest =
            if state == State::Resting { Duration::from_millis(left) } else { Duration::ZERO };
        let (next, marked) = (now.instant + rest, now.instant);
        let (asked, held, pass_began) = (None, None, now.instant);
        Self { state, mark, next, pass_began, marked, asked, held, report }
    }

    /// A block of the index is in memory.
    pub(super) fn fetched(&mut self, now: Now, miss: Miss) {
        if self.state == State::Fetching(miss) {
            self.state = State::Seeking;
            self.held = Some(miss);
            self.next = now.instant;
        }
    }

    /// Go on.
    pub(super) fn drive(&mut self, now: Now, host: &mut Host, fx: &mut Effects) {
        let held = self.held.take();
        self.advance(now, host, fx);
        if let Some(miss) = held {
            host.storage.release(miss);
        }
    }

    fn advance(&mut self, now: Now, host: &mut Host, fx: &mut Effects) {
        if self.next > now.instant {
            return;
        }
        if self.state == State::Resting {
            self.state = State::Seeking;
            self.pass_began = now.instant;
            self.mark = ScrubMark { began: now.wall, at: Some(ChunkId::default()) };
            (self.report.pass_bytes, self.asked) = (0, None);
            self.write_mark(now, host);
        }
        if self.state != State::Seeking {
            return;
        }
        let (in_hand, budget) = host.storage.chunk_bytes();
        if !host.storage.chunk_index_is_complete() || in_hand > budget / 4 * 3 {
            self.next = now.instant + BUSY;
            return;
        }
        let at = self.mark.at.unwrap_or_default();
        match host.storage.next_chunk(at) {
            Err(miss) => {
                self.state = State::Fetching(miss);
                host.storage.fetch(miss, false, fx);
            }
            Ok(Some(chunk)) => {
                self.state = State::Reading(chunk);
                host.storage.look_at_chunk(SCRUB_OP, chunk, Look::Copy, fx);
            }
            Ok(None) => {
                probe!(ScrubPassed);
                self.report.passes += 1;
                self.state = State::Resting;
                // A pass that took longer than its period is followed by the next.
                self.next = now.instant.max(self.pass_began + host.config.timing.scrub_every);
                self.mark.at = None;
                self.write_mark(now, host);
            }
        }
    }

    /// The chunk was read.
    pub(super) fn looked(
        &mut self,
        now: Now,
        result: Result<Looked, ChunkError>,
        (repair, reclaim): (&mut Repair, &mut Reclaim),
        host: &mut Host,
    ) {
        let State::Reading(chunk) = self.state else { return };
        self.state = State::Seeking;
        self.next = now.instant;
        let length = match result {
            Ok(Looked::Copied(copy)) => {
                if self.asked != Some(chunk.blob)
                    && !reclaim.ask_about(now, chunk.blob, &copy.owner)
                {
                    // Too much is in question: this one has to wait.
                    self.next = now.instant + BUSY;
                    return;
                }
                self.asked = Some(chunk.blob);
                copy.data.len() as u64
            }
            Err(ChunkError::Overloaded) => {
                self.next = now.instant + BUSY;
                return;
            }
            Err(ChunkError::Damaged | ChunkError::Io) => {
                probe!(ScrubFoundDamage);
                self.report.damaged += 1;
                if !planted!(ScrubDamageUnreported) {
                    repair.read_badly(now, chunk);
                }
                0
            }
            // It is gone meanwhile.
            Ok(_) | Err(_) => 0,
        };
        self.report.bytes += length;
        self.report.pass_bytes += length;
        let Some(behind) = chunk.successor() else { return };
        self.mark.at = Some(behind);
        self.next = now.instant + pause(length, host);
        if self.marked + MARK_EVERY <= now.instant {
            self.write_mark(now, host);
        }
    }

    fn write_mark(&mut self, now: Now, host: &mut Host) {
        self.marked = now.instant;
        host.storage.mark_scrubbed(self.mark);
    }

    pub(super) fn report(&self) -> ScrubReport {
        ScrubReport { began: self.mark.began, at: self.mark.at, ..self.report }
    }

    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        match self.state {
            State::Resting | State::Seeking => Some(Deadline { at: self.next, reason: "scrub" }),
            State::Fetching(_) | State::Reading(_) => None,
        }
    }
}

/// After so many bytes, so that a pass takes its share of the period.
fn pause(bytes: u64, host: &Host) -> Duration {
    if buggify!(ScrubHurries) {
        return Duration::ZERO;
    }
    let (_, used) = host.storage.space();
    let period = millis(host.config.timing.scrub_every).saturating_mul(1_000_000);
    let share = u128::from(period) * u128::from(SHARE) / 100;
    let nanos = u128::from(bytes) * share / u128::from(used.max(1));
    let least = u128::from(bytes) * 1_000_000_000 / u128::from(RATE_MAX);
    Duration::from_nanos(u64::try_from(nanos.max(least)).unwrap_or(u64::MAX))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
