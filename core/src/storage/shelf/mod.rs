//! Everything on the disk but superblock and journal: chunks, and the rows of tables.
//!
//! Promises: a chunk is reported stored only with the proof of a sync that covers it; a flush is
//! there as a whole or not at all; what does not verify is reported and never given out.
//! Leaves to others: keeping edits in a journal, and applying the log again after recovery.
//!
//! # Calling contract
//!
//! 1. [`Shelf::recover_edit`] for each edit of the journal, in order.
//! 2. [`Shelf::recover_start`]; then [`Output::Recovered`] comes, and the caller applies the log from
//!    the `flushed` indexes on. Edits are to be journaled from `recover_start` on.
//! 3. Each completion of the disk goes to [`Shelf::on_disk`], each sync to [`Shelf::on_synced`], until
//!    one says that it was its own.
//! 4. Each [`Output::Journal`] is journaled *in the order given*; when it is durable, the caller says
//!    [`Shelf::edit_durable`]. Edits are never acknowledged out of their journal's order.
//! 5. After [`Output::Fatal`] the store halts.

mod chunks;
mod compact;
mod copy;
mod fetch;
mod flush;
mod found;
mod freeing;
mod holdings;
mod ingest;
mod inspect;
mod reclaim;
mod recover;
#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "numbers in tests are small")]
mod tests;
mod views;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::cluster::Geometry;
use crate::codec::Wire;
use crate::disk::{DiskOutput, DiskResult};
use crate::hash::Checksum;
use crate::ids::{ChunkId, DiskToken, Incarnation, LogIndex, StoreId};
use crate::memory::MemoryAccount;
use crate::message::ChunkError;
use crate::rows::{Miss, RowWrite};

use super::durable::Durable;
use super::io::{Io, SyncTicket};
use super::segment::allocator::{SegmentState, Segments};
use super::segment::chunk_store::ChunkStore;
use super::segment::edit::Edit;
pub(crate) use super::segment::edit::TableId;
use super::segment::layout::{Generation, Layout, SegmentId};
use super::tree::VALUE_BYTES_MAX;
use super::tree::cache::BlockCache;
use super::tree::table::Table;
use super::tree::view::TableView;
use chunks::Job;
pub(crate) use chunks::{Look, Looked};
use compact::Compaction;
pub use compact::{Merged, Written};
pub use copy::{ChunkFault, HeaderFault};
pub(crate) use copy::{CopySpan, digest_of};
use fetch::Fetch;
use flush::Flush;
use holdings::Holdings;
use ingest::Ingest;
pub(crate) use ingest::Ingested;
pub use inspect::{SegmentUse, TableShape};
use reclaim::Reclaim;
#[cfg_attr(not(test), allow(unused_imports, reason = "status will tell it"))]
pub(crate) use reclaim::Reclaimed;
pub(crate) use recover::RecoveredEdit;
use recover::{Phase, Rebuild};
use views::Views;
pub(crate) use views::{ViewError, ViewId, ViewRow};

/// What a shelf needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShelfConfig {
    /// Whose disk.
    pub(crate) store: StoreId,
    /// Which life: raised at each start, so that generations are unique.
    pub(crate) incarnation: Incarnation,
    /// The disk's geometry.
    pub(crate) geometry: Geometry,
    /// Byte offset at which segments begin, a multiple of the sector.
    pub(crate) area: u64,
    /// Bytes at which a memtable is to be frozen.
    pub(crate) memtable_bytes: u64,
    /// Bytes of blocks in memory, but for pins.
    pub(crate) block_cache_bytes: u64,
    /// Chunk bytes in hand, written or read.
    pub(crate) chunk_bytes_max: u64,
    /// Tombstones of so many entries are kept for replicas that lag.
    pub(crate) tombstone_lag: u64,
    /// Only to be looked at: nothing is begun by itself, but that a lost chunk index is found again in
    /// memory.
    pub(crate) offline: bool,
}

