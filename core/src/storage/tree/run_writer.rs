//! From a memtable to the bytes of a run. Pure but for the segments that it reserves.
//!
//! The whole image is in memory at once: at most a memtable's bytes, whose large values are shared
//! handles and not copied.

use bytes::Bytes;

use crate::disk::SECTOR;
use crate::hash::ValueHash;
use crate::ids::LogIndex;

use super::super::segment::allocator::{SegmentState, Segments};
use super::super::segment::edit::{RUN_SEGMENTS_MAX, RunDescriptor, TableId};
use super::super::segment::header::{SegmentContent, SegmentHeader};
use super::super::segment::layout::{Generation, Layout, SegmentId};
use super::INLINE_BYTES_MAX;
use super::block::{BlockBuilder, BlockKind, BlockRow, BlockValue};
use super::memtable::{MemoryRow, Memtable};
use super::run::Run;
use super::value::ValueWriter;

/// A write: byte offset on the disk, and the parts.
pub(crate) type DiskWrite = (u64, Vec<Bytes>);

/// A run as it is to be written.
#[derive(Debug)]
pub(crate) struct RunImage {
    /// The run, as readers will see it.
    pub(crate) run: Run,
    /// Blocks and values. To be durable before the headers are written.
    pub(crate) body: Vec<DiskWrite>,
    /// The headers of all its segments.
    pub(crate) headers: Vec<DiskWrite>,
}

/// Lay out the rows of a memtable, which is not empty, of entries up to `through`; for `part` see
/// [`RunDescriptor`]. `None` if there are not enough free
/// segments; none stays reserved then.
pub(crate) fn build(
    layout: Layout,
    table: TableId,
    previous: Option<Generation>,
    (through, part): (LogIndex, bool),
    rows: &Memtable,
    segments: &mut Segments,
) -> Option<RunImage> {
    assert!(!rows.is_empty(), "a run has rows");
    let run = segments.next_generation();
    let mut reserved = Vec::new();
    let image = lay_out(layout, run, rows, segments, &mut reserved);
    let Some((blocks, values)) = image else {
        for segment in reserved {
            segments.set(segment, SegmentState::Free);
        }
        return None;
    };
    let descriptor = RunDescriptor {
        run,
        table,
        previous,
        through,
        part,
        data_blocks: blocks.data_blocks,
        index_blocks: blocks.index_blocks,
        segments: blocks.segments.iter().map(|(segment, _)| *segment).collect(),
        values: values.iter().map(|(segment, _)| *segment).collect(),
    };
    let headers = headers(&layout, &descriptor);
    let body = blocks
        .segments
        .into_iter()
        .chain(values)
        .map(|(segment, parts)| (layout.offset(segment) + SECTOR, parts))
        .collect();
    let run = Run::new(descriptor, blocks.keys).expect("the index was just built");
    Some(RunImage { run, body, headers })
}

/// How many segments a memtable takes, at most.
pub(crate) fn segments_needed(layout: &Layout, memtable_bytes: u64) -> usize {
    // The worst rows have the longest keys, one to a block, and stand in the index once more: two
    // blocks of 4 KiB for each 2.8 KiB. Values add one segment that is begun.
    let bytes = memtable_bytes.saturating_mul(3).saturating_add(layout.tree_block * 2);
    let segments = bytes.div_ceil(layout.segment - SECTOR) + 2;
    usize::try_from(segments).unwrap_or(usize::MAX)
}

struct Blocks {
    segments: Vec<(SegmentId, Vec<Bytes>)>,
    data_blocks: u32,
    index_blocks: u32,
    keys: Vec<Bytes>,
}

type Values = Vec<(SegmentId, Vec<Bytes>)>;

/// Segments that were reserved are in `reserved`, also when this gives up.
fn lay_out(
    layout: Layout,
    run: Generation,
    rows: &Memtable,
    free: &mut Segments,
    reserved: &mut Vec<SegmentId>,
) -> Option<(Blocks, Values)> {
    let mut values = ValueWriter::new(layout, run);
    let mut data = BlockBuilder::new(layout, run, BlockKind::Data, 0);
    let mut blocks = Vec::new();
    let mut keys = Vec::new();
    let mut last_key = Bytes::new();
    let mut complete = true;
    for (key, row) in rows.iter() {
        let Some(row) = block_row(key, row, &mut values, free) else {
            complete = false;
            break;
        };
        if !data.push(&row) {
            let (block, next) = data.finish();
            blocks.push(block);
            data = next;
            assert!(data.push(&row), "a row fits into an empty block");
            keys.push(key.clone());
        } else if keys.is_empty() {
            keys.push(key.clone());
        }
        last_key = key.clone();
    }
    let values = values.finish();
    reserved.extend(values.iter().map(|(segment, _)| *segment));
    if !complete {
        return None;
    }
    blocks.push(data.finish().0);
    keys.push(last_key);
    let data_blocks = u32::try_from(blocks.len()).expect("a memtable gives few blocks");
    blocks.extend(index_blocks(layout, run, data_blocks, &keys));
    let index_blocks = u32::try_from(blocks.len()).expect("few blocks") - data_blocks;
    let per_segment = usize::try_from(layout.blocks_per_segment()).expect("a segment is small");
    let mut segments = Vec::new();
    for part in blocks.chunks(per_segment) {
        let segment = free.reserve()?;
        reserved.push(segment);
        segments.push((segment, part.to_vec()));
    }
    let few = segments.len() <= RUN_SEGMENTS_MAX && values.len() <= RUN_SEGMENTS_MAX;
    assert!(few, "a memtable fills at most RUN_SEGMENTS_MAX segments");
    Some((Blocks { segments, data_blocks, index_blocks, keys }, values))
}

fn block_row(
    key: &Bytes,
    row: &MemoryRow,
    values: &mut ValueWriter,
    free: &mut Segments,
) -> Option<BlockRow> {
    let value = match &row.value {
        None => BlockValue::Tombstone,
        Some(value) if value.len() <= INLINE_BYTES_MAX => BlockValue::Inline(value.clone()),
        Some(value) => {
            BlockValue::Stored { hash: ValueHash::of(value), pieces: values.push(value, free)? }
        }
    };
    Some(BlockRow { key: key.clone(), index: row.index, value })
}

fn index_blocks(layout: Layout, run: Generation, first: u32, keys: &[Bytes]) -> Vec<Bytes> {
    let mut builder = BlockBuilder::new(layout, run, BlockKind::Index, first);
    let mut blocks = Vec::new();
    for key in keys {
        let value = BlockValue::Inline(Bytes::new());
        let row = BlockRow { key: key.clone(), index: LogIndex(0), value };
        if !builder.push(&row) {
            let (block, next) = builder.finish();
            blocks.push(block);
            builder = next;
            assert!(builder.push(&row), "a key fits into an empty block");
        }
    }
    if !builder.is_empty() {
        blocks.push(builder.finish().0);
    }
    blocks
}

fn headers(layout: &Layout, run: &RunDescriptor) -> Vec<DiskWrite> {
    let blocks = run.segments.iter().map(|segment| (*segment, SegmentContent::Run(run.clone())));
    let values = run.values.iter().map(|segment| (*segment, SegmentContent::Values(run.clone())));
    blocks
        .chain(values)
        .map(|(segment, content)| {
            let header = SegmentHeader { generation: run.run, content };
            (layout.offset(segment), vec![header.encode(layout, segment)])
        })
        .collect()
}
