//! Edits: changes of what the area holds, as the journal keeps them.
//!
//! Replaying all edits in order gives the state of every segment, the runs of every table, and the
//! part of the chunk index that is in no run yet. Byte tables: `docs/disk-format-segments.md`.

use bytes::Bytes;

use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::hash::Checksum;
use crate::ids::{ChunkId, LogIndex, RangeId, Term};

use super::chunk::CHUNK_BLOCKS_MAX;
use super::layout::{Generation, SegmentId};

/// Version of [`Edit`]'s encoding.
const VERSION: u8 = 1;
/// Segments of one run, run and value segments each. A memtable gives far fewer.
pub(crate) const RUN_SEGMENTS_MAX: usize = 256;
/// Chunk records of one edit.
pub(crate) const EDIT_CHUNKS_MAX: usize = 256;
/// Segments and runs of one snapshot edit: every disk has fewer.
const SNAPSHOT_MAX: usize = 1 << 20;
/// Runs of one snapshot of a range: with the production memtable, 256 GiB of rows.
pub(crate) const INSTALLED_RUNS_MAX: usize = 16_384;
/// Bytes of an encoded configuration, of which there are far fewer.
pub(crate) const MEMBERSHIP_BYTES_MAX: usize = 4096;

/// A set of rows with its own memtable, runs and recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TableId {
    /// The rows of a range.
    Range(RangeId),
    /// The index of the store's own chunks.
    Chunks,
}

impl Wire for TableId {
    fn encode(&self, out: &mut Encoder) {
        let (tag, range) = match self {
            Self::Range(range) => (0, *range),
            Self::Chunks => (1, RangeId(0)),
        };
        out.u8(tag);
        range.encode(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match (input.u8()?, RangeId::decode(input)?) {
            (0, range) => Ok(Self::Range(range)),
            (1, RangeId(0)) => Ok(Self::Chunks),
            (1, _) => Err(DecodeError::Invalid { what: "table" }),
            (tag, _) => Err(DecodeError::Tag { what: "table", tag }),
        }
    }
}

/// What a run is made of. Stands in its edit and in the header of each of its segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunDescriptor {
    /// Names the run, and is the generation of its segments.
    pub(crate) run: Generation,
    /// Whose rows.
    pub(crate) table: TableId,
    /// The run before it, by which a lost run is noticed.
    pub(crate) previous: Option<Generation>,
    /// Rows written up to this entry are in this run or older ones.
    pub(crate) through: LogIndex,
    /// Of a snapshot: one or more runs follow that belong to it, and without them it says nothing.
    pub(crate) part: bool,
    /// Blocks of rows, from the first block of the first segment on.
    pub(crate) data_blocks: u32,
    /// Blocks of the block index, behind the data blocks.
    pub(crate) index_blocks: u32,
    /// The segments that hold its blocks, in order.
    pub(crate) segments: Vec<SegmentId>,
    /// The segments that hold its values.
    pub(crate) values: Vec<SegmentId>,
}

impl RunDescriptor {
    /// All segments of the run.
    pub(crate) fn own_segments(&self) -> impl Iterator<Item = SegmentId> + '_ {
        self.segments.iter().chain(&self.values).copied()
    }
}

impl Wire for RunDescriptor {
    fn encode(&self, out: &mut Encoder) {
        self.run.encode(out);
        self.table.encode(out);
        self.previous.encode(out);
        self.through.encode(out);
        self.part.encode(out);
        out.u32(self.data_blocks);
        out.u32(self.index_blocks);
        out.list(&self.segments);
        out.list(&self.values);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            run: Wire::decode(input)?,
            table: Wire::decode(input)?,
            previous: Wire::decode(input)?,
            through: Wire::decode(input)?,
            part: Wire::decode(input)?,
            data_blocks: input.u32()?,
            index_blocks: input.u32()?,
            segments: input.list("run segments", RUN_SEGMENTS_MAX)?,
            values: input.list("value segments", RUN_SEGMENTS_MAX)?,
        })
    }
}

/// Where a chunk is and what its blocks are: the value of its row in the chunk index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRecord {
    /// The segment.
    pub(crate) segment: SegmentId,
    /// Byte offset of the data in the segment, a multiple of the sector.
    pub(crate) offset: u32,
    /// Bytes of the chunk.
    pub(crate) length: u32,
    /// Bytes of each block but the last.
    pub(crate) block_size: u32,
    /// The checksum of each block, as it was sent.
    pub(crate) checksums: Vec<Checksum>,
}

impl ChunkRecord {
    /// Whether both are the same bytes, wherever they are. Equal block checksums stand for that.
    pub(crate) fn same_content(&self, length: u32, block_size: u32, sums: &[Checksum]) -> bool {
        self.length == length && self.block_size == block_size && self.checksums == sums
    }
}

impl Wire for ChunkRecord {
    fn encode(&self, out: &mut Encoder) {
        out.u8(VERSION);
        self.segment.encode(out);
        out.u32(self.offset);
        out.u32(self.length);
        out.u32(self.block_size);
        out.list(&self.checksums);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.version("chunk record", VERSION)?;
        let record = Self {
            segment: Wire::decode(input)?,
            offset: input.u32()?,
            length: input.u32()?,
            block_size: input.u32()?,
            checksums: input.list("block checksums", CHUNK_BLOCKS_MAX)?,
        };
        let blocks = match record.block_size {
            0 => 0,
            size => record.length.div_ceil(size),
        };
        if record.length == 0 || u64::from(blocks) != record.checksums.len() as u64 {
            return Err(DecodeError::Invalid { what: "chunk record" });
        }
        Ok(record)
    }
}

