//! A run: sorted rows on disk that never change, with their block index in memory.

use std::ops::Bound;

use bytes::Bytes;

use crate::codec::DecodeError;
use crate::disk::SECTOR;
use crate::rows::Miss;

use super::super::segment::edit::RunDescriptor;
use super::super::segment::layout::Layout;
use super::block::{Block, BlockKind, BlockRow};
use super::cache::BlockCache;

/// A run whose block index is loaded.
#[derive(Debug)]
pub(crate) struct Run {
    /// What it is made of.
    pub(crate) descriptor: RunDescriptor,
    /// The first key of each data block.
    first_keys: Vec<Bytes>,
    /// The last key of all.
    last_key: Bytes,
}

impl Run {
    /// From the keys of its index blocks: one for each data block, and the last key.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if their number is wrong.
    pub(crate) fn new(
        descriptor: RunDescriptor,
        mut keys: Vec<Bytes>,
    ) -> Result<Self, DecodeError> {
        let expected = descriptor.data_blocks as usize + 1;
        match keys.pop() {
            Some(last_key) if keys.len() + 1 == expected && !keys.is_empty() => {
                Ok(Self { descriptor, first_keys: keys, last_key })
            }
            _ => Err(DecodeError::Invalid { what: "block index" }),
        }
    }

    /// The state of `key` in this run.
    ///
    /// # Errors
    /// [`Miss`].
    pub(crate) fn get<'a>(
        &self,
        key: &[u8],
        layout: &Layout,
        cache: &'a BlockCache,
    ) -> Result<Option<&'a BlockRow>, Miss> {
        if self.first_keys[0].as_ref() > key || self.last_key.as_ref() < key {
            return Ok(None);
        }
        let rows = self.block(self.block_before(key), layout, cache)?.rows();
        Ok(rows.binary_search_by(|row| row.key.as_ref().cmp(key)).ok().map(|at| &rows[at]))
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
    ) -> Result<Option<&'a BlockRow>, Miss> {
        let start = match from {
            Bound::Included(key) | Bound::Excluded(key) => key,
            Bound::Unbounded => &[],
        };
        if self.last_key.as_ref() < start || self.first_keys[0].as_ref() >= end {
            return Ok(None);
        }
        let mut number = self.block_before(start);
        while number < self.first_keys.len() && self.first_keys[number].as_ref() < end {
            let rows = self.block(number, layout, cache)?.rows();
            let at = rows.partition_point(|row| match from {
                Bound::Included(key) => row.key.as_ref() < key,
                Bound::Excluded(key) => row.key.as_ref() <= key,
                Bound::Unbounded => false,
            });
            if let Some(row) = rows.get(at) {
                return Ok(Some(row).filter(|row| row.key.as_ref() < end));
            }
            // All rows of this block are before `from`: the next one begins behind it.
            number += 1;
        }
        Ok(None)
    }

    /// Bytes of its block index in memory.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.first_keys.iter().map(|key| (key.len() + size_of::<Bytes>()) as u64).sum()
    }

    /// The last block that begins at or before `key`, or the first block.
    fn block_before(&self, key: &[u8]) -> usize {
        self.first_keys.partition_point(|first| first.as_ref() <= key).saturating_sub(1)
    }

    fn block<'a>(
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
    let per_segment = layout.blocks_per_segment();
    let number = u64::from(number);
    let segment = usize::try_from(number / per_segment).expect("a run has few segments");
    let inside = SECTOR + number % per_segment * layout.tree_block;
    Miss { offset: layout.offset(run.segments[segment]) + inside, len: layout.tree_block }
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

/// Whether the description of a run, which comes from disk, can be true.
pub(crate) fn is_plausible(run: &RunDescriptor, layout: &Layout) -> bool {
    let blocks = u64::from(run.data_blocks) + u64::from(run.index_blocks);
    let needed = blocks.div_ceil(layout.blocks_per_segment());
    let mut own: Vec<_> = run.segments.iter().chain(&run.values).collect();
    own.sort_unstable();
    let distinct = own.windows(2).all(|pair| pair[0] != pair[1]);
    run.data_blocks > 0
        && run.index_blocks > 0
        && needed == run.segments.len() as u64
        && distinct
        && own.iter().all(|segment| segment.0 < layout.count)
}

/// The keys of an index block.
///
/// # Errors
/// [`DecodeError`] if it does not verify.
pub(crate) fn index_keys(
    bytes: &Bytes,
    run: &RunDescriptor,
    layout: &Layout,
    number: u32,
) -> Result<Vec<Bytes>, DecodeError> {
    let block = Block::parse(bytes, layout, run.run, number, BlockKind::Index, &[])?;
    Ok(block.rows().iter().map(|row| row.key.clone()).collect())
}
