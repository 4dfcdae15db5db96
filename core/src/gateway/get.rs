//! GetObject.
//!
//! ```text
//! LookingUp ──bucket──▶ Reading ──record──▶ Admission ──budget──▶ Sending ──all sent──▶ end
//!     ▲                    │  └─inline─────────────────────────────────────────────────▶ end
//!     └────────────────────┘ once, if the range does not know the bucket's id
//! ```
//!
//! Bytes go out in order. What has been asked of stores, has come and waits for its turn, or has
//! gone out and was not taken by the client stays within a window. Each piece is asked of one zone,
//! the own one if there is one, and of the next when the first is slow, fails, or gives blocks that
//! do not verify: no unverified byte goes out.

use std::collections::VecDeque;

use bytes::Bytes;

use super::answers;
use super::buckets::{BUCKET_TAG, BucketLookup};
use super::calls::backoff;
use super::context::{ChunkFailure, Context, Input};
use super::pieces::{Piece, Pieces};
use super::simple::object_reply;
use crate::effects::Effect;
use crate::fair::Admission;
use crate::hash::Checksum;
use crate::ids::{BucketId, CallId, StoreId};
use crate::message::{ChunkError, ChunkRead};
use crate::object::{Body, Target};
use crate::placement::Place;
use crate::range::command::{Read, ReadReply};
use crate::request::{ApiError, GetRequest, Reply};
use crate::time::Instant;

/// Chunks of one reply in memory: asked for, waiting for their turn, or not taken by the client.
const WINDOW_CHUNKS: u64 = 4;

/// A GetObject request.
#[derive(Debug)]
pub(super) enum Get {
    /// The root range is asked for the bucket.
    LookingUp(Head),
    /// The range is asked for the object.
    Reading(Head),
    /// The budget has no room yet.
    Admission {
        /// The reply to come.
        reply: Reply,
        /// The body to come.
        pieces: Pieces,
        /// Bytes of it.
        length: u64,
    },
    /// The reply's head is out, its body follows.
    Sending(Box<Sending>),
}

/// What is asked.
#[derive(Debug)]
pub(super) struct Head {
    lookup: BucketLookup,
    request: Box<GetRequest>,
}

/// A body that goes out.
#[derive(Debug)]
pub(super) struct Sending {
    pieces: Pieces,
    /// The piece that is next but finds the window full.
    held_back: Option<Piece>,
    /// In order of the object's bytes.
    fetches: VecDeque<Fetch>,
    window: u64,
    /// Bytes that have not been asked for.
    left: u64,
    /// Bytes of pieces that are being fetched or wait for their turn.
    fetching: u64,
    /// Bytes that are out and not taken.
    untaken: u64,
}

#[derive(Debug)]
struct Fetch {
    piece: Piece,
    /// In the order in which they are asked.
    stores: Vec<StoreId>,
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

impl Get {
    /// Begin.
    pub(super) fn new(cx: &mut Context<'_>, request: GetRequest) -> Self {
        let lookup = BucketLookup::new(request.path.bucket.clone());
        let mut head = Head { lookup, request: Box::new(request) };
        match head.lookup.begin(cx) {
            Some(bucket) => head.read(cx, bucket.id),
            None => Self::LookingUp(head),
        }
    }

    /// Go on; `None` if the request has come to its end.
    pub(super) fn on(self, cx: &mut Context<'_>, input: Input) -> Option<Self> {
        match (self, input) {
            (Self::LookingUp(head), Input::Answer { tag: BUCKET_TAG, result }) => {
                match head.lookup.answered(cx, result) {
                    Ok(bucket) => Some(head.read(cx, bucket.id)),
                    Err(error) => refuse(cx, error),
                }
            }
            (Self::Reading(head), Input::Answer { tag: 0, result }) => {
                match answers::read(result) {
                    Ok(reply) => head.found(cx, reply),
                    Err(error) => refuse(cx, error),
                }
            }
            (Self::Admission { reply, pieces, length }, Input::Admitted(window)) => {
                Sending::begin(cx, reply, pieces, length, window)
            }
            (Self::Admission { .. }, Input::Displaced) => refuse(cx, answers::crowded()),
            (Self::Sending(mut sending), input) => {
                match input {
                    Input::Taken(length) => {
                        sending.untaken = sending.untaken.saturating_sub(length);
                    }
                    Input::Data { call, store, result } => sending.data(cx, call, store, result),
                    Input::Wake => sending.wake(cx),
                    _ => {}
                }
                sending.advance(cx)
            }
            (waiting, _) => Some(waiting),
        }
    }

    /// When there is something to do even if nothing happens.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let Self::Sending(sending) = self else { return None };
        let waiting = sending.fetches.iter().filter(|fetch| fetch.ready.is_none());
        waiting.filter(|fetch| fetch.has_next()).map(|fetch| fetch.next_at).min()
    }

    /// Whether the client's taking is what is missing.
    pub(super) fn waits_for_client(&self) -> bool {
        matches!(self, Self::Sending(sending) if sending.fetches.is_empty())
    }

    /// Whether the budget is what is missing.
    pub(super) fn waits_for_budget(&self) -> bool {
        matches!(self, Self::Admission { .. })
    }

    /// Whether the reply's head is out.
    pub(super) fn has_replied(&self) -> bool {
        matches!(self, Self::Sending(_))
    }
}

impl Head {
    fn read(self, cx: &mut Context<'_>, bucket: BucketId) -> Get {
        let key = self.request.path.key.clone();
        let target = Target { tenant: self.lookup.path().tenant, bucket, key };
        cx.read(0, Read::Object { target, with_body: true });
        Get::Reading(self)
    }

