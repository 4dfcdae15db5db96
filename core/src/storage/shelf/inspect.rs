//! What a shelf holds, for who looks at a disk that no store runs on.

use bytes::Bytes;

use crate::codec::{DecodeError, Wire};
use crate::ids::{ChunkId, LogIndex, RangeId};
use crate::rows::{Miss, Rows, Step};

use super::super::segment::allocator::SegmentState;
use super::super::segment::chunk_store::{chunk_key, chunk_of_key};
use super::super::segment::edit::{ChunkRecord, TableId};
use super::super::segment::header::{SegmentContent, SegmentHeader};
use super::super::segment::layout::{Layout, SegmentId};
use super::Shelf;
use super::chunks::CHUNK_KEYS_END;

/// What a segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SegmentUse {
    /// Nothing.
    Free,
    /// It is being freed.
    Reserved,
    /// Chunks; it takes more.
    ChunksOpen,
    /// Chunks; it takes no more.
    ChunksSealed,
    /// Blocks of a run.
    Run,
    /// Values of runs.
    Values,
}

/// A table on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableShape {
    /// Of which range; `None` for the index of chunks.
    pub range: Option<RangeId>,
    /// Its runs.
    pub runs: u64,
    /// Rows in them, also those that others hide.
    pub rows: u64,
    /// Tombstones among these.
    pub tombstones: u64,
    /// Blocks of rows, indexes and filters.
    pub blocks: u64,
    /// All entries up to this one (batches of chunks) are in runs.
    pub through: LogIndex,
    /// Whether a run cannot be read.
    pub broken: bool,
}

/// Some records of the chunk index, in order of their chunks. A record may not be readable.
#[derive(Debug, Default)]
pub(crate) struct RecordPage {
    pub(crate) records: Vec<(ChunkId, Result<ChunkRecord, DecodeError>)>,
    /// There are no more behind these.
    pub(crate) done: bool,
    /// The row behind these is one that should stand before them: whoever wrote it, no store did.
    pub(crate) disordered: bool,
}

impl Shelf {
    /// Where things are.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether the chunk index could not be read, or was not whole, and was found anew.
    pub(crate) fn chunk_index_was_lost(&self) -> bool {
        self.index_is_lost
    }

    /// What each segment is for.
    pub(crate) fn segment_uses(&self) -> impl Iterator<Item = (SegmentId, SegmentUse)> + '_ {
        self.segments.iter().map(|(segment, state)| {
            let of = match state {
                SegmentState::Free => SegmentUse::Free,
                SegmentState::Reserved => SegmentUse::Reserved,
                SegmentState::Chunks { open: true, .. } => SegmentUse::ChunksOpen,
                SegmentState::Chunks { open: false, .. } => SegmentUse::ChunksSealed,
                SegmentState::Run(_) => SegmentUse::Run,
                SegmentState::Values(_) => SegmentUse::Values,
            };
            (segment, of)
        })
    }

    /// What is wrong with a segment's header, as it was read.
    pub(crate) fn judge_segment(&self, segment: SegmentId, sector: &Bytes) -> Result<(), String> {
        let header = SegmentHeader::decode(sector, &self.layout, segment);
        let header = header.map_err(|error| error.to_string())?;
        let fits = match self.segments.state(segment) {
            Some(SegmentState::Chunks { generation, .. }) => {
                header.generation == generation && header.content == SegmentContent::Chunks
            }
            Some(SegmentState::Run(generation)) => {
                header.generation == generation && matches!(header.content, SegmentContent::Run(_))
            }
            Some(SegmentState::Values(generation)) => {
                header.generation == generation && header.content == SegmentContent::Values
            }
            Some(SegmentState::Free | SegmentState::Reserved) | None => true,
        };
        match fits {
            true => Ok(()),
            false => Err("it says something else than the journal".to_owned()),
        }
    }

    /// All tables.
    pub(crate) fn table_shapes(&self) -> Vec<TableShape> {
        let shape = |(id, table): (&TableId, &super::Table)| {
            let runs = || table.runs.iter().map(|run| &run.descriptor);
            let blocks = |run: &super::super::segment::edit::RunDescriptor| {
                u64::from(run.data_blocks)
                    + u64::from(run.index_blocks)
                    + u64::from(run.filter_blocks)
            };
            TableShape {
                range: match id {
                    TableId::Range(range) => Some(*range),
                    TableId::Chunks => None,
                },
                runs: table.runs.len() as u64,
                rows: runs().map(|run| run.rows).sum(),
                tombstones: runs().map(|run| run.tombstones).sum(),
                blocks: runs().map(blocks).sum(),
                through: table.flushed,
                broken: table.broken,
            }
        };
        self.tables.iter().map(shape).collect()
    }

    /// Up to `max` records of the chunk index, from `from` on.
    ///
    /// # Errors
    /// [`Miss`]: fetch it and ask again.
    pub(crate) fn chunk_records(&self, from: ChunkId, max: usize) -> Result<RecordPage, Miss> {
        let rows = self.rows(TableId::Chunks);
        let mut next = chunk_key(from);
        let mut cursor = rows.cursor(&next, &CHUNK_KEYS_END);
        let mut page = RecordPage::default();
        while page.records.len() < max {
            let key = match cursor.seek(&next, u32::MAX) {
                Ok(Step::Row(key)) if key < &next[..] => {
                    page.disordered = true;
                    break;
                }
                Ok(Step::Row(key)) => Bytes::copy_from_slice(key),
                Ok(Step::End | Step::Spent(_)) => {
                    page.done = true;
                    break;
                }
                Err(miss) if page.records.is_empty() => return Err(miss),
                Err(_) => break,
            };
            let value = match cursor.value() {
                Ok(value) => value,
                Err(miss) if page.records.is_empty() => return Err(miss),
                Err(_) => break,
            };
            if let Some(chunk) = chunk_of_key(&key) {
                page.records.push((chunk, ChunkRecord::from_bytes(&value)));
            }
            next = key.iter().copied().chain([0]).collect();
        }
        Ok(page)
    }

    /// The record of a chunk.
    ///
    /// # Errors
    /// [`Miss`]: fetch it and ask again.
    pub(crate) fn chunk_record(
        &self,
        chunk: ChunkId,
    ) -> Result<Option<Result<ChunkRecord, DecodeError>>, Miss> {
        let row = self.rows(TableId::Chunks).get(&chunk_key(chunk))?;
        Ok(row.map(|row| ChunkRecord::from_bytes(&row.value)))
    }
}
