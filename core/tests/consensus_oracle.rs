//! TiKV's `raft` crate as an oracle: it and `consensus` go through the same schedules, and must agree
//! on who leads in which term, on every log, on what is committed and on what a read may see.
//!
//! The two say different things on the wire and have different timers, so a schedule does not name
//! messages. It is made of steps that mean the same to both: a partition of the replicas, "these hear
//! nobody for long, then this one times out first", a proposal, a read, a hand-over, a restart, a change of
//! members. Inside a step messages flow until none is left, each implementation's own, some of
//! them doubled, and in lossy steps many lost; then leaders that reach a quorum send heartbeats until all is repaired.
//!
//! Where the two differ for a reason, the schedules stay where they coincide:
//! - *A configuration is in force* at append here, at apply there. Members change only while all
//!   replicas are connected, and the joint phase of a swap is over at the end of its step. Joint quorums are
//!   met all the same: half of the schedules begin in a joint configuration, which ends with the first commit.
//! - *Reads before the first commit of a term* wait here and are dropped there: only the answers
//!   within the step of a read are compared.
//! - *A refused vote* carries commit indexes there, not here. So commit indexes are compared where a
//!   leader reaches a quorum; elsewhere ours must not be ahead.
//! - *A leader that is not among the new voters* hands over here, and leads on there. Only those who stay are elected.
//! - *Check-quorum* runs by time: leaders without a quorum send no heartbeats here, and step down in
//!   steps of silence only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use raft::eraftpb as pb;
use raft::storage::MemStorage;
use raft::{RawNode, StateRole, Storage};
use trine_core::codec::Wire;
use trine_core::consensus::{
    Action, Change, Entry, EntryKind, HardState, Membership, Message, Output, Raft, RaftConfig,
    RecoveredLog, Role, Tally,
};
use trine_core::ids::{LogIndex, StoreId, Term};
use trine_core::rng::Rng;
use trine_core::storage::Durable;
use trine_core::time::{Duration, Instant};

const HEARTBEAT: Duration = Duration::from_millis(50);
const ELECTION: Duration = Duration::from_millis(500);

/// Voters of the outgoing half (none: not joint), and of the incoming one.
#[derive(Clone, Debug)]
struct Members {
    incoming: Vec<u64>,
    outgoing: Vec<u64>,
}

impl Members {
    fn is_quorum(&self, present: &BTreeSet<u64>) -> bool {
        [&self.incoming, &self.outgoing].into_iter().all(|half| {
            half.is_empty()
                || half.iter().filter(|id| present.contains(id)).count() > half.len() / 2
        })
    }

    fn ours(&self) -> Membership {
        let ids = |half: &[u64]| half.iter().map(|id| StoreId(*id)).collect();
        Membership::new(ids(&self.incoming), ids(&self.outgoing), Vec::new()).expect("sound")
    }

    fn theirs(&self) -> pb::ConfState {
        pb::ConfState {
            voters: self.incoming.clone(),
            voters_outgoing: self.outgoing.clone(),
            auto_leave: !self.outgoing.is_empty(),
            ..pb::ConfState::default()
        }
    }
}

/// What an entry says, as far as both can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Says {
    Nothing,
    Command(Vec<u8>),
    Members,
}

/// A replica at the end of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    leads: bool,
    term: u64,
    log: Vec<(u64, Says)>,
    commit: u64,
}

/// A replica of either implementation. Whatever is written is durable at once.
trait Replica {
    type Message: Clone;
    fn new(id: u64, members: &Members) -> Self;
    fn ends(message: &Self::Message) -> (u64, u64);
    fn step(&mut self, message: Self::Message);
    fn drain(&mut self) -> Vec<Self::Message>;
    fn leads(&self) -> bool;
    fn view(&self) -> View;
    /// Reads that were answered: token and index.
    fn reads(&self) -> &[(u64, u64)];
    /// Nothing is heard for long: a leader steps down, nobody feels led.
    fn silence(&mut self);
    /// The election timer.
    fn time_out(&mut self);
    /// A leader's heartbeat is due.
    fn beat(&mut self);
    fn propose(&mut self, payload: &[u8]);
    fn read(&mut self, token: u64);
    fn transfer(&mut self, to: u64);
    fn restart(&mut self);
    fn add_learner(&mut self, id: u64);
    fn swap(&mut self, remove: u64, add: u64);
}

