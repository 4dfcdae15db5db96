//! Stopping and starting machines, and carrying out the plan of faults.

use trine_core::ids::ZoneId;
use trine_core::storage::layout;

use super::crash::Left;
use super::machine::{Clock, Input, Side, StoreMachine};
use super::setup::WEIGHT;
use super::{Happening, Maker, Part, World};
use crate::disk::{SimDisk, Survival};
use crate::faults::plan::{Episode, Victim};
use crate::faults::strikes::Place;
use crate::faults::swarm::Frequency;
use crate::faults::{FaultKind, Hits};
use crate::random::Draw;
use crate::trace::Fact;
use crate::{MILLISECOND, Nanos, SECOND};

/// How many places rot at once where much does.
const ROTS: u32 = 24;

/// How a machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The process dies; the operating system lives, and resets its connections.
    Killed,
    /// Everything is dark at once.
    PowerLost,
    /// One of these, and just this is left.
    Crashed(Left),
}

/// By how many milliseconds a wall clock jumps.
fn jump(episode: &Episode) -> i64 {
    let jumps = [1_000, -1_000, 60_000, -60_000, 3_600_000, -3_600_000];
    jumps[usize::try_from(episode.variant / 2 % 6).expect("it is below 6")]
}

impl End {
    /// Whether peers are told by a reset.
    fn is_told(self) -> bool {
        matches!(self, Self::Killed | Self::Crashed(Left::Cache))
    }
}

fn crash(disk: &mut SimDisk, left: Left, draw: &mut Draw, hits: &mut Hits) {
    match left {
        Left::Cache => disk.process_killed(draw, hits),
        Left::Synced => {
            disk.drop_writes();
            disk.power_lost(Survival::None, draw, hits);
        }
        Left::Everything => {
            disk.complete_writes();
            disk.power_lost(Survival::All, draw, hits);
        }
        Left::Mixed => disk.power_lost(Survival::Mixed, draw, hits),
    }
}

impl<M: Maker> World<M> {
    /// Start a machine in a new life.
    pub(super) fn start(&mut self, machine: usize) {
        let (now, draw) = (self.now, self.fault_draws.of(machine));
        let skew = self.swarm.clock_skew / MILLISECOND;
        let drift = i64::try_from(self.swarm.clock_drift_ppm).expect("a drift is small");
        let target = &mut self.machines[machine];
        assert!(!target.up, "{} runs already", target.name);
        // Its wall clock may be wrong in another way than before.
        let wall = super::setup::WALL_MILLIS + draw.between(0, 2 * skew) - skew;
        let drift = i64::try_from(draw.between(0, 2 * self.swarm.clock_drift_ppm))
            .expect("a drift is small")
            - drift;
        target.clock = Clock::new(now, draw.between(0, 1_000 * SECOND), drift, wall);
        if skew > 0 || self.swarm.clock_drift_ppm > 0 {
            self.counts.hits.hit(FaultKind::ClockSkewed);
        }
        match &mut target.side {
            Side::Store(side) => {
                side.config.seed = draw.bits();
                side.machine = Some(self.maker.store(side.config.clone()));
            }
            Side::Gateway(side) => {
                side.config.seed = draw.bits();
                side.config.nonce = u128::from(draw.bits()) << 64 | u128::from(draw.bits());
                side.machine = Some(self.maker.gateway(side.config.clone()));
                side.requests.clear();
                side.requested = 0;
            }
        }
        target.life += 1;
        target.up = true;
        target.wake = None;
        target.disk_failed = false;
        target.directory = 0;
        target.tail = None;
        let (life, is_store) = (target.life, target.is_store());
        self.promises.restarted(machine);
        if is_store {
            self.custody.starts(machine, now);
        }
        let killed_early = self.swarm.chance(FaultKind::KilledInRecovery, 500, 3_000);
        let again = is_store && self.part == Part::Faults && now > 0 && {
            let drawn = draw.of_ten_thousand(killed_early);
            let place = Place::Machine(machine);
            self.strikes.strikes(self.now, FaultKind::KilledInRecovery, place, drawn)
        };
        if again {
            let at = now + draw.skewed(0, 30 * MILLISECOND);
            self.queue.push(at, Happening::KillAgain { machine, life: Some(life) });
        }
        self.doubt(machine);
        self.forget_links(machine);
        self.trace.fact(now, Some(machine), || Fact::Up);
        self.input(machine, life, Input::Start);
        self.connect_all();
    }

