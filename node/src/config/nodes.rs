//! The list of nodes in the configuration file, as written.

use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The part of a file that lists nodes; [`layers`](super::layers) has the rest.
#[derive(Debug, Deserialize)]
pub(super) struct NodesFile {
    #[serde(default)]
    pub(super) nodes: Vec<NodeEntry>,
}

/// `[[nodes]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeEntry {
    pub(super) name: String,
    pub(super) id: u32,
    pub(super) zone: String,
    pub(super) peer: String,
    pub(super) s3: String,
    pub(super) data: Option<PathBuf>,
    #[serde(default)]
    pub(super) stores: Vec<StoreEntry>,
}

/// `stores = [1, 2]` or `[[nodes.stores]]`.
#[derive(Debug)]
pub(super) struct StoreEntry {
    pub(super) id: u64,
    pub(super) path: Option<PathBuf>,
    pub(super) capacity: Option<String>,
    pub(super) weight: u32,
}

/// `[[nodes.stores]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreTable {
    id: u64,
    path: Option<PathBuf>,
    capacity: Option<String>,
    weight: Option<u32>,
}

impl<'de> Deserialize<'de> for StoreEntry {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(StoreVisitor)
    }
}

/// By hand, since an untagged enum would not say what is wrong with an entry.
struct StoreVisitor;

impl<'de> Visitor<'de> for StoreVisitor {
    type Value = StoreEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the number of a store, or a table with its id, path, capacity and weight")
    }

    fn visit_i64<E: Error>(self, id: i64) -> Result<StoreEntry, E> {
        let id = u64::try_from(id).map_err(|_| E::custom("the number of a store is below 0"))?;
        self.visit_u64(id)
    }

    fn visit_u64<E: Error>(self, id: u64) -> Result<StoreEntry, E> {
        Ok(StoreEntry { id, path: None, capacity: None, weight: 1 })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<StoreEntry, A::Error> {
        let table = StoreTable::deserialize(MapAccessDeserializer::new(map))?;
        let StoreTable { id, path, capacity, weight } = table;
        Ok(StoreEntry { id, path, capacity, weight: weight.unwrap_or(1) })
    }
}
