//! Three voters and spare replicas, their disks, and the messages between them: everything that the explorer moves,
//! as plain data that can be cloned.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use trine_core::codec::Wire;
use trine_core::consensus::{
    Action, Cached, Change, Entry, EntryKind, HardState, Membership, Message, MessageBody, Mutants,
    Output, Persist, Raft, RaftConfig, RecoveredLog, Role,
};
use trine_core::ids::{LogIndex, StoreId, Term};
use trine_core::storage::Durable;
use trine_core::time::{Duration, Instant};

use super::super::ghost::{Broken, Ghost};
use super::super::plain::{config, plain, says, seen, wrote};

/// Voters that the explored group begins with; they are the first replicas.
pub(super) const VOTERS: usize = 3;

/// Replicas beside them at most; at first they know of nobody.
pub(super) const SPARES_MAX: usize = 2;

/// Messages under way; beyond it the oldest is lost.
const NETWORK_MAX: usize = 24;

/// Limits that a walk runs with; small ones reach the boundaries soon.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) append_bytes: u64,
    pub(super) in_flight: usize,
    pub(super) cache_bytes: u64,
    pub(super) uncommitted_bytes: u64,
    /// Replicas beside the voters.
    pub(super) spares: usize,
}

/// What a replica's disk holds for certain.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    hard_state: HardState,
    /// Earlier hard states: damage may bring one back.
    older: Vec<HardState>,
    base: LogIndex,
    base_term: Term,
    base_members: Membership,
    log: Vec<Entry>,
    applied: LogIndex,
    suspect: u64,
}

/// What is being written, in order.
#[derive(Clone, Debug)]
enum Pending {
    Persist(Persist),
    Install { last_index: LogIndex, last_term: Term, membership: Membership },
    Trusted,
}

/// One replica with what surrounds it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// `None` while it is down.
    pub(super) raft: Option<Raft>,
    disk: Disk,
    pending: VecDeque<Pending>,
    /// Reads of the journal: for whom, from where, and what stood there when it was asked.
    pub(super) fetches: VecDeque<(StoreId, LogIndex, Vec<Entry>)>,
    applied: LogIndex,
    life: u64,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) network: Vec<Message>,
    pub(super) ghost: Ghost,
    /// Links that are cut, the lower replica first: what is sent over them is lost.
    cut: BTreeSet<(usize, usize)>,
    pub(super) now: Instant,
    limits: Limits,
    /// What replicas do wrong.
    mutants: Mutants,
    seed: u64,
    next_payload: u64,
    next_token: u64,
}

/// How a crash treats what was not synced, and what was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Damage {
    /// So many writes under way made it.
    pub(super) writes_kept: usize,
    /// So many entries of the next one, too.
    pub(super) entries_kept: usize,
    /// The disk rots: so many entries are cut from the end, which recovery notices.
    pub(super) cut: Option<usize>,
    /// With it, an older hard state comes back.
    pub(super) forget_state: bool,
    /// The disk is replaced by an empty one.
    pub(super) wipe: bool,
}

