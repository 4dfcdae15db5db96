//! CopyObject and UploadPartCopy.
//!
//! ```text
//! LookingUp ──▶ Reading ──▶ Destination ──▶ Checking ──▶ Admission ──▶ Moving ──▶ reply
//!  bucket of     record       bucket of     conditions,   budget       bytes,
//!  the source    of the       the copy      upload          ▲          commit
//!     ▲          source          ▲             │  │         │ another version is there
//!     └────────────┘             └─────────────┘  └──▶ Changing ──▶ reply
//!            once, if the range does not           onto itself
//!            know the bucket's id
//! ```
//!
//! Buckets that are known are not asked for, and nothing is checked where that could tell nothing new.
//!
//! The bytes go through the gateway's own get and put: what `fetch` has read and verified block by block
//! is the body of a [`Put`], which cuts it into chunks of a new blob. They are not shared with the
//! source: a blob is referenced only from rows of one object key, where its references are counted, so
//! that a range can decide alone when it is dead (`range::blobs`). The one exception that this rule
//! admits is an object that is copied onto itself: there one command changes what is said about the
//! version, its bytes stay where they are.
//!
//! A copy is of one version of the source, that of one linearizable read: the record that it found names
//! the blobs, or comes with the inline bytes. Whatever happens to the source afterwards, these are
//! copied, or the copy fails.
//!
//! One reservation covers both halves. The reading half asks only for what the put has given credit
//! for, so that bytes on their way in, being hashed, gathered and not yet safe stay together within the
//! window; a piece beyond it goes only if it is alone, and there is a chunk's room for that. So neither half
//! can wait for room that the other one holds.
//!
//! Entity tag and checksum of the copy are known if the source is whole and was put in one piece.
//! Else the bytes go to the edge to be hashed before the put takes them.

use std::collections::VecDeque;

use bytes::Bytes;

use super::answers;
use super::buckets::{BUCKET_TAG, BucketLookup};
use super::conditions;
use super::context::{Context, Input};
use super::fetch::Fetches;
use super::pieces::Pieces;
use super::put::{self, Purpose, Put};
use super::ranges::Span;
use super::work::Reading;
use crate::effects::Effect;
use crate::fair::Admission;
use crate::ids::BucketId;
use crate::message::Answer;
use crate::object::{
    Attributes, Body, ChecksumAlgorithm, ObjectChecksum, ObjectRecord, PUT_BYTES_MAX, Target,
    WriteConditions,
};
use crate::range;
use crate::range::command::{CommandBody, Outcome, Read, ReadReply, Rejection};
use crate::request::{
    ApiError, BodyDigest, CopiedObject, CopyHash, CopyPurpose, CopyRequest, Copying, PartRequest,
    PutRequest, Reply,
};
use crate::time::{Duration, Instant};

/// How often the edge hears that a copy goes on. Clients wait for an answer for 20 seconds and more; proxies,
/// some of them, for 10.
const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// A copy.
#[derive(Debug)]
pub(super) struct Copy {
    state: State,
    /// When the edge is told next that it goes on.
    alive_at: Option<Instant>,
}

#[derive(Debug)]
enum State {
    /// The root range is asked for the source's bucket.
    LookingUp(Head),
    /// The range is asked for the source.
    Reading(Head),
    /// The root range is asked for the bucket of the copy.
    Destination(Head, Found),
    /// The range is asked whether conditions hold, and uploads are there.
    Checking(Head, Found, BucketId),
    /// The command that changes an object on the spot is on its way.
    Changing(Head, Found, BucketId, Wanted),
    /// The budget has no room yet.
    Admission(Head, Found, BucketId, Wanted),
    /// Bytes come in and go out.
    Moving(Box<Moving>),
}

/// What is asked.
#[derive(Debug)]
struct Head {
    source: BucketLookup,
    destination: BucketLookup,
    request: Box<CopyRequest>,
}

/// The version that is copied.
#[derive(Debug)]
struct Found {
    record: Box<ObjectRecord>,
    bytes: Source,
    /// Bytes that are copied.
    length: u64,
    /// Whether these are all.
    whole: bool,
}

