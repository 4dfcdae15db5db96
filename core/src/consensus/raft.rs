//! The replica: its state, the entry points, and the one way out for what must be durable.

use std::collections::{BTreeMap, VecDeque};

use super::config::{HardState, RaftConfig, RecoveredLog};
use super::log::{Cached, Log};
use super::membership::{History, Membership};
use super::message::{ENTRY_PAYLOAD_BYTES_MAX, Entry, Message, MessageBody};
use super::mutants::Mutant;
use super::output::{Action, NotLeader, Output, Persist};
use super::progress::Progress;
use super::reads::Reads;
use super::suspect::Trust;
use crate::ids::{LogIndex, StoreId, Term};
use crate::rng::Rng;
use crate::storage::Durable;
use crate::time::{Deadline, Duration, Instant};

/// What a replica is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It follows a leader, or waits for one.
    Follower,
    /// It asks whether it would win, without disturbing anyone.
    PreCandidate,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader,
}

/// One replica of a range's log. Plain data: a clone goes on independently.
#[derive(Clone, Debug)]
pub struct Raft {
    pub(super) config: RaftConfig,
    pub(super) rng: Rng,
    /// As of now; `durable_state` is what a crash would leave.
    pub(super) term: Term,
    pub(super) vote: Option<StoreId>,
    pub(super) durable_state: HardState,
    pub(super) log: Log,
    /// The configurations of `log`; the last one is in force.
    pub(super) members: History,
    /// The log up to here is durable.
    pub(super) durable: LogIndex,
    /// Committed, as far as is known here; perhaps not yet durable here.
    pub(super) commit: LogIndex,
    /// The owner was told to apply up to here...
    pub(super) commit_told: LogIndex,
    /// ...and has applied up to here.
    pub(super) applied: LogIndex,
    /// Equal to the log of this term's leader up to here. 0 if that is not known.
    pub(super) verified: LogIndex,
    pub(super) state: State,
    pub(super) trust: Trust,
    /// It gives no vote for now, not to itself either: see [`Raft::abstain`].
    pub(super) abstains: bool,
    /// The snapshot that the owner is installing. Until it is done no entry is taken.
    pub(super) installing: Option<Installing>,
    pub(super) poisoned: Option<&'static str>,
    pub(super) in_flight: VecDeque<InFlight>,
    pub(super) seq: u64,
    /// What the present call wants persisted; empty between calls.
    pub(super) batch: Batch,
    pub(super) state_told: HardState,
    pub(super) role_told: (Role, Option<StoreId>, Term),
}

/// The states of a replica and exactly what each needs.
#[derive(Clone, Debug)]
pub(super) enum State {
    Follower {
        leader: Option<StoreId>,
        /// When the leader was last heard; `None` once its link is down.
        heard_at: Option<Instant>,
        election_at: Instant,
    },
    PreCandidate {
        votes: BTreeMap<StoreId, bool>,
        election_at: Instant,
    },
    Candidate {
        votes: BTreeMap<StoreId, bool>,
        election_at: Instant,
    },
    Leader(Box<Leader>),
}

/// What a leader knows.
#[derive(Clone, Debug)]
pub(super) struct Leader {
    pub(super) peers: BTreeMap<StoreId, Progress>,
    pub(super) reads: Reads,
    pub(super) heartbeat_at: Instant,
    /// The first entry of the term.
    pub(super) term_start: LogIndex,
    /// Bytes of entries from `term_start` on that are not committed.
    pub(super) uncommitted_bytes: u64,
    pub(super) transfer: Option<Transfer>,
}

/// A hand-over in progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) to: StoreId,
    /// When it is given up.
    pub(super) until: Instant,
}

/// A Persist that is not durable yet.
#[derive(Clone, Debug)]
pub(super) struct InFlight {
    seq: u64,
    hard_state: Option<HardState>,
    /// With it the log is durable up to here. Lowered when a later Persist cuts the log, because
    /// a crash between the two would leave neither the old entry nor the new one.
    pub(super) upto: LogIndex,
}

/// What a snapshot puts in place of the log.
#[derive(Clone, Debug)]
pub(super) struct Installing {
    pub(super) last_index: LogIndex,
    pub(super) last_term: Term,
    pub(super) membership: Membership,
}

