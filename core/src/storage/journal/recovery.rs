//! Recovery: what of the journal counts, after a crash or after rot.
//!
//! The chain is walked from the tail, which the superblock names: each frame must verify, name the checksum of the one before,
//! and belong to the same recovery or begin the next. Where it ends is the *cut*. Then the rest of
//! the prepared journal is searched, sector by sector, for frames that verify, because they say what
//! had been synced when they were written:
//!
//! - The frames (and the superblock's [`SyncedMark`]) of the highest recovery number seen decide; the
//!   greatest position among their marks is *the mark*. Older numbers say nothing more: each recovery
//!   synced all below its own start before its first frame, and its frames say so.
//! - Mark at or below the cut: what lies behind was never acknowledged. It is **torn**, and cut.
//! - Mark above the cut: what lies there was synced and is gone. That is **damage**.
//! - A frame at or behind the start of a later recovery is **void**: that recovery had cut it off. If
//!   one turns up in the chain (a lost write brought it back), the walk begins anew without it.
//!
//! Why a crash during recovery forgets nothing: before a life's first frame may overwrite anything,
//! the superblock holds the mark that was found, under the highest number seen. It counts until a
//! frame of the new life is there; and that one, after damage, begins with the suspicion. The number
//! is at least the incarnation, so none is used twice. A life's second frame is written only after
//! its first is synced; so whatever comes later proves the first.

use std::collections::BTreeMap;

use bytes::{Buf, BytesMut};

use super::JournalError;
use super::frame::{self, FrameHeader, Identity, SECTOR_BYTES, frame_claims};
use super::locations::EntryLocations;
use super::record::{Location, Record};
use super::waypoints::Waypoints;
use crate::cluster::Geometry;
use crate::codec::DecodeError;
use crate::disk::{DiskOutput, DiskResult, SECTOR};
use crate::ids::DiskToken;
use crate::storage::durable::Durable;
use crate::storage::io::{Io, SyncTicket};
use crate::storage::layout::{journal_offset, ring_end};
use crate::storage::superblock::{Superblock, SyncedMark, Tail};

/// Bytes of one read. With the longest frame it bounds the memory of recovery: 5 MiB.
const READ_BYTES: u64 = 1 << 20;

/// Who hears what was recovered.
pub(crate) trait RecoverySink {
    /// The next record in journal order. With `after_gap`, the record stands behind damage: it was
    /// synced once, but what came between is lost. It is void for logs and hard states; edits may
    /// tell what segments exist.
    fn record(&mut self, record: Record, location: Location, after_gap: bool);

    /// What follows was written by a later life: whatever the one before it had not ended is void.
    fn life_begins(&mut self);

    /// Forget all that was delivered: part of it was void. Delivery begins anew.
    fn restart(&mut self);
}

/// What was synced and is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Position of the first frame that does not verify; all before it is whole.
    pub position: u64,
    /// All below this position had been synced.
    pub synced: u64,
}

/// The journal as it was found. [`super::Journal::start`] goes on from it.
#[derive(Debug)]
pub(crate) struct RecoveredJournal {
    /// Set if acknowledged records may be lost: every range's log is suspect.
    pub(crate) damage: Option<Damage>,
    /// Where frames go on.
    pub(crate) resume: u64,
    /// The same, and what the next frame follows.
    pub(super) last: Tail,
    /// Where the journal may begin.
    pub(super) waypoints: Waypoints,
    /// Highest recovery number seen, and highest position known synced.
    pub(crate) mark: SyncedMark,
    /// Where the entries stand.
    pub(super) locations: EntryLocations,
}

impl RecoveredJournal {
    /// Of a disk that has just been found empty, to be laid out like this.
    pub(crate) fn empty(geometry: &Geometry) -> Self {
        Self {
            damage: None,
            resume: 0,
            last: Tail::default(),
            waypoints: Waypoints::new(geometry.journal),
            mark: SyncedMark::default(),
            locations: EntryLocations::default(),
        }
    }
}

