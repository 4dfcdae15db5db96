//! The production runtime: tokio, the operating system's clocks and CSPRNG, files as disks.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant as OsInstant, SystemTime, UNIX_EPOCH};

use tokio::net::{TcpListener, TcpStream};
use trine_core::time::{Instant, WallTime};

use super::{DiskOpenError, DiskSink, Listener, Runtime};

mod disk;

pub use disk::FileDisk;

/// The production runtime. Tasks run on the tokio runtime in whose context `spawn` is called.
#[derive(Clone, Debug)]
pub struct TokioRuntime {
    origin: OsInstant,
}

impl TokioRuntime {
    /// A runtime whose clock starts now.
    pub fn new() -> Self {
        Self { origin: OsInstant::now() }
    }
}

impl Default for TokioRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl Runtime for TokioRuntime {
    type Stream = TcpStream;
    type Listener = TokioListener;
    type Disk = FileDisk;

    fn now(&self) -> Instant {
        // 2^64 ns are 584 years of uptime.
        Instant::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> WallTime {
        // A clock before 1970 is a broken one; it reads as 1970.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send + 'static {
        let wait = Duration::from_nanos(at.as_nanos().saturating_sub(self.now().as_nanos()));
        tokio::time::sleep(wait)
    }

    fn spawn(&self, _name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        // Tokio names tasks only under its unstable flag.
        drop(tokio::spawn(task));
    }

    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        let work = tokio::task::spawn_blocking(work);
        async move {
            match work.await.map_err(tokio::task::JoinError::try_into_panic) {
                Ok(value) => value,
                Err(Ok(panic)) => std::panic::resume_unwind(panic),
                // The runtime is being shut down, and whoever waits here with it.
                Err(Err(_)) => std::future::pending().await,
            }
        }
    }

    async fn bind(&self, address: SocketAddr) -> io::Result<TokioListener> {
        TcpListener::bind(address).await.map(TokioListener)
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        getrandom::fill(bytes).map_err(io::Error::from)
    }

    fn open_disk(
        &self,
        path: &Path,
        capacity: u64,
        sink: DiskSink,
    ) -> Result<FileDisk, DiskOpenError> {
        FileDisk::open(path, capacity, sink)
    }

    fn note(&self, line: &str) {
        tracing::info!("{line}");
    }
}

/// A listening TCP socket.
#[derive(Debug)]
pub struct TokioListener(TcpListener);

impl Listener for TokioListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream, peer))
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
