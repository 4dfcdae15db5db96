//! Repair: a store finds out which chunks it should have and has not, or has and cannot read, and
//! gets them from the stores of the other zones.
//!
//! It learns of them from gateways ([`ChunkRepair`]), from its own reads that did not verify, and by
//! comparing inventories: at its start, after a link was down, when the map has changed, after
//! anything was found missing, and from time to time. What another owner has may be dead: before a copy is
//! written here, the range is asked whether its blob is wanted (`store/reclaim/`).
//!
//! Promises: a copy counts as repaired only when it is verified and durable; a copy that verifies is
//! never overwritten; gateways go first; memory is bounded whatever is missing.

mod answering;
mod compare;
mod owners;
mod queue;

use std::collections::BTreeMap;

use super::serving::Host;
use crate::effects::{Effects, Now};
use crate::ids::{BlobId, CallId, ChunkId, Endpoint, LogIndex, MapEpoch, StoreId};
use crate::memory::MemoryAccount;
use crate::message::{
    BlobVerdict, ChunkError, ChunkPulled, ChunkRepair, ChunkWritten, InventoryAnswer, InventoryAsk,
    Message,
};
use crate::object::OwnedBlob;
use crate::rows::Miss;
use crate::storage::{Durable, Looked};
use crate::time::{Deadline, Duration};
use answering::Answering;
use compare::Compare;
pub(super) use owners::Owners;
use queue::{Judged, Queue, Why};

/// Storage operations from this number on are repair's.
pub(super) const REPAIR_OPS: u64 = 1 << 63;
/// What an inventory shows and is not here is left alone for so long: a gateway may be writing it.
const SETTLE: Duration = Duration::from_millis(500);

/// How whole the store's chunks are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Chunks known to be missing here and not repaired yet, also those of which no copy is left anywhere.
    pub missing: u64,
    /// Chunks here that are known not to verify, and not repaired yet.
    pub damaged: u64,
    /// Chunks repaired in this life.
    pub repaired: u64,
    /// With whom inventories are being compared, and from which chunk on.
    pub comparing: Option<(StoreId, ChunkId)>,
    /// Since the last reason to doubt it, a whole comparison with each owner in the other zones by
    /// the map that stands, and each former one, has found nothing missing; and nothing is known to be
    /// missing or damaged.
    pub complete: bool,
    /// The newest map of whose epoch the store knows that it had all that there was when it came.
    pub proven: MapEpoch,
}

/// Blocks of the chunk index that are fetched for repair or reclaiming, each to be released when it was
/// looked at.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// How often each was asked for.
    asked: BTreeMap<Miss, u32>,
    held: Vec<Miss>,
}

impl Blocks {
    pub(super) fn fetch(&mut self, miss: Miss, host: &mut Host, fx: &mut Effects) {
        *self.asked.entry(miss).or_default() += 1;
        host.storage.fetch(miss, false, fx);
    }

    pub(super) fn fetched(&mut self, miss: Miss) {
        for _ in 0..self.asked.remove(&miss).unwrap_or_default() {
            self.held.push(miss);
        }
    }

    pub(super) fn release(&mut self, host: &mut Host) {
        for miss in self.held.drain(..) {
            host.storage.release(miss);
        }
    }
}

/// The repair of one store.
#[derive(Debug, Default)]
pub(super) struct Repair {
    /// Of the map by which owners are compared with.
    layouts: (MapEpoch, usize),
    /// The map of this epoch is proven, as far as this store goes: it had all that there was when that map
    /// came. This stays true whatever else is found missing later.
    proven: MapEpoch,
    /// As many sessions are known to be over.
    sessions_ended: u64,
    owners: Owners,
    blocks: Blocks,
    queue: Queue,
    compare: Compare,
    answering: Answering,
}

