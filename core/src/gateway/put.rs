//! PutObject and UploadPart.
//!
//! ```text
//! LookingUp ──bucket──▶ Admission ──budget──▶ Body ──verified end, chunks safe──▶ Commit ──▶ reply
//!                                                      ▲          │  ▲
//!                                      Verifying ◀─────┼──────────┤  │ the cluster map changed
//!                                          └───────────┘          │  │
//!                                              Rechecking ◀───────┘──┘ the bucket's id is unknown
//! ```
//!
//! A body of at most `inline_max` bytes goes into the command; a part never does. Anything else is
//! cut into chunks, each sent to its store in every zone as soon as it is full. A chunk is safe when
//! two zones have synced it; the object is committed when all chunks are safe. A third copy that is
//! late or fails is left to repair, with a hint to the store that missed it. A body whose chunks were
//! placed under an older cluster map is verified under the present one before it is committed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};

use super::answers;
use super::buckets::{BUCKET_TAG, BucketLookup};
use super::calls::backoff;
use super::context::{ChunkFailure, Context, Input};
use super::verify::{Stored, Verify, ZONES_SAFE};
use crate::cluster::{ClusterMap, Cut};
use crate::effects::Effect;
use crate::fair::Admission;
use crate::hash::Checksum;
use crate::ids::{BlobId, BucketId, CallId, ChunkId, MapEpoch, Order, StoreId};
use crate::message::{Answer, ChunkError, ChunkWrite};
use crate::object::{ETag, NewBody, NewObject, ObjectKey, PUT_BYTES_MAX, Target};
use crate::range::command::{CommandBody, NewPart, Outcome, Rejection};
use crate::request::{ApiError, BodyDigest, ObjectPath, PartRequest, PutRequest, Reply};
use crate::time::Instant;

/// Chunks of one put in memory: one that is gathered, the others on their way.
const WINDOW_CHUNKS: u64 = 4;

/// What a put is for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// An object.
    Object(Box<PutRequest>),
    /// A part of an upload.
    Part(Box<PartRequest>),
}

/// A put.
#[derive(Debug)]
pub(super) enum Put {
    /// The root range is asked for the bucket.
    LookingUp(Head),
    /// The budget has no room yet.
    Admission(Head, BucketId),
    /// The body comes in and goes out.
    Body(Box<Upload>),
    /// Chunks are short of copies under the present map.
    Verifying(Head, Commit, Verify),
    /// The command was refused: the range knows a newer map, which is asked for.
    Outdated(Head, Commit),
    /// The command is on its way.
    Commit(Head, Commit),
    /// The range does not know the bucket's id; the root range is asked.
    Rechecking(Head, Commit),
}

/// What stays the same over a put.
#[derive(Debug)]
pub(super) struct Head {
    lookup: BucketLookup,
    key: ObjectKey,
    purpose: Purpose,
    length: Option<u64>,
    /// Whether the body is another object's, and not the client's.
    copied: bool,
    /// An empty body may end before any of it was asked for.
    early_end: Option<BodyDigest>,
}

/// What is committed.
#[derive(Debug)]
pub(super) struct Commit {
    bucket: BucketId,
    length: u64,
    digest: BodyDigest,
    body: Stuff,
    /// The map under which it was last submitted.
    epoch: MapEpoch,
}

/// The bytes of a body.
#[derive(Debug)]
enum Stuff {
    Inline(Bytes),
    Chunks(Stored),
}

/// A body on its way.
#[derive(Debug)]
pub(super) struct Upload {
    head: Head,
    bucket: BucketId,
    /// Bytes that may be in memory or asked for.
    window: u64,
    /// Bytes that a copy may have in memory beside them until its body has ended.
    beside: u64,
    /// Asked for and not yet come.
    credit: u64,
    received: u64,
    /// The chunk that is being filled.
    gathered: BytesMut,
    blob: Option<BlobId>,
    next_chunk: u32,
    /// Chunks that are not safe yet.
    unsafe_chunks: BTreeMap<u32, Chunk>,
    unsafe_bytes: u64,
    /// Who has acknowledged each chunk.
    holders: BTreeMap<u32, BTreeSet<StoreId>>,
    ended: Option<BodyDigest>,
}

