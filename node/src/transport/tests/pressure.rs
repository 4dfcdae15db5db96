//! Full queues, slow readers, and that bulk does not stand before control.

use super::proxy::{Proxy, Way};
use super::*;
use crate::transport::link::{Drops, Link};

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bulk_does_not_stand_before_control() {
    let (mut low, mut high) = pair().await;
    low.next().await;
    high.next().await;
    // Until the receiver holds as much undelivered as it takes, and the sender's queue grows: the
    // bulk connection stands still, and will until chunks are delivered.
    let takes = BULK_INBOUND_BYTES_MAX / MIB - 1;
    let (mut permits, mut sent) = (Vec::new(), 0);
    let queued = |low: &Node| usize::try_from(low.link().bulk_queued_bytes).unwrap();
    while permits.len() < takes || queued(&low) < BULK_QUEUE_BYTES_MAX / 4 {
        if queued(&low) < BULK_QUEUE_BYTES_MAX / 2 {
            low.port.send(&chunk(1, 2, sent, MIB));
            sent += 1;
        }
        tokio::task::yield_now().await;
        while let Some(arrival) = high.port.try_next() {
            let Arrival::Message(_, permit) = arrival else { panic!("{arrival:?}") };
            permits.push(permit);
        }
    }
    // Messages there and back, under a bulk connection that is full in this direction.
    for number in 0..100 {
        low.port.send(&heartbeat(1, 2, number));
        // The very next arrival, though megabytes were sent before it.
        let expected = format!("store-1 to store-2: Consensus {number}");
        assert_eq!(high.next().await, expected);
        high.port.send(&heartbeat(2, 1, number));
        assert_eq!(low.next().await, format!("store-2 to store-1: Consensus {number}"));
    }
    // Delivered, chunks make room for all the others.
    let mut taken = permits.len() as u64;
    assert!(taken < sent, "{taken} of {sent} chunks came before what was sent after them all");
    permits.clear();
    while taken < sent {
        let line = high.next().await;
        assert!(line.contains(&format!("ChunkWrite {taken} ")), "in order: {line}");
        taken += 1;
    }
    assert_eq!(low.link().ups, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_to_a_peer_that_never_reads_stay_bounded_and_drops_are_counted() {
    let high = Node::start(2, vec![], SLOW).await;
    high.host(&[store(2)]);
    let proxy = Proxy::to(high.address).await;
    let mut low = Node::start(1, vec![(2, proxy.address)], SLOW).await;
    low.host(&[store(1)]);
    assert_eq!(low.next().await, "up store-2");
    proxy.set(Way::Held, Way::Open);
    let payload = Bytes::from(vec![1; MIB]);
    for number in 0..200 {
        low.port.send(&chunk(1, 2, number, MIB));
        low.port.send(&append(1, 2, number, payload.clone()));
        let status = low.link();
        assert!(status.bulk_queued_bytes <= BULK_QUEUE_BYTES_MAX as u64);
        let control_max = CONTROL_QUEUE_BYTES_MAX + CONTROL_RESERVE_BYTES;
        assert!(status.control_queued_bytes <= control_max as u64);
    }
    let drops = low.link().drops;
    assert!(drops["ChunkWrite"] > 100, "{drops:?}");
    assert!(drops["Consensus"] > 100, "{drops:?}");
    assert!(low.link().up, "a slow peer is not a dead one");
}

#[test]
fn heartbeats_find_room_where_appends_find_none() {
    let drops = Arc::new(Drops::default());
    let link = Link::new(1, NodeId(2), 3, drops.clone());
    let payload = Bytes::from(vec![1; 64 << 10]);
    while drops.all().is_empty() {
        link.send(&append(1, 2, 0, payload.clone()));
    }
    assert!(link.queued_bytes(class::Class::Control) <= CONTROL_QUEUE_BYTES_MAX as u64);
    for number in 0..CONTROL_RESERVE_FRAMES as u64 {
        link.send(&heartbeat(1, 2, number));
    }
    assert_eq!(drops.all(), BTreeMap::from([("Consensus", 1)]), "only the append");
    // The reserve, too, has an end.
    for number in 0..(CONTROL_QUEUE_FRAMES_MAX + CONTROL_RESERVE_FRAMES) as u64 {
        link.send(&heartbeat(1, 2, number));
    }
    assert!(drops.all()["Consensus"] > 1);
}

#[test]
fn a_frame_larger_than_the_queue_goes_into_an_empty_one() {
    let link = Link::new(1, NodeId(2), 3, Arc::default());
    let payload = Bytes::from(vec![1; 8 * MIB]);
    link.send(&append(1, 2, 0, payload));
    assert!(link.queued_bytes(class::Class::Control) > CONTROL_QUEUE_BYTES_MAX as u64);
}
