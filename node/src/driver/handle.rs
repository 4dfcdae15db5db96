//! The way to a running driver, and what it tells.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use trine_core::disk::DiskResult;
use trine_core::gateway::GatewayReport;
use trine_core::ids::{DiskToken, StoreId, ZoneId};
use trine_core::store::StoreReport;
use trine_core::time::Instant;

use crate::runtime::{DiskSink, Runtime};
use crate::transport::{Caller, LinkStatus, NodeId, PeerCallError};

/// Where disks report to a driver that is still to be made.
#[derive(Debug)]
pub struct Completions {
    pub(super) sender: mpsc::UnboundedSender<Completion>,
    pub(super) receiver: mpsc::UnboundedReceiver<Completion>,
}

/// What a disk reports.
#[derive(Debug)]
pub(super) enum Completion {
    /// An effect has finished.
    Done { store: StoreId, token: DiskToken, result: DiskResult },
    /// The disk was dropped, has finished what was in flight, and has let go of its file.
    Closed { store: StoreId },
}

/// Tells, when the last clone of a sink is dropped, that the disk is closed.
struct Closing {
    store: StoreId,
    sender: mpsc::UnboundedSender<Completion>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        // Without a driver nobody waits for it any more.
        let _ = self.sender.send(Completion::Closed { store: self.store });
    }
}

impl Completions {
    /// A new channel.
    pub fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { sender, receiver }
    }

    /// What the disk of `store` reports to.
    pub fn sink(&self, store: StoreId) -> DiskSink {
        sink(&self.sender, store)
    }
}

impl Default for Completions {
    fn default() -> Self {
        Self::new()
    }
}

fn sink(sender: &mpsc::UnboundedSender<Completion>, store: StoreId) -> DiskSink {
    let closing = Closing { store, sender: sender.clone() };
    Arc::new(move |token, result| {
        // Likewise.
        let _ = closing.sender.send(Completion::Done { store: closing.store, token, result });
    })
}

/// A store's machine, and the open disk that it writes to.
#[derive(Debug)]
pub struct StorePart<R: Runtime, S> {
    /// Who it is.
    pub id: StoreId,
    /// The machine, before its start.
    pub machine: S,
    /// Its disk, opened with the sink that [`Completions::sink`] or [`Handle::sink`] gave for `id`.
    pub disk: R::Disk,
}

/// What a driver is asked.
pub(super) enum Control<R: Runtime, S> {
    Status(oneshot::Sender<Status>),
    Drain { until: Instant },
    Stop { id: StoreId, done: oneshot::Sender<Result<(), StopError>> },
    Start { part: StorePart<R, S>, done: oneshot::Sender<Result<(), StartError>> },
}

/// The way to a running driver.
pub struct Handle<R: Runtime, S> {
    pub(super) control: mpsc::UnboundedSender<Control<R, S>>,
    pub(super) completions: mpsc::UnboundedSender<Completion>,
    pub(super) caller: Option<Caller<R>>,
}

impl<R: Runtime, S> Clone for Handle<R, S> {
    fn clone(&self) -> Self {
        Self {
            control: self.control.clone(),
            completions: self.completions.clone(),
            caller: self.caller.clone(),
        }
    }
}

impl<R: Runtime, S> fmt::Debug for Handle<R, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl<R: Runtime, S> Handle<R, S> {
    /// What the machines say; `None` if the driver is gone.
    pub async fn status(&self) -> Option<Status> {
        let (sender, receiver) = oneshot::channel();
        self.control.send(Control::Status(sender)).ok()?;
        receiver.await.ok()
    }

    /// Take no new requests, let open ones finish until `until`, then wait until the disks are quiet
    /// (for a bounded time), then end. Asked again, it only brings the end nearer.
    pub fn drain(&self, until: Instant) {
        // A driver that is gone has drained.
        let _ = self.control.send(Control::Drain { until });
    }

    /// Take a store out, as if its process had died: links to it go down, its disk finishes what is
    /// in flight. Ends when the disk's file is let go. A store that has halted is stopped, too.
    ///
    /// # Errors
    /// [`StopError`].
    pub async fn stop_store(&self, id: StoreId) -> Result<(), StopError> {
        let (done, receiver) = oneshot::channel();
        self.control.send(Control::Stop { id, done }).map_err(|_| StopError::DriverGone)?;
        receiver.await.unwrap_or(Err(StopError::DriverGone))
    }

    /// What the disk of a store that is about to be started reports to.
    pub fn sink(&self, id: StoreId) -> DiskSink {
        sink(&self.completions, id)
    }

    /// Start a store in the running driver. Ends when the machine has been started; its recovery
    /// goes on from there.
    ///
    /// # Errors
    /// [`StartError`]; the part is dropped then, and its disk closed.
    pub async fn start_store(&self, part: StorePart<R, S>) -> Result<(), StartError> {
        let (done, receiver) = oneshot::channel();
        self.control.send(Control::Start { part, done }).map_err(|_| StartError::DriverGone)?;
        receiver.await.unwrap_or(Err(StartError::DriverGone))
    }

    /// Call another node, and wait for its answer no longer than `limit`. Bodies go both ways as they
    /// are, up to [`PEER_CALL_BYTES_MAX`](crate::transport::PEER_CALL_BYTES_MAX).
    ///
    /// # Errors
    /// [`PeerCallError`]; after `LinkLost` and `Timeout` the call may have been carried out.
    pub async fn peer_call(
        &self,
        to: NodeId,
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, PeerCallError> {
        match &self.caller {
            Some(caller) => caller.call(to, body, limit).await,
            None => Err(PeerCallError::NoTransport),
        }
    }
}

/// What a process's machines and links say about themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Stores that run, have halted, or are being closed.
    pub stores: Vec<StoreStatus>,
    /// One line.
    pub gateway: String,
    /// What the gateway tells operators.
    pub gateway_report: Option<GatewayReport>,
    /// Requests that are being served.
    pub requests: usize,
    /// Links to other nodes.
    pub links: Vec<LinkStatus>,
    /// Messages dropped because no link led to their receiver, or from their sender any more; by
    /// kind, since the start.
    pub unrouted: BTreeMap<&'static str, u64>,
}

/// How a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreStatus {
    /// Which.
    pub id: StoreId,
    /// Where it stands, if it knows.
    pub zone: Option<ZoneId>,
    /// How far it has come.
    pub life: StoreLife,
    /// What it says, in a line.
    pub line: String,
    /// What it tells operators, while it runs.
    pub report: Option<StoreReport>,
}

/// How far a store has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreLife {
    /// Its disk is being recovered.
    Opening,
    /// At work.
    Serving,
    /// It has halted, for this reason.
    Halted(String),
    /// It was stopped; its disk finishes what is in flight.
    Stopping,
}

/// Why a store cannot be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopError {
    /// It does not run here.
    NotRunning(StoreId),
    /// The driver is gone, and all its stores with it.
    DriverGone,
}

/// Why a store cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// It runs already, or is about to.
    Running(StoreId),
    /// The process is about to end.
    Draining,
    /// The driver is gone.
    DriverGone,
}

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning(id) => write!(f, "{id} does not run in this process"),
            Self::DriverGone => f.write_str("this process is about to end"),
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running(id) => write!(f, "{id} runs in this process already"),
            Self::Draining | Self::DriverGone => f.write_str("this process is about to end"),
        }
    }
}

impl std::error::Error for StopError {}
impl std::error::Error for StartError {}
