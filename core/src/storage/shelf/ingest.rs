//! Taking a snapshot of a range's table: rows come in key order, are written out as runs that nobody
//! sees, and count all at once.
//!
//! ```text
//! begin ─► ingest (memtable ─ full ─► run, staged)* ─► finish ─► last run staged ─► install ─► edit durable
//! ```
//!
//! Until its edit is durable, staged runs belong to no table: a crash leaves their segments free.
//! One snapshot is taken at a time, and its runs go through the same writer as flushes.

use bytes::Bytes;

use crate::ids::{LogIndex, Term};

use super::super::io::Io;
use super::super::segment::edit::{Edit, Installation, TableId};
use super::super::tree::memtable::Memtable;
use super::super::tree::run::Run;
use super::super::tree::run_builder::{self, RunSpec};
use super::super::tree::table::Table;
use super::super::tree::view::TableView;
use super::flush::{Content, Flush};
use super::recover::Phase;
use super::{EditPurpose, Output, Shelf};
use crate::rows::{Miss, Rows};

/// A snapshot that is being taken.
#[derive(Debug)]
pub(super) struct Ingest {
    table: TableId,
    /// Its rows are newer than this entry and go over the runs that are there; 0: it replaces them.
    newer_than: LogIndex,
    /// The entry whose state it is.
    through: LogIndex,
    /// The giver had no tombstones of entries up to this one.
    bare: LogIndex,
    /// Rows that are in no run yet.
    staging: Memtable,
    /// Newest first.
    pub(super) staged: Vec<Run>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Rows come.
    Rows,
    /// All rows are here; the last run is to be written.
    Finishing,
    /// All runs are durable.
    Staged,
    /// The edit is on its way.
    Installing,
}

/// Where a row of a snapshot went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ingested {
    /// It is taken.
    Taken,
    /// Not yet: a run is being written.
    Busy,
    /// The disk has no room for it beside what flushes need.
    Full,
}

impl Ingest {
    /// Whether what the table has is about to be replaced.
    pub(super) fn is_installing(&self, table: TableId) -> bool {
        self.table == table && self.stage == Stage::Installing
    }

    /// Bytes of rows that wait to be written, and of the block indexes of staged runs.
    pub(super) fn memory_bytes(&self) -> (u64, u64) {
        (self.staging.bytes(), self.staged.iter().map(Run::memory_bytes).sum())
    }
}

impl Shelf {
    /// Begin to take a snapshot of a table, the state after the entry `through`. One that is under
    /// way is given up. `newer_than` must be 0 or what the table has flushed, and nothing may be
    /// flushing. Tombstones of entries up to `bare` are not among the rows: only a state as a whole may
    /// lack any.
    ///
    /// # Panics
    /// If these rules are broken.
    pub(crate) fn begin_ingest(
        &mut self,
        table: TableId,
        newer_than: LogIndex,
        (through, bare): (LogIndex, LogIndex),
        io: &mut Io<'_>,
    ) {
        assert!(table != TableId::Chunks, "the chunk index is the store's own");
        assert!(!self.is_flushing(table), "what is flushed would go over the snapshot");
        assert!(newer_than < through, "a snapshot says something new");
        let base = self.flushed(table);
        assert!(newer_than == LogIndex(0) || newer_than == base, "{newer_than} is not {base}");
        assert!(newer_than == LogIndex(0) || bare <= newer_than, "deleted rows would stay");
        self.abort_ingest(io);
        let (staging, staged) = (Memtable::default(), Vec::new());
        let stage = Stage::Rows;
        self.ingest = Some(Ingest { table, newer_than, through, bare, staging, staged, stage });
    }

    /// Take the next row, in key order.
    ///
    /// # Panics
    /// If no snapshot is being taken, or it is complete.
    pub(crate) fn ingest_row(
        &mut self,
        index: LogIndex,
        key: Bytes,
        value: Option<Bytes>,
        io: &mut Io<'_>,
    ) -> Ingested {
        let limit = self.config.memtable_bytes;
        let ingest = self.ingest.as_mut().expect("a snapshot is being taken");
        assert_eq!(ingest.stage, Stage::Rows, "rows come before the end");
        if ingest.staging.bytes() >= limit {
            // Only now that one more row is here: the last run must not be a part.
            if self.flush.is_some() {
                return Ingested::Busy;
            }
            if !self.stage_run(true, io) {
                return Ingested::Full;
            }
        }
        let ingest = self.ingest.as_mut().expect("it is still being taken");
        ingest.staging.ingest(index, key, value);
        Ingested::Taken
    }