struct Ours {
    id: u64,
    members: Membership,
    raft: Raft,
    now: Instant,
    log: Vec<Entry>,
    hard_state: HardState,
    commit: LogIndex,
    outbox: Vec<Message>,
    reads: Vec<(u64, u64)>,
}

impl Ours {
    fn start(id: u64, recovered: RecoveredLog, now: Instant) -> Raft {
        let config = RaftConfig {
            id: StoreId(id),
            heartbeat: HEARTBEAT,
            election: ELECTION,
            append_bytes_max: 1 << 20,
            appends_in_flight_max: 4,
            entry_cache_bytes: 1 << 20,
            proposals_uncommitted_bytes_max: 1 << 20,
            seed: id,
        };
        Raft::new(config, recovered, now)
    }

    fn call(&mut self, call: impl FnOnce(&mut Raft, Instant, &mut Output)) {
        let mut out = Output::new();
        call(&mut self.raft, self.now, &mut out);
        let mut actions: VecDeque<Action> = out.drain().collect();
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Send(message) => self.outbox.push(message),
                Action::Persist(persist) => {
                    self.hard_state = persist.hard_state.unwrap_or(self.hard_state);
                    for entry in persist.entries {
                        self.log.retain(|old| old.index < entry.index);
                        self.log.push(entry);
                    }
                    self.outbox.extend(persist.then);
                    let durable = Durable::for_test();
                    self.raft.persisted(self.now, persist.seq, durable, &mut out);
                    actions.extend(out.drain());
                }
                Action::Commit(index) => {
                    self.commit = index;
                    self.raft.applied(index);
                }
                Action::ReadReady { token, index } => self.reads.push((token, index.0)),
                Action::Fetch { peer, from, .. } => {
                    let entries = self.log.iter().filter(|e| e.index >= from).cloned().collect();
                    self.raft.fetched(self.now, peer, from, entries, &mut out);
                    actions.extend(out.drain());
                }
                Action::ReadLost { .. } | Action::Role { .. } => {}
                other => panic!("not in these schedules: {other:?}"),
            }
        }
        self.raft.check();
    }
}

impl Replica for Ours {
    type Message = Message;

    fn new(id: u64, members: &Members) -> Self {
        let (now, members) = (Instant::from_millis(1), members.ours());
        let memberships = vec![(LogIndex(0), members.clone())];
        let raft = Self::start(id, RecoveredLog { memberships, ..RecoveredLog::default() }, now);
        Self {
            id,
            members,
            raft,
            now,
            log: Vec::new(),
            hard_state: HardState::default(),
            commit: LogIndex(0),
            outbox: Vec::new(),
            reads: Vec::new(),
        }
    }

    fn ends(message: &Message) -> (u64, u64) {
        (message.from.0, message.to.0)
    }

    fn step(&mut self, message: Message) {
        self.call(|raft, now, out| raft.step(now, message, out));
    }

