//! From what each process says of itself to what holds of the cluster. Pure functions: what is
//! gathered goes in, what an operator reads comes out.

use std::collections::{BTreeMap, BTreeSet};

use super::schema::{
    Backlog, ClusterStatus, MapStatus, NodeReport, NodeStatus, RangeStatus, Redundancy, Replacing,
    ReplicaStatus, Room, StoreLife, StoreStatus, ZoneStatus,
};

/// A node as the configuration has it, and what it answered.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// What the configuration says; what the node says itself is filled in here.
    pub(super) node: NodeStatus,
    /// Its first stores.
    pub(super) stores: Vec<u64>,
    /// What it says, or why it says nothing.
    pub(super) report: Result<NodeReport, String>,
}

/// The newest commit that anybody knows, by range.
pub(super) fn commits(answers: &[Answer]) -> BTreeMap<u64, u64> {
    let mut commits = BTreeMap::new();
    for replica in reports(answers).flat_map(|report| &report.stores).flat_map(|s| &s.replicas) {
        let commit = commits.entry(replica.range).or_default();
        *commit = replica.commit.max(*commit);
    }
    commits
}

/// What holds of the cluster.
///
/// `committed` was gathered before `answers`, so that in a busy cluster too each replica can have
/// applied what it names; `map` is the cluster's map, if anybody could be asked, and `first` the one
/// that it began with.
pub(super) fn compose(
    answered_by: &str,
    cluster: &str,
    bootstrap: &str,
    answers: Vec<Answer>,
    map: Result<MapStatus, String>,
    first: &MapStatus,
    committed: &BTreeMap<u64, u64>,
) -> ClusterStatus {
    let mut missing = Vec::new();
    let known = match &map {
        Ok(map) => map.clone(),
        Err(error) => {
            missing.push(format!("the cluster's map cannot be read: {error}"));
            first.clone()
        }
    };
    let stores = stores(&answers, &known);
    let nodes: Vec<NodeStatus> =
        answers.into_iter().map(|answer| node(answer, cluster, bootstrap)).collect();
    for node in &nodes {
        if let Some(problem) = &node.problem {
            missing.push(format!("node {}: {problem}", node.name));
        }
        for Replacing { old, new, step } in &node.replacing {
            missing.push(match (old, new) {
                (0, 1..) => format!("store-{new} is to get a place of its own: {step}"),
                _ => format!("store-{new} is to take the place of store-{old}: {step}"),
            });
        }
    }
    for store in stores.iter().filter(|store| !is_dispensable(store.id, &known)) {
        missing.extend(store_lacks(store, known.epoch));
    }
    if !known.former.is_empty() {
        let waits = unproven(&known, &stores).into_iter();
        let lacks = |id: u64| {
            format!("store-{id} may lack data that moves to it, or has not compared all yet")
        };
        missing.extend(waits.map(lacks));
        missing.push(format!(
            "data is moving: {} changes of the cluster's map are not proven yet",
            known.former.len()
        ));
    }
    let ranges = ranges(&stores);
    if ranges.is_empty() {
        missing.push("no replica of any range answers".to_owned());
    }
    for range in &ranges {
        missing.extend(range_lacks(range, &known, committed.get(&range.range).copied()));
    }
    let behind = |range: &RangeStatus| {
        let target = committed.get(&range.range).copied().unwrap_or(range.commit);
        let of = |replica: &ReplicaStatus| target.saturating_sub(replica.applied.unwrap_or(0));
        range.replicas.iter().map(of).max().unwrap_or(0)
    };
    let repairs = || stores.iter().filter_map(|store| store.repair);
    let backlog = Backlog {
        copies_missing: repairs().map(|repair| repair.missing).sum(),
        entries_behind: ranges.iter().map(behind).max().unwrap_or(0),
        stores_comparing: u64::try_from(repairs().filter(|repair| repair.comparing).count())
            .unwrap_or(u64::MAX),
    };
    ClusterStatus {
        cluster: cluster.to_owned(),
        answered_by: answered_by.to_owned(),
        redundancy: Redundancy { full: missing.is_empty(), missing },
        zones: zones(&stores),
        nodes,
        stores,
        ranges,
        map: map.ok(),
        backlog,
    }
}

