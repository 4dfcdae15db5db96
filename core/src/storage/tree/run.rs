//! A run: sorted rows on disk that never change, with their block index and filter in memory.

use std::ops::Bound;

use bytes::Bytes;

use crate::codec::DecodeError;
use crate::disk::SECTOR;
use crate::rows::Miss;

use super::super::segment::edit::RunDescriptor;
use super::super::segment::layout::{Layout, SegmentId};
use super::block::{BLOCK_HEADER_BYTES, Block, BlockKind, RowRef, parse_raw};
use super::cache::BlockCache;
use super::filter::{Filter, KeyHash};

/// A run whose block index and filter are loaded.
#[derive(Debug)]
pub(crate) struct Run {
    /// What it is made of.
    pub(crate) descriptor: RunDescriptor,
    /// The first key of each data block.
    first_keys: Vec<Bytes>,
    /// The last key of all.
    last_key: Bytes,
    filter: Option<Filter>,
}

/// Blocks of a run that are kept in memory, as they come from the disk.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    keys: Vec<Bytes>,
    filter: Vec<Bytes>,
}

impl Loaded {
    /// Take the run's block `number`, behind those before it.
    ///
    /// # Errors
    /// [`DecodeError`] if it does not verify.
    pub(crate) fn take(
        &mut self,
        bytes: &Bytes,
        run: &RunDescriptor,
        layout: &Layout,
        number: u32,
    ) -> Result<(), DecodeError> {
        if number < run.data_blocks + run.index_blocks {
            let block = Block::parse_index(bytes, layout, run.run, number)?;
            self.keys.extend(block.rows().map(RowRef::key_bytes));
        } else {
            self.filter.push(parse_raw(bytes, layout, run.run, number, BlockKind::Filter)?);
        }
        Ok(())
    }

    /// The run.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if the number of keys is wrong.
    pub(crate) fn finish(mut self, descriptor: RunDescriptor) -> Result<Run, DecodeError> {
        let expected = descriptor.data_blocks as usize + 1;
        match self.keys.pop() {
            Some(last_key) if self.keys.len() + 1 == expected && !self.keys.is_empty() => {
                let filter = Filter::from_payloads(&self.filter);
                Ok(Run::from_parts(descriptor, self.keys, last_key, filter))
            }
            _ => Err(DecodeError::Invalid { what: "block index" }),
        }
    }
}

impl Run {
    /// From the first key of each data block, the last key of all, and the filter.
    pub(crate) fn from_parts(
        descriptor: RunDescriptor,
        first_keys: Vec<Bytes>,
        last_key: Bytes,
        filter: Option<Filter>,
    ) -> Self {
        debug_assert_eq!(first_keys.len(), descriptor.data_blocks as usize);
        Self { descriptor, first_keys, last_key, filter }
    }

