//! One disk: superblock, journal, segments, tree.
//!
//! `Storage` puts them together and is all that a store sees. It promises: what is reported with a
//! [`Durable`] survives any crash; what was not is there whole or not at all; damage is reported, and
//! never taken for absence. It leaves to the store what records, rows and chunks mean.
//!
//! ```text
//! Superblock ──▶ Journal ──▶ Shelf ──▶ Open
//!  (format if     (scan,      (runs,    (incarnation raised, durable)
//!   empty)         gather)     chunks)
//! ```

mod carry;
mod checkpoint;
mod durable;
mod inspect;
pub(crate) mod io;
pub mod journal;
pub mod layout;
mod opening;
mod parts;
mod room;
pub(crate) mod segment;
pub(crate) mod shelf;
mod snapshots;
pub mod superblock;
pub(crate) mod tree;

pub use durable::Durable;
pub(crate) use journal::{JournalTicket, Record};
pub(crate) use opening::OpenedRange;
pub(crate) use room::JournalRoom;
pub use shelf::{ChunkFault, HeaderFault, Merged, SegmentUse, TableShape, Written};
pub(crate) use shelf::{CopySpan, digest_of};
pub(crate) use shelf::{Ingested, ViewError, ViewId};
pub(crate) use shelf::{Look, Looked, Reclaimed};
pub(crate) use tree::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::cluster::{FOUNDERS_MAX, StoreConfig};
use crate::consensus::Entry;
use crate::disk::{DiskOutput, DiskResult, Room};
use crate::effects::Effects;
use crate::hash::Checksum;
use crate::ids::{ChunkId, DiskBirth, DiskToken, Incarnation, LogIndex, RangeId, Term};
use crate::memory::MemoryAccount;
use crate::message::{ChunkError, ChunkRead, ChunkWrite, LIVES_MAX, Life};
use crate::rng::Rng;
use crate::rows::{Miss, RowWrite, Rows};
use carry::{CARRIED_PART, Carried};
use checkpoint::Checkpoints;
use io::{DiskQueue, Io, SyncTicket};
use journal::{Journal, JournalRecovery, Reader};
use opening::Gathered;
use parts::Parts;
use shelf::{Output, ShelfConfig, TableId};
use superblock::{CopyFault, Found, Superblock, SuperblockReader, SuperblockWriter};
pub use superblock::{INCARNATION_END, PEERS_MAX, PeerMark, ScrubMark};

/// What a store hears from its storage.
#[derive(Debug)]
pub(crate) enum StorageEvent {
    /// Recovery is done, and this life's incarnation is durable.
    Open(Opened),
    /// All journal records up to this ticket are durable.
    Durable(JournalTicket, Durable),
    /// Entries were read back: at least one, contiguous.
    Entries { range: RangeId, from: LogIndex, entries: Vec<Entry> },
    /// A chunk write has ended.
    ChunkStored { op: u64, result: Result<Durable, ChunkError> },
    /// A chunk is freed, or cannot be yet.
    ChunkFreed { op: u64, result: Result<(), ChunkError> },
    /// A chunk read has ended.
    ChunkRead { op: u64, result: Result<(Bytes, Vec<Checksum>), ChunkError> },
    /// A look at a chunk has ended.
    ChunkLooked { op: u64, result: Result<Looked, ChunkError> },
    /// A block that a read missed is in memory.
    Fetched(Miss),
    /// A block of a range's table cannot be had.
    Damaged { range: RangeId },
    /// All of the snapshot that is being taken is durable, and can be installed.
    Staged { range: RangeId },
    /// The snapshot that was being taken is given up.
    IngestFailed { range: RangeId, reason: String },
    /// The snapshot is the range's table now; durable.
    Installed,
    /// With which disks the cluster began is written down; durable.
    Begun,
    /// For the log.
    Note(String),
    /// The store must stop.
    Halt(String),
}

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Which life this is.
    pub(crate) incarnation: Incarnation,
    /// The last life that began by distrusting the disk; 0 if there was none.
    pub(crate) doubted: Incarnation,
    /// Of this disk, if it is a first voter's.
    pub(crate) birth: DiskBirth,
    /// The disks that the cluster began with, by the first map's voters; zeros if that is not known.
    pub(crate) founders: [DiskBirth; FOUNDERS_MAX],
    /// The replicas on this disk.
    pub(crate) ranges: BTreeMap<RangeId, OpenedRange>,
    /// The journal.
    pub(crate) journal: JournalFound,
    /// How far scrubbing has come.
    pub(crate) scrub: ScrubMark,
    /// How far peers were heard to be in earlier lives.
    pub(crate) peers: Box<[PeerMark; PEERS_MAX]>,
    /// This life and those before it that the disk remembers, newest first.
    pub(crate) lives: Vec<Life>,
    /// For the log.
    pub(crate) notes: Vec<String>,
}