#[derive(Debug)]
enum Source {
    Inline(Bytes),
    Chunks(Pieces),
}

/// What the copy must know about its bytes.
#[derive(Debug)]
enum Wanted {
    /// It is known.
    Known(BodyDigest),
    /// The edge is to compute it.
    Hash {
        /// What MD5 must give, if that is known.
        md5: Option<[u8; 16]>,
    },
}

/// Bytes on their way.
#[derive(Debug)]
struct Moving {
    stream: Stream,
    put: Put,
}

/// The reading half.
#[derive(Debug)]
struct Stream {
    /// None, if the bytes were inline.
    fetches: Option<Fetches>,
    /// With the edge, to be hashed, in order.
    hashing: VecDeque<Bytes>,
    /// Bytes of them that the edge has done with.
    hashed: u64,
    /// To be put, in order.
    ready: VecDeque<Bytes>,
    /// Bytes of both.
    held: u64,
    /// Whether the edge hashes.
    hash: bool,
    /// What MD5 must give, if that is known.
    md5: Option<[u8; 16]>,
    /// Whether all bytes were found.
    all_there: bool,
    /// Once it is known.
    digest: Option<BodyDigest>,
    /// Whether the put has it all.
    ended: bool,
}

impl Copy {
    /// Begin; `None` if the request has been answered.
    pub(super) fn new(cx: &mut Context<'_>, request: CopyRequest) -> Self {
        let mut head = Head {
            source: BucketLookup::new(request.source.bucket.clone()),
            destination: BucketLookup::new(request.path.bucket.clone()),
            request: Box::new(request),
        };
        let state = match head.source.begin(cx) {
            Some(bucket) => head.read(cx, bucket.id),
            None => State::LookingUp(head),
        };
        Self { state, alive_at: None }
    }

    /// Go on; `None` if the request has been answered.
    pub(super) fn on(self, cx: &mut Context<'_>, input: Input) -> Option<Self> {
        let Self { state, mut alive_at } = self;
        if alive_at.is_some_and(|at| at <= cx.now) {
            cx.effect(Effect::Copying { id: cx.id, copying: Copying::Alive });
            alive_at = Some(cx.now + ALIVE_EVERY);
        }
        let begun = state.has_begun();
        let state = state.on(cx, input)?;
        if state.has_begun() && !begun {
            alive_at = Some(cx.now + ALIVE_EVERY);
        }
        Some(Self { state, alive_at })
    }

    /// What it reads.
    pub(super) fn reading(&self) -> Reading<'_> {
        match &self.state {
            State::Moving(moving) => {
                let fetches = moving.stream.fetches.as_ref();
                fetches.map_or(Reading::Nothing, Fetches::reading)
            }
            _ => Reading::Anything,
        }
    }

    /// When there is something to do even if nothing happens.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let work = match &self.state {
            State::Moving(moving) => [moving.stream.wake_at(), moving.put.wake_at()],
            _ => [None, None],
        };
        work.into_iter().chain([self.alive_at]).flatten().min()
    }

    /// Bytes in memory. They are reserved, unless chunks of the source are larger than they are cut now.
    pub(super) fn bytes_in_hand(&self) -> u64 {
        let State::Moving(moving) = &self.state else { return 0 };
        let Moving { stream, put } = moving.as_ref();
        let fetching = stream.fetches.as_ref().map_or(0, Fetches::fetching);
        put.bytes_in_hand() + stream.held + fetching
    }

    /// Whether the edge's hashing is what is missing.
    pub(super) fn waits_for_client(&self) -> bool {
        matches!(&self.state, State::Moving(moving) if moving.stream.waits_for_edge())
    }

    /// Whether the budget is what is missing.
    pub(super) fn waits_for_budget(&self) -> bool {
        matches!(self.state, State::Admission(..))
    }
}

impl State {
    /// Whether the edge knows that the copy stands.
    fn has_begun(&self) -> bool {
        matches!(self, Self::Changing(..) | Self::Admission(..) | Self::Moving(_))
    }

