//! The machines of the world, with their clocks and lives; and the seam behind which they stand.

use std::collections::{BTreeMap, BTreeSet};

use trine_core::cluster::{GatewayConfig, StoreConfig};
use trine_core::consensus::Role;
use trine_core::disk::Room;
use trine_core::effects::{Effects, GatewayEvent, Now, StoreEvent};
use trine_core::gateway::Gateway;
use trine_core::ids::{
    BlobId, DiskToken, Endpoint, Incarnation, RangeId, RequestId, SessionId, StoreId, ZoneId,
};
use trine_core::level::Level;
use trine_core::memory::MemoryAccount;
use trine_core::message::Envelope;
use trine_core::store::{Observation, Store, StoreLife};
use trine_core::time::{Deadline, Instant, WallTime};
use trine_core::wire::{self, Frame, PREFIX_BYTES, Prefix};

use crate::Nanos;
use crate::checkers::agreement::ReplicaView;
use crate::disk::{Image, SimDisk};

/// Steps of a machine between two looks at whether it contradicts itself.
const CHECK_EVERY: u64 = 8;

/// A store as the world drives it.
pub trait StoreMachine {
    /// Take one event.
    fn step(&mut self, now: Now, event: StoreEvent, fx: &mut Effects);
    /// When to call with `Deadline`.
    fn next_deadline(&self) -> Option<Deadline>;
    /// Check its invariants; panics if one does not hold.
    fn check(&self);
    /// One line.
    fn status(&self) -> String;
    /// For what its disk has room, if it says.
    fn room(&self) -> Option<Room> {
        None
    }
    /// Which life this is; `None` while it does not serve.
    fn life(&self) -> Option<(Incarnation, u64)> {
        None
    }
    /// Which life of another store it remembers durably; `None` while it does not serve.
    fn remembers(&self, _: StoreId) -> Option<(Incarnation, u64)> {
        None
    }
    /// What it holds in memory.
    fn memory(&self) -> MemoryAccount {
        MemoryAccount::default()
    }
    /// What its replicas show, for [`crate::checkers::agreement`].
    fn views(&self) -> Vec<ReplicaView>;
    /// What its merges of runs have come to; `None` while it does not serve.
    fn merging(&self) -> Option<MergeView>;
    /// What its replicas did in the last step, for the ghost.
    fn observations(&mut self) -> Vec<(RangeId, Observation)>;
    /// The position at which its journal ends.
    fn journal_head(&self) -> u64 {
        0
    }
    /// Before this position its journal may be written over; `None` while it does not serve.
    fn journal_tail(&self) -> Option<u64> {
        None
    }
    /// The version of what it knows of map and sessions; 0 while it does not serve.
    fn directory(&self) -> u64 {
        0
    }
    /// Whether it votes, as far as it knows; `false` while it does not serve.
    fn votes(&self, _own: StoreId) -> bool {
        true
    }
    /// The voters of a range in which it is a learner that distrusts its log; none if it is not.
    fn doubts_as_learner(&self, _own: StoreId) -> Vec<StoreId> {
        Vec::new()
    }
    /// How many former layouts of the map it still goes by; `None` while it does not serve.
    fn unproven(&self) -> Option<usize> {
        Some(0)
    }
    /// The feature level that the cluster is at, as far as it knows.
    fn level(&self) -> Option<Level> {
        None
    }
}

/// A store's merges of runs.
#[derive(Clone, Debug, Default)]
pub struct MergeView {
    /// Completed, in this life.
    pub merges: u64,
    /// Values that they moved.
    pub values_moved: u64,
    /// Segments that they made free.
    pub segments_freed: u64,
    /// One is due or under way.
    pub busy: bool,
    /// For each table how many runs there are, and how many there may be when none is due.
    pub runs: Vec<(usize, usize)>,
}

/// A gateway as the world drives it.
pub trait GatewayMachine {
    /// Take one event.
    fn step(&mut self, now: Now, event: GatewayEvent, fx: &mut Effects);
    /// When to call with `Deadline`.
    fn next_deadline(&self) -> Option<Deadline>;
    /// Check its invariants; panics if one does not hold.
    fn check(&self);
    /// One line.
    fn status(&self) -> String;
    /// What it holds in memory.
    fn memory(&self) -> MemoryAccount {
        MemoryAccount::default()
    }
    /// Commands of requests that their clients have given up, which may take effect yet.
    fn commands_left(&self) -> u64 {
        0
    }
    /// Its session, and which blobs it is reading.
    fn reads(&self) -> (SessionId, BTreeSet<BlobId>) {
        Default::default()
    }
    /// The same, for each open request.
    fn reads_of_requests(&self) -> Vec<(RequestId, BlobId)> {
        Vec::new()
    }
}

