//! From the journal's edits to a shelf that takes calls.
//!
//! ```text
//! Replaying ─► [Headers ─► Describing, if edits were lost] ─► Loading ─► Scanning ─► Syncing ─► Ready
//! ```
//!
//! Loading reads the block index and the filter of each run. Scanning finds, in open segments, the chunks whose
//! records were not journaled any more; the sync that follows makes sure that they are durable
//! before anyone is told so. If the chunk index itself is lost, it is rebuilt beside normal work,
//! by a scan of all segments with chunks.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::codec::{DecodeError, Wire};
use crate::disk::{DiskOutput, DiskResult, SECTOR};
use crate::ids::{ChunkId, LogIndex};
use crate::rows::Miss;

use super::super::io::Io;
use super::super::segment::allocator::SegmentState;
use super::super::segment::chunk_store::{OpenSegment, chunk_key};
use super::super::segment::edit::{
    ChunkRecord, Edit, Installation, Part, Replacement, RunDescriptor, TableId, ValueRef,
};
use super::super::segment::header::SegmentHeader;
use super::super::segment::layout::{Generation, Layout, SegmentId};
use super::super::segment::scan::{ScanResult, SegmentScan};
use super::super::tree::run::{Loaded, block_span, is_plausible};
use super::super::tree::table::Table;
use super::found::Describing;
use super::{DiskPurpose, EditPurpose, Output, Shelf, SyncPurpose};

/// Bytes of block index and filter that one read brings.
const LOAD_BYTES: u64 = 1 << 20;

/// How far recovery is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Edits come in.
    Replaying(Replayed),
    /// Reading the headers of all segments.
    Headers { replayed: Replayed, next: SegmentId, headers: BTreeMap<SegmentId, SegmentHeader> },
    /// Reading the descriptions of runs that headers vouch for.
    Describing(Describing),
    /// Reading block indexes and filters.
    Loading { replayed: Replayed, current: Loading, rest: VecDeque<RunDescriptor> },
    /// Scanning open segments.
    Scanning { current: SegmentScan, rest: VecDeque<(SegmentId, Generation)> },
    /// What was found is made durable.
    Syncing,
    /// Recovered.
    Ready,
}

impl Default for Phase {
    fn default() -> Self {
        Self::Replaying(Replayed::default())
    }
}

/// What edits say, beside the states of segments and the chunk index's memtable.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// The runs of each table, oldest first.
    runs: BTreeMap<TableId, Vec<RunDescriptor>>,
    /// Whether the chunk index was reset and not completed again.
    rebuild: bool,
    /// The first edits, of each table and of segments, that contradict those before them: some were lost,
    /// unless a snapshot follows, or the table is reset. (An edit that was on its way when the reset
    /// was decided may stand behind a checkpoint that knows of the reset.)
    contradictions: BTreeMap<Option<TableId>, DecodeError>,
}

impl Replayed {
    /// All runs, for each table oldest first.
    pub(super) fn into_runs(self) -> impl Iterator<Item = RunDescriptor> {
        self.runs.into_values().flatten()
    }
}

/// What the caller must know of an edit that was replayed.
#[derive(Debug)]
pub(crate) enum RecoveredEdit {
    /// A snapshot of a range: its log begins after it.
    Installation(Installation),
    /// Chunk records of this batch: see [`Output::Journal`].
    Chunks(LogIndex),
    /// All that the shelf holds, whatever came before.
    State,
    /// Nothing.
    Other,
}

/// A run whose block index and filter are being read.
#[derive(Debug)]
pub(super) struct Loading {
    run: RunDescriptor,
    loaded: Loaded,
    next_block: u32,
    /// How many blocks the read in flight brings.
    blocks: u32,
}

