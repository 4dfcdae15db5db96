//! What checkers are shown of a store after each of its steps, and what a world sees of its machines at the end.

use trine_core::disk::{Room, SECTOR};
use trine_core::ids::Endpoint;
use trine_core::storage::layout;
use trine_core::storage::superblock::field;
use trine_core::store::Observation;

use super::machine::{GatewayMachine, Machine, Side, StoreMachine};
use super::operator::Proof;
use super::{Maker, Part, RECOVERY_MAX, World};
use crate::SECOND;
use crate::trace::Fact;

impl<M: Maker> World<M> {
    /// Show the ghost what a store did. Its effects have not happened yet.
    pub(super) fn look_on(&mut self, store: usize) {
        let Side::Store(side) = &mut self.machines[store].side else { return };
        let Some(machine) = &mut side.machine else { return };
        let seen = machine.observations();
        for (range, fact) in &seen {
            match fact {
                Observation::Applied { index, batch, outcomes } => {
                    self.applied(store, *index, batch.as_ref(), outcomes);
                }
                Observation::Freed { chunk, live } => self.freed(store, *chunk, live),
                Observation::FreedCopy { chunk } => self.freed_copy(store, *chunk),
                Observation::Kept { chunk } => {
                    self.custody.keeps(store, self.machines[store].zone, *chunk);
                }
                Observation::Recovered { suspect: true, .. }
                    if self.onlooker.may_trust(store, *range)
                        && !self.machines[store].damaged
                        && !self.custody.is_hurt(store) =>
                {
                    let name = &self.machines[store].name;
                    self.fail(format!("{name} distrusts its log, and nothing has hurt its disk"));
                }
                Observation::Leads { term } => {
                    self.promises.leads(store);
                    let (range, term) = (range.0, term.0);
                    self.trace.fact(self.now, Some(store), || Fact::Leads { range, term });
                }
                _ => {}
            }
        }
        if let Err(broken) = self.onlooker.step(store, seen) {
            self.fail(broken);
        }
    }

    pub(super) fn compare(&mut self, store: usize) {
        let Side::Store(side) = &self.machines[store].side else { return };
        let Some(machine) = &side.machine else { return };
        let (before, directory) = (self.machines[store].directory, machine.directory());
        if directory < before {
            let name = &self.machines[store].name;
            let text = format!("{name} knew directory {before}, and goes by {directory}");
            self.failure.get_or_insert(text);
        }
        for view in machine.views() {
            let seen = self.agreement.observe(store, view);
            let applied = view.applied.map_or(0, |(index, _)| index);
            let durable = self.onlooker.applies(store, view.range, applied);
            if let Err(wrong) = seen.and(durable) {
                self.failure.get_or_insert(wrong);
            }
        }
        self.machines[store].directory = directory;
        self.journal_begins(store);
    }

    /// What stands before the beginning of a journal may be written over: each copy of the superblock must say that it
    /// begins there or later, or recovery may begin with what is gone.
    fn journal_begins(&mut self, store: usize) {
        let Side::Store(side) = &self.machines[store].side else { return };
        let tail = side.machine.as_ref().and_then(StoreMachine::journal_tail);
        let before = std::mem::replace(&mut self.machines[store].tail, tail);
        let (Some(tail), Some(before)) = (tail, before) else { return };
        let Side::Store(side) = &self.machines[store].side else { return };
        let says = |copy: usize| {
            let sector = side.disk.durable_sector(layout::superblock_offset(copy) / SECTOR)?;
            let at = field::TAIL_POSITION;
            Some(u64::from_le_bytes(sector[at..at + 8].try_into().expect("eight bytes")))
        };
        if tail != before
            && let Some(old) =
                (0..layout::SUPERBLOCK_COPIES).filter_map(says).find(|says| *says < tail)
        {
            let name = &self.machines[store].name;
            self.fail(format!(
                "{name} gives its journal up to {tail}, and a superblock says {old}"
            ));
        }
    }

    /// Commands that may take effect though no client waits for them: what is read before they have may not
    /// be there any more a moment later.
    pub(super) fn commands_left(&self) -> u64 {
        let gateways = self.machines.iter().filter_map(|machine| match &machine.side {
            Side::Gateway(side) => side.machine.as_ref(),
            Side::Store(_) => None,
        });
        gateways.map(GatewayMachine::commands_left).sum()
    }

    /// Stores that are to have a replica of the root range, and are not gone for ever.
    pub(super) fn standing_voters(&self) -> impl Iterator<Item = usize> + '_ {
        self.stores().filter(|store| {
            let Machine { gone, endpoint, .. } = &self.machines[*store];
            !gone && matches!(endpoint, Endpoint::Store(id) if self.map.voters.contains(id))
        })
    }

    /// Something did not come right in time.
    pub(super) fn stuck(&mut self) {
        let mut status = self.status();
        if self.part == Part::Settling && self.swarm.redundancy {
            status.push(self.workload.redundancy.complaint());
        }
        if self.swarm.empties
            && let Some(full) = self.stores().find(|store| self.is_full(*store))
        {
            let name = &self.machines[full].name;
            status.push(format!("the disk of {name} is full, and all was deleted"));
        }
        if self.proof() == Proof::Waits {
            status.push("the map is not proven".to_owned());
        }
        let seconds = RECOVERY_MAX / SECOND;
        let status = status.join("\n    ");
        self.fail(format!("stuck {seconds} s after the last fault:\n    {status}"));
    }

    /// Whether its disk is full, and nothing is deleted that could change that.
    pub(super) fn is_full_for_good(&self, store: usize) -> bool {
        !self.swarm.empties && self.is_full(store)
    }

    /// Whether a store whose disk is smaller than the others has no room left.
    pub(super) fn is_full(&self, store: usize) -> bool {
        let small = self.swarm.small_disk.is_some_and(|(small, _)| small == store);
        small && self.room(store).is_some_and(|room| room < Room::Data)
    }
}