/// A change of what the area holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    /// A segment takes chunks from now on.
    SegmentOpened {
        /// Which.
        segment: SegmentId,
        /// Its new generation.
        generation: Generation,
    },
    /// A segment takes no more chunks, and all its chunks are in earlier edits.
    SegmentSealed {
        /// Which.
        segment: SegmentId,
    },
    /// A run, with all its segments, belongs to its table.
    RunAdded(RunDescriptor),
    /// A table has no runs any more; their segments are free.
    TableReset {
        /// Which.
        table: TableId,
    },
    /// Chunks are in the chunk index.
    ChunksAdded {
        /// Numbers the batches: the "log index" of the chunk index's rows.
        sequence: LogIndex,
        /// The chunks.
        records: Vec<(ChunkId, ChunkRecord)>,
    },
    /// The chunk index is complete again after its reset.
    ChunkIndexRebuilt,
    /// Everything is forgotten but this; the chunk index is to be rebuilt. Follows a damaged journal.
    Snapshot {
        /// Segments with chunks, their generation, and whether they are still open.
        chunk_segments: Vec<(SegmentId, (Generation, bool))>,
        /// All runs, for each table oldest first.
        runs: Vec<RunDescriptor>,
    },
    /// A snapshot of a range took the place of its table, or was laid over it, and the range's log
    /// begins after it.
    TableInstalled(Installation),
    /// Everything is forgotten but this, the runs in the edits that follow in the same checkpoint, and
    /// chunk records of earlier edits that are in none of these runs.
    Checkpoint {
        /// Segments with chunks, their generation, and whether they are still open.
        chunk_segments: Vec<(SegmentId, (Generation, bool))>,
        /// Whether the chunk index is to be rebuilt.
        rebuild: bool,
    },
}

/// A snapshot that a range begins with from now on. All of it counts at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installation {
    /// Of which range. Never the chunk index.
    pub(crate) table: TableId,
    /// The snapshot's rows are newer than this entry, and are laid over the runs that are there.
    /// 0: it replaces them.
    pub(crate) newer_than: LogIndex,
    /// Its runs, oldest first.
    pub(crate) runs: Vec<RunDescriptor>,
    /// The last entry that the snapshot covers...
    pub(crate) index: LogIndex,
    /// ...and its term.
    pub(crate) term: Term,
    /// The configuration at that entry, in the encoding of consensus.
    pub(crate) membership: Bytes,
}

impl Wire for Installation {
    fn encode(&self, out: &mut Encoder) {
        self.table.encode(out);
        self.newer_than.encode(out);
        self.index.encode(out);
        self.term.encode(out);
        out.bytes(&self.membership);
        out.list(&self.runs);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let table = TableId::decode(input)?;
        if table == TableId::Chunks {
            return Err(DecodeError::Invalid { what: "table of a snapshot" });
        }
        let (newer_than, index) = (LogIndex::decode(input)?, LogIndex::decode(input)?);
        let term = Wire::decode(input)?;
        let membership = input.bytes("membership of a snapshot", MEMBERSHIP_BYTES_MAX)?;
        let runs: Vec<RunDescriptor> = input.list("runs of a snapshot", INSTALLED_RUNS_MAX)?;
        let own = |run: &RunDescriptor| run.table == table && run.through == index;
        let ends = runs
            .split_last()
            .is_some_and(|(last, parts)| !last.part && parts.iter().all(|run| run.part));
        if !(runs.iter().all(own) && ends && newer_than < index) {
            return Err(DecodeError::Invalid { what: "runs of a snapshot" });
        }
        Ok(Self { table, newer_than, runs, index, term, membership })
    }
}

impl Wire for Edit {
    fn encode(&self, out: &mut Encoder) {
        out.u8(VERSION);
        match self {
            Self::SegmentOpened { segment, generation } => {
                out.u8(1);
                segment.encode(out);
                generation.encode(out);
            }
            Self::SegmentSealed { segment } => {
                out.u8(2);
                segment.encode(out);
            }
            Self::RunAdded(run) => {
                out.u8(3);
                run.encode(out);
            }
            Self::TableReset { table } => {
                out.u8(4);
                table.encode(out);
            }
            Self::ChunksAdded { sequence, records } => {
                out.u8(5);
                sequence.encode(out);
                out.list(records);
            }
            Self::ChunkIndexRebuilt => out.u8(6),
            Self::Snapshot { chunk_segments, runs } => {
                out.u8(7);
                out.list(chunk_segments);
                out.list(runs);
            }
            Self::TableInstalled(installation) => {
                out.u8(8);
                installation.encode(out);
            }
            Self::Checkpoint { chunk_segments, rebuild } => {
                out.u8(10);
                out.list(chunk_segments);
                rebuild.encode(out);
            }
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.version("edit", VERSION)?;
        Ok(match input.u8()? {
            1 => Self::SegmentOpened {
                segment: Wire::decode(input)?,
                generation: Wire::decode(input)?,
            },
            2 => Self::SegmentSealed { segment: Wire::decode(input)? },
            3 => Self::RunAdded(Wire::decode(input)?),
            4 => Self::TableReset { table: Wire::decode(input)? },
            5 => Self::ChunksAdded {
                sequence: Wire::decode(input)?,
                records: input.list("chunk records", EDIT_CHUNKS_MAX)?,
            },
            6 => Self::ChunkIndexRebuilt,
            7 => Self::Snapshot {
                chunk_segments: input.list("chunk segments", SNAPSHOT_MAX)?,
                runs: input.list("runs", SNAPSHOT_MAX)?,
            },
            8 => Self::TableInstalled(Wire::decode(input)?),
            10 => Self::Checkpoint {
                chunk_segments: input.list("chunk segments", SNAPSHOT_MAX)?,
                rebuild: Wire::decode(input)?,
            },
            tag => return Err(DecodeError::Tag { what: "edit", tag }),
        })
    }
}
