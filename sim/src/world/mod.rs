//! The world: machines, network, disks, clocks and clients, moved by one event queue.
//!
//! Machines are driven exactly by the core's calling contract: one step, then all its effects, then
//! the next event, not later than the deadline that the machine asks for. `power` stops and starts
//! machines and carries out the plan of faults; `clients` carries requests and bodies.
//!
//! A run has three parts. While faults strike, only safety is checked (in a run with one failing
//! zone also that operations go on). Then everything is healed, and within a bounded time each key
//! must be readable and all replicas at one state. At last the histories are judged.

mod audit;
mod clients;
mod links;
mod machine;
mod onlooker;
mod operator;
mod power;
mod queue;
mod setup;
mod steer;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod toy;

use trine_core::cluster::{ClusterMap, Geometry};
use trine_core::disk::{DiskOp, DiskOutput, Room};
use trine_core::effects::{Effect, Effects};
use trine_core::ids::{DiskToken, Endpoint, SessionId, ZoneId};
use trine_core::message::{Envelope, Message, SnapshotGiven, SnapshotWant};
use trine_core::store::Observation;

pub use machine::{GatewayMachine, Maker, MergeView, Real, StoreMachine};
pub use setup::GEOMETRY;
pub use steer::Leader;

use self::clients::{Client, ClientEvent};
use self::links::Links;
use self::machine::{Input, Machine, Side};
use self::onlooker::Onlooker;
use self::operator::{Operator, Proof};
use self::queue::Queue;
use crate::checkers::agreement::Agreement;
use crate::disk::SimDisk;
use crate::faults::plan::Episode;
use crate::faults::swarm::Swarm;
use crate::faults::{FaultKind, Hits};
use crate::network::Network;
use crate::random::Draw;
use crate::trace::{Sink, Trace};
use crate::workload::Workload;
use crate::{MILLISECOND, Nanos, SECOND};

/// How long everything may take to come right after the last fault.
const RECOVERY_MAX: Nanos = 60 * SECOND;
/// How often the world looks whether the next part of the run can begin.
const POLL: Nanos = 20 * MILLISECOND;
/// Replicas are compared at one of so many steps of their store.
const COMPARE_EVERY: u64 = 4;

/// What a run is made of. [`Setup::of_seed`] draws it; scenarios write their own.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Decides all draws.
    pub seed: u64,
    /// How everything behaves.
    pub swarm: Swarm,
    /// What fails when, in order of time.
    pub plan: Vec<Episode>,
    /// The layout of each disk.
    pub geometry: Geometry,
}

impl Setup {
    /// The run that a seed stands for.
    pub fn of_seed(seed: u64) -> Self {
        let swarm = Swarm::draw(seed);
        let plan = crate::faults::plan::draw(seed, &swarm, swarm.stores_max(), swarm.gateways);
        Self { seed, swarm, plan, geometry: GEOMETRY }
    }
}

/// What was counted in a run.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// How often each fault happened.
    pub hits: Hits,
    /// Requests that ended.
    pub operations: u64,
    /// Requests that were served.
    pub served: u64,
    /// Requests that were refused because disks or journals are full.
    pub refused_full: u64,
    /// Deletes among these.
    pub deletes_refused: u64,
    /// Deletes that were done.
    pub deletes_done: u64,
    /// Puts of whole objects that were done.
    pub puts_done: u64,
    /// Copies of objects, and into parts, that were done.
    pub copies_done: [u64; 2],
    /// Keys whose history was too entangled to judge.
    pub undecided: u64,
    /// How often the journals of the stores that serve at the end went round their rings, in all.
    pub journal_rounds: u64,
    /// Chunks that some store has freed.
    pub chunks_freed: u64,
    /// In a run with one failing zone: the longest that a request to a gateway elsewhere took.
    pub gap_max: Nanos,
    /// From the end of all faults until every copy was seen to be there, if that was asked.
    pub redundant_after: Option<Nanos>,
    /// ...and nothing was left on them of what is dead.
    pub clean_after: Option<Nanos>,
    /// From the end of all faults until the map was proven, if it had former layouts.
    pub proven_after: Option<Nanos>,
    /// Merges of runs that stores completed in their last lives, values these moved, and segments
    /// they made free.
    pub merges: [u64; 3],
}

