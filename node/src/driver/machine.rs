//! What the driver needs of a machine: the shape that stores and gateways share.

use trine_core::effects::{Effects, GatewayEvent, Now, StoreEvent};
use trine_core::gateway::{Gateway, GatewayReport};
use trine_core::ids::{Endpoint, ZoneId};
use trine_core::message::Envelope;
use trine_core::store::{Store, StoreReport};
use trine_core::time::Deadline;

/// A machine of the core, or one that a test scripted.
pub trait Machine {
    /// What can happen to it.
    type Event: From<Common>;

    /// Take one event.
    fn step(&mut self, now: Now, event: Self::Event, fx: &mut Effects);

    /// When to call with `Deadline`.
    fn next_deadline(&self) -> Option<Deadline>;

    /// One line for operators.
    fn status(&self) -> String;

    /// Whether it has recovered what it must, and takes part.
    fn is_open(&self) -> bool {
        true
    }

    /// Where it stands, if it knows.
    fn zone(&self) -> Option<ZoneId> {
        None
    }

    /// What it tells operators, if it is a gateway.
    fn gateway_report(&self) -> Option<GatewayReport> {
        None
    }

    /// What it tells operators, if it is a store.
    fn report(&self) -> Option<StoreReport> {
        None
    }
}

/// What can happen to every machine.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "turned into the machine's own event at once")]
pub enum Common {
    /// The first event of each life.
    Start,
    /// The time of `next_deadline()` has come.
    Deadline,
    /// A message arrived.
    Message(Envelope),
    /// A link to a peer stands.
    LinkUp(Endpoint),
    /// A link to a peer was reset.
    LinkDown(Endpoint),
}

impl From<Common> for StoreEvent {
    fn from(event: Common) -> Self {
        match event {
            Common::Start => Self::Start,
            Common::Deadline => Self::Deadline,
            Common::Message(envelope) => Self::Message(envelope),
            Common::LinkUp(peer) => Self::LinkUp(peer),
            Common::LinkDown(peer) => Self::LinkDown(peer),
        }
    }
}

impl From<Common> for GatewayEvent {
    fn from(event: Common) -> Self {
        match event {
            Common::Start => Self::Start,
            Common::Deadline => Self::Deadline,
            Common::Message(envelope) => Self::Message(envelope),
            Common::LinkUp(peer) => Self::LinkUp(peer),
            Common::LinkDown(peer) => Self::LinkDown(peer),
        }
    }
}

impl Machine for Store {
    type Event = StoreEvent;

    fn step(&mut self, now: Now, event: StoreEvent, fx: &mut Effects) {
        self.step(now, event, fx);
    }

    fn next_deadline(&self) -> Option<Deadline> {
        self.next_deadline()
    }

    fn status(&self) -> String {
        self.status()
    }

    fn is_open(&self) -> bool {
        self.is_serving()
    }

    fn zone(&self) -> Option<ZoneId> {
        Some(self.zone())
    }

    fn report(&self) -> Option<StoreReport> {
        Some(self.report())
    }
}

impl Machine for Gateway {
    type Event = GatewayEvent;

    fn step(&mut self, now: Now, event: GatewayEvent, fx: &mut Effects) {
        self.step(now, event, fx);
    }

    fn next_deadline(&self) -> Option<Deadline> {
        self.next_deadline()
    }

    fn status(&self) -> String {
        self.status()
    }

    fn gateway_report(&self) -> Option<GatewayReport> {
        Some(self.report())
    }
}
