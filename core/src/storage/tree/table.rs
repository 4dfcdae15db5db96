//! One table: what is in memory and which runs there are.

use bytes::Bytes;

use crate::ids::LogIndex;
use crate::rows::RowWrite;

use super::memtable::Memtable;
use super::run::Run;
use super::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// A memtable that is being written out.
#[derive(Debug)]
pub(crate) struct Frozen {
    /// Its rows.
    pub(crate) rows: Memtable,
    /// All entries up to here are in it or in runs.
    pub(crate) through: LogIndex,
}

/// A table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Takes writes.
    pub(crate) active: Memtable,
    /// Is being written out.
    pub(crate) frozen: Option<Frozen>,
    /// On disk, newest first.
    pub(crate) runs: Vec<Run>,
    /// Entries up to here are in runs.
    pub(crate) flushed: LogIndex,
    /// Whether a run could not be loaded: the table takes nothing until it is reset.
    pub(crate) broken: bool,
}

impl Table {
    /// Apply the writes of one entry.
    ///
    /// # Panics
    /// If the entry is in a run already, a row is too large, or the table is broken: the caller's
    /// contract.
    pub(crate) fn write(&mut self, index: LogIndex, rows: &[RowWrite]) {
        assert!(!self.broken, "a broken table is reset before it is written to");
        let frozen = self.frozen.as_ref().map_or(self.flushed, |frozen| frozen.through);
        assert!(index > frozen, "entry {index} was written out already, through {frozen}");
        for row in rows {
            assert!(row.key.len() <= KEY_BYTES_MAX, "a key has at most {KEY_BYTES_MAX} bytes");
            let len = row.value.as_ref().map_or(0, Bytes::len);
            assert!(len <= VALUE_BYTES_MAX, "a value has at most {VALUE_BYTES_MAX} bytes");
            self.active.write(index, row.key.clone(), row.value.clone());
        }
    }

    /// Bytes of memtables.
    pub(crate) fn memtable_bytes(&self) -> u64 {
        let frozen = self.frozen.as_ref().map_or(0, |frozen| frozen.rows.bytes());
        self.active.bytes() + frozen
    }

    /// Bytes of block indexes and filters.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.runs.iter().map(Run::memory_bytes).sum()
    }
}