/// The chunk index is being rebuilt by a scan of all segments with chunks.
#[derive(Debug)]
pub(super) struct Rebuild {
    rest: VecDeque<(SegmentId, Generation)>,
    current: Option<SegmentScan>,
    reading: bool,
    /// Tells its reads from those of a rebuild before it.
    serial: u64,
    /// Found, and not yet looked up in the index.
    found: VecDeque<(ChunkId, ChunkRecord)>,
    /// Batches up to this one are void: the index was dropped behind them.
    pub(super) void: LogIndex,
}

impl Shelf {
    /// Replay an edit. In the order in which the journal holds them.
    ///
    /// # Errors
    /// [`DecodeError`]: this build cannot read the edit. One that contradicts the earlier ones is no
    /// error here: behind a gap that is normal, and what the disk holds is then found as after one,
    /// unless a snapshot follows.
    pub(crate) fn recover_edit(&mut self, edit: &Bytes) -> Result<RecoveredEdit, DecodeError> {
        let edit = Edit::from_bytes(edit)?;
        let told = match &edit {
            Edit::TableInstalled(installation) => RecoveredEdit::Installation(installation.clone()),
            Edit::ChunksAdded { sequence, .. } | Edit::ChunksFreed { sequence, .. } => {
                RecoveredEdit::Chunks(*sequence)
            }
            Edit::Snapshot { .. } | Edit::Checkpoint { .. } => RecoveredEdit::State,
            _ => RecoveredEdit::Other,
        };
        let Phase::Replaying(mut replayed) = std::mem::replace(&mut self.phase, Phase::Syncing)
        else {
            unreachable!("edits come before recovery starts");
        };
        let table = match &edit {
            Edit::RunAdded(run) => Some(run.table),
            Edit::RunsReplaced(replacement) => Some(replacement.added.table),
            _ => None,
        };
        if let Err(error) = self.replay(edit, &mut replayed) {
            replayed.contradictions.entry(table).or_insert(error);
        }
        self.phase = Phase::Replaying(replayed);
        Ok(told)
    }

    pub(super) fn replay(
        &mut self,
        edit: Edit,
        replayed: &mut Replayed,
    ) -> Result<(), DecodeError> {
        match edit {
            Edit::SegmentOpened { segment, generation } => {
                self.replay_take(segment, SegmentState::Chunks { generation, open: true })
            }
            Edit::SegmentSealed { segment } => match self.segments.state(segment) {
                Some(SegmentState::Chunks { .. }) => {
                    self.seal(segment);
                    Ok(())
                }
                _ => Err(DecodeError::Invalid { what: "sealed segment" }),
            },
            Edit::RunAdded(run) => self.replay_run(run, replayed),
            Edit::TableReset { table } => {
                self.replay_reset(table, replayed);
                if table == TableId::Chunks {
                    replayed.rebuild = true;
                }
                Ok(())
            }
            Edit::TableInstalled(Installation { table, newer_than, runs, .. }) => {
                if newer_than == LogIndex(0) {
                    self.replay_reset(table, replayed);
                }
                runs.into_iter().try_for_each(|run| self.replay_run(run, replayed))
            }
            Edit::RunsReplaced(replacement) => self.replay_merge(replacement, replayed),
            Edit::ChunksAdded { sequence, records } => {
                for (_, record) in &records {
                    let end = u64::from(record.offset) + u64::from(record.length);
                    let filled = self.filled.entry(record.segment).or_default();
                    *filled = end.next_multiple_of(SECTOR).max(*filled);
                }
                let rows = records.into_iter().map(|(chunk, record)| (chunk, Some(record)));
                self.replay_chunks(sequence, rows)
            }
            Edit::ChunksFreed { sequence, chunks } => {
                self.replay_chunks(sequence, chunks.into_iter().map(|chunk| (chunk, None)))
            }
            Edit::SegmentRecorded { segment, through } => match self.segments.state(segment) {
                Some(SegmentState::Chunks { open: true, .. })
                    if through.is_multiple_of(SECTOR)
                        && (SECTOR..=self.layout.segment).contains(&through) =>
                {
                    self.recorded.insert(segment, through);
                    Ok(())
                }
                _ => Err(DecodeError::Invalid { what: "recorded segment" }),
            },
            Edit::SegmentFreed { segment, generation } => match self.segments.state(segment) {
                Some(SegmentState::Chunks { generation: held, open: false })
                    if held == generation =>
                {
                    self.segments.set(segment, SegmentState::Free);
                    Ok(())
                }
                _ => Err(DecodeError::Invalid { what: "freed segment" }),
            },
            Edit::ChunkIndexRebuilt => {
                replayed.rebuild = false;
                Ok(())
            }
            Edit::Snapshot { chunk_segments, runs } => {
                self.forget_everything();
                *replayed = Replayed { rebuild: true, ..Replayed::default() };
                for (segment, (generation, open)) in chunk_segments {
                    self.replay_take(segment, SegmentState::Chunks { generation, open })?;
                }
                runs.into_iter().try_for_each(|run| self.replay_run(run, replayed))
            }
            Edit::Checkpoint { chunk_segments, rebuild } => {
                let chunks = self.tables.remove(&TableId::Chunks).unwrap_or_default();
                self.forget_everything();
                // Runs follow, and say which of the records are theirs.
                let chunks = Table { active: chunks.active, ..Table::default() };
                self.tables.insert(TableId::Chunks, chunks);
                // What it says is complete: what contradicted itself before it does not matter.
                *replayed = Replayed { rebuild, ..Replayed::default() };
                for (segment, (generation, open)) in chunk_segments {
                    self.replay_take(segment, SegmentState::Chunks { generation, open })?;
                }
                Ok(())
            }
        }
    }

