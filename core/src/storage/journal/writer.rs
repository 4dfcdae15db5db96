//! The journal while the store runs: collects records into frames, writes and syncs them, reads
//! entries back.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::frame::{self, EncodedFrame, FRAME_BYTES_MAX, FrameHeader, Identity, frame_len};
use super::locations::{EntryLocations, Span};
use super::prepare::Prepare;
use super::record::{Location, Record};
use super::recovery::RecoveredJournal;
use super::waypoints::Waypoints;
use super::{EntryDamage, JournalError};
use crate::cluster::Geometry;
use crate::consensus::Entry;
use crate::disk::{DiskOutput, DiskResult, SECTOR};
use crate::hash::Checksum;
use crate::ids::{DiskToken, Incarnation, LogIndex, RangeId};
use crate::message::Life;
use crate::storage::durable::Durable;
use crate::storage::io::{Io, SyncTicket};
use crate::storage::layout::{journal_offset, ring_end};
use crate::storage::superblock::{Superblock, SuperblockWriter, SyncedMark, Tail};

/// Bytes that one read of entries spans on disk, at most, unless a single entry is longer.
const READ_SPAN_MAX: u64 = 1 << 20;

/// This part of the ring is more than any record takes, and so more than is lost where the ring ends.
const LOST_PART: u64 = 16;

/// Names a record that was appended; later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JournalTicket(pub(crate) u64);

/// What a disk completion meant to the journal.
#[derive(Debug)]
pub(crate) enum Progress {
    /// It belongs to another part.
    NotMine,
    /// It was the journal's; nothing to tell.
    Mine,
    /// A read of entries has finished.
    Entries(EntriesRead),
}

/// Who reads entries back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// The store.
    Store,
    /// Whoever will write them again.
    Storage,
}

/// Entries that were read back, each verified by its own CRC.
#[derive(Debug)]
pub(crate) struct EntriesRead {
    /// For whom.
    pub(crate) reader: Reader,
    /// Of which range.
    pub(crate) range: RangeId,
    /// The first index that was asked for.
    pub(crate) from: LogIndex,
    /// At least one entry, contiguous; or what does not verify.
    pub(crate) entries: Result<Vec<Entry>, EntryDamage>,
}

/// See the module's head. Offer it every disk completion and sync of the store, and call
/// [`Journal::pump`] at the end of each step: only that starts effects.
#[derive(Debug)]
pub(crate) struct Journal {
    identity: Identity,
    geometry: Geometry,
    superblock: SuperblockWriter,
    /// The superblock that carries this life's incarnation, and with it the memory of recovery.
    start_sequence: u64,
    start_proof: Option<Durable>,
    prepare: Prepare,
    /// This life's recovery number, and where it cut the journal.
    recovery: u64,
    recovery_start: u64,
    /// The journal was damaged: the first record of this life must say so.
    suspect_first: bool,
    /// Where the next frame goes, and what it follows.
    head: Tail,
    /// Where the journal begins, as all copies of the superblock say: what is before may be written over.
    tail: Tail,
    /// The tail that the superblock of this sequence has.
    next_tail: Option<(u64, Tail)>,
    /// Frames at which it may begin.
    waypoints: Waypoints,
    /// All below is synced.
    synced: u64,
    /// Written or being written, not yet synced: a frame, or a closing mark, or a mark and a frame.
    in_flight: VecDeque<InFlight>,
    /// The last frame of this life (if any) is a closing mark.
    closed: bool,
    /// Records that no frame has taken yet. Their number is the caller's to bound.
    pending: VecDeque<Record>,
    pending_bytes: usize,
    last_ticket: JournalTicket,
    durable_ticket: JournalTicket,
    /// Where entries stand that a frame has taken.
    locations: EntryLocations,
    /// The lowest entry of each range that waits: from there on `locations` is out of date.
    waiting_from: BTreeMap<RangeId, LogIndex>,
    /// Entries that are being written again. They are read where they stood until all of them are
    /// durable.
    again: Option<Again>,
    reads: BTreeMap<DiskToken, EntryRead>,
}

