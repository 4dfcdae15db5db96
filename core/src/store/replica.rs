//! A replica of a range: it carries out what consensus asks for, and feeds it what happens.
//!
//! Consensus says what must be durable before what may be said ([`Persist`]); here each such demand
//! becomes journal records, and the messages it holds back leave when the journal says that those
//! records are durable.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::apply::Machine;
use super::calls::Commands;
use super::collect::{Collector, Reports};
use super::fencing::Fencing;
use super::hello::Peers;
use super::observe::Observation;
use super::probe::ReplicaProbe;
use super::pulse::{ApplyLag, Slowness};
use super::reads::Reads;
use super::serving::Host;
use super::snapshot::{Giver, Taker};
use crate::codec::Wire;
use crate::consensus::{
    Action, Entry, HardState, Membership, Message, MessageBody, Mutants, Output, Persist, Raft,
    RaftConfig, RecoveredLog, Role,
};
use crate::disk::Room;
use crate::effects::{Effect, Effects, Now};
use crate::ids::{LogIndex, RangeEpoch, RangeId, StoreId};
use crate::range::Range;
use crate::rows::Miss;
use crate::storage::{Durable, JournalTicket, OpenedRange, Record};
use crate::time::{Deadline, Duration, Instant};

/// Bytes of entries in one append message.
const APPEND_BYTES_MAX: u64 = 1 << 20;
/// Append messages in flight to one follower.
const APPENDS_IN_FLIGHT_MAX: usize = 16;
/// Bytes of entries proposed and not committed; beyond it proposals are refused as overloaded. As many
/// entries as may be in flight, at their longest.
pub(super) const UNCOMMITTED_BYTES_MAX: u64 = 32 << 20;

/// A replica.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) id: RangeId,
    pub(super) epoch: RangeEpoch,
    pub(super) raft: Raft,
    /// The state machine, and what applying waits for.
    pub(super) machine: Machine,
    pub(super) commands: Commands,
    pub(super) reads: Reads,
    pub(super) fencing: Fencing,
    /// What sessions have told of what they have under way.
    pub(super) reports: Reports,
    /// How far this replica, if it leads, has come with having dead blobs freed.
    pub(super) collector: Collector,
    /// What may be applied: committed, and durable here. A suspect replica, whose log proves nothing
    /// about commits, is told again from the start; what its table held already is skipped.
    pub(super) committed: LogIndex,
    /// What the table held at the start.
    pub(super) held: LogIndex,
    /// What consensus waits to be durable, oldest first.
    persists: VecDeque<Persisting>,
    /// Entries asked of the journal, by the first of them: for whom (`None`: to apply them).
    fetches: BTreeMap<LogIndex, Vec<Option<StoreId>>>,
    /// The table did not survive and is to be rebuilt from the log.
    rebuild: bool,
    /// What this replica gives to others.
    pub(super) giver: Giver,
    /// The state that it takes from another.
    pub(super) taker: Option<Taker>,
    /// Why the state cannot be taken; dealt with at the end of the step.
    pub(super) failed: Option<String>,
    /// The next state is taken as a whole: newer rows alone did not add up.
    pub(super) take_all: bool,
    /// The table is lost, and the log does not begin at 1: a state must come from another replica.
    pub(super) lost: bool,
    /// When that was last asked for, and how often.
    pub(super) asked_at: Instant,
    pub(super) asked: u64,
    /// When consensus is told that a state could not be taken.
    pub(super) refuse_at: Option<Instant>,
    /// The value of `asked` when leadership was last handed over for that.
    handed_over: u64,
    apply_lag: ApplyLag,
    slowness: Slowness,
    /// Not before this is leadership handed over for want of room again.
    make_room_at: Instant,
    /// The election timeout in force.
    pub(super) election: Duration,
}

#[derive(Debug)]
struct Persisting {
    ticket: JournalTicket,
    since: Instant,
    what: Persisted,
}

/// What is done when it is durable.
#[derive(Debug)]
enum Persisted {
    Persist {
        seq: u64,
        then: Vec<Message>,
    },
    /// A state that was taken over.
    Installation,
}