    /// A store that may distrust its disk in this life is killed a few times more, soon.
    fn doubt(&mut self, machine: usize) {
        if !std::mem::take(&mut self.machines[machine].doubted) || self.part != Part::Faults {
            return;
        }
        let kills = self.swarm.chance(FaultKind::KilledInDoubt, 5_000, 8_000);
        if kills == 0 {
            return;
        }
        let draw = self.fault_draws.of(machine);
        let (drawn, place) = (draw.of_ten_thousand(kills), Place::Machine(machine));
        let kills = draw.between(1, 3);
        if self.strikes.strikes(self.now, FaultKind::KilledInDoubt, place, drawn) {
            self.counts.hits.hit(FaultKind::KilledInDoubt);
            for _ in 0..kills {
                let after = self.fault_draws.of(machine).skewed(20 * MILLISECOND, 2 * SECOND);
                self.queue.push(self.now + after, Happening::KillAgain { machine, life: None });
            }
        }
    }

    /// End a machine, and keep it down until it is released as often as it was ended.
    pub(super) fn end(&mut self, machine: usize, end: End) {
        self.machines[machine].holds += 1;
        if !self.machines[machine].up {
            return;
        }
        let name = &self.machines[machine].name;
        self.trace.say(self.now, name, "fault", if end.is_told() { "killed" } else { "dark" });
        self.take_down(machine, end);
    }

    /// Something on a store's disk rots, behind its journal: of that there is one copy per zone only.
    fn rot(&mut self, machine: usize, kind: FaultKind) {
        let name = self.machines[machine].name.clone();
        let Side::Store(side) = &mut self.machines[machine].side else { return };
        let start = layout::segments_start(&side.config.geometry);
        if let Some(offset) = side.disk.rot(start, kind, self.disk_draws.of(machine)) {
            self.custody.hurt(machine);
            self.counts.hits.hit(kind);
            let text = format!("{} at {offset}", kind.name());
            self.trace.say(self.now, &name, "fault", &text);
        }
    }

    /// Very much on a store's disk rots.
    fn rot_much(&mut self, machine: usize) {
        for _ in 0..ROTS / 2 {
            self.rot(machine, FaultKind::ByteRotted);
            self.rot(machine, FaultKind::SectorRotted);
        }
        self.counts.hits.hit(FaultKind::DiskRotting);
    }

    /// Something in a voter's journal rots, and the store goes dark: when it is back it finds out. Not in that of a
    /// store which is to take the place of a voter that is gone: nobody could vouch for it, and the operator would
    /// have to give its place to yet another.
    fn rot_journal(&mut self, machine: usize) {
        let votes = match &self.machines[machine].side {
            Side::Store(side) => {
                let own = side.config.store;
                side.machine.as_ref().is_some_and(|machine| machine.votes(own))
            }
            Side::Gateway(_) => false,
        };
        if !votes {
            return;
        }
        self.end(machine, End::PowerLost);
        let Side::Store(side) = &mut self.machines[machine].side else { return };
        let end = layout::segments_start(&side.config.geometry);
        let span = end - side.config.geometry.journal..end;
        let kind = FaultKind::JournalRotted;
        if let Some(offset) = side.disk.rot_within(span, kind, self.disk_draws.of(machine)) {
            self.custody.hurt(machine);
            // What stands there may be needed to read entries back: then the store halts once more.
            self.machines[machine].damaged = true;
            self.machines[machine].doubted = true;
            self.counts.hits.hit(kind);
            let text = format!("{} at {offset}", kind.name());
            self.trace.say(self.now, &self.machines[machine].name, "fault", &text);
        }
    }

