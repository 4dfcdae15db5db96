//! Hints: stores are told of chunks that they should have and most likely lack.
//!
//! They save time, nothing depends on them: a hint that finds no room here is made good by the comparison
//! that stores make among themselves. But that may come late, so that each is repeated until its store has answered:
//! a network may swallow what it is given, and say nothing (seed 0x774b).

use std::collections::{BTreeMap, VecDeque};

use super::calls::Wires;
use crate::cluster::ClusterMap;
use crate::ids::{CallId, ChunkId, Endpoint, StoreId};
use crate::message::{ChunkError, ChunkRepair, ChunkWritten, Envelope, Message};

/// Hints that wait for one store; it may be away for long, and comparing is cheaper than so many.
const HINTS_PER_STORE_MAX: usize = 1024;
/// Hints that one store is sent at a time (with each beat), so that they do not drown its clients.
const HINTS_AT_A_TIME: usize = 64;

/// Hints that wait until their store is healthy, and has said that it heard them.
#[derive(Debug, Default)]
pub(super) struct Hints(BTreeMap<StoreId, OfStore>);

#[derive(Debug, Default)]
struct OfStore {
    waiting: VecDeque<ChunkId>,
    /// Not answered yet: it may have been lost on its way, and is sent again.
    sent: BTreeMap<CallId, ChunkId>,
}

impl OfStore {
    fn len(&self) -> usize {
        self.waiting.len() + self.sent.len()
    }
}

impl Hints {
    /// A store that should have a chunk missed it.
    pub(super) fn missed(&mut self, store: StoreId, chunk: ChunkId) {
        if planted!(HintNotSent) {
            return;
        }
        let of_store = self.0.entry(store).or_default();
        if of_store.len() < HINTS_PER_STORE_MAX && of_store.waiting.back() != Some(&chunk) {
            of_store.waiting.push_back(chunk);
        }
    }

    /// Send what waits for stores that are healthy and still own it.
    pub(super) fn send(
        &mut self,
        wires: &mut Wires<'_>,
        map: &ClusterMap,
        is_healthy: impl Fn(StoreId) -> bool,
    ) {
        for (store, OfStore { waiting, sent }) in &mut self.0 {
            if !is_healthy(*store) {
                continue;
            }
            let most = if buggify!(FewHints) { 1 } else { HINTS_AT_A_TIME };
            let room = most.saturating_sub(sent.len()).min(waiting.len());
            sent.extend(waiting.drain(..room).map(|chunk| (wires.ids.next(), chunk)));
            sent.retain(|call, chunk| {
                let places = map.places(*chunk);
                let is_owner = places.iter().any(|place| place.store == *store);
                if is_owner {
                    let former = map.former_places(*chunk);
                    let others = places.iter().chain(&former).map(|place| place.store);
                    let sources = others.filter(|other| other != store).collect();
                    hint(wires, *store, *call, *chunk, sources);
                }
                is_owner
            });
        }
        self.0.retain(|_, of_store| of_store.len() > 0);
    }

    /// A store that has heard a hint sees to it by itself from now on, unless it has no room for one more.
    pub(super) fn answered(&mut self, written: &ChunkWritten) {
        if let Some(of_store) = self.0.get_mut(&written.store)
            && let Some(chunk) = of_store.sent.remove(&written.call)
            && *written.result() == Err(ChunkError::Overloaded)
        {
            of_store.waiting.push_back(chunk);
        }
    }

    /// How many may wait, for so many stores.
    pub(super) fn waiting_max(&self, stores: u64) -> usize {
        // Stores that were replaced may have some left.
        let known = self.0.len().max(usize::try_from(stores).unwrap_or(usize::MAX));
        known.saturating_mul(HINTS_PER_STORE_MAX)
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.0.values().map(OfStore::len).sum()
    }
}

/// Tell a store that it lacks a chunk. With call 0 no answer is wanted.
pub(super) fn hint(
    wires: &mut Wires<'_>,
    store: StoreId,
    call: CallId,
    chunk: ChunkId,
    sources: Vec<StoreId>,
) {
    let from = Endpoint::Gateway(wires.config.gateway);
    let repair = ChunkRepair { call, chunk, existed: true, sources };
    let message = Message::ChunkRepair(repair);
    wires.fx.send(Envelope { from, to: Endpoint::Store(store), message });
}
