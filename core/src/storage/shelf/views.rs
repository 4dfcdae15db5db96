//! Views: the state of a table after some entry, held for a replica that takes it over.
//!
//! A view is the list of runs that there were when it was opened. The table goes on meanwhile: its
//! newer runs are not in the view. A run that is merged into another one stays until the last view
//! that has it is closed; a table that is reset or replaced as a whole takes its views with it. Who
//! opens views keeps them few and closes them in time.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::ids::LogIndex;
use crate::rows::Miss;

use super::super::io::Io;
use super::super::segment::edit::TableId;
use super::super::segment::layout::Generation;
use super::super::tree::KEY_BYTES_MAX;
use super::super::tree::block::RowRef;
use super::super::tree::run::Run;
use super::super::tree::view::TableView;
use super::Shelf;

/// Names a view; none is used twice in a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ViewId(u64);

/// Behind every key.
const END: &[u8] = &[0xff; KEY_BYTES_MAX + 1];

/// The open views of a disk.
#[derive(Debug, Default)]
pub(super) struct Views {
    open: BTreeMap<ViewId, View>,
    next: u64,
    /// Runs that are in no table any more, but in a view.
    pub(super) retired: Vec<Run>,
}

#[derive(Debug)]
struct View {
    table: TableId,
    /// Newest first.
    runs: Vec<Generation>,
}

/// The next row of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ViewRow {
    /// Its key.
    pub(crate) key: Bytes,
    /// The entry that wrote it.
    pub(crate) index: LogIndex,
    /// Its value, `None` for a tombstone; not looked up if the row is not new enough.
    pub(crate) value: Option<Bytes>,
}

/// Why a view gives no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ViewError {
    /// Fetch it and ask again.
    Miss(Miss),
    /// The view is closed, or its runs are gone.
    Gone,
}

impl From<Miss> for ViewError {
    fn from(miss: Miss) -> Self {
        Self::Miss(miss)
    }
}

impl Views {
    /// The runs are gone: so are the views of the table.
    pub(super) fn table_replaced(&mut self, table: TableId) {
        self.open.retain(|_, view| view.table != table);
        self.retired.retain(|run| run.descriptor.table != table);
    }

    /// Whether a run is in a view.
    pub(super) fn holds(&self, run: Generation) -> bool {
        self.open.values().any(|view| view.runs.contains(&run))
    }

    /// A run that is in no table any more cannot be read: the views that have it are gone.
    pub(super) fn lost(&mut self, run: Generation) {
        self.open.retain(|_, view| !view.runs.contains(&run));
    }

    /// Bytes of memory of the runs that only views have.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.retired.iter().map(Run::memory_bytes).sum()
    }
}

impl Shelf {
    /// Hold the state of a table as its runs have it: that after the entry it gives. Tombstones up to
    /// the second entry are not in it.
    pub(crate) fn open_view(&mut self, table: TableId) -> (ViewId, LogIndex, LogIndex) {
        self.views.next += 1;
        let id = ViewId(self.views.next);
        let runs = self.tables.get(&table).map_or(&[][..], |table| &table.runs);
        let bare = runs.iter().map(|run| run.descriptor.bare).max().unwrap_or_default();
        let runs = runs.iter().map(|run| run.descriptor.run).collect();
        self.views.open.insert(id, View { table, runs });
        (id, self.flushed(table), bare)
    }

    /// Let go of a view.
    pub(crate) fn close_view(&mut self, view: ViewId) {
        self.views.open.remove(&view);
    }

    /// Free the runs that no view holds any more.
    pub(crate) fn free_retired(&mut self, io: &mut Io<'_>) {
        let views = &mut self.views;
        if views.retired.is_empty() {
            return;
        }
        let retired = core::mem::take(&mut views.retired);
        let (held, gone): (Vec<_>, Vec<_>) =
            retired.into_iter().partition(|run| views.holds(run.descriptor.run));
        views.retired = held;
        for run in gone {
            self.free_run(run.descriptor.run, io);
        }
    }

    /// Whether what stands at a span is only in views any more: the runs that have it.
    pub(super) fn only_viewed(&self, table: TableId, miss: Miss) -> Vec<Generation> {
        let Some((segment, _)) = self.layout.locate(miss.offset) else { return Vec::new() };
        let has = |run: &&Run| run.descriptor.all_segments().any(|own| own == segment);
        let in_table =
            self.tables.get(&table).is_some_and(|table| table.runs.iter().any(|run| has(&run)));
        let retired = self.views.retired.iter().filter(has).map(|run| run.descriptor.run);
        if in_table { Vec::new() } else { retired.collect() }
    }

    /// A run of a view: of its table, or one that was merged into another since.
    pub(super) fn run_of(&self, table: TableId, generation: Generation) -> Option<&Run> {
        let runs = self.tables.get(&table).map_or(&[][..], |table| &table.runs);
        let mut runs = runs.iter().chain(&self.views.retired);
        runs.find(|run| run.descriptor.run == generation)
    }

    /// The next row of a view, tombstones too, from runs that have any newer than `newer_than`. A row
    /// that is not newer itself comes without its value.
    ///
    /// # Errors
    /// [`ViewError`].
    pub(crate) fn view_next(
        &self,
        id: ViewId,
        from: Bound<&[u8]>,
        newer_than: LogIndex,
    ) -> Result<Option<ViewRow>, ViewError> {
        let view = self.views.open.get(&id).ok_or(ViewError::Gone)?;
        let mut newest: Option<RowRef<'_>> = None;
        for generation in &view.runs {
            let run = self.run_of(view.table, *generation).ok_or(ViewError::Gone)?;
            if run.descriptor.through <= newer_than {
                continue;
            }
            let Some(row) = run.first(from, END, &self.layout, &self.cache)? else { continue };
            // On a tie the run that comes first wins, which is the newest.
            if newest.is_none_or(|newest| row.key() < newest.key()) {
                newest = Some(row);
            }
        }
        let Some(row) = newest else { return Ok(None) };
        let value = if row.index() > newer_than {
            TableView::of_runs(&[], &[], &self.cache, &self.layout).value(row)?
        } else {
            None
        };
        Ok(Some(ViewRow { key: row.key_bytes(), index: row.index(), value }))
    }
}