    /// A store goes dark, and somebody empties its whole data directory before it is started again. One
    /// that took another's place meanwhile has its identity from that directory only: it only goes dark.
    fn emptied(&mut self, machine: usize) {
        self.end(machine, End::PowerLost);
        let target = &mut self.machines[machine];
        let Side::Store(side) = &mut target.side else { return };
        let own = side.config.store;
        let is_first = side.config.map.stores().any(|(_, store)| store == own);
        if target.gone || !is_first {
            return;
        }
        side.disk = SimDisk::new(side.config.geometry.capacity);
        side.image = None;
        // Peers who remember more of it tell it, and it halts.
        target.damaged = true;
        target.doubted = true;
        self.onlooker.emptied(machine);
        self.custody.emptied(machine);
        self.maker.disk_emptied(own);
        self.counts.hits.hit(FaultKind::StoreEmptied);
        self.trace.say(self.now, &self.machines[machine].name, "fault", "its disk is empty");
    }

    fn take_down(&mut self, machine: usize, end: End) {
        self.trace.fact(self.now, Some(machine), || Fact::Down);
        for peer in 0..self.machines.len() {
            if peer != machine {
                self.disconnect(machine, peer, end.is_told());
            }
        }
        let target = &mut self.machines[machine];
        target.up = false;
        target.life += 1;
        target.late.clear();
        target.wake = None;
        let (draw, hits) = (self.disk_draws.of(machine), &mut self.counts.hits);
        let place = Place::Machine(machine);
        let may = |kind| self.swarm.knob(kind) != Frequency::Off;
        match &mut target.side {
            Side::Store(side) => {
                side.machine = None;
                // What a chosen crash leaves is chosen, too.
                let drawn = !matches!(end, End::Crashed(_));
                let torn = drawn && may(FaultKind::WriteTorn) && side.disk.is_writing();
                if drawn && !self.strikes.strikes(self.now, FaultKind::WriteTorn, place, torn) {
                    side.disk.complete_writes();
                }
                match end {
                    End::Crashed(left) => crash(&mut side.disk, left, draw, hits),
                    End::Killed => side.disk.process_killed(draw, hits),
                    End::PowerLost => {
                        let drawn = Survival::draw(draw);
                        let lost = may(FaultKind::SectorLost) && drawn != Survival::All;
                        let lost =
                            self.strikes.strikes(self.now, FaultKind::SectorLost, place, lost);
                        let survival = if lost { drawn } else { Survival::All };
                        side.disk.power_lost(survival, draw, hits);
                    }
                }
                self.agreement.restarted(machine);
                self.onlooker.crashed(machine);
            }
            Side::Gateway(side) => {
                side.machine = None;
                self.gateway_gone(machine);
            }
        }
    }

    /// One reason for being down is gone.
    pub(super) fn release(&mut self, machine: usize) {
        let target = &mut self.machines[machine];
        target.holds = target.holds.saturating_sub(1);
        if target.holds == 0 && !target.up && !target.gone {
            self.start(machine);
        }
    }

    pub(super) fn kill_again(&mut self, machine: usize, life: Option<u64>) {
        if self.part != Part::Faults {
            return;
        }
        if let Some(life) = life {
            if self.machines[machine].life != life {
                return;
            }
            self.counts.hits.hit(FaultKind::KilledInRecovery);
        }
        let end = if self.fault_draws.of(machine).one_in(2) { End::Killed } else { End::PowerLost };
        self.end(machine, end);
        let lasts = self.fault_draws.of(machine).skewed(MILLISECOND, 100 * MILLISECOND);
        self.queue.push(self.now + lasts, Happening::Release { machine });
    }

    /// A machine has stopped itself. The operator starts it again after a while.
    pub(super) fn halted(&mut self, machine: usize, reason: &str) {
        let target = &self.machines[machine];
        self.trace.say(self.now, &target.name, "halt", reason);
        if !target.disk_failed && !target.damaged {
            self.fail(format!("{} halted though its disk had not failed: {reason}", target.name));
        }
        self.machines[machine].halt = Some(reason.to_owned());
        self.machines[machine].holds += 1;
        self.take_down(machine, End::Killed);
        let after = self.fault_draws.of(machine).skewed(200 * MILLISECOND, 3 * SECOND);
        self.queue.push(self.now + after, Happening::Release { machine });
    }

