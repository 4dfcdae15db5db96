//! Large values: pieces packed back to back in value segments.
//! Byte table: `docs/disk-format-tree.md`.

use bytes::Bytes;

use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::disk::SECTOR;
use crate::hash::Checksum;

use super::super::segment::allocator::Segments;
use super::super::segment::layout::{Generation, Layout, SegmentId};
use super::stream::{NoSegment, Stream};

const VERSION: u8 = 1;
/// Bytes in front of each piece.
pub(crate) const PIECE_HEADER_BYTES: u64 = 24;

/// A part of a value, or all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The segment.
    pub(crate) segment: SegmentId,
    /// Byte offset of its header in the segment.
    pub(crate) offset: u32,
    /// Bytes, without the header.
    pub(crate) len: u32,
}

impl Wire for Piece {
    fn encode(&self, out: &mut Encoder) {
        self.segment.encode(out);
        out.u32(self.offset);
        out.u32(self.len);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { segment: Wire::decode(input)?, offset: input.u32()?, len: input.u32()? })
    }
}

/// Packs values into segments, and gives out what is to be written as it becomes complete.
#[derive(Debug)]
pub(crate) struct ValueWriter {
    layout: Layout,
    /// Next free byte of the last segment.
    at: u64,
    segments: Vec<(SegmentId, Generation)>,
    stream: Stream,
}

impl ValueWriter {
    /// A writer that has no segment yet.
    pub(crate) fn new(layout: Layout) -> Self {
        let stream = Stream::default();
        Self { layout, at: layout.segment, segments: Vec::new(), stream }
    }

    /// Place a value. The pieces are ordered; some may stand in segments just reserved, also when
    /// there are too few.
    pub(crate) fn push(
        &mut self,
        value: &Bytes,
        free: &mut Segments,
    ) -> Result<Vec<Piece>, NoSegment> {
        let mut pieces = Vec::with_capacity(1);
        let mut rest = value.clone();
        while !rest.is_empty() {
            if self.at + PIECE_HEADER_BYTES >= self.layout.segment {
                let segment = free.reserve().ok_or(NoSegment)?;
                self.stream.begin(self.layout.offset(segment) + SECTOR);
                self.segments.push((segment, free.next_generation()));
                self.at = SECTOR;
            }
            let (segment, generation) = *self.segments.last().expect("a segment was just opened");
            let room = self.layout.segment - self.at - PIECE_HEADER_BYTES;
            let mut len = rest.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            if pieces.is_empty() && len > 1 && buggify!(ValueSplit) {
                len /= 2;
            }
            let bytes = rest.split_to(len);
            let piece = Piece {
                segment,
                offset: u32::try_from(self.at).expect("a segment is under 4 GiB"),
                len: u32::try_from(bytes.len()).expect("a segment is under 4 GiB"),
            };
            self.stream.push(header(&self.layout, generation, piece, &bytes));
            self.at += PIECE_HEADER_BYTES + bytes.len() as u64;
            self.stream.push(bytes);
            pieces.push(piece);
        }
        Ok(pieces)
    }

    /// The segments so far.
    pub(crate) fn segments(&self) -> &[(SegmentId, Generation)] {
        &self.segments
    }

    /// What can be written already, or waits for more.
    pub(crate) fn stream_ref(&self) -> &Stream {
        &self.stream
    }

    /// What can be written already.
    pub(crate) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }
}

fn header(layout: &Layout, generation: Generation, piece: Piece, bytes: &[u8]) -> Bytes {
    let mut out = Encoder::new();
    out.u8(VERSION);
    out.raw(&[0; 3]);
    out.u32(piece.len);
    generation.encode(&mut out);
    checksum(layout, generation, piece, bytes).encode(&mut out);
    out.finish()
}

fn checksum(layout: &Layout, generation: Generation, piece: Piece, bytes: &[u8]) -> Checksum {
    Checksum::of(layout.seed(piece.segment, generation, piece.offset.into()), bytes)
}

/// The bytes of a piece, from its header and data as they stand on disk.
///
/// # Errors
/// [`DecodeError`] if this is not that piece of that life of the segment.
pub(crate) fn parse(
    layout: &Layout,
    generation: Generation,
    piece: Piece,
    record: &Bytes,
) -> Result<Bytes, DecodeError> {
    let mut input = Decoder::new(record);
    input.version("value", VERSION)?;
    if input.raw(3)? != [0; 3][..] || input.u32()? != piece.len || input.u64()? != generation.0 {
        return Err(DecodeError::Invalid { what: "value header" });
    }
    let expected = Checksum::decode(&mut input)?;
    let bytes = input.raw(piece.len as usize)?;
    input.finish()?;
    if checksum(layout, generation, piece, &bytes) != expected {
        return Err(DecodeError::Checksum { what: "value" });
    }
    Ok(bytes)
}
