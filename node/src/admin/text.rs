//! A status for people to read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::schema::{
    ClusterStatus, LinkReport, MapStatus, MemoryKind, NodeStatus, ProcessMemory, RangeStatus, Room,
    StoreLife, StoreStatus,
};

/// The whole status.
pub(super) fn status(status: &ClusterStatus) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out, status);
    out
}

fn write(out: &mut String, status: &ClusterStatus) -> std::fmt::Result {
    writeln!(out, "cluster {} (as {} sees it)", status.cluster, status.answered_by)?;
    if status.redundancy.full {
        writeln!(out, "redundancy: full: everything is in all three zones")?;
    } else {
        writeln!(out, "redundancy: NOT FULL:")?;
        for missing in &status.redundancy.missing {
            writeln!(out, "  - {missing}")?;
        }
    }
    let backlog = &status.backlog;
    writeln!(
        out,
        "backlog: {} copies missing, {} log entries behind, {} stores comparing",
        backlog.copies_missing, backlog.entries_behind, backlog.stores_comparing
    )?;
    if let Some(map) = &status.map {
        writeln!(
            out,
            "map: epoch {}, {}voters {:?}, retired {:?}",
            map.epoch,
            map.level.map(|level| format!("level {level}, ")).unwrap_or_default(),
            map.voters,
            map.retired
        )?;
        for (number, former) in map.former.iter().enumerate() {
            let waits = match number {
                0 => waits_for(map, &status.stores),
                _ => String::new(),
            };
            writeln!(
                out,
                "  data of zone {} moves since epoch {}: its stores had weights {}{waits}",
                former.zone,
                former.epoch + 1,
                weights(&former.weights)
            )?;
        }
    }
    // One process with all zones stands in none of them.
    for node in status.nodes.iter().filter(|node| node.zone.is_none()) {
        if let Some(memory) = &node.memory {
            writeln!(out, "process: {}", process(memory))?;
        }
    }
    for zone in &status.zones {
        let state = if zone.serving { "serving" } else { "NOT WHOLE" };
        writeln!(
            out,
            "\nzone {}: {state}, {} of {} stores serve",
            zone.zone, zone.stores_serving, zone.stores
        )?;
        let here = |node: &&NodeStatus| node.zone.as_ref().is_none_or(|of| *of == zone.zone);
        for node in status.nodes.iter().filter(here) {
            self::node(out, node, status)?;
        }
        for store in status.stores.iter().filter(|store| store.zone == zone.zone) {
            let weight = status.map.as_ref().and_then(|map| map.weights.get(&store.id)).copied();
            let level = status.map.as_ref().and_then(|map| map.level);
            self::store(out, store, weight, level)?;
        }
    }
    for range in &status.ranges {
        self::range(out, range)?;
    }
    Ok(())
}

fn node(out: &mut String, node: &NodeStatus, status: &ClusterStatus) -> std::fmt::Result {
    if node.zone.is_none() {
        // One process with all zones is told of once, in the first line.
        return Ok(());
    }
    let state = match &node.problem {
        Some(problem) => problem.as_str(),
        None => "answers",
    };
    writeln!(out, "  node {} (id {}): {state}; S3 on {}", node.name, node.id, node.s3)?;
    if node.answers {
        writeln!(out, "    {}; {} requests", node.gateway, node.requests)?;
        if let Some(memory) = &node.memory {
            writeln!(out, "    {}", process(memory))?;
        }
    }
    for link in &node.links {
        let peer = status.nodes.iter().find(|peer| peer.id == link.node);
        let peer = peer.map_or(link.address.as_str(), |peer| peer.name.as_str());
        writeln!(out, "    link to {peer}: {}", self::link(link))?;
    }
    Ok(())
}

fn link(link: &LinkReport) -> String {
    let mut text = if link.up {
        let trip = link.round_trip_us.map(|us| format!(", {}.{:03} ms", us / 1000, us % 1000));
        format!("up for {}{}", seconds(link.since_ms), trip.unwrap_or_default())
    } else {
        let why = link.reason.as_deref().unwrap_or("not yet made");
        format!("DOWN for {}: {why}", seconds(link.since_ms))
    };
    if link.queued_bytes > 0 {
        text += &format!(", {} queued", bytes(link.queued_bytes));
    }
    if !link.drops.is_empty() {
        let drops = link.drops.iter().map(|(kind, count)| format!("{count} {kind}"));
        text += &format!(", dropped: {}", drops.collect::<Vec<_>>().join(", "));
    }
    text
}

/// Which stores have not compared all with all owners yet.
fn waits_for(map: &MapStatus, stores: &[StoreStatus]) -> String {
    let waits: Vec<String> =
        super::status::unproven(map, stores).iter().map(ToString::to_string).collect();
    match waits.is_empty() {
        true => "; all have it, and that is being noted down".to_owned(),
        false => format!("; not all is there yet, or compared, at stores {}", waits.join(", ")),
    }
}

fn weights(weights: &BTreeMap<u64, u32>) -> String {
    let each: Vec<String> = weights.iter().map(|(id, weight)| format!("{id}:{weight}")).collect();
    each.join(" ")
}

