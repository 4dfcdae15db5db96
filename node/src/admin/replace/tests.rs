//! Which node gets a new store, and which id that has.

use super::super::schema::{RepairStatus, ReplicaStatus, StoreStatus};
use super::*;
use crate::config::for_tests::plan_of;

fn plan() -> NodePlan {
    plan_of(&[(1, "a1"), (2, "b1"), (3, "c1"), (4, "b2")])
}

fn map() -> MapStatus {
    directory::of_map(&plan().map())
}

fn report(used: &[u64]) -> NodeReport {
    NodeReport { ids_used: used.to_vec(), ..NodeReport::default() }
}

fn found(
    ask: &Replace,
    map: &MapStatus,
    reports: &[(String, NodeReport)],
) -> Result<String, String> {
    let plan = plan();
    let found = find(ask, &plan.nodes, map, reports);
    found.map(|spec| spec.name.clone()).map_err(|refused| refused.to_string())
}

fn of(old: u64, node: Option<&str>) -> Replace {
    Replace { old, node: node.map(str::to_owned), ..Replace::default() }
}

#[test]
fn the_node_that_had_the_store_gets_the_new_one_unless_another_is_named() {
    let none: &[(String, NodeReport)] = &[];
    assert_eq!(found(&of(2, None), &map(), none).as_deref(), Ok("b1"));
    assert_eq!(found(&of(2, Some("b2")), &map(), none).as_deref(), Ok("b2"));
    let later = [("b2".to_owned(), report(&[4, 9]))];
    let mut newer = map();
    newer.zones.insert("b".to_owned(), vec![9, 4]);
    assert_eq!(found(&of(9, None), &newer, &later).as_deref(), Ok("b2"));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let none: &[(String, NodeReport)] = &[];
    let refused = |ask: &Replace, map: &MapStatus| found(ask, map, none).unwrap_err();
    assert!(refused(&of(7, None), &map()).contains("there are: 1, 2, 4, 3"));
    assert!(refused(&of(2, Some("d1")), &map()).contains("there is no node \"d1\""));
    assert!(refused(&of(2, Some("a1")), &map()).contains("must be in the same zone"));
    let mut later = map();
    later.zones.insert("b".to_owned(), vec![9, 4]);
    assert!(refused(&of(9, None), &later).contains("--node"));
    later.retired = vec![2];
    assert!(refused(&of(2, None), &later).contains("was replaced already"));
    let serving = StoreStatus { id: 2, life: StoreLife::Serving, ..StoreStatus::default() };
    let reports =
        [("b1".to_owned(), NodeReport { stores: vec![serving], ..NodeReport::default() })];
    assert!(found(&of(2, Some("b2")), &map(), &reports).unwrap_err().contains("serves at node"));
}

#[test]
fn a_command_that_was_broken_off_goes_on_at_its_node() {
    let begun = Replacing { old: 2, new: 5, step: String::new() };
    let reports =
        [("b2".to_owned(), NodeReport { replacing: vec![begun], ..NodeReport::default() })];
    assert_eq!(found(&of(2, None), &map(), &reports).as_deref(), Ok("b2"));
    let mut later = map();
    later.retired = vec![2];
    assert_eq!(found(&of(2, None), &later, &reports).as_deref(), Ok("b2"));
    let done = Replacing { old: 2, new: 5, step: "done".to_owned() };
    let reports = [("b2".to_owned(), NodeReport { replaced: vec![done], ..NodeReport::default() })];
    let before = done_before(&of(2, None), &reports).unwrap();
    assert_eq!((before.new, before.node.as_str()), (5, "b2"));
}

/// What nodes a1, b1, c1 and b2 say when only store 2 is lost.
fn all_but_two(change: impl Fn(&mut StoreStatus)) -> Vec<(String, NodeReport)> {
    let one = |(name, id): (&str, u64)| {
        let repair = RepairStatus { complete: true, ..RepairStatus::default() };
        let mut store = StoreStatus {
            id,
            life: if id == 2 { StoreLife::Lost } else { StoreLife::Serving },
            repair: Some(repair),
            replicas: vec![ReplicaStatus::default()],
            ..StoreStatus::default()
        };
        change(&mut store);
        (name.to_owned(), NodeReport { stores: vec![store], ..NodeReport::default() })
    };
    [("a1", 1), ("b1", 2), ("c1", 3), ("b2", 4)].map(one).to_vec()
}

#[test]
fn a_store_is_replaced_only_while_the_other_zones_are_whole() {
    let refused = |reports: &[(String, NodeReport)]| {
        let refused = may_replace(2, &map(), reports).unwrap_err().to_string();
        assert!(refused.contains("--force"), "{refused}");
        refused
    };
    let repair = |store: &mut StoreStatus, change: fn(&mut RepairStatus)| {
        change(store.repair.as_mut().unwrap());
    };
    assert!(may_replace(2, &map(), &all_but_two(|_| {})).is_ok());
    // Another store of the same zone may be as it will.
    let beside = all_but_two(|store| {
        if store.id == 4 {
            store.life = StoreLife::Halted;
        }
    });
    assert!(may_replace(2, &map(), &beside).is_ok());
    let only = |change: fn(&mut StoreStatus)| {
        all_but_two(move |store| {
            if store.id == 3 {
                change(store);
            }
        })
    };
    assert!(refused(&only(|store| store.life = StoreLife::Stopped)).contains("does not serve"));
    assert!(refused(&only(|store| store.replicas[0].suspect = true)).contains("distrusts"));
    assert!(refused(&only(|store| store.repair = None)).contains("does not say"));
    let lacking = all_but_two(|store| {
        if store.id == 1 {
            repair(store, |repair| (repair.missing, repair.complete) = (5, false));
        }
    });
    assert!(refused(&lacking).contains("store 1 of zone a lacks 5"));
    assert!(refused(&lacking[1..]).contains("store 1 of zone a does not serve"), "unheard of");

    // One that has compared with everybody but the lost store is as whole as it can be...
    let mut comparing = only(|store| store.repair.as_mut().unwrap().complete = false);
    assert!(may_replace(2, &map(), &comparing).is_ok());
    // ...unless it is itself being filled.
    let pair = |old, new| Replacing { old, new, step: String::new() };
    comparing[2].1.replaced = vec![pair(30, 3)];
    assert!(refused(&comparing).contains("took another's place"));
    let mut waiting = all_but_two(|_| {});
    waiting[0].1.replacing = vec![pair(1, 10)];
    assert!(refused(&waiting).contains("store 10 is taking the place of store 1"));
    // What was begun goes on.
    waiting[1].1.replacing = vec![pair(2, 20)];
    assert!(may_replace(2, &map(), &waiting).is_ok());
}

#[test]
fn an_id_that_anybody_has_heard_of_is_not_given_again() {
    let plan = plan();
    let next =
        |map: &MapStatus, reports: &[(String, NodeReport)]| next_id(map, &plan, reports, NodeId(2));
    assert_eq!(next(&map(), &[]), 1002);
    let mut later = map();
    later.retired = vec![1002];
    assert_eq!(next(&later, &[]), 2002);
    assert_eq!(next(&later, &[("b1".to_owned(), report(&[2, 3001]))]), 3002);
    // What one node has chosen and told nobody, no other chooses.
    assert_ne!(next(&map(), &[]), next_id(&map(), &plan, &[], NodeId(3)));
}