    fn on(self, cx: &mut Context<'_>, input: Input) -> Option<Self> {
        match (self, input) {
            (Self::LookingUp(head), Input::Answer { tag: BUCKET_TAG, result }) => {
                match head.source.answered(cx, result) {
                    Ok(bucket) => Some(head.read(cx, bucket.id)),
                    Err(error) => refuse(cx, error),
                }
            }
            (Self::Reading(head), Input::Answer { tag: 0, result }) => {
                match answers::read(result) {
                    Ok(reply) => head.read_ended(cx, reply),
                    Err(error) => refuse(cx, error),
                }
            }
            (Self::Destination(head, found), Input::Answer { tag: BUCKET_TAG, result }) => {
                match head.destination.answered(cx, result) {
                    Ok(bucket) => head.check(cx, found, bucket.id),
                    Err(error) => refuse(cx, error),
                }
            }
            (Self::Checking(head, found, bucket), Input::Answer { tag: 0, result }) => {
                match answers::read(result) {
                    Ok(reply) => head.checked(cx, found, bucket, reply),
                    Err(error) => refuse(cx, error),
                }
            }
            (Self::Changing(head, found, bucket, wanted), Input::Answer { tag: 0, result }) => {
                let gone = Outcome::Rejected(Rejection::OtherVersion);
                if matches!(&result, Ok(Answer::Applied(outcome)) if *outcome == gone) {
                    probe!(CopyOfOtherVersion);
                    // The version that was found is copied all the same.
                    return head.reserve(cx, found, bucket, wanted);
                }
                probe!(ChangedOnTheSpot);
                cx.reply(match answers::command(result) {
                    Ok(reply @ Reply::Copied { .. }) => Ok(reply),
                    Ok(_) => Err(answers::unexpected()),
                    Err(error) => Err(error.unwrap_or(ApiError::NoSuchBucket)),
                });
                None
            }
            (Self::Admission(head, found, bucket, wanted), Input::Admitted(room)) => {
                head.move_bytes(cx, found, bucket, wanted, room)
            }
            (Self::Admission(..), Input::Displaced) => refuse(cx, answers::crowded()),
            (Self::Moving(moving), input) => moving.on(cx, input),
            (waiting, _) => Some(waiting),
        }
    }
}

impl Head {
    fn read(self, cx: &mut Context<'_>, bucket: BucketId) -> State {
        let key = self.request.source.key.clone();
        let target = Target { tenant: self.source.path().tenant, bucket, key };
        cx.read(0, Read::Object { target, with_body: true });
        State::Reading(self)
    }

    fn read_ended(mut self, cx: &mut Context<'_>, reply: ReadReply) -> Option<State> {
        let (record, inline) = match reply {
            ReadReply::Object(Some(found)) => found,
            ReadReply::Object(None) => return refuse(cx, ApiError::NoSuchKey),
            ReadReply::NoSuchBucket if self.source.unknown(cx) => {
                return Some(State::LookingUp(self));
            }
            ReadReply::NoSuchBucket => return refuse(cx, ApiError::NoSuchBucket),
            _ => return refuse(cx, answers::unexpected()),
        };
        let found = match Found::new(&self.request, record, inline) {
            Ok(found) => found,
            Err(error) => return refuse(cx, error),
        };
        match self.destination.begin(cx) {
            Some(bucket) => self.check(cx, found, bucket.id),
            None => Some(State::Destination(self, found)),
        }
    }

    /// Ask what would make the copy vain, if to find out later costs more.
    fn check(self, cx: &mut Context<'_>, found: Found, bucket: BucketId) -> Option<State> {
        let target = self.target(bucket);
        match &self.request.purpose {
            CopyPurpose::Part { upload, .. } => {
                let upload = *upload;
                cx.read(0, Read::Parts { target, upload, after: 0, limit: 1 });
            }
            CopyPurpose::Object(object) => {
                // The source's bucket is there, and of a small object the commit says all at once.
                let is_there = self.request.source.bucket == self.request.path.bucket;
                let is_small = matches!(found.bytes, Source::Inline(_));
                let is_bound = object.conditions != WriteConditions::default();
                if !is_bound && (is_there || is_small) {
                    return self.begin(cx, found, bucket, None);
                }
                cx.read(0, Read::Object { target, with_body: false });
            }
        }
        Some(State::Checking(self, found, bucket))
    }

