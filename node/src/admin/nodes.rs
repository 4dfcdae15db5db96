//! Nodes that join a running cluster, move to other addresses, or leave it.
//!
//! What is said of them goes into the cluster's map, which all nodes follow ([`crate::members`]): each looks
//! at it now and then, and at once when the node that changed it calls.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use trine_core::cluster::Node;
use trine_core::ids::StoreId;

use super::directory::{self, AskError};
use super::replace::NODE_NUMBERS_MIN;
use super::schema::{Ask, ClusterStatus, Done, NodeJoin, NodeMove, StoreLife};
use super::status::is_dispensable;
use super::{ACT_MAX, Admin, REPORT_MAX, Refused, Who};
use crate::config::{NodePlan, NodeSpec, is_name, parse_address};
use crate::members::Members;
use crate::runtime::Runtime;
use crate::transport::NodeId;

/// Between two looks at the map.
const LOOK: Duration = Duration::from_secs(5);

impl<R: Runtime> Admin<R> {
    /// Look at the cluster's map now and then, and follow what it says of nodes.
    pub(crate) async fn follow_nodes(self: Arc<Self>) {
        loop {
            // What nobody can tell now is asked again.
            let _ = self.look_at_nodes().await;
            self.runtime.sleep_until(self.runtime.now() + LOOK).await;
        }
    }

    /// Look at the cluster's map, and follow what it says of nodes.
    pub(super) async fn look_at_nodes(&self) -> Result<Done, Refused> {
        let Who::Node { members, data, .. } = &self.who else {
            return Err(Refused::new("this process has all zones"));
        };
        let said = directory::nodes(&self.front).await.map_err(Refused::new)?;
        // Held all the time, so that an older map cannot overtake a newer one on its way to the disk.
        let data = data.clone().lock_owned().await;
        if members.follow(&said) {
            if members.has_left() {
                tracing::error!(
                    "THIS NODE HAS LEFT THE CLUSTER, as its map says: the others do not speak to it any \
                     more. Stop it; another node may join in its place, with an id of its own"
                );
            } else {
                let names: Vec<String> =
                    members.nodes().values().map(|node| node.name.clone()).collect();
                tracing::info!("the nodes of the cluster are {}", names.join(", "));
            }
            self.set_peers(members);
        }
        // Also when it is no news: it may not have been noted down.
        let (_, kept) = self.with_files(data, move |data| data.follow(&said)).await;
        kept.map_err(Refused::new)?;
        Ok(Done { text: "done".to_owned() })
    }

    fn set_peers(&self, members: &Members) {
        if let Some(peers) = &self.peers {
            peers.set(&members.peers());
        }
    }

    /// A node joins.
    pub(super) async fn node_add(self: &Arc<Self>, ask: NodeJoin) -> Result<Done, Refused> {
        let members = self.members()?;
        let NodeJoin { name, id, zone, peer, s3 } = ask;
        if !is_name(&name) {
            return Err(Refused::new(format!(
                "{name:?} is no name of a node: 1 to 64 letters, digits, and any of . _ -"
            )));
        }
        let ids_end = ids_end(members.plan());
        if id == 0 || u64::from(id) >= ids_end {
            return Err(Refused::new(format!(
                "the id of a node that joins this cluster is a number from 1 to {}: the ids of stores \
                 are made with it",
                ids_end - 1
            )));
        }
        let zone = super::zone::parse_zone(&zone)?;
        let node = Node { id, zone, name, peer, s3, left: false };
        check_addresses(&node)?;
        self.look_at_nodes().await?;
        let nodes = members.nodes();
        let other = nodes.values().find(|other| {
            let mut addresses = [other.peer.to_string(), other.s3.to_string()].into_iter();
            let meets = addresses.any(|address| address == node.peer || address == node.s3);
            other.id.0 != id && (meets || other.name == node.name)
        });
        if let Some(other) = other {
            return Err(Refused::new(format!(
                "node {:?} (id {}, peer {}, S3 {}) has this name or one of these addresses already",
                other.name, other.id.0, other.peer, other.s3
            )));
        }
        if let Some(same) = nodes.get(&NodeId(id)).filter(|same| !is_same(same, &node)) {
            return Err(Refused::new(format!(
                "the id {id} is that of node {:?}: each node has its own, for ever (`trine admin node \
                 move` changes the addresses of one)",
                same.name
            )));
        }
        let text = format!(
            "node {} (id {id}) is of the cluster: start it with a configuration that lists it beside the \
             first nodes, and give it stores with `trine admin store add --node {}`",
            node.name, node.name
        );
        self.say(node).await?;
        Ok(Done { text })
    }

