//! HTTP over the runtime's streams: bounded connections, bounded waits, graceful stop. A client that begins
//! with HTTP/2's preface gets HTTP/2, every other HTTP/1.1.
//!
//! It knows nothing of S3: what answers is any hyper service.

use std::error::Error;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant as OsInstant};

use hyper::body::{Body, Incoming};
use hyper::rt::{Executor, Sleep, Timer};
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use trine_core::time::Instant;

use crate::runtime::{Runtime, accept_within};

mod linger;
mod progress;
mod secure;
mod version;

use linger::Lingering;
use progress::Counted;
use version::Version;

/// Bytes of a connection's read buffer, and so of a request's head.
const BUFFER_MAX: usize = 128 << 10;

/// Requests at a time on a connection of HTTP/2.
const STREAMS_MAX: u32 = 32;
/// Bytes of a body that a client of HTTP/2 may send unread on each stream. All streams of a connection
/// may have as much at a time, else one whose body has to wait would hold up the others.
const WINDOW_BYTES: u32 = 64 << 10;
/// Bytes of an answer that wait to be taken by a client of HTTP/2.
const SEND_BUFFER_BYTES: usize = 16 << 10;
/// Bytes of a request's head over HTTP/2.
const HEADERS_BYTES_MAX: u32 = 32 << 10;

/// How long a client may take to send a head, counted from when the connection is free for it; so
/// it also ends idle connections.
const HEAD_MAX: Duration = Duration::from_secs(60);

/// How long nothing may move on a connection, in the midst of a request (at most twice of it). More
/// than the gateway's patience with a client, which tells the reason: this is for what the gateway
/// does not see, a document that does not end or an answer that is not taken.
const STALL_MAX: Duration = Duration::from_secs(180);

/// Pause after a failed accept, which mostly means that descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a server waits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For requests in progress to finish at a stop.
    pub stop: Duration,
    /// For something to move on a connection.
    pub stall: Duration,
}

impl Patience {
    /// For production, with requests given `stop` to finish.
    pub fn new(stop: Duration) -> Self {
        Self { stop, stall: STALL_MAX }
    }
}

/// Tells a server to stop: a switch that is thrown once.
#[derive(Debug)]
pub struct StopSwitch(watch::Sender<bool>);

/// The other end of a [`StopSwitch`].
#[derive(Clone, Debug)]
pub struct Stopped(watch::Receiver<bool>);

impl StopSwitch {
    /// A switch that is not thrown yet.
    pub fn new() -> (Self, Stopped) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Stopped(receiver))
    }

    /// Throw it.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stopped {
    /// Ends when the switch is thrown (or dropped).
    pub async fn wait(&mut self) {
        // An error says that the switch is gone: nobody will let the server live on.
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }
}

