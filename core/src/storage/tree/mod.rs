//! The log-structured merge tree: rows by key, in tables that share nothing but the disk.
//!
//! A table is a memtable that takes writes, at most one frozen memtable that is being written out,
//! and runs on disk, newest first. The consensus log is the write-ahead log: what is in no run is
//! applied again at recovery. Every row carries the index of the log entry that wrote it, and
//! tombstones are kept for a while, so that a lagging replica can be given what is newer than its
//! index.
//!
//! Runs that are neighbours in age are merged into one; which, `policy` says. A value of more than
//! [`INLINE_BYTES_MAX`] bytes stands in a value segment, and stays there when its row is merged, until
//! most of that segment is dead.
//!
//! A read of one key asks each run's Bloom filter before it reads a block. Block indexes (a first key
//! for each tree block) and filters are held in memory.

pub(crate) mod block;
pub(crate) mod cache;
mod cursor;
pub(crate) mod filter;
pub(crate) mod memtable;
pub(crate) mod merge;
pub(crate) mod policy;
pub(crate) mod reader;
pub(crate) mod run;
pub(crate) mod run_builder;
mod stream;
pub(crate) mod table;
pub(crate) mod value;
pub(crate) mod view;

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "numbers in tests are small")]
mod builder_tests;
#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "numbers in tests are small")]
mod format_tests;

/// Longest key, in bytes: an escaped object key with its prefix stays below it, and a row with such
/// a key and the most pieces fits into the smallest tree block.
pub(crate) const KEY_BYTES_MAX: usize = 2816;
/// Longest value, in bytes: the parts of the largest upload.
pub(crate) const VALUE_BYTES_MAX: usize = 4 << 20;
/// Values up to this many bytes stand in the row itself.
pub(crate) const INLINE_BYTES_MAX: usize = 512;
/// Pieces into which a value is cut where it passes the end of a segment.
pub(crate) const PIECES_MAX: usize = 40;