impl Replica {
    /// A replica as recovery found it.
    pub(super) fn new(now: Now, id: RangeId, host: &mut Host, recovered: OpenedRange) -> Self {
        host.observer.note(id, || Observation::Recovered {
            hard_state: recovered.hard_state,
            base: recovered.base_index,
            terms: recovered.terms.clone(),
            last_index: recovered.last_index,
            suspect: recovered.suspect != 0,
        });
        let config = &host.config;
        // A damaged journal may have lost entries that the table holds already, and a table may be
        // damaged itself. The log is what counts: the table is built again from it.
        let unsound = recovered.damaged
            || recovered.flushed > recovered.last_index
            || recovered.flushed < recovered.base_index;
        let rebuild = unsound && recovered.base_index == LogIndex(0);
        let lost = unsound && !rebuild;
        let flushed = if unsound { recovered.base_index } else { recovered.flushed };
        let election =
            host.pulse.election(&config.timing, config.store, config.map.voters.iter().copied());
        let raft_config = RaftConfig {
            id: config.store,
            heartbeat: config.timing.heartbeat,
            election,
            append_bytes_max: if buggify!(SmallAppends) { 1 } else { APPEND_BYTES_MAX },
            appends_in_flight_max: match buggify!(OneAppendInFlight) {
                true => 1,
                false => APPENDS_IN_FLIGHT_MAX,
            },
            snapshot_lag: config.limits.snapshot_lag,
            entry_cache_bytes: match buggify!(SmallEntryCache) {
                true => 0,
                false => config.limits.entry_cache_bytes,
            },
            proposals_uncommitted_bytes_max: UNCOMMITTED_BYTES_MAX,
            seed: config.seed ^ id.0 ^ (host.incarnation.0 << 32),
            mutants: Mutants::planted(),
        };
        // The range began with these voters; changes of them are entries of the log. Any other store
        // learns from its log, or with a snapshot, who votes.
        let founds =
            recovered.base_index == LogIndex(0) && config.map.voters.contains(&config.store);
        let first = founds.then(|| (LogIndex(0), Membership::of(config.map.voters.clone())));
        let memberships = first.into_iter().chain(recovered.memberships).collect();
        let log = RecoveredLog {
            hard_state: recovered.hard_state,
            base_index: recovered.base_index,
            base_term: recovered.base_term,
            terms: recovered.terms,
            memberships,
            last_index: recovered.last_index,
            committed: flushed,
            suspect: recovered.suspect,
        };
        let mut raft = Raft::new(raft_config, log, now.instant);
        // Whether the disk was set back has to come out first.
        raft.abstain();
        let hard_state = HardState { term: raft.term(), vote: raft.vote() };
        host.observer.note(id, || Observation::Begins { hard_state });
        let mut replica = Self {
            id,
            epoch: RangeEpoch(1),
            raft,
            machine: Machine::new(),
            commands: Commands::default(),
            reads: Reads::default(),
            fencing: Fencing::default(),
            reports: Reports::default(),
            collector: Collector::default(),
            committed: if recovered.suspect == 0 { flushed } else { recovered.base_index },
            held: flushed,
            persists: VecDeque::new(),
            fetches: BTreeMap::new(),
            rebuild,
            giver: Giver::default(),
            taker: None,
            failed: None,
            take_all: false,
            lost,
            asked_at: now.instant,
            asked: 0,
            refuse_at: None,
            handed_over: 0,
            apply_lag: ApplyLag::default(),
            slowness: Slowness::default(),
            make_room_at: now.instant,
            election,
        };
        replica.settle(now.instant, config.store, &host.peers);
        replica
    }

    /// Vote from now on, if the other voters have told what they remember of this store, or have had time to.
    pub(super) fn settle(&mut self, now: Instant, own: StoreId, peers: &Peers) {
        if self.raft.abstains() && self.settles_at(own, peers).is_none_or(|at| at <= now) {
            self.raft.vote_again();
        }
    }

    fn settles_at(&self, own: StoreId, peers: &Peers) -> Option<Instant> {
        peers.settles_at(self.peers(own).into_iter())
    }

    /// Begin to load the state machine.
    pub(super) fn start(
        &mut self,
        now: Now,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        if self.rebuild {
            probe!(TableRebuilt);
            fx.push(Effect::Note(format!(
                "{}: the table is damaged, or ahead of a damaged log: building it again from the log",
                self.id
            )));
            host.storage.reset_table(self.id);
        }
        if self.lost {
            return self.lose_table(now, host, fx);
        }
        self.load(now, host, fx)
    }

