//! Writing a frozen memtable out. One flush at a time:
//!
//! ```text
//! Body ─ synced ─► Headers ─ synced ─► Journal ─ edit durable ─► done
//! ```
//!
//! Headers follow the body's sync, so that a header vouches for all of its run. The run counts from
//! the moment when its edit is durable; a crash before that leaves its segments free.

use crate::disk::Room;
use crate::ids::LogIndex;

use super::super::io::Io;
use super::super::segment::edit::{Edit, TableId};
use super::super::segment::layout::{Generation, SegmentId};
use super::super::tree::run::Run;
use super::super::tree::run_builder::{self, DiskWrite, RunImage, RunSpec};
use super::super::tree::table::Frozen;
use super::recover::Phase;
use super::{DiskPurpose, EditPurpose, Output, Shelf, SyncPurpose};

/// A flush under way.
#[derive(Debug)]
pub(super) struct Flush {
    table: TableId,
    through: LogIndex,
    run: Run,
    /// All segments that are new with it.
    segments: Vec<SegmentId>,
    stage: Stage,
    content: Content,
    /// The table was reset meanwhile: what is written counts for nothing.
    abandoned: bool,
}

/// What is written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A frozen memtable: an edit makes the run part of its table.
    Frozen,
    /// Rows of a snapshot: the run waits for the others.
    Staged,
}

#[derive(Debug)]
enum Stage {
    /// Blocks and values are being written, then synced.
    Body { writes_left: usize, headers: Vec<DiskWrite> },
    /// Headers are being written, then synced.
    Headers { writes_left: usize },
    /// The edit is on its way.
    Journal,
}

impl Flush {
    /// A flush of what was built, and the writes of its body.
    pub(super) fn new(
        table: TableId,
        through: LogIndex,
        image: RunImage,
        content: Content,
    ) -> (Self, Vec<DiskWrite>) {
        let RunImage { run, body, headers, segments } = image;
        let stage = Stage::Body { writes_left: body.len(), headers };
        (Self { table, through, run, segments, stage, content, abandoned: false }, body)
    }

    /// Whether it writes out a memtable of this table.
    fn is_of(&self, table: TableId) -> bool {
        self.table == table && self.content == Content::Frozen
    }

    pub(super) fn is_staged(&self) -> bool {
        self.content == Content::Staged
    }

    /// Its segments are wiped when the writes in flight have ended.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
    }
}

impl Shelf {
    /// Whether a table's memtable is full and can be written out now.
    pub(crate) fn wants_freeze(&self, table: TableId) -> bool {
        self.flush.is_none() && self.is_over_limit(table) && self.has_room_for_flush(table)
    }

    /// Whether no more rows should be applied to a table: its memtable is full and cannot be frozen,
    /// because a flush is running or the disk is full.
    pub(crate) fn is_stalled(&self, table: TableId) -> bool {
        self.is_over_limit(table) && !self.wants_freeze(table)
    }

    /// For what there are segments left. If applying stalled for want of them, nothing could be read
    /// any more either; and without those that a merge needs, what is deleted would never be freed.
    pub(crate) fn room(&self) -> Room {
        let merge = self.merge_reserve();
        match self.segments.free() {
            free if free < self.reserve.deletes + merge => Room::Housekeeping,
            free if free < self.reserve.data + merge => Room::Deletes,
            _ => Room::Data,
        }
    }

    /// Write a table's rows out, which are those of all entries up to `through`, the last applied.
    /// [`Output::Flushed`] follows. `false`, and nothing happens, if a flush is running, there are
    /// no rows, or too few segments are free.
    pub(crate) fn freeze(&mut self, table: TableId, through: LogIndex, io: &mut Io<'_>) -> bool {
        let Some(rows) = self.tables.get_mut(&table) else { return false };
        if self.flush.is_some() || rows.active.is_empty() {
            return false;
        }
        assert!(through >= rows.active.last(), "rows of an entry after {through} are in memory");
        let spec = RunSpec {
            table,
            after: rows.flushed,
            through,
            bare: LogIndex(0),
            part_of: None,
            last: true,
            rows_max: rows.active.len(),
        };
        let image = run_builder::build(self.layout, spec, &rows.active, &mut self.segments);
        let Some(image) = image else { return false };
        rows.frozen = Some(Frozen { rows: std::mem::take(&mut rows.active), through });
        let (flush, body) = Flush::new(table, through, image, Content::Frozen);
        self.flush = Some(flush);
        self.start_writes(body, io);
        true
    }

    /// The chunk index is frozen by the shelf itself.
    pub(super) fn freeze_chunk_index(&mut self, io: &mut Io<'_>) {
        if self.wants_freeze(TableId::Chunks) || buggify!(IndexFlushedEarly, hot) {
            self.write_out_chunk_index(io);
        }
    }

    /// Have all records of the chunk index written out, so that the journal need not keep them. A flush
    /// that is running goes first: to be asked again.
    pub(crate) fn write_out_chunk_index(&mut self, io: &mut Io<'_>) {
        let through = self.chunks.sequence();
        if self.can_freeze(TableId::Chunks)
            && self.freeze(TableId::Chunks, through, io)
            && !planted!(ChunkBatchReused)
        {
            self.chunks.advance_sequence(through);
        }
    }

