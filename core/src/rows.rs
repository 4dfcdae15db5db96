//! Reading an ordered set of rows that may be partly on disk.
//!
//! Index reads are pure: a read that needs a block which is not in memory names it ([`Miss`]) and
//! changes nothing, so that the caller may have it fetched and ask again.

use bytes::Bytes;

use crate::hash::ValueHash;
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

    /// The hash of the value under `key`: known without the value where that stands elsewhere.
    ///
    /// # Errors
    /// [`Miss`]: fetch it and ask again.
    fn value_hash(&self, key: &[u8]) -> Result<Option<ValueHash>, Miss> {
        Ok(self.get(key)?.map(|row| ValueHash::of(&row.value)))
    }

    /// The first row whose key is at or after `from` and before `end`.
    ///
    /// # Errors
    /// [`Miss`]: fetch it and ask again.
    fn seek(&self, from: &[u8], end: &[u8]) -> Result<Option<Row>, Miss>;

    /// A cursor over the rows from `from` on and before `end`.
    fn cursor<'a>(&'a self, from: &[u8], end: &[u8]) -> Box<dyn Cursor + 'a>;
}

/// Where a cursor has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// At the row with this key.
    Row(&'a [u8]),
    /// There are no more rows.
    End,
    /// It has passed as many rows as it may. There is nothing more before this key.
    Spent(&'a [u8]),
}

/// A place among rows that only moves forward. It keeps its place in every source of rows, so that
/// the next row costs no search. After a [`Miss`] it is of no more use.
pub trait Cursor {
    /// Go to the first row at or after `key`, and never back. Deleted rows in the way are passed, but
    /// no more than `rows_max`, about: after [`Step::Spent`] the same call goes on.
    ///
    /// # Errors
    /// [`Miss`]: fetch it and begin anew.
    fn seek(&mut self, key: &[u8], rows_max: u32) -> Result<Step<'_>, Miss>;

    /// The value of the row it is at.
    ///
    /// # Errors
    /// [`Miss`]: fetch it and begin anew.
    ///
    /// # Panics
    /// If it is not at a row.
    fn value(&self) -> Result<Bytes, Miss>;

    /// Rows passed so far, deleted ones and hidden ones too: what the work is measured by.
    fn passed(&self) -> u32;
}

/// What a filter knows a key by: its family, the rows that are looked up together.
///
/// The rows of an object have keys that begin with `01` or `02` and 16 bytes, and differ only behind
/// the first `00 01` after these (`range::keys`): their family is what goes before, and ends with it. `None`:
/// the key is alone.
pub fn family(key: &[u8]) -> Option<&[u8]> {
    const FIXED: usize = 17;
    let is_object = matches!(key.first(), Some(1 | 2));
    let at = key.get(FIXED..).filter(|_| is_object)?.windows(2).position(|pair| pair == [0, 1])?;
    key.get(..FIXED + at + 2)
}

/// One change to the set of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowWrite {
    /// The key.
    pub key: Bytes,
    /// The new value; `None` deletes the row.
    pub value: Option<Bytes>,
}