    fn drain(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.outbox)
    }

    fn leads(&self) -> bool {
        self.raft.role() == Role::Leader
    }

    fn view(&self) -> View {
        let says = |entry: &Entry| match entry.kind {
            EntryKind::Empty => Says::Nothing,
            EntryKind::Command => Says::Command(entry.payload.to_vec()),
            EntryKind::Membership => Says::Members,
        };
        View {
            leads: self.leads(),
            term: self.raft.term().0,
            log: self.log.iter().map(|entry| (entry.term.0, says(entry))).collect(),
            commit: self.raft.commit().0,
        }
    }

    fn reads(&self) -> &[(u64, u64)] {
        &self.reads
    }

    fn silence(&mut self) {
        self.now = self.now + ELECTION * 3;
        if self.raft.role() == Role::Leader {
            self.call(Raft::on_deadline_of);
        }
    }

    fn time_out(&mut self) {
        if let Some(deadline) = self.raft.deadline() {
            self.now = self.now.max(deadline.at);
            self.call(Raft::on_deadline_of);
        }
    }

    fn beat(&mut self) {
        self.now = self.now + ELECTION / 4;
        self.call(Raft::on_deadline_of);
    }

    fn propose(&mut self, payload: &[u8]) {
        let payload = Bytes::copy_from_slice(payload);
        self.call(|raft, now, out| {
            raft.propose(now, vec![payload], out).expect("a leader takes it");
        });
    }

    fn read(&mut self, token: u64) {
        self.call(|raft, now, out| raft.read_index(now, token, out).expect("it leads"));
    }

    fn transfer(&mut self, to: u64) {
        self.call(|raft, now, out| raft.transfer(now, StoreId(to), out));
    }

    fn restart(&mut self) {
        let mut memberships = vec![(LogIndex(0), self.members.clone())];
        let changes = self.log.iter().filter(|entry| entry.kind == EntryKind::Membership);
        memberships.extend(changes.map(|entry| {
            (entry.index, Membership::from_bytes(&entry.payload).expect("it was encoded here"))
        }));
        let mut terms: Vec<(LogIndex, Term)> = Vec::new();
        for entry in &self.log {
            if terms.last().is_none_or(|(_, term)| *term != entry.term) {
                terms.push((entry.index, entry.term));
            }
        }
        let recovered = RecoveredLog {
            hard_state: self.hard_state,
            terms,
            memberships,
            last_index: LogIndex(self.log.len() as u64),
            committed: self.commit,
            ..RecoveredLog::default()
        };
        self.raft = Self::start(self.id, recovered, self.now);
        self.outbox.clear();
    }

    fn add_learner(&mut self, id: u64) {
        let change = Change::AddLearner(StoreId(id));
        self.call(|raft, now, out| {
            raft.propose_change(now, change, out).expect("nothing else is changing");
        });
    }

    fn swap(&mut self, remove: u64, add: u64) {
        let change = Change::Swap { remove: StoreId(remove), add: StoreId(add) };
        self.call(|raft, now, out| {
            raft.propose_change(now, change, out).expect("the learner has caught up");
        });
    }
}

/// `Raft::on_deadline` with the arguments in the order of [`Ours::call`].
trait OnDeadline {
    fn on_deadline_of(&mut self, now: Instant, out: &mut Output);
}

impl OnDeadline for Raft {
    fn on_deadline_of(&mut self, now: Instant, out: &mut Output) {
        self.on_deadline(now, out);
    }
}

struct Theirs {
    id: u64,
    node: RawNode<MemStorage>,
    outbox: Vec<pb::Message>,
    reads: Vec<(u64, u64)>,
}

const ELECTION_TICKS: usize = 10;

impl Theirs {
    fn start(id: u64, storage: MemStorage) -> RawNode<MemStorage> {
        let applied = storage.rl().hard_state().commit;
        let config = raft::Config {
            id,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: 1,
            applied,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 4,
            check_quorum: true,
            pre_vote: true,
            ..raft::Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        RawNode::new(&config, storage, &logger).expect("a sound configuration")
    }

    fn applied(&mut self, entries: Vec<pb::Entry>) {
        for entry in entries {
            if entry.get_entry_type() == pb::EntryType::EntryConfChangeV2 {
                let change = decode_change(&entry.context);
                let state = self.node.apply_conf_change(&change).expect("a sound change");
                self.node.store().wl().set_conf_state(state);
            }
        }
    }

    /// The loop of the crate's documentation.
    fn work(&mut self) {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            assert!(ready.snapshot().is_empty(), "not in these schedules");
            self.outbox.extend(ready.take_messages());
            for read in ready.take_read_states() {
                let token = read.request_ctx.try_into().expect("tokens have 8 bytes");
                self.reads.push((u64::from_le_bytes(token), read.index));
            }
            self.applied(ready.take_committed_entries());
            self.node.store().wl().append(ready.entries()).expect("it continues the log");
            if let Some(state) = ready.hs() {
                self.node.store().wl().set_hardstate(state.clone());
            }
            self.outbox.extend(ready.take_persisted_messages());
            let mut light = self.node.advance(ready);
            if let Some(commit) = light.commit_index() {
                self.node.store().wl().mut_hard_state().commit = commit;
            }
            self.outbox.extend(light.take_messages());
            self.applied(light.take_committed_entries());
            self.node.advance_apply();
        }
    }

