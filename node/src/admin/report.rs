//! What this process says of itself: from the driver's and the core's plain values to JSON's.

use std::collections::BTreeMap;

use trine_core::consensus::Role;
use trine_core::disk;
use trine_core::ids::StoreId;
use trine_core::store::{RangeReport, StoreReport};
use trine_core::time::Instant;

use super::memory;
use super::schema::{
    DiskStatus, LinkReport, ReclaimStatus, RepairStatus, ReplicaStatus, Room, ScrubStatus,
    StoreLife, StoreStatus,
};
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
                "{reason}. Mend what is wrong and start it again with `trine admin zone start {}`, or \
                 give its place to a new store with `trine admin store replace {}`",
                store.zone, store.id
            ));
            StoreLife::Halted
        }
    };
    if let Some(report) = running.report.as_ref().filter(|_| store.life == StoreLife::Serving) {
        serving(store, report);
    }
}

fn serving(store: &mut StoreStatus, report: &StoreReport) {
    store.incarnation = Some(report.incarnation.0);
    store.directory = Some(report.directory.0);
    store.map_epoch = Some(report.map_epoch.0);
    store.levels = Some(super::level::of_levels(report.levels));
    store.level = report.level.map(|level| level.0);
    let written = report.disk.written;
    store.disk = Some(DiskStatus {
        capacity_bytes: report.disk.capacity,
        used_bytes: report.disk.used,
        journal_free_bytes: report.disk.journal_free,
        kept_bytes: written.rows + written.chunks,
        written_bytes: written.chunks + written.flushes + written.merges + written.others,
        flush_bytes: written.flushes,
        merge_bytes: written.merges,
        merges: report.disk.merged.merges,
        segments_freed: report.disk.merged.segments_freed,
        runs: report.disk.runs as u64,
        room: match report.disk.room {
            disk::Room::Data => Room::Data,
            disk::Room::Deletes => Room::Deletes,
            disk::Room::Housekeeping => Room::Housekeeping,
        },
    });
    store.memory = memory::of_machine(&report.memory);
    store.repair = Some(RepairStatus {
        missing: report.repair.missing,
        repaired: report.repair.repaired,
        damaged: report.repair.damaged,
        comparing: report.repair.comparing.is_some(),
        complete: report.repair.complete,
        proven: report.repair.proven.0,
    });
    let reclaim = &report.reclaim;
    store.reclaim = Some(ReclaimStatus {
        blobs: reclaim.blobs,
        chunks: reclaim.chunks,
        freeing: reclaim.freeing,
        in_question: reclaim.in_question,
        segments: reclaim.segments,
        moved: reclaim.moved,
    });
    let scrub = &report.scrub;
    store.scrub = Some(ScrubStatus {
        began_ms: scrub.began.as_millis(),
        under_way: scrub.at.is_some(),
        pass_bytes: scrub.pass_bytes,
        bytes: scrub.bytes,
        passes: scrub.passes,
        damaged: scrub.damaged,
    });
    if !report.waits_for.is_empty() {
        let others: Vec<String> = report.waits_for.iter().map(ToString::to_string).collect();
        store.reason = Some(format!(
            "its disk is blank, and the cluster begins when all first stores have said so of theirs: it \
             waits for {}. Start their nodes",
            others.join(" and ")
        ));
    }
    let ids = |ids: &[StoreId]| ids.iter().map(|id| id.0).collect();
    let replica = |range: &RangeReport| ReplicaStatus {
        range: range.range.0,
        store: store.id,
        role: role(range.role).to_owned(),
        leader: range.leader.map(|leader| leader.0),
        term: range.term.0,
        last: range.last.0,
        commit: range.commit.0,
        applied: range.applied.map(|applied| applied.0),
        suspect: range.suspect,
        voters: ids(&range.voters),
        learners: ids(&range.learners),
        backlog: range.backlog,
    };
    store.replicas = report.ranges.iter().map(replica).collect();
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
