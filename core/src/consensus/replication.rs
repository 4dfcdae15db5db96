//! Proposals, appends and commit, on both sides.

use bytes::Bytes;

use super::log::{Cached, entry_bytes};
use super::membership::Membership;
use super::message::{
    ENTRIES_PER_APPEND_MAX, ENTRY_PAYLOAD_BYTES_MAX, Entry, EntryKind, MessageBody,
};
use super::mutants::Mutant;
use super::output::{Action, Output, ProposeError};
use super::progress::Flow;
use super::raft::{Leader, Raft, State, Transfer};
use crate::codec::{DecodeError, Wire};
use crate::ids::{LogIndex, StoreId, Term};
use crate::time::Instant;

impl Raft {
    /// Append commands to the log. Returns the index of the first; they are committed when
    /// [`Action::Commit`] reaches them *in this term*: if leadership changes before, they may be
    /// replaced.
    ///
    /// # Errors
    /// [`ProposeError`]; then nothing was appended.
    ///
    /// # Panics
    /// If there are none, or one is larger than [`ENTRY_PAYLOAD_BYTES_MAX`].
    pub fn propose(
        &mut self,
        now: Instant,
        payloads: Vec<Bytes>,
        out: &mut Output,
    ) -> Result<LogIndex, ProposeError> {
        assert!(!payloads.is_empty(), "a proposal says something");
        assert!(payloads.iter().all(|p| p.len() <= ENTRY_PAYLOAD_BYTES_MAX), "a payload fits");
        let (first, term) = (self.log.last_index().next(), self.term);
        let known_leader = self.leader();
        let State::Leader(leader) = &mut self.state else {
            return Err(ProposeError::NotLeader(known_leader));
        };
        if self.poisoned.is_some() {
            return Err(ProposeError::NotLeader(None));
        }
        let entries: Vec<Entry> = payloads
            .into_iter()
            .zip(first.0..)
            .map(|(payload, index)| Entry {
                index: LogIndex(index),
                term,
                kind: EntryKind::Command,
                payload,
            })
            .collect();
        let uncommitted = leader.uncommitted_bytes + entries.iter().map(entry_bytes).sum::<u64>();
        let fits = leader.uncommitted_bytes == 0
            || uncommitted <= self.config.proposals_uncommitted_bytes_max;
        if leader.transfer.is_some() || !fits {
            return Err(ProposeError::Overloaded);
        }
        leader.uncommitted_bytes = uncommitted;
        self.append(entries);
        self.broadcast_appends(now, out);
        self.flush(out);
        Ok(first)
    }

    /// The answer to [`Action::Fetch`]: entries from `from` on, without a gap; none if the journal
    /// could not give them now.
    pub fn fetched(
        &mut self,
        now: Instant,
        peer: StoreId,
        from: LogIndex,
        mut entries: Vec<Entry>,
        out: &mut Output,
    ) {
        entries.truncate(ENTRIES_PER_APPEND_MAX);
        let prev = from.previous();
        let Some(prev_term) = self.log.term_at(prev) else { return };
        let State::Leader(leader) = &mut self.state else { return };
        let Some(progress) = leader.peers.get_mut(&peer) else { return };
        if progress.fetching.is_none() || progress.next != from {
            return;
        }
        // The log may have changed since the entries were read.
        let current = entries.iter().zip(from.0..).all(|(entry, index)| {
            entry.index.0 == index && self.log.term_at(entry.index) == Some(entry.term)
        });
        let current = current || self.config.mutated(Mutant::FetchedUnchecked);
        if let Some(last) = entries.last().filter(|_| current).map(|entry| entry.index) {
            progress.sent(last, self.commit, now);
            let commit = self.commit;
            let body = MessageBody::Append { prev_index: prev, prev_term, entries, commit };
            self.send(peer, body, out);
            self.send_appends(now, peer, false, out);
        }
        self.flush(out);
    }

    /// Hand leadership over: proposals are refused until it is done or an election timeout is over.
    /// Does nothing if this replica does not lead, or `to` cannot: it must vote, and not be about to
    /// lose its vote.
    pub fn transfer(&mut self, now: Instant, to: StoreId, out: &mut Output) {
        self.begin_transfer(now, to, out);
        self.flush(out);
    }