#[derive(Debug)]
struct Chunk {
    data: Bytes,
    checksums: Vec<Checksum>,
    copies: Vec<Copy>,
    pauses: u32,
}

#[derive(Debug)]
struct Copy {
    store: StoreId,
    state: CopyState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CopyState {
    Sent(CallId),
    Stored,
    RetryAt(Instant),
    /// The store lags behind or is full, and others are asked first.
    LeftOut,
    Failed(ChunkError),
}

impl Put {
    /// Begin; `None` if the request has been answered.
    pub(super) fn new(cx: &mut Context<'_>, purpose: Purpose) -> Option<Self> {
        let (ObjectPath { bucket, key }, length) = match &purpose {
            Purpose::Object(request) => (request.path.clone(), request.length),
            Purpose::Part(request) => (request.path.clone(), request.length),
        };
        if length.is_some_and(|length| length > PUT_BYTES_MAX) {
            return refuse(cx, ApiError::EntityTooLarge);
        }
        let lookup = BucketLookup::new(bucket);
        let mut head = Head { lookup, key, purpose, length, copied: false, early_end: None };
        match head.lookup.begin(cx) {
            Some(bucket) => Self::reserve(cx, head, bucket.id),
            None => Some(Self::LookingUp(head)),
        }
    }

    /// Begin a put whose body, of `length` bytes, is read from another object: handed in as
    /// [`Self::credit`] allows. `room` is what was reserved of [`copy_room`].
    pub(super) fn copied(
        cx: &mut Context<'_>,
        purpose: Purpose,
        lookup: BucketLookup,
        bucket: BucketId,
        length: u64,
        room: u64,
    ) -> Option<Self> {
        let key = match &purpose {
            Purpose::Object(request) => request.path.key.clone(),
            Purpose::Part(request) => request.path.key.clone(),
        };
        let beside = beside(cx, length);
        let length = Some(length);
        let head = Head { lookup, key, purpose, length, copied: true, early_end: None };
        Upload::begin(cx, head, bucket, room.saturating_sub(beside), beside)
    }

    /// Bytes of the body that may be handed in.
    pub(super) fn credit(&self) -> u64 {
        match self {
            Self::Body(upload) => upload.credit,
            _ => 0,
        }
    }

    /// Bytes of the body in memory, while it comes in.
    pub(super) fn bytes_in_hand(&self) -> u64 {
        match self {
            Self::Body(upload) => upload.gathered.len() as u64 + upload.unsafe_bytes,
            _ => 0,
        }
    }

    /// Go on; `None` if the request has been answered.
    pub(super) fn on(self, cx: &mut Context<'_>, input: Input) -> Option<Self> {
        match (self, input) {
            (Self::LookingUp(head), Input::Answer { tag: BUCKET_TAG, result }) => {
                match head.lookup.answered(cx, result) {
                    Ok(bucket) => Self::reserve(cx, head, bucket.id),
                    Err(error) => refuse(cx, error),
                }
            }
            (Self::LookingUp(mut head), Input::BodyEnd(digest)) => {
                head.early_end = Some(digest);
                Some(Self::LookingUp(head))
            }
            (Self::Admission(mut head, bucket), Input::BodyEnd(digest)) => {
                head.early_end = Some(digest);
                Some(Self::Admission(head, bucket))
            }
            (Self::Admission(head, bucket), Input::Admitted(window)) => {
                Upload::begin(cx, head, bucket, window, 0)
            }
            (Self::Admission(..), Input::Displaced) => refuse(cx, answers::crowded()),
            (Self::Body(upload), input) => upload.on(cx, input),
            (
                Self::Commit(head, commit),
                Input::Answer {
                    tag: 0,
                    result: Ok(Answer::Applied(Outcome::Rejected(Rejection::StaleEpoch))),
                },
            ) => Some(Self::outdated(cx, head, commit)),
            (Self::Outdated(head, commit), Input::NewMap) => Some(Self::outdated(cx, head, commit)),
            (Self::Verifying(head, commit, _), Input::NewMap) => {
                Some(Self::verify(cx, head, commit))
            }
            (Self::Verifying(head, mut commit, mut verify), input) => {
                if let (Input::Written { number, store, call, result }, Stuff::Chunks(stored)) =
                    (input, &mut commit.body)
                {
                    if result.is_ok() {
                        stored.has(number, store);
                    }
                    verify.written(cx, stored, number, call);
                }
                Some(Self::verifying(cx, head, commit, verify))
            }
            (Self::Commit(head, commit), Input::Answer { tag: 0, result }) => {
                Self::committed(cx, head, commit, answers::command(result))
            }
            (Self::Rechecking(head, commit), Input::Answer { tag: BUCKET_TAG, result }) => {
                match head.lookup.answered(cx, result) {
                    Ok(bucket) => Self::rechecked(cx, head, commit, bucket.id),
                    Err(error) => refuse(cx, error),
                }
            }
            // A third copy may end after the commit has begun.
            (mut waiting, Input::Written { number, store, result, .. }) => {
                match (result, &mut waiting) {
                    (Ok(()), Self::Commit(_, commit) | Self::Outdated(_, commit)) => {
                        if let Stuff::Chunks(stored) = &mut commit.body {
                            stored.has(number, store);
                        }
                    }
                    (Ok(()), _) => {}
                    (Err(_), _) => cx.shared.counts.copies_missing += 1,
                }
                Some(waiting)
            }
            (waiting, _) => Some(waiting),
        }
    }

