//! Which nodes a cluster has: those that its configuration lists, and what the cluster's map says of nodes
//! that came, moved or left since.
//!
//! The map decides. Each node follows it while it runs, and keeps what it said in `node.toml`, so that it
//! finds the others when it is started again. Two things the map does not change: a node's own entry, which
//! is where it listens, and the first stores, which the cluster began with.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trine_core::cluster::Node;

use crate::config::{NodePlan, NodeSpec};
use crate::transport::NodeId;

/// The nodes of a cluster.
pub type Nodes = BTreeMap<NodeId, NodeSpec>;

/// The nodes of a cluster as this one knows them.
#[derive(Debug)]
pub struct Members {
    plan: NodePlan,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    said: Vec<Node>,
    nodes: Arc<Nodes>,
}

impl Members {
    /// Those of the configuration, changed by what the map once said.
    pub fn new(plan: NodePlan, said: Vec<Node>) -> Self {
        let nodes = Arc::new(nodes(&plan, &said));
        Self { plan, known: Mutex::new(Known { said, nodes }) }
    }

    /// What the configuration says.
    pub fn plan(&self) -> &NodePlan {
        &self.plan
    }

    /// All nodes, this one too.
    pub fn nodes(&self) -> Arc<Nodes> {
        self.lock().nodes.clone()
    }

    /// The node that is called so.
    pub fn named(&self, name: &str) -> Option<NodeSpec> {
        self.nodes().values().find(|node| node.name == name).cloned()
    }

    /// Where the other nodes listen for their peers.
    pub fn peers(&self) -> BTreeMap<NodeId, SocketAddr> {
        let nodes = self.nodes();
        let others = nodes.values().filter(|node| node.id != self.plan.me);
        others.map(|node| (node.id, node.peer)).collect()
    }

    /// The map says this now. Whether that is news.
    pub fn follow(&self, said: &[Node]) -> bool {
        let mut known = self.lock();
        if known.said == said {
            return false;
        }
        *known = Known { said: said.to_vec(), nodes: Arc::new(nodes(&self.plan, said)) };
        true
    }

    /// Whether the map says that this node is of the cluster no more.
    pub fn has_left(&self) -> bool {
        self.lock().said.iter().any(|node| node.id == self.plan.me.0 && node.left)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Each change is one assignment, so that it is whole even after a panic.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nodes(plan: &NodePlan, said: &[Node]) -> Nodes {
    let mut nodes = plan.nodes.clone();
    for node in said.iter().filter(|node| node.id != plan.me.0) {
        let id = NodeId(node.id);
        let listed = nodes.remove(&id);
        if node.left {
            continue;
        }
        let (Ok(peer), Ok(s3)) = (node.peer.parse(), node.s3.parse()) else {
            // A newer version may know of other kinds of addresses; what the list has is better than nothing.
            tracing::warn!(
                "node {:?} is at {:?}, which this version cannot read",
                node.name,
                node.peer
            );
            nodes.extend(listed.map(|listed| (id, listed)));
            continue;
        };
        let (name, zone) = (node.name.clone(), node.zone);
        let (data, stores) = listed.map(|listed| (listed.data, listed.stores)).unwrap_or_default();
        nodes.insert(id, NodeSpec { name, id, zone, peer, s3, data, stores });
    }
    nodes
}

#[cfg(test)]
mod tests {
    use trine_core::ids::ZoneId;

    use super::*;
    use crate::config::for_tests::plan_of;

    fn plan_of_three() -> NodePlan {
        plan_of(&[(1, "a1"), (2, "b1"), (3, "c1")])
    }

    fn node(id: u32, name: &str, port: u16) -> Node {
        let at = |port: u16| format!("127.0.0.1:{port}");
        let (peer, s3) = (at(port), at(port + 1000));
        Node { id, zone: ZoneId(1), name: name.to_owned(), peer, s3, left: false }
    }

    #[test]
    fn the_map_goes_before_the_list_but_for_this_node() {
        let members = Members::new(plan_of_three(), Vec::new());
        let first = members.nodes();
        assert_eq!(first.len(), 3);
        let gone = Node { left: true, ..node(3, "n3", 7003) };
        let said = [node(1, "else", 1), node(2, "n2", 7999), gone.clone(), node(4, "n4", 7004)];
        assert!(members.follow(&said));
        assert!(!members.follow(&said), "that is known");
        let nodes = members.nodes();
        assert_eq!(nodes[&NodeId(1)], first[&NodeId(1)], "its own entry is where it listens");
        assert_eq!(nodes[&NodeId(2)].peer.port(), 7999);
        assert_eq!(nodes[&NodeId(2)].stores, first[&NodeId(2)].stores);
        assert!(!nodes.contains_key(&NodeId(3)));
        assert_eq!(members.named("n4").map(|node| node.peer.port()), Some(7004));
        assert_eq!(members.peers().into_keys().collect::<Vec<_>>(), [NodeId(2), NodeId(4)]);
        assert!(!members.has_left());
        assert!(
            members.follow(&[Node { left: true, ..node(1, "n1", 7001) }]) && members.has_left()
        );
        assert_eq!(members.nodes().len(), 3);
    }

    #[test]
    fn an_address_that_cannot_be_read_leaves_the_node_where_the_list_has_it() {
        let odd = |id| Node { peer: "somewhere:1".to_owned(), ..node(id, "odd", 7009) };
        let members = Members::new(plan_of_three(), vec![odd(2), odd(9)]);
        let nodes = members.nodes();
        assert_eq!((nodes[&NodeId(2)].peer.port(), nodes.len()), (7102, 3));
    }
}
