//! A disk that is opened to be looked at.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Medium;
use super::overlay::Overlay;
use crate::cluster::{ClusterMap, Slot, StoreConfig, StoreLimits, StoreTiming, ZoneMap};
use crate::consensus::Entry;
use crate::disk::{DiskError, SECTOR};
use crate::effects::{Effect, Effects};
use crate::ids::{ClusterId, DiskBirth, RangeId, StoreId, ZoneId};
use crate::level::Levels;
use crate::range::RowError;
use crate::rows::Miss;
use crate::storage::journal::frame_claims;
use crate::storage::layout::{JOURNAL_START, SUPERBLOCK_COPIES, journal_offset, superblock_offset};
use crate::storage::shelf::Shelf;
use crate::storage::superblock::{self, CopyFault, Found, Superblock, SuperblockError};
use crate::storage::{OpenedRange, SegmentUse, Storage, StorageEvent, TableShape};

/// Bytes of a memtable, which is never written out here: more than any journal has entries.
const MEMTABLE_BYTES: u64 = 1 << 40;

/// Why a disk cannot be inspected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// It cannot be read.
    Disk(DiskError),
    /// No superblock was ever written to it, nor a journal.
    Blank,
    /// Nothing on it says that it is a store's.
    NoStore,
    /// It has a superblock, of which no copy can be used.
    Superblock(SuperblockError),
    /// Recovery gives up, as it would for a store.
    Halted(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => write!(f, "it cannot be read: {error}"),
            Self::Blank => f.write_str("it is blank: no store was ever started on it"),
            Self::NoStore => f.write_str(
                "it is not the disk of a store: none of the four places of a superblock has one",
            ),
            Self::Superblock(error) => error.fmt(f),
            Self::Halted(reason) => write!(f, "a store would not start on it: {reason}"),
        }
    }
}

impl core::error::Error for OpenError {}

/// Rows, entries or copies cannot be read any further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(pub String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Unreadable {}

/// A journal as recovery has found it. Positions count bytes from the journal's first beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalReport {
    /// It begins here.
    pub tail: u64,
    /// Its last frame that counts ends here.
    pub end: u64,
    /// All below this was known synced.
    pub synced: u64,
    /// Frames may go up to here.
    pub prepared: u64,
    /// A frame was to stand at its end, and does not verify: torn by a crash, unless it is damage.
    pub torn: bool,
    /// The first frame that does not verify, though all up to `synced` had been synced.
    pub damaged_at: Option<u64>,
}

/// A segment whose header does not verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFault {
    /// Which.
    pub segment: u32,
    /// What is wrong.
    pub reason: String,
}

/// A disk that is open to be looked at.
#[derive(Debug)]
pub struct Disk<M> {
    pub(super) medium: Overlay<M>,
    pub(super) storage: Storage,
    pub(super) fx: Effects,
    superblock: Superblock,
    copies: [Result<Superblock, CopyFault>; SUPERBLOCK_COPIES],
    journal: JournalReport,
    pub(super) ranges: BTreeMap<RangeId, OpenedRange>,
    notes: Vec<String>,
    halted: Option<String>,
    damaged: BTreeSet<RangeId>,
    arrived: BTreeSet<Miss>,
    pub(super) entries: Vec<Entry>,
}