#[derive(Debug)]
struct InFlight {
    start: u64,
    end: u64,
    /// Of the last record in it or before it.
    ticket: JournalTicket,
    closing: bool,
    state: FrameState,
}

#[derive(Debug, PartialEq, Eq)]
enum FrameState {
    Writing(DiskToken),
    Written,
    Syncing(SyncTicket),
}

/// See [`Journal::again`].
#[derive(Debug)]
struct Again {
    /// Of the last one's record.
    ticket: JournalTicket,
    range: RangeId,
    /// Where they will stand, as far as frames have taken them.
    places: Vec<(LogIndex, Location)>,
}

/// A read in flight: which entries stand where in the span that begins at `start`.
#[derive(Debug)]
struct EntryRead {
    reader: Reader,
    range: RangeId,
    from: LogIndex,
    start: u64,
    places: Vec<Location>,
}

impl Journal {
    /// Begin a life. Records may be appended at once; the first frame is written when the
    /// superblock with the raised incarnation is durable.
    ///
    /// After damage the first records to be appended must be [`Record::Suspect`], before the first
    /// [`Self::pump`].
    ///
    /// `at_least`: what this life's incarnation must not be below. `nonce`: drawn for this life.
    pub(crate) fn start(
        mut superblock: SuperblockWriter,
        recovered: RecoveredJournal,
        at_least: Incarnation,
        nonce: u64,
    ) -> Self {
        let found = *superblock.wanted();
        let start_sequence = superblock.update(|superblock| {
            superblock.incarnation = Incarnation(superblock.incarnation.0 + 1).max(at_least);
            superblock.mark = recovered.mark;
            superblock.lives.rotate_right(1);
            superblock.lives[0] = Life { incarnation: superblock.incarnation, nonce };
        });
        let incarnation = superblock.wanted().incarnation;
        assert!(recovered.resume <= found.prepared);
        assert!(recovered.mark.synced >= recovered.resume);
        assert_eq!(recovered.resume, recovered.last.position);
        Self {
            identity: Identity { cluster: found.cluster, store: found.store },
            geometry: found.geometry,
            superblock,
            start_sequence,
            start_proof: None,
            prepare: Prepare::new(found.prepared),
            // Never used before, whether or not a frame of that life was seen.
            recovery: incarnation.0.max(recovered.mark.recovery + 1),
            recovery_start: recovered.resume,
            suspect_first: recovered.damage.is_some(),
            head: recovered.last,
            tail: found.tail,
            next_tail: None,
            waypoints: recovered.waypoints,
            synced: recovered.resume,
            in_flight: VecDeque::new(),
            closed: true,
            pending: VecDeque::new(),
            pending_bytes: 0,
            last_ticket: JournalTicket::default(),
            durable_ticket: JournalTicket::default(),
            locations: recovered.locations,
            waiting_from: BTreeMap::new(),
            again: None,
            reads: BTreeMap::new(),
        }
    }

    /// This life's incarnation, and the proof that it is durable, once it is: no sooner may the
    /// store speak to anybody.
    pub(crate) fn incarnation(&self) -> (Incarnation, Option<Durable>) {
        (self.superblock.wanted().incarnation, self.start_proof)
    }

    /// What the superblock says, or will say when it is written next.
    pub(crate) fn superblock(&self) -> &Superblock {
        self.superblock.wanted()
    }

    /// Ask for another superblock. It is durable when [`Self::superblock_durable`] has come to the
    /// number that is returned.
    pub(crate) fn change_superblock(&mut self, change: impl FnOnce(&mut Superblock)) -> u64 {
        self.superblock.update(change)
    }

    /// Sequence number up to which superblocks are durable.
    pub(crate) fn superblock_durable(&self) -> u64 {
        self.superblock.durable_sequence()
    }