impl Repair {
    /// Go on with what can go on. At the end of each step.
    pub(super) fn drive(&mut self, now: Now, host: &mut Host, fx: &mut Effects) {
        let layouts = host.map().layouts();
        if self.layouts != layouts {
            match self.layouts.0 == layouts.0 {
                true => self.compare.map_proven(host),
                false => self.compare.map_changed(now.instant, host),
            }
            self.layouts = layouts;
        }
        let ended = host.directory.held().map_or(0, |held| held.sessions.ended());
        if ended > self.sessions_ended {
            // A gateway that is gone cannot say any more which copies it could not make.
            self.sessions_ended = ended;
            self.compare.doubt(now.instant, None);
        }
        let Self { owners, blocks, queue, compare, answering, .. } = self;
        compare.drive(now, queue, owners, blocks, host, fx);
        answering.drive(now, owners, blocks, host, fx);
        queue.drive(now, host, fx);
        blocks.release(host);
        // What nobody has any more is in no former layout's store either.
        let seen = self.compare.has_seen_all() || planted!(MapProvenEarly);
        if self.proven != layouts.0 && self.has_all(host) && seen {
            self.proven = layouts.0;
        }
    }

    /// The newest map of whose epoch this store knows that it had all that there was when it came.
    pub(super) fn proven(&self) -> MapEpoch {
        self.proven
    }

    /// Whether this store has all that is known to be anywhere, undamaged.
    fn has_all(&self, host: &Host) -> bool {
        host.storage.chunk_index_is_complete() && self.queue.is_empty() && self.queue.forgotten == 0
    }

    /// A gateway or a store says that a chunk should be here.
    pub(super) fn told(
        &mut self,
        now: Now,
        from: Endpoint,
        repair: &ChunkRepair,
        host: &Host,
        fx: &mut Effects,
    ) {
        let ChunkRepair { call, chunk, existed, sources } = repair;
        let asker = (*call != CallId(0)).then_some((from, *call));
        if let Err(error) =
            self.queue.add(now.instant, *chunk, Why::Told { existed: *existed }, sources, asker)
        {
            match asker {
                Some((asker, call)) => {
                    let store = host.config.store;
                    let refused = ChunkWritten::refused(call, *chunk, store, error);
                    host.send(asker, Message::ChunkWritten(refused), fx);
                }
                // A hint is not to be lost: a comparison finds what it meant.
                None => self.compare.doubt(now.instant, None),
            }
        }
    }

    /// What is to be asked about the blobs of copies that were pulled.
    pub(super) fn questions(&mut self) -> Vec<OwnedBlob> {
        core::mem::take(&mut self.queue.to_ask)
    }

    /// Blobs of which a peer says that it has freed them, and the directory that it goes by.
    pub(super) fn dead(&mut self) -> Vec<(BlobId, LogIndex)> {
        core::mem::take(&mut self.queue.dead)
    }

    /// A chunk that is here, and that a peer which should have it has not.
    pub(super) fn next_doubt(&mut self) -> Option<ChunkId> {
        self.compare.next_doubt()
    }

    /// The range has said what a blob is of which a copy was pulled.
    pub(super) fn judged(
        &mut self,
        now: Now,
        blob: BlobId,
        verdict: BlobVerdict,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        match verdict {
            BlobVerdict::Live | BlobVerdict::Open => self.queue.wanted(now, blob, host, fx),
            BlobVerdict::Dead | BlobVerdict::Gone => {
                let _busy = self.queue.forget(blob, host, fx);
            }
        }
    }

    /// A blob is to be freed: no copies of its chunks are made. `true`: one is being written just now.
    pub(super) fn forget(&mut self, blob: BlobId, host: &Host, fx: &mut Effects) -> bool {
        self.queue.forget(blob, host, fx)
    }

    /// A copy was read here and does not verify.
    pub(super) fn read_badly(&mut self, now: Now, chunk: ChunkId) {
        // If there is no room it is counted as forgotten, and the report says so.
        let _counted = self.queue.add(now.instant, chunk, Why::Read, &[], None);
    }

