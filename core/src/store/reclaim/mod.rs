//! Reclaiming at a store: it asks the range about blobs that it has reason to doubt, and frees the chunks of
//! those that nobody needs any more, and copies that are another store's to keep.
//!
//! A store never decides by itself that a blob is dead: the leader of the range that owns it says so, of its
//! own accord ([`BlobFree`]) or when it is asked. It asks about blobs that their gateway has given up, about
//! those that were being written when their session ended, about what it has and a peer has not, about
//! all it has in the course of scrubbing, and before it makes a copy of a chunk. No answer frees nothing.
//!
//! Promises: a chunk is said to be freed only when that is durable, and when no copy of it is being made here; it
//! is freed only by a store that knows all sessions to be over which the range took for over.

mod freeing;
mod questions;
mod recent;

use super::chunks::Chunks;
use super::repair::Repair;
use super::serving::Host;
use crate::directory::Standing;
use crate::effects::{Effects, Now};
use crate::ids::{BlobId, LogIndex, MapEpoch, StoreId};
use crate::memory::MemoryAccount;
use crate::message::{BlobAnswer, BlobFree, BlobVerdict, ChunkError};
use crate::object::{OwnedBlob, Target};
use crate::rows::Miss;
use crate::storage::Looked;
use crate::time::Deadline;
use freeing::Freeing;
use questions::{Judged, Questions};
use recent::Recent;

/// Storage operations from this number on, and below those of repair, are reclaiming's.
pub(super) const RECLAIM_OPS: u64 = 1 << 62;

/// What a store has freed, and what it is asking about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReclaimReport {
    /// Blobs of which chunks were freed here in this life.
    pub blobs: u64,
    /// Chunks that were.
    pub chunks: u64,
    /// Blobs that are being freed.
    pub freeing: u64,
    /// Blobs about which the range is to be asked.
    pub in_question: u64,
    /// Segments that were given back in this life.
    pub segments: u64,
    /// Chunks that were moved for it.
    pub moved: u64,
}

/// The reclaiming of one store.
#[derive(Debug, Default)]
pub(super) struct Reclaim {
    questions: Questions,
    freeing: Freeing,
    recent: Recent,
    /// The directory by which sessions were last looked at.
    directory: LogIndex,
}

impl Reclaim {
    /// A gateway writes a chunk here.
    pub(super) fn writes(&mut self, blob: BlobId, owner: &Target) {
        self.recent.note(blob, owner);
    }

    /// A gateway has given these up.
    pub(super) fn left(&mut self, now: Now, blobs: Vec<OwnedBlob>) {
        for OwnedBlob { blob, owner } in blobs {
            self.questions.doubt(now.instant, blob, owner);
        }
    }

    /// Scrubbing has come to a blob. `false`: too much is in question already.
    pub(super) fn ask_about(&mut self, now: Now, blob: BlobId, owner: &Target) -> bool {
        let room = self.questions.takes_more();
        if room {
            self.questions.doubt(now.instant, blob, owner.clone());
        }
        room
    }

    /// Whether all of a blob was freed here, a while ago at most.
    pub(super) fn has_freed(&self, blob: BlobId) -> bool {
        self.freeing.has_freed(blob)
    }

    /// The leader of a range wants blobs freed.
    pub(super) fn free(
        &mut self,
        now: Now,
        from: StoreId,
        free: BlobFree,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        self.freeing.asked(now.instant, from, free, host, fx);
    }

    /// A range answers.
    pub(super) fn answered(
        &mut self,
        now: Now,
        from: StoreId,
        answer: BlobAnswer,
        repair: &mut Repair,
        host: &mut Host,
        fx: &mut Effects,
    ) {
        let said = answer.result.as_ref();
        let directory = said.map_or(LogIndex(0), |said| said.directory);
        let settled = said.map_or(MapEpoch(0), |said| said.settled);
        for judged in self.questions.answered(now.instant, from, answer) {
            let Judged { blob, verdict, for_repair, doubted } = judged;
            if for_repair {
                repair.judged(now, blob, verdict, host, fx);
            }
            match verdict {
                BlobVerdict::Open if planted!(OpenTakenForGone) => {
                    self.freeing.begin(now.instant, blob, directory);
                }
                BlobVerdict::Gone => {
                    probe!(BlobGone);
                    self.freeing.begin(now.instant, blob, directory);
                }
                BlobVerdict::Live if doubted && settled > MapEpoch(0) => {
                    self.freeing.begin_superfluous(now.instant, blob, settled);
                }
                _ => {}
            }
        }
    }

    /// A look at a chunk's header has ended.
    pub(super) fn looked(&mut self, now: Now, op: u64, result: Result<Looked, ChunkError>) {
        self.questions.looked(now.instant, op, result);
    }

    /// A chunk is freed, or cannot be yet.
    pub(super) fn freed(&mut self, now: Now, op: u64, result: Result<(), ChunkError>) {
        self.freeing.chunk_freed(now.instant, op, result);
    }

    /// A block of the chunk index is in memory.
    pub(super) fn fetched(&mut self, miss: Miss) {
        self.freeing.fetched(miss);
    }

    /// Go on with what can go on. `leader`: of the range, as a replica here knows it.
    pub(super) fn drive(
        &mut self,
        now: Now,
        leader: Option<StoreId>,
        (repair, chunks): (&mut Repair, &Chunks),
        host: &mut Host,
        fx: &mut Effects,
    ) {
        if self.directory != host.directory.version() {
            self.directory = host.directory.version();
            let directory = &host.directory;
            let over = self.recent.take(|session| directory.standing(session) == Standing::Fenced);
            for OwnedBlob { blob, owner } in over {
                self.questions.doubt(now.instant, blob, owner);
            }
        }
        // A store frees only what the range has judged. What it judged stays true.
        for (blob, directory) in repair.dead() {
            self.freeing.begin(now.instant, blob, directory);
        }
        for OwnedBlob { blob, owner } in repair.questions() {
            self.questions.ask_for_repair(blob, owner);
        }
        while self.questions.takes_more()
            && let Some(chunk) = repair.next_doubt()
        {
            self.questions.doubt_of_chunk(now.instant, chunk);
        }
        self.questions.drive(now.instant, leader, host, fx);
        for blob in self.freeing.drive(now.instant, repair, chunks, host, fx) {
            self.questions.settled(blob);
            self.recent.forget(blob);
        }
    }

    pub(super) fn report(&self, host: &Host) -> ReclaimReport {
        let given_back = host.storage.reclaimed();
        ReclaimReport {
            blobs: self.freeing.blobs,
            chunks: self.freeing.chunks,
            freeing: self.freeing.len() as u64,
            in_question: self.questions.len() as u64,
            segments: given_back.segments,
            moved: given_back.chunks,
        }
    }

    pub(super) fn memory(&self, account: &mut MemoryAccount) {
        let (bytes, most) = self.questions.memory();
        account.add("blobs in question", bytes, most);
        let (bytes, most) = self.recent.memory();
        account.add("blobs written of late", bytes, most);
        let (bytes, most) = self.freeing.memory();
        account.add("blobs freed of late", bytes, most);
    }

    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        Deadline::earlier(self.questions.next_deadline(), self.freeing.next_deadline())
    }

    pub(super) fn check(&self) {
        self.questions.check();
        self.freeing.check();
        self.recent.check();
    }

    pub(super) fn status(&self, host: &Host) -> String {
        let ReclaimReport { blobs, in_question, freeing, .. } = self.report(host);
        format!("reclaim freed={blobs} freeing={freeing} asking={in_question}")
    }
}
