//! The all-in-one process: three zones, a gateway and HTTP; its start, its readiness, its end.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper::{Request, Response};
use tokio::sync::oneshot;
use trine_core::cluster::{Cut, GatewayConfig, StoreConfig, StoreLimits, StoreTiming};
use trine_core::gateway::Gateway;
use trine_core::ids::TenantId;
use trine_core::request;
use trine_core::store::Store;
use trine_s3::front::{Front, FrontReply};

use crate::config::{Config, RootKey};
use crate::data::{DataDirectory, DataError, Identity};
use crate::driver::{Completions, Driver, DriverError, Handle, StorePart};
use crate::http::{self, Patience, StopSwitch};
use crate::runtime::{DiskOpenError, Listener, Runtime};

/// Body bytes in hand, of all requests. With what stores may hold beside it, an all-in-one process
/// stays below 1 GiB.
const BODY_BUDGET_BYTES: u64 = 256 << 20;

/// Requests in hand: as many as there may be connections.
const REQUESTS_MAX: usize = 4096;

/// A call to a store of the same process takes longer only if its disk does.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// Some ten times what a chunk's read takes from a busy local disk.
const HEDGE_AFTER: Duration = Duration::from_millis(100);

/// Less than clients wait: they should learn that zones are missing, not guess.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Five beats fit into a session's timeout.
const BEAT: Duration = Duration::from_secs(1);

/// How long to wait for the cluster's first answer before the endpoint is announced anyway. An
/// election takes half a second; requests wait for one by themselves.
const READY_MAX: Duration = Duration::from_secs(5);

/// Between two questions whether the cluster answers.
const READY_PAUSE: Duration = Duration::from_millis(50);

/// How long requests in progress may take to finish at a stop.
const GRACE: Duration = Duration::from_secs(20);

/// An all-in-one process whose disks are open and which listens; nothing moves yet.
#[derive(Debug)]
pub struct Process<R: Runtime> {
    runtime: R,
    listener: R::Listener,
    address: SocketAddr,
    driver: Driver<R, Store, Gateway>,
    handle: Handle<R, Store>,
    front: Front,
    root_key: RootKey,
    /// Holds the directory's lock until the process has ended.
    data: DataDirectory,
}

/// What is told when the endpoint can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether the cluster has answered; else it is still electing, and requests wait.
    pub answering: bool,
}

impl<R: Runtime> Process<R> {
    /// Listen, open the data directory and its disks, and set up the machines.
    ///
    /// # Errors
    /// [`AppError`], for the operator.
    pub async fn open(runtime: R, config: &Config) -> Result<Self, AppError> {
        let bind_error = |error| AppError::Listen { address: config.listen, error };
        // First, so that a second process on the same port leaves no directory behind.
        let listener = runtime.bind(config.listen).await.map_err(bind_error)?;
        let address = listener.address().map_err(bind_error)?;
        let mut data = DataDirectory::open(&runtime, &config.data)?;
        let root_key = match &config.root_key {
            Some(key) => key.clone(),
            None => data.root_key(&runtime)?,
        };
        let completions = Completions::new();
        let mut stores = Vec::new();
        for (zone, id) in data.identity().stores() {
            let path = data.store_path(zone);
            let capacity = config.geometry.capacity;
            let disk = runtime.open_disk(&path, capacity, completions.sink(id))?;
            let machine = Store::new(StoreConfig {
                cluster: data.identity().cluster,
                store: id,
                zone,
                map: data.identity().map.clone(),
                geometry: config.geometry,
                limits: StoreLimits::PRODUCTION,
                timing: StoreTiming::DEFAULT,
                seed: random_u64(&runtime)?,
            });
            stores.push(StorePart { id, machine, disk });
        }
        data.stores_made()?;
        let gateway = Gateway::new(gateway_config(&runtime, data.identity())?);
        let (front, calls) = Front::new();
        let gateway = (data.identity().gateway, gateway);
        let (driver, handle) =
            Driver::new(runtime.clone(), completions, stores, gateway, calls, None);
        Ok(Self { runtime, listener, address, driver, handle, front, root_key, data })
    }

