//! Fetches an object's bytes from stores, piece by piece and in order.
//!
//! Each piece is asked of one zone, the own one if there is one, and of the next when the first is slow,
//! fails, or gives blocks that do not verify: no unverified byte goes on.

use std::collections::VecDeque;

use bytes::Bytes;

use super::calls::backoff;
use super::context::{ChunkFailure, Context};
use super::pieces::{Piece, Pieces};
use super::work::Reading;
use crate::hash::Checksum;
use crate::ids::{CallId, StoreId};
use crate::message::{ChunkError, ChunkRead};
use crate::placement::Place;
use crate::time::Instant;

/// A read of more blobs than this is not told blob by blob.
const NAMED_MAX: usize = 64;

/// Pieces on their way.
#[derive(Debug)]
pub(super) struct Fetches {
    pieces: Pieces,
    /// The piece that is next but finds the window full.
    held_back: Option<Piece>,
    /// In order of the object's bytes.
    fetches: VecDeque<Fetch>,
    /// Bytes that have not been asked for.
    left: u64,
    /// Bytes of pieces that are being fetched or wait for their turn.
    fetching: u64,
}

#[derive(Debug)]
struct Fetch {
    piece: Piece,
    /// In the order in which they are asked: those that keep the chunk, then those that did by a former
    /// layout of the map.
    stores: Vec<StoreId>,
    /// So many of them keep the chunk.
    owners: usize,
    /// How many of them have been asked in this round.
    asked: usize,
    calls: Vec<CallId>,
    /// Stores whose copy is missing or damaged.
    bad: Vec<StoreId>,
    /// Who was asked last, and when.
    last: Option<(StoreId, Instant)>,
    /// When the next store is asked: the hedge, or the next round.
    next_at: Instant,
    rounds: u32,
    ready: Option<Bytes>,
}

impl Fetches {
    /// Of these pieces, which have so many bytes, nothing has been asked for.
    pub(super) fn new(pieces: Pieces, left: u64) -> Self {
        Self { pieces, held_back: None, fetches: VecDeque::new(), left, fetching: 0 }
    }

    /// Bytes of pieces that are being fetched or wait for their turn.
    pub(super) fn fetching(&self) -> u64 {
        self.fetching
    }

    /// Bytes that have not been given out.
    pub(super) fn to_come(&self) -> u64 {
        self.left + self.fetching
    }

    /// Whether nothing is being fetched.
    pub(super) fn is_idle(&self) -> bool {
        self.fetches.is_empty()
    }

    /// Whether all bytes were given out, and all that there were have been asked for.
    pub(super) fn is_done(&self) -> bool {
        self.fetches.is_empty() && self.held_back.is_none() && self.pieces.is_empty()
    }

