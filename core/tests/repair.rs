//! What repair promises, on three stores in one process whose links can be cut and whose disks can be
//! damaged, emptied and set back.

#[path = "rig/cluster.rs"]
mod cluster;
#[path = "rig/disk.rs"]
mod disk;

use cluster::*;
use disk::Disk;
use trine_core::cluster::*;
use trine_core::effects::StoreEvent;
use trine_core::ids::*;
use trine_core::level::Levels;
use trine_core::message::*;
use trine_core::range::command::*;
use trine_core::store::*;
use trine_core::time::Duration;

#[test]
fn a_zone_that_was_away_is_full_again() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    let session = cluster.open_session(1);
    cluster.run_until("whole at first", |cluster| (1..=3).all(|id| cluster.is_whole(id)));
    cluster.isolate(2, false);
    cluster.run(Duration::from_secs(1));
    for number in 0..200 {
        for to in [1, 3] {
            assert_eq!(cluster.write(to, session, number), Ok(()));
        }
    }
    cluster.isolate(2, true);
    cluster.run(Duration::from_millis(20));
    assert!(!cluster.is_whole(2), "a link was down: there is reason to doubt");
    cluster.run_until("whole again", |cluster| cluster.is_whole(2));
    assert_eq!(cluster.report(2).repair.repaired, 200);
    for number in 0..200 {
        let summaries = [1, 2, 3].map(|at| cluster.check(at, session, number));
        assert!(summaries[0].is_ok() && summaries.iter().all(|other| *other == summaries[0]));
    }
    assert_eq!(cluster.check(1, session, 999), Err(ChunkError::Missing));
}

#[test]
fn a_damaged_copy_is_repaired_when_it_is_read_or_checked_or_hinted_at() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    let session = cluster.open_session(1);
    for number in 0..20 {
        for to in 1..=3 {
            assert_eq!(cluster.write(to, session, number), Ok(()));
        }
    }
    let whole = |cluster: &Cluster| (1..=3).all(|id| cluster.is_whole(id));
    cluster.run_until("whole at first", whole);
    for number in [3, 4, 5] {
        cluster.damage(2, session, number);
    }
    assert_eq!(cluster.read(2, session, 3), Err(ChunkError::Damaged));
    cluster.run_until("a read mends", |cluster| cluster.report(2).repair.repaired == 1);
    assert_eq!(cluster.read(2, session, 3), Ok(chunk(CallId(0), session, 3).data));
    assert_eq!(cluster.check(2, session, 4), Err(ChunkError::Damaged));
    cluster.run_until("a check mends", |cluster| cluster.report(2).repair.repaired == 2);
    // Asked for, it is answered when it is done.
    let id = chunk(CallId(0), session, 5).chunk;
    let answer = cluster.call(2, |call| {
        Message::ChunkRepair(ChunkRepair {
            call,
            chunk: id,
            existed: false,
            sources: vec![StoreId(3)],
        })
    });
    let Some(Message::ChunkWritten(written)) = answer else { panic!("{answer:?}") };
    assert_eq!(written.result(), &Ok(()));
    assert_eq!(cluster.report(2).repair.repaired, 3);
    // A sound copy is proven, one that nobody has is missing.
    for (number, expected) in [(5, Ok(())), (777, Err(ChunkError::Missing))] {
        let id = chunk(CallId(0), session, number).chunk;
        let answer = cluster.call(2, |call| {
            Message::ChunkRepair(ChunkRepair {
                call,
                chunk: id,
                existed: false,
                sources: Vec::new(),
            })
        });
        let Some(Message::ChunkWritten(written)) = answer else { panic!("{answer:?}") };
        assert_eq!(written.result(), &expected);
    }
    cluster.run_until("whole", whole);
    for number in 0..20 {
        assert_eq!(cluster.check(2, session, number), cluster.check(1, session, number));
    }
}

#[test]
fn what_is_lost_everywhere_stays_known_until_a_copy_turns_up() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    let session = cluster.open_session(1);
    // A gateway hints at what it knows two zones to have stored.
    let hint = |cluster: &mut Cluster, number| {
        let id = chunk(CallId(0), session, number).chunk;
        let repair =
            ChunkRepair { call: CallId(0), chunk: id, existed: true, sources: vec![StoreId(3)] };
        let (from, message) = (FROM, Message::ChunkRepair(repair));
        let envelope = Envelope { from, to: Endpoint::Store(StoreId(2)), message };
        cluster.queue.push_back((StoreId(2), StoreEvent::Message(envelope)));
    };
    let is_missing = |cluster: &Cluster| {
        let report = cluster.report(2).repair;
        (report.missing, report.complete) == (1, false)
    };
    hint(&mut cluster, 888);
    cluster.run(Duration::from_secs(2));
    assert!(is_missing(&cluster));
    assert_eq!(cluster.write(3, session, 888), Ok(()));
    cluster.run_until("whole again", |cluster| cluster.is_whole(2));
    assert_eq!(cluster.check(2, session, 888), cluster.check(3, session, 888));
    hint(&mut cluster, 889);
    for _ in 0..10 {
        cluster.run(Duration::from_secs(9));
        assert!(is_missing(&cluster), "as long as no copy turns up");
    }
}