    fn replay_reset(&mut self, table: TableId, replayed: &mut Replayed) {
        replayed.contradictions.remove(&Some(table));
        for run in replayed.runs.remove(&table).unwrap_or_default() {
            for segment in run.all_segments() {
                self.segments.set(segment, SegmentState::Free);
            }
        }
        self.tables.insert(table, Default::default());
    }

    fn forget_everything(&mut self) {
        for segment in 0..self.layout.count {
            self.segments.set(SegmentId(segment), SegmentState::Free);
        }
        self.recorded.clear();
        self.filled.clear();
        self.tables = BTreeMap::from([(TableId::Chunks, Default::default())]);
    }

    fn replay_take(&mut self, segment: SegmentId, to: SegmentState) -> Result<(), DecodeError> {
        if self.segments.state(segment) != Some(SegmentState::Free) {
            return Err(DecodeError::Invalid { what: "segment that is taken twice" });
        }
        if let SegmentState::Chunks { generation, .. } = to {
            self.segments.saw(generation);
        }
        self.recorded.remove(&segment);
        self.filled.remove(&segment);
        self.segments.set(segment, to);
        Ok(())
    }

    fn replay_run(
        &mut self,
        run: RunDescriptor,
        replayed: &mut Replayed,
    ) -> Result<(), DecodeError> {
        if !is_plausible(&run, &self.layout) {
            return Err(DecodeError::Invalid { what: "description of a run" });
        }
        let runs = replayed.runs.entry(run.table).or_default();
        let table = self.tables.entry(run.table).or_default();
        let next_part = |last: &RunDescriptor| {
            let part = Part { number: last.part.number + 1, last: run.part.last, ..last.part };
            !last.part.last && part == run.part && last.through == run.through
        };
        if run.after != table.flushed && !runs.last().is_some_and(next_part) {
            return Err(DecodeError::Invalid { what: "entries before a run" });
        }
        let free = |segment| self.segments.state(segment) == Some(SegmentState::Free);
        let known = |value: &ValueRef| {
            runs.iter().any(|other| other.value_generation(value.segment) == Some(value.generation))
        };
        let own = run.segments.iter().all(|segment| free(*segment))
            && run.values.iter().all(|value| free(value.segment) || known(value));
        if !own {
            return Err(DecodeError::Invalid { what: "segment that is taken twice" });
        }
        self.segments.saw(run.run);
        for segment in &run.segments {
            self.segments.set(*segment, SegmentState::Run(run.run));
        }
        for value in &run.values {
            self.segments.saw(value.generation);
            self.segments.set(value.segment, SegmentState::Values(value.generation));
        }
        table.flushed = table.flushed.max(run.through);
        table.active.forget(run.through);
        runs.push(run);
        Ok(())
    }

