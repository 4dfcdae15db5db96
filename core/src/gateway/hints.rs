//! Hints: stores are told of chunks that they should have and most likely lack.
//!
//! They save time, nothing depends on them: a hint that is lost, or finds no room here, is made good by
//! the comparison that stores make among themselves.

use std::collections::{BTreeMap, VecDeque};

use super::calls::Wires;
use crate::cluster::ClusterMap;
use crate::ids::{CallId, ChunkId, Endpoint, StoreId};
use crate::message::{ChunkRepair, Envelope, Message};

/// Hints that wait for one store; it may be away for long, and comparing is cheaper than so many.
const HINTS_PER_STORE_MAX: usize = 1024;
/// Hints that one store is sent at a time (with each beat), so that they do not drown its clients.
const HINTS_AT_A_TIME: usize = 64;

/// Hints that wait until their store is healthy.
#[derive(Debug, Default)]
pub(super) struct Hints(BTreeMap<StoreId, VecDeque<ChunkId>>);

impl Hints {
    /// A store that should have a chunk missed it.
    pub(super) fn missed(&mut self, store: StoreId, chunk: ChunkId) {
        let waiting = self.0.entry(store).or_default();
        if waiting.len() < HINTS_PER_STORE_MAX && waiting.back() != Some(&chunk) {
            waiting.push_back(chunk);
        }
    }

    /// Send what waits for stores that are healthy and still own it.
    pub(super) fn send(
        &mut self,
        wires: &mut Wires<'_>,
        map: &ClusterMap,
        is_healthy: impl Fn(StoreId) -> bool,
    ) {
        for (store, waiting) in &mut self.0 {
            let count = if is_healthy(*store) { HINTS_AT_A_TIME.min(waiting.len()) } else { 0 };
            for chunk in waiting.drain(..count) {
                let places = map.places(chunk);
                if places.iter().any(|place| place.store == *store) {
                    let former = map.former_places(chunk);
                    let others = places.iter().chain(&former).map(|place| place.store);
                    let sources = others.filter(|other| other != store).collect();
                    hint(wires, *store, chunk, sources);
                }
            }
        }
        self.0.retain(|_, waiting| !waiting.is_empty());
    }

    /// How many may wait, for so many stores.
    pub(super) fn waiting_max(&self, stores: u64) -> usize {
        // Stores that were replaced may have some left.
        let known = self.0.len().max(usize::try_from(stores).unwrap_or(usize::MAX));
        known.saturating_mul(HINTS_PER_STORE_MAX)
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.0.values().map(VecDeque::len).sum()
    }
}

/// Tell a store that it lacks a chunk. No answer is wanted.
pub(super) fn hint(wires: &mut Wires<'_>, store: StoreId, chunk: ChunkId, sources: Vec<StoreId>) {
    let from = Endpoint::Gateway(wires.config.gateway);
    let message = Message::ChunkRepair(ChunkRepair { call: CallId(0), chunk, sources });
    wires.fx.send(Envelope { from, to: Endpoint::Store(store), message });
}
