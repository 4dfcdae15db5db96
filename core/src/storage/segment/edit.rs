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
/// Segments that hold the blocks of one run. With production's segments, hundreds of millions of rows.
pub(crate) const RUN_SEGMENTS_MAX: usize = 4096;
/// Value segments that one run refers to: a terabyte of values.
pub(crate) const RUN_VALUES_MAX: usize = 1 << 16;
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

/// A value segment that the rows of a run point into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ValueRef {
    /// Which.
    pub(crate) segment: SegmentId,
    /// Which life of it: the generation of its pieces.
    pub(crate) generation: Generation,
    /// How many of its bytes the run's rows point to, headers of pieces included.
    pub(crate) live: u64,
    /// How many were written into it.
    pub(crate) used: u64,
}

impl Wire for ValueRef {
    fn encode(&self, out: &mut Encoder) {
        self.segment.encode(out);
        self.generation.encode(out);
        out.u64(self.live);
        out.u64(self.used);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            segment: Wire::decode(input)?,
            generation: Wire::decode(input)?,
            live: input.u64()?,
            used: input.u64()?,
        })
    }
}

/// Which part of a snapshot a run is. Its parts cover the same entries and no key twice; they say
/// something only together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The generation of part 0, so that parts of two attempts are told apart.
    pub(crate) of: Generation,
    /// From 0.
    pub(crate) number: u32,
    /// Whether there are no more.
    pub(crate) last: bool,
}

impl Part {
    /// A run that is no part of anything: the only part of itself.
    pub(crate) fn whole(run: Generation) -> Self {
        Self { of: run, number: 0, last: true }
    }
}

/// What a run is made of. Stands in its edit, and in the run itself behind its other blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunDescriptor {
    /// Names the run, and is the generation of the segments that hold its blocks.
    pub(crate) run: Generation,
    /// Whose rows.
    pub(crate) table: TableId,
    /// What the entries behind this one...
    pub(crate) after: LogIndex,
    /// ...up to this one have written is in this run, as far as it was not written over by a later
    /// one of them.
    pub(crate) through: LogIndex,
    /// Tombstones of entries up to this one were left out; 0: none.
    pub(crate) bare: LogIndex,
    /// Whether it is a part of a snapshot.
    pub(crate) part: Part,
    /// Rows, tombstones included.
    pub(crate) rows: u64,
    /// Tombstones.
    pub(crate) tombstones: u64,
    /// Blocks of rows, from the first block of the first segment on.
    pub(crate) data_blocks: u32,
    /// Blocks of the block index, behind the data blocks.
    pub(crate) index_blocks: u32,
    /// Blocks of the filter, behind those; 0 if the run has none.
    pub(crate) filter_blocks: u32,
    /// The segments that hold its blocks, in order.
    pub(crate) segments: Vec<SegmentId>,
    /// The value segments that its rows point into, ascending; other runs may point into them too.
    pub(crate) values: Vec<ValueRef>,
}

impl RunDescriptor {
    /// The segments of its blocks, and those of its values, which other runs may point into.
    pub(crate) fn all_segments(&self) -> impl Iterator<Item = SegmentId> + '_ {
        let values = self.values.iter().map(|value| value.segment);
        self.segments.iter().copied().chain(values)
    }

    /// Bytes of all values that its rows point to.
    #[cfg(test)]
    pub(crate) fn value_bytes(&self) -> u64 {
        self.values.iter().map(|value| value.live).sum()
    }

    /// The generation of a value segment that its rows point into.
    pub(crate) fn value_generation(&self, segment: SegmentId) -> Option<Generation> {
        let at = self.values.binary_search_by_key(&segment, |value| value.segment).ok()?;
        self.values.get(at).map(|value| value.generation)
    }

    /// Behind the last block that is kept in memory.
    pub(crate) fn loaded_end(&self) -> u32 {
        self.data_blocks + self.index_blocks + self.filter_blocks
    }

    /// Bytes of its encoding.
    pub(crate) fn encoded_bytes(&self) -> usize {
        RUN_FIELDS_BYTES + 4 + 4 * self.segments.len() + 4 + 28 * self.values.len()
    }
}

/// Bytes of the fields before the lists.
const RUN_FIELDS_BYTES: usize = 82;