/// What recovery found of the journal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JournalFound {
    /// The position behind its last frame that counts.
    pub(crate) end: u64,
    /// All below this position was known synced.
    pub(crate) synced: u64,
    /// Set if some of that is lost.
    pub(crate) damage: Option<journal::Damage>,
}

impl Opened {
    /// A range of which a table is left. If nothing in the journal is, on a distrusted disk, its log
    /// and its votes are lost.
    fn range(&mut self, range: RangeId) -> &mut OpenedRange {
        let suspect = if self.doubted > Incarnation(0) { self.incarnation.0 } else { 0 };
        self.ranges.entry(range).or_insert_with(|| OpenedRange::blank(suspect))
    }
}

/// A store's disk.
#[derive(Debug)]
pub(crate) struct Storage {
    queue: DiskQueue,
    shelf_config: ShelfConfig,
    format: Superblock,
    phase: Phase,
    /// Whether the store is one of the voters that the cluster began with.
    founder: bool,
    /// What such a store calls its disk if that is new.
    fresh: DiskBirth,
    /// Drawn for this life.
    nonce: u64,
    /// What the store has not heard yet.
    events: VecDeque<StorageEvent>,
}

#[derive(Debug)]
enum Phase {
    New,
    Superblock(SuperblockReader),
    Journal {
        writer: Box<SuperblockWriter>,
        recovery: Box<JournalRecovery>,
        gathered: Box<Gathered>,
    },
    /// The journal takes records; the shelf is being recovered, or the incarnation raised.
    Shelf {
        parts: Box<Parts>,
        opened: Opened,
    },
    Open(Box<Parts>),
    Halted,
}

impl Storage {
    /// Storage that waits for [`Self::start`].
    pub(crate) fn new(config: &StoreConfig) -> Self {
        let shelf_config = ShelfConfig {
            store: config.store,
            incarnation: Incarnation(1),
            geometry: config.geometry,
            area: layout::segments_start(&config.geometry),
            memtable_bytes: config.limits.memtable_bytes,
            block_cache_bytes: config.limits.block_cache_bytes,
            chunk_bytes_max: config.limits.chunk_bytes_max,
            tombstone_lag: config.limits.tombstone_lag,
            offline: false,
        };
        let format = Superblock {
            cluster: config.cluster,
            store: config.store,
            zone: config.zone,
            sequence: 0,
            incarnation: Incarnation(0),
            geometry: config.geometry,
            prepared: 0,
            mark: superblock::SyncedMark::default(),
            tail: superblock::Tail::default(),
            birth: DiskBirth(0),
            founders: [DiskBirth(0); FOUNDERS_MAX],
            scrub: ScrubMark::default(),
            peers: [PeerMark::default(); PEERS_MAX],
            lives: [Life::default(); LIVES_MAX],
        };
        let (queue, events) = (DiskQueue::default(), VecDeque::new());
        let founder = config.map.voters.contains(&config.store);
        let fresh = DiskBirth(Rng::new(config.seed ^ 4).next_u64().max(1));
        let nonce = config.seed;
        Self { queue, shelf_config, format, founder, fresh, nonce, phase: Phase::New, events }
    }

    /// Begin recovery, or format an empty disk.
    pub(crate) fn start(&mut self, fx: &mut Effects) {
        let mut io = Io { queue: &mut self.queue, fx };
        let reader = SuperblockReader::start(self.format.cluster, self.format.store, &mut io);
        self.phase = Phase::Superblock(reader);
    }

    /// The next thing that the store must hear.
    pub(crate) fn next_event(&mut self) -> Option<StorageEvent> {
        self.events.pop_front()
    }