    /// When there is something to do even if nothing happens.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let upload = match self {
            Self::Body(upload) => upload,
            Self::Verifying(_, _, verify) => return verify.wake_at(),
            _ => return None,
        };
        let copies = upload.unsafe_chunks.values().flat_map(|chunk| &chunk.copies);
        copies
            .filter_map(|copy| match copy.state {
                CopyState::RetryAt(at) => Some(at),
                _ => None,
            })
            .min()
    }

    /// Whether the client's bytes are what is missing.
    pub(super) fn waits_for_client(&self) -> bool {
        matches!(self, Self::Body(upload)
            if upload.ended.is_none() && upload.unsafe_chunks.is_empty())
    }

    /// Whether the budget is what is missing.
    pub(super) fn waits_for_budget(&self) -> bool {
        matches!(self, Self::Admission(..))
    }

    fn reserve(cx: &mut Context<'_>, head: Head, bucket: BucketId) -> Option<Self> {
        let (tenant, window) = (head.lookup.path().tenant, head.window(cx));
        // With one chunk it still gets on: that goes out before the next comes in.
        match cx.reserve(tenant, u64::from(cx.config().cut.chunk), window) {
            Admission::Granted(window) => Upload::begin(cx, head, bucket, window, 0),
            Admission::Queued => Some(Self::Admission(head, bucket)),
            Admission::Refused => refuse(cx, answers::crowded()),
        }
    }

    /// Commit what is safe in two zones under the present map; see to the rest first.
    fn verify(cx: &mut Context<'_>, head: Head, commit: Commit) -> Self {
        let verify = match &commit.body {
            Stuff::Inline(_) => Verify::default(),
            Stuff::Chunks(stored) => Verify::new(cx.map(), stored),
        };
        Self::verifying(cx, head, commit, verify)
    }

    fn verifying(cx: &mut Context<'_>, head: Head, mut commit: Commit, mut verify: Verify) -> Self {
        if let Stuff::Chunks(stored) = &commit.body {
            verify.advance(cx, stored);
        }
        if !verify.is_done() {
            probe!(PutMadeGood);
            return Self::Verifying(head, commit, verify);
        }
        commit.epoch = cx.map().epoch;
        cx.command(0, head.command(&commit, cx.map()));
        Self::Commit(head, commit)
    }

    /// The range refused the command as placed under an old map. It took no effect, so that it may be
    /// submitted again, as another command, when the chunks are safe under the newer map.
    fn outdated(cx: &mut Context<'_>, head: Head, commit: Commit) -> Self {
        probe!(PutOutdated);
        if cx.map().epoch > commit.epoch {
            return Self::verify(cx, head, commit);
        }
        cx.want_newer_map();
        Self::Outdated(head, commit)
    }

    fn committed(
        cx: &mut Context<'_>,
        mut head: Head,
        commit: Commit,
        outcome: Result<Reply, Option<ApiError>>,
    ) -> Option<Self> {
        let result = match outcome {
            Ok(reply @ (Reply::Put { .. } | Reply::Copied { .. })) => Ok(reply),
            Ok(_) => Err(answers::unexpected()),
            Err(Some(error)) => Err(error),
            Err(None) if head.lookup.unknown(cx) => return Some(Self::Rechecking(head, commit)),
            Err(None) => Err(ApiError::NoSuchBucket),
        };
        if let (Ok(_), Stuff::Chunks(stored)) = (&result, &commit.body) {
            cx.shared.under_way.committed(stored.blob);
            // What is still on its way may fail later, and is hinted then.
            let on_their_way = cx.shared.chunks.writes();
            for (chunk, store) in stored.missing(cx.map()) {
                if !on_their_way.contains(&(chunk, store)) {
                    cx.shared.hints.missed(store, chunk);
                }
            }
        }
        cx.reply(result);
        None
    }

    fn rechecked(
        cx: &mut Context<'_>,
        head: Head,
        mut commit: Commit,
        bucket: BucketId,
    ) -> Option<Self> {
        // Chunks are written with their owner, so that they cannot follow the name to a new bucket.
        if matches!(commit.body, Stuff::Chunks(_)) && bucket != commit.bucket {
            let reason = "the bucket was made anew while the body came in; nothing was done";
            return refuse(cx, ApiError::SlowDown(reason.to_owned()));
        }
        commit.bucket = bucket;
        Some(Self::verify(cx, head, commit))
    }
}

