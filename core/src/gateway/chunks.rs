//! Calls to stores about chunks: each is one attempt, with one timeout. Whether to try again, and
//! where, is decided by the request that wants the chunk.
//!
//! A write that is not needed any more (its chunk is safe in two zones without it) goes on as *late*:
//! the third copy streams along. How many late bytes a store may have is bounded; beyond that a put
//! leaves the store out.

use core::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::calls::Wires;
use super::context::Timer;
use super::verify::ZONES_SAFE;
use crate::ids::{BlobId, CallId, ChunkId, Endpoint, RequestId, StoreId};
use crate::message::{ChunkAsk, ChunkRead, ChunkRepair, ChunkWrite, Envelope, Message};
use crate::time::{Duration, Instant};

/// Late bytes that one store may have in flight, in chunks. It bounds what a slow zone can keep in
/// memory on its way there.
const LATE_CHUNKS_MAX: u64 = 16;
/// A store without room for chunks is left out of new ones for so long, as far as there are others.
const FULL_FOR: Duration = Duration::from_secs(1);
/// A store that failed is asked after the others for so long.
const UNHEALTHY_FOR: Duration = Duration::from_secs(5);

/// One attempt to write or read a chunk.
#[derive(Debug)]
pub(super) struct ChunkCall {
    pub(super) request: RequestId,
    pub(super) chunk: ChunkId,
    pub(super) store: StoreId,
    pub(super) kind: Kind,
    timeout_at: Instant,
}

/// What an attempt is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Keep so many bytes.
    Write {
        /// Bytes of the chunk.
        bytes: u64,
        /// No request waits for it: two zones have the chunk without this one, or nobody wants it.
        late: bool,
        /// The chunk is wanted: if this copy is not made, it is missing.
        wanted: bool,
    },
    /// Give blocks.
    Read,
    /// See that the chunk is there.
    Repair,
    /// Verify what is on the disk.
    Check,
}

/// All attempts in flight, and what they taught about stores.
#[derive(Debug)]
pub(super) struct Chunks {
    open: BTreeMap<CallId, ChunkCall>,
    late_bytes: BTreeMap<StoreId, u64>,
    late_bytes_max: u64,
    failed_at: BTreeMap<StoreId, Instant>,
    /// When each store last said that it has no room.
    full_at: BTreeMap<StoreId, Instant>,
    /// When each store last answered.
    heard: BTreeMap<StoreId, Instant>,
}

impl Chunks {
    pub(super) fn new(chunk_bytes: u32) -> Self {
        Self {
            open: BTreeMap::new(),
            late_bytes: BTreeMap::new(),
            late_bytes_max: Self::late_bytes_max(chunk_bytes),
            failed_at: BTreeMap::new(),
            full_at: BTreeMap::new(),
            heard: BTreeMap::new(),
        }
    }

    /// Send a write; its call id is given out here.
    pub(super) fn write(
        &mut self,
        wires: &mut Wires<'_>,
        request: RequestId,
        store: StoreId,
        mut write: ChunkWrite,
    ) -> CallId {
        write.call = wires.ids.next();
        let bytes = write.data.len() as u64;
        let kind = Kind::Write { bytes, late: false, wanted: true };
        self.start(wires, write.call, request, store, write.chunk, kind);
        send(wires, store, write.call, Message::ChunkWrite(write))
    }

    /// Send a read; its call id is given out here.
    pub(super) fn read(
        &mut self,
        wires: &mut Wires<'_>,
        request: RequestId,
        store: StoreId,
        mut read: ChunkRead,
    ) -> CallId {
        read.call = wires.ids.next();
        self.start(wires, read.call, request, store, read.chunk, Kind::Read);
        send(wires, store, read.call, Message::ChunkRead(read))
    }

    /// Ask a store to see that it has a chunk; the call id is given out here.
    pub(super) fn repair(
        &mut self,
        wires: &mut Wires<'_>,
        request: RequestId,
        store: StoreId,
        mut repair: ChunkRepair,
    ) -> CallId {
        repair.call = wires.ids.next();
        self.start(wires, repair.call, request, store, repair.chunk, Kind::Repair);
        send(wires, store, repair.call, Message::ChunkRepair(repair))
    }

    /// Ask a store to verify its copy; the call id is given out here.
    pub(super) fn check_copy(
        &mut self,
        wires: &mut Wires<'_>,
        request: RequestId,
        store: StoreId,
        mut ask: ChunkAsk,
    ) -> CallId {
        ask.call = wires.ids.next();
        self.start(wires, ask.call, request, store, ask.chunk, Kind::Check);
        send(wires, store, ask.call, Message::ChunkCheck(ask))
    }