    fn local(&mut self, kind: pb::MessageType) {
        let mut message = pb::Message { from: self.id, to: self.id, ..pb::Message::default() };
        message.set_msg_type(kind);
        self.node.raft.step(message).expect("a local message is taken");
        self.work();
    }

    fn change(&mut self, change: &[u8]) {
        let proposal = decode_change(change);
        self.node.propose_conf_change(change.to_vec(), proposal).expect("nothing else is changing");
        self.work();
    }
}

/// A change as the context of its entry holds it: id to add, id to remove (0: none, the other is a learner).
fn decode_change(context: &[u8]) -> pb::ConfChangeV2 {
    let single = |kind: pb::ConfChangeType, node_id: u8| {
        let mut single = pb::ConfChangeSingle { node_id: node_id.into(), ..Default::default() };
        single.set_change_type(kind);
        single
    };
    let mut change = pb::ConfChangeV2::default();
    match context {
        // The end of a joint phase.
        [] => {}
        [add, 0] => {
            change.set_changes(vec![single(pb::ConfChangeType::AddLearnerNode, *add)].into())
        }
        [add, remove] => {
            change.set_transition(pb::ConfChangeTransition::Implicit);
            let changes = vec![
                single(pb::ConfChangeType::RemoveNode, *remove),
                single(pb::ConfChangeType::AddNode, *add),
            ];
            change.set_changes(changes.into());
        }
        other => panic!("{other:?} is no change"),
    }
    change
}

fn small(id: u64) -> u8 {
    u8::try_from(id).expect("ids are small")
}

impl Replica for Theirs {
    type Message = pb::Message;

    fn new(id: u64, members: &Members) -> Self {
        let storage = MemStorage::new_with_conf_state(members.theirs());
        let node = Self::start(id, storage);
        Self { id, node, outbox: Vec::new(), reads: Vec::new() }
    }

    fn ends(message: &pb::Message) -> (u64, u64) {
        (message.from, message.to)
    }

    fn step(&mut self, message: pb::Message) {
        // Answers of a replica that is no member any more are refused; that is as good as lost.
        let _refused = self.node.step(message);
        self.work();
    }

    fn drain(&mut self) -> Vec<pb::Message> {
        std::mem::take(&mut self.outbox)
    }

    fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    fn view(&self) -> View {
        let store = self.node.store();
        let end = store.last_index().expect("in memory") + 1;
        let context = raft::GetEntriesContext::empty(false);
        let entries = match end {
            1 => Vec::new(),
            _ => store.entries(1, end, None, context).expect("nothing is compacted"),
        };
        let says = |entry: &pb::Entry| {
            if entry.get_entry_type() == pb::EntryType::EntryConfChangeV2 {
                Says::Members
            } else if entry.data.is_empty() {
                Says::Nothing
            } else {
                Says::Command(entry.data.to_vec())
            }
        };
        View {
            leads: self.leads(),
            term: self.node.raft.term,
            log: entries.iter().map(|entry| (entry.term, says(entry))).collect(),
            commit: self.node.raft.raft_log.committed,
        }
    }

    fn reads(&self) -> &[(u64, u64)] {
        &self.reads
    }

    fn silence(&mut self) {
        if self.node.raft.state == StateRole::Leader {
            // The first look finds those that were heard since the last one.
            self.local(pb::MessageType::MsgCheckQuorum);
            if self.node.raft.state == StateRole::Leader {
                self.local(pb::MessageType::MsgCheckQuorum);
            }
        }
        self.node.raft.election_elapsed = ELECTION_TICKS;
    }

    fn time_out(&mut self) {
        self.local(pb::MessageType::MsgHup);
    }

    fn beat(&mut self) {
        self.local(pb::MessageType::MsgBeat);
    }

    fn propose(&mut self, payload: &[u8]) {
        self.node.propose(Vec::new(), payload.to_vec()).expect("a leader takes it");
        self.work();
    }

    fn read(&mut self, token: u64) {
        self.node.read_index(token.to_le_bytes().to_vec());
        self.work();
    }

    fn transfer(&mut self, to: u64) {
        self.node.transfer_leader(to);
        self.work();
    }

