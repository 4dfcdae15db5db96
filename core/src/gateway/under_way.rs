//! What the gateway has under way, as it tells with each beat of its session: which reads may still need
//! what has been deleted, and which blobs may still be written or named by a command.
//!
//! A report says only what stays true ([`SessionReport`]). A blob is *closed* when its request is over and
//! no chunk of it, and no command that names it, is without an answer. One that was closed without being
//! committed, as far as the gateway knows, is *left*: once the leader has the report that says so, the stores
//! that were sent chunks of it are told, and ask the range what became of it. Nothing depends on their being
//! told but how soon the space comes back.

use std::collections::{BTreeMap, BTreeSet};

use super::calls::Wires;
use super::work::Reading;
use crate::ids::{
    BlobId, BlobSequence, Endpoint, LogIndex, MapEpoch, RequestId, SessionId, StoreId,
};
use crate::message::{BLOBS_ASKED_MAX, Envelope, Message, READING_MAX, SessionReport, WRITING_MAX};
use crate::object::{OwnedBlob, Target};

/// Blobs that were left, and that stores are not told of yet. Stores find out about further ones by
/// themselves.
const LEFT_MAX: usize = 4096;

/// A blob that is being written.
#[derive(Debug)]
struct Writing {
    request: RequestId,
    owner: Target,
    /// Who was sent chunks of it.
    stores: BTreeSet<StoreId>,
    committed: bool,
}

/// A blob that was closed without being committed.
#[derive(Debug)]
struct Left {
    blob: OwnedBlob,
    stores: BTreeSet<StoreId>,
}

/// What is under way in the session.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    /// The newest state of the range that was heard of. Whatever is asked from now on is answered from it
    /// or a later one.
    heard: LogIndex,
    writing: BTreeMap<BlobSequence, Writing>,
    /// Closed since the last report.
    left: Vec<Left>,
    /// Closed before the last report, which has no answer yet.
    reported: Vec<Left>,
}

impl UnderWay {
    /// The newest state of the range that was heard of.
    pub(super) fn heard(&self) -> LogIndex {
        self.heard
    }

    /// The session is over, and all it had under way.
    pub(super) fn end_session(&mut self) {
        *self = Self { heard: self.heard, ..Self::default() };
    }

    /// A request begins to write a blob.
    pub(super) fn begin(&mut self, sequence: BlobSequence, request: RequestId, owner: Target) {
        let stores = BTreeSet::new();
        let writing = Writing { request, owner, stores, committed: false };
        self.writing.insert(sequence, writing);
    }

    /// A store is sent a chunk of a blob, or told to fetch one.
    pub(super) fn sent(&mut self, blob: BlobId, to: StoreId) {
        if let Some(writing) = self.writing.get_mut(&blob.sequence) {
            writing.stores.insert(to);
        }
    }

    /// A blob is referenced now.
    pub(super) fn committed(&mut self, blob: BlobId) {
        if let Some(writing) = self.writing.get_mut(&blob.sequence) {
            writing.committed = true;
        }
    }

    /// What to tell of the session. `in_use`: what chunk calls and commands without an answer are about;
    /// `reads`: what open requests read, and the newest state that had been heard of when each began.
    pub(super) fn report<'a>(
        &mut self,
        session: SessionId,
        next: BlobSequence,
        map: MapEpoch,
        is_open: impl Fn(RequestId) -> bool,
        in_use: &BTreeSet<BlobId>,
        reads: impl Iterator<Item = (LogIndex, Reading<'a>)>,
    ) -> SessionReport {
        let of = |sequence| BlobId { session, sequence };
        let closed = self.writing.extract_if(.., |sequence, writing| {
            let in_flight = in_use.contains(&of(*sequence)) && !planted!(BlobClosedInFlight);
            !is_open(writing.request) && !in_flight
        });
        for (sequence, Writing { owner, stores, committed, .. }) in closed {
            let full = self.left.len() + self.reported.len() >= LEFT_MAX;
            if !committed && !stores.is_empty() && !full {
                probe!(BlobLeft);
                self.left.push(Left { blob: OwnedBlob { blob: of(sequence), owner }, stores });
            }
        }
        // Of more than can be named those behind are not said to be begun.
        let told = if planted!(WritesNotReported) { 0 } else { WRITING_MAX };
        let writing: Vec<BlobSequence> = self.writing.keys().take(told).copied().collect();
        let next = self.writing.keys().nth(WRITING_MAX).map_or(next, |first| *first);
        let mut reads_from = self.heard;
        let mut reading = BTreeSet::new();
        for (since, read) in reads {
            match read {
                _ if planted!(ReadsNotReported) => {}
                Reading::Nothing => {}
                Reading::Blobs(blobs)
                    if reading.len() + blobs.len() <= READING_MAX && !buggify!(ReadsUnnamed) =>
                {
                    reading.extend(blobs);
                }
                Reading::Blobs(_) | Reading::Anything => reads_from = reads_from.min(since),
            }
        }
        self.reported.append(&mut self.left);
        let reading = reading.into_iter().copied().collect();
        SessionReport { reads_from, reading, next, writing, map }
    }

    /// The leader has the last report: the stores may ask about what was left. `applied` is its state.
    pub(super) fn reported(&mut self, wires: &mut Wires<'_>, applied: LogIndex) {
        self.heard = self.heard.max(applied);
        let mut by_store: BTreeMap<StoreId, Vec<OwnedBlob>> = BTreeMap::new();
        for Left { blob, stores } in self.reported.drain(..) {
            for store in stores {
                by_store.entry(store).or_default().push(blob.clone());
            }
        }
        let from = Endpoint::Gateway(wires.config.gateway);
        for (store, blobs) in by_store {
            for blobs in blobs.chunks(BLOBS_ASKED_MAX) {
                let message = Message::BlobsLeft(blobs.to_vec());
                wires.fx.send(Envelope { from, to: Endpoint::Store(store), message });
            }
        }
    }

    /// Blobs that are being written, or were left.
    pub(super) fn blobs(&self) -> usize {
        self.writing.len() + self.left.len() + self.reported.len()
    }

    /// How many there may be: of each request one, and those of commands and late copies in the background.
    pub(super) fn blobs_max(requests_max: u64) -> u64 {
        4 * requests_max + LEFT_MAX as u64 + 4096
    }

    pub(super) fn check(&self) {
        assert!(self.left.len() + self.reported.len() <= LEFT_MAX);
    }
}