    /// An answer came: the attempt, if it is open, of this store and chunk, and of a kind that it answers.
    pub(super) fn answered(
        &mut self,
        wires: &mut Wires<'_>,
        call: CallId,
        store: StoreId,
        chunk: ChunkId,
        answers: impl Fn(Kind) -> bool,
    ) -> Option<ChunkCall> {
        self.heard.insert(store, wires.now);
        let open = self.open.get(&call)?;
        if open.store != store || open.chunk != chunk || !answers(open.kind) {
            return None;
        }
        self.take(wires, call)
    }

    /// An attempt's timer has come: the attempt, if it is over.
    pub(super) fn timed_out(&mut self, wires: &mut Wires<'_>, call: CallId) -> Option<ChunkCall> {
        let open = self.open.get(&call)?;
        if open.timeout_at > wires.now {
            return None;
        }
        self.take(wires, call)
    }

    /// A link broke: the attempts over it.
    pub(super) fn link_down(
        &mut self,
        wires: &mut Wires<'_>,
        peer: StoreId,
    ) -> Vec<(CallId, ChunkCall)> {
        let lost: Vec<CallId> =
            self.open.iter().filter(|(_, call)| call.store == peer).map(|(id, _)| *id).collect();
        lost.into_iter().filter_map(|id| Some((id, self.take(wires, id)?))).collect()
    }

    /// Nobody wants the answer any more.
    pub(super) fn forget(&mut self, wires: &mut Wires<'_>, call: CallId) {
        self.take(wires, call);
    }

    /// The request is over. What it still has in flight is forgotten, but for writes: their blob is not
    /// closed before each has ended.
    pub(super) fn release(&mut self, wires: &mut Wires<'_>, request: RequestId) {
        let open = self.open.iter().filter(|(_, call)| call.request == request);
        let (writes, others): (Vec<CallId>, Vec<CallId>) =
            open.map(|(id, _)| *id).partition(|id| {
                matches!(self.open.get(id).map(|call| call.kind), Some(Kind::Write { .. }))
            });
        for id in others {
            self.take(wires, id);
        }
        for id in writes {
            self.make_late(id, false);
        }
    }

    /// Forget everything: the session is over. Returns the third copies that were still on their way: the
    /// other two zones have those chunks, and nobody will hear whether the third has.
    pub(super) fn clear(&mut self, wires: &mut Wires<'_>) -> Vec<(StoreId, ChunkId)> {
        let mut late = Vec::new();
        while let Some((id, _)) = self.open.first_key_value() {
            let id = *id;
            let call = self.take(wires, id);
            let wanted = |kind| matches!(kind, Kind::Write { late: true, wanted: true, .. });
            let call = call.filter(|call| wanted(call.kind));
            late.extend(call.map(|call| (call.store, call.chunk)));
        }
        late
    }

    /// No request waits for this write any more: two zones have its chunk without it, or the chunk is not
    /// `wanted`.
    pub(super) fn make_late(&mut self, call: CallId, is_wanted: bool) {
        if let Some(open) = self.open.get_mut(&call)
            && let Kind::Write { bytes, late, wanted } = &mut open.kind
            && !*late
        {
            (*late, *wanted) = (true, is_wanted);
            *self.late_bytes.entry(open.store).or_default() += *bytes;
        }
    }

    /// Bytes of copies on their way that nobody waits for.
    pub(super) fn late_bytes(&self) -> u64 {
        self.late_bytes.values().sum()
    }

    /// Most late bytes that one store may have before new chunks leave it out.
    pub(super) fn late_bytes_max(chunk_bytes: u32) -> u64 {
        u64::from(chunk_bytes) * LATE_CHUNKS_MAX
    }

    /// Which of the stores of a new chunk it leaves out for now: those that have so many late bytes, or lately
    /// had no room, as long as enough others are left for the chunk to be safe. Where more lag, those with
    /// the most late bytes: what goes to one of the others is waited for, and does not become late.
    pub(super) fn left_out(
        &self,
        stores: impl ExactSizeIterator<Item = StoreId>,
        now: Instant,
    ) -> BTreeSet<StoreId> {
        let spare = stores.len().saturating_sub(ZONES_SAFE);
        let late_bytes = |store| self.late_bytes.get(&store).copied().unwrap_or(0);
        let mut lagging: Vec<StoreId> = stores.filter(|store| self.lags(*store, now)).collect();
        lagging.sort_by_key(|store| Reverse(late_bytes(*store)));
        if lagging.len() > spare {
            probe!(ManyStoresLag);
        }
        lagging.truncate(spare);
        lagging.iter().for_each(|_| probe!(StoreLeftOut));
        lagging.into_iter().collect()
    }

    /// Whether a store has so many late bytes, or lately had no room.
    fn lags(&self, store: StoreId, now: Instant) -> bool {
        self.late_bytes.get(&store).is_some_and(|bytes| *bytes >= self.late_bytes_max)
            || self.full_at.get(&store).is_some_and(|at| now.since(*at) < FULL_FOR)
            || buggify!(StoreSpared)
    }