/// What the caller has to know or do.
#[derive(Debug)]
pub(crate) enum Output {
    /// The area is readable; apply the log from these indexes on. A table that is not named starts
    /// at 0. Damaged tables are reported before by [`Output::Damaged`].
    Recovered {
        /// The last entry of each table that is in runs.
        flushed: BTreeMap<TableId, LogIndex>,
    },
    /// Put this edit into the journal, behind all earlier ones.
    Journal {
        /// For [`Shelf::edit_durable`].
        id: u64,
        /// The edit.
        edit: Bytes,
        /// It has chunk records of this batch, and is needed until [`Shelf::flushed`] says that the
        /// chunk index has them in runs.
        chunks: Option<LogIndex>,
    },
    /// What a read missed is in memory: ask again, and then [`Shelf::release`] it, once for each call
    /// of [`Shelf::fetch`].
    Fetched(Miss),
    /// Entries up to `through` are on the disk as rows.
    #[cfg_attr(not(test), allow(dead_code, reason = "the log is truncated by what `flushed` says"))]
    Flushed {
        /// Of which table.
        table: TableId,
        /// The last of them.
        through: LogIndex,
    },
    /// All runs of the snapshot that is being taken are durable: it can be installed.
    Staged {
        /// Of which table.
        table: TableId,
    },
    /// The snapshot that was being taken cannot be, and is given up.
    IngestFailed {
        /// Of which table.
        table: TableId,
        /// Why.
        reason: String,
    },
    /// The table is the snapshot now.
    Installed {
        /// Which.
        table: TableId,
    },
    /// What came of a chunk write.
    ChunkStored {
        /// Which.
        op: u64,
        /// The proof, or why not.
        result: Result<Durable, ChunkError>,
    },
    /// A chunk is freed.
    ChunkFreed {
        /// Which call.
        op: u64,
        /// Durable, or why not yet.
        result: Result<(), ChunkError>,
    },
    /// What came of a chunk read.
    ChunkRead {
        /// Which.
        op: u64,
        /// The bytes of the blocks, which verify, and their checksums as they were sent; or why not.
        result: Result<(Bytes, Vec<Checksum>), ChunkError>,
    },
    /// What came of a look at a chunk.
    ChunkLooked {
        /// Which.
        op: u64,
        /// What was found.
        result: Result<Looked, ChunkError>,
    },
    /// Rows of a range cannot be read; the fetches that needed them get no [`Output::Fetched`]. The
    /// caller calls [`Shelf::reset_table`] and applies the log again.
    Damaged {
        /// Whose rows.
        table: TableId,
        /// Where and what, for the operator.
        reason: String,
    },
    /// A line for the log.
    Note(String),
    /// The store has to halt; the text says why and what to do.
    Fatal(String),
}

/// What a disk effect is for.
#[derive(Debug)]
enum DiskPurpose {
    ChunkWrite(ChunkId),
    ChunkRead(chunks::Reading),
    Fetch(Miss),
    Flush,
    OpenHeader(Opening),
    MoveScan,
    Wipe(SegmentId),
    Trim(SegmentId),
    MergeRead(compact::MergeRead),
    MergeWrite,
    Recover,
    Rebuild(u64),
}

/// What a sync is for.
#[derive(Debug)]
enum SyncPurpose {
    Chunk(ChunkId),
    /// A chunk that was there already: op, and bytes in hand.
    Present(u64, u64),
    /// A chunk that was read and verified: op.
    Proven(u64),
    Flush,
    Merge,
    Open(Opening),
    Wiped(SegmentId),
    Recover,
}

/// A segment on its way to take chunks.
#[derive(Clone, Copy, Debug)]
struct Opening {
    segment: SegmentId,
    generation: Generation,
    /// Chunks that are moved, and no others.
    for_moves: bool,
}

/// What follows when an edit is durable.
#[derive(Debug)]
enum EditPurpose {
    Opened(Opening),
    Sealed(SegmentId),
    Recorded(SegmentId, u64),
    Freed(SegmentId),
    Run(Generation),
    /// A merge gave this run.
    Merged(Generation),
    /// These segments are to be wiped and are then free.
    Reset(Vec<SegmentId>),
    Chunks,
    /// The snapshot that is being taken.
    Installed,
    /// The chunk index, by the rebuild of this number, is complete.
    Rebuilt(u64),
    Nothing,
}

/// Bytes of rows that one log entry may write: a batch of commands, and what rows cost besides.
const ENTRY_ROWS_BYTES: u64 = 2 << 20;

/// Free segments below which a disk takes no more of something. The merges that free segments need some
/// first, so that more is kept back from data than flushes alone need.
#[derive(Clone, Copy, Debug)]
struct Reserve {
    /// Chunks, and commands that bring data.
    data: usize,
    /// Deletes: their rows must be written out too.
    deletes: usize,
}

impl Reserve {
    /// `flush`: segments that one flush takes at most; `count`: segments of the disk.
    fn new(flush: usize, count: usize) -> Self {
        // Two flushes, of a range and of the chunk index, and as much again. A small disk has to do
        // with less, but for one flush.
        let deletes = (2 * flush).min(count / 4).max(flush);
        let data = (4 * flush).min(count / 3).max(deletes + 1);
        Self { data, deletes }
    }
}