    fn restart(&mut self) {
        let storage = self.node.store().clone();
        self.node = Self::start(self.id, storage);
        self.outbox.clear();
    }

    fn add_learner(&mut self, id: u64) {
        self.change(&[small(id), 0]);
    }

    fn swap(&mut self, remove: u64, add: u64) {
        self.change(&[small(add), small(remove)]);
    }
}

/// One step of a schedule.
#[derive(Clone, Debug)]
enum Step {
    /// Which replicas are connected: those with the same number.
    Partition(BTreeMap<u64, u64>),
    /// All that this one is connected with hear nothing for long; then it times out.
    Elect(u64),
    /// Each leader gets a proposal; of the messages, so many of 100 are lost.
    Propose(Vec<u8>, u64),
    /// Each leader is asked for a read.
    Read(u64),
    /// Each leader that reaches it hands over to this one.
    Transfer(u64),
    Restart(u64),
    /// With everybody connected, the leader puts the second in the place of the first.
    Replace(u64, u64),
    Rest,
}

struct Group<R: Replica> {
    replicas: BTreeMap<u64, R>,
    parts: BTreeMap<u64, u64>,
    members: Members,
    draw: Rng,
}

impl<R: Replica> Group<R> {
    fn new(seed: u64, members: &Members, ids: impl Iterator<Item = u64> + Clone) -> Self {
        Self {
            replicas: ids.clone().map(|id| (id, R::new(id, members))).collect(),
            parts: ids.map(|id| (id, 0)).collect(),
            members: members.clone(),
            draw: Rng::new(seed),
        }
    }

    fn view(&self) -> BTreeMap<u64, View> {
        self.replicas.iter().map(|(id, replica)| (*id, replica.view())).collect()
    }

    /// Those that `id` is connected with, itself among them.
    fn part_of(&self, id: u64) -> BTreeSet<u64> {
        let part = self.parts[&id];
        self.parts.iter().filter(|(_, of)| **of == part).map(|(id, _)| *id).collect()
    }

    fn leaders(&self) -> Vec<u64> {
        let leads = |id: &u64| self.replicas[id].leads();
        self.replicas.keys().copied().filter(leads).collect()
    }

    fn leads_by_quorum(&self, id: u64) -> bool {
        self.replicas[&id].leads() && self.members.is_quorum(&self.part_of(id))
    }

    fn replica(&mut self, id: u64) -> &mut R {
        self.replicas.get_mut(&id).expect("it is there")
    }

    /// Deliver messages until none is left.
    fn settle(&mut self, lost_percent: u64) {
        let mut queue = VecDeque::new();
        for _ in 0..100_000 {
            for replica in self.replicas.values_mut() {
                queue.extend(replica.drain());
            }
            let Some(message) = queue.pop_front() else { return };
            let (from, to) = R::ends(&message);
            let cut = self.parts.get(&from) != self.parts.get(&to);
            // When a probe that was lost is sent again differs, so such leaders reach nobody.
            let mute = self.replicas[&from].leads() && !self.leads_by_quorum(from);
            if cut || mute || self.draw.chance(lost_percent, 100) {
                continue;
            }
            if self.draw.chance(1, 20) {
                queue.push_back(message.clone());
            }
            self.replica(to).step(message);
        }
        panic!("messages without end");
    }

    fn each_leader(&mut self, act: impl Fn(&mut R)) {
        for leader in self.leaders() {
            act(self.replica(leader));
        }
    }

