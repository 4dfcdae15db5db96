//! A store at work: it hands each event to the part that it concerns.

use std::collections::{BTreeMap, BTreeSet};

use super::chunks::Chunks;
use super::observe::{Observation, Observer, needs_durable_state};
use super::replica::Replica;
use crate::cluster::{ClusterMap, ROOT_RANGE, StoreConfig};
use crate::consensus::MessageBody;
use crate::effects::{Effect, Effects, Now, StoreEvent};
use crate::ids::{Endpoint, Incarnation, RangeId, StoreId};
use crate::message::{Envelope, Hello, Message, RangeAnswer, RangeCall, Refusal};
use crate::range::Range;
use crate::storage::{Opened, OpenedRange, Record, Storage, StorageEvent};
use crate::time::{Deadline, WallTime};

/// The protocol version that hellos announce.
pub(crate) const PROTOCOL: u16 = 1;

/// A store at work.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) host: Host,
    pub(super) replicas: BTreeMap<RangeId, Replica>,
    chunks: Chunks,
    /// What the disk held of ranges that it does not name may be lost.
    doubt: bool,
    /// Ranges whose replicas were given up in this life.
    dropped: BTreeSet<RangeId>,
}

/// What the replicas of a store share.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) config: StoreConfig,
    pub(super) incarnation: Incarnation,
    pub(super) storage: Box<Storage>,
    /// What the peers' wall clocks were last heard to say.
    pub(super) peer_clocks: BTreeMap<StoreId, WallTime>,
    /// The highest journal position that each peer told us it has synced.
    peer_synced: BTreeMap<StoreId, u64>,
    /// What an onlooker may see.
    pub(super) observer: Observer,
    /// Consensus messages of this step, sent together: one message per peer.
    outbox: BTreeMap<StoreId, Vec<(RangeId, crate::consensus::Message)>>,
}

impl Host {
    /// Queue a consensus message; it leaves at the end of the step.
    pub(super) fn post(&mut self, range: RangeId, message: crate::consensus::Message) {
        if needs_durable_state(&message) {
            self.observer.note(range, || Observation::Says(message.clone()));
        }
        self.outbox.entry(message.to).or_default().push((range, message));
    }

    /// Send a message now.
    pub(super) fn send(&self, to: Endpoint, message: Message, fx: &mut Effects) {
        let from = Endpoint::Store(self.config.store);
        fx.send(Envelope { from, to, message });
    }

    /// Whether new data is refused: what is left of the journal is for consensus and fences.
    pub(super) fn journal_is_full(&self) -> bool {
        self.storage.journal_free() < self.config.limits.journal_reserve
    }

    /// Whether commands that bring data are refused.
    pub(super) fn is_full(&self) -> bool {
        self.journal_is_full() || !self.storage.has_room_for_rows()
    }

    /// Whether even the leader's entries find no place: what is left is for terms and votes. The
    /// leader refuses new data by its own journal, which may have more room than this one.
    pub(super) fn takes_no_entries(&self) -> bool {
        self.storage.journal_free() < self.config.limits.journal_reserve / 2
    }

    /// The highest time that the clocks of two voters have reached, as far as we have heard.
    pub(super) fn agreed_clock(&self, now: Now) -> WallTime {
        let mut clocks: Vec<WallTime> = self.peer_clocks.values().copied().collect();
        clocks.push(now.wall);
        clocks.sort_unstable();
        // With one voter only its own clock counts.
        clocks.len().checked_sub(2).map_or(now.wall, |second| clocks[second])
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
        config: StoreConfig,
        storage: Box<Storage>,
        mut opened: Opened,
        fx: &mut Effects,
    ) -> Result<Self, String> {
        let mut host = Host {
            incarnation: opened.incarnation,
            storage,
            peer_clocks: BTreeMap::new(),
            peer_synced: BTreeMap::new(),
            observer: Observer::default(),
            outbox: BTreeMap::new(),
            config,
        };
        let mut replicas = BTreeMap::new();
        let recovered = opened.ranges.remove(&ROOT_RANGE);
        if recovered.is_some() || host.config.map.voters.contains(&host.config.store) {
            let recovered = recovered.unwrap_or_default();
            let mut replica = Replica::new(now, ROOT_RANGE, &mut host, recovered);
            replica.start(now, &mut host, fx)?;
            replicas.insert(ROOT_RANGE, replica);
        }
        for note in opened.notes {
            fx.push(Effect::Note(note));
        }
        let (doubt, dropped) = (opened.doubt, BTreeSet::new());
        let mut serving = Self { host, replicas, chunks: Chunks::default(), doubt, dropped };
        serving.end_step(now, fx)?;
        Ok(serving)
    }

