//! A disk in memory, a journal in memory, and a shelf between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::cluster::Geometry;
use crate::codec::Wire;
use crate::disk::{DiskError, DiskOp, DiskOutput, SECTOR};
use crate::effects::{Effect, Effects};
use crate::hash::Checksum;
use crate::ids::{
    BlobId, BlobSequence, BucketId, CallId, ChunkId, DiskToken, Incarnation, LogIndex, MapEpoch,
    RangeId, SessionId, StoreId, TenantId,
};
use crate::message::{ChunkError, ChunkRead, ChunkWrite};
use crate::object::{ObjectKey, Target};
use crate::rng::Rng;
use crate::rows::{Miss, Row, Rows};
use crate::storage::io::{DiskQueue, Io};
use crate::storage::segment::edit::Edit;

use super::super::{Look, Looked, Output, Shelf, ShelfConfig, TableId};

pub(super) const RANGE: TableId = TableId::Range(RangeId(1));

pub(super) const GEOMETRY: Geometry = Geometry {
    capacity: 24 << 20,
    journal: 0,
    journal_piece: 0,
    segment: 128 << 10,
    tree_block: 4096,
};

/// What survives a crash: the disk's sectors and the durable edits.
#[derive(Clone, Default)]
pub(super) struct Image {
    pub(super) sectors: BTreeMap<u64, Bytes>,
    pub(super) journal: Vec<Bytes>,
    pub(super) bad: BTreeSet<u64>,
    pub(super) lives: u64,
    /// How long tombstones are kept; `None`: for ever.
    pub(super) lag: Option<u64>,
}

impl Image {
    fn read(&self, offset: u64, len: u64) -> Result<Bytes, DiskError> {
        let mut out = Vec::new();
        for at in (offset..offset + len).step_by(SECTOR as usize) {
            if self.bad.contains(&at) {
                return Err(DiskError::Io("medium error".into()));
            }
            match self.sectors.get(&at) {
                Some(sector) => out.extend_from_slice(sector),
                None => out.resize(out.len() + SECTOR as usize, 0),
            }
        }
        Ok(out.into())
    }

    fn write(&mut self, offset: u64, bytes: &Bytes) {
        for (at, sector) in (offset..).step_by(SECTOR as usize).zip(bytes.chunks(SECTOR as usize)) {
            self.sectors.insert(at, Bytes::copy_from_slice(sector));
        }
    }

    pub(super) fn flip(&mut self, at: u64) {
        let sector = at / SECTOR * SECTOR;
        let mut bytes = self.read(sector, SECTOR).unwrap().to_vec();
        bytes[(at - sector) as usize] ^= 0x40;
        self.sectors.insert(sector, bytes.into());
    }
}

pub(super) struct Rig {
    pub(super) shelf: Shelf,
    queue: DiskQueue,
    fx: Effects,
    out: Vec<Output>,
    durable: Image,
    /// What reads see: durable and completed writes.
    seen: Image,
    /// Completed since the last sync was issued, and before: not durable yet.
    completed: Vec<(u64, Bytes)>,
    /// How many of `completed` the sync in flight covers.
    covered: usize,
    pub(super) ops: Vec<(DiskToken, DiskOp)>,
    pub(super) edits: VecDeque<(u64, Bytes)>,
    rng: Rng,
    pub(super) stored: BTreeMap<u64, Result<(), ChunkError>>,
    /// Chunk writes that a test has begun in this life.
    pub(super) asked: BTreeSet<u64>,
    pub(super) reads: BTreeMap<u64, Result<(Bytes, Vec<Checksum>), ChunkError>>,
    pub(super) looked: BTreeMap<u64, Result<Looked, ChunkError>>,
    pub(super) freed: BTreeMap<u64, Result<(), ChunkError>>,
    pub(super) fetched: Vec<Miss>,
    pub(super) damaged: Vec<(TableId, String)>,
    pub(super) notes: Vec<String>,
    pub(super) fatal: Option<String>,
    pub(super) flushed: BTreeMap<TableId, LogIndex>,
    pub(super) ready: bool,
    /// Whether checkpoints are made now and then.
    pub(super) checkpoints: bool,
    pub(super) completions: u64,
    pub(super) staged: u32,
    pub(super) installed: u32,
}

