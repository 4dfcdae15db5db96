//! Rolling upgrades: a cluster of old builds, whose machines are restarted with newer ones, one after the other.
//!
//! An old build is the same core that is told to speak the first feature level only: what came later it does not
//! understand, and what it does for others is what it did then. So the world has both kinds side by side while
//! faults strike, some machines go back to the old build for a while, and the operator asks too early for what
//! only the higher level allows. When all machines are new, the level is raised for good.
//!
//! Nobody goes back once the last machine is new: then a raise may be accepted, and before it must not be.

use trine_core::cluster::Node;
use trine_core::ids::{Endpoint, ZoneId};
use trine_core::level::{FIRST, Levels, NODES};

use super::machine::{Side, StoreMachine};
use super::operator::Task;
use super::power::End;
use super::{Maker, World};
use crate::faults::FaultKind;
use crate::faults::plan::Episode;

/// What an old build speaks.
pub(super) const OLD: Levels = Levels { min: FIRST, max: FIRST };

/// Whether the run is one of a rolling upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rolling {
    /// All builds are the same.
    No,
    /// All are old.
    Planned,
    /// Some are new.
    Begun,
}

impl<M: Maker> World<M> {
    /// A machine goes down, and comes back with another build.
    pub(super) fn change_build(&mut self, machine: usize, episode: &Episode) {
        let end = if episode.variant.is_multiple_of(2) { End::Killed } else { End::PowerLost };
        self.end(machine, end);
        if self.rolling == Rolling::Planned {
            // Before there is a cluster, its first stores choose the level by whom they have heard of.
            let begun = self.levels().next().is_some();
            self.rolling = if begun { Rolling::Begun } else { Rolling::No };
        }
        if self.rolling != Rolling::Begun {
            return;
        }
        let back = episode.kind == FaultKind::UpgradeRolledBack;
        let levels = if back { OLD } else { Levels::OWN };
        match &mut self.machines[machine].side {
            Side::Store(side) => side.config.levels = levels,
            Side::Gateway(side) => side.config.levels = levels,
        }
        self.counts.hits.hit(episode.kind);
        let text = format!("it will speak {levels}");
        self.trace.say(self.now, &self.machines[machine].name, "fault", &text);
    }

    /// The operator asks for what takes a higher level, and for that level.
    pub(super) fn ask_early(&mut self, episode: &Episode) {
        if self.rolling == Rolling::Begun {
            self.operator.push(Task::Node { number: 1 + episode.variant % 4 });
            self.operator.push(Task::Raise { patient: false });
        }
    }

    /// The faults are over: once all run new builds, the operator raises the level for good.
    pub(super) fn finish_upgrade(&mut self) {
        let new = (0..self.machines.len()).all(|machine| !self.is_old(machine));
        if self.rolling == Rolling::Begun && new {
            self.operator.push(Task::Raise { patient: true });
            self.operator.push(Task::Node { number: 5 });
        }
    }

    /// Whether somebody in the cluster runs an old build.
    fn is_old(&self, machine: usize) -> bool {
        let target = &self.machines[machine];
        let levels = match &target.side {
            Side::Store(side) => side.config.levels,
            Side::Gateway(side) => side.config.levels,
        };
        levels == OLD && !target.gone && !target.spare
    }

    /// The level was raised: was it time?
    pub(super) fn raised(&mut self) {
        let old = (0..self.machines.len()).find(|machine| self.is_old(*machine));
        if let Some(old) = old {
            let name = &self.machines[old].name;
            return self.fail(format!("the level was raised, and {name} does not speak it"));
        }
        self.map.level = Levels::OWN.max;
    }

    /// A raise was refused. Whether to ask again.
    pub(super) fn raise_refused(&mut self, patient: bool) -> bool {
        if !patient {
            self.counts.hits.hit(FaultKind::LevelRaisedEarly);
            return false;
        }
        // One that is gone for ever and not replaced says nothing any more.
        let stands = |store| {
            self.machines.iter().any(|one| one.endpoint == Endpoint::Store(store) && !one.gone)
        };
        self.map.stores().all(|(_, store)| stands(store))
    }

    /// Whether nodes may be set.
    pub(super) fn knows_nodes(&self) -> bool {
        self.map.level >= NODES
    }

    /// The levels that stores take the cluster to be at.
    fn levels(&self) -> impl Iterator<Item = trine_core::level::Level> {
        self.machines.iter().filter_map(|machine| match &machine.side {
            Side::Store(side) => side.machine.as_ref()?.level(),
            Side::Gateway(_) => None,
        })
    }

    /// Whether all stores that run know the level that the operator has heard of.
    pub(super) fn levels_agree(&self) -> bool {
        self.levels().all(|level| level == self.map.level)
    }
}

/// A node that the operator writes down. Nothing in the simulated world looks at it.
pub(super) fn node(number: u64) -> Node {
    let id = u32::try_from(number).expect("a small number");
    let (peer, s3) = (format!("127.0.0.1:{}", 7000 + id), format!("127.0.0.1:{}", 9000 + id));
    Node { id, zone: ZoneId(1), name: format!("node-{id}"), peer, s3, left: false }
}