    fn replay_merge(
        &mut self,
        Replacement { removed, added }: Replacement,
        replayed: &mut Replayed,
    ) -> Result<(), DecodeError> {
        let invalid = || DecodeError::Invalid { what: "merge of runs" };
        let runs = replayed.runs.entry(added.table).or_default();
        let is_removed =
            |some: &[RunDescriptor]| some.iter().map(|run| run.run).eq(removed.iter().copied());
        let at = runs.windows(removed.len()).position(is_removed).ok_or_else(invalid)?;
        let old = &runs[at..at + removed.len()];
        let (first, last) = (&old[0], &old[old.len() - 1]);
        let whole = first.part.number == 0 && last.part.last;
        let same = (first.after, last.through) == (added.after, added.through);
        let free = |segment| self.segments.state(segment) == Some(SegmentState::Free);
        let known = |value: &ValueRef| {
            old.iter().any(|run| run.value_generation(value.segment) == Some(value.generation))
        };
        let own = added.segments.iter().all(|segment| free(*segment))
            && added.values.iter().all(|value| free(value.segment) || known(value));
        if !(whole && same && own && is_plausible(&added, &self.layout)) {
            return Err(invalid());
        }
        for segment in old.iter().flat_map(RunDescriptor::all_segments) {
            self.segments.set(segment, SegmentState::Free);
        }
        self.segments.saw(added.run);
        for segment in &added.segments {
            self.segments.set(*segment, SegmentState::Run(added.run));
        }
        for value in &added.values {
            self.segments.saw(value.generation);
            self.segments.set(value.segment, SegmentState::Values(value.generation));
        }
        runs.splice(at..at + removed.len(), [added]);
        Ok(())
    }

    fn replay_chunks(
        &mut self,
        sequence: LogIndex,
        rows: impl Iterator<Item = (ChunkId, Option<ChunkRecord>)>,
    ) -> Result<(), DecodeError> {
        let table = self.tables.entry(TableId::Chunks).or_default();
        if sequence < table.active.last() {
            return Err(DecodeError::Invalid { what: "sequence of chunk records" });
        }
        self.chunks.advance_sequence(sequence);
        if sequence > table.flushed {
            for (chunk, record) in rows {
                let row = record.map(|record| record.to_bytes());
                table.active.write(sequence, chunk_key(chunk), row);
            }
        }
        Ok(())
    }

    /// All edits have been replayed. `gap` says that some may be missing, because the journal was
    /// damaged: what is on the disk is then found from the headers of segments.
    /// [`Output::Recovered`] follows.
    pub(crate) fn recover_start(&mut self, gap: bool, io: &mut Io<'_>, out: &mut Vec<Output>) {
        let Phase::Replaying(replayed) = std::mem::replace(&mut self.phase, Phase::Syncing) else {
            unreachable!("recovery starts once");
        };
        let lost = replayed.contradictions.first_key_value().map(|(_, error)| error);
        if let Some(error) = lost {
            out.push(Output::Note(format!("edits are missing from the journal: {error}")));
        }
        if (gap || lost.is_some()) && self.layout.count > 0 {
            probe!(EditsMissing);
            let (next, headers) = (SegmentId(0), BTreeMap::new());
            self.phase = Phase::Headers { replayed, next, headers };
            self.recover_next(self.layout.offset(next), SECTOR, io);
        } else {
            self.load_runs(replayed, io, out);
        }
    }

