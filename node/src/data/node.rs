//! The data directory of one node of a cluster: who it is, and which stores it has made.
//!
//! ```text
//! DATA/lock          held while a process uses the directory
//! DATA/node.toml     identity, the stores that were begun, made or replaced here, and later nodes
//! DATA/admin.sock    where `trine admin` reaches the process
//! DATA/store-7       the disk of store 7, unless the configuration puts it elsewhere
//! ```
//!
//! A store file is made once under one identity and never again, as in an all-in-one process. But a
//! file that was made and is gone is only this store's loss: the node starts without it, and says
//! so; `trine admin store replace` puts a new store with a new identity in its place.
//!
//! A replacement, or a store that is added, passes three states, each durable before the next begins:
//! *being made* (its id and path are chosen), *to be placed* (its file stands), and, once the cluster's
//! map has it, *made*; the old store, if it was here, is then *replaced*. A start goes on wherever a
//! crash came.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use trine_core::cluster::{ClusterMap, Node};
use trine_core::ids::StoreId;

use super::{DataError, lock, to_toml};
use crate::config::{NodePlan, parse_zone};
use crate::files;

/// The version of `node.toml` that this build reads and writes.
const VERSION: u32 = 1;

/// A node's data directory that is ours alone while this lives.
#[derive(Debug)]
pub struct NodeDirectory {
    path: PathBuf,
    file: NodeFile,
    /// Holds the lock.
    _lock: File,
}

/// `node.toml`, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeFile {
    version: u32,
    /// 32 hexadecimal digits.
    cluster: String,
    node: u32,
    /// The stores of the cluster when it was new.
    bootstrap: String,
    #[serde(default)]
    stores: Vec<KeptStore>,
    /// What the cluster's map said last of nodes that came, moved or left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<KeptNode>,
}

/// A node, as the cluster's map has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptNode {
    id: u32,
    name: String,
    /// `a`, `b` or `c`.
    zone: String,
    peer: String,
    s3: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    left: bool,
}

/// A store that this node has, had, or is making.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptStore {
    id: u64,
    /// Relative to the data directory, or absolute.
    path: PathBuf,
    /// How far its file has come.
    pub state: KeptState,
    /// Whose place it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<u64>,
    /// It gets a place of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    added: Option<Added>,
}

/// A store that the cluster did not begin with, and that takes nobody's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Added {
    /// Its share of its zone's data when it was added.
    pub weight: u32,
    /// Bytes that it may take, if not as many as the node's configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
}

/// How far a store's file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeptState {
    /// It may stand or not; a start makes it.
    #[serde(rename = "being made")]
    BeingMade,
    /// It stands, and the cluster's map does not have it yet; should it be missing, it is lost.
    #[serde(rename = "to be placed")]
    ToBePlaced,
    /// It stands, and has its place; should it be missing, it is lost.
    #[serde(rename = "made")]
    Made,
    /// Another has its place for ever; its file is not looked at again.
    #[serde(rename = "replaced")]
    Replaced,
}

impl KeptStore {
    /// Which.
    pub fn id(&self) -> StoreId {
        StoreId(self.id)
    }

    /// Whose place it takes, if it was made for that.
    pub fn replaces(&self) -> Option<StoreId> {
        self.replaces.map(StoreId)
    }

    /// How it was added, if it was made for that.
    pub fn added(&self) -> Option<Added> {
        self.added
    }

    /// Whether the cluster did not begin with it.
    pub fn came_later(&self) -> bool {
        self.replaces.is_some() || self.added.is_some()
    }
}