    /// What is still read.
    pub(super) fn reading(&self) -> Reading<'_> {
        let behind = self.pieces.blobs();
        if behind.len() > NAMED_MAX {
            return Reading::Anything;
        }
        let pieces = self.fetches.iter().map(|fetch| &fetch.piece).chain(&self.held_back);
        Reading::Blobs(behind.chain(pieces.map(|piece| &piece.chunk.blob)).collect())
    }

    /// When a store is to be asked next, if nothing comes before.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let waiting = self.fetches.iter().filter(|fetch| fetch.ready.is_none());
        waiting.filter(|fetch| fetch.has_next()).map(|fetch| fetch.next_at).min()
    }

    /// The next verified bytes, if they are there.
    pub(super) fn next_ready(&mut self) -> Option<Bytes> {
        let bytes = self.fetches.front_mut()?.ready.take()?;
        self.fetches.pop_front();
        self.fetching -= bytes.len() as u64;
        Some(bytes)
    }

    /// Ask for what a window allows of which so many bytes are in use elsewhere.
    pub(super) fn ask(&mut self, cx: &mut Context<'_>, elsewhere: u64, window: u64) {
        while let Some(piece) = self.held_back.take().or_else(|| self.pieces.next()) {
            let held = self.fetching + elsewhere;
            // A piece alone goes even if it is larger than the window: chunks of another cut.
            if held > 0 && held + piece.take > window {
                self.held_back = Some(piece);
                break;
            }
            self.fetching += piece.take;
            self.left = self.left.saturating_sub(piece.take);
            let mut fetch = Fetch::new(cx, piece);
            fetch.ask_next(cx);
            self.fetches.push_back(fetch);
        }
    }

    /// A store has answered, or not.
    pub(super) fn data(
        &mut self,
        cx: &mut Context<'_>,
        call: CallId,
        store: StoreId,
        result: Result<(Bytes, Vec<Checksum>), ChunkFailure>,
    ) {
        let Some(fetch) = self.fetches.iter_mut().find(|fetch| fetch.calls.contains(&call)) else {
            return;
        };
        fetch.calls.retain(|open| *open != call);
        let verified = match result {
            Ok((bytes, checksums)) => {
                let verified = fetch.piece.verified(&bytes, &checksums);
                if verified.is_none() {
                    cx.shared.counts.copies_damaged += 1;
                    fetch.is_bad(store);
                }
                verified
            }
            Err(ChunkFailure::Refused(ChunkError::Damaged)) => {
                cx.shared.counts.copies_damaged += 1;
                fetch.is_bad(store);
                None
            }
            Err(ChunkFailure::Refused(ChunkError::Missing)) => {
                cx.shared.counts.copies_missing += u64::from(fetch.is_bad(store));
                None
            }
            Err(_) => {
                cx.shared.chunks.failed(store, cx.now);
                None
            }
        };
        match verified {
            Some(bytes) => {
                cx.shared.chunks.succeeded(store);
                fetch.ready = Some(bytes);
                for bad in core::mem::take(&mut fetch.bad) {
                    cx.hint_now(bad, fetch.piece.chunk, store);
                }
                for call in core::mem::take(&mut fetch.calls) {
                    cx.forget_chunk_call(call);
                }
            }
            None if fetch.asked < fetch.stores.len() => fetch.ask_next(cx),
            None if fetch.calls.is_empty() => fetch.new_round(cx),
            None => {}
        }
    }

    /// Time has passed.
    pub(super) fn wake(&mut self, cx: &mut Context<'_>) {
        for fetch in &mut self.fetches {
            if fetch.ready.is_none() && fetch.has_next() && fetch.next_at <= cx.now {
                cx.shared.counts.hedges += u64::from(!fetch.calls.is_empty());
                if !fetch.calls.is_empty() {
                    probe!(HedgedRead);
                }
                if let Some((store, at)) = fetch.last
                    && !fetch.calls.is_empty()
                    && !cx.shared.chunks.was_heard_since(store, at)
                {
                    // It says nothing at all: what comes next need not wait for it too.
                    cx.shared.chunks.failed(store, cx.now);
                }
                fetch.ask_next(cx);
            }
        }
    }
}

impl Fetch {
    fn new(cx: &Context<'_>, piece: Piece) -> Self {
        let (stores, owners) = order(cx, &piece);
        Self {
            stores,
            owners,
            piece,
            asked: 0,
            calls: Vec::new(),
            bad: Vec::new(),
            last: None,
            next_at: cx.now,
            rounds: 0,
            ready: None,
        }
    }

    /// The copy of a store is missing or damaged. Whether it should be there: a former owner keeps what it
    /// had, and needs no more.
    fn is_bad(&mut self, store: StoreId) -> bool {
        let owns = self.stores.iter().take(self.owners).any(|owner| *owner == store);
        if owns {
            self.bad.push(store);
        }
        owns
    }

    fn has_next(&self) -> bool {
        self.asked < self.stores.len()
    }

    /// Ask the next store.
    fn ask_next(&mut self, cx: &mut Context<'_>) {
        let Some(store) = self.stores.get(self.asked).copied() else { return };
        self.asked += 1;
        let Piece { chunk, first_block, blocks, .. } = self.piece;
        let session = cx.shared.session;
        let read = ChunkRead { call: CallId(0), session, chunk, first_block, blocks };
        self.calls.push(cx.read_chunk(store, read));
        self.last = Some((store, cx.now));
        self.next_at = match buggify!(EarlyHedge) {
            false => cx.now + cx.config().hedge_after,
            true => cx.now,
        };
    }

    /// All stores failed: after a while they are asked again.
    fn new_round(&mut self, cx: &mut Context<'_>) {
        (self.stores, self.owners) = order(cx, &self.piece);
        self.asked = 0;
        self.bad.clear();
        self.next_at = cx.now + backoff(&mut cx.shared.rng, self.rounds);
        self.rounds = self.rounds.saturating_add(1);
    }
}

/// The own zone first; without one, by turns; stores that failed of late last. Then those that kept the
/// chunk by a former layout, as long as those that do now may not have it yet. And how many do now.
fn order(cx: &Context<'_>, piece: &Piece) -> (Vec<StoreId>, usize) {
    let map = cx.map();
    let mut places: Vec<Place> = map.places(piece.chunk);
    if !places.is_empty() {
        let turn = usize::try_from(map.group_of(piece.chunk).0).unwrap_or(0) % places.len();
        places.rotate_left(turn);
    }
    places.sort_by_key(|place| {
        let is_sick = !cx.shared.chunks.is_healthy(place.store, cx.now);
        (is_sick, Some(place.zone) != cx.config().zone)
    });
    let (owners, former) = (places.len(), map.former_places(piece.chunk));
    (places.into_iter().chain(former).map(|place| place.store).collect(), owners)
}
