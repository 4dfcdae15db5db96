//! How a world is put together: three zones with a few stores each, gateways, clients, a network.

use std::collections::BTreeMap;

use trine_core::cluster::{
    ClusterMap, Cut, GatewayConfig, Geometry, Slot, StoreConfig, StoreLimits, StoreTiming, ZoneMap,
};
use trine_core::effects::Effects;
use trine_core::ids::{ClusterId, Endpoint, GatewayId, SessionId, StoreId, ZoneId};
use trine_core::level::Levels;
use trine_core::time::Duration;

use super::choices::Choices;
use super::clients::Client;
use super::crash::Crashes;
use super::links::Links;
use super::machine::{Clock, GatewaySide, Machine, Maker, Side, StoreSide};
use super::onlooker::Onlooker;
use super::operator::Operator;
use super::queue::Queue;
use super::upgrade::{OLD, Rolling};
use super::{Counts, Happening, Part, Setup, World};
use crate::checkers::agreement::Agreement;
use crate::checkers::custody::Custody;
use crate::checkers::ledger::Ledger;
use crate::checkers::promises::Promises;
use crate::disk::SimDisk;
use crate::faults::FaultKind;
use crate::faults::swarm::Swarm;
use crate::network::Network;
use crate::random::Streams;
use crate::trace::Trace;
use crate::workload::{Workload, key_names};

/// One store of each zone has a replica.
const VOTERS: usize = 3;
/// The layout of each disk.
pub const GEOMETRY: Geometry = Geometry { capacity: 50 << 20, ..Geometry::SIMULATION };
/// The weight of each store that is not drained.
pub(super) const WEIGHT: u32 = 100;
/// The time of day when each run begins: a moment in 2026.
pub(super) const WALL_MILLIS: u64 = 1_780_000_000_000;

const CLUSTER: ClusterId = ClusterId(0x0074_7269_6e65);

pub(super) fn build<M: Maker>(maker: M, setup: Setup, choices: Choices, trace: Trace) -> World<M> {
    let Setup { seed, swarm, plan, geometry } = setup;
    let Choices { source, strikes, keys, own_streams } = choices;
    let keys = keys.unwrap_or_else(|| key_names(&swarm));
    let streams = |purpose| Streams::new(seed, purpose, own_streams);
    let levels = if swarm.rolls() { OLD } else { Levels::OWN };
    let map = ClusterMap { level: levels.max, ..map(swarm.stores()) };
    // What may be added later runs the newest build.
    let levels_of = |place| if place < swarm.stores() { levels } else { Levels::OWN };
    let store = |place| {
        let geometry = layout(place, &swarm, geometry);
        store(place, &map, geometry, &swarm, levels_of(place))
    };
    let mut machines: Vec<Machine<M>> = (0..swarm.stores_max()).map(store).collect();
    for spare in &mut machines[swarm.stores()..] {
        (spare.spare, spare.gone) = (true, true);
    }
    machines.extend((0..swarm.gateways).map(|place| gateway(place, &swarm, &map)));
    let zones = machines.iter().map(|machine| machine.zone).collect();
    let mut queue = Queue::new();
    for (number, episode) in plan.iter().enumerate() {
        queue.push(episode.at, Happening::EpisodeBegins(number));
    }
    queue.push(swarm.duration, Happening::FaultsEnd);
    queue.push(0, Happening::Poll);
    let mut world = World {
        maker,
        now: 0,
        queue,
        links: Links::new(machines.len()),
        machines,
        network: Network::new(streams(3), &swarm, zones),
        plan,
        map,
        operator: Operator::new(swarm.stores_max()),
        rolling: if swarm.rolls() { Rolling::Planned } else { Rolling::No },
        session: SessionId(0),
        // The last one is the operator.
        clients: (0..=swarm.clients).map(|number| Client::new(seed, number)).collect(),
        workload: Workload::new(seed, &swarm, &keys, source),
        agreement: Agreement::default(),
        custody: Custody::default(),
        ledger: Ledger::default(),
        promises: Promises::default(),
        onlooker: Onlooker::new(VOTERS, swarm.stores_max()),
        trace,
        counts: Counts::default(),
        part: Part::Faults,
        healed_at: 0,
        strikes,
        crashes: Crashes::default(),
        disk_draws: streams(4),
        fault_draws: streams(5),
        effects: Effects::new(),
        steps: 0,
        failure: None,
        swarm,
    };
    if world.swarm.distances.is_some() {
        world.counts.hits.hit(FaultKind::ZonesFar);
    }
    for machine in 0..world.machines.len() {
        world.trace.name(machine, &world.machines[machine].name);
    }
    for machine in 0..world.machines.len() {
        match world.swarm.late {
            Some((late, at)) if late == machine => {
                world.counts.hits.hit(FaultKind::StoreLate);
                world.machines[machine].holds += 1;
                world.queue.push(at, Happening::Release { machine });
            }
            _ if world.machines[machine].spare => {}
            _ => world.start(machine),
        }
    }
    world.begin_clients();
    world
}

