//! The driver: one task that owns the machines of a process and runs the core's calling contract.
//!
//! Messages between its machines are moved, unserialised; those of other nodes come and go through
//! the [`transport`](crate::transport); disks answer through a channel; HTTP handlers come through
//! [`trine_s3::front::Front`]. A machine that halts or is stopped is taken out, its peers see the
//! link go down, and the others go on.
//!
//! The driver is a plain future, and owns no thread: production gives it a thread of its own (see
//! `app`), so that HTTP's load never delays an election; a simulator spawns it like any task.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use trine_core::effects::{Effect, Effects, GatewayEvent, Now, StoreEvent};
use trine_core::ids::{Endpoint, GatewayId, StoreId};
use trine_core::message::Envelope;
use trine_core::time::{Deadline, Duration, Instant};
use trine_s3::front::{FrontCall, FrontReply};

use crate::runtime::{Disk, Runtime};
use crate::transport::{Arrival, Port};

mod exchanges;
mod handle;
mod machine;
mod stores;

use exchanges::Exchanges;
use handle::{Completion, Control};
pub use handle::{
    Completions, Handle, StartError, Status, StopError, StoreLife, StorePart, StoreStatus,
};
pub use machine::{Common, Machine};
use stores::Leaving;

/// Events taken from each channel before machines' messages and deadlines have their turn again, so
/// that a flood of one kind does not hold up the others.
const ROUND_MAX: usize = 256;

/// Stores that must live for anything to be acknowledged.
const QUORUM: usize = 2;

/// How long disks may take to finish what is in flight at a stop. It is safe to go earlier: that
/// is then a crash, and recovery is the same.
const QUIET_MAX: Duration = Duration::from_secs(5);

/// The driver of a process's machines.
pub struct Driver<R: Runtime, S, G> {
    runtime: R,
    stores: BTreeMap<StoreId, StoreSlot<R, S>>,
    /// Stores that have halted by themselves, and why.
    halted: BTreeMap<StoreId, String>,
    /// Stores taken out, whose disks are not closed yet.
    leaving: BTreeMap<StoreId, Leaving<R, S>>,
    gateway_id: GatewayId,
    gateway: G,
    exchanges: Exchanges,
    /// Events for machines, in order of arrival. Bounded by what machines have in flight.
    queue: VecDeque<Work>,
    effects: Effects,
    completions: mpsc::UnboundedReceiver<Completion>,
    front: mpsc::UnboundedReceiver<FrontCall>,
    control: mpsc::UnboundedReceiver<Control<R, S>>,
    /// The way to other nodes.
    port: Option<Port<R>>,
    phase: Phase,
}

#[derive(Debug)]
struct StoreSlot<R: Runtime, S> {
    machine: S,
    disk: R::Disk,
    /// Disk effects that have not finished.
    in_flight: usize,
}

/// Why a driver ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverError {
    /// All stores have halted, for the reason that the last of them gave.
    NoStores(String),
    /// The gateway has halted.
    Gateway(String),
}

#[derive(Debug)]
enum Work {
    Store(StoreId, StoreEvent),
    Gateway(GatewayEvent),
    /// A message of another node. Until it is delivered it counts against what may come in.
    Remote(Envelope, Option<OwnedSemaphorePermit>),
}

/// Serving → draining (no new requests) → quiet (no new effects; disks finish) → the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining { until: Instant },
    Quiet { until: Instant },
}

/// What a driver waits for.
#[allow(clippy::large_enum_variant, reason = "one at a time, moved once into the queue")]
enum Wake<R: Runtime, S> {
    Completion(Completion),
    Control(Control<R, S>),
    Front(FrontCall),
    Arrival(Arrival),
    Time,
}

