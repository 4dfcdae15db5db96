//! The cluster map: founded once, changed by replacing, adding and draining stores, by nodes that come
//! and go, and by another feature level.
//!
//! A change of slots or weights gives chunks to stores that do not have them yet. From its entry on
//! blobs are refused that were placed under an older map; whoever takes over begins only when it has
//! heard of the new map, so that it misses nothing that was committed before. Until all owners have said
//! that they lack nothing (`ProveMap`), the map names the zone's former slots: their stores keep what
//! they had, and are asked for it. So each committed chunk is at every moment where two zones
//! acknowledged it, or, after a proof, in all zones; and changes in several zones at once do no harm.

use std::collections::BTreeSet;

use super::command::{Outcome, Rejection};
use super::keys::Key;
use super::records::Replaced;
use super::sessions::SessionTable;
use super::state::{Stop, Txn};
use crate::cluster::{
    ClusterMap, Layout, NODE_TEXT_MAX, NODES_MAX, Node, SLOTS_MAX, Slot, UNPROVEN_MAX, WEIGHT_MAX,
    ZoneMap,
};
use crate::ids::{MapEpoch, Order, StoreId, ZoneId};
use crate::level::{self, Level};
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

/// Give a zone one more slot.
pub(super) fn add(
    txn: &mut Txn<'_>,
    order: Order,
    zone: ZoneId,
    new: Slot,
) -> Result<Outcome, Stop> {
    let map = txn.map.clone().ok_or(Rejection::NoSuchZone)?;
    if new.store == StoreId(0) {
        return Err(Rejection::Malformed.into());
    }
    if new.weight == 0 || new.weight > WEIGHT_MAX {
        return Err(Rejection::BadWeight.into());
    }
    let in_zone = map.zones.iter().find(|of| of.zone == zone).ok_or(Rejection::NoSuchZone)?;
    let slots = &in_zone.slots;
    if slots.contains(&new) {
        return Ok(Outcome::Done);
    }
    if map.stores().any(|(_, store)| store == new.store) {
        return Err(Rejection::StoreInUse.into());
    }
    if map.retired.contains(&new.store) {
        return Err(Rejection::StoreRetired.into());
    }
    if slots.len() >= SLOTS_MAX {
        return Err(Rejection::TooManySlots.into());
    }
    move_data(txn, order, &map, zone, |slots| slots.push(new))
}

/// Change the weight of a store's slot.
pub(super) fn set_weight(
    txn: &mut Txn<'_>,
    order: Order,
    store: StoreId,
    weight: u32,
) -> Result<Outcome, Stop> {
    let map = txn.map.clone().ok_or(Rejection::NoSuchStore)?;
    if weight > WEIGHT_MAX {
        return Err(Rejection::BadWeight.into());
    }
    let stands_in = |zone: &&ZoneMap| zone.slots.iter().any(|slot| slot.store == store);
    let zone = map.zones.iter().find(stands_in).ok_or(Rejection::NoSuchStore)?;
    if zone.slots.contains(&Slot { store, weight }) {
        return Ok(Outcome::Done);
    }
    if weight == 0 && !zone.keepers().any(|other| other != store) {
        return Err(Rejection::LastOfZone.into());
    }
    let zone = zone.zone;
    let mut map = ClusterMap::clone(&map);
    if weight == 0 && level::allows(map.level, level::VOTES_MOVE) {
        pass_vote_on(&mut map, zone, store);
    }
    move_data(txn, order, &map, zone, |slots| {
        slots.iter_mut().filter(|slot| slot.store == store).for_each(|slot| slot.weight = weight);
    })
}

/// The vote of a store that is drained goes to the store of its zone with the largest share; it votes on
/// until that one has caught up.
fn pass_vote_on(map: &mut ClusterMap, zone: ZoneId, drained: StoreId) {
    let slots = map.zones.iter().filter(|of| of.zone == zone).flat_map(|zone| &zone.slots);
    let others = slots.filter(|slot| slot.weight > 0 && slot.store != drained);
    let Some(heir) = others.max_by_key(|slot| slot.weight).map(|slot| slot.store) else { return };
    map.voters.iter_mut().filter(|voter| **voter == drained).for_each(|voter| *voter = heir);
}