    /// Stop a store as an operator would with `kill -9`, for good. For scenarios.
    pub fn stop_store(&mut self, store: usize) {
        self.end(store, End::Killed);
    }

    /// Start a store that was stopped. For scenarios.
    pub fn start_store(&mut self, store: usize) {
        self.release(store);
    }

    /// Start a store that was stopped and whose disk was damaged meanwhile, so that it may halt.
    /// For scenarios.
    pub fn start_damaged_store(&mut self, store: usize) {
        self.machines[store].damaged = true;
        self.release(store);
    }

    pub(super) fn begin_episode(&mut self, number: usize) {
        let episode = self.plan[number];
        let counts_itself = [
            FaultKind::ByteRotted,
            FaultKind::SectorRotted,
            FaultKind::JournalRotted,
            FaultKind::StoreEmptied,
            FaultKind::ImageRestored,
            FaultKind::ClientsReset,
            FaultKind::MachineUpgraded,
            FaultKind::UpgradeRolledBack,
            FaultKind::LevelRaisedEarly,
            FaultKind::DiskRotting,
        ];
        let counts_itself = [&counts_itself[..], &super::operator::MOVES].concat();
        if !counts_itself.contains(&episode.kind) {
            // Those are counted where they find something.
            self.counts.hits.hit(episode.kind);
        }
        let text = format!(
            "{} {:?} {} ms",
            episode.kind.name(),
            episode.victim,
            episode.lasts / MILLISECOND
        );
        self.trace.say(self.now, "world", "fault", &text);
        let machines = self.victims(episode.victim);
        self.trace.fact(self.now, None, || Fact::Began {
            episode: number,
            kind: episode.kind.name(),
            victim: format!("{:?}", episode.victim),
            machines,
        });
        self.queue.push(self.now + episode.lasts, Happening::EpisodeEnds(number));
        match episode.kind {
            FaultKind::LinkReset => self.for_victims(&episode, Self::reset_links),
            FaultKind::ZoneKilled | FaultKind::StoreKilled | FaultKind::GatewayKilled => {
                self.for_victims(&episode, |world, machine| world.end(machine, End::Killed));
            }
            FaultKind::ZonePowerLoss
            | FaultKind::StorePowerLoss
            | FaultKind::PowerLossEverywhere => {
                self.for_victims(&episode, |world, machine| world.end(machine, End::PowerLost));
            }
            FaultKind::ZoneGone => self.for_victims(&episode, Self::gone),
            FaultKind::ZoneReplaced | FaultKind::StoreWiped => {
                self.for_victims(&episode, |world, machine| {
                    world.machines[machine].replaceable |= !world.machines[machine].spare;
                    world.gone(machine);
                });
            }
            FaultKind::StoreEmptied => self.for_victims(&episode, Self::emptied),
            FaultKind::StoreAdded => self.for_victims(&episode, Self::add),
            FaultKind::ImageRestored => self.for_victims(&episode, Self::keep_image),
            FaultKind::ClockStepped => {
                self.for_victims(&episode, |world, machine| {
                    world.machines[machine].clock.step(jump(&episode));
                });
            }
            FaultKind::LinksSwizzled => self.swizzle(&episode),
            FaultKind::MachineUpgraded | FaultKind::UpgradeRolledBack => {
                self.for_victims(&episode, |world, machine| world.change_build(machine, &episode));
            }
            FaultKind::LevelRaisedEarly => self.ask_early(&episode),
            FaultKind::ClientsReset => self.for_victims(&episode, Self::reset_clients),
            FaultKind::StoreDrained => {
                self.for_victims(&episode, |world, machine| world.weigh(machine, 0));
            }
            FaultKind::ZoneCut => {
                self.switch_network(&episode, true);
                let inside = self.victims(episode.victim);
                self.break_links(|one, other| inside.contains(&one) != inside.contains(&other));
            }
            FaultKind::DiskSlow => self.for_disks(&episode, |slow, factor| slow.push(factor)),
            FaultKind::ByteRotted | FaultKind::SectorRotted => {
                self.for_victims(&episode, |world, machine| {
                    world.rot(machine, episode.kind);
                })
            }
            FaultKind::DiskRotting => self.for_victims(&episode, Self::rot_much),
            FaultKind::GatewayFenced if episode.variant.is_multiple_of(2) => {
                self.for_victims(&episode, |world, machine| world.machines[machine].pauses += 1);
            }
            FaultKind::JournalRotted => self.for_victims(&episode, Self::rot_journal),
            FaultKind::RestartStorm => self.storm(&episode),
            FaultKind::ZonePaused | FaultKind::StorePaused | FaultKind::GatewayPaused => {
                self.for_victims(&episode, |world, machine| world.machines[machine].pauses += 1);
            }
            _ => self.switch_network(&episode, true),
        }
    }