impl Head {
    /// The window of a body of this length. It has one byte more than the body, so that a body that
    /// goes on is noticed, and the edge never waits for credit only to see the end.
    fn window(&self, cx: &Context<'_>) -> u64 {
        let whole = u64::from(cx.config().cut.chunk) * WINDOW_CHUNKS;
        self.length.map_or(whole, |length| whole.min(length + 1))
    }

    fn target(&self, bucket: BucketId) -> Target {
        Target { tenant: self.lookup.path().tenant, bucket, key: self.key.clone() }
    }

    fn command(&self, commit: &Commit, map: &ClusterMap) -> CommandBody {
        let target = self.target(commit.bucket);
        let Commit { length, digest, body, .. } = commit;
        let (length, checksum) = (*length, digest.checksum.clone());
        let body = match body {
            Stuff::Inline(bytes) => NewBody::Inline(bytes.clone()),
            Stuff::Chunks(stored) => NewBody::Blob(stored.reference(map)),
        };
        let etag = ETag { md5: digest.md5, parts: 0 };
        match &self.purpose {
            Purpose::Object(request) => {
                let PutRequest { owner, attributes, tags, conditions, .. } = request.as_ref();
                let object = Box::new(NewObject {
                    length,
                    etag,
                    checksum,
                    owner: owner.clone(),
                    attributes: attributes.clone(),
                    tags: tags.clone(),
                    body,
                });
                let conditions = conditions.clone();
                match self.copied {
                    false => CommandBody::PutObject { target, conditions, object },
                    true => CommandBody::CopyObject { target, conditions, object },
                }
            }
            Purpose::Part(request) => {
                let (upload, number): (Order, u16) = (request.upload, request.number);
                let part = Box::new(NewPart { length, etag, checksum, body });
                match self.copied {
                    false => CommandBody::PutPart { target, upload, number, part },
                    true => CommandBody::CopyPart { target, upload, number, part },
                }
            }
        }
    }

    /// Whether a body of `length` bytes goes into the command.
    fn is_inline(&self, cx: &Context<'_>, length: u64) -> bool {
        match self.purpose {
            Purpose::Object(_) => {
                let is_small = length <= u64::from(cx.config().cut.inline_max);
                is_small && (length == 0 || !buggify!(ChunkForInline))
            }
            Purpose::Part(_) => length == 0,
        }
    }
}