    /// Add a record behind all others. It is durable when [`Self::on_synced`] reports its ticket or
    /// a greater one.
    pub(crate) fn append(&mut self, record: Record) -> JournalTicket {
        let is_suspect = matches!(record, Record::Suspect { .. });
        assert!(is_suspect || !self.suspect_first, "a damaged journal begins with suspicion");
        self.suspect_first = false;
        if let Record::Entry { range, entry } = &record {
            // What it replaces must not be read any more; its own place is not known yet.
            let from = self.waiting_from.entry(*range).or_insert(entry.index);
            *from = entry.index.min(*from);
        }
        self.pending_bytes += record.len_bytes();
        self.pending.push_back(record);
        self.last_ticket.0 += 1;
        self.last_ticket
    }

    /// Write entries again that stand at the end of a range's log; when that is durable, they stand
    /// there. Only one such bundle may be under way.
    ///
    /// # Panics
    /// If another bundle is, there are none, or something waits that replaces them.
    pub(crate) fn append_again(&mut self, range: RangeId, entries: Vec<Entry>) -> JournalTicket {
        assert!(self.again.is_none() && !entries.is_empty(), "one bundle at a time");
        assert!(!self.waiting_from.contains_key(&range), "the log is in frames");
        let mut ticket = self.last_ticket;
        for entry in entries {
            ticket = self.append(Record::EntryAgain { range, entry });
        }
        self.again = Some(Again { ticket, range, places: Vec::new() });
        ticket
    }

    /// Whether a bundle is under way.
    pub(crate) fn is_writing_again(&self) -> bool {
        self.again.is_some()
    }

    /// The end of a log after `index`, if all of it is in frames.
    pub(crate) fn span_after(&self, range: RangeId, index: LogIndex) -> Option<Span> {
        let waits = self.waiting_from.contains_key(&range);
        self.locations.span_after(range, index).filter(|_| !waits)
    }

    /// Bytes that may still be appended. New data is to be refused before this falls below the
    /// store's `journal_reserve`; each record costs up to its length, and each step up to two
    /// sectors; where the ring ends, up to a frame is lost. At 0 the store stops
    /// ([`JournalError::Full`]), unless a new tail is on its way.
    pub(crate) fn free_bytes(&self) -> u64 {
        let (head, limit) = (self.head.position, self.limit());
        let pending = frame_len(self.pending_bytes) as u64;
        let crosses = ring_end(&self.geometry, head) < limit;
        let lost = if crosses { self.geometry.journal / LOST_PART } else { 0 };
        limit.saturating_sub(head + pending + SECTOR + lost.min(FRAME_BYTES_MAX as u64))
    }

    /// No frame may reach beyond: the space is in use, or not prepared for as a whole piece.
    fn limit(&self) -> u64 {
        let end = self.tail.position + self.geometry.journal;
        end - end % self.geometry.journal_piece
    }

    /// Bytes of the ring.
    pub(crate) fn ring_bytes(&self) -> u64 {
        self.geometry.journal
    }

    /// Where the next frame goes: no record that waits will stand before it.
    pub(crate) fn head(&self) -> u64 {
        self.head.position
    }

    /// Where the journal begins, or will as soon as the superblock is written.
    pub(crate) fn tail(&self) -> u64 {
        self.next_tail.map_or(self.tail, |(_, tail)| tail).position
    }

    /// What stands before this may be written over.
    pub(crate) fn given_up(&self) -> u64 {
        self.tail.position
    }

    /// Bytes that would be given up now if nothing were needed before `needed`: none while something
    /// before is being read, or the last new tail is on its way.
    pub(crate) fn gain_before(&self, needed: u64) -> u64 {
        self.tail_before(needed).map_or(0, |tail| tail.position - self.tail.position)
    }

