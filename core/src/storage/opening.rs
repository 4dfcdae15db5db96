//! What recovery gathers from the journal: the logs of the ranges, and the edits of the shelf.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::journal::{Location, Record, RecoverySink};
use super::segment::edit::Installation;
use super::shelf::{Shelf, ShelfConfig, TableId};
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
}

impl OpenedRange {
    /// A snapshot; it replaces the log up to its index, and all of it if the log is another one.
    fn installed(&mut self, installation: &Installation, membership: Membership) {
        let Installation { index, term, .. } = *installation;
        let first_behind = self.terms.partition_point(|(first, _)| *first <= index.next());
        let term_of = |run: usize| run.checked_sub(1).map(|run| self.terms[run].1);
        let at_index = self.terms.partition_point(|(first, _)| *first <= index);
        let at_base = (index, term) == (self.base_index, self.base_term);
        if at_base {
            // The rows alone are new.
        } else if self.last_index >= index && term_of(at_index) == Some(term) {
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
        self.memberships.retain(|(of, _)| *of > index);
        self.memberships.insert(0, (index, membership));
    }

    /// An entry; it replaces what is at its index and after.
    fn entry(&mut self, index: LogIndex, term: Term) {
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
    /// The first edit or membership that could not be read, with its journal position.
    pub(super) unreadable: Option<String>,
}

impl Gathered {
    pub(super) fn new(shelf_config: ShelfConfig, founder: bool) -> Self {
        let shelf = Shelf::new(shelf_config);
        let (ranges, doubted) = (BTreeMap::new(), Incarnation(0));
        Self { ranges, doubted, shelf, shelf_config, founder, unreadable: None }
    }

    /// Every log on this disk is suspect. There may have been replicas of which every record is lost: a
    /// founder certainly had one of the root range; any other store begins none by itself, and one
    /// that it is asked for is suspect from its start.
    pub(super) fn distrust(&mut self, life: Incarnation) {
        self.doubted = self.doubted.max(life);
        if self.founder {
            self.ranges.entry(ROOT_RANGE).or_default();
        }
        for range in self.ranges.values_mut() {
            range.suspect = life.0;
        }
    }

    /// The range's log so far. One that is first heard of on a distrusted disk is suspect: what came
    /// before may be lost.
    fn range(&mut self, range: RangeId) -> &mut OpenedRange {
        let suspect = self.doubted.0;
        self.ranges
            .entry(range)
            .or_insert_with(|| OpenedRange { suspect, ..OpenedRange::default() })
    }

    fn edit(&mut self, edit: &Bytes, location: Location, after_gap: bool) {
        match self.shelf.recover_edit(edit) {
            Ok(None) => {}
            // The journal goes on at the damage, over this edit: the next life could not know that the
            // log begins after it. If the table has its rows, it is ahead of the log, like any other.
            Ok(Some(_)) if after_gap => {}
            Ok(Some(installation)) => {
                match (installation.table, Membership::from_bytes(&installation.membership)) {
                    (TableId::Range(range), Ok(membership)) => {
                        self.range(range).installed(&installation, membership);
                    }
                    (TableId::Chunks, _) => {}
                    (_, Err(error)) => self.cannot_read("membership", &error, location),
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
        if entry.index <= base || entry.index > last.next() {
            let (index, at) = (entry.index, location.position);
            self.unreadable.get_or_insert_with(|| {
                format!("{range}: entry {index} at journal position {at} does not continue the log {base}..={last}")
            });
            return;
        }
        opened.entry(entry.index, entry.term);
        if entry.kind == EntryKind::Membership {
            match Membership::from_bytes(&entry.payload) {
                Ok(membership) => opened.memberships.push((entry.index, membership)),
                Err(error) => self.cannot_read("membership", &error, location),
            }
        }
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
            Record::Suspect { range: NO_RANGE, number } => {
                self.distrust(Incarnation(number));
            }
            Record::Suspect { range, number } => {
                self.range(range).suspect = number;
            }
            Record::Trusted { range } => self.range(range).suspect = 0,
        }
    }

    fn restart(&mut self) {
        *self = Self::new(self.shelf_config, self.founder);
    }
}

#[cfg(test)]
mod tests {
    use super::super::journal::RecoverySink;
    use super::super::segment::edit::{Edit, Part, RunDescriptor};
    use super::super::segment::layout::{Generation, SegmentId};
    use super::*;
    use crate::cluster::{Geometry, StoreLimits};
    use crate::ids::StoreId;
    use crate::storage::layout;

    const RANGE: RangeId = RangeId(7);
    const AT: Location = Location { position: 0, len: 0 };

    fn gathered() -> Gathered {
        let geometry = Geometry::SIMULATION;
        let config = ShelfConfig {
            store: StoreId(1),
            incarnation: Incarnation(1),
            geometry,
            area: layout::segments_start(&geometry),
            memtable_bytes: StoreLimits::SIMULATION.memtable_bytes,
            block_cache_bytes: StoreLimits::SIMULATION.block_cache_bytes,
            chunk_bytes_max: StoreLimits::SIMULATION.chunk_bytes_max,
            tombstone_lag: StoreLimits::SIMULATION.tombstone_lag,
        };
        Gathered::new(config, false)
    }

    fn entry(index: u64, term: u64) -> Record {
        let (index, term) = (LogIndex(index), Term(term));
        let entry = Entry { index, term, kind: EntryKind::Command, payload: Bytes::new() };
        Record::Entry { range: RANGE, entry }
    }

    /// A state after entry 9, of term 2.
    fn installation() -> Record {
        let (table, index) = (TableId::Range(RANGE), LogIndex(9));
        let run = RunDescriptor {
            run: Generation(1),
            table,
            after: LogIndex(0),
            through: index,
            bare: LogIndex(0),
            part: Part::whole(Generation(1)),
            rows: 1,
            tombstones: 0,
            data_blocks: 1,
            index_blocks: 1,
            filter_blocks: 0,
            segments: vec![SegmentId(0)],
            values: Vec::new(),
        };
        let membership = Membership::of(vec![StoreId(1), StoreId(2), StoreId(3)]).to_bytes();
        let (newer_than, runs, term) = (LogIndex(0), vec![run], Term(2));
        let installation = Installation { table, newer_than, runs, index, term, membership };
        Record::Edit(Edit::TableInstalled(installation).to_bytes())
    }

    /// Its record is written over, so that the next life could not know.
    #[test]
    fn a_state_behind_damage_does_not_say_where_the_log_begins() {
        for (after_gap, base, last) in [(false, 9, 10), (true, 0, 3)] {
            let mut gathered = gathered();
            for index in 1..=3 {
                gathered.record(entry(index, 1), AT, false);
            }
            gathered.record(installation(), AT, after_gap);
            gathered.record(entry(10, 2), AT, after_gap);
            let range = &gathered.ranges[&RANGE];
            assert_eq!((range.base_index, range.last_index), (LogIndex(base), LogIndex(last)));
            assert_eq!(gathered.unreadable, None);
        }
    }

    #[test]
    fn a_log_that_is_first_heard_of_on_a_distrusted_disk_is_suspect() {
        let mut gathered = gathered();
        gathered.record(Record::Suspect { range: NO_RANGE, number: 4 }, AT, false);
        gathered.record(entry(1, 1), AT, false);
        assert_eq!(gathered.ranges[&RANGE].suspect, 4);
        gathered.record(Record::Trusted { range: RANGE }, AT, false);
        assert_eq!(gathered.ranges[&RANGE].suspect, 0);
    }

    #[test]
    fn an_entry_that_does_not_continue_the_log_is_no_entry() {
        let mut gathered = gathered();
        gathered.record(entry(1, 1), AT, false);
        gathered.record(entry(3, 1), AT, false);
        let said = gathered.unreadable.expect("entry 2 is missing");
        assert!(said.contains("entry i3") && said.contains("i0..=i1"), "{said}");
    }
}