/// What one call wants persisted.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    pub(super) then: Vec<Message>,
}

impl Raft {
    /// A follower with what recovery found. It need not be a voter, nor know who is.
    ///
    /// # Panics
    /// If the configuration contradicts itself, or `recovered` does: recovery makes a damaged log a
    /// well-formed suspect one.
    pub fn new(config: RaftConfig, recovered: RecoveredLog, now: Instant) -> Self {
        assert!(config.election > config.heartbeat, "an election takes longer than a heartbeat");
        assert!(config.appends_in_flight_max > 0, "at least one append may be in flight");
        assert!(config.append_bytes_max <= ENTRY_PAYLOAD_BYTES_MAX as u64, "appends fit a message");
        let suspect = recovered.suspect != 0;
        assert!(recovered.committed <= recovered.last_index || suspect, "applied means in the log");
        assert!(recovered.committed >= recovered.base_index || suspect, "snapshots are applied");

        let log = Log::new(&recovered, config.entry_cache_bytes);
        let mut memberships = recovered.memberships;
        if config.mutated(Mutant::MembershipForgotten) {
            memberships.truncate(1);
        }
        let members = History::new(recovered.base_index, memberships, recovered.last_index);
        // A term that stands in the log has been seen, also if a hard state was damaged.
        let mut state = recovered.hard_state;
        if config.mutated(Mutant::VoteForgotten) {
            state.vote = None;
        }
        if config.mutated(Mutant::TermForgotten) {
            state = HardState { term: log.last_term(), vote: None };
        }
        let hard_state = if state.term >= log.last_term() {
            state
        } else {
            HardState { term: log.last_term(), vote: None }
        };
        // What a suspect log holds is not what the state machine has applied: since the damage, an
        // old leader may have filled the place of a committed entry with one of its own. So such a
        // log proves nothing about commits, until its leader says what they are.
        let is_proof = !suspect || config.mutated(Mutant::SuspectAppliedCommits);
        let commit = if is_proof {
            recovered.committed.min(recovered.last_index).max(recovered.base_index)
        } else {
            recovered.base_index
        };
        let trusts = !suspect || config.mutated(Mutant::SuspectTrusted);
        let mut raft = Self {
            rng: Rng::new(config.seed),
            term: hard_state.term,
            vote: hard_state.vote,
            durable_state: state,
            durable: recovered.last_index,
            commit,
            commit_told: commit,
            applied: commit,
            verified: LogIndex(0),
            state: State::Follower { leader: None, heard_at: None, election_at: now },
            trust: Trust::recovered(if trusts { 0 } else { recovered.suspect }),
            abstains: false,
            installing: None,
            poisoned: None,
            in_flight: VecDeque::new(),
            seq: 0,
            batch: Batch::default(),
            state_told: state,
            role_told: (Role::Follower, None, hard_state.term),
            log,
            members,
            config,
        };
        let election_at = raft.election_timeout(now);
        raft.state = State::Follower { leader: None, heard_at: None, election_at };
        raft
    }

    /// The Persist `seq` is durable, and its `then` messages are on their way.
    ///
    /// # Panics
    /// If it is not the oldest one in flight.
    pub fn persisted(&mut self, now: Instant, seq: u64, _durable: Durable, out: &mut Output) {
        let done = self.in_flight.pop_front().expect("a Persist in flight");
        assert_eq!(done.seq, seq, "Persists become durable in order");
        if self.poisoned.is_some() {
            return;
        }
        self.durable = self.durable.max(done.upto);
        if let Some(hard_state) = done.hard_state {
            self.durable_state = hard_state;
        }
        match self.state {
            State::Leader(_) => {
                self.advance_commit(now, out);
                self.tell_commit(now, out);
            }
            State::Candidate { .. } => self.count_votes(now, out),
            State::Follower { .. } | State::PreCandidate { .. } => {}
        }
        self.regain_trust(seq, out);
        self.evict();
        self.flush(out);
    }

