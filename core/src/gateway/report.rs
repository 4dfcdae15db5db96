//! What a gateway says of itself to operators and checkers: plain values.

use super::Gateway;
use super::chunks::Chunks;
use super::under_way::UnderWay;
use crate::memory::MemoryAccount;
use crate::object::PARTS_MAX;

/// What one command may hold beside an inline body: names, attributes and tags, or the parts of an upload.
const COMMAND_BYTES_MAX: u64 = 24 * PARTS_MAX as u64 + (64 << 10);
/// A waiting hint, and a bucket in the cache, roughly.
const HINT_BYTES: u64 = 32;
const BUCKET_BYTES: u64 = 256;
/// A blob that is being written, or was left, with its object's key.
const BLOB_BYTES: u64 = 1280;

/// A gateway at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayReport {
    /// Requests in hand, and how many there may be.
    pub requests: u64,
    /// See [`GatewayConfig::requests_max`](crate::cluster::GatewayConfig::requests_max).
    pub requests_max: u64,
    /// Commands whose requests are over, and that may take effect yet.
    pub commands_left: u64,
    /// Tenants with requests in hand.
    pub tenants: u64,
    /// Requests that wait for room for their bodies.
    pub bodies_waiting: u64,
    /// Requests that were told to slow down, since the start.
    pub slowed_down: u64,
    /// What it holds in memory.
    pub memory: MemoryAccount,
}

impl Gateway {
    /// What an operator may want to know.
    pub fn report(&self) -> GatewayReport {
        let shared = &self.shared;
        GatewayReport {
            requests: self.open.len() as u64,
            requests_max: shared.places.total(),
            commands_left: shared.calls.background() as u64,
            tenants: shared.places.tenants() as u64,
            bodies_waiting: shared.budget.waiting() as u64,
            slowed_down: shared.counts.slowed_down,
            memory: self.memory(),
        }
    }

    /// What is held in memory.
    pub fn memory(&self) -> MemoryAccount {
        let shared = &self.shared;
        let (config, budget) = (&shared.config, &shared.budget);
        let mut account = MemoryAccount::default();
        // A body alone may have more than there is, that of a copy two chunks.
        let whole_window = 2 * u64::from(config.cut.chunk) + 1;
        account.add("bodies", budget.used(), budget.total().max(whole_window));
        let stores = shared.map.stores().count() as u64;
        // A store is left out of new chunks when it lags; those on their way may become late yet, and all
        // copies of them when their client gives up.
        let copies = shared.map.zones.len() as u64;
        let under_way = budget.total().max(whole_window) * copies;
        let late_max = stores * Chunks::late_bytes_max(config.cut.chunk) + under_way;
        account.add("late copies", shared.chunks.late_bytes(), late_max);
        let command_max = COMMAND_BYTES_MAX + u64::from(config.cut.inline_max);
        let requests_max = config.requests_max as u64;
        account.add("commands", shared.calls.command_bytes(), requests_max * 8 * command_max);
        let hints = shared.hints.waiting() as u64 * HINT_BYTES;
        account.add("hints", hints, shared.hints.waiting_max(stores) as u64 * HINT_BYTES);
        let blobs = shared.under_way.blobs() as u64 * BLOB_BYTES;
        account.add("blobs under way", blobs, UnderWay::blobs_max(requests_max) * BLOB_BYTES);
        let (buckets, buckets_max) = shared.buckets.names();
        account.add("buckets", buckets as u64 * BUCKET_BYTES, buckets_max as u64 * BUCKET_BYTES);
        account
    }
}
