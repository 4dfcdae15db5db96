//! How a cluster begins, and what becomes of a first voter whose disk was emptied: three stores in one
//! process, whose processes are stopped so that no peer remembers anything in memory.

use std::collections::BTreeMap;

use trine_core::cluster::ROOT_RANGE;
use trine_core::ids::StoreId;
use trine_core::store::StoreLife;

#[expect(dead_code, reason = "other tests use the rest of it")]
mod rig;

use rig::Cluster;

const A: StoreId = StoreId(1);
const B: StoreId = StoreId(2);
const C: StoreId = StoreId(3);

/// The end of each store's log; 0 where there is no replica.
fn ends(cluster: &Cluster) -> BTreeMap<StoreId, u64> {
    let end = |store: &trine_core::store::Store| {
        let ranges = store.report().ranges;
        ranges.iter().find(|range| range.range == ROOT_RANGE).map_or(0, |range| range.last.0)
    };
    cluster.stores.iter().map(|(id, store)| (*id, end(store))).collect()
}

fn is_suspect(cluster: &Cluster, id: StoreId) -> bool {
    cluster.stores[&id].report().ranges.iter().any(|range| range.suspect)
}

fn stop_all(cluster: &mut Cluster) {
    for id in [A, B, C] {
        cluster.stop(id);
    }
}

#[test]
fn a_cluster_begins_when_all_its_first_voters_are_there_and_not_before() {
    let mut cluster = Cluster::new(2);
    cluster.run_millis(20_000);
    assert_eq!(ends(&cluster), BTreeMap::from([(A, 0), (B, 0)]), "{}", cluster.status());
    for id in [A, B] {
        let report = cluster.stores[&id].report();
        assert_eq!((report.life, report.waits_for), (StoreLife::Serving, vec![C]), "{id} says so");
    }
    // Restarts do not make it forget that there is nothing yet.
    cluster.start(A);
    cluster.start(B);
    cluster.run_millis(5_000);
    assert_eq!(ends(&cluster), BTreeMap::from([(A, 0), (B, 0)]));
    cluster.place(C);
    cluster.start(C);
    cluster.found();
    cluster.until_equal(&[A, B, C]);
}

#[test]
fn a_disk_that_is_emptied_before_the_cluster_begins_is_no_loss() {
    let mut cluster = Cluster::new(2);
    cluster.run_millis(2_000);
    for _ in 0..3 {
        cluster.stop(A);
        cluster.wipe(A);
        cluster.start(A);
        cluster.run_millis(1_500);
    }
    cluster.place(C);
    cluster.start(C);
    cluster.found();
    cluster.until_equal(&[A, B, C]);
    assert!(![A, B, C].into_iter().any(|id| is_suspect(&cluster, id)));
}

/// Power was lost in all zones; the disk of `emptied` was lost with it, and `away` comes back last.
/// `lagging` lacks the newest writes, which the other two have.
fn comes_back(emptied: StoreId, lagging: StoreId, away: StoreId) {
    let mut cluster = Cluster::new(3);
    cluster.found();
    cluster.write(30, 200);
    cluster.until_equal(&[A, B, C]);
    cluster.stop(lagging);
    cluster.write(20, 200);
    let written = ends(&cluster)[&away];
    stop_all(&mut cluster);
    cluster.wipe(emptied);
    cluster.start(emptied);
    cluster.start(lagging);
    cluster.run_millis(20_000);
    assert_eq!(ends(&cluster)[&emptied], 0, "nobody leads: {}", cluster.status());
    assert!(is_suspect(&cluster, emptied));
    cluster.start(away);
    cluster.write(5, 200);
    cluster.until_equal(&[A, B, C]);
    assert!(ends(&cluster).values().all(|end| *end > written), "{:?}", ends(&cluster));
    cluster.run_millis(2_000);
    assert!(!is_suspect(&cluster, emptied), "the others have vouched for it");
    // From now on it is one like the others.
    cluster.stop(away);
    cluster.write(5, 200);
    cluster.start(away);
    cluster.until_equal(&[A, B, C]);
}

#[test]
fn an_emptied_first_voter_does_not_elect_a_replica_that_lags() {
    for (emptied, lagging, away) in [(A, B, C), (A, C, B), (B, A, C), (B, C, A), (C, A, B)] {
        comes_back(emptied, lagging, away);
    }
}

#[test]
fn an_emptied_first_voter_comes_back_beside_two_that_remember() {
    let mut cluster = Cluster::new(3);
    cluster.found();
    cluster.write(30, 200);
    cluster.until_equal(&[A, B, C]);
    cluster.stop(A);
    cluster.wipe(A);
    cluster.start(A);
    cluster.write(10, 200);
    cluster.until_equal(&[A, B, C]);
    cluster.run_millis(2_000);
    assert!(!is_suspect(&cluster, A));
}
