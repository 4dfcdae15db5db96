//! Pre-vote, votes, and becoming what they make of a replica.
//!
//! A campaign is first asked about (pre-vote: no term rises, nobody is disturbed), then held. Both
//! are refused by those who hear a leader, except when that leader itself handed over.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::message::{Entry, EntryKind, MessageBody};
use super::mutants::Mutant;
use super::output::{Action, Output};
use super::progress::Progress;
use super::quorum::Tally;
use super::raft::{Leader, Raft, State};
use super::reads::Reads;
use crate::ids::{LogIndex, StoreId, Term};
use crate::time::{Duration, Instant};

impl Raft {
    /// A point between one and two election timeouts from now.
    pub(super) fn election_timeout(&mut self, now: Instant) -> Instant {
        let election = self.config.election;
        now + election + self.random(election)
    }

    /// How long to wait after news that the leader `lost` is gone. Followers take turns by their ids,
    /// half an election timeout apart, so that the second hears of the first one's campaign before
    /// its own turn comes; it has a turn, because the first may be gone too, or lack entries. The
    /// first waits a little: who has not had the news yet would not answer it.
    pub(super) fn short_delay(&mut self, lost: StoreId) -> Duration {
        let own = self.config.id;
        let others = self.other_voters().into_iter();
        let before = others.filter(|id| *id < own && *id != lost).count();
        let turn = u32::try_from(before).unwrap_or(u32::MAX);
        let unit = self.config.election / 16;
        (unit * 8).saturating_mul(turn) + unit + self.random(unit)
    }

    fn random(&mut self, below: Duration) -> Duration {
        let nanos = u64::try_from(below.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.rng.below(nanos.max(1)))
    }

    /// A suspect replica does not, because it may lack committed entries; nor does one that abstains, one whose log is
    /// about to be replaced, or one that has no vote. In a joint configuration both halves may, and
    /// while the entry that leaves it is not known to be committed, who is to leave may too: its log
    /// may be the only one that is complete, and others of the old half may be needed to elect
    /// anyone (Ongaro, 4.2.2). It asks the voters of the newest configuration then, and its own vote
    /// does not count.
    pub(super) fn may_campaign(&self) -> bool {
        let former = self.members.former().filter(|_| !self.is_membership_committed());
        let former = former.filter(|_| !self.config.mutated(Mutant::RemovedGivesUp));
        let learns = self.members.latest().is_learner(self.config.id);
        (!self.is_suspect() || self.config.mutated(Mutant::SuspectCampaigns))
            && (!self.abstains || self.config.mutated(Mutant::AbstainerCampaigns))
            && self.installing.is_none()
            && (self.members.latest().is_voter(self.config.id)
                || former.is_some_and(|former| former.is_voter(self.config.id))
                || (learns && self.config.mutated(Mutant::LearnerCampaigns)))
    }

    /// Whether a leader was heard within an election timeout. A leader hears itself: check-quorum
    /// unseats it in that time if nobody else does.
    pub(super) fn is_led(&self, now: Instant) -> bool {
        match self.state {
            State::Leader(_) => true,
            State::Follower { leader: Some(_), heard_at: Some(heard_at), .. } => {
                heard_at + self.config.election > now
            }
            _ => false,
        }
    }

    /// All voters but this replica, of both halves.
    pub(super) fn other_voters(&self) -> Vec<StoreId> {
        let members = self.members.latest();
        let asked =
            |id: &StoreId| members.is_voter(*id) || self.config.mutated(Mutant::LearnerElects);
        members.members().filter(asked).filter(|id| *id != self.config.id).collect()
    }

    /// Ask whether a campaign would be won.
    pub(super) fn ask_around(&mut self, now: Instant, out: &mut Output) {
        let election_at = self.election_timeout(now);
        let votes = BTreeMap::from([(self.config.id, true)]);
        self.state = State::PreCandidate { votes, election_at };
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        for peer in self.other_voters() {
            let body = MessageBody::PreVote { last_index, last_term };
            out.push(Action::Send(self.message(peer, Term(self.term.0 + 1), body)));
        }
        self.count_pre_votes(now, out);
    }

    /// Campaign. The own vote must be durable before anyone else is asked: the requests leave with
    /// its Persist, and it counts when that is done.
    pub(super) fn campaign(&mut self, now: Instant, transfer: bool) {
        assert!(self.may_campaign(), "a replica that may not campaign does not");
        self.set_term(Term(self.term.0 + 1), Some(self.config.id));
        let election_at = self.election_timeout(now);
        self.state = State::Candidate { votes: BTreeMap::new(), election_at };
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        for peer in self.other_voters() {
            self.send_durable(peer, MessageBody::Vote { last_index, last_term, transfer });
        }
    }

    pub(super) fn on_pre_vote(
        &mut self,
        now: Instant,
        from: StoreId,
        term: Term,
        log_end: (Term, LogIndex),
        out: &mut Output,
    ) {
        if self.is_led(now) && !self.config.mutated(Mutant::PreVoteWhileLed) {
            return;
        }
        let granted = term > self.term && self.would_vote(log_end);
        let reply_term = if granted { term } else { self.term };
        let body = MessageBody::PreVoteReply { granted };
        out.push(Action::Send(self.message(from, reply_term, body)));
    }