    /// A disk effect has finished.
    pub(crate) fn on_disk(&mut self, token: DiskToken, result: &DiskResult, fx: &mut Effects) {
        match result {
            Ok(DiskOutput::Synced) | Err(_) if self.queue.is_sync(token) => {
                if let Err(error) = result {
                    return self.halt(format!(
                        "a sync failed ({error}): what the disk holds is not known any more; \
                         restart the store to read it again, and replace the disk if it recurs"
                    ));
                }
                if let Some((tickets, durable)) = self.queue.synced(token, fx) {
                    for ticket in tickets {
                        self.on_synced(ticket, durable, fx);
                    }
                }
            }
            _ => self.on_transfer(token, result, fx),
        }
        self.pump(fx);
    }

    fn on_transfer(&mut self, token: DiskToken, result: &DiskResult, fx: &mut Effects) {
        match core::mem::replace(&mut self.phase, Phase::Halted) {
            Phase::Superblock(mut reader) => match reader.on_disk(token, result) {
                None => self.phase = Phase::Superblock(reader),
                Some(Ok(found)) => self.found(found, fx),
                Some(Err(error)) => self.halt(error.to_string()),
            },
            Phase::Journal { writer, mut recovery, mut gathered } => {
                match recovery.on_disk(token, result, gathered.as_mut()) {
                    Ok(_) => self.phase = Phase::Journal { writer, recovery, gathered },
                    Err(error) => self.halt(error.to_string()),
                }
            }
            Phase::Shelf { mut parts, opened } => {
                let progress = parts.on_disk(token, result, &mut self.queue, fx);
                self.phase = Phase::Shelf { parts, opened };
                self.after(progress);
            }
            Phase::Open(mut parts) => {
                let progress = parts.on_disk(token, result, &mut self.queue, fx);
                self.phase = Phase::Open(parts);
                self.after(progress);
            }
            phase @ (Phase::New | Phase::Halted) => self.phase = phase,
        }
    }

    fn on_synced(&mut self, ticket: SyncTicket, durable: Durable, fx: &mut Effects) {
        match core::mem::replace(&mut self.phase, Phase::Halted) {
            Phase::Journal { writer, mut recovery, gathered } => {
                match recovery.on_synced(ticket, durable) {
                    None => self.phase = Phase::Journal { writer, recovery, gathered },
                    Some(recovered) => self.recovered(*writer, recovered, *gathered, fx),
                }
            }
            Phase::Shelf { mut parts, opened } => {
                let events = parts.on_synced(ticket, durable, &mut self.queue, fx);
                self.phase = Phase::Shelf { parts, opened };
                self.after(events);
            }
            Phase::Open(mut parts) => {
                let events = parts.on_synced(ticket, durable, &mut self.queue, fx);
                self.phase = Phase::Open(parts);
                self.after(events);
            }
            phase @ (Phase::New | Phase::Superblock(_) | Phase::Halted) => self.phase = phase,
        }
    }

    fn found(&mut self, found: Found, fx: &mut Effects) {
        match found {
            Found::Empty => {
                if !layout::is_sound(&self.format.geometry) {
                    let error = superblock::SuperblockError::Geometry(self.format.geometry);
                    return self.halt(error.to_string());
                }
                let blank = core::array::from_fn(|_| Err(CopyFault::Blank));
                let writer = SuperblockWriter::new(self.format, &blank);
                let gathered = Gathered::new(self.shelf_config, self.founder, 0);
                let empty = journal::RecoveredJournal::empty(&self.format.geometry);
                self.recovered(writer, empty, gathered, fx);
            }
            Found::Valid { superblock, copies } => {
                let faulty = copies.iter().enumerate().filter(|(_, copy)| copy.is_err());
                for (number, _) in faulty {
                    self.events.push_back(StorageEvent::Note(format!(
                        "superblock copy {number} is damaged: it is written anew from an intact one"
                    )));
                }
                // How the disk is laid out was decided when it was formatted.
                self.shelf_config.geometry = superblock.geometry;
                self.shelf_config.area = layout::segments_start(&superblock.geometry);
                self.shelf_config.incarnation = Incarnation(superblock.incarnation.0 + 1);
                self.phase = Phase::Journal {
                    writer: Box::new(SuperblockWriter::new(superblock, &copies)),
                    recovery: Box::new(JournalRecovery::new(&superblock)),
                    gathered: Box::new(Gathered::new(
                        self.shelf_config,
                        self.founder,
                        superblock.tail.position,
                    )),
                };
            }
        }
    }