    /// The way to the gateway, for the service.
    pub fn front(&self) -> Front {
        self.front.clone()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The key pair that may do everything.
    pub fn root_key(&self) -> &RootKey {
        &self.root_key
    }

    /// Run until `stop` ends, then drain; or until nothing is left to run.
    ///
    /// `drive` takes the driver's future and runs it apart from this one: on a thread of its own in
    /// production. `announce` is called once, when the endpoint can be used.
    ///
    /// # Errors
    /// [`AppError::Driver`] if the machines ended by themselves.
    pub async fn run<S, B>(
        self,
        service: S,
        drive: impl FnOnce(DriverTask) -> io::Result<()>,
        stop: impl Future<Output = ()>,
        announce: impl FnOnce(Announcement),
    ) -> Result<(), AppError>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let Self { runtime, listener, address, driver, handle, front, root_key: _, data } = self;
        let (ended_sender, mut ended) = oneshot::channel();
        drive(Box::pin(async move {
            // Who waits for the end may be gone.
            let _ = ended_sender.send(driver.run().await);
        }))
        .map_err(AppError::Thread)?;
        let (switch, stopped) = StopSwitch::new();
        let (served_sender, served) = oneshot::channel();
        let server = http::serve(runtime.clone(), listener, service, stopped, Patience::new(GRACE));
        runtime.spawn("http server", async move {
            // Likewise.
            let _ = served_sender.send(server.await);
        });
        let mut stop = std::pin::pin!(stop);
        let announced = tokio::select! {
            biased;
            end = &mut ended => return Err(ended_by_itself(end)),
            () = stop.as_mut() => false,
            answering = answers(&runtime, &front) => {
                announce(Announcement { address, answering });
                true
            }
        };
        if announced {
            tokio::select! {
                biased;
                end = &mut ended => return Err(ended_by_itself(end)),
                () = stop => {}
            }
        }
        tracing::info!("stopping: requests in progress have {GRACE:?} to finish");
        switch.stop();
        if let Ok(busy @ 1..) = served.await {
            tracing::warn!("{busy} connections are cut off");
        }
        handle.drain(runtime.now());
        let end = ended.await;
        drop(data);
        match end {
            Ok(Ok(())) => Ok(()),
            end => Err(ended_by_itself(end)),
        }
    }
}

/// The driver's future, to be run apart.
pub type DriverTask = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn ended_by_itself(end: Result<Result<(), DriverError>, oneshot::error::RecvError>) -> AppError {
    match end {
        Ok(Err(error)) => AppError::Driver(error),
        Ok(Ok(())) | Err(_) => AppError::DriverLost,
    }
}

/// Ask the cluster something that takes a quorum, until it answers or [`READY_MAX`] has passed.
async fn answers<R: Runtime>(runtime: &R, front: &Front) -> bool {
    let until = runtime.now() + READY_MAX;
    let asking = async {
        loop {
            let Ok(mut exchange) =
                front.open(request::Request::ListBuckets { tenant: TenantId::default() })
            else {
                return;
            };
            if let Some(FrontReply::Reply(Ok(_))) = exchange.next().await {
                exchange.ended();
                return;
            }
            drop(exchange);
            runtime.sleep_until(runtime.now() + READY_PAUSE).await;
        }
    };
    tokio::select! {
        biased;
        () = asking => true,
        () = runtime.sleep_until(until) => false,
    }
}

fn gateway_config(runtime: &impl Runtime, identity: &Identity) -> Result<GatewayConfig, AppError> {
    let mut nonce = [0; 16];
    runtime.random(&mut nonce).map_err(AppError::Random)?;
    Ok(GatewayConfig {
        cluster: identity.cluster,
        gateway: identity.gateway,
        // The front stands outside all zones: it lives on when any of them is stopped.
        zone: None,
        map: identity.map.clone(),
        cut: Cut::PRODUCTION,
        body_budget_bytes: BODY_BUDGET_BYTES,
        requests_max: REQUESTS_MAX,
        call_timeout: CALL_TIMEOUT,
        hedge_after: HEDGE_AFTER,
        request_timeout: REQUEST_TIMEOUT,
        beat: BEAT,
        nonce: u128::from_le_bytes(nonce),
        seed: random_u64(runtime)?,
    })
}

fn random_u64(runtime: &impl Runtime) -> Result<u64, AppError> {
    let mut bytes = [0; 8];
    runtime.random(&mut bytes).map_err(AppError::Random)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Why a process does not start, or ended, for the operator.
#[derive(Debug)]
pub enum AppError {
    /// The address cannot be had.
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The data directory cannot be used.
    Data(DataError),
    /// A disk cannot be opened.
    Disk(DiskOpenError),
    /// The operating system has no randomness to give.
    Random(io::Error),
    /// The operating system has no thread to give.
    Thread(io::Error),
    /// All stores, or the gateway, have halted.
    Driver(DriverError),
    /// The machines' thread has ended without a word.
    DriverLost,
}

impl From<DataError> for AppError {
    fn from(error: DataError) -> Self {
        Self::Data(error)
    }
}

impl From<DiskOpenError> for AppError {
    fn from(error: DiskOpenError) -> Self {
        Self::Disk(error)
    }
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { address, error } if error.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "{address} is in use by another process: stop it, or choose another address with \
                 --listen"
            ),
            Self::Listen { address, error } => {
                write!(f, "cannot listen on {address}: {error}; choose another with --listen")
            }
            Self::Data(error) => error.fmt(f),
            Self::Disk(error) => error.fmt(f),
            Self::Random(error) => {
                write!(f, "the operating system gives no random numbers: {error}")
            }
            Self::Thread(error) => write!(
                f,
                "cannot start a thread: {error}; raise this user's limit of processes (ulimit -u)"
            ),
            Self::Driver(error) => error.fmt(f),
            Self::DriverLost => f.write_str(
                "the machines' thread has ended: a bug in Trine; what it said stands above. What \
                 was acknowledged is safe, and a new start recovers it",
            ),
        }
    }
}

impl Error for AppError {}
