//! Read-index: a leader answers a read after a quorum has confirmed that it still led *after* the
//! read was asked (Ongaro, 6.4). Reads share rounds of heartbeats; one round is under way at a time.
//!
//! No read is lost silently: before the first commit of its term a leader does not know what is
//! committed, so the read waits; when leadership ends, it is answered `ReadLost`.

use std::collections::VecDeque;

use super::message::MessageBody;
use super::mutants::Mutant;
use super::output::{Action, NotLeader, Output};
use super::raft::{Leader, Raft, State};
use crate::ids::{LogIndex, StoreId};
use crate::time::Instant;

/// A leader's reads.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads {
    /// The newest round that was begun. A heartbeat carries it, its reply gives it back.
    pub(super) round: u64,
    /// The newest round that a quorum has acknowledged.
    done: u64,
    /// Asked before the first commit of the term.
    early: Vec<u64>,
    /// (token, index), for the next round.
    queued: Vec<(u64, LogIndex)>,
    /// (round, token, index), rounds ascending.
    asked: VecDeque<(u64, u64, LogIndex)>,
}

impl Reads {
    /// Begin a round; heartbeats must be sent after this.
    pub(super) fn begin_round(&mut self) -> u64 {
        self.round += 1;
        let round = self.round;
        self.asked.extend(self.queued.drain(..).map(|(token, index)| (round, token, index)));
        round
    }

    /// Leadership is gone.
    pub(super) fn lose(&mut self, out: &mut Output) {
        let asked = self.asked.drain(..).map(|(_, token, _)| token);
        let queued = self.queued.drain(..).map(|(token, _)| token);
        for token in asked.chain(queued).chain(self.early.drain(..)) {
            out.push(Action::ReadLost { token });
        }
    }
}

impl Raft {
    /// Ask for a linearizable read. The answer is [`Action::ReadReady`] or [`Action::ReadLost`] with
    /// the same token. The owner bounds how many it has open.
    ///
    /// # Errors
    /// [`NotLeader`]: ask there.
    pub fn read_index(
        &mut self,
        now: Instant,
        token: u64,
        out: &mut Output,
    ) -> Result<(), NotLeader> {
        let committed_in_term =
            self.has_committed_in_term() || self.config.mutated(Mutant::ReadBeforeCommit);
        let not_leader = self.not_leader();
        let State::Leader(leader) = &mut self.state else { return Err(not_leader) };
        if self.poisoned.is_some() {
            return Err(NotLeader(None));
        }
        if self.config.mutated(Mutant::ReadUnconfirmed) && committed_in_term {
            out.push(Action::ReadReady { token, index: self.commit });
        } else if committed_in_term {
            leader.reads.queued.push((token, self.commit));
            self.start_round(now, out);
        } else {
            leader.reads.early.push(token);
        }
        self.flush(out);
        Ok(())
    }

    pub(super) fn has_committed_in_term(&self) -> bool {
        self.log.term_at(self.commit) == Some(self.term)
    }

    /// If reads wait and no round is under way, begin one.
    pub(super) fn start_round(&mut self, now: Instant, out: &mut Output) {
        let State::Leader(leader) = &mut self.state else { return };
        if !leader.reads.queued.is_empty() && leader.reads.asked.is_empty() {
            leader.reads.begin_round();
            self.broadcast_heartbeat(now, out);
            self.finish_rounds(now, out);
        }
    }

    /// The commit index rose: reads that waited for the first of the term have an index now.
    pub(super) fn start_early_reads(&mut self, now: Instant, out: &mut Output) {
        if !self.has_committed_in_term() {
            return;
        }
        let State::Leader(leader) = &mut self.state else { return };
        let Reads { early, queued, .. } = &mut leader.reads;
        queued.extend(early.drain(..).map(|token| (token, self.commit)));
        self.start_round(now, out);
    }

    /// Say that it leads. Reads that wait for a round which may have been lost get a newer one.
    pub(super) fn heartbeat(&mut self, now: Instant, out: &mut Output) {
        let State::Leader(leader) = &mut self.state else { return };
        if !leader.reads.queued.is_empty() {
            leader.reads.begin_round();
        }
        self.broadcast_heartbeat(now, out);
    }

    pub(super) fn broadcast_heartbeat(&mut self, now: Instant, out: &mut Output) {
        let State::Leader(leader) = &mut self.state else { return };
        leader.heartbeat_at = now + self.config.heartbeat;
        let State::Leader(leader) = &self.state else { return };
        let Leader { reads, peers, .. } = leader.as_ref();
        for (peer, progress) in peers {
            let uncapped = self.config.mutated(Mutant::HeartbeatCommitUncapped);
            let commit = if uncapped { self.commit } else { self.commit.min(progress.matched) };
            self.send(*peer, MessageBody::Heartbeat { commit, round: reads.round }, out);
        }
    }

    pub(super) fn on_heartbeat_reply(
        &mut self,
        now: Instant,
        from: StoreId,
        round: u64,
        suspect: u64,
        out: &mut Output,
    ) {
        let State::Leader(leader) = &mut self.state else { return };
        let progress = leader.peers.get_mut(&from).expect("who is heard is a peer");
        // A suspect replica may have helped to elect another leader and have forgotten it: its word
        // does not prove that nobody else leads.
        let is_word = suspect == 0 || self.config.mutated(Mutant::SuspectRoundCounts);
        if is_word && round <= leader.reads.round {
            progress.round = progress.round.max(round);
        }
        self.finish_rounds(now, out);
        self.finish_suspicions(now, out);
        if suspect != 0 {
            self.send_restore(from, out);
        }
        self.unstall(now, from, out);
    }

    /// Answer the reads of rounds that a quorum has acknowledged. Only acknowledgements of the very
    /// round, or a later one, count: an earlier one says nothing of the time after the read.
    fn finish_rounds(&mut self, now: Instant, out: &mut Output) {
        let State::Leader(leader) = &mut self.state else { return };
        let Leader { reads, peers, .. } = leader.as_mut();
        let own = reads.round;
        let round = |id| if id == self.config.id { own } else { peers[&id].round };
        reads.done = self.members.latest().reached(round);
        if self.config.mutated(Mutant::ReadPreviousRound) {
            reads.done += 1;
        }
        while reads.asked.front().is_some_and(|(round, ..)| *round <= reads.done) {
            let (_, token, index) = reads.asked.pop_front().expect("front() just gave it");
            out.push(Action::ReadReady { token, index });
        }
        if reads.asked.is_empty() && !reads.queued.is_empty() {
            self.start_round(now, out);
        }
    }
}
