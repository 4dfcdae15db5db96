//! Limits of memory: what a process of each kind may hold, and what can be set of it.
//!
//! An all-in-one process has three stores and stays below 400 MB with all of them; a node takes what
//! makes a dedicated machine quick.

use trine_core::cluster::StoreLimits;

use super::layers::{Layers, Setting};
use super::{ConfigError, parse_bytes};

/// Limits of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of objects' bodies in hand, in both directions.
    pub body_budget_bytes: u64,
    /// Bytes of documents in hand: XML in both directions.
    pub document_bytes: u64,
    /// Requests in hand.
    pub requests_max: usize,
    /// Connections of clients at a time; more wait in the kernel's backlog.
    pub connections_max: u32,
    /// Of each store.
    pub stores: StoreLimits,
}

impl Limits {
    /// For three zones in one process.
    pub const ALL_IN_ONE: Self = Self {
        body_budget_bytes: 64 << 20,
        document_bytes: 32 << 20,
        requests_max: 1024,
        connections_max: 2048,
        stores: StoreLimits::ALL_IN_ONE,
    };

    /// For one node of a cluster.
    pub const NODE: Self = Self {
        body_budget_bytes: 256 << 20,
        document_bytes: 96 << 20,
        requests_max: 4096,
        connections_max: 8192,
        stores: StoreLimits::PRODUCTION,
    };

    /// What was said, over `self`.
    pub(super) fn with(mut self, layers: &Layers) -> Result<Self, ConfigError> {
        const MIB: u64 = 1 << 20;
        let bytes = |setting, least: u64, expected, value: &mut u64| {
            if let Some(word) = layers.get(setting) {
                let fits = |bytes: &u64| (least..=64 << 30).contains(bytes);
                *value = word.parse(|text| parse_bytes(text).filter(fits), expected)?;
            }
            Ok(())
        };
        // Each body has a window of four chunks, and each chunk call may be of 4 MiB.
        let expected = "8MiB to 64GiB: a whole number with a unit, MiB or GiB";
        bytes(Setting::BodyBudget, 8 * MIB, expected, &mut self.body_budget_bytes)?;
        bytes(Setting::ChunkBudget, 8 * MIB, expected, &mut self.stores.chunk_bytes_max)?;
        // The longest document, with what it is taken apart into.
        let expected = "16MiB to 64GiB: a whole number with a unit, MiB or GiB";
        bytes(Setting::DocumentBudget, 16 * MIB, expected, &mut self.document_bytes)?;
        let expected = "1MiB to 64GiB: a whole number with a unit, MiB or GiB";
        bytes(Setting::BlockCache, MIB, expected, &mut self.stores.block_cache_bytes)?;
        bytes(Setting::EntryCache, MIB, expected, &mut self.stores.entry_cache_bytes)?;
        if let Some(word) = layers.get(Setting::Memtable) {
            // A run has as many segments at most as a memtable of this size fills.
            let fits = |bytes: &u64| (MIB..=256 * MIB).contains(bytes);
            let expected = "1MiB to 256MiB";
            self.stores.memtable_bytes =
                word.parse(|text| parse_bytes(text).filter(fits), expected)?;
        }
        let count = |setting, value: &mut u32| {
            if let Some(word) = layers.get(setting) {
                let fits = |count: &u32| (16..=1 << 20).contains(count);
                let parse = |text: &str| text.parse::<u32>().ok().filter(fits);
                *value =
                    word.parse(parse, "a whole number from 16 to 1048576, in quotes in a file")?;
            }
            Ok::<(), ConfigError>(())
        };
        let mut requests = u32::try_from(self.requests_max).unwrap_or(u32::MAX);
        count(Setting::Requests, &mut requests)?;
        self.requests_max = usize::try_from(requests).unwrap_or(usize::MAX);
        count(Setting::Connections, &mut self.connections_max)?;
        Ok(self)
    }
}