/// Something on its way to a machine.
struct Arrival {
    to: usize,
    life: u64,
    from: usize,
    generation: u64,
    input: Input,
}

enum Happening {
    /// Boxed: the queue moves its entries about, and the others are small.
    Arrive(Box<Arrival>),
    Wake {
        machine: usize,
        life: u64,
    },
    DiskDone {
        machine: usize,
        life: u64,
        token: DiskToken,
    },
    Client {
        client: usize,
        event: ClientEvent,
    },
    EpisodeBegins(usize),
    EpisodeEnds(usize),
    KillAgain {
        machine: usize,
        life: Option<u64>,
    },
    Release {
        machine: usize,
    },
    FaultsEnd,
    Poll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Faults,
    /// Requests in hand end.
    Draining,
    /// Everything is read back.
    Verifying,
    /// Replicas catch up.
    Settling,
    Over,
}

/// One run.
pub struct World<M: Maker> {
    maker: M,
    now: Nanos,
    queue: Queue<Happening>,
    machines: Vec<Machine<M>>,
    links: Links,
    network: Network,
    plan: Vec<Episode>,
    swarm: Swarm,
    /// The cluster map as the operator knows it.
    map: ClusterMap,
    operator: Operator,
    /// The session of a gateway that was heard last.
    session: SessionId,
    clients: Vec<Client>,
    workload: Workload,
    agreement: Agreement,
    onlooker: Onlooker,
    trace: Trace,
    counts: Counts,
    part: Part,
    healed_at: Nanos,
    disk_draw: Draw,
    fault_draw: Draw,
    effects: Effects,
    steps: u64,
    failure: Option<String>,
}

impl<M: Maker> World<M> {
    /// A world before its first event. `sink` takes the lines of the trace.
    pub fn new(maker: M, setup: Setup, sink: Option<Sink>) -> Self {
        setup::build(maker, setup, Trace::new(sink))
    }

    /// Run to the end.
    ///
    /// # Errors
    /// Says which promise was broken, or what is stuck.
    pub fn run(&mut self) -> Result<(), String> {
        self.run_while(|world| world.part != Part::Over)?;
        self.counts.journal_rounds = self.journal_rounds();
        self.counts.chunks_freed = self.workload.redundancy.chunks_freed();
        self.counts.undecided = self.workload.history.check()?;
        Ok(())
    }

    /// Run until `at`, if nothing fails before.
    ///
    /// # Errors
    /// Says what was broken.
    pub fn run_until(&mut self, at: Nanos) -> Result<(), String> {
        self.run_while(|world| world.now < at && world.part != Part::Over)
    }

