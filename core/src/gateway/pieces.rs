//! Cuts a span of an object into reads of whole blocks, at most one chunk each.

use bytes::Bytes;

use super::ranges::Span;
use crate::hash::Checksum;
use crate::ids::{BlobId, ChunkId};
use crate::object::{ObjectRecord, PartRef};

/// Blocks of one chunk, and which of their bytes are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) chunk: ChunkId,
    pub(super) first_block: u32,
    pub(super) blocks: u32,
    /// Bytes of a block.
    block_size: u32,
    /// Bytes of all these blocks.
    pub(super) read: u64,
    /// Bytes before the wanted ones.
    skip: u64,
    /// Wanted bytes.
    pub(super) take: u64,
}

/// The pieces of a span that are still to come.
#[derive(Debug)]
pub(super) struct Pieces {
    /// Parts from the present one on, the last first.
    parts: Vec<PartRef>,
    /// Next wanted byte in the present part.
    at: u64,
    /// Wanted bytes still to come.
    left: u64,
}

/// The record's parts and lengths contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DamagedRecord;

impl Pieces {
    /// The pieces of a span of an object that is kept in blobs.
    ///
    /// # Errors
    /// [`DamagedRecord`].
    pub(super) fn new(
        record: &ObjectRecord,
        parts: &[PartRef],
        span: Span,
    ) -> Result<Self, DamagedRecord> {
        let mut total = 0_u64;
        for part in parts {
            let fits = match &part.blob {
                None => part.length == 0,
                Some(blob) => {
                    blob.length == part.length
                        && blob.block_size > 0
                        && blob.chunk_size >= blob.block_size
                        && blob.chunk_size.is_multiple_of(blob.block_size)
                        && u32::try_from(blob.length / u64::from(blob.chunk_size)).is_ok()
                }
            };
            total = total.checked_add(part.length).filter(|_| fits).ok_or(DamagedRecord)?;
        }
        if total != record.length {
            return Err(DamagedRecord);
        }
        let mut at = span.first;
        let mut rest = parts;
        while let [part, behind @ ..] = rest
            && at >= part.length
        {
            at -= part.length;
            rest = behind;
        }
        Ok(Self { parts: rest.iter().rev().cloned().collect(), at, left: span.length })
    }
}

impl Pieces {
    /// The blobs that pieces are still to come of.
    pub(super) fn blobs(&self) -> impl ExactSizeIterator<Item = &BlobId> {
        let parts: Vec<&BlobId> = match self.is_empty() {
            true => Vec::new(),
            false => self.parts.iter().filter_map(|part| Some(&part.blob.as_ref()?.blob)).collect(),
        };
        parts.into_iter()
    }

    /// Whether none is to come.
    pub(super) fn is_empty(&self) -> bool {
        self.left == 0 || self.parts.is_empty()
    }
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.left == 0 {
            return None;
        }
        while self.parts.last().is_some_and(|part| self.at >= part.length) {
            self.at -= self.parts.pop()?.length;
        }
        let blob = self.parts.last()?.blob.as_ref()?;
        let (chunk_size, block_size) = (u64::from(blob.chunk_size), u64::from(blob.block_size));
        let number = self.at / chunk_size;
        let chunk_length = chunk_size.min(blob.length - number * chunk_size);
        let in_chunk = self.at % chunk_size;
        let take = self.left.min(chunk_length - in_chunk);
        let mut first_block = in_chunk / block_size;
        let skip = in_chunk - first_block * block_size;
        if planted!(RangeReadOffByBlock) {
            first_block = first_block.saturating_sub(1);
        }
        let end_block = (in_chunk + take).div_ceil(block_size);
        let read = chunk_length.min(end_block * block_size) - first_block * block_size;
        self.at += take;
        self.left -= take;
        let small = |number: u64| u32::try_from(number).expect("checked when the cutting began");
        Some(Piece {
            chunk: ChunkId { blob: blob.blob, number: small(number) },
            first_block: small(first_block),
            blocks: small(end_block - first_block),
            block_size: blob.block_size,
            read,
            skip,
            take,
        })
    }
}

impl Piece {
    /// The wanted bytes of what a store gave, if every block of it verifies.
    pub(super) fn verified(&self, bytes: &Bytes, checksums: &[Checksum]) -> Option<Bytes> {
        if bytes.len() as u64 != self.read || checksums.len() as u64 != u64::from(self.blocks) {
            return None;
        }
        let blocks = bytes.chunks(usize::try_from(self.block_size).ok()?);
        let intact = (self.first_block..)
            .zip(blocks)
            .zip(checksums)
            .all(|((number, block), sum)| Checksum::of_block(self.chunk, number, block) == *sum);
        let skip = usize::try_from(self.skip).ok()?;
        let take = usize::try_from(self.take).ok()?;
        (intact || planted!(BlocksUnverified)).then(|| bytes.slice(skip..skip + take))
    }
}