impl Upload {
    fn begin(
        cx: &mut Context<'_>,
        mut head: Head,
        bucket: BucketId,
        window: u64,
        beside: u64,
    ) -> Option<Put> {
        let early_end = head.early_end.take();
        let mut upload = Box::new(Self {
            window,
            beside,
            head,
            bucket,
            credit: 0,
            received: 0,
            gathered: BytesMut::new(),
            blob: None,
            next_chunk: 0,
            unsafe_chunks: BTreeMap::new(),
            unsafe_bytes: 0,
            holders: BTreeMap::new(),
            ended: None,
        });
        upload.ask(cx);
        match early_end {
            None => Some(Put::Body(upload)),
            Some(digest) => upload.on(cx, Input::BodyEnd(digest)),
        }
    }

    fn on(mut self: Box<Self>, cx: &mut Context<'_>, input: Input) -> Option<Put> {
        let step = match input {
            Input::Body(bytes) => self.body(cx, &bytes),
            Input::BodyEnd(digest) => self.body_end(cx, digest),
            Input::Written { number, store, call, result } => {
                self.written(cx, number, store, call, result)
            }
            Input::Wake => {
                self.retry(cx);
                Ok(())
            }
            _ => Ok(()),
        };
        match step {
            Err(error) => refuse(cx, error),
            Ok(()) => self.advance(cx),
        }
    }

    /// Ask for as much as the window allows.
    fn ask(&mut self, cx: &mut Context<'_>) {
        let held = self.gathered.len() as u64 + self.unsafe_bytes + self.credit;
        let mut more = self.window.saturating_sub(held);
        if let Some(length) = self.head.length {
            let to_come = (length + 1).saturating_sub(self.received + self.credit);
            more = more.min(to_come);
            if held + to_come < self.window {
                // Near its end a body gives back what it had.
                self.window = held + to_come;
                cx.needs_only(self.window + self.beside);
            }
        }
        if !self.head.copied && buggify!(SmallCredit) {
            more = more.min(256);
        }
        if more > 0 && self.ended.is_none() {
            self.credit += more;
            if !self.head.copied {
                cx.effect(Effect::NeedBody { id: cx.id, bytes: more });
            }
        }
    }