    pub(super) fn on_pre_vote_reply(
        &mut self,
        now: Instant,
        from: StoreId,
        term: Term,
        granted: bool,
        out: &mut Output,
    ) {
        let asked = Term(self.term.0 + 1);
        if let State::PreCandidate { votes, .. } = &mut self.state
            && (!granted || term == asked)
        {
            votes.insert(from, granted);
            self.count_pre_votes(now, out);
        }
    }

    fn count_pre_votes(&mut self, now: Instant, out: &mut Output) {
        let State::PreCandidate { votes, .. } = &self.state else { return };
        match self.tally(|id| votes.get(&id).copied()) {
            Tally::Won => self.campaign(now, false),
            Tally::Lost => self.become_follower(now, self.term, None, out),
            Tally::Pending => {}
        }
    }

    /// What has come of asking voters.
    fn tally(&self, answer: impl Fn(StoreId) -> Option<bool>) -> Tally {
        let members = self.members.latest();
        #[cfg(feature = "rare")]
        if let Some(wrong) = super::mutants::wrong_tally(&self.config, members, &answer) {
            return wrong;
        }
        members.tally(answer)
    }

    /// The vote leaves with the Persist that makes it durable.
    pub(super) fn on_vote(&mut self, now: Instant, from: StoreId, log_end: (Term, LogIndex)) {
        let is_unled = self.leader().is_none() || self.config.mutated(Mutant::VoteBesideLeader);
        let free = (self.vote.is_none() && is_unled) || self.config.mutated(Mutant::VoteTwice);
        let granted = (free || self.vote == Some(from)) && self.would_vote(log_end);
        if granted {
            self.vote = Some(from);
            let timeout = self.election_timeout(now);
            if let State::Follower { election_at, .. } = &mut self.state {
                *election_at = timeout;
            }
        }
        self.send_durable(from, MessageBody::VoteReply { granted });
    }

    pub(super) fn on_vote_reply(
        &mut self,
        now: Instant,
        from: StoreId,
        granted: bool,
        out: &mut Output,
    ) {
        if let State::Candidate { votes, .. } = &mut self.state {
            votes.insert(from, granted);
            self.count_votes(now, out);
        }
    }

    /// The own vote counts when it is durable.
    pub(super) fn count_votes(&mut self, now: Instant, out: &mut Output) {
        let own = (self.durable_state == self.hard_state()
            || self.config.mutated(Mutant::OwnVoteBeforeDurable))
        .then_some(true);
        let State::Candidate { votes, .. } = &self.state else { return };
        let vote = |id| if id == self.config.id { own } else { votes.get(&id).copied() };
        match self.tally(vote) {
            Tally::Won => self.become_leader(now, out),
            Tally::Lost => self.become_follower(now, self.term, None, out),
            Tally::Pending => {}
        }
    }

    /// Whom the candidate counts is its own business: a learner or a removed replica votes too when
    /// asked, since it may lag behind the configuration that the candidate goes by. (etcd/raft)
    ///
    /// A suspect replica never would: it may have voted in this term and forgotten it, and its own
    /// log no longer shows what it acknowledged. The same may yet turn out of one that abstains. Nor would one that knows of no configuration: who
    /// counts as a voter has acknowledged the entry that made it a learner, so this one has been
    /// wiped, or counts for nobody.
    fn would_vote(&self, log_end: (Term, LogIndex)) -> bool {
        let own_end = (self.log.last_term(), self.log.last_index());
        let is_complete = if self.config.mutated(Mutant::VoteByLength) {
            log_end.1 >= own_end.1
        } else {
            log_end >= own_end
        };
        (!self.is_suspect() || self.config.mutated(Mutant::SuspectVotes))
            && (!self.abstains || self.config.mutated(Mutant::AbstainerVotes))
            && (self.members.latest().is_known() || self.config.mutated(Mutant::UnknownVotes))
            && (is_complete || self.config.mutated(Mutant::VoteForAnyLog))
    }

    fn become_leader(&mut self, now: Instant, out: &mut Output) {
        let term_start = self.log.last_index().next();
        let peers = self.members.latest().members().filter(|peer| *peer != self.config.id);
        let peers = peers.map(|peer| (peer, Progress::new(term_start, now))).collect();
        self.state = State::Leader(Box::new(Leader {
            peers,
            reads: Reads::default(),
            heartbeat_at: now + self.config.heartbeat,
            term_start,
            uncommitted_bytes: 0,
            transfer: None,
        }));
        // Entries of earlier terms commit only together with one of this term (Ongaro, 3.6.2).
        self.append(vec![Entry {
            index: term_start,
            term: self.term,
            kind: EntryKind::Empty,
            payload: Bytes::new(),
        }]);
        self.broadcast_appends(now, out);
    }

    /// Follow `leader` in `term`, which is this term or a higher one.
    pub(super) fn become_follower(
        &mut self,
        now: Instant,
        term: Term,
        leader: Option<StoreId>,
        out: &mut Output,
    ) {
        if term > self.term {
            self.set_term(term, None);
        }
        if let State::Leader(leader) = &mut self.state
            && !self.config.mutated(Mutant::ReadsLostSilently)
        {
            leader.reads.lose(out);
        }
        let election_at = self.election_timeout(now);
        let heard_at = leader.map(|_| now);
        self.state = State::Follower { leader, heard_at, election_at };
    }

    fn set_term(&mut self, term: Term, vote: Option<StoreId>) {
        assert!(term > self.term, "terms only rise");
        self.term = term;
        self.vote = vote;
        if !self.config.mutated(Mutant::VerifiedKept) {
            self.verified = LogIndex(0);
        }
        self.trust.forget_leader();
    }
}
