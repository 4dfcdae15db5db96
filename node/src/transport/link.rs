//! One link that stands: its queues, its calls, and the tasks of its two connections.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, oneshot, watch};
use trine_core::ids::Endpoint;
use trine_core::message::Envelope;
use trine_core::time::Instant;
use trine_core::wire::{self, Frame, LINK_KIND_MIN};

use super::class::{Class, class_of, name_of};
use super::link_frame::{CallFailure, LinkFrame};
use super::queue::{Full, Limits, SendQueue};
use super::socket::{FrameReader, Lost, Patience, RawFrame, write_all};
use super::table::{Event, Shared};
use super::{NodeId, PeerCall};
use crate::runtime::Runtime;

/// Calls of one node that wait for another one's answer.
const CALLS_MAX: usize = 64;
/// Undelivered bytes of one link's control connection: one frame of the largest kind, and as much
/// again.
const CONTROL_INBOUND_BYTES_MAX: usize = 36 << 20;
/// The weight of a new measurement in the smoothed round-trip time is one in so many (RFC 6298).
const SMOOTHING: u32 = 8;
/// Silence on a bulk connection may last so many times longer: a full one loses packets, and TCP
/// takes at least 200 ms to send one again.
const BULK_PATIENCE: u32 = 2;

/// What was dropped, by kind of message. One for each peer: it outlives links.
#[derive(Debug, Default)]
pub(crate) struct Drops(Mutex<BTreeMap<&'static str, u64>>);

impl Drops {
    pub(crate) fn count(&self, name: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
    }

    pub(crate) fn all(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A link: both connections stand, or it is over.
#[derive(Debug)]
pub(crate) struct Link {
    /// Names it in this process; never used twice.
    pub(crate) id: u64,
    pub(crate) peer: NodeId,
    /// The peer's.
    pub(crate) life: u64,
    control: SendQueue,
    bulk: SendQueue,
    drops: Arc<Drops>,
    /// The reason, once it is over.
    closed: watch::Sender<Option<String>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    round_trip: Option<Duration>,
    next_call: u64,
    /// Dropped when the link is over, which tells those who wait.
    calls: BTreeMap<u64, oneshot::Sender<Result<Bytes, CallFailure>>>,
}

impl Link {
    pub(crate) fn new(id: u64, peer: NodeId, life: u64, drops: Arc<Drops>) -> Self {
        Self {
            id,
            peer,
            life,
            control: SendQueue::new(Limits::CONTROL),
            bulk: SendQueue::new(Limits::BULK),
            drops,
            closed: watch::Sender::new(None),
            state: Mutex::default(),
        }
    }

    /// Send a message, or drop and count it if its queue is full: machines ask again.
    pub(crate) fn send(&self, envelope: &Envelope) {
        let queue = self.queue(class_of(&envelope.message));
        if queue.push(wire::encode(envelope)) == Err(Full) {
            self.drops.count(name_of(&envelope.message));
        }
    }

    /// A message was dropped after it came in.
    pub(crate) fn count_drop(&self, name: &'static str) {
        self.drops.count(name);
    }

    /// Tell the peer what we host now: on both connections, so that each knows it before the first
    /// message of a new endpoint.
    ///
    /// # Errors
    /// [`Full`]: the peer would never know; the link must end.
    pub(crate) fn announce(&self, endpoints: &[Endpoint]) -> Result<(), Full> {
        let frame = LinkFrame::Endpoints(endpoints.to_vec()).encode();
        self.control.push(frame.clone())?;
        self.bulk.push(frame)
    }

    /// Send a call; its answer comes through the channel, which closes if the link is lost first.
    ///
    /// # Errors
    /// [`Full`] if too many calls or frames wait.
    pub(crate) fn call(&self, body: Bytes) -> Result<PendingCall, Full> {
        let (sender, answer) = oneshot::channel();
        let number = {
            let mut state = self.lock();
            if state.calls.len() >= CALLS_MAX {
                return Err(Full);
            }
            state.next_call += 1;
            let number = state.next_call;
            // Before the look whether the link is over: whoever ends it clears the calls after.
            state.calls.insert(number, sender);
            number
        };
        if self.closed.borrow().is_some() {
            self.forget_call(number);
        } else if self.control.push(LinkFrame::Call { number, body }.encode()) == Err(Full) {
            self.forget_call(number);
            return Err(Full);
        }
        Ok(PendingCall { number, answer })
    }

    pub(crate) fn forget_call(&self, number: u64) {
        self.lock().calls.remove(&number);
    }

    /// Whether the answer found its place in the queue is no concern of the caller: the other end
    /// has a deadline.
    fn answer(&self, number: u64, result: Result<Bytes, CallFailure>) {
        if self.control.push(LinkFrame::Answer { number, result }.encode()) == Err(Full) {
            self.drops.count("PeerAnswer");
        }
    }

    /// End it. Its tasks notice, and close both connections.
    pub(crate) fn close(&self, reason: String) {
        self.closed.send_if_modified(|closed| {
            let first = closed.is_none();
            if first {
                *closed = Some(reason);
            }
            first
        });
        self.lock().calls.clear();
    }

    /// Ends when the link is over.
    pub(crate) async fn over(&self) {
        // An error would say that the sender is gone, and `self` holds it.
        let _ = self.closed.subscribe().wait_for(Option::is_some).await;
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.lock().round_trip
    }

    pub(crate) fn queued_bytes(&self, class: Class) -> u64 {
        self.queue(class).bytes() as u64
    }

    fn measured(&self, sample: Duration) {
        let mut state = self.lock();
        state.round_trip = Some(match state.round_trip {
            None => sample,
            Some(smoothed) => (smoothed * (SMOOTHING - 1) + sample) / SMOOTHING,
        });
    }

    fn queue(&self, class: Class) -> &SendQueue {
        match class {
            Class::Control => &self.control,
            Class::Bulk => &self.bulk,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is one call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct PendingCall {
    pub(crate) number: u64,
    pub(crate) answer: oneshot::Receiver<Result<Bytes, CallFailure>>,
}

/// A connection whose greetings fit.
pub(crate) struct Connection<S> {
    pub(crate) stream: S,
    /// What the peer said that it hosts.
    pub(crate) theirs: BTreeSet<Endpoint>,
    /// What we said that we host.
    pub(crate) ours: Vec<Endpoint>,
}

/// Start the tasks of one connection.
pub(crate) fn run<R: Runtime>(
    shared: &Arc<Shared<R>>,
    link: &Arc<Link>,
    class: Class,
    stream: R::Stream,
    theirs: BTreeSet<Endpoint>,
) {
    let timing = shared.config.timing;
    let runtime = shared.runtime.clone();
    let (reader, writer) = tokio::io::split(stream);
    let silence = match class {
        Class::Control => timing.silence,
        Class::Bulk => timing.silence * BULK_PATIENCE,
    };
    let patience = Patience { silence, keepalive: timing.keepalive };
    let ahead = class == Class::Control;
    let closed = link.closed.subscribe();
    let reader = FrameReader::new(runtime.clone(), reader, ahead, closed, patience);
    let pings = Arc::new(Mutex::default());
    let receiver = Receiver {
        shared: shared.clone(),
        link: link.clone(),
        class,
        endpoints: theirs,
        budget: match class {
            Class::Control => Arc::new(Semaphore::new(CONTROL_INBOUND_BYTES_MAX)),
            Class::Bulk => shared.bulk_budget.clone(),
        },
        pings: Arc::clone(&pings),
    };
    runtime.spawn("link reader", receiver.run(reader));
    let sender = Sender {
        shared: shared.clone(),
        link: link.clone(),
        class,
        pings,
        keepalive: timing.keepalive,
    };
    runtime.spawn("link writer", sender.run(writer));
}

/// The last ping that was sent, and when.
type Pings = Arc<Mutex<(u64, Instant)>>;

struct Receiver<R: Runtime> {
    shared: Arc<Shared<R>>,
    link: Arc<Link>,
    class: Class,
    /// What the peer hosts, as this connection has heard.
    endpoints: BTreeSet<Endpoint>,
    budget: Arc<Semaphore>,
    pings: Pings,
}

impl<R: Runtime> Receiver<R> {
    async fn run<S: AsyncRead + Unpin>(mut self, mut reader: FrameReader<R, S>) {
        let lost = loop {
            let taken = match reader.frame(&self.budget).await {
                Ok(frame) => self.take(frame),
                Err(lost) => Err(lost),
            };
            if let Err(lost) = taken {
                break lost;
            }
        };
        self.shared.link_lost(&self.link, self.class, &lost);
    }

    fn take(&mut self, frame: RawFrame) -> Result<(), Lost> {
        let RawFrame { prefix, prefix_bytes, header, bulk, permit } = frame;
        if prefix.kind >= LINK_KIND_MIN {
            wire::verify(&prefix_bytes, &header)?;
            return self.take_link_frame(LinkFrame::decode(prefix.kind, &header)?);
        }
        let envelope = wire::decode(&prefix_bytes, &header, bulk)?;
        if !self.endpoints.contains(&envelope.from) {
            return Err(Lost::Rule(format!(
                "it sent a message of {}, which it does not host",
                envelope.from
            )));
        }
        self.shared.deliver(Event::Message { link: self.link.id, envelope, permit });
        Ok(())
    }

    fn take_link_frame(&mut self, frame: LinkFrame) -> Result<(), Lost> {
        match frame {
            LinkFrame::Ping(number) => self.link.queue(self.class).pong(number),
            LinkFrame::Pong(number) => {
                let (sent, at) = *self.pings.lock().unwrap_or_else(PoisonError::into_inner);
                // Round trips on a full bulk connection say nothing about the way.
                if number == sent && self.class == Class::Control {
                    self.link.measured(self.shared.runtime.now().since(at));
                }
            }
            LinkFrame::Endpoints(endpoints) => {
                self.endpoints = endpoints.into_iter().collect();
                if self.class == Class::Control {
                    self.shared.endpoints_changed(&self.link, &self.endpoints);
                }
            }
            LinkFrame::Call { number, body } => self.take_call(number, body),
            LinkFrame::Answer { number, result } => {
                let waiting = self.link.lock().calls.remove(&number);
                if let Some(waiting) = waiting {
                    // Whoever asked may have given up.
                    let _ = waiting.send(result);
                }
            }
        }
        Ok(())
    }

    fn take_call(&self, number: u64, body: Bytes) {
        let (reply, answer) = oneshot::channel();
        let call = PeerCall { from: self.link.peer, body, reply };
        match self.shared.calls.try_send(call) {
            Ok(()) => {
                let link = self.link.clone();
                self.shared.runtime.spawn("peer call", async move {
                    let result = tokio::select! {
                        biased;
                        () = link.over() => return,
                        result = answer => result,
                    };
                    let fits = |body: &Bytes| body.len() <= super::PEER_CALL_BYTES_MAX;
                    link.answer(number, result.ok().filter(fits).ok_or(CallFailure::Refused));
                });
            }
            Err(tokio::sync::mpsc::error::TrySendError::Full(_)) => {
                self.link.answer(number, Err(CallFailure::Overloaded));
            }
            Err(tokio::sync::mpsc::error::TrySendError::Closed(_)) => {
                self.link.answer(number, Err(CallFailure::Refused));
            }
        }
    }
}

struct Sender<R: Runtime> {
    shared: Arc<Shared<R>>,
    link: Arc<Link>,
    class: Class,
    pings: Pings,
    keepalive: Duration,
}

impl<R: Runtime> Sender<R> {
    async fn run<S: AsyncWrite + Unpin>(self, mut stream: S) {
        let runtime = &self.shared.runtime;
        let queue = self.link.queue(self.class);
        let mut ping_at = runtime.now();
        let mut number = 0;
        loop {
            let batch = queue.take();
            let now = runtime.now();
            let mut frames = Vec::with_capacity(batch.frames.len() + 2);
            frames.extend(batch.pong.map(|number| LinkFrame::Pong(number).encode()));
            if now >= ping_at {
                number += 1;
                ping_at = now + self.keepalive;
                *self.pings.lock().unwrap_or_else(PoisonError::into_inner) = (number, now);
                frames.push(LinkFrame::Ping(number).encode());
            }
            if frames.is_empty() && batch.is_empty() {
                tokio::select! {
                    biased;
                    () = self.link.over() => return,
                    () = queue.ready() => {}
                    () = runtime.sleep_until(ping_at) => {}
                }
                continue;
            }
            frames.extend(batch.frames);
            let written = tokio::select! {
                biased;
                () = self.link.over() => return,
                written = write_all(&mut stream, pieces(frames)) => written,
            };
            if let Err(error) = written {
                self.shared.link_lost(&self.link, self.class, &Lost::Io(error));
                return;
            }
        }
    }
}

fn pieces(frames: Vec<Frame>) -> VecDeque<Bytes> {
    let pieces = frames.into_iter().flat_map(|frame| [frame.head, frame.bulk]);
    pieces.filter(|piece| !piece.is_empty()).collect()
}
