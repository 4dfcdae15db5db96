//! A cluster of several processes, as its configuration file describes it, and which of them this
//! one is. Checked: what contradicts itself does not come out of here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use trine_core::cluster::{ClusterMap, Geometry, Slot, StoreTiming, ZoneMap};
use trine_core::ids::{ClusterId, GatewayId, StoreId, ZoneId};
use trine_core::time::Duration;

use super::nodes::{NodeEntry, NodesFile, StoreEntry};
use super::{CAPACITY_EXPECTED, ConfigError, geometry, name_of, parse_capacity};
use crate::data::GROUPS;
use crate::data::node::usual_path;
use crate::transport::{LinkTiming, NodeId, STORES_MAX};

/// Zones of a cluster.
pub const ZONES: u8 = 3;

/// Files of a data directory that are no stores.
const OWN_FILES: [&str; 5] =
    ["lock", "node.toml", "cluster.toml", "admin.sock", super::tls::DIRECTORY];

/// A cluster and our place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlan {
    /// The cluster.
    pub cluster: ClusterId,
    /// Which of `nodes` we are.
    pub me: NodeId,
    /// All nodes, by id.
    pub nodes: BTreeMap<NodeId, NodeSpec>,
    /// How often links speak, and how long they wait.
    pub links: LinkTiming,
    /// Times of stores.
    pub stores: StoreTiming,
    /// Listen for peers on an address that others can reach.
    pub insecure_peer_listen: bool,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// What the operator calls it.
    pub name: String,
    /// Which it is.
    pub id: NodeId,
    /// Where it stands.
    pub zone: ZoneId,
    /// Where its peers reach it.
    pub peer: SocketAddr,
    /// Where its clients reach it.
    pub s3: SocketAddr,
    /// Its data directory, if the file says.
    pub data: Option<PathBuf>,
    /// Its first stores. Those that replaced them are in its data directory.
    pub stores: Vec<StoreSpec>,
}

/// A store of a new cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSpec {
    /// Which.
    pub id: StoreId,
    /// Its file, if not the usual one; relative to the data directory.
    pub path: Option<PathBuf>,
    /// How its disk is laid out when it is first made, if not as all are.
    pub geometry: Option<Geometry>,
    /// Its share of its zone's data, relative to others.
    pub weight: u32,
}

impl StoreSpec {
    /// Its file, relative to the data directory or absolute.
    pub(crate) fn file(&self) -> PathBuf {
        self.path.clone().unwrap_or_else(|| usual_path(self.id))
    }
}

impl NodePlan {
    /// Our own entry.
    pub fn own(&self) -> &NodeSpec {
        self.nodes.get(&self.me).expect("`me` is one of `nodes`: `choose` took it from there")
    }

    /// The map that a new cluster begins with: the same on every node, in whatever order its file
    /// lists them.
    pub fn map(&self) -> ClusterMap {
        let zone = |zone: u8| {
            let nodes = self.nodes.values().filter(|node| node.zone == ZoneId(zone));
            let stores = nodes.flat_map(|node| &node.stores);
            let mut slots: Vec<Slot> =
                stores.map(|store| Slot { store: store.id, weight: store.weight }).collect();
            slots.sort_by_key(|slot| slot.store);
            ZoneMap { zone: ZoneId(zone), slots }
        };
        ClusterMap::bootstrap(GROUPS, (0..ZONES).map(zone).collect())
    }

    /// How the disk of a store is laid out, if not as all are: as the list says of it, or of the first of
    /// those whose place it has.
    pub fn geometry_of(
        &self,
        store: StoreId,
        replaces: impl Fn(StoreId) -> Option<StoreId>,
    ) -> Option<Geometry> {
        let listed = |id| self.nodes.values().flat_map(|n| &n.stores).find(|store| store.id == id);
        let mut seen = BTreeSet::new();
        let mut id = store;
        // A file that was tampered with could have them replace each other.
        while seen.insert(id) {
            if let Some(spec) = listed(id) {
                return spec.geometry;
            }
            id = replaces(id)?;
        }
        None
    }

    /// The gateway of a node: its id names it, so that no two nodes share one.
    pub fn gateway(node: NodeId) -> GatewayId {
        GatewayId(u64::from(node.0))
    }
}

/// The nodes that a file lists, checked by themselves and against each other.
///
/// # Errors
/// [`ConfigError`], for the operator.
pub(super) fn nodes(path: &Path, text: &str) -> Result<BTreeMap<NodeId, NodeSpec>, ConfigError> {
    let file: NodesFile = toml::from_str(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        error: super::syntax(text, &error),
    })?;
    let wrong = |text: String| ConfigError::Cluster { path: path.to_owned(), text };
    if file.nodes.is_empty() {
        return Err(wrong(
            "it lists no nodes, and `trine node` needs them: add [[nodes]] with name, id, zone, \
             peer, s3 and stores for each node of each zone (or run `trine` without `node`, which \
             has three zones in one process)"
                .to_owned(),
        ));
    }
    let specs = file
        .nodes
        .into_iter()
        .map(|entry| spec(path, entry))
        .collect::<Result<Vec<_>, ConfigError>>()?;
    check_unique(&specs).map_err(wrong)?;
    check_zones(&specs).map_err(wrong)?;
    Ok(specs.into_iter().map(|spec| (spec.id, spec)).collect())
}