    /// Say hello on links that are up.
    pub(super) fn greet(&self, links: &[Endpoint], fx: &mut Effects) {
        for link in links {
            let hello = Hello {
                cluster: self.host.config.cluster,
                protocol: PROTOCOL,
                incarnation: self.host.incarnation,
                synced: self.host.storage.synced_position(),
            };
            self.host.send(*link, Message::Hello(hello), fx);
        }
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
        match event {
            StoreEvent::Start => {}
            StoreEvent::Deadline => {
                for replica in self.replicas.values_mut() {
                    replica.on_deadline(now, &mut self.host, fx)?;
                }
            }
            StoreEvent::Message(envelope) => self.on_message(now, envelope, fx)?,
            StoreEvent::LinkUp(peer) => {
                self.greet(&[peer], fx);
                self.link_changed(now, peer, true, fx)?;
            }
            StoreEvent::LinkDown(peer) => self.link_changed(now, peer, false, fx)?,
            StoreEvent::Disk { token, result } => {
                self.host.storage.on_disk(token, &result, fx);
            }
        }
        self.end_step(now, fx)
    }

    fn link_changed(
        &mut self,
        now: Now,
        peer: Endpoint,
        stands: bool,
        fx: &mut Effects,
    ) -> Result<(), String> {
        if let Endpoint::Store(peer) = peer {
            for replica in self.replicas.values_mut() {
                replica.link_changed(now, peer, stands, &mut self.host, fx)?;
            }
        }
        Ok(())
    }

    /// Whatever the event was: hear what storage has to say, apply and propose, start what can be
    /// started. What is started here may be done at once (a block that is in memory, a call that is
    /// refused), so that storage is heard until it is silent.
    fn end_step(&mut self, now: Now, fx: &mut Effects) -> Result<(), String> {
        loop {
            while let Some(event) = self.host.storage.next_event() {
                self.on_storage(now, event, fx)?;
            }
            for replica in self.replicas.values_mut() {
                replica.advance(now, &mut self.host, fx)?;
            }
            self.host.storage.pump(fx);
            match self.host.storage.next_event() {
                Some(event) => self.on_storage(now, event, fx)?,
                None => break,
            }
        }
        self.drop_retired(fx);
        self.host.flush_outbox(now, fx);
        Ok(())
    }

    fn on_message(&mut self, now: Now, envelope: Envelope, fx: &mut Effects) -> Result<(), String> {
        let from = envelope.from;
        match envelope.message {
            Message::Hello(hello) => self.on_hello(from, &hello, fx),
            Message::Consensus { wall, messages } => {
                let Endpoint::Store(peer) = from else { return Ok(()) };
                if !self.knows(peer) {
                    return Ok(());
                }
                let clock = self.host.peer_clocks.entry(peer).or_default();
                *clock = (*clock).max(wall);
                for (range, message) in messages {
                    let addressed = message.from == peer && message.to == self.host.config.store;
                    if addressed && !self.replicas.contains_key(&range) {
                        self.replica_on_demand(now, range, &message, fx)?;
                    }
                    if let (true, Some(replica)) = (addressed, self.replicas.get_mut(&range)) {
                        replica.on_message(now, message, &mut self.host, fx)?;
                    }
                }
            }
            Message::RangeCall(call) => self.on_call(now, from, call, fx)?,
            Message::RangeAnswer(answer) => {
                // We passed the call on; the answer goes back the way it came.
                let origin = Endpoint::Gateway(answer.origin);
                self.host.send(origin, Message::RangeAnswer(answer), fx);
            }
            Message::ChunkWrite(write) => self.chunks.write(from, write, &mut self.host, fx),
            Message::ChunkRead(read) => self.chunks.read(from, read, &mut self.host, fx),
            Message::SnapshotAsk(ask) => {
                let Endpoint::Store(peer) = from else { return Ok(()) };
                match self.replicas.get_mut(&ask.range) {
                    Some(replica) => {
                        replica.on_snapshot_ask(now, peer, ask, &mut self.host, fx);
                    }
                    None => {
                        if let Some(page) = super::snapshot::gone(&ask) {
                            self.host.send(from, Message::SnapshotPage(page), fx);
                        }
                    }
                }
            }
            Message::SnapshotPage(page) => {
                if let (Endpoint::Store(peer), Some(replica)) =
                    (from, self.replicas.get_mut(&page.range))
                {
                    replica.on_snapshot_page(now, peer, page, &mut self.host, fx)?;
                }
            }
            // Replies go to gateways.
            Message::ChunkWritten(_) | Message::ChunkData(_) => {}
        }
        Ok(())
    }