    fn run_while(&mut self, go_on: impl Fn(&Self) -> bool) -> Result<(), String> {
        while go_on(self) {
            let (at, happening) = self.queue.pop().expect("the world polls until its end");
            assert!(at >= self.now, "time goes forward");
            self.now = at;
            self.happen(happening);
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Simulated time so far.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn journal_rounds(&self) -> u64 {
        let stores = self.machines.iter().filter_map(|machine| match &machine.side {
            Side::Store(side) => Some((side.machine.as_ref()?, side.config.geometry.journal)),
            Side::Gateway(_) => None,
        });
        stores.map(|(store, ring)| store.journal_head() / ring).sum()
    }

    /// The hash of the trace, and how many events it has.
    pub fn trace(&self) -> (u64, u64) {
        (self.trace.hash(), self.trace.events())
    }

    /// One line for each machine, and one for the clients.
    pub fn status(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.machines.iter().map(Machine::status).collect();
        let busy = self.clients.iter().filter(|client| client.is_busy()).count();
        lines.push(format!(
            "{:?}: {busy} of {} clients wait; {}",
            self.part,
            self.clients.len(),
            self.workload.stage()
        ));
        lines
    }

    /// What clients do and saw.
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// The disk of a store, to damage it while the store is stopped ([`World::stop_store`]).
    ///
    /// # Panics
    /// If there is no such store.
    pub fn disk(&mut self, store: usize) -> &mut SimDisk {
        match &mut self.machines[store].side {
            Side::Store(side) => &mut side.disk,
            Side::Gateway(_) => panic!("machine {store} is no store"),
        }
    }

    /// What `store` says of itself.
    pub fn store_status(&self, store: usize) -> String {
        self.machines[store].status()
    }

    /// For what the disk of `store` has room; `None` while it does not serve.
    pub fn room(&self, store: usize) -> Option<Room> {
        match &self.machines[store].side {
            Side::Store(side) => side.machine.as_ref()?.room(),
            Side::Gateway(_) => None,
        }
    }

    /// Why a store halted last, if it ever did.
    pub fn last_halt(&self, store: usize) -> Option<&str> {
        self.machines[store].halt.as_deref()
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive(arrival) => {
                let Arrival { to, life, from, generation, input } = *arrival;
                let message = matches!(input, Input::Message(_));
                let current = self.links.generation(from, to) == generation;
                if !message || current && !self.network.is_cut(from, to) {
                    self.input(to, life, input);
                }
            }
            Happening::Wake { machine, life } => {
                let due = self.machines[machine].wake == Some(self.now);
                if due && self.machines[machine].life == life {
                    self.machines[machine].wake = None;
                    if self.machines[machine].pauses == 0 {
                        self.input(machine, life, Input::Deadline);
                    }
                }
            }
            Happening::DiskDone { machine, life, token } => self.disk_done(machine, life, token),
            Happening::Client { client, event } => self.client_event(client, event),
            Happening::EpisodeBegins(number) => self.begin_episode(number),
            Happening::EpisodeEnds(number) => self.end_episode(number),
            Happening::KillAgain { machine, life } => self.kill_again(machine, life),
            Happening::Release { machine } => self.release(machine),
            Happening::FaultsEnd => self.heal(),
            Happening::Poll => self.poll(),
        }
    }

    /// Go on to the next part of the run when this one is done.
    fn poll(&mut self) {
        self.queue.push(self.now + POLL, Happening::Poll);
        if self.part == Part::Faults {
            return;
        }
        if self.now > self.healed_at + RECOVERY_MAX {
            self.stuck();
        }
        match self.part {
            Part::Draining
                if self.operator.is_idle() && self.clients.iter().all(|c| !c.is_busy()) =>
            {
                match self.proof() {
                    Proof::Waits => return,
                    Proof::Done => {
                        let moved = |kind: &FaultKind| self.counts.hits.of(*kind) > 0;
                        let after = self.now - self.healed_at;
                        self.counts.proven_after =
                            operator::MOVES.iter().any(moved).then_some(after);
                        self.take_drained_away();
                    }
                    Proof::Never => {}
                }
                self.part = Part::Verifying;
                self.workload.verify();
            }
            Part::Verifying if self.workload.is_over() => self.part = Part::Settling,
            Part::Settling => {
                for store in self.stores() {
                    self.compare(store);
                }
                // One whose disk is full cannot catch up.
                let full: Vec<usize> =
                    self.standing_voters().filter(|store| self.is_full(*store)).collect();
                full.iter().for_each(|store| self.agreement.gone(*store));
                let agree = self.agreement.settled(self.standing_voters().count() - full.len());
                if let Some(wrong) = self.workload.redundancy.freed_alive() {
                    return self.fail(wrong);
                }
                if self.swarm.redundancy && self.audit() {
                    let after = self.now - self.healed_at;
                    self.counts.clean_after.get_or_insert(after);
                }
                let whole = !self.swarm.redundancy || self.counts.clean_after.is_some();
                if agree && whole && self.merges_rest() {
                    self.part = Part::Over;
                }
            }
            Part::Faults | Part::Draining | Part::Verifying | Part::Over => {}
        }
    }

    /// Whether no store has runs to merge. Then none may have many, and what was done is counted.
    fn merges_rest(&mut self) -> bool {
        let mut views = Vec::new();
        for store in self.stores() {
            let Side::Store(side) = &self.machines[store].side else { continue };
            let view = side.machine.as_ref().and_then(|machine| machine.merging());
            views.extend(view.map(|view| (store, view)));
        }
        if views.iter().any(|(_, view)| view.busy) {
            return false;
        }
        self.counts.merges = [0; 3];
        for (store, view) in views {
            let counts = [view.merges, view.values_moved, view.segments_freed];
            for (sum, count) in self.counts.merges.iter_mut().zip(counts) {
                *sum += count;
            }
            if let Some((runs, most)) = view.runs.iter().find(|(runs, most)| runs > most) {
                let name = &self.machines[store].name;
                self.failure.get_or_insert(format!(
                    "{name} has a table of {runs} runs and none to merge: at most {most}"
                ));
            }
        }
        true
    }

    fn stuck(&mut self) {
        let mut status = self.status();
        if self.part == Part::Settling && self.swarm.redundancy {
            status.push(self.workload.redundancy.complaint());
        }
        if self.proof() == Proof::Waits {
            status.push("the map is not proven".to_owned());
        }
        let seconds = RECOVERY_MAX / SECOND;
        let status = status.join("\n    ");
        self.fail(format!("stuck {seconds} s after the last fault:\n    {status}"));
    }

    /// Stores are the first machines.
    fn stores(&self) -> std::ops::Range<usize> {
        0..self.machines.iter().filter(|machine| machine.is_store()).count()
    }

    /// Stores that are to have a replica of the root range, and are not gone for ever.
    fn standing_voters(&self) -> impl Iterator<Item = usize> + '_ {
        self.stores().filter(|store| {
            let Machine { gone, endpoint, .. } = &self.machines[*store];
            !gone && matches!(endpoint, Endpoint::Store(id) if self.map.voters.contains(id))
        })
    }

