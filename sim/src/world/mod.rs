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
pub mod choices;
mod clients;
mod crash;
mod lasting;
mod links;
mod looking;
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
pub(crate) mod toy;
mod upgrade;
mod words;

use trine_core::cluster::{ClusterMap, Geometry};
use trine_core::disk::{DiskOp, DiskOutput, Room};
use trine_core::effects::{Effect, Effects};
use trine_core::ids::{DiskToken, Endpoint, SessionId, ZoneId};
use trine_core::message::Envelope;
use trine_core::rare::Counted;
use trine_core::storage::layout;

pub use crash::{CrashPoint, Left, Who};
pub use machine::{GatewayMachine, Maker, MergeView, Real, StoreMachine};
pub use setup::GEOMETRY;
pub use steer::Leader;

use self::choices::Choices;
use self::clients::{Client, ClientEvent};
use self::crash::Crashes;
use self::links::Links;
use self::machine::{Input, Machine, Side};
use self::onlooker::Onlooker;
use self::operator::{Operator, Proof};
use self::queue::Queue;
use self::words::{describe, summary, weight};
use crate::checkers::agreement::Agreement;
use crate::checkers::custody::Custody;
use crate::checkers::ledger::Ledger;
use crate::checkers::promises::Promises;
use crate::disk::SimDisk;
use crate::faults::plan::Episode;
use crate::faults::strikes::{Place, Strikes};
use crate::faults::swarm::Swarm;
use crate::faults::{FaultKind, Hits};
use crate::network::Network;
use crate::random::Streams;
use crate::trace::{Fact, Sink, Trace};
use crate::workload::Workload;
use crate::{MILLISECOND, Nanos, SECOND};

/// How long everything may take to come right after the last fault.
const RECOVERY_MAX: Nanos = 60 * SECOND;
/// How long the operator waits after the faults for what comes right by itself.
const OPERATOR_LOOKS: Nanos = 20 * SECOND;
/// How often the world looks whether the next part of the run can begin.
const POLL: Nanos = 20 * MILLISECOND;
/// More steps than any run takes: something wakes itself all the time.
const STEPS_MAX: u64 = 10_000_000;
/// Replicas are compared at one of so many steps of their store.
const COMPARE_EVERY: u64 = 1;