    /// The table is lost, and cannot be built from a log that does not begin at 1.
    pub(super) fn lose_table(
        &mut self,
        now: Now,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        fx.push(Effect::Note(format!(
            "{}: the table is damaged, and the log begins after {}: asking another replica for a \
             state",
            self.id,
            self.raft.base_index()
        )));
        probe!(TableLost);
        self.lost = true;
        host.storage.reset_table(self.id);
        self.ask_for_state(now, host, fx);
        Ok(())
    }

    /// Tell consensus something, and do what it asks for.
    pub(super) fn consensus(
        &mut self,
        now: Now,
        host: &mut Host,
        fx: &mut Effects,
        tell: impl FnOnce(&mut Raft, &mut Output),
    ) -> Result<(), String> {
        let mut out = Output::default();
        tell(&mut self.raft, &mut out);
        self.carry_out(now, out, host, fx)
    }

    /// Do what consensus asked for.
    pub(super) fn carry_out(
        &mut self,
        now: Now,
        mut out: Output,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        for action in out.drain() {
            match action {
                Action::Send(message) => host.post(self.id, message),
                Action::Persist(persist) => self.persist(now, persist, host),
                // `advance` applies up to there at the end of the step.
                Action::Commit(index) => self.committed = index,
                Action::ReadReady { token, index } => {
                    host.observer.note(self.id, || Observation::ReadReady { token, index });
                    self.reads.ready(token, index);
                }
                Action::ReadLost { token } => {
                    probe!(ReadLost);
                    host.observer.note(self.id, || Observation::ReadLost { token });
                    self.reads.lost(self.id, token, host, fx);
                }
                Action::Fetch { peer, from, bytes_max } => {
                    self.fetch(Some(peer), from, bytes_max, host, fx)?;
                }
                Action::Poisoned(why) => {
                    return Err(format!("{}: {why}; this is a bug: report it", self.id));
                }
                Action::Role { role, term, .. } => {
                    if role == Role::Leader {
                        host.observer.note(self.id, || Observation::Leads { term });
                    }
                    self.role_changed(now, host, fx);
                }
                Action::Trusted => {
                    probe!(SuspectVouched);
                    host.observer.note(self.id, || Observation::Trusted);
                    host.storage.append(Record::Trusted { range: self.id });
                    fx.push(Effect::Note(format!("{}: the log is trusted again", self.id)));
                }
                Action::NeedSnapshot { peer } => self.giver.wanted(peer),
                Action::InstallSnapshot { last_index, last_term, membership, data } => {
                    let (last, membership) = ((last_index, last_term), membership.to_bytes());
                    self.begin_install(now, last, membership, &data, host, fx)?;
                }
            }
        }
        let (term, index) = (self.raft.term(), self.raft.commit());
        host.observer.note(self.id, || Observation::Commits { term, index });
        Ok(())
    }

    fn persist(&mut self, now: Now, persist: Persist, host: &mut Host) {
        host.observer.note(self.id, || Observation::Wrote {
            seq: persist.seq,
            hard_state: persist.hard_state,
            entries: persist.entries.clone(),
        });
        let mut ticket = None;
        if let Some(hard_state) = persist.hard_state {
            let HardState { term, vote } = hard_state;
            let record = Record::HardState { range: self.id, term, vote };
            ticket = Some(host.storage.append(record));
        }
        for entry in persist.entries {
            ticket = Some(host.storage.append(Record::Entry { range: self.id, entry }));
        }
        // Nothing new to write: what was asked for before must still come first.
        let ticket = ticket.unwrap_or_else(|| host.storage.last_ticket());
        let what = Persisted::Persist { seq: persist.seq, then: persist.then };
        self.persists.push_back(Persisting { ticket, since: now.instant, what });
    }

