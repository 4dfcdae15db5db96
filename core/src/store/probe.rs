//! What checkers see of a store. Plain values: oracles share no code with what they check.

use super::serving::Serving;
use crate::consensus::{Membership, Role};
use crate::disk::Room;
use crate::hash::StateHash;
use crate::ids::{Incarnation, LogIndex, RangeId, StoreId, Term};
use crate::storage::Merged;

/// A store that serves, as it is now.
#[derive(Clone, Copy, Debug)]
pub struct StoreProbe<'a>(pub(super) &'a Serving);

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

impl StoreProbe<'_> {
    /// Which life.
    pub fn incarnation(&self) -> Incarnation {
        self.0.host.incarnation
    }

    /// Its replicas.
    pub fn replicas(&self) -> impl Iterator<Item = (RangeId, ReplicaProbe)> + '_ {
        self.0.replicas.iter().map(|(range, replica)| (*range, replica.probe()))
    }

    /// Its replica of a range.
    pub fn replica(&self, range: RangeId) -> Option<ReplicaProbe> {
        self.0.replicas.get(&range).map(|replica| replica.probe())
    }

    /// What merges of runs have done in this life, and whether a merge is due or under way.
    pub fn merged(&self) -> (Merged, bool) {
        self.0.host.storage.merged()
    }

    /// For each table how many runs it has, and how many it may have when no merge is due.
    pub fn runs(&self) -> Vec<(usize, usize)> {
        self.0.host.storage.runs()
    }

    /// Which life of a peer it remembers, durably.
    pub fn remembers(&self, peer: StoreId) -> Option<(Incarnation, u64)> {
        let host = &self.0.host;
        let mark = host.peers.written(peer).filter(|_| host.storage.is_superblock_durable())?;
        Some((mark.incarnation, mark.nonce))
    }

    /// Which life of it this is, for its peers to remember.
    pub fn life(&self) -> (Incarnation, u64) {
        self.0.host.peers.own_life()
    }

    /// For what its disk has room.
    pub fn room(&self) -> Room {
        self.0.host.room()
    }

    /// Positions at which its journal begins and ends.
    pub fn journal(&self) -> (u64, u64) {
        self.0.host.storage.journal_span()
    }

    /// What stands before this position in the journal may be written over now.
    pub fn given_up(&self) -> u64 {
        self.0.host.storage.journal_given_up()
    }

    /// The version of what it knows of map and sessions.
    pub fn directory(&self) -> LogIndex {
        self.0.host.directory.version()
    }
}
