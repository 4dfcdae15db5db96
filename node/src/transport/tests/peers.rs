//! Nodes that join, move and leave while others are linked.

use super::*;

fn peers(nodes: &[(u32, SocketAddr)]) -> BTreeMap<NodeId, SocketAddr> {
    nodes.iter().map(|(id, address)| (NodeId(*id), *address)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_is_linked_and_one_that_left_is_not_spoken_to() {
    let mut low = Node::start(1, vec![], SLOW).await;
    low.host(&[store(1)]);
    let mut high = Node::start(2, vec![], SLOW).await;
    high.host(&[store(2)]);
    assert!(low.port.status().is_empty());
    let both = peers(&[(2, high.address)]);
    low.peers.set(&both);
    assert_eq!(low.next().await, "up store-2");
    assert_eq!(high.next().await, "up store-1");
    // Told again, nothing happens.
    low.peers.set(&both);
    low.port.send(&heartbeat(1, 2, 7));
    assert_eq!(high.next().await, "store-1 to store-2: Consensus 7");
    assert_eq!(low.link().ups, 1);
    low.peers.set(&peers(&[]));
    assert_eq!(low.next().await, "down store-2");
    assert_eq!(high.next().await, "down store-1");
    assert!(low.port.status().is_empty(), "it is no peer any more");
    // It may have been a mistake.
    low.peers.set(&both);
    assert_eq!(low.next().await, "up store-2");
    assert_eq!(high.next().await, "up store-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_left_is_refused_and_told_why() {
    let (mut low, mut high) = pair().await;
    low.next().await;
    high.next().await;
    high.peers.set(&peers(&[]));
    assert_eq!(high.next().await, "down store-1");
    assert_eq!(low.next().await, "down store-2");
    let says = |low: &Node| low.link().reason.unwrap_or_default();
    until("it says why", || says(&low).contains("node-1 has left the cluster of node-2")).await;
    assert!(low.port.linked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_moved_is_found_at_its_new_address() {
    let (mut low, high) = pair().await;
    low.next().await;
    let moved = Node::start(2, vec![], SLOW).await;
    moved.host(&[store(2)]);
    low.peers.set(&peers(&[(2, moved.address)]));
    assert!(low.link().up, "the link stands until it breaks");
    drop(high);
    assert_eq!(low.next().await, "down store-2");
    assert_eq!(low.next().await, "up store-2");
    assert_eq!(low.link().address, moved.address);
}
