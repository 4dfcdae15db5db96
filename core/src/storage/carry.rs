//! Entries that no log can give up, while the journal fills up behind them: they are written again at
//! its head, so that it can be shortened up to there.
//!
//! Such are the entries that a replica has not seen committed while it is cut from its leader, and
//! those whose rows are in no run because the table waits for another replica's. Chunks are stored
//! meanwhile, and each is a record in the journal.
//!
//! A log is written again from its first entry to its last, in one go: recovery, which may begin
//! anywhere between, finds it in order. Until all of it is durable it counts, and is read, where it
//! stood; a crash before changes nothing.

use super::Parts;
use super::io::Io;
use super::journal::{Reader, Span};
use super::room::GAIN_PART;
use crate::consensus::Entry;
use crate::ids::{LogIndex, RangeId};

/// No more than this part of the ring is written again at once, and held in memory for that.
pub(super) const CARRIED_PART: u64 = 6;

/// The end of a log that is being read to be written again.
#[derive(Debug)]
pub(super) struct Carried {
    range: RangeId,
    span: Span,
    entries: Vec<Entry>,
}

impl Carried {
    /// Bytes in memory.
    pub(super) fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.payload.len() as u64).sum()
    }

    fn next(&self) -> LogIndex {
        self.entries.last().map_or(self.span.first, |entry| entry.index.next())
    }
}

impl Parts {
    /// Begin to write a log again, if it alone keeps the journal from being shortened by a good part.
    pub(super) fn carry_entries(&mut self, io: &mut Io<'_>) {
        if self.carried.is_some() || self.journal.is_writing_again() {
            return;
        }
        let mut firsts: Vec<(u64, RangeId, LogIndex)> = Vec::new();
        for (range, start) in self.checkpoints.starts() {
            let first = self.journal.first_entry_after(range, start);
            firsts.extend(first.map(|position| (position, range, start)));
        }
        firsts.sort_unstable();
        let Some((_, range, start)) = firsts.first().copied() else { return };
        let others = firsts.get(1).map(|(position, ..)| *position);
        let room = self.room();
        let others = others.into_iter().chain(self.chunks_needed()).fold(room.head, u64::min);
        let gain = self.journal.gain_before(others);
        let Some(span) = self.journal.span_after(range, start) else { return };
        let most = (room.ring / CARRIED_PART).min(gain / 2).min(self.journal.free_bytes() / 2);
        if gain >= room.ring / GAIN_PART && span.bytes <= most {
            self.carried = Some(Carried { range, span, entries: Vec::new() });
            self.read_carried(io);
        }
    }

    /// Entries that are to be written again have been read.
    pub(super) fn carry_on(&mut self, entries: Vec<Entry>, io: &mut Io<'_>) {
        let Some(carried) = &mut self.carried else { return };
        carried.entries.extend(entries);
        if carried.next() <= carried.span.last {
            return self.read_carried(io);
        }
        let Carried { range, span, mut entries } = self.carried.take().expect("it is there");
        let start = self.checkpoints.start(range);
        let now = self.journal.span_after(range, start);
        let is_as_it_was = |now: &Span| (now.last, now.place) == (span.last, span.place);
        // A state that is being put into place makes the log void.
        let stays = self.checkpoints.installing.is_none();
        if stays && now.as_ref().is_some_and(is_as_it_was) {
            entries.retain(|entry| entry.index > start);
            if planted!(CarriedEntryLost) && entries.len() > 1 {
                entries.pop();
            }
            self.last_ticket = self.journal.append_again(range, entries);
            probe!(EntriesCarried);
            self.carried_logs += 1;
        }
    }

    fn read_carried(&mut self, io: &mut Io<'_>) {
        let Some(carried) = &self.carried else { return };
        let (range, next) = (carried.range, carried.next());
        if !self.journal.read_entries(range, next, u64::MAX, Reader::Storage, io) {
            // It was replaced meanwhile, or is still being written.
            self.carried = None;
        }
    }
}