    /// The journal is durable up to `ticket`.
    pub(super) fn on_durable(
        &mut self,
        now: Now,
        ticket: JournalTicket,
        durable: Durable,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        while let Some(done) = self.persists.pop_front_if(|persisting| persisting.ticket <= ticket)
        {
            let (seq, then) = match done.what {
                Persisted::Persist { seq, then } => (seq, then),
                Persisted::Installation => {
                    self.installed(now, durable, host, fx)?;
                    continue;
                }
            };
            host.observer.note(self.id, || Observation::Durable { seq });
            host.pulse.synced(now.instant.since(done.since));
            for message in then {
                host.post(self.id, message);
            }
            let done = |raft: &mut Raft, out: &mut Output| {
                raft.persisted(now.instant, seq, durable, out);
            };
            self.consensus(now, host, fx, done)?;
        }
        Ok(())
    }

    /// A state is in place once this record is durable.
    pub(super) fn install_after(&mut self, now: Instant, ticket: JournalTicket) {
        let what = Persisted::Installation;
        self.persists.push_back(Persisting { ticket, since: now, what });
    }

    /// The configuration at an entry, encoded; `None` if it is not known here.
    pub(super) fn membership_at(&self, index: LogIndex) -> Option<Bytes> {
        self.raft.membership_at(index).filter(|known| known.is_known()).map(Wire::to_bytes)
    }

    /// A leader whose table is lost cannot answer anything: another one shall lead.
    fn hand_over_if_lost(
        &mut self,
        now: Now,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        if !(self.lost && self.leads() && self.handed_over < self.asked) {
            return Ok(());
        }
        // As often as a state is asked for, to one after the other.
        self.handed_over = self.asked;
        let others = self.peers(host.config.store);
        let turn = usize::try_from(self.asked).unwrap_or(0).checked_rem(others.len());
        match turn.and_then(|turn| others.get(turn)) {
            Some(to) => {
                probe!(LeaderWithoutTable);
                let to = *to;
                self.consensus(now, host, fx, |raft, out| raft.transfer(now.instant, to, out))
            }
            None => Ok(()),
        }
    }

    /// The other replicas.
    pub(super) fn peers(&self, own: StoreId) -> Vec<StoreId> {
        self.raft.membership().all_voters().filter(|id| *id != own).collect()
    }

    pub(super) fn fetch(
        &mut self,
        peer: Option<StoreId>,
        from: LogIndex,
        bytes_max: u64,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        match peer {
            Some(_) => probe!(EntriesFetchedForPeer),
            None => probe!(EntriesFetchedToApply),
        }
        let waiting = self.fetches.entry(from).or_default();
        if waiting.is_empty() {
            host.storage.read_entries(self.id, from, bytes_max, fx)?;
        }
        if !waiting.contains(&peer) {
            waiting.push(peer);
        }
        Ok(())
    }

    /// Entries were read back from the journal.
    pub(super) fn on_entries(
        &mut self,
        now: Now,
        from: LogIndex,
        mut entries: Vec<Entry>,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let peers = self.fetches.remove(&from).unwrap_or_default();
        for peer in peers.into_iter().flatten() {
            let entries = entries.clone();
            let fetched = |raft: &mut Raft, out: &mut Output| {
                raft.fetched(now.instant, peer, from, entries, out);
            };
            self.consensus(now, host, fx, fetched)?;
        }
        // The log may have changed since they were asked for, by whoever asked first. Then what is
        // left to apply is asked for again.
        let is_current = |entry: &&Entry| self.raft.term_at(entry.index) == Some(entry.term);
        let current = entries.iter().take_while(is_current).count();
        entries.truncate(current);
        self.machine.entries_read(from, entries);
        Ok(())
    }

    /// A tree block is in memory now.
    pub(super) fn on_fetched(
        &mut self,
        now: Now,
        miss: Miss,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        if self.machine.fetched(miss) && !self.machine.is_loaded() {
            self.load(now, host, fx)?;
        }
        self.reads.fetched(miss);
        self.giver.fetched(miss);
        self.collector.fetched(miss);
        self.taker_fetched(miss);
        Ok(())
    }

    /// A message from a peer's replica.
    pub(super) fn on_message(
        &mut self,
        now: Now,
        message: Message,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        // To stop for want of room would cost the range a vote, and this store's chunks. What is not
        // taken now is sent again.
        let brings_entries = matches!(&message.body,
            MessageBody::Append { entries, .. } if !entries.is_empty());
        if brings_entries && host.takes_no_entries() {
            probe!(EntriesHeldBack);
            return Ok(());
        }
        if brings_entries && buggify!(EntriesDropped) {
            return Ok(());
        }
        self.consensus(now, host, fx, |raft, out| raft.step(now.instant, message, out))
    }

