//! Giving the space of freed chunks back: segments that hold nothing any more are free, and of those that
//! hold little the rest is moved.
//!
//! How much of each segment is in the chunk index is counted: once after each start (and each rebuild of
//! the index) by going through the index in order, and from then on with every change. What stands before
//! the place that counting has come to is kept up to date; what stands behind it is seen when it comes
//! there. Until it is through, nothing is freed.
//!
//! A segment is moved by scanning it, and writing each chunk that the index says is there once more, to a
//! segment that takes nothing else. One segment and one chunk at a time: clients go first. Space is
//! always gained, since only segments are moved of which at most half is in use.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::codec::Wire;
use crate::disk::{DiskResult, SECTOR};
use crate::ids::{BlobId, BlobSequence, ChunkId, SessionId};
use crate::message::ChunkError;
use crate::rows::{Miss, Rows};

use super::super::io::Io;
use super::super::segment::allocator::SegmentState;
use super::super::segment::chunk::{RECORD_BYTES_MAX, header_bytes_of};
use super::super::segment::chunk_store::{chunk_key, chunk_of_key};
use super::super::segment::edit::{ChunkRecord, Edit, TableId};
use super::super::segment::layout::{Layout, SegmentId};
use super::super::segment::scan::SegmentScan;
use super::chunks::{CHUNK_KEYS_END, Job, Looked};
use super::{DiskPurpose, EditPurpose, Output, Shelf};

/// Rows that are counted at a time.
const COUNT_ROWS: usize = 128;

/// Chunks of a segment that is being emptied that are looked up in one step.
const MOVE_STEPS: usize = 128;

/// Most bytes that a scan of a segment has in memory.
pub(super) const SCAN_BYTES_MAX: u64 = RECORD_BYTES_MAX;

/// What has been given back since the store was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reclaimed {
    /// Segments that held chunks, and are free.
    pub(crate) segments: u64,
    /// Chunks that were moved for it.
    pub(crate) chunks: u64,
    /// Bytes of theirs.
    pub(crate) bytes: u64,
}

/// What of a segment is in the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    chunks: u64,
    /// What their records take, with the shortest headers: two thirds of the truth at least, so that a
    /// segment that is full is never taken for one of which little is in use.
    bytes: u64,
}

/// Bytes that a record takes in its segment, at least.
fn bytes_of(record: &ChunkRecord) -> u64 {
    let (header, _) = header_bytes_of(record.checksums.len());
    header + u64::from(record.length).next_multiple_of(SECTOR)
}

/// How far counting has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Counted {
    #[default]
    Nothing,
    /// All before this chunk.
    Before(ChunkId),
    All,
}

/// A segment that is being emptied.
#[derive(Debug)]
struct Move {
    segment: SegmentId,
    /// Until it is through.
    scan: Option<SegmentScan>,
    reading: bool,
    /// Where its chunks stand, as the scan found them.
    rest: VecDeque<(ChunkId, u32)>,
    /// The one that is being moved.
    moving: Option<(ChunkId, u32)>,
    /// Its write waits for a segment.
    waiting: Option<Job>,
    /// Something could not be moved; it is not tried again before the next start.
    failed: bool,
}

/// How full segments are, and what is done about it.
#[derive(Debug)]
pub(super) struct Reclaim {
    /// Bytes in use up to which a segment is emptied.
    light_bytes: u64,
    counted: Counted,
    /// Counting waits for a block.
    fetching: bool,
    used: BTreeMap<SegmentId, Used>,
    /// Segments of which little is in use, by how much.
    light: BTreeSet<(u64, SegmentId)>,
    /// Sealed segments of which nothing is in the index.
    /// With the number of changes of chunks when that was looked at first.
    empty: BTreeMap<SegmentId, Option<u64>>,
    /// Those of them about which the journal is being told: nothing of them is looked at any more.
    freeing: BTreeSet<SegmentId>,
    moving: Option<Move>,
    /// Segments that could not be emptied: something in them does not verify.
    stuck: BTreeSet<SegmentId>,
    /// There was no segment for what is moved with so many free; it waits for more.
    no_room: Option<usize>,
    /// The journal has no room to spare: nothing is moved, and nothing freed but when segments are scarce.
    waits: bool,
    /// It has so little that nothing is freed then, either.
    stops: bool,
    pub(super) done: Reclaimed,
}

