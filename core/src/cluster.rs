//! The cluster as configured: zones, slots, stores; and the sizes that formats depend on.

use crate::disk::SECTOR;
use crate::ids::{ClusterId, GatewayId, MapEpoch, RangeId, StoreId, ZoneId};
use crate::level::{LEVEL_MAX, Level, Levels};
use crate::time::Duration;

/// The range that holds bucket directory and sessions. It is also the only range there is in this
/// stage of Trine; everything is range-addressed all the same. 0 stands for "no range" in the journal.
pub const ROOT_RANGE: RangeId = RangeId(1);

/// The largest weight of a slot: enough to name disks by their GiB.
pub const WEIGHT_MAX: u32 = 1 << 24;
/// Slots of a zone. They are never given up, also when their stores are drained.
pub const SLOTS_MAX: usize = 4096;
/// Layouts that may wait for their proof; further changes of slots or weights are refused so long.
pub const UNPROVEN_MAX: usize = 8;

/// Nodes that a map names, those that have left too.
pub const NODES_MAX: usize = 1024;
/// Bytes of a node's name, and of each of its addresses.
pub const NODE_TEXT_MAX: usize = 64;

/// Voters that a cluster begins with, at most: one of each zone.
pub const FOUNDERS_MAX: usize = 3;

/// Which stores there are. Chunks map to placement groups, groups to one slot per zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterMap {
    /// What the cluster does, and its processes must understand ([`crate::level`]). Never goes down; the epoch
    /// stays when it is raised.
    pub level: Level,
    /// Raised by each change.
    pub epoch: MapEpoch,
    /// Placement groups: a power of two, fixed for ever.
    pub groups: u32,
    /// Three zones, ascending.
    pub zones: Vec<ZoneMap>,
    /// The stores that shall be voters of the (one) range: one of each zone.
    pub voters: Vec<StoreId>,
    /// Identities that were replaced. They never come back.
    pub retired: Vec<StoreId>,
    /// Where each of them stood. Shorter than `retired` if the map is of an older format.
    pub retired_zones: Vec<ZoneId>,
    /// What the slots of zones were before, oldest first, until all owners by the present map are
    /// known to have everything: so long the former owners keep it, and are asked for it.
    pub unproven: Vec<Layout>,
    /// The nodes that came, moved or left after the cluster had begun, by their ids, ascending.
    pub nodes: Vec<Node>,
}

/// A process that hosts stores and a gateway, and how it is reached. The core only keeps this for whoever
/// makes links; those that a cluster began with are in configurations, but for what changed since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Which: never used again, also when it has left.
    pub id: u32,
    /// Where it stands, for ever.
    pub zone: ZoneId,
    /// What operators call it: 1 to [`NODE_TEXT_MAX`] bytes, unique among those that have not left.
    pub name: String,
    /// Where other nodes reach it, at most [`NODE_TEXT_MAX`] bytes.
    pub peer: String,
    /// Where clients reach it, likewise.
    pub s3: String,
    /// It is of the cluster no more.
    pub left: bool,
}

/// The slots of a zone up to a change of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The last epoch at which the zone had these slots and weights.
    pub epoch: MapEpoch,
    /// They, with the stores that fill them now.
    pub zone: ZoneMap,
}

impl ClusterMap {
    /// The first map of a cluster: the first store of each zone is a voter.
    ///
    /// `groups` must be a power of two, and `zones` ascending.
    pub fn bootstrap(groups: u32, zones: Vec<ZoneMap>) -> Self {
        let voters = zones.iter().filter_map(|zone| zone.slots.first()).map(|slot| slot.store);
        let voters = voters.collect();
        let (retired, retired_zones, unproven, nodes) = Default::default();
        let (level, epoch) = (LEVEL_MAX, MapEpoch(1));
        Self { level, epoch, groups, voters, zones, retired, retired_zones, unproven, nodes }
    }

    /// The zone of a store, which may be retired; `None` if it is not known.
    pub fn zone_of(&self, store: StoreId) -> Option<ZoneId> {
        let retired = self.retired.iter().zip(&self.retired_zones).map(|(id, zone)| (*zone, *id));
        self.stores().chain(retired).find(|(_, id)| *id == store).map(|(zone, _)| zone)
    }

    /// All stores that fill a slot, with their zones.
    pub fn stores(&self) -> impl Iterator<Item = (ZoneId, StoreId)> {
        self.zones.iter().flat_map(|zone| zone.slots.iter().map(|slot| (zone.zone, slot.store)))
    }

    /// The stores to which the present map gives chunks, with their zones.
    pub fn keepers(&self) -> impl Iterator<Item = (ZoneId, StoreId)> {
        self.zones.iter().flat_map(|zone| zone.keepers().map(|store| (zone.zone, store)))
    }

