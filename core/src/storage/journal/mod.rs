//! The journal: a store's one ordered stream of facts. The consensus logs of its ranges live here,
//! and there is no other write-ahead log.
//!
//! Promises: a ticket is reported durable only after a completed sync that covers its record and all
//! before it; what was reported durable is recovered in order, or its loss is reported as damage
//! (`RecoveredJournal::damage`), never cut in silence; what was never appended is not recovered.
//!
//! One life of the journal:
//!
//! ```text
//! SuperblockReader → JournalRecovery → Journal
//!       (Found)      (RecoveredJournal)   waits for the superblock with the new incarnation,
//!                                         then writes frames into pre-written pieces
//! ```
//!
//! One frame is in flight at a time; records that come meanwhile share the next. So the group commit
//! grows with the load, and at most one frame (and a closing mark) is in doubt after a crash. The
//! disk's memory of what was synced: each frame says it of those before it; a closing mark of the
//! last frame of a burst; the superblock, at each start, of what recovery found.
//!
//! The journal is a ring. Where it begins (its *tail*) stands in the superblock, and moves up when a
//! checkpoint is durable (`Journal::give_up_before`): records that say what those before said, as far
//! as it still counts.
//!
//! Left to others: what records mean; making checkpoints, and saying what they leave needed.

mod frame;
mod locations;
mod prepare;
mod record;
mod recovery;
#[cfg(test)]
mod tests;
mod waypoints;
mod writer;

pub(crate) use frame::frame_claims;
pub use frame::{
    EncodedFrame, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FrameHeader, Identity, VERSION, encode,
    field as frame_field, filler, frame_len,
};
pub(crate) use locations::Span;
pub use record::{Location, PAYLOAD_BYTES_MAX, RECORD_HEADER_BYTES, Record, field as record_field};
pub use recovery::Damage;
pub(crate) use recovery::{JournalRecovery, RecoveredJournal, RecoverySink};
pub(crate) use writer::{Journal, JournalTicket, Progress, Reader};

use core::fmt;

use crate::disk::DiskError;
use crate::ids::{LogIndex, RangeId};

/// Why the store must stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalError {
    /// The disk refused. What is on it is not known any more.
    Disk {
        /// While doing what.
        doing: &'static str,
        /// Its words.
        error: DiskError,
    },
    /// Even the reserve is used up: a record that must be written has no place.
    Full {
        /// Bytes that the next frame needs.
        needed: u64,
        /// Bytes that are left.
        free: u64,
    },
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk { doing, error } => write!(f, "journal: {doing} failed: {error}"),
            Self::Full { needed, free } => {
                write!(f, "journal full: {needed} bytes needed, {free} free")
            }
        }
    }
}

impl core::error::Error for JournalError {}

/// An entry that was read back does not verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryDamage {
    /// Of which range.
    pub range: RangeId,
    /// Which entry.
    pub index: LogIndex,
    /// Where it stands.
    pub position: u64,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for EntryDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { range, index, position, reason } = self;
        write!(f, "journal position {position}: entry {index} of {range} is damaged: {reason}")
    }
}

impl core::error::Error for EntryDamage {}
