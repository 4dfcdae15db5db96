//! Reading runs and values in order and past the cache, as merges do. Pure: a reader says which span
//! of the disk it needs, and takes what was there.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::codec::DecodeError;
use crate::rows::Miss;

use super::super::segment::edit::RunDescriptor;
use super::super::segment::layout::{Generation, Layout, SegmentId, sector_span};
use super::block::{Block, RowRef};
use super::merge::{Head, Sorted};
use super::run::block_span;
use super::value::{self, PIECE_HEADER_BYTES, Piece};

/// Tree blocks of one read: few enough that what follows it holds nothing else up for long.
const READ_BLOCKS: u64 = 8;

/// Bytes that are read at once.
pub(crate) fn read_bytes(layout: &Layout) -> u64 {
    layout.tree_block * READ_BLOCKS
}

/// All rows of a unit: its runs, which are parts of one snapshot or one run alone, behind each other.
#[derive(Debug)]
pub(crate) struct UnitReader {
    layout: Layout,
    /// In the order of their keys; the first is being read.
    runs: VecDeque<RunDescriptor>,
    /// The first block of that run that was not read.
    next_block: u32,
    /// Blocks that were read and not yet looked at.
    unparsed: Bytes,
    block: Option<Block>,
    /// The next row of `block`.
    at: usize,
}

impl UnitReader {
    /// A reader before the first row. The runs come in the order of their keys.
    pub(crate) fn new(layout: Layout, runs: VecDeque<RunDescriptor>) -> Self {
        let (next_block, unparsed) = (0, Bytes::new());
        Self { layout, runs, next_block, unparsed, block: None, at: 0 }
    }

