//! Raft, as a sans-IO machine, with the semantics of etcd/raft.
//!
//! For: one replica of one range's log. Promises: what [`Output`] carries is safe to do as soon as it
//! comes out, and whatever needs durability leaves only in the `then` of a [`Persist`]. Leaves to its
//! owner: the journal, links, clocks, and the state machine.
//!
//! # Calling rules
//! - Call one method, drain the [`Output`], carry its actions out in order, call the next. Times never
//!   go back. [`Raft::deadline`] says when to call [`Raft::on_deadline`]; too early does no harm.
//! - [`Action::Persist`] effects are appended to the journal in the order of their `seq` and become
//!   durable in that order. When one is, its `then` messages are sent and [`Raft::persisted`] is called.
//!   A Persist without state waits only for those before it.
//! - After a crash, the journal gives back the state after some Persist, or a prefix of the entries
//!   of the first one that was not durable; never a later one without an earlier one.
//! - [`Action::InstallSnapshot`] takes its place in the same order.
//!
//! Reading order: [`config`](RaftConfig), membership, messages, quorum, log, progress; then `raft`
//! (state), `dispatch`, `election`, `replication`, `change`, `reads`, `snapshot`, `suspect`.
//!
//! Source: Ongaro, "Consensus: Bridging Theory and Practice" (2014), for pre-vote, check-quorum,
//! read-index, transfer, learners and joint consensus; etcd/raft for flow control and rejection hints.

mod change;
mod codec;
mod config;
mod dispatch;
mod election;
#[cfg(feature = "test-durable")]
pub mod golden;
mod inspect;
mod log;
mod membership;
mod message;
mod mutants;
mod output;
mod progress;
mod quorum;
mod raft;
mod reads;
mod replication;
mod snapshot;
mod suspect;

#[cfg(test)]
mod tests;

pub use config::{HardState, RaftConfig, RecoveredLog};
pub use log::Cached;
pub use membership::{Change, ChangeError, Membership};
pub use message::{
    ENTRIES_PER_APPEND_MAX, ENTRY_PAYLOAD_BYTES_MAX, Entry, EntryKind, MESSAGE_BYTES_MAX, Message,
    MessageBody, SNAPSHOT_BYTES_MAX,
};
#[cfg(feature = "rare")]
pub use mutants::Mutant;
pub use mutants::Mutants;
pub use output::{Action, NotLeader, Output, Persist, ProposeError};
pub use quorum::Tally;
pub use raft::{Raft, Role};