impl Reclaim {
    /// Nothing is known yet.
    pub(super) fn new(layout: &Layout) -> Self {
        Self {
            light_bytes: match buggify!(EagerMoves) {
                false => (layout.segment - SECTOR) / 2,
                true => (layout.segment - SECTOR) / 4 * 3,
            },
            counted: Counted::Nothing,
            fetching: false,
            used: BTreeMap::new(),
            light: BTreeSet::new(),
            empty: BTreeMap::new(),
            freeing: BTreeSet::new(),
            moving: None,
            stuck: BTreeSet::new(),
            no_room: None,
            waits: false,
            stops: false,
            done: Reclaimed::default(),
        }
    }

    fn is_counted(&self, chunk: ChunkId) -> bool {
        match self.counted {
            Counted::Nothing => false,
            Counted::Before(next) => chunk < next,
            Counted::All => true,
        }
    }

    /// See [`Shelf::spare_journal`].
    pub(super) fn waits_for_journal(&self) -> bool {
        self.waits
    }

    /// A record is in the index.
    pub(super) fn added(&mut self, chunk: ChunkId, record: &ChunkRecord) {
        if self.is_counted(chunk) {
            self.count(record);
        }
    }

    fn count(&mut self, record: &ChunkRecord) {
        let used = self.used.entry(record.segment).or_default();
        self.light.remove(&(used.bytes, record.segment));
        used.chunks += 1;
        used.bytes += bytes_of(record);
        if used.bytes <= self.light_bytes {
            self.light.insert((used.bytes, record.segment));
        }
        self.empty.remove(&record.segment);
    }

    /// A record is no longer in the index.
    pub(super) fn removed(&mut self, chunk: ChunkId, record: &ChunkRecord) {
        if !self.is_counted(chunk) {
            return;
        }
        let used = self.used.get_mut(&record.segment).expect("it was counted");
        self.light.remove(&(used.bytes, record.segment));
        used.chunks -= 1;
        used.bytes -= bytes_of(record);
        // What did not verify may have been this.
        self.stuck.remove(&record.segment);
        if used.chunks == 0 || (used.chunks == 1 && planted!(SegmentFreedWithChunk)) {
            self.used.remove(&record.segment);
            self.empty.insert(record.segment, None);
        } else if used.bytes <= self.light_bytes {
            self.light.insert((used.bytes, record.segment));
        }
    }

    /// A segment takes no more.
    pub(super) fn sealed(&mut self, segment: SegmentId) {
        if self.counted == Counted::All && !self.used.contains_key(&segment) {
            self.empty.insert(segment, None);
        }
    }

    /// Whether the chunk that stands there is the one that is being moved, and its write does not wait.
    pub(super) fn moves(&self, segment: SegmentId, chunk: (ChunkId, u32)) -> bool {
        self.moving.as_ref().is_some_and(|it| {
            it.segment == segment && it.moving == Some(chunk) && it.waiting.is_none()
        })
    }

    /// The write of a chunk that is moved finds no segment open for it.
    pub(super) fn wait_for_room(&mut self, job: Job) {
        let moving = self.moving.as_mut().expect("it is this one's");
        moving.waiting = Some(job);
    }

    /// What came of moving a chunk. If it is not where it was any more, that is as good.
    pub(super) fn moved(&mut self, error: Option<ChunkError>) {
        let Some(moving) = &mut self.moving else { return };
        moving.moving = None;
        match error {
            None => {
                probe!(ChunkMoved);
                self.done.chunks += 1;
            }
            Some(ChunkError::Missing) => probe!(ChunkMovedInVain),
            Some(_) => moving.failed = true,
        }
    }

    /// A window of the segment was read.
    pub(super) fn was_read(&mut self, result: &DiskResult) {
        // Given up meanwhile, if it is not there.
        if let Some(Move { scan: Some(scan), reading, .. }) = &mut self.moving {
            *reading = false;
            scan.on_read(result);
        }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.moving.as_ref().map_or(0, |moving| if moving.reading { SCAN_BYTES_MAX } else { 0 })
    }
}

