//! The first sector of a segment: what the segment is. Byte table: `docs/disk-format-segments.md`.
//!
//! The journal's edits are what counts. Headers are read only when the journal was damaged. A run's
//! headers are written after its body and its values are durable, so that they vouch for all of it.

use bytes::Bytes;

use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::disk::SECTOR;
use crate::hash::Checksum;

use super::layout::{Generation, Layout, SegmentId};

const VERSION: u8 = 1;
const MAGIC: u64 = u64::from_le_bytes(*b"TRINESEG");
/// The header's own checksum stands in the sector's last eight bytes.
const CHECKSUM_AT: usize = 4088;

/// What a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentContent {
    /// Chunks.
    Chunks,
    /// Values of runs.
    Values,
    /// Blocks of a run.
    Run(RunPlace),
}

/// Which segment of its run it is, and where the run's description stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunPlace {
    /// The segment's place in the run, from 0.
    pub(crate) ordinal: u32,
    /// How many segments hold the run's blocks.
    pub(crate) segments: u32,
    /// The first block of the description.
    pub(crate) description_block: u32,
    /// Bytes of the description.
    pub(crate) description_bytes: u32,
    /// XXH3-64 of the description, seed 0.
    pub(crate) description: Checksum,
}

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Which life of the segment.
    pub(crate) generation: Generation,
    /// What is in it.
    pub(crate) content: SegmentContent,
}

impl SegmentHeader {
    /// The header's sector.
    pub(crate) fn encode(&self, layout: &Layout, segment: SegmentId) -> Bytes {
        let mut out = Encoder::new();
        out.u8(VERSION);
        out.u8(match self.content {
            SegmentContent::Chunks => 1,
            SegmentContent::Values => 2,
            SegmentContent::Run(_) => 3,
        });
        out.u16(0);
        segment.encode(&mut out);
        out.u64(MAGIC);
        layout.store.encode(&mut out);
        self.generation.encode(&mut out);
        match &self.content {
            SegmentContent::Chunks | SegmentContent::Values => {}
            SegmentContent::Run(place) => {
                out.u32(place.ordinal);
                out.u32(place.segments);
                out.u32(place.description_block);
                out.u32(place.description_bytes);
                place.description.encode(&mut out);
            }
        }
        out.pad_to(usize::try_from(SECTOR).expect("a sector is small"));
        let sum = Checksum::of(seed(layout, segment), &out.as_slice()[..CHECKSUM_AT]);
        out.patch_u64(CHECKSUM_AT, sum.0);
        out.finish()
    }

    /// Read the header of `segment`.
    ///
    /// # Errors
    /// [`DecodeError`], also for a header of another store or segment.
    pub(crate) fn decode(
        bytes: &Bytes,
        layout: &Layout,
        segment: SegmentId,
    ) -> Result<Self, DecodeError> {
        let mut input = Decoder::new(bytes);
        input.version("segment header", VERSION)?;
        if bytes.len() as u64 != SECTOR {
            return Err(DecodeError::Invalid { what: "segment header length" });
        }
        let sum = Checksum::of(seed(layout, segment), &bytes[..CHECKSUM_AT]);
        if bytes[CHECKSUM_AT..] != sum.0.to_le_bytes() {
            return Err(DecodeError::Checksum { what: "segment header" });
        }
        let kind = input.u8()?;
        let reserved = input.u16()?;
        let found = SegmentId::decode(&mut input)?;
        if reserved != 0 || found != segment || input.u64()? != MAGIC {
            return Err(DecodeError::Invalid { what: "segment header" });
        }
        if input.u64()? != layout.store.0 {
            return Err(DecodeError::Invalid { what: "store of a segment header" });
        }
        let generation = Generation::decode(&mut input)?;
        let content = match kind {
            1 => SegmentContent::Chunks,
            2 => SegmentContent::Values,
            3 => SegmentContent::Run(RunPlace {
                ordinal: input.u32()?,
                segments: input.u32()?,
                description_block: input.u32()?,
                description_bytes: input.u32()?,
                description: Wire::decode(&mut input)?,
            }),
            tag => return Err(DecodeError::Tag { what: "segment header", tag }),
        };
        Ok(Self { generation, content })
    }
}

/// The seed names the place; the generation is not known before the header is read.
fn seed(layout: &Layout, segment: SegmentId) -> u64 {
    layout.seed(segment, Generation(0), 0)
}
