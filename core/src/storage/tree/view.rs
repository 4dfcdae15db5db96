//! Reading a table: memtables and runs, merged. Pure: a read that needs what is not in memory says
//! which span of the disk it is.

use std::ops::Bound;

use bytes::{Bytes, BytesMut};

use crate::ids::LogIndex;
use crate::rows::{Miss, Row, Rows};

use super::super::segment::layout::Layout;
use super::block::RowRef;
use super::cache::BlockCache;
use super::filter::KeyHash;
use super::memtable::{MemoryRow, Memtable};
use super::run::Run;
use super::table::Table;
use super::value::{PIECE_HEADER_BYTES, Piece};

/// The rows of a table as they are now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableView<'a> {
    /// The active and the frozen one.
    memory: [Option<&'a Memtable>; 2],
    /// Newest first: those of a snapshot that is being taken, and the table's.
    runs: [&'a [Run]; 2],
    cache: &'a BlockCache,
    layout: &'a Layout,
}

/// A row as one source has it.
#[derive(Clone, Copy)]
enum Found<'a> {
    Memory(&'a Bytes, &'a MemoryRow),
    Disk(RowRef<'a>),
}

impl<'a> TableView<'a> {
    /// A view of `table`.
    pub(crate) fn new(table: &'a Table, cache: &'a BlockCache, layout: &'a Layout) -> Self {
        let frozen = table.frozen.as_ref().map(|frozen| &frozen.rows);
        Self { memory: [Some(&table.active), frozen], runs: [&[], &table.runs], cache, layout }
    }

    /// A view of runs alone, all of `newer` being newer than all of `older`; each newest first.
    pub(crate) fn of_runs(
        newer: &'a [Run],
        older: &'a [Run],
        cache: &'a BlockCache,
        layout: &'a Layout,
    ) -> Self {
        Self { memory: [None, None], runs: [newer, older], cache, layout }
    }

    /// All runs, newest first.
    fn all_runs(&self) -> impl Iterator<Item = &'a Run> {
        let [newer, older] = self.runs;
        newer.iter().chain(older)
    }

    /// The span of the newest run's first block.
    #[cfg(test)]
    pub(crate) fn first_miss(&self) -> Miss {
        super::run::block_span(&self.runs[1][0].descriptor, self.layout, 0)
    }

    /// Memtables and runs, newest first.
    fn sources(&self) -> usize {
        2 + self.runs[0].len() + self.runs[1].len()
    }

    /// The first row that a source has within `from` and before `end`.
    fn first_of(
        &self,
        source: usize,
        from: Bound<&[u8]>,
        end: &[u8],
    ) -> Result<Option<Found<'a>>, Miss> {
        if let Some(memory) = self.memory.get(source) {
            let first = memory.and_then(|memory| memory.first(from, end));
            return Ok(first.map(|(key, row)| Found::Memory(key, row)));
        }
        let number = source - self.memory.len();
        let [newer, older] = self.runs;
        let run = newer.get(number).unwrap_or_else(|| &older[number - newer.len()]);
        Ok(run.first(from, end, self.layout, self.cache)?.map(Found::Disk))
    }

    /// The row that a source's finding stands for; `None` for a tombstone.
    fn resolve(&self, found: Found<'a>) -> Result<Option<Row>, Miss> {
        let (key, value, index) = match found {
            Found::Memory(key, row) => (key.clone(), row.value.clone(), row.index),
            Found::Disk(row) => (row.key_bytes(), self.value(row)?, row.index()),
        };
        Ok(value.map(|value| Row { key, value, index }))
    }

    /// What a row's value is, put together; `None` for a tombstone.
    ///
    /// # Errors
    /// [`Miss`].
    pub(crate) fn value(&self, row: RowRef<'_>) -> Result<Option<Bytes>, Miss> {
        if let Some(bytes) = row.inline() {
            return Ok(Some(bytes));
        }
        if row.is_tombstone() {
            return Ok(None);
        }
        let mut pieces = row.pieces();
        if pieces.len() == 1 {
            let piece = pieces.next().expect("there is one");
            return self.piece(piece).cloned().map(Some);
        }
        // A value that passes the end of a segment is put together: a copy, and rare.
        let mut whole = BytesMut::new();
        for piece in pieces {
            whole.extend_from_slice(self.piece(piece)?);
        }
        Ok(Some(whole.freeze()))
    }

    fn piece(&self, piece: Piece) -> Result<&'a Bytes, Miss> {
        let at = Miss {
            offset: self.layout.offset(piece.segment) + u64::from(piece.offset),
            len: PIECE_HEADER_BYTES + u64::from(piece.len),
        };
        self.cache.piece(at).ok_or(at)
    }
}

impl<'a> Found<'a> {
    fn key(self) -> &'a [u8] {
        match self {
            Self::Memory(key, _) => key,
            Self::Disk(row) => row.key(),
        }
    }

    fn index(self) -> LogIndex {
        match self {
            Self::Memory(_, row) => row.index,
            Self::Disk(row) => row.index(),
        }
    }

    fn is_tombstone(self) -> bool {
        match self {
            Self::Memory(_, row) => row.value.is_none(),
            Self::Disk(row) => row.is_tombstone(),
        }
    }
}

impl Rows for TableView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Row>, Miss> {
        // Sources are in order of age, so that the first one that knows the key has its newest row.
        for memory in self.memory.into_iter().flatten() {
            if let Some(row) = memory.get(key) {
                let value = row.value.clone();
                let key = Bytes::copy_from_slice(key);
                return Ok(value.map(|value| Row { key, value, index: row.index }));
            }
        }
        let hash = KeyHash::of(key);
        for run in self.all_runs() {
            if let Some(row) = run.get(key, hash, self.layout, self.cache)? {
                return self.resolve(Found::Disk(row));
            }
        }
        Ok(None)
    }

    fn seek(&self, from: &[u8], end: &[u8]) -> Result<Option<Row>, Miss> {
        let mut candidates = Vec::with_capacity(self.sources());
        for source in 0..self.sources() {
            candidates.push(self.first_of(source, Bound::Included(from), end)?);
        }
        loop {
            // On a tie the first source wins, which is the newest.
            let Some(first) = candidates
                .iter()
                .copied()
                .flatten()
                .min_by(|a, b| a.key().cmp(b.key()).then(b.index().cmp(&a.index())))
            else {
                return Ok(None);
            };
            if !first.is_tombstone() {
                return self.resolve(first);
            }
            for (source, candidate) in candidates.iter_mut().enumerate() {
                if candidate.is_some_and(|found| found.key() == first.key()) {
                    *candidate = self.first_of(source, Bound::Excluded(first.key()), end)?;
                }
            }
        }
    }
}
