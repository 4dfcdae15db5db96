//! Chunks of a put under a cluster map that changed while it ran.
//!
//! A copy counts while the store that acknowledged it owns the chunk. Where fewer than two such copies
//! are left, the owners that lack it are asked to fetch it from those that have it, or may as former
//! owners; when two zones have every chunk again, the put is committed under the new map. The client notices nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::calls::backoff;
use super::context::Context;
use crate::cluster::ClusterMap;
use crate::ids::{BlobId, CallId, ChunkId, StoreId, ZoneId};
use crate::message::{ChunkRepair, REPAIR_SOURCES_MAX};
use crate::object::{BlobRef, Scheme};
use crate::time::Instant;

/// Zones that must have a chunk before it counts.
pub(super) const ZONES_SAFE: usize = 2;
/// Chunks of one put that are made good at a time: stores move them whole.
const WINDOW: usize = 8;
/// Stores that a blob's record names, of each zone; the format has room for 16.
const STORES_PER_ZONE_MAX: usize = 5;

/// A body that lies in chunks, and who has acknowledged each of them.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) blob: BlobId,
    pub(super) length: u64,
    pub(super) chunk_size: u32,
    pub(super) block_size: u32,
    /// By chunk number.
    pub(super) holders: BTreeMap<u32, BTreeSet<StoreId>>,
}

/// Chunks that are short of copies, on their way to two zones.
#[derive(Debug, Default)]
pub(super) struct Verify {
    waiting: VecDeque<u32>,
    short: BTreeMap<u32, Short>,
}

#[derive(Debug)]
struct Short {
    /// Asked and not answered.
    calls: Vec<CallId>,
    /// When it is asked again, once all calls have failed.
    again_at: Instant,
    pauses: u32,
}

impl Stored {
    fn chunk(&self, number: u32) -> ChunkId {
        ChunkId { blob: self.blob, number }
    }

    /// A store has acknowledged a chunk.
    pub(super) fn has(&mut self, number: u32, store: StoreId) {
        self.holders.entry(number).or_default().insert(store);
    }

    /// Whether stores of two zones that own a chunk have acknowledged it.
    fn is_safe(&self, map: &ClusterMap, number: u32) -> bool {
        let Some(holders) = self.holders.get(&number) else { return false };
        let places = map.places(self.chunk(number));
        places.iter().filter(|place| holders.contains(&place.store)).count() >= ZONES_SAFE
    }

    /// Owners that have not acknowledged a chunk.
    fn lacking(&self, map: &ClusterMap, number: u32) -> Vec<StoreId> {
        let holders = self.holders.get(&number);
        let lacks = |store: &StoreId| holders.is_none_or(|holders| !holders.contains(store));
        map.places(self.chunk(number)).iter().map(|place| place.store).filter(lacks).collect()
    }

    /// Each copy that is not acknowledged: its store and chunk.
    pub(super) fn missing(&self, map: &ClusterMap) -> Vec<(ChunkId, StoreId)> {
        let numbers = self.holders.keys();
        let of = |number: &u32| {
            let chunk = self.chunk(*number);
            self.lacking(map, *number).into_iter().map(move |store| (chunk, store))
        };
        numbers.flat_map(of).collect()
    }

    /// What the record says of the blob: placed and safe under this map.
    pub(super) fn reference(&self, map: &ClusterMap) -> BlobRef {
        let all: BTreeSet<StoreId> = self.holders.values().flatten().copied().collect();
        let mut named: BTreeMap<ZoneId, Vec<StoreId>> = BTreeMap::new();
        for (zone, store) in map.stores().filter(|(_, store)| all.contains(store)) {
            let of_zone = named.entry(zone).or_default();
            if of_zone.len() < STORES_PER_ZONE_MAX {
                of_zone.push(store);
            }
        }
        let mut stores: Vec<StoreId> = named.into_values().flatten().collect();
        stores.sort_unstable();
        BlobRef {
            blob: self.blob,
            length: self.length,
            chunk_size: self.chunk_size,
            block_size: self.block_size,
            scheme: Scheme::ThreeCopies,
            epoch: map.epoch,
            stores,
        }
    }
}

impl Verify {
    /// The chunks that are short under the present map; none if all is well.
    pub(super) fn new(map: &ClusterMap, stored: &Stored) -> Self {
        let numbers = stored.holders.keys().copied();
        let waiting = numbers.filter(|number| !stored.is_safe(map, *number)).collect();
        Self { waiting, short: BTreeMap::new() }
    }

    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.short.is_empty()
    }

    /// When a chunk is asked for again.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let idle = self.short.values().filter(|short| short.calls.is_empty());
        idle.map(|short| short.again_at).min()
    }

    /// An owner has answered, or not; `stored` knows already if it has the chunk.
    pub(super) fn written(
        &mut self,
        cx: &mut Context<'_>,
        stored: &Stored,
        number: u32,
        call: CallId,
    ) {
        if stored.is_safe(cx.map(), number) {
            self.short.remove(&number);
        } else if let Some(short) = self.short.get_mut(&number) {
            short.calls.retain(|open| *open != call);
            if short.calls.is_empty() {
                short.again_at = cx.now + backoff(&mut cx.shared.rng, short.pauses);
                short.pauses += 1;
            }
        }
    }

    /// Ask for what the window allows.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>, stored: &Stored) {
        while self.short.len() < WINDOW
            && let Some(number) = self.waiting.pop_front()
        {
            // A copy that was late has made it safe meanwhile.
            if stored.is_safe(cx.map(), number) {
                continue;
            }
            let short = Short { calls: Vec::new(), again_at: cx.now, pauses: 0 };
            self.short.insert(number, short);
        }
        for (number, short) in &mut self.short {
            if !short.calls.is_empty() || short.again_at > cx.now {
                continue;
            }
            let map = cx.map();
            let owns = |store: &StoreId| map.stores().any(|(_, other)| other == *store);
            // Stores that are replaced may still be there; they come last.
            let mut sources: Vec<StoreId> =
                stored.holders.get(number).into_iter().flatten().copied().collect();
            sources.sort_by_key(|store| !owns(store));
            let former = map.former_places(stored.chunk(*number)).into_iter();
            let others: Vec<StoreId> =
                former.map(|place| place.store).filter(|store| !sources.contains(store)).collect();
            sources.extend(others);
            sources.truncate(REPAIR_SOURCES_MAX);
            for store in stored.lacking(map, *number) {
                let (call, sources) = (CallId(0), sources.clone());
                let chunk = stored.chunk(*number);
                let repair = ChunkRepair { call, chunk, existed: false, sources };
                short.calls.push(cx.repair_chunk(store, repair));
            }
        }
    }
}
