//! Blobs that are being freed: all chunks of each are taken out of the index, and who wanted that is told
//! when it is durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::cluster::ROOT_RANGE;
use crate::effects::Effects;
use crate::ids::{BlobId, CallId, ChunkId, LogIndex, MapEpoch, StoreId};
use crate::message::{BlobFree, BlobFreed, ChunkError, Message};
use crate::rows::Miss;
use crate::store::chunks::Chunks;
use crate::store::observe::Observation;
use crate::store::repair::{Blocks, Owners, Repair};
use crate::store::serving::Host;
use crate::time::{Deadline, Duration, Instant};

use super::RECLAIM_OPS;

/// Blobs in hand; what comes beyond is refused, and comes again.
const JOBS_MAX: usize = 1024;
/// Requests that wait for one blob.
const ASKERS_MAX: usize = 8;
/// Chunks that are being freed at a time: as many share a journal frame and a sync.
const CHUNKS_MAX: usize = 256;
/// Rows of the index looked at in one step.
const ROWS_MAX: usize = 256;
/// Until something that was busy is tried again.
const BUSY: Duration = Duration::from_millis(20);
/// A blob that is busy so often in a row is left to whoever wants it freed to ask again.
const TRIES_MAX: u32 = 50;
/// Blobs that are remembered as freed, so that nobody takes their chunks for lost.
const FREED_MAX: usize = 16_384;

/// What of a blob is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// All of it.
    Blob,
    /// Chunks that other stores keep by the map of this epoch, which is proven.
    Superfluous(MapEpoch),
}

/// A blob that is being freed.
#[derive(Debug)]
struct Job {
    what: What,
    /// The directory that this store must know first.
    directory: LogIndex,
    /// Who is told.
    askers: Vec<(StoreId, CallId)>,
    /// All before this one are dealt with; `None`: all are.
    at: Option<ChunkId>,
    /// Chunks of which it is not known yet that they are gone, durably.
    open: usize,
    /// Chunks that were busy.
    again: Vec<ChunkId>,
    found: u64,
    tries: u32,
    due: Instant,
    waits_for: Option<Miss>,
}

impl Job {
    fn new(now: Instant, blob: BlobId, what: What) -> Self {
        Self {
            what,
            directory: LogIndex(0),
            askers: Vec::new(),
            at: Some(ChunkId { blob, number: 0 }),
            open: 0,
            again: Vec::new(),
            found: 0,
            tries: 0,
            due: now,
            waits_for: None,
        }
    }
}

/// A request for some blobs.
#[derive(Debug)]
struct Request {
    left: usize,
    freed: Vec<BlobId>,
}

/// The freeing of one store.
#[derive(Debug, Default)]
pub(super) struct Freeing {
    jobs: BTreeMap<BlobId, Job>,
    requests: BTreeMap<(StoreId, CallId), Request>,
    ops: BTreeMap<u64, ChunkId>,
    next_op: u64,
    blocks: Blocks,
    owners: Owners,
    freed: BTreeSet<BlobId>,
    freed_order: VecDeque<BlobId>,
    /// In this life.
    pub(super) blobs: u64,
    /// In this life.
    pub(super) chunks: u64,
}

impl Freeing {
    /// The leader of a range wants blobs freed.
    pub(super) fn asked(
        &mut self,
        now: Instant,
        from: StoreId,
        free: BlobFree,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        let BlobFree { call, directory, blobs } = free;
        if self.requests.contains_key(&(from, call)) {
            // The message came twice.
            return;
        }
        let mut request = Request { left: 0, freed: Vec::new() };
        for blob in blobs {
            if self.jobs.len() >= JOBS_MAX && !self.jobs.contains_key(&blob) {
                continue;
            }
            self.begin(now, blob, directory);
            let Some(job) = self.jobs.get_mut(&blob) else { continue };
            if job.askers.len() < ASKERS_MAX && !job.askers.contains(&(from, call)) {
                job.askers.push((from, call));
                request.left += 1;
            }
        }
        if request.left == 0 {
            let freed = BlobFreed { call, blobs: request.freed };
            return host.tell(from, Message::BlobFreed(freed), fx);
        }
        self.requests.insert((from, call), request);
    }

