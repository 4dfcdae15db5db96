//! What is noticed when the network fails, and that links heal.

use super::proxy::{Proxy, Way};
use super::*;
use crate::runtime::memory::MemoryRuntime;

/// Nodes 1 and 2 with a proxy between them, linked.
async fn proxied(timing: LinkTiming) -> (Node, Proxy, Node) {
    let high = Node::start(2, vec![], timing).await;
    high.host(&[store(2)]);
    let proxy = Proxy::to(high.address).await;
    let low = Node::start(1, vec![(2, proxy.address)], timing).await;
    low.host(&[store(1)]);
    let (mut low, mut high) = (low, high);
    assert_eq!(low.next().await, "up store-2");
    assert_eq!(high.next().await, "up store-1");
    (low, proxy, high)
}

/// The same where time waits for everybody, and silence is noticed soon.
async fn proxied_in_memory() -> (Node<MemoryRuntime>, Proxy, Node<MemoryRuntime>) {
    let (runtime, any) = (MemoryRuntime::new(), "127.0.0.1:0".parse().unwrap());
    let mut high = Node::start_on(runtime.clone(), 2, any, vec![], QUICK).await;
    high.host(&[store(2)]);
    let proxy = Proxy::on(runtime.clone(), high.address, |_| {}).await;
    let mut low = Node::start_on(runtime, 1, any, vec![(2, proxy.address)], QUICK).await;
    low.host(&[store(1)]);
    assert_eq!(low.next().await, "up store-2");
    assert_eq!(high.next().await, "up store-1");
    (low, proxy, high)
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_is_noticed_by_both_ends_and_the_link_heals() {
    let (mut low, proxy, mut high) = proxied_in_memory().await;
    let accepted = *proxy.accepted.lock().unwrap();
    proxy.set(Way::Lost, Way::Lost);
    assert_eq!(low.next().await, "down store-2");
    assert_eq!(high.next().await, "down store-1");
    let reason = high.link().reason.unwrap();
    assert!(reason.contains("nothing was heard"), "{reason}");
    // It dials on, though nothing answers, and nothing says so.
    until("more attempts", || *proxy.accepted.lock().unwrap() > accepted + 1).await;
    assert!(!low.link().up);
    proxy.set(Way::Open, Way::Open);
    assert_eq!(low.next().await, "up store-2");
    assert_eq!(high.next().await, "up store-1");
    low.port.send(&heartbeat(1, 2, 1));
    assert_eq!(high.next().await, "store-1 to store-2: Consensus 1");
}

#[tokio::test(start_paused = true)]
async fn a_cut_in_one_direction_brings_the_link_down_at_both_ends() {
    for (there, back) in [(Way::Lost, Way::Open), (Way::Open, Way::Lost)] {
        let (mut low, proxy, mut high) = proxied_in_memory().await;
        proxy.set(there, back);
        assert_eq!(low.next().await, "down store-2");
        assert_eq!(high.next().await, "down store-1");
        proxy.set(Way::Open, Way::Open);
        assert_eq!(low.next().await, "up store-2");
        assert_eq!(high.next().await, "up store-1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_is_noticed_without_any_timer() {
    // With these timings silence would be noticed after the test has given up.
    let slow = LinkTiming { silence: PATIENCE * 2, ..SLOW };
    let (mut low, proxy, mut high) = proxied(slow).await;
    for _ in 0..3 {
        proxy.reset();
        assert_eq!(low.next().await, "down store-2");
        assert_eq!(high.next().await, "down store-1");
        assert_eq!(low.next().await, "up store-2");
        assert_eq!(high.next().await, "up store-1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_are_idle_stay_up_and_know_their_round_trip() {
    let (low, proxy, high) = proxied(SLOW).await;
    let knows = |node: &Node| node.link().round_trip.is_some();
    until("a round trip", || knows(&low) && knows(&high)).await;
    assert_eq!((low.link().ups, high.link().ups), (1, 1));
    drop(proxy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_behind_a_black_hole_is_a_new_life() {
    let (mut low, proxy, high) = proxied(SLOW).await;
    // Node 2 hears nothing of the end of node 1, and would wait long for it.
    proxy.set(Way::Lost, Way::Lost);
    let address = proxy.address;
    let before = high.link().life.unwrap();
    drop(low);
    let mut high = high;
    proxy.set(Way::Open, Way::Open);
    low = Node::start(1, vec![(2, address)], SLOW).await;
    low.host(&[store(1)]);
    assert_eq!(high.next().await, "down store-1");
    assert_eq!(high.next().await, "up store-1");
    assert!(high.link().life.is_some_and(|life| life != before));
}

#[tokio::test(start_paused = true)]
async fn links_on_which_nothing_is_said_stay_up_whatever_the_time() {
    let (mut low, proxy, mut high) = proxied_in_memory().await;
    tokio::time::sleep(QUICK.silence * 100).await;
    assert!(low.port.try_next().is_none() && high.port.try_next().is_none());
    assert_eq!((low.link().ups, high.link().ups), (1, 1));
    drop(proxy);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_itself_does_not_take_its_peers_for_dead() {
    let (mut low, proxy, mut high) = proxied_in_memory().await;
    for _ in 0..3 {
        // All that was to happen meanwhile happens at once, as to a process that was stopped.
        tokio::time::advance(QUICK.silence * 3).await;
        // All its tasks see the new time, more than once.
        tokio::time::sleep(QUICK.keepalive * 3).await;
        assert!(low.port.try_next().is_none() && high.port.try_next().is_none());
    }
    assert_eq!((low.link().ups, high.link().ups), (1, 1), "the link still stands");
    // It is a second look, and no pardon.
    proxy.set(Way::Lost, Way::Lost);
    tokio::time::advance(QUICK.silence * 3).await;
    assert_eq!(low.next().await, "down store-2");
    assert_eq!(high.next().await, "down store-1");
}