impl Shelf {
    /// What has been given back since the start.
    pub(crate) fn reclaimed(&self) -> Reclaimed {
        self.reclaim.done
    }

    /// Go on with work that no event brings on, a bounded piece of it. To be called from time to time.
    pub(crate) fn housekeep(&mut self, io: &mut Io<'_>, out: &mut Vec<Output>) {
        self.drive(io, out);
    }

    /// Whether nothing more is to be freed, moved or merged for now, since the journal has no room to spare; what is under
    /// way ends. While segments are scarce, freeing and merging go on: without segments nothing can be written out, and
    /// the journal not be shortened. Freeing stops all the same once the journal is `nearly_full`.
    /// Who waits goes on with the next [`Self::housekeep`].
    pub(crate) fn spare_journal(&mut self, spare: bool, nearly_full: bool) {
        if spare && !self.reclaim.waits {
            probe!(ReclaimWaitsForJournal);
        }
        (self.reclaim.waits, self.reclaim.stops) = (spare, nearly_full);
    }

    /// Whether freeing waits, chunks and segments alike.
    pub(super) fn freeing_waits(&self) -> bool {
        self.reclaim.waits && (self.reclaim.stops || !self.is_scarce())
    }

    /// Whether there is something to do that no event brings on: counting, or chunks of a segment that are
    /// to be looked up.
    pub(crate) fn wants_housekeeping(&self) -> bool {
        let Reclaim { counted, fetching, moving, .. } = &self.reclaim;
        let counts = *counted != Counted::All && !fetching;
        let looks = !self.reclaim.waits
            && moving.as_ref().is_some_and(|moving| {
                !moving.reading && moving.moving.is_none() && moving.waiting.is_none()
            });
        (counts || looks) && self.rebuild.is_none()
    }

    /// Whether nothing is left to give back.
    #[cfg(test)]
    pub(super) fn reclaim_is_idle(&self) -> bool {
        let Reclaim { counted, empty, moving, .. } = &self.reclaim;
        *counted == Counted::All && empty.is_empty() && moving.is_none()
    }

    /// The index is not what it was: count anew, once it is rebuilt.
    pub(super) fn count_again(&mut self) {
        let moving = self.reclaim.moving.take();
        if let Some(job) = moving.and_then(|moving| moving.waiting) {
            self.give_up_write(job);
        }
        let freeing = std::mem::take(&mut self.reclaim.freeing);
        let Reclaim { waits, stops, done, .. } = self.reclaim;
        self.reclaim = Reclaim { freeing, waits, stops, done, ..Reclaim::new(&self.layout) };
    }

    pub(super) fn drive_reclaim(&mut self, io: &mut Io<'_>, out: &mut Vec<Output>) {
        if self.rebuild.is_some() {
            return;
        }
        match self.reclaim.counted {
            Counted::Nothing | Counted::Before(_) if self.reclaim.fetching => {}
            Counted::Nothing | Counted::Before(_) => self.count_on(Vec::new(), io),
            Counted::All => {
                if !self.freeing_waits() {
                    self.free_empty(out);
                }
                if !self.reclaim.waits {
                    self.drive_move(io, out);
                }
            }
        }
    }

    /// Count some rows, until one is not in memory. `pins` are what was fetched for it.
    pub(super) fn count_on(&mut self, mut pins: Vec<Miss>, io: &mut Io<'_>) {
        const FIRST: ChunkId = ChunkId {
            blob: BlobId { session: SessionId(0), sequence: BlobSequence(0) },
            number: 0,
        };
        let (mut next, rows) = match self.reclaim.counted {
            // What was fetched is of an index that is gone.
            _ if self.rebuild.is_some() => (FIRST, 0),
            Counted::Nothing => (FIRST, COUNT_ROWS),
            Counted::Before(next) => (next, COUNT_ROWS),
            Counted::All => (FIRST, 0),
        };
        self.reclaim.fetching = false;
        let before = self.reclaim.counted;
        let mut missed = None;
        for _ in 0..rows {
            let row = match self.rows(TableId::Chunks).seek(&chunk_key(next), &CHUNK_KEYS_END) {
                Ok(row) => row,
                Err(miss) => {
                    missed = Some(miss);
                    break;
                }
            };
            let Some(row) = row else {
                self.reclaim.counted = Counted::All;
                self.all_counted();
                break;
            };
            let Some(chunk) = chunk_of_key(&row.key) else {
                unreachable!("keys of the index are ids")
            };
            if let Ok(record) = ChunkRecord::from_bytes(&row.value) {
                self.reclaim.count(&record);
            }
            next = after(chunk);
            self.reclaim.counted = Counted::Before(next);
        }
        // One row may need blocks of several runs, all of them at once.
        if missed.is_none() || self.reclaim.counted != before {
            pins.drain(..).for_each(|miss| self.cache.release(miss));
        }
        if let Some(miss) = missed {
            self.reclaim.fetching = true;
            self.count_missed(miss, pins, io);
        }
    }