/// A node with what it says of itself.
fn node(answer: Answer, cluster: &str, bootstrap: &str) -> NodeStatus {
    let mut node = answer.node;
    match answer.report {
        Ok(report) => {
            node.answers = true;
            if report.cluster != cluster {
                node.problem = Some(format!("it belongs to another cluster, {}", report.cluster));
            } else if report.bootstrap != bootstrap {
                node.problem = Some(format!(
                    "its configuration lists the stores {:?}, and ours {bootstrap:?}: give all \
                     nodes the same [[nodes]]",
                    report.bootstrap
                ));
            }
            node.version = report.version;
            node.levels = report.levels;
            node.gateway = report.gateway;
            node.memory = report.memory;
            node.requests = report.requests;
            node.links = report.links;
            node.replacing = report.replacing;
        }
        Err(error) => node.problem = Some(format!("it does not answer: {error}")),
    }
    node
}

/// Every store that has a place, and those that wait for one; not the retired ones.
fn stores(answers: &[Answer], map: &MapStatus) -> Vec<StoreStatus> {
    let retired: BTreeSet<u64> = map.retired.iter().copied().collect();
    let mut stores: BTreeMap<u64, StoreStatus> = BTreeMap::new();
    for (zone, ids) in &map.zones {
        for id in ids {
            let configured = answers.iter().find(|answer| answer.stores.contains(id));
            let store = StoreStatus {
                id: *id,
                zone: zone.clone(),
                node: configured.map(|answer| answer.node.name.clone()).unwrap_or_default(),
                ..StoreStatus::default()
            };
            stores.insert(*id, store);
        }
    }
    for answer in answers {
        let Ok(report) = &answer.report else { continue };
        for store in report.stores.iter().filter(|store| !retired.contains(&store.id)) {
            let mut store = store.clone();
            store.node.clone_from(&answer.node.name);
            for replica in &mut store.replicas {
                replica.store = store.id;
            }
            stores.insert(store.id, store);
        }
    }
    stores.into_values().collect()
}

/// Stores that keep something by the map and have not said that they have all that there was when it came.
pub(super) fn unproven(map: &MapStatus, stores: &[StoreStatus]) -> Vec<u64> {
    let keepers = map.weights.iter().filter(|(_, weight)| **weight > 0).map(|(id, _)| *id);
    let proven = |id: &u64| {
        let repair = stores.iter().find(|store| store.id == *id).and_then(|store| store.repair);
        repair.is_some_and(|repair| repair.proven >= map.epoch)
    };
    keepers.filter(|id| !proven(id)).collect()
}

/// Whether all goes well without this store: it is drained, nobody needs what it had, and it does not vote.
pub(super) fn is_dispensable(store: u64, map: &MapStatus) -> bool {
    map.weights.get(&store) == Some(&0) && map.former.is_empty() && !map.voters.contains(&store)
}

