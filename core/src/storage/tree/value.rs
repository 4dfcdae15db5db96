//! Large values: pieces packed back to back in value segments.
//! Byte table: `docs/disk-format-tree.md`.

use bytes::Bytes;

use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::disk::SECTOR;
use crate::hash::Checksum;

use super::super::segment::allocator::Segments;
use super::super::segment::layout::{Generation, Layout, SegmentId};

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

/// Packs values into segments.
#[derive(Debug)]
pub(crate) struct ValueWriter {
    layout: Layout,
    run: Generation,
    /// Next free byte of the last segment.
    at: u64,
    /// What goes behind the header of each segment.
    segments: Vec<(SegmentId, Vec<Bytes>)>,
}

impl ValueWriter {
    /// A writer that has no segment yet.
    pub(crate) fn new(layout: Layout, run: Generation) -> Self {
        Self { layout, run, at: layout.segment, segments: Vec::new() }
    }

    /// Place a value; `None` if no segment is free.
    pub(crate) fn push(&mut self, value: &Bytes, free: &mut Segments) -> Option<Vec<Piece>> {
        let mut pieces = Vec::new();
        let mut rest = value.clone();
        while !rest.is_empty() {
            if self.at + PIECE_HEADER_BYTES >= self.layout.segment {
                self.segments.push((free.reserve()?, Vec::new()));
                self.at = SECTOR;
            }
            let (segment, parts) = self.segments.last_mut().expect("a segment was just opened");
            let room = self.layout.segment - self.at - PIECE_HEADER_BYTES;
            let bytes = rest.split_to(rest.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            let piece = Piece {
                segment: *segment,
                offset: u32::try_from(self.at).expect("a segment is under 4 GiB"),
                len: u32::try_from(bytes.len()).expect("a segment is under 4 GiB"),
            };
            parts.push(header(&self.layout, self.run, piece, &bytes));
            self.at += PIECE_HEADER_BYTES + bytes.len() as u64;
            parts.push(bytes);
            pieces.push(piece);
        }
        Some(pieces)
    }

    /// The segments and what is to be written behind the header of each, padded to sectors.
    pub(crate) fn finish(self) -> Vec<(SegmentId, Vec<Bytes>)> {
        let mut segments = self.segments;
        for (_, parts) in &mut segments {
            let len: u64 = parts.iter().map(|part| part.len() as u64).sum();
            let padding = len.next_multiple_of(SECTOR) - len;
            if padding > 0 {
                parts.push(vec![0; usize::try_from(padding).expect("under a sector")].into());
            }
        }
        segments
    }
}

fn header(layout: &Layout, run: Generation, piece: Piece, bytes: &[u8]) -> Bytes {
    let mut out = Encoder::new();
    out.u8(VERSION);
    out.raw(&[0; 3]);
    out.u32(piece.len);
    run.encode(&mut out);
    checksum(layout, run, piece, bytes).encode(&mut out);
    out.finish()
}

fn checksum(layout: &Layout, run: Generation, piece: Piece, bytes: &[u8]) -> Checksum {
    Checksum::of(layout.seed(piece.segment, run, piece.offset.into()), bytes)
}

/// The bytes of a piece, from its header and data as they stand on disk.
///
/// # Errors
/// [`DecodeError`] if this is not that piece of that run.
pub(crate) fn parse(
    layout: &Layout,
    run: Generation,
    piece: Piece,
    record: &Bytes,
) -> Result<Bytes, DecodeError> {
    let mut input = Decoder::new(record);
    input.version("value", VERSION)?;
    if input.raw(3)? != [0; 3][..] || input.u32()? != piece.len || input.u64()? != run.0 {
        return Err(DecodeError::Invalid { what: "value header" });
    }
    let expected = Checksum::decode(&mut input)?;
    let bytes = input.raw(piece.len as usize)?;
    input.finish()?;
    if checksum(layout, run, piece, &bytes) != expected {
        return Err(DecodeError::Checksum { what: "value" });
    }
    Ok(bytes)
}
