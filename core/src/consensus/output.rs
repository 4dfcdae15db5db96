//! What a replica wants done.

use bytes::Bytes;
use core::fmt;

use super::config::HardState;
use super::membership::Membership;
use super::message::{Entry, Message};
use super::raft::Role;
use crate::ids::{LogIndex, StoreId, Term};

/// Where a replica puts its actions. Drained by the owner after each call.
#[derive(Clone, Debug, Default)]
pub struct Output {
    actions: Vec<Action>,
}

impl Output {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// All actions since the last call, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Action> {
        self.actions.drain(..)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    pub(super) fn push(&mut self, action: Action) {
        self.actions.push(action);
    }
}

/// One thing to be done by the replica's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this now. It may be lost, doubled, delayed and overtaken.
    Send(Message),
    /// Make this durable.
    Persist(Persist),
    /// Entries up to here are committed, and durable on this replica: apply them.
    Commit(LogIndex),
    /// Once the state machine has applied entries up to `index`, it may answer the read.
    ReadReady {
        /// The read, as it was asked.
        token: u64,
        /// What it must see.
        index: LogIndex,
    },
    /// Leadership is gone: ask the new leader.
    ReadLost {
        /// The read, as it was asked.
        token: u64,
    },
    /// Entries for a peer are in the journal only: read them and call
    /// [`Raft::fetched`](super::Raft::fetched).
    Fetch {
        /// For whom.
        peer: StoreId,
        /// The first.
        from: LogIndex,
        /// How many bytes of payload, but at least one entry.
        bytes_max: u64,
    },
    /// Role, leader or term is another than before.
    Role {
        /// The role.
        role: Role,
        /// Who leads, if known.
        leader: Option<StoreId>,
        /// The term.
        term: Term,
    },
    /// A peer needs entries that the log no longer has: make a snapshot and call
    /// [`Raft::snapshot`](super::Raft::snapshot). Asked again while the peer has none.
    NeedSnapshot {
        /// Who.
        peer: StoreId,
    },
    /// Replace log and state machine by this snapshot, after all Persists so far, and call
    /// [`Raft::snapshot_installed`](super::Raft::snapshot_installed).
    InstallSnapshot {
        /// The last entry that it covers.
        last_index: LogIndex,
        /// Its term.
        last_term: Term,
        /// The configuration in force there: the first of `RecoveredLog::memberships` from now on.
        membership: Membership,
        /// The state machine's bytes, or what names them.
        data: Bytes,
    },
    /// The replica trusts its log again: journal that, so that the next life need not doubt. The
    /// hard state that this rests on is durable already.
    Trusted,
    /// The replica met what must not be (the text says what) and does nothing more: alarm.
    Poisoned(&'static str),
}

/// State to be made durable, and the messages that this allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Numbers the Persists of one life of a replica: 1, 2, 3, …
    pub seq: u64,
    /// The new one, if it changed.
    pub hard_state: Option<HardState>,
    /// To be appended. An entry at an index that exists replaces the log from there on.
    pub entries: Vec<Entry>,
    /// To be sent once this Persist, and all before it, are durable.
    pub then: Vec<Message>,
}

/// This replica does not lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLeader(
    /// Who does, as far as it knows.
    pub Option<StoreId>,
);

impl fmt::Display for NotLeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(leader) => write!(f, "not the leader; {leader} is"),
            None => f.write_str("not the leader, and none is known"),
        }
    }
}

impl core::error::Error for NotLeader {}

/// Why a proposal was not taken. It is not in this replica's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// This replica does not lead; who does, as far as it knows.
    NotLeader(Option<StoreId>),
    /// Too many bytes are uncommitted, or leadership is being handed over: later.
    Overloaded,
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader(leader) => NotLeader(*leader).fmt(f),
            Self::Overloaded => f.write_str("too much is uncommitted; try again later"),
        }
    }
}

impl core::error::Error for ProposeError {}
