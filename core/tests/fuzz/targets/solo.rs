//! A cluster of one store in one zone, with its disk: the smallest thing that recovers, elects, applies and
//! serves. Every step and every disk operation is counted.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use trine_core::cluster::{
    ClusterMap, Geometry, ROOT_RANGE, Slot, StoreConfig, StoreLimits, StoreTiming, ZoneMap,
};
use trine_core::consensus::Role;
use trine_core::disk::{DiskError, DiskOp};
use trine_core::effects::{Effect, Effects, Now, StoreEvent};
use trine_core::ids::{
    CallId, ClusterId, CommitSequence, Endpoint, GatewayId, RangeEpoch, SessionId, StoreId, ZoneId,
};
use trine_core::level::Levels;
use trine_core::message::{Answer, Ask, Envelope, Message, RangeCall};
use trine_core::range::command::{Command, CommandBody, Origin, Outcome};
use trine_core::store::Store;
use trine_core::time::{Instant, WallTime};

use super::image::rig::disk;

pub(crate) use super::image::rig::disk::Disk;

pub(crate) const CLUSTER: ClusterId = ClusterId(7);
pub(crate) const STORE: StoreId = StoreId(1);
pub(crate) const GATEWAY: GatewayId = GatewayId(100);
pub(crate) const GEOMETRY: Geometry = Geometry::SIMULATION;
const SECTOR: u64 = 4096;

/// The store, its disk, and what is under way.
pub(crate) struct Solo {
    store: Store,
    pub(crate) disk: Disk,
    /// Sectors that cannot be read.
    pub(crate) unreadable: BTreeSet<u64>,
    queue: VecDeque<StoreEvent>,
    pub(crate) sent: Vec<Message>,
    /// Why it has stopped.
    pub(crate) halted: Option<String>,
    /// Events that were taken, and disk operations carried out, in this life.
    pub(crate) steps: u64,
    pub(crate) operations: u64,
    micros: u64,
    calls: u64,
    lives: u64,
    pub(crate) session: SessionId,
    /// Of the session's next command.
    pub(crate) sequence: u64,
}

impl Solo {
    /// Started on this disk.
    pub(crate) fn start(disk: Disk) -> Self {
        let mut solo = Self {
            store: Store::new(config(1)),
            disk,
            unreadable: BTreeSet::new(),
            queue: VecDeque::new(),
            sent: Vec::new(),
            halted: None,
            steps: 0,
            operations: 0,
            micros: 0,
            calls: 0,
            lives: 0,
            session: SessionId(0),
            sequence: 1,
        };
        solo.restart();
        solo
    }

    /// As after a kill.
    pub(crate) fn restart(&mut self) {
        self.lives += 1;
        self.store = Store::new(config(self.lives));
        self.queue = VecDeque::from([StoreEvent::Start]);
        (self.halted, self.steps, self.operations) = (None, 0, 0);
    }

    /// One event, or the next deadline. `false`: it has stopped, or waits for nothing.
    pub(crate) fn turn(&mut self) -> bool {
        if self.halted.is_some() {
            return false;
        }
        self.micros += 1;
        let event = match (self.queue.pop_front(), self.store.next_deadline()) {
            (Some(event), _) => event,
            (None, Some(_)) => {
                // Evenly, however far away the deadline is: the session, which nobody renews, is not to end meanwhile.
                self.micros += 5000;
                StoreEvent::Deadline
            }
            (None, None) => return false,
        };
        self.steps += 1;
        let mut fx = Effects::new();
        self.store.step(self.now(), event, &mut fx);
        // It looks at everything: not at each of thousands of steps.
        if self.steps.is_multiple_of(16) {
            self.store.check();
        }
        for effect in fx.drain() {
            match effect {
                Effect::Send(Envelope { message, .. }) => self.sent.push(message),
                Effect::Disk { token, op } => {
                    self.operations += 1;
                    let bad = matches!(&op, DiskOp::Read { offset, len }
                        if self.unreadable.range(*offset..offset + len).next().is_some());
                    if let DiskOp::Write { offset, parts } = &op {
                        let len: usize = parts.iter().map(Bytes::len).sum();
                        for at in (*offset..offset + len as u64).step_by(4096) {
                            self.unreadable.remove(&at);
                        }
                    }
                    self.in_bounds(&op);
                    let result = match bad {
                        true => Err(DiskError::Io("medium error".into())),
                        false => Ok(disk::carry_out(&mut self.disk, op)),
                    };
                    self.queue.push_back(StoreEvent::Disk { token, result });
                }
                Effect::Halt { reason } => self.halted = Some(reason),
                _ => {}
            }
        }
        true
    }