    fn body(&mut self, cx: &mut Context<'_>, bytes: &Bytes) -> Result<(), ApiError> {
        let length = bytes.len() as u64;
        if length > self.credit || self.ended.is_some() {
            return Err(ApiError::Internal("more body came than was asked for".to_owned()));
        }
        self.credit -= length;
        self.received += length;
        if self.head.length.is_some_and(|declared| self.received > declared) {
            let reason = "the body is longer than was declared";
            return Err(ApiError::InvalidArgument(reason.to_owned()));
        }
        if self.received > PUT_BYTES_MAX {
            return Err(ApiError::EntityTooLarge);
        }
        let chunk = chunk_bytes(cx);
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            if self.gathered.is_empty() && rest.len() >= chunk {
                // What a copy reads is in one piece already.
                self.flush(cx, rest.split_to(chunk));
                continue;
            }
            if self.gathered.capacity() == 0 {
                let expected = self.head.length.unwrap_or(u64::MAX).saturating_sub(self.received);
                let expected = usize::try_from(expected).unwrap_or(usize::MAX);
                self.gathered.reserve(chunk.min(expected.saturating_add(rest.len())));
            }
            // The one copy of the data path: what the network delivers comes in pieces of any size,
            // and disks and checksums want chunks in one piece.
            let now = rest.split_to(rest.len().min(chunk - self.gathered.len()));
            self.gathered.extend_from_slice(&now);
            if self.gathered.len() == chunk {
                self.flush_gathered(cx);
            }
        }
        Ok(())
    }

    fn body_end(&mut self, cx: &mut Context<'_>, digest: BodyDigest) -> Result<(), ApiError> {
        if self.head.length.is_some_and(|declared| self.received < declared) {
            return Err(ApiError::IncompleteBody);
        }
        if self.ended.is_none() {
            self.ended = Some(digest);
            self.credit = 0;
            cx.needs_only(self.gathered.len() as u64 + self.unsafe_bytes);
            if !self.head.is_inline(cx, self.received) && !self.gathered.is_empty() {
                self.flush_gathered(cx);
            }
        }
        Ok(())
    }

    /// Send the gathered bytes as a chunk.
    fn flush_gathered(&mut self, cx: &mut Context<'_>) {
        let data = core::mem::take(&mut self.gathered).freeze();
        self.flush(cx, data);
    }

    /// Send these bytes as a chunk to each zone.
    fn flush(&mut self, cx: &mut Context<'_>, data: Bytes) {
        let owner = || self.head.target(self.bucket);
        let blob = *self.blob.get_or_insert_with(|| cx.new_blob(owner()));
        let id = ChunkId { blob, number: self.next_chunk };
        self.next_chunk += 1;
        let block = usize::try_from(cx.config().cut.block).expect("a block fits in memory");
        let checksums = (0_u32..)
            .zip(data.chunks(block))
            .map(|(number, bytes)| Checksum::of_block(id, number, bytes))
            .collect();
        let places = cx.map().places(id);
        let left_out = cx.shared.chunks.left_out(places.iter().map(|place| place.store), cx.now);
        let copies = places
            .iter()
            .map(|place| {
                let is_left_out = left_out.contains(&place.store);
                let state =
                    if is_left_out { CopyState::LeftOut } else { CopyState::RetryAt(cx.now) };
                Copy { store: place.store, state }
            })
            .collect();
        self.unsafe_bytes += data.len() as u64;
        self.unsafe_chunks.insert(id.number, Chunk { data, checksums, copies, pauses: 0 });
        self.retry(cx);
    }

    /// Send the copies whose pause is over.
    fn retry(&mut self, cx: &mut Context<'_>) {
        let Some(blob) = self.blob else { return };
        let owner = self.head.target(self.bucket);
        for (number, chunk) in &mut self.unsafe_chunks {
            for copy in &mut chunk.copies {
                if !matches!(copy.state, CopyState::RetryAt(at) if at <= cx.now) {
                    continue;
                }
                let write = ChunkWrite {
                    call: CallId(0),
                    chunk: ChunkId { blob, number: *number },
                    owner: owner.clone(),
                    epoch: cx.map().epoch,
                    block_size: cx.config().cut.block,
                    data: chunk.data.clone(),
                    checksums: chunk.checksums.clone(),
                };
                copy.state = CopyState::Sent(cx.write_chunk(copy.store, write));
            }
        }
    }

    fn written(
        &mut self,
        cx: &mut Context<'_>,
        number: u32,
        store: StoreId,
        call: CallId,
        result: Result<(), ChunkFailure>,
    ) -> Result<(), ApiError> {
        let Some(chunk) = self.unsafe_chunks.get_mut(&number) else {
            // The chunk is safe; this is its third copy.
            match result {
                Ok(()) => {
                    self.holders.entry(number).or_default().insert(store);
                }
                Err(_) => cx.shared.counts.copies_missing += 1,
            }
            return Ok(());
        };
        let sent = CopyState::Sent(call);
        let Some(at) = chunk.copies.iter().position(|copy| copy.state == sent) else {
            return Ok(());
        };
        chunk.copies[at].state = match result {
            Ok(()) => {
                self.holders.entry(number).or_default().insert(store);
                CopyState::Stored
            }
            Err(ChunkFailure::Refused(
                error @ (ChunkError::Full
                | ChunkError::Invalid
                | ChunkError::Io
                | ChunkError::Damaged
                | ChunkError::Fenced
                | ChunkError::Freed
                | ChunkError::Missing),
            )) => CopyState::Failed(error),
            Err(ChunkFailure::Refused(ChunkError::Overloaded) | ChunkFailure::Silent) => {
                let pause = backoff(&mut cx.shared.rng, chunk.pauses);
                chunk.pauses += 1;
                CopyState::RetryAt(cx.now + pause)
            }
        };
        if result == Err(ChunkFailure::Refused(ChunkError::Full)) {
            cx.shared.chunks.is_full(store, cx.now);
        }
        if result.is_err() {
            chunk.ask_left_out(cx.now);
            return chunk.still_possible();
        }
        if planted!(AckWithOneCopy) {
            let all = chunk.copies.iter().map(|copy| copy.store);
            self.holders.entry(number).or_default().extend(all);
        }
        if chunk.stored() >= ZONES_SAFE || planted!(AckWithOneCopy) {
            let chunk = self.unsafe_chunks.remove(&number).expect("it was found above");
            self.unsafe_bytes -= chunk.data.len() as u64;
            if self.ended.is_some() {
                cx.needs_only(self.unsafe_bytes);
            }
            for copy in &chunk.copies {
                match copy.state {
                    CopyState::Stored => {}
                    CopyState::Sent(call) => {
                        probe!(ThirdCopyLate);
                        cx.shared.chunks.make_late(call, true);
                    }
                    CopyState::RetryAt(_) | CopyState::LeftOut | CopyState::Failed(_) => {
                        cx.shared.counts.copies_missing += 1;
                    }
                }
            }
        }
        Ok(())
    }

    fn advance(mut self: Box<Self>, cx: &mut Context<'_>) -> Option<Put> {
        self.retry(cx);
        if self.ended.is_none() || !self.unsafe_chunks.is_empty() {
            self.ask(cx);
            return Some(Put::Body(self));
        }
        let Self { head, bucket, received, gathered, blob, holders, ended, .. } = *self;
        cx.needs_only(gathered.len() as u64);
        let digest = ended.expect("checked above");
        let body = match blob {
            None => Stuff::Inline(gathered.freeze()),
            Some(blob) => {
                let safe = |stores: &BTreeSet<StoreId>| stores.len() >= ZONES_SAFE;
                assert!(holders.values().all(safe), "safe chunks are in two zones");
                let Cut { chunk: chunk_size, block: block_size, .. } = cx.config().cut;
                Stuff::Chunks(Stored { blob, length: received, chunk_size, block_size, holders })
            }
        };
        let epoch = cx.map().epoch;
        let commit = Commit { bucket, length: received, digest, body, epoch };
        Some(Put::verify(cx, head, commit))
    }
}

