//! A store at work: it hands each event to the part that it concerns.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::chunks::Chunks;
use super::directory::Holder;
use super::founding::Founding;
use super::gate::Gate;
use super::hello::{OwnLife, Peers};
use super::observe::{Observation, Observer, needs_durable_state};
use super::proving::Proofs;
use super::pulse::Pulse;
use super::reclaim::{RECLAIM_OPS, Reclaim};
use super::repair::{REPAIR_OPS, Repair};
use super::replica::Replica;
use super::scrub::{SCRUB_OP, Scrub};
use super::truncation::is_long;
use crate::cluster::{ClusterMap, ROOT_RANGE, StoreConfig};
use crate::consensus::MessageBody;
use crate::directory::Directory;
use crate::disk::Room;
use crate::effects::{Effect, Effects, Now, StoreEvent};
use crate::ids::{CallId, Endpoint, Incarnation, RangeId, StoreId};
use crate::message::{self, ChunkError, Envelope, Message};
use crate::range::Range;
use crate::storage::{
    JournalRoom, JournalTicket, Opened, OpenedRange, Record, Storage, StorageEvent,
};
use crate::time::{Deadline, Duration, Instant, WallTime};

/// Giving space back is looked after so often...
const HOUSEKEEP_EVERY: Duration = Duration::from_millis(100);
/// ...or so often, while it has something to do.
const HOUSEKEEP_SOON: Duration = Duration::from_millis(1);

/// A store at work.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) host: Host,
    pub(super) replicas: BTreeMap<RangeId, Replica>,
    pub(super) chunks: Chunks,
    /// Ranges whose replicas were given up in this life.
    dropped: BTreeSet<RangeId>,
    pub(super) gate: Gate,
    pub(super) repair: Repair,
    pub(super) reclaim: Reclaim,
    pub(super) scrub: Scrub,
    /// When giving space back is looked after next.
    housekeep_at: Instant,
    /// Which stores have everything by the map that stands.
    pub(super) proofs: Proofs,
    /// Whether there is a cluster yet, as far as a first voter's disk knows.
    pub(super) founding: Founding,
    /// The disk was set back: the store stops, for this reason, when this is in the journal.
    pub(super) distrust: Option<(JournalTicket, String)>,
}

/// What the replicas of a store share.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) config: StoreConfig,
    pub(super) incarnation: Incarnation,
    /// The disk was distrusted once: what it held of ranges that it does not name may be lost.
    doubted: bool,
    pub(super) storage: Box<Storage>,
    /// What the peers' wall clocks were last heard to say.
    pub(super) peer_clocks: BTreeMap<StoreId, WallTime>,
    /// Who the peers are, and how far they were heard to be.
    pub(super) peers: Peers,
    /// What the root range says of map and sessions.
    pub(super) directory: Holder,
    /// What is measured of the peers and of this store.
    pub(super) pulse: Pulse,
    /// What an onlooker may see.
    pub(super) observer: Observer,
    /// Consensus messages of this step, sent together: one message per peer.
    outbox: BTreeMap<StoreId, Vec<(RangeId, crate::consensus::Message)>>,
    /// What parts of this store say to others of its parts.
    inbox: VecDeque<Message>,
}

impl Host {
    /// Names the `number`th call of its kind: answers to an earlier life must not fit.
    pub(super) fn call_id(&self, number: u64) -> CallId {
        CallId(self.incarnation.0 << 32 | number & 0xffff_ffff)
    }

    /// Queue a consensus message; it leaves at the end of the step.
    pub(super) fn post(&mut self, range: RangeId, message: crate::consensus::Message) {
        if needs_durable_state(&message) {
            self.observer.note(range, || Observation::Says(message.clone()));
        }
        self.outbox.entry(message.to).or_default().push((range, message));
    }

    /// The cluster map that stands, as far as this store knows.
    pub(super) fn map(&self) -> &ClusterMap {
        self.directory.map()
    }

    /// Send a message now.
    pub(super) fn send(&self, to: Endpoint, message: Message, fx: &mut Effects) {
        let from = Endpoint::Store(self.config.store);
        fx.send(Envelope { from, to, message });
    }

    /// Send a message to a store, which may be this one: then it is heard in this step.
    pub(super) fn tell(&mut self, to: StoreId, message: Message, fx: &mut Effects) {
        match to == self.config.store {
            true => self.inbox.push_back(message),
            false => self.send(Endpoint::Store(to), message, fx),
        }
    }