    fn recovered(
        &mut self,
        mut writer: SuperblockWriter,
        recovered: journal::RecoveredJournal,
        mut gathered: Gathered,
        fx: &mut Effects,
    ) {
        let mut notes = Vec::new();
        gathered.complete(recovered.damage.is_some());
        if let (Some(text), None) = (&gathered.unreadable, recovered.damage) {
            return self.halt(text.clone());
        }
        let damage = recovered.damage;
        let found = JournalFound { end: recovered.resume, synced: recovered.mark.synced, damage };
        let is_blank = recovered.resume == 0 && damage.is_none() && gathered.ranges.is_empty();
        if self.founder && is_blank && writer.wanted().birth == DiskBirth(0) {
            // Before anything can be said by this disk, it has a name of its own.
            let fresh = self.fresh;
            writer.note(|superblock| superblock.birth = fresh);
        }
        let mut journal = Journal::start(writer, recovered, gathered.doubted, self.nonce);
        let incarnation = journal.incarnation().0;
        let mut last_ticket = JournalTicket::default();
        if let Some(damage) = damage {
            notes.push(format!(
                "the journal is damaged at position {}, and had been synced up to {}: the log is \
                 suspect until the other zones have vouched for what is lost",
                damage.position, damage.synced
            ));
            gathered.distrust(incarnation);
            last_ticket = journal.append(opening::distrust(incarnation));
        }
        for range in gathered.void_logs() {
            let (index, term, membership) = (LogIndex(0), Term(0), Bytes::new());
            last_ticket = journal.append(Record::LogStart { range, index, term, membership });
        }
        for range in gathered.ranges.values_mut().filter(|range| range.suspect > 0) {
            // Peers tell one life of a suspect replica from another by this number.
            range.suspect = incarnation.0;
        }
        for (range, opened) in &gathered.ranges {
            journal.forget_entries(*range, opened.base_index);
            journal.truncate_entries(*range, opened.last_index.next());
        }
        let (places, doubted) = (gathered.chunks, gathered.doubted);
        let mut parts = Parts {
            journal,
            shelf: gathered.shelf,
            edits: VecDeque::new(),
            last_ticket,
            checkpoints: Checkpoints::new(&gathered.ranges, doubted, places),
            carried: None,
            carried_logs: 0,
            damaged: BTreeSet::new(),
            beginning: None,
            flushed: None,
        };
        let mut io = Io { queue: &mut self.queue, fx };
        let mut outputs = Vec::new();
        // The life that found damage may have ended before it could say what the shelf holds.
        let gap = damage.is_some() || gathered.edits_in_doubt;
        parts.shelf.recover_start(gap, &mut io, &mut outputs);
        let taken = parts.take(outputs);
        let ranges = gathered.ranges;
        let Superblock { birth, founders, scrub, peers, lives, .. } = *parts.journal.superblock();
        let journal = found;
        let opened = Opened {
            incarnation,
            doubted,
            birth,
            founders,
            ranges,
            journal,
            scrub,
            peers: Box::new(peers),
            lives: lives.into_iter().filter(|life| *life != Life::default()).collect(),
            notes,
        };
        self.phase = Phase::Shelf { parts: Box::new(parts), opened };
        self.after(taken);
    }

    fn after(&mut self, progress: Result<Vec<StorageEvent>, String>) {
        if let Phase::Open(parts) = &mut self.phase {
            let damaged = core::mem::take(&mut parts.damaged).into_iter();
            self.events.extend(damaged.map(|range| StorageEvent::Damaged { range }));
        }
        match progress {
            Ok(events) => self.events.extend(events),
            Err(reason) => self.halt(reason),
        }
    }

    fn halt(&mut self, reason: String) {
        self.phase = Phase::Halted;
        // Whoever heard of what was to be told before would go on with a storage that is not there any more.
        self.events = VecDeque::from([StorageEvent::Halt(reason)]);
    }

    /// Start what can be started. To be called at the end of each step.
    pub(crate) fn pump(&mut self, fx: &mut Effects) {
        let mut io = Io { queue: &mut self.queue, fx };
        let result = match &mut self.phase {
            Phase::New | Phase::Superblock(_) | Phase::Halted => Ok(()),
            Phase::Journal { recovery, .. } => {
                recovery.pump(&mut io);
                Ok(())
            }
            Phase::Shelf { parts, .. } | Phase::Open(parts) => {
                parts.shelf.free_retired(&mut io);
                let pumped = parts.journal.pump(&mut io);
                pumped.map_err(|error| format!("{error}; {}", parts.journal_status()))
            }
        };
        if let Err(reason) = result {
            return self.halt(reason);
        }
        self.open_if_ready();
    }