impl Rig {
    /// Recover from an image, up to `Recovered`.
    pub(super) fn start(image: Image, seed: u64, gap: bool) -> Self {
        let mut rig = Self::open(image, seed, gap);
        while !rig.ready {
            assert!(rig.step(), "recovery goes on");
        }
        rig
    }

    pub(super) fn open(mut image: Image, seed: u64, gap: bool) -> Self {
        image.lives += 1;
        let config = ShelfConfig {
            store: StoreId(7),
            incarnation: Incarnation(image.lives),
            geometry: GEOMETRY,
            area: 64 << 10,
            memtable_bytes: 16 << 10,
            block_cache_bytes: 64 << 10,
            chunk_bytes_max: 256 << 10,
            tombstone_lag: image.lag.unwrap_or(u64::MAX),
            offline: false,
        };
        let mut shelf = Shelf::new(config);
        for edit in &image.journal {
            shelf.recover_edit(edit).unwrap();
        }
        let mut rig = Self {
            shelf,
            queue: DiskQueue::default(),
            fx: Effects::new(),
            out: Vec::new(),
            seen: image.clone(),
            durable: image,
            completed: Vec::new(),
            covered: 0,
            ops: Vec::new(),
            edits: VecDeque::new(),
            rng: Rng::new(seed),
            stored: BTreeMap::new(),
            asked: BTreeSet::new(),
            reads: BTreeMap::new(),
            looked: BTreeMap::new(),
            freed: BTreeMap::new(),
            fetched: Vec::new(),
            damaged: Vec::new(),
            notes: Vec::new(),
            fatal: None,
            flushed: BTreeMap::new(),
            ready: false,
            checkpoints: true,
            completions: 0,
            staged: 0,
            installed: 0,
        };
        rig.with(|shelf, io, out| shelf.recover_start(gap, io, out));
        rig
    }

