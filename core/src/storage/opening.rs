//! What recovery gathers from the journal: the logs of the ranges, and the edits of the shelf.
//!
//! A journal that does not begin at position 0 is read from its tail: first entries and chunk records
//! that are still needed, and others; then the checkpoint that moved the tail there, which says where
//! logs begin and what the shelf holds. A log is put together from the entries before it, and counts
//! only once its beginning is known. Older checkpoints that stand behind the tail, too, are passed over:
//! they need what is given up.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::checkpoint::ChunkPlaces;
use super::journal::{Location, Record, RecoverySink};
use super::segment::edit::Installation;
use super::shelf::{RecoveredEdit, Shelf, ShelfConfig, TableId};
use crate::cluster::ROOT_RANGE;
use crate::codec::Wire;
use crate::consensus::{Entry, EntryKind, HardState, Membership};
use crate::ids::{Incarnation, LogIndex, RangeId, Term};

/// No range has this id: what is said of it concerns the disk as a whole.
const NO_RANGE: RangeId = RangeId(0);

/// The record by which a life (or the next one) distrusts the whole disk.
pub(super) fn distrust(life: Incarnation) -> Record {
    Record::Suspect { range: NO_RANGE, number: life.0 }
}

/// A range's log as the journal holds it.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenedRange {
    /// The last one that was written.
    pub(crate) hard_state: HardState,
    /// First index of each run of entries of one term.
    pub(crate) terms: Vec<(LogIndex, Term)>,
    /// The log begins after this entry, which a snapshot covers: 0 for a whole log...
    pub(crate) base_index: LogIndex,
    /// ...of this term.
    pub(crate) base_term: Term,
    /// The configurations, by index: that of the snapshot, if there is one, and those that entries
    /// brought.
    pub(crate) memberships: Vec<(LogIndex, Membership)>,
    /// The last entry; `base_index` if there is none.
    pub(crate) last_index: LogIndex,
    /// What the table on disk holds already.
    pub(crate) flushed: LogIndex,
    /// The table on disk cannot be read: it must be reset, and built again from the log.
    pub(crate) damaged: bool,
    /// Not 0 if the log is suspect.
    pub(crate) suspect: u64,
    /// During recovery: where the log begins is known. Else the entries so far stand between the tail
    /// and a checkpoint to come, and `base_index` is the one before the first of them.
    pub(crate) begins: bool,
    /// During recovery: that it begins there is concluded from a state of which nothing before the tail is
    /// left to tell whether there was a log behind it.
    pub(crate) concluded: bool,
    /// During recovery, as long as it is not known where the log begins: entries that were written again and stand
    /// before those that are known. They count when the log has been found to its end, since it is written
    /// again as a whole: a crash may have taken the rest, and the log have been given up beyond them.
    again: Vec<(LogIndex, Term, Option<Membership>)>,
}

impl OpenedRange {
    /// Of a replica of which nothing is on the disk, and whose log is suspect (if the number is not 0).
    pub(crate) fn blank(suspect: u64) -> Self {
        Self { suspect, ..Self::default() }
    }

    /// Whether the replica may have told others something: it has a term, a vote, an entry or rows.
    pub(crate) fn has_promised(&self) -> bool {
        let has_rows = self.flushed > LogIndex(0) || self.damaged;
        self.hard_state != HardState::default() || self.last_index > LogIndex(0) || has_rows
    }

    /// The log begins after this entry: it is replaced up to there, and all of it if it is another one.
    fn starts_after(&mut self, index: LogIndex, term: Term, membership: Option<Membership>) {
        self.again.clear();
        let first_behind = self.terms.partition_point(|(first, _)| *first <= index.next());
        let term_of = |run: usize| run.checked_sub(1).map(|run| self.terms[run].1);
        let at_index = self.terms.partition_point(|(first, _)| *first <= index);
        // Of a log whose beginning was not known, the entry before the first was given up: it was this.
        let at_base = index == self.base_index && (term == self.base_term || !self.begins);
        if at_base {
            // The rows alone are new.
        } else if (self.base_index..=self.last_index).contains(&index)
            && term_of(at_index) == Some(term)
        {
            let behind = term_of(first_behind);
            self.terms.drain(..first_behind);
            if let Some(term) = behind.filter(|_| self.last_index > index) {
                self.terms.insert(0, (index.next(), term));
            }
        } else {
            self.terms.clear();
            self.memberships.clear();
            self.last_index = index;
        }
        self.base_index = index;
        self.base_term = term;
        (self.begins, self.concluded) = (true, false);
        self.memberships.retain(|(of, _)| *of > index);
        self.memberships.splice(0..0, membership.map(|membership| (index, membership)));
    }