impl<R, S, G> Driver<R, S, G>
where
    R: Runtime,
    S: Machine<Event = StoreEvent>,
    G: Machine<Event = GatewayEvent>,
{
    /// A driver of these machines; [`run`](Self::run) starts them. With `transport`, messages also go
    /// to the machines of other nodes and come from them.
    pub fn new(
        runtime: R,
        completions: Completions,
        stores: Vec<StorePart<R, S>>,
        (gateway_id, gateway): (GatewayId, G),
        front: mpsc::UnboundedReceiver<FrontCall>,
        transport: Option<Port<R>>,
    ) -> (Self, Handle<R, S>) {
        let (sender, control) = mpsc::unbounded_channel();
        let caller = transport.as_ref().map(Port::caller);
        let handle = Handle { control: sender, completions: completions.sender, caller };
        let stores = stores
            .into_iter()
            .map(|StorePart { id, machine, disk }| (id, StoreSlot { machine, disk, in_flight: 0 }))
            .collect();
        let driver = Self {
            runtime,
            stores,
            halted: BTreeMap::new(),
            leaving: BTreeMap::new(),
            gateway_id,
            gateway,
            exchanges: Exchanges::default(),
            queue: VecDeque::new(),
            effects: Effects::new(),
            completions: completions.receiver,
            front,
            control,
            port: transport,
            phase: Phase::Serving,
        };
        (driver, handle)
    }

    /// Start the machines and drive them, until a drain is done.
    ///
    /// # Errors
    /// If the gateway or the last store has halted.
    pub async fn run(mut self) -> Result<(), DriverError> {
        self.start();
        loop {
            self.deliver_due();
            // What these deliveries cause waits for the next round, so that time and channels
            // have their turn in between.
            for _ in 0..self.queue.len() {
                if let Some(work) = self.queue.pop_front() {
                    self.deliver(work)?;
                }
            }
            self.take_waiting();
            if self.phase_done() {
                return Ok(());
            }
            if self.queue.is_empty() {
                let wake = self.wait().await;
                self.take(wake);
            }
        }
    }

    /// Every machine's first event, then all links between them.
    fn start(&mut self) {
        let everyone = self.everyone();
        for endpoint in &everyone {
            self.push(*endpoint, Common::Start);
        }
        for endpoint in &everyone {
            for peer in everyone.iter().filter(|peer| *peer != endpoint) {
                self.push(*endpoint, Common::LinkUp(*peer));
            }
        }
        self.say_hosted();
    }

    fn everyone(&self) -> Vec<Endpoint> {
        let stores = self.stores.keys().map(|id| Endpoint::Store(*id));
        stores.chain([Endpoint::Gateway(self.gateway_id)]).collect()
    }

    fn is_here(&self, endpoint: Endpoint) -> bool {
        match endpoint {
            Endpoint::Store(id) => self.stores.contains_key(&id),
            Endpoint::Gateway(id) => id == self.gateway_id,
        }
    }

    /// Queue an event for a machine of this process.
    fn push(&mut self, to: Endpoint, event: Common) {
        match to {
            Endpoint::Store(id) => self.queue.push_back(Work::Store(id, event.into())),
            Endpoint::Gateway(_) => self.queue.push_back(Work::Gateway(event.into())),
        }
    }

    /// Queue an event for each machine of this process.
    fn push_all(&mut self, event: &Common) {
        for endpoint in self.everyone() {
            self.push(endpoint, event.clone());
        }
    }

    /// Queue a `Deadline` for each machine whose time has come.
    fn deliver_due(&mut self) {
        let now = self.runtime.now();
        let due = |deadline: Option<Deadline>| deadline.is_some_and(|deadline| deadline.at <= now);
        for (id, slot) in &self.stores {
            if due(slot.machine.next_deadline()) {
                self.queue.push_back(Work::Store(*id, StoreEvent::Deadline));
            }
        }
        if due(self.gateway.next_deadline()) {
            self.queue.push_back(Work::Gateway(GatewayEvent::Deadline));
        }
    }

    fn deliver(&mut self, work: Work) -> Result<(), DriverError> {
        if matches!(self.phase, Phase::Quiet { .. }) {
            // No machine moves any more, so that nothing new is started on the disks.
            return Ok(());
        }
        let now = Now { instant: self.runtime.now(), wall: self.runtime.wall() };
        let work = match work {
            // From here on the message is the machine's, and room for another.
            Work::Remote(envelope, _permit) => match envelope.to {
                Endpoint::Store(id) => Work::Store(id, StoreEvent::Message(envelope)),
                Endpoint::Gateway(_) => Work::Gateway(GatewayEvent::Message(envelope)),
            },
            work => work,
        };
        let mut effects = std::mem::take(&mut self.effects);
        let stepped = match work {
            Work::Remote(..) => unreachable!("turned into a machine's event above"),
            Work::Gateway(event) => {
                self.gateway.step(now, event, &mut effects);
                Endpoint::Gateway(self.gateway_id)
            }
            Work::Store(id, event) => {
                // A store that has halted misses its messages, as one on a dead machine would.
                if let Some(slot) = self.stores.get_mut(&id) {
                    slot.machine.step(now, event, &mut effects);
                }
                Endpoint::Store(id)
            }
        };
        let result = effects.drain().try_for_each(|effect| self.carry_out(stepped, effect));
        self.effects = effects;
        result
    }

    fn carry_out(&mut self, by: Endpoint, effect: Effect) -> Result<(), DriverError> {
        let (id, reply) = match effect {
            Effect::Send(envelope) => {
                self.send(envelope);
                return Ok(());
            }
            Effect::Disk { token, op } => {
                let Endpoint::Store(id) = by else {
                    unreachable!("{by} has no disk, and asks for {op:?}");
                };
                if let Some(slot) = self.stores.get_mut(&id) {
                    slot.in_flight += 1;
                    slot.disk.submit(token, op);
                }
                return Ok(());
            }
            Effect::Note(text) => {
                self.runtime.note(&format!("{by}: {text}"));
                return Ok(());
            }
            Effect::Halt { reason } => return self.halt(by, reason),
            Effect::NeedBody { id, bytes } => (id, FrontReply::NeedBody(bytes)),
            Effect::Copying { id, copying } => (id, FrontReply::Copying(copying)),
            Effect::Reply { id, result } => (id, FrontReply::Reply(result)),
            Effect::BodyOut { id, bytes } => (id, FrontReply::Body(bytes)),
            Effect::BodyEnd { id } => (id, FrontReply::BodyEnd),
            Effect::BodyFailed { id, reason } => {
                tracing::warn!("{by}: {id}: the body of the reply breaks off: {reason}");
                (id, FrontReply::BodyFailed(reason))
            }
            Effect::Disconnect { id, reason } => {
                tracing::warn!("{by}: {id}: disconnected without a reply: {reason}");
                (id, FrontReply::Disconnect(reason))
            }
        };
        self.exchanges.reply(id, reply);
        Ok(())
    }

    /// A message goes to a machine of this process, or to another node; what leads nowhere is dropped,
    /// as if its receiver were dead.
    fn send(&mut self, envelope: Envelope) {
        if self.is_here(envelope.to) {
            self.push(envelope.to, Common::Message(envelope));
        } else if let Some(port) = &mut self.port {
            port.send(&envelope);
        }
    }

    /// Take what waits in the channels, without waiting, and within the bound of a round.
    fn take_waiting(&mut self) {
        while let Ok(control) = self.control.try_recv() {
            self.take(Wake::Control(control));
        }
        for _ in 0..ROUND_MAX {
            let Ok(completion) = self.completions.try_recv() else { break };
            self.take(Wake::Completion(completion));
        }
        for _ in 0..ROUND_MAX {
            let Ok(call) = self.front.try_recv() else { break };
            self.take(Wake::Front(call));
        }
        for _ in 0..ROUND_MAX {
            let Some(arrival) = self.port.as_mut().and_then(Port::try_next) else { break };
            self.take(Wake::Arrival(arrival));
        }
    }

    async fn wait(&mut self) -> Wake<R, S> {
        let (runtime, deadline) = (self.runtime.clone(), self.next_wake());
        let time = async move {
            match deadline {
                Some(at) => runtime.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let port = self.port.as_mut();
        let arrival = async move {
            match port {
                Some(port) => port.next().await,
                None => std::future::pending().await,
            }
        };
        // A channel whose other end is gone takes no part.
        tokio::select! {
            biased;
            Some(control) = self.control.recv() => Wake::Control(control),
            Some(completion) = self.completions.recv() => Wake::Completion(completion),
            Some(call) = self.front.recv() => Wake::Front(call),
            arrival = arrival => Wake::Arrival(arrival),
            () = time => Wake::Time,
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let of_phase = match self.phase {
            Phase::Serving => None,
            Phase::Draining { until } => Some(until),
            // Machines do not move any more, and so have no time.
            Phase::Quiet { until } => return Some(until),
        };
        let of_stores = self.stores.values().filter_map(|slot| slot.machine.next_deadline());
        let of_machines = of_stores.chain(self.gateway.next_deadline()).map(|deadline| deadline.at);
        of_machines.chain(of_phase).min()
    }

    fn take(&mut self, wake: Wake<R, S>) {
        match wake {
            Wake::Time => {}
            Wake::Completion(Completion::Closed { store }) => self.closed(store),
            Wake::Arrival(Arrival::Up(peer)) => self.push_all(&Common::LinkUp(peer)),
            Wake::Arrival(Arrival::Down(peer)) => self.push_all(&Common::LinkDown(peer)),
            Wake::Arrival(Arrival::Message(envelope, permit)) => {
                if self.is_here(envelope.to) {
                    self.queue.push_back(Work::Remote(envelope, permit));
                } else if let Some(port) = &mut self.port {
                    port.misdirected(&envelope);
                }
            }
            Wake::Completion(Completion::Done { store, token, result }) => {
                if let Some(slot) = self.stores.get_mut(&store) {
                    slot.in_flight = slot
                        .in_flight
                        .checked_sub(1)
                        .expect("a disk reports each effect once, and none that was not started");
                    self.queue.push_back(Work::Store(store, StoreEvent::Disk { token, result }));
                }
            }
            Wake::Front(FrontCall::Open { id, request, replies }) => {
                // While draining, `replies` is dropped: the handler sees that the driver is gone.
                if self.phase == Phase::Serving {
                    self.exchanges.open(id, &request, replies);
                    self.queue.push_back(Work::Gateway(GatewayEvent::Request { id, request }));
                }
            }
            Wake::Front(FrontCall::Event(event)) => {
                if let GatewayEvent::Cancel { id } = event {
                    self.exchanges.cancel(id);
                }
                self.queue.push_back(Work::Gateway(event));
            }
            Wake::Control(Control::Status(sender)) => {
                // Who asked may be gone.
                let _ = sender.send(self.status());
            }
            Wake::Control(Control::Stop { id, done }) => self.stop(id, done),
            Wake::Control(Control::Start { part, done }) => self.start_store(part, done),
            Wake::Control(Control::Drain { until }) => {
                self.phase = match self.phase {
                    Phase::Serving => Phase::Draining { until },
                    Phase::Draining { until: earlier } => {
                        Phase::Draining { until: until.min(earlier) }
                    }
                    Phase::Quiet { until } => Phase::Quiet { until },
                };
            }
        }
    }

    fn status(&self) -> Status {
        let port = self.port.as_ref();
        Status {
            stores: self.store_status(),
            gateway: self.gateway.status(),
            gateway_report: self.gateway.gateway_report(),
            requests: self.exchanges.len(),
            links: port.map(Port::status).unwrap_or_default(),
            unrouted: port.map(|port| port.unrouted().clone()).unwrap_or_default(),
        }
    }

    /// Go on to the next phase if this one is done; `true` at the end of the last.
    fn phase_done(&mut self) -> bool {
        let now = self.runtime.now();
        if let Phase::Draining { until } = self.phase
            && (self.exchanges.is_empty() || now >= until)
        {
            self.phase = Phase::Quiet { until: now + QUIET_MAX };
            // Nothing is answered any more: peers had better know it at once.
            self.port = None;
        }
        let Phase::Quiet { until } = self.phase else { return false };
        let in_flight: usize = self.stores.values().map(|slot| slot.in_flight).sum();
        if (in_flight > 0 || !self.leaving.is_empty()) && now >= until {
            tracing::warn!("stopping with {in_flight} disk effects in flight, after {QUIET_MAX:?}");
        }
        // A store that was taken out may still write, too.
        (in_flight == 0 && self.leaving.is_empty()) || now >= until
    }
}

impl<R: Runtime, S, G> fmt::Debug for Driver<R, S, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStores(reason) => {
                write!(f, "no store is left; the last one halted with: {reason}")
            }
            Self::Gateway(reason) => write!(f, "the gateway halted: {reason}"),
        }
    }
}

impl std::error::Error for DriverError {}

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod tests;