/// What keeps a store from being as it should.
fn store_lacks(store: &StoreStatus, epoch: u64) -> Vec<String> {
    let who = format!("store-{} (zone {}, node {})", store.id, store.zone, store.node);
    let why = store.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let life = match store.life {
        StoreLife::Serving => None,
        StoreLife::Opening => Some("is starting"),
        StoreLife::Stopped => Some("is stopped"),
        StoreLife::Stopping => Some("is being stopped"),
        StoreLife::Halted => Some("has halted"),
        StoreLife::Lost => Some("is lost"),
        StoreLife::Failed => Some("does not run"),
        StoreLife::Unknown => Some("is not heard of"),
    };
    if let Some(life) = life {
        return vec![format!("{who} {life}{why}")];
    }
    let mut lacks = Vec::new();
    if store.map_epoch.is_some_and(|known| known < epoch) {
        lacks.push(format!("{who} has not yet heard of the cluster's map of epoch {epoch}"));
    }
    let full = match store.disk.map(|disk| disk.room) {
        Some(Room::Deletes) => Some("takes no new data"),
        Some(Room::Housekeeping) => Some("takes nothing any more, not even deletes"),
        Some(Room::Data | Room::Unknown) | None => None,
    };
    if let Some(full) = full {
        lacks.push(format!("{who} is FULL and {full}: delete objects, or give it a larger disk"));
    }
    match &store.repair {
        None => lacks.push(format!("{who} does not say which copies it lacks")),
        Some(repair) if repair.missing + repair.damaged > 0 => {
            lacks.push(format!(
                "{who} lacks {} copies and has {} damaged ones; it is being given them",
                repair.missing, repair.damaged
            ));
        }
        Some(repair) if !repair.complete => {
            lacks.push(format!("{who} is comparing its copies with those of other zones"));
        }
        Some(_) => {}
    }
    for replica in store.replicas.iter().filter(|replica| replica.suspect) {
        lacks.push(format!(
            "{who} distrusts its log of range-{}, and waits for the others to vouch for it",
            replica.range
        ));
    }
    lacks
}

fn ranges(stores: &[StoreStatus]) -> Vec<RangeStatus> {
    let mut ranges: BTreeMap<u64, RangeStatus> = BTreeMap::new();
    for replica in stores.iter().flat_map(|store| &store.replicas) {
        let range = ranges.entry(replica.range).or_default();
        range.range = replica.range;
        range.commit = range.commit.max(replica.commit);
        range.term = range.term.max(replica.term);
        range.replicas.push(replica.clone());
    }
    for range in ranges.values_mut() {
        // One that was cut off may still believe that it leads an older term.
        let leaders = range.replicas.iter().filter(|replica| replica.role == "leader");
        if let Some(leader) = leaders.max_by_key(|leader| leader.term) {
            range.leader = Some(leader.store);
            (range.voters, range.learners) = (leader.voters.clone(), leader.learners.clone());
        }
    }
    ranges.into_values().collect()
}

/// What keeps a range from being in all zones.
fn range_lacks(range: &RangeStatus, map: &MapStatus, committed: Option<u64>) -> Vec<String> {
    let name = format!("range-{}", range.range);
    let Some(leader) = range.leader else {
        return vec![format!("{name} has no leader that answers")];
    };
    let mut lacks = Vec::new();
    let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<_>>();
    // Absent from reports of versions that do not know of membership.
    if !range.voters.is_empty() && set(&range.voters) != set(&map.voters) {
        lacks.push(format!(
            "{name} has the voters {:?} (learners {:?}), and should have {:?}: the change is under \
             way",
            range.voters, range.learners, map.voters
        ));
    }
    let target = committed.unwrap_or(range.commit);
    for voter in &map.voters {
        match range.replicas.iter().find(|replica| replica.store == *voter) {
            None => lacks.push(format!("{name} has no replica at store-{voter}, a voter")),
            Some(replica) => {
                let behind = target.saturating_sub(replica.applied.unwrap_or(0));
                if behind > 0 {
                    lacks.push(format!(
                        "{name}: store-{voter} is {behind} entries behind store-{leader}, which \
                         leads"
                    ));
                }
            }
        }
    }
    lacks
}

fn zones(stores: &[StoreStatus]) -> Vec<ZoneStatus> {
    let mut zones: BTreeMap<&str, ZoneStatus> = BTreeMap::new();
    for store in stores {
        let zone = zones.entry(&store.zone).or_default();
        zone.zone.clone_from(&store.zone);
        zone.stores += 1;
        zone.stores_serving += u64::from(store.life == StoreLife::Serving);
    }
    let whole = |mut zone: ZoneStatus| {
        zone.serving = zone.stores == zone.stores_serving;
        zone
    };
    zones.into_values().map(whole).collect()
}

fn reports(answers: &[Answer]) -> impl Iterator<Item = &NodeReport> {
    answers.iter().filter_map(|answer| answer.report.as_ref().ok())
}

#[cfg(test)]
mod tests;