    fn checked(
        mut self,
        cx: &mut Context<'_>,
        found: Found,
        bucket: BucketId,
        reply: ReadReply,
    ) -> Option<State> {
        match (reply, &self.request.purpose) {
            (ReadReply::NoSuchBucket, _) if self.destination.unknown(cx) => {
                Some(State::Destination(self, found))
            }
            (ReadReply::NoSuchBucket, _) => refuse(cx, ApiError::NoSuchBucket),
            (ReadReply::Object(there), CopyPurpose::Object(object)) => {
                let there = there.as_ref().map(|(record, _)| record.as_ref());
                match range::hold(&object.conditions, there) {
                    Ok(()) => self.begin(cx, found, bucket, None),
                    Err(rejection) => refuse(cx, answers::rejected(rejection)),
                }
            }
            (ReadReply::Parts(Some((upload, ..))), CopyPurpose::Part { .. }) => {
                let checksum = upload.checksum.map(|(algorithm, _)| algorithm);
                self.begin(cx, found, bucket, checksum)
            }
            (ReadReply::Parts(None), CopyPurpose::Part { .. }) => {
                refuse(cx, ApiError::NoSuchUpload)
            }
            _ => refuse(cx, answers::unexpected()),
        }
    }

    /// Nothing speaks against the copy. `of_upload`: the checksum that parts of the upload have.
    fn begin(
        self,
        cx: &mut Context<'_>,
        found: Found,
        bucket: BucketId,
        of_upload: Option<ChecksumAlgorithm>,
    ) -> Option<State> {
        let checksum = match &self.request.purpose {
            CopyPurpose::Part { .. } => of_upload,
            CopyPurpose::Object(object) => {
                let of_source = found.record.checksum.as_ref().map(|it| it.algorithm);
                object.checksum.or(of_source)
            }
        };
        let wanted = found.wanted(checksum);
        let hash = match &wanted {
            Wanted::Known(_) => None,
            Wanted::Hash { .. } => Some(CopyHash { checksum }),
        };
        let copying = Copying::Begun { length: found.length, hash };
        cx.effect(Effect::Copying { id: cx.id, copying });
        match (&self.request.purpose, &wanted) {
            (CopyPurpose::Object(object), Wanted::Known(_))
                if self.request.source == self.request.path =>
            {
                let change = CommandBody::ChangeObject {
                    target: self.target(bucket),
                    version: found.record.order,
                    conditions: object.conditions.clone(),
                    owner: object.owner.clone(),
                    attributes: object.attributes_from(&found.record),
                    tags: object.tags_from(&found.record),
                };
                cx.command(0, change);
                Some(State::Changing(self, found, bucket, wanted))
            }
            _ => self.reserve(cx, found, bucket, wanted),
        }
    }

    fn reserve(
        self,
        cx: &mut Context<'_>,
        found: Found,
        bucket: BucketId,
        wanted: Wanted,
    ) -> Option<State> {
        let (least, most) = put::copy_room(cx, found.length);
        match cx.reserve(self.destination.path().tenant, least, most) {
            Admission::Granted(room) => self.move_bytes(cx, found, bucket, wanted, room),
            Admission::Queued => Some(State::Admission(self, found, bucket, wanted)),
            Admission::Refused => refuse(cx, answers::crowded()),
        }
    }

    fn move_bytes(
        self,
        cx: &mut Context<'_>,
        found: Found,
        bucket: BucketId,
        wanted: Wanted,
        room: u64,
    ) -> Option<State> {
        let Self { destination, request, .. } = self;
        let CopyRequest { path, purpose, .. } = *request;
        let Found { record, bytes, length, .. } = found;
        let purpose = match purpose {
            CopyPurpose::Part { upload, number, .. } => {
                let length = Some(length);
                Purpose::Part(Box::new(PartRequest { path, upload, number, length }))
            }
            CopyPurpose::Object(object) => Purpose::Object(Box::new(PutRequest {
                path,
                attributes: object.attributes_from(&record),
                tags: object.tags_from(&record),
                owner: object.owner,
                conditions: object.conditions,
                length: Some(length),
            })),
        };
        let stream = Stream::new(cx, bytes, length, wanted);
        let put = Put::copied(cx, purpose, destination, bucket, length, room)?;
        Box::new(Moving { stream, put }).advance(cx)
    }

