//! Who keeps a chunk, by the map that stands and by former layouts that are not proven to be superseded.
//! Groups are looked up once and then remembered.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::ClusterMap;
use crate::ids::{ChunkId, GroupId, MapEpoch, StoreId};

/// The owners of groups, for one state of the map's layouts. At most as many as there are groups.
#[derive(Debug, Default)]
pub(in crate::store) struct Owners {
    layouts: (MapEpoch, usize),
    groups: BTreeMap<GroupId, Owned>,
}

/// Who keeps the chunks of a group.
#[derive(Debug)]
pub(in crate::store) struct Owned {
    /// By the map that stands: one for each zone.
    pub(in crate::store) present: Vec<StoreId>,
    /// Only by former layouts: they still have what they had then.
    pub(in crate::store) former: Vec<StoreId>,
}

impl Owners {
    /// The stores that keep a chunk.
    pub(in crate::store) fn of(&mut self, chunk: ChunkId, map: &ClusterMap) -> &Owned {
        if self.layouts != map.layouts() {
            self.layouts = map.layouts();
            self.groups.clear();
        }
        let group = map.group_of(chunk);
        self.groups.entry(group).or_insert_with(|| {
            let stores = |places: Vec<crate::placement::Place>| {
                places.into_iter().map(|place| place.store).collect()
            };
            let present = stores(map.group_places(group));
            Owned { present, former: stores(map.group_former_places(group)) }
        })
    }

    /// Whether a store keeps a chunk: by the map that stands, or by a former layout that is not proven
    /// to be superseded. Its copy is to stay while that is so. (An old copy may go when it is not, *and*
    /// every live session goes by a map of this epoch: a put under an older one still counts the copy.)
    pub(in crate::store) fn keeps(
        &mut self,
        store: StoreId,
        chunk: ChunkId,
        map: &ClusterMap,
    ) -> bool {
        let owned = self.of(chunk, map);
        let kept = owned.former.contains(&store) && !planted!(SuperfluousFreedUnproven);
        owned.present.contains(&store) || kept
    }

    /// Whether `asker` keeps a chunk by the map that stands and is to have it if `peer` does, which keeps
    /// it by that or by a former layout.
    pub(in crate::store) fn is_shared(
        &mut self,
        chunk: ChunkId,
        asker: StoreId,
        peer: StoreId,
        map: &ClusterMap,
    ) -> bool {
        let owned = self.of(chunk, map);
        owned.present.contains(&asker)
            && (owned.present.contains(&peer) || owned.former.contains(&peer))
    }
}

impl Owned {
    /// All of them.
    pub(in crate::store) fn stores(&self) -> impl Iterator<Item = StoreId> {
        self.present.iter().chain(&self.former).copied()
    }
}

/// The stores with which `own` compares: those of the other zones that keep something by the map that
/// stands, and those that do by a former layout. None if `own` keeps nothing itself.
pub(in crate::store) fn peers_of(own: StoreId, map: &ClusterMap) -> BTreeSet<StoreId> {
    let Some((zone, _)) = map.keepers().find(|(_, store)| *store == own) else {
        return BTreeSet::new();
    };
    let present = map.keepers().filter(|(of, _)| *of != zone).map(|(_, store)| store);
    let former = map.unproven.iter().flat_map(|layout| layout.zone.keepers());
    present.chain(former).filter(|store| *store != own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Layout, Slot, ZoneMap};
    use crate::ids::{BlobId, BlobSequence, SessionId, ZoneId};

    fn zone(zone: u8, stores: &[(u64, u32)]) -> ZoneMap {
        let slot = |(store, weight): &(u64, u32)| Slot { store: StoreId(*store), weight: *weight };
        ZoneMap { zone: ZoneId(zone), slots: stores.iter().map(slot).collect() }
    }

    fn chunk(number: u32) -> ChunkId {
        let blob = BlobId { session: SessionId(1), sequence: BlobSequence(1) };
        ChunkId { blob, number }
    }

    /// Store 1 is drained in favour of 4.
    fn moving() -> ClusterMap {
        let zones = vec![zone(0, &[(1, 0), (4, 1)]), zone(1, &[(2, 1)]), zone(2, &[(3, 1)])];
        let former = Layout { epoch: MapEpoch(1), zone: zone(0, &[(1, 1), (4, 1)]) };
        let map = ClusterMap::bootstrap(64, zones);
        ClusterMap { epoch: MapEpoch(2), unproven: vec![former], ..map }
    }

    #[test]
    fn a_former_owner_keeps_until_the_map_is_proven_and_gives_without_taking() {
        let (mut owners, mut map) = (Owners::default(), moving());
        let (one, two, four) = (StoreId(1), StoreId(2), StoreId(4));
        let mut moved = 0;
        for number in 0..200 {
            let chunk = chunk(number);
            let was_of_one = owners.keeps(one, chunk, &map);
            moved += u32::from(was_of_one);
            assert_eq!(owners.of(chunk, &map).former.contains(&one), was_of_one);
            assert!(owners.keeps(four, chunk, &map) && owners.keeps(two, chunk, &map));
            assert_eq!(owners.is_shared(chunk, four, one, &map), was_of_one);
            assert_eq!(owners.is_shared(chunk, two, one, &map), was_of_one);
            assert!(!owners.is_shared(chunk, one, two, &map), "it takes nothing");
        }
        assert!((50..150).contains(&moved), "{moved}");
        assert_eq!(peers_of(four, &map), [1, 2, 3].map(StoreId).into());
        assert_eq!(peers_of(two, &map), [1, 3, 4].map(StoreId).into());
        assert!(peers_of(one, &map).is_empty());
        map.unproven.clear();
        assert!((0..200).all(|number| !owners.keeps(one, chunk(number), &map)));
        assert_eq!(peers_of(two, &map), [3, 4].map(StoreId).into());
    }
}
