//! The data directory of an all-in-one process ([`node`] has that of one node of a cluster): who is in the cluster, the key pair, where disks are.
//!
//! ```text
//! DATA/lock            held while a process uses the directory
//! DATA/cluster.toml    identities; written before any store file is made
//! DATA/root-key.toml   the root key pair, mode 0600, unless it is set elsewhere
//! DATA/zone-a/store    the disk of zone a's store; zone-b, zone-c likewise
//! ```
//!
//! Identities are fixed before the first store exists, and a store file is never made twice under
//! one identity: a voter that has forgotten what it promised would break the cluster's promises. So
//! `cluster.toml` says whether all store files stand. A crash during the first start leaves
//! `stores = "being made"`, and the next start goes on making them.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use trine_core::cluster::{ClusterMap, Slot, ZoneMap};
use trine_core::ids::{ClusterId, GatewayId, StoreId, ZoneId};

use crate::config::RootKey;
use crate::files;
use crate::runtime::Runtime;

pub mod node;
pub mod offline;

pub use node::{Added, KeptState, KeptStore, NodeDirectory};

/// The version of `cluster.toml` that this build reads and writes.
const VERSION: u32 = 1;

/// Placement groups of a new cluster. They are fixed for ever: enough that hundreds of stores in a
/// zone would still share evenly, few enough that a list of them is small.
pub(crate) const GROUPS: u32 = 4096;

/// Zones of an all-in-one process.
const ZONES: u8 = 3;

/// A data directory that is ours alone while this lives.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    identity: Identity,
    stores_made: bool,
    /// Holds the lock.
    _lock: File,
}

/// Who is in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The gateway of this process.
    pub gateway: GatewayId,
    /// The store of each zone.
    pub map: ClusterMap,
}

/// `cluster.toml`, byte for byte.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterFile {
    version: u32,
    /// 32 hexadecimal digits.
    cluster: String,
    gateway: u64,
    groups: u32,
    /// By zone, ascending.
    store_ids: Vec<u64>,
    stores: StoreFiles,
}

/// Whether all store files stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum StoreFiles {
    #[serde(rename = "being made")]
    BeingMade,
    #[serde(rename = "made")]
    Made,
}

impl DataDirectory {
    /// Open the directory, made (with new identities) if it is not there.
    ///
    /// # Errors
    /// [`DataError`], for the operator.
    pub fn open(runtime: &impl Runtime, path: &Path) -> Result<Self, DataError> {
        files::create_directory(path, 0o700).map_err(DataError::io("make the directory", path))?;
        let lock = lock(path)?;
        let file = path.join("cluster.toml");
        let read = match fs::read_to_string(&file) {
            Ok(text) => Some(parse(&text, &file)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(DataError::io("read", &file)(error)),
        };
        let (identity, stores) = match read {
            Some(read) => read,
            None => {
                refuse_orphans(path)?;
                let identity = Identity::generate(runtime)
                    .map_err(DataError::io("draw random numbers for", &file))?;
                write(&file, &identity, StoreFiles::BeingMade)?;
                (identity, StoreFiles::BeingMade)
            }
        };
        let stores_made = stores == StoreFiles::Made;
        let directory = Self { path: path.to_owned(), identity, stores_made, _lock: lock };
        directory.prepare_zones()?;
        Ok(directory)
    }

    /// Who is in the cluster.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The disk file of a zone's store.
    pub fn store_path(&self, zone: ZoneId) -> PathBuf {
        store_path(&self.path, zone)
    }

    /// To be said once every store file has been made and its making is durable: from now on a
    /// missing one is a loss, and no new one takes its place.
    ///
    /// # Errors
    /// [`DataError`] if that cannot be noted down.
    pub fn stores_made(&mut self) -> Result<(), DataError> {
        if !self.stores_made {
            write(&self.path.join("cluster.toml"), &self.identity, StoreFiles::Made)?;
            self.stores_made = true;
        }
        Ok(())
    }

    /// The key pair that is kept here, made if there is none.
    ///
    /// # Errors
    /// [`DataError`] if it cannot be read or made.
    pub fn root_key(&self, runtime: &impl Runtime) -> Result<RootKey, DataError> {
        let path = self.path.join("root-key.toml");
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|error| DataError::Damaged {
                path,
                // The error's own text would show the line, and with it the secret.
                error: error.message().to_owned(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = RootKey::generate(runtime)
                    .map_err(DataError::io("draw random numbers for", &path))?;
                files::write_atomic(&path, to_toml(&key).as_bytes(), 0o600)
                    .map_err(DataError::io("write", &path))?;
                Ok(key)
            }
            Err(error) => Err(DataError::io("read", &path)(error)),
        }
    }

    /// Each zone's directory, and, once all stores were made, each store's file.
    fn prepare_zones(&self) -> Result<(), DataError> {
        for zone in &self.identity.map.zones {
            let store = self.store_path(zone.zone);
            if self.stores_made && !store.exists() {
                return Err(DataError::StoreMissing { path: store });
            }
            let directory = zone_path(&self.path, zone.zone);
            files::create_directory(&directory, 0o700)
                .map_err(DataError::io("make the directory", &directory))?;
        }
        Ok(())
    }
}

impl Identity {
    fn generate(runtime: &impl Runtime) -> io::Result<Self> {
        let mut bytes = [0; 16];
        runtime.random(&mut bytes)?;
        // Small numbers are easy to tell apart in logs; the cluster's id makes them unique.
        let stores: Vec<u64> = (1..=u64::from(ZONES)).collect();
        Ok(Self {
            cluster: ClusterId(u128::from_le_bytes(bytes)),
            gateway: GatewayId(1),
            map: map(GROUPS, &stores),
        })
    }