    /// Segments that are not named by any row are empty.
    fn all_counted(&mut self) {
        let sealed = self.segments.chunk_segments().filter(|(_, (_, open))| !open);
        let empty = sealed.map(|(segment, _)| segment);
        let Reclaim { used, freeing, .. } = &self.reclaim;
        let is_empty =
            |segment: &SegmentId| !used.contains_key(segment) && !freeing.contains(segment);
        self.reclaim.empty = empty.filter(is_empty).map(|segment| (segment, None)).collect();
    }

    /// Free segments that hold nothing and that nobody reads. Not before the journal has been given what freed their
    /// chunks: a crash between the two would leave rows that point to a free segment, and to what comes there next.
    fn free_empty(&mut self, out: &mut Vec<Output>) {
        let (given, changes) = self.chunks.changes();
        for (segment, seen) in std::mem::take(&mut self.reclaim.empty) {
            let seen = seen.unwrap_or(changes);
            let generation = match self.segments.state(segment) {
                Some(SegmentState::Chunks { generation, open: false }) => generation,
                // Once it is sealed, it comes here again.
                _ => continue,
            };
            let moving = self.reclaim.moving.as_ref().is_some_and(|it| it.segment == segment);
            if given < seen
                || moving
                || (self.is_read(segment) && !planted!(SegmentReusedWhileRead))
            {
                self.reclaim.empty.insert(segment, Some(seen));
                continue;
            }
            self.reclaim.freeing.insert(segment);
            let edit = Edit::SegmentFreed { segment, generation };
            self.journal(&edit, EditPurpose::Freed(segment), out);
        }
    }

    /// The journal knows that a segment is free. Not before: a checkpoint may come first, and would not
    /// know of a segment that the edit behind it says is free.
    pub(super) fn segment_freed(&mut self, segment: SegmentId, io: &mut Io<'_>) {
        self.reclaim.freeing.remove(&segment);
        self.reclaim.stuck.remove(&segment);
        probe!(SegmentFreed);
        self.reclaim.done.segments += 1;
        self.segments.set(segment, SegmentState::Reserved);
        self.wipe(segment, io);
    }

    /// Whether a segment is about to be free.
    pub(super) fn is_being_freed(&self, segment: SegmentId) -> bool {
        self.reclaim.freeing.contains(&segment)
    }

    fn drive_move(&mut self, io: &mut Io<'_>, out: &mut Vec<Output>) {
        // Of a segment to be emptied most chunks are gone, which the index says at once: no event comes that
        // would bring the next one on.
        for _ in 0..MOVE_STEPS {
            if !self.move_on(io, out) {
                return;
            }
        }
    }

    /// Go on with the segment that is being emptied, or begin one. Whether the next step can be taken now.
    fn move_on(&mut self, io: &mut Io<'_>, out: &mut Vec<Output>) -> bool {
        if self.reclaim.moving.is_none() {
            self.reclaim.moving = self.choose_move();
        }
        let Some(moving) = &mut self.reclaim.moving else { return false };
        if moving.reading {
            return false;
        }
        if let Some(scan) = &moving.scan {
            if let Some((offset, len)) = scan.next_read() {
                moving.reading = true;
                let token = io.read(offset, len);
                self.disk.insert(token, DiskPurpose::MoveScan);
                return false;
            }
            let found = moving.scan.take().expect("it was there").finish().found;
            moving.rest = found.into_iter().map(|(chunk, record)| (chunk, record.offset)).collect();
        }
        if moving.waiting.is_some() {
            self.find_room_to_move(io, out);
            return false;
        }
        if moving.moving.is_some() {
            return false;
        }
        let next = if moving.failed { None } else { moving.rest.pop_front() };
        let Some((chunk, offset)) = next else {
            let segment = moving.segment;
            self.reclaim.moving = None;
            if self.reclaim.used.contains_key(&segment) {
                self.reclaim.stuck.insert(segment);
            }
            return true;
        };
        let left = moving.rest.len();
        moving.moving = Some((chunk, offset));
        self.look_to_move(chunk, io, out);
        // One for which there is no room in memory now is put back.
        let moving = self.reclaim.moving.as_ref();
        moving
            .is_some_and(|it| it.moving.is_none() && it.waiting.is_none() && it.rest.len() == left)
    }

