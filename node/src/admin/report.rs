//! What this process says of itself: from the driver's and the core's plain values to JSON's.

use std::collections::BTreeMap;

use trine_core::consensus::Role;
use trine_core::ids::StoreId;
use trine_core::store::StoreProbe;
use trine_core::time::Instant;

use super::schema::{LinkReport, ReplicaStatus, StoreLife, StoreStatus};
use crate::driver;
use crate::hosting::{Absent, Place};
use crate::transport;

/// The stores of this process: those that run as the driver has them, the others with the reason.
pub(super) fn stores(
    places: &BTreeMap<StoreId, Place>,
    running: &[driver::StoreStatus],
) -> Vec<StoreStatus> {
    let store = |(id, place): (&StoreId, &Place)| {
        let mut store = StoreStatus {
            id: id.0,
            zone: place.zone.letter().to_string(),
            path: place.path.display().to_string(),
            ..StoreStatus::default()
        };
        match (&place.absent, running.iter().find(|running| running.id == *id)) {
            (None, Some(running)) => life(&mut store, running),
            (None, None) => {
                store.life = StoreLife::Failed;
                store.reason = Some("it does not run, and nobody stopped it".to_owned());
            }
            (Some(absent), _) => (store.life, store.reason) = why_absent(*id, absent),
        }
        store
    };
    places.iter().map(store).collect()
}

fn life(store: &mut StoreStatus, running: &driver::StoreStatus) {
    store.life = match &running.life {
        driver::StoreLife::Opening => StoreLife::Opening,
        driver::StoreLife::Serving => StoreLife::Serving,
        driver::StoreLife::Stopping => StoreLife::Stopping,
        driver::StoreLife::Halted(reason) => {
            store.reason = Some(format!(
                "{reason}. Mend its disk and restart its node, or give its place to a new store \
                 with `trine admin store replace {}`",
                store.id
            ));
            StoreLife::Halted
        }
    };
    if let Some(probe) = &running.probe {
        replicas(store, probe);
    }
}

fn replicas(store: &mut StoreStatus, probe: &StoreProbe) {
    store.incarnation = Some(probe.incarnation.0);
    for (range, replica) in &probe.replicas {
        store.replicas.push(ReplicaStatus {
            range: range.0,
            store: store.id,
            role: role(replica.role).to_owned(),
            leader: replica.leader.map(|leader| leader.0),
            term: replica.term.0,
            last: replica.last_index.0,
            commit: replica.commit.0,
            applied: replica.applied.as_ref().map(|(index, _)| index.0),
            suspect: replica.suspect,
            ..ReplicaStatus::default()
        });
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate | Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

fn why_absent(id: StoreId, absent: &Absent) -> (StoreLife, Option<String>) {
    match absent {
        Absent::Lost => (
            StoreLife::Lost,
            Some(format!(
                "its file is gone: put it back and restart its node, or give its place to a new \
                 store with `trine admin store replace {}`",
                id.0
            )),
        ),
        Absent::Failed(reason) => (StoreLife::Failed, Some(reason.clone())),
        Absent::Stopped => {
            (StoreLife::Stopped, Some("`trine admin zone start` starts it again".to_owned()))
        }
        Absent::Waits => {
            (StoreLife::Opening, Some("it waits for its place in the cluster's map".to_owned()))
        }
    }
}

/// The links of this process.
pub(super) fn links(now: Instant, links: &[transport::LinkStatus]) -> Vec<LinkReport> {
    let micros = |duration: std::time::Duration| u64::try_from(duration.as_micros()).ok();
    let link = |link: &transport::LinkStatus| LinkReport {
        node: link.node.0,
        address: link.address.to_string(),
        up: link.up,
        since_ms: u64::try_from(now.since(link.since).as_millis()).unwrap_or(u64::MAX),
        reason: link.reason.clone(),
        round_trip_us: link.round_trip.and_then(micros),
        queued_bytes: link.control_queued_bytes + link.bulk_queued_bytes,
        drops: link.drops.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
        ups: link.ups,
    };
    links.iter().map(link).collect()
}