/// The node that is called so.
///
/// # Errors
/// [`ConfigError`], with the names there are.
pub(super) fn choose(
    path: &Path,
    nodes: &BTreeMap<NodeId, NodeSpec>,
    name: Option<(&str, String)>,
) -> Result<NodeId, ConfigError> {
    let names = || nodes.values().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ");
    let Some((name, place)) = name else {
        return Err(ConfigError::Cluster {
            path: path.to_owned(),
            text: format!(
                "it does not say which of its nodes this one is: say --node NAME, or set node = \
                 \"NAME\" or TRINE_NODE (there are: {})",
                names()
            ),
        });
    };
    nodes.values().find(|node| node.name == name).map(|node| node.id).ok_or_else(|| {
        ConfigError::Cluster {
            path: path.to_owned(),
            text: format!(
                "{place}: there is no node {name:?} among its [[nodes]] (there are: {})",
                names()
            ),
        }
    })
}

/// 32 hexadecimal digits; all zeros would be what a forgotten id looks like.
pub(super) fn parse_cluster(text: &str) -> Option<ClusterId> {
    let hex = text.len() == 32 && text.chars().all(|c| c.is_ascii_hexdigit());
    let id = u128::from_str_radix(text, 16).ok().filter(|id| hex && *id != 0)?;
    Some(ClusterId(id))
}

/// `50ms`, `2s`.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(digits);
    let count: u64 = count.parse().ok()?;
    let millis = match unit.trim() {
        "ms" => count,
        "s" => count.checked_mul(1000)?,
        _ => return None,
    };
    (1..=60_000).contains(&millis).then(|| Duration::from_millis(millis))
}

/// A period: seconds, hours or days.
pub(super) fn parse_period(text: &str) -> Option<Duration> {
    const YEAR: u64 = 365 * 24 * 3600;
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(digits);
    let each = match unit.trim() {
        "s" => 1,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return None,
    };
    let seconds = count.parse::<u64>().ok()?.checked_mul(each)?;
    (1..=YEAR).contains(&seconds).then(|| Duration::from_secs(seconds))
}

fn spec(path: &Path, entry: NodeEntry) -> Result<NodeSpec, ConfigError> {
    let NodeEntry { name, id, zone, peer, s3, data, stores } = entry;
    let place = |key: &str| format!("{}: node {name:?}: {key}", name_of(path));
    let invalid = |key: &str, value: &str, expected| ConfigError::Invalid {
        what: place(key),
        value: Some(value.to_owned()),
        expected,
    };
    if !is_name(&name) {
        let expected = "1 to 64 letters, digits, and any of . _ -";
        return Err(invalid("name", &name, expected));
    }
    if id == 0 {
        return Err(invalid("id", "0", "a number from 1, unique among the nodes"));
    }
    let zone_id =
        parse_zone(&zone).ok_or_else(|| invalid("zone", &zone, "\"a\", \"b\" or \"c\""))?;
    let address = |key, text: &str| {
        let expected = "an address and a port, such as 127.0.0.1:7101 (names are not looked up)";
        parse_address(text).ok_or_else(|| invalid(key, text, expected))
    };
    let (peer, s3) = (address("peer", &peer)?, address("s3", &s3)?);
    if data.as_ref().is_some_and(|data| data.as_os_str().is_empty()) {
        return Err(invalid("data", "", "a directory"));
    }
    let store = |store: StoreEntry| {
        let StoreEntry { id, path, capacity, weight } = store;
        let key = |key: &str| format!("store {id}: {key}");
        if id == 0 {
            return Err(invalid("stores", "0", "numbers from 1, unique in the cluster"));
        }
        if path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            return Err(invalid(&key("path"), "", "a file, relative to the data directory or not"));
        }
        let geometry = capacity.map(|text| {
            let bytes = parse_capacity(&text);
            bytes.map(geometry).ok_or_else(|| invalid(&key("capacity"), &text, CAPACITY_EXPECTED))
        });
        Ok(StoreSpec { id: StoreId(id), path, geometry: geometry.transpose()?, weight })
    };
    let stores = stores.into_iter().map(store).collect::<Result<Vec<_>, ConfigError>>()?;
    Ok(NodeSpec { name, id: NodeId(id), zone: zone_id, peer, s3, data, stores })
}

/// `a`, `b` or `c`.
pub(crate) fn parse_zone(text: &str) -> Option<ZoneId> {
    match text {
        "a" => Some(ZoneId(0)),
        "b" => Some(ZoneId(1)),
        "c" => Some(ZoneId(2)),
        _ => None,
    }
}

