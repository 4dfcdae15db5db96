//! The driver: one task that owns the machines of a process and runs the core's calling contract.
//!
//! Messages between its machines are moved, unserialised; disks answer through a channel; HTTP
//! handlers come through [`trine_s3::front::Front`]. A machine that halts is taken out, its peers
//! see the link go down, and the others go on.
//!
//! The driver is a plain future, and owns no thread: production gives it a thread of its own (see
//! `app`), so that HTTP's load never delays an election; a simulator spawns it like any task.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use trine_core::disk::DiskResult;
use trine_core::effects::{Effect, Effects, GatewayEvent, Now, StoreEvent};
use trine_core::ids::{DiskToken, Endpoint, GatewayId, StoreId};
use trine_core::time::{Deadline, Duration, Instant};
use trine_s3::front::{FrontCall, FrontReply};

use crate::runtime::{Disk, DiskSink, Runtime};

mod exchanges;
mod machine;

use exchanges::Exchanges;
pub use machine::{Common, Machine};

/// Events taken from each channel before machines' messages and deadlines have their turn again, so
/// that a flood of one kind does not hold up the others.
const ROUND_MAX: usize = 256;

/// Stores that must live for anything to be acknowledged.
const QUORUM: usize = 2;

/// How long disks may take to finish what is in flight at a stop. It is safe to go earlier: that
/// is then a crash, and recovery is the same.
const QUIET_MAX: Duration = Duration::from_secs(5);

/// The driver of a process's machines.
#[derive(Debug)]
pub struct Driver<R: Runtime, S, G> {
    runtime: R,
    stores: BTreeMap<StoreId, StoreSlot<R, S>>,
    gateway_id: GatewayId,
    gateway: G,
    exchanges: Exchanges,
    /// Events for machines, in order of arrival. Bounded by what machines have in flight.
    queue: VecDeque<Work>,
    effects: Effects,
    completions: mpsc::UnboundedReceiver<Completion>,
    front: mpsc::UnboundedReceiver<FrontCall>,
    control: mpsc::UnboundedReceiver<Control>,
    phase: Phase,
}

#[derive(Debug)]
struct StoreSlot<R: Runtime, S> {
    machine: S,
    disk: R::Disk,
    /// Disk effects that have not finished.
    in_flight: usize,
}

/// A store's machine, and the open disk that it writes to.
#[derive(Debug)]
pub struct StorePart<R: Runtime, S> {
    /// Who it is.
    pub id: StoreId,
    /// The machine, before its start.
    pub machine: S,
    /// Its disk, opened with the sink that [`Completions::sink`] gave for `id`.
    pub disk: R::Disk,
}

/// Where disks report to a driver that is still to be made.
#[derive(Debug)]
pub struct Completions {
    sender: mpsc::UnboundedSender<Completion>,
    receiver: mpsc::UnboundedReceiver<Completion>,
}

/// The way to a running driver.
#[derive(Clone, Debug)]
pub struct Handle {
    control: mpsc::UnboundedSender<Control>,
}

/// What the machines of a process say about themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// One line for each store that has not halted.
    pub stores: Vec<(StoreId, String)>,
    /// One line.
    pub gateway: String,
    /// Requests that are being served.
    pub requests: usize,
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
struct Completion {
    store: StoreId,
    token: DiskToken,
    result: DiskResult,
}

#[derive(Debug)]
enum Control {
    Status(oneshot::Sender<Status>),
    Drain { until: Instant },
}

#[derive(Debug)]
enum Work {
    Store(StoreId, StoreEvent),
    Gateway(GatewayEvent),
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
enum Wake {
    Completion(Completion),
    Control(Control),
    Front(FrontCall),
    Time,
}

impl Completions {
    /// A new channel.
    pub fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { sender, receiver }
    }

    /// What the disk of `store` reports to.
    pub fn sink(&self, store: StoreId) -> DiskSink {
        let sender = self.sender.clone();
        Arc::new(move |token, result| {
            // Without a driver nobody waits for it any more.
            let _ = sender.send(Completion { store, token, result });
        })
    }
}

impl Default for Completions {
    fn default() -> Self {
        Self::new()
    }
}

impl Handle {
    /// What the machines say; `None` if the driver is gone.
    pub async fn status(&self) -> Option<Status> {
        let (sender, receiver) = oneshot::channel();
        self.control.send(Control::Status(sender)).ok()?;
        receiver.await.ok()
    }