    /// As above, within a call.
    pub(super) fn begin_transfer(&mut self, now: Instant, to: StoreId, out: &mut Output) {
        let stays = self.members.latest().voters().contains(&to)
            || self.config.mutated(Mutant::TransferToAnyone);
        if let State::Leader(leader) = &mut self.state
            && stays
            && leader.peers.get(&to).is_some_and(|progress| !progress.suspicion.is_open())
        {
            leader.transfer = Some(Transfer { to, until: now + self.config.election });
            self.send_appends(now, to, true, out);
            self.finish_transfer(out);
        }
    }

    /// A leader's deadline has come.
    pub(super) fn lead_on(&mut self, now: Instant, out: &mut Output) {
        let State::Leader(leader) = &mut self.state else { return };
        leader.transfer.take_if(|transfer| transfer.until <= now);
        if leader.transfer.is_none() && self.is_retired() {
            return self.become_follower(now, self.term, None, out);
        }
        let State::Leader(leader) = &self.state else { return };
        let Leader { peers, heartbeat_at, .. } = leader.as_ref();
        let heard_at = |id| if id == self.config.id { now } else { peers[&id].heard_at };
        let is_heard = self.members.latest().reached(heard_at) + self.config.election > now;
        if !(is_heard || self.config.mutated(Mutant::NoCheckQuorum)) {
            // Check-quorum: others may have a leader that this one cannot hear.
            self.become_follower(now, self.term, None, out);
        } else if *heartbeat_at <= now {
            self.heartbeat(now, out);
        }
    }

    pub(super) fn broadcast_appends(&mut self, now: Instant, out: &mut Output) {
        let State::Leader(leader) = &self.state else { return };
        let peers: Vec<StoreId> = leader.peers.keys().copied().collect();
        for peer in peers {
            self.send_appends(now, peer, false, out);
        }
    }

    /// Send what the peer lacks, as far as its flow allows; if `even_empty`, at least a question.
    pub(super) fn send_appends(
        &mut self,
        now: Instant,
        peer: StoreId,
        even_empty: bool,
        out: &mut Output,
    ) {
        let mut even_empty = even_empty;
        while self.send_append(now, peer, even_empty, out) {
            even_empty = false;
        }
    }

    /// One append. Returns whether another may follow.
    fn send_append(
        &mut self,
        now: Instant,
        peer: StoreId,
        even_empty: bool,
        out: &mut Output,
    ) -> bool {
        let State::Leader(leader) = &mut self.state else { return false };
        let Some(progress) = leader.peers.get_mut(&peer) else { return false };
        let last = self.log.last_index();
        let next = progress.next;
        let may_send =
            progress.may_send(now, self.config.retry(), self.config.appends_in_flight_max);
        // With the pipe full, an empty append shows whether what is in flight was lost.
        let ask = even_empty && matches!(progress.flow, Flow::Replicate { .. });
        if !(may_send || ask) || (next > last && !even_empty) {
            return false;
        }
        let lag = self.applied.0.saturating_sub(next.previous().0);
        let prev_term = self.log.term_at(next.previous());
        let Some(prev_term) = prev_term.filter(|_| lag <= self.config.snapshot_lag || !may_send)
        else {
            self.need_snapshot(now, peer, out);
            return false;
        };
        let entries = if next > last || !may_send {
            Vec::new()
        } else {
            match self.log.entries(next, last, self.config.append_bytes_max) {
                Cached::Entries(entries) => entries,
                Cached::InJournal => {
                    progress.fetching = Some(now);
                    let bytes_max = self.config.append_bytes_max;
                    out.push(Action::Fetch { peer, from: next, bytes_max });
                    return false;
                }
            }
        };
        let prev_index = next.previous();
        let sent_last = entries.last().map_or(prev_index, |entry| entry.index);
        progress.sent(sent_last, self.commit, now);
        let commit = self.commit;
        self.send(peer, MessageBody::Append { prev_index, prev_term, entries, commit }, out);
        sent_last > prev_index
    }