    pub(super) fn recover_next(&mut self, offset: u64, len: u64, io: &mut Io<'_>) {
        let token = io.read(offset, len);
        self.disk.insert(token, DiskPurpose::Recover);
    }

    pub(super) fn recover_read(
        &mut self,
        result: &DiskResult,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        match std::mem::replace(&mut self.phase, Phase::Syncing) {
            Phase::Headers { replayed, next, headers } => {
                self.header_read(replayed, next, headers, result, io, out);
            }
            Phase::Describing(describing) => self.description_read(describing, result, io, out),
            Phase::Loading { replayed, current, rest } => {
                self.loaded(replayed, current, rest, result, io, out);
            }
            Phase::Scanning { mut current, rest } => {
                current.on_read(result);
                self.scan_on(current, rest, io, out);
            }
            Phase::Replaying(_) | Phase::Syncing | Phase::Ready => {
                unreachable!("no read for recovery is in flight")
            }
        }
    }

    pub(super) fn load_runs(
        &mut self,
        mut replayed: Replayed,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        let rest: VecDeque<_> =
            std::mem::take(&mut replayed.runs).into_values().flatten().collect();
        for run in &rest {
            self.holdings.add(run, &mut self.segments);
        }
        self.load_next(replayed, rest, io, out);
    }

    fn load_next(
        &mut self,
        replayed: Replayed,
        mut rest: VecDeque<RunDescriptor>,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        let Some(run) = rest.pop_front() else {
            self.all_loaded(&replayed, io, out);
            return;
        };
        let next_block = run.data_blocks;
        let current = Loading { run, loaded: Loaded::default(), next_block, blocks: 0 };
        self.load_blocks(replayed, current, rest, io);
    }

    fn load_blocks(
        &mut self,
        replayed: Replayed,
        mut current: Loading,
        rest: VecDeque<RunDescriptor>,
        io: &mut Io<'_>,
    ) {
        let Miss { offset, len } = block_span(&current.run, &self.layout, current.next_block);
        let left = current.run.loaded_end() - current.next_block;
        let in_segment = self.layout.blocks_per_segment()
            - u64::from(current.next_block) % self.layout.blocks_per_segment();
        let blocks = u64::from(left).min(in_segment).min((LOAD_BYTES / len).max(1));
        current.blocks = u32::try_from(blocks).expect("at most those left");
        self.recover_next(offset, len * blocks, io);
        self.phase = Phase::Loading { replayed, current, rest };
    }

    fn loaded(
        &mut self,
        replayed: Replayed,
        mut current: Loading,
        rest: VecDeque<RunDescriptor>,
        result: &DiskResult,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        let table = current.run.table;
        let run = match current.take(result, &self.layout) {
            Err(error) => Err(error),
            Ok(()) if current.next_block < current.run.loaded_end() => {
                self.load_blocks(replayed, current, rest, io);
                return;
            }
            Ok(()) => current.loaded.finish(current.run).map_err(|error| error.to_string()),
        };
        let owner = self.tables.entry(table).or_default();
        match run {
            Ok(run) if !owner.broken => owner.runs.insert(0, run),
            Ok(_) => {}
            Err(error) => {
                let first = !std::mem::replace(&mut owner.broken, true);
                owner.runs.clear();
                owner.flushed = LogIndex(0);
                if first && table != TableId::Chunks {
                    let store = self.config.store;
                    let reason = format!("{store}: block index of a run of {table:?}: {error}");
                    out.push(Output::Damaged { table, reason });
                }
            }
        }
        self.load_next(replayed, rest, io, out);
    }