impl<M: Medium> Disk<M> {
    /// Open a disk as a store would, without writing to it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(medium: M) -> Result<Self, OpenError> {
        let mut medium = Overlay::new(medium);
        let (superblock, copies) = identify(&mut medium)?;
        let config = config(&superblock);
        let mut disk = Self {
            medium,
            storage: Storage::offline(&config),
            fx: Effects::new(),
            superblock,
            copies,
            journal: JournalReport {
                tail: superblock.tail.position,
                end: superblock.tail.position,
                synced: superblock.mark.synced,
                prepared: superblock.prepared,
                torn: false,
                damaged_at: None,
            },
            ranges: BTreeMap::new(),
            notes: Vec::new(),
            halted: None,
            damaged: BTreeSet::new(),
            arrived: BTreeSet::new(),
            entries: Vec::new(),
        };
        disk.storage.start(&mut disk.fx);
        disk.settle();
        if let Some(reason) = disk.halted {
            return Err(OpenError::Halted(reason));
        }
        if disk.storage.shelf().is_none() {
            return Err(OpenError::Halted("recovery did not come to an end".to_owned()));
        }
        disk.look_for_torn();
        Ok(disk)
    }

    /// What the superblock that counts says.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// What is wrong with copies of the superblock, by number.
    pub fn superblock_faults(&self) -> impl Iterator<Item = (usize, CopyFault)> + '_ {
        let copies = self.copies.iter().enumerate();
        copies.filter_map(|(number, copy)| copy.err().map(|fault| (number, fault)))
    }

    /// Whose disk it is.
    pub fn identity(&self) -> (ClusterId, StoreId, ZoneId) {
        (self.superblock.cluster, self.superblock.store, self.superblock.zone)
    }

    /// The journal.
    pub fn journal(&self) -> JournalReport {
        self.journal
    }

    /// What recovery has to say, and what was found since.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// How many segments there are for each use.
    ///
    /// # Errors
    /// [`Unreadable`] if the disk has failed meanwhile.
    pub fn segments(&self) -> Result<BTreeMap<SegmentUse, u64>, Unreadable> {
        let mut count = BTreeMap::new();
        for (_, of) in self.shelf()?.segment_uses() {
            *count.entry(of).or_default() += 1;
        }
        Ok(count)
    }

    /// Read the header of each segment that holds something.
    ///
    /// # Errors
    /// [`Unreadable`] if the disk has failed meanwhile.
    pub fn check_segments(&mut self) -> Result<Vec<SegmentFault>, Unreadable> {
        let uses: Vec<_> = self.shelf()?.segment_uses().collect();
        let mut faults = Vec::new();
        for (segment, of) in uses {
            if matches!(of, SegmentUse::Free | SegmentUse::Reserved) {
                continue;
            }
            let offset = self.shelf()?.layout().offset(segment);
            let judged = match self.medium.read(offset, SECTOR) {
                Ok(sector) => self.shelf()?.judge_segment(segment, &sector),
                Err(error) => Err(error.to_string()),
            };
            faults.extend(judged.err().map(|reason| SegmentFault { segment: segment.0, reason }));
        }
        Ok(faults)
    }

    /// All tables.
    ///
    /// # Errors
    /// [`Unreadable`] if the disk has failed meanwhile.
    pub fn tables(&self) -> Result<Vec<TableShape>, Unreadable> {
        Ok(self.shelf()?.table_shapes())
    }

    /// Whether the index of chunks was read, and not found anew from the segments because it was lost.
    ///
    /// # Errors
    /// [`Unreadable`] if the disk has failed meanwhile.
    pub fn chunk_index_is_sound(&self) -> Result<bool, Unreadable> {
        Ok(!self.shelf()?.chunk_index_was_lost())
    }

    pub(super) fn shelf(&self) -> Result<&Shelf, Unreadable> {
        let halted = || self.halted.clone().unwrap_or_else(|| "the disk is not open".to_owned());
        self.storage.shelf().ok_or_else(|| Unreadable(halted()))
    }

    /// Read rows, fetching what is not in memory.
    pub(super) fn read<T>(
        &mut self,
        mut look: impl FnMut(&mut Storage) -> Result<T, RowError>,
    ) -> Result<T, Unreadable> {
        let mut pins = Vec::new();
        let read = loop {
            self.shelf()?;
            let miss = match look(&mut self.storage) {
                Ok(found) => break Ok(found),
                Err(RowError::Damaged(damaged)) => break Err(Unreadable(damaged.to_string())),
                Err(RowError::Miss(miss)) => miss,
            };
            let damaged = self.damaged.len();
            self.storage.fetch(miss, true, &mut self.fx);
            self.storage.read_ahead(miss, &mut self.fx);
            self.settle();
            self.shelf()?;
            if self.damaged.len() > damaged || !self.arrived.remove(&miss) {
                let why = self.notes.last().cloned();
                break Err(Unreadable(why.unwrap_or_else(|| "a block cannot be had".to_owned())));
            }
            pins.push(miss);
        };
        if self.storage.shelf().is_some() {
            pins.into_iter().for_each(|miss| self.storage.release(miss));
        }
        read
    }

    /// Look whether a frame was begun where the journal ends: on the medium itself, since the overlay has
    /// this life's first frame there.
    fn look_for_torn(&mut self) {
        let JournalReport { end, prepared, .. } = self.journal;
        let offset = journal_offset(&self.superblock.geometry, end);
        let sector = if end < prepared { self.medium.below(offset, SECTOR).ok() } else { None };
        self.journal.torn = sector.is_some_and(|sector| frame_claims(end, &sector));
    }

    /// Carry out all effects, and those that follow.
    pub(super) fn settle(&mut self) {
        loop {
            let effects: Vec<Effect> = self.fx.drain().collect();
            for effect in &effects {
                if let Effect::Disk { token, op } = effect {
                    let result = self.medium.carry_out(op);
                    self.storage.on_disk(*token, &result, &mut self.fx);
                }
            }
            while let Some(event) = self.storage.next_event() {
                self.hear(event);
            }
            if self.fx.is_empty() {
                return;
            }
        }
    }

    fn hear(&mut self, event: StorageEvent) {
        match event {
            StorageEvent::Open(opened) => {
                self.journal.end = opened.journal.end;
                self.journal.synced = opened.journal.synced;
                self.journal.damaged_at = opened.journal.damage.map(|damage| damage.position);
                self.ranges = opened.ranges;
                self.notes.extend(opened.notes);
            }
            StorageEvent::Entries { entries, .. } => self.entries = entries,
            StorageEvent::Fetched(miss) => {
                self.arrived.insert(miss);
            }
            StorageEvent::Damaged { range } => {
                self.damaged.insert(range);
            }
            StorageEvent::Note(note) => self.notes.push(note),
            StorageEvent::Halt(reason) => self.halted = Some(reason),
            // Nothing that would bring these was asked for.
            StorageEvent::Durable(..)
            | StorageEvent::ChunkStored { .. }
            | StorageEvent::ChunkFreed { .. }
            | StorageEvent::ChunkRead { .. }
            | StorageEvent::ChunkLooked { .. }
            | StorageEvent::Staged { .. }
            | StorageEvent::IngestFailed { .. }
            | StorageEvent::Installed
            | StorageEvent::Begun => {}
        }
    }
}