    /// The zone and the store in each, by zone.
    pub fn stores(&self) -> impl Iterator<Item = (ZoneId, StoreId)> + '_ {
        self.map.zones.iter().flat_map(|zone| zone.slots.iter().map(|slot| (zone.zone, slot.store)))
    }
}

/// One store in each zone.
fn map(groups: u32, stores: &[u64]) -> ClusterMap {
    let zone = |(zone, store): (u8, &u64)| ZoneMap {
        zone: ZoneId(zone),
        slots: vec![Slot { store: StoreId(*store), weight: 1 }],
    };
    ClusterMap::bootstrap(groups, (0..).zip(stores).map(zone).collect())
}

fn zone_path(data: &Path, zone: ZoneId) -> PathBuf {
    data.join(format!("zone-{}", zone.letter()))
}

fn store_path(data: &Path, zone: ZoneId) -> PathBuf {
    zone_path(data, zone).join("store")
}

fn lock(data: &Path) -> Result<File, DataError> {
    let path = data.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(DataError::io("open", &path))?;
    match files::try_lock(&file) {
        Ok(true) => Ok(file),
        Ok(false) => Err(DataError::Locked { path: data.to_owned() }),
        Err(error) => Err(DataError::io("lock", &path)(error)),
    }
}

/// Without `cluster.toml`, a store file belongs to a cluster that nobody knows any more.
fn refuse_orphans(data: &Path) -> Result<(), DataError> {
    match (0..ZONES).map(|zone| store_path(data, ZoneId(zone))).find(|path| path.exists()) {
        None => Ok(()),
        Some(store) => Err(DataError::ClusterMissing { path: data.join("cluster.toml"), store }),
    }
}

fn parse(text: &str, path: &Path) -> Result<(Identity, StoreFiles), DataError> {
    let damaged = |error: String| DataError::Damaged { path: path.to_owned(), error };
    check_version(text, path, VERSION)?;
    let file: ClusterFile = toml::from_str(text).map_err(|error| damaged(error.to_string()))?;
    let cluster = u128::from_str_radix(&file.cluster, 16)
        .map_err(|_| damaged(format!("cluster = {:?} is not hexadecimal", file.cluster)))?;
    if file.store_ids.len() != usize::from(ZONES) {
        return Err(damaged(format!("{} store ids, {ZONES} expected", file.store_ids.len())));
    }
    if file.store_ids.iter().enumerate().any(|(n, id)| file.store_ids[..n].contains(id)) {
        return Err(damaged("two stores have one id".to_owned()));
    }
    if !file.groups.is_power_of_two() {
        return Err(damaged(format!("groups = {} is not a power of two", file.groups)));
    }
    let identity = Identity {
        cluster: ClusterId(cluster),
        gateway: GatewayId(file.gateway),
        map: map(file.groups, &file.store_ids),
    };
    Ok((identity, file.stores))
}

