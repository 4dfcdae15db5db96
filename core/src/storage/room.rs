//! Keeping the journal short: what of it is still needed, and when a checkpoint is worth it.

use bytes::Bytes;

use super::checkpoint::{CHUNKS_PART, HeldEdit, InstallingLog, Stage};
use super::shelf::TableId;
use super::{JournalTicket, Parts, Phase, Record, Storage};
use crate::effects::Effects;
use crate::ids::{LogIndex, RangeId, Term};

/// A checkpoint is made when it gives this part of the ring back...
pub(super) const GAIN_PART: u64 = 8;
/// ...or this one, once half of the ring is in use.
const SMALL_GAIN_PART: u64 = 32;

/// How far the journal reaches, in positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournalRoom {
    /// Where it begins.
    pub(crate) tail: u64,
    /// Where it ends.
    pub(crate) head: u64,
    /// Bytes of the ring.
    pub(crate) ring: u64,
}

impl JournalRoom {
    /// Bytes in use.
    pub(crate) fn used(self) -> u64 {
        self.head - self.tail
    }
}

impl Storage {
    /// How far the journal reaches; `None` while a checkpoint is being made.
    pub(crate) fn journal_room(&self) -> Option<JournalRoom> {
        match &self.phase {
            Phase::Open(parts) if parts.checkpoints.stage == Stage::Idle => Some(parts.room()),
            _ => None,
        }
    }

    /// What stands in the journal before this position may be written over.
    pub(crate) fn journal_given_up(&self) -> u64 {
        match &self.phase {
            Phase::Open(parts) => parts.journal.given_up(),
            _ => 0,
        }
    }

    /// Positions at which the journal begins and ends.
    pub(crate) fn journal_span(&self) -> (u64, u64) {
        match &self.phase {
            Phase::Open(parts) => (parts.journal.tail(), parts.journal.head()),
            _ => (0, 0),
        }
    }

    /// Where the first known entry of a log after `index` stands.
    pub(crate) fn first_entry_after(&mut self, range: RangeId, index: LogIndex) -> Option<u64> {
        self.parts().journal.first_entry_after(range, index)
    }

    /// The last known entry of a log that stands before a position.
    pub(crate) fn last_entry_before(&mut self, range: RangeId, position: u64) -> Option<LogIndex> {
        self.parts().journal.last_entry_before(range, position)
    }

    /// Entries of a log up to this one, whose rows are in runs, are not needed any more. `membership`:
    /// the configuration there, encoded; empty if it is not known.
    pub(crate) fn start_log_after(
        &mut self,
        range: RangeId,
        (index, term): (LogIndex, Term),
        membership: Bytes,
    ) {
        let parts = self.parts();
        assert!(index <= parts.shelf.flushed(TableId::Range(range)), "rows stand for entries");
        parts.journal.forget_entries(range, index);
        parts.checkpoints.log_starts(range, index, term, membership);
    }

    /// Whether a range's memtable could be written out now.
    pub(crate) fn can_freeze(&mut self, range: RangeId) -> bool {
        self.parts().shelf.can_freeze(TableId::Range(range))
    }

    /// Whether giving space back is to wait: the journal has no room for what would be said of it, or hardly any
    /// if it is `nearly_full`.
    pub(crate) fn spare_journal(&mut self, spare: bool, nearly_full: bool) {
        if let Phase::Open(parts) = &mut self.phase {
            parts.shelf.spare_journal(spare, nearly_full);
        }
    }

    /// Make a checkpoint if it is worth it; what keeps it from being worth it is written out.
    pub(crate) fn shorten_journal(&mut self, fx: &mut Effects) {
        let Some(room) = self.journal_room() else { return };
        self.with_parts(fx, |parts, io| {
            if parts
                .chunks_needed()
                .is_some_and(|first| first + room.ring / CHUNKS_PART < room.head)
            {
                parts.shelf.write_out_chunk_index(io);
            }
            let gain = parts.journal.gain_before(parts.needed());
            let is_tight = room.used() > room.ring / 2;
            let part = if is_tight { SMALL_GAIN_PART } else { GAIN_PART };
            if gain >= room.ring / part || (gain > 0 && buggify!(EarlyCheckpoint)) {
                parts.checkpoints.stage = Stage::Waiting;
                parts.make_checkpoint();
            } else if is_tight {
                parts.carry_entries(io);
            }
        });
    }
}

impl Parts {
    pub(super) fn room(&self) -> JournalRoom {
        let (tail, head) = (self.journal.tail(), self.journal.head());
        JournalRoom { tail, head, ring: self.journal.ring_bytes() }
    }