    /// All rows are here. [`Output::Staged`] or [`Output::IngestFailed`] follows.
    pub(crate) fn finish_ingest(&mut self, io: &mut Io<'_>, out: &mut Vec<Output>) {
        let ingest = self.ingest.as_mut().expect("a snapshot is being taken");
        assert_eq!(ingest.stage, Stage::Rows, "a snapshot ends once");
        ingest.stage = Stage::Finishing;
        self.drive(io, out);
    }

    /// Write the last run out, and say when all are durable.
    pub(super) fn drive_ingest(&mut self, io: &mut Io<'_>, out: &mut Vec<Output>) {
        let Some(ingest) = &mut self.ingest else { return };
        if ingest.stage != Stage::Finishing || self.flush.is_some() {
            return;
        }
        let table = ingest.table;
        if ingest.staging.is_empty() {
            let reason = "a snapshot without rows".to_owned();
            if ingest.staged.is_empty() {
                out.push(Output::IngestFailed { table, reason });
                return self.abort_ingest(io);
            }
            ingest.stage = Stage::Staged;
            out.push(Output::Staged { table });
        } else if !self.stage_run(false, io) {
            let reason = "the disk has no room for a snapshot of the range".to_owned();
            out.push(Output::IngestFailed { table, reason });
            self.abort_ingest(io);
        }
    }

    /// Begin to write the staging memtable out. `false`: there is no room.
    fn stage_run(&mut self, part: bool, io: &mut Io<'_>) -> bool {
        let Some(ingest) = &mut self.ingest else { return false };
        let needed = run_builder::segments_needed(&self.layout, ingest.staging.bytes());
        if self.segments.free() < needed + self.reserve.deletes {
            return false;
        }
        let staged = (0..).zip(&ingest.staged).last();
        let spec = RunSpec {
            table: ingest.table,
            after: ingest.newer_than,
            through: ingest.through,
            // What lies below still has its tombstones, if it ever had them.
            bare: if ingest.newer_than == LogIndex(0) { ingest.bare } else { LogIndex(0) },
            part_of: staged.map(|(last, first)| (first.descriptor.run, last + 1)),
            last: !part,
            rows_max: ingest.staging.len(),
        };
        let image = run_builder::build(self.layout, spec, &ingest.staging, &mut self.segments);
        let Some(image) = image else { return false };
        ingest.staging = Memtable::default();
        let (flush, body) = Flush::new(spec.table, spec.through, image, Content::Staged);
        self.flush = Some(flush);
        self.start_writes(body, io);
        true
    }

    /// A staged run is durable, headers and all.
    pub(super) fn run_staged(&mut self, run: Run) {
        let ingest = self.ingest.as_mut().expect("its flush was not abandoned");
        ingest.staged.insert(0, run);
    }

    /// Give up the snapshot that is being taken, if one is.
    ///
    /// # Panics
    /// If it is being installed: that ends by itself.
    pub(crate) fn abort_ingest(&mut self, io: &mut Io<'_>) {
        let Some(ingest) = self.ingest.take() else { return };
        assert_ne!(ingest.stage, Stage::Installing, "what is being installed is not given up");
        if let Some(flush) = self.flush.as_mut().filter(|flush| flush.is_staged()) {
            flush.abandon();
        }
        let own = ingest.staged.iter().flat_map(|run| run.descriptor.all_segments());
        for segment in own.collect::<Vec<_>>() {
            self.forget_segment(segment);
            self.wipe(segment, io);
        }
    }

    /// Whether a snapshot of `table` is being taken.
    pub(crate) fn is_ingesting(&self, table: TableId) -> bool {
        self.ingest.as_ref().is_some_and(|ingest| ingest.table == table)
    }

    /// Whether any snapshot is being taken.
    pub(crate) fn ingests(&self) -> bool {
        self.ingest.is_some()
    }

