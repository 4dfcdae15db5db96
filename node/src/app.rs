//! A process: three zones in one, or one node of a cluster; its start, its readiness, its end.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper::{Request, Response};
use tokio::sync::{mpsc, oneshot};
use trine_core::cluster::{ClusterMap, Cut, GatewayConfig};
use trine_core::gateway::Gateway;
use trine_core::ids::{ClusterId, GatewayId, StoreId, TenantId, ZoneId};
use trine_core::request;
use trine_core::store::Store;
use trine_s3::Room;
use trine_s3::front::{Front, FrontReply};

use crate::admin::socket::{self, Socket};
use crate::admin::{self, Admin, Turns, Who};
use crate::config::{Config, NodePlan, RootKey};
use crate::data::{DataDirectory, DataError, Identity, KeptState, KeptStore, NodeDirectory};
use crate::driver::{Completions, Driver, DriverError, StorePart};
use crate::files;
use crate::hosting::{Absent, HostError, Hosting, Place};
use crate::http::{self, Patience, StopSwitch};
use crate::members::Members;
use crate::runtime::{Listener, Runtime};
use crate::tls::{Tls, TlsError};
use crate::transport::{self, PeerCall, Transport, TransportConfig, TransportError};

/// Long enough for the bodies of a burst to go; short enough that a client that retries does so in time.
const BODY_WAIT: Duration = Duration::from_secs(5);

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

/// A process whose disks are open and which listens; nothing moves yet.
#[derive(Debug)]
pub struct Process<R: Runtime> {
    runtime: R,
    listener: R::Listener,
    address: SocketAddr,
    tls: Option<Tls>,
    driver: Driver<R, Store, Gateway>,
    root_key: RootKey,
    admin: Arc<Admin<R>>,
    socket: Socket,
    calls: Option<mpsc::Receiver<PeerCall>>,
    connections_max: u32,
    /// Holds the lock of an all-in-one process's directory until it has ended.
    data: Option<DataDirectory>,
}

/// What is told when the endpoint can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether the cluster has answered; else it is still electing, and requests wait.
    pub answering: bool,
}