    /// A node is reached elsewhere from now on.
    pub(super) async fn node_move(self: &Arc<Self>, ask: NodeMove) -> Result<Done, Refused> {
        self.look_at_nodes().await?;
        let spec = self.known(&ask.name)?;
        let mut node = said_of(&spec);
        node.peer = ask.peer.unwrap_or(node.peer);
        node.s3 = ask.s3.unwrap_or(node.s3);
        check_addresses(&node)?;
        let text = format!(
            "node {} is reached on {} by its peers and on {} by clients; it listens where its own \
             configuration says",
            node.name, node.peer, node.s3
        );
        self.say(node).await?;
        Ok(Done { text })
    }

    /// A node leaves, for ever: nobody needs it any more.
    pub(super) async fn node_remove(self: &Arc<Self>, name: &str) -> Result<Done, Refused> {
        self.look_at_nodes().await?;
        let spec = self.known(name)?;
        if spec.id == self.members()?.plan().me {
            return Err(Refused::new(format!(
                "node {name:?} is this one: say it to another node, which goes on to run"
            )));
        }
        may_leave(&spec, &self.status().await?)?;
        self.say(Node { left: true, ..said_of(&spec) }).await?;
        Ok(Done {
            text: format!("node {name} has left the cluster; its id {} is used up", spec.id.0),
        })
    }

    /// Put it into the map, and have all nodes look.
    async fn say(self: &Arc<Self>, node: Node) -> Result<(), Refused> {
        let leaves = node.left.then_some(NodeId(node.id));
        match directory::set_node(&self.front, node).await {
            Ok(()) => {}
            Err(AskError::Refused(error)) => return Err(Refused::new(error)),
            Err(AskError::Unknown(error)) => {
                return Err(Refused::new(format!(
                    "this may be in the cluster's map or not: {error}. Give the same command again"
                )));
            }
        }
        if let Some(node) = leaves {
            // As long as it can ask; later its log says that the others refuse it, and why.
            let _ = self.ask_peer::<Done>(node, &Ask::LookAtNodes, REPORT_MAX).await;
        }
        self.look_at_nodes().await?;
        let members = self.members()?;
        let others: Vec<NodeId> = members.peers().into_keys().collect();
        // Those that do not answer look by themselves.
        let _ = self.ask_all::<Done>(&others, &Ask::LookAtNodes, ACT_MAX).await;
        Ok(())
    }

    fn members(&self) -> Result<&Members, Refused> {
        match &self.who {
            Who::Node { members, .. } => Ok(members),
            Who::AllInOne { .. } => Err(Refused::new(
                "an all-in-one process has all zones, and no other node joins it: it is for trying out \
                 and for development. Run three `trine node` processes, which may share a machine",
            )),
        }
    }

    fn known(&self, name: &str) -> Result<NodeSpec, Refused> {
        let members = self.members()?;
        members.named(name).ok_or_else(|| unknown(name, members))
    }
}

/// There is no such node.
pub(super) fn unknown(name: &str, members: &Members) -> Refused {
    let nodes = members.nodes();
    let all: Vec<&str> = nodes.values().map(|spec| spec.name.as_str()).collect();
    Refused::new(format!("there is no node {name:?} (there are: {})", all.join(", ")))
}

/// The ids of nodes that join are below this: each node gives its stores ids that end in its own, so that all
/// must reckon with equally many digits, for ever.
pub(super) fn ids_end(plan: &NodePlan) -> u64 {
    let highest = plan.nodes.keys().map(|node| u64::from(node.0)).max().unwrap_or(0);
    10_u64.pow((highest + 1).ilog10() + 1).max(NODE_NUMBERS_MIN)
}

fn check_addresses(node: &Node) -> Result<(), Refused> {
    for (what, text) in [("--peer", &node.peer), ("--s3", &node.s3)] {
        parse_address(text).ok_or_else(|| {
            Refused::new(format!(
                "{what} is {text:?}: an address and a port, such as 127.0.0.1:7101 (names are not \
                 looked up)"
            ))
        })?;
    }
    if node.peer == node.s3 {
        return Err(Refused::new(format!(
            "{} cannot be the address for peers and for clients: each needs a port of its own",
            node.peer
        )));
    }
    Ok(())
}

