//! The driver's side of the transport, and the way to other nodes for calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use trine_core::ids::Endpoint;
use trine_core::message::Envelope;

use super::class::name_of;
use super::link::Link;
use super::link_frame::CallFailure;
use super::table::{Event, Shared};
use super::{LinkStatus, NodeId, PEER_CALL_BYTES_MAX};
use crate::runtime::Runtime;

/// The driver's side of a transport. Dropped, it ends all links.
#[derive(Debug)]
pub struct Port<R: Runtime> {
    shared: Arc<Shared<R>>,
    events: mpsc::UnboundedReceiver<Event>,
    routes: BTreeMap<Endpoint, Arc<Link>>,
    /// Messages to endpoints that no link leads to, by kind.
    unrouted: BTreeMap<&'static str, u64>,
}

/// What a driver learns from its transport.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are messages, and each is moved on at once"
)]
pub(crate) enum Arrival {
    /// A link to this endpoint stands.
    Up(Endpoint),
    /// It is down.
    Down(Endpoint),
    /// A message, for one of those that this process hosts. It counts as undelivered until the permit
    /// is dropped.
    Message(Envelope, Option<OwnedSemaphorePermit>),
}

impl<R: Runtime> Port<R> {
    pub(crate) fn new(shared: Arc<Shared<R>>, events: mpsc::UnboundedReceiver<Event>) -> Self {
        Self { shared, events, routes: BTreeMap::new(), unrouted: BTreeMap::new() }
    }

    /// From now on, these are hosted here.
    pub(crate) fn set_hosted(&self, endpoints: BTreeSet<Endpoint>) {
        self.shared.set_hosted(endpoints);
    }

    /// Send a message, or drop it, counted, if there is no link or its queue is full.
    pub(crate) fn send(&mut self, envelope: &Envelope) {
        match self.routes.get(&envelope.to) {
            Some(link) => link.send(envelope),
            None => *self.unrouted.entry(name_of(&envelope.message)).or_default() += 1,
        }
    }

    /// The next arrival, if one waits.
    pub(crate) fn try_next(&mut self) -> Option<Arrival> {
        loop {
            let event = self.events.try_recv().ok()?;
            if let Some(arrival) = self.arrival(event) {
                return Some(arrival);
            }
        }
    }

    /// The next arrival. It can be dropped at any time without loss.
    pub(crate) async fn next(&mut self) -> Arrival {
        loop {
            match self.events.recv().await {
                Some(event) => {
                    if let Some(arrival) = self.arrival(event) {
                        return arrival;
                    }
                }
                // The sender lives in `shared`.
                None => std::future::pending().await,
            }
        }
    }

    /// `None` for a message whose link is over, or has told that its sender is gone from there.
    fn arrival(&mut self, event: Event) -> Option<Arrival> {
        match event {
            Event::Up { endpoint, link } => {
                self.routes.insert(endpoint, link);
                Some(Arrival::Up(endpoint))
            }
            Event::Down { endpoint } => {
                self.routes.remove(&endpoint);
                Some(Arrival::Down(endpoint))
            }
            Event::Message { link: id, envelope, permit } => {
                match self.routes.get(&envelope.from) {
                    Some(link) if link.id == id => Some(Arrival::Message(envelope, permit)),
                    _ => {
                        let name = name_of(&envelope.message);
                        *self.unrouted.entry(name).or_default() += 1;
                        None
                    }
                }
            }
        }
    }

    /// A message came for an endpoint that is not here.
    pub(crate) fn misdirected(&mut self, envelope: &Envelope) {
        if let Some(link) = self.routes.get(&envelope.from) {
            link.count_drop(name_of(&envelope.message));
        }
    }

    /// Endpoints that links lead to.
    pub(crate) fn linked(&self) -> Vec<Endpoint> {
        self.routes.keys().copied().collect()
    }

    /// Messages dropped because no link led to their receiver, or from their sender any more.
    pub(crate) fn unrouted(&self) -> &BTreeMap<&'static str, u64> {
        &self.unrouted
    }

    pub(crate) fn status(&self) -> Vec<LinkStatus> {
        self.shared.status()
    }

    pub(crate) fn caller(&self) -> Caller<R> {
        Caller { shared: self.shared.clone() }
    }
}

impl<R: Runtime> Drop for Port<R> {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// Makes calls on other nodes.
#[derive(Clone, Debug)]
pub(crate) struct Caller<R: Runtime> {
    shared: Arc<Shared<R>>,
}

impl<R: Runtime> Caller<R> {
    /// Call a node, and wait for the answer no longer than `limit`.
    ///
    /// # Errors
    /// [`PeerCallError`]; after `LinkLost` and `Timeout` the call may have been carried out.
    pub(crate) async fn call(
        &self,
        node: NodeId,
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, PeerCallError> {
        if body.len() > PEER_CALL_BYTES_MAX {
            return Err(PeerCallError::TooLarge { bytes: body.len(), max: PEER_CALL_BYTES_MAX });
        }
        let link = self.shared.link_to(node).map_err(|known| {
            if known { PeerCallError::NotConnected(node) } else { PeerCallError::UnknownPeer(node) }
        })?;
        let Ok(pending) = link.call(body) else { return Err(PeerCallError::Overloaded(node)) };
        let runtime = &self.shared.runtime;
        let _forget = Forget { link: link.clone(), number: pending.number };
        tokio::select! {
            biased;
            answer = pending.answer => match answer {
                Ok(Ok(body)) => Ok(body),
                Ok(Err(CallFailure::Refused)) => Err(PeerCallError::Refused(node)),
                Ok(Err(CallFailure::Overloaded)) => Err(PeerCallError::Overloaded(node)),
                Err(_) => Err(PeerCallError::LinkLost(node)),
            },
            () = runtime.sleep_until(runtime.now() + limit) => {
                Err(PeerCallError::Timeout(node, limit))
            }
        }
    }
}

/// Takes a call off its link's list however the wait for it ends.
struct Forget {
    link: Arc<Link>,
    number: u64,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.link.forget_call(self.number);
    }
}

/// Why a call on another node failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerCallError {
    /// This process has no peers.
    NoTransport,
    /// The configuration names no such node.
    UnknownPeer(NodeId),
    /// No link to it stands.
    NotConnected(NodeId),
    /// The call's body is too large.
    TooLarge {
        /// Of the body.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// Too many calls wait, here or there.
    Overloaded(NodeId),
    /// Nobody there takes calls, or whoever took this one gave it up.
    Refused(NodeId),
    /// The link went down before an answer came: the call may have been carried out.
    LinkLost(NodeId),
    /// No answer came in time: the call may be carried out yet.
    Timeout(NodeId, Duration),
}

impl fmt::Display for PeerCallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTransport => f.write_str("this process has no peers to call"),
            Self::UnknownPeer(node) => write!(f, "{node} is not among the peers of this node"),
            Self::NotConnected(node) => write!(f, "no link to {node} stands"),
            Self::TooLarge { bytes, max } => {
                write!(f, "a peer call of {bytes} bytes is over the limit of {max}")
            }
            Self::Overloaded(node) => write!(f, "too many calls on {node} wait"),
            Self::Refused(node) => write!(f, "{node} does not answer this call"),
            Self::LinkLost(node) => write!(f, "the link to {node} was lost during the call"),
            Self::Timeout(node, limit) => {
                write!(f, "{node} did not answer within {} ms", limit.as_millis())
            }
        }
    }
}

impl std::error::Error for PeerCallError {}