/// What the data directory and the configuration say of a process.
struct Setup<R: Runtime> {
    cluster: ClusterId,
    gateway: GatewayId,
    zone: Option<ZoneId>,
    map: ClusterMap,
    root_key: RootKey,
    places: Vec<(StoreId, Place)>,
    who: Who,
    data: Option<DataDirectory>,
    transport: Option<Transport<R>>,
    /// Where the admin socket goes.
    folder: PathBuf,
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
        let setup = match &config.node {
            None => all_in_one(&runtime, config, address)?,
            Some(plan) => node(&runtime, config, plan).await?,
        };
        let open_tls = |source| Tls::open(&runtime, source, address.ip());
        let tls = config.tls.clone().map(open_tls).transpose()?;
        let Setup { cluster, map, places, who, mut data, transport, .. } = setup;
        let hosting = Hosting::new(
            runtime.clone(),
            cluster,
            map.clone(),
            (config.timing, config.limits.stores, config.levels),
        );
        for (id, place) in places {
            hosting.add(id, place);
        }
        let completions = Completions::new();
        let stores = open_stores(&hosting, &completions, &who).await?;
        if let Some(data) = &mut data {
            data.stores_made()?;
        }
        let gateway = gateway_config(&runtime, cluster, setup.gateway, setup.zone, map, config)?;
        let (front, front_calls) = Front::new();
        let (port, peers, calls) = match transport {
            Some(Transport { port, peers, calls, .. }) => (Some(port), Some(peers), Some(calls)),
            None => (None, None, None),
        };
        let gateway = (setup.gateway, Gateway::new(gateway));
        let (driver, handle) =
            Driver::new(runtime.clone(), completions, stores, gateway, front_calls, port);
        let path = setup.folder.join(socket::NAME);
        let socket = Socket::bind(&path).map_err(|error| AppError::Admin { path, error })?;
        let documents = Room::new(config.limits.document_bytes);
        let (turns, own) = (Turns::new(), runtime.clone());
        let levels = config.levels;
        let admin =
            Admin { runtime: own, handle, front, hosting, documents, who, turns, peers, levels };
        let admin = Arc::new(admin);
        let root_key = setup.root_key;
        let connections_max = config.limits.connections_max;
        Ok(Self {
            runtime,
            listener,
            address,
            tls,
            driver,
            root_key,
            admin,
            socket,
            calls,
            connections_max,
            data,
        })
    }

    /// The way to the gateway, for the service.
    pub fn front(&self) -> Front {
        self.admin.front.clone()
    }

    /// Room for documents, for the service.
    pub fn documents(&self) -> Room {
        self.admin.documents.clone()
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
        let connections_max = self.connections_max;
        let Self { runtime, listener, address, tls, driver, admin, socket, .. } = self;
        let (calls, data) = (self.calls, self.data);
        let (ended_sender, mut ended) = oneshot::channel();
        drive(Box::pin(async move {
            // Who waits for the end may be gone.
            let _ = ended_sender.send(driver.run().await);
        }))
        .map_err(AppError::Thread)?;
        let (switch, stopped) = StopSwitch::new();
        let stopped_too = stopped.clone();
        let (served_sender, served) = oneshot::channel();
        let patience = Patience::new(GRACE);
        let acceptor = tls.as_ref().map(Tls::acceptor);
        if let Some(tls) = tls {
            runtime.spawn("certificates", tls.keep(runtime.clone(), stopped.clone()));
        }
        let own = runtime.clone();
        let server =
            http::serve(own, listener, acceptor, service, stopped, patience, connections_max);
        runtime.spawn("http server", async move {
            // Likewise.
            let _ = served_sender.send(server.await);
        });
        let operators = admin::Server::new(admin.clone(), socket);
        let (quiet_sender, quiet) = oneshot::channel();
        runtime.spawn("admin server", async move {
            operators.run(stopped_too).await;
            // Likewise.
            let _ = quiet_sender.send(());
        });
        if let Some(calls) = calls {
            runtime.spawn("peer calls", admin.clone().answer_peers(calls));
            runtime.spawn("replacements", admin.clone().resume_replacements());
            runtime.spawn("nodes", admin.clone().follow_nodes());
        }
        let mut stop = std::pin::pin!(stop);
        let announced = tokio::select! {
            biased;
            end = &mut ended => return Err(ended_by_itself(end)),
            () = stop.as_mut() => false,
            answering = answers(&runtime, &admin.front) => {
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
        // The socket's file goes before the process does. An error says that it is gone already.
        let _ = quiet.await;
        admin.handle.drain(runtime.now());
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

/// An all-in-one process: its data directory says everything.
fn all_in_one<R: Runtime>(
    runtime: &R,
    config: &Config,
    s3: SocketAddr,
) -> Result<Setup<R>, AppError> {
    let data = DataDirectory::open(runtime, &config.data)?;
    let root_key = match &config.root_key {
        Some(key) => key.clone(),
        None => data.root_key(runtime)?,
    };
    let Identity { cluster, gateway, map } = data.identity().clone();
    let place = |(zone, id): (ZoneId, StoreId)| {
        let (path, geometry) = (data.store_path(zone), config.geometry);
        (id, Place { zone, path, geometry, absent: None })
    };
    let places = data.identity().stores().map(place).collect();
    Ok(Setup {
        cluster,
        gateway,
        // The front stands outside all zones: it lives on when any of them is stopped.
        zone: None,
        map: map.clone(),
        root_key,
        places,
        who: Who::AllInOne { cluster, map, s3 },
        data: Some(data),
        transport: None,
        folder: config.data.clone(),
    })
}

/// A node of a cluster: the configuration says what there is, its data directory what has become
/// of it.
async fn node<R: Runtime>(
    runtime: &R,
    config: &Config,
    plan: &NodePlan,
) -> Result<Setup<R>, AppError> {
    let transport = TransportConfig {
        cluster: plan.cluster,
        node: plan.me,
        listen: plan.own().peer,
        peers: plan
            .nodes
            .values()
            .filter(|node| node.id != plan.me)
            .map(|node| (node.id, node.peer))
            .collect(),
        timing: plan.links,
        insecure_peer_listen: plan.insecure_peer_listen,
    };
    // Before the directory, likewise.
    let transport = transport::start(runtime.clone(), transport).await?;
    let data = NodeDirectory::open(&config.data, plan)?;
    let members = Members::new(plan.clone(), data.nodes());
    transport.peers.set(&members.peers());
    let zone = plan.own().zone;
    let place = |store: &KeptStore| {
        let replaces = |id| data.store(id).and_then(KeptStore::replaces);
        let geometry = plan.geometry_of(store.id(), replaces).unwrap_or(config.geometry);
        let absent = match store.state {
            _ if data.is_lost(store) => Some(Absent::Lost),
            KeptState::BeingMade if store.came_later() => Some(Absent::Waits),
            KeptState::ToBePlaced => Some(Absent::Waits),
            KeptState::BeingMade | KeptState::Made | KeptState::Replaced => None,
        };
        (store.id(), Place { zone, path: data.path_of(store), geometry, absent })
    };
    let places = data.stores().iter().filter(|store| store.state != KeptState::Replaced).map(place);
    let places = places.collect();
    Ok(Setup {
        cluster: plan.cluster,
        gateway: NodePlan::gateway(plan.me),
        zone: Some(zone),
        map: plan.map(),
        root_key: config.root_key.clone().ok_or(AppError::NoRootKey)?,
        places,
        who: Who::Node {
            members: Box::new(members),
            data: Arc::new(tokio::sync::Mutex::new(data)),
            geometry: config.geometry,
        },
        data: None,
        transport: Some(transport),
        folder: config.data.clone(),
    })
}

/// Open the disks of all stores that are there. Those that a node has made and that are gone, or
/// cannot be opened, it goes on without.
async fn open_stores<R: Runtime>(
    hosting: &Hosting<R>,
    completions: &Completions,
    who: &Who,
) -> Result<Vec<StorePart<R, Store>>, AppError> {
    let mut parts = Vec::new();
    for (id, place) in hosting.places() {
        if let Some(absent) = &place.absent {
            if *absent == Absent::Lost {
                tracing::error!(
                    "{id} IS LOST: its file {} is gone, and an empty one must not take its place. \
                     This node runs without it. Put it back and restart, or give its place to a \
                     new store with `trine admin store replace {}` (if that was done elsewhere \
                     already, all is well)",
                    place.path.display(),
                    id.0
                );
            }
            continue;
        }
        let Who::Node { data, .. } = who else {
            parts.push(hosting.part(id, completions.sink(id))?);
            continue;
        };
        let mut data = data.lock().await;
        let new = data.store(id).is_some_and(|store| store.state == KeptState::BeingMade);
        if let Some(folder) = place.path.parent().filter(|_| new) {
            files::create_directory(folder, 0o700).map_err(|error| DataError::Io {
                action: "make the directory",
                path: folder.to_owned(),
                error,
            })?;
        }
        match hosting.part(id, completions.sink(id)) {
            Ok(part) => {
                data.made(id)?;
                parts.push(part);
            }
            Err(HostError::Disk(error)) if !new => {
                tracing::error!("{id} DOES NOT RUN, and this node goes on without it: {error}");
                hosting.set_absent(id, Some(Absent::Failed(error.to_string())));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(parts)
}

fn gateway_config(
    runtime: &impl Runtime,
    cluster: ClusterId,
    gateway: GatewayId,
    zone: Option<ZoneId>,
    map: ClusterMap,
    Config { limits, levels, .. }: &Config,
) -> Result<GatewayConfig, AppError> {
    let mut nonce = [0; 16];
    runtime.random(&mut nonce).map_err(AppError::Random)?;
    Ok(GatewayConfig {
        cluster,
        gateway,
        zone,
        map,
        cut: Cut::PRODUCTION,
        body_budget_bytes: limits.body_budget_bytes,
        body_wait: BODY_WAIT,
        requests_max: limits.requests_max,
        call_timeout: CALL_TIMEOUT,
        hedge_after: HEDGE_AFTER,
        request_timeout: REQUEST_TIMEOUT,
        beat: BEAT,
        levels: *levels,
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
    /// A disk cannot be opened, or its machine not be made.
    Store(HostError),
    /// The endpoint has no certificate.
    Tls(TlsError),
    /// Links to peers cannot be made.
    Transport(TransportError),
    /// The admin socket cannot be made.
    Admin {
        /// Where.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A node without the key pair.
    NoRootKey,
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

impl From<HostError> for AppError {
    fn from(error: HostError) -> Self {
        Self::Store(error)
    }
}

impl From<TlsError> for AppError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl From<TransportError> for AppError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
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
            Self::Store(error) => error.fmt(f),
            Self::Tls(error) => write!(f, "no TLS: {error}"),
            Self::Transport(error) => error.fmt(f),
            Self::Admin { path, error } => write!(
                f,
                "cannot make the admin socket {}: {error}; the file system of the data directory \
                 must take Unix sockets: choose another with --data",
                path.display()
            ),
            Self::NoRootKey => f.write_str("a node needs the root key pair in its configuration"),
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