    /// Whether a table's memtable could be written out now, however small it is.
    pub(crate) fn can_freeze(&self, table: TableId) -> bool {
        matches!(self.phase, Phase::Ready) && self.flush.is_none() && self.has_room_for_flush(table)
    }

    pub(super) fn flush_written(&mut self, io: &mut Io<'_>) {
        let is_early = |flush: &Flush| matches!(flush.stage, Stage::Journal);
        if planted!(RunEditBeforeSync) && self.flush.as_ref().is_none_or(is_early) {
            return;
        }
        let flush = self.flush.as_mut().expect("its write was in flight");
        let left = match &mut flush.stage {
            Stage::Body { writes_left, .. } | Stage::Headers { writes_left } => writes_left,
            Stage::Journal => unreachable!("all writes are complete before the edit"),
        };
        *left -= 1;
        if *left == 0 {
            self.sync(SyncPurpose::Flush, io);
        }
    }

    /// Journal the edit of a run while that is being written: a planted mistake.
    pub(super) fn hurry_flush(&mut self, io: &mut Io<'_>, out: &mut Vec<Output>) {
        let Some(flush) = &mut self.flush else { return };
        if flush.content != Content::Frozen || flush.abandoned {
            return;
        }
        let Stage::Body { headers, .. } = &mut flush.stage else { return };
        let headers = core::mem::take(headers);
        flush.stage = Stage::Journal;
        let descriptor = flush.run.descriptor.clone();
        let run = descriptor.run;
        self.start_writes(headers, io);
        self.journal(&Edit::RunAdded(descriptor), EditPurpose::Run(run), out);
    }

    pub(super) fn flush_synced(&mut self, io: &mut Io<'_>, out: &mut Vec<Output>) {
        let Some(mut flush) = self.flush.take() else { return };
        if flush.abandoned {
            // Headers may be there: they go the way of all that is given up.
            for segment in flush.segments {
                self.wipe(segment, io);
            }
            return;
        }
        match flush.stage {
            Stage::Body { headers, .. } => {
                flush.stage = Stage::Headers { writes_left: headers.len() };
                self.flush = Some(flush);
                self.start_writes(headers, io);
            }
            Stage::Headers { .. } if flush.content == Content::Staged => self.run_staged(flush.run),
            Stage::Headers { .. } => {
                let edit = Edit::RunAdded(flush.run.descriptor.clone());
                let run = flush.run.descriptor.run;
                flush.stage = Stage::Journal;
                self.flush = Some(flush);
                self.journal(&edit, EditPurpose::Run(run), out);
            }
            Stage::Journal => unreachable!("no sync is asked for beside the edit"),
        }
    }

    /// The run is part of its table.
    pub(super) fn flush_journaled(&mut self, run: Generation, out: &mut Vec<Output>) {
        // A flush that was abandoned in this stage was taken away with the reset.
        let Some(flush) = self.flush.take_if(|flush| flush.run.descriptor.run == run) else {
            return;
        };
        let Flush { table: id, through, run, .. } = flush;
        self.holdings.add(&run.descriptor, &mut self.segments);
        let table = self.tables.entry(id).or_default();
        table.runs.insert(0, run);
        table.flushed = through;
        table.frozen = None;
        self.compaction.runs_changed();
        out.push(Output::Flushed { table: id, through });
    }

    /// The table is reset. Gives back the segments that the reset has to free, if the run's edit is
    /// in the journal already; else they are freed when the writes in flight have ended.
    pub(super) fn abandon_flush(&mut self, table: TableId) -> Vec<SegmentId> {
        let Some(flush) = self.flush.as_mut().filter(|flush| flush.is_of(table)) else {
            return Vec::new();
        };
        if !matches!(flush.stage, Stage::Journal) {
            flush.abandoned = true;
            return Vec::new();
        }
        self.flush.take().map_or_else(Vec::new, |flush| flush.segments)
    }

    pub(super) fn start_writes(&mut self, writes: Vec<DiskWrite>, io: &mut Io<'_>) {
        for (offset, parts) in writes {
            self.flushed_bytes += parts.iter().map(|part| part.len() as u64).sum::<u64>();
            let token = io.write(offset, parts);
            self.disk.insert(token, DiskPurpose::Flush);
        }
    }

    /// Whether a memtable of this table is being written out.
    pub(crate) fn is_flushing(&self, table: TableId) -> bool {
        self.flush.as_ref().is_some_and(|flush| flush.is_of(table))
    }

    fn is_over_limit(&self, table: TableId) -> bool {
        self.active_bytes(table) >= self.config.memtable_bytes
    }

    fn has_room_for_flush(&self, table: TableId) -> bool {
        let needed = run_builder::segments_needed(&self.layout, self.active_bytes(table));
        self.segments.free() >= needed
    }

    fn active_bytes(&self, table: TableId) -> u64 {
        self.tables.get(&table).map_or(0, |table| table.active.bytes())
    }
}
