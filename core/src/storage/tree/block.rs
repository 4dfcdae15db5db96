//! Blocks of a run: sorted rows, keys of the block index, and bytes of the filter and the run's
//! description. Byte table: `docs/disk-format-tree.md`.
//!
//! Keys are prefix-compressed. A block that has been read keeps its bytes as they are, all keys in
//! one buffer beside them, and for each row where it is: three allocations, however many rows.

use bytes::Bytes;

use crate::codec::{DecodeError, Decoder, Encoder, Wire};
use crate::hash::{Checksum, ValueHash};
use crate::ids::LogIndex;

use super::super::segment::edit::RunDescriptor;
use super::super::segment::layout::{Generation, Layout, SegmentId};
use super::value::{PIECE_HEADER_BYTES, Piece};
use super::{INLINE_BYTES_MAX, KEY_BYTES_MAX, PIECES_MAX, VALUE_BYTES_MAX};

const VERSION: u8 = 1;
/// Bytes in front of a block's contents.
pub(crate) const BLOCK_HEADER_BYTES: usize = 24;
const CHECKSUM_AT: usize = 16;
/// The keys of a block, written out, are at most so many times the block's bytes: else a block of
/// long keys that differ in their ends would grow beyond measure in memory.
const KEYS_FACTOR: u64 = 4;

/// Bytes of the smallest row: one of an index block, whose key is that of the row before.
const ROW_BYTES_MIN: usize = 4;

const TOMBSTONE: u8 = 0;
const INLINE: u8 = 1;
const STORED: u8 = 2;

/// What is in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockKind {
    /// Rows.
    Data,
    /// The first key of each data block, and behind them the run's last key.
    Index,
    /// Bits of the filter.
    Filter,
    /// The run's description.
    Description,
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

/// A verified block of rows or keys.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Bytes,
    keys: Bytes,
    rows: Vec<RowPlace>,
}

/// Where a row is.
#[derive(Clone, Copy, Debug)]
struct RowPlace {
    index: LogIndex,
    /// Where its key ends among all keys; it begins where the one before ends.
    key_end: u32,
    /// Where its value begins in the block's bytes.
    value: u16,
    kind: u8,
}

/// A row of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowRef<'a> {
    block: &'a Block,
    at: usize,
}

impl Block {
    /// Verify a data block of a run: its checksum, its place, that each row is in order, and that
    /// pointers lead into the run's value segments.
    ///
    /// # Errors
    /// [`DecodeError`] says what is wrong.
    pub(crate) fn parse(
        bytes: &Bytes,
        layout: &Layout,
        run: &RunDescriptor,
        number: u32,
    ) -> Result<Self, DecodeError> {
        Self::parse_rows(bytes, layout, (run.run, number), BlockKind::Data, |piece| {
            run.value_generation(piece.segment).is_some()
        })
    }

    /// Verify a block of the block index.
    ///
    /// # Errors
    /// [`DecodeError`] says what is wrong.
    pub(crate) fn parse_index(
        bytes: &Bytes,
        layout: &Layout,
        run: Generation,
        number: u32,
    ) -> Result<Self, DecodeError> {
        Self::parse_rows(bytes, layout, (run, number), BlockKind::Index, |_| false)
    }

    fn parse_rows(
        bytes: &Bytes,
        layout: &Layout,
        (run, number): (Generation, u32),
        kind: BlockKind,
        known: impl Fn(Piece) -> bool,
    ) -> Result<Self, DecodeError> {
        let count = verify(bytes, layout, run, number, kind)?;
        let mut input = Decoder::new(bytes);
        input.raw(BLOCK_HEADER_BYTES)?;
        let mut keys: Vec<u8> = Vec::with_capacity(bytes.len());
        // Many rows need many bytes, whatever the header says.
        let mut rows: Vec<RowPlace> =
            Vec::with_capacity(usize::from(count).min(input.left() / ROW_BYTES_MIN));
        let mut last = 0..0;
        for _ in 0..count {
            let key = decode_key(&mut input, last.clone(), &mut keys)?;
            if keys.len() as u64 > KEYS_FACTOR * layout.tree_block {
                let (found, max) = (keys.len() as u64, KEYS_FACTOR * layout.tree_block);
                return Err(DecodeError::Limit { what: "keys of a block", found, max });
            }
            // Index blocks may repeat a key: a run of one row has the same first and last key.
            let order = keys[last.clone()].cmp(&keys[key.clone()]);
            if order.is_gt() || (order.is_eq() && kind == BlockKind::Data && !rows.is_empty()) {
                return Err(DecodeError::Invalid { what: "order of rows" });
            }
            let (value_kind, index) = match kind {
                BlockKind::Data => (input.u8()?, LogIndex::decode(&mut input)?),
                _ => (TOMBSTONE, LogIndex(0)),
            };
            let value = u16::try_from(input.position()).expect("a block is at most 32 KiB");
            let key_end = u32::try_from(key.end).expect("keys are at most 128 KiB");
            rows.push(RowPlace { index, key_end, value, kind: value_kind });
            skip_value(value_kind, &mut input, layout, &known)?;
            last = key;
        }
        Ok(Self { bytes: bytes.clone(), keys: keys.into(), rows })
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Row `at`, from 0.
    pub(crate) fn row(&self, at: usize) -> Option<RowRef<'_>> {
        (at < self.rows.len()).then_some(RowRef { block: self, at })
    }

