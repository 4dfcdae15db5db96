//! What a replica is started with.

use super::membership::Membership;
use super::mutants::{Mutant, Mutants};
use crate::ids::{LogIndex, StoreId, Term};
use crate::time::Duration;

/// How a replica behaves. The same on all replicas of a range, but for `id` and `seed`.
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// This replica.
    pub id: StoreId,
    /// How often a leader says that it leads. See also [`Raft::set_timing`](super::Raft::set_timing).
    pub heartbeat: Duration,
    /// The shortest time without a leader before a campaign, and the longest without a quorum
    /// before a leader steps down. Several times `heartbeat`.
    pub election: Duration,
    /// Bytes of entries in one append; a single larger entry goes alone.
    pub append_bytes_max: u64,
    /// Appends to one peer that are not acknowledged yet.
    pub appends_in_flight_max: usize,
    /// A peer that lacks more applied entries than this is offered a snapshot instead.
    pub snapshot_lag: u64,
    /// Bytes of entries kept in memory once they are durable and committed.
    pub entry_cache_bytes: u64,
    /// Bytes of this leader's proposals that are not committed yet. A single larger one is taken
    /// when there is no other.
    pub proposals_uncommitted_bytes_max: u64,
    /// For the randomised timeouts.
    pub seed: u64,
    /// Mistakes to make, in tests of tests.
    pub mutants: Mutants,
}

impl RaftConfig {
    /// Whether this mistake is to be made: see [`Mutants`].
    pub(super) fn mutated(&self, mutant: Mutant) -> bool {
        self.mutants.has(mutant)
    }
}

impl RaftConfig {
    /// After this long, what was not answered is taken for lost: an election timeout is several
    /// round trips, a heartbeat's interval may be less than one.
    pub(super) fn retry(&self) -> Duration {
        self.heartbeat.max(self.election / 4)
    }
}

/// What a replica must not forget beside its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The highest term that it has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<StoreId>,
}

/// What recovery found in the journal. All of it is durable.
#[derive(Clone, Debug, Default)]
pub struct RecoveredLog {
    /// The last one that was persisted.
    pub hard_state: HardState,
    /// The log begins after this entry, which a snapshot covers: 0 for a whole log.
    pub base_index: LogIndex,
    /// The term of that entry: 0 for a whole log.
    pub base_term: Term,
    /// The terms of the entries, run-length: the first index of each term, ascending.
    pub terms: Vec<(LogIndex, Term)>,
    /// The configurations: first the one in force at `base_index` (for a whole log, the one that
    /// the range began with), then those of the membership entries, ascending. Without the first,
    /// the replica does not know who votes until its log or a snapshot says so.
    pub memberships: Vec<(LogIndex, Membership)>,
    /// The last entry; `base_index` if there is none.
    pub last_index: LogIndex,
    /// What the state machine has applied durably: a lower bound of what is committed. If the log
    /// is suspect it may be above `last_index`, and is not used: commits are told again from
    /// `base_index` on, and the owner skips what it has applied.
    pub committed: LogIndex,
    /// 0 if the log is all that this replica ever acknowledged. Else damage has cut it, or may have
    /// cut votes: a number that is higher in each life of the replica (its incarnation serves).
    pub suspect: u64,
}
