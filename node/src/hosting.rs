//! The stores of a process: which there are, how their machines are made, stopped and started.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use trine_core::cluster::{ClusterMap, Geometry, StoreConfig, StoreLimits, StoreTiming};
use trine_core::ids::{ClusterId, StoreId, ZoneId};
use trine_core::level::Levels;
use trine_core::store::Store;

use trine_core::time::Duration;

use crate::driver::{Handle, StartError, StopError, StoreLife, StorePart};
use crate::runtime::{DiskOpenError, DiskSink, Runtime};

/// How often a file that was closed just now is tried, and the pause between.
const REOPENS_MAX: u32 = 40;
const REOPEN_PAUSE: Duration = Duration::from_millis(50);

/// How long a disk may take to finish what is in flight before its store is started anew.
const CLOSE_MAX: Duration = Duration::from_secs(10);

/// The stores of a process.
#[derive(Debug)]
pub struct Hosting<R: Runtime> {
    runtime: R,
    cluster: ClusterId,
    map: ClusterMap,
    timing: StoreTiming,
    limits: StoreLimits,
    levels: Levels,
    places: Mutex<BTreeMap<StoreId, Place>>,
    /// Stores that are being started or stopped.
    turning: Mutex<BTreeSet<StoreId>>,
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its zone.
    pub zone: ZoneId,
    /// Its disk.
    pub path: PathBuf,
    /// How that is laid out when it is first made.
    pub geometry: Geometry,
    /// Why it does not run, if it does not.
    pub absent: Option<Absent>,
}

/// Why a store does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Its file was made and is gone.
    Lost,
    /// Its file cannot be opened, for this reason.
    Failed(String),
    /// The operator stopped its zone.
    Stopped,
    /// The cluster's map does not have it yet.
    Waits,
}

impl<R: Runtime> Hosting<R> {
    /// None yet; each starts with `map`, the cluster's first.
    pub fn new(
        runtime: R,
        cluster: ClusterId,
        map: ClusterMap,
        (timing, limits, levels): (StoreTiming, StoreLimits, Levels),
    ) -> Self {
        let (places, turning) = (Mutex::default(), Mutex::default());
        Self { runtime, cluster, map, timing, limits, levels, places, turning }
    }

    /// Where each store is.
    pub fn places(&self) -> BTreeMap<StoreId, Place> {
        self.lock().clone()
    }

    /// There is this store, too.
    pub fn add(&self, id: StoreId, place: Place) {
        self.lock().insert(id, place);
    }

    /// Another has this store's place for ever.
    pub fn forget(&self, id: StoreId) {
        self.lock().remove(&id);
    }

    /// A store's machine and its open disk. This blocks: it is for the start of a process.
    ///
    /// # Errors
    /// [`HostError`].
    pub fn part(&self, id: StoreId, sink: DiskSink) -> Result<StorePart<R, Store>, HostError> {
        self.opening(id)?.open(sink)
    }

    /// The same beside a running driver. The file may still be held by an attempt just before.
    ///
    /// # Errors
    /// [`HostError`].
    pub async fn open(
        &self,
        handle: &Handle<R, Store>,
        id: StoreId,
    ) -> Result<StorePart<R, Store>, HostError> {
        let mut tries = 1;
        loop {
            let (opening, sink) = (self.opening(id)?, handle.sink(id));
            match self.runtime.blocking(move || opening.open(sink)).await {
                Err(HostError::Disk(DiskOpenError::Locked { .. })) if tries < REOPENS_MAX => {
                    tries += 1;
                }
                result => return result,
            }
            self.runtime.sleep_until(self.runtime.now() + REOPEN_PAUSE).await;
        }
    }

    fn opening(&self, id: StoreId) -> Result<Opening<R>, HostError> {
        let place = self.lock().get(&id).cloned().ok_or(HostError::Unknown(id))?;
        let mut seed = [0; 8];
        self.runtime.random(&mut seed).map_err(HostError::Random)?;
        let config = StoreConfig {
            cluster: self.cluster,
            store: id,
            zone: place.zone,
            map: self.map.clone(),
            geometry: place.geometry,
            limits: self.limits,
            timing: self.timing,
            levels: self.levels,
            seed: u64::from_le_bytes(seed),
        };
        Ok(Opening { runtime: self.runtime.clone(), path: place.path, config })
    }

    /// Note down why a store does not run, or that it does.
    pub fn set_absent(&self, id: StoreId, absent: Option<Absent>) {
        if let Some(place) = self.lock().get_mut(&id) {
            place.absent = absent;
        }
    }