    pub(super) fn end_episode(&mut self, number: usize) {
        if self.part != Part::Faults {
            // Everything was healed meanwhile.
            return;
        }
        let episode = self.plan[number];
        self.trace.say(self.now, "world", "fault ends", episode.kind.name());
        self.trace.fact(self.now, None, || Fact::Over { episode: number });
        match episode.kind {
            FaultKind::LinkReset
            | FaultKind::RestartStorm
            | FaultKind::ZoneGone
            | FaultKind::ByteRotted
            | FaultKind::StoreAdded
            | FaultKind::LinksSwizzled
            | FaultKind::ClientsReset
            | FaultKind::LevelRaisedEarly
            | FaultKind::SectorRotted => {}
            FaultKind::DiskRotting => self.for_victims(&episode, Self::rot_much),
            FaultKind::GatewayFenced if episode.variant.is_multiple_of(2) => {
                self.for_victims(&episode, Self::resume);
            }
            FaultKind::ImageRestored => self.for_victims(&episode, Self::restore_image),
            FaultKind::ClockStepped if episode.variant.is_multiple_of(2) => {
                self.for_victims(&episode, |world, machine| {
                    world.machines[machine].clock.step(-jump(&episode));
                });
            }
            FaultKind::ClockStepped => {}
            FaultKind::StoreDrained if episode.variant.is_multiple_of(2) => {
                self.for_victims(&episode, |world, machine| world.weigh(machine, WEIGHT));
            }
            FaultKind::StoreDrained => {}
            FaultKind::ZoneCut => self.switch_network(&episode, false),
            FaultKind::ZoneReplaced | FaultKind::StoreWiped => {
                self.for_victims(&episode, Self::replace);
            }
            FaultKind::DiskSlow => self.for_disks(&episode, |slow, factor| {
                if let Some(at) = slow.iter().position(|one| *one == factor) {
                    slow.swap_remove(at);
                }
            }),
            FaultKind::ZoneKilled
            | FaultKind::StoreKilled
            | FaultKind::GatewayKilled
            | FaultKind::ZonePowerLoss
            | FaultKind::StorePowerLoss
            | FaultKind::StoreEmptied
            | FaultKind::JournalRotted
            | FaultKind::MachineUpgraded
            | FaultKind::UpgradeRolledBack
            | FaultKind::PowerLossEverywhere => self.for_victims(&episode, Self::release),
            FaultKind::ZonePaused | FaultKind::StorePaused | FaultKind::GatewayPaused => {
                self.for_victims(&episode, Self::resume);
            }
            _ => {
                self.switch_network(&episode, false);
                if episode.variant.is_multiple_of(2) {
                    // Those who wait for an answer from behind the cut are told at last.
                    self.for_victims(&episode, Self::reset_links);
                }
            }
        }
        self.connect_all();
    }

    /// The end of all faults: everything works again, and all machines run.
    pub(super) fn heal(&mut self) {
        self.trace.say(self.now, "world", "heal", "");
        self.trace.fact(self.now, None, || Fact::Healed);
        self.check_who_waits();
        self.part = Part::Draining;
        self.healed_at = self.now;
        trine_core::rare::calm();
        self.network.heal();
        self.replace_all();
        self.finish_upgrade();
        for machine in 0..self.machines.len() {
            while self.machines[machine].pauses > 0 {
                self.resume(machine);
            }
            if let Side::Store(side) = &mut self.machines[machine].side {
                side.disk.heal();
                side.slow.clear();
            }
            if self.machines[machine].gone {
                continue;
            }
            self.machines[machine].holds = 0;
            if !self.machines[machine].up {
                self.start(machine);
            }
        }
        self.connect_all();
    }

