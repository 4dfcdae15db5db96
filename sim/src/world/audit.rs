//! The auditor in the world: it asks stores for copies as a client would, over the wire.

use bytes::Bytes;
use trine_core::ids::{ChunkId, Endpoint, GatewayId, LogIndex, MapEpoch, SessionId, StoreId};
use trine_core::message::{ChunkError, Envelope, Message};
use trine_core::object::OwnedBlob;
use trine_core::range::command::Outcome;
use trine_core::rare::Unusual;

use super::machine::{GatewayMachine, Input, Machine, Side, StoreMachine};
use super::{Arrival, Happening, Maker, World};
use crate::checkers::ledger::Event;
use crate::checkers::promises::Gateway;
use crate::faults::FaultKind;
use crate::{MILLISECOND, Nanos, SECOND};

/// Who asks.
pub(super) const AUDITOR: Endpoint = Endpoint::Gateway(GatewayId(u64::MAX));
/// After so long everything was scrubbed: a pass may have begun before something rotted that it had
/// passed, and then there is one more.
const SCRUBBED_AFTER: Nanos = 24 * SECOND;
/// How long a question or an answer takes.
const TAKES: Nanos = MILLISECOND;

impl<M: Maker> World<M> {
    /// Ask for copies that are not known to be there, then for those that should be gone. Says whether all is
    /// as it should be.
    pub(super) fn audit(&mut self) -> bool {
        if self.has_rotted() && self.now < self.healed_at + SCRUBBED_AFTER {
            return false;
        }
        let machines = &self.machines;
        let stands =
            |store| machines.iter().any(|one| one.endpoint == Endpoint::Store(store) && !one.gone);
        self.workload.redundancy.begin(&self.map, stands);
        if self.workload.redundancy.is_full() {
            let stores = machines.iter().filter(|one| !one.gone);
            let stores = stores.filter_map(|one| match one.endpoint {
                Endpoint::Store(store) => Some(store),
                Endpoint::Gateway(_) => None,
            });
            let stores: Vec<StoreId> = stores.collect();
            // Former owners keep what they have until the map is proven.
            let map = self.has_no_former_layouts().then_some(&self.map);
            self.workload.redundancy.look_for_leftovers(map, &stores);
            let after = self.now - self.healed_at;
            self.counts.redundant_after.get_or_insert(after);
        }
        let questions = self.workload.redundancy.questions(self.now, self.session);
        for (store, read) in questions {
            let to = Endpoint::Store(store);
            let Some(machine) = self.machine_of(to) else { continue };
            let message = Message::ChunkRead(read);
            let (envelope, _) = self.maker.carry(Envelope { from: AUDITOR, to, message });
            let life = self.machines[machine].life;
            let input = Input::Message(envelope, None);
            // From nobody's place: the auditor has no link that could be reset.
            let arrival = Arrival { to: machine, life, from: machine, generation: 0, input };
            self.queue.push(self.now + TAKES, Happening::Arrive(Box::new(arrival)));
        }
        self.workload.redundancy.is_clean()
    }

    /// Whether disks have rotted. What did is to be mended before the auditor reads it, and so shows it.
    fn has_rotted(&self) -> bool {
        let kinds = [FaultKind::ByteRotted, FaultKind::SectorRotted];
        kinds.iter().any(|kind| self.counts.hits.of(*kind) > 0)
    }

    /// A store has answered.
    pub(super) fn audited(&mut self, envelope: Envelope) {
        let (envelope, _) = self.maker.carry(envelope);
        if let Message::ChunkData(data) = &envelope.message {
            if self.has_rotted() && matches!(data.result, Err(ChunkError::Damaged | ChunkError::Io))
            {
                self.fail(format!("scrubbing of {} has not mended {}", data.store, data.chunk));
            }
            self.workload.redundancy.answered(data);
        }
    }

    /// Gateways name their session in their calls; the auditor reads under the one that was heard last.
    pub(super) fn overhear(&mut self, from: usize, to: Endpoint, message: &Message) {
        if let Message::ChunkWrite(write) = message {
            self.workload.redundancy.written(write.chunk);
            self.custody.sends(write.chunk, self.now);
        }
        let Machine { side, life, name, .. } = &self.machines[from];
        let reads = || match side {
            Side::Gateway(side) => side.machine.as_ref().map(GatewayMachine::reads_of_requests),
            Side::Store(_) => None,
        };
        let reads = || reads().unwrap_or_default();
        let applied = self.ledger.applied_index();
        let patience = match side {
            Side::Gateway(side) => {
                let timeout = side.config.call_timeout.as_nanos() * 9 / 10;
                Nanos::try_from(timeout).unwrap_or(Nanos::MAX)
            }
            Side::Store(_) => 0,
        };
        // It may do unusual things: give up early.
        let patience =
            if self.swarm.rare.unusual != Unusual::Never { patience / 16 } else { patience };
        let gateway = Gateway { machine: from, life: *life, now: self.now, patience };
        if let Err(broken) = self.promises.gateway_says(gateway, (to, message), reads, applied) {
            let text = format!("{name} {broken}");
            self.fail(text);
        }
        if let Message::RangeCall(call) = message
            && let Err(early) = self.custody.calls(call)
        {
            self.fail(format!("gateway {} {early}", call.origin));
        }
        let session = match message {
            Message::ChunkRead(read) => read.session,
            Message::RangeCall(call) => call.session,
            _ => return,
        };
        // 0 is none yet.
        if session > SessionId(0) {
            self.session = session;
        }
    }