/// Makes the machines of a world: the real ones, or toys in the simulator's own tests.
pub trait Maker {
    /// Its stores.
    type Store: StoreMachine;
    /// Its gateways.
    type Gateway: GatewayMachine;
    /// A store that waits for its `Start`.
    fn store(&self, config: StoreConfig) -> Self::Store;
    /// A gateway that waits for its `Start`.
    fn gateway(&self, config: GatewayConfig) -> Self::Gateway;
    /// A store's disk was emptied: it starts from nothing, and rightly so.
    fn disk_emptied(&self, _store: StoreId) {}
    /// A message on its way: as a value, or through a codec. With it a number that differs between
    /// different messages, for the trace.
    fn carry(&self, envelope: Envelope) -> (Envelope, u64) {
        (envelope, 0)
    }
}

/// The machines of `trine-core`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Real;

impl Maker for Real {
    type Store = Store;
    type Gateway = Gateway;

    fn store(&self, config: StoreConfig) -> Store {
        Store::new(config)
    }

    fn gateway(&self, config: GatewayConfig) -> Gateway {
        Gateway::new(config)
    }

    /// Every message goes through the bytes that it has between processes.
    fn carry(&self, envelope: Envelope) -> (Envelope, u64) {
        let Frame { head, bulk } = wire::encode(&envelope);
        let prefix = head.slice(..PREFIX_BYTES);
        let lengths = Prefix::parse(&prefix).expect("the prefix was just made");
        let header = head.slice(PREFIX_BYTES..);
        assert_eq!((header.len(), bulk.len()), (lengths.header_len, lengths.bulk_len));
        // The prefix ends with the checksum of the header, which has those of the bulk.
        let number = prefix[8..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let decoded = wire::decode(&prefix, &header, bulk).expect("what is sent can be read");
        (decoded, number)
    }
}

impl StoreMachine for Store {
    fn step(&mut self, now: Now, event: StoreEvent, fx: &mut Effects) {
        Self::step(self, now, event, fx);
    }

    fn next_deadline(&self) -> Option<Deadline> {
        Self::next_deadline(self)
    }

    fn check(&self) {
        Self::check(self);
    }

    fn status(&self) -> String {
        Self::status(self)
    }

    fn room(&self) -> Option<Room> {
        self.probe().map(|probe| probe.room())
    }

    fn life(&self) -> Option<(Incarnation, u64)> {
        self.probe().map(|probe| probe.life())
    }

    fn remembers(&self, store: StoreId) -> Option<(Incarnation, u64)> {
        self.probe()?.remembers(store)
    }

    fn memory(&self) -> MemoryAccount {
        Self::memory(self)
    }

    fn views(&self) -> Vec<ReplicaView> {
        let Some(probe) = self.probe() else { return Vec::new() };
        probe
            .replicas()
            .map(|(range, replica)| ReplicaView {
                range: range.0,
                term: replica.term.0,
                leads: replica.role == Role::Leader,
                last_index: replica.last_index.0,
                commit: replica.commit.0,
                applied: replica.applied.map(|(index, hash)| (index.0, hash.0)),
            })
            .collect()
    }

    fn doubts_as_learner(&self, own: StoreId) -> Vec<StoreId> {
        let Some(probe) = self.probe() else { return Vec::new() };
        let replicas = probe.replicas().map(|(_, replica)| replica);
        let doubts = replicas.filter(|it| it.suspect && it.membership.is_learner(own));
        doubts.flat_map(|it| it.membership.voters().to_vec()).collect()
    }

    fn votes(&self, own: StoreId) -> bool {
        let Some(probe) = self.probe() else { return false };
        probe.replicas().any(|(_, replica)| replica.membership.is_voter(own))
    }

    fn merging(&self) -> Option<MergeView> {
        let probe = self.probe()?;
        let (merged, busy) = probe.merged();
        Some(MergeView {
            merges: merged.merges,
            values_moved: merged.values_moved,
            segments_freed: merged.segments_freed,
            busy,
            runs: probe.runs(),
        })
    }

    fn observations(&mut self) -> Vec<(RangeId, Observation)> {
        self.drain_observations()
    }

    fn journal_head(&self) -> u64 {
        self.probe().map_or(0, |probe| probe.journal().1)
    }

    fn journal_tail(&self) -> Option<u64> {
        self.probe().map(|probe| probe.given_up())
    }

    fn directory(&self) -> u64 {
        self.probe().map_or(0, |probe| probe.directory().0)
    }

    fn unproven(&self) -> Option<usize> {
        let report = self.report();
        (report.life == StoreLife::Serving).then_some(report.unproven)
    }

