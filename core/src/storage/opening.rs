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

    fn edit(&mut self, edit: &Bytes, location: Location) {
        match self.shelf.recover_edit(edit) {
            Ok(None) => {}
            Ok(Some(installation)) => {
                // Also behind damage: what a snapshot covers is committed, and needs no log.
                match (installation.table, Membership::from_bytes(&installation.membership)) {
                    (TableId::Range(range), Ok(membership)) => {
                        self.ranges.entry(range).or_default().installed(&installation, membership);
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
        let opened = self.ranges.entry(range).or_default();
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
            Record::Edit(edit) => self.edit(&edit, location),
            _ if after_gap => {}
            Record::HardState { range, term, vote } => {
                self.ranges.entry(range).or_default().hard_state = HardState { term, vote };
            }
            Record::Entry { range, entry } => {
                self.entry(range, &entry, location);
            }
            Record::Suspect { range: NO_RANGE, number } => {
                self.distrust(Incarnation(number));
            }
            Record::Suspect { range, number } => {
                self.ranges.entry(range).or_default().suspect = number;
            }
            Record::Trusted { range } => self.ranges.entry(range).or_default().suspect = 0,
        }
    }

    fn restart(&mut self) {
        *self = Self::new(self.shelf_config, self.founder);
    }
}
