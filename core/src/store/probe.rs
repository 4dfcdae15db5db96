//! What checkers see of a store. Plain values: oracles share no code with what they check.

use std::collections::BTreeMap;

use super::serving::Serving;
use crate::consensus::{Membership, Role};
use crate::disk::Room;
use crate::hash::StateHash;
use crate::ids::{Incarnation, LogIndex, RangeId, StoreId, Term};
use crate::memory::MemoryAccount;
use crate::storage::Merged;

/// A store at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreProbe {
    /// Which life.
    pub incarnation: Incarnation,
    /// Its replicas.
    pub replicas: BTreeMap<RangeId, ReplicaProbe>,
    /// What merges of runs have done in this life.
    pub merged: Merged,
    /// Whether a merge is due or under way.
    pub merging: bool,
    /// For each table how many runs it has, and how many it may have when no merge is due.
    pub runs: Vec<(usize, usize)>,
    /// What it holds in memory, as accounted by the store itself.
    pub memory: MemoryAccount,
    /// For what its disk has room.
    pub room: Room,
    /// Positions at which its journal begins and ends.
    pub journal: (u64, u64),
}

/// A replica at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaProbe {
    /// Its term.
    pub term: Term,
    /// Its role.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<StoreId>,
    /// The end of its log.
    pub last_index: LogIndex,
    /// What it knows to be committed.
    pub commit: LogIndex,
    /// What its state machine has applied; `None` while the state is being loaded.
    pub applied: Option<(LogIndex, StateHash)>,
    /// Whether it distrusts its log.
    pub suspect: bool,
    /// The configuration that it goes by.
    pub membership: Membership,
}

impl Serving {
    pub(super) fn probe(&self) -> StoreProbe {
        let (merged, merging) = self.host.storage.merged();
        StoreProbe {
            merged,
            merging,
            runs: self.host.storage.runs(),
            incarnation: self.host.incarnation,
            replicas: self.replicas.iter().map(|(id, replica)| (*id, replica.probe())).collect(),
            memory: self.memory(),
            room: self.host.room(),
            journal: self.host.storage.journal_span(),
        }
    }
}
