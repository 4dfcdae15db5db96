//! Feature levels: when one is raised, and what a cluster does not do before.

use super::support::*;
use crate::cluster::ClusterMap;
use crate::ids::*;
use crate::level::{self, Level, Levels};
use crate::range::command::*;
use crate::range::keys::Key;

/// A cluster at the first level, with a gateway that speaks `levels`.
fn founded(levels: Levels) -> Replica {
    let mut replica = Replica::new(0, 0);
    replica.system(found(ClusterMap { level: level::FIRST, ..first_map() }));
    assert_eq!(replica.system(open(levels)), Outcome::SessionOpened(SessionId(1)));
    replica
}

fn open(levels: Levels) -> CommandBody {
    CommandBody::OpenSpeaking { gateway: GatewayId(1), nonce: u128::from(levels.max.0), levels }
}

fn all() -> Vec<StoreId> {
    first_map().stores().map(|(_, store)| store).collect()
}

fn map_row(replica: &Replica) -> u8 {
    replica.rows.map[&Key::Map.encode()].0[0]
}

#[test]
fn a_level_is_raised_once_all_stores_and_gateways_speak_it_and_never_goes_down() {
    let mut replica = founded(levels(1, 1));
    let before = replica.range.state_hash();
    let most = all().into_iter().filter(|store| *store != StoreId(4)).collect();
    let refused = Outcome::Rejected(Rejection::LevelNotSpoken { store: StoreId(4) });
    assert_eq!(replica.system(raise(2, most)), refused);
    let refused = Outcome::Rejected(Rejection::LevelNotSpokenBy { gateway: GatewayId(1) });
    assert_eq!(replica.system(raise(2, all())), refused);
    assert_eq!(replica.range.level(), Some(Level(1)));
    // The gateway runs another version now: a new life has a new session.
    assert_eq!(replica.system(open(levels(1, 2))), Outcome::SessionOpened(SessionId(2)));
    let version = replica.range.directory_version();
    assert_eq!(replica.system(raise(2, all())), Outcome::Done);
    assert!(replica.range.directory_version() > version, "others hear of it");
    assert_eq!(replica.range.map_epoch(), MapEpoch(1), "nothing moves");
    assert_ne!(replica.range.state_hash(), before);
    assert_eq!(replica.system(raise(2, Vec::new())), Outcome::Done, "asked again");
    let down = Outcome::Rejected(Rejection::LevelGoesDown { level: Level(2) });
    assert_eq!(replica.system(raise(1, all())), down);
    replica.reload();
    assert_eq!(replica.range.level(), Some(Level(2)));
}

#[test]
fn a_store_that_came_in_between_holds_up_the_level() {
    let mut replica = founded(levels(1, 2));
    let heard = all();
    replica.system(add(1, 9, 5));
    let refused = Outcome::Rejected(Rejection::LevelNotSpoken { store: StoreId(9) });
    assert_eq!(replica.system(raise(2, heard)), refused);
}

#[test]
fn a_gateway_that_does_not_speak_the_level_gets_no_session() {
    let mut replica = founded(levels(1, 2));
    assert_eq!(replica.system(raise(2, all())), Outcome::Done);
    let foreign = Outcome::Rejected(Rejection::LevelForeign { level: Level(2) });
    for cannot in [levels(1, 1), levels(3, 4)] {
        assert_eq!(replica.system(open(cannot)), foreign);
    }
    assert_eq!(replica.system(open(levels(2, 3))), Outcome::SessionOpened(SessionId(2)));
    // What it speaks is remembered over a freeze.
    replica.reload();
    let later = Outcome::Rejected(Rejection::LevelNotSpokenBy { gateway: GatewayId(1) });
    assert_eq!(replica.system(raise(4, all())), later);
    assert_eq!(replica.system(raise(3, all())), Outcome::Done);
}

#[test]
fn below_their_level_votes_stay_and_maps_have_the_old_form() {
    let mut replica = founded(levels(1, 2));
    assert_eq!(map_row(&replica), 3);
    replica.system(set_weight(1, 0));
    let voters = |replica: &Replica| replica.range.map().unwrap().voters.clone();
    assert_eq!(voters(&replica), [1, 3, 5].map(StoreId), "a drained store votes on");
    assert_eq!(map_row(&replica), 3);
    assert_eq!(replica.system(raise(2, all())), Outcome::Done);
    assert_eq!(map_row(&replica), 4);
    replica.system(set_weight(3, 0));
    assert_eq!(voters(&replica), [1, 4, 5].map(StoreId));
}
