//! Stores that come and go while the driver runs: halted ones, stopped ones, started ones.

use std::collections::BTreeSet;

use tokio::sync::oneshot;
use trine_core::effects::{GatewayEvent, StoreEvent};
use trine_core::ids::{Endpoint, StoreId};

use super::handle::{StartError, StopError, StoreLife, StorePart, StoreStatus};
use super::{Common, Driver, DriverError, Machine, Phase, QUORUM, StoreSlot};
use crate::runtime::Runtime;

/// A store that was taken out, and whose disk is not closed yet. Until it is, none of the same id
/// is started, so that what the old disk still reports meets no other machine.
#[derive(Debug)]
pub(super) struct Leaving<R: Runtime, S> {
    stopped: Vec<oneshot::Sender<Result<(), StopError>>>,
    next: Option<(StorePart<R, S>, Started)>,
}

/// Tells whoever started a store what came of it.
type Started = oneshot::Sender<Result<(), StartError>>;

impl<R: Runtime, S> Default for Leaving<R, S> {
    fn default() -> Self {
        Self { stopped: Vec::new(), next: None }
    }
}

impl<R, S, G> Driver<R, S, G>
where
    R: Runtime,
    S: Machine<Event = StoreEvent>,
    G: Machine<Event = GatewayEvent>,
{
    /// Take a machine out for good.
    pub(super) fn halt(&mut self, who: Endpoint, reason: String) -> Result<(), DriverError> {
        tracing::error!("{who} has halted: {reason}");
        let Endpoint::Store(id) = who else {
            return Err(DriverError::Gateway(reason));
        };
        self.take_out(id);
        self.halted.insert(id, reason.clone());
        if self.port.is_some() {
            // The gateway is served by the stores of other nodes.
            return Ok(());
        }
        if self.stores.is_empty() {
            return Err(DriverError::NoStores(reason));
        }
        if self.stores.len() < QUORUM {
            tracing::error!(
                "only {} store is left, and {QUORUM} are needed: NOTHING CAN BE READ OR WRITTEN \
                 until halted stores run again; mend what is said above, then restart trine or \
                 give `trine admin zone start`",
                self.stores.len()
            );
        }
        Ok(())
    }

    /// Take a store out because somebody asks.
    pub(super) fn stop(&mut self, id: StoreId, done: oneshot::Sender<Result<(), StopError>>) {
        let was_halted = self.halted.remove(&id).is_some();
        if self.stores.contains_key(&id) {
            tracing::info!("{id} is stopped, as asked");
            self.take_out(id);
        }
        // Whoever asked may be gone.
        match self.leaving.get_mut(&id) {
            Some(leaving) => {
                if let Some((_, started)) = leaving.next.take() {
                    let _ = started.send(Err(StartError::Draining));
                }
                leaving.stopped.push(done);
            }
            None => {
                let known = if was_halted { Ok(()) } else { Err(StopError::NotRunning(id)) };
                let _ = done.send(known);
            }
        }
    }

    /// The disk of a store is closed.
    pub(super) fn closed(&mut self, id: StoreId) {
        let Some(leaving) = self.leaving.remove(&id) else { return };
        for done in leaving.stopped {
            // Whoever asked may be gone.
            let _ = done.send(Ok(()));
        }
        if let Some((part, done)) = leaving.next {
            self.start_store(part, done);
        }
    }

    /// Add a store to the running driver.
    pub(super) fn start_store(&mut self, part: StorePart<R, S>, done: Started) {
        let id = part.id;
        let waits = self.leaving.get(&id).is_some_and(|leaving| leaving.next.is_some());
        if self.phase != Phase::Serving {
            let _ = done.send(Err(StartError::Draining));
            return;
        }
        if self.stores.contains_key(&id) || waits {
            let _ = done.send(Err(StartError::Running(id)));
            return;
        }
        if let Some(leaving) = self.leaving.get_mut(&id) {
            leaving.next = Some((part, done));
            return;
        }
        self.halted.remove(&id);
        let StorePart { machine, disk, .. } = part;
        self.stores.insert(id, StoreSlot { machine, disk, in_flight: 0 });
        self.say_hosted();
        let new = Endpoint::Store(id);
        self.push(new, Common::Start);
        for peer in self.everyone().into_iter().filter(|peer| *peer != new) {
            self.push(new, Common::LinkUp(peer));
            self.push(peer, Common::LinkUp(new));
        }
        let linked = self.port.as_ref().map(|port| port.linked()).unwrap_or_default();
        for peer in linked {
            self.push(new, Common::LinkUp(peer));
        }
        let _ = done.send(Ok(()));
    }

    /// Close a store's disk, and tell everyone that it cannot be reached.
    fn take_out(&mut self, id: StoreId) {
        // The slot's disk finishes what is in flight and is closed.
        if self.stores.remove(&id).is_none() {
            return;
        }
        self.leaving.entry(id).or_default();
        self.say_hosted();
        for peer in self.everyone() {
            self.push(peer, Common::LinkDown(Endpoint::Store(id)));
        }
    }

    /// Tell other nodes what runs here.
    pub(super) fn say_hosted(&self) {
        if let Some(port) = &self.port {
            port.set_hosted(self.everyone().into_iter().collect::<BTreeSet<_>>());
        }
    }

    pub(super) fn store_status(&self) -> Vec<StoreStatus> {
        let running = self.stores.iter().map(|(id, slot)| {
            let life = if slot.machine.is_open() { StoreLife::Serving } else { StoreLife::Opening };
            let (zone, line) = (slot.machine.zone(), slot.machine.status());
            StoreStatus { id: *id, zone, life, line, report: slot.machine.report() }
        });
        let halted = self.halted.iter().map(|(id, reason)| StoreStatus {
            id: *id,
            zone: None,
            life: StoreLife::Halted(reason.clone()),
            line: format!("{id} halted: {reason}"),
            report: None,
        });
        let stopping = self.leaving.keys().filter(|id| !self.halted.contains_key(id));
        let stopping = stopping.map(|id| StoreStatus {
            id: *id,
            zone: None,
            life: StoreLife::Stopping,
            line: format!("{id} stopping"),
            report: None,
        });
        let mut all: Vec<_> = running.chain(halted).chain(stopping).collect();
        all.sort_by_key(|status| status.id);
        all
    }
}
