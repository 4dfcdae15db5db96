//! A range: a deterministic state machine of S3-shaped commands.
//!
//! [`state::Range`] applies the batches of its log, in order, to an ordered set of rows that the
//! caller keeps. It promises that equal logs give equal rows, outcomes and state hashes on every
//! replica, and that a command of a session takes effect once. It leaves to others: consensus (which
//! entries there are), storage (where rows are), and the read-index round before a read.
//!
//! Reading order: [`command`] (what is asked) → [`keys`] and [`records`] (what rows look like) →
//! [`state`] → the command families.

mod audit;
mod blobs;
mod buckets;
mod cluster;
pub mod command;
mod command_codec;
pub mod keys;
mod objects;
mod overlay;
pub mod records;
mod scan;
mod sessions;
pub mod state;
#[cfg(test)]
mod tests;
mod uploads;

pub use audit::AUDIT_ROWS_MAX;
pub use blobs::{BlobState, DeadBlob, DeadBlobs};
pub use command_codec::{COMMANDS_PER_BATCH_MAX, CONDITION_TAGS_MAX, REPLY_ENTRIES_MAX};
pub(crate) use objects::hold;
pub use scan::Progress;
pub use sessions::{LIVE_SESSIONS_MAX, OUTCOMES_PER_SESSION_MAX};
pub use state::{Applied, Damaged, Range, RangeStatus, RowError, is_in_tree_hash};
pub use uploads::COMPLETED_KEPT_MILLIS;
