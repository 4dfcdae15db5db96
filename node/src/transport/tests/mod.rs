//! Links over real loopback sockets: between ports, through a proxy that cuts, and against hand-made
//! peers that break the rules.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration as StdDuration;

use bytes::Bytes;
use trine_core::consensus;
use trine_core::hash::Checksum;
use trine_core::ids::{CallId, ChunkId, GatewayId, LogIndex, MapEpoch, RangeId, StoreId, Term};
use trine_core::message::{ChunkWrite, Envelope, Message};
use trine_core::object::Target;
use trine_core::time::WallTime;

use super::*;
use crate::runtime::tokio::TokioRuntime;

mod calls;
mod codecs;
mod cuts;
mod peers;
mod pressure;
mod proxy;
mod refusals;
mod rig;

use rig::*;

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_find_each_other_and_messages_flow_both_ways_on_both_connections() {
    let (mut low, mut high) = pair().await;
    assert_eq!(low.next().await, "up store-2");
    assert_eq!(high.next().await, "up store-1");
    low.port.send(&heartbeat(1, 2, 7));
    assert_eq!(high.next().await, "store-1 to store-2: Consensus 7");
    high.port.send(&heartbeat(2, 1, 8));
    assert_eq!(low.next().await, "store-2 to store-1: Consensus 8");
    low.port.send(&chunk(1, 2, 9, 1 << 20));
    assert_eq!(high.next().await, "store-1 to store-2: ChunkWrite 9 of 1048576");
    high.port.send(&chunk(2, 1, 10, 5));
    assert_eq!(low.next().await, "store-2 to store-1: ChunkWrite 10 of 5");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_connection_come_in_order() {
    let (mut low, mut high) = pair().await;
    low.next().await;
    high.next().await;
    for number in 0..3000 {
        low.port.send(&heartbeat(1, 2, number));
    }
    for number in 0..3000 {
        assert_eq!(high.next().await, format!("store-1 to store-2: Consensus {number}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_driver_is_gone_is_down_at_once_and_its_next_life_is_noticed() {
    let (mut low, high) = pair().await;
    low.next().await;
    let life = low.link().life;
    let address = high.address;
    drop(high);
    assert_eq!(low.next().await, "down store-2");
    // How it ended, or already that nobody listens there any more.
    let reason = low.link().reason.unwrap().to_lowercase();
    assert!(reason.contains("connection"), "{reason}");
    let high = Node::start_at(2, address, vec![], SLOW).await;
    high.host(&[store(2)]);
    assert_eq!(low.next().await, "up store-2");
    let status = low.link();
    assert!(status.life.is_some() && status.life != life, "another life");
    assert_eq!((status.ups, status.up), (2, true));
    assert_eq!(status.endpoints, [store(2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_come_and_go_while_the_link_stands() {
    let (mut low, mut high) = pair().await;
    low.next().await;
    high.next().await;
    high.host(&[store(2), store(5)]);
    assert_eq!(low.next().await, "up store-5");
    // A message of the new endpoint is not taken for forged, on either connection.
    high.port.send(&chunk(5, 1, 1, 10));
    high.port.send(&heartbeat(5, 1, 2));
    let both = BTreeSet::from([low.next().await, low.next().await]);
    assert!(both.contains("store-5 to store-1: ChunkWrite 1 of 10"), "{both:?}");
    assert!(both.contains("store-5 to store-1: Consensus 2"), "{both:?}");
    high.host(&[store(5)]);
    assert_eq!(low.next().await, "down store-2");
    // It restarts: down and up again, in that order.
    high.host(&[]);
    high.host(&[store(5)]);
    assert_eq!(low.next().await, "down store-5");
    assert_eq!(low.next().await, "up store-5");
    assert_eq!(low.link().ups, 1, "all of that on one link");
    low.port.send(&heartbeat(1, 2, 3));
    assert_eq!(low.port.unrouted().get("Consensus"), Some(&1), "store-2 is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_two_nodes_claim_stays_with_the_first_until_it_leaves() {
    let second = Node::start(2, vec![], SLOW).await;
    let third = Node::start(3, vec![(2, second.address)], SLOW).await;
    let peers = vec![(2, second.address), (3, third.address)];
    let mut first = Node::start(1, peers, SLOW).await;
    second.host(&[store(9)]);
    assert_eq!(first.next().await, "up store-9");
    third.host(&[store(9), store(3)]);
    assert_eq!(first.next().await, "up store-3");
    let holder = |first: &Node| {
        let links = first.port.status();
        links.into_iter().filter(|link| link.endpoints.contains(&store(9))).count()
    };
    assert_eq!(holder(&first), 2, "both claim it");
    second.host(&[]);
    assert_eq!(first.next().await, "down store-9");
    assert_eq!(first.next().await, "up store-9");
    first.port.send(&heartbeat(1, 9, 4));
}

#[tokio::test]
async fn peers_on_an_open_network_need_a_word_of_consent() {
    let mut config = config(1, vec![], SLOW);
    config.listen = "0.0.0.0:0".parse().unwrap();
    let error = start(TokioRuntime::new(), config.clone()).await.unwrap_err();
    assert!(matches!(error, TransportError::InsecureListen { .. }), "{error}");
    assert!(error.to_string().contains("insecure_peer_listen"));
    config.insecure_peer_listen = true;
    assert!(start(TokioRuntime::new(), config).await.is_ok());
}

#[tokio::test]
async fn a_configuration_that_contradicts_itself_is_refused() {
    let address = "127.0.0.1:1".parse().unwrap();
    let twice = config(1, vec![(2, address), (2, address)], SLOW);
    let itself = config(1, vec![(1, address)], SLOW);
    let hasty = LinkTiming { silence: LinkTiming::DEFAULT.keepalive, ..LinkTiming::DEFAULT };
    for (config, word) in
        [(twice, "twice"), (itself, "itself"), (config(1, vec![], hasty), "silence")]
    {
        let error = start(TokioRuntime::new(), config).await.unwrap_err().to_string();
        assert!(error.contains(word) || error.contains("this node"), "{error}");
    }
}
