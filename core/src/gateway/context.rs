//! What all requests of a gateway share, and the view of it that a request gets during a step.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::buckets::BucketCache;
use super::calls::{Calls, Failure, Ticket, Wires};
use super::chunks::Chunks;
use super::hints::{self, Hints};
use super::under_way::UnderWay;
use crate::cluster::{ClusterMap, GatewayConfig};
use crate::effects::{Effect, Effects};
use crate::fair::{Admission, Fair};
use crate::hash::Checksum;
use crate::ids::{
    BlobId, BlobSequence, CallId, ChunkId, MapEpoch, RequestId, SessionId, StoreId, TenantId,
};
use crate::message::{
    Answer, ChunkAsk, ChunkError, ChunkRead, ChunkRepair, ChunkSummary, ChunkWrite,
};
use crate::object::Target;
use crate::range::command::{CommandBody, Read};
use crate::request::{ApiError, BodyDigest, Reply};
use crate::rng::Rng;
use crate::time::Instant;

/// Gives each message to be answered its id. A life begins somewhere of its own: answers to calls of an
/// earlier one may come late, and must not fit.
#[derive(Debug, Default)]
pub(super) struct CallIds(u64);

impl CallIds {
    /// For the life with this nonce. So few bits that the counter stays within its bound.
    pub(super) fn of_life(nonce: u128) -> Self {
        const FIRST_MAX: u128 = (1 << 61) - 1;
        if planted!(CallIdsFromOne) {
            return Self(0);
        }
        Self(u64::try_from(nonce & FIRST_MAX).expect("masked to fewer bits"))
    }

    pub(super) fn next(&mut self) -> CallId {
        self.0 += 1;
        CallId(self.0)
    }
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The session's beat.
    Beat,
    /// A range call is to be sent again.
    Range(Ticket),
    /// A chunk call has timed out.
    Chunk(CallId),
    /// A request has something to do, or has waited too long.
    Request(RequestId),
}

impl Timer {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Beat => "session beat",
            Self::Range(_) => "range call",
            Self::Chunk(_) => "chunk call timeout",
            Self::Request(_) => "request",
        }
    }
}

/// All timers, earliest first.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Instant, Timer)>);

impl Timers {
    pub(super) fn arm(&mut self, at: Instant, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(super) fn disarm(&mut self, at: Instant, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    /// Move a timer from where `at` says to `to`.
    pub(super) fn move_to(&mut self, at: &mut Instant, to: Instant, timer: Timer) {
        self.disarm(*at, timer);
        *at = to;
        self.arm(to, timer);
    }

    pub(super) fn first(&self) -> Option<(Instant, Timer)> {
        self.0.first().copied()
    }

    /// Take the first timer that is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let (at, timer) = self.first().filter(|(at, _)| *at <= now)?;
        self.disarm(at, timer);
        Some(timer)
    }
}

/// What operators may want to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Copies of committed or running puts that a zone does not have: work for repair.
    pub(super) copies_missing: u64,
    /// Copies that were read and did not verify.
    pub(super) copies_damaged: u64,
    /// Reads that were asked of a second zone because the first was slow.
    pub(super) hedges: u64,
    /// Stores that were told at once of a copy that a read did not find sound.
    pub(super) hints: u64,
    /// Requests that were told to slow down.
    pub(super) slowed_down: u64,
}

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: GatewayConfig,
    /// The newest map that is known.
    pub(super) map: ClusterMap,
    /// A map of this epoch at least is needed: what is known was refused as too old.
    pub(super) map_wanted: MapEpoch,
    pub(super) session: SessionId,
    pub(super) next_blob: u64,
    pub(super) calls: Calls,
    pub(super) chunks: Chunks,
    pub(super) hints: Hints,
    pub(super) under_way: UnderWay,
    pub(super) buckets: BucketCache,
    /// Body bytes in hand, by request.
    pub(super) budget: Fair<Option<TenantId>, RequestId>,
    /// Requests in hand, one each.
    pub(super) places: Fair<Option<TenantId>, RequestId>,
    pub(super) timers: Timers,
    pub(super) ids: CallIds,
    pub(super) rng: Rng,
    pub(super) counts: Counts,
}

/// Something that happened to a request.
#[derive(Debug)]
pub(super) enum Input {
    /// A range call ended.
    Answer { tag: usize, result: Result<Answer, Failure> },
    /// An attempt to write a chunk ended.
    Written { number: u32, store: StoreId, call: CallId, result: Result<(), ChunkFailure> },
    /// An attempt to read from a chunk ended.
    Data { call: CallId, store: StoreId, result: Result<(Bytes, Vec<Checksum>), ChunkFailure> },
    /// An attempt to have a copy checked ended.
    Checked {
        chunk: ChunkId,
        store: StoreId,
        call: CallId,
        result: Result<ChunkSummary, ChunkFailure>,
    },
    /// The reservation that was waited for is granted: so many bytes.
    Admitted(u64),
    /// It will not be: others waited for less.
    Displaced,
    /// Bytes of the body.
    Body(Bytes),
    /// The body's verified end.
    BodyEnd(BodyDigest),
    /// The client took bytes.
    Taken(u64),
    /// Time has passed.
    Wake,
    /// A newer cluster map is known.
    NewMap,
}