    /// Whether a store whose disk is smaller than the others has no room left.
    fn is_full(&self, store: usize) -> bool {
        let small = self.swarm.small_disk.is_some_and(|(small, _)| small == store);
        small && self.room(store).is_some_and(|room| room < Room::Data)
    }

    /// The first failure counts.
    fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    /// Something reaches a machine, unless that life of it is over.
    fn input(&mut self, machine: usize, life: u64, input: Input) {
        let target = &mut self.machines[machine];
        if target.life != life || !target.up {
            return;
        }
        if target.pauses > 0 {
            target.late.push(input);
            return;
        }
        self.step(machine, input);
    }

    fn step(&mut self, machine: usize, input: Input) {
        let sync_failed = self.trace_input(machine, &input);
        let mut effects = std::mem::take(&mut self.effects);
        self.machines[machine].step(self.now, input, &mut effects);
        self.look_on(machine);
        for effect in effects.drain() {
            self.effect(machine, effect);
        }
        self.effects = effects;
        if sync_failed && self.machines[machine].up {
            self.fail(format!("{} goes on after a failed sync", self.machines[machine].name));
        }
        self.steps += 1;
        if self.machines[machine].is_store() && self.steps.is_multiple_of(COMPARE_EVERY) {
            self.compare(machine);
        }
        self.schedule(machine);
    }

    /// Ask for the machine's deadline, if it has changed.
    fn schedule(&mut self, machine: usize) {
        let (now, target) = (self.now, &mut self.machines[machine]);
        if !target.up || target.pauses > 0 {
            return;
        }
        let deadline = target.next_deadline();
        // A deadline that is due already comes a moment later: time must go on.
        let wake = deadline.map(|deadline| target.clock.at(deadline.at).max(now + 1));
        if target.wake != wake {
            target.wake = wake;
            if let Some(at) = wake {
                self.queue.push(at, Happening::Wake { machine, life: target.life });
            }
        }
    }