/// Segments and tables of one disk.
#[derive(Debug)]
pub(crate) struct Shelf {
    config: ShelfConfig,
    layout: Layout,
    segments: Segments,
    /// Free segments that data leaves to deletes, and all clients to housekeeping.
    reserve: Reserve,
    tables: BTreeMap<TableId, Table>,
    /// What is seen of a table that was never written to.
    empty: Table,
    holdings: Holdings,
    cache: BlockCache,
    fetches: BTreeMap<Miss, Fetch>,
    flush: Option<Flush>,
    ingest: Option<Ingest>,
    compaction: Compaction,
    views: Views,
    chunks: ChunkStore,
    reclaim: Reclaim,
    /// Up to where open segments have all their chunks in the journal, as the journal itself says, if
    /// somebody had to know.
    recorded: BTreeMap<SegmentId, u64>,
    /// Up to where open segments are filled, as far as recovery has it from the journal: a scan does not find a
    /// record whose header is lost.
    filled: BTreeMap<SegmentId, u64>,
    /// Chunk writes that wait for an open segment.
    room: VecDeque<Job>,
    phase: Phase,
    rebuild: Option<Rebuild>,
    /// How many have been begun.
    rebuilds: u64,
    /// The journal does not say that the last of them is complete.
    index_is_lost: bool,
    disk: BTreeMap<DiskToken, DiskPurpose>,
    syncs: BTreeMap<SyncTicket, SyncPurpose>,
    edits: BTreeMap<u64, EditPurpose>,
    next_edit: u64,
    dead: bool,
    /// Bytes of keys and values that were applied, of ranges; of chunks; and of runs written out.
    rows_bytes: u64,
    chunks_bytes: u64,
    flushed_bytes: u64,
}

impl Shelf {
    /// A shelf that has read nothing.
    pub(crate) fn new(config: ShelfConfig) -> Self {
        let layout = Layout::new(config.store, &config.geometry, config.area);
        let segments = Segments::new(layout.count, config.incarnation);
        let flush = super::tree::run_builder::segments_needed(&layout, config.memtable_bytes);
        let reserve = Reserve::new(flush, layout.count as usize);
        Self {
            config,
            layout,
            segments,
            reserve,
            tables: BTreeMap::from([(TableId::Chunks, Table::default())]),
            empty: Table::default(),
            holdings: Holdings::default(),
            cache: BlockCache::new(config.block_cache_bytes),
            fetches: BTreeMap::new(),
            flush: None,
            ingest: None,
            compaction: Compaction::default(),
            views: Views::default(),
            chunks: ChunkStore::default(),
            reclaim: Reclaim::new(&layout),
            recorded: BTreeMap::new(),
            filled: BTreeMap::new(),
            room: VecDeque::new(),
            phase: Phase::default(),
            rebuild: None,
            rebuilds: 0,
            index_is_lost: false,
            disk: BTreeMap::new(),
            syncs: BTreeMap::new(),
            edits: BTreeMap::new(),
            next_edit: 0,
            dead: false,
            rows_bytes: 0,
            chunks_bytes: 0,
            flushed_bytes: 0,
        }
    }

    /// Apply the writes of the entry at `index`, which is behind all that is frozen or flushed.
    ///
    /// # Panics
    /// If it is not, or if a key or value is over its limit.
    pub(crate) fn write_rows(&mut self, table: TableId, index: LogIndex, rows: &[RowWrite]) {
        assert!(table != TableId::Chunks, "the shelf itself writes the chunk index");
        let bytes = |row: &RowWrite| row.key.len() + row.value.as_ref().map_or(0, Bytes::len);
        self.rows_bytes += rows.iter().map(bytes).sum::<usize>() as u64;
        self.tables.entry(table).or_default().write(index, rows);
    }

