//! Segments: the equal pieces into which the area behind the journal is cut.
//!
//! A segment holds chunks, values or a run of the tree. What each one is follows from the edits in
//! the journal; its header says it too, for the day on which the journal is damaged. A segment gets
//! a new generation with each life, and everything in it is checksummed with that generation: what
//! is left over from an earlier life does not verify.

pub(crate) mod allocator;
pub(crate) mod chunk;
pub(crate) mod chunk_store;
pub(crate) mod edit;
pub(crate) mod header;
pub(crate) mod layout;
pub(crate) mod scan;

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "numbers in tests are small")]
pub(crate) mod format_tests;