    /// The term of an entry; `None` if it is not known to be there.
    fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index <= self.base_index || index > self.last_index {
            return None;
        }
        let run = self.terms.partition_point(|(first, _)| *first <= index);
        run.checked_sub(1).map(|run| self.terms[run].1)
    }

    /// A state after this entry was put into place. If it `replaces` the log, or is of another one than the
    /// entries so far, those are void.
    fn installed(&mut self, index: LogIndex, term: Term, membership: Membership, replaces: bool) {
        if self.begins && !replaces {
            let concluded = self.concluded;
            self.starts_after(index, term, Some(membership));
            // A state that is put into place again, or a later one, tells no more about what was behind it.
            self.concluded = concluded && self.last_index == index;
            return;
        }
        let run = self.terms.partition_point(|(first, _)| *first <= index);
        let term_there = run.checked_sub(1).map(|run| self.terms[run].1);
        let of_this_log = !replaces
            && (index <= self.base_index || (index <= self.last_index && term_there == Some(term)));
        if !of_this_log {
            // Whatever stood before, the log begins here. Nothing else would say so if the checkpoint was
            // lost to damage together with all that was known of the range.
            let concluded = !self.begins || self.concluded;
            self.again.clear();
            self.begins_anew_with(index.next());
            self.base_term = term;
            self.memberships.push((index, membership));
            (self.begins, self.concluded) = (true, concluded);
        }
    }

    /// Entries from `first` on are there, and those before are given up.
    fn begins_anew_with(&mut self, first: LogIndex) {
        self.terms.clear();
        self.memberships.clear();
        (self.base_index, self.base_term) = (first.previous(), Term(0));
        self.last_index = self.base_index;
        // What is before the first entry of all is known.
        (self.begins, self.concluded) = (first == LogIndex(1), false);
    }

    /// An entry was written again that belongs before those that are known, or follows one that does: whether it
    /// waits for the rest. With the last one, they are the log.
    fn waits_for_the_rest(&self, index: LogIndex) -> bool {
        let follows = self.again.last().is_some_and(|(last, ..)| last.next() == index);
        let before = index <= self.base_index && self.base_index < self.last_index;
        !self.begins && (follows || before)
    }

    /// Such an entry.
    fn written_again(&mut self, index: LogIndex, term: Term, membership: Option<Membership>) {
        if self.again.last().is_some_and(|(last, ..)| last.next() != index) {
            self.again.clear();
        }
        self.again.push((index, term, membership));
        if index == self.last_index {
            let again = core::mem::take(&mut self.again);
            self.begins_anew_with(again[0].0);
            for (index, term, membership) in again {
                self.entry(index, term);
                self.memberships.extend(membership.map(|membership| (index, membership)));
            }
        }
    }

    /// An entry; it replaces what is at its index and after.
    fn entry(&mut self, index: LogIndex, term: Term) {
        self.again.clear();
        while self.terms.last().is_some_and(|(first, _)| *first >= index) {
            self.terms.pop();
        }
        while self.memberships.last().is_some_and(|(first, _)| *first >= index) {
            self.memberships.pop();
        }
        if self.terms.last().is_none_or(|(_, last)| *last != term) {
            self.terms.push((index, term));
        }
        self.last_index = index;
    }
}

/// A checkpoint of which records are still to come.
#[derive(Debug)]
struct Coming {
    /// How many.
    left: u64,
    /// Nothing of what it needs is given up.
    counts: bool,
    records: Vec<(Record, Location)>,
}