    /// The leader's append.
    pub(super) fn on_append(
        &mut self,
        from: StoreId,
        (prev_index, prev_term): (LogIndex, Term),
        mut entries: Vec<Entry>,
        commit: LogIndex,
        out: &mut Output,
    ) {
        if self.installing.is_some() && !self.config.mutated(Mutant::AppendWhileInstalling) {
            return;
        }
        if prev_index < self.log.base() {
            // What is compacted here is committed, so the leader has it too.
            self.verified = self.verified.max(self.commit);
            return self.accept(from, self.commit);
        }
        let by_index = self.config.mutated(Mutant::MatchingByIndexOnly);
        if self.log.term_at(prev_index).is_none_or(|term| term != prev_term && !by_index) {
            let hint_index = self.log.newest_not_above(prev_index, prev_term);
            let hint_term = self.log.term_at(hint_index).expect("an index within the log");
            let suspect = self.trust.life();
            let refused = prev_index;
            let body = MessageBody::AppendRejected { refused, hint_index, hint_term, suspect };
            return self.send(from, body, out);
        }
        let matched = entries.last().map_or(prev_index, |entry| entry.index);
        let is_known = |entry: &&Entry| {
            if self.config.mutated(Mutant::AppendAlwaysCuts) {
                entry.index <= self.commit
            } else if self.config.mutated(Mutant::ConflictKept) {
                entry.index <= self.log.last_index()
            } else {
                self.log.term_at(entry.index) == Some(entry.term)
            }
        };
        let known = entries.iter().take_while(is_known).count();
        let new = entries.split_off(known);
        let Ok(memberships) = memberships_of(&new) else {
            return self.poison("a membership entry cannot be read", out);
        };
        if let Some(first) = new.first().map(|entry| entry.index) {
            if first <= self.commit {
                return self.poison("the leader's log contradicts a committed entry", out);
            }
            if first <= self.log.last_index() {
                self.truncate(first);
            }
            self.append(new);
            for (index, membership) in memberships {
                self.members.push(index, membership);
            }
        }
        self.verified = self.verified.max(matched);
        self.learn_commit(commit);
        self.regain_trust(0, out);
        let whole = self.config.mutated(Mutant::AcceptWholeLog);
        self.accept(from, if whole { self.log.last_index() } else { matched });
    }

    /// Acknowledge, once it is durable, that the log equals the leader's up to `matched`.
    pub(super) fn accept(&mut self, to: StoreId, matched: LogIndex) {
        let suspect = self.trust.life();
        self.send_durable(to, MessageBody::AppendAccepted { matched, suspect });
    }

    /// The leader says that the log up to `commit` is committed: here, as far as it is known to be
    /// the leader's. (The leader may know an earlier life of this log.)
    pub(super) fn learn_commit(&mut self, commit: LogIndex) {
        let unverified = self.config.mutated(Mutant::CommitUnverified);
        let known = if unverified { self.log.last_index() } else { self.verified };
        self.commit = self.commit.max(commit.min(known));
    }

    /// As above, by a heartbeat: the leader names no more than this replica has acknowledged to it,
    /// durably, in this term. A log that was never cut still holds that after a restart, of which
    /// the leader need not know; without this, a restarted follower of an idle leader that thinks
    /// it is done with it would never learn what is committed.
    pub(super) fn learn_commit_told(&mut self, commit: LogIndex) {
        if self.trust.life() == 0 || self.config.mutated(Mutant::SuspectCommitUncompared) {
            self.commit = self.commit.max(commit.min(self.log.last_index()));
        } else {
            self.learn_commit(commit);
        }
    }

    pub(super) fn on_accepted(
        &mut self,
        now: Instant,
        from: StoreId,
        matched: LogIndex,
        out: &mut Output,
    ) {
        let State::Leader(leader) = &mut self.state else { return };
        let progress = leader.peers.get_mut(&from).expect("who is heard is a peer");
        if matched > self.log.last_index() {
            return;
        }
        let (base, last) = (self.log.base(), self.log.last_index());
        if matches!(progress.flow, Flow::Snapshot { .. }) && matched >= base {
            progress.probe(base, last, now);
        }
        progress.accepted(matched, now);
        progress.measure_catching_up(self.log.last_index(), now, self.config.election);
        self.advance_commit(now, out);
        self.send_appends(now, from, false, out);
        self.tell_commit(now, out);
        self.finish_transfer(out);
    }