    fn target(&self, bucket: BucketId) -> Target {
        let key = self.request.path.key.clone();
        Target { tenant: self.destination.path().tenant, bucket, key }
    }
}

impl CopiedObject {
    fn attributes_from(&self, source: &ObjectRecord) -> Attributes {
        let website_redirect = self.website_redirect.clone();
        let attributes = self.attributes.as_ref().unwrap_or(&source.attributes).clone();
        Attributes { website_redirect, ..attributes }
    }

    fn tags_from(&self, source: &ObjectRecord) -> Vec<(String, String)> {
        if planted!(CopyLosesTags) {
            return Vec::new();
        }
        self.tags.as_ref().unwrap_or(&source.tags).clone()
    }
}

impl Found {
    /// The version that was read, if it may be copied.
    fn new(
        request: &CopyRequest,
        record: Box<ObjectRecord>,
        inline: Option<Bytes>,
    ) -> Result<Self, ApiError> {
        if record.delete_marker {
            return Err(ApiError::NoSuchKey);
        }
        conditions::evaluate(&request.source_conditions, &record).map_err(|error| match error {
            // There is no 304 for who copies.
            ApiError::NotModified { .. } => ApiError::PreconditionFailed,
            other => other,
        })?;
        let (first, length) = match &request.purpose {
            CopyPurpose::Part { range: Some((first, last)), .. } => {
                if first > last || *last >= record.length {
                    return Err(ApiError::InvalidRange { length: record.length });
                }
                (*first, last - first + 1)
            }
            CopyPurpose::Part { range: None, .. } | CopyPurpose::Object(_) => (0, record.length),
        };
        if length > PUT_BYTES_MAX {
            return Err(ApiError::EntityTooLarge);
        }
        let damaged = || ApiError::Internal("the object's record contradicts itself".to_owned());
        let bytes = match &record.body {
            Body::Inline => {
                let all = inline.filter(|bytes| bytes.len() as u64 == record.length);
                let all = all.ok_or_else(damaged)?;
                let end = usize::try_from(first + length).map_err(|_| damaged())?;
                Source::Inline(all.slice(usize::try_from(first).map_err(|_| damaged())?..end))
            }
            Body::Blobs(parts) => {
                let span = Span { first, length, partial: false, parts: None };
                Source::Chunks(Pieces::new(&record, parts, span).map_err(|_| damaged())?)
            }
        };
        let whole = length == record.length;
        Ok(Self { record, bytes, length, whole })
    }

    /// What must be known about the bytes, with this checksum.
    fn wanted(&self, checksum: Option<ChecksumAlgorithm>) -> Wanted {
        if !self.whole || self.record.etag.parts > 0 {
            return Wanted::Hash { md5: None };
        }
        let md5 = self.record.etag.md5;
        let of_source = self.record.checksum.as_ref().filter(|it| it.full_object);
        match (checksum, of_source) {
            (None, _) => Wanted::Known(BodyDigest { md5, checksum: None }),
            (Some(algorithm), Some(it)) if it.algorithm == algorithm => {
                let checksum: Option<ObjectChecksum> = Some(it.clone());
                Wanted::Known(BodyDigest { md5, checksum })
            }
            (Some(_), _) => Wanted::Hash { md5: Some(md5) },
        }
    }
}

impl Stream {
    fn new(cx: &mut Context<'_>, bytes: Source, length: u64, wanted: Wanted) -> Self {
        let (hash, md5, digest) = match wanted {
            Wanted::Known(digest) => (false, None, Some(digest)),
            Wanted::Hash { md5 } => (true, md5, None),
        };
        let mut stream = Self {
            fetches: None,
            hashing: VecDeque::new(),
            hashed: 0,
            ready: VecDeque::new(),
            held: 0,
            hash,
            md5,
            all_there: false,
            digest,
            ended: false,
        };
        match bytes {
            Source::Inline(bytes) => stream.found(cx, bytes),
            Source::Chunks(pieces) => stream.fetches = Some(Fetches::new(pieces, length)),
        }
        stream
    }