/// What a run is made of. A seed draws it; scenarios write their own.
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
    /// What a seed draws for a world like this; see [`Seed::setup`].
    ///
    /// [`Seed::setup`]: crate::seed::Seed::setup
    pub fn of_swarm(seed: u64, swarm: Swarm) -> Self {
        let plan = crate::faults::plan::draw(seed, &swarm, swarm.stores_max(), swarm.gateways);
        let journal = swarm.small_journal.unwrap_or(GEOMETRY.journal);
        Self { seed, swarm, plan, geometry: Geometry { journal, ..GEOMETRY } }
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
    /// Rare paths of the core, and unusual things that it did.
    pub rare: Counted,
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
    /// All links of a machine stop, or come back.
    Clog {
        machine: usize,
        on: bool,
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
    rolling: upgrade::Rolling,
    /// The session of a gateway that was heard last.
    session: SessionId,
    clients: Vec<Client>,
    workload: Workload,
    agreement: Agreement,
    custody: Custody,
    ledger: Ledger,
    promises: Promises,
    onlooker: Onlooker,
    trace: Trace,
    counts: Counts,
    part: Part,
    healed_at: Nanos,
    strikes: Strikes,
    crashes: Crashes,
    disk_draws: Streams,
    fault_draws: Streams,
    effects: Effects,
    steps: u64,
    failure: Option<String>,
}

impl<M: Maker> World<M> {
    /// A world before its first event. `sink` takes the lines of the trace.
    pub fn new(maker: M, setup: Setup, sink: Option<Sink>) -> Self {
        Self::with_choices(maker, setup, Choices::default(), sink)
    }

    /// The same, with choices that are given, or to be written down.
    pub fn with_choices(maker: M, setup: Setup, choices: Choices, sink: Option<Sink>) -> Self {
        trine_core::rare::begin(setup.seed, &setup.swarm.rare);
        setup::build(maker, setup, choices, Trace::new(sink))
    }

    /// Run to the end.
    ///
    /// # Errors
    /// Says which promise was broken, or what is stuck.
    pub fn run(&mut self) -> Result<(), String> {
        self.run_at_most(Nanos::MAX).map(drop)
    }

    /// Run to the end, or until `at` at the latest. Says whether the end was reached.
    ///
    /// # Errors
    /// As [`World::run`].
    pub fn run_at_most(&mut self, at: Nanos) -> Result<bool, String> {
        self.run_until(at)?;
        if self.part != Part::Over {
            return Ok(false);
        }
        self.counts.journal_rounds = self.journal_rounds();
        self.counts.chunks_freed = self.workload.redundancy.chunks_freed();
        self.counts.undecided = self.workload.history.check()?;
        Ok(true)
    }

    /// Run until its trace has so many events, if nothing fails before.
    ///
    /// # Errors
    /// Says what was broken.
    pub fn run_to_event(&mut self, event: u64) -> Result<(), String> {
        self.run_while(|world| world.trace.events() < event && world.part != Part::Over)
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
        self.custody.hurt(store);
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
            Happening::Arrive(arrival) => self.arrive(*arrival),
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
            Happening::Clog { machine, on } => self.clog(machine, on),
            Happening::FaultsEnd if self.part == Part::Faults => self.heal(),
            // A world without anything left to do was healed before.
            Happening::FaultsEnd => {}
            Happening::Poll => self.poll(),
        }
    }

    /// Go on to the next part of the run when this one is done.
    fn poll(&mut self) {
        self.queue.push(self.now + POLL, Happening::Poll);
        if self.is_done_early() {
            self.heal();
        }
        if self.part == Part::Faults {
            return;
        }
        if self.now > self.healed_at + RECOVERY_MAX + self.reading_back() {
            self.stuck();
        }
        if self.now > self.healed_at + OPERATOR_LOOKS {
            self.replace_who_waits_in_vain();
        }
        match self.part {
            Part::Draining
                if self.operator.is_idle()
                    && self.clients.iter().all(|c| !c.is_busy())
                    && self.commands_left() == 0 =>
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
                let rest: Vec<usize> =
                    self.standing_voters().filter(|store| !self.is_full_for_good(*store)).collect();
                let agree = self.agreement.settled(&rest);
                let redundancy = &self.workload.redundancy;
                let unproven = self.custody.wrongly_proven(|chunk| redundancy.stands(chunk));
                if let Some(wrong) = redundancy.freed_alive().or(unproven.cloned()) {
                    return self.fail(wrong);
                }
                if self.swarm.redundancy && self.audit() {
                    let after = self.now - self.healed_at;
                    self.counts.clean_after.get_or_insert(after);
                }
                let whole = !self.swarm.redundancy || self.counts.clean_after.is_some();
                let roomy = !self.swarm.empties || !self.stores().any(|store| self.is_full(store));
                if agree && whole && roomy && self.levels_agree() && self.merges_rest() {
                    self.examine_all();
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
            // On a disk of few segments a merge may wait for room without end (0xf73855f1: 30 of them).
            let is_small = self.swarm.small_disk.is_some_and(|(small, _)| small == store);
            let many = view.runs.iter().find(|(runs, most)| runs > most);
            if let Some((runs, most)) = many.filter(|_| !is_small) {
                let name = &self.machines[store].name;
                self.failure.get_or_insert(format!(
                    "{name} has a table of {runs} runs and none to merge: at most {most}"
                ));
            }
        }
        true
    }

    /// How long it takes to read everything back, one key after the other, where zones are far apart: a read goes to
    /// the leader, from there to another zone, and back (seed 0x34: 402 keys, 100 ms).
    fn reading_back(&self) -> Nanos {
        let distances = self.swarm.distances.iter().flatten().map(|latency| latency.high);
        4 * distances.max().unwrap_or(0) * self.workload.keys().len() as u64
    }

    /// Stores are the first machines.
    fn stores(&self) -> std::ops::Range<usize> {
        0..self.machines.iter().filter(|machine| machine.is_store()).count()
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
        self.hears(machine, &input);
        let mut effects = std::mem::take(&mut self.effects);
        self.machines[machine].step(self.now, input, &mut effects);
        self.look_on(machine);
        for effect in effects.drain() {
            self.effect(machine, effect);
        }
        self.effects = effects;
        if let Err(alive) = self.ledger.judge_freed() {
            self.fail(format!("{} {alive}", self.machines[machine].name));
        }
        if self.steps > STEPS_MAX {
            self.fail(format!("{} spins", self.machines[machine].name));
        }
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
        if sender.is_store()
            && let Err(lost) = self.custody.says(from, sender.zone, &envelope.message)
        {
            return self.fail(format!("{} {lost}", sender.name));
        }
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
        match sender.is_store() {
            true => self.overhear_store(from, &envelope.message),
            false => self.overhear(from, envelope.to, &envelope.message),
        }
        let sender = &self.machines[from];
        self.trace.event(self.now, &sender.name, "send", [to as u64, number], || {
            format!(
                "→ {} {}",
                self.machines[to].name,
                summary(&envelope.message, self.workload.keys())
            )
        });
        let sent = self.trace.events();
        if !self.links.is_up(from, to) || !self.machines[to].up {
            return;
        }
        let (strikes, hits) = (&mut self.strikes, &mut self.counts.hits);
        let [first, second] = self.network.send(self.now, from, to, strikes, hits);
        let (life, generation) = (self.machines[to].life, self.links.generation(from, to));
        for at in second.into_iter().chain(first) {
            let input = Input::Message(envelope.clone(), Some(sent));
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
        let (draw, place) = (self.disk_draws.of(machine), Place::Machine(machine));
        // A trim that fails loses nothing: it is not among the faults.
        let may_fail = faults
            && match op {
                DiskOp::Trim { .. } => false,
                // What cannot be read counts as damaged: only ever in one zone.
                DiskOp::Read { .. } => weak,
                DiskOp::Write { .. } | DiskOp::Sync => true,
            };
        let fails = may_fail && {
            let drawn = draw.of_ten_thousand(self.swarm.chance(kind, rare, often));
            self.strikes.strikes(self.now, kind, place, drawn)
        };
        if fails && matches!(op, DiskOp::Read { .. }) {
            self.custody.hurt(machine);
        }
        let mut takes = latency.draw(draw);
        let stalls = self.swarm.chance(FaultKind::DiskStalled, 2, 30);
        let mut stalled = 0;
        let stalls = faults && {
            let drawn = draw.of_ten_thousand(stalls);
            self.strikes.strikes(self.now, FaultKind::DiskStalled, place, drawn)
        };
        if stalls {
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
            && let drawn = draw.of_ten_thousand(unreadable)
            && self.strikes.strikes(self.now, FaultKind::SectorUnreadable, place, drawn)
        {
            side.disk.make_unreadable(*offset);
            self.custody.hurt(machine);
        }
        self.trace.event(self.now, &target.name, "disk", [token.0, takes], || describe(&op));
        self.onlooker.disk_started(machine, token, &op, &side.config.geometry);
        // What is in the journal has one copy in a zone: lost without a trace, a voter would forget it.
        let start = layout::segments_start(&side.config.geometry);
        let behind = matches!(&op, DiskOp::Write { offset, .. } if *offset >= start);
        side.disk.start(token, op, fails);
        let life = target.life;
        self.queue.push(self.now + takes, Happening::DiskDone { machine, life, token });
        if behind && faults && weak {
            self.lie(machine, token, start);
        }
    }

    /// Whether reads may fail there for long.
    fn is_weak(&self, machine: usize) -> bool {
        self.machines[machine].zone == Some(ZoneId(self.swarm.weak_zone))
    }

    fn disk_done(&mut self, machine: usize, life: u64, token: DiskToken) {
        if self.machines[machine].life != life {
            return;
        }
        let crash = self.crash_due(machine);
        if let Some(point) = crash
            && !point.after
        {
            return self.crash(point);
        }
        let target = &mut self.machines[machine];
        let Side::Store(side) = &mut target.side else { return };
        let draw = self.disk_draws.of(machine);
        let result = side.disk.finish(token, draw, &mut self.counts.hits);
        if let Some(result) = result {
            target.disk_failed |= result.is_err();
            self.onlooker.disk_finished(machine, token, result.is_ok());
            self.input(machine, life, Input::Disk { token, result });
        }
        if let Some(point) = crash {
            self.crash(point);
        }
    }

    /// Put an input into the trace. Says whether it is a failed sync.
    fn trace_input(&mut self, machine: usize, input: &Input) -> bool {
        let (what, numbers) = match input {
            Input::Start => ("start", [0, 0]),
            Input::Deadline => ("deadline", [0, 0]),
            Input::Message(envelope, _) => {
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
            Input::Message(envelope, _) => {
                format!("← {} {}", envelope.from, summary(&envelope.message, self.workload.keys()))
            }
            Input::LinkUp(peer) | Input::LinkDown(peer) => peer.to_string(),
            Input::Disk { token, result } => match result {
                Ok(DiskOutput::Read(bytes)) => format!("{token} read {} bytes", bytes.len()),
                other => format!("{token} {other:?}"),
            },
            Input::Client(event) => clients::describe(event),
            Input::Start | Input::Deadline => String::new(),
        });
        if let Input::Message(_, Some(sent)) = input {
            self.trace.fact(self.now, Some(machine), || Fact::Arrived { sent: *sent });
        }
        matches!(input, Input::Disk { result: Err(_), token } if self.syncs_failed(machine, *token))
    }

    fn syncs_failed(&self, machine: usize, token: DiskToken) -> bool {
        match &self.machines[machine].side {
            Side::Store(side) => side.disk.failed_sync() == Some(token),
            Side::Gateway(_) => false,
        }
    }
}