    fn level(&self) -> Option<Level> {
        self.report().level
    }
}

impl GatewayMachine for Gateway {
    fn step(&mut self, now: Now, event: GatewayEvent, fx: &mut Effects) {
        Self::step(self, now, event, fx);
    }

    fn next_deadline(&self) -> Option<Deadline> {
        Self::next_deadline(self)
    }

    fn check(&self) {
        Self::check(self);
    }

    fn status(&self) -> String {
        Self::status(self)
    }

    fn memory(&self) -> MemoryAccount {
        Self::memory(self)
    }

    fn commands_left(&self) -> u64 {
        self.report().commands_left
    }

    fn reads(&self) -> (SessionId, BTreeSet<BlobId>) {
        self.reads()
    }

    fn reads_of_requests(&self) -> Vec<(RequestId, BlobId)> {
        self.reads_of_requests()
    }
}

/// What reaches a machine.
#[derive(Clone, Debug)]
pub(super) enum Input {
    Start,
    Deadline,
    /// With the number of the event that sent it, if one did.
    Message(Envelope, Option<u64>),
    LinkUp(Endpoint),
    LinkDown(Endpoint),
    Disk {
        token: DiskToken,
        result: trine_core::disk::DiskResult,
    },
    Client(GatewayEvent),
}

/// The clocks of one life of a machine: monotonic from an origin of its own, wall with an error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    born: Nanos,
    origin: u64,
    drift_ppm: i64,
    wall_millis: u64,
}

impl Clock {
    /// A clock that shows `origin` at `born`, gains `drift_ppm`, and whose wall time at the start of
    /// the run was `wall_millis`.
    pub(super) fn new(born: Nanos, origin: u64, drift_ppm: i64, wall_millis: u64) -> Self {
        Self { born, origin, drift_ppm, wall_millis }
    }

    /// When this life began.
    pub(super) fn born(&self) -> Nanos {
        self.born
    }

    /// The wall clock jumps.
    pub(super) fn step(&mut self, millis: i64) {
        self.wall_millis = self.wall_millis.saturating_add_signed(millis);
    }

    pub(super) fn now(&self, at: Nanos) -> Now {
        let elapsed = self.scaled(at - self.born);
        let wall = self.wall_millis + self.scaled(at) / 1_000_000;
        Now {
            instant: Instant::from_nanos(self.origin + elapsed),
            wall: WallTime::from_millis(wall),
        }
    }

    /// When this clock shows `instant`, not earlier than that.
    pub(super) fn at(&self, instant: Instant) -> Nanos {
        let wanted = instant.as_nanos().saturating_sub(self.origin);
        let rate = u128::from(1_000_000_u64.saturating_add_signed(self.drift_ppm));
        let elapsed = (u128::from(wanted) * 1_000_000).div_ceil(rate);
        self.born.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    fn scaled(&self, span: Nanos) -> u64 {
        let rate = u128::from(1_000_000_u64.saturating_add_signed(self.drift_ppm));
        u64::try_from(u128::from(span) * rate / 1_000_000).unwrap_or(u64::MAX)
    }
}

/// A store's own things.
pub(super) struct StoreSide<M: Maker> {
    pub(super) config: StoreConfig,
    pub(super) machine: Option<M::Store>,
    pub(super) disk: SimDisk,
    /// How many times as long its disk takes, for each episode in which it is slow.
    pub(super) slow: Vec<u64>,
    /// What its disk was in a former life, and whose it was then.
    pub(super) image: Option<(StoreId, Image)>,
}

/// A gateway's own things.
pub(super) struct GatewaySide<M: Maker> {
    pub(super) config: GatewayConfig,
    pub(super) machine: Option<M::Gateway>,
    /// Requests that are open in this life: whose, and whether the client has given up.
    pub(super) requests: BTreeMap<RequestId, (usize, bool)>,
    pub(super) requested: u64,
}

// Few of them exist; a box would only add a hop.
#[allow(clippy::large_enum_variant, reason = "a world has less than ten machines")]
pub(super) enum Side<M: Maker> {
    Store(StoreSide<M>),
    Gateway(GatewaySide<M>),
}

/// A machine of the world.
pub(super) struct Machine<M: Maker> {
    pub(super) name: String,
    pub(super) endpoint: Endpoint,
    pub(super) zone: Option<ZoneId>,
    pub(super) side: Side<M>,
    pub(super) clock: Clock,
    /// Raised at each start and each end: what was meant for another life is dropped.
    pub(super) life: u64,
    pub(super) up: bool,
    /// Reasons for being down; at 0 it starts.
    pub(super) holds: u32,
    /// Whether it is gone for ever.
    pub(super) gone: bool,
    /// It was never started: a fault may add it.
    pub(super) spare: bool,
    /// Whether another takes its place when it is gone.
    pub(super) replaceable: bool,
    /// Reasons for standing still.
    pub(super) pauses: u32,
    /// What it knew last, in this life, of map and sessions.
    pub(super) directory: u64,
    /// Where its journal began last, in this life.
    pub(super) tail: Option<u64>,
    /// Steps taken, in all its lives.
    pub(super) steps: u64,
    /// What came while it stood still.
    pub(super) late: Vec<Input>,
    /// When it is to be woken.
    pub(super) wake: Option<Nanos>,
    /// When its disk was copied last.
    pub(super) image_at: Nanos,
    /// Whether its disk failed in this life, which is a reason to halt.
    pub(super) disk_failed: bool,
    /// Whether a scenario has damaged its disk.
    pub(super) damaged: bool,
    /// Its disk is not what it was: it may distrust it in its next life.
    pub(super) doubted: bool,
    /// Why it halted last.
    pub(super) halt: Option<String>,
}

impl<M: Maker> Machine<M> {
    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        match &self.side {
            Side::Store(side) => side.machine.as_ref()?.next_deadline(),
            Side::Gateway(side) => side.machine.as_ref()?.next_deadline(),
        }
    }