    /// The store may speak to others once shelf and incarnation are there.
    fn open_if_ready(&mut self) {
        let ready =
            |parts: &Parts| parts.flushed.is_some() && parts.journal.incarnation().1.is_some();
        match core::mem::replace(&mut self.phase, Phase::Halted) {
            Phase::Shelf { mut parts, mut opened } if ready(&parts) => {
                for (table, index) in parts.flushed.take().unwrap_or_default() {
                    if let TableId::Range(range) = table {
                        opened.range(range).flushed = index;
                    }
                }
                for range in core::mem::take(&mut parts.damaged) {
                    opened.range(range).damaged = true;
                }
                self.phase = Phase::Open(parts);
                self.events.push_back(StorageEvent::Open(opened));
            }
            phase => self.phase = phase,
        }
    }

    /// This disk is not what it was: have the next life begin by distrusting it, with an incarnation
    /// above `above`. The store must not take part any more, and stop when the ticket is durable.
    pub(crate) fn distrust(&mut self, above: Incarnation) -> JournalTicket {
        self.parts().append(opening::distrust(Incarnation(above.0 + 1)))
    }

    /// Write down with which disks the cluster began; [`StorageEvent::Begun`] follows.
    pub(crate) fn begin(&mut self, founders: [DiskBirth; FOUNDERS_MAX]) {
        let parts = self.parts();
        let change = |superblock: &mut Superblock| superblock.founders = founders;
        parts.beginning = Some(parts.journal.change_superblock(change));
    }

    /// Write down how far scrubbing has come. Nobody waits for that to be durable.
    pub(crate) fn mark_scrubbed(&mut self, mark: ScrubMark) {
        self.parts().journal.change_superblock(|superblock| superblock.scrub = mark);
    }

    /// Write down how far peers were heard to be. Nobody waits for that to be durable.
    pub(crate) fn remember_peers(&mut self, peers: [PeerMark; PEERS_MAX]) {
        self.parts().journal.change_superblock(|superblock| superblock.peers = peers);
    }

    /// Put a record into the journal, behind all earlier ones.
    pub(crate) fn append(&mut self, record: Record) -> JournalTicket {
        self.parts().append(record)
    }

    /// The ticket of the last record.
    pub(crate) fn last_ticket(&mut self) -> JournalTicket {
        self.parts().last_ticket
    }

    /// Read entries back; [`StorageEvent::Entries`] follows.
    ///
    /// # Errors
    /// If the journal does not know the first: the store must stop.
    pub(crate) fn read_entries(
        &mut self,
        range: RangeId,
        from: LogIndex,
        bytes_max: u64,
        fx: &mut Effects,
    ) -> Result<(), String> {
        self.with_parts(fx, |parts, io| {
            if parts.journal.read_entries(range, from, bytes_max, Reader::Store, io) {
                Ok(())
            } else {
                Err(format!("{range}: entry {from} is not in the journal, where it must be"))
            }
        })
    }

    /// The rows of a range.
    pub(crate) fn rows(&mut self, range: RangeId) -> impl Rows {
        self.parts().shelf.rows(TableId::Range(range))
    }

    /// Apply what the entry at `index` writes.
    pub(crate) fn write_rows(&mut self, range: RangeId, index: LogIndex, rows: &[RowWrite]) {
        self.parts().shelf.write_rows(TableId::Range(range), index, rows);
    }

    /// Whether the range's memtable should be written out.
    pub(crate) fn wants_freeze(&mut self, range: RangeId) -> bool {
        self.parts().shelf.wants_freeze(TableId::Range(range))
    }

    /// Begin to write the memtable out; it holds the state up to `through`.
    /// `false`: it cannot be now.
    pub(crate) fn freeze(&mut self, range: RangeId, through: LogIndex, fx: &mut Effects) -> bool {
        self.with_parts(fx, |parts, io| parts.shelf.freeze(TableId::Range(range), through, io))
    }

    /// Whether the range must not be applied further: its memtables are full and being written.
    pub(crate) fn is_stalled(&self, range: RangeId) -> bool {
        match &self.phase {
            Phase::Open(parts) => parts.shelf.is_stalled(TableId::Range(range)),
            _ => true,
        }
    }

    /// For what the disk has segments left.
    pub(crate) fn room(&self) -> Room {
        match &self.phase {
            Phase::Open(parts) => parts.shelf.room(),
            _ => Room::Housekeeping,
        }
    }

