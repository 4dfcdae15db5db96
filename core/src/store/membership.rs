//! The voters of the root range follow the cluster map.
//!
//! Its leader compares the map that is applied with the configuration of consensus, and takes one step
//! at a time:
//!
//! ```text
//! a learner that shall not vote ─▶ RemoveLearner
//! a voter to come               ─▶ AddLearner ─▶ (caught up) ─▶ Swap for a voter that shall go
//! ```
//!
//! Each step is an entry of the log, so that any later leader goes on where this one stopped. Nothing
//! here acts on silence or on time: only a command that changed the map moves voters.

use std::collections::BTreeSet;

use super::replica::Replica;
use super::serving::Host;
use crate::consensus::{Change, Membership, Output};
use crate::effects::{Effect, Effects, Now};
use crate::ids::StoreId;
use crate::range::Range;

/// The next step from a configuration to `desired` voters. `None`: there is none now. A leader that
/// must go itself goes last.
fn choose(
    now: &Membership,
    desired: &BTreeSet<StoreId>,
    own: StoreId,
    caught_up: impl Fn(StoreId) -> bool,
) -> Option<Change> {
    // Consensus leaves the joint phase by itself.
    if now.is_joint() || !now.is_known() || now.voters().len() != desired.len() {
        return None;
    }
    if let Some(stray) = now.learners().iter().find(|id| !desired.contains(id)) {
        return Some(Change::RemoveLearner(*stray));
    }
    let add = desired.iter().copied().find(|id| !now.is_voter(*id))?;
    if !now.is_learner(add) {
        return Some(Change::AddLearner(add));
    }
    let leaving = || now.voters().iter().copied().filter(|id| !desired.contains(id));
    let remove = leaving().find(|id| *id != own).or_else(|| leaving().next())?;
    caught_up(add).then_some(Change::Swap { remove, add })
}

impl Replica {
    /// Take the next step, if there is one.
    ///
    /// # Errors
    /// Why the store must halt.
    pub(super) fn follow_map(
        &mut self,
        now: Now,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Result<(), String> {
        if !self.leads() {
            return Ok(());
        }
        let Some(desired) = self.desired_voters() else { return Ok(()) };
        let (raft, own) = (&self.raft, host.config.store);
        let Some(change) = choose(raft.membership(), &desired, own, |id| raft.caught_up(id)) else {
            return Ok(());
        };
        let mut out = Output::default();
        if self.raft.propose_change(now.instant, change, &mut out).is_ok() {
            fx.push(Effect::Note(format!("{}: voters follow the map: {change:?}", self.id)));
        }
        self.carry_out(now, out, host, fx)
    }

    /// The stores that shall vote, by the map that is applied here.
    fn desired_voters(&self) -> Option<BTreeSet<StoreId>> {
        let map = self.machine.range().and_then(Range::map)?;
        Some(map.voters.iter().copied().collect())
    }

    /// Whether this store was replaced by another, as far as this replica knows: it has no business in
    /// the range any more.
    pub(super) fn is_retired(&self, host: &Host) -> bool {
        let own = host.config.store;
        let map = self.machine.range().and_then(Range::map);
        let retired = map.is_some_and(|map| map.retired.contains(&own));
        retired
            && !self.raft.membership().members().any(|id| id == own)
            && self.raft.is_membership_committed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> Vec<StoreId> {
        ids.iter().copied().map(StoreId).collect()
    }

    fn step(voters: &[u64], learners: &[u64], desired: &[u64], caught_up: bool) -> Option<Change> {
        let now = Membership::new(ids(voters), Vec::new(), ids(learners)).unwrap();
        choose(&now, &ids(desired).into_iter().collect(), StoreId(1), |_| caught_up)
    }

    #[test]
    fn voters_become_those_of_the_map_step_by_step() {
        let (one, four) = (StoreId(1), StoreId(4));
        assert_eq!(step(&[1, 2, 3], &[], &[1, 2, 3], true), None);
        assert_eq!(step(&[1, 2, 3], &[], &[1, 2, 4], true), Some(Change::AddLearner(four)));
        assert_eq!(step(&[1, 2, 3], &[4], &[1, 2, 4], false), None);
        let swap = Change::Swap { remove: StoreId(3), add: four };
        assert_eq!(step(&[1, 2, 3], &[4], &[1, 2, 4], true), Some(swap));
        assert_eq!(step(&[1, 2, 4], &[], &[1, 2, 4], true), None);
        // The map changed again before the learner was a voter.
        assert_eq!(step(&[1, 2, 3], &[4], &[1, 2, 5], true), Some(Change::RemoveLearner(four)));
        // A leader that must go itself goes last.
        let swap = Change::Swap { remove: StoreId(2), add: four };
        assert_eq!(step(&[1, 2, 3], &[4], &[3, 4, 5], true), Some(swap));
        let swap = Change::Swap { remove: one, add: StoreId(5) };
        assert_eq!(step(&[1, 3, 4], &[5], &[3, 4, 5], true), Some(swap));
    }

    #[test]
    fn a_map_with_another_number_of_voters_moves_nobody() {
        assert_eq!(step(&[1, 2, 3], &[], &[1, 2], true), None);
        assert_eq!(step(&[1, 2, 3], &[], &[1, 2, 3, 4, 5], true), None);
    }
}
