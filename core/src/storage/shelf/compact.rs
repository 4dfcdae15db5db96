//! Merging runs of a table. One merge at a time on a disk, beside at most one flush:
//!
//! ```text
//! Merging ─ all rows ─► Body ─ synced ─► Headers ─ synced ─► Journal ─ edit durable ─► done
//!  (read ─► merge ─► write)*
//! ```
//!
//! Until its edit is durable the new run belongs to no table, and readers see the old ones; a crash
//! leaves its segments free. With the edit the old runs are gone at once. What they alone held is
//! wiped, trimmed, and free; but a run that a view holds stays as it is until the view is closed.
//!
//! Pace: one read is in flight, of a few blocks, and so many writes that the disk has work; while a
//! memtable is being written out nothing new is begun, unless runs pile up.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::disk::{DiskOutput, DiskResult};
use crate::ids::LogIndex;
use crate::rows::Miss;

use super::super::io::Io;
use super::super::segment::edit::{
    Edit, RUN_SEGMENTS_MAX, RUN_VALUES_MAX, Replacement, RunDescriptor, TableId,
};
use super::super::segment::layout::{Generation, Layout, SegmentId};
use super::super::tree::VALUE_BYTES_MAX;
use super::super::tree::block::BlockValue;
use super::super::tree::merge::{self, Next};
use super::super::tree::policy::{self, Circumstances, Pick, Unit, Values};
use super::super::tree::reader::{UnitReader, ValueReader, read_bytes};
use super::super::tree::run::Run;
use super::super::tree::run_builder::{DiskWrite, NewValue, NoSegment, RunBuilder, RunSpec};
use super::super::tree::table::Table;
use super::super::tree::value::Piece;
use super::{DiskPurpose, EditPurpose, Output, Shelf, SyncPurpose};

/// Writes in flight, of a mebibyte each. More would make syncs of the journal slower, and keep bytes
/// in memory.
const WRITES_MAX: usize = 2;
/// Units of a table beyond which merging does not wait for flushes any more.
const UNITS_WAITING_MAX: usize = 12;

/// Merges on this disk: what is under way, and what has been done.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    job: Option<Job>,
    /// Runs have changed since the policy found nothing to do.
    due: bool,
    /// A merge found no room with so many segments free; it waits for more.
    no_room: Option<usize>,
    pub(super) done: Merged,
}

/// What merges have done since the store was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Merges that were completed.
    pub merges: u64,
    /// Runs that went into them.
    pub runs: u64,
    /// Rows that went into them.
    pub rows: u64,
    /// Rows that were left out: older states of a key, and tombstones that nobody needs.
    pub rows_dropped: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Values moved to other value segments.
    pub values_moved: u64,
    /// Segments that became free by it.
    pub segments_freed: u64,
}

/// Bytes since the store was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Keys and values of rows that were applied.
    pub rows: u64,
    /// Data of chunks that were stored.
    pub chunks: u64,
    /// Written to the disk for memtables and for states that were taken over.
    pub flushes: u64,
    /// Written to the disk for merges.
    pub merges: u64,
    /// Data of chunks that were moved, so that the segments they were in are free.
    pub moves: u64,
    /// All else that was written to the disk but chunk data: the journal above all, and headers.
    pub others: u64,
}

impl Written {
    /// Bytes written to the disk for each byte that was to be kept, in hundredths; 0 if there were
    /// none.
    pub fn amplification_percent(&self) -> u64 {
        let kept = self.rows + self.chunks;
        let written = self.chunks + self.flushes + self.merges + self.moves + self.others;
        (written * 100).checked_div(kept).unwrap_or(0)
    }
}

/// A merge under way.
#[derive(Debug)]
struct Job {
    table: TableId,
    /// The runs that are merged, oldest first.
    removed: Vec<Generation>,
    /// Oldest first.
    units: Vec<UnitReader>,
    values: ValueReader,
    /// Tombstones of entries up to here may be left out: 0 unless the oldest run is merged.
    old: LogIndex,
    /// Tombstones of entries up to here were left out, by this merge or before.
    bare: LogIndex,
    /// The last tombstone that was left out, as long as there is no row.
    left_out: Option<(Bytes, LogIndex)>,
    builder: RunBuilder,
    /// A read is in flight.
    reading: bool,
    /// Writes in flight.
    writes: usize,
    stage: Stage,
    /// What it has written counts for nothing: the table was reset, or the disk is full or damaged.
    abandoned: bool,
    counts: Merged,
}

