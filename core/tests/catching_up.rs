//! Replicas that catch up: by log, by newer rows, by a whole state; a wiped zone that is filled again
//! by a new store, which takes the place of the old one; crashes at every step of it.

mod rig;

use rig::{Cluster, Fault, LAG};
use trine_core::cluster::StoreLimits;
use trine_core::ids::StoreId;
use trine_core::message::{Message, SnapshotGiven, SnapshotWant};

const THREE: [StoreId; 3] = [StoreId(1), StoreId(2), StoreId(3)];

/// Any store that does not lead.
fn follower(cluster: &Cluster) -> StoreId {
    let leader = cluster.leader();
    THREE.into_iter().find(|id| *id != leader).expect("there are three")
}

#[test]
fn a_follower_that_was_away_for_a_moment_catches_up_by_the_log() {
    let mut cluster = Cluster::new(3);
    cluster.found();
    let away = follower(&cluster);
    cluster.stop(away);
    cluster.write(LAG / 4, 300);
    cluster.start(away);
    cluster.until_equal(&THREE);
    assert_eq!(cluster.count(|message| matches!(message, Message::SnapshotPage(_))), 0);
}

#[test]
fn a_follower_that_was_away_for_long_is_given_newer_rows_only() {
    let mut cluster = Cluster::new(3);
    cluster.found();
    // Enough that its table holds something of its own.
    cluster.write(300, 700);
    cluster.until_equal(&THREE);
    let away = follower(&cluster);
    cluster.stop(away);
    cluster.write(2 * LAG, 700);
    cluster.start(away);
    cluster.until_equal(&THREE);
    let newer = cluster.count(|message| asks_for_newer_rows(message, true));
    let all = cluster.count(|message| asks_for_newer_rows(message, false));
    assert!(newer > 0 && all == 0, "{newer} asks for newer rows, {all} for all");
    let rows = cluster.bytes_of_pages();
    assert!(rows < 200_000, "what it had was not sent again: {rows} bytes");
    // It goes on from there like any other, also through a restart.
    cluster.start(away);
    cluster.write(LAG / 4, 100);
    cluster.until_equal(&THREE);
}

/// Merges have dropped tombstones that it would need.
#[test]
fn a_follower_that_was_away_for_longer_than_deletions_are_remembered_is_given_all_rows() {
    let mut cluster = Cluster::new(3);
    cluster.found();
    cluster.write(300, 700);
    cluster.until_equal(&THREE);
    let away = follower(&cluster);
    cluster.stop(away);
    cluster.write(300 + 4 * StoreLimits::SIMULATION.tombstone_lag, 700);
    cluster.start(away);
    cluster.until_equal(&THREE);
    let newer = cluster.count(|message| asks_for_newer_rows(message, true));
    let all = cluster.count(|message| asks_for_newer_rows(message, false));
    assert!(all > 0 && newer == 0, "{newer} asks for newer rows, {all} for all");
    // What it was given lacks them too: it says so when it gives it on.
    cluster.start(away);
    cluster.until_equal(&THREE);
}

#[test]
fn a_follower_whose_table_is_behind_its_log_by_nothing_is_given_all_rows() {
    let mut cluster = Cluster::new(3);
    cluster.found();
    let away = follower(&cluster);
    cluster.stop(away);
    // Large values too: they live beside the rows, and are carried with them.
    cluster.write(2 * LAG, 900);
    cluster.start(away);
    cluster.until_equal(&THREE);
    assert!(cluster.count(|message| asks_for_newer_rows(message, false)) > 0);
    cluster.start(away);
    cluster.until_equal(&THREE);
    // Its log begins after the state that it was given. It can lead, and give it on.
    let others: Vec<StoreId> = THREE.into_iter().filter(|id| *id != away).collect();
    cluster.stop(others[0]);
    cluster.write(2 * LAG, 900);
    cluster.start(others[0]);
    cluster.until_equal(&THREE);
}

fn asks_for_newer_rows(message: &Message, newer: bool) -> bool {
    matches!(message, Message::SnapshotAsk(ask)
        if matches!(&ask.want, SnapshotWant::Pages { newer_than, .. } if (newer_than.0 > 0) == newer))
}

fn is_page(message: &Message) -> bool {
    matches!(message, Message::SnapshotPage(page)
        if matches!(page.given, SnapshotGiven::Rows { .. }))
}

