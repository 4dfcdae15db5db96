//! The operator: machines that are gone for ever are replaced by others, on fresh disks and with new
//! identities, and gateways are told so as an operator would tell them, again and again until it is
//! done. New stores are added likewise, and others drained; what the range refuses is not to be. So is the
//! feature level raised, and nodes written down (`upgrade.rs`).
//!
//! A disk that was wiped never comes back under its old identity: that is the operator's rule.

use std::collections::{BTreeSet, VecDeque};

use trine_core::cluster::{ClusterMap, Slot};
use trine_core::ids::{Endpoint, MapEpoch, StoreId, ZoneId};
use trine_core::level::{Levels, VOTES_MOVE};
use trine_core::request::{ApiError, Reply};

use super::machine::{Machine, Side, StoreMachine};
use super::power::End;
use super::setup::WEIGHT;
use super::{Maker, World, upgrade};
use crate::disk::SimDisk;
use crate::faults::FaultKind;
use crate::workload::{Ending, Job};

/// Faults that are counted when the cluster has done what they are about.
pub(super) const MOVES: [FaultKind; 2] = [FaultKind::StoreAdded, FaultKind::StoreDrained];

/// What the operator wants of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Replace {
        old: StoreId,
        new: StoreId,
    },
    Add {
        zone: ZoneId,
        store: StoreId,
    },
    Weigh {
        store: StoreId,
        weight: u32,
    },
    /// Patient: until it is done.
    Raise {
        patient: bool,
    },
    Node {
        number: u64,
    },
}

/// Whether the map is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// As far as all stores know.
    Done,
    /// Some store still goes by former layouts.
    Waits,
    /// It cannot be: a store's disk is full, or a store of the map is gone for ever. It keeps something, or was drained when it was
    /// gone already, and nobody can compare with it.
    Never,
}

/// What the operator has to do and has done.
#[derive(Debug)]
pub(super) struct Operator {
    /// The number of the next new store.
    next: u64,
    /// What the cluster has not done yet.
    tasks: VecDeque<Task>,
    /// Who is no more: what is sent to them vanishes.
    retired: BTreeSet<Endpoint>,
}

impl Operator {
    pub(super) fn new(stores: usize) -> Self {
        Self { next: stores as u64 + 1, tasks: VecDeque::new(), retired: BTreeSet::new() }
    }

    /// What to ask a gateway now.
    pub(super) fn job(&self) -> Option<Job> {
        self.tasks.front().map(|task| match *task {
            Task::Replace { old, new } => Job::replace(old, new),
            Task::Add { zone, store } => Job::add(zone, store, WEIGHT),
            Task::Weigh { store, weight } => Job::weigh(store, weight),
            Task::Raise { .. } => Job::raise(Levels::OWN.max),
            Task::Node { number } => Job::node(upgrade::node(number)),
        })
    }

    pub(super) fn push(&mut self, task: Task) {
        self.tasks.push_back(task);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn has_retired(&self, endpoint: Endpoint) -> bool {
        self.retired.contains(&endpoint)
    }
}

impl<M: Maker> World<M> {
    /// A machine goes dark and never comes back, nor does its disk. A first voter stays dark until the
    /// end of the faults instead, as long as there is no cluster: without it none can begin.
    pub(super) fn gone(&mut self, machine: usize) {
        self.end(machine, End::PowerLost);
        if self.machines[machine].spare {
            return;
        }
        if let Side::Store(side) = &self.machines[machine].side
            && side.config.map.voters.contains(&side.config.store)
            && !self.onlooker.has_begun_beside(machine)
        {
            return;
        }
        self.machines[machine].gone = true;
        if self.machines[machine].is_store() {
            self.agreement.gone(machine);
        }
    }

