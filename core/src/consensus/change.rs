//! Changes of membership, on the leader's side. Whoever else gets the entry just goes by it.
//!
//! Voters change by one joint swap: the joint entry is in force when it is appended, and from then on
//! both majorities decide. When it is committed the leader, this one or a later one, appends the
//! entry that leaves the joint phase. When that is committed too, a leader that is not among the
//! voters any more hands over and steps down.

use super::log::entry_bytes;
use super::membership::{Change, ChangeError, Membership};
use super::message::{Entry, EntryKind};
use super::mutants::Mutant;
use super::output::Output;
use super::progress::Progress;
use super::raft::{Leader, Raft, State};
use crate::codec::Wire;
use crate::ids::{LogIndex, StoreId};
use crate::time::Instant;

impl Raft {
    /// Propose a change of membership. Returns the index of its entry; it is made when that is
    /// committed *in this term*, and a swap is complete when [`Raft::membership`] is not joint any
    /// more and committed.
    ///
    /// # Errors
    /// [`ChangeError`]; then nothing was appended.
    pub fn propose_change(
        &mut self,
        now: Instant,
        change: Change,
        out: &mut Output,
    ) -> Result<LogIndex, ChangeError> {
        let known_leader = self.leader();
        let State::Leader(leader) = &self.state else {
            return Err(ChangeError::NotLeader(known_leader));
        };
        if self.poisoned.is_some() {
            return Err(ChangeError::NotLeader(None));
        }
        // Before the first commit of its term a leader does not know what is committed: its log may
        // end with a change that is not (Ongaro, 4.1, and his correction of 2015).
        if leader.transfer.is_some()
            || !(self.has_committed_in_term()
                || self.config.mutated(Mutant::ChangeBeforeCommitInTerm))
            || !(self.is_membership_committed() || self.config.mutated(Mutant::ChangeWhilePending))
        {
            return Err(ChangeError::InProgress);
        }
        let mut next = self.members.latest().change(change)?;
        if let Change::Swap { add, .. } = change {
            let heard_at = leader.peers.get(&add).map(|progress| progress.heard_at);
            let is_heard = heard_at.is_some_and(|at| at + self.config.election > now);
            let caught_up = is_heard && self.caught_up(add);
            if !(caught_up || self.config.mutated(Mutant::SwapNotCaughtUp)) {
                return Err(ChangeError::NotCaughtUp(add));
            }
        }
        if self.config.mutated(Mutant::SwapNotJoint) {
            next = next.leave();
        }
        let left = next.is_joint().then(|| next.leave());
        let index = self.append_membership(now, next);
        if let Some(left) = left.filter(|_| self.config.mutated(Mutant::JointLeftEarly)) {
            self.append_membership(now, left);
        }
        self.broadcast_appends(now, out);
        self.flush(out);
        Ok(index)
    }

    /// Whether a peer of this leader has caught up with its log: not long ago, in no more than an
    /// election timeout, it came to hold what was the whole log at the beginning of that time. It
    /// trusts its log, too, and holds the newest configuration: so whoever gets a vote knows of one
    /// (see `would_vote`). False if this replica does not lead.
    pub fn caught_up(&self, peer: StoreId) -> bool {
        let State::Leader(leader) = &self.state else { return false };
        leader.peers.get(&peer).is_some_and(|progress| {
            progress.catching_up.done
                && !progress.suspicion.is_open()
                && !progress.is_suspect
                && progress.matched >= self.members.latest_index()
        })
    }

    /// The commit index rose. If the newest configuration is committed with it: leave the joint
    /// phase, or hand over if this leader is not a voter any more.
    pub(super) fn settle_membership(&mut self, now: Instant, out: &mut Output) {
        if !self.is_membership_committed() {
            return;
        }
        let State::Leader(leader) = &self.state else { return };
        let is_own = self.log.term_at(self.members.latest_index()) == Some(self.term);
        if self.members.latest().is_joint() {
            if !is_own && self.config.mutated(Mutant::JointNeverLeft) {
                return;
            }
            let next = self.members.latest().leave();
            self.append_membership(now, next);
            self.broadcast_appends(now, out);
        } else if self.is_retired() && leader.transfer.is_none() {
            // If the successor does not take over, or there is none, `lead_on` ends it.
            let voters = self.members.latest().voters().iter();
            let matched = |id: &StoreId| leader.peers.get(id).map(Progress::counted);
            if let Some(to) = voters.copied().max_by_key(matched) {
                self.begin_transfer(now, to, out);
            }
        }
    }

    /// Whether this leader leads a range that it has no vote in, and everything it had to do for that
    /// is done.
    pub(super) fn is_retired(&self) -> bool {
        let members = self.members.latest();
        !members.is_voter(self.config.id)
            && self.is_membership_committed()
            && !self.config.mutated(Mutant::RemovedLeads)
    }

    fn append_membership(&mut self, now: Instant, membership: Membership) -> LogIndex {
        let index = self.log.last_index().next();
        let payload = membership.to_bytes();
        let entry = Entry { index, term: self.term, kind: EntryKind::Membership, payload };
        let State::Leader(leader) = &mut self.state else { unreachable!("a leader appends") };
        let Leader { peers, uncommitted_bytes, .. } = leader.as_mut();
        *uncommitted_bytes += entry_bytes(&entry);
        peers.retain(|peer, _| membership.members().any(|member| member == *peer));
        for peer in membership.members().filter(|id| *id != self.config.id) {
            peers.entry(peer).or_insert_with(|| Progress::new(index, now));
        }
        self.append(vec![entry]);
        self.members.push(index, membership);
        index
    }
}
