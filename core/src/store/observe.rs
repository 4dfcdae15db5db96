//! What replicas did in a step, in the order in which they did it: plain facts for an onlooker that
//! judges them with rules of its own (the simulator's ghost).
//!
//! Facts are kept only under the feature `invariants`, and only until the next step; without it,
//! noting one costs nothing.

use bytes::Bytes;

use crate::consensus::{Entry, HardState, Message, MessageBody};
use crate::ids::{ChunkId, LogIndex, RangeId, SessionId, Term};
use crate::range::command::Outcome;

/// Something that a replica did.
#[derive(Clone, Debug)]
pub enum Observation {
    /// It begins with what its disk gave back.
    Recovered {
        /// The last hard state.
        hard_state: HardState,
        /// The entry before the first one of the log.
        base: LogIndex,
        /// The first index of each run of entries of one term.
        terms: Vec<(LogIndex, Term)>,
        /// The end of the log.
        last_index: LogIndex,
        /// Whether the log may lack what was durable.
        suspect: bool,
    },
    /// It takes part, and goes by this.
    Begins {
        /// Its term and vote.
        hard_state: HardState,
    },
    /// Its log is trusted again.
    Trusted,
    /// It asks for this to be made durable.
    Wrote {
        /// Numbers these facts within a life: 1, 2, 3, …
        seq: u64,
        /// If it is to be written.
        hard_state: Option<HardState>,
        /// To be appended; one at an index that exists replaces the log from there on.
        entries: Vec<Entry>,
    },
    /// It takes the write of this number for durable, and all before it.
    Durable {
        /// The write.
        seq: u64,
    },
    /// It leads.
    Leads {
        /// In this term.
        term: Term,
    },
    /// It knows entries to be committed.
    Commits {
        /// The term in which it found out.
        term: Term,
        /// Up to here.
        index: LogIndex,
    },
    /// It hands out a message that must not leave before something is durable: see
    /// [`needs_durable_state`].
    Says(Message),
    /// It takes a read.
    ReadAsked {
        /// What it calls the read.
        token: u64,
    },
    /// The read may be answered from the state at an index.
    ReadReady {
        /// The read.
        token: u64,
        /// The index.
        index: LogIndex,
    },
    /// It has applied an entry.
    Applied {
        /// Which.
        index: LogIndex,
        /// Its [`Batch`](crate::range::command::Batch), encoded; none of an entry without commands.
        batch: Option<Bytes>,
        /// What came of each of the commands.
        outcomes: Vec<Outcome>,
    },
    /// The store frees a chunk.
    Freed {
        /// Which.
        chunk: ChunkId,
        /// Sessions that the store takes for live: it would still give them the chunk.
        live: Vec<SessionId>,
    },
    /// The store has a copy of a chunk, durably.
    Kept {
        /// Which.
        chunk: ChunkId,
    },
    /// The store frees its copy of a chunk that stands: it is other stores' to keep.
    FreedCopy {
        /// Which.
        chunk: ChunkId,
    },
    /// It begins to take a state over.
    Takes {
        /// All of it, not only what is newer than its own.
        full: bool,
    },
    /// It asks for the state after an entry to be put into place, durably.
    Installing {
        /// The entry.
        index: LogIndex,
        /// The configuration there, encoded.
        membership: Bytes,
        /// The log before and behind is void; else only the table is replaced.
        replaces_log: bool,
    },
    /// It takes that for durable, in place of log and table.
    Installed {
        /// The entry.
        index: LogIndex,
    },
    /// The read is given up.
    ReadLost {
        /// The read.
        token: u64,
    },
}

/// Whether a message promises something that its sender must not forget: a vote, or that it holds
/// entries.
pub fn needs_durable_state(message: &Message) -> bool {
    matches!(
        message.body,
        MessageBody::Vote { .. }
            | MessageBody::VoteReply { granted: true }
            | MessageBody::AppendAccepted { .. }
            | MessageBody::SnapshotReply { accepted: true, .. }
    )
}

/// Keeps the facts of one step.
#[derive(Debug, Default)]
pub(super) struct Observer {
    #[cfg(feature = "invariants")]
    seen: Vec<(RangeId, Observation)>,
}

impl Observer {
    /// Note what `fact` says, if anybody may look.
    #[cfg(feature = "invariants")]
    pub(super) fn note(&mut self, range: RangeId, fact: impl FnOnce() -> Observation) {
        self.seen.push((range, fact()));
    }

    /// Note what `fact` says, if anybody may look.
    #[cfg(not(feature = "invariants"))]
    #[allow(clippy::unused_self, reason = "with the feature it keeps something")]
    pub(super) fn note(&mut self, _: RangeId, _: impl FnOnce() -> Observation) {}

    /// A new step: what nobody asked for is forgotten.
    pub(super) fn clear(&mut self) {
        #[cfg(feature = "invariants")]
        self.seen.clear();
    }

    /// All facts of the last step, in order.
    #[cfg(feature = "invariants")]
    pub(super) fn drain(&mut self) -> Vec<(RangeId, Observation)> {
        core::mem::take(&mut self.seen)
    }
}
