//! The operator: machines that are gone for ever are replaced by others, on fresh disks and with new
//! identities, and gateways are told so as an operator would tell them, again and again until it is
//! done.
//!
//! A disk that was wiped never comes back under its old identity: that is the operator's rule.

use std::collections::{BTreeSet, VecDeque};

use trine_core::cluster::ClusterMap;
use trine_core::ids::{Endpoint, MapEpoch, StoreId};
use trine_core::request::Reply;

use super::machine::{Machine, Side};
use super::power::End;
use super::{Maker, World};
use crate::disk::SimDisk;
use crate::workload::{Ending, Job};

/// What the operator has to do and has done.
#[derive(Debug)]
pub(super) struct Operator {
    /// The number of the next new store.
    next: u64,
    /// Replacements that the cluster does not know of yet.
    jobs: VecDeque<(StoreId, StoreId)>,
    /// Who is no more: what is sent to them vanishes.
    retired: BTreeSet<Endpoint>,
}

impl Operator {
    pub(super) fn new(stores: usize) -> Self {
        Self { next: stores as u64 + 1, jobs: VecDeque::new(), retired: BTreeSet::new() }
    }

    /// What to ask a gateway now.
    pub(super) fn job(&self) -> Option<Job> {
        self.jobs.front().map(|(old, new)| Job::replace(*old, *new))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
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
        let Machine { gone, endpoint, .. } = &self.machines[machine];
        let old = *endpoint;
        if !gone {
            return;
        }
        // Connections to the old one break at last.
        self.forget_about(machine);
        let target = &mut self.machines[machine];
        target.gone = false;
        target.holds = 0;
        if let (Side::Store(side), Endpoint::Store(old_id)) = (&mut target.side, old) {
            let new = StoreId(self.operator.next);
            self.operator.next += 1;
            self.operator.retired.insert(old);
            self.operator.jobs.push_back((old_id, new));
            target.endpoint = Endpoint::Store(new);
            target.name = format!("store-{}", new.0);
            side.config.store = new;
            side.disk = SimDisk::new(side.config.geometry.capacity);
            self.onlooker.replaced(machine, new);
        }
        self.start(machine);
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
        if !matches!(ending.reply, Some(Ok(Reply::Done))) {
            return;
        }
        if let Some((old, new)) = self.operator.jobs.pop_front() {
            replace_in(&mut self.map, old, new);
        }
    }
}

/// The operator's own book-keeping, for the audit.
fn replace_in(map: &mut ClusterMap, old: StoreId, new: StoreId) {
    let slots = map.zones.iter_mut().flat_map(|zone| &mut zone.slots).map(|slot| &mut slot.store);
    for store in slots.chain(&mut map.voters).filter(|store| **store == old) {
        *store = new;
    }
    map.retired.push(old);
    map.epoch = MapEpoch(map.epoch.0 + 1);
}