    fn all_loaded(&mut self, replayed: &Replayed, io: &mut Io<'_>, out: &mut Vec<Output>) {
        if self.tables.get(&TableId::Chunks).is_some_and(|table| table.broken) {
            out.push(Output::Note("chunk index damaged; rebuilding it".to_owned()));
            self.drop_table(TableId::Chunks, out);
            self.begin_rebuild();
        } else if replayed.rebuild {
            self.begin_rebuild();
        }
        let flushed = self.tables.get(&TableId::Chunks).map_or(LogIndex(0), |table| table.flushed);
        self.chunks.advance_sequence(flushed);
        let open: VecDeque<_> = self
            .segments
            .chunk_segments()
            .filter(|(_, (_, open))| *open && !planted!(OpenSegmentUnscanned))
            .map(|(segment, (generation, _))| (segment, generation))
            .collect();
        self.scan_next(open, io, out);
    }

    fn scan_next(
        &mut self,
        mut rest: VecDeque<(SegmentId, Generation)>,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        let Some((segment, generation)) = rest.pop_front() else {
            self.phase = Phase::Syncing;
            self.sync(SyncPurpose::Recover, io);
            return;
        };
        let from = self.recorded.get(&segment).copied().unwrap_or(SECTOR);
        let current = SegmentScan::from(self.layout, segment, generation, from);
        self.scan_on(current, rest, io, out);
    }

    fn scan_on(
        &mut self,
        current: SegmentScan,
        rest: VecDeque<(SegmentId, Generation)>,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        if let Some((offset, len)) = current.next_read() {
            self.recover_next(offset, len, io);
            self.phase = Phase::Scanning { current, rest };
            return;
        }
        let ScanResult { segment, generation, found, end, damaged } = current.finish();
        if damaged > 0 {
            let number = segment.0;
            out.push(Output::Note(format!(
                "segment {number}: records that are torn (by a crash) or damaged: {damaged}"
            )));
        }
        let filled =
            self.filled.get(&segment).copied().filter(|filled| *filled <= self.layout.segment);
        let at = end.max(filled.unwrap_or(0));
        if at > end {
            probe!(HeaderLostAtEnd);
        }
        self.chunks.recovered(OpenSegment { segment, generation, at });
        for (chunk, record) in found {
            // A record that the journal has is in the memtable or in a run. What is in a run would
            // have to be read to be known; it is recorded once more, which changes nothing.
            // Another place than the journal's is that of a repaired copy whose record was not journaled
            // any more. The scan has verified it; the one before it was damaged.
            let table = self.tables.entry(TableId::Chunks).or_default();
            let bytes = record.to_bytes();
            let row = table.active.get(&chunk_key(chunk)).and_then(|row| row.value.as_ref());
            if row != Some(&bytes) {
                let sequence = self.chunks.sequence();
                probe!(ChunkFoundUnrecorded);
                table.active.write(sequence, chunk_key(chunk), Some(bytes));
                self.chunks.recovered_record(chunk, record);
            }
        }
        self.scan_next(rest, io, out);
    }

    /// What was found is durable.
    pub(super) fn recovered(&mut self, out: &mut Vec<Output>) {
        self.phase = Phase::Ready;
        self.filled.clear();
        let flushed = self
            .tables
            .iter()
            .filter(|(id, table)| **id != TableId::Chunks && !table.broken)
            .map(|(id, table)| (*id, table.flushed))
            .collect();
        out.push(Output::Recovered { flushed });
    }

    /// Scan all segments with chunks. The index has been reset.
    pub(super) fn begin_rebuild(&mut self) {
        let rest = self
            .segments
            .chunk_segments()
            .filter(|(segment, _)| !self.is_being_freed(*segment))
            .map(|(segment, (generation, _))| (segment, generation))
            .collect();
        let found = VecDeque::new();
        self.rebuilds += 1;
        self.count_again();
        self.chunks.rows_are_lost();
        let serial = self.rebuilds;
        self.index_is_lost = true;
        // What the journal has told recovery of the new index counts.
        let table = self.tables.get(&TableId::Chunks);
        let is_empty = table.is_none_or(|it| it.active.is_empty() && it.frozen.is_none());
        let before = LogIndex(self.chunks.sequence().0.saturating_sub(1));
        let void = if is_empty { before } else { LogIndex(0) };
        self.rebuild = Some(Rebuild { rest, current: None, reading: false, serial, found, void });
    }