    /// Show the ghost what a store did. Its effects have not happened yet.
    fn look_on(&mut self, store: usize) {
        let Side::Store(side) = &mut self.machines[store].side else { return };
        let Some(machine) = &mut side.machine else { return };
        let seen = machine.observations();
        for (_, fact) in &seen {
            if let Observation::Freed { chunk, live } = fact {
                self.freed(store, *chunk, live);
            }
        }
        if let Err(broken) = self.onlooker.step(store, seen) {
            self.fail(broken);
        }
    }

    fn compare(&mut self, store: usize) {
        let Side::Store(side) = &self.machines[store].side else { return };
        let Some(machine) = &side.machine else { return };
        for view in machine.views() {
            if let Err(wrong) = self.agreement.observe(store, view) {
                self.failure.get_or_insert(wrong);
            }
        }
    }

    fn effect(&mut self, machine: usize, effect: Effect) {
        if !self.machines[machine].up {
            // It has halted in this very step.
            return;
        }
        match effect {
            Effect::Send(envelope) => self.send(machine, envelope),
            Effect::Disk { token, op } => self.disk_effect(machine, token, op),
            Effect::Halt { reason } => self.halted(machine, &reason),
            Effect::Note(text) => {
                self.trace.say(self.now, &self.machines[machine].name, "note", &text);
            }
            Effect::Reply { .. }
            | Effect::Copying { .. }
            | Effect::NeedBody { .. }
            | Effect::BodyOut { .. }
            | Effect::BodyEnd { .. }
            | Effect::BodyFailed { .. }
            | Effect::Disconnect { .. } => self.client_effect(machine, effect),
        }
    }

    fn send(&mut self, from: usize, envelope: Envelope) {
        let sender = &self.machines[from];
        assert_eq!(envelope.from, sender.endpoint, "{} sends as somebody else", sender.name);
        if envelope.to == audit::AUDITOR {
            return self.audited(envelope);
        }
        if self.operator.has_retired(envelope.to) {
            return;
        }
        let Some(to) = self.machine_of(envelope.to) else {
            return self.fail(format!("{} sends to {}, who is nobody", sender.name, envelope.to));
        };
        if sender.is_store()
            && let Err(broken) = self.onlooker.sends(from, &envelope.message)
        {
            return self.fail(broken);
        }
        let (envelope, number) = self.maker.carry(envelope);
        if !sender.is_store() {
            self.overhear(&envelope.message);
        }
        let sender = &self.machines[from];
        self.trace.event(self.now, &sender.name, "send", [to as u64, number], || {
            format!("→ {} {}", self.machines[to].name, summary(&envelope.message))
        });
        if !self.links.is_up(from, to) || !self.machines[to].up {
            return;
        }
        let [first, second] = self.network.send(self.now, from, to, &mut self.counts.hits);
        let (life, generation) = (self.machines[to].life, self.links.generation(from, to));
        for at in second.into_iter().chain(first) {
            let input = Input::Message(envelope.clone());
            let arrival = Arrival { to, life, from, generation, input };
            self.queue.push(at, Happening::Arrive(Box::new(arrival)));
        }
    }

    fn machine_of(&self, endpoint: Endpoint) -> Option<usize> {
        self.machines.iter().position(|machine| machine.endpoint == endpoint)
    }

