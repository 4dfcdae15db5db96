//! Where things are on the disk, and the seeds of their checksums.

use crate::cluster::Geometry;
use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::disk::SECTOR;
use crate::hash::Checksum;
use crate::ids::{StoreId, counter};
use crate::storage::layout::are_segments_sound;

/// The place of a segment in the area, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentId(pub(crate) u32);

/// One life of a segment. Never used twice on a store: incarnation (upper 32 bits) and a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Generation(pub(crate) u64);

impl Wire for SegmentId {
    fn encode(&self, out: &mut Encoder) {
        out.u32(self.0);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.u32().map(Self)
    }
}

impl Wire for Generation {
    fn encode(&self, out: &mut Encoder) {
        out.u64(self.0);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        counter("generation", input.u64()?).map(Self)
    }
}

/// The shape of the area of segments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Whose disk it is.
    pub(crate) store: StoreId,
    /// Byte offset of segment 0.
    pub(crate) area: u64,
    /// Bytes of a segment, its header included.
    pub(crate) segment: u64,
    /// How many segments there are.
    pub(crate) count: u32,
    /// Bytes of a tree block.
    pub(crate) tree_block: u64,
}

impl Layout {
    /// The segments between `area` and the end of the disk.
    ///
    /// # Panics
    /// If the geometry is not one that a disk can be formatted with.
    pub(crate) fn new(store: StoreId, geometry: &Geometry, area: u64) -> Self {
        let tree_block = u64::from(geometry.tree_block);
        assert!(area.is_multiple_of(SECTOR), "the area begins at a sector");
        assert!(are_segments_sound(geometry), "a superblock with another geometry is refused");
        let count = geometry.capacity.saturating_sub(area) / geometry.segment;
        let count = u32::try_from(count).expect("a disk has under 2^32 segments");
        Self { store, area, segment: geometry.segment, count, tree_block }
    }

    /// Byte offset of a segment on the disk.
    pub(crate) fn offset(&self, segment: SegmentId) -> u64 {
        debug_assert!(segment.0 < self.count);
        self.area + u64::from(segment.0) * self.segment
    }

    /// The segment that holds the byte at `offset` of the disk, and where in it.
    pub(crate) fn locate(&self, offset: u64) -> Option<(SegmentId, u64)> {
        let inside = offset.checked_sub(self.area)?;
        let segment = u32::try_from(inside / self.segment).ok()?;
        (segment < self.count).then_some((SegmentId(segment), inside % self.segment))
    }

    /// Tree blocks that fit behind a segment's header.
    pub(crate) fn blocks_per_segment(&self) -> u64 {
        (self.segment - SECTOR) / self.tree_block
    }

    /// The seed for a checksum of something that stands at `at` of a life of a segment.
    pub(crate) fn seed(&self, segment: SegmentId, generation: Generation, at: u64) -> u64 {
        let mut identity = [0; 28];
        identity[..8].copy_from_slice(&self.store.0.to_le_bytes());
        identity[8..12].copy_from_slice(&segment.0.to_le_bytes());
        identity[12..20].copy_from_slice(&generation.0.to_le_bytes());
        identity[20..].copy_from_slice(&at.to_le_bytes());
        Checksum::of(0, &identity).0
    }
}

/// The smallest span of whole sectors that holds `len` bytes at `offset`: its offset and length.
pub(crate) fn sector_span(offset: u64, len: u64) -> (u64, u64) {
    let start = offset / SECTOR * SECTOR;
    (start, (offset + len).next_multiple_of(SECTOR) - start)
}