/// The version first: what else there is depends on it.
fn check_version(text: &str, path: &Path, version: u32) -> Result<(), DataError> {
    let damaged = |error: String| DataError::Damaged { path: path.to_owned(), error };
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| damaged(error.to_string()))?;
    match table.get("version").and_then(toml::Value::as_integer) {
        Some(found) if found == i64::from(version) => Ok(()),
        Some(found) => Err(DataError::Version { path: path.to_owned(), found, known: version }),
        None => Err(damaged("it has no version".to_owned())),
    }
}

fn write(path: &Path, identity: &Identity, stores: StoreFiles) -> Result<(), DataError> {
    let file = ClusterFile {
        version: VERSION,
        cluster: format!("{:032x}", identity.cluster.0),
        gateway: identity.gateway.0,
        groups: identity.map.groups,
        store_ids: identity.stores().map(|(_, store)| store.0).collect(),
        stores,
    };
    let text = format!(
        "# Who is in this cluster. Written by trine; not to be edited or copied to another \
         directory.\n{}",
        to_toml(&file)
    );
    files::write_atomic(path, text.as_bytes(), 0o600).map_err(DataError::io("write", path))
}

fn to_toml(value: &impl Serialize) -> String {
    toml::to_string(value).expect("plain structs of strings and small numbers have a TOML form")
}

/// Why a data directory cannot be used, for the operator.
#[derive(Debug)]
pub enum DataError {
    /// Another process holds it.
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// There are stores, but nothing says whose.
    ClusterMissing {
        /// The file that should be there.
        path: PathBuf,
        /// A store that is there.
        store: PathBuf,
    },
    /// A store that was made is gone.
    StoreMissing {
        /// Its file.
        path: PathBuf,
    },
    /// A file that cannot be understood.
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// A file of a version that this build does not know.
    Version {
        /// Which.
        path: PathBuf,
        /// What it says.
        found: i64,
        /// What we know.
        known: u32,
    },
    /// The directory is not that of the node that was started.
    Foreign {
        /// The file that tells.
        path: PathBuf,
        /// What it tells.
        text: String,
    },
    /// A store that was to be made has an id or a file that is in use.
    StoreThere {
        /// Which.
        id: StoreId,
        /// Its file.
        path: PathBuf,
    },
    /// The operating system says no.
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

impl DataError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { action, path, error }
    }
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { path } => write!(
                f,
                "another trine process uses {}: stop it, or choose another directory with --data",
                path.display()
            ),
            Self::ClusterMissing { path, store } => write!(
                f,
                "{} is missing, but {} is there: without it nobody knows which cluster the store \
                 belongs to. Put it back, or choose another directory with --data",
                path.display(),
                store.display()
            ),
            Self::StoreMissing { path } => write!(
                f,
                "{} is missing: the store has held data, and an empty one must not take its place. \
                 Put it back, or choose another directory with --data",
                path.display()
            ),
            Self::Damaged { path, error } => write!(
                f,
                "{} is damaged: {error}. Put an intact copy back, or choose another directory with \
                 --data",
                path.display()
            ),
            Self::Foreign { path, text } => write!(
                f,
                "{}: {text}. Start the node that it belongs to, or choose another directory with \
                 --data",
                path.display()
            ),
            Self::StoreThere { id, path } => write!(
                f,
                "{id} with the file {} cannot be made: the id or the file is in use. Choose others \
                 with --new and --path",
                path.display()
            ),
            Self::Version { path, found, known } => write!(
                f,
                "{} has format version {found}, and this trine reads version {known}: use the \
                 trine that wrote it, or choose another directory with --data",
                path.display()
            ),
            Self::Io { action, path, error } => write!(
                f,
                "cannot {action} {}: {error}. See to it that this user may read and write there, \
                 or choose another directory with --data",
                path.display()
            ),
        }
    }
}

impl std::error::Error for DataError {}

#[cfg(test)]
mod tests;