    fn disk_effect(&mut self, machine: usize, token: DiskToken, op: DiskOp) {
        let (faults, weak) = (self.part == Part::Faults, self.is_weak(machine));
        let (kind, latency, rare, often) = match &op {
            DiskOp::Read { .. } => (FaultKind::ReadFailed, self.swarm.disk_read, 10, 100),
            DiskOp::Write { .. } | DiskOp::Trim { .. } => {
                (FaultKind::WriteFailed, self.swarm.disk_write, 1, 10)
            }
            DiskOp::Sync => (FaultKind::SyncFailed, self.swarm.disk_sync, 2, 20),
        };
        let draw = &mut self.disk_draw;
        // A trim that fails loses nothing: it is not among the faults.
        let may_fail = faults
            && match op {
                DiskOp::Trim { .. } => false,
                // What cannot be read counts as damaged: only ever in one zone.
                DiskOp::Read { .. } => weak,
                DiskOp::Write { .. } | DiskOp::Sync => true,
            };
        let fails = may_fail && draw.of_ten_thousand(self.swarm.chance(kind, rare, often));
        let mut takes = latency.draw(draw);
        let stalls = self.swarm.chance(FaultKind::DiskStalled, 2, 30);
        let mut stalled = 0;
        if faults && draw.of_ten_thousand(stalls) {
            stalled = draw.skewed(20 * MILLISECOND, 2 * SECOND);
            self.counts.hits.hit(FaultKind::DiskStalled);
        }
        let unreadable = self.swarm.chance(FaultKind::SectorUnreadable, 100, 1_000);
        let target = &mut self.machines[machine];
        let Side::Store(side) = &mut target.side else {
            panic!("{} has no disk", target.name);
        };
        // A slow disk takes a multiple of its latency; a stall is as long as it is. Multiplied, one
        // lasted minutes beyond the end of all faults.
        takes = takes * side.slow.iter().copied().max().unwrap_or(1) + stalled;
        if let DiskOp::Read { offset, .. } = &op
            && faults
            && weak
            && draw.of_ten_thousand(unreadable)
        {
            side.disk.make_unreadable(*offset);
        }
        self.trace.event(self.now, &target.name, "disk", [token.0, takes], || describe(&op));
        self.onlooker.disk_started(machine, token, &op, &side.config.geometry);
        side.disk.start(token, op, fails);
        let life = target.life;
        self.queue.push(self.now + takes, Happening::DiskDone { machine, life, token });
    }

    /// Whether reads may fail there for long.
    fn is_weak(&self, machine: usize) -> bool {
        self.machines[machine].zone == Some(ZoneId(self.swarm.weak_zone))
    }

    fn disk_done(&mut self, machine: usize, life: u64, token: DiskToken) {
        let target = &mut self.machines[machine];
        if target.life != life {
            return;
        }
        let Side::Store(side) = &mut target.side else { return };
        let result = side.disk.finish(token, &mut self.disk_draw, &mut self.counts.hits);
        if let Some(result) = result {
            target.disk_failed |= result.is_err();
            self.onlooker.disk_finished(machine, token, result.is_ok());
            self.input(machine, life, Input::Disk { token, result });
        }
    }

    /// Put an input into the trace. Says whether it is a failed sync.
    fn trace_input(&mut self, machine: usize, input: &Input) -> bool {
        let (what, numbers) = match input {
            Input::Start => ("start", [0, 0]),
            Input::Deadline => ("deadline", [0, 0]),
            Input::Message(envelope) => {
                let from = self.machine_of(envelope.from).unwrap_or(usize::MAX);
                ("message", [from as u64, weight(&envelope.message)])
            }
            Input::LinkUp(_) => ("link up", [0, 0]),
            Input::LinkDown(_) => ("link down", [0, 0]),
            Input::Disk { token, result } => ("disk done", [token.0, u64::from(result.is_ok())]),
            Input::Client(_) => ("client", [0, 0]),
        };
        let name = &self.machines[machine].name;
        self.trace.event(self.now, name, what, numbers, || match input {
            Input::Message(envelope) => {
                format!("← {} {}", envelope.from, summary(&envelope.message))
            }
            Input::LinkUp(peer) | Input::LinkDown(peer) => peer.to_string(),
            Input::Disk { token, result } => match result {
                Ok(DiskOutput::Read(bytes)) => format!("{token} read {} bytes", bytes.len()),
                other => format!("{token} {other:?}"),
            },
            Input::Client(event) => clients::describe(event),
            Input::Start | Input::Deadline => String::new(),
        });
        matches!(input, Input::Disk { result: Err(_), token } if self.syncs_failed(machine, *token))
    }

