//! Looking at disks on which no store runs: what `trine inspect` knows.
//!
//! The very same recovery opens a disk here that opens it for a store, and the very same state machine
//! applies what its log holds, so that there is no second opinion on the formats. Recovery writes; what
//! it writes goes to an overlay in memory ([`Medium`] has no way to write). Copies of chunks are judged
//! by the bytes at their places on the medium, all of them, and by nothing that was kept in memory.
//!
//! Unlike the machines, an inspection has nothing else to wait for: it asks its medium for one read after
//! the other, and the medium, which is the caller's, does the I/O. Memory is bounded by what recovery
//! takes, by the log behind the last rows on the disk, and by the list of what is not sound.
//!
//! ```text
//! Disk::open ─▶ layout, journal, segments, tables
//!     │ copies: each copy in order, read and judged
//!     ▼
//! Root (one disk's replica of the root range) ─▶ rows added up; whose blob is it; audit over all disks
//! ```
//!
//! Leaves to others: files, threads, and how it is told.

mod copies;
mod disk;
mod overlay;
mod replica;
mod root;
mod rows;

pub use copies::{Checked, CopyPage, CopyState, Depth, Place};
pub use disk::{Disk, JournalReport, OpenError, SegmentFault, Unreadable};
pub use replica::{ReplicaReport, StateReport};
pub use root::{AuditReport, BlobUse, Faults, Root};
pub use rows::RowsReport;

pub use crate::storage::{ChunkFault, HeaderFault, SegmentUse, TableShape};

use bytes::Bytes;

use crate::disk::DiskError;

/// A disk that can be read.
pub trait Medium {
    /// Read `len` bytes at `offset`, both multiples of the sector.
    ///
    /// # Errors
    /// The device's, or that the disk ends before.
    fn read(&mut self, offset: u64, len: u64) -> Result<Bytes, DiskError>;
}
