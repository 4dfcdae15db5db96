//! Sorted blocks of rows, and blocks of the block index, which are blocks of keys.
//! Byte table: `docs/disk-format-tree.md`.

use bytes::Bytes;

use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::hash::{Checksum, ValueHash};
use crate::ids::LogIndex;

use super::super::segment::layout::{Generation, Layout, SegmentId};
use super::value::Piece;
use super::{INLINE_BYTES_MAX, KEY_BYTES_MAX, PIECES_MAX, VALUE_BYTES_MAX};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 24;
const CHECKSUM_AT: usize = 16;

/// What is in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockKind {
    /// Rows.
    Data,
    /// The first key of each data block, and behind them the run's last key.
    Index,
}

/// A row's value in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BlockValue {
    /// The row was deleted.
    Tombstone,
    /// The value itself.
    Inline(Bytes),
    /// Where the value is.
    Stored {
        /// The hash of the whole value.
        hash: ValueHash,
        /// Its parts, in order.
        pieces: Vec<Piece>,
    },
}

/// A row of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockRow {
    /// The key.
    pub(crate) key: Bytes,
    /// The entry that wrote it.
    pub(crate) index: LogIndex,
    /// Its value.
    pub(crate) value: BlockValue,
}

impl Wire for BlockRow {
    fn encode(&self, out: &mut Encoder) {
        out.u16(u16::try_from(self.key.len()).expect("a key is at most KEY_BYTES_MAX"));
        out.u8(match self.value {
            BlockValue::Tombstone => 0,
            BlockValue::Inline(_) => 1,
            BlockValue::Stored { .. } => 2,
        });
        out.u8(0);
        // The position of the command in its entry: kept in the format, not used yet.
        out.u32(0);
        self.index.encode(out);
        out.raw(&self.key);
        match &self.value {
            BlockValue::Tombstone => {}
            BlockValue::Inline(value) => out.bytes(value),
            BlockValue::Stored { hash, pieces } => {
                hash.encode(out);
                out.list(pieces);
            }
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let key_bytes = usize::from(input.u16()?);
        if key_bytes > KEY_BYTES_MAX {
            let (found, max) = (key_bytes as u64, KEY_BYTES_MAX as u64);
            return Err(DecodeError::Limit { what: "key of a row", found, max });
        }
        let kind = input.u8()?;
        input.u8()?;
        input.u32()?;
        let index = LogIndex::decode(input)?;
        let key = input.raw(key_bytes)?;
        let value = match kind {
            0 => BlockValue::Tombstone,
            1 => BlockValue::Inline(input.bytes("inline value", INLINE_BYTES_MAX)?),
            2 => BlockValue::Stored {
                hash: Wire::decode(input)?,
                pieces: input.list("pieces of a value", PIECES_MAX)?,
            },
            tag => return Err(DecodeError::Tag { what: "row", tag }),
        };
        Ok(Self { key, index, value })
    }
}

/// A verified block.
#[derive(Debug)]
pub(crate) struct Block {
    rows: Vec<BlockRow>,
}

impl Block {
    /// Verify a block of a run: its checksum, its place, and that each row is in order.
    ///
    /// # Errors
    /// [`DecodeError`] says what is wrong.
    pub(crate) fn parse(
        bytes: &Bytes,
        layout: &Layout,
        run: Generation,
        number: u32,
        kind: BlockKind,
        values: &[SegmentId],
    ) -> Result<Self, DecodeError> {
        let mut input = Decoder::new(bytes);
        input.version("tree block", VERSION)?;
        if bytes.len() as u64 != layout.tree_block {
            return Err(DecodeError::Invalid { what: "length of a tree block" });
        }
        let sum = checksum(layout, run, number, bytes);
        if bytes[CHECKSUM_AT..HEADER_BYTES] != sum.0.to_le_bytes() {
            return Err(DecodeError::Checksum { what: "tree block" });
        }
        let expected = (kind_tag(kind), number, run.0);
        let found_kind = input.u8()?;
        let count = input.u16()?;
        if (found_kind, input.u32()?, input.u64()?) != expected {
            return Err(DecodeError::Invalid { what: "identity of a tree block" });
        }
        input.u64()?;
        let mut rows: Vec<BlockRow> = Vec::with_capacity(count.into());
        for _ in 0..count {
            let row = BlockRow::decode(&mut input)?;
            if rows.last().is_some_and(|last| !in_order(last, &row, kind)) {
                return Err(DecodeError::Invalid { what: "order of rows" });
            }
            verify_pieces(&row, layout, values)?;
            rows.push(row);
        }
        Ok(Self { rows })
    }