impl Chunk {
    fn stored(&self) -> usize {
        self.copies.iter().filter(|copy| copy.state == CopyState::Stored).count()
    }

    /// A store that was spared for lagging is needed after all.
    fn ask_left_out(&mut self, now: Instant) {
        for copy in &mut self.copies {
            if copy.state == CopyState::LeftOut {
                probe!(LeftOutAsked);
                copy.state = CopyState::RetryAt(now);
            }
        }
    }

    fn still_possible(&self) -> Result<(), ApiError> {
        let failed: Vec<String> = self
            .copies
            .iter()
            .filter_map(|copy| match copy.state {
                CopyState::Failed(error) => Some(format!("{}: {error:?}", copy.store)),
                _ => None,
            })
            .collect();
        if self.copies.len() - failed.len() >= ZONES_SAFE {
            return Ok(());
        }
        let full = CopyState::Failed(ChunkError::Full);
        let reason = format!("two zones must keep a chunk, and {}", failed.join(", "));
        if self.copies.iter().any(|copy| copy.state == full) {
            return Err(ApiError::StorageFull(reason));
        }
        Err(ApiError::Unavailable(reason))
    }
}

/// What a copy of so many bytes reserves, at least and at most: the window of a put, and what may be
/// in memory beside it.
pub(super) fn copy_room(cx: &Context<'_>, length: u64) -> (u64, u64) {
    let (chunk, beside) = (u64::from(cx.config().cut.chunk), beside(cx, length));
    (beside + chunk.min(length), beside + (chunk * WINDOW_CHUNKS).min(length))
}

/// One piece of what a copy reads goes beyond the put's window, so that the two never wait for each
/// other.
fn beside(cx: &Context<'_>, length: u64) -> u64 {
    u64::from(cx.config().cut.chunk).min(length)
}

fn chunk_bytes(cx: &Context<'_>) -> usize {
    usize::try_from(cx.config().cut.chunk).expect("a chunk fits in memory")
}

fn refuse(cx: &mut Context<'_>, error: ApiError) -> Option<Put> {
    cx.reply(Err(error));
    None
}
