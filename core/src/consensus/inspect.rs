//! Looking at a replica, and checking it.

use std::collections::BTreeSet;

use super::membership::Membership;
use super::mutants::Mutant;
use super::raft::{Raft, Role, State};
use crate::ids::{LogIndex, StoreId, Term};

impl Raft {
    /// The highest term seen.
    pub fn term(&self) -> Term {
        self.term
    }

    /// What the replica is doing.
    pub fn role(&self) -> Role {
        match self.state {
            State::Follower { .. } => Role::Follower,
            State::PreCandidate { .. } => Role::PreCandidate,
            State::Candidate { .. } => Role::Candidate,
            State::Leader(_) => Role::Leader,
        }
    }

    /// Who leads in this term, if known.
    pub fn leader(&self) -> Option<StoreId> {
        match self.state {
            State::Follower { leader, .. } => leader,
            State::PreCandidate { .. } | State::Candidate { .. } => None,
            State::Leader(_) => Some(self.config.id),
        }
    }

    /// Whom it voted for in this term.
    pub fn vote(&self) -> Option<StoreId> {
        self.vote
    }

    /// The commit index as known here. [`Action::Commit`](super::Action::Commit) may lag behind it until the entries are
    /// durable here too.
    pub fn commit(&self) -> LogIndex {
        self.commit
    }

    /// Bytes of log entries held in memory.
    pub fn entries_in_memory_bytes(&self) -> u64 {
        self.log.bytes_in_memory()
    }

    /// The end of the log, durable or not.
    pub fn last_index(&self) -> LogIndex {
        self.log.last_index()
    }

    /// The entry before the first one of the log.
    pub fn base_index(&self) -> LogIndex {
        self.log.base()
    }

    /// What the state machine is known to have applied: no more can be given up of the log.
    pub fn applied_index(&self) -> LogIndex {
        self.applied
    }

    /// The term of an entry; `None` outside the log.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.log.term_at(index)
    }

    /// The configuration in force here: that of the log's newest membership entry, committed or not.
    /// (See [`Raft::is_membership_committed`].)
    pub fn membership(&self) -> &Membership {
        self.members.latest()
    }

    /// Whether [`Raft::membership`] is known to be committed.
    pub fn is_membership_committed(&self) -> bool {
        self.members.latest_index() <= self.commit
    }

    /// The configuration in force at `index`; `None` if the log does not reach back so far.
    pub fn membership_at(&self, index: LogIndex) -> Option<&Membership> {
        self.members.at(index)
    }

    /// What a peer of this leader is known to hold durably, equal to the leader's log. `None` if
    /// this replica does not lead, or distrusts what the peer says.
    pub fn held_by(&self, peer: StoreId) -> Option<LogIndex> {
        let State::Leader(leader) = &self.state else { return None };
        let progress = leader.peers.get(&peer)?;
        (!progress.suspicion.is_open()).then_some(progress.matched)
    }

    /// Whether the replica distrusts its log.
    pub fn is_suspect(&self) -> bool {
        self.trust.life() != 0
    }

    /// One line for operators and traces.
    pub fn status(&self) -> String {
        let leader = self.leader().map_or_else(|| "none".to_owned(), |leader| leader.to_string());
        let suspect = if self.is_suspect() { " suspect" } else { "" };
        let abstains = if self.abstains { " abstains" } else { "" };
        let members = self.members.latest();
        let plain = members.is_known() && !members.is_joint() && members.learners().is_empty();
        let members = if plain { String::new() } else { format!(" members={members}") };
        let poisoned = self.poisoned.map_or(String::new(), |why| format!(" poisoned: {why}"));
        format!(
            "{} {:?} {} leader={leader} log={}..{} durable={} commit={} applied={}{members}{suspect}{abstains}{poisoned}",
            self.config.id,
            self.role(),
            self.term,
            self.log.base(),
            self.log.last_index(),
            self.durable,
            self.commit,
            self.applied,
        )
    }

    /// Check the replica's invariants.
    ///
    /// # Panics
    /// If one does not hold: that is a bug in Trine.
    pub fn check(&self) {
        self.log.check();
        let last = self.log.last_index();
        self.members.check(self.log.base(), last);
        assert!(self.batch.entries.is_empty(), "nothing is left to persist between calls");
        assert!(self.batch.then.is_empty(), "nothing is left to send between calls");
        assert!(self.durable <= last, "what is durable is in the log");
        assert!(self.commit <= last, "what is committed is in the log");
        assert!(self.commit >= self.log.base(), "what a snapshot covers is committed");
        assert!(self.commit_told <= self.commit, "only what is committed is told");
        assert!(self.applied <= self.commit_told, "only what was told is applied");
        assert!(self.verified <= last, "what is equal to the leader's log is in the log");
        assert!(self.term >= self.log.last_term(), "no entry is of a term to come");
        assert!(self.in_flight.iter().all(|p| p.upto <= last), "in flight means in the log");
        if !self.in_flight.iter().any(|persist| persist.upto == last) {
            assert_eq!(self.durable, last, "what is not durable is in flight");
        }
        if let State::Leader(leader) = &self.state {
            assert_eq!(self.vote, Some(self.config.id), "a leader voted for itself");
            assert!(!self.is_suspect(), "a suspect replica does not lead");
            assert!(
                !self.abstains || self.config.mutated(Mutant::AbstainerCampaigns),
                "a replica that abstains does not lead"
            );
            let members = self.members.latest().members();
            let peers: BTreeSet<_> = members.filter(|id| *id != self.config.id).collect();
            assert!(leader.peers.keys().eq(&peers), "a leader's peers are the members");
            leader.peers.values().for_each(|progress| progress.check(last));
        }
    }
}