    /// The link to a peer stands again, or was reset.
    pub(super) fn link_changed(
        &mut self,
        now: Now,
        peer: StoreId,
        stands: bool,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        if stands {
            self.taker_link_up(now, peer, host, fx);
        }
        self.consensus(now, host, fx, |raft, out| match stands {
            true => raft.link_up(now.instant, peer, out),
            false => raft.link_down(now.instant, peer, out),
        })
    }

    /// Some deadline has come.
    pub(super) fn on_deadline(
        &mut self,
        now: Now,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        if self.raft.deadline().is_some_and(|deadline| deadline.at <= now.instant) {
            self.consensus(now, host, fx, |raft, out| raft.on_deadline(now.instant, out))?;
        }
        self.fence_silent_sessions(now);
        self.taker_deadline(now, host, fx)
    }

    /// At the end of each step: apply what is committed, answer what can be answered, propose what
    /// waits.
    pub(super) fn advance(
        &mut self,
        now: Now,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        self.apply_committed(now, host, fx)?;
        if let Some(applied) = self.machine.range().map(Range::applied)
            && let Some(took) = self.apply_lag.look(now.instant, self.raft.commit(), applied)
        {
            host.pulse.applied(took);
        }
        self.answer_reads(host, fx)?;
        self.collect(now, host, fx)?;
        self.take_on(now, host, fx);
        self.deal_with_failure(now, host, fx)?;
        self.give(now, host, fx)?;
        self.follow_map(now, host, fx)?;
        self.hand_over_if_lost(now, host, fx)?;
        self.propose_queued(now, host, fx)
    }

    /// The replica is given up: nothing of it is left in the store's memory.
    pub(super) fn close(&mut self, host: &mut Host, fx: &mut Effects) {
        self.commands.lose_leadership(self.id, self.raft.leader(), host, fx);
        self.giver.clear(host);
        self.collector.clear(host);
        self.machine.unpin(host);
        self.drop_taker(host, fx);
    }

    /// Whether this replica leads, as far as it knows.
    pub(super) fn leads(&self) -> bool {
        self.raft.role() == Role::Leader
    }

    /// Who takes part in the range.
    pub(super) fn members(&self) -> impl Iterator<Item = StoreId> {
        self.raft.membership().members()
    }

    /// How long the oldest thing that the disk or the state machine has to do has taken so far.
    pub(super) fn in_hand(&self, now: Now) -> Duration {
        let write = self.persists.front().map(|persisting| now.instant.since(persisting.since));
        write.unwrap_or_default().max(self.apply_lag.waits(now.instant))
    }

    /// Follow what is measured of the voters.
    pub(super) fn follow_pulse(&mut self, now: Now, host: &Host) {
        let timing = &host.config.timing;
        let voters = self.raft.membership().all_voters();
        let election = host.pulse.election(timing, host.config.store, voters);
        if election != self.election {
            self.election = election;
            self.raft.set_timing(now.instant, timing.heartbeat, election);
        }
    }

    /// One look at whether this leader is slow.
    pub(super) fn hand_over_if_slow(
        &mut self,
        now: Now,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let (commit, membership) = (self.raft.commit(), self.raft.membership());
        // A swap of voters is not to be disturbed: it ends by itself.
        let may_look = self.leads() && !membership.is_joint();
        let keeps_up = |peer| {
            membership.is_voter(peer) && self.raft.held_by(peer).is_some_and(|held| held >= commit)
        };
        let timing = &host.config.timing;
        let successor =
            may_look.then(|| host.pulse.successor(now.instant, timing, keeps_up)).flatten();
        if may_look
            && buggify!(LeaderMoves, hot)
            && let Some(to) = self.peers(host.config.store).into_iter().find(|to| keeps_up(*to))
        {
            return self.consensus(now, host, fx, |raft, out| raft.transfer(now.instant, to, out));
        }
        if self.slowness.look(successor.is_some())
            && let Some(to) = successor
        {
            probe!(LeaderSlow);
            fx.push(Effect::Note(format!(
                "{}: this store has become slow; handing leadership over to {to}",
                self.id
            )));
            self.consensus(now, host, fx, |raft, out| raft.transfer(now.instant, to, out))?;
        }
        Ok(())
    }

