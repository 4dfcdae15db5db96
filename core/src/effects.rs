//! The boundary: events that go in, effects that come out.

use bytes::Bytes;

use crate::disk::{DiskOp, DiskResult};
use crate::ids::{DiskToken, Endpoint, RequestId};
use crate::message::Envelope;
use crate::request::{ApiError, BodyDigest, Copying, Reply, Request};
use crate::time::{Instant, WallTime};

/// The two clocks at the time of a step, both read by the runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic: all timeouts.
    pub instant: Instant,
    /// Wall clock: data only.
    pub wall: WallTime,
}

/// What can happen to a [`Store`](crate::store::Store).
#[derive(Clone, Debug)]
pub enum StoreEvent {
    /// The first event of each life: the disk is open.
    Start,
    /// The time of `next_deadline()` has come. Too early or twice does no harm.
    Deadline,
    /// A message arrived.
    Message(Envelope),
    /// A link to a peer stands (again).
    LinkUp(Endpoint),
    /// A link to a peer was reset; messages in flight may be lost.
    LinkDown(Endpoint),
    /// A disk effect finished.
    Disk {
        /// Of the effect.
        token: DiskToken,
        /// What came of it.
        result: DiskResult,
    },
}

/// What can happen to a [`Gateway`](crate::gateway::Gateway).
#[derive(Clone, Debug)]
pub enum GatewayEvent {
    /// The first event of each life.
    Start,
    /// The time of `next_deadline()` has come. Too early or twice does no harm.
    Deadline,
    /// A message arrived.
    Message(Envelope),
    /// A link to a peer stands (again).
    LinkUp(Endpoint),
    /// A link to a peer was reset; messages in flight may be lost.
    LinkDown(Endpoint),
    /// A client's request. Ids are never used twice in one life of the gateway.
    Request {
        /// Names the request in all that follows.
        id: RequestId,
        /// What is asked.
        request: Request,
    },
    /// Bytes of a request's body, never more than [`Effect::NeedBody`] has asked for.
    Body {
        /// The request.
        id: RequestId,
        /// The bytes.
        bytes: Bytes,
    },
    /// The body has ended *and was verified*: signature, length and checksums all fit. Of a copy: all
    /// its bytes are hashed.
    BodyEnd {
        /// The request.
        id: RequestId,
        /// What the edge computed while the bytes went by.
        digest: BodyDigest,
    },
    /// The client took bytes of a [`Effect::BodyOut`]; of a copy: they are hashed.
    BodyTaken {
        /// The request.
        id: RequestId,
        /// How many.
        len: u64,
    },
    /// The client is gone, or its body failed verification. Nothing will be sent to it any more.
    Cancel {
        /// The request.
        id: RequestId,
    },
}

/// What a machine wants done. Effects of one step have no order among each other, but for
/// `Reply`, `Copying`, `BodyOut`, `BodyEnd` and `BodyFailed` of one request, which are in order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a message. It may be lost, delayed, doubled and overtaken.
    Send(Envelope),
    /// Start a disk effect; its end comes back as [`StoreEvent::Disk`].
    Disk {
        /// Names the effect.
        token: DiskToken,
        /// What to do.
        op: DiskOp,
    },
    /// How a copy stands. Its bytes, if they are to be hashed, come as a body before the reply.
    Copying {
        /// The request.
        id: RequestId,
        /// How it stands.
        copying: Copying,
    },
    /// Answer a request, once. A body follows only a [`Reply::Object`].
    Reply {
        /// The request.
        id: RequestId,
        /// What to say.
        result: Result<Reply, ApiError>,
    },
    /// Up to this many more bytes of body may come in. Also the moment for `100 Continue`.
    NeedBody {
        /// The request.
        id: RequestId,
        /// More bytes, on top of what was asked for before.
        bytes: u64,
    },
    /// Bytes of a reply's body.
    BodyOut {
        /// The request.
        id: RequestId,
        /// The bytes.
        bytes: Bytes,
    },
    /// The reply's body is complete.
    BodyEnd {
        /// The request.
        id: RequestId,
    },
    /// The reply's body cannot be completed: break the connection, so that the client notices.
    BodyFailed {
        /// The request.
        id: RequestId,
        /// For the log.
        reason: String,
    },
    /// Break the connection without a reply: whether the request took effect is not known.
    Disconnect {
        /// The request.
        id: RequestId,
        /// For the log.
        reason: String,
    },
    /// Stop this machine for good and tell the operator. It must not be stepped again.
    Halt {
        /// What happened and what to do, for the operator.
        reason: String,
    },
    /// One line for the log.
    Note(String),
}

/// Collects the effects of a step; the caller drains it after each one.
#[derive(Debug, Default)]
pub struct Effects {
    queue: Vec<Effect>,
}

impl Effects {
    /// An empty collection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Add an effect.
    pub fn push(&mut self, effect: Effect) {
        self.queue.push(effect);
    }

    /// Send a message.
    pub fn send(&mut self, envelope: Envelope) {
        self.push(Effect::Send(envelope));
    }

    /// Start a disk effect.
    pub fn disk(&mut self, token: DiskToken, op: DiskOp) {
        self.push(Effect::Disk { token, op });
    }

    /// Answer a request.
    pub fn reply(&mut self, id: RequestId, result: Result<Reply, ApiError>) {
        self.push(Effect::Reply { id, result });
    }

    /// Take all effects out, in the order in which they were added.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.queue.drain(..)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
