//! The outside world, as the shell sees it: clocks, tasks, sockets, randomness, disks.
//!
//! [`tokio::TokioRuntime`] is the production implementation. A simulated one implements the same
//! trait and runs the same shell. For that the shell keeps these rules:
//!
//! - it spawns, sleeps, listens, connects and draws random bytes only through [`Runtime`];
//! - each `select!` is `biased;`, so that the order of readiness is the only order there is;
//! - it blocks nowhere, and starts no thread: disks hide theirs behind [`Disk`], and other work on files
//!   goes through [`Runtime::blocking`] once the process serves;
//! - its channels and semaphores are tokio's `sync`, which needs no tokio runtime.

use std::fmt::{self, Debug};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::tokio::io::{AsyncRead, AsyncWrite};
use ::tokio::sync::{OwnedSemaphorePermit, Semaphore};
use trine_core::disk::{DiskOp, DiskResult};
use trine_core::ids::DiskToken;
use trine_core::time::{Instant, WallTime};

#[cfg(test)]
pub(crate) mod memory;
pub mod tokio;

/// The outside world. Cheap to clone: a handle.
pub trait Runtime: Clone + Debug + Send + Sync + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// A listening socket.
    type Listener: Listener<Stream = Self::Stream>;
    /// An open disk.
    type Disk: Disk;

    /// The monotonic clock. Its origin is the runtime's choice, the same for all its clones.
    fn now(&self) -> Instant;

    /// The wall clock. There must be only one in a process: signatures are checked against it.
    fn wall(&self) -> WallTime;

    /// Ends when [`now`](Self::now) has reached `at`, at once if it has already.
    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send + 'static;

    /// Run a task on its own. It is dropped, at any await, when its node crashes or stops.
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static);

    /// Do work that may block, on files, where it holds up no task. Once begun it is done to its end,
    /// whether or not anybody waits for it.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static;

    /// Listen.
    ///
    /// # Errors
    /// The operating system's, such as `AddrInUse`.
    fn bind(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Listener>> + Send;

    /// Connect. Callers bound the time themselves.
    ///
    /// # Errors
    /// The operating system's, such as `ConnectionRefused`.
    fn connect(&self, address: SocketAddr)
    -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Fill `bytes` from a cryptographically secure source (a seeded one in simulations).
    ///
    /// # Errors
    /// The operating system's, if it has no randomness to give.
    fn random(&self, bytes: &mut [u8]) -> io::Result<()>;

    /// Open the disk at `path`, made with `capacity` bytes if it is not there; the directory must
    /// be. When it returns, the disk's existence is durable and the disk is ours alone.
    ///
    /// # Errors
    /// The implementation's, with the path and the way out in its text.
    fn open_disk(
        &self,
        path: &Path,
        capacity: u64,
        sink: DiskSink,
    ) -> Result<Self::Disk, DiskOpenError>;

    /// One line for the trace (the log, in production).
    fn note(&self, line: &str);
}

/// Where a disk's completions go. It is called from any thread, and must not block.
pub type DiskSink = Arc<dyn Fn(DiskToken, DiskResult) + Send + Sync>;

/// An open disk. Dropped, it finishes what is in flight, lets go of the disk, and then of its
/// [`DiskSink`]: whoever made the sink can tell by that.
///
/// Promises those of [`trine_core::disk`]. In particular a `Sync` covers each write whose
/// completion was reported before the sync was submitted.
pub trait Disk: Debug + Send + 'static {
    /// Start an effect; its end comes to the [`DiskSink`], exactly once, in any order.
    ///
    /// It does not block. How much is in flight is bounded by the store's own limits.
    fn submit(&self, token: DiskToken, op: DiskOp);
}

/// A listening socket.
pub trait Listener: Debug + Send + 'static {
    /// What a connection is.
    type Stream;

    /// The next connection, with `TCP_NODELAY` set where that means something.
    ///
    /// # Errors
    /// The operating system's; the listener remains usable.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Where it listens: the real port, if 0 was asked for.
    ///
    /// # Errors
    /// The operating system's.
    fn address(&self) -> io::Result<SocketAddr>;
}

/// What came of an accept.
pub(crate) type Accepted<S> = io::Result<(S, SocketAddr)>;

/// The next connection, once there is a place for it, and the place; `None` once `stopped` ends.
pub(crate) async fn accept_within<L: Listener>(
    listener: &mut L,
    places: &Arc<Semaphore>,
    stopped: impl Future<Output = ()>,
) -> Option<(Accepted<L::Stream>, OwnedSemaphorePermit)> {
    let accepted = async {
        let place = places.clone().acquire_owned().await;
        (listener.accept().await, place.expect("the semaphore is never closed"))
    };
    ::tokio::select! {
        biased;
        () = stopped => None,
        accepted = accepted => Some(accepted),
    }
}

/// Why a disk could not be opened, for the operator.
#[derive(Debug)]
pub enum DiskOpenError {
    /// Another process holds it.
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It is something else than a regular file.
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// The file system does not take a file of this length.
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes asked for.
        capacity: u64,
    },
    /// The operating system says no.
    Io {
        /// What was tried: "open", "lock".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

impl fmt::Display for DiskOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { path } => write!(
                f,
                "another trine process uses {}: stop it, or choose another directory with --data",
                path.display()
            ),
            Self::NotAFile { path } => write!(
                f,
                "{} is not a regular file: move it away, or choose another directory with --data",
                path.display()
            ),
            Self::TooLarge { path, capacity } => write!(
                f,
                "the file system of {} does not take a (sparse) file of {capacity} bytes: \
                 set a smaller --capacity",
                path.display()
            ),
            Self::Io { action, path, error } => write!(
                f,
                "cannot {action} {}: {error}; see to it that this user may read and write there",
                path.display()
            ),
        }
    }
}

impl std::error::Error for DiskOpenError {}