impl NodeDirectory {
    /// Open the directory, made if it is not there, and hold it against the plan.
    ///
    /// # Errors
    /// [`DataError`], for the operator.
    pub fn open(path: &Path, plan: &NodePlan) -> Result<Self, DataError> {
        files::create_directory(path, 0o700).map_err(DataError::io("make the directory", path))?;
        let lock = lock(path)?;
        let at = path.join("node.toml");
        let file = match fs::read_to_string(&at) {
            Ok(text) => {
                let file = parse(&text, &at)?;
                check(&file, plan, &at)?;
                file
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                refuse_others(path, plan)?;
                let file = first(plan);
                write(&at, &file)?;
                file
            }
            Err(error) => return Err(DataError::io("read", &at)(error)),
        };
        Ok(Self { path: path.to_owned(), file, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All stores, the replaced ones too.
    pub fn stores(&self) -> &[KeptStore] {
        &self.file.stores
    }

    /// The store of this id, if it is or was here.
    pub fn store(&self, id: StoreId) -> Option<&KeptStore> {
        self.file.stores.iter().find(|store| store.id == id.0)
    }

    /// The disk file of a store.
    pub fn path_of(&self, store: &KeptStore) -> PathBuf {
        self.path.join(&store.path)
    }

    /// Whether a store's file was made and is gone.
    pub fn is_lost(&self, store: &KeptStore) -> bool {
        let stood = matches!(store.state, KeptState::ToBePlaced | KeptState::Made);
        stood && !self.path_of(store).exists()
    }

    /// The nodes that came, moved or left, as the cluster's map was known to have them.
    pub fn nodes(&self) -> Vec<Node> {
        let node = |kept: &KeptNode| Node {
            id: kept.id,
            zone: parse_zone(&kept.zone).unwrap_or_default(),
            name: kept.name.clone(),
            peer: kept.peer.clone(),
            s3: kept.s3.clone(),
            left: kept.left,
        };
        self.file.nodes.iter().map(node).collect()
    }

    /// To be said when the map has others.
    ///
    /// # Errors
    /// [`DataError`] if that cannot be noted down.
    pub fn follow(&mut self, nodes: &[Node]) -> Result<(), DataError> {
        let kept = |node: &Node| KeptNode {
            id: node.id,
            name: node.name.clone(),
            zone: node.zone.letter().to_string(),
            peer: node.peer.clone(),
            s3: node.s3.clone(),
            left: node.left,
        };
        self.keep(NodeFile { nodes: nodes.iter().map(kept).collect(), ..self.file.clone() })
    }

    /// To be said when a store's file stands and is durable.
    ///
    /// # Errors
    /// [`DataError`] if that cannot be noted down.
    pub fn made(&mut self, id: StoreId) -> Result<(), DataError> {
        let mut file = self.file.clone();
        let being_made = |store: &&mut KeptStore| store.state == KeptState::BeingMade;
        for store in file.stores.iter_mut().filter(|s| s.id == id.0).filter(being_made) {
            let later = store.came_later();
            store.state = if later { KeptState::ToBePlaced } else { KeptState::Made };
        }
        self.keep(file)
    }

    /// To be said when the cluster's map has `new`, in the place of `old` if there is one.
    ///
    /// # Errors
    /// [`DataError`] if that cannot be noted down.
    pub fn placed(&mut self, old: Option<StoreId>, new: StoreId) -> Result<(), DataError> {
        let mut file = self.file.clone();
        for store in &mut file.stores {
            if old == Some(store.id()) {
                store.state = KeptState::Replaced;
            } else if store.id == new.0 && store.state == KeptState::ToBePlaced {
                store.state = KeptState::Made;
            }
        }
        self.keep(file)
    }

    /// Give up a store that came later and is lost before the cluster's map had it. Its id stays used up.
    ///
    /// # Errors
    /// [`DataError`] if that cannot be noted down.
    pub fn give_up(&mut self, new: StoreId) -> Result<(), DataError> {
        let mut file = self.file.clone();
        for store in file.stores.iter_mut().filter(|store| store.id == new.0) {
            store.state = KeptState::Replaced;
        }
        self.keep(file)
    }

    /// Begin a store that takes the place of `old`, which may be of another node. Its id is used up
    /// with that, whatever happens next.
    ///
    /// # Errors
    /// [`DataError`] if that cannot be noted down, or the id or path is in use here.
    pub fn begin_replacement(
        &mut self,
        old: StoreId,
        new: StoreId,
        path: Option<PathBuf>,
    ) -> Result<(), DataError> {
        self.begin(new, path, (Some(old.0), None))
    }

    /// Begin a store that gets a place of its own. Likewise.
    ///
    /// # Errors
    /// As of a replacement.
    pub fn begin_addition(
        &mut self,
        new: StoreId,
        path: Option<PathBuf>,
        added: Added,
    ) -> Result<(), DataError> {
        self.begin(new, path, (None, Some(added)))
    }

    fn begin(
        &mut self,
        new: StoreId,
        path: Option<PathBuf>,
        (replaces, added): (Option<u64>, Option<Added>),
    ) -> Result<(), DataError> {
        let path = path.unwrap_or_else(|| usual_path(new));
        let kept = KeptStore { id: new.0, path, state: KeptState::BeingMade, replaces, added };
        let at = self.path_of(&kept);
        let same = |other: &&KeptStore| other.id == new.0 || self.path_of(other) == at;
        if self.file.stores.iter().any(|other| same(&other)) || at.exists() {
            return Err(DataError::StoreThere { id: new, path: at });
        }
        let mut file = self.file.clone();
        file.stores.push(kept);
        self.keep(file)
    }

    fn keep(&mut self, file: NodeFile) -> Result<(), DataError> {
        if file == self.file {
            return Ok(());
        }
        write(&self.path.join("node.toml"), &file)?;
        self.file = file;
        Ok(())
    }
}

/// Zones and stores of a map, with their weights: `a: 1*1 4*1, b: 2*1, c: 3*1`.
pub fn summary(map: &ClusterMap) -> String {
    let zone = |zone: &trine_core::cluster::ZoneMap| {
        let slots = zone.slots.iter().map(|slot| format!(" {}*{}", slot.store.0, slot.weight));
        format!("{}:{}", zone.zone.letter(), slots.collect::<String>())
    };
    map.zones.iter().map(zone).collect::<Vec<_>>().join(", ")
}

/// The file of a store that has no other, in its node's data directory.
pub(crate) fn usual_path(id: StoreId) -> PathBuf {
    PathBuf::from(format!("store-{}", id.0))
}

/// What a new node keeps.
fn first(plan: &NodePlan) -> NodeFile {
    let store = |store: &crate::config::StoreSpec| KeptStore {
        id: store.id.0,
        path: store.path.clone().unwrap_or_else(|| usual_path(store.id)),
        state: KeptState::BeingMade,
        replaces: None,
        added: None,
    };
    NodeFile {
        version: VERSION,
        cluster: format!("{:032x}", plan.cluster.0),
        node: plan.me.0,
        bootstrap: summary(&plan.map()),
        stores: plan.own().stores.iter().map(store).collect(),
        nodes: Vec::new(),
    }
}

/// A directory of somebody else, or of ours that has lost its `node.toml`.
fn refuse_others(path: &Path, plan: &NodePlan) -> Result<(), DataError> {
    if path.join("cluster.toml").exists() {
        let text = "this directory is that of an all-in-one process";
        return Err(foreign(&path.join("cluster.toml"), text.to_owned()));
    }
    let missing = |store| DataError::ClusterMissing { path: path.join("node.toml"), store };
    let kept: Vec<PathBuf> =
        first(plan).stores.iter().map(|store| path.join(&store.path)).collect();
    if let Some(store) = kept.into_iter().find(|store| store.exists()) {
        return Err(missing(store));
    }
    // Stores that took the place of others have their ids from `node.toml` alone.
    let entries = fs::read_dir(path).map_err(DataError::io("list", path))?;
    for entry in entries {
        let entry = entry.map_err(DataError::io("list", path))?;
        if is_usual(&entry.file_name().to_string_lossy()) {
            return Err(missing(entry.path()));
        }
    }
    Ok(())
}

/// The files of the stores that a `node.toml` names, but for those that were replaced, or were being made
/// and do not stand.
pub(super) fn files_of(data: &Path, text: &str, at: &Path) -> Result<Vec<PathBuf>, DataError> {
    let file = parse(text, at)?;
    let stands = |store: &&KeptStore| match store.state {
        KeptState::BeingMade => data.join(&store.path).exists(),
        KeptState::ToBePlaced | KeptState::Made => true,
        KeptState::Replaced => false,
    };
    Ok(file.stores.iter().filter(stands).map(|store| data.join(&store.path)).collect())
}

/// Whether a file has the name that a store's disk has unless somebody says otherwise.
pub(super) fn is_usual(name: &str) -> bool {
    name.strip_prefix("store-").is_some_and(|id| id.parse::<u64>().is_ok())
}

fn parse(text: &str, path: &Path) -> Result<NodeFile, DataError> {
    super::check_version(text, path, VERSION)?;
    let damaged = |error: String| DataError::Damaged { path: path.to_owned(), error };
    let file: NodeFile = toml::from_str(text).map_err(|error| damaged(error.to_string()))?;
    let ids: Vec<u64> = file.stores.iter().map(|store| store.id).collect();
    if let Some(node) = file.nodes.iter().find(|node| parse_zone(&node.zone).is_none()) {
        return Err(damaged(format!("node {:?} is in no zone", node.name)));
    }
    if ids.iter().enumerate().any(|(n, id)| ids[..n].contains(id)) {
        return Err(damaged("two stores have one id".to_owned()));
    }
    Ok(file)
}

fn check(file: &NodeFile, plan: &NodePlan, path: &Path) -> Result<(), DataError> {
    let cluster = format!("{:032x}", plan.cluster.0);
    if file.cluster != cluster {
        let text = format!(
            "this directory belongs to cluster {}, and the configuration is of cluster {cluster}",
            file.cluster
        );
        return Err(foreign(path, text));
    }
    if file.node != plan.me.0 {
        let text = format!(
            "this directory is that of the node with id = {}, and the configuration says id = {} \
             (node {:?})",
            file.node,
            plan.me.0,
            plan.own().name
        );
        return Err(foreign(path, text));
    }
    let bootstrap = summary(&plan.map());
    if file.bootstrap != bootstrap {
        let text = format!(
            "the configuration has stores {bootstrap:?}, and the cluster began with {:?}. The \
             configuration keeps the first stores for ever: set them back; stores are replaced by \
             `trine admin store replace`",
            file.bootstrap
        );
        return Err(foreign(path, text));
    }
    Ok(())
}

fn foreign(path: &Path, text: String) -> DataError {
    DataError::Foreign { path: path.to_owned(), text }
}

fn write(path: &Path, file: &NodeFile) -> Result<(), DataError> {
    let text = format!(
        "# What this node is and has. Written by trine; not to be edited or copied to another \
         directory.\n{}",
        to_toml(file)
    );
    files::write_atomic(path, text.as_bytes(), 0o600).map_err(DataError::io("write", path))
}

#[cfg(test)]
mod tests;