    /// Drop a range's rows, so that the log can be applied again from its start.
    pub(crate) fn reset_table(&mut self, range: RangeId) {
        let mut outputs = Vec::new();
        self.parts().shelf.reset_table(TableId::Range(range), &mut outputs);
        self.take(outputs);
    }

    /// Bring a block into memory; [`StorageEvent::Fetched`] or [`StorageEvent::Damaged`] follows.
    /// `must`: the reader needs all its blocks at once, whatever the cache's bound says of pins.
    pub(crate) fn fetch(&mut self, miss: Miss, must: bool, fx: &mut Effects) {
        let mut outputs = Vec::new();
        self.with_parts(fx, |parts, io| parts.shelf.fetch(miss, must, io, &mut outputs));
        self.take(outputs);
    }

    /// Bring the blocks that follow a block into memory, for a reader that goes through rows in order.
    pub(crate) fn read_ahead(&mut self, miss: Miss, fx: &mut Effects) {
        self.with_parts(fx, |parts, io| parts.shelf.read_ahead(miss, io));
    }

    /// A reader is done with a block that it fetched.
    pub(crate) fn release(&mut self, miss: Miss) {
        self.parts().shelf.release(miss);
    }

    /// Keep a chunk; [`StorageEvent::ChunkStored`] follows. `replace`: the copy that is there is known
    /// not to verify.
    pub(crate) fn write_chunk(
        &mut self,
        op: u64,
        write: &ChunkWrite,
        replace: bool,
        fx: &mut Effects,
    ) {
        let mut outputs = Vec::new();
        self.with_parts(fx, |parts, io| {
            parts.shelf.write_chunk(op, write, replace, io, &mut outputs);
        });
        self.take(outputs);
    }

    /// Look at the own copy of a chunk; [`StorageEvent::ChunkLooked`] follows.
    pub(crate) fn look_at_chunk(&mut self, op: u64, chunk: ChunkId, how: Look, fx: &mut Effects) {
        let mut outputs = Vec::new();
        self.with_parts(fx, |parts, io| {
            parts.shelf.look_at_chunk(op, chunk, how, io, &mut outputs);
        });
        self.take(outputs);
    }

    /// Take a chunk out of the index for good; [`StorageEvent::ChunkFreed`] follows.
    pub(crate) fn free_chunk(&mut self, op: u64, chunk: ChunkId, fx: &mut Effects) {
        let mut outputs = Vec::new();
        self.with_parts(fx, |parts, io| parts.shelf.free_chunk(op, chunk, io, &mut outputs));
        self.take(outputs);
    }

    /// Go on with giving space back, a bounded piece of it. To be called from time to time.
    pub(crate) fn housekeep(&mut self, fx: &mut Effects) {
        let mut outputs = Vec::new();
        self.with_parts(fx, |parts, io| parts.shelf.housekeep(io, &mut outputs));
        self.take(outputs);
    }

    /// Whether giving space back has something to do that no event brings on.
    pub(crate) fn wants_housekeeping(&self) -> bool {
        match &self.phase {
            Phase::Open(parts) => parts.shelf.wants_housekeeping(),
            _ => false,
        }
    }

    /// What has been given back in this life.
    pub(crate) fn reclaimed(&self) -> Reclaimed {
        match &self.phase {
            Phase::Open(parts) => parts.shelf.reclaimed(),
            _ => Reclaimed::default(),
        }
    }

    /// The first chunk of the index at or after `from`.
    ///
    /// # Errors
    /// [`Miss`]: fetch it and ask again.
    pub(crate) fn next_chunk(&mut self, from: ChunkId) -> Result<Option<ChunkId>, Miss> {
        self.parts().shelf.next_chunk(from)
    }

    /// Whether the chunk index knows all chunks that are there.
    pub(crate) fn chunk_index_is_complete(&self) -> bool {
        match &self.phase {
            Phase::Open(parts) => parts.shelf.chunk_index_is_complete(),
            _ => false,
        }
    }

    /// Chunk bytes in hand, and how many there may be.
    pub(crate) fn chunk_bytes(&self) -> (u64, u64) {
        match &self.phase {
            Phase::Open(parts) => parts.shelf.chunk_bytes(),
            _ => (0, 0),
        }
    }