    /// When to call [`on_deadline`](Self::on_deadline), and why.
    pub fn deadline(&self) -> Option<Deadline> {
        if self.poisoned.is_some() {
            return None;
        }
        match &self.state {
            State::Leader(leader) => {
                let transfer =
                    leader.transfer.map(|t| Deadline { at: t.until, reason: "transfer" });
                let heartbeat = Deadline { at: leader.heartbeat_at, reason: "heartbeat" };
                Deadline::earlier(Some(heartbeat), transfer)
            }
            State::Follower { election_at, .. }
            | State::PreCandidate { election_at, .. }
            | State::Candidate { election_at, .. } => {
                self.may_campaign().then_some(Deadline { at: *election_at, reason: "election" })
            }
        }
    }

    /// The time of [`deadline`](Self::deadline) has come.
    pub fn on_deadline(&mut self, now: Instant, out: &mut Output) {
        if self.poisoned.is_some() {
            return;
        }
        match &self.state {
            State::Leader(_) => self.lead_on(now, out),
            State::Follower { election_at, .. }
            | State::PreCandidate { election_at, .. }
            | State::Candidate { election_at, .. } => {
                if *election_at <= now && self.may_campaign() {
                    self.ask_around(now, out);
                }
            }
        }
        self.flush(out);
    }

    /// Do not vote, nor campaign, until told to [vote again](Self::vote_again): it may yet turn out that the disk is an old
    /// one, on which a vote is forgotten, or entries that a majority counts on. For a replica that has just started.
    ///
    /// # Panics
    /// If it leads.
    pub fn abstain(&mut self) {
        assert!(!matches!(self.state, State::Leader(_)), "a leader has been voted for");
        self.abstains = true;
    }

    /// Whether it does not vote for now.
    pub fn abstains(&self) -> bool {
        self.abstains
    }

    /// The disk is what it was, as far as that can be found out.
    pub fn vote_again(&mut self) {
        self.abstains = false;
    }

    /// New bounds: see [`RaftConfig`]. They may differ between replicas, as long as each election
    /// timeout is several times every other's heartbeat. A wait that has begun gets shorter, never
    /// longer, so that calls in any number put no election off.
    ///
    /// # Panics
    /// If an election were no longer than a heartbeat.
    pub fn set_timing(&mut self, now: Instant, heartbeat: Duration, election: Duration) {
        assert!(election > heartbeat, "an election takes longer than a heartbeat");
        (self.config.heartbeat, self.config.election) = (heartbeat, election);
        match &mut self.state {
            State::Leader(leader) => {
                leader.heartbeat_at = leader.heartbeat_at.min(now + heartbeat);
            }
            State::Follower { election_at, .. }
            | State::PreCandidate { election_at, .. }
            | State::Candidate { election_at, .. } => {
                *election_at = (*election_at).min(now + election + election);
            }
        }
    }

    /// The link to a peer was reset. A follower that loses its leader campaigns soon, by pre-vote;
    /// a leader takes what is in flight for lost.
    pub fn link_down(&mut self, now: Instant, peer: StoreId, out: &mut Output) {
        let soon = now + self.short_delay(peer);
        let (base, last) = (self.log.base(), self.log.last_index());
        match &mut self.state {
            State::Leader(leader) => {
                if let Some(progress) = leader.peers.get_mut(&peer) {
                    progress.probe(base, last, now);
                }
            }
            State::Follower { leader, heard_at, election_at } if *leader == Some(peer) => {
                *heard_at = None;
                *election_at = soon.min(*election_at);
            }
            _ => {}
        }
        self.flush(out);
    }

    /// The link to a peer stands (again): a leader asks at once where the peer is.
    pub fn link_up(&mut self, now: Instant, peer: StoreId, out: &mut Output) {
        let (base, last) = (self.log.base(), self.log.last_index());
        if let State::Leader(leader) = &mut self.state
            && let Some(progress) = leader.peers.get_mut(&peer)
        {
            progress.probe(base, last, now);
            self.send_appends(now, peer, true, out);
        }
        self.flush(out);
    }

    /// The cached payloads of the entries `from..=to_inclusive`, as far as `bytes_max` allows but at
    /// least one, or word that the first must be read from the journal.
    ///
    /// # Panics
    /// If the span is not within the log.
    pub fn entries(&self, from: LogIndex, to_inclusive: LogIndex, bytes_max: u64) -> Cached {
        self.log.entries(from, to_inclusive, bytes_max)
    }

    /// The state machine has applied up to `index`; older payloads may leave the cache.
    ///
    /// # Panics
    /// If the owner was not told that `index` is committed.
    pub fn applied(&mut self, index: LogIndex) {
        assert!(index <= self.commit_told, "only what is committed is applied");
        self.applied = self.applied.max(index);
        self.evict();
    }

