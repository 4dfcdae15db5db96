//! Rows in memory, newest state only.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;

use bytes::Bytes;

use crate::ids::LogIndex;

/// What a row costs in memory beside its bytes (handles, tree nodes), estimated.
const ROW_OVERHEAD_BYTES: u64 = 128;

/// The newest state of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemoryRow {
    /// The entry that wrote it.
    pub(crate) index: LogIndex,
    /// `None` is a tombstone.
    pub(crate) value: Option<Bytes>,
}

/// Rows of a memtable in order.
pub(crate) type MemoryRange<'a> = btree_map::Range<'a, Bytes, MemoryRow>;

/// Rows by key.
#[derive(Debug, Default)]
pub(crate) struct Memtable {
    rows: BTreeMap<Bytes, MemoryRow>,
    bytes: u64,
    last: LogIndex,
}

impl Memtable {
    /// Set or delete a row.
    pub(crate) fn write(&mut self, index: LogIndex, key: Bytes, value: Option<Bytes>) {
        assert!(index >= self.last, "entries are applied in order");
        self.last = index;
        let cost = cost(&key, value.as_ref());
        let freed = self.rows.get(&key).map_or(0, |old| cost_of(&key, old));
        self.rows.insert(key, MemoryRow { index, value });
        self.bytes = self.bytes + cost - freed;
    }

    /// Take a row of a snapshot, whose rows come in the order of their keys, each once.
    pub(crate) fn ingest(&mut self, index: LogIndex, key: Bytes, value: Option<Bytes>) {
        self.last = self.last.max(index);
        self.bytes += cost(&key, value.as_ref());
        let former = self.rows.insert(key, MemoryRow { index, value });
        assert!(former.is_none(), "each row of a snapshot comes once");
    }

    /// The newest state of `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&MemoryRow> {
        self.rows.get(key)
    }

    /// The rows from `from` on.
    pub(crate) fn range(&self, from: &[u8]) -> MemoryRange<'_> {
        self.rows.range::<[u8], _>((Bound::Included(from), Bound::Unbounded))
    }

    /// All rows, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Bytes, &MemoryRow)> {
        self.rows.iter()
    }

    /// Bytes of keys and values, and what they cost beside.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The newest entry that wrote to it.
    pub(crate) fn last(&self) -> LogIndex {
        self.last
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Whether there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Forget the rows that were written up to `through`: a run holds them.
    pub(crate) fn forget(&mut self, through: LogIndex) {
        self.rows.retain(|_, row| row.index > through);
        self.bytes = self.rows.iter().map(|(key, row)| cost_of(key, row)).sum();
    }
}

fn cost_of(key: &Bytes, row: &MemoryRow) -> u64 {
    cost(key, row.value.as_ref())
}

fn cost(key: &Bytes, value: Option<&Bytes>) -> u64 {
    (key.len() + value.map_or(0, Bytes::len)) as u64 + ROW_OVERHEAD_BYTES
}
