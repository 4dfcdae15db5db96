//! Feature levels on three stores in one process: builds of two kinds side by side, when the level may be raised, and
//! what becomes of a store that does not speak it.

#[path = "rig/cluster.rs"]
mod cluster;
#[path = "rig/disk.rs"]
mod disk;

use cluster::*;
use trine_core::cluster::{Node, ROOT_RANGE};
use trine_core::ids::*;
use trine_core::level::{Level, Levels};
use trine_core::message::*;
use trine_core::range::command::*;
use trine_core::time::Duration;

const OLD: Levels = Levels { min: Level(1), max: Level(1) };
const A_WHILE: Duration = Duration::from_secs(3);

fn raise(to: u32) -> CommandBody {
    CommandBody::RaiseLevel { to: Level(to), spoken: Spoken::default() }
}

fn set_node() -> CommandBody {
    let text = |text: &str| text.to_owned();
    let (name, peer, s3) = (text("d"), text("127.0.0.1:1"), text("127.0.0.1:2"));
    CommandBody::SetNode { node: Node { id: 4, zone: ZoneId(0), name, peer, s3, left: false } }
}

fn restart(cluster: &mut Cluster, id: u64, levels: Levels) {
    cluster.levels = levels;
    cluster.start(StoreId(id));
    cluster.run(A_WHILE);
}

fn levels_known(cluster: &Cluster) -> Vec<Option<u32>> {
    (1..=3).map(|id| cluster.report(id).level.map(|level| level.0)).collect()
}

/// How the leader refuses a command.
fn refused(cluster: &mut Cluster, body: CommandBody) -> Refusal {
    let leader = (1..=3).find_map(|id| cluster.report(id).ranges[0].leader).expect("one leads");
    let command = Command { origin: Origin::System, body };
    let answer = cluster.call(leader.0, |call| {
        Message::RangeCall(RangeCall {
            call,
            origin: GATEWAY,
            session: SessionId(0),
            range: ROOT_RANGE,
            epoch: RangeEpoch(1),
            forwarded: false,
            ask: Ask::Command(Box::new(command)),
        })
    });
    match answer {
        Some(Message::RangeAnswer(RangeAnswer { result: Err(refusal), .. })) => refusal,
        other => panic!("{other:?}"),
    }
}

/// All old; then the stores named are new.
fn half_upgraded(new: &[u64]) -> Cluster {
    let mut cluster = Cluster::speaking(&[1, 2, 3], OLD);
    cluster.run(A_WHILE);
    assert_eq!(levels_known(&cluster), [Some(1); 3], "it began with what all speak");
    new.iter().for_each(|id| restart(&mut cluster, *id, Levels::OWN));
    cluster
}

#[test]
fn a_new_cluster_begins_with_the_newest_level() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.run(A_WHILE);
    assert_eq!(levels_known(&cluster), [Some(Levels::OWN.max.0); 3]);
}

#[test]
fn the_level_is_raised_when_the_last_store_is_new_and_then_what_it_brought_works() {
    let mut cluster = half_upgraded(&[1, 3]);
    let refused_for = Outcome::Rejected(Rejection::LevelNotSpoken { store: StoreId(2) });
    assert_eq!(cluster.command(0, 0, raise(2)), refused_for);
    assert!(cluster.halted.is_empty(), "a raise that is refused hurts nobody");
    restart(&mut cluster, 2, Levels::OWN);
    assert_eq!(refused(&mut cluster, set_node()), Refusal::Overloaded, "before its level");
    assert_eq!(cluster.command(0, 0, raise(2)), Outcome::Done);
    cluster.run(A_WHILE);
    assert_eq!(levels_known(&cluster), [Some(2); 3]);
    assert_eq!(cluster.command(0, 0, set_node()), Outcome::Done);
    assert_eq!(cluster.command(0, 0, raise(2)), Outcome::Done, "asked again");
}

#[test]
fn a_store_that_is_not_reached_holds_up_the_level() {
    let mut cluster = half_upgraded(&[1, 2, 3]);
    cluster.isolate(3, false);
    cluster.run(A_WHILE);
    let refused_for = Outcome::Rejected(Rejection::LevelNotSpoken { store: StoreId(3) });
    assert_eq!(cluster.command(0, 0, raise(2)), refused_for);
    cluster.isolate(3, true);
    cluster.run(A_WHILE);
    assert_eq!(cluster.command(0, 0, raise(2)), Outcome::Done);
}

#[test]
fn a_store_may_go_back_before_the_level_is_raised_and_stops_if_it_does_after() {
    let mut cluster = half_upgraded(&[1, 2, 3]);
    restart(&mut cluster, 3, OLD);
    assert!(cluster.halted.is_empty());
    restart(&mut cluster, 3, Levels::OWN);
    assert_eq!(cluster.command(0, 0, raise(2)), Outcome::Done);
    cluster.run(A_WHILE);
    restart(&mut cluster, 3, OLD);
    let why = &cluster.halted[&StoreId(3)];
    assert!(why.contains("level 2") && why.contains("speaks level 1"), "{why}");
    // The others go on, and it does once it runs the newer build again.
    assert_eq!(cluster.command(0, 0, set_node()), Outcome::Done);
    restart(&mut cluster, 3, Levels::OWN);
    cluster.run_until("it has applied everything", |cluster| {
        let range = |id| cluster.report(id).ranges[0].clone();
        range(3).applied == range(1).applied && range(3).applied.is_some()
    });
    assert!(cluster.halted.is_empty());
}

#[test]
fn a_store_that_remembers_nothing_hears_of_the_level_from_its_peers() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.run(A_WHILE);
    cluster.stop(StoreId(2));
    cluster.disks.remove(&StoreId(2));
    restart(&mut cluster, 2, OLD);
    let why = &cluster.halted[&StoreId(2)];
    assert!(why.contains("says that the cluster is at level 2"), "{why}");
}