    pub(super) fn on_rejected(
        &mut self,
        now: Instant,
        from: StoreId,
        refused: LogIndex,
        (hint_index, hint_term): (LogIndex, Term),
        suspect: u64,
        out: &mut Output,
    ) {
        let hint = self.log.newest_not_above(hint_index, hint_term);
        let State::Leader(leader) = &mut self.state else { return };
        let progress = leader.peers.get_mut(&from).expect("who is heard is a peer");
        if suspect != 0 {
            // What an earlier life acknowledged may have been counted; this life says otherwise.
            progress.matched = progress.matched.min(hint);
        }
        let is_news = match progress.flow {
            Flow::Probe { .. } => refused > progress.matched && progress.next.previous() == refused,
            Flow::Replicate { .. } => refused > progress.matched && refused < progress.next,
            Flow::Snapshot { .. } => false,
        };
        if is_news {
            progress.probe_from(hint.min(refused.previous()).next(), now);
            self.send_appends(now, from, true, out);
        }
    }

    /// A peer answers heartbeats but has not moved for a while: find out what was lost.
    pub(super) fn unstall(&mut self, now: Instant, peer: StoreId, out: &mut Output) {
        self.retry_snapshot(now, peer, out);
        let State::Leader(leader) = &mut self.state else { return };
        let Some(progress) = leader.peers.get_mut(&peer) else { return };
        progress.measure_catching_up(self.log.last_index(), now, self.config.election);
        let lags = progress.matched < self.log.last_index();
        if lags && progress.moved_at + self.config.retry() <= now {
            progress.moved_at = now;
            self.send_appends(now, peer, true, out);
        }
    }

    /// Commit what a quorum holds durably, if it is of this term (Ongaro, 3.6.2).
    pub(super) fn advance_commit(&mut self, now: Instant, out: &mut Output) {
        let State::Leader(leader) = &mut self.state else { return };
        let Leader { peers, uncommitted_bytes, term_start, .. } = leader.as_mut();
        let own = if self.config.mutated(Mutant::LeaderCountsUndurable) {
            self.log.last_index()
        } else {
            self.durable
        };
        let counts = self.config.mutated(Mutant::SuspectAcceptCounts);
        let matched = |id| match id == self.config.id {
            true => own,
            false if counts => peers[&id].matched,
            false => peers[&id].counted(),
        };
        let members = self.members.latest();
        let reached = members.reached(matched);
        #[cfg(feature = "rare")]
        let reached =
            super::mutants::wrong_quorum(&self.config, members, matched).unwrap_or(reached);
        let is_ours = self.log.term_at(reached) == Some(self.term)
            || self.config.mutated(Mutant::CommitOldTerm);
        if reached <= self.commit || !is_ours {
            return;
        }
        let first = self.commit.next().max(*term_start);
        *uncommitted_bytes =
            uncommitted_bytes.saturating_sub(self.log.cached_bytes(first, reached));
        self.commit = reached;
        self.start_early_reads(now, out);
        self.settle_membership(now, out);
    }

    /// Peers to whom nothing is on the way learn the commit index by an empty append.
    pub(super) fn tell_commit(&mut self, now: Instant, out: &mut Output) {
        let State::Leader(leader) = &self.state else { return };
        let idle: Vec<StoreId> = leader
            .peers
            .iter()
            .filter(|(_, progress)| {
                matches!(&progress.flow, Flow::Replicate { in_flight } if in_flight.is_empty())
                    && progress.matched == self.log.last_index()
                    && progress.commit_told < self.commit
            })
            .map(|(peer, _)| *peer)
            .collect();
        for peer in idle {
            self.send_appends(now, peer, true, out);
        }
    }

    /// The successor has the whole log: it may campaign.
    fn finish_transfer(&mut self, out: &mut Output) {
        let State::Leader(leader) = &self.state else { return };
        if let Some(Transfer { to, .. }) = leader.transfer
            && leader.peers.get(&to).is_some_and(|peer| {
                peer.matched == self.log.last_index()
                    || self.config.mutated(Mutant::TransferNotCaughtUp)
            })
        {
            self.send(to, MessageBody::TimeoutNow, out);
        }
    }
}

/// The configurations that entries bring.
fn memberships_of(entries: &[Entry]) -> Result<Vec<(LogIndex, Membership)>, DecodeError> {
    let changes = entries.iter().filter(|entry| entry.kind == EntryKind::Membership);
    changes.map(|entry| Ok((entry.index, Membership::from_bytes(&entry.payload)?))).collect()
}