    /// The rows of a table, as they are now.
    pub(crate) fn rows(&self, table: TableId) -> TableView<'_> {
        let table = self.tables.get(&table).unwrap_or(&self.empty);
        TableView::new(table, &self.cache, &self.layout)
    }

    /// A reader that had fetched a span does not need it any more.
    pub(crate) fn release(&mut self, miss: Miss) {
        self.cache.release(miss);
    }

    /// Drop all rows of a range, so that the caller can apply the log again from its start. Rows may
    /// be written at once.
    ///
    /// # Panics
    /// If it is the chunk index, which the shelf itself rebuilds.
    pub(crate) fn reset_table(&mut self, table: TableId, out: &mut Vec<Output>) {
        assert!(table != TableId::Chunks, "the shelf itself rebuilds the chunk index");
        self.drop_table(table, out);
    }

    fn drop_table(&mut self, table: TableId, out: &mut Vec<Output>) {
        let mut segments = self.drop_runs(table);
        segments.extend(self.abandon_flush(table));
        segments.extend(self.abandon_merge(table));
        self.tables.insert(table, Table::default());
        self.journal(&Edit::TableReset { table }, EditPurpose::Reset(segments), out);
    }

    /// Forget a table's runs. The segments given back are reserved; they are to be wiped once an edit
    /// that says so is durable.
    fn drop_runs(&mut self, table: TableId) -> Vec<SegmentId> {
        let segments = self.holdings.remove_table(table);
        for segment in &segments {
            self.forget_segment(*segment);
        }
        if let Some(table) = self.tables.get_mut(&table) {
            table.runs.clear();
        }
        self.views.table_replaced(table);
        self.compaction.runs_changed();
        segments
    }

    /// Nothing that was read of a segment counts any more; it is reserved until it is wiped.
    fn forget_segment(&mut self, segment: SegmentId) {
        let start = self.layout.offset(segment);
        if !planted!(StaleBlockCache) {
            self.cache.remove_span(start, start + self.layout.segment);
        }
        self.segments.set(segment, SegmentState::Reserved);
        let from = Miss { offset: start, len: 0 };
        let to = Miss { offset: start + self.layout.segment, len: 0 };
        for (_, fetch) in self.fetches.range_mut(from..to) {
            fetch.stale = true;
        }
    }

    /// The journal has an edit durably.
    pub(crate) fn edit_durable(&mut self, id: u64, io: &mut Io<'_>, out: &mut Vec<Output>) {
        match self.edits.remove(&id) {
            None | Some(EditPurpose::Nothing) => {}
            Some(EditPurpose::Opened(Opening { segment, generation, for_moves })) => {
                self.segments.set(segment, SegmentState::Chunks { generation, open: true });
                self.chunks.opened(segment, generation, for_moves);
            }
            Some(EditPurpose::Sealed(segment)) => self.seal(segment),
            Some(EditPurpose::Recorded(segment, through)) => {
                self.recorded.insert(segment, through);
            }
            Some(EditPurpose::Freed(segment)) => self.segment_freed(segment, io),
            Some(EditPurpose::Run(run)) => self.flush_journaled(run, out),
            Some(EditPurpose::Merged(run)) => self.merge_journaled(run, io),
            Some(EditPurpose::Reset(segments)) => {
                for segment in segments {
                    self.wipe(segment, io);
                }
            }
            Some(EditPurpose::Chunks) => {
                let freed = self.chunks.edit_durable().into_iter();
                out.extend(freed.map(|op| Output::ChunkFreed { op, result: Ok(()) }));
            }
            Some(EditPurpose::Installed) => self.installed(io, out),
            Some(EditPurpose::Rebuilt(serial)) => self.index_is_lost &= serial != self.rebuilds,
        }
        self.drive(io, out);
    }

    /// A disk effect finished. `false` if it is not one of the shelf's.
    pub(crate) fn on_disk(
        &mut self,
        token: DiskToken,
        result: &DiskResult,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(purpose) = self.disk.remove(&token) else { return false };
        if self.dead {
            return true;
        }
        match purpose {
            DiskPurpose::ChunkWrite(chunk) => {
                if !self.written(result, "a chunk", out) {
                } else if planted!(ChunkAckedUnsynced) {
                    self.chunk_is_durable(chunk, Durable::by_completed_sync(), out);
                } else {
                    self.sync(SyncPurpose::Chunk(chunk), io);
                }
            }
            DiskPurpose::ChunkRead(reading) => self.chunk_was_read(reading, result, io, out),
            DiskPurpose::Fetch(miss) => self.fetched(miss, result, io, out),
            DiskPurpose::Flush => {
                if self.written(result, "rows", out) {
                    self.flush_written(io);
                }
            }
            DiskPurpose::OpenHeader(opening) => {
                if self.written(result, "the header of a segment", out) {
                    self.sync(SyncPurpose::Open(opening), io);
                }
            }
            DiskPurpose::MoveScan => self.reclaim.was_read(result),
            DiskPurpose::Wipe(segment) => {
                if self.written(result, "the header of a free segment", out) {
                    self.sync(SyncPurpose::Wiped(segment), io);
                }
            }
            DiskPurpose::Trim(segment) => {
                if self.written(result, "zeros", out) {
                    self.segments.set(segment, SegmentState::Free);
                }
            }
            DiskPurpose::MergeRead(read) => self.merge_was_read(read, result, out),
            DiskPurpose::MergeWrite => {
                if self.written(result, "merged rows", out) {
                    self.merge_was_written();
                }
            }
            DiskPurpose::Recover => self.recover_read(result, io, out),
            DiskPurpose::Rebuild(serial) => self.rebuild_read(serial, result),
        }
        self.drive(io, out);
        true
    }

    /// A sync is complete. `false` if the ticket is not one of the shelf's.
    pub(crate) fn on_synced(
        &mut self,
        ticket: SyncTicket,
        durable: Durable,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(purpose) = self.syncs.remove(&ticket) else { return false };
        if self.dead {
            return true;
        }
        match purpose {
            SyncPurpose::Chunk(chunk) => self.chunk_is_durable(chunk, durable, out),
            SyncPurpose::Present(op, bytes) => self.answer_write(op, bytes, Ok(durable), out),
            SyncPurpose::Proven(op) => {
                out.push(Output::ChunkLooked { op, result: Ok(Looked::Proven(durable)) });
            }
            SyncPurpose::Flush => self.flush_synced(io, out),
            SyncPurpose::Merge => self.merge_synced(io),
            SyncPurpose::Open(opening) => {
                let Opening { segment, generation, .. } = opening;
                let edit = Edit::SegmentOpened { segment, generation };
                self.journal(&edit, EditPurpose::Opened(opening), out);
            }
            SyncPurpose::Wiped(segment) => self.trim(segment, io),
            SyncPurpose::Recover => self.recovered(out),
        }
        self.drive(io, out);
        true
    }

    /// What was written since the start, of what it has to count: all but the journal.
    pub(crate) fn bytes_written(&self) -> Written {
        Written {
            rows: self.rows_bytes,
            chunks: self.chunks_bytes,
            flushes: self.flushed_bytes,
            merges: self.compaction.done.bytes,
            moves: self.reclaim.done.bytes,
            others: 0,
        }
    }

    /// Segments that hold nothing.
    pub(crate) fn free_segments(&self) -> usize {
        self.segments.free()
    }

    /// What is held in memory.
    pub(crate) fn memory(&self, account: &mut MemoryAccount) {
        let ShelfConfig { memtable_bytes, chunk_bytes_max, .. } = self.config;
        let memtables: u64 = self.tables.values().map(Table::memtable_bytes).sum();
        let indexes: u64 = self.tables.values().map(Table::index_bytes).sum();
        let (staging, staged) = self.ingest.as_ref().map_or((0, 0), Ingest::memory_bytes);
        let (merge, merged) = self.compaction.memory_bytes();
        let indexes = indexes + staged + merged + self.views.memory_bytes();
        // One that is full and one that is written out. The last entry applied may go beyond.
        let most = 2 * self.tables.len() as u64 * (memtable_bytes + ENTRY_ROWS_BYTES);
        account.add("memtables", memtables, most);
        account.add("block indexes", indexes, None);
        account.add("block cache", self.cache.bytes(), self.cache.bytes_bound());
        account.add("state being taken", staging, memtable_bytes + VALUE_BYTES_MAX as u64);
        account.add("merge", merge, compact::buffers_max(&self.layout));
        account.add("chunks being moved", self.reclaim.memory_bytes(), reclaim::SCAN_BYTES_MAX);
        account.add("chunks in hand", self.chunks.bytes_in_hand, chunk_bytes_max);
    }

    /// One line for operators and traces.
    pub(crate) fn status(&self) -> String {
        let runs: usize = self.tables.values().map(|table| table.runs.len()).sum();
        format!(
            "segments free={} of {} runs={runs} merges={} cache={} chunk bytes in hand={}{}{}{}",
            self.free_segments(),
            self.layout.count,
            self.compaction.done.merges,
            self.cache.bytes(),
            self.chunks.bytes_in_hand,
            if self.flush.is_some() { " flushing" } else { "" },
            if self.compaction.is_merging() { " merging" } else { "" },
            if self.rebuild.is_some() { " rebuilding the chunk index" } else { "" },
        )
    }

    /// Check invariants.
    ///
    /// # Panics
    /// If one does not hold: a bug in Trine.
    pub(crate) fn check(&self) {
        self.segments.check();
        self.cache.check();
        self.check_merge();
        assert!(self.chunks.bytes_in_hand <= self.config.chunk_bytes_max);
        self.holdings.check(&self.segments);
    }

    /// After each event: what waits and can go on.
    fn drive(&mut self, io: &mut Io<'_>, out: &mut Vec<Output>) {
        if self.dead || !matches!(self.phase, Phase::Ready) {
            return;
        }
        if self.config.offline {
            return self.drive_rebuild(io, out);
        }
        if planted!(RunEditBeforeSync) {
            self.hurry_flush(io, out);
        }
        self.open_ahead(io);
        self.place_waiting(io, out);
        for edit in self.chunks.edits_due() {
            let purpose = match &edit {
                Edit::SegmentSealed { segment } => EditPurpose::Sealed(*segment),
                _ => EditPurpose::Chunks,
            };
            self.journal(&edit, purpose, out);
        }
        self.freeze_chunk_index(io);
        self.drive_rebuild(io, out);
        self.drive_ingest(io, out);
        self.free_retired(io);
        self.drive_merge(io, out);
        self.drive_reclaim(io, out);
    }

    fn journal(&mut self, edit: &Edit, purpose: EditPurpose, out: &mut Vec<Output>) {
        self.next_edit += 1;
        self.edits.insert(self.next_edit, purpose);
        let chunks = match edit {
            Edit::ChunksAdded { sequence, .. } | Edit::ChunksFreed { sequence, .. } => {
                Some(*sequence)
            }
            _ => None,
        };
        out.push(Output::Journal { id: self.next_edit, edit: edit.to_bytes(), chunks });
    }

    /// Edits that say all that the edits so far have said, but for chunk records that are in no run
    /// yet. To be asked while each edit that was journaled is acknowledged, and journaled as a whole or
    /// not at all.
    /// `all`: whether all edits that were given out are journaled before these.
    pub(crate) fn checkpoint_edits(&self, all: bool) -> Vec<Bytes> {
        let chunk_segments: Vec<_> = self.segments.chunk_segments().collect();
        let open =
            chunk_segments.iter().filter(|(_, (_, open))| *open).map(|(segment, _)| *segment);
        let recorded: BTreeMap<SegmentId, u64> = open
            .filter_map(|segment| {
                let now = self.chunks.recorded(segment).filter(|_| all);
                Some((segment, now.or_else(|| self.recorded.get(&segment).copied())?))
            })
            .collect();
        let state = Edit::Checkpoint { chunk_segments, rebuild: self.index_is_lost };
        let runs = self.tables.values().flat_map(|table| table.runs.iter().rev());
        let runs = runs.map(|run| Edit::RunAdded(run.descriptor.clone()));
        let recorded = recorded.into_iter();
        let recorded =
            recorded.map(|(segment, through)| Edit::SegmentRecorded { segment, through });
        core::iter::once(state).chain(recorded).chain(runs).map(|edit| edit.to_bytes()).collect()
    }

    fn sync(&mut self, purpose: SyncPurpose, io: &mut Io<'_>) {
        let ticket = io.sync();
        self.syncs.insert(ticket, purpose);
    }

    /// Whether a write succeeded; a failed one ends the store.
    fn written(&mut self, result: &DiskResult, what: &str, out: &mut Vec<Output>) -> bool {
        let why = match result {
            Ok(DiskOutput::Written | DiskOutput::Trimmed) => return true,
            Ok(other) => format!("the disk answered {other:?} to a write"),
            Err(error) => error.to_string(),
        };
        self.dead = true;
        out.push(Output::Fatal(format!(
            "{} could not write {what}: {why}; check the disk (space, health) and start the store \
             again",
            self.config.store
        )));
        false
    }

    /// Zero the header of a segment that is given up, so that it never vouches for old contents.
    fn wipe(&mut self, segment: SegmentId, io: &mut Io<'_>) {
        const ZEROS: &[u8] = &[0; 4096];
        let token = io.write(self.layout.offset(segment), vec![Bytes::from_static(ZEROS)]);
        self.disk.insert(token, DiskPurpose::Wipe(segment));
    }

    /// Give the space of a wiped segment back to the file system.
    fn trim(&mut self, segment: SegmentId, io: &mut Io<'_>) {
        let token = io.trim(self.layout.offset(segment), self.layout.segment);
        self.disk.insert(token, DiskPurpose::Trim(segment));
    }
}