#[derive(Debug)]
enum Stage {
    /// Rows are read, merged and written.
    Merging,
    /// The last writes are under way.
    Body { run: Run, headers: Vec<DiskWrite> },
    /// The sync of the body.
    BodySync { run: Run, headers: Vec<DiskWrite> },
    /// Headers are being written.
    Headers { run: Run },
    /// The sync of the headers.
    HeadersSync { run: Run },
    /// All is durable, and the edit is to be journaled.
    Ready { run: Run },
    /// The edit is on its way.
    Journal { run: Run },
}

impl Job {
    fn is_idle(&self) -> bool {
        let syncing = matches!(self.stage, Stage::BodySync { .. } | Stage::HeadersSync { .. });
        !self.reading && self.writes == 0 && !syncing
    }

    /// Bytes of what was read and is to be written, and of descriptions, index and filter.
    fn memory_bytes(&self) -> (u64, u64) {
        let units = self.units.iter().map(UnitReader::memory_bytes);
        let parts = units.chain([self.values.memory_bytes(), self.builder.memory_bytes()]);
        parts
            .fold((0, 0), |(buffers, indexes), (buffer, index)| (buffers + buffer, indexes + index))
    }
}

/// What a read of a merge was for.
#[derive(Clone, Copy, Debug)]
pub(super) enum MergeRead {
    /// The next rows of a unit.
    Unit(usize, Miss),
    /// A value that is moved.
    Value(Miss),
}

/// How a merge went on.
enum Progress {
    /// It waits for the disk.
    Waits,
    /// All rows are through.
    Complete,
}

/// Why a merge is given up.
enum Failure {
    NoSegment,
    /// Something read does not verify.
    Damaged(String),
}

impl From<NoSegment> for Failure {
    fn from(_: NoSegment) -> Self {
        Self::NoSegment
    }
}

impl Compaction {
    /// Runs have changed: look whether a merge is due.
    pub(super) fn runs_changed(&mut self) {
        self.due = true;
        self.no_room = None;
    }

    /// Bytes of buffers, and of what grows with the tables.
    pub(super) fn memory_bytes(&self) -> (u64, u64) {
        self.job.as_ref().map_or((0, 0), Job::memory_bytes)
    }

    pub(super) fn is_merging(&self) -> bool {
        self.job.is_some()
    }

    /// Whether nothing is under way, and nothing waits for anything but room.
    pub(super) fn is_settled(&self) -> bool {
        self.job.is_none() && (!self.due || self.no_room.is_some())
    }
}

impl Shelf {
    /// Begin a merge if one is due, and take the one under way on as far as it comes.
    pub(super) fn drive_merge(&mut self, io: &mut Io<'_>, out: &mut Vec<Output>) {
        // Memtables that are written out, and checkpoints, have the last of the journal for themselves, unless they
        // wait for segments.
        let waits = self.reclaim.waits_for_journal() && !self.is_scarce();
        if self.compaction.job.is_none() && !waits {
            self.begin_merge();
        }
        let Some(mut job) = self.compaction.job.take() else { return };
        if job.abandoned {
            if !job.is_idle() {
                self.compaction.job = Some(job);
                return;
            }
            // Headers may be there: they go the way of all that is given up.
            for segment in job.builder.reserved() {
                self.wipe(segment, io);
            }
            return;
        }
        match self.go_on(&mut job, io, out) {
            Ok(()) => {}
            // It was asked before whether there is room: this is for what was reckoned wrong.
            Err(Failure::NoSegment) => {
                job.abandoned = true;
                self.compaction.due = true;
                self.compaction.no_room = Some(self.segments.free() + job.builder.reserved().len());
            }
            Err(Failure::Damaged(reason)) => {
                job.abandoned = true;
                let table = job.table;
                self.compaction.job = Some(job);
                let store = self.config.store;
                let reason = format!("{store}: rows of {table:?}, read for a merge: {reason}");
                return self.damaged(table, reason, out);
            }
        }
        self.compaction.job = Some(job);
    }

