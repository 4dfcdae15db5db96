//! The front: how HTTP handlers talk to the gateway's driver.
//!
//! Handlers run anywhere; the gateway is one machine on one thread. A handler opens an exchange and
//! gets a stream of [`FrontReply`]; what it says goes to the driver as [`FrontCall`]s. The channels
//! are unbounded by type and bounded by credit: a body comes in only as `NeedBody` asks, and the
//! gateway sends out only as much as `BodyTaken` allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;
use trine_core::effects::GatewayEvent;
use trine_core::ids::RequestId;
use trine_core::request::{ApiError, BodyDigest, Copying, Reply, Request};

/// From a handler to the driver.
#[derive(Debug)]
pub enum FrontCall {
    /// A request, and where its replies go. The driver passes it on as [`GatewayEvent::Request`].
    Open {
        /// Its id.
        id: RequestId,
        /// What is asked.
        request: Request,
        /// Where replies go. If the receiver is gone, the driver drops them.
        replies: mpsc::UnboundedSender<FrontReply>,
    },
    /// `Body`, `BodyEnd`, `BodyTaken` or `Cancel` of an open exchange. After `Cancel` the driver
    /// forgets the exchange.
    Event(GatewayEvent),
}

/// From the driver to a handler: the effects of its request, in order.
#[derive(Debug)]
pub enum FrontReply {
    /// [`Effect::NeedBody`](trine_core::effects::Effect::NeedBody).
    NeedBody(u64),
    /// [`Effect::Copying`](trine_core::effects::Effect::Copying).
    Copying(Copying),
    /// [`Effect::Reply`](trine_core::effects::Effect::Reply).
    Reply(Result<Reply, ApiError>),
    /// [`Effect::BodyOut`](trine_core::effects::Effect::BodyOut).
    Body(Bytes),
    /// [`Effect::BodyEnd`](trine_core::effects::Effect::BodyEnd).
    BodyEnd,
    /// [`Effect::BodyFailed`](trine_core::effects::Effect::BodyFailed): break the connection.
    BodyFailed(String),
    /// [`Effect::Disconnect`](trine_core::effects::Effect::Disconnect): break the connection.
    Disconnect(String),
}

/// A handler's way to the gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Front {
    calls: mpsc::UnboundedSender<FrontCall>,
    next: Arc<AtomicU64>,
}

/// The gateway's driver is gone: the process is shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl Front {
    /// A front and the driver's end of it.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<FrontCall>) {
        let (calls, receiver) = mpsc::unbounded_channel();
        (Self { calls, next: Arc::new(AtomicU64::new(1)) }, receiver)
    }

    /// Send a request to the gateway.
    ///
    /// # Errors
    /// [`Closed`] if the driver is gone.
    pub fn open(&self, request: Request) -> Result<Exchange, Closed> {
        let id = RequestId(self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, replies) = mpsc::unbounded_channel();
        let call = FrontCall::Open { id, request, replies: sender };
        self.calls.send(call).map_err(|_| Closed)?;
        Ok(Exchange { id, calls: self.calls.clone(), replies, ended: false })
    }
}

/// One request and its replies. Dropped before its end, it cancels the request.
#[derive(Debug)]
pub struct Exchange {
    id: RequestId,
    calls: mpsc::UnboundedSender<FrontCall>,
    replies: mpsc::UnboundedReceiver<FrontReply>,
    ended: bool,
}

impl Exchange {
    /// The next reply; `None` if the driver is gone.
    pub async fn next(&mut self) -> Option<FrontReply> {
        self.replies.recv().await
    }

    /// Poll for the next reply.
    pub fn poll_next(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<FrontReply>> {
        self.replies.poll_recv(context)
    }

    /// Hand in bytes of the body, within the credit.
    pub fn body(&self, bytes: Bytes) {
        self.event(GatewayEvent::Body { id: self.id, bytes });
    }

    /// The body has ended and was verified.
    pub fn body_end(&self, digest: BodyDigest) {
        self.event(GatewayEvent::BodyEnd { id: self.id, digest });
    }

    /// The client took bytes of the reply's body.
    pub fn taken(&self, len: u64) {
        self.event(GatewayEvent::BodyTaken { id: self.id, len });
    }

    /// Nothing more is expected: dropping the exchange does not cancel the request.
    pub fn ended(&mut self) {
        self.ended = true;
    }

    fn event(&self, event: GatewayEvent) {
        // A driver that is gone needs no telling; `next` will say so.
        let _ = self.calls.send(FrontCall::Event(event));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.ended {
            self.event(GatewayEvent::Cancel { id: self.id });
        }
    }
}