/// Reads the journal at the start of a store's life. Drive it like the journal: offer completions,
/// call [`Self::pump`] at the end of each step.
///
/// ```text
/// Chain → Search ─┬─(torn or whole)──────────────→ Syncing → RecoveredJournal
///   ↑             ├─(damage)→ AfterGap ──────────────↗
///   └─(void frame)┘
/// ```
#[derive(Debug)]
pub(crate) struct JournalRecovery {
    identity: Identity,
    geometry: Geometry,
    tail: Tail,
    prepared: u64,
    /// What the superblock remembers.
    remembered: SyncedMark,
    window: Window,
    phase: Phase,
    chain: Chain,
    /// What the frames of the highest recovery number say.
    mark: SyncedMark,
    /// Start of each recovery of which a frame was seen behind a cut. Survives a restart. As many
    /// as there were lives; lives that start later and cut earlier make others redundant.
    starts: BTreeMap<u64, u64>,
    damage: Option<Damage>,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Chain,
    Search,
    AfterGap,
    ToSync,
    Syncing(SyncTicket),
}

/// The chain walked so far.
#[derive(Debug)]
struct Chain {
    /// Where it ends.
    end: Tail,
    /// Its last frame; `None` if it has none.
    last: Option<FrameHeader>,
    locations: EntryLocations,
    waypoints: Waypoints,
}

impl Chain {
    fn at(tail: Tail, geometry: &Geometry) -> Self {
        let waypoints = Waypoints::new(geometry.journal);
        Self { end: tail, last: None, locations: EntryLocations::default(), waypoints }
    }

    fn takes(&self, frame: &FrameHeader) -> bool {
        let end = &self.end;
        let lineage = if end.recovery == frame.recovery {
            end.recovery_start == frame.recovery_start
        } else {
            end.recovery < frame.recovery && frame.recovery_start == frame.position
        };
        lineage && frame.position == end.position && frame.previous == end.previous
    }

    fn push<'a>(&mut self, frame: FrameHeader, records: impl Iterator<Item = &'a Record>) {
        self.waypoints.pass(self.end, frame.begins_life(), records);
        self.last = Some(frame);
        self.end = Tail {
            position: frame.end(),
            previous: frame.checksum,
            recovery: frame.recovery,
            recovery_start: frame.recovery_start,
        };
    }
}

impl JournalRecovery {
    /// For the disk that `superblock` describes.
    pub(crate) fn new(superblock: &Superblock) -> Self {
        Self {
            identity: Identity { cluster: superblock.cluster, store: superblock.store },
            geometry: superblock.geometry,
            tail: superblock.tail,
            prepared: superblock.prepared,
            remembered: superblock.mark,
            window: Window::at(superblock.tail.position),
            phase: Phase::Chain,
            chain: Chain::at(superblock.tail, &superblock.geometry),
            mark: superblock.mark,
            starts: BTreeMap::new(),
            damage: None,
        }
    }

    /// Start the next read or sync. To be called at the end of each step.
    pub(crate) fn pump(&mut self, io: &mut Io<'_>) {
        match self.phase {
            Phase::Chain | Phase::Search | Phase::AfterGap => {
                if self.window.end() >= self.prepared {
                    // Only an empty journal comes here: else the last read has ended the phase.
                    assert_eq!(self.prepared, self.tail.position);
                    self.phase = Phase::Syncing(io.sync());
                } else {
                    self.window.read(self.prepared, &self.geometry, io);
                }
            }
            Phase::ToSync => self.phase = Phase::Syncing(io.sync()),
            Phase::Syncing(_) => {}
        }
    }

    /// Offer a disk completion. `Ok(false)`: not mine.
    ///
    /// # Errors
    /// The journal cannot be judged; the store must stop.
    pub(crate) fn on_disk(
        &mut self,
        token: DiskToken,
        result: &DiskResult,
        sink: &mut dyn RecoverySink,
    ) -> Result<bool, JournalError> {
        if !self.window.on_read(token, result)? {
            return Ok(false);
        }
        while self.look(sink) {}
        Ok(true)
    }

