//! Where the parts of a store lie on its disk. Offsets are bytes from the start of the disk.
//!
//! ```text
//! 0          256 KiB                 256 KiB + geometry.journal            geometry.capacity
//! | superblock copies | journal (a ring of absolute positions) | segment area |
//! ```

use crate::cluster::Geometry;
use crate::disk::SECTOR;

/// Copies of the superblock.
pub const SUPERBLOCK_COPIES: usize = 4;

/// Bytes from one superblock copy to the next: far enough apart that one bad spot takes one copy.
pub const SUPERBLOCK_SPACING: u64 = 64 << 10;

/// Where the journal begins: behind the region of the superblock copies.
pub const JOURNAL_START: u64 = SUPERBLOCK_COPIES as u64 * SUPERBLOCK_SPACING;

/// Smallest segment: with it, the longest value has at most [`super::tree::PIECES_MAX`] pieces.
pub(crate) const SEGMENT_BYTES_MIN: u64 = 128 << 10;

/// Most segments of a disk: each takes memory. With those of production a disk has up to 64 TiB.
pub const SEGMENTS_MAX: u64 = 1 << 22;

/// Largest tree block: offsets in a block are two bytes.
const TREE_BLOCK_BYTES_MAX: u64 = 32 << 10;

/// Offset of a superblock copy, one sector long.
///
/// # Panics
/// If there is no such copy.
pub fn superblock_offset(copy: usize) -> u64 {
    assert!(copy < SUPERBLOCK_COPIES);
    copy as u64 * SUPERBLOCK_SPACING
}

/// Offset of a journal position: the journal is a ring of `geometry.journal` bytes.
pub const fn journal_offset(geometry: &Geometry, position: u64) -> u64 {
    JOURNAL_START + position % geometry.journal
}

/// The first position behind `position` that stands at the beginning of the ring again. No frame
/// crosses it.
pub const fn ring_end(geometry: &Geometry, position: u64) -> u64 {
    (position / geometry.journal + 1) * geometry.journal
}

/// Offset of the segment area, which reaches to `geometry.capacity`.
pub const fn segments_start(geometry: &Geometry) -> u64 {
    JOURNAL_START + geometry.journal
}

/// Whether superblock, journal and at least one segment fit, and all sizes are aligned.
pub fn is_sound(geometry: &Geometry) -> bool {
    let aligned = |size: u64| size > 0 && size.is_multiple_of(SECTOR);
    aligned(geometry.capacity)
        && aligned(geometry.journal)
        && aligned(geometry.journal_piece)
        && aligned(geometry.segment)
        && aligned(u64::from(geometry.tree_block))
        && geometry.journal.is_multiple_of(geometry.journal_piece)
        && are_segments_sound(geometry)
        && JOURNAL_START
            .checked_add(geometry.journal)
            .and_then(|start| start.checked_add(geometry.segment))
            .is_some_and(|needed| needed <= geometry.capacity)
}

/// Whether sizes and number of segments, and of the blocks in them, are within what formats and memory allow.
pub(crate) fn are_segments_sound(geometry: &Geometry) -> bool {
    let Geometry { capacity, segment, tree_block, .. } = *geometry;
    let tree_block = u64::from(tree_block);
    // Offsets within a segment have four bytes.
    (SEGMENT_BYTES_MIN..=u32::MAX.into()).contains(&segment)
        && segment.is_multiple_of(SECTOR)
        && (SECTOR..=TREE_BLOCK_BYTES_MAX).contains(&tree_block)
        && tree_block.is_multiple_of(SECTOR)
        && capacity / segment <= SEGMENTS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_geometries_are_sound() {
        assert!(is_sound(&Geometry::PRODUCTION));
        assert!(is_sound(&Geometry::SIMULATION));
    }

    #[test]
    fn geometry_without_room_for_a_segment_is_refused() {
        let tight = Geometry { capacity: 1 << 20, ..Geometry::SIMULATION };
        assert!(!is_sound(&tight));
        assert!(!is_sound(&Geometry { journal: u64::MAX - 4095, ..Geometry::SIMULATION }));
    }

    /// Found by fuzzing: superblocks that said so were believed, and the store panicked when it laid its
    /// segments out, or took memory for each of 2^32.
    #[test]
    fn geometry_whose_segments_cannot_be_laid_out_is_refused() {
        let odd = [
            Geometry { segment: 64 << 10, ..Geometry::SIMULATION },
            Geometry { segment: 4 << 30, capacity: 1 << 40, ..Geometry::SIMULATION },
            Geometry { tree_block: 64 << 10, ..Geometry::SIMULATION },
            Geometry { capacity: 1 << 50, ..Geometry::SIMULATION },
        ];
        for geometry in odd {
            assert!(!is_sound(&geometry), "{geometry:?}");
        }
    }
}
