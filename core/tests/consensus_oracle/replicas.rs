//! A replica of either implementation, behind one trait: what a schedule can do to it and see of it.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use raft::eraftpb as pb;
use raft::storage::MemStorage;
use raft::{RawNode, StateRole, Storage};
use trine_core::codec::Wire;
use trine_core::consensus::{
    Action, Change, Entry, EntryKind, HardState, Membership, Message, Mutants, Output, Raft,
    RaftConfig, RecoveredLog, Role,
};
use trine_core::ids::{LogIndex, StoreId, Term};
use trine_core::storage::Durable;
use trine_core::time::{Duration, Instant};

const HEARTBEAT: Duration = Duration::from_millis(50);
const ELECTION: Duration = Duration::from_millis(500);

/// Voters of the outgoing half (none: not joint), and of the incoming one.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    pub(crate) incoming: Vec<u64>,
    pub(crate) outgoing: Vec<u64>,
}

impl Members {
    pub(crate) fn is_quorum(&self, present: &BTreeSet<u64>) -> bool {
        [&self.incoming, &self.outgoing].into_iter().all(|half| {
            half.is_empty()
                || half.iter().filter(|id| present.contains(id)).count() > half.len() / 2
        })
    }

    pub(crate) fn ours(&self) -> Membership {
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
pub(crate) enum Says {
    Nothing,
    Command(Vec<u8>),
    Members,
}

/// A replica at the end of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) leads: bool,
    pub(crate) term: u64,
    pub(crate) log: Vec<(u64, Says)>,
    pub(crate) commit: u64,
}

/// A replica of either implementation. Whatever is written is durable at once.
pub(crate) trait Replica {
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

pub(crate) struct Ours {
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
            snapshot_lag: u64::MAX,
            entry_cache_bytes: 1 << 20,
            proposals_uncommitted_bytes_max: 1 << 20,
            seed: id,
            mutants: Mutants::default(),
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
pub(crate) trait OnDeadline {
    fn on_deadline_of(&mut self, now: Instant, out: &mut Output);
}

impl OnDeadline for Raft {
    fn on_deadline_of(&mut self, now: Instant, out: &mut Output) {
        self.on_deadline(now, out);
    }
}

pub(crate) struct Theirs {
    id: u64,
    pub(crate) node: RawNode<MemStorage>,
    outbox: Vec<pb::Message>,
    reads: Vec<(u64, u64)>,
}

pub(crate) const ELECTION_TICKS: usize = 10;

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
pub(crate) fn decode_change(context: &[u8]) -> pb::ConfChangeV2 {
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

pub(crate) fn small(id: u64) -> u8 {
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