fn store(
    out: &mut String,
    store: &StoreStatus,
    weight: Option<u32>,
    level: Option<u32>,
) -> std::fmt::Result {
    let life = match store.life {
        StoreLife::Serving => "serving",
        StoreLife::Opening => "starting",
        StoreLife::Stopped => "STOPPED",
        StoreLife::Stopping => "being stopped",
        StoreLife::Halted => "HALTED",
        StoreLife::Lost => "LOST",
        StoreLife::Failed => "DOES NOT RUN",
        StoreLife::Unknown => "not heard of",
    };
    write!(out, "  store {} at {}: {life}", store.id, store.node)?;
    match weight {
        Some(0) => write!(out, ", drained")?,
        Some(weight) => write!(out, ", weight {weight}")?,
        None => {}
    }
    if let Some(incarnation) = store.incarnation {
        write!(out, ", start {incarnation}")?;
    }
    if store.levels.is_some_and(|[_, newest]| Some(newest) != level) {
        write!(out, ", {}", super::level::speaks(store.levels))?;
    }
    if let Some(disk) = &store.disk {
        write!(
            out,
            ", {} of {} used, {} of journal free, {} runs after {} merges",
            bytes(disk.used_bytes),
            bytes(disk.capacity_bytes),
            bytes(disk.journal_free_bytes),
            disk.runs,
            disk.merges
        )?;
        if disk.kept_bytes > 0 {
            let hundredths = u128::from(disk.written_bytes) * 100 / u128::from(disk.kept_bytes);
            let (whole, rest) = (hundredths / 100, hundredths % 100);
            write!(out, ", {whole}.{rest:02} bytes written for each kept")?;
        }
    }
    if let Some(repair) = &store.repair {
        let state = if repair.complete { "complete" } else { "not complete" };
        write!(
            out,
            ", copies {state} ({} missing, {} repaired, {} damaged)",
            repair.missing, repair.repaired, repair.damaged
        )?;
    }
    let full = match store.disk.map(|disk| disk.room) {
        Some(Room::Deletes) => ", FULL: no new data",
        Some(Room::Housekeeping) => ", FULL: no deletes either",
        Some(Room::Data | Room::Unknown) | None => "",
    };
    writeln!(out, "{full}")?;
    if let Some(reclaim) = &store.reclaim {
        writeln!(
            out,
            "    reclaimed: {} chunks of {} blobs ({} being freed, {} in question), {} segments given back",
            reclaim.chunks, reclaim.blobs, reclaim.freeing, reclaim.in_question, reclaim.segments
        )?;
    }
    if let Some(scrub) = &store.scrub {
        let state = if scrub.under_way { "under way" } else { "at rest" };
        writeln!(
            out,
            "    scrubbing: {state}, {} read in this pass, {} passes since the start, {} damaged copies found",
            bytes(scrub.pass_bytes),
            scrub.passes,
            scrub.damaged
        )?;
    }
    if !store.memory.is_empty() {
        writeln!(out, "    memory: {}", kinds(&store.memory))?;
    }
    match &store.reason {
        Some(reason) => writeln!(out, "    {reason}"),
        None => Ok(()),
    }
}

/// What a process holds in memory, beside its stores.
fn process(memory: &ProcessMemory) -> String {
    let resident = memory.resident_bytes.map_or("unknown".to_owned(), bytes);
    let peak = memory.peak_bytes.map_or("unknown".to_owned(), bytes);
    format!(
        "memory {resident} resident (peak {peak}); {} of {} requests of {} tenants, {} wait for room, \
         {} were told to slow down; {}",
        memory.requests,
        memory.requests_max,
        memory.tenants,
        memory.bodies_waiting,
        memory.slowed_down,
        kinds(&memory.kinds)
    )
}

/// The sum, and each kind of which there is any.
fn kinds(kinds: &[MemoryKind]) -> String {
    let total: u64 = kinds.iter().map(|kind| kind.bytes).sum();
    let some = kinds.iter().filter(|kind| kind.bytes > 0).map(|kind| match kind.limit {
        Some(limit) => format!("{} {} of {}", kind.name, bytes(kind.bytes), bytes(limit)),
        None => format!("{} {}", kind.name, bytes(kind.bytes)),
    });
    let parts: Vec<String> = some.collect();
    match parts.is_empty() {
        true => "nothing counted".to_owned(),
        false => format!("{} counted ({})", bytes(total), parts.join(", ")),
    }
}

fn range(out: &mut String, range: &RangeStatus) -> std::fmt::Result {
    let leader = range.leader.map_or("NOBODY leads".to_owned(), |id| format!("store {id} leads"));
    writeln!(
        out,
        "\nrange {}: {leader} in term {}, {} entries committed",
        range.range, range.term, range.commit
    )?;
    for replica in &range.replicas {
        let applied =
            replica.applied.map_or("nothing yet".to_owned(), |applied| applied.to_string());
        let suspect = if replica.suspect { ", DISTRUSTS its log" } else { "" };
        writeln!(
            out,
            "  store {}: {}, term {}, log to {}, committed {}, applied {applied}{suspect}",
            replica.store, replica.role, replica.term, replica.last, replica.commit
        )?;
    }
    Ok(())
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

fn bytes(count: u64) -> String {
    let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (unit, name) in units {
        if count >= unit {
            return format!("{}.{} {name}", count / unit, count % unit * 10 / unit);
        }
    }
    format!("{count} B")
}