    /// To whom a leader without room for new data would hand over now.
    pub(super) fn successor_with_room(&self, now: Now, host: &Host) -> Option<StoreId> {
        let (commit, membership) = (self.raft.commit(), self.raft.membership());
        let keeps_up = |peer| {
            membership.is_voter(peer) && self.raft.held_by(peer).is_some_and(|held| held >= commit)
        };
        let may = self.leads() && !membership.is_joint() && host.room() < Room::Data;
        may.then(|| host.pulse.with_room(now.instant, &host.config.timing, keeps_up)).flatten()
    }

    /// One full zone must not refuse what the two others have room for: one of them shall lead.
    pub(super) fn hand_over_if_full(
        &mut self,
        now: Now,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        if now.instant < self.make_room_at {
            return Ok(());
        }
        let Some(to) = self.successor_with_room(now, host) else { return Ok(()) };
        probe!(LeaderFull);
        // Whoever was asked has had its time then.
        self.make_room_at = now.instant + self.election * 4;
        fx.push(Effect::Note(format!(
            "{}: this store has no room for new data; handing leadership over to {to}",
            self.id
        )));
        self.consensus(now, host, fx, |raft, out| raft.transfer(now.instant, to, out))
    }

    /// Bytes of log entries in memory.
    pub(super) fn entry_bytes(&self) -> u64 {
        self.raft.entries_in_memory_bytes()
    }

    fn role_changed(&mut self, now: Now, host: &mut Host, fx: &mut Effects) {
        if self.leads() {
            self.watch_sessions(now, host);
            self.found_cluster(host);
        } else {
            self.fencing.clear();
            self.collector.clear(host);
            self.commands.lose_leadership(self.id, self.raft.leader(), host, fx);
        }
    }

    pub(super) fn next_deadline(&self, host: &Host) -> Option<Deadline> {
        let backlog = self.has_backlog(host).then_some(Deadline {
            at: Instant::ZERO,
            reason: "committed entries are left to apply",
        });
        let election = self.election;
        let abstains = self.raft.abstains();
        let settles_at =
            abstains.then(|| self.settles_at(host.config.store, &host.peers)).flatten();
        [
            backlog,
            settles_at.map(|at| Deadline { at, reason: "vote" }),
            self.fencing.next_deadline(),
            self.collector.next_deadline().filter(|_| self.collects()),
            self.giver.next_deadline(election),
            self.taker_next_deadline(),
        ]
        .into_iter()
        .fold(self.raft.deadline(), Deadline::earlier)
    }

    pub(super) fn probe(&self) -> ReplicaProbe {
        ReplicaProbe {
            term: self.raft.term(),
            role: self.raft.role(),
            leader: self.raft.leader(),
            last_index: self.raft.last_index(),
            commit: self.raft.commit(),
            applied: self.machine.range().map(|range| (range.applied(), range.state_hash())),
            suspect: self.raft.is_suspect(),
            membership: self.raft.membership().clone(),
        }
    }

    pub(super) fn check(&self) {
        self.raft.check();
        if let Some(range) = self.machine.range() {
            range.check();
            let may_be = self.committed.max(self.held);
            assert!(range.applied() <= may_be, "only what is committed is applied");
            let directory = self.directory().map(|directory| directory.version);
            assert!(directory.is_none_or(|version| version <= range.applied()));
        }
        let in_order = self.persists.iter().zip(self.persists.iter().skip(1));
        for (earlier, later) in in_order {
            assert!(earlier.ticket <= later.ticket);
            if let (Persisted::Persist { seq: a, .. }, Persisted::Persist { seq: b, .. }) =
                (&earlier.what, &later.what)
            {
                assert!(a < b);
            }
        }
        self.commands.check();
        self.giver.check();
    }

    pub(super) fn status(&self) -> String {
        let applied = match self.machine.range() {
            Some(range) => range.applied().to_string(),
            None => "loading".to_owned(),
        };
        let taker =
            self.taker.as_ref().map_or(String::new(), |taker| format!(" {}", taker.status()));
        let lost = if self.lost { " table lost" } else { "" };
        format!("{} {} applied {applied}{lost}{taker}", self.id, self.raft.status())
    }
}
