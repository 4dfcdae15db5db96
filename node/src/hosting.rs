//! The stores of a process: which there are, how their machines are made, stopped and started.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use trine_core::cluster::{ClusterMap, Geometry, StoreConfig, StoreLimits, StoreTiming};
use trine_core::ids::{ClusterId, StoreId, ZoneId};
use trine_core::store::Store;

use crate::driver::{Handle, StartError, StopError, StorePart};
use crate::runtime::{DiskOpenError, DiskSink, Runtime};

/// The stores of a process.
#[derive(Debug)]
pub struct Hosting<R: Runtime> {
    runtime: R,
    cluster: ClusterId,
    map: ClusterMap,
    timing: StoreTiming,
    limits: StoreLimits,
    places: Mutex<BTreeMap<StoreId, Place>>,
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
        (timing, limits): (StoreTiming, StoreLimits),
    ) -> Self {
        Self { runtime, cluster, map, timing, limits, places: Mutex::new(BTreeMap::new()) }
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

    /// A store's machine and its open disk.
    ///
    /// # Errors
    /// [`HostError`].
    pub fn part(&self, id: StoreId, sink: DiskSink) -> Result<StorePart<R, Store>, HostError> {
        let place = self.lock().get(&id).cloned().ok_or(HostError::Unknown(id))?;
        let mut seed = [0; 8];
        self.runtime.random(&mut seed).map_err(HostError::Random)?;
        let disk = self.runtime.open_disk(&place.path, place.geometry.capacity, sink)?;
        let machine = Store::new(StoreConfig {
            cluster: self.cluster,
            store: id,
            zone: place.zone,
            map: self.map.clone(),
            geometry: place.geometry,
            limits: self.limits,
            timing: self.timing,
            seed: u64::from_le_bytes(seed),
        });
        Ok(StorePart { id, machine, disk })
    }

    /// Note down why a store does not run, or that it does.
    pub fn set_absent(&self, id: StoreId, absent: Option<Absent>) {
        if let Some(place) = self.lock().get_mut(&id) {
            place.absent = absent;
        }
    }

    /// Start a store in the running driver, if it does not run. A lost one is not started.
    ///
    /// # Errors
    /// [`HostError`]; the store is then absent, for that reason.
    pub async fn start(&self, handle: &Handle<R, Store>, id: StoreId) -> Result<(), HostError> {
        let place = self.lock().get(&id).cloned().ok_or(HostError::Unknown(id))?;
        // Made it was: opening it would make an empty one in its place.
        if place.absent == Some(Absent::Lost) || !place.path.exists() {
            self.set_absent(id, Some(Absent::Lost));
            return Err(HostError::Lost(id));
        }
        if place.absent == Some(Absent::Waits) {
            // It starts by itself when the cluster's map has it.
            return Ok(());
        }
        // A process that ran would hold the file's lock: ask before it is opened.
        let running = |status: &crate::driver::Status| status.stores.iter().any(|s| s.id == id);
        match handle.status().await {
            Some(status) if running(&status) && place.absent.is_none() => return Ok(()),
            Some(_) => {}
            None => return Err(HostError::Start(StartError::DriverGone)),
        }
        match self.part(id, handle.sink(id)) {
            Ok(part) => {
                handle.start_store(part).await?;
                self.set_absent(id, None);
                Ok(())
            }
            Err(error) => {
                self.set_absent(id, Some(Absent::Failed(error.to_string())));
                Err(error)
            }
        }
    }

    /// Stop a store, if it runs.
    ///
    /// # Errors
    /// [`HostError`].
    pub async fn stop(&self, handle: &Handle<R, Store>, id: StoreId) -> Result<(), HostError> {
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

/// Why a store cannot be started or stopped, for the operator.
#[derive(Debug)]
pub enum HostError {
    /// There is no such store in this process.
    Unknown(StoreId),
    /// Its file was made and is gone.
    Lost(StoreId),
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