    /// Start a store in the running driver, if it does not run or has halted. A lost one is not
    /// started.
    ///
    /// # Errors
    /// [`HostError`]; the store is then absent, for that reason.
    pub async fn start(&self, handle: &Handle<R, Store>, id: StoreId) -> Result<(), HostError> {
        let _turn = Turn::take(&self.turning, id)?;
        let place = self.lock().get(&id).cloned().ok_or(HostError::Unknown(id))?;
        let path = place.path.clone();
        let exists = self.runtime.blocking(move || path.exists()).await;
        // Made it was: opening it would make an empty one in its place.
        if place.absent == Some(Absent::Lost) || !exists {
            self.set_absent(id, Some(Absent::Lost));
            return Err(HostError::Lost(id));
        }
        if place.absent == Some(Absent::Waits) {
            // It starts by itself when the cluster's map has it.
            return Ok(());
        }
        match life(handle, id).await? {
            Some(StoreLife::Opening | StoreLife::Serving) => {
                self.set_absent(id, None);
                return Ok(());
            }
            // Its old disk must be closed before its file is opened again.
            Some(StoreLife::Halted(_) | StoreLife::Stopping) => self.closed(handle, id).await?,
            None => {}
        }
        let error = match self.open(handle, id).await {
            Ok(part) => match handle.start_store(part).await {
                Ok(()) => {
                    self.set_absent(id, None);
                    return Ok(());
                }
                Err(error) => HostError::Start(error),
            },
            Err(error) => error,
        };
        self.set_absent(id, Some(Absent::Failed(error.to_string())));
        Err(error)
    }

    /// Wait until the disk of a store that runs no more is closed.
    async fn closed(&self, handle: &Handle<R, Store>, id: StoreId) -> Result<(), HostError> {
        let until = self.runtime.sleep_until(self.runtime.now() + CLOSE_MAX);
        tokio::select! {
            biased;
            stopped = handle.stop_store(id) => match stopped {
                Ok(()) | Err(StopError::NotRunning(_)) => Ok(()),
                Err(error) => Err(HostError::Stop(error)),
            },
            () = until => Err(HostError::NotClosed(id)),
        }
    }

    /// Stop a store, if it runs.
    ///
    /// # Errors
    /// [`HostError`].
    pub async fn stop(&self, handle: &Handle<R, Store>, id: StoreId) -> Result<(), HostError> {
        let _turn = Turn::take(&self.turning, id)?;
        match handle.stop_store(id).await {
            Ok(()) | Err(StopError::NotRunning(_)) => {}
            Err(error) => return Err(HostError::Stop(error)),
        }
        if let Some(place) = self.lock().get_mut(&id)
            && place.absent.is_none()
        {
            place.absent = Some(Absent::Stopped);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StoreId, Place>> {
        // Each change is one call, so that it is whole even after a panic.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All it takes to open a store.
struct Opening<R> {
    runtime: R,
    path: PathBuf,
    config: StoreConfig,
}

impl<R: Runtime> Opening<R> {
    /// This blocks.
    fn open(self, sink: DiskSink) -> Result<StorePart<R, Store>, HostError> {
        let Self { runtime, path, config } = self;
        let disk = runtime.open_disk(&path, config.geometry.capacity, sink)?;
        Ok(StorePart { id: config.store, machine: Store::new(config), disk })
    }
}

/// Held while a store is started or stopped: two at a time would take each other's disk for closed.
struct Turn<'a> {
    turning: &'a Mutex<BTreeSet<StoreId>>,
    id: StoreId,
}

impl<'a> Turn<'a> {
    fn take(turning: &'a Mutex<BTreeSet<StoreId>>, id: StoreId) -> Result<Self, HostError> {
        match turning.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            true => Ok(Self { turning, id }),
            false => Err(HostError::Turning(id)),
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turning.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// How far a store has come in the driver, if that has it.
async fn life<R: Runtime>(
    handle: &Handle<R, Store>,
    id: StoreId,
) -> Result<Option<StoreLife>, HostError> {
    let status = handle.status().await.ok_or(HostError::Start(StartError::DriverGone))?;
    Ok(status.stores.into_iter().find(|store| store.id == id).map(|store| store.life))
}

/// Why a store cannot be started or stopped, for the operator.
#[derive(Debug)]
pub enum HostError {
    /// There is no such store in this process.
    Unknown(StoreId),
    /// Its file was made and is gone.
    Lost(StoreId),
    /// It is being started or stopped.
    Turning(StoreId),
    /// It halted or was stopped, and its disk still has something in flight.
    NotClosed(StoreId),
    /// Its disk cannot be opened.
    Disk(DiskOpenError),
    /// The operating system has no randomness to give.
    Random(io::Error),
    /// The driver does not take it.
    Start(StartError),
    /// The driver does not let it go.
    Stop(StopError),
}

impl From<DiskOpenError> for HostError {
    fn from(error: DiskOpenError) -> Self {
        Self::Disk(error)
    }
}

impl From<StartError> for HostError {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(id) => write!(f, "there is no {id} in this process"),
            Self::Lost(id) => write!(
                f,
                "the file of {id} is gone: put it back and restart this node, or give its place to \
                 a new store with `trine admin store replace {}`",
                id.0
            ),
            Self::Turning(id) => {
                write!(f, "{id} is being started or stopped already: try again when that is done")
            }
            Self::NotClosed(id) => write!(
                f,
                "{id} does not run, and its disk has not finished within {CLOSE_MAX:?} what it was \
                 given before: a disk that hangs. Restart its node once that is mended, or give its \
                 place to a new store with `trine admin store replace {}`",
                id.0
            ),
            Self::Disk(error) => error.fmt(f),
            Self::Random(error) => {
                write!(f, "the operating system gives no random numbers: {error}")
            }
            Self::Start(error) => error.fmt(f),
            Self::Stop(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for HostError {}