    /// Names the layouts that chunks are kept by: they are the same while this is. A proof leaves the
    /// epoch as it is and drops former layouts.
    pub fn layouts(&self) -> (MapEpoch, usize) {
        (self.epoch, self.unproven.len())
    }
}

/// The slots of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneMap {
    /// Which zone.
    pub zone: ZoneId,
    /// Its slots; the place in the list is the slot's index, which never changes.
    pub slots: Vec<Slot>,
}

impl ZoneMap {
    /// The stores to which these slots give chunks.
    pub fn keepers(&self) -> impl Iterator<Item = StoreId> {
        self.slots.iter().filter(|slot| slot.weight > 0).map(|slot| slot.store)
    }
}

/// A place for a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Who fills it.
    pub store: StoreId,
    /// Its share of the data, relative to others of its zone; 0 takes nothing.
    pub weight: u32,
}

/// How a disk is laid out. Fixed when it is formatted; written into the superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of the whole disk that may be used.
    pub capacity: u64,
    /// Bytes of the journal, a ring.
    pub journal: u64,
    /// Bytes of journal that are prepared at a time.
    pub journal_piece: u64,
    /// Bytes of a segment.
    pub segment: u64,
    /// Bytes of a tree block.
    pub tree_block: u32,
}

impl Geometry {
    /// For production: 1 TiB at most, sparse. Of the journal's 256 MiB a quarter is kept for followers
    /// that lag a little, half at most; restart reads no more than that. It is all in use after as many
    /// bytes of entries, so that its size counts against that of the data. A segment takes sixteen whole
    /// chunks with their headers, and its own: smaller ones let a small disk be used further, since what
    /// is kept back for merges is counted in segments; larger ones would save nothing.
    pub const PRODUCTION: Self = Self {
        capacity: 1 << 40,
        journal: 256 << 20,
        journal_piece: 8 << 20,
        segment: 16 * ((1 << 20) + SECTOR) + SECTOR,
        tree_block: 16 << 10,
    };

    /// Small enough that a simulated run passes every boundary, the end of the journal's ring too.
    pub const SIMULATION: Self = Self {
        capacity: 65 << 20,
        journal: 1 << 20,
        journal_piece: 64 << 10,
        segment: 256 << 10,
        tree_block: 4 << 10,
    };
}

/// How blobs are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Bytes of a chunk.
    pub chunk: u32,
    /// Bytes of a checksummed block.
    pub block: u32,
    /// Objects up to so many bytes live in the range.
    pub inline_max: u32,
}

impl Cut {
    /// For production: 1 MiB chunks of 64 KiB blocks, inline up to 16 KiB.
    pub const PRODUCTION: Self = Self { chunk: 1 << 20, block: 64 << 10, inline_max: 16 << 10 };
    /// For simulations: 16 KiB chunks of 4 KiB blocks, inline up to 1 KiB.
    pub const SIMULATION: Self = Self { chunk: 16 << 10, block: 4 << 10, inline_max: 1 << 10 };
}

/// Limits of a store's memory and queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// A memtable is written out when its keys and values reach this.
    pub memtable_bytes: u64,
    /// Tree blocks held in memory.
    pub block_cache_bytes: u64,
    /// Log entries held in memory for followers.
    pub entry_cache_bytes: u64,
    /// Range calls in hand; beyond it they are refused as overloaded.
    pub calls_max: usize,
    /// Bytes of commands that wait to be proposed, likewise.
    pub call_bytes_max: u64,
    /// Chunk bytes in hand (being written or read); beyond it calls are refused as overloaded.
    pub chunk_bytes_max: u64,
    /// A peer that lacks more entries than this gets the state instead of the log.
    pub snapshot_lag: u64,
    /// Deleted rows are remembered for so many entries, for replicas that lag. Who lags more gets
    /// the whole state instead of what is newer.
    pub tombstone_lag: u64,
    /// Bytes of rows in one page of a state, but for a single larger row.
    pub snapshot_page_bytes: usize,
    /// Journal bytes kept back from new data, of which deletes may have a quarter: fences and hard
    /// states must still go in.
    pub journal_reserve: u64,
}