#[test]
fn a_wiped_zone_is_filled_again_and_its_voter_replaced_by_one_swap() {
    let mut cluster = Cluster::new(3);
    cluster.found();
    cluster.write(2 * LAG, 600);
    cluster.until_equal(&THREE);
    let (old, new) = (follower(&cluster), StoreId(4));
    cluster.stop(old);
    cluster.add(new, old);
    cluster.write(10, 600);
    cluster.replace(old, new);
    let now: Vec<StoreId> = THREE.into_iter().filter(|id| *id != old).chain([new]).collect();
    cluster.until_voters_are(&now);
    cluster.until_equal(&now);
    // One more of the old ones dies for ever: the new one is a voter indeed.
    let dies = THREE.into_iter().find(|id| *id != old).expect("two are left");
    cluster.stop(dies);
    cluster.write(30, 600);
    let left: Vec<StoreId> = now.into_iter().filter(|id| *id != dies).collect();
    cluster.until_equal(&left);
    // All of it is on the disks.
    for id in left.clone() {
        cluster.start(id);
    }
    cluster.write(30, 600);
    cluster.until_equal(&left);
}

#[test]
fn the_leader_itself_is_replaced() {
    let mut cluster = Cluster::new(3);
    cluster.found();
    cluster.write(2 * LAG, 600);
    let (old, new) = (cluster.leader(), StoreId(4));
    cluster.add(new, old);
    cluster.replace(old, new);
    let now: Vec<StoreId> = THREE.into_iter().filter(|id| *id != old).chain([new]).collect();
    cluster.until_voters_are(&now);
    cluster.stop(old);
    cluster.write(10, 600);
    cluster.until_equal(&now);
}

/// A crash of giver or taker, or a new leader, at each page: nothing is taken over by halves.
#[test]
fn a_crash_or_a_new_leader_at_any_page_only_costs_time() {
    for fault in [Fault::TakerCrashes, Fault::GiverCrashes, Fault::GiverIsCutOff, Fault::PageIsLost]
    {
        let mut at = 1;
        loop {
            let mut cluster = Cluster::new(3);
            cluster.found();
            cluster.write(60, 700);
            let taker = follower(&cluster);
            cluster.stop(taker);
            cluster.write(2 * LAG, 900);
            cluster.fault_at_page(fault, at, taker);
            cluster.start(taker);
            cluster.until_equal(&THREE);
            if !cluster.fault_happened() {
                assert!(at > 5, "{fault:?}: there were pages: {at}");
                break;
            }
            at += 1 + at / 3;
        }
    }
}

/// A crash of the taker after each completion of its disk, from the first page on.
#[test]
fn a_crash_at_any_completion_of_the_disk_leaves_the_old_state_or_the_new() {
    let mut at = 0;
    loop {
        let mut cluster = Cluster::new(3);
        cluster.found();
        let taker = follower(&cluster);
        cluster.stop(taker);
        cluster.write(2 * LAG, 900);
        cluster.start(taker);
        let over = !cluster.crash_after_completions(taker, at);
        cluster.until_equal(&THREE);
        if over {
            assert!(at > 30, "there were completions: {at}");
            return;
        }
        at += 7;
    }
}

#[test]
fn a_taker_without_room_gives_up_and_says_so() {
    let mut cluster = Cluster::new(3);
    cluster.found();
    let taker = follower(&cluster);
    cluster.stop(taker);
    cluster.write(4 * LAG, 900);
    cluster.wipe_into_small_disk(taker);
    cluster.start(taker);
    cluster.run_millis(3000);
    let told = |note: &String| note.contains("was not taken over") && note.contains("no room");
    assert!(cluster.notes.iter().any(told), "{:?}", cluster.notes);
    // The range goes on without it.
    cluster.write(10, 600);
    assert!(cluster.count(is_page) > 0);
}

/// The table of a replica whose log begins after a snapshot is damaged: it asks for another state.
#[test]
fn a_damaged_table_behind_a_cut_log_is_fetched_from_another_replica() {
    let mut cluster = Cluster::new(3);
    cluster.found();
    let taker = follower(&cluster);
    cluster.stop(taker);
    cluster.write(2 * LAG, 900);
    cluster.start(taker);
    cluster.until_equal(&THREE);
    cluster.stop(taker);
    cluster.rot_tables(taker);
    cluster.start(taker);
    cluster.write(10, 600);
    cluster.until_equal(&THREE);
    let asked = |message: &Message| {
        matches!(message, Message::SnapshotAsk(ask)
        if matches!(ask.want, SnapshotWant::State { .. }))
    };
    assert!(cluster.count(asked) > 0, "{:?}", cluster.notes);
    // And again from its own disk.
    cluster.start(taker);
    cluster.write(10, 600);
    cluster.until_equal(&THREE);
}