/// An address and a port, which is not 0.
pub(crate) fn parse_address(text: &str) -> Option<SocketAddr> {
    text.parse().ok().filter(|address: &SocketAddr| address.port() != 0)
}

/// Whether a node can be called so.
pub(crate) fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || ['.', '_', '-'].contains(&c);
    (1..=64).contains(&text.len()) && text.chars().all(fits)
}

/// Names, ids and addresses that two things share.
fn check_unique(nodes: &[NodeSpec]) -> Result<(), String> {
    let mut names = BTreeMap::new();
    let mut ids = BTreeMap::new();
    let mut addresses: BTreeMap<SocketAddr, String> = BTreeMap::new();
    let mut stores: BTreeMap<StoreId, &str> = BTreeMap::new();
    for (number, node) in nodes.iter().enumerate() {
        let name = &node.name;
        if let Some(other) = names.insert(name, number + 1) {
            return Err(format!(
                "the {} and {} of its [[nodes]] are both called {name:?}: a name is how `--node` \
                 and `trine admin` tell them apart",
                ordinal(other),
                ordinal(number + 1)
            ));
        }
        if let Some(other) = ids.insert(node.id, name) {
            return Err(format!(
                "nodes {other:?} and {name:?} both have id = {}: each needs its own, for ever",
                node.id.0
            ));
        }
        for (key, address) in [("peer", node.peer), ("s3", node.s3)] {
            let what = format!("{key} of node {name:?}");
            if let Some(other) = addresses.insert(address, what.clone()) {
                return Err(format!(
                    "{address} is both {other} and {what}: each needs a port of its own"
                ));
            }
        }
        if node.stores.len() > STORES_MAX {
            return Err(format!(
                "node {name:?}: stores has {}, and one node may have {STORES_MAX} at most: spread them \
                 over more [[nodes]] of its zone",
                node.stores.len()
            ));
        }
        let mut paths: BTreeMap<PathBuf, &StoreSpec> = BTreeMap::new();
        for store in &node.stores {
            if let Some(other) = stores.insert(store.id, name) {
                return Err(format!(
                    "{} is both at node {other:?} and at node {name:?}: each store needs an id of \
                     its own in the whole cluster",
                    store.id
                ));
            }
            let path = resolved(node.data.as_deref(), &store.file());
            if is_own_file(node.data.as_deref(), &path) {
                return Err(format!(
                    "node {name:?}: path of {} is {}, which trine uses for something else: choose \
                     another",
                    store.id,
                    path.display()
                ));
            }
            if let Some(other) = paths.insert(path, store) {
                let said = |store: &StoreSpec| match &store.path {
                    Some(path) => format!("path = {:?} of {}", path.display(), store.id),
                    None => format!("{} (which has no path of its own)", store.id),
                };
                return Err(format!(
                    "node {name:?}: {} and {} are one file: each store needs a path of its own",
                    said(other),
                    said(store)
                ));
            }
        }
    }
    Ok(())
}

/// Whether a store's file would be one that its node's directory has for something else, or a file that
/// is about to take the place of one.
pub(crate) fn is_own_file(data: Option<&Path>, path: &Path) -> bool {
    let own = OWN_FILES.iter().flat_map(|name| [(*name).to_owned(), format!("{name}.new")]);
    own.into_iter().any(|name| resolved(data, Path::new(&name)) == *path)
}

/// A path in a data directory, or an absolute one, such that the same files have the same paths as far as
/// words can tell. Where the directory is said elsewhere than in the list, relative paths stay so.
pub(crate) fn resolved(data: Option<&Path>, path: &Path) -> PathBuf {
    let path = data.map_or_else(|| path.to_owned(), |data| data.join(path));
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if plain.file_name().is_some() => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

fn check_zones(nodes: &[NodeSpec]) -> Result<(), String> {
    for zone in (0..ZONES).map(ZoneId) {
        let mut here = nodes.iter().filter(|node| node.zone == zone).peekable();
        let letter = zone.letter();
        if here.peek().is_none() {
            return Err(format!(
                "zone {letter} has no node: a cluster has three zones, a, b and c, each with at \
                 least one node (all of them may run on one machine)"
            ));
        }
        let mut stores = here.flat_map(|node| &node.stores).peekable();
        if stores.peek().is_none() {
            return Err(format!("zone {letter} has no store: give one of its nodes stores = [ID]"));
        }
        if stores.all(|store| store.weight == 0) {
            return Err(format!(
                "all stores of zone {letter} have weight = 0, which takes no data: raise one"
            ));
        }
    }
    Ok(())
}

fn ordinal(number: usize) -> String {
    match number {
        1 => "first".to_owned(),
        2 => "second".to_owned(),
        3 => "third".to_owned(),
        _ => format!("{number}th"),
    }
}