    fn tail_before(&self, needed: u64) -> Option<Tail> {
        let reads = self.reads.values().map(|read| read.start);
        let tail = self.waypoints.last_before(reads.fold(needed, u64::min))?;
        let is_new = self.next_tail.is_none() && tail.position > self.tail.position;
        is_new.then_some(tail)
    }

    /// The journal is not needed before `needed`, which is below what is synced. Its space is used
    /// again when the superblock says so in all copies.
    pub(crate) fn give_up_before(&mut self, needed: u64) {
        assert!(needed <= self.synced, "a checkpoint is synced before the journal begins at it");
        let Some(tail) = self.tail_before(needed) else { return };
        let mark = SyncedMark { recovery: self.recovery, synced: self.synced };
        let sequence = self.superblock.update(|superblock| {
            superblock.tail = tail;
            // If nothing of what follows were readable, that would still be known for damage.
            superblock.mark = mark;
        });
        self.next_tail = Some((sequence, tail));
        if planted!(TailMovedBeforeSuperblock) {
            self.tail = tail;
            self.waypoints.forget_before(tail.position);
        }
    }

    /// Entries of a range up to `through` are not needed in memory any more.
    pub(crate) fn forget_entries(&mut self, range: RangeId, through: LogIndex) {
        self.locations.forget_through(range, through);
    }

    /// Entries from this one on are not of the log.
    pub(crate) fn truncate_entries(&mut self, range: RangeId, from: LogIndex) {
        self.locations.truncate(range, from);
    }

    /// The entries of a log are void: another state has taken its place.
    pub(crate) fn forget_log(&mut self, range: RangeId) {
        self.locations.forget_all(range);
    }

    /// Where the first known entry after `index` stands.
    pub(crate) fn first_entry_after(&self, range: RangeId, index: LogIndex) -> Option<u64> {
        self.locations.first_after(range, index).map(|place| place.position)
    }

    /// The last known entry that stands before `position`.
    pub(crate) fn last_entry_before(&self, range: RangeId, position: u64) -> Option<LogIndex> {
        self.locations.last_before(range, position)
    }

    /// All below this journal position is synced. To be told to peers in hello and traffic; a peer
    /// that remembers a higher one than we start with knows that this disk was turned back.
    pub(crate) fn synced_position(&self) -> u64 {
        self.synced
    }

    /// Bytes that were appended and are not in a frame yet.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Start whatever can be started. To be called at the end of each step.
    ///
    /// # Errors
    /// [`JournalError::Full`]: the store must stop.
    pub(crate) fn pump(&mut self, io: &mut Io<'_>) -> Result<(), JournalError> {
        assert!(!self.suspect_first, "a damaged journal begins with suspicion");
        self.superblock.pump(io);
        if self.start_proof.is_none() {
            return Ok(());
        }
        self.pump_prepare(io);
        self.write_frame(io)?;
        self.sync_frames(io);
        // Preparing may just have asked for a new superblock.
        self.superblock.pump(io);
        Ok(())
    }

    /// Offer a disk completion.
    ///
    /// # Errors
    /// A failed write: the store must stop.
    pub(crate) fn on_disk(
        &mut self,
        token: DiskToken,
        result: &DiskResult,
    ) -> Result<Progress, JournalError> {
        let fatal = |doing| move |error| JournalError::Disk { doing, error };
        if let Some(read) = self.reads.remove(&token) {
            return Ok(Progress::Entries(self.finish_read(read, result)));
        }
        if self.superblock.on_disk(token, result).map_err(fatal("writing the superblock"))? {
            return Ok(Progress::Mine);
        }
        let writing = FrameState::Writing(token);
        if let Some(frame) = self.in_flight.iter_mut().find(|frame| frame.state == writing) {
            result.as_ref().map_err(|error| fatal("writing a frame")(error.clone()))?;
            frame.state = FrameState::Written;
            return Ok(Progress::Mine);
        }
        if self.prepare.on_written(token) {
            result.as_ref().map_err(|error| fatal("preparing a piece")(error.clone()))?;
            return Ok(Progress::Mine);
        }
        Ok(Progress::NotMine)
    }