    fn take(&mut self, step: &Step) {
        let mut lost_percent = 0;
        match step {
            Step::Partition(parts) => self.parts.clone_from(parts),
            Step::Elect(id) => {
                for other in self.part_of(*id) {
                    self.replica(other).silence();
                }
                // What was said before the silence is lost.
                self.replicas.values_mut().for_each(|replica| drop(replica.drain()));
                if self.members.incoming.contains(id) {
                    self.replica(*id).time_out();
                }
            }
            Step::Propose(payload, lost) => {
                // What is lost is found again by heartbeats, which leaders without a quorum do not send.
                let repaired =
                    self.leaders().into_iter().all(|leader| self.leads_by_quorum(leader));
                lost_percent = if repaired { *lost } else { 0 };
                self.each_leader(|leader| leader.propose(payload));
            }
            Step::Read(token) => self.each_leader(|leader| leader.read(*token)),
            Step::Transfer(to) => {
                let part = self.part_of(*to);
                for leader in self.leaders() {
                    let fits = leader != *to && self.members.incoming.contains(to);
                    if fits && part.contains(&leader) && self.leads_by_quorum(leader) {
                        self.replica(leader).transfer(*to);
                    }
                }
            }
            Step::Restart(id) => self.replica(*id).restart(),
            Step::Replace(remove, add) => self.replace(*remove, *add),
            Step::Rest => {}
        }
        self.settle(lost_percent);
        self.repair();
        // What a schedule begins with ends with the first commit.
        let first_commit = self.replicas.values().any(|replica| replica.view().commit > 0);
        if first_commit {
            self.members.outgoing.clear();
        }
    }

    /// Heartbeats, until what was lost is found and all know what is committed.
    fn repair(&mut self) {
        for _ in 0..4 {
            for leader in self.leaders() {
                if self.leads_by_quorum(leader) {
                    self.replica(leader).beat();
                }
            }
            self.settle(0);
        }
    }

    fn replace(&mut self, remove: u64, add: u64) {
        let [leader] = self.leaders()[..] else { return };
        let all = self.part_of(leader).len() == self.replicas.len();
        let voters = &self.members.incoming;
        let fits = voters.contains(&remove) && !voters.contains(&add) && remove != leader;
        if !all || !fits || !self.members.outgoing.is_empty() {
            return;
        }
        self.replica(leader).add_learner(add);
        self.settle(0);
        self.repair();
        self.replica(leader).swap(remove, add);
        let at = self.members.incoming.iter().position(|id| *id == remove).expect("it votes");
        self.members.incoming[at] = add;
    }
}

fn draw_step(draw: &mut Rng, ids: &[u64], token: u64) -> Step {
    let id = ids[usize::try_from(draw.below(ids.len() as u64)).expect("it is small")];
    match draw.below(20) {
        0..=3 => {
            let whole = draw.chance(1, 3);
            let part = |_| if whole { 0 } else { draw.below(2) };
            let parts: Vec<u64> = ids.iter().map(part).collect();
            Step::Partition(ids.iter().copied().zip(parts).collect())
        }
        4..=8 => Step::Elect(id),
        9..=13 => {
            let lost = if draw.chance(1, 2) { 40 } else { 0 };
            Step::Propose(token.to_le_bytes().to_vec(), lost)
        }
        14..=15 => Step::Read(token),
        16 => Step::Transfer(id),
        17..=18 => Step::Restart(id),
        _ => {
            let other = ids[usize::try_from(draw.below(ids.len() as u64)).expect("it is small")];
            if draw.chance(1, 2) { Step::Replace(id, other) } else { Step::Rest }
        }
    }
}

/// How often what was compared, so that a schedule in which nothing happens is noticed.
#[derive(Debug, Default)]
struct Met {
    elections: u64,
    joint_elections: u64,
    commits: u64,
    truncations: u64,
    reads: u64,
    reads_refused: u64,
    transfers: u64,
    swaps: u64,
}

