//! Where chunks live: chunk → placement group → one slot in each zone.
//!
//! Groups map to slots by weighted rendezvous hashing (Thaler and Ravishankar, "Using name-based
//! mappings to increase hit rates", 1998; weights by the logarithmic method of Resch, "New hashing
//! algorithms for data storage", 2015). All arithmetic is on integers, so that every platform finds
//! the same owners. A slot is hashed by its place in the map, never by the store that fills it:
//! replacing a store moves nothing, and a new slot takes only its own share.

use xxhash_rust::xxh3::xxh3_64;

use crate::cluster::{ClusterMap, Layout, Slot, ZoneMap};
use crate::ids::{ChunkId, GroupId, StoreId, ZoneId};

/// Bits behind the point of [`log2_fixed`].
const FRACTION_BITS: u32 = 32;

/// A store that keeps a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In which zone.
    pub zone: ZoneId,
    /// Which store fills the slot.
    pub store: StoreId,
}

impl ClusterMap {
    /// The placement group of a chunk.
    ///
    /// # Panics
    /// If the number of groups is not a power of two: such a map is never made.
    pub fn group_of(&self, chunk: ChunkId) -> GroupId {
        assert!(self.groups.is_power_of_two(), "the number of groups is a power of two");
        let mut identity = [0; 20];
        identity[..8].copy_from_slice(&chunk.blob.session.0.to_le_bytes());
        identity[8..16].copy_from_slice(&chunk.blob.sequence.0.to_le_bytes());
        identity[16..].copy_from_slice(&chunk.number.to_le_bytes());
        let group = xxh3_64(&identity) & u64::from(self.groups - 1);
        GroupId(u32::try_from(group).expect("masked to less than the number of groups, a u32"))
    }

    /// The stores of a group: one for each zone that has a slot with a weight, zones ascending.
    pub fn group_places(&self, group: GroupId) -> Vec<Place> {
        self.zones
            .iter()
            .filter_map(|zone| {
                let slot = zone.slot_of(group)?;
                Some(Place { zone: zone.zone, store: slot.store })
            })
            .collect()
    }

    /// The stores that keep a chunk.
    pub fn places(&self, chunk: ChunkId) -> Vec<Place> {
        self.group_places(self.group_of(chunk))
    }

    /// The stores that kept a group by a layout that is not proven to be superseded, and do not by the
    /// present one: the newest first. They still have what they had then.
    pub fn group_former_places(&self, group: GroupId) -> Vec<Place> {
        let present = self.group_places(group);
        let mut former: Vec<Place> = Vec::new();
        for Layout { zone, .. } in self.unproven.iter().rev() {
            let Some(slot) = zone.slot_of(group) else { continue };
            let place = Place { zone: zone.zone, store: slot.store };
            if !present.contains(&place) && !former.contains(&place) {
                former.push(place);
            }
        }
        former
    }

    /// The stores that kept a chunk: see [`ClusterMap::group_former_places`].
    pub fn former_places(&self, chunk: ChunkId) -> Vec<Place> {
        match self.unproven.is_empty() {
            true => Vec::new(),
            false => self.group_former_places(self.group_of(chunk)),
        }
    }
}

impl ZoneMap {
    /// The slot that takes a group: the one with the highest weight / -log2(hash).
    fn slot_of(&self, group: GroupId) -> Option<Slot> {
        let mut best: Option<(Slot, u64)> = None;
        for (index, slot) in (0_u32..).zip(&self.slots) {
            if slot.weight == 0 {
                continue;
            }
            let cost = self.cost(group, index);
            // weight / cost > best.weight / best_cost, without the division. The first wins a tie.
            let wins = best.is_none_or(|(best, best_cost)| {
                u128::from(slot.weight) * u128::from(best_cost)
                    > u128::from(best.weight) * u128::from(cost)
            });
            if wins {
                best = Some((*slot, cost));
            }
        }
        best.map(|(slot, _)| slot)
    }

    /// -log2 of the slot's hash as a fraction of 2^64; at least the smallest step above 0.
    fn cost(&self, group: GroupId, slot: u32) -> u64 {
        let mut identity = [0; 9];
        identity[..4].copy_from_slice(&group.0.to_le_bytes());
        identity[4] = self.zone.0;
        identity[5..].copy_from_slice(&slot.to_le_bytes());
        let hash = xxh3_64(&identity).max(1);
        ((64_u64 << FRACTION_BITS) - log2_fixed(hash)).max(1)
    }
}