    fn go_on(
        &mut self,
        job: &mut Job,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Failure> {
        if matches!(job.stage, Stage::Merging) {
            if job.reading || job.writes >= WRITES_MAX || self.flush_goes_first(job.table) {
                return Ok(());
            }
            let progress = self.merge_rows(job, io)?;
            let writes = job.builder.take_writes();
            self.start_merge_writes(job, writes, io);
            if let Progress::Complete = progress {
                self.end_run(job, io)?;
            }
        }
        let stage = core::mem::replace(&mut job.stage, Stage::Merging);
        job.stage = match stage {
            Stage::Body { run, headers } if planted!(MergeEditBeforeSync) => {
                self.start_merge_writes(job, headers, io);
                Stage::Headers { run }
            }
            Stage::Headers { run } if planted!(MergeEditBeforeSync) => Stage::Ready { run },
            Stage::Body { run, headers } if job.writes == 0 => {
                self.sync(SyncPurpose::Merge, io);
                Stage::BodySync { run, headers }
            }
            Stage::Headers { run } if job.writes == 0 => {
                self.sync(SyncPurpose::Merge, io);
                Stage::HeadersSync { run }
            }
            Stage::Ready { run } if !self.is_replaced_soon(job.table) => {
                let removed = job.removed.clone();
                let added = run.descriptor.clone();
                let edit = Edit::RunsReplaced(Replacement { removed, added });
                self.journal(&edit, EditPurpose::Merged(run.descriptor.run), out);
                Stage::Journal { run }
            }
            stage => stage,
        };
        Ok(())
    }

    /// Merge rows until some must be read, or written.
    fn merge_rows(&mut self, job: &mut Job, io: &mut Io<'_>) -> Result<Progress, Failure> {
        let mut same = Vec::new();
        loop {
            let newest = match merge::next(&job.units, &mut same) {
                Next::End => return Ok(Progress::Complete),
                Next::Unread(unit) => {
                    let wanted = job.units[unit].wanted().expect("it has rows that were not read");
                    self.start_merge_read(job, MergeRead::Unit(unit, wanted), wanted, io);
                    return Ok(Progress::Waits);
                }
                Next::Row(unit) => job.units[unit].row().expect("it is the next row"),
            };
            let index = newest.index();
            let is_old = index <= job.old || planted!(TombstoneDroppedEarly);
            if newest.is_tombstone() && is_old {
                probe!(TombstoneDropped);
                job.bare = job.bare.max(index);
                if job.builder.rows() == 0 {
                    job.left_out = Some((newest.key_bytes(), index));
                }
                job.counts.rows_dropped += 1;
            } else {
                let value = match newest.value() {
                    BlockValue::Tombstone => NewValue::Tombstone,
                    BlockValue::Inline(bytes) => NewValue::Bytes(bytes),
                    BlockValue::Stored { hash, pieces } => {
                        if pieces.iter().any(|piece| job.values.empties(piece.segment)) {
                            match read_value(&mut job.values, &pieces)? {
                                Ok(bytes) => {
                                    probe!(ValueMoved);
                                    job.counts.values_moved += 1;
                                    NewValue::Bytes(bytes)
                                }
                                Err(miss) => {
                                    self.start_merge_read(job, MergeRead::Value(miss), miss, io);
                                    return Ok(Progress::Waits);
                                }
                            }
                        } else {
                            NewValue::Stored { hash, pieces }
                        }
                    }
                };
                job.builder.push(newest.key(), index, value, &mut self.segments)?;
            }
            job.counts.rows += same.len() as u64;
            job.counts.rows_dropped += same.len() as u64 - 1;
            for unit in &same {
                job.units[*unit].pass().map_err(|error| Failure::Damaged(error.to_string()))?;
            }
            if job.builder.has_writes() {
                let writes = job.builder.take_writes();
                self.start_merge_writes(job, writes, io);
                if job.writes >= WRITES_MAX {
                    return Ok(Progress::Waits);
                }
            }
        }
    }

    /// All rows are in the run, or were left out.
    fn end_run(&mut self, job: &mut Job, io: &mut Io<'_>) -> Result<(), Failure> {
        if job.builder.rows() == 0 {
            // Its interval must not look like that of a lost run.
            let (key, index) = job.left_out.take().expect("the merged runs have rows");
            job.counts.rows_dropped -= 1;
            job.builder.push(&key, index, NewValue::Tombstone, &mut self.segments)?;
        }
        job.builder.set_bare(job.bare);
        let built = job.builder.finish(&mut self.segments)?;
        self.start_merge_writes(job, built.writes, io);
        job.stage = Stage::Body { run: built.run, headers: built.headers };
        Ok(())
    }

    fn start_merge_read(&mut self, job: &mut Job, read: MergeRead, at: Miss, io: &mut Io<'_>) {
        let token = io.read(at.offset, at.len);
        self.disk.insert(token, DiskPurpose::MergeRead(read));
        job.reading = true;
    }

    fn start_merge_writes(&mut self, job: &mut Job, writes: Vec<DiskWrite>, io: &mut Io<'_>) {
        for (offset, parts) in writes {
            let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
            job.counts.bytes += bytes;
            job.writes += 1;
            let token = io.write(offset, parts);
            self.disk.insert(token, DiskPurpose::MergeWrite);
        }
    }

    pub(super) fn merge_was_read(
        &mut self,
        read: MergeRead,
        result: &DiskResult,
        out: &mut Vec<Output>,
    ) {
        let job = self.compaction.job.as_mut().expect("a merge outlives its reads");
        job.reading = false;
        if job.abandoned {
            return;
        }
        let bytes = match result {
            Ok(DiskOutput::Read(bytes)) => Ok(bytes.clone()),
            Ok(other) => Err(format!("the disk answered {other:?} to a read")),
            Err(error) => Err(error.to_string()),
        };
        let at = match read {
            MergeRead::Unit(_, at) | MergeRead::Value(at) => at,
        };
        let taken = bytes.and_then(|bytes| match read {
            _ if bytes.len() as u64 != at.len => Err(format!("the disk gave {}", bytes.len())),
            MergeRead::Unit(unit, _) => {
                job.units[unit].take(bytes).map_err(|error| error.to_string())
            }
            MergeRead::Value(at) => {
                job.values.take(at, bytes);
                Ok(())
            }
        });
        if let Err(error) = taken {
            job.abandoned = true;
            let table = job.table;
            let reason = format!(
                "{}: {} bytes at {} of the disk, rows of {table:?}, read for a merge: {error}",
                self.config.store, at.len, at.offset
            );
            self.damaged(table, reason, out);
        }
    }

    pub(super) fn merge_was_written(&mut self) {
        match &mut self.compaction.job {
            None if planted!(MergeEditBeforeSync) => {}
            job => job.as_mut().expect("a merge outlives its writes").writes -= 1,
        }
    }

    pub(super) fn merge_synced(&mut self, io: &mut Io<'_>) {
        let mut job = self.compaction.job.take().expect("a merge outlives its syncs");
        let stage = core::mem::replace(&mut job.stage, Stage::Merging);
        job.stage = match stage {
            Stage::BodySync { run, headers } if !job.abandoned => {
                self.start_merge_writes(&mut job, headers, io);
                Stage::Headers { run }
            }
            Stage::BodySync { run, .. } | Stage::HeadersSync { run } => Stage::Ready { run },
            stage => stage,
        };
        self.compaction.job = Some(job);
    }

    /// The edit is durable: the new run takes the place of the old ones.
    pub(super) fn merge_journaled(&mut self, merged: Generation, io: &mut Io<'_>) {
        // One that was abandoned in this stage was taken away with the reset.
        let Some(job) = self.compaction.job.take_if(
            |job| matches!(&job.stage, Stage::Journal { run } if run.descriptor.run == merged),
        ) else {
            return;
        };
        let Stage::Journal { run } = job.stage else { return };
        let free = self.segments.free();
        self.holdings.add(&run.descriptor, &mut self.segments);
        let table =
            self.tables.get_mut(&job.table).expect("a reset would have taken the merge away");
        // Newest first.
        let last =
            table.runs.iter().position(|other| Some(&other.descriptor.run) == job.removed.last());
        let at = last.expect("only a merge takes runs out");
        let span = at..at + job.removed.len();
        let old: Vec<Run> = table.runs.splice(span, [run]).collect();
        assert!(old.iter().rev().map(|run| run.descriptor.run).eq(job.removed.iter().copied()));
        let mut freed = 0;
        for run in old {
            if self.views.holds(run.descriptor.run) {
                probe!(RunKeptForView);
                self.views.retired.push(run);
            } else {
                freed += self.free_run(run.descriptor.run, io);
            }
        }
        debug_assert_eq!(free, self.segments.free(), "what is free is wiped first");
        self.compaction.done.add(job.counts);
        probe!(RunsMerged);
        self.compaction.done.merges += 1;
        self.compaction.done.runs += job.removed.len() as u64;
        self.compaction.done.segments_freed += freed;
        self.compaction.runs_changed();
    }

    /// A run is in no table and no view any more: wipe what it alone held. How many segments.
    pub(super) fn free_run(&mut self, run: Generation, io: &mut Io<'_>) -> u64 {
        let segments = self.holdings.remove(run);
        for segment in &segments {
            self.forget_segment(*segment);
            self.wipe(*segment, io);
        }
        segments.len() as u64
    }

    /// The table is reset or replaced. Gives back the segments that the reset has to free, if the
    /// edit of the merge is in the journal already; else they are freed when it has come to rest.
    pub(super) fn abandon_merge(&mut self, table: TableId) -> Vec<SegmentId> {
        let Some(job) = self.compaction.job.as_mut().filter(|job| job.table == table) else {
            return Vec::new();
        };
        if !matches!(job.stage, Stage::Journal { .. }) {
            job.abandoned = true;
            return Vec::new();
        }
        let segments = job.builder.reserved();
        self.compaction.job = None;
        segments
    }

    /// An edit is on its way after which the runs of the table are others.
    fn is_replaced_soon(&self, table: TableId) -> bool {
        self.ingest.as_ref().is_some_and(|ingest| ingest.is_installing(table))
    }

    /// Flushes go first, as long as the table can be read well without the merge.
    fn flush_goes_first(&self, table: TableId) -> bool {
        let runs = self.tables.get(&table).map_or(0, |table| table.runs.len());
        self.flush.is_some() && runs <= UNITS_WAITING_MAX && !self.is_scarce()
    }

    fn begin_merge(&mut self) {
        let free = self.segments.free();
        if !self.compaction.due || self.compaction.no_room.is_some_and(|tried| free <= tried) {
            return;
        }
        self.compaction.due = false;
        let tables: Vec<TableId> = self.tables.keys().copied().collect();
        for id in tables {
            let Some((units, pick)) = self.choose_merge(id) else { continue };
            if self.room_for(&units, &pick) {
                return self.start_merge(id, &units, &pick);
            }
            // Without moving values less room is needed; and there may be something to do elsewhere.
            self.compaction.due = true;
            self.compaction.no_room = Some(free);
            let pick = Pick { emptied: Vec::new(), ..pick };
            if pick.units.len() > 1 && self.room_for(&units, &pick) {
                return self.start_merge(id, &units, &pick);
            }
        }
    }

    /// The units of a table, oldest first, and which of them are to be merged.
    fn choose_merge(&self, id: TableId) -> Option<(Vec<Vec<RunDescriptor>>, Pick)> {
        let table = self.tables.get(&id).filter(|table| !table.broken)?;
        let units = units_of(table);
        let old = self.old_tombstones(id, table);
        let room = self.layout.segment - crate::disk::SECTOR;
        let scarce = self.is_scarce().then_some(room);
        let stats: Vec<Unit> = units
            .iter()
            .map(|runs| {
                let values = runs.iter().flat_map(|run| &run.values).map(|value| Values {
                    segment: value.segment,
                    live: value.live,
                    used: if scarce.is_some() { room } else { value.used },
                });
                Unit {
                    blocks: runs.iter().map(|run| block_bytes(run, &self.layout)).sum(),
                    rows: runs.iter().map(|run| run.rows).sum(),
                    tombstones: runs.iter().map(|run| run.tombstones).sum(),
                    is_old: runs.iter().all(|run| run.through <= old),
                    values: values.collect(),
                }
            })
            .collect();
        let smallest = self.smallest();
        let eager = || {
            let units = (stats.len().saturating_sub(2))..stats.len();
            let wanted = stats.len() > 1 && buggify!(EagerMerge);
            wanted.then(|| Pick { units, emptied: Vec::new(), reason: policy::Reason::Level })
        };
        let pick = policy::choose(&stats, Circumstances { smallest, scarce }).or_else(eager)?;
        // Runs have a largest size.
        let runs = || units[pick.units.clone()].iter().flatten();
        let segments: usize = runs().map(|run| run.segments.len()).sum();
        let values: usize = runs().map(|run| run.values.len()).sum();
        let fits = segments < RUN_SEGMENTS_MAX / 4 * 3 && values < RUN_VALUES_MAX / 4 * 3;
        fits.then_some((units, pick))
    }

    /// Tombstones up to here are needed by no replica that lags.
    fn old_tombstones(&self, id: TableId, table: &Table) -> LogIndex {
        let lag = match id {
            TableId::Range(_) => self.config.tombstone_lag,
            // It is nobody else's.
            TableId::Chunks => 0,
        };
        LogIndex(table.flushed.0.saturating_sub(lag))
    }

    fn start_merge(&mut self, id: TableId, units: &[Vec<RunDescriptor>], pick: &Pick) {
        let table = &self.tables[&id];
        let merged = &units[pick.units.clone()];
        let runs = || merged.iter().flatten();
        let (Some(first), Some(last)) = (runs().next(), runs().last()) else { return };
        let through = last.through;
        let old = match pick.units.start {
            0 => self.old_tombstones(id, table).min(through),
            _ => LogIndex(0),
        };
        let bare = runs().map(|run| run.bare).max().unwrap_or_default();
        let spec = RunSpec {
            table: id,
            after: first.after,
            through,
            bare,
            part_of: None,
            last: true,
            rows_max: runs().map(|run| run.rows).sum(),
        };
        let mut builder = RunBuilder::new(self.layout, spec, self.segments.next_generation());
        runs().for_each(|run| builder.reuse(&run.values));
        let reader = |unit: &Vec<RunDescriptor>| {
            UnitReader::new(self.layout, unit.iter().cloned().collect::<VecDeque<_>>())
        };
        self.compaction.job = Some(Job {
            table: id,
            removed: runs().map(|run| run.run).collect(),
            units: merged.iter().map(reader).collect(),
            values: ValueReader::new(self.layout, runs(), &pick.emptied),
            old,
            bare,
            left_out: None,
            builder,
            reading: false,
            writes: 0,
            stage: Stage::Merging,
            abandoned: false,
            counts: Merged::default(),
        });
    }

    /// Whether a merge can be written beside what one flush needs; or at all, where segments are scarce and it gives
    /// back more than it takes. (Flushes of few rows take a segment each: if merges waited for the room of a full one,
    /// a small disk would fill with such runs for good.)
    fn room_for(&self, units: &[Vec<RunDescriptor>], pick: &Pick) -> bool {
        let runs = || units[pick.units.clone()].iter().flatten();
        let before: usize = runs().map(|run| run.segments.len()).sum();
        // Rows that come together may fill their blocks less well.
        let blocks: u64 = runs().map(|run| u64::from(run.loaded_end())).sum();
        let blocks = blocks.div_ceil(self.layout.blocks_per_segment()).saturating_add(1);
        let blocks = usize::try_from(blocks).unwrap_or(usize::MAX).min(before);
        let values = runs().flat_map(|run| &run.values);
        let moved = values.filter(|value| pick.emptied.binary_search(&value.segment).is_ok());
        let moved: u64 = moved.map(|value| value.live).sum();
        let moved = usize::try_from(moved / self.layout.segment).unwrap_or(usize::MAX);
        let takes = blocks.saturating_add(moved).saturating_add(usize::from(moved > 0) * 2);
        let gives_back = before + pick.emptied.len() > takes;
        let beside = match self.is_scarce() && gives_back {
            true => 0,
            false => 3 + self.reserve.deletes / 2,
        };
        self.segments.free() >= takes.saturating_add(beside)
    }

    /// Free segments that are kept for merges beside the reserve of flushes: without them, what is
    /// deleted on a full disk would never become free.
    pub(super) fn merge_reserve(&self) -> usize {
        let blocks =
            |table: &Table| table.runs.iter().map(|run| run.descriptor.segments.len()).sum();
        let most: usize = self.tables.values().map(blocks).max().unwrap_or(0);
        (most + policy::EMPTIED_MAX / 2 + 3).min(self.layout.count as usize / 4)
    }

    /// Whether rows are nearly refused for want of segments.
    pub(super) fn is_scarce(&self) -> bool {
        let plenty = self.reserve.data + self.merge_reserve() + self.layout.count as usize / 16;
        self.segments.free() < plenty
    }

    /// Bytes of blocks of the smallest runs. A flushed memtable is above it, unless its rows are few
    /// and their values long: those take little in blocks.
    fn smallest(&self) -> u64 {
        (self.config.memtable_bytes / 64).max(self.layout.tree_block)
    }

    /// # Panics
    /// If what is merged is not there any more: a bug in Trine.
    pub(super) fn check_merge(&self) {
        let Some(job) = self.compaction.job.as_ref().filter(|job| !job.abandoned) else { return };
        let runs = &self.tables[&job.table].runs;
        let mut oldest_first = runs.iter().rev().map(|run| run.descriptor.run);
        let there = oldest_first.any(|run| Some(&run) == job.removed.first())
            && oldest_first.zip(&job.removed[1..]).all(|(run, removed)| run == *removed);
        assert!(there, "{:?} are runs of {:?}, in this order", job.removed, job.table);
    }

    /// For each table how many units of runs it has, and how many it may have when no merge is due:
    /// any number, if there is no room to merge them.
    pub(crate) fn shapes(&self) -> Vec<(TableId, usize, usize)> {
        let shape = |(id, table): (&TableId, &Table)| {
            let runs = table.runs.iter().map(|run| block_bytes(&run.descriptor, &self.layout));
            let bound = policy::units_bound(runs.sum(), self.smallest());
            let waits = self.compaction.no_room.is_some();
            (*id, units_of(table).len(), if waits { usize::MAX } else { bound })
        };
        self.tables.iter().map(shape).collect()
    }

    /// What merges have done, and whether one is due or under way.
    pub(crate) fn merged(&self) -> (Merged, bool) {
        (self.compaction.done, !self.compaction.is_settled())
    }
}

impl Merged {
    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.rows_dropped += other.rows_dropped;
        self.bytes += other.bytes;
        self.values_moved += other.values_moved;
    }
}

