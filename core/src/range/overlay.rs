//! The rows as a batch sees them: what is in the tree, under what the batch itself has written.
//!
//! Every write first takes the old value out of the state hash, so the hash follows the rows and
//! needs no scan. Nothing leaves the overlay until the whole batch has succeeded.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::keys::{Key, Span};
use super::state::{Damaged, RowError};
use crate::codec::Wire;
use crate::hash::{StateHash, ValueHash};
use crate::rows::{Cursor, RowWrite, Rows};

/// Rows and what is to be changed in them.
pub(super) struct Overlay<'a> {
    rows: &'a dyn Rows,
    writes: BTreeMap<Bytes, Option<Bytes>>,
    hash: StateHash,
    changes: u64,
}

impl<'a> Overlay<'a> {
    /// `hash` is that of `rows`.
    pub(super) fn new(rows: &'a dyn Rows, hash: StateHash) -> Self {
        Self { rows, writes: BTreeMap::new(), hash, changes: 0 }
    }

    /// The record under `key`.
    pub(super) fn get<T: Wire>(&self, key: &Key) -> Result<Option<T>, RowError> {
        let bytes = key.encode();
        self.raw(&bytes)?.map(|value| decode(&bytes, &value)).transpose()
    }

    /// The bytes under `key`.
    pub(super) fn raw(&self, key: &Bytes) -> Result<Option<Bytes>, RowError> {
        match self.writes.get(key) {
            Some(value) => Ok(value.clone()),
            None => Ok(self.rows.get(key)?.map(|row| row.value)),
        }
    }

    /// The hash of the value under `key`.
    fn value_hash(&self, key: &Bytes) -> Result<Option<ValueHash>, RowError> {
        match self.writes.get(key) {
            Some(value) => Ok(value.as_deref().map(ValueHash::of)),
            None => Ok(self.rows.value_hash(key)?),
        }
    }

    /// The first row in a span: its key taken apart, and its value.
    pub(super) fn first(&self, span: &Span) -> Result<Option<(Key, Bytes)>, RowError> {
        self.seek(&span.start, &span.end)
    }

    /// The first row from `from` on and before `end`.
    pub(super) fn seek(&self, from: &[u8], end: &[u8]) -> Result<Option<(Key, Bytes)>, RowError> {
        let Some((key, value)) = self.seek_raw(from, end)? else { return Ok(None) };
        match Key::decode(&key) {
            Ok(decoded) => Ok(Some((decoded, value))),
            Err(error) => Err(RowError::Damaged(Damaged { key, error })),
        }
    }

    /// A cursor over the rows of a span.
    ///
    /// # Panics
    /// If there are writes, which it would not see: only reads use one.
    pub(super) fn cursor(&self, span: &Span) -> Box<dyn Cursor + 'a> {
        assert!(self.writes.is_empty(), "a cursor sees no writes");
        self.rows.cursor(&span.start, &span.end)
    }

    fn seek_raw(&self, from: &[u8], end: &[u8]) -> Result<Option<(Bytes, Bytes)>, RowError> {
        let mut from = Bytes::copy_from_slice(from);
        while from.as_ref() < end {
            let below = self.rows.seek(&from, end)?;
            let bounds = (Bound::Included(from.as_ref()), Bound::Excluded(end));
            let above = self.writes.range::<[u8], _>(bounds).next();
            match (below, above) {
                (Some(row), Some((key, _))) if row.key < *key => {
                    return Ok(Some((row.key, row.value)));
                }
                (_, Some((key, Some(value)))) => return Ok(Some((key.clone(), value.clone()))),
                (_, Some((key, None))) => from = after(key),
                (below, None) => return Ok(below.map(|row| (row.key, row.value))),
            }
        }
        Ok(None)
    }

    /// Write a row that may exist.
    pub(super) fn put(&mut self, key: &Key, value: &impl Wire) -> Result<(), RowError> {
        let key = key.encode();
        if let Some(old) = self.value_hash(&key)? {
            self.hash.remove(&key, old);
        }
        self.set(key, value.to_bytes());
        Ok(())
    }

    /// Write a row that cannot exist, because its key names this very command.
    pub(super) fn put_new(&mut self, key: &Key, value: Bytes) {
        self.set(key.encode(), value);
    }

    /// Delete a row, if it exists.
    pub(super) fn delete(&mut self, key: &Key) -> Result<(), RowError> {
        let key = key.encode();
        if let Some(old) = self.value_hash(&key)? {
            self.hash.remove(&key, old);
            self.changes += 1;
            self.writes.insert(key, None);
        }
        Ok(())
    }

    fn set(&mut self, key: Bytes, value: Bytes) {
        self.hash.insert(&key, ValueHash::of(&value));
        self.changes += 1;
        self.writes.insert(key, Some(value));
    }

    /// How many changes there have been, so that a rejected command can be seen to make none.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// What is to be written, in key order, and the hash of the rows after it.
    pub(super) fn finish(self) -> (Vec<RowWrite>, StateHash) {
        let writes = self.writes.into_iter().map(|(key, value)| RowWrite { key, value }).collect();
        (writes, self.hash)
    }
}

/// Decode the value of a row.
pub(super) fn decode<T: Wire>(key: &Bytes, value: &Bytes) -> Result<T, RowError> {
    T::from_bytes(value).map_err(|error| RowError::Damaged(Damaged { key: key.clone(), error }))
}

/// Decode the value of a row whose key has been taken apart.
pub(super) fn decode_at<T: Wire>(key: &Key, value: &Bytes) -> Result<T, RowError> {
    T::from_bytes(value).map_err(|error| RowError::Damaged(Damaged { key: key.encode(), error }))
}

/// The least key behind `key`.
fn after(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend(key);
    next.push(0);
    Bytes::from(next)
}
