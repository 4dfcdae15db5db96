//! The cluster's feature level: who speaks which, and raising it.

use std::fmt::Write as _;
use std::sync::Arc;

use trine_core::level::{LEVEL_MAX, Level, Levels};

use super::directory::{self, AskError};
use super::schema::{ClusterStatus, Done};
use super::{Admin, Refused};
use crate::runtime::Runtime;

impl<R: Runtime> Admin<R> {
    /// Raise the cluster's level, to the newest that this node speaks if nobody says to which.
    pub(super) async fn level_raise(self: &Arc<Self>, to: Option<u32>) -> Result<Done, Refused> {
        let to = to.map_or(self.levels.max, Level);
        match directory::raise(&self.front, to).await {
            Ok(()) => Ok(Done {
                text: format!(
                    "the cluster is at {to}: older versions of Trine, which do not speak it, do not start in \
                     this cluster any more"
                ),
            }),
            Err(AskError::Refused(error)) => {
                Err(Refused::new(format!("the level stays as it is: {error}")))
            }
            Err(AskError::Unknown(error)) => Err(Refused::new(format!(
                "the level may be raised or not: {error}. Give the same command again"
            ))),
        }
    }
}

/// For JSON.
pub(super) fn of_levels(levels: Levels) -> [u32; 2] {
    [levels.min.0, levels.max.0]
}

/// What a process or store speaks, for people.
pub(super) fn speaks(levels: Option<[u32; 2]>) -> String {
    match levels {
        None => "has not said what it speaks".to_owned(),
        Some([min, max]) => {
            let levels = Levels { min: Level(min), max: Level(max) };
            format!("speaks {levels}")
        }
    }
}

/// Levels of the cluster and of all its nodes and stores, for people.
pub(super) fn text(status: &ClusterStatus) -> String {
    let mut out = String::new();
    let level = status.map.as_ref().and_then(|map| map.level);
    // Writing to a string cannot fail.
    let _ = match level {
        Some(level) => writeln!(out, "cluster: level {level}"),
        None => writeln!(out, "cluster: nobody can tell its level now"),
    };
    let mut newest = Some(u32::MAX);
    let mut hear = |levels: Option<[u32; 2]>| {
        newest = newest.zip(levels).map(|(newest, [_, max])| newest.min(max));
    };
    for node in &status.nodes {
        let version = if node.version.is_empty() { "?" } else { &node.version };
        let _ = writeln!(out, "node {}: version {version}, {}", node.name, speaks(node.levels));
        hear(node.levels);
    }
    for store in &status.stores {
        let _ = writeln!(out, "store {} at {}: {}", store.id, store.node, speaks(store.levels));
        hear(store.levels);
    }
    let _ = match (level, newest) {
        (Some(level), Some(newest)) if level < newest && newest < u32::MAX => writeln!(
            out,
            "all speak level {newest}: `trine admin level raise {newest}` lets the cluster use what it has \
             brought, and keeps older versions out for ever"
        ),
        (Some(level), None) if level < LEVEL_MAX.0 => {
            writeln!(
                out,
                "the level can be raised when all nodes and stores say that they speak it"
            )
        }
        _ => Ok(()),
    };
    out
}

#[cfg(test)]
mod tests {
    use super::super::schema::{MapStatus, NodeStatus, StoreStatus};
    use super::*;

    fn status(level: u32, of_store: Option<[u32; 2]>) -> ClusterStatus {
        let named = |name: &str| name.to_owned();
        let node = NodeStatus { name: named("a1"), levels: Some([1, 2]), ..NodeStatus::default() };
        let store =
            StoreStatus { id: 7, node: named("a1"), levels: of_store, ..StoreStatus::default() };
        ClusterStatus {
            map: Some(MapStatus { level: Some(level), ..MapStatus::default() }),
            nodes: vec![node],
            stores: vec![store],
            ..ClusterStatus::default()
        }
    }

    #[test]
    fn a_raise_is_proposed_only_when_all_speak_more() {
        let all = text(&status(1, Some([1, 2])));
        assert!(all.contains("level raise 2") && all.contains("levels 1 to 2"), "{all}");
        let one_old = text(&status(1, Some([1, 1])));
        assert!(!one_old.contains("level raise"), "{one_old}");
        assert!(one_old.contains("store 7 at a1: speaks level 1"), "{one_old}");
        let silent = text(&status(1, None));
        assert!(!silent.contains("level raise") && silent.contains("when all"), "{silent}");
        let done = text(&status(2, Some([1, 2])));
        assert!(done.starts_with("cluster: level 2") && !done.contains("raise"), "{done}");
    }
}
