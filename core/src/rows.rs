//! Reading an ordered set of rows that may be partly on disk.
//!
//! Index reads are pure: a read that needs a block which is not in memory names it ([`Miss`]) and
//! changes nothing, so that the caller may have it fetched and ask again.

use bytes::Bytes;

use crate::ids::LogIndex;

/// A span of the disk that a read needs and the cache does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Miss {
    /// Byte offset on the disk.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// A row that exists (a deleted row is not seen by readers).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key, as ordered bytes (`range::keys`).
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The log entry that wrote it.
    pub index: LogIndex,
}

/// An ordered set of rows at one point in time.
pub trait Rows {
    /// The row under `key`.
    ///
    /// # Errors
    /// [`Miss`]: fetch it and ask again.
    fn get(&self, key: &[u8]) -> Result<Option<Row>, Miss>;

    /// The first row whose key is at or after `from` and before `end`.
    ///
    /// # Errors
    /// [`Miss`]: fetch it and ask again.
    fn seek(&self, from: &[u8], end: &[u8]) -> Result<Option<Row>, Miss>;
}

/// One change to the set of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowWrite {
    /// The key.
    pub key: Bytes,
    /// The new value; `None` deletes the row.
    pub value: Option<Bytes>,
}