    /// Offer a completed sync. If it makes records durable: the ticket up to which (inclusive) all
    /// are, with the proof.
    pub(crate) fn on_synced(
        &mut self,
        ticket: SyncTicket,
        proof: Durable,
    ) -> Option<(JournalTicket, Durable)> {
        if self.superblock.on_synced(ticket, proof) {
            let durable = self.superblock.durable_sequence();
            if durable >= self.start_sequence {
                self.start_proof = Some(proof);
            }
            if let Some((_, tail)) = self.next_tail.take_if(|(sequence, _)| *sequence <= durable) {
                self.tail = tail;
                self.waypoints.forget_before(tail.position);
            }
            return None;
        }
        if self.prepare.on_synced(ticket) {
            return None;
        }
        let syncing = FrameState::Syncing(ticket);
        let covered = self.in_flight.iter().rposition(|frame| frame.state == syncing)?;
        let last = self.in_flight.drain(..=covered).next_back().expect("it was found");
        assert!(last.end > self.synced && last.end <= self.head.position);
        self.synced = last.end;
        let progress = last.ticket > self.durable_ticket;
        self.durable_ticket = last.ticket;
        if let Some(again) = self.again.take_if(|again| again.ticket <= last.ticket) {
            for (index, place) in again.places {
                self.locations.move_to(again.range, index, place);
            }
        }
        progress.then_some((last.ticket, proof))
    }

    fn pump_prepare(&mut self, io: &mut Io<'_>) {
        let waiting = frame_len(self.pending_bytes.min(FRAME_BYTES_MAX)) as u64;
        // Behind the end of the ring, if it does not fit before.
        let end = ring_end(&self.geometry, self.head.position);
        let start = if self.head.position + waiting > end { end } else { self.head.position };
        let limit = self.limit();
        self.prepare.pump(start + waiting, limit, &self.geometry, &mut self.superblock, io);
    }

    /// A frame of all that waits, or a closing mark, if it is time for one.
    fn write_frame(&mut self, io: &mut Io<'_>) -> Result<(), JournalError> {
        if self.pending.is_empty() {
            let idle = self.in_flight.is_empty() && !self.closed;
            if idle && self.head.position + SECTOR <= self.prepare.prepared() {
                let mark = frame::encode(self.identity, self.next_header(), &[]);
                self.write(mark, &[], io);
            }
            return Ok(());
        }
        if !self.may_write() {
            return Ok(());
        }
        let end = ring_end(&self.geometry, self.head.position);
        let left = end - self.head.position;
        let few = buggify!(SmallFrames);
        let (mut count, mut len) = self.next_frame(left, few);
        if count == 0 {
            let both = left + self.next_frame(self.geometry.journal, few).1;
            if end > self.prepare.prepared() || self.head.position + both > self.limit() {
                return self.wait_for_room(both);
            }
            probe!(RingWrapped);
            // A frame does not cross the end of the ring: what is left of it is filled.
            let left = u32::try_from(left).expect("less than a frame");
            self.write(frame::filler(self.identity, self.next_header(), left), &[], io);
            if !self.may_write() {
                return Ok(());
            }
            (count, len) = self.next_frame(self.geometry.journal, few);
        }
        if self.head.position + len > self.prepare.prepared() {
            return self.wait_for_room(len);
        }
        let records: Vec<Record> = self.pending.drain(..count).collect();
        self.pending_bytes -= records.iter().map(Record::len_bytes).sum::<usize>();
        let encoded = frame::encode(self.identity, self.next_header(), &records);
        self.write(encoded, &records, io);
        Ok(())
    }

    /// Whether a frame with records may be written: beside nothing but a closing mark or a filler, and
    /// the first one of a life alone.
    fn may_write(&self) -> bool {
        let only_closing = self.in_flight.iter().all(|frame| frame.closing);
        let proven = self.in_flight.is_empty() || self.synced > self.recovery_start;
        only_closing && proven && self.in_flight.len() < 2
    }