    /// A blob is to be freed by whoever knows this directory; if too many are, when it is found again.
    pub(super) fn begin(&mut self, now: Instant, blob: BlobId, directory: LogIndex) {
        if self.jobs.len() >= JOBS_MAX && !self.jobs.contains_key(&blob) {
            return;
        }
        let job = self.jobs.entry(blob).or_insert_with(|| Job::new(now, blob, What::Blob));
        job.directory = job.directory.max(directory);
        if job.what != What::Blob {
            // From the beginning: some was left.
            (job.what, job.at) = (What::Blob, Some(ChunkId { blob, number: 0 }));
        }
    }

    /// A blob stands; chunks of it that other stores keep by the map of an epoch, which is proven, need not
    /// be here.
    pub(super) fn begin_superfluous(&mut self, now: Instant, blob: BlobId, settled: MapEpoch) {
        if self.jobs.len() < JOBS_MAX {
            let what = What::Superfluous(settled);
            self.jobs.entry(blob).or_insert_with(|| Job::new(now, blob, what));
        }
    }

    /// Go on; the blobs of which nothing is left.
    pub(super) fn drive(
        &mut self,
        now: Instant,
        repair: &mut Repair,
        chunks: &Chunks,
        host: &mut Host,
        fx: &mut Effects,
    ) -> Vec<BlobId> {
        if !host.storage.chunk_index_is_complete() {
            // It is being built anew: what was found in it, and what it was asked for, counts no more.
            for (blob, job) in &mut self.jobs {
                job.at = Some(ChunkId { blob: *blob, number: 0 });
                job.waits_for = None;
                job.due = now + BUSY;
            }
            return Vec::new();
        }
        let mut rows = ROWS_MAX;
        let due: Vec<BlobId> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.due <= now && job.waits_for.is_none())
            .map(|(blob, _)| *blob)
            .collect();
        let mut done = Vec::new();
        for blob in due {
            if rows == 0 || self.ops.len() >= CHUNKS_MAX {
                break;
            }
            let Some(mut job) = self.jobs.remove(&blob) else { continue };
            if self.advance(now, blob, &mut job, &mut rows, (&mut *repair, chunks), host, fx) {
                done.extend((job.what == What::Blob).then_some(blob));
                self.end(blob, job, true, host, fx);
            } else if job.tries > TRIES_MAX && job.open == 0 && !job.askers.is_empty() {
                self.end(blob, job, false, host, fx);
            } else {
                self.jobs.insert(blob, job);
            }
        }
        self.blocks.release(host);
        done
    }

    /// Go on with one blob; whether nothing of it is left.
    #[allow(clippy::too_many_arguments, reason = "what a store is made of")]
    fn advance(
        &mut self,
        now: Instant,
        blob: BlobId,
        job: &mut Job,
        rows: &mut usize,
        (repair, chunks): (&mut Repair, &Chunks),
        host: &mut Host,
        fx: &mut Effects,
    ) -> bool {
        if host.directory.version() < job.directory && !planted!(FenceNotAwaited) {
            probe!(FreeingAwaitsDirectory);
            host.directory.want_newer();
            job.due = now + BUSY;
            return false;
        }
        if let What::Superfluous(epoch) = job.what {
            let is_proven = host.map().unproven.is_empty() || planted!(SuperfluousFreedUnproven);
            if host.map().epoch != epoch || !is_proven {
                // What is superfluous is another question now.
                (job.at, job.again) = (None, Vec::new());
                return job.open == 0;
            }
        } else if repair.forget(blob, host, fx) || chunks.is_written(blob) {
            probe!(FreeingBusy);
            // Whoever is writing it now would be done after the index was looked at.
            job.tries += 1;
            job.due = now + BUSY;
            return false;
        }
        let again = core::mem::take(&mut job.again);
        for chunk in again {
            self.free(job, chunk, host, fx);
        }
        while let Some(at) = job.at {
            let few = !self.ops.is_empty() && buggify!(FreeOneByOne);
            if *rows == 0 || self.ops.len() >= CHUNKS_MAX || few {
                return false;
            }
            *rows -= 1;
            match host.storage.next_chunk(at) {
                Err(miss) => {
                    self.blocks.fetch(miss, host, fx);
                    job.waits_for = Some(miss);
                    return false;
                }
                Ok(Some(chunk)) if chunk.blob == blob => {
                    job.at = chunk.successor().filter(|next| next.blob == blob);
                    let own = host.config.store;
                    if job.what == What::Blob || !self.owners.keeps(own, chunk, host.map()) {
                        job.found += 1;
                        self.free(job, chunk, host, fx);
                    }
                }
                Ok(_) => job.at = None,
            }
        }
        job.open == 0 && job.again.is_empty()
    }

    fn free(&mut self, job: &mut Job, chunk: ChunkId, host: &mut Host, fx: &mut Effects) {
        self.next_op += 1;
        let op = RECLAIM_OPS | self.next_op;
        self.ops.insert(op, chunk);
        if job.what == What::Blob {
            let live = host.directory.held().map_or(&[][..], |held| &held.sessions.live);
            host.observer.note(ROOT_RANGE, || Observation::Freed { chunk, live: live.to_vec() });
        } else {
            probe!(SuperfluousFreed);
            host.observer.note(ROOT_RANGE, || Observation::FreedCopy { chunk });
        }
        job.open += 1;
        host.storage.free_chunk(op, chunk, fx);
    }

    /// A chunk is gone, or busy.
    pub(super) fn chunk_freed(&mut self, now: Instant, op: u64, result: Result<(), ChunkError>) {
        let Some(chunk) = self.ops.remove(&op) else { return };
        let Some(job) = self.jobs.get_mut(&chunk.blob) else { return };
        job.open -= 1;
        match result {
            Ok(()) => self.chunks += 1,
            Err(_) => {
                job.again.push(chunk);
                job.tries += 1;
                job.due = now + BUSY;
            }
        }
    }

    /// A block of the index is in memory.
    pub(super) fn fetched(&mut self, miss: Miss) {
        self.blocks.fetched(miss);
        for job in self.jobs.values_mut() {
            job.waits_for.take_if(|waited| *waited == miss);
        }
    }

    fn end(&mut self, blob: BlobId, job: Job, is_free: bool, host: &mut Host, fx: &mut Effects) {
        if is_free && job.what == What::Blob {
            self.blobs += u64::from(job.found > 0);
            if self.freed.insert(blob) {
                self.freed_order.push_back(blob);
            }
            while self.freed.len() > FREED_MAX {
                let Some(oldest) = self.freed_order.pop_front() else { break };
                self.freed.remove(&oldest);
            }
        }
        for (to, call) in job.askers {
            let Some(request) = self.requests.get_mut(&(to, call)) else { continue };
            request.left -= 1;
            request.freed.extend(is_free.then_some(blob));
            if request.left == 0
                && let Some(Request { freed, .. }) = self.requests.remove(&(to, call))
            {
                host.tell(to, Message::BlobFreed(BlobFreed { call, blobs: freed }), fx);
            }
        }
    }

    /// Whether a blob was freed here, a while ago at most.
    pub(super) fn has_freed(&self, blob: BlobId) -> bool {
        self.freed.contains(&blob)
    }

    /// Blobs in hand.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Bytes in memory, and how many there may be.
    pub(super) fn memory(&self) -> (u64, u64) {
        (self.freed.len() as u64 * 48, FREED_MAX as u64 * 48)
    }

    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        if self.ops.len() >= CHUNKS_MAX {
            return None;
        }
        let waits = |job: &&Job| {
            job.waits_for.is_none() && (job.open == 0 || job.at.is_some() || !job.again.is_empty())
        };
        let at = self.jobs.values().filter(waits).map(|job| job.due).min()?;
        Some(Deadline { at, reason: "free blobs" })
    }

    pub(super) fn check(&self) {
        assert!(self.freed.len() <= FREED_MAX && self.freed.len() == self.freed_order.len());
        let open: usize = self.jobs.values().map(|job| job.open).sum();
        assert_eq!(open, self.ops.len(), "what is being freed belongs to a blob");
        let left: usize = self.requests.values().map(|request| request.left).sum();
        let askers: usize = self.jobs.values().map(|job| job.askers.len()).sum();
        assert_eq!(left, askers, "whoever waits for a blob is told");
    }
}
