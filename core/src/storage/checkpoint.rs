//! Checkpoints: a few records at the head of the journal in place of all that came before, so that the
//! ring can be used again and recovery begins there.
//!
//! ```text
//! Idle ── begin ─▶ Waiting ── edits in flight are durable ─▶ Writing ── durable ─▶ tail moves ─▶ Idle
//!                  (new edits are held back)
//! ```
//!
//! A checkpoint says where each log begins, its hard state and whether it is suspect, and what the
//! shelf holds. It has no rows and no entries. What is in no run yet is made anew from entries and
//! chunk records, which stay in the journal until it is: the tail moves up to the first that is needed.
//!
//! Edits are held back because the shelf's memory follows the journal: an edit in flight is in neither
//! the checkpoint nor behind it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::journal::{JournalTicket, Record};
use super::opening::{OpenedRange, distrust};
use crate::codec::Wire;
use crate::consensus::HardState;
use crate::ids::{Incarnation, LogIndex, RangeId, Term};

/// The oldest chunk records that are in no run hold this part of the ring at most; then they are
/// written out.
pub(super) const CHUNKS_PART: u64 = 4;
/// Places of chunk records nearer to each other than this part of the ring are one.
const PLACES: u64 = 256;

/// What the journal has said of a log.
#[derive(Clone, Debug, Default)]
struct Log {
    /// It begins after this entry, of this term, with this configuration.
    start: (LogIndex, Term, Bytes),
    hard_state: HardState,
    /// 0 if it is trusted.
    suspect: u64,
}

/// Where a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// None is being made.
    Idle,
    /// For edits in flight.
    Waiting,
    /// Its records are in the journal, the last with this ticket, and not known durable; nothing before
    /// the position is needed with them.
    Writing(JournalTicket, u64),
}

/// An edit that waits for a checkpoint: its number, itself, and the batch of its chunk records.
pub(super) type HeldEdit = (u64, Bytes, Option<LogIndex>);

/// A state that is being put into place.
#[derive(Debug)]
pub(super) struct InstallingLog {
    pub(super) range: RangeId,
    /// The last entry that it covers, after which the log begins then, and the configuration there.
    pub(super) start: (LogIndex, Term, Bytes),
    /// Whether the log so far is void then.
    pub(super) replaces_log: bool,
}

/// What checkpoints are made of, and the one that is being made.
#[derive(Debug)]
pub(super) struct Checkpoints {
    logs: BTreeMap<RangeId, Log>,
    doubted: Incarnation,
    pub(super) chunks: ChunkPlaces,
    pub(super) stage: Stage,
    pub(super) held: Vec<HeldEdit>,
    /// A state whose edit is on its way, and where the log begins then.
    pub(super) installing: Option<InstallingLog>,
    /// How many were made in this life.
    pub(super) made: u64,
}

impl Checkpoints {
    /// Of what recovery found.
    pub(super) fn new(
        ranges: &BTreeMap<RangeId, OpenedRange>,
        doubted: Incarnation,
        chunks: ChunkPlaces,
    ) -> Self {
        let log = |range: &OpenedRange| {
            let known = range.memberships.first().filter(|(of, _)| *of <= range.base_index);
            let membership = known.map_or_else(Bytes::new, |(_, known)| known.to_bytes());
            Log {
                start: (range.base_index, range.base_term, membership),
                hard_state: range.hard_state,
                suspect: range.suspect,
            }
        };
        Self {
            logs: ranges.iter().map(|(range, found)| (*range, log(found))).collect(),
            doubted,
            chunks,
            stage: Stage::Idle,
            held: Vec::new(),
            installing: None,
            made: 0,
        }
    }

    /// A record goes into the journal.
    pub(super) fn note(&mut self, record: &Record) {
        match record {
            Record::HardState { range, term, vote } => {
                let vote = vote.filter(|_| !planted!(CheckpointForgetsVote));
                let state = HardState { term: *term, vote };
                self.logs.entry(*range).or_default().hard_state = state;
            }
            Record::Entry { range, .. } => {
                self.logs.entry(*range).or_default();
            }
            Record::Suspect { range: RangeId(0), number } => {
                self.doubted = self.doubted.max(Incarnation(*number));
            }
            Record::Suspect { range, number } => {
                self.logs.entry(*range).or_default().suspect = *number;
            }
            Record::Trusted { range } => self.logs.entry(*range).or_default().suspect = 0,
            Record::Edit(_)
            | Record::LogStart { .. }
            | Record::Checkpoint { .. }
            | Record::EntryAgain { .. } => {}
        }
    }

    /// A log begins after this entry from the next checkpoint on.
    pub(super) fn log_starts(
        &mut self,
        range: RangeId,
        index: LogIndex,
        term: Term,
        membership: Bytes,
    ) {
        self.logs.entry(range).or_default().start = (index, term, membership);
    }