/// Hears the journal's records during recovery.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) ranges: BTreeMap<RangeId, OpenedRange>,
    /// The last life that began, or is to begin, by distrusting the disk.
    pub(super) doubted: Incarnation,
    pub(super) shelf: Shelf,
    shelf_config: ShelfConfig,
    /// Whether this store was a voter from the beginning.
    founder: bool,
    /// Position at which the journal begins.
    tail: u64,
    /// What was not heard of does not exist: the journal begins at 0, or there was a checkpoint.
    whole: bool,
    /// The disk was distrusted, and nothing has said since what the shelf holds.
    pub(super) edits_in_doubt: bool,
    /// Where chunk records are.
    pub(super) chunks: ChunkPlaces,
    coming: Option<Coming>,
    /// The first edit or membership that could not be read, with its journal position.
    pub(super) unreadable: Option<String>,
}

impl Gathered {
    pub(super) fn new(shelf_config: ShelfConfig, founder: bool, tail: u64) -> Self {
        Self {
            ranges: BTreeMap::new(),
            doubted: Incarnation(0),
            shelf: Shelf::new(shelf_config),
            shelf_config,
            founder,
            tail,
            whole: tail == 0,
            edits_in_doubt: false,
            chunks: ChunkPlaces::default(),
            coming: None,
            unreadable: None,
        }
    }

    /// Every log on this disk is suspect. There may have been replicas of which every record is lost: a
    /// founder certainly had one of the root range; any other store begins none by itself, and one
    /// that it is asked for is suspect from its start.
    pub(super) fn distrust(&mut self, life: Incarnation) {
        self.doubted = self.doubted.max(life);
        if self.founder {
            self.range(ROOT_RANGE);
        }
        for range in self.ranges.values_mut() {
            range.suspect = life.0;
        }
    }

    /// The range's log so far. One that is first heard of on a distrusted disk is suspect: what came
    /// before may be lost.
    fn range(&mut self, range: RangeId) -> &mut OpenedRange {
        let (suspect, begins) = (self.doubted.0, self.whole);
        self.ranges.entry(range).or_insert_with(|| OpenedRange {
            suspect,
            begins,
            ..OpenedRange::default()
        })
    }

    /// All records are here; `damaged` if some are lost. A journal that does not begin at 0 must have a
    /// checkpoint then.
    pub(super) fn complete(&mut self, damaged: bool) {
        let known = self.whole && self.ranges.values().all(|range| range.begins);
        if !known && !damaged && self.doubted == Incarnation(0) {
            let tail = self.tail;
            self.unreadable.get_or_insert_with(|| {
                format!(
                    "the journal begins at position {tail} and has no checkpoint behind it, though \
                     nothing of it is damaged"
                )
            });
        }
    }

    /// Logs whose beginning is lost with the checkpoint that named it are void, which the journal must
    /// say: the entries that are left of them would be taken for more by a later life. Gives back which.
    pub(super) fn void_logs(&mut self) -> Vec<RangeId> {
        let mut void = Vec::new();
        for (range, opened) in self.ranges.iter_mut().filter(|(_, opened)| !opened.begins) {
            let (hard_state, suspect) = (opened.hard_state, opened.suspect);
            *opened = OpenedRange { hard_state, suspect, begins: true, ..OpenedRange::default() };
            void.push(*range);
        }
        void
    }

    fn edit(&mut self, edit: &Bytes, location: Location, after_gap: bool) {
        let ring_bytes = self.shelf_config.geometry.journal;
        match self.shelf.recover_edit(edit) {
            Ok(RecoveredEdit::Other) => {}
            Ok(RecoveredEdit::State) => self.edits_in_doubt = false,
            // Behind damage they are lost as soon as the journal goes on; the disk is searched for chunks.
            Ok(RecoveredEdit::Chunks(_) | RecoveredEdit::Installation(_)) if after_gap => {}
            Ok(RecoveredEdit::Chunks(batch)) => {
                self.chunks.put(batch, location.position, ring_bytes);
            }
            Ok(RecoveredEdit::Installation(installation)) => {
                let TableId::Range(range) = installation.table else { return };
                let Installation { index, term, membership, replaces_log, .. } = installation;
                match Membership::from_bytes(&membership) {
                    Ok(membership) => {
                        self.range(range).installed(index, term, membership, replaces_log);
                    }
                    Err(error) => self.cannot_read("membership", &error, location),
                }
            }
            Err(error) => self.cannot_read("edit", &error, location),
        }
    }
}

