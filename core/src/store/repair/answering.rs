//! Answering the inventories of others: counting own chunks in an interval, a slice at a time.

use std::collections::BTreeMap;

use super::Blocks;
use super::compare::{SLICE_PAUSE, SLICE_ROWS};
use super::owners::Owners;
use crate::effects::{Effects, Now};
use crate::ids::{ChunkId, Endpoint, StoreId};
use crate::message::{
    INVENTORY_IDS_MAX, InventoryAnswer, InventoryAsk, InventoryDigest, InventoryResult, Message,
};
use crate::rows::Miss;
use crate::store::serving::Host;
use crate::time::{Deadline, Instant};

/// Rows looked at for one answer.
const ANSWER_ROWS: u32 = 65_536;
/// Peers that are answered at a time; the others ask again.
const PEERS_MAX: usize = 64;

/// An inventory that is being answered.
#[derive(Debug)]
struct Job {
    ask: InventoryAsk,
    at: ChunkId,
    rows: u32,
    count: u64,
    digest: InventoryDigest,
    /// The first of the chunks found, and where the list stops being whole.
    listed: Vec<ChunkId>,
    waits_for: Option<Miss>,
}

/// The inventories that are being answered: one for each peer, the newest.
#[derive(Debug, Default)]
pub(super) struct Answering {
    jobs: BTreeMap<StoreId, Job>,
    next_slice: Instant,
}

impl Answering {
    /// A peer asks.
    pub(super) fn ask(&mut self, from: StoreId, ask: InventoryAsk, host: &Host, fx: &mut Effects) {
        let epoch = host.map().epoch;
        let full = self.jobs.len() >= PEERS_MAX && !self.jobs.contains_key(&from);
        let refused = full || buggify!(InventoryRefused);
        if refused || ask.epoch != epoch || !host.storage.chunk_index_is_complete() {
            return answer(from, &ask, InventoryResult::NotNow, host, fx);
        }
        let job = Job {
            at: ask.from,
            rows: 0,
            count: 0,
            digest: InventoryDigest::default(),
            listed: Vec::new(),
            waits_for: None,
            ask,
        };
        self.jobs.insert(from, job);
    }

    /// A block of the index is in memory: whoever waits for it goes on in this step.
    pub(super) fn fetched(&mut self, miss: Miss) {
        for job in self.jobs.values_mut() {
            if job.waits_for.take_if(|waited| *waited == miss).is_some() {
                self.next_slice = Instant::ZERO;
            }
        }
    }

    /// Go on with each, one slice at most.
    pub(super) fn drive(
        &mut self,
        now: Now,
        owners: &mut Owners,
        blocks: &mut Blocks,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        if self.next_slice > now.instant || self.jobs.is_empty() {
            return;
        }
        let ready = self.jobs.values().any(|job| job.waits_for.is_none());
        if ready {
            self.next_slice = now.instant + SLICE_PAUSE;
        }
        let jobs = core::mem::take(&mut self.jobs);
        for (peer, mut job) in jobs {
            let result = match job.waits_for {
                Some(_) => None,
                None if !host.storage.chunk_index_is_complete() => Some(InventoryResult::NotNow),
                None if job.ask.epoch != host.map().epoch => Some(InventoryResult::NotNow),
                None => slice(peer, &mut job, owners, blocks, host, fx),
            };
            match result {
                Some(result) => answer(peer, &job.ask, result, host, fx),
                None => {
                    self.jobs.insert(peer, job);
                }
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        let ready = self.jobs.values().any(|job| job.waits_for.is_none());
        ready.then_some(Deadline { at: self.next_slice, reason: "answer an inventory" })
    }

    pub(super) fn check(&self) {
        assert!(self.jobs.len() <= PEERS_MAX);
        assert!(self.jobs.values().all(|job| job.listed.len() <= INVENTORY_IDS_MAX));
    }
}

/// Count a slice; the result if it is found.
fn slice(
    peer: StoreId,
    job: &mut Job,
    owners: &mut Owners,
    blocks: &mut Blocks,
    host: &mut Host,
    fx: &mut Effects,
) -> Option<InventoryResult> {
    let own = host.config.store;
    for _ in 0..SLICE_ROWS {
        if job.rows >= ANSWER_ROWS || (job.rows >= 4 && buggify!(ShortLists)) {
            // Too far apart to be told in one answer: what is listed so far.
            let end = Some(job.at);
            return Some(listed(job, end));
        }
        let next = match host.storage.next_chunk(job.at) {
            Err(miss) => {
                blocks.fetch(miss, host, fx);
                job.waits_for = Some(miss);
                return None;
            }
            Ok(next) => next.filter(|chunk| job.ask.to.is_none_or(|to| *chunk < to)),
        };
        let Some(chunk) = next else { return Some(whole(job)) };
        job.rows += 1;
        if owners.is_shared(chunk, peer, own, host.map()) {
            if job.listed.len() >= INVENTORY_IDS_MAX && job.count >= job.ask.count {
                // We have more than the asker: the first of them.
                let chunks = core::mem::take(&mut job.listed);
                return Some(InventoryResult::Differs { to: behind(&chunks), chunks });
            }
            job.count += 1;
            job.digest.add(chunk);
            if job.listed.len() < INVENTORY_IDS_MAX {
                job.listed.push(chunk);
            }
        }
        match chunk.successor() {
            Some(next) => job.at = next,
            None => return Some(whole(job)),
        }
    }
    None
}

/// The whole interval is counted.
fn whole(job: &mut Job) -> InventoryResult {
    if (job.count, job.digest) == (job.ask.count, job.ask.digest) {
        return InventoryResult::Same;
    }
    let end = job.ask.to;
    listed(job, end)
}

/// What is listed, of all that lies before `end`.
fn listed(job: &mut Job, end: Option<ChunkId>) -> InventoryResult {
    let chunks = core::mem::take(&mut job.listed);
    let is_whole = chunks.len() as u64 == job.count;
    let to = if is_whole { end } else { behind(&chunks) };
    InventoryResult::Differs { to, chunks }
}

/// The first id behind a list.
fn behind(chunks: &[ChunkId]) -> Option<ChunkId> {
    chunks.last().and_then(|last| last.successor())
}

fn answer(to: StoreId, ask: &InventoryAsk, result: InventoryResult, host: &Host, fx: &mut Effects) {
    let answer = InventoryAnswer { call: ask.call, epoch: host.map().epoch, result };
    host.send(Endpoint::Store(to), Message::InventoryAnswer(answer), fx);
}