    /// Whether the copy of a chunk is known not to verify: it may be replaced by one that does.
    pub(super) fn is_damaged(&self, chunk: ChunkId) -> bool {
        self.queue.is_damaged(chunk)
    }

    /// A look that repair asked for has ended.
    pub(super) fn looked(
        &mut self,
        now: Now,
        op: u64,
        result: Result<Looked, ChunkError>,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        let judged = self.queue.looked(now, op, result, &mut self.owners, host, fx);
        if judged == Some(Judged::Unsound) {
            self.compare.found();
            self.compare.doubt(now.instant, None);
        }
    }

    /// A write of repair's has ended.
    pub(super) fn written(
        &mut self,
        now: Now,
        op: u64,
        result: Result<Durable, ChunkError>,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        self.queue.written(now, op, result, host, fx);
    }

    /// A copy that was nobody's is gone, or cannot go yet.
    pub(super) fn dropped(
        &mut self,
        now: Now,
        op: u64,
        result: Result<(), ChunkError>,
        host: &Host,
        fx: &mut Effects,
    ) {
        self.queue.dropped(now, op, result, host, fx);
    }

    /// A peer gives a copy.
    pub(super) fn pulled(
        &mut self,
        now: Now,
        pulled: ChunkPulled,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        self.queue.pulled(now, pulled, host, fx);
    }

    /// A peer compares inventories with us.
    pub(super) fn asked(
        &mut self,
        from: StoreId,
        ask: InventoryAsk,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        host.directory.heard_epoch(ask.epoch);
        self.answering.ask(from, ask, host, fx);
    }

    /// A peer has compared inventories for us.
    pub(super) fn answered(
        &mut self,
        now: Now,
        from: StoreId,
        answer: InventoryAnswer,
        host: &mut Host,
    ) {
        host.directory.heard_epoch(answer.epoch);
        self.compare.answered(now, from, answer, &mut self.owners, host);
    }

    /// A block is in memory.
    pub(super) fn fetched(&mut self, miss: Miss) {
        self.blocks.fetched(miss);
        self.compare.fetched(miss);
        self.answering.fetched(miss);
    }

    /// A link has changed: what was asked over it is lost; and what a peer took while it was cut off
    /// from us, or we from everybody, we may lack.
    pub(super) fn link_changed(
        &mut self,
        now: Now,
        peer: StoreId,
        stands: bool,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        if stands {
            self.compare.doubt(now.instant, Some(peer));
        } else {
            self.compare.link_down(now.instant, peer);
            self.queue.link_down(now, peer, host, fx);
        }
    }

    /// Bytes in memory of copies that were pulled and not judged yet, and how many there may be.
    pub(super) fn memory(&self, account: &mut MemoryAccount) {
        let (bytes, most) = self.queue.copies_bytes();
        account.add("copies in question", bytes, most);
    }

    /// How whole the store's chunks are.
    pub(super) fn report(&self, host: &Host) -> RepairReport {
        let complete = self.layouts == host.map().layouts()
            && self.has_all(host)
            && self.queue.has_lost_nothing()
            && self.compare.is_clean();
        RepairReport {
            missing: self.queue.missing(),
            damaged: self.queue.damaged(),
            repaired: self.queue.repaired,
            comparing: self.compare.progress(),
            complete,
            proven: self.proven,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        let compare = self.compare.next_deadline(&self.queue);
        let answering = self.answering.next_deadline();
        Deadline::earlier(Deadline::earlier(compare, answering), self.queue.next_deadline())
    }

    pub(super) fn check(&self) {
        self.queue.check();
        self.answering.check();
        assert!(self.blocks.held.is_empty(), "blocks are released in the step that used them");
    }

    pub(super) fn status(&self, host: &Host) -> String {
        let RepairReport { missing, damaged, repaired, complete, .. } = self.report(host);
        let complete = if complete { " complete" } else { "" };
        format!("repair missing={missing} damaged={damaged} done={repaired}{complete}")
    }
}