#[test]
fn what_is_damaged_everywhere_stays_known_and_is_never_called_complete() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    let session = cluster.open_session(1);
    assert_eq!(cluster.command(session, 1, bucket(1)), Outcome::Done);
    for to in 1..=3 {
        assert_eq!(cluster.write(to, session, 0), Ok(()));
        cluster.damage(to, session, 0);
    }
    assert!(matches!(cluster.put_object(session, 2, 0), Outcome::Put { .. }));
    cluster.run_until("whole at first", |cluster| cluster.is_whole(1));
    assert_eq!(cluster.read(1, session, 0), Err(ChunkError::Damaged));
    cluster.run(Duration::from_secs(20));
    let report = cluster.report(1).repair;
    assert_eq!((report.damaged, report.repaired, report.complete), (1, 0, false));
}

#[test]
fn a_new_and_empty_store_is_filled() {
    let mut cluster = Cluster::new(&[1, 3]);
    let session = cluster.open_session(1);
    for number in 0..700 {
        for to in [1, 3] {
            assert_eq!(cluster.write(to, session, number), Ok(()));
        }
    }
    assert!(!cluster.is_whole(1), "one of the owners was never compared with");
    cluster.start(StoreId(2));
    cluster.run_until("filled", |cluster| {
        cluster.stores[&StoreId(2)].is_serving() && (1..=3).all(|id| cluster.is_whole(id))
    });
    assert_eq!(cluster.report(2).repair.repaired, 700);
    for number in (0..700).step_by(50) {
        assert_eq!(cluster.check(2, session, number), cluster.check(1, session, number));
    }
}

#[test]
fn a_session_that_is_over_is_refused_at_every_store() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    let first = cluster.open_session(1);
    for to in 1..=3 {
        assert_eq!(cluster.write(to, first, 0), Ok(()));
    }
    let second = cluster.open_session(2);
    cluster.run(Duration::from_secs(3));
    for to in 1..=3 {
        assert_eq!(cluster.write(to, first, 1), Err(ChunkError::Fenced));
        assert_eq!(cluster.read(to, first, 0), Err(ChunkError::Fenced));
        assert_eq!(cluster.write(to, second, 1), Ok(()), "the new one is known everywhere");
        // Never given out: it waits for a newer directory, and is told to come again.
        assert_eq!(cluster.write(to, second + 50, 1), Err(ChunkError::Overloaded));
    }
}

/// A copy that was lost on its way, by a gateway that died before it could say so.
#[test]
fn when_a_session_ends_what_its_gateway_left_undone_is_found() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    let session = cluster.open_session(1);
    for to in 1..=2 {
        cluster.run_until("compared", |cluster| (1..=3).all(|id| cluster.is_whole(id)));
        assert_eq!(cluster.write(to, session, 0), Ok(()));
    }
    assert_eq!(cluster.command(session, 1, bucket(1)), Outcome::Done);
    assert!(matches!(cluster.put_object(session, 2, 0), Outcome::Put { .. }));
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.check(3, session, 0), Err(ChunkError::Missing), "nobody knows");
    // The gateway's next life ends the session of the one before.
    cluster.open_session(2);
    cluster.run(Duration::from_secs(3));
    assert_eq!(cluster.check(3, session, 0), cluster.check(1, session, 0));
    assert!(cluster.check(3, session, 0).is_ok());
}

#[test]
fn a_store_that_cannot_reach_a_voter_lets_new_sessions_wait_and_then_refuses() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    let first = cluster.open_session(1);
    cluster.run(Duration::from_secs(2));
    cluster.isolate(2, false);
    let second = cluster.open_session(2);
    assert_eq!(cluster.write(2, first, 1), Ok(()), "what it knows is not out of date for it");
    assert_eq!(cluster.write(2, second, 1), Err(ChunkError::Overloaded));
    cluster.isolate(2, true);
    cluster.run(Duration::from_secs(3));
    assert_eq!(cluster.write(2, first, 2), Err(ChunkError::Fenced));
    assert_eq!(cluster.write(2, second, 2), Ok(()));
}