/// What a disk says of itself.
type Identified = (Superblock, [Result<Superblock, CopyFault>; SUPERBLOCK_COPIES]);

fn identify<M: Medium>(medium: &mut Overlay<M>) -> Result<Identified, OpenError> {
    let mut read = |offset| medium.read(offset, SECTOR);
    let sectors: [Result<Bytes, DiskError>; SUPERBLOCK_COPIES] =
        core::array::from_fn(|copy| read(superblock_offset(copy)));
    let copies = core::array::from_fn(|copy| match &sectors[copy] {
        Ok(bytes) => Superblock::decode(copy, bytes),
        Err(_) => Err(CopyFault::Damaged),
    });
    let journal = read(JOURNAL_START);
    let journal_is_blank = matches!(&journal, Ok(bytes) if bytes.iter().all(|byte| *byte == 0));
    let best = copies.iter().flatten().max_by_key(|superblock| superblock.sequence);
    let (cluster, store) = best.map_or_else(Default::default, |best| (best.cluster, best.store));
    match superblock::choose(copies, journal_is_blank, cluster, store) {
        Ok(Found::Valid { superblock, copies }) => Ok((superblock, copies)),
        Ok(Found::Empty) => Err(OpenError::Blank),
        Err(SuperblockError::Damaged) => {
            if let Some(Err(error)) = sectors.iter().find(|sector| sector.is_err())
                && sectors.iter().all(Result::is_err)
            {
                return Err(OpenError::Disk(error.clone()));
            }
            let magic = superblock::field::MAGIC..superblock::field::CHECKSUM;
            let has_magic = |bytes: &Bytes| bytes.get(magic.clone()) == Some(&superblock::MAGIC);
            let is_store = sectors.iter().flatten().any(has_magic)
                || journal.is_ok_and(|sector| frame_claims(0, &sector));
            Err(match is_store {
                true => OpenError::Superblock(SuperblockError::Damaged),
                false => OpenError::NoStore,
            })
        }
        Err(error) => Err(OpenError::Superblock(error)),
    }
}

fn config(superblock: &Superblock) -> StoreConfig {
    // Only disks of first voters have a birth: they had a replica of the root range, whatever is left.
    let founds = superblock.birth != DiskBirth(0);
    let slots = vec![Slot { store: superblock.store, weight: 1 }];
    let zone = founds.then_some(ZoneMap { zone: superblock.zone, slots });
    StoreConfig {
        levels: Levels::OWN,
        cluster: superblock.cluster,
        store: superblock.store,
        zone: superblock.zone,
        map: ClusterMap::bootstrap(1, zone.into_iter().collect()),
        geometry: superblock.geometry,
        limits: StoreLimits { memtable_bytes: MEMTABLE_BYTES, ..StoreLimits::PRODUCTION },
        timing: StoreTiming::DEFAULT,
        seed: 0,
    }
}