/// What a link between two replicas is called.
fn link(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

pub(super) fn store(node: usize) -> StoreId {
    StoreId(node as u64 + 1)
}

pub(super) fn place(id: StoreId) -> usize {
    usize::try_from(id.0).expect("explored ids are small") - 1
}

/// What a replica knows before it has a log.
fn first_members(node: usize) -> Membership {
    if node < VOTERS {
        Membership::of((0..VOTERS).map(store).collect())
    } else {
        Membership::default()
    }
}

impl Disk {
    fn last_index(&self) -> LogIndex {
        LogIndex(self.base.0 + self.log.len() as u64)
    }

    fn write(&mut self, persist: &Persist) {
        if let Some(state) = persist.hard_state {
            self.older.push(core::mem::replace(&mut self.hard_state, state));
        }
        for entry in &persist.entries {
            let keep = entry.index.0 - self.base.0 - 1;
            self.log.truncate(usize::try_from(keep).expect("explored logs are short"));
            self.log.push(entry.clone());
        }
    }

    fn recovered(&self) -> RecoveredLog {
        let mut terms: Vec<(LogIndex, Term)> = Vec::new();
        for entry in &self.log {
            if terms.last().is_none_or(|(_, term)| *term != entry.term) {
                terms.push((entry.index, entry.term));
            }
        }
        let mut memberships = vec![(self.base, self.base_members.clone())];
        for entry in self.log.iter().filter(|entry| entry.kind == EntryKind::Membership) {
            let membership = Membership::from_bytes(&entry.payload);
            memberships.push((entry.index, membership.expect("an explored disk does not lie")));
        }
        RecoveredLog {
            memberships,
            hard_state: self.hard_state,
            base_index: self.base,
            base_term: self.base_term,
            terms,
            last_index: self.last_index(),
            committed: self.applied,
            suspect: self.suspect,
        }
    }
}

impl World {
    pub(super) fn new(limits: Limits, mutants: Mutants, seed: u64) -> Self {
        let node = |node| Node {
            raft: None,
            disk: Disk { base_members: first_members(node), ..Disk::default() },
            pending: VecDeque::new(),
            fetches: VecDeque::new(),
            applied: LogIndex(0),
            life: 0,
        };
        let mut world = Self {
            nodes: (0..VOTERS + limits.spares).map(node).collect(),
            network: Vec::new(),
            ghost: Ghost::new(VOTERS),
            cut: BTreeSet::new(),
            now: Instant::ZERO,
            limits,
            mutants,
            seed,
            next_payload: 0,
            next_token: 0,
        };
        for node in 0..world.nodes.len() {
            world.restart(node).expect("nothing is broken before the first step");
        }
        world
    }

    /// A number that is equal for worlds that will behave alike.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{:?}{:?}{:?}{:?}{}", self.nodes, self.network, self.ghost, self.cut, self.now)
            .hash(&mut hasher);
        hasher.finish()
    }

    /// Whether a replica's log is in doubt, on disk or in memory.
    pub(super) fn is_suspect(&self, node: usize) -> bool {
        self.nodes[node].disk.suspect != 0
    }

    /// Whether a message under way is an append with entries.
    pub(super) fn carries_entries(&self, message: usize) -> bool {
        matches!(&self.network[message].body,
            MessageBody::Append { entries, .. } if !entries.is_empty())
    }

    /// Writes under way at a replica.
    pub(super) fn writes(&self, node: usize) -> usize {
        self.nodes[node].pending.len()
    }

    pub(super) fn leads(&self, node: usize) -> bool {
        self.nodes[node].raft.as_ref().is_some_and(|raft| raft.role() == Role::Leader)
    }

    /// Call a replica that is up and carry out all that it wants.
    pub(super) fn call(
        &mut self,
        node: usize,
        call: impl FnOnce(&mut Raft, Instant, &mut Output),
    ) -> Result<(), Broken> {
        self.act(node, call)?;
        let Some(raft) = &self.nodes[node].raft else { return Ok(()) };
        self.ghost.goes_by(store(node).0, &config(raft.membership()))
    }

    /// As above, perhaps in answer to an action, with others left to be carried out.
    fn act(
        &mut self,
        node: usize,
        call: impl FnOnce(&mut Raft, Instant, &mut Output),
    ) -> Result<(), Broken> {
        let mut out = Output::new();
        let Some(raft) = &mut self.nodes[node].raft else { return Ok(()) };
        call(raft, self.now, &mut out);
        raft.check();
        let actions: Vec<Action> = out.drain().collect();
        for action in actions {
            self.carry_out(node, action)?;
        }
        let Some(raft) = &self.nodes[node].raft else { return Ok(()) };
        let (id, term, commit) = (store(node).0, raft.term().0, raft.commit().0);
        self.ghost.commits(id, term, commit)
    }

    fn carry_out(&mut self, node: usize, action: Action) -> Result<(), Broken> {
        let id = store(node).0;
        match action {
            Action::Send(message) => self.send(message)?,
            Action::Persist(persist) => {
                wrote(&mut self.ghost, id, persist.hard_state, &persist.entries)?;
                self.nodes[node].pending.push_back(Pending::Persist(persist));
            }
            Action::Commit(index) => {
                if index > self.nodes[node].disk.last_index() {
                    return Err(format!("{id} is told to apply {index}, which is not durable"));
                }
                self.nodes[node].applied = self.nodes[node].applied.max(index);
                return self.act(node, |raft, _, _| {
                    if let Cached::Entries(entries) = raft.entries(index, index, 0) {
                        assert_eq!(
                            raft.term_at(index),
                            Some(entries[0].term),
                            "cache and terms agree"
                        );
                    }
                    raft.applied(index);
                });
            }
            Action::ReadReady { token, index } => self.ghost.read_ready(id, token, index.0)?,
            Action::ReadLost { token } => self.ghost.read_lost(id, token)?,
            Action::Fetch { peer, from, .. } => {
                let Node { disk, fetches, .. } = &mut self.nodes[node];
                let at = disk.log.iter().position(|entry| entry.index == from);
                let entries = at.map_or_else(Vec::new, |at| vec![disk.log[at].clone()]);
                fetches.push_back((peer, from, entries));
            }
            Action::Role { role: Role::Leader, term, .. } => self.ghost.leads(id, term.0)?,
            Action::Role { .. } => {}
            Action::NeedSnapshot { peer } => {
                let Node { raft: Some(raft), disk, applied, .. } = &mut self.nodes[node] else {
                    return Ok(());
                };
                if raft.membership_at(disk.applied).is_none_or(|known| !known.is_known()) {
                    // A state that nobody can use: there is a newer one.
                    disk.applied = disk.applied.max(*applied);
                }
                let index = disk.applied;
                if let Some(term) = raft.term_at(index) {
                    return self.act(node, |raft, now, out| {
                        raft.snapshot(now, peer, index, term, Bytes::new(), out);
                    });
                }
            }
            Action::InstallSnapshot { last_index, last_term, membership, .. } => {
                let install = Pending::Install { last_index, last_term, membership };
                self.nodes[node].pending.push_back(install);
            }
            Action::Trusted => self.nodes[node].pending.push_back(Pending::Trusted),
            Action::Poisoned(why) => return Err(format!("{id} is poisoned: {why}")),
        }
        Ok(())
    }

    fn send(&mut self, message: Message) -> Result<(), Broken> {
        says(&self.ghost, message.from.0, &message)?;
        if self.cut.contains(&link(place(message.from), place(message.to))) {
            return Ok(());
        }
        if self.network.len() == NETWORK_MAX {
            self.network.remove(0);
        }
        self.network.push(message);
        Ok(())
    }

    pub(super) fn deliver(&mut self, message: usize, keep: bool) -> Result<(), Broken> {
        let message =
            if keep { self.network[message].clone() } else { self.network.remove(message) };
        self.call(place(message.to), |raft, now, out| raft.step(now, message, out))
    }

    /// The oldest write of a replica becomes durable.
    pub(super) fn finish_write(&mut self, node: usize) -> Result<(), Broken> {
        let Some(done) = self.nodes[node].pending.pop_front() else { return Ok(()) };
        self.make_durable(node, &done)?;
        match done {
            Pending::Persist(Persist { seq, then, .. }) => {
                for message in then {
                    self.send(message)?;
                }
                self.call(node, |raft, now, out| raft.persisted(now, seq, Durable::for_test(), out))
            }
            Pending::Install { last_index, .. } => {
                self.nodes[node].applied = last_index;
                self.call(node, |raft, now, out| {
                    raft.snapshot_installed(now, Durable::for_test(), out);
                })
            }
            Pending::Trusted => Ok(()),
        }
    }

    fn make_durable(&mut self, node: usize, write: &Pending) -> Result<(), Broken> {
        let id = store(node).0;
        let disk = &mut self.nodes[node].disk;
        match write {
            Pending::Persist(persist) => {
                disk.write(persist);
                let entries: Vec<_> = persist.entries.iter().map(seen).collect();
                self.ghost.durable(id, persist.hard_state.map(plain), &entries);
            }
            Pending::Install { last_index, last_term, membership } => {
                (disk.base, disk.base_term, disk.applied) = (*last_index, *last_term, *last_index);
                disk.base_members.clone_from(membership);
                disk.log.clear();
                self.ghost.installed(id, last_index.0, &config(membership))?;
            }
            Pending::Trusted => disk.suspect = 0,
        }
        Ok(())
    }

    /// Who is due next, or `only` if it waits for anything.
    pub(super) fn next_due(&self, only: Option<usize>) -> Option<usize> {
        let due = |node: &usize| {
            self.nodes[*node].raft.as_ref().and_then(Raft::deadline).map(|deadline| deadline.at)
        };
        (0..self.nodes.len())
            .filter(|node| only.is_none_or(|only| only == *node) && due(node).is_some())
            .min_by_key(due)
    }

    pub(super) fn deadline(&mut self, node: usize) -> Result<(), Broken> {
        let due = self.nodes[node].raft.as_ref().and_then(Raft::deadline);
        let Some(due) = due else { return Ok(()) };
        self.now = self.now.max(due.at);
        self.call(node, |raft, now, out| raft.on_deadline(now, out))
    }

    pub(super) fn propose(&mut self, node: usize) -> Result<(), Broken> {
        self.next_payload += 1;
        let payload = Bytes::copy_from_slice(&self.next_payload.to_le_bytes());
        self.call(node, |raft, now, out| {
            // A refusal is an answer too.
            let _ = raft.propose(now, vec![payload], out);
        })
    }

    pub(super) fn read(&mut self, node: usize) -> Result<(), Broken> {
        if !self.leads(node) {
            return Ok(());
        }
        self.next_token += 1;
        let token = self.next_token;
        self.ghost.read_asked(store(node).0, token);
        self.call(node, |raft, now, out| raft.read_index(now, token, out).expect("it leads"))
    }

    /// The journal answers the oldest fetch.
    pub(super) fn finish_fetch(&mut self, node: usize) -> Result<(), Broken> {
        let fetch = self.nodes[node].fetches.pop_front();
        let Some((peer, from, entries)) = fetch else { return Ok(()) };
        self.call(node, |raft, now, out| raft.fetched(now, peer, from, entries, out))
    }

    /// The state machine makes durable what it has applied, and with `compact` cuts the log there.
    pub(super) fn checkpoint(&mut self, node: usize, compact: bool) -> Result<(), Broken> {
        let Node { raft: Some(raft), disk, applied, pending, .. } = &mut self.nodes[node] else {
            return Ok(());
        };
        if pending.iter().any(|write| matches!(write, Pending::Install { .. })) {
            return Ok(());
        }
        disk.applied = disk.applied.max(*applied);
        // A damaged log may end before what the state machine has applied.
        let through = disk.applied;
        if let Some(term) = raft.term_at(through)
            && compact
            && through <= disk.last_index()
            && through > disk.base
            && raft.commit() >= through
            && !raft.is_suspect()
        {
            let membership = raft.membership_at(through).expect("within the log");
            disk.base_members.clone_from(membership);
            raft.compacted(through);
            raft.check();
            let cut = usize::try_from(through.0 - disk.base.0).expect("explored logs are short");
            disk.log.drain(..cut);
            (disk.base, disk.base_term) = (through, term);
        }
        Ok(())
    }

    /// A link is cut or mended, and with `told` both sides hear of it.
    pub(super) fn link(&mut self, a: usize, b: usize, up: bool, told: bool) -> Result<(), Broken> {
        if up {
            self.cut.remove(&link(a, b));
        } else {
            self.cut.insert(link(a, b));
        }
        if !told {
            return Ok(());
        }
        for (node, peer) in [(a, b), (b, a)] {
            self.call(node, |raft, now, out| {
                if up {
                    raft.link_up(now, store(peer), out);
                } else {
                    raft.link_down(now, store(peer), out);
                }
            })?;
        }
        Ok(())
    }

    pub(super) fn transfer(&mut self, node: usize, to: usize) -> Result<(), Broken> {
        self.call(node, |raft, now, out| raft.transfer(now, store(to), out))
    }

    /// A change of membership is asked for; most are refused, which is an answer too.
    pub(super) fn change(&mut self, node: usize, change: Change) -> Result<(), Broken> {
        self.call(node, |raft, now, out| {
            let _ = raft.propose_change(now, change, out);
        })
    }

    /// What a replica goes by.
    pub(super) fn membership(&self, node: usize) -> Membership {
        self.nodes[node].raft.as_ref().map(|raft| raft.membership().clone()).unwrap_or_default()
    }

    /// Whether a replica is installing a snapshot.
    pub(super) fn is_installing(&self, node: usize) -> bool {
        self.nodes[node].pending.iter().any(|write| matches!(write, Pending::Install { .. }))
    }

    /// A replica gives up the snapshot that it is installing.
    pub(super) fn give_up_install(&mut self, node: usize) -> Result<(), Broken> {
        let pending = &mut self.nodes[node].pending;
        pending.retain(|write| !matches!(write, Pending::Install { .. }));
        self.call(node, Raft::snapshot_failed)
    }

    /// Bounds of time change.
    pub(super) fn retime(&mut self, node: usize, heartbeat_ms: u64) -> Result<(), Broken> {
        let heartbeat = Duration::from_millis(heartbeat_ms);
        let election = Duration::from_millis(heartbeat_ms * 10);
        self.call(node, |raft, now, _| raft.set_timing(now, heartbeat, election))
    }

    pub(super) fn crash(&mut self, node: usize, damage: Damage) -> Result<(), Broken> {
        self.nodes[node].raft = None;
        self.nodes[node].fetches.clear();
        let mut pending = core::mem::take(&mut self.nodes[node].pending);
        for _ in 0..damage.writes_kept {
            if let Some(write) = pending.pop_front() {
                self.make_durable(node, &write)?;
            }
        }
        if let Some(Pending::Persist(torn)) = pending.pop_front() {
            let kept = torn.entries.len().min(damage.entries_kept);
            let entries = torn.entries[..kept].to_vec();
            let torn = Persist { hard_state: None, entries, then: Vec::new(), ..torn };
            self.make_durable(node, &Pending::Persist(torn))?;
        }
        let Node { disk, life, applied, .. } = &mut self.nodes[node];
        if damage.wipe {
            *disk =
                Disk { base_members: first_members(node), suspect: *life + 1, ..Disk::default() };
            *applied = LogIndex(0);
            return self.ghost.salvaged(store(node).0, (0, None), &[]);
        }
        if let Some(cut) = damage.cut {
            let keep = disk.log.len().saturating_sub(cut);
            disk.log.truncate(keep);
            disk.suspect = *life + 1;
            if damage.forget_state {
                disk.hard_state = disk.older.pop().unwrap_or_default();
            }
        } else if disk.suspect != 0 {
            disk.suspect = *life + 1;
        }
        *applied = disk.applied;
        let (state, last) = (plain(disk.hard_state), disk.last_index().0);
        self.ghost.recovered(store(node).0, state, last, damage.cut.is_some())
    }

    pub(super) fn restart(&mut self, node: usize) -> Result<(), Broken> {
        let (limits, mutants, seed) = (self.limits, self.mutants, self.seed);
        let Node { raft, disk, life, .. } = &mut self.nodes[node];
        if raft.is_some() {
            return Ok(());
        }
        *life += 1;
        let config = RaftConfig {
            id: store(node),
            heartbeat: Duration::from_millis(10),
            election: Duration::from_millis(100),
            append_bytes_max: limits.append_bytes,
            appends_in_flight_max: limits.in_flight,
            snapshot_lag: u64::MAX,
            entry_cache_bytes: limits.cache_bytes,
            proposals_uncommitted_bytes_max: limits.uncommitted_bytes,
            seed: seed ^ (node as u64 + 1) ^ (*life << 8),
            mutants,
        };
        *raft = Some(Raft::new(config, disk.recovered(), self.now));
        self.call(node, |_, _, _| {})
    }
}