    /// Bytes of the source, verified.
    fn found(&mut self, cx: &mut Context<'_>, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.held += bytes.len() as u64;
        if self.hash {
            self.hashing.push_back(bytes.clone());
            cx.effect(Effect::BodyOut { id: cx.id, bytes });
        } else {
            self.ready.push_back(bytes);
        }
    }

    /// The edge has hashed so many bytes more.
    fn hashed(&mut self, length: u64) {
        self.hashed = self.hashed.saturating_add(length);
        while let Some(first) = self.hashing.front()
            && first.len() as u64 <= self.hashed
            && let Some(first) = self.hashing.pop_front()
        {
            self.hashed -= first.len() as u64;
            self.ready.push_back(first);
        }
    }

    /// The next bytes for a put that has given so much credit.
    fn next(&mut self, credit: u64) -> Option<Bytes> {
        let first = self.ready.front_mut().filter(|_| credit > 0)?;
        let most = usize::try_from(credit).unwrap_or(usize::MAX).min(first.len());
        let bytes = first.split_to(most);
        if first.is_empty() {
            self.ready.pop_front();
        }
        self.held -= bytes.len() as u64;
        Some(bytes)
    }

    /// Take what was found, and ask for what the put's credit allows.
    fn advance(&mut self, cx: &mut Context<'_>, credit: u64) {
        while let Some(bytes) = self.fetches.as_mut().and_then(Fetches::next_ready) {
            self.found(cx, bytes);
        }
        if let Some(fetches) = &mut self.fetches {
            fetches.ask(cx, self.held, credit);
        }
        self.all_there = self.fetches.as_ref().is_none_or(Fetches::is_done);
    }

    /// The digest, once the put has all bytes; once.
    fn end(&mut self) -> Option<BodyDigest> {
        if self.ended || !self.all_there || self.held > 0 {
            return None;
        }
        let digest = self.digest.take()?;
        self.ended = true;
        Some(digest)
    }

    fn wake_at(&self) -> Option<Instant> {
        self.fetches.as_ref()?.wake_at()
    }

    fn waits_for_edge(&self) -> bool {
        let digesting = self.hash && self.all_there && self.digest.is_none() && !self.ended;
        !self.hashing.is_empty() || digesting
    }
}

impl Moving {
    fn on(self: Box<Self>, cx: &mut Context<'_>, input: Input) -> Option<State> {
        let Self { mut stream, mut put } = *self;
        match input {
            Input::Data { call, store, result } => {
                if let Some(fetches) = &mut stream.fetches {
                    fetches.data(cx, call, store, result);
                }
            }
            Input::Taken(length) => stream.hashed(length),
            Input::BodyEnd(digest) => {
                if stream.hash && stream.all_there && stream.hashing.is_empty() && !stream.ended {
                    if stream.md5.is_some_and(|md5| md5 != digest.md5) {
                        let reason = "the source's bytes do not have the MD5 of its entity tag";
                        return refuse(cx, ApiError::Internal(reason.to_owned()));
                    }
                    stream.digest = Some(digest);
                }
            }
            // Only what the source gives is the body.
            Input::Body(_) => {}
            Input::Wake => {
                if let Some(fetches) = &mut stream.fetches {
                    fetches.wake(cx);
                }
                put = put.on(cx, Input::Wake)?;
            }
            other => put = put.on(cx, other)?,
        }
        Box::new(Self { stream, put }).advance(cx)
    }

    fn advance(self: Box<Self>, cx: &mut Context<'_>) -> Option<State> {
        let Self { mut stream, mut put } = *self;
        stream.advance(cx, put.credit());
        while let Some(bytes) = stream.next(put.credit()) {
            put = put.on(cx, Input::Body(bytes))?;
        }
        // What the put has taken makes room.
        stream.advance(cx, put.credit());
        if let Some(digest) = stream.end() {
            put = put.on(cx, Input::BodyEnd(digest))?;
        }
        Some(State::Moving(Box::new(Self { stream, put })))
    }
}

fn refuse(cx: &mut Context<'_>, error: ApiError) -> Option<State> {
    cx.reply(Err(error));
    None
}
