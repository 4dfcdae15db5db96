//! A change of the map is proven: every store that keeps something by it has compared with all owners,
//! present and former, and has all that was committed before the change.
//!
//! ```text
//! store: map changed ─▶ comparing (`repair`) ─▶ MapProven, again and again ─┐
//! leader of the root range: all have said so ─▶ ProveMap ─▶ former layouts are dropped
//! ```
//!
//! What a store says stays true, so that it may come late or twice, and each voter remembers it, whoever
//! leads. A store that is away or empty holds the proof up, however long: so long former owners keep
//! what they have.

use std::collections::BTreeMap;

use super::serving::Serving;
use crate::cluster::{ClusterMap, ROOT_RANGE};
use crate::effects::{Effects, Now};
use crate::ids::{Endpoint, MapEpoch, StoreId};
use crate::message::Message;
use crate::range::Range;
use crate::range::command::CommandBody;
use crate::time::{Deadline, Duration, Instant};

/// How often a store says that it has everything, and a leader that all have, until the map says so.
const SAY_EVERY: Duration = Duration::from_millis(500);

/// What stores have said.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    /// The newest epoch of which each has said so. Only stores of the map.
    heard: BTreeMap<StoreId, MapEpoch>,
    next: Instant,
}

impl Proofs {
    /// A store has everything by the map of `epoch`.
    pub(super) fn hear(&mut self, from: StoreId, epoch: MapEpoch, map: &ClusterMap) {
        if map.stores().any(|(_, store)| store == from) {
            let heard = self.heard.entry(from).or_default();
            *heard = (*heard).max(epoch);
        }
    }

    /// Whether every store that keeps something by `map` has everything.
    fn are_all_there(&self, map: &ClusterMap) -> bool {
        map.keepers().all(|(_, store)| self.heard.get(&store) == Some(&map.epoch))
    }

    pub(super) fn next_deadline(&self, map: &ClusterMap) -> Option<Deadline> {
        let waits = !map.unproven.is_empty();
        waits.then_some(Deadline { at: self.next, reason: "the map is not proven" })
    }
}

impl Serving {
    /// Say what is proven here, and, if this store leads the root range, what is proven everywhere.
    pub(super) fn prove_map(&mut self, now: Now, fx: &mut Effects) {
        let Self { host, proofs, repair, replicas, .. } = self;
        if host.map().unproven.is_empty() || proofs.next > now.instant {
            return;
        }
        proofs.next = now.instant + SAY_EVERY;
        if buggify!(ProofWaits) {
            return;
        }
        let (own, epoch) = (host.config.store, host.map().epoch);
        if repair.proven() == epoch {
            proofs.hear(own, epoch, host.map());
            for voter in host.map().voters.iter().filter(|voter| **voter != own) {
                host.send(Endpoint::Store(*voter), Message::MapProven { epoch }, fx);
            }
        }
        let Some(replica) = replicas.get_mut(&ROOT_RANGE).filter(|replica| replica.leads()) else {
            return;
        };
        let map = replica.machine.range().and_then(Range::map);
        if let Some(map) = map.filter(|map| !map.unproven.is_empty() && proofs.are_all_there(map)) {
            probe!(MapProven);
            let epoch = map.epoch;
            replica.commands.queue_system(CommandBody::ProveMap { epoch });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Layout, Slot, ZoneMap};
    use crate::ids::ZoneId;

    #[test]
    fn a_map_is_proven_when_all_who_keep_something_have_said_so_of_its_epoch() {
        let slot = |store, weight| Slot { store: StoreId(store), weight };
        let zone = |zone, slots: &[Slot]| ZoneMap { zone: ZoneId(zone), slots: slots.to_vec() };
        let zones = vec![zone(0, &[slot(1, 0), slot(4, 1)]), zone(1, &[slot(2, 1)])];
        let former = Layout { epoch: MapEpoch(4), zone: zone(0, &[slot(1, 1), slot(4, 1)]) };
        let map = ClusterMap::bootstrap(64, zones);
        let map = ClusterMap { epoch: MapEpoch(5), unproven: vec![former], ..map };
        let mut proofs = Proofs::default();
        let hear = |proofs: &mut Proofs, store, epoch| {
            proofs.hear(StoreId(store), MapEpoch(epoch), &map);
            proofs.are_all_there(&map)
        };
        assert!(!hear(&mut proofs, 2, 5));
        assert!(!hear(&mut proofs, 4, 4), "of an older map");
        assert!(!hear(&mut proofs, 1, 5), "it is drained: its word is not needed");
        assert!(!hear(&mut proofs, 9, 5));
        assert_eq!(proofs.heard.len(), 3, "a store that nobody knows");
        assert!(hear(&mut proofs, 4, 5));
        assert!(hear(&mut proofs, 4, 3), "late");
    }
}