    /// For what there is room, in the journal and on the disk. The quarter of the journal's reserve
    /// that deletes may have is well above what followers keep back.
    pub(super) fn room(&self) -> Room {
        if planted!(ReserveIgnored) {
            return Room::Data;
        }
        let reserve = self.config.limits.journal_reserve;
        let journal = match self.storage.journal_free() {
            free if free < reserve / 4 * 3 => Room::Housekeeping,
            free if free < reserve => Room::Deletes,
            _ => Room::Data,
        };
        journal.min(self.storage.room())
    }

    /// Whether even the leader's entries find no place: what is left is for terms and votes, and for memtables that
    /// are written out and checkpoints, which alone give the journal's space back. A disk that takes its time over
    /// one write may hold these up while all else goes on. The leader refuses new data by its own journal, which may
    /// have more room than this one.
    pub(super) fn takes_no_entries(&self) -> bool {
        let reserve = self.config.limits.journal_reserve / 2;
        self.storage.journal_free() < reserve && !planted!(ReserveIgnored)
    }

    /// The highest time that the clocks of two voters have reached, as far as we have heard.
    pub(super) fn agreed_clock(&self, now: Now) -> WallTime {
        let (mut first, mut second) = (now.wall, None);
        for clock in self.peer_clocks.values().copied() {
            second = second.max(Some(clock.min(first)));
            first = first.max(clock);
        }
        // With one voter only its own clock counts.
        second.unwrap_or(now.wall)
    }

    fn flush_outbox(&mut self, now: Now, fx: &mut Effects) {
        for (peer, messages) in core::mem::take(&mut self.outbox) {
            let message = Message::Consensus { wall: now.wall, messages };
            self.send(Endpoint::Store(peer), message, fx);
        }
    }
}

impl Serving {
    pub(super) fn new(
        now: Now,
        mut config: StoreConfig,
        storage: Box<Storage>,
        mut opened: Opened,
        fx: &mut Effects,
    ) -> Result<Self, String> {
        if buggify!(EarlySnapshot) {
            config.limits.snapshot_lag = config.limits.snapshot_lag.min(8);
        }
        let own = OwnLife {
            incarnation: opened.incarnation,
            nonce: config.seed,
            lives: core::mem::take(&mut opened.lives),
            began: storage.synced_position(),
            doubted: opened.doubted,
        };
        let mut host = Host {
            incarnation: opened.incarnation,
            doubted: opened.doubted > Incarnation(0),
            storage,
            peer_clocks: BTreeMap::new(),
            peers: Peers::new(own, *opened.peers, now.instant, config.seed ^ 1),
            directory: Holder::new(config.map.clone(), now.instant, config.seed ^ 2),
            pulse: Pulse::default(),
            observer: Observer::default(),
            outbox: BTreeMap::new(),
            inbox: VecDeque::new(),
            config,
        };
        let mut replicas = BTreeMap::new();
        let recovered = opened.ranges.remove(&ROOT_RANGE);
        let has_promised = recovered.as_ref().is_some_and(OpenedRange::has_promised);
        let (birth, founders) = (opened.birth, opened.founders);
        let suspect = recovered.as_ref().is_some_and(|range| range.suspect != 0);
        let distrusted = [host.doubted, suspect];
        let founding = Founding::new(&host.config, birth, founders, has_promised, distrusted)?;
        if !founding.is_blank() && (recovered.is_some() || founding.is_founder()) {
            let recovered = recovered.unwrap_or_default();
            let mut replica = Replica::new(now, ROOT_RANGE, &mut host, recovered);
            replica.start(now, &mut host, fx)?;
            replicas.insert(ROOT_RANGE, replica);
        }
        for note in opened.notes {
            fx.push(Effect::Note(note));
        }
        let gate = Gate::new(host.config.limits.chunk_bytes_max / 4);
        let scrub_every = host.config.timing.scrub_every;
        let mut serving = Self {
            host,
            replicas,
            chunks: Chunks::default(),
            dropped: BTreeSet::new(),
            gate,
            repair: Repair::default(),
            reclaim: Reclaim::default(),
            scrub: Scrub::new(now, opened.scrub, scrub_every),
            housekeep_at: now.instant,
            proofs: Proofs::default(),
            founding,
            distrust: None,
        };
        serving.look_for_cluster(now, fx)?;
        serving.beat(now, fx)?;
        serving.end_step(now, fx)?;
        Ok(serving)
    }