    pub(super) fn rebuild_read(&mut self, serial: u64, result: &DiskResult) {
        let Some(rebuild) = self.rebuild.as_mut().filter(|rebuild| rebuild.serial == serial) else {
            return;
        };
        rebuild.reading = false;
        if let Some(scan) = &mut rebuild.current {
            scan.on_read(result);
        }
    }

    /// Go on with a rebuild, if one is under way, as far as the chunk index's memtable takes it.
    pub(super) fn drive_rebuild(&mut self, io: &mut Io<'_>, out: &mut Vec<Output>) {
        let Some(mut rebuild) = self.rebuild.take() else { return };
        while !rebuild.reading {
            // What is found is journaled, too.
            let waits = self.reclaim.waits_for_journal();
            if !waits {
                self.index_found(&mut rebuild);
            }
            if waits || !rebuild.found.is_empty() || self.chunk_index_is_busy() {
                break;
            }
            let Some(scan) = &rebuild.current else {
                let Some((segment, generation)) = rebuild.rest.pop_front() else {
                    if self.config.offline {
                        return;
                    }
                    if self.chunks.has_pending_records() {
                        break;
                    }
                    probe!(IndexRebuilt);
                    let rebuilt = EditPurpose::Rebuilt(rebuild.serial);
                    self.journal(&Edit::ChunkIndexRebuilt, rebuilt, out);
                    return;
                };
                rebuild.current = Some(SegmentScan::new(self.layout, segment, generation));
                continue;
            };
            if let Some((offset, len)) = scan.next_read() {
                let token = io.read(offset, len);
                self.disk.insert(token, DiskPurpose::Rebuild(rebuild.serial));
                rebuild.reading = true;
            } else if let Some(scan) = rebuild.current.take() {
                rebuild.found.extend(scan.finish().found);
            }
        }
        self.rebuild = Some(rebuild);
    }

    /// Chunks that are still being written enter the index by themselves, when they are durable.
    fn index_found(&mut self, rebuild: &mut Rebuild) {
        while !self.chunk_index_is_busy()
            && let Some((chunk, record)) = rebuild.found.pop_front()
        {
            let active = &self.tables.entry(TableId::Chunks).or_default().active;
            let known = active.get(&chunk_key(chunk)).is_some();
            if !known && !self.chunks.writing.contains_key(&chunk) {
                let sequence = self.chunks.sequence();
                let table = self.tables.entry(TableId::Chunks).or_default();
                table.active.write(sequence, chunk_key(chunk), Some(record.to_bytes()));
                if !self.config.offline {
                    self.chunks.recovered_record(chunk, record);
                }
            }
        }
    }
}

impl Loading {
    /// Take the blocks that were read.
    fn take(&mut self, result: &DiskResult, layout: &Layout) -> Result<(), String> {
        let bytes = match result {
            Ok(DiskOutput::Read(bytes)) => bytes,
            Ok(other) => return Err(format!("the disk answered {other:?} to a read")),
            Err(error) => return Err(error.to_string()),
        };
        let len = usize::try_from(layout.tree_block).expect("a block is small");
        if bytes.len() != len * self.blocks as usize {
            return Err(format!("the disk gave {} bytes", bytes.len()));
        }
        for at in (0..bytes.len()).step_by(len) {
            // Keys are kept: they must not hold on to all that was read.
            let block = Bytes::copy_from_slice(&bytes[at..at + len]);
            let taken = self.loaded.take(&block, &self.run, layout, self.next_block);
            taken.map_err(|error| error.to_string())?;
            self.next_block += 1;
        }
        Ok(())
    }
}