    fn storm(&mut self, episode: &Episode) {
        for machine in self.victims(episode.victim) {
            for kill in 0..6 {
                let at = self.now + episode.lasts * kill / 4;
                self.queue.push(at, Happening::KillAgain { machine, life: None });
            }
        }
    }

    /// A pause ends: what came meanwhile comes now, in order; then timers.
    fn resume(&mut self, machine: usize) {
        let target = &mut self.machines[machine];
        target.pauses = target.pauses.saturating_sub(1);
        if target.pauses > 0 || !target.up {
            return;
        }
        let life = target.life;
        // Whether a timer or a message comes first after a pause is up to the scheduler.
        if self.fault_draws.of(machine).one_in(2) {
            self.input(machine, life, Input::Deadline);
        }
        let late = std::mem::take(&mut self.machines[machine].late);
        for input in late {
            self.input(machine, life, input);
        }
        self.machines[machine].wake = None;
        if self.machines[machine].life == life {
            self.schedule(machine);
        }
    }

    fn for_victims(&mut self, episode: &Episode, act: impl Fn(&mut Self, usize)) {
        for machine in self.victims(episode.victim) {
            act(self, machine);
        }
    }

    fn for_disks(&mut self, episode: &Episode, act: impl Fn(&mut Vec<u64>, u64)) {
        let factors = [10, 30, 100, 300, 1_000];
        let factor = factors[usize::try_from(episode.variant % 5).expect("it is below 5")];
        self.for_victims(episode, |world, machine| {
            if let Side::Store(side) = &mut world.machines[machine].side {
                act(&mut side.slow, factor);
            }
        });
    }

    fn victims(&self, victim: Victim) -> Vec<usize> {
        let stores = self.stores().len();
        match victim {
            Victim::Store(store) => vec![store],
            Victim::Gateway(gateway) => vec![stores + gateway],
            Victim::Link(from, to) => vec![from, to],
            Victim::All => (0..self.machines.len()).collect(),
            Victim::Zone(zone) => {
                let zone = Some(ZoneId(zone));
                (0..self.machines.len())
                    .filter(|machine| self.machines[*machine].zone == zone)
                    .collect()
            }
        }
    }

    fn switch_network(&mut self, episode: &Episode, on: bool) {
        let inside = self.victims(episode.victim);
        let is_inside = |machine: usize| inside.contains(&machine);
        match (episode.kind, episode.victim) {
            (FaultKind::ZoneSlow, Victim::Zone(zone)) => {
                self.network.slow_zone(ZoneId(zone), on);
            }
            (FaultKind::LinkSlow, Victim::Link(one, other)) => {
                self.network.slow_link(one, other, on);
            }
            (FaultKind::LinkBlackHole, Victim::Link(one, other)) => {
                self.network
                    .cut(on, |from, to| (from, to) == (one, other) || (to, from) == (one, other));
            }
            (FaultKind::LinkCutOneWay, Victim::Link(one, other)) => {
                self.network.cut(on, |from, to| (from, to) == (one, other));
            }
            (FaultKind::ZoneCutOneWay, _) => {
                // Not what says whether its end resets links.
                let heard = (episode.variant / 2).is_multiple_of(2);
                self.network.cut(on, |from, to| {
                    is_inside(from) != is_inside(to) && is_inside(from) == heard
                });
            }
            (FaultKind::ZonesApart, Victim::Zone(zone)) => {
                let other = self.victims(Victim::Zone((zone + 1) % 3));
                self.network.cut(on, |from, to| {
                    is_inside(from) && other.contains(&to) || other.contains(&from) && is_inside(to)
                });
            }
            _ => self.network.cut(on, |from, to| is_inside(from) != is_inside(to)),
        }
    }

    /// Whether a gateway sees nothing of the one failing zone of the run, from when on.
    pub(super) fn spared_since(&self, machine: usize) -> Option<Nanos> {
        let [episode] = self.plan.as_slice() else { return None };
        let inside = self.victims(episode.victim);
        (!inside.contains(&machine)).then_some(episode.at)
    }
}