    /// What is next has no place yet.
    ///
    /// # Errors
    /// It will not get one: see [`Self::free_bytes`].
    fn wait_for_room(&self, needed: u64) -> Result<(), JournalError> {
        let free = self.limit().saturating_sub(self.head.position);
        if needed > free && self.next_tail.is_none() {
            return Err(JournalError::Full { needed, free });
        }
        Ok(())
    }

    /// How many of the waiting records the next frame takes, and its length, if it may have `most`
    /// bytes, and if `few` one record.
    ///
    /// # Panics
    /// If a record fits into no frame of this ring.
    fn next_frame(&self, most: u64, few: bool) -> (usize, u64) {
        let limit = usize::try_from(most).unwrap_or(usize::MAX).min(FRAME_BYTES_MAX);
        let mut bytes = 0;
        let mut count = 0;
        for record in &self.pending {
            if frame_len(bytes + record.len_bytes()) > limit || (few && count > 0) {
                break;
            }
            bytes += record.len_bytes();
            count += 1;
        }
        assert!(count > 0 || most < self.geometry.journal, "a single record always fits");
        (count, frame_len(bytes) as u64)
    }

    /// The header of the next frame, but for what its records decide.
    fn next_header(&self) -> FrameHeader {
        FrameHeader {
            position: self.head.position,
            len: 0,
            records: 0,
            previous: self.head.previous,
            recovery: self.recovery,
            recovery_start: self.recovery_start,
            synced: self.synced,
            checksum: Checksum::default(),
        }
    }

    fn write(&mut self, encoded: EncodedFrame, records: &[Record], io: &mut Io<'_>) {
        for (record, location) in records.iter().zip(&encoded.locations) {
            match record {
                Record::Entry { range, entry } => {
                    self.locations.put(*range, entry.index, *location);
                }
                Record::EntryAgain { entry, .. } => {
                    let again = self.again.as_mut().expect("a bundle is known until it is durable");
                    again.places.push((entry.index, *location));
                }
                _ => {}
            }
        }
        self.waiting_from.clear();
        for record in &self.pending {
            if let Record::Entry { range, entry } = record {
                let from = self.waiting_from.entry(*range).or_insert(entry.index);
                *from = entry.index.min(*from);
            }
        }
        let (start, end) = (encoded.header.position, encoded.header.end());
        assert!(end <= self.prepare.prepared());
        // That a life's first frame was synced is what any later one proves: it stood alone.
        assert!(self.in_flight.is_empty() || self.synced > self.recovery_start);
        let token = io.write(journal_offset(&self.geometry, start), encoded.parts);
        let closing = records.is_empty();
        let ticket = JournalTicket(self.last_ticket.0 - self.pending.len() as u64);
        let state = FrameState::Writing(token);
        self.in_flight.push_back(InFlight { start, end, ticket, closing, state });
        self.waypoints.pass(self.head, encoded.header.begins_life(), records.iter());
        self.head = Tail {
            position: end,
            previous: encoded.header.checksum,
            recovery: self.recovery,
            recovery_start: self.recovery_start,
        };
        self.closed = closing;
    }

    /// Ask for a sync when all in flight is written and something of it is not covered yet.
    fn sync_frames(&mut self, io: &mut Io<'_>) {
        let writing = |frame: &InFlight| matches!(frame.state, FrameState::Writing(_));
        let written = |frame: &InFlight| frame.state == FrameState::Written;
        if self.in_flight.iter().any(written) && !self.in_flight.iter().any(writing) {
            let ticket = io.sync();
            for frame in self.in_flight.iter_mut().filter(|frame| written(frame)) {
                frame.state = FrameState::Syncing(ticket);
            }
        }
        self.remember_synced();
    }