    /// Something reaches a machine.
    pub(super) fn hears(&mut self, machine: usize, input: &Input) {
        match input {
            Input::Message(envelope, _) if self.machines[machine].is_store() => {
                self.promises.store_hears(machine, &envelope.message);
            }
            Input::Message(envelope, _) => {
                self.promises.gateway_hears(machine, &envelope.message);
            }
            Input::LinkDown(peer) => self.promises.link_down(machine, *peer),
            _ => {}
        }
    }

    /// What stores ask each other, and tell.
    pub(super) fn overhear_store(&mut self, from: usize, message: &Message) {
        self.promises.store_says(from, message);
        match message {
            Message::BlobFree(free) => self.ledger.told(&free.blobs),
            Message::BlobFreed(freed) => self.custody.tells_freed(from, &freed.blobs),
            _ => {}
        }
    }

    /// A replica has applied an entry.
    pub(super) fn applied(
        &mut self,
        store: usize,
        index: LogIndex,
        batch: Option<&Bytes>,
        outcomes: &[Outcome],
    ) {
        let events = match self.ledger.applied(index, batch, outcomes) {
            Ok(events) => events,
            Err(wrong) => {
                let text = format!("{}: {wrong}", self.machines[store].name);
                return self.fail(text);
            }
        };
        for event in events {
            match event {
                Event::Forgotten(blobs) => self.forgotten(&blobs),
                Event::Proven(epoch, before) => self.map_is_proven(epoch, &before),
            }
        }
    }

    /// Dead blobs are forgotten: the stores of two zones at least must have freed them.
    fn forgotten(&mut self, blobs: &[OwnedBlob]) {
        let keeps = |machine: usize, chunk: ChunkId| {
            let Machine { endpoint, zone, gone, .. } = &self.machines[machine];
            let mut places = self.map.places(chunk).into_iter();
            let keeps = places.any(|place| Endpoint::Store(place.store) == *endpoint);
            zone.filter(|_| keeps && !gone)
        };
        let mut judged = blobs.iter().map(|blob| self.custody.forgotten(blob.blob, keeps));
        if let Some(Err(wrong)) = judged.find(Result::is_err) {
            drop(judged);
            self.fail(wrong);
        }
    }

    /// The map of an epoch is proven: what was `committed` before it changed is where it belongs.
    fn map_is_proven(&mut self, epoch: MapEpoch, committed: &[ChunkId]) {
        // The operator has not heard of all changes.
        if !self.operator.is_idle() {
            return;
        }
        for chunk in committed {
            for place in self.map.places(*chunk) {
                let Some(machine) = self.machine_of(Endpoint::Store(place.store)) else { continue };
                if !self.machines[machine].gone {
                    let name = &self.machines[machine].name;
                    self.custody.proven(epoch, machine, name, *chunk);
                }
            }
        }
    }

    /// A store frees its copy of a chunk that stands: another store of its zone must have one.
    pub(super) fn freed_copy(&mut self, store: usize, chunk: ChunkId) {
        let zone = self.machines[store].zone;
        let others = self.stores().filter(|other| *other != store);
        let others: Vec<usize> =
            others.filter(|other| self.machines[*other].zone == zone).collect();
        if let Err(early) = self.custody.superfluous(store, chunk, others.into_iter()) {
            self.fail(format!("{} {early}", self.machines[store].name));
        }
    }

    /// A store frees a chunk: no gateway may be reading it under a session that the store takes for live.
    pub(super) fn freed(&mut self, store: usize, chunk: ChunkId, live: &[SessionId]) {
        self.workload.redundancy.freed(chunk);
        self.custody.freed(store, chunk);
        let machine = &self.machines[store];
        let known = match &machine.side {
            Side::Store(side) => side.machine.as_ref().map_or(0, StoreMachine::directory),
            Side::Gateway(_) => 0,
        };
        self.ledger.frees(chunk);
        if let Err(early) = self.promises.frees(store, chunk.blob, known) {
            let text = format!("{} {early}", machine.name);
            self.fail(text);
        }
        let reads = |machine: &Machine<M>| match &machine.side {
            Side::Gateway(side) => side.machine.as_ref().is_some_and(|gateway| {
                let (session, blobs) = gateway.reads();
                live.contains(&session) && blobs.contains(&chunk.blob)
            }),
            Side::Store(_) => false,
        };
        if let Some(reader) = self.machines.iter().find(|machine| reads(machine)) {
            let (store, reader) = (&self.machines[store].name, &reader.name);
            self.fail(format!("{store} frees {chunk}, which {reader} is reading"));
        }
    }
}
