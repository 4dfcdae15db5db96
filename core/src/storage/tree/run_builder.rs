//! From rows in key order to the bytes of a run. Pure but for the segments that it reserves.
//!
//! Writes are given out as they become complete: what a builder holds is a write's worth of blocks
//! and of values, the first key of each block, and the filter.

use bytes::Bytes;

use crate::codec::Wire;
use crate::disk::SECTOR;
use crate::hash::{Checksum, ValueHash};
use crate::ids::LogIndex;

use super::super::segment::allocator::{SegmentState, Segments};
use super::super::segment::edit::{
    Part, RUN_SEGMENTS_MAX, RUN_VALUES_MAX, RunDescriptor, TableId, ValueRef,
};
use super::super::segment::header::{RunPlace, SegmentContent, SegmentHeader};
use super::super::segment::layout::{Generation, Layout, SegmentId};
use super::INLINE_BYTES_MAX;
use super::block::{BlockBuilder, BlockKind, BlockValue, raw_blocks};
use super::filter::{Filter, KeyHash};
use super::memtable::Memtable;
use super::run::{Run, description_blocks};
use super::stream::Stream;
pub(crate) use super::stream::{DiskWrite, NoSegment};
use super::value::{PIECE_HEADER_BYTES, Piece, ValueWriter};

/// What a run is to be; see [`RunDescriptor`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunSpec {
    /// Whose rows.
    pub(crate) table: TableId,
    /// The interval of entries: behind this one...
    pub(crate) after: LogIndex,
    /// ...and up to this one.
    pub(crate) through: LogIndex,
    /// Tombstones up to here are left out by whoever gives the rows.
    pub(crate) bare: LogIndex,
    /// Which part of a snapshot; `None`: part 0, or a whole.
    pub(crate) part_of: Option<(Generation, u32)>,
    /// Whether no parts follow.
    pub(crate) last: bool,
    /// How many rows come at most: the filter's size.
    pub(crate) rows_max: u64,
}

/// The value of a row that is put into a run.
#[derive(Clone, Debug)]
pub(crate) enum NewValue {
    /// The row is deleted.
    Tombstone,
    /// The value itself. A long one goes into a value segment of the run's own.
    Bytes(Bytes),
    /// A value that stands in segments which were named by [`RunBuilder::reuse`].
    Stored {
        /// The hash of the whole value.
        hash: ValueHash,
        /// Its parts, in order.
        pieces: Vec<Piece>,
    },
}

/// A run on its way to the disk.
#[derive(Debug)]
pub(crate) struct RunBuilder {
    layout: Layout,
    spec: RunSpec,
    run: Generation,
    values: ValueWriter,
    /// All value segments that pieces may name, ascending, with what rows point to.
    referred: Vec<ValueRef>,
    data: BlockBuilder,
    /// Blocks so far.
    blocks: u32,
    stream: Stream,
    segments: Vec<SegmentId>,
    /// The first key of each data block.
    keys: Vec<Bytes>,
    last_key: Vec<u8>,
    filter: Option<Filter>,
    rows: u64,
    tombstones: u64,
}

/// A run that is complete but for its last writes.
#[derive(Debug)]
pub(crate) struct BuiltRun {
    /// The run, as readers will see it.
    pub(crate) run: Run,
    /// The rest of its body. All of it is to be durable before the headers are written.
    pub(crate) writes: Vec<DiskWrite>,
    /// The headers of all segments that are new.
    pub(crate) headers: Vec<DiskWrite>,
}

impl RunBuilder {
    /// A run without rows. `run` must not have been used.
    pub(crate) fn new(layout: Layout, spec: RunSpec, run: Generation) -> Self {
        Self {
            layout,
            spec,
            run,
            values: ValueWriter::new(layout),
            referred: Vec::new(),
            data: BlockBuilder::new(layout, run, BlockKind::Data, 0),
            blocks: 0,
            stream: Stream::default(),
            segments: Vec::new(),
            keys: Vec::new(),
            last_key: Vec::new(),
            filter: Filter::for_keys(spec.rows_max, &layout),
            rows: 0,
            tombstones: 0,
        }
    }

    /// Value segments that rows may point into: those of the runs that are merged.
    pub(crate) fn reuse(&mut self, values: &[ValueRef]) {
        for value in values {
            self.refer(value.segment, value.generation, value.used);
        }
    }