    fn found(mut self, cx: &mut Context<'_>, reply: ReadReply) -> Option<Get> {
        let (record, inline) = match reply {
            ReadReply::Object(Some(found)) => found,
            ReadReply::Object(None) => return refuse(cx, ApiError::NoSuchKey),
            ReadReply::NoSuchBucket if self.lookup.unknown(cx) => {
                return Some(Get::LookingUp(self));
            }
            ReadReply::NoSuchBucket => return refuse(cx, ApiError::NoSuchBucket),
            _ => return refuse(cx, answers::unexpected()),
        };
        let (reply, span) = match object_reply(&self.request, record.clone()) {
            Ok(found) => found,
            Err(error) => return refuse(cx, error),
        };
        let damaged = || ApiError::Internal("the object's record contradicts itself".to_owned());
        let parts = match &record.body {
            Body::Inline => {
                let Some(bytes) = inline.filter(|bytes| bytes.len() as u64 == record.length) else {
                    return refuse(cx, damaged());
                };
                let first = usize::try_from(span.first).unwrap_or(usize::MAX);
                let length = usize::try_from(span.length).unwrap_or(usize::MAX);
                cx.reply(Ok(reply));
                if length > 0 {
                    let bytes = bytes.slice(first..first + length);
                    cx.effect(Effect::BodyOut { id: cx.id, bytes });
                }
                cx.effect(Effect::BodyEnd { id: cx.id });
                return None;
            }
            Body::Blobs(parts) => parts,
        };
        let Ok(pieces) = Pieces::new(&record, parts, span) else {
            return refuse(cx, damaged());
        };
        let (chunk, length) = (u64::from(cx.config().cut.chunk), span.length);
        let most = (chunk * WINDOW_CHUNKS).min(length);
        match cx.reserve(self.lookup.path().tenant, chunk, most) {
            Admission::Granted(window) => Sending::begin(cx, reply, pieces, length, window),
            Admission::Queued => Some(Get::Admission { reply, pieces, length }),
            Admission::Refused => refuse(cx, answers::crowded()),
        }
    }
}

impl Sending {
    fn begin(
        cx: &mut Context<'_>,
        reply: Reply,
        pieces: Pieces,
        left: u64,
        window: u64,
    ) -> Option<Get> {
        cx.reply(Ok(reply));
        let fetches = VecDeque::new();
        Box::new(Self { pieces, held_back: None, fetches, window, left, fetching: 0, untaken: 0 })
            .advance(cx)
    }

    /// Send what is ready and ask for what the window allows.
    fn advance(mut self: Box<Self>, cx: &mut Context<'_>) -> Option<Get> {
        while self.fetches.front().is_some_and(|fetch| fetch.ready.is_some()) {
            let Some(bytes) = self.fetches.pop_front().and_then(|fetch| fetch.ready) else { break };
            self.fetching -= bytes.len() as u64;
            self.untaken += bytes.len() as u64;
            cx.effect(Effect::BodyOut { id: cx.id, bytes });
        }
        while let Some(piece) = self.held_back.take().or_else(|| self.pieces.next()) {
            let held = self.fetching + self.untaken;
            // A piece alone goes even if it is larger than the window: chunks of another cut.
            if held > 0 && held + piece.take > self.window {
                self.held_back = Some(piece);
                break;
            }
            self.fetching += piece.take;
            self.left = self.left.saturating_sub(piece.take);
            let mut fetch = Fetch::new(cx, piece);
            fetch.ask_next(cx);
            self.fetches.push_back(fetch);
        }
        let needed = self.left + self.fetching + self.untaken;
        if needed < self.window {
            // Near its end a body gives back what it had.
            self.window = needed;
            cx.needs_only(needed);
        }
        // Bytes that the client has not taken are in memory still: the reservation stands for them.
        if self.fetches.is_empty() && self.held_back.is_none() && self.untaken == 0 {
            cx.effect(Effect::BodyEnd { id: cx.id });
            return None;
        }
        Some(Get::Sending(self))
    }

    fn data(
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
                    fetch.bad.push(store);
                }
                verified
            }
            Err(ChunkFailure::Refused(ChunkError::Damaged)) => {
                cx.shared.counts.copies_damaged += 1;
                fetch.bad.push(store);
                None
            }
            Err(ChunkFailure::Refused(ChunkError::Missing)) => {
                cx.shared.counts.copies_missing += 1;
                fetch.bad.push(store);
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

    fn wake(&mut self, cx: &mut Context<'_>) {
        for fetch in &mut self.fetches {
            if fetch.ready.is_none() && fetch.has_next() && fetch.next_at <= cx.now {
                cx.shared.counts.hedges += u64::from(!fetch.calls.is_empty());
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
        Self {
            stores: order(cx, &piece),
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
        self.next_at = cx.now + cx.config().hedge_after;
    }

    /// All stores failed: after a while they are asked again.
    fn new_round(&mut self, cx: &mut Context<'_>) {
        self.stores = order(cx, &self.piece);
        self.asked = 0;
        self.bad.clear();
        self.next_at = cx.now + backoff(&mut cx.shared.rng, self.rounds);
        self.rounds = self.rounds.saturating_add(1);
    }
}

/// The own zone first; without one, by turns; stores that failed of late last.
fn order(cx: &Context<'_>, piece: &Piece) -> Vec<StoreId> {
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
    places.into_iter().map(|place| place.store).collect()
}

fn refuse(cx: &mut Context<'_>, error: ApiError) -> Option<Get> {
    cx.reply(Err(error));
    None
}