/// Write down what a node is from now on.
pub(super) fn set_node(txn: &mut Txn<'_>, order: Order, node: &Node) -> Result<Outcome, Stop> {
    let map = txn.map.clone().ok_or(Rejection::NoSuchZone)?;
    if !map.zones.iter().any(|zone| zone.zone == node.zone) {
        return Err(Rejection::NoSuchZone.into());
    }
    let texts = [&node.name, &node.peer, &node.s3];
    if node.id == 0 || node.name.is_empty() || texts.iter().any(|text| text.len() > NODE_TEXT_MAX) {
        return Err(Rejection::Malformed.into());
    }
    let namesake = |other: &&Node| other.name == node.name && other.id != node.id && !other.left;
    if !node.left && map.nodes.iter().any(|other| namesake(&other)) {
        return Err(Rejection::NodeInUse.into());
    }
    // Nobody proposes this at the first level. In logs from before there were levels it says that all know nodes.
    let level = map.level.max(level::NODES);
    let mut map = ClusterMap { level, ..ClusterMap::clone(&map) };
    match map.nodes.binary_search_by_key(&node.id, |other| other.id) {
        Ok(at) if map.nodes[at] == *node => return Ok(Outcome::Done),
        Ok(at) if map.nodes[at].left || map.nodes[at].zone != node.zone => {
            return Err(Rejection::NodeInUse.into());
        }
        Ok(at) => map.nodes[at] = node.clone(),
        Err(_) if map.nodes.len() >= NODES_MAX => return Err(Rejection::TooManyNodes.into()),
        Err(at) => map.nodes.insert(at, node.clone()),
    }
    txn.set_map(order.index, map)?;
    Ok(Outcome::Done)
}

/// All owners by the map of `epoch` have what there was: what was before it counts no more.
pub(super) fn prove(txn: &mut Txn<'_>, order: Order, epoch: MapEpoch) -> Result<Outcome, Stop> {
    let map = txn.map.clone().ok_or(Rejection::Malformed)?;
    if epoch > map.epoch {
        return Err(Rejection::Malformed.into());
    }
    if map.unproven.iter().any(|layout| layout.epoch < epoch) {
        let mut map = ClusterMap::clone(&map);
        map.unproven.retain(|layout| layout.epoch >= epoch);
        txn.set_map(order.index, map)?;
    }
    Ok(Outcome::Done)
}

/// Raise the cluster's feature level. `spoken`: the stores that have told the leader that they speak it. All that
/// fill a slot now must be among them; one that came behind the leader's look is not. Of gateways their
/// sessions say it.
pub(super) fn raise(
    txn: &mut Txn<'_>,
    order: Order,
    to: Level,
    spoken: &[StoreId],
    sessions: &SessionTable,
) -> Result<Outcome, Stop> {
    let map = txn.map.clone().ok_or(Rejection::Malformed)?;
    if to == map.level {
        return Ok(Outcome::Done);
    }
    if to < map.level {
        return Err(Rejection::LevelGoesDown { level: map.level }.into());
    }
    if let Some((_, store)) = map.stores().find(|(_, store)| !spoken.contains(store)) {
        probe!(LevelNotRaised);
        return Err(Rejection::LevelNotSpoken { store }.into());
    }
    if let Some(gateway) = sessions.not_speaking(to) {
        probe!(LevelNotRaised);
        return Err(Rejection::LevelNotSpokenBy { gateway }.into());
    }
    probe!(LevelRaised);
    txn.set_map(order.index, ClusterMap { level: to, ..ClusterMap::clone(&map) })?;
    Ok(Outcome::Done)
}

/// Change a zone's slots, and remember what they were.
fn move_data(
    txn: &mut Txn<'_>,
    order: Order,
    map: &ClusterMap,
    zone: ZoneId,
    change: impl FnOnce(&mut Vec<Slot>),
) -> Result<Outcome, Stop> {
    if map.unproven.len() >= UNPROVEN_MAX {
        return Err(Rejection::Unproven.into());
    }
    let mut map = map.clone();
    let present = map.zones.iter_mut().find(|of| of.zone == zone).ok_or(Rejection::NoSuchZone)?;
    let former = present.clone();
    change(&mut present.slots);
    map.unproven.push(Layout { epoch: map.epoch, zone: former });
    map.epoch = MapEpoch(map.epoch.0 + 1);
    txn.header.epoch_floor = map.epoch;
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
    // What the old one had by a former layout is lost with it; the slot stays a former owner's.
    let former = map.unproven.iter_mut().map(|layout| &mut layout.zone);
    let slots = map.zones.iter_mut().chain(former).flat_map(|zone| &mut zone.slots);
    for store in slots.map(|slot| &mut slot.store).chain(&mut map.voters) {
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
        && map.unproven.is_empty()
        && map.nodes.is_empty()
}
