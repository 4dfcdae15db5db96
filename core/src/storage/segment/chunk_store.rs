//! Placing chunks into open segments, and keeping count of them until the journal has their records.
//!
//! The next segment is opened ahead of need, so that no put waits for the journal. A segment is
//! sealed when a chunk does not fit any more; the edit that says so follows the edits that hold all
//! its chunks, so that recovery needs to scan open segments only. A chunk of
//! an open segment is freed behind an edit that says up to where that need not be scanned any more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::disk::SECTOR;
use crate::ids::{BlobId, BlobSequence, ChunkId, LogIndex, SessionId};

use super::edit::{ChunkRecord, EDIT_CHUNKS_MAX, Edit};
use super::layout::{Generation, SegmentId};

/// Segments that are open or being opened: one in use, one ahead.
const OPEN_SEGMENTS: usize = 2;
/// Records that may wait for the journal; beyond it chunks are refused as overloaded.
const PENDING_RECORDS_MAX: usize = 4096;

/// A segment that takes chunks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenSegment {
    /// Which.
    pub(crate) segment: SegmentId,
    /// Which life.
    pub(crate) generation: Generation,
    /// The next free byte.
    pub(crate) at: u64,
}

/// A chunk whose write is not durable yet.
#[derive(Debug)]
pub(crate) struct Writing {
    /// Whom to tell, and how many bytes each of them has in hand.
    pub(crate) waiters: Vec<(u64, u64)>,
    /// What will be in the index.
    pub(crate) record: ChunkRecord,
    /// What it takes the place of.
    pub(crate) before: Option<ChunkRecord>,
}

/// A change of the chunk index that no edit has yet.
#[derive(Debug)]
enum Change {
    Added(ChunkId, ChunkRecord),
    /// A chunk is freed, for this call.
    Freed(ChunkId, u64),
}

/// Open segments, chunks on their way, and records on their way to the journal.
#[derive(Debug, Default)]
pub(crate) struct ChunkStore {
    open: VecDeque<OpenSegment>,
    opening: usize,
    /// The segment that takes chunks which are moved, apart from those of clients: moving frees more than
    /// it takes, and must go on when clients have filled the disk.
    for_moves: Option<OpenSegment>,
    opening_for_moves: bool,
    /// Chunks placed in a segment whose records no edit has yet.
    unrecorded: BTreeMap<SegmentId, usize>,
    /// Full segments whose sealing is not in the journal yet.
    sealing: BTreeSet<SegmentId>,
    /// Chunks being written.
    pub(crate) writing: BTreeMap<ChunkId, Writing>,
    /// Bytes of calls in hand.
    pub(crate) bytes_in_hand: u64,
    /// Writes among them.
    pub(crate) writes_in_hand: u64,
    pending: VecDeque<Change>,
    /// How many were given to the journal.
    given: u64,
    /// An edit with changes is on its way: the next one waits, and grows. The calls that it is for, if
    /// it frees chunks.
    in_flight: Option<Vec<u64>>,
    sequence: LogIndex,
}

impl ChunkStore {
    /// Where a record of `bytes` goes; `None` if no open segment has room.
    pub(crate) fn place(&mut self, bytes: u64, segment_bytes: u64) -> Option<OpenSegment> {
        assert!(SECTOR + bytes <= segment_bytes, "a record fits into an empty segment");
        while let Some(open) = self.open.front_mut() {
            let seal = open.at > SECTOR && buggify!(SegmentSealedEarly, hot);
            if open.at + bytes <= segment_bytes && !seal {
                let place = *open;
                open.at += bytes;
                *self.unrecorded.entry(place.segment).or_default() += 1;
                return Some(place);
            }
            self.sealing.insert(open.segment);
            self.open.pop_front();
        }
        None
    }

    /// Where a record of `bytes` goes that is moved; `None` if no segment for it has room.
    pub(crate) fn place_moved(&mut self, bytes: u64, segment_bytes: u64) -> Option<OpenSegment> {
        assert!(SECTOR + bytes <= segment_bytes, "a record fits into an empty segment");
        let open = self.for_moves.as_mut()?;
        if open.at + bytes <= segment_bytes {
            let place = *open;
            open.at += bytes;
            *self.unrecorded.entry(place.segment).or_default() += 1;
            return Some(place);
        }
        self.sealing.extend(self.for_moves.take().map(|open| open.segment));
        None
    }

    /// Whether there is a segment for chunks that are moved.
    pub(crate) fn is_open_for_moves(&self) -> bool {
        self.for_moves.is_some()
    }

    /// Open a segment for chunks that are moved, unless there is one.
    pub(crate) fn begin_opening_for_moves(&mut self) -> bool {
        let wanted = self.for_moves.is_none() && !self.opening_for_moves;
        self.opening_for_moves |= wanted;
        wanted
    }

    /// Opening was begun and no segment is free.
    pub(crate) fn opening_for_moves_failed(&mut self) {
        self.opening_for_moves = false;
    }

    /// Up to where an open segment is filled, if all its chunks are in edits; `None` if some are not, or
    /// it is not open.
    pub(crate) fn recorded(&self, segment: SegmentId) -> Option<u64> {
        let mut open = self.open.iter().chain(&self.for_moves);
        let open = open.find(|open| open.segment == segment)?;
        (!self.unrecorded.contains_key(&segment)).then_some(open.at)
    }

    /// Whether another segment is to be opened; it then counts as being opened.
    pub(crate) fn begin_opening(&mut self) -> bool {
        let most = if buggify!(OneSegmentOpen) { 1 } else { OPEN_SEGMENTS };
        let wanted = self.open.len() + self.opening < most;
        self.opening += usize::from(wanted);
        wanted
    }