    /// Whether a store may have a say: by the map of the configuration, the maps that are applied here,
    /// or the configurations of consensus.
    fn knows(&self, peer: StoreId) -> bool {
        let fills_a_slot = |map: &ClusterMap| map.stores().any(|(_, store)| store == peer);
        fills_a_slot(&self.host.config.map)
            || self.replicas.values().any(|replica| {
                replica.raft.membership().members().any(|member| member == peer)
                    || replica.machine.range().and_then(Range::map).is_some_and(fills_a_slot)
            })
    }

    /// A leader speaks of a range that this store has no replica of: it begins an empty one, which
    /// knows of no voters, and so never campaigns.
    fn replica_on_demand(
        &mut self,
        now: Now,
        range: RangeId,
        message: &crate::consensus::Message,
        fx: &mut Effects,
    ) -> Result<(), String> {
        let from_leader = matches!(
            message.body,
            MessageBody::Append { .. } | MessageBody::Heartbeat { .. } | MessageBody::Snapshot { .. }
        );
        let own = self.host.config.store;
        let retired = self.host.config.map.retired.contains(&own) || self.dropped.contains(&range);
        if range != ROOT_RANGE || !from_leader || retired {
            return Ok(());
        }
        let mut opened = OpenedRange::default();
        if self.doubt {
            // The journal was damaged, and what it said of this range may be lost.
            let number = self.host.incarnation.0;
            opened.suspect = number;
            self.host.storage.append(Record::Suspect { range, number });
        }
        fx.push(Effect::Note(format!("{range}: {} asks for a replica here", message.from)));
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

    fn on_hello(&mut self, from: Endpoint, hello: &Hello, fx: &mut Effects) {
        let own = self.host.config.cluster;
        if hello.cluster != own {
            fx.push(Effect::Note(format!("{from} is of {}, not of {own}", hello.cluster)));
            return;
        }
        if let Endpoint::Store(peer) = from {
            let synced = self.host.peer_synced.entry(peer).or_default();
            if hello.synced < *synced {
                fx.push(Effect::Note(format!(
                    "{peer} starts at journal position {}, and had told us {synced}: its disk was \
                     set back",
                    hello.synced
                )));
            }
            *synced = (*synced).max(hello.synced);
        }
    }

    fn on_call(
        &mut self,
        now: Now,
        from: Endpoint,
        call: RangeCall,
        fx: &mut Effects,
    ) -> Result<(), String> {
        match self.replicas.get_mut(&call.range) {
            Some(replica) => replica.on_call(now, from, call, &mut self.host, fx),
            None => {
                let answer = RangeAnswer {
                    call: call.call,
                    origin: call.origin,
                    range: call.range,
                    result: Err(Refusal::NotLeader { leader: None }),
                };
                self.host.send(from, Message::RangeAnswer(answer), fx);
                Ok(())
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
            }
            StorageEvent::Damaged { range } => {
                if let Some(replica) = self.replicas.get_mut(&range) {
                    replica.rebuild_table(now, &mut self.host, fx)?;
                }
            }
            StorageEvent::Staged { range } => {
                if let Some(replica) = self.replicas.get_mut(&range) {
                    replica.on_staged(&mut self.host, fx);
                }
            }
            StorageEvent::IngestFailed { range, reason } => {
                if let Some(replica) = self.replicas.get_mut(&range) {
                    replica.give_up(now, &reason, &mut self.host, fx)?;
                }
            }
            // The journal says so too, in its order among the other records.
            StorageEvent::Installed => {}
            StorageEvent::ChunkStored { op, result } => {
                self.chunks.stored(op, result, &self.host, fx);
            }
            StorageEvent::ChunkRead { op, result } => {
                self.chunks.was_read(op, result, &self.host, fx);
            }
            StorageEvent::Note(note) => fx.push(Effect::Note(note)),
            StorageEvent::Open(_) => unreachable!("storage opens once, before it serves"),
        }
        Ok(())
    }

    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        let deadlines = self.replicas.values().map(|replica| replica.next_deadline(&self.host));
        deadlines.fold(None, Deadline::earlier)
    }

    pub(super) fn check(&self) {
        self.host.storage.check();
        for replica in self.replicas.values() {
            replica.check();
        }
        self.chunks.check();
    }

    pub(super) fn status(&self) -> String {
        let replicas: Vec<String> = self.replicas.values().map(Replica::status).collect();
        format!(
            "{} {} {} {}",
            self.host.incarnation,
            replicas.join(" "),
            self.chunks.status(),
            self.host.storage.status()
        )
    }
}
