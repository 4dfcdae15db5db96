//! The cluster map: founded once, changed by replacing stores.

use std::collections::BTreeSet;

use super::command::{Outcome, Rejection};
use super::keys::Key;
use super::records::Replaced;
use super::state::{Stop, Txn};
use crate::cluster::ClusterMap;
use crate::ids::{MapEpoch, Order, StoreId, ZoneId};
use crate::object::BlobRef;

/// Zones whose stores must have acknowledged a blob.
const ZONES_SAFE: usize = 2;

/// Write down the first map. What is there already stays: each leader that finds none proposes the
/// one of its configuration, and the first one counts.
pub(super) fn found(txn: &mut Txn<'_>, order: Order, map: &ClusterMap) -> Result<Outcome, Stop> {
    if txn.map.is_some() {
        return Ok(Outcome::Done);
    }
    if !makes_sense(map) {
        return Err(Rejection::Malformed.into());
    }
    txn.set_map(order.index, map.clone())?;
    Ok(Outcome::Done)
}

/// Fill the slot of `old` with `new`. From this entry on blobs that were placed under an older map
/// are refused, so that none is committed whose copies nobody would look for.
pub(super) fn replace(
    txn: &mut Txn<'_>,
    order: Order,
    old: StoreId,
    new: StoreId,
) -> Result<Outcome, Stop> {
    let map = txn.map.clone().ok_or(Rejection::NoSuchStore)?;
    if new == StoreId(0) {
        return Err(Rejection::Malformed.into());
    }
    match txn.rows.get::<Replaced>(&Key::Replaced { store: old })? {
        Some(before) if before.by == new => return Ok(Outcome::Done),
        Some(_) => return Err(Rejection::StoreRetired.into()),
        None => {}
    }
    if !map.stores().any(|(_, store)| store == old) {
        return Err(Rejection::NoSuchStore.into());
    }
    if map.stores().any(|(_, store)| store == new) {
        return Err(Rejection::StoreInUse.into());
    }
    if map.retired.contains(&new) {
        return Err(Rejection::StoreRetired.into());
    }
    let map = replaced(&map, old, new);
    let epoch = map.epoch;
    txn.header.epoch_floor = epoch;
    txn.rows.put(&Key::Replaced { store: old }, &Replaced { by: new, epoch })?;
    txn.set_map(order.index, map)?;
    Ok(Outcome::Done)
}

/// Whether stores of two zones that fill a slot of the present map have acknowledged a blob. Its
/// list names stores of all its chunks together; that each chunk is safe is the gateway's word, given
/// for the map of the blob's epoch.
pub(super) fn is_acknowledged(txn: &Txn<'_>, blob: &BlobRef) -> bool {
    let Some(map) = &txn.map else { return true };
    let zones: BTreeSet<ZoneId> = map
        .stores()
        .filter(|(_, store)| blob.stores.contains(store))
        .map(|(zone, _)| zone)
        .collect();
    zones.len() >= ZONES_SAFE
}

fn replaced(map: &ClusterMap, old: StoreId, new: StoreId) -> ClusterMap {
    let zone = map.zone_of(old);
    let mut map = map.clone();
    let slots = map.zones.iter_mut().flat_map(|zone| &mut zone.slots).map(|slot| &mut slot.store);
    for store in slots.chain(&mut map.voters) {
        if *store == old {
            *store = new;
        }
    }
    // Zones are known of all, or of none from here on.
    if let Some(zone) = zone.filter(|_| map.retired_zones.len() == map.retired.len()) {
        map.retired_zones.push(zone);
    }
    map.retired.push(old);
    map.epoch = MapEpoch(map.epoch.0 + 1);
    map
}

/// Whether a first map can be worked with: groups that chunks can be mapped to, each store in one
/// slot, voters that fill slots of different zones, none of them retired.
fn makes_sense(map: &ClusterMap) -> bool {
    let stores: BTreeSet<StoreId> = map.stores().map(|(_, store)| store).collect();
    let zone_of = |voter: &StoreId| map.stores().find(|(_, store)| store == voter);
    let voters: BTreeSet<ZoneId> =
        map.voters.iter().filter_map(zone_of).map(|(zone, _)| zone).collect();
    map.epoch > MapEpoch(0)
        && map.groups.is_power_of_two()
        && map.zones.is_sorted_by(|a, b| a.zone < b.zone)
        && stores.len() == map.stores().count()
        && !stores.contains(&StoreId(0))
        && !map.voters.is_empty()
        && voters.len() == map.voters.len()
        && !map.retired.iter().any(|store| stores.contains(store))
}
