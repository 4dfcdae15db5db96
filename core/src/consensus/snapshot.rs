//! When the log no longer reaches back to what a peer needs: the state machine's state instead.
//!
//! The leader's owner makes the snapshot, the follower's owner installs it. Whatever is lost on the
//! way is asked for again: while a peer has no snapshot, `NeedSnapshot` is repeated.

use bytes::Bytes;

use super::membership::Membership;
use super::message::{MessageBody, SNAPSHOT_BYTES_MAX};
use super::mutants::Mutant;
use super::output::{Action, Output};
use super::progress::Flow;
use super::raft::{Installing, Raft, State};
use crate::ids::{LogIndex, StoreId, Term};
use crate::storage::Durable;
use crate::time::Instant;

impl Raft {
    /// The answer to [`Action::NeedSnapshot`]: the state after entry `last_index` (of `last_term`).
    /// It goes with the configuration that was in force there. If that is not known here (the index
    /// is before the log, or before the first configuration that a former learner heard of), nothing
    /// is sent: a newer state will be asked for.
    ///
    /// # Panics
    /// If `data` is larger than [`SNAPSHOT_BYTES_MAX`].
    pub fn snapshot(
        &mut self,
        now: Instant,
        peer: StoreId,
        last_index: LogIndex,
        last_term: Term,
        data: Bytes,
        out: &mut Output,
    ) {
        assert!(data.len() <= SNAPSHOT_BYTES_MAX, "a snapshot fits a message");
        if let State::Leader(leader) = &mut self.state
            && let Some(progress) = leader.peers.get_mut(&peer)
            && let Flow::Snapshot { since, index } = &mut progress.flow
        {
            let newest = self.config.mutated(Mutant::SnapshotOfNewest);
            let at = if newest { self.log.last_index() } else { last_index };
            let membership = self.members.at(at).filter(|known| known.is_known()).cloned();
            *since = now;
            if let Some(membership) = membership {
                *index = Some(last_index);
                let body = MessageBody::Snapshot { last_index, last_term, membership, data };
                self.send(peer, body, out);
            }
        }
        self.flush(out);
    }

    /// The log was cut at the front: entries up to `through`, which the state machine has applied
    /// durably, are gone.
    ///
    /// # Panics
    /// If they were not applied.
    pub fn compacted(&mut self, through: LogIndex) {
        assert!(through <= self.applied, "only what is applied is compacted");
        if through > self.log.base() {
            self.log.compact(through);
            self.members.compact(through);
        }
    }

    /// The owner has a snapshot that no leader sent: the state of another replica after an entry that
    /// it has applied, which this log does not reach. It takes the place of the log as if the leader
    /// had sent it: what it covers is committed, whoever gives it. The owner goes on as after
    /// [`Action::InstallSnapshot`]. `false`, and nothing happens, if the log reaches it, or another
    /// one is being installed.
    pub fn adopt_snapshot(
        &mut self,
        last_index: LogIndex,
        last_term: Term,
        membership: Membership,
    ) -> bool {
        let is_new = last_index > self.log.last_index() && last_index > self.commit;
        if !is_new || self.installing.is_some() || self.poisoned.is_some() {
            return false;
        }
        self.installing = Some(Installing { last_index, last_term, membership });
        true
    }

    /// The snapshot of [`Action::InstallSnapshot`] is durable, in place of log and state machine;
    /// the log begins after it.
    ///
    /// # Panics
    /// If no such installation was asked for.
    pub fn snapshot_installed(&mut self, _now: Instant, _durable: Durable, out: &mut Output) {
        let Installing { last_index, last_term, mut membership } =
            self.installing.take().expect("an installation under way");
        if self.config.mutated(Mutant::SnapshotKeepsMembership) {
            membership = self.members.latest().clone();
        }
        assert!(self.commit < last_index, "nothing was committed while it was installed");
        self.reset_log(last_index, last_term, membership);
        self.commit = last_index;
        self.commit_told = last_index;
        self.applied = last_index;
        // It came from a leader, perhaps of an earlier term than this; what it covers is committed,
        // so every later leader has it too.
        self.verified = last_index;
        if let Some(leader) = self.leader() {
            let suspect = self.trust.life();
            let body = MessageBody::SnapshotReply { last_index, accepted: true, suspect };
            self.send_durable(leader, body);
        }
        self.regain_trust(0, out);
        self.flush(out);
    }

    /// The snapshot could not be taken; the leader will send another.
    pub fn snapshot_failed(&mut self, _now: Instant, out: &mut Output) {
        if let Some(Installing { last_index, .. }) = self.installing.take()
            && let Some(leader) = self.leader()
        {
            let suspect = self.trust.life();
            let body = MessageBody::SnapshotReply { last_index, accepted: false, suspect };
            self.send(leader, body, out);
        }
        self.flush(out);
    }

    pub(super) fn need_snapshot(&mut self, now: Instant, peer: StoreId, out: &mut Output) {
        let State::Leader(leader) = &mut self.state else { return };
        let progress = leader.peers.get_mut(&peer).expect("snapshots are for peers");
        progress.flow = Flow::Snapshot { since: now, index: None };
        progress.fetching = None;
        out.push(Action::NeedSnapshot { peer });
    }

    /// The peer lives, and has not said that it has the snapshot for an election timeout. If the owner
    /// could not even make one, find out whether the peer still needs it: it may hold more of the log
    /// than was known, or have got the state from somebody else.
    pub(super) fn retry_snapshot(&mut self, now: Instant, peer: StoreId, out: &mut Output) {
        let last = self.log.last_index();
        let State::Leader(leader) = &mut self.state else { return };
        let Some(progress) = leader.peers.get_mut(&peer) else { return };
        let Flow::Snapshot { since, index } = progress.flow else { return };
        if since + self.config.election > now {
            return;
        }
        if index.is_some() {
            self.need_snapshot(now, peer, out);
        } else {
            progress.probe_from(last.next(), now);
            self.send_appends(now, peer, true, out);
        }
    }

    pub(super) fn on_snapshot(
        &mut self,
        from: StoreId,
        snapshot: Installing,
        data: Bytes,
        out: &mut Output,
    ) {
        if self.installing.is_some() {
            return;
        }
        let Installing { last_index, last_term, .. } = snapshot;
        if self.log.term_at(last_index) == Some(last_term) || last_index <= self.commit {
            // All of it is in the log already: it says no more than that this much is committed.
            let known = last_index.max(self.commit).min(self.log.last_index());
            self.verified = self.verified.max(known);
            self.commit = known;
            return self.accept(from, known);
        }
        let membership = snapshot.membership.clone();
        self.installing = Some(snapshot);
        out.push(Action::InstallSnapshot { last_index, last_term, membership, data });
    }

    pub(super) fn on_snapshot_reply(
        &mut self,
        now: Instant,
        from: StoreId,
        last_index: LogIndex,
        accepted: bool,
        out: &mut Output,
    ) {
        let State::Leader(leader) = &mut self.state else { return };
        let progress = leader.peers.get_mut(&from).expect("who is heard is a peer");
        if accepted {
            self.on_accepted(now, from, last_index, out);
        } else if matches!(progress.flow, Flow::Snapshot { index: Some(index), .. } if index == last_index)
        {
            self.need_snapshot(now, from, out);
        }
    }
}