    /// Keep the cache within its limit, also when the state machine does not keep up: what is
    /// durable can be read back. What is not committed stays, since it is counted by its bytes.
    fn evict(&mut self) {
        self.log.evict(self.commit.min(self.durable));
    }

    /// Send at once: for what promises nothing.
    pub(super) fn send(&self, to: StoreId, body: MessageBody, out: &mut Output) {
        out.push(Action::Send(self.message(to, self.term, body)));
    }

    /// Send once everything up to now is durable: for what promises something.
    pub(super) fn send_durable(&mut self, to: StoreId, body: MessageBody) {
        let message = self.message(to, self.term, body);
        self.batch.then.push(message);
    }

    pub(super) fn message(&self, to: StoreId, term: Term, body: MessageBody) -> Message {
        Message { from: self.config.id, to, term, body }
    }

    /// Append to the log, and to what the present call persists.
    pub(super) fn append(&mut self, entries: Vec<Entry>) {
        self.log.append(&entries);
        self.batch.entries.extend(entries);
    }

    /// Forget the log from `index` on.
    pub(super) fn truncate(&mut self, index: LogIndex) {
        self.log.truncate(index);
        if !self.config.mutated(Mutant::RollbackForgotten) {
            self.members.truncate(index);
        }
        if self.config.mutated(Mutant::CutKeepsDurable) {
            return;
        }
        let last = index.previous();
        self.durable = self.durable.min(last);
        for persist in &mut self.in_flight {
            persist.upto = persist.upto.min(last);
        }
    }

    /// The log was replaced by a snapshot, which is durable.
    pub(super) fn reset_log(&mut self, base: LogIndex, base_term: Term, membership: Membership) {
        self.log.reset(base, base_term);
        self.members.reset(base, membership);
        self.durable = base;
        for persist in &mut self.in_flight {
            persist.upto = persist.upto.min(base);
        }
    }

    /// The number of the Persist that this call will make, if it makes one.
    pub(super) fn next_seq(&self) -> u64 {
        self.seq + 1
    }

    pub(super) fn hard_state(&self) -> HardState {
        HardState { term: self.term, vote: self.vote }
    }

    /// Stop for good.
    pub(super) fn poison(&mut self, why: &'static str, out: &mut Output) {
        self.poisoned = Some(why);
        out.push(Action::Poisoned(why));
    }

    pub(super) fn not_leader(&self) -> NotLeader {
        NotLeader(self.leader())
    }

    /// The end of every call: one Persist at most, then what the owner must know. This is the only
    /// place where messages that need durability leave: with a Persist, or, when everything is
    /// durable already, at once.
    pub(super) fn flush(&mut self, out: &mut Output) {
        let Batch { entries, then } = core::mem::take(&mut self.batch);
        #[cfg(feature = "rare")]
        let then = self.leak(then, out);
        let hard_state = self.hard_state();
        let changed = (hard_state != self.state_told).then_some(hard_state);
        if changed.is_some()
            || !entries.is_empty()
            || !(then.is_empty() || self.in_flight.is_empty())
        {
            self.seq += 1;
            self.state_told = hard_state;
            let upto = self.log.last_index();
            self.in_flight.push_back(InFlight { seq: self.seq, hard_state: changed, upto });
            out.push(Action::Persist(Persist {
                seq: self.seq,
                hard_state: changed,
                entries,
                then,
            }));
        } else {
            if !then.is_empty() {
                assert_eq!(self.durable, self.log.last_index(), "nothing in flight: all durable");
                assert_eq!(self.durable_state, hard_state, "nothing in flight: all durable");
            }
            then.into_iter().for_each(|message| out.push(Action::Send(message)));
        }
        let mut committed = self.commit.min(self.durable);
        if self.config.mutated(Mutant::CommitToldEarly) {
            committed = self.commit;
        }
        if committed > self.commit_told {
            self.commit_told = committed;
            out.push(Action::Commit(committed));
        }
        let role = (self.role(), self.leader(), self.term);
        if role != self.role_told {
            self.role_told = role;
            let (role, leader, term) = role;
            out.push(Action::Role { role, leader, term });
        }
    }
}