    /// All rows, ascending.
    pub(crate) fn rows(&self) -> &[BlockRow] {
        &self.rows
    }
}

/// Index blocks may repeat a key: a run of one row has the same first and last key.
fn in_order(last: &BlockRow, row: &BlockRow, kind: BlockKind) -> bool {
    match kind {
        BlockKind::Data => last.key < row.key,
        BlockKind::Index => last.key <= row.key,
    }
}

/// Pointers lead into the run's own value segments, and values are no longer than allowed.
fn verify_pieces(row: &BlockRow, layout: &Layout, own: &[SegmentId]) -> Result<(), DecodeError> {
    let BlockValue::Stored { pieces, .. } = &row.value else { return Ok(()) };
    let mut total = 0;
    for piece in pieces {
        let end = u64::from(piece.offset) + super::value::PIECE_HEADER_BYTES + u64::from(piece.len);
        if !own.contains(&piece.segment) || end > layout.segment || piece.len == 0 {
            return Err(DecodeError::Invalid { what: "pointer to a value" });
        }
        total += u64::from(piece.len);
    }
    if total > VALUE_BYTES_MAX as u64 {
        let max = VALUE_BYTES_MAX as u64;
        return Err(DecodeError::Limit { what: "length of a value", found: total, max });
    }
    Ok(())
}

/// Builds one block after the other.
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    layout: Layout,
    run: Generation,
    kind: BlockKind,
    number: u32,
    count: u16,
    out: Encoder,
}

impl BlockBuilder {
    /// An empty block.
    pub(crate) fn new(layout: Layout, run: Generation, kind: BlockKind, number: u32) -> Self {
        let mut out = Encoder::new();
        out.u8(VERSION);
        out.u8(kind_tag(kind));
        out.u16(0);
        out.u32(number);
        run.encode(&mut out);
        out.u64(0);
        Self { layout, run, kind, number, count: 0, out }
    }

    /// Add a row if it fits.
    pub(crate) fn push(&mut self, row: &BlockRow) -> bool {
        let bytes = row.to_bytes();
        let fits = (self.out.len() + bytes.len()) as u64 <= self.layout.tree_block;
        if fits {
            self.out.raw(&bytes);
            self.count += 1;
        }
        fits
    }

    /// Whether nothing was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The finished block, and the builder of the next.
    pub(crate) fn finish(self) -> (Bytes, Self) {
        let Self { layout, run, kind, number, count, mut out } = self;
        out.pad_to(usize::try_from(layout.tree_block).expect("a block fits into memory"));
        let head = u32::from_le_bytes([VERSION, kind_tag(kind), 0, 0]) | u32::from(count) << 16;
        out.patch_u32(0, head);
        let sum = checksum(&layout, run, number, out.as_slice());
        out.patch_u64(CHECKSUM_AT, sum.0);
        (out.finish(), Self::new(layout, run, kind, number + 1))
    }
}

fn kind_tag(kind: BlockKind) -> u8 {
    match kind {
        BlockKind::Data => 0,
        BlockKind::Index => 1,
    }
}

/// The checksum of a block, without the field that holds it. Seeded with run and block number: the
/// run's segments are its own for as long as it lives.
fn checksum(layout: &Layout, run: Generation, number: u32, block: &[u8]) -> Checksum {
    let seed = layout.seed(SegmentId(u32::MAX), run, number.into());
    Checksum::of_parts(seed, [&block[..CHECKSUM_AT], &block[HEADER_BYTES..]])
}