/// Serve connections, with TLS if there is what makes it, until `stopped`, then let requests in progress finish for as long as `patience`
/// says. At most `connections_max` at a time: more wait in the kernel's backlog. Each costs two tasks'
/// memory, and up to `BUFFER_MAX`.
///
/// Returns the number of connections that were still busy after that.
pub async fn serve<R, S, B>(
    runtime: R,
    mut listener: R::Listener,
    tls: Option<TlsAcceptor>,
    service: S,
    mut stopped: Stopped,
    patience: Patience,
    connections_max: u32,
) -> usize
where
    R: Runtime,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let places = Arc::new(Semaphore::new(connections_max as usize));
    while let Some((accepted, place)) = accept_within(&mut listener, &places, stopped.wait()).await
    {
        match accepted {
            Ok((stream, _peer)) => {
                let (stream, moves) = Counted::new(stream);
                let stream = Lingering::new(stream, &runtime, stopped.clone());
                let (tls, service, stopped) = (tls.clone(), service.clone(), stopped.clone());
                let connection = connection(&runtime, stream, tls, service, stopped);
                let stalled = moves.stalled(runtime.clone(), patience.stall);
                runtime.spawn("http connection", async move {
                    tokio::select! {
                        biased;
                        () = connection => {}
                        () = stalled => tracing::debug!("connection: nothing moves on it"),
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("accepting a connection: {error}");
                runtime.sleep_until(runtime.now() + ACCEPT_PAUSE).await;
            }
        }
    }
    // Connections to come are refused, not left in the backlog.
    drop(listener);
    tokio::select! {
        biased;
        _ = places.acquire_many(connections_max) => 0,
        () = runtime.sleep_until(runtime.now() + patience.stop) => {
            connections_max as usize - places.available_permits()
        }
    }
}

/// Serve the requests of one connection: one after the other, or as HTTP/2 interleaves them.
fn connection<R, T, S, B>(
    runtime: &R,
    stream: T,
    tls: Option<TlsAcceptor>,
    service: S,
    mut stopped: Stopped,
) -> impl Future<Output = ()> + Send + use<R, T, S, B>
where
    R: Runtime,
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let runtime = runtime.clone();
    async move {
        let patience = runtime.sleep_until(runtime.now() + HEAD_MAX);
        let begin = async {
            let stream = secure::begin(stream, tls.as_ref()).await?;
            version::read(stream).await
        };
        let begun = tokio::select! {
            biased;
            begun = begin => begun,
            () = patience => return,
            () = stopped.wait() => return,
        };
        let result = match begun {
            Err(error) => return tracing::debug!("connection: {error}"),
            Ok((Version::One, stream)) => {
                let mut builder = http1::Builder::new();
                builder
                    .timer(RuntimeTimer::new(runtime))
                    .header_read_timeout(HEAD_MAX)
                    .max_buf_size(BUFFER_MAX);
                served(builder.serve_connection(TokioIo::new(stream), service), stopped).await
            }
            Ok((Version::Two, stream)) => {
                let mut builder = http2::Builder::new(RuntimeExecutor(runtime.clone()));
                builder
                    .timer(RuntimeTimer::new(runtime))
                    .max_concurrent_streams(STREAMS_MAX)
                    .initial_connection_window_size(STREAMS_MAX * WINDOW_BYTES)
                    .initial_stream_window_size(WINDOW_BYTES)
                    .max_send_buf_size(SEND_BUFFER_BYTES)
                    .max_header_list_size(HEADERS_BYTES_MAX);
                served(builder.serve_connection(TokioIo::new(stream), service), stopped).await
            }
        };
        if let Err(error) = result {
            // The client's doing, mostly: it hung up, or sent what is not HTTP.
            tracing::debug!("connection: {error}");
        }
    }
}

/// Serve a connection to its end; once `stopped`, to that of the requests in progress.
async fn served<C: GracefulConnection>(
    connection: C,
    mut stopped: Stopped,
) -> Result<(), C::Error> {
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        result = connection.as_mut() => result,
        () = stopped.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

/// Runs the streams of a connection, each a task of its own.
#[derive(Clone, Debug)]
struct RuntimeExecutor<R>(R);

impl<R: Runtime, F: Future<Output = ()> + Send + 'static> Executor<F> for RuntimeExecutor<R> {
    fn execute(&self, stream: F) {
        self.0.spawn("http stream", stream);
    }
}

/// The runtime's clock, as hyper wants it.
///
/// Hyper measures in the operating system's `Instant`s. They are taken for distances from one
/// moment, at which both clocks were read.
#[derive(Clone, Debug)]
struct RuntimeTimer<R> {
    runtime: R,
    os_origin: OsInstant,
    origin: Instant,
}

impl<R: Runtime> RuntimeTimer<R> {
    fn new(runtime: R) -> Self {
        let origin = runtime.now();
        Self { runtime, os_origin: OsInstant::now(), origin }
    }

    fn at(&self, at: Instant) -> Pin<Box<dyn Sleep>> {
        let sleep = self.runtime.sleep_until(at);
        // One task polls it, so that the lock is never waited for: it makes the sleep `Sync`.
        Box::pin(RuntimeSleep(std::sync::Mutex::new(Box::pin(sleep))))
    }
}

impl<R: Runtime> Timer for RuntimeTimer<R> {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.at(self.runtime.now() + duration)
    }

    fn sleep_until(&self, deadline: OsInstant) -> Pin<Box<dyn Sleep>> {
        self.at(self.origin + deadline.saturating_duration_since(self.os_origin))
    }

    fn now(&self) -> OsInstant {
        self.os_origin + self.runtime.now().since(self.origin)
    }
}

struct RuntimeSleep(std::sync::Mutex<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Future for RuntimeSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        sleep.as_mut().poll(context)
    }
}

impl Sleep for RuntimeSleep {}

#[cfg(test)]
mod tests;