/// Why an attempt at a chunk failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkFailure {
    /// The store says so.
    Refused(ChunkError),
    /// No answer came.
    Silent,
}

/// What a request works with during a step.
pub(super) struct Context<'a> {
    pub(super) id: RequestId,
    pub(super) now: Instant,
    pub(super) shared: &'a mut Shared,
    pub(super) fx: &'a mut Effects,
}

impl Shared {
    /// Late copies are body bytes in hand that belong to no request any more.
    pub(super) fn count_late(&mut self) {
        self.budget.set_outside(self.chunks.late_bytes());
    }

    /// The calls, and what they send with.
    pub(super) fn wired<'a>(
        &'a mut self,
        now: Instant,
        fx: &'a mut Effects,
    ) -> (&'a mut Calls, &'a mut Chunks, Wires<'a>) {
        let Self { config, map, calls, chunks, timers, ids, rng, .. } = self;
        let voters = &map.voters;
        (calls, chunks, Wires { now, config, voters, ids, timers, rng, fx })
    }
}

impl Context<'_> {
    pub(super) fn config(&self) -> &GatewayConfig {
        &self.shared.config
    }

    /// The newest cluster map that is known.
    pub(super) fn map(&self) -> &ClusterMap {
        &self.shared.map
    }

    /// The range refuses what was placed under the known map: a newer one is needed.
    pub(super) fn want_newer_map(&mut self) {
        self.shared.map_wanted = MapEpoch(self.shared.map.epoch.0 + 1);
        let (calls, _, mut wires) = self.shared.wired(self.now, self.fx);
        calls.read_directory(&mut wires, false);
    }

    pub(super) fn read(&mut self, tag: usize, read: Read) {
        let (calls, _, mut wires) = self.shared.wired(self.now, self.fx);
        calls.read(&mut wires, self.id, tag, read);
    }

    pub(super) fn command(&mut self, tag: usize, body: CommandBody) {
        let (calls, _, mut wires) = self.shared.wired(self.now, self.fx);
        calls.command(&mut wires, self.id, tag, body);
    }

    pub(super) fn write_chunk(&mut self, store: StoreId, write: ChunkWrite) -> CallId {
        self.shared.under_way.sent(write.chunk.blob, store);
        let (_, chunks, mut wires) = self.shared.wired(self.now, self.fx);
        chunks.write(&mut wires, self.id, store, write)
    }

    pub(super) fn read_chunk(&mut self, store: StoreId, read: ChunkRead) -> CallId {
        let (_, chunks, mut wires) = self.shared.wired(self.now, self.fx);
        chunks.read(&mut wires, self.id, store, read)
    }

    pub(super) fn repair_chunk(&mut self, store: StoreId, repair: ChunkRepair) -> CallId {
        self.shared.under_way.sent(repair.chunk.blob, store);
        let (_, chunks, mut wires) = self.shared.wired(self.now, self.fx);
        chunks.repair(&mut wires, self.id, store, repair)
    }

    pub(super) fn check_chunk(&mut self, store: StoreId, ask: ChunkAsk) -> CallId {
        let (_, chunks, mut wires) = self.shared.wired(self.now, self.fx);
        chunks.check_copy(&mut wires, self.id, store, ask)
    }

    /// A store that answers has no sound copy of a chunk; another one has.
    pub(super) fn hint_now(&mut self, store: StoreId, chunk: ChunkId, source: StoreId) {
        probe!(BadCopyHinted);
        self.shared.counts.hints += 1;
        let (_, _, mut wires) = self.shared.wired(self.now, self.fx);
        hints::hint(&mut wires, store, CallId(0), chunk, vec![source]);
    }

    pub(super) fn forget_chunk_call(&mut self, call: CallId) {
        let (_, chunks, mut wires) = self.shared.wired(self.now, self.fx);
        chunks.forget(&mut wires, call);
    }

    /// Ask for room for body bytes: `most`, or what there is of it down to `least`.
    pub(super) fn reserve(&mut self, tenant: TenantId, least: u64, most: u64) -> Admission {
        self.shared.count_late();
        self.shared.budget.claim(&Some(tenant), self.id, least.min(most), most)
    }

    /// From now on the request has at most so many body bytes in hand.
    pub(super) fn needs_only(&mut self, bytes: u64) {
        self.shared.budget.shrink(self.id, bytes);
    }

    /// A new blob of the session, of the object under this key.
    pub(super) fn new_blob(&mut self, owner: Target) -> BlobId {
        let sequence = BlobSequence(self.shared.next_blob);
        self.shared.next_blob += 1;
        self.shared.under_way.begin(sequence, self.id, owner);
        BlobId { session: self.shared.session, sequence }
    }

    pub(super) fn reply(&mut self, result: Result<Reply, ApiError>) {
        let slowed = matches!(result, Err(ApiError::SlowDown(_)));
        self.shared.counts.slowed_down += u64::from(slowed);
        self.fx.reply(self.id, result);
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.fx.push(effect);
    }
}
