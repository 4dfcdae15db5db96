//! Who keeps a chunk by the map that stands. Groups are looked up once and then remembered.

use std::collections::BTreeMap;

use crate::cluster::ClusterMap;
use crate::ids::{ChunkId, GroupId, MapEpoch, StoreId, ZoneId};
use crate::placement::Place;

/// The owners of groups, for one epoch of the map. At most as many as there are groups.
#[derive(Debug, Default)]
pub(in crate::store) struct Owners {
    epoch: MapEpoch,
    groups: BTreeMap<GroupId, Vec<Place>>,
}

impl Owners {
    /// The stores that keep a chunk, one for each zone.
    pub(in crate::store) fn of(&mut self, chunk: ChunkId, map: &ClusterMap) -> &[Place] {
        if self.epoch != map.epoch {
            self.epoch = map.epoch;
            self.groups.clear();
        }
        let group = map.group_of(chunk);
        self.groups.entry(group).or_insert_with(|| map.group_places(group))
    }

    /// Whether both stores keep a chunk.
    pub(in crate::store) fn are_both(
        &mut self,
        chunk: ChunkId,
        pair: (StoreId, StoreId),
        map: &ClusterMap,
    ) -> bool {
        let places = self.of(chunk, map);
        let keeps = |store| places.iter().any(|place| place.store == store);
        keeps(pair.0) && keeps(pair.1)
    }
}

/// The stores of the other zones that keep something.
pub(in crate::store) fn peers_of(zone: ZoneId, map: &ClusterMap) -> Vec<StoreId> {
    let others = map.zones.iter().filter(|other| other.zone != zone);
    let slots = others.flat_map(|zone| &zone.slots).filter(|slot| slot.weight > 0);
    slots.map(|slot| slot.store).collect()
}