/// A run lasts as long as some passes of scrubbing.
const SCRUB_EVERY: Duration = Duration::from_secs(8);

fn layout(place: usize, swarm: &Swarm, geometry: Geometry) -> Geometry {
    match swarm.small_disk {
        Some((store, capacity)) if store == place => Geometry { capacity, ..geometry },
        _ => geometry,
    }
}

fn limits(swarm: &Swarm) -> StoreLimits {
    let usual = StoreLimits::SIMULATION;
    StoreLimits { memtable_bytes: swarm.memtable.unwrap_or(usual.memtable_bytes), ..usual }
}

fn store<M: Maker>(
    place: usize,
    map: &ClusterMap,
    geometry: Geometry,
    swarm: &Swarm,
    levels: Levels,
) -> Machine<M> {
    let zone = zone(place);
    let config = StoreConfig {
        cluster: CLUSTER,
        store: store_id(place),
        zone,
        map: map.clone(),
        geometry,
        limits: limits(swarm),
        levels,
        timing: StoreTiming {
            scrub_every: swarm.scrub_every.map_or(SCRUB_EVERY, Duration::from_nanos),
            ..StoreTiming::DEFAULT
        },
        seed: 0,
    };
    let disk = SimDisk::new(geometry.capacity);
    let side =
        Side::Store(StoreSide { config, machine: None, disk, slow: Vec::new(), image: None });
    machine(format!("store-{}", place + 1), Endpoint::Store(store_id(place)), Some(zone), side)
}

/// The first gateway stands outside all zones.
fn gateway<M: Maker>(place: usize, swarm: &Swarm, map: &ClusterMap) -> Machine<M> {
    let zone = place.checked_sub(1).map(zone);
    let id = GatewayId(place as u64 + 1);
    let config = GatewayConfig {
        cluster: CLUSTER,
        gateway: id,
        zone,
        map: map.clone(),
        cut: Cut::SIMULATION,
        body_budget_bytes: 512 << 10,
        body_wait: Duration::from_secs(2),
        requests_max: 64,
        call_timeout: Duration::from_millis(250) + longest(swarm, 5),
        hedge_after: Duration::from_millis(50) + longest(swarm, 2),
        request_timeout: Duration::from_secs(8),
        beat: Duration::from_secs(1),
        levels: if swarm.rolls() { OLD } else { Levels::OWN },
        nonce: 0,
        seed: 0,
    };
    let requests = BTreeMap::new();
    let side = Side::Gateway(GatewaySide { config, machine: None, requests, requested: 0 });
    machine(format!("gw-{}", place + 1), Endpoint::Gateway(id), zone, side)
}

/// So many times as long as a message takes between the two zones farthest apart: an operator sets
/// the times of gateways by that; stores measure it.
fn longest(swarm: &Swarm, times: u64) -> Duration {
    let distances = swarm.distances.iter().flatten();
    Duration::from_nanos(distances.map(|latency| latency.high).max().unwrap_or(0) * times)
}

fn machine<M: Maker>(
    name: String,
    endpoint: Endpoint,
    zone: Option<ZoneId>,
    side: Side<M>,
) -> Machine<M> {
    Machine {
        name,
        endpoint,
        zone,
        side,
        clock: Clock::new(0, 0, 0, WALL_MILLIS),
        life: 0,
        up: false,
        holds: 0,
        gone: false,
        spare: false,
        replaceable: false,
        pauses: 0,
        directory: 0,
        tail: None,
        steps: 0,
        late: Vec::new(),
        wake: None,
        image_at: 0,
        disk_failed: false,
        damaged: false,
        doubted: false,
        halt: None,
    }
}

fn zone(place: usize) -> ZoneId {
    ZoneId(u8::try_from(place % 3).expect("there are three zones"))
}

fn store_id(place: usize) -> StoreId {
    StoreId(place as u64 + 1)
}

/// The first store of each zone is its voter.
fn map(stores: usize) -> ClusterMap {
    let zones = (0..3).map(|first| ZoneMap {
        zone: zone(first),
        slots: (first..stores)
            .step_by(3)
            .map(|place| Slot { store: store_id(place), weight: WEIGHT })
            .collect(),
    });
    ClusterMap::bootstrap(16, zones.collect())
}