    /// Opening was begun and no segment is free.
    pub(crate) fn opening_failed(&mut self) {
        self.opening -= 1;
    }

    /// Whether a segment is being opened.
    pub(crate) fn is_opening(&self) -> bool {
        self.opening > 0
    }

    /// A segment is open, as the journal knows.
    pub(crate) fn opened(&mut self, segment: SegmentId, generation: Generation, for_moves: bool) {
        let open = OpenSegment { segment, generation, at: SECTOR };
        if for_moves {
            self.opening_for_moves = false;
            self.for_moves = Some(open);
        } else {
            self.opening -= 1;
            self.open.push_back(open);
        }
    }

    /// At recovery: a segment was found open, with chunks up to `at`.
    pub(crate) fn recovered(&mut self, open: OpenSegment) {
        self.open.push_back(open);
    }

    /// The index is empty again: what is being written takes the place of nothing there.
    pub(crate) fn rows_are_lost(&mut self) {
        for writing in self.writing.values_mut() {
            writing.before = None;
        }
    }

    /// At recovery: a record that no edit has was found. Counted as if it had just been placed.
    pub(crate) fn recovered_record(&mut self, chunk: ChunkId, record: ChunkRecord) {
        *self.unrecorded.entry(record.segment).or_default() += 1;
        self.add_record(chunk, record);
    }

    /// The batch number under which rows go into the chunk index now.
    pub(crate) fn sequence(&self) -> LogIndex {
        self.sequence
    }

    /// Batches up to `used` are taken.
    pub(crate) fn advance_sequence(&mut self, used: LogIndex) {
        self.sequence = self.sequence.max(used.next());
    }

    /// A chunk is durable and in the index: have its record journaled.
    pub(crate) fn add_record(&mut self, chunk: ChunkId, record: ChunkRecord) {
        self.pending.push_back(Change::Added(chunk, record));
    }

    /// A chunk is out of the index: have that journaled, and then tell `op`.
    pub(crate) fn add_freed(&mut self, chunk: ChunkId, op: u64) {
        self.pending.push_back(Change::Freed(chunk, op));
    }

    /// How many changes were given to the journal, and how many there have been.
    pub(crate) fn changes(&self) -> (u64, u64) {
        (self.given, self.given + self.pending.len() as u64)
    }

    /// Whether changes wait for the journal.
    pub(crate) fn has_pending_records(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The edit that was on its way is durable; the calls that are done with it.
    pub(crate) fn edit_durable(&mut self) -> Vec<u64> {
        self.in_flight.take().unwrap_or_default()
    }

    /// Whether no more records should be added: the journal does not keep up.
    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() + self.writing.len() >= PENDING_RECORDS_MAX
    }

    /// The edits that are due: a batch of changes if none is on its way, and then sealings.
    pub(crate) fn edits_due(&mut self) -> Vec<Edit> {
        let mut edits = Vec::new();
        if self.in_flight.is_none()
            && let Some(edit) = self.next_edit()
        {
            edits.push(edit);
        }
        let is_recorded = |segment: &&SegmentId| {
            !self.unrecorded.contains_key(segment) || planted!(SealedBeforeRecords)
        };
        while let Some(segment) = self.sealing.iter().find(is_recorded).copied() {
            self.sealing.remove(&segment);
            edits.push(Edit::SegmentSealed { segment });
        }
        edits
    }

    /// The next changes of one kind.
    fn next_edit(&mut self) -> Option<Edit> {
        let sequence = self.sequence;
        let frees = matches!(self.pending.front()?, Change::Freed(..));
        let same = |change: &&Change| matches!(change, Change::Freed(..)) == frees;
        let count = self.pending.iter().take(EDIT_CHUNKS_MAX).take_while(same).count();
        let (mut records, mut chunks, mut ops) = (Vec::new(), Vec::new(), Vec::new());
        self.given += count as u64;
        for change in self.pending.drain(..count) {
            match change {
                Change::Added(chunk, record) => {
                    let left =
                        self.unrecorded.get_mut(&record.segment).expect("it was placed there");
                    *left -= 1;
                    records.push((chunk, record));
                }
                Change::Freed(chunk, op) => {
                    chunks.extend((!planted!(FreedNotJournaled)).then_some(chunk));
                    ops.push(op);
                }
            }
        }
        self.unrecorded.retain(|_, left| *left > 0);
        self.in_flight = Some(ops);
        self.sequence = sequence.next();
        Some(match frees {
            true => Edit::ChunksFreed { sequence, chunks },
            false => Edit::ChunksAdded { sequence, records },
        })
    }
}

/// The key of a chunk in the chunk index: ordered as the ids are.
pub(crate) fn chunk_key(chunk: ChunkId) -> bytes::Bytes {
    let mut key = [0; 20];
    key[..8].copy_from_slice(&chunk.blob.session.0.to_be_bytes());
    key[8..16].copy_from_slice(&chunk.blob.sequence.0.to_be_bytes());
    key[16..].copy_from_slice(&chunk.number.to_be_bytes());
    bytes::Bytes::copy_from_slice(&key)
}

/// The chunk whose key this is; `None` if it is none.
pub(crate) fn chunk_of_key(key: &[u8]) -> Option<ChunkId> {
    let (session, rest) = key.split_first_chunk::<8>()?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let number = u32::from_be_bytes(rest.try_into().ok()?);
    let session = SessionId(u64::from_be_bytes(*session));
    let sequence = BlobSequence(u64::from_be_bytes(*sequence));
    Some(ChunkId { blob: BlobId { session, sequence }, number })
}