    fn refer(&mut self, segment: SegmentId, generation: Generation, used: u64) {
        match self.referred.binary_search_by_key(&segment, |value| value.segment) {
            Ok(at) => assert_eq!(self.referred[at].generation, generation, "a segment lives once"),
            Err(at) => self.referred.insert(at, ValueRef { segment, generation, live: 0, used }),
        }
    }

    /// Add a row, behind all others. After an error only [`Self::reserved`] makes sense.
    ///
    /// # Errors
    /// [`NoSegment`].
    ///
    /// # Panics
    /// If the key is not behind the last one, or a piece is in a segment that was not named.
    pub(crate) fn push(
        &mut self,
        key: &[u8],
        index: LogIndex,
        value: NewValue,
        free: &mut Segments,
    ) -> Result<(), NoSegment> {
        assert!(self.rows == 0 || self.last_key.as_slice() < key, "rows come in key order");
        debug_assert!(index <= self.spec.through, "a row is of the entries that the run covers");
        let is_tombstone = matches!(value, NewValue::Tombstone);
        let value = self.place(value, free)?;
        if !self.data.push(key, index, &value) {
            self.end_block(free)?;
            let fits = self.data.push(key, index, &value);
            assert!(fits, "a row fits into an empty block");
        }
        if self.keys.len() as u64 == u64::from(self.blocks) {
            // A copy: what the key is a part of may be much larger.
            self.keys.push(Bytes::copy_from_slice(key));
        }
        if let Some(filter) = &mut self.filter {
            filter.insert(KeyHash::of(key));
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.rows += 1;
        self.tombstones += u64::from(is_tombstone);
        Ok(())
    }

    fn place(&mut self, value: NewValue, free: &mut Segments) -> Result<BlockValue, NoSegment> {
        let (hash, pieces) = match value {
            NewValue::Tombstone => return Ok(BlockValue::Tombstone),
            NewValue::Bytes(value) if value.len() <= INLINE_BYTES_MAX => {
                return Ok(BlockValue::Inline(value));
            }
            NewValue::Bytes(value) => {
                let known = self.values.segments().len();
                let pieces = self.values.push(&value, free)?;
                for at in known..self.values.segments().len() {
                    let (segment, generation) = self.values.segments()[at];
                    self.refer(segment, generation, 0);
                }
                (ValueHash::of(&value), pieces)
            }
            NewValue::Stored { hash, pieces } => (hash, pieces),
        };
        for piece in &pieces {
            let at = self.referred.binary_search_by_key(&piece.segment, |value| value.segment);
            let at = at.expect("a piece is in a segment that was named");
            self.referred[at].live += PIECE_HEADER_BYTES + u64::from(piece.len);
        }
        Ok(BlockValue::Stored { hash, pieces })
    }

    fn end_block(&mut self, free: &mut Segments) -> Result<(), NoSegment> {
        let block = self.data.finish();
        self.push_block(block, free)
    }

    fn push_block(&mut self, block: Bytes, free: &mut Segments) -> Result<(), NoSegment> {
        if u64::from(self.blocks).is_multiple_of(self.layout.blocks_per_segment()) {
            let segment = free.reserve().ok_or(NoSegment)?;
            self.segments.push(segment);
            self.stream.begin(self.layout.offset(segment) + SECTOR);
        }
        self.stream.push(block);
        self.blocks += 1;
        Ok(())
    }

    /// Rows so far. A run has at least one.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Tombstones of entries up to this one were left out.
    pub(crate) fn set_bare(&mut self, bare: LogIndex) {
        self.spec.bare = bare;
    }

    /// Whether anything can be written now.
    pub(crate) fn has_writes(&self) -> bool {
        self.stream.is_ready() || self.values.stream_ref().is_ready()
    }

    /// What can be written now.
    pub(crate) fn take_writes(&mut self) -> Vec<DiskWrite> {
        let mut writes = self.values.stream().take();
        writes.append(&mut self.stream.take());
        writes
    }

    /// All segments that were reserved for it, to be given back if the run is given up. Those that
    /// anything was written to have no header yet.
    pub(crate) fn reserved(&self) -> Vec<SegmentId> {
        let values = self.values.segments().iter().map(|(segment, _)| *segment);
        self.segments.iter().copied().chain(values).collect()
    }

    /// Bytes that wait to be written, and of index and filter.
    pub(crate) fn memory_bytes(&self) -> (u64, u64) {
        let keys: usize = self.keys.iter().map(|key| key.len() + size_of::<Bytes>()).sum();
        let filter = self.filter.as_ref().map_or(0, |filter| filter.as_slice().len());
        let refs = size_of_val(&self.referred[..]);
        let waiting = self.stream.bytes() + self.values.stream_ref().bytes();
        (waiting, (keys + filter + refs) as u64)
    }

    /// All rows are in it.
    ///
    /// # Errors
    /// [`NoSegment`].
    ///
    /// # Panics
    /// If it has no rows.
    pub(crate) fn finish(&mut self, free: &mut Segments) -> Result<BuiltRun, NoSegment> {
        assert!(self.rows > 0, "a run has rows");
        self.end_block(free)?;
        self.values.stream().end();
        let data_blocks = self.blocks;
        let index = index_blocks(self.layout, self.run, data_blocks, &self.keys, &self.last_key);
        for block in index {
            self.push_block(block, free)?;
        }
        let index_blocks = self.blocks - data_blocks;
        let filter = self.filter.take();
        if let Some(filter) = &filter {
            let kind = BlockKind::Filter;
            for block in raw_blocks(filter.as_slice(), &self.layout, self.run, self.blocks, kind) {
                self.push_block(block, free)?;
            }
        }
        let filter_blocks = self.blocks - data_blocks - index_blocks;
        let part = match self.spec.part_of {
            Some((of, number)) => Part { of, number, last: self.spec.last },
            None => Part { last: self.spec.last, ..Part::whole(self.run) },
        };
        self.referred.retain(|value| value.live > 0);
        for (segment, _) in self.values.segments() {
            // All that was placed is a row's; the segments are the run's own.
            let at = self.referred.binary_search_by_key(segment, |value| value.segment);
            let value = &mut self.referred[at.expect("an own segment has values")];
            value.used = value.live;
        }
        let mut descriptor = RunDescriptor {
            run: self.run,
            table: self.spec.table,
            after: self.spec.after,
            through: self.spec.through,
            bare: self.spec.bare,
            part,
            rows: self.rows,
            tombstones: self.tombstones,
            data_blocks,
            index_blocks,
            filter_blocks,
            segments: self.segments.clone(),
            values: core::mem::take(&mut self.referred),
        };
        let place = self.describe(&mut descriptor, free)?;
        let headers = self.headers(&descriptor, place);
        let keys = core::mem::take(&mut self.keys);
        let last_key = Bytes::copy_from_slice(&self.last_key);
        let run = Run::from_parts(descriptor, keys, last_key, filter);
        self.stream.end();
        Ok(BuiltRun { run, writes: self.take_writes(), headers })
    }

    /// Put the description behind the other blocks. It names the segments that it stands in itself.
    fn describe(
        &mut self,
        descriptor: &mut RunDescriptor,
        free: &mut Segments,
    ) -> Result<RunPlace, NoSegment> {
        let per_segment = self.layout.blocks_per_segment();
        let first = self.blocks;
        let mut ahead = Vec::new();
        loop {
            let blocks = u64::from(first) + u64::from(description_blocks(descriptor, &self.layout));
            if blocks.div_ceil(per_segment) <= descriptor.segments.len() as u64 {
                break;
            }
            let segment = free.reserve().ok_or(NoSegment);
            // What is reserved belongs to the run at once, so that it is given back with the rest.
            self.segments.extend(segment);
            descriptor.segments.push(segment?);
            ahead.extend(segment);
        }
        let few = descriptor.segments.len() <= RUN_SEGMENTS_MAX
            && descriptor.values.len() <= RUN_VALUES_MAX;
        assert!(few, "runs that would be too large together are not merged");
        let bytes = descriptor.to_bytes();
        debug_assert_eq!(bytes.len(), descriptor.encoded_bytes());
        let mut ahead = ahead.into_iter();
        let kind = BlockKind::Description;
        for block in raw_blocks(&bytes, &self.layout, self.run, first, kind) {
            if u64::from(self.blocks).is_multiple_of(per_segment) {
                let segment = ahead.next().expect("it was reserved");
                self.stream.begin(self.layout.offset(segment) + SECTOR);
            }
            self.stream.push(block);
            self.blocks += 1;
        }
        Ok(RunPlace {
            ordinal: 0,
            segments: u32::try_from(descriptor.segments.len()).expect("few segments"),
            description_block: first,
            description_bytes: u32::try_from(bytes.len()).expect("a short description"),
            description: Checksum::of(0, &bytes),
        })
    }

    fn headers(&self, run: &RunDescriptor, place: RunPlace) -> Vec<DiskWrite> {
        let blocks = (0..).zip(&run.segments).map(|(ordinal, segment)| {
            let content = SegmentContent::Run(RunPlace { ordinal, ..place });
            (*segment, SegmentHeader { generation: run.run, content })
        });
        let values = self.values.segments().iter().map(|(segment, generation)| {
            let (generation, content) = (*generation, SegmentContent::Values);
            (*segment, SegmentHeader { generation, content })
        });
        let sector = |(segment, header): (SegmentId, SegmentHeader)| {
            (self.layout.offset(segment), vec![header.encode(&self.layout, segment)])
        };
        blocks.chain(values).map(sector).collect()
    }
}

/// A run as it is to be written, all of it.
#[derive(Debug)]
pub(crate) struct RunImage {
    /// The run, as readers will see it.
    pub(crate) run: Run,
    /// Blocks and values. To be durable before the headers are written.
    pub(crate) body: Vec<DiskWrite>,
    /// The headers of all its segments.
    pub(crate) headers: Vec<DiskWrite>,
    /// All its segments.
    pub(crate) segments: Vec<SegmentId>,
}

/// Lay out the rows of a memtable, which is not empty. `None` if there are not enough free segments;
/// none stays reserved then. The whole image is in memory at once: at most a memtable's bytes, whose
/// large values are shared handles and not copied.
pub(crate) fn build(
    layout: Layout,
    spec: RunSpec,
    rows: &Memtable,
    free: &mut Segments,
) -> Option<RunImage> {
    let run = free.next_generation();
    let mut builder = RunBuilder::new(layout, spec, run);
    match fill(&mut builder, rows, free) {
        Ok((mut body, built)) => {
            body.extend(built.writes);
            let segments = builder.reserved();
            Some(RunImage { run: built.run, body, headers: built.headers, segments })
        }
        Err(NoSegment) => {
            for segment in builder.reserved() {
                free.set(segment, SegmentState::Free);
            }
            None
        }
    }
}

fn fill(
    builder: &mut RunBuilder,
    rows: &Memtable,
    free: &mut Segments,
) -> Result<(Vec<DiskWrite>, BuiltRun), NoSegment> {
    for (key, row) in rows.iter() {
        let value = row.value.clone().map_or(NewValue::Tombstone, NewValue::Bytes);
        builder.push(key, row.index, value, free)?;
    }
    Ok((builder.take_writes(), builder.finish(free)?))
}

/// How many segments a memtable takes, at most.
pub(crate) fn segments_needed(layout: &Layout, memtable_bytes: u64) -> usize {
    // The worst rows have the longest keys, one to a block, and stand in the index once more: two
    // blocks of 4 KiB for each 2.8 KiB. A row counts for 128 bytes at least, and has ten bits in the
    // filter. Values add one segment that is begun.
    let bytes = memtable_bytes.saturating_mul(3).saturating_add(layout.tree_block * 4);
    let segments = bytes.div_ceil(layout.segment - SECTOR) + 2;
    usize::try_from(segments).unwrap_or(usize::MAX)
}

fn index_blocks(
    layout: Layout,
    run: Generation,
    first: u32,
    keys: &[Bytes],
    last_key: &[u8],
) -> Vec<Bytes> {
    let mut builder = BlockBuilder::new(layout, run, BlockKind::Index, first);
    let mut blocks = Vec::new();
    for key in keys.iter().map(Bytes::as_ref).chain([last_key]) {
        if !builder.push_key(key) {
            blocks.push(builder.finish());
            let fits = builder.push_key(key);
            assert!(fits, "a key fits into an empty block");
        }
    }
    blocks.push(builder.finish());
    blocks
}