    pub(super) fn with<T>(
        &mut self,
        call: impl FnOnce(&mut Shelf, &mut Io<'_>, &mut Vec<Output>) -> T,
    ) -> T {
        let mut io = Io { queue: &mut self.queue, fx: &mut self.fx };
        let result = call(&mut self.shelf, &mut io, &mut self.out);
        self.drain();
        result
    }

    fn drain(&mut self) {
        for effect in self.fx.drain() {
            let Effect::Disk { token, op } = effect else { panic!("only disk effects") };
            if op == DiskOp::Sync {
                self.covered = self.completed.len();
            }
            self.ops.push((token, op));
        }
        for output in std::mem::take(&mut self.out) {
            match output {
                Output::Recovered { flushed } => {
                    self.ready = true;
                    self.flushed = flushed;
                }
                Output::Staged { .. } => self.staged += 1,
                Output::IngestFailed { reason, .. } => self.notes.push(reason),
                Output::Installed { .. } => self.installed += 1,
                Output::Journal { id, edit, .. } => self.edits.push_back((id, edit)),
                Output::Fetched(miss) => self.fetched.push(miss),
                Output::Flushed { table, through } => {
                    self.flushed.insert(table, through);
                }
                Output::ChunkStored { op, result } => {
                    assert!(self.stored.insert(op, result.map(|_| ())).is_none(), "one answer");
                }
                Output::ChunkRead { op, result } => {
                    assert!(self.reads.insert(op, result).is_none(), "one answer");
                }
                Output::ChunkFreed { op, result } => {
                    assert!(self.freed.insert(op, result).is_none(), "one answer");
                }
                Output::ChunkLooked { op, result } => {
                    assert!(self.looked.insert(op, result).is_none(), "one answer");
                }
                Output::Damaged { table, reason } => self.damaged.push((table, reason)),
                Output::Note(text) => self.notes.push(text),
                Output::Fatal(text) => self.fatal = Some(text),
            }
        }
        self.shelf.check();
        let mut memory = crate::memory::MemoryAccount::default();
        self.shelf.memory(&mut memory);
        assert_eq!(memory.over(), None, "memory is bounded");
        assert!(memory.total() < 12 << 20, "memory is bounded: {}", self.shelf.status());
    }

    /// Finish one thing, chosen at random. `false` if nothing is in flight.
    pub(super) fn step(&mut self) -> bool {
        let choices = self.ops.len() as u64 + u64::from(!self.edits.is_empty());
        if choices == 0 {
            return false;
        }
        self.completions += 1;
        let choice = self.rng.below(choices) as usize;
        if choice == self.ops.len() {
            let (id, edit) = self.edits.pop_front().unwrap();
            self.durable.journal.push(edit);
            self.with(|shelf, io, out| shelf.edit_durable(id, io, out));
            if self.ready && self.checkpoints && self.rng.chance(1, 12) {
                self.checkpoint();
            }
        } else {
            let (token, op) = self.ops.swap_remove(choice);
            self.complete(token, op);
        }
        true
    }

    /// Put a checkpoint behind what the journal has, and give up what is not needed then.
    pub(super) fn checkpoint(&mut self) {
        let settled = self.shelf.chunks_settled();
        let needed = |edit: &Bytes| {
            matches!(Edit::from_bytes(edit),
                Ok(Edit::ChunksAdded { sequence, .. } | Edit::ChunksFreed { sequence, .. })
                    if sequence > settled)
        };
        let journal = &mut self.durable.journal;
        let from = journal.iter().position(needed).unwrap_or(journal.len());
        journal.drain(..from);
        journal.extend(self.shelf.checkpoint_edits(self.edits.is_empty()));
    }

    fn complete(&mut self, token: DiskToken, op: DiskOp) {
        let result = match op {
            DiskOp::Read { offset, len } => self.seen.read(offset, len).map(DiskOutput::Read),
            DiskOp::Write { offset, parts } => {
                let bytes: Bytes = parts.concat().into();
                self.seen.write(offset, &bytes);
                self.completed.push((offset, bytes));
                Ok(DiskOutput::Written)
            }
            DiskOp::Sync => {
                for (offset, bytes) in self.completed.drain(..self.covered) {
                    self.durable.write(offset, &bytes);
                }
                self.covered = 0;
                let (tickets, durable) = self.queue.synced(token, &mut self.fx).unwrap();
                for ticket in tickets {
                    assert!(self.with(|shelf, io, out| shelf.on_synced(ticket, durable, io, out)));
                }
                self.drain();
                return;
            }
            DiskOp::Trim { offset, len } => {
                let zeros: Bytes = vec![0; len as usize].into();
                self.seen.write(offset, &zeros);
                self.completed.push((offset, zeros));
                Ok(DiskOutput::Trimmed)
            }
        };
        assert!(self.with(|shelf, io, out| shelf.on_disk(token, &result, io, out)));
    }

    /// From now on a sector cannot be read.
    pub(super) fn spoil(&mut self, at: u64) {
        self.seen.bad.insert(at);
    }

    pub(super) fn settle(&mut self) {
        while self.step() {}
    }

    /// What is on the disk after a power cut: of writes that no sync covers, any sectors.
    pub(super) fn crash(mut self) -> Image {
        let mut lost = self.completed.clone();
        for (_, op) in &self.ops {
            if let DiskOp::Write { offset, parts } = op {
                lost.push((*offset, parts.concat().into()));
            }
        }
        for (offset, bytes) in lost {
            let sectors = (offset..).step_by(SECTOR as usize).zip(bytes.chunks(SECTOR as usize));
            for (at, sector) in sectors {
                if self.rng.chance(1, 2) {
                    self.durable.sectors.insert(at, Bytes::copy_from_slice(sector));
                }
            }
        }
        // Edits are durable in order; some of those on their way may have made it.
        let survivors = self.rng.below(self.edits.len() as u64 + 1) as usize;
        let survivors: Vec<_> = self.edits.drain(..survivors).map(|(_, edit)| edit).collect();
        self.durable.journal.extend(survivors);
        self.durable
    }

    /// Read with fetches, as a reader does it; `None` if the rows are damaged.
    pub(super) fn read(
        &mut self,
        table: TableId,
        mut read: impl FnMut(&dyn Rows) -> Result<Option<Row>, Miss>,
    ) -> Option<Option<Row>> {
        let mut pins = Vec::new();
        loop {
            match read(&self.shelf.rows(table)) {
                Ok(row) => {
                    for miss in pins {
                        self.shelf.release(miss);
                    }
                    return Some(row);
                }
                Err(miss) => {
                    self.fetched.clear();
                    let damaged = self.damaged.len();
                    self.with(|shelf, io, out| shelf.fetch(miss, false, io, out));
                    while !self.fetched.contains(&miss) {
                        if self.damaged.len() > damaged {
                            return None;
                        }
                        assert!(self.step(), "the fetch ends");
                    }
                    pins.push(miss);
                }
            }
        }
    }

    pub(super) fn write_chunk(&mut self, op: u64, write: &ChunkWrite) {
        self.with(|shelf, io, out| shelf.write_chunk(op, write, false, io, out));
    }

    pub(super) fn replace_chunk(&mut self, op: u64, write: &ChunkWrite) {
        self.with(|shelf, io, out| shelf.write_chunk(op, write, true, io, out));
    }

    pub(super) fn free_chunk(&mut self, op: u64, chunk: ChunkId) {
        self.with(|shelf, io, out| shelf.free_chunk(op, chunk, io, out));
    }

    /// Until nothing is in flight, and nothing is left to give back.
    pub(super) fn settle_reclaim(&mut self) {
        loop {
            self.settle();
            let before = self.completions;
            self.with(|shelf, io, out| shelf.housekeep(io, out));
            self.settle();
            if self.completions == before && self.shelf.reclaim_is_idle() {
                return;
            }
        }
    }

    /// Look at a chunk and wait for the answer.
    pub(super) fn look(
        &mut self,
        op: u64,
        chunk: ChunkId,
        how: Look,
    ) -> Result<Looked, ChunkError> {
        self.with(|shelf, io, out| shelf.look_at_chunk(op, chunk, how, io, out));
        while !self.looked.contains_key(&op) {
            assert!(self.step(), "the look ends");
        }
        self.looked.remove(&op).unwrap()
    }

    /// Read all blocks and wait for the answer.
    pub(super) fn read_chunk(&mut self, op: u64, write: &ChunkWrite) -> Result<Bytes, ChunkError> {
        let blocks = write.checksums.len() as u32;
        let read = ChunkRead {
            call: CallId(0),
            session: SessionId(1),
            chunk: write.chunk,
            first_block: 0,
            blocks,
        };
        self.with(|shelf, io, out| shelf.read_chunk(op, &read, io, out));
        while !self.reads.contains_key(&op) {
            assert!(self.step(), "the read ends");
        }
        let (bytes, checksums) = self.reads.remove(&op).unwrap()?;
        assert_eq!(checksums, write.checksums);
        Ok(bytes)
    }
}

pub(super) fn chunk(sequence: u64, number: u32, len: usize, fill: u8) -> ChunkWrite {
    let blob = BlobId { session: SessionId(1), sequence: BlobSequence(sequence) };
    let chunk = ChunkId { blob, number };
    let data: Bytes = (0..len).map(|at| fill ^ (at % 251) as u8).collect::<Vec<_>>().into();
    let checksums =
        data.chunks(4096).zip(0..).map(|(block, n)| Checksum::of_block(chunk, n, block)).collect();
    ChunkWrite {
        call: CallId(sequence),
        chunk,
        owner: Target {
            tenant: TenantId(0),
            bucket: BucketId(3),
            key: ObjectKey::parse("photos/cat.jpg").unwrap(),
        },
        epoch: MapEpoch(1),
        block_size: 4096,
        data,
        checksums,
    }
}