    /// Another machine takes the place of one that is gone.
    pub(super) fn replace(&mut self, machine: usize) {
        let Machine { gone, spare, endpoint, .. } = &self.machines[machine];
        let old = *endpoint;
        if !gone || *spare {
            return;
        }
        // Connections to the old one break at last.
        self.forget_about(machine);
        let target = &mut self.machines[machine];
        target.gone = false;
        target.damaged = false;
        target.holds = 0;
        if let (Side::Store(side), Endpoint::Store(old_id)) = (&mut target.side, old) {
            let new = StoreId(self.operator.next);
            self.operator.next += 1;
            self.operator.retired.insert(old);
            self.operator.tasks.push_back(Task::Replace { old: old_id, new });
            target.endpoint = Endpoint::Store(new);
            target.name = format!("store-{}", new.0);
            self.trace.name(machine, &target.name);
            side.config.store = new;
            side.disk = SimDisk::new(side.config.geometry.capacity);
            self.onlooker.replaced(machine, new);
            self.custody.replaced(machine);
        }
        self.start(machine);
    }

    /// A new store on a fresh disk is started, and gets a slot of its own. Not where a zone is gone.
    pub(super) fn add(&mut self, machine: usize) {
        let zone = self.machines[machine].zone;
        let is_gone = self.machines.iter().any(|one| one.zone == zone && one.gone && !one.spare);
        let target = &mut self.machines[machine];
        let (Endpoint::Store(store), Some(zone)) = (target.endpoint, zone) else { return };
        if is_gone || !std::mem::take(&mut target.spare) {
            return;
        }
        target.gone = false;
        if target.holds == 0 {
            self.start(machine);
        }
        self.operator.tasks.push_back(Task::Add { zone, store });
    }

    /// A store gets another weight, if it has one.
    pub(super) fn weigh(&mut self, machine: usize, weight: u32) {
        let Machine { spare, endpoint, .. } = &self.machines[machine];
        if let (false, Endpoint::Store(store)) = (spare, endpoint) {
            self.operator.tasks.push_back(Task::Weigh { store: *store, weight });
        }
    }

    /// Whether every store knows that no former layout counts any more.
    pub(super) fn proof(&self) -> Proof {
        let stands = |store| {
            let is = |one: &Machine<M>| one.endpoint == Endpoint::Store(store) && !one.gone;
            self.machines.iter().any(is)
        };
        if !self.map.stores().all(|(_, store)| stands(store)) {
            Proof::Never
        } else if self.has_no_former_layouts() {
            Proof::Done
        } else if self.stores().any(|store| self.is_full(store)) {
            // What moves to it finds no room.
            Proof::Never
        } else {
            Proof::Waits
        }
    }

    /// Whether all stores of the map that stand serve, and none goes by a former layout.
    pub(super) fn has_no_former_layouts(&self) -> bool {
        let machines = self.map.stores().filter_map(|(_, id)| self.machine_of(Endpoint::Store(id)));
        machines.filter(|machine| !self.machines[*machine].gone).all(|machine| {
            let Side::Store(side) = &self.machines[machine].side else { return true };
            side.machine.as_ref().and_then(StoreMachine::unproven) == Some(0)
        })
    }

    /// The map is proven: stores that keep nothing are taken away for ever, but for voters. Whatever was
    /// acknowledged must be found without them.
    pub(super) fn take_drained_away(&mut self) {
        for machine in self.stores() {
            let Endpoint::Store(store) = self.machines[machine].endpoint else { continue };
            let slots = || self.map.zones.iter().flat_map(|zone| &zone.slots);
            let drained = slots().any(|slot| slot.store == store && slot.weight == 0);
            if drained && !self.map.voters.contains(&store) && !self.machines[machine].gone {
                self.gone(machine);
            }
        }
    }

    /// A store that shall take over the vote of one that is gone for ever, and distrusts its log, waits for that
    /// one's word: the operator gives its place to yet another.
    pub(super) fn replace_who_waits_in_vain(&mut self) {
        for machine in self.stores() {
            let Side::Store(side) = &self.machines[machine].side else { continue };
            let own = side.config.store;
            let doubts = |store: &M::Store| store.doubts_as_learner(own);
            let voters = side.machine.as_ref().map(doubts).unwrap_or_default();
            let is_gone = |voter: &StoreId| self.operator.has_retired(Endpoint::Store(*voter));
            if voters.iter().any(is_gone) && self.map.voters.contains(&own) {
                self.gone(machine);
                self.replace(machine);
            }
        }
    }