    /// A disk has an end, and no process has memory for all of it.
    fn in_bounds(&self, op: &DiskOp) {
        let (offset, len) = match op {
            DiskOp::Read { offset, len } | DiskOp::Trim { offset, len } => (*offset, *len),
            DiskOp::Write { offset, parts } => {
                (*offset, parts.iter().map(|part| part.len() as u64).sum())
            }
            DiskOp::Sync => return,
        };
        let end = offset.checked_add(len).expect("an operation within the address space");
        assert!(end <= GEOMETRY.capacity, "{op:?} is behind the end of the disk");
        assert!(offset.is_multiple_of(SECTOR) && len.is_multiple_of(SECTOR) && len > 0, "{op:?}");
        let read = matches!(op, DiskOp::Read { .. });
        assert!(!read || len <= 8 << 20, "{len} bytes in one read");
    }

    fn now(&self) -> Now {
        Now {
            instant: Instant::from_nanos(self.micros * 1000),
            wall: WallTime::from_millis(1_700_000_000_000 + self.micros / 1000),
        }
    }

    /// Run until this holds; `false` after so many steps, or when it has stopped.
    pub(crate) fn until(&mut self, steps: u64, holds: impl Fn(&Self) -> bool) -> bool {
        for _ in 0..steps {
            if holds(self) {
                return true;
            }
            if !self.turn() {
                return false;
            }
        }
        holds(self)
    }

    /// Whether recovery is over and the store speaks to others.
    pub(crate) fn is_open(&self) -> bool {
        self.store.probe().is_some()
    }

    /// Whether it takes commands.
    pub(crate) fn leads(&self) -> bool {
        let probe = self.store.probe();
        let role = probe.and_then(|probe| Some(probe.replica(ROOT_RANGE)?.role));
        role == Some(Role::Leader)
    }

    pub(crate) fn status(&self) -> String {
        self.store.status()
    }

    /// Deliver a message.
    pub(crate) fn deliver(&mut self, from: Endpoint, message: Message) {
        let envelope = Envelope { from, to: Endpoint::Store(STORE), message };
        self.queue.push_back(StoreEvent::Message(envelope));
    }

    /// Deliver a gateway's message, and give back what is sent within so many steps that fits.
    pub(crate) fn exchange<T>(
        &mut self,
        message: Message,
        steps: u64,
        fits: impl Fn(&Message) -> Option<T>,
    ) -> Option<T> {
        self.sent.clear();
        self.deliver(Endpoint::Gateway(GATEWAY), message);
        for _ in 0..steps {
            if !self.turn() {
                return None;
            }
            if let Some(found) = self.sent.drain(..).find_map(|message| fits(&message)) {
                return Some(found);
            }
        }
        None
    }

    /// Ask the range; `None` if it refuses, or does not answer within so many steps.
    pub(crate) fn ask(&mut self, ask: Ask, steps: u64) -> Option<Answer> {
        let call = self.call();
        let message = Message::RangeCall(RangeCall {
            call,
            origin: GATEWAY,
            session: self.session,
            range: ROOT_RANGE,
            epoch: RangeEpoch(1),
            forwarded: false,
            ask,
        });
        self.exchange(message, steps, |message| match message {
            Message::RangeAnswer(answer) if answer.call == call => Some(answer.result.clone().ok()),
            _ => None,
        })
        .flatten()
    }

    pub(crate) fn call(&mut self) -> CallId {
        self.calls += 1;
        CallId(self.calls)
    }

    /// Have a command applied.
    pub(crate) fn command(&mut self, body: CommandBody) -> Outcome {
        let outcome = self.try_command(body, 1000);
        outcome.unwrap_or_else(|| panic!("no answer: {:?} {}", self.halted, self.status()))
    }

    /// Ask for a command so many times, at most, until there is an answer.
    pub(crate) fn try_command(&mut self, body: CommandBody, times: u64) -> Option<Outcome> {
        let origin = match body {
            CommandBody::OpenSession { .. } => Origin::System,
            _ => {
                let sequence = CommitSequence(self.sequence);
                self.sequence += 1;
                Origin::Session { session: self.session, sequence, watermark: sequence }
            }
        };
        let ask = Ask::Command(Box::new(Command { origin, body }));
        for _ in 0..times {
            if let Some(Answer::Applied(outcome)) = self.ask(ask.clone(), 300) {
                return Some(outcome);
            }
            // Refused: it has not elected itself yet, or has too much to do.
            for _ in 0..50 {
                self.turn();
            }
        }
        None
    }
}

fn config(seed: u64) -> StoreConfig {
    let zone = ZoneMap { zone: ZoneId(0), slots: vec![Slot { store: STORE, weight: 1 }] };
    StoreConfig {
        levels: Levels::OWN,
        cluster: CLUSTER,
        store: STORE,
        zone: ZoneId(0),
        map: ClusterMap::bootstrap(64, vec![zone]),
        geometry: GEOMETRY,
        limits: StoreLimits::SIMULATION,
        timing: StoreTiming::DEFAULT,
        seed,
    }
}