    /// All rows, ascending.
    pub(crate) fn rows(&self) -> impl Iterator<Item = RowRef<'_>> {
        (0..self.rows.len()).map(|at| RowRef { block: self, at })
    }

    /// The place of the first row for whose key `before` does not hold; it holds up to some key.
    pub(crate) fn partition(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        self.partition_from(0, before)
    }

    /// The same, from row `low` on.
    pub(crate) fn partition_from(&self, mut low: usize, before: impl Fn(&[u8]) -> bool) -> usize {
        let mut high = self.rows.len();
        while low < high {
            let middle = low.midpoint(high);
            if before(&self.keys[self.key_span(middle)]) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The row under `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Option<RowRef<'_>> {
        self.row(self.partition(|other| other < key)).filter(|row| row.key() == key)
    }

    /// Bytes that it takes in memory.
    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.bytes.len() + self.keys.len() + size_of_val(&self.rows[..])) as u64
    }

    fn key_span(&self, at: usize) -> core::ops::Range<usize> {
        let start = at.checked_sub(1).map_or(0, |before| self.rows[before].key_end);
        start as usize..self.rows[at].key_end as usize
    }
}

impl<'a> RowRef<'a> {
    /// The key.
    pub(crate) fn key(self) -> &'a [u8] {
        &self.block.keys[self.block.key_span(self.at)]
    }

    /// The key, as a handle on the block's keys.
    pub(crate) fn key_bytes(self) -> Bytes {
        self.block.keys.slice(self.block.key_span(self.at))
    }

    /// The entry that wrote it.
    pub(crate) fn index(self) -> LogIndex {
        self.block.rows[self.at].index
    }

    /// Whether the row was deleted.
    pub(crate) fn is_tombstone(self) -> bool {
        self.block.rows[self.at].kind == TOMBSTONE
    }

    /// Its value, as a handle on the block's bytes.
    pub(crate) fn value(self) -> BlockValue {
        let mut input = self.input();
        match self.block.rows[self.at].kind {
            INLINE => BlockValue::Inline(decode_inline(&mut input).expect("it was verified")),
            STORED => {
                let hash = ValueHash::decode(&mut input).expect("it was verified");
                BlockValue::Stored { hash, pieces: self.pieces().collect() }
            }
            _ => BlockValue::Tombstone,
        }
    }

    /// The hash of a value that is elsewhere.
    pub(crate) fn stored_hash(self) -> Option<ValueHash> {
        let stored = self.block.rows[self.at].kind == STORED;
        stored.then(|| ValueHash::decode(&mut self.input()).expect("it was verified"))
    }

    /// The value that stands in the block.
    pub(crate) fn inline(self) -> Option<Bytes> {
        let inline = self.block.rows[self.at].kind == INLINE;
        inline.then(|| decode_inline(&mut self.input()).expect("it was verified"))
    }

    /// The parts of a value that is elsewhere, in order; none for another.
    pub(crate) fn pieces(self) -> impl ExactSizeIterator<Item = Piece> + 'a {
        let mut input = self.input();
        let count = match self.block.rows[self.at].kind {
            STORED => decode_count(&mut input).expect("it was verified"),
            _ => 0,
        };
        (0..count).map(move |_| Piece::decode(&mut input).expect("it was verified"))
    }

    fn input(self) -> Decoder<'a> {
        let mut input = Decoder::new(&self.block.bytes);
        input.skip(self.block.rows[self.at].value.into()).expect("a place in the block");
        input
    }
}

/// Read a key behind the others: where it is among them.
fn decode_key(
    input: &mut Decoder<'_>,
    last: core::ops::Range<usize>,
    keys: &mut Vec<u8>,
) -> Result<core::ops::Range<usize>, DecodeError> {
    let (shared, suffix) = (usize::from(input.u16()?), usize::from(input.u16()?));
    if shared > last.len() {
        return Err(DecodeError::Invalid { what: "shared part of a key" });
    }
    if shared + suffix > KEY_BYTES_MAX {
        let (found, max) = ((shared + suffix) as u64, KEY_BYTES_MAX as u64);
        return Err(DecodeError::Limit { what: "key of a row", found, max });
    }
    let start = keys.len();
    keys.extend_from_within(last.start..last.start + shared);
    keys.extend_from_slice(input.slice(suffix)?);
    Ok(start..keys.len())
}

/// Pointers lead where values of the run can be, and values are no longer than allowed.
fn skip_value(
    kind: u8,
    input: &mut Decoder<'_>,
    layout: &Layout,
    known: &impl Fn(Piece) -> bool,
) -> Result<(), DecodeError> {
    match kind {
        TOMBSTONE => {}
        INLINE => {
            decode_inline(input)?;
        }
        STORED => {
            let mut total = 0;
            ValueHash::decode(input)?;
            let count = input.u8()?;
            if usize::from(count) > PIECES_MAX {
                let (found, max) = (count.into(), PIECES_MAX as u64);
                return Err(DecodeError::Limit { what: "pieces of a value", found, max });
            }
            for _ in 0..count {
                let piece = Piece::decode(input)?;
                let end = u64::from(piece.offset) + PIECE_HEADER_BYTES + u64::from(piece.len);
                if !known(piece) || end > layout.segment || piece.len == 0 {
                    return Err(DecodeError::Invalid { what: "pointer to a value" });
                }
                total += u64::from(piece.len);
            }
            let max = VALUE_BYTES_MAX as u64;
            if total > max {
                return Err(DecodeError::Limit { what: "length of a value", found: total, max });
            }
        }
        tag => return Err(DecodeError::Tag { what: "row", tag }),
    }
    Ok(())
}

fn decode_inline(input: &mut Decoder<'_>) -> Result<Bytes, DecodeError> {
    let len = usize::from(input.u16()?);
    if len > INLINE_BYTES_MAX {
        let (found, max) = (len as u64, INLINE_BYTES_MAX as u64);
        return Err(DecodeError::Limit { what: "inline value", found, max });
    }
    input.raw(len)
}

fn decode_count(input: &mut Decoder<'_>) -> Result<usize, DecodeError> {
    ValueHash::decode(input)?;
    input.u8().map(usize::from)
}

/// Builds one block of rows or keys after the other.
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    layout: Layout,
    run: Generation,
    kind: BlockKind,
    number: u32,
    count: u16,
    /// The last key, and the bytes of all.
    last_key: Vec<u8>,
    key_bytes: u64,
    out: Encoder,
    row: Encoder,
}

impl BlockBuilder {
    /// An empty block.
    pub(crate) fn new(layout: Layout, run: Generation, kind: BlockKind, number: u32) -> Self {
        let (last_key, row) = (Vec::new(), Encoder::new());
        let out = begin(run, kind, number);
        Self { layout, run, kind, number, count: 0, last_key, key_bytes: 0, out, row }
    }

    /// Add a row if it fits.
    pub(crate) fn push(&mut self, key: &[u8], index: LogIndex, value: &BlockValue) -> bool {
        debug_assert_eq!(self.kind, BlockKind::Data);
        self.begin_row(key);
        self.row.u8(match value {
            BlockValue::Tombstone => TOMBSTONE,
            BlockValue::Inline(_) => INLINE,
            BlockValue::Stored { .. } => STORED,
        });
        index.encode(&mut self.row);
        match value {
            BlockValue::Tombstone => {}
            BlockValue::Inline(value) => {
                let len = value.len();
                self.row.u16(u16::try_from(len).expect("an inline value is short"));
                self.row.raw(value);
            }
            BlockValue::Stored { hash, pieces } => {
                hash.encode(&mut self.row);
                self.row.u8(u8::try_from(pieces.len()).expect("a value has few pieces"));
                pieces.iter().for_each(|piece| piece.encode(&mut self.row));
            }
        }
        self.end_row(key)
    }

    /// Add a key of the block index if it fits.
    pub(crate) fn push_key(&mut self, key: &[u8]) -> bool {
        debug_assert_eq!(self.kind, BlockKind::Index);
        self.begin_row(key);
        self.end_row(key)
    }

    fn begin_row(&mut self, key: &[u8]) {
        let pairs = self.last_key.iter().zip(key);
        let shared = pairs.take_while(|(one, other)| one == other).count();
        self.row.clear();
        self.row.u16(u16::try_from(shared).expect("a key is at most KEY_BYTES_MAX"));
        let suffix = key.len() - shared;
        self.row.u16(u16::try_from(suffix).expect("a key is at most KEY_BYTES_MAX"));
        self.row.raw(&key[shared..]);
    }

    fn end_row(&mut self, key: &[u8]) -> bool {
        let key_bytes = self.key_bytes + key.len() as u64;
        let fits = (self.out.len() + self.row.len()) as u64 <= self.layout.tree_block
            && key_bytes <= KEYS_FACTOR * self.layout.tree_block;
        if fits {
            self.out.raw(self.row.as_slice());
            self.count += 1;
            self.key_bytes = key_bytes;
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
        }
        fits
    }

    /// The finished block; the builder goes on with the next.
    pub(crate) fn finish(&mut self) -> Bytes {
        let next = begin(self.run, self.kind, self.number + 1);
        let out = core::mem::replace(&mut self.out, next);
        let block = end(out, &self.layout, (self.run, self.number), self.kind, self.count);
        self.number += 1;
        (self.count, self.key_bytes) = (0, 0);
        self.last_key.clear();
        block
    }
}

/// Blocks that hold `contents`, the last one filled up with zeros; numbered from `first` on.
pub(crate) fn raw_blocks(
    contents: &[u8],
    layout: &Layout,
    run: Generation,
    first: u32,
    kind: BlockKind,
) -> Vec<Bytes> {
    let room = usize::try_from(layout.tree_block).expect("small") - BLOCK_HEADER_BYTES;
    let parts = contents.chunks(room).zip(first..);
    let block = |(part, number): (&[u8], u32)| {
        let mut out = begin(run, kind, number);
        out.raw(part);
        end(out, layout, (run, number), kind, 0)
    };
    parts.map(block).collect()
}

/// The contents of a block of the filter or of the description, zeros at its end included.
///
/// # Errors
/// [`DecodeError`] says what is wrong.
pub(crate) fn parse_raw(
    bytes: &Bytes,
    layout: &Layout,
    run: Generation,
    number: u32,
    kind: BlockKind,
) -> Result<Bytes, DecodeError> {
    verify(bytes, layout, run, number, kind)?;
    Ok(bytes.slice(BLOCK_HEADER_BYTES..))
}

fn begin(run: Generation, kind: BlockKind, number: u32) -> Encoder {
    let mut out = Encoder::new();
    out.u8(VERSION);
    out.u8(kind_tag(kind));
    out.u16(0);
    out.u32(number);
    run.encode(&mut out);
    out.u64(0);
    out
}

fn end(
    mut out: Encoder,
    layout: &Layout,
    (run, number): (Generation, u32),
    kind: BlockKind,
    count: u16,
) -> Bytes {
    out.pad_to(usize::try_from(layout.tree_block).expect("a block fits into memory"));
    let head = u32::from_le_bytes([VERSION, kind_tag(kind), 0, 0]) | u32::from(count) << 16;
    out.patch_u32(0, head);
    let sum = checksum(layout, run, number, out.as_slice());
    out.patch_u64(CHECKSUM_AT, sum.0);
    out.finish()
}

/// Whether this is that block of that run; how many rows it has.
fn verify(
    bytes: &Bytes,
    layout: &Layout,
    run: Generation,
    number: u32,
    kind: BlockKind,
) -> Result<u16, DecodeError> {
    let mut input = Decoder::new(bytes);
    input.version("tree block", VERSION)?;
    if bytes.len() as u64 != layout.tree_block {
        return Err(DecodeError::Invalid { what: "length of a tree block" });
    }
    let sum = checksum(layout, run, number, bytes);
    if bytes[CHECKSUM_AT..BLOCK_HEADER_BYTES] != sum.0.to_le_bytes() {
        return Err(DecodeError::Checksum { what: "tree block" });
    }
    let found_kind = input.u8()?;
    let count = input.u16()?;
    if (found_kind, input.u32()?, input.u64()?) != (kind_tag(kind), number, run.0) {
        return Err(DecodeError::Invalid { what: "identity of a tree block" });
    }
    Ok(count)
}

fn kind_tag(kind: BlockKind) -> u8 {
    match kind {
        BlockKind::Data => 0,
        BlockKind::Index => 1,
        BlockKind::Filter => 2,
        BlockKind::Description => 3,
    }
}

/// The checksum of a block, without the field that holds it. Seeded with run and block number: the
/// run's segments are its own for as long as it lives.
fn checksum(layout: &Layout, run: Generation, number: u32, block: &[u8]) -> Checksum {
    let seed = layout.seed(SegmentId(u32::MAX), run, number.into());
    Checksum::of_parts(seed, [&block[..CHECKSUM_AT], &block[BLOCK_HEADER_BYTES..]])
}