    /// The next row, if it is in memory.
    pub(crate) fn row(&self) -> Option<RowRef<'_>> {
        self.block.as_ref().and_then(|block| block.row(self.at))
    }

    /// The span that has the next row, if that is not in memory.
    pub(crate) fn wanted(&self) -> Option<Miss> {
        let run = self.runs.front().filter(|_| self.block.is_none())?;
        let per_segment = self.layout.blocks_per_segment();
        let left_in_segment = per_segment - u64::from(self.next_block) % per_segment;
        let left = u64::from(run.data_blocks - self.next_block);
        let first = block_span(run, &self.layout, self.next_block);
        let blocks = READ_BLOCKS.min(left).min(left_in_segment);
        Some(Miss { offset: first.offset, len: blocks * self.layout.tree_block })
    }

    /// What stands at the wanted span.
    ///
    /// # Errors
    /// [`DecodeError`] if it does not verify.
    pub(crate) fn take(&mut self, bytes: Bytes) -> Result<(), DecodeError> {
        let wanted = self.wanted().map(|span| span.len);
        if wanted != Some(bytes.len() as u64) {
            return Err(DecodeError::Invalid { what: "length of what the disk gave" });
        }
        self.unparsed = bytes;
        self.go_on()
    }

    /// Go on behind the next row, which is in memory.
    ///
    /// # Errors
    /// [`DecodeError`] if what is there does not verify.
    pub(crate) fn pass(&mut self) -> Result<(), DecodeError> {
        self.at += 1;
        match &self.block {
            Some(block) if self.at < block.len() => Ok(()),
            _ => self.go_on(),
        }
    }

    /// Bytes of what was read, and of descriptions.
    pub(crate) fn memory_bytes(&self) -> (u64, u64) {
        let block = self.block.as_ref().map_or(0, Block::memory_bytes);
        let runs: usize = self.runs.iter().map(RunDescriptor::encoded_bytes).sum();
        (block + self.unparsed.len() as u64, runs as u64)
    }

    /// The next block that was read, if there is one.
    fn go_on(&mut self) -> Result<(), DecodeError> {
        (self.block, self.at) = (None, 0);
        while let Some(run) = self.runs.front() {
            if self.next_block == run.data_blocks {
                self.runs.pop_front();
                self.next_block = 0;
                continue;
            }
            if self.unparsed.is_empty() {
                return Ok(());
            }
            let len = usize::try_from(self.layout.tree_block).expect("a block fits into memory");
            let bytes = self.unparsed.split_to(len);
            let block = Block::parse(&bytes, &self.layout, run, self.next_block)?;
            self.next_block += 1;
            if block.len() > 0 {
                self.block = Some(block);
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Sorted for UnitReader {
    fn head(&self) -> Head<'_> {
        match self.row() {
            Some(row) => Head::Row(row.key(), row.index()),
            None if self.runs.is_empty() => Head::End,
            None => Head::Unread,
        }
    }
}

/// Reads the values that a merge moves. They come nearly in the order in which they stand in their
/// segments, since they were written in key order: for each segment a part of it is kept in memory.
#[derive(Debug)]
pub(crate) struct ValueReader {
    layout: Layout,
    /// The life of each segment that values may be in.
    generations: BTreeMap<SegmentId, Generation>,
    /// Segments of which every value is moved. Ascending.
    emptied: Vec<SegmentId>,
    /// What was last read of a segment: where it begins in the segment, and it.
    windows: BTreeMap<SegmentId, (u64, Bytes)>,
    /// The value that is being read: the pieces that are here.
    gathered: Vec<Bytes>,
}

impl ValueReader {
    /// A reader of values in these segments, which empties some of them.
    pub(crate) fn new<'a>(
        layout: Layout,
        runs: impl Iterator<Item = &'a RunDescriptor>,
        emptied: &[SegmentId],
    ) -> Self {
        let values = runs.flat_map(|run| &run.values);
        let generations = values.map(|value| (value.segment, value.generation)).collect();
        let (emptied, windows) = (emptied.to_vec(), BTreeMap::new());
        Self { layout, generations, emptied, windows, gathered: Vec::new() }
    }

    /// Whether the segment is emptied.
    pub(crate) fn empties(&self, segment: SegmentId) -> bool {
        self.emptied.binary_search(&segment).is_ok()
    }

    /// The value of these pieces; or, as long as not all of it is here, the span to read next.
    ///
    /// # Errors
    /// [`DecodeError`] if it does not verify.
    pub(crate) fn value(&mut self, pieces: &[Piece]) -> Result<Result<Bytes, Miss>, DecodeError> {
        while let Some(piece) = pieces.get(self.gathered.len()) {
            match self.piece(*piece)? {
                Ok(bytes) => self.gathered.push(bytes),
                Err(miss) => return Ok(Err(miss)),
            }
        }
        let emptied = &self.emptied;
        let most = read_bytes(&self.layout);
        self.windows.retain(|segment, (_, bytes)| {
            bytes.len() as u64 <= most && emptied.binary_search(segment).is_ok()
        });
        let gathered = core::mem::take(&mut self.gathered);
        Ok(Ok(match <[Bytes; 1]>::try_from(gathered) {
            Ok([whole]) => whole,
            Err(parts) => parts.concat().into(),
        }))
    }

    /// What stands at the span that was asked for.
    pub(crate) fn take(&mut self, at: Miss, bytes: Bytes) {
        if let Some((segment, start)) = self.layout.locate(at.offset) {
            self.windows.insert(segment, (start, bytes));
        }
    }

    /// Bytes of what was read, and of what is known of segments.
    pub(crate) fn memory_bytes(&self) -> (u64, u64) {
        let windows = self.windows.values().map(|(_, bytes)| bytes.len());
        let read: usize = windows.chain(self.gathered.iter().map(Bytes::len)).sum();
        (read as u64, self.generations.len() as u64 * 16)
    }

    fn piece(&mut self, piece: Piece) -> Result<Result<Bytes, Miss>, DecodeError> {
        let invalid = DecodeError::Invalid { what: "pointer to a value" };
        let generation = *self.generations.get(&piece.segment).ok_or(invalid)?;
        let (from, len) = (u64::from(piece.offset), PIECE_HEADER_BYTES + u64::from(piece.len));
        let window = self.windows.get(&piece.segment);
        let inside = window.and_then(|(start, bytes)| {
            let at = usize::try_from(from.checked_sub(*start)?).ok()?;
            let end = at.checked_add(usize::try_from(len).ok()?)?;
            (end <= bytes.len()).then(|| bytes.slice(at..end))
        });
        let Some(record) = inside else {
            let (start, needed) = sector_span(from, len);
            let len = needed.max(read_bytes(&self.layout)).min(self.layout.segment - start);
            return Ok(Err(Miss { offset: self.layout.offset(piece.segment) + start, len }));
        };
        let bytes = value::parse(&self.layout, generation, piece, &record)?;
        // A copy: what is around it may be dead, and must not stay in memory with it.
        Ok(Ok(Bytes::copy_from_slice(&bytes)))
    }
}