    /// Say hello to a peer; `wanted` asks for its own.
    pub(super) fn greet(&mut self, now: Now, peer: Endpoint, wanted: bool, fx: &mut Effects) {
        let beginning = self.founding.statement(self.replicas.contains_key(&ROOT_RANGE));
        let Host { config, peers, storage, .. } = &mut self.host;
        let synced = storage.synced_position();
        let hello = peers.hello(now.instant, config, synced, peer, wanted, beginning);
        self.host.send(peer, Message::Hello(hello), fx);
    }

    /// Take one event.
    ///
    /// # Errors
    /// Why the store must halt.
    pub(super) fn step(
        &mut self,
        now: Now,
        event: StoreEvent,
        fx: &mut Effects,
    ) -> Result<(), String> {
        self.host.observer.clear();
        if self.distrust.is_some() {
            return self.step_distrusting(event, fx);
        }
        match event {
            StoreEvent::Start => {}
            StoreEvent::Deadline => {
                for replica in self.replicas.values_mut() {
                    replica.on_deadline(now, &mut self.host, fx)?;
                }
                if self.host.pulse.ping_at.is_some_and(|at| at <= now.instant) {
                    self.beat(now, fx)?;
                }
            }
            StoreEvent::Message(envelope) => self.on_message(now, envelope, fx)?,
            StoreEvent::LinkUp(peer) => {
                self.greet(now, peer, false, fx);
                self.link_changed(now, peer, true, fx)?;
            }
            StoreEvent::LinkDown(peer) => self.link_changed(now, peer, false, fx)?,
            StoreEvent::Disk { token, result } => {
                self.host.storage.on_disk(token, &result, fx);
            }
        }
        self.end_step(now, fx)
    }