    /// Take no new requests, let open ones finish until `until`, then wait until the disks are quiet
    /// (for a bounded time), then end. Asked again, it only brings the end nearer.
    pub fn drain(&self, until: Instant) {
        // A driver that is gone has drained.
        let _ = self.control.send(Control::Drain { until });
    }
}

impl<R, S, G> Driver<R, S, G>
where
    R: Runtime,
    S: Machine<Event = StoreEvent>,
    G: Machine<Event = GatewayEvent>,
{
    /// A driver of these machines; [`run`](Self::run) starts them.
    pub fn new(
        runtime: R,
        completions: Completions,
        stores: Vec<StorePart<R, S>>,
        (gateway_id, gateway): (GatewayId, G),
        front: mpsc::UnboundedReceiver<FrontCall>,
    ) -> (Self, Handle) {
        let (sender, control) = mpsc::unbounded_channel();
        let stores = stores
            .into_iter()
            .map(|StorePart { id, machine, disk }| (id, StoreSlot { machine, disk, in_flight: 0 }))
            .collect();
        let driver = Self {
            runtime,
            stores,
            gateway_id,
            gateway,
            exchanges: Exchanges::default(),
            queue: VecDeque::new(),
            effects: Effects::new(),
            completions: completions.receiver,
            front,
            control,
            phase: Phase::Serving,
        };
        (driver, Handle { control: sender })
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
    }

    fn everyone(&self) -> Vec<Endpoint> {
        let stores = self.stores.keys().map(|id| Endpoint::Store(*id));
        stores.chain([Endpoint::Gateway(self.gateway_id)]).collect()
    }

    fn push(&mut self, to: Endpoint, event: Common) {
        match to {
            Endpoint::Store(id) => self.queue.push_back(Work::Store(id, event.into())),
            Endpoint::Gateway(_) => self.queue.push_back(Work::Gateway(event.into())),
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
        let mut effects = std::mem::take(&mut self.effects);
        let stepped = match work {
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
                self.push(envelope.to, Common::Message(envelope));
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

    /// Take a machine out for good.
    fn halt(&mut self, who: Endpoint, reason: String) -> Result<(), DriverError> {
        tracing::error!("{who} has halted: {reason}");
        let Endpoint::Store(id) = who else {
            return Err(DriverError::Gateway(reason));
        };
        // Its disk finishes what is in flight and is closed.
        self.stores.remove(&id);
        if self.stores.is_empty() {
            return Err(DriverError::NoStores(reason));
        }
        if self.stores.len() < QUORUM {
            tracing::error!(
                "only {} store is left, and {QUORUM} are needed: NOTHING CAN BE READ OR WRITTEN \
                 until halted stores run again; mend what is said above, then restart trine",
                self.stores.len()
            );
        }
        for peer in self.everyone() {
            self.push(peer, Common::LinkDown(who));
        }
        Ok(())
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
    }

    async fn wait(&mut self) -> Wake {
        let (runtime, deadline) = (self.runtime.clone(), self.next_wake());
        let time = async move {
            match deadline {
                Some(at) => runtime.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        // A channel whose other end is gone takes no part.
        tokio::select! {
            biased;
            Some(control) = self.control.recv() => Wake::Control(control),
            Some(completion) = self.completions.recv() => Wake::Completion(completion),
            Some(call) = self.front.recv() => Wake::Front(call),
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

    fn take(&mut self, wake: Wake) {
        match wake {
            Wake::Time => {}
            Wake::Completion(Completion { store, token, result }) => {
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
        Status {
            stores: self.stores.iter().map(|(id, slot)| (*id, slot.machine.status())).collect(),
            gateway: self.gateway.status(),
            requests: self.exchanges.len(),
        }
    }

    /// Go on to the next phase if this one is done; `true` at the end of the last.
    fn phase_done(&mut self) -> bool {
        let now = self.runtime.now();
        if let Phase::Draining { until } = self.phase
            && (self.exchanges.is_empty() || now >= until)
        {
            self.phase = Phase::Quiet { until: now + QUIET_MAX };
        }
        let Phase::Quiet { until } = self.phase else { return false };
        let in_flight: usize = self.stores.values().map(|slot| slot.in_flight).sum();
        if in_flight > 0 && now >= until {
            tracing::warn!("stopping with {in_flight} disk effects in flight, after {QUIET_MAX:?}");
        }
        in_flight == 0 || now >= until
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
mod tests;
