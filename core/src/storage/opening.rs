//! What recovery gathers from the journal: the logs of the ranges, and the edits of the shelf.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::journal::{Location, Record, RecoverySink};
use super::shelf::{Shelf, ShelfConfig};
use crate::consensus::HardState;
use crate::ids::{Incarnation, LogIndex, RangeId, Term};

/// No range has this id: what is said of it concerns the disk as a whole.
pub(super) const NO_RANGE: RangeId = RangeId(0);

/// A range's log as the journal holds it.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenedRange {
    /// The last one that was written.
    pub(crate) hard_state: HardState,
    /// First index of each run of entries of one term.
    pub(crate) terms: Vec<(LogIndex, Term)>,
    /// The last entry; 0 if there is none.
    pub(crate) last_index: LogIndex,
    /// What the table on disk holds already.
    pub(crate) flushed: LogIndex,
    /// The table on disk cannot be read: it must be reset, and built again from the log.
    pub(crate) damaged: bool,
    /// Not 0 if the log is suspect.
    pub(crate) suspect: u64,
}

impl OpenedRange {
    /// An entry; it replaces what is at its index and after.
    fn entry(&mut self, index: LogIndex, term: Term) {
        while self.terms.last().is_some_and(|(first, _)| *first >= index) {
            self.terms.pop();
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
    /// The first edit that could not be read, with its journal position.
    pub(super) unreadable: Option<String>,
}

impl Gathered {
    pub(super) fn new(shelf_config: ShelfConfig) -> Self {
        let shelf = Shelf::new(shelf_config);
        let (ranges, doubted) = (BTreeMap::new(), Incarnation(0));
        Self { ranges, doubted, shelf, shelf_config, unreadable: None }
    }

    fn edit(&mut self, edit: &Bytes, location: Location) {
        if let Err(error) = self.shelf.recover_edit(edit)
            && self.unreadable.is_none()
        {
            self.unreadable = Some(format!(
                "the edit at journal position {} cannot be read: {error}",
                location.position
            ));
        }
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
                self.ranges.entry(range).or_default().entry(entry.index, entry.term);
            }
            Record::Suspect { range: NO_RANGE, number } => {
                self.doubted = self.doubted.max(Incarnation(number));
            }
            Record::Suspect { range, number } => {
                self.ranges.entry(range).or_default().suspect = number;
            }
            Record::Trusted { range } => self.ranges.entry(range).or_default().suspect = 0,
        }
    }

    fn restart(&mut self) {
        *self = Self::new(self.shelf_config);
    }
}