    /// Offer a completed sync. If it was the one that ends recovery: what was found. The records
    /// delivered without `after_gap` are durable.
    pub(crate) fn on_synced(
        &mut self,
        ticket: SyncTicket,
        _proof: Durable,
    ) -> Option<RecoveredJournal> {
        if self.phase != Phase::Syncing(ticket) {
            return None;
        }
        let last = self.chain.end;
        let resume = last.position;
        // All of the chain is synced now, so the mark is at least its end.
        let mark = SyncedMark { synced: self.mark.synced.max(resume), ..self.mark };
        Some(RecoveredJournal {
            damage: self.damage,
            resume,
            last,
            waypoints: core::mem::take(&mut self.chain.waypoints),
            mark,
            locations: core::mem::take(&mut self.chain.locations),
        })
    }

    /// Judge the place at the window's start. False if more must be read, or nothing is left.
    fn look(&mut self, sink: &mut dyn RecoverySink) -> bool {
        let position = self.window.start;
        if position >= self.prepared {
            return self.end_of_journal(sink);
        }
        let frame = match FrameHeader::decode(self.identity, position, &self.window.bytes) {
            Ok(frame) if frame.end() <= self.prepared => Some(frame),
            Err(DecodeError::Short { needed, .. }) if position + needed as u64 <= self.prepared => {
                return false;
            }
            _ => None,
        };
        match (&self.phase, frame) {
            (Phase::Chain, Some(frame)) if self.is_next(&frame) => self.deliver(frame, sink),
            // The same place is looked at again: it may hold a frame of another lineage.
            (Phase::Chain, _) => {
                // What was prepared is zeros.
                if self.window.bytes.iter().take(SECTOR_BYTES).any(|byte| *byte != 0) {
                    probe!(TornTailCut);
                }
                if self.window.hides_a_frame() {
                    // It may have been the last, and synced, with nothing behind it that would say so. A write that
                    // a crash interrupts leaves old bytes and new ones, but hardly ever such a sector.
                    self.mark.synced = self.mark.synced.max(position + SECTOR);
                }
                self.phase = Phase::Search;
            }
            (Phase::Search, Some(frame)) => {
                self.take_mark(&frame);
                self.take_start(frame.recovery, frame.recovery_start);
                self.window.skip(u64::from(frame.len));
            }
            (Phase::AfterGap, Some(frame)) if !self.is_void(&frame) => self.deliver(frame, sink),
            (Phase::AfterGap, Some(frame)) => self.window.skip(u64::from(frame.len)),
            _ => self.window.skip(SECTOR),
        }
        true
    }

    fn is_next(&self, frame: &FrameHeader) -> bool {
        self.chain.takes(frame) && !self.is_void(frame)
    }

    /// Whether a later recovery had cut at or before this frame.
    fn is_void(&self, frame: &FrameHeader) -> bool {
        let later = frame.recovery.saturating_add(1)..;
        self.starts.range(later).any(|(_, start)| *start <= frame.position)
    }

    fn take_mark(&mut self, frame: &FrameHeader) {
        let theirs = SyncedMark { recovery: frame.recovery, synced: frame.synced };
        if theirs.recovery > self.mark.recovery {
            self.mark = theirs;
        } else if theirs.recovery == self.mark.recovery {
            self.mark.synced = self.mark.synced.max(theirs.synced);
        }
    }

    fn take_start(&mut self, recovery: u64, start: u64) {
        self.starts.insert(recovery, start);
        // A life that is older and cut no earlier makes nothing void that this one does not.
        self.starts.retain(|other, cut| *other >= recovery || *cut < start);
    }

    /// Hand on a frame's records. The frame's own checksum has been verified.
    fn deliver(&mut self, frame: FrameHeader, sink: &mut dyn RecoverySink) {
        let after_gap = self.phase == Phase::AfterGap;
        let bytes = self.window.take(u64::from(frame.len));
        if frame.begins_life() {
            sink.life_begins();
        }
        let Ok(records) = frame.records(self.identity.store, &bytes) else {
            // The frame is whole, and yet says nothing that we understand: whatever that is, it is
            // not a torn write, and must not be cut like one.
            if !after_gap {
                self.take_mark(&FrameHeader { synced: frame.end(), ..frame });
                self.phase = Phase::Search;
            }
            return;
        };
        if !after_gap {
            self.take_mark(&frame);
            self.chain.push(frame, records.iter().map(|(record, _)| record));
        }
        for (record, location) in records {
            let locations = &mut self.chain.locations;
            match &record {
                _ if after_gap => {}
                Record::Entry { range, entry } => locations.put(*range, entry.index, location),
                Record::EntryAgain { range, entry } => {
                    locations.put_again(*range, entry.index, location);
                }
                _ => {}
            }
            sink.record(record, location, after_gap);
        }
    }