    /// A write waits for a segment: open one, unless there is one, or it is on its way. Without, what is
    /// moved stays where it is until more is free.
    fn find_room_to_move(&mut self, io: &mut Io<'_>, out: &mut Vec<Output>) {
        let is_open = self.chunks.is_open_for_moves();
        if !is_open && self.open_for_moves(io) {
            return;
        }
        let Some(job) = self.reclaim.moving.as_mut().and_then(|moving| moving.waiting.take())
        else {
            return;
        };
        if is_open {
            return self.run_job(job, io, out);
        }
        self.give_up_write(job);
        self.reclaim.moving = None;
        self.reclaim.no_room = Some(self.segments.free());
    }

    /// The segment of which the least is in use, if it is little.
    fn choose_move(&mut self) -> Option<Move> {
        // Clients have the disk for themselves while they fill the budget.
        let busy = self.chunks.bytes_in_hand > self.config.chunk_bytes_max / 2;
        let free = self.segments.free();
        if busy || self.reclaim.no_room.is_some_and(|before| free <= before) {
            return None;
        }
        self.reclaim.no_room = None;
        let Reclaim { light, stuck, .. } = &self.reclaim;
        let sealed = light.iter().filter_map(|(_, segment)| match self.segments.state(*segment) {
            Some(SegmentState::Chunks { generation, open: false }) if !stuck.contains(segment) => {
                Some((*segment, generation))
            }
            _ => None,
        });
        let (segment, generation) = { sealed }.next()?;
        Some(Move {
            segment,
            scan: Some(SegmentScan::new(self.layout, segment, generation)),
            reading: false,
            rest: VecDeque::new(),
            moving: None,
            waiting: None,
            failed: false,
        })
    }

    /// The chunk to be moved was looked at.
    pub(super) fn move_looked(
        &mut self,
        looked_at: ChunkId,
        looked: Result<Looked, ChunkError>,
        io: &mut Io<'_>,
        out: &mut Vec<Output>,
    ) {
        let (segment, chunk, offset) = match self.reclaim.moving {
            Some(Move { segment, moving: Some((chunk, offset)), .. }) if chunk == looked_at => {
                (segment, chunk, offset)
            }
            // It was given up meanwhile.
            _ => return,
        };
        match looked {
            Ok(Looked::Copied(copy)) => {
                self.write_moved(chunk, copy, (segment, offset), io, out);
            }
            Ok(_) => unreachable!("a copy was asked for"),
            // There is no room for it in memory now: it comes again.
            Err(ChunkError::Overloaded) => {
                let moving = self.reclaim.moving.as_mut().expect("it was there");
                moving.moving = None;
                moving.rest.push_back((chunk, offset));
            }
            Err(error) => self.reclaim.moved(Some(error)),
        }
    }
}

/// The next id that a chunk could have.
fn after(chunk: ChunkId) -> ChunkId {
    let ChunkId { blob: BlobId { session, sequence }, number } = chunk;
    match (number.checked_add(1), sequence.0.checked_add(1)) {
        (Some(number), _) => ChunkId { number, ..chunk },
        (None, Some(next)) => {
            ChunkId { blob: BlobId { session, sequence: BlobSequence(next) }, number: 0 }
        }
        (None, None) => {
            let session = SessionId(session.0.saturating_add(1));
            ChunkId { blob: BlobId { session, sequence: BlobSequence(0) }, number: 0 }
        }
    }
}