impl StoreLimits {
    /// For production.
    pub const PRODUCTION: Self = Self {
        memtable_bytes: 15 << 20,
        block_cache_bytes: 32 << 20,
        entry_cache_bytes: 16 << 20,
        calls_max: 16_384,
        call_bytes_max: 64 << 20,
        chunk_bytes_max: 128 << 20,
        snapshot_lag: 100_000,
        tombstone_lag: 1_000_000,
        snapshot_page_bytes: 256 << 10,
        journal_reserve: 32 << 20,
    };
    /// For one of three stores in a process, which takes less than 400 MB with all of them.
    pub const ALL_IN_ONE: Self = Self {
        memtable_bytes: 15 << 20,
        block_cache_bytes: 8 << 20,
        entry_cache_bytes: 4 << 20,
        calls_max: 4096,
        call_bytes_max: 16 << 20,
        chunk_bytes_max: 32 << 20,
        ..Self::PRODUCTION
    };
    /// For simulations: small enough to be reached.
    pub const SIMULATION: Self = Self {
        memtable_bytes: 64 << 10,
        block_cache_bytes: 128 << 10,
        entry_cache_bytes: 64 << 10,
        calls_max: 256,
        call_bytes_max: 64 << 10,
        chunk_bytes_max: 1 << 20,
        snapshot_lag: 64,
        tombstone_lag: 256,
        snapshot_page_bytes: 8 << 10,
        journal_reserve: 128 << 10,
    };
}

/// Times of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreTiming {
    /// Between two heartbeats of a leader. The same however far the zones are apart: distance
    /// delays heartbeats, it does not spread them.
    pub heartbeat: Duration,
    /// A follower that hears nothing for an election timeout (up to twice, at random) campaigns.
    /// The timeout is some measured round trips between the voters, but at least this long: long
    /// enough for a process to wait for its turn on a busy machine.
    pub election_min: Duration,
    /// And at most this long. Voters more than a quarter of it apart have no stable leader.
    pub election_max: Duration,
    /// The root's leader fences a session after so long without a beat.
    pub session_timeout: Duration,
    /// Between two comparisons of inventories with the same store, if nothing happens.
    pub compare_every: Duration,
    /// Within this time a store reads and verifies all its chunks, once.
    pub scrub_every: Duration,
    /// Bytes of chunks that a store's repair takes per second, at most.
    pub repair_bytes_per_second: u64,
}

impl StoreTiming {
    /// For zones up to some 300 ms apart (one way). Where they are near, the loss of a leader that
    /// goes silent is noticed within 150 to 300 ms.
    pub const DEFAULT: Self = Self {
        heartbeat: Duration::from_millis(25),
        election_min: Duration::from_millis(150),
        election_max: Duration::from_secs(3),
        session_timeout: Duration::from_secs(5),
        compare_every: Duration::from_secs(600),
        scrub_every: Duration::from_secs(7 * 24 * 3600),
        repair_bytes_per_second: 256 << 20,
    };
}

/// What a store is told at its start.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Must be the one in the superblock.
    pub cluster: ClusterId,
    /// Must be the one in the superblock.
    pub store: StoreId,
    /// Where it is.
    pub zone: ZoneId,
    /// The cluster map at the start. What the root range says later goes before it.
    pub map: ClusterMap,
    /// Used to format an empty disk; else the superblock's counts.
    pub geometry: Geometry,
    /// Limits.
    pub limits: StoreLimits,
    /// Times.
    pub timing: StoreTiming,
    /// What this process understands: [`Levels::OWN`], or less for trials.
    pub levels: Levels,
    /// Seed of the store's generator (election jitter).
    pub seed: u64,
}

/// What a gateway is told at its start.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The cluster.
    pub cluster: ClusterId,
    /// Who it is.
    pub gateway: GatewayId,
    /// Its zone, if it is in one: reads prefer it.
    pub zone: Option<ZoneId>,
    /// The cluster map at the start. What the root range says later goes before it.
    pub map: ClusterMap,
    /// How to cut blobs.
    pub cut: Cut,
    /// Body bytes in hand, of all requests in both directions, shared fairly between tenants. What
    /// finds no room waits for `body_wait`, and then gets SlowDown.
    pub body_budget_bytes: u64,
    /// How long a request may wait for room for its body.
    pub body_wait: Duration,
    /// Requests in hand, shared likewise; beyond it new ones get SlowDown.
    pub requests_max: usize,
    /// How long one call to a store may take before it is sent again, to another if possible.
    pub call_timeout: Duration,
    /// A chunk read that takes this long is asked of a second zone too.
    pub hedge_after: Duration,
    /// How long a request may wait for its range or chunks before it is given up (503).
    pub request_timeout: Duration,
    /// Time between two beats of the session.
    pub beat: Duration,
    /// What this process understands: [`Levels::OWN`], or less for trials.
    pub levels: Levels,
    /// Unguessable and new for each life: names the attempt to open a session.
    pub nonce: u128,
    /// Seed of the gateway's generator.
    pub seed: u64,
}