/// Let `store` take part again after its disk was set back to `image`, and see that it notices.
fn is_noticed(cluster: &mut Cluster, store: u64, image: Disk, session: u64) {
    let id = StoreId(store);
    cluster.stop(id);
    cluster.disks.insert(id, image);
    let before = cluster.lives;
    cluster.start(id);
    cluster.run_until("noticed", |cluster| cluster.halted.contains_key(&id));
    assert!(cluster.halted[&id].contains("set back"), "{}", cluster.halted[&id]);
    assert!(matches!(cluster.report(store).life, StoreLife::Halted(_)));
    cluster.start(id);
    cluster.run_until("serving", |cluster| cluster.stores[&id].is_serving());
    // A disk without anything takes no part until it has heard of the cluster; then it says so itself.
    let suspect =
        |cluster: &Cluster| cluster.report(store).ranges.first().map(|range| range.suspect);
    assert_ne!(suspect(cluster), Some(false));
    cluster.run_until("suspect", |cluster| suspect(cluster) == Some(true));
    cluster.run_until("trusted and whole", |cluster| {
        assert!(cluster.halted.is_empty(), "{:?}", cluster.halted);
        suspect(cluster) == Some(false) && cluster.is_whole(store)
    });
    assert_eq!(cluster.lives, before + 2);
    let incarnation = cluster.report(store).incarnation;
    // What was healed does not come up again, not even at the next starts of all.
    for id in [store, 1, 2, 3] {
        cluster.start(StoreId(id));
        cluster.run(Duration::from_secs(3));
    }
    assert!(cluster.halted.is_empty(), "{:?}", cluster.halted);
    assert!(cluster.report(store).incarnation > incarnation);
    for number in 0..30 {
        assert_eq!(cluster.check(store, session, number), cluster.check(1, session, number));
    }
}

fn with_an_old_image(restarts: u64) -> (Cluster, Disk, u64) {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    let session = cluster.open_session(1);
    for number in 0..30 {
        if number == 10 {
            cluster.run(Duration::from_secs(2));
        }
        for to in 1..=3 {
            assert_eq!(cluster.write(to, session, number), Ok(()));
        }
    }
    let image = cluster.disks[&StoreId(2)].clone();
    for number in 0..20 {
        assert_eq!(cluster.command(session, number + 1, bucket(number)), Outcome::Done);
    }
    for _ in 0..restarts {
        cluster.start(StoreId(2));
        cluster.run(Duration::from_secs(3));
    }
    cluster.run(Duration::from_secs(3));
    assert!(cluster.halted.is_empty());
    (cluster, image, session)
}

#[test]
fn a_disk_set_back_within_its_life_is_noticed_and_healed() {
    let (mut cluster, image, session) = with_an_old_image(0);
    is_noticed(&mut cluster, 2, image, session);
}

#[test]
fn a_disk_set_back_by_several_lives_is_noticed_and_healed() {
    let (mut cluster, image, session) = with_an_old_image(4);
    is_noticed(&mut cluster, 2, image, session);
    assert!(cluster.report(2).incarnation > Incarnation(6), "above all that was heard of it");
}

/// They have written down what they heard of it.
#[test]
fn a_disk_that_was_set_back_is_noticed_by_peers_that_were_started_since() {
    let (mut cluster, image, session) = with_an_old_image(2);
    cluster.stop(StoreId(2));
    for _ in 0..2 {
        [1, 3].into_iter().for_each(|id| cluster.start(StoreId(id)));
        cluster.run(Duration::from_secs(3));
    }
    is_noticed(&mut cluster, 2, image, session);
}

#[test]
fn an_emptied_disk_under_an_old_identity_is_noticed_and_filled() {
    let (mut cluster, _, session) = with_an_old_image(1);
    is_noticed(&mut cluster, 2, Disk::new(), session);
}

#[test]
fn a_store_of_another_cluster_is_not_listened_to() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.open_session(1);
    let zone = |id: u64| ZoneMap {
        zone: ZoneId(u8::try_from(id - 1).expect("three zones")),
        slots: vec![Slot { store: StoreId(id), weight: 1 }],
    };
    let config = StoreConfig {
        levels: Levels::OWN,
        cluster: ClusterId(8),
        store: StoreId(3),
        zone: ZoneId(2),
        map: ClusterMap::bootstrap(64, (1..=3).map(zone).collect()),
        geometry: Geometry::SIMULATION,
        limits: StoreLimits::SIMULATION,
        timing: StoreTiming::DEFAULT,
        seed: 9,
    };
    cluster.disks.insert(StoreId(3), Disk::new());
    cluster.stores.insert(StoreId(3), Store::new(config));
    cluster.queue.push_back((StoreId(3), StoreEvent::Start));
    cluster.run(Duration::from_secs(10));
    assert!(cluster.report(3).ranges.is_empty(), "it waits for a cluster of its own");
    assert!(cluster.report(1).ranges[0].leader.is_some_and(|leader| leader != StoreId(3)));
}