    /// The window has reached the end of what was prepared. True if there is more to look at.
    fn end_of_journal(&mut self, sink: &mut dyn RecoverySink) -> bool {
        if self.phase == Phase::AfterGap {
            self.phase = Phase::ToSync;
            return false;
        }
        if self.chain.last.is_some_and(|last| self.is_void(&last)) {
            // The cut is now at an earlier place, so that this ends.
            sink.restart();
            self.chain = Chain::at(self.tail, &self.geometry);
            self.mark = self.remembered;
            self.window = Window::at(self.tail.position);
            self.phase = Phase::Chain;
            return false;
        }
        let (cut, synced) = (self.chain.end.position, self.mark.synced);
        let is_damaged = synced > cut || synced == cut && planted!(TearTakenForDamage);
        if is_damaged && !planted!(DamageTakenForTear) {
            probe!(JournalDamaged);
            self.damage = Some(Damage { position: cut, synced });
            self.take_start(self.chain.end.recovery, self.chain.end.recovery_start);
            self.window = Window::at(cut);
            self.phase = Phase::AfterGap;
        } else {
            self.phase = Phase::ToSync;
        }
        false
    }
}

/// The bytes from the place that is looked at to as far as was read.
#[derive(Debug)]
struct Window {
    start: u64,
    /// A copy of what was read, since frames cross the borders of reads.
    bytes: BytesMut,
    reading: Option<(DiskToken, u64)>,
    /// Up to here, sectors are read one by one, because one of them cannot be read.
    careful_until: u64,
    /// Those that cannot, ascending.
    unreadable: Vec<u64>,
}

impl Window {
    fn at(start: u64) -> Self {
        let bytes = BytesMut::new();
        Self { start, bytes, reading: None, careful_until: 0, unreadable: Vec::new() }
    }

    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn read(&mut self, limit: u64, geometry: &Geometry, io: &mut Io<'_>) {
        if self.reading.is_none() {
            let at = self.end();
            let most = if at < self.careful_until { SECTOR } else { READ_BYTES };
            let len = most.min(limit - at).min(ring_end(geometry, at) - at);
            self.reading = Some((io.read(journal_offset(geometry, at), len), len));
        }
    }

    /// An unreadable sector counts as one that does not verify. Whether `token` was the read.
    fn on_read(&mut self, token: DiskToken, result: &DiskResult) -> Result<bool, JournalError> {
        let Some((_, len)) = self.reading.take_if(|(mine, _)| *mine == token) else {
            return Ok(false);
        };
        match result {
            Ok(DiskOutput::Read(bytes)) if bytes.len() as u64 == len => {
                self.bytes.extend_from_slice(bytes);
            }
            Err(_) if len > SECTOR => self.careful_until = self.end() + len,
            Err(_) => {
                self.unreadable.push(self.end());
                self.bytes.resize(self.bytes.len() + SECTOR_BYTES, 0);
            }
            Ok(_) => {
                let words = "a read gave something else than was asked for".into();
                let error = crate::disk::DiskError::Io(words);
                return Err(JournalError::Disk { doing: "recovery", error });
            }
        }
        Ok(true)
    }

    /// Whether the frame that should stand at the start may be whole but for what cannot be read: its first sector, or
    /// one of those that this says are the rest of it.
    fn hides_a_frame(&self) -> bool {
        let claimed = match frame_claims(self.start, &self.bytes) {
            true => frame::claimed_len(&self.bytes),
            false => SECTOR,
        };
        let frame = self.start..self.start.saturating_add(claimed);
        self.unreadable.iter().any(|sector| frame.contains(sector))
    }

    fn skip(&mut self, len: u64) {
        self.bytes.advance(usize::try_from(len).expect("a frame at most"));
        self.start += len;
    }

    fn take(&mut self, len: u64) -> bytes::Bytes {
        self.start += len;
        self.bytes.split_to(usize::try_from(len).expect("a frame at most")).freeze()
    }
}