    /// Bytes of the disk, and how many of them are in use.
    pub(crate) fn space(&self) -> (u64, u64) {
        match &self.phase {
            Phase::Open(parts) => {
                let geometry = self.shelf_config.geometry;
                let free = parts.shelf.free_segments() as u64 * geometry.segment;
                let free = free + parts.journal.free_bytes();
                (geometry.capacity, geometry.capacity.saturating_sub(free))
            }
            _ => (0, 0),
        }
    }

    /// Read from a chunk; [`StorageEvent::ChunkRead`] follows.
    pub(crate) fn read_chunk(&mut self, op: u64, read: &ChunkRead, fx: &mut Effects) {
        let mut outputs = Vec::new();
        self.with_parts(fx, |parts, io| parts.shelf.read_chunk(op, read, io, &mut outputs));
        self.take(outputs);
    }

    /// Bytes that the journal can still take, beside what it is bound to be given for chunks.
    pub(crate) fn journal_free(&self) -> u64 {
        match &self.phase {
            Phase::Open(parts) => {
                parts.journal.free_bytes().saturating_sub(parts.shelf.chunk_records_to_come())
            }
            _ => 0,
        }
    }

    /// All of the journal below this position is synced.
    pub(crate) fn synced_position(&self) -> u64 {
        match &self.phase {
            Phase::Open(parts) => parts.journal.synced_position(),
            _ => 0,
        }
    }

    /// What merges of runs have done, and whether one is due or under way.
    pub(crate) fn merged(&self) -> (Merged, bool) {
        match &self.phase {
            Phase::Open(parts) => parts.shelf.merged(),
            _ => (Merged::default(), true),
        }
    }

    /// What was written to the disk in this life, and for what.
    pub(crate) fn written(&self) -> Written {
        match &self.phase {
            Phase::Open(parts) => {
                let written = parts.shelf.bytes_written();
                let own = written.chunks + written.flushes + written.merges;
                Written { others: self.queue.written_bytes().saturating_sub(own), ..written }
            }
            _ => Written::default(),
        }
    }

    /// For each table how many runs it has, and how many it may have when no merge is due; parts of
    /// one snapshot count once.
    pub(crate) fn runs(&self) -> Vec<(usize, usize)> {
        match &self.phase {
            Phase::Open(parts) => {
                parts.shelf.shapes().into_iter().map(|(_, runs, bound)| (runs, bound)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What is held in memory. `records_max`: most bytes of records that the store lets wait.
    pub(crate) fn memory(&self, records_max: u64, account: &mut MemoryAccount) {
        if let Phase::Open(parts) = &self.phase {
            parts.shelf.memory(account);
            let carried_max = self.shelf_config.geometry.journal / CARRIED_PART;
            let pending = parts.journal.pending_bytes() as u64;
            account.add("journal pending", pending, records_max + carried_max);
            let carried = parts.carried.as_ref().map_or(0, Carried::bytes);
            account.add("journal entries to be written again", carried, carried_max);
        }
    }

    /// One line for operators.
    pub(crate) fn status(&self) -> String {
        match &self.phase {
            Phase::Open(parts) => {
                let amplification = self.written().amplification_percent();
                format!(
                    "{} {} write amplification={}.{:02}",
                    parts.journal_status(),
                    parts.shelf.status(),
                    amplification / 100,
                    amplification % 100
                )
            }
            _ => "not open".to_owned(),
        }
    }

    /// Check invariants.
    ///
    /// # Panics
    /// If one does not hold: a bug in Trine.
    pub(crate) fn check(&self) {
        if let Phase::Open(parts) = &self.phase {
            parts.shelf.check();
            assert!(parts.edits.iter().is_sorted(), "edits become durable in order");
        }
    }

    fn parts(&mut self) -> &mut Parts {
        match &mut self.phase {
            Phase::Open(parts) => parts,
            _ => unreachable!("a store uses its storage only between `Open` and `Halt`"),
        }
    }

    fn with_parts<T>(
        &mut self,
        fx: &mut Effects,
        act: impl FnOnce(&mut Parts, &mut Io<'_>) -> T,
    ) -> T {
        match &mut self.phase {
            Phase::Open(parts) => act(parts, &mut Io { queue: &mut self.queue, fx }),
            _ => unreachable!("a store uses its storage only between `Open` and `Halt`"),
        }
    }

    fn take(&mut self, outputs: Vec<Output>) {
        let taken = self.parts().take(outputs);
        self.after(taken);
    }
}