    /// A store has no room for a chunk.
    pub(super) fn is_full(&mut self, store: StoreId, now: Instant) {
        self.full_at.insert(store, now);
    }

    pub(super) fn succeeded(&mut self, store: StoreId) {
        self.failed_at.remove(&store);
    }

    pub(super) fn failed(&mut self, store: StoreId, now: Instant) {
        self.failed_at.insert(store, now);
    }

    /// Whether a store has answered anything since `at`.
    pub(super) fn was_heard_since(&self, store: StoreId, at: Instant) -> bool {
        self.heard.get(&store).is_some_and(|heard| *heard > at)
    }

    /// Copies that are on their way.
    pub(super) fn writes(&self) -> BTreeSet<(ChunkId, StoreId)> {
        let writes = self.open.values().filter(|call| matches!(call.kind, Kind::Write { .. }));
        writes.map(|call| (call.chunk, call.store)).collect()
    }

    /// Blobs of which copies are on their way, or being fetched by stores.
    pub(super) fn blobs(&self) -> impl Iterator<Item = BlobId> {
        let makes_copies = |kind| matches!(kind, Kind::Write { .. } | Kind::Repair);
        self.open.values().filter(move |call| makes_copies(call.kind)).map(|call| call.chunk.blob)
    }

    pub(super) fn is_healthy(&self, store: StoreId, now: Instant) -> bool {
        let is_well = self.failed_at.get(&store).is_none_or(|at| now.since(*at) >= UNHEALTHY_FOR);
        is_well && !buggify!(StoreDoubted)
    }

    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    pub(super) fn check(&self, is_open: impl Fn(RequestId) -> bool) {
        let mut late_bytes = BTreeMap::new();
        for call in self.open.values() {
            if let Kind::Write { bytes, late: true, .. } = call.kind {
                *late_bytes.entry(call.store).or_default() += bytes;
            } else {
                assert!(is_open(call.request), "{} is over, its chunk call is not", call.request);
            }
        }
        assert_eq!(late_bytes, self.late_bytes, "late bytes are the late calls' bytes");
    }

    fn start(
        &mut self,
        wires: &mut Wires<'_>,
        id: CallId,
        request: RequestId,
        store: StoreId,
        chunk: ChunkId,
        kind: Kind,
    ) {
        let timeout = wires.config.call_timeout;
        let timeout = if buggify!(EarlyChunkTimeout) { timeout / 16 } else { timeout };
        let timeout_at = wires.now + timeout;
        wires.timers.arm(timeout_at, Timer::Chunk(id));
        self.open.insert(id, ChunkCall { request, chunk, store, kind, timeout_at });
    }

    fn take(&mut self, wires: &mut Wires<'_>, id: CallId) -> Option<ChunkCall> {
        let call = self.open.remove(&id)?;
        wires.timers.disarm(call.timeout_at, Timer::Chunk(id));
        if let Kind::Write { bytes, late: true, .. } = call.kind {
            let late = self.late_bytes.entry(call.store).or_default();
            *late -= bytes;
            if *late == 0 {
                self.late_bytes.remove(&call.store);
            }
        }
        Some(call)
    }
}

fn send(wires: &mut Wires<'_>, store: StoreId, call: CallId, message: Message) -> CallId {
    let from = Endpoint::Gateway(wires.config.gateway);
    wires.fx.send(Envelope { from, to: Endpoint::Store(store), message });
    call
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_chunk_leaves_out_what_lags_most_and_goes_to_two_stores_at_least() {
        const CHUNK: u32 = 16 << 10;
        let limit = Chunks::late_bytes_max(CHUNK);
        let mut chunks = Chunks::new(CHUNK);
        let left_out = |chunks: &Chunks, now| {
            let all = chunks.left_out([1, 2, 3].map(StoreId).into_iter(), now);
            all.into_iter().map(|store| store.0).collect::<Vec<_>>()
        };
        let start = Instant::ZERO;
        assert_eq!(left_out(&chunks, start), []);
        chunks.late_bytes.insert(StoreId(1), limit - 1);
        assert_eq!(left_out(&chunks, start), []);
        chunks.late_bytes.insert(StoreId(1), limit);
        assert_eq!(left_out(&chunks, start), [1]);
        // What is full, and what lags too, but less: both are needed.
        chunks.is_full(StoreId(3), start);
        assert_eq!(left_out(&chunks, start), [1]);
        chunks.late_bytes.insert(StoreId(2), limit + 1);
        assert_eq!(left_out(&chunks, start), [2]);
        chunks.late_bytes.clear();
        assert_eq!(left_out(&chunks, start), [3]);
        assert_eq!(left_out(&chunks, start + FULL_FOR), []);
    }
}
