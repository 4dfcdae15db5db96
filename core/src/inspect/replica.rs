//! The replicas of ranges on a disk: the rows that it holds, and the log behind them applied once more.

use super::Medium;
use super::disk::{Disk, Unreadable};
use crate::codec::Wire;
use crate::consensus::EntryKind;
use crate::hash::StateHash;
use crate::ids::{LogIndex, MapEpoch, RangeId, Term};
use crate::range::Range;
use crate::range::command::Batch;
use crate::storage::OpenedRange;

/// Bytes of entries read at a time.
const ENTRIES_BYTES: u64 = 1 << 20;

/// A replica of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaReport {
    /// Of which range.
    pub range: RangeId,
    /// Whether it distrusts its own log.
    pub suspect: bool,
    /// The log begins after this entry.
    pub base: LogIndex,
    /// The rows on the disk are those after this entry.
    pub flushed: LogIndex,
    /// The last entry of the log...
    pub last: LogIndex,
    /// ...and its term.
    pub last_term: Term,
    /// The state after that entry, or why there is none.
    pub state: Result<StateReport, Unreadable>,
}

/// A state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateReport {
    /// After this entry.
    pub applied: LogIndex,
    /// Of all logical rows: equal on all replicas after the same entry.
    pub hash: StateHash,
    /// Of its cluster map; 0 if it has none.
    pub map_epoch: MapEpoch,
    /// Live sessions.
    pub sessions: u64,
}

impl<M: Medium> Disk<M> {
    /// Which ranges have a replica here.
    pub fn ranges(&self) -> Vec<RangeId> {
        self.ranges.keys().copied().collect()
    }

    /// Load a replica and apply all of its log. To be asked once for each range. What of the log is
    /// committed no single disk knows: of three replicas, the one with the latest log has all that is.
    pub fn replica(&mut self, id: RangeId) -> (ReplicaReport, Option<Range>) {
        let opened = self.ranges.get(&id).cloned().unwrap_or_default();
        let loaded = self.load(id, &opened);
        let last_term = opened.terms.last().map_or(opened.base_term, |(_, term)| *term);
        let state = loaded.as_ref().map_err(Clone::clone).map(|range| {
            let status = range.status();
            StateReport {
                applied: status.applied,
                hash: status.hash,
                map_epoch: status.map_epoch,
                sessions: status.sessions as u64,
            }
        });
        let report = ReplicaReport {
            range: id,
            suspect: opened.suspect != 0,
            base: opened.base_index,
            flushed: opened.flushed,
            last: opened.last_index,
            last_term,
            state,
        };
        (report, loaded.ok())
    }

    fn load(&mut self, id: RangeId, opened: &OpenedRange) -> Result<Range, Unreadable> {
        let OpenedRange { base_index: base, last_index: last, flushed, damaged, .. } = *opened;
        let mut flushed = flushed;
        // As for a store: rows that are damaged, or ahead of a damaged log, are built from the log, if that
        // is whole.
        if damaged || flushed > last || flushed < base {
            if base > LogIndex(0) {
                let what = if damaged { "damaged" } else { "not those of its log" };
                return Err(Unreadable(format!(
                    "{id}: its rows are {what}, and its log begins after {base}"
                )));
            }
            self.shelf()?;
            self.storage.reset_table(id);
            self.settle();
            flushed = LogIndex(0);
        }
        let mut range = self.read(|storage| Range::load(id, &storage.rows(id)))?;
        if range.applied() != flushed {
            let found = range.applied();
            return Err(Unreadable(format!(
                "{id}: the table holds {flushed}, and its rows the state of {found}"
            )));
        }
        while range.applied() < last {
            self.apply_some(id, &mut range, last)?;
        }
        Ok(range)
    }

    fn apply_some(
        &mut self,
        id: RangeId,
        range: &mut Range,
        last: LogIndex,
    ) -> Result<(), Unreadable> {
        let from = range.applied().next();
        self.shelf()?;
        let asked = self.storage.read_entries(id, from, ENTRIES_BYTES, &mut self.fx);
        asked.map_err(Unreadable)?;
        self.settle();
        self.shelf()?;
        let entries = core::mem::take(&mut self.entries);
        if entries.first().is_none_or(|entry| entry.index != from) {
            return Err(Unreadable(format!("{id}: entry {from} cannot be read")));
        }
        for entry in entries.into_iter().take_while(|entry| entry.index <= last) {
            let index = entry.index;
            match entry.kind {
                EntryKind::Empty | EntryKind::Membership => range.apply_empty(index),
                EntryKind::Command => {
                    let batch = Batch::from_bytes(&entry.payload).map_err(|error| {
                        Unreadable(format!("{id}: entry {index} cannot be read: {error}"))
                    })?;
                    let applied =
                        self.read(|storage| range.apply(&storage.rows(id), index, &batch))?;
                    self.storage.write_rows(id, index, &applied.writes);
                }
            }
        }
        Ok(())
    }
}