fn compare(seed: u64, met: &mut Met) {
    let mut draw = Rng::new(seed);
    let joint = draw.chance(1, 2);
    let members = if joint {
        Members { incoming: vec![1, 2, 4], outgoing: vec![1, 2, 3] }
    } else if draw.chance(1, 2) {
        Members { incoming: vec![1, 2, 3], outgoing: Vec::new() }
    } else {
        Members { incoming: vec![1, 2, 3, 4, 5], outgoing: Vec::new() }
    };
    let ids: Vec<u64> = (1..=members.incoming.len().max(3) as u64 + 1).collect();
    let mut ours = Group::<Ours>::new(seed, &members, ids.iter().copied());
    let mut theirs = Group::<Theirs>::new(seed, &members, ids.iter().copied());
    let mut history: Vec<Step> = Vec::new();
    let mut before = ours.view();
    for token in 1..60 {
        let step = draw_step(&mut draw, &ids, token);
        history.push(step.clone());
        let was_joint = !ours.members.outgoing.is_empty();
        ours.take(&step);
        theirs.take(&step);
        let context = || format!("seed {seed}, {members:?}, after {history:#?}");
        let (mine, other) = (ours.view(), theirs.view());
        for id in &ids {
            let (mine, other) = (&mine[id], &other[id]);
            // Who was swapped out is told less here and there.
            if !ours.members.incoming.contains(id) && ours.members.outgoing.is_empty() {
                continue;
            }
            assert_eq!((mine.leads, mine.term), (other.leads, other.term), "{id}: {}", context());
            assert_eq!(mine.log, other.log, "log of {id}: {}", context());
            let led = ours.part_of(*id).into_iter().any(|leader| ours.leads_by_quorum(leader));
            if led {
                assert_eq!(mine.commit, other.commit, "commit of {id}: {}", context());
            } else {
                assert!(mine.commit <= other.commit, "commit of {id}: {}", context());
            }
            let old = &before[id];
            met.elections += u64::from(mine.leads && !old.leads);
            met.joint_elections += u64::from(mine.leads && !old.leads && was_joint);
            met.commits += mine.commit - old.commit.min(mine.commit);
            let shared = mine.log.iter().zip(&old.log).take_while(|(new, old)| new == old).count();
            met.truncations += u64::from(shared < old.log.len());
        }
        if let Step::Read(token) = step {
            for (id, replica) in &ours.replicas {
                let mine = replica.reads().iter().find(|(read, _)| *read == token);
                let other = theirs.replicas[id].reads().iter().find(|(read, _)| *read == token);
                assert_eq!(mine, other, "read at {id}: {}", context());
                met.reads += u64::from(mine.is_some());
                met.reads_refused += u64::from(mine.is_none() && before[id].leads);
            }
        }
        met.transfers +=
            u64::from(matches!(step, Step::Transfer(to) if mine[&to].leads && !before[&to].leads));
        met.swaps += u64::from(
            matches!(step, Step::Replace(_, add) if ours.members.incoming.contains(&add)),
        );
        before = mine;
    }
}

#[test]
fn both_implementations_agree_on_random_schedules() {
    let mut met = Met::default();
    for seed in 0..600 {
        compare(seed, &mut met);
    }
    println!("{met:?}");
    let counts = [
        met.elections,
        met.joint_elections,
        met.commits,
        met.truncations,
        met.reads,
        met.reads_refused,
        met.transfers,
        met.swaps,
    ];
    assert!(counts.iter().all(|count| *count >= 20), "{met:?}");
}

/// Votes and acknowledgements of four replicas, all there can be, under plain and joint majorities.
#[test]
fn quorums_are_the_same() {
    let plain = |ids: &[u64]| Members { incoming: ids.to_vec(), outgoing: Vec::new() };
    let joint =
        |new: &[u64], old: &[u64]| Members { incoming: new.to_vec(), outgoing: old.to_vec() };
    let configurations =
        [plain(&[1]), plain(&[1, 2, 3]), joint(&[1, 2, 4], &[1, 2, 3]), joint(&[4], &[1, 2, 3])];
    for members in configurations {
        let ours = members.ours();
        let mut theirs = Theirs::new(1, &members);
        for case in 0..256_u64 {
            let digit = |id: StoreId| case >> (2 * (id.0 - 1)) & 3;
            let vote = |id| match digit(id) {
                0 => None,
                1 => Some(false),
                _ => Some(true),
            };
            let voters = theirs.node.raft.prs().conf().voters();
            let expected = format!("{:?}", voters.vote_result(|id| vote(StoreId(id))));
            let tally = match ours.tally(vote) {
                Tally::Won => "Won",
                Tally::Lost => "Lost",
                Tally::Pending => "Pending",
            };
            assert_eq!(tally, expected, "{members:?}, case {case}");
            let progress = theirs.node.raft.mut_prs();
            for id in 1..=4 {
                if let Some(peer) = progress.get_mut(id) {
                    peer.matched = digit(StoreId(id));
                }
            }
            let (expected, _) = progress.maximal_committed_index();
            assert_eq!(ours.reached(digit), expected, "{members:?}, case {case}");
        }
    }
}
