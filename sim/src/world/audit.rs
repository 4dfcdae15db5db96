//! The auditor in the world: it asks stores for copies as a client would, over the wire.

use trine_core::ids::{ChunkId, Endpoint, GatewayId, SessionId, StoreId};
use trine_core::message::{Envelope, Message};

use super::machine::{GatewayMachine, Input, Machine, Side};
use super::{Arrival, Happening, Maker, World};
use crate::{MILLISECOND, Nanos};

/// Who asks.
pub(super) const AUDITOR: Endpoint = Endpoint::Gateway(GatewayId(u64::MAX));
/// How long a question or an answer takes.
const TAKES: Nanos = MILLISECOND;

impl<M: Maker> World<M> {
    /// Ask for copies that are not known to be there, then for those that should be gone. Says whether all is
    /// as it should be.
    pub(super) fn audit(&mut self) -> bool {
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
            let input = Input::Message(envelope);
            // From nobody's place: the auditor has no link that could be reset.
            let arrival = Arrival { to: machine, life, from: machine, generation: 0, input };
            self.queue.push(self.now + TAKES, Happening::Arrive(Box::new(arrival)));
        }
        self.workload.redundancy.is_clean()
    }

    /// A store has answered.
    pub(super) fn audited(&mut self, envelope: Envelope) {
        let (envelope, _) = self.maker.carry(envelope);
        if let Message::ChunkData(data) = &envelope.message {
            self.workload.redundancy.answered(data);
        }
    }

    /// Gateways name their session in their calls; the auditor reads under the one that was heard last.
    pub(super) fn overhear(&mut self, message: &Message) {
        if let Message::ChunkWrite(write) = message {
            self.workload.redundancy.written(write.chunk);
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

    /// A store frees a chunk: no gateway may be reading it under a session that the store takes for live.
    pub(super) fn freed(&mut self, store: usize, chunk: ChunkId, live: &[SessionId]) {
        self.workload.redundancy.freed(chunk);
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
