//! The disk as the core sees it: a flat address space, and effects that finish in any order.
//!
//! Promises that the runtime (or the simulator) keeps:
//! - a completed `Sync` makes durable every write that had *completed* before the sync was issued;
//! - effects in flight have no order; a write in flight at a crash may be there in part, sector by
//!   sector, in any mix of old and new;
//! - a store that sees a failed sync stops for good: it cannot know what is on the medium
//!   (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).

use core::fmt;

use bytes::Bytes;

/// Bytes of the unit that is written whole or torn at its edges. All writes are aligned to it.
pub const SECTOR: u64 = 4096;

/// One effect on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskOp {
    /// Read `len` bytes; what was never written reads as zeros.
    Read {
        /// Byte offset, a multiple of [`SECTOR`].
        offset: u64,
        /// Bytes, a multiple of [`SECTOR`].
        len: u64,
    },
    /// Write the parts one behind the other (as `pwritev`).
    Write {
        /// Byte offset, a multiple of [`SECTOR`].
        offset: u64,
        /// The bytes; their total is a multiple of [`SECTOR`].
        parts: Vec<Bytes>,
    },
    /// Make completed writes durable (as `fdatasync`).
    Sync,
    /// Say that a span is not needed any more (as `FALLOC_FL_PUNCH_HOLE`); it reads as zeros after.
    Trim {
        /// Byte offset, a multiple of [`SECTOR`].
        offset: u64,
        /// Bytes, a multiple of [`SECTOR`].
        len: u64,
    },
}

/// What came back.
pub type DiskResult = Result<DiskOutput, DiskError>;

/// A finished effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskOutput {
    /// The bytes of a `Read`, as many as were asked for.
    Read(Bytes),
    /// A `Write` is complete (not yet durable).
    Written,
    /// A `Sync` is complete.
    Synced,
    /// A `Trim` is complete.
    Trimmed,
}

/// Why an effect failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// No space left on the device or file system.
    NoSpace,
    /// The device reported an error; the text is the operating system's.
    Io(String),
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSpace => f.write_str("no space left on the device"),
            Self::Io(text) => f.write_str(text),
        }
    }
}

impl core::error::Error for DiskError {}

/// For what a disk has room left. Each kind of writing keeps something back for those below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// For sessions, votes, compaction, and whatever else frees space or keeps the store alive.
    #[default]
    Housekeeping,
    /// For deletes and other small changes of metadata too.
    Deletes,
    /// For everything.
    Data,
}