    /// Once this life's first frame is synced, whatever superblock is written next says how far.
    fn remember_synced(&mut self) {
        if self.synced > self.recovery_start {
            let mark = SyncedMark { recovery: self.recovery, synced: self.synced };
            self.superblock.note(|superblock| superblock.mark = mark);
        }
    }

    /// Where an entry stands, if it was written (or is being written) and nothing that waits
    /// replaces it.
    pub(super) fn location(&self, range: RangeId, index: LogIndex) -> Option<Location> {
        let waits = self.waiting_from.get(&range).is_some_and(|from| index >= *from);
        if waits { None } else { self.locations.at(range, index) }
    }

    /// Start reading entries from `from` on: as many as have no more than `bytes_max` bytes and lie
    /// near each other, at least one. False if the first is not there to be read: unknown, or its
    /// frame is still being written.
    pub(crate) fn read_entries(
        &mut self,
        range: RangeId,
        from: LogIndex,
        bytes_max: u64,
        reader: Reader,
        io: &mut Io<'_>,
    ) -> bool {
        let places = self.places(range, from, bytes_max);
        let (Some(first), Some(last)) = (places.first(), places.last()) else { return false };
        let start = first.position - first.position % SECTOR;
        let len = last.end().next_multiple_of(SECTOR) - start;
        let token = io.read(journal_offset(&self.geometry, start), len);
        self.reads.insert(token, EntryRead { reader, range, from, start, places });
        true
    }

    fn places(&self, range: RangeId, from: LogIndex, bytes_max: u64) -> Vec<Location> {
        let writing = |frame: &&InFlight| matches!(frame.state, FrameState::Writing(_));
        let head = self.head.position;
        let readable = self.in_flight.iter().find(writing).map_or(head, |frame| frame.start);
        let mut places: Vec<Location> = Vec::new();
        let mut bytes = 0;
        let mut index = from;
        while let Some(place) = self.location(range, index).filter(|p| p.end() <= readable) {
            bytes += u64::from(place.len);
            let start = places.first().map_or(place.position, |first| first.position);
            // Positions ascend with the index: what replaces an entry forgets those after it.
            let too_much = bytes > bytes_max
                || place.end() - start > READ_SPAN_MAX
                || place.end() > ring_end(&self.geometry, start);
            if too_much && !places.is_empty() {
                break;
            }
            places.push(place);
            index = index.next();
        }
        places
    }

    fn finish_read(&self, read: EntryRead, result: &DiskResult) -> EntriesRead {
        let EntryRead { reader, range, from, start, places } = read;
        let mut index = from;
        let mut entries = Vec::with_capacity(places.len());
        for place in places {
            match self.read_entry(range, index, start, place, result) {
                Ok(entry) => entries.push(entry),
                Err(reason) => {
                    let position = place.position;
                    let damage = EntryDamage { range, index, position, reason };
                    return EntriesRead { reader, range, from, entries: Err(damage) };
                }
            }
            index = index.next();
        }
        EntriesRead { reader, range, from, entries: Ok(entries) }
    }

    fn read_entry(
        &self,
        range: RangeId,
        index: LogIndex,
        start: u64,
        place: Location,
        result: &DiskResult,
    ) -> Result<Entry, String> {
        let bytes = match result {
            Ok(DiskOutput::Read(bytes)) => bytes,
            Ok(_) => return Err("the disk answered a read with something else".into()),
            Err(error) => return Err(error.to_string()),
        };
        let record = usize::try_from(place.position - start)
            .ok()
            .filter(|at| *at <= bytes.len())
            .map_or_else(Bytes::new, |at| bytes.slice(at..));
        match Record::decode(self.identity.store, place.position, &record) {
            Ok(Record::Entry { range: r, entry } | Record::EntryAgain { range: r, entry })
                if (r, entry.index) == (range, index) =>
            {
                Ok(entry)
            }
            Ok(_) => Err("another record stands there".into()),
            Err(error) => Err(error.to_string()),
        }
    }
}