    /// Each log, and the entry after which it begins.
    pub(super) fn starts(&self) -> impl Iterator<Item = (RangeId, LogIndex)> {
        self.logs.iter().map(|(range, log)| (*range, log.start.0))
    }

    /// The entry after which a log begins.
    pub(super) fn start(&self, range: RangeId) -> LogIndex {
        self.logs.get(&range).map_or(LogIndex(0), |log| log.start.0)
    }

    /// The records of a checkpoint with the shelf's edits, behind which nothing is needed that stands
    /// before a position.
    pub(super) fn records(&self, edits: Vec<Bytes>, needed: u64) -> Vec<Record> {
        let mut records = Vec::new();
        if self.doubted > Incarnation(0) && !planted!(CheckpointForgetsSuspicion) {
            records.push(distrust(self.doubted));
        }
        for (range, log) in &self.logs {
            let (range, number) = (*range, log.suspect);
            let (index, term, membership) = log.start.clone();
            records.push(Record::LogStart { range, index, term, membership });
            let HardState { term, vote } = log.hard_state;
            records.push(Record::HardState { range, term, vote });
            records.push(match number {
                _ if planted!(CheckpointForgetsSuspicion) => Record::Trusted { range },
                0 => Record::Trusted { range },
                _ => Record::Suspect { range, number },
            });
        }
        records.extend(edits.into_iter().map(Record::Edit));
        let first = Record::Checkpoint { records: records.len() as u64, needed };
        records.insert(0, first);
        records
    }
}

/// Where in the journal the records of chunks are: per batch, a position that is not behind it.
#[derive(Clone, Debug, Default)]
pub(super) struct ChunkPlaces {
    /// The last batch of several that are near each other, and where the first of them is. Ascending.
    places: VecDeque<(LogIndex, u64)>,
}

impl ChunkPlaces {
    /// A batch is at `position` or behind it.
    pub(super) fn put(&mut self, batch: LogIndex, position: u64, ring_bytes: u64) {
        match self.places.back_mut() {
            Some((last, first)) if position < *first + ring_bytes / PLACES => {
                *last = batch.max(*last);
            }
            _ => self.places.push_back((batch, position)),
        }
    }

    /// Not behind the first batch after `flushed`.
    pub(super) fn first_after(&self, flushed: LogIndex) -> Option<u64> {
        let place = self.places.partition_point(|(last, _)| *last <= flushed);
        self.places.get(place).map(|(_, position)| *position)
    }

    /// Batches up to `flushed` are in runs.
    pub(super) fn forget_through(&mut self, flushed: LogIndex) {
        while self.places.front().is_some_and(|(last, _)| *last <= flushed) {
            self.places.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_records_that_are_near_each_other_are_kept_together() {
        let ring = 256 * 100;
        let mut places = ChunkPlaces::default();
        for (batch, position) in [(1, 0), (2, 50), (3, 99), (4, 100), (5, 900)] {
            places.put(LogIndex(batch), position, ring);
        }
        let first = |flushed| places.first_after(LogIndex(flushed));
        assert_eq!(
            [0, 1, 2, 3, 4, 5].map(first),
            [0, 0, 0, 100, 900, u64::MAX].map(|p| Some(p).filter(|p| *p < u64::MAX))
        );
        places.forget_through(LogIndex(3));
        assert_eq!(places.first_after(LogIndex(0)), Some(100));
    }

    #[test]
    fn a_checkpoint_says_what_was_said_last() {
        let range = RangeId(1);
        let mut checkpoints =
            Checkpoints::new(&BTreeMap::new(), Incarnation(0), ChunkPlaces::default());
        checkpoints.note(&Record::Suspect { range, number: 3 });
        checkpoints.note(&Record::HardState { range, term: Term(1), vote: None });
        checkpoints.note(&Record::HardState { range, term: Term(2), vote: None });
        checkpoints.log_starts(range, LogIndex(9), Term(1), Bytes::from_static(b"m"));
        let membership = Bytes::from_static(b"m");
        let start = Record::LogStart { range, index: LogIndex(9), term: Term(1), membership };
        let state = Record::HardState { range, term: Term(2), vote: None };
        let suspect = Record::Suspect { range, number: 3 };
        let edit = Bytes::from_static(b"e");
        let expected = [
            Record::Checkpoint { records: 4, needed: 8192 },
            start,
            state,
            suspect,
            Record::Edit(edit.clone()),
        ];
        assert_eq!(checkpoints.records(vec![edit], 8192), expected);
        checkpoints.note(&Record::Trusted { range });
        checkpoints.note(&distrust(Incarnation(5)));
        let records = checkpoints.records(Vec::new(), 0);
        assert_eq!(records[1], distrust(Incarnation(5)));
        assert_eq!(records[4], Record::Trusted { range });
    }
}