impl Gathered {
    fn entry(&mut self, range: RangeId, entry: &Entry, location: Location) {
        let opened = self.range(range);
        let (base, last) = (opened.base_index, opened.last_index);
        let continues = entry.index > base && entry.index <= last.next();
        if !opened.begins && (!continues || entry.index == LogIndex(1)) {
            opened.begins_anew_with(entry.index);
        } else if opened.concluded && !continues {
            // The state was taken for a table that was lost: the log went on, and what of it stood before the
            // state has been given up since.
            opened.begins_anew_with(entry.index);
        } else if !continues {
            let (index, at) = (entry.index, location.position);
            self.unreadable.get_or_insert_with(|| {
                format!("{range}: entry {index} at journal position {at} does not continue the log {base}..={last}")
            });
            return;
        }
        let membership = self.membership_of(entry, location);
        let opened = self.range(range);
        opened.entry(entry.index, entry.term);
        opened.memberships.extend(membership.map(|membership| (entry.index, membership)));
    }

    /// The configuration that an entry brings.
    fn membership_of(&mut self, entry: &Entry, location: Location) -> Option<Membership> {
        if entry.kind != EntryKind::Membership {
            return None;
        }
        let membership = Membership::from_bytes(&entry.payload);
        membership.map_err(|error| self.cannot_read("membership", &error, location)).ok()
    }

    fn cannot_read(&mut self, what: &str, error: &dyn core::fmt::Display, location: Location) {
        let position = location.position;
        self.unreadable.get_or_insert_with(|| {
            format!("the {what} at journal position {position} cannot be read: {error}")
        });
    }
}

impl RecoverySink for Gathered {
    fn record(&mut self, record: Record, location: Location, after_gap: bool) {
        match (&mut self.coming, record) {
            (_, Record::Checkpoint { records, needed }) => {
                let counts = needed >= self.tail;
                self.coming = Some(Coming { left: records, counts, records: Vec::new() });
            }
            (Some(coming), record) => {
                coming.records.push((record, location));
                coming.left = coming.left.saturating_sub(1);
            }
            (None, record) => self.take(record, location, after_gap),
        }
        if let Some(whole) = self.coming.take_if(|coming| coming.left == 0)
            && whole.counts
        {
            self.whole |= !after_gap;
            for (record, location) in whole.records {
                self.take(record, location, after_gap);
            }
        }
    }

    fn life_begins(&mut self) {
        // A checkpoint that was torn.
        self.coming = None;
    }

    fn restart(&mut self) {
        *self = Self::new(self.shelf_config, self.founder, self.tail);
    }
}

impl Gathered {
    fn take(&mut self, record: Record, location: Location, after_gap: bool) {
        match record {
            // Behind damage logs and hard states are void; what segments exist still helps.
            Record::Edit(edit) => self.edit(&edit, location, after_gap),
            _ if after_gap => {}
            Record::HardState { range, term, vote } => {
                self.range(range).hard_state = HardState { term, vote };
            }
            Record::Entry { range, entry } => {
                self.entry(range, &entry, location);
            }
            Record::EntryAgain { range, entry } => {
                let opened = self.range(range);
                match opened.term_at(entry.index) {
                    // A state was put into place since.
                    None if opened.begins && entry.index <= opened.base_index => {}
                    term if term.is_none_or(|term| term == entry.term)
                        && opened.waits_for_the_rest(entry.index) =>
                    {
                        let membership = self.membership_of(&entry, location);
                        self.range(range).written_again(entry.index, entry.term, membership);
                    }
                    None => self.entry(range, &entry, location),
                    Some(term) if term == entry.term => {}
                    Some(_) => self.cannot_read("entry", &"it is another than before", location),
                }
            }
            Record::Suspect { range: NO_RANGE, number } => {
                self.distrust(Incarnation(number));
                self.edits_in_doubt = true;
            }
            Record::Suspect { range, number } => {
                self.range(range).suspect = number;
            }
            Record::Trusted { range } => self.range(range).suspect = 0,
            Record::LogStart { range, index, term, membership } => {
                let membership = match &membership[..] {
                    [] => None,
                    _ => match Membership::from_bytes(&membership) {
                        Ok(membership) => Some(membership),
                        Err(error) => return self.cannot_read("membership", &error, location),
                    },
                };
                self.range(range).starts_after(index, term, membership);
            }
            Record::Checkpoint { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