    /// One line for operators.
    pub(super) fn journal_status(&self) -> String {
        let JournalRoom { tail, head, ring } = self.room();
        let (free, made) = (self.journal.free_bytes(), self.checkpoints.made);
        let (entries, chunks) = (self.entries_needed(), self.chunks_needed());
        format!(
            "journal {tail}..{head} of {ring} free={free} checkpoints={made} again={} needed by entries={} \
             by chunks={}",
            self.carried_logs,
            entries.unwrap_or(head),
            chunks.unwrap_or(head),
        )
    }

    /// Nothing before this position is needed with a checkpoint at the head.
    fn needed(&self) -> u64 {
        let entries = self.entries_needed().filter(|_| !planted!(CheckpointForgetsEntries));
        let chunks = self.chunks_needed().filter(|_| !planted!(CheckpointForgetsChunks));
        let needed = entries.into_iter().chain(chunks);
        needed.fold(self.journal.head(), u64::min)
    }

    /// Where the first entry stands that no log has given up.
    fn entries_needed(&self) -> Option<u64> {
        let starts = self.checkpoints.starts();
        starts.filter_map(|(range, start)| self.journal.first_entry_after(range, start)).min()
    }

    /// A position not behind the first chunk records that are in no run.
    pub(super) fn chunks_needed(&self) -> Option<u64> {
        self.checkpoints.chunks.first_after(self.shelf.chunks_settled())
    }

    /// Journal an edit, or hold it back while a checkpoint waits for those before it.
    pub(super) fn journal_edit(&mut self, edit: HeldEdit) {
        if self.checkpoints.stage == Stage::Waiting {
            probe!(EditHeld);
            return self.checkpoints.held.push(edit);
        }
        let (id, edit, chunks) = edit;
        if let Some(batch) = chunks {
            let (head, ring) = (self.journal.head(), self.journal.ring_bytes());
            self.checkpoints.chunks.put(batch, head, ring);
        }
        let ticket = self.append(Record::Edit(edit));
        self.edits.push_back((ticket, id));
    }

    /// The journal is durable up to `through`.
    pub(super) fn go_on_with_checkpoint(&mut self, through: JournalTicket) {
        match self.checkpoints.stage {
            Stage::Idle => {}
            Stage::Waiting => self.make_checkpoint(),
            Stage::Writing(ticket, needed) if ticket <= through => {
                self.checkpoints.stage = Stage::Idle;
                probe!(CheckpointMade);
                self.checkpoints.made += 1;
                self.journal.give_up_before(needed);
                self.checkpoints.chunks.forget_through(self.shelf.chunks_settled());
            }
            Stage::Writing(..) => {}
        }
    }

    /// Make the checkpoint that waits, if nothing is in flight that it does not know.
    fn make_checkpoint(&mut self) {
        if !self.edits.is_empty() {
            return;
        }
        let needed = self.needed();
        let all = self.checkpoints.held.is_empty();
        let records = self.checkpoints.records(self.shelf.checkpoint_edits(all), needed);
        let bytes: u64 = records.iter().map(|record| record.len_bytes() as u64).sum();
        if bytes > self.journal.free_bytes() {
            // What is left is for what must be written; the next one may have more room.
            return self.give_up_checkpoint();
        }
        for record in records {
            self.append(record);
        }
        self.checkpoints.stage = Stage::Writing(self.last_ticket, needed);
        if planted!(CheckpointDropsEdits) {
            self.checkpoints.held.clear();
        }
        self.release_held();
    }

    /// Edits go into the journal at once again.
    pub(super) fn give_up_checkpoint(&mut self) {
        if self.checkpoints.stage == Stage::Waiting {
            self.checkpoints.stage = Stage::Idle;
            self.release_held();
        }
    }

    fn release_held(&mut self) {
        for edit in core::mem::take(&mut self.checkpoints.held) {
            self.journal_edit(edit);
        }
    }

    /// A state was put into place: its range's log begins after it.
    pub(super) fn log_is_installed(&mut self) {
        let installed = self.checkpoints.installing.take();
        let InstallingLog { range, start: (index, term, membership), replaces_log } =
            installed.expect("one is installed at a time");
        if replaces_log {
            // Its entries are void: nothing is needed, or written again, for their sake.
            self.journal.forget_log(range);
            self.carried = None;
        }
        if !planted!(InstallForgetsStart) {
            self.checkpoints.log_starts(range, index, term, membership);
        }
    }
}