    /// Replace everything that is gone and not meant to stay so.
    pub(super) fn replace_all(&mut self) {
        for machine in 0..self.machines.len() {
            if self.machines[machine].replaceable {
                self.replace(machine);
            }
        }
    }

    /// The operator's request has ended.
    pub(super) fn operated(&mut self, ending: &Ending) {
        let Some(task) = self.operator.tasks.front().copied() else { return };
        match (&ending.reply, task) {
            (Some(Ok(Reply::Done)), _) => {}
            // The last of its zone, too many changes under way, or replaced meanwhile.
            (Some(Err(ApiError::InvalidArgument(_))), Task::Add { .. } | Task::Weigh { .. }) => {
                self.operator.tasks.pop_front();
                return;
            }
            (Some(Err(ApiError::InvalidArgument(_))), Task::Raise { patient }) => {
                if !self.raise_refused(patient) {
                    self.operator.tasks.pop_front();
                }
                return;
            }
            (Some(Err(ApiError::InvalidArgument(_))), Task::Node { .. }) if !self.knows_nodes() => {
                self.operator.tasks.pop_front();
                return;
            }
            (Some(Err(ApiError::InvalidArgument(why))), Task::Node { .. }) => {
                let text = format!("{task:?} was refused: {why}");
                return self.fail(text);
            }
            (Some(Err(ApiError::InvalidArgument(why))), Task::Replace { old, .. }) => {
                if !self.map.stores().any(|(_, store)| store == old) {
                    // It never got its slot.
                    self.operator.tasks.pop_front();
                    return;
                }
                let text = format!("{task:?} was refused: {why}");
                return self.fail(text);
            }
            // As long as a store that is gone still votes, nobody knows what it speaks: it is replaced first.
            (_, Task::Raise { .. }) => {
                let tasks = &mut self.operator.tasks;
                let replaces = |task: &Task| matches!(task, Task::Replace { .. });
                if let Some(task) = tasks.iter().position(replaces).and_then(|at| tasks.remove(at))
                {
                    tasks.push_front(task);
                }
                return;
            }
            _ => return,
        }
        self.operator.tasks.pop_front();
        match task {
            Task::Replace { old, new } => replace_in(&mut self.map, old, new),
            Task::Add { zone, store } => {
                self.counts.hits.hit(FaultKind::StoreAdded);
                let zones = self.map.zones.iter_mut().filter(|of| of.zone == zone);
                zones.for_each(|zone| zone.slots.push(Slot { store, weight: WEIGHT }));
            }
            Task::Weigh { store, weight } => {
                if weight == 0 {
                    self.counts.hits.hit(FaultKind::StoreDrained);
                }
                weigh_in(&mut self.map, store, weight);
            }
            Task::Raise { .. } => self.raised(),
            Task::Node { .. } if self.knows_nodes() => {}
            Task::Node { .. } => {
                self.fail("a node was set before the cluster's level allows it".to_owned());
            }
        }
    }
}

/// The operator's own book-keeping, for the audit. All that take data have one weight, so that the last of
/// the others gets the vote. One that was drained before its level allows that keeps it, also if it is drained again.
fn weigh_in(map: &mut ClusterMap, store: StoreId, weight: u32) {
    let zones = map.zones.iter_mut();
    let Some(zone) = zones.into_iter().find(|zone| zone.slots.iter().any(|s| s.store == store))
    else {
        return;
    };
    let Some(slot) = zone.slots.iter_mut().find(|slot| slot.store == store) else { return };
    if slot.weight == weight {
        return;
    }
    slot.weight = weight;
    if let (0, Some(heir), true) = (weight, zone.keepers().last(), map.level >= VOTES_MOVE) {
        map.voters.iter_mut().filter(|voter| **voter == store).for_each(|voter| *voter = heir);
    }
}

/// Likewise.
fn replace_in(map: &mut ClusterMap, old: StoreId, new: StoreId) {
    let slots = map.zones.iter_mut().flat_map(|zone| &mut zone.slots).map(|slot| &mut slot.store);
    for store in slots.chain(&mut map.voters).filter(|store| **store == old) {
        *store = new;
    }
    map.retired.push(old);
    map.epoch = MapEpoch(map.epoch.0 + 1);
}
