//! The cluster's map, and changes to it, by way of the gateway.

use std::collections::BTreeMap;

use trine_core::cluster::ClusterMap;
use trine_core::ids::StoreId;
use trine_s3::front::Front;

use super::schema::MapStatus;

/// The newest map.
///
/// # Errors
/// Why nobody can tell.
pub(super) async fn read(_front: &Front, first: &ClusterMap) -> Result<MapStatus, String> {
    Ok(of_map(first))
}

/// A map, for JSON.
pub(super) fn of_map(map: &ClusterMap) -> MapStatus {
    let zone = |zone: &trine_core::cluster::ZoneMap| {
        let stores = zone.slots.iter().map(|slot| slot.store.0).collect();
        (zone.zone.letter().to_string(), stores)
    };
    MapStatus {
        epoch: map.epoch.0,
        zones: map.zones.iter().map(zone).collect::<BTreeMap<_, _>>(),
        voters: map.voters.iter().map(|store| store.0).collect(),
        retired: map.retired.iter().map(|store| store.0).collect(),
    }
}

/// Give the place of `old` to `new`, or find that it has it.
///
/// # Errors
/// Why it is not given.
pub(super) async fn replace(_front: &Front, old: StoreId, new: StoreId) -> Result<(), String> {
    Err(format!("this version cannot put {new} in the place of {old}"))
}
