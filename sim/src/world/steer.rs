//! What scenarios do to a running world, and what they see of it: faults that strike whoever leads
//! at that moment, latencies that change, and who leads.

use trine_core::ids::ZoneId;

use super::machine::{Side, StoreMachine};
use super::{Maker, World};
use crate::faults::plan::Episode;
use crate::faults::swarm::Latency;

/// Who leads the one range there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The store, by its place.
    pub store: usize,
    /// In which term.
    pub term: u64,
}

impl<M: Maker> World<M> {
    /// Begin an episode now, whatever its `at` says.
    pub fn strike(&mut self, episode: Episode) {
        self.plan.push(Episode { at: self.now, ..episode });
        self.begin_episode(self.plan.len() - 1);
    }

    /// Copy the disk of a store, which goes dark for that, and goes on.
    pub fn copy_disk(&mut self, store: usize) {
        self.keep_image(store);
    }

    /// Put the copy in the place of the disk, which the store, dark for that, goes on from. Who remembers what it did
    /// meanwhile is the scenario's to know.
    pub fn put_copy(&mut self, store: usize) {
        self.set_back(store);
    }

    /// From now on messages take so long from a zone to another.
    pub fn set_way(&mut self, from: u8, to: u8, latency: Latency) {
        self.network.set_way(ZoneId(from), ZoneId(to), latency);
    }

    /// The running store that leads in the highest term, by its own account.
    pub fn leader(&self) -> Option<Leader> {
        let leaders = self.stores().filter_map(|store| {
            let Side::Store(side) = &self.machines[store].side else { return None };
            let views = side.machine.as_ref()?.views();
            let leads = views.iter().filter(|view| view.leads).map(|view| view.term).max();
            leads.map(|term| Leader { store, term })
        });
        leaders.max_by_key(|leader| leader.term)
    }
}
