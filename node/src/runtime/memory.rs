//! A runtime for tests whose connections are memory and whose time stands still unless everybody waits for
//! it (`#[tokio::test(start_paused = true)]`): a busy machine makes nothing late.
//!
//! It has no disks. What a closed connection leaves unread can still be read, as with TCP; resets there are
//! none.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use trine_core::time::{Instant, WallTime};

use super::tokio::FileDisk;
use super::{DiskOpenError, DiskSink, Listener, Runtime};

/// Bytes under way in one direction of a connection.
const BUFFER_BYTES: usize = 64 << 10;

/// The wall clock at its beginning: 2026-01-01.
const WALL_ORIGIN_MILLIS: u64 = 1_767_225_600_000;

/// A network and a clock of its own; its clones share them.
#[derive(Clone, Debug)]
pub(crate) struct MemoryRuntime {
    origin: tokio::time::Instant,
    network: Arc<Mutex<Network>>,
}

#[derive(Debug)]
struct Network {
    listeners: BTreeMap<SocketAddr, mpsc::UnboundedSender<(DuplexStream, SocketAddr)>>,
    port: u16,
    random: u64,
}

impl MemoryRuntime {
    pub(crate) fn new() -> Self {
        let network = Network { listeners: BTreeMap::new(), port: 10_000, random: 1 };
        Self { origin: tokio::time::Instant::now(), network: Arc::new(Mutex::new(network)) }
    }

    fn network(&self) -> MutexGuard<'_, Network> {
        self.network.lock().unwrap()
    }
}

impl Network {
    fn next_address(&mut self) -> SocketAddr {
        self.port += 1;
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}

impl Runtime for MemoryRuntime {
    type Stream = DuplexStream;
    type Listener = MemoryListener;
    type Disk = FileDisk;

    fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap())
    }

    fn wall(&self) -> WallTime {
        WallTime::from_millis(WALL_ORIGIN_MILLIS + self.now().as_nanos() / 1_000_000)
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send + 'static {
        tokio::time::sleep(at.since(self.now().min(at)))
    }

    fn spawn(&self, _name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::spawn(task));
    }

    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        std::future::ready(work())
    }

    async fn bind(&self, address: SocketAddr) -> io::Result<MemoryListener> {
        let mut network = self.network();
        let address = if address.port() == 0 { network.next_address() } else { address };
        if network.listeners.get(&address).is_some_and(|listener| !listener.is_closed()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (sender, arrivals) = mpsc::unbounded_channel();
        network.listeners.insert(address, sender);
        Ok(MemoryListener { address, arrivals })
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(BUFFER_BYTES);
        let mut network = self.network();
        let from = network.next_address();
        let listener = network.listeners.get(&address).ok_or(io::ErrorKind::ConnectionRefused)?;
        listener.send((far, from)).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(near)
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut network = self.network();
        for byte in bytes {
            network.random = network.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = network.random.to_be_bytes()[0];
        }
        Ok(())
    }

    fn open_disk(&self, path: &Path, _: u64, _: DiskSink) -> Result<FileDisk, DiskOpenError> {
        Err(DiskOpenError::NotAFile { path: path.to_owned() })
    }

    fn note(&self, line: &str) {
        tracing::info!("{line}");
    }
}

/// Where connections arrive.
#[derive(Debug)]
pub(crate) struct MemoryListener {
    address: SocketAddr,
    arrivals: mpsc::UnboundedReceiver<(DuplexStream, SocketAddr)>,
}

impl Listener for MemoryListener {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.arrivals.recv().await {
            Some(arrival) => Ok(arrival),
            // The network is gone, and nobody can connect any more.
            None => std::future::pending().await,
        }
    }

    fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
