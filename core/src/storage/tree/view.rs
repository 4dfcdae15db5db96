//! Reading a table: memtables and runs, merged. Pure: a read that needs what is not in memory says
//! which span of the disk it is.

use bytes::{Bytes, BytesMut};

use crate::hash::ValueHash;
use crate::rows::{Cursor, Miss, Row, Rows, Step};

use super::super::segment::layout::Layout;
use super::block::RowRef;
use super::cache::BlockCache;
use super::cursor::TableCursor;
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

impl<'a> TableView<'a> {
    /// A view of `table`.
    pub(crate) fn new(table: &'a Table, cache: &'a BlockCache, layout: &'a Layout) -> Self {
        let frozen = table.frozen.as_ref().filter(|_| !planted!(FrozenRowsUnread));
        let frozen = frozen.map(|frozen| &frozen.rows);
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

    /// All memtables, newest first.
    pub(super) fn memtables(&self) -> impl Iterator<Item = &'a Memtable> {
        self.memory.into_iter().flatten()
    }

    /// All runs, newest first.
    pub(super) fn all_runs(&self) -> impl Iterator<Item = &'a Run> {
        let [newer, older] = self.runs;
        newer.iter().chain(older)
    }

    /// Data block `number` of a run.
    ///
    /// # Errors
    /// [`Miss`].
    pub(super) fn block(&self, run: &Run, number: usize) -> Result<&'a super::block::Block, Miss> {
        run.block(number, self.layout, self.cache)
    }

    /// The span of the newest run's first block.
    #[cfg(test)]
    pub(crate) fn first_miss(&self) -> Miss {
        super::run::block_span(&self.runs[1][0].descriptor, self.layout, 0)
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
        probe!(ValueInPieces);
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

/// The newest state of a key.
enum Newest<'a> {
    Memory(&'a MemoryRow),
    Disk(RowRef<'a>),
}

impl<'a> TableView<'a> {
    fn newest(&self, key: &[u8]) -> Result<Option<Newest<'a>>, Miss> {
        // Sources are in order of age, so that the first one that knows the key has its newest row.
        if let Some(row) = self.memtables().find_map(|memory| memory.get(key)) {
            return Ok(Some(Newest::Memory(row)));
        }
        let hash = KeyHash::of(key);
        for run in self.all_runs() {
            if let Some(row) = run.get(key, hash, self.layout, self.cache)? {
                return Ok(Some(Newest::Disk(row)));
            }
        }
        Ok(None)
    }
}

impl Rows for TableView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Row>, Miss> {
        let (value, index) = match self.newest(key)? {
            None => return Ok(None),
            Some(Newest::Memory(row)) => (row.value.clone(), row.index),
            Some(Newest::Disk(row)) => (self.value(row)?, row.index()),
        };
        let key = Bytes::copy_from_slice(key);
        Ok(value.map(|value| Row { key, value, index }))
    }

    fn value_hash(&self, key: &[u8]) -> Result<Option<ValueHash>, Miss> {
        Ok(match self.newest(key)? {
            None => None,
            Some(Newest::Memory(row)) => row.value.as_deref().map(ValueHash::of),
            Some(Newest::Disk(row)) => match row.stored_hash() {
                Some(hash) => Some(hash),
                None => self.value(row)?.as_deref().map(ValueHash::of),
            },
        })
    }

    fn seek(&self, from: &[u8], end: &[u8]) -> Result<Option<Row>, Miss> {
        // One object is looked for: runs that do not have it are left out.
        let family = KeyHash::of_span(from, end);
        let mut cursor = TableCursor::new(*self, family, from, end);
        match cursor.seek(from, u32::MAX)? {
            Step::Row(_) => cursor.row().map(Some),
            Step::End | Step::Spent(_) => Ok(None),
        }
    }

    fn cursor<'b>(&'b self, from: &[u8], end: &[u8]) -> Box<dyn Cursor + 'b> {
        Box::new(TableCursor::new(*self, None, from, end))
    }
}
