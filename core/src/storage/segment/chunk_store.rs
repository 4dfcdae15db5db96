//! Placing chunks into open segments, and keeping count of them until the journal has their records.
//!
//! The next segment is opened ahead of need, so that no put waits for the journal. A segment is
//! sealed when a chunk does not fit any more; the edit that says so follows the edits that hold all
//! its chunks, so that recovery needs to scan open segments only.

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
}

/// Open segments, chunks on their way, and records on their way to the journal.
#[derive(Debug, Default)]
pub(crate) struct ChunkStore {
    open: VecDeque<OpenSegment>,
    opening: usize,
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
    pending: VecDeque<(ChunkId, ChunkRecord)>,
    /// Whether an edit with records is on its way: the next one waits, and grows.
    pub(crate) edit_in_flight: bool,
    sequence: LogIndex,
}

impl ChunkStore {
    /// Where a record of `bytes` goes; `None` if no open segment has room.
    pub(crate) fn place(&mut self, bytes: u64, segment_bytes: u64) -> Option<OpenSegment> {
        assert!(SECTOR + bytes <= segment_bytes, "a record fits into an empty segment");
        while let Some(open) = self.open.front_mut() {
            if open.at + bytes <= segment_bytes {
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

    /// Whether another segment is to be opened; it then counts as being opened.
    pub(crate) fn begin_opening(&mut self) -> bool {
        let wanted = self.open.len() + self.opening < OPEN_SEGMENTS;
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
    pub(crate) fn opened(&mut self, segment: SegmentId, generation: Generation) {
        self.opening -= 1;
        self.open.push_back(OpenSegment { segment, generation, at: SECTOR });
    }

    /// At recovery: a segment was found open, with chunks up to `at`.
    pub(crate) fn recovered(&mut self, open: OpenSegment) {
        self.open.push_back(open);
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
        self.pending.push_back((chunk, record));
    }

    /// Whether records wait for the journal.
    pub(crate) fn has_pending_records(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether no more records should be added: the journal does not keep up.
    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() + self.writing.len() >= PENDING_RECORDS_MAX
    }

    /// The edits that are due: a batch of records if none is on its way, and then sealings.
    pub(crate) fn edits_due(&mut self) -> Vec<Edit> {
        let mut edits = Vec::new();
        if !self.edit_in_flight && !self.pending.is_empty() {
            let count = self.pending.len().min(EDIT_CHUNKS_MAX);
            let records: Vec<_> = self.pending.drain(..count).collect();
            for (_, record) in &records {
                let left = self.unrecorded.get_mut(&record.segment).expect("it was placed there");
                *left -= 1;
            }
            self.unrecorded.retain(|_, left| *left > 0);
            edits.push(Edit::ChunksAdded { sequence: self.sequence, records });
            self.sequence = self.sequence.next();
            self.edit_in_flight = true;
        }
        while let Some(segment) =
            self.sealing.iter().find(|segment| !self.unrecorded.contains_key(segment)).copied()
        {
            self.sealing.remove(&segment);
            edits.push(Edit::SegmentSealed { segment });
        }
        edits
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