/// Bytes that a merge holds at most, but for what grows with the table.
pub(super) fn buffers_max(layout: &Layout) -> u64 {
    // Of each unit what was read, and a block of it taken apart; of each segment that is emptied what
    // was read; a value, and its parts; and two writes that are not full.
    let units = policy::UNITS_MAX as u64 * 2 * read_bytes(layout);
    let emptied = policy::EMPTIED_MAX as u64 * read_bytes(layout);
    let value = VALUE_BYTES_MAX as u64 + layout.segment.min(VALUE_BYTES_MAX as u64 * 2);
    units + emptied + 4 * value + (2 << 20)
}

/// The value of a row that is moved; or the span to read first.
fn read_value(values: &mut ValueReader, pieces: &[Piece]) -> Result<Result<Bytes, Miss>, Failure> {
    values.value(pieces).map_err(|error| Failure::Damaged(format!("a value: {error}")))
}

/// Bytes of a run's blocks of rows.
fn block_bytes(run: &RunDescriptor, layout: &Layout) -> u64 {
    u64::from(run.data_blocks) * layout.tree_block
}

/// The runs of a table, oldest first; parts of one snapshot together, in the order of their keys.
fn units_of(table: &Table) -> Vec<Vec<RunDescriptor>> {
    let mut units: Vec<Vec<RunDescriptor>> = Vec::new();
    for run in table.runs.iter().rev() {
        match units.last_mut() {
            Some(unit) if unit[0].part.of == run.descriptor.part.of => {
                unit.push(run.descriptor.clone());
            }
            _ => units.push(vec![run.descriptor.clone()]),
        }
    }
    units
}
