//! Judging a copy of a chunk by the bytes that stand at its place: its header, and each of its blocks.

use bytes::Bytes;

use crate::disk::SECTOR;
use crate::hash::Checksum;
use crate::ids::ChunkId;
use crate::message::ChunkCopy;

use super::super::segment::allocator::SegmentState;
use super::super::segment::chunk::{ChunkHeader, header_bytes_of};
use super::super::segment::edit::ChunkRecord;
use super::super::segment::layout::{Generation, SegmentId};
use super::Shelf;

/// Where header and data of a copy are. How long the header is depends on the owner's key, which only
/// the header knows: the span begins where the longest would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CopySpan {
    /// The segment.
    pub(crate) segment: SegmentId,
    /// Which life of it.
    generation: Generation,
    /// First byte, in the segment.
    start: u64,
    /// The same, on the disk; a multiple of the sector.
    pub(crate) offset: u64,
    /// Bytes, a multiple of the sector.
    pub(crate) len: u64,
    /// Where the data is, on the disk.
    pub(crate) data_offset: u64,
}

impl CopySpan {
    /// Bytes of what stands before the data.
    pub(crate) fn header_len(&self) -> u64 {
        self.data_offset - self.offset
    }
}

/// What is wrong with a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkFault {
    /// With its header.
    pub header: Option<HeaderFault>,
    /// Blocks that do not have the checksum that the index has for them.
    pub blocks: Vec<u32>,
}

/// What is wrong with the header of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// None that verifies stands there.
    Damaged,
    /// It verifies, and is of another chunk, or says other sizes or checksums than the index.
    Contradicts,
}

impl Shelf {
    /// Where the copy is; `None` if no chunk can be where the record says.
    pub(crate) fn copy_span(&self, record: &ChunkRecord) -> Option<CopySpan> {
        let data_at = u64::from(record.offset);
        let end = data_at + u64::from(record.length).next_multiple_of(SECTOR);
        let (_, longest) = header_bytes_of(record.checksums.len());
        let start = data_at.saturating_sub(longest).max(SECTOR);
        let Some(SegmentState::Chunks { generation, .. }) = self.segments.state(record.segment)
        else {
            return None;
        };
        if !data_at.is_multiple_of(SECTOR) || start >= data_at || end > self.layout.segment {
            return None;
        }
        let segment = self.layout.offset(record.segment);
        Some(CopySpan {
            segment: record.segment,
            generation,
            start,
            offset: segment + start,
            len: end - start,
            data_offset: segment + data_at,
        })
    }

    /// The header of the copy, if `bytes` begin at the span's start and go to the data at least.
    ///
    /// # Errors
    /// [`HeaderFault`].
    pub(crate) fn judge_header(
        &self,
        chunk: ChunkId,
        record: &ChunkRecord,
        span: &CopySpan,
        bytes: &Bytes,
    ) -> Result<ChunkHeader, HeaderFault> {
        let data_at = u64::from(record.offset);
        let from = data_from(record, span);
        if bytes.len() < from {
            return Err(HeaderFault::Damaged);
        }
        let (shortest, longest) = header_bytes_of(record.checksums.len());
        let mut fault = HeaderFault::Damaged;
        for length in (shortest..=longest).step_by(SECTOR_BYTES) {
            let Some(at) = data_at.checked_sub(length).filter(|at| *at >= span.start) else {
                break;
            };
            let inside = usize::try_from(at - span.start).expect("within a header");
            let (segment, generation) = (span.segment, span.generation);
            let header = bytes.slice(inside..from);
            match ChunkHeader::decode(&header, &self.layout, segment, generation, at) {
                Ok(header) if header.header_bytes() != length => {}
                Ok(header)
                    if header.chunk == chunk
                        && record.same_content(
                            header.length,
                            header.block_size,
                            &header.checksums,
                        ) =>
                {
                    return Ok(header);
                }
                Ok(_) => fault = HeaderFault::Contradicts,
                Err(_) => {}
            }
        }
        Err(fault)
    }

    /// The copy in `bytes`, which are those of the span, if header and all blocks verify.
    ///
    /// # Errors
    /// [`ChunkFault`].
    pub(crate) fn judge_copy(
        &self,
        chunk: ChunkId,
        record: &ChunkRecord,
        span: &CopySpan,
        bytes: &Bytes,
    ) -> Result<ChunkCopy, ChunkFault> {
        let header = self.judge_header(chunk, record, span, bytes);
        let from = data_from(record, span).min(bytes.len());
        let to = from.saturating_add(record.length as usize).min(bytes.len());
        let data = bytes.slice(from..to);
        let mut present = data.chunks((record.block_size as usize).max(1));
        let fails = |(block, sum): (u32, &Checksum)| {
            let sound =
                present.next().is_some_and(|it| Checksum::of_block(chunk, block, it) == *sum);
            (!sound).then_some(block)
        };
        let blocks: Vec<u32> = (0..).zip(&record.checksums).filter_map(fails).collect();
        match header {
            Ok(header) if blocks.is_empty() => {
                let ChunkHeader { owner, epoch, block_size, checksums, .. } = header;
                Ok(ChunkCopy { owner, epoch, block_size, data, checksums })
            }
            header => Err(ChunkFault { header: header.err(), blocks }),
        }
    }

    /// The copy in `bytes`, whatever its blocks are like: for a planted mistake.
    pub(crate) fn unjudged_copy(
        &self,
        chunk: ChunkId,
        record: &ChunkRecord,
        span: &CopySpan,
        bytes: &Bytes,
    ) -> Option<ChunkCopy> {
        let header = self.judge_header(chunk, record, span, bytes).ok()?;
        let from = data_from(record, span);
        let to = from.checked_add(record.length as usize).filter(|to| *to <= bytes.len())?;
        let ChunkHeader { owner, epoch, block_size, checksums, .. } = header;
        Some(ChunkCopy { owner, epoch, block_size, data: bytes.slice(from..to), checksums })
    }
}

/// A sector, as a step.
const SECTOR_BYTES: usize = 4096;
const _: () = assert!(SECTOR_BYTES as u64 == SECTOR);

/// Where in the span the data begins.
fn data_from(record: &ChunkRecord, span: &CopySpan) -> usize {
    usize::try_from(u64::from(record.offset) - span.start).expect("behind the longest header")
}

/// One number for all the block checksums of a copy.
pub(crate) fn digest_of(checksums: &[Checksum]) -> Checksum {
    let bytes: Vec<u8> = checksums.iter().flat_map(|sum| sum.0.to_le_bytes()).collect();
    Checksum::of(0, &bytes)
}