    fn syncs_failed(&self, machine: usize, token: DiskToken) -> bool {
        match &self.machines[machine].side {
            Side::Store(side) => side.disk.failed_sync() == Some(token),
            Side::Gateway(_) => false,
        }
    }
}

/// A number that differs between most different messages, for the trace's hash.
fn weight(message: &Message) -> u64 {
    match message {
        Message::Hello(hello) => hello.life.incarnation.0 << 8,
        Message::Consensus { messages, wall } => (messages.len() as u64) << 48 ^ wall.as_millis(),
        Message::RangeCall(call) => call.call.0 << 8 | 1,
        Message::RangeAnswer(answer) => answer.call.0 << 8 | 2,
        Message::ChunkWrite(write) => write.call.0 << 24 ^ write.data.len() as u64,
        Message::ChunkWritten(written) => written.call.0 << 8 | 3,
        Message::ChunkRead(read) => read.call.0 << 8 | 4,
        Message::ChunkData(data) => data.call.0 << 8 | 5,
        Message::SnapshotAsk(ask) => match &ask.want {
            SnapshotWant::State { at_least } => at_least.0 << 8 | 20,
            SnapshotWant::Pages { page, from, .. } => page << 16 ^ from.len() as u64,
            SnapshotWant::Nothing { snapshot } => snapshot.number << 8 | 21,
        },
        Message::SnapshotPage(page) => match &page.given {
            SnapshotGiven::State { index, .. } => index.0 << 8 | 22,
            SnapshotGiven::Rows { page, rows, .. } => page << 24 ^ rows.len() as u64,
            SnapshotGiven::Gone { snapshot } => snapshot.number << 8 | 23,
        },
        Message::DirectoryAsk { have } => have.0 << 8 | 11,
        Message::DirectoryAnswer(directory) => {
            directory.as_ref().map_or(0, |directory| directory.version.0) << 8 | 12
        }
        Message::ChunkPull(ask) => ask.call.0 << 8 | 13,
        Message::ChunkPulled(pulled) => pulled.call.0 << 8 | 14,
        Message::ChunkRepair(repair) => repair.call.0 << 8 | 15,
        Message::ChunkCheck(ask) => ask.call.0 << 8 | 16,
        Message::ChunkChecked(checked) => checked.call.0 << 8 | 17,
        Message::InventoryAsk(ask) => ask.call.0 << 8 | 18,
        Message::InventoryAnswer(answer) => answer.call.0 << 8 | 19,
        Message::BlobAsk(ask) => ask.call.0 << 8 | 24,
        Message::BlobAnswer(answer) => answer.call.0 << 8 | 25,
        Message::BlobFree(free) => free.call.0 << 8 | 26,
        Message::BlobFreed(freed) => freed.call.0 << 8 | 27,
        Message::BlobsLeft(blobs) => (blobs.len() as u64) << 8 | 28,
        Message::MapProven { epoch } => epoch.0 << 8 | 29,
        Message::Ping(pulse) => pulse.sent.as_nanos() << 8 | 6,
        Message::Pong(pulse) => pulse.sent.as_nanos() << 8 | 7,
    }
}

/// A message in a line; bulk bytes are left out by their own `Debug`.
fn summary(message: &Message) -> String {
    let mut text = format!("{message:?}");
    if text.len() > 300 {
        let end = (0..=300).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn describe(op: &DiskOp) -> String {
    match op {
        DiskOp::Write { offset, parts } => {
            let len: usize = parts.iter().map(bytes::Bytes::len).sum();
            format!("write {len} at {offset}")
        }
        DiskOp::Read { offset, len } => format!("read {len} at {offset}"),
        DiskOp::Trim { offset, len } => format!("trim {len} at {offset}"),
        DiskOp::Sync => "sync".to_owned(),
    }
}
