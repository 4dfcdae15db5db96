//! Giving a range's table away, and taking one over: what a store sees of views and ingestion.

use core::ops::Bound;

use bytes::Bytes;

use super::checkpoint::InstallingLog;
use super::shelf::{Ingested, TableId, ViewError, ViewId, ViewRow};
use super::{JournalTicket, Storage};
use crate::effects::Effects;
use crate::ids::{LogIndex, RangeId, Term};
use crate::rows::{Miss, Rows};

impl Storage {
    /// Entries up to here are in the runs of the range's table.
    pub(crate) fn flushed(&mut self, range: RangeId) -> LogIndex {
        self.parts().shelf.flushed(TableId::Range(range))
    }

    /// Whether a memtable of the range is being written out.
    pub(crate) fn is_flushing(&mut self, range: RangeId) -> bool {
        self.parts().shelf.is_flushing(TableId::Range(range))
    }

    /// Hold the state that the range's runs have: that after the entry it gives, without tombstones up
    /// to the second one.
    pub(crate) fn open_view(&mut self, range: RangeId) -> (ViewId, LogIndex, LogIndex) {
        self.parts().shelf.open_view(TableId::Range(range))
    }

    /// Let go of a view.
    pub(crate) fn close_view(&mut self, view: ViewId) {
        self.parts().shelf.close_view(view);
    }

    /// The next row of a view; see the shelf.
    ///
    /// # Errors
    /// [`ViewError`].
    pub(crate) fn view_next(
        &mut self,
        view: ViewId,
        from: Bound<&[u8]>,
        newer_than: LogIndex,
    ) -> Result<Option<ViewRow>, ViewError> {
        self.parts().shelf.view_next(view, from, newer_than)
    }

    /// Begin to take a snapshot of a range; see the shelf for the rules. `false`: another one is being
    /// taken, or the range's memtable is being written out; later.
    pub(crate) fn begin_ingest(
        &mut self,
        range: RangeId,
        newer_than: LogIndex,
        (through, bare): (LogIndex, LogIndex),
        fx: &mut Effects,
    ) -> bool {
        let table = TableId::Range(range);
        self.with_parts(fx, |parts, io| {
            if parts.shelf.ingests() || parts.shelf.is_flushing(table) {
                return false;
            }
            parts.shelf.begin_ingest(table, newer_than, (through, bare), io);
            true
        })
    }

    /// Whether a snapshot of this range is being taken.
    pub(crate) fn is_ingesting(&mut self, range: RangeId) -> bool {
        self.parts().shelf.is_ingesting(TableId::Range(range))
    }

    /// Take the next row of the snapshot, in key order.
    pub(crate) fn ingest_row(
        &mut self,
        index: LogIndex,
        key: Bytes,
        value: Option<Bytes>,
        fx: &mut Effects,
    ) -> Ingested {
        self.with_parts(fx, |parts, io| parts.shelf.ingest_row(index, key, value, io))
    }

    /// All rows are here; [`super::StorageEvent::Staged`] or `IngestFailed` follows.
    pub(crate) fn finish_ingest(&mut self, fx: &mut Effects) {
        let mut outputs = Vec::new();
        self.with_parts(fx, |parts, io| parts.shelf.finish_ingest(io, &mut outputs));
        self.take(outputs);
    }

    /// Give up the snapshot that is being taken.
    pub(crate) fn abort_ingest(&mut self, fx: &mut Effects) {
        self.with_parts(fx, |parts, io| parts.shelf.abort_ingest(io));
    }

    /// The rows as they will be when what is staged is installed.
    pub(crate) fn staged_rows(&mut self) -> impl Rows {
        self.parts().shelf.staged_rows()
    }

    /// The value that a row has below the snapshot that is being taken.
    ///
    /// # Errors
    /// [`Miss`].
    pub(crate) fn row_below(&mut self, key: &[u8]) -> Result<Option<Bytes>, Miss> {
        self.parts().shelf.row_below(key)
    }

    /// Install what is staged, the state after the entry `index`: from this record on the range has these
    /// rows, and its log begins after them. If it `replaces_log`, the entries so far are void; else those
    /// behind `index` go on to be the log. [`super::StorageEvent::Installed`] follows.
    pub(crate) fn install(
        &mut self,
        range: RangeId,
        (index, term): (LogIndex, Term),
        membership: Bytes,
        replaces_log: bool,
    ) -> JournalTicket {
        let mut outputs = Vec::new();
        let parts = self.parts();
        // The caller waits for this very record: it is not held back.
        parts.give_up_checkpoint();
        let start = (index, term, membership.clone());
        parts.checkpoints.installing = Some(InstallingLog { range, start, replaces_log });
        parts.shelf.install(term, membership, replaces_log, &mut outputs);
        self.take(outputs);
        self.last_ticket()
    }
}