    pub(super) fn status(&self) -> String {
        let state = match (self.up, self.pauses) {
            (false, _) => "down",
            (true, 0) => "up",
            (true, _) => "paused",
        };
        let own = match &self.side {
            Side::Store(side) => side.machine.as_ref().map(StoreMachine::status),
            Side::Gateway(side) => side.machine.as_ref().map(GatewayMachine::status),
        };
        format!("{} {state} {}", self.name, own.unwrap_or_default())
    }

    pub(super) fn is_store(&self) -> bool {
        matches!(self.side, Side::Store(_))
    }

    /// One step of the machine, and its own checks: what it holds after each step, whether it contradicts
    /// itself, which takes longer, after some.
    pub(super) fn step(&mut self, at: Nanos, input: Input, fx: &mut Effects) {
        let now = self.clock.now(at);
        self.steps += 1;
        let check = self.steps.is_multiple_of(CHECK_EVERY);
        match &mut self.side {
            Side::Store(side) => {
                let Some(machine) = &mut side.machine else { return };
                machine.step(now, store_event(input), fx);
                if check {
                    machine.check();
                }
                within_limits(&self.name, &machine.memory());
            }
            Side::Gateway(side) => {
                let Some(machine) = &mut side.machine else { return };
                machine.step(now, gateway_event(input), fx);
                if check {
                    machine.check();
                }
                within_limits(&self.name, &machine.memory());
            }
        }
    }
}

/// Each kind of memory stays within its limit, whatever happens.
fn within_limits(name: &str, memory: &MemoryAccount) {
    assert_eq!(memory.over(), None, "{name} holds more of this than it may: {memory:?}");
}

fn store_event(input: Input) -> StoreEvent {
    match input {
        Input::Start => StoreEvent::Start,
        Input::Deadline => StoreEvent::Deadline,
        Input::Message(envelope, _) => StoreEvent::Message(envelope),
        Input::LinkUp(peer) => StoreEvent::LinkUp(peer),
        Input::LinkDown(peer) => StoreEvent::LinkDown(peer),
        Input::Disk { token, result } => StoreEvent::Disk { token, result },
        Input::Client(event) => unreachable!("a store has no clients: {event:?}"),
    }
}

fn gateway_event(input: Input) -> GatewayEvent {
    match input {
        Input::Start => GatewayEvent::Start,
        Input::Deadline => GatewayEvent::Deadline,
        Input::Message(envelope, _) => GatewayEvent::Message(envelope),
        Input::LinkUp(peer) => GatewayEvent::LinkUp(peer),
        Input::LinkDown(peer) => GatewayEvent::LinkDown(peer),
        Input::Disk { token, .. } => unreachable!("a gateway has no disk: {token}"),
        Input::Client(event) => event,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SECOND;

    #[test]
    fn deadline_in_a_drifting_clock_is_never_early_and_hardly_late() {
        for drift in [-500, 0, 300] {
            let clock = Clock::new(7 * SECOND, 123, drift, 0);
            for wanted in [124, 1_000_000_123, 77_123_456_789] {
                let at = clock.at(Instant::from_nanos(wanted));
                let shown = clock.now(at).instant.as_nanos();
                assert!((wanted..wanted + 2).contains(&shown), "{shown} for {wanted}");
            }
        }
    }
}