fn said_of(spec: &NodeSpec) -> Node {
    Node {
        id: spec.id.0,
        zone: spec.zone,
        name: spec.name.clone(),
        peer: spec.peer.to_string(),
        s3: spec.s3.to_string(),
        left: false,
    }
}

fn is_same(spec: &NodeSpec, node: &Node) -> bool {
    said_of(spec) == *node
}

/// Whether every store that anybody needs is at another node.
fn may_leave(spec: &NodeSpec, status: &ClusterStatus) -> Result<(), Refused> {
    let refused = |why: String| {
        Err(Refused::new(format!("node {:?} cannot leave the cluster yet: {why}", spec.name)))
    };
    let Some(map) = &status.map else {
        return refused("the cluster's map cannot be read".to_owned());
    };
    let voters: BTreeSet<u64> =
        status.ranges.iter().flat_map(|range| range.voters.iter().copied()).collect();
    let elsewhere = |store: u64| {
        let mut stores = status.stores.iter();
        stores.any(|s| s.id == store && s.life == StoreLife::Serving && s.node != spec.name)
    };
    let zone = spec.zone.letter().to_string();
    for id in map.zones.get(&zone).into_iter().flatten().copied() {
        let store = StoreId(id);
        if elsewhere(id) {
            continue;
        }
        if voters.contains(&id) {
            return refused(format!(
                "{store} votes, and serves at no other node. Drain it, with another store in its zone \
                 that takes over its vote (`trine admin store drain {id} --wait`)"
            ));
        }
        if !is_dispensable(id, map) {
            return refused(format!(
                "{store} serves at no other node. Drain it (`trine admin store drain {id} --wait`), or \
                 give its place to a new one elsewhere (`trine admin store replace {id} --node NAME`)"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::schema::{MapStatus, RangeStatus, StoreStatus};
    use super::*;
    use crate::config::for_tests::plan_of;

    fn status() -> ClusterStatus {
        let store = |id, node: &str| StoreStatus {
            id,
            zone: "a".to_owned(),
            node: node.to_owned(),
            life: StoreLife::Serving,
            ..StoreStatus::default()
        };
        let map = MapStatus {
            zones: BTreeMap::from([("a".to_owned(), vec![1, 4])]),
            weights: BTreeMap::from([(1, 1), (4, 1)]),
            voters: vec![1, 2, 3],
            ..MapStatus::default()
        };
        let range = RangeStatus { voters: vec![1, 2, 3], ..RangeStatus::default() };
        ClusterStatus {
            map: Some(map),
            stores: vec![store(1, "a1"), store(4, "a4")],
            ranges: vec![range],
            ..ClusterStatus::default()
        }
    }

    #[test]
    fn a_node_leaves_when_nobody_needs_its_stores() {
        let plan = plan_of(&[(1, "a1"), (2, "b1"), (3, "c1"), (4, "a4")]);
        let why = |id: u32, status: &ClusterStatus| {
            let left = may_leave(&plan.nodes[&NodeId(id)], status);
            left.map_err(|refused| refused.to_string()).err().unwrap_or_default()
        };
        let mut status = status();
        assert!(why(1, &status).contains("store-1 votes"));
        assert!(why(4, &status).contains("store-4 serves at no other node"));
        assert_eq!(why(2, &status), "", "zone b has no store left");
        let map = status.map.as_mut().unwrap();
        map.weights.insert(1, 0);
        map.voters[0] = 4;
        assert!(
            why(1, &status).contains("store-1 votes"),
            "it votes until the other has caught up"
        );
        status.ranges[0].voters[0] = 4;
        assert_eq!(why(1, &status), "");
        let former = super::super::schema::FormerLayout::default();
        status.map.as_mut().unwrap().former.push(former);
        assert!(why(1, &status).contains("store-1 serves at no other node"), "its data moves");
        // The node is gone, and a new store has the place of the one it had.
        status.map = None;
        assert!(why(1, &status).contains("cannot be read"));
    }

    #[test]
    fn ids_of_nodes_have_the_digits_that_the_first_ones_have() {
        assert_eq!(ids_end(&plan_of(&[(1, "a"), (2, "b"), (3, "c")])), 1000);
    }
}