impl Wire for RunDescriptor {
    fn encode(&self, out: &mut Encoder) {
        self.run.encode(out);
        self.table.encode(out);
        self.after.encode(out);
        self.through.encode(out);
        self.bare.encode(out);
        self.part.of.encode(out);
        out.u32(self.part.number);
        self.part.last.encode(out);
        out.u64(self.rows);
        out.u64(self.tombstones);
        out.u32(self.data_blocks);
        out.u32(self.index_blocks);
        out.u32(self.filter_blocks);
        out.list(&self.segments);
        out.list(&self.values);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let run = Self {
            run: Wire::decode(input)?,
            table: Wire::decode(input)?,
            after: Wire::decode(input)?,
            through: Wire::decode(input)?,
            bare: Wire::decode(input)?,
            part: Part {
                of: Wire::decode(input)?,
                number: input.u32()?,
                last: Wire::decode(input)?,
            },
            rows: input.u64()?,
            tombstones: input.u64()?,
            data_blocks: input.u32()?,
            index_blocks: input.u32()?,
            filter_blocks: input.u32()?,
            segments: input.list("run segments", RUN_SEGMENTS_MAX)?,
            values: input.list("value segments", RUN_VALUES_MAX)?,
        };
        let ascending = run.values.windows(2).all(|pair| pair[0].segment < pair[1].segment);
        let counts = run.tombstones <= run.rows && run.values.iter().all(|it| it.live <= it.used);
        if !(ascending && counts && run.after < run.through && run.bare <= run.through) {
            return Err(DecodeError::Invalid { what: "description of a run" });
        }
        Ok(run)
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
    /// A merge: one run takes the place of neighbours in age.
    RunsReplaced(Replacement),
    /// Everything is forgotten but this, the runs in the edits that follow in the same checkpoint, and
    /// chunk records of earlier edits that are in none of these runs.
    Checkpoint {
        /// Segments with chunks, their generation, and whether they are still open.
        chunk_segments: Vec<(SegmentId, (Generation, bool))>,
        /// Whether the chunk index is to be rebuilt.
        rebuild: bool,
    },
    /// Chunks are no longer in the chunk index, and never come back.
    ChunksFreed {
        /// Numbers the batches, as those of [`Edit::ChunksAdded`].
        sequence: LogIndex,
        /// The chunks.
        chunks: Vec<ChunkId>,
    },
    /// All chunks of an open segment up to a byte are in earlier edits: recovery scans what is behind.
    SegmentRecorded {
        /// Which.
        segment: SegmentId,
        /// The byte.
        through: u64,
    },
    /// A segment has no chunk that is in the chunk index; it is free.
    SegmentFreed {
        /// Which.
        segment: SegmentId,
        /// Its generation, which ends.
        generation: Generation,
    },
}

/// What a merge changes. Value segments that no run refers to any more are free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replacement {
    /// The runs that are gone, oldest first: all parts of a snapshot or none.
    pub(crate) removed: Vec<Generation>,
    /// The run that has their rows. There always is one: an interval without a run would look like
    /// a run that is lost.
    pub(crate) added: RunDescriptor,
}

impl Wire for Replacement {
    fn encode(&self, out: &mut Encoder) {
        out.list(&self.removed);
        self.added.encode(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let removed: Vec<Generation> = input.list("merged runs", INSTALLED_RUNS_MAX)?;
        let added = RunDescriptor::decode(input)?;
        // A merge gives a whole, which is younger than all that it is made of.
        let whole = added.part == Part::whole(added.run);
        if removed.is_empty() || !whole || removed.iter().any(|run| *run >= added.run) {
            return Err(DecodeError::Invalid { what: "merge of runs" });
        }
        Ok(Self { removed, added })
    }
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
    /// Whether it takes the place of the log, all of which is void; else entries behind it may stay. The tag
    /// of the edit says so.
    pub(crate) replaces_log: bool,
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
        let own = |run: &RunDescriptor| {
            run.table == table && run.through == index && run.after == newer_than
        };
        if !(runs.iter().all(own) && is_whole(&runs) && newer_than < index) {
            return Err(DecodeError::Invalid { what: "runs of a snapshot" });
        }
        Ok(Self { table, newer_than, runs, index, term, membership, replaces_log: false })
    }
}

/// Whether these are all parts of one snapshot, in order.
pub(crate) fn is_whole(parts: &[RunDescriptor]) -> bool {
    let Some((first, last)) = parts.first().zip(parts.len().checked_sub(1)) else { return false };
    (0..).zip(parts).all(|(number, run)| {
        let expected = Part { of: first.run, number, last: number as usize == last };
        run.part == expected
    })
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
                out.u8(if installation.replaces_log { 14 } else { 8 });
                installation.encode(out);
            }
            Self::RunsReplaced(replacement) => {
                out.u8(9);
                replacement.encode(out);
            }
            Self::Checkpoint { chunk_segments, rebuild } => {
                out.u8(10);
                out.list(chunk_segments);
                rebuild.encode(out);
            }
            Self::ChunksFreed { sequence, chunks } => {
                out.u8(11);
                sequence.encode(out);
                out.list(chunks);
            }
            Self::SegmentFreed { segment, generation } => {
                out.u8(12);
                segment.encode(out);
                generation.encode(out);
            }
            Self::SegmentRecorded { segment, through } => {
                out.u8(13);
                segment.encode(out);
                out.u64(*through);
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
            9 => Self::RunsReplaced(Wire::decode(input)?),
            10 => Self::Checkpoint {
                chunk_segments: input.list("chunk segments", SNAPSHOT_MAX)?,
                rebuild: Wire::decode(input)?,
            },
            11 => Self::ChunksFreed {
                sequence: Wire::decode(input)?,
                chunks: input.list("freed chunks", EDIT_CHUNKS_MAX)?,
            },
            12 => Self::SegmentFreed {
                segment: Wire::decode(input)?,
                generation: Wire::decode(input)?,
            },
            13 => Self::SegmentRecorded { segment: Wire::decode(input)?, through: input.u64()? },
            14 => {
                let installation = Installation::decode(input)?;
                Self::TableInstalled(Installation { replaces_log: true, ..installation })
            }
            tag => return Err(DecodeError::Tag { what: "edit", tag }),
        })
    }
}