    /// All that is still done is to note in the journal that the disk is not what it was.
    fn step_distrusting(&mut self, event: StoreEvent, fx: &mut Effects) -> Result<(), String> {
        if let StoreEvent::Disk { token, result } = event {
            self.host.storage.on_disk(token, &result, fx);
        }
        self.host.storage.pump(fx);
        while let Some(event) = self.host.storage.next_event() {
            match (event, &self.distrust) {
                (StorageEvent::Halt(reason), _) => return Err(reason),
                (StorageEvent::Durable(through, _), Some((ticket, reason)))
                    if through >= *ticket =>
                {
                    return Err(reason.clone());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn link_changed(
        &mut self,
        now: Now,
        peer: Endpoint,
        stands: bool,
        fx: &mut Effects,
    ) -> Result<(), String> {
        if let Endpoint::Store(peer) = peer {
            self.host.peers.link_changed(Endpoint::Store(peer));
            self.host.pulse.link_changed(peer, stands);
            for replica in self.replicas.values_mut() {
                replica.link_changed(now, peer, stands, &mut self.host, fx)?;
            }
            self.repair.link_changed(now, peer, stands, &mut self.host, fx);
        }
        Ok(())
    }

    /// Ping the peers, and look at what has been measured.
    fn beat(&mut self, now: Now, fx: &mut Effects) -> Result<(), String> {
        let own = self.host.config.store;
        let replicas = self.replicas.values();
        let peers: BTreeSet<StoreId> = replicas
            .clone()
            .flat_map(Replica::members)
            .chain(self.founding.others_to_come())
            .filter(|peer| *peer != own)
            .collect();
        let in_hand = replicas.map(|replica| replica.in_hand(now)).max().unwrap_or_default();
        let timing = self.host.config.timing;
        self.host.pulse.full = self.host.room() < Room::Data;
        let due = self.host.pulse.beat(now.instant, &timing, peers.into_iter(), in_hand);
        let vitals = self.host.pulse.vitals(&timing);
        for peer in due {
            let pulse = message::Pulse { sent: now.instant, vitals };
            self.host.send(Endpoint::Store(peer), Message::Ping(pulse), fx);
        }
        for replica in self.replicas.values_mut() {
            replica.follow_pulse(now, &self.host);
            replica.hand_over_if_slow(now, &mut self.host, fx)?;
            replica.hand_over_if_full(now, &mut self.host, fx)?;
        }
        Ok(())
    }

    pub(super) fn on_pulse(
        &mut self,
        now: Now,
        from: Endpoint,
        message: Message,
        fx: &mut Effects,
    ) {
        let Endpoint::Store(peer) = from else { return };
        match message {
            Message::Ping(pulse) => {
                self.host.pulse.told(now.instant, peer, pulse.vitals);
                let vitals = self.host.pulse.vitals(&self.host.config.timing);
                let pulse = message::Pulse { sent: pulse.sent, vitals };
                self.host.send(from, Message::Pong(pulse), fx);
            }
            Message::Pong(pulse) => {
                self.host.pulse.answered(now.instant, peer, pulse.sent);
                self.host.pulse.told(now.instant, peer, pulse.vitals);
            }
            _ => {}
        }
        for replica in self.replicas.values_mut() {
            replica.follow_pulse(now, &self.host);
        }
    }

    /// Whatever the event was: hear what storage has to say, apply and propose, start what can be
    /// started. What is started here may be done at once (a block that is in memory, a call that is
    /// refused), so that storage is heard until it is silent.
    fn end_step(&mut self, now: Now, fx: &mut Effects) -> Result<(), String> {
        if self.distrust.is_some() {
            // Nothing that this step would say may be said any more.
            self.host.outbox.clear();
            self.host.storage.pump(fx);
            return Ok(());
        }
        self.on_time(now, fx);
        loop {
            while let Some(event) = self.host.storage.next_event() {
                self.on_storage(now, event, fx)?;
            }
            for replica in self.replicas.values_mut() {
                replica.advance(now, &mut self.host, fx)?;
            }
            self.hear_replicas(now, fx);
            self.repair.drive(now, &mut self.host, fx);
            let leader = self.replicas.get(&ROOT_RANGE).and_then(|root| root.raft.leader());
            let parts = (&mut self.repair, &self.chunks);
            self.reclaim.drive(now, leader, parts, &mut self.host, fx);
            self.scrub.drive(now, &mut self.host, fx);
            self.housekeep(now, fx);
            self.host.storage.pump(fx);
            let own = self.host.config.store;
            let said = self.host.inbox.pop_front();
            match (said, self.host.storage.next_event()) {
                (None, None) => break,
                (said, event) => {
                    if let Some(message) = said {
                        self.on_blobs(now, own, message, fx)?;
                    }
                    if let Some(event) = event {
                        self.on_storage(now, event, fx)?;
                    }
                }
            }
        }
        self.drop_retired(fx);
        self.shorten_journal(fx);
        self.host.flush_outbox(now, fx);
        Ok(())
    }

    /// See that space is given back.
    fn housekeep(&mut self, now: Now, fx: &mut Effects) {
        if self.housekeep_at <= now.instant {
            self.host.storage.housekeep(fx);
            let pause = match self.host.storage.wants_housekeeping() {
                true => HOUSEKEEP_SOON,
                false => HOUSEKEEP_EVERY,
            };
            self.housekeep_at = now.instant + pause;
        }
    }

    /// Give up what is not needed of the journal, once it has become long.
    fn shorten_journal(&mut self, fx: &mut Effects) {
        let nearly_full =
            self.host.storage.journal_free() < self.host.config.limits.journal_reserve / 4;
        self.host.storage.spare_journal(self.host.takes_no_entries(), nearly_full);
        let is_due = |room: &JournalRoom| is_long(*room) || buggify!(EarlyCheckpoint, hot);
        let Some(room) = self.host.storage.journal_room().filter(is_due) else { return };
        for replica in self.replicas.values_mut() {
            replica.give_up_entries(room, &mut self.host, fx);
        }
        self.host.storage.shorten_journal(fx);
        self.host.storage.pump(fx);
    }

    /// Hellos, questions for the directory, and calls that have waited for it long enough.
    fn on_time(&mut self, now: Now, fx: &mut Effects) {
        let own = self.host.config.store;
        let Host { peers, directory, .. } = &mut self.host;
        for (peer, wanted) in peers.due(now.instant, own, directory.map()) {
            self.greet(now, peer, wanted, fx);
        }
        for replica in self.replicas.values_mut() {
            replica.settle(now.instant, own, &self.host.peers);
        }
        for (from, call) in self.gate.expired(now.instant) {
            probe!(CallExpired);
            Chunks::refuse(from, &call, ChunkError::Overloaded, &self.host, fx);
        }
        if !self.gate.is_empty() {
            self.host.directory.want_newer();
        }
        self.prove_map(now, fx);
        let Host { peers, directory, .. } = &mut self.host;
        let have = directory.version();
        for store in directory.due(now.instant, own, peers.stores()) {
            self.host.send(Endpoint::Store(store), Message::DirectoryAsk { have }, fx);
        }
    }

    /// A voter's own replica feeds its store.
    fn hear_replicas(&mut self, now: Now, fx: &mut Effects) {
        let replica = self.replicas.get(&ROOT_RANGE);
        if let Some(news) = replica.and_then(|replica| replica.news_of_directory(&self.host)) {
            self.take_directory(now, news, fx);
        }
    }

    pub(super) fn take_directory(&mut self, now: Now, directory: Directory, fx: &mut Effects) {
        if self.host.directory.take(directory) {
            let level = self.host.map().level;
            self.host.peers.level_is(level);
            for (until, from, call) in self.gate.release() {
                self.on_chunk_call(now, until, from, call, fx);
            }
        }
    }

    /// Whether a store may have a say: by the map of the configuration, the maps that are applied here,
    /// or the configurations of consensus.
    pub(super) fn knows(&self, peer: StoreId) -> bool {
        let fills_a_slot = |map: &ClusterMap| map.stores().any(|(_, store)| store == peer);
        fills_a_slot(&self.host.config.map)
            || fills_a_slot(self.host.map())
            || self.replicas.values().any(|replica| {
                replica.raft.membership().members().any(|member| member == peer)
                    || replica.machine.range().and_then(Range::map).is_some_and(fills_a_slot)
            })
    }

    /// A leader speaks of a range that this store has no replica of: it begins an empty one, which
    /// knows of no voters, and so never campaigns.
    pub(super) fn replica_on_demand(
        &mut self,
        now: Now,
        range: RangeId,
        message: &crate::consensus::Message,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let from_leader = matches!(
            message.body,
            MessageBody::Append { .. }
                | MessageBody::Heartbeat { .. }
                | MessageBody::Snapshot { .. }
        );
        let own = self.host.config.store;
        let retired = self.host.map().retired.contains(&own) || self.dropped.contains(&range);
        let retired = retired || self.founding.is_blank();
        if range != ROOT_RANGE || !from_leader || retired {
            return Ok(());
        }
        probe!(ReplicaOnDemand);
        let mut opened = OpenedRange::default();
        if self.host.doubted {
            // The journal was damaged, and what it said of this range may be lost.
            let number = self.host.incarnation.0;
            opened.suspect = number;
            self.host.storage.append(Record::Suspect { range, number });
        }
        fx.push(Effect::Note(format!("{range}: {} asks for a replica here", message.from)));
        self.add_replica(now, range, opened, fx)
    }

    pub(super) fn add_replica(
        &mut self,
        now: Now,
        range: RangeId,
        opened: OpenedRange,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let mut replica = Replica::new(now, range, &mut self.host, opened);
        replica.start(now, &mut self.host, fx)?;
        self.replicas.insert(range, replica);
        Ok(())
    }

    /// Replicas of which this store is no member any more, for it was replaced. Their rows and logs
    /// stay on the disk, as garbage.
    fn drop_retired(&mut self, fx: &mut Effects) {
        let host = &self.host;
        let retired = |replica: &Replica| replica.is_retired(host);
        let ids: Vec<RangeId> =
            self.replicas.iter().filter(|(_, r)| retired(r)).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(mut replica) = self.replicas.remove(&id) {
                replica.close(&mut self.host, fx);
                self.dropped.insert(id);
                fx.push(Effect::Note(format!(
                    "{id}: this store was replaced: its replica takes no part any more"
                )));
            }
        }
    }

    fn on_storage(
        &mut self,
        now: Now,
        event: StorageEvent,
        fx: &mut Effects,
    ) -> Result<(), String> {
        match event {
            StorageEvent::Halt(reason) => return Err(reason),
            StorageEvent::Durable(ticket, durable) => {
                for replica in self.replicas.values_mut() {
                    replica.on_durable(now, ticket, durable, &mut self.host, fx)?;
                }
            }
            StorageEvent::Entries { range, from, entries } => {
                if let Some(replica) = self.replicas.get_mut(&range) {
                    replica.on_entries(now, from, entries, &mut self.host, fx)?;
                }
            }
            StorageEvent::Fetched(miss) => {
                for replica in self.replicas.values_mut() {
                    replica.on_fetched(now, miss, &mut self.host, fx)?;
                }
                self.repair.fetched(miss);
                self.reclaim.fetched(miss);
                self.scrub.fetched(now, miss);
            }
            StorageEvent::Damaged { range } => {
                if let Some(replica) = self.replicas.get_mut(&range) {
                    replica.rebuild_table(now, &mut self.host, fx)?;
                }
            }
            StorageEvent::Staged { range } => {
                if let Some(replica) = self.replicas.get_mut(&range) {
                    replica.on_staged(now, &mut self.host, fx);
                }
            }
            StorageEvent::IngestFailed { range, reason } => {
                if let Some(replica) = self.replicas.get_mut(&range) {
                    replica.give_up_for_now(now, &reason, &mut self.host, fx)?;
                }
            }
            // The journal says so too, in its order among the other records.
            StorageEvent::Installed => {}
            StorageEvent::Begun => self.begin(now, fx)?,
            StorageEvent::ChunkStored { op, result } if op >= REPAIR_OPS => {
                self.repair.written(now, op, result, &mut self.host, fx);
            }
            StorageEvent::ChunkStored { op, result } => {
                self.chunks.stored(op, result, &mut self.host, fx);
            }
            StorageEvent::ChunkRead { op, result } => {
                if let Some(chunk) = self.chunks.was_read(op, result, &self.host, fx) {
                    self.repair.read_badly(now, chunk);
                }
            }
            StorageEvent::ChunkFreed { op, result } if op >= REPAIR_OPS => {
                self.repair.dropped(now, op, result, &self.host, fx);
            }
            StorageEvent::ChunkFreed { op, result } => self.reclaim.freed(now, op, result),
            StorageEvent::ChunkLooked { op, result } if op >= REPAIR_OPS => {
                self.repair.looked(now, op, result, &mut self.host, fx);
            }
            StorageEvent::ChunkLooked { op, result } if op >= RECLAIM_OPS => {
                self.reclaim.looked(now, op, result);
            }
            StorageEvent::ChunkLooked { op: SCRUB_OP, result } => {
                let parts = (&mut self.repair, &mut self.reclaim);
                self.scrub.looked(now, result, parts, &mut self.host);
            }
            StorageEvent::ChunkLooked { op, result } => {
                if let Some(chunk) = self.chunks.looked(op, result, &self.host, fx) {
                    self.repair.read_badly(now, chunk);
                }
            }
            StorageEvent::Note(note) => fx.push(Effect::Note(note)),
            StorageEvent::Open(_) => unreachable!("storage opens once, before it serves"),
        }
        Ok(())
    }

    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        if self.distrust.is_some() {
            return None;
        }
        let own = [
            Some(self.host.peers.next_deadline()),
            Some(self.host.directory.next_deadline()),
            self.gate.next_deadline(),
            self.repair.next_deadline(),
            self.reclaim.next_deadline(),
            self.scrub.next_deadline(),
            Some(Deadline { at: self.housekeep_at, reason: "give space back" }),
            self.proofs.next_deadline(self.host.map()),
        ];
        let deadlines = self.replicas.values().map(|replica| replica.next_deadline(&self.host));
        let ping = self.host.pulse.ping_at.map(|at| Deadline { at, reason: "ping" });
        deadlines.chain(own).fold(ping, Deadline::earlier)
    }

    pub(super) fn check(&self) {
        self.host.storage.check();
        for replica in self.replicas.values() {
            replica.check();
        }
        self.chunks.check();
        self.gate.check();
        self.repair.check();
        self.reclaim.check();
        assert!(
            self.host.inbox.is_empty(),
            "what parts say to each other is heard in the same step"
        );
        self.founding.check(self.replicas.contains_key(&ROOT_RANGE));
        self.host.peers.check();
    }

    pub(super) fn status(&self) -> String {
        let replicas: Vec<String> = self.replicas.values().map(Replica::status).collect();
        format!(
            "{} {}{} {} {} {} {}",
            self.host.incarnation,
            self.founding.status(),
            replicas.join(" "),
            self.chunks.status(),
            self.repair.status(&self.host),
            self.reclaim.status(&self.host),
            self.host.storage.status()
        )
    }
}