    /// The rows that the table will have when what is staged is installed.
    ///
    /// # Panics
    /// If no snapshot is being taken.
    pub(crate) fn staged_rows(&self) -> impl Rows {
        let ingest = self.ingest.as_ref().expect("a snapshot is being taken");
        TableView::of_runs(&ingest.staged, self.runs_below(ingest), &self.cache, &self.layout)
    }

    /// The row that the table has under the snapshot that is being taken.
    ///
    /// # Errors
    /// [`Miss`].
    pub(crate) fn row_below(&self, key: &[u8]) -> Result<Option<Bytes>, Miss> {
        let ingest = self.ingest.as_ref().expect("a snapshot is being taken");
        let view = TableView::of_runs(&[], self.runs_below(ingest), &self.cache, &self.layout);
        Ok(view.get(key)?.map(|row| row.value))
    }

    fn runs_below(&self, ingest: &Ingest) -> &[Run] {
        let table = self.tables.get(&ingest.table).filter(|_| ingest.newer_than > LogIndex(0));
        table.map_or(&[], |table| &table.runs)
    }

    /// Install what is staged, by one edit: the state after the last entry that it covers, of this term.
    /// [`Output::Installed`] follows when that is durable; what the table has in memory is void then.
    ///
    /// # Panics
    /// If no snapshot is staged.
    pub(crate) fn install(
        &mut self,
        term: Term,
        membership: Bytes,
        replaces_log: bool,
        out: &mut Vec<Output>,
    ) {
        let ingest = self.ingest.as_mut().expect("a snapshot is staged");
        assert_eq!(ingest.stage, Stage::Staged, "a snapshot is installed when it is whole");
        ingest.stage = Stage::Installing;
        let edit = Edit::TableInstalled(Installation {
            table: ingest.table,
            newer_than: ingest.newer_than,
            runs: ingest.staged.iter().rev().map(|run| run.descriptor.clone()).collect(),
            index: ingest.through,
            term,
            membership,
            replaces_log,
        });
        self.journal(&edit, EditPurpose::Installed, out);
    }

    /// The edit is durable: the table is the snapshot now.
    pub(super) fn installed(&mut self, io: &mut Io<'_>, out: &mut Vec<Output>) {
        let Ingest { table: id, newer_than, through, mut staged, .. } =
            self.ingest.take().expect("an installation ends by itself");
        if newer_than == LogIndex(0) {
            // The runs that it merges go, too.
            let committed = self.abandon_merge(id);
            assert!(
                committed.is_empty(),
                "edits become durable in order, and its own is not written"
            );
            for segment in self.drop_runs(id) {
                self.wipe(segment, io);
            }
        }
        for run in &staged {
            self.holdings.add(&run.descriptor, &mut self.segments);
        }
        let table = self.tables.entry(id).or_default();
        staged.append(&mut table.runs);
        let mut fresh = Table { runs: staged, flushed: through, ..Table::default() };
        if planted!(InstallKeepsMemtable) {
            fresh.active = core::mem::take(&mut table.active);
        }
        *table = fresh;
        self.compaction.runs_changed();
        out.push(Output::Installed { table: id });
    }

    /// Entries up to here are in the table's runs.
    pub(crate) fn flushed(&self, table: TableId) -> LogIndex {
        self.tables.get(&table).map_or(LogIndex(0), |table| table.flushed)
    }

    /// The journal need not keep batches of the chunk index up to this one. Runs say what they did: also of those behind
    /// the last run if no row is in memory, since a row may be written out before its batch gets a number, and a batch
    /// may have none. While the index is rebuilt, those before it was dropped are void.
    pub(crate) fn chunks_settled(&self) -> LogIndex {
        let Some(table) = self.tables.get(&TableId::Chunks) else { return LogIndex(0) };
        let in_memory = !table.active.is_empty() || table.frozen.is_some();
        if let Some(rebuild) = &self.rebuild {
            return table.flushed.max(rebuild.void);
        }
        if in_memory || !matches!(self.phase, Phase::Ready) {
            return table.flushed;
        }
        table.flushed.max(LogIndex(self.chunks.sequence().0.saturating_sub(1)))
    }
}