/// log2 of `x`, which is not 0, with [`FRACTION_BITS`] bits behind the point, rounded down: one bit
/// for each squaring of the mantissa.
fn log2_fixed(x: u64) -> u64 {
    assert!(x > 0, "0 has no logarithm");
    let mut mantissa = u128::from(x << x.leading_zeros());
    let mut log = u64::from(63 - x.leading_zeros());
    for _ in 0..FRACTION_BITS {
        mantissa = (mantissa * mantissa) >> 63;
        log <<= 1;
        if mantissa >> 64 != 0 {
            mantissa >>= 1;
            log |= 1;
        }
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{BlobId, BlobSequence, SessionId};

    const GROUPS: u32 = 1 << 14;

    fn map(weights: &[u32]) -> ClusterMap {
        let zones = (0..3_u8)
            .map(|zone| ZoneMap {
                zone: ZoneId(zone),
                slots: (0_u64..)
                    .zip(weights)
                    .map(|(slot, weight)| Slot {
                        store: StoreId(u64::from(zone) * 100 + slot),
                        weight: *weight,
                    })
                    .collect(),
            })
            .collect();
        ClusterMap::bootstrap(GROUPS, zones)
    }

    fn share(map: &ClusterMap, zone: usize, store: u64) -> usize {
        (0..GROUPS)
            .filter(|group| map.group_places(GroupId(*group))[zone].store == StoreId(store))
            .count()
    }

    #[test]
    fn log2_of_powers_is_exact_and_of_three_is_close() {
        assert_eq!(log2_fixed(1), 0);
        assert_eq!(log2_fixed(1 << 40), 40 << FRACTION_BITS);
        let three = log2_fixed(3);
        // log2(3) = 1.584962500721156.
        assert!(three.abs_diff(6_807_362_105) <= 4, "{three}");
        assert!(log2_fixed(u64::MAX) < 64 << FRACTION_BITS);
    }

    #[test]
    fn groups_are_spread_by_weight() {
        let map = map(&[1, 2, 5, 0]);
        for zone in 0..3 {
            let base = zone as u64 * 100;
            for (slot, eighths) in [(0, 1_usize), (1, 2), (2, 5)] {
                let expected = GROUPS as usize * eighths / 8;
                let got = share(&map, zone, base + slot);
                assert!(got.abs_diff(expected) < expected / 10 + 50, "{got} of {expected}");
            }
            assert_eq!(share(&map, zone, base + 3), 0);
        }
    }

    #[test]
    fn replacing_a_store_moves_nothing_else() {
        let before = map(&[1, 1, 1]);
        let mut after = before.clone();
        after.zones[1].slots[2].store = StoreId(999);
        for group in (0..GROUPS).map(GroupId) {
            for (a, b) in before.group_places(group).iter().zip(after.group_places(group)) {
                let expected = if a.store == StoreId(102) { StoreId(999) } else { a.store };
                assert_eq!(b.store, expected);
            }
        }
    }

    #[test]
    fn a_new_slot_takes_only_its_share_and_only_for_itself() {
        let before = map(&[1, 1, 1]);
        let after = map(&[1, 1, 1, 1]);
        let mut moved = 0_usize;
        for group in (0..GROUPS).map(GroupId) {
            for (a, b) in before.group_places(group).iter().zip(after.group_places(group)) {
                if a.store != b.store {
                    assert_eq!(b.store.0 % 100, 3);
                    moved += 1;
                }
            }
        }
        let expected = GROUPS as usize * 3 / 4;
        assert!(moved.abs_diff(expected) < expected / 10, "{moved} of {expected}");
    }

    /// Weights of zone 1 change twice: what each layout gave is found, present owners left out.
    #[test]
    fn former_places_are_those_of_unproven_layouts() {
        let (first, second, third) = (map(&[1, 1]), map(&[1, 1, 2]), map(&[0, 1, 2]));
        let mut now = first.clone();
        now.zones[1] = third.zones[1].clone();
        assert!(now.group_former_places(GroupId(3)).is_empty());
        let layout = |epoch, map: &ClusterMap| Layout {
            epoch: crate::ids::MapEpoch(epoch),
            zone: map.zones[1].clone(),
        };
        now.unproven = vec![layout(1, &first), layout(2, &second)];
        let mut most = 0;
        for group in (0..GROUPS).map(GroupId) {
            let owner = |map: &ClusterMap| map.group_places(group)[1];
            let mut expected = vec![owner(&second), owner(&first)];
            expected.dedup();
            expected.retain(|place| *place != owner(&third));
            assert_eq!(now.group_former_places(group), expected, "{group:?}");
            most = most.max(expected.len());
            let others = |map: &ClusterMap| {
                let places = map.group_places(group);
                (places[0], places[2])
            };
            assert_eq!(others(&now), others(&first));
        }
        assert!(most > 0);
    }

    #[test]
    fn chunks_of_a_blob_are_spread_over_groups_and_placed_in_each_zone_once() {
        let map = map(&[1, 1]);
        let blob = BlobId { session: SessionId(7), sequence: BlobSequence(9) };
        let groups: std::collections::BTreeSet<_> =
            (0..256).map(|number| map.group_of(ChunkId { blob, number })).collect();
        assert!(groups.len() > 240, "{}", groups.len());
        let zones: Vec<_> =
            map.places(ChunkId { blob, number: 3 }).iter().map(|place| place.zone).collect();
        assert_eq!(zones, [ZoneId(0), ZoneId(1), ZoneId(2)]);
    }
}