    /// The state of `key` in this run. `hash` is that of the key.
    ///
    /// # Errors
    /// [`Miss`].
    pub(crate) fn get<'a>(
        &self,
        key: &[u8],
        hash: KeyHash,
        layout: &Layout,
        cache: &'a BlockCache,
    ) -> Result<Option<RowRef<'a>>, Miss> {
        let outside = self.first_keys[0].as_ref() > key || self.last_key.as_ref() < key;
        if outside || !self.filter.as_ref().is_none_or(|filter| filter.may_have(hash)) {
            return Ok(None);
        }
        let found = self.block(self.block_before(key), layout, cache)?.get(key);
        if found.is_none() {
            probe!(FilterPassedInVain);
        }
        Ok(found)
    }

    /// Whether it may have rows of this family, and rows from `from` on and before `end`.
    pub(crate) fn may_have(&self, family: Option<KeyHash>, from: &[u8], end: &[u8]) -> bool {
        let outside = self.last_key.as_ref() < from || self.first_keys[0].as_ref() >= end;
        let filter = self.filter.as_ref().zip(family);
        !outside && filter.is_none_or(|(filter, family)| filter.may_have(family))
    }

    /// The first key of data block `number`; `None` behind the last.
    pub(crate) fn first_key(&self, number: usize) -> Option<&[u8]> {
        self.first_keys.get(number).map(Bytes::as_ref)
    }

    /// The first row within `from` and before `end`.
    ///
    /// # Errors
    /// [`Miss`].
    pub(crate) fn first<'a>(
        &self,
        from: Bound<&[u8]>,
        end: &[u8],
        layout: &Layout,
        cache: &'a BlockCache,
    ) -> Result<Option<RowRef<'a>>, Miss> {
        let start = match from {
            Bound::Included(key) | Bound::Excluded(key) => key,
            Bound::Unbounded => &[],
        };
        if self.last_key.as_ref() < start || self.first_keys[0].as_ref() >= end {
            return Ok(None);
        }
        let mut number = self.block_before(start);
        while number < self.first_keys.len() && self.first_keys[number].as_ref() < end {
            let block = self.block(number, layout, cache)?;
            let at = block.partition(|other| match from {
                Bound::Included(key) => other < key,
                Bound::Excluded(key) => other <= key,
                Bound::Unbounded => false,
            });
            if let Some(row) = block.row(at) {
                return Ok(Some(row).filter(|row| row.key() < end));
            }
            // All rows of this block are before `from`: the next one begins behind it.
            number += 1;
        }
        Ok(None)
    }

    /// Bytes of block index, filter and description in memory.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let keys = self.first_keys.iter().map(|key| key.len() + size_of::<Bytes>());
        let filter = self.filter.as_ref().map_or(0, |filter| filter.as_slice().len());
        (keys.sum::<usize>() + filter + self.descriptor.encoded_bytes()) as u64
    }

    /// The last block that begins at or before `key`, or the first block.
    pub(crate) fn block_before(&self, key: &[u8]) -> usize {
        self.first_keys.partition_point(|first| first.as_ref() <= key).saturating_sub(1)
    }

    /// Data block `number`.
    ///
    /// # Errors
    /// [`Miss`].
    pub(crate) fn block<'a>(
        &self,
        number: usize,
        layout: &Layout,
        cache: &'a BlockCache,
    ) -> Result<&'a Block, Miss> {
        let number = u32::try_from(number).expect("a run has under 2^32 blocks");
        let at = block_span(&self.descriptor, layout, number);
        cache.block(at).ok_or(at)
    }
}

/// Where block `number` of a run is.
pub(crate) fn block_span(run: &RunDescriptor, layout: &Layout, number: u32) -> Miss {
    block_place(&run.segments, layout, number)
}

/// Where block `number` is of a run that has these segments.
pub(crate) fn block_place(segments: &[SegmentId], layout: &Layout, number: u32) -> Miss {
    let per_segment = layout.blocks_per_segment();
    let number = u64::from(number);
    let segment = usize::try_from(number / per_segment).expect("a run has few segments");
    let inside = SECTOR + number % per_segment * layout.tree_block;
    Miss { offset: layout.offset(segments[segment]) + inside, len: layout.tree_block }
}

/// Which data block of a run stands at a span, if one does.
pub(crate) fn block_at(run: &RunDescriptor, layout: &Layout, at: Miss) -> Option<u32> {
    let (segment, inside) = layout.locate(at.offset)?;
    let nth = run.segments.iter().position(|other| *other == segment)? as u64;
    let inside = inside.checked_sub(SECTOR).filter(|inside| inside % layout.tree_block == 0)?;
    let number = nth * layout.blocks_per_segment() + inside / layout.tree_block;
    let number = u32::try_from(number).ok()?;
    (number < run.data_blocks && at.len == layout.tree_block).then_some(number)
}

/// How many blocks hold the description of a run.
pub(crate) fn description_blocks(run: &RunDescriptor, layout: &Layout) -> u32 {
    let room = layout.tree_block - BLOCK_HEADER_BYTES as u64;
    u32::try_from((run.encoded_bytes() as u64).div_ceil(room)).expect("a short description")
}

/// Whether the description of a run, which comes from disk, can be true.
pub(crate) fn is_plausible(run: &RunDescriptor, layout: &Layout) -> bool {
    let description = description_blocks(run, layout);
    let blocks = [run.data_blocks, run.index_blocks, run.filter_blocks, description];
    let needed = blocks.into_iter().map(u64::from).sum::<u64>();
    let values = run.values.iter().map(|value| value.segment);
    let mut own: Vec<_> = run.segments.iter().copied().chain(values).collect();
    own.sort_unstable();
    let distinct = own.windows(2).all(|pair| pair[0] != pair[1]);
    run.data_blocks > 0
        && run.index_blocks > 0
        && needed <= u64::from(u32::MAX)
        && needed.div_ceil(layout.blocks_per_segment()) == run.segments.len() as u64
        && distinct
        && own.iter().all(|segment| segment.0 < layout.count)
}
