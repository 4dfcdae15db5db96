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
//! A voter is exchanged for the one that comes into its zone: were voters of two zones replaced at once
//! and exchanged crosswise, two of three would stand in one zone for a while. Each step is an entry of the log, so that any later leader goes on where this one stopped. Nothing
//! here acts on silence or on time: only a command that changed the map moves voters.

use std::collections::BTreeSet;

use super::replica::Replica;
use super::serving::Host;
use crate::consensus::{Change, Membership, Output};
use crate::effects::{Effect, Effects, Now};
use crate::ids::{StoreId, ZoneId};
use crate::range::Range;

/// The next step from a configuration to `desired` voters. `None`: there is none now. A leader that
/// must go itself goes last. `zone_of`: where a store stands or stood, if that is known.
fn choose(
    now: &Membership,
    desired: &BTreeSet<StoreId>,
    own: StoreId,
    zone_of: impl Fn(StoreId) -> Option<ZoneId>,
    caught_up: impl Fn(StoreId) -> bool,
) -> Option<Change> {
    // Consensus leaves the joint phase by itself.
    if now.is_joint() || !now.is_known() || now.voters().len() != desired.len() {
        return None;
    }
    if let Some(stray) = now.learners().iter().find(|id| !desired.contains(id)) {
        return Some(Change::RemoveLearner(*stray));
    }
    let leaving = || now.voters().iter().copied().filter(|id| !desired.contains(id));
    let leaves_for = |add: StoreId| {
        let same_zone = leaving().find(|id| zone_of(*id).is_some() && zone_of(*id) == zone_of(add));
        // Of maps of the first format, only this much is known.
        same_zone.or_else(|| leaving().find(|id| zone_of(*id).is_none()))
    };
    let coming = || desired.iter().copied().filter(|id| !now.is_voter(*id));
    let pairs = || coming().filter_map(|add| Some((leaves_for(add)?, add)));
    let any = || Some((leaving().next()?, coming().next()?));
    let others = pairs().filter(|(remove, _)| *remove != own);
    let own = pairs().filter(|(remove, _)| *remove == own);
    // One that does not catch up, for it may be gone for ever, holds up no other.
    let step = |(remove, add)| match now.is_learner(add) {
        false => Some(Change::AddLearner(add)),
        true => caught_up(add).then_some(Change::Swap { remove, add }),
    };
    match pairs().next() {
        Some(_) => others.chain(own).find_map(step),
        None => any().and_then(step),
    }
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
        let map = self.machine.range().and_then(Range::map);
        let zone_of = |id| {
            let first = || host.config.map.zone_of(id);
            map.and_then(|map| map.zone_of(id)).or_else(first)
        };
        let caught_up = |id| raft.caught_up(id);
        let Some(change) = choose(raft.membership(), &desired, own, zone_of, caught_up) else {
            return Ok(());
        };
        let mut out = Output::default();
        if self.raft.propose_change(now.instant, change, &mut out).is_ok() {
            match change {
                Change::AddLearner(_) => probe!(LearnerAdded),
                Change::Swap { .. } => probe!(JointChange),
                Change::RemoveLearner(_) => {}
            }
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
        let desired = ids(desired).into_iter().collect();
        choose(&now, &desired, StoreId(1), |id| zone(id, 10), |_| caught_up)
    }

    /// Stores 1, 4, 7... stand in the first zone, and so on; from `unknown` on nobody knows.
    fn zone(id: StoreId, unknown: u64) -> Option<ZoneId> {
        (id.0 < unknown).then(|| ZoneId(u8::try_from((id.0 - 1) % 3).unwrap()))
    }

    #[test]
    fn voters_become_those_of_the_map_step_by_step() {
        let six = StoreId(6);
        assert_eq!(step(&[1, 2, 3], &[], &[1, 2, 3], true), None);
        assert_eq!(step(&[1, 2, 3], &[], &[1, 2, 6], true), Some(Change::AddLearner(six)));
        assert_eq!(step(&[1, 2, 3], &[6], &[1, 2, 6], false), None);
        let swap = Change::Swap { remove: StoreId(3), add: six };
        assert_eq!(step(&[1, 2, 3], &[6], &[1, 2, 6], true), Some(swap));
        assert_eq!(step(&[1, 2, 6], &[], &[1, 2, 6], true), None);
        // The map changed again before the learner was a voter.
        assert_eq!(step(&[1, 2, 3], &[6], &[1, 2, 9], true), Some(Change::RemoveLearner(six)));
    }

    /// Seed 0xecf3: the zone of the store that should have voted next was gone for ever.
    #[test]
    fn a_store_that_does_not_catch_up_holds_up_no_other_zone() {
        let now =
            |learners: &[u64]| Membership::new(ids(&[1, 2, 3]), Vec::new(), ids(learners)).unwrap();
        let desired = ids(&[3, 4, 5]).into_iter().collect();
        let next = |learners: &[u64]| {
            choose(&now(learners), &desired, StoreId(3), |id| zone(id, 10), |id| id != StoreId(4))
        };
        assert_eq!(next(&[4]), Some(Change::AddLearner(StoreId(5))));
        let (remove, add) = (StoreId(2), StoreId(5));
        assert_eq!(next(&[4, 5]), Some(Change::Swap { remove, add }));
    }

    #[test]
    fn voters_of_several_zones_are_exchanged_within_their_zones() {
        let swap = |remove, add| {
            let (remove, add) = (StoreId(remove), StoreId(add));
            Some(Change::Swap { remove, add })
        };
        // Store 1 leads: if it must go itself, it goes last.
        assert_eq!(step(&[1, 2, 3], &[4], &[3, 4, 5], true), Some(Change::AddLearner(StoreId(5))));
        assert_eq!(step(&[1, 2, 3], &[4, 5], &[3, 4, 5], true), swap(2, 5));
        assert_eq!(step(&[1, 3, 5], &[4], &[3, 4, 5], true), swap(1, 4));
        assert_eq!(step(&[1, 2, 3], &[5, 6], &[1, 5, 6], true), swap(2, 5));
        assert_eq!(step(&[1, 2, 3], &[6, 8], &[1, 6, 8], true), swap(3, 6));
        // Those that leave came later themselves, and are in no first map.
        assert_eq!(step(&[1, 5, 6], &[8, 9], &[1, 8, 9], true), swap(5, 8));
        assert_eq!(step(&[1, 6, 8], &[5, 9], &[1, 5, 9], true), swap(8, 5));
        // All three, in any order of ids: never do two voters stand in one zone.
        for (first, second) in [(5, 6), (8, 9), (5, 9), (8, 6)] {
            let (mut voters, mut learners) = (vec![1, 2, 3], Vec::new());
            for _ in 0..12 {
                match step(&voters, &learners, &[4, first, second], true) {
                    Some(Change::AddLearner(id)) => learners.push(id.0),
                    Some(Change::Swap { remove, add }) => {
                        voters.retain(|id| *id != remove.0);
                        learners.retain(|id| *id != add.0);
                        voters.push(add.0);
                    }
                    other => assert_eq!(other, None),
                }
                let mut zones: Vec<_> = voters.iter().map(|id| id % 3).collect();
                zones.sort_unstable();
                assert_eq!(zones, [0, 1, 2], "{voters:?}");
            }
            let mut expected = vec![4, first, second];
            expected.sort_unstable();
            voters.sort_unstable();
            assert_eq!(voters, expected);
        }
    }

    #[test]
    fn where_a_zone_is_not_known_voters_are_exchanged_all_the_same() {
        let now = Membership::new(ids(&[1, 5, 6]), Vec::new(), ids(&[8, 9])).unwrap();
        let desired = ids(&[1, 8, 9]).into_iter().collect();
        let change = choose(&now, &desired, StoreId(1), |id| zone(id, 5), |_| true);
        assert_eq!(change, Some(Change::Swap { remove: StoreId(5), add: StoreId(8) }));
        // Nor does it stop where two stand in one zone already.
        let swap = Change::Swap { remove: StoreId(4), add: StoreId(2) };
        assert_eq!(step(&[1, 3, 4], &[2], &[1, 2, 3], true), Some(swap));
    }

    #[test]
    fn a_map_with_another_number_of_voters_moves_nobody() {
        assert_eq!(step(&[1, 2, 3], &[], &[1, 2], true), None);
        assert_eq!(step(&[1, 2, 3], &[], &[1, 2, 3, 4, 5], true), None);
    }
}
