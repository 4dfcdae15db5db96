//! GetObject.
//!
//! ```text
//! LookingUp ──bucket──▶ Reading ──record──▶ Admission ──budget──▶ Sending ──all sent──▶ end
//!     ▲                    │  └─inline─────────────────────────────────────────────────▶ end
//!     └────────────────────┘ once, if the range does not know the bucket's id
//! ```
//!
//! Bytes go out in order. What has been asked of stores, has come and waits for its turn, or has
//! gone out and was not taken by the client stays within a window. How they are fetched and verified
//! stands in `fetch`.

use super::answers;
use super::buckets::{BUCKET_TAG, BucketLookup};
use super::context::{Context, Input};
use super::fetch::Fetches;
use super::pieces::Pieces;
use super::simple::object_reply;
use super::work::Reading;
use crate::effects::Effect;
use crate::fair::Admission;
use crate::ids::BucketId;
use crate::object::{Body, Target};
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
    fetches: Fetches,
    window: u64,
    /// Bytes that are out and not taken.
    untaken: u64,
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
                    Input::Data { call, store, result } => {
                        sending.fetches.data(cx, call, store, result);
                    }
                    Input::Wake => sending.fetches.wake(cx),
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
        sending.fetches.wake_at()
    }

    /// What it reads.
    pub(super) fn reading(&self) -> Reading<'_> {
        match self {
            Self::Sending(sending) => sending.fetches.reading(),
            _ => Reading::Anything,
        }
    }

    /// Whether the client's taking is what is missing.
    pub(super) fn waits_for_client(&self) -> bool {
        matches!(self, Self::Sending(sending) if sending.fetches.is_idle())
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
        let fetches = Fetches::new(pieces, left);
        Box::new(Self { fetches, window, untaken: 0 }).advance(cx)
    }

    /// Send what is ready and ask for what the window allows.
    fn advance(mut self: Box<Self>, cx: &mut Context<'_>) -> Option<Get> {
        while let Some(bytes) = self.fetches.next_ready() {
            self.untaken += bytes.len() as u64;
            cx.effect(Effect::BodyOut { id: cx.id, bytes });
        }
        self.fetches.ask(cx, self.untaken, self.window);
        let needed = self.fetches.to_come() + self.untaken;
        if needed < self.window {
            // Near its end a body gives back what it had.
            self.window = needed;
            cx.needs_only(needed);
        }
        // Bytes that the client has not taken are in memory still: the reservation stands for them.
        if self.fetches.is_done() && self.untaken == 0 {
            cx.effect(Effect::BodyEnd { id: cx.id });
            return None;
        }
        Some(Get::Sending(self))
    }
}

fn refuse(cx: &mut Context<'_>, error: ApiError) -> Option<Get> {
    cx.reply(Err(error));
    None
}
