//! What replicas of a range say to each other. The meaning is that of etcd/raft's messages.

use bytes::Bytes;

use super::membership::Membership;
use crate::ids::{LogIndex, StoreId, Term};

/// Bytes of one entry's payload.
pub const ENTRY_PAYLOAD_BYTES_MAX: usize = 8 << 20;

/// Bytes of a snapshot's state, or of what names it.
pub const SNAPSHOT_BYTES_MAX: usize = 8 << 20;

/// Bytes of one encoded message.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Entries of one append.
pub const ENTRIES_PER_APPEND_MAX: usize = 4096;

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its position.
    pub index: LogIndex,
    /// The term in which a leader appended it.
    pub term: Term,
    /// What it says.
    pub kind: EntryKind,
    /// For `Command`, the state machine's bytes; for `Membership`, an encoded
    /// [`Membership`](super::Membership).
    pub payload: Bytes,
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// The first entry of a leader's term; changes nothing.
    Empty,
    /// For the state machine.
    Command,
    /// A change of voters or learners.
    Membership,
}

/// A message from one replica of a range to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Sender.
    pub from: StoreId,
    /// Receiver.
    pub to: StoreId,
    /// The sender's term; for a pre-vote, the term that it would campaign in.
    pub term: Term,
    /// The rest.
    pub body: MessageBody,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageBody {
    /// Would you vote for me?
    PreVote {
        /// The end of the candidate's log.
        last_index: LogIndex,
        /// Its term.
        last_term: Term,
    },
    /// `term` is the campaign's if granted, else the voter's own.
    PreVoteReply {
        /// Whether it would.
        granted: bool,
    },
    /// Vote for me.
    Vote {
        /// The end of the candidate's log.
        last_index: LogIndex,
        /// Its term.
        last_term: Term,
        /// The leader itself handed over: do not protect it.
        transfer: bool,
    },
    /// The vote, durable before this is sent.
    VoteReply {
        /// Whether it was given.
        granted: bool,
    },
    /// Append entries.
    Append {
        /// The entry before them.
        prev_index: LogIndex,
        /// Its term.
        prev_term: Term,
        /// Empty to probe.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: LogIndex,
    },
    /// Entries up to `matched` are durable here and equal to the leader's.
    AppendAccepted {
        /// See above.
        matched: LogIndex,
        /// The follower distrusts its log and wants to be restored; the number tells one life of it
        /// from another. 0 if it trusts its log.
        suspect: u64,
    },
    /// The entry before the appended ones is missing or has another term.
    AppendRejected {
        /// Which `prev_index` is refused.
        refused: LogIndex,
        /// The highest index at which the leader may try next...
        hint_index: LogIndex,
        /// ...and the term of the follower's entry there.
        hint_term: Term,
        /// As in `AppendAccepted`.
        suspect: u64,
    },
    /// I lead; `commit` is no higher than what the receiver is known to hold.
    Heartbeat {
        /// Commit index for the receiver.
        commit: LogIndex,
        /// The newest read-index round.
        round: u64,
    },
    /// I follow.
    HeartbeatReply {
        /// The round that is acknowledged.
        round: u64,
        /// As in `AppendAccepted`.
        suspect: u64,
    },
    /// To a suspect replica: since you reported `suspect`, all other voters have acknowledged a
    /// round and hold entries of this term, and the log up to `index` is what you need to be
    /// trusted again.
    Restore {
        /// Which life of the suspect replica this answers.
        suspect: u64,
        /// The end of the leader's log when it first heard of this life.
        index: LogIndex,
    },
    /// Campaign now, without pre-vote.
    TimeoutNow,
    /// The log that you need is gone: take this state instead.
    Snapshot {
        /// The state covers entries up to this one...
        last_index: LogIndex,
        /// ...which has this term.
        last_term: Term,
        /// The configuration that was in force there.
        membership: Membership,
        /// The state machine's bytes, or what names them.
        data: Bytes,
    },
    /// The snapshot's state is durable here (`accepted`), or could not be taken.
    SnapshotReply {
        /// Which.
        last_index: LogIndex,
        /// Whether it was taken.
        accepted: bool,
        /// As in `AppendAccepted`.
        suspect: u64,
    },
}
